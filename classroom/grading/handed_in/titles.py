"""What the name of a file or folder says of a notebook, and what is left of it when that is taken out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .handed_out import HandedOut

# What teachers call a piece of work, here and elsewhere. What is a name too (Weeks, Blatt) needs a number behind it.
_WORK = "assignment|homework|hw|exercise|problem[ _-]?set|pset|notebook|aufgabe|abgabe|übung|uebung|devoir|tarea"
_NAMES = "ex|ps|week|lab|project|quiz|sheet|task|unit|nb|blatt|woche|semaine|semana|práctica|practica"
_TASK = rf"(?<![^\W\d_])(?:(?:{_WORK})s?[ _-]*\d{{0,3}}|(?:{_NAMES})s?[ _-]*\d{{1,3}})(?![^\W_])"
_NUMBERED = rf"(?<![^\W\d_])(?:{_WORK}|{_NAMES})s?[ _-]*\d{{1,3}}(?![^\W_])"
_EXPORTED = r"[ _-]*(\(\d+\)|submissions?|export|downloads?|\d{8}T\d{6}Z([ _-]\d+)*|\d{2,4}[-_]\d\d[-_]\d\d[\d_-]*)"
_WHOLE_TASK = re.compile(rf"{_TASK}({_EXPORTED})*(\.zip)?", re.IGNORECASE)
_BEFORE = re.compile(rf"({_TASK})[\W_]+(?=[^\W_])", re.IGNORECASE)
_TASK_AT_ENDS = re.compile(rf"^{_NUMBERED}[\W_]+(?=[^\W_])|(?<=[^\W_])[\W_]+{_NUMBERED}$", re.IGNORECASE)
_TASK_LAST = re.compile(rf"(^|[ _.,-]+)({_WORK})s?[ _.,-]*$", re.IGNORECASE)  # right before a notebook's title
_COPY_OF = r"^(copy of|kopie von|copie de|copia de)[ _]"
_COPIES = re.compile(rf"{_COPY_OF}|[ _-]*(\(\d+\)|\bcopy[ _-]*\d*|-copy\d*)[ _-]*$", re.IGNORECASE)
_STATES = re.compile(
    rf"[ _.,-]+(final|finished|draft|solutions?|solved|submission|answers|v\d|untitled\d*|({_WORK})s?)[ _.,-]*$", re.I
)
# With a number behind it, that is somebody's name: "student-03", "group 3".
_ANYBODY = re.compile(
    r"student(in|e|s)?|pupil|learner|participant|group|grp|team|pair|user|person|member|candidate|anon(ymous)?|id|no|nr|"
    r"gruppe|teilnehmer(in)?|groupe|équipe|equipe|étudiante?|etudiante?|grupo|equipo|estudiante|s|g|u|p",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Known:
    """What gives a notebook away: its title in a name, and words in it: marks of its cells, functions asked for."""

    number: str
    title: re.Pattern
    alone: re.Pattern
    marks: frozenset[bytes]


@dataclass(frozen=True)
class Said:
    """What a name says. number: of the notebook, "" for none;  rest: what is left;  bare: nothing but the number stood
    there, which may be a student's as well."""

    number: str
    rest: str
    bare: bool = False


def known(notebooks: Mapping[str, HandedOut]) -> list[Known]:
    """By number; a title counts with its number or without, and may break off behind a word."""
    return [_known(number, notebook) for number, notebook in sorted(notebooks.items())]


