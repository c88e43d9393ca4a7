"""What a training run is, read once from what was typed or from run.json; model, schedule and loss are made from it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import device as devices
from ..data import ImageSet
from ..data.sets import SETS
from ..files import write_whole
from ..models.autoencoder_kl import AutoencoderKL
from ..models.classifier import Classifier
from ..training import History, Recipe, fingerprint, same_rates
from ..weights import architecture, build
from . import Refused, defaults
from .kinds import KINDS, Kind, Parts

RECORD = "run.json"
PROGRAM = ("python", "-m", "course_utils")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What can be typed about a run. The names are those of the options of `train`."""

    kind: str  # one of KINDS
    data: str = "fashion-mnist"
    size: int = 28
    labels: bool = False
    conditioning: str = "added"
    network: str = "unet"
    autoencoder: str | None = None  # what it is called; the thing itself lies in the folder of the run
    steps: int
    minutes: float | None = None
    batch: int
    lr: float
    seed: int = 0

    @classmethod
    def typed(cls, arguments: argparse.Namespace) -> Settings:
        """What was typed, and defaults for the rest."""
        typed = given(arguments)
        usual = defaults.recipe(typed["kind"], defaults.STEPS, network=typed.get("network", cls.network))
        own = {"steps": defaults.STEPS, "batch": usual.batch_size, "lr": usual.lr}
        return cls(**own | typed)

    @property
    def of(self) -> Kind:
        """What it is that is trained."""
        return KINDS[self.kind]

    @property
    def with_classes(self) -> bool:
        """Does the model learn about classes?"""
        return self.labels or self.of.classes

    def recipe(self, restart: int = 0) -> Recipe:
        """How it is trained. restart: the step from which it is trained on, with a learning rate that begins anew."""
        alone = defaults.recipe(self.kind, self.steps - restart, self.batch, self.lr, self.seed, self.network)
        return replace(alone, steps=self.steps, restart=restart)


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were typed: the others are None."""
    return {f.name: value for f in fields(Settings) if (value := getattr(arguments, f.name)) is not None}


class Made(NamedTuple):
    """What a run trains, and how: `train(data, recipe, **watch)` is the whole training."""

    parts: Parts
    train: Callable[..., History]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that decides the numbers of a run. run.json holds it, and --resume reads it there."""

    settings: Settings
    architecture: dict[str, Any]  # as weights.build takes it
    recipe: Recipe
    schedule: dict[str, Any] | None = None  # {"name": ..., "T": ...}, of the noise
    prediction_type: str | None = None
    threads: int
    images: str | None = None  # their fingerprint: they may lie elsewhere by now, or be called otherwise
    earlier: list[dict[str, int]] = field(default_factory=list)  # {"steps", "done"}: planned and made, before a restart

    @classmethod
    def new(cls, settings: Settings, data: ImageSet, autoencoder: AutoencoderKL | None = None) -> Run:
        """A run that begins with these images, or with their codes."""
        classes = len(data.classes) if settings.with_classes else None
        shape = data.shape if autoencoder is None else autoencoder.code_shape
        noisy = {"schedule": defaults.SCHEDULE, "prediction_type": defaults.PREDICTION_TYPE}
        return cls(
            settings=settings,
            architecture=architecture(
                defaults.model(settings.kind, shape, classes, settings.conditioning, settings.network)
            ),
            recipe=settings.recipe(),
            threads=torch.get_num_threads(),
            images=fingerprint(data),
            **(noisy if settings.of.noisy else {}),
        )

    @classmethod
    def read(cls, folder: Path) -> Run:
        """The run in a folder. Raises Refused, or OSError where the record can't be read."""
        try:
            content = json.loads((folder / RECORD).read_bytes())
            if content.pop("format") != 1:
                raise LookupError
            if isinstance(content["network"], dict):  # of before there was a choice of it
                content["architecture"] = content.pop("network")
            settings = Settings(**{f.name: content.pop(f.name) for f in fields(Settings) if f.name in content})
            settings = replace(settings, data=_found(settings.data, content.pop("data_from_here", None), folder))
            return cls(settings=settings, recipe=Recipe(**content.pop("recipe")), **content)
        except FileNotFoundError:
            empty = not folder.is_dir() or not any(folder.iterdir())
            way_out = "leave --resume out to begin one" if empty else "begin one with another --out"
            raise Refused(f"--resume: there is no run in '{folder}' (no {RECORD}); {way_out}") from None
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Refused(f"--resume: '{folder / RECORD}' is damaged; begin anew with another --out") from None

    def write(self, folder: Path) -> None:
        """Write run.json."""
        content = asdict(self)
        content = {"format": 1} | content.pop("settings") | _places(self.settings.data, folder) | content
        write_whole(folder / RECORD, json.dumps(content, indent=1, ensure_ascii=False).encode())

    def refuse_others(self, folder: Path, arguments: argparse.Namespace) -> None:
        """Raises Refused where something was typed that contradicts the run.

        (A run may grow; images and autoencoder may move, and what is in them is compared elsewhere.)
        """
        for key, value in given(arguments).items():
            mine = getattr(self.settings, key)
            if value != mine and key not in ("data", "steps", "minutes", "autoencoder"):
                what = "it trains a" if key == "kind" else f"its --{key} is"
                raise Refused(
                    f"--resume: '{folder}' holds another run: {what} {_said(mine)}, not {_said(value)}; leave that "
                    "out to go on with it, or begin another with another --out"
                )

    def make(self, device: torch.device, autoencoder: AutoencoderKL | None = None) -> Made:
        """Model with its first weights, noise schedule and training, on this device."""
        schedule = None if self.schedule is None else defaults.schedule(**self.schedule).to(device)
        with devices.seeded(self.settings.seed):
            parts = Parts(build(self.architecture).to(device), schedule, self.prediction_type, autoencoder)
            return Made(parts, self.settings.of.training(parts))

    def train_on(self, done: int, steps: int) -> Run:
        """The same run with so many steps in all, of which `done` are made.

        As long as the learning rate hasn't begun to fall it is simply longer, as if it had been begun so. After that
        the rate climbs again and falls once more at the new end: a warm restart (Loshchilov and Hutter 2017), which is
        also how language models are trained on (Ibrahim et al. 2024).
        """
        settings = replace(self.settings, steps=steps)
        longer = settings.recipe(self.recipe.restart)
        if same_rates(self.recipe, longer, done):
            return replace(self, settings=settings, recipe=longer)
        earlier = [*self.earlier, {"steps": self.settings.steps, "done": done}]
        return replace(self, settings=settings, recipe=settings.recipe(restart=done), earlier=earlier)

    def command(self, folder: Path) -> str:
        """The commands that repeat a run, for its card: private places are left out, of each the last name stays.

        (Minutes depend on the machine, steps don't.)

        >>> settings = Settings(kind="ddpm", data="digits", labels=True, steps=9, batch=5, lr=0.01)
        >>> Run(settings=settings, architecture={}, recipe=settings.recipe(), threads=1).command(Path("out"))
        '`python -m course_utils train ddpm --data digits --labels --steps 9 --batch 5 --seed 0 --out out`'
        """
        kind, words, out = self.settings.kind, [], ("--out", folder.resolve().name)
        plain = defaults.recipe(kind, defaults.STEPS, network=self.settings.network)
        usual = {name: getattr(Settings, name) for name in ("size", "labels", "conditioning", "network", "autoencoder")}
        usual |= {"batch": plain.batch_size, "lr": plain.lr}
        steps = [*(part["steps"] for part in self.earlier), self.settings.steps]
        shown = asdict(self.settings) | {"data": Path(self.settings.data).name, "steps": steps[0]}
        for name, value in shown.items():
            if name not in ("kind", "minutes") and value != usual.get(name):
                words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        said = f"`{shlex.join([*PROGRAM, 'train', kind, *words, *out])}`"
        for part, more in zip(self.earlier, steps[1:]):
            on = [*PROGRAM, "train", kind, *out, "--resume", "--steps", str(more)]
            said += f", after {part['done']:,} steps `{shlex.join(on)}`"
        return said


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


