"""Take the answers out of a notebook that somebody handed in: the sources of answer cells, and nothing else.

An answer cell is known by `grade_id`, then by cell id, then by the course's own mark, then by its untouched text. What
counts is what the notebook itself would use when run from top to bottom: of several cells with an answer the last, and
where the cell is still as handed out, another cell that defines what was asked for.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .helpers import bound, offered, with_helpers
from .letters import letter, typed
from .reading import MOST_CELLS, MOST_SOURCE, Cell, Unreadable, cells, parsed, read
from .records import Answer, Submission
from .sources import defines

__all__ = ["Taken", "asked_for", "letter", "take"]


@dataclass(frozen=True)
class Taken:
    """answers: one per question asked, in the clean notebook's order;  notes: what was odd about the notebook;
    trouble: why the file cannot be read at all, in one line (then there are no answers)."""

    answers: tuple[Answer, ...]
    notes: tuple[str, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class _Asked:
    """A quiz as the clean notebook asks it."""

    quiz: str
    name: str
    stub: str
    stub_tree: str  # ast.dump of it: comments don't matter
    is_question: bool

    def untouched(self, source: str) -> bool:
        if source.strip() == self.stub.strip():
            return True
        tree = parsed(source)[1] if len(source) < 3 * len(self.stub) + 1000 else None
        return tree is not None and _dumped(tree) == self.stub_tree

    def given_by(self, source: str) -> bool:
        """Whether an answer cell's source answers the quiz, right or wrong."""
        if self.is_question:
            found, note = letter(source, self.name, self.quiz)
            return bool(found or note and re.search(rf"\b{self.name}\b[^=\n]*=", source))
        tree = parsed(source)[1]
        return tree is not None and self.name in _definitions(tree, loosely=True)

    def given_elsewhere(self, source: str) -> bool:
        """The same for a cell that is not meant for it: only what nobody writes by chance."""
        if self.name not in source and self.quiz not in source:
            return False
        tree = parsed(source)[1]
        if tree is None:
            return False
        if self.is_question:
            return typed(tree, self.name, self.quiz) is not None and bool(letter(source, self.name, self.quiz)[0])
        return self.name in _definitions(tree)


def asked_for(clean: Mapping) -> dict[str, str]:
    """Quiz id -> name of the function, class or variable that its check cell checks, in the notebook's order.

    ValueError if a check cell is not of the form `f = check("id", f)` or `ask("id", name)`.
    """
    return dict(_checked(cell) for cell in cells(clean["cells"]) if cell.role == "check")


def take(submission: Submission, clean: Mapping, names: Mapping[str, str]) -> Taken:
    """The answers of a submission.

    clean: the notebook as handed out, stubs in its answer cells;  names: quiz id -> name asked for, from `asked_for`.
    Returns one answer for every quiz of `names` in the clean notebook's order; never raises, whatever the bytes are.
    """
    if submission.text is None:
        return Taken((), (), submission.trouble or "the file could not be read")
    try:
        found, notes = read(submission.text)
        return _taken(found, notes, clean, names)
    except Unreadable as error:
        return Taken((), (), str(error))
    finally:
        _definitions.cache_clear()
        parsed.cache_clear()  # hostile cells make large trees


def _taken(found: list[Cell], notes: list[str], clean: Mapping, names: Mapping[str, str]) -> Taken:
    handed_out = cells(clean["cells"])
    asked = _questions(handed_out, names)
    homes = _homes(found, handed_out, asked)
    given = {cell.source.strip() for cell in handed_out if cell.role != "answer"}
    theirs = [cell for cell in found if cell.kind == "code" and cell.source.strip() not in given]
    offers = offered([cell.source for cell in theirs], {*names.values(), *_names_of_the_course(handed_out)})
    answers, places = [], []
    for quiz in asked:
        own = [cell for cell in found if homes[cell.place] == quiz.quiz]
        others = [cell for cell in theirs if homes[cell.place] != quiz.quiz]
        answer, place = _answer(quiz, own, others, asked)
        answers.append(answer if quiz.is_question else _helped(answer, offers))
        places += [place] if place is not None else []
    if places != sorted(places):
        notes.append("its answers stand in another order than handed out")
    return Taken(tuple(answers), (*notes, *_about_checks(found, handed_out), *_about_marks(found, handed_out)))


