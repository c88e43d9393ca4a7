"""A zoo of files that students hand in: honest, damaged and odd ones, each with the answers that must be found in it.

    ZOO[name].put(folder, stem, clean, solved)     # folder/name/stem.ipynb, as student `name`
    ZOO[name].expected                             # "all" | "honest" | "none" | "half" | "unreadable"

clean, solved: a notebook as handed out and its solution, as dicts (`load`). "all": every answer is the solution's;
"honest": every answer is right, though some are written otherwise and need other cells;
"none": none is given; "half": those of `half(clean)`, the others are untouched; "unreadable": trouble, and no answers.
"""

from __future__ import annotations

import ast
import copy
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat


@dataclass(frozen=True)
class Animal:
    """put: writes the submission `folder/student/stem.ipynb`, see above;  expected: what must be found in it."""

    put: Callable[[Path, str, dict, dict], None]
    expected: str


ZOO: dict[str, Animal] = {}


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def half(clean: dict) -> list[str]:
    """Every other quiz, beginning with the first."""
    return [cell["metadata"]["course"]["quiz"] for cell in answers(clean)][::2]


def role(cell: dict) -> str:
    return cell["metadata"].get("course", {}).get("role", "")


def quiz(cell: dict) -> str:
    return cell["metadata"]["course"]["quiz"]


def answers(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if role(cell) == "answer"]


def text(notebook: dict) -> bytes:
    return json.dumps(notebook, ensure_ascii=False, indent=1).encode()


