"""What a file of mutants may take from the declaration of a quiz: right and known wrong answers, by public name."""

from __future__ import annotations

import functools
import inspect
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


def in_other_forms(answer: Callable) -> dict[str, Callable]:
    """The same answer as it may come from a student who decorates it, makes an object of it, or names things her way.

    >>> sorted(in_other_forms(lambda x: 2 * x))
    ['an object', 'by name only', 'by position only', 'decorated', 'partial']
    """
    parameters = inspect.signature(answer).parameters.values()

    @functools.wraps(answer)
    def decorated(*args, **kwargs):
        return answer(*args, **kwargs)

    class Answer:
        def __call__(self, *args, **kwargs):
            return answer(*args, **kwargs)

    def by_position(*args):
        return answer(*args)

    def by_name(**kwargs):
        return answer(**kwargs)

    only = inspect.Parameter.POSITIONAL_ONLY
    renamed = [p.replace(name=f"parameter_{k}", kind=only) for k, p in enumerate(parameters)]
    by_position.__signature__ = inspect.Signature(renamed)
    by_name.__signature__ = inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters])
    return {
        "decorated": decorated,
        "an object": Answer(),
        "partial": functools.partial(answer),
        "by position only": by_position,
        "by name only": by_name,
    }


def kept(answer: Callable, key: Callable) -> Callable:
    """A wrong answer that keeps what it once gave, under a key that says too little: `key` of the arguments.

    >>> twice = kept(lambda x: 2 * x, key=lambda x: 0)
    >>> twice(1), twice(5)
    (2, 2)
    """
    seen: dict = {}
    return lambda *given: seen.setdefault(key(*given), answer(*given))


def with_first(answer: Callable, place: int, key: Callable) -> Callable:
    """A wrong answer that takes the first argument at a place for all later ones of the same key, of the arguments.

    >>> scaled = with_first(lambda x, factor: x * factor, place=1, key=lambda x, factor: 0)
    >>> scaled(1, 2), scaled(5, 3)
    (2, 10)
    """
    first: dict = {}

    def wrong(*given):
        values = list(given)
        values[place] = first.setdefault(key(*given), given[place])
        return answer(*values)

    return wrong


def with_first_schedule(answer: Callable, key: Callable) -> Callable:
    """The same with the noise schedule, wherever it stands; key: of it and all arguments."""
    first: dict = {}

    def wrong(*given):
        schedules = [each for each in given if hasattr(each, "alpha_bar")]
        kept = {id(each): first.setdefault(key(each, *given), each) for each in schedules}
        return answer(*(kept.get(id(each), each) for each in given))

    return wrong
