"""Does the library answer a quiz by another road? Try all its public functions, with whatever arguments are at hand.

What a quiz forbids is to follow from the quiz, not from somebody's memory of what else might reach the same formula.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import pkgutil
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import course_utils
from classroom.quizzes import Quiz
from classroom.quizzes.declarations import Case, dotted_name
from classroom.quizzes.forbidding import out_of_reach
from classroom.quizzes.judging import Expected
from classroom.quizzes.raw import Array
from classroom.quizzes.running import _inputs, run_case
from course_utils.diffusion import Schedule

NOT_SEARCHED = (
    *("cli", "plots", "explore", "data", "training", "recipes", "weights", "notebook", "device", "files"),
    "together",  # starts programs
    "pitfalls",  # wrong on purpose
)
MOST_CALLS = 4_000  # of one function on one case: more than the arguments at hand allow for all but a few


@dataclass(frozen=True)
class Road:
    """A way to the answer: a function of the library and, for each parameter, how its value is had from a case."""

    function: str
    arguments: tuple[str, ...]
    then: str

    def __str__(self) -> str:
        return f"{self.then}({self.function}({', '.join(self.arguments)}))"


def roads(quiz: Quiz, seed: int = 5) -> list[Road]:
    """Calls of public functions of the library, with what the quiz forbids out of reach, that give what it asks for.

    A quiz with several branches, told apart by a word among its arguments, is searched branch by branch.
    """
    if quiz.probe is not None:
        return []
    found = []
    for cases in _branches(quiz.draw_cases(seed)):
        expected = Expected(quiz, cases)
        if _is_handed_in(expected):
            continue
        with out_of_reach(quiz.forbidden):
            for name, function in functions():
                roads = _from_the_first(expected, name, function)
                found += itertools.islice((road for road in roads if _passes(road, expected)), 1)
    return found


def _branches(cases: Sequence[Case]) -> list[list[Case]]:
    found: dict[tuple, list[Case]] = {}
    for case in cases:
        if not case.device:
            found.setdefault(tuple(value for value in case.args.values() if type(value) is str), []).append(case)
    return list(found.values())


def _is_handed_in(expected: Expected) -> bool:
    """Whether the answer is one of the arguments: there is nothing to search for."""
    wanted = list(_leaves(expected.right[0].output))
    return any(_close(list(_leaves(value)), wanted) for value in _inputs(expected.cases[0])[0].values())


def _passes(road: Road, expected: Expected) -> bool:
    answer, cases = _answer(road, expected.cases[0]), list(enumerate(expected.cases))
    measured = ((index, expected.measure(index, run_case(answer, case, index))) for index, case in cases[::-1])
    return all(expected.finding(index, each) is None for index, each in measured)


@functools.cache
def functions() -> list[tuple[str, Callable]]:
    """Public functions and classes of the library by dotted name; methods take their object as the first argument."""
    found = {}
    for module in pkgutil.walk_packages(course_utils.__path__, "course_utils."):
        if module.name.split(".")[1] in NOT_SEARCHED or module.name.split(".")[-1].startswith("_"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or getattr(value, "__module__", "") != module.name:
                continue
            if isinstance(value, types.FunctionType):
                found[dotted_name(value)] = value
            elif inspect.isclass(value):
                found |= _methods(value)
    return sorted(found.items())


def _methods(kind: type) -> dict[str, Callable]:
    found = {}
    for name, value in vars(kind).items():
        plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if name.startswith("_") or not isinstance(plain, types.FunctionType | property):
            continue
        if isinstance(value, classmethod):
            found[dotted_name(plain)] = getattr(kind, name)
        else:
            found[dotted_name(plain)] = plain.fget if isinstance(plain, property) else plain
    return found


# ------------------------------------------------------------------------------------------------ arguments at hand


def at_hand(args: dict[str, Any]) -> dict[str, Any]:
    """Expression -> value: the quiz's arguments and what a student would make of them in a word or two."""
    found = dict(args)
    for name, value in args.items():
        if isinstance(value, torch.Tensor):
            if value.dtype == torch.bool:
                continue
            if value.is_floating_point():
                found[f"-{name}"] = -value
                found[f"{name}.exp()"], found[f"0*{name}"] = value.exp(), torch.zeros_like(value)
                if value.ndim == 1 and len(value) > 1 and float(value[0]) == 1:
                    found[f"Schedule({name})"] = _or_none(lambda value=value: Schedule(value))
                if value.ndim == 1 and len(value) > 1:
                    found[f"from_betas({name})"] = _or_none(lambda value=value: Schedule.from_betas(value))
            else:
                found[f"{name}-1"], found[f"0*{name}"] = value - 1, torch.zeros_like(value)
        elif type(value) is int:
            found[f"{name}-1"] = value - 1
            batch = next((len(x) for x in args.values() if isinstance(x, torch.Tensor) and x.ndim), 1)
            found[f"full({name})"] = torch.full((batch,), value)
    found |= {"0": 0, "1": 1, "0.0": 0.0, "1.0": 1.0, "'v'": "v", "'noise'": "noise", "'x0'": "x0"}
    for name, value in args.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 1:
            found[f"always {name}"] = _always(value)
    return {name: value for name, value in found.items() if value is not None}


