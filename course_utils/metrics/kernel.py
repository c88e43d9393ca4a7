"""The kernel distance: a squared distance of two distributions that small samples don't bias."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy.stats import t as student
from torch import Tensor

from .checks import two_sets

ROWS = 500  # of a table of kernels at once, so that its memory is bounded


class KernelDistance(NamedTuple):
    """value: the estimate of MMD², which may be below 0;  low, high: ends of its confidence interval."""

    value: float
    low: float
    high: float


def kernel_distance(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], level: float = 0.95) -> KernelDistance:
    """Squared maximum mean discrepancy with the kernel k(x, y) = (x·y / d + 1)³, without bias: equation (9.2).

    It estimates E k(x, x') + E k(y, y') − 2 E k(x, y), over all pairs of different rows: "KID" (Bińkowski et al.
    2018, arXiv:1801.01401). real: (n, d), generated: (m, d), n, m ≥ 3. Its mean over many draws is right for any n,
    so for equal distributions the value falls below 0 about as often as above. The interval is value ± t · s: s² is
    the jackknife's variance, each row of both sets left out once, and t Student's quantile for min(n, m) − 1.
    Measured on Gaussians with known truth, n = m = 150, 400 draws: the 95 % interval holds it in 94 to 97 % with 8
    or 64 features if the distributions differ in mean, in 99 to 100 % if they are equal (too wide rather than too
    narrow); in 91 % with a single feature, whose sixth powers have heavy tails. Raises ValueError for other shapes,
    features that are not finite, and a level outside (0, 1).

    >>> a, b = torch.randn(2, 500, 8, generator=torch.Generator().manual_seed(0))
    >>> same, moved = kernel_distance(a, b), kernel_distance(a, b + 0.5)
    >>> same.low < 0 < same.high, 0 < moved.low < moved.value < moved.high
    (True, True)
    """
    real, generated = two_sets("kernel_distance", real, generated, least=3)
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, such as 0.95, got {level!r}.")
    n, m = len(real), len(generated)
    across, back = _sums(real, generated), _sums(generated, real)
    among_real, among_generated = (_sums(x, x) - (x.square().mean(1) + 1) ** 3 for x in (real, generated))
    within = among_real.sum() / (n * (n - 1)), among_generated.sum() / (m * (m - 1))
    value = (within[0] + within[1] - 2 * across.sum() / (n * m)).item()
    variance = _jackknife(among_real, across, m) + _jackknife(among_generated, back, n)
    reach = student.ppf((1 + level) / 2, min(n, m) - 1) * variance**0.5
    return KernelDistance(value, float(value - reach), float(value + reach))


def _sums(x: Tensor, y: Tensor) -> Tensor:
    """For each row of x, the sum of its kernels with all rows of y: (n,)."""
    return torch.cat([(part @ y.T / x.shape[1] + 1).pow(3).sum(1) for part in x.split(ROWS)])


def _jackknife(among: Tensor, across: Tensor, others: int) -> float:
    """The variance that one set brings. among, across: (n,), each row's sum of kernels with the rest of its set, and
    with the other set, which has `others` rows."""
    n = len(among)
    left_out = (among.sum() - 2 * among) / ((n - 1) * (n - 2)) - 2 * (across.sum() - across) / ((n - 1) * others)
    return ((n - 1) / n * (left_out - left_out.mean()).square().sum()).item()
