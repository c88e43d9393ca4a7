"""From noise to images with any denoiser (x_t, t, y=None) → x̂_0: one loop, and DDIM, DDPM and what lies between.

The loop asks the denoiser at every stop and leaves the stride to a *move*. A sampler is a move and a docstring.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..diffusion import Denoise, Schedule


class Step(NamedTuple):
    """Where a sampler stands: at step t with images x, having last guessed x0 (None before the first guess)."""

    t: int
    x: Tensor
    x0: Tensor | None


class Stride(NamedTuple):
    """All that a move may need: at t with images x and the guess x0, on the way to s.

    now, after: ᾱ_t and ᾱ_s;  guess: asks the denoiser once more, guess(x, t) → x̂_0.
    """

    t: int
    s: int
    x: Tensor
    x0: Tensor
    now: float
    after: float
    guess: Callable[[Tensor, int], Tensor]

    @property
    def implied(self) -> Tensor:
        """The noise that the guess leaves over: ε̂ = (x_t − √ᾱ_t x̂_0) / √(1 − ᾱ_t)."""
        return (self.x - self.now**0.5 * self.x0) / (1 - self.now) ** 0.5


Move = Callable[[Stride], Tensor]  # the images at s


def stroll(
    move: Move,
    denoise: Denoise,
    schedule: Schedule,
    noise: Float[Tensor, "b ..."],
    times: Sequence[int],
    y: Int[Tensor, "b"] | None = None,
) -> Iterator[Step]:
    """The loop of every sampler, as a generator: one `Step` at the start and one after each stride.

    times: the stops, as `stops` gives them. (It is called before the generator is made, so that wrong ones are answered
    at the call, and not at the first step.)
    """
    alpha_bar, x = schedule.alpha_bar.tolist(), noise

    def guess(x: Tensor, t: int) -> Tensor:
        return denoise(x, torch.full((len(x),), t, device=x.device), y)

    yield Step(times[0], x, None)
    for t, s in pairwise(times):
        with torch.no_grad():  # not around the yield: whoever watches the walk may want gradients
            x0 = guess(x, t)
            x = move(Stride(t, s, x, x0, alpha_bar[t], alpha_bar[s], guess))
        yield Step(s, x, x0)


def stops(schedule: Schedule, steps: int | Sequence[int]) -> list[int]:
    """Where a walk stops: `schedule.timesteps(steps)` for a number, equation (6.3); a list is looked at and given back.

    Raises ValueError unless the list falls, from T or less to 0 or more.

    >>> from course_utils.diffusion import cosine_schedule
    >>> stops(cosine_schedule(1000), 4), stops(cosine_schedule(1000), [900, 10, 0])
    ([1000, 750, 500, 250, 0], [900, 10, 0])
    """
    if isinstance(steps, int) or not isinstance(steps, Sequence) or isinstance(steps, str):
        return schedule.timesteps(steps)
    whole = all(isinstance(t, int) and not isinstance(t, bool) for t in steps)
    if not whole or len(steps) < 2 or [*steps] != sorted({*steps} & {*range(schedule.T + 1)}, reverse=True):
        raise ValueError(
            f"steps: expected at least two whole numbers, falling, within {schedule.T}..0, got {list(steps)}."
        )
    return list(steps)


def walk(
    denoise: Denoise,
    schedule: Schedule,
    noise: Float[Tensor, "b ..."],
    steps: int | Sequence[int] = 50,
    y: Int[Tensor, "b"] | None = None,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """From noise at T to images at 0, equations (6.4) and (6.5). η = 0 is deterministic (DDIM, Song et al. 2021, their
    12 and 16), η = 1 is ancestral sampling (DDPM) with the posterior's variance.

    noise: (b, ...), mostly images (b, c, h, w), standard normal;  steps: strides, 1..T, or the stops themselves;
    y: (b,) labels, or None;  eta: in [0, 1].

    >>> from course_utils.diffusion import cosine_schedule
    >>> to_zero = walk(lambda x, t, y: 0 * x, cosine_schedule(100), torch.randn(2, 1, 4, 4), steps=4)
    >>> [step.t for step in to_zero]
    [100, 75, 50, 25, 0]
    """
    share_of_noise(eta)

    def move(at: Stride) -> Tensor:
        sigma = eta * posterior_variance(at) ** 0.5
        x = at.after**0.5 * at.x0 + max(1 - at.after - sigma**2, 0.0) ** 0.5 * at.implied
        return with_noise(x, sigma, generator)

    return stroll(move, denoise, schedule, noise, stops(schedule, steps), y)


def ancestral(
    denoise: Denoise,
    schedule: Schedule,
    noise: Float[Tensor, "b ..."],
    steps: int | Sequence[int] = 50,
    y: Int[Tensor, "b"] | None = None,
    spread: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """Algorithm 2 of DDPM (Ho et al. 2020): the posterior's mean, and noise of a variance between two extremes.
    Equations (6.1) and (6.2).

    spread: κ; 0 takes the posterior's variance, right if the data are one point, 1 takes β = 1 − ᾱ_t/ᾱ_s, right if they
    are standard normal; between them the logarithm of the variance is shared out (Nichol and Dhariwal 2021, equation
    15). No noise is added on the stride that ends at 0. (`diffusers` leaves it out only where that stride begins at
    step 1, so that after longer ones its images hold noise of variance β.) Other arguments as for `walk`.
    """
    if not 0 <= spread <= 1:
        raise ValueError(
            f"spread: expected a number in [0, 1], 0 for the posterior's variance and 1 for β, got {spread!r}."
        )

    def move(at: Stride) -> Tensor:
        small, beta = posterior_variance(at), 1 - at.now / at.after
        x = at.after**0.5 * at.x0 + max(1 - at.after - small, 0.0) ** 0.5 * at.implied
        return with_noise(x, (small ** (1 - spread) * beta**spread) ** 0.5 if at.s else 0.0, generator)

    return stroll(move, denoise, schedule, noise, stops(schedule, steps), y)


def share_of_noise(eta: float) -> None:
    """Raises ValueError unless η is between that of DDIM and that of DDPM."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: expected a number in [0, 1], 0 for DDIM and 1 for DDPM, got {eta!r}.")


def posterior_variance(at: Stride) -> float:
    """Of q(x_s | x_t, x_0), equation (3.8)."""
    return (1 - at.after) / (1 - at.now) * (1 - at.now / at.after)


def with_noise(x: Tensor, sigma: float, generator: torch.Generator | None) -> Tensor:
    """x + σ z with fresh z; for σ = 0 nothing is drawn."""
    if sigma == 0:
        return x
    return x + sigma * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def last(steps: Iterator[Step]) -> Tensor:
    """Run a sampler to its end and return the images, like its noise. What lies between isn't kept."""
    for step in steps:
        end = step.x
    return end
