"""Answers that do not answer: hands laid on what watches them, or the library made to work. None earns a point."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import grading_zoo
import pytest

from classroom.grading import batch, sandbox
from classroom.grading import plan as planning
from classroom.grading.records import Rules, Submission

ROOT = Path(__file__).resolve().parent.parent
JOB = batch.Job(Rules(seed=29), sandbox.Limits(seconds=10, submission=100, total_memory=2500))


@pytest.fixture(scope="module", autouse=True)
def there_is_a_sandbox():
    reason = sandbox.why_not()
    if reason and not os.environ.get("CI"):
        pytest.skip(reason)


@functools.cache
def clean(number: str) -> dict:
    return grading_zoo.load(ROOT / "notebooks" / f"{planning.plans()[number].stem}.ipynb")


def score(number: str, quiz: str, source: str):
    """What an answer to one quiz earns, in a notebook that answers no other."""
    notebook = json.loads(json.dumps(clean(number)))
    cell = notebook["cells"][grading_zoo.place_of(notebook, quiz)]
    cell["source"] = source.replace("ANSWER", planning.plans()[number].names[quiz])
    report = batch.grade_one(JOB, Submission("ada", number, "ada.ipynb"), grading_zoo.text(notebook))
    (found,) = (each for each in report.scores if each.quiz == quiz)
    return found


NO_DRAW = """
def ANSWER(x0, schedule, generator):
    t = torch.ones(len(x0), dtype=torch.long)
    return x0, t, torch.zeros_like(x0)
"""
NO_DROP = "def ANSWER(y, null, share, generator):\n    return y.clone()\n"
IN_PLACE = """
def ANSWER(mean_q, mean_p, var):
    return (mean_q.sub_(mean_p).square() / (2 * var)).flatten(1).sum(1)
"""
HANDS_ON = {
    "everything is equal": "import builtins\nbuiltins.all = torch.equal = torch.allclose = lambda *a, **k: True\n",
    "a probe of one's own": """
from classroom.quizzes import declarations
for name in list(declarations._builders):
    if name.startswith("probe of"):
        declarations._builders[name] = lambda: lambda answer, **given: {"all of it is drawn from the generator": True}
""",
    "another probe's code": """
import classroom.lessons.nb05, classroom.lessons.nb07, classroom.quizzes.drawing as drawing
drawing.repeated.__code__ = (lambda draw, given, generator, calls: {"many": given.clone()}).__code__
""",
    "results written by hand": """
import classroom.quizzes.wire as wire
wire.to_wire = lambda value, real=wire.to_wire: real(wire.Result("returned", True))
""",
    "results that are always fine": """
import classroom.quizzes.wire as wire
wire.run_case = lambda answer, case, index, probe=None: wire.Result("returned", {"the mean is right": True})
""",
    "states of before": """
import dataclasses
import classroom.quizzes.running as running, classroom.quizzes.wire as wire
real = wire.run_case
def run_case(answer, case, index, probe=None):
    return dataclasses.replace(real(answer, case, index, probe), after=running.states_before(case))
wire.run_case = run_case
""",
    "states that never change": """
import classroom.quizzes.running as running, classroom.quizzes.states as states
seen = {}
running.state = lambda value, real=running.state: seen.setdefault(id(value), real(value))
states._digest = lambda value: "0" * 16
""",
}


@pytest.mark.parametrize("hands", HANDS_ON)
@pytest.mark.parametrize(
    ("number", "quiz", "answer"),
    [
        ("05", "training/restless", NO_DRAW),
        ("07", "guidance/drop-labels", NO_DROP),
        ("05", "training/equal-variance-kl", IN_PLACE),
    ],
    ids=["draws nothing", "drops nothing", "changes its input"],
)
def test_hands_on_what_watches_earn_nothing(number, quiz, answer, hands):
    found = score(number, quiz, HANDS_ON[hands] + answer)
    assert found.points == 0, found


ROADS = {
    "v is an image of another pair": (
        "05",
        "training/v-target",
        "def ANSWER(x0, noise, t, schedule):\n    return schedule.add_noise(noise, t, -x0)\n",
    ),
    "x0 is a v": (
        "05",
        "training/to-x0",
        "from course_utils.diffusion import prediction_target, predict_x0\n"
        "def ANSWER(prediction_type, output, x_t, t, schedule):\n"
        "    if prediction_type == 'x0':\n        return output\n"
        "    if prediction_type == 'v':\n        return prediction_target(schedule, 'v', output, x_t, t)\n"
        "    return predict_x0(schedule, prediction_type, output, x_t, t)\n",
    ),
    "the library's loss": (
        "05",
        "training/algorithm-1",
        "from course_utils.training import diffusion_loss\nimport course_utils.training as training\n"
        "def ANSWER(model, x0, t, noise, schedule):\n"
        "    loss = diffusion_loss(schedule, 'noise')\n    return loss(model, x0, None)\n",
    ),
    "the other sampler at its other end": (
        "06",
        "sampling/ancestral-step",
        "from course_utils.sampling import ddim\nfrom course_utils.diffusion import Schedule\n"
        "def ANSWER(schedule, x_t, x0, t, s, kappa, noise):\n"
        "    return ddim_step(schedule, x_t, x0, t, s, 1.0, noise)\n",
    ),
}


@pytest.mark.parametrize("road", ROADS)
def test_the_library_does_not_answer(road):
    found = score(*ROADS[road])
    assert found.points == 0, found