def _known(number: str, notebook: HandedOut) -> Known:
    words = [re.escape(word) for word in re.split(r"[\W_]+", notebook.stem) if word and word != number]
    end, between = r"(?![^\W_])", r"[\W_]*"
    alone = rf"(?<![^\W_]){re.escape(number)}{end}"
    short = alone.replace("0", "0?", 1) if number.startswith("0") else alone  # but no copy: "ada (3)"
    begun = ""
    for word in reversed(words):
        begun = rf"(?:{between}{word}{end}{begun})?" if begun else rf"(?:{between}{word}{end})?"
    title = [rf"{alone}{begun.removesuffix('?')}"] if words else []
    if len(words) > 1:
        title.append(rf"(?<![^\W_]){between.join(words)}{end}")
    marks = notebook.marks | set(notebook.names.values())
    compiled = re.compile("|".join(title) or r"(?!)", re.IGNORECASE)
    return Known(number, compiled, re.compile(rf"(?<!\(){short}"), frozenset(mark.encode() for mark in marks))


def mentioned(name: str, all_known: Iterable[Known]) -> list[Said]:
    """All that a name may say: by a title, the longest first; else by a number that stands alone, the last first.

    >>> notebooks = known({"03": HandedOut("03_forward_diffusion", (), ()), "05": HandedOut("05_training", (), ())})
    >>> [said.rest for said in mentioned("alice_03_forward_diffusion", notebooks)]
    ['alice']
    >>> mentioned("group 05", notebooks), mentioned("alice", notebooks)
    ([Said(number='05', rest='group', bare=True)], [])
    """
    titles = [(match, each) for each in all_known for match in each.title.finditer(name)]
    titles.sort(key=lambda found: found[0].end() - found[0].start(), reverse=True)
    alone = [(match, each) for each in all_known for match in each.alone.finditer(name)]
    alone.sort(key=lambda found: found[0].start(), reverse=True)
    return [Said(each.number, _without(name, match), not titles) for match, each in titles or alone]


def is_anybody(name: str) -> bool:
    """Whether a name stands for anybody until a number follows."""
    return _ANYBODY.fullmatch(name.strip(" _-.,#")) is not None


def is_task(name: str) -> bool:
    """Whether a folder is called after a piece of work, and after nobody.

    >>> [is_task(name) for name in ("Assignment 3", "week-3-submissions", "hw-3-ada", "Weeks", "homework")]
    [True, True, False, False, True]
    """
    return _WHOLE_TASK.fullmatch(name.strip()) is not None


def task_before(name: str) -> str:
    """The piece of work that a name begins with, with what separates it from the rest: "hw3-" of "hw3-ada"."""
    found = _BEFORE.match(name)
    return found[0] if found else ""


def plain(name: str) -> str:
    """A name without what programs add to that of a copy, and people to that of their work.

    >>> [plain(name) for name in ("Copy of ada", "ada copy 2", "ada - Copy (2)", "ada-Copy1", "Copy", "ada_final (1)")]
    ['ada', 'ada', 'ada', 'ada', 'Copy', 'ada']
    >>> plain("Homework 3 - ada"), plain("hw3")
    ('ada', 'hw3')
    """
    before, dash, behind = name.rpartition(" - ")  # as Google Classroom names copies: then the name is whole
    if dash and before and _is_nobody(behind):
        return re.sub(_COPY_OF, "", before, flags=re.IGNORECASE)
    left = name
    for pattern in (_COPIES, _STATES, _TASK_AT_ENDS):
        shorter = pattern.sub("", left)
        left = (shorter.strip(" _-.,") or left) if shorter != left else left
    return left if left == name else plain(left)


def _without(name: str, match: re.Match) -> str:
    before, behind = name[: match.start()], name[match.end() :].strip(" _-.,")
    if before.endswith(" - ") and (not behind or _is_nobody(behind)):
        return re.sub(_COPY_OF, "", before.removesuffix(" - "), flags=re.IGNORECASE)
    rest = f"{_TASK_LAST.sub('', before).strip(' _-.,')} {behind}".strip()
    return "" if rest and _is_nobody(rest) else plain(rest)


def _is_nobody(rest: str) -> bool:
    """Whether nothing is left but words about the work: "copy", "final", "hw"."""
    return is_task(rest) or not plain(f"x {rest}").removeprefix("x").strip(" _-.,")
