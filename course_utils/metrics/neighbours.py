"""Quality and variety apart, by nearest neighbours: are samples near real images, are real images near samples?

A *ball* stands around each image of a set and reaches to its k-th nearest other one of that set. What lies on its edge
is inside. Distances are Euclidean; tables of them are made in parts, so that memory is bounded.
"""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..arrays import is_whole
from .checks import in_double, two_sets

TABLE = 5_000_000  # distances held at once: 40 MB
LARGE_SHARE = 0.25  # of all images: balls that hold more than this span what they are to tell apart
SPARE = 8  # more candidates than asked for, since products tell close points apart only nearly


def precision(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], k: int = 3) -> float:
    """Quality: the share of generated images inside the ball of some real one, in [0, 1], equation (9.4).

    Kynkäänniemi et al. 2019 (arXiv:1904.06991). One row of features per image: real (n, d), n > k; generated (m, d).
    One real outlier has a huge ball, which makes poor images pass: see `density`. Warns where k > 1 is over n / 4
    (better n ≥ 10 k: for classes to count, a ball must be smaller than a class). Raises ValueError for other shapes.

    >>> data = torch.tensor([[0.0], [1.0], [2.0]])
    >>> precision(data, torch.tensor([[0.5], [2.5], [4.0], [9.0]]), k=1)        # balls reach from −1 to 3
    0.5
    """
    real, generated, k = _sets("precision", real, generated, k, balls=real)
    return _reached(real, generated, k)


def recall(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], k: int = 3) -> float:
    """Variety: the share of real images inside the ball of some generated one, in [0, 1], equation (9.4).

    Kynkäänniemi et al. 2019 (arXiv:1904.06991): `precision` with the sets exchanged, so m > k. Generated images that
    are scattered widely have large balls and score well: `coverage` puts the balls around the real ones. Warns as
    `precision` does, of m. Raises ValueError for other shapes.

    >>> recall(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), torch.tensor([[0.0], [1.0]]), k=1)
    0.75
    """
    real, generated, k = _sets("recall", real, generated, k, balls=generated)
    return _reached(generated, real, k)


def density(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], k: int = 5) -> float:
    """Quality: in how many real images' balls a generated image lies on average, divided by k, equation (9.5).

    Naeem et al. 2020 (arXiv:2002.09797). An outlier's ball counts as one only, so it can't lift all as it lifts
    `precision`. From 0 up: about 1 if both are of one distribution, more where samples crowd in dense regions.
    real: (n, d), n > k; generated: (m, d). Warns as `precision` does. Raises ValueError for other shapes.

    >>> density(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [9.0]]), k=1)       # in 3 balls, and in none
    1.5
    """
    real, generated, k = _sets("density", real, generated, k, balls=real)
    return sum(inside.sum().item() for inside in _inside(real, generated, k)) / (k * len(generated))


def coverage(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], k: int = 5) -> float:
    """Diversity: the share of real images that have a generated one nearby, in [0, 1], equation (7.4).

    "Nearby" is no farther than the k-th nearest other real image (Naeem et al. 2020, equation 6). One row of features
    per image, n > k, m ≥ 1. Generated images that are as good as real ones reach about 1 − 2⁻ᵏ if n = m, not 1.
    Warns as `precision` does. Raises ValueError for other shapes.

    >>> two_heaps = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    >>> coverage(two_heaps, torch.tensor([[1.0], [1.5], [2.0]]), k=1)        # one heap was forgotten
    0.5
    """
    real, generated, k = _sets("coverage", real, generated, k, balls=real)
    return torch.cat([inside.any(1) for inside in _inside(real, generated, k)]).double().mean().item()


class Nearest(NamedTuple):
    """distances: (n, count), Euclidean, rising, float64;  indices: (n, count), which rows these are, int64."""

    distances: Tensor
    indices: Tensor


