"""The grader from end to end: honest, damaged and hostile submissions, each with the score that it deserves."""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import grading_zoo
import psutil
import pytest
from grading_zoo import ONES, ZOO
from thinning import one_in

from classroom.grading import batch, reports, sandbox
from classroom.grading import plan as planning
from classroom.grading.handed_in.find import find
from classroom.grading.records import Rules, Submission, Trouble
from classroom.grading.reports import feedback
from classroom.grading.reports.cells import table
from classroom.quizzes import Concept, declarations

ROOT = Path(__file__).resolve().parent.parent
PLANS = planning.plans(planning.NOTEBOOKS)
NUMBER = "03"
PLAN = PLANS[NUMBER]
CLEAN, SOLVED = (grading_zoo.load(ROOT / folder / f"{PLAN.stem}.ipynb") for folder in ("notebooks", "solutions"))
JOB = batch.Job(Rules(seed=11), sandbox.Limits(seconds=6, submission=60, total_memory=2500))
SOON = batch.Job(Rules(seed=11), sandbox.Limits(seconds=3, submission=60, total_memory=2500))

RIGHT = "a = alpha_bar[t].to(x0.dtype).view(-1, 1, 1, 1); return a.sqrt() * x0 + (1 - a).sqrt() * noise"


def cells(kind: str) -> dict[str, str]:
    """name -> source of the answer cells of this kind in grading_answers.txt."""
    text = (Path(__file__).parent / "grading_answers.txt").read_text(encoding="utf-8")
    parts = [part.split("\n", 1) for part in text.split(f"\n=== {kind}: ")[1:]]
    return {name: source.split("\n=== ")[0].replace("RIGHT", RIGHT) for name, source in parts}


HONEST, HOSTILE = cells("honest"), cells("hostile")
HOSTILE |= {"a null byte": "add_noise = 1  # \x00", "very long": "add_noise = 1  #" + "#" * 3_000_000}


def unseen() -> dict[str, tuple[list[str], str]]:
    """name -> (cells above the answer, what it reads, which is 1): grading_unseen.txt holds what a kernel makes of ONE
    in ways that nobody sees without running them."""
    text = (Path(__file__).parent / "grading_unseen.txt").read_text(encoding="utf-8")
    parts = [part.partition("\n") for part in f"\n{text}".split("\n=== ")[1:]]
    pairs = [(head.partition(" => "), body.rstrip("\n").split("\n---\n")) for head, _, body in parts]
    return {name: (cells, one) for (name, _, one), cells in pairs}


UNSEEN = unseen()


@pytest.fixture(scope="module", autouse=True)
def there_is_a_sandbox():
    reason = sandbox.why_not()
    if reason and not os.environ.get("CI"):  # in continuous integration the tests then fail
        pytest.skip(reason)


def graded(notebook: dict | bytes, student: str = "ada", job: batch.Job = JOB):
    data = notebook if isinstance(notebook, bytes) else grading_zoo.text(notebook)
    return batch.grade_one(job, Submission(student, NUMBER, f"{student}.ipynb"), data)


def loaded(submission: Submission) -> tuple[Submission, bytes | None]:
    try:
        return submission, submission.load()
    except Trouble as trouble:
        return dataclasses.replace(submission, trouble=str(trouble)), None


def with_answers(answers: dict[str, str]) -> dict:
    """The notebook as handed out, these answer cells filled in."""
    notebook = json.loads(json.dumps(CLEAN))
    for cell in grading_zoo.answers(notebook):
        cell["source"] = answers.get(grading_zoo.quiz(cell), cell["source"])
    return notebook


def right_answer(quiz: str) -> str:
    return "".join(SOLVED["cells"][grading_zoo.place_of(SOLVED, quiz)]["source"])


def by_quiz(report) -> dict[str, object]:
    return {score.quiz: score for score in report.scores}


# ------------------------------------------------------------------------------------------------------------ honest


@pytest.mark.parametrize("number", PLANS)
def test_solved_earns_everything_and_untouched_nothing(number):
    plan = PLANS[number]
    for folder, points, status in (("solutions", plan.out_of(), "ok"), ("notebooks", 0, "missing")):
        data = (ROOT / folder / f"{plan.stem}.ipynb").read_bytes()
        report = batch.grade_one(JOB, Submission("ada", number, "a.ipynb"), data)
        assert {score.status for score in report.scores} == {status}, [s for s in report.scores if s.status != status]
        assert (report.points, report.out_of) == (points, plan.out_of())


def test_the_same_submission_is_graded_the_same():
    assert graded(SOLVED) == graded(SOLVED)


