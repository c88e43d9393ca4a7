"""Pieces of the two photographs that come with scikit-learn: colour images that need no network."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIDE = 64  # pixels
COUNT = {"train": 6_000, "test": 1_000}
CLASSES = ("pagoda", "flower")
FILES = ("china.jpg", "flower.jpg")
# Where the left part of a photograph, for testing, ends and the right part, for training, begins: in the middle of what
# it shows, which is nearly the same on both sides.
BORDER = (207, 305)
LARGEST = 2.2  # a piece is 64 to 64 · LARGEST pixels wide before it is made smaller
PLAIN = 30.0  # grey levels: pieces that spread less are sky or shade, and left out


def two_photos(split: str, seed: int, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Images uint8 (n, 3, 64, 64) and labels int64 (n,), in random order; the first `limit` of them.

    Squares at random places and of random sizes, every second one mirrored. No pixel of a photograph is in both splits;
    the seed decides the pieces for training, those for testing are always the same.
    """
    rng = np.random.default_rng([seed % 2**63, 0] if split == "train" else [0, 1])
    parts = [_part(photograph, border, split) for photograph, border in zip(_photographs(), BORDER)]
    images, labels = [], []
    while len(images) < min(COUNT[split], limit or COUNT[split]):
        label, piece = int(rng.integers(len(parts))), None
        while piece is None or np.std(piece, axis=(0, 1)).max() < PLAIN:
            piece = _piece(parts[label], rng)
        images.append(piece[:, ::-1] if rng.random() < 0.5 else piece)
        labels.append(label)
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()), torch.tensor(labels)


def _photographs() -> list[Image.Image]:
    """Both, 640 × 427 pixels each, without importing scikit-learn, which takes longer than all the rest."""
    folder = Path(importlib.util.find_spec("sklearn").origin).with_name("datasets") / "images"
    return [Image.open(folder / name).convert("RGB") for name in FILES]


def _part(photograph: Image.Image, border: int, split: str) -> Image.Image:
    left, right = (0, border) if split == "test" else (border, photograph.width)
    return photograph.crop((left, 0, right, photograph.height))


def _piece(part: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A square of the picture at a random place, (64, 64, 3); small squares are as likely as large ones."""
    side = round(SIDE * LARGEST ** rng.random())
    left, top = int(rng.integers(part.width - side + 1)), int(rng.integers(part.height - side + 1))
    return np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BOX, box=(left, top, left + side, top + side)))
