"""What the grader's sandbox promises: answers get through, and nothing that one of them does gets anywhere."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from classroom.grading.handed_in.python import Code
from classroom.grading.records import Outcome, Question
from classroom.grading.sandbox import Limits, Luggage, NoSandbox, Sandbox, why_not
from classroom.grading.sources import ROOT, STAND_INS, reader, shown
from classroom.quizzes import raw, running, wire
from classroom.quizzes.declarations import Case

MARKER = "a-sentence-that-stands" + "-in-a-comment-only"
LIMITS = Limits(seconds=3, cpu=6, submission=60, memory=500, total_memory=1500, processes=12, output=20, files=8)
PRELUDE = f"""
{STAND_INS}
import math
import torch
from course_utils.diffusion import Schedule, linear_schedule
from course_utils.models.vae import kl_to_standard_normal as saved

factor = 2


def helper(x):
    return factor * x
"""
CASES = [Case({"x": torch.arange(3.0)}, gradients=["x"]), Case({"x": torch.ones(2, 2)})]
REQUESTS = tuple(wire.request_wire(case, index) for index, case in enumerate(CASES))
RIGHT = "def answer(x):\n    return 2 * x\n"


def sources() -> dict[str, str]:
    """The course as answers may see it: here, with the quizzes' references still in it."""
    found = {}
    for path in shown():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path.read_text(encoding="utf-8")
    found["course_utils.diffusion"] += f"\n# {MARKER}\n"
    return found


def to_read() -> tuple[dict[str, str], dict[str, str]]:
    """What reads cells, and a notebook as handed out."""
    (path,) = (ROOT / "notebooks").glob("03_*.ipynb")
    return reader(), {path.stem: path.read_text(encoding="utf-8")}


@pytest.fixture(scope="module")
def sandbox():
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with Sandbox(Luggage.packed(sources(), {"03": PRELUDE}, *to_read()), LIMITS) as made:
        yield made


@pytest.fixture
def run(sandbox):
    """run(cell): the outcome of this cell. Before and after it, the same submission holds a right answer, and so does
    the next submission: both must come out right, in bounded time, and nothing may be left."""

    def outcome(cell: str, **more) -> Outcome:
        start = time.monotonic()
        before, found, after = sandbox.run([question(RIGHT), question(cell, **more), question(RIGHT)])
        (later,) = sandbox.run([question(RIGHT)])
        assert is_right(before) and is_right(after) and is_right(later)
        assert time.monotonic() - start < 30
        assert left_over(sandbox) == []
        return found

    return outcome


@pytest.fixture
def unhurried(sandbox, monkeypatch):
    """unhurried(seconds): so long for an answer, on the clock and in computing, for what is long on a slow machine."""

    def give(seconds: int, **other_limits) -> None:
        limits = dataclasses.replace(LIMITS, seconds=seconds, cpu=seconds, **other_limits)
        monkeypatch.setattr(sandbox, "limits", limits)

    return give


def question(cell: str, **more) -> Question:
    """The question as the grader makes it: its one reader of cells comes before the sandbox."""
    fields = {"id": "demo/answer", "name": "answer", "notebook": "03", "requests": REQUESTS}
    return Question(source=Code(textwrap.dedent(cell)).source, **fields | more)


def results(outcome: Outcome) -> list[running.Result]:
    assert outcome.trouble == "", outcome.detail
    return wire.results_from_wire(outcome.data, len(CASES))


def is_right(outcome: Outcome) -> bool:
    first, second = results(outcome)
    return np.array_equal(first.output.data, [0, 2, 4]) and np.array_equal(second.output.data, np.full((2, 2), 2))


def said(outcome: Outcome) -> str:
    """What an answer that returns text has returned, or how it failed, for the first case."""
    first = results(outcome)[0]
    return first.output if first.trouble is None else f"{first.trouble.kind}: {first.trouble.message}"


def left_over(sandbox: Sandbox) -> list[str]:
    """Command lines of processes in the sandbox beyond bubblewrap's two and the warm one."""
    deadline = time.monotonic() + 3  # the kernel takes a moment to bury the dead
    while True:
        inner = psutil.Process(sandbox._warm["server"]._process.pid).children(recursive=True)
        alive = [p for p in inner if p.status() != psutil.STATUS_ZOMBIE]
        if len(alive) <= 2 or time.monotonic() > deadline:
            return [" ".join(process.cmdline()) for process in alive[2:]]
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------------------- honest answers


def test_a_right_answer_with_its_gradients(run):
    first, _ = results(run(RIGHT))
    assert np.allclose(first.gradients["x"].data, 2 * running._fixed_weights((3,)).numpy())


def test_the_prelude_is_there_and_sees_the_answers_names(run):
    assert is_right(run("def answer(x):\n    return helper(x)"))
    second = results(run("factor = 3\ndef answer(x):\n    return helper(x)"))[1]
    assert np.array_equal(second.output.data, np.full((2, 2), 3))


