"""Student notebooks in which the options of each question stand in the student's own order."""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
from pathlib import Path

from nbformat import NotebookNode

from ..authoring import render
from ..authoring.links import Shelf
from ..authoring.masters import Cell, Master
from ..quizzes.declarations import Concept
from ..quizzes.variants import order_for, reordered


class Maker:
    """Makes any student's version of one notebook. What doesn't depend on the student is built once."""

    def __init__(self, master: Master, budgets: Path, beside: Shelf, *, solutions: bool) -> None:
        self._render = functools.partial(render.student, budgets=budgets, beside=beside, solutions=solutions)
        self.plain = self._render(master)
        self._master = master
        self._concepts = [quiz for quiz in master.quizzes.values() if isinstance(quiz, Concept)]
        self._cells = functools.cache(self._make_cells)

    def notebook(self, student: str, seed: int) -> NotebookNode:
        """The notebook for this student: same cells, same ids; question, check and solution follow the order."""
        own: dict[str, NotebookNode] = {}
        for concept in self._concepts:
            own |= self._cells(concept.id, order_for(student, concept, seed))
        notebook = copy.copy(self.plain)
        notebook["cells"] = [own.get(cell.id, cell) for cell in self.plain.cells]
        return notebook

    def _make_cells(self, quiz: str, order: str) -> dict[str, NotebookNode]:
        """id -> cell for all cells of one question: a notebook of nothing else, with its own locks and checksums."""
        cells = [_with_order(cell, order) for cell in self._master.cells if cell.quiz == quiz]
        reordered_only = {quiz: reordered(self._master.quizzes[quiz], order)}
        little = dataclasses.replace(self._master, cells=cells, quizzes=reordered_only)
        return {cell.id: cell for cell in self._render(little).cells}


def _with_order(cell: Cell, order: str) -> Cell:
    """A check cell that tells `ask` the order; any other cell as it is."""
    if cell.role != "check":
        return cell
    calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
    call = next(node for node in calls if getattr(node.func, "id", getattr(node.func, "attr", "")) == "ask")
    lines = cell.source.encode().split(b"\n")  # ast counts columns in bytes
    line, end = lines[call.end_lineno - 1], call.end_col_offset - 1
    lines[call.end_lineno - 1] = line[:end] + f', order="{order}"'.encode() + line[end:]
    return dataclasses.replace(cell, source=b"\n".join(lines).decode())
