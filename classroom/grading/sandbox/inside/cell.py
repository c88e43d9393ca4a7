"""Run the source of an answer cell, statement by statement."""

from __future__ import annotations
import __future__ as features

import ast
import functools
import linecache
import signal
from typing import Any, NoReturn

from .protocol import in_one_line


class _TooLong(BaseException):
    """A statement of the cell takes the time that is needed to call the answer."""


def run_cell(source: str, filename: str, namespace: dict, seconds: int | float) -> tuple[str, bool]:
    """Run a cell, one statement after another: one that fails does not take the others with it.

    source: plain Python, magics and the like already replaced (`handed_in.python`).
    After so many seconds, only definitions and imports are still run.
    Returns the first trouble in one line, "" if there was none, and whether the time was used up.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return f"the cell has a syntax error in line {error.lineno or '?'}: {error.msg}", False
    except (ValueError, RecursionError, MemoryError) as error:
        return f"the cell cannot be read as Python: {in_one_line(error)}", False
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    first, late, flags = "", False, 0

    def too_long(*_: Any) -> NoReturn:
        raise _TooLong

    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    for statement in tree.body:
        if late and not isinstance(statement, _QUICK):
            continue
        flags |= _features(statement)
        try:
            code = compile(ast.Module([statement], []), filename, "exec", flags=flags, dont_inherit=True)
            exec(code, namespace)
        except BaseException as error:
            late = late or isinstance(error, _TooLong)
            first = first or f"{in_one_line(error)} (line {statement.lineno} of the cell)"
    signal.setitimer(signal.ITIMER_REAL, 0)
    return first, late


_QUICK = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


def _features(statement: ast.stmt) -> int:
    """Compiler flags of a `from __future__ import`, which hold for the statements after it too."""
    if not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
        return 0
    known = [getattr(features, alias.name, None) for alias in statement.names]
    return functools.reduce(lambda flags, feature: flags | getattr(feature, "compiler_flag", 0), known, 0)
