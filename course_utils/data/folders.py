"""A folder of images, of any size, mode and orientation, as a data set."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..device import quiet
from .pixels import NotAnImage, Numbers, depth, is_coloured, numbers_in, opened, read_image, to_grey, together

TEST_FRACTION = 0.1
HEAD = 1 << 16  # bytes of a file that tell it from others
LOOKED_AT = 200  # images that decide between grey and colour
DARK = 32  # of 255: where nothing is brighter, people see black
NAMED = 5  # files named in a message; the others are counted
T = TypeVar("T")


class NoneLeft(ValueError):
    """The folder has images, but none for this split. The message says why, and what to do."""


class Entry(NamedTuple):
    """One file: a digest that equal files share, where it is, which class it belongs to, how deep its grey is."""

    digest: str
    path: Path
    label: int
    depth: str


def read_folder(
    folder: Path, split: str, size: int, colour: bool | None, limit: int | None
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images uint8 (n, c, size, size), labels int64 (n,) and the names of the classes.

    Subfolders are classes, in natural order ("9" before "10"); a folder without any is one class. Each image is turned
    upright, laid on white where it is transparent, cropped to the square in its middle and shrunk without aliasing.
    Grey of more than 8 bits becomes bytes by one scale for the whole folder, see `pixels.black_and_white`.
    Test is a tenth of the files, chosen by their contents: the same in every run, and copies of a file stay together.
    The order is that of the contents, too, except that one image of each class leads.
    colour: None takes three channels if one of the first 200 images (in order of their contents) is coloured.
    Files that aren't images are skipped and named in one line. Raises ValueError where there are none, and NoneLeft.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is refused, or put right, below
        entries, classes, left_out = survey(folder)
        test = _test_part(entries)
        chosen = _each_class_first([entry for entry in entries if (entry.digest in test) == (split == "test")])[:limit]
        sample = entries[:LOOKED_AT] if colour is None else []
        read = partial(read_image, size=size, found=_numbers(entries))
        pixels, refused = _each({entry.path for entry in chosen + sample}, read, "reading images")
    left_out |= refused
    if left_out:
        skipped = _named([f"{readable(path.relative_to(folder))} ({why})" for path, why in left_out.items()])
        print(f"{readable(folder)}: skipped {_count(left_out, 'file')}: {skipped}.")
    good = _each_class_first([entry for entry in chosen if entry.path in pixels])
    if not good and refused:
        names = _named([readable(path.name) for path in refused])
        raise NoneLeft(f"load: the {len(refused)} images of {folder} can't be read ({names}); replace them")
    if not good:
        raise NoneLeft(
            f"load: the folder {folder} has {_count(entries, 'image')}, too few for a {split} split; put at least two "
            "different images into it"
        )
    if colour is None:
        colour = any(is_coloured(pixels[entry.path]) for entry in sample if entry.path in pixels)
    images = torch.from_numpy(np.stack([pixels[entry.path] for entry in good])).permute(0, 3, 1, 2).contiguous()
    if images.max() < DARK:
        print(
            f"{readable(folder)}: all pictures are nearly black (nothing is brighter than {images.max()} of 255); if "
            "they shouldn't be, save them as PNG of 8 bits, 0 for black and 255 for white."
        )
    return images if colour else to_grey(images), torch.tensor([entry.label for entry in good]), classes


# ------------------------------------------------------------------------------------------------ which files there are


def survey(folder: Path) -> tuple[list[Entry], tuple[str, ...], dict[Path, str]]:
    """The files that look like images, in the order of their digests; the classes; what was left out and why.

    Links to folders are not followed, so that a cycle of them can't trap us; hidden files are skipped.
    """
    try:
        os.listdir(folder)  # going through a folder, Python passes over what it may not read
    except OSError as error:
        raise ValueError(f"load: the folder {folder} can't be read ({error.strerror}); check its permissions") from None
    files = sorted(path for path in folder.rglob("*") if not (_hidden(path.relative_to(folder)) or path.is_dir()))
    images, left_out = {}, {}
    for path in files:
        try:
            with opened(path) as image:  # its header is read, its pixels are not
                images[path] = depth(image.mode)
        except NotAnImage as problem:
            left_out[path] = str(problem)
    if not images:
        others = (
            f"; {_count(files, 'file')} of other kinds are in it ({_named([readable(path.name) for path in files])})"
        )
        raise ValueError(
            f"load: the folder {folder} holds no images{others if files else ' and is empty'}; put PNG, JPEG, ... "
            "files into it, in one subfolder a class if there are classes"
        )
    inside = {path: caption(path.relative_to(folder).parts[0]) for path in images if path.parent != folder}
    if not inside:
        inside = dict.fromkeys(images, caption(folder.resolve().name or str(folder)))
    left_out |= {path: "lies beside the class folders" for path in images if path not in inside}
    classes = sorted(set(inside.values()), key=_natural)
    entries = sorted(Entry(_digest(path), path, classes.index(name), images[path]) for path, name in inside.items())
    return entries, tuple(classes), left_out


def readable(name: str | Path) -> str:
    r"""The name of a file on one line, and in letters that can be printed and saved.

    >>> readable("H\udce4user\nund B\xe4ume")  # the first ä is a byte from an archive that wasn't in UTF-8
    'H�user und Bäume'
    """
    return " ".join(os.fsencode(name).decode("utf-8", "replace").split())


def caption(name: str) -> str:
    """The name of a folder for a figure, where what stands between two dollars would be taken for mathematics."""
    return readable(name).replace("$", r"\$")


def _hidden(path: Path) -> bool:
    return path.name.lower() == "thumbs.db" or any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _digest(path: Path) -> str:
    """The same for equal files; of the first 64 KiB and the length, so that a folder of photographs is quick."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(HEAD) + str(path.stat().st_size).encode()).hexdigest()


