"""Handwritten digits that need no network: scikit-learn's 1,797, enlarged, turned a little and shifted a little."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 28  # pixels
CLASSES = tuple("0123456789")
COPIES = 8  # of each original in the training split: itself and seven gently moved ones
TEST_FRACTION = 0.2
BOX = 22 / SIDE  # share of the picture's side that the 8×8 original fills, as MNIST leaves a margin

# How far a copy may differ from its original; more, and a 7 becomes a 1.
TURN = math.radians(10)
SHIFT = 0.07  # of the picture's side: 2 pixels
SCALE = 0.10
SHEAR = 0.10


def digits(split: str, seed: int, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Images uint8 (n, 1, 28, 28) and labels int64 (n,), in random order; the first `limit` of them.

    train: 80 % of the originals, each as it is and in 7 moved copies; test: the other originals as they are. Which
    original is in which split depends on nothing, so that train and test never share one, whatever the seeds.
    """
    originals, labels = _originals()
    test = _test_split(labels)
    if split == "test":
        source, moves = test[:limit], torch.zeros(len(test), 5)[:limit]
    else:
        train = torch.ones(len(labels), dtype=torch.bool)
        train[test] = False
        chance = torch.Generator().manual_seed(seed)
        source = train.nonzero().flatten().repeat(COPIES)
        moves = torch.rand(len(source), 5, generator=chance) * 2 - 1
        moves[: int(train.sum())] = 0  # the originals themselves
        order = torch.randperm(len(source), generator=chance)[:limit]
        source, moves = source[order], moves[order]
    return _render(originals[source], moves), labels[source]


def _originals() -> tuple[Tensor, Tensor]:
    """The 1,797 originals as floats (n, 1, 8, 8) in [0, 1], and their labels."""
    path = Path(importlib.util.find_spec("sklearn").origin).with_name("datasets") / "data" / "digits.csv.gz"
    if path.is_file():  # read it without importing scikit-learn, which takes longer than all the rest
        pixels, labels = np.split(np.loadtxt(path, np.float32, delimiter=","), [64], axis=1)
    else:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels.astype(np.float32) / 16).reshape(-1, 1, 8, 8)
    return images, torch.from_numpy(labels.astype(np.int64)).flatten()


def _test_split(labels: Tensor) -> Tensor:
    """Indices of the test originals, in random order: the same share of each class."""
    rng = np.random.default_rng(8)  # fixed: see `digits`
    parts = [rng.permutation(np.flatnonzero(labels.numpy() == c)) for c in range(len(CLASSES))]
    chosen = np.concatenate([part[: round(TEST_FRACTION * len(part))] for part in parts])
    return torch.from_numpy(rng.permutation(chosen))


def _render(originals: Tensor, moves: Tensor) -> Tensor:
    """Draw each original at its angle, scale and place.

    originals: (n, 1, 8, 8) in [0, 1].  moves: (n, 5) in [-1, 1]: turn, scale, shear, shift in x and in y.
    """
    turn, scale, shear, dx, dy = moves.unbind(1)
    turn, zoom, shear = turn * TURN, (1 + scale * SCALE) * BOX, shear * SHEAR
    cos, sin = turn.cos() / zoom, turn.sin() / zoom
    dx, dy = 2 * SHIFT * dx, 2 * SHIFT * dy  # pictures reach from -1 to 1
    # Rows of the map from places in the picture to places in the original.
    a, b, c, d = cos, -sin + shear * cos, sin, cos + shear * sin
    maps = torch.stack([a, b, -(a * dx + b * dy), c, d, -(c * dx + d * dy)], 1).view(-1, 2, 3)
    pictures = []
    for part, theta in zip(originals.split(1024), maps.split(1024)):  # in pieces, to stay small in memory
        grid = F.affine_grid(theta, [len(part), 1, SIDE, SIDE], align_corners=False)
        drawn = F.grid_sample(part, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
        pictures.append((_crisp(drawn) * 255).round().to(torch.uint8))
    return torch.cat(pictures)


def _crisp(drawn: Tensor) -> Tensor:
    """Steeper edges: enlarging 8×8 pixels leaves a haze that no pen makes. A smooth step from 0.2 to 0.9."""
    x = ((drawn - 0.2) / 0.7).clamp(0, 1)
    return x * x * (3 - 2 * x)
