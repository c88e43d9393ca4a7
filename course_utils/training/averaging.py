"""The moving average of a model's weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn


class EMA:
    r"""A copy of a model that holds an exponential moving average of its weights, for sampling: equation (5.8).

    Update number n, from 0:    \bar\theta <- d_n \bar\theta + (1 - d_n) \theta,    d_n = min(decay, (1 + n) / (10 +
    n)).

    d_n begins small so that the average forgets the random weights it started from; with a constant 0.999, a third of
    them would still be in it after 1,000 updates. Buffers, such as BatchNorm's statistics, are copied.
    model: the averaged copy, in eval mode and without gradients, to be used like the model itself.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> average = EMA(model, decay=0.999)
    >>> _ = nn.init.ones_(model.weight)
    >>> average.update(model)
    >>> round(average.model.weight.item(), 4)       # d_0 = 1/10
    0.9
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: expected a decay in [0, 1), such as 0.999, got {decay!r}")
        self.decay, self.updates = decay, 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights; call it after each optimizer step."""
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        # One call for all weights; a Python loop over them costs more than the arithmetic.
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - d)
        for mine, theirs in zip(self.model.buffers(), model.buffers()):
            mine.copy_(theirs)
        self.updates += 1

    def state_dict(self) -> dict:
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping) -> None:
        self.updates = state["updates"]
        self.model.load_state_dict(state["model"])
