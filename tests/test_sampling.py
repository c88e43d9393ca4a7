"""The walk back against `diffusers`' samplers, and against distributions that are known exactly."""

import importlib.util
import math
import sys
from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm
from scipy import stats
from scipy.optimize import brentq

from course_utils import diffusion, sampling
from course_utils.arrays import normal_like
from course_utils.data import GaussianMixture
from course_utils.device import generators, seeded
from course_utils.diffusion import (
    NOISE_SCHEDULES,
    Denoiser,
    Schedule,
    cosine_schedule,
    linear_schedule,
    zero_terminal_snr,
)
from course_utils.models.autoencoder import FittedGaussian
from course_utils.models.unet import UNet
from course_utils.models.vae import VAE
from course_utils.sampling import ancestral, cfg, clipped, ddim, ddpm, dpm_solver, karras_timesteps, last, loop
from course_utils.sampling.loop import timesteps


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def network(x_t, t, y=None):
    """Bends what it is given, differently at every step: as good as any to compare samplers by."""
    return (x_t + 0.3 * (t / 100).cos().view(-1, 1, 1, 1)).sin() + 0.2 * x_t.roll(1, -1)


# ------------------------------------------------------------------------------------------- the same as `diffusers`

THEIR_NAMES = {"linear": "linear", "quadratic": "scaled_linear", "cosine": "squaredcos_cap_v2"}
THEIR_TARGETS = {"noise": "epsilon", "x0": "sample", "v": "v_prediction"}


def theirs(kind: type, schedule: Schedule, **settings):
    """Their sampler on our ᾱ. Their index i is our step t = i + 1: the clean image has none, and `final_alpha_cumprod`
    (with set_alpha_to_one) or `one` stands for our ᾱ_0. Their own tables are float32; tests/test_diffusion.py compares.
    """
    made = kind(num_train_timesteps=schedule.T, clip_sample=False, **settings)
    made.alphas_cumprod = schedule.alpha_bar[1:]
    return made


