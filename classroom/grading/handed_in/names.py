"""What a statement of a notebook reads and changes, told from its tree. Nothing is run.

What is read at once (a default, a decorator, the right side of an assignment) must be there when the statement runs;
what a function's body reads must be there when somebody calls it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from functools import cached_property

from ..statements import bound, bound_within, defines

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_LEAVES = (ast.Name, ast.Constant, ast.expr_context, ast.operator, ast.cmpop, ast.alias)
_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.Match)
_CHANGING = {
    "append",
    "extend",
    "insert",
    "remove",
    "pop",
    "popitem",
    "clear",
    "update",
    "setdefault",
    "add",
    "discard",
}
_CHANGING |= {"sort", "reverse", "appendleft", "extendleft", "rotate", "register"}
# Calls that show something and change nothing; of Python's own functions only these change what they are given.
SHOWING = {
    "plots",
    "plt",
    "sns",
    "display",
    "check",
    "ask",
    "predict",
    "reveal",
    "explore",
    "pprint",
    "warnings",
    "time",
}
_CHANGE_THEIRS = {"setattr", "delattr", "next"}
BUILTINS = frozenset(dir(__builtins__) if not isinstance(__builtins__, dict) else __builtins__)
_WRITE_ANYTHING = {"exec", "globals", "locals", "vars"}


@dataclass
class Reads:
    """Names that are read at once, when something is called, and in annotations, which may do without."""

    now: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    perhaps: set[str] = field(default_factory=set)


def reads(statement: ast.stmt) -> Reads:
    """Names from elsewhere that a statement reads: not those that it binds before, nor arguments and local names.

    >>> found = reads(ast.parse("def f(x, y=a):\\n    z = x\\n    return z * b + f(x - 1)").body[0])
    >>> found.now, found.later
    ({'a'}, {'b'})
    """
    found = Reads()
    try:
        _read(statement, set(), found)
        found.later -= bound(statement, parts=False)
    except RecursionError:
        return Reads()
    return found


def _read(node: ast.AST | None, have: set[str], found: Reads) -> None:
    """Add to `found` what a part of a statement reads beyond the names in `have`; add to `have` what it binds."""
    match node:
        case None:
            return
        case ast.Name(id=name, ctx=ast.Load()):
            found.now |= {name} - have
        case ast.Name(id=name):
            have.add(name)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            _read_function(node, have, found)
        case ast.ClassDef():
            _read_all([*node.decorator_list, *node.bases, *node.keywords], have, found)
            _read_all(node.body, set(have), found)
            have.add(node.name)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            _read_comprehension(node, have, found)
        case ast.Assign() | ast.NamedExpr():
            _read(node.value, have, found)
            _read_all(getattr(node, "targets", None) or [node.target], have, found)
        case ast.AugAssign():
            _read_all(
                [node.value, ast.Name(node.target.id, ast.Load())]
                if isinstance(node.target, ast.Name)
                else [node.value],
                have,
                found,
            )
            _read(node.target, have, found)
        case ast.AnnAssign():
            _read_annotation(node.annotation, have, found)
            _read(node.value, have, found)
            if node.value is not None or not isinstance(node.target, ast.Name):
                _read(node.target, have, found)
        case ast.Import() | ast.ImportFrom():
            have |= bound(node)
        case _ if isinstance(node, _BRANCHES):
            _read_branches(node, have, found)
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            _read_all(ast.iter_child_nodes(node), have, found)
            have.add(name)
        case _:
            _read_all(ast.iter_child_nodes(node), have, found)


def _read_all(nodes: Iterable[ast.AST | None], have: set[str], found: Reads) -> None:
    for node in nodes:
        _read(node, have, found)


def _read_function(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, have: set[str], found: Reads) -> None:
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    every = [each for each in every if each]
    _read_all(getattr(node, "decorator_list", ()), have, found)
    _read_all([*arguments.defaults, *arguments.kw_defaults], have, found)
    for annotation in [getattr(node, "returns", None), *(each.annotation for each in every)]:
        _read_annotation(annotation, have, found)
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    declared = {name for each in body for leaf in ast.walk(each) if isinstance(leaf, ast.Global) for name in leaf.names}
    own = {each.arg for each in every}.union(*(bound(each, parts=False) for each in body)) - declared
    inside = Reads()
    _read_all(body, set(own), inside)
    found.later |= inside.now | (inside.later - own)
    found.perhaps |= inside.perhaps
    if not isinstance(node, ast.Lambda):
        have.add(node.name)


def _read_annotation(node: ast.expr | None, have: set[str], found: Reads) -> None:
    inside = Reads()
    _read(node, set(have), inside)
    found.perhaps |= inside.now | inside.later


def _read_comprehension(node: ast.expr, have: set[str], found: Reads) -> None:
    inside, parts = set(have), Reads()
    for part in node.generators:
        _read(part.iter, inside, parts)
        _read_all([part.target, *part.ifs], inside, parts)
    _read_all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt], inside, parts)
    own = inside - have  # which functions in there read too
    found.now |= parts.now
    found.later |= parts.later - own
    found.perhaps |= parts.perhaps - own
    have |= {leaf.target.id for leaf in ast.walk(node) if isinstance(leaf, ast.NamedExpr)}


def _read_branches(node: ast.stmt, have: set[str], found: Reads) -> None:
    """A statement of which parts may not run: what they bind is there afterwards only where all of them bind it."""
    match node:
        case ast.If():
            _read(node.test, have, found)
            parts = [node.body, node.orelse]
        case ast.While():
            _read(node.test, have, found)
            parts = [node.body, [], node.orelse]
        case ast.For() | ast.AsyncFor():
            _read(node.iter, have, found)
            parts = [[node.target, *node.body], [], node.orelse]
        case ast.Match():
            _read(node.subject, have, found)
            parts = [[each.pattern, each.guard, *each.body] for each in node.cases] + [[]]
        case _:
            parts = [[*node.body, *node.orelse], *([each.type, *each.body] for each in node.handlers)]
    after = []
    for part in parts:
        inside = set(have)
        _read_all(part, inside, found)
        after.append(inside)
    have |= set.intersection(*after)
    _read_all(getattr(node, "finalbody", ()), have, found)


# ------------------------------------------------------------------------------------------------------------ changes


@dataclass
class Changes:
    """What a statement may change of what is there already, when it runs.

    own: names of things that it changes itself;  calls: (function's name, what it is given, whether nobody takes its
    value) for each call of something that the notebook may have defined;  handed: names of what it hands to functions
    from elsewhere for nothing but their effect;  mentioned: names that it reads.
    """

    own: set[str] = field(default_factory=set)
    calls: list[tuple[str, set[str], bool]] = field(default_factory=list)
    handed: set[str] = field(default_factory=set)
    mentioned: set[str] = field(default_factory=set)


def attributes_set(statement: ast.stmt) -> set[str]:
    """Names under which a statement hangs something onto something else: `a.b = c`, `setattr(a, "b", c)`.

    >>> [attributes_set(each) for each in ast.parse("a.b = c; setattr(a, 'd', e); f = a.g").body]
    [{'b'}, {'d'}, set()]
    """
    found = {leaf.attr for leaf in ast.walk(statement) if isinstance(leaf, ast.Attribute) and _is_stored(leaf)}
    match statement:
        case ast.Expr(ast.Call(ast.Name("setattr"), [_, ast.Constant(str(name)), _])):
            found.add(name)
    return found


def _is_stored(leaf: ast.Attribute) -> bool:
    return isinstance(leaf.ctx, ast.Store)


def changes(statement: ast.stmt, imported: Set[str]) -> Changes:
    """... imported: names of modules and of what comes from them."""
    found, alone, loops = Changes(), set(), []
    for node in _running(statement):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                found.mentioned.add(name)
            case ast.Expr(value=value):  # nobody takes what this gives
                value = value.value if isinstance(value, ast.Await) else value
                alone.add(value.elt if isinstance(value, ast.ListComp | ast.SetComp | ast.GeneratorExp) else value)
            case ast.Attribute() | ast.Subscript() if not isinstance(node.ctx, ast.Load):
                found.own.add(_root(node))
            case ast.Call():
                _add_call(found, node, node in alone, isinstance(statement, ast.For | ast.While), imported)
            case ast.For():
                loops.append(node)
    for loop in loops:  # for p in model.parameters(): p.data.zero_()
        if bound(loop.target) & found.own:
            found.own |= {leaf.id for leaf in ast.walk(loop.iter) if isinstance(leaf, ast.Name)} - imported
    for mark in getattr(statement, "decorator_list", ()):  # @registry.add("mine")
        mark = mark.func if isinstance(mark, ast.Call) else mark
        if isinstance(mark, ast.Attribute):
            found.own.update({_root(mark)} - imported)
    found.own.discard("")
    return found


def _add_call(found: Changes, call: ast.Call, alone: bool, in_a_loop: bool, imported: Set[str]) -> None:
    root, given = _root(call.func), _handed_over(call)
    if isinstance(call.func, ast.Name) and root in BUILTINS:
        found.own |= given if root in _CHANGE_THEIRS else set()
    elif root in SHOWING:
        pass
    elif isinstance(call.func, ast.Name) and root not in imported:
        found.calls.append((root, given, alone and not in_a_loop))
    elif root in imported:  # `random.shuffle(x)`; or a setting of the module itself: `torch.manual_seed(0)`
        inside = {leaf.id for leaf in ast.walk(call) if isinstance(leaf, ast.Name)}
        found.handed |= given - imported if alone else set()
        found.own |= {root} if alone and inside <= imported else set()
    else:
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        changing = method in _CHANGING or method.endswith("_") and not method.endswith("__")
        found.own |= {root} if alone or changing else set()


def _handed_over(call: ast.Call) -> set[str]:
    values = [*call.args, *(word.value for word in call.keywords)]
    return {_root(value.value if isinstance(value, ast.Starred) else value) for value in values} - {""}


def _running(statement: ast.AST) -> Iterator[ast.AST]:
    """All parts that run when the statement does, each before its own: not what stands in functions, but their defaults
    and decorators."""
    waiting = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, _FUNCTIONS):
            waiting += [*getattr(node, "decorator_list", ()), *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif not isinstance(node, _LEAVES):
            waiting += ast.iter_child_nodes(node)


def _root(node: ast.AST) -> str:
    """The name at the beginning of `name.a[b].c`; "" if there is none, as of what a call gives."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