# What ONES vary is told apart, and run, in tests/test_grading_reader.py.
@pytest.mark.parametrize("name", one_in(4, sorted(ZOO.keys() - ONES)) + one_in(20, ONES))
def test_damaged_and_odd_files(name, tmp_path):
    animal = ZOO[name]
    animal.put(tmp_path, PLAN.stem, CLEAN, SOLVED)
    for submission in find(tmp_path, {number: plan.handed_out for number, plan in PLANS.items()}).submissions:
        if submission.notebook not in ("", NUMBER):
            continue
        report = batch.grade_one(JOB, *loaded(submission))
        deserved = {
            "all": PLAN.out_of(),
            "honest": PLAN.out_of(),
            "none": 0,
            "half": sum(declarations.get(id).points for id in grading_zoo.half(CLEAN)),
            "unreadable": 0,
        }[animal.expected]
        assert report.points == deserved, [(s.quiz, s.status, s.message) for s in report.scores]
        if animal.expected == "unreadable":
            assert report.status == "unreadable" and len(report.notes[0]) < 300
            assert "\n" not in report.notes[0]


@pytest.mark.parametrize("name", one_in(3, HONEST))
def test_honest_answers_lose_nothing(name):
    score = by_quiz(graded(with_answers({"forward/add-noise": HONEST[name]})))["forward/add-noise"]
    assert score.status == "ok", score.message


@pytest.mark.parametrize("name", one_in(10, UNSEEN))
def test_what_cannot_be_seen_is_there_at_a_second_try(name):
    cells, one = UNSEEN[name]
    notebook = grading_zoo.answered_with(copy.deepcopy(CLEAN), grading_zoo.READS_ONE(f"({one})"), cells)
    score = by_quiz(graded(notebook))["forward/add-noise"]
    assert score.status == "ok", score.message


def test_a_second_try_is_not_unfair():
    """It says what is wrong where the first one could only say what is lacking, and it costs no points."""
    cells = ["CONFIG = dict(ONE=1)", "globals().update(CONFIG)"]
    wrong = "def add_noise(x0, t, noise, alpha_bar):\n    return x0 + ONE\n"
    score = by_quiz(graded(grading_zoo.answered_with(copy.deepcopy(CLEAN), wrong, cells)))
    assert score["forward/add-noise"].message == "every entry is wrong, some too large, some too small."
    wrong = "def add_noise(x0, t, noise, alpha_bar):\n    return x0 + [ONE][3]\n"
    score = by_quiz(graded(grading_zoo.answered_with(copy.deepcopy(CLEAN), wrong, cells)))
    assert score["forward/add-noise"].message == "it raised IndexError in line 2 of the cell."
    cells = ["TABLE = {}\ndef alpha_bar(): pass", "while True: pass", "exit()", "raise SystemExit", "add_noise = 3"]
    right = f"def add_noise(x0, t, noise, alpha_bar):\n    {RIGHT}\n"
    score = by_quiz(graded(grading_zoo.answered_with(copy.deepcopy(CLEAN), right, cells)))
    assert score["forward/add-noise"].status == "ok"


def test_second_tries_have_little_time():
    notebook = grading_zoo.filled(copy.deepcopy(CLEAN), copy.deepcopy(SOLVED))
    for cell in grading_zoo.answers(notebook):
        cell["source"] = cell["source"].replace("return ", "return 2 * ")
    notebook = grading_zoo.answered_with(notebook, grading_zoo.ANSWER, ["import time\nwhile True: time.sleep(1)"])
    start = time.monotonic()
    report = graded(notebook, job=batch.Job(Rules(seed=11), sandbox.Limits(seconds=6, submission=60, again=4)))
    assert time.monotonic() - start < 40 and {score.status for score in report.scores} <= {"wrong", "missing", "ok"}


def test_an_answer_may_build_on_another_quiz_that_was_left_open():
    """`attention` is the course's own there, as in the notebook, and is not graded."""
    name = f"{PLANS['04'].stem}.ipynb"
    clean, solved = (grading_zoo.load(ROOT / folder / name) for folder in ("notebooks", "solutions"))
    source = solved["cells"][grading_zoo.place_of(solved, "unet/other-attention")]["source"]
    assert "attention(" in "".join(source)
    clean["cells"][grading_zoo.place_of(clean, "unet/other-attention")]["source"] = source
    report = by_quiz(batch.grade_one(JOB, Submission("ada", "04", "a.ipynb"), grading_zoo.text(clean)))
    assert report["unet/other-attention"].status == "ok" and report["unet/attention"].status == "missing"


