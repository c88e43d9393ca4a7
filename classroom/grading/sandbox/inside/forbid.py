"""Make functions of the library useless while an answer runs that would only have to call them."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any, NoReturn


def forbid(dotted: str) -> None:
    """Make a function of the library useless, under whatever names it is known: its very code is exchanged.

    Of a class, all methods.  Raises LookupError if there is no such function.
    """
    found = list(_functions(_resolve(dotted), set()))
    if not found:
        raise LookupError(f"expected a function to forbid, found none at {dotted}")
    for function in found:
        own = function.__code__
        function.__code__ = _REFUSING.replace(
            co_freevars=own.co_freevars, co_name=own.co_name, co_qualname=own.co_qualname, co_filename=own.co_filename
        )


def _refusing(*args: Any, **kwargs: Any) -> NoReturn:
    raise RuntimeError("this is the function that the quiz asks for: write it yourself")


_REFUSING = _refusing.__code__


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
