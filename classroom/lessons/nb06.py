"""The quizzes of notebook 06, "Sampling"."""

import math
from itertools import pairwise

import torch

from course_utils import diffusion as library
from course_utils.pitfalls import sampling as pitfalls
from course_utils.sampling import (
    annealed_langevin,
    ddim,
    ddim_invert,
    ddpm,
    dpm_solver,
    euler,
    heun,
    inpaint,
    langevin_dynamics,
    langevin_step,
    sdedit,
    solvers,
    timesteps,
)
from course_utils.sampling.loop import Stride

from ..quizzes.declarations import Case, Fixture, Misconception, Option, concept, fixture, quiz

# ---------------------------------------------------------------------------------------------------- inputs for cases


@fixture("sampling/schedule")
def _schedule(curve: str = "cosine", T: int = 50, seed: int = 0) -> library.Schedule:
    if curve == "constant":  # of no library: β is 0.1 throughout, so that even x_T keeps some of the image
        return library.Schedule.from_betas(torch.full((T,), 0.1, dtype=torch.float64), curve)
    return library.NOISE_SCHEDULES[curve](T)


@fixture("sampling/denoise")
def _denoise(curve: str = "cosine", T: int = 50, seed: int = 0):
    """A denoiser (x_t, t, y=None) → x̂_0 that listens to every pixel, its neighbour, the step and the class."""
    schedule = _schedule(curve, T)

    def denoise(x_t, t, y=None):
        signal, kappa = schedule.rates(t, x_t)
        told = 0.2 if y is None else 0.3 * y.to(x_t).reshape(-1, *[1] * (x_t.ndim - 1))
        return 1.5 * torch.tanh(signal * x_t + 0.4 * kappa * x_t.roll(1, -1) + told)  # not always in [-1, 1]

    return denoise


@fixture("sampling/step")
def _step(keep: float = 0.9, seed: int = 0):
    """A stride of no paper, linear in all that it is given, which asks for the right types and shapes."""

    def step(x_t, x0, t, s, noise, schedule):
        signal, spread = schedule.rates(_full(x_t, s), x_t)
        old, _ = schedule.rates(_full(x_t, t), x_t)
        return signal * x0 + keep * spread * (x_t - old * x0) + 0.3 * spread * noise

    return step


@fixture("sampling/draw")
def _draw(seed: int = 0):
    """A source of noise: draw(x) is fresh standard normal noise like x."""
    generator = torch.Generator().manual_seed(seed)
    return lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


@fixture("sampling/score")
def _score(seed: int = 0):
    """A score that isn't linear, so that where it is asked matters."""
    return lambda x: torch.tanh(2 * x.roll(1, -1)) - x


STRIDES = (  # how many images, their shape, the schedule, T, t, s, dtype
    (4, (1, 5, 7), "linear", 1000, 700, 600, torch.float32),
    (3, (3, 4, 6), "cosine", 50, 50, 49, torch.float64),
    (1, (1, 6, 3), "cosine", 10, 4, 0, torch.float32),
    (2, (1, 3, 8), "quadratic", 200, 150, 30, torch.float64),
    (2, (1, 4, 5), "linear", 30, 1, 0, torch.float64),
    (5, (1, 3, 4), "cosine", 20, 2, 1, torch.float64),  # to where hardly any noise is left
    (3, (2, 5, 3), "constant", 20, 20, 1, torch.float64),
    (2, (1, 7, 4), "constant", 500, 2, 1, torch.float32),  # the very end of a long walk
    (2, (3, 2, 5), "constant", 12, 12, 0, torch.float64),
    (4, (1, 5, 7), "cosine", 1000, 700, 600, torch.float32),  # as the first, on another schedule
    (1, (2, 4, 3), "constant", 1, 1, 0, torch.float32),
)
# Schedules are short or steep where a stride ends at 1, and mild where it leads far from T: single precision will do.


def _strides(rng: torch.Generator):
    """x_t, a guess that isn't always in [-1, 1], noise, t, s and the schedule, for long and short strides."""
    for b, shape, name, T, t, s, dtype in STRIDES:
        x_t, noise = (torch.randn(b, *shape, generator=rng, dtype=dtype) for _ in range(2))
        x0 = 3 * torch.rand(b, *shape, generator=rng, dtype=dtype) - 1.5
        yield x_t, x0, noise, t, s, Fixture("sampling/schedule", curve=name, T=T)


def _way(schedule: Fixture, t: int, s: int) -> str:
    return f"from t = {t} to s = {s} of {schedule.settings['T']} ({schedule.settings['curve']})"


def _full(x, t):
    return torch.full((len(x),), t, device=x.device)


def _alpha_bars(schedule, t: int, s: int) -> tuple[torch.Tensor, torch.Tensor]:
    return schedule.alpha_bar[t], schedule.alpha_bar[s]


# ---------------------------------------------------------------------------- 6.1 · one step, where to stop, the loop


def _ancestral_step(x_t, x0, t, s, noise, schedule, kappa=0.0):
    mean, small = schedule.posterior(x0, x_t, _full(x_t, t), _full(x_t, s))
    if s == 0:
        return mean
    beta = 1 - schedule.alpha_bar[t] / schedule.alpha_bar[s]
    return mean + (small ** (1 - kappa) * beta**kappa).sqrt() * noise


def _ancestral_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    kappas = (0.5, 1.0, 1.0, 0.3, 0.5, 0.8, 0.0, 1.0, 0.7, 0.5, 1.0)
    for (x_t, x0, noise, t, s, schedule), kappa in zip(_strides(rng), kappas, strict=True):
        args = {"x_t": x_t, "x0": x0, "t": t, "s": s, "noise": noise, "schedule": schedule, "kappa": kappa}
        cases.append(Case(args, label=f"{_way(schedule, t, s)}, kappa {kappa}"))
    return cases


def _ancestral_parts(x_t, x0, t, s, schedule):
    now, after = _alpha_bars(schedule, t, s)
    alpha = now / after
    mean = after**0.5 * (1 - alpha) / (1 - now) * x0 + alpha**0.5 * (1 - after) / (1 - now) * x_t
    return mean, (1 - after) / (1 - now) * (1 - alpha), 1 - alpha


def _ancestral_variance(x_t, x0, t, s, noise, schedule, kappa=0.0):
    mean, small, beta = _ancestral_parts(x_t, x0, t, s, schedule)
    return mean + (small ** (1 - kappa) * beta**kappa if s else 0.0) * noise


def _ancestral_product(x_t, x0, t, s, noise, schedule, kappa=0.0):
    mean, small, beta = _ancestral_parts(x_t, x0, t, s, schedule)
    return mean * (small ** (1 - kappa) * beta**kappa) ** 0.5 * noise if s else mean


def _ancestral_noise_at_end(x_t, x0, t, s, noise, schedule, kappa=0.0):
    mean, small, beta = _ancestral_parts(x_t, x0, t, s, schedule)
    return mean + (small ** (1 - kappa) * beta**kappa) ** 0.5 * noise


def _ancestral_arithmetic(x_t, x0, t, s, noise, schedule, kappa=0.0):
    mean, small, beta = _ancestral_parts(x_t, x0, t, s, schedule)
    return mean + (((1 - kappa) * small + kappa * beta) ** 0.5 if s else 0.0) * noise