@pytest.mark.parametrize(
    "cell",
    [
        "1 / 0\ndef answer(x):\n    return 2 * x\nplot(answer)",
        "%time 3\n!ls\n%matplotlib inline\ndef answer(x):\n    return 2 * x\nanswer?\nfiles = !ls",
        "%%time\ndef answer(x):\n    return (4 * x\n        % 5) * 0 + 2 * x",
        "if True:\n    %timeit 3\ndef answer(x):\n    return 2 * x",
        "files = !ls\ndef answer(x):\n    return (2 + len(files)) * x",
        "def answer(x):\n    files = !ls -l {x} \\\n        -a\n    return 2 * x if files == [] else x",
        "took = %timeit -o 3\na, b = 1, 2\ndef answer(x):\n    return b * x if took is None else x",
        "!pip install \\\n    torch\n%timeit 3 \\\n    + 4\ndef answer(x):\n    return 2 * x",
        ">>> def answer(x):\n...     return 2 * x\n...\n>>> answer(3)\n6",
        "In [1]: def answer(x):\n   ...:     return 2 * x",
        "torch.sqrt?\n??torch\ndef answer(x):\n    return 2 * x\nanswer??",
        "\n\n%%time\n%%capture out\n!ls\ndef answer(x):\n    %time 3\n    return 2 * x",
        "get_ipython().system('ls')\ndef answer(x):\n    return (2 + len(get_ipython().getoutput('ls'))) * x",
        "   def answer(x):\n       return 2 * x",
        "exit()\ndef answer(x):\n    return 2 * x",
        "raise KeyboardInterrupt\ndef answer(x):\n    return 2 * x",
        "def answer(x):\n    return 2 * x\nraise SystemExit('the rest is old')\ndef answer(x):\n    return 3 * x",
        "def answer(x):\n    return 2 * x\nwhile True:\n    pass",
        "from __future__ import annotations\ndef answer(x: Nowhere) -> Nothing:\n    return 2 * x",
        "import dataclasses as d\n@d.dataclass\nclass Two:\n    n: int = 2\ndef answer(x):\n    return Two().n * x",
        "import os\nfor _ in range(1000):\n    os.write(1, bytes(10**6))\n" + RIGHT,
        "torch.set_num_threads(2)\ndef answer(x):\n    return 2 * x + torch.eye(300).mm(torch.ones(300, 1))[0] - 1",
        "import time\ndef answer(x):\n    time.sleep(0.5)\n    return 2 * x",
    ],
    ids=lambda cell: cell.strip().split("\n")[0][:30],
)
def test_what_an_honest_cell_may_hold(run, cell):
    assert is_right(run(cell))


@pytest.mark.parametrize(
    "cell, detail",
    [
        ("x = 1", "the cell does not define answer"),
        ("def answer(x:\n    pass", "the cell has a syntax error in line 1: '(' was never closed"),
        ("x = 1\nanswer = nowhere", "NameError: name 'nowhere' is not defined (line 2 of the cell)"),
        ("await x", "NameError: name 'x' is not defined (line 1 of the cell)"),
        ("!ls \\\n-a\n%%time\nx = 1\ny = (", "the cell has a syntax error in line 5: '(' was never closed"),
        ("%%writefile answer.py\ndef answer(x):\n    return 2 * x", "the cell does not define answer"),
        ("\0", "the cell"),
        ("\ud800", "the cell cannot be read as Python"),
        ("(" * 100_000, "the cell"),
        ("x" * 2_000_000, "the cell has more than 1,000,000 characters"),
    ],
    ids=["nothing", "syntax", "name", "await", "magic", "no python", "null", "surrogate", "deep", "large"],
)
def test_no_such_function(run, cell, detail):
    outcome = run(cell)
    assert (outcome.trouble, outcome.data) == ("missing", None)
    assert outcome.detail.startswith(detail)


@pytest.mark.parametrize("first", ["import math", "\n%%time", "%%time\n!pip install \\\n torch", "x = !ls\\\n -l"])
def test_an_exception_names_the_students_own_line(run, first):
    trouble = results(run(f"{first}\ndef answer(x):\n    y = 1\n    return math.sqrt(-y)  # here"))[0].trouble
    line = first.count("\n") + 4
    assert (trouble.kind, trouble.line, trouble.code) == ("ValueError", line, "return math.sqrt(-y)  # here")


@pytest.mark.parametrize("raised", ["SystemExit", "BaseException", "MemoryError", "RecursionError"])
def test_exceptions_of_every_kind_are_results(run, raised):
    assert said(run(f"def answer(x):\n    raise {raised}('so')")) == f"{raised}: so"


def test_results_are_the_same_in_every_run(run):
    cell = """
    import random
    def answer(x):
        return [torch.rand(3), random.random(), list({'a', 'b', 'c', 'd'})]
    """
    assert run(cell).data == run(cell).data


