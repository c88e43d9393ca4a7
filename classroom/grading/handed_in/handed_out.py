"""A notebook as it was handed out: what it asks, and how its cells are known again in what comes back."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from .letters import letter, typed
from .names import Statement, statements
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

    def under(self, line: str) -> Asked:
        """The same quiz, asking for what `line` gives the name: `f = mine` for `mine`; itself where that is no name."""
        other = line.removeprefix(f"{self.name} = ")
        return replace(self, name=other) if other.isidentifier() and other != line else self

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
        if self.name not in code.text or code.tree is None:
            return False
        given = [node for node in code.bindings.get(self.name, ()) if not any(checked(node))]
        return bool(given) and not _is_empty(given[-1])

    def given_elsewhere(self, code: Code) -> bool:
        """The same for a cell that is not meant for it: only what nobody writes by chance."""
        if (self.name not in code.text and self.quiz not in code.text) or code.tree is None or not self.given_by(code):
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

    def check_of(self, cell: Cell) -> str:
        """The quiz whose check cell this is, by its marks or its text, "" for none."""
        return self._checks.get(cell.grade_id) or self._checks.get(cell.id) or self._checks.get(cell.source.strip(), "")

    @cached_property
    def _checks(self) -> dict[str, str]:
        checks = [cell for cell in self.cells if cell.role == "check"]
        return {mark: cell.quiz for cell in checks for mark in (cell.grade_id, cell.id, cell.source.strip()) if mark}

    @cached_property
    def functions(self) -> set[str]:
        """Names of the functions and classes asked for."""
        return {asked.name for asked in self.asked if not asked.is_question}

    def definitions(self) -> list[ast.stmt]:
        """Imports, definitions and names of literals in its code cells, those of quizzes left out."""
        return [each.node for each in self._definitions]

    @cached_property
    def _definitions(self) -> list[Statement]:
        cells = [cell for cell in self.cells if cell.kind == "code" and not cell.quiz]
        found = [statement for cell in cells for statement, *_ in self.statements[cell.source.strip()]]
        return [statement for statement in found if statement.is_cheap]

    @cached_property
    def covered(self) -> set[str]:
        """Texts of those that are the only one for their names: they have run before any answer does."""
        times = Counter(name for statement in self._definitions for name in statement.binds)
        return {each.text for each in self._definitions if all(times[name] == 1 for name in each.binds)}

    @cached_property
    def statements(self) -> dict[str, list[tuple[Statement, str, bool]]]:
        """A code cell's source -> its statements, each with the quiz whose function it gives as `check` would, "" for
        none; and whether that is an answer cell."""
        stubs = {asked.quiz: asked.name for asked in self.asked if not asked.is_question}
        found = {}
        for cell in self.cells:
            if cell.kind == "code" and cell.code.tree is not None:
                asked = stubs.get(cell.quiz) if cell.role == "answer" else None
                found[cell.source.strip()] = [
                    (each, cell.quiz if asked in each.binds else self.quiz_of(each), cell.role == "answer")
                    for each in statements(cell.code.tree, cell.code.source)
                ]
        return found

    @cached_property
    def all_statements(self) -> list[tuple[Statement, str]]:
        """The statements of all code cells but the answers, in order, each with its quiz."""
        cells = [cell for cell in self.cells if cell.kind == "code" and cell.role != "answer"]
        return [each[:2] for cell in cells for each in self.statements.get(cell.source.strip(), ())]

    @cached_property
    def texts(self) -> set[str]:
        """The texts of all these statements."""
        return {statement.text for statement, _ in self.all_statements}

    def quiz_of(self, statement: Statement) -> str:
        """The quiz whose function a statement gives: as `f = check("id", f)`, or as its stub; "" for none."""
        quiz, name = checked(statement.node)
        return quiz if name and self.names.get(quiz) == name else self._stubs.get(statement.text, "")

    @cached_property
    def _stubs(self) -> dict[str, str]:
        found = {}
        for asked in self.asked:
            for each in statements(asked.stub.tree, asked.stub.source) if asked.stub.tree else ():
                if not asked.is_question and asked.name in each.binds:
                    found[each.text] = asked.quiz
        return found

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


def checked(node: ast.AST) -> tuple[str, str]:
    """Quiz id and name in `f = check("id", f)`, whatever it is that is checked; ("", "") in anything else."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        quiz, given = asked_in(node.value)
        return (quiz, node.targets[0].id) if given is not None else ("", "")
    return "", ""


def asked_in(node: ast.AST) -> tuple[str, ast.expr | None]:
    """Quiz id and answer in `check("id", answer)` or `ask("id", answer)`; ("", None) in anything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("check", "ask"):
        given = dict(zip(("id", "answer"), node.args)) | {word.arg: word.value for word in node.keywords}
        quiz, answer = given.get("id"), given.get("answer")
        if isinstance(quiz, ast.Constant) and isinstance(quiz.value, str) and answer is not None:
            return quiz.value, answer
    return "", None


def _is_empty(node: ast.stmt) -> bool:
    """Whether a definition is only a place for an answer: `pass`, `...`, or nothing but a docstring."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return isinstance(node.value, ast.Constant) and node.value.value in (None, Ellipsis)
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        return False
    return all(isinstance(each, ast.Pass) or _is_constant(each) or _is_reminder(each) for each in node.body)


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_reminder(node: ast.stmt) -> bool:
    error = node.exc if isinstance(node, ast.Raise) else None
    error = error.func if isinstance(error, ast.Call) else error
    return isinstance(error, ast.Name) and error.id == "NotImplementedError"


def _checked(cell: Cell) -> tuple[str, str]:
    """Quiz id and name in a check cell."""
    for node in ast.walk(cell.code.tree or ast.Module([], [])):
        quiz, answer = asked_in(node)
        if isinstance(answer, ast.Name):
            return quiz, answer.id
    raise ValueError(f'check cell of {cell.quiz}: expected f = check("{cell.quiz}", f) or ask("{cell.quiz}", name)')
