"""Four samplers that run, read well and are wrong, to look at what a mistake does to images before looking for it.

Each walks along all T steps of a schedule, which may be a coarse one. Notebook 06 asks what is wrong with them. Use
`ddpm` and `ddim` for anything else.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion import Denoise, Schedule

__all__ = ["sampler_a", "sampler_b", "sampler_c", "sampler_d", "step_b"]


@torch.no_grad()
def sampler_a(
    denoise: Denoise, schedule: Schedule, x: Float[Tensor, "b ..."], draws: Float[Tensor, "steps b ..."]
) -> Float[Tensor, "b ..."]:
    """From noise x to something like images. draws: (T + 1, b, ...), draws[t] is the noise of step t."""
    for t in range(schedule.T, 1, -1):
        mean, variance = _posterior(denoise, schedule, x, t)
        x = mean + variance.sqrt() * draws[t]
    return x


@torch.no_grad()
def sampler_b(
    denoise: Denoise, schedule: Schedule, x: Float[Tensor, "b ..."], draws: Float[Tensor, "steps b ..."]
) -> Float[Tensor, "b ..."]:
    """Another one, of single steps `step_b`; arguments as for `sampler_a`."""
    for t in range(schedule.T, 0, -1):
        x = step_b(x, denoise(x, torch.full((len(x),), t, device=x.device)), t, draws[t], schedule)
    return x


def step_b(
    x_t: Float[Tensor, "b ..."], x0: Float[Tensor, "b ..."], t: int, noise: Float[Tensor, "b ..."], schedule: Schedule
) -> Float[Tensor, "b ..."]:
    """One step of `sampler_b`, from t to t − 1, with the prediction x0."""
    mean, variance = schedule.posterior(x0, x_t, torch.full((len(x_t),), t, device=x_t.device))
    return mean * variance.sqrt() * noise


@torch.no_grad()
def sampler_c(
    denoise: Denoise, schedule: Schedule, x: Float[Tensor, "b ..."], draws: Float[Tensor, "steps b ..."]
) -> Float[Tensor, "b ..."]:
    """A third one; arguments as for `sampler_a`."""
    for t in range(schedule.T, 0, -1):
        mean, _ = _posterior(denoise, schedule, x, t)
        x = mean + schedule.beta[t].sqrt().to(x.dtype) * draws[t]
    return x


@torch.no_grad()
def sampler_d(
    denoise: Denoise,
    schedule: Schedule,
    x: Float[Tensor, "b ..."],
    draws: Float[Tensor, "steps b ..."],
    eta: float = 0.0,
) -> Float[Tensor, "b ..."]:
    """A fourth one, with η; other arguments as for `sampler_a`."""
    for t in range(schedule.T, 0, -1):
        now, after = schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        x0 = denoise(x, torch.full((len(x),), t, device=x.device))
        implied = (x - now.sqrt() * x0) / (1 - now).sqrt()
        sigma = eta * ((1 - after) / (1 - now) * (1 - now / after)).sqrt()
        x = after.sqrt() * x0 + (1 - after - sigma).clamp(min=0).sqrt() * implied + sigma * draws[t]
    return x


def _posterior(denoise: Denoise, schedule: Schedule, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    at = torch.full((len(x),), t, device=x.device)
    return schedule.posterior(denoise(x, at), x, at)
