"""The first cell of every notebook: what to compute on, how much of it, and how pictures look.

>>> lab = setup("01", effort="smoke", device="cpu")  # doctest: +ELLIPSIS
notebook 01 · effort smoke (seconds: does everything run?) · CPU, ...
>>> lab.pick(smoke=20, cpu=400, gpu=2000)
20
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, replace
from typing import Any

import torch

from . import device as devices
from .data import ImageSet, load
from .weights import shipped

__all__ = ["Lab", "load_known", "setup"]


@dataclass(frozen=True)
class Lab:
    """What a notebook works with.

    notebook: its number, "01".  device: where tensors live.  effort: "smoke" (seconds), "cpu" (minutes) or "gpu" (the
    full run).  data: the name of the data set that was asked for.  threads: how many the CPU computes with.
    """

    notebook: str
    device: torch.device
    effort: str
    data: str = "fashion-mnist"
    threads: int = 1

    def pick(self, **levels: Any) -> Any:
        """The value for the effort at hand.

        >>> Lab("01", torch.device("cpu"), effort="cpu").pick(smoke=20, cpu=400, gpu=2000)
        400
        """
        unknown = [name for name in levels if name not in devices.EFFORTS]
        if unknown:
            raise ValueError(f"lab.pick: expected values for smoke, cpu and gpu, got one for {unknown[0]!r}")
        if self.effort not in levels:
            got = ", ".join(levels) or "none"
            raise ValueError(f"lab.pick: no value for effort {self.effort!r} (got {got}); add {self.effort}=...")
        return levels[self.effort]

    def generator(self, seed: int, device: str | torch.device | None = None) -> torch.Generator:
        """A `torch.Generator` on the lab's device (or another), to pass to whatever draws random numbers."""
        return devices.generator(seed, device or self.device)

    def __str__(self) -> str:
        effort = f"effort {self.effort} ({devices.EFFORTS[self.effort]})"
        return " · ".join(
            [f"notebook {self.notebook}", effort, describe(self.device, self.threads), f"data {self.data}"]
        )


def setup(notebook: str, *, effort: str | None = None, device: str | torch.device | None = None) -> Lab:
    """Prepare a notebook: choose device and effort, set the threads, style the figures, and say so in one line.

    notebook: its number, such as "01".  effort: "smoke", "cpu" or "gpu"; else COURSE_EFFORT, else "gpu" on a GPU and
    "cpu" without.  device: else COURSE_DEVICE, else a GPU if there is one.  The data set is COURSE_DATASET or
    "fashion-mnist".
    Raises ValueError, in one line, for a level or a device that doesn't exist. Works in scripts as in notebooks.
    """
    # PyTorch would import this when its first optimizer is made: a second in which the stop button does harm for good,
    # since an import that was cut off can't be repeated.
    importlib.import_module("torch._dynamo")
    chosen = devices.pick_device(device)
    level = devices.pick_effort(chosen, effort)
    threads = devices.pick_threads()
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    style_figures()
    lab = Lab(str(notebook), chosen, level, os.environ.get("COURSE_DATASET", "").strip() or "fashion-mnist", threads)
    print(lab)
    return lab


def load_known(lab: Lab, split: str) -> ImageSet:
    """Images that the course's trained models know: those that were asked for, or digits, with a note that says so.

    split: "train" or "test".

    >>> load_known(Lab("11", torch.device("cpu"), effort="smoke", data="digits"), "test").name
    'digits'
    """
    data = load(lab.data, split, device=lab.device, fallback="digits")
    if data.name in shipped():
        return data
    return replace(load("digits", split, device=lab.device), note=f"instead of {data.title}")


def style_figures() -> None:
    """The course's style for figures, and how a notebook shows them."""
    from . import plots  # late: a script that only wants a device needn't wait for matplotlib

    plots.style()


def describe(device: torch.device, threads: int) -> str:
    """A device in words: "CPU, 2 threads, bfloat16"."""
    precision = "bfloat16" if devices.has_bfloat16(device.type) else "float32"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {precision}"
    if device.type == "cpu":
        return f"CPU, {threads} thread{'s' * (threads != 1)}, {precision}"
    return f"{device.type.upper()}, {precision}"
