"""From reports and a platform's own file to the file that it imports."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import course
from ..handed_in.read import one_line
from ..records import UNREAD, Report, best
from ..reports.cells import counted, number
from . import blackboard, canvas, gradescope, moodle, table
from .form import Column, Form, amount
from .people import Lines, lines_of, shown
from .sheet import NoTable, Sheet

PLATFORMS = (canvas, moodle, blackboard, gradescope)  # each knows its own; the first that does is believed


@dataclass(frozen=True)
class Opened:
    """A platform's file, looked at before anything is graded. targets: columns, each with the notebooks it is for."""

    path: Path
    sheet: Sheet
    form: Form
    targets: Sequence[tuple[Column, tuple[str, ...]]]


@dataclass(frozen=True)
class Filled:
    """What is to be imported. name: of its file;  said: lines for the teacher;  expected: names on this class list, as
    reports have them where they do."""

    name: str
    data: bytes
    said: list[str]
    expected: list[str]


def opened(path: Path, column: str | None, notebooks: Collection[str]) -> Opened:
    """Read a platform's file.

    column: title of the one for the points of all notebooks together; where None is given, each notebook has one whose
    title names it, or there is only one.  notebooks: numbers of those that are graded.
    Raises OSError, and ValueError with one line: no table, nobody's, or no column that could be meant.
    """
    try:
        sheet = Sheet.read(path.read_bytes())
    except NoTable as reason:
        raise ValueError(f"{path}: {reason}") from None
    form = next((found for platform in PLATFORMS if (found := platform.form(sheet))), None)
    form = form or (table.form(sheet) if column else None)
    if form is None or not form.students:
        titles = ", ".join(one_line(title, 30) for title in sheet.titles[:8])
        raise ValueError(
            f"{path}: expected a class list or gradebook as Canvas, Moodle, Blackboard or Gradescope exports it, or "
            f"else the title of a column for points behind the file; got a table with the columns {titles}"
        )
    return Opened(path, sheet, form, _targets(path, form, column, sorted(notebooks)))


def fill(source: Opened, reports: Sequence[Report]) -> Filled:
    """Write the points into the platform's file. Whoever handed in nothing readable keeps what stands there."""
    own: dict[str, list[Report]] = {report.student: [] for report in reports}
    for report in best(reports).values():
        if report.status not in UNREAD:
            own[report.student].append(report)
    lines = lines_of(source.sheet, source.form, sorted(own))
    here = {line: own[student] for student, line in lines.of.items()}
    names = {line: student for student, line in lines.of.items()}
    expected = [names.get(line) or shown(source.sheet, source.form, line) for line in source.form.students]
    if source.form.platform == gradescope.NAME:
        name, data = "gradescope.zip", gradescope.autograder(source.sheet, here)
        said = [f"an autograder for Gradescope, with the results of {counted(len(here), 'student')}"]
    else:
        worth = {report.notebook: report.out_of for report in reports if report.status not in UNREAD}
        name, (data, said) = source.path.name, _filled(source, here, worth)
    return Filled(name, data, said + _about_people(source, lines, own), expected)


def _filled(source: Opened, own: Mapping[int, Sequence[Report]], worth: Mapping[str, int]) -> tuple[bytes, list[str]]:
    """own: line of a student -> her reports;  worth: points of each notebook."""
    sheet, form, said = Sheet.read(bytes(source.sheet)), source.form, []
    comma = _has_commas(sheet, form)
    for column, notebooks in source.targets:
        out_of = sum(worth.get(number, 0) for number in notebooks)
        factor, written = (column.most / out_of if column.most and out_of else 1), 0
        for line in form.students:
            counts = [report for report in own.get(line, ()) if report.notebook in notebooks]
            if counts and _is_free(sheet, form, line, column):
                points = f"{round(factor * sum(report.points for report in counts), 2):g}"
                sheet[line, column.place] = points.replace(".", ",") if comma else points
                written += 1
                if form.comment is not None and not sheet[line, form.comment].strip():
                    sheet[line, form.comment] = _comment(counts)
        said.append(_about_column(column, notebooks, written, out_of))
    lacking = sorted(set(worth) - {number for _, notebooks in source.targets for number in notebooks})
    said += [f"no column of {source.path.name} names notebook {number}: its points are not in it" for number in lacking]
    return bytes(sheet), said


def _is_free(sheet: Sheet, form: Form, line: int, column: Column) -> bool:
    """Whether points may be written there: nothing, a dash or points stand there, and no word such as Canvas's EX."""
    now = sheet[line, column.place].strip()
    return line not in form.locked and (now in ("", "-") or amount(now) is not None)


