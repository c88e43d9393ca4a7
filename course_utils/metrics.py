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


def coverage(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], k: int = 5) -> float:
    """Diversity: the share of real images that have a generated one nearby, in [0, 1], equation (7.4).

    "Nearby" is no farther than the k-th nearest other real image (Naeem et al. 2020, equation 6). Rows of features for
    each image, n > k, m ≥ 1. Generated images that are as good as real ones reach about 1 − 2⁻ᵏ if n = m, not 1.

    >>> two_heaps = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    >>> coverage(two_heaps, torch.tensor([[1.0], [1.5], [2.0]]), k=1)        # one heap was forgotten
    0.5
    """
    return _nearby(real, generated, k).any(1).double().mean().item()


def density(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], k: int = 5) -> float:
    """Fidelity: how many real images have a generated one nearby, on average over the generated ones, divided by k.

    "Nearby" as in `coverage` (Naeem et al. 2020, equation 5). 0 far from all data, 1 on average for images as good as
    real ones, more where generated images crowd into the densest places.
    """
    return _nearby(real, generated, k).double().mean().item() * len(real) / k


def precision(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], k: int = 5) -> float:
    """Fidelity: the share of generated images that lie nearby some real one (Kynkäänniemi et al. 2019), in [0, 1]."""
    return _nearby(real, generated, k).any(0).double().mean().item()


def recall(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], k: int = 5) -> float:
    """Diversity: the share of real images nearby some generated one, by the distances among *those*, in [0, 1].

    One stray generated image has a wide neighbourhood, and raises recall (Kynkäänniemi et al. 2019); `coverage`, which
    only trusts distances among real images, was made to mend that. Needs m > k.
    """
    return precision(generated, real, k)


def _nearby(centres: Tensor, points: Tensor, k: int) -> Tensor:
    """(n, m): is point j no farther from centre i than the k-th nearest of the other centres?"""
    if centres.ndim != 2 or points.ndim != 2 or centres.shape[1] != points.shape[1] or not len(points):
        raise ValueError(f"expected features (n, d) and (m, d), got {tuple(centres.shape)} and {tuple(points.shape)}.")
    if not 1 <= k < len(centres):
        raise ValueError(f"k: expected a whole number in 1..{len(centres) - 1} (there are {len(centres)}), got {k!r}.")
    rows = []
    for part in centres.split(500):  # differences, not products: exact where points are close
        reach, far = (
            torch.cdist(part, others, compute_mode="donot_use_mm_for_euclid_dist") for others in (centres, points)
        )
        rows.append(far <= reach.kthvalue(k + 1, dim=1, keepdim=True).values)  # the nearest is the centre itself
    return torch.cat(rows)


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
