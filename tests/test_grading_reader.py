"""The one reader of cells: what notebooks allow beyond Python, what statements bind, and that nothing is read twice."""

from __future__ import annotations
import __future__

import ast
import asyncio
import contextlib
import copy
import functools
import inspect
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path

import grading_zoo
import pytest
import torch

from classroom.grading import sources
from classroom.grading.handed_in import python
from classroom.grading.handed_in.handed_out import HandedOut
from classroom.grading.handed_in.python import Code
from classroom.grading.handed_in.take import take
from classroom.grading.records import Answer
from classroom.grading.statements import bound, bound_within, closure, defines
from classroom.quizzes import declarations

ROOT = Path(__file__).resolve().parent.parent
(PATH,) = (ROOT / "notebooks").glob("03_*.ipynb")


# ------------------------------------------------------------------------------------------------------------ magics


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("files = !ls\ndef f(): pass", {"files", "f"}),
        ("one, two = !ls\nf = 1", {"one", "two", "f"}),
        ("took = %timeit -o 3\nf = 1", {"took", "f"}),
        ("box.files = !ls", {"box"}),
        ("!pip install \\\n    torch\nf = 1", {"f"}),
        ("files = !ls \\\n  -a\nf = 1", {"files", "f"}),
        ("%timeit 3 \\\n    + 4\nf = 1", {"f"}),
        ("%%time\nf = 1", {"f"}),
        ("\n\n%%time\n\n%%capture out\nf = 1\n%time 3", {"f"}),
        ("%%timeit -n 3\nf = 1\n!ls", {"f"}),
        (">>> def f(x):\n...     return x\n...\n>>> f(3)", {"f"}),
        ("In [12]: f = 1\n    ...: !ls", {"f"}),
        ("f = 1\nf?\ntorch.sqrt??\n?f\n%time?", {"f"}),
        ("    f = 1\n    !ls", {"f"}),
        ("if f:\n    !ls\nelse:\n    g = !ls", {"g"}),
        ("%%bash\nf=1", set()),
        ("%%script false\nf = 1", set()),
        ("%%writefile f.py\nf = 1", set()),
        ("%%time\n%%bash\nf=1", set()),
    ],
)
def test_what_a_notebook_allows_beyond_python(text, names):
    code = Code(text)
    assert code.tree is not None
    assert set().union(*map(bound, code.tree.body)) == names
    assert code.source.rstrip("\n").count("\n") <= text.count("\n")


@pytest.mark.parametrize(
    "text",
    [
        "s = '''\n%time\n!ls\nf?\n>>> x\n'''",
        "x = (7\n     % 5)",
        "x = [1\n     != 2]",
        "# !ls\nx = 1  # what?",
        'def f(x):\n    """Doubles it.\n\n    >>> f(2)\n    4\n    """\n    return 2 * x',
    ],
)
def test_python_is_left_alone(text):
    assert Code(text).source == text and Code(text).tree is not None


@pytest.mark.parametrize(
    "above",
    [
        "",
        "\n\n",
        "!pip install \\\n   torch \\\n   numpy\n",
        "\n%%time\nfiles = !ls \\\n  -a\n",
        ">>> x = 1\n... \n>>> y = !ls \\\n   -a\n",
        "%time 3\nf?\n%%capture\n",
    ],
)
def test_lines_keep_their_numbers(above):
    code = Code(f"{above}here = 1\n")
    (line,) = (node.lineno for node in code.tree.body if "here" in bound(node))
    assert line == above.count("\n") + 1
    with pytest.raises(SyntaxError) as broken:
        ast.parse(Code(f"{above}here = = 1\n").source)
    assert broken.value.lineno == above.count("\n") + 1


def test_a_run_of_its_magics_does_nothing():
    from classroom.grading.sources import STAND_INS

    namespace: dict = {}
    text = "files = !rm -r /\ntook = %timeit 3\n!exit 1\n%%nonsense 1\nlen?\n%run other.py"
    exec(compile(STAND_INS + Code(text).source, "cell", "exec"), namespace)
    assert namespace["files"] == [] and namespace["took"] is None


@pytest.mark.parametrize(
    "text",
    ["%x\n" * 6_000, "?\n" * 9_000, "%%time\n" * 2_800, "a" * 1_900 + " ?", "x = (\n!ls\n" * 1_500, "!" * 90_000]
    + ["!ls\n" * 20 + "(" * 5_000, "\0!ls", "\ud800!ls", "!ls\u2028x", "%%", "a." * 900 + "?", ">>> " * 4_000],
    ids=range(13),
)
def test_hostile_cells_take_bounded_time(text):
    start = time.monotonic()
    assert isinstance(Code(text).source, str)
    assert time.monotonic() - start < 2


