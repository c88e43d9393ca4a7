"""Reports as tables: a CSV with a line per question, one with a line per student, and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from ..handed_in.read import one_line
from ..records import Report, best
from .cells import number, table


def questions_csv(reports: Iterable[Report]) -> str:
    """One line per submission and question, and a last one per submission whose question is "total"."""
    rows = []
    for report in reports:
        found = [(s.quiz, number(s.points), s.out_of, s.status, _line(s.message)) for s in report.scores]
        found += [("total", number(report.points), report.out_of, report.status, _line(" · ".join(report.notes)))]
        rows += [(report.student, report.notebook, *one, report.name) for one in found]
    return table(["student", "notebook", "question", "points", "out_of", "status", "message", "file"], rows)


def totals_csv(reports: Sequence[Report]) -> str:
    """One line per student: points by notebook, and in all. Of several files for one notebook the best counts."""
    counted = best(reports)
    notebooks = sorted({notebook for _, notebook in counted})
    rows = []
    for student in sorted({report.student for report in reports}):
        own = {each: counted[student, each].points for each in notebooks if (student, each) in counted}
        cells = [number(own[each]) if each in own else "" for each in notebooks]
        rows.append([student, *cells, number(sum(own.values()))])
    return table(["student", *(f"notebook {each}" for each in notebooks), "points"], rows)


def as_json(reports: Iterable[Report], about: Mapping[str, object]) -> str:
    """Everything, for programs."""
    extra = [
        asdict(report) | {"points": report.points, "out_of": report.out_of, "status": report.status}
        for report in reports
    ]
    return json.dumps(dict(about) | {"submissions": extra}, indent=1, ensure_ascii=False) + "\n"


def _line(text: str) -> str:
    return one_line(text, 4000)
