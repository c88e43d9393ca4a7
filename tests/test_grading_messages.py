"""What a student is told about a grading, and what a gradebook gets: no hidden numbers, the best of several files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import unicodedata

import pytest
import torch

from classroom.grading import reports as written
from classroom.grading.handed_in.read import one_line
from classroom.grading.records import Outcome, Question, Report, Score, best
from classroom.grading.reports import feedback, tables
from classroom.grading.reports.cells import harmless
from classroom.grading.reports.nbgrader_csv import nbgrader_csv
from classroom.grading.scoring import _message
from classroom.grading.wording import told
from classroom.quizzes.declarations import Case, Quiz
from classroom.quizzes.judging import judge
from classroom.quizzes.running import run


def verdict(reference, answer, *values, gradients=()):
    quiz = Quiz("demo/q", 1, "demo", reference, cases=lambda rng: [])
    cases = [Case({"x": value}, gradients) for value in values]
    return judge(quiz, cases, run(answer, cases))


TENSOR = torch.tensor([3.0, 4.0, 7.0])


@pytest.mark.parametrize(
    ("reference", "answer", "told", "shown"),
    [
        (lambda x: 12.5, lambda x: 11.0, "too small.", "too small: expected 12.5, got 11"),
        (lambda x: 12.5, lambda x: -12.5, "the sign is wrong.", "the sign is wrong: expected 12.5, got -12.5"),
        (lambda x: 12, lambda x: 13, "too large.", "too large: expected 12, got 13"),
        (lambda x: True, lambda x: False, "wrong values.", "expected True, got False"),
        (lambda x: "deep", lambda x: "flat", "wrong values.", "expected 'deep', got 'flat'"),
        (lambda x: (1, "deep"), lambda x: (1, "flat"), "output[1].", "output[1]: expected 'deep', got 'flat'"),
        (lambda x: x.sum(), lambda x: x.sum() + 1.5, "too large.", "too large: expected 14, got 15.5"),
        (lambda x: x, lambda x: x**2, "every entry is the square of what it should be.", None),
    ],
)
def test_numbers_are_for_the_notebook_only(reference, answer, told, shown):
    found = verdict(reference, answer, TENSOR)
    assert found.stage == "value" and found.headline == (shown or told[:-1])
    assert _message(found, 1) == told
    assert "expected" not in _message(found, 1)


def test_numbers_of_gradients_are_no_less_hidden():
    found = verdict(lambda x: 3 * x, lambda x: 3 * x.detach() + 2 * (x - x.detach()), TENSOR[0], gradients=["x"])
    assert found.stage == "gradient" and found.numbers in found.headline
    assert found.numbers.startswith("expected 3.") and ", got 2." in found.numbers
    assert _message(found, 1) == "right values, but the gradient with respect to x is wrong: too small."


def test_advice_is_told():
    found = verdict(lambda x: 2, lambda x: 2.0, TENSOR)
    assert _message(found, 1).startswith("expected a whole number (int), got a number (float). A whole number")


@pytest.mark.parametrize(
    ("lines", "said"), [(2, "it raised ValueError in line 2 of the cell."), (1, "it raised ValueError.")]
)
def test_an_exception_is_told_by_its_kind_and_its_line_if_it_can_be_one_of_the_cells(lines, said):
    def raises(x):
        raise ValueError(f"{float(x[0])}")

    found = dataclasses.replace(verdict(lambda x: 2, raises, TENSOR), line=2)
    assert _message(found, lines) == said and "3.0" in found.headline


CELL = Question("demo/q", "answer", "import torch\nx = HALF_OF_4711\n", "03", (), above="y = 1 / 0")


@pytest.mark.parametrize("trouble", ["missing", "timeout", "crashed"])
@pytest.mark.parametrize(
    "forged",
    [
        "4711",
        "no answer within 4711 s",
        "no answer within 20 s of computing 4711",
        "it used more than 4711 MB of memory",
        "its results are larger than 4711 MB",
        "its process ended (exit code 4711) before it had given its results",
        "its process was ended by SIG4711",
        "its sandbox had to be started again: 4711",
        "ValueError: 4711 (line 1 of the cell)",
        "E4711 (line 1 of the cell)",
        "ValueError (line 4711 of the cell)",
        "NameError: name 'x4711' is not defined (line 1 of the cell)",
        "the cell has a syntax error in line 4711: invalid",
        "the cell has a syntax error in line 1: 4711",
        "the cell does not define x4711",
    ],
)
def test_a_line_that_an_answer_has_written_itself_carries_nothing_out(forged, trouble):
    said = told(Outcome(None, trouble, forged), CELL)
    assert said and "4711" not in said


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (("missing", "NameError: name 'HALF_OF_4711' is not defined (line 2 of the cell)"), "NameError: `HALF_OF"),
        (("missing", "ZeroDivisionError (line 1 of what stands above it)"), "ZeroDivisionError (line 1 of what stands"),
        (("missing", "the cell has a syntax error in line 2: invalid syntax"), "the cell has a syntax error in line 2"),
        (("missing", "the cell does not define answer"), "the cell does not define answer"),
        (("timeout", "no answer within 20 s of computing"), "no answer within the time for a question"),
        (("crashed", "its process was ended by SIGSEGV"), "its process was ended by SIGSEGV"),
    ],
)
def test_what_became_of_an_answer_is_said(outcome, said):
    assert told(Outcome(None, *outcome), CELL).startswith(said)


def report(student, notebook, points, name):
    scores = (Score("vae/kl", points, 5, "ok", ""),) if notebook else ()
    return Report(student, notebook, name, scores)


def test_of_several_files_the_best_counts_everywhere():
    reports = [
        report("ada", "02", 3, "ada/02.ipynb"),
        report("ada", "02", 5, "ada/02 (1).ipynb"),
        report("ada", "03", 1, "ada/03.ipynb"),
        report("bob", "", 0, "bob/unreadable.ipynb"),
        report("cyd", "02", 0, "cyd/02.ipynb"),
    ]
    points = {whose: report.points for whose, report in best(reports).items()}
    assert points == {("ada", "02"): 5, ("ada", "03"): 1, ("cyd", "02"): 0}
    totals = list(csv.reader(io.StringIO(tables.totals_csv(reports))))
    assert totals[1:] == [["ada", "5", "1", "6"], ["bob", "", "", "0"], ["cyd", "0", "", "0"]]
    exported = {
        (row["assignment"], row["student_id"]): row["score"]
        for row in csv.DictReader(io.StringIO(nbgrader_csv(reports)))
    }
    assert exported["02", "ada"] == "5.0" and exported["02", "bob"] == exported["03", "cyd"] == "0.0"


# ------------------------------------------------------------------------------------------------------ tables, pages

FORMULAS = [
    "=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\uff1dHYPERLINK(1)", "\uff0b1+A1", "\uff0d2+3", "\uff20A1",
    "\ufe66A1", "\u2212A1+1", " =1+1", "\u3000=A1", "\u200b=A1", "\u202e\ufeff=A1", '"=A1', "'=A1", "\u201c=A1",
    "\uff02=A1", ";=A1", "got;=A1", 'got ; "=A1', ",=A1", "a,+A1", ";\u200b\uff1dA1", ";-1+A1", "x;-1 +A1",
    "(3, -1+A1)", '","=A1', '";"=A1', 'a"",=A1', "=cmd|'/C calc'!A0", ";@A1;=A1", "--1", "-",
]  # fmt: skip
ON_LINES = ["\t=A1", "\r=A1", "\n=A1", "\r\n@A1", "a\n=A1", "a,\t+A1", "a\x85=A1", "a\u2028=A1", "a\x0b=A1", "a;\0=A1"]


def cells_of(text):
    """All that a spreadsheet may take for a cell, whatever separates its cells and whether or not it knows quotes."""
    for separator in ",;\t":
        yield from (cell for row in csv.reader(io.StringIO(text), delimiter=separator) for cell in row)
        for line in text.splitlines():
            yield from line.split(separator)


@pytest.mark.parametrize("evil", FORMULAS + ON_LINES)
def test_no_table_holds_what_a_spreadsheet_takes_for_a_formula(evil):
    scores = (Score("vae/kl", 0, 5, "wrong", evil), Score("vae/elbo", 0, 5, "wrong", f"It raised ValueError: {evil}"))
    reports = [Report(evil, "02", f"{evil}.ipynb", scores, (evil, "so")), Report("ada", "02", "x.ipynb", scores[:1])]
    for table in (tables.questions_csv(reports), tables.totals_csv(reports), nbgrader_csv(reports, {"02": evil})):
        for cell in cells_of(table):
            bare = "".join(c for c in cell if c.isprintable()).lstrip(' "\u201c\uff02\u3000')
            assert unicodedata.normalize("NFKC", bare).replace("\u2212", "-")[:1] not in ("=", "+", "-", "@"), cell


@pytest.mark.parametrize(
    "value", ["3", "-3", "+3", "-1.5e-7", "1.5", 3, -2.5, "got (2, -1)", "[-1, -2.5]", "'t Hooft", ""]
)
def test_numbers_stay_numbers(value):
    assert harmless(value) == value


def test_texts_that_differ_stay_different_in_tables():
    texts = {*FORMULAS, *(f"'{text}" for text in FORMULAS), *(text.replace(";", ";'") for text in FORMULAS)}
    assert len({harmless(text) for text in texts}) == len(texts)


def test_excel_shows_umlauts_and_programs_read_nbgraders_form(tmp_path):
    reports = [
        report(name, "02", 3, f"{name}/02.ipynb") for name in ("J\u00f6rg M\u00fcller", "\u0141ukasz", "\u674e\u96f7")
    ]
    out = tmp_path / "grades.csv"
    written.write_all(reports, out, {})
    for name in ("grades", "grades-totals"):
        data = (tmp_path / f"{name}.csv").read_bytes()
        assert data.startswith(b"\xef\xbb\xbf") and data.count(b"\xef\xbb\xbf") == 1
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
        assert {row["student"] for row in rows} == {report.student for report in reports}
    assert (tmp_path / "grades-nbgrader.csv").read_text("utf-8").startswith("assignment,duedate,")
    assert json.loads((tmp_path / "grades.json").read_text("utf-8"))["submissions"]


@pytest.mark.parametrize(
    "evil", ["<script>", "a\u202eb", "a\u200bb", "\u2066a\u2069", "a\nb\x1b[31m", "\ud800", "a\u00adb\u034f"]
)
def test_a_page_is_printable_text_without_a_path(evil):
    scores = (Score("vae/kl", 0, 5, "wrong", f"it raised {evil}"),)
    reports = [
        Report("ada", "02", "class 3/ada/secret/02.ipynb", scores, (f"odd: {evil}",)),
        Report("ada", "", f"class 3/ada/secret/Untitled{one_line(evil)}.ipynb", (), ("nobody can tell",)),
    ]
    page = feedback.page("ada", reports)
    assert "secret" not in page and "class 3" not in page and "<script>" not in page and "Untitled" in page
    assert all(line.isprintable() for line in page.split("\n"))
    assert not set(page) & set("\u202e\u200b\u2066\u00ad\u034f")


def test_pages_of_names_that_differ_in_capitals_only():
    """They are one file where a file system does not tell them apart."""
    names = ["ada", "Ada", "ADA", "ada-9ea6abe71cd00be6", "Ada-9ea6abe71cd00be6", "a da", "a-da", "x" * 70, "x" * 71]
    assert len({feedback.page_name(name).lower() for name in names}) == len(names)


def test_reports_in_any_order_make_whole_pages(tmp_path):
    reports = [report("ada", "02", 3, "1"), report("bob", "02", 4, "2"), report("ada", "03", 5, "3")]
    written.write_all(reports, tmp_path / "grades.csv", {})
    page = (tmp_path / "grades-feedback" / "ada.html").read_text()
    assert "Notebook 02" in page and "Notebook 03" in page


@pytest.mark.parametrize(
    "unseen",
    "\u00ad\u034f\u061c\u115f\u17b4\u180b\u200b\u200e\u202e\u2060\u2066\u2800\u3164\ufe0f\ufeff\uffa0\U000e0041",
)
def test_unseen_characters_are_left_out_of_messages(unseen):
    assert one_line(f"a{unseen}da") == "ada"
