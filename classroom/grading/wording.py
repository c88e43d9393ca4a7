"""What may be said about an answer that gave no result. Its own process may have written the line about it, and may
have seen hidden inputs by then: so a line is not passed on, but recognised, and said anew.
"""

from __future__ import annotations

import builtins
import re

from .records import Outcome, Question

# Notes on the order in which a student saw the options of questions.
OWN_ORDER = "letters of questions are read in the order of options that its own cells tell"
COURSES_ORDER = "letters of questions are read in the course's own order"
OTHER_ORDER = "its cells tell another order of options than this student was handed out: letters are read in the latter"

_PLACES = {"the cell": "source", "what stands above it": "above"}
_ERRORS = {name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)}
_ENDS = {
    # what the outside says, without its numbers: of the same form may be what the inside says
    r"the cell itself takes more than half of the time for an answer": None,
    r"no answer within the time that the answers before it had left": None,
    r"no answer within .*": "no answer within the time for a question",
    r"it used more than .* MB of memory": "it used more memory than a question may have",
    r"its results are larger than .* MB": "its results are larger than a question's may be",
    r"its process ended .*": "its process ended before it had given its results",
    r"its process was ended by (SIGKILL|SIGSEGV|SIGABRT|SIGXFSZ|SIGBUS|SIGFPE|SIGILL|SIGSYS)": None,
    r"the cell has more than 1,000,000 characters": None,
    r"its sandbox had to be started again: .*": "its sandbox had to be started again",
}
_OTHER = {
    "timeout": "no answer within the time for a question",
    "crashed": "its process ended before it had given its results",
    "missing": "the cell does not define what was asked for",
}


def told(outcome: Outcome, question: Question) -> str:
    """The line about an outcome without results, made of known words, the cell's own names, and numbers of its lines.

    >>> cell = Question("demo/q", "f", "x = HALF", "03", ())
    >>> told(Outcome(None, "missing", "NameError: name 'HALF' is not defined (line 1 of the cell)"), cell)
    'NameError: `HALF` is not defined (line 1 of the cell)'
    >>> told(Outcome(None, "missing", "ValueError: 0.4711 (line 1 of the cell)"), cell)
    'ValueError (line 1 of the cell)'
    >>> told(Outcome(None, "crashed", "0.4711"), cell)
    'its process ended before it had given its results'
    """
    if outcome.trouble == "missing":
        return _about_the_cell(outcome.detail, question)
    for pattern, said in _ENDS.items():
        if re.fullmatch(pattern, outcome.detail):
            return said or outcome.detail
    return _OTHER[outcome.trouble]


def _about_the_cell(detail: str, question: Question) -> str:
    if match := re.match(r"(the cell|what stands above it) has a syntax error in line (\d{1,5})\b", detail):
        place, line = match.groups()
        return f"{place} has a syntax error in line {line}" if _has(question, place, line) else _OTHER["missing"]
    match = re.fullmatch(r"(\w+)(:.*)? \(line (\d{1,5}) of (the cell|what stands above it)\)", detail)
    if match is None or not _has(question, match[4], match[3]):
        return f"the cell does not define {question.name}"
    kind = match[1] if match[1] in _ERRORS else "an exception"
    return f"{kind}{_named(match[2] or '', question)} (line {match[3]} of {match[4]})"


def _named(text: str, question: Question) -> str:
    """Of a NameError the name, if it is one of the student's own."""
    match = re.match(r": name '(\w{1,80})' is not defined", text)
    own = match and re.search(rf"\b{match[1]}\b", f"{question.source}\n{question.above}")
    return f": `{match[1]}` is not defined" if own else ""


def _has(question: Question, place: str, line: str) -> bool:
    return 1 <= int(line) <= getattr(question, _PLACES[place]).count("\n") + 1
