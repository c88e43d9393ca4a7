"""What students' code may see of the course, as source text: the library without the answers, and a notebook's
definitions without its answer cells. It is made from the instructor's own files; nothing in it comes from a submission.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from nbformat import NotebookNode

PACKAGE = Path(__file__).resolve().parent.parent
KEPT_AWAY = ("grading", "authoring", "commands", "releasing", "__main__")  # students' code has no business there


def library(probes: dict[str, str]) -> dict[str, str]:
    """Module name -> source of the course's library, the quizzes' references, cases and wrong answers taken out.

    probes: quiz id -> name of its probe in its module: these stay, as do fixtures, since both run beside the answer.
    """
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] in KEPT_AWAY:
            continue
        name = ".".join((PACKAGE.name, *(part for part in parts if part != "__init__")))
        source = path.read_text(encoding="utf-8")
        if parts[0] == "quizzes" and parts[-1].startswith("nb"):
            texts = _texts(source)
            source = without_answers(source, {id: probe for id, probe in probes.items() if id in texts})
        found[name] = source
    return found


def without_answers(source: str, probes: dict[str, str]) -> str:
    """A module of quizzes with its fixtures and probes, what these need, and nothing else."""
    body = ast.parse(source).body
    roots = [node for node in body if isinstance(node, ast.FunctionDef) and _is_fixture(node)]
    roots += [node for node in body if isinstance(node, ast.FunctionDef) and node.name in probes.values()]
    lines = [ast.unparse(node) for node in closure(body, roots)]
    if probes:
        lines.append("from .declarations import fixture, probe_name")
    lines += [f"fixture(probe_name({id!r}))(lambda: {name})" for id, name in probes.items()]
    return "\n".join(lines) + "\n"


def binding(source: str, name: str, as_name: str, package: str) -> str:
    """Source that binds `as_name` to what `name` is in a module of `package`, with all that it needs, run anywhere."""
    body = ast.parse(source).body
    root = next(node for node in body if name in _bound(node))
    nodes = [_absolute(node, package) for node in closure(body, [root])]
    return "\n".join([*map(ast.unparse, nodes), f"{as_name} = {name}"]) + "\n"


def closure(body: list[ast.stmt], roots: Iterable[ast.stmt]) -> list[ast.stmt]:
    """The statements of a module that `roots` need, themselves included, in the module's order."""
    where = {name: node for node in body for name in _bound(node)}
    kept, waiting = set(), list(roots)
    while waiting:
        node = waiting.pop()
        if id(node) in kept:
            continue
        kept.add(id(node))
        used = {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
        waiting += [where[name] for name in used if name in where]
    return [node for node in body if id(node) in kept]


# What a notebook has without defining it, and an answer may mention in passing.
STAND_INS = """
import types as _types
lab = _types.SimpleNamespace(device="cpu")
def display(*shown, **options):
    pass
"""


def prelude(clean: NotebookNode) -> str:
    """Imports, definitions and constants (literals bound to a name) of a notebook, answer cells left out."""
    kept = [STAND_INS]
    for cell in clean.cells:
        if cell.cell_type == "code" and "quiz" not in cell.metadata.get("course", {}):
            kept += [ast.unparse(node) for node in ast.parse(cell.source).body if defines(node)]
    return "\n".join(kept) + "\n"


def defines(node: ast.stmt) -> bool:
    """Whether a statement imports, defines, or names a literal: what a prelude consists of."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
        return True
    if not (isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets)):
        return False
    try:
        ast.literal_eval(node.value)
    except ValueError:
        return False
    return True


def _is_fixture(node: ast.FunctionDef) -> bool:
    calls = [mark.func for mark in node.decorator_list if isinstance(mark, ast.Call)]
    return any(isinstance(call, ast.Name) and call.id == "fixture" for call in calls)


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)]


def _absolute(node: ast.stmt, package: str) -> ast.stmt:
    """The same statement, a relative import made absolute."""
    if not (isinstance(node, ast.ImportFrom) and node.level):
        return node
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ast.ImportFrom(".".join([*parts, *filter(None, [node.module])]), node.names, 0)


def _texts(source: str) -> set[str]:
    constants = (leaf.value for leaf in ast.walk(ast.parse(source)) if isinstance(leaf, ast.Constant))
    return {value for value in constants if isinstance(value, str)}
