"""One image file as pixels: of any format, mode, orientation and depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

# Pillow can open more, but some of those start other programs or read other files.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 100_000_000  # a picture of 10,000 × 10,000; what claims to be larger is refused unread (a "bomb")
GREY = 16  # channels may differ by so much (of 255) in a grey picture: JPEG tints a little
TINTED = 0.01  # share of the pixels that must differ by more in a coloured one
DEPTHS = (1, 255, 1023, 4095, 16383, 65535)  # white, where whole numbers have 1, 8, 10, 12, 14 or 16 bits
FLOAT_WHITES = (1, 255, 65535)  # white, where numbers are not whole
BEYOND = 0.1  # of white: so far over it and under black may floats be that were enlarged or sharpened
FAINT = 1 / 8  # of white: floats that stay below it were counted to another one


T = TypeVar("T")


class NotAnImage(Exception):
    """A file that can't be read as an image; the message says why in a few words."""


class Numbers(NamedTuple):
    """What is known of grey values: the smallest, the largest, and whether all are whole."""

    low: float
    high: float
    whole: bool


def opened(path: Path) -> Image.Image:
    """The image, its header read and its pixels not. Raises NotAnImage."""
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


def read_image(path: Path, size: int, found: Mapping[str, Numbers] | None = None) -> np.ndarray:
    """One image file as uint8 (size, size, 3): upright, on white, its middle square. Raises NotAnImage.

    found: the numbers in all files of a set, by `depth`, for those of more than 8 bits; without it, the file's own.
    """
    flat = _unpacked(path, lambda image: to_rgb(_upright(image), found or {}), enough=4 * size)
    side = min(flat.size)
    left, top = (flat.width - side) // 2, (flat.height - side) // 2
    # Pillow's filters widen when they make smaller: each new pixel averages all the old ones that it covers.
    return np.asarray(flat.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)))


def _unpacked(path: Path, make: Callable[[Image.Image], T], enough: int | None = None) -> T:
    """What `make` makes of the image with its pixels; `enough` of them a side, where they can be had faster."""
    try:
        with opened(path) as image:
            if enough:
                image.draft(None, (enough, enough))  # JPEG only: unpack no more pixels than are needed
            image.load()
            return make(image)
    except (OSError, ValueError, SyntaxError, MemoryError, ZeroDivisionError, IndexError, TypeError):
        raise NotAnImage("damaged, or of a kind that can't be read") from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing about the picture
        return image


def to_rgb(image: Image.Image, found: Mapping[str, Numbers]) -> Image.Image:
    """Any mode as RGB: numbers of more than 8 bits scaled to bytes, transparency laid on white."""
    if deep := depth(image.mode):
        numbers = np.asarray(image)
        own = numbers_of(numbers)
        return Image.fromarray(to_bytes(numbers, *black_and_white(found.get(deep, own)))).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


# ------------------------------------------------------------------------------------------ grey of more than 8 bits


def depth(mode: str) -> str:
    """How a file stores grey values of more than 8 bits, "I;16", "I" (32 bits) or "F" (floats); "" for other images.

    >>> depth("I;16B"), depth("RGB")
    ('I;16', '')
    """
    return mode[:4] if mode.startswith("I") or mode == "F" else ""


def numbers_in(path: Path) -> Numbers:
    """What is known of the numbers in a file. Raises NotAnImage."""
    return _unpacked(path, lambda image: numbers_of(np.asarray(image)))


def numbers_of(values: np.ndarray) -> Numbers:
    """What is known of these numbers. Raises NotAnImage where some are none."""
    if not np.isfinite(values).all():
        raise NotAnImage("holds nan or infinity")
    return Numbers(float(values.min()), float(values.max()), bool((values == np.rint(values)).all()))


def together(found: Iterable[Numbers]) -> Numbers:
    """What is known of several files, at least one."""
    lows, highs, whole = zip(*found)
    return Numbers(min(lows), max(highs), all(whole))


def black_and_white(found: Numbers) -> tuple[float, float]:
    """The numbers that stand for black and for white, which no file tells.

    Whole numbers begin at 0 and have as many bits as the largest needs: 1, 8, 10, 12, 14 or 16. Other numbers reach
    from 0 to 1, to 255 or to 65535, whichever they fit. What is left, and whatever is negative, is stretched.

    >>> black_and_white(Numbers(40.0, 3901.0, whole=True))  # a camera of 12 bits
    (0.0, 4095.0)
    >>> black_and_white(Numbers(0.0, 0.97, whole=False)), black_and_white(Numbers(-1000.0, 2976.0, whole=True))
    ((0.0, 1.0), (-1000.0, 2976.0))
    """
    for white in DEPTHS if found.whole else FLOAT_WHITES:
        least, most, lowest = (0, 1, 0) if found.whole else (FAINT, 1 + BEYOND, -BEYOND)
        if least * white <= found.high <= most * white and lowest * white <= found.low:
            return 0.0, float(white)
    return min(0.0, found.low), found.high


def to_bytes(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Grey values as uint8, 0 black and 255 white."""
    shares = (values.astype(np.float32) - black) / ((white - black) or 1)
    return np.rint(255 * shares.clip(0, 1)).astype(np.uint8)


# --------------------------------------------------------------------------------------------------- grey or coloured


def is_coloured(pixels: np.ndarray) -> bool:
    """Do the channels of (h, w, 3) differ visibly somewhere?"""
    return bool((np.ptp(pixels, axis=-1) > GREY).mean() > TINTED)


def to_grey(images: Tensor) -> Tensor:
    """Bytes (n, 3, h, w) -> (n, 1, h, w), weighted as the eye does (ITU-R 601); in pieces, to stay small in memory."""
    pieces = (part.permute(0, 2, 3, 1).numpy() @ np.array([0.299, 0.587, 0.114]) for part in images.split(1024))
    return torch.from_numpy(np.concatenate([np.rint(part).astype(np.uint8) for part in pieces])).unsqueeze(1)
