"""`python -m course_utils train`: a folder with a trained model, whatever happens on the way."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shlex
import sys
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import device as devices
from ..data import ImageSet, load
from ..data.loading import resolve
from ..diffusion import diffusion_loss, noisy_classifier_loss
from ..files import clear_left_overs, write_whole
from ..models.classifier import Classifier, classifier_loss
from ..notebook import describe
from ..training import CheckpointRefused, Recipe, TrainingDiverged, fit
from ..weights import architecture, build, load_classifier
from . import Refused, defaults, plainly
from .keeping import MODEL, keep

RECORD, CHECKPOINT = "run.json", "checkpoint.pt"
TYPED = ("kind", "data", "size", "labels", "conditioning", "steps", "minutes", "batch", "lr", "seed")


def run(arguments: argparse.Namespace) -> int:
    """Train, keep, say so. Returns 0, 1 if the run came to grief, 130 if it was stopped by hand."""
    with plainly():
        device = devices.pick_device(arguments.device)
        if arguments.data is not None:
            arguments.data = _data_name(arguments.data)
        judge = None if arguments.judge is None else load_classifier(arguments.judge, device)
    torch.set_num_threads(devices.pick_threads())
    folder = _folder(arguments)
    record = _resumed(folder, arguments) if arguments.resume else _typed(folder, arguments)
    with plainly():
        data = load(record["data"], "train", size=record["size"], device=device)
    if judge is not None and judge.shape != data.shape:
        raise Refused(f"--judge: it looks at images of shape {judge.shape}, these are {data.shape}")
    if not arguments.resume:
        _begin(folder, record, data, device)
    with plainly():
        model = _new_model(record).to(device)
    _announce(folder, record, data, model, device)
    return _train(folder, record, data, model, judge, arguments.save_every)


# ---------------------------------------------------------------------------------------------------------------------
# What a run is: its record, run.json
# ---------------------------------------------------------------------------------------------------------------------
def _data_name(name: str) -> str:
    try:
        known = resolve(name)
    except ValueError as error:
        raise Refused(str(error).replace("load:", "--data:", 1)) from None
    return str(known.resolve()) if isinstance(known, Path) else known


def _folder(arguments: argparse.Namespace) -> Path:
    data = Path(arguments.data or "fashion-mnist").name
    return Path(arguments.out or Path("checkpoints", f"{arguments.kind}-{data}")).expanduser()


def _typed(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """A new run: what was typed, and defaults for the rest. Refuses a folder that holds a run, or can't be written."""
    there = [name for name in (RECORD, CHECKPOINT, MODEL) if (folder / name).exists()]
    if there:
        raise Refused(f"'{folder}' already holds a run ({there[0]}): go on with --resume, or choose another --out")
    if arguments.kind != "ddpm" and arguments.labels:
        raise Refused("--labels is for ddpm: a classifier always learns the classes")
    if arguments.conditioning and not arguments.labels:
        raise Refused("--conditioning says how the classes come in: it is for ddpm, and needs --labels")
    with plainly(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    kind = arguments.kind
    plain = {"data": "fashion-mnist", "size": 28, "labels": False, "conditioning": "added", "minutes": None, "seed": 0}
    plain |= {"batch": defaults.BATCH[kind], "lr": defaults.LR[kind], "steps": defaults.STEPS[kind]}
    given = {key: getattr(arguments, key) for key in TYPED if getattr(arguments, key) is not None}
    return {"format": 1, **plain, **given}


def _begin(folder: Path, record: dict[str, Any], data: ImageSet, device: torch.device) -> None:
    """Fix everything that decides the numbers of the run, the number of steps among it, and write it down."""
    kind, classes = record["kind"], len(data.classes)
    known = classes if record["labels"] or kind != "ddpm" else None
    with plainly():
        record["network"] = architecture(defaults.model(kind, data.shape, known, record["conditioning"]))
    record["recipe"] = _default_recipe(record)
    if kind != "classifier":
        record |= {"schedule": defaults.SCHEDULE, "target": defaults.TARGET}
    if record["minutes"] is not None:
        _measure_speed(record, data, device)
    record["threads"] = torch.get_num_threads()
    with plainly(folder):
        write_whole(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False).encode())


def _measure_speed(record: dict[str, Any], data: ImageSet, device: torch.device) -> None:
    """Turn minutes into steps, on a copy of the model: the learning rate must know the end of the run beforehand."""
    seconds = 60 * record["minutes"]
    model, loss = _new_model(record).to(device), _loss(record, device)

    def seconds_for(steps: int) -> float:
        with contextlib.redirect_stdout(io.StringIO()):  # stopped here, it has nothing to say of a model
            history = fit(model, loss, data, replace(_recipe(record), steps=steps), progress=False)
        if history.interrupted:
            raise KeyboardInterrupt
        return history.seconds

    seconds_for(3)  # the first steps are slower
    steps, spent = 0, 0.0
    while spent < min(3.0, seconds / 20):
        more = max(1, 2 * steps)
        steps, spent = steps + more, spent + seconds_for(more)
    each = spent / steps
    record["steps"] = max(1, round(seconds / each))
    record["recipe"] = _default_recipe(record)
    print(f"{1000 * each:.1f} ms a step: {record['steps']:,} steps take about {record['minutes']:g} minutes.")


