"""The quiz engine: what each stage says, what it cannot be talked into, and that nothing an answer does gets out."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import math
import os
import random
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from quizzes import demo
from running import html_of
from torch import nn

from classroom import quizzes
from classroom.quizzes import Case, Fixture, Misconception, Option, cards, declarations, notebook, running, wire
from classroom.quizzes.declarations import DeclarationError, Tolerance, Unfit, UnknownQuiz, dotted_name, get
from classroom.quizzes.errors import describe_error
from classroom.quizzes.forbidding import out_of_reach
from classroom.quizzes.judging import STAGES, judge
from classroom.quizzes.raw import Array, Unsupported, to_raw
from classroom.quizzes.running import Result, run
from classroom.quizzes.wire import answer_wire, from_wire, request_wire, results_from_wire, to_wire
from course_utils import arrays as library_arrays
from course_utils.diffusion import Schedule

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No hints seen, no guesses made, no nbgrader."""
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    for memory in (notebook._hints_seen, notebook._guesses, notebook._tried):
        memory.clear()


def verdict(id, answer, seed=0):
    quiz = get(id)
    cases = quiz.draw_cases(seed)
    return judge(quiz, cases, run(answer, cases, quiz.probe))


def same(one, other) -> bool:
    """Whether two pieces of raw data are identical, NaN equal to NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Array):
        if (one.dtype, one.shape, one.device) != (other.dtype, other.shape, other.device):
            return False
        if one.data is None or other.data is None:
            return one.data is other.data
        return np.array_equal(one.data, other.data, equal_nan=one.data.dtype.kind in "fc")
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


def temporary(reference, cases, **settings):
    """A quiz for one test."""
    settings = {"points": 1, "title": "Temporary", "module": __name__, "any_device": False} | settings
    return declarations.quiz("demo/temporary", reference=reference, cases=lambda rng: cases, **settings)


def judged(quiz, answer):
    cases = quiz.draw_cases()
    return judge(quiz, cases, run(answer, cases, quiz.probe))


# --- right and wrong answers ------------------------------------------------------------------------------------------

RIGHT = {
    "demo/conv-size": [demo.conv_size, lambda n, k, s, p: math.floor((n - k + 2 * p) / s) + 1],
    "demo/mse": [
        demo.mse,
        lambda a, b: torch.stack([(x - y).pow(2).mean() for x, y in zip(a, b)]),
        lambda a, b: nn.functional.mse_loss(a, b, reduction="none").mean((1, 2, 3)),
    ],
    "demo/reparameterize": [
        demo.reparameterize,
        lambda mu, log_var, eps: mu + log_var.exp().sqrt() * eps,
        lambda m, v, e: torch.addcmul(m, (v / 2).exp(), e),
    ],
    "demo/decode-grid": [
        demo.decode_grid,
        lambda net, z: torch.cat([torch.cat(list(net(row)[:, 0]), dim=1) for row in z], dim=0),
    ],
    "demo/bug": [lambda x: torch.einsum("ij->i", x)],
}


@pytest.mark.parametrize("id", RIGHT)
@pytest.mark.parametrize("seed", range(5))
def test_right_answers_pass(id, seed):
    for answer in RIGHT[id]:
        assert verdict(id, answer, seed).passed, verdict(id, answer, seed)


def stubbed(*args):
    raise NotImplementedError("quiz: not answered yet")


def changing(mu, log_var, eps):
    return mu.add_((log_var / 2).exp() * eps)


WRONG = [  # quiz, answer, stage, words of the headline
    ("demo/mse", stubbed, "not attempted", ""),
    ("demo/mse", lambda x, y: None, "not attempted", "it returned nothing"),
    ("demo/mse", lambda x, y: ..., "not attempted", "it returned nothing"),
    ("demo/mse", lambda x: x, "raised", "it is called with (x, x_hat) but takes (x)"),
    ("demo/mse", lambda x, y: 1 / 0, "raised", "it raised ZeroDivisionError: division by zero"),
    ("demo/mse", lambda x, y: sys.exit(3), "raised", "it raised SystemExit: 3"),
    ("demo/mse", lambda x, y: float(((x - y) ** 2).mean()), "type", "expected a tensor, got a number (float)"),
    ("demo/mse", lambda x, y: demo.mse(x, y).detach().numpy(), "type", "got an object of type ndarray"),
    ("demo/mse", lambda x, y: [demo.mse(x, y)], "type", "expected a tensor, got a list of 1"),
    ("demo/mse", lambda x, y: nn.Parameter(demo.mse(x, y)), "type", "got an object of type Parameter"),
    ("demo/mse", lambda x, y: demo.mse(x, y).to_sparse(), "type", "got a sparse tensor"),
    ("demo/mse", lambda x, y: ((x - y) ** 2).mean(), "shape", "expected shape (3,), got ()"),
    ("demo/mse", lambda x, y: demo.mse(x, y)[:, None] - demo.mse(x, y), "shape", "expected shape (3,), got (3, 3)"),
    ("demo/mse", lambda x, y: demo.mse(x, y).float(), "dtype", "expected float64, got float32"),
    ("demo/mse", lambda x, y: demo.mse(x, y).to("meta"), "device", "expected a tensor on cpu, got one on meta"),
    ("demo/mse", lambda x, y: demo.mse(x, y) * math.nan, "nan", "3 of 3 entries are nan"),
    ("demo/mse", lambda x, y: demo.mse(x, y) / 0, "nan", "3 of 3 entries are inf"),
    ("demo/mse", lambda x, y: demo.mse(x, y.detach()), "detached", "no gradient flows to x_hat"),
    ("demo/mse", lambda x, y: ((x - y) ** 2).flatten(1).sum(1), "value", "off by the same factor: 70 times what"),
    ("demo/mse", lambda x, y: -demo.mse(x, y), "value", "the sign of every entry is wrong"),
    ("demo/mse", lambda x, y: demo.mse(x, y) + 0.5, "value", "every entry is too large by the same amount: 0.5"),
    ("demo/mse", lambda x, y: demo.mse(x, y).sqrt(), "value", "every entry is the square root of what it should be"),
    (
        "demo/mse",
        lambda x, y: demo.mse(x, y).flip(0),
        "value",
        "the numbers are right, but they stand in the wrong places",
    ),
    ("demo/mse", lambda x, y: (x - y).abs().flatten(1).mean(1), "value", "every entry is"),
    ("demo/mse", lambda x, y: 0 * demo.mse(x, y), "value", "it is 0 everywhere"),
    (
        "demo/mse",
        lambda x, y: demo.mse(x, 2 * y - y.detach()),
        "gradient",
        "the gradient with respect to x_hat is wrong",
    ),
    ("demo/reparameterize", changing, "in place", "right result, but it changed mu in place"),
    (
        "demo/conv-size",
        lambda n, k, s, p: (n + 2 * p - k) / s + 1,
        "type",
        "expected a whole number (int), got a number",
    ),
    ("demo/conv-size", lambda n, k, s, p: True, "type", "got True or False"),
    ("demo/conv-size", lambda n, k, s, p: -(-(n + 2 * p - k) // s) + 1, "value", "too large: expected 3, got 4"),
    ("demo/nested", lambda x: (x.mean(), {"count": 6}), "structure", "expected 3 values, got 2"),
    ("demo/nested", lambda x: [*demo_nested(x)], "type", "expected a tuple of 3, got a list of 3"),
    ("demo/nested", lambda x: demo_nested(x, name="y"), "value", "output[1]['name']: expected 'x', got 'y'"),
    ("demo/nested", lambda x: demo_nested(x, count=7), "value", "output[1]['count']: too large: expected 6, got 7"),
    (
        "demo/nested",
        lambda x: demo_nested(x, extra=1),
        "structure",
        "expected the keys 'count', 'name', 'nothing': got",
    ),
    ("demo/nested", lambda x: (*demo_nested(x)[:2], [x >= 9, float(x.max())]), "value", "output[2][0]: "),
]


def demo_nested(x, **changes):
    mean, table, rest = get("demo/nested").reference(x)
    return mean, table | changes, rest


@pytest.mark.parametrize(
    ("id", "answer", "stage", "words"), WRONG, ids=[f"{w[0]} {w[2]} {i}" for i, w in enumerate(WRONG)]
)
def test_wrong_answers_are_told_what_is_wrong(id, answer, stage, words):
    found = verdict(id, answer)
    assert (found.stage, found.passed) == (stage, False), found
    assert words in found.headline and "\n" not in found.headline


def test_every_stage_is_tried():
    assert {stage for _, _, stage, _ in WRONG} | {"passed"} == set(STAGES)


@pytest.mark.parametrize("seed", range(40))
def test_a_detached_latent_is_rejected_by_name(seed):
    for answer in (
        lambda mu, log_var, eps: demo.reparameterize(mu, log_var, eps).detach(),
        lambda mu, log_var, eps: demo.reparameterize(mu.detach(), log_var.detach(), eps),
        torch.no_grad()(demo.reparameterize),
    ):
        found = verdict("demo/reparameterize", answer, seed)
        assert (found.stage, found.misconception) == ("detached", "a detached latent")
    half = verdict("demo/reparameterize", lambda m, v, e: m + (v.detach() / 2).exp() * e, seed)
    assert (half.stage, half.headline) == ("detached", "no gradient flows to log_var")


@pytest.mark.parametrize("seed", range(10))
def test_log_sigma_for_log_variance_is_called_by_its_name(seed):
    found = verdict("demo/reparameterize", lambda m, v, e: m + torch.exp(v) * e, seed)
    assert (found.stage, found.misconception) == ("value", "log variance read as log σ")
    assert "*variance*" in found.details[0]


@pytest.mark.parametrize("seed", range(10))
def test_height_and_width_swapped_is_rejected(seed):
    found = verdict("demo/decode-grid", demo.decode_grid_swapped, seed)
    assert (found.stage, found.misconception) == ("shape", "h and w swapped")


def test_gradients_reach_the_parameters_of_a_fixture():
    found = verdict("demo/decode-grid", lambda net, z: demo.decode_grid(net, z).detach())
    assert found.stage == "detached" and "of decoder" in found.headline


def test_factors_that_count_something_are_explained():
    summed = verdict("demo/mse", lambda x, y: ((x - y) ** 2).flatten(1).sum(1))
    assert summed.details == ("The factor is the number of entries of one item of x: a sum where a mean belongs?",)
    assert summed.evidence.endswith(
        "All 3 cases are wrong. From case to case the number of entries of one item of x is 70, 24, 72, 70."
    )
    averaged = verdict("demo/bug", lambda x: x.mean(1))
    assert averaged.details == ("The factor is one over the length of axis 1 of x: a mean where a sum belongs?",)


def test_evidence_names_the_case_and_the_entry():
    found = verdict("demo/conv-size", lambda n, k, s, p: -(-(n + 2 * p - k) // s) + 1)
    assert found.evidence == (
        "Seen in case 3 of 4 (size = 8, kernel = 3, stride = 2, padding = 0). 2 of 4 cases are right already."
    )
    found = verdict("demo/mse", lambda x, y: demo.mse(x, y) + 0.5)
    assert found.evidence.startswith(
        "Seen in case 1 of 3 (x (3, 2, 5, 7), x_hat (3, 2, 5, 7) in float32). Furthest off is"
    )
    assert found.evidence.endswith("All 3 cases are wrong.")


def test_a_class_is_made_and_used():
    class Quadrupler(nn.Module):
        def __init__(self, features):
            super().__init__()
            self.weight = nn.Parameter(torch.full((features, 1), 4.0))

        def forward(self, x):
            return self.weight[:, 0] * x

    assert verdict("demo/class", demo.Doubler).passed
    assert verdict("demo/class", Quadrupler).headline == "output: every entry is 2 times what it should be"

    class Stub(nn.Module):
        def __init__(self, features):
            raise NotImplementedError("quiz demo/class: not answered yet")

    assert verdict("demo/class", Stub).stage == "not attempted"

    class WithoutForward(nn.Module):
        def __init__(self, features):
            super().__init__()

    assert verdict("demo/class", WithoutForward).stage == "raised"


def test_own_line_of_an_exception():
    def deep(x, y):
        return torch.cat([x, y[:, :1, :2]], dim=7)

    found = verdict("demo/mse", deep)
    assert found.stage == "raised" and "`return torch.cat([x, y[:, :1, :2]], dim=7)`" in found.evidence


# --- what can't be talked into anything -------------------------------------------------------------------------------


class Agreeable(torch.Tensor):
    """A tensor that equals everything."""

    def __eq__(self, other):
        return True

    def allclose(self, *args, **settings):
        return True

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return True


class AgreeableFloat(float):
    __eq__ = __le__ = __ge__ = lambda self, other: True
    __hash__ = float.__hash__


class AgreeableTuple(tuple):
    __eq__ = lambda self, other: True  # noqa: E731
    __hash__ = tuple.__hash__


class Anything:
    def __eq__(self, other):
        return True

    def __getattr__(self, name):
        return lambda *args, **kwargs: self


@pytest.mark.parametrize(
    "made", [lambda: Anything(), lambda: torch.zeros(3).as_subclass(Agreeable), lambda: AgreeableFloat(1)]
)
def test_objects_that_equal_everything_do_not_pass(made):
    assert verdict("demo/mse", lambda x, y: made()).stage == "type"


def test_subclasses_of_numbers_and_tuples_do_not_pass():
    floats = temporary(lambda x: 2.5, [Case({"x": 1})])
    assert judged(floats, lambda x: 2.5).passed
    assert judged(floats, lambda x: AgreeableFloat(1)).stage == "type"
    assert (
        judged(floats, lambda x: np.float64(2.5)).headline == "expected a number (float), got an object of type float64"
    )
    assert judged(floats, lambda x: True).stage == "type"
    pairs = temporary(lambda x: (1, 2), [Case({"x": 1})])
    assert judged(pairs, lambda x: AgreeableTuple((1, 2))).stage == "type"


def test_sizes_and_named_tuples_are_tuples():
    pairs = temporary(lambda x: (2, 3), [Case({"x": torch.zeros(2, 3)})])
    assert judged(pairs, lambda x: x.shape).passed
    two = collections.namedtuple("two", "rows columns")
    assert judged(pairs, lambda x: two(2, 3)).passed
    assert judged(pairs, lambda x: two(3, 2)).stage == "value"
    learned = temporary(lambda x: (x * 2, x.sum()), [Case({"x": torch.ones(2)}, ("x",))])
    assert judged(learned, lambda x: two(x * 2, x.sum())).passed
    assert judged(learned, lambda x: two(x.detach() * 2, x.detach().sum())).stage == "detached"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (lambda x: list(x), "torch.stack"),
        (lambda x: (row for row in x), "torch.stack([... for ...])"),
        (lambda x: x.numpy(), "NumPy"),
        (lambda x: x.max(0), ".values"),
        (lambda x: nn.Parameter(x), "nn.Parameter"),
    ],
)
def test_another_type_comes_with_advice(output, words):
    found = judged(temporary(lambda x: x.clone(), [Case({"x": torch.ones(2, 3)})]), output)
    assert found.stage == "type" and words in found.details[0]


def test_numbers_of_numpy_and_lists_come_with_advice():
    pairs = temporary(lambda x: (2, 3), [Case({"x": 1})])
    assert "`int(...)`" in judged(pairs, lambda x: (np.int64(2), np.int64(3))).details[0]
    assert "tuple(...)" in judged(pairs, lambda x: [2, 3]).details[0]
    assert "tuple(... for ...)" in judged(pairs, lambda x: (i for i in (2, 3))).details[0]
    assert judged(pairs, lambda x: (np.int64(2), 3)).headline.startswith("output[0]: expected a whole number")


def test_an_error_of_rounding_is_called_one():
    quiz = temporary(lambda x: x / 3, [Case({"x": torch.arange(1.0, 6).double()})])
    found = judged(quiz, lambda x: x / 3 * (1 + 3e-4))
    assert "nearly right" in found.headline and "off by up to 3e-04" in found.headline
    want, got = found.evidence.partition("expected ")[2].rstrip(".").split(", got ")
    assert want != got


def test_something_added_to_large_numbers_is_no_factor():
    want = np.float32([-250.1, -248.3, -251.7])
    headline, *_ = describe_error(want - np.float32(0.69), want, np.ones(3, bool))
    assert headline == "every entry is too small by the same amount"


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_outputs_too_odd_to_look_at():
    assert verdict("demo/mse", lambda x, y: {10**5000: 1}).stage == "raised"
    ragged = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    assert verdict("demo/mse", lambda x, y: ragged).headline == "expected a tensor, got a nested tensor"


def test_a_stub_in_one_branch_only():
    def half(x, y):
        if x.dtype == torch.float64:
            raise NotImplementedError
        return demo.mse(x, y)

    assert verdict("demo/mse", half).headline == "it raised NotImplementedError here; expected a tensor"


def test_an_int_is_accepted_for_a_float_but_not_the_reverse():
    assert judged(temporary(lambda x: 2.0, [Case({"x": 1})]), lambda x: 2).passed
    assert judged(temporary(lambda x: 2, [Case({"x": 1})]), lambda x: 2.0).stage == "type"


def test_what_is_made_without_a_dtype_is_told_that_it_can_have_one():
    """Of an input's dtype nothing is said: there may be no tensor among the inputs."""
    temporary(lambda n: torch.ones(n, dtype=torch.float64), [Case({"n": 3})])
    found = verdict("demo/temporary", lambda n: torch.ones(n))
    assert found.details == ("Tensors are float32 unless told otherwise (`dtype=…`), and so is what `.float()` gives.",)


