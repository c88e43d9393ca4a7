"""Every notebook, solved and untouched, runs from top to bottom: offline on digits, and on Fashion-MNIST where it is.

All runs have the network blocked, effort smoke, and are made on copies: the tree is not written to.
  solved, fashion-mnist     on the real data, where COURSE_DATA has them
  untouched, no data        the student notebook asks for Fashion-MNIST, cannot have it, says so, goes on with digits
                            (in every fourth; slow in the others, of which 01 to 03 run untouched in
                            test_own_images.py, on a folder with one picture)
Between them both faces, both data sets and the way from one to the other are seen. Slow, that is in `make test-all`:
  solved, digits            on scikit-learn's digits (not slow where there is no Fashion-MNIST to run the solved on)
  untouched, fashion-mnist  the student notebook on the real data
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import running
from running import FACES, NOTEBOOKS, has_fashion, read, written
from test_own_images import HARDEST

SKIP_TAGS = {"nbval-skip", "raises-exception", "nbval-ignore-output"}
SMOKE = 30  # seconds that a notebook may take at effort smoke; told when exceeded, not asserted: machines differ


SITUATIONS = {
    ("solved", "fashion-mnist"): (),
    ("untouched", "no data"): (),
    ("solved", "digits"): pytest.mark.slow if has_fashion() else (),
    ("untouched", "fashion-mnist"): pytest.mark.slow,
}


def left_out(face: str, name: str) -> tuple:
    """The mark of an untouched notebook that is not one of every fourth, or runs untouched on own images."""
    seen = name not in NOTEBOOKS[::4] or name[:2] in HARDEST["one"]
    return (pytest.mark.slow,) if face == "untouched" and seen else ()


RUNS = [
    pytest.param(face, data, name, id=f"{name}-{face}-{data}", marks=marks or left_out(face, name))
    for name in NOTEBOOKS
    for (face, data), marks in SITUATIONS.items()
]


def test_there_are_notebooks():
    assert {name[:2] for name in NOTEBOOKS} >= {"00", "01", "02", "03", "04", "05"}
    for folder in FACES.values():
        assert sorted(p.stem for p in folder.glob("[0-9][0-9]_*.ipynb")) == NOTEBOOKS


@pytest.mark.parametrize(("face", "data", "name"), RUNS)
def test_runs_to_the_end(face, data, name, ran, report):
    if data == "fashion-mnist" and not has_fashion():
        pytest.skip("COURSE_DATA names no folder that holds fashion-mnist")
    run = ran(face, data, name)
    slow = f"  (more than {SMOKE} s)" if run.seconds > SMOKE else ""
    report.append(f"{name}, {face}, {data}: {run.passed} of {run.cells} cells ran, {run.seconds:.0f} s{slow}")
    assert run.failed == () and run.skipped == (), run.log
    assert run.passed == run.cells > 0, run.log


@pytest.mark.parametrize("name", NOTEBOOKS)
@pytest.mark.parametrize("face", FACES)
def test_no_cell_is_exempt(face, name):
    nb = read(face, name)
    exempt = {c.id for c in nb.cells if SKIP_TAGS & set(c.metadata.get("tags", ()))}
    answers = {c.id for c in nb.cells if c.metadata.get("course", {}).get("role") == "answer"}
    assert exempt == (answers if face == "untouched" else set()), "only a student's own code may stop"


# --- that the tests themselves can see --------------------------------------------------------------------------------


REACH_OUT = """
import socket, urllib.request
for attempt in [lambda: urllib.request.urlopen("http://example.org", timeout=5),
                lambda: socket.create_connection(("192.0.2.1", 80), timeout=5),
                lambda: socket.socket().connect_ex(("192.0.2.1", 80)),
                lambda: socket.getaddrinfo("example.org", 80)]:
    try:
        attempt()
    except OSError as error:
        assert "network access is blocked in this test" in str(error), error
    else:
        raise AssertionError("the network was reached")
"""


def test_the_network_is_blocked_in_a_kernel(tmp_path):
    run = running.run(written(tmp_path, REACH_OUT), tmp_path / "run", env={})
    assert (run.passed, run.failed) == (1, ()), run.log


def test_without_the_block_the_probe_would_notice(tmp_path):
    script = REACH_OUT.replace("http://example.org", "http://127.0.0.1:9")  # refused at once, and not by the block
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1 and "AssertionError" in done.stderr


def test_a_failing_cell_is_counted(tmp_path):
    run = running.run(written(tmp_path, "x = 1", "x / 0", "x"), tmp_path / "run", env={})
    assert (run.cells, run.passed, len(run.failed)) == (3, 2, 1)
    assert "ZeroDivisionError" in run.log
