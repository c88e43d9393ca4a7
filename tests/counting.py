"""How often the cells of a notebook call what a student wrote: `count` stands behind every check in a copy of it."""

from __future__ import annotations

import functools
import inspect
from typing import Any

calls: dict[str, int] = {}  # name -> calls since it was checked


def count(name: str, namespace: dict[str, Any]) -> None:
    """From here on calls of `namespace[name]` are counted; of a class, that objects are made of it.

    >>> double = lambda x: 2 * x
    >>> here = {"double": double}
    >>> count("double", here)
    >>> here["double"](4), calls["double"]
    (8, 1)
    """
    calls[name] = 0
    found = namespace[name]
    if inspect.isclass(found):
        found.__init__ = _counted(name, found.__init__)
    else:
        namespace[name] = _counted(name, found)


def _counted(name: str, function: Any) -> Any:
    @functools.wraps(function)
    def counted(*args, **kwargs):
        calls[name] += 1
        return function(*args, **kwargs)

    return counted
