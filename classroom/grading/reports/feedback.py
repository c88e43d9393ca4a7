"""A student's page: numbers and titles as the notebooks have them, points, and advice. Nothing hidden is on it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from .. import course
from ..records import UNTOUCHED, Report, Score, best
from .cells import number
from .markup import document, sentence, text

WORDS = {
    "ok": "right",
    "wrong": "not right yet",
    "partly": "in part",
    "missing": "not answered",
    "timeout": "took too long",
    "crashed": "crashed",
    "unreadable": "could not be read",
}


def page(student: str, reports: Sequence[Report]) -> str:
    """A student's page. It has no inputs, no expected values and no solutions in it."""
    counted = list(best(reports).values())
    others = [report for report in reports if not any(report is each for each in counted)]
    parts = [_total(counted), *map(_section, counted), *map(_other, others)]
    return document(f"Feedback for {student}", STYLE, "\n".join(filter(None, parts)))


def page_name(student: str) -> str:
    """A file name for any student's name: readable, and never the same for two of them, capitals or not.

    >>> page_name("ada")
    'ada'
    >>> page_name("../Ada L.")
    'Ada-L-9ea6abe71cd00be6'
    """
    plain = re.sub(r"[^\w]+", "-", student, flags=re.ASCII).strip("-")[:60]
    if plain == student.lower() and not re.search(r"-[0-9a-f]{16}$", plain):
        return plain
    return f"{plain}-{hashlib.sha256(student.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _total(counted: Sequence[Report]) -> str:
    """The points of all notebooks together and, where there are several, of each."""
    if not counted:
        return ""
    line = f"<p class=lead>{_points(sum(r.points for r in counted), sum(r.out_of for r in counted))}"
    if len(counted) == 1:
        return line + "</p>"
    each = "".join(f"<li>{_points(r.points, r.out_of)} · {_notebook(r)}</li>" for r in counted)
    return f"{line} in {len(counted)} notebooks</p>\n<ul>{each}</ul>"


def _section(report: Report) -> str:
    return f"<section>\n<h2>{_notebook(report)}</h2>\n{_found(report)}\n</section>"


def _other(report: Report) -> str:
    """A file that does not count: there is a better one, or nobody can tell for which notebook it is."""
    file = text(PurePosixPath(report.name).name)
    if not report.notebook:
        return f"<section>\n<h2>{file}</h2>\n{_found(report)}\n</section>"
    summary = f"{file}: another file counts for notebook {text(report.notebook)}"
    return f"<section>\n<details><summary>{summary}</summary>{_found(report)}</details>\n</section>"


def _found(report: Report) -> str:
    points = f"<p>{_points(report.points, report.out_of)}</p>" if report.scores else ""
    notes = "".join(f"<p class=note>{sentence(note)}</p>" for note in report.notes)
    return "\n".join([points + notes, *map(_item, report.scores)])


def _item(score: Score) -> str:
    heading = text(course.headings().get(score.quiz, score.quiz))
    said = "" if score.message == UNTOUCHED else f"<p>{sentence(score.message)}</p>"
    return (
        f"<article class={score.status}><h3>{heading} <small>{text(score.quiz)}</small></h3>"
        f"<p class=verdict><b>{WORDS[score.status]}</b> · {number(score.points)} of {score.out_of}</p>"
        f"{said}</article>"
    )


def _notebook(report: Report) -> str:
    return f"Notebook {text(course.notebook_titles().get(report.notebook, report.notebook))}"


def _points(points: int | float, out_of: int) -> str:
    return f"<span class=number>{number(points)} of {out_of} points</span>"


STYLE = """\
article { display: grid; grid-template-columns: 1fr auto; gap: 0 1rem; padding: .6rem 0;
  border-bottom: 1px solid var(--line) }
article p { margin: 0 } article > p:nth-child(3) { grid-column: 1 / -1 }
h3 small { font-weight: 400 } .verdict { text-align: right; white-space: nowrap }
.ok b { color: var(--right) } .wrong b { color: var(--wrong) } .missing b { color: var(--soft) }
.timeout b, .crashed b, .unreadable b { color: var(--stopped) }
@media (max-width: 34rem) { article { grid-template-columns: 1fr } .verdict { text-align: left } }
"""
