"""What is wrong with an answer's result in one case: the stages that a teacher would go through, in their order.

type, structure, shape, dtype, device, nan, then value or detached, what it changed beside, and gradients.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .comparing import Compared, as_numbers, differs
from .errors import describe_error
from .forbidding import REFUSAL
from .raw import Array, Unsupported
from .running import NOT_ATTEMPTED, RAISED, RETURNED, Result, Trouble


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong in one case, in the words of `Verdict`."""

    stage: str
    what: str
    details: tuple[str, ...] = ()
    evidence: str = ""
    numbers: str = ""
    line: int = 0


def first_finding(rule: Compared, result: Result, expected: Result, before: dict) -> Finding | None:
    finding = _about_output(result, expected)
    if finding:
        return finding
    pairs = []
    structure(result.output, expected.output, "", pairs)
    changed, detached = _changed(result, expected, before), _detached(result, expected)
    if changed or not detached:  # what an answer has changed explains why no gradient flows
        for path, one, other in pairs:
            finding = _value(rule, path, one, other)
            if finding:
                return finding
    return changed or detached or _gradient(rule, result, expected)


def _about_output(result: Result, expected: Result) -> Finding | None:
    """What is wrong before any number is looked at."""
    if result.status == RAISED:
        return _raised(result)
    got, want = result.output, expected.output
    if result.status == NOT_ATTEMPTED:
        what = "raised NotImplementedError" if result.trouble else "returned nothing"
        return Finding("type", f"it {what} here; expected {_kind(want)}")
    pairs = []
    finding = structure(got, want, "", pairs)
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


def elsewhere(result: Result, expected: Result) -> Finding | None:
    """What is wrong on a device without numbers: where things lie. An answer may look at numbers, and stops there."""
    if result.status == RAISED and isinstance(result.trouble, Trouble):
        if any(words in result.trouble.message for words in _OTHER_DEVICE):
            return Finding("device", "it works on the CPU only", _ABOUT_DEVICES, "", "", result.trouble.line)
        return None
    if result.status != RETURNED:
        return None
    pairs = []
    if structure(result.output, expected.output, "", pairs):
        return None
    if any(_device(*each) for each in pairs):
        return Finding("device", "it works on the CPU only", _ABOUT_DEVICES)
    return None


_ABOUT_DEVICES = (
    "A tensor that is made inside stays on the CPU, and on a GPU it meets others that are not: give it the device of "
    "the input, `device=x.device`, or make it with `torch.zeros_like(x)`, `x.new_tensor(…)` and the like.",
)


_KNOWN_ERRORS = {"EinopsError", "LinAlgError", "OutOfMemoryError", "TypeCheckError"}
_KNOWN_ERRORS |= {name for name, kind in vars(builtins).items() if isinstance(kind, type) and "Err" in name}
_KNOWN_ERRORS |= {"SystemExit", "GeneratorExit", "StopIteration", "KeyboardInterrupt", "Exception", "BaseException"}


_ABOUT_ERRORS = (
    ("SystemExit: ", "A function that answers a quiz returns; it doesn't leave Python."),
    (
        "RuntimeError: element 0 of tensors does not require grad",
        "A gradient is taken of what has no graph: under `torch.no_grad()` nothing is recorded, unless "
        "`with torch.enable_grad():` stands inside, and a tensor takes part only if it has `requires_grad`.",
    ),
)


def _raised(result: Result) -> Finding:
    trouble = result.trouble
    if trouble is None:
        return Finding("raised", "it stopped with an exception")
    if trouble.call:
        return Finding("raised", "it can't be called with the quiz's arguments", numbers=_clip(trouble.message))
    if trouble.kind == "RuntimeError" and trouble.message == REFUSAL:
        what = "it calls a function of the library that is or contains the answer"
        return Finding("raised", what, ("Write it yourself: it is out of reach while this quiz is checked.",))
    # What an exception is called and what it says may be anything, hidden inputs too: the notebook alone shows it.
    known = trouble.kind in _KNOWN_ERRORS
    what = f"it raised {trouble.kind}" if known else "it raised an exception"
    said = ": ".join(filter(None, ["" if known else trouble.kind, _clip(trouble.message)]))
    where = f"In your code, line {trouble.line}: `{trouble.code}`" if trouble.code else ""
    advice = next((text for words, text in _ABOUT_ERRORS if words in f"{trouble.kind}: {trouble.message}"), "")
    return Finding("raised", what, (advice,) if advice else (), where, said, trouble.line)


