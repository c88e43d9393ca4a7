"""What a student calls in a notebook: `check`, `hint`, `ask`, `predict`, `reveal`, `progress`.

Nothing a student can do to them stops a notebook: a wrong answer gets an answer, and the reference steps in. Only when
nbgrader executes the notebook (NBGRADER_EXECUTION is "autograde" or "validate") do they raise, since nbgrader gives
full points to every cell that does not.
"""

from __future__ import annotations

import math
import os
import re
from typing import Any

from . import cards, declarations, kernel, variants, widgets
from .declarations import Concept, Quiz, UnknownQuiz
from .judging import Verdict, judge
from .memory import Memory
from .running import Result, run


def _is_guess(value: Any) -> bool:
    """[guess or None, low, high, unit]."""
    if not (isinstance(value, list) and len(value) == 4 and isinstance(value[3], str)):
        return False
    guess, low, high = value[:3]
    numbers = [low, high] if guess is None else [guess, low, high]
    return all(type(each) in (int, float) and math.isfinite(each) for each in numbers) and low < high


_hints_seen = Memory("hints", lambda seen: type(seen) is int and seen >= 0)
_guesses = Memory("guesses", _is_guess)
_tried = Memory("passed", lambda passed: type(passed) is bool)  # id -> passed, for `progress`

_TITLES = {
    "missing": "Nothing to check",
    "not attempted": "Not attempted yet",
    "raised": "It stops with an error",
    "type": "Another type is wanted",
    "structure": "Something else should come out",
    "shape": "The shape is off",
    "dtype": "Right shape, another dtype is wanted",
    "device": "Right shape, but on another device",
    "nan": "Right shape, but not a number",
    "detached": "No gradient flows",
    "value": "Right shape, wrong values",
    "gradient": "Right values, wrong gradient",
    "in place": "It changes its input",
    "passed": "Passed",
}


# --------------------------------------------------------------------------------------------------------- code quizzes


def check(id: Any, answer: Any) -> Any:
    """Check an answer to a code quiz, say what was found, and return what the notebook should go on with.

    id: of the quiz, as in the cell;  answer: your function (or class).
    Returns `answer` if it passed, else the course's own function, so that the cells below always work.
    Under nbgrader it raises AssertionError unless the answer passed.

        kl = check("vae/kl", kl)
    """
    try:
        quiz = declarations.get(id)
    except UnknownQuiz as error:
        _complain(str(error))
        return answer
    if isinstance(quiz, Concept):
        _complain(f"{id} is a question, not a code quiz: use ask({id!r}, …)")
        return answer
    verdict, results = _verdict(quiz, answer)
    _tried[id] = verdict.passed
    name = _name(answer, quiz)
    own = f"own `{name}`" if name else "own function"
    note = "" if verdict.passed else f"The rest of the notebook uses the course's {own} until yours passes."
    printed = next((result.printed for result in results if result.printed), "")
    text = _line(quiz, verdict)
    if not verdict.passed:
        _raise_for_nbgrader(text)
    hints = () if verdict.passed else quiz.hints
    markup = _as_card(quiz, verdict, note, printed) + (widgets.asleep(id, "button for hints") if hints else "")
    cards.show("\n".join(_as_text(text, verdict, note, printed)), markup)
    if hints:
        widgets.show_hints(id, hints, min(_hints_seen.get(id, 0), len(hints)), lambda: _next_hint(quiz)[0])
    return answer if verdict.passed else quiz.reference


def _verdict(quiz: Quiz, answer: Any) -> tuple[Verdict, list[Result]]:
    if isinstance(answer, kernel.Missing):
        return Verdict(quiz.id, "missing", answer.headline, answer.advice), []
    if answer is quiz.reference:
        own = "this is the course's own function: run the cell with your answer again, then this one"
        return Verdict(quiz.id, "not attempted", own, tuple(filter(None, [kernel.renamed(quiz.id)]))), []
    if not callable(answer):
        got = "nothing" if answer is None or answer is Ellipsis else f"a value of type {type(answer).__name__}"
        return Verdict(quiz.id, "type", f"expected your function, got {got}: pass its name, without brackets"), []
    cases = quiz.draw_cases()
    results = run(answer, cases, quiz.probe, quiz.out_of_reach)
    return judge(quiz, cases, results), results


