"""What became of the cell with the answer, so that a check is reached and can say so, whatever happened to that cell.

In IPython two hooks watch the cells. *Before* one that checks an answer which nothing gives, or which the cell on the
page no longer gives, a `Missing` takes the answer's place: without it Python would stop at its name. *After* every cell
is noted which names it gave, and which it was to give and did not. Elsewhere (scripts, graders) nothing is watched.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import keyword
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .cards import running_ipython

RUN_ABOVE = "**Run → Run All Above Selected Cell**"  # JupyterLab's words

_NOTHING = object()
_words: dict[str, Callable] = {}  # "check" and "ask", as a cell that checks needs them
_gave: dict[str, str | None] = {}  # name -> id of the cell that last gave it; None where the front end sends no ids
_lost: dict[str, Lost] = {}  # name -> why the cell that was to give it did not; gone once a cell gives it
_last: list[str] = []  # what the cell before this one gave, checks aside
_names: dict[str, str] = {}  # id of a quiz -> what the cell that checks it calls the answer
_covered: dict[str, Any] = {}  # name -> what it stood for before a Missing covered it, _NOTHING for unbound


class Lost(NamedTuple):
    """Why a cell did not give a name that it was to give."""

    what: str  # "is not Python yet", "stops with an error", "was stopped …", or "" where it ran and gives other names
    reason: str  # Python's own words and the line they are about
    unknown: str  # the name that Python stopped at, if that was it
    instead: list[str]  # what the cell gave


class Missing:
    """Stands in for an answer that is not there. `headline`: what happened;  `advice`: what to do, a paragraph each."""

    def __init__(self, name: str, headline: str, *advice: str) -> None:
        self.__name__, self.headline, self.advice = name, headline, advice


def listen(**words: Callable) -> None:
    """Watch the cells of this kernel, once, however often it is called; outside IPython do nothing.

    words: `check` and `ask`, which a cell that checks finds even where an answer has taken their names.
    """
    shell = running_ipython()
    _words.update(words)
    if shell is None:
        return
    for event, hook in (("pre_run_cell", _before), ("post_run_cell", _after)):
        for there in list(shell.events.callbacks[event]):
            if getattr(there, "__module__", "") == __name__:  # of this module as it was before a reload
                shell.events.unregister(event, there)
        shell.events.register(event, hook)


def renamed(id: str) -> str:
    """What the cell run last may call the answer to this quiz by mistake, in a sentence, or ""."""
    shell, name = running_ipython(), asked_by(id)
    return _other_name("check", name, shell.user_ns, _last) if shell and name and _last else ""


def asked_by(id: str) -> str:
    """What the cell that checks this quiz calls the answer, "" if unknown."""
    return _names.get(id, "")


def _harmless(hook: Callable) -> Callable:
    """A hook is there to help: whatever goes wrong in it is not the cell's business."""

    @functools.wraps(hook)
    def wrapped(about: Any) -> None:
        with contextlib.suppress(Exception):
            hook(about)

    return wrapped


# ---------------------------------------------------------------------------------------------------- before and after


@_harmless
def _before(info: Any) -> None:
    if "check(" not in info.raw_cell and "ask(" not in info.raw_cell:
        return
    shell = running_ipython()
    for word, id, name in _asked(_parsed(_python(info.raw_cell))):
        _names[id] = name
        if word in _words:
            shell.user_ns[word] = _words[word]
        before = shell.user_ns.get(name, _NOTHING)
        if before is _NOTHING or name in _lost and not isinstance(before, Missing):
            _covered[name] = before
            shell.user_ns[name] = _missing(word, name, shell.user_ns)


@_harmless
def _after(result: Any) -> None:
    shell, source = running_ipython(), result.info.raw_cell
    while _covered:
        name, before = _covered.popitem()
        if isinstance(shell.user_ns.get(name), Missing):
            shell.user_ns[name] = before
            if before is _NOTHING:
                del shell.user_ns[name]
    error, at_once = result.error_before_exec or result.error_in_exec, result.error_before_exec is not None
    given, wanted = _given(_python(source), error, at_once)
    if given is None:
        return
    cell = getattr(result.info, "cell_id", None)
    own = {name for name, origin in _gave.items() if cell is not None and origin == cell}
    for name in (own | wanted) - set(given):
        _lost[name] = Lost(*_in_words(error, at_once, source), given)
    for name in given:
        _gave[name] = cell
        _lost.pop(name, None)
    _last[:] = given
    if type(error) is NameError and error.name:
        _say_unknown(error.name, shell.user_ns)


def _say_unknown(name: str, names: dict) -> None:
    """One line below the traceback of a name that nothing has given; Python itself says so where it was misspelt."""
    letter = name in "abcde"  # of a question, without its quotes: the check will say so
    if name not in names and not letter and not difflib.get_close_matches(name, names, cutoff=0.8):
        above = RUN_ABOVE.replace("*", "")
        print(f"Is `{name}` made in a cell above? Then that cell has not run: choose {above}, then run this one again.")


# ------------------------------------------------------------------------------------------------------- reading cells


def _python(source: str) -> str:
    """The cell without what only IPython understands: `!` and `%` lines become calls, a `%%` line goes."""
    if source.lstrip().startswith("%%"):
        return source.lstrip().partition("\n")[2]
    try:
        return running_ipython().transform_cell(source)
    except SyntaxError:
        return source


