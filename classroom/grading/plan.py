"""What grading needs to know, made once from the instructor's own notebooks and the declarations of the quizzes."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..quizzes import Concept, Quiz, declarations
from ..quizzes.judging import Expected
from ..quizzes.running import Result, run_case
from ..quizzes.wire import as_reported, plant, request_wire, results_from_wire
from . import sources
from .course import NOTEBOOKS, handed_out
from .handed_in.handed_out import HandedOut
from .handed_in.python import Code


@dataclass(frozen=True, eq=False)
class Task:
    """A quiz of a notebook: as declared, and what the notebook asks for.

    name: of the function, class or variable;  stub: the answer cell as handed out.
    """

    quiz: Quiz | Concept
    name: str
    stub: Code


@dataclass(frozen=True, eq=False)
class Plan:
    """One notebook as the instructor handed it out, and its quizzes in the notebook's order."""

    handed_out: HandedOut
    tasks: tuple[Task, ...]

    @property
    def stem(self) -> str:
        """ "03_forward_diffusion"."""
        return self.handed_out.stem

    @property
    def number(self) -> str:
        """ "03"."""
        return self.stem[:2]

    @property
    def names(self) -> dict[str, str]:
        """Quiz id -> name asked for."""
        return self.handed_out.names

    def out_of(self) -> int:
        """Points that the notebook is worth."""
        return sum(task.quiz.points for task in self.tasks)


@functools.cache
def plans(folder: Path = NOTEBOOKS) -> dict[str, Plan]:
    """Notebook number -> plan, from the student notebooks in `folder`.  ValueError if there are none."""
    return {number: _plan(notebook) for number, notebook in handed_out(folder).items()}


def _plan(notebook: HandedOut) -> Plan:
    return Plan(notebook, tuple(Task(declarations.get(asked.quiz), asked.name, asked.stub) for asked in notebook.asked))


def seed_of(seed: int, quiz: str) -> int:
    """The seed of a quiz's inputs in a grading whose seed is `seed`: the same for all students."""
    return int.from_bytes(hashlib.sha256(f"{seed} {quiz}".encode()).digest()[:6], "big")


@functools.lru_cache(maxsize=256)
def expected(task: Task, seed: int) -> Expected:
    """A quiz's fresh inputs, and what its reference makes of them."""
    return Expected(task.quiz, task.quiz.draw_cases(seed_of(seed, task.quiz.id)))


@functools.lru_cache(maxsize=256)
def requests(task: Task, seed: int) -> tuple[bytes, ...]:
    """The inputs as the sandbox gets them, one piece a case; somewhere among them the planted one."""
    probe, cases = declarations.probe_name(task.quiz.id) if task.quiz.probe else None, expected(task, seed).cases
    wires = [request_wire(case, index, probe) for index, case in enumerate(cases)]
    wires.insert(_planted_at(task, seed), request_wire(cases[0], len(cases), probe, planted=True))
    return tuple(wires)


def _planted_at(task: Task, seed: int) -> int:
    return seed_of(seed, f"planted in {task.quiz.id}") % (len(expected(task, seed).cases) + 1)


@functools.lru_cache(maxsize=256)
def _planted(task: Task, seed: int) -> bytes:
    """What there is to report of the planted answer."""
    cases = expected(task, seed).cases
    return as_reported(run_case(plant, cases[0], len(cases), task.quiz.probe))


def answered(task: Task, seed: int, pieces: Sequence[bytes]) -> list[Result]:
    """The results of the cases, from what came back on `requests`.

    Raises ValueError where that is damaged, or reports of the planted one what isn't so.
    """
    results = results_from_wire(pieces, len(expected(task, seed).cases) + 1)
    if as_reported(results.pop(_planted_at(task, seed))) != _planted(task, seed):
        raise ValueError("expected true results, got others")
    return results


@functools.cache
def supplied(plan: Plan, asked: Task) -> dict[str, str]:
    """name -> source that binds it, for the functions of the notebook's *other* quizzes, as `check` would give them.

    Those that are made of what would answer this quiz are left out.
    """
    found = {}
    for task in plan.tasks:
        quiz = task.quiz
        if isinstance(quiz, Concept) or task.name == asked.name or quiz.reference is asked.quiz.reference:
            continue
        if quiz.id in asked.quiz.answered_by:
            continue
        if not _is_made_of(task, asked.quiz):
            found[task.name] = _source_that_binds(task)
    return found


def _is_made_of(task: Task, quiz: Quiz) -> bool:
    """Whether its reference uses the quiz's, or what is forbidden while that is answered."""
    answers = (declarations.dotted_name(quiz.reference), *quiz.forbidden)
    return any(_may_be(node, dotted) for node in _used(task) for dotted in answers)


@functools.cache
def _used(task: Task) -> list[ast.Name | ast.Attribute]:
    nodes = ast.walk(ast.parse(_source_that_binds(task)))
    return [node for node in nodes if isinstance(node, ast.Name | ast.Attribute)]


def _may_be(node: ast.Name | ast.Attribute, dotted: str) -> bool:
    """Whether an expression may be what a dotted name says: `f`, `module.f`, `Class.f`, or `thing.f` of some object."""
    *_, owner, name = dotted.split(".")
    if isinstance(node, ast.Name):
        return node.id == name and not owner[0].isupper()  # a method is never met by its name alone
    before = getattr(node.value, "attr", getattr(node.value, "id", ""))
    return node.attr == name and (before == owner or not before[:1].isupper())


@functools.cache
def _source_that_binds(task: Task) -> str:
    reference, name = task.quiz.reference, task.name
    if declarations.is_librarys(reference):
        return f"import {reference.__module__}\n{name} = {declarations.dotted_name(reference)}\n"
    module = inspect.getmodule(reference)
    return sources.binding(inspect.getsource(module), reference.__name__, name, module.__package__)
