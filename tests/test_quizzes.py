"""Every declared code quiz: right answers pass and wrong ones that people really give do not, on several draws.

The answers are the misconceptions that a quiz declares and, in `tests/lessons/nbNN_mutants.py`, MUTANTS and
ALTERNATIVES, each quiz id -> name -> function. A quiz with fewer than three wrong ones and one alternative fails here.
`make test` takes the first few of each, `make test-all` all of them.
A mutant that crashes proves nothing, for a mistake of its own crashes too: only those in RAISES may, and they must.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import re
from collections.abc import Sequence
from pathlib import Path

import masters
import nbformat
import pytest

from classroom.quizzes import Concept, Quiz, declarations
from classroom.quizzes.forbidding import out_of_reach
from classroom.quizzes.judging import STAGES, Expected, judge
from classroom.quizzes.running import run
from classroom.quizzes.wire import answer_wire, request_wire, results_from_wire, to_wire

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (declarations.NOTEBOOK_SEED, 20_261)  # the notebook's own cases, and a draw like a grader's
ALL_SEEDS = (*SEEDS, 1, 2, 3)

DECLARED = declarations.registered()
QUIZZES = {id: found for id, found in DECLARED.items() if isinstance(found, Quiz)}
CONCEPTS = {id: found for id, found in DECLARED.items() if isinstance(found, Concept)}


def answers(kind: str) -> dict[str, dict[str, object]]:
    """quiz id -> name -> function, from all files of mutants."""
    found: dict[str, dict[str, object]] = {}
    for number in sorted({declared.module[-2:] for declared in DECLARED.values()}):
        name = f"lessons.nb{number}_mutants"
        if importlib.util.find_spec(name):
            found |= getattr(importlib.import_module(name), kind)
    return found


MUTANTS, ALTERNATIVES = answers("MUTANTS"), answers("ALTERNATIVES")
KNOWN = {id: {m.name: m.wrong for m in quiz.misconceptions} for id, quiz in QUIZZES.items()}
RAISES = {  # mutants whose very mistake ends in an error, (quiz id, name)
    ("autoencoder/encoder", "squares only"),
    ("autoencoder/step", "step between loss and backward"),
    ("autoencoder/denoising", "σ along the width"),
    ("autoencoder/interpolate", "t for two axes"),
    ("autoencoder/interpolate", "no batches of images"),
    ("unet/forward", "first in, first out"),
    ("unet/forward", "stem without unshuffle"),
    ("sampling/sampler-a", "to t = 0"),
    ("guidance/classifier-gradient", "without enable_grad"),
    ("guidance/classifier-gradient", "detached"),
}


on_several_draws = pytest.mark.parametrize(
    "seeds", [pytest.param(SEEDS, id="draws"), pytest.param(ALL_SEEDS[2:], id="more draws", marks=pytest.mark.slow)]
)
# Wrong answers meet one draw each, by turns the notebook's and a grader's, and all the others with the slow tests.
on_one_draw = pytest.mark.parametrize("everywhere", [False, pytest.param(True, marks=pytest.mark.slow)])


def turns(name: str, everywhere: bool) -> tuple[int, ...]:
    """The draws on which a wrong answer of this name is judged."""
    turn = sum(map(ord, name)) % 2
    return tuple(seed for seed in ALL_SEEDS if seed != SEEDS[turn]) if everywhere else SEEDS[turn : turn + 1]


def each(table: dict[str, dict[str, object]], at_once: int) -> list:
    """A row for each answer; those of a quiz beyond the first few of its table are slow."""
    rows = [(id, name, answer, k) for id, named in table.items() for k, (name, answer) in enumerate(named.items())]
    slow = [pytest.mark.slow]
    return [pytest.param(id, name, f, id=f"{id}: {name}", marks=slow * (k >= at_once)) for id, name, f, k in rows]


@functools.cache
def drawn(id: str, seed: int) -> Expected:
    """Cases of a quiz and what is expected of them, made once for all answers."""
    return Expected(QUIZZES[id], QUIZZES[id].draw_cases(seed))


def verdict(quiz: Quiz, answer: object, seed: int, forbidden: Sequence[object] = ()):
    """forbidden: for right answers, as for a student's; wrong ones are often the reference with a slip on top."""
    expected = drawn(quiz.id, seed)
    return judge(quiz, expected.cases, run(answer, expected.cases, quiz.probe, forbidden), expected)


def through_the_wire(quiz: Quiz, answer: object, seed: int, forbidden: Sequence[object] = ()):
    """The same as the grader does it: every case alone, bytes in and bytes out."""
    expected = drawn(quiz.id, seed)
    probe = declarations.probe_name(quiz.id) if quiz.probe else None
    requests = [request_wire(case, index, probe) for index, case in enumerate(expected.cases)]
    with out_of_reach(forbidden):
        pieces = [answer_wire(answer, request) for request in requests]
    return judge(quiz, expected.cases, results_from_wire(pieces, len(requests)), expected)


@pytest.mark.parametrize("id", QUIZZES)
def test_has_enough_answers_to_be_trusted(id):
    wrong, alternatives = len(KNOWN[id]) + len(MUTANTS.get(id, {})), len(ALTERNATIVES.get(id, {}))
    assert wrong >= 3, f"{id}: expected at least 3 wrong answers, misconceptions and mutants, got {wrong}"
    assert alternatives >= 1, f"{id}: expected at least 1 alternative right answer, got {alternatives}"