def code_cell(source: str, **fields) -> dict:
    return {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": source} | fields


def bytes_of(expected: str):
    """Register a maker of bytes: (clean, solved) -> bytes. It may change both dicts, which are copies."""

    def register(make: Callable[[dict, dict], bytes]):
        def put(folder: Path, stem: str, clean: dict, solved: dict) -> None:
            place = folder / name / f"{stem}.ipynb"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(make(copy.deepcopy(clean), copy.deepcopy(solved)))

        name = make.__name__
        ZOO[name] = Animal(put, expected)
        return make

    return register


def file_of(expected: str):
    """Register what is more than bytes: (place, clean, solved), place being the path of the notebook to be."""

    def register(make: Callable[[Path, dict, dict], None]):
        def put(folder: Path, stem: str, clean: dict, solved: dict) -> None:
            place = folder / name / f"{stem}.ipynb"
            place.parent.mkdir(parents=True, exist_ok=True)
            make(place, copy.deepcopy(clean), copy.deepcopy(solved))

        name = make.__name__
        ZOO[name] = Animal(put, expected)
        return make

    return register


def filled(clean: dict, solved: dict) -> dict:
    """The notebook as handed out with the solutions typed in: what an honest student hands in."""
    sources = {quiz(cell): cell["source"] for cell in answers(solved)}
    for cell in answers(clean):
        cell["source"] = sources[quiz(cell)]
    return clean


# ---------------------------------------------------------------------------------------------------- honest work


@bytes_of("all")
def solved(clean, solved):
    return text(filled(clean, solved))


@bytes_of("all")
def the_solution_notebook_itself(clean, solved):
    return text(solved)


@bytes_of("none")
def untouched(clean, solved):
    return text(clean)


@bytes_of("half")
def half_solved(clean, solved):
    wanted = half(clean)
    sources = {quiz(cell): cell["source"] for cell in answers(solved)}
    for cell in answers(clean):
        if quiz(cell) in wanted:
            cell["source"] = sources[quiz(cell)]
    return text(clean)


# ------------------------------------------------------------------------------------------- cells moved about


@bytes_of("all")
def stubs_duplicated_below(clean, solved):
    stubs = copy.deepcopy(answers(clean))
    notebook = filled(clean, solved)
    notebook["cells"] += [cell | {"id": f"copy-{i}"} for i, cell in enumerate(stubs)]
    return text(notebook)


@bytes_of("all")
def first_tries_left_above(clean, solved):
    """Every answer cell twice with the same marks: first a wrong try, then the answer."""
    notebook = filled(clean, solved)
    cells = []
    for cell in notebook["cells"]:
        if role(cell) == "answer":
            source = "".join(cell["source"])
            wrong = source.replace("return ", "return 0 * ").replace('= "a"', '= "c"').replace('= "b"', '= "a"')
            cells.append(cell | {"source": wrong, "id": f"try-{len(cells)}"})
        cells.append(cell)
    return text(notebook | {"cells": cells})


@bytes_of("all")
def reversed_cells(clean, solved):
    notebook = filled(clean, solved)
    return text(notebook | {"cells": notebook["cells"][::-1]})


@bytes_of("all")
def shuffled_cells(clean, solved):
    notebook = filled(clean, solved)
    random.Random(5).shuffle(notebook["cells"])
    return text(notebook)


@bytes_of("none")
def answer_cells_deleted(clean, solved):
    return text(clean | {"cells": [cell for cell in clean["cells"] if role(cell) != "answer"]})


@bytes_of("all")
def everything_else_deleted(clean, solved):
    return text({"cells": answers(filled(clean, solved)), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@bytes_of("half")
def half_of_the_cells_deleted(clean, solved):
    wanted = half(clean)
    notebook = filled(clean, solved)
    kept = [cell for cell in notebook["cells"] if role(cell) != "answer" or quiz(cell) in wanted]
    return text(notebook | {"cells": kept})


@bytes_of("all")
def pasted_into_other_cells(clean, solved):
    """The answer cells are as handed out; the answers stand in new cells right below them."""
    sources = {quiz(cell): cell["source"] for cell in answers(solved)}
    cells = []
    for cell in clean["cells"]:
        cells.append(cell)
        if role(cell) == "answer":
            cells.append(code_cell(sources[quiz(cell)], id=f"new-{len(cells)}"))
    return text(clean | {"cells": cells})


@bytes_of("all")
def next_answer_in_a_copied_cell(clean, solved):
    """Every answer cell carries the marks of the first one: it was copied, and the copy edited."""
    notebook = filled(clean, solved)
    first = answers(notebook)[0]["metadata"]
    for i, cell in enumerate(answers(notebook)):
        cell["id"] = f"copied-{i}"
        cell["metadata"] = copy.deepcopy(first)
    return text(notebook)


@bytes_of("all")
def split_cells(clean, solved):
    """A helper above every function, and the cell split between the two: JupyterLab copies the marks."""
    notebook = filled(clean, solved)
    cells = []
    for i, cell in enumerate(notebook["cells"]):
        if role(cell) == "answer":
            cells.append(cell | {"source": f"def helper_{i}(x):\n    return x", "id": f"split-{i}"})
        cells.append(cell)
    return text(notebook | {"cells": cells})


@bytes_of("all")
def helpers_in_cells_of_their_own(clean, solved):
    """Every function calls a helper from another cell, which needs a constant from yet another one."""
    notebook = filled(clean, solved)
    cells = [code_cell("MY_SCALE = 2"), code_cell("def my_half(x):\n    return x / MY_SCALE")]
    for cell in answers(notebook):
        source = "".join(cell["source"])
        if "def " in source:
            cell["source"] = source + "\n\nassert my_half(4) == 2"
    return text(notebook | {"cells": [*cells, *notebook["cells"]]})


@bytes_of("all")
def turned_into_markdown(clean, solved):
    notebook = filled(clean, solved)
    for cell in answers(notebook):
        cell["cell_type"] = "markdown"
    return text(notebook)


@bytes_of("all")
def turned_into_fenced_raw_cells(clean, solved):
    notebook = filled(clean, solved)
    for cell in answers(notebook):
        cell["cell_type"] = "raw"
        cell["source"] = "My answer:\n```python\n" + "".join(cell["source"]) + "\n```\nI hope that is right."
    return text(notebook)


@bytes_of("all")
def checks_edited(clean, solved):
    notebook = filled(clean, solved)
    for cell in notebook["cells"]:
        if role(cell) == "check":
            cell["source"] = "print('passed')"
    return text(notebook)


@bytes_of("all")
def with_magics(clean, solved):
    notebook = filled(clean, solved)
    for cell in answers(notebook):
        cell["source"] = "%matplotlib inline\n!pip list\n" + "".join(cell["source"]) + "\ntorch?"
    return text(notebook)


@bytes_of("all")
def with_magics_that_give_something(clean, solved):
    return text(_around_answers("files = !ls -l\none, two = !ls\ntook = %timeit -o 3\n", clean, solved, "\nfiles[:3]"))


@bytes_of("all")
def with_magics_of_two_lines(clean, solved):
    return text(_around_answers("!pip install \\\n    torch\n%timeit 3 \\\n    + 4\n", clean, solved))


@bytes_of("all")
def timed_cells(clean, solved):
    return text(_around_answers("%%time\n", clean, solved, "\n!ls"))


@bytes_of("all")
def with_questions_to_the_notebook(clean, solved):
    return text(_around_answers("torch?\n", clean, solved, "\n?torch\ntorch.sqrt??"))


@bytes_of("all")
def pasted_with_prompts(clean, solved):
    notebook = filled(clean, solved)
    for cell in answers(notebook):
        first, *others = "".join(cell["source"]).split("\n")
        cell["source"] = "\n".join([f">>> {first}", *(f"... {line}" for line in others)])
    return text(notebook)


def _around_answers(above: str, clean: dict, solved: dict, below: str = "") -> dict:
    notebook = filled(clean, solved)
    for cell in answers(notebook):
        cell["source"] = above + "".join(cell["source"]) + below
    return notebook


# ------------------------------------------------------------------------------- honest work, with helpers elsewhere

ANSWER = """def add_noise(x0, t, noise, alpha_bar):
    a = alpha_bar[t].to(x0.dtype).view(-1, ONE, ONE, ONE)
    return a.sqrt() * x0 + (ONE - a).sqrt() * noise
"""
READS_ONE = ANSWER.replace("ONE", "{0}").format

# What people write into cells of their own above an answer that needs ONE, which is 1: (those cells, what it reads).
ONES: dict[str, tuple[list[str], str]] = {
    "a_constant_in_two_cells": (["HALF = 0.5", "ONE = int(2 * HALF)"], "ONE"),
    "a_constant_halved": (["ONE = 2", "ONE //= 2"], "ONE"),
    "a_constant_counted_down": (["ONE = 10", "while ONE > 1:\n    ONE -= 1"], "ONE"),
    "constants_in_a_row": (["ONE, TWO = 1, 2"], "ONE"),
    "constants_unpacked": (["(ONE, *REST), [LAST] = (1, 2, 3), [4]"], "ONE"),
    "constants_in_a_chain": (["THREE = ONE = 1"], "ONE"),
    "constants_exchanged": (["ONE, TWO = 2, 1", "ONE, TWO = TWO, ONE"], "ONE"),
    "a_constant_with_a_type": (["ONE: int = 1"], "ONE"),
    "a_constant_deleted_and_set_again": (["ONE = 5", "del ONE", "ONE = 1"], "ONE"),
    "a_constant_used_before_it_is_changed": (["BASE = 1", "ONE = BASE", "BASE = 5"], "ONE if BASE > 1 else 3"),
    "a_constant_within_if": (["if torch.cuda.device_count() > 99:\n    ONE = 7\nelse:\n    ONE = 1"], "ONE"),
    "a_constant_within_try": (["try:\n    import not_there\n    ONE = 7\nexcept ImportError:\n    ONE = 1"], "ONE"),
    "a_constant_within_with": (["with torch.no_grad():\n    ONE = int(torch.ones(1))"], "ONE"),
    "a_constant_from_a_loop": (["for ONE in (3, 2, 1):\n    pass"], "ONE"),
    "a_constant_from_match": (["match (3, 1):\n    case (3, ONE):\n        pass"], "ONE"),
    "a_constant_from_a_walrus": (["print(ONE := 1)"], "ONE"),
    "a_constant_from_a_walrus_in_a_list": (["[ONE := k for k in (3, 2, 1)]"], "ONE"),
    "a_constant_set_by_a_function": (["def set_it():\n    global ONE\n    ONE = 1", "set_it()"], "ONE"),
    "a_constant_set_by_exec": (['exec("ONE = 1")'], "ONE"),
    "a_constant_among_globals": (['globals()["ONE"] = 1'], "ONE"),
    "a_constant_from_an_iterator": (["numbers = iter([5, 1])", "next(numbers)", "ONE = next(numbers)"], "ONE"),
    "a_constant_popped": (["numbers = [1, 5]", "numbers.pop()", "ONE = numbers[-1]"], "ONE"),
    "constants_in_a_dict": (["SIZES = {}", "SIZES['one'] = 1"], "SIZES['one']"),
    "constants_in_a_dict_updated": (["SIZES = dict(one=3)", "SIZES.update(one=1)"], "SIZES['one']"),
    "constants_in_a_dict_or": (["SIZES = dict(one=3)", "SIZES |= dict(one=1)"], "SIZES['one']"),
    "constants_in_a_list": (["SIZES = []", "SIZES.append(1)", "SIZES.extend([3, 4])"], "SIZES[0]"),
    "constants_in_a_list_filled_by_a_loop": (["SIZES = []", "for k in range(3):\n    SIZES.append(k)"], "SIZES[1]"),
    "constants_in_a_list_shuffled_and_sorted": (
        ["import random\nSIZES = [3, 2, 1]", "random.shuffle(SIZES)", "SIZES.sort()"],
        "SIZES[0]",
    ),
    "constants_in_a_namespace": (["import types\nsizes = types.SimpleNamespace()", "sizes.one = 1"], "sizes.one"),
    "constants_set_by_setattr": (["class Sizes: pass", "setattr(Sizes, 'one', 1)"], "Sizes.one"),
    "constants_in_a_dataclass": (
        ["from dataclasses import dataclass", "@dataclass\nclass Sizes:\n    one: int = 1", "sizes = Sizes()"],
        "sizes.one",
    ),
    "constants_in_an_enum": (["import enum", "class Sizes(enum.IntEnum):\n    ONE = 1"], "int(Sizes.ONE)"),
    "constants_in_a_named_tuple": (
        ["from collections import namedtuple", "Sizes = namedtuple('Sizes', 'one two')", "sizes = Sizes(1, 2)"],
        "sizes.one",
    ),
    "a_class_body_that_reads": (["ONE = 1", "class Sizes:\n    ONE = ONE"], "Sizes.ONE"),
    "an_attribute_of_a_function": (["def sizes(): return sizes.one", "sizes.one = 1"], "sizes()"),
    "a_registry_filled_by_a_decorator": (
        ["REGISTRY = {}\ndef register(f):\n    return REGISTRY.setdefault('one', f)", "@register\ndef one(): return 1"],
        "REGISTRY['one']()",
    ),
    "a_registry_filled_by_a_decorator_with_a_name": (
        [
            "REGISTRY = {}",
            "def register(name):\n    def keep(f):\n        REGISTRY[name] = f\n        return f\n    return keep",
            "@register('one')\ndef _(): return 1",
        ],
        "REGISTRY['one']()",
    ),
    "a_registry_filled_by_calls": (
        ["REGISTRY = {}", "def register(name, f):\n    REGISTRY[name] = f", "register('one', lambda: 1)"],
        "REGISTRY['one']()",
    ),
    "a_registry_filled_by_subclasses": (
        [
            "KINDS = []",
            "class Kind:\n    def __init_subclass__(cls):\n        KINDS.append(cls)",
            "class One(Kind):\n    value = 1",
        ],
        "KINDS[0].value",
    ),
    "a_registry_that_is_an_object": (
        [
            "class Registry(dict):\n    def add(self, f):\n        self[f.__name__] = f\n        return f",
            "registry = Registry()",
            "@registry.add\ndef one(): return 1",
        ],
        "registry['one']()",
    ),
    "a_dict_filled_by_ones_own_function": (
        ["TABLE = {}", "def fill(table):\n    table['one'] = 1", "fill(TABLE)"],
        "TABLE['one']",
    ),
    "a_counter_that_was_called": (
        [
            "class Counter:\n    n = 2\n    def down(self):\n        self.n -= 1",
            "counter = Counter()",
            "counter.down()",
        ],
        "counter.n",
    ),
    "a_closure_that_was_called": (
        [
            "def make(n=2):\n    def step():\n        nonlocal n\n        n -= 1\n        return n\n    return step",
            "step = make()",
            "ONE = step()",
        ],
        "ONE",
    ),
    "a_function_for_several_types": (
        [
            "import functools",
            "@functools.singledispatch\ndef one(x): return 3",
            "@one.register(str)\ndef _(x): return 1",
        ],
        "one('')",
    ),
    "a_helper_wrapped_by_itself": (
        [
            "import functools",
            "def one(): return 0",
            "def plus(f):\n    @functools.wraps(f)\n    def more(): return f() + 1\n    return more",
            "one = plus(one)",
        ],
        "one()",
    ),
    "a_helper_within_if": (["if True:\n    def one(): return 1"], "one()"),
    "a_helper_within_try": (["try:\n    import not_there\nexcept ImportError:\n    def one(): return 1"], "one()"),
    "a_helper_defined_twice": (["def one(): return 5", "def one(): return 1"], "one()"),
    "a_helper_with_a_default_that_is_deleted": (["K = 1", "def one(k=K): return k", "del K"], "one()"),
    "a_helper_that_calls_itself": (["def one(n=3): return 1 if n < 1 else one(n - 1)"], "one()"),
    "helpers_that_call_each_other": (
        ["def even(n): return 1 if n < 1 else odd(n - 1)", "def odd(n): return even(n - 1)"],
        "even(4)",
    ),
    "a_helper_that_is_a_lambda": (["one = lambda: K", "K = 1"], "one()"),
    "a_helper_with_a_cache": (["from functools import lru_cache", "@lru_cache\ndef one(): return 1"], "one()"),
    "a_helper_from_partial": (["from functools import partial", "one = partial(max, 1, 0)"], "one()"),
    "a_helper_named_like_a_later_quiz": (["def log_snr(): return 1"], "log_snr()"),
    "a_helper_named_like_the_courses": (["def normal_like(): return 1"], "normal_like()"),
    "a_method_of_ones_own_on_tensors": (["torch.Tensor.one = lambda self: 1"], "x0.one()"),
    "a_module_under_two_names": (["import math as m, operator as op"], "op.index(m.ceil(0.5))"),
    "a_star_import": (["from operator import *"], "abs(neg(1))"),
    "a_star_import_that_hides_pythons_own": (["from torch import *"], "sum(tensor([1]), dim=0).item()"),
    "annotations_that_nobody_defined": (
        ["from __future__ import annotations", "def one(x: Nowhere = 1): return x"],
        "one()",
    ),
    "a_setting_of_the_course": (["T = 1"], "T"),
    "a_value_awaited": (["async def later(): return 1", "ONE = await later()"], "ONE"),
    "a_loop_over_what_comes_later": (
        ["async def numbers():\n    for k in (3, 1):\n        yield k", "async for ONE in numbers():\n    pass"],
        "ONE",
    ),
    "pip_over_two_lines": (["!pip install -q \\\n    einops\nONE = 1"], "ONE"),
    "a_listing_beside_a_constant": (["files = !ls -l \\\n  -a\nONE = 1"], "ONE"),
    "a_query_beside_a_constant": (["rows = %sql select * from t\nONE = 1"], "ONE"),
    "timeit_over_two_lines": (["%timeit -n1 3 \\\n    + 4\nONE = 1"], "ONE"),
    "a_constant_under_time": (["%%time\n\nONE = 1"], "ONE"),
    "a_constant_under_timeit": (["%%timeit -n1 -r1\nONE = 1"], "ONE"),
    "a_constant_under_capture": (["%%capture out\n%matplotlib inline\nONE = 1"], "ONE"),
    "a_constant_timed": (["%time ONE = 1"], "ONE"),
    "a_magic_within_a_function": (["def one():\n    %matplotlib inline\n    return 1"], "one()"),
    "a_magic_within_if": (["if True:\n    %load_ext autoreload\n    ONE = 1\nelse:\n    !ls"], "ONE"),
    "a_question_beside_a_constant": (["ONE = 1\nONE?\n?torch\ntorch.Tensor.view??"], "ONE"),
    "a_call_without_brackets": (["def keep(k):\n    global ONE\n    ONE = int(k)", "/keep 1"], "ONE"),
    "a_call_with_a_comma": (["def keep(k):\n    global ONE\n    ONE = int(k)", ",keep 1"], "ONE"),
    "a_cell_pasted_with_prompts": ([">>> def one():\n...     return 1\n...\n>>> one()"], "one()"),
    "a_cell_pasted_from_ipython": (["In [3]: def one():\n   ...:     return 1\n   ...: "], "one()"),
    "an_indented_cell": (["    ONE = 1\n    !ls\n    TWO = 2"], "ONE"),
    "a_form_of_colab": (["#@title Sizes { run: 'auto' }\nONE = 1 #@param {type:'integer'}\n#@markdown ---"], "ONE"),
    "cells_of_vs_code": (["# %% sizes\nONE = 1\n# %%\nTWO = 2"], "ONE"),
    "an_export_of_vs_code": (["# In[3]:\n\n\nONE = 1\n\n\n# In[ ]:\n"], "ONE"),
    "a_form_feed": (["\x0cONE = 1\x0c"], "ONE"),
    "tabs": (["if True:\n\tONE = 1"], "ONE"),
    "a_byte_order_mark_in_a_cell": (["\ufeffONE = 1"], "ONE"),
    "blanks_from_a_web_page": (["ONE\u00a0=\u00a01\u200b"], "ONE"),
    "old_line_ends": (["ONE = 3\rONE = 1\r"], "ONE"),
    "several_statements_in_a_line": (["TWO = 2; ONE = 1; print('ä', ONE)"], "ONE"),
    "a_text_of_several_lines": (['"""One\n\n%time\n"""\nONE = 1'], "ONE"),
    "an_import_guarded_by_magic": (
        ["try:\n    import operator as o\nexcept ImportError:\n    !pip install o"],
        "o.index(1)",
    ),
}


def place_of(notebook: dict, of: str, its: str = "answer") -> int:
    """Where a cell of a quiz stands."""
    return next(i for i, cell in enumerate(notebook["cells"]) if role(cell) == its and quiz(cell) == of)


def add(notebook: dict, place: int, *sources: str) -> None:
    notebook["cells"][place:place] = [code_cell(source) for source in sources]


def honest(change: Callable[[dict], object]):
    """Register honest work: a change to the solved notebook, whose answers must keep all points."""

    def make(clean: dict, solved: dict) -> bytes:
        notebook = filled(clean, solved)
        return text(change(notebook) or notebook)

    make.__name__ = change.__name__
    bytes_of("honest")(make)
    return change


def answered_with(notebook: dict, source: str, above: Sequence[str] = (), below: Sequence[str] = ()) -> dict:
    """With another answer to forward/add-noise, cells right above it, and some at the notebook's end."""
    place = place_of(notebook, "forward/add-noise")
    notebook["cells"][place]["source"] = source
    add(notebook, place, *above)
    add(notebook, len(notebook["cells"]), *below)
    return notebook


def _with_one(name: str, cells: list[str], one: str) -> None:
    def change(notebook: dict) -> dict:
        later = ["ONE = 14\nSIZES = {}\nT = 3", "def one(*given): return 28\nplots = ONE"]
        return answered_with(notebook, READS_ONE(f"({one})"), cells, later)

    change.__name__ = name
    honest(change)


for _name, (_cells, _one) in ONES.items():
    _with_one(_name, _cells, _one)


@honest
def constants_at_the_end(notebook):
    return answered_with(notebook, ANSWER, [], ["ONE = TWO // 2", "TWO = 2"])


@honest
def helpers_in_reversed_cells(notebook):
    answered_with(notebook, ANSWER, ["TWO = 2", "ONE = TWO // 2"])
    return notebook | {"cells": notebook["cells"][::-1]}


@honest
def a_helper_between_answer_and_check(notebook):
    answered_with(notebook, ANSWER)
    add(notebook, place_of(notebook, "forward/add-noise", "check"), "TWO = 2\nONE = TWO - 1")


@honest
def a_second_try_in_a_cell_of_its_own(notebook):
    source = answered_with(notebook, ANSWER)["cells"][place_of(notebook, "forward/add-noise")]
    source["source"] = "def add_noise(x0, t, noise, alpha_bar):\n    return x0"
    add(notebook, place_of(notebook, "forward/add-noise", "check"), "ONE = 1", ANSWER)


@honest
def a_second_try_behind_a_failed_check(notebook):
    """... and the check copied below it."""
    answered_with(notebook, "def add_noise(x0, t, noise, alpha_bar):\n    return x0")
    place = place_of(notebook, "forward/add-noise", "check")
    add(notebook, place + 1, ANSWER.replace("ONE", "1"), notebook["cells"][place]["source"])


@honest
def pass_above_and_the_answer_below(notebook):
    answered_with(notebook, "def add_noise(x0, t, noise, alpha_bar):\n    pass")
    add(notebook, place_of(notebook, "forward/add-noise", "check") + 1, ANSWER.replace("ONE", "1"))


@honest
def dots_above_and_the_answer_below(notebook):
    answered_with(notebook, "def add_noise(x0, t, noise, alpha_bar): ...", [], [ANSWER.replace("ONE", "1")])


@honest
def an_answer_wrapped_below(notebook):
    answered_with(notebook, ANSWER, ["ONE = 1"])
    wrapping = "import functools\nadd_noise = functools.wraps(add_noise)(functools.partial(add_noise))"
    add(notebook, place_of(notebook, "forward/add-noise", "check"), wrapping)


@honest
def an_answer_under_another_name(notebook):
    answered_with(notebook, ANSWER.replace("add_noise", "my_noise"), ["ONE = 1"])
    check = notebook["cells"][place_of(notebook, "forward/add-noise", "check")]
    check["source"] = 'add_noise = check("forward/add-noise", my_noise)'


@honest
def an_answer_that_only_the_check_names(notebook):
    answered_with(notebook, "", ["ONE = 1", ANSWER.replace("add_noise", "mix")])
    check = notebook["cells"][place_of(notebook, "forward/add-noise", "check")]
    check["source"] = 'add_noise = check("forward/add-noise", lambda *given: mix(*given))'


@honest
def an_answer_typed_above_its_check(notebook):
    answered_with(notebook, "")
    check = notebook["cells"][place_of(notebook, "forward/add-noise", "check")]
    check["source"] = ANSWER.replace("ONE", "1") + check["source"]


@honest
def an_answer_that_is_a_lambda(notebook):
    source = "wide = lambda x: x.view(-1, 1, 1, 1)\nadd_noise = lambda x0, t, noise, alpha_bar: (\n"
    source += "    wide(alpha_bar[t].sqrt()).to(x0) * x0 + wide((1 - alpha_bar[t]).sqrt()).to(x0) * noise\n)"
    return answered_with(notebook, source)


@honest
def an_answer_that_is_an_object(notebook):
    source = (
        "class Noise:\n    def __call__(self, x0, t, noise, alpha_bar):\n        return mix(x0, t, noise, alpha_bar)"
    )
    return answered_with(notebook, "add_noise = Noise()", [ANSWER.replace("add_noise", "mix"), "ONE = 1", source])


@honest
def an_answer_imported_from_ones_own_cell(notebook):
    return answered_with(notebook, "for add_noise in [mix]:\n    pass", [ANSWER.replace("add_noise", "mix"), "ONE = 1"])


@honest
def a_default_of_the_courses_own(notebook):
    source = ANSWER.replace("alpha_bar)", "alpha_bar, table=alpha_bar)", 1)
    return answered_with(notebook, source.replace("ONE", "len(table[:1])"))


@honest
def a_setup_cell_with_more_in_it(notebook):
    setup = next(cell for cell in notebook["cells"] if "lab = setup" in "".join(cell["source"]))
    setup["source"] = "%load_ext autoreload\n%autoreload 2\n" + setup["source"] + "\nONE = 1\ntorch.manual_seed(ONE)"
    return answered_with(notebook, ANSWER)


@honest
def an_answer_in_two_parts(notebook):
    """Split in JupyterLab, which copies the marks."""
    place = place_of(notebook, "forward/add-noise")
    own = answered_with(notebook, ANSWER)["cells"][place]
    notebook["cells"].insert(place, own | {"source": "TWO = 2\nONE = TWO // 2\nprint(ONE)", "id": "part"})


@honest
def an_old_try_with_magics(notebook):
    place = place_of(notebook, "forward/add-noise")
    own = answered_with(notebook, ANSWER, ["ONE = 1"])["cells"][place + 1]
    old = "%%time\nout = !ls\ndef add_noise(*given):\n    !echo here\n    return 0"
    notebook["cells"].insert(place + 1, own | {"source": old, "id": "old"})


@honest
def everything_in_one_cell(notebook):
    sources = ["".join(cell["source"]) for cell in answers(notebook)]
    kept = [cell for cell in notebook["cells"] if role(cell) != "answer"]
    first = next(i for i, cell in enumerate(kept) if role(cell) == "question")
    return notebook | {"cells": [*kept[:first], code_cell("\n\n".join(sources)), *kept[first:]]}


@honest
def noise_in_between(notebook):
    """Tests, prints and plots of one's own, which nothing needs and which would take for ever."""
    slow = ["import time\ntime.sleep(1000)", "for k in range(10**9):\n    last = mix(k)", "while True: pass"]
    return answered_with(
        notebook, ANSWER + "\nprint(images.shape)", ["ONE = 1", *slow, "print(ONE)", "assert ONE == mix(1)"]
    )


# ------------------------------------------------------------------------------ honest work, as programs save it


def _answered(notebook: dict) -> dict:
    """With helpers in cells of their own."""
    return answered_with(notebook, ANSWER, ["!pip install -q \\\n  einops\nTWO = 2", "ONE = TWO // 2"])


@honest
def saved_by_colab(notebook):
    """It keeps ids in the metadata, adds its own, and stays with an older format."""
    for i, cell in enumerate(_answered(notebook)["cells"]):
        cell["metadata"] |= {"id": cell.pop("id", f"c{i}"), "colab": {"base_uri": "x"}, "outputId": "x"}
        if i % 3 == 0:
            cell["metadata"]["cellView"] = "form"
    colab = {"colab": {"provenance": [], "gpuType": "T4"}, "accelerator": "GPU", "kernelspec": {"name": "python3"}}
    return notebook | {"metadata": colab | {"language_info": {"name": "python"}}, "nbformat_minor": 0}


@honest
def saved_by_kaggle(notebook):
    for i, cell in enumerate(_answered(notebook)["cells"]):
        cell.pop("id", None)
        cell["metadata"] |= {"_uuid": f"{i:032x}", "_cell_guid": f"{i}", "trusted": True}
    first = code_cell("import os\nfor folder, _, names in os.walk('/kaggle/input'):\n    print(folder, names)")
    version = {"language_info": {"name": "python", "version": "3.10.12"}, "kaggle": {"isGpuEnabled": True}}
    return notebook | {"cells": [first, *notebook["cells"]], "metadata": version, "nbformat_minor": 4}


@honest
def saved_by_vs_code(notebook):
    for cell in _answered(notebook)["cells"]:
        cell["metadata"]["vscode"] = {"languageId": "python"}
        cell["source"] = "".join(cell["source"]).splitlines(keepends=True)
    notebook["metadata"]["language_info"] = {"name": "python", "version": "3.13.1", "codemirror_mode": {"version": 3}}
    return notebook


@honest
def saved_by_deepnote(notebook):
    for i, cell in enumerate(_answered(notebook)["cells"]):
        cell.pop("id", None)
        cell["metadata"] |= {"cell_id": f"{i:032x}", "deepnote_cell_type": cell["cell_type"], "allow_embed": False}
    return notebook | {"metadata": {"deepnote": {}, "deepnote_notebook_id": "x"}, "nbformat_minor": 0}


@honest
def saved_by_jupyterlab(notebook):
    for i, cell in enumerate(_answered(notebook)["cells"]):
        if cell["cell_type"] == "code":
            cell["execution_count"] = i
            cell["metadata"] |= {"execution": {"iopub.execute_input": "x"}, "collapsed": False, "scrolled": True}
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["def add_noise(): pass\n"]}]
    return notebook


@honest
def saved_by_datalore_or_a_script(notebook):
    """Converted to a script and back: no marks, every cell headed by its number."""
    for i, cell in enumerate(_answered(notebook)["cells"]):
        cell["metadata"], cell["id"] = {}, f"cell-{i}"
        if cell["cell_type"] == "code":
            cell["source"] = f"# In[{i}]:\n\n\n" + "".join(cell["source"])
    return notebook


@honest
def run_by_papermill(notebook):
    _answered(notebook)
    add(notebook, 2, "# Parameters\nT = 1000\nONE = 5\n")
    notebook["cells"][2]["metadata"] = {"tags": ["injected-parameters"]}
    notebook["metadata"]["papermill"] = {"duration": 3.0}
    return notebook


@honest
def formatted_by_black(notebook):
    """Every answer written anew from its tree: other quotes, brackets, no comments."""
    for cell in answers(_answered(notebook)):
        cell["source"] = ast.unparse(ast.parse("".join(cell["source"])))
    return notebook


# ----------------------------------------------------------------------------------------------- metadata


@bytes_of("all")
def metadata_stripped(clean, solved):
    notebook = filled(clean, solved)
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        cell.pop("id", None)
    return text(notebook)


@bytes_of("none")
def untouched_and_stripped(clean, solved):
    for cell in clean["cells"]:
        del cell["metadata"]
        cell.pop("id", None)
    return text(clean)


@bytes_of("all")
def only_cell_ids_left(clean, solved):
    notebook = filled(clean, solved)
    for cell in notebook["cells"]:
        cell["metadata"] = {}
    return text(notebook)


@bytes_of("all")
def only_grade_ids_left(clean, solved):
    notebook = filled(clean, solved)
    for i, cell in enumerate(notebook["cells"]):
        cell["metadata"].pop("course", None)
        cell["id"] = f"cell-{i}"
    return text(notebook)


@bytes_of("all")
def metadata_of_wrong_types(clean, solved):
    notebook = filled(clean, solved)
    for i, cell in enumerate(notebook["cells"]):
        cell["metadata"] = [None, 7, "x", [], {"nbgrader": 3, "course": []}][i % 5]
        cell["id"] = i
    notebook["metadata"] = "python"
    return text(notebook)


@bytes_of("all")
def other_kernel(clean, solved):
    notebook = filled(clean, solved)
    notebook["metadata"] = {
        "kernelspec": {"name": "ir", "display_name": "R", "language": "R"},
        "language_info": {"name": "R"},
    }
    return text(notebook)


# ------------------------------------------------------------------------------------------------ formats


@bytes_of("all")
def format_3(clean, solved):
    node = nbformat.from_dict(filled(clean, solved))
    return nbformat.writes(nbformat.convert(node, 3), version=3).encode()


@bytes_of("all")
def format_2(clean, solved):
    cells = [{"cell_type": c["cell_type"], "input": c["source"]} for c in filled(clean, solved)["cells"]]
    return text({"nbformat": 2, "worksheets": [{"cells": cells}], "metadata": {"name": ""}})


@bytes_of("all")
def format_99(clean, solved):
    return text(filled(clean, solved) | {"nbformat": 99})


@bytes_of("all")
def sources_as_lists(clean, solved):
    notebook = filled(clean, solved)
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).splitlines(keepends=True)
    return text(notebook)


