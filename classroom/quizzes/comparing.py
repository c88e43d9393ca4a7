"""Numbers compared entry by entry: how far an answer may be off, and where it is further.

NumPy in float64 on plain data, so that no object of a student's can claim to be right.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .declarations import Case, Quiz, Tolerance, leaves
from .raw import Array

TOLERANCES = {  # of float64 too what single precision allows: one constant that went through it is no mistake
    "float64": Tolerance(1e-4, 1e-5),
    "float32": Tolerance(1e-4, 1e-5),
    "float16": Tolerance(1e-2, 5e-3),
    "bfloat16": Tolerance(3e-2, 2e-2),
}
FLOOR = {"float64": 1e-6, "float32": 1e-6, "float16": 1e-3, "bfloat16": 1e-2}  # rounding about an expected 0


class Compared:
    """How numbers are compared in one case."""

    def __init__(self, quiz: Quiz, case: Case) -> None:
        self.quiz = quiz
        tensors = (leaf for leaf in leaves(tuple(case.args.values())) if isinstance(leaf, torch.Tensor))
        floats = [str(each.dtype).removeprefix("torch.") for each in tensors if each.is_floating_point()]
        # Python numbers carry no dtype: they are as exact as the least exact input they were made from.
        self.default = max(floats, key=lambda name: FLOOR.get(name, 0), default="float64")

    def allowed(self, expected: np.ndarray, dtype: str, looser: float = 1.0) -> np.ndarray:
        """Largest error that is still right, entry by entry."""
        tolerance, floor = self.quiz.tolerance, FLOOR.get(dtype, 1e-12)
        if tolerance is None:
            tolerance = TOLERANCES.get(dtype, TOLERANCES["float64"])
        elif isinstance(tolerance, Tolerance):
            floor = 0.0  # the quiz says itself what is rounding
        else:
            tolerance = Tolerance(float(tolerance), float(tolerance) / 10)
        size = np.abs(np.where(np.isfinite(expected), expected, 0))
        largest = size.max(initial=0.0)
        return np.asarray(looser * (tolerance.relative * size + tolerance.absolute * largest + floor))

    def wrong(self, got: Any, want: Any) -> np.ndarray:
        """Which entries of a tensor, or whether a number, are further off than allowed."""
        if type(want) in (int, bool):
            return np.array(got != want)
        one, other = as_numbers(got), as_numbers(want)
        if other.dtype.kind in "ib":
            return np.asarray(one != other)
        return differs(one, other, self.allowed(other, want.dtype if isinstance(want, Array) else self.default))


def as_numbers(value: Any) -> np.ndarray | None:
    """Raw data as an array of numbers, or None for text and None."""
    if isinstance(value, Array):
        return value.data
    if type(value) in (bool, int, float):
        return np.array(float(value))
    return None


def differs(got: np.ndarray, want: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Where two arrays differ by more than allowed; infinities and NaN must stand in the same places."""
    with np.errstate(invalid="ignore"):
        close = np.abs(got - want) <= allowed
    return np.asarray(~(close | (got == want) | (np.isnan(got) & np.isnan(want))))
