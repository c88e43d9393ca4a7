"""The quizzes of notebook 10, "Straight lines"."""

from itertools import pairwise

import numpy as np
import torch
from torch import nn

from course_utils import diffusion, few_steps, flow
from course_utils import diffusion as library
from course_utils.data import GaussianMixture
from course_utils.diffusion import predict_noise
from course_utils.flow import convert, flow_schedule

from ..quizzes.declarations import Case, Fixture, Misconception, Option, Tolerance, Unfit, concept, fixture, quiz
from ..quizzes.raw import Array

# -------------------------------------------------------------------------------------------------- inputs for cases


@fixture("flows/schedule")
def _schedule(curve: str = "cosine", T: int = 50, seed: int = 0) -> library.Schedule:
    return flow.flow_schedule(T) if curve == "flow" else library.NOISE_SCHEDULES[curve](T)


@fixture("flows/denoise")
def _denoise(size: float = 1.2, seed: int = 0):
    """A denoiser (x_t, t, y=None) → x̂_0 that listens to every pixel, its neighbour, the step and the label."""

    def denoise(x_t, t, y=None):
        told = 0.2 if y is None else 0.3 * y.to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
        step = t.to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1)) / 40
        return size * torch.tanh(0.8 * x_t + 0.4 * x_t.roll(1, -1) + told) + 0.3 * step.sin()

    return denoise


@fixture("flows/velocity")
def _velocity(seed: int = 0):
    """A velocity (x, u) → like x, of a number u, which mustn't be asked at 0."""

    def velocity(x, u):
        if not (isinstance(u, float) and 0 < u <= 1):
            raise ValueError(f"velocity: expected a number u in (0, 1], got {u!r}")
        return torch.tanh(x.roll(1, -1) * (1 + u)) - x * u**2 + 0.1 / (u + 0.2)

    return velocity


