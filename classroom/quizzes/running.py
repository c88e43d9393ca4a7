"""The student's side of a quiz: call an answer on the cases and write down what came out, as plain data.

Nothing here knows a right answer. `run` works in the notebook's kernel; `answer_wire` does the same in another process,
where bytes come in and bytes go out (JSON and raw arrays, nothing pickled), so that the judge can sit outside.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import io
import json
import linecache
import math
import random
import struct
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .declarations import Case, Fixture, plain_defaults
from .forbidding import out_of_reach

LARGEST_OUTPUT = 5_000_000  # elements of one array that are kept; of a larger one, only shape and type
LARGEST_JSON = 300_000  # bytes of JSON that are read from a process which nobody trusts: a fifth of a second
MOST_LEAVES = 10_000  # values in one nested output
DEEPEST = 20  # levels of nesting
LONGEST_TEXT = 2_000  # characters kept of a string, a message, or what was printed

RETURNED, RAISED, NOT_ATTEMPTED = "returned", "raised", "not attempted"


# -------------------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True)
class Array:
    """A tensor as it came out: what it was, and its numbers as float64, int64, bool or complex128.

    data is None where the tensor was too large to keep.
    """

    dtype: str
    shape: tuple[int, ...]
    device: str
    data: np.ndarray | None


@dataclass(frozen=True)
class Unsupported:
    """Anything that is not a tensor, a number, text, None, or a tuple, list or dict of these: its type's name."""

    kind: str
    detail: str = ""


@dataclass(frozen=True)
class Trouble:
    """An exception: type, message, and the last line of the student's own code that it went through (0: none known)."""

    kind: str
    message: str
    line: int = 0
    code: str = ""
    call: bool = False  # it did not even accept the arguments


@dataclass(frozen=True)
class Result:
    """What one case gave: `status`, and then `output` or `trouble`.

    gradients: name -> Array, or None where no gradient flows, or for a fixture a dict of these by parameter name;
    gradient_trouble: why the gradients could not be had;  after: what became of the arguments, name -> `state`, and of
    PyTorch's own settings, under "";  printed: what the answer wrote to stdout and stderr.
    """

    status: str
    output: Any = None
    gradients: Any = field(default_factory=dict)
    trouble: Trouble | None = None
    gradient_trouble: Trouble | None = None
    after: Any = field(default_factory=dict)
    printed: str = ""


# ------------------------------------------------------------------------------------------------------------------ run


def run(
    answer: Any, cases: Sequence[Case], probe: Callable | None = None, forbidden: Sequence[Any] = ()
) -> list[Result]:
    """Call `answer` on every case and report each as a Result; nothing that it does gets out.

    Inputs are copies, fixtures are rebuilt, and the global seed is the same for a given case, so that answers that draw
    random numbers in the same order agree. Random states, gradient mode and defaults are restored afterwards.
    probe: called as `probe(answer, **args)` in place of the answer itself;  forbidden: functions, as such or by their
    dotted names, that are out of reach meanwhile.
    KeyboardInterrupt passes through; every other exception, SystemExit included, becomes part of the result.
    """
    with out_of_reach(forbidden):
        return [run_case(answer, case, index, probe) for index, case in enumerate(cases)]


def run_case(answer: Any, case: Case, index: int, probe: Callable | None = None) -> Result:
    """The result of one case, the one with this index."""
    with _everything_restored():
        return _run_case(answer, case, probe, seed=index)


def _run_case(answer: Any, case: Case, probe: Callable | None, seed: int) -> Result:
    args, leaves, modules = _inputs(case)
    printed = _Bounded()
    torch.default_generator.manual_seed(seed)  # `torch.manual_seed` asks every kind of device, slowly
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            output = probe(_as_called(answer, args), **args) if probe else _call(answer, args)
    except KeyboardInterrupt:
        raise
    except NotImplementedError as error:
        if _refused_by_torch(error):
            return Result(RAISED, trouble=_trouble(error), printed=printed.text)
        return Result(NOT_ATTEMPTED, trouble=_trouble(error), printed=printed.text)
    except BaseException as error:  # SystemExit too: a cell that calls exit() must not end the notebook's kernel
        return Result(RAISED, trouble=_trouble(error), printed=printed.text)
    if inspect.iscoroutine(output):
        output.close()  # else Python complains on stderr that nobody awaited it
    if output is None or output is Ellipsis or output is NotImplemented:
        return Result(NOT_ATTEMPTED, output=to_raw(output), printed=printed.text)
    try:
        after = _states(args, leaves)
        raw = to_raw(output)
    except Exception as error:  # an output so odd that it can't even be looked at
        return Result(RAISED, trouble=_trouble(error), printed=printed.text)
    gradients, trouble = {}, None
    if case.gradients and _all_plain(raw):
        try:
            torch.set_grad_enabled(True)
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                gradients = _gradients(output, leaves, modules)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            trouble = _trouble(error)
    return Result(RETURNED, raw, gradients, None, trouble, after, printed.text)


