"""The quizzes of notebook 03, "Forward diffusion"."""

import math

import numpy as np
import torch

from course_utils import diffusion as library
from course_utils.data.mixtures import GaussianMixture
from course_utils.pitfalls import forward as pitfalls
from course_utils.sampling import ddim, ddim_invert, ddpm, dpm_solver, euler, heun, loop, solvers

from ..quizzes.declarations import Case, Fixture, Misconception, Option, Tolerance, Unfit, concept, fixture, quiz
from ..quizzes.raw import Array

# Of tables whose ends are small, or 0. What single precision allows is relative; a floor under them is a mistake.
TABLE = Tolerance(1e-4, 1e-10)

# What else of the library adds noise or goes back by the posterior, once it is given a chain of two stops.
WALKS = (ddim, ddpm, dpm_solver, euler, heun, ddim_invert, solvers.along, solvers._multistep)


def _per_image(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """One number for each image, shaped to multiply (b, c, h, w), in its precision."""
    return values.to(like.dtype).reshape(-1, 1, 1, 1)


def _between(low: int, high: int, n: int, rng: torch.Generator) -> list[int]:
    """n steps, low and high among those that may be drawn."""
    return torch.randint(low, high + 1, (n,), generator=rng).tolist()


def _tables(rng: torch.Generator) -> list[torch.Tensor]:
    """ᾱ of three schedules that have little in common: long, short, and one as short that ends in exactly 0.

    The long one is another every time: of two schedules of one length, nothing may be kept from one to the other.
    """
    more = 0.8 + 0.4 * torch.rand(1, generator=rng).item()
    return [
        library.linear_schedule(1000, 1e-4 * more, 0.02 * more).alpha_bar,
        library.cosine_schedule(20).alpha_bar,
        library.zero_terminal_snr(library.linear_schedule(20)).alpha_bar,
    ]


def _beginning_with_1(raw, case):
    """The table as it is, if ᾱ₀ is 1 or far from it: what lies just beside it, no relative error would show."""
    table = raw.data if isinstance(raw, Array) else None
    if table is not None and table.ndim == 1 and table.size and 1e-12 < abs(table[0] - 1) < 1e-6:
        raise Unfit("expected ᾱ₀ = 1, for the clean image has no noise at all, got a number just beside it")
    return raw


# ------------------------------------------------------------------------------------------------- 3.1 · one step

concept(
    "forward/noisier",
    minutes=1,
    title="Which step is noisier?",
    equation="3.1",
    question="""
    A lecture says: "the larger $\\alpha_t = 1-\\beta_t$, the noisier $x_t$ becomes." What do you say?
    """,
    options={
        "a": Option(
            "It is the reverse: $\\alpha_t$ is what a step keeps.",
            "Right. $\\alpha_t$ is the share of the variance that stays: $\\alpha_t = 1$ leaves the image as it is, "
            "$\\alpha_t = 0$ replaces it by noise. It is $\\beta_t$ that measures noise.",
            right=True,
        ),
        "b": Option(
            "True: $\\alpha_t$ multiplies the noise in (3.1).",
            "The noise is multiplied by $\\sqrt{\\beta_t}$; $\\sqrt{\\alpha_t}$ multiplies the image. The three rows "
            "below show it.",
        ),
        "c": Option(
            "Neither: each $\\varepsilon_t$ has variance 1, so all are alike.",
            "$\\varepsilon_t$ has variance 1, but it is added with the factor $\\sqrt{\\beta_t}$.",
        ),
        "d": Option(
            "It depends on $x_{t-1}$: bright images take up more noise.",
            "The noise is drawn without looking at the image; (3.1) adds the same amount to black and to white.",
        ),
    },
)


def _walk(x0, beta, noise):
    states = [x0]
    for b, e in zip(beta.to(x0.dtype), noise):
        states.append((1 - b).sqrt() * states[-1] + b.sqrt() * e)
    return torch.stack(states)


def _walk_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for T, shape, dtype in (
        (4, (3, 1, 5, 7), torch.float32),
        (1, (1, 3, 4, 2), torch.float64),
        (7, (2, 2, 3, 4), torch.float32),
    ):
        beta = 0.05 + 0.5 * torch.rand(T, generator=rng, dtype=torch.float64)
        x0, noise = (torch.randn(each, generator=rng, dtype=dtype) for each in (shape, (T, *shape)))
        label = f"{T} steps, images {shape}, {str(dtype).removeprefix('torch.')}"
        cases.append(Case({"x0": x0, "beta": beta, "noise": noise}, label=label))
    return cases


def _walk_by(step):
    """A walk with another step: (x, β, ε) -> x."""

    def wrong(x0, beta, noise):
        states = [x0]
        for b, e in zip(beta.to(x0.dtype), noise):
            states.append(step(states[-1], b, e))
        return torch.stack(states)

    return wrong


def _walk_from_x0(x0, beta, noise):
    return torch.stack([x0, *((1 - b).sqrt() * x0 + b.sqrt() * e for b, e in zip(beta.to(x0.dtype), noise))])


def _walk_without_x0(x0, beta, noise):
    return _walk(x0, beta, noise)[1:]


def _walk_end_only(x0, beta, noise):
    return _walk(x0, beta, noise)[-1]


quiz(
    "forward/walk",
    points=3,
    minutes=4,
    equation="3.1",
    title="The chain, step by step",
    reference=_walk,
    library=(library.Schedule.step,),
    cases=_walk_cases,
    misconceptions=[
        Misconception(
            "variances for standard deviations",
            _walk_by(lambda x, b, e: (1 - b) * x + b * e),
            "β and 1 − β are variances. What multiplies an image or a standard normal is their root.",
        ),
        Misconception(
            "β without its root",
            _walk_by(lambda x, b, e: (1 - b).sqrt() * x + b * e),
            "The noise of a step has variance β, so ε is multiplied by √β. Yours has variance β².",
        ),
        Misconception(
            "not shrunk",
            _walk_by(lambda x, b, e: x + b.sqrt() * e),
            "You only shake. Without the factor √(1 − β) the variance grows with every step.",
        ),
        Misconception(
            "always from x₀",
            _walk_from_x0,
            "Each of your steps begins at x₀ again. The chain goes on from where the step before has left it.",
        ),
        Misconception(
            "x₀ left out", _walk_without_x0, "The list begins with x₀ itself: T steps have T + 1 stops, x_0 to x_T."
        ),
        Misconception(
            "only the end", _walk_end_only, "Keep every stop on the way, not only x_T, and stack them along a new axis."
        ),
    ],
    hints=[
        "A list that begins with x0, and a loop that appends to it. What does each step need from the list?",
        "The step needs the last image in the list, one β and one ε: `zip(beta, noise)` hands out both.",
        "`states[-1]` is x_{t−1}. Multiply it by a root, add the noise times another root, append. `torch.stack` "
        "at the "
        "end.",
        "`states.append((1 - b).sqrt() * states[-1] + b.sqrt() * e)`, then `return torch.stack(states)`.",
    ],
    passed="This loop is the definition of diffusion. Everything else in the notebook is a way to avoid running it, "
    "and it is what every shortcut will be tested against.",
    explanation="""
    `states[-1]` is what makes it a Markov chain: a step looks at the last image and at nothing older. The result keeps
    the images' dtype because β is brought into it first.
    """,
)

concept(
    "forward/variance-preserving",
    title="Four hundred steps later",
    equation="3.1",
    question="""
    The pixels of $x_0$ have mean 0 and variance 1. We take 400 steps of (3.1) with $\\beta = 0.01$ each. What is the
    variance of a pixel then?
    """,
    options={
        "a": Option(
            "About $0.02$: the image is nearly gone, $0.99^{400}$ of it is left.",
            "That is the part that comes from the image. The noise of the steps brings the rest.",
        ),
        "b": Option(
            "It is $1$: a step takes $0.01$ away and adds $0.01$.",
            "Right: $0.99\\cdot1+0.01=1$, after every step. Hence the name *variance preserving*.",
            right=True,
        ),
        "c": Option(
            "About $5$: the noise of 400 steps, $0.01$ each, is added to $1$.",
            "It would be, had we only added. But each step also shrinks what is there.",
        ),
        "d": Option(
            "About $41$: every step adds $0.1$, the root of $0.01$.",
            "Standard deviations don't add up, variances do; and each step also shrinks what is there.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 3.2 · three ways up


def _betas(kind, T, beta_min=1e-4, beta_max=0.02):
    return _betas_along(torch.linspace(0, 1, T, dtype=torch.float64), kind, beta_min, beta_max)


def _betas_along(u, kind, beta_min, beta_max):
    if kind == "quadratic":
        return (beta_min**0.5 + (beta_max**0.5 - beta_min**0.5) * u) ** 2
    rise = torch.sigmoid(12 * u - 6) if kind == "sigmoid" else u
    return beta_min + (beta_max - beta_min) * rise


def _betas_cases(rng: torch.Generator) -> list[Case]:
    high = 0.02 + 0.1 * torch.rand(3, generator=rng, dtype=torch.float64)
    chains = [*zip(("quadratic", "sigmoid", "linear"), (12, 7, 5), (0.004, 1e-3, 0.01), high.tolist())]
    chains += [(kind, T, 1e-4, 0.02) for kind in ("linear", "quadratic", "sigmoid") for T in (1000, 2)]
    names = ("kind", "T", "beta_min", "beta_max")
    return [Case(dict(zip(names, chain)), label=f"{chain[0]}, T = {chain[1]}") for chain in chains]


def _betas_squares(kind, T, beta_min, beta_max):
    beta = _betas("linear" if kind == "quadratic" else kind, T, beta_min, beta_max)
    return beta.square() if kind == "quadratic" else beta


def _betas_line_squared(kind, T, beta_min, beta_max):
    if kind != "quadratic":
        return _betas(kind, T, beta_min, beta_max)
    return beta_min + (beta_max - beta_min) * torch.linspace(0, 1, T, dtype=torch.float64) ** 2


def _betas_sigmoid_of_u(kind, T, beta_min, beta_max):
    if kind != "sigmoid":
        return _betas(kind, T, beta_min, beta_max)
    return beta_min + (beta_max - beta_min) * torch.linspace(0, 1, T, dtype=torch.float64).sigmoid()


def _betas_from_step_1(kind, T, beta_min, beta_max):
    return _betas_along(torch.arange(1, T + 1, dtype=torch.float64) / T, kind, beta_min, beta_max)


def _betas_never_there(kind, T, beta_min, beta_max):
    return _betas_along(torch.arange(T, dtype=torch.float64) / T, kind, beta_min, beta_max)


def _betas_scaled(kind, T, beta_min, beta_max):
    return _betas(kind, T, beta_min, beta_max) * 1000 / T


def _betas_with_zero(kind, T, beta_min, beta_max):
    return torch.cat([torch.zeros(1, dtype=torch.float64), _betas(kind, T, beta_min, beta_max)])


def _betas_always_linear(kind, T, beta_min, beta_max):
    return _betas("linear", T, beta_min, beta_max)


quiz(
    "forward/step-variances",
    points=2,
    minutes=4,
    equation="3.2",
    title="Three ways up",
    reference=_betas,
    library=(library.linear_schedule, library.quadratic_schedule, library.sigmoid_schedule),
    answered_by=("forward/alpha-bar",),
    cases=_betas_cases,
    tolerance=TABLE,
    misconceptions=[
        Misconception(
            "the line squared",
            _betas_squares,
            "You squared a line from β_min to β_max, and it ends at β_max². In the quadratic schedule the *roots* run "
            "along a line, from √β_min to √β_max.",
        ),
        Misconception(
            "u squared",
            _betas_line_squared,
            "β_min + (β_max − β_min) u² also climbs along a parabola, but another one: (3.2) squares the whole line of "
            "roots.",
        ),
        Misconception(
            "the sigmoid of u",
            _betas_sigmoid_of_u,
            "σ(u) with u from 0 to 1 only runs from 0.50 to 0.73. (3.2) stretches: σ(12u − 6), from −6 to 6.",
        ),
        Misconception(
            "u from 1/T",
            _betas_from_step_1,
            "u = (t − 1)/(T − 1) is 0 at the first step: β₁ = β_min. Yours starts at 1/T.",
        ),
        Misconception(
            "u to (T − 1)/T",
            _betas_never_there,
            "u = (t − 1)/(T − 1) is 1 at the last step: β_T = β_max. Yours ends at (T − 1)/T: T steps have T − 1 "
            "strides between them, so divide by T − 1, or let `torch.linspace` do it.",
        ),
        Misconception(
            "scaled by 1000/T",
            _betas_scaled,
            "(3.2) has no 1000/T in it. You are ahead of the text: section 3.6 is about that factor.",
        ),
        Misconception(
            "a β₀",
            _betas_with_zero,
            "There are T steps, so T variances, from β₁ on. (A table of ᾱ will begin at 0; this one doesn't.)",
        ),
        Misconception("one line for all", _betas_always_linear, "Look at `kind`: (3.2) has three lines."),
    ],
    hints=[
        "Everything runs along u. What is u at the first step, what at the last, and how many values has it?",
        "`u = torch.linspace(0, 1, T, dtype=torch.float64)`; then the kinds differ only in how they rise.",
        "Linear and sigmoid are one line with two kinds of rise: u itself, or `torch.sigmoid(12 * u - 6)`. The "
        "quadratic one draws a straight line between the two *roots* and squares it.",
        "`(beta_min**0.5 + (beta_max**0.5 - beta_min**0.5) * u) ** 2` for the quadratic one.",
    ],
    passed="All three climb from β_min to β_max and differ in where they spend their steps: the quadratic one "
    "lingers where β is small, the sigmoid one changes over quickly in the middle.",
    explanation="""
    All three climb from β_min to β_max; they differ in where they spend their steps. The quadratic one lingers where β
    is small, so that the image lasts longer; the sigmoid one changes over quickly in the middle.
    """,
)

# ------------------------------------------------------------------------------------------------- 3.3 · the jump


def _linear_reference(T, beta_min=1e-4, beta_max=0.02):
    beta = torch.linspace(beta_min, beta_max, T, dtype=torch.float64)
    return library.Schedule.from_betas(beta).alpha_bar


def _linear_cases(rng: torch.Generator) -> list[Case]:
    high = 0.02 + 0.1 * torch.rand(2, generator=rng, dtype=torch.float64)
    chains = ((7, 0.01, high[0].item()), (1000, 1e-4, 0.02), (2, 1e-3, high[1].item()), (200, 1e-4, 0.02))
    return [
        Case({"T": T, "beta_min": low, "beta_max": top}, label=f"T = {T}, β from {low:g} to {top:.3g}")
        for T, low, top in chains
    ]


def _linear_betas(T, beta_min, beta_max):
    return torch.linspace(beta_min, beta_max, T, dtype=torch.float64)


def _linear_never_there(T, beta_min, beta_max):
    beta = beta_min + (beta_max - beta_min) * torch.arange(T, dtype=torch.float64) / T
    return torch.cat([beta.new_ones(1), (1 - beta).cumprod(0)])


def _linear_scaled(T, beta_min, beta_max):
    beta = 1000 / T * _linear_betas(T, beta_min, beta_max)
    return torch.cat([beta.new_ones(1), (1 - beta).cumprod(0)])


def _linear_without_one(T, beta_min, beta_max):
    return _linear_reference(T, beta_min, beta_max)[1:]


def _linear_zero_beta(T, beta_min, beta_max):
    return (1 - torch.linspace(beta_min, beta_max, T + 1, dtype=torch.float64)).cumprod(0)


def _linear_product_of_betas(T, beta_min, beta_max):
    beta = _linear_betas(T, beta_min, beta_max)
    return torch.cat([beta.new_ones(1), beta.cumprod(0)])


def _linear_sum(T, beta_min, beta_max):
    beta = _linear_betas(T, beta_min, beta_max)
    return torch.cat([beta.new_ones(1), 1 - beta.cumsum(0)])


def _linear_alphas(T, beta_min, beta_max):
    beta = _linear_betas(T, beta_min, beta_max)
    return torch.cat([beta.new_ones(1), 1 - beta])


def _linear_roots(T, beta_min, beta_max):
    return _linear_reference(T, beta_min, beta_max).sqrt()


quiz(
    "forward/alpha-bar",
    points=2,
    minutes=3,
    equation="3.3",
    title="The table of ᾱ",
    reference=_linear_reference,
    library=(library.linear_schedule, library.Schedule.from_betas),
    answered_by=("forward/look-up",),
    cases=_linear_cases,
    tolerance=TABLE,
    measured=_beginning_with_1,
    misconceptions=[
        Misconception(
            "ᾱ₀ forgotten",
            _linear_without_one,
            "Your table begins with ᾱ₁. The clean image belongs in it: ᾱ₀ = 1, so that ᾱ_t stands at place t. Without "
            "it every index is off by one, and the last step of every sampler needs a special case.",
        ),
        Misconception(
            "one β too many",
            _linear_zero_beta,
            "You spread T + 1 values of β and multiplied all of them. There are T steps, so T values of β; the leading "
            "entry of the table is 1, the product of no factors.",
        ),
        Misconception(
            "β never arrives",
            _linear_never_there,
            "Your last β is a stride short of β_max. T values have T − 1 strides between them: divide by T − 1, or let "
            "`torch.linspace(beta_min, beta_max, T)` do it.",
        ),
        Misconception(
            "scaled by 1000/T",
            _linear_scaled,
            "You multiplied β by 1000/T, and (3.2) has no such factor. You are ahead of the text: section 3.6.",
        ),
        Misconception(
            "product of β",
            _linear_product_of_betas,
            "You multiplied β. What survives a step is α = 1 − β; the product of those survives them all.",
        ),
        Misconception(
            "a sum for a product",
            _linear_sum,
            "1 − (β₁ + … + β_t) is only the beginning of the product, good while it is near 1; then it turns negative.",
        ),
        Misconception(
            "α, not ᾱ", _linear_alphas, "These are the single steps' α_t. Equation (3.3) multiplies them up to t."
        ),
        Misconception(
            "square roots", _linear_roots, "The table holds ᾱ, a share of *variance*. The root is taken in (3.4)."
        ),
    ],
    hints=[
        "How many β are there, and how many entries has the table? Where does the difference come from?",
        "What survives a step is 1 − β. What survives t of them is a product; PyTorch has one that runs along.",
        '`step_variances("linear", T, beta_min, beta_max)` gives the β, `.cumprod(0)` the running product, '
        "`torch.cat` puts a 1 in front of it.",
        "`torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])`",
    ],
    passed="With ᾱ₀ = 1 in front, the table reads as it is written: `alpha_bar[t]` is ᾱ_t, and neither end needs "
    "special care.",
    explanation="""
    With the leading 1 the table reads as it is written: `alpha_bar[t]` is ᾱ_t, for t = 0 too. Many
    implementations start at ᾱ₁, and each of them carries a special case for the last step back to the clean image.
    Double precision costs nothing here: a thousand rounded factors, and differences such as 1 − ᾱ₁ = 0.0001, are where
    single precision loses digits.
    """,
)


# Every formula with ᾱ_t looks it up by `_exactly`; a mixture of points, diffused, has the factors of (3.4) in it.
ADDING_NOISE = (library.Schedule.add_noise, library.Schedule._exactly, GaussianMixture.diffused, *WALKS)


def _noising_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    shapes = ((5, 1, 5, 7), (1, 3, 4, 2), (3, 2, 4, 6))
    for shape, alpha_bar, dtype in zip(shapes, _tables(rng), (torch.float32, torch.float64, torch.float32)):
        T = len(alpha_bar) - 1
        ends = {5: [0, T, 1], 1: [], 3: [T, 1]}[shape[0]]
        t = ends + _between(2, T - 1, shape[0] - len(ends), rng)
        x0 = 2 * torch.rand(shape, generator=rng, dtype=dtype) - 1
        noise = torch.randn(shape, generator=rng, dtype=dtype)
        args = {"x0": x0, "t": torch.tensor(t), "noise": noise, "alpha_bar": alpha_bar}
        cases.append(Case(args, label=f"images {shape}, t = {t} of {T}, {str(dtype).removeprefix('torch.')}"))
    return cases


def _add_noise(x0, t, noise, alpha_bar):
    return library.Schedule(alpha_bar).add_noise(x0, t, noise)


_noise_variance = pitfalls.noise_images


def _noise_no_roots(x0, t, noise, alpha_bar):
    a = _per_image(alpha_bar[t], x0)
    return a * x0 + (1 - a) * noise


def _noise_image_not_shrunk(x0, t, noise, alpha_bar):
    return x0 + (1 - _per_image(alpha_bar[t], x0)).sqrt() * noise


def _noise_single_step(x0, t, noise, alpha_bar):
    alpha = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    a = _per_image(alpha[t], x0)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def _noise_step_before(x0, t, noise, alpha_bar):
    return _add_noise(x0, (t - 1).clamp(min=0), noise, alpha_bar)


def _noise_step_before_around_the_end(x0, t, noise, alpha_bar):
    a = _per_image(alpha_bar[t - 1], x0)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def _noise_roles(x0, t, noise, alpha_bar):
    return _add_noise(noise, t, x0, alpha_bar)


def _noise_of_its_own(x0, t, noise, alpha_bar):
    return _add_noise(x0, t, torch.randn_like(x0), alpha_bar)


def _noise_of_its_own_in_float32(x0, t, noise, alpha_bar):
    return _add_noise(x0, t, torch.randn(x0.shape, device=x0.device).to(x0.dtype), alpha_bar)


def _noise_subtracted(x0, t, noise, alpha_bar):
    return _add_noise(x0, t, -noise, alpha_bar)


def _noise_rates_that_add_up(x0, t, noise, alpha_bar):
    root = _per_image(alpha_bar[t].sqrt(), x0)
    return root * x0 + (1 - root) * noise


def _noise_one_t(x0, t, noise, alpha_bar):
    return _add_noise(x0, t[:1].expand_as(t), noise, alpha_bar)


_OWN_NOISE = "You draw noise of your own. Use the noise that is handed in: the network will be asked for just that."

quiz(
    "forward/add-noise",
    points=3,
    minutes=4,
    equation="3.4",
    title="Jump to step t",
    reference=_add_noise,
    library=ADDING_NOISE,
    answered_by=("forward/pairs",),
    cases=_noising_cases,
    misconceptions=[
        Misconception(
            "variance for standard deviation",
            _noise_variance,
            "1 − ᾱ is the *variance* of the noise. What multiplies a standard normal is a standard deviation: its "
            "root.",
        ),
        Misconception(
            "no roots at all",
            _noise_no_roots,
            "ᾱ and 1 − ᾱ are shares of variance. Both factors of (3.4) are their square roots; yours fade the image "
            "into noise like a slide show and lose variance on the way.",
        ),
        Misconception(
            "the image not shrunk",
            _noise_image_not_shrunk,
            "You only add noise. The image has to shrink by √ᾱ_t at the same time, or the variance grows and the image "
            "never goes away.",
        ),
        Misconception(
            "α for ᾱ",
            _noise_single_step,
            "These are the factors of the single step t. For the whole way from 0 to t take ᾱ_t, the product.",
        ),
        Misconception(
            "t off by one",
            _noise_step_before,
            "You look up ᾱ at t − 1. The table has ᾱ₀ = 1 in front, so ᾱ_t stands at place t.",
        ),
        Misconception(
            "t − 1 for t",
            _noise_step_before_around_the_end,
            "You look up ᾱ at t − 1. The table has ᾱ₀ = 1 in front, so ᾱ_t stands at place t; and at t = 0 yours takes "
            "the last entry, place −1.",
        ),
        Misconception(
            "image and noise exchanged", _noise_roles, "√ᾱ_t goes with the image, √(1 − ᾱ_t) with the noise."
        ),
        Misconception(
            "1 − √ᾱ for √(1 − ᾱ)",
            _noise_rates_that_add_up,
            "1 − √ᾱ_t is not √(1 − ᾱ_t): it is the *variances* ᾱ_t and 1 − ᾱ_t that add up to 1, not the two rates.",
        ),
        Misconception("noise subtracted", _noise_subtracted, "Both terms of (3.4) have a plus before them."),
        Misconception(
            "noise of one's own",
            _noise_of_its_own,
            _OWN_NOISE,
        ),
        Misconception("noise of one's own, drawn in float32", _noise_of_its_own_in_float32, _OWN_NOISE),
        Misconception(
            "one t for the whole batch",
            _noise_one_t,
            "Every image has a step of its own; you used the first one for all. `alpha_bar[t]` gives one number an "
            "image: it needs the shape (b, 1, 1, 1).",
        ),
    ],
    hints=[
        "Which two numbers multiply x0 and noise? Both are square roots.",
        "`alpha_bar[t]` picks one number for each image: its shape is (b,). What shape must it have to multiply "
        "(b, c, h, w)?",
        "Give it three more axes, `.view(-1, 1, 1, 1)`, so that each image meets its own number. And the table is "
        "float64: `.to(x0.dtype)` keeps the images in their precision.",
        "`a = alpha_bar[t].to(x0.dtype).view(-1, 1, 1, 1)`, then `a.sqrt() * x0 + (1 - a).sqrt() * noise`.",
    ],
    passed="A thousand steps in one line, for every image at a step of its own. Each training step of notebook 05 "
    "begins with it.",
    explanation="""
    Indexing with t picks one entry for each image, the view makes it (b, 1, 1, 1), and broadcasting does the rest. The
    cast matters: a float64 factor of that shape would turn the whole batch into float64, which is slow, and which a
    float32 network refuses.
    """,
)

quiz(
    "forward/published-noise",
    points=3,
    minutes=6,
    equation="3.4",
    title="Bug hunt",
    bug_hunt=True,
    reference=_add_noise,
    library=ADDING_NOISE,
    answered_by=("forward/pairs",),
    cases=_noising_cases,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _noise_variance,
            "One of the two factors is still a variance. What multiplies a standard normal to give it the variance "
            "1 − ᾱ?",
        ),
        Misconception(
            "the wrong factor changed",
            _noise_no_roots,
            "Now neither factor has a root. The one of the image was right; fix the other.",
        ),
    ],
    hints=[
        "Take an image of unit variance, half-way. Which of the two parts of the sum brings too little variance?",
        "Two lines prepare the two factors. Compare them: what happens to the one and not to the other?",
        "Var(c · ε) = c². Which c gives the variance 1 − ᾱ?",
        "`noise_rate = added.sqrt().reshape(for_each_image)`",
    ],
    passed="(1 − ᾱ)·ε has variance (1 − ᾱ)², too little everywhere but at the ends: the mistake hides because "
    "both ends are right.",
    explanation="""
    (1 − ᾱ)·ε has variance (1 − ᾱ)², which is less than 1 − ᾱ: too little noise everywhere between the ends. An image of
    unit variance then has ᾱ + (1 − ᾱ)², at its lowest, 3/4, where ᾱ = 1/2: around t = 260 of the linear schedule. Both
    ends are right, so the pictures look fine. The network learns images that are cleaner than the sampler believes, and
    the sampler, which uses the correct variances, feeds it images it has never seen.
    """,
)

concept(
    "forward/noise-harm",
    title="And the samples?",
    equation="3.4",
    question="""
    A network is trained on images from somebody else's function. A sampler, whose own formulas are right, uses it.
    What happens in the middle of the walk?
    """,
    options={
        "a": Option(
            "The samples get darker and darker, since the image's factor is too small.",
            "The image's factor is right. It is the noise that is too weak.",
        ),
        "b": Option(
            "Nothing, since a network learns to remove whatever noise it is shown.",
            "It has learned to remove *that much* noise at *that* step. The sampler hands it more.",
        ),
        "c": Option(
            "Training fails before that, since the variances don't add up to 1.",
            "Nothing in training asks for it: the loss falls as usual, which is why the mistake lives long.",
        ),
        "d": Option(
            "The network meets images noisier than any it was shown at that step.",
            "Right. It takes them for what it knows and removes too little; later steps inherit what is left.",
            right=True,
        ),
    },
)


def _pair_reference(x0, t, noise, alpha_bar):
    return _add_noise(x0, t, noise, alpha_bar), noise


_pair_as_handed_out = pitfalls.training_pair


def _pair_twice_noisy(x0, t, noise, alpha_bar):
    noisy = _add_noise(x0, t, noise, alpha_bar)
    return noisy, noisy


def _pair_predicts_image(x0, t, noise, alpha_bar):
    return _add_noise(x0, t, noise, alpha_bar), x0


quiz(
    "forward/pairs",
    points=2,
    minutes=5,
    title="Bug hunt",
    bug_hunt=True,
    reference=_pair_reference,
    cases=_noising_cases,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _pair_as_handed_out,
            "The network still gets the plain noise to look at, and is asked for the noised image. In which order does "
            "`forward` return its two results?",
        ),
        Misconception(
            "the image as target",
            _pair_predicts_image,
            "That is a legitimate target, but not the one that the docstring asks for: the noise.",
        ),
        Misconception(
            "one result used twice", _pair_twice_noisy, "Input and target are now the same: nothing to learn."
        ),
    ],
    hints=[
        "The network is shown plain noise at every step. Which line decides what is returned first?",
        "Read what `forward` says it returns, then the line that calls it.",
        "Both results have the same shape and type, so no assertion can notice. Only the order of the names decides.",
        "`target, noisy = forward(x0, t)`",
    ],
    passed="Two results of one shape and type will be exchanged some day. The library returns a `NamedTuple`, or "
    "one thing.",
    explanation="""
    With the names exchanged the network sees ε and has to answer √ᾱ x₀ + √(1−ᾱ) ε. The part with ε it can copy; x₀ it
    cannot know, so it answers with the mean image. The loss falls, fast even, and then stays. Sampling with it gives
    nothing. Results of one shape and type deserve names: the library's functions return a `NamedTuple`, or one thing.
    """,
)

