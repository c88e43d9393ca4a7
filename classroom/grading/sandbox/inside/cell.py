"""Run the source of an answer cell, statement by statement."""

from __future__ import annotations
import __future__ as features

import ast
import asyncio
import functools
import inspect
import linecache
import re
import signal
from typing import Any, NoReturn

from .protocol import in_one_line


class _TooLong(BaseException):
    """A statement of the cell takes the time that is needed to call the answer."""


def run_cell(
    source: str, filename: str, namespace: dict, seconds: int | float, called: str = "the cell", name: str = ""
) -> tuple[str, bool]:
    """Run a cell, one statement after another: one that fails does not take the others with it, since in here it may
    only lack what a notebook has. A `raise`, which nothing passes in a notebook, ends it if `name` is there by then.

    source: plain Python, magics and the like already replaced (`handed_in.python`);  called: so in messages.
    After so many seconds, only definitions and imports are still run.
    Returns the first trouble in one line, "" if there was none, and whether the time was used up.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return f"{called} has a syntax error in line {error.lineno or '?'}: {error.msg}", False
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{called} cannot be read as Python: {in_one_line(error)}", False
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    first, late, flags = "", False, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | namespace.get(_FEATURES, 0)

    def too_long(*_: Any) -> NoReturn:
        raise _TooLong

    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    for statement in tree.body:
        if late and not isinstance(statement, _QUICK):
            continue
        flags |= _features(statement)
        namespace[_FEATURES] = flags
        try:
            code = compile(ast.Module([statement], []), filename, "exec", flags=flags, dont_inherit=True)
            waiting = eval(code, namespace)
            if inspect.iscoroutine(waiting):  # `await` outside of functions, as notebooks allow it
                asyncio.run(waiting)
        except BaseException as error:
            late = late or isinstance(error, _TooLong)
            first = first or f"{_said(error)} (line {statement.lineno} of {called})"
            if isinstance(statement, ast.Raise) and name in namespace:
                break
    signal.setitimer(signal.ITIMER_REAL, 0)
    return first, late


# What Python says itself about these is the same in every run. Others may hold addresses, times, sets, anything.
_NAMING = (NameError, AttributeError, ImportError, ModuleNotFoundError, SyntaxError)


def _said(error: BaseException) -> str:
    if type(error) not in _NAMING:
        return type(error).__name__[:100]
    return re.sub(r"0x[0-9a-fA-F]+|\d*\.\d{3,}|\d{6,}(\.\d+)?", "…", in_one_line(error))


_FEATURES = " features"  # where a namespace keeps what `from __future__ import` asked for: no code has such a name
_QUICK = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


def _features(statement: ast.stmt) -> int:
    """Compiler flags of a `from __future__ import`, which hold for the statements after it too."""
    if not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
        return 0
    known = [getattr(features, alias.name, None) for alias in statement.names]
    return functools.reduce(lambda flags, feature: flags | getattr(feature, "compiler_flag", 0), known, 0)