def _default_recipe(record: dict[str, Any]) -> dict[str, Any]:
    recipe = defaults.recipe(record["kind"], record["steps"], record["batch"], record["lr"], record["seed"])
    return {field.name: getattr(recipe, field.name) for field in fields(recipe)}


def _resumed(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The record of the run in a folder. Refuses options that contradict it."""
    try:
        record = {"conditioning": "added"} | json.loads((folder / RECORD).read_bytes())  # runs of before had no choice
        if record["format"] != 1 or not all(key in record for key in (*TYPED, "network", "recipe", "threads")):
            raise LookupError
    except FileNotFoundError:
        raise Refused(
            f"--resume: there is no run in '{folder}' (no {RECORD}); leave --resume out to begin one"
        ) from None
    except OSError as error:
        raise Refused(f"--resume: '{folder / RECORD}' could not be read ({error.strerror or error})") from None
    except (ValueError, LookupError, TypeError):
        raise Refused(f"--resume: '{folder / RECORD}' is damaged; begin anew with another --out") from None
    for key in TYPED:
        given = getattr(arguments, key)
        if given is not None and given != record[key]:
            what = "it trains a" if key == "kind" else f"its --{key} is"
            raise Refused(
                f"--resume: '{folder}' holds another run: {what} {_said(record[key])}, not {_said(given)}; leave that "
                "out to go on with it, or begin another with another --out"
            )
    return record


def _said(value: Any) -> str:
    return {"None": "not given", "True": "given", "False": "not given"}.get(str(value), str(value))


def _new_model(record: dict[str, Any]) -> nn.Module:
    with devices.seeded(record["seed"]):
        return build(record["network"])


def _recipe(record: dict[str, Any]) -> Recipe:
    return Recipe(**record["recipe"])


def _loss(record: dict[str, Any], device: torch.device) -> Any:
    if record["kind"] == "classifier":
        return classifier_loss
    schedule = defaults.schedule(**record["schedule"]).to(device)
    if record["kind"] == "noisy-classifier":
        return noisy_classifier_loss(schedule)
    null = record["network"]["arguments"]["classes"]  # the number after the last class; None without labels
    return diffusion_loss(schedule, record["target"], null=null)


def command(record: dict[str, Any], folder: Path) -> str:
    """The command that repeats a run. (Minutes depend on the machine, steps don't.)

    >>> record = {"kind": "ddpm", "data": "digits", "size": 28, "labels": True, "steps": 9, "minutes": 1.0, "seed": 0}
    >>> command(record | {"conditioning": "added", "batch": 5, "lr": defaults.LR["ddpm"]}, Path("out"))
    'python -m course_utils train ddpm --data digits --labels --steps 9 --batch 5 --seed 0 --out out'
    """
    kind = record["kind"]
    said = ["train", kind, "--data", record["data"]]
    said += ["--size", str(record["size"])] if record["size"] != 28 else []
    said += ["--labels"] if record["labels"] else []
    said += ["--conditioning", record["conditioning"]] if record["conditioning"] != "added" else []
    said += ["--steps", str(record["steps"])]
    said += ["--batch", str(record["batch"])] if record["batch"] != defaults.BATCH[kind] else []
    said += ["--lr", f"{record['lr']:g}"] if record["lr"] != defaults.LR[kind] else []
    said += ["--seed", str(record["seed"]), "--out", str(folder)]
    return "python -m course_utils " + shlex.join(said)


# ---------------------------------------------------------------------------------------------------------------------
# The run itself
# ---------------------------------------------------------------------------------------------------------------------
def _announce(folder: Path, record: dict[str, Any], data: ImageSet, model: nn.Module, device: torch.device) -> None:
    size = f"{len(data):,} images of {'×'.join(map(str, data.shape))}"
    print(
        f"{record['kind']} on {data.title}: {size}; {sum(weight.numel() for weight in model.parameters()):,} weights; "
        f"{record['steps']:,} steps of {record['batch']}; {describe(device, torch.get_num_threads())}; in {folder}",
        flush=True,
    )
    began, now = record["threads"], torch.get_num_threads()
    if began != now and (folder / CHECKPOINT).exists():
        print(
            f"This run began with {began} threads and goes on with {now}: sums are added in another order, and the "
            f"last bits will differ. OMP_NUM_THREADS={began} avoids that."
        )


def _train(
    folder: Path, record: dict[str, Any], data: ImageSet, model: nn.Module, judge: Classifier | None, save_every: int
) -> int:
    clear_left_overs(folder / MODEL)
    status = 0
    try:
        history = fit(
            model,
            _loss(record, data.device),
            data,
            _recipe(record),
            checkpoint=folder / CHECKPOINT,
            checkpoint_every=save_every,
        )
    except CheckpointRefused as error:
        reason = str(error).split(";")[0]
        raise Refused(f"--resume: {reason}; begin anew with another --out, or remove that folder") from None
    except TrainingDiverged as error:
        what = str(error).split(". Try ")[0]
        print(f"train: {what}. Begin another run, with a smaller --lr (this had {record['lr']:g})", file=sys.stderr)
        history, status = error.history, 1
    if history.steps:
        average = history.ema_model or model
        status = keep(folder, record, command(record, folder), data, average, history, judge) or status
    if history.interrupted or len(history.steps) < record["steps"]:
        status = status or 130
    if status == 130:
        print(f"Go on with: python -m course_utils train {record['kind']} --out {shlex.quote(str(folder))} --resume")
    return status