@pytest.mark.equation("6.4")
@pytest.mark.parametrize("target", THEIR_TARGETS)
@pytest.mark.parametrize("steps", [1, 10, 50, 250])
@pytest.mark.parametrize("name", THEIR_NAMES)
def test_without_chance_every_step_is_that_of_ddim(name, steps, target):
    """ "trailing" is their name for evenly spaced timesteps that begin at T. 1000 must be a multiple of `steps`:
    they go back by a whole number of indices."""
    schedule = NOISE_SCHEDULES[name](1000)
    reference = theirs(
        scheduling_ddim.DDIMScheduler, schedule, prediction_type=THEIR_TARGETS[target], timestep_spacing="trailing"
    )
    reference.set_timesteps(steps)
    start, *ours = ddim(Denoiser(network, schedule, target), schedule, normal(2, 1, 4, 4), steps)
    x = normal(2, 1, 4, 4)
    assert torch.equal(start.x, x) and start.t == 1000 and start.x0 is None and len(ours) == steps
    for i, step in zip(reference.timesteps, ours):
        move = reference.step(network(x, torch.full((2,), i + 1)), i, x)
        torch.testing.assert_close(step.x0, move.pred_original_sample, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(step.x, move.prev_sample, rtol=1e-5, atol=1e-5)
        assert step.t == max(i - 1000 // steps, -1) + 1
        x = step.x  # from here on alike, so that rounding doesn't add up where ᾱ is tiny
    assert ours[-1].t == 0


def test_without_chance_the_whole_walk_is_that_of_their_float32_tables():
    """Nothing replaced: their own schedule, float32 as it is, from noise to the end."""
    reference = scheduling_ddim.DDIMScheduler(
        clip_sample=False, prediction_type="v_prediction", timestep_spacing="trailing", set_alpha_to_one=True
    )
    reference.set_timesteps(50)
    x = normal(2, 1, 4, 4)
    for i in reference.timesteps:
        x = reference.step(network(x, torch.full((2,), i + 1)), i, x).prev_sample
    schedule = linear_schedule(1000)
    ours = last(ddim(Denoiser(network, schedule, "v"), schedule, normal(2, 1, 4, 4), 50))
    torch.testing.assert_close(ours, x.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.equation("6.4", "6.5")
@pytest.mark.parametrize("eta", [0.3, 0.5, 1.0])
def test_with_chance_every_step_is_that_of_ddim(eta):
    """The same η, and the same random numbers in their place."""
    schedule, drawn = cosine_schedule(1000), rng(5)
    reference = theirs(scheduling_ddim.DDIMScheduler, schedule, prediction_type="sample", timestep_spacing="trailing")
    reference.set_timesteps(20)
    _, *ours = ddim(network, schedule, normal(2, 1, 4, 4), 20, eta=eta, generator=rng(5))
    x = normal(2, 1, 4, 4)
    for i, step in zip(reference.timesteps, ours):
        noise = torch.randn(x.shape, generator=drawn, dtype=torch.float64)
        x = reference.step(network(x, torch.full((2,), i + 1)), i, x, eta=eta, variance_noise=noise).prev_sample
        torch.testing.assert_close(step.x, x, rtol=1e-9, atol=1e-9)


@pytest.mark.equation("3.8")
@pytest.mark.parametrize("name", [*THEIR_NAMES, "sigmoid"])
def test_all_steps_with_full_chance_are_ddpm(monkeypatch, name):
    """η = 1 and s = t − 1: the posterior's mean and variance, as in `diffusers`' DDPM with its smaller variance."""
    T = 60
    schedule, drawn = NOISE_SCHEDULES[name](T), rng(5)
    reference = theirs(scheduling_ddpm.DDPMScheduler, schedule, prediction_type="sample", variance_type="fixed_small")
    chance = partial(torch.randn, generator=drawn, dtype=torch.float64)
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda shape, **_: chance(shape))
    _, *ours = ddim(network, schedule, normal(2, 1, 4, 4), T, eta=1.0, generator=rng(5))
    x = normal(2, 1, 4, 4)
    for i, step in zip(reversed(range(T)), ours):
        x = reference.step(network(x, torch.full((2,), i + 1)), torch.tensor(i), x).prev_sample
        torch.testing.assert_close(step.x, x, rtol=1e-9, atol=1e-9)
    assert [step.t for step in ours] == [*reversed(range(T))]


def ddpm_and_ours(monkeypatch, variance: str, kappa: float, steps: int, output=lambda guess: guess):
    """After every stride, each from where ours stands: where ours goes, where theirs goes, and the random numbers."""
    schedule, drawn, settings = cosine_schedule(60), rng(5), {"variance_type": variance, "timestep_spacing": "trailing"}
    reference = theirs(scheduling_ddpm.DDPMScheduler, schedule, prediction_type="sample", **settings)
    reference.set_timesteps(steps)
    z = [torch.randn(2, 1, 4, 4, generator=drawn, dtype=torch.float64) for _ in range(steps)]
    start, *ours = ddpm(network, schedule, normal(2, 1, 4, 4), steps, kappa=kappa, generator=rng(5))
    x = start.x
    for i, step, noise in zip(reference.timesteps, ours, z, strict=True):
        monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, noise=noise, **__: noise)
        yield step.x, reference.step(output(network(x, torch.full((2,), int(i) + 1))), i, x).prev_sample, noise
        x = step.x


@pytest.mark.equation("6.1", "6.2")
@pytest.mark.parametrize("steps", [6, 20, 60])
@pytest.mark.parametrize("variance, kappa", [("fixed_small", 0.0), ("fixed_large", 1.0)])
def test_with_either_variance_every_step_is_that_of_ddpm(monkeypatch, variance, kappa, steps):
    """All steps, and strides of several. They differ on the last stride, if it is one of several steps: we add no noise
    to images; they add none from their index 0 only, and from a higher one noise of variance β = 1 − ᾱ_t."""
    *way, (ours, other, z) = ddpm_and_ours(monkeypatch, variance, kappa, steps)
    for on_the_way in way:
        torch.testing.assert_close(*on_the_way[:2], rtol=1e-9, atol=1e-9)
    beta = 1 - cosine_schedule(60).alpha_bar[60 // steps]
    added = beta.sqrt() * z if variance == "fixed_large" and steps < 60 else 0 * z
    torch.testing.assert_close(ours + added, other, rtol=1e-9, atol=1e-9)  # (fixed_small keeps to 1e-20, by a clamp)


@pytest.mark.equation("6.2")
@pytest.mark.parametrize("kappa", [0.2, 0.7])
def test_between_the_variances_lies_what_their_learned_range_lies_between(monkeypatch, kappa):
    """There a network says the place between both logarithms, as a number from −1 to 1, in further channels."""

    def with_place(guess):
        return torch.cat([guess, torch.full_like(guess, 2 * kappa - 1)], 1)

    for ours, other, _ in [*ddpm_and_ours(monkeypatch, "learned_range", kappa, 20, with_place)][:-1]:
        torch.testing.assert_close(ours, other, rtol=1e-9, atol=1e-9)


def test_after_clipping_ours_implies_the_noise_anew_as_theirs_does_if_told():
    """ε̂ must lead from the guess to x_t, so a clipped guess has another ε̂ than the network's. That is what their
    DDIM does with `use_clipped_model_output`; left alone it goes on with the network's own, and elsewhere."""
    schedule = linear_schedule(1000)
    reference = scheduling_ddim.DDIMScheduler(clip_sample=True, timestep_spacing="trailing")
    reference.alphas_cumprod = schedule.alpha_bar[1:]
    reference.set_timesteps(20)
    x = normal(2, 1, 4, 4)
    apart = 0.0
    _, *ours = ddim(clipped(Denoiser(network, schedule, "noise")), schedule, x, 20)
    for i, step in zip(reference.timesteps, ours, strict=True):
        answer = network(x, torch.full((2,), i + 1))
        told = reference.step(answer, i, x, use_clipped_model_output=True).prev_sample
        torch.testing.assert_close(step.x, told, rtol=1e-5, atol=1e-5)
        apart = max(apart, (reference.step(answer, i, x).prev_sample - told).abs().max().item())
        x = step.x
    assert apart > 0.1


@pytest.mark.equation("3.8")
@pytest.mark.parametrize("steps", [4, 7, 60])
def test_full_chance_draws_from_the_posterior_whatever_the_stride(steps):
    """Each stride from t to s, seen from where it began; the noise is what the generator gave."""
    schedule, drawn = cosine_schedule(60), rng(5)
    for before, after in pairwise(ddim(network, schedule, normal(2, 1, 4, 4), steps, eta=1.0, generator=rng(5))):
        t, s = (torch.full((2,), step.t) for step in (before, after))
        mean, var = schedule.posterior(after.x0, before.x, t, s)
        noise = torch.randn(mean.shape, generator=drawn, dtype=torch.float64) if after.t else 0
        torch.testing.assert_close(after.x, mean + var.sqrt() * noise, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------------------------ known distributions

# What these tests would notice. Four directions are tried, each at p < REJECT / 4, so a right sampler fails once in a
# thousand runs. A wrong one whose distribution function along one of them is off by SEEN somewhere fails nineteen times
# in twenty, at least: n points miss their own distribution function by more than q(p)/√n with probability p or less
# (Dvoretzky, Kiefer, Wolfowitz and Massart), and what is left is still beyond the limit of the test.
POINTS, REJECT = 10_000, 1e-3


def q(p: float) -> float:
    """√(ln(2/p)/2): the Kolmogorov-Smirnov statistic times √n is above it with probability p, nearly."""
    return (math.log(2 / p) / 2) ** 0.5


SEEN = (q(REJECT / 4) + q(0.05)) / POINTS**0.5  # 0.035


def cdf_along(mixture: GaussianMixture, direction: torch.Tensor):
    centres = mixture.means @ direction
    kappas = (mixture.stds.square() @ direction.square()).sqrt()
    return lambda x: stats.norm(centres, kappas).cdf(x[:, None]) @ mixture.weights.numpy()


DIRECTIONS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, -0.6]])


