"""What decides the numbers of a run: `Recipe`, and the learning rate in every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..arrays import is_whole

LR_SCHEDULES: dict[str, Callable[[float], float]] = {
    # name: from the fraction of the run that is done, in [0, 1), to a factor of the learning rate
    "flat": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear-half": lambda done: min(1.0, 2 * (1 - done)),
}


def learning_rate_factor(step: int, recipe: Recipe) -> float:
    """The factor of the learning rate in step `step`, from 0, equation (5.9).

    It is lr_schedule(step / steps) · min(1, (step + 1) / warmup), counted from the restart, if there was one.

    >>> [round(learning_rate_factor(k, Recipe(steps=8, lr_schedule="linear-half")), 2) for k in range(8)]
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    >>> [round(learning_rate_factor(k, Recipe(steps=6, warmup=4)), 2) for k in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    >>> [round(learning_rate_factor(k, Recipe(steps=8, restart=4, lr_schedule="linear-half")), 2) for k in range(4, 8)]
    [1.0, 1.0, 1.0, 0.5]
    """
    step, steps = step - recipe.restart, recipe.steps - recipe.restart
    factor = recipe.lr_schedule if callable(recipe.lr_schedule) else LR_SCHEDULES[recipe.lr_schedule]
    climb = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    return climb * factor(step / steps)


def same_rates(one: Recipe, other: Recipe, steps: int) -> bool:
    """Is the learning rate of each of the first `steps` steps the same in both?

    >>> [same_rates(Recipe(20, lr_schedule="linear-half"), Recipe(40, lr_schedule="linear-half"), k) for k in (11, 12)]
    [True, False]
    """
    made = range(one.restart, steps)
    return one.restart == other.restart and all(
        learning_rate_factor(k, one) == learning_rate_factor(k, other) for k in made
    )


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the numbers of a run. (How it is watched and saved doesn't: that is a `Watch`.)

    steps: optimizer steps.
    batch_size: examples a step; the whole data set where that is smaller.
    lr: the learning rate at the top of its schedule.
    optimizer: None (Adam), "adam", "adamw", "sgd", "muon" (for networks of convolutions, see `Muon`), a callable
        `(parameters, lr=...) -> Optimizer`, or an Optimizer that you made (it keeps its own lr).
    lr_schedule: "flat", "cosine", "linear-half" (flat, then straight down to 0 over the second half), or a callable
        from the fraction of the run that is done, in [0, 1), to a factor.
    warmup: steps over which the rate climbs at first.
    restart: the step from which lr_schedule and warmup begin anew, for a run that is trained on after its rate has
        fallen: a warm restart (Loshchilov and Hutter 2017).
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
    lr_schedule: str | Callable[[float], float] = "flat"
    warmup: int = 0
    restart: int = 0
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

        need("steps", "a whole number of at least 1", lambda n: is_whole(n, 1))
        need("batch_size", "a whole number of at least 1", lambda n: is_whole(n, 1))
        need("warmup", "a whole number of steps, 0 for none", lambda n: is_whole(n, 0))
        need("restart", f"a whole number of steps, 0 to {self.steps - 1}", lambda n: is_whole(n, 0) and n < self.steps)
        need("seed", "a whole number", is_whole)
        need("lr", "a positive number, such as 2e-3", lambda lr: 0 < lr < math.inf)
        need("ema", "None or a decay in [0, 1), such as 0.999", lambda d: d is None or 0 <= d < 1)
        need("clip", "None or a positive norm, such as 1.0", lambda c: c is None or c > 0)
        need(
            "lr_schedule",
            f"{', '.join(map(repr, LR_SCHEDULES))} or a callable",
            lambda s: callable(s) or s in LR_SCHEDULES,
        )
