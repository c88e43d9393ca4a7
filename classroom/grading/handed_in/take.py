"""Take the answers out of a notebook that somebody handed in: the sources of answer cells and what they need.

An answer cell is known by `grade_id`, then by cell id, then by the course's own mark, then by its untouched text. What
counts is what the kernel had when the answer was last checked, the notebook run from top to bottom: of several cells
with an answer the last one above its check; where there is only the stub, another cell that defines what was asked
for, the nearest below if there is none above.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..records import Answer
from .handed_out import Asked, HandedOut, asked_in
from .letters import letter
from .program import Program
from .python import MOST_SOURCE, Code, about_version
from .read import Cell, Unreadable, one_line, read, written_for

__all__ = ["Taken", "take"]


@dataclass(frozen=True)
class Taken:
    """answers: one per question asked, in the clean notebook's order;  notes: what was odd about the notebook;
    trouble: why the file cannot be read at all, in one line (then there are no answers)."""

    answers: tuple[Answer, ...]
    notes: tuple[str, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class _Choice:
    """The cell that answers a quiz, None if none does.

    until: the last place that counts as above its check;  parts: places of cells that were split off it;  line: what
    is to follow it, where another name was checked.
    """

    cell: Cell | None
    note: str = ""
    until: int = 0
    parts: tuple[int, ...] = ()
    line: str = ""


def take(data: bytes, notebook: HandedOut) -> Taken:
    """The answers in the bytes of a notebook to what `notebook` asks.

    Returns one answer for every quiz, in the notebook's order; never raises, whatever the bytes are.
    """
    try:
        found, notes = read(data)
    except Unreadable as error:
        return Taken((), (), str(error))
    homes = notebook.homes(found)
    chosen = {asked.quiz: _chosen_if_readable(asked, found, homes, notebook) for asked in notebook.asked}
    places = [choice.cell.place for choice in chosen.values() if choice.cell and choice.note != _GONE]
    if places != sorted(places):
        notes.append("its answers stand in another order than handed out")
    texts = {each.cell.place: each.cell for each in chosen.values() if each.cell}  # some were text, and are code now
    program = Program([texts.get(cell.place, cell) for cell in found], notebook)
    answers = [_answer(asked, chosen[asked.quiz], program, data) for asked in notebook.asked]
    answers = _with_what_they_lend(answers, chosen, program)
    orders = _orders(found)
    answers = [replace(answer, order=orders.get(answer.quiz)) for answer in answers]
    return Taken(tuple(answers), (*notes, *_about_checks(found, notebook), *_about_marks(found, notebook)))


# ------------------------------------------------------------------------------------------- which cell answers what

_GONE = "the answer cell is gone, and no other cell answers it"


def _chosen_if_readable(asked: Asked, found: Sequence[Cell], homes: dict[int, str], notebook: HandedOut) -> _Choice:
    """The same as `_chosen`; a cell that cannot be looked at costs the quiz that it belongs to, and no other."""
    try:
        return _chosen(asked, found, homes, notebook)
    except (ValueError, RecursionError, MemoryError):
        return _Choice(None, "its cell, or the one that checks it, is nested too deeply to be read")


def _chosen(asked: Asked, found: Sequence[Cell], homes: dict[int, str], notebook: HandedOut) -> _Choice:
    own = [cell for cell in found if homes[cell.place] == asked.quiz]
    touched = [cell for cell in own if not asked.untouched(cell.code) and cell.source.strip()]
    until, line = _checked_at(asked, found, own, homes, notebook)
    meant = asked.under(line)
    code = [cell for cell in found if cell.kind == "code"]
    giving = [cell for cell in code if _gives(meant, cell, homes[cell.place] == asked.quiz, own, until, notebook)]
    above, below = [cell for cell in giving if cell.place <= until], [cell for cell in giving if cell.place > until]
    cell = above[-1] if above else below[0] if below else None
    if cell is not None:
        return _with_parts(_Choice(cell, _why(cell, above, own, touched), until, line=line), asked, touched, notebook)
    if line:  # what was checked has no cell of its own
        cell = next(each for each in found if each.place == until)
        return _Choice(cell, f"taken from cell {until + 1}, where it is checked", until, line=line)
    for cell in reversed(touched):  # a cell that was turned into text holds the answer all the same
        plain = replace(cell, source=_unfenced(cell.source))
        if cell.kind != "code" and asked.given_by(plain.code):
            note = f"taken from a {one_line(cell.kind, 10)} cell: make it code"
            return _Choice(replace(plain, kind="code"), note, until)
    if any(cell.too_long for cell in own) and not touched:
        return _Choice(None, f"the cell is longer than {MOST_SOURCE:,} characters", until)
    if touched or own:
        cell = (touched or own)[-1]
        return _Choice(cell, "" if cell.source.strip() else "the cell is empty", until)
    return _Choice(None, _GONE, until)


def _gives(asked: Asked, cell: Cell, is_own: bool, own: Sequence[Cell], until: int, notebook: HandedOut) -> bool:
    """Whether a code cell answers a quiz: its own, a new one between that (if it is there) and its check, or any that
    clearly does."""
    if cell.source.strip() in notebook.given or asked.untouched(cell.code):
        return False
    between = all(each.place < cell.place for each in own[:1]) and cell.place <= until and not asked.is_question
    return asked.given_by(cell.code) if is_own or between else asked.given_elsewhere(cell.code)


def _checked_at(
    asked: Asked, found: Sequence[Cell], own: Sequence[Cell], homes: dict[int, str], notebook: HandedOut
) -> tuple[int, str]:
    """The last place where a quiz is checked, and the line that gives its function the name asked for, if another was.

    Where no cell checks it, what counts ends with the last new cell below its own.
    """
    place, line = -1, ""
    for cell in found:
        if cell.kind != "code":
            continue
        clean = notebook.check_of(cell)
        if clean == asked.quiz:
            place, line = cell.place, ""
        if asked.quiz in cell.source and cell.source.strip() not in notebook.given and cell.code.tree is not None:
            for node in ast.walk(cell.code.tree):
                quiz, answer = asked_in(node)
                if quiz == asked.quiz:
                    other = not asked.is_question and not (isinstance(answer, ast.Name) and answer.id == asked.name)
                    place, line = cell.place, f"{asked.name} = {ast.unparse(answer)}" if other else ""
    if place >= 0:
        return place, line
    place = own[-1].place if own else -1
    for cell in found:
        if cell.place > place:
            if own and (homes[cell.place] or cell.source.strip() in notebook.given):
                break
            place = cell.place
    return place, ""


def _why(cell: Cell, above: Sequence[Cell], own: Sequence[Cell], touched: Sequence[Cell]) -> str:
    """What was odd about the cell that answers."""
    several = len({each.source.strip() for each in above})
    if several > 1:
        return f"{several} cells answer it: the last one, cell {cell.place + 1}, counts"
    if cell in own:
        return ""
    where = "its own cell is as handed out" if own and not touched else "its own cell does not hold it"
    return f"taken from cell {cell.place + 1}, since {where if own else 'its own cell is gone or has lost its marks'}"


def _with_parts(choice: _Choice, asked: Asked, touched: Sequence[Cell], notebook: HandedOut) -> _Choice:
    """With the parts that were split off above the cell (JupyterLab copies a cell's marks)."""
    others = notebook.functions - {asked.name}
    parts = tuple(
        cell.place
        for cell in touched
        if cell.place < choice.cell.place and cell.kind == "code" and cell.code.tree is not None
        if not asked.given_by(cell.code) and not others & cell.code.functions
    )
    if asked.is_question or not parts:
        return choice
    note = "; ".join(filter(None, [choice.note, f"put together from {len(parts) + 1} cells"]))
    return replace(choice, parts=parts, note=note)


def _unfenced(source: str) -> str:
    """The code of a text cell: what stands between ``` fences, or all of it."""
    fenced = re.findall(r"(?ms)^[ \t]*```[^\n]*\n(.*?)^[ \t]*```", source)
    return "\n".join(fenced) if fenced else source


# ------------------------------------------------------------------------------------------------- what goes with it


def _answer(asked: Asked, choice: _Choice, program: Program, data: bytes) -> Answer:
    """The answer as plain data. One that cannot be worked on costs itself alone."""
    if choice.cell is None:
        return Answer(asked.quiz, None, note=choice.note)
    try:
        if asked.is_question:
            return _letter(asked, choice, program)
        return _function(asked, choice, program, data)
    except (ValueError, RecursionError, MemoryError):
        trouble = "the cell cannot be read as Python: it is nested too deeply"
        return Answer(asked.quiz, choice.cell.code.source, note=choice.note, trouble=trouble)


def _letter(asked: Asked, choice: _Choice, program: Program) -> Answer:
    code = choice.cell.code
    found, note = letter(code, asked.name, asked.quiz)
    if not found and code.tree is not None and not asked.untouched(code):  # another cell's name may stand for it
        above = program.needed(asked, choice.cell.place, choice.until).text
        found, note = letter(Code(f"{above}\n{code.source}"), asked.name, asked.quiz) if above else (found, note)
    trouble = "" if found else note
    return Answer(
        asked.quiz, code.source, note=choice.note, letter=found, untouched=asked.untouched(code), trouble=trouble
    )


def _function(asked: Asked, choice: _Choice, program: Program, data: bytes) -> Answer:
    code = choice.cell.code
    if asked.untouched(code):
        return Answer(asked.quiz, code.source, note=choice.note, untouched=True)
    if code.tree is None:
        trouble = about_version(code, written_for(data)) or code.trouble
        return Answer(asked.quiz, code.source, note=choice.note, trouble=trouble)
    needed = program.needed(asked, choice.cell.place, choice.until, choice.parts, choice.line)
    notes = [choice.note]
    if needed.names:
        notes.append(f"taken along from other cells: {', '.join(sorted(needed.names)[:5])}")
    lacks = [_about_missing(name, place, program) for name, place in sorted(needed.missing.items())[:3]]
    lacks += [_about_import(*each) for each in sorted(needed.imports.items()) if not _is_there(each[0])][:3]
    source = "\n".join(filter(None, [code.source, choice.line]))
    return Answer(
        asked.quiz,
        source,
        needed.text,
        needed.all_above,
        note="; ".join(filter(None, notes)),
        lacks="; ".join(lacks),
        needs=tuple(sorted(needed.lent)),
    )


def _about_missing(name: str, place: int, program: Program) -> str:
    where = program.where_else(name)
    found = f"defined in {where}" if where else "defined nowhere in the notebook"
    found += f": {program.unseen}" if program.unseen and not where else ""
    return f"`{one_line(name, 40)}` is used in cell {place + 1} and {found}"


def _about_import(wanted: str, place: int) -> str:
    module, _, name = wanted.rpartition(".")
    if module in sys.modules:
        what, where = name, f"in `{module}` of this grader's Python {'.'.join(map(str, sys.version_info[:2]))}"
    else:
        what, where = wanted.partition(".")[0], "installed where answers run"
    return f"`{one_line(what, 40)}`, imported in cell {place + 1}, is not {where}"


def _is_there(wanted: str) -> bool:
    """Whether a module, or what is to come from it, can be imported where answers run."""
    top, *_ = wanted.split(".")
    module, _, name = wanted.rpartition(".")
    if top in ("course_utils", "classroom"):  # hidden where cells are read, and there where answers run
        return True
    if top in sys.stdlib_module_names and module in sys.modules:  # a newer Python's may have more
        return hasattr(sys.modules[module], name) or wanted in sys.modules
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return top in sys.modules


def _with_what_they_lend(answers: Sequence[Answer], chosen: dict[str, _Choice], program: Program) -> list[Answer]:
    """The same, those that another answer wants with the source that gives it them, and what that wants in its turn."""
    by_name = {asked.name: asked for asked in program.notebook.asked}
    found = {answer.quiz: answer for answer in answers}
    waiting = [name for answer in answers for name in answer.needs]
    lent: dict[str, tuple[str, ...]] = {}
    while waiting:
        asked = by_name[waiting.pop()]
        choice, answer = chosen[asked.quiz], found[asked.quiz]
        if asked.name in lent or answer.untouched or answer.source is None or answer.trouble:
            continue
        needed = program.needed(asked, None, max(choice.until, choice.cell.place))
        found[asked.quiz] = replace(answer, lends=needed.text)
        lent[asked.name] = tuple(needed.lent)
        waiting += needed.lent
    return [replace(each, needs=_all_of(each.needs, lent)) for each in found.values()]


def _all_of(needs: tuple[str, ...], lent: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    found, waiting = set(), list(needs)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += lent.get(name, ())
    return tuple(sorted(found))


# ------------------------------------------------------------------------------------------------ notes on the whole

# As `release` puts it into the check cells of a student's own version.
_ORDER = re.compile(r', order="[a-z]{2,26}"(?=\))')


def _orders(found: Sequence[Cell]) -> dict[str, str]:
    """Quiz id -> the order of options that the last `ask` about it tells, "" if it tells none."""
    calls = [node for cell in found if "ask" in cell.source and cell.kind == "code" for node in _calls(cell)]
    return {asked_in(call)[0]: _order_in(call) for call in calls if getattr(call.func, "id", "") == "ask"}


def _order_in(call: ast.Call) -> str:
    value = next((getattr(word.value, "value", "") for word in call.keywords if word.arg == "order"), "")
    return value if isinstance(value, str) else ""


def _calls(cell: Cell) -> list[ast.Call]:
    return [node for node in ast.walk(cell.code.tree or ast.Module([], [])) if isinstance(node, ast.Call)]


def _about_checks(found: Sequence[Cell], notebook: HandedOut) -> list[str]:
    right = notebook.checks
    pairs = [(cell, right[cell.grade_id]) for cell in found if cell.grade_id in right]
    edited = {clean.quiz for cell, clean in pairs if _ORDER.sub("", cell.source.strip()) != clean.source.strip()}
    return [f"check cells were edited, which changes no score: {', '.join(sorted(edited))}"] if edited else []


def _about_marks(found: Sequence[Cell], notebook: HandedOut) -> list[str]:
    if found and not any(cell.grade_id in notebook.marks or cell.id in notebook.marks for cell in found):
        return ["no cell carries the marks of the notebook handed out: answers were looked for by name"]
    return []
