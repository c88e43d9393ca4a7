"""What notebook 08 finds: a discriminator that cannot tell much, and an album that shrinks with the size of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["Discriminator", "album"]


class Discriminator(nn.Module):
    """Images (b, c, h, w) to one logit each. (What is wrong with it is the question in notebook 08.)

    >>> Discriminator((1, 8, 12), (4, 6))(torch.zeros(5, 1, 8, 12)).shape
    torch.Size([5])
    """

    def __init__(self, shape: tuple[int, int, int], widths: tuple[int, int] = (32, 64)):
        super().__init__()
        c, h, w = shape
        self.first = nn.Conv2d(c, widths[0], 4, stride=2, padding=1)
        self.second = nn.Conv2d(widths[0], widths[1], 4, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(widths[1])
        self.leaky = nn.Hardtanh(0.0, 0.2)
        self.logit = nn.Linear(widths[1] * (h // 4) * (w // 4), 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.leaky(self.first(x))
        h = self.leaky(self.norm(self.second(h)))
        return self.logit(h.flatten(1)).squeeze(1)


@torch.no_grad()
def album(generator: Callable, codes: Tensor, size: int) -> Tensor:
    """Images of all codes (n, d), `size` at a time. (What is wrong with it is the question in notebook 08.)

    >>> album(lambda z: z, torch.zeros(12, 3), size=6).ndim
    2
    """
    generated = []
    for part in codes.split(size):
        generate = generator(part).clamp(-1, 1)
        generated.append(generate)
    return generate