def test_a_quiz_is_not_answered_by_another_with_the_same_answer():
    """`add_noise`, left open, is the course's own in the notebook; a second quiz asks for the same function again."""
    name = PLAN.names["forward/published-noise"]
    source = f"def {name}(*given):\n    return add_noise(*given)\n"
    assert by_quiz(graded(with_answers({"forward/published-noise": source})))["forward/published-noise"].points == 0
    both = {"forward/published-noise": source, "forward/add-noise": right_answer("forward/add-noise")}
    assert by_quiz(graded(with_answers(both)))["forward/published-noise"].status == "ok"


def test_wrong_answers_get_advice_and_no_hidden_numbers():
    wrong = "def add_noise(x0, t, noise, alpha_bar):\n    return x0\n"
    score = by_quiz(graded(with_answers({"forward/add-noise": wrong})))["forward/add-noise"]
    assert score.status == "wrong" and score.points == 0 and len(score.message) > 20


def test_questions_are_read_and_not_run(tmp_path):
    trap = f"noisier = 'a' if open({str(tmp_path / 'ran')!r}, 'w') else 'a'"
    assert by_quiz(graded(with_answers({"forward/noisier": trap})))["forward/noisier"].points == 0
    assert not (tmp_path / "ran").exists()
    assert by_quiz(graded(with_answers({"forward/noisier": 'noisier = "a"'})))["forward/noisier"].points == 1


def test_an_order_of_options_of_ones_own():
    concept = declarations.get("forward/noisier")
    order = "dcba"
    job = batch.Job(Rules(11, {"ada": {concept.id: order}}), JOB.limits)
    shown = "abcd"[order.index(concept.answer)]
    answer = with_answers({concept.id: f'noisier = "{shown}"'})
    assert by_quiz(graded(answer, "ada", job))[concept.id].points == 1
    assert by_quiz(graded(answer, "bob", job))[concept.id].points == (shown == concept.answer)


# ----------------------------------------------------------------------------------------------------------- hostile


@pytest.mark.parametrize("name", one_in(2, HOSTILE))
def test_hostile_answers_earn_nothing_and_harm_nobody(name):
    """... and the honest answers beside them, in the same notebook, keep their points."""
    honest = {id: right_answer(id) for id in ("forward/noisier", "forward/step-variances", "forward/log-snr")}
    start = time.monotonic()
    report = by_quiz(graded(with_answers(honest | {"forward/add-noise": HOSTILE[name]}), job=SOON))
    assert report["forward/add-noise"].points == 0, report["forward/add-noise"]
    assert report["forward/add-noise"].status in ("wrong", "missing", "timeout", "crashed")
    assert {id: report[id].status for id in honest} == dict.fromkeys(honest, "ok"), report
    assert time.monotonic() - start < 60
    assert not Path("/usr/here").exists() and not Path("/tmp/unpickled").exists()


def test_one_answers_errors_stop_nobody_else():
    """A syntax error, a stray failure and an endless loop in one cell, whose function another cell mentions."""
    name = PLAN.names["forward/published-noise"]
    other = right_answer("forward/published-noise") + "\n# unlike add_noise\n"
    for broken in ("def add_noise(x0, t:", "return 3", "assert False\ndef add_noise(*a): pass", "while True: pass"):
        answers = {"forward/add-noise": broken, "forward/published-noise": other}
        report = by_quiz(graded(with_answers(answers), job=SOON))
        assert report["forward/published-noise"].status == "ok", (broken, name, report["forward/published-noise"])
        assert report["forward/add-noise"].points == 0


@pytest.mark.parametrize("message", [r"\ud800", r"\x1b]0;title\x07", r"\x00 \u202e", r"\n\n=1+1", "x" * 100_000])
def test_messages_are_one_printable_line(message, tmp_path):
    source = f"def add_noise(x0, t, noise, alpha_bar):\n    raise ValueError('{message}')\n"
    report = graded(with_answers({"forward/add-noise": source}))
    said = by_quiz(report)["forward/add-noise"].message
    assert said.isprintable() and len(said) <= 1000
    reports.write_all([report], tmp_path / "grades.csv", {"seed": 1})


def test_what_an_exception_says_reaches_no_page():
    source = "def add_noise(x0, t, noise, alpha_bar):\n    raise ValueError(object(), x0)\n"
    report = graded(with_answers({"forward/add-noise": source}))
    assert by_quiz(report)["forward/add-noise"].message == "it raised ValueError in line 2 of the cell."