def test_supplied_functions_are_there_and_know_each_other(run):
    supplied = {"double": "def double(x):\n    return factor * x", "four": "def four(x):\n    return double(double(x))"}
    assert is_right(run("def answer(x):\n    return four(x) / 2", supplied=supplied))


# ------------------------------------------------------------------------------- one case at a time, and what is above


def test_what_stands_above_runs_before_the_cell_whose_lines_keep_their_numbers(run):
    above = "def twice(x):\n    return factor * x\n\n\nfactor = 2\n"
    assert is_right(run("def answer(x):\n    return twice(x)", above=above))
    trouble = results(run("import math\ndef answer(x):\n    return math.sqrt(-1)", above=above))[0].trouble
    assert (trouble.line, trouble.code) == (3, "return math.sqrt(-1)")
    assert is_right(run(RIGHT, above="x = 1 / 0\nthis is no Python"))
    outcome = run("answer = missing", above="missing = nowhere")
    assert outcome.detail == "NameError: name 'missing' is not defined (line 1 of the cell)"
    assert run("x = 1", above="1 / 0").detail == "ZeroDivisionError (line 1 of what stands above it)"
    assert "half of the time" in run("x = 1", above="while True: pass").detail


@pytest.mark.parametrize(
    "look",
    [
        "[each for each in gc.get_objects() if type(each) is torch.Tensor and each.shape == (2, 2)]",
        "[frame for frame in inspect.stack() if 'cases' in frame.frame.f_locals]",
        "[raw for raw in map(at_once, range(256)) if raw]",
    ],
    ids=["among all objects", "in all frames", "in all pipes"],
)
def test_an_answer_meets_one_case_at_a_time(run, look):
    """The second case is (2, 2); it is nowhere while the first one is answered."""
    cell = f"""
    import gc, inspect, os
    gc.unfreeze()
    def at_once(number):
        try:
            os.set_blocking(number, False)
            return os.read(number, 10**6)
        except OSError:
            return b""
        finally:
            try:
                os.set_blocking(number, True)
            except OSError:
                pass
    def answer(x):
        return str(len({look}))
    """
    first, second = results(run(cell))
    assert first.output == "0"
    if "get_objects" in look:
        assert int(second.output) > 0  # there it is, so that it would have been found


def test_a_large_case_gets_through_to_an_answer_that_says_much(sandbox):
    case = Case({"x": torch.ones(500_000)})
    requests = tuple(wire.request_wire(case, index) for index in range(3))
    fields = {"id": "demo/answer", "name": "answer", "notebook": "03", "requests": requests}
    (outcome,) = sandbox.run([Question(source=RIGHT, **fields)])
    assert [result.output.data.sum() for result in wire.results_from_wire(outcome.data, 3)] == [1e6] * 3
    (outcome,) = sandbox.run([Question(source="import os\nos.closerange(3, 99)\n" + RIGHT, **fields)])
    assert outcome.trouble == "crashed"


# -------------------------------------------------------------------------------------------- what cells may ask for


@pytest.mark.parametrize(
    "cell",
    [
        "@torch.compile\ndef answer(x):\n    return 2 * x",
        "@torch.compile(fullgraph=True, mode='reduce-overhead')\ndef answer(x):\n    return 2 * x",
        "def double(x):\n    return 2 * x\nanswer = torch.compile(double, backend='inductor', dynamic=False)",
        "answer = torch.nn.Linear(3, 3)\nanswer.compile()\nanswer.forward = lambda x: 2 * x",
        "def answer(x):\n    model = torch.compile(torch.nn.Identity())\n    return 2 * model(x)",
        "@torch.jit.script\ndef answer(x):\n    return 2 * x",
        "@torch.jit.script\ndef answer(x):\n    return helper(x)",
        "answer = torch.jit.trace(lambda x: 2 * x, torch.ones(3))",
        "@torch.compiler.disable\ndef answer(x):\n    return 2 * x",
        "@torch._dynamo.disable\ndef answer(x):\n    return 2 * x",
        "def answer(x):\n    y = x.detach().requires_grad_()\n    torch.optim.Adam([y]).step()\n    return 2 * x",
        "def answer(x):\n    return torch.func.grad(lambda y: y.square().sum())(x)",
    ],
)
def test_nothing_is_compiled_and_nothing_is_lost(run, unhurried, cell):
    unhurried(20)  # it imports much
    first, second = results(run(cell))
    assert first.trouble is None and np.array_equal(first.output.data, [0, 2, 4])


@pytest.mark.parametrize(
    "line",
    [
        "raise ValueError(id(object()))",
        "raise NameError(f'at {id(object())}, {object()}')",
        "raise NameError(time.time())",
        "raise RuntimeError(time.perf_counter(), {object(), torch.ones(1), print, object})",
        "open(f'/tmp/{os.getpid()}/{time.time_ns()}')",
        "raise ImportError(np.random.rand(), torch.rand(1), __import__('random').random())",
    ],
)
def test_what_a_cell_says_is_the_same_in_every_run(run, line):
    cell = f"import os, time, torch\nimport numpy as np\n{line}\n"
    first, again = run(cell), run(cell)
    assert first.trouble == "missing" and "(line 3 of the cell)" in first.detail
    assert first == again


