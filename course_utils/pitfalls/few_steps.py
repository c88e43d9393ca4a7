"""What notebook 10 finds on the way to few steps: pairs that have lost each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["pairs"]


def pairs(
    draw: Callable[[Tensor, Tensor], Tensor],
    shape: Sequence[int],
    n: int,
    num_classes: int,
    generator: torch.Generator,
    batch: int,
) -> tuple[Tensor, Tensor]:
    """Examples (n, 2c, h, w), images and noise, and labels (n,). (What is wrong is the question in notebook 10.)

    draw: (noise (b, c, h, w), labels (b,)) -> images, for at most `batch` at a time;  shape: (c, h, w).

    >>> examples, labels = pairs(lambda noise, y: noise.tanh(), (1, 4, 4), 6, 3, torch.Generator().manual_seed(0), 4)
    >>> examples.shape, labels.sort().values.tolist()
    (torch.Size([6, 2, 4, 4]), [0, 0, 1, 1, 2, 2])
    """
    labels = torch.arange(n, device=generator.device) * num_classes // n
    images, noises = [], []
    for y in labels.split(batch):
        noise = torch.randn(len(y), *shape, generator=generator, device=generator.device)
        images.append(draw(noise, y))
        noises.append(noise)
    order = torch.randperm(n, generator=generator, device=generator.device)
    return torch.cat([torch.cat(images)[order], torch.cat(noises)], dim=1), labels[order]
