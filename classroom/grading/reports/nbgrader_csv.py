"""Scores in the form of `nbgrader export`, which gradebooks and scripts elsewhere read."""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Report, best
from .cells import table

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
    counted, students = best(reports), sorted({report.student for report in reports})
    most: dict[str, int] = {}
    for report in reports:
        if report.notebook:
            most[report.notebook] = max(report.out_of, most.get(report.notebook, 0))
    rows = []
    for notebook in sorted(most):
        for student in students:
            report = counted.get((student, notebook))
            score = float(report.points) if report else 0.0
            name = (names or {}).get(notebook, notebook)
            rows.append([name, "", "", student, "", "", "", score, 0.0, score, float(most[notebook])])
    return table(COLUMNS, rows)
