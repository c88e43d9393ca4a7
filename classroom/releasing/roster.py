"""Read a class list: the names under which students hand in."""

from __future__ import annotations

import csv
import re
import unicodedata
from pathlib import Path

COLUMNS = ("student", "id")
SAFE = re.compile(r"\w(?:[\w .@+-]*[\w@+-])?")  # a folder's name on every system: no slash, no dot at either end
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows has no folders of these names
LONGEST = 100


def read_roster(path: Path) -> list[str]:
    """The students in a CSV file (comma, semicolon or tab), from its column `student` or else `id`, in its order.

    Raises OSError, and ValueError in one line: no such column, no student, a name twice or one that can't be a folder.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected a CSV file in UTF-8; save it anew in that encoding") from None
    head = next((line for line in text.splitlines() if line.strip()), "")
    try:
        rows = list(csv.reader(text.splitlines(), delimiter=max(",;\t", key=head.count), strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}: expected a CSV file: {error}") from None
    numbered = [(i, row) for i, row in enumerate(rows, 1) if any(field.strip() for field in row)]
    titles = [field.strip().lower() for field in numbered[0][1]] if numbered else []
    column = next((titles.index(name) for name in COLUMNS if name in titles), None)
    if column is None:
        have = ", ".join(title for title in titles if title) or "nothing"
        raise ValueError(f"{path}: expected a column 'student' or 'id' in its first line, got {have[:80]}")
    students: dict[str, str] = {}
    for i, row in numbered[1:]:
        name = unicodedata.normalize("NFC", row[column].strip()) if column < len(row) else ""
        _check_name(name, f"{path}:{i}")
        if name.casefold() in students:  # some systems take Ada and ada for one folder
            raise ValueError(f"{path}:{i}: {name!r} is in the list twice; every student needs a name of their own")
        students[name.casefold()] = name
    if not students:
        raise ValueError(f"{path}: expected a student in each line below the titles, got none")
    return list(students.values())


def _check_name(name: str, where: str) -> None:
    if not name:
        raise ValueError(f"{where}: expected a student's name, got nothing")
    if not SAFE.fullmatch(name) or RESERVED.fullmatch(name) or len(name) > LONGEST:
        shown = repr(name if len(name) <= 40 else name[:38] + "…")
        raise ValueError(
            f"{where}: {shown} can't be the name of a folder: expected letters, digits, spaces and . _ - + @, "
            f"at most {LONGEST}, with no dot at either end"
        )
