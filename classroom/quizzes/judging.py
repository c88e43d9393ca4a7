"""The judge's side of a quiz: compare what came out with what the reference gives. It never touches the answer's code.

`judge` goes through the stages that a teacher would, and stops at the first that fails in any case:
not attempted, raised, type, structure, shape, dtype, device, nan, detached, value, gradient, in place, passed.
All comparing is done by NumPy in float64 on plain data, so that no object of a student's can claim to be right.
"""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .declarations import Case, Fixture, Misconception, Quiz, Tolerance, Unfit
from .errors import describe_error, factor, show, what_factors_count
from .forbidding import REFUSAL
from .running import NOT_ATTEMPTED, RAISED, RETURNED, Array, Result, Trouble, Unsupported, run, states_before

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

TOLERANCES = {  # of float64 too what single precision allows: one constant that went through it is no mistake
    "float64": Tolerance(1e-4, 1e-5),
    "float32": Tolerance(1e-4, 1e-5),
    "float16": Tolerance(1e-2, 5e-3),
    "bfloat16": Tolerance(3e-2, 2e-2),
}
FLOOR = {"float64": 1e-6, "float32": 1e-6, "float16": 1e-3, "bfloat16": 1e-2}  # rounding about an expected 0


@dataclass(frozen=True)
class Verdict:
    """What the judge found: the stage reached, in one line what is wrong, advice, and where it was seen.

    finding, details: what is wrong, and advice: in words that give away nothing of inputs and expected values, nor
    repeat what the answer itself may have written into an exception: fit for a page of feedback;
    numbers, evidence: these, and where it was seen: for the notebook, whose inputs are no secret;
    line: of the answer's own code, where it stopped with an exception, 0 if unknown;
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
    line: int = 0

    @property
    def passed(self) -> bool:
        return self.stage == "passed"

    @property
    def headline(self) -> str:
        """Finding and numbers, for those who may see both."""
        return ": ".join(filter(None, (self.finding, self.numbers)))


@dataclass(frozen=True)
class _Finding:
    """One thing that is wrong in one case, in the words of `Verdict`."""

    stage: str
    what: str
    details: tuple[str, ...] = ()
    evidence: str = ""
    numbers: str = ""
    line: int = 0


class Expected:
    """What the reference gives on some cases and, once they are asked for, what the known misconceptions give.

    Worth keeping where many answers meet the same cases.  Raises ValueError if the reference fails on one of them.
    """

    def __init__(self, quiz: Quiz, cases: Sequence[Case]) -> None:
        self.quiz, self.cases = quiz, list(cases)
        self.declared = max(1, sum(not case.device for case in cases) - 1)  # behind these comes the first once more
        self.before = [states_before(case) for case in cases]
        results = run(quiz.reference, cases, quiz.probe)
        _check_reference(quiz, cases, results)
        self.right = [self.measured(index, result) for index, result in enumerate(results)]
        self.rules = [_Compared(quiz, case) for case in cases]

    def findings(self, results: Sequence[Result]) -> list[_Finding | None]:
        """The first thing that is wrong in each case."""
        return [self._finding(index, result) for index, result in enumerate(results)]

    def _finding(self, index: int, result: Result) -> _Finding | None:
        try:
            measured = self.measured(index, result)
        except Unfit as reason:
            return _Finding("type", str(reason))
        except Exception:  # nobody knows of what form it is
            return _Finding("type", "what it gave has another form than it should have")
        if self.cases[index].device:
            return _elsewhere(measured, self.right[index])
        return _first_finding(self.rules[index], measured, self.right[index], self.before[index])

    def measured(self, index: int, result: Result) -> Result:
        """The result with what is compared in place of what came out.  Raises Unfit."""
        if self.quiz.measured is None or result.status != RETURNED or self.cases[index].device:
            return result
        return replace(result, output=self.quiz.measured(result.output, self.cases[index]))

    def alike(self, results: Sequence[Result], theirs: Sequence[Result], stage: str) -> bool:
        """Whether two answers gave the same on every case, as far as it matters at this stage."""
        numbered = [i for i, case in enumerate(self.cases) if not case.device]
        try:
            return all(
                _alike(self.rules[i], self.measured(i, results[i]), self.measured(i, theirs[i]), stage)
                for i in numbered
            )
        except Exception:  # as in `_finding`
            return False

    @functools.cached_property
    def misconceptions(self) -> list[tuple[Misconception, list[Result]]]:
        """Misconceptions that run on these cases and can be told from the reference by them, with their results."""
        found = []
        for misconception in self.quiz.misconceptions:
            results = run(misconception.wrong, self.cases, self.quiz.probe)
            ran = all(result.status == RETURNED for case, result in zip(self.cases, results) if not case.device)
            if ran and any(self.findings(results)):
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
    with np.errstate(all="ignore"):  # whatever an answer's numbers are, they are no news for anybody's stderr
        return _judged(expected, results)


def _judged(expected: Expected, results: Sequence[Result]) -> Verdict:
    quiz, cases = expected.quiz, expected.cases
    found = expected.findings(results)
    # What shows on another device only comes last: first the numbers.
    failing = [(bool(cases[i].device), STAGES.index(each.stage), i) for i, each in enumerate(found) if each]
    if not failing:
        return Verdict(quiz.id, "passed", "all cases agree with the reference")
    *_, index = min(failing)
    finding = found[index]
    details, evidence, name = finding.details, _evidence(expected, found, index), ""
    if finding.stage in ("value", "gradient", "detached", "shape") and not any(found[: expected.declared]):
        details = (*_KEPT, *details)
    if finding.stage in ("value", "gradient"):
        counted, factors = _factor_that_counts(expected, results, found)
        details, evidence = details + counted, " ".join(filter(None, [evidence, factors]))
    known = _known_misconception(expected, results, finding.stage)
    if known:
        details, name = (known.message,), known.name
    return Verdict(quiz.id, finding.stage, finding.what, details, evidence, name, index, finding.numbers, finding.line)


def _evidence(expected: Expected, found: Sequence[_Finding | None], index: int) -> str:
    """Where it was seen. Of all cases only those are counted that the quiz declares, before what `draw_cases` adds."""
    case, finding, declared = expected.cases[index], found[index], expected.declared
    if case.device:
        where = f"Seen with inputs on the device {case.device!r}, which has shapes, but no numbers."
    elif index >= declared:
        where = "Seen in a second call with the shapes of case 1 and other numbers."
    else:
        where = f"Seen in case {index + 1} of {declared} ({case.describe()})."
    counts = finding.stage in ("value", "gradient") and index < declared
    count = _how_many(declared, sum(each is not None for each in found[:declared])) if counts else ""
    parts = [finding.evidence, where] if finding.stage == "raised" else [where, finding.evidence]
    return " ".join(filter(None, [*parts, count]))


_KEPT = ("The first call with these shapes was right, a later one is not: is something kept from call to call?",)


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
            if isinstance(value, Unsupported) or (isinstance(value, Array) and value.data is None and not case.device):
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


def _first_finding(rule: _Compared, result: Result, expected: Result, before: dict) -> _Finding | None:
    finding = _about_output(result, expected)
    if finding:
        return finding
    pairs = []
    _structure(result.output, expected.output, "", pairs)
    changed, detached = _changed(result, expected, before), _detached(result, expected)
    if changed or not detached:  # what an answer has changed explains why no gradient flows
        for path, one, other in pairs:
            finding = _value(rule, path, one, other)
            if finding:
                return finding
    return changed or detached or _gradient(rule, result, expected)


def _about_output(result: Result, expected: Result) -> _Finding | None:
    """What is wrong before any number is looked at."""
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
    return None


# In PyTorch's messages where devices meet. (An answer that goes through NumPy says something else; on a CPU it works.)
_OTHER_DEVICE = ("device cpu", "on the same device", "expected device")


def _elsewhere(result: Result, expected: Result) -> _Finding | None:
    """What is wrong on a device without numbers: where things lie. An answer may look at numbers, and stops there."""
    if result.status == RAISED and isinstance(result.trouble, Trouble):
        if any(words in result.trouble.message for words in _OTHER_DEVICE):
            return _Finding("device", "it works on the CPU only", _ABOUT_DEVICES, "", "", result.trouble.line)
        return None
    if result.status != RETURNED:
        return None
    pairs = []
    if _structure(result.output, expected.output, "", pairs):
        return None
    if any(_device(*each) for each in pairs):
        return _Finding("device", "it works on the CPU only", _ABOUT_DEVICES)
    return None


_ABOUT_DEVICES = (
    "A tensor that is made inside stays on the CPU, and on a GPU it meets others that are not: give it the device of "
    "the input, `device=x.device`, or make it with `torch.zeros_like(x)`, `x.new_tensor(…)` and the like.",
)


_KNOWN_ERRORS = {"EinopsError", "LinAlgError", "OutOfMemoryError", "TypeCheckError"}
_KNOWN_ERRORS |= {name for name, kind in vars(builtins).items() if isinstance(kind, type) and "Err" in name}
_KNOWN_ERRORS |= {"SystemExit", "GeneratorExit", "StopIteration", "KeyboardInterrupt", "Exception", "BaseException"}


def _raised(result: Result) -> _Finding:
    trouble = result.trouble
    if trouble is None:
        return _Finding("raised", "it stopped with an exception")
    if trouble.call:
        return _Finding("raised", "it can't be called with the quiz's arguments", numbers=_clip(trouble.message))
    if trouble.kind == "RuntimeError" and trouble.message == REFUSAL:
        what = "it calls a function of the library that is or contains the answer"
        return _Finding("raised", what, ("Write it yourself: it is out of reach while this quiz is checked.",))
    # What an exception is called and what it says may be anything, hidden inputs too: the notebook alone shows it.
    known = trouble.kind in _KNOWN_ERRORS
    what = f"it raised {trouble.kind}" if known else "it raised an exception"
    said = ": ".join(filter(None, ["" if known else trouble.kind, _clip(trouble.message)]))
    where = f"In your code, line {trouble.line}: `{trouble.code}`" if trouble.code else ""
    leaves = trouble.kind == "SystemExit"
    advice = ("A function that answers a quiz returns; it doesn't leave Python.",) if leaves else ()
    return _Finding("raised", what, advice, where, said, trouble.line)


def _structure(got: Any, want: Any, path: str, pairs: list) -> _Finding | None:
    """Types and containers; collects (path, got, expected) of the leaves that remain to be compared."""
    place = _at(path)
    if isinstance(want, tuple | list | dict):
        if type(got) is not type(want):
            return _other_type(place, got, want)
        if isinstance(want, dict):
            if set(got) != set(want):
                return _Finding("structure", f"{place}expected the keys {_names(want)}", numbers=f"got {_names(got)}")
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
        return _other_type(place, got, want)
    pairs.append((path, got, want))
    return None


def _other_type(place: str, got: Any, want: Any) -> _Finding:
    if isinstance(got, Unsupported) and got.kind not in _KNOWN_TYPES:  # a class may be named after anything
        said = f"got one of type {got.kind}"
        return _Finding("type", f"{place}expected {_kind(want)}, got an object of another type", (), "", said)
    return _Finding("type", f"{place}expected {_kind(want)}, got {_kind(got)}", _about_type(got, want))


_KNOWN_TYPES = {name for name, kind in vars(builtins).items() if isinstance(kind, type)}
_KNOWN_TYPES |= {
    "Tensor",
    "Parameter",
    "Generator",
    "ndarray",
    "generator",
    "coroutine",
    "function",
    "method",
    "module",
}
_KNOWN_TYPES |= {"dict_values", "dict_keys", "dict_items", "max", "min", "median", "mode", "sort", "topk", "kthvalue"}
_KNOWN_TYPES |= {f"{kind}{bits}" for kind in ("int", "uint", "float", "bool") for bits in ("", 8, 16, 32, 64)}
_KNOWN_TYPES |= {"too much", "Ellipsis"}


def _type_fits(got: Any, want: Any) -> bool:
    if type(want) is float:
        return type(got) in (float, int)  # max(0, x) gives the int 0 in the best of solutions; a bool is no number
    return type(got) is type(want)


def _about_type(got: Any, want: Any) -> tuple[str, ...]:
    if type(want) is int and type(got) is float:
        return ("A whole number comes from `//`, which rounds down, or from `round(...)`; `/` gives a float.",)
    if type(want) in (int, float) and isinstance(got, Array):
        return ("A tensor with one entry becomes a number with `.item()`.",) if math.prod(got.shape) == 1 else ()
    if isinstance(want, Array) and type(got) in (int, float):
        return ("Keep it a tensor: `.item()`, `float()` and NumPy cut it off from the graph.",)
    if isinstance(want, Array) and type(got) is list:
        numbers = all(type(each) in (bool, int, float, list) for each in got)
        return (f"`torch.{'tensor' if numbers else 'stack'}` makes one tensor of such a list.",)
    if isinstance(want, list) and type(got) is tuple:
        return ("A tuple has round brackets. `[a, b]` and `[... for ...]` give a list, and so does `list(...)`.",)
    if isinstance(want, tuple) and type(got) is list:
        return ("A list has square brackets. `return a, b` gives a tuple, and so does `tuple(...)` around a list.",)
    if isinstance(got, Unsupported):
        return _about_foreign(got, want)
    return ()


def _about_foreign(got: Unsupported, want: Any) -> tuple[str, ...]:
    if got.kind == "generator":
        into = {tuple: "`tuple(... for ...)`", dict: "`{... for ...}`"}.get(type(want), "`[... for ...]`")
        instead = "`torch.stack([... for ...])`" if isinstance(want, Array) else into
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
        "shape", f"{_at(path)}expected shape {want.shape}, got {_shown(got.shape)}", _about_shape(got.shape, want.shape)
    )


def _shown(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) < 8 and math.prod(shape) < 100_000 else "another, much larger one"


def _about_shape(got: tuple[int, ...], want: tuple[int, ...]) -> tuple[str, ...]:
    if len(got) == len(want) and sorted(got) == sorted(want):
        if len(want) == 4 and got == (want[0], want[1], want[3], want[2]):
            return ("Height and width have changed places.",)
        return ("The same axes, in another order.",)
    if got == () and want:
        return (f"That is one number for everything; it asks for {want[0]}: along which axes may you sum or average?",)
    if want == ():
        return ("It asks for one number for everything: a sum or a mean over all that is left.",)
    if len(got) == 2 * len(want) == 2 and got == want + want and want[0] > 1:
        return ("If one row of numbers met one column, it was broadcast against it: look for shapes (b,) and (b, 1).",)
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
        details = ("Tensors are float32 unless told otherwise (`dtype=…`), and so is what `.float()` gives.",)
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
    what = "nan" if np.isnan(one[bad]).any() else "-inf" if (one[bad] < 0).all() else "inf"
    count = f"{int(bad.sum())} of {bad.size} entries are {what}" if bad.size > 1 else f"it is {what}"
    details = (
        "Look for the logarithm of 0, a division by 0, the root of something negative, or exp of something large.",
    )
    return _Finding("nan", f"{_at(path)}{count}, where a finite number belongs", details)


def _detached(result: Result, expected: Result) -> _Finding | None:
    if result.gradient_trouble:
        trouble = result.gradient_trouble
        return _Finding("detached", "no gradient can be taken", numbers=f"{trouble.kind}: {_clip(trouble.message)}")
    for path, got, want in _gradient_pairs(result.gradients, expected.gradients):
        if got is None and want is not None and np.any(want.data != 0):
            detail = (
                "Is it used at all? If so, the numbers may be right, but nothing can be learned through them: look for "
                "`.detach()`, `.item()`, `.data`, `torch.no_grad()`, `torch.tensor(...)` or NumPy on the way."
            )
            return _Finding("detached", f"no gradient flows to {path}", (detail,))
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
        bad = ~np.isfinite(got_numbers) & np.isfinite(want_numbers)
        if bad.any():
            what = f"the gradient with respect to {path} is no number in {int(bad.sum())} of {bad.size} entries"
            return _Finding("gradient", f"right values, but {what}", _ABOUT_BRANCHES)
        dtype = (want or got).dtype
        wrong = _differs(got_numbers, want_numbers, rule.allowed(want_numbers, dtype, looser=10.0))
        if wrong.any():
            what, numbers, evidence = describe_error(got_numbers, want_numbers, wrong)
            what = f"right values, but the gradient with respect to {path} is wrong: {what}"
            return _Finding("gradient", what, (), evidence, numbers)
    return None


_ABOUT_BRANCHES = (
    "On the way something infinite is multiplied by 0: an exp or a logarithm at its end, even in the branch that a "
    "`torch.where` or a clamp leaves out.",
)


def _changed(result: Result, expected: Result, before: dict) -> _Finding | None:
    """What an answer did to what it was handed, and to PyTorch's settings, beside giving its result."""
    after = result.after if isinstance(result.after, dict) else {}
    for key, (what, advice) in _SIDE_EFFECTS.items():
        names = [name for name, was in before.items() if key in was and _differs_in(key, was, after.get(name))]
        names = [name for name in names if not _differs_in(key, before[name], expected.after[name])]
        if names:
            return _Finding("in place", what.format(" and ".join(names)), (advice,))
    return None


