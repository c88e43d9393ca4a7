"""What notebook 11 finds in latent diffusion: codes that were never scaled, and guesses blended with what is drawn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..diffusion import Denoise, Schedule
from ..sampling import ddim, last

__all__ = ["InAnotherUnit", "drawing", "variations"]


class InAnotherUnit(nn.Module):
    """The same autoencoder, whose codes are `factor` times as wide. Nothing is wrong with it: images stay as they were.

    >>> from course_utils.models.autoencoder_kl import AutoencoderKL
    >>> model, x = AutoencoderKL((1, 8, 8)), torch.zeros(2, 1, 8, 8)
    >>> wide = InAnotherUnit(model, 5.0)
    >>> bool(torch.allclose(wide.decode(wide.encode(x)[0]), model(x), atol=1e-6))
    True
    """

    def __init__(self, autoencoder: nn.Module, factor: float):
        super().__init__()
        self.autoencoder, self.factor = autoencoder, factor

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, in the new unit."""
        mean, log_var = self.autoencoder.encode(x)
        return self.factor * mean, log_var + 2 * torch.tensor(self.factor).log()

    def decode(self, z: Tensor) -> Tensor:
        """The image of each code in the new unit."""
        return self.autoencoder.decode(z / self.factor)


@torch.no_grad()
def variations(
    denoise: Denoise,
    schedule: Schedule,
    autoencoder: nn.Module,
    scale: float,
    images: Tensor,
    noise: Tensor,
    y: Tensor,
    t: int,
    steps: int,
) -> Tensor:
    """Images drawn anew from step t on. (What is wrong with it is the question in notebook 11.)"""
    stops = [round(t * (steps - k) / steps) for k in range(steps + 1)]
    at = torch.full((len(images),), t, device=images.device)
    mean, _ = autoencoder.encode(images)
    z_t = schedule.add_noise(mean, at, noise)
    return autoencoder.decode(last(ddim(denoise, schedule, z_t, stops, y)) / scale)


@torch.no_grad()
def drawing(
    denoise: Denoise, schedule: Schedule, autoencoder: nn.Module, scale: float, noise: Tensor, y: Tensor, steps: int
) -> Tensor:
    """Images of a latent model. (What is wrong with it is the question in notebook 11.)"""
    guesses = [step.x0 for step in ddim(denoise, schedule, noise, steps, y) if step.x0 is not None]
    return torch.stack([autoencoder.decode(guess / scale) for guess in guesses]).mean(0)