# -------------------------------------------------------------------------------------------------------- reading


def handed_out() -> bytes:
    return next(iter(to_read()[1].values())).encode()


def test_reading_is_done_in_there(sandbox):
    taken = sandbox.read(handed_out(), "03")
    assert taken.trouble == "" and len(taken.answers) > 10 and all(answer.untouched for answer in taken.answers)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[" * 10**6, b'{"cells": [' + b"{}," * 10**6 + b"{}]}", b'{"cells": ' + b"9" * 10**6, bytes(10**6)],
    ids=["nothing", "broken off", "deep", "many", "long number", "zeros"],
)
def test_whatever_is_handed_in_costs_little_and_nobody_else(sandbox, data):
    start, before = time.monotonic(), psutil.Process().memory_info().rss
    assert sandbox.read(data, "03").answers == () or data.count(b"{}") > 1
    assert time.monotonic() - start < LIMITS.reading
    assert psutil.Process().memory_info().rss - before < 50 * 2**20
    assert sandbox.read(handed_out(), "03").trouble == ""


def test_reading_has_its_limits(sandbox, monkeypatch):
    monkeypatch.setattr(sandbox, "limits", dataclasses.replace(LIMITS, reading=0))
    assert sandbox.read(handed_out(), "03").trouble == "it could not be read: no end within 0 s"
    monkeypatch.setattr(sandbox, "limits", LIMITS)
    assert sandbox.read(handed_out(), "03").trouble == ""


def test_a_reader_that_dies_is_started_again(sandbox):
    psutil.Process(sandbox._warm["reader"]._process.pid).kill()
    assert "could not be read" in sandbox.read(handed_out(), "03").trouble
    assert sandbox.read(handed_out(), "03").trouble == ""


def nested(levels: int) -> str:
    lines = [" " * level + "try:" for level in range(levels)] + [" " * levels + "pass"]
    lines += [" " * level + "finally: x = 1" for level in reversed(range(levels))]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "cell",
    [
        nested(19),
        "def f():\n" + textwrap.indent(nested(20), "    "),
        "x = " + "+".join(["1"] * 20_000),
        "x = " + "-" * 50_000 + "1",
        "x = " + "[" * 190 + "]" * 190 + "\n" + "x = 10 ** 10 ** 10",
    ],
    ids=["try", "try in a function", "sum", "minus", "power"],
)
def test_what_is_hard_to_compile_costs_that_answer_alone(run, sandbox, cell):
    """Below it stands a right answer, which may come through or not; around it the others do."""
    before = psutil.Process().memory_info().rss
    outcome = run(cell + "\n" + RIGHT)
    assert outcome.trouble in ("", "missing", "crashed", "timeout")
    assert run(RIGHT, above=cell).trouble in ("", "missing", "crashed", "timeout")
    assert psutil.Process().memory_info().rss - before < 100 * 2**20


# -------------------------------------------------------------------------------------------- what memory still holds


def instructions(module: str, name: str) -> bytes:
    """Of a function of the library, as the sandbox has them."""
    code = compile(sources()[module], "x", "exec", dont_inherit=True)
    return next(each for each in code.co_consts if getattr(each, "co_name", "") == name).co_code


def found_in_memory(run, pattern: bytes, **more) -> int:
    """How often a pattern stands in the heap of the C library, freed blocks and all, as an answer reads it, and
    in blocks that it is given anew. It looks for the pattern with all bits turned, so that its own isn't found."""
    cell = f"""
    import ctypes, gc
    turned = bytes.fromhex("{bytes(byte ^ 255 for byte in pattern).hex()}")
    def answer(x):
        gc.unfreeze()
        sbrk = ctypes.CDLL(None).sbrk
        sbrk.restype, sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
        end = sbrk(0)
        low = min(each for each in map(id, gc.get_objects()) if end - 2**30 < each < end)
        count, table = 0, bytes(255 - n for n in range(256))
        malloc = ctypes.CDLL(None).malloc
        malloc.restype = ctypes.c_void_p
        for size in (100, 1000, 10_000, 100_000, 1_000_000):  # first: what is turned below holds what it turned
            for _ in range(50):
                count += ctypes.string_at(malloc(size), size).translate(table).count(turned)
        for at in range(low, end, 2**20):
            size = min(2**20 + len(turned), end - at)
            count += ctypes.string_at(at, size).translate(table).count(turned)
        return str(count)
    """
    return int(said(run(cell, **more)))


def test_nothing_of_a_forbidden_function_is_left_in_memory(run, unhurried):
    unhurried(30, submission=1000)
    own = instructions("course_utils.models.vae", "kl_to_standard_normal")
    forbidden = ("course_utils.models.vae.kl_to_standard_normal",)
    assert found_in_memory(run, own) == 1  # the function itself: so it would be found
    assert found_in_memory(run, own, forbidden=forbidden) == 0


