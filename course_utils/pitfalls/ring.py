"""What notebook 08 finds on the ring: curves that are called losses and are none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["curves"]


def curves(discriminator: Callable, x: Tensor, fake: Tensor) -> tuple[float, float]:
    """The discriminator's and the generator's loss. (What is wrong with them is the question in notebook 08.)"""
    with torch.no_grad():
        real, made = discriminator(x), discriminator(fake)
    logits, labels = torch.cat([real, made]), torch.cat([torch.ones_like(real), torch.zeros_like(made)])
    d_loss = ((logits > 0).to(labels) == labels).double().mean()
    g_loss = (made > 0).double().mean()
    return d_loss.item(), g_loss.item()
