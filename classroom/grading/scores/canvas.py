"""Canvas: Gradebook, Export, and Import of the same file.

Its columns are Student, ID, SIS User ID, SIS Login ID, Section, then "Title (number)" for each assignment, and at the
end sums that are read-only; "Points Possible" stands in a line of its own below, sometimes under one about posting.
"""

from __future__ import annotations

import re

from .form import Column, Form, amount, filled_lines, parts, present
from .sheet import Sheet

_ASSIGNMENT = re.compile(r"(.*?)\s*\(\d+\)")  # a teacher's notes and the sums have no number
TEST = "Student, Test"  # who a teacher is when looking at the course as a student would


def form(sheet: Sheet) -> Form | None:
    """The form of a Canvas gradebook; None if the table is none."""
    section = sheet.column("Section")
    if section is None or sheet.column("ID") is None or sheet.titles[0] not in ("Student", "LastName"):
        return None
    lines = filled_lines(sheet)
    worth = next((line for line in lines if "Points Possible" in sheet[line, 0]), None)
    points = []
    for place in range(section + 1, len(sheet.titles)):
        possible = sheet[worth, place] if worth is not None else ""
        if (match := _ASSIGNMENT.fullmatch(sheet.titles[place])) and "read only" not in possible:
            points.append(Column(place, match[0], match[1], amount(possible)))
    return Form(
        "Canvas",
        [line for line in lines if line != worth and sheet[line, 0] != TEST and not _about_posting(sheet, line)],
        present(*map(sheet.column, ("Student", "ID", "SIS User ID", "SIS Login ID"))),
        parts(sheet.column("FirstName"), sheet.column("LastName")),
        points,
    )


def _about_posting(sheet: Sheet, line: int) -> bool:
    texts = [sheet[line, column].strip() for column in range(len(sheet.lines[line]))]
    return all(re.fullmatch(r"(Muted|Manual Posting.*)?", text) for text in texts)
