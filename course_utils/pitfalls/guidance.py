"""What notebook 07 finds: a guide that hears less the more images there are, and a loss that never drops a label."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion import Denoise, Schedule, draw_steps, predict_noise, predict_x0

__all__ = ["class_loss", "with_classifier"]


def with_classifier(denoise: Denoise, schedule: Schedule, classifier: Callable, scale: float) -> Denoise:
    """A denoiser led by a classifier (x_t, t) -> logits. (What is wrong with it is the question in notebook 07.)"""

    def guided(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        noise = predict_noise(schedule, denoise(x_t, t), x_t, t)
        _, noise_rate = schedule.rates(t, x_t)
        with torch.enable_grad():
            x = x_t.detach().clone().requires_grad_()
            (downhill,) = torch.autograd.grad(F.cross_entropy(classifier(x, t), y), x)
        return predict_x0(schedule, "noise", noise + noise_rate * scale * downhill, x_t, t)

    return guided


def class_loss(
    model: nn.Module, x0: Tensor, y: Tensor, generator: torch.Generator, schedule: Schedule, null: int, share: float
) -> Tensor:
    """Squared error of v, a mean over batch and pixels. (What is wrong with it is the question in notebook 07.)"""
    t = draw_steps(len(x0), schedule.T, generator, x0.device)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    lost = torch.rand(len(y), generator=generator, device=y.device) < share
    labels = y.clone()
    labels.masked_fill(lost, null)
    signal_rate, noise_rate = schedule.rates(t, x0)
    guess = model(signal_rate * x0 + noise_rate * noise, t, labels).float()
    return (guess - (signal_rate * noise - noise_rate * x0)).square().mean()
