"""Handwritten digits that need no network: scikit-learn's 1,797, enlarged, turned a little and shifted a little."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CLASSES = tuple("0123456789")
COPIES = 8  # of each original in the training split: itself and seven gently moved ones
TEST_FRACTION = 0.2
BOX = 22 / 28  # share of the picture's side that the 8×8 original fills, as MNIST leaves a margin

# How far a copy may differ from its original; more, and a 7 becomes a 1.
TURN = math.radians(10)
SHIFT = 0.07  # of the picture's side: 2 pixels of 28
SCALE = 0.10
SHEAR = 0.10


def digits(split: str, seed: int, size: int = 28) -> tuple[Tensor, Tensor]:
    """Images uint8 (n, 1, size, size) and labels int64 (n,).

    train: 1,437 originals and 7 moved copies of each, in random order; test: the other 360 originals as they are. Which
    original is in which split depends on nothing, so that train and test never share one, whatever the seeds.
    """
    originals, labels = _originals()
    test = _test_split(labels)
    if split == "test":
        return _render(originals[test], torch.zeros(len(test), 5), size), labels[test]
    train = torch.ones(len(labels), dtype=torch.bool)
    train[test] = False
    originals, labels = originals[train].repeat(COPIES, 1, 1, 1), labels[train].repeat(COPIES)
    chance = torch.Generator().manual_seed(seed)
    moves = torch.rand(len(labels), 5, generator=chance) * 2 - 1
    moves[: int(train.sum())] = 0  # the originals themselves
    order = torch.randperm(len(labels), generator=chance)
    return _render(originals[order], moves[order], size), labels[order]


def _originals() -> tuple[Tensor, Tensor]:
    """8×8 images as floats in [0, 1] and labels."""
    from sklearn.datasets import load_digits  # late: a second that only this set needs

    raw = load_digits()
    return torch.tensor(raw.images / 16, dtype=torch.float32).unsqueeze(1), torch.tensor(raw.target, dtype=torch.int64)


def _test_split(labels: Tensor) -> Tensor:
    """Indices of the test originals, in random order: the same share of each class."""
    rng = np.random.default_rng(8)  # fixed: see `digits`
    parts = [rng.permutation(np.flatnonzero(labels.numpy() == c)) for c in range(len(CLASSES))]
    chosen = np.concatenate([part[: round(TEST_FRACTION * len(part))] for part in parts])
    return torch.from_numpy(rng.permutation(chosen))


def _render(originals: Tensor, moves: Tensor, size: int) -> Tensor:
    """Draw each original once, at its size, angle and place: one interpolation, so nothing is blurred twice.

    originals: (n, 1, 8, 8) in [0, 1].  moves: (n, 5) in [-1, 1]: turn, scale, shear, shift in x and y.
    """
    turn, scale, shear, dx, dy = moves.unbind(1)
    turn, zoom, shear = turn * TURN, (1 + scale * SCALE) * BOX, shear * SHEAR
    cos, sin = turn.cos() / zoom, turn.sin() / zoom
    dx, dy = 2 * SHIFT * dx, 2 * SHIFT * dy  # pictures reach from -1 to 1
    # Rows of the map from places in the picture to places in the original.
    a, b, c, d = cos, -sin + shear * cos, sin, cos + shear * sin
    theta = torch.stack([a, b, -(a * dx + b * dy), c, d, -(c * dx + d * dy)], 1).view(-1, 2, 3)
    pictures = []
    for part, maps in zip(originals.split(2048), theta.split(2048)):  # in pieces, to stay small in memory
        grid = F.affine_grid(maps, [len(part), 1, size, size], align_corners=False)
        drawn = F.grid_sample(part, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
        pictures.append((_crisp(drawn) * 255).round().to(torch.uint8))
    return torch.cat(pictures)


def _crisp(drawn: Tensor) -> Tensor:
    """Steeper edges: enlarging 8×8 pixels leaves a haze that no pen makes. A smooth step from 0.15 to 0.75."""
    x = ((drawn - 0.15) / 0.6).clamp(0, 1)
    return x * x * (3 - 2 * x)
