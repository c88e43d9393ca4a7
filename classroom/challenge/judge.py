"""Who says how good images are: a classifier that is not handed out; and whether they are copies of training images."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.data import ImageSet
from course_utils.metrics import frechet_distance, nearest
from course_utils.models.autoencoder import in_batches
from course_utils.weights import load_classifier

from .records import Foul, Score

OWN = Path(__file__).with_name("judge.safetensors")
GROUPS = 10  # of images, each left out once for the error
LOOKED_AT = 40  # images that are looked for among those of the training set
MOST_COPIES = 0.1  # share of them
NEAR = 1 / 3  # as near as this to a training image, compared with the next one, is a copy: equation (9.6)
NEARBY, AFAR = 2, 4  # pixels of a square whose mean is compared: noise on top of a copy, which hides it, averages out
MOVED = 2  # pixels, at most, to each side
CANDIDATES = 40  # training images that are compared from nearby: the nearest ones from afar


class Judge:
    """Squared Fréchet distances, equation (2.10), to a test split in a classifier's features; and an eye for copies.

    path: of the classifier;  train, test: of one data set. Raises WeightsRefused, and ValueError where they don't fit.
    """

    def __init__(self, path: Path, train: ImageSet, test: ImageSet) -> None:
        classifier = load_classifier(path)
        if (classifier.shape, classifier.classes) != (train.shape, tuple(train.classes)):
            raise ValueError(f"the judge was trained for other images or classes than those of {train.title}")
        self.checksum: str = classifier.card["checksum"]
        self.train = train
        self._compare = classifier.to(memory_format=torch.channels_last).features  # a third faster on CPUs
        self._real = self._features(test.x)
        self._afar = _seen_from(AFAR, train.x)

    def score(self, images: Tensor) -> Score:
        """d² of images (n, c, h, w) in [-1, 1], with the standard error that their number leaves (jackknife)."""
        features = self._features(images)
        groups = torch.arange(len(features)) % GROUPS
        left_out = torch.tensor([frechet_distance(self._real, features[groups != group]) for group in range(GROUPS)])
        error = ((GROUPS - 1) / GROUPS * (left_out - left_out.mean()).square().sum()).sqrt()
        return Score(frechet_distance(self._real, features), float(error))

    def floor(self, n: int) -> Score:
        """What n training images get: nobody is asked for less."""
        return self.score(self.train.first(n).x)

    def look_for_copies(self, images: Tensor, seed: int) -> None:
        """Raises Foul where more of the images than chance explains are copies. seed: of those that are looked at."""
        some = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:LOOKED_AT]
        share = self.copies(images[some])
        if share > MOST_COPIES:
            raise Foul(f"{share:.0%} of its images are copies of training images, as they are, mirrored or moved")

    def copies(self, images: Tensor) -> float:
        """The share of images (n, c, h, w) that are much nearer to one training image than to the next, equation (9.6),
        as they are or seen in a mirror, moved by up to `MOVED` pixels. Compared are the `CANDIDATES` of each."""
        found = torch.zeros(len(images), dtype=torch.bool)
        moves = list(product(range(-MOVED, MOVED + 1), repeat=2))
        for seen in (each.roll(move, (-2, -1)) for each in (images, images.flip(-1)) for move in moves):
            rows = nearest(_seen_from(AFAR, seen), self._afar, min(CANDIDATES, len(self.train))).indices
            apart = self.train.take(rows.flatten()) - seen.repeat_interleave(rows.shape[1], dim=0)
            distances = _seen_from(NEARBY, apart).norm(dim=1).reshape(rows.shape)
            first, second = distances.topk(2, largest=False).values.T
            found |= (first < NEAR * second) | (first == 0)
        return float(found.float().mean())

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        return in_batches(self._compare, images.float().contiguous(memory_format=torch.channels_last), size=500)


def _seen_from(square: int, images: Tensor) -> Tensor:
    """(n, d): means over squares of so many pixels a side, in which images near each other are near as well."""
    return F.avg_pool2d(images, square, ceil_mode=True).flatten(1)