def _differs_in(key: str, was: dict, now: Any) -> bool:
    return not isinstance(now, dict) or now.get(key) != was[key]


_SIDE_EFFECTS = {
    "has gradients": (
        "right result, but the gradients of {} are filled",
        "It calls `.backward()` itself. Whoever called your function does that: a second time, it would count twice.",
    ),
    "training": (
        "right result, but {} is not in the mode in which it came",
        "`.eval()` and `.train()` stay in force after your function has returned: put back what was there.",
    ),
    "values": (
        "right result, but it changed {} in place",
        "Whoever called it still needs them. Look for `+=`, `*=`, methods that end in `_`, or assignment to a slice.",
    ),
    "wants gradients": (
        "right result, but it changed whether {} wants gradients",
        "`requires_grad_()` changes what was handed in, and stays: make a copy of a tensor first, "
        "`x.detach().requires_grad_()`, and put a network back as it was.",
    ),
    "gradients are recorded": (
        "right result, but it leaves the recording of gradients switched off or on for all that follows",
        "`with torch.no_grad():` and `with torch.enable_grad():` switch it back by themselves.",
    ),
    "dtype": ("right result, but it leaves PyTorch with another default dtype", "Give your tensors `dtype=` instead."),
}


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


def _how_many(cases: int, wrong: int) -> str:
    if cases == 1:
        return ""
    if wrong == cases:
        return "Both cases are wrong." if cases == 2 else f"All {cases} cases are wrong."
    return f"{cases - wrong} of {cases} cases {'is' if cases - wrong == 1 else 'are'} right already."