def p_values(x: torch.Tensor, mixture: GaussianMixture) -> list[float]:
    return [stats.kstest((x @ d.to(x)).numpy(), cdf_along(mixture, d)).pvalue for d in DIRECTIONS]


UNEVEN = GaussianMixture(
    torch.tensor([[-1.2, 0.4], [0.9, 0.9], [0.6, -1.1]]), torch.tensor([0.3, 0.2, 0.4]), torch.tensor([0.5, 0.2, 0.3])
)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["cosine", "linear", "zero"])
def test_the_perfect_denoiser_walks_to_the_data(name, eta):
    """Four directions at p > 1e-3 / 4, and the shares of the three blobs within 4 standard errors."""
    schedule = zero_terminal_snr(linear_schedule(400)) if name == "zero" else NOISE_SCHEDULES[name](400)
    noise = torch.randn(POINTS, 2, generator=rng(1))
    x = last(ddim(UNEVEN.denoiser(schedule), schedule, noise, steps=400, eta=eta, generator=rng(2)))
    assert min(p_values(x, UNEVEN)) > REJECT / 4
    shares = torch.cdist(x, UNEVEN.means).argmin(1).bincount(minlength=3) / POINTS
    own = UNEVEN.sample(200_000, rng(3))
    expected = torch.cdist(own, UNEVEN.means).argmin(1).bincount(minlength=3) / len(own)
    assert ((shares - expected).abs() < 4 * (expected * (1 - expected) / POINTS).sqrt()).all()