def _line(quiz: Quiz, verdict: Verdict) -> str:
    """The verdict in one line that does not change from run to run."""
    points = f"{quiz.points} point{'s' if quiz.points > 1 else ''}"
    if verdict.passed:
        return f"✓ {quiz.id}: passed ({points})"
    if verdict.stage == "missing":
        return f"○ {quiz.id}: {verdict.headline}"
    if verdict.stage == "not attempted":
        return f"○ {quiz.id}: not attempted yet ({points}){': ' + verdict.headline if verdict.headline else ''}"
    known = f" ({verdict.misconception})" if verdict.misconception else ""
    return f"✗ {quiz.id}: {verdict.headline}{known}"


def _as_text(line: str, verdict: Verdict, note: str, printed: str) -> list[str]:
    lines = [line, *(f"  {text}" for text in (*verdict.details, verdict.evidence) if text)]
    if note:
        lines.append(f"  {note}")
    if printed.strip() and not verdict.passed:
        lines.append(f"  Your code printed: {' '.join(printed.split())[:200]}")
    return lines


def _as_card(quiz: Quiz, verdict: Verdict, note: str, printed: str) -> str:
    tone = "passed" if verdict.passed else "waiting" if verdict.stage in ("missing", "not attempted") else "wrong"
    aside = f"{quiz.points if verdict.passed else 0} of {quiz.points} points"
    stage = _TITLES[verdict.stage]
    headline = f"{stage}: {verdict.headline}" if verdict.headline else f"{stage}."
    if quiz.bug_hunt and tone == "wrong":
        headline = f"The bug is still there. {headline}"
    if verdict.passed:
        headline = "Passed: the bug is fixed." if quiz.bug_hunt else "Passed."
        return cards.card(tone, quiz.title, headline, [quiz.passed] if quiz.passed else [], aside=aside)
    paragraphs = list(verdict.details)
    if verdict.misconception:
        paragraphs[0] = f"Known slip: **{verdict.misconception}**. {paragraphs[0]}"
    return cards.card(tone, quiz.title, headline, paragraphs, verdict.evidence, note, printed, aside)


def hint(id: Any) -> None:
    """Show the next hint of a code quiz; after the last one, all of them again."""
    try:
        quiz = declarations.get(id)
    except UnknownQuiz as error:
        return _complain(str(error))
    hints = getattr(quiz, "hints", ())
    if not hints:
        return _complain(f"{id} has no hints")
    if _hints_seen.get(id, 0) >= len(hints):
        texts = [f"**Hint {i}.** {text}" for i, text in enumerate(hints, 1)]
        plain = [f"{id}: all {len(hints)} hints", *(f"  {i}. {text}" for i, text in enumerate(hints, 1))]
        return cards.show("\n".join(plain), cards.card("waiting", quiz.title, "All hints", texts))
    number, text = _next_hint(quiz)
    more = f"`hint({id!r})` shows the next one." if number < len(hints) else "That was the last one."
    title = f"Hint {number} of {len(hints)}"
    cards.show(f"{id}: hint {number} of {len(hints)}: {text}", cards.card("waiting", quiz.title, title, [text], more))


def _next_hint(quiz: Quiz) -> tuple[int, str]:
    number = min(_hints_seen.get(quiz.id, 0) + 1, len(quiz.hints))
    _hints_seen[quiz.id] = number
    return number, quiz.hints[number - 1]


def _name(answer: Any, quiz: Quiz) -> str:
    """What the student calls it, or the library; "" where neither has a name worth showing."""
    try:
        name = getattr(answer, "__name__", "")
    except Exception:  # an object that refuses to be asked
        name = ""
    if type(name) is not str or not name.isidentifier():
        name = getattr(quiz.reference, "__name__", "")
    return name if name.isidentifier() and not name.startswith("_") else ""


# ------------------------------------------------------------------------------------------------------------ questions


