"""The quizzes of notebook 06, "Sampling"."""

import torch

from course_utils import diffusion as library
from course_utils.sampling import (
    annealed_langevin,
    ddim,
    ddpm,
    dpm_solver,
    heun,
    langevin_dynamics,
    langevin_step,
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
    """A denoiser (x_t, t, y=None) → x̂_0 that listens to every pixel, to its neighbour and to the step."""
    schedule = _schedule(curve, T)

    def denoise(x_t, t, y=None):
        signal, kappa = schedule.rates(t, x_t)
        return 1.5 * torch.tanh(signal * x_t + 0.4 * kappa * x_t.roll(1, -1) + 0.2)  # not always in [-1, 1]

    return denoise


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


# ------------------------------------------------------------------------------------------- 6.1 · one ancestral step


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
    minutes=8,
    equation="6.1",
    title="One ancestral step",
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
        "`mean, small = schedule.posterior(x0, x_t, at, to)` is (3.8) for any stride; `at` and `to` are tensors (b,), "
        "such as `torch.full((len(x_t),), t, device=x_t.device)`.",
        "`beta = 1 - schedule.alpha_bar[t] / schedule.alpha_bar[s]`, and the variance is "
        "`small ** (1 - kappa) * beta**kappa`.",
        "`if s == 0: return mean`, else `return mean + variance.sqrt() * noise`",
    ],
    explanation="""
    Everything but the guess was known before any network was trained. With kappa = 0 the rule for the last step comes
    for free, since the posterior's variance is 0 there; with β it has to be said.
    """,
)

# ------------------------------------------------------------------------------------------------ 6.2 · three bug hunts


def _product_step(x_t, x0, t, noise, schedule):
    mean, variance = schedule.posterior(x0, x_t, _full(x_t, t))
    return mean + variance.sqrt() * noise


def _single_steps(rng: torch.Generator) -> list[Case]:
    cases = []
    for x_t, x0, noise, t, _, schedule in _strides(rng):
        args = {"x_t": x_t, "x0": x0, "t": t, "noise": noise, "schedule": schedule}
        cases.append(Case(args, label=_way(schedule, t, t - 1)))
    return cases


def _product_as_handed_out(x_t, x0, t, noise, schedule):
    mean, variance = schedule.posterior(x0, x_t, _full(x_t, t))
    return mean * variance.sqrt() * noise


def _product_variance(x_t, x0, t, noise, schedule):
    mean, variance = schedule.posterior(x0, x_t, _full(x_t, t))
    return mean + variance * noise


def _product_added(x_t, x0, t, noise, schedule):
    mean, variance = schedule.posterior(x0, x_t, _full(x_t, t))
    return mean + variance.sqrt() + noise


quiz(
    "sampling/product",
    points=2,
    minutes=3,
    equation="6.1",
    title="Bug hunt: one sign",
    bug_hunt=True,
    reference=_product_step,
    library=(ddpm, ddim, dpm_solver, solvers._multistep),
    answered_by=("sampling/ancestral-step", "sampling/ddim-step"),
    cases=_single_steps,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _product_as_handed_out,
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
        "How do you draw from N(μ, σ²) if you have z from N(0, 1)?",
        "Of the two multiplication signs in the last line one is right.",
        "`mean + variance.sqrt() * noise`",
    ],
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


def _walk_stops_early(denoise, schedule, x, draws):
    for t in range(schedule.T, 1, -1):
        at = _full(x, t)
        mean, variance = schedule.posterior(denoise(x, at), x, at)
        x = mean + variance.sqrt() * draws[t]
    return x


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
    "sampling/short-loop",
    points=2,
    minutes=4,
    equation="6.1",
    title="Bug hunt: the loop",
    bug_hunt=True,
    reference=_full_walk,
    library=(ddpm, ddim, dpm_solver, solvers._multistep),
    cases=_walks,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _walk_stops_early,
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
        "`range(a, b, -1)` stops *before* b.",
        "T steps lead from x_T to x_0. How many does this loop take?",
        "`range(schedule.T, 0, -1)`",
    ],
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


