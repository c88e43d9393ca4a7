"""`load`: any data set of the course, by name."""

from __future__ import annotations

import difflib
import gzip
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..device import pick_device
from . import digits
from .fetching import DataUnavailable, fetch, places
from .folders import read_folder
from .image_set import ImageSet
from .published import SETS

NAMES = (*SETS, "digits")
SIZES = (28, 32, 64)
SPLITS = ("train", "test")


def load(
    name: str | os.PathLike,
    split: str = "train",
    *,
    size: int = 28,
    colour: bool | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    fallback: str | None = None,
) -> ImageSet:
    """A data set, resident on the device as uint8.

    name: "fashion-mnist", "mnist", "kmnist" (test split only), "digits" (needs no network), or the path of a folder of
    images. Published sets come from COURSE_DATA, the user's cache or a mirror, verified by SHA-256.
    split: "train" or "test", disjoint and the same in every run.  size: 28, 32 or 64 pixels a side.
    colour: three channels or one; None takes what the images are.  limit: so many images drawn at random (a larger
    limit holds the smaller one's images); more than there are gives all.
    seed: of that draw and of the moved copies in digits, never of the split.  device: where the images live.
    fallback: "digits" to go on with digits where a published set can't be had: says so, here and in `.title`.

    Raises DataUnavailable (what was tried, what to do) or ValueError (one line) for a wrong name, split, size or limit.

    >>> load("digits", "test", limit=5)
    digits: 5 images of 1×28×28, 10 classes, on cpu
    """
    _check(split=split, size=size, limit=limit, fallback=fallback, seed=seed, colour=colour)
    device = pick_device(device)
    known, note = resolve(name), ""
    if isinstance(known, Path):
        images, labels, classes = read_folder(known, split, size, colour, limit)
        return ImageSet(images.to(device), labels.to(device), classes, known.resolve().name)
    if known != "digits":
        try:
            images, labels, classes = _published(known, split, limit, seed)
        except DataUnavailable as reason:
            if fallback is None:
                raise
            _tell(known, str(reason))
            known, note = "digits", f"instead of {SETS[known].title}"
    if known == "digits":
        images, labels = digits.digits(split, seed, limit)
        classes = digits.CLASSES
    images = _to_size(images, size)
    images = images.expand(-1, 3, -1, -1).contiguous() if colour else images
    return ImageSet(images.to(device), labels.to(device), classes, known, note)


_told: set[str] = set()


def _tell(name: str, reason: str) -> None:
    """Why digits stand in: in full the first time, in one line after that."""
    start = f"{SETS[name].title} can't be had (see above). " if name in _told else f"{reason}\n"
    _told.add(name)
    print(start + "Going on with digits instead; titles of plots say so.")


def resolve(name: str | os.PathLike) -> str | Path:
    """The official name of a published set ("Fashion_MNIST" -> "fashion-mnist"), or the folder that is meant."""
    if isinstance(name, str):
        plain = {_plain(known): known for known in NAMES}
        if _plain(name) in plain:
            return plain[_plain(name)]
    elif not isinstance(name, os.PathLike):
        raise TypeError(f"load: expected the name of a data set or the path of a folder, got {name!r}")
    path = Path(name).expanduser()
    if path.is_dir() and str(name).strip():
        return path
    if path.is_file():
        raise ValueError(f"load: {str(name)!r} is a file; give the folder that your images are in")
    expected = f"expected one of {', '.join(NAMES)}, or the path of a folder of images"
    close = difflib.get_close_matches(str(name).lower(), NAMES, n=1, cutoff=0.5)
    if close and not set("/\\") & set(str(name)):
        raise ValueError(f"load: unknown data set {str(name)!r}; did you mean {close[0]!r}? ({expected})")
    raise ValueError(f"load: no data set and no folder called {str(name)!r}; {expected}")


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _check(*, split, size, limit, fallback, seed, colour) -> None:
    if split not in SPLITS:
        raise ValueError(f"load: split: expected 'train' or 'test', got {split!r}")
    if size not in SIZES or isinstance(size, bool):
        raise ValueError(f"load: size: expected 28, 32 or 64 pixels, got {size!r}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"load: limit: expected None or a whole number of at least 1, got {limit!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"load: seed: expected a whole number, got {seed!r}")
    if colour not in (None, True, False):
        raise ValueError(f"load: colour: expected True, False or None (as the images are), got {colour!r}")
    if fallback not in (None, "digits"):
        raise ValueError(f"load: fallback: expected None or 'digits', got {fallback!r}")


def _published(name: str, split: str, limit: int | None, seed: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    published = SETS[name]
    if split not in published.splits:
        raise ValueError(f"load: {name} comes with the split {', '.join(published.splits)!r} only, got {split!r}")
    images, labels = (parse_idx(fetch(name, file)) for file in published.splits[split])
    if limit is not None and limit < len(labels):
        chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:limit]
        images, labels = images[chosen], labels[chosen]
    return images.unsqueeze(1), labels.long(), published.classes


def parse_idx(content: bytes) -> Tensor:
    """A gzipped IDX file of bytes (the format of MNIST) as a uint8 tensor: (n, h, w) for images, (n,) for labels.

    Two zero bytes, 8 for "unsigned byte", the number of axes; the axes as big-endian 32-bit integers; the numbers.

    >>> parse_idx(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])))
    tensor([7, 8, 9], dtype=torch.uint8)
    """
    raw = gzip.decompress(content)
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"IDX file: expected it to begin with 00 00 08 (bytes), got {raw[:3].hex(' ')}")
    shape = tuple(np.frombuffer(raw, ">u4", raw[3], offset=4).tolist())
    numbers = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    return torch.from_numpy(numbers.reshape(shape).copy())


def _to_size(images: Tensor, size: int) -> Tensor:
    """28×28 images at another size: 32 by a border of black, which changes no pixel; 64 by smooth enlargement."""
    if size == 28:
        return images
    if size == 32:
        return F.pad(images, (2, 2, 2, 2))
    parts = [F.interpolate(part.float(), size=size, mode="bicubic", align_corners=False) for part in images.split(4096)]
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])


def where() -> dict[str, str]:
    """Each data set and where it lies: a folder, "with the course" for digits, or "not here yet"."""
    found = dict.fromkeys(SETS, "not here yet")
    for name, published in SETS.items():
        for folder in places():
            files = [folder / name / file for file in published.files]
            if all(f.is_file() and f.stat().st_size == published.files[f.name][0] for f in files):
                found[name] = str(folder / name)
                break
    return {**found, "digits": "with the course"}
