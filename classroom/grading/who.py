"""Who has handed in what, in words for the teacher: nobody is merged, split or lost without one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from .handed_in.find import SPELLED, Found, some_of, twice
from .handed_in.layout import WRAPPERS
from .handed_in.people import alike, on_list
from .records import Report, Submission
from .wording import COURSES_ORDER, OTHER_ORDER, OWN_ORDER

Value = TypeVar("Value")

_ABOUT_ORDERS = {
    OWN_ORDER: "options in an order of their own, which their cells tell and --variants FILE would know",
    COURSES_ORDER: "not on the roster of variants, and read in the course's own order of options",
    OTHER_ORDER: "options in another order than was handed out to this student: look whose notebook it is",
}


@dataclass(frozen=True)
class Who:
    """What was found, beside a class list.  listed: its names, None where nobody gave one."""

    found: Found
    listed: Iterable[str] | None = None

    @cached_property
    def students(self) -> list[str]:
        return sorted({each.student for each in self.found.submissions})

    @cached_property
    def on_list(self) -> dict[str, str]:
        """Student -> name on the class list."""
        return on_list(self.students, self.listed or ())

    @property
    def submissions(self) -> list[Submission]:
        """The submissions, with a note where the class list writes the name in another way."""
        return [
            replace(each, notes=(*each.notes, f"on the class list as {listed}"))
            if (listed := self.on_list.get(each.student, each.student)) != each.student
            else each
            for each in self.found.submissions
        ]

    @property
    def absent(self) -> list[str]:
        """Names on the class list under which nothing was handed in."""
        return sorted(set(self.listed or ()) - set(self.on_list.values()))

    @property
    def expected(self) -> list[str]:
        """Everybody on the class list, by the names they handed in under where they did."""
        return [*self.on_list, *self.absent]

    def by_student(self, listed: Mapping[str, Value]) -> dict[str, Value]:
        """The same by the names of those who handed in, as far as they stand there."""
        return {student: listed[name] for student, name in on_list(self.students, listed).items()}

    def counts(self) -> str:
        notebooks = sum(each.source is not None for each in self.found.submissions)
        return f"{_count(len(self.students), 'student')}, {_count(notebooks, 'file')}"

    def lines(self, reports: Sequence[Report]) -> list[str]:
        """What a teacher should look at herself, a line each."""
        lines = [
            f"{student} has {len(names)} files for notebook {number}, of which the best counts: {', '.join(names)}"
            for (student, number), names in sorted(twice(self.found.submissions).items())
        ]
        lines += [f"not read, {student or 'of nobody'}: {names}" for student, names in self._unread()]
        lines += [f"perhaps one person, graded as several: {' / '.join(names)}" for names in alike(self.students)]
        if spelled := sorted({each.student for each in self.found.submissions if SPELLED in each.notes}):
            lines.append(
                f"one person, whose name is written in letters that are the same for Unicode: {some_of(spelled)}"
            )
        if self.found.joined:
            joined = some_of(self.found.joined)
            lines.append(f"taken for one person, by the name in several of Moodle's downloads: {joined}")
        if around := [folder for folder in self.found.around if folder.lower() not in WRAPPERS]:
            lines.append(f"taken for folders around the class, not for students: {'; '.join(around)}")
        for note, what in _ABOUT_ORDERS.items():
            if files := [report.name for report in reports if note in report.notes]:
                lines.append(f"{what}: {some_of(files)}")
        if self.listed is not None:
            spelled = [f"{name} is {listed}" for name, listed in self.on_list.items() if name != listed]
            lines += [f"written otherwise on the class list: {some_of(spelled)}"] if spelled else []
            strangers = [name for name in self.students if name not in self.on_list]
            lines += [f"not on the class list: {'; '.join(strangers)}"] if strangers else []
            lines += [f"nothing handed in by {len(self.absent)}: {'; '.join(self.absent)}"] if self.absent else []
        return lines

    def _unread(self) -> Iterator[tuple[str, str]]:
        """Student and the files that are not read, some by name."""
        for student in sorted({each.student for each in self.found.unread}):
            yield student, some_of([each for each in self.found.unread if each.student == student])

    def as_data(self) -> dict[str, Any]:
        """The same for programs."""
        unread = [{"student": each.student, "file": each.name, "what": each.why} for each in self.found.unread]
        listed = {} if self.listed is None else {"absent": self.absent}
        return {"unread": unread, "alike": alike(self.students)} | listed


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
