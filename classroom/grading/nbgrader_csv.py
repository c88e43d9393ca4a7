"""Scores in the form of `nbgrader export`, which gradebooks and scripts elsewhere read."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

from .handed_in.read import UNSEEN
from .records import Report, best

_SIGNS = r"=+\-@＝＋－＠﹦﹢﹣﹫⁼⁺⁻₌₊₋−"  # as typed, full-width, small, raised, lowered
_QUOTES = "'\"`´‘’‚‛“”„‟«»‹›＇＂"
_NUMBER = r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?\s*(?:[]),;}]|$)"  # up to where a cell ends, or can hold no formula
_FORMULA = re.compile(rf"(^|[,;])([\s{UNSEEN}{_QUOTES}]*+)(?!{_NUMBER})(?=[{_SIGNS}])")
_CONTROLS = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029]")  # line ends and tabs, which may end a cell, among them

COLUMNS = (
    "assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email",
    "raw_score", "late_submission_penalty", "score", "max_score",
)  # fmt: skip


def nbgrader_csv(reports: Iterable[Report], names: dict[str, str] | None = None) -> str:
    """One line per assignment and student, as nbgrader writes it: 0 for who handed nothing in, no penalties.

    An assignment is a notebook. names: what the assignments are called elsewhere, by number ("03"); the number itself
    where none is given.  What the grader cannot know (dates, names, addresses) stays empty. Of several submissions for
    one notebook the best counts; files that belong to no notebook count for nothing.
    """
    reports = list(reports)
    points, students = best(reports), sorted({report.student for report in reports})
    most: dict[str, int] = {}
    for report in reports:
        if report.notebook:
            most[report.notebook] = max(report.out_of, most.get(report.notebook, 0))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for notebook in sorted(most):
        for student in students:
            score = float(points.get((student, notebook), 0))
            name = harmless((names or {}).get(notebook, notebook))
            writer.writerow([name, "", "", harmless(student), "", "", "", score, 0.0, score, float(most[notebook])])
    return table.getvalue()


def harmless(value: object) -> object:
    """Text that a spreadsheet would take for a formula, quoted: students choose file names and raise exceptions.

    Quoted wherever a cell may begin, since a spreadsheet that expects semicolons takes theirs for its own. Numbers stay
    numbers, and lines of text that differ stay different.

    >>> harmless("=1+1"), harmless("f;=1+1"), harmless("-1.5"), harmless("got (2, -1)")
    ("'=1+1", "f;'=1+1", '-1.5', 'got (2, -1)')
    """
    return _FORMULA.sub(r"\1'\2", _CONTROLS.sub(" ", value)) if isinstance(value, str) else value