def test_of_numbers_with_nothing_in_common_no_share_is_told():
    what, numbers, example = describe_error(np.array([1, 3.8e-33]), np.array([1, 2.4e-9]), np.array([False, True]))
    assert (what, numbers) == ("1 of 2 entries is too small", "") and example.endswith("expected 2.4e-09, got 3.8e-33.")


def test_tolerances_follow_the_dtype_and_the_size_of_the_output():
    def off_by(relative):
        return lambda x: x * (1 + relative)

    for dtype, near, far in [(torch.float32, 3e-5, 1e-3), (torch.float64, 3e-5, 1e-3), (torch.bfloat16, 1e-2, 0.1)]:
        quiz = temporary(lambda x: x.clone(), [Case({"x": torch.linspace(1, 2, 7, dtype=dtype)})])
        assert judged(quiz, off_by(near)).passed and not judged(quiz, off_by(far)).passed
    small = temporary(lambda x: x.clone(), [Case({"x": torch.linspace(1e-4, 2e-4, 7)})])
    assert not judged(small, lambda x: x + 3e-6).passed
    loose = temporary(lambda x: x.clone(), [Case({"x": torch.ones(3)})], tolerance=0.1)
    assert judged(loose, off_by(0.05)).passed and not judged(loose, off_by(0.2)).passed
    exact = temporary(lambda x: x.clone(), [Case({"x": torch.ones(3)})], tolerance=Tolerance(0.0, 0.0))
    assert not judged(exact, off_by(1e-3)).passed


