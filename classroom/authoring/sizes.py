"""How long a notebook is for a person: lines to write, lines and words to read, minutes on the core path and beyond.

A section whose heading ends in *(extra)*, with all that stands under it, lies off the core path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..quizzes.declarations import Concept
from .masters import Cell, Master

WORDS_A_MINUTE = 180  # prose with formulas in it, read to be understood
LINES_A_MINUTE = 12  # code of others
LOOK = 0.4  # minutes for what a cell prints and draws
EXTRA = re.compile(r"^(#{2,5}) .*\*\(extra\)\*\s*$")
HEADING = re.compile(r"^(#{1,5}) ")
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True)
class Size:
    """Lines and words count the whole notebook, without links to papers; minutes are a person's."""

    written: int  # lines of code that a student writes, docstrings and comments not counted
    read: int  # lines of code that are there to be read, stubs and handed-out bugs with them
    words: int
    longest: int  # lines of the longest cell that is read
    core: float
    extra: float


def measure(master: Master) -> Size:
    """The size of a notebook, from its master."""
    written = read = words = longest = 0
    minutes = {False: 0.0, True: 0.0}
    level = 0  # of the heading of the extra part that we are in, 0 on the core path
    for cell in master.cells:
        if cell.kind == "markdown":
            for paragraph in re.split(r"\n(?=#)", cell.source):  # a heading begins a part
                level = _level(paragraph, level)
                count = _words(paragraph)
                words += count
                minutes[level > 0] += count / WORDS_A_MINUTE
        elif cell.role == "answer":
            yours, ours = lines_of_answer(cell, master.quizzes[cell.quiz])
            written, read = written + yours, read + ours
            minutes[level > 0] += master.quizzes[cell.quiz].minutes + ours / LINES_A_MINUTE
        elif cell.role != "check":
            count = len(_full(cell.source))
            read, longest = read + count, max(longest, count)
            minutes[level > 0] += count / LINES_A_MINUTE + LOOK
    return Size(written, read, words, longest, minutes[False], minutes[True])


def lines_of_answer(cell: Cell, quiz: object) -> tuple[int, int]:
    """(lines that a student writes, lines that stand there already) of an answer cell; (0, 0) for a letter."""
    if isinstance(quiz, Concept):
        return 0, 0
    solution, handed = cell.region("SOLUTION"), cell.region("HANDED OUT")
    code = _code(solution.text)
    if handed is not None:
        given = [line.removeprefix("#").removeprefix(" ") for line in handed.text.split("\n")]
        code = [line for line in code if line not in given]
        return len(code), len(_full("\n".join(given)))
    around = cell.source.split("\n")
    return len(code), len(_full("\n".join(around[: solution.start] + around[solution.stop :])))


def _level(paragraph: str, level: int) -> int:
    """The level of the heading that marks the part as extra, 0 where the core path goes on."""
    heading = HEADING.match(paragraph)
    if heading is None:
        return level
    here = len(heading[1])
    if level and here > level:
        return level
    return here if EXTRA.match(paragraph.split("\n")[0]) else 0


def _words(text: str) -> int:
    if re.match(r"#+ References", text):
        return 0
    return len(WORD.findall(FORMULA.sub(" ", re.sub(r"\{\{.*?\}\}", " ", text))))


def _full(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def _code(text: str) -> list[str]:
    """Lines with code in them: neither comments nor, at the head of a function, its docstring."""
    without = re.sub(r'^\s*"""(?:.|\n)*?"""\s*$', "", text, flags=re.MULTILINE)
    return [line for line in _full(without) if not line.lstrip().startswith("#")]
