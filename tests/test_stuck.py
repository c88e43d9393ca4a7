"""A check survives whatever became of the cell with the answer, says what that was, and the notebook goes on."""

from __future__ import annotations

import ast
import html
import json
import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest
from running import NOTEBOOKS

from classroom.quizzes import kernel as watching
from classroom.quizzes import memory

ROOT = Path(__file__).resolve().parent.parent
SETUP = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import ipywidgets
from classroom import ask, check, hint, predict, reveal
from quizzes import demo
"""
CHECK, ASK = 'mse = check("demo/mse", mse)', 'ask("demo/question", letter)'
RIGHT = "def mse(x, y):\n    return (x - y).square().flatten(1).mean(1)"
WRONG = "def mse(x, y):\n    return (x - y).flatten(1).mean(1)"


class Kernel:
    """A real kernel in which cells are run one at a time, with the ids that JupyterLab sends, or without."""

    def __init__(self, *arguments: str) -> None:
        from jupyter_client.manager import start_new_kernel

        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.manager, self.client = start_new_kernel(
            kernel_name="python3", env=os.environ | {"PYTHONPATH": path}, extra_arguments=[*arguments]
        )

    def run(self, source: str, cell: str = "") -> str:
        """All that a cell shows, cards as their text, errors as `Name: message`."""
        content = {"code": textwrap.dedent(source), "silent": False, "store_history": True, "allow_stdin": False}
        message = self.client.session.msg("execute_request", content | {"user_expressions": {}, "stop_on_error": False})
        message["metadata"] = {"cellId": cell} if cell else {}
        self.client.shell_channel.send(message)
        shown = []
        while True:
            got = self.client.get_iopub_msg(timeout=60)
            kind, said = got["msg_type"], got["content"]
            if got["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            if kind == "status" and said["execution_state"] == "idle":
                return "\n".join(shown)
            if kind == "error":
                shown.append(f"{said['ename']}: {said['evalue']}")
            elif kind == "stream":
                shown.append(said["text"])
            elif kind in ("display_data", "execute_result"):
                data = said["data"]
                plain = html.unescape(re.sub(r"<[^>]+>", "", data["text/html"])) if "text/html" in data else ""
                shown.append(plain or data.get("text/plain", ""))

    def stop(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def shared():
    kernel = Kernel()
    yield kernel
    kernel.stop()


FORGET = """
from classroom.quizzes import kernel as _kernel, notebook as _notebook
for _memory in (_kernel._gave, _kernel._lost, _kernel._last, _kernel._names):
    _memory.clear()
for _memory in (_notebook._hints_seen, _notebook._guesses, _notebook._tried):
    _memory.clear()
for _name in {"mse", "letter", "msee", "lettre", "error_of", "another", "mses", "my_error"} & set(globals()):
    del globals()[_name]