def nearest(points: Float[Tensor, "n ..."], among: Float[Tensor, "m ..."], count: int = 1) -> Nearest:
    """For each image (or row of features), the `count` nearest ones of another set, nearest first.

    points: (n, ...), among: (m, ...), of one kind, flattened;  count: in 1..m. A point that stands in both sets is its
    own nearest. Candidates are found by matrix products, and their distances taken as differences, which are exact
    where points are close; of several at one distance any may come first. Raises ValueError for other shapes or counts.

    >>> found = nearest(torch.tensor([[0.9], [4.0]]), torch.tensor([[0.0], [1.0], [3.0]]), count=2)
    >>> found.indices.tolist(), [[round(x, 3) for x in row] for row in found.distances.tolist()]
    ([[1, 0], [2, 1]], [[0.1, 0.9], [1.0, 3.0]])
    """
    if points.shape[1:] != among.shape[1:] or min(points.ndim, among.ndim) < 2 or not len(points):
        got = f"{tuple(points.shape)} and {tuple(among.shape)}"
        raise ValueError(f"nearest expects points (n, ...) and among (m, ...), alike but in number, got {got}.")
    if not is_whole(count, least=1) or count > len(among):
        raise ValueError(f"count: expected a whole number in 1..{len(among)} (there are {len(among)}), got {count!r}.")
    points, among = (in_double(x.flatten(1)) for x in (points, among))
    middle = among.mean(0)
    norms = (among - middle).square().sum(1)
    parts = []
    for part in points.split(_rows(among)):
        nearly = norms - 2 * (part - middle) @ (among - middle).T  # |x − y|² less |x|², the same for all y
        candidates = nearly.topk(min(count + SPARE, len(among)), largest=False).indices
        exact = torch.stack([(part - among[column]).norm(dim=1) for column in candidates.T], dim=1)
        distances, order = exact.sort(dim=1, stable=True)
        parts.append((distances[:, :count], candidates.gather(1, order)[:, :count]))
    return Nearest(*(torch.cat(column) for column in zip(*parts)))


def copies(
    generated: Float[Tensor, "n ..."], training: Float[Tensor, "m ..."], ratio: float = 1 / 3
) -> Bool[Tensor, " n"]:
    """Which generated images are copies, equation (9.6): much nearer to one training image than to others. (n,), bool.

    Distance to the nearest training image < ratio · distance to the second nearest, in pixels, with 1/3 (Yoon et al.
    2023, "Diffusion probabilistic models generalize when they fail to memorize"; Gu et al. 2023, arXiv:2310.02664). An
    exact copy is one in any case; otherwise a copy of an image that stands in the training set twice goes unseen, so
    take duplicates out first. generated: (n, ...), training: (m, ...), m ≥ 2;  ratio: in (0, 1). Raises ValueError.

    >>> training = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    >>> copies(torch.tensor([[0.1, 0.0], [1.5, 0.0], [4.0, 0.0]]), training)
    tensor([ True, False,  True])
    """
    if not 0 < ratio < 1:
        raise ValueError(f"ratio: expected a number between 0 and 1, such as 1/3, got {ratio!r}.")
    first, second = nearest(generated, training, count=2).distances.T
    return (first < ratio * second) | (first == 0)


def _sets(who: str, real: Tensor, generated: Tensor, k: int, balls: Tensor) -> tuple[Tensor, Tensor, int]:
    """Both sets in float64, and k; a warning where balls of k of the n in `balls` are too large to mean anything."""
    real, generated = two_sets(who, real, generated, least=1)
    n = len(balls)
    if not is_whole(k, least=1) or k >= n:
        raise ValueError(f"k: expected a whole number in 1..{n - 1} (there are {n}), got {k!r}.")
    if k > max(1, LARGE_SHARE * n):
        warnings.warn(
            f"{who}: balls that reach to {k} of {n} images tell little; take a smaller k or more.", stacklevel=3
        )
    return real, generated, k


def _reached(centres: Tensor, others: Tensor, k: int) -> float:
    """The share of `others` inside of a ball around some centre."""
    reached = torch.zeros(len(others), dtype=torch.bool, device=others.device)
    for inside in _inside(centres, others, k):
        reached |= inside.any(0)
    return reached.double().mean().item()


def _inside(centres: Tensor, others: Tensor, k: int) -> Iterator[Tensor]:
    """Is this one (column) in the ball of that centre (row)? Some centres at a time."""
    for part in centres.split(_rows(centres if len(centres) > len(others) else others)):
        reach = _distances(part, centres).kthvalue(k + 1, dim=1, keepdim=True).values  # the nearest is the image itself
        yield _distances(part, others) <= reach


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")  # differences: exact where points are close


def _rows(columns: Tensor) -> int:
    return max(1, TABLE // max(1, len(columns)))