# -------------------------------------------------------------------------------------------------------- statements


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(a, *b): c = 1", "f"),
        ("async def f(): pass", "f"),
        ("class C:\n    x = 1", "C"),
        ("import a.b.c, d as e", "a e"),
        ("from m import a, b as c", "a c"),
        ("from m import *", ""),
        ("a = b = c", "a b"),
        ("(a, [b, *c]), d = e", "a b c d"),
        ("a.b.c = 1", "a"),
        ("a[i].b = 1", "a"),
        ("f().x = 1", ""),
        ("a: int = 1", "a"),
        ("a: int", ""),
        ("a += 1", "a"),
        ("a[0] += b", "a"),
        ("for a, b in c: d = 1", "a b d"),
        ("with f() as (a, b): c = 1", "a b c"),
        ("while (a := f()): b = 1", "a b"),
        ("if x:\n    a = 1\nelse:\n    def b(): pass", "a b"),
        ("try:\n    a = 1\nexcept E as e:\n    b = 1\nfinally:\n    c = 1", "a b c e"),
        (
            "match x:\n    case [a, *b] if a: c = 1\n    case {'k': d, **e}: pass\n    case P(f) as g: pass",
            "a b c d e f g",
        ),
        ("del a, b.c", "a b"),
        ("[a for a in b]", ""),
        ("[c := a for a in b]", "c"),
        ("f = lambda a: (b := a)", "f"),
        ("print(a := 1)", "a"),
    ],
)
def test_what_a_statement_binds(source, names):
    (statement,) = ast.parse(source).body
    assert sorted(bound(statement)) == names.split()


def test_what_is_bound_within():
    tree = ast.parse("def f(a, *b, **c):\n    d = [e for e in a]\n    return lambda g: d\nh.i = 1")
    assert bound_within(tree) == set("abcdefgh")


@pytest.mark.parametrize(
    ("source", "at_all", "literally"),
    [
        ("import a", True, True),
        ("async def f(): pass", True, True),
        ("a = b = 3", True, True),
        ("a, b = 28, [1]", True, True),
        ("a: float = 1.0", True, True),
        ("a = torch.sqrt", True, False),
        ("a, *b = f()", True, False),
        ("a = {[]: 1}", True, False),
        ("a: int", False, False),
        ("a.b = 1", False, False),
        ("a, b[0] = 1, 2", False, False),
        ("a += 1", False, False),
        ("for a in b: pass", False, False),
        ("f()", False, False),
    ],
)
def test_what_defines(source, at_all, literally):
    (statement,) = ast.parse(source).body
    assert (defines(statement), defines(statement, literally=True)) == (at_all, literally)


def test_a_closure_holds_all_that_makes_a_name():
    source = "n = 1\nn += 1\nunused = 2\ndef f():\n    return n\nf.table = {}\nf.table['x'] = m\nm = 3\n"
    source += "for n in f(): n\ng = f"
    body = ast.parse(source).body
    assert [node.lineno for node in closure(body, [body[-1]])] == [1, 2, 4, 6, 7, 8, 10]


# -------------------------------------------------------------------------------------------------------- taking out


def test_no_cell_is_read_twice(monkeypatch):
    solved = grading_zoo.load(ROOT / "solutions" / PATH.name)
    notebook = grading_zoo.filled(grading_zoo.load(PATH), solved)
    notebook["cells"] += [grading_zoo.code_cell(f"mine_{i} = {i}") for i in range(30)]
    handed_out, data = HandedOut.load(PATH), grading_zoo.text(notebook)
    take(data, handed_out)
    read: Counter[str] = Counter()
    original = python._tree
    monkeypatch.setattr(python, "_tree", lambda source: read.update([source]) or original(source))
    take(data, handed_out)
    orders = [cell for cell in notebook["cells"] if "ask" in cell["source"] and cell["cell_type"] == "code"]
    assert read and max(read.values()) == 1 and len(read) == len(handed_out.asked) + 30 + len(orders)


