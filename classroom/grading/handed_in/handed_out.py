"""A notebook as it was handed out: what it asks, and how its cells are known again in what comes back."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..statements import bound, defines
from .letters import letter, typed
from .python import Code
from .read import Cell, cells


@dataclass(frozen=True)
class Asked:
    """A quiz as a notebook asks it.

    quiz: its id;  name: of the function, class or variable that its check cell checks;  stub: its answer cell.
    """

    quiz: str
    name: str
    stub: Code

    @property
    def is_question(self) -> bool:
        """Whether a letter is asked for: its cell defines no function."""
        return self.name not in self.stub.functions

    def untouched(self, code: Code) -> bool:
        """Whether that is still the cell as handed out, comments aside."""
        if code.text.strip() == self.stub.text.strip():
            return True
        small = len(code.text) < 3 * len(self.stub.text) + 1000
        return small and self.stub.dump == code.dump != ""

    def given_by(self, code: Code) -> bool:
        """Whether what stands in an answer cell answers the quiz, right or wrong."""
        if self.is_question:
            found, note = letter(code, self.name, self.quiz)
            return bool(found or note and re.search(rf"\b{self.name}\b[^=\n]*=", code.source))
        return self.name in code.names

    def given_elsewhere(self, code: Code) -> bool:
        """The same for a cell that is not meant for it: only what nobody writes by chance."""
        if (self.name not in code.text and self.quiz not in code.text) or code.tree is None:
            return False
        if self.is_question:
            return typed(code.tree, self.name, self.quiz) is not None and bool(letter(code, self.name, self.quiz)[0])
        return self.name in code.functions


@dataclass(frozen=True, eq=False)
class HandedOut:
    """A notebook as handed out, stubs in its answer cells. Looked at once, for all who hand it in.

    stem: its file's name without ending, "" if nobody knows;  asked: in the notebook's order.
    """

    stem: str
    cells: tuple[Cell, ...]
    asked: tuple[Asked, ...]

    @classmethod
    def load(cls, path: Path) -> HandedOut:
        """The notebook in this file.  ValueError as from `of`."""
        return cls.of(json.loads(path.read_text(encoding="utf-8")), path.stem)

    @classmethod
    def of(cls, notebook: Mapping, stem: str = "") -> HandedOut:
        """A notebook as parsed JSON.

        ValueError if a check cell is not of the form `f = check("id", f)` or `ask("id", name)`, or lacks its answer.
        """
        found = tuple(cells(notebook["cells"]))
        stubs = {cell.quiz: cell.code for cell in found if cell.role == "answer"}
        names = dict(_checked(cell) for cell in found if cell.role == "check")
        if lacking := sorted(names.keys() - stubs.keys()):
            raise ValueError(f"expected an answer cell for {', '.join(lacking)}, found none")
        return cls(stem, found, tuple(Asked(quiz, name, stubs[quiz]) for quiz, name in names.items()))

    @cached_property
    def names(self) -> dict[str, str]:
        """Quiz id -> name asked for."""
        return {asked.quiz: asked.name for asked in self.asked}

    @cached_property
    def given(self) -> set[str]:
        """Sources of the cells that are not a student's to fill in."""
        return {cell.source.strip() for cell in self.cells if cell.role != "answer"}

    @cached_property
    def provided(self) -> set[str]:
        """Names that are there for answers to use: what its other cells define."""
        return {name for node in self.definitions() for name in bound(node)}

    def definitions(self) -> list[ast.stmt]:
        """Imports, definitions and names of literals in its code cells, those of quizzes left out."""
        trees = [cell.code.tree for cell in self.cells if cell.kind == "code" and not cell.quiz]
        return [node for tree in trees if tree for node in tree.body if defines(node, literally=True)]

    @cached_property
    def checks(self) -> dict[str, Cell]:
        """grade_id -> check cell."""
        return {cell.grade_id: cell for cell in self.cells if cell.role == "check" and cell.grade_id}

    @cached_property
    def marks(self) -> set[str]:
        """All by which its cells can be told, whatever was done to them."""
        return {mark for cell in self.cells for mark in (cell.grade_id, cell.id) if mark}

    def homes(self, found: Iterable[Cell]) -> dict[int, str]:
        """Place -> the quiz that a cell is meant to answer, "" for none."""
        by_grade_id, by_id, by_text = self._homes

        def home(cell: Cell) -> str:
            if cell.grade_id in by_grade_id:
                return by_grade_id[cell.grade_id]
            if cell.id in by_id:
                return by_id[cell.id]
            if cell.role == "answer" and cell.quiz in self.names:
                return cell.quiz
            return by_text.get(cell.source.strip(), "")

        return {cell.place: home(cell) for cell in found}

    @cached_property
    def _homes(self) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        answers = [cell for cell in self.cells if cell.role == "answer" and cell.quiz in self.names]
        by_grade_id = {cell.grade_id: cell.quiz for cell in answers if cell.grade_id}
        by_id = {cell.id: cell.quiz for cell in answers if cell.id}
        return by_grade_id, by_id, {cell.source.strip(): cell.quiz for cell in answers}


def _checked(cell: Cell) -> tuple[str, str]:
    """Quiz id and name in a check cell."""
    calls = [node for node in ast.walk(cell.code.tree or ast.Module([], [])) if isinstance(node, ast.Call)]
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id in ("check", "ask") and len(call.args) == 2:
            quiz, name = call.args
            if isinstance(quiz, ast.Constant) and isinstance(name, ast.Name):
                return quiz.value, name.id
    raise ValueError(f'check cell of {cell.quiz}: expected f = check("{cell.quiz}", f) or ask("{cell.quiz}", name)')