def _factor_that_counts(
    expected: Expected, results: Sequence[Result], found: Sequence[_Finding | None]
) -> tuple[tuple[str, ...], str]:
    """Advice if several cases are each off by a factor, and the factors count something; and the factors."""
    wrong = [index for index, finding in enumerate(found) if finding and not expected.cases[index].device]
    factors = []
    for index in wrong:
        try:
            got = _numbers(expected.measured(index, results[index]).output)
        except Exception:  # as in `Expected._finding`
            return (), ""
        want = _numbers(expected.right[index].output)
        if got is None or want is None or got.shape != want.shape or "c" in (got.dtype.kind, want.dtype.kind):
            return (), ""
        factors.append(factor(np.atleast_1d(got).astype(float), np.atleast_1d(want).astype(float)))
    if len(factors) < 2 or None in factors or "1" in map(show, factors):
        return (), ""
    return what_factors_count([expected.cases[i] for i in wrong], factors)


# ------------------------------------------------------------------------------------------------------- misconceptions


def _known_misconception(expected: Expected, results: Sequence[Result], stage: str) -> Misconception | None:
    """The declared misconception that gives what this answer gave on every case, if there is one."""
    if stage in ("not attempted", "raised", "device"):
        return None
    known = expected.misconceptions
    return next((each for each, theirs in known if expected.alike(results, theirs, stage)), None)


def _alike(rule: _Compared, one: Result, other: Result, stage: str) -> bool:
    """Whether two results agree; an answer that makes a mistake may differ from its model in what isn't at issue."""
    if one.status != RETURNED:
        return False
    pairs: list = []
    if _structure(one.output, other.output, "", pairs):
        return False
    for path, got, want in pairs:
        if _shape(path, got, want) or _dtype(path, got, want) or _device(path, got, want):
            return False
        if _value(rule, path, got, want):
            return False
    if stage in ("detached", "gradient"):
        none_alike = all((g is None) == (w is None) for _, g, w in _gradient_pairs(one.gradients, other.gradients))
        if not none_alike or _gradient(rule, one, other):
            return False
    return stage != "in place" or one.after == other.after


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
