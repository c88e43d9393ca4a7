"""The loop of every sampler: from noise to images with any denoiser (x_t, t, y=None) → x̂_0.

A *stride* leads from timestep t down to s; a *move* computes the images at s; a `Step` is where the loop stands between
two strides. The loop asks the denoiser at every t and leaves the rest to the move: a sampler is a move and a docstring.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arrays import Generators, is_whole, normal_like
from ..diffusion import Denoise, Schedule

__all__ = ["Step", "last", "timesteps"]


class Step(NamedTuple):
    """Where a sampler stands: at step t with images x, having last predicted x0 (None before the first prediction)."""

    t: int
    x: Tensor
    x0: Tensor | None


class Stride(NamedTuple):
    """All that a move may need: at t with images x and the prediction x0, on the way to s.

    alpha_bar_t, alpha_bar_s: ᾱ at both ends;  denoise: asks the denoiser once more, denoise(x, t) → x̂_0.
    """

    t: int
    s: int
    x: Tensor
    x0: Tensor
    alpha_bar_t: float
    alpha_bar_s: float
    denoise: Callable[[Tensor, int], Tensor]

    @property
    def eps(self) -> Tensor:
        """The noise that the prediction implies, equation (5.7): ε̂ = (x_t − √ᾱ_t x̂_0) / √(1 − ᾱ_t)."""
        return (self.x - self.alpha_bar_t**0.5 * self.x0) / (1 - self.alpha_bar_t) ** 0.5

    @property
    def posterior_variance(self) -> float:
        """Of q(x_s | x_t, x_0), equation (3.8)."""
        return (1 - self.alpha_bar_s) / (1 - self.alpha_bar_t) * (1 - self.alpha_bar_t / self.alpha_bar_s)


Move = Callable[[Stride], Tensor]  # the images at s


def sample_loop(
    move: Move,
    denoise: Denoise,
    schedule: Schedule,
    noise: Float[Tensor, "b ..."],
    times: Sequence[int],
    y: Int[Tensor, "b"] | None = None,
) -> Iterator[Step]:
    """The loop, as a generator: one `Step` at the start and one after each stride.

    times: as `timesteps` gives them. Samplers call it themselves, so that wrong `steps` are answered at the call, and
    not at the first step.
    """
    alpha_bar, x = schedule.alpha_bar.tolist(), noise

    def ask(x: Tensor, t: int) -> Tensor:
        return denoise(x, torch.full((len(x),), t, device=x.device), y)

    yield Step(times[0], x, None)
    for t, s in pairwise(times):
        with torch.no_grad():  # not around the yield: whoever watches the trajectory may want gradients
            x0 = ask(x, t)
            x = move(Stride(t, s, x, x0, alpha_bar[t], alpha_bar[s], ask))
        yield Step(s, x, x0)


def last(steps: Iterator[Step]) -> Tensor:
    """Run a sampler to its end and return the images, like its noise. What lies between isn't kept."""
    for step in steps:
        end = step.x
    return end


def timesteps(schedule: Schedule, steps: int | Sequence[int]) -> list[int]:
    """The timesteps of a sampler: `schedule.timesteps(steps)` for a number, equation (6.3); a list is checked.

    Raises ValueError unless the list falls, from T or less to 0 or more.

    >>> from course_utils.diffusion import cosine_schedule
    >>> timesteps(cosine_schedule(1000), 4), timesteps(cosine_schedule(1000), [900, 10, 0])
    ([1000, 750, 500, 250, 0], [900, 10, 0])
    """
    if isinstance(steps, int) or not isinstance(steps, Sequence) or isinstance(steps, str):
        return schedule.timesteps(steps)
    whole = all(map(is_whole, steps))
    if not whole or len(steps) < 2 or [*steps] != sorted({*steps} & {*range(schedule.T + 1)}, reverse=True):
        raise ValueError(
            f"steps: expected at least two whole numbers, falling, within {schedule.T}..0, got {list(steps)}."
        )
    return list(steps)


def with_noise(x: Tensor, sigma: float, generator: Generators | None) -> Tensor:
    """x + σ z with fresh z; for σ = 0 nothing is drawn."""
    if sigma == 0:
        return x
    return x + sigma * normal_like(x, generator)
