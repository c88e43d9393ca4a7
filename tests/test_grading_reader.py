"""The one reader of cells: what notebooks allow beyond Python, what statements bind, and that nothing is read twice."""

from __future__ import annotations

import ast
import json
import time
from collections import Counter
from pathlib import Path

import grading_zoo
import pytest

from classroom.grading.handed_in import python
from classroom.grading.handed_in.handed_out import HandedOut
from classroom.grading.handed_in.python import Code
from classroom.grading.handed_in.take import take
from classroom.grading.records import Submission
from classroom.grading.statements import bound, bound_within, closure, defines

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
    assert time.monotonic() - start < 30


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
    handed_out, submission = HandedOut.load(PATH), Submission("ada", "03", "x.ipynb", grading_zoo.text(notebook))
    take(submission, handed_out)
    read: Counter[str] = Counter()
    original = python._tree
    monkeypatch.setattr(python, "_tree", lambda source: read.update([source]) or original(source))
    found = take(submission, handed_out)
    assert all(answer.code.tree for answer in found.answers)
    assert read and max(read.values()) == 1 and len(read) == len(handed_out.asked) + 30


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
    from classroom.grading.handed_in.letters import letter as letter_of

    notebook = grading_zoo.load(PATH)
    place = next(i for i, cell in enumerate(notebook["cells"]) if grading_zoo.role(cell) == "answer")
    own = notebook["cells"][place]
    notebook["cells"][place : place + 1] = [json.loads(json.dumps(own)) | {"source": source} for source in cells]
    answer = take(Submission("ada", "03", "x.ipynb", grading_zoo.text(notebook)), HandedOut.load(PATH)).answers[0]
    assert letter_of(answer.code, "noisier")[0] == letter


def test_constants_in_a_row_are_taken_along():
    notebook = grading_zoo.load(PATH)
    cell = grading_zoo.answers(notebook)[2]
    cell["source"] = "def linear_alpha_bar(T, low=1, high=2):\n    return WIDE + HIGH"
    notebook["cells"] += [grading_zoo.code_cell("WIDE, HIGH = 28, 28"), grading_zoo.code_cell("files = !ls\nfiles[0]")]
    answer = take(Submission("ada", "03", "x.ipynb", grading_zoo.text(notebook)), HandedOut.load(PATH)).answers[2]
    assert answer.source.startswith("WIDE, HIGH = (28, 28)\n\ndef linear_alpha_bar")
