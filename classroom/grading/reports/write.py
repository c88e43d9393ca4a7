"""All files of a grading, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from course_utils.files import write_whole

from ..records import Report
from .feedback import page, page_name
from .nbgrader_csv import nbgrader_csv
from .tables import as_json, questions_csv, totals_csv


def write_all(
    reports: Sequence[Report],
    out: Path,
    about: Mapping[str, object],
    expected: Collection[str] | None = None,
    names: bool = False,
) -> list[Path]:
    """Write everything beside `out` ("grades.csv") and return where.

    about: seed, version and such, for the JSON;  expected: names on the class list, None where there is none;
    names: whether the page on the class says who.
    """
    from .class_page import class_page  # late, since it takes PyTorch and SciPy

    def beside(ending: str) -> Path:
        return out.with_name(out.stem + ending)

    tables = {out: questions_csv(reports), beside("-totals.csv"): totals_csv(reports)}
    others = {
        beside("-class.html"): class_page(reports, expected, names),
        beside("-nbgrader.csv"): nbgrader_csv(reports),
        beside(".json"): as_json(reports, about),
    }
    folder = beside("-feedback")
    students = sorted({report.student for report in reports})
    own = {student: [report for report in reports if report.student == student] for student in students}
    pages = {folder / f"{page_name(student)}.html": page(student, own[student]) for student in students}
    for path, content in (tables | others | pages).items():
        write_whole(path, content.encode("utf-8-sig" if path in tables else "utf-8"))  # Excel reads no UTF-8 without
    return [*tables, *others, folder]
