"""The judge's side of a quiz: compare what came out with what the reference gives. It never touches the answer's code.

`judge` goes through the stages that a teacher would, and stops at the first that fails in any case:
not attempted, raised, type, structure, shape, dtype, device, nan, detached, value, gradient, in place, passed.
All comparing is done by NumPy in float64 on plain data, so that no object of a student's can claim to be right.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .declarations import Case, Fixture, Misconception, Quiz, Tolerance
from .running import NOT_ATTEMPTED, RAISED, RETURNED, Array, Result, Unsupported, run

STAGES = (
    "not attempted",
    "raised",
    "type",
    "structure",
    "shape",
    "dtype",
    "device",
    "nan",
    "detached",
    "value",
    "gradient",
    "in place",
    "passed",
)

TOLERANCES = {
    "float64": Tolerance(1e-7, 1e-9),
    "float32": Tolerance(1e-4, 1e-5),
    "float16": Tolerance(1e-2, 5e-3),
    "bfloat16": Tolerance(3e-2, 2e-2),
}
FLOOR = {"float64": 1e-12, "float32": 1e-6, "float16": 1e-3, "bfloat16": 1e-2}  # rounding about an expected 0


@dataclass(frozen=True)
class Verdict:
    """What the judge found: the stage reached, in one line what is wrong, advice, and where it was seen.

    finding: without the values that were compared;  numbers: these, "expected 3, got 2", "" if it isn't about any;
    details: advice;  evidence: where it was seen, and with which numbers;
    misconception: name of the known wrong answer that gives the same numbers, "" if none;
    case: index of the first case that shows it, None if it isn't about one.
    """

    quiz: str
    stage: str
    finding: str
    details: tuple[str, ...] = ()
    evidence: str = ""
    misconception: str = ""
    case: int | None = None
    numbers: str = ""

    @property
    def passed(self) -> bool:
        return self.stage == "passed"

    @property
    def headline(self) -> str:
        """Finding and numbers, for those who may see both."""
        return ": ".join(filter(None, (self.finding, self.numbers)))


@dataclass(frozen=True)
class _Finding:
    """One thing that is wrong in one case: what, what may help, the entry that shows it best, the numbers compared."""

    stage: str
    what: str
    details: tuple[str, ...] = ()
    evidence: str = ""
    numbers: str = ""


class Expected:
    """What the reference gives on some cases and, once they are asked for, what the known misconceptions give.

    Worth keeping where many answers meet the same cases.  Raises ValueError if the reference fails on one of them.
    """

    def __init__(self, quiz: Quiz, cases: Sequence[Case]) -> None:
        self.quiz, self.cases = quiz, list(cases)
        self.right = run(quiz.reference, cases, quiz.probe)
        _check_reference(quiz, cases, self.right)
        self.rules = [_Compared(quiz, case) for case in cases]

    def findings(self, results: Sequence[Result]) -> list[_Finding | None]:
        """The first thing that is wrong in each case."""
        return [_first_finding(*each) for each in zip(self.rules, results, self.right)]

    @functools.cached_property
    def misconceptions(self) -> list[tuple[Misconception, list[Result]]]:
        """Misconceptions that run on these cases and can be told from the reference by them, with their results."""
        found = []
        for misconception in self.quiz.misconceptions:
            results = run(misconception.wrong, self.cases, self.quiz.probe)
            if all(result.status == RETURNED for result in results) and any(self.findings(results)):
                found.append((misconception, results))
        return found


def judge(quiz: Quiz, cases: Sequence[Case], results: Sequence[Result], expected: Expected | None = None) -> Verdict:
    """Compare the results of an answer with those of the quiz's reference on the same cases.

    results: from `run`, one a case, possibly from another process;  expected: `Expected(quiz, cases)` if at hand.
    Raises ValueError if the number of results is not that of the cases.
    """
    if len(results) != len(cases):
        raise ValueError(f"expected {len(cases)} results, one for each case, got {len(results)}")
    if results and all(result.status == NOT_ATTEMPTED for result in results):
        return _not_attempted(quiz, results[0])
    expected = expected or Expected(quiz, cases)
    found = expected.findings(results)
    failing = [(STAGES.index(finding.stage), index) for index, finding in enumerate(found) if finding]
    if not failing:
        return Verdict(quiz.id, "passed", f"all {len(cases)} cases agree with the reference")
    _, index = min(failing)
    finding = found[index]
    evidence = f"Seen in case {index + 1} of {len(cases)} ({cases[index].describe()}). {finding.evidence}".strip()
    details, name = finding.details, ""
    if finding.stage in ("value", "gradient"):
        details += _factor_that_counts(expected, results, found)
        evidence += _how_many(len(cases), len(failing))
    known = _known_misconception(expected, results, finding.stage)
    if known:
        details, name = (known.message,), known.name
    return Verdict(quiz.id, finding.stage, finding.what, details, evidence, name, index, finding.numbers)


def _not_attempted(quiz: Quiz, result: Result) -> Verdict:
    if result.trouble is not None:
        detail = "Write your answer in the cell above, run it, then run this one."
        return Verdict(quiz.id, "not attempted", "", (detail,))
    detail = "If you have written it: is there a `return` on its last line?"
    return Verdict(quiz.id, "not attempted", "it returned nothing", (detail,))


def _check_reference(quiz: Quiz, cases: Sequence[Case], right: Sequence[Result]) -> None:
    for case, result in zip(cases, right):
        trouble = result.trouble or result.gradient_trouble
        if trouble or result.status != "returned":
            reason = f"{trouble.kind}: {trouble.message}" if trouble else "it returned nothing"
            raise ValueError(f"quiz {quiz.id}: the reference fails on its own case ({case.describe()}): {reason}")
        pairs: list = []
        _structure(result.output, result.output, "", pairs)
        for path, value, _ in pairs:
            if isinstance(value, Unsupported) or (isinstance(value, Array) and value.data is None):
                what = (
                    value.kind
                    if isinstance(value, Unsupported)
                    else f"a tensor of shape {value.shape}, too large to compare"
                )
                raise ValueError(f"quiz {quiz.id}: the reference gives what can't be compared: {_at(path)}{what}")


# ------------------------------------------------------------------------------------------------------------- one case


class _Compared:
    """How numbers are compared in one case."""

    def __init__(self, quiz: Quiz, case: Case) -> None:
        self.quiz = quiz
        floats = [str(t.dtype).removeprefix("torch.") for t in _tensors(case.args) if torch.is_floating_point(t)]
        # Python numbers carry no dtype: they are as exact as the least exact input they were made from.
        self.default = max(floats, key=lambda name: FLOOR.get(name, 0), default="float64")

    def allowed(self, expected: np.ndarray, dtype: str, looser: float = 1.0) -> np.ndarray:
        """Largest error that is still right, entry by entry."""
        tolerance = self.quiz.tolerance
        if tolerance is None:
            tolerance = TOLERANCES.get(dtype, TOLERANCES["float64"])
        elif not isinstance(tolerance, Tolerance):
            tolerance = Tolerance(float(tolerance), float(tolerance) / 10)
        size = np.abs(np.where(np.isfinite(expected), expected, 0))
        largest = size.max(initial=0.0)
        return np.asarray(looser * (tolerance.relative * size + tolerance.absolute * largest + FLOOR.get(dtype, 1e-12)))


def _first_finding(rule: _Compared, result: Result, expected: Result) -> _Finding | None:
    if result.status == RAISED:
        return _raised(result)
    got, want = result.output, expected.output
    if result.status == NOT_ATTEMPTED:
        what = "raised NotImplementedError" if result.trouble else "returned nothing"
        return _Finding("type", f"it {what} here; expected {_kind(want)}")
    pairs = []
    finding = _structure(got, want, "", pairs)
    if finding:
        return finding
    for stage in (_shape, _dtype, _device, _nan):
        for path, one, other in pairs:
            finding = stage(path, one, other)
            if finding:
                return finding
    finding = _detached(result, expected)
    if finding:
        return finding
    for path, one, other in pairs:
        finding = _value(rule, path, one, other)
        if finding:
            return finding
    return _gradient(rule, result, expected) or _in_place(result, expected)


def _raised(result: Result) -> _Finding:
    trouble = result.trouble
    if trouble is None:
        return _Finding("raised", "it stopped with an exception")
    if trouble.call:
        return _Finding("raised", f"it can't be called: {_clip(trouble.message)}")
    message = _clip(trouble.message)
    details = []
    if trouble.line:
        details.append(
            f"In your code, line {trouble.line}: `{trouble.code}`" if trouble.code else f"In line {trouble.line}."
        )
    if trouble.kind == "SystemExit":
        details.append("A function that answers a quiz returns; it doesn't leave Python.")
    return _Finding("raised", f"it raised {trouble.kind}" + (f": {message}" if message else ""), tuple(details))


def _structure(got: Any, want: Any, path: str, pairs: list) -> _Finding | None:
    """Types and containers; collects (path, got, expected) of the leaves that remain to be compared."""
    place = _at(path)
    if isinstance(want, tuple | list | dict):
        if type(got) is not type(want):
            return _Finding("type", f"{place}expected {_kind(want)}, got {_kind(got)}", _about_type(got, want))
        if isinstance(want, dict):
            if set(got) != set(want):
                return _Finding("structure", f"{place}expected the keys {_names(want)}, got {_names(got)}")
            items = [(f"{path}[{key!r}]", got[key], want[key]) for key in want]
        else:
            if len(got) != len(want):
                return _Finding("structure", f"{place}expected {len(want)} values, got {len(got)}")
            items = [(f"{path}[{i}]", one, other) for i, (one, other) in enumerate(zip(got, want))]
        for item_path, one, other in items:
            finding = _structure(one, other, item_path, pairs)
            if finding:
                return finding
        return None
    if not _type_fits(got, want):
        return _Finding("type", f"{place}expected {_kind(want)}, got {_kind(got)}", _about_type(got, want))
    pairs.append((path, got, want))
    return None


def _type_fits(got: Any, want: Any) -> bool:
    if type(want) is float:
        return type(got) in (float, int)  # max(0, x) gives the int 0 in the best of solutions; a bool is no number
    return type(got) is type(want)


def _about_type(got: Any, want: Any) -> tuple[str, ...]:
    if type(want) is int and type(got) is float:
        return ("This is a count: divide with `//`, which stays with whole numbers, rather than with `/`.",)
    if type(want) in (int, float) and isinstance(got, Array):
        return ("A tensor with one entry becomes a number with `.item()`.",) if math.prod(got.shape) == 1 else ()
    if isinstance(want, Array) and type(got) in (int, float):
        return ("Keep it a tensor: `.item()`, `float()` and NumPy cut it off from the graph.",)
    if isinstance(want, Array) and type(got) is list:
        return ("`torch.stack` makes one tensor of a list of tensors.",)
    if isinstance(want, tuple) and type(got) is list:
        return ("A list has square brackets. `return a, b` gives a tuple, and so does `tuple(...)` around a list.",)
    if isinstance(got, Unsupported):
        return _about_foreign(got, want)
    return ()


def _about_foreign(got: Unsupported, want: Any) -> tuple[str, ...]:
    if got.kind == "generator":
        instead = "`torch.stack([... for ...])`" if isinstance(want, Array) else "`tuple(... for ...)`"
        return (f"`(... for ...)` and `yield` make a generator, which computes nothing yet: use {instead}.",)
    if got.kind == "ndarray" and isinstance(want, Array):
        return (
            "That is a NumPy array, and no gradient flows through it. Stay with torch, which has the same functions.",
        )
    if got.kind in ("max", "min", "median", "mode", "sort", "topk", "kthvalue") and isinstance(want, Array):
        return ("Along an axis torch returns values *and* their places: take `.values`.",)
    if got.kind == "Parameter" and isinstance(want, Array):
        return ("`nn.Parameter` is for the weights of a network: return the tensor itself.",)
    if got.kind.rstrip("0123456789") in ("int", "uint", "float") and type(want) in (int, float):
        return (f"That is a NumPy number: `{type(want).__name__}(...)` makes it a Python one.",)
    return ()


def _shape(path: str, got: Any, want: Any) -> _Finding | None:
    if not isinstance(want, Array) or got.shape == want.shape:
        return None
    return _Finding(
        "shape", f"{_at(path)}expected shape {want.shape}, got {got.shape}", _about_shape(got.shape, want.shape)
    )


def _about_shape(got: tuple[int, ...], want: tuple[int, ...]) -> tuple[str, ...]:
    if len(got) == len(want) and sorted(got) == sorted(want):
        if len(want) == 4 and got == (want[0], want[1], want[3], want[2]):
            return ("Height and width have changed places.",)
        return ("The same axes, in another order.",)
    if got == () and want:
        return (f"That is one number for everything; it asks for {want[0]}: along which axes may you sum or average?",)
    if len(got) == 2 * len(want) == 2 and got == want + want and want[0] > 1:
        return ("One row of numbers met one column and was broadcast against it: look for shapes (b,) and (b, 1).",)
    if tuple(size for size in got if size != 1) == tuple(size for size in want if size != 1):
        return ("The entries are as many as they should be; an axis of length 1 is missing or left over.",)
    if math.prod(got) == math.prod(want):
        return ("The number of entries is right, the axes are not.",)
    return ()


def _dtype(path: str, got: Any, want: Any) -> _Finding | None:
    if not isinstance(want, Array) or got.dtype == want.dtype:
        return None
    details = ()
    if (got.dtype, want.dtype) == ("float64", "float32"):
        details = ("Something in it was made in double precision (NumPy does that): keep the dtype of the input.",)
    if (got.dtype, want.dtype) == ("float32", "float64"):
        details = ("A tensor made inside is float32 unless told otherwise: give it `dtype=` of the input.",)
    return _Finding("dtype", f"{_at(path)}expected {want.dtype}, got {got.dtype}", details)


def _device(path: str, got: Any, want: Any) -> _Finding | None:
    if not isinstance(want, Array) or got.device == want.device:
        return None
    return _Finding("device", f"{_at(path)}expected a tensor on {want.device}, got one on {got.device}")


def _nan(path: str, got: Any, want: Any) -> _Finding | None:
    one, other = _numbers(got), _numbers(want)
    if one is None or other is None:
        return None
    bad = ~np.isfinite(one) & np.isfinite(other)
    if not bad.any():
        return None
    what = "nan" if np.isnan(one[bad]).any() else "inf"
    count = f"{int(bad.sum())} of {bad.size} entries are {what}" if bad.size > 1 else f"it is {what}"
    details = (
        "Look for the logarithm of 0, a division by 0, the root of something negative, or exp of something large.",
    )
    return _Finding("nan", f"{_at(path)}{count}, where a finite number belongs", details)


def _detached(result: Result, expected: Result) -> _Finding | None:
    if result.gradient_trouble:
        trouble = result.gradient_trouble
        return _Finding("detached", f"no gradient can be taken: {trouble.kind}: {_clip(trouble.message)}")
    for path, got, want in _gradient_pairs(result.gradients, expected.gradients):
        if got is None and want is not None and np.any(want.data != 0):
            detail = (
                "Is it used at all? If so, the numbers may be right, but nothing can be learned through them: look for "
                "`.detach()`, `.item()`, `.data`, `torch.no_grad()`, `torch.tensor(...)` or NumPy on the way."
            )
            return _Finding("detached", f"no gradient flows to {path}: it is detached", (detail,))
    return None


def _value(rule: _Compared, path: str, got: Any, want: Any) -> _Finding | None:
    one, other = _numbers(got), _numbers(want)
    if isinstance(want, Array) and one is None:
        return _Finding("value", f"{_at(path)}its numbers are missing")
    if one is None or other is None or type(want) is bool:
        return (
            None
            if type(got) is type(want) and got == want
            else _Finding("value", _at(path)[:-2], numbers=f"expected {want!r}, got {got!r}")
        )
    wrong = _wrong_entries(rule, got, want)
    if not wrong.any():
        return None
    what, numbers, evidence = describe_error(one, other, wrong)
    return _Finding("value", _at(path) + what, (), evidence, numbers)


def _gradient(rule: _Compared, result: Result, expected: Result) -> _Finding | None:
    for path, got, want in _gradient_pairs(result.gradients, expected.gradients):
        got_numbers = np.zeros(want.shape if want else got.shape) if got is None else got.data
        want_numbers = np.zeros(got_numbers.shape) if want is None else want.data
        if got_numbers is None or got_numbers.shape != want_numbers.shape:
            return _Finding("gradient", f"the gradient with respect to {path} has another shape")
        dtype = (want or got).dtype
        wrong = _differs(got_numbers, want_numbers, rule.allowed(want_numbers, dtype, looser=10.0))
        if wrong.any():
            what, numbers, evidence = describe_error(got_numbers, want_numbers, wrong)
            what = f"right values, but the gradient with respect to {path} is wrong: {what}"
            return _Finding("gradient", what, (), evidence, numbers)
    return None


def _in_place(result: Result, expected: Result) -> _Finding | None:
    changed = [name for name in result.mutated if name not in expected.mutated]
    if not changed:
        return None
    detail = (
        "Whoever called it still needs them. Look for `+=`, `*=`, methods that end in `_`, or assignment to a slice."
    )
    return _Finding("in place", f"right result, but it changed {' and '.join(changed)} in place", (detail,))


def _gradient_pairs(got: Any, want: Any) -> Iterator[tuple[str, Array | None, Array | None]]:
    """(name, gradient, expected gradient) for every input and every parameter of a fixture where either is not None."""
    got = got if isinstance(got, dict) else {}
    for name, value in want.items():
        mine = got.get(name)
        if isinstance(value, dict):
            mine = mine if isinstance(mine, dict) else {}
            for key, inner in value.items():
                yield from _pair(f"{key} of {name}", mine.get(key), inner)
        else:
            yield from _pair(name, mine, value)


def _pair(name: str, got: Any, want: Any) -> Iterator[tuple[str, Array | None, Array | None]]:
    got = got if isinstance(got, Array) else None
    if got is not None or want is not None:
        yield name, got, want


# -------------------------------------------------------------------------------------------------------------- numbers


def _numbers(value: Any) -> np.ndarray | None:
    """Raw data as an array of numbers, or None for text and None."""
    if isinstance(value, Array):
        return value.data
    if type(value) in (bool, int, float):
        return np.array(float(value))
    return None


def _differs(got: np.ndarray, want: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Where two arrays differ by more than allowed; infinities and NaN must stand in the same places."""
    with np.errstate(invalid="ignore"):
        close = np.abs(got - want) <= allowed
    return np.asarray(~(close | (got == want) | (np.isnan(got) & np.isnan(want))))


