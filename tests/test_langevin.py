"""Langevin dynamics against distributions that are known exactly."""

from importlib import import_module

import pytest
import torch
from scipy import stats
from test_sampling import REJECT, UNEVEN, bare_copy, network, normal, p_values, rng

from course_utils.diffusion import cosine_schedule
from course_utils.sampling import annealed_langevin, langevin_dynamics, last, score_of

SCHEDULE = cosine_schedule(400)


def test_the_score_of_the_perfect_denoiser_is_the_mixtures_own():
    x, t = normal(5, 2), torch.tensor([1, 50, 200, 350, 400])
    own = torch.cat([UNEVEN.diffused(SCHEDULE.alpha_bar[k]).score(row[None]) for row, k in zip(x, t)])
    torch.testing.assert_close(score_of(UNEVEN.denoiser(SCHEDULE), SCHEDULE)(x, t), own, rtol=1e-6, atol=1e-6)


@pytest.mark.equation("6.13")
@pytest.mark.parametrize("h", [0.02, 0.5])
def test_a_gaussian_comes_out_with_the_variance_that_the_step_size_leaves(h):
    """For p = N(0, 1) the chain is an AR(1) process with factor 1 − h and noise 2h: variance 1 / (1 − h/2)."""
    chain = langevin_dynamics(lambda x: -x, torch.zeros(20_000, 1, dtype=torch.float64), h, round(6 / h), rng(1))
    *_, x = chain
    assert stats.kstest(x.flatten().numpy(), stats.norm(0, (1 - h / 2) ** -0.5).cdf).pvalue > REJECT
    if h == 0.5:  # and the same test tells it from variance 1
        assert stats.kstest(x.flatten().numpy(), stats.norm.cdf).pvalue < REJECT


def test_a_mixture_is_left_as_it_is():
    x = UNEVEN.sample(10_000, rng(2))
    *_, moved = langevin_dynamics(UNEVEN.score, x, 0.002, 50, rng(3))
    assert min(p_values(moved, UNEVEN)) > REJECT / 4 and (moved - x).norm(dim=1).mean() > 0.1


@pytest.mark.equation("6.14")
def test_from_the_top_every_blob_is_found_which_plain_langevin_misses():
    """Shares of the blobs within 0.03. At one level alone points don't cross between blobs: their shares are wrong."""
    start = torch.randn(4000, 2, generator=rng(1))
    x = last(annealed_langevin(UNEVEN.denoiser(SCHEDULE), SCHEDULE, start, 40, each=10, generator=rng(2)))

    def shares(x):
        return torch.cdist(x, UNEVEN.means).argmin(1).bincount(minlength=3) / len(x)

    true = shares(UNEVEN.sample(100_000, rng(5)))
    assert (shares(x) - true).abs().max() < 0.03
    *_, plain = langevin_dynamics(UNEVEN.score, start + 2.0, 0.002, 400, rng(3))
    assert (shares(plain) - true).abs().max() > 0.1


def test_what_it_yields_and_asks():
    asked = []

    def counted(x, t, y):
        asked.append(int(t[0]))
        return network(x, t)

    steps = [*annealed_langevin(counted, SCHEDULE, normal(2, 1, 4, 4), 4, each=3, generator=rng(1))]
    assert [s.t for s in steps] == [400, 300, 200, 100, 0] and steps[0].x0 is None
    assert asked == [400] * 4 + [300] * 4 + [200] * 4 + [100] * 4
    assert torch.equal(steps[-1].x, steps[-1].x0)
    assert len([*langevin_dynamics(lambda x: -x, normal(2, 2), 0.1, 7)]) == 8


@pytest.mark.parametrize("h", [0.0, -1.0, float("nan"), float("inf")])
def test_wrong_step_sizes(h):
    with pytest.raises(ValueError, match="step_size: expected a number above 0, got"):
        next(langevin_dynamics(lambda x: -x, normal(1, 2), h))
    with pytest.raises(ValueError, match="step_size: expected a number above 0, got"):
        next(annealed_langevin(network, SCHEDULE, normal(1, 1, 2, 2), 4, step_size=h))


def test_errors():
    with pytest.raises(ValueError, match="each: expected a whole number of Langevin steps, at least 1, got 0"):
        next(annealed_langevin(network, SCHEDULE, normal(1, 1, 2, 2), 4, each=0))
    bare = bare_copy(import_module("course_utils.sampling.langevin"))
    for steps in (0, -1, 2.5):
        with pytest.raises(ValueError, match="steps: expected a whole number of Langevin steps, at least 1, got"):
            next(bare.langevin_dynamics(lambda x: -x, normal(1, 2), 0.1, steps))
    with pytest.raises(ValueError, match=r"t: expected steps in 1..400, got 0..5"):  # without noise there's no score
        score_of(network, SCHEDULE)(normal(2, 1, 2, 2), torch.tensor([0, 5]))
