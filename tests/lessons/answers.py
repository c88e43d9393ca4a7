"""What a file of mutants may take from the declaration of a quiz: right and known wrong answers, by public name."""

from __future__ import annotations

from collections.abc import Callable

from classroom.quizzes import declarations


def right(id: str) -> Callable:
    """The right answer to a quiz: its reference.

    >>> right("forward/add-noise").__name__.strip("_")
    'add_noise'
    """
    return declarations.get(id).reference


def slip(id: str, name: str) -> Callable:
    """A known wrong answer to a quiz, by its misconception's name; ValueError if there is none of that name."""
    known = {misconception.name: misconception.wrong for misconception in declarations.get(id).misconceptions}
    if name not in known:
        raise ValueError(f"quiz {id}: expected a misconception among {', '.join(known)}, got {name!r}")
    return known[name]
