"""The few statistics that a report on a class needs, with intervals, since classes are small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

ENOUGH = 20  # students; with fewer a correlation says next to nothing


def share_interval(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share after Wilson (1927), which holds for few and for none or all of them too.

    Raises ValueError unless total > 0 and 0 <= count <= total.

    >>> [round(end, 3) for end in share_interval(4, 24)]
    [0.067, 0.359]
    """
    low, high = stats.binomtest(count, total).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


@dataclass(frozen=True)
class Correlation:
    """Pearson's r with its 95 % interval, by Fisher's transformation."""

    r: float
    low: float
    high: float


def discrimination(item: Sequence[int | float], totals: Sequence[int | float]) -> Correlation | None:
    """Corrected item-total correlation: of one question's points with those for all the others, student by student.

    Near 0 a question does not tell strong students from weak ones, below 0 it has them the wrong way round. None for
    fewer than 20 students, and where all of them have the same points, here or for all the others.

    item, totals: one each a student; the question's own points are part of the total.
    """
    rest = [total - own for own, total in zip(item, totals, strict=True)]
    if len(item) < ENOUGH or len(set(item)) == 1 or len(set(rest)) == 1:
        return None
    found = stats.pearsonr(item, rest)
    low, high = found.confidence_interval(0.95)
    return Correlation(float(found.statistic), float(low), float(high))