@bytes_of("all")
def windows_line_ends(clean, solved):
    notebook = filled(clean, solved)
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace("\n", "\r\n")
    return text(notebook).replace(b"\n", b"\r\n")


@bytes_of("all")
def byte_order_mark(clean, solved):
    return b"\xef\xbb\xbf" + text(filled(clean, solved))


@bytes_of("all")
def utf_16(clean, solved):
    return text(filled(clean, solved)).decode().encode("utf-16")


@bytes_of("all")
def not_utf8_in_a_comment(clean, solved):
    """Bytes that are no UTF-8 in a text cell and behind every answer."""
    notebook = filled(clean, solved)
    for cell in answers(notebook):
        cell["source"] = "".join(cell["source"]) + "\n# caf@@"
    notebook["cells"][0]["source"] = "na@@ve"
    return text(notebook).replace(b"@@", b"\xe9")


@bytes_of("all")
def zero_bytes_at_the_end(clean, solved):
    return text(filled(clean, solved)) + bytes(4096)


@bytes_of("all")
def rests_of_a_longer_file_at_the_end(clean, solved):
    whole = text(filled(clean, solved))
    return whole + whole[-300:]


@bytes_of("all")
def odd_values(clean, solved):
    """Huge numbers, a lone surrogate, infinite floats, a key twice, zero bytes in a source, cells that are none."""
    notebook = filled(clean, solved)
    for cell in answers(notebook):
        cell["source"] = "".join(cell["source"]) + "\n# \0"
    notebook["cells"] += [None, 3, [], {}, {"cell_type": None, "source": None}, {"source": {"a": 1}}, {"source": [1]}]
    whole = json.dumps(notebook | {"odd": float("inf"), "number": 123321, "text": "SURROGATE"})
    whole = whole.replace("123321", "9" * 10_000).replace("SURROGATE", "\\ud800")
    return ('{"cells": [], "cells": null,' + whole[1:]).encode()


