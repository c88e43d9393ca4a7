"""`load`: any data set of the course, by name."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..arrays import is_whole
from ..device import pick_device
from .fetching import DataUnavailable, fetch, places
from .folders import NoneLeft, caption, read_folder, readable
from .image_set import ImageSet
from .pixels import to_grey
from .sets import SETS, Made, Published

# So many images the figures, batches and principal directions of a notebook need.
FEWEST = {"train": 128, "test": 32}
NOT_HERE = "not here yet"


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

    name: one of those in `sets.SETS`, such as "fashion-mnist", or the path of a folder of images; "digits" needs no
    network, nor do "shapes" and "two-photos", which are in colour. Published sets come from COURSE_DATA, the user's
    cache or a mirror, verified by SHA-256.
    split: "train" or "test", disjoint and the same in every run.  size: 28, 32 or 64 pixels a side.
    colour: three channels or one; None takes what the images are.  limit: so many images drawn at random (a larger
    limit holds the smaller one's images); more than there are gives all.
    seed: of that draw and of what is made for training (in digits, the moved copies), never of the split.
    device: where the images live.
    fallback: "digits" for who must go on, as a notebook must: digits stand in where a published set is not available;
    images of a folder that has fewer than a notebook needs (`FEWEST`) are repeated; where none is left for a split, the
    other's serve. Says so; of digits and of repeated images also in `.title`.

    Raises DataUnavailable (what was tried, what to do) or ValueError (one line) for a wrong name, split, size or limit.

    >>> load("digits", "test", limit=5)
    digits: 5 images of 1×28×28, 10 classes, on cpu
    """
    _check("split", split, split in ("train", "test"), "'train' or 'test'")
    _check("size", size, size in (28, 32, 64), "28, 32 or 64 pixels")
    _check("limit", limit, limit is None or is_whole(limit, 1), "None or a whole number of at least 1")
    _check("seed", seed, is_whole(seed), "a whole number")
    _check("colour", colour, colour in (None, True, False), "True, False or None (as the images are)")
    _check("fallback", fallback, fallback in (None, "digits"), "None or 'digits'")
    device = pick_device(device)
    known, note = resolve(name), ""
    if isinstance(known, Path):
        return _own_images(known, split, size, colour, limit, enough=fallback is not None).to(device)
    try:
        if fallback:
            _fetch_all(known)  # so that train and test are never of different sets
        images, labels = _read(known, split, limit, seed)
    except DataUnavailable as reason:
        if fallback is None:
            raise
        _tell(known, str(reason))
        known, note = fallback, f"instead of {SETS[known].title}"
        images, labels = _read(known, split, limit, seed)
    images = _to_channels(_to_size(images, size), colour)
    return ImageSet(images.to(device), labels.to(device), SETS[known].classes, known, note)


def _check(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"load: {name}: expected {expected}, got {value!r}")


_told: set[str] = set()


def _tell(name: str, reason: str) -> None:
    """Why digits stand in: in full the first time, in one line after that."""
    start = f"{SETS[name].title} is not available (see above). " if name in _told else f"{reason}\n"
    _told.add(name)
    print(start + "Going on with digits instead; titles of plots say so.")