def test_numbers_are_as_exact_as_the_inputs_they_come_from():
    single = temporary(lambda x: float(x.sum()), [Case({"x": torch.ones(3)})])
    double = temporary(lambda x: float(x.sum()), [Case({"x": torch.ones(3).double()})])
    half = temporary(lambda x: float(x.sum()), [Case({"x": torch.ones(3).bfloat16()})])
    assert judged(single, lambda x: 3.00001).passed and judged(double, lambda x: 3.00001).passed
    assert not judged(single, lambda x: 3.01).passed and judged(half, lambda x: 3.01).passed


def test_infinities_must_stand_in_their_places():
    mask = temporary(lambda x: x.masked_fill(x > 0, -math.inf), [Case({"x": torch.tensor([-1.0, 1.0, 2.0])})])
    assert judged(mask, lambda x: torch.where(x > 0, -torch.inf, x)).passed
    assert judged(mask, lambda x: torch.where(x > 0, torch.inf, x)).stage == "value"
    assert judged(mask, lambda x: torch.where(x > 0, -1e9, x)).stage == "value"
    assert judged(mask, lambda x: torch.full_like(x, -math.inf)).stage == "nan"


def test_bool_and_int_tensors_are_compared_exactly():
    quiz = temporary(lambda x: (x > 0, x.long()), [Case({"x": torch.tensor([-1.0, 1.0, 2.0])})])
    assert judged(quiz, lambda x: (x.sign() == 1, x.to(torch.int64))).passed
    assert judged(quiz, lambda x: (x >= 2, x.long())).headline == "output[0]: 1 of 3 entries is wrong"
    assert judged(quiz, lambda x: (x > 0, x.long() + 1)).stage == "value"
    assert judged(quiz, lambda x: (x > 0, x.int())).headline == "output[1]: expected int64, got int32"


def test_yes_and_no_are_said_in_words():
    quiz = temporary(lambda x: {"it is even": x % 2 == 0, "it is odd": x % 2 == 1}, [Case({"x": 4})])
    found = judged(quiz, lambda x: {"it is even": False, "it is odd": False})
    assert (found.stage, found.headline) == ("value", "not so: it is even")
    found = judged(quiz, lambda x: {"it is even": True, "it is odd": True})
    assert (found.stage, found.headline) == ("value", "it is odd: expected False, got True")
    pair = temporary(lambda x: (x > 3, x < 3), [Case({"x": 4})])
    assert judged(pair, lambda x: (False, False)).headline == "output[0]: expected True, got False"


def test_a_gradient_of_what_has_no_graph_is_explained():
    quiz = temporary(lambda x: 2 * x, [Case({"x": torch.ones(3)})])

    @torch.no_grad()
    def slope(x):
        x = x.requires_grad_()
        return torch.autograd.grad((x**2).sum(), x)[0]

    found = judged(quiz, slope)
    assert (found.stage, found.finding) == ("raised", "it raised RuntimeError")
    assert "torch.enable_grad()" in found.details[0]


def test_one_entry_is_and_several_are():
    quiz = temporary(lambda x: x.clone(), [Case({"x": torch.ones(3)})])
    one = judged(quiz, lambda x: x / torch.tensor([0.0, 1, 1]))
    assert one.headline == "1 of 3 entries is inf, where a finite number belongs"
    assert judged(quiz, lambda x: x / 0).headline == "3 of 3 entries are inf, where a finite number belongs"


def test_scalar_tensors_are_compared():
    quiz = temporary(lambda x: x.mean(), [Case({"x": torch.tensor([1.0, 3.0])}, ("x",))])
    assert judged(quiz, lambda x: x.sum() / 2).passed
    assert judged(quiz, lambda x: x.sum()).headline == "it is 2 times what it should be: expected 2, got 4"


def test_judge_takes_one_result_a_case():
    quiz = get("demo/mse")
    with pytest.raises(ValueError, match="expected 5 results, one for each case, got 0"):
        judge(quiz, quiz.draw_cases(), [])


def test_judge_survives_results_without_numbers():
    quiz = get("demo/bug")
    cases = quiz.draw_cases()
    empty = [Result("returned", Array("float32", (2,), "cpu", None))] * len(cases)
    assert judge(quiz, cases, empty).headline == "its numbers are missing"


