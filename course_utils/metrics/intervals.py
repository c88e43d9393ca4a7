"""How sure a share is."""

from typing import NamedTuple

from scipy.stats import binomtest

from ..arrays import is_whole


class Interval(NamedTuple):
    """Both ends of a confidence interval."""

    low: float
    high: float


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's confidence interval of a share, equation (9.7), as of wrong answers in a game: within [0, 1].

    All shares p with |p̂ − p| ≤ z √(p (1 − p) / n), p̂ = successes / n and z the normal quantile (1.96 for 95 %): its
    ends are (p̂ + z²/2n ± z √(p̂ (1 − p̂) / n + z²/4n²)) / (1 + z²/n). Wilson 1927. Not empty at p̂ = 0 and 1, as
    p̂ ± z √(p̂ (1 − p̂) / n) would be. Raises ValueError unless 0 ≤ successes ≤ n, n ≥ 1 and level is in (0, 1).

    >>> low, high = wilson_interval(10, 20)
    >>> print(f"{low:.3f} to {high:.3f}")
    0.299 to 0.701
    """
    if not is_whole(n, least=1) or not is_whole(successes, least=0) or successes > n:
        raise ValueError(f"expected whole numbers 0 ≤ successes ≤ n, n ≥ 1, got {successes!r} and {n!r}.")
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, such as 0.95, got {level!r}.")
    found = binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return Interval(float(found.low), float(found.high))
