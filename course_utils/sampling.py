"""From noise to images: the walk back along a schedule, with any denoiser (x_t, t, y=None) → x̂_0."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .diffusion import Denoise, Schedule


class Step(NamedTuple):
    """Where a sampler stands: at step t with images x, having last guessed x0 (None before the first guess)."""

    t: int
    x: Tensor
    x0: Tensor | None


def clipped(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """The same denoiser with its guesses kept in the range of images."""
    return lambda x_t, t, y=None: denoise(x_t, t, y).clamp(low, high)


def walk(
    denoise: Denoise,
    schedule: Schedule,
    noise: Float[Tensor, "b ..."],
    steps: int = 50,
    y: Int[Tensor, "b"] | None = None,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """From noise at T to images at 0, as a generator: one `Step` at the start and one after each stride.

    η = 0 is deterministic (DDIM, Song et al. 2021, equations 12 and 16), η = 1 is ancestral sampling (DDPM).
    noise: (b, ...), mostly images (b, c, h, w), standard normal;  steps: strides, 1..T;  y: (b,) labels, or None;
    eta: in [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: expected a number in [0, 1], 0 for DDIM and 1 for DDPM, got {eta!r}.")
    x = noise
    times, alpha_bar = schedule.timesteps(steps), schedule.alpha_bar.tolist()
    yield Step(times[0], x, None)
    for t, s in pairwise(times):
        now, after = alpha_bar[t], alpha_bar[s]
        with torch.no_grad():  # not around the yield: whoever watches the walk may want gradients
            x0 = denoise(x, torch.full((len(x),), t, device=x.device), y)
            implied = (x - now**0.5 * x0) / (1 - now) ** 0.5  # the noise that this guess leaves over
            sigma = eta * ((1 - after) / (1 - now) * (1 - now / after)) ** 0.5
            x = after**0.5 * x0 + max(1 - after - sigma**2, 0.0) ** 0.5 * implied
            if sigma > 0:
                x = x + sigma * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        yield Step(s, x, x0)


def last(steps: Iterator[Step]) -> Tensor:
    """Run a sampler to its end and return the images, like its noise. What lies between isn't kept."""
    for step in steps:
        end = step.x
    return end
