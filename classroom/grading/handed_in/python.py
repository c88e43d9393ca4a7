"""The one reader of cells: from what a student typed to Python's tree of it. Nothing is run.

A notebook takes more than Python does: magics, shell lines, pasted prompts, an indented cell. IPython's own rules turn
that into calls of `get_ipython()`, which do nothing where answers are run. Lines keep their numbers.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from functools import cached_property

from ..statements import bound

MOST_SOURCE = 100_000  # characters in one cell
# IPython reads a cell anew for each magic in it, and some of its patterns take the square of a line's length.
MOST_MAGICS, MOST_WITH_MAGICS, LONGEST_LINE = 30, 20_000, 2_000

# Cell magics that hand the cell to something else than this Python: then it defines nothing.
_NOT_PYTHON = {"!", "bash", "cmd", "file", "html", "javascript", "js", "latex", "markdown", "perl", "pypy", "python"}
_NOT_PYTHON |= {"python2", "python3", "ruby", "script", "sh", "SVG", "svg", "sx", "system", "writefile"}


@dataclass(frozen=True)
class Code:
    """What somebody typed into a cell, read when it is first asked for, and once.

    >>> Code("files = !ls").source
    "files = get_ipython().getoutput('ls')"
    >>> Code("def (").tree is None
    True
    """

    text: str

    @cached_property
    def _read(self) -> tuple[str, ast.Module | None]:
        return _read(self.text)

    @property
    def source(self) -> str:
        """The text as Python takes it, line for line; where it cannot be made Python, as near as it comes."""
        return self._read[0]

    @property
    def tree(self) -> ast.Module | None:
        """Its tree, None where it is no Python."""
        return self._read[1]

    @cached_property
    def dump(self) -> str:
        """The same for texts that differ only in comments and blanks; "" where it is no Python."""
        try:
            return ast.dump(self.tree) if self.tree else ""
        except RecursionError:
            return ""

    @cached_property
    def functions(self) -> frozenset[str]:
        """Functions and classes that it defines, within if, try and with too; lambdas are functions."""
        return _given(self.tree, loosely=False)

    @cached_property
    def names(self) -> frozenset[str]:
        """Those, what it imports, and what it gives any value but that of `check(...)`, which is none of its own."""
        return _given(self.tree, loosely=True)


def _read(text: str) -> tuple[str, ast.Module | None]:
    tree = _tree(text)
    if tree is not None:
        return text, tree
    source = _without_magics(text)
    return (source, _tree(source)) if source != text else (text, None)


def _tree(source: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "\d" in somebody's docstring is no news for the instructor
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested far too deeply
            return None


# -------------------------------------------------------------------------------------------------------------- IPython


def _without_magics(text: str) -> str:
    """The text after IPython's transformations, as many lines as before; the text itself where they fail."""
    if len(text) > MOST_WITH_MAGICS or any(len(line) > LONGEST_LINE for line in text.split("\n")):
        return text
    from IPython.core.inputtransformer2 import TransformerManager  # takes half a second: only where there is need

    manager = TransformerManager()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lines = _cleaned(manager, _lines(text))
            for _ in range(MOST_MAGICS):
                changed, new = manager.do_one_token_transform(lines)
                if not changed:
                    break
                lines = _as_many(lines, new)
    except Exception:  # it was not made for what hostile hands type
        return text
    return "".join(lines).removesuffix("\n")


def _lines(text: str) -> list[str]:
    """Lines as Python counts them, each with its end."""
    return [f"{line}\n" for line in text.split("\n")]


def _cleaned(manager: object, lines: list[str]) -> list[str]:
    """Without prompts and indentation of the whole cell, and without the line of a cell magic, whose body counts."""
    above: list[str] = []  # as many empty ones as were taken away
    for _ in range(MOST_MAGICS):
        count = len(lines)
        for transform in manager.cleanup_transforms:
            lines = _lines("".join(transform(lines)).removesuffix("\n"))
        above += ["\n"] * (count - len(lines))
        magic = re.match(r"%%(!|\w+)(?!\w*\?)", lines[0]) if lines else None
        if magic is None or magic[1] in _NOT_PYTHON:
            return above + (lines if magic is None else ["\n"] * len(lines))
        above.append("\n")
        lines = lines[1:]
    return above + lines


def _as_many(old: list[str], new: list[str]) -> list[str]:
    """The new lines with empty ones below where several of the old became one."""
    changed = next((i for i, (one, other) in enumerate(zip(old, new)) if one != other), len(new) - 1)
    return [*new[: changed + 1], *["\n"] * (len(old) - len(new)), *new[changed + 1 :]]


# ------------------------------------------------------------------------------------------------ what a cell defines


def _given(tree: ast.Module | None, loosely: bool) -> frozenset[str]:
    names: set[str] = set()
    waiting = list(tree.body) if tree else []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= bound(node) if _counts(node.value, loosely) else set()
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= bound(node) if loosely else set()
        else:
            waiting += [each for field in ("body", "orelse", "finalbody") for each in getattr(node, field, None) or ()]
            waiting += [each for handler in getattr(node, "handlers", ()) for each in handler.body]
    return frozenset(names)


def _counts(value: ast.expr | None, loosely: bool) -> bool:
    checks = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "check"
    return isinstance(value, ast.Lambda) or (loosely and value is not None and not checks)