def rejections(x: torch.Tensor) -> list[bool]:
    """Whether the test says no, for every POINTS of these points."""
    return [min(p_values(part, UNEVEN)) < REJECT / 4 for part in x.split(POINTS)]


def test_the_power_of_the_test_is_as_stated(report):
    """Points of the mixture, all moved to one side by as much as puts its distribution function off by SEEN somewhere.
    Of forty sets of POINTS points 38 or more must be rejected, and of others that weren't moved, hardly ever one."""
    line, true = torch.linspace(-4, 4, 4001), cdf_along(UNEVEN, DIRECTIONS[0])

    def off(step: float) -> float:
        return abs(true((line - step).numpy()) - true(line.numpy())).max()

    step = brentq(lambda step: off(step) - SEEN, 0, 1)
    x = UNEVEN.sample(40 * POINTS, rng(7))
    wrong, right = rejections(x + step * DIRECTIONS[0]), rejections(x)
    report.append(f"{POINTS:,} points moved by {step:.3f}: {sum(wrong)} of 40 sets rejected; not moved: {sum(right)}")
    assert step < 0.06 and sum(wrong) >= 38 and sum(right) <= 1


WRONG = {
    "guesses 5 % too small": lambda denoise, *how: dpm_solver(lambda *at: 0.95 * denoise(*at), *how),
    "guesses 0.05 to one side": lambda denoise, *how: dpm_solver(lambda *at: denoise(*at) + 0.05, *how),
    "ends at σ = 0.2": lambda *how: (step for step in dpm_solver(*how) if step.t >= 49),
    "adds noise of 0.2 at the end": lambda *how: (
        step._replace(x=step.x + 0.2 * normal(*step.x.shape, seed=9)) for step in dpm_solver(*how)
    ),
}


@pytest.mark.parametrize("sampler", [dpm_solver, *WRONG.values()], ids=["right", *WRONG])
def test_samplers_that_are_slightly_wrong_are_noticed_every_time(sampler):
    """Ten runs of POINTS points, each judged by itself: of the right sampler's none is rejected, of the others' all. So
    each of these faults is seen with probability 0.74 or more (at 95 % confidence). (Noise of 0.15: eight.)"""
    schedule, start = cosine_schedule(400), normal(10 * POINTS, 2, seed=1)
    x = last(sampler(UNEVEN.denoiser(schedule), schedule, start, karras_timesteps(schedule, 40)))
    assert rejections(x) == [sampler is not dpm_solver] * 10


