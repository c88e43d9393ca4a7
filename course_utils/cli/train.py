"""`python -m course_utils train`: a folder with a trained model, whatever happens on the way."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from .. import device as devices
from ..data import ImageSet, load
from ..data.loading import resolve
from ..data.sets import SETS
from ..files import check_writable, clear_left_overs, sole_user
from ..models.autoencoder_kl import AutoencoderKL
from ..models.classifier import Classifier
from ..notebook import describe
from ..training import CheckpointRefused, History, TrainingDiverged, fingerprint, steps_in, steps_within
from ..weights import load_autoencoder, load_classifier, save
from . import Refused, cli_errors
from .artifacts import MODEL, keep
from .kinds import KINDS, OPTIONS, fitting
from .runs import RECORD, Job, Run, Settings, to_type

CHECKPOINT = "checkpoint.pt"
AUTOENCODER = "autoencoder.safetensors"  # a copy: the run goes on wherever the other one has gone


class Others(NamedTuple):
    """Trained models that a run needs: who judges what it draws, and who makes the codes that it learns."""

    evaluator: Classifier | None
    autoencoder: AutoencoderKL | None


def run(arguments: argparse.Namespace) -> int:
    """Train, keep, say so. Returns 0, 1 if the run failed, 130 if it was stopped by hand."""
    _fit_together(arguments)
    with cli_errors():
        device = devices.pick_device(arguments.device)
        if arguments.data is not None:
            arguments.data = _data_name(arguments.data)
        evaluator = None if arguments.evaluator is None else load_classifier(arguments.evaluator, device)
        autoencoder = None if arguments.autoencoder is None else load_autoencoder(arguments.autoencoder, device)
    others = Others(evaluator, autoencoder)
    if autoencoder is not None:
        arguments.autoencoder = Path(arguments.autoencoder).resolve().name
        arguments.size = arguments.size or autoencoder.shape[1]
    torch.set_num_threads(devices.pick_threads())
    folder = _folder(arguments)
    with cli_errors(folder):
        resumed = Run.read(folder) if arguments.resume else None
        check_writable(folder)
    with _alone_in(folder):
        if resumed is None:
            settings = _new_settings(folder, arguments)
            data = _images(settings, others, device)
            run = _begin(folder, settings, data, others, arguments.batch)
        else:
            resumed.refuse_others(folder, arguments)
            others = _as_begun(folder, resumed, others, device)
            run, data = _resume(folder, resumed, arguments, others, device)
        with cli_errors():
            job = Job(folder, run, data, run.make(device, others.autoencoder), evaluator)
        _announce(job)
        return _train(job, arguments)


def _fit_together(arguments: argparse.Namespace) -> None:
    """Raises Refused for options that don't go together."""
    kind = KINDS[arguments.kind]
    for option, purpose in OPTIONS.items():
        if getattr(arguments, option) and option not in kind.options:
            raise Refused(f"--{option} is for {fitting(option)}: {kind.refuses.get(option, purpose)}")
    if arguments.conditioning and not (arguments.labels or arguments.resume):
        raise Refused("--conditioning says how the classes come in: it needs --labels")
    if arguments.conditioning == "plane" and arguments.network == "dit":
        raise Refused("--conditioning: a plane goes beside the input of a U-Net's blocks; leave it out with a dit")
    if "autoencoder" in kind.options and not (arguments.autoencoder or arguments.resume):
        raise Refused(
            f"--autoencoder: {arguments.kind} learns the codes of one; say which, such as the folder that train "
            "autoencoder wrote"
        )


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two trainings in one folder would overwrite each other's files."""
    with contextlib.ExitStack() as inside:
        try:
            inside.enter_context(sole_user(folder))
        except BlockingIOError:
            raise Refused(f"another training is at work in '{folder}': wait for it, or choose another --out") from None
        yield


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
    """Those of a new run. Refuses a folder that holds one."""
    there = [name for name in (RECORD, CHECKPOINT, MODEL) if (folder / name).exists()]
    if there:
        goes_on = RECORD in there and (CHECKPOINT in there or MODEL not in there)
        way_out = "go on with --resume, or " * goes_on + "choose another --out"
        raise Refused(f"'{folder}' already holds a run ({there[0]}): {way_out}")
    return Settings.typed(arguments)


def _images(settings: Settings, others: Others, device: torch.device) -> ImageSet:
    if settings.size not in (28, 32, 64):
        raise Refused(f"--size: expected 28, 32 or 64 pixels, got {settings.size}")
    with cli_errors():
        data = load(settings.data, "train", size=settings.size, device=device)
    for option, other in others._asdict().items():
        if other is not None and other.shape != data.shape:
            raise Refused(f"--{option}: it looks at images of shape {other.shape}, these are {data.shape}")
    return data


def _begin(folder: Path, settings: Settings, data: ImageSet, others: Others, batch: int | None) -> Run:
    """Fix everything that decides the numbers of the run, the number of steps among it, and write it down.

    batch: as it was typed; where it wasn't, a small set is one batch.
    """
    if batch is not None and batch > len(data):
        raise Refused(f"--batch: there are {len(data):,} images to train on; expected at most that, got {batch:,}")
    with cli_errors():
        run = Run.new(replace(settings, batch=min(settings.batch, len(data))), data, others.autoencoder)
    if settings.minutes is not None:
        run = run.train_on(0, _steps_in(settings.minutes, run, data, others))
    with cli_errors(folder):
        if others.autoencoder is not None:
            save(folder / AUTOENCODER, others.autoencoder, others.autoencoder.card)
        run.write(folder)
    return run


