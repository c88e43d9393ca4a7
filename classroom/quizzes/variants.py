"""Concept questions whose options stand in another order for every student.

An order is a word like "cadb": what the student sees as a is the declaration's c. It follows from a seed, the student's
name and the question's id, so that a grader works it out again and never has to believe what a submission says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .declarations import Concept, registered


def order_for(student: str, concept: Concept, seed: int = 0) -> str:
    """The order in which this student sees the options: the declaration's letters, as they stand from top to bottom.

    The same on every machine and in every version of Python; all orders are equally likely.
    """

    def rank(letter: str) -> bytes:
        return hashlib.sha256("\0".join((str(seed), student, concept.id, letter)).encode()).digest()

    return "".join(sorted(concept.options, key=rank))


def original_letter(letter: str, order: str) -> str:
    """The declaration's letter for one that a student gave; anything that is no letter of this order comes back as is.

    >>> original_letter("a", "cadb"), original_letter("x", "cadb"), original_letter("x", "")
    ('c', 'x', 'x')
    """
    shown = "abcdef"[: len(order)]
    return order[shown.index(letter)] if len(letter) == 1 and letter in shown else letter


def reordered(concept: Concept, order: Any) -> Concept:
    """The same question with its options in this order, named a, b, c … anew.

    Raises ValueError, in one line, if `order` isn't made of the question's letters, each once.
    """
    letters = list(concept.options)
    if type(order) is not str or sorted(order) != letters:
        got = repr(order[:20]) if type(order) is str else f"something of type {type(order).__name__}"
        raise ValueError(f"expected order= as the letters {''.join(letters)}, each once, got {got}")
    return dataclasses.replace(concept, options={new: concept.options[old] for new, old in zip(letters, order)})


@dataclass(frozen=True)
class Variants:
    """Who was handed out an order of their own: the seed, and the names. `release` keeps it in `variants.json`."""

    seed: int
    students: tuple[str, ...]

    def orders(self) -> dict[str, dict[str, str]]:
        """student -> question's id -> the order that this student was shown, for every question of the course."""
        concepts = [quiz for quiz in registered().values() if isinstance(quiz, Concept)]
        return {name: {c.id: order_for(name, c, self.seed) for c in concepts} for name in self.students}


def write_variants(seed: int, students: Iterable[str]) -> bytes:
    """Content of `variants.json`."""
    return (json.dumps({"seed": seed, "students": list(students)}, indent=1, ensure_ascii=False) + "\n").encode()


def read_variants(content: bytes) -> Variants:
    """What `write_variants` wrote.  Raises ValueError, in one line, for anything else."""
    try:
        found = json.loads(content)
        seed, students = found["seed"], found["students"]
        if type(seed) is int and type(students) is list and all(type(name) is str for name in students):
            return Variants(seed, tuple(students))
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError('expected variants.json as `release --seed-per-student` wrote it: {"seed": 0, "students": […]}')
