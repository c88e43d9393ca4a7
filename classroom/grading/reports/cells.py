"""Cells of tables that spreadsheets open."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from ..handed_in.read import UNSEEN

_SIGNS = r"=+\-@＝＋－＠﹦﹢﹣﹫⁼⁺⁻₌₊₋−"  # as typed, full-width, small, raised, lowered
_QUOTES = "'\"`´‘’‚‛“”„‟«»‹›＇＂"
_NUMBER = r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?\s*(?:[]),;}]|$)"  # up to where a cell ends, or can hold no formula
_FORMULA = re.compile(rf"(^|[,;])([\s{UNSEEN}{_QUOTES}]*+)(?!{_NUMBER})(?=[{_SIGNS}])")
_CONTROLS = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029]")  # line ends and tabs, which may end a cell, among them


def harmless(value: object) -> object:
    """Text that a spreadsheet would take for a formula, quoted: students choose file names and raise exceptions.

    Quoted wherever a cell may begin, since a spreadsheet that expects semicolons takes theirs for its own. Numbers stay
    numbers, and lines of text that differ stay different.

    >>> harmless("=1+1"), harmless("f;=1+1"), harmless("-1.5"), harmless("got (2, -1)")
    ("'=1+1", "f;'=1+1", '-1.5', 'got (2, -1)')
    """
    return _FORMULA.sub(r"\1'\2", _CONTROLS.sub(" ", value)) if isinstance(value, str) else value


def table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A CSV file whose cells can do no harm."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([harmless(value) for value in row] for row in rows)
    return file.getvalue()


def number(points: int | float) -> str:
    """Points as people write them.

    >>> number(3.0), number(2.5)
    ('3', '2.5')
    """
    return f"{points:g}"


def counted(count: int, what: str) -> str:
    """So many of something.

    >>> counted(1, "student"), counted(2, "student")
    ('1 student', '2 students')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"