def _parsed(source: str) -> ast.Module:
    """... as IPython does it, which takes `await` at the left margin.  Raises SyntaxError, ValueError."""
    return compile(source, "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def _asked(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    """The answers that a cell checks: ("check", "vae/kl", "kl") for `check("vae/kl", kl)`."""
    for node in filter(_is_check, ast.walk(tree)):
        answers = [*node.args[1:2], *(each.value for each in node.keywords if each.arg == "answer")]
        for answer in answers:
            if isinstance(answer, ast.Name):
                yield _called(node), str(getattr(node.args[0], "value", "")) if node.args else "", answer.id


def _is_check(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _called(node) in ("check", "ask")


def _called(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def _given(source: str, error: BaseException | None, at_once: bool) -> tuple[list[str] | None, set[str]]:
    """Names that a cell gave, in order, and those it was to give and did not; None for a cell that only checks.

    error: with which it stopped, None if it ran;  at_once: whether that was before its first line.
    """
    try:
        statements = _parsed(source).body
    except (SyntaxError, ValueError):
        return [], _looks_like(source) if error else set()
    own = [each for each in statements if not any(map(_is_check, ast.walk(each)))]
    if statements and not own:
        return None, set()
    last = 0 if at_once else sys.maxsize if error is None else _line(error)
    given = [name for each in own if each.end_lineno < last for name in _bound(each)]
    return given, {name for each in own for name in _bound(each)} - set(given)


def _line(error: BaseException) -> int:
    """The cell's own line in which it stopped, 0 if unknown."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "<module>" and trace.tb_frame.f_globals is running_ipython().user_global_ns:
            return trace.tb_lineno
        trace = trace.tb_next
    return 0


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that a statement binds where it stands, not inside functions and classes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        for child in ast.iter_child_nodes(node):
            yield from _bound(child)


# `def f(x)`, `dfe f(x):`, `f(x):`, `f = …`, `f b`, `f "b"`, all at the left margin.
_BINDING = re.compile(r"""^(?:async\s+)?(?:(\w+)\s+(\w+)|(\w+)\s*(?:=(?!=)|["']|\(.*:\s*(?:\#.*)?$))""", re.MULTILINE)


def _looks_like(source: str) -> set[str]:
    """Names that a cell which is not Python was to bind, as far as one can tell; one too many does no harm.

    >>> sorted(_looks_like("dfe f(x):\\n    y = x\\nz = (1"))
    ['dfe', 'f', 'z']
    """
    lines = _BINDING.findall(source)
    found = [line for line in lines if not keyword.iskeyword(line[0]) or line[0] in ("def", "class")]
    return {word for line in found for word in line if word and not keyword.iskeyword(word)}


# ------------------------------------------------------------------------------------------------------------- in words


def _in_words(error: BaseException | None, at_once: bool, source: str) -> tuple[str, str, str]:
    """What became of a cell: `what`, `reason` and `unknown` of a `Lost`. The arguments are those of `_given`."""
    if error is None:
        return "", "", ""
    if isinstance(error, KeyboardInterrupt):
        return "was stopped before it was through", "", ""
    syntax, lines = at_once and isinstance(error, SyntaxError), source.split("\n")
    error = _plainly(error, source) if syntax else error
    number = (error.lineno or 0) if syntax else _line(error)
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    said = " ".join(str(error.msg if syntax else error).split())[:200]
    where = f"In its line {number}, `{line.replace('`', chr(39))[:120]}`" if line else "Python says"
    reason = f"{where}: {': '.join(filter(None, [type(error).__name__, said]))}."
    unknown = error.name or "" if isinstance(error, NameError) else ""
    return "is not Python yet" if syntax else "stops with an error", reason, unknown


def _plainly(error: SyntaxError, source: str) -> SyntaxError:
    """The same, as plain Python says it: of an open bracket IPython knows only that the input is incomplete."""
    try:
        _parsed(source)
    except SyntaxError as plain:
        return plain
    return error


def _missing(word: str, name: str, names: dict) -> Missing:
    """What happened to the answer called `name`, which `check` or `ask` is to look at."""
    lost = _lost.get(name)
    if lost is None:
        run = f"Run the cell with your answer, then this one. After a restart of the kernel: {RUN_ABOVE}."
        return Missing(name, f"there is no `{name}` yet", _other_name(word, name, names, _last) or run)
    if not lost.what:
        instead = _other_name(word, name, names, lost.instead) or f"Give `{name}` there, run that cell, then this one."
        return Missing(name, f"the cell with your answer no longer gives `{name}`", instead)
    mend = "Mend it, run it, then run this one. What counts is what stands on the page, not what ran before."
    if word == "ask" and len(lost.unknown) == 1:
        mend = f'A letter stands in quotes: `{name} = "{lost.unknown}"`.'
    return Missing(name, f"the cell with your answer {lost.what}", *filter(None, [lost.reason]), mend)


def _other_name(word: str, name: str, names: dict, recent: list[str]) -> str:
    """What the answer may be called by mistake, in a sentence, or ""."""

    def fits(value: Any) -> bool:
        if word == "ask":
            return isinstance(value, str)
        return callable(value) and getattr(value, "__module__", "") == "__main__"  # her own, not imported

    others = [other for other in [*recent, *_gave] if other in names and other not in {name, *_names.values()}]
    there = [other for other in others if fits(names[other])]
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.7) or [new for new in recent if new in there]
    if len(set(near)) != 1:
        return ""
    return f"There is a `{near[0]}`: if that is your answer, call it `{name}` in its cell, run that, then this one."
