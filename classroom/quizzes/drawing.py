"""For quizzes whose answers draw at random: many draws side by side, and what is true of them on every seed.

`repeated` runs beside the answer and judges nothing. The rest runs where the judge does, on raw data. A statistic is a
mean over calls, and it fits if it is within six standard errors of what it should be: by chance alone one in a hundred
million isn't. The error is the one between calls where that is larger, so that a batch whose parts hang together, which
is a fault of its own, isn't taken for a wrong share or a wrong variance as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import torch

from .declarations import Unfit
from .raw import Array

SIGMAS = 6
AGAIN = 20  # calls from one state of the generator, twice


def repeated(draw: Callable, given: torch.Tensor, generator: torch.Generator, calls: int) -> dict | None:
    """What so many calls gave, tensors one above the other: {"many": …}; where they differ in form, one: {"one": …}.

    Behind them come AGAIN more, and as many again with the generator in the state in which it was before these. The
    first call gets `given` itself, where a change would be seen, the others copies. On a device without numbers few
    calls say it all.
    """
    copy, calls, again = given.clone(), *((1, 1) if given.is_meta else (calls, AGAIN))
    drawn = [draw(given)]
    if drawn[0] is None or _form(drawn[0]) is None:
        return None if drawn[0] is None else {"one": drawn[0]}
    drawn += [draw(copy.clone()) for _ in range(calls - 1)]
    state = generator.get_state()
    for _ in range(2):
        generator.set_state(state)
        drawn += [draw(copy.clone()) for _ in range(again)]
    for each in drawn:
        if _form(each) != _form(drawn[0]):
            return {"one": each}
    if isinstance(drawn[0], torch.Tensor):
        return {"many": torch.stack(drawn)}
    return {"many": tuple(map(torch.stack, zip(*drawn)))}


def _form(value: Any) -> Any:
    """Shapes, types and devices of a tensor, or of some in a tuple or list; None for anything else."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.dtype, value.device
    if type(value) not in (tuple, list) or not all(isinstance(each, torch.Tensor) for each in value):
        return None
    return [_form(each) for each in value]


def drawn(
    raw: Any, like: dict[str, tuple[tuple[int, ...], tuple[str, ...]]], calls: int
) -> list[tuple[np.ndarray, bool]]:
    """The numbers that `repeated` gave, (calls, ...) each, and whether they come from the generator.

    like: what one call should give, name -> shape and dtypes, in order.  Raises Unfit where it gives something else.
    """
    many = type(raw) is dict and list(raw) == ["many"]
    parts = next(iter(raw.values())) if type(raw) is dict and raw else raw
    parts = list(parts) if type(parts) in (tuple, list) else [parts]
    if len(parts) != len(like):
        expected = "one tensor" if len(like) == 1 else f"{len(like)} tensors, {', '.join(like)}"
        got = f"{len(parts)} values" if len(parts) != 1 else _in_words(parts[0], many)
        raise Unfit(f"expected {expected}, got {got}")
    for place, (name, (shape, dtypes)) in reversed(list(enumerate(like.items()))):  # what is made of them comes first
        part, lead = parts[place], (calls + 2 * AGAIN,) if many else ()
        if not isinstance(part, Array) or part.dtype not in dtypes or part.shape != lead + shape:
            where = f"{name}, number {place + 1} of {len(like)}" if len(like) > 1 else name
            raise Unfit(f"{where}: expected {dtypes[0]} of shape {shape}, got {_in_words(part, many)}")
        if part.data is not None and (part.data.dtype.kind not in "if" or not np.isfinite(part.data).all()):
            raise Unfit(f"{name}: not all of it is finite")
    if not many or any(part.data is None for part in parts):
        raise Unfit("expected tensors of the same shapes and types from every call")
    found = [np.split(part.data, [calls, calls + AGAIN]) for part in parts]
    return [(numbers, bool((once == again).all())) for numbers, once, again in found]


def _in_words(part: Any, many: bool) -> str:
    if isinstance(part, Array):
        return f"{part.dtype} of shape {part.shape[1:] if many else part.shape}"
    if type(part) in (tuple, list, dict):
        return f"a {type(part).__name__} of {len(part)}"
    names = {bool: "True or False", int: "a whole number (int)", float: "a number (float)", str: "text"}
    return names.get(type(part), "None" if part is None else "something else")


# ----------------------------------------------------------------------------------------------------------- statistics


def off(values: np.ndarray, mean: float | int, variance: float | int) -> float:
    """By how many standard errors the mean of values is too large. values: (calls, ...), each number of this variance.

    >>> round(off(np.tile([0.0, 1.0], (50, 1)), 0.4, 0.24), 2)
    2.04
    """
    each = values.reshape(len(values), -1).mean(1)
    error = max(math.sqrt(variance / values.size), each.std() / math.sqrt(len(each)))
    distance = float(each.mean()) - mean
    if error == 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return float(distance / error)


def fits(values: np.ndarray, mean: float | int, variance: float | int) -> bool:
    """Whether the mean of values is what it should be."""
    return bool(abs(off(values, mean, variance)) < SIGMAS)


def as_often(hits: np.ndarray, share: float) -> bool:
    """Whether this share of hits, (calls, ...) booleans, are true."""
    return fits(hits.astype(float), share, share * (1 - share))


def too_few_values(values: np.ndarray, most: int) -> bool:
    """Whether so many values of `most` that are equally likely never come that it is no chance. values: (calls, n).

    Where calls deal their values out evenly, n of them are missing together.
    """
    missing = most * math.exp(-values.size / most)
    return most - len(np.unique(values)) > missing + SIGMAS * math.sqrt(missing * values.shape[1])


def uncorrelated(values: np.ndarray) -> bool:
    """Whether no two rows of values, (calls, rows, n), hang together."""
    values = standardised(values)
    calls, rows, n = values.shape
    products = np.einsum("cin,cjn->cij", values, values) / n
    error = np.maximum(products.std(0) / math.sqrt(calls), 1 / math.sqrt(calls * n))
    return bool((np.abs(products.mean(0)) < SIGMAS * error)[~np.eye(rows, dtype=bool)].all())


def from_call_to_call(values: np.ndarray) -> bool:
    """Whether what a call gives, (calls, n), has nothing to do with what the three before it gave, nor is the same."""
    if len(np.unique(values, axis=0)) == 1:
        return False
    centred = values - values.mean(0)
    by_chance = -float((centred**2).mean()) / len(values)  # for the mean that was taken off has a share of every call
    return all(fits(centred[lag:] * centred[:-lag], by_chance, 0) for lag in (1, 2, 3))


def standardised(values: np.ndarray) -> np.ndarray:
    """With mean 0 and variance 1 over all of them."""
    return (values - values.mean()) / (values.std() or 1.0)


def looks_normal(z: np.ndarray) -> bool:
    """Whether numbers of mean 0 and variance 1, (calls, ...), are normally distributed.

    Tenths by number, fourth moment, and the 60 largest: a cut where less than one number in 1,500 lies beyond is seen.
    """
    tenths = np.searchsorted([NormalDist().inv_cdf(k / 10) for k in range(1, 10)], z)
    far = NormalDist().inv_cdf(1 - 30 / z.size)
    even = all(as_often(tenths == k, 0.1) for k in range(10))
    return even and fits(z**4, 3, 96) and as_often(np.abs(z) > far, 60 / z.size)
