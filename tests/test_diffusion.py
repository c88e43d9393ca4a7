"""Forward diffusion, its way back and the loss, each against `diffusers`, Bayes' rule, a simulation or arithmetic."""

import importlib.util
import math
from functools import partial

import pytest
import torch
from diffusers.schedulers import scheduling_ddpm
from scipy import integrate, stats
from torch.distributions import Normal

from course_utils import diffusion, variational
from course_utils.diffusion import (
    NOISE_SCHEDULES,
    PREDICTION_TYPES,
    Denoiser,
    Schedule,
    cosine_schedule,
    diffusion_loss,
    draw_steps,
    drop_labels,
    linear_schedule,
    min_snr,
    predict_noise,
    predict_x0,
    prediction_target,
    zero_terminal_snr,
)

LENGTHS = (1, 10, 200, 1000, 4000)
SIGMAS = 4.5  # an estimate may lie so many standard errors from the truth: chance does that once in 150,000 times


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=dtype)


def as_students_have_it():
    """The module a second time, without the shape checks that are switched on while testing: errors are its own."""
    spec = importlib.util.spec_from_file_location("course_utils.diffusion_without_shape_checks", diffusion.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def all_schedules(T: int) -> list[Schedule]:
    """The four, and those that end at ᾱ_T = 0."""
    four = [make(T) for make in NOISE_SCHEDULES.values()]
    return four if T == 1 else [*four, *map(zero_terminal_snr, four)]


def typed_betas(name: str, T: int) -> torch.Tensor:
    """β_1, ..., β_T as `diffusers` and the papers have them, for chains of any length."""
    low, high = 1e-4, 0.02
    u = torch.linspace(0, 1, T, dtype=torch.float64)
    if name == "linear":
        return low + (high - low) * u
    if name == "quadratic":
        return (low**0.5 + (high**0.5 - low**0.5) * u) ** 2
    return low + (high - low) / (1 + (-(12 * u - 6)).exp())


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-9) -> None:
    assert ours.dtype == theirs.dtype == torch.float64
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------------- the same as `diffusers`

# Ours with T = 1000, and as Schedule.from_betas for other lengths: theirs use the published β whatever T is.
IN_BOTH = [
    pytest.param(name, T, zero, id=f"{name}-{T}{'-zero-snr' * zero}")
    for name in NOISE_SCHEDULES
    for T in LENGTHS
    for zero in (False, True)
    if T > 1 or not zero  # a single step can't be rescaled
]
THEIR_NAMES = {"linear": "linear", "quadratic": "scaled_linear", "sigmoid": "sigmoid", "cosine": "squaredcos_cap_v2"}


class DoublePrecision:
    """`torch`, except that float32 is float64: `diffusers` names float32 in its schedulers, and so can't reach 1e-6."""

    float32 = torch.float64

    def __getattr__(self, name: str):
        return getattr(torch, name)


@pytest.fixture
def double(monkeypatch):
    """Their code, unchanged but in double precision."""
    monkeypatch.setattr(scheduling_ddpm, "torch", DoublePrecision())
    monkeypatch.setattr(torch, "linspace", partial(plain_linspace, torch.linspace))
    return partial(scheduling_ddpm.DDPMScheduler, clip_sample=False)


def plain_linspace(linspace, *args, dtype=torch.float64, **rest):
    """Their sigmoid leaves the type to a default."""
    return linspace(*args, dtype=dtype, **rest)


def both(double, name: str, T: int, zero: bool = False, **settings) -> tuple[Schedule, scheduling_ddpm.DDPMScheduler]:
    theirs = double(num_train_timesteps=T, beta_schedule=THEIR_NAMES[name], rescale_betas_zero_snr=zero, **settings)
    assert theirs.alphas_cumprod.dtype == torch.float64
    if name == "cosine" or T == 1000:
        ours = NOISE_SCHEDULES[name](T)
    else:
        ours = Schedule.from_betas(typed_betas(name, T))
    return zero_terminal_snr(ours) if zero else ours, theirs


def a_few_steps(T: int) -> torch.Tensor:
    """Both ends, their neighbours and some between."""
    return torch.tensor([1, 2, 3, T // 3, T // 2, T - 1, T]).clamp(1, T).unique()


@pytest.mark.equation("3.2", "3.3", "3.5", "3.7")
@pytest.mark.parametrize("name, T, zero", IN_BOTH)
def test_alphas_agree_with_diffusers(double, name, T, zero):
    ours, theirs = both(double, name, T, zero)
    close(ours.alpha_bar[1:], theirs.alphas_cumprod)
    close(ours.alpha[1:], theirs.alphas)
    close(ours.beta[1:], theirs.betas)


@pytest.mark.equation("3.4", "5.5")
@pytest.mark.parametrize("name, T, zero", IN_BOTH)
def test_noising_and_v_agree_with_diffusers(double, name, T, zero):
    ours, theirs = both(double, name, T, zero)
    t = a_few_steps(T)
    x0, noise = normal(len(t), 3, 4, 2), normal(len(t), 3, 4, 2, seed=1)
    close(ours.add_noise(x0, t, noise), theirs.add_noise(x0, noise, t - 1))
    close(prediction_target(ours, "v", x0, noise, t), theirs.get_velocity(x0, noise, t - 1))


@pytest.mark.equation("3.8")
@pytest.mark.parametrize("name, T, zero", IN_BOTH)
def test_posterior_agrees_with_a_step_of_diffusers(double, monkeypatch, name, T, zero):
    """With 0 for their random numbers a step is the posterior's mean, and with 1 it is a standard deviation further."""
    ours, theirs = both(double, name, T, zero, prediction_type="sample")
    x0, x_t = normal(1, 3, 4, 2), normal(1, 3, 4, 2, seed=1)
    for t in a_few_steps(T):
        step = {}
        for number in (0.0, 1.0):
            monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda shape, n=number, **_: x0.new_full(shape, n))
            step[number] = theirs.step(x0, t - 1, x_t).prev_sample
        mean, var = ours.posterior(x0, x_t, t[None])
        close(mean, step[0.0])
        close(var.sqrt().expand_as(x0), step[1.0] - step[0.0])


@pytest.mark.equation("3.8")
@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_longer_strides_agree_with_diffusers(double, monkeypatch, name):
    ours, theirs = both(double, name, 1000, prediction_type="sample")
    times = [1000, 731, 44, 3, 0]
    theirs.set_timesteps(timesteps=[t - 1 for t in times[:-1]])
    x0, x_t = normal(1, 3, 4, 2), normal(1, 3, 4, 2, seed=1)
    for t, s in zip(times, times[1:]):
        step = {}
        for number in (0.0, 1.0):
            monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda shape, n=number, **_: x0.new_full(shape, n))
            step[number] = theirs.step(x0, t - 1, x_t).prev_sample
        mean, var = ours.posterior(x0, x_t, torch.tensor([t]), torch.tensor([s]))
        close(mean, step[0.0])
        # they never let a variance fall below 1e-20, not even after the last step
        close(var.sqrt().expand_as(x0), step[1.0] - step[0.0])


