"""`python -m course_utils train`: a folder with a trained model, whatever happens on the way."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import torch

from .. import device as devices
from ..data import ImageSet, load
from ..data.loading import resolve
from ..files import check_writable, clear_left_overs
from ..models.classifier import Classifier
from ..notebook import describe
from ..training import CheckpointRefused, TrainingDiverged, fit
from ..weights import load_classifier
from . import Refused, cli_errors
from .artifacts import MODEL, keep
from .runs import RECORD, Job, Run, Settings

CHECKPOINT = "checkpoint.pt"


def run(arguments: argparse.Namespace) -> int:
    """Train, keep, say so. Returns 0, 1 if the run failed, 130 if it was stopped by hand."""
    with cli_errors():
        device = devices.pick_device(arguments.device)
        if arguments.data is not None:
            arguments.data = _data_name(arguments.data)
        evaluator = None if arguments.evaluator is None else load_classifier(arguments.evaluator, device)
    torch.set_num_threads(devices.pick_threads())
    folder = _folder(arguments)
    if arguments.resume:
        with cli_errors():
            run = Run.read(folder)
        run.refuse_others(folder, arguments)
        data = _images(run.settings, evaluator, device)
    else:
        settings = _new_settings(folder, arguments)
        data = _images(settings, evaluator, device)
        run = _begin(folder, settings, data)
    with cli_errors():
        job = Job(folder, run, data, run.make(device), evaluator)
    _announce(job)
    return _train(job, arguments.save_every)


def _data_name(name: str) -> str:
    try:
        known = resolve(name)
    except ValueError as error:
        raise Refused(str(error).replace("load:", "--data:", 1)) from None
    return str(known.resolve()) if isinstance(known, Path) else known


def _folder(arguments: argparse.Namespace) -> Path:
    data = Path(arguments.data or Settings.data).name
    return Path(arguments.out or Path("checkpoints", f"{arguments.kind}-{data}")).expanduser()


def _new_settings(folder: Path, arguments: argparse.Namespace) -> Settings:
    """Those of a new run. Refuses options that don't go together, and a folder with a run or that can't be written."""
    there = [name for name in (RECORD, CHECKPOINT, MODEL) if (folder / name).exists()]
    if there:
        raise Refused(f"'{folder}' already holds a run ({there[0]}): go on with --resume, or choose another --out")
    if arguments.kind != "ddpm" and arguments.labels:
        raise Refused("--labels is for ddpm: a classifier always learns the classes")
    if arguments.conditioning and not arguments.labels:
        raise Refused("--conditioning says how the classes come in: it is for ddpm, and needs --labels")
    with cli_errors(folder):
        check_writable(folder)
    return Settings.typed(arguments)


def _images(settings: Settings, evaluator: Classifier | None, device: torch.device) -> ImageSet:
    with cli_errors():
        data = load(settings.data, "train", size=settings.size, device=device)
    if evaluator is not None and evaluator.shape != data.shape:
        raise Refused(f"--evaluator: it looks at images of shape {evaluator.shape}, these are {data.shape}")
    return data


def _begin(folder: Path, settings: Settings, data: ImageSet) -> Run:
    """Fix everything that decides the numbers of the run, the number of steps among it, and write it down."""
    with cli_errors():
        run = Run.new(settings, data)
    if settings.minutes is not None:
        run = _with_steps_for(run, settings.minutes, data)
    with cli_errors(folder):
        run.write(folder)
    return run


def _with_steps_for(run: Run, minutes: float, data: ImageSet) -> Run:
    """Turn minutes into steps, on a copy of the model: the learning rate must know the end of the run beforehand."""
    made = run.make(data.device)

    def seconds_for(steps: int) -> float:
        history = fit(made.model, made.loss, data, replace(run.recipe, steps=steps), progress=False, say=None)
        if history.interrupted:
            raise KeyboardInterrupt
        return history.seconds

    seconds_for(3)  # the first steps are slower
    steps, spent = 0, 0.0
    while spent < min(3.0, 3 * minutes):
        more = max(1, 2 * steps)
        steps, spent = steps + more, spent + seconds_for(more)
    each = spent / steps
    settings = replace(run.settings, steps=max(1, round(60 * minutes / each)))
    print(f"{1000 * each:.1f} ms a step: {settings.steps:,} steps take about {minutes:g} minutes.")
    return replace(run, settings=settings, recipe=settings.recipe())


def _announce(job: Job) -> None:
    run, settings, now = job.run, job.run.settings, torch.get_num_threads()
    size = f"{len(job.data):,} images of {'×'.join(map(str, job.data.shape))}"
    weights = sum(weight.numel() for weight in job.made.model.parameters())
    print(
        f"{settings.kind} on {job.data.title}: {size}; {weights:,} weights; {settings.steps:,} steps of "
        f"{settings.batch}; {describe(job.data.device, now)}; in {job.folder}",
        flush=True,
    )
    if run.threads != now and (job.folder / CHECKPOINT).exists():
        print(
            f"This run began with {run.threads} threads and goes on with {now}: sums are added in another order, and "
            f"the last bits will differ. OMP_NUM_THREADS={run.threads} avoids that."
        )


def _train(job: Job, save_every: int) -> int:
    clear_left_overs(job.folder / MODEL)
    settings, status = job.run.settings, 0
    saving = {"checkpoint": job.folder / CHECKPOINT, "checkpoint_every": save_every}
    try:
        history = fit(job.made.model, job.made.loss, job.data, job.run.recipe, **saving)
    except CheckpointRefused as error:
        reason = str(error).split(";")[0]
        raise Refused(f"--resume: {reason}; begin anew with another --out, or remove that folder") from None
    except TrainingDiverged as error:
        what = str(error).split(". Try ")[0]
        print(f"train: {what}. Begin another run, with a smaller --lr (this had {settings.lr:g})", file=sys.stderr)
        history, status = error.history, 1
    if history.steps:
        status = keep(job, history) or status
    if len(history.steps) < settings.steps:
        status = status or 130
    if status == 130:
        print(f"Go on with: python -m course_utils train {settings.kind} --out {shlex.quote(str(job.folder))} --resume")
    return status
