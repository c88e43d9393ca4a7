"""From one submission to its scores. Only answer cells are taken from it, and only the sandbox runs them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..quizzes import Concept, Quiz
from ..quizzes.judging import STAGES, Verdict, judge
from ..quizzes.variants import original_letter
from . import plan as planning
from .handed_in.read import one_line
from .plan import Plan, Task
from .records import UNTOUCHED, Answer, Outcome, Question, Report, Rules, Score, Submission
from .sandbox import Sandbox
from .wording import COURSES_ORDER, OTHER_ORDER, OWN_ORDER, told

NOT_ATTEMPTED, NOT_DEFINED = STAGES[0], "not defined"


def grade(submission: Submission, data: bytes, plans: Mapping[str, Plan], sandbox: Sandbox, rules: Rules) -> Report:
    """The scores of one submission, whose bytes are `data`: the same for the same bytes and rules, whatever else is
    graded beside it."""
    plan = plans.get(submission.notebook)
    if plan is None:
        return unscored(submission, plan, "unreadable", submission.trouble)
    taken = sandbox.read(data, plan.number)
    if taken.trouble:
        return unscored(submission, plan, "unreadable", taken.trouble)
    answers = {answer.quiz: answer for answer in taken.answers}
    tried = _tried(plan, answers, sandbox, rules.seed)
    order = _order(submission.student, rules)
    own = {id: told for id, told in _told(plan, answers).items() if told}
    scores = tuple(_score(task, answers[task.quiz.id], tried.get(task.quiz.id), own | order) for task in plan.tasks)
    notes = submission.notes + taken.notes + _about_order(order, _told(plan, answers), rules)
    return Report(submission.student, plan.number, submission.name, scores, notes)


def _about_order(order: Mapping[str, str], told: Mapping[str, str], rules: Rules) -> tuple[str, ...]:
    """Where letters may mean other options than one would think. told: the orders in the notebook's own cells."""
    if order:
        return (OTHER_ORDER,) if any(order.get(id, own) != own for id, own in told.items()) else ()
    unlisted = () if rules.order is None else ("not on the roster of variants",)
    return (*unlisted, OWN_ORDER) if any(told.values()) else (*unlisted, COURSES_ORDER) if unlisted else ()


def _told(plan: Plan, answers: Mapping[str, Answer]) -> dict[str, str]:
    """Question -> the order of its options that its cell tells, "" if none; a spoilt one is none."""
    concepts = {task.quiz.id: sorted(task.quiz.options) for task in plan.tasks if isinstance(task.quiz, Concept)}
    told = {id: answers[id].order for id in concepts if answers[id].order is not None}
    return {id: order if sorted(order) == concepts[id] else "" for id, order in told.items()}


def _order(student: str, rules: Rules) -> Mapping[str, str]:
    return (rules.order or {}).get(unicodedata.normalize("NFC", student), {})


def unscored(submission: Submission, plan: Plan | None, status: str, note: str) -> Report:
    """A report that gives every question of the notebook this status and no points; plan: None where it is of none."""
    quizzes = [task.quiz for task in plan.tasks] if plan else []
    scores = tuple(Score(quiz.id, 0, quiz.points, status, note) for quiz in quizzes)
    return Report(submission.student, submission.notebook, submission.name, scores, (*submission.notes, note))


@dataclass(frozen=True)
class _Try:
    """What came of a code quiz. gave: values, right or wrong, or else it stopped before there were any;
    had_all: all that its student has above it."""

    score: Score
    gave: bool
    had_all: bool = False


def _tried(plan: Plan, answers: Mapping[str, Answer], sandbox: Sandbox, seed: int) -> dict[str, _Try]:
    """The code quizzes that were attempted, each with what its answer was seen to need from other cells.

    Not everything can be seen without running it. An answer that is not right gets a second try, with all that its
    student has above it; that one counts where it is right, or where the first one stopped and only lacked something.
    """
    tasks = {task.quiz.id: task for task in plan.tasks}
    attempted = [id for id, task in tasks.items() if isinstance(task.quiz, Quiz) and _is_attempted(answers[id])]

    def run(ids: list[str], answers: Mapping[str, Answer], seconds: int | float) -> dict[str, _Try]:
        questions = [_question(plan, tasks[id], answers, seed) for id in ids]
        outcomes = sandbox.run(questions, seconds) if questions else []
        return {id: _judged(tasks[id], *each, seed) for id, each in zip(ids, zip(questions, outcomes))}

    first = run(attempted, answers, sandbox.limits.submission)
    again = [id for id, found in first.items() if answers[id].all_above and found.score.status in _WORTH_ANOTHER]
    with_all = answers | {id: replace(answers[id], above=answers[id].all_above) for id in again}
    second = run(again, with_all, sandbox.limits.again)
    truer = {id for id, found in second.items() if not first[id].gave and found.score.status == "wrong"}
    truer = {id for id in truer if second[id].score.message != first[id].score.message}
    return first | {
        id: replace(found, had_all=True) for id, found in second.items() if found.score.points or id in truer
    }