# ------------------------------------------------------------------------------------------- which cell answers what


def _answer(
    quiz: _Asked, own: Sequence[Cell], others: Sequence[Cell], asked: Sequence[_Asked]
) -> tuple[Answer, int | None]:
    """The answer to one quiz and where it stands (None if nowhere). own: cells meant for it;  others: the rest."""
    touched = [cell for cell in own if not quiz.untouched(cell.source) and cell.source.strip()]
    giving = [cell for cell in touched if cell.kind == "code" and quiz.given_by(cell.source)]
    if giving:
        return _joined(quiz, giving, touched, asked), giving[-1].place
    elsewhere = [cell for cell in others if not quiz.untouched(cell.source) and quiz.given_elsewhere(cell.source)]
    if elsewhere:
        where = "its own cell is as handed out" if own and not touched else "its own cell does not hold it"
        where = where if own else "its own cell is gone or has lost its marks"
        return _found(quiz, elsewhere[-1], f"taken from cell {elsewhere[-1].place + 1}, since {where}")
    for cell in reversed(touched):  # a cell that was turned into text holds the answer all the same
        plain = _unfenced(cell.source)
        if cell.kind != "code" and quiz.given_by(plain):
            return Answer(quiz.quiz, parsed(plain)[0], f"taken from a {cell.kind[:10]} cell: make it code"), cell.place
    if any(cell.too_long for cell in own) and not touched:
        return Answer(quiz.quiz, None, f"the cell is longer than {MOST_SOURCE:,} characters"), own[-1].place
    if touched:
        return _found(quiz, touched[-1], "" if quiz.is_question else f"it does not define {quiz.name}")
    if own:
        return _found(quiz, own[-1], "" if own[-1].source.strip() else "the cell is empty")
    return Answer(quiz.quiz, None, "the answer cell is gone, and no other cell answers it"), None


def _helped(answer: Answer, offers: Sequence[ast.stmt]) -> Answer:
    if answer.source is None:
        return answer
    source, note = with_helpers(answer.source, offers)
    return Answer(answer.quiz, source, "; ".join(filter(None, [answer.note, note])))


def _found(quiz: _Asked, cell: Cell, note: str) -> tuple[Answer, int]:
    return Answer(quiz.quiz, parsed(cell.source)[0], note), cell.place


def _joined(quiz: _Asked, giving: Sequence[Cell], touched: Sequence[Cell], asked: Sequence[_Asked]) -> Answer:
    """The last cell that answers, behind the parts that were split off above it (JupyterLab copies a cell's marks)."""
    last = giving[-1]
    before = [cell for cell in touched if cell.place < last.place and cell.kind == "code" and cell not in giving]
    others = {each.name for each in asked if each is not quiz}
    parts = []
    for source, tree in [parsed(cell.source) for cell in before]:
        if tree is not None and not others & _definitions(tree, loosely=True):
            parts.append(source)
    notes = []
    if len({cell.source.strip() for cell in giving}) > 1:
        notes.append(f"{len(giving)} cells answer it: the last one, cell {last.place + 1}, counts")
    if parts:
        notes.append(f"put together from {len(parts) + 1} cells")
    return Answer(quiz.quiz, "\n\n".join([*parts, parsed(last.source)[0]]), "; ".join(notes))


def _homes(found: Sequence[Cell], handed_out: Sequence[Cell], asked: Sequence[_Asked]) -> dict[int, str]:
    """Place -> the quiz that a cell is meant to answer, "" for none."""
    wanted = {quiz.quiz: quiz for quiz in asked}
    answers = [cell for cell in handed_out if cell.role == "answer" and cell.quiz in wanted]
    by_grade_id = {cell.grade_id: cell.quiz for cell in answers if cell.grade_id}
    by_id = {cell.id: cell.quiz for cell in answers if cell.id}
    by_text = {cell.source.strip(): cell.quiz for cell in answers}

    def home(cell: Cell) -> str:
        if cell.grade_id in by_grade_id:
            return by_grade_id[cell.grade_id]
        if cell.id in by_id:
            return by_id[cell.id]
        if cell.role == "answer" and cell.quiz in wanted:
            return cell.quiz
        return by_text.get(cell.source.strip(), "")

    return {cell.place: home(cell) for cell in found}


