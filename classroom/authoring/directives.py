"""What a master leaves to the build: headings of quizzes, question text, the table of running times, solutions."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

from ..quizzes.declarations import Concept, Quiz, question_markdown
from .masters import Cell, Master, MasterError, question
from .sizes import Size, measure

DIRECTIVE = re.compile(r"\{\{\s*(?P<name>[a-z]+)(?:\s+(?P<argument>[^\s}]+))?\s*\}\}")
EFFORTS = {
    "smoke": "a quick look: does everything run?",
    "cpu": "the full lesson on two processor cores",
    "gpu": "the full lesson, longer trainings, on a GPU",
}


def expand(master: Master, cell: Cell, budgets: Path) -> str:
    """The cell's markdown with every `{{…}}` filled in.  Raises MasterError for a directive nobody knows."""

    def fill(match: re.Match) -> str:
        name, argument = match["name"], match["argument"]
        if name == "budget":
            return f"{time_of_a_person(measure(master))}\n\n{budget_table(master.stem, budgets)}"
        if name == "heading" and argument in master.numbers:
            return heading(master.numbers[argument], question(master, argument, cell.line))
        if name == "question" and argument:
            return question_markdown(question(master, argument, cell.line))
        raise MasterError(
            f"{master.path.parent.name}/{master.path.name}:{cell.line}: expected {{{{budget}}}}, "
            f"{{{{question some/id}}}} or a heading '### {{{{heading some/id}}}}', got {match[0]}"
        )

    return DIRECTIVE.sub(fill, cell.source) if cell.kind == "markdown" else cell.source


def heading(number: str, quiz: Quiz | Concept) -> str:
    """What stands over a quiz.

    >>> heading("1.2c", Concept("demo/sum", 1, "A sum", "What is $1+1$?", {}))
    'Question 1.2c · A sum   *(concept, 1 point, about 2 minutes)*'
    """
    what = "Question" if isinstance(quiz, Concept) else "Quiz"
    worth = f"{_counted(quiz.points, 'point')}, about {_counted(quiz.minutes, 'minute')}"
    return f"{what} {number} · {quiz.title}   *({quiz.kind}, {worth})*"


def _counted(count: int | float, what: str) -> str:
    return f"{count:g} {what}{'' if count == 1 else 's'}"


def time_of_a_person(size: Size) -> str:
    """How long somebody will sit over it, to the nearest five minutes; the questions count as their headings say.

    >>> time_of_a_person(Size(60, 350, 3900, 30, core=112.0, extra=33.0))
    '**Your time:** about 1 h 50 min; what is marked *extra*, 35 min more, can wait.'
    """
    more = f"; what is marked *extra*, {spoken(size.extra)} more, can wait" if size.extra else ""
    return f"**Your time:** about {spoken(size.core)}{more}."


def spoken(minutes: float) -> str:
    """Minutes of a person, to the nearest five.

    >>> spoken(112.0), spoken(33.0)
    ('1 h 50 min', '35 min')
    """
    minutes = 5 * max(1, round(minutes / 5))
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def budget_table(stem: str, path: Path) -> str:
    """Measured seconds and memory of one notebook, as a markdown table, from `path` (see benchmarks/notebooks.py)."""
    table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rows = ["| effort | what it is | time | peak memory |", "|---|---|---|---|"]
    for effort, meaning in EFFORTS.items():
        entry = table.get(stem, {}).get(effort)
        time, memory = "not measured yet", "–"
        if entry:
            time, memory = _time(entry), f"{entry['peak_mb'] / 1000:.1f} GB"
        rows.append(f"| `{effort}` | {meaning} | {time} | {memory} |")
    return "\n".join(rows)


def folded_solution(cell: Cell, declaration: object) -> str:
    """Markdown that hides the solution of `cell` behind a click: code, or the right letter, then the explanation."""
    parts = ["<details>", "<summary><b>Solution</b> (open it once you have tried)</summary>", ""]
    options = getattr(declaration, "options", {})
    if options:
        parts += [f"The answer is **{declaration.answer}**.", ""]
        parts += [f"* **{letter}** · {_one_line(option.feedback)}" for letter, option in options.items()]
    else:
        parts += ["```python", cell.region("SOLUTION").text.strip("\n"), "```"]
    explanation = textwrap.dedent(declaration.explanation).strip()
    if explanation:
        parts += ["", explanation]
    return "\n".join([*parts, "", "</details>"])


def _one_line(text: str) -> str:
    return " ".join(textwrap.dedent(text).split())


def _time(entry: dict) -> str:
    seconds = round(entry["seconds"])
    spoken = f"{seconds} s" if seconds < 90 else f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{spoken} ({entry['machine']})"