@pytest.mark.equation("5.6")
@pytest.mark.parametrize("prediction_type, theirs_is", [("noise", "epsilon"), ("x0", "sample"), ("v", "v_prediction")])
@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_guesses_of_x0_agree_with_diffusers(double, name, prediction_type, theirs_is):
    ours, theirs = both(double, name, 1000, prediction_type=theirs_is)
    output, x_t = normal(1, 3, 4, 2), normal(1, 3, 4, 2, seed=1)
    for t in a_few_steps(1000):
        guess = theirs.step(output, t - 1, x_t).pred_original_sample
        close(predict_x0(ours, prediction_type, output, x_t, t[None]), guess)


# ------------------------------------------------------------------------------------------------------ schedules


# Computed once from the paper's formula with 50 decimal digits (mpmath): ᾱ_t of T steps, no β above 0.999.
GOLDEN_COSINE = {
    (1, 1): 0.001,
    (10, 1): 0.97209273711396917,
    (10, 5): 0.49384359044063771,
    (10, 9): 0.024091724140085855,
    (10, 10): 2.4091724140085855e-5,
    (1000, 1): 0.99995871577517822,
    (1000, 250): 0.84701216132690473,
    (1000, 500): 0.49384359044063771,
    (1000, 750): 0.14427210238573571,
    (1000, 999): 2.4287669070344684e-6,
    (1000, 1000): 2.4287669070344684e-9,
    (4000, 1): 0.99999013418118641,
    (4000, 2000): 0.49384359044063771,
    (4000, 3999): 1.5179804688495632e-7,
    (4000, 4000): 1.5179804688495632e-10,
}
GOLDEN_BETAS = {
    "linear": {1: 0.9999, 500: 0.078587242881778237, 1000: 4.0358297653756833e-5},
    "quadratic": {1: 0.9999, 500: 0.33318776735629981, 1000: 0.00073341245958081491},
    "sigmoid": {1: 0.99985079479918297, 500: 0.30193105660219513, 1000: 3.9681819905332078e-5},
}


@pytest.mark.equation("3.5")
@pytest.mark.parametrize("T, t", GOLDEN_COSINE)
def test_golden_values_of_the_cosine_schedule(T, t):
    assert cosine_schedule(T).alpha_bar[t].item() == pytest.approx(GOLDEN_COSINE[T, t], rel=1e-9)


@pytest.mark.equation("3.5")
@pytest.mark.parametrize("T", LENGTHS)
def test_cosine_schedule_is_the_papers_formula(T):
    """With Python's own cosine, and β capped at 0.999, which touches the last step alone."""

    def curve(t):
        return math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2

    ours = cosine_schedule(T)
    expected = [curve(t) / curve(0) for t in range(T)]
    assert ours.alpha_bar[:-1].tolist() == pytest.approx(expected, rel=1e-9)
    assert ours.alpha_bar[-1].item() == pytest.approx(expected[-1] * 0.001, rel=1e-9)


@pytest.mark.equation("3.2", "3.3")
@pytest.mark.parametrize("name", GOLDEN_BETAS)
def test_golden_values_of_the_other_schedules(name):
    ours = NOISE_SCHEDULES[name](1000).alpha_bar
    assert {t: ours[t].item() for t in (1, 500, 1000)} == pytest.approx(GOLDEN_BETAS[name], rel=1e-10)