def _wrong_entries(rule: _Compared, got: Any, want: Any) -> np.ndarray:
    one, other = _numbers(got), _numbers(want)
    if isinstance(want, Array):
        if other.dtype.kind in "ib":
            return np.asarray(one != other)
        return _differs(one, other, rule.allowed(other, want.dtype))
    if type(want) in (int, bool):
        return np.array(got != want)
    return _differs(one, other, rule.allowed(other, rule.default))


def describe_error(got: np.ndarray, want: np.ndarray, wrong: np.ndarray) -> tuple[str, str, str]:
    """How numbers are off, in a teacher's words.

    got, want: numbers of the same shape;  wrong: where they differ by more than allowed.
    Returns what is wrong, the two numbers if there is one pair only, and the entry furthest off if there are more.

    >>> describe_error(np.array([2.0, 4.0]), np.array([1.0, 2.0]), np.array([True, True]))
    ('every entry is 2 times what it should be', '', 'Furthest off is entry [1]: expected 2, got 4.')
    >>> describe_error(np.array(-3.0), np.array(3.0), np.array(True))
    ('the sign is wrong', 'expected 3, got -3', '')
    """
    got, want, wrong = np.atleast_1d(got), np.atleast_1d(want), np.atleast_1d(wrong)
    if "c" in (got.dtype.kind, want.dtype.kind):
        return f"{int(wrong.sum())} of {wrong.size} entries are wrong", "", ""
    got, want = got.astype(float), want.astype(float)
    with np.errstate(invalid="ignore"):
        error = np.where(wrong, np.abs(got - want), 0)
        above, below = bool((got > want)[wrong].all()), bool((got < want)[wrong].all())
    worst = np.unravel_index(np.argmax(np.nan_to_num(error, nan=np.inf)), error.shape)
    example = "expected {}, got {}".format(*_told_apart(want[worst], got[worst]))
    pattern = _pattern(got, want)
    if wrong.size == 1:
        return pattern or ("too large" if above else "too small" if below else "wrong"), example, ""
    if not pattern:
        count = "every entry is" if wrong.all() else f"{int(wrong.sum())} of {wrong.size} entries are"
        pattern = (
            f"{count} {'too large' if above else 'too small' if below else 'wrong, some too large, some too small'}"
        )
    return pattern, "", f"Furthest off is entry [{', '.join(str(int(i)) for i in worst)}]: {example}."