"""


@pytest.fixture
def kernel(shared):
    """The shared kernel, in which nothing but the set-up has run."""
    assert "Error" not in (said := shared.run(SETUP)), said
    assert "Error" not in (said := shared.run(FORGET)), said
    return shared


# What became of the cell with the answer -> what the card says besides. Each may come first or after a right answer.
BROKEN = {
    "a colon forgotten": (
        "def mse(x, y)\n    return x",
        "is not Python yet",
        "line 1, def mse(x, y): ",
        "expected ':'",
    ),
    "a bracket left open": ("def mse(x, y):\n    return ((x - y)", "is not Python yet", "was never closed"),
    "def misspelt": ("dfe mse(x, y):\n    return x", "is not Python yet", "invalid syntax"),
    "def forgotten": ("mse(x, y):\n    return x", "is not Python yet", "SyntaxError"),
    "badly indented": ("def mse(x, y):\nreturn x", "is not Python yet", "IndentationError"),
    "return outside": ("def mse(x, y):\n    z = x\nreturn z", "is not Python yet", "outside function", "line 3"),
    "a bad default": ("def mse(x, y=nothing):\n    return x", "stops with an error", "NameError", "line 1"),
    "a bad decorator": ("@nothing\ndef mse(x, y):\n    return x", "stops with an error", "NameError"),
    "an error above it": ("1 / 0\n\ndef mse(x, y):\n    return x", "stops with an error", "ZeroDivisionError"),
    "an import that fails": ("import nowhere\n" + RIGHT, "stops with an error", "ModuleNotFoundError", "line 1"),
    "code that is not Python": ('exec("x = ")\n' + RIGHT, "stops with an error", 'line 1, exec("x = ")', "SyntaxError"),
    "stopped": ("raise KeyboardInterrupt\ndef mse(x, y):\n    return x", "was stopped before it was through"),
}


@pytest.mark.parametrize(("before", "ids"), [(False, False), (True, True), (True, False)])
@pytest.mark.parametrize("broken", BROKEN)
def test_an_answer_cell_that_does_not_run(broken, before, ids, kernel):
    source, *words = BROKEN[broken]
    answer, checking = ("answer", "checking") if ids else ("", "")
    if before:
        kernel.run(RIGHT, answer)
        assert "Passed" in kernel.run(CHECK, checking)
    kernel.run(source, answer)
    said = kernel.run(CHECK, checking)
    for word in ["the cell with your answer", *words, "the course's own mse"]:
        assert word in said
    assert kernel.run("mse is demo.mse") == "True", "the notebook goes on with the reference"
    assert words[0] in kernel.run(CHECK, checking), "and the check says the same when it is asked again"
    kernel.run(RIGHT, answer)
    assert "Passed" in kernel.run(CHECK, checking)


GONE = {
    "renamed": (RIGHT.replace("mse", "msee"), "There is a msee: if that is your answer, call it mse"),
    "called otherwise": (RIGHT.replace("mse", "error_of"), "There is a error_of: if that is your answer"),
    "deleted": ("# later", ""),
    "not called by a name": ("lambda x, y: x", ""),
}


@pytest.mark.parametrize("before", [False, True], ids=["at once", "after a right answer"])
@pytest.mark.parametrize("gone", GONE)
def test_an_answer_cell_that_no_longer_gives_the_name(gone, before, kernel):
    source, words = GONE[gone]
    if before:
        kernel.run(RIGHT, "answer")
        assert "Passed" in kernel.run(CHECK, "checking")
    kernel.run(source, "answer")
    said = kernel.run(CHECK, "checking")
    assert words in said and ("no longer gives mse" if before else "there is no mse yet") in said
    assert kernel.run("mse is demo.mse") == "True"
    kernel.run(RIGHT, "answer")
    assert "Passed" in kernel.run(CHECK, "checking")


def test_a_name_that_a_student_never_made_is_not_offered(kernel):
    kernel.run("from quizzes.demo import mse as mses\nmsee = 3", "set-up")  # neither is a function of her own
    assert "There is a" not in (said := kernel.run(CHECK, "checking"))
    assert "Run the cell with your answer, then this one" in said and "Run All Above Selected Cell" in said


def test_renamed_where_the_front_end_sends_no_ids_of_cells(kernel):
    kernel.run("def mse(x, y): return")
    kernel.run(CHECK)
    kernel.run(RIGHT.replace("mse", "my_error"))
    said = kernel.run(CHECK)
    assert "this is the course's own function" in said and "There is a my_error: if that is your answer" in said


def test_the_answer_to_another_quiz_is_not_taken_for_a_misnamed_one(kernel):
    kernel.run("def mses(n, k, s, p): return (n + 2 * p - k) // s + 1", "another answer")
    assert "Passed" in kernel.run('mses = check("demo/conv-size", mses)', "another check")
    assert "There is a" not in kernel.run(CHECK, "checking")


@pytest.mark.parametrize("cell", ["check, ask = 1, 2", "def check(*_): 1 / 0\nask = check", "del check, ask"])
def test_an_answer_that_takes_the_name_of_the_check(cell, kernel):
    kernel.run(f"{RIGHT}\nletter = 'b'\n{cell}", "answer")
    assert "Passed" in kernel.run(CHECK, "checking") and "b: right." in kernel.run(ASK, "asking")


def test_cells_out_of_order(kernel):
    assert "there is no mse yet" in kernel.run(CHECK, "checking")
    kernel.run(RIGHT, "answer")
    assert "Passed" in kernel.run(CHECK, "checking")
    kernel.run("mse = 3", "somewhere below")
    assert "expected your function, got a value of type int" in kernel.run(CHECK, "checking")


def test_an_answer_moved_to_another_cell_counts(kernel):
    kernel.run(RIGHT, "answer")
    kernel.run(RIGHT, "moved here")
    kernel.run("# empty", "answer")
    assert "Passed" in kernel.run(CHECK, "checking")


@pytest.mark.parametrize(
    "cell",
    [
        RIGHT + "\n\nmse(1, 2)",  # a try of her own below it, which stops: the function above is there
        "%%time\n" + RIGHT,
        "%%capture\n" + RIGHT,
        "!true\n" + RIGHT,
        RIGHT.replace("def mse", "def another") + "\nmse = another",
        "import asyncio\nawait asyncio.sleep(0)\n" + RIGHT,
        "if True:\n" + textwrap.indent(RIGHT, "    "),
    ],
    ids=["a try below", "%%time", "%%capture", "!", "assigned", "await", "in an if"],
)
def test_cells_that_give_the_answer_all_the_same(cell, kernel):
    kernel.run("def mse(x, y): return", "answer")
    kernel.run(cell, "answer")
    assert "Passed" in kernel.run(CHECK, "checking")


def test_other_cells_that_stop_are_no_answers(kernel):
    kernel.run(RIGHT, "answer")
    for scratch in (
        "print(mse(1, 2)",
        "mse(1, 2",
        "x = mse(1, 2)",
        "if mse(1, 2) == 3\n    pass",
        "assert mse(1, 2) == 3",
    ):
        kernel.run(scratch, "scratch")
        assert "Passed" in kernel.run(CHECK, "checking"), scratch


@pytest.mark.parametrize("before", ["", 'letter = ""', 'letter = "b"'])
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('letter = "b', "unterminated string"),
        ("letter = b", 'A letter stands in quotes: letter = "b"'),
        ('letter "b"', "SyntaxError"),
        ("letter b", "SyntaxError"),
        ('lettre = "b"', "There is a lettre: if that is your answer, call it letter"),
        ("", "then this one"),
    ],
)
def test_a_question_whose_letter_is_not_there(source, words, before, kernel):
    kernel.run(before, "answer")
    kernel.run(source, "answer")
    said = kernel.run(ASK, "asking")
    assert "No answer yet: " in said and words in said and "right" not in said
    assert "NameError" in kernel.run("letter") or before, "nothing is left behind where the answer should be"
    kernel.run('letter = "b"', "answer")
    assert "b: right." in kernel.run(ASK, "asking")


@pytest.mark.parametrize("value", ["3", "None", "lambda: 1", "[]", "ask", "b'b'", "__import__('torch').ones(2)"])
def test_a_question_with_any_object(value, kernel):
    said = kernel.run(f"letter = {value}\n{ASK}")
    assert "Error" not in said and ("No answer yet" in said or "expected one of the letters" in said)


def test_a_name_that_nothing_has_made_is_explained_below_the_traceback(kernel):
    assert "Is `images` made in a cell above? Then that cell has not run: choose Run → Run All" in kernel.run(
        "len(images)"
    )
    kernel.run("images = [1]")
    assert "made in a cell above" not in kernel.run("len(imagse)"), "a misspelt name is not a cell that was not run"
    assert "made in a cell above" not in kernel.run("1 / 0")
    assert "made in a cell above" not in kernel.run("letter = b"), "the check says what it is"


def test_the_hooks_are_there_once_however_often_the_course_is_imported(kernel):
    count = "sum(f.__module__ == 'classroom.quizzes.kernel' for f in get_ipython().events.callbacks['post_run_cell'])"
    assert kernel.run(count) == "1"
    kernel.run("import importlib; importlib.reload(_kernel); from classroom import check, ask")
    assert kernel.run(count) == "1"
    kernel.run("def mse(x, y) return x", "answer")
    assert "is not Python yet" in kernel.run(CHECK, "checking")


def test_a_broken_hook_breaks_no_cell(kernel):
    kernel.run("_kept, _kernel._given, _kernel._asked = (_kernel._given, _kernel._asked), None, None")
    try:
        assert kernel.run("1 + 1") == "2"
        assert "Passed" in kernel.run(f"{RIGHT}\n{CHECK}")
    finally:
        kernel.run("_kernel._given, _kernel._asked = _kept")


def test_a_kernel_of_the_environment_of_make_lab_says_that_it_is_new(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    config = tmp_path / "etc" / "ipython" / "ipython_kernel_config.py"  # where IPython looks in its environment
    subprocess.run(["make", "-f", "course.mk", f"VENV={tmp_path}", str(config)], cwd=ROOT, check=True)
    kernel = Kernel(f"--config={config}")
    try:
        new = "This kernel is new and knows nothing yet: Run → Run All Above Selected Cell, then run this cell again."
        assert new in kernel.run("torch.ones(2)") and new in kernel.run("x = check('demo/mse', x)")
        assert new not in kernel.run("1 / 0") and kernel.run("'torch' in __import__('sys').modules") == "False"
        kernel.run(SETUP)
        said = kernel.run("images.shape")
        assert new not in said and "Is `images` made in a cell above?" in said
    finally:
        kernel.stop()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_cell_needs_an_answer_before_its_check_has_put_the_reference_there(name):
    """Then whatever stands in an answer cell, and be it nothing, stops no other cell."""
    notebook = json.loads((ROOT / "solutions" / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    trees = [ast.parse("".join(cell["source"])) for cell in cells]
    for at, cell in enumerate(cells):
        if cell["metadata"].get("course", {}).get("role") != "check":
            continue
        ((_, quiz, answer),) = watching._asked(trees[at])
        assert set(watching._bound(trees[at - 1])) == {answer}, f"{quiz}: a cell below may need what else is made there"
        for tree in trees[: at - 1]:
            reads = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            assert answer not in reads, f"{quiz}: `{answer}` is used before its check"


def test_an_answer_that_is_passed_by_its_keyword(kernel):
    assert "there is no mse yet" in kernel.run('mse = check("demo/mse", answer=mse)')
    assert "there is no letter yet" in kernel.run('ask("demo/question", answer=letter)')


def test_under_nbgrader_a_missing_answer_earns_nothing(kernel):
    kernel.run("import os; os.environ['NBGRADER_EXECUTION'] = 'autograde'")
    try:
        assert "AssertionError: ○ demo/mse: there is no `mse` yet" in kernel.run(CHECK)
        assert "AssertionError: ○ demo/question: there is no `letter` yet" in kernel.run(ASK)
    finally:
        kernel.run("del os.environ['NBGRADER_EXECUTION']")


# --- the next day -----------------------------------------------------------------------------------------------------

WORK = """
import os; os.chdir({folder!r}); os.environ.pop("COURSE_PROGRESS", None)
import sys; sys.modules.pop("classroom.quizzes.notebook", None)  # a new kernel imports it anew
import classroom.quizzes; vars(classroom.quizzes).pop("notebook", None)
from classroom import ask, check, hint, predict, progress, reveal
"""


@pytest.fixture
def beside(tmp_path, kernel):
    """Start work in a folder, as a new kernel would; the other tests' kernel is itself again afterwards."""
    kernel.run(
        "_was = os.getcwd(), dict(os.environ)"
        if "os" in kernel.run("dir()")
        else "import os; _was = os.getcwd(), dict(os.environ)"
    )

    def start(folder=tmp_path, before=""):
        assert "Error" not in (said := kernel.run(WORK.format(folder=str(folder)) + before)), said
        return kernel

    yield start
    kernel.run("os.chdir(_was[0]); os.environ.clear(); os.environ.update(_was[1])")