def _test_part(entries: list[Entry]) -> set[str]:
    """Digests of a tenth of each class (of at least one file where there are two) for testing."""
    test = set()
    for label in {entry.label for entry in entries}:
        mine = list(dict.fromkeys(entry.digest for entry in entries if entry.label == label))
        test.update(mine[: max(1, round(TEST_FRACTION * len(mine)))] if len(mine) > 1 else [])
    return test


def _each_class_first(entries: list[Entry]) -> list[Entry]:
    """The same, the first one of each class in front: so the first few images show the rare classes as well."""
    firsts = {entry.label: entry for entry in reversed(entries)}
    return sorted(entries, key=lambda entry: entry is not firsts[entry.label])


def _natural(name: str) -> list:
    """Sorts "img9" before "img10"."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _count(things, word: str) -> str:
    return f"{len(things)} {word}{'s' * (len(things) != 1)}"


# ----------------------------------------------------------------------------------------------------- many at a time


def _numbers(entries: list[Entry]) -> dict[str, Numbers]:
    """What numbers there are in all files of a kind, by the kinds of more than 8 bits."""
    found, _ = _each({entry.path for entry in entries if entry.depth}, numbers_in, "looking for black and white")
    kinds = {entry.depth for entry in entries if entry.path in found}
    return {kind: together(found[e.path] for e in entries if e.depth == kind and e.path in found) for kind in kinds}


def _each(paths: Iterable[Path], work: Callable[[Path], T], doing: str) -> tuple[dict[Path, T], dict[Path, str]]:
    """What `work` makes of each file, and why it could not. In threads: Pillow works beside Python."""
    paths, results, refused = sorted(paths), {}, {}

    def attempt(path: Path) -> None:
        try:
            results[path] = work(path)
        except NotAnImage as problem:
            refused[path] = str(problem)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(tqdm(pool.map(attempt, paths), total=len(paths), desc=doing, delay=1, disable=quiet()))
    return results, dict(sorted(refused.items()))