def _always(value: torch.Tensor) -> Callable:
    """A network, or a denoiser, whose answer is known."""
    return lambda *args, **named: value


def _or_none(make: Callable) -> Any:
    try:
        return make()
    except (ValueError, TypeError, RuntimeError):
        return None


def _fits(parameter: inspect.Parameter, value: Any) -> bool:
    """Whether a value may be meant for a parameter, by what its annotation says in words."""
    said = str(parameter.annotation)
    if parameter.name == "self":
        return not isinstance(value, torch.Tensor | int | float | str)
    if isinstance(value, torch.Tensor):
        if "Int[" in said or said in ("Labels",):
            return not value.is_floating_point()
        return "Tensor" in said or "Float[" in said or parameter.annotation is inspect.Parameter.empty
    if isinstance(value, str):
        return "str" in said
    if isinstance(value, int | float):
        return any(word in said for word in ("int", "float")) and "Tensor" not in said
    if isinstance(value, Schedule):
        return "Schedule" in said
    if isinstance(value, torch.Generator):
        return "Generator" in said
    return "Callable" in said or "Module" in said or "Denois" in said or parameter.annotation is inspect.Parameter.empty


def _choices(function: Callable, values: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Expressions for a function's parameters; those with a default may be left out from the right."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(p.default is p.empty for p in plain)
    fitting = [[name for name, value in values.items() if _fits(p, value)] for p in plain]
    for count in range(needed, min(len(plain), needed + 2) + 1):
        yield from itertools.product(*fitting[:count])


# ------------------------------------------------------------------------------------------------------ what comes out


THEN: dict[str, Callable] = {
    "": lambda value: value,
    "-": lambda value: -value,
    "first of": lambda value: value[0],
    "second of": lambda value: value[1],
    "last of": lambda value: value[-1],
    "x of the last of": lambda value: value[-1].x,
    "sum of": lambda value: value.sum(),
    "mean of": lambda value: value.mean(),
}


def _called(function: Callable, arguments: Sequence[Any]) -> Any:
    value = function(*arguments)
    return list(itertools.islice(value, 50)) if isinstance(value, types.GeneratorType) else value


def _from_the_first(expected: Expected, name: str, function: Callable) -> Iterator[Road]:
    """Roads that give the right numbers on the first case."""
    case = expected.cases[0]
    values, wanted = at_hand(_inputs(case)[0]), list(_leaves(expected.right[0].output))
    for arguments in itertools.islice(_choices(function, values), MOST_CALLS):
        try:
            with torch.no_grad():
                value = _called(function, [values[each] for each in arguments])
        except BaseException:
            continue
        for then, make in THEN.items():
            try:
                same = _close(list(_leaves(make(value))), wanted)
            except (TypeError, IndexError, AttributeError, KeyError, RuntimeError, ValueError):
                continue
            if same:
                yield Road(name, arguments, then)


def _leaves(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, Array):
        yield value.data
    elif isinstance(value, torch.Tensor):
        yield value.detach().double().numpy() if value.is_floating_point() else value.numpy()
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _leaves(each)
    elif isinstance(value, int | float):
        yield np.array(float(value))


def _close(got: list[np.ndarray], want: list[np.ndarray]) -> bool:
    if not want or [each.shape for each in got] != [each.shape for each in want]:
        return False
    return all(np.allclose(one, other, rtol=1e-3, atol=1e-6, equal_nan=True) for one, other in zip(got, want))


def _answer(road: Road, like: Case) -> Callable:
    names = list(like.args)
    function = dict(functions())[road.function]

    def answer(*given: Any) -> Any:
        values = at_hand(dict(zip(names, given)))
        return THEN[road.then](_called(function, [values[each] for each in road.arguments]))

    return answer
