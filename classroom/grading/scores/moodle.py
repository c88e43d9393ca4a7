"""Moodle, in two ways: an assignment's offline grading worksheet, and the gradebook's export and import as CSV.

The worksheet has Identifier ("Participant 123"), Full name, Email address, Status, Grade, Maximum Grade, Grade can be
changed, Last modified (grade), Feedback comments. The gradebook has First name, Last name (once Surname), ID number,
Email address, and "Assignment: Title (Real)" for each activity.
"""

from __future__ import annotations

import re

from .form import Column, Form, amount, filled_lines, present
from .sheet import Sheet


def form(sheet: Sheet) -> Form | None:
    """The form of a worksheet or a gradebook; None if the table is neither."""
    return _worksheet(sheet) or _gradebook(sheet)


def _worksheet(sheet: Sheet) -> Form | None:
    identifier, grade = sheet.column("Identifier"), sheet.column("Grade")
    if identifier is None or grade is None:
        return None
    lines, most, can = filled_lines(sheet), sheet.column("Maximum Grade"), sheet.column("Grade can be changed")
    worth = amount(sheet[lines[0], most]) if lines and most is not None else None
    return Form(
        "Moodle's worksheet",
        lines,
        present(identifier, *map(sheet.column, ("Full name", "ID number", "Username", "Email address"))),
        None,
        [Column(grade, sheet.titles[grade], sheet.titles[grade], worth)],
        sheet.column("Feedback comments"),
        frozenset(line for line in lines if can is not None and sheet[line, can].strip().casefold() == "no"),
    )


def _gradebook(sheet: Sheet) -> Form | None:
    first, last = sheet.column("First name"), sheet.column("Last name", "Surname")
    titles = [(place, title) for place, title in enumerate(sheet.titles) if title.endswith("(Real)")]
    if not titles or first is None or last is None:
        return None
    points = [
        Column(place, title, re.sub(r"^[^:]*:\s*|\s*\(Real\)$", "", title))
        for place, title in titles
        if not title.startswith(("Course total", "Category total")) and not title.endswith(" total (Real)")
    ]
    names = present(*map(sheet.column, ("ID number", "Username", "Email address")))
    return Form("Moodle's gradebook", filled_lines(sheet), names, (first, last), points)