def ask(id: Any, answer: Any = "", order: Any = "") -> None:
    """Answer a concept question: shows what can be said about the option you chose.

    id: of the question, as in the cell;  answer: a letter in quotes: what you type counts, and is handed in; the
    buttons show what can be said about an option;  order: the one in which the options stand in this notebook, where it
    is not the usual one.
    Under nbgrader it raises AssertionError unless the letter is right.

        ask("vae/where-latents-go", "b")
    """
    try:
        concept = declarations.get(id)
    except UnknownQuiz as error:
        return _complain(str(error))
    if isinstance(concept, Quiz):
        return _complain(f"{id} is a code quiz, not a question: use check({id!r}, …)")
    try:
        concept = variants.reordered(concept, order) if order else concept
    except ValueError as error:
        return _complain(f"{id}: {error}; take this cell from the notebook as it was handed out")
    letter = answer.strip().lower() if type(answer) is str else ""
    _tried[id] = letter == concept.answer
    line, markup = _asked(concept, answer, letter)
    if _tried[id]:
        return cards.show(line, markup)
    _raise_for_nbgrader(line.partition("\n")[0].partition(". ")[0])
    cards.show(line, markup + widgets.asleep(id, "row of buttons"))

    def clicked(letter: str) -> str:
        return _feedback(concept, letter, note=_to_hand_in(id, letter))

    widgets.show_choice(id, concept.title, list(concept.options), clicked)


def _asked(concept: Concept, answer: Any, letter: str) -> tuple[str, str]:
    """What can be said about an answer, as text and as HTML."""
    points = f"{concept.points} point{'s' if concept.points > 1 else ''}"
    aside = f"{concept.points if letter == concept.answer else 0} of {points}"
    *others, last = concept.options
    listed = f"{', '.join(others)} or {last}"
    if isinstance(answer, kernel.Missing):
        line = "\n".join([f"○ {concept.id}: {answer.headline}", *(f"  {text}" for text in answer.advice)])
        return line, cards.card(
            "waiting", concept.title, f"No answer yet: {answer.headline}.", answer.advice, aside=aside
        )
    if answer is None or answer is Ellipsis or (type(answer) is str and not letter):
        how = f"Type {listed} between the quotes in the cell above: that is what counts."
        line = f"○ {concept.id}: no answer yet ({points}). {how}"
        return line, cards.card("waiting", concept.title, "No answer yet.", [how], aside=aside)
    if letter not in concept.options:
        what = f"expected one of the letters {listed} in quotes, got {_short(answer)}"
        return f"✗ {concept.id}: {what}", cards.card("wrong", concept.title, what, aside=aside)
    if letter == concept.answer:
        return f"✓ {concept.id}: {letter} is right ({points})", _feedback(concept, letter, aside)
    said = " ".join(concept.options[letter].feedback.split())
    return f"✗ {concept.id}: {letter} is not it. {said}", _feedback(concept, letter, aside)


def _feedback(concept: Concept, letter: str, aside: str = "", note: str = "") -> str:
    option = concept.options[letter]
    headline = f"{letter}: right." if option.right else f"{letter}: not this one."
    paragraphs = [option.feedback, note] if note else [option.feedback]
    return cards.card("passed" if option.right else "wrong", concept.title, headline, paragraphs, aside=aside)


def _to_hand_in(id: str, letter: str) -> str:
    """What a click leaves to do: the letter that counts, and is handed in, stands in a cell."""
    name = kernel.asked_by(id)
    typed = f'type `{name} = "{letter}"` in' if name else f"type {letter} between the quotes in"
    return f"**You chose {letter} with a click. To hand it in**, {typed} the cell above, and run both cells."


# ---------------------------------------------------------------------------------------------------- predict, then run


def predict(id: str, question: str, low: Any, high: Any, unit: str = "", value: Any = None) -> float | None:
    """Ask for a guess before the cell that measures it runs; `reveal` shows both.

    low, high: between which it must lie;  value: the guess as a number, where there are no widgets.
    Returns the guess, None while there is none.  Raises ValueError if low < high does not hold.
    """
    low, high = _number(low), _number(high)
    if low is None or high is None or not low < high:
        raise ValueError(f"predict({id!r}): expected two finite numbers low < high, got {low} and {high}")
    guess = _guesses[id][0] if id in _guesses else None
    if value is not None:
        typed = _number(value)
        if typed is None or not low <= typed <= high:
            _complain(
                f"{id}: expected a guess as a number from {low:g} to {high:g}, got {_short(value)}; it is not counted"
            )
        else:
            guess = typed
    _guesses[id] = [guess, low, high, unit]
    span = f"{low:g} to {high:g}{' ' + unit if unit else ''}"
    said = f"Your guess: {_with_unit(guess, unit)}." if guess is not None else "No guess yet."
    how = f"Type a number ({span}) below and press Enter, or `value=` into the call above; then run the next cell."
    text = f"Predict, then run: {' '.join(question.split())} ({span}; {said[0].lower()}{said[1:-1]})"
    markup = cards.card("waiting", "Predict, then run", question, [said], how if guess is None else "")
    cards.show(text, markup + widgets.asleep(id, "field for your guess"))

    def take(typed: str) -> str:
        chosen = _number_in(typed)
        if chosen is None or not low <= chosen <= high:
            return f"Expected a number from {span}, got {_short(typed)}." if typed.strip() else "No guess yet."
        _guesses[id] = [chosen, low, high, unit]
        return f"Your guess: {_with_unit(chosen, unit)}. Now run the next cell."

    widgets.show_guess(id, question, span, "" if guess is None else f"{guess:.4g}", take)
    return guess


