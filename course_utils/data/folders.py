"""A folder of images, of any size, mode and orientation, as a data set."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

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


class NotAnImage(Exception):
    """A file that can't be read as an image; the message says why in a few words."""


class Entry(NamedTuple):
    """One file: a digest that equal files share, where it is, and which class it belongs to."""

    digest: str
    path: Path
    label: int


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
        warnings.simplefilter("ignore")  # Pillow warns of what is refused, or put right, below
        entries, classes, left_out = survey(folder)
        test = _test_part(entries)
        chosen = [entry for entry in entries if (entry.digest in test) == (split == "test")][:limit]
        sample = entries[:LOOKED_AT] if colour is None else []
        pixels, refused = _read({entry.path for entry in chosen + sample}, size)
    left_out |= refused
    if left_out:
        skipped = _named([f"{path.relative_to(folder)} ({why})" for path, why in left_out.items()])
        print(f"{folder}: skipped {_count(left_out, 'file')}: {skipped}.")
    good = [entry for entry in chosen if entry.path in pixels]
    if not good and refused:
        names = _named([path.name for path in refused])
        raise ValueError(f"load: the {len(refused)} images of {folder} can't be read ({names}); replace them")
    if not good:
        raise ValueError(
            f"load: the folder {folder} has {_count(entries, 'image')}, too few for a {split} split; put at least two "
            "different images into it"
        )
    if colour is None:
        colour = any(is_coloured(pixels[entry.path]) for entry in sample if entry.path in pixels)
    images = torch.from_numpy(np.stack([pixels[entry.path] for entry in good])).permute(0, 3, 1, 2).contiguous()
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
    images, left_out = [], {}
    for path in files:
        try:
            _opened(path).close()  # its header is read, its pixels are not
            images.append(path)
        except NotAnImage as problem:
            left_out[path] = str(problem)
    if not images:
        others = f"; {_count(files, 'file')} of other kinds are in it ({_named([path.name for path in files])})"
        raise ValueError(
            f"load: the folder {folder} holds no images{others if files else ' and is empty'}; put PNG, JPEG, ... "
            "files into it, in one subfolder a class if there are classes"
        )
    inside = {path: path.relative_to(folder).parts[0] for path in images if path.parent != folder}
    if not inside:
        inside = dict.fromkeys(images, folder.resolve().name or str(folder))
    left_out |= {path: "lies beside the class folders" for path in images if path not in inside}
    classes = sorted(set(inside.values()), key=_natural)
    entries = sorted(Entry(_digest(path), path, classes.index(name)) for path, name in inside.items())
    return entries, tuple(classes), left_out


def _hidden(path: Path) -> bool:
    return path.name.lower() == "thumbs.db" or any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _opened(path: Path) -> Image.Image:
    Image.init()  # once, so that it is known what there is: older Pillows lack AVIF
    try:
        if not path.is_file():  # a broken link, a pipe, a device: opening one may wait for ever
            raise NotAnImage("not a file")
        image = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
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
        return hashlib.sha256(file.read(HEAD) + str(path.stat().st_size).encode()).hexdigest()


def _test_part(entries: list[Entry]) -> set[str]:
    """Digests of a tenth of each class (of at least one file where there are two) for testing."""
    test = set()
    for label in {entry.label for entry in entries}:
        mine = list(dict.fromkeys(entry.digest for entry in entries if entry.label == label))
        test.update(mine[: max(1, round(TEST_FRACTION * len(mine)))] if len(mine) > 1 else [])
    return test


def _natural(name: str) -> list:
    """Sorts "img9" before "img10"."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _count(things, word: str) -> str:
    return f"{len(things)} {word}{'s' * (len(things) != 1)}"


# -------------------------------------------------------------------------------------------------- from file to pixels


def _read(paths: Iterable[Path], size: int) -> tuple[dict[Path, np.ndarray], dict[Path, str]]:
    """Pixels (size, size, 3) by path, and why others could not be read. In threads: Pillow works beside Python."""
    paths, pixels, refused = sorted(paths), {}, {}

    def read(path: Path) -> None:
        try:
            pixels[path] = read_image(path, size)
        except NotAnImage as problem:
            refused[path] = str(problem)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(tqdm(pool.map(read, paths), total=len(paths), desc="reading images", delay=1, disable=quiet()))
    return pixels, dict(sorted(refused.items()))


def read_image(path: Path, size: int) -> np.ndarray:
    """One image file as uint8 (size, size, 3): upright, on white, its middle square. Raises NotAnImage."""
    try:
        with _opened(path) as image:
            image.draft(None, (4 * size, 4 * size))  # JPEG only: unpack no more pixels than are needed
            image.load()
            flat = to_rgb(_upright(image))
    except (OSError, ValueError, SyntaxError, MemoryError, ZeroDivisionError, IndexError, TypeError):
        raise NotAnImage("damaged, or of a kind that can't be read") from None
    side = min(flat.size)
    left, top = (flat.width - side) // 2, (flat.height - side) // 2
    # Pillow's filters widen when they make smaller: each new pixel averages all the old ones that it covers.
    return np.asarray(flat.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)))


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
    if image.has_transparency_data:
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


def to_grey(images: Tensor) -> Tensor:
    """Bytes (n, 3, h, w) -> (n, 1, h, w), weighted as the eye does (ITU-R 601); in pieces, to stay small in memory."""
    pieces = (part.permute(0, 2, 3, 1).numpy() @ np.array([0.299, 0.587, 0.114]) for part in images.split(1024))
    return torch.from_numpy(np.concatenate([np.rint(part).astype(np.uint8) for part in pieces])).unsqueeze(1)
