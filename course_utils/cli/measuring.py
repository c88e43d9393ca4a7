"""What `train` measures of a finished model, on images that it has never seen."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..arrays import Images, Labels, normal_like
from ..data import ImageSet
from ..device import generator
from ..diffusion import Denoiser, Schedule, diffusion_loss
from ..latent import LatentDenoiser
from ..metrics import frechet_distance
from ..models.autoencoder import reconstruction_error
from ..models.autoencoder_kl import AutoencoderKL
from ..models.classifier import Classifier, NoisyClassifier
from ..models.dcgan import Generator
from .drawing import draw


def _pieces(data: ImageSet, size: int = 500) -> Iterator[tuple[Images, Labels]]:
    """Images in [-1, 1] and their labels, a few hundred at a time, to stay small in memory."""
    for i in torch.arange(len(data), device=data.device).split(size):
        yield data.take(i), data.labels[i]


@torch.no_grad()
def accuracy(model: Classifier, test: ImageSet) -> float:
    """The share of images whose class is found, in [0, 1]."""
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in _pieces(test)) / len(test)


@torch.no_grad()
def accuracy_by_step(model: NoisyClassifier, schedule: Schedule, test: ImageSet, most: int = 2000) -> dict[str, float]:
    """The share of at most 2,000 noised images whose class is found, at step 1 and after each quarter of the chain."""
    few, chance, T = test.first(most), generator(0, test.device), schedule.T
    found = dict.fromkeys(sorted({1, T // 4 or 1, T // 2 or 1, 3 * T // 4 or 1, T}), 0)
    for x, y in _pieces(few):
        for step in found:
            t = torch.full((len(x),), step, device=x.device)
            x_t = schedule.add_noise(x, t, normal_like(x, chance))
            found[step] += int((model(x_t, t).argmax(1) == y).sum())
    return {f"accuracy at t = {step}": right / len(few) for step, right in found.items()}


@torch.no_grad()
def test_loss(denoiser: Denoiser, test: ImageSet, most: int = 2000) -> float:
    """The training loss, without any labels left out, on at most 2,000 images; the same noise for every model."""
    few, loss = test.first(most), diffusion_loss(denoiser.schedule, denoiser.prediction_type)
    chance, total = generator(0, test.device), 0.0
    for x, y in _pieces(few, 250):
        x = denoiser.autoencoder.codes(x) if isinstance(denoiser, LatentDenoiser) else x
        labels = () if denoiser.model.num_classes is None else (y,)
        total += len(x) * loss(lambda x_t, t, y=labels: denoiser.model(x_t, t, *y), x, None, chance).item()
    return total / len(few)


@torch.no_grad()
def coding_error(model: AutoencoderKL, test: ImageSet) -> float:
    """The mean squared error per pixel of images that were encoded and decoded."""
    return sum(reconstruction_error(x, model(x)).sum().item() for x, _ in _pieces(test)) / len(test)


@torch.no_grad()
def distance(model: Denoiser | Generator, test: ImageSet, evaluator: Classifier, n: int = 1000) -> float:
    """The Fréchet distance of n samples to the test split, in the features of a classifier.

    A denoiser takes 50 steps with η = 0; if it has classes, its samples have the labels of test images, so that the
    classes are as frequent.
    """
    with_classes = isinstance(model, Denoiser) and model.model.num_classes is not None
    labels = {"y": test.labels[torch.arange(n) % len(test)]} if with_classes else {}
    samples = draw(model, n, **labels).to(test.device)
    real = torch.cat([evaluator.features(x) for x, _ in _pieces(test)])
    return frechet_distance(torch.cat([evaluator.features(piece) for piece in samples.split(500)]), real)