@pytest.mark.parametrize(
    "module, name", [("course_utils.diffusion", "linear_schedule"), ("course_utils.models.vae", "reparameterize")]
)
def test_no_module_is_left_in_memory_as_it_came(run, unhurried, module, name):
    """In what `marshal` writes, the length stands before the instructions; in memory it doesn't."""
    unhurried(30, submission=1000)
    own = instructions(module, name)
    assert found_in_memory(run, own) >= 1
    assert found_in_memory(run, len(own).to_bytes(4, "little") + own) == 0


def test_installed_packages_do_not_name_the_folder_of_the_course(run):
    cell = f"""
    import glob, sys
    def answer(x):
        found = []
        for folder in sys.path:
            for pattern in ("*.pth", "*.egg-link", "__editable__*", "*-info/direct_url.json", "*-info/RECORD"):
                for path in glob.glob(folder + "/" + pattern):
                    try:
                        if {str(ROOT)!r} in open(path).read():
                            found.append(path)
                    except OSError:
                        pass
        return str(found)
    """
    assert said(run(cell)) == "[]"


# ---------------------------------------------------------------------------------------------- attempts on the machine


@pytest.mark.parametrize(
    "cell, trouble, detail",
    [
        ("while True: pass", "timeout", "the cell itself takes more than half of the time"),
        ("def answer(x):\n    while True: pass", "timeout", "no answer within 3 s"),
        ("import time\ndef answer(x):\n    time.sleep(100)", "timeout", "no answer within 3 s"),
        ("import os\nos._exit(0)", "crashed", "its process ended (exit code 0) before"),
        ("import os\ndef answer(x):\n    os._exit(7)", "crashed", "its process ended (exit code 7) before"),
        ("import os\ndef answer(x):\n    os.kill(os.getpid(), 9)", "crashed", "its process was ended by SIGKILL"),
        ("import ctypes\ndef answer(x):\n    ctypes.string_at(0)", "crashed", "its process was ended by SIGSEGV"),
        ("import os\ndef answer(x):\n    os.closerange(0, 1000)\n    return x", "crashed", "its process ended"),
        ("import os\nos.closerange(0, 1000)\nwhile True: pass", "crashed", "its process ended"),
    ],
)
def test_ends(run, cell, trouble, detail):
    outcome = run(cell)
    assert (outcome.trouble, outcome.data) == (trouble, None)
    assert outcome.detail.startswith(detail)


@pytest.mark.parametrize(
    "line",
    ["os.kill(1, 9)", "os.kill(os.getppid(), 9)", "os.kill(-1, 9)", "os.kill(1, 19)", "os.kill(1, 2)"],
)
def test_killing_others_kills_nobody(run, line):
    outcome = run(f"import os\ntry:\n    {line}\nexcept OSError:\n    pass\ndef answer(x):\n    return 2 * x")
    assert is_right(outcome)


def test_a_fork_bomb(run):
    cell = """
    import os
    def answer(x):
        while True:
            try:
                os.fork()
            except OSError:
                pass
    """
    assert run(cell).trouble in ("timeout", "crashed")


def test_the_number_of_processes_and_threads_is_limited(run):
    cell = """
    import threading, time
    def answer(x):
        for count in range(200):
            try:
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            except RuntimeError:
                return str(count)
    """
    assert 0 < int(said(run(cell))) <= LIMITS.processes


def test_computing_is_limited_too(run, sandbox, monkeypatch):
    monkeypatch.setattr(sandbox, "limits", dataclasses.replace(LIMITS, seconds=30))
    outcome = run("def answer(x):\n    while True: pass")
    assert (outcome.trouble, outcome.detail) == ("timeout", "no answer within 6 s of computing")


@pytest.mark.parametrize("limit", [1000, 10**9])
def test_recursion_without_end(run, limit):
    outcome = run(f"import sys\nsys.setrecursionlimit({limit})\ndef answer(x):\n    return answer(x)")
    assert outcome.trouble in ("timeout", "crashed") or said(outcome).startswith(("RecursionError", "MemoryError"))


@pytest.mark.parametrize(
    "cell",
    [
        "def answer(x):\n    return len(bytearray(10**10))",
        "def answer(x):\n    rows = []\n    while True:\n        rows.append([0] * 10**6)",
        "def answer(x):\n    return torch.ones(10**10).sum()",
    ],
)
def test_a_memory_bomb_of_one_process_is_an_exception(run, unhurried, cell):
    unhurried(20)
    assert "emory" in said(run(cell))


def test_a_memory_bomb_of_many_processes(run):
    cell = """
    import os, time
    def answer(x):
        for _ in range(8):
            if os.fork() == 0:
                break
        rows = bytearray(400 * 2**20)
        time.sleep(60)
    """
    outcome = run(cell)
    assert (outcome.trouble, outcome.detail) == ("crashed", "it used more than 1,500 MB of memory")


