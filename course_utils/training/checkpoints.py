"""Checkpoints: saved beside and renamed, refused where they belong to something else, read without unpickling code."""

from __future__ import annotations

import functools
import inspect
import io
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files import clear_left_overs, write_whole
from .history import History
from .recipe import LR_SCHEDULES, Recipe, same_rates


class CheckpointRefused(ValueError):
    """The checkpoint is damaged, or of another model, data, loss or recipe. Neither it nor the model was changed."""


SCHEDULE = ("steps", "warmup", "restart", "lr_schedule")  # what decides the learning rate of each step, beside its top


class Saver:
    """Saves parts and history to one file and brings them back. Only tensors, numbers and words are unpickled."""

    def __init__(self, path: str | os.PathLike, parts: Mapping[str, Any], about: dict[str, Any]):
        self.path, self.parts, self.about = Path(path), parts, about
        self.about["model"] = "\n".join(_drawing(part) for part in parts.values())
        self.step, self.complained = 0, False  # the step that the file holds; has the user been told that saving fails?
        if self.path.is_dir():
            raise ValueError(
                f"checkpoint: expected a file, got the folder '{self.path}'; add a name, such as 'model.pt'"
            )

    def save(self, history: History) -> str | None:
        """Save, or tell in one line (once) why not: training goes on, and what was saved before stays."""
        content = {
            "format": 1,
            "about": self.about,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "loss": torch.tensor(history.loss, dtype=torch.float64),
            "terms": {name: torch.tensor(values, dtype=torch.float64) for name, values in history.terms.items()},
            "seconds": history.seconds,
        }
        try:
            write_whole(self.path, _packed(content))
        except OSError as error:
            told, self.complained = self.complained, True
            return (
                None
                if told
                else (
                    f"'{self.path}' could not be saved at step {len(history.steps)} ({error.strerror or error})."
                    " Training goes on, and what was saved before is untouched."
                    " Make room, or choose a folder that can be written to."
                )
            )
        self.step, self.complained = len(history.steps), False
        return None

    def restore(self, history: History) -> int:
        """Put parts and history where the file left them. Returns the number of steps done, 0 if there is no file."""
        clear_left_overs(self.path)
        if not self.path.exists():
            return 0
        content = _read(self.path)
        self._refuse_others(content)
        for name, part in self.parts.items():
            part.load_state_dict(content["parts"][name])
        history.loss = content["loss"].tolist()
        history.steps = list(range(1, len(history.loss) + 1))
        history.terms = {name: values.tolist() for name, values in content["terms"].items()}
        history.seconds = content["seconds"]
        self.step = len(history.steps)
        return self.step

    def _refuse_others(self, content: dict) -> None:
        def refuse(what: str, there: Any, here: Any, way_out: str = ""):
            raise CheckpointRefused(
                f"checkpoint '{self.path}' is of another run: {what} is {there} there and {here} here; "
                f"{way_out}use another file, or resume=False to start anew and overwrite it"
            )

        there, here, done = {"restart": 0} | content["about"], self.about, len(content["loss"])
        # The shapes of weights first, then layers without weights, such as dropout, then the rest.
        for name, part in self.parts.items():
            if isinstance(part, torch.optim.Optimizer):
                continue  # its state comes with its first step
            mine, saved = _shapes(part.state_dict()), _shapes(content["parts"].get(name, {}))
            for key in dict.fromkeys([*mine, *saved]):
                if mine.get(key) != saved.get(key):
                    refuse(f"{name}'s {key}", saved.get(key, "missing"), mine.get(key, "missing"))
        for line_there, line_here in zip(there["model"].splitlines(), here["model"].splitlines()):
            if line_there != line_here:
                refuse("a layer", line_there.strip(), line_here.strip())
        for key in dict.fromkeys([*here, *there]):
            if key in SCHEDULE and _may_go_on(there, here, done):
                continue
            if key == "data" and _contents(there[key]) == _contents(here[key]):
                continue  # whatever the folder is called now
            if there.get(key) != here.get(key):
                on = f"restart={done} trains on with a rate that climbs anew, " * (key in SCHEDULE)
                refuse(key, repr(there.get(key)), repr(here.get(key)), on * (done < here["steps"]))


def _may_go_on(there: dict[str, Any], here: dict[str, Any], done: int) -> bool:
    """May a run of `done` steps under the one schedule go on under the other? If no step that was made differs, or if
    the other begins anew where it stands."""
    if done > here["steps"]:
        return False
    if done == here["restart"] or all(there[key] == here[key] for key in SCHEDULE):
        return True
    if not {there["lr_schedule"], here["lr_schedule"]} <= LR_SCHEDULES.keys():
        return False  # somebody's own: known by its name alone
    return same_rates(*(Recipe(**{key: about[key] for key in SCHEDULE}) for about in (there, here)), done)


def _contents(name: str) -> str:
    """Of "leaves, 40 of 1×28×28 (1f0c…)" all but what the set is called."""
    return name.rpartition(", ")[2]


def steps_in(path: str | os.PathLike) -> int:
    """How many steps the run of a checkpoint has made; 0 where there is no file. Raises CheckpointRefused."""
    return len(_read(Path(path))["loss"]) if Path(path).exists() else 0


def _packed(content: dict) -> memoryview:
    # In memory first, so that a full disk is an OSError with a reason and not an error of torch's own.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def _read(path: Path) -> dict:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointRefused(f"checkpoint '{path}' could not be read ({error.strerror or error})") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError):
        raise CheckpointRefused(
            f"checkpoint '{path}' is damaged, or not a checkpoint; remove it, or use resume=False"
        ) from None
    if not isinstance(content, dict) or content.get("format") != 1:
        raise CheckpointRefused(f"checkpoint '{path}' was not written by `fit`; use another file, or resume=False")
    return content


def _shapes(state: Any) -> dict[str, str]:
    """Every tensor's shape in a nested state, by its place: {"0.weight": "64×1×3×3"}."""
    if isinstance(state, Tensor):
        return {"": "×".join(map(str, state.shape)) or "one number"}
    children = state.items() if isinstance(state, Mapping) else []
    return {f"{key}.{place}".strip("."): shape for key, child in children for place, shape in _shapes(child).items()}


def _drawing(part: Any) -> str:
    """A module as PyTorch prints it, its layers and their settings; without addresses, which differ from run to run."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(part)) if isinstance(part, nn.Module) else ""


def plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe in numbers and words, so that two can be compared, and one saved without pickling code."""
    values = {f.name: getattr(recipe, f.name) for f in fields(recipe)}
    return {name: v if isinstance(v, (int, float, str, type(None))) else name_of(v) for name, v in values.items()}


def name_of(thing: Any) -> str:
    if isinstance(thing, functools.partial):
        return (
            f"{name_of(thing.func)}({', '.join(f'{name}={value!r}' for name, value in sorted(thing.keywords.items()))})"
        )
    if isinstance(thing, torch.optim.Optimizer):
        return f"{type(thing).__name__}(lr={', '.join(str(group['lr']) for group in thing.param_groups)})"
    # A loss that was made for one β is another loss than the one that was made for β = 4: numbers it closes over count.
    closed_over = inspect.getclosurevars(thing).nonlocals if inspect.isfunction(thing) else {}
    numbers = [
        f"{name}={value!r}" for name, value in sorted(closed_over.items()) if isinstance(value, (int, float, str))
    ]
    name = getattr(thing, "__qualname__", type(thing).__name__)
    return f"{name}({', '.join(numbers)})" if numbers else name