def _beta_walk_as_handed_out(denoise, schedule, x, draws):
    for t in range(schedule.T, 0, -1):
        at = _full(x, t)
        mean, _ = schedule.posterior(denoise(x, at), x, at)
        x = mean + schedule.beta[t].sqrt().to(x.dtype) * draws[t]
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
    return _beta_walk_as_handed_out(denoise, schedule, x, torch.cat([draws[:-1], 0 * draws[-1:]]))


def _beta_walk_cut(denoise, schedule, x, draws):
    for t in range(schedule.T, 1, -1):
        at = _full(x, t)
        mean, _ = schedule.posterior(denoise(x, at), x, at)
        x = mean + schedule.beta[t].sqrt().to(x.dtype) * draws[t]
    return x


quiz(
    "sampling/noise-at-the-end",
    points=2,
    minutes=4,
    equation="6.1",
    title="Bug hunt: the last step",
    bug_hunt=True,
    reference=_beta_walk,
    library=(ddpm,),
    cases=_walks,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _beta_walk_as_handed_out,
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
        "In Algorithm 2 of the paper one line reads: z ~ N(0, I) if t > 1, else z = 0.",
        "Which t is the last one of the loop? `t > 0` holds for it, too.",
        "`draws[t] if t > 1 else torch.zeros_like(x)`",
    ],
    explanation="""
    With the posterior's variance the bug can't be made, since β̃_1 = 0. With σ_t² = β_t the last step would put back
    what it has just taken away.
    """,
)

# --------------------------------------------------------------------------------------------- 6.3 · which variance

concept(
    "sampling/which-variance",
    title="Which variance is right?",
    equation="6.2",
    question="""
    The reverse step needs a variance between $\\tilde\\beta_t$ and $\\beta_t$, and neither is exact for images. Why
    does the choice matter so much less with 1,000 steps than with 20?
    """,
    options={
        "a": Option(
            "Because the network has been trained with 1,000 steps.",
            "The network was trained to denoise at single noise levels, and knows nothing of strides. In the toy above "
            "there is no network at all, and the curves meet just the same.",
        ),
        "b": Option(
            "Because errors of a thousand steps cancel each other on average.",
            "A variance that is too large is too large in every step: errors of one sign don't cancel.",
        ),
        "c": Option(
            "Because for short strides the two are nearly equal, except in the last few steps.",
            "Right. Their ratio is $(1-\\bar\\alpha_s)/(1-\\bar\\alpha_t)$, which is near 1 if $s$ is near $t$. Only "
            "close to the image it isn't, and there both are tiny.",
            right=True,
        ),
        "d": Option(
            "Because with 1,000 steps both variances are practically 0, so that no noise is added.",
            "Each is small, but a thousand of them add up. With no noise at all one gets something else: see 6.6.",
        ),
    },
)

# --------------------------------------------------------------------------------------------------- 6.4 · fewer steps


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
    minutes=4,
    equation="6.3",
    title="Where to stop",
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
        "`steps` strides have steps + 1 ends: k runs from 0 to steps.",
        "The k-th stop is T · (steps − k) / steps, rounded to the nearest whole number.",
        "`[round(T * (steps - k) / steps) for k in range(steps + 1)]`",
    ],
    explanation="""
    The two ends are the part that gets lost in practice: T, because the noise that a walk starts from is x_T and
    nothing else; and 0, because an image is x_0.
    """,
)

concept(
    "sampling/hard-t",
    title="What survives",
    question="""
    At $t=600$ about two thirds of the variance are noise, and no pixel can be trusted. Yet redrawn images
    mostly keep their class. What is it that survived?
    """,
    options={
        "a": Option(
            "The network has learned the test images by heart, and recognises them.",
            "It never saw the test images. And memory would bring back the *same* image, while the correlation falls.",
        ),
        "b": Option(
            "Coarse shapes: averaged over hundreds of pixels the noise is small, and the signal isn't.",
            "Right. A mean over $n$ pixels has only $1/n$ of the noise's variance. A shape is such a mean, a stitch on "
            "a shoe isn't: large things survive longer than small ones.",
            right=True,
        ),
        "c": Option(
            "The class label: the model is told what to draw.",
            'Here it isn\'t: `y` was left out, which means "any class".',
        ),
        "d": Option(
            "Nothing; the classifier would call any sample by that name.",
            "Then the share would not fall towards what blind guessing gives at the noisy end. It does.",
        ),
    },
)

