"""Whose line is whose. Nobody is guessed: a student has exactly one line, or none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..spelling import plain, squeezed
from .form import Form
from .sheet import Sheet


@dataclass(frozen=True)
class Lines:
    """student -> line;  unknown: on no line;  unsure: on several, or sharing one with another student."""

    of: dict[str, int]
    unknown: list[str]
    unsure: list[str]


def lines_of(sheet: Sheet, form: Form, students: Iterable[str]) -> Lines:
    """The line of each student, found by whatever a platform may have called her in a file's or a folder's name: her
    name, either way round or without blanks (Canvas), her login, number or address, or the part of it before the @."""
    known: dict[str, set[int]] = {}
    for line in form.students:
        for key in _keys(sheet, form, line):
            known.setdefault(key, set()).add(line)
    found = {student: _found(student, known) for student in students}
    times = Counter(line for lines in found.values() if len(lines) == 1 for line in lines)
    of = {student: min(lines) for student, lines in found.items() if len(lines) == 1 and times[min(lines)] == 1}
    unknown = [student for student, lines in found.items() if not lines]
    return Lines(of, unknown, [student for student in found if student not in of and student not in unknown])


def shown(sheet: Sheet, form: Form, line: int) -> str:
    """Whom a line is about, for people to read: "Ada Lovelace"."""
    if form.parts:
        return " ".join(sheet[line, place].strip() for place in form.parts)
    texts = [sheet[line, place].strip() for place in form.names]
    text = next((text for text in texts if " " in text and not re.search(r"\d$", text)), next(filter(None, texts), ""))
    last, comma, first = text.partition(",")
    return f"{first.strip()} {last.strip()}" if comma else text


def _found(student: str, known: dict[str, set[int]]) -> set[int]:
    """A mark behind the name, of those that look alike, is the platform's number where it has one."""
    marked = re.fullmatch(r"(.+) \[(\w+)\]", student)
    if marked is None:
        return known.get(plain(student), set())
    lines = known.get(plain(marked[1]), set())
    return lines & known.get(plain(marked[2]), set()) or lines


def _keys(sheet: Sheet, form: Form, line: int) -> set[str]:
    texts = [sheet[line, place].strip() for place in form.names]
    if form.parts:
        first, last = (sheet[line, place].strip() for place in form.parts)
        texts += [f"{last}, {first}", f"{last} {first}"]
    keys = {plain(text) for text in texts}
    keys |= {plain(text).partition("@")[0] for text in texts if re.fullmatch(r"\S+@\S+", text)}
    keys |= {squeezed(text) for text in texts}  # in Canvas's files "Lovelace, Ada" is "lovelaceada"
    keys |= {match[1] for text in texts if (match := re.fullmatch(r"\D+ (\d+)", text))}  # Moodle's "Participant 123"
    return keys - {""}
