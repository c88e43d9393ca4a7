"""Training code that runs, reads well and is wrong: what the symptoms in notebook 05 come from. Not for use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def draw_examples(x0: Tensor, schedule: Any, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, t and noise for Algorithm 1, with a fault in how they are drawn."""
    t = torch.randint(1, schedule.T + 1, (1,), generator=generator, device=x0.device).expand(len(x0))
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    return schedule.add_noise(x0, t, noise), t, noise


def shared_loss(model: Any, x0: Tensor, t: Tensor, noise: Tensor, schedule: Any) -> Tensor:
    """A loss that any network can bring to 0 without having learned a thing."""
    x_t = schedule.add_noise(x0, t, noise)
    return (model(x_t, t) - x_t).square().mean()
