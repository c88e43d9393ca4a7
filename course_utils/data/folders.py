"""A folder of images, of any size, mode and orientation, as a data set."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm.auto import tqdm

from ..device import quiet

# Pillow can open more, but some of those start other programs or read other files.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 100_000_000  # a picture of 10,000 × 10,000; what claims to be larger is refused unread (a "bomb")
TEST_FRACTION = 0.1
HEAD = 1 << 16  # bytes of a file that tell it from others
LOOKED_AT = 200  # images that decide between grey and colour
GREY = 16  # channels may differ by so much (of 255) in a grey picture: JPEG tints a little
TINTED = 0.01  # share of the pixels that must differ by more in a coloured one
NAMED = 5  # files named in a message; the others are counted


class NotAnImage(ValueError):
    """A file that can't be read as an image; the message says why in a few words."""


@dataclass(frozen=True)
class Entry:
    """One file: where it is, which class it belongs to, and a digest that equal files share."""

    path: Path
    label: int
    digest: str


def read_folder(
    folder: Path, split: str, size: int, colour: bool | None, limit: int | None
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images uint8 (n, c, size, size), labels int64 (n,) and the names of the classes.

    Subfolders are classes, in natural order ("9" before "10"); a folder without any is one class. Each image is turned
    upright, laid on white where it is transparent, cropped to the square in its middle and shrunk without aliasing.
    Test is a tenth of the files, chosen by their contents: the same in every run, and copies of a file stay together.
    colour: None takes three channels if one of the first 200 images (in order of their contents) is coloured.
    Files that aren't images are skipped and named in one line. Raises ValueError where nothing is left.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is refused, or mended, below
        entries, classes, left_out = survey(folder)
        chosen = _split(entries, split)[:limit]
        sample = entries[:LOOKED_AT] if colour is None else []
        pixels, refused = _read(dict.fromkeys(entry.path for entry in [*chosen, *sample]), size)
    _report(folder, {**left_out, **refused})
    good = [entry for entry in chosen if entry.path in pixels]
    if not good:
        raise ValueError(_nothing(folder, split, entries, refused))
    if colour is None:
        colour = any(is_coloured(pixels[entry.path]) for entry in sample if entry.path in pixels)
    stack = np.stack([pixels[entry.path] if colour else grey(pixels[entry.path]) for entry in good])
    labels = torch.tensor([entry.label for entry in good], dtype=torch.int64)
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous(), labels, classes


# ------------------------------------------------------------------------------------------------ which files there are


def survey(folder: Path) -> tuple[list[Entry], tuple[str, ...], dict[Path, str]]:
    """The files that look like images, in the order of their digests; the classes; what was left out and why.

    Links to folders are not followed, so that a circle of them can't hold us; hidden files are passed over.
    """
    try:
        files = sorted(_walk(folder))
    except OSError as error:
        raise ValueError(f"load: the folder {folder} can't be read ({error.strerror}); check its permissions") from None
    left_out, images = {}, []
    for path in files:
        problem = _identify(path)
        if problem:
            left_out[path] = problem
        else:
            images.append(path)
    if not images:
        some = f"; {len(files)} files of other kinds are in it ({_names(files)})" if files else " and is empty"
        raise ValueError(
            f"load: the folder {folder} holds no images{some}; put PNG, JPEG, ... files into it, "
            "in one subfolder a class if there are classes"
        )
    inside = [path for path in images if path.parent != folder]
    if inside:
        left_out.update((path, "lies beside the class folders") for path in images if path.parent == folder)
        names = sorted({path.relative_to(folder).parts[0] for path in inside}, key=_natural)
        entries = [Entry(p, names.index(p.relative_to(folder).parts[0]), _digest(p)) for p in inside]
    else:
        names = [folder.resolve().name or str(folder)]
        entries = [Entry(path, 0, _digest(path)) for path in images]
    entries.sort(key=lambda entry: (entry.digest, entry.path))
    return entries, tuple(names), left_out


def _walk(folder: Path) -> Iterable[Path]:
    def fail(error: OSError):
        if Path(error.filename) == folder:
            raise error

    for here, folders, files in os.walk(folder, onerror=fail, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        yield from (Path(here, name) for name in files if not name.startswith(".") and name.lower() != "thumbs.db")


def _identify(path: Path) -> str:
    """Why this isn't an image that we read; "" if it is (its header is read, its pixels are not)."""
    try:
        with _opened(path):
            return ""
    except NotAnImage as problem:
        return str(problem)


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # older Pillows lack AVIF


def _opened(path: Path) -> Image.Image:
    try:
        if not path.is_file():  # a broken link, a pipe, a device: opening one may wait for ever
            raise NotAnImage("not a file")
        image = Image.open(path, formats=_formats())
    except NotAnImage:
        raise
    except Image.DecompressionBombError:
        raise NotAnImage("too large: a decompression bomb?") from None
    except (UnidentifiedImageError, SyntaxError, ValueError):
        raise NotAnImage("not an image") from None
    except OSError as error:
        raise NotAnImage(f"can't be read: {error.strerror or 'damaged'}") from None
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise NotAnImage(f"too large: {image.width} × {image.height} pixels")
    return image


def _digest(path: Path) -> str:
    """The same for equal files; of the first 64 KiB and the length, so that a folder of photographs is quick."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    return hashlib.sha256(head + str(path.stat().st_size).encode()).hexdigest()


def _split(entries: list[Entry], split: str) -> list[Entry]:
    """A tenth of each class (at least one file where there are two) is for testing; copies stay on one side."""
    test = set()
    for label in {entry.label for entry in entries}:
        mine = list(dict.fromkeys(entry.digest for entry in entries if entry.label == label))
        count = max(1, round(TEST_FRACTION * len(mine))) if len(mine) > 1 else 0
        test.update(mine[:count])
    return [entry for entry in entries if (entry.digest in test) == (split == "test")]


def _natural(name: str) -> list:
    """Sorts "img9" before "img10"."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in re.split(r"(\d+)", name) if part]


# -------------------------------------------------------------------------------------------------- from file to pixels


def _read(paths: Iterable[Path], size: int) -> tuple[dict[Path, np.ndarray], dict[Path, str]]:
    """Pixels (size, size, 3) by path, and why others could not be read. In threads: Pillow works beside Python."""
    paths = list(paths)

    def read(path: Path) -> np.ndarray | str:
        try:
            return read_image(path, size)
        except NotAnImage as problem:
            return str(problem)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        bar = tqdm(pool.map(read, paths), total=len(paths), desc="reading images", delay=1, disable=quiet())
        results = dict(zip(paths, bar))
    pixels = {path: result for path, result in results.items() if not isinstance(result, str)}
    return pixels, {path: result for path, result in results.items() if isinstance(result, str)}


def read_image(path: Path, size: int) -> np.ndarray:
    """One image file as uint8 (size, size, 3): upright, on white, its middle square. Raises NotAnImage."""
    image = _opened(path)
    try:
        with image:
            image.draft(None, (4 * size, 4 * size))  # JPEG only: unpack no more pixels than are needed
            image.load()
            flat = to_rgb(_upright(image))
    except (OSError, ValueError, SyntaxError, MemoryError, ZeroDivisionError, IndexError, TypeError) as error:
        if isinstance(error, NotAnImage):
            raise
        raise NotAnImage("damaged, or of a kind that can't be read") from None
    side = min(flat.size)
    left, top = (flat.width - side) // 2, (flat.height - side) // 2
    box = (left, top, left + side, top + side)
    # Pillow's filters widen when they make smaller: each new pixel averages all the old ones that it covers.
    return np.asarray(flat.resize((size, size), Image.Resampling.BICUBIC, box=box))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing about the picture
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB: 16-bit and float numbers scaled to bytes, transparency laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_bytes(np.asarray(image))).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if {"A", "a"} & set(image.getbands()) or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _to_bytes(numbers: np.ndarray) -> np.ndarray:
    """Grey values of more than 8 bits as bytes.

    Whole numbers count to 255 or to 65535, floats to 1 or to 255, whichever they fit; other ranges are stretched.
    """
    values = numbers.astype(np.float64)
    if not np.isfinite(values).all():
        raise NotAnImage("holds nan or infinity")
    low, high = values.min(), values.max()
    tops = (255,) if numbers.dtype == np.uint8 else (1, 255) if numbers.dtype.kind == "f" else (65535,)
    for top in tops:
        if low >= 0 and high <= top:
            return np.rint(values * (255 / top)).astype(np.uint8)
    return np.rint((values - low) * (255 / ((high - low) or 1))).astype(np.uint8)


def is_coloured(pixels: np.ndarray) -> bool:
    """Do the channels of (h, w, 3) differ visibly somewhere?"""
    return bool((np.ptp(pixels, axis=-1) > GREY).mean() > TINTED)


def grey(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) -> (h, w, 1), weighted as the eye does (ITU-R 601)."""
    return np.rint(pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]


# ------------------------------------------------------------------------------------------------------------- messages


def _report(folder: Path, left_out: dict[Path, str]) -> None:
    """One line about the files that were skipped."""
    if left_out:
        listed = [f"{path.relative_to(folder)} ({why})" for path, why in left_out.items()]
        more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
        files = f"{len(listed)} file{'s' * (len(listed) != 1)}"
        print(f"{folder}: skipped {files}: {', '.join(listed[:NAMED])}{more}.")


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:NAMED]) + (", ..." if len(paths) > NAMED else "")


def _nothing(folder: Path, split: str, entries: list[Entry], refused: dict[Path, str]) -> str:
    if refused:
        return f"load: the {len(refused)} images of {folder} can't be read ({_names(list(refused))}); replace them"
    return (
        f"load: the folder {folder} has {len(entries)} image{'s' * (len(entries) != 1)}, too few for a {split} split; "
        "put at least two different images into it"
    )
