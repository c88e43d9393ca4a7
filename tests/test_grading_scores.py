"""Points for learning platforms: the file that was exported comes back filled in, and nothing else in it changes."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import subprocess
import sys
import unicodedata
import zipfile

import pytest

from classroom.grading import plan as planning
from classroom.grading import scores
from classroom.grading.records import Report, Score
from classroom.grading.scores import canvas, gradescope, moodle
from classroom.grading.scores.sheet import NoTable, Sheet
from classroom.grading.spelling import plain

PLANS = planning.plans(planning.NOTEBOOKS)
WORTH = {number: plan.out_of() for number, plan in PLANS.items()}
FULL = WORTH["03"]


def report(student: str, number: str, right: int, status: str = "wrong", name: str = "") -> Report:
    """The first `right` questions are right; the others have this status."""
    marks = [
        Score(task.quiz.id, task.quiz.points, task.quiz.points, "ok", "Passed.")
        if place < right
        else Score(task.quiz.id, 0, task.quiz.points, status, "no")
        for place, task in enumerate(PLANS[number].tasks)
    ]
    return Report(student, number, name or f"{student}/{number}.ipynb", tuple(marks))


def filled(tmp_path, text, reports, column=None, name="export.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    numbers = {report.notebook for report in reports if report.notebook}
    return scores.fill(scores.opened(path, column, numbers), reports)


def points_of(reports, student):
    return sum(report.points for report in reports if report.student == student)


def rows(data: bytes, delimiter=",", encoding="utf-8-sig"):
    return list(csv.reader(io.StringIO(data.decode(encoding), newline=""), delimiter=delimiter))


# -------------------------------------------------------------------------------------------------------------- canvas

# As its Gradebook exports it: assignments "Title (id)", a line about posting, "    Points Possible", sums at the end.
CANVAS = f'''\
Student,ID,SIS User ID,SIS Login ID,Section,Reading (99),Notebook 03 (101),Notebook 5 (102),Current Score,Final Score\r
,,,,,,Manual Posting,,,\r
    Points Possible,,,,,10.00,{FULL}.00,{WORTH["05"]}.00,(read only),(read only)\r
"Lovelace, Ada",11,u-11,ada@example.org,"Sec 1, A",7.00,,,70.00,70.00\r
"O'Neil, Bob ""Bobby""",12,u-12,bob,Sec 2,,3.50,,35.00,35.00\r
"Müller, Jörg",13,u-13,jm,Sec 2,EX,,,,\r
"Student, Test",14,,ff00,Sec 2,,,,,\r
'''


def test_canvas_gets_its_gradebook_back(tmp_path):
    reports = [report("Ada Lovelace", "03", 9), report("Ada Lovelace", "05", 2), report("bob", "03", 4)]
    found = filled(tmp_path, CANVAS, reports, name="canvas.csv")
    expected = rows(CANVAS.encode())
    expected[3][6], expected[3][7], expected[4][6] = (f"{each.points}" for each in reports)
    assert rows(found.data) == expected
    ada, bob = found.data.decode().split("\r\n")[3:5]
    assert ada.startswith('"Lovelace, Ada",11,u-11,ada@example.org,"Sec 1, A",7.00,') and ada.endswith(",70.00,70.00")
    assert bob.startswith('"O\'Neil, Bob ""Bobby""",12,')
    assert found.expected == ["Ada Lovelace", "bob", "Jörg Müller"], "Canvas's Test Student is nobody"
    assert any("nothing was handed in: 1 line" in line for line in found.said)


def test_whatever_is_not_filled_in_is_the_same_byte_for_byte(tmp_path):
    """Quotes, marks, blanks, line ends and all; with nobody in it, the whole file."""
    for data in (
        CANVAS.encode(),
        CANVAS.encode("utf-8-sig"),
        CANVAS.replace("\r\n", "\n").rstrip("\n").encode(),
        CANVAS.replace(",", ";").encode(),
        CANVAS.encode("latin-1"),
        b"\xff\xfe" + CANVAS.encode("utf-16-le"),
    ):
        found = filled(tmp_path, data, [report("nobody", "03", 3)])
        assert found.data == data
        assert "on no line of export.csv: nobody" in found.said


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_only_the_points_change_whatever_the_dialect(delimiter, encoding, tmp_path):
    line = ["Müller, Jörg", "5", "u", "jm", 'S "1"', "", "x"]
    texts = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Notebook 03 (7)", "Notes"], line]
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\r\n").writerows(texts)
    found = filled(tmp_path, file.getvalue(), [report("jm", "03", 2)], encoding=encoding)
    there = rows(found.data, delimiter, encoding)
    assert there == [texts[0], [*line[:5], str(report("jm", "03", 2).points), "x"]]


def test_points_are_scaled_to_what_the_column_is_worth_and_it_is_said(tmp_path):
    text = CANVAS.replace(f"{FULL}.00", "100")
    reports = [report("ada", "03", 9)]
    found = filled(tmp_path, text, reports)
    assert float(rows(found.data)[3][6]) == round(100 * reports[0].points / WORTH["03"], 2)
    assert any(f"the {WORTH['03']} points scaled to the column's 100" in line for line in found.said)


def test_one_column_for_all_notebooks(tmp_path):
    reports = [report("ada", "03", 9), report("ada", "05", 4), report("bob", "05", 1)]
    found = filled(tmp_path, CANVAS, reports, "reading")
    got = [row[5] for row in rows(found.data)]
    factor = 10 / (WORTH["03"] + WORTH["05"])
    assert [float(each) for each in got[3:5]] == [round(factor * points_of(reports, who), 2) for who in ("ada", "bob")]
    assert got[5] == "EX", "a word of the teacher's stays"


def test_a_word_where_points_go_stays(tmp_path):
    found = filled(tmp_path, CANVAS.replace("3.50", "EX"), [report("bob", "03", 4)])
    assert found.data.decode() == CANVAS.replace("3.50", "EX")
    assert any(line.endswith("have a word where points go: bob") for line in found.said)


def test_a_teachers_notes_are_no_assignment(tmp_path):
    text = "Student,ID,SIS Login ID,Section,Notes,Week 3 (7),Final Score\r\nAda,1,ada,A,often late,,\r\n"
    found = filled(tmp_path, text, [report("ada", "03", 9)])
    assert found.data.decode() == text.replace("late,,", f"late,{report('ada', '03', 9).points},")


def test_a_notebook_without_a_column_is_named(tmp_path):
    found = filled(tmp_path, CANVAS, [report("ada", "03", 9), report("ada", "04", 4)])
    assert "no column of export.csv names notebook 04: its points are not in it" in found.said


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        (CANVAS.replace("Notebook 03", "Week 1").replace("Notebook 5", "Week 2"), None, "no column names a notebook"),
        (CANVAS.replace("Reading", "Notebook 3 again"), None, "several columns name notebook 03"),
        (CANVAS, "Final Score", "no column for points is called 'Final Score'; it has 'Reading', 'Notebook 03'"),
        (CANVAS.replace("Reading", "Notebook 03"), "notebook 03", "several columns are called 'notebook 03'"),
        ("a,b\n1,2\n", None, "got a table with the columns a, b"),
        ("", None, "expected a table as CSV, got nothing"),
        ("PK\x03\x04\0\0", None, "got another kind of file"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(text, column, said, tmp_path):
    with pytest.raises(ValueError) as refused:
        filled(tmp_path, text, [report("ada", "03", 3)], column)
    assert said in str(refused.value) and "\n" not in str(refused.value) and "export.csv" in str(refused.value)


# ---------------------------------------------------------------------------------------------------------- who is who


@pytest.mark.parametrize(
    "student",
    [
        "Ada Lovelace", "ada lovelace", "Lovelace, Ada", "lovelaceada", "ada", "ada@example.org", "11", "u-11",
        "Ada\u00a0 Lovelace", "A\u200bda Lovelace", "Ada Lovelace [11]", "ADA LOVELACE", "ada lovelace [f343be]",
    ],
)  # fmt: skip
def test_a_student_is_found_under_any_of_her_names(student, tmp_path):
    found = filled(tmp_path, CANVAS, [report(student, "03", 9)])
    assert rows(found.data)[3][6] == str(report(student, "03", 9).points), found.said


@pytest.mark.parametrize(
    "student", ["müllerjörg", unicodedata.normalize("NFD", "Jörg Müller"), 'O\u2019Neil, Bob "Bobby"']
)
def test_accents_and_quotes_may_be_written_otherwise(student, tmp_path):
    found = filled(tmp_path, CANVAS, [report(student, "03", 9)])
    assert not any("on no line" in line for line in found.said), found.said


@pytest.mark.parametrize("student", ["Lovelace", "Ada Lovelac", "Jorg Muller", "1", "example", "Sec 2", "?"])
def test_nobody_is_guessed(student, tmp_path):
    found = filled(tmp_path, CANVAS, [report(student, "03", 9)])
    assert found.data.decode() == CANVAS
    assert f"on no line of export.csv: {student}" in found.said


def test_two_who_could_be_one_line_and_one_who_could_be_two_get_nothing(tmp_path):
    both = filled(tmp_path, CANVAS, [report("Ada Lovelace", "03", 9), report("ada", "03", 4)])
    assert both.data.decode() == CANVAS
    said = "on several lines of export.csv, or on one that could be another's: Ada Lovelace, ada"
    assert said in both.said
    twice = CANVAS + '"Lovelace, Ada",15,u-15,al,Sec 2,,,,,\r\n'
    assert filled(tmp_path, twice, [report("Ada Lovelace", "03", 9)]).data.decode() == twice
    marked = filled(tmp_path, twice, [report("Ada Lovelace [15]", "03", 9), report("Ada Lovelace [11]", "03", 1)])
    assert [row[6] for row in rows(marked.data)][3:] == ["1", "3.50", "", "", str(report("x", "03", 9).points)]


def test_what_could_not_be_read_is_no_zero(tmp_path):
    reports = [report("ada", "03", 0, "unreadable"), report("bob", "03", 0, "missing")]
    found = filled(tmp_path, CANVAS, reports)
    assert [row[6] for row in rows(found.data)][3:5] == ["", "0"]
    assert "left as they are, since no file of theirs could be read: ada" in found.said


def test_of_several_files_the_best_counts(tmp_path):
    reports = [report("ada", "03", 2, name="1"), report("ada", "03", 9, name="2"), report("ada", "03", 1, name="3")]
    assert rows(filled(tmp_path, CANVAS, reports).data)[3][6] == str(reports[1].points)


def test_names_as_keys():
    assert len({plain(name) for name in ("O'Neil, Bob", "bob o’neil", "Bob  O`Neil", "BOB\u00a0O'NEIL")}) == 1
    assert plain("Ada") != plain("Ada B")


# -------------------------------------------------------------------------------------------------------------- moodle

WORKSHEET = f"""\
Identifier,"Full name","ID number","Email address",Status,Grade,"Maximum Grade","Grade can be changed",\
"Last modified (submission)","Last modified (grade)","Feedback comments"
"Participant 501","Ada Lovelace",u-11,ada@example.org,"Submitted for grading",,"{FULL},00",Yes,\
"Monday, 2 November 2026, 9:00 AM",-,
"Participant 502","Bob O'Neil",u-12,bob@example.org,"Submitted for grading","3,50","{FULL},00",Yes,-,-,"kept"
"Participant 503","Bob O'Neil",u-13,bob2@example.org,"No submission",,"{FULL},00",No,-,-,
"""


def test_moodles_worksheet(tmp_path):
    names = ("Ada Lovelace", "Bob O'Neil [502]", "Bob O'Neil [503]")
    reports = [report(name, "03", 9) for name in names]
    found = filled(tmp_path, WORKSHEET, reports)
    head, ada, bob, other = rows(found.data)
    assert head[5] == "Grade" and ada[5] == str(reports[0].points) and bob[5] == str(reports[1].points)
    assert other[5] == "" and any("locked" in line and "[503]" in line for line in found.said)
    assert ada[10].startswith(f"Notebook 03: {reports[0].points} of {FULL} points; without points: 3.")
    assert bob[10] == "kept"
    assert ada[8] == "Monday, 2 November 2026, 9:00 AM" and found.data.count(b"\n") == WORKSHEET.count("\n")


def test_a_decimal_comma_is_kept(tmp_path):
    text = WORKSHEET.replace(f"{FULL},00", "10,00")
    reports = [report("Ada Lovelace", "03", 9)]
    grade = rows(filled(tmp_path, text, reports).data)[1][5]
    assert grade == f"{round(10 * reports[0].points / FULL, 2):g}".replace(".", ",") and "," in grade
    points = rows(filled(tmp_path, text.replace("10,00", "10.00").replace("3,50", "3.50"), reports).data)[1][5]
    assert points == grade.replace(",", ".")


def test_moodles_gradebook(tmp_path):
    text = (
        'First name,Last name,"ID number",Institution,Department,"Email address","Assignment: Week 3 (Real)",'
        '"Quiz: Start (Real)","Course total (Real)","Last downloaded from this course"\n'
        "Ada,Lovelace,11,,,ada@example.org,-,7.00,7.00,1764000000\n"
    )
    found = filled(tmp_path, text, [report("Ada Lovelace", "03", 9)], "week 3")
    points = str(report("a", "03", 9).points)
    assert found.data.decode() == text.replace(",-,", f",{points},")
    with pytest.raises(ValueError, match="it has 'Week 3', 'Start'"):
        filled(tmp_path, text, [report("Ada Lovelace", "03", 9)], "Course total")
    assert moodle.form(Sheet.read(text.replace("Last name", "Surname").encode())).parts == (0, 1)


# -------------------------------------------------------------------------------------------------- blackboard, others


def test_blackboard(tmp_path):
    text = (
        '"Last Name"\t"First Name"\t"Username"\t"Student ID"\t"Last Access"\t"Availability"\t'
        f'"Notebook 03 [Total Pts: {2 * FULL} Score] |4711"\n"Lovelace"\t"Ada"\t"ada1"\t"11"\t"2026-11-02"\t"Yes"\t""\n'
    )
    found = filled(tmp_path, text, [report("ada1", "03", 9)], name="gc.xls", encoding="utf-16")
    expected = text.replace('"Yes"\t""', f'"Yes"\t"{2 * report("a", "03", 9).points}"')
    assert found.data == expected.encode("utf-16") and found.name == "gc.xls"


def test_any_other_table_needs_the_title_of_a_column(tmp_path):
    text = "Matrikelnummer;Nachname;Vorname;Punkte\n4711;Lovelace;Ada;\n4712;Hopper;Grace;\n"
    reports = [report("4711", "03", 9), report("Grace Hopper", "03", 4)]
    assert [row[3] for row in rows(filled(tmp_path, text, reports, "Punkte").data, ";")[1:]] == [
        str(each.points) for each in reports
    ]
    with pytest.raises(ValueError, match="or else the title of a column for points behind the file"):
        filled(tmp_path, text, reports)


# ---------------------------------------------------------------------------------------------------------- gradescope

ROSTER = """\
First Name,Last Name,SID,Email,Role,Sections
Ada,Lovelace,11,Ada@Example.org,Student,
Bob,O'Neil,12,b@e.org,Student,
"""


def ran(tmp_path, data: bytes, users: list[dict]) -> dict:
    """What the autograder writes for a submission by these users, in a folder laid out like Gradescope's container."""
    zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path / "source")
    metadata = {"id": 1, "users": users, "previous_submissions": []}
    (tmp_path / "submission_metadata.json").write_text(json.dumps(metadata))
    subprocess.run([sys.executable, tmp_path / "source" / "run_autograder", tmp_path], check=True)
    return json.loads((tmp_path / "results" / "results.json").read_text())


def test_gradescope_gets_an_autograder_that_hands_out_results(tmp_path):
    reports = [report("Ada Lovelace", "03", 9), report("Ada Lovelace", "05", 2)]
    found = filled(tmp_path, ROSTER, reports)
    assert found.name == "gradescope.zip" and "on no line" not in " ".join(found.said)
    result = ran(tmp_path, found.data, [{"id": 5, "name": "Ada L.", "email": "ada@example.org"}])
    assert result["score"] == points_of(reports, "Ada Lovelace")
    numbers = [test["number"] for test in result["tests"]]
    assert numbers[0] == "3.1a" and all(re.fullmatch(r"[35]\.\d+[a-z]", number) for number in numbers)
    assert sum(test["score"] for test in result["tests"]) == result["score"]
    assert sum(test["max_score"] for test in result["tests"]) == WORTH["03"] + WORTH["05"]
    assert set(result["tests"][0]) == {"number", "name", "score", "max_score", "output", "visibility"}
    group = [{"email": "zoe@e.org"}, {"email": "ADA@example.org "}]
    assert ran(tmp_path, found.data, group) == result
    assert "tell your instructor" in ran(tmp_path, found.data, [{"email": "b@e.org"}])["output"]


def test_an_autograder_is_the_same_for_the_same_scores_and_can_be_run(tmp_path):
    one, other = (filled(tmp_path, ROSTER, [report("11", "03", 3)]).data for _ in range(2))
    assert one == other
    modes = {entry.filename: entry.external_attr >> 16 & 0o111 for entry in zipfile.ZipFile(io.BytesIO(one)).infolist()}
    assert modes == {"setup.sh": 0o111, "run_autograder": 0o111, "scores.json": 0}


def test_exported_grades_are_a_roster_too():
    text = f"Name,SID,Email,Total Score,Max Points,Status,Submission ID\nAda Lovelace,1,a@e.org,,{FULL},,7\n"
    assert gradescope.form(Sheet.read(text.encode())).platform == "Gradescope"
    assert canvas.form(Sheet.read(ROSTER.encode())) is None and moodle.form(Sheet.read(ROSTER.encode())) is None


# --------------------------------------------------------------------------------------------------------------- tables


def test_a_sheet_gives_back_what_it_was_made_of():
    rng = random.Random(3)
    for _ in range(400):
        signs = ['"', '""', ",", ";", "\t", "\r\n", "\n", "\r", "a", "ü", " ", "1,5"]
        text = "".join(rng.choices(signs, k=rng.randrange(1, 40)))
        if not text.strip():
            continue
        data = text.encode()
        sheet = Sheet.read(data)
        assert bytes(sheet) == data
        for line in range(len(sheet)):
            for column in range(len(sheet.lines[line]) + 1):
                assert isinstance(sheet[line, column], str)


def test_a_sheet_reads_what_csv_reads():
    text = 'a,"b,""c""",d\r\n"x\r\ny",,\r\n,"",z'
    sheet = Sheet.read(text.encode())
    assert [[sheet[i, j] for j in range(3)] for i in range(len(sheet))] == rows(text.encode())
    sheet[1, 1] = 'say "1,5"'
    assert rows(bytes(sheet))[1] == ["x\r\ny", 'say "1,5"', ""]


@pytest.mark.parametrize("data", [b"", b"  \n", b"\x00\x01\x02", b"\xff\xfea", b"PK\x03\x04\x00"])
def test_what_is_no_table_is_said(data):
    with pytest.raises(NoTable, match="^expected "):
        Sheet.read(data)


def test_what_is_written_can_be_no_formula(tmp_path):
    """What a student writes is nowhere in it; what else is there is the platform's own."""
    evil = dict.fromkeys(("=1+1", "+1", "-2+3", "@x", "\uff1dA1"), "")
    text = WORKSHEET + "".join(
        f'"Participant {600 + i}",{name},,,,,"{FULL},00",Yes,-,-,\n' for i, name in enumerate(evil)
    )
    found = filled(tmp_path, text, [report(name, "03", 4, name=name) for name in evil])
    new = [row for row in rows(found.data) if row[1] in evil]
    assert len(new) == 5 and all(re.fullmatch(r"\d+", row[5]) and row[10].startswith("Notebook 03: ") for row in new)