def test_forged_results_harm_nobody():
    """Whatever bytes an answer's process gives back, its own question alone is lost."""
    forge = "import classroom.quizzes.wire as r, json, struct\n"
    forge += "def wire(tree):\n    text = json.dumps(tree).encode()\n"
    forge += "    return r.MAGIC + struct.pack('<Q', len(text)) + text\n"
    odd = {"status": "returned", "output": {"k": "Unsupported", "v": {"kind": 5, "detail": ""}}}
    for data in (
        "wire([{'k': 'Result', 'v': []}])",
        "wire(None)",
        "b'quiz1'",
        "b''",
        "wire([[]] * 4_000_000)",
        f"wire([{{'k': 'Result', 'v': {odd}}}])",
    ):
        source = f"{forge}r.answer_wire = lambda *given: {data}\ndef add_noise(*given):\n    return given[0]\n"
        report = by_quiz(graded(with_answers({"forward/add-noise": source})))
        assert report["forward/add-noise"].points == 0


def test_numbers_of_hidden_inputs_are_not_told():
    plan = PLANS["06"]
    notebook = grading_zoo.load(ROOT / "notebooks" / f"{plan.stem}.ipynb")
    cell = notebook["cells"][grading_zoo.place_of(notebook, "sampling/timesteps")]
    cell["source"] = "def timesteps(T, steps):\n    return [T] * (steps + 1)\n"
    score = by_quiz(batch.grade_one(JOB, Submission("ada", "06", "a.ipynb"), grading_zoo.text(notebook)))
    assert score["sampling/timesteps"].status == "wrong"
    assert "expected" not in score["sampling/timesteps"].message


def test_helpers_may_stand_in_another_cell():
    notebook = with_answers(
        {
            "forward/add-noise": """
def add_noise(x0, t, noise, alpha_bar):
    a = widen(K.cast(alpha_bar[t], x0), x0)
    return root(a) * x0 + root(ONE - a) * noise
"""
        }
    )
    own = "import math\nclass K:\n    @staticmethod\n    def cast(a, like): return a.to(like.dtype)\n"
    own += "ONE: float = 1.0\nroot = torch.sqrt\nwiden = lambda a, like: a.view(-1, *[1] * (like.ndim - 1))\n"
    notebook["cells"].insert(4, grading_zoo.code_cell(own))
    assert by_quiz(graded(notebook))["forward/add-noise"].status == "ok"


def test_nothing_is_left_behind():
    """After hostile submissions there are as many processes as before them: the sandbox's own, which sleep."""
    graded(with_answers({}), job=SOON)  # it is warm now
    before = len(psutil.Process().children(recursive=True))
    for name in ("a daemon that stays", "fork bomb", "a thread past the end"):
        graded(with_answers({"forward/add-noise": HOSTILE[name]}), job=SOON)
    deadline = time.monotonic() + 10
    while len(psutil.Process().children(recursive=True)) > before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(psutil.Process().children(recursive=True)) <= before


def test_feedback_shows_no_text_of_a_students():
    report = graded(with_answers({"forward/add-noise": HOSTILE["a message full of HTML"]}))
    shown = feedback.page("<script>ada</script>", [report])
    assert "<script>" not in shown and "&lt;script&gt;ada" in shown


def test_a_spreadsheet_is_given_no_formulas():
    rows = list(csv.reader(io.StringIO(table(["student"], [["=1+1"], ["@x"], ["ada"]]))))
    assert rows == [["student"], ["'=1+1"], ["'@x"], ["ada"]]


# ------------------------------------------------------------------------------------------------------------- batch


@pytest.fixture(scope="module")
def classroom(tmp_path_factory) -> Path:
    """Six submissions in nbgrader's layout: solved, untouched, hostile, broken."""
    folder = tmp_path_factory.mktemp("class") / "submitted"
    kinds = [SOLVED, with_answers({}), with_answers({"forward/add-noise": HOSTILE["os._exit"]})]
    for i in range(6):
        place = folder / f"student{i:02d}" / PLAN.stem
        place.mkdir(parents=True)
        data = b"{ not JSON" if i == 5 else grading_zoo.text(kinds[i % 3])
        (place / f"{PLAN.stem}.ipynb").write_bytes(data)
    return folder


def grade_command(submissions: Path, out: Path, *more: str) -> list[str]:
    options = ["--out", str(out), "--seed", "5", "--seconds", "6", *more]
    return [sys.executable, "-m", "classroom", "grade", str(submissions), *options]


def run_command(submissions: Path, out: Path, *more: str) -> subprocess.CompletedProcess:
    command = grade_command(submissions, out, *more)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)


