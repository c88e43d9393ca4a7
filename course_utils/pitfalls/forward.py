"""What notebook 03 finds: noise of the wrong size, a table read one step off, and a pair in the wrong order."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["look_up", "noise_images", "training_pair"]


def noise_images(x0: Tensor, t: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t as in `Schedule.add_noise`, but with the noise's variance in the place of its standard deviation.

    >>> noise_images(torch.zeros(1, 1), torch.tensor([1]), torch.ones(1, 1), torch.tensor([1.0, 0.75]))
    tensor([[0.2500]])
    """
    kept = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return kept.sqrt() * x0 + (1 - kept) * noise


def look_up(t: Tensor, beta: Tensor) -> Tensor:
    """ᾱ_t of every image from β_1 ... β_T, but with that of the step before.

    >>> look_up(torch.tensor([1, 2]), torch.tensor([0.5, 0.5]))
    tensor([1.0000, 0.5000])
    """
    return torch.cat([torch.ones_like(beta[:1]), (1 - beta).cumprod(0)])[t - 1]


def training_pair(x0: Tensor, t: Tensor, noise: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    """What a network is shown and what it should answer, but the one in the place of the other.

    >>> shown, answer = training_pair(torch.zeros(1, 1), torch.tensor([1]), torch.ones(1, 1), torch.tensor([1.0, 0.75]))
    >>> shown, answer
    (tensor([[1.]]), tensor([[0.5000]]))
    """
    kept = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return noise, kept.sqrt() * x0 + (1 - kept).sqrt() * noise