def _questions(handed_out: Sequence[Cell], names: Mapping[str, str]) -> list[_Asked]:
    found = []
    for cell in handed_out:
        if cell.role == "answer" and cell.quiz in names:
            name, tree = names[cell.quiz], ast.parse(cell.source)
            found.append(_Asked(cell.quiz, name, cell.source, _dumped(tree), name not in _definitions(tree)))
    return found


# ------------------------------------------------------------------------------------------------ what a cell defines


@functools.lru_cache(maxsize=2 * MOST_CELLS)
def _definitions(tree: ast.Module, loosely: bool = False) -> frozenset[str]:
    """Functions and classes that a cell's top level defines (within if, try and with too); lambdas are functions.

    loosely: also what it imports, and names that it gives any value but that of `check(...)`, which defines nothing.
    """
    names, waiting = set(), list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and _counts(node.value, loosely):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom) and loosely:
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            waiting += [each for field in ("body", "orelse", "finalbody") for each in _block(node, field)]
            waiting += [each for handler in getattr(node, "handlers", ()) for each in handler.body]
    return frozenset(names)


def _names_of_the_course(handed_out: Sequence[Cell]) -> set[str]:
    """What is there for answers to use: the names that a prelude binds."""
    trees = [parsed(cell.source)[1] for cell in handed_out if cell.kind == "code" and cell.role != "answer"]
    return {name for tree in trees if tree for node in tree.body if defines(node) for name in bound(node)}


def _block(node: ast.stmt, field: str) -> list[ast.stmt]:
    return getattr(node, field, None) or []


def _counts(value: ast.expr | None, loosely: bool) -> bool:
    checks = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "check"
    return isinstance(value, ast.Lambda) or (loosely and value is not None and not checks)


def _dumped(tree: ast.Module) -> str:
    try:
        return ast.dump(tree)
    except RecursionError:
        return ""


def _checked(cell: Cell) -> tuple[str, str]:
    tree = parsed(cell.source)[1]
    calls = [node for node in ast.walk(tree or ast.Module([], [])) if isinstance(node, ast.Call)]
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id in ("check", "ask") and len(call.args) == 2:
            quiz, name = call.args
            if isinstance(quiz, ast.Constant) and isinstance(name, ast.Name):
                return quiz.value, name.id
    raise ValueError(f'check cell of {cell.quiz}: expected f = check("{cell.quiz}", f) or ask("{cell.quiz}", name)')


def _unfenced(source: str) -> str:
    """The code of a text cell: what stands between ``` fences, or all of it."""
    fenced = re.findall(r"(?ms)^[ \t]*```[^\n]*\n(.*?)^[ \t]*```", source)
    return "\n".join(fenced) if fenced else source


# ------------------------------------------------------------------------------------------------ notes on the whole


def _about_checks(found: Sequence[Cell], handed_out: Sequence[Cell]) -> list[str]:
    right = {cell.grade_id: cell for cell in handed_out if cell.role == "check" and cell.grade_id}
    edited = {right[c.grade_id].quiz for c in found if c.grade_id in right and not _same(c, right[c.grade_id])}
    return [f"check cells were edited, which changes no score: {', '.join(sorted(edited))}"] if edited else []


def _same(cell: Cell, other: Cell) -> bool:
    return cell.source.strip() == other.source.strip()


def _about_marks(found: Sequence[Cell], handed_out: Sequence[Cell]) -> list[str]:
    ours = {mark for cell in handed_out for mark in (cell.grade_id, cell.id) if mark}
    if found and not any(cell.grade_id in ours or cell.id in ours for cell in found):
        return ["no cell carries the marks of the notebook handed out: answers were looked for by name"]
    return []