# ----------------------------------------------------------------------------------------------------------- 6.6 · DDIM


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
    minutes=8,
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
        "First the noise ε̂ that the guess leaves over, (5.7): (x_t − √ᾱ_t x̂_0) / √(1 − ᾱ_t).",
        "`sigma = eta * ((1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)) ** 0.5`",
        "`alpha_bar_s**0.5 * x0 + (1 - alpha_bar_s - sigma**2) ** 0.5 * eps + sigma * noise`",
    ],
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
            "η = 0: nearly the same images twice. η = 1: other images.",
            "Right. Without fresh noise the start decides everything, and strides only decide how exactly the same way "
            "is walked. With it, chance along the way decides as well.",
            right=True,
        ),
        "b": Option(
            "Other images in both cases: more steps, another result.",
            "More strides change the *accuracy*, and with η = 0 there is one curve that all of them approximate.",
        ),
        "c": Option(
            "The same images in both cases: the noise at the start is the same.",
            "With η = 1 every stride adds noise of its own. The start is forgotten on the way.",
        ),
        "d": Option(
            "η = 0: the same image a hundred times, since nothing is random.",
            "The start is still random: a hundred different starts lead to a hundred images.",
        ),
    },
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
            "Because it lies outside the range of images, [-1, 1].",
            "Codes are noise, and noise reaches beyond ±3. Their range isn't the trouble.",
        ),
        "b": Option(
            "Because the mean of two Gaussians isn't Gaussian.",
            "It is Gaussian. Look at its variance.",
        ),
        "c": Option(
            "Because the network has never seen that very noise.",
            "It has never seen $a$ or $b$ either, and does well from both.",
        ),
        "d": Option(
            "Because its variance is a half: in high dimensions all noise has length close to √d, and this hasn't.",
            "Right. Its length is about $\\sqrt{d/2}$, where the training noise never was. Slerp goes round, along the "
            "sphere, instead of through it.",
            right=True,
        ),
    },
)

# -------------------------------------------------------------------------------------------------------- 6.8 · solvers


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