def _pattern(got: np.ndarray, want: np.ndarray) -> str:
    """A rule by which all entries are off, if there is a simple one."""
    if not (np.isfinite(got).all() and np.isfinite(want).all()):
        return ""
    who = "it is" if want.size == 1 else "every entry is"

    def close(one: np.ndarray, other: np.ndarray) -> bool:
        return bool(np.allclose(one, other, rtol=1e-4, atol=1e-6 * np.abs(other).max()))

    if not np.any(got) and np.any(want):
        return "it is 0 everywhere" if want.size > 1 else "it is 0"
    if close(got, -want):
        return "the sign is wrong" if want.size == 1 else "the sign of every entry is wrong"
    shift = float(np.mean(got - want))
    large = np.abs(want).max()
    # Sums about -250 in single precision carry errors of 1e-5: these must not hide what was added.
    even = np.ptp(got - want) <= 1e-5 * np.abs(got - want).max() + 3e-7 * large
    if want.size > 1 and np.ptp(want) > 0 and abs(shift) > 1e-4 * large and even:
        return f"every entry is {_show(abs(shift))} too {'large' if shift > 0 else 'small'}"
    factor = _factor(got, want)
    if factor is not None and _show(factor) == "1":
        off = float(np.max(np.abs(got - want)) / np.abs(want).max())
        return f"{who} nearly right, but off by up to {off:.0e} of its size: is something rounded, or missing a digit?"
    if factor is not None and (want.size > 1 or _is_simple(factor)):
        return f"{who} {_times(factor)} what it should be"
    if want.size == 1:
        return ""
    with np.errstate(over="ignore"):
        if (want > 0).all():
            if close(got, want**2):
                return "every entry is the square of what it should be"
            if close(got, np.sqrt(want)):
                return "every entry is the square root of what it should be"
        if (got > 0).all() and close(np.log(got), want):
            return "every entry is the exponential of what it should be"
    if got.shape == want.shape and close(np.sort(got, None), np.sort(want, None)):
        return "the numbers are right, but they stand in the wrong places"
    return ""