def _as_begun(folder: Path, run: Run, others: Others, device: torch.device) -> Others:
    """The autoencoder that a run was begun with, from its folder; refuses another one that was typed."""
    if run.settings.autoencoder is None:
        return others
    with cli_errors():
        own = load_autoencoder(folder / AUTOENCODER, device)
    if others.autoencoder is not None and others.autoencoder.card["checksum"] != own.card["checksum"]:
        raise Refused(f"--resume: '{folder}' was begun with another autoencoder; leave --autoencoder out to go on")
    return others._replace(autoencoder=own)


def _resume(
    folder: Path, run: Run, arguments: argparse.Namespace, others: Others, device: torch.device
) -> tuple[Run, ImageSet]:
    """The run as it goes on, wherever its images are now, and longer if that was asked for."""
    before = run
    if arguments.data is not None:
        run = replace(run, settings=replace(run.settings, data=arguments.data))
    elif run.settings.data not in SETS and not Path(run.settings.data).is_dir():
        out = shlex.quote(str(folder))
        raise Refused(
            f"--resume: its images are no longer in '{run.settings.data}'; say where they are: --out {out} --resume "
            "--data FOLDER"
        )
    data = _images(run.settings, others, device)
    if run.images is not None and run.images != (here := fingerprint(data)):
        raise Refused(
            f"--resume: '{folder}' was begun with other images: {run.images}, not {here}; give those to --data"
        )
    with _checkpoint_errors():
        done = steps_in(folder / CHECKPOINT)
    if done == 0 and (folder / MODEL).exists():
        raise Refused(
            f"--resume: '{folder}' holds a model, but no {CHECKPOINT} to go on from; the model stays as it is: "
            "to train another, choose another --out"
        )
    longer = _longer(run, arguments, done, data, others)
    if longer != before:
        with cli_errors(folder):
            longer.write(folder)
    return longer, data


@contextlib.contextmanager
def _checkpoint_errors() -> Iterator[None]:
    try:
        yield
    except CheckpointRefused as error:
        reason = str(error).split(";")[0]
        raise Refused(f"--resume: {reason}; begin anew with another --out, or remove that folder") from None


def _longer(run: Run, arguments: argparse.Namespace, done: int, data: ImageSet, others: Others) -> Run:
    """The run with more steps or minutes, if those were typed; what becomes of its learning rate is said."""
    planned, steps = run.settings.steps, arguments.steps or run.settings.steps
    if arguments.minutes is not None and (done == planned or arguments.minutes != run.settings.minutes):
        run = replace(run, settings=replace(run.settings, minutes=arguments.minutes))
        steps = done + _steps_in(arguments.minutes, run, data, others)
    if steps == planned:
        return run
    if steps <= done:
        raise Refused(f"--steps: this run has made {done:,} steps; expected more than that in all, got {steps:,}")
    run = run.train_on(done, steps)
    if run.recipe.restart == done > 0:
        print(
            f"Trained on from step {done:,} to {steps:,}: the learning rate climbs again, stays, and falls over the "
            "second half of what is added (a warm restart)."
        )
    else:
        print(f"{steps:,} steps in all, as if it had been begun so: the learning rate had not begun to fall.")
    return run


def _steps_in(minutes: float, run: Run, data: ImageSet, others: Others) -> int:
    """Minutes as steps, tried on a copy of the model."""
    made, recipe = run.make(data.device, others.autoencoder), replace(run.recipe, restart=0)

    def trial(steps: int) -> History:
        history = made.train(data, replace(recipe, steps=steps), progress=False, say=None)
        if history.interrupted:
            raise KeyboardInterrupt
        return history

    steps = steps_within(60 * minutes, trial)
    print(f"{60_000 * minutes / steps:.1f} ms a step: {steps:,} steps take about {minutes:g} minutes.")
    return steps


def _announce(job: Job) -> None:
    run, settings, now = job.run, job.run.settings, torch.get_num_threads()
    size = f"{len(job.data):,} images of {'×'.join(map(str, job.data.shape))}"
    weights = sum(weight.numel() for weight in job.made.parts.network.parameters())
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


def _train(job: Job, arguments: argparse.Namespace) -> int:
    clear_left_overs(job.folder / MODEL)
    settings, status = job.run.settings, 0
    saving = {"checkpoint": job.folder / CHECKPOINT, "checkpoint_every": arguments.save_every}
    try:
        try:
            with _checkpoint_errors():
                history = job.made.train(job.data, job.run.recipe, **saving)
        except TrainingDiverged as error:
            what = str(error).split(". Try ")[0]
            print(f"train: {what}. Begin another run, with a smaller --lr (this had {settings.lr:g})", file=sys.stderr)
            history, status = error.history, 1
        if history.steps:
            status = keep(job, history) or status
        stopped = len(history.steps) < settings.steps
    except KeyboardInterrupt:  # the second one, or one while the model is measured
        stopped = True
    status = status or 130 * stopped
    if status == 130:
        print(f"Go on with: {_to_go_on(job, arguments)}")
    elif status == 0 and settings.minutes and not job.run.earlier:
        took = history.seconds / 60
        if took < 0.7 * settings.minutes:
            rest = _to_go_on(job, arguments, "--minutes", f"{settings.minutes - took:.1f}")
            print(
                f"That took {took:.1f} of {settings.minutes:g} minutes: the machine had less to do than when its speed "
                f"was measured. For the rest: {rest}"
            )
    return status


def _to_go_on(job: Job, arguments: argparse.Namespace, *more_time: str) -> str:
    """The command, with what run.json doesn't hold."""
    judge = arguments.evaluator and (os.path.exists(arguments.evaluator) and os.path.abspath(arguments.evaluator))
    more = {"--evaluator": judge or arguments.evaluator, "--device": arguments.device}
    words = [word for name, value in more.items() if value for word in (name, value)]
    return to_type("train", job.run.settings.kind, "--out", str(job.folder.resolve()), "--resume", *more_time, *words)
