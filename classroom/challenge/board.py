"""The board: who is where, as far as the error bars say so. As text, as CSV, and the rows to beat in a file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from course_utils.files import write_whole

from ..grading.reports.cells import table
from .records import BUDGETS, Row, Score

SURE = 1.96  # standard errors of a difference: 95 %
MEANING = """\
mean: the geometric mean of the three. A place counts those whose mean is lower by more than a 95 % interval of the
difference, so that rows share a place which the number of images cannot tell apart."""


def places(rows: Sequence[Row]) -> dict[str, int]:
    """Name -> place of each submission that has a score for every budget. It depends on no order.

    >>> row = lambda name, d, error: Row(name, dict.fromkeys(BUDGETS, Score(d, error)), {})
    >>> places([row("ada", 4.0, 0.3), row("ben", 4.1, 0.3), row("eve", 9.0, 0.3)])
    {'ada': 1, 'ben': 1, 'eve': 3}
    """
    means = {row.name: row.mean for row in rows if row.mean is not None and not row.reference}
    return {name: 1 + sum(_is_lower(other, mean) for other in means.values()) for name, mean in means.items()}


def _is_lower(a: Score, b: Score) -> bool:
    """Is a's distance lower than b's by more than chance explains? Compared as ratios, as means are made."""
    spread = math.hypot(a.error / max(a.distance, 1e-9), b.error / max(b.distance, 1e-9))
    return math.log(max(b.distance, 1e-9) / max(a.distance, 1e-9)) > SURE * spread


def in_order(rows: Sequence[Row]) -> list[Row]:
    """The best first, those without all scores last, and among these by name."""
    return sorted(rows, key=lambda row: (row.mean is None, row.mean.distance if row.mean else 0.0, row.name))


def text(rows: Sequence[Row], title: str) -> str:
    """The board for a terminal."""
    place = places(rows)
    lines = [("place", "name", *(_evaluations(budget) for budget in BUDGETS), "mean")]
    for row in in_order(rows):
        cells = [_score(row.scores[budget]) if budget in row.scores else "–" for budget in BUDGETS]
        number = "" if row.reference else str(place.get(row.name, "–"))
        lines.append((number, row.name + " (to beat)" * row.reference, *cells, _score(row.mean) if row.mean else "–"))
    widths = [max(map(len, column)) for column in zip(*lines)]
    drawn = [
        f"{number:>{widths[0]}}  {name:{widths[1]}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(cells, widths[2:]))
        for number, name, *cells in lines
    ]
    return "\n".join([title, "", *drawn, "", MEANING, *_fouls(rows)]) + "\n"


def _fouls(rows: Sequence[Row]) -> Iterator[str]:
    """Why scores are missing; once, where it is the same for every budget."""
    found = [(row.name, row.fouls) for row in in_order(rows) if row.fouls]
    if found:
        yield "\nnot counted:"
    for name, fouls in found:
        if len(fouls) == len(BUDGETS) and len(set(fouls.values())) == 1:
            yield f"  {name}: {fouls[BUDGETS[0]]}"
        else:
            yield from (f"  {name}, {_evaluations(budget)}: {foul}" for budget, foul in sorted(fouls.items()))


def as_csv(rows: Sequence[Row]) -> str:
    """A line for each row: place, name, and for each budget the distance, its standard error, and why there is none."""
    place = places(rows)
    header = ["place", "name", "reference", "mean", "mean_error"]
    for budget in BUDGETS:
        header += [f"d2_{budget}", f"error_{budget}", f"foul_{budget}"]
    lines = []
    for row in in_order(rows):
        line = [place.get(row.name, ""), row.name, "yes" if row.reference else "no", *_numbers(row.mean)]
        for budget in BUDGETS:
            line += [*_numbers(row.scores.get(budget)), row.fouls.get(budget, "")]
        lines.append(line)
    return table(header, lines)


def _numbers(score: Score | None) -> tuple[str, str]:
    return ("", "") if score is None else (f"{score.distance:.4g}", f"{score.error:.2g}")


def _score(score: Score) -> str:
    return f"{score.distance:.1f} ± {score.error:.1f}"


def _evaluations(budget: int) -> str:
    return f"{budget} evaluation{'s' * (budget > 1)}"


# ---------------------------------------------------------------------------------------------------- the rows to beat


def read_references(path: Path, about: dict[str, object]) -> list[Row]:
    """The rows to beat, if the file was made in the same way (judge, data set, number of images); else none."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    if kept["about"] != about:
        return []
    scores = {
        name: {int(budget): Score(*score) for budget, score in found.items()} for name, found in kept["rows"].items()
    }
    return [Row(name, found, {}, reference=True) for name, found in scores.items()]


def write_references(path: Path, about: dict[str, object], rows: Sequence[Row]) -> None:
    """These rows, and those of other names that were there."""
    kept = {row.name: row for row in (*read_references(path, about), *rows) if row.scores}
    found = {
        name: {str(budget): [round(s.distance, 4), round(s.error, 4)] for budget, s in sorted(row.scores.items())}
        for name, row in sorted(kept.items())
    }
    content = json.dumps({"about": about, "rows": found}, indent=1, ensure_ascii=False) + "\n"
    write_whole(path, content.encode())