@pytest.mark.parametrize(
    ("cells", "letter"),
    [
        (['%%script false\nnoisier = "c"', 'noisier = "b"'], "b"),
        (['noisier = "b"', '%%script false\nnoisier = "c"'], "b"),
        (['%%time\nnoisier = "b"'], "b"),
        (["noisier = !echo b"], ""),
    ],
)
def test_what_a_cell_magic_switches_off_does_not_count(cells, letter):
    notebook = grading_zoo.load(PATH)
    place = next(i for i, cell in enumerate(notebook["cells"]) if grading_zoo.role(cell) == "answer")
    own = notebook["cells"][place]
    notebook["cells"][place : place + 1] = [json.loads(json.dumps(own)) | {"source": source} for source in cells]
    assert take(grading_zoo.text(notebook), HandedOut.load(PATH)).answers[0].letter == letter


def test_constants_in_a_row_are_taken_along():
    notebook = grading_zoo.load(PATH)
    (quiz,) = (quiz for quiz, name in handed_out().names.items() if name == "linear_alpha_bar")
    cell = notebook["cells"][grading_zoo.place_of(notebook, quiz)]
    cell["source"] = "def linear_alpha_bar(T, low=1, high=2):\n    return WIDE + HIGH"
    notebook["cells"] += [grading_zoo.code_cell("WIDE, HIGH = 28, 28"), grading_zoo.code_cell("files = !ls\nfiles[0]")]
    assert answers(grading_zoo.text(notebook))[quiz].above == "WIDE, HIGH = 28, 28"


# ---------------------------------------------------------------------------------------------------- honest work


@functools.cache
def both():
    return grading_zoo.load(PATH), grading_zoo.load(ROOT / "solutions" / PATH.name)


@functools.cache
def handed_out():
    return HandedOut.load(PATH)


def answers(data):
    return {answer.quiz: answer for answer in take(data, handed_out()).answers}


def run(answer, name="add_noise"):
    """What an answer gives its name, run as the sandbox does: each statement for itself, the course's own before."""
    namespace = {"__name__": "__main__"}
    exec(sources.prelude(handed_out().definitions()), namespace)
    for quiz in (quiz for quiz, needed in handed_out().names.items() if needed in answer.needs):
        namespace[handed_out().names[quiz]] = declarations.get(quiz).reference
    namespace["add_noise"] = lambda *given: given[0]
    namespace.pop(name, None)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    for source in (answer.above, answer.source):
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
                flags |= getattr(__future__, statement.names[0].name).compiler_flag
            with contextlib.suppress(Exception):
                code = compile(ast.Module([statement], []), "cell", "exec", flags, dont_inherit=True)
                value = eval(code, namespace)
                if inspect.iscoroutine(value):
                    asyncio.run(value)
    return namespace[name]


def adds_noise(function):
    x0, noise = torch.randn(2, 4, 1, 3, 3)
    alpha_bar, t = torch.linspace(1, 0, 11, dtype=torch.float64), torch.tensor([0, 3, 5, 10])
    a = alpha_bar[t].float().view(-1, 1, 1, 1)
    return torch.allclose(function(x0, t, noise, alpha_bar), a.sqrt() * x0 + (1 - a).sqrt() * noise)


@pytest.mark.parametrize("name", [name for name, animal in grading_zoo.ZOO.items() if animal.expected == "honest"])
def test_honest_work_has_all_that_its_kernel_had(name, tmp_path):
    grading_zoo.ZOO[name].put(tmp_path, PATH.stem, *both())
    found = answers((tmp_path / name / PATH.name).read_bytes())
    assert not any(answer.trouble or answer.untouched for answer in found.values())
    assert not any(answer.lacks for answer in found.values())
    answer = found["forward/add-noise"]
    assert adds_noise(run(answer)), (answer.above, answer.source)


def test_the_honest_zoo_is_large():
    assert sum(animal.expected == "honest" for animal in grading_zoo.ZOO.values()) >= 60