def resolve(name: str | os.PathLike) -> str | Path:
    """The official name of a published set ("Fashion_MNIST" -> "fashion-mnist"), or the folder that is meant.

    A relative path begins where Python runs (for a notebook, beside it) or, failing that, one folder above.
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"load: expected the name of a data set or the path of a folder, got {name!r}")
    text = os.fspath(name)
    plain = {_plain(known): known for known in SETS}
    if isinstance(name, str) and not _is_path(text) and _plain(text) in plain:
        return plain[_plain(text)]
    path = Path(os.path.expanduser(text))  # which, unlike Path's, leaves alone the home of somebody unknown
    looked = list(dict.fromkeys([Path.cwd() / path, Path.cwd().parent / path]))  # one, where the path is absolute
    for place in looked if text.strip() else ():
        if place.is_dir():
            return place
        if place.is_file():
            raise ValueError(f"load: {text!r} is a file; give the folder that your images are in")
    expected = f"expected one of {', '.join(SETS)}, or the path of a folder of images"
    close = difflib.get_close_matches(text.lower(), SETS, n=1, cutoff=0.5)
    if close and not _is_path(text):
        raise ValueError(f"load: unknown data set {text!r}; did you mean {close[0]!r}? ({expected})")
    places = f" (looked for {' and '.join(map(str, looked))})" if text.strip() else ""
    raise ValueError(f"load: no data set and no folder called {text!r}{places}; {expected}")


def _is_path(text: str) -> bool:
    return bool(set("/\\~") & set(text))


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _own_images(folder: Path, split: str, size: int, colour: bool | None, limit: int | None, enough: bool) -> ImageSet:
    """The images of a folder; with `enough`, never none, and never fewer than a notebook needs: see `load`."""
    try:
        images, labels, classes = read_folder(folder, split, size, colour, limit)
    except NoneLeft:
        if not enough:
            raise
        images, labels, classes = read_folder(folder, _other(split), size, colour, limit)
        print(f"{readable(folder)}: it has too few different images for training and testing; both use the same.")
    name = caption(folder.resolve().name)
    own = ImageSet(images, labels, classes, f"{name} (folder)" if name in SETS else name)
    fewest = min(FEWEST[split], limit or FEWEST[split])
    if not enough or len(own) >= fewest:
        return own
    count = f"{len(own)} image{'s' * (len(own) != 1)}"
    place = readable(folder)
    print(f"{place}: {count} to {split} with; {fewest} are needed, so they are repeated, as titles of plots say.")
    index = torch.arange(fewest) % len(own)
    return replace(own, images=images[index], labels=labels[index], note=f"{count}, repeated")


def _other(split: str) -> str:
    return "test" if split == "train" else "train"


def _fetch_all(name: str) -> None:
    """Get all files of a published set, if they don't lie here. Raises DataUnavailable."""
    if _place(SETS[name]) == NOT_HERE:
        for file in SETS[name].files:
            fetch(SETS[name], file)


def _read(name: str, split: str, limit: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Images uint8 (n, c, h, w) as they are, and labels int64 (n,); `limit` of them, drawn at random."""
    data = SETS[name]
    if split not in data.splits:
        raise ValueError(f"load: {name} comes with the split {', '.join(data.splits)!r} only, got {split!r}")
    if isinstance(data, Made):
        return data.make(split, seed, limit)
    images, labels = data.read(split, *(fetch(data, file) for file in data.splits[split]))
    if limit is not None and limit < len(labels):
        chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:limit]
        images, labels = images[chosen], labels[chosen]
    return images, labels


def _to_size(images: Tensor, size: int) -> Tensor:
    """Another size: a border of black where up to 4 pixels are missing, which changes none; else smooth resizing.

    Of images that aren't square the middle is taken.
    """
    h, w = images.shape[-2:]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    images = images[..., top : top + side, left : left + side]
    if side <= size <= side + 4:
        before = (size - side) // 2
        return F.pad(images, (before, size - side - before) * 2)
    how = {"size": (size, size), "mode": "bicubic", "align_corners": False, "antialias": size < side}
    parts = (F.interpolate(part.float(), **how) for part in images.split(4096))  # in pieces, to stay small in memory
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])


def _to_channels(images: Tensor, colour: bool | None) -> Tensor:
    """Three channels, one, or as many as there are."""
    if colour is None or images.shape[1] == (3 if colour else 1):
        return images
    return images.expand(-1, 3, -1, -1).contiguous() if colour else to_grey(images)


def where() -> dict[str, str]:
    """Each data set and where it lies: a folder, "with the course", or "not here yet"."""
    return {name: _place(data) for name, data in SETS.items()}


def _place(data: Published | Made) -> str:
    if isinstance(data, Made):
        return "with the course"
    for folder in (place / data.name for place in places()):
        sizes = {folder / file: size for file, (size, _) in data.files.items()}
        if all(path.is_file() and path.stat().st_size == size for path, size in sizes.items()):
            return str(folder)
    return NOT_HERE
