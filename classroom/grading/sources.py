"""What students' code may see of the course, as source text: the library without the answers, and a notebook's
definitions without its answer cells. It is made from the instructor's own files; nothing in it comes from a submission.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from .statements import bound, closure

ROOT = Path(__file__).resolve().parents[2]
# What students' code has business with: the library, and of the machine what a notebook uses.
SHOWN = {"course_utils": None, "classroom": ("__init__.py", "quizzes", "lessons")}
HIDDEN = "__main__.py"  # of either package


def library() -> dict[str, str]:
    """Module name -> source of the course's library, the quizzes' references, cases and wrong answers taken out.

    Probes stay, as do fixtures, since both run beside the answer.
    """
    found = {}
    for path in shown():
        source = path.read_text(encoding="utf-8")
        if path.is_relative_to(ROOT / "classroom" / "lessons"):
            source = without_answers(source, {id: probe for id, probe in declared(source, "probe").items() if probe})
        found[module_name(path)] = source
    return found


def declared(source: str, keyword: str) -> dict[str, str]:
    """Quiz id -> what the declarations in a module of quizzes say under a keyword: a text, or a function's name.

    Read from the text alone, since to import them takes PyTorch.

    >>> declared('quiz("a/b", title="So", probe=_watch)\\nconcept("a/c", title="?")', "probe")
    {'a/b': '_watch', 'a/c': ''}
    """
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    calls = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("quiz", "concept")]
    found = {}
    for call in calls:
        said = next((pair.value for pair in call.keywords if pair.arg == keyword), None)
        found[call.args[0].value] = getattr(said, "id", getattr(said, "value", ""))
    return found


def reader() -> dict[str, str]:
    """Module name -> source of what reads the cells of a notebook, where no answer runs."""
    here = ROOT / "classroom" / "grading"
    paths = [here / "records.py", here / "statements.py", here / "__init__.py", here.parent / "__init__.py"]
    paths += sorted((here / "handed_in").glob("*.py"))
    return {module_name(path): path.read_text(encoding="utf-8") for path in paths}


def module_name(path: Path) -> str:
    """As what a file of the course is imported."""
    return ".".join(part for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__")


def shown() -> list[Path]:
    """The files of the course that students' code may import, in order."""
    found = []
    for package, parts in SHOWN.items():
        for path in sorted((ROOT / package).rglob("*.py")):
            first = path.relative_to(ROOT / package).parts[0]
            if first != HIDDEN and (parts is None or first in parts):
                found.append(path)
    return found


def without_answers(source: str, probes: dict[str, str]) -> str:
    """A module of quizzes with its fixtures and probes, what these need, and nothing else."""
    body = ast.parse(source).body
    roots = [node for node in body if isinstance(node, ast.FunctionDef) and _is_fixture(node)]
    roots += [node for node in body if isinstance(node, ast.FunctionDef) and node.name in probes.values()]
    lines = [ast.unparse(node) for node in closure(body, roots)]
    if probes:
        lines.append("from classroom.quizzes.declarations import fixture, probe_name")
    lines += [f"fixture(probe_name({id!r}))(lambda: {name})" for id, name in probes.items()]
    return "\n".join(lines) + "\n"


def binding(source: str, name: str, as_name: str, package: str) -> str:
    """Source that binds `as_name` to what `name` is in a module of `package`, with all that it needs, run anywhere."""
    body = ast.parse(source).body
    root = next(node for node in body if name in bound(node))
    kept = closure(body, [root])
    used = {leaf.id for node in kept for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
    nodes = [_absolute(_only(node, used), package) for node in kept]
    return "\n".join([*map(ast.unparse, nodes), f"{as_name} = {name}"]) + "\n"


# What a notebook has without defining it, and an answer may mention in passing. `get_ipython` is what magics and shell
# lines become: none of them does anything here.
STAND_INS = """
import torch as _torch
from course_utils.notebook import Lab as _Lab
lab = _Lab("", _torch.device("cpu"), "cpu", "digits")
def display(*shown, **options):
    pass
class _Notebook:
    def __getattr__(self, name):
        return lambda *words, **options: [] if name == "getoutput" else None
def get_ipython(_notebook=_Notebook()):
    return _notebook
"""


def prelude(definitions: Iterable[ast.stmt]) -> str:
    """The source that runs before any answer to a notebook: stand-ins, then what the notebook itself defines."""
    return "\n".join([STAND_INS, *map(ast.unparse, definitions)]) + "\n"


def _is_fixture(node: ast.FunctionDef) -> bool:
    calls = [mark.func for mark in node.decorator_list if isinstance(mark, ast.Call)]
    return any(isinstance(call, ast.Name) and call.id == "fixture" for call in calls)


def _only(node: ast.stmt, used: set[str]) -> ast.stmt:
    """The same statement; of what it imports from a module only the names that are used."""
    if not isinstance(node, ast.ImportFrom):
        return node
    names = [alias for alias in node.names if (alias.asname or alias.name) in used]
    return ast.ImportFrom(node.module, names, node.level)


def _absolute(node: ast.stmt, package: str) -> ast.stmt:
    """The same statement, a relative import made absolute."""
    if not (isinstance(node, ast.ImportFrom) and node.level):
        return node
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ast.ImportFrom(".".join([*parts, *filter(None, [node.module])]), node.names, 0)