def test_answers_are_for_quizzes_that_exist(report):
    assert set(MUTANTS) | set(ALTERNATIVES) <= set(QUIZZES)
    assert {(id, name) for id, name in RAISES if name not in MUTANTS.get(id, {})} == set()
    known, mutants, alternatives = (sum(map(len, table.values())) for table in (KNOWN, MUTANTS, ALTERNATIVES))
    report.append(
        f"quizzes: {len(QUIZZES)} code quizzes and {len(CONCEPTS)} questions; {known} misconceptions named, {mutants} "
        f"mutants rejected, of which {len(RAISES)} raise and are meant to, on one draw of the cases each, and "
        f"{alternatives} alternatives accepted on {len(SEEDS)} draws (all on {len(ALL_SEEDS)} with the slow tests)"
    )


@on_several_draws
@pytest.mark.parametrize("id", QUIZZES)
def test_accepts_the_reference(id, seeds):
    for seed in seeds:
        found = verdict(QUIZZES[id], QUIZZES[id].reference, seed)
        assert found.passed, f"seed {seed}: {found}"


@on_one_draw
@pytest.mark.parametrize(("id", "name", "answer"), each(MUTANTS, at_once=2))
def test_rejects_mutants(id, name, answer, everywhere):
    for seed in turns(name, everywhere):
        found = verdict(QUIZZES[id], answer, seed)
        assert not found.passed, f"seed {seed}: a wrong answer passed"
        assert found.stage in STAGES and found.headline and "\n" not in found.headline
        if (id, name) in RAISES:
            assert found.stage == "raised", f"seed {seed}: expected an error, got {found}"
        else:
            assert found.stage not in ("not attempted", "raised"), f"seed {seed}: rejected for nothing: {found}"


@on_several_draws
@pytest.mark.parametrize(("id", "name", "answer"), each(ALTERNATIVES, at_once=2))
def test_accepts_alternatives(id, name, answer, seeds):
    for seed in seeds:
        found = verdict(QUIZZES[id], answer, seed, QUIZZES[id].forbidden)
        assert found.passed, f"seed {seed}: {found}"


@on_one_draw
@pytest.mark.parametrize(
    ("id", "misconception"),
    [pytest.param(id, m, id=f"{id}: {m.name}") for id, quiz in QUIZZES.items() for m in quiz.misconceptions],
)
def test_names_misconceptions(id, misconception, everywhere):
    for seed in turns(misconception.name, everywhere):
        found = verdict(QUIZZES[id], misconception.wrong, seed)
        assert not found.passed, f"seed {seed}: a misconception passed"
        assert found.misconception == misconception.name, f"seed {seed}: {found}"
        assert found.details[0] == misconception.message


@pytest.mark.parametrize("wrong", [slice(1), pytest.param(slice(1, 3), marks=pytest.mark.slow)], ids=["first", "more"])
@pytest.mark.parametrize("id", QUIZZES)
def test_gives_the_same_verdicts_through_the_wire(id, wrong):
    quiz, seed = QUIZZES[id], SEEDS[-1]
    known = list(KNOWN[id].values())  # of the mutants some remember what they were given
    for answer in [quiz.reference, *known[wrong]]:
        assert through_the_wire(quiz, answer, seed) == verdict(quiz, answer, seed)


@pytest.mark.slow
@pytest.mark.parametrize("id", QUIZZES)
def test_what_passes_in_the_notebook_passes_in_the_grader_on_every_seed(id):
    quiz = QUIZZES[id]
    for seed in range(100, 300):
        for name, answer in ({"the reference": quiz.reference} | ALTERNATIVES.get(id, {})).items():
            forbidden = () if answer is quiz.reference else quiz.forbidden
            found = through_the_wire(quiz, answer, seed, forbidden)
            assert found.passed, f"{name}, seed {seed}: {found}"
        drawn.cache_clear()


def parameters(function: object) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


@functools.cache
def asked(number: str) -> dict[str, object]:
    """quiz id -> the function that notebook `number` hands to `check`, as its solution defines it."""
    checks = re.findall(r'^(\w+) = check\("([^"]+)"', masters.path(number).read_text(encoding="utf-8"), re.MULTILINE)
    defined = masters.definitions(number)
    return {id: defined[name] for name, id in checks}


@pytest.mark.parametrize("id", QUIZZES)
def test_the_course_steps_in_with_the_same_arguments(id):
    """The cells below a quiz call whatever `check` returns: what the student's function takes, the reference takes."""
    ours, theirs = parameters(asked(QUIZZES[id].module[-2:])[id]), parameters(QUIZZES[id].reference)
    assert [p.name for p in theirs[: len(ours)]] == [p.name for p in ours]
    for mine, its in zip(ours, theirs):
        assert mine.default in (inspect.Parameter.empty, its.default), f"{mine.name} has another default"
    assert all(p.default is not inspect.Parameter.empty for p in theirs[len(ours) :]), "the reference needs more"


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
    assert to_wire(quiz.draw_cases(5)) == to_wire(quiz.draw_cases(5))


@pytest.mark.parametrize("id", CONCEPTS)
def test_feedback_says_more_than_yes_or_no(id):
    texts = [" ".join(option.feedback.split()) for option in CONCEPTS[id].options.values()]
    assert all(len(text) >= 15 for text in texts) and len(set(texts)) == len(texts)


def test_right_letters_are_spread():
    letters = [concept.answer for concept in CONCEPTS.values()]
    if len(letters) >= 6:
        commonest = max(map(letters.count, letters))
        assert commonest <= len(letters) * 0.6, f"the right answer is too often the same letter: {letters}"
