"""Solvers of the probability-flow ODE against `diffusers`' own, and their order of convergence."""

import math

import pytest
import torch
from diffusers.schedulers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from test_sampling import REJECT, UNEVEN, bare_copy, exact_variance, network, normal, p_values, rng

from course_utils.data import GaussianMixture
from course_utils.diffusion import (
    NOISE_SCHEDULES,
    Denoiser,
    Schedule,
    cosine_schedule,
    linear_schedule,
    zero_terminal_snr,
)
from course_utils.sampling import ancestral, ddim, dpm_solver, euler, heun, karras_timesteps, last, loop
from course_utils.sampling.loop import sample_loop
from course_utils.sampling.solvers import along

STOPS = {"even": [1000, 800, 600, 400, 200, 0], "uneven": [990, 900, 650, 300, 90, 20, 1, 0]}


def sigmas(schedule: Schedule, times: list[int]) -> torch.Tensor:
    """σ = √(1−ᾱ)/√ᾱ at these steps."""
    alpha_bar = schedule.alpha_bar[times]
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def theirs(kind: type, schedule: Schedule, times: list[int], **settings):
    """Their solver at our timesteps. Their index i is our step i + 1; their σ come from float32 tables of ᾱ and are
    replaced by ours, so that what is compared is the solver. They compute a step of Euler's and of DPM-Solver++ in
    float32 whatever they are given, so 1e-5 is what can be asked for."""
    made = kind(num_train_timesteps=schedule.T, **settings)
    made.set_timesteps(timesteps=[t - 1 for t in times[:-1]])
    return made


def noise_of(x, t):
    """The network, which answers with ε̂, asked for the whole batch at step t."""
    return network(x, torch.full((len(x),), int(t)))


SCHEDULE_AND_STOPS = pytest.mark.parametrize(
    "name, times",
    [
        *[pytest.param(name, STOPS[k], id=f"{name}-{k}") for name in ("linear", "quadratic") for k in STOPS],
        pytest.param("cosine", STOPS["uneven"], id="cosine-uneven"),  # at T its σ is 20,000, which float32 can't carry
    ],
)


@pytest.mark.equation("6.7", "6.8")
@SCHEDULE_AND_STOPS
def test_euler_is_theirs_step_for_step(name, times):
    schedule = NOISE_SCHEDULES[name](1000)
    sigma = sigmas(schedule, times)
    scheduler = theirs(EulerDiscreteScheduler, schedule, times)
    scheduler.sigmas = sigma
    start, *ours = euler(Denoiser(network, schedule, "noise"), schedule, normal(2, 1, 4, 4), times)
    x = start.x * (1 + sigma[0] ** 2).sqrt()  # they carry x/√ᾱ
    for k, step in enumerate(ours):
        scaled = scheduler.scale_model_input(x, scheduler.timesteps[k]).double()
        x = scheduler.step(noise_of(scaled, times[k]), scheduler.timesteps[k], x).prev_sample.double()
        torch.testing.assert_close(step.x, x / (1 + sigma[k + 1] ** 2).sqrt(), rtol=1e-5, atol=1e-5)


@pytest.mark.equation("6.9")
@SCHEDULE_AND_STOPS
def test_heun_is_theirs_step_for_step(name, times):
    """They count two of their steps to one of ours, and one for the stride that ends at 0."""
    schedule = NOISE_SCHEDULES[name](1000)
    sigma = sigmas(schedule, times)
    scheduler = theirs(HeunDiscreteScheduler, schedule, times)
    scheduler.sigmas = torch.cat([sigma[:1], sigma[1:-1].repeat_interleave(2), sigma[-1:]])
    start, *ours = heun(Denoiser(network, schedule, "noise"), schedule, normal(2, 1, 4, 4), times)
    x, ends = start.x * (1 + sigma[0] ** 2).sqrt(), []
    for k, i in enumerate(scheduler.timesteps):
        scaled = x / (1 + scheduler.sigmas[k] ** 2).sqrt()
        x = scheduler.step(noise_of(scaled, i + 1), i, x).prev_sample
        ends += [x] if k % 2 or k == len(scheduler.timesteps) - 1 else []
    assert len(ends) == len(ours)
    for step, end, s in zip(ours, ends, sigma[1:]):
        torch.testing.assert_close(step.x, end / (1 + s**2).sqrt(), rtol=1e-5, atol=1e-5)