def _is_simple(factor: float) -> bool:
    """Whether a factor is so simple that one pair of numbers is enough to suspect it: 2, -3, 1/4."""
    return any(abs(f) > 1.5 and abs(f - round(f)) < 1e-3 * abs(f) for f in (factor, 1 / factor))


def _times(factor: float) -> str:
    """A factor in words.

    >>> _times(2.0), _times(1 / 3), _times(-0.25), _times(0.7)
    ('2 times', '1/3 of', '-1/4 of', '0.7 times')
    """
    one_over = 1 / factor
    if math.isfinite(one_over) and abs(one_over) > 1.5 and abs(one_over - round(one_over)) < 1e-3 * abs(one_over):
        return f"{'-' if factor < 0 else ''}1/{abs(round(one_over))} of"
    return f"{_show(factor)} times"


def _factor(got: np.ndarray, want: np.ndarray) -> float | None:
    """c if got = c · want throughout, else None."""
    scale = float(np.sum(want * want))
    if (
        scale == 0
        or not np.isfinite(scale)
        or not np.isfinite(got).all()
        or (want.size > 1 and np.ptp(want) == 0 and np.ptp(got) > 0)
    ):
        return None
    factor = float(np.sum(got * want) / scale)
    fits = np.allclose(got, factor * want, rtol=1e-4, atol=1e-5 * float(np.abs(got).max()))
    return factor if fits and factor != 0 else None


