"""What the parts of the grader hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

UNREAD = ("unreadable", "crashed")  # of a whole file: nothing is known of its answers
UNTOUCHED = "Not answered yet."  # the message of a score where nothing is


class Trouble(Exception):
    """Why a file is not read, in one line."""


@dataclass(frozen=True)
class Submission:
    """One notebook that somebody handed in, without its bytes: a class of them is listed, and one at a time is read.

    student: who, never the same for two;  notebook: the number, "03", or "" where nobody can tell;  name: the path as
    the instructor knows it;  trouble: why it cannot be read, in one line;  notes: what else was odd about where it lay;
    source: gives the bytes.
    """

    student: str
    notebook: str
    name: str
    trouble: str = ""
    notes: tuple[str, ...] = ()
    source: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)

    def load(self) -> bytes:
        """The notebook's bytes, without its outputs.  Trouble, with a line for the report, where they are not had."""
        if self.trouble or self.source is None:
            raise Trouble(self.trouble or "the file could not be read")
        return self.source()


@dataclass(frozen=True)
class Answer:
    """What answers one quiz, as plain data.

    source: the answer cell, as Python takes it, None where there is none;  above: source that runs before it, with what
    it needs from other cells;  all_above: the same with all that the student has above, since not everything that an
    answer needs can be seen without running it, "" where that is no more;  note: what was odd about where it stood;
    lacks: what it seems to need and is nowhere;  untouched: still as handed out;  letter: what answers a question, ""
    if nothing does;  needs: names of the notebook's other quizzes that it wants as `check` would have given them;
    lends: source that binds its own name, where another answer wants that;  order: of a question's options, as its
    check cell tells it, "cadb", "" where it tells none, None without such a cell;  trouble: why Python cannot read it,
    or "".
    """

    quiz: str
    source: str | None
    above: str = ""
    all_above: str = ""
    note: str = ""
    lacks: str = ""
    untouched: bool = False
    letter: str = ""
    needs: tuple[str, ...] = ()
    lends: str = ""
    order: str | None = None
    trouble: str = ""


@dataclass(frozen=True)
class Question:
    """One code quiz as the sandbox gets it: an answer cell, inputs, and nothing that gives the answer away.

    id: of the quiz;  name: of the function or class asked for;  source: the answer cell;  notebook: "03", whose
    prelude the cell builds upon;  requests: from `request_wire`, one a case;  above: source that runs before the cell,
    the student's own too;  supplied: name -> Python source that binds it, before all that (the course's own versions of
    *other* quizzes' functions that the answer needs);  forbidden: dotted names of library functions that would answer
    the quiz, made unusable while this answer runs.
    """

    id: str
    name: str
    source: str
    notebook: str
    requests: tuple[bytes, ...]
    above: str = ""
    supplied: Mapping[str, str] = field(default_factory=dict)
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came out of the sandbox for one question: a piece of bytes a case, in order, or what went wrong.

    trouble: "" | "timeout" | "crashed" | "missing" (no function of that name);  detail: one line about it.
    """

    data: tuple[bytes, ...] | None
    trouble: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Rules:
    """What a grading is asked to do.

    seed: of the fresh inputs;  order: student -> quiz id -> the order of a question's options, where variants were
    handed out, e.g. "cadb".
    """

    seed: int = 0
    order: Mapping[str, Mapping[str, str]] | None = None


@dataclass(frozen=True)
class Score:
    """One question's score.

    status: a key of `reports.feedback.WORDS`;  message: for the student, and shows nothing hidden.
    For the teacher, each made of our own declarations only, never of what a student's process said, and "" if none:
    misconception: name of the declared one whose results the answer gave;  option: the declaration's letter of the
    option that was chosen;  stage: of `judging.STAGES`, where an answer without points ended, or "not defined".
    """

    quiz: str
    points: int | float
    out_of: int
    status: str
    message: str
    misconception: str = ""
    option: str = ""
    stage: str = ""


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

    @property
    def status(self) -> str:
        """All of it in one of the words of a question: "ok", "partly", or what holds for all of its questions."""
        found = {score.status for score in self.scores}
        if not found:
            return "unreadable"
        if len(found) == 1:
            return found.pop()
        return "partly" if self.points else "wrong"


def best(reports: Iterable[Report]) -> dict[tuple[str, str], Report]:
    """(student, notebook) -> the report that counts: of several files for one notebook the first with most points.

    Files that belong to no notebook count for nothing. One that could not be read comes behind those that could.
    """
    found: dict[tuple[str, str], Report] = {}
    for report in reports:
        if report.notebook:
            known = found.setdefault((report.student, report.notebook), report)
            if (report.points, report.status != "unreadable") > (known.points, known.status != "unreadable"):
                found[report.student, report.notebook] = report
    return found