@bytes_of("none")
def sources_null(clean, solved):
    for cell in clean["cells"]:
        cell["source"] = None
    return text(clean)


@bytes_of("all")
def a_hundred_thousand_cells(clean, solved):
    notebook = filled(clean, solved)
    notebook["cells"] += [{"cell_type": "code", "source": "x = 1"}] * 100_000
    return text(notebook)


@bytes_of("all")
def a_picture_pasted_into_the_text(clean, solved):
    notebook = filled(clean, solved)
    picture = {"cell_type": "markdown", "metadata": {}, "source": f"![](data:image/png;base64,{'A' * 5_000_000})"}
    return text(notebook | {"cells": [picture, *notebook["cells"]]})


# --------------------------------------------------------------------------------------------- unreadable files


@bytes_of("unreadable")
def empty_file(clean, solved):
    return b""


@bytes_of("unreadable")
def zero_bytes(clean, solved):
    return bytes(10_000)


@bytes_of("unreadable")
def lone_brace(clean, solved):
    return b"{"


@bytes_of("unreadable")
def truncated(clean, solved):
    whole = text(filled(clean, solved))
    return whole[: 2 * len(whole) // 3]


@bytes_of("unreadable")
def broken_in_the_middle(clean, solved):
    whole = text(filled(clean, solved))
    return whole[: len(whole) // 2] + b'"]}' + whole[len(whole) // 2 + 30 :]


@bytes_of("unreadable")
def conflict_markers(clean, solved):
    lines = text(filled(clean, solved)).split(b"\n")
    middle = len(lines) // 2
    lines[middle:middle] = [b"<<<<<<< HEAD", b'  "x = 1",', b"=======", b'  "x = 2",', b">>>>>>> feature"]
    return b"\n".join(lines)


@bytes_of("unreadable")
def web_page(clean, solved):
    return b"<!DOCTYPE html>\n<html><body><h1>502 Bad Gateway</h1></body></html>"


@bytes_of("unreadable")
def json_list(clean, solved):
    return b"[1, 2, 3]"


@bytes_of("unreadable")
def json_null(clean, solved):
    return b"null"


@bytes_of("unreadable")
def json_without_cells(clean, solved):
    return b'{"nbformat": 4, "cells": "none", "worksheets": [3]}'


@bytes_of("unreadable")
def nested_without_end(clean, solved):
    return b'{"cells": ' + b"[" * 200_000


@bytes_of("unreadable")
def a_renamed_zip(clean, solved):
    return b"PK\x03\x04" + bytes(200)


@bytes_of("unreadable")
def python_source(clean, solved):
    return "\n\n".join("".join(cell["source"]) for cell in answers(solved)).encode()


@bytes_of("unreadable")
def noise(clean, solved):
    return random.Random(0).randbytes(50_000)


@bytes_of("unreadable")
def half_a_utf_16_character(clean, solved):
    return text(clean).decode().encode("utf-16")[:-1]


@file_of("all")
def two_hundred_megabytes(place, clean, solved):
    """Zeros behind the notebook. Sparse: they take no room on the disk."""
    place.write_bytes(text(filled(clean, solved)))
    os.truncate(place, 200 * 2**20)


@file_of("unreadable")
def a_link(place, clean, solved):
    target = place.parent / ".elsewhere"
    target.write_bytes(text(filled(clean, solved)))
    place.symlink_to(target)


@file_of("unreadable")
def a_link_to_itself(place, clean, solved):
    place.symlink_to(place.name)


@file_of("unreadable")
def a_pipe(place, clean, solved):
    os.mkfifo(place)


@file_of("unreadable")
def a_folder_named_like_a_notebook(place, clean, solved):
    place.mkdir()
    (place / "inside.ipynb").write_bytes(text(filled(clean, solved)))


@file_of("all")
def beside_checkpoints(place, clean, solved):
    """What Jupyter and macOS leave behind is nobody's submission."""
    untouched = text(clean)
    place.write_bytes(text(filled(clean, solved)))
    for rest in (".ipynb_checkpoints/x-checkpoint.ipynb", "__MACOSX/._x.ipynb", "._x.ipynb"):
        (place.parent / rest).parent.mkdir(exist_ok=True)
        (place.parent / rest).write_bytes(untouched)


@file_of("all")
def a_renamed_file(place, clean, solved):
    place.with_name("final version (2).ipynb").write_bytes(text(filled(clean, solved)))