@dataclass(frozen=True)
class Effects:
    """What calling a function, or making something of a class, changes: global names; and whether what it is given."""

    names: frozenset[str] = frozenset()
    given: bool = False

    def __or__(self, other: Effects) -> Effects:
        return Effects(self.names | other.names, self.given or other.given)


def effects(definition: ast.AST) -> Effects:
    """... as far as its own body shows."""
    local, changed, declared = bound_within(definition, parts=False), set(), set()
    alone = {node.value for node in ast.walk(definition) if isinstance(node, ast.Expr)}
    for node in ast.walk(definition):
        if isinstance(node, ast.Global):
            declared.update(node.names)
        elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed.add(_root(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changed |= {_root(node.func)} if node in alone or node.func.attr in _CHANGING else set()
    arguments = {node.arg for node in ast.walk(definition) if isinstance(node, ast.arg)} - {"self", "cls"}
    return Effects(frozenset(declared | changed - local - {""}), bool(changed & arguments))


# --------------------------------------------------------------------------------------------------------- statements


@dataclass(frozen=True, eq=False)
class Statement:
    """A statement at the top level of a cell, and what there is to know about it, found when somebody asks."""

    node: ast.stmt
    text: str
    _changes: dict[frozenset[str], Changes] = field(default_factory=dict)

    def changes(self, imported: set[str]) -> Changes:
        """`changes`, found once for those imported names that stand in it: the others make no difference."""
        known = frozenset(imported & self._names)
        if known not in self._changes:
            self._changes[known] = changes(self.node, known)
        return self._changes[known]

    @cached_property
    def _names(self) -> set[str]:
        return {leaf.id for leaf in ast.walk(self.node) if isinstance(leaf, ast.Name)}

    @cached_property
    def binds(self) -> set[str]:
        return bound(self.node)

    @cached_property
    def binds_whole(self) -> set[str]:
        """Of these, the names that it binds themselves, and not only a part of what they name."""
        return bound(self.node, parts=False)

    @cached_property
    def reads(self) -> Reads:
        return reads(self.node)

    @cached_property
    def is_cheap(self) -> bool:
        """Whether it only defines or imports something."""
        return defines(self.node, literally=True)

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, ast.Import | ast.ImportFrom)

    @property
    def imports(self) -> set[str]:
        """What it imports, by the full name: "torch.nn", "itertools.batched"."""
        match self.node:
            case ast.Import(names=names):
                return {alias.name for alias in names}
            case ast.ImportFrom(module=str(module), names=names, level=0):
                return {f"{module}.{alias.name}" if alias.name != "*" else module for alias in names}
        return set()

    @property
    def is_compound(self) -> bool:
        return isinstance(self.node, (*_BRANCHES, ast.With, ast.AsyncWith))

    @property
    def is_plain(self) -> bool:
        """Whether it is a line that sets something, or calls something for its effect."""
        return isinstance(self.node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr)

    @property
    def is_future(self) -> bool:
        return isinstance(self.node, ast.ImportFrom) and self.node.module == "__future__"

    @cached_property
    def functions(self) -> dict[str, Effects]:
        """Functions and classes that it defines, and what they change."""
        found: dict[str, Effects] = {}
        waiting = [self.node]
        while waiting:
            node = waiting.pop()
            if isinstance(node, _DEFINITIONS):
                found[node.name] = effects(node)
            elif isinstance(node, ast.Assign):
                if isinstance(node.value, ast.Lambda):
                    found |= dict.fromkeys(bound(node), effects(node.value))
            elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
                waiting += ast.iter_child_nodes(node)
        return found

    @property
    def alias(self) -> tuple[str, str]:
        """(row, table) for `row = table["a"]`: what is done to the one is done to the other; ("", "") for all else."""
        match self.node:
            case ast.Assign(targets=[ast.Name(id=row)], value=ast.Attribute() | ast.Subscript() | ast.Name() as part):
                return row, _root(part)
        return "", ""

    def begins(self, name: str) -> bool:
        """Whether it gives the name something new, so that nothing that was done to it before matters."""
        node = self.node
        if isinstance(node, _DEFINITIONS):
            return node.name == name and name not in self.reads.now
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in self.binds and name not in self.reads.now:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return any(name in _plain_names(target) for target in targets)
        return False

    @cached_property
    def binds_anything(self) -> bool:
        """Whether it may bind names that nobody can tell: a star import, `exec`, `globals()[…] = …`."""
        if isinstance(self.node, ast.ImportFrom):
            return any(alias.name == "*" for alias in self.node.names)
        return any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _WRITE_ANYTHING
            for node in _running(self.node)
        )

    def may_bind(self, name: str) -> bool:
        """Whether that may be this name: a star import may hide Python's own functions too."""
        return self.is_import or (name not in BUILTINS and re.search(rf"\b{re.escape(name)}\b", self.text) is not None)


def _plain_names(target: ast.expr) -> set[str]:
    """Names that an assignment gives something as a whole: not those of which it changes a part."""
    match target:
        case ast.Name(id=name):
            return {name}
        case ast.Starred(value=value):
            return _plain_names(value)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return set().union(*map(_plain_names, parts))
    return set()


def statements(tree: ast.Module, source: str) -> list[Statement]:
    """The statements of a cell, each with its text."""
    lines = source.split("\n")
    return [Statement(node, _text(node, lines)) for node in tree.body]


def _text(node: ast.stmt, lines: list[str]) -> str:
    first = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", ()))])
    found = lines[first - 1 : node.end_lineno]
    found[-1] = found[-1].encode()[: node.end_col_offset].decode()
    if first == node.lineno:  # a decorator never stands behind a semicolon
        found[0] = found[0].encode()[node.col_offset :].decode()
    return "\n".join(found)