@pytest.mark.equation("6.10")
@pytest.mark.parametrize("target", ["noise", "x0", "v"])
@pytest.mark.parametrize("times", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("name", ["linear", "quadratic", "cosine"])
def test_dpm_solver_is_theirs_step_for_step(name, times, target):
    """Both end with a stride of order 1 (their `final_sigmas_type="zero"`; at σ = 0 there is no λ to go by)."""
    schedule = NOISE_SCHEDULES[name](1000)
    kinds = {"noise": "epsilon", "x0": "sample", "v": "v_prediction"}
    scheduler = theirs(DPMSolverMultistepScheduler, schedule, times, prediction_type=kinds[target])
    scheduler.sigmas = sigmas(schedule, times)
    x = normal(2, 1, 4, 4)
    _, *ours = dpm_solver(Denoiser(network, schedule, target), schedule, x, times)
    for k, step in enumerate(ours):
        x = scheduler.step(noise_of(x, times[k]), scheduler.timesteps[k], x).prev_sample
        torch.testing.assert_close(step.x, x, rtol=1e-5, atol=1e-5)
        x = step.x  # from here on alike, so that rounding doesn't add up where ᾱ is tiny


@pytest.mark.parametrize("times", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_with_full_chance_it_is_their_sde_solver(name, times):
    """The same random numbers in their place."""
    schedule, drawn = NOISE_SCHEDULES[name](1000), rng(5)
    settings = {"prediction_type": "sample", "algorithm_type": "sde-dpmsolver++"}
    scheduler = theirs(DPMSolverMultistepScheduler, schedule, times, **settings)
    scheduler.sigmas = sigmas(schedule, times)
    start, *ours = dpm_solver(network, schedule, normal(2, 1, 4, 4), times, eta=1.0, generator=rng(5))
    x = start.x
    for k, step in enumerate(ours):
        z = torch.randn(x.shape, generator=drawn, dtype=torch.float64)
        x = scheduler.step(noise_of(x, times[k]), scheduler.timesteps[k], x, variance_noise=z).prev_sample
        torch.testing.assert_close(step.x, x, rtol=1e-5, atol=1e-5)
        x = step.x


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_the_first_stride_and_the_last_are_those_of_the_plain_walk(eta):
    """Where there is nothing to carry on. In between they part, by what the line through two guesses says."""
    schedule, start = cosine_schedule(1000), normal(2, 1, 4, 4)
    how = {"eta": eta}
    carried, plain = (
        [step.x for step in sampler(network, schedule, start, [900, 500, 200, 0], **how, generator=rng(5))]
        for sampler in (dpm_solver, ddim)
    )
    torch.testing.assert_close(carried[1], plain[1], rtol=1e-12, atol=1e-12)
    assert (carried[2] - plain[2]).abs().max() > 0.01
    torch.testing.assert_close(carried[3], network(carried[2], torch.tensor([200, 200])), rtol=1e-12, atol=1e-12)


# ----------------------------------------------------------------------------------------------- order of convergence

FINE = cosine_schedule(100_000)  # so fine that rounding a stop to a whole step can't be seen


def even_in_log_snr(steps: int, first: int = 90_000, end: int = 5_000) -> list[int]:
    """Stops between two steps, evenly spaced in λ: far from both ends, where every solver's last stride is special."""
    half = FINE.log_snr / 2
    wanted = torch.linspace(float(half[first]), float(half[end]), steps + 1, dtype=torch.float64)
    return [int(k) for k in torch.searchsorted(-half, -wanted)]


def errors(sampler, counts: list[int]) -> torch.Tensor:
    """Mean distance to the solution, which 3,000 strides of Heun's method find."""
    start = torch.randn(200, 2, generator=rng(1), dtype=torch.float64)
    denoise = UNEVEN.denoiser(FINE)
    exact = last(heun(denoise, FINE, start, even_in_log_snr(3000)))
    found = [last(sampler(denoise, FINE, start, even_in_log_snr(n))) for n in counts]
    return torch.stack([(x - exact).norm(dim=1).mean() for x in found])


@pytest.mark.parametrize("sampler, order", [(ddim, 1), (euler, 1), (heun, 2), (dpm_solver, 2)])
def test_order_of_convergence(sampler, order):
    """Twice the strides, half the error or a quarter of it: the slope of ln(error) against ln(strides)."""
    error = errors(sampler, [160, 320, 640])
    slopes = -(error[1:] / error[:-1]).log2()
    assert ((slopes - order).abs() < 0.25).all(), f"slopes {slopes.tolist()}, errors {error.tolist()}"


@pytest.mark.parametrize("sampler, order", [(ddim, 1), (euler, 1), (heun, 2), (dpm_solver, 2)])
def test_order_of_convergence_where_the_solution_is_a_formula(sampler, order):
    """One Gaussian only shrinks or grows: x_s = x_t · (its deviation at s) / (its deviation at t)."""
    blob, start = GaussianMixture(torch.zeros(1, 2, dtype=torch.float64), 0.5), normal(20, 2)

    def error(steps: int) -> float:
        times = even_in_log_snr(steps)
        first, end = (blob.diffused(FINE.alpha_bar[t]).stds[0] for t in (times[0], times[-1]))
        return (last(sampler(blob.denoiser(FINE), FINE, start, times)) - start * end / first).norm().item()

    error = torch.tensor([error(steps) for steps in (40, 80, 160)])
    slopes = -(error[1:] / error[:-1]).log2()
    assert ((slopes - order).abs() < 0.1).all(), f"slopes {slopes.tolist()}, errors {error.tolist()}"


@pytest.mark.parametrize("sampler, eta, order", [(ddim, 1.0, 1), (dpm_solver, 1.0, 2), (dpm_solver, 0.5, 2)])
def test_order_in_distribution_with_chance(monkeypatch, sampler, eta, order):
    """With noise no path can be right, but the distribution can. One Gaussian again: the exact variance of the result
    against the one that it should have."""
    blob = GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), 0.5)
    denoise = blob.denoiser(FINE)

    def error(steps: int) -> float:
        times = even_in_log_snr(steps)
        first, end = (blob.diffused(FINE.alpha_bar[t]).stds.item() for t in (times[0], times[-1]))
        return abs(exact_variance(monkeypatch, lambda x: sampler(denoise, FINE, x, times, eta=eta), first) - end**2)

    error = torch.tensor([error(steps) for steps in (40, 80, 160)])
    slopes = -(error[1:] / error[:-1]).log2()
    assert ((slopes - order).abs() < 0.1).all(), f"slopes {slopes.tolist()}, errors {error.tolist()}"


