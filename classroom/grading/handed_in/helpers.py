"""What an answer needs from cells that a student added: helper functions, imports, constants.

An honest student may put a helper into a cell of her own, or into another answer's. Its definition is taken along where
an answer mentions it, and only where no such name is there already: what the course defines stays the course's.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..statements import bound, bound_within, closure, defines
from .python import Code


class Offer(NamedTuple):
    """A definition that answers may need, and the names that it binds."""

    statement: ast.stmt
    names: set[str]


def offered(cells: Iterable[Code], not_these: set[str]) -> list[Offer]:
    """The definitions at the top level of students' own cells, without those that bind a name of `not_these`."""
    trees = [code.tree for code in cells]
    found = [Offer(node, bound(node)) for tree in trees if tree for node in tree.body if defines(node)]
    return [offer for offer in found if not offer.names & not_these]


def with_helpers(code: Code, offers: Sequence[Offer]) -> tuple[Code, str]:
    """The answer below those of `offers` that it needs; and a note on them, "" if it needs none."""
    if code.tree is None or not offers:
        return code, ""
    body, own = code.tree.body, bound_within(code.tree)
    mentioned = {node.id for node in ast.walk(code.tree) if isinstance(node, ast.Name)}
    useful = [offer for offer in offers if not offer.names & own]
    if not any(offer.names & mentioned for offer in useful):
        return code, ""
    offered_nodes = [offer.statement for offer in useful]
    ours = set(map(id, offered_nodes))
    needed = [node for node in closure([*offered_nodes, *body], body) if id(node) in ours]
    try:
        above = [ast.unparse(node) for node in needed]
    except RecursionError:
        return code, ""
    names = sorted(set().union(*map(bound, needed)))[:5]
    return Code("\n\n".join([*above, code.source])), f"taken along from other cells: {', '.join(names)}"
