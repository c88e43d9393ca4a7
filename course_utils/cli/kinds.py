"""What `train` can train: one entry each in `KINDS`, and nowhere else is a kind asked for by its name.

A new kind needs an entry here and its name in `options.MODELS`, which doesn't wait for PyTorch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import recipes
from ..adversarial import train_gan
from ..arrays import Images
from ..data import ImageSet
from ..diffusion import Denoiser, Schedule, diffusion_loss, noisy_classifier_loss
from ..latent import LatentDenoiser, encoded
from ..models.autoencoder_kl import AutoencoderKL, autoencoder_kl_loss, set_scale
from ..models.classifier import Classifier, NoisyClassifier, classifier_loss
from ..models.dcgan import Discriminator, Generator
from ..training import History, Recipe, fit
from .drawing import draw
from .measuring import accuracy, accuracy_by_step, coding_error, test_loss


class Parts(NamedTuple):
    """What a kind is made of.

    schedule, prediction_type: of the noise; None where there is none;  autoencoder: of the codes that it learns.
    """

    network: nn.Module
    schedule: Schedule | None = None
    prediction_type: str | None = None
    autoencoder: AutoencoderKL | None = None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How one kind of model is made, trained, finished, measured and shown.

    makes: what lies in its file, one of `weights.KINDS`;
    network: (shape, num_classes, conditioning, network) → new weights, for images or codes of this shape (c, h, w);
    recipe: (steps, seed, network) → how it is trained;
    training: parts → `train(data, recipe, **watch)`, the whole training;
    finished: (parts, data) → what is kept;  measured: (model, schedule, test) → numbers for its card;
    shown: (model, data) → images for samples.png, by the name of their row, or None;
    noisy: is it trained on noise?  classes: does it learn them whatever is typed?
    options: those that fit, of the options that aren't for all;  refuses: a reason of its own why one doesn't fit.
    """

    makes: str
    network: Callable[..., nn.Module]
    recipe: Callable[[int, int, str], Recipe]
    training: Callable[[Parts], Callable[..., History]]
    finished: Callable[[Parts, ImageSet], nn.Module] = lambda parts, data: parts.network
    measured: Callable[[Any, Schedule | None, ImageSet], dict[str, float]] = lambda model, schedule, test: {}
    shown: Callable[[Any, ImageSet], dict[str, Images] | Images] | None = None
    noisy: bool = False
    classes: bool = False
    options: frozenset[str] = frozenset()
    refuses: dict[str, str] = field(default_factory=dict)


OPTIONS = {  # those that aren't for all -> what they are there for
    "labels": "it learns the classes, to draw one that is asked for",
    "conditioning": "it says how the classes come in",
    "network": "it says which network predicts",
    "autoencoder": "it makes the codes",
    "evaluator": "it judges images that were drawn",
}


def fitting(option: str) -> str:
    """The kinds that an option is for, in words.

    >>> fitting("evaluator")
    'ddpm, latent-ddpm and dcgan'
    """
    *others, last = [name for name, kind in KINDS.items() if option in kind.options]
    return f"{', '.join(others)} and {last}" if others else last


# ---------------------------------------------------------------------------------------------------------------------
# Diffusion, of images and of codes
# ---------------------------------------------------------------------------------------------------------------------
def _of_images(shape: tuple[int, int, int], classes: int | None, conditioning: str, network: str) -> nn.Module:
    if network == "dit":
        return recipes.dit_model(shape, classes)
    return recipes.ddpm_model(shape, classes, conditioning=conditioning)


def _of_codes(shape: tuple[int, int, int], classes: int | None, conditioning: str, network: str) -> nn.Module:
    if network == "dit":
        return recipes.dit_model(shape, classes, patch=1)
    return recipes.latent_model(shape, classes, conditioning=conditioning)


def _diffusion_recipe(steps: int, seed: int, network: str) -> Recipe:
    return (recipes.dit_recipe if network == "dit" else recipes.ddpm_recipe)(steps, seed)


def _denoise(parts: Parts) -> Callable[..., History]:
    loss = diffusion_loss(parts.schedule, parts.prediction_type, null=parts.network.null)
    return lambda *data, **watch: fit(parts.network, loss, *data, **watch)


def _denoise_codes(parts: Parts) -> Callable[..., History]:
    train = _denoise(parts)
    return lambda data, *recipe, **watch: train(_codes(parts.autoencoder, data), *recipe, **watch)


@functools.lru_cache(maxsize=1)  # once, though the speed is measured before the training begins
def _codes(autoencoder: AutoencoderKL, data: ImageSet) -> tuple[Tensor, Tensor]:
    return encoded(autoencoder, data)


