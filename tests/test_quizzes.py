"""Every declared code quiz: right answers pass and wrong ones that people really give do not, on several draws.

The answers are in `tests/quizzes/mutants_nbNN.py`: MUTANTS and ALTERNATIVES, each quiz id -> name -> function. A quiz
that is declared without at least three mutants and one alternative fails here.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
from pathlib import Path

import masters
import nbformat
import pytest

from course_utils.quizzes import Concept, Quiz, declarations
from course_utils.quizzes.judging import STAGES, Expected, judge
from course_utils.quizzes.running import from_wire, request_wire, results_from_wire, run, to_wire

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (declarations.NOTEBOOK_SEED, 1, 2, 3, 20_261)  # the notebook's own cases, and draws like a grader's

DECLARED = declarations.registered()
QUIZZES = {id: found for id, found in DECLARED.items() if isinstance(found, Quiz)}
CONCEPTS = {id: found for id, found in DECLARED.items() if isinstance(found, Concept)}


def answers(kind: str) -> dict[str, dict[str, object]]:
    """quiz id -> name -> function, from all files of mutants."""
    found: dict[str, dict[str, object]] = {}
    for number in sorted({declared.module[-2:] for declared in DECLARED.values()}):
        name = f"quizzes.mutants_nb{number}"
        if importlib.util.find_spec(name):
            found |= getattr(importlib.import_module(name), kind)
    return found


MUTANTS, ALTERNATIVES = answers("MUTANTS"), answers("ALTERNATIVES")


def each(table: dict[str, dict[str, object]]) -> list:
    pairs = [(id, name, answer) for id, named in table.items() for name, answer in named.items()]
    return [pytest.param(id, answer, id=f"{id}: {name}") for id, name, answer in pairs]


@functools.cache
def drawn(id: str, seed: int) -> Expected:
    """Cases of a quiz and what is expected of them, made once for all answers."""
    return Expected(QUIZZES[id], QUIZZES[id].draw_cases(seed))


def verdict(quiz: Quiz, answer: object, seed: int):
    expected = drawn(quiz.id, seed)
    return judge(quiz, expected.cases, run(answer, expected.cases, quiz.probe), expected)


@pytest.mark.parametrize("id", QUIZZES)
def test_has_enough_answers_to_be_trusted(id):
    mutants, alternatives = len(MUTANTS.get(id, {})), len(ALTERNATIVES.get(id, {}))
    assert mutants >= 3, f"{id}: expected at least 3 mutants, got {mutants}"
    assert alternatives >= 1, f"{id}: expected at least 1 alternative right answer, got {alternatives}"


def test_answers_are_for_quizzes_that_exist(report):
    assert set(MUTANTS) | set(ALTERNATIVES) <= set(QUIZZES)
    mutants, alternatives = (sum(map(len, table.values())) for table in (MUTANTS, ALTERNATIVES))
    report.append(
        f"quizzes: {len(QUIZZES)} code quizzes and {len(CONCEPTS)} questions; {mutants} mutants rejected and "
        f"{alternatives} alternatives accepted, each on {len(SEEDS)} draws of the cases"
    )


@pytest.mark.parametrize("id", QUIZZES)
def test_accepts_the_reference(id):
    for seed in SEEDS:
        found = verdict(QUIZZES[id], QUIZZES[id].reference, seed)
        assert found.passed, f"seed {seed}: {found}"


@pytest.mark.parametrize(("id", "answer"), each(MUTANTS))
def test_rejects_mutants(id, answer):
    for seed in SEEDS:
        found = verdict(QUIZZES[id], answer, seed)
        assert not found.passed, f"seed {seed}: a wrong answer passed"
        assert found.stage in STAGES and found.headline and "\n" not in found.headline


@pytest.mark.parametrize(("id", "answer"), each(ALTERNATIVES))
def test_accepts_alternatives(id, answer):
    for seed in SEEDS:
        found = verdict(QUIZZES[id], answer, seed)
        assert found.passed, f"seed {seed}: {found}"


@pytest.mark.parametrize(
    ("id", "misconception"),
    [pytest.param(id, m, id=f"{id}: {m.name}") for id, quiz in QUIZZES.items() for m in quiz.misconceptions],
)
def test_names_misconceptions(id, misconception):
    for seed in SEEDS:
        found = verdict(QUIZZES[id], misconception.wrong, seed)
        assert not found.passed, f"seed {seed}: a misconception passed"
        assert found.misconception == misconception.name, f"seed {seed}: {found}"
        assert found.details[0] == misconception.message


@pytest.mark.parametrize("id", QUIZZES)
def test_gives_the_same_verdicts_through_the_wire(id):
    quiz = QUIZZES[id]
    expected = drawn(id, 1)
    cases = from_wire(request_wire(expected.cases))["cases"]
    for answer in [quiz.reference, *MUTANTS.get(id, {}).values()]:
        results = run(answer, cases, quiz.probe)
        received = results_from_wire(to_wire(results), len(cases))
        assert judge(quiz, cases, received, expected) == judge(quiz, cases, results, expected)


@pytest.mark.parametrize("id", QUIZZES)
def test_an_untouched_stub_is_not_attempted(id):
    def stub(*args, **kwargs):
        raise NotImplementedError(f"quiz {id}: not answered yet")

    assert verdict(QUIZZES[id], stub, 0).stage == "not attempted"
    assert verdict(QUIZZES[id], lambda *args, **kwargs: None, 0).stage == "not attempted"


@pytest.mark.parametrize("id", [id for id, quiz in QUIZZES.items() if quiz.bug_hunt])
def test_the_bug_that_is_handed_out_is_noticed(id):
    number = QUIZZES[id].module[-2:]
    (notebook,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    cells = nbformat.read(notebook, as_version=4).cells
    (source,) = [c.source for c in cells if c.metadata.get("course") == {"role": "answer", "quiz": id}]
    namespace = masters.namespace(number)  # what the cells above it define
    exec(source, namespace)
    name = next(node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef))
    for seed in SEEDS:
        found = verdict(QUIZZES[id], namespace[name], seed)
        assert found.stage not in ("passed", "not attempted", "raised"), found


@pytest.mark.parametrize("id", QUIZZES)
def test_has_hints_and_an_explanation(id):
    quiz = QUIZZES[id]
    assert quiz.hints, f"{id}: expected at least one hint"
    assert quiz.explanation.strip(), f"{id}: expected an explanation for the folded solution"


@pytest.mark.parametrize("id", QUIZZES)
def test_cases_depend_on_the_seed_alone(id):
    quiz = QUIZZES[id]
    assert request_wire(quiz.draw_cases(5)) == request_wire(quiz.draw_cases(5))


@pytest.mark.parametrize("id", CONCEPTS)
def test_feedback_says_more_than_yes_or_no(id):
    texts = [" ".join(option.feedback.split()) for option in CONCEPTS[id].options.values()]
    assert all(len(text) >= 15 for text in texts) and len(set(texts)) == len(texts)


def test_right_letters_are_spread():
    letters = [concept.answer for concept in CONCEPTS.values()]
    if len(letters) >= 6:
        commonest = max(map(letters.count, letters))
        assert commonest <= len(letters) * 0.6, f"the right answer is too often the same letter: {letters}"