def test_a_reference_that_fails_is_the_authors_mistake():
    with pytest.raises(ValueError, match="the reference fails on its own case .*ZeroDivisionError"):
        judged(temporary(lambda x: 1 / 0, [Case({"x": 1})]), lambda x: 1)
    with pytest.raises(ValueError, match="can't be compared: an? .*object|object"):
        judged(temporary(lambda x: object(), [Case({"x": 1})]), lambda x: 1)


@pytest.mark.parametrize("factor", [2.0, 0.5, -3.0, 1 / 784])
def test_constant_factors_are_found(factor):
    want = np.array([1.0, 2.0, -5.0])
    what, numbers, _ = describe_error(factor * want, want, np.ones(3, bool))
    assert "what it should be" in what + numbers and ("784" in what) is False


# --- nothing gets out -------------------------------------------------------------------------------------------------


def test_printing_is_kept_within_bounds(capsys):
    def loud(x, y):
        for _ in range(10_000):
            print("word " * 20)
            print("to stderr", file=sys.stderr)
        warnings.warn("a warning", stacklevel=1)
        return demo.mse(x, y)

    quiz = get("demo/mse")
    results = run(loud, quiz.draw_cases())
    assert capsys.readouterr() == ("", "")
    assert all(len(result.printed) <= 2_000 and result.printed.startswith("word") for result in results)
    assert judge(quiz, quiz.draw_cases(), results).passed


def test_keyboard_interrupt_passes_through():
    def interrupted(x, y):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(interrupted, get("demo/mse").draw_cases())


def test_global_states_are_restored():
    def vandal(x, y):
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(1)
        warnings.simplefilter("error")
        return demo.mse(x, y)

    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    threads, filters = torch.get_num_threads(), list(warnings.filters)
    with running._everything_restored():
        vandal(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
        random.seed(3)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    run(vandal, get("demo/mse").draw_cases())
    run(lambda x, y: torch.set_default_device("meta"), get("demo/mse").draw_cases())
    assert torch.get_default_device().type == "cpu"
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    assert torch.get_num_threads() == threads and list(warnings.filters) == filters


def test_works_inside_no_grad_and_inference_mode():
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert verdict("demo/reparameterize", demo.reparameterize).passed


def test_a_notebook_may_have_defaults_of_its_own():
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        for id, answer in [("demo/mse", demo.mse), ("demo/decode-grid", demo.decode_grid)]:
            assert verdict(id, answer).passed
        assert torch.get_default_dtype() == torch.float64 and torch.get_default_device().type == "meta"
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def test_cases_run_in_one_thread_and_the_threads_come_back():
    threads, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        run(lambda x, y: seen.append(torch.get_num_threads()), get("demo/mse").draw_cases())
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_answers_that_draw_meet_the_same_seed_in_every_case():
    quiz = temporary(lambda x: x + torch.randn_like(x), [Case({"x": torch.zeros(2, 3)})] * 2)
    assert judged(quiz, lambda x: torch.randn(x.shape) + x).passed
    quiz = temporary(
        lambda x, rng: x + torch.randn(x.shape, generator=rng),
        [Case({"x": torch.zeros(5), "rng": Fixture("generator", seed=3)})],
    )
    assert judged(quiz, lambda x, g: x + torch.randn(5, generator=g)).passed
    assert not judged(quiz, lambda x, g: x + torch.randn(5)).passed


def test_every_case_gets_fresh_inputs():
    seen = []
    case = Case({"x": torch.zeros(2), "items": [1, 2]})
    quiz = temporary(lambda x, items: x + 1, [case, case])

    def greedy(x, items):
        seen.append((x.sum().item(), list(items)))
        items.append(3)
        return x.add_(1)

    found = judged(quiz, greedy)
    assert seen == [(0.0, [1, 2])] * 3 and found.headline == "right result, but it changed x and items in place"
    assert torch.equal(case.args["x"], torch.zeros(2)) and case.args["items"] == [1, 2]


def test_huge_and_endless_outputs_are_described_not_copied():
    endless = []
    endless.append(endless)
    assert (
        verdict("demo/mse", lambda x, y: torch.zeros(1).expand(10**12)).headline
        == "expected shape (3,), got another, much larger one"
    )
    assert verdict("demo/mse", lambda x, y: endless).stage == "type"
    assert verdict("demo/conv-size", lambda *a: 10**100_000).headline.endswith("got a number of more than 300 digits")
    million = verdict("demo/mse", lambda x, y: list(range(10**6)))
    assert million.headline == "expected a tensor, got more values than any answer needs"


def test_messages_of_broken_exceptions():
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError

    def breaks(x, y):
        raise Broken

    assert verdict("demo/mse", breaks).headline == "it raised an exception: Broken: (its message could not be read)"

    def chatters(x, y):
        raise ValueError("word\n" * 10_000)

    assert len(verdict("demo/mse", chatters).headline) < 300


def test_parameters_may_be_renamed_and_be_keyword_only():
    assert verdict("demo/mse", lambda a, b, extra=None: demo.mse(a, b)).passed
    assert verdict("demo/mse", lambda *, x_hat, x: demo.mse(x, x_hat)).passed
    assert verdict("demo/mse", lambda *args: demo.mse(*args)).passed


@pytest.mark.filterwarnings("error")
def test_coroutines_leave_no_warning():
    async def answer(x, y):
        return x

    assert verdict("demo/mse", answer).headline == "expected a tensor, got an object of type coroutine"


# --- what an answer leaves behind -------------------------------------------------------------------------------------


def networks(rng):
    """A network in training mode, with a batch to run through it."""
    return [
        Case({"network": Fixture("demo/dropping", seed=seed), "x": torch.randn(4, 3, generator=rng)}, ("network", "x"))
        for seed in (1, 2)
    ]


@declarations.fixture("demo/dropping")
def dropping(seed):
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, track_running_stats=False))


def loss(network, x):
    return network(x).square().mean()


def backward_inside(network, x):
    value = loss(network, x)
    value.backward(retain_graph=True)
    return value


def backward_without_a_graph(network, x):
    value = loss(network, x)
    value.backward()
    return value


def left_in_eval(network, x):
    value = loss(network, x)
    network.eval()
    return value


def one_layer_left_in_eval(network, x):
    value = loss(network, x)
    network[1].eval()
    return value


def frozen(network, x):
    value = loss(network, x)
    network.requires_grad_(False)
    return value


def thawed_input(network, x):
    value = loss(network, x)
    x.data.mul_(2)
    return value


def weights_changed(network, x):
    value = loss(network, x)
    with torch.no_grad():
        network[0].weight.mul_(2)
    return value


def recording_left_off(network, x):
    value = loss(network, x)
    torch.set_grad_enabled(False)
    return value


def default_left_double(network, x):
    value = loss(network, x)
    torch.set_default_dtype(torch.float64)
    return value


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (backward_inside, "the gradients of network and x are filled"),
        (backward_without_a_graph, "the gradients of network and x are filled"),
        (left_in_eval, "network is not in the mode in which it came"),
        (one_layer_left_in_eval, "network is not in the mode in which it came"),
        (frozen, "it changed whether network wants gradients"),
        (thawed_input, "it changed x in place"),
        (weights_changed, "it changed network in place"),
        (recording_left_off, "it leaves the recording of gradients switched off"),
        (default_left_double, "it leaves PyTorch with another default dtype"),
    ],
)
def test_side_effects_are_found(answer, words):
    quiz = dataclasses.replace(temporary(loss, []), cases=networks)
    found = judged(quiz, answer)
    assert (found.stage, words in found.headline) == ("in place", True), found
    assert judged(quiz, loss).passed and judged(quiz, lambda n, x: (n(x) ** 2).mean()).passed
    assert "retain_graph" not in " ".join([found.headline, *found.details])


