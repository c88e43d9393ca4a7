"""What a run is and what it leaves behind: `Recipe`, `History`, learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

SCHEDULES: dict[str, Callable[[float], float]] = {
    # name: from the fraction of the run that is done, in [0, 1), to a factor of the learning rate
    "flat": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear-half": lambda done: min(1.0, 2 * (1 - done)),
}


def learning_rate_factor(step: int, recipe: Recipe) -> float:
    """The factor of the learning rate in step `step`, from 0, equation (5.10).

    It is schedule(step / steps) · min(1, (step + 1) / warmup).

    >>> [round(learning_rate_factor(k, Recipe(steps=8, schedule="linear-half")), 2) for k in range(8)]
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    >>> [round(learning_rate_factor(k, Recipe(steps=6, warmup=4)), 2) for k in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    schedule = recipe.schedule if callable(recipe.schedule) else SCHEDULES[recipe.schedule]
    climb = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    return climb * schedule(step / recipe.steps)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the numbers of a run. (How it is watched and saved doesn't, and isn't here.)

    steps: optimizer steps.
    batch_size: examples a step; the whole data set where that is smaller.
    lr: the learning rate at the top of its schedule.
    optimizer: None (Adam), "adam", "adamw", "sgd", "muon" (for networks of convolutions, see `Muon`), a callable
        `(parameters, lr=...) -> Optimizer`, or an Optimizer that you made (it keeps its own lr).
    schedule: "flat", "cosine", "linear-half" (flat, then straight down to 0 over the second half), or a callable from
        the fraction of the run that is done, in [0, 1), to a factor.
    warmup: steps over which the rate climbs at first.
    ema: None, or the decay of a moving average of the weights, such as 0.999 (see `EMA`).
    clip: None, or the largest norm that the gradient of all weights together may have.
    seed: decides order, noise and dropout. (Not the first weights: those are the model's.)
    mixed_precision: compute in bfloat16; None means where the processor is made for it.
    channels_last: keep images and filters in the memory layout in which convolutions are fastest.

    >>> Recipe(steps=400, lr=1e-3)      # doctest: +ELLIPSIS
    Recipe(steps=400, batch_size=128, lr=0.001, ...)
    """

    steps: int
    batch_size: int = 128
    lr: float | int = 2e-3
    optimizer: Any = None
    schedule: str | Callable[[float], float] = "flat"
    warmup: int = 0
    ema: float | int | None = None
    clip: float | int | None = None
    seed: int = 0
    mixed_precision: bool | None = None
    channels_last: bool = True

    def __post_init__(self):
        def need(name: str, expected: str, holds: Callable[[Any], bool]):
            try:
                good = holds(getattr(self, name))
            except TypeError:  # a word where a number belongs
                good = False
            if not good:
                raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

        need("steps", "a whole number of at least 1", lambda n: whole(n) and n >= 1)
        need("batch_size", "a whole number of at least 1", lambda n: whole(n) and n >= 1)
        need("warmup", "a whole number of steps, 0 for none", lambda n: whole(n) and n >= 0)
        need("seed", "a whole number", whole)
        need("lr", "a positive number, such as 2e-3", lambda lr: 0 < lr < math.inf)
        need("ema", "None or a decay in [0, 1), such as 0.999", lambda d: d is None or 0 <= d < 1)
        need("clip", "None or a positive norm, such as 1.0", lambda c: c is None or c > 0)
        need("schedule", f"{', '.join(map(repr, SCHEDULES))} or a callable", lambda s: callable(s) or s in SCHEDULES)


@dataclass
class History:
    """What a run leaves behind, as plain lists with one entry a step, from step 1. Units are those of your loss.

    terms: the further scalars that the loss gave, by name (nan in steps that gave none).
    seconds: spent on steps, `on_step` left out, earlier parts of a resumed run included.
    interrupted: stopped by hand.
    ema_model: the averaged model, or None.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False
    ema_model: nn.Module | None = field(default=None, repr=False)


class TrainingDiverged(ValueError):
    """The loss or a weight became nan or infinite. The model was put back to the last weights that were found good.

    step: the step, from 1, in which it showed.  history: the steps up to the weights that were kept.
    """

    def __init__(self, message: str, step: int, history: History):
        super().__init__(message)
        self.step, self.history = step, history


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
