"""What the parts of the grader hand to each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .handed_in.python import Code


@dataclass(frozen=True)
class Submission:
    """One notebook that somebody handed in.

    student: who;  notebook: the number, "03", or "" where nobody can tell;  name: the path as the instructor knows it;
    text: the file's bytes, None where they could not be had;  trouble: why not, in one line.
    """

    student: str
    notebook: str
    name: str
    text: bytes | None = None
    trouble: str = ""


@dataclass(frozen=True)
class Answer:
    """One answer cell, None where there is none; `note` says what was odd about where it stood."""

    quiz: str
    code: Code | None
    note: str = ""

    @property
    def source(self) -> str | None:
        """The cell as Python takes it."""
        return None if self.code is None else self.code.source


@dataclass(frozen=True)
class Question:
    """One code quiz as the sandbox gets it: an answer cell, inputs, and nothing that gives the answer away.

    id: of the quiz;  name: of the function or class asked for;  source: the answer cell;  notebook: "03", whose
    prelude the cell builds upon;  request: from `request_wire`;  supplied: name -> Python source that binds it (the
    course's own versions of *other* quizzes' functions that the answer mentions);  forbidden: dotted names of library
    functions that would answer the quiz, made unusable while this answer runs.
    """

    id: str
    name: str
    source: str
    notebook: str
    request: bytes
    supplied: Mapping[str, str] = field(default_factory=dict)
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came out of the sandbox for one question: bytes for `results_from_wire`, or what went wrong.

    trouble: "" | "timeout" | "crashed" | "missing" (no function of that name);  detail: one line about it.
    """

    data: bytes | None
    trouble: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Score:
    """One question's score. status: a key of `feedback.WORDS`;  message: for the student, and shows nothing hidden."""

    quiz: str
    points: int | float
    out_of: int
    status: str
    message: str


@dataclass(frozen=True)
class Report:
    """All scores of one submission, and notes about what was odd about the file."""

    student: str
    notebook: str
    name: str
    scores: tuple[Score, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> int | float:
        return sum(score.points for score in self.scores)

    @property
    def out_of(self) -> int:
        return sum(score.out_of for score in self.scores)


def best(reports: Iterable[Report]) -> dict[tuple[str, str], int | float]:
    """(student, notebook) -> points: of several files for one notebook the best counts, those of none for nothing."""
    found: dict[tuple[str, str], int | float] = {}
    for report in reports:
        if report.notebook:
            key = report.student, report.notebook
            found[key] = max(report.points, found.get(key, 0))
    return found
