"""What an answer needs from cells that a student added: helper functions, imports, constants.

An honest student may put a helper into a cell of her own, or into another answer's. Its definition is taken along where
an answer mentions it, and only where no such name is there already: what the course defines stays the course's.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import Any

from .reading import parsed
from .sources import closure


def offered(sources: Iterable[str], not_these: set[str]) -> list[ast.stmt]:
    """The definitions at the top level of students' own cells, without those that bind a name of `not_these`."""
    found = []
    for source in sources:
        tree = parsed(source)[1]
        found += [node for node in (tree.body if tree else ()) if _is_definition(node) and not bound(node) & not_these]
    return found


def with_helpers(source: str, offers: Sequence[ast.stmt]) -> tuple[str, str]:
    """The answer's source below those of `offers` it needs; and a note on them, "" if it needs none."""
    tree = parsed(source)[1]
    if tree is None or not offers:
        return source, ""
    own_nodes = set(map(id, tree.body))
    own = set().union(*map(bound, ast.walk(tree)))
    useful = [node for node in offers if not bound(node) & own]
    needed = [node for node in closure([*useful, *tree.body], tree.body) if id(node) not in own_nodes]
    try:
        above = [ast.unparse(node) for node in needed]
    except RecursionError:
        return source, ""
    names = sorted(set().union(*map(bound, needed)))[:5]
    note = f"taken along from other cells: {', '.join(names)}" if names else ""
    return "\n\n".join([*above, source]), note


def bound(node: Any) -> set[str]:
    """Names that a node itself binds: a definition, an import, an argument, a name that is stored to."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name.split(".")[0] for alias in node.names}
        case ast.arg():
            return {node.arg}
        case ast.Name(ctx=ast.Store()):
            return {node.id}
        case ast.Assign():
            return set().union(*map(bound, node.targets))
        case ast.AnnAssign():
            return bound(node.target)
    return set()


def _is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.AnnAssign):
        return node.value is not None and isinstance(node.target, ast.Name)
    return isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets)