def test_an_input_changed_in_place_explains_why_no_gradient_flows():
    quiz = temporary(lambda x: x + 1, [Case({"x": torch.ones(3)}, ("x",))])

    def answer(x):
        with torch.no_grad():
            x += 1
        return x.detach()

    assert judged(quiz, answer).headline == "right result, but it changed x in place"


def test_an_answer_that_keeps_something_from_call_to_call_is_found():
    memory = {}

    def remembered(x):
        return memory.setdefault(tuple(x.shape), x * 2)

    quiz = dataclasses.replace(
        temporary(lambda x: x * 2, []), cases=lambda rng: [Case({"x": torch.rand(n, generator=rng)}) for n in (2, 3)]
    )
    found = judged(quiz, remembered)
    assert found.stage == "value" and "kept from call to call" in found.details[0]
    assert found.evidence.startswith("Seen in a second call with the shapes of case 1")


def test_what_works_on_the_cpu_only_is_found():
    quiz = temporary(lambda x: x + torch.arange(3, device=x.device), [Case({"x": torch.ones(2, 3)})], any_device=True)
    for wrong in (
        lambda x: x + torch.arange(3),
        lambda x: torch.stack([row + torch.tensor([0, 1, 2]) for row in x]),
        lambda x: (x + torch.arange(3.0, device=x.device)) if x.is_cpu else torch.ones(2, 3),
    ):
        found = judged(quiz, wrong)
        assert (found.stage, found.finding) == ("device", "it works on the CPU only"), found
    for right in (
        lambda x: x + torch.tensor([0.0, 1, 2]).to(x),
        lambda x: x + x.new_tensor([0, 1, 2]),
        lambda x: x + torch.tensor(1.0) + torch.arange(-1, 2, device=x.device),
        lambda x: torch.tensor([[v + i for i, v in enumerate(row)] for row in x.tolist()]),  # looks at the numbers
    ):
        assert judged(quiz, right).passed
    worse = judged(quiz, lambda x: 2 * x + torch.arange(3))
    assert worse.stage == "value", "wrong numbers come before the wrong device"


# --- out of reach -----------------------------------------------------------------------------------------------------


def test_functions_that_answer_are_out_of_reach_in_the_notebook_too(capsys):
    quiz = temporary(library_arrays.to_unit, [Case({"x": torch.ones(2)})], library=(library_arrays.is_whole,))
    assert quizzes.check("demo/temporary", lambda x: library_arrays.to_unit(x)) is quiz.reference
    out = capsys.readouterr().out
    assert "it calls a function of the library that is or contains the answer" in out and "out of reach" in out
    mine = lambda x: (x + 1) / 2  # noqa: E731
    assert quizzes.check("demo/temporary", mine) is mine
    assert library_arrays.to_unit(torch.ones(1)) == 1 and library_arrays.is_whole(2)


def test_references_that_other_checks_handed_out_are_out_of_reach_too(capsys):
    other = declarations.quiz("demo/other", **(GOOD | {"reference": lambda x: 2 * x}))
    quiz = temporary(lambda x: x + x, [Case({"x": torch.ones(2)})], answered_by=["demo/other"])
    for handed_out in (other.reference, quiz.reference):
        assert quizzes.check("demo/temporary", lambda x, f=handed_out: f(x)) is quiz.reference
        assert "it calls a function of the library that is or contains the answer" in capsys.readouterr().out
    assert other.reference(1) == 2 and quiz.reference(1) == 2


def test_functions_come_back_whatever_an_answer_does():
    names = ["course_utils.arrays.to_unit", dotted_name(Schedule)]
    for error in (KeyboardInterrupt, SystemExit, ValueError):
        with pytest.raises(error), out_of_reach(names):
            with pytest.raises(RuntimeError, match="write it yourself"):
                library_arrays.to_unit(torch.ones(1))
            raise error
    assert library_arrays.to_unit(torch.ones(1)) == 1
    with pytest.raises(LookupError), out_of_reach([names[0], "course_utils.arrays.nothing_there"]):
        pass
    assert library_arrays.to_unit(torch.ones(1)) == 1


# --- material and judgement -------------------------------------------------------------------------------------------


def test_what_is_drawn_is_measured_by_the_judge():
    def draws(answer, n):
        return [answer(n) for _ in range(200)]

    def measured(raw, case):
        if not all(isinstance(each, Array) and each.shape == (case.args["n"],) for each in raw):
            raise Unfit(f"expected a tensor of shape ({case.args['n']},) from every call")
        values = np.stack([each.data for each in raw])
        return {"the mean is 0": bool(abs(values.mean()) < 6 / values.size**0.5)}

    quiz = temporary(torch.randn, [Case({"n": 7})], probe=draws, measured=measured)
    assert judged(quiz, lambda n: torch.randn(n, 1)[:, 0]).passed
    assert judged(quiz, torch.rand).headline == "not so: the mean is 0"
    assert judged(quiz, lambda n: 3).headline == "expected a tensor of shape (7,) from every call"


def test_probes_call_an_answer_whatever_its_parameters_are_called():
    quiz = temporary(lambda x, y: x - y, [Case({"x": 3, "y": 1})], probe=lambda answer, x, y: answer(y=y, x=x) + 0)
    for answer in (
        lambda a, b: a - b,
        lambda a, b, /: a - b,
        lambda *, y, x: x - y,
        functools.partial(lambda x, y: x - y),
    ):
        assert judged(quiz, answer).passed
    assert not judged(quiz, lambda y, x: x - y).passed, "the order is the quiz's"


# --- words that give nothing away -------------------------------------------------------------------------------------


def leaking(number):
    """Ways to carry a number out of the inputs into what is said about an answer."""

    def raises(x, y):
        raise ValueError(f"{number(x)}")

    def named(x, y):
        raise type(f"E{number(x)}", (Exception,), {})

    def typed(x, y):
        return type(f"T{number(x)}", (), {})()

    return {
        "an exception's text": raises,
        "an exception's name": named,
        "a type's name": typed,
        "keys": lambda x, y: {str(number(x)): 1},
        "a shape": lambda x, y: torch.zeros(1).expand(number(x)),
        "a text": lambda x, y: str(number(x)),
        "a length": lambda x, y: list(range(number(x) % 10_000)),
        "a number": lambda x, y: number(x),
        "a factor": lambda x, y: demo.mse(x, y) / number(x),
        "a tiny answer": lambda x, y: torch.full((len(x),), 1e-30, dtype=x.dtype) + 0 * y.sum(),
        "something added": lambda x, y: demo.mse(x, y) + number(x),
    }


@pytest.mark.parametrize("way", leaking(lambda x: 0))
def test_findings_carry_no_number_out(way):
    def number(x):
        return 10**6 + int(1e6 * abs(float(x.flatten()[0])))

    quiz = get("demo/mse")
    cases = quiz.draw_cases(3)
    hidden = {str(number(case.args["x"])) for case in cases if not case.device}
    right = [f"{value:.4g}" for case in cases if not case.device for value in demo.mse(*case.args.values()).tolist()]
    found = judge(quiz, cases, run(leaking(number)[way], cases))
    said = " ".join([found.finding, *found.details])
    assert not found.passed and not [each for each in (*hidden, *right) if each in said], said


# --- the wire ---------------------------------------------------------------------------------------------------------

