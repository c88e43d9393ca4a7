"""What `train` leaves in its folder: the averaged weights, their card with what was measured, losses and samples."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from .. import plots
from ..data import load
from ..files import write_whole
from ..notebook import describe
from ..training import History
from ..weights import WeightsRefused, read_card, save, units
from .measuring import distance
from .runs import Job

MODEL = "model.safetensors"
SAID = ("steps", "batch_size", "seed", "channels_last")  # elsewhere on the card, or without effect on the result


def keep(job: Job, history: History) -> int:
    """Write everything. A full disk is one line, and what lay there before stays. Returns 0, or 1 if it was full."""
    folder, settings, parts = job.folder, job.run.settings, job.made.parts
    lying = _lying(folder / MODEL)
    if lying > (len(history.steps), len(history.steps) == settings.steps):
        print(f"'{folder / MODEL}' stays: it is this run after {lying[0]:,} steps, finished or further than now")
        return 0
    model = settings.of.finished(parts._replace(network=history.ema_model or parts.network), job.data)
    said = _measured(job, model)
    card = _card(job, history) | {"on the test split": said}
    try:
        if lying[1] and lying[0] < len(history.steps):
            _set_aside(folder / MODEL, lying[0])
        write_whole(folder / "loss.csv", _table(history).encode())
        save(folder / MODEL, model, card, job.data.classes if settings.with_classes else (), parts.schedule)
        if settings.of.shown is not None:
            write_whole(folder / "samples.png", plots.png(_picture(job, model, card["steps"])))
    except OSError as error:
        print(
            f"train: not everything could be written to '{folder}' ({error.strerror or error}); what was there is "
            "untouched. Make room and run it again with --resume",
            file=sys.stderr,
        )
        return 1
    unit = {key: f" ({text})" for key, text in units(settings.of.makes).items()}
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


def _picture(job: Job, model: nn.Module, steps: str) -> plots.Figure:
    """What the model draws, or what it makes of images: rows where they have names, else a grid."""
    shown, title = job.run.settings.of.shown(model, job.data), f"{job.data.title} after {steps} steps"
    if isinstance(shown, dict):
        return plots.image_rows(shown, title=title)
    return plots.image_grid(shown, title=title, columns=8)


def _measured(job: Job, model: nn.Module) -> dict[str, float]:
    """What there is to say about a model; nothing where a folder of images has too few to set some aside."""
    data, settings = job.data, job.run.settings
    try:
        test = load(settings.data, "test", size=settings.size, colour=data.shape[0] == 3, device=data.device)
    except ValueError:
        return {}
    found = settings.of.measured(model, job.made.parts.schedule, test)
    return found if job.evaluator is None else found | {"Fréchet distance": distance(model, test, job.evaluator)}
