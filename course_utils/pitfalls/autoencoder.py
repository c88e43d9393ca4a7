"""What notebook 01 finds: a training loop whose loss has never looked better."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..training import until_stopped

__all__ = ["training_loop"]


def training_loop(model: nn.Module, loss: Callable, images: Tensor, steps: int, lr: float, seed: int) -> list[float]:
    """Adam on batches of 64 of the images (n, c, h, w), and the loss of each step. (What is wrong is the question.)"""
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    model.train()
    for step in until_stopped(range(steps)):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(images), generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        value = loss(model, images[order[:64]])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    model.eval()
    return losses