def _has_commas(sheet: Sheet, form: Form) -> bool:
    """Whether its numbers have a comma where others have a point."""
    columns = [column for column in range(len(sheet.titles)) if column not in form.names]
    return any(
        re.fullmatch(r"\s*\d+,\d{1,2}\s*", sheet[line, column]) for line in range(1, len(sheet)) for column in columns
    )


# ---------------------------------------------------------------------------------------------------- which columns


def _targets(
    path: Path, form: Form, column: str | None, notebooks: Sequence[str]
) -> Sequence[tuple[Column, tuple[str, ...]]]:
    if column is not None:
        return [(_chosen(path, form, column), tuple(notebooks))]
    if form.platform == gradescope.NAME:
        return []
    found = [(each, tuple(n for n in notebooks if _is_named(n, each.name))) for each in form.points]
    found = [(each, named) for each, named in found if named]
    named = [number for _, numbers in found for number in numbers]
    if len(named) != len(set(named)):
        twice = next(number for number in named if named.count(number) > 1)
        raise ValueError(
            f"{path}: several columns name notebook {twice}; say which one behind the file: {_titles(form)}"
        )
    if found:
        return found
    if len(form.points) == 1:
        return [(form.points[0], tuple(notebooks))]
    raise ValueError(
        f"{path}: no column names a notebook; say behind the file for which the points are: {_titles(form)}"
    )


def _chosen(path: Path, form: Form, wanted: str) -> Column:
    """By its whole title, or by what people call it."""
    key = wanted.strip().casefold()
    found = [each for each in form.points if key in (each.title.strip().casefold(), each.name.strip().casefold())]
    if len(found) != 1:
        how = "several columns are" if found else "no column for points is"
        raise ValueError(f"{path}: {how} called {one_line(wanted, 40)!r}; it has {_titles(form)}")
    return found[0]


def _is_named(notebook: str, title: str) -> bool:
    """Whether a column is a notebook's. A number alone, of a week or a date, says nothing.

    >>> _is_named("03", "Notebook 3"), _is_named("03", "nb03"), _is_named("03", "03 Forward diffusion (late)")
    (True, True, True)
    >>> _is_named("03", "Week 03"), _is_named("03", "Notebook 13"), _is_named("03", "due 2026-03-02")
    (False, False, False)
    """
    stem = re.sub(r"[\W_]+", r"[\\W_]+", course.handed_out()[notebook].stem)
    return bool(re.search(rf"\b(?:notebook|nb)[\W_]*0*{int(notebook)}\b|\b{stem}", title, re.IGNORECASE))


def _titles(form: Form) -> str:
    shown = [repr(one_line(column.name, 40)) for column in form.points]
    return ", ".join(shown[:12]) + (", …" if len(shown) > 12 else "") if shown else "no column for points"


# --------------------------------------------------------------------------------------------------------- in words


def _comment(reports: Sequence[Report]) -> str:
    """A line for the student, without markup: the points, and the numbers of the quizzes that brought none."""
    parts = []
    for report in reports:
        numbers = {score.quiz: course.headings()[score.quiz].partition(" ")[0] for score in report.scores}
        lost = [numbers[score.quiz] for score in report.scores if not score.points]
        rest = f"; without points: {', '.join(lost)}" if lost else ""
        parts.append(f"Notebook {report.notebook}: {number(report.points)} of {report.out_of} points{rest}.")
    return " ".join(parts)


def _about_column(column: Column, notebooks: Sequence[str], written: int, out_of: int) -> str:
    what = f"notebook{'' if len(notebooks) == 1 else 's'} {', '.join(notebooks)}"
    scaled = column.most and column.most != out_of
    how = f", the {out_of} points scaled to the column's {number(column.most)}" if scaled else ""
    return f"column {one_line(column.title, 60)!r}: {what}, {counted(written, 'student')}{how}"


def _about_people(source: Opened, lines: Lines, own: Mapping[str, Sequence[Report]]) -> list[str]:
    sheet, form = source.sheet, source.form
    held = [
        student
        for student, line in lines.of.items()
        if any(not _is_free(sheet, form, line, column) for column, _ in source.targets)
    ]
    said = {
        f"on no line of {source.path.name}": lines.unknown,
        f"on several lines of {source.path.name}, or on one that could be another's": lines.unsure,
        "left as they are, since no file of theirs could be read": [who for who in lines.of if not own[who]],
        "left as they are, since they are locked or have a word where points go": held,
    }
    found = [f"{what}: {', '.join(students)}" for what, students in said.items() if students]
    nothing = len(form.students) - len(lines.of)
    return found + ([f"left as they are, since nothing was handed in: {counted(nothing, 'line')}"] if nothing else [])
