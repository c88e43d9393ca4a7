"""What students' code sees of the course: enough to answer, nothing that answers for it."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import subprocess
import sys

import pytest

from classroom.grading import course, sources
from classroom.grading import plan as planning
from classroom.quizzes import Concept, Quiz, declarations

PLANS = planning.plans(planning.NOTEBOOKS)
QUIZZES = {id: found for id, found in declarations.registered().items() if isinstance(found, Quiz)}


def supplied(id: str) -> dict[str, str]:
    """What the other quizzes of its notebook lend to a quiz."""
    (pair,) = ((plan, task) for plan in PLANS.values() for task in plan.tasks if task.quiz.id == id)
    return planning.supplied(*pair)


def test_every_question_is_asked_for_by_a_notebook():
    asked = [id for plan in PLANS.values() for id in plan.names]
    assert sorted(asked) == sorted(declarations.registered()) and len(asked) == len(set(asked))
    assert all(task.quiz is declarations.get(task.quiz.id) for plan in PLANS.values() for task in plan.tasks)
    assert all(plan.out_of() == sum(declarations.get(id).points for id in plan.names) for plan in PLANS.values())


def test_the_library_that_students_see_has_no_references_wrong_answers_or_letters():
    library = sources.library()
    assert "classroom.quizzes.running" in library and "course_utils.models.unet" in library
    assert not [name for name in library if "grading" in name or "authoring" in name]
    for id, quiz in QUIZZES.items():
        source = library[quiz.module]
        nodes = ast.walk(ast.parse(source))
        defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert quiz.reference.__module__ != quiz.module or quiz.reference.__name__ not in defined, id
        wrong = {getattr(slip.wrong, "__name__", "") for slip in quiz.misconceptions}  # a partial has no name
        assert not wrong & defined, id
    for id, concept in declarations.registered().items():
        if isinstance(concept, Concept):
            seen = library[concept.module]
            assert not [option for option in concept.options.values() if option.feedback[:30] in seen], id


def test_whoever_hands_out_the_work_does_not_wait_for_pytorch():
    script = "import sys; from classroom.grading import command, course; course.luggage(); course.titles();"
    script += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=sources.ROOT).returncode == 0


def test_what_is_read_from_the_text_of_declarations_is_what_they_say():
    texts = [path.read_text(encoding="utf-8") for path in (sources.ROOT / "classroom" / "lessons").glob("*.py")]
    probes = {id: name for text in texts for id, name in sources.declared(text, "probe").items() if name}
    assert course.titles() == {id: found.title for id, found in declarations.registered().items()}
    assert probes == {id: quiz.probe.__name__ for id, quiz in QUIZZES.items() if quiz.probe}


def test_the_library_that_students_see_compiles():
    for name, source in sources.library().items():
        compile(source, name, "exec")


@pytest.mark.parametrize("number", PLANS)
def test_a_prelude_runs_and_a_stub_is_not_in_it(number):
    plan, namespace = PLANS[number], {"__name__": f"notebook_{number}"}
    prelude = sources.prelude(plan.handed_out.definitions())
    exec(compile(prelude, number, "exec"), namespace)
    assert "not answered yet" not in prelude
    assert not {name for id, name in plan.names.items() if isinstance(declarations.get(id), Concept)} & set(namespace)


@pytest.mark.parametrize("id", QUIZZES)
def test_what_other_quizzes_lend_runs_and_does_not_hold_this_one(id):
    reference = QUIZZES[id].reference
    for name, source in supplied(id).items():
        namespace: dict = {"__name__": "lent"}
        exec(compile(source, name, "exec"), namespace)
        assert callable(namespace[name])
        assert reference.__name__ not in namespace and namespace[name] is not reference


@pytest.mark.parametrize("dotted", sorted({name for id in QUIZZES for name in QUIZZES[id].forbidden}))
def test_what_is_forbidden_is_there_and_written_in_python(dotted):
    """The sandbox finds it by this name, and exchanges its code."""
    found = resolved(dotted)
    found = found.fget if isinstance(found, property) else found
    code = [each for each in vars(found).values() if inspect.isfunction(each)] if inspect.isclass(found) else [found]
    assert code and all(inspect.unwrap(each).__code__ for each in code)


def resolved(dotted: str) -> object:
    """What stands in the module that the longest part of the name names."""
    module, parts = dotted, []
    while True:
        module, _, last = module.rpartition(".")
        parts.insert(0, last)
        with contextlib.suppress(ModuleNotFoundError):
            return functools.reduce(getattr, parts, importlib.import_module(module))


@pytest.mark.parametrize("id", QUIZZES)
def test_what_is_forbidden_is_what_the_declaration_names(id):
    quiz = QUIZZES[id]
    names = quiz.forbidden
    assert len(names) == len(set(names))
    for found, name in zip(quiz.library, names[len(names) - len(quiz.library) :]):
        assert resolved(name) == found
    assert (declarations.dotted_name(quiz.reference) in names) == quiz.reference.__module__.startswith("course_utils.")
    assert set(quiz.answered_by) <= set(QUIZZES)


def test_forbidden_is_also_the_reference_where_it_is_the_librarys():
    assert "course_utils.models.vae.gaussian_kl" in QUIZZES["vae/gaussian-kl"].forbidden


def test_what_calls_a_forbidden_function_is_not_lent():
    """`to_x0` calls `predict_x0`, which is out of reach in the quiz on v: the student's own `to_x0` is taken there."""
    assert "course_utils.diffusion.predict_x0" in QUIZZES["training/v-target"].forbidden
    assert "to_x0" not in supplied("training/v-target")
    assert "to_x0" in supplied("training/min-snr")


def test_functions_that_answer_another_quiz_are_not_lent_to_it():
    (plan,) = (plan for plan in PLANS.values() if "sampling/sampler-b" in plan.names)
    assert {"ancestral_step", "ddim_step"} & set(plan.names.values()) == {"ancestral_step", "ddim_step"}
    assert not {"ancestral_step", "ddim_step"} & set(supplied("sampling/sampler-b"))
    assert "ddim_step" in supplied("sampling/heun-step")


def test_seeds_of_quizzes_differ_and_depend_on_nothing_else():
    seeds = {planning.seed_of(7, id) for id in QUIZZES}
    assert len(seeds) == len(QUIZZES)
    assert planning.seed_of(7, "vae/kl") == planning.seed_of(7, "vae/kl") != planning.seed_of(8, "vae/kl")


def test_without_answers_keeps_fixtures_and_what_they_need():
    source = (
        "import torch\nfrom .declarations import fixture, quiz\nSIZE = 3\ndef _helper(n):\n    return n * SIZE\n"
        "@fixture('demo/x')\ndef _x(n):\n    return _helper(n)\ndef _reference(x):\n    return SIZE * x\n"
        "def _watch(answer, x):\n    return answer(x)\nquiz('demo/q', reference=_reference, probe=_watch)\n"
    )
    kept = sources.without_answers(source, {"demo/q": "_watch"})
    assert "_helper" in kept and "SIZE = 3" in kept and "_watch" in kept
    assert "_reference" not in kept and "quiz(" not in kept


def test_a_binding_runs_far_from_its_module():
    source = "from ..quizzes import get\ndef _half(x):\n    return x / 2\ndef _a(x):\n    return get(_half(x))\n"
    bound = sources.binding(source, "_a", "answer", "classroom.lessons")
    namespace: dict = {}
    exec(bound, namespace)
    assert callable(namespace["answer"]) and "from classroom.quizzes import get" in bound