def states_before(case: Case) -> dict:
    """What `Result.after` is for an answer that changes nothing."""
    with _everything_restored():
        args, leaves, _ = _inputs(case)
        return _states(args, leaves)


def _states(args: Mapping[str, Any], leaves: Mapping[str, torch.Tensor]) -> dict:
    """What can be seen of the arguments, and of what else a call may leave behind."""
    found = {name: state(value) for name, value in args.items()}
    for name, leaf in leaves.items():
        found[name]["has gradients"] = leaf.grad is not None
    return found | {"": {"gradients are recorded": torch.is_grad_enabled(), "dtype": str(torch.get_default_dtype())}}


def state(value: Any) -> dict:
    """What can be seen of an argument from outside, in a few plain words: two that are equal have not been changed.

    >>> x = torch.ones(2)
    >>> state(x) == state(x.clone()), state(x) == state(2 * x)
    (True, False)
    """
    found: dict[str, Any] = {"values": _digest(value), "has gradients": False, "wants gradients": [], "training": []}
    for tensor in value.parameters() if isinstance(value, torch.nn.Module) else [value]:
        if type(tensor) in (torch.Tensor, torch.nn.Parameter):
            found["wants gradients"].append(tensor.requires_grad)
            found["has gradients"] |= tensor.is_leaf and tensor.grad is not None
    if isinstance(value, torch.nn.Module):
        found["training"] = [module.training for module in value.modules()]
    return found


def _digest(value: Any) -> str:
    """Changes with every number in it: of a network its weights and buffers, of an object the tensors that it holds."""
    digest = hashlib.sha256()
    for leaf in _leaves(_parts(value)):
        digest.update(_bytes_of(leaf) if isinstance(leaf, torch.Tensor) else repr(leaf)[:LONGEST_TEXT].encode())
    return digest.hexdigest()[:16]


def _parts(value: Any) -> Any:
    if isinstance(value, torch.nn.Module):
        return dict(value.state_dict())
    if isinstance(value, torch.Tensor) or not hasattr(value, "__dict__"):
        return value
    return None if callable(value) else vars(value)


def _bytes_of(tensor: torch.Tensor) -> bytes:
    about = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    if tensor.is_meta or tensor.layout is not torch.strided or not tensor.numel():
        return about
    return about + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _leaves(value: Any) -> Iterator[Any]:
    if type(value) in (tuple, list, dict):
        yield len(value)
        for item in value.values() if type(value) is dict else value:
            yield from _leaves(item)
    elif isinstance(value, torch.Tensor) or type(value) in (bool, int, float, str):
        yield value


def _inputs(case: Case) -> tuple[dict, dict, dict]:
    """Fresh arguments, and of those whose gradients are wanted the leaf tensors and the modules, all by name."""
    args, leaves, modules = {}, {}, {}
    if case.device:
        return {name: _moved(_copy(value), case.device) for name, value in case.args.items()}, leaves, modules
    for name, value in case.args.items():
        if name in case.gradients and isinstance(value, torch.Tensor):
            leaves[name] = value.detach().clone().requires_grad_()
            args[name] = leaves[name].clone()  # not a leaf: writing into it is noticed by us, not refused by autograd
        else:
            args[name] = _copy(value)
            if name in case.gradients:
                modules[name] = args[name]
    return args, leaves, modules


def _copy(value: Any) -> Any:
    if isinstance(value, Fixture):
        return value.build()
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if type(value) in (tuple, list):
        return type(value)(map(_copy, value))
    if type(value) is dict:
        return {key: _copy(item) for key, item in value.items()}
    return value


