"""Settings that every test shares. (course_utils is imported inside: jaxtyping's import hook must come first.)"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).resolve().parent.parent
collect_ignore = ["demo", "no_network"]  # material of tests, not modules with doctests
matplotlib.use("Agg")

# Genuine data sets may lie beside the repository; without them the tests use digits and what they generate.
if not os.environ.get("COURSE_DATA") and (ROOT.parent / "shared" / "data").is_dir():
    os.environ["COURSE_DATA"] = str(ROOT.parent / "shared" / "data")

# Kernels of tests leave no file behind that tells the next ones what was solved, but where a test is about that file.
os.environ["COURSE_PROGRESS"] = "off"

# Under nohup, or in the background of a shell script, Ctrl-C is ignored, and so it would be in every process started
# here; tests that send it mean it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests that take minutes begin first, so that several processes end together.
LONG = ["test_notebooks", "test_quizzes", "test_grading", "test_browser", "test_cli", "test_grading_sandbox"]
LONG += ["test_nbgrader", "test_grading_ends", "test_browser_explore", "test_build", "test_own_images"]

REPORT: list[str] = []  # lines that tests want to be read even when all is well


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


@pytest.fixture(scope="session")
def report() -> list[str]:
    """Append a line here and it stands in the summary at the end of the run."""
    return REPORT


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    """ran(face, data, name): a notebook's run (tests/running.py), made when first asked for and then remembered."""
    import running

    folder = tmp_path_factory.mktemp("runs")
    (folder / "empty").mkdir()
    results: dict[tuple, object] = {}

    def result(face: str, data: str, name: str) -> object:
        key = (face, data, name)
        if key not in results:
            env = running.settings(data, folder / "empty")
            place = folder / f"{name}-{face}-{data}".replace(" ", "-")
            notebook = running.FACES[face] / f"{name}.ipynb"
            results[key] = running.run(notebook, place, env=env)
        return results[key]

    return result


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """With several processes (`pytest -n 2 --dist loadgroup`): tests that share a notebook's runs, the cases of a
    notebook's quizzes, or the fixtures of a module, share a process."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
    for item in items:
        group = item.path.name
        if "ran" in getattr(item, "fixturenames", ()):
            group = item.callspec.params["name"]
        elif group == "test_quizzes.py" and "id" in getattr(getattr(item, "callspec", None), "params", ()):
            group = item.callspec.params["id"].partition("/")[0]
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish(session):
    """Some versions of pytest and pytest-xdist together forget the groups without a word, and all is run several
    times."""
    if getattr(session.config.option, "loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError(
            "this pytest and this pytest-xdist keep no groups together: pip install -r requirements-dev.txt"
        )


def pytest_sessionfinish(session):
    """A process of several hands what its tests measured to the first one."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["measured"] = REPORT


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """The first process takes it."""
    REPORT.extend(getattr(node, "workeroutput", {}).get("measured", ()))


def pytest_terminal_summary(terminalreporter):
    """Print what tests measured: cells run, seconds, mutants."""
    if REPORT:
        terminalreporter.section("measured")
        for line in REPORT:
            terminalreporter.write_line(line)