class _Network(nn.Module):
    """A small network of images, steps and labels."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv, self.label = nn.Conv2d(channels, channels, 3, padding=1), nn.Embedding(4, channels)

    def forward(self, x, t, y):
        return (self.conv(x) + self.label(y)[:, :, None, None] + t[:, None, None, None].to(x.dtype) / 50).sin()


@fixture("flows/network")
def _network(channels: int = 1, double: bool = False, seed: int = 0) -> nn.Module:
    return _Network(channels).to(torch.float64 if double else torch.float32)


BATCHES = (  # how many, of which shape, dtype
    (4, (1, 5, 7), torch.float32),
    (3, (3, 4, 6), torch.float64),
    (1, (6,), torch.float64),
    (5, (2, 3, 8), torch.float32),
)


def _normal(rng: torch.Generator, *shape: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=rng, dtype=dtype)


def _like_images(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)


# ---------------------------------------------------------------------------------------- 10.1 · another way to mix


def _straight_path(x0, noise, u):
    u = _like_images(u, x0)
    return (1 - u) * x0 + u * noise, noise - x0


def _path_with(place=lambda x0, noise, u: (1 - u) * x0 + u * noise, speed=lambda x0, noise, u: noise - x0):
    """(10.1) and (10.2), with a place for each of the mistakes that people make."""

    def straight_path(x0, noise, u):
        u = _like_images(u, x0)
        return place(x0, noise, u), speed(x0, noise, u)

    return straight_path


def _lines(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, dtype in BATCHES:
        u = torch.rand(b, generator=rng, dtype=dtype)
        u[0] = 0.0 if b > 3 else 1.0 if b > 1 else 0.3
        args = {"x0": _normal(rng, b, *shape, dtype=dtype), "noise": _normal(rng, b, *shape, dtype=dtype), "u": u}
        cases.append(Case(args))
    return cases


quiz(
    "flows/straight-path",
    points=2,
    minutes=2,
    equation="10.1",
    title="A straight line, and how fast one goes",
    reference=_straight_path,
    cases=_lines,
    misconceptions=[
        Misconception(
            "the line turned round",
            _path_with(place=lambda x0, noise, u: u * x0 + (1 - u) * noise),
            "Your path is at the noise when u = 0. In this notebook u is the share of *noise*.",
        ),
        Misconception(
            "the velocity turned round",
            _path_with(speed=lambda x0, noise, u: x0 - noise),
            "The derivative with respect to u of (1 − u) x₀ + u ε: what is the sign of x₀ in it?",
        ),
        Misconception(
            "a circle",
            _path_with(place=lambda x0, noise, u: (1 - u).sqrt() * x0 + u.sqrt() * noise),
            "Those are the shares of a path that keeps the variance. On a straight line they add up to 1.",
        ),
        Misconception(
            "the way that is left",
            _path_with(speed=lambda x0, noise, u: (1 - u) * (noise - x0)),
            "The velocity of (10.2) doesn't depend on u: what is left of the way shrinks, but so does the time left.",
        ),
    ],
    hints=[
        "u comes as (b,), images as (b, c, h, w), or of any other shape. What shape must u have to multiply them?",
        "`u.reshape(-1, *[1] * (x0.ndim - 1))` has one number for each row, and then ones.",
        "The place is (10.1) as it stands; the velocity is its derivative with respect to u.",
        "`return (1 - u) * x0 + u * noise, noise - x0`, with u in its new shape",
    ],
    passed="A straight line has one velocity from end to end. All that is hard in this notebook comes from there being "
    "many of them.",
    explanation="The derivative of (1 − u) x₀ + u ε is −x₀ + ε. On a curved path it would depend on u.",
)

concept(
    "flows/crossing",
    minutes=1,
    title="Where two lines cross",
    equation="10.2",
    question="""
    Two straight lines, equally likely, pass through one place at the same $u$, one with velocity $(2, 0)$, one with
    $(0, 2)$. A network sees the place and $u$ alone, and is trained with the squared error. What does it come to answer
    there?
    """,
    options={
        "a": Option(
            "One of the two, whichever of them it happened to be shown more often in training.",
            "Both are shown equally often. A squared error punishes a choice: half of the time it is off by a lot.",
        ),
        "b": Option(
            "$(1, 1)$, although there is no line at all that passes through with this velocity.",
            "Right. A squared error is least at the mean. That nobody walks that way is no fault: the *crowd* does.",
            right=True,
        ),
        "c": Option(
            "Now one and now the other, since both of the two lines are in the training data.",
            "A network is a function: one place and one time give one answer.",
        ),
        "d": Option(
            "$(0, 0)$ or close to it, since directions that disagree tend to cancel each other out.",
            "Only opposite ones cancel. The mean of these two is half as far along each.",
        ),
    },
)


def _marginal_velocity(x, u, data):
    noise = (x[:, None] - (1 - u) * data) / u
    weights = (-noise.square().sum(-1) / 2).softmax(1)
    return (weights[..., None] * (noise - data)).sum(1)


def _marginal_with(
    weights=lambda noise, u: -noise.square().sum(-1) / 2, speed=lambda noise, data, u: noise - data, softmax=True
):
    def marginal_velocity(x, u, data):
        noise = (x[:, None] - (1 - u) * data) / u
        w = weights(noise, u).softmax(1) if softmax else torch.full_like(noise[..., 0], 1 / len(data))
        return (w[..., None] * speed(noise, data, u)).sum(1)

    return marginal_velocity


def _places(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, m, d, u, dtype in (
        (4, 7, 2, 0.6, torch.float64),
        (1, 3, 5, 1.0, torch.float64),
        (6, 1, 3, 0.35, torch.float32),
        (5, 30, 2, 0.02, torch.float64),
    ):
        data = _normal(rng, m, d, dtype=dtype)
        x = (1 - u) * data[torch.arange(n) % m] + u * _normal(rng, n, d, dtype=dtype)
        cases.append(Case({"x": x, "u": u, "data": data}, label=f"{n} places, {m} images in {d} dimensions, u = {u}"))
    return cases


quiz(
    "flows/marginal-velocity",
    points=3,
    minutes=5,
    equation="10.5",
    title="The mean of all lines through a place",
    reference=_marginal_velocity,
    library=(GaussianMixture.velocity, GaussianMixture.denoiser),
    cases=_places,
    misconceptions=[
        Misconception(
            "all images count alike",
            _marginal_with(softmax=False),
            "Each image has the same weight in yours. The place tells which images are probable: an image that would "
            "need a noise of length 10 all but can't have come here.",
        ),
        Misconception(
            "the length instead of its square",
            _marginal_with(weights=lambda noise, u: -noise.norm(dim=-1) / 2),
            "The normal density falls with the *square* of the noise's length.",
        ),
        Misconception(
            "distances in place of noises",
            _marginal_with(weights=lambda noise, u: -(u * noise).square().sum(-1) / 2),
            "You weigh by |x − (1 − u) x_i|², the noise times u. At small u that makes far too many images count.",
        ),
        Misconception(
            "the velocity turned round",
            _marginal_with(speed=lambda noise, data, u: data - noise),
            "Each line's velocity is ε − x₀, from the image to the noise.",
        ),
        Misconception(
            "the half forgotten",
            _marginal_with(weights=lambda noise, u: -noise.square().sum(-1)),
            "The exponent is −|ε|²/2.",
        ),
    ],
    hints=[
        "First all noises at once: every place with every image, (n, m, d). `x[:, None]` is (n, 1, d).",
        "The weights: (n, m), from the squared lengths of the noises. What makes numbers positive and their sum 1, "
        "from their logarithms?",
        "`(-noise.square().sum(-1) / 2).softmax(1)`: along the images. Divided this way, nothing underflows.",
        "`(weights[..., None] * (noise - data)).sum(1)`",
    ],
    passed="What a perfect network would say, from nothing but the data. With images it would be useless: at small u "
    "a single one has all the weight, and the flow leads to training images.",
    explanation="""
    Bayes' rule: p(x₀ | x_u) ∝ p(x_u | x₀), a normal density around (1 − u) x₀ with standard deviation u, which is that
    of the noise needed. Without the softmax, exponentials of large negative numbers would all be 0.
    """,
)


def _euler(velocity, x, us):
    places = [x]
    for u, after in pairwise(us):
        places.append(places[-1] + (after - u) * velocity(places[-1], u))
    return places


def _walks(rng: torch.Generator) -> list[Case]:
    cases = []
    for (b, shape, dtype), us in zip(
        BATCHES, ([1.0, 0.7, 0.2, 0.0], [1.0, 0.0], [0.9, 0.5, 0.45, 0.1], [1.0, 0.75, 0.5, 0.25, 0.0]), strict=True
    ):
        x = _normal(rng, b, *shape, dtype=dtype)
        cases.append(Case({"velocity": Fixture("flows/velocity"), "x": x, "us": us}, label=f"{tuple(x.shape)}, {us}"))
    return cases


def _euler_with(stride):
    """stride(x, velocity, u, after) → the next place."""

    def euler(velocity, x, us):
        places = [x]
        for u, after in pairwise(us):
            places.append(stride(places[-1], velocity, u, after))
        return places

    return euler


quiz(
    "flows/euler",
    points=2,
    minutes=2,
    equation="10.6",
    title="Follow it",
    reference=_euler,
    cases=_walks,
    misconceptions=[
        Misconception(
            "the sign of the stride",
            _euler_with(lambda x, velocity, u, after: x + (u - after) * velocity(x, u)),
            "You go the other way: u falls, so a stride has length u' − u, less than 0.",
        ),
        Misconception(
            "always from the start",
            lambda velocity, x, us: [x, *(x + (after - u) * velocity(x, u) for u, after in pairwise(us))],
            "Each stride begins where the last one ended, and asks there.",
        ),
        Misconception(
            "strides of one length",
            lambda velocity, x, us: _euler_with(
                lambda x, velocity, u, after: x - (us[0] - us[-1]) / (len(us) - 1) * velocity(x, u)
            )(velocity, x, us),
            "Your strides all have the same length. `us` may be spaced in any way: use u' − u.",
        ),
        Misconception(
            "the end alone",
            lambda velocity, x, us: _euler(velocity, x, us)[-1:],
            "All places are wanted, the first of which is x.",
        ),
    ],
    hints=[
        "`pairwise(us)` gives the two ends of each stride.",
        "In a time of u' − u, at a velocity v, one gets (u' − u) · v further. What is its sign here?",
        "Ask where you stand and when you stand there: `velocity(x, u)`.",
        "`x = x + (after - u) * velocity(x, u)`, and append it",
    ],
    passed="A sampler in three lines: one network evaluation a stride.",
    explanation="With u falling, after − u is negative: the walk goes against the velocity, from noise to data.",
)

concept(
    "flows/one-stride",
    minutes=1,
    title="One stride from noise",
    equation="10.5",
    question="""
    A perfect network, pure noise at $u=1$, and a single stride of Euler's to $u=0$. Where does it end?
    """,
    options={
        "a": Option(
            "At an image of the data set, since a perfect velocity points to one of them.",
            "It points to the mean of all it may be. Of pure noise, that is any of them.",
        ),
        "b": Option(
            "At the image that the whole flow leads to from this noise, a little blurred.",
            "For that the velocity would have to know where the path *leads*. It knows which way it sets out.",
        ),
        "c": Option(
            "At some blurred image, and at another one for each noise that one begins with.",
            "$x_1=\\varepsilon$ says nothing about $x_0$ when noise and image are drawn independently. So what does "
            "the mean depend on?",
        ),
        "d": Option(
            "At the mean of all images, and at the same one whatever noise one begins with.",
            "Right: $v(\\varepsilon,1)=\\varepsilon-\\mathbb E\\,x_0$, so $\\varepsilon-v=\\mathbb E\\,x_0$. (With a "
            "label: the mean of that class.)",
            right=True,
        ),
    },
)

# --------------------------------------------------------------------------------- 10.2 · the model you have is a flow


def _alpha_bar(T):
    u = torch.arange(T + 1, dtype=torch.float64) / T
    return (1 - u) ** 2 / ((1 - u) ** 2 + u**2)


def _alpha_bar_with(formula):
    return lambda T: formula(torch.arange(T + 1, dtype=torch.float64) / T)


quiz(
    "flows/alpha-bar",
    points=1,
    minutes=2,
    equation="10.3",
    title="The schedule of straight paths",
    reference=_alpha_bar,
    library=(flow.flow_schedule,),
    cases=lambda rng: [Case({"T": T}) for T in (4, 1, 1000, int(torch.randint(5, 99, (), generator=rng)))],
    misconceptions=[
        Misconception(
            "a share of the amplitude",
            _alpha_bar_with(lambda u: 1 - u),
            "1 − u is the image's share on the straight path. ᾱ is a share of *variance*, after x_u was stretched to "
            "variance 1.",
        ),
        Misconception(
            "not stretched",
            _alpha_bar_with(lambda u: (1 - u) ** 2),
            "(1 − u)² is the variance that is left of the image in x_u. Divide by all of its variance, (1 − u)² + u².",
        ),
        Misconception(
            "the noise's share",
            _alpha_bar_with(lambda u: u**2 / ((1 - u) ** 2 + u**2)),
            "Yours rises from 0 to 1: ᾱ_0 = 1 is the clean image.",
        ),
        Misconception("a root too many", lambda T: _alpha_bar(T).sqrt(), "That is √ᾱ, the rate."),
        Misconception("without step 0", lambda T: _alpha_bar(T)[1:], "The table begins with step 0, where ᾱ is 1."),
    ],
    hints=[
        "`torch.arange(T + 1, dtype=torch.float64) / T` are the u of all steps.",
        "x_u = (1 − u) x₀ + u ε has variance (1 − u)² + u² if x₀ and ε have variance 1.",
        "ᾱ is the image's part of it: (1 − u)² over the whole.",
        "`(1 - u) ** 2 / ((1 - u) ** 2 + u**2)`",
    ],
    passed="One more schedule, and nothing else has to be told of flows.",
    explanation="From u = b/(a + b) with a² + b² = 1: a/b = (1 − u)/u, so a² = (1 − u)²/((1 − u)² + u²).",
)


def _velocity_of(denoise, schedule, y=None):
    a, b = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()

    def velocity(x_u, u):
        t = int((b / (a + b) - u).abs().argmin())
        steps = torch.full((len(x_u),), t, device=x_u.device)
        return (x_u - denoise((a[t] + b[t]).item() * x_u, steps, y)) / u

    return velocity


def _velocity_with(size=lambda a, b: a + b, speed=lambda x_u, x0, u: (x_u - x0) / u, step=lambda t: t, told=True):
    """velocity_of, with a place for each of the mistakes that people make."""

    def velocity_of(denoise, schedule, y=None):
        a, b = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()

        def velocity(x_u, u):
            t = int((b / (a + b) - u).abs().argmin())
            steps = torch.full((len(x_u),), step(t), device=x_u.device)
            return speed(x_u, denoise(size(a[t], b[t]).item() * x_u, steps, y if told else None), u)

        return velocity

    return velocity_of


def _ask_velocities(answer, denoise, schedule, y, x_u, us):
    """What the velocity says of the same places at each u."""
    velocity = answer(denoise, schedule, y)
    return None if velocity is None else [velocity(x_u, u) for u in us]


def _share(schedule: library.Schedule, t: int) -> float:
    a, b = schedule.alpha_bar[t].sqrt(), (1 - schedule.alpha_bar[t]).sqrt()
    return (b / (a + b)).item()


def _on_schedules(rng: torch.Generator) -> list[Case]:
    cases = []
    steps = ([50, 20, 1], [700, 40, 999], [10, 4], [1, 3])
    for (b, shape, dtype), (curve, T), ts in zip(
        BATCHES, (("cosine", 50), ("linear", 1000), ("flow", 10), ("quadratic", 20)), steps, strict=True
    ):
        args = {"denoise": Fixture("flows/denoise"), "schedule": Fixture("flows/schedule", curve=curve, T=T)}
        args["y"] = torch.randint(4, (b,), generator=rng) if b != 3 else None
        args["x_u"] = _normal(rng, b, *shape, dtype=dtype)
        args["us"] = [_share(_schedule(curve, T), t) for t in ts]
        cases.append(Case(args, label=f"{curve}, T = {T}, x_u {(b, *shape)}, asked at t = {ts}"))
    return cases


quiz(
    "flows/velocity-of",
    points=4,
    minutes=6,
    equation="10.6",
    title="Any denoiser is a velocity",
    reference=_velocity_of,
    cases=_on_schedules,
    probe=_ask_velocities,
    any_device=False,
    tolerance=Tolerance(1e-3, 1e-4),
    misconceptions=[
        Misconception(
            "not stretched",
            _velocity_with(size=lambda a, b: a / a),
            "The denoiser is shown x_u. It was trained on x_t = (a + b) · x_u.",
        ),
        Misconception(
            "stretched the wrong way",
            _velocity_with(size=lambda a, b: 1 / (a + b)),
            "x_u is x_t divided by a + b; to come back, multiply.",
        ),
        Misconception(
            "to the image",
            _velocity_with(speed=lambda x_u, x0, u: (x0 - x_u) / u),
            "The velocity is ε − x₀: away from the image, as u grows.",
        ),
        Misconception(
            "divided by what is left of the image",
            _velocity_with(speed=lambda x_u, x0, u: (x_u - x0) / (1 - u + 1e-6)),
            "Solve (10.1) for ε: it is u that you divide by.",
        ),
        Misconception("without the label", _velocity_with(told=False), "Hand the labels y on to the denoiser."),
        Misconception(
            "one step off",
            _velocity_with(step=lambda t: t - 1),
            "The denoiser is asked at the step before. `schedule.alpha_bar` begins with step 0.",
        ),
    ],
    hints=[
        "Three things happen: find t from u, make x_t of x_u, and turn the guess into a velocity.",
        "All steps at once: `a, b = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()`, and the shares "
        "`b / (a + b)`. `(shares - u).abs().argmin()` is the nearest.",
        "`denoise` wants x_t = (a + b) · x_u, and t as a tensor (b,): `torch.full((len(x_u),), t, device=x_u.device)`.",
        "From (10.1), ε = (x_u − (1 − u) x₀) / u. Take x₀ away from it and simplify.",
        "`return (x_u - x0) / u`",
    ],
    passed="From here on every model of the course is a flow, guided ones and clipped ones with it.",
    explanation="ε − x₀ = (x_u − (1 − u) x₀)/u − x₀ = (x_u − x₀)/u: from the guess to where one stands, in time u.",
)

concept(
    "flows/which-sampler",
    minutes=1,
    title="Two walks from one noise",
    equation="10.6",
    question="""
    Euler's strides (10.6) along the velocity of the course's model, from one noise, stopping at the $u$ of twenty steps
    $t$; and DDIM without noise (6.4), from the same noise, stopping at those $t$. How do the images compare?
    """,
    options={
        "a": Option(
            "Equal but for rounding, since either stride keeps its guess of $x_0$ and of $\\varepsilon$.",
            "Right. Both hold $\\hat x_0$ and $\\hat\\varepsilon$ for a stride and mix them anew, once as $(1-u',u')$, "
            "once as $(a,b)$: the same place, but for the factor $a+b$.",
            right=True,
        ),
        "b": Option(
            "Alike, but Euler's are worse, since DDIM was made for this schedule and its curved path.",
            "DDIM goes along a curve, $a\\,\\hat x_0+b\\,\\hat\\varepsilon$, but in $x_t/(a+b)$ that curve is a "
            "straight line.",
        ),
        "c": Option(
            "Alike, but Euler's are better, since straight lines make smaller errors than arcs do.",
            "Which line is straight depends on how it is stretched. The error comes from holding the guess for a "
            "stride, and both do.",
        ),
        "d": Option(
            "Different ones from the same noise, since the model was never trained for velocities.",
            "A velocity is worked out from the guess and the place: there is nothing in it that the model didn't say.",
        ),
    },
)


def _converted_with(table=lambda a, b: {}, solve=lambda p, q, a, b, value, x_t: None):
    """Table (10.4), with wrong rows, or wrong solutions of the two equations."""

    def convert(schedule, given, wanted, value, x_t, t):
        a, b = schedule.rates(t, x_t)
        rows = {"noise": (0, 1), "x0": (1, 0), "v": (-b, a), "velocity": (-1, 1), "score": (0, -1 / b)} | table(a, b)
        (p, q), (p_wanted, q_wanted) = rows[given], rows[wanted]
        determinant = p * b - q * a
        x0, noise = (b * value - q * x_t) / determinant, (p * x_t - a * value) / determinant
        x0, noise = solve(p, q, a, b, value, x_t) or (x0, noise)
        return p_wanted * x0 + q_wanted * noise

    return convert


def _predictions(rng: torch.Generator) -> list[Case]:
    cases = []
    pairs = (("v", "velocity"), ("velocity", "x0"), ("score", "v"), ("x0", "noise"), ("noise", "score"), ("v", "x0"))
    pairs += (("velocity", "score"), ("x0", "velocity"), ("noise", "v"))
    for k, (given, wanted) in enumerate(pairs):
        b, shape, dtype = BATCHES[k % len(BATCHES)]
        curve, T = (("cosine", 50), ("linear", 1000), ("flow", 10))[k % 3]
        t = torch.randint(1, 9 * T // 10, (b,), generator=rng)
        args = {"schedule": Fixture("flows/schedule", curve=curve, T=T), "given": given, "wanted": wanted}
        args |= {"value": _normal(rng, b, *shape, dtype=dtype), "x_t": _normal(rng, b, *shape, dtype=dtype), "t": t}
        cases.append(Case(args, label=f"{given} → {wanted}, {curve}, x_t {(b, *shape)}"))
    args = {"schedule": Fixture("flows/schedule", curve="flow", T=10), "given": "velocity", "wanted": "x0"}
    args |= {"value": _normal(rng, 2, 3), "x_t": _normal(rng, 2, 3), "t": torch.tensor([10, 10])}
    return [*cases, Case(args, label="velocity → x0 at u = 1, where nothing is left of the image")]


quiz(
    "flows/convert",
    points=3,
    minutes=7,
    equation="10.4",
    title="One table, two equations",
    reference=flow.convert,
    library=(library.predict_x0, library.predict_noise),
    cases=_predictions,
    tolerance=Tolerance(1e-3, 1e-4),
    misconceptions=[
        Misconception(
            "v with its sign turned",
            _converted_with(table=lambda a, b: {"v": (b, -a)}),
            "v = a ε − b x₀: −b stands under x₀, a under ε.",
        ),
        Misconception(
            "v with its rates exchanged",
            _converted_with(table=lambda a, b: {"v": (-a, b)}),
            "In v the *signal* rate goes with the noise: v = a ε − b x₀.",
        ),
        Misconception(
            "the score is the noise",
            _converted_with(table=lambda a, b: {"score": (0, -1 / b**2)}),
            "The score is −ε/b (3.9); you divide by b².",
        ),
        Misconception(
            "the velocity turned round",
            _converted_with(table=lambda a, b: {"velocity": (1, -1)}),
            "The velocity is ε − x₀.",
        ),
        Misconception(
            "one equation alone",
            _converted_with(solve=lambda p, q, a, b, value, x_t: (value, (x_t - a * value) / b)),
            "You take what is given for x₀. It is p x₀ + q ε, and x_t = a x₀ + b ε: solve for both.",
        ),
    ],
    hints=[
        "Write the table as a dictionary: name → (p, q). Some entries are tensors, `a` and `b`.",
        "The two equations: p x₀ + q ε = value, and a x₀ + b ε = x_t. Their determinant is p b − q a.",
        "Cramer's rule: x₀ = (b · value − q · x_t) / (p b − q a). And ε?",
        "ε = (p · x_t − a · value) / (p b − q a). Then p_wanted · x₀ + q_wanted · ε.",
    ],
    passed="Twenty formulas are one. Where the determinant is 0, the prediction says nothing new: for ε at ᾱ = 0, "
    "since there x_t *is* the noise.",
    explanation="""
    The determinant p b − q a is −1 for v, −(a + b) for the velocity, b for x₀, −a for ε and a/b for the score: only the
    last two can vanish, where a = 0.
    """,
)

# ---------------------------------------------------------------------------------------- 10.3 · a flow of your own


def _flow_loss(model, x0, y, noise, t, schedule):
    a, b = schedule.rates(t, x0)
    return (model(a * x0 + b * noise, t, y) - (noise - x0)).square().mean()


def _loss_with(
    target=lambda x0, noise, a, b: noise - x0,
    shown=lambda x0, noise, a, b: a * x0 + b * noise,
    mean=lambda error: error.mean(),
):
    def flow_loss(model, x0, y, noise, t, schedule):
        a, b = schedule.rates(t, x0)
        return mean((model(shown(x0, noise, a, b), t, y) - target(x0, noise, a, b)).square())

    return flow_loss


def _for_losses(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, dtype, curve, T in (
        (4, (1, 5, 7), torch.float32, "flow", 50),
        (3, (3, 4, 6), torch.float64, "flow", 1000),
        (1, (2, 6, 3), torch.float64, "cosine", 20),
    ):
        double = dtype == torch.float64
        args = {"model": Fixture("flows/network", channels=shape[0], double=double, seed=b)}
        args |= {"x0": _normal(rng, b, *shape, dtype=dtype), "y": torch.randint(4, (b,), generator=rng)}
        args["noise"], args["t"] = _normal(rng, b, *shape, dtype=dtype), torch.randint(1, T + 1, (b,), generator=rng)
        args["schedule"] = Fixture("flows/schedule", curve=curve, T=T)
        cases.append(Case(args, gradients=("model",), label=f"x0 {(b, *shape)}, {curve}, T = {T}"))
    return cases


quiz(
    "flows/loss",
    points=2,
    minutes=3,
    equation="10.2",
    title="Flow matching",
    reference=_flow_loss,
    library=(library.diffusion_loss,),
    cases=_for_losses,
    misconceptions=[
        Misconception(
            "v for a target",
            _loss_with(target=lambda x0, noise, a, b: a * noise - b * x0),
            "That is v, whose parts are weighed by the rates. The velocity is ε − x₀, whatever t is.",
        ),
        Misconception(
            "the velocity turned round",
            _loss_with(target=lambda x0, noise, a, b: x0 - noise),
            "The target is ε − x₀.",
        ),
        Misconception(
            "shown on the straight path",
            _loss_with(shown=lambda x0, noise, a, b: (a * x0 + b * noise) / (a + b)),
            "You show x_u. Our network is shown x_t, with variance 1, as its samplers will show it.",
        ),
        Misconception(
            "a sum", _loss_with(mean=lambda error: error.sum()), "A mean over batch and pixels is asked for."
        ),
        Misconception(
            "the noise for a target", _loss_with(target=lambda x0, noise, a, b: noise), "The target is ε − x₀."
        ),
    ],
    hints=[
        "Three lines: what the network is shown, what it says, how far that is from the target.",
        "It is shown √ᾱ_t · x₀ + √(1−ᾱ_t) · noise, together with t and y.",
        "The target is (10.2), for each pixel.",
        "`(model(x_t, t, y) - (noise - x0)).square().mean()`",
    ],
    passed="Flow matching is Algorithm 1 with another target: the rest of your training loop never noticed.",
    explanation="The squared error is least at the conditional mean of ε − x₀, which is the marginal velocity (10.5).",
)

concept(
    "flows/why-middle",
    minutes=1,
    title="Why the middle?",
    equation="10.7",
    question="""
    The loss of a good network is largest at both ends of the path. Why do many choose times that are most often in the
    middle all the same?
    """,
    options={
        "a": Option(
            "Because large networks tend to forget whichever part of the path is seen less often.",
            "The ends are seen less often then, and forgetting them would be a reason *against* it.",
        ),
        "b": Option(
            "Because a sampler takes more of its strides in the middle of the path than at its ends.",
            "Strides can be spaced in any way; where u is evenly spaced, no part gets more.",
        ),
        "c": Option(
            "Because the best answer at the ends is simple, and what remains of the loss is chance.",
            "Right. What is left of the loss there can't be learned, and gradients from there are mostly noise. The "
            "middle decides what becomes of $x_u$.",
            right=True,
        ),
        "d": Option(
            "Because the velocity is largest in the middle, so that errors made there are larger.",
            "Its mean given $x_u$ is indeed longest there, since what the loss lacks it has. But the errors aren't "
            "larger: the curve above is *lowest* in the middle.",
        ),
    },
)


def _logit_normal_steps(r, T, mean=0.0, std=1.0):
    u = torch.sigmoid(mean + std * torch.special.ndtri(r))
    return (u * T).ceil().long().clamp(1, T)


def _steps_with(
    time=torch.sigmoid, whole=lambda u, T: (u * T).ceil().long().clamp(1, T), shape=lambda m, s, z: m + s * z
):
    def logit_normal_steps(r, T, mean=0.0, std=1.0):
        return whole(time(shape(mean, std, torch.special.ndtri(r))), T)

    return logit_normal_steps


def _quantiles(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, T, mean, std, dtype in (
        (16, 1000, 0.0, 1.0, torch.float32),
        (7, 50, -0.8, 0.6, torch.float64),
        (9, 1000, 0.7, 1.5, torch.float64),
        (5, 1, 0.0, 1.0, torch.float32),
    ):
        r = (torch.arange(n) + 0.05 + 0.9 * torch.rand(n, generator=rng).to(dtype)) / n
        cases.append(Case({"r": r.to(dtype), "T": T, "mean": mean, "std": std}))
    edge = torch.tensor([1e-6, 0.5, 1 - 1e-6], dtype=torch.float64)
    return [*cases, Case({"r": edge, "T": 100, "mean": 0.0, "std": 4.0}, label="close to both ends")]


quiz(
    "flows/logit-normal",
    points=2,
    minutes=4,
    equation="10.7",
    title="A step for every quantile",
    reference=_logit_normal_steps,
    library=(flow.logit_normal_steps,),
    cases=_quantiles,
    misconceptions=[
        Misconception(
            "evenly spread",
            lambda r, T, mean=0.0, std=1.0: (r * T).ceil().long().clamp(1, T),
            "Those are uniform times: no step is preferred. r has to go through z and the sigmoid.",
        ),
        Misconception(
            "the sigmoid forgotten",
            _steps_with(time=lambda z: z.clamp(0, 1)),
            "z is any real number. The sigmoid squeezes it into (0, 1).",
        ),
        Misconception(
            "normal, not logit-normal",
            _steps_with(time=torch.special.ndtr),
            "The normal distribution function takes ndtri back. (10.7) has a *sigmoid* in its place.",
        ),
        Misconception(
            "rounded down",
            _steps_with(whole=lambda u, T: (u * T).floor().long().clamp(1, T)),
            "A time becomes the step that *follows* it: round up.",
        ),
        Misconception(
            "mean and deviation after the sigmoid",
            lambda r, T, mean=0.0, std=1.0: (
                ((mean + std * torch.special.ndtri(r).sigmoid()) * T).ceil().long().clamp(1, T)
            ),
            "m + s z stands *inside* the sigmoid.",
        ),
    ],
    hints=[
        "Three steps: from r to z, from z to u, from u to a whole step.",
        "`torch.special.ndtri(r)` is the z below which a normal draw falls with probability r.",
        "u = sigmoid(mean + std · z), and the step is ⌈u T⌉.",
        "`(u * T).ceil().long().clamp(1, T)`",
    ],
    passed="Any distribution can be drawn without gaps this way: even numbers, through its quantiles.",
    explanation="The sigmoid rises, so the r-quantile of z becomes the r-quantile of u.",
)


def _heun(velocity, x, us):
    places = [x]
    for u, after in pairwise(us):
        slope = velocity(x, u)
        end = x + (after - u) * slope
        if after > 0:
            end = x + (after - u) * (slope + velocity(end, after)) / 2
        x = end
        places.append(x)
    return places


def _heun_with(
    second=lambda velocity, end, u, after: velocity(end, after), mix=lambda one, two: (one + two) / 2, last=True
):
    def heun(velocity, x, us):
        places = [x]
        for u, after in pairwise(us):
            slope = velocity(x, u)
            end = x + (after - u) * slope
            if after > 0 and (last or after > us[-1]):
                end = x + (after - u) * mix(slope, second(velocity, end, u, after))
            x = end
            places.append(x)
        return places

    return heun


quiz(
    "flows/heun",
    points=3,
    minutes=5,
    equation="6.9",
    title="Heun on a flow",
    reference=_heun,
    cases=_walks,
    answered_by=("flows/somebody-elses-clock",),
    misconceptions=[
        Misconception("Euler", _euler, "That is Euler's method: the velocity at the stride's end isn't asked."),
        Misconception(
            "the end's velocity alone",
            _heun_with(mix=lambda one, two: two),
            "You go with the velocity at the end. Heun takes the mean of both.",
        ),
        Misconception(
            "asked at the wrong time",
            _heun_with(second=lambda velocity, end, u, after: velocity(end, u)),
            "The second time you ask at the end's place, but at the start's time: (x', u'), not (x', u).",
        ),
        Misconception(
            "a sum in place of a mean",
            _heun_with(mix=lambda one, two: one + two),
            "The sum of both velocities goes twice as far. Take their mean.",
        ),
        Misconception(
            "from the end on",
            lambda velocity, x, us: _heun_from_the_end(velocity, x, us),
            "The stride with the mean begins where the stride began, not at Euler's end.",
        ),
    ],
    hints=[
        "Begin with `euler`: its stride gives `end`.",
        "Then ask once more, `velocity(end, after)`, unless `after` is 0.",
        "And go again from the start of the stride, with half the sum of both.",
        "`end = x + (after - u) * (slope + velocity(end, after)) / 2`",
    ],
    passed="Order 2 for twice the evaluations: worth it as soon as strides are short, and not for one or two.",
    explanation="The mean of the slopes at both ends is the trapezium rule: errors fall with the square of the stride.",
)


def _heun_from_the_end(velocity, x, us):
    places = [x]
    for u, after in pairwise(us):
        slope = velocity(x, u)
        x = x + (after - u) * slope
        if after > 0:
            x = x + (after - u) * (slope + velocity(x, after)) / 2
        places.append(x)
    return places


@fixture("flows/another-house")
def _another_house(seed: int = 0):
    """A borrowed network (x, τ (b,), y) → dx/dτ, which asks for a clock of the right form."""

    def network(x, clock, y=None):
        if clock.shape != (len(x),) or not clock.is_floating_point():
            raise ValueError(f"expected a clock (b,) of floats, got {clock.dtype} of {tuple(clock.shape)}")
        told = 0.0 if y is None else 0.2 * _like_images(y, x)
        return torch.tanh(x.roll(1, -1) + told) * (0.4 + 2 * _like_images(clock, x)) - 0.3 * x

    return network


def _borrowed(theirs, noise, strides, y=None):
    def velocity(x, u):
        return -theirs(x, torch.full((len(x),), 1 - u, device=x.device), y)

    return _heun(velocity, noise, torch.linspace(1, 0, strides + 1).tolist())[-1]


def _borrowed_with(clock=lambda u: 1 - u, sign=-1.0, first_only=False):
    def somebody_elses_clock(theirs, noise, strides, y=None):
        x = noise
        for k, (u, after) in enumerate(pairwise(torch.linspace(1, 0, strides + 1).tolist())):

            def velocity(x, u, k=k):
                now = u if first_only and k else clock(u)
                return sign * theirs(x, torch.full((len(x),), now, device=x.device), y)

            slope = velocity(x, u)
            if after > 0:
                slope = (slope + velocity(x + (after - u) * slope, after)) / 2
            x = x + (after - u) * slope
        return x

    return somebody_elses_clock


def _loans(rng: torch.Generator) -> list[Case]:
    cases = []
    for (b, shape, dtype), strides in zip(BATCHES, (4, 1, 3, 7), strict=True):
        args = {"theirs": Fixture("flows/another-house"), "noise": _normal(rng, b, *shape, dtype=dtype)}
        args |= {"strides": strides, "y": torch.randint(4, (b,), generator=rng) if b != 3 else None}
        cases.append(Case(args))
    return cases


quiz(
    "flows/somebody-elses-clock",
    points=3,
    minutes=4,
    title="Somebody else's clock",
    bug_hunt=True,
    reference=_borrowed,
    cases=_loans,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _borrowed_with(clock=lambda u: u),
            "At the start your walk stands on noise. What time does the borrowed network believe it is?",
        ),
        Misconception(
            "the sign instead",
            _borrowed_with(clock=lambda u: u, sign=1.0),
            "The sign was right: as τ grows u falls, so dx/du = −dx/dτ.",
        ),
        Misconception(
            "both turned round",
            _borrowed_with(sign=1.0),
            "The clock is right now. But dx/du is *minus* dx/dτ: the sign was there for that.",
        ),
        Misconception(
            "a clock below zero",
            _borrowed_with(clock=lambda u: -u),
            "τ runs from 0 to 1, so it is 1 − u, not −u.",
        ),
    ],
    hints=[
        "The pictures have edges and textures, as if noise had been *sharpened*. When would a good network do that?",
        "Near the image a network takes what it sees for an image with a little noise left. When does this one believe "
        "it is near the image?",
        "Print `clock[0]` in the first stride, and read in the docstring what that time means to them.",
        "x is the same for both: x = (1 − u) · image + u · noise = τ · image + (1 − τ) · noise. So τ = ?",
        "`clock = torch.full((len(x),), 1 - u, device=x.device)`",
    ],
    passed="Sign and time are two conventions, and papers differ in both. Ask of a borrowed network: what does it say "
    "of pure noise, and of a clean image?",
    explanation="With τ = 1 − u, dx/du = dx/dτ · dτ/du = −dx/dτ. He had adapted the sign, and left the time.",
)

concept(
    "flows/what-the-clock-did",
    minutes=1,
    title="What a turned clock does",
    question="""
    His network was told $\\tau=1$ on pure noise, and $\\tau=0$ at the end. Why did more strides not help?
    """,
    options={
        "a": Option(
            "Since Heun's error doesn't fall with the number of strides if the velocity is wrong.",
            "It falls as ever: the walk comes ever closer to the solution of the equation that it was given.",
        ),
        "b": Option(
            "Since the walk ran backwards, from images to noise, and so ended where it should begin.",
            "The sign was right, it ran from $u=1$ to $u=0$. Only what the network was *told* ran backwards.",
        ),
        "c": Option(
            "Since more strides follow a flow more closely, and it was another flow that he followed.",
            "Right. With a turned clock it is an equation of its own, which leads to no image however exactly one "
            "solves it. An error that stays as strides grow isn't a solver's.",
            right=True,
        ),
        "d": Option(
            "Since twenty strides are still too few for a flow that begins from such a noisy place.",
            "Five were enough for recognisable garments with the right clock, from the same noise.",
        ),
    },
)


def _guided(denoise, schedule, w, null, y):
    a, b = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()

    def velocity(x_u, u):
        t = int((b / (a + b) - u).abs().argmin())
        x_t, steps = (a[t] + b[t]).item() * x_u, torch.full((len(x_u),), t, device=x_u.device)
        of_any, of_y = (denoise(x_t, steps, label) for label in (torch.full_like(y, null), y))
        return (x_u - (of_any + w * (of_y - of_any)).clamp(-1, 1)) / u

    return velocity


def _guided_with(
    before=lambda guess: guess, after=lambda guess: guess.clamp(-1, 1), mix=lambda n, y, w: n + w * (y - n)
):
    def somebody_elses_guide(denoise, schedule, w, null, y):
        a, b = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()

        def velocity(x_u, u):
            t = int((b / (a + b) - u).abs().argmin())
            x_t, steps = (a[t] + b[t]).item() * x_u, torch.full((len(x_u),), t, device=x_u.device)
            of_any, of_y = (before(denoise(x_t, steps, label)) for label in (torch.full_like(y, null), y))
            return (x_u - after(mix(of_any, of_y, w))) / u

        return velocity

    return somebody_elses_guide


def _ask_guided(answer, denoise, schedule, w, null, y, x_u, us):
    velocity = answer(denoise, schedule, w, null, y)
    return None if velocity is None else [velocity(x_u, u) for u in us]


def _for_guides(rng: torch.Generator) -> list[Case]:
    cases = []
    for (b, shape, dtype), (curve, T), ts, w in zip(
        (BATCHES[0], BATCHES[1], BATCHES[3]),
        (("cosine", 50), ("linear", 1000), ("flow", 20)),
        ([50, 20, 1], [700, 40], [20, 3]),
        (3.0, 6.0, 1.0),
        strict=True,
    ):
        args = {"denoise": Fixture("flows/denoise", size=1.4), "schedule": Fixture("flows/schedule", curve=curve, T=T)}
        args |= {"w": w, "null": 9, "y": torch.randint(4, (b,), generator=rng)}
        args |= {"x_u": _normal(rng, b, *shape, dtype=dtype), "us": [_share(_schedule(curve, T), t) for t in ts]}
        cases.append(Case(args, label=f"w = {w}, {curve}, x_u {(b, *shape)}, asked at t = {ts}"))
    return cases


def _clamped(guess):
    return guess.clamp(-1, 1)


quiz(
    "flows/somebody-elses-guide",
    points=3,
    minutes=5,
    equation="10.6",
    title="Somebody else's guided velocity",
    bug_hunt=True,
    reference=_guided,
    cases=_for_guides,
    probe=_ask_guided,
    any_device=False,
    tolerance=Tolerance(1e-3, 1e-4),
    misconceptions=[
        Misconception(
            "as it was handed out",
            _guided_with(before=_clamped, after=lambda guess: guess),
            "What is clipped is within [−1, 1]; what is used, of_any + w · (of_y − of_any), needn't be.",
        ),
        Misconception(
            "clipped twice",
            _guided_with(before=_clamped),
            "Nothing leaves the range now, but guidance still compares two guesses that have lost what was beyond it.",
        ),
        Misconception(
            "not clipped at all",
            _guided_with(after=lambda guess: guess),
            "Without any clip the guesses leave [−1, 1].",
        ),
        Misconception(
            "the other convention",
            _guided_with(mix=lambda n, y, w: y + w * (y - n)),
            "w = 1 means unguided here, (7.9); yours counts from 0.",
        ),
    ],
    hints=[
        "Every guess of the network is clipped. Is that the guess that the velocity is made of?",
        "With of_any = −1 and of_y = 1, what is of_any + w · (of_y − of_any) for w = 6?",
        "Clip once, last of all: the guess from which the velocity is made.",
        "`x0 = (of_any + w * (of_y - of_any)).clamp(-1, 1)`, and no clamp above",
    ],
    passed="Guidance is linear, so it may act on guesses, noises or velocities. A clip isn't, so its place matters: "
    "last, and on x̂₀.",
    explanation="""
    The difference of two clipped guesses is up to 2, and w times it takes the sum far out of the range. In addition,
    where both guesses lie beyond 1 their difference is lost.
    """,
)

concept(
    "flows/what-the-clip-did",
    minutes=1,
    title="What clipping first does",
    question="""
    Besides leaving the range: what does clipping both guesses *before* guiding do to the direction that $w$
    exaggerates?
    """,
    options={
        "a": Option(
            "Where both guesses lie beyond the same end of the range, their difference is gone.",
            "Right: both become 1 there, and nothing is left to exaggerate. In flat white and black parts the class no "
            "longer counts.",
            right=True,
        ),
        "b": Option(
            "Nothing, as a difference of two clipped numbers is the clipped difference of the two.",
            "Take 1.4 and 1.1: the difference is 0.3, that of the clipped ones 0.",
        ),
        "c": Option(
            "It makes the difference larger, and so the guidance stronger than $w$ would have it.",
            "Clipping brings any two numbers closer to each other, or leaves them as far apart as they were.",
        ),
        "d": Option(
            "It turns the direction round, wherever one guess is clipped and the other one isn't.",
            "Clipping keeps the order of two numbers, so the sign of their difference stays, unless it becomes 0.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------ 10.4 · how straight?


def _straightness(places, us):
    whole = us[0] - us[-1]
    chord, total = (places[0] - places[-1]) / whole, 0.0
    for (x, z), (u, v) in zip(pairwise(places), pairwise(us)):
        total += (u - v) * ((x - z) / (u - v) - chord).square().mean().item()
    return total / whole


def _ways(rng: torch.Generator) -> list[Case]:
    cases = []
    for (b, shape, dtype), us in zip(
        BATCHES, ([1.0, 0.7, 0.2, 0.0], [0.9, 0.5, 0.4], [1.0, 0.3, 0.0], [1.0, 0.75, 0.5, 0.25, 0.0]), strict=True
    ):
        places = [_normal(rng, b, *shape, dtype=dtype) for _ in us]
        cases.append(Case({"places": places, "us": us}, label=f"{len(us) - 1} strides of {(b, *shape)}"))
    end, start = _normal(rng, 3, 2), _normal(rng, 3, 2)
    line = [(1 - u) * end + u * start for u in (1.0, 0.6, 0.5, 0.0)]
    return [*cases, Case({"places": line, "us": [1.0, 0.6, 0.5, 0.0]}, label="a straight line at constant speed")]


def _straight_with(
    speed=lambda x, z, u, v: (x - z) / (u - v),
    length=lambda u, v: u - v,
    whole=lambda us: us[0] - us[-1],
    error=lambda d: d.square(),
):
    """(10.8), with a place for each of the mistakes that people make."""

    def straightness(places, us):
        chord, total, lengths = (places[0] - places[-1]) / whole(us), 0.0, 0.0
        for (x, z), (u, v) in zip(pairwise(places), pairwise(us)):
            total += length(u, v) * error(speed(x, z, u, v) - chord).mean().item()
            lengths += length(u, v)
        return total / lengths

    return straightness


quiz(
    "flows/straightness",
    points=3,
    minutes=4,
    equation="10.8",
    title="How far from its chord?",
    reference=_straightness,
    library=(flow.straightness,),
    cases=_ways,
    any_device=False,
    misconceptions=[
        Misconception(
            "every stride counts alike",
            _straight_with(length=lambda u, v: 1.0),
            "You average over strides. The mean is over *time*: a stride counts by its length u − v.",
        ),
        Misconception(
            "distances in place of speeds",
            _straight_with(speed=lambda x, z, u, v: x - z),
            "The distance of a stride isn't a speed: divide by the time that it took.",
        ),
        Misconception(
            "a chord without its time",
            _straight_with(whole=lambda us: 1.0),
            "The chord is a speed as well: over u_0 − u_K, which needn't be 1.",
        ),
        Misconception("without the square", _straight_with(error=lambda d: d.abs()), "(10.8) has a *square*."),
    ],
    hints=[
        "First the chord, a tensor (b, ...): (first place − last place) / (u_0 − u_K).",
        "In each stride the speed is (x − z) / (u − v), with `pairwise(places)` and `pairwise(us)` side by side.",
        "Each stride adds (u − v) times the mean square of speed − chord.",
        "Divide the sum by u_0 − u_K, and return a float.",
    ],
    passed="0 for a straight line at constant speed, and only then: then one stride is as good as a thousand.",
    explanation="""
    By Pythagoras it is also the mean square of the speed less that of the chord. A coarse walk looks straighter than
    the path: with one stride S is 0, whatever the flow. Compare walks of one fineness.
    """,
)

# ------------------------------------------------------------------------------------------- 10.5 · who goes with whom?


def _batches_of_pairs(rng: torch.Generator) -> list[Case]:
    cases = []
    for k, (b, shape, dtype) in enumerate(
        ((8, (1, 5, 7), torch.float32), (9, (2,), torch.float64), (1, (3, 4, 6), torch.float32))
    ):
        x0, noise = _normal(rng, b, *shape, dtype=dtype), _normal(rng, b, *shape, dtype=dtype)
        cases.append(Case({"x0": x0, "noise": noise, "y": None}))
        if b > 1:
            y = torch.randint(3 - k, (b,), generator=rng)
            cases.append(Case({"x0": x0, "noise": noise, "y": y}, label=f"x0 {(b, *shape)} with labels"))
    return cases


def _dealt_with(cost=lambda x0, noise: torch.cdist(x0, noise).square(), inverse=False, labels=True):
    """Optimal pairs, with a place for each of the mistakes that people make."""

    def optimal_pairs(x0, noise, y=None):
        dealt, classes = noise.clone(), torch.zeros(len(x0), dtype=torch.long) if y is None or not labels else y
        for one in classes.unique():
            rows = (classes == one).nonzero().flatten()
            table = cost(x0[rows].flatten(1), noise[rows].flatten(1))
            columns = torch.from_numpy(flow.linear_sum_assignment(table.numpy())[1])
            dealt[rows] = noise[rows[columns.argsort() if inverse else columns]]
        return dealt

    return optimal_pairs


def _nearest(x0, noise, y=None):
    return noise[torch.cdist(x0.flatten(1), noise.flatten(1)).argmin(1)]


def _images_dealt(x0, noise, y=None):
    columns = torch.from_numpy(
        flow.linear_sum_assignment(torch.cdist(noise.flatten(1), x0.flatten(1)).square().numpy())[1]
    )
    return x0[columns]


quiz(
    "flows/optimal-pairs",
    points=3,
    minutes=7,
    title="Deal the noises out",
    reference=flow.optimal_pairs,
    cases=_batches_of_pairs,
    any_device=False,
    misconceptions=[
        Misconception(
            "the nearest noise for each image",
            _nearest,
            "Some noise comes twice in yours, and some not at all. What is dealt out must stay *the same noises*, or "
            "it isn't standard normal any more.",
        ),
        Misconception(
            "labels not heard",
            _dealt_with(labels=False),
            "With labels, a noise may change places only with noises of its own class.",
        ),
        Misconception(
            "dealt the other way",
            _dealt_with(inverse=True),
            "Row i of the answer is the noise *for image i*: `noise[columns]`. You have put noise i where it goes to "
            "in a table turned round.",
        ),
        Misconception(
            "distances that aren't squared",
            _dealt_with(cost=lambda x0, noise: torch.cdist(x0, noise)),
            "The sum of *squared* distances is to be least; that of distances has another minimum.",
        ),
        Misconception(
            "images in place of noises", _images_dealt, "What is wanted are the noises, in the order of the images."
        ),
    ],
    hints=[
        "Without labels: a table of squared distances, `torch.cdist(x0.flatten(1), noise.flatten(1)).square()`.",
        "`_, columns = linear_sum_assignment(cost.cpu().numpy())`: image i gets noise columns[i].",
        "`torch.from_numpy(columns)` is an index for tensors: `noise[torch.from_numpy(columns)]`.",
        "With labels do the same for the rows of each class: `rows = (y == one).nonzero().flatten()`, and write "
        "into a copy of the noise at these rows.",
        "`dealt[rows] = noise[rows[torch.from_numpy(columns)]]`",
    ],
    passed="The same noises, other partners. In a batch of 64 that is a small approximation of the true transport; a "
    "whole data set would take another algorithm.",
    explanation="""
    The assignment problem is solved exactly in about b³ operations, here milliseconds. Squared distances, since these
    are the energy ∫|velocity|² of straight paths.
    """,
)

concept(
    "flows/noise-and-label",
    minutes=1,
    title="Noise dealt out over all classes",
    question="""
    Noises are dealt over a whole batch, whatever the labels, and the network is told each image's class. Later you ask
    for one class, with fresh noise. What should you expect?
    """,
    options={
        "a": Option(
            "Better images than without dealing, since each class has learned on straighter lines.",
            "Straighter they were. But which noise did a class get to see in training?",
        ),
        "b": Option(
            "Worse images for some noise, namely noise that in training went to other classes.",
            "Right. Each class has seen the noises near to it. Asked for a class from any noise, the network stands "
            "where it was never trained (Cheng and Schwing 2025).",
            right=True,
        ),
        "c": Option(
            "Images of other classes, since it is the noise that now decides and not the label.",
            "The network does hear the label. It was trained for each pair of noise and label that came, and some "
            "never did.",
        ),
        "d": Option(
            "Equally good images, since the noise of a batch stays standard normal when it is dealt.",
            "That of the whole batch, yes. And that of one class?",
        ),
    },
)

# ------------------------------------------------------------------------------------------- 10.6 · inputs for cases


@fixture("flows/few-steps-schedule")
def _schedule_of_pairs(curve: str = "cosine", T: int = 50, seed: int = 0) -> diffusion.Schedule:
    if curve == "flow":
        return flow_schedule(T)
    schedule = diffusion.NOISE_SCHEDULES[curve.removesuffix(", nothing left")](T)
    return diffusion.zero_terminal_snr(schedule) if curve.endswith("nothing left") else schedule


class _PairModel(nn.Module):
    """A small network of images, steps and labels, (x, t, y) → like x."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv, self.label = nn.Conv2d(channels, channels, 3, padding=1), nn.Embedding(5, channels)

    def forward(self, x, t, y):
        h = self.conv(x) + self.label(y)[:, :, None, None]
        return 1.5 * (h + t[:, None, None, None].to(x.dtype) / 50).sin()


