"""The teacher's page and the student's: what is counted, against independent truth; what is shown, what never is."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import math
import os
import random
import re
import shutil
from collections import Counter
from concurrent.futures import Executor, Future
from html.parser import HTMLParser
from pathlib import Path

import grading_zoo
import numpy as np
import pytest

from classroom.__main__ import parser
from classroom.grading import batch, command, course, sandbox, sources
from classroom.grading import plan as planning
from classroom.grading.records import UNTOUCHED, Report, Rules, Score, Submission
from classroom.grading.reports import feedback
from classroom.grading.reports.class_page import class_page
from classroom.grading.reports.markup import prose
from classroom.grading.reports.overview import ABSENT, overview
from classroom.grading.reports.statistics import discrimination, share_interval
from classroom.quizzes import Concept, Quiz, declarations
from classroom.quizzes.judging import judge
from classroom.quizzes.running import run
from course_utils.cli import Refused

ROOT = Path(__file__).resolve().parent.parent
PLANS = planning.plans(planning.NOTEBOOKS)
JOB = batch.Job(Rules(seed=11), sandbox.Limits(seconds=6, submission=60, total_memory=2500))
ANSWERS, OPTIONS = "forward/add-noise", "forward/noisier"
SLIPS = {each.name: each for each in declarations.get(ANSWERS).misconceptions}


# ---------------------------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),  # Newcombe (1998), table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_of_shares_are_those_of_the_literature(count, total, low, high):
    assert share_interval(count, total) == pytest.approx((low, high), abs=6e-5)


def test_intervals_of_shares_are_wilsons_formula():
    z = 1.959963984540054
    for total in (1, 2, 7, 24, 400):
        for count in {0, 1, total // 2, total}:
            low, high = share_interval(count, total)
            for p in (low, high):  # the ends are where the distance to the share is z standard errors of p itself
                assert abs(count / total - p) == pytest.approx(z * math.sqrt(p * (1 - p) / total), abs=1e-9)
            assert 0 <= low <= count / total <= high <= 1
    with pytest.raises(ValueError):
        share_interval(0, 0)


def test_discrimination_is_the_correlation_with_all_the_rest():
    rng = np.random.default_rng(5)
    for students in (20, 24, 60):
        skill = rng.normal(size=students)
        marks = (skill[:, None] + rng.normal(size=(students, 9)) > 0) * rng.integers(1, 5, size=9)
        totals = marks.sum(1)
        for item in marks.T:
            r = np.corrcoef(item, totals - item)[0, 1]
            ends = np.tanh(np.arctanh(r) + np.array([-1, 1]) * 1.959963984540054 / math.sqrt(students - 3))
            found = discrimination(item.tolist(), totals.tolist())
            assert (found.r, found.low, found.high) == pytest.approx((r, *ends), abs=1e-12)


def test_discrimination_is_not_told_where_it_means_nothing():
    item, totals = [0, 2] * 10, list(range(20))
    assert discrimination(item, totals) and discrimination(item[:19], totals[:19]) is None
    assert discrimination([2] * 20, totals) is None and discrimination(item, item) is None


# ------------------------------------------------------------------------------------------------------------ counting


def right(number: str, student: str = "ada", name: str = "") -> Report:
    """Everything right."""
    marks = []
    for quiz in (task.quiz for task in PLANS[number].tasks):
        letter = quiz.answer if isinstance(quiz, Concept) else ""
        marks.append(Score(quiz.id, quiz.points, quiz.points, "ok", "Passed on fresh inputs.", option=letter))
    return Report(student, number, name or f"{student}/{number}.ipynb", tuple(marks))


def but(report: Report, quiz: str, status: str = "wrong", **found) -> Report:
    """... but for one question, which has no points."""
    marks = [
        dataclasses.replace(each, points=0, status=status, message="m", **{"option": "", **found})
        if each.quiz == quiz
        else each
        for each in report.scores
    ]
    return dataclasses.replace(report, scores=tuple(marks))


def of_all(number: str, status: str, student: str, name: str = "") -> Report:
    """One status for all."""
    report = right(number, student, name)
    for score in report.scores:
        report = but(report, score.quiz, status, stage="not attempted" if status == "missing" else "")
    return report


def planted() -> list[Report]:
    """A class of 24 in notebook 03."""
    students = [f"student {k:02d}" for k in range(24)]
    reports = [right("03", student) for student in students]
    slips = ["variance for standard deviation"] * 7 + ["no roots at all"] * 3
    for k, name in enumerate(slips):
        reports[k] = but(reports[k], ANSWERS, misconception=name, stage="value")
    reports[10] = but(reports[10], ANSWERS, stage="shape")
    reports[11] = but(reports[11], ANSWERS, stage="raised")
    reports[12] = but(reports[12], ANSWERS, "timeout")
    reports[13] = but(reports[13], ANSWERS, "crashed")
    reports[14] = but(reports[14], ANSWERS, "missing", stage="not defined")
    reports[15] = but(reports[15], ANSWERS, "missing", stage="not attempted")
    for k, letter in enumerate("bbbbbcc"):
        reports[k] = but(reports[k], OPTIONS, option=letter)
    reports[20] = but(reports[20], OPTIONS)  # a letter that is no option
    return reports


def question(reports, quiz):
    (found,) = (each for n in overview(reports).notebooks for each in n.questions if each.quiz == quiz)
    return found


def test_what_went_wrong_is_counted():
    found = question(planted(), ANSWERS)
    assert found.kinds == {"right": 8, "wrong": 12, "stopped": 2, "did not run": 1, "not answered": 1}
    assert found.misconceptions == {"variance for standard deviation": 7, "no roots at all": 3}
    assert found.stages == {"shape": 1, "raised": 1} and found.stopped == {"timeout": 1, "crashed": 1}
    options = question(planted(), OPTIONS)
    assert options.options == {"a": 16, "b": 5, "c": 2} and options.kinds == {"right": 16, "wrong": 8}


def test_of_several_files_the_best_is_counted_and_what_could_not_be_read_is_not():
    reports = [*planted(), of_all("03", "missing", "student 23", "again"), of_all("03", "unreadable", "zoe")]
    reports += [of_all("03", "crashed", "yan"), Report("xi", "", "x.ipynb", (), ("nobody can tell",))]
    assert question(reports, ANSWERS).kinds.total() == 24
    seen = overview(reports)
    assert len(seen.students) == 27 and seen.files == 28 and len(seen.notebooks[0].points) == 24


def test_who_needs_a_word():
    reports = [
        right("03", "fine"),
        right("05", "fine"),
        of_all("03", "missing", "empty"),
        of_all("03", "unreadable", "broken"),
        Report("lost", "", "lost/x.ipynb", (), ("nobody can tell",)),
        but(right("03", "slow"), ANSWERS, "timeout"),
        right("03", "Jörg Müller"),
        right("03", "muller, jorg", "1"),
        right("03", "twice", "1"),
        of_all("03", "unreadable", "twice", "2"),
    ]
    words = overview(reports, ["FINE", "Slow", "absent", "zoe"]).words
    assert {rule: set(students) for rule, students in words.items()} == {
        ABSENT: {"absent", "zoe"},
        "a file that could not be read or graded": {"broken", "lost"},
        "a notebook with nothing answered": {"empty"},
        "less than half of the points": {"empty"},
        "answers that took too long or crashed": {"slow"},
        "several files for one notebook, of which the best counts": {"twice"},
        "a name that could be another student's, spelled otherwise": {"Jörg Müller", "muller, jorg"},
    }
    assert words["answers that took too long or crashed"]["slow"] == "notebook 03: 1 too slow"


def test_discrimination_of_a_class():
    reports, rng = [], random.Random(2)
    for k in range(30):
        report = right("03", f"s{k}")
        for score in report.scores:
            if rng.random() > k / 30:
                report = but(report, score.quiz, stage="value")
        reports.append(report)
    for place, found in enumerate(overview(reports).notebooks[0].questions):
        own = np.array([report.scores[place].points for report in reports])
        rest = np.array([report.points for report in reports]) - own
        assert found.discrimination.r == pytest.approx(np.corrcoef(own, rest)[0, 1])


# ------------------------------------------------------------------------------------------------------------ the page


class Seen(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter = Counter()
        self.attributes: Counter = Counter()
        self.texts: list[str] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.inside = tag
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data):
        self.texts.append(data if self.inside != "style" else "")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_the_page_says_what_to_talk_about():
    page = Seen(class_page(planted())).text
    slips, hardest = page.index("Commonest misconceptions"), page.index("Hardest questions")
    top = page[slips:hardest]
    assert "7 of 24 (15 to 49 %) variance for standard deviation" in top
    assert top.index("variance for standard deviation") < top.index("5 of 24") < top.index("no roots at all")
    assert "b · True: α t multiplies the noise in (3.1)." in top and "3.1a · Which step is noisier?" in top
    assert "8 of 24 (18 to 53 %) 3.3b · Jump to step t" in page[hardest:]
    assert "1 too slow, 1 crashed" in page or "1 crashed, 1 too slow" in page
    assert "24 students handed in 24 files." in page
    assert "discrimination" in page[page.index("3.3b · Jump", hardest + 200) :]


def test_pages_of_classes_that_are_hardly_any():
    """One student, nobody who could be read, nobody at all."""
    one = Seen(class_page([right("03")], names=True)).text
    assert "1 student handed in 1 file." in one and "No wrong idea is shared" in one and "who they are ada" in one
    assert "All questions were answered right by all." in one and "Nobody, by the rules" in one
    broken = Seen(class_page([of_all("03", "unreadable", "ada")], [])).text
    assert "1 student: a file that could not be read or graded" in broken and "Notebook 03" not in broken
    assert (
        "0 students handed in 0 files. Of 2 on the class list, 2 handed in nothing."
        in Seen(class_page([], ["ada", "bob"])).text
    )


def test_a_small_class_is_told_that_it_is_small():
    page = Seen(class_page(planted()[:19])).text
    assert "Discrimination is told for 20 students or more; here are 19." in page
    assert not re.search(r"discrimination −?\d", page)


EVIL = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "'\"><b>", "a\u202eb", "$x_1$ `q` *s*",
    "&lt;b&gt;", "\ud800", "=1+1", "x" * 500, "\x1b[31m",
]  # fmt: skip


def evil_class() -> list[Report]:
    """Students whose names, files, notes and messages are not meant well; each is on every list of the page."""
    reports = []
    for k, evil in enumerate(EVIL):
        report = but(right("03", f"QQ{k}{evil}", f"class/QQ{evil}.ipynb"), ANSWERS, "timeout")
        marks = tuple(dataclasses.replace(score, message=f"QQ{evil}") for score in report.scores)
        reports.append(dataclasses.replace(report, scores=marks, notes=(f"QQ{evil}",)))
        reports.append(dataclasses.replace(reports[-1], student=f"qq{k}{evil}"))
        reports.append(of_all("03", "missing", f"QQ nothing {evil}", f"QQ{evil}"))
    return reports


def test_without_names_there_is_none_nor_anything_else_of_theirs():
    page = class_page(evil_class(), ["QQ absent", *(report.student for report in evil_class())])
    assert "qq" not in page.lower()
    assert (
        page
        == class_page([dataclasses.replace(report, student=f"s{k}") for k, report in enumerate(evil_class())], None)
        or "class list" in page
    )
    assert "<script" not in page and not set(Seen(page).tags) & {"script", "img", "link", "iframe", "a", "details"}


@pytest.mark.parametrize("make", [lambda: class_page(evil_class(), ["QQ<i>absent"], True), lambda: student_page()])
def test_pages_hold_no_markup_of_a_students_and_nothing_of_the_network(make):
    page = make()
    seen = Seen(page)
    assert "QQ" in seen.text and "<script>alert(1)" in seen.text, "it is there as text"
    assert not set(seen.tags) & {"script", "img", "link", "iframe", "a", "object", "form", "i", "em"}
    assert set(seen.attributes) <= {"lang", "charset", "name", "content", "class", "style", "role", "aria-label"}
    assert "url(" not in page and "@import" not in page
    assert all(line.isprintable() for line in page.split("\n"))


def student_page() -> str:
    return feedback.page(f"QQ{EVIL[0]}", [dataclasses.replace(each, student="ada") for each in evil_class()[:9]])


def test_everything_that_is_declared_can_be_shown():
    """Formulas in options and misconceptions are of the little LaTeX that the page knows: it has no script."""
    for found in declarations.registered().values():
        if isinstance(found, Concept):
            texts = [text for option in found.options.values() for text in (option.text, option.feedback)]
        else:
            texts = [text for each in found.misconceptions for text in (each.name, each.message)]
        for text in texts:
            formulas = "".join(re.findall("<i>.*?</i>", prose(text)))
            assert not re.search(r"[\\${}_^]", formulas) and "$" not in prose(text), (
                f"reports/markup.py can't show {text!r}"
            )


def test_numbers_and_titles_are_those_of_the_notebooks():
    headings = course.headings()
    assert headings["forward/published-noise"] == "3.3c · Bug hunt"
    assert set(headings) == set(declarations.registered())
    for id, found in declarations.registered().items():
        assert re.fullmatch(rf"\d+\.\d+[a-z]? · {re.escape(found.title)}", headings[id]), headings[id]
    assert course.notebook_titles()["03"].startswith("03 · Forward diffusion")


# ---------------------------------------------------------------------------------------------------- a student's page


def test_feedback_has_numbers_and_totals():
    reports = [but(right("03"), ANSWERS, misconception="no roots at all", stage="value"), right("05")]
    points, out_of = sum(report.points for report in reports), sum(report.out_of for report in reports)
    page = Seen(feedback.page("ada", reports)).text
    assert f"Feedback for ada {points} of {out_of} points in 2 notebooks" in page
    assert f"{reports[0].points} of {reports[0].out_of} points · Notebook 03 · Forward diffusion" in page
    assert "3.3c · Bug hunt" in page and page.index("3.3b") < page.index("3.3c") < page.rindex("Notebook 05")
    assert "no roots at all" not in page, "names of misconceptions are for the teacher"


def test_of_several_files_the_one_that_counts_comes_first_in_feedback():
    first, second = of_all("03", "missing", "ada", "old.ipynb"), right("03", "ada", "new.ipynb")
    page = Seen(feedback.page("ada", [first, second])).text
    total = f"{second.points} of {second.out_of} points"
    assert page.count(total) == 2 and page.index(total) < page.index("old.ipynb: another file counts for notebook 03")
    assert UNTOUCHED not in Seen(feedback.page("ada", [of_all("03", "missing", "ada")])).text


# ------------------------------------------------------------------------------------------------------- in the browser


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        assert not os.environ.get("CI"), "no Chromium"
        pytest.skip("no Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


LOOK = """() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number)
  const linear = c => c <= 10 ? c / 3295 : ((c / 255 + .055) / 1.055) ** 2.4
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b)
  const behind = e => { for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor)
    if (c.length < 4 || c[3] > 0) return c } return [255, 255, 255] }
  const faint = []
  for (const e of document.body.querySelectorAll('*')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue
    const [a, b] = [light(numbers(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x)
    if ((a + .05) / (b + .05) < 4.5) faint.push(e.outerHTML.slice(0, 80)) }
  return { wide: document.documentElement.scrollWidth, page: light(behind(document.body)), faint } }"""


ALL_SEEN = "[...document.querySelectorAll('li, p')].every(e => e.checkVisibility({contentVisibilityProperty: true}))"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone_and_can_be_read_by_day_and_by_night(browser, scheme, tmp_path):
    pages = {
        "class": class_page([*planted(), *evil_class()], ["absent"], True),
        "student": feedback.page("Ada " * 30 + "x" * 90, [*planted()[:1], of_all("05", "missing", "student 00")]),
    }
    for name, content in pages.items():
        (tmp_path / f"{name}.html").write_text(content, encoding="utf-8")
        for width in (320, 390, 1280):
            context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
            tab = context.new_page()
            tab.goto((tmp_path / f"{name}.html").as_uri())
            seen = tab.evaluate(LOOK)
            assert seen["wide"] <= width, f"{name} is {seen['wide']} wide in a window of {width}"
            assert seen["faint"] == []
            assert (seen["page"] > 0.5) == (scheme == "light")
            tab.emulate_media(media="print")
            assert tab.evaluate(LOOK)["page"] > 0.5, "paper is white"
            assert tab.evaluate(ALL_SEEN), "nothing is folded on paper"
            context.close()


# ----------------------------------------------------------------------------------------------- what is graded already


def test_what_another_version_of_the_course_has_graded_is_graded_anew(tmp_path):
    report = planted()[0]
    graded = []

    class Here(Executor):
        def submit(self, task, job, submission, data):
            graded.append(submission.student)
            done: Future = Future()
            done.set_result(dataclasses.replace(report, student=submission.student))
            return done

    ledger = tmp_path / "grades.graded.jsonl"
    jobs = {version: dataclasses.replace(JOB, version=version) for version in ("one", "two")}
    submissions = [Submission(name, "03", f"{name}.ipynb", source=lambda: b"{}") for name in ("ada", "bob")]
    first = batch.run(jobs["one"], submissions, Here, ledger)
    assert graded == ["ada", "bob"] and not batch.is_outdated(ledger, "one") and batch.is_outdated(ledger, "two")
    assert batch.run(jobs["one"], submissions, Here, ledger) == first and len(graded) == 2
    assert first[0].scores == report.scores, "misconceptions and options are remembered"
    old = [json.loads(line) for line in ledger.read_text().splitlines()]
    for entry in old:  # as versions before this one wrote it
        del entry["course"]
        for score in entry["report"]["scores"]:
            del score["misconception"], score["option"], score["stage"]
    ledger.write_text("".join(json.dumps(entry) + "\n" for entry in old))
    assert batch.is_outdated(ledger, "one") and not batch.is_outdated(tmp_path / "none", "one")
    assert batch.run(jobs["one"], submissions, Here, ledger) == first and len(graded) == 4
    assert not batch.is_outdated(ledger, "one")


# --------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def graded(tmp_path, monkeypatch):
    """graded(*options): what the command prints and writes about a class of two, as if they had been graded."""
    for student in ("ada", "bob"):
        (tmp_path / "submitted" / student).mkdir(parents=True)
        shutil.copy(ROOT / "notebooks" / f"{PLANS['03'].stem}.ipynb", tmp_path / "submitted" / student)
    reports = [right("03", "ada"), but(right("03", "bob"), ANSWERS, "timeout")]
    monkeypatch.setattr(command, "_graded", lambda *given: reports)

    def run(*options: str) -> int:
        line = ["grade", str(tmp_path / "submitted"), "--out", str(tmp_path / "grades.csv"), *options]
        return command.run(parser().parse_args(line))

    return run


def test_the_command_writes_the_page_without_names_unless_asked(graded, tmp_path, capsys):
    assert graded() == 0 and "grades-class.html" in capsys.readouterr().out
    written = json.loads((tmp_path / "grades.json").read_text())["submissions"]
    assert {"misconception", "option", "stage"} <= set(written[0]["scores"][0]) and written[0]["scores"][0]["option"]
    assert not re.search("ada|bob", (tmp_path / "grades-class.html").read_text())
    assert graded("--names") == 0
    assert "bob" in (tmp_path / "grades-class.html").read_text()


def test_the_command_fills_in_what_platforms_exported(graded, tmp_path, capsys):
    head = "Student,ID,SIS User ID,SIS Login ID,Section,Week 3 (7)"
    (tmp_path / "canvas.csv").write_text(f'{head}\n"L, Ada",1,,ada,A,\n"O, Bob",2,,bob,A,\n"C, Cyd",3,,cyd,A,\n')
    (tmp_path / "gs.csv").write_text("Name,SID,Email\nAda,1,ada@e.org\n")
    both = ("--scores", str(tmp_path / "canvas.csv"), "Week", "3", "--scores", str(tmp_path / "gs.csv"), "--names")
    assert graded(*both) == 0
    said = capsys.readouterr().out
    assert "column 'Week 3 (7)': notebook 03, 2 students\n" in said and "on no line of gs.csv: bob" in said
    lines = (tmp_path / "grades-for-canvas.csv").read_text().splitlines()
    full = PLANS["03"].out_of()
    without = full - declarations.get(ANSWERS).points
    assert [line.rpartition(",")[2] for line in lines] == ["Week 3 (7)", str(full), str(without), ""]
    assert (tmp_path / "grades-for-gradescope.zip").stat().st_size
    page = Seen((tmp_path / "grades-class.html").read_text()).text
    assert "Of 4 on the class list" not in page and "1 student: on the class list, and nothing handed in" in page


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["none.csv"], "none.csv"),
        (["odd.csv"], "expected a class list or gradebook as Canvas"),
        (["odd.csv", "other/odd.csv"], "files of different names"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_graded(graded, files, said, tmp_path, monkeypatch):
    (tmp_path / "odd.csv").write_text("x,y\n1,2\n")
    monkeypatch.setattr(command, "_graded", lambda *given: pytest.fail("it was graded"))
    with pytest.raises(Refused, match=said) as refused:
        graded(*(option for file in files for option in ("--scores", str(tmp_path / file))))
    assert "\n" not in str(refused.value)


def test_the_command_says_that_another_version_has_graded(graded, tmp_path, capsys):
    (tmp_path / "grades.graded.jsonl").write_text('{"key": "k", "report": {}}\n')
    assert graded() == 0
    assert (
        "grades.graded.jsonl is of another version of the course: everything is graded anew" in capsys.readouterr().err
    )


# ------------------------------------------------------------------------------------------------------ graded for real


@pytest.fixture
def there_is_a_sandbox():
    reason = sandbox.why_not()
    if reason and not os.environ.get("CI"):
        pytest.skip(reason)


def source_of(wrong, name: str) -> str:
    """A function of ours as an answer cell, with all that it needs."""
    module = inspect.getmodule(wrong)
    return sources.binding(inspect.getsource(module), wrong.__name__, name, module.__package__)


def handed_in(number: str, answers: dict[str, str]) -> bytes:
    """The notebook with these answers, and no others."""
    notebook = grading_zoo.load(ROOT / "notebooks" / f"{PLANS[number].stem}.ipynb")
    for cell in grading_zoo.answers(notebook):
        cell["source"] = answers.get(grading_zoo.quiz(cell), cell["source"])
    return grading_zoo.text(notebook)


def test_planted_misconceptions_are_found_and_named(there_is_a_sandbox):
    name = PLANS["03"].names[ANSWERS]
    wrong = ["variance for standard deviation"] * 2 + ["the image not shrunk"]
    answers = [{ANSWERS: source_of(SLIPS[each].wrong, name)} for each in wrong]
    answers += [
        {ANSWERS: f"def {name}(*given):\n    return given[0] + [1][4]\n", OPTIONS: 'noisier = "b"'},
        {ANSWERS: f"def {name}(x0, t:\n", OPTIONS: 'noisier = "b"'},
        {ANSWERS: f"import os\ndef {name}(*given):\n    os._exit(1)\n", OPTIONS: 'noisier = "z"'},
    ]
    job = dataclasses.replace(
        JOB, rules=Rules(11, {"s3": {OPTIONS: "bacd"}})
    )  # her b is the course's a, which is right
    reports = [
        batch.grade_one(job, Submission(f"s{k}", "03", f"{k}.ipynb"), handed_in("03", each))
        for k, each in enumerate(answers)
    ]
    found, options = question(reports, ANSWERS), question(reports, OPTIONS)
    assert found.misconceptions == Counter(wrong) and found.stages == {"raised": 1}
    assert found.kinds == {"wrong": 4, "did not run": 1, "stopped": 1} and found.stopped == {"crashed": 1}
    assert options.options == {"a": 1, "b": 1} and options.kinds == {"right": 1, "wrong": 2, "not answered": 3}
    page = Seen(class_page(reports)).text
    assert "2 of 6 (10 to 70 %) variance for standard deviation 1 − ᾱ is the" in page


def wrong_answers(number: str) -> dict[str, list]:
    """Quiz id -> known wrong answers to it, misconceptions first, that can stand in a cell by themselves."""
    mutants = importlib.import_module(f"lessons.nb{number}_mutants").MUTANTS
    found = {}
    for quiz in (task.quiz for task in PLANS[number].tasks if isinstance(task.quiz, Quiz)):
        functions = [each.wrong for each in quiz.misconceptions] + list(mutants.get(quiz.id, {}).values())
        functions = [each for each in functions if inspect.isfunction(each) and each.__name__ != "<lambda>"]
        found[quiz.id] = [each for each in functions if "lessons." not in _source_or(each)]
    return {id: functions for id, functions in found.items() if functions}


def _source_or(function) -> str:
    try:
        return source_of(function, "answer")
    except (StopIteration, TypeError, OSError):
        return "lessons."


@pytest.mark.slow
def test_a_class_of_mutants_is_counted_as_the_judge_sees_them(there_is_a_sandbox, report):
    """24 students, of whom some hand in a second notebook: answers wrong in ways of their own, or of many."""
    job = dataclasses.replace(JOB, limits=sandbox.Limits(seconds=20, submission=200, total_memory=2500))
    reports, expected = [], {}
    for number, students in (("03", 24), ("05", 8)):
        tasks = {task.quiz.id: task for task in PLANS[number].tasks}
        wrong = wrong_answers(number)
        for k in range(students):
            chosen = {id: each[k % (3 if k < 9 else len(each))] for id, each in wrong.items() if (k + len(id)) % 3}
            for id, function in chosen.items():
                known = planning.expected(tasks[id], job.rules.seed)
                results = run(function, known.cases, known.quiz.probe, known.quiz.forbidden)
                expected.setdefault((id, students), []).append(judge(known.quiz, known.cases, results, known))
            data = handed_in(number, {id: source_of(function, tasks[id].name) for id, function in chosen.items()})
            reports.append(batch.grade_one(job, Submission(f"s{k:02d}", number, f"{k}.ipynb"), data))
    named = 0
    for (id, students), verdicts in expected.items():
        found = question(reports, id)
        misconceptions = Counter(each.misconception for each in verdicts if each.misconception)
        assert found.misconceptions == misconceptions, id
        assert found.kinds["wrong"] == len(verdicts) and found.kinds["not answered"] == students - len(verdicts), id
        named += misconceptions.total()
    report.append(f"a class of 24: {sum(map(len, expected.values()))} wrong answers, {named} of them named")
    assert "24 students handed in 32 files." in class_page(reports)
