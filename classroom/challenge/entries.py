"""What was handed in: DIR/NAME/ with model.safetensors and sampler.py. Nothing of it is run or unpickled here."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from course_utils.cli import Refused
from course_utils.weights import WeightsRefused, build, load_denoiser, read_card

from .records import Entry, Foul

MODEL, SAMPLER = "model.safetensors", "sampler.py"
LARGEST = {MODEL: 8_000_000, SAMPLER: 8_000}  # bytes: a hundred lines of code, and no room for images
LARGEST_NUMBER = 1024  # in how a network is built: widths, blocks, classes
LONGEST_LIST = 8


def folders(place: Path) -> dict[str, Path]:
    """Name -> folder of each submission in `place`, in order of names; or of the one that it is itself.

    Raises Refused where there is none.
    """
    if not place.is_dir():
        raise Refused(f"expected a folder of submissions, NAME/{MODEL} and NAME/{SAMPLER}, found none at '{place}'")
    if any((place / file).exists() for file in LARGEST):
        return {place.resolve().name: place}
    found = {path.name: path for path in sorted(place.iterdir()) if path.is_dir() and not path.name.startswith(".")}
    if not found:
        raise Refused(f"expected folders NAME/ with {MODEL} and {SAMPLER} in '{place}', found none")
    return found


def read(name: str, folder: Path, shape: tuple[int, ...], classes: int) -> Entry:
    """One submission, for images of this shape in so many classes.  Raises Foul."""
    if folder.is_symlink():
        raise Foul("its folder is a link to another place")
    for file, largest in LARGEST.items():
        _check_file(folder / file, largest)
    denoiser = _denoiser(folder / MODEL)
    if denoiser.shape != shape:
        raise Foul(f"{MODEL}: its images are {_by(denoiser.shape)}; expected {_by(shape)}")
    if denoiser.model.num_classes not in (None, classes):
        raise Foul(f"{MODEL}: it knows {denoiser.model.num_classes} classes; expected {classes}, or none")
    return Entry(name, denoiser, (folder / SAMPLER).read_bytes())


def _check_file(path: Path, largest: int) -> None:
    try:
        found = os.lstat(path)
    except OSError:
        raise Foul(f"it has no {path.name}") from None
    if not stat.S_ISREG(found.st_mode):
        raise Foul(f"{path.name}: expected a file of its own, got a link or something else")
    if found.st_size > largest:
        raise Foul(f"{path.name}: {found.st_size:,} bytes; expected at most {largest:,}")


def _denoiser(path: Path) -> Any:
    """The network. What its file says of itself is not believed before it is clear what building it would take."""
    try:
        _check_size(read_card(path), path.stat().st_size)
        denoiser = load_denoiser(path)
    except WeightsRefused as error:
        raise Foul(str(error).replace(f"'{path}'", path.name).rstrip(".")) from None
    except Foul:
        raise
    except Exception as error:  # whatever a crafted file brings about: the others go on
        raise Foul(f"{path.name}: it could not be read ({type(error).__name__})") from None
    if not all(bool(weight.isfinite().all()) for weight in denoiser.parameters()):
        raise Foul(f"{path.name}: some of its weights are not finite")
    return denoiser.to(memory_format=torch.channels_last)  # a third faster on CPUs


def _check_size(card: Mapping[str, Any], size: int) -> None:
    """A network of which the file holds every weight, in two bytes at least."""
    numbers = list(_numbers(card["config"]))
    if max(numbers, default=0) > LARGEST_NUMBER or len(numbers) > 3 * LONGEST_LIST:
        raise Foul(f"{MODEL}: a network of a size that no submission may have")
    with torch.device("meta"):  # nothing is allocated
        weights = sum(weight.numel() for weight in build(card).parameters())
    if 2 * weights > size:
        raise Foul(f"{MODEL}: it should hold {weights:,} weights, and is too small for them")


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _numbers(each)


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