def test_the_next_day_hints_guesses_and_points_are_there(beside, tmp_path):
    day = beside()
    day.run(f"{RIGHT}\n{CHECK}")
    day.run('ask("demo/question", "a"); hint("demo/reparameterize"); predict("p", "How much?", 0, 1, value=0.25)')
    next_day = beside()
    assert "2 of 4 points" in (said := next_day.run("progress()")) and "Squared error" in said and "A question" in said
    assert "Your guess: 0.25." in next_day.run('predict("p", "How much?", 0, 1)')
    assert "You said 0.25, measured 0.5." in next_day.run('reveal("p", 0.5)')
    assert "Hint 2 of 3" in next_day.run('hint("demo/reparameterize")')
    assert json.loads((tmp_path / memory.FILE).read_text())["passed"] == {"demo/mse": True, "demo/question": False}


def test_what_another_notebook_wrote_meanwhile_stays(beside, tmp_path):
    day = beside()
    day.run('predict("p", "?", 0, 1, value=0.25)')
    there = json.loads((tmp_path / memory.FILE).read_text())
    there["guesses"]["elsewhere"] = [0.5, 0, 1, ""]
    (tmp_path / memory.FILE).write_text(json.dumps(there | {"of a later edition": {"kept": 1}}))
    day.run('predict("q", "?", 0, 1, value=0.75)')
    there = json.loads((tmp_path / memory.FILE).read_text())
    assert sorted(there["guesses"]) == ["elsewhere", "p", "q"] and there["of a later edition"] == {"kept": 1}