def exact_variance(monkeypatch, sampler, start: float) -> float:
    """Of a sampler's result where its denoiser is linear: a sum of independent noises, each with a factor of its own.

    Image k of the batch is the walk in which the k-th noise is 1 and all others are 0, so it ends at that factor, and
    the variance is the sum of their squares. Nothing is drawn, nothing is estimated. start: its deviation at the top.
    """
    x, drawn = torch.zeros(400, 1, dtype=torch.float64), []
    x[0] = start

    def noise(shape, **_):
        z = torch.zeros(shape, dtype=torch.float64)
        drawn.append(None)
        z[len(drawn)] = 1
        return z

    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn", noise)
        end = last(sampler(x))
    assert len(drawn) < len(x)
    return end.square().sum().item()


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_each_variance_is_right_for_one_kind_of_data(monkeypatch, steps):
    """β for standard normal data, whose variance stays 1 in any number of strides, and the posterior's for one point.

    (With the last stride left out: it ends at the guess itself.)"""
    schedule = cosine_schedule(400)
    times = [400 - 10 * k for k in range(steps + 1)]
    a = schedule.alpha_bar[times[-1]].item()

    def of_normal_data(x, t, y=None):
        return schedule.alpha_bar[t].sqrt()[:, None] * x

    def of_a_point(x, t, y=None):
        return 0 * x

    def end(denoise, kappa, start):
        return exact_variance(monkeypatch, lambda x: ddpm(denoise, schedule, x, times, kappa=kappa), start)

    assert end(of_normal_data, 1.0, 1.0) == pytest.approx(1, abs=1e-9)
    assert end(of_a_point, 0.0, (1 - schedule.alpha_bar[400].item()) ** 0.5) == pytest.approx(1 - a, abs=1e-9)
    assert end(of_normal_data, 0.0, 1.0) < 1 - 1e-4 and end(of_a_point, 1.0, 1.0) > 1 - a + 1e-4  # and not the other


def test_half_way_the_walk_has_the_diffused_distribution():
    schedule = cosine_schedule(400)
    noise = torch.randn(POINTS, 2, generator=rng(4))
    for step in ddim(UNEVEN.denoiser(schedule), schedule, noise, steps=400, eta=1.0, generator=rng(2)):
        if step.t in (300, 200, 50):
            assert min(p_values(step.x, UNEVEN.diffused(schedule.alpha_bar[step.t]))) > REJECT / 4


def test_labels_lead_to_their_own_blob():
    schedule, y = cosine_schedule(200), torch.tensor([0, 1, 2]).repeat_interleave(2000)
    noise = torch.randn(6000, 2, generator=rng(1))
    x = last(ddim(UNEVEN.denoiser(schedule), schedule, noise, steps=200, y=y))
    for c in range(3):
        blob = GaussianMixture(UNEVEN.means[c : c + 1], UNEVEN.stds[c : c + 1])
        assert min(p_values(x[y == c], blob)) > REJECT / 4


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_one_image_is_found_in_any_number_of_strides(steps):
    """A data set of one image: the walk ends at it, exactly, and DDIM keeps the noise that it began with."""
    image, noise = normal(1, 1, 4, 4), normal(3, 1, 4, 4, seed=1)
    schedule = cosine_schedule(100)
    for t, x, _ in ddim(lambda x_t, t, y: image.expand_as(x_t), schedule, noise, steps):
        a, end = schedule.alpha_bar[[t, -1]].tolist()
        implied = (noise - end**0.5 * image) / (1 - end) ** 0.5
        torch.testing.assert_close(x, a**0.5 * image + (1 - a) ** 0.5 * implied)
    assert t == 0 and torch.equal(x, image.expand_as(x))


# ------------------------------------------------------------------------------------------------ what it promises


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("T, steps", [(1, 1), (10, 10), (10, 3), (200, 50), (1000, 7), (4000, 50)])
@pytest.mark.parametrize("name", [*NOISE_SCHEDULES, "zero"])
def test_the_last_stride_is_like_any_other(name, T, steps, eta):
    """It ends at t = 0 with the last guess itself, without noise, and nothing on the way is NaN."""
    if name == "zero" and T == 1:
        schedule = Schedule(torch.tensor([1.0, 0.0]))
    else:
        schedule = zero_terminal_snr(linear_schedule(T)) if name == "zero" else NOISE_SCHEDULES[name](T)
    walked = [*ddim(network, schedule, normal(2, 1, 3, 5).float(), steps, eta=eta, generator=rng(1))]
    assert [step.t for step in walked] == schedule.timesteps(steps)
    assert all(step.x.isfinite().all() and step.x.dtype == torch.float32 for step in walked)
    assert torch.equal(walked[-1].x, walked[-1].x0)


@pytest.mark.equation("6.3")
@pytest.mark.parametrize("T, steps", [(1000, 1), (1000, 7), (50, 50), (10, 3), (4000, 21)])
def test_stops_are_the_whole_numbers_nearest_to_even_ones(T, steps):
    times = timesteps(cosine_schedule(T), steps)
    assert len(times) == steps + 1 and times[0] == T and times[-1] == 0
    assert all(abs(steps * t - T * (steps - k)) <= steps / 2 for k, t in enumerate(times))


