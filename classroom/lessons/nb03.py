"""The quizzes of notebook 03, "Forward diffusion"."""

import math

import torch

from course_utils import diffusion as library
from course_utils.data.mixtures import GaussianMixture
from course_utils.sampling import ddim, ddim_invert, ddpm, dpm_solver, euler, heun, loop, solvers

from ..quizzes.declarations import Case, Misconception, Option, Tolerance, Unfit, concept, quiz
from ..quizzes.raw import Array

# Of tables whose ends are small, or 0. What single precision allows is relative; a floor under them is a mistake.
TABLE = Tolerance(1e-4, 1e-10)

# What else of the library adds noise or goes back by the posterior, once it is given a chain of two stops.
WALKS = (ddim, ddpm, dpm_solver, euler, heun, ddim_invert, solvers.along, solvers._multistep)


def _per_image(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """One number an image, shaped to multiply (b, c, h, w), in its precision."""
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
    title="Which step is noisier?",
    equation="3.1",
    question="""
    A lecture says: "the larger $\\alpha_t = 1-\\beta_t$, the noisier $x_t$ becomes." What do you say?
    """,
    options={
        "a": Option(
            "It is the reverse: $\\alpha_t$ is the share of the variance that the step *keeps*.",
            "Right. $\\alpha_t = 1$ leaves the image as it is, $\\alpha_t = 0$ replaces it by noise. It is $\\beta_t$ "
            "that measures noise.",
            right=True,
        ),
        "b": Option(
            "True: $\\alpha_t$ multiplies the noise in (3.1).",
            "The noise is multiplied by $\\sqrt{\\beta_t}$; $\\sqrt{\\alpha_t}$ multiplies the image. The three rows "
            "above say the same.",
        ),
        "c": Option(
            "Neither: every step adds noise of variance 1, so all are equally noisy.",
            "$\\varepsilon_t$ has variance 1, but it is added with the factor $\\sqrt{\\beta_t}$.",
        ),
        "d": Option(
            "It depends on the image: a bright one has more noise.",
            "The noise is drawn without looking at the image; (3.1) adds the same amount to black and to white.",
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
    minutes=5,
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
        "`u = torch.linspace(0, 1, T, dtype=torch.float64)` runs along the steps; then one line for each kind.",
        "Quadratic: a straight line between the two *roots*, all of it squared. Sigmoid: `torch.sigmoid(12 * u - 6)` "
        "in the place of u.",
        "`(beta_min**0.5 + (beta_max**0.5 - beta_min**0.5) * u) ** 2` for the quadratic one.",
    ],
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
    minutes=4,
    equation="3.3",
    title="The table of ᾱ",
    reference=_linear_reference,
    library=(library.linear_schedule, library.Schedule.from_betas),
    answered_by=("forward/shifted",),
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
        "T values of β along a straight line, T values of α = 1 − β, their running product, and a 1 in front.",
        "`torch.linspace(beta_min, beta_max, T, dtype=torch.float64)` and `.cumprod(0)`.",
        "`torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])`",
    ],
    explanation="""
    With the leading 1 the table reads as it is written: `alpha_bar[t]` is ᾱ_t, for t = 0 too. Many published
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


def _noise_variance(x0, t, noise, alpha_bar):
    a = _per_image(alpha_bar[t], x0)
    return a.sqrt() * x0 + (1 - a) * noise


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
    minutes=5,
    equation="3.4",
    title="Jump to step t",
    reference=_add_noise,
    library=ADDING_NOISE,
    answered_by=("forward/swap",),
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
        "Shapes: `alpha_bar[t]` is (b,). Give it three more axes, `.view(-1, 1, 1, 1)`, so that each image meets its "
        "own number.",
        "The table is float64. Bring what you looked up into the images' precision: `.to(x0.dtype)`.",
    ],
    explanation="""
    Indexing with t picks one entry an image, the view makes it (b, 1, 1, 1), and broadcasting does the rest. The cast
    matters: a float64 factor of that shape would turn the whole batch into float64, which is slow, and which a float32
    network refuses.
    """,
)

quiz(
    "forward/published-noise",
    points=3,
    minutes=5,
    equation="3.4",
    title="Bug hunt",
    bug_hunt=True,
    reference=_add_noise,
    library=ADDING_NOISE,
    answered_by=("forward/swap",),
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
        "Take an image of unit variance and t half-way. What is the variance of the result?",
        "Var(c · ε) = c². Which c gives 1 − ᾱ?",
        "`(1 - a).sqrt() * noise`",
    ],
    explanation="""
    (1 − ᾱ)·ε has variance (1 − ᾱ)², which is less than 1 − ᾱ: too little noise everywhere between the ends. An image of
    unit variance then has ᾱ + (1 − ᾱ)², at its lowest, 3/4, where ᾱ = 1/2: around t = 260 of the linear schedule. Both
    ends are right, so the pictures look fine. The network learns images that are cleaner than the sampler believes, and
    the sampler, which uses the correct variances, feeds it images it has never seen.
    """,
)

concept(
    "forward/variance-preserving",
    title="What the variances say",
    equation="3.4",
    question="""
    The pixels of $x_0$ have mean 0 and variance 1. What is the variance of the pixels of $x_t$?
    """,
    options={
        "a": Option(
            "$\\bar\\alpha_t$",
            "That is the part that comes from the image. The noise brings the rest.",
        ),
        "b": Option(
            "1, at every $t$.",
            "Right: $\\bar\\alpha_t + (1-\\bar\\alpha_t)$. Hence the name *variance preserving*. (Data of another "
            "variance slide from theirs to 1, as ours do.)",
            right=True,
        ),
        "c": Option(
            "It grows with $t$, as more and more noise is added.",
            "It would, had we only added: that is the second curve of the first plot. But each step also shrinks what "
            "is there.",
        ),
        "d": Option(
            "$\\sqrt{\\bar\\alpha_t}+\\sqrt{1-\\bar\\alpha_t}$",
            "Standard deviations don't add, variances do. Try $\\bar\\alpha_t=\\tfrac12$: this would give 1.41.",
        ),
    },
)


def _pair_reference(x0, t, noise, alpha_bar):
    return _add_noise(x0, t, noise, alpha_bar), noise


def _pair_as_handed_out(x0, t, noise, alpha_bar):
    return noise, _add_noise(x0, t, noise, alpha_bar)


def _pair_twice_noisy(x0, t, noise, alpha_bar):
    noisy = _add_noise(x0, t, noise, alpha_bar)
    return noisy, noisy


def _pair_predicts_image(x0, t, noise, alpha_bar):
    return _add_noise(x0, t, noise, alpha_bar), x0


quiz(
    "forward/swap",
    points=2,
    minutes=4,
    title="Bug hunt: two results",
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
        "Read the docstring of `forward` aloud, then the line that calls it.",
        "Both results have the same shape, so Python can't notice. Only the order of the names decides.",
        "`noise, noisy = forward(...)`, then return the noisy image first.",
    ],
    explanation="""
    With the names exchanged the network sees ε and has to answer √ᾱ x₀ + √(1−ᾱ) ε. The part with ε it can copy; x₀ it
    cannot know, so it answers with the mean image. The loss falls, fast even, and then stays. Sampling with it gives
    nothing. Results of one shape and type deserve names: the library's functions return a `NamedTuple`, or one thing.
    """,
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
    minutes=6,
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
        "Three lines: the curve f at t = 0 … T; the β that it implies, limited; the table from those β, as before.",
        "`u = torch.arange(T + 1, dtype=torch.float64) / T`, and β_t = 1 − f(t)/f(t−1): `1 - f[1:] / f[:-1]`.",
        "`beta = (1 - f[1:] / f[:-1]).clamp(max=max_beta)`; then a 1 and the running product of 1 − β. Dividing by "
        "f(0) has then happened by itself.",
    ],
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


def _at_shifted(t, beta):
    return torch.cat([beta.new_ones(1), (1 - beta).cumprod(0)])[t - 1]


def _at_shifted_twice(t, beta):
    return torch.cat([beta.new_ones(2), (1 - beta).cumprod(0)])[t - 1]


def _at_next(t, beta):
    table = (1 - beta).cumprod(0)
    return table[t.clamp(max=len(beta) - 1)]


quiz(
    "forward/shifted",
    points=2,
    minutes=5,
    equation="3.3",
    title="Bug hunt: off by one",
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
        "Which ᾱ does it give for t = 1, and which for t = T? Print both.",
        'Python does count from 0: and entry 0 of this table is ᾱ₀. So "counting from 0" has been taken care of.',
        "`return alpha_bar[t]`",
    ],
    explanation="""
    Shifted by one, every image is a step *cleaner* than the network is told; at t = 1 it is told to find noise where
    there is none, and pure noise, which sampling starts from, is never seen in training. With a thousand steps the
    harm is small, which is why the slip survives; with 20 steps it isn't (the table below the quiz). The reverse
    convention, a table that begins with ᾱ₁ and is read at t − 1, is consistent too. Mixing the two is the bug.
    """,
)

concept(
    "forward/curve",
    title="More steps",
    equation="3.5",
    question="""
    You change the cosine schedule from $T=1000$ to $T=4000$ and keep everything else. What happens to the noised
    images half-way, at $t = T/2$ (that is 500 before, 2000 now), or at any other fixed share $t/T$ of the way?
    """,
    options={
        "a": Option(
            "They get noisier, since four times as many steps have added noise.",
            "Four times as many steps, each adding about a quarter as much. The curve over $t/T$ stays.",
        ),
        "b": Option(
            "They get cleaner: each step adds less.",
            "Each step does add less, and four times as many have been taken. (At the same *number* of steps, $t=500$, "
            "they would be cleaner: that is an eighth of the way now.)",
        ),
        "c": Option(
            "They are drawn from finer noise.",
            "The noise is the same standard normal; only how often the curve is visited has changed.",
        ),
        "d": Option(
            "Nothing: the same curve is only walked in smaller strides.",
            "Right (but for the very last step, where max_beta bites). That holds for schedules that are given as a "
            "curve. For the linear β it holds only if β is rescaled: see 3.6.",
            right=True,
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
    minutes=3,
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
        "A ratio of two variances, then `log`. Which variance belongs to the image, which to the noise?",
        "ln(a/b) = ln a − ln b. At t = 0 it is +∞, and −∞ where ᾱ = 0: that is as it should be.",
        "`alpha_bar.log() - (1 - alpha_bar).log()`",
    ],
    explanation="""
    As a difference of two logarithms it is also correct at both ends: ln 1 − ln 0 = ∞ and ln 0 − ln 1 = −∞, no NaN.
    In the literature it is often called λ; ᾱ comes back as the logistic function of it, ᾱ = 1/(1 + e^(−λ)).
    """,
)

# ------------------------------------------------------------------------------------------------- 3.6 · short chain

concept(
    "forward/short-chain",
    title="The short chain",
    question="""
    A tutorial trains with $\\beta$ from 0.0001 to 0.02 and $T=200$, and starts sampling from $\\mathcal N(0, I)$.
    What goes wrong?
    """,
    options={
        "a": Option(
            "Nothing: $\\beta_T$ is the same as in the DDPM paper, so the end is just as noisy.",
            "$\\beta_T$ says how much the *last step* adds. How much is left in the end is the product of all the "
            "steps, and there are five times fewer.",
        ),
        "b": Option(
            "The steps are too coarse: each one adds too much noise.",
            "Each adds exactly as much as in the long chain. There are too few of them.",
        ),
        "c": Option(
            "Training never shows the network pure noise, but sampling starts there.",
            "Right. At $t=T$ more than a third of the amplitude is still there; the network has learned to rely on it, "
            "and the first steps of sampling find nothing to rely on.",
            right=True,
        ),
        "d": Option(
            "The network has too few steps to train on.",
            "Steps are drawn at random, images are plenty; a network can be trained with any T.",
        ),
    },
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
        "Work on `root = alpha_bar.sqrt()`. Subtract what is left at the end, then multiply so that root[1] is back.",
        "The factor is root[1] / (root[1] − root[T]). Entry 0 is not touched: it is 1.",
        "`rest = (root[1:] - root[-1]) * root[1] / (root[1] - root[-1])`, put root[:1] in front, square.",
    ],
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
    minutes=10,
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
        "Look up ᾱ_t and ᾱ_{t−1} for each image, shape (b, 1, 1, 1). Their quotient is α_t, and β_t = 1 − α_t.",
        "Both weights of the mean are divided by 1 − ᾱ_t; the variance is β_t (1−ᾱ_{t−1})/(1−ᾱ_t).",
        "Compute the weights in the table's float64 and bring them into the images' precision last: 1 − α_t is a small "
        "difference of numbers near 1.",
    ],
    explanation="""
    Two checks that need no table: at t = 1 the mean is x₀ and the variance 0, because step 0 *is* the clean image;
    and if x₀ and x_t say the same (x_t = √ᾱ_t x₀), the mean is √ᾱ_{t−1} x₀, the same image one step brighter.
    """,
)

concept(
    "forward/posterior-needs",
    title="What the way back needs",
    equation="3.8",
    question="""
    Why can't we sample by drawing from (3.8), from $t=T$ down to 1?
    """,
    options={
        "a": Option(
            "It isn't Gaussian.",
            "It is, exactly, at every $t$: a product of two Gaussians in $x_{t-1}$. It is $q(x_{t-1}\\mid x_t)$, "
            "without $x_0$, that isn't.",
        ),
        "b": Option(
            "It asks for $x_0$, the very image that we want to make.",
            "Right. So a network will guess $x_0$ from $x_t$, and the guess goes where $x_0$ stands. That is "
            "notebook 06.",
            right=True,
        ),
        "c": Option(
            "Its variance is 0 at $t=1$.",
            "It is, and rightly: once $x_0$ is known nothing is left to draw.",
        ),
        "d": Option(
            "The chain is Markov, so nothing about the past can be known from $x_t$.",
            "Markov means that $x_t$ needs only $x_{t-1}$ to be drawn. Bayes' rule looks back all the same.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 3.9, 3.10 · scores

concept(
    "forward/score-far",
    title="Where does the score point?",
    equation="3.9",
    question="""
    The score of $q(x_t)$ at a point $x$ is zero. What does Tweedie's formula (3.9) say about the best guess of $x_0$
    there?
    """,
    options={
        "a": Option(
            "It is $x/\\sqrt{\\bar\\alpha_t}$: the point, scaled up. On average there is no noise to take away.",
            "Right: the expected noise is 0 there. Half-way between two modes of equal weight, for instance, the "
            "guess is the middle: a mean of both, and an image of neither.",
            right=True,
        ),
        "b": Option(
            "There is no noise in $x$.",
            "There is: the noise that led here may have been large, in one direction or another. Only its *mean*, "
            "given $x$, is 0.",
        ),
        "c": Option(
            "$x$ is a likely clean image.",
            "A score of zero is a peak, a valley or a saddle of the density. Between two modes it is zero as well.",
        ),
        "d": Option(
            "$x_0 = 0$.",
            "Put 0 for the score into (3.9): $\\mathbb E[x_0\\mid x_t=x] = x/\\sqrt{\\bar\\alpha_t}$.",
        ),
    },
)


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


quiz(
    "forward/mixture-score",
    points=4,
    minutes=10,
    equation="3.10",
    title="The exact score of a mixture",
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
        "First the diffused mixture: centres (k, d) and variances (k,). Then offsets `centres - x[:, None]`, (n, k, "
        "d).",
        "Responsibilities: a softmax over k of ln w_k + ln N(x; centre, variance). A softmax of logarithms cannot "
        "underflow; a quotient of densities can.",
        "`log = weights.log() - d / 2 * variances.log() - offsets.square().sum(-1) / (2 * variances)`, then "
        "`(log.softmax(1)[..., None] * offsets / variances[:, None]).sum(1)`.",
    ],
    explanation="""
    The score is a vote: each blob pulls towards its own centre, the tighter the stronger, and votes count by how
    probable it is that the point came from there. Far from all blobs every density underflows to 0, and 0/0 is NaN;
    the softmax of their logarithms is exact there.
    """,
)
