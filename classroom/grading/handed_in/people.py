"""Who is who. Names come as folders, file names and entries of zips have them, and two students never share one."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .platforms import Student
from .read import one_line

_MARKED = re.compile(r"\[[^]]*\]$")
_ALIKE = str.maketrans(  # letters of other alphabets, dashes and quotes that look like ours
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухΑΒΕΖΗΙΚΜΝΟΡΤΥΧον‐–—−‘’ʼ`´",
    "ABESIJKMHOPCTYXaesijopcyxABEZHIKMNOPTYXov----'''''",
)
_PLAIN = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})


def told_apart(students: Iterable[Student]) -> dict[Student, tuple[str, str]]:
    """Student -> the name for tables and pages, and a note, "" for most.

    No two students get the same: where names are different and look the same, a mark stands behind each that is not
    written in the plainest way. (The one that is keeps its name, which class lists have.)

    >>> told_apart([("ada", ""), ("Ada", "")])
    {('Ada', ''): ('Ada', ''), ('ada', ''): ('ada', '')}
    >>> told_apart([("Bob", "17"), ("Bob", "23")])["Bob", "23"]
    ('Bob [23]', "this name looks like another student's: the mark [23] tells them apart")
    """
    shown = {student: unicodedata.normalize("NFC", one_line(student[0], 120)) or "?" for student in sorted(students)}
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
    return people


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of names that could be one person's: nothing tells them apart but how they are written.

    >>> alike(["Ada Lovelace", "lovelace, ada", "Zoë", "Zoe", "Grace"])
    [('Ada Lovelace', 'lovelace, ada'), ('Zoe', 'Zoë')]
    """
    groups: list[set[str]] = []
    forms: dict[str, set[str]] = {}
    for name in dict.fromkeys(names):
        group = {name}
        for form in _forms(name):
            group |= forms.get(form, set())
        groups = [other for other in groups if not other & group] + [group]
        forms |= {form: group for each in group for form in _forms(each)}
    return sorted(tuple(sorted(group)) for group in groups if len(group) > 1)


def on_list(names: Iterable[str], listed: Iterable[str]) -> dict[str, str]:
    """Name of a student -> the one name of a class list that it stands for; without those for whom none or several do.

    Platforms spell names in their own ways: Canvas's `lovelaceada` is "Lovelace, Ada", Moodle leaves out apostrophes.

    >>> on_list(["lovelaceada", "Pat ONeil", "Ada"], ["Lovelace, Ada", "Pat O'Neil", "ada", "ADA"])
    {'lovelaceada': 'Lovelace, Ada', 'Pat ONeil': "Pat O'Neil"}
    """
    by_name: dict[str, set[str]] = {}
    for each in listed:
        for form in (each, *_folded(each)):
            by_name.setdefault(form, set()).add(each)
    found = {}
    for name in names:
        exact, *looser = [name, *_folded(name)]
        same = {exact} & by_name.get(exact, set()) or by_name.get(looser[0], set())
        same = same or set().union(*(by_name.get(form, set()) for form in looser))
        if len(same) == 1:
            found[name] = min(same)
    return found


def _folded(name: str) -> list[str]:
    """The same in other letters and blanks, and then all its forms. The first begins with a sign that no form has."""
    return [f"={_unmarked(name).casefold()}", *sorted(_forms(name))]


def _marks(students: Sequence[Student], shown: Mapping[Student, str]) -> dict[Student, str]:
    """The platform's number, or some letters of a digest: all where somebody took pains to be taken for another."""
    digests = {student: hashlib.sha256(repr(student).encode()).hexdigest() for student in students}
    marks = {student: one_line(student[1], 40) or digest[:6] for student, digest in digests.items()}
    return marks if len({(shown[student], mark) for student, mark in marks.items()}) == len(students) else digests


def _look(name: str) -> str:
    """The same for names that nobody tells apart, or a spreadsheet does not: it hides a quote at the beginning."""
    return unicodedata.normalize("NFKC", name).translate(_ALIKE).lstrip("' ")


def _unmarked(name: str) -> str:
    return _MARKED.sub("", one_line(name, 1000)).strip()


def _forms(name: str) -> set[str]:
    """How a name reads without accents, capitals, blanks and signs, each of its words taken for the first."""
    name = _unmarked(name)
    for encoding in ("cp1252", "latin-1"):  # "MÃ¼ller": UTF-8 that somebody has taken for something else
        try:
            name = name.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    folded = unicodedata.normalize("NFKD", _look(name).casefold().translate(_PLAIN))
    folded = "".join(letter for letter in folded if not unicodedata.combining(letter)).replace("'", "")
    words = re.findall(r"[^\W_]+", folded)[:8]
    return {"".join(words[at:] + words[:at]) for at in range(len(words))}