VALUES = [
    None,
    True,
    -3,
    2**70,
    0.1,
    math.inf,
    -math.inf,
    "ü $x$",
    (),
    (1, (2.0, None)),
    [1, [2, "three"]],
    {"a": (1,), "k": {"v": []}},
    Fixture("demo/decoder", height=2, width=3),
    Case({"x": 1, "y": (1, "two")}, (), "labelled"),
    Result("raised", trouble=from_wire(to_wire(run(lambda x: 1 / 0, [Case({"x": 1})])))[0].trouble),
    Unsupported("thing", "detail"),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_survive_the_wire(value):
    back = from_wire(to_wire(value))
    assert back == value and type(back) is type(value)


def test_nan_survives_the_wire():
    assert math.isnan(from_wire(to_wire([math.nan]))[0])


DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)], ids=str)
def test_tensors_survive_the_wire(dtype, shape):
    tensor = (torch.randn(shape) * 3).to(dtype)
    back = from_wire(to_wire({"t": tensor, "transposed": tensor.T if len(shape) == 2 else tensor}))["t"]
    assert back.dtype == dtype and back.shape == tensor.shape and torch.equal(back, tensor)
    assert same(from_wire(to_wire(to_raw(tensor))), to_raw(tensor))


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"", lambda d: d[:20], lambda d: d[6:]]
)
def test_damaged_data_is_refused_in_one_line(damage):
    data = to_wire({"t": torch.ones(3), "n": [1, 2.5]})
    with pytest.raises(ValueError, match="expected (complete )?data from to_wire, got"):
        from_wire(damage(data))


def wired(tree):
    text = json.dumps(tree).encode()
    return b"quiz1\n" + len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "tree",
    [
        {"k": "Case", "v": {"nonsense": 1}},
        {"k": "os.system", "v": {}},
        {"k": "tensor", "dtype": "float32", "shape": [10**12]},
        {"k": "tensor", "dtype": "float32", "shape": [-1]},
        {"k": "Array", "dtype": "float32", "shape": [1], "device": "cpu", "as": "object"},
        {"no": "kind"},
        {"k": "tuple", "v": 3},
    ],
    ids=str,
)
def test_forged_data_is_refused(tree):
    with pytest.raises(ValueError, match="got damaged ones"):
        from_wire(wired(tree))


def test_nothing_nests_without_end():
    deep = b"[" * 500 + b"]" * 500
    with pytest.raises(ValueError, match="got damaged ones"):
        from_wire(b"quiz1\n" + len(deep).to_bytes(8, "little") + deep)


def forged(**changes):
    """A result with fields that `run` never gives it."""
    result = Result("returned")
    for name, value in changes.items():
        object.__setattr__(result, name, value)
    return result


FORGED = [
    1,
    forged(status="passed"),
    forged(status=None),
    forged(gradients=[1]),
    forged(gradients={"x": 3}),
    forged(gradients={"x": {"weight": "text"}}),
    forged(trouble="text"),
    forged(gradient_trouble=3),
    forged(printed=3),
    forged(after=(1,)),
]


@pytest.mark.parametrize("result", FORGED, ids=range(len(FORGED)))
def test_forged_results_are_refused(result):
    assert not wire._well_formed(result)
    with pytest.raises(ValueError, match="got (something else|damaged ones)"):
        results_from_wire([to_wire(result)], 1)


def test_results_must_be_as_many_as_the_cases():
    assert wire._well_formed(Result("returned"))
    for results in ([], [Result("returned")] * 2):
        with pytest.raises(ValueError, match="expected the results of 1 cases, got something else"):
            results_from_wire([to_wire(each) for each in results], 1)


def test_what_can_not_be_sent_says_so():
    with pytest.raises(TypeError, match="expected tensors, numbers, text, None, cases or results, got object"):
        to_wire(object())


STUDENT = """
import sys
from quizzes import demo
from running import html_of
from classroom.quizzes.wire import answer_wire

def reparameterize(mu, log_var, eps):
    print("noise on stdout")
    return {expression}

from classroom.quizzes.wire import from_wire, to_wire

requests = from_wire(sys.stdin.buffer.read())
pieces = [answer_wire(reparameterize, bytes.fromhex(request)) for request in requests]
sys.stdout.buffer.write(to_wire([piece.hex() for piece in pieces]))
"""


@pytest.mark.parametrize(
    "expression",
    [
        "mu + (log_var / 2).exp() * eps",
        "mu + log_var.exp() * eps",
        "(mu + (log_var / 2).exp() * eps).detach()",
        "1 / 0",
        "float(mu.sum())",
    ],
)
def test_another_process_gives_the_same_verdict(tmp_path, expression):
    quiz = get("demo/reparameterize")
    cases = quiz.draw_cases(99)
    script = tmp_path / "student.py"
    script.write_text(STUDENT.format(expression=expression))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    asked = to_wire([request_wire(case, index).hex() for index, case in enumerate(cases)])
    done = subprocess.run([sys.executable, script], input=asked, capture_output=True, env=env, check=True)
    pieces = [bytes.fromhex(piece) for piece in from_wire(done.stdout)]
    there = judge(quiz, cases, results_from_wire(pieces, len(cases)))
    here = judge(quiz, cases, run(eval(f"lambda mu, log_var, eps: {expression}"), cases))
    assert (there.stage, there.headline, there.misconception) == (here.stage, here.headline, here.misconception)


def test_probes_cross_the_wire_by_name():
    quiz = get("demo/class")
    cases = quiz.draw_cases(4)
    name = declarations.probe_name(quiz.id)
    pieces = [answer_wire(demo.Doubler, request_wire(case, index, name)) for index, case in enumerate(cases)]
    assert judge(quiz, cases, results_from_wire(pieces, len(cases))).passed


# --- declarations -----------------------------------------------------------------------------------------------------

GOOD = {"points": 1, "title": "T", "reference": abs, "cases": lambda rng: [Case({"x": 1})], "module": __name__}


@pytest.mark.parametrize(
    ("id", "change", "words"),
    [
        ("Bad Id", {}, "expected an id such as 'vae/kl'"),
        ("noslash", {}, "expected an id such as"),
        ("demo/x", {"points": 0}, "expected points as a whole number above 0, got 0"),
        ("demo/x", {"points": True}, "expected points"),
        ("demo/x", {"title": " "}, "the title is empty"),
        ("demo/x", {"reference": 3}, "expected reference= as a function, got int"),
        ("demo/x", {"hints": "one text"}, "expected hints= as a list"),
        ("demo/x", {"library": [len]}, "expected library= as functions of course_utils, got <built-in"),
        ("demo/x", {"library": ["course_utils.diffusion.min_snr"]}, "expected library= as functions of course_utils"),
        ("demo/x", {"answered_by": "demo/y"}, "expected answered_by= as a list of other quizzes' ids"),
        ("demo/x", {"answered_by": ["demo/x"]}, "expected answered_by= as a list of other quizzes' ids"),
        ("demo/x", {"minutes": 0}, "expected minutes above 0"),
        ("demo/x", {"misconceptions": [Misconception("m", abs, ""), Misconception("m", abs, "")]}, "same name"),
    ],
)
def test_declarations_that_can_not_work(id, change, words):
    with pytest.raises(DeclarationError, match=words):
        declarations.quiz(id, **(GOOD | change))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"a": Option("x", "y", True)}, "expected 2 to 6 options"),
        ({"b": Option("x", "y", True), "a": Option("x", "y")}, "named a, b, c"),
        ({"a": Option("x", "y"), "b": Option("x", "y")}, "exactly one right option, got 0"),
        ({"a": Option("x", "y", True), "b": Option("x", "y", True)}, "exactly one right option, got 2"),
        ({"a": Option("x", "y", True), "b": Option("x", " ")}, "option b needs a text and feedback"),
    ],
)
def test_questions_that_can_not_work(options, words):
    with pytest.raises(DeclarationError, match=words):
        declarations.concept("demo/x", title="T", question="Q?", options=options, module=__name__)


def test_cases_that_can_not_work():
    with pytest.raises(
        DeclarationError, match="expected x to hold tensors, numbers, text, None or a Fixture, got object"
    ):
        Case({"x": [object()]})
    with pytest.raises(DeclarationError, match="names of float tensors or fixtures in args, got 'n'"):
        Case({"n": torch.arange(3)}, gradients=("n",))
    with pytest.raises(DeclarationError, match="build it inside the fixture"):
        Fixture("generator", seed=torch.ones(1))
    with pytest.raises(DeclarationError, match="expected a fixture among .*generator.*, got 'no such'"):
        Fixture("no such").build()
    with pytest.raises(DeclarationError, match="must return a list of at least one Case"):
        temporary(abs, []).draw_cases()


