"""Langevin dynamics: uphill along the score, with noise. The ancestor of diffusion sampling, and its corrector."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arrays import Generators, normal_like
from ..diffusion import Denoise, Schedule, predict_noise
from .loop import Step, timesteps

__all__ = ["annealed_langevin", "langevin_dynamics", "langevin_step", "score_of"]

Score = Callable[[Tensor], Tensor]  # x (b, ...) -> ∇ ln p(x), of the same shape


def score_of(denoise: Denoise, schedule: Schedule) -> Callable[..., Tensor]:
    """The score ∇ ln q(x_t) that a denoiser implies, by Tweedie's formula (3.9): (√ᾱ_t x̂_0 − x_t) / (1 − ᾱ_t).

    Returns a function (x_t (b, ...), t (b,), y=None) → score, like x_t; t in 1..T (ValueError at 0, on the CPU).

    >>> from course_utils.diffusion import Schedule
    >>> score = score_of(lambda x, t, y: 0 * x, Schedule(torch.tensor([1.0, 0.75])))     # all data are 0
    >>> score(torch.ones(1, 2), torch.tensor([1]))
    tensor([[-4., -4.]])
    """

    def score(x_t: Tensor, t: Int[Tensor, "b"], y: Tensor | None = None) -> Tensor:
        _, noise_rate = schedule.rates(t, x_t)
        return -predict_noise(schedule, denoise(x_t, t, y), x_t, t) / noise_rate

    return score


@torch.no_grad()
def langevin_step(
    x: Float[Tensor, "b ..."], score: Score, h: float, noise: Float[Tensor, "b ..."]
) -> Float[Tensor, "b ..."]:
    """x + h ∇ ln p(x) + √(2 h) · noise, one step of Langevin dynamics, equation (6.13).

    score: x → ∇ ln p(x), like x;  h: above 0;  noise: like x, standard normal. Returns a tensor like x.

    >>> langevin_step(torch.ones(1, 1), lambda x: -x, 0.5, torch.zeros(1, 1))
    tensor([[0.5000]])
    """
    return x + h * score(x) + (2 * h) ** 0.5 * noise


def langevin_dynamics(
    score: Score,
    start: Float[Tensor, "b ..."],
    step_size: float,
    steps: int = 100,
    generator: Generators | None = None,
) -> Iterator[Float[Tensor, "b ..."]]:
    """`langevin_step` over and over: for small h, x comes to be distributed as p.

    score: x → ∇ ln p(x);  start: (b, ...);  step_size: h > 0, in units of x². Yields x, `steps` + 1 times, the start
    first. There is no end to arrive at: p is what stays the same, up to an error that shrinks with h.

    >>> chain = langevin_dynamics(lambda x: -x, torch.zeros(1000, 1), 0.1, 50, torch.Generator().manual_seed(0))
    >>> [*chain][-1].std() > 0.9                                                            # p = N(0, 1)
    tensor(True)
    """
    _above_zero(step_size)
    _whole("steps", steps)
    x = start
    yield x
    for _ in range(steps):
        x = langevin_step(x, score, step_size, normal_like(x, generator))
        yield x


def _above_zero(step_size: float) -> None:
    if not 0 < step_size < math.inf:
        raise ValueError(f"step_size: expected a number above 0, got {step_size!r}.")


def _whole(name: str, steps: int) -> None:
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"{name}: expected a whole number of Langevin steps, at least 1, got {steps!r}.")


def annealed_langevin(
    denoise: Denoise,
    schedule: Schedule,
    noise: Float[Tensor, "b ..."],
    steps: int | Sequence[int] = 10,
    y: Int[Tensor, "b"] | None = None,
    each: int = 10,
    step_size: float = 0.1,
    generator: Generators | None = None,
) -> Iterator[Step]:
    """Langevin dynamics at one noise level after another, from T down, equation (6.14) (Song and Ermon 2019).

    steps: how many levels, or the levels themselves;  each: Langevin steps at a level;  step_size: h at step t is this
    times 1 − ᾱ_t, so that no level is too coarse. It ends with the last prediction. Needs `each` + 1 evaluations of
    the network a level. Other arguments as for `ddim`.
    """
    _above_zero(step_size)
    _whole("each", each)
    times, alpha_bar, score = timesteps(schedule, steps), schedule.alpha_bar.tolist(), score_of(denoise, schedule)
    x = noise
    yield Step(times[0], x, None)
    for t, s in pairwise(times):
        at = torch.full((len(x),), t, device=x.device)
        for _ in range(each):
            h = step_size * (1 - alpha_bar[t])
            x = langevin_step(x, lambda x, at=at: score(x, at, y), h, normal_like(x, generator))
        with torch.no_grad():
            x0 = denoise(x, at, y)
        x = x0 if s == 0 else x  # a level has variance about 1, like the one before: x can stay where it is
        yield Step(s, x, x0)
