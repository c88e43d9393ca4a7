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
from ..quizzes.running import request_wire
from . import sources
from .handed_in.handed_out import HandedOut
from .handed_in.python import Code

NOTEBOOKS = sources.ROOT / "notebooks"  # the instructor's own


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
    """One notebook as the instructor handed it out.

    path: of the student notebook, stubs in its answer cells;  tasks: its quizzes, in the notebook's order;
    prelude: source that runs before any answer.
    """

    path: Path
    handed_out: HandedOut
    tasks: tuple[Task, ...]
    prelude: str

    @property
    def stem(self) -> str:
        """ "03_forward_diffusion"."""
        return self.path.stem

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
def plans(folder: Path) -> dict[str, Plan]:
    """Notebook number -> plan, from the student notebooks in `folder`.  ValueError if there are none."""
    found = [_plan(path) for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))]
    if not found:
        raise ValueError(f"expected the course's student notebooks in {folder.name}/, found none: run it from a clone")
    return {plan.number: plan for plan in found}


def _plan(path: Path) -> Plan:
    handed_out = HandedOut.load(path)
    tasks = tuple(Task(declarations.get(asked.quiz), asked.name, asked.stub) for asked in handed_out.asked)
    return Plan(path, handed_out, tasks, sources.prelude(handed_out.definitions()))


@functools.cache
def library() -> dict[str, str]:
    """Module name -> source of what students' code may import of the course."""
    quizzes = declarations.registered().items()
    return sources.library({id: quiz.probe.__name__ for id, quiz in quizzes if isinstance(quiz, Quiz) and quiz.probe})


def seed_of(seed: int, quiz: str) -> int:
    """The seed of a quiz's inputs in a grading whose seed is `seed`: the same for all students."""
    return int.from_bytes(hashlib.sha256(f"{seed} {quiz}".encode()).digest()[:6], "big")


@functools.lru_cache(maxsize=256)
def expected(task: Task, seed: int) -> Expected:
    """A quiz's fresh inputs, and what its reference makes of them."""
    return Expected(task.quiz, task.quiz.draw_cases(seed_of(seed, task.quiz.id)))


@functools.lru_cache(maxsize=256)
def request(task: Task, seed: int) -> bytes:
    """The inputs as the sandbox gets them."""
    probe = declarations.probe_name(task.quiz.id) if task.quiz.probe else None
    return request_wire(expected(task, seed).cases, probe)


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
        source = _source_that_binds(quiz, task.name)
        if not _is_made_of(source, asked.quiz):
            found[task.name] = source
    return found


def _is_made_of(source: str, quiz: Quiz) -> bool:
    """Whether the source uses the quiz's reference, or what is forbidden while it is answered."""
    used = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name | ast.Attribute)]
    answers = (declarations.dotted_name(quiz.reference), *quiz.forbidden)
    return any(_may_be(node, dotted) for node in used for dotted in answers)


def _may_be(node: ast.Name | ast.Attribute, dotted: str) -> bool:
    """Whether an expression may be what a dotted name says: `f`, `module.f`, `Class.f`, or `thing.f` of some object."""
    *_, owner, name = dotted.split(".")
    if isinstance(node, ast.Name):
        return node.id == name and not owner[0].isupper()  # a method is never met by its name alone
    before = getattr(node.value, "attr", getattr(node.value, "id", ""))
    return node.attr == name and (before == owner or not before[:1].isupper())


def _source_that_binds(quiz: Quiz, name: str) -> str:
    reference = quiz.reference
    if declarations.is_librarys(reference):
        return f"import {reference.__module__}\n{name} = {declarations.dotted_name(reference)}\n"
    module = inspect.getmodule(reference)
    return sources.binding(inspect.getsource(module), reference.__name__, name, module.__package__)


def fingerprint(chosen: Sequence[Plan]) -> str:
    """Changes when a notebook, a quiz or the library does: what was graded before is then graded again."""
    digest = hashlib.sha256()
    for path in sorted([*(sources.ROOT / "course_utils").rglob("*.py"), *(sources.ROOT / "classroom").rglob("*.py")]):
        digest.update(path.read_bytes())
    for plan in chosen:
        digest.update(plan.path.read_bytes())
    return digest.hexdigest()[:16]
