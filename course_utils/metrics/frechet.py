"""The Fréchet distance of two sets of features, and what it would be if there were infinitely many images."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..arrays import is_whole
from .checks import two_sets


def frechet_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features: equation (2.10).

    a: (n, d), b: (m, d), one row of features per image, n, m ≥ 2. Returns |μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½),
    in squared units of the features. It depends on the features and on n: compare only numbers that share both.
    Warns where n or m is at most d: then a covariance is singular, and two samples of one distribution are about half
    of its total variance apart (n = m = d, measured for d from 32 to 128; 3 % at n = 16 d). Raises ValueError for
    other shapes and for features that are not finite.

    >>> a = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    >>> print(f"{frechet_distance(a, a + 2):.3f}")          # same shape, moved by 2 along 3 axes
    12.000
    """
    a, b = two_sets("frechet_distance", a, b, least=2)
    if min(len(a), len(b)) <= a.shape[1]:
        warnings.warn(_too_few(min(len(a), len(b)), a.shape[1]), stacklevel=2)
    return _distance(a, b)


class Extrapolation(NamedTuple):
    """The line d²(n) ≈ value + slope / n, and the points that it was fitted to.

    value: d² for n → ∞, may be a little below 0;  slope: in units of d² times images;
    sizes: images per set, rising;  distances: the mean d² of subsets of that size.
    """

    value: float
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_at_infinity(
    real: Float[Tensor, "n d"],
    generated: Float[Tensor, "m d"],
    sizes: Sequence[int] | None = None,
    draws: int = 10,
    generator: torch.Generator | None = None,
) -> Extrapolation:
    """The Fréchet distance without the bias of small samples: d²(n) ≈ d²_∞ + c / n, equation (9.1), by least squares.

    "FID∞" (Chong and Forsyth 2020, arXiv:1911.07023). For each size, `draws` subsets of n rows are drawn without
    replacement from *both* sets, so that c holds the bias of both and none is left in d²_∞; the paper draws from the
    generated images only, and keeps what bias the real ones bring. real: (n, d), generated: (m, d), n, m ≥ 2.
    sizes: two different ones or more; left out, N, N/1.5, N/2, N/3 and N/4 for N = min(n, m). `generator` is one of
    the CPU. Subsets overlap: that the points lie well on the line says nothing of how far off it is; for an error bar
    draw other images. Warns where the smallest size is at most d: below, the law c / n fails.
    Raises ValueError for sizes outside 2..N, for draws < 1 and as `frechet_distance` does.

    >>> a, b = torch.randn(2, 2000, 8, generator=torch.Generator().manual_seed(0))
    >>> line = frechet_at_infinity(a, b, generator=torch.Generator().manual_seed(1))     # truth: 0
    >>> line.sizes, abs(line.value) < line.distances[-1] / 2
    ((500, 666, 1000, 1333, 2000), True)
    """
    real, generated = two_sets("frechet_at_infinity", real, generated, least=2)
    n = min(len(real), len(generated))
    sizes = sorted({n, int(n / 1.5), n // 2, n // 3, n // 4} if sizes is None else set(sizes))
    if len(sizes) < 2 or not all(is_whole(size, least=2) for size in sizes) or sizes[-1] > n:
        raise ValueError(f"sizes: expected two or more different whole numbers in 2..{n}, got {sizes}.")
    if not is_whole(draws, least=1):
        raise ValueError(f"draws: expected a whole number ≥ 1, got {draws!r}.")
    if sizes[0] <= real.shape[1]:
        warnings.warn(_too_few(sizes[0], real.shape[1]), stacklevel=2)
    distances = []
    for size in sizes:
        pairs = [(_subset(real, size, generator), _subset(generated, size, generator)) for _ in range(draws)]
        distances.append(float(np.mean([_distance(a, b) for a, b in pairs])))
    slope, value = np.polyfit(1 / np.array(sizes), distances, 1)
    return Extrapolation(float(value), float(slope), tuple(sizes), tuple(distances))


def _distance(a: Tensor, b: Tensor) -> float:
    cov_a, cov_b = (torch.atleast_2d(torch.cov(features.T)) for features in (a, b))
    # tr (Σa Σb)^½ is the sum of the singular values of Σa^½ Σb^½: symmetric roots only, no complex numbers.
    cross = torch.linalg.svdvals(_root(cov_a) @ _root(cov_b)).sum()
    value = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(value.item(), 0.0)


def _root(cov: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _subset(rows: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:size].to(rows.device)]


def _too_few(n: int, d: int) -> str:
    return f"{n} images for {d} features: d² says more about how few they are than about how they look; take more."
