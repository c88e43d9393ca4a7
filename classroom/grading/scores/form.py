"""What a platform's table is like: which lines are students', who they are, and where points go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .sheet import Sheet


@dataclass(frozen=True)
class Column:
    """Where points go. title: as in the file;  name: what people call it;  most: points that it is worth there, None if
    the file does not say."""

    place: int
    title: str
    name: str
    most: float | None = None


@dataclass(frozen=True)
class Form:
    """A platform's table.

    platform: its name;  students: lines that are a student's;  names: columns that each tell who it is, by name, number
    or address;  parts: columns of first and last name, where they are apart;  points: columns for points;
    comment: for a word with them, None where there is none;  locked: of lines that the platform will not change.
    """

    platform: str
    students: Sequence[int]
    names: Sequence[int]
    parts: tuple[int, int] | None
    points: Sequence[Column]
    comment: int | None = None
    locked: frozenset[int] = frozenset()


def present(*columns: int | None) -> list[int]:
    """The columns that are there."""
    return [column for column in columns if column is not None]


def parts(first: int | None, last: int | None) -> tuple[int, int] | None:
    """Columns of first and last name, if both are there."""
    return None if first is None or last is None else (first, last)


def filled_lines(sheet: Sheet, start: int = 1) -> list[int]:
    """Lines from `start` on in which something stands."""
    return [line for line in range(start, len(sheet)) if any(field.strip() for field in sheet.lines[line])]


def amount(text: str) -> float | None:
    """A number as a platform writes it, with a point or a comma; None for anything else.

    >>> amount("27,50"), amount(" 27.5 "), amount("(read only)"), amount("1,000.00")
    (27.5, 27.5, None, 1000.0)
    """
    text = text.strip()
    if re.fullmatch(r"\d{1,3}(,\d{3})+\.\d+", text):
        text = text.replace(",", "")
    return float(text.replace(",", ".")) if re.fullmatch(r"\d+([.,]\d+)?", text) else None