DAMAGED = ["", "{", "[]", "null", '{"passed": 3, "hints": []}', "[" * 10**5, "\xff\xfe"]
DAMAGED += ['{"passed": {"demo/mse": "yes", "no/such": true}, "hints": {"demo/reparameterize": -1}}']
DAMAGED += ['{"guesses": {"p": [1, 1, 1, ""], "q": 3, "r": [NaN, 0, 1, ""]}}']


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_done_without(content, beside, tmp_path):
    (tmp_path / memory.FILE).write_text(content, encoding="latin-1")
    kernel = beside()
    said = kernel.run(
        'progress(); predict("p", "?", 0, 1); reveal("q", 1); reveal("r", 1); hint("demo/reparameterize")'
    )
    assert "No quiz was tried yet" in said and "No guess yet" in said and "Hint 1 of 3" in said and "Error" not in said
    assert "2 of 2 points" in kernel.run(f"{RIGHT}\n{CHECK}") and "2 of 2 points" in beside().run("progress()")


@pytest.mark.parametrize("there", ["a folder", "a closed folder"])
def test_a_folder_that_cannot_be_written_is_done_without(there, beside, tmp_path):
    before = ""
    if there == "a folder":
        (tmp_path / memory.FILE).mkdir()
    else:  # for root every folder is open
        full = "def _full(*_): raise OSError(28, 'No space left on device')"
        before = f"import classroom.quizzes.memory as _m\n{full}\n_m.write_whole = _full"
    said = beside(before=before).run(f"{RIGHT}\n{CHECK}\nprogress()")
    assert "Passed." in said and "2 of 2 points" in said and "Error" not in said


@pytest.mark.parametrize("setting", ["COURSE_PROGRESS='off'", "NBGRADER_EXECUTION='autograde'"])
def test_nothing_is_kept_where_nobody_works(setting, beside, tmp_path):
    work = WORK.replace('os.environ.pop("COURSE_PROGRESS", None)', f"os.environ.update({setting})")
    kernel = beside()
    kernel.run(work.format(folder=str(tmp_path)))
    kernel.run(f"{RIGHT}\n{CHECK}")
    assert not (tmp_path / memory.FILE).exists()