def test_a_solver_with_the_wrong_slope_has_another_order():
    """The same measurement on Heun's method spoilt: with uneven shares of both slopes it is of order 1 again."""

    def spoilt(denoise, schedule, noise, steps):
        def move(at):
            end = along(at, at.eps)
            there = at._replace(x=end, x0=at.denoise(end, at.s), alpha_bar_t=at.alpha_bar_s)
            return along(at, 0.4 * at.eps + 0.6 * there.eps)

        return sample_loop(move, denoise, schedule, noise, steps)

    error = errors(spoilt, [160, 320, 640])
    assert (-(error[1:] / error[:-1]).log2() < 1.3).all()


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_euler_is_ddim(name):
    schedule = NOISE_SCHEDULES[name](1000)
    start = normal(2, 1, 4, 4)
    for a, b in zip(euler(network, schedule, start, 13), ddim(network, schedule, start, 13)):
        torch.testing.assert_close(a.x, b.x, rtol=1e-7, atol=1e-7)
        assert a.t == b.t


@pytest.mark.parametrize("sampler, eta", [(heun, None), (dpm_solver, 0.0), (dpm_solver, 0.5), (dpm_solver, 1.0)])
def test_the_perfect_denoiser_walks_to_the_data(sampler, eta):
    """Four directions; what would be seen, and how often, stands in test_sampling.py."""
    schedule, start = cosine_schedule(1000), torch.randn(10_000, 2, generator=rng(1))
    how = {} if eta is None else {"eta": eta, "generator": rng(2)}
    x = last(sampler(UNEVEN.denoiser(schedule), schedule, start, karras_timesteps(schedule, 60), **how))
    assert min(p_values(x, UNEVEN)) > REJECT / 4


