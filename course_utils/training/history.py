"""What a run leaves behind, `History`, and the `Recorder` that fills it without slowing the run."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .batches import brief


@dataclass
class History:
    """What a run leaves behind, as plain lists with one entry a step, from step 1. Units are those of your loss.

    terms: the further scalars that the loss gave, by name (nan in steps that gave none).
    seconds: spent on steps, `on_step` left out, earlier parts of a resumed run included.
    ended: why there are no more steps: "finished", "interrupted" (by hand), or "stopped" (by `stop`).
    ema_model: the averaged model, or None.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    ended: str = "finished"
    ema_model: nn.Module | None = field(default=None, repr=False)

    @property
    def interrupted(self) -> bool:
        """Was it stopped by hand?"""
        return self.ended == "interrupted"


def steps_made(*histories: History) -> str:
    """How far trainings came, for titles and tables.

    >>> whole, cut = History(steps=[*range(1, 1201)]), History(steps=[1, 2], ended="interrupted")
    >>> steps_made(whole, whole)
    '1,200 steps'
    >>> steps_made(whole, cut)
    '1,200 and 2 steps (stopped by hand)'
    """
    made = [f"{len(history.steps):,}" for history in histories]
    if len(set(made)) == 1:
        made = made[:1]
    stopped = " (stopped by hand)" * any(history.interrupted for history in histories)
    said = ", ".join(made[:-1]) + " and " * (len(made) > 1) + made[-1]
    return f"{said} step{'s' * (said != '1')}{stopped}"


class Recorder:
    """Brings the numbers of steps into a history, many steps at a time.

    Reading one number off a GPU waits for all that it still has to do. So scalars stay tensors until `collect`.
    """

    def __init__(self, history: History):
        self.history, self.clock = history, time.perf_counter()
        self.pending: list[tuple[int, dict[str, Tensor]]] = []

    def add(self, step: int, numbers: Any) -> None:
        """Note the numbers of a step, counted from 1, without waiting for them."""
        self.pending.append((step, _scalars(numbers)))

    def collect(self) -> tuple[int, float] | None:
        """Move what is pending into the history. Returns (step, loss) of the first loss that isn't finite, or None."""
        history, pending, self.pending = self.history, self.pending, []
        rows = _numbers([scalars for _, scalars in pending])
        now = time.perf_counter()
        history.seconds, self.clock = history.seconds + now - self.clock, now
        for (step, _), row in zip(pending, rows):
            if not math.isfinite(row["loss"]):
                return step, row["loss"]
            history.steps.append(step)
            history.loss.append(row.pop("loss"))
            for name in row.keys() - history.terms.keys():
                history.terms[name] = [math.nan] * (len(history.steps) - 1)
            for name, values in history.terms.items():
                values.append(row.get(name, math.nan))
        return None

    def leave_out(self) -> None:
        """Since the last `collect` something else took time: it isn't counted."""
        self.clock = time.perf_counter()


def _scalars(numbers: Any) -> dict[str, Tensor]:
    """Copies of a step's numbers. (A term may be a view of a weight, a learned σ say, that the next step alters.)"""
    if not isinstance(numbers, Mapping) or "loss" not in numbers:
        raise TypeError(f'update: expected a dict of scalars, one of them "loss", got {brief(numbers)}')
    scalars = {name: torch.as_tensor(value).detach() for name, value in numbers.items()}
    for name, value in scalars.items():
        if value.numel() != 1:
            raise TypeError(f"{name}: expected one number, got shape {tuple(value.shape)}; take its mean or sum")
    return {name: value.reshape(()).clone() for name, value in scalars.items()}


def _numbers(rows: list[dict[str, Tensor]]) -> list[dict[str, float]]:
    """Many scalar tensors as numbers, with one wait for each device that they are on."""
    cells = [(index, name, scalar) for index, row in enumerate(rows) for name, scalar in row.items()]
    result: list[dict[str, float]] = [{} for _ in rows]
    for device in {scalar.device for _, _, scalar in cells}:
        here = [cell for cell in cells if cell[2].device == device]
        dtype = torch.float32 if device.type == "mps" else torch.float64
        for (index, name, _), value in zip(here, torch.stack([scalar.to(dtype) for _, _, scalar in here]).tolist()):
            result[index][name] = value
    return result
