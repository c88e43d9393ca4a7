"""`python tests/cells.py FACE NN NN …`: run the code of masters, cell after cell, in one process, and say what stopped.

Much faster than nbval with a kernel for each notebook, and made from the masters, not from what was built of them.
FACE: "solved" or "untouched". Writes one JSON object: notebook -> list of "cell k (its first line): Error: message".
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from IPython.core.interactiveshell import InteractiveShell

from classroom.authoring import execution, render
from classroom.authoring.masters import find_masters, read_master

SOLUTIONS = Path(__file__).resolve().parent.parent / "solutions"
FACES = {"solved": render.solved, "untouched": render.student}


def run(face: str, number: str) -> list[str]:
    """The cells of a notebook that ended in an error, as a student meets them, [] if none; what they print is lost."""
    (path,) = find_masters(SOLUTIONS, [number])
    notebook = FACES[face](read_master(path), SOLUTIONS / "budgets.json")
    shell, stopped = InteractiveShell.instance(), []
    shell.reset()
    for k, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code":
            continue
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            result = shell.run_cell(cell.source)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            stopped.append(f"cell {k} ({execution.first_line(cell)}): {type(error).__name__}: {error}")
    return stopped


if __name__ == "__main__":
    face, *numbers = sys.argv[1:]
    print(json.dumps({number: run(face, number) for number in numbers}))
