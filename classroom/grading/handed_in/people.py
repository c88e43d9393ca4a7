"""Who is who. Names come as folders, file names and entries of zips have them, and two students never share one."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .read import one_line

Student = tuple[str, str]  # the name as written, and Moodle's number

_MOODLES = re.compile(r"(.*)_(\d+)_assignsubmission_\w*", re.DOTALL)
_MARKED = re.compile(r"\[[^]]*\]$")
_ALIKE = str.maketrans(  # letters of other alphabets, dashes and quotes that look like ours
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухΑΒΕΖΗΙΚΜΝΟΡΤΥΧον‐–—−‘’ʼ`´",
    "ABESIJKMHOPCTYXaesijopcyxABEZHIKMNOPTYXov----'''''",
)


def told_apart(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Name as written -> the student's name for tables and pages, and a note, "" for most.

    No two students get the same: where names are different and look the same, a mark stands behind each that is not
    written in the plainest way. (The one that is keeps its name, which class lists have.)

    >>> told_apart(["ada", "Ada"])
    {'Ada': ('Ada', ''), 'ada': ('ada', '')}
    >>> told_apart(["Bob_17_assignsubmission_file", "Bob_23_assignsubmission_file"])["Bob_23_assignsubmission_file"]
    ('Bob [23]', "this name looks like another student's: the mark [23] tells them apart")
    """
    students = {name: _student(name) for name in sorted(names)}
    shown = {student: unicodedata.normalize("NFC", one_line(student[0], 120)) or "?" for student in students.values()}
    times = Counter(map(_look, shown.values()))
    people = {student: (name, "") for student, name in shown.items()}
    marked = []
    for student, name in shown.items():
        plain = student == (_look(name), "") and not _MARKED.search(name)
        if times[_look(name)] > 1 and plain:
            people[student] = name, "another student's name looks like this one's: that one has a mark behind it"
        elif times[_look(name)] > 1 or _MARKED.search(name):
            marked.append(student)
    for student, mark in _marks(marked, shown).items():
        note = f"this name looks like another student's: the mark [{mark}] tells them apart"
        people[student] = f"{shown[student]} [{mark}]", note
    return {name: people[student] for name, student in students.items()}


def _marks(students: Sequence[Student], shown: Mapping[Student, str]) -> dict[Student, str]:
    """Moodle's number, or some letters of a digest: all of them where somebody took pains to be taken for another."""
    digests = {student: hashlib.sha256(repr(student).encode()).hexdigest() for student in students}
    marks = {student: student[1] or digest[:6] for student, digest in digests.items()}
    return marks if len({(shown[student], mark) for student, mark in marks.items()}) == len(students) else digests


def _student(name: str) -> Student:
    """Of Moodle's "Ada Lovelace_12345_assignsubmission_file" the part that people go by, and the number."""
    moodles = _MOODLES.fullmatch(name)
    return (moodles[1], moodles[2]) if moodles else (name, "")


def _look(name: str) -> str:
    """The same for names that nobody tells apart, or a spreadsheet does not: it hides a quote at the beginning."""
    return unicodedata.normalize("NFKC", name).translate(_ALIKE).lstrip("' ")
