"""What a training run is, read once from what was typed or from run.json; model, schedule and loss are made from it."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from .. import device as devices
from ..data import ImageSet
from ..diffusion import Schedule, diffusion_loss, noisy_classifier_loss
from ..files import write_whole
from ..models.classifier import Classifier, classifier_loss
from ..training import Recipe
from ..weights import architecture, build
from . import Refused, defaults

RECORD = "run.json"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What can be typed about a run. The names are those of the options of `train`."""

    kind: str  # ddpm, classifier or noisy-classifier
    data: str = "fashion-mnist"
    size: int = 28
    labels: bool = False
    conditioning: str = "added"
    steps: int
    minutes: float | None = None
    batch: int
    lr: float
    seed: int = 0

    @classmethod
    def typed(cls, arguments: argparse.Namespace) -> Settings:
        """What was typed, and defaults for the rest."""
        kind = arguments.kind
        own = {"steps": defaults.STEPS[kind], "batch": defaults.BATCH[kind], "lr": defaults.LR[kind]}
        return cls(**own | given(arguments))

    @property
    def with_classes(self) -> bool:
        """Does the model learn about classes?"""
        return self.labels or self.kind != "ddpm"

    def recipe(self) -> Recipe:
        return defaults.recipe(self.kind, self.steps, self.batch, self.lr, self.seed)


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were typed: the others are None."""
    return {f.name: value for f in fields(Settings) if (value := getattr(arguments, f.name)) is not None}


class Made(NamedTuple):
    """What a run trains, and how. schedule: of the noise; None for a classifier of clean images."""

    model: nn.Module
    schedule: Schedule | None
    loss: Callable


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that decides the numbers of a run. run.json holds it, and --resume reads it there."""

    settings: Settings
    network: dict[str, Any]  # as weights.build takes it
    recipe: Recipe
    schedule: dict[str, Any] | None = None  # {"name": ..., "T": ...}, of the noise
    prediction_type: str | None = None
    threads: int

    @classmethod
    def new(cls, settings: Settings, data: ImageSet) -> Run:
        """A run that begins with these images."""
        classes = len(data.classes) if settings.with_classes else None
        noisy = {"schedule": defaults.SCHEDULE, "prediction_type": defaults.PREDICTION_TYPE}
        return cls(
            settings=settings,
            network=architecture(defaults.model(settings.kind, data.shape, classes, settings.conditioning)),
            recipe=settings.recipe(),
            threads=torch.get_num_threads(),
            **({} if settings.kind == "classifier" else noisy),
        )

    @classmethod
    def read(cls, folder: Path) -> Run:
        """The run in a folder. Raises Refused, or OSError where the record can't be read."""
        try:
            content = json.loads((folder / RECORD).read_bytes())
            if content.pop("format") != 1:
                raise LookupError
            settings = Settings(**{f.name: content.pop(f.name) for f in fields(Settings) if f.name in content})
            return cls(settings=settings, recipe=Recipe(**content.pop("recipe")), **content)
        except FileNotFoundError:
            raise Refused(
                f"--resume: there is no run in '{folder}' (no {RECORD}); leave --resume out to begin one"
            ) from None
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Refused(f"--resume: '{folder / RECORD}' is damaged; begin anew with another --out") from None

    def write(self, folder: Path) -> None:
        """Write run.json."""
        content = asdict(self)
        content = {"format": 1} | content.pop("settings") | content
        write_whole(folder / RECORD, json.dumps(content, indent=1, ensure_ascii=False).encode())

    def refuse_others(self, folder: Path, arguments: argparse.Namespace) -> None:
        """Raises Refused where something was typed that contradicts the run."""
        for key, value in given(arguments).items():
            mine = getattr(self.settings, key)
            if value != mine:
                what = "it trains a" if key == "kind" else f"its --{key} is"
                raise Refused(
                    f"--resume: '{folder}' holds another run: {what} {_said(mine)}, not {_said(value)}; leave that "
                    "out to go on with it, or begin another with another --out"
                )

    def make(self, device: torch.device) -> Made:
        """Model with its first weights, noise schedule and loss, on this device."""
        with devices.seeded(self.settings.seed):
            model = build(self.network).to(device)
        if self.schedule is None:
            return Made(model, None, classifier_loss)
        schedule = defaults.schedule(**self.schedule).to(device)
        if self.settings.kind == "noisy-classifier":
            return Made(model, schedule, noisy_classifier_loss(schedule))
        return Made(model, schedule, diffusion_loss(schedule, self.prediction_type, null=model.null))

    def command(self, folder: Path) -> str:
        """The command that repeats a run. (Minutes depend on the machine, steps don't.)

        >>> settings = Settings(kind="ddpm", data="digits", labels=True, steps=9, batch=5, lr=defaults.LR["ddpm"])
        >>> Run(settings=settings, network={}, recipe=settings.recipe(), threads=1).command(Path("out"))
        'python -m course_utils train ddpm --data digits --labels --steps 9 --batch 5 --seed 0 --out out'
        """
        kind, words = self.settings.kind, []
        usual = {"size": Settings.size, "labels": False, "conditioning": Settings.conditioning}
        usual |= {"batch": defaults.BATCH[kind], "lr": defaults.LR[kind]}
        for name, value in asdict(self.settings).items():
            if name not in ("kind", "minutes") and value != usual.get(name):
                words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return shlex.join(["python", "-m", "course_utils", "train", kind, *words, "--out", str(folder)])


@dataclass(frozen=True)
class Job:
    """A run at work: its folder, its images, what is trained, and the classifier that judges it in the end, if any."""

    folder: Path
    run: Run
    data: ImageSet
    made: Made
    evaluator: Classifier | None


def _said(value: Any) -> str:
    return {"None": "not given", "True": "given", "False": "not given"}.get(str(value), str(value))