def _ancestral_turned_round(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return _ancestral_step(x_t, x0, t, s, noise, schedule, 1 - kappa)


def _ancestral_mean(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return _ancestral_step(x_t, x0, t, s, 0 * noise, schedule, kappa)


def _ancestral_without_kappa(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return _ancestral_step(x_t, x0, t, s, noise, schedule)


def _ancestral_exchanged(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return _ancestral_step(x0, x_t, t, s, noise, schedule, kappa)


def _ancestral_silent_at_1(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return _ancestral_step(x_t, x0, t, s, noise if s > 1 else 0 * noise, schedule, kappa)


def _ancestral_silent_from_1(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return (_ancestral_noise_at_end if t > 1 else _ancestral_step)(x_t, x0, t, s, noise, schedule, kappa)


def _ancestral_clipped(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return _ancestral_step(x_t, x0.clamp(-1, 1), t, s, noise, schedule, kappa)


def _ancestral_one_beta(x_t, x0, t, s, noise, schedule, kappa=0.0):
    mean, small, _ = _ancestral_parts(x_t, x0, t, s, schedule)
    beta = schedule.beta[t]
    return mean + ((small ** (1 - kappa) * beta**kappa) ** 0.5 if s else 0.0) * noise


def _ancestral_afresh(x_t, x0, t, s, noise, schedule, kappa=0.0):
    _, after = _alpha_bars(schedule, t, s)
    return after**0.5 * x0 + (1 - after) ** 0.5 * noise


quiz(
    "sampling/ancestral-step",
    points=4,
    minutes=6,
    equation="6.1",
    title="Stage 1: one step back",
    reference=_ancestral_step,
    library=(ddpm, ddim, dpm_solver, solvers._multistep),
    answered_by=("sampling/ddim-step",),
    cases=_ancestral_cases,
    misconceptions=[
        Misconception(
            "variance for standard deviation",
            _ancestral_variance,
            "σ² is a variance; noise is stretched by its root.",
        ),
        Misconception(
            "a product where a sum belongs",
            _ancestral_product,
            "The noise is *added* to the mean: mean + σ · noise.",
        ),
        Misconception(
            "noise at the last step",
            _ancestral_noise_at_end,
            "At s = 0 the image is finished: return the mean there, whatever σ is.",
        ),
        Misconception(
            "no noise on the way to step 1",
            _ancestral_silent_at_1,
            "x_1 still has noise in it. Only the stride that ends at 0 adds none: the condition is s == 0.",
        ),
        Misconception(
            "no noise only where the stride begins at 1",
            _ancestral_silent_from_1,
            "What counts is where a stride *ends*. A long one, from 10 to 0 say, ends at the image as well.",
        ),
        Misconception(
            "the guess clipped",
            _ancestral_clipped,
            "Right, but for the guess, which you clip to [-1, 1]. Take it as it comes: clipping is a matter of the "
            "denoiser.",
        ),
        Misconception(
            "shares of the variances, not of their logarithms",
            _ancestral_arithmetic,
            "(6.2) is a product of powers: β̃ to the power 1 − κ, times β to the power κ.",
        ),
        Misconception(
            "κ the wrong way round",
            _ancestral_turned_round,
            "kappa = 0 is the posterior's variance, kappa = 1 is β.",
        ),
        Misconception(
            "β of a single step for a long stride",
            _ancestral_one_beta,
            "From t to s the noise that was added is 1 − ᾱ_t/ᾱ_s. That is schedule.beta[t] only if s = t − 1.",
        ),
        Misconception(
            "no noise at all",
            _ancestral_mean,
            "That is the mean alone. Every stride but the one that ends at 0 adds noise to it: σ · noise.",
        ),
        Misconception(
            "κ not used",
            _ancestral_without_kappa,
            "Your variance is the posterior's whatever kappa is. (6.2) has β to the power κ in it as well.",
        ),
        Misconception(
            "x_t and the guess exchanged",
            _ancestral_exchanged,
            "x_t and x0 have changed places: it is `schedule.posterior(x0, x_t, ...)`, the clean image first.",
        ),
        Misconception(
            "noised afresh",
            _ancestral_afresh,
            "√ᾱ_s x̂_0 + √(1−ᾱ_s) z throws x_t away. The posterior's mean keeps a share of it.",
        ),
    ],
    hints=[
        "Three things in order: the posterior's mean and variance, the variance that you want, the noise.",
        "`schedule.posterior(x0, x_t, at, to)` is (3.8) for any stride; `at` and `to` are tensors (b,), such as "
        "`torch.full((len(x_t),), t, device=x_t.device)`.",
        "Which of (6.2) does the posterior already give you? The other is 1 − ᾱ_t/ᾱ_s, from `schedule.alpha_bar`. At "
        "which s is no noise wanted, whatever κ is?",
        "`variance = small ** (1 - kappa) * beta**kappa`; `if s == 0: return mean`, else "
        "`return mean + variance.sqrt() * noise`",
    ],
    passed="Everything in this step was known before any network was trained, except the guess. The rule at s = 0 is "
    "free with β̃, which is 0 there, and has to be written down with β.",
    explanation="""
    Everything but the guess was known before any network was trained. With kappa = 0 the rule for the last step comes
    for free, since the posterior's variance is 0 there; with β it has to be said.
    """,
)


def _timesteps(T, steps):
    return library.cosine_schedule(T).timesteps(steps)


def _numbers_of_steps(rng: torch.Generator) -> list[Case]:
    """Never a T · (steps − k) / steps half-way between two whole numbers: these may be rounded up or down."""
    pairs = [(1000, 4), (1000, 7), (50, 50), (10, 3), (1000, 1), (200, 30), (4000, 21), (1, 1), (11, 9), (16, 2)]
    T = 100 + int(torch.randint(100, (), generator=rng))
    return [Case({"T": T, "steps": steps}) for T, steps in [*pairs, (T, 3)]]


def _timesteps_truncated(T, steps):
    return [T * (steps - k) // steps for k in range(steps + 1)]


def _timesteps_without_zero(T, steps):
    return _timesteps(T, steps)[:-1]


def _timesteps_leading(T, steps):
    return [*(t - T // steps for t in _timesteps(T, steps)[:-1]), 0]


def _timesteps_rising(T, steps):
    return _timesteps(T, steps)[::-1]


def _timesteps_one_short(T, steps):
    return [round(t) for t in torch.linspace(T, 0, steps, dtype=torch.float64).tolist()]


def _timesteps_to_one(T, steps):
    return [*_timesteps(T, steps)[:-1], 1]


def _timesteps_as_floats(T, steps):
    return [float(t) for t in _timesteps(T, steps)]


def _timesteps_not_rounded(T, steps):
    return [T * (steps - k) / steps for k in range(steps + 1)]


def _timesteps_by_whole_strides(T, steps):
    return list(range(T, -1, -(T // steps)))


quiz(
    "sampling/timesteps",
    points=2,
    minutes=3,
    equation="6.3",
    title="Stage 2: where to stop",
    reference=_timesteps,
    library=(library.Schedule.timesteps, timesteps),
    cases=_numbers_of_steps,
    misconceptions=[
        Misconception(
            "the 0 is missing",
            _timesteps_without_zero,
            "The last stride leads to 0: `steps` strides have steps + 1 ends.",
        ),
        Misconception(
            "one stride short",
            _timesteps_one_short,
            "linspace(T, 0, n) has n points and n − 1 strides: ask for steps + 1.",
        ),
        Misconception(
            "begun below T",
            _timesteps_leading,
            "The walk starts from pure noise, and that is x_T. Begin with T (some libraries don't: Lin et al. 2024).",
        ),
        Misconception("rising", _timesteps_rising, "Sampling goes down: T first, 0 last."),
        Misconception("ended at 1", _timesteps_to_one, "At t = 1 there is still noise. The end is 0."),
        Misconception(
            "rounded down", _timesteps_truncated, "`//` and `int` round down; (6.3) takes the nearest: `round`."
        ),
        Misconception(
            "whole numbers as floats",
            _timesteps_as_floats,
            "The numbers are right, but steps are counted: they must be whole numbers (int). Python's own `round(x)` "
            "gives one; NumPy's and torch's leave a float, around which `int(...)` goes.",
        ),
        Misconception(
            "not rounded",
            _timesteps_not_rounded,
            "T · (steps − k) / steps isn't a step yet: (6.3) takes the nearest whole number, `round(...)`.",
        ),
        Misconception(
            "strides of one whole length",
            _timesteps_by_whole_strides,
            "If steps doesn't divide T, strides of T // steps are too many, and the last may miss 0.",
        ),
    ],
    hints=[
        "Which two numbers must be in the list whatever `steps` is?",
        "`steps` strides have steps + 1 ends: k runs from 0 to steps.",
        "Python's `round` gives a whole number; `//` and `int` round down.",
        "`[round(T * (steps - k) / steps) for k in range(steps + 1)]`",
    ],
    passed="K strides have K + 1 ends. The two that get lost in practice are T, since a walk starts from x_T, and 0, "
    "since an image is x_0.",
    explanation="""
    The two ends are the part that gets lost in practice: T, because the noise that a walk starts from is x_T and
    nothing else; and 0, because an image is x_0.
    """,
)


def _walk(step, denoise, schedule, x, times, draw, y=None):
    trail = [(times[0], x, None)]
    for t, s in pairwise(times):
        x0 = denoise(x, _full(x, t), y)
        x = step(x, x0, t, s, draw(x), schedule)
        trail.append((s, x, x0))
    return trail


def _walk_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, curve, T, times, classes, dtype in (
        (4, (1, 3, 5), "linear", 20, [20, 13, 0], True, torch.float32),
        (3, (2, 4, 3), "cosine", 50, [50, 41, 30, 12, 5, 1], False, torch.float64),
        (1, (1, 6, 2), "quadratic", 12, [12, 0], False, torch.float64),
        (2, (3, 2, 4), "constant", 9, [*range(9, -1, -1)], True, torch.float64),
        (3, (2, 4, 3), "linear", 50, [50, 41, 30, 12, 5, 1], False, torch.float64),  # as the second, another schedule
    ):
        x = torch.randn(b, *shape, generator=rng, dtype=dtype)
        y = torch.randint(4, (b,), generator=rng) if classes else None
        both, seed = {"curve": curve, "T": T}, int(torch.randint(1000, (), generator=rng))
        args = {"step": Fixture("sampling/step"), "denoise": Fixture("sampling/denoise", **both)}
        args |= {"schedule": Fixture("sampling/schedule", **both), "x": x, "times": times}
        label = f"along {times[0]}, {times[1]} … {times[-1]}, {'with' if classes else 'without'} labels"
        cases.append(Case(args | {"draw": Fixture("sampling/draw", seed=seed), "y": y}, label=label))
    return cases


def _walk_without_labels(step, denoise, schedule, x, times, draw, y=None):
    return _walk(step, denoise, schedule, x, times, draw)


def _walk_asked_at_s(step, denoise, schedule, x, times, draw, y=None):
    trail = [(times[0], x, None)]
    for t, s in pairwise(times):
        x0 = denoise(x, _full(x, max(s, 1)), y)
        x = step(x, x0, t, s, draw(x), schedule)
        trail.append((s, x, x0))
    return trail


def _walk_one_noise(step, denoise, schedule, x, times, draw, y=None):
    noise = draw(x)
    return _walk(step, denoise, schedule, x, times, lambda x: noise, y)


def _walk_guess_of_the_start(step, denoise, schedule, x, times, draw, y=None):
    guess = denoise(x, _full(x, times[0]), y)
    return _walk(step, lambda x, t, y: guess, schedule, x, times, draw, y)


def _walk_labelled_by_t(step, denoise, schedule, x, times, draw, y=None):
    trail = _walk(step, denoise, schedule, x, times, draw, y)
    return [(t, x, x0) for t, (_, x, x0) in zip([times[0], *times], trail)]


def _walk_without_its_start(step, denoise, schedule, x, times, draw, y=None):
    return _walk(step, denoise, schedule, x, times, draw, y)[1:]


def _walk_images_only(step, denoise, schedule, x, times, draw, y=None):
    return _walk(step, denoise, schedule, x, times, draw, y)[-1][1]


def _walk_guess_too_early(step, denoise, schedule, x, times, draw, y=None):
    trail = _walk(step, denoise, schedule, x, times, draw, y)
    guesses = [x0 for _, _, x0 in trail[1:]]
    return [(t, x, x0) for (t, x, _), x0 in zip(trail, [*guesses, guesses[-1]])]


def _walk_guess_before_its_stride(step, denoise, schedule, x, times, draw, y=None):
    trail = _walk(step, denoise, schedule, x, times, draw, y)
    return [(t, x, x0) for (t, x, _), x0 in zip(trail, [*(x0 for _, _, x0 in trail[1:]), None])]


quiz(
    "sampling/walk",
    points=5,
    minutes=6,
    equation="6.1",
    title="Stage 3: the whole loop",
    reference=_walk,
    library=(ddpm, ddim, dpm_solver, solvers.sample_loop),
    cases=_walk_cases,
    misconceptions=[
        Misconception(
            "the labels forgotten", _walk_without_labels, "`y` has to reach the denoiser, as its third argument."
        ),
        Misconception(
            "asked at the end of the stride",
            _walk_asked_at_s,
            "The guess is made where the stride *begins*: x is at level t, so the network is told t.",
        ),
        Misconception(
            "one noise for all strides",
            _walk_one_noise,
            "Each stride wants noise of its own: call `draw(x)` inside the loop.",
        ),
        Misconception(
            "asked only once",
            _walk_guess_of_the_start,
            "The network is asked anew at every stride, about the x of that moment.",
        ),
        Misconception(
            "each x under the step before", _walk_labelled_by_t, "After the stride from t to s the image is at s."
        ),
        Misconception(
            "the start left out",
            _walk_without_its_start,
            "The trail begins with the start itself, (times[0], x, None): K strides, K + 1 entries.",
        ),
        Misconception(
            "only the end", _walk_images_only, "Return the whole trail, a list of (t, x_t, guess): we want to look."
        ),
        Misconception(
            "each guess one entry early",
            _walk_guess_too_early,
            "The guess in an entry is the one that *led* there. At the start there is none yet: None.",
        ),
        Misconception(
            "each guess where it was asked for",
            _walk_guess_before_its_stride,
            "Your guesses stand with the x that was asked about. Each belongs to the entry that it *led* to, one "
            "later: None at the start, and the last one with the finished image.",
        ),
    ],
    hints=[
        "The trail has one entry more than there are strides. What is known before the first stride?",
        "`pairwise(times)` gives the strides: (t, s), one after another.",
        "In each stride: ask the denoiser at t, take the step with fresh noise, remember. t goes in as a tensor (b,).",
        "`x0 = denoise(x, torch.full((len(x),), t, device=x.device), y)`, then "
        "`x = step(x, x0, t, s, draw(x), schedule)`, then `trail.append((s, x, x0))`.",
    ],
    passed="This loop is all of Algorithm 2, and of most samplers since: they differ in the step. It runs the rest of "
    "your notebook.",
    explanation="""
    The loop knows nothing of the step, and the step nothing of the loop. That is why one loop serves ancestral sampling
    and DDIM, and why a sampler can be changed without touching the network.
    """,
)

# ------------------------------------------------------------------------------------------------------ 6.2 · a ruler

concept(
    "sampling/one-seed",
    title="One number each",
    question="""
    Two samplers draw 100 images each, with one seed. Against the same test images the first has d² = 5.9, the second
    5.1. What do you write?
    """,
    options={
        "a": Option(
            "The second is better, for a Fréchet distance averages over images.",
            "It does average, over a hundred images. How much that average moves with another hundred is not known "
            "yet.",
        ),
        "b": Option(
            "The second is better by 14 %, since both face the same test images.",
            "The test images are the same; the samples are not. Each set of 100 is a draw, and so is its d².",
        ),
        "c": Option(
            "Nothing yet: first see how far d² moves from one seed to the next.",
            "Right. A difference means something only beside the spread of what is compared, and that takes a few "
            "seeds.",
            right=True,
        ),
        "d": Option(
            "Nothing yet: first measure both again, against other test images.",
            "Other test images move both numbers much alike. What may have been luck is which 100 images each sampler "
            "drew, and these stay the same.",
        ),
    },
)


# --------------------------------------------------------------------------------- 6.3 · three samplers off the shelf


def _product_step(x_t, x0, t, noise, schedule):
    mean, variance = schedule.posterior(x0, x_t, _full(x_t, t))
    return mean + variance.sqrt() * noise


def _single_steps(rng: torch.Generator) -> list[Case]:
    cases = []
    for x_t, x0, noise, t, _, schedule in _strides(rng):
        args = {"x_t": x_t, "x0": x0, "t": t, "noise": noise, "schedule": schedule}
        cases.append(Case(args, label=_way(schedule, t, t - 1)))
    return cases


def _product_variance(x_t, x0, t, noise, schedule):
    mean, variance = schedule.posterior(x0, x_t, _full(x_t, t))
    return mean + variance * noise


def _product_added(x_t, x0, t, noise, schedule):
    mean, variance = schedule.posterior(x0, x_t, _full(x_t, t))
    return mean + variance.sqrt() + noise


quiz(
    "sampling/sampler-b",
    points=2,
    minutes=4,
    equation="6.1",
    title="Bug hunt: sampler B",
    bug_hunt=True,
    reference=_product_step,
    library=(ddpm, ddim, dpm_solver, solvers._multistep),
    answered_by=("sampling/ancestral-step", "sampling/ddim-step"),
    cases=_single_steps,
    misconceptions=[
        Misconception(
            "as it was handed out",
            pitfalls.step_b,
            "A Gaussian draw is mean *plus* standard deviation times noise. As it stands the image is multiplied by "
            "noise.",
        ),
        Misconception(
            "variance for standard deviation", _product_variance, "The variance was right; its root is lost."
        ),
        Misconception(
            "a sum too many",
            _product_added,
            "The standard deviation *stretches* the noise: a product there, a sum here.",
        ),
    ],
    hints=[
        "Check the mean first: put x0 = x_t = 1 and noise = 0 into the whole function. What should come out?",
        "What does a whole walk give with all noise set to 0? Something must then be left of the guesses.",
        "How do you draw from N(μ, σ²) if you have z from N(0, 1)? Compare with the last line.",
        "Of the two multiplication signs in the last line one is right: `mean + sigma * noise`.",
    ],
    passed="A draw from a Gaussian is mean plus σ times noise. Noise set to 0 finds such a bug in a second: the "
    "mean must be left.",
    explanation="""
    The shapes fit, nothing is NaN, and the samples are a grey nothing: the mean is multiplied by a small number with a
    random sign in every step, so nothing of the image survives from one step to the next.
    """,
)


def _full_walk(denoise, schedule, x, draws):
    for t in range(schedule.T, 0, -1):
        at = _full(x, t)
        mean, variance = schedule.posterior(denoise(x, at), x, at)
        x = mean + variance.sqrt() * draws[t]
    return x


def _walks(rng: torch.Generator) -> list[Case]:
    cases = []  # a short one first, which is the one that runs on another device too, and slowly there
    for b, shape, curve, T, dtype in (
        (4, (2, 3, 4), "linear", 2, torch.float32),
        (3, (1, 4, 6), "cosine", 12, torch.float64),
        (2, (3, 5, 2), "linear", 60, torch.float32),  # long enough for what is said of a share of all steps
        (1, (1, 3, 5), "cosine", 1, torch.float64),
        (2, (1, 5, 3), "quadratic", 12, torch.float64),  # as long as the second, on another schedule
    ):
        both = {"curve": curve, "T": T}
        x = torch.randn(b, *shape, generator=rng, dtype=dtype)
        draws = torch.randn(T + 1, b, *shape, generator=rng, dtype=dtype)
        args = {"denoise": Fixture("sampling/denoise", **both), "schedule": Fixture("sampling/schedule", **both)}
        cases.append(Case(args | {"x": x, "draws": draws}, label=f"{b} images {shape}, T = {T}, {curve}"))
    return cases


def _walk_starts_late(denoise, schedule, x, draws):
    for t in range(schedule.T - 1, 0, -1):
        at = _full(x, t)
        mean, variance = schedule.posterior(denoise(x, at), x, at)
        x = mean + variance.sqrt() * draws[t]
    return x


def _walk_upwards(denoise, schedule, x, draws):
    for t in range(1, schedule.T + 1):
        at = _full(x, t)
        mean, variance = schedule.posterior(denoise(x, at), x, at)
        x = mean + variance.sqrt() * draws[t]
    return x


quiz(
    "sampling/sampler-a",
    points=2,
    minutes=4,
    equation="6.1",
    title="Bug hunt: sampler A",
    bug_hunt=True,
    reference=_full_walk,
    library=(ddpm, ddim, dpm_solver, solvers._multistep),
    cases=_walks,
    misconceptions=[
        Misconception(
            "as it was handed out",
            pitfalls.sampler_a,
            "It still ends with x_1, which has noise in it. Which t are visited? `list(range(5, 1, -1))` tells you.",
        ),
        Misconception(
            "the first step left out",
            _walk_starts_late,
            "Now T is missing: x is pure noise, which is x_T, not x_{T−1}.",
        ),
        Misconception("upwards", _walk_upwards, "The way goes from T down to 1."),
    ],
    hints=[
        "Every line inside the loop is right. Grain that is left over: which step should have removed it?",
        "T steps lead from x_T to x_0. How many does this loop take?",
        "Print `list(range(5, 1, -1))`: which t is missing?",
        "`range(a, b, -1)` stops *before* b: `range(schedule.T, 0, -1)`.",
    ],
    passed="T steps lead from x_T to x_0, and the last one only removes noise.",
    explanation="""
    `range(T, 1, -1)` has T − 1 entries: the step from x_1 to x_0, which adds nothing and only removes, never happens.
    """,
)


def _beta_walk(denoise, schedule, x, draws):
    for t in range(schedule.T, 0, -1):
        at = _full(x, t)
        mean, _ = schedule.posterior(denoise(x, at), x, at)
        sigma = schedule.beta[t].sqrt().to(x.dtype)
        noise = draws[t] if t > 1 else torch.zeros_like(x)
        x = mean + sigma * noise
    return x


def _beta_walk_one_early(denoise, schedule, x, draws):
    for t in range(schedule.T, 0, -1):
        at = _full(x, t)
        mean, _ = schedule.posterior(denoise(x, at), x, at)
        x = mean + schedule.beta[t].sqrt().to(x.dtype) * (draws[t] if t > 2 else 0)
    return x


def _beta_walk_silent(denoise, schedule, x, draws):
    return _beta_walk(denoise, schedule, x, torch.zeros_like(draws))


def _beta_walk_silent_at_T(denoise, schedule, x, draws):
    return pitfalls.sampler_c(denoise, schedule, x, torch.cat([draws[:-1], 0 * draws[-1:]]))


def _beta_walk_cut(denoise, schedule, x, draws):
    for t in range(schedule.T, 1, -1):
        at = _full(x, t)
        mean, _ = schedule.posterior(denoise(x, at), x, at)
        x = mean + schedule.beta[t].sqrt().to(x.dtype) * draws[t]
    return x


quiz(
    "sampling/sampler-c",
    points=2,
    minutes=4,
    equation="6.1",
    title="Bug hunt: sampler C",
    bug_hunt=True,
    reference=_beta_walk,
    library=(ddpm,),
    cases=_walks,
    misconceptions=[
        Misconception(
            "as it was handed out",
            pitfalls.sampler_c,
            "The step from t = 1 leads to the finished image, and still adds noise of variance β_1 to it.",
        ),
        Misconception(
            "one step too early", _beta_walk_one_early, "The step from t = 2 leads to x_1, which *has* noise in it."
        ),
        Misconception(
            "never any noise",
            _beta_walk_silent,
            "Now no step adds noise. Only the last one, from t = 1, must be without.",
        ),
        Misconception(
            "no noise at the first step",
            _beta_walk_silent_at_T,
            "The way goes *down*: t = T is the first step of the loop, t = 1 the last.",
        ),
        Misconception(
            "the last step left out",
            _beta_walk_cut,
            "Leaving step 1 out avoids its noise, and its denoising with it. Keep the step, drop the noise.",
        ),
    ],
    hints=[
        "All T steps are taken, and mean and σ are those of (6.1) and (6.2) with κ = 1. What is left?",
        "Follow the very last pass through the loop, t = 1, line by line. What does it add to the finished image?",
        "In Algorithm 2 of the paper one line reads: z ~ N(0, I) if t > 1, else z = 0. For which t does the condition "
        "here hold?",
        "`draws[t] if t > 1 else torch.zeros_like(x)`",
    ],
    passed="With σ² = β the last step must be told to add nothing. The same grain as in sampler A, from the opposite "
    "mistake.",
    explanation="""
    With the posterior's variance the bug can't be made, since β̃_1 = 0. With σ_t² = β_t the last step would put back
    what it has just taken away.
    """,
)

concept(
    "sampling/sampler-a-samples",
    title="When the grain is seen",
    equation="6.1",
    question="""
    Sampler A's grain is plain to see on a walk of 20 steps. On one of 1,000 steps nobody has noticed it. Why?
    """,
    options={
        "a": Option(
            "The noise left is that of x_1, large only where steps are long.",
            "Right. Its standard deviation is $\\sqrt{1-\\bar\\alpha_1}$ of the schedule that is walked along: the "
            "last of 20 steps is as long as fifty of a thousand.",
            right=True,
        ),
        "b": Option(
            "With 20 steps the network's guesses are worse and hold noise themselves.",
            "Look at the lower row of the walk in 6.1: guesses are blurred where they are bad, never grainy.",
        ),
        "c": Option(
            "Each step adds noise that later ones remove, and 20 are too few for that.",
            "The walk takes the same total of noise away in 20 steps as in 1,000. Only the last portion is left here.",
        ),
        "d": Option(
            "The network learned to denoise over 1,000 steps and fails over long ones.",
            "It learned to guess the clean image at one noise level at a time, and knows nothing of steps.",
        ),
    },
)


concept(
    "sampling/sampler-b-samples",
    title="What another seed would change",
    equation="6.1",
    question="""
    You run sampler B as it was handed out again, with another seed and another trained network. What changes in the
    images?
    """,
    options={
        "a": Option(
            "Their shapes: each network leaves its own guesses in the mean.",
            "The guesses do stand in the mean. Follow them to the end: what is the mean multiplied by in the step "
            "to 0?",
        ),
        "b": Option(
            "Their grain: each seed multiplies the mean by its own noise.",
            "On the way it does. But the last step ends at s = 0, and its σ is not like the others.",
        ),
        "c": Option(
            "Their brightness: it follows the sign of the last noise drawn.",
            "The last noise is multiplied by σ as well, and that of the step to 0 is known.",
        ),
        "d": Option(
            "Nothing: the last step multiplies all of it by σ, which is 0.",
            "Right. $\\tilde\\beta$ is 0 where the step ends at the image, so every pixel comes out as exactly 0: "
            "mid-grey.",
            right=True,
        ),
    },
)


concept(
    "sampling/sampler-c-samples",
    title="The same bug, the other variance",
    equation="6.2",
    question="""
    Somebody takes sampler C as it was handed out and changes one thing: σ² is now the posterior's variance β̃. What
    will be seen of the bug on a walk of 20 steps?
    """,
    options={
        "a": Option(
            "The same grain, for the last step still adds its noise.",
            "It still adds σ z. But what is σ there, if it is the root of $\\tilde\\beta$?",
        ),
        "b": Option(
            "No grain at all, because β̃ is 0 at the last step, so nothing is added.",
            "Right. $\\tilde\\beta$ has the factor $1-\\bar\\alpha_s$, which is 0 at $s=0$. The bug is still in "
            "the code and waits for somebody who chooses β.",
            right=True,
        ),
        "c": Option(
            "Half of the grain, for β̃ is about half of β on long steps.",
            "The two differ by the factor $(1-\\bar\\alpha_s)/(1-\\bar\\alpha_t)$. Put $s=0$ into it.",
        ),
        "d": Option(
            "More grain, for β̃ takes away less in all the steps before.",
            "Which variance is chosen says how much is *added*; the last step takes away whatever is left.",
        ),
    },
)


# ----------------------------------------------------------------------------------------------- 6.4 · which variance


def _variance_before_the_end(step, schedule, times, std):
    variance = 1.0
    for t, s in pairwise(times[:-1]):
        a = schedule.alpha_bar[t].item()
        x_t = torch.tensor([1.0, 0.0], dtype=torch.float64).reshape(2, 1, 1, 1)
        guess = a**0.5 * std**2 / (a * std**2 + 1 - a) * x_t
        factor, sigma = step(x_t, guess, t, s, 1 - x_t, schedule).flatten().tolist()
        variance = factor**2 * variance + sigma**2
    a = schedule.alpha_bar[times[-2]].item()
    return variance / (a * std**2 + 1 - a)


def _variance_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for keep, curve, T, times, std in (
        (0.9, "cosine", 50, [50, 30, 10, 0], 1.0),
        (0.5, "linear", 200, [200, 150, 149, 60, 20, 0], 0.3),
        (1.0, "constant", 12, [12, 7, 0], 0.05),
        (0.7, "quadratic", 100, [100, 80, 55, 30, 5, 2, 0], 2.0),
        (0.9, "cosine", 40, [40, 0], 0.5),
    ):
        args = {"step": Fixture("sampling/step", keep=keep)}
        args |= {"schedule": Fixture("sampling/schedule", curve=curve, T=T), "times": times, "std": std}
        cases.append(Case(args, label=f"{len(times) - 1} strides of {curve}, data of std {std}"))
    return cases


def _variance_added(step, schedule, times, std, factor_of=lambda f: f**2, noise_of=lambda v: v**2, upto=-1):
    variance = 1.0
    for t, s in pairwise(times[:upto] if upto else times):
        a = schedule.alpha_bar[t].item()
        x_t = torch.tensor([1.0, 0.0], dtype=torch.float64).reshape(2, 1, 1, 1)
        guess = a**0.5 * std**2 / (a * std**2 + 1 - a) * x_t
        factor, sigma = step(x_t, guess, t, s, 1 - x_t, schedule).flatten().tolist()
        variance = factor_of(factor) * variance + noise_of(sigma)
    a = schedule.alpha_bar[times[-2]].item()
    return variance / (a * std**2 + 1 - a)


def _variance_factor_unsquared(step, schedule, times, std):
    return _variance_added(step, schedule, times, std, factor_of=lambda f: f)


def _variance_sigma_unsquared(step, schedule, times, std):
    return _variance_added(step, schedule, times, std, noise_of=lambda v: v)


def _variance_to_the_end(step, schedule, times, std):
    return _variance_added(step, schedule, times, std, upto=0)


def _variance_not_compared(step, schedule, times, std):
    a = schedule.alpha_bar[times[-2]].item()
    return _variance_before_the_end(step, schedule, times, std) * (a * std**2 + 1 - a)


def _variance_to_the_end_not_compared(step, schedule, times, std):
    a = schedule.alpha_bar[times[-2]].item()
    return _variance_to_the_end(step, schedule, times, std) * (a * std**2 + 1 - a)


def _variance_guess_is_x(step, schedule, times, std):
    return _variance_before_the_end(lambda x, x0, *given: step(x, x, *given), schedule, times, std)


quiz(
    "sampling/variance",
    points=4,
    minutes=10,
    equation="6.2",
    title="Walk a variance, not an image",
    reference=_variance_before_the_end,
    cases=_variance_cases,
    misconceptions=[
        Misconception(
            "the factor not squared",
            _variance_factor_unsquared,
            "If x is multiplied by a factor, its variance is multiplied by the factor's *square*.",
        ),
        Misconception("σ not squared", _variance_sigma_unsquared, "What the noise adds to the variance is σ², not σ."),
        Misconception(
            "one stride too many",
            _variance_to_the_end,
            "The last stride isn't taken: the variance is wanted where it *begins*, at times[-2].",
        ),
        Misconception(
            "not divided", _variance_not_compared, "Divide by the variance of noised data at times[-2]: ᾱ std² + 1 − ᾱ."
        ),
        Misconception(
            "the variance at the very end",
            _variance_to_the_end_not_compared,
            "That is the variance of the finished images. Two things are asked otherwise: stop where the last stride "
            "*begins*, and compare with noised data there.",
        ),
        Misconception(
            "x_t for the guess", _variance_guess_is_x, "The guess is gain · x_t, with the gain from the text, not x_t."
        ),
    ],
    hints=[
        "A number for the variance, 1 at the start, and a loop over all strides but the last.",
        "Each stride is x_s = factor · x_t + σ · z. If x_t has variance V, what has x_s?",
        "The step tells you both numbers: with x_t = 1 and noise 0 it returns the factor, with x_t = 0 and noise 1 it "
        "returns σ. Give it tensors (1, 1, 1, 1) in double precision, or both at once as (2, 1, 1, 1).",
        "`variance = factor**2 * variance + sigma**2`, and at the end divide by ᾱ std² + 1 − ᾱ at times[-2].",
    ],
    passed="A sampler of Gaussian data is a chain of linear maps: its variance follows without drawing a single "
    "number, "
    "and its errors can be seen exactly.",
    explanation="""
    With a perfect guess that is a multiple of $x_t$, every stride is linear. That is why the two extremes of (6.2) can
    be understood with a pencil: each is exact for one kind of data.
    """,
)

concept(
    "sampling/which-variance",
    title="Why it matters less and less",
    equation="6.2",
    question="""
    Neither $\\tilde\\beta_t$ nor $\\beta_t$ is exact for images. Why does the choice matter so much less with 1,000
    strides than with 10?
    """,
    options={
        "a": Option(
            "The network was trained with 1,000 steps and fits this walk best.",
            "It was trained at single noise levels and knows nothing of strides. In the toy there is no network at "
            "all, and the curves converge just the same.",
        ),
        "b": Option(
            "Over a thousand strides errors of both signs cancel on average.",
            "A variance that is too large is too large in every stride: errors of one sign don't cancel.",
        ),
        "c": Option(
            "On short strides the two are nearly equal, but for the last few.",
            "Right. Their ratio is $(1-\\bar\\alpha_s)/(1-\\bar\\alpha_t)$, near 1 if $s$ is near $t$. Only close "
            "to the image it isn't, and there both are tiny.",
            right=True,
        ),
        "d": Option(
            "With 1,000 strides both are practically 0, and no noise is added.",
            "Each is small, but a thousand of them add up. A walk without any noise is something else: see 6.5.",
        ),
    },
)


# --------------------------------------------------------------------------------------------------------- 6.5 · DDIM


def _ddim_step(x_t, x0, t, s, noise, schedule, eta=0.0):
    _, after, implied, variance = _ddim_parts(x_t, x0, t, s, schedule, eta)
    return after**0.5 * x0 + (1 - after - variance) ** 0.5 * implied + variance**0.5 * noise


def _ddim_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    etas = (0.7, 1.0, 0.7, 0.0, 1.0, 0.5, 0.3, 1.0, 1.0, 0.7, 1.0)
    for (x_t, x0, noise, t, s, schedule), eta in zip(_strides(rng), etas, strict=True):
        args = {"x_t": x_t, "x0": x0, "t": t, "s": s, "noise": noise, "schedule": schedule, "eta": eta}
        cases.append(Case(args, label=f"{_way(schedule, t, s)}, η = {eta}"))
    return cases


def _ddim_parts(x_t, x0, t, s, schedule, eta):
    now, after = _alpha_bars(schedule, t, s)
    return now, after, (x_t - now**0.5 * x0) / (1 - now) ** 0.5, eta**2 * (1 - after) / (1 - now) * (1 - now / after)


def _ddim_direction_not_shortened(x_t, x0, t, s, noise, schedule, eta=0.0):
    _, after, implied, variance = _ddim_parts(x_t, x0, t, s, schedule, eta)
    return after**0.5 * x0 + (1 - after) ** 0.5 * implied + variance**0.5 * noise


def _ddim_variance_for_sigma(x_t, x0, t, s, noise, schedule, eta=0.0):
    _, after, implied, variance = _ddim_parts(x_t, x0, t, s, schedule, eta)
    return after**0.5 * x0 + (1 - after - variance) ** 0.5 * implied + variance * noise


def _ddim_sigma_without_root(x_t, x0, t, s, noise, schedule, eta=0.0):
    now, after, implied, _ = _ddim_parts(x_t, x0, t, s, schedule, eta)
    sigma = eta * (1 - after) / (1 - now) * (1 - now / after)
    return after**0.5 * x0 + (1 - after - sigma**2) ** 0.5 * implied + sigma * noise


def _ddim_sigma_not_squared(x_t, x0, t, s, noise, schedule, eta=0.0):
    _, after, implied, variance = _ddim_parts(x_t, x0, t, s, schedule, eta)
    return after**0.5 * x0 + max(1 - after - variance**0.5, 0) ** 0.5 * implied + variance**0.5 * noise


def _ddim_swapped(x_t, x0, t, s, noise, schedule, eta=0.0):
    now, after, _, variance = _ddim_parts(x_t, x0, t, s, schedule, eta)
    implied = (x_t - after**0.5 * x0) / max(1 - after, 1e-12) ** 0.5
    return now**0.5 * x0 + (1 - now - variance) ** 0.5 * implied + variance**0.5 * noise


def _ddim_afresh(x_t, x0, t, s, noise, schedule, eta=0.0):
    _, after = _alpha_bars(schedule, t, s)
    return after**0.5 * x0 + (1 - after) ** 0.5 * noise


def _ddim_eta_on_variance(x_t, x0, t, s, noise, schedule, eta=0.0):
    return _ddim_step(x_t, x0, t, s, noise, schedule, eta**0.5)


def _ddim_without_eta(x_t, x0, t, s, noise, schedule, eta=0.0):
    return _ddim_step(x_t, x0, t, s, noise, schedule)


def _ddim_room_for_all(x_t, x0, t, s, noise, schedule, eta=0.0):
    _, after, implied, variance = _ddim_parts(x_t, x0, t, s, schedule, 1.0)
    return after**0.5 * x0 + (1 - after - variance) ** 0.5 * implied + eta * variance**0.5 * noise


def _ddim_beta(x_t, x0, t, s, noise, schedule, eta=0.0):
    now, after, implied, _ = _ddim_parts(x_t, x0, t, s, schedule, eta)
    variance = eta**2 * (1 - now / after)
    return after**0.5 * x0 + (1 - after - variance).clamp(min=0) ** 0.5 * implied + variance**0.5 * noise


def _ddim_silent_at_1(x_t, x0, t, s, noise, schedule, eta=0.0):
    return _ddim_step(x_t, x0, t, s, noise if s > 1 else 0 * noise, schedule, eta)


def _ddim_guess_at_1(x_t, x0, t, s, noise, schedule, eta=0.0):
    return _ddim_step(x_t, x0, t, s, noise, schedule, eta) if s > 1 else x0


def _ddim_clipped(x_t, x0, t, s, noise, schedule, eta=0.0):
    return _ddim_step(x_t, x0.clamp(-1, 1), t, s, noise, schedule, eta)


def _ddim_keeps_x_t(x_t, x0, t, s, noise, schedule, eta=0.0):
    _, after, _, variance = _ddim_parts(x_t, x0, t, s, schedule, eta)
    return after**0.5 * x0 + (1 - after - variance) ** 0.5 * x_t + variance**0.5 * noise


quiz(
    "sampling/ddim-step",
    points=4,
    minutes=5,
    equation="6.4",
    title="One DDIM step",
    reference=_ddim_step,
    library=(ddim, dpm_solver, solvers._multistep, Stride),
    cases=_ddim_cases,
    misconceptions=[
        Misconception(
            "the old noise not made room for",
            _ddim_direction_not_shortened,
            "With σ > 0 the old noise keeps only 1 − ᾱ_s − σ² of the variance, or x_s has more noise than its level.",
        ),
        Misconception(
            "variance for standard deviation", _ddim_variance_for_sigma, "Fresh noise is stretched by σ, not by σ²."
        ),
        Misconception(
            "β̃ for its root",
            _ddim_sigma_without_root,
            "Your σ is η times β̃, a variance. (6.5) has a root over it; both of your noise terms follow from that σ.",
        ),
        Misconception(
            "σ not squared under the root", _ddim_sigma_not_squared, "Variances are subtracted: 1 − ᾱ_s − σ²."
        ),
        Misconception(
            "ᾱ_s and ᾱ_t exchanged",
            _ddim_swapped,
            "Take the image out of x_t with ᾱ_t, the level where it is; put it back with ᾱ_s, the level it goes to.",
        ),
        Misconception(
            "all the noise fresh",
            _ddim_afresh,
            "That throws the noise in x_t away. DDIM keeps it: ε̂ is read off x_t, and used again.",
        ),
        Misconception("η² taken for η", _ddim_eta_on_variance, "(6.5) has η in front of the standard deviation."),
        Misconception("x_t in the place of its noise", _ddim_keeps_x_t, "The second term is ε̂, (5.7), not x_t itself."),
        Misconception(
            "η not used",
            _ddim_without_eta,
            "That is right for η = 0 alone: σ of (6.5) has eta in front, and with it comes fresh noise.",
        ),
        Misconception(
            "room made as if η were 1",
            _ddim_room_for_all,
            "Under the root stands the σ² that is added, η and all: 1 − ᾱ_s − σ².",
        ),
        Misconception(
            "β for the posterior's variance",
            _ddim_beta,
            "σ² is η² times β̃, the posterior's variance: (1 − ᾱ_s)/(1 − ᾱ_t) is missing from yours.",
        ),
        Misconception(
            "no fresh noise on the way to step 1",
            _ddim_silent_at_1,
            "x_1 has noise in it, and with η > 0 some of it is fresh. No s needs a condition: at s = 0 σ is 0 by "
            "itself.",
        ),
        Misconception(
            "the guess returned at step 1",
            _ddim_guess_at_1,
            "x_1 isn't the image yet: (6.4) holds there too. No s needs a condition: at s = 0 it gives the guess by "
            "itself.",
        ),
        Misconception(
            "the guess clipped",
            _ddim_clipped,
            "Right, but for the guess, which you clip to [-1, 1]. Take it as it comes: clipping is a matter of the "
            "denoiser.",
        ),
    ],
    hints=[
        "Three terms: the guess, the noise you had, fresh noise. Which level belongs to which?",
        "First the noise ε̂ that the guess leaves over, (5.7): (x_t − √ᾱ_t x̂_0) / √(1 − ᾱ_t).",
        "σ is η times the root of β̃. The old noise gets what variance is left: its square and σ² add up to 1 − ᾱ_s.",
        "`alpha_bar_s**0.5 * x0 + (1 - alpha_bar_s - sigma**2) ** 0.5 * eps + sigma * noise`",
    ],
    passed="Guess the image, keep the noise, mix both again for the next level. At s = 0 nothing but the guess "
    "is left, "
    "with any η, and no special case is needed.",
    explanation="""
    Guess the image, keep the noise, and mix both again for the next level. At s = 0 nothing but the guess is left, with
    any η, and no special case is needed.
    """,
)

concept(
    "sampling/same-noise",
    title="The same noise, other strides",
    equation="6.4",
    question="""
    You draw 100 images with η = 0 and 20 strides, and again, from the *same* noise, with 100 strides. Then you do both
    with η = 1. What do you expect?
    """,
    options={
        "a": Option(
            "η = 0: nearly the same images twice. η = 1: other ones.",
            "Right. Without fresh noise the start decides everything, and strides only say how exactly the same "
            "way is walked. With it, chance along the way decides as well.",
            right=True,
        ),
        "b": Option(
            "Other images in both cases: more strides, other results.",
            "More strides change the *accuracy*. With η = 0 there is one curve that all of them approximate.",
        ),
        "c": Option(
            "The same images in both cases, as the start is.",
            "With η = 1 every stride adds noise of its own. The start is forgotten on the way.",
        ),
        "d": Option(
            "η = 0: one image a hundred times. η = 1: different images.",
            "The start is still random: a hundred different starts lead to a hundred images.",
        ),
    },
)


def _eta_walk(denoise, schedule, x, draws, eta=0.0):
    for t in range(schedule.T, 0, -1):
        x = _ddim_step(x, denoise(x, _full(x, t)), t, t - 1, draws[t], schedule, eta)
    return x


def _eta_walks(rng: torch.Generator) -> list[Case]:
    etas = (1.0, 0.5, 0.8, 1.0, 0.0)
    cases = zip(_walks(rng), etas, strict=True)
    return [Case({**case.args, "eta": eta}, label=f"{case.label}, η = {eta}") for case, eta in cases]


def _eta_no_room(denoise, schedule, x, draws, eta=0.0):
    for t in range(schedule.T, 0, -1):
        x = _ddim_direction_not_shortened(x, denoise(x, _full(x, t)), t, t - 1, draws[t], schedule, eta)
    return x


def _eta_variance(denoise, schedule, x, draws, eta=0.0):
    for t in range(schedule.T, 0, -1):
        x = _ddim_variance_for_sigma(x, denoise(x, _full(x, t)), t, t - 1, draws[t], schedule, eta)
    return x


def _eta_silent(denoise, schedule, x, draws, eta=0.0):
    return _eta_walk(denoise, schedule, x, draws, 0.0)


def _eta_beta(denoise, schedule, x, draws, eta=0.0):
    for t in range(schedule.T, 0, -1):
        x = _ddim_beta(x, denoise(x, _full(x, t)), t, t - 1, draws[t], schedule, eta)
    return x


quiz(
    "sampling/sampler-d",
    points=4,
    minutes=6,
    equation="6.4",
    title="Bug hunt: sampler D",
    bug_hunt=True,
    reference=_eta_walk,
    library=(ddpm, ddim, dpm_solver, solvers._multistep, Stride),
    answered_by=("sampling/ddim-step",),
    cases=_eta_walks,
    misconceptions=[
        Misconception(
            "as it was handed out",
            pitfalls.sampler_d,
            "With η = 0 it is right. With η > 0 add up the variances of the two noise terms: do they make 1 − ᾱ_s?",
        ),
        Misconception(
            "no room made at all",
            _eta_no_room,
            "Now the old noise keeps all of 1 − ᾱ_s and σ² comes on top. The two variances must *add up* to 1 − ᾱ_s.",
        ),
        Misconception(
            "fresh noise by its variance",
            _eta_variance,
            "The radicand is right now, but the fresh noise was right before: it is stretched by σ.",
        ),
        Misconception(
            "fresh noise left out",
            _eta_silent,
            "Without fresh noise that is DDIM for every η. Keep η and σ as they were.",
        ),
        Misconception(
            "another σ", _eta_beta, "σ was right: η times the root of β̃. Look at what is made of it afterwards."
        ),
    ],
    hints=[
        "η = 0 is right at every t. Which lines don't matter as long as σ is 0?",
        "x_s is a sum of the guess and two noises that are independent. What is the variance of the noise in x_s, and "
        "what should it be?",
        "Take the clamp away and print the radicand. Variances are subtracted from variances: what is σ?",
        "`kept = (1 - after - sigma**2).clamp(min=0).sqrt()`; the clamp is then never needed.",
    ],
    passed="Old and fresh noise must add up to the variance of the level, 1 − ᾱ_s. A clamp under a root turns an "
    "impossible number into a quiet one: look at what it would have caught before you add it.",
    explanation="""
    σ where σ² belongs. Near the image $1-\\bar\\alpha_s-\\sigma$ is negative, which would have been a NaN in the first
    test; the clamp makes a 0 of it. With η = 0 nothing is wrong, so a test with DDIM passes.
    """,
)

concept(
    "sampling/sampler-d-samples",
    title="Where the prints went",
    equation="6.4",
    question="""
    With η = 0 sampler D was right, with η > 0 it drew smooth shapes without print, fold or stitch. How did its mistake
    lead there?
    """,
    options={
        "a": Option(
            "Its fresh noise σz was too strong, and the network smoothed it away together with the prints.",
            "σ itself was right, and so was the fresh noise. Look at what it is subtracted from.",
        ),
        "b": Option(
            "x_s held less noise than its level says, and the network took texture for noise.",
            "Right. The variance came out as $1-\\bar\\alpha_s-\\sigma+\\sigma^2$, too little as long as σ < 1. "
            "The network is told a level and removes as much as belongs to it: what else is fine-grained goes too.",
            right=True,
        ),
        "c": Option(
            "The clamp cut off what lies beyond [−1, 1], and with it the bright details of every print.",
            "The clamp acts on one number, the radicand, and on no pixel. What it does is to hide that the number "
            "is negative.",
        ),
        "d": Option(
            "It kept too much of the old noise, so that each image became a mean over several walks.",
            "It kept too *little* of the old noise. And no step ever averages over walks.",
        ),
    },
)


# ---------------------------------------------------------------------------------------- 6.6 · a code for each image


def _encode(denoise, schedule, image, times):
    x = image
    for t, s in pairwise(times):
        x0 = denoise(x, _full(x, t))
        _, after = _alpha_bars(schedule, t, s)
        x = after**0.5 * x0 + (1 - after) ** 0.5 * library.predict_noise(schedule, x0, x, _full(x, t))
    return x


def _encode_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, curve, T, times, dtype in (
        (3, (1, 4, 5), "linear", 30, [1, 12, 30], torch.float32),
        (2, (2, 3, 4), "cosine", 50, [1, 5, 20, 33, 50], torch.float64),
        (1, (1, 2, 6), "quadratic", 20, [2, 20], torch.float64),
        (4, (3, 2, 3), "constant", 8, [*range(1, 9)], torch.float64),
        (2, (2, 3, 4), "linear", 50, [1, 5, 20, 33, 50], torch.float64),  # as the second, on another schedule
    ):
        image = 2 * torch.rand(b, *shape, generator=rng, dtype=dtype) - 1
        both = {"curve": curve, "T": T}
        args = {"denoise": Fixture("sampling/denoise", **both), "schedule": Fixture("sampling/schedule", **both)}
        cases.append(Case(args | {"image": image, "times": times}, label=f"up {times[:3]} … {T} of {curve}"))
    return cases


def _encode_with(asked=0, noise_at=0, image_kept=False):
    """(6.6) going up, with a place for each mistake: which step is asked about, which gives the noise (0 the lower)."""

    def wrong(denoise, schedule, image, times):
        x = image
        for pair in pairwise(times):
            x0 = denoise(x, _full(x, pair[asked]))
            _, after = _alpha_bars(schedule, *pair)
            noise = library.predict_noise(schedule, x0, x, _full(x, pair[noise_at]))
            x = after**0.5 * (image if image_kept else x0) + (1 - after) ** 0.5 * noise
        return x

    return wrong


_encode_asked_above = _encode_with(asked=1)
_encode_noise_above = _encode_with(noise_at=1)
_encode_image_kept = _encode_with(image_kept=True)


def _encode_by_ddim_step(denoise, schedule, image, times):
    x = image
    for t, s in pairwise(times):
        _, after, implied, variance = _ddim_parts(x, denoise(x, _full(x, t)), t, s, schedule, 1.0)
        x = x + variance**0.5 * implied  # the root of something negative
    return x


def _encode_jump(denoise, schedule, image, times):
    return _encode(denoise, schedule, image, [times[0], times[-1]])


def _encode_short(denoise, schedule, image, times):
    return _encode(denoise, schedule, image, times[:-1])


quiz(
    "sampling/encode",
    points=3,
    minutes=8,
    equation="6.6",
    title="The walk turned round",
    reference=_encode,
    library=(ddim_invert, ddim, dpm_solver, solvers._multistep),
    answered_by=("sampling/ddim-step",),
    cases=_encode_cases,
    misconceptions=[
        Misconception(
            "asked at the upper end",
            _encode_asked_above,
            "x is at level t, the lower end of the stride, so the network is asked with t.",
        ),
        Misconception(
            "noise read off with the upper level",
            _encode_noise_above,
            "The noise in x_t is read off with ᾱ_t. ᾱ_s comes in only when both are put together again.",
        ),
        Misconception(
            "the image kept for the guess",
            _encode_image_kept,
            "That is noising with an odd noise. The guess at x_t is used, so that the way down can undo the way up.",
        ),
        Misconception(
            "`ddim_step` upwards",
            _encode_by_ddim_step,
            "Did you send `ddim_step` up? With s > t its β̃ is negative, and the root of it is no number, even if η = 0 "
            "multiplies it. Write (6.6) itself: it has no σ.",
        ),
        Misconception(
            "one jump", _encode_jump, "Go along all of `times`: ε̂ changes on the way, and each stride asks anew."
        ),
        Misconception(
            "the last stride left out", _encode_short, "The code is at T: the last stride belongs to the walk."
        ),
    ],
    hints=[
        "It is the loop of 6.1 without fresh noise, on timesteps that rise.",
        "What does (6.4) become for σ = 0? Nothing in that line asks whether s lies below t or above. (`ddim_step` "
        "works out σ even for η = 0, and that fails upwards.)",
        "`predict_noise(schedule, x0, x, at)` is (5.7), with `at` the tensor (b,) of t.",
        "`x = alpha_bar_s**0.5 * x0 + (1 - alpha_bar_s) ** 0.5 * predict_noise(schedule, x0, x, at)`",
    ],
    passed="An encoder that nobody trained: the deterministic sampler, walked backwards. What it misses by "
    "shrinks with "
    "the number of strides.",
    explanation="""
    A stride up uses the noise at its lower end, the stride down the noise at its upper end. The two differ less the
    shorter the stride, so the way there and back misses less with more strides.
    """,
)


def _slerp(a, b, u):
    cosine = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))
    theta = cosine.clamp(-1, 1).acos().reshape(-1, *[1] * (a.ndim - 1))
    return (((1 - u) * theta).sin() * a + (u * theta).sin() * b) / theta.sin()


def _slerp_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, shape, u, dtype in (
        (3, (1, 4, 6), 0.5, torch.float32),
        (4, (2, 3, 5), 0.125, torch.float64),
        (1, (3, 5, 2), 0.9, torch.float64),
        (2, (1, 7, 3), 1.0, torch.float64),
        (2, (1, 2, 5), 0.0, torch.float32),
    ):
        a, b = (torch.randn(n, *shape, generator=rng, dtype=dtype) for _ in range(2))
        cases.append(Case({"a": a, "b": 1.7 * b, "u": u}, label=f"{n} pairs {shape}, u = {u}"))
    return cases


def _slerp_line(a, b, u):
    return (1 - u) * a + u * b


def _slerp_root(a, b, u):
    return (1 - u) ** 0.5 * a + u**0.5 * b


def _slerp_one_angle(a, b, u):
    cosine = (a * b).sum() / (a.norm() * b.norm())
    theta = cosine.clamp(-1, 1).acos()
    return (((1 - u) * theta).sin() * a + (u * theta).sin() * b) / theta.sin()


def _slerp_turned_round(a, b, u):
    return _slerp(a, b, 1 - u)


def _slerp_in_cosine(a, b, u):
    cosine = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).reshape(-1, *[1] * (a.ndim - 1))
    return (((1 - u) * cosine).sin() * a + (u * cosine).sin() * b) / cosine.sin()


quiz(
    "sampling/slerp-way",
    points=2,
    minutes=6,
    title="Along the arc",
    reference=_slerp,
    cases=_slerp_cases,
    misconceptions=[
        Misconception("the straight line", _slerp_line, "That is the line through the sphere; the arc goes round it."),
        Misconception(
            "roots of the shares",
            _slerp_root,
            "Roots keep the variance of *independent* codes. The arc knows the angle.",
        ),
        Misconception(
            "one angle for the whole batch",
            _slerp_one_angle,
            "Every pair of codes has an angle of its own: flatten from axis 1 on, and sum over that axis alone.",
        ),
        Misconception("u the wrong way round", _slerp_turned_round, "u = 0 is a, u = 1 is b."),
        Misconception("the cosine for the angle", _slerp_in_cosine, "a·b/(|a||b|) is the *cosine*: θ is its `acos()`."),
    ],
    hints=[
        "First θ, one number for each pair; then two weights that depend on u and θ.",
        "`F.cosine_similarity(a.flatten(1), b.flatten(1))` gives (b,) cosines; `acos` makes angles of them.",
        "The weights must multiply (b, c, h, w): give θ the shape (b, 1, 1, 1).",
        "`(((1 - u) * theta).sin() * a + (u * theta).sin() * b) / theta.sin()`",
    ],
    passed="Each pair has its own angle, and the arc keeps the length that noise has. Half-way, independent codes are "
    "weighed by about 0.71 each, not by a half.",
    explanation="""
    For independent codes θ is close to a right angle, so the arc is nearly $\\cos$ and $\\sin$ of a turn from
    $a$ to $b$.
    """,
)

concept(
    "sampling/slerp",
    title="Half-way between two codes",
    question="""
    Two codes $a$, $b$ are independent standard normal noise in $d=784$ dimensions. Why is $(a+b)/2$ a poor start for
    the sampler?
    """,
    options={
        "a": Option(
            "It is no code: a mean of two Gaussian vectors isn't Gaussian.",
            "It is Gaussian, as every sum of independent Gaussians. Look at its variance.",
        ),
        "b": Option(
            "It is too long, about √(2d), because the two variances add up.",
            "They add up to 2, and then the half in front counts with its square: (1 + 1)/4.",
        ),
        "c": Option(
            "The network has never seen this very noise in training.",
            "It has never seen $a$ or $b$ either, and does well from both.",
        ),
        "d": Option(
            "It is too short, about √(d/2), while noise has length near √d.",
            "Right. Its variance is a half, and a start of that length never occurred in training. Slerp goes "
            "round, along the sphere, instead of through it.",
            right=True,
        ),
    },
)


# -------------------------------------------------------------------------------------- 6.7 · a differential equation


class _Asked:
    """A denoiser that keeps count: about how many images it was asked, whether all at once or one by one."""

    def __init__(self, denoise):
        self.denoise, self.images = denoise, 0

    def __call__(self, x_t, t, *labels, **named):
        self.images += len(x_t)
        return self.denoise(x_t, t, *labels, **named)


def _stride_and_count(answer, denoise, x_t, t, s, schedule):
    asked = _Asked(denoise)
    x_s = answer(asked, x_t, t, s, schedule)
    return None if x_s is None else {"x_s": x_s, "evaluations": asked.images / len(x_t)}


def _trail_and_count(answer, denoise, schedule, x, times, y):
    asked = _Asked(denoise)
    trail = answer(asked, schedule, x, times, y)
    return None if trail is None else {"trail": trail, "evaluations": asked.images / len(x)}


def _heun_step(denoise, x_t, t, s, schedule):
    def mix(first, end):
        return _straight(x_t, t, s, schedule, (first + _slope(denoise, end, s, schedule)) / 2)

    return _heun_two_slopes(denoise, x_t, t, s, schedule, mix)


def _heun_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for x_t, _, _, t, s, schedule in _strides(rng):
        args = {"denoise": Fixture("sampling/denoise", **schedule.settings), "x_t": x_t, "t": t, "s": s}
        label = f"{_way(schedule, t, s)}, {len(x_t)} images {tuple(x_t.shape[1:])}"
        cases.append(Case(args | {"schedule": schedule}, label=label))
    return cases


def _slope(denoise, x, t, schedule):
    at = _full(x, t)
    return library.predict_noise(schedule, denoise(x, at), x, at)


def _sigma(alpha_bar: torch.Tensor) -> torch.Tensor:
    return ((1 - alpha_bar) / alpha_bar) ** 0.5


def _straight(x_t, t, s, schedule, slope):
    now, after = _alpha_bars(schedule, t, s)
    return after**0.5 * (x_t / now**0.5 + (_sigma(after) - _sigma(now)) * slope)


def _heun_euler(denoise, x_t, t, s, schedule):
    return _straight(x_t, t, s, schedule, _slope(denoise, x_t, t, schedule))


def _heun_two_slopes(denoise, x_t, t, s, schedule, mix):
    first = _slope(denoise, x_t, t, schedule)
    end = _straight(x_t, t, s, schedule, first)
    return end if s == 0 else mix(first, end)


def _heun_euler_at_1(denoise, x_t, t, s, schedule):
    return (_heun_step if s > 1 else _heun_euler)(denoise, x_t, t, s, schedule)


def _heun_clipped(denoise, x_t, t, s, schedule):
    return _heun_step(lambda x, t: denoise(x, t).clamp(-1, 1), x_t, t, s, schedule)


def _heun_second_slope(denoise, x_t, t, s, schedule):
    def mix(first, end):
        return _straight(x_t, t, s, schedule, _slope(denoise, end, s, schedule))

    return _heun_two_slopes(denoise, x_t, t, s, schedule, mix)


def _heun_sum(denoise, x_t, t, s, schedule):
    def mix(first, end):
        return _straight(x_t, t, s, schedule, first + _slope(denoise, end, s, schedule))

    return _heun_two_slopes(denoise, x_t, t, s, schedule, mix)


def _heun_asked_at_t(denoise, x_t, t, s, schedule):
    def mix(first, end):
        return _straight(x_t, t, s, schedule, (first + _slope(denoise, end, t, schedule)) / 2)

    return _heun_two_slopes(denoise, x_t, t, s, schedule, mix)


def _heun_twice(denoise, x_t, t, s, schedule):
    def mix(first, end):
        return _straight(end, t, s, schedule, (first + _slope(denoise, end, s, schedule)) / 2)

    return _heun_two_slopes(denoise, x_t, t, s, schedule, mix)


def _heun_without_scaling(denoise, x_t, t, s, schedule):
    """Heun's method on x itself, as if x̄ were x."""

    def straight(slope):
        now, after = _alpha_bars(schedule, t, s)
        return x_t + (_sigma(after) - _sigma(now)) * slope

    first = _slope(denoise, x_t, t, schedule)
    end = straight(first)
    return end if s == 0 else straight((first + _slope(denoise, end, s, schedule)) / 2)


def _heun_asks_again(denoise, x_t, t, s, schedule):
    end = _heun_euler(denoise, x_t, t, s, schedule)
    return end if s == 0 else _heun_step(denoise, x_t, t, s, schedule)


def _heun_asks_again_at_0(denoise, x_t, t, s, schedule):
    _slope(denoise, x_t, t, schedule)
    return _heun_step(denoise, x_t, t, s, schedule)


def _heun_end_undivided(denoise, x_t, t, s, schedule):
    def mix(first, end):
        return _straight(x_t, t, s, schedule, (first + _slope_of(denoise, end, s, schedule)) / 2)

    return _heun_two_slopes(denoise, x_t, t, s, schedule, mix)


def _heun_bar_asked_at_t(denoise, x_t, t, s, schedule):
    def mix(first, end):
        end_bar = end / schedule.alpha_bar[s] ** 0.5
        return _straight(x_t, t, s, schedule, (first + _slope_of(denoise, end_bar, t, schedule)) / 2)

    return _heun_two_slopes(denoise, x_t, t, s, schedule, mix)


quiz(
    "sampling/heun-step",
    points=4,
    minutes=6,
    equation="6.9",
    title="Stage 3: Heun's method",
    reference=_heun_step,
    library=(heun,),
    cases=_heun_cases,
    probe=_stride_and_count,
    misconceptions=[
        Misconception(
            "Euler's method",
            _heun_euler,
            "That is Euler's end, order 1. Heun asks the denoiser once more, there, and goes by the mean of both.",
        ),
        Misconception(
            "Euler's method on the way to step 1",
            _heun_euler_at_1,
            "At step 1 there is still noise that one can ask for: Euler's end is the last word only at s = 0.",
        ),
        Misconception(
            "the guess clipped",
            _heun_clipped,
            "Right, but for the guesses, which you clip to [-1, 1]. Take them as they come: clipping is a matter of "
            "the denoiser.",
        ),
        Misconception(
            "the second slope alone", _heun_second_slope, "Heun takes the *mean* of the slopes at both ends."
        ),
        Misconception("the sum of the slopes", _heun_sum, "The mean of two slopes: divide by 2."),
        Misconception(
            "the second slope asked at t",
            _heun_asked_at_t,
            "At the end of the stride the step is s; tell the network so.",
        ),
        Misconception(
            "the second slope asked as if x̄'_s were at t",
            _heun_bar_asked_at_t,
            "Your second slope is asked at the right place, but as of step t. Euler's stride has arrived at s.",
        ),
        Misconception(
            "x'_s handed on undivided",
            _heun_end_undivided,
            "`slope` wants x̄ at both ends. What `euler_step` returns is x'_s, and x̄'_s = x'_s/√ᾱ_s.",
        ),
        Misconception(
            "the first slope asked for twice",
            _heun_asks_again,
            "The image is right, the price isn't: three evaluations. `euler_step` asks for the slope at t, and then "
            "you ask for it again. Ask once, keep the answer, and take Euler's end from it.",
        ),
        Misconception(
            "the first slope asked for twice, at the end too",
            _heun_asks_again_at_0,
            "The image is right, the price isn't: every stride asks for the slope at t twice, even the one that ends "
            "at 0. Ask once, keep the answer, and take Euler's end from it.",
        ),
        Misconception(
            "begun at the end",
            _heun_twice,
            "The second time the stride starts from x_t again; Euler's end was only for looking.",
        ),
        Misconception(
            "x taken for x̄",
            _heun_without_scaling,
            "The straight line is in x̄ = x/√ᾱ: divide by √ᾱ_t first and multiply by √ᾱ_s afterwards.",
        ),
    ],
    hints=[
        "Work in x̄ from the first line to the last, and go back to x only in the `return`.",
        "The length ς_s − ς_t is one number, used twice. `slope` wants x̄ and the step at which it is asked.",
        "Euler's end comes first. If s > 0, ask for the slope *there*, at s, and start again from the beginning.",
        "`end = start + length * first`; if s > 0: `end = start + length * (first + slope(denoise, end, s, "
        "schedule)) / 2`;"
        " return √ᾱ_s · end.",
    ],
    passed="Two questions to the network instead of one (they were counted), and the error of a stride falls with its "
    "cube, not its square. At s = 0 there is no noise left to ask about, so the last stride is Euler's.",
    explanation="""
    Two questions to the network instead of one, and the error per stride falls with its cube, not its square. At s = 0
    there is no noise left whose direction one could ask for, so the last stride is Euler's.
    """,
)


def _slope_of(denoise, x_bar, t, schedule):
    a = schedule.alpha_bar[t]
    x0 = denoise(a**0.5 * x_bar, _full(x_bar, t))
    return (x_bar - x0) / _sigma(a)


def _slope_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for x_t, _, _, t, _, schedule in _strides(rng):
        args = {"denoise": Fixture("sampling/denoise", **schedule.settings), "x_bar": 2 * x_t, "t": t}
        cases.append(Case(args | {"schedule": schedule}, label=f"at t = {t} of {schedule.settings['curve']}"))
    return cases


def _slope_asked_about_x_bar(denoise, x_bar, t, schedule):
    return (x_bar - denoise(x_bar, _full(x_bar, t))) / _sigma(schedule.alpha_bar[t])


def _slope_of_x_t(denoise, x_bar, t, schedule):
    a = schedule.alpha_bar[t]
    x_t = a**0.5 * x_bar
    return (x_t - denoise(x_t, _full(x_t, t))) / _sigma(a)


def _slope_scaled_up(denoise, x_bar, t, schedule):
    a = schedule.alpha_bar[t]
    x_t = x_bar / a**0.5
    return (x_t - a**0.5 * denoise(x_t, _full(x_t, t))) / (1 - a) ** 0.5


def _slope_by_noise_rate(denoise, x_bar, t, schedule):
    a = schedule.alpha_bar[t]
    return (x_bar - denoise(a**0.5 * x_bar, _full(x_bar, t))) / (1 - a) ** 0.5


def _slope_backwards(denoise, x_bar, t, schedule):
    return -_slope_of(denoise, x_bar, t, schedule)


quiz(
    "sampling/slope",
    points=3,
    minutes=4,
    equation="6.7",
    title="Stage 1: the right-hand side",
    reference=_slope_of,
    library=(euler, heun),
    cases=_slope_cases,
    misconceptions=[
        Misconception(
            "the network asked about x̄",
            _slope_asked_about_x_bar,
            "The network knows x_t, not x̄: hand it √ᾱ_t · x̄.",
        ),
        Misconception(
            "x_t minus the guess",
            _slope_of_x_t,
            "In x_t the guess stands with √ᾱ_t in front. In x̄ it stands alone: x̄ = x̂_0 + ς ε̂.",
        ),
        Misconception("divided by √ᾱ", _slope_scaled_up, "x̄ is x_t *divided* by √ᾱ_t, so x_t is x̄ times √ᾱ_t."),
        Misconception(
            "divided by the noise rate",
            _slope_by_noise_rate,
            "x̄ = x̂_0 + ς ε̂, so divide by ς = √(1 − ᾱ)/√ᾱ, not by √(1 − ᾱ).",
        ),
        Misconception("the other way", _slope_backwards, "The slope is +ε̂: more ς, more of that noise."),
    ],
    hints=[
        "A solver moves x̄. The network was trained on something else: what is x_t, if you have x̄?",
        "Ask for the guess x̂_0 at x_t, then look at x̄ = x̂_0 + ς ε̂ and solve for ε̂.",
        "ς is √(1 − ᾱ_t)/√ᾱ_t. t reaches the network as a tensor (b,).",
        "`x0 = denoise(a**0.5 * x_bar, at)`; return `(x_bar - x0) / ((1 - a) / a) ** 0.5`, with a = ᾱ_t.",
    ],
    passed="The right-hand side of the probability-flow ODE is the network's own answer, in the coordinates "
    "where DDIM's "
    "stride is a straight line. Any ODE solver can take it from here.",
    explanation="""
    $\\hat\\varepsilon$ is the same number in both coordinates, and so is $\\hat x_0$; only the place where the network
    is asked has to be translated.
    """,
)


def _euler_step(denoise, x_t, t, s, schedule):
    return _straight(x_t, t, s, schedule, _slope(denoise, x_t, t, schedule))


def _euler_backwards(denoise, x_t, t, s, schedule):
    return _straight(x_t, t, s, schedule, -_slope(denoise, x_t, t, schedule))


def _euler_unscaled(denoise, x_t, t, s, schedule):
    now, after = _alpha_bars(schedule, t, s)
    return x_t + (_sigma(after) - _sigma(now)) * _slope(denoise, x_t, t, schedule)


def _euler_left_in_x_bar(denoise, x_t, t, s, schedule):
    _, after = _alpha_bars(schedule, t, s)
    return _euler_step(denoise, x_t, t, s, schedule) / after**0.5


def _euler_back_by_t(denoise, x_t, t, s, schedule):
    now, after = _alpha_bars(schedule, t, s)
    return _euler_step(denoise, x_t, t, s, schedule) / after**0.5 * now**0.5


def _euler_in_t(denoise, x_t, t, s, schedule):
    now, after = _alpha_bars(schedule, t, s)
    return after**0.5 * (x_t / now**0.5 + (s - t) / schedule.T * _slope(denoise, x_t, t, schedule))


quiz(
    "sampling/euler-step",
    points=2,
    minutes=4,
    equation="6.8",
    title="Stage 2: Euler",
    reference=_euler_step,
    library=(euler, ddim, dpm_solver, heun, solvers._multistep),
    answered_by=("sampling/ddim-step", "sampling/heun-step"),
    cases=_heun_cases,
    misconceptions=[
        Misconception(
            "x taken for x̄",
            _euler_unscaled,
            "The straight line is in x̄: divide by √ᾱ_t first, and come back with √ᾱ_s.",
        ),
        Misconception("left in x̄", _euler_left_in_x_bar, "The result is x_s, not x̄_s: multiply by √ᾱ_s at the end."),
        Misconception("back with √ᾱ_t", _euler_back_by_t, "You arrive at s: go back with √ᾱ_s."),
        Misconception("uphill", _euler_backwards, "ς falls on the way to the image: ς_s − ς_t is negative already."),
        Misconception("the stride measured in t", _euler_in_t, "The stride of this ODE is ς_s − ς_t, not s − t."),
    ],
    hints=[
        "Three lines: into x̄, along the slope, back out.",
        "The length of the stride is ς_s − ς_t, with ς = √(1 − ᾱ)/√ᾱ; at s = 0 that ς is 0.",
        "`slope(denoise, x_bar, t, schedule)` is Stage 1. Which √ᾱ takes you back out?",
        "`alpha_bar_s**0.5 * (x_bar + (sigma_s - sigma_t) * slope(denoise, x_bar, t, schedule))`",
    ],
    passed="Euler's method on this ODE is DDIM, to the last digit: the next cell checks it on your two functions.",
    explanation="""
    Nothing was approximated on the way from (6.4) to (6.8): Euler's method in $\\bar x$ and ς *is* DDIM with η = 0.
    """,
)


def _multistep_step(x_t, x0, x0_before, r, t, s, schedule):
    at_r, at_t, at_s = _lambdas(schedule, r, t, s)
    return _multistep_with(x_t, x0, x0_before, t, s, schedule, (at_s - at_t) / (2 * (at_t - at_r)))


def _multistep_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, curve, T, (r, t, s), dtype in (
        (3, (1, 4, 6), "cosine", 1000, (900, 600, 500), torch.float64),
        (2, (3, 5, 2), "linear", 200, (150, 149, 20), torch.float32),
        (1, (1, 3, 5), "quadratic", 20, (12, 7, 1), torch.float64),
        (2, (2, 4, 3), "cosine", 100, (100, 99, 40), torch.float64),
        (4, (1, 2, 6), "constant", 500, (3, 2, 1), torch.float32),  # the very end of a long walk
        (3, (1, 4, 6), "linear", 1000, (900, 600, 500), torch.float64),  # as the first, on another schedule
    ):
        x_t = torch.randn(b, *shape, generator=rng, dtype=dtype)
        guesses = [3 * torch.rand(b, *shape, generator=rng, dtype=dtype) - 1.5 for _ in range(2)]
        args = {"x_t": x_t, "x0": guesses[0], "x0_before": guesses[1], "r": r, "t": t, "s": s}
        label = f"guesses at {r} and {t}, on the way to {s} of {T} ({curve})"
        cases.append(Case(args | {"schedule": Fixture("sampling/schedule", curve=curve, T=T)}, label=label))
    return cases


def _multistep_with(x_t, x0, x0_before, t, s, schedule, share):
    return _ddim_step(x_t, x0 + share * (x0 - x0_before), t, s, torch.zeros_like(x_t), schedule)


def _lambdas(schedule, *steps):
    half = schedule.log_snr / 2
    return [half[k] for k in steps]


def _multistep_last_guess(x_t, x0, x0_before, r, t, s, schedule):
    return _multistep_with(x_t, x0, x0_before, t, s, schedule, 0.0)


def _multistep_in_t(x_t, x0, x0_before, r, t, s, schedule):
    return _multistep_with(x_t, x0, x0_before, t, s, schedule, (t - s) / (2 * (r - t)))


def _multistep_whole(x_t, x0, x0_before, r, t, s, schedule):
    at_r, at_t, at_s = _lambdas(schedule, r, t, s)
    return _multistep_with(x_t, x0, x0_before, t, s, schedule, (at_s - at_t) / (at_t - at_r))


def _multistep_upside_down(x_t, x0, x0_before, r, t, s, schedule):
    at_r, at_t, at_s = _lambdas(schedule, r, t, s)
    return _multistep_with(x_t, x0, x0_before, t, s, schedule, (at_t - at_r) / (2 * (at_s - at_t)))


def _multistep_forgets_at_1(x_t, x0, x0_before, r, t, s, schedule):
    return (_multistep_step if s > 1 else _multistep_last_guess)(x_t, x0, x0_before, r, t, s, schedule)


def _multistep_backwards(x_t, x0, x0_before, r, t, s, schedule):
    at_r, at_t, at_s = _lambdas(schedule, r, t, s)
    return _multistep_with(x_t, x0, x0_before, t, s, schedule, -(at_s - at_t) / (2 * (at_t - at_r)))


quiz(
    "sampling/multistep",
    points=3,
    minutes=5,
    equation="6.10",
    title="Stage 4: a step with a memory",
    reference=_multistep_step,
    library=(dpm_solver, solvers._multistep),
    cases=_multistep_cases,
    misconceptions=[
        Misconception("no memory", _multistep_last_guess, "That is DDIM: the guess before this one isn't used."),
        Misconception("the line drawn in t", _multistep_in_t, "Lengths of strides are measured in λ, not in steps."),
        Misconception(
            "the whole way",
            _multistep_whole,
            "The guess is wanted in the *middle* of the stride, half of it ahead: divide by 2.",
        ),
        Misconception(
            "ratio upside down", _multistep_upside_down, "The stride ahead, λ_s − λ_t, stands above the one behind."
        ),
        Misconception(
            "no memory on the way to step 1",
            _multistep_forgets_at_1,
            "(6.10) holds on the way to step 1 as well: only a stride that ends at 0 has λ_s = ∞, and none does here.",
        ),
        Misconception(
            "carried backwards", _multistep_backwards, "Go on in the direction from the old guess to the new."
        ),
    ],
    hints=[
        "Two parts: a better guess, and a stride that you have already written.",
        "λ is `schedule.log_snr / 2`; the stride ahead is λ_s − λ_t, the one behind is λ_t − λ_r.",
        "The guess is carried on in the direction from the old one to the new one, by half of the stride ahead.",
        "`guess = x0 + ahead / (2 * behind) * (x0 - x0_before)`, and "
        "`ddim_step(x_t, guess, t, s, torch.zeros_like(x_t), schedule)`.",
    ],
    passed="Order 2 for one evaluation a stride: what Heun asks the network for, this reads off the guess it has "
    "already "
    "had.",
    explanation="""
    Order 2 for one evaluation a stride: what Heun asks the network for, this reads off the guess it has already had.
    """,
)


def _multistep_walk(denoise, schedule, x, times, y=None):
    trail, before = [(times[0], x, None)], None
    for t, s in pairwise(times):
        x0 = denoise(x, _full(x, t), y)
        if before is None or s == 0:
            x = _ddim_step(x, x0, t, s, torch.zeros_like(x), schedule)
        else:
            x = _multistep_step(x, x0, before[1], before[0], t, s, schedule)
        before = (t, x0)
        trail.append((s, x, x0))
    return trail


def _multistep_walks(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, curve, T, times, classes, dtype in (
        (3, (1, 3, 5), "linear", 20, [20, 13, 6, 0], True, torch.float32),
        (2, (2, 4, 3), "cosine", 50, [50, 41, 30, 12, 5, 1], False, torch.float64),
        (1, (1, 6, 2), "quadratic", 12, [12, 0], False, torch.float64),
        (2, (3, 2, 4), "constant", 9, [*range(9, -1, -1)], True, torch.float64),
        (2, (2, 4, 3), "linear", 50, [50, 41, 30, 12, 5, 1], False, torch.float64),  # as the second, another schedule
    ):
        x = torch.randn(b, *shape, generator=rng, dtype=dtype)
        y = torch.randint(4, (b,), generator=rng) if classes else None
        both = {"curve": curve, "T": T}
        args = {"denoise": Fixture("sampling/denoise", **both), "schedule": Fixture("sampling/schedule", **both)}
        label = f"along {times[0]}, {times[1]} … {times[-1]}, {'with' if classes else 'without'} labels"
        cases.append(Case(args | {"x": x, "times": times, "y": y}, label=label))
    return cases


def _multistep_walk_forgets(denoise, schedule, x, times, y=None):
    def step(x, x0, t, s, noise, schedule):
        return _ddim_step(x, x0, t, s, noise, schedule)

    return _walk(step, denoise, schedule, x, times, torch.zeros_like, y)


def _multistep_walk_first_guess(denoise, schedule, x, times, y=None):
    trail, before = [(times[0], x, None)], None
    for t, s in pairwise(times):
        x0 = denoise(x, _full(x, t), y)
        before = before or (t, x0)
        if before[0] == t or s == 0:
            x = _ddim_step(x, x0, t, s, torch.zeros_like(x), schedule)
        else:
            x = _multistep_step(x, x0, before[1], before[0], t, s, schedule)
        trail.append((s, x, x0))
    return trail


def _multistep_walk_old_extrapolated(denoise, schedule, x, times, y=None):
    """Remembers the guess that was carried on, not the one that the network gave."""
    trail, before, half = [(times[0], x, None)], None, (schedule.log_snr / 2).tolist()
    for t, s in pairwise(times):
        x0 = guess = denoise(x, _full(x, t), y)
        if before is not None and s > 0:
            r, old = before
            guess = x0 + (half[s] - half[t]) / (2 * (half[t] - half[r])) * (x0 - old)
        x = _ddim_step(x, guess, t, s, torch.zeros_like(x), schedule)
        before = (t, guess)
        trail.append((s, x, x0))
    return trail


def _multistep_walk_without_labels(denoise, schedule, x, times, y=None):
    return _multistep_walk(denoise, schedule, x, times)


def _multistep_walk_two_forgotten(denoise, schedule, x, times, y=None):
    """No memory in the stride that ends before the last stop either."""
    trail, before = [(times[0], x, None)], None
    for t, s in pairwise(times):
        x0 = denoise(x, _full(x, t), y)
        if before is None or s == times[-1]:
            x = _ddim_step(x, x0, t, s, torch.zeros_like(x), schedule)
        else:
            x = _multistep_step(x, x0, before[1], before[0], t, s, schedule)
        before = (t, x0)
        trail.append((s, x, x0))
    return trail


def _multistep_walk_asks_again(denoise, schedule, x, times, y=None):
    """The guess before is asked for anew, with what x was then."""
    trail, before = [(times[0], x, None)], None
    for t, s in pairwise(times):
        old, x0 = x, denoise(x, _full(x, t), y)
        if before is None or s == 0:
            x = _ddim_step(x, x0, t, s, torch.zeros_like(x), schedule)
        else:
            r, then = before
            x = _multistep_step(x, x0, denoise(then, _full(x, r), y), r, t, s, schedule)
        before = (t, old)
        trail.append((s, x, x0))
    return trail


def _multistep_walk_asks_twice(denoise, schedule, x, times, y=None):
    def twice(x, at, y):
        denoise(x, at, y)
        return denoise(x, at, y)

    return _multistep_walk(twice, schedule, x, times, y)


quiz(
    "sampling/multistep-walk",
    points=4,
    minutes=7,
    equation="6.10",
    title="Stage 5: the sampler around it",
    reference=_multistep_walk,
    library=(dpm_solver, solvers._multistep, solvers.sample_loop),
    cases=_multistep_walks,
    probe=_trail_and_count,
    misconceptions=[
        Misconception(
            "no memory",
            _multistep_walk_forgets,
            "That is DDIM all the way: from the second stride on there is a guess before.",
        ),
        Misconception(
            "the first guess remembered for ever",
            _multistep_walk_first_guess,
            "The memory moves along: after each stride, what was this guess becomes the guess before.",
        ),
        Misconception(
            "the carried-on guess remembered",
            _multistep_walk_old_extrapolated,
            "Remember what the network *said*, not what (6.10) made of it, or each extrapolation builds on the "
            "last one.",
        ),
        Misconception(
            "the labels forgotten",
            _multistep_walk_without_labels,
            "`y` has to reach the denoiser, as its third argument.",
        ),
        Misconception(
            "no memory in the last stride",
            _multistep_walk_two_forgotten,
            "Only a stride that ends at 0 is DDIM's. A walk that ends at a later step keeps its memory to the end.",
        ),
        Misconception(
            "the guess before asked for anew",
            _multistep_walk_asks_again,
            "The images are right, but the network is asked again what it has said already. Remember its *answer* from "
            "one stride to the next; that is the whole saving.",
        ),
        Misconception(
            "asked twice a stride",
            _multistep_walk_asks_twice,
            "The images are right, but every stride asks the network the same thing twice. Keep the answer in a name.",
        ),
    ],
    hints=[
        "It is the loop of 6.1 with two things to remember from one stride to the next. Which two?",
        "Two strides can't be (6.10): the first, which has nothing to remember, and one that ends at 0.",
        "Those two are `ddim_step` with η = 0; it wants a noise, of which nothing is used: `torch.zeros_like(x)`.",
        "`if before is None or s == 0:` DDIM, `else:` `multistep_step(x, x0, x0_before, r, t, s, schedule)`; then "
        "`before = (t, x0)`.",
    ],
    passed="Your third sampler. Its memory costs one tensor and, as was counted, no evaluation. All that is new sits "
    "in six lines between two that you had.",
    explanation="""
    `diffusers` keeps its memory in a list of model outputs and decides by the same two conditions (`lower_order_final`,
    `final_sigmas_type="zero"`).
    """,
)

# ------------------------------------------------------------------------------------------------------- 6.8 · orders


def _measured_order(strides, errors):
    x, y = (torch.tensor([float(value) for value in values], dtype=torch.float64).log() for values in (strides, errors))
    x, y = x - x.mean(), y - y.mean()
    return -((x * y).sum() / x.square().sum()).item()


def _order_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for strides, power in (([10, 20, 40], 1.0), ([160, 320, 640], 2.1), ([7, 9, 30, 31, 50], 1.6), ([4, 8], 3.0)):
        wobble = (0.2 * torch.randn(len(strides), generator=rng, dtype=torch.float64)).exp().tolist()
        errors = [3.0 * k**-power * w for k, w in zip(strides, wobble)]
        cases.append(Case({"strides": strides, "errors": errors}, label=f"{len(strides)} points"))
    return cases


def _order_sign(strides, errors):
    return -_measured_order(strides, errors)


def _order_not_logs(strides, errors):
    x, y = (torch.tensor([float(value) for value in values], dtype=torch.float64) for values in (strides, errors))
    x, y = x - x.mean(), y - y.mean()
    return -((x * y).sum() / x.square().sum()).item()


def _order_half_logs(strides, errors):
    return _order_not_logs(strides, [math.log(e) for e in errors])


def _order_through_the_origin(strides, errors):
    x, y = (torch.tensor([float(value) for value in values], dtype=torch.float64).log() for values in (strides, errors))
    return -((x * y).sum() / x.square().sum()).item()


def _order_two_points(strides, errors):
    return _measured_order([strides[0], strides[-1]], [errors[0], errors[-1]])


quiz(
    "sampling/measured-order",
    points=2,
    minutes=4,
    title="Read an order off",
    reference=_measured_order,
    cases=_order_cases,
    misconceptions=[
        Misconception(
            "the sign", _order_sign, "The error *falls*, so the slope is negative and the order is minus the slope."
        ),
        Misconception("no logarithms", _order_not_logs, "A power is a straight line only on log-log paper."),
        Misconception(
            "only one logarithm", _order_half_logs, "The logarithm of the errors alone is for exponentials: take both."
        ),
        Misconception(
            "through the origin",
            _order_through_the_origin,
            "The line has a constant as well: ln error = c − p ln strides. Subtract the means first.",
        ),
        Misconception(
            "the two end points alone",
            _order_two_points,
            "That is the slope from the first point to the last. The best line listens to those between as well.",
        ),
    ],
    hints=[
        "error ≈ C · strides^(−p). Take the logarithm of both sides: what is p now?",
        "The slope of the best line is Σ(x − x̄)(y − ȳ) / Σ(x − x̄)², with x and y the logarithms.",
        "Don't forget the sign. `torch.tensor(...)`, `.log()`, `.mean()` do all of it; NumPy does as well.",
        "`x, y = x - x.mean(), y - y.mean()`, then `-((x * y).sum() / (x * x).sum()).item()`.",
    ],
    passed="An order is a slope on log-log paper, so it can be measured, and a promise of order 2 can be broken "
    "in public.",
    explanation="""
    With two points it is $\\ln(e_1/e_2)/\\ln(n_2/n_1)$; with more, least squares takes all of them into account.
    """,
)

concept(
    "sampling/order",
    title="What order buys",
    equation="6.9",
    question="""
    With an exact denoiser, 20 strides of Euler leave an error of 0.1, and so do 20 strides of Heun. You want 0.001.
    About how many *evaluations* does each need, if both are already in their regime?
    """,
    options={
        "a": Option(
            "Euler 2,000 and Heun 4,000",
            "Heun does ask twice a stride. But its error falls with the *square* of the number of strides.",
        ),
        "b": Option(
            "Euler 2,000 and Heun 400",
            "Right. A hundredth of the error is 100 times the strides for order 1 and 10 times for order 2; Heun's "
            "200 strides are 400 evaluations.",
            right=True,
        ),
        "c": Option(
            "Euler 200 and Heun 190",
            "That would be one order more for each: 10 times the strides for order 2, 4.6 times for order 3.",
        ),
        "d": Option(
            "Euler 400 and Heun 400",
            "At one point two curves may cross; their slopes differ.",
        ),
    },
)


# ---------------------------------------------------------------------------------- 6.9 · quality against evaluations


class _Counted:
    def __init__(self, denoise):
        self.denoise, self.calls = denoise, 0

    def __call__(self, x_t, t, y=None):
        self.calls += 1
        return self.denoise(x_t, t, y)


def _ask_and_count(answer, denoise, x, t, y):
    """Two counters around one denoiser, asked by turns."""
    first, second = answer(denoise), answer(denoise)
    if first is None:  # nothing has been written yet
        return None
    counts, results = [first.calls], []
    for asked in (first, first, second, first):
        results.append(asked(x, t, y))
        counts.append(asked.calls)
    results.append(second(x, t))
    return {"results": results, "counts": [*counts, first.calls, second.calls]}


def _counted_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape in ((3, (1, 3, 4)), (2, (2, 5, 3))):
        args = {"denoise": Fixture("sampling/denoise"), "x": torch.randn(b, *shape, generator=rng)}
        args |= {"t": torch.randint(1, 50, (b,), generator=rng), "y": torch.randint(5, (b,), generator=rng)}
        cases.append(Case(args))
    return cases


def _wrong_counter(start=0, by=lambda x: 1, labels=True):
    class Wrong:
        def __init__(self, denoise):
            self.denoise, self.calls = denoise, start

        def __call__(self, x_t, t, y=None):
            self.calls += by(x_t)
            return self.denoise(x_t, t, y) if labels else self.denoise(x_t, t)

    return Wrong


class _CountedTogether:
    calls = 0

    def __init__(self, denoise):
        self.denoise = denoise

    def __call__(self, x_t, t, y=None):
        type(self).calls += 1
        return self.denoise(x_t, t, y)


quiz(
    "sampling/counted",
    points=2,
    minutes=3,
    title="Count what you pay",
    reference=_Counted,
    cases=_counted_cases,
    probe=_ask_and_count,
    misconceptions=[
        Misconception(
            "images counted", _wrong_counter(by=len), "An evaluation is one call, whatever the number of images in it."
        ),
        Misconception(
            "the labels dropped", _wrong_counter(labels=False), "Hand `y` on: without it the samples change."
        ),
        Misconception("from 1 on", _wrong_counter(start=1), "Nothing has been asked yet when the counter is made: 0."),
    ],
    hints=[
        "Two methods: one that remembers the denoiser and starts at 0, one that is called in its place.",
        "An object is called like a function if its class has `__call__(self, x_t, t, y=None)`.",
        "Keep the count on the object, `self.calls`, not on the class: two counters must not share it.",
        "`self.calls += 1`, then `return self.denoise(x_t, t, y)`.",
    ],
    passed="Prices are counted now, not promised: whoever says that a sampler needs ten evaluations can be checked.",
    explanation="""
    A wrapper around the denoiser, like clipping and like guidance in notebook 07: every sampler works with it
    unchanged.
    """,
)

concept(
    "sampling/better-solver",
    title="A better solver, a worse picture?",
    question="""
    One sampler of our network lies closer to the exact solution of the probability-flow ODE than another, and yet it is
    farther from real images, by more than the error bars. How can that be?
    """,
    options={
        "a": Option(
            "It can't be, for the exact solution has exactly the distribution of the data.",
            "With the exact score it has. The network's score is an estimate, and so its ODE leads somewhere else.",
        ),
        "b": Option(
            "The Fréchet distance is biased for few images and misleads us here.",
            "That bias is nearly the same for both, at the same number of images: it moves both bars, not their "
            "difference.",
        ),
        "c": Option(
            "On images the order of a solver is below 1, unlike on the mixture.",
            "The figure below shows it converge. It converges to the network's idea of an image, though.",
        ),
        "d": Option(
            "It follows ever more exactly what is itself learned, with errors of its own.",
            "Right. Two errors are added, the solver's and the network's. Beyond some number of strides only the "
            "second is left, and fewer strides or fresh noise may happen to cancel some of it.",
            right=True,
        ),
    },
)


# ---------------------------------------------------------------------------- 6.10 and 6.11 · beginning with an image


def _redraw(image, level, strides, denoise, schedule, draw):
    noisy = schedule.add_noise(image, _full(image, level), draw(image))
    times = [level, *(t for t in _timesteps(schedule.T, strides) if t < level)]
    return noisy, _walk(_ancestral_step, denoise, schedule, noisy, times, draw)[-1][1]


def _redraw_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, curve, T, level, strides, dtype in (
        (3, (1, 3, 5), "linear", 20, 12, 4, torch.float32),
        (2, (2, 4, 3), "cosine", 50, 33, 7, torch.float64),
        (1, (1, 6, 2), "quadratic", 12, 12, 3, torch.float64),
        (2, (3, 2, 4), "constant", 9, 1, 4, torch.float64),
        (2, (2, 4, 3), "linear", 50, 33, 7, torch.float64),  # as the second, on another schedule
        (2, (1, 3, 4), "cosine", 40, 30, 4, torch.float64),  # a level that is a stop as well
    ):
        image = 2 * torch.rand(b, *shape, generator=rng, dtype=dtype) - 1
        both, seed = {"curve": curve, "T": T}, int(torch.randint(1000, (), generator=rng))
        args = {"image": image, "level": level, "strides": strides, "denoise": Fixture("sampling/denoise", **both)}
        args |= {"schedule": Fixture("sampling/schedule", **both), "draw": Fixture("sampling/draw", seed=seed)}
        cases.append(Case(args, label=f"up to {level} of {T} ({curve}), stops of {strides} strides"))
    return cases


def _redraw_from_the_top(image, level, strides, denoise, schedule, draw):
    noisy = schedule.add_noise(image, _full(image, level), draw(image))
    times = _timesteps(schedule.T, strides)
    return noisy, _walk(_ancestral_step, denoise, schedule, noisy, times, draw)[-1][1]


def _redraw_without_level(image, level, strides, denoise, schedule, draw):
    noisy = schedule.add_noise(image, _full(image, level), draw(image))
    times = [t for t in _timesteps(schedule.T, strides) if t <= level]
    if len(times) < 2:
        return noisy, noisy
    return noisy, _walk(_ancestral_step, denoise, schedule, noisy, times, draw)[-1][1]


def _redraw_all_strides(image, level, strides, denoise, schedule, draw):
    noisy = schedule.add_noise(image, _full(image, level), draw(image))
    times = sorted({round(level * k / strides) for k in range(strides + 1)}, reverse=True)
    return noisy, _walk(_ancestral_step, denoise, schedule, noisy, times, draw)[-1][1]


def _redraw_pure_noise(image, level, strides, denoise, schedule, draw):
    noisy = draw(image)
    times = [level, *(t for t in _timesteps(schedule.T, strides) if t < level)]
    return noisy, _walk(_ancestral_step, denoise, schedule, noisy, times, draw)[-1][1]


def _redraw_unscaled(image, level, strides, denoise, schedule, draw):
    noisy = image + (1 - schedule.alpha_bar[level]) ** 0.5 * draw(image)
    times = [level, *(t for t in _timesteps(schedule.T, strides) if t < level)]
    return noisy, _walk(_ancestral_step, denoise, schedule, noisy, times, draw)[-1][1]


quiz(
    "sampling/redraw",
    points=3,
    minutes=8,
    title="Up by one jump, down by strides",
    reference=_redraw,
    library=(sdedit, ddpm, ddim, dpm_solver),
    cases=_redraw_cases,
    misconceptions=[
        Misconception(
            "walked from T",
            _redraw_from_the_top,
            "The image is at `level`, not at T. Tell the network the noise that is really there.",
        ),
        Misconception(
            "begun at the next stop",
            _redraw_without_level,
            "The walk begins at `level` itself, whether or not it is one of the stops.",
        ),
        Misconception(
            "all strides below the level",
            _redraw_all_strides,
            "Use those stops of a whole walk that lie below `level`, so that strides are as long as in a whole walk.",
        ),
        Misconception("the image thrown away", _redraw_pure_noise, "Noise the *image*: (3.4) is `schedule.add_noise`."),
        Misconception(
            "the image not dimmed",
            _redraw_unscaled,
            "At level t the image stands with √ᾱ_t in front: `schedule.add_noise`.",
        ),
    ],
    hints=[
        "Two things that you have: a jump from notebook 03, and your walk. What differs are the timesteps.",
        "`schedule.add_noise(image, at, noise)` is (3.4), with `at` a tensor (b,) of the level.",
        "The walk begins at `level` and goes on with those of `timesteps(schedule.T, strides)` that lie below it.",
        "`times = [level, *(t for t in timesteps(schedule.T, strides) if t < level)]`, and the end of a walk is "
        "`walk(ancestral_step, denoise, schedule, noisy, times, draw)[-1][1]`.",
    ],
    passed="A walk can begin anywhere, as long as the network is told how much noise there is. This is all of SDEdit.",
    explanation="""
    What noise of that level hides is invented anew, what it can't hide stays. No training, no new network.
    """,
)

concept(
    "sampling/hard-t",
    title="What survives",
    question="""
    At $t=600$ about two thirds of the variance are noise, and no pixel can be trusted. Yet redrawn images mostly keep
    their class. What is it that survived?
    """,
    options={
        "a": Option(
            "Coarse shapes: a mean over many pixels has little noise, and the signal stays.",
            "Right. A mean over $n$ pixels has only $1/n$ of the noise's variance. A shape is such a mean, a "
            "stitch on a shoe isn't: large things survive longer than small ones.",
            right=True,
        ),
        "b": Option(
            "Edges, where neighbouring pixels differ by more than anywhere else.",
            "An edge is a difference of neighbours, and a difference of two pixels has *twice* the variance of noise "
            "that one has. Edges are lost early; broad areas stay.",
        ),
        "c": Option(
            "The test images, which the network has by heart and then recognises.",
            "It never saw the test images. And memory would bring back the *same* image, while the correlation falls.",
        ),
        "d": Option(
            "All of it: the walk takes off the very noise that the jump has put on.",
            "It can't know that noise, it guesses; and then fine details would be back as well. Look at the prints, or "
            "at the correlation with the original.",
        ),
    },
)


def _keep_known(denoise, image, known):
    def denoise_and_keep(x_t, t, y=None):
        return torch.where(known, image, denoise(x_t, t, y))

    return denoise_and_keep


def _fill_once(answer, denoise, image, known, x_t, t, y):
    filling = answer(denoise, image, known)
    if filling is None:  # nothing has been written yet
        return None
    return filling(x_t, t), filling(x_t, t, y)


def _keep_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, dtype in (
        (3, (1, 4, 5), torch.float32),
        (2, (3, 2, 6), torch.float64),
        (1, (2, 5, 3), torch.float64),
    ):
        image = 2 * torch.rand(b, *shape, generator=rng, dtype=dtype) - 1
        known = torch.rand(shape[1:], generator=rng) < 0.5
        x_t = torch.randn(b, *shape, generator=rng, dtype=dtype)
        t, y = (torch.randint(1, 50, (b,), generator=rng) for _ in range(2))
        args = {"denoise": Fixture("sampling/denoise"), "image": image, "known": known, "x_t": x_t, "t": t, "y": y % 4}
        cases.append(Case(args))
    return cases


def _keep_other_half(denoise, image, known):
    return _keep_known(denoise, image, ~known)


def _keep_without_labels(denoise, image, known):
    return lambda x_t, t, y=None: torch.where(known, image, denoise(x_t, t))


def _keep_in_the_noise(denoise, image, known):
    return lambda x_t, t, y=None: denoise(torch.where(known, image, x_t), t, y)


def _keep_and_forget(denoise, image, known):
    return lambda x_t, t, y=None: torch.where(known, image, x_t)


quiz(
    "sampling/keep-known",
    points=2,
    minutes=5,
    equation="6.12",
    title="A denoiser that keeps what is known",
    reference=_keep_known,
    library=(inpaint,),
    cases=_keep_cases,
    probe=_fill_once,
    misconceptions=[
        Misconception("the other half kept", _keep_other_half, "`known` is True where the image is *to stay*."),
        Misconception(
            "the labels dropped", _keep_without_labels, "The wrapper takes y as the denoiser does, and hands it on."
        ),
        Misconception(
            "put into x_t",
            _keep_in_the_noise,
            "(6.12) changes the *guess*. Clean pixels in x_t would be noiseless where the network expects noise.",
        ),
        Misconception(
            "no guess at all", _keep_and_forget, "Where nothing is known stands the denoiser's guess, not x_t."
        ),
    ],
    hints=[
        "Write a function inside the function, with the arguments of a denoiser, and return it uncalled.",
        "It asks the denoiser as always. What it changes is the answer.",
        "`torch.where(condition, a, b)` takes a where the condition is True.",
        "`return torch.where(known, image, denoise(x_t, t, y))`, inside `def denoise_and_keep(x_t, t, y=None):`.",
    ],
    passed="A wrapper around the denoiser goes with every sampler that you have written. Guidance, in notebook "
    "07, is one "
    "more.",
    explanation="""
    The sampler then noises the known pixels to whatever level it is at, and ends at them exactly.
    """,
)

# ---------------------------------------------------------------------------------------------------- 6.12 · Langevin


def _langevin_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, h, dtype in (
        (5, (2,), 0.1, torch.float64),
        (3, (1, 4, 6), 0.01, torch.float32),
        (1, (3, 2, 5), 0.7, torch.float64),
        (2, (2, 5, 3), 2.0, torch.float32),
    ):
        x, noise = (torch.randn(b, *shape, generator=rng, dtype=dtype) for _ in range(2))
        cases.append(Case({"x": x, "score": Fixture("sampling/score"), "h": h, "noise": noise}))
    return cases


def _langevin_root_of_h(x, score, h, noise):
    return x + h * score(x) + h**0.5 * noise


def _langevin_half(x, score, h, noise):
    return langevin_step(x, score, h / 2, noise)


def _langevin_half_uphill(x, score, h, noise):
    return x + h / 2 * score(x) + (2 * h) ** 0.5 * noise


def _langevin_two_h(x, score, h, noise):
    return x + h * score(x) + 2 * h * noise


def _langevin_downhill(x, score, h, noise):
    return x - h * score(x) + (2 * h) ** 0.5 * noise


def _langevin_ascent(x, score, h, noise):
    return x + h * score(x)


def _langevin_noise_first(x, score, h, noise):
    y = x + (2 * h) ** 0.5 * noise
    return y + h * score(y)


quiz(
    "sampling/langevin-step",
    points=2,
    minutes=3,
    equation="6.13",
    title="One step of Langevin dynamics",
    reference=langevin_step,
    library=(langevin_dynamics, annealed_langevin),
    cases=_langevin_cases,
    misconceptions=[
        Misconception(
            "√h for √(2h)", _langevin_root_of_h, "With √h the points gather too tightly, as if p had been squared."
        ),
        Misconception(
            "the other convention",
            _langevin_half,
            "x + h/2 · score + √h · noise is this step with half the h, as many papers count it. Here h is what stands "
            "in (6.13).",
        ),
        Misconception(
            "h/2 uphill, and √(2h)",
            _langevin_half_uphill,
            "Half of one convention, half of the other: with h/2 uphill belongs √h, with √(2h) belongs h.",
        ),
        Misconception("2h for its root", _langevin_two_h, "2h is the variance of the noise; stretch by √(2h)."),
        Misconception("downhill", _langevin_downhill, "The score points to where p is larger: add it."),
        Misconception(
            "no noise", _langevin_ascent, "Without noise all points climb to the tops: modes, and not samples."
        ),
        Misconception("noise first", _langevin_noise_first, "The score is asked at x, before the noise is added."),
    ],
    hints=[
        "Three terms: where we are, a step uphill, noise.",
        "The score points uphill. How long is the step, and what multiplies the noise?",
        "2h is the *variance* of the noise that is added.",
        "`x + h * score(x) + (2 * h) ** 0.5 * noise`",
    ],
    passed="Uphill by h, and noise of variance 2h: with any other factor another distribution than p would be left "
    "unchanged.",
    explanation="The 2 balances the climb: with any other factor another distribution than p would be left unchanged.",
)

concept(
    "sampling/annealing",
    title="Why anneal?",
    equation="6.14",
    question="""
    The plain chain has the exact score of the data, runs long, and still has the wrong share of points on the small
    island. What does annealing change?
    """,
    options={
        "a": Option(
            "The steps get smaller, and with them their discretisation error.",
            "The error of the step size would be there without islands, too. The trouble here is another.",
        ),
        "b": Option(
            "The score gets better, being estimated on noisy data.",
            "The plain chain already had the exact one.",
        ),
        "c": Option(
            "Points cross while the noise still joins the islands, then part.",
            "Right. Between islands there is no slope to follow and almost no chance to drift across. At high "
            "noise there is one hill, and it splits in the right proportion as the noise falls.",
            right=True,
        ),
        "d": Option(
            "More noise is added in all, and this spreads the points further out.",
            "Spread alone doesn't know how many points belong where. The score of the *noisy* density does.",
        ),
    },
)


# ------------------------------------------------------------------------------------------------------- 6.13 · masks

concept(
    "sampling/autoregressive",
    title="Many pixels at once",
    question="""
    A masking model gives, for every hidden pixel, the exact probability that it is white, given the visible ones. You
    draw *all* hidden pixels at once from these probabilities. What goes wrong?
    """,
    options={
        "a": Option(
            "Nothing does: exact probabilities give exact images, whatever the order.",
            "Each pixel alone is right. Look at two of them together.",
        ),
        "b": Option(
            "The images get too dark, since the small probabilities are rounded to 0.",
            "Nothing is rounded; a pixel with probability 0.1 is white one time in ten.",
        ),
        "c": Option(
            "Pixels that depend on each other are drawn as if they didn't.",
            "Right. $p(a,b)=p(a)\\,p(b\\mid a)$, and drawing both from $p(a)\\,p(b)$ mixes half a shirt with half "
            "a shoe. One at a time, each sees all those before it.",
            right=True,
        ),
        "d": Option(
            "Their order is lost, and the chain rule is exact from top to bottom only.",
            "By the chain rule any order is exact, one at a time. The trouble is in doing it at once.",
        ),
    },
)


@fixture("sampling/white")
def _white(seed: int = 0):
    """Probabilities of white, (n, d), that depend on all pixels that are there already."""
    return lambda x: torch.sigmoid(x.cumsum(1).flip(1) + 0.5 * x.sum(1, keepdim=True) - 0.3)


def _unmask(probability, turn, rounds, uniforms):
    x = torch.zeros(turn.shape, device=turn.device)
    for k in range(rounds):
        pixels = torch.where(uniforms[k] < probability(x), 1.0, -1.0)
        x = torch.where(turn * rounds // turn.shape[1] == k, pixels, x)
    return x


def _unmask_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, d, rounds in ((5, 12, 4), (40, 9, 9), (60, 10, 1), (30, 10, 3), (20, 15, 7)):
        turn = torch.rand(n, d, generator=rng).argsort(1).argsort(1)
        uniforms = torch.rand(rounds, n, d, generator=rng)
        args = {"probability": Fixture("sampling/white"), "turn": turn, "rounds": rounds, "uniforms": uniforms}
        cases.append(Case(args, label=f"{d} pixels in {rounds} rounds"))
    return cases


def _unmask_at_once(probability, turn, rounds, uniforms):
    start = torch.zeros(turn.shape, device=turn.device)
    return _unmask(lambda x: probability(start), turn, rounds, uniforms)


def _unmask_black(probability, turn, rounds, uniforms):
    return -_unmask(lambda x: probability(-x), turn, rounds, uniforms)


def _unmask_again(probability, turn, rounds, uniforms):
    """Pixels that are there already are drawn again."""
    x = torch.zeros(turn.shape, device=turn.device)
    for k in range(rounds):
        pixels = torch.where(uniforms[k] < probability(x), 1.0, -1.0)
        x = torch.where(turn * rounds // turn.shape[1] <= k, pixels, x)
    return x


def _unmask_rounded(probability, turn, rounds, uniforms):
    return _unmask(probability, turn, rounds, (uniforms >= 0.5) * 0.0 + 0.5)


def _unmask_backwards(probability, turn, rounds, uniforms):
    return _unmask(probability, turn.shape[1] - 1 - turn, rounds, uniforms)


quiz(
    "sampling/unmask",
    points=3,
    minutes=8,
    title="Pixel by pixel, or several at once",
    reference=_unmask,
    cases=_unmask_cases,
    misconceptions=[
        Misconception(
            "asked only once",
            _unmask_at_once,
            "The probabilities change with every pixel that is drawn: ask again in each round.",
        ),
        Misconception(
            "black for white", _unmask_black, "A number *below* the probability of white makes a pixel white, 1."
        ),
        Misconception("drawn again", _unmask_again, "A pixel is drawn in its own round, and then stays."),
        Misconception(
            "the likelier colour",
            _unmask_rounded,
            "Draw: compare the probability with the given number, not with a half.",
        ),
        Misconception("the other end first", _unmask_backwards, "Turn 0 comes first, turn d − 1 last."),
    ],
    hints=[
        "All hidden at first: zeros. Then one loop over the rounds.",
        "In each round ask for the probabilities *now*, and make a whole image of −1 and 1 from this round's numbers.",
        "Of that image take only the pixels whose round it is, and leave all others as they are: `torch.where`.",
        "`due = turn * rounds // d == k`, then `x = torch.where(due, pixels, x)`.",
    ],
    passed="One loop from a single shot to an autoregressive model: what changes is how many pixels are drawn without "
    "knowing of each other.",
    explanation="""
    With one pixel a round this is the chain rule, exact for any order. With several, those of one round are drawn as if
    they were independent.
    """,
)
