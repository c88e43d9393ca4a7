"""From one submission to its scores. Only answer cells are taken from it, and only the sandbox runs them."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..quizzes import Concept, Quiz, declarations
from ..quizzes.judging import Verdict, judge
from ..quizzes.running import results_from_wire
from ..quizzes.variants import original_letter
from . import plan as planning
from .answers import letter, take
from .helpers import bound
from .plan import Plan
from .reading import one_line, parsed
from .records import Answer, Outcome, Question, Report, Score, Submission
from .sandbox import Sandbox
from .sources import closure

UNTOUCHED = "Not answered yet."


@dataclass(frozen=True)
class Rules:
    """What a grading is asked to do.

    seed: of the fresh inputs;  order: student -> quiz id -> the order of a question's options, where variants were
    handed out, e.g. "cadb".
    """

    seed: int = 0
    order: Mapping[str, Mapping[str, str]] | None = None


def grade(submission: Submission, plans: Mapping[str, Plan], sandbox: Sandbox, rules: Rules) -> Report:
    """The scores of one submission: the same for the same bytes and rules, whatever else is graded beside it."""
    plan = plans.get(submission.notebook)
    if plan is None:
        return unscored(submission, plan, "unreadable", submission.trouble)
    taken = take(submission, plan.clean, plan.names)
    if taken.trouble:
        return unscored(submission, plan, "unreadable", taken.trouble)
    answers = {answer.quiz: answer for answer in taken.answers}
    questions = _questions(plan, answers, rules)
    outcomes = dict(zip((question.id for question in questions), sandbox.run(questions)))
    scores = tuple(_score(plan, answers[id], outcomes.get(id), submission.student, rules) for id in plan.names)
    notes = taken.notes + _about_order(submission.student, rules)
    return Report(submission.student, plan.number, submission.name, scores, notes)


def _about_order(student: str, rules: Rules) -> tuple[str, ...]:
    """Variants were handed out, and not to this student: the letters then mean the options as the course has them."""
    if rules.order is None or _order(student, rules):
        return ()
    return ("not on the roster of variants: letters of questions are read in the course's own order",)


def _order(student: str, rules: Rules) -> Mapping[str, str]:
    return (rules.order or {}).get(unicodedata.normalize("NFC", student), {})


def unscored(submission: Submission, plan: Plan | None, status: str, note: str) -> Report:
    """A report that gives every question of the notebook this status and no points; plan: None where it is of none."""
    scores = tuple(Score(id, 0, declarations.get(id).points, status, note) for id in (plan.names if plan else ()))
    return Report(submission.student, submission.notebook, submission.name, scores, (note,))


def _questions(plan: Plan, answers: Mapping[str, Answer], rules: Rules) -> list[Question]:
    """The code quizzes that were attempted."""
    found = []
    for id, name in plan.names.items():
        if isinstance(declarations.get(id), Quiz) and not _untouched(plan, answers[id]):
            source = answers[id].source
            others = _others(plan, id, source, answers)
            wire = planning.request(id, rules.seed)
            found.append(Question(id, name, source, plan.number, wire, others, planning.forbidden(id)))
    return found


def _others(plan: Plan, quiz: str, source: str, answers: Mapping[str, Answer]) -> dict[str, str]:
    """Sources of the notebook's other answers that this one mentions: the course's, or else the student's own."""
    course = planning.supplied(plan, quiz)
    found = {}
    for id, name in plan.names.items():
        if id != quiz and name != plan.names[quiz] and name in source and isinstance(declarations.get(id), Quiz):
            lent = course.get(name) or ("" if _untouched(plan, answers[id]) else _definition(answers[id].source, name))
            if lent:
                found[name] = lent
    return found


def _definition(source: str, name: str) -> str:
    """What a student's own cell needs to define `name`, without the rest of it; "" if it does not define it."""
    tree = parsed(source)[1]
    roots = [node for node in tree.body if name in bound(node)] if tree else []
    try:
        text = "\n".join(map(ast.unparse, closure(tree.body, roots))) if roots else ""
        compile(text, "lent", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    return text


def _untouched(plan: Plan, answer: Answer) -> bool:
    return answer.source is None or answer.source.strip() == plan.stubs[answer.quiz].strip()


def _score(plan: Plan, answer: Answer, outcome: Outcome | None, student: str, rules: Rules) -> Score:
    declared = declarations.get(answer.quiz)
    if isinstance(declared, Concept):
        score = _score_question(declared, answer, plan.names[declared.id], student, rules)
    elif outcome is None:
        score = Score(declared.id, 0, declared.points, "missing", UNTOUCHED)
    else:
        score = _score_code(declared, outcome, rules)
    message = f"{score.message} ({answer.note})" if answer.note else score.message
    return replace(score, message=_tidy(message))


def _tidy(message: str) -> str:
    """One printable line, the same in every run: students' exceptions may hold anything, addresses in memory too."""
    return re.sub(r"0x[0-9a-f]{6,}", "0x…", one_line(message, 700))


def _score_question(concept: Concept, answer: Answer, name: str, student: str, rules: Rules) -> Score:
    chosen, note = letter(answer.source, name, concept.id)
    if not chosen:
        return Score(concept.id, 0, concept.points, "missing", note or UNTOUCHED)
    option = original_letter(chosen, _order(student, rules).get(concept.id, ""))
    if option == concept.answer:
        return Score(concept.id, concept.points, concept.points, "ok", f"{chosen} is right.")
    said = f"{chosen} is not right." if option in concept.options else f"There is no option {chosen}."
    return Score(concept.id, 0, concept.points, "wrong", said)


def _score_code(quiz: Quiz, outcome: Outcome, rules: Rules) -> Score:
    if outcome.trouble:
        return Score(quiz.id, 0, quiz.points, outcome.trouble, outcome.detail)
    expected = planning.expected(quiz.id, rules.seed)
    try:
        verdict = judge(quiz, expected.cases, results_from_wire(outcome.data, len(expected.cases)), expected)
    except Exception:  # what comes from there is nobody's word: whatever it does to us is that answer's fault alone
        return Score(quiz.id, 0, quiz.points, "crashed", "Its process gave back something that is not a result.")
    if verdict.passed:
        return Score(quiz.id, quiz.points, quiz.points, "ok", "Passed on fresh inputs.")
    return Score(quiz.id, 0, quiz.points, "missing" if verdict.stage == "not attempted" else "wrong", _message(verdict))


def _message(verdict: Verdict) -> str:
    """What a student may read: the stage and the advice, no numbers of the hidden inputs."""
    if verdict.stage == "not attempted":
        return UNTOUCHED
    headline = re.sub(r":? ?expected .*", "", verdict.headline) if verdict.stage == "value" else verdict.headline
    return " ".join(filter(None, (f"{headline or 'wrong values'}.", *verdict.details)))
