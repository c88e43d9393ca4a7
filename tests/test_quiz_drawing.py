"""What is said of answers that draw: nothing false of right draws on any seed, and no yes that is only said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from classroom.quizzes import declarations, drawing
from classroom.quizzes.declarations import Fixture, Unfit
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


@pytest.mark.parametrize("id", ["training/restless", "guidance/drop-labels"])
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


@pytest.mark.parametrize("seed", range(20))
def test_few_calls_of_many_numbers_are_not_taken_for_the_same_again(seed):
    z = np.random.default_rng(seed).standard_normal((100, 1200))
    assert drawing.from_call_to_call(z) and not drawing.from_call_to_call(z + 0.3 * np.roll(z, 1, axis=0))


@pytest.mark.parametrize("seed", range(20))
def test_values_that_never_come_are_missed(seed):
    rng = np.random.default_rng(seed)
    seldom, often = rng.integers(0, 1000, (200, 15)), rng.integers(0, 60, (300, 6))
    dealt = (rng.integers(0, 1000, (200, 1)) + np.arange(15) * 1000 // 15) % 1000
    assert not any(drawing.too_few_values(*drawn) for drawn in ((seldom, 1000), (often, 60), (dealt, 1000)))
    assert drawing.too_few_values(seldom // 2, 1000) and drawing.too_few_values(often.clip(max=58), 60)


def what_is_said_of_noise(noise):
    """Of draws of large images whose steps are right and whose noise is this function of images and generator."""

    def draw(x0, schedule, generator):
        t, e = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator), noise(x0, generator)
        return schedule.add_noise(x0, t, e), t, e

    quiz = declarations.get("training/restless")
    case = max(quiz.draw_cases(0), key=lambda case: case.args["x0"][0].numel())
    args = {name: value.build() if isinstance(value, Fixture) else value for name, value in case.args.items()}
    said = quiz.measured(to_raw(quiz.probe(draw, **args)), case)
    return {key: value for key, value in said.items() if value not in (True, "for each image", "standard normal")}


def test_noise_of_an_earlier_call_is_not_said_to_be_another_images():
    kept = []

    def every_second_call(x0, generator):
        kept.append(kept[-1] if len(kept) % 2 else normal(x0, generator))
        return kept[-1]

    assert what_is_said_of_noise(every_second_call)["for whom noise is drawn"] == "for several calls"


def test_noise_for_two_images_is_said_to_be_that():
    said = what_is_said_of_noise(lambda x0, generator: normal(x0[: len(x0) // 2], generator).repeat(2, 1, 1, 1))
    assert said["for whom noise is drawn"] == "for several images together"


def test_an_offset_is_said_to_be_that():
    """And nothing else is said of it."""
    said = what_is_said_of_noise(lambda x0, g: (normal(x0, g) + 0.2 * normal(x0[:, :, :1, :1], g)) / 1.04**0.5)
    assert said.pop("how often the steps come").endswith("all equally often")
    assert said == {"each pixel has noise of its own": False}
