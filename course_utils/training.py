"""The training loop, for every model of the course: batches, learning rate, averaging, progress, checkpoints, exact resume.

Two functions, one on top of the other:

* `fit(model, loss, data, steps=400, lr=2e-3)`: the common case, one loss and one optimizer.
* `train(update, data, parts, recipe)`: the loop itself, around any `update(x, y, generator) -> {"loss": scalar, ...}`. A GAN
  takes its two optimizer steps inside `update`; `fit` is 20 lines around it.

**What happens in step k depends on (seed, k) and on nothing that came before** except the weights: the order of the images on
(seed, epoch), the `generator` that your loss gets and PyTorch's global generator (dropout) on (seed, k). So a run that was
killed and resumed gives the same bits as one that wasn't, on the same machine with the same number of threads (on a GPU some
kernels add in varying order, and the last bits differ between any two runs). Random numbers from NumPy or `random` are not covered.

**When `fit` returns, by whatever way, the model is in eval mode**, since what follows is sampling and measuring, and a model left
in training mode when sampling is the field's commonest bug. Call `model.train()` if you go on with a loop of your own.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import io
import math
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from tqdm.auto import tqdm

__all__ = ["EMA", "CheckpointRefused", "History", "Recipe", "TrainingDiverged", "fit", "learning_rate_factor", "train"]


# ---------------------------------------------------------------------------------------------------------------- what a run is


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the numbers of a run (how it is watched and saved does not, and isn't here).

    steps: optimizer steps.  batch_size: images a step (at most the data set).  lr: the learning rate at the schedule's top.
    optimizer: None (Adam), "adam", "adamw", "sgd", a callable `(parameters, lr=...) -> Optimizer`, or an Optimizer (its own lr).
    schedule: "flat", "cosine", "linear-half" (flat, then a straight line to 0 over the second half), or a callable from the
    fraction of the run that is done, in [0, 1), to a factor.  warmup: steps over which the rate first climbs from 0.
    ema: None, or the decay of a moving average of the weights, such as 0.999 (see `EMA`).  clip: None, or the largest norm
    that the gradient may have.  seed: decides order, noise and dropout.  mixed_precision: bfloat16 autocast; None means
    "where the processor computes in bfloat16".  channels_last: the memory layout in which convolutions are fastest.

    >>> replace(Recipe(steps=400), lr=1e-3).schedule
    'flat'
    """

    steps: int
    batch_size: int = 128
    lr: float = 2e-3
    optimizer: Any = None
    schedule: str | Callable[[float], float] = "flat"
    warmup: int = 0
    ema: float | None = None
    clip: float | None = None
    seed: int = 0
    mixed_precision: bool | None = None
    channels_last: bool = True

    def __post_init__(self):
        def need(holds: bool, name: str, expected: str):
            if not holds:
                raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

        need(_whole(self.steps) and self.steps >= 1, "steps", "a whole number of at least 1")
        need(_whole(self.batch_size) and self.batch_size >= 1, "batch_size", "a whole number of at least 1")
        need(_whole(self.warmup) and self.warmup >= 0, "warmup", "a whole number of steps, 0 for none")
        need(_whole(self.seed), "seed", "a whole number")
        need(0 < self.lr < math.inf, "lr", "a positive number, such as 2e-3")
        need(self.ema is None or 0 <= self.ema < 1, "ema", "None or a decay in [0, 1), such as 0.999")
        need(self.clip is None or self.clip > 0, "clip", "None or a positive norm, such as 1.0")
        need(callable(self.schedule) or self.schedule in SCHEDULES, "schedule", f"one of {', '.join(SCHEDULES)}, or a callable")


