"""Distances between sets of images. The features that images are compared in are passed in, never hidden inside."""

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features: equation (2.10).

    a: (n, d), b: (m, d), one row of features per image, n, m ≥ 2. Returns |μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½),
    in squared units of the features. It depends on the features and on n: compare only numbers that share both.

    >>> a = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    >>> print(f"{frechet_distance(a, a + 2):.3f}")          # same shape, moved by 2 along 3 axes
    12.000
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            "frechet_distance expects features (n, d) and (m, d) with n, m ≥ 2, "
            f"got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    a, b = a.double(), b.double()
    cov_a, cov_b = (torch.atleast_2d(torch.cov(features.T)) for features in (a, b))
    # tr (Σa Σb)^½ is the sum of the singular values of Σa^½ Σb^½: symmetric roots only, no complex numbers.
    cross = torch.linalg.svdvals(_root(cov_a) @ _root(cov_b)).sum()
    value = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(value.item(), 0.0)


def _root(cov: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


class PrincipalFeatures:
    """Projection of images on the main directions of a set of real images: plain features that everyone can recompute.

    images: (n, c, h, w) real images in [-1, 1] that the directions are fitted to;  size: how many directions.
    Calling it maps (m, c, h, w) to (m, size) features, in pixel units.

    >>> x = torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> PrincipalFeatures(x, size=3)(x[:7]).shape
    torch.Size([7, 3])
    """

    def __init__(self, images: Float[Tensor, "n c h w"], size: int = 32):
        flat = images.flatten(1).double()
        if not 1 <= size <= min(flat.shape):
            raise ValueError(f"PrincipalFeatures expects 1 ≤ size ≤ {min(flat.shape)} (images, pixels), got {size}.")
        self.mean = flat.mean(0)
        _, vectors = torch.linalg.eigh(torch.cov(flat.T))
        self.axes = vectors[:, -size:].flip(1)

    def __call__(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, "m k"]:
        return (images.flatten(1).double() - self.mean) @ self.axes
