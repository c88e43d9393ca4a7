"""The optimizer of a recipe, its learning rate in every step, and the memory layout in which both are fastest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .averaging import EMA
from .muon import Muon
from .recipe import Recipe, learning_rate_factor

NAMED = {None: torch.optim.Adam, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer that the recipe names, makes or holds, on the model's trainable weights."""
    kind, weights = recipe.optimizer, [weight for weight in model.parameters() if weight.requires_grad]
    kind = Muon if kind == "muon" else kind
    if not weights:
        raise ValueError("model: expected weights to train, got none that require a gradient")
    if isinstance(kind, torch.optim.Optimizer):
        trained = {id(weight) for group in kind.param_groups for weight in group["params"]}
        if not trained & {id(weight) for weight in weights}:
            raise ValueError("optimizer: it holds none of this model's weights; make it from model.parameters()")
        return kind
    if callable(kind):
        return kind(weights, lr=recipe.lr)
    if kind not in NAMED:
        raise ValueError(
            f"optimizer: expected 'adam', 'adamw', 'sgd', 'muon', a callable or an Optimizer, got {kind!r}"
        )
    # One fused kernel for all weights, instead of a dozen small ones for each.
    return NAMED[kind](weights, lr=recipe.lr, fused=weights[0].device.type in ("cpu", "cuda"))


@contextlib.contextmanager
def learning_rates(parts: Mapping[str, Any], recipe: Recipe) -> Iterator[Callable[[int], None]]:
    """`set(step)` puts every optimizer at its place in the schedule; afterwards they have their own rates again."""
    optimizers = [part for part in parts.values() if isinstance(part, torch.optim.Optimizer)]
    tops = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]

    def set_all(factor: float) -> None:
        for optimizer, rates in zip(optimizers, tops):
            for group, top in zip(optimizer.param_groups, rates):
                group["lr"] = top * factor

    try:
        yield lambda step: set_all(learning_rate_factor(step, recipe))
    finally:
        set_all(1.0)


@contextlib.contextmanager
def fastest_layout(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: EMA | None, recipe: Recipe
) -> Iterator[None]:
    """Inside, weights lie channels-last if the recipe says so; afterwards as usual, so that `.view(...)` works.

    Afterwards there are no gradients either: they are as large as the model, and of no more use.
    """
    modules = [model] if average is None else [model, average.model]
    try:
        _lay_out(modules, optimizer, torch.channels_last if recipe.channels_last else torch.contiguous_format)
        yield
    finally:
        optimizer.zero_grad(set_to_none=True)
        _lay_out(modules, optimizer, torch.contiguous_format)


def _lay_out(modules: list[nn.Module], optimizer: torch.optim.Optimizer, layout: torch.memory_format) -> None:
    """Weights in this memory layout, and with them the optimizer's averages: fused kernels assume that they agree."""
    for module in modules:
        module.to(memory_format=layout)
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                state[name] = torch.empty_like(weight).copy_(value)