def test_chance_comes_from_the_generator_alone():
    schedule, noise, state = cosine_schedule(100), normal(2, 1, 4, 4), torch.get_rng_state()

    def run(eta, seed):
        return last(ddim(network, schedule, noise, 10, eta=eta, generator=rng(seed)))

    assert torch.equal(run(1.0, 1), run(1.0, 1)) and not torch.equal(run(1.0, 1), run(1.0, 2))
    assert torch.equal(run(0.0, 1), run(0.0, 2))
    assert torch.equal(state, torch.get_rng_state())


def test_the_noise_is_left_as_it_was_and_nothing_keeps_gradients():
    weight, noise = torch.ones((), requires_grad=True), normal(2, 1, 2, 2)
    before = noise.clone()
    x = last(ddim(lambda x_t, t, y: weight * x_t.clamp(-1, 1), cosine_schedule(10), noise, 5, eta=1.0, generator=rng()))
    assert torch.equal(noise, before) and not x.requires_grad and torch.is_grad_enabled()


def test_the_denoiser_is_asked_once_a_stride_with_every_images_step_and_label():
    asked, y = [], torch.tensor([3, 4])

    def denoise(x_t, t, y=None):
        asked.append((t.tolist(), y))
        return x_t

    last(ddim(denoise, cosine_schedule(1000), normal(2, 1, 2, 2), 4, y=y))
    assert [t for t, _ in asked] == [[1000] * 2, [750] * 2, [500] * 2, [250] * 2]
    assert all(seen is y for _, seen in asked)


def test_a_finished_walk_keeps_only_its_end():
    import gc
    import weakref

    alive = []

    def steps():
        for t in range(5, -1, -1):
            x = torch.zeros(1)
            alive.append(weakref.ref(x))
            yield sampling.Step(t, x, None)
            if t == 1:
                del x
                gc.collect()
                assert sum(ref() is not None for ref in alive) <= 1

    assert last(steps()).shape == (1,)


def test_clipped_guesses_stay_in_the_range_of_images():
    x, t = 3 * normal(2, 1, 4, 4), torch.tensor([1, 2])
    guess = clipped(network)(x, t)
    assert torch.equal(guess, network(x, t).clamp(-1, 1)) and guess.abs().max() == 1
    assert clipped(lambda x_t, t, y: x_t, 0.0, 0.5)(x, t, y=None).min() == 0


# ---------------------------------------------------------------------------------------------------------- errors


def bare_copy(module):
    """A module a second time, without the shape checks that are switched on while testing: errors are its own."""
    spec = importlib.util.spec_from_file_location(f"{module.__name__}_without_shape_checks", module.__file__)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    assert spec.name not in sys.modules
    return copy


@pytest.fixture
def bare():
    copy = bare_copy(ancestral)
    copy.timesteps = bare_copy(loop).timesteps
    return copy


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_wrong_eta(bare, eta):
    for sampler in (bare.ddim, dpm_solver):
        with pytest.raises(ValueError, match=r"eta: expected a number in \[0, 1\], 0 for DDIM and 1 for DDPM, got"):
            sampler(network, cosine_schedule(10), normal(1, 1, 2, 2), 5, eta=eta)


@pytest.mark.parametrize("kappa", [-0.1, 1.1, float("nan")])
def test_wrong_spread(bare, kappa):
    with pytest.raises(ValueError, match=r"kappa: expected a number in \[0, 1\], 0 for the posterior's variance"):
        bare.ddpm(network, cosine_schedule(10), normal(1, 1, 2, 2), 5, kappa=kappa)


@pytest.mark.parametrize("steps", [0, 11, 2.5, True, None, "5", torch.tensor(5)])
def test_wrong_numbers_of_strides(bare, steps):
    """At the call, and not at the first step."""
    schedule = bare_copy(diffusion).cosine_schedule(10)
    message = r"steps: expected a whole number in 1..10 \(this schedule has T = 10\), got"
    for sampler in (bare.ddim, bare.ddpm):
        with pytest.raises(ValueError, match=message):
            sampler(network, schedule, normal(1, 1, 2, 2), steps)