def changed(cells_above=(), answer=grading_zoo.ANSWER, cells_below=(), notebook=None):
    """The answer to forward/add-noise in a solved notebook with these cells above it and at the end."""
    notebook = notebook or grading_zoo.filled(*map(copy.deepcopy, both()))
    return answers(grading_zoo.text(grading_zoo.answered_with(notebook, answer, cells_above, cells_below)))[
        "forward/add-noise"
    ]


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        ([], "`ONE` is used in cell {0} and defined nowhere in the notebook"),
        (["def helper(x): return x"], "`ONE` is used in cell {1} and defined nowhere in the notebook"),
        (["TWO = ONE"], "`ONE` is used in cell {1} and defined nowhere in the notebook"),
        (["ONE = HALF * 2"], "`HALF` is used in cell {0} and defined nowhere in the notebook"),
        (
            ["ONE = half()", "def half(): return QUARTER"],
            "`QUARTER` is used in cell {1} and defined nowhere in the notebook",
        ),
        (["ONE = = 1"], "`ONE` is used in cell {1} and defined in cell {0}, which Python cannot read"),
        (["%%bash\nONE=1"], "`ONE` is used in cell {1} and defined nowhere in the notebook"),
        (
            ["print(1)", "x = 2\n%run mine.py"],
            "`ONE` is used in cell {2} and defined nowhere in the notebook: `%run` in cell {1} is not followed",
        ),
        (["%store -r ONE"], "defined nowhere in the notebook: `%store` in cell {0} is not followed"),
        (["%pylab inline"], "defined nowhere in the notebook: `%pylab` in cell {0} is not followed"),
        (["%%capture one\nprint(1)"], "nowhere in the notebook: `%%capture one` in cell {0} is not followed"),
        (["ONE = 1\n" + "#" * 100_000], "nowhere in the notebook: cell {0} is too long to be read"),
        (
            ["from typing import newer_than_here\nONE = newer_than_here"],
            "`newer_than_here`, imported in cell {0}, is",
        ),
        (["%%writefile mine.py\nONE = 1", "from mine import ONE"], "`mine`, imported in cell {1}, is not installed"),
        (["import os, mine.own as own\nONE = own.ONE"], "`mine`, imported in cell {0}, is not installed"),
        (["import torch\nimport nowhere_at_all as n", "ONE = n.ONE"], "`nowhere_at_all`, imported in cell {0}, is not"),
    ],
)
def test_what_is_nowhere_is_said_with_its_cell(cells, note):
    here = grading_zoo.place_of(both()[0], "forward/add-noise") + 1
    assert note.format(here, here + 1, here + 2) in changed(cells).lacks


@pytest.mark.parametrize(
    "cells",
    [
        ["from operator import *"],
        ["ONE = 1"],
        ["class A:\n    x = 1\n    y = x\nONE = A.y"],
        ["for i in range(3):\n    j = i\n    ONE = j - i + 1"],
        ["try:\n    ONE = 1\nexcept Exception as error:\n    print(error)"],
        ["ONE = sum(k for k in [1])", "print(undefined)"],
        ["def one(n): return n if n == 1 else two(n)\ndef two(n): return one(n - 1)\nONE = one(3)"],
        ["from __future__ import annotations\ndef one(x: Nowhere): return 1\nONE = one(3)"],
        ["import os.path, torch.nn as nn\nfrom course_utils import diffusion\nONE = 1 if nn and os else diffusion"],
        ["from math import *\nfrom itertools import chain\nimport os.path", "ONE = len([*chain(os.path.sep)])"],
        ["fs = [lambda x: x * scale for scale in (1, 1)]\nONE = fs[0](1)"],
        ["def helper(k=(ONE := 1)): return k"],
        ["@keep(ONE := 1)\nclass A(B, k=(TWO := 2)): pass", "def keep(n): return lambda f: f\nB = object"],
        ["import pandas_that_nobody_needs", "ONE = 1\n%run mine.py"],
        ["try:\n    import mine_if_there\nexcept ImportError:\n    mine_if_there = 1\nONE = mine_if_there"],
    ],
)
def test_nothing_is_said_to_lack_that_is_there(cells):
    assert not changed(cells).lacks


def test_nothing_passes_a_raise():
    above = changed(["ONE = 1\nraise SystemExit('what follows is old')\nONE = 5\nTWO = 2", "ONE *= TWO // 2"]).above
    assert "ONE = 1" in above and "TWO = 2" in above and "5" not in above


def test_a_magic_that_is_only_mentioned_is_none():
    assert changed(["# %run mine.py\ns = '%run'"]).lacks.endswith("defined nowhere in the notebook")


def test_what_nothing_needs_is_left_where_it_is():
    slow = ["import time\ntime.sleep(99)", "for k in range(10**9):\n    mix(ONE)", "print(ONE)", "compare(helper, ONE)"]
    slow += [
        "def helper(): pass\ntimed(helper)",
        "TWO = [ONE]\nTWO.append(3)",
        "%timeit mix(ONE)",
        "assert mix(ONE) == 1",
    ]
    answer = changed(["ONE = 1", *slow], grading_zoo.ANSWER, ["ONE = 14"])
    assert "compare" in answer.above  # whatever it is, it was handed ONE, for nothing but its effect
    assert not any(word in answer.above for word in ("sleep", "range", "print", "timed", "TWO", "mix", "14"))


