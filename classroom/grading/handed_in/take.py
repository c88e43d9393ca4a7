"""Take the answers out of a notebook that somebody handed in: the sources of answer cells, and nothing else.

An answer cell is known by `grade_id`, then by cell id, then by the course's own mark, then by its untouched text. What
counts is what the notebook itself would use when run from top to bottom: of several cells with an answer the last, and
where the cell is still as handed out, another cell that defines what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..records import Answer, Submission
from .handed_out import Asked, HandedOut
from .helpers import Offer, offered, with_helpers
from .python import MOST_SOURCE, Code
from .read import Cell, Unreadable, read

__all__ = ["Taken", "take"]


@dataclass(frozen=True)
class Taken:
    """answers: one per question asked, in the clean notebook's order;  notes: what was odd about the notebook;
    trouble: why the file cannot be read at all, in one line (then there are no answers)."""

    answers: tuple[Answer, ...]
    notes: tuple[str, ...] = ()
    trouble: str = ""


def take(submission: Submission, notebook: HandedOut) -> Taken:
    """The answers of a submission to what `notebook` asks.

    Returns one answer for every quiz, in the notebook's order; never raises, whatever the bytes are.
    """
    if submission.text is None:
        return Taken((), (), submission.trouble or "the file could not be read")
    try:
        found, notes = read(submission.text)
    except Unreadable as error:
        return Taken((), (), str(error))
    return _taken(found, notes, notebook)


def _taken(found: list[Cell], notes: list[str], notebook: HandedOut) -> Taken:
    homes = notebook.homes(found)
    theirs = [cell for cell in found if cell.kind == "code" and cell.source.strip() not in notebook.given]
    offers = offered([cell.code for cell in theirs], {*notebook.names.values(), *notebook.provided})
    answers, places = [], []
    for asked in notebook.asked:
        own = [cell for cell in found if homes[cell.place] == asked.quiz]
        others = [cell for cell in theirs if homes[cell.place] != asked.quiz]
        answer, place = _answer(asked, own, others, notebook.asked)
        answers.append(answer if asked.is_question else _helped(answer, offers))
        places += [place] if place is not None else []
    if places != sorted(places):
        notes.append("its answers stand in another order than handed out")
    return Taken(tuple(answers), (*notes, *_about_checks(found, notebook), *_about_marks(found, notebook)))


# ------------------------------------------------------------------------------------------- which cell answers what


def _answer(
    asked: Asked, own: Sequence[Cell], others: Sequence[Cell], all_asked: Sequence[Asked]
) -> tuple[Answer, int | None]:
    """The answer to one quiz and where it stands (None if nowhere). own: cells meant for it;  others: the rest."""
    touched = [cell for cell in own if not asked.untouched(cell.code) and cell.source.strip()]
    giving = [cell for cell in touched if cell.kind == "code" and asked.given_by(cell.code)]
    if giving:
        return _joined(asked, giving, touched, all_asked), giving[-1].place
    elsewhere = [cell for cell in others if not asked.untouched(cell.code) and asked.given_elsewhere(cell.code)]
    if elsewhere:
        where = "its own cell is as handed out" if own and not touched else "its own cell does not hold it"
        where = where if own else "its own cell is gone or has lost its marks"
        return _found(asked, elsewhere[-1], f"taken from cell {elsewhere[-1].place + 1}, since {where}")
    for cell in reversed(touched):  # a cell that was turned into text holds the answer all the same
        plain = Code(_unfenced(cell.source))
        if cell.kind != "code" and asked.given_by(plain):
            return Answer(asked.quiz, plain, f"taken from a {cell.kind[:10]} cell: make it code"), cell.place
    if any(cell.too_long for cell in own) and not touched:
        return Answer(asked.quiz, None, f"the cell is longer than {MOST_SOURCE:,} characters"), own[-1].place
    if touched:
        return _found(asked, touched[-1], "" if asked.is_question else f"it does not define {asked.name}")
    if own:
        return _found(asked, own[-1], "" if own[-1].source.strip() else "the cell is empty")
    return Answer(asked.quiz, None, "the answer cell is gone, and no other cell answers it"), None


def _found(asked: Asked, cell: Cell, note: str) -> tuple[Answer, int]:
    return Answer(asked.quiz, cell.code, note), cell.place


def _helped(answer: Answer, offers: Sequence[Offer]) -> Answer:
    if answer.code is None:
        return answer
    code, note = with_helpers(answer.code, offers)
    return replace(answer, code=code, note="; ".join(filter(None, [answer.note, note])))


def _joined(asked: Asked, giving: Sequence[Cell], touched: Sequence[Cell], all_asked: Sequence[Asked]) -> Answer:
    """The last cell that answers, behind the parts that were split off above it (JupyterLab copies a cell's marks)."""
    last = giving[-1]
    before = [cell.code for cell in touched if cell.place < last.place and cell.kind == "code" and cell not in giving]
    others = {each.name for each in all_asked if each is not asked}
    parts = [code.source for code in before if code.tree is not None and not others & code.names]
    notes = []
    if len({cell.source.strip() for cell in giving}) > 1:
        notes.append(f"{len(giving)} cells answer it: the last one, cell {last.place + 1}, counts")
    if parts:
        notes.append(f"put together from {len(parts) + 1} cells")
    code = Code("\n\n".join([*parts, last.code.source])) if parts else last.code
    return Answer(asked.quiz, code, "; ".join(notes))


def _unfenced(source: str) -> str:
    """The code of a text cell: what stands between ``` fences, or all of it."""
    fenced = re.findall(r"(?ms)^[ \t]*```[^\n]*\n(.*?)^[ \t]*```", source)
    return "\n".join(fenced) if fenced else source


# ------------------------------------------------------------------------------------------------ notes on the whole


def _about_checks(found: Sequence[Cell], notebook: HandedOut) -> list[str]:
    right = notebook.checks
    pairs = [(cell, right[cell.grade_id]) for cell in found if cell.grade_id in right]
    edited = {clean.quiz for cell, clean in pairs if cell.source.strip() != clean.source.strip()}
    return [f"check cells were edited, which changes no score: {', '.join(sorted(edited))}"] if edited else []


def _about_marks(found: Sequence[Cell], notebook: HandedOut) -> list[str]:
    if found and not any(cell.grade_id in notebook.marks or cell.id in notebook.marks for cell in found):
        return ["no cell carries the marks of the notebook handed out: answers were looked for by name"]
    return []
