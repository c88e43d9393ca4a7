"""Diffusion models seen as flows: straight paths from data to noise, and what turns one prediction into any other.

On a straight path x_u = (1 − u) · x_0 + u · ε, 0 ≤ u ≤ 1 (Lipman et al. 2023; Liu et al. 2023). Divided by its size
√((1−u)² + u²), it is a path of this course, x_t = √ᾱ_t · x_0 + √(1−ᾱ_t) · ε, with another schedule. So samplers,
guidance and losses need to know nothing of flows: there is one more schedule, and one more thing to predict.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .arrays import check_same_shape
from .diffusion import NO_SIGNAL, PREDICTION_TYPES, Schedule, whole_T

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