@pytest.mark.parametrize(
    "line",
    [
        "os.memfd_create('x')",
        "ctypes_call('shmget', 0, 1 << 20, 0o1600)",
        "open('/dev/shm/x', 'wb')",
        "open('/tmp/x', 'wb').write(bytes(10 * 2**20))",
        "[open(f'/tmp/{n}', 'wb').write(bytes(2**20)) for n in range(10)]",
    ],
)
def test_memory_that_looks_like_files(run, line):
    assert refused(run, line)


def refused(run, line: str) -> bool:
    """Whether this line raises OSError in an answer; `ctypes_call` calls the C library and raises like Python does."""
    cell = f"""
    import ctypes, os, pathlib, socket
    def ctypes_call(name, *arguments):
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
        if function(*arguments) < 0:
            raise OSError(ctypes.get_errno(), name)
    def answer(x):
        try:
            {line}
        except OSError as error:
            return "refused"
        return "done"
    """
    answer = said(run(cell))
    assert answer in ("refused", "done")
    return answer == "refused"


def test_a_line_that_is_allowed_is_done(run):
    assert not refused(run, "open('/tmp/x', 'wb').write(bytes(1000))")


@pytest.mark.parametrize(
    "place",
    [
        "/x",
        "/usr/x",
        "/dev/x",
        "/proc/x",
        "/course/x",
        "/inside/x",
        "/etc/x",
        torch.__file__,
        np.__file__ + "x",
        __file__,
    ],
)
def test_nothing_can_be_written(run, place):
    assert refused(run, f"open({str(place)!r}, 'w')")
    assert not Path("/x").exists()


@pytest.mark.parametrize(
    "place",
    ["/etc/shadow", "/etc/passwd", "/root/.bashrc", "/proc/self/mem", "/proc/1/environ", "/proc/cpuinfo", __file__],
)
def test_nothing_of_the_machine_can_be_read(run, place):
    assert refused(run, f"open({str(place)!r})")


def test_folders_of_the_instructor_are_not_there(run):
    ours = ("course_utils", "classroom", "tests", "solutions", "notebooks", "README.md")
    places = [str(ROOT / name) for name in ours]
    cell = f"import os\ndef answer(x):\n    return str([p for p in {places} if os.path.exists(p)])"
    assert said(run(cell)) == "[]"
    assert said(run("import os\ndef answer(x):\n    return str(os.listdir('/proc'))")) == "[]"


