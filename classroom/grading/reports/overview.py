"""What a class has and has not understood, counted. Of several files of a student for one notebook the best counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..handed_in.people import alike
from ..records import UNREAD, Report, Score, best
from ..spelling import plain
from .statistics import Correlation, discrimination

KINDS = ("right", "wrong", "did not run", "stopped", "not answered")


def kind(score: Score) -> str:
    """How a question went, in one of KINDS: "did not run" has no function to call, "stopped" took too long or crashed.

    >>> kind(Score("vae/kl", 0, 5, "timeout", "no answer within the time for a question"))
    'stopped'
    """
    if score.status == "missing":
        return "did not run" if score.stage == "not defined" else "not answered"
    return {"ok": "right", "wrong": "wrong", "timeout": "stopped", "crashed": "stopped"}[score.status]


@dataclass
class Question:
    """How a question went.

    kinds: how many of each of KINDS;  misconceptions, options: how often each was found or chosen, right ones too;
    stages: of wrong answers that are no known misconception, where they failed;  stopped: by "timeout" and "crashed";
    discrimination: None where it cannot be told.
    """

    quiz: str
    kinds: Counter[str] = field(default_factory=Counter)
    misconceptions: Counter[str] = field(default_factory=Counter)
    options: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    stopped: Counter[str] = field(default_factory=Counter)
    discrimination: Correlation | None = None

    @property
    def students(self) -> int:
        """How many handed in the notebook."""
        return self.kinds.total()

    def add(self, score: Score) -> None:
        """Count one student's answer."""
        how = kind(score)
        self.kinds[how] += 1
        if how == "stopped":
            self.stopped[score.status] += 1
        if score.option:
            self.options[score.option] += 1
        elif score.misconception:
            self.misconceptions[score.misconception] += 1
        elif how == "wrong":
            self.stages[score.stage] += 1


@dataclass
class Notebook:
    """How a notebook went. points: of each student who handed it in, lowest first."""

    number: str
    out_of: int
    points: list[int | float]
    questions: list[Question]


@dataclass
class Overview:
    """How a class did. students: who handed in something;  expected: who could have, None where nobody knows;
    words: rule -> students with whom to have a word, each with what it is about, "" where the rule says it all."""

    students: list[str]
    files: int
    expected: list[str] | None
    notebooks: list[Notebook]
    words: dict[str, dict[str, str]]


def overview(reports: Sequence[Report], expected: Collection[str] | None = None) -> Overview:
    """Count.  expected: names on the class list."""
    counted = best(reports)
    numbers = sorted({number for _, number in counted})
    students = sorted({report.student for report in reports})
    known = None if expected is None else sorted(set(expected))
    notebooks = [_notebook(number, [r for (_, n), r in counted.items() if n == number]) for number in numbers]
    read = [notebook for notebook in notebooks if notebook.points]
    return Overview(students, len(reports), known, read, _words(reports, counted, expected))


def _notebook(number: str, reports: Sequence[Report]) -> Notebook:
    read = [report for report in reports if report.status not in UNREAD]
    questions: dict[str, Question] = {}
    for report in read:
        for score in report.scores:
            questions.setdefault(score.quiz, Question(score.quiz)).add(score)
    totals = [report.points for report in read]
    for place, question in enumerate(questions.values()):
        question.discrimination = discrimination([report.scores[place].points for report in read], totals)
    return Notebook(
        number, max((report.out_of for report in read), default=0), sorted(totals), list(questions.values())
    )


# ------------------------------------------------------------------------------------------- with whom to have a word

ABSENT = "on the class list, and nothing handed in"
Counted = Mapping[tuple[str, str], Report]


def _words(reports: Sequence[Report], counted: Counted, expected: Collection[str] | None) -> dict[str, dict[str, str]]:
    here = {plain(report.student) for report in reports}
    found = {ABSENT: {name: "" for name in sorted(expected or ()) if plain(name) not in here}}
    for rule, find in RULES.items():
        found[rule] = {}
        for student, about in sorted(find(reports, counted)):
            found[rule][student] = "; ".join(filter(None, [found[rule].get(student, ""), about]))
    return {rule: students for rule, students in found.items() if students}


def _unreadable(reports: Sequence[Report], counted: Counted) -> Iterator[tuple[str, str]]:
    """... nor another file of theirs for that notebook; or nobody can tell for which it is."""
    for report in counted.values():
        if report.status in UNREAD:
            yield report.student, f"notebook {report.notebook}"
    yield from {(report.student, "a file of no notebook") for report in reports if not report.notebook}


def _nothing(reports: Sequence[Report], counted: Counted) -> Iterator[tuple[str, str]]:
    for report in counted.values():
        if report.status not in UNREAD and all(kind(score) == "not answered" for score in report.scores):
            yield report.student, f"notebook {report.notebook}"


def _few_points(reports: Sequence[Report], counted: Counted) -> Iterator[tuple[str, str]]:
    """... of all that was read of theirs together."""
    read: dict[str, list[Report]] = defaultdict(list)
    for report in counted.values():
        if report.status not in UNREAD:
            read[report.student].append(report)
    for student, own in read.items():
        earned, possible = sum(report.points for report in own), sum(report.out_of for report in own)
        if 2 * earned < possible:
            yield student, f"{earned:g} of {possible}"


def _stopped(reports: Sequence[Report], counted: Counted) -> Iterator[tuple[str, str]]:
    said = {"timeout": "too slow", "crashed": "crashed"}
    for report in counted.values():
        times = Counter(said[score.status] for score in report.scores if score.status in said)
        for what, count in times.items():
            yield report.student, f"notebook {report.notebook}: {count} {what}"


def _several_files(reports: Sequence[Report], counted: Counted) -> Iterator[tuple[str, str]]:
    times = Counter((report.student, report.notebook) for report in reports if report.notebook)
    for (student, number), count in times.items():
        if count > 1:
            yield student, f"notebook {number}: {count} files"


def _several_names(reports: Sequence[Report], counted: Counted) -> Iterator[tuple[str, str]]:
    for names in alike(report.student for report in reports):
        yield from ((name, "") for name in names)


RULES = {
    "a file that could not be read or graded": _unreadable,
    "a notebook with nothing answered": _nothing,
    "less than half of the points": _few_points,
    "answers that took too long or crashed": _stopped,
    "several files for one notebook, of which the best counts": _several_files,
    "a name that could be another student's, spelled otherwise": _several_names,
}
