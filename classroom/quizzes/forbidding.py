"""Functions of the library out of reach while an answer runs that would only have to call them.

Their very code is exchanged, so that no other name, wrapper or reference leads around it. `check` does it for as long
as an answer runs, the grader for good in the process of a question: what passes in the one passes in the other.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import inspect
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

REFUSAL = "this is the function that the quiz asks for: write it yourself"  # what they then raise, word for word


@contextlib.contextmanager
def out_of_reach(functions: Iterable[Any]) -> Iterator[None]:
    """Inside, these functions, given as such or by dotted names, raise RuntimeError; afterwards they are as before.

    Raises LookupError if there is no such function.
    """
    taken: list[tuple[types.FunctionType, types.CodeType]] = []
    try:
        for each in functions:
            for function in _found(each):
                taken.append((function, function.__code__))
                _refuse(function)
        yield
    finally:
        for function, code in reversed(taken):
            function.__code__ = code


def forbid(dotted: str) -> None:
    """Make a function of the library useless for good, of a class all methods; nothing of its code stays in memory.

    Raises LookupError if there is no such function.
    """
    for function in _found(dotted):
        code = function.__code__
        _refuse(function)
        _scrub(code)


def _refuse(function: types.FunctionType) -> None:
    own = function.__code__
    function.__code__ = _REFUSING.replace(
        co_freevars=own.co_freevars, co_name=own.co_name, co_qualname=own.co_qualname, co_filename=own.co_filename
    )


def _refusing(*args: Any, **kwargs: Any) -> NoReturn:
    raise RuntimeError("this is the function that the quiz asks for: write it yourself")  # no name is known in there


_REFUSING = inspect.unwrap(_refusing).__code__  # not that of a checker of types which may have been put around it


def _scrub(code: types.CodeType, held_by: int = 3) -> None:
    """Overwrite the instructions of code that nobody else holds; a decorator's inner function is shared by many.

    held_by: how many hold it while we look: the caller, this function, and `getrefcount` itself.
    """
    if sys.getrefcount(code) > held_by:
        return
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            _scrub(each, held_by + 1)  # one more holds it: the tuple of constants
    size = ctypes.sizeof(ctypes.c_ssize_t)
    count = ctypes.c_ssize_t.from_address(id(code) + 2 * size).value  # behind its references and its type
    ctypes.memset(id(code) + types.CodeType.__basicsize__, 0, count * types.CodeType.__itemsize__)


def _found(what: Any) -> list[types.FunctionType]:
    found = list(_functions(_resolve(what) if isinstance(what, str) else what, set()))
    if not found:
        raise LookupError(f"expected a function to forbid, found none at {what}")
    return found


def _resolve(dotted: str) -> Any:
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        found = sys.modules.get(".".join(parts[:count]))
        if found is not None:
            for part in parts[count:]:
                found = inspect.getattr_static(found, part, None)
            return found
    return None


def _functions(found: Any, seen: set[int]) -> Iterator[types.FunctionType]:
    """The functions written in Python that something is made of: wrapped ones, methods, both halves of a property."""
    if found is None or id(found) in seen:
        return
    seen.add(id(found))
    if isinstance(found, types.FunctionType):
        yield found
    inner = [getattr(found, "__wrapped__", None)]
    if isinstance(found, staticmethod | classmethod | types.MethodType):
        inner.append(found.__func__)
    elif isinstance(found, property):
        inner += [found.fget, found.fset]
    elif isinstance(found, functools.partial):
        inner.append(found.func)
    elif isinstance(found, type):
        inner += [value for value in vars(found).values() if _is_code(value)]
    if hasattr(found, "cache_clear"):
        found.cache_clear()
    for each in inner:
        yield from _functions(each, seen)


def _is_code(value: Any) -> bool:
    return isinstance(value, types.FunctionType | staticmethod | classmethod | property)