concept(
    "forward/pairs-harm",
    title="What was learned?",
    question="""
    A network was trained for hours on the exchanged pairs: shown $\\varepsilon$, asked for $x_t$, squared error. Its
    loss fell quickly. What does it answer now?
    """,
    options={
        "a": Option(
            "A clean image, another one for each noise: it has become a generator.",
            "Noise and image of a pair were drawn independently: the noise says nothing about which image it was.",
        ),
        "b": Option(
            "The noise as it came, for there was nothing else that it could learn.",
            "It can do better: it also knows what images look like on average.",
        ),
        "c": Option(
            "The noise, weakened, plus the mean of all images: all that it can know.",
            "Right: $\\sqrt{\\bar\\alpha_t}\\,\\mathbb E[x_0]+\\sqrt{1-\\bar\\alpha_t}\\,\\varepsilon$ has the "
            "least squared error. "
            "Hours of training for one image.",
            right=True,
        ),
        "d": Option(
            "Zero everywhere, since noise and images have no correlation at all.",
            "With $x_0$ it has none, but $x_t$ contains the very noise that was shown.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 3.4 · curves


def _cosine_reference(T, s=0.008, max_beta=0.999):
    return library.cosine_schedule(T, s, max_beta).alpha_bar


def _cosine_cases(rng: torch.Generator) -> list[Case]:
    s = 0.02 + 0.1 * torch.rand(1, generator=rng, dtype=torch.float64).item()
    # with a limit of 0.3 several steps are limited, one after another
    settings = ((30, s, 0.9), (12, 0.0, 0.3), (1000, 0.008, 0.999), (2, 0.008, 0.999), (1, 0.0, 0.6))
    return [
        Case({"T": T, "s": s, "max_beta": most}, label=f"T = {T}, s = {s:.3g}, max_beta = {most}")
        for T, s, most in settings
    ]


def _cosine_curve(T, s, power=2, angle=math.pi / 2, shift=0):
    u = (torch.arange(T + 1, dtype=torch.float64) + shift) / T
    return ((u + s) / (1 + s) * angle).cos() ** power


def _clipped(curve, max_beta):
    beta = (1 - curve[1:] / curve[:-1]).clamp(max=max_beta)
    return torch.cat([curve.new_ones(1), (1 - beta).cumprod(0)])


def _cosine_not_divided(T, s, max_beta):
    return _cosine_curve(T, s)


def _cosine_not_clipped(T, s, max_beta):
    curve = _cosine_curve(T, s)
    return curve / curve[0]


def _cosine_not_squared(T, s, max_beta):
    return _clipped(_cosine_curve(T, s, power=1), max_beta)


def _cosine_without_s(T, s, max_beta):
    return _clipped(_cosine_curve(T, 0.0), max_beta)


def _cosine_limited_once(T, s, max_beta):
    curve = _cosine_not_clipped(T, s, max_beta)
    return torch.cat([curve[:1], torch.maximum(curve[1:], (1 - max_beta) * curve[:-1])])


def _cosine_without_one(T, s, max_beta):
    return _cosine_reference(T, s, max_beta)[1:]


def _cosine_one_short(T, s, max_beta):
    return _clipped(_cosine_curve(T, s)[:-1], max_beta)


def _cosine_clipped_table(T, s, max_beta):
    curve = _cosine_curve(T, s)
    return (curve / curve[0]).clamp(min=1 - max_beta)


quiz(
    "forward/cosine",
    points=3,
    minutes=5,
    equation="3.5",
    title="The cosine schedule",
    reference=_cosine_reference,
    library=(library.cosine_schedule,),
    cases=_cosine_cases,
    tolerance=Tolerance(1e-4, 3e-8),  # cos² by the double angle loses its last digits where it is nearly 0
    measured=_beginning_with_1,
    misconceptions=[
        Misconception(
            "not divided by f(0)",
            _cosine_not_divided,
            "f(0) is a little less than 1. Divide by it, so that ᾱ₀ = 1; and no β may exceed max_beta.",
        ),
        Misconception(
            "β not limited",
            _cosine_not_clipped,
            "Your last ᾱ is 0 but for rounding: β_T = 1. Then √ᾱ_T is a divisor of 0 in a sampler. Limit each β = "
            "1 − ᾱ_t/ᾱ_{t−1} to max_beta and multiply again.",
        ),
        Misconception(
            "cosine not squared",
            _cosine_not_squared,
            "The *amplitude* √ᾱ follows a cosine, so ᾱ, a share of variance, follows its square.",
        ),
        Misconception(
            "s forgotten",
            _cosine_without_s,
            "The angle is (t/T + s)/(1 + s) · π/2; without s the first steps are tiny.",
        ),
        Misconception(
            "ᾱ limited instead of β",
            _cosine_clipped_table,
            "max_beta limits the single step's β, not the table. With a floor under ᾱ the last steps add nothing.",
        ),
        Misconception(
            "limited against the curve",
            _cosine_limited_once,
            "Where one limited step follows another, you go on from the curve, as if the step before had not been "
            "limited. First all β, limited; then their table, as in (3.3).",
        ),
        Misconception(
            "ᾱ₀ forgotten",
            _cosine_without_one,
            "Your table begins with ᾱ₁. Put ᾱ₀ = 1 in front, as in (3.3): then ᾱ_t stands at place t.",
        ),
        Misconception(
            "t up to T − 1",
            _cosine_one_short,
            "Your curve ends one step early. t runs from 0 to T: `torch.arange(T + 1)`, T + 1 places.",
        ),
    ],
    hints=[
        "Three stages: the curve f at t = 0 … T; the β that it implies, limited; the table from those β, as before.",
        "f has T + 1 values. β_t compares each with the one before it: what does slicing off the first, or the "
        "last, give?",
        "`u = torch.arange(T + 1, dtype=torch.float64) / T`, and β_t = 1 − f(t)/f(t−1) is `1 - f[1:] / f[:-1]`. "
        "Limit it with `.clamp(max=max_beta)` before you multiply.",
        "`beta = (1 - f[1:] / f[:-1]).clamp(max=max_beta)`; then a 1 and the running product of 1 − beta.",
    ],
    passed="You chose the curve and let the steps follow from it. The ratios have cancelled f(0), and the limit "
    "keeps the last step from dividing by zero later.",
    explanation="""
    Going through β looks like a detour and does two jobs: the ratios cancel f(0), and the limit keeps the last step
    from destroying everything (without it β_T = 1, ᾱ_T = 0 up to rounding, and a division by √ᾱ_T gives infinity or
    NaN: a bug that many have met). Computing in float64 keeps the ratios near t = 0 exact.
    """,
)


def _at_reference(t, beta):
    return torch.cat([beta.new_ones(1), (1 - beta).cumprod(0)])[t]


def _at_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for T, b, dtype in ((1000, 5, torch.float64), (12, 1, torch.float64), (50, 3, torch.float32)):
        beta = 1e-4 + min(0.4, 5 / T) * torch.rand(T, generator=rng, dtype=dtype)
        t = torch.tensor([T, 1, *_between(2, T - 1, 3, rng)][:b])
        label = f"t = {t.tolist()} of {T}, {str(dtype).removeprefix('torch.')}"
        cases.append(Case({"t": t, "beta": beta}, label=label))
    return cases


_at_shifted = pitfalls.look_up


def _at_shifted_twice(t, beta):
    return torch.cat([beta.new_ones(2), (1 - beta).cumprod(0)])[t - 1]


def _at_next(t, beta):
    table = (1 - beta).cumprod(0)
    return table[t.clamp(max=len(beta) - 1)]


quiz(
    "forward/look-up",
    points=2,
    minutes=5,
    equation="3.3",
    title="Bug hunt",
    bug_hunt=True,
    reference=_at_reference,
    library=(library.Schedule.from_betas, library.Schedule._exactly),
    cases=_at_cases,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _at_shifted,
            "At t = 1 it still answers 1: no noise at all. Which entry of the table is ᾱ₁?",
        ),
        Misconception(
            "shifted once more",
            _at_shifted_twice,
            "Another 1 in front moves everything further away. The table was right; the index was not.",
        ),
        Misconception(
            "shifted the other way",
            _at_next,
            "Now t = 1 gives ᾱ₂. With the 1 in front of the table, ᾱ_t stands at place t.",
        ),
    ],
    hints=[
        "Which ᾱ does it give for t = 1, and which for t = T? The first column shows one of the two.",
        "Count the entries of the table, and say aloud what stands in the first of them.",
        'Python does count from 0: and entry 0 of this table is ᾱ₀. So "counting from 0" has been taken care of '
        "already.",
        "`place = t`",
    ],
    passed="With ᾱ₀ in front the table is read at t. A table that begins with ᾱ₁ is read at t − 1. Both are "
    "right; a mixture of the two is the bug.",
    explanation="""
    Shifted by one, every image is a step *cleaner* than the network is told; at t = 1 it is told to find noise where
    there is none, and pure noise, which sampling starts from, is never seen in training. With a thousand steps the
    harm is small, which is why the slip survives; with 20 steps it isn't (the pictures around the quiz). The reverse
    convention, a table that begins with ᾱ₁ and is read at t − 1, is consistent too. Mixing the two is the bug.
    """,
)

concept(
    "forward/look-up-harm",
    title="And the samples?",
    question="""
    A network is trained with the shifted look-up in a chain of 20 steps. Sampling, whose table is right, begins with
    pure noise at $t=T$. What is wrong there?
    """,
    options={
        "a": Option(
            "The sampler stops a step early, so that the last noise stays in the samples.",
            "The sampler counts as it should; it is the training that was off by one.",
        ),
        "b": Option(
            "The network has never seen pure noise: its noisiest images had $\\bar\\alpha_{T-1}$.",
            "Right. And at every other step it was shown images one step cleaner than the sampler will hand it.",
            right=True,
        ),
        "c": Option(
            "The network was shown too much noise at each step, so it removes too much.",
            "It is the other way round: $\\bar\\alpha_{t-1}>\\bar\\alpha_t$, so it was shown too little.",
        ),
        "d": Option(
            "Nothing: a network is told $t$ and learns whatever noise goes with that number.",
            "It does learn that. But the sampler goes by the right table, and the two disagree at every step.",
        ),
    },
)

concept(
    "forward/curve",
    minutes=1,
    title="More steps",
    equation="3.5",
    question="""
    You change the cosine schedule from $T=1000$ to $T=4000$ and keep everything else. What happens to the noised
    images half-way, at $t = T/2$ (500 before, 2000 now)?
    """,
    options={
        "a": Option(
            "They get noisier: four times as many steps have added noise.",
            "Four times as many steps, each adding about a quarter as much. The curve over $t/T$ stays.",
        ),
        "b": Option(
            "They get cleaner: each of the many steps adds less noise.",
            "Each step does add less, and four times as many have been taken. (At the same *number* of steps, $t=500$, "
            "they would be cleaner: that is an eighth of the way now.)",
        ),
        "c": Option(
            "They stay as noisy: only the strides along the curve shrink.",
            "Right (but for the very last step, where max_beta bites). That holds for schedules that are given as a "
            "curve. Keep it in mind for 3.6.",
            right=True,
        ),
        "d": Option(
            "They are as noisy, but with finer grain: it is added in bits.",
            "Many small Gaussians add up to one Gaussian, pixel by pixel: nothing remembers how many there were.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 3.5 · SNR


def _log_snr(alpha_bar):
    return library.Schedule(alpha_bar).log_snr


def _log_snr_cases(rng: torch.Generator) -> list[Case]:
    beta = 0.05 + 0.3 * torch.rand(6, generator=rng, dtype=torch.float64)
    tables = [library.Schedule.from_betas(beta).alpha_bar, *_tables(rng)]
    return [Case({"alpha_bar": table}, label=f"T = {len(table) - 1}") for table in tables]


def _snr_no_log(alpha_bar):
    return alpha_bar / (1 - alpha_bar)


def _snr_amplitudes(alpha_bar):
    return 0.5 * _log_snr(alpha_bar)


def _snr_upside_down(alpha_bar):
    return -_log_snr(alpha_bar)


def _snr_log10(alpha_bar):
    return _log_snr(alpha_bar) / math.log(10)


def _snr_total(alpha_bar):
    return alpha_bar.log()


quiz(
    "forward/log-snr",
    points=2,
    minutes=2,
    equation="3.6",
    title="Signal to noise",
    reference=_log_snr,
    library=(library.Schedule.log_snr, library.Schedule.snr),
    cases=_log_snr_cases,
    misconceptions=[
        Misconception("no logarithm", _snr_no_log, "That is the SNR itself. Take its natural logarithm."),
        Misconception(
            "a ratio of amplitudes",
            _snr_amplitudes,
            "You took √ᾱ/√(1−ᾱ). The SNR is a ratio of variances: twice your logarithm.",
        ),
        Misconception("upside down", _snr_upside_down, "That is noise to signal: the sign is reversed."),
        Misconception("decimal logarithm", _snr_log10, "The natural logarithm is wanted, `torch.log`."),
        Misconception(
            "signal to everything", _snr_total, "Divide by the variance of the noise, 1 − ᾱ, before the log."
        ),
    ],
    hints=[
        "A ratio of two variances, then a logarithm. Which variance belongs to the image, which to the noise?",
        "ln(a/b) = ln a − ln b. What are the two terms at ᾱ = 1 and at ᾱ = 0?",
        "At t = 0 it is +∞, and −∞ where ᾱ = 0: that is as it should be, so nothing is clamped and nothing is added.",
        "`alpha_bar.log() - (1 - alpha_bar).log()`",
    ],
    passed="This one number says how noisy an image is, whatever the schedule and its number of steps.",
    explanation="""
    As a difference of two logarithms it is also correct at both ends: ln 1 − ln 0 = ∞ and ln 0 − ln 1 = −∞, no NaN.
    In the literature it is often called λ; ᾱ comes back as the logistic function of it, ᾱ = 1/(1 + e^(−λ)).
    """,
)

# ------------------------------------------------------------------------------------------------- 3.6 · short chain


def _step_at(alpha_bar, snr):
    wanted = snr / (1 + snr)
    return (alpha_bar[None, :] > wanted[:, None]).sum(1).clamp(max=len(alpha_bar) - 1)


def _step_at_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    tables = [library.Schedule.from_betas(0.05 + 0.3 * torch.rand(9, generator=rng, dtype=torch.float64)).alpha_bar]
    for alpha_bar in (*tables, *_tables(rng)):
        T = len(alpha_bar) - 1
        ratio = (alpha_bar / (1 - alpha_bar))[1:]
        t = torch.randint(1, T, (4,), generator=rng)
        between = (ratio[t - 1] * ratio[t].clamp(min=1e-12)).sqrt()  # what lies on a step exactly is left to rounding
        ends = torch.stack([2 * ratio[0], 0.5 * ratio[-1].clamp(min=1e-12)])
        snr = torch.cat([between, ends])
        cases.append(Case({"alpha_bar": alpha_bar, "snr": snr}, label=f"T = {T}, six ratios, both ends passed"))
    return cases


def _step_at_ratio_of_roots(alpha_bar, snr):
    return _step_at(alpha_bar, snr.square())


def _step_at_snr_for_alpha_bar(alpha_bar, snr):
    return _step_at(alpha_bar, snr / (1 - snr).clamp(min=1e-9))


def _step_at_upside_down(alpha_bar, snr):
    return _step_at(alpha_bar, 1 / snr)


def _step_at_before(alpha_bar, snr):
    return ((alpha_bar[None, :] > (snr / (1 + snr))[:, None]).sum(1) - 1).clamp(min=0)


def _step_at_nearest(alpha_bar, snr):
    level = library.Schedule(alpha_bar).log_snr[1:]
    return (level[None, :].clamp(min=-80) - snr.log()[:, None]).abs().argmin(1) + 1


def _step_at_beyond(alpha_bar, snr):
    return (alpha_bar[None, :] > (snr / (1 + snr))[:, None]).sum(1)


def _step_at_first_for_never(alpha_bar, snr):
    return (alpha_bar[None, :] <= (snr / (1 + snr))[:, None]).int().argmax(1)


quiz(
    "forward/step-at-snr",
    points=3,
    minutes=5,
    equation="3.6",
    title="Derive, then code: when is it this noisy?",
    reference=_step_at,
    library=(library.Schedule.log_snr, library.Schedule.snr),
    cases=_step_at_cases,
    misconceptions=[
        Misconception(
            "the SNR compared with ᾱ",
            _step_at_snr_for_alpha_bar,
            "You compare ᾱ with the SNR itself. Solve SNR = ᾱ/(1 − ᾱ) for ᾱ first: at SNR 1 half of the variance is "
            "signal.",
        ),
        Misconception(
            "a ratio of amplitudes",
            _step_at_ratio_of_roots,
            "You squared the ratio. The SNR of (3.6) is a ratio of variances already.",
        ),
        Misconception(
            "noise to signal",
            _step_at_upside_down,
            "Upside down: a *large* SNR belongs to an early step. ᾱ = SNR/(1 + SNR), not 1/(1 + SNR).",
        ),
        Misconception(
            "one step early",
            _step_at_before,
            "Yours is the last step that is still cleaner than asked. The first that isn't comes right after it.",
        ),
        Misconception(
            "the nearest step",
            _step_at_nearest,
            "You take the step whose SNR lies nearest. Asked for is the first whose SNR is no larger than the one "
            "wanted.",
        ),
        Misconception(
            "beyond the end",
            _step_at_beyond,
            "Right where the chain gets there. Where it ends too early yours says T + 1, a step that doesn't exist.",
        ),
        Misconception(
            "never read as at once",
            _step_at_first_for_never,
            "Where no entry is that noisy, yours says 0 (an argmax of nothing but False is 0). The answer is T then.",
        ),
    ],
    hints=[
        "On paper: SNR = ᾱ/(1 − ᾱ). Multiply out and solve for ᾱ. Check it at SNR = 1.",
        "The table falls, so the question is how many of its entries are still *larger* than that ᾱ. Count, don't "
        "search.",
        "Every wanted ratio meets every entry: shapes (n, 1) and (T + 1,) give a table of true and false (n, T + 1), "
        "whose rows can be added up. Entry 0 is ᾱ₀, so the count is the step itself.",
        "`(alpha_bar > (snr / (1 + snr))[:, None]).sum(1)`, and no more than T: `.clamp(max=len(alpha_bar) - 1)`.",
    ],
    passed="A schedule, inverted: from how noisy to when. The logistic function SNR/(1 + SNR) is the only formula "
    "in it; "
    "that the table falls does the rest.",
    explanation="""
    SNR (1 − ᾱ) = ᾱ gives ᾱ = SNR/(1 + SNR). Because the table falls, the number of entries above this ᾱ *is* the first
    step at or below it: entries 0 … t − 1 are above. `torch.searchsorted` on the negated table does the same by
    bisection, in log T comparisons in place of T.
    """,
)

# ------------------------------------------------------------------------------------------------- 3.6 · short chain

concept(
    "forward/short-chain",
    title="What does the short chain break?",
    question="""
    A network is trained with chain A, and sampling starts from $\\mathcal N(0, I)$. What goes wrong?
    """,
    options={
        "a": Option(
            "Nothing: $\\beta_T$ is as large as in the paper, so the end is as noisy.",
            "$\\beta_T$ says how much the *last step* adds. How much is left in the end is the product of all the "
            "steps, and there are five times fewer.",
        ),
        "b": Option(
            "Each step adds too much noise: 200 steps are too coarse for this.",
            "Each adds no more than in the long chain. There are too few of them.",
        ),
        "c": Option(
            "The network sees only 200 noise levels, too few to learn all of them.",
            "Steps are drawn at random, images are plenty; a network can be trained with any T.",
        ),
        "d": Option(
            "The network relies on traces in $x_T$ that pure noise doesn't have.",
            "Right. At $t=T$ more than a third of the amplitude is still there; training never shows pure noise, and "
            "sampling starts from it.",
            right=True,
        ),
    },
)


def _any_length(T):
    return library.linear_schedule(T).alpha_bar


def _any_length_cases(rng: torch.Generator) -> list[Case]:
    lengths = [1000, 200, 40, 10, int(torch.randint(11, 160, (1,), generator=rng))]
    return [Case({"T": T}, label=f"T = {T}") for T in lengths]


def _on_the_curve(raw, case: Case) -> dict[str, bool]:
    """What is asked of the table, whichever way it was made."""
    T = case.args["T"]
    if not isinstance(raw, Array) or raw.data is None or raw.dtype not in ("float64", "float32"):
        raise Unfit("expected a tensor of floats")
    if raw.shape != (T + 1,):
        raise Unfit(f"expected T + 1 = {T + 1} entries, shape ({T + 1},), got shape {raw.shape}")
    table = raw.data
    apart = abs(table - _any_length(T).numpy())
    return {
        "it begins with ᾱ₀ = 1": bool(table[0] == 1),
        "all entries are numbers from 0 to 1": bool(((table >= 0) & (table <= 1)).all()),
        "it falls at every step": bool((table[1:] < table[:-1]).all()),
        "it ends as noisy as the long chain, ᾱ_T below 0.001": bool(table[-1] < 1e-3),
        "it lies on the curve of the long chain": bool((apart < 0.02).all()),
    }


def _table_of(beta):
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])


def _any_length_as_it_was(T):
    return _linear_reference(max(T, 2))[: T + 1]


def _any_length_scaled(T):
    return _table_of(torch.linspace(1e-4, 0.02, T, dtype=torch.float64) * 1000 / T)


def _any_length_without_the_end(T):
    long = _linear_reference(1000)
    return long[(torch.arange(T + 1, dtype=torch.float64) / (T + 1) * 1000).round().long()]


def _any_length_scaled_alpha_bar(T):
    table = _linear_reference(T)
    return (table - table[-1]) / (1 - table[-1])


quiz(
    "forward/any-length",
    points=3,
    minutes=5,
    equation="3.3",
    title="The same curve at any length",
    bug_hunt=True,
    reference=_any_length,
    library=(library.linear_schedule,),
    cases=_any_length_cases,
    measured=_on_the_curve,
    any_device=False,
    misconceptions=[
        Misconception(
            "β as they are",
            _any_length_as_it_was,
            "Far too much is left at the end: these are the β of a thousand steps, and there are fewer of them, "
            "or only the "
            "first T of them. The walk has to reach the end of the long curve in T strides.",
        ),
        Misconception(
            "β × 1000/T",
            _any_length_scaled,
            "The popular way: β × 1000/T. It is fine for T = 200 and breaks for small T: with T = 10 the last β "
            "would be "
            "2, and 1 − β negative. Read the *curve* instead, at other places.",
        ),
        Misconception(
            "the end never reached",
            _any_length_without_the_end,
            "Your last place is one stride short of the end. T strides have T + 1 ends, from 0 to 1000: divide by T.",
        ),
        Misconception(
            "ᾱ stretched",
            _any_length_scaled_alpha_bar,
            "It ends at 0, but it gets there along another curve: at the same t/T the noise is not that of the long "
            "chain.",
        ),
    ],
    hints=[
        "A schedule is a curve, and you have a fine one: `linear_alpha_bar(1000)`. What do T steps need of it?",
        "T + 1 stops at equal distances along a thousand steps. At which places of the long table do they lie?",
        "At 1000·t/T, for t = 0 … T. `torch.linspace(0, 1000, T + 1, dtype=torch.float64)` lists them; they are "
        "no whole "
        "numbers, so round them (or draw straight lines between the entries).",
        "`linear_alpha_bar(1000)[torch.linspace(0, 1000, T + 1, dtype=torch.float64).round().long()]`",
    ],
    passed="The curve is the schedule, T only says how often you stop on it. The library's `linear_schedule(T)` works "
    "like this, for every T.",
    explanation="""
    Three ways are right. Read the long table at T + 1 places, as here. Interpolate ln ᾱ between its entries, as the
    library does. Or go to the limit: ln ᾱ(u) = −(0.1 u + 9.95 u²), the integral of 1000·β, which is the form in which
    Song et al. (2021) use it. Multiplying β by 1000/T is the first-order version of all three; it fails when T is
    small.
    """,
)

# ----------------------------------------------------------------------------------------------- 3.7 · zero at the end


def _zero_reference(alpha_bar):
    return library.zero_terminal_snr(library.Schedule(alpha_bar)).alpha_bar


def _zero_cases(rng: torch.Generator) -> list[Case]:
    betas = [0.05 + 0.3 * torch.rand(T, generator=rng, dtype=torch.float64) for T in (2, 6)]
    long, _, short = _tables(rng)
    tables = [*(library.Schedule.from_betas(beta).alpha_bar for beta in reversed(betas)), long, short]
    return [Case({"alpha_bar": table}, label=f"T = {len(table) - 1}") for table in tables]


def _zero_on_variances(alpha_bar):
    rest = (alpha_bar[1:] - alpha_bar[-1]) * alpha_bar[1] / (alpha_bar[1] - alpha_bar[-1])
    return torch.cat([alpha_bar[:1], rest])


def _zero_only_shifted(alpha_bar):
    root = alpha_bar.sqrt()
    return torch.cat([root[:1], root[1:] - root[-1]]).square()


def _zero_from_the_start(alpha_bar):
    root = alpha_bar.sqrt()
    return ((root - root[-1]) / (1 - root[-1])).square()


def _zero_last_entry(alpha_bar):
    return torch.cat([alpha_bar[:-1], alpha_bar.new_zeros(1)])


def _zero_not_squared(alpha_bar):
    return _zero_reference(alpha_bar).sqrt()


quiz(
    "forward/zero-terminal",
    points=3,
    minutes=5,
    equation="3.7",
    title="Nothing left",
    reference=_zero_reference,
    library=(library.zero_terminal_snr,),
    cases=_zero_cases,
    tolerance=TABLE,
    measured=_beginning_with_1,
    misconceptions=[
        Misconception(
            "ᾱ stretched instead of √ᾱ",
            _zero_on_variances,
            "Shift and stretch the amplitude √ᾱ, then square. On ᾱ itself the middle of the curve moves differently.",
        ),
        Misconception(
            "only shifted", _zero_only_shifted, "After the shift the first step has moved too: stretch it back."
        ),
        Misconception(
            "stretched to ᾱ₀",
            _zero_from_the_start,
            "You kept ᾱ₀ in place by stretching, and ᾱ₁ moved. (3.7) keeps ᾱ₁; ᾱ₀ = 1 stands outside.",
        ),
        Misconception(
            "only the last entry",
            _zero_last_entry,
            "ᾱ_T is 0 now, in one leap with β_T = 1. The others have to make room.",
        ),
        Misconception("not squared", _zero_not_squared, "What you return is √ᾱ. Square it."),
    ],
    hints=[
        "Work on `root = alpha_bar.sqrt()`, and on its entries 1 … T only: entry 0 is 1 and stays.",
        "First subtract what is left at the end. Which entry has moved that should stay, and what factor brings "
        "it back?",
        "The factor is root[1] / (root[1] − root[T]). Square at the end.",
        "`rest = (root[1:] - root[-1]) * root[1] / (root[1] - root[-1])`, put root[:1] in front, square.",
    ],
    passed="A straight map of amplitudes sends the end to 0 and leaves the first step alone. Any schedule can be "
    "given a clean end this way.",
    explanation="""
    A straight map of amplitudes that sends √ᾱ_T to 0 and leaves √ᾱ₁ alone. With ᾱ_T = 0 the noise determines x_T
    completely, so "predict the noise" is no task there and x̂₀ = (x_T − ε̂)/0 no answer: networks for such schedules
    predict v or x₀ (notebook 05).
    """,
)

# ------------------------------------------------------------------------------------------------- 3.8 · the posterior


def _posterior_reference(x0, x_t, t, alpha_bar):
    return library.Schedule(alpha_bar).posterior(x0, x_t, t)


def _posterior_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    tables = [*_tables(rng)[:2], library.Schedule.from_betas(0.1 + 0.2 * torch.rand(20, generator=rng)).alpha_bar]
    shapes = ((4, 1, 5, 7), (1, 3, 4, 2), (3, 2, 4, 6))
    for shape, alpha_bar, dtype in zip(shapes, tables, (torch.float64, torch.float64, torch.float32)):
        T = len(alpha_bar) - 1
        # Steps 2, 3, … of 1,000 are left out: there 1 − α_t loses its digits in single precision.
        t = {4: [1, T, *_between(T // 4, T - 1, 2, rng)], 1: _between(2, T - 1, 1, rng), 3: [T, 2, 1]}[shape[0]]
        x0, x_t = torch.randn(2, *shape, generator=rng, dtype=dtype)
        args = {"x0": x0, "x_t": x_t, "t": torch.tensor(t), "alpha_bar": alpha_bar}
        cases.append(Case(args, label=f"images {shape}, t = {t} of {T}, {str(dtype).removeprefix('torch.')}"))
    return cases


def _posterior_parts(x0, t, alpha_bar):
    now, before = (_per_image(alpha_bar[s], x0) for s in (t, t - 1))
    return now, before, now / before


def _posterior_beta(x0, x_t, t, alpha_bar):
    mean, _ = _posterior_reference(x0, x_t, t, alpha_bar)
    return mean, 1 - _posterior_parts(x0, t, alpha_bar)[2]


def _posterior_in_reverse(x0, x_t, t, alpha_bar):
    mean, var = _posterior_reference(x0, x_t, t, alpha_bar)
    return var, mean


def _posterior_std(x0, x_t, t, alpha_bar):
    mean, var = _posterior_reference(x0, x_t, t, alpha_bar)
    return mean, var.sqrt()


def _posterior_exchanged(x0, x_t, t, alpha_bar):
    mean, _ = _posterior_reference(x_t, x0, t, alpha_bar)
    return mean, _posterior_reference(x0, x_t, t, alpha_bar)[1]


def _posterior_no_roots(x0, x_t, t, alpha_bar):
    now, before, alpha = _posterior_parts(x0, t, alpha_bar)
    mean = (before * (1 - alpha) * x0 + alpha * (1 - before) * x_t) / (1 - now)
    return mean, (1 - before) / (1 - now) * (1 - alpha)


def _posterior_bars_exchanged(x0, x_t, t, alpha_bar):
    now, before, alpha = _posterior_parts(x0, t, alpha_bar)
    mean = (now.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - before) * x_t) / (1 - now)
    return mean, (1 - before) / (1 - now) * (1 - alpha)


def _posterior_upside_down(x0, x_t, t, alpha_bar):
    now, before, alpha = _posterior_parts(x0, t, alpha_bar)
    return _posterior_reference(x0, x_t, t, alpha_bar)[0], (1 - before) / (1 - now) * alpha


quiz(
    "forward/posterior",
    points=4,
    minutes=8,
    equation="3.8",
    title="The way back, if the image were known",
    reference=_posterior_reference,
    library=(library.Schedule.posterior, loop.Stride.posterior_variance, *WALKS),
    cases=_posterior_cases,
    misconceptions=[
        Misconception(
            "β for the posterior variance",
            _posterior_beta,
            "The mean is right. The variance is β_t times (1−ᾱ_{t−1})/(1−ᾱ_t): knowing x₀ makes the guess narrower "
            "than β_t.",
        ),
        Misconception("standard deviation for variance", _posterior_std, "Return the variance, not its root."),
        Misconception("variance before the mean", _posterior_in_reverse, "First the mean, then the variance."),
        Misconception(
            "x0 and x_t exchanged",
            _posterior_exchanged,
            "The weights of x₀ and x_t have changed places. Check t = 1: there the mean must be x₀ itself.",
        ),
        Misconception(
            "roots forgotten", _posterior_no_roots, "√ᾱ_{t−1} stands before x₀ and √α_t before x_t, both with a root."
        ),
        Misconception(
            "ᾱ_t where ᾱ_{t−1} belongs",
            _posterior_bars_exchanged,
            "x₀ is weighed by √ᾱ_{t−1}: it speaks about x_{t−1}, one step before t.",
        ),
        Misconception(
            "α for β in the variance",
            _posterior_upside_down,
            "The variance ends in β_t = 1 − α_t. At small steps it is small.",
        ),
    ],
    hints=[
        "Which entries of the table does (3.8) need, and for which t? α_t and β_t follow from two of them.",
        "Look up ᾱ_t and ᾱ_{t−1} for each image, shape (b, 1, 1, 1). Their quotient is α_t, and β_t = 1 − α_t.",
        "Both weights of the mean are divided by 1 − ᾱ_t; the variance is β_t (1−ᾱ_{t−1})/(1−ᾱ_t). Test yourself "
        "at t = 1: the mean must be x0 and the variance 0.",
        "Compute in the table's float64 and bring the weights into the images' precision last: `(before.sqrt() * "
        "beta / (1 - now)).to(x0.dtype)`, and likewise for x_t and the variance.",
    ],
    passed="At t = 1 the mean is x₀ and the variance 0: step 0 is the clean image. The ancestral sampler of "
    "notebook 06 takes its steps with this function.",
    explanation="""
    Two checks that need no table: at t = 1 the mean is x₀ and the variance 0, because step 0 *is* the clean image;
    and if x₀ and x_t say the same (x_t = √ᾱ_t x₀), the mean is √ᾱ_{t−1} x₀, the same image one step brighter.
    """,
)


def _bayes(grid, before, x_t, alpha):
    likelihood = (-0.5 * (x_t - alpha**0.5 * grid) ** 2 / (1 - alpha)).exp()
    product = likelihood * before
    density = product / torch.trapezoid(product, grid)
    mean = torch.trapezoid(density * grid, grid)
    return density, mean, torch.trapezoid(density * (grid - mean) ** 2, grid)


def _bayes_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for points, alpha, bumps in ((801, 0.6, 1), (1201, 0.9, 2), (601, 0.3, 2)):
        grid = torch.linspace(-8, 8, points, dtype=torch.float64)
        place = 1.5 * torch.randn(bumps, 1, generator=rng, dtype=torch.float64)
        spread = 0.5 + 0.5 * torch.rand(bumps, 1, generator=rng, dtype=torch.float64)
        before = ((-0.5 * ((grid - place) / spread) ** 2).exp() / spread).mean(0) / math.sqrt(2 * math.pi)
        x_t = torch.randn(1, generator=rng).item()
        args = {"grid": grid, "before": before, "x_t": x_t, "alpha": alpha}
        cases.append(Case(args, label=f"{points} values, {bumps} bump{'s' * (bumps > 1)}, α = {alpha}"))
    return cases


def _density_and_moments(raw, case: Case) -> dict:
    """Mean and variance may come as numbers or as tensors."""
    if not isinstance(raw, tuple) or len(raw) != 3:
        raise Unfit("expected a tuple of three: density, mean, variance")
    moments = [each.data if isinstance(each, Array) else each for each in raw[1:]]
    if any(each is None or np.ndim(each) or isinstance(each, str | bool | dict) for each in moments):
        raise Unfit("expected mean and variance as numbers, or as tensors of shape ()")
    return {"the density": raw[0], "the mean": float(moments[0]), "the variance": float(moments[1])}


def _bayes_like(likelihood):
    """Bayes' rule with another likelihood: (grid, x_t, α) -> (g,)."""

    def wrong(grid, before, x_t, alpha):
        product = likelihood(grid, x_t, alpha) * before
        density = product / torch.trapezoid(product, grid)
        mean = torch.trapezoid(density * grid, grid)
        return density, mean, torch.trapezoid(density * (grid - mean) ** 2, grid)

    return wrong


def _bayes_unnormalised(grid, before, x_t, alpha):
    product = (-0.5 * (x_t - alpha**0.5 * grid) ** 2 / (1 - alpha)).exp() * before
    mean = torch.trapezoid(product * grid, grid)
    return product, mean, torch.trapezoid(product * (grid - mean) ** 2, grid)


def _bayes_summing_to_one(grid, before, x_t, alpha):
    density, mean, var = _bayes(grid, before, x_t, alpha)
    return density / density.sum(), mean, var


def _bayes_second_moment(grid, before, x_t, alpha):
    density, mean, var = _bayes(grid, before, x_t, alpha)
    return density, mean, var + mean**2


def _bayes_std(grid, before, x_t, alpha):
    density, mean, var = _bayes(grid, before, x_t, alpha)
    return density, mean, var**0.5


def _bayes_without_before(grid, before, x_t, alpha):
    return _bayes(grid, torch.ones_like(grid), x_t, alpha)


quiz(
    "forward/bayes-grid",
    points=3,
    minutes=5,
    equation="3.1",
    title="Bayes' rule, by numbers alone",
    reference=_bayes,
    cases=_bayes_cases,
    tolerance=Tolerance(1e-3, 1e-4),
    measured=_density_and_moments,
    any_device=False,
    misconceptions=[
        Misconception(
            "x_t and the grid exchanged",
            _bayes_like(lambda grid, x_t, alpha: (-0.5 * (grid - alpha**0.5 * x_t) ** 2 / (1 - alpha)).exp()),
            "You let x_{t−1} scatter about √α·x_t. The step goes the other way: x_t scatters about √α·x_{t−1}, and "
            "x_{t−1} is what runs over the grid.",
        ),
        Misconception(
            "the variance squared",
            _bayes_like(lambda grid, x_t, alpha: (-0.5 * ((x_t - alpha**0.5 * grid) / (1 - alpha)) ** 2).exp()),
            "1 − α = β is the variance of the step's noise, not its standard deviation: divide the square by it once.",
        ),
        Misconception(
            "not shrunk",
            _bayes_like(lambda grid, x_t, alpha: (-0.5 * (x_t - grid) ** 2 / (1 - alpha)).exp()),
            "The step shrinks before it shakes: x_t scatters about √α·x_{t−1}.",
        ),
        Misconception(
            "not divided by its area",
            _bayes_unnormalised,
            "The product of two densities is no density: divide it by its area, before you take mean and variance.",
        ),
        Misconception(
            "summing to one",
            _bayes_summing_to_one,
            "Your values add up to 1. A *density* has area 1: the sum times the distance of the grid's points.",
        ),
        Misconception(
            "the second moment",
            _bayes_second_moment,
            "That is the mean of the squares. A variance is taken about the mean.",
        ),
        Misconception("the standard deviation", _bayes_std, "Return the variance, not its root."),
        Misconception(
            "the density before left out",
            _bayes_without_before,
            "Bayes' rule multiplies two things: how well x_{t−1} explains x_t, and what was known of x_{t−1} before.",
        ),
    ],
    hints=[
        "Two factors at every point of the grid. One is handed in. What is the other: a density of what, given what?",
        "By (3.1), x_t scatters about √α·x_{t−1} with variance 1 − α. Fix x_t and let x_{t−1} run over the grid. A "
        "constant factor doesn't matter. Why not?",
        "Because you divide by the area: `torch.trapezoid(product, grid)`. Mean and variance are integrals of the same "
        "kind, of density × grid and of density × (grid − mean)².",
        "`product = (-0.5 * (x_t - alpha**0.5 * grid) ** 2 / (1 - alpha)).exp() * before`, then "
        "`density = product / torch.trapezoid(product, grid)`.",
    ],
    passed="You now own a judge for every posterior in one dimension: it knows no algebra, so it can't share a mistake "
    "with yours.",
    explanation="""
    The likelihood is a function of x_{t−1} here: not a density of it, which is why the product must be divided by its
    area. Constants of the Gaussian cancel in that division. Outside one dimension grids get too large; that is what
    algebra, and later networks, are for.
    """,
)

concept(
    "forward/posterior-needs",
    minutes=1,
    title="Back with the mean image",
    equation="3.8",
    question="""
    To sample, somebody walks from noise at $t=T$ down to 0 by (3.8), drawing at every step, with the mean of all images
    in the place of $x_0$. What comes out?
    """,
    options={
        "a": Option(
            "The mean image itself, from every start and with every noise.",
            "Right. At $t=1$ the mean of (3.8) is what stands for $x_0$, and the variance is 0. So what stands there "
            "must be a guess made from $x_t$, and get better on the way. You will do it in 3.11.",
            right=True,
        ),
        "b": Option(
            "Images that scatter about the mean, as the data do.",
            "The draws on the way do scatter. But each step takes a part of it back, and the last takes it all.",
        ),
        "c": Option(
            "One of the data's images, as (3.8) is the exact step back.",
            "It is exact for the image that stands for $x_0$, and brings back that one. Of the data it was told only "
            "their mean.",
        ),
        "d": Option(
            "Noise, as a step back needs the true $x_0$ to remove any.",
            "It removes noise with any $x_0$: at $t=1$ the weight of $x_t$ is 0, and the variance as well.",
        ),
    },
)

concept(
    "forward/which-variance",
    title="How wide is the step back?",
    equation="3.8",
    question="""
    Data are $-1$ and $+1$, equally often, so their variance is 1. A chain of 4 steps; at the second we see $x_t=0.1$,
    nearly in the middle. How large is the variance of $x_{t-1}$, given this $x_t$?
    """,
    options={
        "a": Option(
            "$\\tilde\\beta_t$, for the step back from $x_t$ has just this one.",
            "That holds where $x_0$ is known. Here it is not, and not knowing it makes the step wider.",
        ),
        "b": Option(
            "$\\beta_t$, for the step back adds as much as the step added.",
            "That holds for data that are $\\mathcal N(0,1)$. Two values are another matter, however equal the "
            "variances.",
        ),
        "c": Option(
            "Between the two, for these are the smallest and the largest.",
            "They are bounds only on the *average* over $x_t$, for data of variance 1. This $x_t$ is a special one.",
        ),
        "d": Option(
            "More than $\\beta_t$, for the future is most undecided right here.",
            "Right: near the middle $x_{t-1}$ may lie on either side, and a step that has to decide is wide. The cell "
            "below computes it twice.",
            right=True,
        ),
    },
)


def _two_values(x_t, t, alpha_bar):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    beta = 1 - now / before
    guess = torch.tanh(now.sqrt() * x_t / (1 - now))
    weight = before.sqrt() * beta / (1 - now)
    return (1 - before) / (1 - now) * beta + weight**2 * (1 - guess**2)


def _two_values_cases(rng: torch.Generator) -> list[Case]:
    tables = (library.cosine_schedule(4).alpha_bar, library.cosine_schedule(30).alpha_bar)
    table = library.Schedule.from_betas(0.1 + 0.3 * torch.rand(9, generator=rng, dtype=torch.float64)).alpha_bar
    cases = []
    for alpha_bar, t, n in ((table, 5, 6), (tables[0], 2, 4), (tables[1], 1, 3), (tables[1], 17, 1)):
        x_t = torch.randn(n, generator=rng, dtype=torch.float64)
        args = {"x_t": x_t, "t": t, "alpha_bar": alpha_bar}
        cases.append(Case(args, label=f"{n} values of x_t at t = {t} of {len(alpha_bar) - 1}"))
    return cases


def _two_values_parts(x_t, t, alpha_bar):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    beta = 1 - now / before
    small = (1 - before) / (1 - now) * beta
    return now, before, beta, small, before.sqrt() * beta / (1 - now)


def _two_values_beta_tilde(x_t, t, alpha_bar):
    return _two_values_parts(x_t, t, alpha_bar)[3].expand_as(x_t)


def _two_values_beta(x_t, t, alpha_bar):
    return _two_values_parts(x_t, t, alpha_bar)[2].expand_as(x_t)


def _two_values_undecided(x_t, t, alpha_bar):
    *_, small, weight = _two_values_parts(x_t, t, alpha_bar)
    return (small + weight**2).expand_as(x_t)


def _two_values_weight_not_squared(x_t, t, alpha_bar):
    now, _, _, small, weight = _two_values_parts(x_t, t, alpha_bar)
    return small + weight * (1 - torch.tanh(now.sqrt() * x_t / (1 - now)) ** 2)


def _two_values_guess_not_squared(x_t, t, alpha_bar):
    now, _, _, small, weight = _two_values_parts(x_t, t, alpha_bar)
    return small + weight**2 * (1 - torch.tanh(now.sqrt() * x_t / (1 - now)))


def _two_values_of_means_only(x_t, t, alpha_bar):
    return _two_values(x_t, t, alpha_bar) - _two_values_parts(x_t, t, alpha_bar)[3]


def _two_values_not_divided(x_t, t, alpha_bar):
    now, _, _, small, weight = _two_values_parts(x_t, t, alpha_bar)
    return small + weight**2 * (1 - torch.tanh(now.sqrt() * x_t) ** 2)


def _two_values_half(x_t, t, alpha_bar):
    now, _, _, small, weight = _two_values_parts(x_t, t, alpha_bar)
    return small + weight**2 * (1 - torch.sigmoid(now.sqrt() * x_t / (1 - now)) ** 2)


quiz(
    "forward/two-values",
    points=4,
    minutes=12,
    equation="3.8",
    title="Derive, then code: the step back for two values",
    reference=_two_values,
    cases=_two_values_cases,
    misconceptions=[
        Misconception(
            "β̃ alone",
            _two_values_beta_tilde,
            "That is the variance for a *known* x₀: the mean of the variances. The variance of the means is missing.",
        ),
        Misconception(
            "the means alone",
            _two_values_of_means_only,
            "That is the variance of the two means. Each of them has a width of its own, β̃: the mean of the "
            "variances is "
            "missing.",
        ),
        Misconception(
            "β",
            _two_values_beta,
            "β_t would be right for data that are N(0, 1). These are two values, and the answer depends on x_t.",
        ),
        Misconception(
            "x_t not used",
            _two_values_undecided,
            "You take the variance of x₀ to be 1, as if x_t said nothing about it. Given x_t it is 1 − E[x₀ | x_t]².",
        ),
        Misconception(
            "the weight not squared",
            _two_values_weight_not_squared,
            "A factor leaves a variance squared: Var[w·x₀] = w²·Var[x₀].",
        ),
        Misconception(
            "the guess not squared",
            _two_values_guess_not_squared,
            "Var[x₀ | x_t] = E[x₀² | x_t] − E[x₀ | x_t]², and x₀² = 1: one minus the *square* of the guess.",
        ),
        Misconception(
            "the odds not divided",
            _two_values_not_divided,
            "The two exponents differ by 2√ᾱ_t x_t/(1 − ᾱ_t). Yours lacks the variance below.",
        ),
        Misconception(
            "a probability for a mean",
            _two_values_half,
            "The logistic function gives the probability of +1 (of half the argument, at that). The mean of ±1 is "
            "twice "
            "the probability minus one: a tanh.",
        ),
    ],
    hints=[
        "Given x₀, (3.8) gives a mean and a variance. Only one of the two depends on x₀. How?",
        "The mean is w·x₀ plus something without x₀, with w = √ᾱ_{t−1} β_t/(1 − ᾱ_t). So the answer is "
        "β̃_t + w²·Var[x₀ | x_t]. What is the variance of something that is ±1 with mean m?",
        "It is 1 − m², since x₀² = 1 always. For m: by Bayes' rule the two values weigh as exp(±√ᾱ_t x_t/(1 − ᾱ_t)); "
        "(e^a − e^−a)/(e^a + e^−a) has a name.",
        "`guess = torch.tanh(now.sqrt() * x_t / (1 - now))`; then β̃ plus `weight**2 * (1 - guess**2)`.",
    ],
    passed="Neither β nor β̃: the true width depends on where you are. What a network would need to know for it is "
    "Var[x₀ | x_t], which is why some models learn their variances.",
    explanation="""
    The law of total variance: Var[x_{t−1}] = E[Var[x_{t−1} | x₀]] + Var[E[x_{t−1} | x₀]], everything given x_t. The
    first term is β̃_t, the second w²(1 − m²) with m = tanh(√ᾱ_t x_t/(1 − ᾱ_t)). Far from the middle m is ±1 and β̃ is
    left; in the middle m is 0, and the sum may exceed β_t.
    """,
)

# ------------------------------------------------------------------------------------------------- 3.9, 3.10 · scores

concept(
    "forward/score-far",
    title="Where the score is zero",
    equation="3.9",
    question="""
    The score of $q(x_t)$ at a point $x$ is zero. What does Tweedie's formula (3.9) say about the best guess of $x_0$
    there?
    """,
    options={
        "a": Option(
            "It is $x$ itself: where the score is zero, no noise has been added.",
            "Noise there is, in one direction or another: only its *mean*, given $x$, is 0. And (3.9) still scales.",
        ),
        "b": Option(
            "It is the most probable image, since the density has its peak there.",
            "A score of zero is a peak, a valley or a saddle of the density. Between two modes it is zero as well.",
        ),
        "c": Option(
            "It is $x$, scaled up by $1/\\sqrt{\\bar\\alpha_t}$, perhaps an image of nothing.",
            "Right: the expected noise is 0 there. Half-way between two modes of equal weight, for instance, the "
            "guess is the middle: a mean of both, and an image of neither.",
            right=True,
        ),
        "d": Option(
            "It is $0$, since the formula multiplies the score by $1-\\bar\\alpha_t$.",
            "Put 0 for the score into (3.9): $\\mathbb E[x_0\\mid x_t=x] = x/\\sqrt{\\bar\\alpha_t}$.",
        ),
    },
)


def _joint(x, alpha_bar, means, stds, weights):
    """ln w_k + ln N(x; √ᾱ m_k, v_k I), (n, k)."""
    variances = alpha_bar * stds**2 + 1 - alpha_bar
    squares = (x[:, None] - alpha_bar**0.5 * means).square().sum(-1)
    return weights.log() - x.shape[1] / 2 * (2 * math.pi * variances).log() - squares / (2 * variances)


def _mixture_pieces(x, alpha_bar, means, stds, weights):
    """Centres, variances and responsibilities of the diffused mixture, as its score is made of them."""
    centres, variances = alpha_bar**0.5 * means, alpha_bar * stds**2 + 1 - alpha_bar
    offsets = centres - x[:, None]
    log = weights.log() - x.shape[1] / 2 * variances.log() - offsets.square().sum(2) / (2 * variances)
    return offsets, variances, log.softmax(1)


def _mixture_reference(x, alpha_bar, means, stds, weights):
    offsets, variances, share = _mixture_pieces(x, alpha_bar, means, stds, weights)
    return (share[..., None] * offsets / variances[:, None]).sum(1)


def _mixture_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    settings = ((5, 2, 3, 0.7), (7, 3, 2, 1.0), (8, 1, 3, 0.9), (6, 5, 4, 0.8), (1, 4, 2, 1e-3))
    for n, d, k, alpha_bar in settings:
        dtype = torch.float32 if d == 1 else torch.float64
        # Blobs that overlap, one twice as wide as the next: what each of them weighs is seen at every point.
        means = 0.7 * torch.randn(k, d, generator=rng, dtype=dtype)
        stds = (0.5 + 0.1 * torch.rand(k, generator=rng, dtype=dtype)) * 2.0 ** (torch.arange(k) % 3 - 1)
        weights = (0.5 + torch.rand(k, generator=rng, dtype=dtype)).cumsum(0)
        x = means.mean(0) + 0.5 * torch.randn(n, d, generator=rng, dtype=dtype)
        args = {"x": x, "alpha_bar": alpha_bar, "means": means, "stds": stds, "weights": weights / weights.sum()}
        cases.append(Case(args, label=f"{n} points in {d} dimensions, {k} blobs, ᾱ = {alpha_bar}"))
    x = torch.tensor([[40.0, -30.0], [0.3, 0.2], [0.0, 60.0], [-300.0, 100.0]], dtype=torch.float64)
    blobs = {"means": torch.eye(2).double(), "stds": torch.tensor([0.3, 0.5]).double()}
    args = {"x": x + torch.randn(1, generator=rng).double(), "alpha_bar": 0.5, **blobs}
    args["weights"] = torch.tensor([0.25, 0.75]).double()
    cases.append(Case(args, label="points near and far from all blobs"))
    return cases


def _mixture_weights_only(x, alpha_bar, means, stds, weights):
    offsets, variances, _ = _mixture_pieces(x, alpha_bar, means, stds, weights)
    return (weights[:, None] * offsets / variances[:, None]).sum(1)


def _mixture_clean(x, alpha_bar, means, stds, weights):
    return _mixture_reference(x, 1.0, means, stds, weights)


def _mixture_std(x, alpha_bar, means, stds, weights):
    offsets, variances, share = _mixture_pieces(x, alpha_bar, means, stds, weights)
    return (share[..., None] * offsets / variances.sqrt()[:, None]).sum(1)


def _mixture_sign(x, alpha_bar, means, stds, weights):
    return -_mixture_reference(x, alpha_bar, means, stds, weights)


def _mixture_means_stay(x, alpha_bar, means, stds, weights):
    return _mixture_reference(x, alpha_bar, means / alpha_bar**0.5, stds, weights)


def _mixture_in_d(x, alpha_bar, means, stds, weights, d):
    """As if there were d dimensions, when it comes to the heights of the peaks."""
    offsets, variances, _ = _mixture_pieces(x, alpha_bar, means, stds, weights)
    log = weights.log() - d / 2 * variances.log() - offsets.square().sum(2) / (2 * variances)
    return (log.softmax(1)[..., None] * offsets / variances[:, None]).sum(1)


def _mixture_normalisers_forgotten(*given):
    return _mixture_in_d(*given, d=0)


def _mixture_in_one(*given):
    return _mixture_in_d(*given, d=1)


def _mixture_in_two(*given):
    return _mixture_in_d(*given, d=2)


def _mixture_densities(x, alpha_bar, means, stds, weights):
    offsets, variances, _ = _mixture_pieces(x, alpha_bar, means, stds, weights)
    heights = weights * variances ** (-x.shape[1] / 2)
    joint = heights * (-offsets.square().sum(2) / (2 * variances)).exp()
    return (joint[..., None] * offsets / variances[:, None]).sum(1) / joint.sum(1, keepdim=True)


def _joint_densities(x, alpha_bar, means, stds, weights):
    return _joint(x, alpha_bar, means, stds, weights).exp()


def _joint_logs_of_densities(x, alpha_bar, means, stds, weights):
    return _joint(x, alpha_bar, means, stds, weights).exp().log()


def _joint_without_weights(x, alpha_bar, means, stds, weights):
    return _joint(x, alpha_bar, means, stds, torch.ones_like(weights))


def _joint_clean(x, alpha_bar, means, stds, weights):
    return _joint(x, 1.0, means, stds, weights)


def _joint_means_stay(x, alpha_bar, means, stds, weights):
    return _joint(x, alpha_bar, means / alpha_bar**0.5, stds, weights)


def _joint_noise_only(x, alpha_bar, means, stds, weights):
    return _joint(x, alpha_bar, means, 0 * stds, weights)


def _joint_like(height):
    """Another height of the peaks: (variances, d) -> (k,)."""

    def wrong(x, alpha_bar, means, stds, weights):
        variances = alpha_bar * stds**2 + 1 - alpha_bar
        squares = (x[:, None] - alpha_bar**0.5 * means).square().sum(-1)
        return weights.log() + height(variances, x.shape[1]) - squares / (2 * variances)

    return wrong


def _joint_shares(x, alpha_bar, means, stds, weights):
    return _joint(x, alpha_bar, means, stds, weights).log_softmax(1)


quiz(
    "forward/mixture-joint",
    points=3,
    minutes=5,
    equation="3.10",
    title="Stage 1: blobs under diffusion",
    reference=_joint,
    library=(GaussianMixture.log_prob, GaussianMixture._joint, GaussianMixture.diffused),
    cases=_mixture_cases,
    misconceptions=[
        Misconception(
            "the densities",
            _joint_densities,
            "These are the densities. Return their logarithms, and never take `exp` on the way.",
        ),
        Misconception(
            "logarithms of densities",
            _joint_logs_of_densities,
            "Right near the blobs; far away `exp` gives 0 and its logarithm −∞. Add logarithms instead of multiplying "
            "densities.",
        ),
        Misconception("weights left out", _joint_without_weights, "ln w_k is missing: heavy blobs count for more."),
        Misconception(
            "the clean mixture",
            _joint_clean,
            "This is the mixture at t = 0. At step t the means are √ᾱ m_k and the variances ᾱ s_k² + 1 − ᾱ.",
        ),
        Misconception(
            "the means stay", _joint_means_stay, "The signal shrinks: centres move to √ᾱ m_k while the noise grows."
        ),
        Misconception(
            "the blobs' own width left out",
            _joint_noise_only,
            "v_k = ᾱ s_k² + 1 − ᾱ: the blob's own width, shrunk, plus the noise. Yours is the noise alone.",
        ),
        Misconception(
            "normalisers left out",
            _joint_like(lambda variances, d: 0.0),
            "Each Gaussian has a height, (2π v)^(−d/2): as a logarithm −(d/2) ln(2π v).",
        ),
        Misconception(
            "without 2π",
            _joint_like(lambda variances, d: -d / 2 * variances.log()),
            "All but the constant 2π. It cancels in r_k, but not in the density q(x_t), which comes from here too.",
        ),
        Misconception(
            "the normaliser of one dimension",
            _joint_like(lambda variances, d: -0.5 * (2 * math.pi * variances).log()),
            "−½ ln(2π v) is the normaliser in one dimension. In d = x.shape[1] dimensions it is −(d/2) ln(2π v).",
        ),
        Misconception(
            "normalised over the blobs",
            _joint_shares,
            "These are ln r_k, normalised over the blobs. Asked for is the numerator alone: its `logsumexp` is the "
            "density.",
        ),
    ],
    hints=[
        "What does (3.4) do to a Gaussian with mean m and variance s²? That gives a mean and a variance for each blob.",
        "ln of a Gaussian in d dimensions: −(d/2) ln(2π v) − ‖x − mean‖²/(2v). The weight adds ln w_k.",
        "Every point meets every blob: `x[:, None] - centres` is (n, k, d); square it and add up over the last "
        "axis. All "
        "other terms have shape (k,) and broadcast.",
        "`weights.log() - x.shape[1] / 2 * (2 * math.pi * v).log() - squares / (2 * v)` with "
        "`v = alpha_bar * stds**2 + 1 - alpha_bar`.",
    ],
    passed="One table (n, k) holds everything: its `softmax` are the responsibilities, its `logsumexp` is the "
    "logarithm "
    "of the density, and it stays finite where densities underflow.",
    explanation="""
    (3.4) makes of N(m, s²) the Gaussian N(√ᾱ m, ᾱ s² + 1 − ᾱ): means are scaled, variances are scaled by the square and
    the noise's is added. Staying with logarithms matters: forty standard deviations away exp(−800) is 0.
    """,
)

quiz(
    "forward/mixture-score",
    points=4,
    minutes=5,
    equation="3.10",
    title="Stage 2: the exact score",
    reference=_mixture_reference,
    library=(GaussianMixture.score, GaussianMixture._joint),
    cases=_mixture_cases,
    misconceptions=[
        Misconception(
            "weights for responsibilities",
            _mixture_weights_only,
            "Each blob's pull counts by its *responsibility* r_k(x), the probability that this x came from it, not "
            "by its weight w_k alone.",
        ),
        Misconception(
            "the clean mixture",
            _mixture_clean,
            "This is the score at t = 0. At step t the means are √ᾱ m_k and the variances ᾱ s_k² + 1 − ᾱ.",
        ),
        Misconception(
            "standard deviation for variance", _mixture_std, "The pull is (centre − x) divided by the *variance*."
        ),
        Misconception("downhill", _mixture_sign, "Your arrows point away from the blobs. The score points uphill."),
        Misconception(
            "the means stay", _mixture_means_stay, "The signal shrinks: centres move to √ᾱ m_k while the noise grows."
        ),
        Misconception(
            "normalisers forgotten",
            _mixture_normalisers_forgotten,
            "Blobs of different width have different peaks: each log-density needs its −(d/2) ln(variance) before the "
            "softmax.",
        ),
        Misconception(
            "the normaliser of one dimension",
            _mixture_in_one,
            "−½ ln(variance) is the normaliser in one dimension. In d = x.shape[1] dimensions it is −(d/2) "
            "ln(variance).",
        ),
        Misconception(
            "the normaliser of two dimensions",
            _mixture_in_two,
            "Your normaliser is that of the plane. The points may have any number of dimensions d = x.shape[1]: "
            "−(d/2) ln(variance).",
        ),
        Misconception(
            "densities, not their logarithms",
            _mixture_densities,
            "Right where densities are numbers; far from all blobs every one of them is 0 to the computer, and 0/0 is "
            "no number. Take the softmax of their *logarithms*.",
        ),
    ],
    hints=[
        "Which of the three factors in (3.10) does stage 1 give you, if you take a softmax of it, and over which axis?",
        "You need three things: responsibilities (n, k), the offsets from every point to every centre (n, k, d), "
        "and the variances (k,).",
        "`offsets = alpha_bar**0.5 * means - x[:, None]` has shape (n, k, d). Weigh each by its responsibility, "
        "divide by its variance, add up over k.",
        "`(mixture_joint(x, alpha_bar, means, stds, weights).softmax(1)[..., None] * offsets / variances[:, "
        "None]).sum(1)`",
    ],
    passed="The score is a vote: each blob pulls towards its own centre, the tighter the stronger, and votes "
    "count by how probable it is that the point came from there.",
    explanation="""
    The score is a vote: each blob pulls towards its own centre, the tighter the stronger, and votes count by how
    probable it is that the point came from there. Far from all blobs every density underflows to 0, and 0/0 is NaN;
    the softmax of their logarithms is exact there.
    """,
)


# ------------------------------------------------------------------------------------------------- 3.11 · all together


@fixture("forward/score")
def _score_of_blobs(d=6, seed=0):
    """The score of three diffused blobs in d dimensions, for images of any shape of d numbers."""
    means, weights = torch.randn(3, d, dtype=torch.float64), torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    stds = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64)

    def score(x, a):
        with torch.enable_grad():  # the gradient of the density: no formula of a score stands here
            points, a = x.detach().reshape(len(x), -1).requires_grad_(), float(a)
            m, v, w = (each.to(points) for each in (means, a * stds**2 + 1 - a, weights))
            squares = (points[:, None] - a**0.5 * m).square().sum(-1)
            joint = w.log() - d / 2 * v.log() - squares / (2 * v)
            (slope,) = torch.autograd.grad(joint.logsumexp(1).sum(), points)
        return slope.reshape(x.shape)

    return score


def _walk_back_with(x_T, alpha_bar, score, noise, *, spread=None, last=0, guess=None, read=None, place=None):
    """The loop, with a place for each of the mistakes that people make."""
    x = x_T
    for t in range(len(alpha_bar) - 1, last, -1):
        now, before = alpha_bar[t].item(), alpha_bar[t - 1].item()
        a = now if read is None else alpha_bar[read(t)].item()
        best = (guess or _tweedie)(x, a, score(x, a))
        beta = 1 - now / before
        mean = (before**0.5 * beta * best + (now / before) ** 0.5 * (1 - before) * x) / (1 - now)
        var = (1 - before) / (1 - now) * beta
        factor = var**0.5 if spread is None else spread(var, beta, t)
        x = mean + factor * noise[t - 1 if place is None else place(t)]
    return x


def _tweedie(x, a, score):
    return (x + (1 - a) * score) / a**0.5


def _walk_back(x_T, alpha_bar, score, noise):
    return _walk_back_with(x_T, alpha_bar, score, noise)


def _walk_back_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    settings = (
        (6, (4, 1, 2, 3), 6, torch.float64),
        (3, (1, 2, 1, 1), 2, torch.float64),
        (9, (2, 3, 2, 1), 6, torch.float32),
    )
    for k, (T, shape, d, dtype) in enumerate(settings):
        beta = 0.1 + 0.5 * torch.rand(T, generator=rng, dtype=torch.float64)
        x_T, noise = (torch.randn(each, generator=rng, dtype=dtype) for each in (shape, (T, *shape)))
        alpha_bar = library.Schedule.from_betas(beta).alpha_bar
        args = {"x_T": x_T, "alpha_bar": alpha_bar, "score": Fixture("forward/score", d=d, seed=k), "noise": noise}
        cases.append(Case(args, label=f"{T} steps, images {shape}, {str(dtype).removeprefix('torch.')}"))
    return cases


def _walk_back_variance(x_T, alpha_bar, score, noise):
    return _walk_back_with(x_T, alpha_bar, score, noise, spread=lambda var, beta, t: var)


def _walk_back_beta(x_T, alpha_bar, score, noise):
    return _walk_back_with(x_T, alpha_bar, score, noise, spread=lambda var, beta, t: beta**0.5)


def _walk_back_without_noise(x_T, alpha_bar, score, noise):
    return _walk_back_with(x_T, alpha_bar, score, noise, spread=lambda var, beta, t: 0.0)


def _walk_back_too_short(x_T, alpha_bar, score, noise):
    return _walk_back_with(x_T, alpha_bar, score, noise, last=1)


def _walk_back_score_for_noise(x_T, alpha_bar, score, noise):
    return _walk_back_with(x_T, alpha_bar, score, noise, guess=lambda x, a, s: (x - (1 - a) ** 0.5 * s) / a**0.5)


def _walk_back_minus(x_T, alpha_bar, score, noise):
    return _walk_back_with(x_T, alpha_bar, score, noise, guess=lambda x, a, s: (x - (1 - a) * s) / a**0.5)


def _walk_back_not_scaled(x_T, alpha_bar, score, noise):
    return _walk_back_with(x_T, alpha_bar, score, noise, guess=lambda x, a, s: x + (1 - a) * s)


def _walk_back_score_a_step_late(x_T, alpha_bar, score, noise):
    return _walk_back_with(x_T, alpha_bar, score, noise, read=lambda t: max(t - 1, 1))


def _walk_back_same_noise(x_T, alpha_bar, score, noise):
    return _walk_back_with(x_T, alpha_bar, score, noise, place=lambda t: 0)


def _walk_back_noise_in_reverse(x_T, alpha_bar, score, noise):
    return _walk_back_with(x_T, alpha_bar, score, noise, place=lambda t: len(noise) - t)


quiz(
    "forward/walk-back",
    points=5,
    minutes=8,
    equation="3.9",
    title="From noise to data",
    reference=_walk_back,
    library=WALKS,
    cases=_walk_back_cases,
    any_device=False,
    misconceptions=[
        Misconception(
            "variance for standard deviation",
            _walk_back_variance,
            "The noise is multiplied by the *root* of the posterior's variance. (You have hunted this bug in 3.3.)",
        ),
        Misconception(
            "β for the posterior variance",
            _walk_back_beta,
            "You draw with variance β_t. It is a choice that samplers do offer, but (3.8), which is asked for "
            "here, has "
            "β̃_t.",
        ),
        Misconception(
            "the mean alone",
            _walk_back_without_noise,
            "You go to the mean and never draw. The walk then ends too close to the middle of things.",
        ),
        Misconception(
            "a step too few",
            _walk_back_too_short,
            "Your loop ends at x_1. The last step is the one from t = 1 to 0; its variance is 0, its mean the guess.",
        ),
        Misconception(
            "the score taken for noise",
            _walk_back_score_for_noise,
            "You treat the score as the noise. By (3.9) it is −E[ε | x_t]/√(1 − ᾱ_t): another factor, another sign.",
        ),
        Misconception(
            "downhill", _walk_back_minus, "The guess lies *uphill*: x_t + (1 − ᾱ_t)·score, then divided by √ᾱ_t."
        ),
        Misconception(
            "the guess not scaled up",
            _walk_back_not_scaled,
            "x_t contains √ᾱ_t·x_0. Divide by √ᾱ_t to get x_0 itself.",
        ),
        Misconception(
            "the score of the step before",
            _walk_back_score_a_step_late,
            "x_t is as noisy as ᾱ_t says. You ask the score for another level.",
        ),
        Misconception(
            "one noise for all steps",
            _walk_back_same_noise,
            "Every step has noise of its own: row t − 1 for the step from t to t − 1.",
        ),
        Misconception(
            "noise from the other end",
            _walk_back_noise_in_reverse,
            "The rows are taken from the other end: row t − 1 belongs to the step from t to t − 1, so the first "
            "step, from "
            "T, takes the last row.",
        ),
    ],
    hints=[
        "A loop over t from T down to 1. Each round turns x_t into x_{t−1}, in three moves: guess, posterior, draw.",
        "The guess is Tweedie's formula with `score(x, a)`, a = ᾱ_t as a number: `alpha_bar[t].item()`. Then your "
        "`posterior` wants the guess in the place of x0.",
        "`posterior` also wants one step for each image: `torch.full((len(x),), t)`. It returns mean *and* variance; a "
        "draw is mean + √variance · noise, with row t − 1 of the noise.",
        "`guess = (x + (1 - a) * score(x, a)) / a**0.5`, `mean, var = posterior(guess, x, torch.full((len(x),), t), "
        "alpha_bar)`, `x = mean + var.sqrt() * noise[t - 1]`.",
    ],
    passed="This is Algorithm 2 of the DDPM paper, with an exact score where a network will stand. Nothing in the loop "
    "will change when it does.",
    explanation="""
    Guess, posterior, draw. The draw uses β̃_t, as if the guess were the true x₀; with many steps the choice matters
    little (notebook 06 measures it). At t = 1 the variance is 0 and the mean is the guess, so the last step takes no
    noise by itself.
    """,
)

concept(
    "forward/crowd",
    title="An exact score, a short chain",
    question="""
    Your `walk_back`, with the *exact* score, starts from $\\mathcal N(0, I)$ on chain A of 3.6, which still has traces
    of the data at its end. A thousand samples: what will be wrong with them?
    """,
    options={
        "a": Option(
            "They are blurred: many of them lie between the blobs, on none.",
            "The score at small $t$ is exact and pulls every point onto a blob, wherever it comes from.",
        ),
        "b": Option(
            "They lie on the blobs, but in other shares than the data do.",
            "Right. Which blob it will be is decided early, from $x_T$ on, and there the mean of the data is missing.",
            right=True,
        ),
        "c": Option(
            "Nothing: an exact score leads to the data from any start at all.",
            "The score says where to go *from here*. How many start where is a matter of $x_T$.",
        ),
        "d": Option(
            "They shrink towards the origin, by the amplitude left in $x_T$.",
            "The last steps end at the best guess of $x_0$, which is not shrunk.",
        ),
    },
)