@fixture("flows/pairs-model")
def _pair_model(channels: int = 1, double: bool = False, seed: int = 0) -> nn.Module:
    return _PairModel(channels).to(torch.float64 if double else torch.float32)


@fixture("flows/pairs-draw")
def _pair_draw(seed: int = 0):
    """A "sampler": (noise, y) → images, each from its own noise and its own label."""
    return lambda noise, y: (0.7 * noise.flip(-1) + 0.4 * y.to(noise)[:, None, None, None] - 0.5).tanh()


PAIR_STRIDES = (  # how many images, their shape, the schedule, T, dtype
    (6, (1, 5, 7), "cosine", 50, torch.float32),
    (4, (3, 4, 6), "flow", 40, torch.float64),
    (1, (2, 6, 3), "linear, nothing left", 30, torch.float64),
    (5, (1, 3, 8), "quadratic", 200, torch.float32),
)


def _ends_of_strides(b: int, T: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """t, middle and s, (b,) each, T ≥ t > middle > s ≥ 0: a step of its own for each image, T and 0 among them."""
    t = torch.randint(T // 3, T, (b,), generator=rng)
    s = torch.randint(0, T // 6, (b,), generator=rng)
    t[0], s[-1] = T, 0
    return t, (t + s) // 2, s


# -------------------------------------------------------------------------------------------- 10.6 · straighten it

concept(
    "flows/why-pairs-straighten",
    minutes=1,
    title="What another round of training is to change",
    equation="10.9",
    question="""
    Let the model you have draw images, and keep with each image the noise that it was made from. A network is then
    trained on these pairs by the loss that you know. Why may its paths bend less than the old ones?
    """,
    options={
        "a": Option(
            "The images of a model are smoother than real images, and smooth images have straighter paths to noise.",
            "Were it so, the model would have had straight paths to them all along. What is new are not the images: "
            "it is who goes with whom.",
        ),
        "b": Option(
            "Through a point there now pass few lines, and they agree, since a noise comes with one image only.",
            "Right. A velocity is the mean over all lines through a point. Fresh noise goes with every image, so the "
            "mean turns while the answer emerges. The old model's paths don't cross, so the chords of its pairs hardly "
            "do.",
            right=True,
        ),
        "c": Option(
            "The network has been trained for longer, and whatever is trained for longer makes straighter paths.",
            "Perfectly trained on fresh noise, a network has the bent paths of the exact marginal velocity: those of "
            "the mixture in 10.4 were exact, and bent.",
        ),
        "d": Option(
            "The old model's own paths are given to the new network as targets, and they were straight already.",
            "It sees their two ends only, and walks along the straight line between these. The old paths bend.",
        ),
    },
)


def _chord_with(difference=None, span=None, sign=1.0):
    """The chord with a slip in what is subtracted, or in what it is divided by."""

    def chord(schedule, x_t, t, x_s, s):
        (a, b), (a_s, b_s) = schedule.rates(t, x_t), schedule.rates(s, x_s)
        top = x_t / (a + b) - x_s / (a_s + b_s) if difference is None else difference(x_t, x_s, a, b, a_s, b_s)
        steps = [each.reshape(-1, *[1] * (x_t.ndim - 1)).to(x_t) for each in (t, s)]
        below = b / (a + b) - b_s / (a_s + b_s) if span is None else span(a, b, a_s, b_s, *steps, schedule.T)
        return sign * top / below

    return chord


def _chord_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, curve, T, dtype in PAIR_STRIDES:
        t, _, s = _ends_of_strides(b, T, rng)
        x_t, x_s = (torch.randn(b, *shape, generator=rng, dtype=dtype) for _ in range(2))
        schedule = Fixture("flows/few-steps-schedule", curve=curve, T=T)
        args = {"schedule": schedule, "x_t": x_t, "t": t, "x_s": x_s, "s": s}
        cases.append(Case(args, label=f"{b} images {shape}, {curve}, T = {T}"))
    return cases


quiz(
    "flows/chord",
    points=3,
    minutes=3,
    title="Where a path leads",
    equation="10.9",
    reference=few_steps.chord,
    library=(few_steps.halving_loss,),
    cases=_chord_cases,
    misconceptions=[
        Misconception(
            "between points of two scales",
            _chord_with(difference=lambda x_t, x_s, a, b, a_s, b_s: x_t - x_s),
            "You subtract x_t and x_s as they are. Divide each by its own √ᾱ + √(1−ᾱ) first, as in (10.1).",
        ),
        Misconception(
            "u read as t/T",
            _chord_with(span=lambda a, b, a_s, b_s, t, s, T: (t - s) / T),
            "u is the share of the noise, √(1−ᾱ) / (√ᾱ + √(1−ᾱ)). It is t/T on the flow schedule only.",
        ),
        Misconception(
            "u read as the noise rate",
            _chord_with(span=lambda a, b, a_s, b_s, t, s, T: b - b_s),
            "You divide by the difference of the noise rates. On the straight path u is the noise rate over the sum of "
            "both rates.",
        ),
        Misconception(
            "towards the image",
            _chord_with(sign=-1.0),
            "Your chord points from the noise to the image. Like ε − x₀ it points to the noise: x_t less x_s.",
        ),
        Misconception(
            "not divided",
            _chord_with(span=lambda a, b, a_s, b_s, t, s, T: 1.0),
            "That is the way from one end to the other. A velocity is the way divided by the time, u − u'.",
        ),
    ],
    hints=[
        "A velocity is a difference of places over a difference of times. Which places, and which times?",
        "The places are on the straight path: x_t / (√ᾱ_t + √(1−ᾱ_t)), and x_s likewise with its own rates.",
        "The times are √(1−ᾱ) / (√ᾱ + √(1−ᾱ)) at both ends. `schedule.rates(t, x_t)` gives both rates, shaped to "
        "multiply images.",
        "`(a, b), (a_s, b_s) = schedule.rates(t, x_t), schedule.rates(s, x_s)`, then "
        "`(x_t / (a + b) - x_s / (a_s + b_s)) / (b / (a + b) - b_s / (a_s + b_s))`",
    ],
    passed="One stride of any length, straight to where the path leads, is Euler's with this velocity. All that "
    "follows teaches a network to say it.",
    explanation="""
    At $t=T$ and $s=0$ (nothing left of the image, nothing left of the noise) it is $\\varepsilon-x_0$ of the pair, the
    target of flow matching. In between it is the same on a shorter piece.
    """,
)


# The pairs: what `draw` was asked, what came back, and whose noise it is. Judged as it came out.
PAIRS = {
    "what is drawn": "n images",
    "how many at a time": "no more than `batch`",
    "the labels": "every class, evenly",
    "the noise": "standard normal, one for each image",
    "examples": "each image, and its own noise behind it",
    "the labels that come back": "those that were asked for",
    "all chance is the generator's": True,
}


def _try_pairs(answer, draw, shape, n, num_classes, generator, batch):
    """Pairs, and how they were asked for: twice from one state of the generator, and once going on."""

    def listened():
        asked = []

        def listening(noise, y):
            asked.append((noise.clone(), y.clone()))
            return draw(noise, y)

        pairs = answer(listening, shape, n, num_classes, generator, batch)
        return None if pairs is None else {"pairs": pairs, "asked": asked}

    state = generator.get_state()
    first = listened()
    generator.set_state(state)
    return None if first is None else [first, listened(), listened()]


def _numbers_of_pairs(value) -> torch.Tensor:
    if not isinstance(value, Array) or value.data is None:
        raise Unfit("expected examples and labels as tensors")
    return torch.from_numpy(np.array(value.data))


def _about_pairs(raw, case: Case) -> dict:
    """What can be said of pairs, in whatever order they were drawn."""
    if any(type(run["pairs"]) not in (tuple, list) or len(run["pairs"]) != 2 for run in raw):
        raise Unfit("expected two things back, examples and labels")
    (c, h, w), n, classes, draw = *(case.args[k] for k in ("shape", "n", "num_classes")), case.args["draw"].build()
    runs = [[_numbers_of_pairs(each) for each in run["pairs"]] for run in raw]
    examples, labels = runs[0]
    if tuple(examples.shape) != (n, 2 * c, h, w) or tuple(labels.shape) != (n,):
        raise Unfit(
            f"expected examples {(n, 2 * c, h, w)} and labels ({n},), got {tuple(examples.shape)} and "
            f"{tuple(labels.shape)}"
        )
    asked = [[_numbers_of_pairs(each) for each in call] for call in raw[0]["asked"]]
    noise, told = (torch.cat([call[k] for call in asked]) for k in (0, 1))
    about = PAIRS | {
        "what is drawn": "n images" if len(noise) == n else f"{len(noise)} images",
        "all chance is the generator's": all(map(torch.equal, runs[0], runs[1]))
        and not torch.equal(runs[0][0], runs[2][0]),
    }
    if max(len(call[0]) for call in asked) > case.args["batch"]:
        return about | {"how many at a time": "more than `batch`"}
    shares = torch.bincount(told.long(), minlength=classes) / len(told)
    if len(shares) > classes or (shares - 1 / classes).abs().max() > 6 * (classes * len(told)) ** -0.5:
        about["the labels"] = "not every class, or not evenly"
    about["the noise"] = _pair_noise_in_words(noise, [call[0] for call in asked])
    about["examples"] = _whose_noise(examples.float(), labels, noise.float(), told, draw)
    if about["examples"] == PAIRS["examples"] and not torch.equal(labels.sort().values, told.sort().values):
        about["the labels that come back"] = "others"
    return about


def _pair_noise_in_words(noise: torch.Tensor, parts: list[torch.Tensor]) -> str:
    if all(len(part) == 1 or (part == part[:1]).all() for part in parts) and len(parts) < len(noise):
        return "one for a whole batch"
    z = noise.flatten()
    off_mean, off_variance = abs(z.mean()), abs(z.var() - 1)
    normal = off_mean < 6 / len(z) ** 0.5 and off_variance < 6 * (2 / len(z)) ** 0.5 and z.abs().max() > 2
    return PAIRS["the noise"] if normal else "not standard normal"


def _whose_noise(examples, labels, noise, told, draw) -> str:
    """Which images, and whose noise, stand in the examples."""
    image, behind = examples.chunk(2, dim=1)

    def are(one, other):
        return torch.allclose(one, other, atol=1e-4)

    if are(image, draw(behind, labels)):
        return PAIRS["examples"]
    if are(behind, draw(image, labels)):
        return "the noise first, and then the image"
    known = draw(noise, told)
    rows = torch.stack([(known - each).abs().flatten(1).amax(1).argmin() for each in image])
    if not are(image, known[rows]):
        return "images that nobody drew"
    if are(behind, noise[rows]):
        return "each image with its noise, and another image's label"
    mixed = are(behind.flatten().sort().values, noise.flatten().sort().values)
    return "each image, and another image's noise" if mixed else "each image, and noise that nothing was drawn from"


def _pair_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for shape, n, classes, batch in (((1, 5, 7), 60, 3, 16), ((2, 4, 3), 30, 2, 30), ((1, 3, 6), 41, 4, 10)):
        args = {"draw": Fixture("flows/pairs-draw"), "shape": list(shape), "n": n, "num_classes": classes}
        args |= {"generator": Fixture("generator", seed=int(torch.randint(1000, (), generator=rng))), "batch": batch}
        cases.append(Case(args, label=f"{n} pairs {shape} of {classes} classes, {batch} at a time"))
    return cases


def _pairs_with(join, size=lambda batch: batch, normal=torch.randn, spread=lambda z: z):
    """join(images, noise, y, generator) → examples and labels of everything that was drawn."""

    def pairs(draw, shape, n, num_classes, generator, batch):
        images, noises, labels = [], [], []
        for start in range(0, n, size(batch)):
            count = min(size(batch), n - start)
            noise = spread(normal(count, *shape, generator=generator))
            y = torch.randint(num_classes, (count,), generator=generator)
            images.append(draw(noise, y))
            noises.append(noise)
            labels.append(y)
        return join(torch.cat(images), torch.cat(noises), torch.cat(labels), generator)

    return pairs


def _joined(images, noise, y, generator):
    return torch.cat([images, noise], dim=1), y


def _noise_left_behind(images, noise, y, generator):
    order = torch.randperm(len(y), generator=generator)
    return torch.cat([images[order], noise], dim=1), y[order]


PAIR_SLIPS = [
    Misconception(
        "noise drawn anew",
        _pairs_with(lambda x, z, y, g: (torch.cat([x, torch.randn(z.shape, generator=g)], dim=1), y)),
        "The noise that comes back is fresh: nothing was drawn from it. Keep the noise that you handed to `draw`.",
    ),
    Misconception(
        "the noise first",
        _pairs_with(lambda x, z, y, g: (torch.cat([z, x], dim=1), y)),
        "First the image, then its noise: `torch.cat([images, noise], dim=1)`.",
    ),
    Misconception(
        "all at once",
        _pairs_with(_joined, size=lambda batch: 10**6),
        "All noise went to `draw` at once. A network needs room for each image; at most `batch` at a time.",
    ),
    Misconception(
        "uniform noise",
        _pairs_with(_joined, normal=torch.rand),
        "`torch.rand` is uniform on [0, 1). The old model starts from standard normal noise, `torch.randn`.",
    ),
    Misconception(
        "one noise for each batch",
        _pairs_with(_joined, spread=lambda z: z[:1].expand_as(z)),
        "All images of a batch have the same noise. Then only the label tells them apart.",
    ),
]

quiz(
    "flows/pairs",
    points=3,
    minutes=4,
    title="Pairs of your own",
    equation="10.9",
    reference=few_steps.draw_pairs,
    answered_by=("flows/somebody-elses-pairs",),
    cases=_pair_cases,
    probe=_try_pairs,
    measured=_about_pairs,
    any_device=False,
    misconceptions=[
        *PAIR_SLIPS,
        Misconception(
            "the noise left behind",
            _pairs_with(_noise_left_behind),
            "You shuffled images and labels, and the noise stayed where it was. What belongs together moves together.",
        ),
    ],
    hints=[
        "What has to be kept of a draw, so that a network can be trained on it: three things.",
        "Go through 0, batch, 2·batch, … below n. The last batch may be shorter: min(batch, n − start).",
        "Noise by `torch.randn(count, *shape, generator=generator)`, labels by `torch.randint(num_classes, (count,), "
        "generator=generator)`. Keep `torch.cat([draw(noise, y), noise], dim=1)` and y.",
        "In the loop `examples.append(torch.cat([draw(noise, y), noise], dim=1))` and `labels.append(y)`; at the end "
        "`torch.cat(examples), torch.cat(labels)`.",
    ],
    passed="A data set that costs nothing but evaluations, and in which everybody knows where he came from.",
    explanation="""
    The sampler must not draw noise on its way, or else an image belongs to more than the noise it began with. Image and
    noise stand in one tensor, as channels: then nothing that shuffles examples can part them.
    """,
)


def _pair_loss_with(target="v", mean=lambda error: error.mean(), pick=lambda x: x.chunk(2, dim=1), label=lambda y: y):
    def pair_loss(model, examples, y, t, schedule):
        images, noise = pick(examples)
        x_t, truth = (
            schedule.add_noise(images, t, noise),
            diffusion.prediction_target(schedule, target, images, noise, t),
        )
        return mean((model(x_t, t, label(y)).float() - truth).square())

    return pair_loss


def _pair_loss(model, examples, y, t, schedule):
    images, noise = few_steps.from_pairs(examples)
    v = diffusion.prediction_target(schedule, "v", images, noise, t)
    return (model(schedule.add_noise(images, t, noise), t, y).float() - v).square().mean()


def _pair_loss_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for seed, (b, (c, h, w), curve, T, _) in enumerate(PAIR_STRIDES):
        t, _, _ = _ends_of_strides(b, T, rng)
        t[-1] = 1 if b > 1 else T
        args = {"model": Fixture("flows/pairs-model", channels=c, seed=seed)}
        args |= {"examples": torch.randn(b, 2 * c, h, w, generator=rng), "y": torch.randint(5, (b,), generator=rng)}
        args |= {"t": t, "schedule": Fixture("flows/few-steps-schedule", curve=curve, T=T)}
        cases.append(Case(args, gradients=("model",), label=f"{b} pairs {(c, h, w)}, {curve}, T = {T}"))
    return cases


quiz(
    "flows/pair-loss",
    points=3,
    minutes=3,
    title="Algorithm 1, on pairs",
    equation="5.4",
    reference=_pair_loss,
    library=(diffusion.diffusion_loss,),
    cases=_pair_loss_cases,
    misconceptions=[
        Misconception(
            "the velocity as target",
            _pair_loss_with(target="velocity"),
            "This network predicts v, (5.5). Noise less image is the velocity; trained on that, its answers would be "
            "read wrongly by every sampler.",
        ),
        Misconception(
            "the noise as target", _pair_loss_with(target="noise"), "This network predicts v, not the noise."
        ),
        Misconception(
            "image and noise exchanged",
            _pair_loss_with(pick=lambda x: x.chunk(2, dim=1)[::-1]),
            "In an example the image stands first, and the noise behind it.",
        ),
        Misconception(
            "fresh noise",
            _pair_loss_with(pick=lambda x: (x.chunk(2, dim=1)[0], torch.randn_like(x.chunk(2, dim=1)[0]))),
            "Your noise is drawn anew, as for real images. The whole point is the noise that the image was made from.",
        ),
        Misconception(
            "a sum over an image's pixels",
            _pair_loss_with(mean=lambda error: error.flatten(1).sum(1).mean()),
            "You sum over pixels and average over the batch; the mean is over both.",
        ),
        Misconception(
            "one label for all",
            _pair_loss_with(label=torch.zeros_like),
            "The label that the image was drawn with goes to the network too: `model(x_t, t, y)`.",
        ),
    ],
    hints=[
        "It is the loss of notebook 05. Which of its lines drew the noise, and what stands there now?",
        "`examples.chunk(2, dim=1)` takes images and their noise apart.",
        '`schedule.add_noise(images, t, noise)` is what the network sees, `prediction_target(schedule, "v", images, '
        "noise, t)` what it should say.",
        "`(model(x_t, t, y).float() - v).square().mean()`",
    ],
    passed="Not a line of the loss knows of straightness. Who goes with whom is all that changed.",
    explanation="""
    In the library it is `diffusion_loss(schedule, "v", null=…, pair=from_pairs)`, which also drops labels. (5.4) with
    $\\varepsilon$ no longer independent of $x_0$: the best answer at $(x_t,t)$ is still a mean, over far fewer pairs.
    """,
)

quiz(
    "flows/somebody-elses-pairs",
    points=4,
    minutes=4,
    bug_hunt=True,
    title="Somebody else's pairs",
    equation="10.9",
    reference=few_steps.draw_pairs,
    answered_by=("flows/pairs",),
    cases=_pair_cases,
    probe=_try_pairs,
    measured=_about_pairs,
    any_device=False,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _pairs_with(_noise_left_behind),
            "Row by row: what does an image have to do with the noise that stands behind it? Apply his own `draw` to "
            "the noise of row 0, and compare.",
        ),
        Misconception(
            "the labels left behind",
            _pairs_with(
                lambda x, z, y, g: (
                    torch.cat([x, z], 1)[order := torch.randperm(len(y), generator=g)],
                    y.roll(len(order) // 2),
                )
            ),
            "Image and noise belong together now. But the labels stayed where they were.",
        ),
        *PAIR_SLIPS[:2],
    ],
    hints=[
        "Take his result apart: does `draw(noise, labels)` give the images back? On which line do they part?",
        "Which of the lists are put in another order, and which is not?",
        "What belongs together must be indexed by the same `order`.",
        "`images, noises, labels = images[order], noises[order], labels[order]`",
    ],
    passed="The pairing is in the order of rows alone, and no loss, no picture of the pairs and no type notices when "
    "it's gone.",
    explanation="""
    Every image is a good image, every noise is standard normal, all labels are right. Only *which* noise an image came
    from is lost, and that was all there was to learn.
    """,
)

concept(
    "flows/what-shuffled-pairs-teach",
    minutes=1,
    title="What his network became",
    equation="10.9",
    question="""
    His pairs had lost each other: good images, good noise, drawn independently of each other. Train on them for long,
    with a large network. What does its velocity become?
    """,
    options={
        "a": Option(
            "The marginal velocity of the old model's images: bent paths again, and a mean image in one stride.",
            "Right. Independent noise is what (10.2) began with, only that the images are the old model's. So he has "
            "trained an ordinary flow, and copied the old model's mistakes on the way.",
            right=True,
        ),
        "b": Option(
            "Noise less image of a wrong pair: straight paths as before, which lead to another image than they should.",
            "If it could know the pair, yes. But each noise comes with one random image, which no rule foretells, and "
            "a squared error then ends at the mean of all that fit.",
        ),
        "c": Option(
            "Zero nearly everywhere, since targets that have nothing to do with the input cancel in the mean.",
            "At $u=1$ the mean of $\\varepsilon-x_0$ over all images is $\\varepsilon$ less the mean image, not 0: "
            "the input $x_u$ tells much about both.",
        ),
        "d": Option(
            "The velocity of the real data's flow, since the wrong noise makes up for the errors of the old model.",
            "It never sees real data. Whatever the old model draws wrongly, his network is taught to draw as well.",
        ),
    },
)

# ------------------------------------------------------------------------------------------ 10.7 · two strides in one


@fixture("flows/halving-teacher")
def _halving_teacher(curve: str = "cosine", T: int = 50, seed: int = 0):
    """A denoiser (x_t, t, y) → x̂_0 that listens to every pixel, its neighbour, the step and the class."""
    schedule = _schedule_of_pairs(curve, T)

    def teach(x_t, t, y=None):
        signal, spread = schedule.rates(t, x_t)
        told = 0.3 if y is None else 0.3 * y.to(x_t).reshape(-1, *[1] * (x_t.ndim - 1))
        return torch.tanh(1.5 * signal * x_t + 0.4 * spread * x_t.roll(1, -1) + told - 0.5)

    return teach


concept(
    "flows/why-one-stride-blurs",
    minutes=1,
    title="A squared error once more",
    equation="10.10",
    question="""
    At $t=T$ a network that was trained by the squared error on images and fresh noise answers with a blur. A student
    of the last halving is also trained by a squared error there, and for a single stride. May it be sharp?
    """,
    options={
        "a": Option(
            "No: a squared error ends at a mean in any case, and a mean over images is a blur in any case.",
            "It does end at a mean. But over what? The teacher's strides begin at this very $x_t$, so there is one "
            "target for it, and its mean is itself.",
        ),
        "b": Option(
            "Yes: it's trained on few steps only, so that all of its weights are free for this single stride.",
            "Give the network of fresh noise all its weights for $t=T$: it ends at the mean all the more exactly.",
        ),
        "c": Option(
            "Yes: for an $x_t$ there is one target, where the teacher arrives, and the mean of one is itself.",
            "Right. Fresh noise goes with any image, so the best answer is their mean. A walk without noise leads from "
            "$x_t$ to one place. What still blurs is what the network can't follow: neighbouring noise whose images "
            "differ.",
            right=True,
        ),
        "d": Option(
            "No: the teacher's first guess at $T$ is a blur too, and nobody learns more than the teacher knew.",
            "Its *guess* is a blur; the place where its strides *arrive* isn't. The target is the place.",
        ),
    },
)


def _strides_of(teacher, schedule, x_t, stops, y):
    x = x_t
    for t, s in pairwise(stops):
        x = few_steps.stride(teacher, schedule, x, t, s, y)
    return x


def _two_strides(teacher, schedule, x_t, t, middle, s, y):
    x_s = _strides_of(teacher, schedule, x_t, (t, middle, s), y)
    return convert(schedule, "velocity", "v", few_steps.chord(schedule, x_t, t, x_s, s), x_t, t)


def _two_strides_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, curve, T, dtype in PAIR_STRIDES:
        t, middle, s = _ends_of_strides(b, T, rng)
        args = {"teacher": Fixture("flows/halving-teacher", curve=curve, T=T)}
        args |= {"schedule": Fixture("flows/few-steps-schedule", curve=curve, T=T)}
        args |= {"x_t": torch.randn(b, *shape, generator=rng, dtype=dtype), "t": t, "middle": middle, "s": s}
        args |= {"y": torch.randint(1, 5, (b,), generator=rng)}
        cases.append(Case(args, label=f"{b} images {shape}, {curve}, T = {T}"))
    return cases


def _one_long_stride(teacher, schedule, x_t, t, middle, s, y):
    x_s = few_steps.stride(teacher, schedule, x_t, t, s, y)
    return convert(schedule, "velocity", "v", few_steps.chord(schedule, x_t, t, x_s, s), x_t, t)


def _second_guess(teacher, schedule, x_t, t, middle, s, y):
    x = few_steps.stride(teacher, schedule, x_t, t, middle, y)
    return convert(schedule, "x0", "v", teacher(x, middle, y), x_t, t)


def _two_strides_x0(teacher, schedule, x_t, t, middle, s, y):
    return convert(schedule, "v", "x0", _two_strides(teacher, schedule, x_t, t, middle, s, y), x_t, t)


def _two_strides_velocity(teacher, schedule, x_t, t, middle, s, y):
    return convert(schedule, "v", "velocity", _two_strides(teacher, schedule, x_t, t, middle, s, y), x_t, t)


def _asked_for_t_twice(teacher, schedule, x_t, t, middle, s, y):
    first = teacher(x_t, t, y)
    x = schedule.add_noise(first, middle, diffusion.predict_noise(schedule, first, x_t, t))
    x0 = teacher(x, t, y)
    x_s = schedule.add_noise(x0, s, diffusion.predict_noise(schedule, x0, x, middle))
    return convert(schedule, "velocity", "v", few_steps.chord(schedule, x_t, t, x_s, s), x_t, t)


def _landing_taken_for_x0(teacher, schedule, x_t, t, middle, s, y):
    return convert(schedule, "x0", "v", _strides_of(teacher, schedule, x_t, (t, middle, s), y), x_t, t)


quiz(
    "flows/two-strides",
    points=5,
    minutes=6,
    title="What leads there at once",
    equation="10.10",
    reference=_two_strides,
    library=(few_steps.stride, few_steps.halving_loss),
    cases=_two_strides_cases,
    misconceptions=[
        Misconception(
            "one long stride",
            _one_long_stride,
            "You asked the teacher once, and went all the way from t to s. That's the stride to be improved on: go "
            "from t to `middle`, ask again, and go on to s.",
        ),
        Misconception(
            "the second guess",
            _second_guess,
            "Your target is the teacher's x̂₀ at `middle`. The student is to land where the second stride *lands*, "
            "which is the same only where s = 0.",
        ),
        Misconception(
            "x₀ in the place of v",
            _two_strides_x0,
            'That is the x̂₀ which leads there. This network predicts v: `prediction_target(schedule, "v", …)`.',
        ),
        Misconception(
            "the velocity in the place of v",
            _two_strides_velocity,
            "That is the chord. This network predicts v: turn the chord into x̂₀ and ε̂, and these into v.",
        ),
        Misconception(
            "asked for t twice",
            _asked_for_t_twice,
            "At the second stride you are at `middle`, and ask the teacher about t.",
        ),
        Misconception(
            "x_s taken for x₀",
            _landing_taken_for_x0,
            "x_s isn't an image yet: it lies at step s, with noise in it. The chord from x_t to x_s knows how much.",
        ),
    ],
    hints=[
        "First two strides of DDIM, (6.4), as in notebook 06. Where do they land?",
        "A stride: x̂₀ from the teacher, `predict_noise(schedule, x0, x, t)` for ε̂, and `schedule.add_noise(x0, s, "
        "noise)` at the next stop.",
        'Your `chord` from x_t to the landing place is a velocity. `predict_x0(schedule, "velocity", speed, x_t, t)` '
        "says which x̂₀ it means.",
        'With that x0: `prediction_target(schedule, "v", x0, predict_noise(schedule, x0, x_t, t), t)`',
    ],
    passed="Two questions to the teacher become one answer of the student's. Do it six times, and 64 strides are one.",
    explanation="""
    Salimans and Ho solve (10.10) for $\\hat x_0$ directly, with σ's and α's. By the chord it is the same number, and
    the special case $s=0$ isn't one.
    """,
)


HALVINGS = 40  # losses, and two more from one state of the generator
HALVED = {
    "the steps": "every second one of the teacher's, for each image its own",
    "the noise": "standard normal, one for each image",
    "the labels": "those of the images",
    "the target": "two strides of the teacher, a mean over all pixels",
    "all chance is the generator's": True,
}


class _HearsHalving(nn.Module):
    """A network that remembers what it was asked, and what it said."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.heard = inner, []

    def forward(self, x, t, y):
        said = self.inner(x, t, y)
        self.heard.append({"x": x.clone(), "t": t.clone(), "y": y.clone(), "said": said.detach().clone()})
        return said


def _try_halving(answer, model, teacher, schedule, times, x0, y, generator):
    """Many losses, what the network was asked for each, and whether a gradient reaches its weights."""
    hears, losses = _HearsHalving(model), []

    def once():
        return answer(hears, teacher, schedule, list(times), x0.clone(), y.clone(), generator)

    first = once()
    if first is None:
        return None
    losses = [first, *(once() for _ in range(HALVINGS - 1))]
    state = generator.get_state()
    for _ in range(2):
        generator.set_state(state)
        losses.append(once())
    flows = bool(isinstance(first, torch.Tensor) and first.requires_grad)
    losses = [loss.detach() if isinstance(loss, torch.Tensor) else loss for loss in losses]
    return {"losses": losses, "heard": hears.heard, "flows": flows}


def _about_halving(raw, case: Case) -> dict:
    """Which steps, which noise, which target: read off what the network was asked."""
    losses, heard = raw["losses"], raw["heard"]
    if any(not isinstance(loss, Array) or loss.shape != () for loss in losses):
        raise Unfit("expected a loss, a tensor with one number, got something else")
    if len(heard) != len(losses):
        raise Unfit(f"expected the student to be asked once for a loss, got {len(heard)} times for {len(losses)}")
    asked = [{name: _numbers_of_pairs(value) for name, value in each.items()} for each in heard]
    x0, times, schedule = case.args["x0"].double(), case.args["times"], case.args["schedule"].build()
    if any(each["x"].shape != x0.shape or each["t"].shape != x0.shape[:1] for each in asked):
        raise Unfit("expected the student to be asked about images of the batch's shape, with a step for each")
    about = HALVED | {
        "the steps": _halving_steps_in_words(asked, times),
        "a gradient reaches the student": raw["flows"],
    }
    if about["the steps"] != HALVED["the steps"]:
        return about
    rates = [schedule.rates(each["t"].long(), x0) for each in asked]
    noises = [(each["x"].double() - a * x0) / b for each, (a, b) in zip(asked, rates)]
    about["the noise"] = _halving_noise_in_words(noises)
    if any(not torch.equal(each["y"], case.args["y"]) for each in asked):
        return about | {"the labels": "others"}
    about["the target"] = _halving_target_in_words(losses, asked, case)
    about["all chance is the generator's"] = torch.equal(asked[-1]["x"], asked[-2]["x"])
    return about


def _halving_steps_in_words(asked: list[dict], times: list[int]) -> str:
    steps, own = torch.stack([each["t"] for each in asked]), times[:-1:2]
    if not set(steps.flatten().tolist()) <= set(own):
        of_teacher = set(steps.flatten().tolist()) <= set(times)
        return "those of the teacher" if of_teacher else "others than the teacher's"
    if len(own) > 1 and (steps == steps[0, 0]).all():
        return "always the same one"
    if len(own) > 1 and (steps == steps[:, :1]).all():
        return "one for a whole batch"
    shares = torch.tensor([(steps == t).double().mean() for t in own])
    if (shares - 1 / len(own)).abs().max() > 6 * (len(own) * steps.numel()) ** -0.5:
        return "not all equally likely"
    return HALVED["the steps"]


def _halving_noise_in_words(noises: list[torch.Tensor]) -> str:
    z = torch.cat([noise.flatten() for noise in noises])
    if len(noises[0]) > 1 and all((noise - noise[:1]).abs().max() < 1e-2 for noise in noises):
        return "one for a whole batch"
    if abs(z.mean()) > 6 / len(z) ** 0.5 or abs(z.var() - 1) > 6 * (2 / len(z)) ** 0.5:
        return "not standard normal, or not mixed in by (3.4)"
    return HALVED["the noise"]


def _halving_target_in_words(losses: list, asked: list[dict], case: Case) -> str:
    """Which target, and which mean or sum, give these losses."""
    teacher, schedule = case.args["teacher"].build(), case.args["schedule"].build()
    after = dict(zip(case.args["times"], zip(case.args["times"][1:], case.args["times"][2:])))
    ways = {"two strides of the teacher": _two_strides, "one stride of the teacher": _one_long_stride}
    found: dict[str, list[bool]] = {}
    for loss, each in zip(losses[:8], asked):
        t, y, x_t = each["t"].long(), each["y"].long(), each["x"].double()
        middle, s = torch.tensor([after[k] for k in t.tolist()]).T
        for way, target in ways.items():
            off_by = (each["said"].double() - target(teacher, schedule, x_t, t, middle, s, y)).square()
            sums = {
                "a mean over all pixels": off_by.mean(),
                "a sum over an image's pixels": off_by.flatten(1).sum(1).mean(),
            }
            for words, value in {**sums, "a sum over all pixels": off_by.sum()}.items():
                near = abs(float(loss.data) - float(value)) <= 2e-3 * float(value) + 1e-6
                found.setdefault(f"{way}, {words}", []).append(near)
    return next((words for words, fits in found.items() if all(fits)), "something else")


def _halving_loss_with(target=_two_strides, pick=None, mean=lambda error: error.mean(), noise=torch.randn):
    """pick(b, times, generator) → three stops for each image."""

    def halving_loss(model, teacher, schedule, times, x0, y, generator):
        t, middle, s = (pick or _double_strides)(len(x0), times, generator)
        x_t = schedule.add_noise(x0, t, noise(x0.shape, generator=generator))
        aim = target(teacher, schedule, x_t, t, middle, s, y)
        return mean((model(x_t, t, y).float() - aim).square())

    return halving_loss


def _double_strides(b, times, generator):
    k = 2 * torch.randint(len(times) // 2, (b,), generator=generator)
    return (torch.tensor(times)[k + j] for j in range(3))


def _any_stride(b, times, generator):
    k = torch.randint(len(times) - 2, (b,), generator=generator)
    return (torch.tensor(times)[k + j] for j in range(3))


def _one_for_all(b, times, generator):
    k = 2 * torch.randint(len(times) // 2, (1,), generator=generator).expand(b)
    return (torch.tensor(times)[k + j] for j in range(3))


def _first_strides(b, times, generator):
    return (torch.full((b,), times[j]) for j in range(3))


def _halving_loss(model, teacher, schedule, times, x0, y, generator):
    loss = few_steps.halving_loss(lambda x, t, _: teacher(x, t, y), schedule, "v", times, null=0)
    return loss(lambda x, t, _: model(x, t, y), x0, y, generator)


def _halving_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for seed, (b, shape, curve, T, times) in enumerate(
        (
            (6, (1, 5, 7), "cosine", 50, [50, 38, 25, 12, 0]),
            (4, (2, 4, 3), "flow", 40, [40, 30, 24, 15, 9, 4, 0]),
            (3, (1, 3, 6), "linear", 100, [100, 30, 0]),
        )
    ):
        args = {"model": Fixture("flows/pairs-model", channels=shape[0], seed=seed)}
        args |= {"teacher": Fixture("flows/halving-teacher", curve=curve, T=T)}
        args |= {"schedule": Fixture("flows/few-steps-schedule", curve=curve, T=T), "times": times}
        args |= {"x0": 2 * torch.rand(b, *shape, generator=rng) - 1, "y": torch.randint(1, 5, (b,), generator=rng)}
        args |= {"generator": Fixture("generator", seed=int(torch.randint(1000, (), generator=rng)))}
        cases.append(Case(args, label=f"many batches of {b} images {shape}, the teacher's times {times}"))
    return cases


quiz(
    "flows/halving-loss",
    points=4,
    minutes=5,
    title="A loss that halves",
    equation="10.10",
    reference=_halving_loss,
    library=(few_steps.halving_loss,),
    cases=_halving_cases,
    probe=_try_halving,
    measured=_about_halving,
    any_device=False,
    misconceptions=[
        Misconception(
            "at any of the teacher's steps",
            _halving_loss_with(pick=_any_stride),
            "Your student is also asked at the teacher's odd stops, where it will never stand. Its steps are "
            "`times[0]`, `times[2]`, `times[4]`, …",
        ),
        Misconception(
            "one step for the whole batch", _halving_loss_with(pick=_one_for_all), "Each image needs a step of its own."
        ),
        Misconception(
            "the first stride only",
            _halving_loss_with(pick=_first_strides),
            "Your student learns its first stride only. It needs every one.",
        ),
        Misconception(
            "one stride of the teacher",
            _halving_loss_with(target=_one_long_stride),
            "That is one stride of the teacher: whoever learns it makes what the teacher makes in half the strides, as "
            "badly. The target is `two_strides`.",
        ),
        Misconception(
            "a sum over an image's pixels",
            _halving_loss_with(mean=lambda error: error.flatten(1).sum(1).mean()),
            "You sum over pixels and average over the batch; the mean is over both.",
        ),
        Misconception(
            "noise of half the size",
            _halving_loss_with(noise=lambda shape, generator: 0.5 * torch.randn(shape, generator=generator)),
            "The noise in your x_t isn't standard normal. `torch.randn`, mixed in by `schedule.add_noise`.",
        ),
    ],
    hints=[
        "As in every loss of this kind: steps, noise, a noisy image, a target, a squared error. Only steps and target "
        "are new.",
        "With 2K strides of the teacher there are K double ones. Draw k = 0, 2, 4, … for each image: "
        "`2 * torch.randint(len(times) // 2, (len(x0),), generator=generator)`.",
        "`torch.tensor(times)[k]` is t, `[k + 1]` the stop between, `[k + 2]` s. Your `two_strides` gives the target.",
        "`(model(x_t, t, y).float() - two_strides(teacher, schedule, x_t, t, middle, s, y)).square().mean()`",
    ],
    passed="The teacher is asked twice for each image, the student once. What it costs is paid once, at training.",
    explanation="""
    In the library: `few_steps.halving_loss(teacher, schedule, "v", times, null=…)`. Between steps of its own nobody
    will ask the student, so nothing is lost where it isn't trained.
    """,
)

# ---------------------------------------------------------------------------------------- 10.8 · anywhere to anywhere


@fixture("flows/mean-flow-velocity")
def _mean_flow_velocity(seed: int = 0):
    """The marginal velocity (x (n, 2), u) → (n, 2) of a mixture of two blobs."""
    mixture = GaussianMixture(torch.tensor([[-1.0, 0.5], [0.8, -0.3]]), torch.tensor([0.3, 0.5]))
    return lambda x, u: mixture.velocity(x, min(max(u, 0.0), 1.0))


class _MeanFlowAverage(nn.Module):
    """(x (b, d), u (b, 1), r (b, 1)) → (b, d)."""

    def __init__(self, d: int):
        super().__init__()
        self.first, self.second = nn.Linear(d + 2, 9), nn.Linear(9, d)

    def forward(self, x, u, r):
        return self.second(torch.tanh(2 * self.first(torch.cat([x, u, r], dim=1))))


@fixture("flows/mean-flow-average")
def _mean_flow_average(d: int = 2, double: bool = False, seed: int = 0) -> nn.Module:
    return _MeanFlowAverage(d).to(torch.float64 if double else torch.float32)


concept(
    "flows/no-integral",
    minutes=1,
    title="What is to be known for it",
    equation="10.11",
    question="""
    A network $\\bar v(x,u,r)$ is to say the average velocity from $u$ down to $r$. For a target one would follow the
    marginal velocity along the path from $u$ to $r$. Is there a way without following it?
    """,
    options={
        "a": Option(
            "No: an average over a path can't be had without walking the path, so a teacher is needed for it.",
            "Rectification and halving do it so. But an integral is known by its *derivative* and its start, and a "
            "derivative needs no walk.",
        ),
        "b": Option(
            "Yes: take noise less image as the target for any $r$, since this is the average over the whole path.",
            "That is the way from $\\varepsilon$ to $x_0$ along a *line* that you have drawn yourself, not along the "
            "path of the flow through $x_u$. The mean of those is the velocity at $u$, whatever $r$ is.",
        ),
        "c": Option(
            "Yes: let the network walk it itself, in many strides of its own, and take what comes out as target.",
            "It walks wrongly as long as it knows nothing, and many strides for each target are dear. It can be asked "
            "for less: how its answer *changes* over a short piece.",
        ),
        "d": Option(
            "Yes: ask how the average changes as $u$ moves on; the velocity at $u$ and this say what it must be.",
            "Right. Lengthen the piece a little: the integral grows by the velocity there. That ties $\\bar v$ to its "
            "own derivative, and at $r=u$ to the velocity. No path is followed.",
            right=True,
        ),
    },
)


def _true_average(velocity, x, u, r, steps):
    z, h = x, (u - r) / steps
    for k in range(steps):
        here = velocity(z, u - k * h)
        z = z - h * (here + velocity(z - h * here, u - (k + 1) * h)) / 2
    return (x - z) / (u - r)


def _average_by(stride, back=lambda x, z, u, r: (x - z) / (u - r)):
    """stride(velocity, z, u, h) → z after one stride of length h down."""

    def true_average(velocity, x, u, r, steps):
        z, h = x, (u - r) / steps
        for k in range(steps):
            z = stride(velocity, z, u - k * h, h)
        return back(x, z, u, r)

    return true_average


def _heun_down(velocity, z, u, h):
    here = velocity(z, u)
    return z - h * (here + velocity(z - h * here, u - h)) / 2


def _average_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, u, r, steps, dtype in (
        (6, 1.0, 0.0, 4, torch.float64), (3, 0.8, 0.3, 1, torch.float32), (1, 0.5, 0.0, 7, torch.float64),
        (5, 1.0, 0.6, 2, torch.float64),
    ):  # fmt: skip
        args = {"velocity": Fixture("flows/mean-flow-velocity"), "x": torch.randn(n, 2, generator=rng, dtype=dtype)}
        cases.append(
            Case(args | {"u": u, "r": r, "steps": steps}, label=f"{n} points, {steps} strides from {u} to {r}")
        )
    return cases


quiz(
    "flows/true-average",
    points=3,
    minutes=5,
    title="The truth, by walking",
    equation="10.11",
    reference=_true_average,
    cases=_average_cases,
    misconceptions=[
        Misconception(
            "Euler",
            _average_by(lambda velocity, z, u, h: z - h * velocity(z, u)),
            "That is Euler's method. Heun's goes with the mean of the velocities at both ends of a stride.",
        ),
        Misconception(
            "upwards",
            _average_by(lambda velocity, z, u, h: 2 * z - _heun_down(velocity, z, u, h)),
            "Your walk leads away from the data: u falls, so a stride *subtracts* h times the velocity.",
        ),
        Misconception(
            "the place, not the velocity",
            _average_by(_heun_down, back=lambda x, z, u, r: z),
            "That is where the path arrives. The average velocity is the way, x − z, over the time, u − r.",
        ),
        Misconception(
            "not divided by the time",
            _average_by(_heun_down, back=lambda x, z, u, r: x - z),
            "That is the way from the end to the start. Divide it by the time that it took, u − r.",
        ),
        Misconception(
            "the second velocity at the start of the stride",
            _average_by(lambda velocity, z, u, h: z - h * (velocity(z, u) + velocity(z - h * velocity(z, u), u)) / 2),
            "The second velocity belongs to the end of the stride, in place *and* in time: u − h.",
        ),
    ],
    hints=[
        "Strides of length h = (u − r) / steps lead downwards: after k of them, time is u − k·h.",
        "Euler's end of a stride is z − h · velocity(z, time). Ask for the velocity there too, at time − h.",
        "Heun: z ← z − h · (first + second) / 2. Keep the x that you began with.",
        "After the loop: `return (x - z) / (u - r)`",
    ],
    passed="Here the truth can be had, at the price of many velocities. So what a network claims can be checked.",
    explanation="""
    Heun's method is (6.9), in the coordinates of the straight path. With 100 strides its error is far below what a
    small network can learn.
    """,
)


def _try_mean_flow_target(answer, average, x_u, u, r, velocity):
    """The target, and whether a gradient would flow through it."""
    target = answer(average, x_u, u, r, velocity)
    if not isinstance(target, torch.Tensor):
        return target
    return {"target": target.detach(), "a gradient flows through it": target.requires_grad}


def _mean_flow_target_with(tangent=lambda v, u: (v, torch.ones_like(u), torch.zeros_like(u)), join=None):
    def mean_flow_target(average, x_u, u, r, velocity):
        _, change = torch.func.jvp(average, (x_u, u, r), tangent(velocity, u))
        return (velocity - (u - r) * change).detach() if join is None else join(velocity, u, r, change)

    return mean_flow_target


def _mean_flow_points(rng: torch.Generator):
    """An average, places, and times 0 ≤ r ≤ u ≤ 1 with both ends and r = u among them."""
    for seed, (b, d, double) in enumerate(((6, 2, True), (1, 3, True), (4, 2, False))):
        dtype = torch.float64 if double else torch.float32
        r, u = torch.rand(b, 2, generator=rng, dtype=dtype).sort(1).values.split(1, dim=1)
        if b > 1:
            u, r = u.clone(), r.clone()
            u[0], r[0], r[-1] = 1, 0, u[-1]
        x, other = (torch.randn(b, d, generator=rng, dtype=dtype) for _ in range(2))
        yield Fixture("flows/mean-flow-average", d=d, double=double, seed=seed), x, other, u, r


def _mean_flow_target_cases(rng: torch.Generator) -> list[Case]:
    return [
        Case({"average": average, "x_u": x, "u": u, "r": r, "velocity": velocity}, label=f"{len(x)} points")
        for average, x, velocity, u, r in _mean_flow_points(rng)
    ]


quiz(
    "flows/mean-flow-target",
    points=4,
    minutes=5,
    title="What it must be, if it's right nearby",
    equation="10.11",
    reference=few_steps.mean_flow_target,
    cases=_mean_flow_target_cases,
    probe=_try_mean_flow_target,
    misconceptions=[
        Misconception(
            "x stands still",
            _mean_flow_target_with(tangent=lambda v, u: (torch.zeros_like(v), torch.ones_like(u), torch.zeros_like(u))),
            "You moved u and left x where it is. Along a path x moves too, with the velocity: that is its tangent.",
        ),
        Misconception(
            "r moves along",
            _mean_flow_target_with(tangent=lambda v, u: (v, torch.ones_like(u), torch.ones_like(u))),
            "The lower end r stays: its tangent is 0.",
        ),
        Misconception(
            "a plus",
            _mean_flow_target_with(join=lambda v, u, r, change: (v + (u - r) * change).detach()),
            "(10.11) has a minus: what the average gains by moving on is not in it yet.",
        ),
        Misconception(
            "the length of the piece forgotten",
            _mean_flow_target_with(join=lambda v, u, r, change: (v - change).detach()),
            "The change is multiplied by the length of the piece, u − r. At r = u nothing of it is left.",
        ),
        Misconception(
            "a gradient through the target",
            _mean_flow_target_with(join=lambda v, u, r, change: v - (u - r) * change),
            "The numbers are right, but a gradient would flow through your target, and the network would bend the "
            "target to meet it. `.detach()`.",
        ),
    ],
    hints=[
        "Which three things does the average depend on, and how fast does each of them change while one walks along "
        "the path?",
        "x_u changes with `velocity`, u with 1, r with 0. These are the tangents, each shaped like its argument.",
        "`value, change = torch.func.jvp(average, (x_u, u, r), (velocity, torch.ones_like(u), torch.zeros_like(r)))`",
        "`return (velocity - (u - r) * change).detach()`",
    ],
    passed="A network taught by its own derivative. One pass forwards carries it along, at about twice the price of "
    "one answer.",
    explanation="""
    `jvp` (Jacobian times vector) is forward-mode differentiation: it carries a direction through the network beside the
    values. A backward pass would give the transpose, a gradient for each output.
    """,
)


def _mean_flow_loss(average, x0, noise, u, r):
    x_u = (1 - u) * x0 + u * noise
    target = few_steps.mean_flow_target(average, x_u, u, r, noise - x0)
    return (average(x_u, u, r) - target).square().mean()


def _mean_flow_loss_with(
    place=lambda x0, noise, u: (1 - u) * x0 + u * noise,
    speed=lambda x0, noise: noise - x0,
    target=few_steps.mean_flow_target,
    ask=lambda average, x, u, r: average(x, u, r),
    mean=lambda error: error.mean(),
):
    def mean_flow_loss(average, x0, noise, u, r):
        x_u, velocity = place(x0, noise, u), speed(x0, noise)
        return mean((ask(average, x_u, u, r) - target(average, x_u, u, r, velocity)).square())

    return mean_flow_loss


def _mean_flow_loss_cases(rng: torch.Generator) -> list[Case]:
    return [
        Case(
            {"average": average, "x0": x0, "noise": noise, "u": u, "r": r},
            gradients=("average",),
            label=f"{len(x0)} points",
        )
        for average, x0, noise, u, r in _mean_flow_points(rng)
    ]


quiz(
    "flows/mean-flow-loss",
    points=2,
    minutes=3,
    title="And the loss around it",
    equation="10.11",
    reference=_mean_flow_loss,
    cases=_mean_flow_loss_cases,
    misconceptions=[
        Misconception(
            "image and noise exchanged on the path",
            _mean_flow_loss_with(place=lambda x0, noise, u: (1 - u) * noise + u * x0),
            "At u = 1 there is noise, and at u = 0 data, (10.1).",
        ),
        Misconception(
            "the velocity turned round",
            _mean_flow_loss_with(speed=lambda x0, noise: x0 - noise),
            "The velocity is that of rising u, towards the noise: noise − x0.",
        ),
        Misconception(
            "the velocity alone for a target",
            _mean_flow_loss_with(target=lambda average, x, u, r, velocity: velocity),
            "Your target doesn't know r. That trains an ordinary flow, whose answer for any r is the velocity at u.",
        ),
        Misconception(
            "a sum",
            _mean_flow_loss_with(mean=lambda error: error.sum(1).mean()),
            "You sum over coordinates. The mean is over points and coordinates.",
        ),
    ],
    hints=[
        "As in flow matching: a place on the line between a point and a noise, and the velocity of that line.",
        "`x_u = (1 - u) * x0 + u * noise`, and its velocity is `noise - x0`.",
        "The target is your `mean_flow_target(average, x_u, u, r, velocity)`; the guess is `average(x_u, u, r)`.",
        "`(average(x_u, u, r) - target).square().mean()`",
    ],
    passed="No teacher, no pairs, no path walked: data and noise, as for any flow.",
    explanation="""
    Where $r=u$ it is the loss of flow matching. In training a quarter of the pairs are such: they hold the foot of the
    ladder that the others climb.
    """,
)

# ------------------------------------------------------------------------------------------------------ 10.9 · the race

concept(
    "flows/what-the-race-counts",
    minutes=1,
    title="What a line of the table has paid",
    question="""
    In the table below, models are compared at equal numbers of evaluations. In one of these ways the comparison is
    *not* on equal terms. Which one?
    """,
    options={
        "a": Option(
            "A stride of DPM-Solver++ looks back at an earlier guess, so that it costs more than one of DDIM.",
            "It remembers a tensor, and asks the network as often. The evaluations are what costs, and they are equal.",
        ),
        "b": Option(
            "Models that learned from a teacher were trained on top of it, with evaluations that aren't in the row.",
            "Right. Evaluations *per image* are what the user pays. Pairs, a teacher asked twice a step and more steps "
            "of training came before, and the teacher's own training before that.",
            right=True,
        ),
        "c": Option(
            "Their d² are of different images, so that the differences between rows are mostly chance.",
            "One judge, as many samples; over sets of noise DDIM's differ by far less than rows do at one evaluation.",
        ),
        "d": Option(
            "The distilled network is a smaller one than its teacher, so that its evaluations cost less.",
            "It began as a copy of its teacher, weight for weight. An evaluation of either costs the same.",
        ),
    },
)


class _Meter:
    def __init__(self, denoise, allowed):
        self.denoise, self.allowed, self.rows = denoise, allowed, 0

    def __call__(self, x_t, t, y=None):
        if self.rows + len(x_t) > self.allowed:
            raise ValueError(f"expected at most {self.allowed} rows, got {self.rows + len(x_t)}")
        self.rows += len(x_t)
        return self.denoise(x_t, t, y)


def _try_meter(answer, denoise, x, t, y):
    """Two meters by turns, some calls for more than is left: what they said, what they counted, what got through."""
    b, reached, results, counts = len(x), [], [], []

    def listening(x_t, t, y=None):
        reached.append(len(x_t))
        return denoise(x_t, t, y)

    first, second = answer(listening, 3 * b + 1), answer(listening, b)
    if first is None:
        return None
    for meter, batches in ((first, 1), (second, 1), (second, 1), (first, 3), (first, 2), (first, 1)):
        try:
            results.append(meter(*(torch.cat([each] * batches) for each in (x, t, y))))
        except ValueError:
            results.append("refused")
        counts.append(meter.rows)
    try:
        results.append(first(x[:1], t[:1]))
    except ValueError:
        results.append("refused")
    return {"results": results, "rows": [*counts, first.rows], "reached the network": reached}


def _meter_with(by=len, late=False, labels=True, strict=False, silent=False):
    class Meter:
        def __init__(self, denoise, allowed):
            self.denoise, self.allowed, self.rows = denoise, allowed, 0

        def __call__(self, x_t, t, y=None):
            beyond = self.rows + by(x_t) >= self.allowed + (not strict)
            said = self.denoise(x_t, t, y if labels else None) if late or not beyond else None
            if beyond and not silent:
                raise ValueError("no more rows")
            self.rows += by(x_t)
            return self.denoise(x_t, t, y) if said is None else said

    return Meter


def _meter_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape in ((3, (1, 3, 4)), (2, (2, 5, 3))):
        args = {"denoise": Fixture("flows/halving-teacher"), "x": torch.randn(b, *shape, generator=rng)}
        args |= {"t": torch.randint(1, 50, (b,), generator=rng), "y": torch.randint(1, 5, (b,), generator=rng)}
        cases.append(Case(args))
    return cases


quiz(
    "flows/meter",
    points=3,
    minutes=5,
    title="Rows, not calls",
    reference=_Meter,
    cases=_meter_cases,
    probe=_try_meter,
    misconceptions=[
        Misconception(
            "calls counted",
            _meter_with(by=lambda x: 1),
            "You count calls. Whoever asks once, about a batch of twice the size, would pay half.",
        ),
        Misconception(
            "refused too late",
            _meter_with(late=True),
            "The network was asked before you refused. Look first, then ask.",
        ),
        Misconception(
            "refused one too early",
            _meter_with(strict=True),
            "`allowed` rows may be asked for, and your meter refuses the last of them.",
        ),
        Misconception(
            "nobody refused", _meter_with(silent=True), "More rows than allowed were asked for, and nobody objected."
        ),
        Misconception("the labels dropped", _meter_with(labels=False), "Hand `y` on to the network."),
    ],
    hints=[
        "Two methods: one remembers the denoiser, what is allowed, and that nothing was asked yet; one is called.",
        "A call asks for `len(x_t)` rows. What would the count be after it?",
        "If that is more than `allowed`: `raise ValueError(...)`, before the network is asked.",
        "`self.rows += len(x_t)`, then `return self.denoise(x_t, t, y)`.",
    ],
    passed="A price that can't be talked down. Guidance, which asks twice, pays twice.",
    explanation="""
    A counter inside of the sampler's own process only counts for the honest: a sampler could reach for
    `meter.denoise`. So the challenge keeps the network in another process.
    """,
)


@fixture("flows/entry-denoise")
def _entry_denoise(kind: str = "one point", seed: int = 0):
    """(x_t, t, y) → x̂_0. "one point": a class is one image, where every sampler must end; "free": x_t decides."""

    def denoise(x_t, t, y=None):
        told = 0.0 if y is None else 0.2 * y.to(x_t).reshape(-1, *[1] * (x_t.ndim - 1))
        return torch.zeros_like(x_t) + told if kind == "one point" else torch.tanh(x_t + told)

    return denoise


ENTRY = {
    "rows asked for": "no more than allowed",
    "steps asked about": "1 to T",
    "labels asked for": "y",
    "images": "like noise[0], finite",
    "where it ends": "at step 0",
    "the noise": "decides the image",
}


def _try_entry(answer, denoise, schedule, noise, y, evaluations):
    """Images for one noise and for another, and what the network was asked for the first."""
    asked = []

    def listening(x_t, t, y=None):
        asked.append({"t": t.clone(), "y": None if y is None else y.clone()})
        return denoise(x_t, t, y)

    images = answer(listening, schedule, noise.clone(), y.clone(), evaluations)
    if images is None:
        return None
    free = _entry_denoise("free")
    others = [answer(free, schedule, sign * noise, y.clone(), evaluations) for sign in (1, -1)]
    return {"images": images, "asked": asked, "others": others}


def _about_entry(raw, case: Case) -> dict:
    noise, y, evaluations = (case.args[name] for name in ("noise", "y", "evaluations"))
    images, *others = (_numbers_of_pairs(each) for each in (raw["images"], *raw["others"]))
    noise = noise[0]
    if any(each.shape != noise.shape for each in (images, *others)):
        raise Unfit(f"expected images like noise[0], {tuple(noise.shape)}, got {tuple(images.shape)}")
    about = dict(ENTRY)
    steps = [_numbers_of_pairs(each["t"]) for each in raw["asked"]]
    if sum(map(len, steps)) > evaluations * len(noise):
        about["rows asked for"] = "more"
    if any(t.min() < 1 or t.max() > case.args["schedule"].settings["T"] for t in steps):
        about["steps asked about"] = "others"
    told = [each["y"] for each in raw["asked"]]
    if any(each is None or not torch.equal(_numbers_of_pairs(each), y) for each in told):
        return about | {"labels asked for": "others, or none"}
    if not images.isfinite().all():
        return about | {"images": "not finite"}
    point = case.args["denoise"].build()(noise, torch.ones(len(noise)).long(), y)
    if (images - point).abs().max() > 1e-3:
        about["where it ends"] = "before step 0"
    if (others[0] - others[1]).abs().max() < 1e-3:
        about["the noise"] = "makes no difference"
    return about


def sample(denoise, schedule, noise, y, evaluations):
    """DDIM without noise on the way. (By this name, since its source goes into a file in the notebook.)"""
    x, stops = noise[0], schedule.timesteps(evaluations)
    for t, s in pairwise(stops):
        now, then = (torch.full((len(x),), step, device=x.device) for step in (t, s))
        x0 = denoise(x, now, y).clamp(-1, 1)
        x = schedule.add_noise(x0, then, predict_noise(schedule, x0, x, now))
    return x


def _entry_walk(times=diffusion.Schedule.timesteps, first=lambda noise: noise[0], label=lambda y: y):
    def entry(denoise, schedule, noise, y, evaluations):
        x = first(noise)
        for t, s in pairwise(times(schedule, evaluations)):
            now, then = (torch.full((len(x),), step) for step in (t, s))
            x0 = denoise(x, now, label(y)).clamp(-1, 1)
            x = schedule.add_noise(x0, then, predict_noise(schedule, x0, x, now))
        return x

    return entry


def _entry_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, curve, T, evaluations in (
        (3, (1, 4, 6), "cosine", 50, 4), (2, (2, 3, 5), "cosine", 1000, 1), (4, (1, 5, 3), "flow", 40, 2),
        (1, (1, 3, 4), "linear", 100, 7),
    ):  # fmt: skip
        args = {"denoise": Fixture("flows/entry-denoise")}
        args |= {"schedule": Fixture("flows/few-steps-schedule", curve=curve, T=T)}
        args |= {"noise": torch.randn(evaluations, b, *shape, generator=rng)}
        args |= {"y": torch.randint(1, 5, (b,), generator=rng)}
        cases.append(Case(args | {"evaluations": evaluations}, label=f"{b} images {shape}, {evaluations} evaluations"))
    return cases


quiz(
    "flows/entry",
    points=4,
    minutes=8,
    title="An entry of your own",
    equation="6.4",
    reference=sample,
    cases=_entry_cases,
    probe=_try_entry,
    measured=_about_entry,
    any_device=False,
    misconceptions=[
        Misconception(
            "one evaluation too many",
            _entry_walk(times=lambda schedule, k: schedule.timesteps(k + 1)),
            "You ask for more rows than `evaluations` times the batch. K strides of DDIM ask K times.",
        ),
        Misconception(
            "stopped before the end",
            _entry_walk(times=lambda schedule, k: [*range(schedule.T, 2, -(schedule.T // (k + 1)))][: k + 1]),
            "Your walk stops before step 0, with noise left in the images.",
        ),
        Misconception(
            "the labels dropped",
            _entry_walk(label=lambda y: None),
            "The classes that were dealt out, `y`, go to the network with every question.",
        ),
        Misconception(
            "from a noise of one's own",
            _entry_walk(first=lambda noise: torch.ones_like(noise[0])),
            "Your images don't depend on the noise that you were given. Begin at noise[0].",
        ),
    ],
    hints=[
        "Any sampler of notebook 06 will do for a beginning. DDIM without noise is the shortest.",
        "`schedule.timesteps(evaluations)` gives evaluations + 1 stops, from T to 0.",
        "At each stop ask for x̂₀, make ε̂ of it by `predict_noise`, and go to the next stop by `schedule.add_noise`.",
        "`x0 = denoise(x, at, y)`, then `x = schedule.add_noise(x0, to, predict_noise(schedule, x0, x, at))`, with at "
        "and to of shape (b,).",
    ],
    passed="That can be handed in. From here on it's about where the few stops lie, what is done between them, and "
    "above all about the network.",
    explanation="""
    With the library: `last(ddim(clipped(denoise), schedule, noise[0], evaluations, y))`. The stops needn't lie evenly,
    and a second-order step costs no evaluation more.
    """,
)