_WORTH_ANOTHER = ("wrong", "missing")  # what took too long, or ended its process, did so with less already


def _question(plan: Plan, task: Task, answers: Mapping[str, Answer], seed: int) -> Question:
    """With the notebook's other functions that it needs: the course's, or else the student's own."""
    quiz, answer, course = task.quiz, answers[task.quiz.id], planning.supplied(plan, task)
    needed = [other for other in plan.tasks if other.name in answer.needs and other is not task]
    supplied = {other.name: course[other.name] for other in needed if other.name in course}
    own = [answers[other.quiz.id].lends for other in needed if other.name not in course]
    above = "\n".join(filter(None, [*own, answer.above]))
    wires = planning.requests(task, seed)
    return Question(quiz.id, task.name, answer.source, plan.number, wires, above, supplied, quiz.forbidden)


def _is_attempted(answer: Answer) -> bool:
    return not (answer.source is None or answer.untouched or answer.trouble)


def _score(task: Task, answer: Answer, tried: _Try | None, order: Mapping[str, str]) -> Score:
    quiz = task.quiz
    if isinstance(quiz, Concept):
        score = _score_question(quiz, answer, order.get(quiz.id, ""))
    elif tried is None:
        score = _missing(quiz, answer)
    else:
        score = tried.score
    is_told = tried and not (tried.gave or tried.had_all)
    notes = "; ".join(filter(None, (answer.note, answer.lacks if is_told else "")))
    return replace(score, message=_tidy(f"{score.message} ({notes})" if notes else score.message))


def _tidy(message: str) -> str:
    """One printable line: notes name what stands in the notebook."""
    return one_line(message, 700)


def _missing(quiz: Quiz | Concept, answer: Answer) -> Score:
    """The score where nothing is there to be judged: the cell as it was handed out, or one that Python cannot read."""
    stage = NOT_DEFINED if answer.trouble else NOT_ATTEMPTED
    return Score(quiz.id, 0, quiz.points, "missing", answer.trouble or UNTOUCHED, stage=stage)


def _score_question(concept: Concept, answer: Answer, order: str) -> Score:
    if not answer.letter:
        return _missing(concept, answer)
    option = original_letter(answer.letter, order)
    if option == concept.answer:
        return Score(concept.id, concept.points, concept.points, "ok", f"{answer.letter} is right.", option=option)
    if option not in concept.options:
        return Score(concept.id, 0, concept.points, "wrong", f"There is no option {answer.letter}.")
    return Score(concept.id, 0, concept.points, "wrong", f"{answer.letter} is not right.", option=option)


def _judged(task: Task, question: Question, outcome: Outcome, seed: int) -> _Try:
    quiz = task.quiz
    if outcome.trouble:
        stage = NOT_DEFINED if outcome.trouble == "missing" else ""
        return _Try(Score(quiz.id, 0, quiz.points, outcome.trouble, told(outcome, question), stage=stage), False)
    expected = planning.expected(task, seed)
    try:
        verdict = judge(quiz, expected.cases, planning.answered(task, seed, outcome.data), expected)
    except Exception:  # what comes from there is nobody's word: whatever it does to us is that answer's fault alone
        said = "Its process gave back something that is not a result."
        return _Try(Score(quiz.id, 0, quiz.points, "crashed", said), False)
    if verdict.passed:
        return _Try(Score(quiz.id, quiz.points, quiz.points, "ok", "Passed on fresh inputs."), True)
    status = "missing" if verdict.stage == NOT_ATTEMPTED else "wrong"
    said = _message(verdict, question.source.count("\n") + 1)
    score = Score(quiz.id, 0, quiz.points, status, said, verdict.misconception, stage=verdict.stage)
    return _Try(score, verdict.stage not in (NOT_ATTEMPTED, "raised"))


def _message(verdict: Verdict, lines: int) -> str:
    """What a student may read: what was found and the advice, without numbers of the hidden inputs, nor a word that the
    answer itself put into an exception. lines: of its cell, within which it may have stopped."""
    if verdict.stage == NOT_ATTEMPTED:
        return UNTOUCHED
    where = f"in line {verdict.line} of the cell" if 0 < verdict.line <= lines else ""
    found = " ".join(filter(None, (verdict.finding or "wrong values", where)))
    return " ".join((f"{found}.", *verdict.details))
