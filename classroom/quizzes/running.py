"""The student's side of a quiz: call an answer on the cases and write down what came out, as plain data.

Nothing here knows a right answer. `run` works in the notebook's kernel, `wire` does the same in another process.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import linecache
import math
import random
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .declarations import Case, Fixture, plain_defaults
from .forbidding import out_of_reach
from .raw import LARGEST_OUTPUT, LONGEST_TEXT, all_plain, tensors, to_raw
from .states import state

RETURNED, RAISED, NOT_ATTEMPTED = "returned", "raised", "not attempted"


# -------------------------------------------------------------------------------------------------------------- results


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
    if case.gradients and all_plain(raw):
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


class _Elsewhere(torch.Generator):
    """A generator as one meets it on another device: it says so. (What is drawn there has no numbers.)"""

    device = property(lambda self: torch.device("meta"))


def _moved(value: Any, device: str) -> Any:
    """The same on another device: tensors, networks, and objects that hold tensors, whatever these check when made."""
    if isinstance(value, torch.Tensor | torch.nn.Module):
        return value.to(device)
    if type(value) in (tuple, list):
        return type(value)(_moved(item, device) for item in value)
    if type(value) is dict:
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, torch.Generator):
        return _Elsewhere().set_state(value.get_state())
    if not hasattr(value, "__dict__") or callable(value):
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
    flat = [leaf for leaf in tensors(output) if torch.is_floating_point(leaf) and leaf.requires_grad]
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