@pytest.mark.parametrize(
    "line",
    [
        "socket.create_connection(('127.0.0.1', 22), 1)",
        "socket.create_connection(('1.1.1.1', 53), 1)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('1.1.1.1', 53))",
        "socket.socket(socket.AF_INET6)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    ],
)
def test_no_network(run, line):
    assert refused(run, line)


@pytest.mark.parametrize(
    "line",
    [
        "ctypes_call('mount', b'tmpfs', b'/usr', b'tmpfs', 0, b'')",
        "ctypes_call('umount2', b'/tmp', 2)",
        "ctypes_call('umount2', b'/proc', 2)",
        "ctypes_call('unshare', 0x10000000)",
        "ctypes_call('chroot', b'/tmp')",
        "ctypes_call('ptrace', 16, 1, 0, 0)",
        "ctypes_call('setuid', 0)",
        "ctypes_call('prlimit', 1, 0, b'\\\\0' * 16, 0)",
        "ctypes_call('syscall', 56, 0x10000011, 0, 0, 0, 0)",
        "ctypes_call('syscall', 435, b'\\\\0' * 88, 88)",
        "ctypes_call('sethostname', b'x', 1)",
        "ctypes_call('nice', -5)",
    ],
)
def test_no_way_to_other_rights(run, line):
    assert refused(run, line)


# ----------------------------------------------------------------------------------------- attempts on other questions


def test_a_daemon_does_not_outlive_its_question(run, sandbox):
    cell = """
    import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                time.sleep(1)
        os._exit(0)
    def answer(x):
        return 2 * x
    """
    assert is_right(run(cell))


def test_a_thread_that_sleeps_past_the_end(run):
    cell = "import threading, time\nthreading.Thread(target=time.sleep, args=(100,)).start()\n" + RIGHT
    assert is_right(run(cell))


def test_files_are_not_seen_by_the_next_question(sandbox):
    write = question(
        "open('/tmp/mine', 'w').write('x')\ndef answer(x):\n    return str(__import__('os').listdir('/tmp'))"
    )
    read = question("def answer(x):\n    return str(__import__('os').listdir('/tmp'))")
    assert [said(outcome) for outcome in sandbox.run([write, read])] == ["['mine']", "[]"]


@pytest.mark.parametrize(
    "line",
    [
        "torch.allclose = lambda *a, **k: True",
        "import numpy; numpy.array = None",
        "import builtins; builtins.len = lambda x: 0; builtins.type = None",
        "import sys; sys.settrace(lambda *a: 1 / 0)",
        "import classroom.quizzes.wire as r; r.run_case = None; r.to_wire = None; r.answer_wire = lambda *a: 'x'",
        "import classroom.quizzes.wire as r; r.answer_wire = lambda *a: b'all right'",
        "import classroom.quizzes.wire as r; r.answer_wire = lambda *a: bytes(30 * 2**20)",
        "import os; os.write(3, b'D' * 100)",
        "from inside import question as q; q._run = None; q.send = lambda *a: None",
        "import os, struct; os.write(1, b'D' + bytes(16))",
    ],
)
def test_patches_hurt_nobody_else(run, line):
    outcome = run(f"{line}\ndef answer(x):\n    return 2 * x")
    assert outcome.trouble in ("", "crashed", "timeout", "missing")
    if outcome.data is not None and line.startswith("import classroom"):
        with pytest.raises(ValueError):
            wire.results_from_wire(outcome.data, len(CASES))


def test_forged_frames_are_never_taken_for_more_than_bytes(run):
    cell = """
    import os, struct
    frame = struct.pack("<cQd", b"D", 5, 0.0) + b"12345"
    for number in range(256):
        try:
            os.write(number, frame * 3)
        except OSError:
            pass
    """
    outcome = run(cell)
    assert outcome == Outcome((b"12345", b"12345"))


@pytest.mark.parametrize("header", ["b'D', 2**62, 0.0", "b'G', 0, 0.0", "b'?', 3, 0.0"])
def test_frames_that_are_too_long_or_not_an_answers(run, header):
    cell = f"""
    import os, struct
    for number in range(3, 256):
        try:
            os.write(number, struct.pack("<cQd", {header}))
        except OSError:
            pass
    """
    assert run(cell).trouble == "crashed"


def test_objects_are_no_results(run):
    everything = (
        "class E:\n    def __eq__(self, other): return True\n    def __reduce__(self): return (print, ('pwned',))\n"
    )
    first, _ = results(run(everything + "def answer(x):\n    return E()"))
    assert first.output == raw.Unsupported("E")
    nested = results(run("def answer(x):\n    y = []\n    for _ in range(10**5):\n        y = [y]\n    return y"))
    assert nested[0].status == running.RETURNED


# ------------------------------------------------------------------------------------------------ attempts on solutions


def test_there_is_no_source_to_read(run, unhurried):
    unhurried(30)  # it walks the whole file system and the whole memory
    cell = """
    import functools, gc, inspect, os, sys
    import course_utils.diffusion
    def answer(x):
        return look()
    @functools.cache  # once is enough for all cases
    def look():
        found = []
        try:
            found.append(inspect.getsource(course_utils.diffusion.linear_schedule))
        except OSError:
            pass
        bases = {"/course", "/inside", "/tmp", "/work", "/home", "/root", "/usr", *sys.path}
        for base in bases:
            if any(base.startswith(other + "/") for other in bases if other):  # that one is walked, and all in it
                continue
            for folder, _, files in os.walk(base):
                if os.path.basename(folder) in ("course_utils", "solutions"):
                    found += [f"{folder}/{name}" for name in files]
        here, there = in_memory("since it is " "planted", "-in-a-comment-" "only")
        assert here
        return str(found + there)
    def in_memory(*texts):
        gc.unfreeze()
        found = [[] for _ in texts]
        for each in gc.get_referents(*gc.get_objects()):
            if not isinstance(each, (str, bytes, bytearray)):
                continue
            for text, hits in zip(texts, found):
                if each != text and (text if isinstance(each, str) else text.encode()) in each:
                    hits.append(repr(each)[:100])
        return found
    planted = ["this text can be found, since it is planted"]
    """
    assert said(run(cell, notebook="none")) == "[]"


FORBIDDEN = "RuntimeError: this is the function that the quiz asks for: write it yourself"


@pytest.mark.parametrize(
    "dotted, call",
    [
        ("course_utils.models.vae.kl_to_standard_normal", "vae.kl_to_standard_normal(x, x)"),
        ("course_utils.models.vae.kl_to_standard_normal", "saved(x, x)"),
        ("course_utils.models.vae.kl_to_standard_normal", "type(saved)(saved.__code__, saved.__globals__)(x, x)"),
        ("course_utils.diffusion.Schedule.add_noise", "Schedule.add_noise(None, x, x, x)"),
        ("course_utils.diffusion.Schedule", "linear_schedule(10)"),
    ],
)
def test_forbidden_functions_are_of_no_use(run, dotted, call):
    cell = f"from course_utils.models import vae\ndef answer(x):\n    return {call}"
    assert said(run(cell, forbidden=(dotted,))) == FORBIDDEN
    assert said(run(cell)) != FORBIDDEN  # the next question has it back


def test_what_cannot_be_forbidden_is_said(run):
    outcome = run(RIGHT, forbidden=("course_utils.diffusion.nowhere",))
    assert outcome.trouble == "crashed"
    assert "expected a function to forbid, found none at course_utils.diffusion.nowhere" in outcome.detail


def test_wrapped_functions_are_forbidden_down_to_the_last(run):
    """Decorators, static methods, properties, caches; done in the sandbox, where no test's own decorator is around."""
    cell = """
    import functools, sys, types
    from classroom.quizzes.forbidding import forbid
    def inner(x):
        return x + 1
    def decorated(function):
        @functools.wraps(function)
        def outer(x):
            return function(x)
        return outer
    outer = decorated(inner)
    class Holder:
        plain = staticmethod(inner)
        value = property(lambda self: 3)
    cached = functools.lru_cache(lambda x: x)
    cached(1)
    sys.modules["demo_module"] = types.SimpleNamespace(outer=outer, Holder=Holder, cached=cached)
    def answer(x):
        calls = (outer, inner, outer.__wrapped__, Holder.plain, lambda _: Holder().value, cached)
        assert [call(1) for call in calls] == [2, 2, 2, 2, 3, 1]
        for name in ("outer", "Holder.value", "cached"):
            forbid(f"demo_module.{name}")
        refused = 0
        for call in calls:
            try:
                call(1)
            except RuntimeError as error:
                refused += str(error).endswith("write it yourself")
        return str((refused, len(calls)))
    """
    assert said(run(cell)) == "(6, 6)"


# -------------------------------------------------------------------------------------------------- the sandbox's life


def test_endless_answers_leave_time_to_the_others(sandbox, monkeypatch):
    """However many they are, they cost no more than a submission may; and the right one at the end gets its points."""
    monkeypatch.setattr(sandbox, "limits", dataclasses.replace(LIMITS, seconds=3, submission=8))
    endless = question("import time\ndef answer(x):\n    time.sleep(100)")
    start = time.monotonic()
    outcomes = sandbox.run([endless] * 12 + [question(RIGHT)])
    assert time.monotonic() - start < 10
    assert [outcome.trouble for outcome in outcomes] == ["timeout"] * 12 + [""]
    assert {outcome.detail for outcome in outcomes[:-1]} == {
        "no answer within the time that the answers before it had left"
    }


def test_a_warm_process_that_dies_is_started_again(sandbox):
    inner = psutil.Process(sandbox._warm["server"]._process.pid)
    inner.kill()
    assert sandbox.run([question(RIGHT)])[0].trouble == "crashed"
    assert is_right(sandbox.run([question(RIGHT)])[0])
    assert not inner.is_running() or inner.status() == psutil.STATUS_ZOMBIE


def test_nothing_is_left_when_it_is_closed():
    if why_not():
        pytest.skip(why_not())
    before = psutil.Process().children(recursive=True)
    made = Sandbox(Luggage())
    made.ready()
    family = [each for each in psutil.Process().children(recursive=True) if each not in before]
    assert len(family) == 6  # two processes, each behind bubblewrap's two
    made.close()
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_nothing_is_left_when_the_grader_is_killed():
    if why_not():
        pytest.skip(why_not())
    script = "from classroom.grading.sandbox import Luggage, Sandbox; s = Sandbox(Luggage()); s.ready();"
    script += "print('up', flush=True); input()"
    grader = subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, cwd=ROOT)
    assert grader.stdout.readline() == b"up\n"
    family = psutil.Process(grader.pid).children(recursive=True)
    assert len(family) == 6
    grader.kill()
    grader.communicate()
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_interrupted_and_used_again(sandbox, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sandbox._warm["server"], "receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sandbox.run([question(RIGHT)])
    assert is_right(sandbox.run([question(RIGHT)])[0])


@pytest.mark.parametrize(
    "system, words", [("darwin", "needs Linux, and this is"), ("linux", "needs bubblewrap, which is not installed")]
)
def test_where_there_is_no_sandbox_it_says_so(monkeypatch, system, words):
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setenv("PATH", "/nowhere")
    assert words in why_not() and "\n" not in why_not()
    with pytest.raises(NoSandbox, match="--unsafe is for your own notebooks only"):
        Sandbox(Luggage())


def test_where_namespaces_are_restricted_it_says_so(monkeypatch, tmp_path):
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace.' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "No permissions to create a new namespace" in why_not()


def test_a_prelude_that_fails_is_the_instructors_trouble():
    with pytest.raises(RuntimeError, match="line 2 of the prelude of notebook 09: NameError"):
        Sandbox(Luggage.packed({}, {"09": "x = 1\ny = nowhere\n"}), unsafe=True).ready()


def test_without_walls_for_ones_own_notebooks():
    with Sandbox(Luggage.packed(sources(), {"03": PRELUDE}), LIMITS, unsafe=True) as made:
        cells = [RIGHT, "import os\nos._exit(0)", "def answer(x):\n    while True: pass", RIGHT]
        outcomes = made.run([question(cell) for cell in cells])
        assert is_right(outcomes[0]) and is_right(outcomes[3])
        assert [outcome.trouble for outcome in outcomes] == ["", "crashed", "timeout", ""]
        assert psutil.Process(made._warm["server"]._process.pid).children() == []
