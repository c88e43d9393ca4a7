"""What notebook 10 finds: a borrowed network told the wrong time, and guesses clipped before they are guided."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ..diffusion import Denoise, Denoiser, Schedule, predict_noise

__all__ = ["another_house", "borrowed", "guided"]


def another_house(denoiser: Denoiser) -> Callable[..., Tensor]:
    """The course's model as a flow of another house: (x, τ (b,), y) → dx/dτ, where x = τ · image + (1 − τ) · noise.

    Nothing is wrong with it: its clock runs from noise, τ = 0, to images, τ = 1.
    """
    alpha_bar = denoiser.schedule.alpha_bar
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    shares = signal / (signal + noise)

    @torch.no_grad()
    def network(x: Tensor, clock: Tensor, y: Tensor | None = None) -> Tensor:
        t = (shares - clock[:, None]).abs().argmin(1).clamp(min=1)
        x_t = x * sum(denoiser.schedule.rates(t, x))
        x0 = denoiser(x_t, t, y)
        return x0 - predict_noise(denoiser.schedule, x0, x_t, t)

    return network


def borrowed(theirs: Callable[..., Tensor], noise: Tensor, strides: int, y: Tensor | None = None) -> Tensor:
    """Images by Heun's strides along a borrowed network. (What is wrong with it is the question in notebook 10.)"""

    def velocity(x: Tensor, u: float) -> Tensor:
        clock = torch.full((len(x),), u, device=x.device)
        return -theirs(x, clock, y)

    x = noise
    for u, after in pairwise(torch.linspace(1, 0, strides + 1).tolist()):
        slope = velocity(x, u)
        if after > 0:
            slope = (slope + velocity(x + (after - u) * slope, after)) / 2
        x = x + (after - u) * slope
    return x


def guided(denoise: Denoise, schedule: Schedule, w: float, null: int, y: Tensor) -> Callable[[Tensor, float], Tensor]:
    """A guided velocity (x_u, u) → dx/du. (What is wrong with it is the question in notebook 10.)"""
    signal, noise = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    shares = noise / (signal + noise)

    def velocity(x_u: Tensor, u: float) -> Tensor:
        t = int((shares - u).abs().argmin())
        x_t, steps = (signal[t] + noise[t]).item() * x_u, torch.full((len(x_u),), t, device=x_u.device)
        of_any, of_y = (denoise(x_t, steps, label).clamp(-1, 1) for label in (torch.full_like(y, null), y))
        return (x_u - of_any - w * (of_y - of_any)) / u

    return velocity
