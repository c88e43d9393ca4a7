"""What Python statements bind and need, read from their trees, for students' cells and our own. Nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
_COMPREHENSIONS = {ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp}
# Students' trees may be huge, so that most nodes are to cost nothing: those that may bind a name themselves, and those
# below which nothing is bound in the same scope.
_BINDING = {*_DEFINITIONS, ast.Name, ast.Attribute, ast.Subscript, ast.ExceptHandler, ast.arg}
_BINDING |= {ast.MatchAs, ast.MatchStar, ast.MatchMapping}
_SCOPES = {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda}
_CLOSED = {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Name, ast.Constant, ast.Store, ast.Load}


def bound(statement: ast.AST, parts: bool = True) -> set[str]:
    """Names that a statement binds, or changes, in the scope in which it stands.

    parts: also names of which only a part is set: `a.b = 1` changes a.  Definitions, imports, every kind of
    assignment, loops, `with`, `except`, `match`, `:=` and `del`; in all branches, but not what functions, classes and
    comprehensions keep inside.

    >>> [sorted(bound(each)) for each in ast.parse("import a.b; c, (d, *e) = f = g; h.i[0] = 1; j: int; k += 1").body]
    [['a'], ['c', 'd', 'e', 'f'], ['h'], [], ['k']]
    """
    names: set[str] = set()
    waiting = [statement]
    while waiting:
        node = waiting.pop()
        kind = type(node)
        if kind in _BINDING:
            names.update(_own(node, parts))
        if kind in _COMPREHENSIONS:  # of what they bind only a := stays
            waiting += [leaf.target for leaf in ast.walk(node) if isinstance(leaf, ast.NamedExpr)]
        elif kind in _SCOPES:
            waiting += _outside(node)
        elif kind not in _CLOSED and not (kind is ast.AnnAssign and node.value is None):
            waiting += ast.iter_child_nodes(node)
    return names


def _outside(scope: ast.AST) -> Iterator[ast.AST]:
    """What of a function or a class runs where it stands: decorators, defaults, bases."""
    yield from getattr(scope, "decorator_list", ())
    if isinstance(scope, ast.ClassDef):
        yield from (*scope.bases, *(word.value for word in scope.keywords))
    else:
        yield from (*scope.args.defaults, *filter(None, scope.args.kw_defaults))


def bound_within(tree: ast.AST, parts: bool = True) -> set[str]:
    """Names that are bound anywhere in a tree, whatever the scope: arguments and local names too."""
    return {name for node in ast.walk(tree) if type(node) in _BINDING for name in _own(node, parts)}


def defines(statement: ast.stmt, literally: bool = False) -> bool:
    """Whether a statement imports, defines a function or a class, or names a value, and does nothing else.

    literally: of values only literals count, for which nothing has to be computed.

    >>> [defines(each) for each in ast.parse("import a; b, c = d(); e: int = 1; e.f = 1; g(); h += 1").body]
    [True, True, True, False, False, False]
    """
    if isinstance(statement, _DEFINITIONS):
        return True
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return False
    return all(map(_is_plain, _targets(statement))) and (not literally or _is_literal(statement.value))


def closure(body: Sequence[ast.stmt], roots: Iterable[ast.stmt]) -> list[ast.stmt]:
    """The definitions and assignments of a module that `roots` need, and themselves, in the module's order."""
    where: dict[str, list[ast.stmt]] = {}
    for node in body:
        if isinstance(node, _DEFINITIONS + _ASSIGNMENTS):
            for name in bound(node):
                where.setdefault(name, []).append(node)
    kept, waiting = set(), list(roots)
    while waiting:
        node = waiting.pop()
        if id(node) in kept:
            continue
        kept.add(id(node))
        used = {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
        waiting += [each for name in used for each in where.pop(name, ())]  # each name is followed once
    return [node for node in body if id(node) in kept]


def _own(node: ast.AST, parts: bool = True) -> Iterator[str]:
    """Names that a node binds itself, or sets a part of, leaving aside those below it."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Import() | ast.ImportFrom():
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names if alias.name != "*")
        case ast.Name(ctx=ast.Store() | ast.Del()):
            yield node.id
        case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
            while isinstance(node, ast.Attribute | ast.Subscript):
                node = node.value
            if isinstance(node, ast.Name) and parts:
                yield node.id
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)) | ast.arg(arg=name):
            yield name


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]


def _is_plain(target: ast.expr) -> bool:
    """A name, or several in brackets; no part of something that is there already."""
    if isinstance(target, ast.Tuple | ast.List):
        return all(map(_is_plain, target.elts))
    return isinstance(target.value if isinstance(target, ast.Starred) else target, ast.Name)


def _is_literal(value: ast.expr) -> bool:
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True