def _moved(value: Any, device: str) -> Any:
    """The same on another device: tensors, networks, and objects that hold tensors, whatever these check when made."""
    if isinstance(value, torch.Tensor | torch.nn.Module):
        return value.to(device)
    if type(value) in (tuple, list):
        return type(value)(_moved(item, device) for item in value)
    if type(value) is dict:
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, torch.Generator) or not hasattr(value, "__dict__") or callable(value):
        return value
    moved = copy.copy(value)
    for key, held in vars(value).items():
        object.__setattr__(moved, key, _moved(held, device))
    return moved


class _DoesNotFit(TypeError):
    """The answer does not take the arguments of the quiz."""


def _call(answer: Any, args: Mapping[str, Any]) -> Any:
    """By position, so that a student may rename parameters; by name where the answer insists on names."""
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):
        return answer(*args.values())
    named = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name in args
    }
    positional = [value for name, value in args.items() if name not in named]
    keywords = {name: args[name] for name in args if name in named}
    try:
        signature.bind(*positional, **keywords)
    except TypeError:
        takes = ", ".join(str(parameter) for parameter in signature.parameters.values())
        raise _DoesNotFit(f"it is called with ({', '.join(args)}) but takes ({takes})") from None
    return answer(*positional, **keywords)


def _as_called(answer: Any, args: Mapping[str, Any]) -> Callable:
    """The answer as probes call it: by the quiz's names or in its order, whatever the student calls her parameters."""

    def call(*given: Any, **named: Any) -> Any:
        values = dict(zip(args, given)) | named
        return _call(answer, {name: values[name] for name in args if name in values})

    return call


def _gradients(output: Any, leaves: Mapping[str, Any], modules: Mapping[str, Any]) -> dict:
    """Gradients of sum(output × fixed weights), by argument; None where no gradient flows."""
    flat = [leaf for leaf in _tensors(output) if torch.is_floating_point(leaf) and leaf.requires_grad]
    if sum(leaf.numel() for leaf in flat) > LARGEST_OUTPUT:
        flat = []  # its shape is wrong, which is said first
    total = sum((leaf.double() * _fixed_weights(leaf.shape)).sum() for leaf in flat)
    targets = dict(leaves)
    for name, module in modules.items():
        targets |= {f"{name}.{key}": parameter for key, parameter in module.named_parameters()}
    wanted = [tensor for tensor in targets.values() if tensor.requires_grad]
    found: dict[int, Any] = {}
    if flat and wanted:
        values = torch.autograd.grad(total, wanted, allow_unused=True)
        found = {id(tensor): value for tensor, value in zip(wanted, values)}
    each = {name: _raw_gradient(found.get(id(tensor))) for name, tensor in targets.items()}
    by_module = {
        name: {key: each[f"{name}.{key}"] for key, _ in module.named_parameters()} for name, module in modules.items()
    }
    return {name: each[name] for name in leaves} | by_module


def _raw_gradient(value: torch.Tensor | None) -> Any:
    return None if value is None else to_raw(value)


def _fixed_weights(shape: Sequence[int]) -> torch.Tensor:
    """Weights that depend on the shape alone and differ from entry to entry, so that errors do not cancel."""
    count = math.prod(shape)
    return (1 + torch.sin(1.7 * torch.arange(count, dtype=torch.float64) + 0.3) / 2).reshape(tuple(shape))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if type(value) is torch.Tensor:
        yield value
    elif type(value) is list or _is_tuple(type(value)):
        for item in value if type(value) is list else tuple.__iter__(value):
            yield from _tensors(item)
    elif type(value) is dict:
        for item in value.values():
            yield from _tensors(item)


# ------------------------------------------------------------------------------------------------------------- raw data


def to_raw(value: Any) -> Any:
    """An output as plain data: Array, numbers, text, None, tuples, lists and dicts of these, or Unsupported.

    Types are taken exactly (a subclass of a tensor or of float could answer any comparison as it likes), and no method
    of the value's own is called.

    >>> to_raw((torch.tensor([1.0, 2.0]), 3))[0].shape
    (2,)
    >>> to_raw(object())
    Unsupported(kind='object', detail='')
    """
    return _to_raw(value, [MOST_LEAVES], 0)


