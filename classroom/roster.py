"""Read a class list as a learning platform exports it: the names under which its students hand in."""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FIRST = ("first name", "firstname", "given name", "vorname", "prénom", "nombre")
_LAST = ("last name", "lastname", "surname", "family name", "nachname", "nom", "nom de famille", "apellido(s)")
_FULL = ("name", "full name", "fullname", "vollständiger name", "nom complet", "nombre completo")
_CANVAS = ("sis user id", "sis login id", "section", "root account")
_BLACKBOARD = ("student id", "last access", "availability", "child course id")
# Lines that Canvas and Google Classroom put among the students.
_NOBODY = {"points possible", "student, test", "points", "date", "class average"}


@dataclass(frozen=True)
class Roster:
    """A class. names: of the students, each once, in the list's order;  about: in one line, how they were read."""

    names: tuple[str, ...]
    about: str = ""


@dataclass(frozen=True)
class _Choice:
    """The columns that hold the names. are_ids: each student has an entry of their own;  why: for whom it is told."""

    columns: tuple[int, ...]
    are_ids: bool = False
    why: str = ""


def read_roster(path: Path, column: str | None = None) -> Roster:
    """The students in a table (comma, semicolon or tab; UTF-8, UTF-16 or Latin-1).

    column: whose entries are the names, or several, with + between them; without it, the columns under whose names
    the platform that made the table delivers what was handed in.
    Raises OSError, and ValueError in one line: no such column, no student, one without a name, an id twice.
    """
    (_, titles), *rows = _rows(path) or [(1, [])]
    choice = _asked_for(titles, column, path) if column else _usual(titles, path)
    titled = " + ".join(titles[place] for place in choice.columns)
    names: dict[str, str] = {}
    namesakes = []
    for line, row in rows:
        row = row + [""] * (len(titles) - len(row))
        name = _plain(" ".join(row[place] for place in choice.columns)) or _instead(titles, row)
        if name.casefold() in _NOBODY or not _is_students(titles, row):
            continue
        if not name:
            raise ValueError(f"{path}:{line}: expected a student's name in the column {titled}, got nothing")
        if name.casefold() in names and choice.are_ids:
            raise ValueError(f"{path}:{line}: {name!r} is in the list twice; every student needs a name of their own")
        namesakes += [name] if name in names.values() else []
        names.setdefault(name if not choice.are_ids else name.casefold(), name)
    if not names:
        raise ValueError(f"{path}: expected a student in each line below the titles, got none")
    said = f"names from the column{'s' if len(choice.columns) > 1 else ''} {titled}{choice.why}"
    same = f"; several students share a name: {', '.join(dict.fromkeys(namesakes))}" if namesakes else ""
    return Roster(tuple(names.values()), said + same)


# ------------------------------------------------------------------------------------------------------- which columns


def _asked_for(titles: Sequence[str], column: str, path: Path) -> _Choice:
    lower = [title.lower() for title in titles]
    wanted = [column] if column.strip().lower() in lower else column.split("+")
    places = tuple(lower.index(each.strip().lower()) for each in wanted if each.strip().lower() in lower)
    if len(places) < len(wanted):
        raise ValueError(f"{path}: expected --column as one of its titles, {_listed(titles)}; got {column!r}")
    named = {*_FIRST, *_LAST, *_FULL}
    return _Choice(places, are_ids=not any(lower[place] in named for place in places))


def _usual(titles: Sequence[str], path: Path) -> _Choice:
    """The first of these that is there; a platform is known by its other columns."""
    lower = [title.lower() for title in titles]

    def place(names: Sequence[str]) -> int | None:
        return next((lower.index(name) for name in names if name in lower), None)

    def has(*names: str) -> bool:
        return place(names) is not None

    first, last, full = place(_FIRST), place(_LAST), place(_FULL)
    if has("student") and has(*_CANVAS):
        return _Choice((lower.index("student"),), why=" (Canvas writes them in one, in small letters)")
    if has("student", "id"):
        return _Choice((place(("student", "id")),), are_ids=True)
    if has("github_username"):
        return _Choice((lower.index("github_username"),), are_ids=True, why=" (GitHub names folders by these)")
    if has("username") and has(*_BLACKBOARD):
        return _Choice((lower.index("username"),), are_ids=True, why=" (Blackboard names files by these)")
    if first is not None and last is not None:
        return _Choice((first, last), why=" (as Moodle, Gradescope and Google Classroom name submissions)")
    if full is not None:
        return _Choice((full,))
    login = place(("username", "login", "identifier", "email", "email address"))
    if login is not None:
        return _Choice((login,), are_ids=True)
    expected = "expected a column of names in its first line: student, id, First name and Last name, Name, Username"
    raise ValueError(f"{path}: {expected}; got {_listed(titles)} (--column says which one it is)")


def _listed(titles: Sequence[str]) -> str:
    return ", ".join(title for title in titles if title)[:200] or "nothing"


def _is_students(titles: Sequence[str], row: Sequence[str]) -> bool:
    """Where the list says who is what, whether this is a student; and not a line in which Canvas has only remarks."""
    roles = [entry.strip().lower() for title, entry in zip(titles, row) if title.lower() == "role"]
    return all(role in ("", "student", "learner") for role in roles) and not _is_remark(titles, row)


def _is_remark(titles: Sequence[str], row: Sequence[str]) -> bool:
    known = [entry for title, entry in zip(titles, row) if title.lower() in ("student", "id", *_CANVAS)]
    return any(title.lower() in _CANVAS[:2] for title in titles) and not any(entry.strip() for entry in known)


def _instead(titles: Sequence[str], row: Sequence[str]) -> str:
    """What GitHub Classroom's list calls a student who has not linked an account yet."""
    if "github_username" not in (title.lower() for title in titles):
        return ""
    return _plain(next((entry for title, entry in zip(titles, row) if title.lower() == "identifier"), ""))


# ---------------------------------------------------------------------------------------------------------- the table


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that hold something, with their numbers; the titles first."""
    text = _decoded(path.read_bytes(), path)
    head, _, rest = text.partition("\n")
    delimiter = ""
    if head.strip().lower().startswith("sep=") and len(head.strip()) == 5:  # a line for Excel
        delimiter, text = head.strip()[4], rest
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = delimiter or max(",;\t", key=head.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}: expected a CSV file: {error}") from None
    numbered = [(line, row) for line, row in enumerate(rows, 1) if any(entry.strip() for entry in row)]
    return [(line, [_plain(title) for title in row]) for line, row in numbered[:1]] + numbered[1:]


def _decoded(data: bytes, path: Path) -> str:
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise ValueError(f"{path}: expected a CSV file, got a spreadsheet: save it as CSV")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    for encoding, zeros in (("utf-16-le", data[1:400:2]), ("utf-16-be", data[0:400:2])):
        if zeros and zeros.count(0) > len(zeros) / 2:
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")  # Excel's, in most of the West


def _plain(entry: str) -> str:
    """One line in composed letters, as the grader shows a name."""
    shown = "".join(letter if letter.isprintable() else " " for letter in unicodedata.normalize("NFC", entry))
    return " ".join(shown.split())
