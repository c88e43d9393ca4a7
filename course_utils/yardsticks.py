"""What samples are judged by: distances to real images, and the two rows that say how far such a number can be trusted.

A distance means little alone. Beside it belong what as many *real* images get, which no sampler can be asked to beat,
and what a model without any understanding gets: one Gaussian fitted to the pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from .data import ImageSet
from .metrics import frechet_distance
from .models.autoencoder import PCA, fit_gaussian, in_batches
from .weights import load_classifier, shipped


def features_for(data: ImageSet, device: torch.device | str = "cpu") -> tuple[Callable[[Tensor], Tensor], str]:
    """What images like those of `data` are compared in by a Fréchet distance, and its name in words.

    Features (b, c, h, w) -> (b, d) on the CPU: of the shipped classifier where there is one for this data set, else the
    32 main directions (PCA) of its images, which see shape and brightness only (fewer, where there are few images).
    """
    if f"{data.name}-classifier" in shipped("classifier"):
        compare, words = load_classifier(data.name, device).features, "features of the course's small classifier"
    else:
        some = data.first(5000).x.cpu().double()
        pca = PCA.fit(some, min(32, len(some) - 1, some[0].numel()))
        words = f"{len(pca.directions)} main directions of the training images"

        def compare(part: Tensor) -> Tensor:
            return pca.encode(part.cpu().double())

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        """(n, d) on the CPU.  images: (n, c, h, w) in [-1, 1]."""
        return in_batches(lambda part: compare(part.to(device)).cpu(), images.float(), size=500)

    return features, words


class Yardstick:
    """Squared Fréchet distances, equation (2.10), of samples to the images of a test set.

    train, test: ImageSets of one kind; distances are to `test`, in `features_for(train)`.
    features: images (n, c, h, w) -> (n, d), what is compared;  name: of these features, in words.
    """

    def __init__(self, train: ImageSet, test: ImageSet, device: torch.device | str = "cpu"):
        self.train = train
        self.features, self.name = features_for(train, device)
        self._real = self.features(test.x)

    def distance(self, images: Tensor) -> float:
        """d² of these images to the test images."""
        return frechet_distance(self._real, self.features(images))

    def floor(self, n: int) -> float:
        """d² of n training images: what samples that are as good as real ones would get."""
        return self.distance(self.train.first(n).x)

    def of_a_pixel_gaussian(self, n: int, seed: int = 0) -> float:
        """d² of n draws from one Gaussian fitted to the pixels of the training images, clipped to [-1, 1]."""
        return self.distance(pixel_gaussian(self.train.first(5000).x, n, seed))


def pixel_gaussian(images: Tensor, n: int, seed: int = 0) -> Tensor:
    """n draws from one Gaussian with the mean and covariance of all pixels, like `images` (m, c, h, w), in [-1, 1].

    >>> pixel_gaussian(torch.rand(50, 1, 2, 3), n=4).shape
    torch.Size([4, 1, 2, 3])
    """
    gaussian = fit_gaussian(images.flatten(1).double().cpu())
    draws = gaussian.sample(n, torch.Generator().manual_seed(seed))
    return draws.reshape(n, *images.shape[1:]).to(images).clamp(-1, 1)


def against_first(rows: Mapping[str, Sequence[float]]) -> str:
    """A table of distances over seeds, and which rows can be told from the first one; lower is better.

    rows: name -> one distance per seed, two or more. Two rows are told apart where their means differ by more than the
    half-width of a 95 % interval (Student's t, Welch) of the difference.

    >>> print(against_first({"ours": [10.0, 11.0, 12.0], "theirs": [20.0, 21.0, 22.0], "same": [10.0, 12.0, 13.0]}))
    ours       11.0 ± 1.0
    theirs     21.0 ± 1.0   difference +10.0 ± 2.3: higher
    same       11.7 ± 1.5   difference +0.7 ± 3.4: not told apart
    """
    values = {name: torch.tensor(row, dtype=torch.float64) for name, row in rows.items()}
    width, first, lines = max(max(map(len, rows)), 10), next(iter(values.values())), []
    for name, row in values.items():
        line = f"{name:{width}s} {row.mean():.1f} ± {row.std():.1f}"
        if row is not first:
            apart = (row.mean() - first.mean()).item()
            reach = _half_width(first, row)
            verdict = "not told apart" if abs(apart) <= reach else "higher" if apart > 0 else "lower"
            line += f"   difference {apart:+.1f} ± {reach:.1f}: {verdict}"
        lines.append(line)
    return "\n".join(lines)


# 97.5 % quantiles of Student's t for 1, 2, 3, ... degrees of freedom
QUANTILES = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


def _half_width(a: Tensor, b: Tensor) -> float:
    """Of the 95 % interval of the difference of two means, by Welch's degrees of freedom, rounded down."""
    one, other = a.var().item() / len(a), b.var().item() / len(b)
    if one + other == 0:
        return 0.0
    freedom = (one + other) ** 2 / (one**2 / (len(a) - 1) + other**2 / (len(b) - 1))
    return QUANTILES[min(int(freedom + 1e-9), len(QUANTILES)) - 1] * (one + other) ** 0.5
