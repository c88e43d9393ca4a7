"""The letter that answers a concept question, read from the cell's source. Nothing is ever run."""

from __future__ import annotations

import ast
import re
import unicodedata
from dataclasses import dataclass

from ..statements import bound
from .python import MOST_SOURCE, Code
from .read import one_line

_AROUND = r"[\s()\[\]{}.,:;'\"`*“”„‘’«»]*"
_LETTER = re.compile(rf"{_AROUND}(?:(?:answer|option)\b{_AROUND})?([A-Za-z]){_AROUND}", re.IGNORECASE)
_BARE = frozenset("abcdefABCDEF")


@dataclass(frozen=True)
class _Value:
    """What a name was given: text where it is a literal, None where only running it would tell."""

    text: str | None
    bare: bool = False  # a letter without quotes


def letter(code: Code | None, name: str, quiz: str = "") -> tuple[str, str]:
    """The letter typed, in lower case, "" if there is none or it cannot be told; and a note on what was odd, or "".

    code: the answer cell;  name: of the variable asked for;  quiz: whose `ask(quiz, "b")` counts as well; "" for
    any.  Only literals are read. Where there is more than one, the last counts. An untouched cell gives ("", "").

    >>> letter(Code('noisier = "B)"  # sure'), "noisier")
    ('b', "read 'B)' as b")
    >>> letter(Code('noisier = max("a", "b")'), "noisier")[0]
    ''
    """
    if code is None or not code.text.strip():
        return "", ""
    how = f'expected one letter in quotes, {name} = "b" for instance'
    if len(code.text) > MOST_SOURCE:
        return "", f"{how}, got more than {MOST_SOURCE:,} characters"
    tree = code.tree
    if tree is None:
        return _from_broken(code.source, name, how)
    value = typed(tree, name, quiz) or _alone(tree)
    if value is None:
        return ("", f"{how}, but the cell gives {name} nothing") if tree.body else ("", "")
    if value.text is None:
        return "", f"{how}, got something that is no plain text"
    if not value.text.strip():
        return "", ""
    found = _single(value.text)
    if not found:
        return "", f"{how}, got {one_line(repr(value.text), 40)}"
    if value.bare:
        return found, f"read {found} without quotes as the letter {found}"
    return found, "" if value.text.strip().lower() == found else f"read {one_line(repr(value.text), 40)} as {found}"


def typed(tree: ast.Module, name: str, quiz: str = "") -> _Value | None:
    """What a cell's top level gives `name`, or else hands to `ask`; None if it does neither."""
    known: dict[str, _Value] = {}
    asked = None
    for node in tree.body:
        for part in ast.walk(node):  # print(noisier := "b")
            if isinstance(part, ast.NamedExpr):
                known[part.target.id] = _literal(part.value, known)
        value = getattr(node, "value", None)
        call = _asked(value, quiz, known)
        if call is not None:
            asked = call
        elif isinstance(node, ast.Assign | ast.AnnAssign) and value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                known |= _given(target, value, known)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            known[node.target.id] = _literal(ast.BinOp(node.target, node.op, node.value), known)
        elif not isinstance(node, ast.Expr):
            known |= {each: _Value(None) for each in bound(node)}
    own = known.get(name)
    return asked if own is None or (own.text is not None and not own.text.strip() and asked) else own


def _given(target: ast.expr, value: ast.expr, known: dict[str, _Value]) -> dict[str, _Value]:
    """What an assignment gives to which names: one name, or a row of them that each get their own."""
    if isinstance(target, ast.Name):
        return {target.id: _literal(value, known)}
    rows = isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List)
    if rows and len(target.elts) == len(value.elts):
        pairs = zip(target.elts, value.elts)
        return {name: given for pair in pairs for name, given in _given(*pair, known).items()}
    return {each: _Value(None) for each in bound(target)}


def _literal(node: ast.expr, known: dict[str, _Value]) -> _Value:
    """The text that an expression gives, where no more than reading it is needed to tell."""
    match node:
        case ast.Tuple(elts=[alone]):  # a comma too many: noisier = "b",
            return _literal(alone, known)
        case ast.Constant(value=value):
            return _Value(value if isinstance(value, str) else "" if value is None or value is Ellipsis else None)
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.Name(id=name) if name in _BARE:
            return _Value(name, bare=True)
        case ast.NamedExpr(value=inner) | ast.FormattedValue(value=inner, format_spec=None):
            return _literal(inner, known)
        case ast.Call(ast.Name("str"), [inner], []):
            return _literal(inner, known)
        case ast.JoinedStr(values=parts):
            return _joined([_literal(part, known) for part in parts])
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined([_literal(left, known), _literal(right, known)])
        case ast.Call(ast.Attribute(inner, "lower" | "upper" | "strip" | "casefold" | "title" | "capitalize"), [], []):
            return _literal(inner, known)  # none of which makes another letter of it
    return _Value(None)


def _joined(parts: list[_Value]) -> _Value:
    return _Value(None if any(part.text is None for part in parts) else "".join(part.text for part in parts))


def _asked(node: ast.expr | None, quiz: str, known: dict[str, _Value]) -> _Value | None:
    """The answer in `ask(quiz, answer)`, typed there: None if this is no such call or nobody knows what it is given."""
    if not (isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "ask"):
        return None
    given = dict(zip(("id", "answer"), node.args)) | {word.arg: word.value for word in node.keywords}
    which, answer = given.get("id"), given.get("answer")
    if quiz and not (isinstance(which, ast.Constant) and which.value == quiz):
        return None
    if answer is None or isinstance(answer, ast.Name) and answer.id not in {*_BARE, *known}:
        return None
    return _literal(answer, known)


def _alone(tree: ast.Module) -> _Value | None:
    """A cell with nothing but "b" or b in it."""
    if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
        value = _literal(tree.body[0].value, {})
        return value if value.text and len(value.text.strip()) < 4 else None
    return None


def _single(text: str) -> str:
    match = _LETTER.fullmatch(unicodedata.normalize("NFKC", text[:200]).strip()) if len(text) <= 200 else None
    return match[1].lower() if match else ""


def _from_broken(source: str, name: str, how: str) -> tuple[str, str]:
    """No Python, but perhaps clear all the same: a quote forgotten, or “curly” ones from a word processor."""
    lines = re.findall(rf"(?m)^[ \t]*{re.escape(name)}[ \t]*=([^=#\n][^#\n]*)", source)
    found = _single(lines[-1]) if lines else ""
    if not found:
        return "", f"{how}, got a cell that Python cannot read"
    return found, f"read {one_line(lines[-1], 30)} as {found}, though its quotes are not Python's"
