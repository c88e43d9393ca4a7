"""Flows and diffusion are one thing: every arrow of the conversion table, and velocities against autograd."""

import math
from itertools import pairwise, permutations

import pytest
import torch
from scipy.integrate import quad

from course_utils.data import GaussianMixture
from course_utils.diffusion import cosine_schedule, linear_schedule, zero_terminal_snr
from course_utils.flow import (
    CONVERTIBLE,
    convert,
    flow_schedule,
    logit_normal_steps,
    on_straight_path,
    optimal_pairs,
    straightness,
)
from course_utils.sampling import ddim
from course_utils.weights import load_denoiser, shipped

SCHEDULES = {
    "cosine": cosine_schedule(200),
    "linear, zero terminal SNR": zero_terminal_snr(linear_schedule(50)),
    "flow": flow_schedule(100),
}
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0, 0.5], [0.8, -0.3], [0.1, 1.2]], dtype=torch.float64),
    torch.tensor([0.2, 0.5, 0.1], dtype=torch.float64),
    torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64),
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def all_views(schedule, x0, noise, t) -> dict[str, torch.Tensor]:
    """Each quantity by its own definition."""
    a, b = schedule.alpha_bar[t].sqrt()[:, None], (1 - schedule.alpha_bar[t]).sqrt()[:, None]
    return {"x0": x0, "noise": noise, "v": a * noise - b * x0, "velocity": noise - x0, "score": -noise / b}


