"""From one submission to its scores. Only answer cells are taken from it, and only the sandbox runs them."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..quizzes import Concept, Quiz
from ..quizzes.judging import Verdict, judge
from ..quizzes.running import results_from_wire
from ..quizzes.variants import original_letter
from . import plan as planning
from .handed_in.letters import letter
from .handed_in.python import Code
from .handed_in.read import one_line
from .handed_in.take import take
from .plan import Plan, Task
from .records import Answer, Outcome, Question, Report, Score, Submission
from .sandbox import Sandbox
from .statements import bound, closure

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
    taken = take(submission, plan.handed_out)
    if taken.trouble:
        return unscored(submission, plan, "unreadable", taken.trouble)
    answers = {answer.quiz: answer for answer in taken.answers}
    questions = _questions(plan, answers, rules)
    outcomes = dict(zip((question.id for question in questions), sandbox.run(questions)))
    order = _order(submission.student, rules)
    scores = tuple(
        _score(task, answers[task.quiz.id], outcomes.get(task.quiz.id), order, rules.seed) for task in plan.tasks
    )
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
    quizzes = [task.quiz for task in plan.tasks] if plan else []
    scores = tuple(Score(quiz.id, 0, quiz.points, status, note) for quiz in quizzes)
    return Report(submission.student, submission.notebook, submission.name, scores, (note,))


def _questions(plan: Plan, answers: Mapping[str, Answer], rules: Rules) -> list[Question]:
    """The code quizzes that were attempted."""
    found = []
    for task in plan.tasks:
        id, answer = task.quiz.id, answers[task.quiz.id]
        if isinstance(task.quiz, Quiz) and not _untouched(task, answer):
            others = _others(plan, task, answers)
            wire = planning.request(task, rules.seed)
            found.append(Question(id, task.name, answer.source, plan.number, wire, others, task.quiz.forbidden))
    return found


def _others(plan: Plan, task: Task, answers: Mapping[str, Answer]) -> dict[str, str]:
    """Sources of the notebook's other answers that this one mentions: the course's, or else the student's own."""
    course = planning.supplied(plan, task)
    source = answers[task.quiz.id].source
    found = {}
    for other in plan.tasks:
        name, answer = other.name, answers[other.quiz.id]
        if other is not task and name != task.name and name in source and isinstance(other.quiz, Quiz):
            lent = course.get(name) or ("" if _untouched(other, answer) else _definition(answer.code, name))
            if lent:
                found[name] = lent
    return found


def _definition(code: Code, name: str) -> str:
    """What a student's own cell needs to define `name`, without the rest of it; "" if it does not define it."""
    body = code.tree.body if code.tree else []
    roots = [node for node in body if name in bound(node)]
    try:
        text = "\n".join(map(ast.unparse, closure(body, roots)))
        compile(text, "lent", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    return text


def _untouched(task: Task, answer: Answer) -> bool:
    return answer.code is None or answer.code.text.strip() == task.stub.text.strip()


def _score(task: Task, answer: Answer, outcome: Outcome | None, order: Mapping[str, str], seed: int) -> Score:
    quiz = task.quiz
    if isinstance(quiz, Concept):
        score = _score_question(quiz, answer, task.name, order.get(quiz.id, ""))
    elif outcome is None:
        score = Score(quiz.id, 0, quiz.points, "missing", UNTOUCHED)
    else:
        score = _score_code(task, outcome, seed)
    message = f"{score.message} ({answer.note})" if answer.note else score.message
    return replace(score, message=_tidy(message))


def _tidy(message: str) -> str:
    """One printable line, the same in every run: students' exceptions may hold anything, addresses in memory too."""
    return re.sub(r"0x[0-9a-f]{6,}", "0x…", one_line(message, 700))


def _score_question(concept: Concept, answer: Answer, name: str, order: str) -> Score:
    chosen, note = letter(answer.code, name, concept.id)
    if not chosen:
        return Score(concept.id, 0, concept.points, "missing", note or UNTOUCHED)
    option = original_letter(chosen, order)
    if option == concept.answer:
        return Score(concept.id, concept.points, concept.points, "ok", f"{chosen} is right.")
    said = f"{chosen} is not right." if option in concept.options else f"There is no option {chosen}."
    return Score(concept.id, 0, concept.points, "wrong", said)


def _score_code(task: Task, outcome: Outcome, seed: int) -> Score:
    quiz = task.quiz
    if outcome.trouble:
        return Score(quiz.id, 0, quiz.points, outcome.trouble, outcome.detail)
    expected = planning.expected(task, seed)
    try:
        verdict = judge(quiz, expected.cases, results_from_wire(outcome.data, len(expected.cases)), expected)
    except Exception:  # what comes from there is nobody's word: whatever it does to us is that answer's fault alone
        return Score(quiz.id, 0, quiz.points, "crashed", "Its process gave back something that is not a result.")
    if verdict.passed:
        return Score(quiz.id, quiz.points, quiz.points, "ok", "Passed on fresh inputs.")
    return Score(quiz.id, 0, quiz.points, "missing" if verdict.stage == "not attempted" else "wrong", _message(verdict))


def _message(verdict: Verdict) -> str:
    """What a student may read: what was found and the advice, without the numbers of the hidden inputs."""
    if verdict.stage == "not attempted":
        return UNTOUCHED
    return " ".join(filter(None, (f"{verdict.finding or 'wrong values'}.", *verdict.details)))