@dataclass
class History:
    """What a run leaves behind, as plain lists: one entry a step, from step 1. The units are those of your loss.

    terms: the further scalars that the loss returned, by name.  seconds: spent in training steps, earlier parts of a resumed
    run included, `on_step` left out.  interrupted: stopped by hand.  ema_model: the averaged model, or None.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False
    ema_model: nn.Module | None = field(default=None, repr=False)


class TrainingDiverged(ValueError):
    """The loss or a weight became nan or infinite. The model holds the last weights that were good; so does `.history`.

    step: the step (from 1) at which it was seen.  history: the steps up to the weights that were kept.
    """

    def __init__(self, message: str, step: int, history: History):
        super().__init__(message)
        self.step, self.history = step, history


class CheckpointRefused(ValueError):
    """The checkpoint is damaged, or belongs to another model, data set or recipe. Nothing was changed."""


# -------------------------------------------------------------------------------------------------------- learning-rate schedules

SCHEDULES: dict[str, Callable[[float], float]] = {
    "flat": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear-half": lambda done: min(1.0, 2 * (1 - done)),
}


def learning_rate_factor(step: int, recipe: Recipe) -> float:
    """What the learning rate is multiplied by in step `step` (from 0): the schedule times the warm-up (k+1)/warmup.

    >>> [round(learning_rate_factor(k, Recipe(steps=8, schedule="linear-half")), 2) for k in range(8)]
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    >>> [round(learning_rate_factor(k, Recipe(steps=4, warmup=4)), 2) for k in range(4)]
    [0.25, 0.5, 0.75, 1.0]
    """
    schedule = recipe.schedule if callable(recipe.schedule) else SCHEDULES[recipe.schedule]
    climb = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    return climb * schedule(step / recipe.steps)


# --------------------------------------------------------------------------------------------------- the moving average of weights


class EMA:
    r"""A copy of the model whose weights are an exponential moving average of the model's, for sampling.

    Update number n (from 0):  \bar\theta \leftarrow d_n \bar\theta + (1 - d_n)\,\theta,   d_n = min(decay, (1 + n) / (10 + n)).

    The warm-up of d_n lets the average forget the random weights it began with: with a constant 0.999, a third of them would
    still be there after 1,000 steps. Buffers (BatchNorm's statistics) are copied, not averaged.
    model: the averaged copy, in eval mode, without gradients; use it like the model itself.

    >>> model = nn.Linear(1, 1); average = EMA(model, decay=0.999)
    >>> with torch.no_grad(): _ = average.model.weight.fill_(0.0), model.weight.fill_(1.0)
    >>> average.update(model); round(average.model.weight.item(), 4)        # d_0 = 1/10
    0.9
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: expected a decay in [0, 1), such as 0.999, got {decay!r}")
        self.decay, self.updates = decay, 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights, by one step."""
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        # One call for all weights: a Python loop over them would cost more than the arithmetic.
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - d)
        for average, buffer in zip(self.model.buffers(), model.buffers()):
            average.copy_(buffer)
        self.updates += 1

    def state_dict(self) -> dict:
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping) -> None:
        self.updates = state["updates"]
        self.model.load_state_dict(state["model"])


# ----------------------------------------------------------------------------------------------------------------------- the two


def fit(
    model: nn.Module,
    loss: Callable,
    data: Any,
    recipe: Recipe | None = None,
    *,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 500,
    resume: bool = True,
    progress: bool = True,
    on_step: Callable[[int, History], Any] | None = None,
    every: int = 50,
    **options,
) -> History:
    """Train a model with one loss and one optimizer. Returns the `History`; the model is changed in place and left in eval mode.

    model: where it is, it stays (put it on the GPU first); several networks go into an `nn.ModuleDict`.
    loss: `loss(model, x, y, generator)` gives a scalar tensor, or `(scalar, {"name": scalar, ...})` to record more terms.
        x is float (b, c, h, w) in [-1, 1], y int64 (b,). Draw randomness from `generator`, or from PyTorch's global one.
    data: an ImageSet, a tensor of examples (n, ...), or a pair (examples, labels); labels are zeros where there are none.
    recipe, options: a `Recipe`, or its fields as keywords (`steps=400, lr=2e-3, ema=0.999`), or both (keywords win).
    checkpoint: a file to save to, every `checkpoint_every` steps and at the end; if it is there already, the run goes on
        where it stopped (`resume=False` starts anew and overwrites it).
    on_step: `on_step(step, history)` is called after each `every` steps and at the end, model in eval mode, no gradients.
    progress: a bar, except in CI, under nbgrader, and where COURSE_QUIET is set.

    Interrupting (the stop button, Ctrl-C) finishes the step, keeps the model and saves the checkpoint. A second one stops at once.
    Raises TrainingDiverged on nan, CheckpointRefused on a checkpoint of something else, ValueError and TypeError on bad input.

    >>> x = torch.linspace(-1, 1, 64).reshape(64, 1)
    >>> model = nn.Linear(1, 1)
    >>> history = fit(model, lambda model, x, y, generator: (model(x) - 3 * x).square().mean(), x,
    ...               steps=200, lr=0.1, batch_size=16, progress=False)
    >>> round(model.weight.item(), 1), len(history.loss), model.training
    (3.0, 200, False)
    """
    recipe = _recipe(recipe, options)
    device = _device_of({"model": model})
    optimizer = _make_optimizer(model, recipe, device)
    average = EMA(model, recipe.ema) if recipe.ema is not None else None
    weights = [p for group in optimizer.param_groups for p in group["params"]]

    def update(x: Tensor, y: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        with _autocast(device, recipe.mixed_precision):
            value, terms = _loss_and_terms(loss(model, x, y, generator))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(weights, recipe.clip)
        optimizer.step()
        if average is not None:
            average.update(model)
        return {"loss": value.detach(), **terms}

    parts = {"model": model, "optimizer": optimizer} | ({"ema": average} if average else {})
    try:
        history = train(
            update, data, parts, recipe, about=_name_of(loss), checkpoint=checkpoint, checkpoint_every=checkpoint_every,
            resume=resume, progress=progress, on_step=on_step, every=every,
        )  # fmt: skip
    finally:
        optimizer.zero_grad(set_to_none=True)  # gradients are as large as the model, and of no more use
    return history


def train(
    update: Callable,
    data: Any,
    parts: Mapping[str, Any],
    recipe: Recipe,
    *,
    about: str = "",
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 500,
    resume: bool = True,
    progress: bool = True,
    on_step: Callable[[int, History], Any] | None = None,
    every: int = 50,
) -> History:
    """The loop: `update(x, y, generator) -> {"loss": scalar, other names: scalars}`, once a step. It does its own optimizer steps.

    parts: everything that has state, by name: modules, optimizers, EMAs. Modules train here and are left in eval mode, optimizers
        get the recipe's schedule, all of it is saved and restored.
    recipe: the loop reads steps, batch_size, seed, schedule, warmup and channels_last; lr, optimizer, clip, ema and
        mixed_precision are for whoever writes the update. All of them must agree when a checkpoint is resumed.
    about: what is trained, in a word or two; a checkpoint about something else is refused.   The rest: see `fit`.

    >>> a, b = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))
    >>> model = nn.ParameterList([a, b]); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> def update(x, y, generator):
    ...     optimizer.zero_grad()
    ...     loss = a**2 + b**2
    ...     loss.backward()
    ...     optimizer.step()
    ...     return {"loss": loss.detach(), "a": a.detach()}
    >>> history = train(update, torch.zeros(8, 1), {"model": model, "optimizer": optimizer}, Recipe(steps=3), progress=False)
    >>> history.steps, [round(value, 3) for value in history.terms["a"]]
    ([1, 2, 3], [0.8, 0.64, 0.512])
    """
    device = _device_of(parts)
    batch = _Batches(data, recipe, device)
    history = History(ema_model=next((p.model for p in parts.values() if isinstance(p, EMA)), None))
    about = {"about": about, "data": batch.name, "batch": f"{batch.size}", **_plain(recipe)}
    saver = _Saver(checkpoint, parts, about) if checkpoint is not None else None
    optimizers = [part for part in parts.values() if isinstance(part, torch.optim.Optimizer)]
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group.setdefault("initial_lr", group["lr"])
    first = saver.restore(history) if saver and resume else 0

    with _training_mode(parts, device), _Interrupt() as interrupt, _bar(progress, first, recipe.steps) as bar:
        log = _Log(history, parts, bar, recipe)
        generator = torch.Generator(device)
        try:
            for step in range(first, recipe.steps):
                x, y = batch(step)
                factor = learning_rate_factor(step, recipe)
                for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                    group["lr"] = group["initial_lr"] * factor
                generator.manual_seed(_derive(recipe.seed, "generator", step))
                _seed_global(device, _derive(recipe.seed, "global", step))

                log.torn = True  # between here and the end of the update, parts may be half-way between two steps
                scalars = update(x, y, generator)
                log.torn = False
                log.add(step + 1, scalars)

                last = step + 1 == recipe.steps or interrupt.asked
                if on_step and ((step + 1) % every == 0 or last):
                    log.show(on_step)
                if saver and (step + 1) % checkpoint_every == 0 and not last:
                    log.look(thorough=True)  # never write a broken state over a good one
                    saver.save(history, bar)
                if last:
                    break
        except KeyboardInterrupt:  # the second one, or one that was raised by hand
            interrupt.asked = True
        log.look(thorough=True)
        if saver and not log.torn and len(history.steps) > first:
            saver.save(history, bar)
    if interrupt.asked and len(history.steps) < recipe.steps:
        history.interrupted = True
        print(f"Stopped by hand after step {len(history.steps)} of {recipe.steps}; the model keeps what it has learnt"
              + (f", and '{saver.path}' resumes it." if saver and saver.saved else "."))  # fmt: skip
    return history


# ------------------------------------------------------------------------------------------------------------- batches and seeds


def _derive(seed: int, purpose: str, index: int) -> int:
    """A well-mixed 63-bit seed. (PyTorch's CPU generator reads only 32 bits of a seed, so `seed + index` would collide.)"""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _seed_global(device: torch.device, seed: int) -> None:
    """Seed the global generators that kernels on this device use. (`torch.manual_seed` would wake every GPU of the machine.)"""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@functools.lru_cache(maxsize=2)  # a batch may lie across the border of two epochs
def _order(count: int, seed: int, epoch: int, device: torch.device) -> Int[Tensor, "count"]:
    generator = torch.Generator().manual_seed(_derive(seed, "order", epoch))  # on the CPU: the same order on every device
    return torch.randperm(count, generator=generator).to(device)


def batch_indices(step: int, count: int, size: int, seed: int, device: torch.device) -> Int[Tensor, "size"]:
    """Which of `count` images make the batch of step `step`: the next `size` of an endless row of shuffled epochs.

    Every image comes once an epoch, and all batches are of one size (also when `size` doesn't divide `count`).
    """
    pieces, position, missing = [], step * size, size
    while missing:
        epoch, offset = divmod(position, count)
        piece = _order(count, seed, epoch, device)[offset : offset + missing]
        pieces.append(piece)
        position, missing = position + len(piece), missing - len(piece)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


class _Batches:
    """`batches(step) -> (x, y)` on the model's device, from an ImageSet, a tensor or a pair of tensors."""

    def __init__(self, data: Any, recipe: Recipe, device: torch.device):
        if hasattr(data, "take") and hasattr(data, "labels"):
            self.take, self.labels, what = data.take, data.labels, data.name
        elif isinstance(data, Tensor):
            self.take, self.labels, what = data.__getitem__, data.new_zeros(len(data), dtype=torch.long), "tensor"
        elif isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
            self.take, self.labels, what = data[0].__getitem__, data[1], "tensors"
            if len(data[0]) != len(data[1]):
                raise ValueError(f"data: expected as many labels as examples, got {len(data[0])} examples and {len(data[1])} labels")
        else:
            raise TypeError(f"data: expected an ImageSet, a tensor or a pair (examples, labels), got {type(data).__name__}")
        self.count, self.device, self.seed, self.channels_last = len(self.labels), device, recipe.seed, recipe.channels_last
        if self.count == 0:
            raise ValueError("data: expected at least one example, got none")
        self.size = min(recipe.batch_size, self.count)
        example = self.take(torch.zeros(1, dtype=torch.long, device=self.labels.device))
        self.name = f"{what}, {self.count} of {'×'.join(map(str, example.shape[1:]))}"

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        index = batch_indices(step, self.count, self.size, self.seed, self.labels.device)
        x, y = self.take(index).to(self.device, non_blocking=True), self.labels[index].to(self.device, non_blocking=True)
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, y


# --------------------------------------------------------------------------------------------------------- watching the numbers


class _Log:
    """Collects scalars without waiting for the device, and looks at them now and then: history, bar, nan, a good state to go back to.

    Reading a number off a GPU waits for everything before it, so scalars stay tensors until a look, about three a second.
    """

    def __init__(self, history: History, parts: Mapping[str, Any], bar: tqdm, recipe: Recipe):
        self.history, self.bar, self.recipe = history, bar, recipe
        self.modules = [m for m in map(_module_in, parts.values()) if m is not None]
        self.pending: list[tuple[int, dict]] = []
        self.torn, self.clock, self.next_look, self.next_snapshot = False, time.perf_counter(), 0.0, 0.0
        self.good: list[Tensor] = []
        self._snapshot()

    def add(self, step: int, scalars: Any) -> None:
        if not isinstance(scalars, Mapping) or "loss" not in scalars:
            raise TypeError(f'update: expected a dict of scalars with a "loss", got {_brief(scalars)}')
        # Copies: a term may be a view of a weight (a learned log-sigma), which the next step changes in place.
        self.pending.append((step, {name: torch.as_tensor(value).detach().clone() for name, value in scalars.items()}))
        self.bar.update()
        if time.perf_counter() >= self.next_look:
            self.look()

    def look(self, thorough: bool = False) -> None:
        """Bring the pending scalars into the history; raise TrainingDiverged if one, or (where it is time to check) a weight, is bad."""
        pending, self.pending = self.pending, []
        now = time.perf_counter()
        self.history.seconds, self.clock = self.history.seconds + now - self.clock, now
        for step, value in zip((step for step, _ in pending), _numbers([s["loss"] for _, s in pending])):
            if not math.isfinite(value):
                self._diverged(step, f"the loss became {value}")
            self.history.steps.append(step)
            self.history.loss.append(value)
        for name in dict.fromkeys(name for _, scalars in pending for name in scalars if name != "loss"):
            missing = [math.nan] * (len(self.history.steps) - len(pending) - len(self.history.terms.get(name, [])))
            values = _numbers([scalars.get(name, torch.tensor(math.nan)) for _, scalars in pending])
            self.history.terms[name] = self.history.terms.get(name, []) + missing + values
        if self.history.loss:
            self.bar.set_postfix_str(f"loss {self.history.loss[-1]:.4g}", refresh=False)
        if thorough or now >= self.next_snapshot:
            if not _all_finite(p for module in self.modules for p in module.parameters()):
                self._diverged(len(self.history.steps), "a weight became nan or infinite")
            self._snapshot()
        self.next_look = time.perf_counter() + 0.3

    def show(self, on_step: Callable) -> None:
        """Call the live view: model in eval mode, no gradients, off the clock."""
        self.look()
        for module in self.modules:
            module.eval()
        with torch.no_grad():
            on_step(self.history.steps[-1], self.history)
        _set_training(self.modules)
        self.clock = time.perf_counter()

    def _tensors(self) -> list[Tensor]:
        return [t.data for module in self.modules for t in (*module.parameters(), *module.buffers())]

    def _snapshot(self) -> None:
        started = time.perf_counter()
        self.good, self.good_step = [t.clone() for t in self._tensors()], len(self.history.steps)
        # At most one fiftieth of the time goes into copies, however large the model is.
        self.next_snapshot = time.perf_counter() + max(1.0, 50 * (time.perf_counter() - started))

    def _diverged(self, step: int, what: str) -> None:
        for tensor, good in zip(self._tensors(), self.good):
            tensor.copy_(good)
        kept, history = self.good_step, self.history
        for values in (history.steps, history.loss, *history.terms.values()):
            del values[kept:]
        tips = [f"a smaller lr (now {self.recipe.lr:g})"]
        tips += ["clip=1.0"] if self.recipe.clip is None else []
        tips += ["warmup=100"] if not self.recipe.warmup else []
        raise TrainingDiverged(
            f"{what} at step {step} of {self.recipe.steps}; the model was put back to step {kept}. Try {' or '.join(tips)},"
            " and look for a log or a division by zero in the loss", step, history,
        )  # fmt: skip


def _numbers(scalars: list) -> list[float]:
    """Read many scalar tensors with one wait for the device."""
    if not scalars:
        return []
    return torch.stack([s.float() for s in scalars]).tolist()


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    checks = [t.detach().isfinite().all() for t in tensors]
    return bool(torch.stack(checks).all()) if checks else True


# ----------------------------------------------------------------------------------------------------------------- checkpoints


class _Saver:
    """Writes beside and renames, so that whatever happens the file holds a whole checkpoint; nothing is unpickled when it is read."""

    def __init__(self, path: str | os.PathLike, parts: Mapping[str, Any], about: dict[str, Any]):
        self.path, self.parts, self.about = Path(path), parts, about
        self.saved, self.complained = False, False
        if self.path.is_dir():
            raise ValueError(f"checkpoint: expected a file, got the folder '{self.path}'; add a name such as 'model.pt'")

    def save(self, history: History, bar: tqdm) -> None:
        """Save, or say in one line why not; training goes on, and an earlier checkpoint stays."""
        content = {
            "format": 1,
            "about": self.about,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "loss": torch.tensor(history.loss, dtype=torch.float64),
            "terms": {name: torch.tensor(values, dtype=torch.float64) for name, values in history.terms.items()},
            "seconds": history.seconds,
        }
        try:
            _write_beside(self.path, content)
            self.saved, self.complained = True, False
        except OSError as error:
            if not self.complained:  # once, not at every attempt
                bar.write(f"The checkpoint '{self.path}' could not be saved ({error.strerror or error}); what was there before is"
                          " untouched, and training goes on. Free some space or choose another folder.")  # fmt: skip
            self.saved, self.complained = False, True

    def restore(self, history: History) -> int:
        """Bring parts and history to where the file left them. Returns the number of steps already done; 0 if there is no file."""
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
        self.saved = True
        total = self.about["steps"]
        print(f"Resumed '{self.path}' at step {len(history.steps)} of {total}.")
        return len(history.steps)

    def _refuse_others(self, content: dict) -> None:
        there, here = content["about"], self.about
        advice = "; use another file, or resume=False to start anew and overwrite it"
        # With a flat schedule a longer run begins exactly like a shorter one, so it may be continued.
        may_differ = {"steps"} if here["schedule"] == "flat" and len(content["loss"]) <= here["steps"] else set()
        for key in here:
            if there.get(key) != here[key] and key not in may_differ:
                raise CheckpointRefused(f"checkpoint '{self.path}' is of another run: {key} is {there.get(key)!r} there and "
                                        f"{here[key]!r} here{advice}")  # fmt: skip
        if content["parts"].keys() != self.parts.keys():
            raise CheckpointRefused(f"checkpoint '{self.path}' holds {sorted(content['parts'])}, expected {sorted(self.parts)}{advice}")
        for name, part in self.parts.items():
            if isinstance(part, nn.Module):
                mine, saved = _shapes(part.state_dict()), _shapes(content["parts"][name])
                for key in dict.fromkeys([*mine, *saved]):
                    if mine.get(key) != saved.get(key):
                        raise CheckpointRefused(f"checkpoint '{self.path}' is of another model: {key} is {saved.get(key, 'missing')} there "
                                                f"and {mine.get(key, 'missing')} here{advice}")  # fmt: skip


def _write_beside(path: Path, content: dict) -> None:
    """Write `content` to a neighbour of `path`, down to the disk, then rename: the old file is whole until the new one is."""
    buffer = io.BytesIO()  # in memory first: a full disk is then an OSError with its reason, and not torch's own error
    torch.save(content, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def _read(path: Path) -> dict:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointRefused(f"checkpoint '{path}' could not be read ({error.strerror or error})") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointRefused(f"checkpoint '{path}' is damaged or not a checkpoint; delete it, or use resume=False") from error
    if not isinstance(content, dict) or content.get("format") != 1:
        raise CheckpointRefused(f"checkpoint '{path}' was not written by this version of fit; use another file, or resume=False")
    return content


# ------------------------------------------------------------------------------------------------------------------ small helpers


@contextlib.contextmanager
def _training_mode(parts: Mapping[str, Any], device: torch.device):
    """Modules in training mode inside and in eval mode after; the global random state is the caller's again at the end."""
    modules = [part for part in parts.values() if isinstance(part, nn.Module)]
    with torch.random.fork_rng(devices=[device] if device.type != "cpu" else [], device_type=_fork_type(device)):
        try:
            _set_training(modules)
            yield
        finally:
            for module in modules:
                module.eval()


class _Interrupt:
    """Turns the first Ctrl-C (or stop button) into a wish to stop after the step, so that no weight is caught half-way."""

    def __init__(self):
        self.asked, self.before = False, None

    def __enter__(self):
        with contextlib.suppress(ValueError):  # only the main thread may; elsewhere no interrupt arrives anyway
            if callable(signal.getsignal(signal.SIGINT)):
                self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, *_):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_):
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)