def test_a_model_says_what_images_and_labels_it_takes():
    schedule, noise = cosine_schedule(10), normal(3, 1, 8, 8).float()
    plain, with_classes = (Denoiser(UNet((1, 8, 8), (16,), num_classes=n), schedule) for n in (None, 10))
    for model, start, y, message in [
        (plain, noise[..., :4], None, r"UNet expects images \(b, 1, 8, 8\), got \(3, 1, 8, 4\)"),
        (plain, noise, torch.tensor([1, 2, 3]), "got labels, but this model has no classes"),
        (with_classes, noise, torch.tensor([1, 2, 12]), r"UNet: expected labels in 0..10, got 1..12"),
        (with_classes, noise, torch.tensor([1, 2, -1]), r"UNet: expected labels in 0..10, got -1..2"),
    ]:
        with pytest.raises(ValueError, match=message):
            last(ddim(model, schedule, start, 2, y))
    with pytest.raises(ValueError, match=r"UNet: expected labels in 0..10, got 3..12"):  # a null label of another model
        cfg(with_classes, 2.0, null=12)(noise, torch.tensor([1, 1, 1]), torch.tensor([3, 3, 3]))
    with pytest.raises(ValueError, match=r"the mixture's denoiser: expected labels in 0..3, got 0..4"):
        UNEVEN.denoiser(schedule)(noise[:2, 0, 0, :2], torch.tensor([1, 1]), torch.tensor([0, 4]))


# ----------------------------------------------------------------------------------------- one generator for each image


@pytest.mark.parametrize(
    "draw",
    [
        lambda denoise, schedule, noise, chance: last(ddim(denoise, schedule, noise, 5, eta=1.0, generator=chance)),
        lambda denoise, schedule, noise, chance: last(ddpm(denoise, schedule, noise, 5, kappa=1.0, generator=chance)),
        lambda denoise, schedule, noise, chance: last(
            dpm_solver(denoise, schedule, noise, 5, eta=1.0, generator=chance)
        ),
        lambda denoise, schedule, noise, chance: last(
            sampling.annealed_langevin(denoise, schedule, noise, 3, each=2, generator=chance)
        ),
        lambda denoise, schedule, noise, chance: sampling.sdedit(schedule, noise.clamp(-1, 1), 0.5, 5, chance)[0],
        lambda denoise, schedule, noise, chance: [
            *sampling.langevin_dynamics(lambda x: -x, noise, 0.1, 3, chance),
        ][-1],
    ],
    ids=["ddim", "ddpm", "dpm_solver", "annealed_langevin", "sdedit", "langevin_dynamics"],
)
def test_with_a_generator_each_an_image_does_not_depend_on_the_others(draw):
    """Image k of a seed is image k, alone, among few or many, and in whatever pieces they are drawn."""
    schedule = diffusion.cosine_schedule(100)

    def images(n, first=0):
        chance = generators(7, n, first)
        noise = normal_like(torch.empty(n, 1, 5, 3), chance)
        return draw(lambda x_t, t, y=None: x_t / 2, schedule, noise, chance)

    many = images(6)
    assert torch.equal(images(2), many[:2]) and torch.equal(torch.cat([images(4), images(2, first=4)]), many)
    assert len({image.numpy().tobytes() for image in many}) == 6


def test_codes_of_the_prior_do_not_depend_on_each_other_either():
    """Also of few numbers, of which PyTorch draws other ones when there are more."""
    with seeded(0):
        model = VAE((1, 8, 8), latent=3)
    codes = FittedGaussian(torch.zeros(3), torch.eye(3))
    for drawn in (model.sample, codes.sample):
        torch.testing.assert_close(drawn(2, generators(1, 2)), drawn(9, generators(1, 9))[:2])
        assert torch.equal(*(drawn(4, torch.Generator().manual_seed(0)) for _ in range(2)))


def test_as_many_generators_as_images():
    schedule, noise = diffusion.cosine_schedule(100), torch.zeros(3, 1, 5, 3)
    with pytest.raises(ValueError, match="expected one for each of 3 images, got a list of 2"):
        last(ddim(lambda x_t, t, y=None: x_t / 2, schedule, noise, 5, eta=1.0, generator=generators(0, 2)))
    with pytest.raises(TypeError, match="seed: expected a whole number"):
        generators(True, 2)
    assert not torch.equal(*(normal_like(noise, generators(seed, 3)) for seed in (0, 1)))
