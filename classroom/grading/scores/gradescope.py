"""Gradescope: it imports no points, but it runs autograders, and takes what they write.

So the file for it is an autograder that grades nothing: it looks up who has submitted and hands out the results that
are there already. For a programming assignment upload the zip under Configure Autograder and choose Regrade All
Submissions. See gradescope-autograders.readthedocs.io: Autograder Specifications, Submission Metadata.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence

from .. import course
from ..records import Report
from .form import Form, filled_lines, parts, present
from .sheet import Sheet

NAME = "Gradescope"
ADDRESS = ("Email", "Email Address")

SETUP = """#!/usr/bin/env bash
apt-get update && apt-get install -y python3
"""

RUN = '''#!/usr/bin/env python3
"""Hands out results that were made elsewhere: each submitter's, found by the address."""

import json
import pathlib
import sys

here = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/autograder")
users = json.loads((here / "submission_metadata.json").read_text(encoding="utf-8"))["users"]
results = json.loads((here / "source" / "scores.json").read_text(encoding="utf-8"))
found = [results[key] for key in (user["email"].strip().lower() for user in users) if key in results]
nothing = {"score": 0, "output": "There is no score for this address: please tell your instructor."}
(here / "results").mkdir(exist_ok=True)
(here / "results" / "results.json").write_text(json.dumps(found[0] if found else nothing), encoding="utf-8")
'''


def form(sheet: Sheet) -> Form | None:
    """The form of a roster or of exported grades; None if the table is neither."""
    sid, email = sheet.column("SID"), sheet.column(*ADDRESS)
    apart = parts(sheet.column("First Name"), sheet.column("Last Name"))
    name = sheet.column("Name", "Full Name")
    if sid is None or email is None or (apart is None and name is None):
        return None
    return Form(NAME, filled_lines(sheet), present(name, sid, email), apart, [])


def autograder(sheet: Sheet, own: Mapping[int, Sequence[Report]]) -> bytes:
    """The zip. own: line of a student -> her reports;  whoever has none gets no result from it."""
    address = sheet.column(*ADDRESS)
    emails = {line: sheet[line, address].strip().lower() for line in own}
    results = {emails[line]: result(reports) for line, reports in own.items() if reports and emails[line]}
    files = {"setup.sh": SETUP, "run_autograder": RUN, "scores.json": json.dumps(results, indent=1, ensure_ascii=False)}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0))  # the same bytes for the same scores
            entry.external_attr = (0o644 if name.endswith(".json") else 0o755) << 16
            archive.writestr(entry, content)
    return data.getvalue()


def result(reports: Sequence[Report]) -> dict:
    """What an autograder writes into results.json: a test for each quiz, with its points and its feedback."""
    tests = []
    for score in (score for report in reports for score in report.scores):
        number, _, title = course.headings().get(score.quiz, score.quiz).partition(" · ")
        points = {"score": score.points, "max_score": score.out_of}
        tests.append({"number": number, "name": title, **points, "output": score.message, "visibility": "visible"})
    return {"score": sum(report.points for report in reports), "visibility": "visible", "tests": tests}