@pytest.mark.parametrize("sampler", [euler, heun, dpm_solver])
def test_a_data_set_of_one_image_is_solved_in_one_stride(sampler):
    """The slope is the same everywhere, so any number of strides ends at the image."""
    image, schedule = normal(1, 1, 4, 4, seed=3), linear_schedule(1000)
    for steps in (1, 2, 7):
        *_, end = sampler(lambda x, t, y: image.expand_as(x), schedule, normal(3, 1, 4, 4), steps)
        assert end.t == 0
        torch.testing.assert_close(end.x, image.expand_as(end.x), rtol=1e-9, atol=1e-9)


def test_chance_comes_from_the_generator():
    schedule, start, state = cosine_schedule(100), normal(2, 1, 4, 4), torch.get_rng_state()

    def run(seed, eta=1.0):
        return last(dpm_solver(network, schedule, start, 5, eta=eta, generator=rng(seed)))

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2)) and torch.equal(run(1, 0.0), run(2, 0.0))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("sampler, asked", [(euler, 6), (heun, 11), (dpm_solver, 6), (ddim, 6)])
def test_evaluations_of_the_network(sampler, asked):
    seen = []

    def denoise(x, t, y):
        seen.append((int(t[0]), y))
        return network(x, t)

    labels = torch.tensor([1, 2])
    last(sampler(denoise, cosine_schedule(1000), normal(2, 1, 4, 4), 6, labels))
    assert len(seen) == asked and min(t for t, _ in seen) >= 1 and all(y is labels for _, y in seen)


def test_two_walks_at_once_keep_their_memories_apart():
    schedule, start = cosine_schedule(100), normal(2, 1, 4, 4)
    alone = last(dpm_solver(network, schedule, start, 5))
    pairs = zip(dpm_solver(network, schedule, start, 5), dpm_solver(network, schedule, 2 * start, 5))
    *_, (end, _) = pairs
    assert torch.equal(end.x, alone)


def test_zero_terminal_snr():
    schedule, start = zero_terminal_snr(linear_schedule(1000)), normal(2, 1, 4, 4)
    for sampler in (euler, heun):
        with pytest.raises(ValueError, match="σ = √\\(1−ᾱ\\)/√ᾱ is infinite; use ddim or dpm_solver"):
            sampler(network, schedule, start, 5)
    steps = [*dpm_solver(network, schedule, start, 5)]
    noisy = [*dpm_solver(network, schedule, start, 5, eta=1.0, generator=rng())]
    assert all(step.x.isfinite().all() for step in steps + noisy)
    first = next(x for t, x, _ in ddim(network, schedule, start, 5) if t == 800)
    torch.testing.assert_close(steps[1].x, first)