def test_ids_belong_to_one_module():
    declarations.quiz("demo/mine", **GOOD)
    declarations.quiz("demo/mine", **(GOOD | {"points": 2}))  # the same file again: a reload
    assert get("demo/mine").points == 2
    with pytest.raises(DeclarationError, match="already declared in"):
        declarations.quiz("demo/mine", **(GOOD | {"module": "another"}))


def test_declared_in_keeps_the_order():
    assert list(declarations.declared_in("quizzes.demo"))[:3] == ["demo/conv-size", "demo/mse", "demo/reparameterize"]


def test_unknown_ids():
    with pytest.raises(UnknownQuiz, match="no quiz is called 'demo/mes'; did you mean 'demo/mse'"):
        get("demo/mes")
    with pytest.raises(UnknownQuiz, match="expected the id of a quiz in quotes, got list"):
        get(["demo/mse"])


def test_fixtures_are_the_same_every_time():
    torch.manual_seed(1)
    one = Fixture("demo/decoder", height=2, width=3).build()
    torch.manual_seed(2)
    other = Fixture("demo/decoder", height=2, width=3).build()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))


def test_question_markdown_holds_no_answers():
    text = declarations.question_markdown(get("demo/question"))
    assert text.startswith("What is $\\sqrt{4}$, if $x < 5$?\n\n* **a** · $4$\n* **b** · $2$")
    assert "FEEDBACK" not in text


# --- in the notebook (here: a terminal, where everything is text) -----------------------------------------------------


def own_mse(x, y):
    return (x - y).square().flatten(1).mean(1)


def test_check_returns_the_answer_when_it_passed(capsys):
    assert quizzes.check("demo/mse", own_mse) is own_mse
    assert capsys.readouterr() == ("✓ demo/mse: passed (2 points)\n", "")


def test_check_returns_the_reference_otherwise_and_says_so(capsys):
    def my_mse(x, y):
        print("debugging")
        return (x - y).flatten(1).mean(1)

    assert quizzes.check("demo/mse", my_mse) is demo.mse
    out, err = capsys.readouterr()
    assert out.startswith("✗ demo/mse: ") and err == ""
    assert "The rest of the notebook uses the course's own `my_mse` until yours passes." in out
    assert "Your code printed: debugging" in out


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (stubbed, "○ demo/mse: not attempted yet (2 points)"),
        (None, "✗ demo/mse: expected your function, got nothing: pass its name, without brackets"),
        (3, "✗ demo/mse: expected your function, got a value of type int: pass its name, without brackets"),
        (demo.mse, "○ demo/mse: not attempted yet (2 points): this is the course's own function: run the cell with"),
    ],
)
def test_check_answers_what_is_no_answer(answer, line, capsys):
    assert quizzes.check("demo/mse", answer) is demo.mse
    out, err = capsys.readouterr()
    assert out.startswith(line) and err == ""


def test_check_names_no_function_that_has_no_name(capsys):
    class Refuses:
        def __getattr__(self, name):
            raise RuntimeError(name)

        def __call__(self, x):
            return x

    def _private(x):
        return x * 2

    temporary(_private, [Case({"x": 1})])
    for answer in (Refuses(), lambda x: x, None):
        assert quizzes.check("demo/temporary", answer) is _private
        assert "The rest of the notebook uses the course's own function until" in capsys.readouterr().out


def test_unknown_quizzes_get_one_line_and_keep_the_answer(capsys):
    assert quizzes.check("demo/mes", stubbed) is stubbed
    quizzes.ask("demo/questoin", "a")
    quizzes.hint("xyzzy")
    quizzes.check("demo/question", stubbed)
    quizzes.ask("demo/mse", "a")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "no quiz is called 'demo/mes'; did you mean 'demo/mse'?",
        "no quiz is called 'demo/questoin'; did you mean 'demo/question'?",
        "no quiz is called 'xyzzy'; none has a similar name",
        "demo/question is a question, not a code quiz: use ask('demo/question', …)",
        "demo/mse is a code quiz, not a question: use check('demo/mse', …)",
    ]


@pytest.mark.parametrize("mode", ["autograde", "validate"])
def test_under_nbgrader_wrong_answers_raise_and_nothing_is_printed(mode, monkeypatch, capsys):
    monkeypatch.setenv("NBGRADER_EXECUTION", mode)
    for answer in (stubbed, lambda x, y: None, lambda x, y: x, 3, demo.mse):
        with pytest.raises(AssertionError, match=r"^. demo/mse: [^\n]+$"):
            quizzes.check("demo/mse", answer)
    for letter in ("", "a", "e", 2, None):
        with pytest.raises(AssertionError, match=r"^. demo/question: [^\n]+$"):
            quizzes.ask("demo/question", letter)
    for call in (lambda: quizzes.check("demo/mes", stubbed), lambda: quizzes.ask("demo/mse", "a")):
        with pytest.raises(AssertionError):
            call()
    assert capsys.readouterr() == ("", "")
    quizzes.ask("demo/question", "b")
    quizzes.check("demo/mse", own_mse)
    assert capsys.readouterr() == ("✓ demo/question: b is right (2 points)\n✓ demo/mse: passed (2 points)\n", "")


def test_nbgraders_other_modes_do_not_raise(monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "generate")
    assert quizzes.check("demo/mse", stubbed) is demo.mse


@pytest.mark.parametrize(
    ("letter", "line"),
    [
        ("", "○ demo/question: no answer yet (2 points). Type a, b, c or d between the quotes in the cell above"),
        (None, "○ demo/question: no answer yet"),
        (" B ", "✓ demo/question: b is right (2 points)"),
        ("a", "✗ demo/question: a is not it. FEEDBACK-A: that is before the root."),
        ("e", "✗ demo/question: expected one of the letters a, b, c or d in quotes, got 'e'"),
        ("ab", "✗ demo/question: expected one of the letters a, b, c or d in quotes, got 'ab'"),
        (2, "✗ demo/question: expected one of the letters a, b, c or d in quotes, got 2"),
    ],
)
def test_ask_answers_the_option(letter, line, capsys):
    assert quizzes.ask("demo/question", letter) is None
    out, err = capsys.readouterr()
    assert out.startswith(line) and err == ""
    others = {"FEEDBACK-A", "FEEDBACK-B", "FEEDBACK-C", "FEEDBACK-D"} - {f"FEEDBACK-{str(letter).strip().upper()}"}
    assert not any(other in out for other in others)


def test_hints_come_one_at_a_time(capsys):
    for _ in range(4):
        quizzes.hint("demo/reparameterize")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "demo/reparameterize: hint 1 of 3: $z$ is a mean plus something times `eps`."
    assert lines[2].startswith("demo/reparameterize: hint 3 of 3: ")
    assert lines[3] == "demo/reparameterize: all 3 hints" and len(lines) == 7
    quizzes.hint("demo/bug")
    assert capsys.readouterr().out == "demo/bug has no hints\n"


def test_predict_and_reveal(capsys):
    assert quizzes.predict("p", "How much is left?", 0, 1, unit="of 1") is None
    quizzes.reveal("p", 0.28)
    assert quizzes.predict("p", "How much is left?", 0, 1, unit="of 1", value=0.5) == 0.5
    assert quizzes.predict("p", "How much is left?", 0, 1, unit="of 1") == 0.5  # it is remembered
    quizzes.reveal("p", torch.tensor(0.28))
    quizzes.reveal("never asked", np.float64(3))
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "no guess yet" in lines[0] and lines[1] == "p: measured 0.28 of 1 (no guess was made)"
    assert "your guess: 0.5 of 1" in lines[3]
    assert lines[4].startswith("p: you said 0.5 of 1, measured 0.28 of 1. Not what you expected.")
    assert lines[5] == "never asked: measured 3 (no guess was made)" and err == ""


