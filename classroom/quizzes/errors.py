"""How numbers are off, in a teacher's words: a rule is claimed only where it holds for all that is wrong.

What is said comes in two parts: one that gives away nothing of the right numbers, fit for feedback of a grading, and
one with the numbers, for the notebook.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from .declarations import Case

NEARLY = 1e-3  # of the largest number: no slip of a formula is so small
LARGEST_SIMPLE = 16  # a factor of 2, -3 or 1/4 is a slip of the pen; one of 1/839.7 is a right number in disguise


def describe_error(got: np.ndarray, want: np.ndarray, wrong: np.ndarray) -> tuple[str, str, str]:
    """How numbers are off, in a teacher's words.

    got, want: numbers of the same shape;  wrong: where they differ by more than allowed.
    Returns what is wrong, without a number of theirs; the numbers behind it; the entry furthest off, if there are more.

    >>> describe_error(np.array([2.0, 4.0]), np.array([1.0, 2.0]), np.array([True, True]))
    ('every entry is 2 times what it should be', '', 'Furthest off is entry [1]: expected 2, got 4.')
    >>> describe_error(np.array(-3.0), np.array(3.0), np.array(True))
    ('the sign is wrong', 'expected 3, got -3', '')
    """
    got, want, wrong = np.atleast_1d(got), np.atleast_1d(want), np.atleast_1d(wrong)
    if {got.dtype.kind, want.dtype.kind} & set("cb"):
        return f"{_who(int(wrong.sum()), wrong.size)} wrong", "", ""
    got, want = got.astype(float), want.astype(float)
    with np.errstate(all="ignore"):
        what, numbers = _pattern(got[wrong], want[wrong], wrong.size)
        what = what or _direction(got[wrong], want[wrong], wrong.size)
        error = np.where(wrong, np.abs(got - want), 0)
    worst = np.unravel_index(np.argmax(np.nan_to_num(error, nan=np.inf)), error.shape)
    example = "expected {}, got {}".format(*_told_apart(want[worst], got[worst]))
    if wrong.size == 1:
        return what, example, ""
    return what, numbers, f"Furthest off is entry [{', '.join(str(int(i)) for i in worst)}]: {example}."


def _who(wrong: int, entries: int) -> str:
    if entries == 1:
        return "it is"
    return "every entry is" if wrong == entries else f"{wrong} of {entries} entries {'is' if wrong == 1 else 'are'}"


def _ought(who: str) -> str:
    return "what they should be" if who.endswith(" are") else "what it should be"


def _direction(got: np.ndarray, want: np.ndarray, entries: int) -> str:
    above, below = bool((got > want).all()), bool((got < want).all())
    how = "too large" if above else "too small" if below else "wrong" if got.size == 1 else ""
    if entries == 1:
        return how
    return f"{_who(got.size, entries)} {how or 'wrong, some too large, some too small'}"


def _pattern(got: np.ndarray, want: np.ndarray, entries: int) -> tuple[str, str]:
    """A rule by which the wrong entries, all of them, are off, if there is a simple one; and its numbers.

    got, want: the wrong ones, one after another;  entries: how many there are in all.
    """
    if not (np.isfinite(got).all() and np.isfinite(want).all()):
        return "", ""
    who, several = _who(got.size, entries), got.size > 1 and np.ptp(want) > 0

    def close(one: np.ndarray, other: np.ndarray) -> bool:
        return bool(np.allclose(one, other, rtol=1e-4, atol=1e-6 * np.abs(other).max()))

    if not np.any(got) and np.any(want) and (got.size > 1 or entries == 1):
        return ("it is 0 everywhere" if got.size == entries > 1 else f"{who} 0"), ""
    if close(got, -want):
        if got.size == entries:
            return "the sign is wrong" if entries == 1 else "the sign of every entry is wrong", ""
        return f"{who} of the wrong sign", ""
    shift, large = float(np.mean(got - want)), np.abs(want).max()
    # Sums about -250 in single precision carry errors of 1e-5: these must not hide what was added.
    even = np.ptp(got - want) <= 1e-5 * np.abs(got - want).max() + 3e-7 * large
    if several and abs(shift) > 1e-4 * large and even:
        return f"{who} too {'large' if shift > 0 else 'small'} by the same amount", show(abs(shift))
    by, off = factor(got, want), float(np.max(np.abs(got - want)) / large) if large else math.inf
    if off < NEARLY:
        return f"{who} nearly right: is something rounded, or missing a digit?", f"off by up to {off:.0e} of its size"
    if by is not None and _is_simple(by) and (several or entries == 1):
        return f"{who} {_times(by)} {_ought(who)}", ""
    if by is not None and several:
        return f"{who} off by the same factor", f"{_times(by)} {_ought(who)}"
    return (_other_rule(got, want, who, close) if several else ""), ""


def _other_rule(got: np.ndarray, want: np.ndarray, who: str, close: Callable) -> str:
    if (want > 0).all():
        if close(got, want**2):
            return f"{who} the square of {_ought(who)}"
        if close(got, np.sqrt(want)):
            return f"{who} the square root of {_ought(who)}"
    if (got > 0).all() and close(np.log(got), want):
        return f"{who} the exponential of {_ought(who)}"
    if close(np.sort(got), np.sort(want)):
        return "the numbers are right, but they stand in the wrong places"
    return ""


def _is_simple(by: float) -> bool:
    """Whether a factor is so simple that it says nothing about the numbers: 2, -3, 1/4."""
    return any(1.5 < abs(f) <= LARGEST_SIMPLE and abs(f - round(f)) < 1e-3 * abs(f) for f in (by, 1 / by))


def _times(by: float) -> str:
    """A factor in words.

    >>> _times(2.0), _times(1 / 3), _times(-0.25), _times(0.7)
    ('2 times', '1/3 of', '-1/4 of', '0.7 times')
    """
    one_over = 1 / by
    if math.isfinite(one_over) and abs(one_over) > 1.5 and abs(one_over - round(one_over)) < 1e-3 * abs(one_over):
        return f"{'-' if by < 0 else ''}1/{abs(round(one_over))} of"
    return f"{show(by)} times"


def factor(got: np.ndarray, want: np.ndarray) -> float | None:
    """c if got = c · want throughout, else None."""
    scale = float(np.sum(want * want))
    if (
        scale == 0
        or not np.isfinite(scale)
        or not np.isfinite(got).all()
        or (want.size > 1 and np.ptp(want) == 0 and np.ptp(got) > 0)
    ):
        return None
    by = float(np.sum(got * want) / scale)
    fits = np.allclose(got, by * want, rtol=1e-4, atol=1e-5 * float(np.abs(got).max()))
    return by if fits and by != 0 else None


def what_factors_count(cases: Sequence[Case], factors: Sequence[float]) -> tuple[tuple[str, ...], str]:
    """Advice if the factors by which cases are off are the length of an axis, or the number of entries, of an input.

    Returns it, () if they count nothing, and what was counted.
    """
    for name, value in cases[0].args.items():
        tensors = [case.args.get(name) for case in cases]
        if not isinstance(value, torch.Tensor) or not all(isinstance(t, torch.Tensor) for t in tensors):
            continue
        sizes = [tuple(t.shape) for t in tensors]
        for what, count in _candidates(name, min(map(len, sizes))):
            counts = np.array([count(size) for size in sizes], dtype=float)
            if len(set(counts)) < 2:  # that may be chance
                continue
            seen = f"From case to case {what} is {', '.join(map(show, counts[:4]))}."
            if np.allclose(factors, counts, rtol=1e-3):
                return (f"The factor is {what}: a sum where a mean belongs?",), seen
            if np.allclose(factors, 1 / counts, rtol=1e-3):
                return (f"The factor is one over {what}: a mean where a sum belongs?",), seen
    return (), ""


def _candidates(name: str, dimensions: int) -> list[tuple[str, Callable[[tuple[int, ...]], int]]]:
    axes = [(f"the length of axis {i} of {name}", lambda size, i=i: size[i]) for i in range(dimensions)]
    every = (f"the number of entries of {name}", math.prod)
    return [*axes, every, (f"the number of entries of one item of {name}", lambda size: math.prod(size[1:]))]


def show(number: float) -> str:
    """Up to four figures, whole numbers as such.

    >>> show(784.0), show(-0.25), show(1234567.0), show(0.1234567)
    ('784', '-0.25', '1234567', '0.1235')
    """
    number = float(number)
    if math.isfinite(number) and number == round(number) and abs(number) < 1e9:
        return str(round(number))
    return f"{number:.4g}"


def _told_apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers in as many figures as it takes to see that they differ.

    >>> _told_apart(0.5, 0.25), _told_apart(38.2400001, 38.2400002)
    (('0.5', '0.25'), ('38.2400001', '38.2400002'))
    """
    shown = show(one), show(other)
    for digits in range(5, 18):
        if shown[0] != shown[1]:
            break
        shown = f"{float(one):.{digits}g}", f"{float(other):.{digits}g}"
    return shown
