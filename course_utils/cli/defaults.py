"""What `train` uses where nothing else was typed: the course's own recipes, by the name of the model to train."""

from __future__ import annotations

from dataclasses import replace

from .. import recipes
from ..diffusion import NOISE_SCHEDULES, Schedule, zero_terminal_snr
from ..models.classifier import Classifier, NoisyClassifier
from ..models.dcgan import Generator
from ..models.unet import UNet
from ..training import Recipe

STEPS = {"ddpm": 2000, "dcgan": 2000, "classifier": 2000, "noisy-classifier": 2000}
PREDICTION_TYPE = recipes.PREDICTION_TYPE
SCHEDULE = {"name": recipes.ddpm_schedule().name, "T": recipes.ddpm_schedule().T}


def model(
    kind: str, shape: tuple[int, int, int], num_classes: int | None, conditioning: str = "added"
) -> UNet | Generator | Classifier | NoisyClassifier:
    """The network for images (c, h, w), with new weights. classes: how many, or None for a UNet without labels."""
    if kind == "ddpm":
        return recipes.ddpm_model(shape, num_classes, conditioning=conditioning)
    if kind == "dcgan":
        return Generator(shape)
    return Classifier(shape, num_classes) if kind == "classifier" else NoisyClassifier(shape, num_classes)


def recipe(kind: str, steps: int, batch: int | None = None, lr: float | None = None, seed: int = 0) -> Recipe:
    """How it is trained; batch and lr are the recipe's own where they are None."""
    if kind == "dcgan":
        plain = recipes.dcgan_recipe(steps, seed=seed)
    elif kind == "classifier":
        plain = Recipe(steps=steps, batch_size=128, lr=2e-3, lr_schedule="linear-half", ema=0.995, seed=seed)
    else:
        plain = recipes.ddpm_recipe(steps, seed=seed, **({} if kind == "ddpm" else {"batch_size": 128}))
    return replace(plain, batch_size=batch or plain.batch_size, lr=lr or plain.lr)


BATCH = {kind: recipe(kind, steps).batch_size for kind, steps in STEPS.items()}
LR = {kind: recipe(kind, steps).lr for kind, steps in STEPS.items()}


def schedule(name: str, T: int) -> Schedule:
    """A schedule by its name, as it stands in cards: "cosine", or "linear, zero terminal SNR".

    >>> schedule("linear, zero terminal SNR", 10).alpha_bar[-1]
    tensor(0., dtype=torch.float64)
    """
    base, _, change = name.partition(", ")
    plain = NOISE_SCHEDULES[base](T)
    return zero_terminal_snr(plain) if change else plain