def _set_training(modules: list[nn.Module]) -> None:
    for module in modules:
        module.train(any(p.requires_grad for p in module.parameters()))  # an averaged copy stays in eval mode


def _bar(progress: bool, first: int, steps: int) -> tqdm:
    quiet = not progress or any(os.environ.get(name) for name in ("CI", "COURSE_QUIET", "NBGRADER_EXECUTION"))
    return tqdm(initial=first, total=steps, unit="step", desc="training", disable=quiet, leave=True)


def _autocast(device: torch.device, wanted: bool | None):
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bool(wanted))


def _recipe(recipe: Recipe | None, options: dict) -> Recipe:
    known = [f.name for f in fields(Recipe)]
    for name in options:
        if name not in known:
            raise TypeError(f"fit: unknown option {name!r}; a recipe has {', '.join(known)}")
    if recipe is None and "steps" not in options:
        raise TypeError("fit: expected steps=..., the number of training steps, or a Recipe")
    return replace(recipe, **options) if recipe is not None else Recipe(**options)


def _make_optimizer(model: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    kind, weights = recipe.optimizer, [p for p in model.parameters() if p.requires_grad]
    named = {None: torch.optim.Adam, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    if isinstance(kind, torch.optim.Optimizer):
        mine = {id(p) for p in weights}
        if not any(id(p) in mine for group in kind.param_groups for p in group["params"]):
            raise ValueError("optimizer: it was made for other weights than this model's; make it from model.parameters()")
        return kind
    if callable(kind):
        return kind(weights, lr=recipe.lr)
    if kind not in named:
        raise ValueError(f"optimizer: expected 'adam', 'adamw', 'sgd', a callable or an Optimizer, got {kind!r}")
    # One fused kernel for all weights instead of several per weight.
    return named[kind](weights, lr=recipe.lr, fused=device.type in ("cuda", "cpu"))


def _loss_and_terms(result: Any) -> tuple[Tensor, dict[str, Tensor]]:
    value, terms = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise TypeError(f"loss: expected one number (a scalar tensor), or (scalar, {{'name': scalar}}), got {_brief(result)}")
    if not value.requires_grad:
        raise ValueError("loss: it doesn't depend on the model's weights (no gradient reaches them); was something detached?")
    return value.squeeze(), {name: torch.as_tensor(term).detach() for name, term in terms.items()}


def _device_of(parts: Mapping[str, Any]) -> torch.device:
    for part in parts.values():
        if isinstance(part, nn.Module):
            for parameter in part.parameters():
                return parameter.device
    raise ValueError("model: expected a module with weights to train, got one without any")


def _module_in(part: Any) -> nn.Module | None:
    return part if isinstance(part, nn.Module) else part.model if isinstance(part, EMA) else None


def _fork_type(device: torch.device) -> str:
    return "cuda" if device.type == "cpu" else device.type


def _shapes(state: Mapping) -> dict[str, str]:
    return {name: "×".join(map(str, t.shape)) or "a scalar" for name, t in state.items() if isinstance(t, Tensor)}


def _plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as numbers and words, so that two can be compared and one can be saved without pickling code."""
    values = {f.name: getattr(recipe, f.name) for f in fields(recipe)}
    return {name: value if isinstance(value, (int, float, str, type(None))) else _name_of(value) for name, value in values.items()}


def _name_of(thing: Any) -> str:
    if isinstance(thing, functools.partial):
        return f"{_name_of(thing.func)}({', '.join(f'{k}={v!r}' for k, v in sorted(thing.keywords.items()))})"
    return getattr(thing, "__qualname__", type(thing).__name__)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _brief(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__} {value!r:.60}"
