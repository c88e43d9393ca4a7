"""What notebook 10 defines by hand is what the library computes, and what its text says of flows is so."""

from itertools import pairwise, permutations

import masters
import pytest
import torch

from course_utils import diffusion as library
from course_utils import flow
from course_utils.data import GaussianMixture
from course_utils.pitfalls import flows as pitfalls
from course_utils.sampling import cfg, clipped, ddim

COSINE, FLOW = library.cosine_schedule(200), flow.flow_schedule(200)
RING = GaussianMixture.ring(6, radius=1.8, std=0.15)


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("10")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def evenly(strides: int) -> list[float]:
    return torch.linspace(1, 0, strides + 1).tolist()


# ----------------------------------------------------------------------------------------- 10.1 · another way to mix
@pytest.mark.equation("10.1", "10.2")
def test_the_velocity_is_the_derivative_of_the_path(notebook):
    x0, noise, u, h = normal(5, 2, 3), normal(5, 2, 3, seed=1), torch.linspace(0.1, 0.9, 5, dtype=torch.float64), 1e-6
    before, velocity = notebook["straight_path"](x0, noise, u - h)
    after, _ = notebook["straight_path"](x0, noise, u + h)
    torch.testing.assert_close((after - before) / (2 * h), velocity, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("u", [0.2, 0.7, 1.0])
def test_the_marginal_velocity_of_two_points_in_closed_form(notebook, u):
    """Of data at −1 and 1, E[x0 | x_u = x] = tanh((1 − u) x / u²)."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    wanted = (x - torch.tanh((1 - u) * x / u**2)) / u
    found = notebook["marginal_velocity"](x, u, torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("name", "gain"), [("euler", 2), ("heun", 4)])
def test_the_orders_of_both_walks(notebook, name, gain):
    """Of N(0, s²) the path from z is √((1−u)² s² + u²) z: twice the strides, half the error, or a quarter."""
    s, z = 0.5, normal(20, 1)
    velocity = GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), s).velocity
    off = [(notebook[name](velocity, z, evenly(k))[-1] - s * z).norm().item() for k in (40, 80)]
    assert off[0] / off[1] == pytest.approx(gain, rel=0.1)


def test_one_stride_from_noise_leads_to_the_mean(notebook):
    lopsided = GaussianMixture(
        torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64), 0.3, torch.tensor([3.0, 1.0])
    )
    ends = notebook["euler"](lopsided.velocity, normal(50, 2), [1.0, 0.0])[-1]
    torch.testing.assert_close(ends, torch.tensor([[1.5, 0.25]], dtype=torch.float64).expand(50, 2))


# -------------------------------------------------------------------------------- 10.2 · the model you have is a flow
def test_the_rates_of_the_flows_schedule_are_in_the_ratio_of_the_shares(notebook):
    alpha_bar = notebook["flow_alpha_bar"](50)
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    torch.testing.assert_close(b / (a + b), torch.linspace(0, 1, 51, dtype=torch.float64))
    torch.testing.assert_close(alpha_bar, flow.flow_schedule(50).alpha_bar)


@pytest.mark.parametrize("schedule", [COSINE, FLOW], ids=["cosine", "flow"])
def test_euler_on_the_velocity_is_ddim_at_every_stride(notebook, schedule):
    assert notebook["largest_gap"](RING.denoiser(schedule), schedule, normal(30, 2), 10) < 1e-9


def test_the_velocity_of_a_perfect_denoiser_is_the_mixtures(notebook):
    velocity = notebook["velocity_of"](RING.denoiser(FLOW), FLOW)
    for u in (0.05, 0.5, 1.0):
        torch.testing.assert_close(velocity(normal(20, 2), u), RING.velocity(normal(20, 2), u), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pair", [*permutations(flow.CONVERTIBLE, 2)], ids=" to ".join)
def test_the_table_converts_as_the_library_does(notebook, pair):
    value, x_t, t = normal(3, 1, 4, 5), normal(3, 1, 4, 5, seed=1), torch.tensor([1, 90, 180])
    found = notebook["convert"](COSINE, *pair, value, x_t, t)
    torch.testing.assert_close(found, flow.convert(COSINE, *pair, value, x_t, t))


# ----------------------------------------------------------------------------------------- 10.3 · a flow of your own
def test_the_loss_is_algorithm_1_for_velocities(notebook):
    x0, noise, t, y = normal(4, 1, 3, 5), normal(4, 1, 3, 5, seed=1), torch.tensor([1, 60, 120, 200]), torch.arange(4)
    model = lambda x_t, t, y=0: (x_t + t.view(-1, 1, 1, 1) / 50).sin()  # noqa: E731
    theirs = library.diffusion_loss(FLOW, "velocity", draw=lambda *_: t, pair=lambda x, *_: (x, noise))
    wanted = theirs(model, x0, None, torch.Generator())
    torch.testing.assert_close(notebook["flow_loss"](model, x0, y, noise, t, FLOW), wanted, check_dtype=False)


def test_logit_normal_steps_are_the_quantiles(notebook):
    r = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    wanted = torch.distributions.Normal(-0.4, 0.8).icdf(r).sigmoid().mul(1000).ceil().long()
    assert torch.equal(notebook["logit_normal_steps"](r, 1000, -0.4, 0.8), wanted)


def test_the_borrowed_network_is_right_and_only_the_clock_is_wrong(notebook):
    theirs, noise = pitfalls.another_house(library.Denoiser(RING.denoiser(FLOW), FLOW, "x0")), normal(40, 2)
    clock = torch.full((40,), 0.3, dtype=torch.float64)
    torch.testing.assert_close(theirs(noise, clock), -RING.velocity(noise, 0.7), rtol=1e-6, atol=1e-6)
    wanted = notebook["heun"](RING.velocity, noise, evenly(20))[-1]
    repaired = notebook["somebody_elses_clock"](theirs, noise, 20)
    torch.testing.assert_close(repaired, wanted, rtol=1e-5, atol=1e-5)
    far = [torch.cdist(x, RING.means.double()).min(1).values.mean().item() for x in (repaired, wanted)]
    astray = [
        torch.cdist(pitfalls.borrowed(theirs, noise, k), RING.means.double()).min(1).values.mean().item()
        for k in (20, 100)
    ]
    assert max(far) < 0.3 and min(astray) > 2 * max(far)  # more strides don't help
    assert astray[1] == pytest.approx(astray[0], rel=0.3)


def guesses_of(velocity, places, us) -> list[torch.Tensor]:
    return [x - u * velocity(x, u) for x, u in zip(places, us)]


def test_guesses_clipped_before_leave_the_range_and_those_clipped_after_dont(notebook):
    def denoise(x_t, t, y):
        return 1.2 * torch.tanh(2 * x_t + y.view(-1, 1).to(x_t) - 1)

    y, x = torch.tensor([0, 1, 2, 1]), 0.5 * normal(4, 6)
    us = [u for u in evenly(10) if u > 0]
    before = pitfalls.guided(denoise, FLOW, 4.0, 3, y)
    after = notebook["somebody_elses_guide"](denoise, FLOW, 4.0, 3, y)
    places = [x] * len(us)
    assert max(guess.abs().max() for guess in guesses_of(before, places, us)) > 1.5
    assert max(guess.abs().max() for guess in guesses_of(after, places, us)) <= 1 + 1e-12
    with_library = notebook["velocity_of"](clipped(cfg(denoise, 4.0, 3)), FLOW, y)
    for u in us:
        torch.testing.assert_close(after(x, u), with_library(x, u))


# ---------------------------------------------------------------------------------------------- 10.4 · how straight?
@pytest.mark.parametrize("schedule", [COSINE, FLOW], ids=["cosine", "flow"])
def test_straightness_is_the_librarys(notebook, schedule):
    steps = [*ddim(RING.denoiser(schedule), schedule, normal(30, 2), 25)]
    sizes, us = notebook["sizes_and_shares"](schedule, [step.t for step in steps])
    places = [step.x / size for step, size in zip(steps, sizes)]
    assert notebook["straightness"](places, us) == pytest.approx(flow.straightness(steps, schedule), rel=1e-6)


def test_an_end_alone_says_nothing_of_the_path(notebook):
    """With one stride S is 0, whatever the flow: only walks of one fineness may be compared."""
    walk = notebook["euler"]
    coarse, fine = (
        notebook["straightness"](walk(RING.velocity, normal(50, 2), us), us) for us in ([1.0, 0.0], evenly(50))
    )
    assert coarse == pytest.approx(0) and fine > 0.1


# ------------------------------------------------------------------------------------------ 10.5 · who goes with whom?
def test_pairs_are_the_best_of_all_orders(notebook):
    x0, noise = normal(6, 3), normal(6, 3, seed=1)
    least = min((x0 - noise[list(order)]).square().sum().item() for order in permutations(range(6)))
    assert (x0 - notebook["optimal_pairs"](x0, noise)).square().sum().item() == pytest.approx(least)


def test_lines_of_optimal_pairs_never_meet_at_the_same_time(notebook):
    """⟨x_i − x_j, ε_i − ε_j⟩ ≥ 0 for every two: their distance is never 0 on the way."""
    x0, noise = normal(40, 2), normal(40, 2, seed=1)
    dealt = notebook["optimal_pairs"](x0, noise)
    inner = ((x0[:, None] - x0) * (dealt[:, None] - dealt)).sum(-1)
    assert inner.min() > -1e-9
    assert ((x0[:, None] - x0) * (noise[:, None] - noise)).sum(-1).min() < -0.1


def test_noise_dealt_over_all_classes_says_the_class(notebook):
    """What harms a model that is told classes: the mean noise of a class isn't 0 any more. Dealt by class it is."""
    generator, means = torch.Generator().manual_seed(0), {"all": [], "by class": []}
    for _ in range(30):
        x0, y = RING.labelled(64, generator)
        noise = torch.randn(64, 2, generator=generator)
        for name, dealt in (
            ("all", notebook["optimal_pairs"](x0, noise)),
            ("by class", notebook["optimal_pairs"](x0, noise, y)),
        ):
            means[name].append(torch.stack([dealt[y == k].mean(0) for k in range(6)]))
    length = {name: torch.stack(values).nanmean(0).norm(dim=1) for name, values in means.items()}
    assert length["all"].min() > 0.8  # of about 320 noises each: by chance 0.1
    assert length["by class"].max() < 0.3


def test_places_of_a_walk_begin_with_its_start(notebook):
    x = normal(3, 2)
    for name in ("euler", "heun"):
        places = notebook[name](RING.velocity, x, evenly(4))
        assert len(places) == 5 and torch.equal(places[0], x)
        assert all(not torch.equal(a, b) for a, b in pairwise(places))