@pytest.mark.parametrize("T, steps", [(1000, 1), (1000, 2), (1000, 10), (1000, 100), (1000, 1000), (10, 10), (10, 4)])
@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_karras_timesteps_fall_to_zero_in_that_many_strides(name, T, steps):
    times = karras_timesteps(NOISE_SCHEDULES[name](T), steps)
    assert len(times) == steps + 1 and times[-1] == 0 and times[0] <= T
    assert all(a > b for a, b in zip(times, times[1:]))


@pytest.mark.equation("6.11")
def test_karras_timesteps_follow_the_formula():
    """Golden values: σ of equation 5 of the paper between 80 and σ_1, each at the nearest step."""
    schedule = cosine_schedule(1000)
    sigma, n, rho = sigmas(schedule, [*range(1001)]), 8, 7
    low = float(sigma[1])
    wanted = [(80 ** (1 / rho) + k / (n - 1) * (low ** (1 / rho) - 80 ** (1 / rho))) ** rho for k in range(n)]
    nearest = [min(range(1, 1001), key=lambda t: abs(float(sigma[t]) - w)) for w in wanted]
    assert karras_timesteps(schedule, n) == [*nearest, 0]


@pytest.mark.parametrize("steps", [5, 10, 40])
def test_karras_timesteps_are_theirs_but_whole_steps_that_begin_at_80(steps):
    """Theirs begin at σ_T, 157 here and 20,000 for a cosine schedule, and fall between two steps; ours are the nearest
    of steps to as many. Told to begin at σ_T, ours are theirs rounded (the last ones can't be: a step is used once)."""
    schedule = linear_schedule(1000)
    scheduler = EulerDiscreteScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02, use_karras_sigmas=True)
    scheduler.set_timesteps(steps)
    ours = karras_timesteps(schedule, steps, sigma_max=math.inf)
    apart = [abs(t - 1 - float(i)) for t, i in zip(ours, scheduler.timesteps) if t > 30]
    assert len(apart) >= steps / 2 and max(apart) < 0.6  # half a step, and they read ln σ between steps, we σ
    capped = karras_timesteps(schedule, steps)
    assert ours[0] == 1000 and float(sigmas(schedule, capped[:1])) == pytest.approx(80, rel=0.01)


@pytest.mark.parametrize("steps", [0, 1001, 2.0, True])
def test_wrong_numbers_of_stops(steps):
    with pytest.raises((ValueError, TypeError)):
        karras_timesteps(cosine_schedule(1000), steps)


@pytest.mark.parametrize("how", [{"rho": 0.0}, {"rho": math.nan}, {"sigma_max": 0.0}, {"sigma_max": math.nan}])
def test_wrong_curves(how):
    with pytest.raises(ValueError, match="karras_timesteps: expected rho and sigma_max above 0, got"):
        karras_timesteps(cosine_schedule(1000), 5, **how)


WRONG_TIMES = [[5], [5, 5, 0], [5, 7, 0], [0, 5, 10], [11, 0], [5, -1], [5.0, 0], [5.5, 0], [math.nan, 0], ["5", 0], []]


@pytest.mark.parametrize("steps", WRONG_TIMES, ids=str)
def test_wrong_timesteps(steps):
    """At the call. Timesteps that rise are for `ddim_invert` alone: fresh noise would need a variance below 0."""
    copy = bare_copy(ancestral)
    copy.timesteps = bare_copy(loop).timesteps
    for sampler in (copy.ddim, copy.ddpm):
        with pytest.raises(ValueError, match="steps: expected at least two whole numbers, falling, within 10..0, got "):
            sampler(network, cosine_schedule(10), normal(1, 1, 2, 2), steps)


@pytest.mark.parametrize("sampler", [heun, dpm_solver, euler])
def test_every_solver_checks_its_timesteps(sampler):
    with pytest.raises(ValueError, match="steps: expected at least two whole numbers, falling, within 10..0, got "):
        sampler(network, cosine_schedule(10), normal(1, 1, 2, 2), [5, 7, 0])
