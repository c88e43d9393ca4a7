"""`python -m course_utils sample`: images from a trained model."""

from __future__ import annotations

import argparse
import io
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import device as devices
from ..diffusion import Denoiser
from ..files import check_writable, write_whole
from ..latent import LatentDenoiser
from ..models.dcgan import Generator
from ..weights import load_denoiser, load_generator, load_latent_denoiser, numbered, read_card
from . import Refused, cli_errors
from .doctor import GIB, memory
from .drawing import PIECE, draw, picture, trajectory_frames
from .samplers import options_of

ENDINGS = (".npz", ".png", ".gif")


def run(arguments: argparse.Namespace) -> int:
    """Draw, write, say so. Raises Refused for whatever is wrong with the arguments, before anything is drawn."""
    out, n = _file(arguments.out), arguments.n
    with cli_errors():
        device = devices.pick_device(arguments.device)
        torch.set_num_threads(devices.pick_threads())
        holds = read_card(arguments.checkpoint)["kind"]
        if holds == "generator":
            return _in_one_pass(arguments, load_generator(arguments.checkpoint, device), out)
        load = load_latent_denoiser if holds == "latent-denoiser" else load_denoiser
        denoiser = load(arguments.checkpoint, device)
    _possible(arguments, denoiser, out)
    steps = arguments.steps or denoiser.card.get("strides", 50)  # a distilled model is made for so many
    label = None if arguments.label is None else number_of(arguments.label, denoiser.classes)
    y = None if label is None else torch.full((n,), label)

    began, content = time.perf_counter(), io.BytesIO()
    how = {"eta": arguments.eta, "seed": arguments.seed, "y": y, "w": arguments.guidance, "sampler": arguments.sampler}
    with cli_errors():  # a sampler may not be made for this model's schedule
        if out.suffix.lower() == ".gif":
            _write_gif(content, trajectory_frames(denoiser, n, steps, **how))
        else:
            _write_images(content, out, draw(denoiser, n, steps, **how), y)
    of = "" if label is None else f" of the class {denoiser.classes[label]!r}"
    return _keep(content, out, f"{n:,} image{'s' * (n > 1)}{of}, {steps} step{'s' * (steps > 1)} each", began)


def _in_one_pass(arguments: argparse.Namespace, generator: Generator, out: Path) -> int:
    """Images of a generator, for which there is nothing to choose but how many and the seed."""
    usual = {"steps": None, "sampler": "ddim", "eta": 0.0, "label": None, "guidance": 1.0}
    for name, value in usual.items():
        if getattr(arguments, name) != value:
            raise Refused(f"--{name}: a generator makes its images in one pass, of no class; leave --{name} out")
    if out.suffix.lower() == ".gif":
        raise Refused("--out: a generator makes its images in one pass, there is no way to show; write .png or .npz")
    _room_for(arguments.n, generator.shape, out)
    began, content = time.perf_counter(), io.BytesIO()
    _write_images(content, out, draw(generator, arguments.n, seed=arguments.seed), None)
    return _keep(content, out, f"{arguments.n:,} image{'s' * (arguments.n > 1)}, in one pass", began)


def _keep(content: io.BytesIO, out: Path, what: str, began: float) -> int:
    """Write the file, and say what is in it and how long it took."""
    with cli_errors(out):
        write_whole(out, content.getbuffer())
    print(f"{what}, in {time.perf_counter() - began:.1f} s: {out}")
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
    if arguments.steps is not None and arguments.steps > T:
        raise Refused(f"--steps: this model was trained with T = {T} steps; expected 1 to {T}, got {arguments.steps}")
    if arguments.eta and "eta" not in options_of(arguments.sampler):
        raise Refused(f"--eta: {arguments.sampler} has no such choice; leave --eta out, or take --sampler ddim")
    if arguments.guidance != 1 and arguments.label is None:
        raise Refused("--guidance: leads to a class; say which with --label")
    if out.suffix.lower() == ".gif" and arguments.n > PIECE:
        raise Refused(f"-n: a .gif shows at most {PIECE} images, got {arguments.n}; write .png or .npz")
    shape = denoiser.image_shape if isinstance(denoiser, LatentDenoiser) else denoiser.shape
    _room_for(arguments.n, shape, out)


def _room_for(n: int, shape: tuple[int, ...], out: Path) -> None:
    """In memory and in the folder: now, and not after minutes of drawing."""
    free, needed = memory()[1], 8 * n * math.prod(shape)  # float32, and once more to write it
    if needed > free:
        raise Refused(
            f"-n: {n:,} images take {needed / GIB:,.0f} GiB of memory, and {free / GIB:.1f} are free; draw "
            "fewer at a time, each time with another --seed"
        )
    with cli_errors():
        check_writable(out.parent)


def _write_images(file: io.BytesIO, out: Path, images: Tensor, labels: Tensor | None) -> None:
    """A grid as .png, or all numbers as .npz."""
    if out.suffix.lower() == ".png":
        Image.fromarray(picture(images)).save(file, "png")
    else:
        np.savez_compressed(file, images=images.numpy(), **({} if labels is None else {"labels": labels.numpy()}))


def _write_gif(file: io.BytesIO, frames: list[np.ndarray]) -> None:
    """About three seconds on the way, then a look at the result, over and over."""
    pause = max(20, min(300, 3000 // len(frames) // 10 * 10))  # milliseconds; a GIF counts in hundredths of a second
    first, *others = [Image.fromarray(frame) for frame in frames]
    durations = [pause] * len(others) + [1500]
    first.save(file, "gif", save_all=True, append_images=others, duration=durations, loop=0)
