"""Blackboard: Grade Center, Work Offline, Download and Upload: tabs, in UTF-16, in a file called .xls or .csv.

Its columns are Last Name, First Name, Username, Student ID, Last Access, Availability, then for each item
"Title [Total Pts: 27 Score] |12345".
"""

from __future__ import annotations

import re

from .form import Column, Form, amount, filled_lines, parts, present
from .sheet import Sheet

_ITEM = re.compile(r"(?P<name>.*?)\s*\[Total Pts:\s*(?:up to\s*)?(?P<most>[\d.,]*)[^]]*\]\s*\|\d+")


def form(sheet: Sheet) -> Form | None:
    """The form of a grade center; None if the table is none."""
    items = [(place, match) for place, title in enumerate(sheet.titles) if (match := _ITEM.fullmatch(title))]
    if sheet.column("Username") is None or not items:
        return None
    points = [Column(place, match[0], match["name"], amount(match["most"])) for place, match in items]
    names = present(*map(sheet.column, ("Username", "Student ID")))
    apart = parts(sheet.column("First Name"), sheet.column("Last Name"))
    return Form("Blackboard", filled_lines(sheet), names, apart, points)