def reveal(id: str, measured: Any) -> None:
    """Show what was measured beside what was guessed in `predict(id, …)`. Works without a guess, too."""
    number = _number(measured)
    if number is None:
        return _complain(f"{id}: expected a measured number that is finite, got {_short(measured)}")
    said, low, high, unit = _guesses.get(id, [None, 0.0, 0.0, ""])
    shown = _with_unit(number, unit)
    if said is None:
        text = f"Measured: {shown}."
        return cards.show(
            f"{id}: measured {shown} (no guess was made)", cards.card("waiting", "Predict, then run", text)
        )
    distance = abs(said - number) / (high - low)
    if distance <= 0.03:
        kind = "You saw it coming."
    elif distance <= 0.12:
        kind = "Close: the picture in your head is the right one."
    else:
        kind = "Not what you expected. Good: that is the moment in which something is learned."
    text = f"You said {_with_unit(said, unit)}, measured {shown}."
    picture = cards.number_line(min(low, number), max(high, number), said, number)
    markup = cards.card("waiting", "Predict, then run", text, [kind], picture=picture)
    cards.show(f"{id}: you said {_with_unit(said, unit)}, measured {shown}. {kind}", markup)


# ------------------------------------------------------------------------------------------------------------- progress


def progress() -> None:
    """Show which quizzes were tried in the notebooks of this folder, and the points so far."""
    rows, have, of = [], 0, 0
    for id, passed in _tried.items():
        try:
            quiz = declarations.get(id)
        except UnknownQuiz:  # of another edition of the course
            continue
        points = quiz.points if passed else 0
        have, of = have + points, of + quiz.points
        rows.append((quiz.title, "passed" if passed else "not yet", f"{points} of {quiz.points}"))
    if not rows:
        return cards.show("No quiz was tried yet.")
    lines = [f"{have} of {of} points in the quizzes tried so far"]
    plain = lines + [f"  {title}: {state}, {points}" for title, state, points in rows]
    cards.show("\n".join(plain), cards.table(lines[0], ("quiz", "", "points"), rows))


# -------------------------------------------------------------------------------------------------------------- helpers


def _nbgrader() -> bool:
    return os.environ.get("NBGRADER_EXECUTION") in ("autograde", "validate")


def _raise_for_nbgrader(line: str) -> None:
    if _nbgrader():
        raise AssertionError(line)


def _complain(line: str) -> None:
    """One clear line about a call that can't work; under nbgrader, an error, so that it earns no points."""
    _raise_for_nbgrader(line)
    cards.show(line, cards.card("wrong", "", line))


def _number(value: Any) -> float | None:
    """A finite float from a number or from a tensor or array with one entry, else None."""
    if isinstance(value, bool | str):
        return None
    try:
        number = float(value)
    except Exception:  # whatever float() makes of a student's object
        return None
    return number if math.isfinite(number) else None


def _number_in(text: str) -> float | None:
    """A number as people type it, None if it is none.

    >>> _number_in(" 0,5 "), _number_in("1,000"), _number_in("a half")
    (0.5, 1000.0, None)
    """
    text = text.strip()
    thousands = re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+(\.\d*)?", text)
    try:
        return _number(float(text.replace(",", "" if thousands else ".")))
    except ValueError:
        return None


def _with_unit(value: float, unit: str) -> str:
    number = f"{value:.4g}"
    return f"{number} {unit}" if unit else number


def _short(value: Any) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:58] + " …"