def _how_many(cases: int, wrong: int) -> str:
    if cases == 1:
        return ""
    if wrong == cases:
        return " Both cases are wrong." if cases == 2 else f" All {cases} cases are wrong."
    return f" {cases - wrong} of {cases} cases are right already."


def _factor_that_counts(
    expected: Expected, results: Sequence[Result], found: Sequence[_Finding | None]
) -> tuple[str, ...]:
    """A sentence if several cases are each off by a factor, and the factors count something."""
    wrong = [index for index, finding in enumerate(found) if finding]
    factors = []
    for index in wrong:
        got, want = _numbers(results[index].output), _numbers(expected.right[index].output)
        if got is None or want is None or got.shape != want.shape or "c" in (got.dtype.kind, want.dtype.kind):
            return ()
        factors.append(_factor(np.atleast_1d(got).astype(float), np.atleast_1d(want).astype(float)))
    if len(factors) < 2 or None in factors or "1" in map(_show, factors):
        return ()
    counted = _counts([expected.cases[i] for i in wrong], factors)
    if counted:
        return (counted,)
    if np.allclose(factors, factors[0], rtol=1e-3):
        return ()
    return (f"The factor changes from case to case ({', '.join(map(_show, factors[:4]))}): what else changes?",)


def _counts(cases: Sequence[Case], factors: Sequence[float]) -> str:
    """A sentence if the factors are the length of an axis, or the number of entries, of one of the inputs."""
    for name, value in cases[0].args.items():
        tensors = [case.args.get(name) for case in cases]
        if not isinstance(value, torch.Tensor) or not all(isinstance(t, torch.Tensor) for t in tensors):
            continue
        sizes = [tuple(t.shape) for t in tensors]
        dimensions = min(map(len, sizes))
        candidates: list[tuple[str, Callable]] = [
            (f"the length of axis {i} of {name}", lambda s, i=i: s[i]) for i in range(dimensions)
        ]
        candidates.append((f"the number of entries of {name}", math.prod))
        candidates.append((f"the number of entries of one item of {name}", lambda s: math.prod(s[1:])))
        for what, count in candidates:
            counts = np.array([count(size) for size in sizes], dtype=float)
            if (counts <= 1).all():
                continue
            seen = ", ".join(map(_show, counts[:4]))
            if np.allclose(factors, counts, rtol=1e-3):
                return f"The factor is {what} ({seen}): a sum where a mean belongs?"
            if np.allclose(factors, 1 / counts, rtol=1e-3):
                return f"The factor is one over {what} ({seen}): a mean where a sum belongs?"
    return ""


