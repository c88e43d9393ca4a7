"""What is said of answers that draw: nothing false of right draws on any seed, and no yes that is only said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from classroom.quizzes import declarations, drawing
from classroom.quizzes.declarations import Unfit
from classroom.quizzes.raw import Array, to_raw

FORM = {"the numbers": ((6,), ("float32",))}
CALLS = 200


def repeated(draw, calls: int = CALLS):
    generator = torch.Generator().manual_seed(0)
    return drawing.repeated(lambda x: draw(x, generator), torch.zeros(6), generator, calls)


def normal(x, generator):
    return torch.randn(x.shape, generator=generator, device=x.device)


def measured(draw):
    ((numbers, own),) = drawing.drawn(to_raw(repeated(draw)), FORM, CALLS)
    return numbers, own


def test_numbers_come_one_call_above_the_other():
    numbers, own = measured(normal)
    assert numbers.shape == (CALLS, 6) and own
    assert np.allclose(numbers[0], normal(torch.zeros(6), torch.Generator().manual_seed(0)))


def test_global_chance_is_not_the_generators():
    assert not measured(lambda x, generator: torch.randn_like(x))[1]


def test_only_the_first_call_may_spoil_what_was_handed_in():
    seen = []
    repeated(lambda x, generator: seen.append(x.sum().item()) or x.add_(1))
    assert set(seen) == {0.0}


def test_a_device_without_numbers_is_asked_a_few_times():
    calls = []
    generator = torch.Generator()
    given = torch.zeros(6, device="meta")
    found = drawing.repeated(lambda x: calls.append(0) or normal(x, generator), given, generator, CALLS)
    assert len(calls) == 3 and found["many"].device.type == "meta"


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda x, g: normal(x, g).double(), "the numbers: expected float32 of shape \\(6,\\), got float64 of shape"),
        (lambda x, g: normal(x, g)[None], "got float32 of shape \\(1, 6\\)"),
        (lambda x, g: (normal(x, g), x), "expected one tensor, got 2 values"),
        (lambda x, g: normal(x, g).tolist(), "got 6 values"),
        (lambda x, g: 3.0, "got a number"),
        (lambda x, g: {"noise": normal(x, g)}, "got a dict of 1"),
        (lambda x, g: normal(x, g)[normal(x, g) > 0], "got float32 of shape"),
        (lambda x, g: normal(x, g) / 0, "not all of it is finite"),
        (lambda x, g: torch.stack([x.sum()] * int(1 + 5 * (torch.rand((), generator=g) < 0.9))), "expected"),
    ],
)
def test_what_has_another_form_is_said(draw, said):
    with pytest.raises(Unfit, match=said):
        measured(draw)


NUMBERS = Array("float32", (CALLS + 2 * drawing.AGAIN, 6), "cpu", None)


@pytest.mark.parametrize("id", ["training/one-step", "guidance/drop-labels"])
@pytest.mark.parametrize(
    "raw",
    [
        True,
        None,
        "passed",
        {},
        {"many": True},
        {"many": NUMBERS},
        {"many": (NUMBERS,) * 3},
        {"share": True, "0": 1, "1": 2},
    ]
    + [
        {"every call draws anew": True},
        {"all of it comes from the generator": True},
        [{"many": [1, 2, 3]}],
    ],
)
def test_a_process_that_only_says_yes_is_not_believed(id, raw):
    quiz = declarations.get(id)
    with pytest.raises(Unfit):
        quiz.measured(raw, quiz.draw_cases(0)[0])


@pytest.mark.parametrize("dtype", [complex, bool])
def test_numbers_of_another_kind_than_they_are_said_to_be(dtype):
    shape = (CALLS + 2 * drawing.AGAIN, 6)
    with pytest.raises(Unfit):
        drawing.drawn({"many": Array("float32", shape, "cpu", np.ones(shape, dtype))}, FORM, CALLS)


@pytest.mark.parametrize("seed", range(20))
def test_right_draws_fit_and_others_do_not(seed):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((300, 5, 8))
    assert drawing.fits(z, 0, 1) and drawing.fits(z**2, 1, 2) and drawing.looks_normal(z)
    assert drawing.uncorrelated(z) and drawing.from_call_to_call(z.reshape(300, -1))
    assert drawing.as_often(z > 0, 0.5) and not drawing.as_often(z > 0, 0.4)
    assert not drawing.fits(z + 0.1, 0, 1) and not drawing.fits(1.2 * z**2, 1, 2)
    assert not drawing.looks_normal(z.clip(-2.3, 2.3)) and not drawing.looks_normal(np.sign(z))
    copied, slow = z.copy(), z.repeat(2, axis=0)
    copied[:, 4] = copied[:, 0]
    assert not drawing.uncorrelated(copied) and not drawing.from_call_to_call(slow.reshape(600, -1))


def test_parts_that_hang_together_are_not_taken_for_a_wrong_share():
    """One toss for a batch of 50: the share is right, though it varies far more than that of 50 tosses."""
    far = [np.repeat(np.random.default_rng(seed).random((300, 1)) < 0.2, 50, axis=1) for seed in range(50)]
    assert all(drawing.as_often(hits, 0.2) for hits in far)