@pytest.mark.equation("10.4")
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("given, wanted", [*permutations(CONVERTIBLE, 2)])
def test_every_arrow(name, given, wanted):
    schedule = SCHEDULES[name]
    t = torch.arange(1, schedule.T + 1)
    t = t[schedule.alpha_bar[t] > (1e-6 if given in ("noise", "score") else -1)]  # where the noise says nothing of x0
    x0, noise = normal(len(t), 3), normal(len(t), 3, seed=1)
    views = all_views(schedule, x0, noise, t)
    found = convert(schedule, given, wanted, views[given], schedule.add_noise(x0, t, noise), t)
    torch.testing.assert_close(found, views[wanted], rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------------ velocities, exactly
def log_density(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """ln p_u(x) of the points (1−u) x_0 + u ε, written down anew, with u as something to differentiate by."""
    m, var = (1 - u) * MIXTURE.means, (1 - u) ** 2 * MIXTURE.stds**2 + u**2
    each = torch.distributions.Normal(m, var.sqrt()).log_prob(x[:, None]).sum(-1)
    return (each + MIXTURE.weights.log()).logsumexp(1)


@pytest.mark.equation("10.5")
@pytest.mark.parametrize("place", [0.0, 0.03, 0.4, 0.9, 1.0])
def test_the_mixtures_velocity_moves_its_density(place):
    """The continuity equation, ∂ ln p/∂u + v · ∇ ln p + div v = 0, all derivatives by autograd."""
    x, u = (0.7 * normal(40, 2)).requires_grad_(), torch.tensor(place, dtype=torch.float64, requires_grad=True)
    (by_x,) = torch.autograd.grad(log_density(x, u).sum(), x)
    by_u = torch.autograd.functional.jvp(lambda u: log_density(x, u), u, torch.ones_like(u))[1]
    velocity = MIXTURE.velocity(x, place)
    divergence = sum(torch.autograd.grad(velocity[:, k].sum(), x, retain_graph=True)[0][:, k] for k in range(2))
    change = by_u + (velocity * by_x).sum(1) + divergence
    assert change.abs().max() < 1e-6 * max(1.0, by_u.abs().max())


@pytest.mark.equation("10.1", "10.3", "10.4")
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_perfect_denoiser_knows_the_velocity(name):
    schedule = SCHEDULES[name]
    for step in (1, schedule.T // 2, schedule.T):
        x_t, t = normal(30, 2), torch.full((30,), step)
        x_u, u = on_straight_path(schedule, x_t, t)
        x0 = MIXTURE.denoiser(schedule)(x_t, t)
        theirs = MIXTURE.velocity(x_u, u[0].item())
        torch.testing.assert_close(convert(schedule, "x0", "velocity", x0, x_t, t), theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.equation("10.6")
@pytest.mark.parametrize("name", SCHEDULES)
def test_euler_along_the_flow_is_ddim_stride_by_stride(name):
    """x_u' = x_u + (u' − u) · velocity in the one coordinates, DDIM's stride in the other, on any schedule."""
    schedule, denoise = SCHEDULES[name], MIXTURE.denoiser(SCHEDULES[name])
    steps = [*ddim(denoise, schedule, normal(30, 2), 10)]
    for before, after in pairwise(steps):
        t, s = (torch.full((30,), step.t) for step in (before, after))
        (x_u, u), (_, u_after) = (on_straight_path(schedule, before.x, t), on_straight_path(schedule, before.x, s))
        moved = x_u + (u_after - u)[:, None] * MIXTURE.velocity(x_u, u[0].item())
        torch.testing.assert_close(moved, on_straight_path(schedule, after.x, s)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.equation("10.6")
@pytest.mark.parametrize("name", shipped("denoiser"))
def test_euler_along_the_shipped_models_is_ddim_stride_by_stride(name):
    """In float64, with labels; the velocity is read off the network's own v, not off its x̂_0."""
    model = load_denoiser(name).double()
    schedule, y = model.schedule, torch.tensor([0, 3])
    steps = [*ddim(model, schedule, normal(2, *model.shape), 8, y)]
    for before, after in pairwise(steps):
        t, s = (torch.full((2,), step.t) for step in (before, after))
        with torch.no_grad():
            velocity = convert(schedule, model.prediction_type, "velocity", model.model(before.x, t, y), before.x, t)
        (x_u, u), (x_v, v) = (on_straight_path(schedule, step.x, at) for step, at in ((before, t), (after, s)))
        torch.testing.assert_close(x_u + (v - u)[:, None, None, None] * velocity, x_v, rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------------------- straightness
def gaussian(std: float) -> GaussianMixture:
    return GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), std)


@pytest.mark.equation("10.8")
def test_straightness_of_one_gaussian_in_closed_form():
    """Of N(0, s²) the path is x_u = √((1−u)² s² + u²) z: its straightness is an integral that SciPy can do."""
    s, z = 0.2, normal(50, 1)
    speed = lambda u: (u - (1 - u) * s**2) / math.sqrt((1 - u) ** 2 * s**2 + u**2)  # noqa: E731
    wanted = z.square().mean().item() * quad(lambda u: (speed(u) - (1 - s)) ** 2, 0, 1)[0]
    schedule = flow_schedule(1000)
    found = straightness(ddim(gaussian(s).denoiser(schedule), schedule, z, 1000), schedule)
    assert found == pytest.approx(wanted, rel=1e-2)


@pytest.mark.equation("10.8")
def test_a_point_is_reached_on_straight_lines():
    schedule = cosine_schedule(100)
    assert straightness(ddim(gaussian(0.0).denoiser(schedule), schedule, normal(5, 1), 20), schedule) < 1e-12


# ------------------------------------------------------------------------------------------------------- pairs, draws
@pytest.mark.parametrize("classes", [1, 3])
def test_no_exchange_of_two_brings_pairs_nearer(classes):
    x0, noise = normal(24, 2), normal(24, 2, seed=1)
    y = torch.arange(24) % classes
    dealt = optimal_pairs(x0, noise, None if classes == 1 else y)
    cost = torch.cdist(x0, dealt).square()
    own = cost.diagonal()
    gain = own[:, None] + own[None] - cost - cost.T  # of every exchange
    assert gain[y[:, None] == y].max() < 1e-9
    for k in range(classes):  # the same noise, within its class
        assert torch.equal(dealt[y == k].sort(0).values, noise[y == k].sort(0).values)
    assert own.sum() < (x0 - noise).square().sum()


@pytest.mark.equation("10.7")
@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (-0.5, 0.7)])
def test_times_are_logit_normal(mean, std):
    t = logit_normal_steps(mean, std)(20_000, 1000, torch.Generator().manual_seed(0))
    share = torch.tensor([(t <= k).double().mean() for k in (100, 300, 500, 700, 900)])
    edges = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    wanted = torch.distributions.Normal(mean, std).cdf(edges.logit())
    torch.testing.assert_close(share, wanted, rtol=0, atol=2e-3)
    assert t.min() >= 1 and t.max() <= 1000
