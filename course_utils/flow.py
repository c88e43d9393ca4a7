"""Diffusion models seen as flows: straight paths from data to noise, and what turns one prediction into any other.

On a straight path x_u = (1 − u) · x_0 + u · ε, 0 ≤ u ≤ 1 (Lipman et al. 2023; Liu et al. 2023). Divided by its size
√((1−u)² + u²), it is a path of this course, x_t = √ᾱ_t · x_0 + √(1−ᾱ_t) · ε, with another schedule. So samplers,
guidance and losses need to know nothing of flows: there is one more schedule, and one more thing to predict.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .arrays import check_same_shape
from .diffusion import NO_SIGNAL, PREDICTION_TYPES, Schedule, whole_T
from .sampling.loop import Step

CONVERTIBLE = (*PREDICTION_TYPES, "score")


def flow_schedule(T: int = 1000) -> Schedule:
    """Straight paths at u = t/T: ᾱ_t = (1−u)² / ((1−u)² + u²), equation (10.3). Nothing is left of the image at T.

    >>> flow_schedule(4).alpha_bar
    tensor([1.0000, 0.9000, 0.5000, 0.1000, 0.0000], dtype=torch.float64)
    """
    whole_T(T)
    u = torch.arange(T + 1, dtype=torch.float64) / T
    return Schedule((1 - u) ** 2 / ((1 - u) ** 2 + u**2), "flow")


def on_straight_path(
    schedule: Schedule, x_t: Float[Tensor, "b ..."], t: Int[Tensor, "b"]
) -> tuple[Float[Tensor, "b ..."], Float[Tensor, " b"]]:
    """Where x_t of any schedule lies on the straight path: x_u = x_t / (√ᾱ_t + √(1−ᾱ_t)), and u, equation (10.1).

    >>> x_u, u = on_straight_path(Schedule(torch.tensor([1.0, 0.5])), torch.ones(1, 2), torch.tensor([1]))
    >>> x_u, u
    (tensor([[0.7071, 0.7071]]), tensor([0.5000]))
    """
    signal_rate, noise_rate = schedule.rates(t, x_t)
    size = signal_rate + noise_rate
    return x_t / size, (noise_rate / size).flatten()


def convert(
    schedule: Schedule,
    given: str,
    wanted: str,
    value: Float[Tensor, "b ..."],
    x_t: Float[Tensor, "b ..."],
    t: Int[Tensor, "b"],
) -> Float[Tensor, "b ..."]:
    """What one prediction about x_t says in the words of another, equation (10.4).

    given, wanted: "noise", "x0", "v", "velocity" or "score";  value: the prediction, like x_t;  t: (b,) in 1..T.
    Each of them is p · x0 + q · ε, and x_t is one more such combination: two equations, two unknowns.
    Raises ValueError for other names, and for "noise" or "score" at ᾱ_t = 0, where they say nothing about x0.

    >>> schedule, t = Schedule(torch.tensor([1.0, 0.5])), torch.tensor([1])
    >>> convert(schedule, "velocity", "x0", torch.tensor([[2.0]]), torch.tensor([[0.0]]), t)     # x0 = −ε there
    tensor([[-1.]])
    """
    for name in (given, wanted):
        if name not in CONVERTIBLE:
            raise ValueError(f"convert: expected {', '.join(map(repr, CONVERTIBLE))}, got {name!r}.")
    check_same_shape("convert", value=value, x_t=x_t)
    if given == wanted:
        return value
    a, b = schedule.rates(t, x_t)
    table = {"noise": (0, 1), "x0": (1, 0), "v": (-b, a), "velocity": (-1, 1), "score": (0, -1 / b)}
    (p, q), (p_wanted, q_wanted) = table[given], table[wanted]
    determinant = p * b - q * a
    if t.device.type == "cpu" and bool((t < 1).any()):
        raise ValueError(f"t: expected steps in 1..{schedule.T}, got {t.tolist()}.")
    if t.device.type == "cpu" and bool((determinant == 0).any()):
        raise ValueError(f"convert: {NO_SIGNAL}")
    x0, noise = (b * value - q * x_t) / determinant, (p * x_t - a * value) / determinant
    return p_wanted * x0 + q_wanted * noise


# ---------------------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------------------
def logit_normal_steps(mean: float = 0.0, std: float = 1.0) -> Callable[..., Tensor]:
    """A `draw` for `diffusion_loss` that prefers the middle of the path, equation (10.7).

    u = sigmoid(mean + std · z), z standard normal (Esser et al. 2024). Returns draw(n, T, generator, device) → (n,)
    steps in 1..T, stratified as `draw_steps` is.

    >>> logit_normal_steps()(4, 1000, torch.Generator().manual_seed(0)).diff().min() > 0
    tensor(True)
    """

    def draw(
        n: int, T: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> Int[Tensor, " n"]:
        start = torch.rand((), generator=generator, device=device)
        z = torch.special.ndtri((torch.arange(n, device=device) + start) / n)
        return ((mean + std * z).sigmoid() * T).ceil().long().clamp(1, T)

    return draw


def optimal_pairs(
    x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], y: Int[Tensor, "b"] | None = None
) -> Float[Tensor, "b ..."]:
    """The same noise, dealt out so that the sum of squared distances |x0 − noise|² of the batch is smallest.

    (Pooladian et al. 2023; Tong et al. 2024.) Straight paths cross less often so. y: labels (b,), or None; with labels
    noise changes places only within a class, so that each class still sees noise of all kinds.

    >>> optimal_pairs(torch.tensor([[0.0], [9.0]]), torch.tensor([[8.0], [1.0]])).flatten()
    tensor([1., 8.])
    """
    check_same_shape("optimal_pairs", x0=x0, noise=noise)
    dealt, classes = noise.clone(), torch.zeros(len(x0), dtype=torch.long) if y is None else y
    for one in classes.unique():
        rows = (classes == one).nonzero().flatten().to(x0.device)
        cost = torch.cdist(x0[rows].flatten(1).float(), noise[rows].flatten(1).float()).square()
        _, columns = linear_sum_assignment(cost.cpu().numpy())
        dealt[rows] = noise[rows[torch.from_numpy(columns).to(rows.device)]]
    return dealt


# ---------------------------------------------------------------------------------------------------------------------
# How straight?
# ---------------------------------------------------------------------------------------------------------------------
def straightness(steps: Iterable[Step], schedule: Schedule) -> float:
    """How far a path strays from its chord: 0 for a straight line at constant speed (Liu et al. 2023), equation (10.8).

    The mean over u of |ẋ_u − (x_1 − x_0)|², per pixel, with ẋ the speed between two steps on the straight-path scale.
    steps: those of a sampler that draws no noise on the way, from T to 0. The finer they are, the nearer to the path.

    >>> from course_utils.sampling import ddim
    >>> schedule, point = flow_schedule(10), lambda x, t, y=None: torch.full_like(x, 0.5)
    >>> round(straightness(ddim(point, schedule, torch.ones(2, 3), 5), schedule), 6)     # all data is one point
    0.0
    """
    places = [
        on_straight_path(schedule, step.x, torch.full((len(step.x),), step.t, device=step.x.device)) for step in steps
    ]
    (end, top), (start, bottom) = places[0], places[-1]
    chord = (end - start) / (top - bottom)[0]
    total = sum(
        ((u - v)[0] * ((x - z) / (u - v)[0] - chord).square().mean() for (x, u), (z, v) in pairwise(places)),
        start=chord.new_zeros(()),
    )
    return (total / (top - bottom)[0]).item()
