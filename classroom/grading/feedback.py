"""Reports as files: a CSV with a line per question, one with a line per student, JSON, and a page for each student."""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from course_utils.files import write_whole

from . import course
from .handed_in.read import one_line
from .nbgrader_csv import harmless, nbgrader_csv
from .records import Report, best

WORDS = {
    "ok": "right",
    "wrong": "not right yet",
    "partly": "in part",
    "missing": "not answered",
    "timeout": "took too long",
    "crashed": "crashed",
    "unreadable": "could not be read",
}


def write_all(reports: Sequence[Report], out: Path, about: dict[str, object]) -> list[Path]:
    """Write everything beside `out` ("grades.csv") and return where; about: seed, version and such, for the JSON."""
    tables = {
        out: questions_csv(reports),
        out.with_name(f"{out.stem}-totals.csv"): totals_csv(reports),
    }
    for_programs = {
        out.with_name(f"{out.stem}-nbgrader.csv"): nbgrader_csv(reports),
        out.with_name(f"{out.stem}.json"): as_json(reports, about),
    }
    folder = out.with_name(f"{out.stem}-feedback")
    students = sorted({report.student for report in reports})
    own = {student: [report for report in reports if report.student == student] for student in students}
    pages = {folder / f"{page_name(student)}.html": page(student, own[student]) for student in students}
    for path, text in (tables | for_programs | pages).items():
        write_whole(path, text.encode("utf-8-sig" if path in tables else "utf-8"))  # Excel reads no UTF-8 without
    return [*tables, *for_programs, folder]


def status(report: Report) -> str:
    """A whole submission in one of the words of a question: "ok", "partly", or what holds for all of its questions."""
    found = {score.status for score in report.scores}
    if not report.scores:
        return "unreadable"
    if len(found) == 1:
        return found.pop()
    return "partly" if report.points else "wrong"


def questions_csv(reports: Iterable[Report]) -> str:
    """One line per submission and question, and a last one per submission whose question is "total"."""
    rows = []
    for report in reports:
        found = [(s.quiz, _plain(s.points), s.out_of, s.status, _line(s.message)) for s in report.scores]
        found += [("total", _plain(report.points), report.out_of, status(report), _line(" · ".join(report.notes)))]
        rows += [(report.student, report.notebook, *one, report.name) for one in found]
    return _csv(["student", "notebook", "question", "points", "out_of", "status", "message", "file"], rows)


def totals_csv(reports: Sequence[Report]) -> str:
    """One line per student: points by notebook, and in all. Of several files for one notebook the best counts."""
    points = best(reports)
    numbers = sorted({notebook for _, notebook in points})
    rows = []
    for student in sorted({report.student for report in reports}):
        own = {number: points[student, number] for number in numbers if (student, number) in points}
        cells = [_plain(own[number]) if number in own else "" for number in numbers]
        rows.append([student, *cells, _plain(sum(own.values()))])
    return _csv(["student", *(f"notebook {number}" for number in numbers), "points"], rows)


def as_json(reports: Iterable[Report], about: dict[str, object]) -> str:
    """Everything, for programs."""
    extra = [
        asdict(report) | {"points": report.points, "out_of": report.out_of, "status": status(report)}
        for report in reports
    ]
    return json.dumps(about | {"submissions": extra}, indent=1, ensure_ascii=False) + "\n"


def page(student: str, reports: Sequence[Report]) -> str:
    """A student's page: titles, points and advice. It has no inputs, no expected values and no solutions in it."""
    return PAGE.format(student=html.escape(student), body="\n".join(map(_section, reports)))


def page_name(student: str) -> str:
    """A file name for any student's name: readable, and never the same for two of them, capitals or not.

    >>> page_name("ada")
    'ada'
    >>> page_name("../Ada L.")
    'Ada-L-9ea6abe71cd00be6'
    """
    plain = re.sub(r"[^\w]+", "-", student, flags=re.ASCII).strip("-")[:60]
    if plain == student.lower() and not re.search(r"-[0-9a-f]{16}$", plain):
        return plain
    return f"{plain}-{hashlib.sha256(student.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _section(report: Report) -> str:
    notes = "".join(f"<p class=note>{html.escape(_line(note))}</p>" for note in report.notes)
    rows = "\n".join(
        f"<tr class={score.status}><td>{_title(score.quiz)}<td>{_plain(score.points)} of {score.out_of}"
        f"<td>{WORDS[score.status]}<td>{_with_code(_line(score.message))}</tr>"
        for score in report.scores
    )
    heading = f"Notebook {report.notebook}" if report.notebook else PurePosixPath(report.name).name
    return (
        f"<h2>{html.escape(heading)}: {_plain(report.points)} of {report.out_of} points</h2>\n{notes}\n"
        f"<table><tr><th>question<th>points<th><th>what was found</tr>\n{rows}\n</table>"
    )


def _title(quiz: str) -> str:
    return f"{html.escape(course.titles()[quiz])}<br><small>{html.escape(quiz)}</small>"


def _with_code(text: str) -> str:
    """A sentence. Text between backticks is code; everything else is text, whatever may stand in it."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text[:1].upper() + text[1:]))


def _line(text: str) -> str:
    return one_line(text, 4000)


def _plain(points: int | float) -> str:
    return f"{points:g}"


def _csv(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([harmless(value) for value in row] for row in rows)
    return file.getvalue()


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Feedback for {student}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.15rem; margin-top: 2.5rem }}
table {{ border-collapse: collapse; width: 100% }}
th {{ text-align: left; font-weight: 600; color: #666 }}
th, td {{ padding: .45rem .8rem .45rem 0; border-bottom: 1px solid #e5e5e5; vertical-align: top }}
td:nth-child(2), td:nth-child(3) {{ white-space: nowrap }}
.ok td:nth-child(3) {{ color: #1b7f3b }} .wrong td:nth-child(3), .timeout td:nth-child(3) {{ color: #b3261e }}
.crashed td:nth-child(3), .unreadable td:nth-child(3) {{ color: #b3261e }} .missing td:nth-child(3) {{ color: #777 }}
small {{ color: #777 }}
.note {{ background: #fff6e0; padding: .5rem .8rem; border-radius: 4px }}
code {{ background: #f3f3f3; padding: 0 .25em; border-radius: 3px }}
</style>
<h1>Feedback for {student}</h1>
{body}
</html>
"""