def structure(got: Any, want: Any, path: str, pairs: list) -> Finding | None:
    """Types and containers; collects (path, got, expected) of the leaves that remain to be compared."""
    place = at(path)
    if isinstance(want, tuple | list | dict):
        if type(got) is not type(want):
            return _other_type(place, got, want)
        if isinstance(want, dict):
            if set(got) != set(want):
                return Finding("structure", f"{place}expected the keys {_names(want)}", numbers=f"got {_names(got)}")
            items = [(f"{path}[{key!r}]", got[key], want[key]) for key in want]
        else:
            if len(got) != len(want):
                return Finding("structure", f"{place}expected {len(want)} values, got {len(got)}")
            items = [(f"{path}[{i}]", one, other) for i, (one, other) in enumerate(zip(got, want))]
        for item_path, one, other in items:
            finding = structure(one, other, item_path, pairs)
            if finding:
                return finding
        return None
    if not _type_fits(got, want):
        return _other_type(place, got, want)
    pairs.append((path, got, want))
    return None


def _other_type(place: str, got: Any, want: Any) -> Finding:
    if isinstance(got, Unsupported) and got.kind not in _KNOWN_TYPES:  # a class may be named after anything
        said = f"got one of type {got.kind}"
        return Finding("type", f"{place}expected {_kind(want)}, got an object of another type", (), "", said)
    return Finding("type", f"{place}expected {_kind(want)}, got {_kind(got)}", _about_type(got, want))


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


