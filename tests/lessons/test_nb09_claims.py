"""What notebook 09 defines by hand is what the library computes, and what its text claims of copies and intervals."""

import math

import masters
import pytest
import torch

from course_utils import measured, metrics
from course_utils.pitfalls import copies as pitfalls


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("09")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize("at_once", [1, 7, 500])
def test_the_nearest_are_the_librarys(notebook, at_once):
    points, among = normal(20, 1, 3, 4), normal(50, 1, 3, 4, seed=1)
    distances, indices = notebook["nearest"](points, among, 3, at_once)
    theirs = metrics.nearest(points, among, 3)
    torch.testing.assert_close(distances, theirs.distances)
    assert torch.equal(indices, theirs.indices)


def test_copies_are_the_librarys(notebook):
    training = normal(30, 1, 4, 4)
    generated = torch.cat(
        [training[:5], training[5:10] + 0.05 * normal(5, 1, 4, 4, seed=2), normal(9, 1, 4, 4, seed=3)]
    )
    found = notebook["copies"](generated, training)
    assert torch.equal(found, metrics.copies(generated, training)) and found.tolist() == [True] * 10 + [False] * 9


def test_his_report_finds_no_planted_copy_and_the_mended_one_finds_all(notebook):
    training, held_out = normal(30, 1, 4, 4), normal(200, 1, 4, 4, seed=1)
    planted = training.repeat(3, 1, 1, 1) + 0.01 * normal(90, 1, 4, 4, seed=2)
    assert pitfalls.report(planted, training, held_out, 0.01) <= 0.1
    assert notebook["somebody_elses_report"](planted, training, held_out, 0.01) == 1
    assert notebook["somebody_elses_report"](held_out, training, held_out, 0.05) == pytest.approx(0.05, abs=0.01)


def test_his_report_still_finds_copies_of_what_stands_there_twice():
    """The answer to the question on it: with duplicates the second nearest is near as well."""
    once, held_out = normal(30, 1, 4, 4), normal(200, 1, 4, 4, seed=1)
    twice, planted = torch.cat([once, once + 0.01 * normal(30, 1, 4, 4, seed=3)]), once
    assert pitfalls.report(planted, twice, held_out, 0.01) == 1
    assert metrics.copies(planted + 0.02 * normal(30, 1, 4, 4, seed=4), twice).double().mean() < 0.2


def test_what_the_text_says_of_memorization_holds_for_every_seed():
    """A hundred images are copied, a thousand aren't; the copier is nearest to the test images, nearer to its own."""
    of = measured.shipped_table("memorization")["images"]
    hundred, others = of["100"], [of["1000"], of["10000"]]
    assert min(hundred["copies"]) > 0.2 and max(max(other["copies"]) for other in others) < 0.01
    assert max(max(row["control copies"]) for row in of.values()) < 0.01
    assert max(hundred["to test"]) < min(min(other["to test"]) for other in others)
    assert all(own < test for own, test in zip(hundred["to training"], hundred["to test"]))


# ------------------------------------------------------------------------------------------------ the trilemma, a game


def test_corners_are_the_librarys(notebook):
    ends = (10.0, 1.0, 0.1), (2.0, 1e-4, 0.9)
    for numbers in ((5.0, 0.02, 0.4), (12.0, 3.0, 0.0), (1.0, 1e-5, 0.95)):
        assert notebook["corners"](numbers, *ends) == pytest.approx(measured.corners(numbers, *ends))


def test_the_stopwatch_ignores_a_slow_first_call_and_a_hiccup(notebook):
    times = iter([9.0, 0.2, 0.2, 5.0, 0.2, 0.2])
    now = [0.0]

    def draw(n):
        now[0] += next(times)

    assert notebook["seconds_per_image"](draw, 10, 5, lambda: now[0]) == pytest.approx(0.02)


@pytest.mark.parametrize(("wrong", "n"), [(0, 5), (8, 20), (20, 20), (31, 100)])
def test_wilsons_interval_is_the_librarys(notebook, wrong, n):
    assert notebook["wilson_interval"](wrong, n) == pytest.approx(metrics.wilson_interval(wrong, n), abs=1e-4)


def test_eight_of_twenty(notebook):
    """What the last question says: 22 % to 61 %, and a coin is wrong 8 times or fewer in one round of four."""
    low, high = notebook["wilson_interval"](8, 20)
    assert (round(100 * low), round(100 * high)) == (22, 61)
    assert sum(math.comb(20, k) for k in range(9)) / 2**20 == pytest.approx(1 / 4, abs=0.005)