# ------------------------------------------------------------------------------------------------------- misconceptions


def _known_misconception(expected: Expected, results: Sequence[Result], stage: str) -> Misconception | None:
    """The declared misconception that gives what this answer gave on every case, if there is one."""
    if stage in ("not attempted", "raised"):
        return None
    gradients, changes = stage in ("detached", "gradient"), stage == "in place"
    for misconception, theirs in expected.misconceptions:
        if all(_alike(*each, gradients, changes) for each in zip(expected.rules, results, theirs)):
            return misconception
    return None


def _alike(rule: _Compared, one: Result, other: Result, gradients: bool, changes: bool) -> bool:
    """Whether two results agree; an answer that makes a mistake may differ from its model in what isn't at issue."""
    if one.status != "returned":
        return False
    pairs: list = []
    if _structure(one.output, other.output, "", pairs):
        return False
    for path, got, want in pairs:
        if _shape(path, got, want) or _dtype(path, got, want) or _device(path, got, want):
            return False
        if _value(rule, path, got, want):
            return False
    if gradients:
        none_alike = all((g is None) == (w is None) for _, g, w in _gradient_pairs(one.gradients, other.gradients))
        if not none_alike or _gradient(rule, one, other):
            return False
    return not changes or one.mutated == other.mutated


# ---------------------------------------------------------------------------------------------------------------- words


def _at(path: str) -> str:
    return f"output{path}: " if path else ""


def _kind(value: Any) -> str:
    if isinstance(value, Array):
        return "a tensor"
    if isinstance(value, Unsupported):
        return value.detail or f"an object of type {value.kind}"
    if value is None:
        return "None"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    names = {bool: "True or False", int: "a whole number (int)", float: "a number (float)", str: "text", dict: "a dict"}
    return names.get(type(value), type(value).__name__)


def _names(value: dict) -> str:
    return ", ".join(map(repr, value)) or "none"


def _show(number: float) -> str:
    """Up to four figures, whole numbers as such.

    >>> _show(784.0), _show(-0.25), _show(1234567.0), _show(0.1234567)
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
    shown = _show(one), _show(other)
    for digits in range(5, 18):
        if shown[0] != shown[1]:
            break
        shown = f"{float(one):.{digits}g}", f"{float(other):.{digits}g}"
    return shown


def _clip(text: str, length: int = 240) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 2] + " …"


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Fixture):
        return
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