@pytest.fixture(scope="module")
def whole_run(classroom, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "grades.csv"
    done = run_command(classroom, out, "--workers", "1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "6 students, 6 files" in done.stdout and "student05" in done.stdout
    return out


def test_command_writes_every_file(whole_run):
    rows = list(csv.DictReader(whole_run.open(encoding="utf-8-sig")))
    totals = {row["student"]: (float(row["points"]), row["status"]) for row in rows if row["question"] == "total"}
    assert len(totals) == 6 and totals["student00"] == (PLAN.out_of(), "ok")
    assert totals["student01"] == (0, "missing") and totals["student05"] == (0, "unreadable")
    assert {row["question"] for row in rows} == {*PLAN.names, "total"}
    assert json.loads(whole_run.with_name("grades.json").read_text())["seed"] == 5
    pages = whole_run.with_name("grades-feedback")
    assert len(list(pages.glob("*.html"))) == 6
    by_student = list(csv.DictReader(whole_run.with_name("grades-totals.csv").open(encoding="utf-8-sig")))
    assert [float(row["points"]) for row in by_student][:2] == [PLAN.out_of(), 0]
    assert whole_run.with_name("grades-nbgrader.csv").read_text().startswith("assignment,")
    shown = whole_run.with_name("grades-class.html").read_text()
    assert "6 students handed in 6 files." in shown and "3.3b · Jump to step t" in shown and "student0" not in shown


def test_pages_hold_no_solutions(whole_run):
    for page in whole_run.with_name("grades-feedback").glob("*.html"):
        text = page.read_text()
        for id in PLAN.names:
            declared = declarations.get(id)
            if isinstance(declared, Concept):
                assert not [o for o in declared.options.values() if o.right and o.feedback[:40] in text]


def test_killed_in_the_middle_and_continued_gives_the_same(classroom, whole_run, tmp_path):
    out = tmp_path / "grades.csv"
    ledger = out.with_name("grades.graded.jsonl")
    child = subprocess.Popen(
        grade_command(classroom, out, "--workers", "2"), cwd=ROOT, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and (not ledger.exists() or ledger.read_text().count("\n") < 2):
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert 2 <= ledger.read_text().count("\n") < 6 and not out.exists()
    done = run_command(classroom, out, "--workers", "2")
    assert done.returncode == 0, done.stderr[-2000:]
    assert out.read_bytes() == whole_run.read_bytes()


def test_a_late_file_is_graded_alone(classroom, whole_run, tmp_path):
    start = len(whole_run.with_name("grades.graded.jsonl").read_text().splitlines())
    done = run_command(classroom, whole_run, "--workers", "1")
    assert done.returncode == 0 and "6 students, 6 files" in done.stdout
    assert len(whole_run.with_name("grades.graded.jsonl").read_text().splitlines()) == start


def test_moodles_folders_go_by_the_students_name(tmp_path):
    place = tmp_path / "Ada Lovelace_12345_assignsubmission_file"
    place.mkdir()
    (place / "03_forward_diffusion.ipynb").write_bytes(grading_zoo.text(CLEAN))
    (found,) = find(tmp_path, {NUMBER: PLAN.handed_out}).submissions
    assert (found.student, found.notebook) == ("Ada Lovelace", NUMBER)


@pytest.mark.slow  # tests/test_grading_files.py reads the same out of a zip as out of its folder
def test_a_zip_is_graded_like_its_folder(classroom, whole_run, tmp_path):
    archive = tmp_path / "moodle.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(classroom.rglob("*.ipynb"))[:3]:
            file.write(path, path.relative_to(classroom.parent))
    assert run_command(archive, tmp_path / "grades.csv", "--workers", "1").returncode == 0
    ours, folder = (
        {(row["student"], row["question"]): row["points"] for row in csv.DictReader(path.open(encoding="utf-8-sig"))}
        for path in (tmp_path / "grades.csv", whole_run)
    )
    assert ours and ours.items() <= folder.items()


@pytest.mark.slow
def test_a_cluster_gives_the_same(classroom, whole_run, tmp_path):
    distributed = pytest.importorskip("distributed", reason="Dask is an optional extra: pip install distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        done = run_command(classroom, tmp_path / "grades.csv", "--scheduler", cluster.scheduler_address)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "grades.csv").read_bytes() == whole_run.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere"),
        (["README.md"], "README.md"),
        (["docs"], "found none"),
        (["notebooks", "--variants", "README.md"], "variants.json"),
        (["notebooks", "--scheduler", "tcp://127.0.0.1:1"], "127.0.0.1:1"),
    ],
)
def test_bad_arguments_get_one_line(arguments, said, tmp_path):
    command = [sys.executable, "-m", "classroom", "grade", *arguments, "--out", str(tmp_path / "g.csv")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