def test_the_cell_keeps_its_lines_whatever_stands_above():
    answer = changed(["def one():\n    return 1\n\n\n\n\n", "ONE = one()"])
    assert answer.source == grading_zoo.ANSWER and answer.above.count("\n") >= 2
    assert answer.note == "taken along from other cells: ONE, one"


def test_the_functions_of_other_quizzes_are_as_check_gave_them():
    """... but only where their check stands above, or nothing else does; a helper of that name stays the student's."""
    answer = grading_zoo.ANSWER.replace("ONE", "log_snr(1)")
    assert changed([], answer).needs == ("log_snr",)
    own = changed(["def log_snr(x): return x"], answer)
    assert own.needs == () and own.above == "def log_snr(x): return x"
    earlier = grading_zoo.ANSWER.replace("ONE", "step_variances(1)")
    assert changed([], earlier).needs == ("step_variances",)
    over = changed(["def step_variances(x): return x"], earlier)
    assert over.needs == () and over.above == "def step_variances(x): return x"
    through = changed(["def one(): return step_variances(1)"], grading_zoo.ANSWER.replace("ONE", "one()"))
    assert through.needs == ("step_variances",) and "def one()" in through.above


def test_an_answer_that_others_need_lends_itself():
    """... with its own helpers, for quizzes to which the course's would be the answer."""
    notebook = grading_zoo.filled(*map(copy.deepcopy, both()))
    cell = notebook["cells"][grading_zoo.place_of(notebook, "forward/published-noise")]
    cell["source"] = "def published_noise(*given):\n    return add_noise(*given)\n"
    assert changed(["ONE = 1"]).lends == "", "nobody wants it"
    found = changed(["ONE = 1"], notebook=notebook)
    assert "ONE = 1" in found.lends and "def add_noise" in found.lends
    assert adds_noise(run(Answer("x", found.lends)))


@pytest.mark.parametrize("number", ["05", "06"])
def test_the_courses_own_that_is_no_literal_is_taken_along(number):
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    notebook = grading_zoo.load(path)
    cell = next(c for c in grading_zoo.answers(notebook) if "def " in "".join(c["source"]))
    name = "".join(cell["source"]).split("def ")[1].split("(")[0]
    cell["source"] = f"def {name}(*given, schedule=schedule):\n    return schedule"
    (found,) = (
        each for each in take(grading_zoo.text(notebook), HandedOut.load(path)).answers if each.source == cell["source"]
    )
    assert "schedule = " in found.above or "schedule, " in found.above
    assert "is used in" not in found.note and "taken along" not in found.note


@pytest.mark.parametrize(
    ("source", "version", "said"),
    [
        ('def add_noise(x0, *g):\n    return f"{g["a"]}"', "", "written for Python 3.12, and this grader runs"),
        ("def add_noise[T](x0: T, *g): return x0", "", "written for Python 3.12, and this grader runs"),
        ("type Image = int\ndef add_noise(*g): pass", "3.13.2", "written for Python 3.13, and this grader runs"),
        ("class add_noise[T]: pass", "3.11.4", "written for Python 3.12, and this grader runs"),
        ("def add_noise(*g): return t'{g}'", "3.12", "written for Python 3.14, and this grader runs"),
        ("def add_noise(:", "99.1.0", "written for Python 99.1, and this grader runs"),
        ("def add_noise(:", "3.8.1", "the cell has a syntax error in line 1: "),
        ("def add_noise(:", "x" * 99, "the cell has a syntax error in line 1: "),
        (
            "x = 1\nadd_noise = “x”",
            "3.8.1",
            "the cell has a syntax error in line 2: “ is no quotation mark of Python's",
        ),
        ("!ls \\\n  -a\ndef add_noise(:", "", "the cell has a syntax error in line 3: "),
    ],
)
def test_a_cell_that_is_no_python_here(source, version, said):
    if "3.12" in said and sys.version_info >= (3, 12) or "3.14" in said and sys.version_info >= (3, 14):
        pytest.skip("this Python knows that")
    notebook = grading_zoo.filled(*map(copy.deepcopy, both()))
    notebook["metadata"]["language_info"]["version"] = version
    assert said in changed([], source, [], notebook).trouble


