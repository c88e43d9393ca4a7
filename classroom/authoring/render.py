"""The two notebooks that one master makes: the solved one and the student's.

nbgrader's own preprocessors do what they know best (clearing solutions and outputs, locking, checksums, checking the
metadata); they run here without its database. Ours is what it has no word for: question text, folded solutions, and
stubs that leave an untouched notebook running.
"""

from __future__ import annotations

import hashlib
import logging
import re
import textwrap
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from .directives import expand, folded_solution
from .links import Shelf, linked, navigation, shelf
from .masters import Cell, Master, MasterError, find_masters

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
TITLE = re.compile(r"# \d\d ")
REFERENCES = re.compile(r"^## References$", re.MULTILINE)
GOES_ON = "raises-exception"  # JupyterLab and nbclient then run the cells below it, whatever a student writes there
ONLY_WITH_OUTPUTS = {"nbval-check-output"}  # a tag about saved outputs says nothing in a notebook without any


def solved(master: Master, budgets: Path) -> NotebookNode:
    """The solution notebook, not executed yet. HANDED OUT regions are gone, the solution markers stay (nbgrader's)."""
    cells = []
    for node, cell in _nodes(master, budgets, _all_of(master)):
        if cell.role == "answer":
            node.source = _without(cell, cell.region("HANDED OUT"))
        cells.append(node)
    return _finish(new_notebook(cells=cells, metadata=dict(METADATA)))


def student(master: Master, budgets: Path, *, solutions: bool = True, beside: Shelf | None = None) -> NotebookNode:
    """The notebook that is handed out: stubs for answers, locked checks, no outputs, solutions folded or left out.

    beside: the notebooks that lie in the same folder, for the links between them; all there are where None.
    """
    preprocessors = _preprocessors()
    cells = []
    for node, cell in _nodes(master, budgets, _all_of(master) if beside is None else beside):
        tags = [t for t in cell.tags if t not in ONLY_WITH_OUTPUTS] + [GOES_ON] * (cell.role == "answer")
        node.metadata.pop("tags", None)
        if tags:
            node.metadata["tags"] = tags
        if cell.role == "answer":
            node.source = _without(cell, cell.region("HANDED OUT"))
            clear = preprocessors.ClearSolutions(code_stub={"python": _stub(cell)}, log=_QUIET)
            clear.preprocess_cell(node, {"language": "python"}, 0)
        cells.append(node)
        if cell.role == "check" and solutions:
            cells.append(_folded(master, cell))
    notebook = _finish(new_notebook(cells=cells, metadata=dict(METADATA)))
    for step in (preprocessors.ClearOutput, preprocessors.LockCells, preprocessors.ComputeChecksums):
        notebook, _ = step(log=_QUIET).preprocess(notebook, {})
    preprocessors.CheckCellMetadata(log=_QUIET).preprocess(notebook, {})
    return notebook


def grade_id(quiz: str) -> str:
    """nbgrader's name for a quiz, which may hold only letters, digits, - and _.

    >>> grade_id("vae/where-latents-go")
    'vae-where-latents-go'
    """
    return "".join(c if c.isalnum() and c.isascii() or c in "-_" else "-" for c in quiz)


_QUIET = logging.getLogger("classroom.authoring")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


def _preprocessors():
    try:
        import nbgrader.preprocessors
    except ImportError:
        raise ModuleNotFoundError(
            "building notebooks needs nbgrader, which learning does not: pip install -r requirements-dev.txt"
        ) from None
    return nbgrader.preprocessors


def _all_of(master: Master) -> Shelf:
    return shelf(find_masters(master.path.parent))


def _nodes(master: Master, budgets: Path, beside: Shelf):
    """Every cell of the master as a notebook cell with its metadata, beside the cell it came from."""
    seen: dict[str, int] = {}
    for cell in master.cells:
        source = expand(master, cell, budgets)
        if cell.kind == "markdown":
            source = linked(source, master.stem, beside)
            if TITLE.match(source) or REFERENCES.search(source):  # where one comes in, and where one leaves
                source = f"{source}\n\n{navigation(master.stem, beside)}"
        node = new_code_cell(source) if cell.kind == "code" else new_markdown_cell(source)
        key = f"{cell.role}:{cell.quiz}" if cell.role else cell.source
        seen[key] = seen.get(key, 0) + 1
        node.id = _cell_id(master.stem, key, seen[key])
        node.metadata = NotebookNode({"tags": list(cell.tags)} if cell.tags else {})
        if cell.role:
            node.metadata["course"] = NotebookNode(role=cell.role, quiz=cell.quiz)
            node.metadata["nbgrader"] = NotebookNode(_nbgrader(cell, master.quizzes[cell.quiz]))
        yield node, cell


def _cell_id(*parts: object) -> str:
    """A cell id that depends on nothing but what the cell is: the same build on every machine."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]


def _nbgrader(cell: Cell, declaration: object) -> dict:
    """nbgrader metadata, schema 3: the answer is a solution, the check is graded and locked, the question locked."""
    name = grade_id(cell.quiz) + {"answer": "", "check": "-check", "question": "-question"}[cell.role]
    meta = {
        "grade": cell.role == "check",
        "grade_id": name,
        "locked": cell.role != "answer",
        "schema_version": 3,
        "solution": cell.role == "answer",
        "task": False,
    }
    if cell.role == "check":
        meta["points"] = declaration.points
    return meta


def _without(cell: Cell, region) -> str:
    if region is None:
        return cell.source
    lines = cell.source.split("\n")
    return "\n".join(lines[: region.start] + lines[region.stop :]).rstrip("\n")


def _stub(cell: Cell) -> str:
    """What stands in place of the solution; nbgrader indents it to the depth of BEGIN SOLUTION."""
    handed = cell.region("HANDED OUT")
    if handed is None:
        raising = f'raise NotImplementedError("quiz {cell.quiz}: not answered yet")'
        return f"# write your answer here, then run the next cell\n{raising}"
    lines = [line[2:] if line.startswith("# ") else line[1:] for line in handed.text.split("\n")]
    return textwrap.dedent("\n".join(lines)).strip("\n")


def _folded(master: Master, cell: Cell) -> NotebookNode:
    answer = next(c for c in master.cells if c.role == "answer" and c.quiz == cell.quiz)
    node = new_markdown_cell(folded_solution(answer, master.quizzes[cell.quiz]))
    node.id = _cell_id(master.stem, "solution", cell.quiz)
    node.metadata = NotebookNode(course=NotebookNode(role="solution", quiz=cell.quiz))
    return node


def _finish(notebook: NotebookNode) -> NotebookNode:
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    ids = [cell.id for cell in notebook.cells]
    if len(set(ids)) != len(ids):  # 48 bits: never seen, and not to be met in silence
        raise MasterError("two cells got the same id: change a word in one of them")
    nbformat.validate(notebook)
    return notebook