def _loss(denoiser: Denoiser, schedule: Schedule, test: ImageSet) -> dict[str, float]:
    return {"loss": test_loss(denoiser, test)}


def _by_class(denoiser: Denoiser, data: ImageSet) -> dict[str, Images] | Images:
    """Eight images of each class (of the first twelve), a row for each; or 64 where there are no labels."""
    if denoiser.model.num_classes is None:
        return draw(denoiser, 64)
    names = data.classes[:12]
    images = draw(denoiser, 8 * len(names), y=torch.arange(len(names)).repeat_interleave(8))
    return dict(zip(names, images.split(8)))


DDPM = Kind(
    makes="denoiser",
    network=_of_images,
    recipe=_diffusion_recipe,
    training=_denoise,
    finished=lambda parts, data: Denoiser(parts.network, parts.schedule, parts.prediction_type),
    measured=_loss,
    shown=_by_class,
    noisy=True,
    options=frozenset({"labels", "conditioning", "network", "evaluator"}),
)
LATENT_DDPM = replace(
    DDPM,
    makes="latent-denoiser",
    network=_of_codes,
    training=_denoise_codes,
    finished=lambda parts, data: LatentDenoiser(
        parts.network, parts.schedule, parts.autoencoder, parts.prediction_type
    ),
    options=DDPM.options | {"autoencoder"},
)


# ---------------------------------------------------------------------------------------------------------------------
# All others
# ---------------------------------------------------------------------------------------------------------------------
def _autoencoder(shape: tuple[int, int, int], *_: Any) -> AutoencoderKL:
    return AutoencoderKL(shape)


def _encode_and_decode(parts: Parts) -> Callable[..., History]:
    return lambda *data, **watch: fit(parts.network, autoencoder_kl_loss(), *data, **watch)


def _scaled(parts: Parts, data: ImageSet) -> AutoencoderKL:
    set_scale(parts.network, data.first(2000).x)
    return parts.network


@torch.no_grad()
def _before_and_after(model: AutoencoderKL, data: ImageSet) -> dict[str, Images]:
    x = data.take(data.examples(10))
    return {"image": x.cpu(), "decoded": model(x).cpu()}


def _play(parts: Parts) -> Callable[..., History]:
    network = parts.network
    device = next(network.parameters()).device
    discriminator = Discriminator(network.shape, network.config["widths"]).to(device)
    return lambda *data, **watch: train_gan(network, discriminator, *data, **watch)


def _classify(parts: Parts) -> Callable[..., History]:
    loss = classifier_loss if parts.schedule is None else noisy_classifier_loss(parts.schedule)
    return lambda *data, **watch: fit(parts.network, loss, *data, **watch)


def _classifier_recipe(steps: int, seed: int, network: str) -> Recipe:
    return Recipe(steps=steps, batch_size=128, lr=2e-3, lr_schedule="linear-half", ema=0.995, seed=seed)


ALWAYS = {"labels": "a classifier always learns the classes"}
KINDS: dict[str, Kind] = {
    "ddpm": DDPM,
    "autoencoder": Kind(
        makes="autoencoder",
        network=_autoencoder,
        recipe=lambda steps, seed, network: recipes.autoencoder_recipe(steps, seed),
        training=_encode_and_decode,
        finished=_scaled,
        measured=lambda model, schedule, test: {"error": coding_error(model, test)},
        shown=_before_and_after,
        refuses={"labels": "an autoencoder takes no labels"},
    ),
    "latent-ddpm": LATENT_DDPM,
    "dcgan": Kind(
        makes="generator",
        network=lambda shape, *_: Generator(shape),
        recipe=lambda steps, seed, network: recipes.dcgan_recipe(steps, seed),
        training=_play,
        shown=lambda model, data: draw(model, 64),
        options=frozenset({"evaluator"}),
        refuses={"labels": "a DCGAN takes no labels"},
    ),
    "classifier": Kind(
        makes="classifier",
        network=lambda shape, classes, *_: Classifier(shape, classes),
        recipe=_classifier_recipe,
        training=_classify,
        measured=lambda model, schedule, test: {"accuracy": accuracy(model, test)},
        classes=True,
        refuses=ALWAYS,
    ),
    "noisy-classifier": Kind(
        makes="noisy-classifier",
        network=lambda shape, classes, *_: NoisyClassifier(shape, classes),
        recipe=lambda steps, seed, network: recipes.ddpm_recipe(steps, seed, batch_size=128),
        training=_classify,
        measured=accuracy_by_step,
        noisy=True,
        classes=True,
        refuses=ALWAYS,
    ),
}