@pytest.mark.equation("3.2")
@pytest.mark.parametrize("name", ["linear", "quadratic", "sigmoid"])
def test_published_betas_make_one_curve_whatever_the_number_of_steps(name):
    reference = NOISE_SCHEDULES[name](1000).alpha_bar
    for T in (1, 10, 200, 4000):
        ours = NOISE_SCHEDULES[name](T).alpha_bar
        places, times = (range(0, 1001, 1000 // T), range(T + 1)) if T <= 1000 else (range(1001), range(0, 4001, 4))
        close(ours[list(times)], reference[list(places)], 1e-12)
    # Between the published steps the variance goes on falling: every quarter of a step keeps the same share of it.
    quarters = NOISE_SCHEDULES[name](4000).alpha[1:].reshape(1000, 4)
    close(quarters, quarters[:, :1].expand(1000, 4), 1e-12)


@pytest.mark.parametrize("T", LENGTHS)
def test_every_schedule_falls_from_clean_to_noise(T):
    for schedule in all_schedules(T):
        assert schedule.T == T and schedule.alpha_bar.shape == (T + 1,) and schedule.alpha_bar.dtype == torch.float64
        assert schedule.alpha_bar[0] == 1 and (schedule.alpha_bar.diff() < 0).all()
        assert schedule.alpha_bar[-1] < 2e-3
        close(schedule.alpha * torch.cat([torch.ones(1).double(), schedule.alpha_bar[:-1]]), schedule.alpha_bar, 1e-12)
        close(schedule.beta + schedule.alpha, torch.ones(T + 1).double(), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("T", LENGTHS)
def test_nothing_is_nan_or_infinite_at_any_step(T, dtype):
    """Of everything that a schedule computes, for t = 1..T; at t = 0 the SNR alone is infinite."""
    t = torch.arange(1, T + 1)
    x, noise = normal(T, 2, dtype=dtype), normal(T, 2, seed=1, dtype=dtype)
    for schedule in all_schedules(T):
        ends_at_zero = schedule.alpha_bar[-1] == 0
        inside = t[:-1] if ends_at_zero else t
        values = [
            *(schedule.alpha_bar, schedule.alpha, schedule.beta, schedule.snr[1:], schedule.log_snr[inside]),
            *(schedule.add_noise(x, t, noise), schedule.add_noise(x, t - 1, noise), schedule.step(x, t, noise)),
            *(*schedule.posterior(x, noise, t), *schedule.posterior(x, noise, t, t * 0)),
            *(
                predict_noise(schedule, x, noise, t),
                predict_x0(schedule, "v", x, noise, t),
                prediction_target(schedule, "v", x, noise, t),
            ),
            predict_x0(schedule, "noise", x[: len(inside)], noise[: len(inside)], inside),
            *(min_snr(schedule, prediction_type, t) for prediction_type in PREDICTION_TYPES),
        ]
        assert all(value.isfinite().all() for value in values)
        assert schedule.snr[0] == schedule.log_snr[0] == math.inf
        assert not ends_at_zero or (schedule.snr[T] == 0 and schedule.log_snr[T] == -math.inf)


@pytest.mark.equation("3.6")
def test_snr_is_the_ratio_of_measured_variances():
    """Image part and noise part of 20,000 noised numbers; the ratio of two variances is known to 2 / √n, relatively."""
    schedule, n = cosine_schedule(100), 20_000
    x0, noise = normal(n, 1), normal(n, 1, seed=1)
    for t in (1, 30, 60, 99):
        steps = torch.full((n,), t)
        image, rest = (schedule.add_noise(*parts).var() for parts in ((x0, steps, 0 * x0), (0 * x0, steps, noise)))
        assert (image / rest / schedule.snr[t] - 1).abs() < SIGMAS * 2 / n**0.5
    close(schedule.log_snr[1:], schedule.snr[1:].log())


@pytest.mark.equation("3.7")
@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_zero_terminal_snr_moves_both_ends_where_they_belong(name):
    before = NOISE_SCHEDULES[name](1000)
    after = zero_terminal_snr(before)
    assert after.alpha_bar[-1] == 0 and after.alpha_bar[0] == 1
    assert after.alpha_bar[1].item() == pytest.approx(before.alpha_bar[1].item(), rel=1e-12)
    # √ᾱ is shifted and stretched: its steps keep their proportions
    steps, old = after.alpha_bar[1:].sqrt().diff(), before.alpha_bar[1:].sqrt().diff()
    close(steps / steps.sum(), old / old.sum())
    close(zero_terminal_snr(after).alpha_bar, after.alpha_bar)  # once is enough
    assert "zero" in after.name and after.name.startswith(name)


@pytest.mark.equation("3.3")
def test_from_betas_multiplies_what_each_step_keeps():
    betas = [0.1, 0.02, 0.5, 0.3]
    schedule = Schedule.from_betas(torch.tensor(betas, dtype=torch.float64), "mine")
    product = [math.prod(1 - b for b in betas[:t]) for t in range(5)]
    assert schedule.alpha_bar.tolist() == pytest.approx(product) and schedule.name == "mine"
    assert schedule.beta[1:].tolist() == pytest.approx(betas)


@pytest.mark.parametrize("T", LENGTHS)
def test_timesteps_go_down_evenly_from_T_to_0(T):
    schedule = cosine_schedule(T)
    for steps in {1, 2, 3, 7, 50, T - 1, T} & set(range(1, T + 1)):
        times = schedule.timesteps(steps)
        strides = [a - b for a, b in zip(times, times[1:])]
        assert times[0] == T and times[-1] == 0 and len(strides) == steps
        assert min(strides) >= 1 and max(strides) - min(strides) <= 1
        assert all(type(t) is int for t in times)


# --------------------------------------------------------------------------------------------------- there and back


@pytest.mark.equation("3.1", "3.4")
@pytest.mark.parametrize("name", [*NOISE_SCHEDULES, "zero"])
def test_walking_the_chain_and_jumping_lead_to_the_same_distribution(name):
    """20,000 pixels, each with its own x0, walk 40 steps one by one; x_t's slope on x0 and its spread are measured."""
    n, T = 20_000, 40
    schedule = zero_terminal_snr(linear_schedule(T)) if name == "zero" else NOISE_SCHEDULES[name](T)
    x0 = x = normal(n, 1)
    generator = rng(3)
    for t in range(1, T + 1):
        noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
        x = schedule.step(x, torch.full((n,), t), noise)
        if t in (1, 2, 10, 25, T):
            jump = schedule.add_noise(x0, torch.full((n,), t), torch.zeros(n, 1).double())  # the mean that (3.4) says
            spread = (x - jump).flatten()
            var = 1 - schedule.alpha_bar[t]
            assert spread.mean().abs() < SIGMAS * (var / n) ** 0.5
            assert (spread.var() / var - 1).abs() < SIGMAS * (2 / n) ** 0.5
            assert (spread @ x0.flatten() / n).abs() < SIGMAS * (var / n) ** 0.5
            assert stats.kstest((spread / var**0.5).numpy(), "norm").pvalue > 1e-5


@pytest.mark.equation("3.1", "3.3")
@pytest.mark.parametrize("T", LENGTHS)
def test_a_step_keeps_a_share_of_the_variance_and_adds_the_rest(T):
    """What all steps together keep and add, by the rules for sums of Gaussians, is what (3.4) says at once."""
    t = torch.arange(1, T + 1)
    one, zero = torch.ones(T, 1, dtype=torch.float64), torch.zeros(T, 1, dtype=torch.float64)
    for schedule in all_schedules(T):
        kept, added = (schedule.step(*parts)[:, 0] for parts in ((one, t, zero), (zero, t, one)))
        close(kept.square() + added.square(), one[:, 0], 1e-12)
        together, var = [], 0.0
        for k, n in zip(kept.tolist(), added.tolist()):
            var = k * k * var + n * n
            together.append(var)
        close(kept.cumprod(0), schedule.alpha_bar[1:].sqrt())
        close(torch.tensor(together, dtype=torch.float64), 1 - schedule.alpha_bar[1:])


@pytest.mark.equation("3.8")
@pytest.mark.parametrize("t, s", [(1, 0), (2, 1), (5, 4), (5, 2), (8, 7), (8, 1), (8, 3)])
@pytest.mark.parametrize("name", ["linear", "cosine", "zero"])
def test_posterior_is_bayes_rule_on_a_grid(name, t, s):
    """q(x_s | x_t, x_0) ∝ q(x_s | x_0) q(x_t | x_s). Both are walked step by step, so that no closed form is needed."""
    schedule = zero_terminal_snr(cosine_schedule(8)) if name == "zero" else NOISE_SCHEDULES[name](8)
    x0, x_t = 0.7, -0.4
    numbers = (torch.tensor([[x]], dtype=torch.float64) for x in (x0, x_t))
    ours = schedule.posterior(*numbers, torch.tensor([t]), torch.tensor([s]))
    if s == 0:  # no grid is fine enough for a single point
        assert ours.mean.item() == pytest.approx(x0, abs=1e-12) and ours.var.item() == 0
        return

    def walked(first: int, last: int) -> tuple[float, float]:
        """x_last = factor · x_first + noise of this variance."""
        factor, var = 1.0, 0.0
        for alpha in schedule.alpha[first + 1 : last + 1].tolist():
            factor, var = factor * alpha**0.5, alpha * var + 1 - alpha
        return factor, var

    grid = torch.linspace(-8, 8, 80_001, dtype=torch.float64)
    (early, early_var), (late, late_var) = walked(0, s), walked(s, t)
    log = -((grid - early * x0) ** 2) / (2 * early_var) - (x_t - late * grid) ** 2 / (2 * late_var)
    weight = log.softmax(0)
    mean = (weight * grid).sum()
    var = (weight * (grid - mean) ** 2).sum()
    assert ours.mean.item() == pytest.approx(mean.item(), abs=1e-7)
    assert ours.var.item() == pytest.approx(var.item(), abs=1e-7)


@pytest.mark.equation("3.8")
def test_posterior_steps_back_by_one_unless_told():
    schedule, t = cosine_schedule(50), torch.tensor([1, 7, 50])
    x0, x_t = normal(3, 1, 2, 2), normal(3, 1, 2, 2, seed=1)
    for part, same in zip(schedule.posterior(x0, x_t, t), schedule.posterior(x0, x_t, t, t - 1)):
        assert torch.equal(part, same)
    assert schedule.posterior(x0, x_t, t).var.shape == (3, 1, 1, 1)


@pytest.mark.equation("3.9")
@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_the_score_is_minus_the_noise(name):
    """∇ ln q(x_t | x_0) by automatic differentiation of the Gaussian is −ε / √(1 − ᾱ_t)."""
    schedule, t = NOISE_SCHEDULES[name](100), torch.arange(1, 101)
    x0, noise = normal(100, 3), normal(100, 3, seed=1)
    x_t = schedule.add_noise(x0, t, noise).requires_grad_()
    a = schedule.alpha_bar[t][:, None]
    density = Normal(a.sqrt() * x0, (1 - a).sqrt())
    (score,) = torch.autograd.grad(density.log_prob(x_t).sum(), x_t)
    close(score, -noise / (1 - a).sqrt())
    close(score, -predict_noise(schedule, x0, x_t.detach(), t) / (1 - a).sqrt())


@pytest.mark.equation("5.5", "5.6", "5.7")
@pytest.mark.parametrize("T", LENGTHS)
def test_every_target_leads_back_to_the_image_and_the_noise(T):
    t = torch.arange(1, T + 1)
    x0, noise = normal(T, 3), normal(T, 3, seed=1)
    for schedule in all_schedules(T):
        x_t = schedule.add_noise(x0, t, noise)
        for prediction_type in PREDICTION_TYPES:
            # At ᾱ_t = 0 noise says nothing; as ᾱ_t → 0 it says less and less: what is left is rounding / √ᾱ_t.
            keep = schedule.alpha_bar[t] > (1e-7 if prediction_type == "noise" else -1)
            output = prediction_target(schedule, prediction_type, x0, noise, t)
            back = predict_x0(schedule, prediction_type, output[keep], x_t[keep], t[keep])
            close(back, x0[keep], 1e-9)
            close(predict_noise(schedule, back, x_t[keep], t[keep]), noise[keep], 1e-9)


def test_at_step_0_nothing_has_happened():
    x0, noise, t = normal(2, 3), normal(2, 3, seed=1), torch.zeros(2, dtype=torch.long)
    for schedule in all_schedules(10):
        assert torch.equal(schedule.add_noise(x0, t, noise), x0)
        assert torch.equal(predict_x0(schedule, "v", noise, x0, t), x0)


def test_single_precision_is_lost_at_the_end_not_at_the_start():
    """float32 images get coefficients computed in double: in single precision 1 − ᾱ_1 = 1e-5 would keep 2 digits."""
    schedule, t = cosine_schedule(4000), torch.arange(1, 4001)
    x, noise = normal(4000, 1), normal(4000, 1, seed=1)
    for double, single in [
        (schedule.posterior(x, noise, t).var, schedule.posterior(x.float(), noise.float(), t).var),
        (schedule.rates(t, x)[1], schedule.rates(t, x.float())[1]),
        (schedule.step(0 * x, t, 1 + 0 * x), schedule.step(0 * x.float(), t, 1 + 0 * x.float())),
        (schedule.add_noise(0 * x, t, noise), schedule.add_noise(0 * x.float(), t, noise.float())),
    ]:
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=3e-7, atol=0)


@pytest.mark.parametrize(
    "dtype, out", [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)]
)
def test_precision_of_images_is_kept_or_raised(dtype, out):
    schedule, x, t = cosine_schedule(10), torch.ones(2, 1, 2, 2, dtype=dtype), torch.tensor([0, 9])
    assert schedule.add_noise(x, t, x).dtype == schedule.alpha_bar_at(t, x).dtype == out
    assert schedule.posterior(x, x, t + 1).mean.dtype == out


def test_short_integers_and_other_devices_will_do():
    schedule, x = cosine_schedule(10), torch.ones(2, 1)
    assert torch.equal(
        schedule.alpha_bar_at(torch.tensor([1, 3], dtype=torch.int32), x),
        schedule.alpha_bar_at(torch.tensor([1, 3]), x),
    )
    assert schedule.to("cpu").alpha_bar.dtype == torch.float64 and schedule.to("cpu").name == "cosine"


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("n, T", [(16, 1000), (7, 10), (1, 4000)])
def test_any_step_is_as_likely_as_any_other(n, T):
    """One step from each of 10,000 batches, at a random place; chi-square over 10 classes at p > 1e-4."""
    generator = rng(1)
    places = torch.randint(n, (10_000,), generator=generator).tolist()
    drawn = torch.tensor([draw_steps(n, T, generator)[place].item() for place in places])
    classes = ((drawn - 1) * 10 // T).bincount(minlength=10)
    assert stats.chisquare(classes.numpy()).pvalue > 1e-4


@pytest.mark.parametrize("n, T", [(10, 1000), (128, 1024), (4, 4)])
def test_every_stratum_gets_one_step(n, T):
    for seed in range(50):
        t = draw_steps(n, T, rng(seed))
        assert ((t - 1) * n // T).tolist() == list(range(n))


@pytest.mark.parametrize("n, T", [(64, 10), (64, 1), (3, 2), (1, 1), (1000, 7)])
def test_more_images_than_steps_share_them_evenly(n, T):
    for seed in range(50):
        t = draw_steps(n, T, rng(seed))
        counts = t.bincount(minlength=T + 1)[1:]
        assert t.shape == (n,) and t.min() >= 1 and t.max() <= T and t.dtype == torch.int64
        assert (counts - n / T).abs().max() <= 1


@pytest.mark.parametrize("chance", [0.0, 1 - 2**-24])
def test_the_extremes_of_chance_stay_in_range(monkeypatch, chance):
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor(chance))
    for n, T in [(1, 1), (128, 1000), (4096, 4000), (3, 7)]:
        t = draw_steps(n, T)
        assert t.min() >= 1 and t.max() <= T


@pytest.mark.equation("7.3")
def test_a_share_of_labels_is_dropped():
    """100,000 labels: binomial, within 4.5 standard errors; the others stay, and so does the caller's tensor."""
    n = 100_000
    y = torch.randint(10, (n,), generator=rng(0))
    kept = y.clone()
    dropped = drop_labels(y, null=10, share=0.1, generator=rng(1))
    lost = dropped == 10
    assert abs(lost.sum().item() - 0.1 * n) < SIGMAS * (n * 0.09) ** 0.5
    assert torch.equal(dropped[~lost], y[~lost]) and torch.equal(y, kept)
    assert torch.equal(drop_labels(y, 10, 0.0), y) and (drop_labels(y, 10, 1.0) == 10).all()
    assert torch.equal(dropped, drop_labels(y, null=10, share=0.1, generator=rng(1)))


@pytest.mark.equation("5.10")
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_weighted_errors_are_the_same_whatever_the_network_predicts(prediction_type):
    """A wrong answer moves the guess of x0; weighed for its kind, its error is min(SNR, γ) times that in x0."""
    schedule, t = cosine_schedule(200), torch.arange(1, 201)
    x_t, answer, wrong = normal(200, 4), normal(200, 4, seed=1), normal(200, 4, seed=2)
    moved = predict_x0(schedule, prediction_type, answer + wrong, x_t, t) - predict_x0(
        schedule, prediction_type, answer, x_t, t
    )
    for gamma in (1.0, 5.0):
        weighed = min_snr(schedule, prediction_type, t, gamma) * wrong.square().mean(1)
        close(weighed, schedule.snr[t].clamp(max=gamma) * moved.square().mean(1), 1e-6)


@pytest.mark.equation("5.10")
def test_min_snr_where_nothing_is_left_of_the_image():
    schedule = zero_terminal_snr(linear_schedule(10))
    last = torch.tensor([10])
    assert [min_snr(schedule, prediction_type, last).item() for prediction_type in ("x0", "v", "noise")] == [0, 0, 1]


def oracle(schedule: Schedule, prediction_type: str, x0: torch.Tensor):
    """A network that knows the clean images, and so gives the right answer."""
    return lambda x_t, t, *y: prediction_target(schedule, prediction_type, x0, predict_noise(schedule, x0, x_t, t), t)


@pytest.mark.equation("5.4", "5.5")
@pytest.mark.parametrize("distance", ["l2", "l1", "huber"])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_the_right_answer_costs_nothing(prediction_type, distance):
    x0, schedule = normal(16, 1, 4, 4), cosine_schedule(100)
    loss = diffusion_loss(schedule, prediction_type=prediction_type, distance=distance)(
        oracle(schedule, prediction_type, x0), x0, None, rng()
    )
    assert loss.shape == () and loss.item() == pytest.approx(0, abs=1e-6)


def huber(e: float) -> float:
    return e * e / 2 if abs(e) < 1 else abs(e) - 0.5


@pytest.mark.equation("5.4")
@pytest.mark.parametrize(
    "distance, measure", [("l2", lambda e: e * e), ("l1", abs), ("huber", huber)], ids=["l2", "l1", "huber"]
)
def test_silence_costs_what_the_targets_distribution_says(distance, measure):
    """A network that answers 0, on images of ±1: v and ε have variance 1, and ε is Gaussian; x0 is as it is."""
    x0 = torch.where(torch.rand(256, 1, 8, 8, generator=rng(1)) < 0.5, -1.0, 1.0)

    def cost(prediction_type):
        return diffusion_loss(cosine_schedule(100), prediction_type, distance)(
            lambda x, t: 0 * x, x0, None, rng(2)
        ).item()

    expected = integrate.quad(lambda e: measure(e) * stats.norm.pdf(e), -9, 9)[0]
    spread = integrate.quad(lambda e: (measure(e) - expected) ** 2 * stats.norm.pdf(e), -9, 9)[0] ** 0.5
    assert abs(cost("noise") - expected) < SIGMAS * spread / x0.numel() ** 0.5
    assert cost("x0") == pytest.approx(measure(1.0))
    if distance == "l2":
        # v² = ᾱ ε² + (1 − ᾱ) ∓ 2 √(ᾱ(1−ᾱ)) ε has mean 1 and a variance of at most 2
        assert abs(cost("v") - 1) < SIGMAS * (2 / x0.numel()) ** 0.5


def test_the_network_is_shown_noised_images_and_their_steps():
    schedule, x0, seen = cosine_schedule(100), normal(32, 1, 4, 4).float(), {}

    def network(x_t, t):
        seen.update(x=x_t, t=t)
        return 0 * x_t

    drawn = {}

    def draw(n, T, generator, device):
        drawn.update(n=n, T=T, generator=generator, device=str(device))
        return torch.arange(1, n + 1)

    generator = rng(4)
    diffusion_loss(schedule, "noise", draw=draw)(network, x0, None, generator)
    assert drawn == {"n": 32, "T": 100, "generator": generator, "device": "cpu"}
    noise = torch.randn(x0.shape, generator=rng(4))
    torch.testing.assert_close(seen["x"], schedule.add_noise(x0, torch.arange(1, 33), noise))
    assert seen["t"].tolist() == list(range(1, 33)) and seen["x"].dtype == torch.float32


def test_weights_multiply_the_images_errors():
    x0 = torch.ones(4, 1, 2, 2) * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1, 1)
    loss = diffusion_loss(
        cosine_schedule(4), "x0", weight=lambda t: t.double(), draw=lambda *_: torch.tensor([4, 3, 2, 1])
    )(lambda x, t: 0 * x, x0, None, rng())
    assert loss.item() == pytest.approx((4 * 1 + 3 * 4 + 2 * 9 + 1 * 16) / 4) and loss.dtype == torch.float32


@pytest.mark.equation("5.10")
def test_min_snr_makes_one_loss_of_all():
    """Networks that imply the same guess of x0 pay the same."""
    schedule, x0 = cosine_schedule(100), normal(64, 1, 4, 4)
    costs = []
    for prediction_type in PREDICTION_TYPES:

        def network(x_t, t, prediction_type=prediction_type):
            """Everyone guesses half of the true image."""
            return prediction_target(schedule, prediction_type, x0 / 2, predict_noise(schedule, x0 / 2, x_t, t), t)

        loss = diffusion_loss(schedule, prediction_type, weight=partial(min_snr, schedule, prediction_type))
        costs.append(loss(network, x0, None, rng(1)).item())
    assert costs == pytest.approx([costs[0]] * len(PREDICTION_TYPES), rel=1e-4) and costs[0] > 0.1


def test_labels_reach_the_network_only_where_a_null_label_is_named():
    schedule, x0, y, seen = cosine_schedule(10), normal(2000, 1, 2, 2), torch.arange(2000) % 10, []

    def network(x_t, t, *labels):
        seen.append(labels)
        return 0 * x_t

    diffusion_loss(schedule)(network, x0, y, rng())
    diffusion_loss(schedule, null=10)(network, x0, y, rng())
    assert seen[0] == ()
    (labels,) = seen[1]
    lost = labels == 10
    assert abs(lost.sum().item() - 200) < SIGMAS * 180**0.5 and torch.equal(labels[~lost], y[~lost])


def test_the_same_seed_gives_the_same_loss_and_moves_no_global_chance():
    loss, x0, state = diffusion_loss(cosine_schedule(100), null=3), normal(8, 1, 4, 4).float(), torch.get_rng_state()

    def network(x, t, y):
        return x * t.view(-1, 1, 1, 1) + y.view(-1, 1, 1, 1)

    one, same, other = (loss(network, x0, torch.zeros(8).long(), rng(seed)) for seed in (1, 1, 2))
    assert one == same != other and torch.equal(state, torch.get_rng_state())


def test_the_loss_has_a_gradient():
    weight = torch.zeros((), requires_grad=True)
    diffusion_loss(cosine_schedule(10))(lambda x, t: weight * x, normal(4, 1, 2, 2).float(), None, rng()).backward()
    assert weight.grad.isfinite() and weight.grad != 0


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_a_denoiser_turns_every_answer_into_an_image(prediction_type):
    schedule, t = cosine_schedule(100), torch.tensor([1, 20, 80, 99])
    x0, noise = normal(4, 1, 3, 2), normal(4, 1, 3, 2, seed=1)
    denoise = Denoiser(oracle(schedule, prediction_type, x0), schedule, prediction_type)
    close(denoise(schedule.add_noise(x0, t, noise), t), x0)


def test_a_denoiser_passes_labels_and_keeps_the_precision():
    calls = []

    def network(x_t, t, *y):
        calls.append(y)
        return (0 * x_t).bfloat16()

    denoise, x, t = Denoiser(network, cosine_schedule(10)), normal(2, 1, 2, 2).float(), torch.tensor([1, 10])
    assert denoise(x, t).dtype == torch.float32
    denoise(x, t, torch.tensor([3, 4]))
    assert calls[0] == () and calls[1][0].tolist() == [3, 4]


def test_a_denoisers_weights_are_the_networks():
    network = torch.nn.Linear(2, 2)
    assert {*Denoiser(network, cosine_schedule(10)).parameters()} == {*network.parameters()}


# ----------------------------------------------------------------------------------------------------------- the bound


@pytest.mark.equation("5.2")
def test_kl_of_equal_variances_agrees_with_torch_distributions():
    a, b = normal(5, 2, 3), normal(5, 2, 3, seed=1)
    theirs = torch.distributions.kl_divergence(Normal(a, 0.7), Normal(b, 0.7)).flatten(1).sum(1)
    close(variational.kl_same_variance(a, b, 0.49), theirs)


@pytest.mark.equation("5.2", "5.3")
@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_the_weight_of_the_noise_is_what_the_posteriors_say(name):
    """KL between the posteriors of the true x0 and of a guess, against the weight times the squared error in ε."""
    schedule, t = NOISE_SCHEDULES[name](50), torch.arange(2, 51)
    x_t, x0, guess = normal(49, 4), normal(49, 4, seed=1), normal(49, 4, seed=2)
    true, modelled = schedule.posterior(x0, x_t, t), schedule.posterior(guess, x_t, t)
    gap = predict_noise(schedule, x0, x_t, t) - predict_noise(schedule, guess, x_t, t)
    by_posteriors = variational.kl_same_variance(true.mean, modelled.mean, true.var)
    close(variational.bound_weight(schedule, t) * gap.square().sum(1), by_posteriors, 1e-7)


@pytest.mark.equation("5.1")
@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_the_bound_is_as_loose_as_gaussian_arithmetic_says(name):
    """Data N(0, s²), where all that the chain does is Gaussian: the bound exceeds the entropy by known KLs.

    With Var(x_0|x_t) = V_t a true step back has 1 + r_t times the posterior's variance, r_t = (SNR_{t−1} − SNR_t) V_t;
    the model's has just that, around the same mean.
    """
    n, T, s2 = 20_000, 30, 0.8**2
    schedule = NOISE_SCHEDULES[name](T)
    a, snr = schedule.alpha_bar.tolist(), schedule.snr.tolist()
    left = [s2 * (1 - a[t]) / (a[t] * s2 + 1 - a[t]) for t in range(T + 1)]
    prior = (a[T] * (s2 - 1) - math.log1p(a[T] * (s2 - 1))) / 2
    ratios = [(snr[t - 1] - snr[t]) * left[t] for t in range(2, T + 1)]
    steps = sum(r - math.log1p(r) for r in ratios) / 2
    decoder = (snr[1] * left[1] - 1 - math.log(snr[1] * left[1])) / 2

    def denoise(x_t, t):
        a = schedule.alpha_bar_at(t, x_t)
        return a.sqrt() * s2 / (a * s2 + 1 - a) * x_t

    x0 = s2**0.5 * normal(n, 1)
    terms = variational.variational_bound(denoise, schedule, x0, rng(2))
    assert terms.steps.shape == (n, T - 1)
    assert all((part >= 0).all() for part in (terms.prior, terms.steps))
    excess = terms.total + Normal(0, s2**0.5).log_prob(x0).flatten()
    assert abs(excess.mean().item() - (prior + steps + decoder)) < SIGMAS * excess.std().item() / n**0.5
    assert prior + steps + decoder > 0.1


# ----------------------------------------------------------------------------------------------------------- errors

BARE = as_students_have_it()
TEN = BARE.cosine_schedule(10)
X, T3 = torch.zeros(3, 1, 2, 2), torch.tensor([1, 2, 3])


@pytest.mark.parametrize(
    "alpha_bar, message",
    [
        (torch.ones(2, 2), r"alpha_bar of shape \(T \+ 1,\) with T ≥ 1, got \(2, 2\)"),
        (torch.ones(1), r"alpha_bar of shape .* got \(1,\)"),
        (torch.tensor([0.9, 0.5, 0.1]), "starts at 1 .* got 0.9, 0.5, ..., 0.1. Was the leading 1 forgotten"),
        (torch.tensor([1.0, 1.0, 0.1]), "then is less"),
        (torch.tensor([1.0, 0.5, 0.6]), "never rises"),
        (torch.tensor([1.0, 0.5, -0.1]), "starts at 1"),
        (torch.tensor([1.0, 0.0, 0.0]), "stays above 0 before step T"),
        (torch.tensor([1.0, math.nan, 0.0]), "starts at 1"),
        (torch.tensor([math.nan, 0.5, 0.0]), "starts at 1"),
    ],
)
def test_wrong_schedules(alpha_bar, message):
    with pytest.raises(ValueError, match=message):
        BARE.Schedule(alpha_bar)


@pytest.mark.parametrize("betas", [[0.1, 1.1], [-0.1, 0.5], [[0.1], [0.2]]])
def test_wrong_betas(betas):
    with pytest.raises(ValueError, match=r"from_betas expects variances in \[0, 1\], shape \(T,\), got \(2.*\) from"):
        BARE.Schedule.from_betas(torch.tensor(betas))


@pytest.mark.parametrize("make", BARE.NOISE_SCHEDULES.values(), ids=BARE.NOISE_SCHEDULES)
@pytest.mark.parametrize("T", [0, -5, 2.5, True, "100", None])
def test_wrong_numbers_of_steps(make, T):
    with pytest.raises(ValueError, match="T: expected a whole number of steps, at least 1, got"):
        make(T)


def test_a_single_step_has_no_zero_terminal_snr():
    with pytest.raises(ValueError, match="zero_terminal_snr expects at least 2 steps"):
        BARE.zero_terminal_snr(BARE.linear_schedule(1))


@pytest.mark.parametrize("steps", [0, 11, 2.0, True, None])
def test_wrong_strides(steps):
    with pytest.raises(ValueError, match=r"steps: expected a whole number in 1..10 \(this schedule has T = 10\), got"):
        TEN.timesteps(steps)


@pytest.mark.parametrize(
    "t, message",
    [
        (torch.tensor([0, 1, 11]), r"t: expected steps in 0..10, got 0..11"),
        (torch.tensor([-1, 1, 2]), r"t: expected steps in 0..10, got -1..2"),
        (torch.tensor([1.0, 2.0, 3.0]), r"t: expected integers of shape \(3,\), one step per image, got torch.float32"),
        (torch.tensor([True, True, False]), r"t: expected integers .* got torch.bool"),
        (torch.tensor([1, 2]), r"t: expected integers of shape \(3,\), .* got torch.int64 of \(2,\)"),
        (torch.tensor(1), r"t: expected integers of shape \(3,\), .* of \(\)"),
        (5, r"t: expected integers of shape \(3,\), one step per image, got 5"),
    ],
)
def test_wrong_steps(t, message):
    for call in (
        lambda: TEN.alpha_bar_at(t, X),
        lambda: TEN.add_noise(X, t, X),
        lambda: BARE.prediction_target(TEN, "v", X, X, t),
        lambda: BARE.predict_x0(TEN, "v", X, X, t),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_step_0_has_no_step_before_it():
    t = torch.tensor([0, 1, 2])
    for call in (
        lambda: TEN.step(X, t, X),
        lambda: TEN.posterior(X, X, t),
        lambda: BARE.predict_noise(TEN, X, X, t),
    ):
        with pytest.raises(ValueError, match=r"t: expected steps in 1..10, got 0..2"):
            call()


def test_the_way_back_goes_back():
    with pytest.raises(ValueError, match=r"s: expected steps before t = \[1, 2, 3\], got \[0, 2, 1\]"):
        TEN.posterior(X, X, T3, torch.tensor([0, 2, 1]))


@pytest.mark.parametrize("who", ["add_noise", "step", "posterior", "predict_x0", "predict_noise", "prediction_target"])
def test_shapes_that_differ(who):
    """(3, 1, 2, 2) and (3, 1, 2, 3) would also fail without us; (3, 1, 2, 2) and (3, 1, 1, 1) would not."""
    other = torch.zeros(3, 1, 1, 1)
    arguments = {
        "add_noise": (X, T3, other),
        "step": (X, T3, other),
        "posterior": (X, other, T3),
        "predict_x0": (TEN, "v", X, other, T3),
        "predict_noise": (TEN, X, other, T3),
        "prediction_target": (TEN, "v", X, other, T3),
    }[who]
    with pytest.raises(ValueError, match=rf"{who} expects tensors of one shape, got .*\(3, 1, 2, 2\).*\(3, 1, 1, 1\)"):
        getattr(TEN if hasattr(TEN, who) else BARE, who)(*arguments)


def test_wrong_kinds():
    message = "prediction_type: expected 'noise', 'x0', 'v', 'velocity', got 'epsilon'"
    for call in (
        lambda: BARE.prediction_target(TEN, "epsilon", X, X, T3),
        lambda: BARE.predict_x0(TEN, "epsilon", X, X, T3),
        lambda: BARE.min_snr(TEN, "epsilon", T3),
        lambda: BARE.diffusion_loss(TEN, prediction_type="epsilon"),
        lambda: BARE.Denoiser(lambda x, t: x, TEN, "epsilon"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="distance: expected 'l2', 'l1', 'huber', got 'L2'"):
        BARE.diffusion_loss(TEN, distance="L2")


def test_noise_says_nothing_where_no_image_is_left():
    schedule = BARE.zero_terminal_snr(TEN)
    with pytest.raises(ValueError, match='predict_x0: at ᾱ_t = 0 the noise .* train with prediction_type="v"'):
        BARE.predict_x0(schedule, "noise", X, X, torch.tensor([1, 2, 10]))
    with pytest.raises(ValueError, match="Denoiser: at ᾱ_t = 0 the noise says nothing"):
        BARE.Denoiser(lambda x, t: x, schedule, "noise")
    assert BARE.predict_x0(schedule, "noise", X, X, T3).isfinite().all()


def test_a_null_label_needs_labels():
    with pytest.raises(
        ValueError, match="diffusion_loss: null = 10 is for a network with labels, but the data has none"
    ):
        BARE.diffusion_loss(TEN, null=10)(lambda x, t, y: x, X, None, rng())
