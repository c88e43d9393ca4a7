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

    "Nearby" is no farther than the k-th nearest other real image (Naeem et al. 2020, equation 6). One row of features
    per image, n > k, m ≥ 1. Generated images that are as good as real ones reach about 1 − 2⁻ᵏ if n = m, not 1.

    >>> two_heaps = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    >>> coverage(two_heaps, torch.tensor([[1.0], [1.5], [2.0]]), k=1)        # one heap was forgotten
    0.5
    """
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1] or not len(generated):
        raise ValueError(f"expected features (n, d) and (m, d), got {tuple(real.shape)} and {tuple(generated.shape)}.")
    if not 1 <= k < len(real):
        raise ValueError(f"k: expected a whole number in 1..{len(real) - 1} (there are {len(real)}), got {k!r}.")
    covered = []
    for part in real.split(500):  # differences, not products: exact where points are close
        reach, far = (
            torch.cdist(part, others, compute_mode="donot_use_mm_for_euclid_dist") for others in (real, generated)
        )
        nearby = far <= reach.kthvalue(k + 1, dim=1, keepdim=True).values  # k + 1: the nearest is the image itself
        covered.append(nearby.any(1))
    return torch.cat(covered).double().mean().item()


def _root(cov: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