def _to_raw(value: Any, left: list[int], depth: int) -> Any:
    left[0] -= 1
    kind = type(value)
    if _is_tuple(kind):
        value, kind = tuple(tuple.__iter__(value)), tuple
    if left[0] < 0 or depth > DEEPEST:
        return Unsupported("too much", "more nested values than any answer needs")
    if kind is torch.Tensor:
        return _array(value)
    if kind is int and value.bit_length() > 1_000:
        return Unsupported("int", "a number of more than 300 digits")
    if kind is str:
        return value[:LONGEST_TEXT]
    if value is None or kind in (bool, int, float):
        return value
    if kind in (tuple, list, dict) and len(value) > left[0]:
        left[0] = 0
        return Unsupported("too much", "more values than any answer needs")
    if kind in (tuple, list):
        return kind(_to_raw(item, left, depth + 1) for item in value)
    if kind is dict:
        return {
            str(key)[:100] if type(key) in (str, int) else "?": _to_raw(v, left, depth + 1) for key, v in value.items()
        }
    return Unsupported("Ellipsis" if value is Ellipsis else kind.__name__[:100])


def _is_tuple(kind: type) -> bool:
    """Whether it is a tuple by nature: itself, a `torch.Size`, or a NamedTuple such as the library's own results."""
    return kind in (tuple, torch.Size) or (kind.__bases__ == (tuple,) and "_fields" in vars(kind))


def _array(tensor: torch.Tensor) -> Any:
    with torch.no_grad():
        if torch.Tensor.__getattribute__(tensor, "layout") is not torch.strided:
            return Unsupported("Tensor", "a sparse tensor")
        if tensor.is_nested or tensor.is_quantized:
            return Unsupported("Tensor", "a nested tensor" if tensor.is_nested else "a quantized tensor")
        shape = tuple(torch.Tensor.size(tensor))
        dtype = str(tensor.dtype).removeprefix("torch.")
        device = tensor.device.type
        data = None
        if math.prod(shape) <= LARGEST_OUTPUT and device != "meta":
            plain = torch.Tensor.cpu(torch.Tensor.detach(tensor)).resolve_conj().resolve_neg()
            data = np.array(torch.Tensor.to(plain, _wide(plain)).numpy())
    return Array(dtype, shape, device, data)


def _wide(tensor: torch.Tensor) -> torch.dtype:
    if torch.is_floating_point(tensor):
        return torch.float64
    if torch.is_complex(tensor):
        return torch.complex128
    return torch.bool if tensor.dtype == torch.bool else torch.int64


def _all_plain(raw: Any) -> bool:
    """Whether there is nothing in it that no answer may hold, such as a list of a million entries."""
    if isinstance(raw, tuple | list):
        return all(map(_all_plain, raw))
    if isinstance(raw, dict):
        return all(map(_all_plain, raw.values()))
    return not isinstance(raw, Unsupported)


# ----------------------------------------------------------------------------------------------------------- exceptions


def _trouble(error: BaseException) -> Trouble:
    try:
        message = str(error)
    except Exception:  # an exception may be as broken as the code that raised it
        message = "(its message could not be read)"
    if isinstance(error, _DoesNotFit):
        return Trouble("TypeError", message, call=True)
    line, code = _own_line(error)
    return Trouble(type(error).__name__[:100], message[:LONGEST_TEXT], line, code)


def _own_line(error: BaseException) -> tuple[int, str]:
    """Number and text of the last line outside installed packages and this library that the exception passed."""
    if isinstance(error, SyntaxError):
        return error.lineno or 0, (error.text or "").strip()[:200]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not _installed(frame.filename):
            return frame.lineno or 0, (linecache.getline(frame.filename, frame.lineno or 0)).strip()[:200]
    return 0, ""


_COURSE = Path(__file__).resolve().parents[2]
_NOT_THE_STUDENTS = (str(_COURSE / "classroom"), str(_COURSE / "course_utils"), sysconfig.get_paths()["stdlib"])
_NOT_THE_STUDENTS += ("<frozen", "<@beartype", "<above ", "supplied/")  # from other cells, lent by the course


def _installed(filename: str) -> bool:
    return "site-packages" in filename or filename.startswith(_NOT_THE_STUDENTS)


def _refused_by_torch(error: NotImplementedError) -> bool:
    """Whether torch refused an operation (it raises NotImplementedError too), rather than a stub saying "not yet"."""
    message = str(error)
    return "aten::" in message or 'missing the required "forward"' in message or "not implemented for '" in message