def nested(levels):
    """`try` within `try`, which takes twice as long and as much to compile with every level."""
    lines = [" " * k + "try:" for k in range(levels)] + [" " * levels + "pass"]
    for k in reversed(range(levels)):
        lines += [" " * k + "finally:", " " * k + " pass"]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "source",
    [
        "x = " + "9" * 5_000,
        "x = 0x" + "f" * 90_000,
        "x = 0" + " + 1" * 20_000,
        "x = " + "-" * 3_000 + "1",
        "x = " + "[" * 150 + "]" * 150,
        "x" + ".x" * 5_000 + " = 1",
        nested(19),
        "def f():\n" + "\n".join(f" {line}" for line in nested(19).split("\n")),
        "lambda: " * 900 + "1",
        "x = " + "f(" * 180 + ")" * 180,
        "".join(f"x{k} = x{k - 1}\n" for k in range(3_000)),
        "".join(f"x{k} = x{k + 1}\n" for k in range(1_500)),
        "".join(f"def f{k}(): return f{(7 * k + 1) % 700}() + f{(3 * k) % 700}()\n" for k in range(700)),
        "\n".join(["x = 1"] * 5_000),
        "@" + "f(" * 90 + ")" * 90 + "\ndef g(): pass",
    ],
    ids=range(15),
)
def test_one_bad_cell_costs_itself_alone(source):
    """In a cell of its own, and as the answer: the others are taken as ever, within seconds."""
    start = time.monotonic()
    fine = {name: (each.source, each.trouble) for name, each in answers(grading_zoo.text(both()[1])).items()}
    for cells, answer in (
        ([source], grading_zoo.ANSWER.replace("ONE", "x1499 + f1()")),
        ([], f"{source}\nadd_noise = x"),
    ):
        notebook = grading_zoo.answered_with(grading_zoo.filled(*map(copy.deepcopy, both())), answer, cells)
        found = answers(grading_zoo.text(notebook))
        assert found.pop("forward/add-noise").source
        assert all(fine[name] == (each.source, each.trouble) for name, each in found.items())
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "text",
    [*(cell for cells, _ in grading_zoo.ONES.values() for cell in cells if Code(cell).source != cell)]
    + ["x = !ls", "a, b = %magic", "!!ls", "%%time\nx = 1", "f?", "??f", "/f a b", ",f a b", ";f a b", "  x = 1\n  !ls"]
    + ["if x:\n  !ls\nelse:\n  %cd ..", "x.y[0] = !ls", "%time?", "x = [\n1]\n!ls", "f(\n1)\n?f", ">>> x\n>>> !ls"],
)
def test_what_ipython_takes_is_taken(text):
    """Wherever IPython makes Python of a cell, so does the reader, and the same names are bound."""
    from IPython.core.inputtransformer2 import TransformerManager

    if any(character in text for character in "\u00a0\u200b\ufeff"):
        pytest.skip("IPython itself refuses what no web page should slip in")
    text = re.sub(r"^(%%\w+[^\n]*\n)+", "", text).replace("%time ", "")  # they run what follows in the notebook
    theirs = ast.parse(TransformerManager().transform_cell(text.replace("\r", "\n")))
    ours = Code(text.replace("\r", "\n")).tree
    assert ours is not None
    assert [type(node) for node in ours.body if bound(node)] == [type(node) for node in theirs.body if bound(node)]
    assert set().union(*map(bound, ours.body)) == set().union(*map(bound, theirs.body))


@pytest.mark.parametrize(
    ("cells", "letter"),
    [
        (['choice = "b"', {"source": "noisier = choice"}], "b"),
        ([{"source": 'noisier = "a"'}, 'noisier = "b"'], "b"),
        ([{}, 'noisier = "b"'], "b"),
        ([{"source": 'noisier = ""'}, '%%time\nnoisier = "b"'], "b"),
        (['def f(): return "b"', {"source": "noisier = f()"}], ""),
    ],
)
def test_the_letter_that_the_kernel_had(cells, letter):
    notebook = copy.deepcopy(both()[0])
    place = grading_zoo.place_of(notebook, "forward/noisier")
    own = notebook["cells"][place]
    notebook["cells"][place : place + 1] = [
        grading_zoo.code_cell(cell) if isinstance(cell, str) else own | cell for cell in cells
    ]
    found = answers(grading_zoo.text(notebook))["forward/noisier"]
    assert found.letter == letter and bool(found.trouble) == (not letter)