quiz(
    "sampling/heun-step",
    points=4,
    minutes=10,
    equation="6.9",
    title="One step of Heun's method",
    reference=_heun_step,
    library=(heun,),
    cases=_heun_cases,
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
        "Write a little function for the slope ε̂ at (x, t) first; `predict_noise(schedule, x0, x, t)` is (5.7).",
        "`straight(slope)` gives √ᾱ_s · (x_t/√ᾱ_t + (σ_s − σ_t) · slope). First with the slope at x_t.",
        "`end = straight(first)`; if s is 0 return it; else `straight((first + slope(end, s)) / 2)`.",
    ],
    explanation="""
    Two questions to the network instead of one, and the error per stride falls with its cube, not its square. At s = 0
    there is no noise left whose direction one could ask for, so the last stride is Euler's.
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
    minutes=8,
    equation="6.10",
    title="A step with a memory",
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
        "λ is `schedule.log_snr / 2`; the stride ahead is λ_s − λ_t, the one behind is λ_t − λ_r.",
        "`guess = x0 + ahead / (2 * behind) * (x0 - x0_before)`",
        "Then DDIM's stride (6.4) with η = 0 and this guess, from x_t.",
    ],
    explanation="""
    Order 2 for one evaluation a stride: what Heun asks the network for, this reads off the guess it has already had.
    """,
)

concept(
    "sampling/order",
    title="What order buys",
    equation="6.9",
    question="""
    On the exact-score laboratory, 20 strides of Euler leave an error of 0.1, and so do 20 strides of Heun. You want
    0.001. About how many *evaluations* does each need, if both are already in their regime?
    """,
    options={
        "a": Option(
            "Euler 2,000, Heun 4,000: Heun asks twice in each stride.",
            "It does ask twice. But its error falls with the *square* of the number of strides.",
        ),
        "b": Option(
            "Euler 2,000, Heun 400.",
            "Right. A hundredth of the error is 100 times the strides for order 1, and 10 times for order 2; Heun's "
            "200 strides are 400 evaluations.",
            right=True,
        ),
        "c": Option(
            "Euler 200, Heun 190.",
            "That would be one order more for each: 10 times the strides for order 2, 4.6 times for order 3.",
        ),
        "d": Option(
            "The same, since the error is the same at 20.",
            "At one point two curves may cross; their slopes differ.",
        ),
    },
)

concept(
    "sampling/better-solver",
    title="A better solver, a worse picture?",
    question="""
    A sampler lies closer to the exact solution of the probability-flow ODE of *our network* than another one, and its
    Fréchet distance to real images is larger, with ten thousand samples of each as well. How can that be?
    """,
    options={
        "a": Option(
            "It can't: the exact solution has the distribution of the data.",
            "With the exact score it has. The network's score is an estimate, and so its ODE leads somewhere else.",
        ),
        "b": Option(
            "The Fréchet distance is biased when images are few.",
            "That bias is nearly the same for both, at the same number of images, and with ten thousand it is small.",
        ),
        "c": Option(
            "The solver's order is below 1 on images.",
            "The left panel shows it converge. It converges to the network's idea of an image, though.",
        ),
        "d": Option(
            "It is the solution of the network's ODE, errors of the network included. Fewer strides, or fresh noise, "
            "may happen to cancel some of them.",
            "Right. Two errors are added: of the solver and of the network. Beyond some number of strides only the "
            "second is left, and it need not get smaller with more strides.",
            right=True,
        ),
    },
)

# ------------------------------------------------------------------------------------------------------ 6.10 · Langevin


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
    equation="6.12",
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
            "in (6.12).",
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
    hints=["Three terms: where we are, a step uphill, noise.", "`x + h * score(x) + (2 * h) ** 0.5 * noise`"],
    explanation="The 2 balances the climb: with any other factor another distribution than p would be left unchanged.",
)

concept(
    "sampling/annealing",
    title="Why anneal?",
    equation="6.13",
    question="""
    The plain chain in 6.10 has the exact score of the data, runs long, and still has the wrong share of points on the
    small island. What does annealing change?
    """,
    options={
        "a": Option(
            "It makes the steps smaller, and so the discretisation error.",
            "The error of the step size would be there without islands, too. The trouble here is another.",
        ),
        "b": Option(
            "It begins where the noise has joined the islands: points cross while they still can, and then part.",
            "Right. Between islands there is no slope to follow and almost no chance to drift across. At high noise "
            "there is one hill, and it splits in the right proportion as the noise falls.",
            right=True,
        ),
        "c": Option(
            "It replaces the score by a better estimate.",
            "The plain chain already had the exact one.",
        ),
        "d": Option(
            "It adds more noise in all, which spreads the points further.",
            "Spread alone doesn't know how many points belong where. The score of the *noisy* density does.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------------- 6.11 · masking

concept(
    "sampling/autoregressive",
    title="Many pixels at once",
    question="""
    The masking model gives, for every hidden pixel, the exact probability that it is white, given the visible ones. You
    draw *all* hidden pixels at once from these probabilities. What goes wrong?
    """,
    options={
        "a": Option(
            "Nothing: exact probabilities give exact samples.",
            "Each pixel alone would be right. Look at two of them together.",
        ),
        "b": Option(
            "The image is too dark: small probabilities are rounded to 0.",
            "Nothing is rounded; a pixel with probability 0.1 is white one time in ten.",
        ),
        "c": Option(
            "They are drawn independently: two pixels that depend on each other are drawn as if they didn't.",
            "Right. $p(a,b)=p(a)\\,p(b\\mid a)$, and drawing both from $p(a)\\,p(b)$ mixes half a shirt with half "
            "a shoe. One at a time, each sees all those before it.",
            right=True,
        ),
        "d": Option(
            "The order matters: it should go from top to bottom.",
            "By the chain rule any order is exact, one at a time. The trouble is in doing it at once.",
        ),
    },
)
