"""The one reader of cells: from what a student typed to Python's tree of it. Nothing is run.

A notebook takes more than Python does (`magics`), and says more about where it fails: in words, with the line.
"""

from __future__ import annotations

import ast
import re
import sys
import warnings
from dataclasses import dataclass
from functools import cached_property

from ..statements import bound
from .magics import as_python, visible

MOST_SOURCE = 100_000  # characters in one cell

# What Python has learned since 3.11, as far as one line shows it: (its version, what it looks like).
_NEWER = [
    ((3, 12), re.compile(r"[ \t]*(type[ \t]+\w+[ \t]*(\[.*\])?[ \t]*=|(async[ \t]+)?(def|class)[ \t]+\w+[ \t]*\[)")),
    ((3, 14), re.compile(r".*(?<![\w'\"])(t|tr|rt)['\"]|[ \t]*except\*?[ \t]+[\w.]+[ \t]*,[ \t]*[\w.]+[ \t]*:", re.I)),
    ((3, 12), re.compile(r".*(?<![\w'\"])(f|fr|rf)(['\"]).*\{[^}]*(\2|\\)", re.I)),
]


@dataclass(frozen=True)
class Code:
    """What somebody typed into a cell, read when it is first asked for, and once.

    >>> Code("files = !ls").source
    'files = []'
    >>> Code("def (").tree is None
    True
    """

    text: str

    @cached_property
    def _read(self) -> tuple[str, ast.Module | None, str]:
        return _read(self.text)

    @property
    def source(self) -> str:
        """The text as Python takes it, line for line; where it cannot be made Python, as near as it comes."""
        return self._read[0]

    @property
    def tree(self) -> ast.Module | None:
        """Its tree, None where it is no Python."""
        return self._read[1]

    @property
    def trouble(self) -> str:
        """Why it is no Python, "" where it is: "the cell has a syntax error in line 3: …"."""
        return self._read[2]

    @cached_property
    def dump(self) -> str:
        """The same for texts that differ only in comments and blanks; "" where it is no Python."""
        try:
            return ast.dump(self.tree) if self.tree else ""
        except RecursionError:
            return ""

    @cached_property
    def bindings(self) -> dict[str, list[ast.stmt]]:
        """Name -> the statements at its top level that bind or change it."""
        found: dict[str, list[ast.stmt]] = {}
        for node in self.tree.body if self.tree else ():
            for name in bound(node):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def functions(self) -> frozenset[str]:
        """Functions and classes that it defines, within if, try and with too; lambdas are functions."""
        names: set[str] = set()
        waiting = list(self.tree.body) if self.tree else []
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                names |= bound(node) if isinstance(node.value, ast.Lambda) else set()
            else:
                waiting += [
                    each for name in ("body", "orelse", "finalbody") for each in getattr(node, name, None) or ()
                ]
                waiting += [
                    each for part in ("handlers", "cases") for one in getattr(node, part, ()) for each in one.body
                ]
        return frozenset(names)


def about_version(code: Code, written_for: tuple[int, ...]) -> str:
    """What a newer Python has to do with a cell that is no Python here, "" if nothing.

    written_for: the notebook's own Python, () where it does not say.
    """
    line = _line_of_trouble(code)
    needed = next((version for version, look in _NEWER if look.match(line)), ())
    here, own = sys.version_info[:2], written_for[:2]
    if needed <= here and own <= here:
        return ""
    if needed > here:
        version = own if own >= needed else needed
        return f"written for Python {_dotted(version)}, and this grader runs {_dotted(here)}: grade it with a newer one"
    return f"written for Python {_dotted(own)}, and this grader runs {_dotted(here)}: if it runs there, grade it there"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _line_of_trouble(code: Code) -> str:
    found = re.search(r"in line (\d+)", code.trouble)
    lines = code.source.split("\n")
    return lines[min(int(found[1]), len(lines)) - 1][:400] if found else ""


def _read(text: str) -> tuple[str, ast.Module | None, str]:
    tree, first = _tree(text)
    if tree is not None:
        return text, tree, ""
    plain = as_python(text)
    for source in (plain, as_python(visible(text))):
        if source != text:
            tree, _ = _tree(source)
            if tree is not None:
                return source, tree, ""
    return plain, None, first if plain == text else _tree(plain)[1]


def _tree(source: str) -> tuple[ast.Module | None, str]:
    """The tree, or why there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "\d" in somebody's docstring is no news for the instructor
        try:
            return ast.parse(source), ""
        except SyntaxError as error:
            return None, _trouble(error)
        except (ValueError, RecursionError, MemoryError):  # nested far too deeply, mostly
            return None, "the cell cannot be read as Python: it is nested too deeply"


def _trouble(error: SyntaxError) -> str:
    where = f"the cell has a syntax error in line {error.lineno or '?'}"
    curly = re.match(r"invalid character '([“”„‘’‚«»′″])'", error.msg)
    if curly:
        return f"{where}: {curly[1]} is no quotation mark of Python's, which are straight: ' or \""
    return f"{where}: {error.msg}"