class _Bounded(io.TextIOBase):
    """Takes everything that is written and keeps the beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if len(self.text) < LONGEST_TEXT:
            self.text += text[: LONGEST_TEXT - len(self.text)]
        return len(text)


@contextlib.contextmanager
def _everything_restored() -> Iterator[None]:
    """Random states, gradient mode, defaults, threads and warning filters are what they were, afterwards."""
    python, numpy_, torch_ = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
    try:
        with plain_defaults(), warnings.catch_warnings(), torch.inference_mode(False):
            torch.set_grad_enabled(True)
            # The cases are tiny: threads that wait for each other made a check 30 times slower.
            torch.set_num_threads(1)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_)
        torch.set_rng_state(torch_)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        torch.set_grad_enabled(grad)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


# ----------------------------------------------------------------------------------------------------------------- wire

MAGIC = b"quiz1\n"
_DATACLASSES = {kind.__name__: kind for kind in (Case, Result, Trouble, Unsupported)}
_TORCH_TYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
    + (torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128)
}
_NUMPY_TYPES = ("float64", "int64", "bool", "complex128")


def to_wire(value: Any) -> bytes:
    """Values, cases and results as bytes: a length, JSON, then the arrays one after another. Nothing is pickled.

    >>> from_wire(to_wire((1, 2.5, None, "x", [float("inf")])))
    (1, 2.5, None, 'x', [inf])
    """
    blobs: list[bytes] = []
    text = json.dumps(_pack(value, blobs), allow_nan=False).encode()
    return MAGIC + struct.pack("<Q", len(text)) + text + b"".join(blobs)


def from_wire(data: bytes) -> Any:
    """The value that `to_wire` packed.  Raises ValueError for anything that is not complete and consistent."""
    head = len(MAGIC) + 8
    if len(data) < head or data[: len(MAGIC)] != MAGIC:
        raise ValueError("expected data from to_wire, got something else")
    (length,) = struct.unpack("<Q", data[len(MAGIC) : head])
    if length > LARGEST_JSON:
        raise ValueError(f"expected at most {LARGEST_JSON:,} bytes of JSON from to_wire, got {length:,}")
    try:
        tree = json.loads(data[head : head + length])
        value, end = _unpack(tree, memoryview(data)[head + length :], 0, 0)
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError, ValueError) as error:
        raise ValueError(f"expected complete data from to_wire, got damaged ones ({type(error).__name__})") from None
    if head + length + end != len(data):
        raise ValueError("expected data from to_wire, got damaged ones (wrong length)")
    return value


def request_wire(case: Case, index: int, probe: str | None = None, planted: bool = False) -> bytes:
    """What `answer_wire` takes; probe is the name under which the quiz's probe is registered, if it has one.

    planted: `plant` is to run in the answer's place.
    """
    return to_wire({"case": case, "index": index, "probe": probe, "planted": planted})


def answer_wire(answer: Any, request: bytes) -> bytes:
    """Run an answer on one case where it may do no harm: what `request_wire` made comes in, a result goes out."""
    asked = from_wire(request)
    probe = Fixture(asked["probe"]).build() if asked["probe"] else None
    return to_wire(run_case(plant if asked["planted"] else answer, asked["case"], asked["index"], probe))


def plant(*given: Any, **named: Any) -> list:
    """No answer to anything: it changes the tensors that it is handed, and gives them back.

    The grader has it run among an answer's cases and knows what comes of that: where something else is reported, the
    answer's own code has laid hands on what reports.
    """
    tensors = [each for each in _tensors([*given, *named.values()]) if each.is_floating_point()]
    with torch.no_grad():
        return [each.mul_(3).clone() for each in tensors]


def as_reported(result: Result) -> bytes:
    """A result without where it stopped, in which two processes may differ: what else they report is the same."""
    return to_wire(replace(result, trouble=None, gradient_trouble=None))


def results_from_wire(pieces: Sequence[bytes], count: int) -> list[Result]:
    """The results of `count` cases that came from a process which nobody trusts.

    Raises ValueError unless they are complete, as many as expected, and of the types that `run` gives.
    """
    results = [from_wire(data) for data in pieces]
    if len(results) != count or not all(map(_well_formed, results)):
        raise ValueError(f"expected the results of {count} cases, got something else")
    return results


def _well_formed(result: Any) -> bool:
    if type(result) is not Result or result.status not in (RETURNED, RAISED, NOT_ATTEMPTED):
        return False
    plain = type(result.printed) is str and type(result.after) is dict
    return plain and _is_trouble(result.trouble) and _is_trouble(result.gradient_trouble) and _is_gradients(result)


def _is_trouble(trouble: Any) -> bool:
    if trouble is None:
        return True
    texts = type(trouble) is Trouble and {type(trouble.kind), type(trouble.message), type(trouble.code)} == {str}
    return texts and type(trouble.line) is int and type(trouble.call) is bool


def _is_gradients(result: Result) -> bool:
    if type(result.gradients) is not dict:
        return False
    inner = [v for value in result.gradients.values() for v in (value.values() if type(value) is dict else [value])]
    return all(value is None or type(value) is Array for value in inner)


def _pack(value: Any, blobs: list[bytes]) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"k": "float", "v": repr(value)}
    if kind is list:
        return [_pack(item, blobs) for item in value]
    if kind is tuple:
        return {"k": "tuple", "v": [_pack(item, blobs) for item in value]}
    if kind is dict:
        return {"k": "dict", "v": [[key, _pack(item, blobs)] for key, item in value.items()]}
    if kind is Fixture:
        return {"k": "Fixture", "name": value.name, "settings": _pack(value.settings, blobs)}
    if kind is torch.Tensor:
        plain = value.detach().cpu().contiguous()
        blobs.append(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
        return {"k": "tensor", "dtype": str(plain.dtype).removeprefix("torch."), "shape": list(plain.shape)}
    if kind is Array:
        blobs.append(b"" if value.data is None else np.ascontiguousarray(value.data).tobytes())
        stored = None if value.data is None else value.data.dtype.name
        return {"k": "Array", "dtype": value.dtype, "shape": list(value.shape), "device": value.device, "as": stored}
    if kind in _DATACLASSES.values():
        return {"k": kind.__name__, "v": {f.name: _pack(getattr(value, f.name), blobs) for f in fields(kind)}}
    raise TypeError(f"expected tensors, numbers, text, None, cases or results, got {kind.__name__}")


def _unpack(node: Any, blob: memoryview, at: int, depth: int) -> tuple[Any, int]:
    """The value of a JSON node, and how far into the arrays it has read."""
    if depth > 2 * DEEPEST + 20:
        raise ValueError("too deep")
    if isinstance(node, list):
        items = []
        for item in node:
            value, at = _unpack(item, blob, at, depth + 1)
            items.append(value)
        return items, at
    if not isinstance(node, dict):
        return node, at
    kind = node["k"]
    if kind == "float":
        return float(node["v"]), at
    if kind == "tuple":
        items, at = _unpack(list(node["v"]), blob, at, depth + 1)
        return tuple(items), at
    if kind == "dict":
        keys = [str(key) for key, _ in node["v"]]
        items, at = _unpack([item for _, item in node["v"]], blob, at, depth + 1)
        return dict(zip(keys, items)), at
    if kind == "Fixture":
        settings, at = _unpack(node["settings"], blob, at, depth + 1)
        return Fixture(node["name"], **settings), at
    if kind in ("tensor", "Array"):
        return _unpack_array(node, blob, at)
    values = {}
    for name, item in node["v"].items():
        values[name], at = _unpack(item, blob, at, depth + 1)
    return _DATACLASSES[kind](**values), at


def _unpack_array(node: dict, blob: memoryview, at: int) -> tuple[Any, int]:
    shape = tuple(node["shape"])
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("shape")
    if node["k"] == "tensor":
        dtype = _TORCH_TYPES[node["dtype"]]
        raw, end = _take(blob, at, math.prod(shape) * dtype.itemsize)
        flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        return flat.reshape(shape), end
    data, end = None, at
    if node["as"] is not None:
        if node["as"] not in _NUMPY_TYPES:
            raise ValueError("dtype")
        numpy_type = np.dtype(node["as"])
        raw, end = _take(blob, at, math.prod(shape) * numpy_type.itemsize)
        data = np.frombuffer(raw, dtype=numpy_type).reshape(shape)
    return Array(str(node["dtype"]), shape, str(node["device"]), data), end


def _take(blob: memoryview, at: int, size: int) -> tuple[bytearray, int]:
    if at + size > len(blob):
        raise ValueError("too short")
    return bytearray(blob[at : at + size]), at + size