def _shape(path: str, got: Any, want: Any) -> Finding | None:
    if not isinstance(want, Array) or got.shape == want.shape:
        return None
    return Finding(
        "shape", f"{at(path)}expected shape {want.shape}, got {_shown(got.shape)}", _about_shape(got.shape, want.shape)
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


def _dtype(path: str, got: Any, want: Any) -> Finding | None:
    if not isinstance(want, Array) or got.dtype == want.dtype:
        return None
    details = ()
    if (got.dtype, want.dtype) == ("float64", "float32"):
        details = ("Something in it was made in double precision (NumPy does that): keep the dtype of the input.",)
    if (got.dtype, want.dtype) == ("float32", "float64"):
        details = ("Tensors are float32 unless told otherwise (`dtype=…`), and so is what `.float()` gives.",)
    return Finding("dtype", f"{at(path)}expected {want.dtype}, got {got.dtype}", details)


def _device(path: str, got: Any, want: Any) -> Finding | None:
    if not isinstance(want, Array) or got.device == want.device:
        return None
    return Finding("device", f"{at(path)}expected a tensor on {want.device}, got one on {got.device}")


def _nan(path: str, got: Any, want: Any) -> Finding | None:
    one, other = as_numbers(got), as_numbers(want)
    if one is None or other is None:
        return None
    bad = ~np.isfinite(one) & np.isfinite(other)
    if not bad.any():
        return None
    what = "nan" if np.isnan(one[bad]).any() else "-inf" if (one[bad] < 0).all() else "inf"
    count, verb = int(bad.sum()), "is" if bad.sum() == 1 else "are"
    where = f"{count} of {bad.size} entries {verb} {what}" if bad.size > 1 else f"it is {what}"
    details = (
        "Look for the logarithm of 0, a division by 0, the root of something negative, or exp of something large.",
    )
    return Finding("nan", f"{at(path)}{where}, where a finite number belongs", details)


def _detached(result: Result, expected: Result) -> Finding | None:
    if result.gradient_trouble:
        trouble = result.gradient_trouble
        return Finding("detached", "no gradient can be taken", numbers=f"{trouble.kind}: {_clip(trouble.message)}")
    for path, got, want in _gradient_pairs(result.gradients, expected.gradients):
        if got is None and want is not None and np.any(want.data != 0):
            detail = (
                "Is it used at all? If so, the numbers may be right, but nothing can be learned through them: look for "
                "`.detach()`, `.item()`, `.data`, `torch.no_grad()`, `torch.tensor(...)` or NumPy on the way."
            )
            return Finding("detached", f"no gradient flows to {path}", (detail,))
    return None


def _value(rule: Compared, path: str, got: Any, want: Any) -> Finding | None:
    one, other = as_numbers(got), as_numbers(want)
    if isinstance(want, Array) and one is None:
        return Finding("value", f"{at(path)}its numbers are missing")
    if one is None or other is None or type(want) is bool:
        if type(got) is type(want) and got == want:
            return None
        if want is True and path.startswith("['"):  # a property, under its name
            return Finding("value", f"not so: {path[2:-2]}")
        return Finding("value", at(path)[:-2], numbers=f"expected {want!r}, got {got!r}")
    wrong = rule.wrong(got, want)
    if not wrong.any():
        return None
    what, numbers, evidence = describe_error(one, other, wrong)
    return Finding("value", at(path) + what, (), evidence, numbers)


def _gradient(rule: Compared, result: Result, expected: Result) -> Finding | None:
    for path, got, want in _gradient_pairs(result.gradients, expected.gradients):
        got_numbers = np.zeros(want.shape if want else got.shape) if got is None else got.data
        want_numbers = np.zeros(got_numbers.shape) if want is None else want.data
        if got_numbers is None or got_numbers.shape != want_numbers.shape:
            return Finding("gradient", f"the gradient with respect to {path} has another shape")
        bad = ~np.isfinite(got_numbers) & np.isfinite(want_numbers)
        if bad.any():
            what = f"the gradient with respect to {path} is no number in {int(bad.sum())} of {bad.size} entries"
            return Finding("gradient", f"right values, but {what}", _ABOUT_BRANCHES)
        dtype = (want or got).dtype
        wrong = differs(got_numbers, want_numbers, rule.allowed(want_numbers, dtype, looser=10.0))
        if wrong.any():
            what, numbers, evidence = describe_error(got_numbers, want_numbers, wrong)
            what = f"right values, but the gradient with respect to {path} is wrong: {what}"
            return Finding("gradient", what, (), evidence, numbers)
    return None


_ABOUT_BRANCHES = (
    "On the way something infinite is multiplied by 0: an exp or a logarithm at its end, even in the branch that a "
    "`torch.where` or a clamp leaves out.",
)


def _changed(result: Result, expected: Result, before: dict) -> Finding | None:
    """What an answer did to what it was handed, and to PyTorch's settings, beside giving its result."""
    after = result.after if isinstance(result.after, dict) else {}
    for key, (what, advice) in _SIDE_EFFECTS.items():
        names = [name for name, was in before.items() if key in was and _differs_in(key, was, after.get(name))]
        names = [name for name in names if not _differs_in(key, before[name], expected.after[name])]
        if names:
            return Finding("in place", what.format(" and ".join(names)), (advice,))
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


def alike(rule: Compared, one: Result, other: Result, stage: str) -> bool:
    """Whether two results agree; an answer that makes a mistake may differ from its model in what isn't at issue."""
    if one.status != RETURNED:
        return False
    pairs: list = []
    if structure(one.output, other.output, "", pairs):
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


def at(path: str) -> str:
    """Where it is, for a message. What a probe has named goes by its name: `losses[6]`, not `output['losses'][6]`."""
    if path.startswith("['"):
        name, _, rest = path[2:].partition("']")
        return f"{name}{rest}: "
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