def to_type(*words: str) -> str:
    """A command that works when it is copied, from any folder, with this Python: quoted for the shell at hand.

    >>> to_type("train", "ddpm", "--out", "my run").endswith("-m course_utils train ddpm --out 'my run'")
    True
    """
    here = shutil.which("python")
    same = here is not None and Path(here).absolute() == Path(sys.executable).absolute()
    command = ["python" if same else sys.executable, *PROGRAM[1:], *words]
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)


def _places(data: str, folder: Path) -> dict[str, str]:
    """Where the images lie, as run.json holds it: seen from home and from the run's folder. No home is named in it."""
    if data in SETS:
        return {}
    path, home, folder = Path(data), Path.home(), folder.resolve()
    private = path.is_relative_to(home)
    places = {"data": str(Path("~", path.relative_to(home))) if private else data}
    if folder.is_relative_to(home) or not private:
        with contextlib.suppress(ValueError):  # on Windows there is no way from one drive to another
            places["data_from_here"] = Path(os.path.relpath(path, folder)).as_posix()
    return places


def _found(data: str, from_here: str | None, folder: Path) -> str:
    """The place of the images now: where they were, or where they lie seen from the run's folder, if both moved."""
    if data in SETS:
        return data
    places = [Path(data).expanduser(), *([folder.resolve() / from_here] if from_here else [])]
    return str(next((place.resolve() for place in places if place.is_dir()), places[0]))