@pytest.mark.parametrize("measured", [math.nan, math.inf, "0.3", None, torch.ones(2), True])
def test_reveal_of_something_that_is_no_number(measured, capsys):
    quizzes.reveal("p", measured)
    assert capsys.readouterr().out.startswith("p: expected a measured number that is finite, got ")


@pytest.mark.parametrize("value", [2, -1, "0.5", math.nan, True])
def test_a_guess_that_does_not_count(value, capsys):
    assert quizzes.predict("p", "?", 0, 1, value=value) is None
    assert "p: expected a guess as a number from 0 to 1, got" in capsys.readouterr().out


@pytest.mark.parametrize("ends", [(1, 0), (0, 0), (0, math.inf), ("a", 1)])
def test_ends_that_are_no_range(ends):
    with pytest.raises(ValueError, match="expected two finite numbers low < high"):
        quizzes.predict("p", "?", *ends)


def test_progress(capsys):
    quizzes.progress()
    quizzes.check("demo/mse", own_mse)
    quizzes.ask("demo/question", "a")
    capsys.readouterr()
    quizzes.progress()
    assert capsys.readouterr().out.splitlines() == [
        "2 of 4 points in the quizzes tried so far",
        "  Squared error: passed, 2 of 2",
        "  A question: not yet, 0 of 2",
    ]


def test_cards_escape_what_they_are_given():
    markup = cards.card("wrong", "<b>title</b>", "<script>alert(1)</script>", ["`<i>`"], printed="</pre><script>")
    assert "<script" not in markup and "&lt;script" in markup and "<code" in markup


# --- in a kernel ------------------------------------------------------------------------------------------------------


def executed(*sources, env=None):
    """A notebook of these cells after a kernel has run them, widget state included."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    setup = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\nimport torch\nfrom quizzes import demo\n"
    )
    setup += "from classroom.quizzes import *\nimport ipywidgets\nfrom ipywidgets.widgets.widget import _instances\n"
    setup += "def widgets(kind): return [w for w in _instances.values() if type(w).__name__ == kind]"
    nb = new_notebook(cells=[new_code_cell(textwrap.dedent(text)) for text in (setup, *sources)])
    NotebookClient(nb, timeout=120, kernel_name="python3", store_widget_state=True).execute(
        env={**os.environ, **(env or {})}
    )
    return nb


def text_of(cell):
    return "".join(str(out.get("text", "")) + str(out.get("data", {}).get("text/plain", "")) for out in cell.outputs)


@pytest.fixture(scope="module")
def kernel():
    """One run of a notebook in which a student tries things."""
    return executed(
        """
        def mine(mu, log_var, eps):
            print("in my code")
            return mu + log_var.exp() * eps
        mine = check("demo/reparameterize", mine)
        """,
        'ask("demo/question", "")',
        """
        button = widgets("Button")[0]
        button.click(); button.click()
        print(button.description, widgets("HTMLMath")[0].value)
        """,
        """
        options = [button for button in widgets("Button") if button.description.startswith("Try ")]
        print([button.description for button in options], [button.tooltip for button in options][:1])
        options[2].click()
        """,
        'predict("p", "How much?", 0, 1)',
        """
        field = widgets("Text")[0]
        said = next(w for w in widgets("HTML") if "status" in w.value or not w.value)
        for text in ("2", "half", "0,5", "0.75"):
            field.value = text
            print(text, said.value)
        print(predict("p", "How much?", 0, 1) == 0.75)
        """,
        'reveal("p", 0.25)',
        'check("demo/bug", lambda x: x.sum(1)); ask("demo/question", "b"); progress()',
        'hint("demo/reparameterize")',
        """
        from classroom.quizzes import notebook
        notebook._hints_seen["demo/reparameterize"] = 2  # as before the last cell
        check("demo/reparameterize", mine2 := lambda mu, log_var, eps: mu)
        button, shown = [w for w in widgets("Button") if "hint" in w.description][-1], widgets("HTMLMath")[-1]
        print(button.description, shown.value.count("<b>Hint"))
        button.click(); button.click()
        print(button.description, shown.value.count("<b>Hint"), button.disabled)
        """,
    )


def test_kernel_shows_cards_with_one_line_of_text(kernel):
    cell = kernel.cells[1]
    plain = [out.data["text/plain"] for out in cell.outputs if "text/html" in out.get("data", {})]
    (line,) = plain
    assert line.startswith("✗ demo/reparameterize: every entry is wrong, some too large, some too small")
    assert line.endswith("(log variance read as log σ)")
    assert "Known slip: <b>log variance read as log σ</b>" in html_of(cell) and "in my code" in html_of(cell)


def test_kernel_writes_nothing_to_stderr(kernel):
    assert not [out for cell in kernel.cells for out in cell.outputs if out.get("name") == "stderr"]
    assert not [out for cell in kernel.cells for out in cell.outputs if out.output_type == "error"]


def test_hint_button_shows_one_hint_a_press(kernel):
    assert "Show a hint (3 of 3)" in text_of(kernel.cells[3])
    shown = text_of(kernel.cells[3])
    assert "Hint 1." in shown and "Hint 2." in shown and "Hint 3." not in shown
    assert "Hint 3 of 3" in html_of(kernel.cells[9])  # hint() goes on where the button stopped


def test_buttons_of_options_show_only_the_chosen_feedback_and_what_is_left_to_do(kernel):
    said = text_of(kernel.cells[4])
    assert "['Try a', 'Try b', 'Try c', 'Try d'] ['A question: option a']" in said
    everything = json.dumps([kernel.metadata["widgets"], kernel.cells[2].outputs])
    assert "FEEDBACK-C" in everything
    assert not any(f"FEEDBACK-{other}" in everything for other in "ABD")
    assert (
        "You chose c with a click. To hand it in" in everything and "between the quotes in the cell above" in everything
    )


def test_a_guess_is_a_number_that_somebody_typed(kernel):
    lines = text_of(kernel.cells[6]).strip().splitlines()
    assert lines[-1].endswith("True")
    for line, words in zip(lines, ["Expected a number from 0 to 1, got", "got 'half'", "guess: 0.5", "guess: 0.75"]):
        assert words in line
    assert "You said 0.75, measured 0.25." in html_of(kernel.cells[7]) and "<svg" in html_of(kernel.cells[7])


def test_hints_that_were_seen_come_again_and_the_button_stays(kernel):
    """It can be pressed after the last one: if it were disabled, the focus would fall to the page."""
    assert text_of(kernel.cells[10]).endswith("Show a hint (3 of 3) 2\nThat was the last hint 3 False\n")


def test_passed_cards_have_no_widgets(kernel):
    kinds = [kind for out in kernel.cells[8].outputs for kind in out.get("data", {})]
    assert kinds == ["text/html", "text/plain"] * 3


def test_kernel_without_ipywidgets_shows_text_and_cards():
    nb = executed(
        "sys.modules['ipywidgets'] = None",
        'check("demo/reparameterize", lambda m, v, e: m); ask("demo/question", "d"); predict("p", "?", 0, 1);',
    )
    assert all(set(out.data) <= {"text/html", "text/plain"} for out in nb.cells[2].outputs)
    assert "FEEDBACK-D" in html_of(nb.cells[2])


def test_plain_python_needs_no_ipython(tmp_path):
    script = (
        "import sys; sys.modules['IPython'] = None; sys.modules['ipywidgets'] = None\n"
        "from quizzes import demo; from classroom.quizzes import *\n"
        "check('demo/mse', lambda x, y: x); ask('demo/question', 'b')\n"
        "predict('p', '?', 0, 1); reveal('p', 1); progress()"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True)
    assert done.stderr == "" and "✓ demo/question: b is right" in done.stdout
