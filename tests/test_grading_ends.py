"""However a grading ends, its processes and files end with it, and the same command goes on to the same result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grading_zoo
import psutil
import pytest

from classroom.grading import batch, sandbox
from classroom.grading.records import Submission

ROOT = Path(__file__).resolve().parent.parent
STEM = "03_forward_diffusion"
ENDLESS = "def add_noise(x0, t, noise, alpha_bar):\n    while True:\n        pass\n"
SHARED = Path("/dev/shm")


@pytest.fixture(scope="module", autouse=True)
def there_is_a_sandbox():
    reason = sandbox.why_not()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory) -> Path:
    """A solved notebook, which comes first, and four whose answer does not end."""
    folder = tmp_path_factory.mktemp("class")
    clean, solved = (grading_zoo.load(ROOT / kind / f"{STEM}.ipynb") for kind in ("notebooks", "solutions"))
    endless = json.loads(json.dumps(clean))
    for cell in grading_zoo.answers(endless):
        if grading_zoo.quiz(cell) == "forward/add-noise":
            cell["source"] = ENDLESS
    for number, notebook in enumerate([solved, endless, endless, endless, endless]):
        place = folder / f"student{number}"
        place.mkdir()
        (place / f"{STEM}.ipynb").write_bytes(grading_zoo.text(notebook))
    return folder


def start(submissions: Path, out: Path, **more) -> subprocess.Popen:
    """The command in a session of its own; what it puts into the folder for temporary files is seen in `out`'s."""
    command = [sys.executable, "-m", "classroom", "grade", str(submissions), "--out", str(out)]
    command += ["--seed", "5", "--seconds", "4", "--workers", "2"]
    temporary = out.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    environment = os.environ | {"TMPDIR": str(temporary)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, stderr=-1, stdout=-1, **more)


@pytest.fixture(scope="module")
def whole(handed_in, tmp_path_factory) -> bytes:
    """The table of a grading that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole") / "grades.csv"
    _, said = (child := start(handed_in, out)).communicate(timeout=200)
    assert child.returncode == 0, said.decode()[-2000:]
    return out.read_bytes()


def interrupted(submissions: Path, out: Path, number: int, everybody: bool) -> tuple[subprocess.Popen, list, float]:
    """Send a signal while answers are running: the process, all that it had started, and when the signal came."""
    child = start(submissions, out)
    ledger = out.with_name("grades.graded.jsonl")
    deadline = time.monotonic() + 100
    while not ledger.exists() or not ledger.read_text():
        assert child.poll() is None and time.monotonic() < deadline, child.communicate()
        time.sleep(0.05)
    time.sleep(1)
    family = psutil.Process(child.pid).children(recursive=True)
    assert len(family) > 10  # two workers, two warm processes each behind bubblewrap's two, and an answer in one
    at = time.monotonic()
    (os.killpg if everybody else os.kill)(child.pid, number)
    return child, family, at


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
ENDS = [(number, group) for number in SIGNALS for group in (0, 1)]
USUAL = (signal.SIGINT, 1)  # what a terminal does


def nothing_outlives(handed_in: Path, tmp_path: Path, number: int, everybody: bool) -> Path:
    """End a grading in this way; where its table will be, of which nothing is there yet."""
    out, shared = tmp_path / "grades.csv", set(SHARED.iterdir())
    child, family, at = interrupted(handed_in, out, number, everybody)
    _, said = child.communicate(timeout=20)
    assert time.monotonic() - at < 3  # two on a machine that does nothing else
    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert list((tmp_path / "temporary").iterdir()) == [] and set(SHARED.iterdir()) <= shared
    assert not out.exists()
    if number == signal.SIGINT:
        assert child.returncode == 130 and b"goes on from there" in said and b"Traceback" not in said
    return out


@pytest.mark.slow
def test_nothing_outlives_it(handed_in, tmp_path):
    """That it goes on to the same end is seen after a SIGKILL in test_grading.py, and below after every other end."""
    nothing_outlives(handed_in, tmp_path, *USUAL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "everybody"),
    ENDS,
    ids=[f"{number.name} to {'its whole group' if group else 'the grader alone'}" for number, group in ENDS],
)
def test_nothing_outlives_it_and_it_goes_on_to_the_same_end(handed_in, whole, tmp_path, number, everybody):
    out = nothing_outlives(handed_in, tmp_path, number, everybody)
    done = start(handed_in, out)
    assert done.wait(200) == 0
    assert out.read_bytes() == whole


def test_without_walls_too_the_processes_end_with_who_has_started_them():
    script = (
        "from classroom.grading import course; from classroom.grading.sandbox import Sandbox;"
        "from classroom.grading.records import Question; s = Sandbox(course.luggage(), unsafe=True); s.ready();"
        "print('up', flush=True); s.run([Question('a/b', 'f', 'while True: pass', '03', (b'',))])"
    )
    grader = subprocess.Popen([sys.executable, "-c", script], stdout=-1, cwd=ROOT)
    assert grader.stdout.readline() == b"up\n"
    time.sleep(1)
    family = psutil.Process(grader.pid).children(recursive=True)
    assert len(family) >= 3
    grader.kill()
    grader.communicate()
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_a_worker_that_dies_takes_nobody_along(handed_in, tmp_path):
    """Its file is tried again; who dies over it twice waits for a person."""
    submissions = [Submission(name, "03", name, source=lambda: b"{}") for name in ("ada", "bob", "cyd")]
    job = batch.Job(unsafe=True)
    calls = []

    def dies(_: batch.Job, one: Submission, data: bytes):
        calls.append(one.student)
        if one.student == "bob":
            raise batch.Died
        return batch.Report(one.student, "03", one.name)

    class Pool(batch.ThreadPoolExecutor):
        def submit(self, task, *arguments):
            return super().submit(dies, *arguments)

    reports = batch.run(job, submissions, lambda: Pool(1), tmp_path / "ledger")
    assert [report.student for report in reports] == ["ada", "bob", "cyd"]
    assert sorted(calls) == ["ada", "bob", "bob", "cyd"]
    assert "look at it by hand" in reports[1].notes[0] and reports[1].points == 0


def test_of_a_students_many_files_only_some_are_graded():
    many = [Submission("ada", "03", f"{n}.ipynb") for n in range(13)] + [Submission("ada", "04", "x.ipynb")]
    many += [Submission("bob", "03", "y.ipynb"), Submission("ada", "03", "z.ipynb", trouble="the file is empty")]
    told = {one.name: one.trouble for one in batch._not_too_many(many)}
    assert [name for name, trouble in told.items() if trouble] == ["10.ipynb", "11.ipynb", "12.ipynb", "z.ipynb"]
    assert "10" in told["12.ipynb"] and told["z.ipynb"] == "the file is empty"
