"""What `train` leaves in its folder: the averaged weights, their card with what was measured, losses and samples."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from .. import plots
from ..arrays import Images, Labels, normal_like
from ..data import ImageSet, load
from ..device import generator
from ..diffusion import Denoiser, Schedule, diffusion_loss
from ..files import write_whole
from ..metrics import frechet_distance
from ..models.classifier import Classifier, NoisyClassifier
from ..models.dcgan import Generator
from ..notebook import describe
from ..training import History
from ..weights import WeightsRefused, read_card, save, units
from .drawing import draw
from .runs import Job

MODEL = "model.safetensors"
SAID = ("steps", "batch_size", "seed", "channels_last")  # elsewhere on the card, or without effect on the result


def keep(job: Job, history: History) -> int:
    """Write everything. A full disk is one line, and what lay there before stays. Returns 0, or 1 if it was full."""
    folder, schedule, settings = job.folder, job.made.schedule, job.run.settings
    lying = _lying(folder / MODEL)
    if lying > (len(history.steps), len(history.steps) == settings.steps):
        print(f"'{folder / MODEL}' stays: it is this run after {lying[0]:,} steps, finished or further than now")
        return 0
    model = history.ema_model or job.made.model
    if settings.kind == "ddpm":
        model = Denoiser(model, schedule, job.run.prediction_type)
    said = _measured(job, model)
    card = _card(job, history) | {"on the test split": said}
    try:
        if lying[1] and lying[0] < len(history.steps):
            _set_aside(folder / MODEL, lying[0])
        write_whole(folder / "loss.csv", _table(history).encode())
        save(folder / MODEL, model, card, job.data.classes if settings.with_classes else (), schedule)
        if settings.kind in ("ddpm", "dcgan"):
            write_whole(folder / "samples.png", plots.png(_samples(model, job.data, card["steps"])))
    except OSError as error:
        print(
            f"train: not everything could be written to '{folder}' ({error.strerror or error}); what was there is "
            "untouched. Make room and run it again with --resume",
            file=sys.stderr,
        )
        return 1
    unit = {key: f" ({text})" for key, text in units("denoiser" if settings.kind == "ddpm" else settings.kind).items()}
    found = "".join(f"; {key} on the test split {value:.4g}{unit.get(key, '')}" for key, value in said.items())
    print(f"Kept in {folder}{found}")
    return 0


def _card(job: Job, history: History) -> dict[str, Any]:
    """Where the model comes from."""
    settings, done = job.run.settings, len(history.steps)
    return {
        "data": f"{Path(settings.data).name}, train split, {len(job.data):,} images",
        "steps": f"{done:,}" if done == settings.steps else f"{done:,} of {settings.steps:,}",
        "batch": settings.batch,
        "seed": settings.seed,
        "recipe": {key: value for key, value in asdict(job.run.recipe).items() if key not in SAID and value},
        "training": f"{history.seconds:.0f} s on {describe(job.data.device, job.run.threads)}",
        "command": job.run.command(job.folder),
    }


def _lying(path: Path) -> tuple[int, bool]:
    """Of the model that lies there from earlier: its steps, and whether those were all. (0, False) for none."""
    try:
        said = str(read_card(path)["steps"]).replace(",", "")
        return int(said.split()[0]), " of " not in said
    except (WeightsRefused, LookupError, ValueError):
        return 0, False


def _set_aside(path: Path, steps: int) -> None:
    """A finished model that was trained on is kept: a rate that climbs again makes it worse before it gets better."""
    for each in (path, path.with_suffix(".md")):
        aside = each.with_stem(f"{each.stem}-{steps}")
        write_whole(aside, each.read_bytes())
    print(f"The model of {steps:,} steps is kept as '{path.with_stem(f'{path.stem}-{steps}')}'")


def _table(history: History) -> str:
    names = ["loss", *history.terms]
    rows = zip(history.steps, history.loss, *history.terms.values(), strict=True)
    lines = [",".join([str(step), *(f"{value:.6g}" for value in values)]) for step, *values in rows]
    return "\n".join([",".join(["step", *names]), *lines]) + "\n"


def _samples(model: Denoiser | Generator, data: ImageSet, steps: str) -> plots.Figure:
    """Eight images of each class (of the first twelve), a row for each; or 64 where there are no labels."""
    title = f"{data.title} after {steps} steps"
    if isinstance(model, Generator) or model.model.num_classes is None:
        return plots.image_grid(draw(model, 64), title=title, columns=8)
    names = data.classes[:12]
    images = draw(model, 8 * len(names), y=torch.arange(len(names)).repeat_interleave(8))
    return plots.image_rows(dict(zip(names, images.split(8))), title=title)


# ---------------------------------------------------------------------------------------------------------------------
# Measured on images that the model has never seen
# ---------------------------------------------------------------------------------------------------------------------
def _measured(job: Job, model: Denoiser | Generator | Classifier | NoisyClassifier) -> dict[str, float]:
    """What there is to say about a model; nothing where a folder of images has too few to set some aside."""
    data, settings = job.data, job.run.settings
    try:
        test = load(settings.data, "test", size=settings.size, colour=data.shape[0] == 3, device=data.device)
    except ValueError:
        return {}
    if settings.kind == "classifier":
        return {"accuracy": accuracy(model, test)}
    if settings.kind == "noisy-classifier":
        return accuracy_by_step(model, job.made.schedule, test)
    found = {} if settings.kind == "dcgan" else {"loss": test_loss(model, test)}
    return found if job.evaluator is None else found | {"Fréchet distance": distance(model, test, job.evaluator)}


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
        labels = () if denoiser.model.num_classes is None else (y,)
        total += len(x) * loss(lambda x_t, t, y=labels: denoiser.model(x_t, t, *y), x, None, chance).item()
    return total / len(few)


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
