"""What `train` leaves in its folder: the averaged weights, their card with what was measured, losses and samples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import plots
from ..data import ImageSet, load
from ..device import generator
from ..diffusion import Denoiser, Schedule, diffusion_loss
from ..files import write_whole
from ..metrics import frechet_distance
from ..models.classifier import Classifier, NoisyClassifier
from ..notebook import describe
from ..training import History
from ..weights import UNITS, save_classifier, save_denoiser, save_noisy_classifier
from . import defaults
from .sampler import draw

MODEL = "model.safetensors"
SAID = ("steps", "batch_size", "seed", "channels_last")  # elsewhere on the card, or without effect on the result


def keep(
    folder: Path,
    record: dict[str, Any],
    command: str,
    data: ImageSet,
    model: nn.Module,
    history: History,
    judge: Classifier | None = None,
) -> int:
    """Write everything. A full disk is one line, and what lay there before stays. Returns 0, or 1 if it was full."""
    test = _test_split(record, data)
    done, total = len(history.steps), record["steps"]
    card = {
        "data": f"{record['data']}, train split, {len(data):,} images",
        "steps": f"{done:,}" if done == total else f"{done:,} of {total:,}",
        "batch": record["batch"],
        "seed": record["seed"],
        "recipe": {key: value for key, value in record["recipe"].items() if key not in SAID and value},
        "training": f"{history.seconds:.0f} s on {describe(data.device, record['threads'])}",
        "command": f"`{command}`",
    }
    try:
        write_whole(folder / "loss.csv", _table(history).encode())
        if record["kind"] == "classifier":
            said = card["on the test split"] = {} if test is None else {"accuracy": accuracy(model, test)}
            save_classifier(folder / MODEL, model, card, data.classes)
        elif record["kind"] == "noisy-classifier":
            schedule = defaults.schedule(**record["schedule"]).to(data.device)
            said = card["on the test split"] = {} if test is None else accuracy_by_step(model, schedule, test)
            save_noisy_classifier(folder / MODEL, model, schedule, card, data.classes)
        else:
            denoiser = Denoiser(model, defaults.schedule(**record["schedule"]).to(data.device), record["target"])
            denoiser.shape = data.shape
            said = card["on the test split"] = {} if test is None else _quality(denoiser, test, judge)
            save_denoiser(folder / MODEL, denoiser, card, data.classes if record["labels"] else ())
            write_whole(folder / "samples.png", plots.png(_samples(denoiser, data, card["steps"])))
    except OSError as error:
        print(
            f"train: not everything could be written to '{folder}' ({error.strerror or error}); what was there is "
            "untouched. Make room and run it again with --resume",
            file=sys.stderr,
        )
        return 1
    units = {key: f" ({UNITS[key]})" if key in UNITS else "" for key in said}
    print(f"Kept in {folder}" + "".join(f"; {key} on the test split {said[key]:.4g}{units[key]}" for key in said))
    return 0


def _test_split(record: dict[str, Any], data: ImageSet) -> ImageSet | None:
    """The images to measure on; None where a folder of images has too few to set some aside."""
    try:
        return load(record["data"], "test", size=record["size"], colour=data.shape[0] == 3, device=data.device)
    except ValueError:
        return None


def _table(history: History) -> str:
    names = ["loss", *history.terms]
    rows = zip(history.steps, history.loss, *history.terms.values(), strict=True)
    lines = [",".join([str(step), *(f"{value:.6g}" for value in values)]) for step, *values in rows]
    return "\n".join([",".join(["step", *names]), *lines]) + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# Measured on images that the model has never seen
# ---------------------------------------------------------------------------------------------------------------------
@torch.no_grad()
def accuracy(model: Classifier, test: ImageSet) -> float:
    """The share of images whose class is found, in [0, 1]."""
    pieces = torch.arange(len(test), device=test.device).split(500)
    return sum(int((model(test.take(i)).argmax(1) == test.labels[i]).sum()) for i in pieces) / len(test)


@torch.no_grad()
def accuracy_by_step(model: NoisyClassifier, schedule: Schedule, test: ImageSet, most: int = 2000) -> dict[str, float]:
    """The share of at most 2,000 noised images whose class is found, at step 1 and after each quarter of the chain."""
    few, chance, T = test.first(most), generator(0, test.device), schedule.T
    found = dict.fromkeys(sorted({1, T // 4 or 1, T // 2 or 1, 3 * T // 4 or 1, T}), 0)
    for i in torch.arange(len(few), device=test.device).split(500):
        x = few.take(i)
        for step in found:
            t = torch.full((len(x),), step, device=x.device)
            x_t = schedule.add_noise(x, t, torch.empty_like(x).normal_(generator=chance))
            found[step] += int((model(x_t, t).argmax(1) == few.labels[i]).sum())
    return {f"accuracy at t = {step}": right / len(few) for step, right in found.items()}


def _quality(denoiser: Denoiser, test: ImageSet, judge: Classifier | None) -> dict[str, float]:
    loss = test_loss(denoiser, test)
    return {"loss": loss} | ({} if judge is None else {"Fréchet distance": distance(denoiser, test, judge)})


@torch.no_grad()
def test_loss(denoiser: Denoiser, test: ImageSet, most: int = 2000) -> float:
    """The training loss, without any labels left out, on at most 2,000 images; the same noise for every model."""
    index = torch.arange(min(most, len(test)), device=test.device)
    loss = diffusion_loss(denoiser.schedule, denoiser.kind)
    chance, total = generator(0, test.device), 0.0
    for i in index.split(250):
        labels = () if denoiser.model.classes is None else (test.labels[i],)
        total += len(i) * loss(lambda x, t, y=labels: denoiser.model(x, t, *y), test.take(i), None, chance).item()
    return total / len(index)


@torch.no_grad()
def distance(denoiser: Denoiser, test: ImageSet, judge: Classifier, n: int = 1000) -> float:
    """The Fréchet distance of n samples (50 steps, η = 0) to the test split, in the features of a classifier.

    Samples of a model with classes have the labels of test images, so that the classes are as frequent.
    """
    labels = test.labels[torch.arange(n) % len(test)] if denoiser.model.classes is not None else None
    samples = draw(denoiser, n, y=labels).to(test.device)
    real = torch.cat([judge.features(test.take(i)) for i in torch.arange(len(test)).split(500)])
    return frechet_distance(torch.cat([judge.features(piece) for piece in samples.split(500)]), real)


def _samples(denoiser: Denoiser, data: ImageSet, steps: str) -> plots.Figure:
    """Eight images of each class (of the first twelve), a row for each; or 64 where there are no labels."""
    title = f"{data.title} after {steps} steps"
    if denoiser.model.classes is None:
        return plots.image_grid(draw(denoiser, 64, progress=False), title=title, columns=8)
    names = data.classes[:12]
    images = draw(denoiser, 8 * len(names), y=torch.arange(len(names)).repeat_interleave(8), progress=False)
    return plots.image_rows(dict(zip(names, images.split(8))), title=title)
