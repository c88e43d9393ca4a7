"""What `train` uses where nothing else was typed: the course's own recipes, by the name of the model to train."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from .. import recipes
from ..diffusion import NOISE_SCHEDULES, Schedule, zero_terminal_snr
from ..training import Recipe
from .kinds import KINDS

STEPS = 2000
PREDICTION_TYPE = recipes.PREDICTION_TYPE
SCHEDULE = {"name": recipes.ddpm_schedule().name, "T": recipes.ddpm_schedule().T}


def model(
    kind: str,
    shape: tuple[int, int, int],
    num_classes: int | None,
    conditioning: str = "added",
    network: str = "unet",
) -> nn.Module:
    """The network for images or codes (c, h, w), with new weights. num_classes: how many, or None for no labels."""
    return KINDS[kind].network(shape, num_classes, conditioning, network)


def recipe(
    kind: str, steps: int, batch: int | None = None, lr: float | None = None, seed: int = 0, network: str = "unet"
) -> Recipe:
    """How it is trained; batch and lr are the recipe's own where they are None."""
    plain = KINDS[kind].recipe(steps, seed, network)
    return replace(plain, batch_size=batch or plain.batch_size, lr=lr or plain.lr)


def schedule(name: str, T: int) -> Schedule:
    """A schedule by its name, as it stands in cards: "cosine", or "linear, zero terminal SNR".

    >>> schedule("linear, zero terminal SNR", 10).alpha_bar[-1]
    tensor(0., dtype=torch.float64)
    """
    base, _, change = name.partition(", ")
    plain = NOISE_SCHEDULES[base](T)
    return zero_terminal_snr(plain) if change else plain
