"""The quizzes of notebook 10, "Straight lines"."""

from itertools import pairwise

import torch
from torch import nn

from course_utils import diffusion as library
from course_utils import flow
from course_utils.data import GaussianMixture

from ..quizzes.declarations import Case, Fixture, Misconception, Option, Tolerance, concept, fixture, quiz

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
    reference=_path_with(),
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
    reference=_marginal_with(),
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
    reference=_velocity_with(),
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
    title="Whom do you know by another name?",
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
    reference=_loss_with(),
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
    title="Where is there something to learn?",
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
            "$\\varepsilon-x_0$ doesn't depend on $u$, and its *mean* given $x_u$ isn't largest in the middle either.",
        ),
    },
)


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
    reference=_steps_with(),
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
    reference=_heun_with(),
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
    reference=_borrowed_with(),
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
    reference=_guided_with(),
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
