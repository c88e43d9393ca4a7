"""`python -m course_utils sample`: images from a trained model."""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .. import device as devices
from ..diffusion import Denoiser
from ..files import write_whole
from ..weights import load_denoiser, numbered
from . import Refused, plainly
from .sampler import PIECE, draw, film, mosaic

ENDINGS = (".npz", ".png", ".gif")


def run(arguments: argparse.Namespace) -> int:
    """Draw, write, say so. Raises Refused for whatever is wrong with the arguments, before anything is drawn."""
    out = _file(arguments.out)
    with plainly():
        device = devices.pick_device(arguments.device)
        denoiser = load_denoiser(arguments.checkpoint, device)
    torch.set_num_threads(devices.pick_threads())
    _possible(arguments, denoiser, out)
    label = None if arguments.label is None else number_of(arguments.label, denoiser.classes)
    y = None if label is None else torch.full((arguments.n,), label)

    began = time.perf_counter()
    how = (arguments.n, arguments.steps, arguments.eta, arguments.seed, y, arguments.guidance, arguments.sampler)
    ending = out.suffix.lower()
    content = _gif(film(denoiser, *how)) if ending == ".gif" else _still(ending, draw(denoiser, *how), y)
    with plainly(out):
        write_whole(out, content)
    of = "" if label is None else f" of the class {denoiser.classes[label]!r}"
    print(
        f"{arguments.n:,} image{'s' * (arguments.n > 1)}{of}, {arguments.steps} steps each, in "
        f"{time.perf_counter() - began:.1f} s: {out}"
    )
    return 0


def number_of(wanted: str, classes: tuple[str, ...]) -> int:
    """The number of a class that was named, "Sandal", "sandal" or "5". Raises Refused, and says what there is."""
    if not classes:
        raise Refused(
            "--label: this model was trained without labels and can't be asked for a class; leave --label out, or "
            "train one with --labels"
        )
    plain = [name.casefold() for name in classes]
    if wanted.casefold() in plain:
        return plain.index(wanted.casefold())
    if wanted.isascii() and wanted.isdigit() and int(wanted) < len(plain):
        return int(wanted)
    known = ", ".join(numbered(classes[:20]))
    more = f" and {len(plain) - 20} more" if len(plain) > 20 else ""
    raise Refused(f"--label: expected one of {known}{more}; got {wanted!r}")


def _file(name: str) -> Path:
    out = Path(name).expanduser()
    if out.suffix.lower() not in ENDINGS:
        raise Refused(f"--out: expected a file that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, got {name!r}")
    if out.is_dir():
        raise Refused(f"--out: {name!r} is a folder; add a file name")
    return out


def _possible(arguments: argparse.Namespace, denoiser: Denoiser, out: Path) -> None:
    T = denoiser.schedule.T
    if arguments.steps > T:
        raise Refused(f"--steps: this model was trained with T = {T} steps; expected 1 to {T}, got {arguments.steps}")
    if arguments.guidance != 1 and arguments.label is None:
        raise Refused("--guidance: leads to a class; say which with --label")
    if out.suffix.lower() == ".gif" and arguments.n > PIECE:
        raise Refused(f"-n: a .gif shows at most {PIECE} images, got {arguments.n}; write .png or .npz")
    with plainly():
        out.parent.mkdir(parents=True, exist_ok=True)
        (probe := out.with_name(f".{out.name}.probe")).touch()  # now, and not after minutes of drawing
        probe.unlink()


def _still(ending: str, images: torch.Tensor, y: torch.Tensor | None) -> bytes:
    buffer = io.BytesIO()
    if ending == ".npz":
        labels = {} if y is None else {"labels": y.numpy()}
        np.savez_compressed(buffer, images=images.numpy(), **labels)
    else:
        Image.fromarray(mosaic(images)).save(buffer, "png")
    return buffer.getvalue()


def _gif(frames: list[np.ndarray]) -> bytes:
    """About three seconds on the way, then a look at the result, over and over."""
    buffer = io.BytesIO()
    pause = max(20, min(300, 3000 // len(frames) // 10 * 10))  # milliseconds; a GIF counts in hundredths of a second
    first, *others = [Image.fromarray(frame) for frame in frames]
    durations = [pause] * len(others) + [1500]
    first.save(buffer, "gif", save_all=True, append_images=others, duration=durations, loop=0)
    return buffer.getvalue()
