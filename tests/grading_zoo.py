"""A zoo of files that students hand in: honest, damaged and odd ones, each with the answers that must be found in it.

    ZOO[name].put(folder, stem, clean, solved)     # folder/name/stem.ipynb, as student `name`
    ZOO[name].expected                             # "all" | "none" | "half" | "unreadable"

clean, solved: a notebook as handed out and its solution, as dicts (`load`). "all": every answer is the solution's;
"none": none is given; "half": those of `half(clean)`, the others are untouched; "unreadable": trouble, and no answers.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
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


@file_of("unreadable")
def two_hundred_megabytes(place, clean, solved):
    """Sparse: it takes no room on the disk."""
    place.write_bytes(text(filled(clean, solved)))
    os.truncate(place, 200 * 2**20)


@file_of("unreadable")
def a_link(place, clean, solved):
    target = place.parent / "elsewhere.txt"
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
