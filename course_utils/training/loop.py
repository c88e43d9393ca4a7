"""The loop itself, `train`, and the common case of it, `fit`."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..device import autocast
from .averaging import EMA
from .batches import Batches, brief, derive, own_randomness, seed_global
from .checkpoints import Saver, name_of, plain
from .muon import Muon
from .recipe import History, Recipe, learning_rate_factor, whole
from .watching import Log, progress_bar, to_training_mode


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
    """Train `model` in place with one loss and one optimizer, and leave it in eval mode. Returns the `History`.

    model: stays on the device where it is. Several networks go into an `nn.ModuleDict`.
    loss: `loss(model, x, y, generator)` gives a scalar tensor, or `(scalar, {"name": scalar, ...})` to have more
        recorded. x is float (b, c, h, w) in [-1, 1], y int64 (b,). Randomness comes from `generator`, or from
        PyTorch's global one. In bfloat16 a network's output is bfloat16 too: take `.float()` of it before logarithms,
        exponentials and sums.
    data: an ImageSet, a float tensor of examples (n, ...), or a pair (examples, labels). Without labels, y is zeros.
    recipe, options: a `Recipe`, its fields as keywords (`steps=400, lr=2e-3, ema=0.999`), or both; keywords win.
    checkpoint: a file to save to, every `checkpoint_every` steps and at the end. If it exists, the run goes on where
        that one stopped, bit for bit; `resume=False` starts anew and overwrites it.
    on_step: `on_step(step, history)` is called every `every` steps and at the end: a live view. The model is in eval
        mode then, gradients are off, and random numbers drawn there don't disturb the training.
    progress: show a bar. (Never in CI, under nbgrader, or where COURSE_QUIET is set.)

    The stop button or Ctrl-C ends the run after the current step, keeps the model and saves the checkpoint; pressed
    twice, it ends at once. Raises TrainingDiverged, CheckpointRefused, and ValueError or TypeError on bad input.

    >>> x = torch.linspace(-1, 1, 64).reshape(64, 1)
    >>> model = nn.Linear(1, 1)
    >>> history = fit(model, lambda model, x, y, generator: (model(x).float() - 3 * x).square().mean(), x,
    ...               steps=200, lr=0.1, batch_size=16, progress=False)
    >>> round(model.weight.item(), 1), len(history.loss), model.training
    (3.0, 200, False)
    """
    recipe = _recipe(recipe, options)
    device = _device_of({"model": model})
    optimizer = _optimizer(model, recipe)
    _lay_out(model, optimizer, torch.channels_last if recipe.channels_last else torch.contiguous_format)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    average = None if recipe.ema is None else EMA(model, recipe.ema)

    def update(x: Tensor, y: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        with autocast(device, recipe.mixed_precision):  # the forward pass; the backward pass follows its number formats
            value, terms = _value_and_terms(_call(loss, model, x, y, generator))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(weights, recipe.clip)
        optimizer.step()
        if average is not None:
            average.update(model)
        return {**terms, "loss": value}

    parts = {"model": model, "optimizer": optimizer} | ({} if average is None else {"ema": average})
    keeping = {"checkpoint": checkpoint, "checkpoint_every": checkpoint_every, "resume": resume}
    watching = {"progress": progress, "on_step": on_step, "every": every}
    try:
        return train(update, data, parts, recipe, about=name_of(loss), **keeping, **watching)
    finally:
        optimizer.zero_grad(set_to_none=True)  # gradients are as large as the model, and of no more use
        # Back to the usual layout, in which `.view(...)` works on what the model gives.
        _lay_out(model, optimizer, torch.contiguous_format)
        if average is not None:
            average.model.to(memory_format=torch.contiguous_format)


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
    """The loop: calls `update(x, y, generator)` once a step; it does its own optimizer steps. Returns the `History`.

    update: gives {"loss": scalar, "any other name": scalar}. "loss" is what the bar shows and what is watched for nan.
    parts: everything that has state, by name. Modules are trained and left in eval mode (those without trainable
        weights stay in it), optimizers follow the recipe's schedule, and all of it is saved and restored.
    recipe: the loop reads steps, batch_size, seed, schedule, warmup and channels_last (of the images). The other
        fields are for whoever writes the update. All of them must agree when a checkpoint is resumed.
    about: what the update does, in a word; a checkpoint about something else is refused.
    The rest is as in `fit`.

    >>> w = nn.ParameterList([torch.tensor(1.0)])
    >>> optimizer = torch.optim.SGD(w.parameters(), lr=0.1)
    >>> def update(x, y, generator):
    ...     optimizer.zero_grad()
    ...     loss = w[0] ** 2
    ...     loss.backward()
    ...     optimizer.step()
    ...     return {"loss": loss, "w": w[0]}
    >>> history = train(update, torch.zeros(8, 1), {"w": w, "sgd": optimizer}, Recipe(steps=3), progress=False)
    >>> history.steps, [round(value, 3) for value in history.terms["w"]]
    ([1, 2, 3], [0.8, 0.64, 0.512])
    """
    for name, value in {"every": every, "checkpoint_every": checkpoint_every}.items():
        if not whole(value) or value < 1:
            raise ValueError(f"{name}: expected a whole number of steps, at least 1, got {value!r}")
    device = _device_of(parts)
    batch = Batches(data, recipe, device)
    history = History(ema_model=next((part.model for part in parts.values() if isinstance(part, EMA)), None))
    saver = Saver(checkpoint, parts, {"loss": about, "data": batch.name, **plain(recipe)}) if checkpoint else None
    generator = torch.Generator(device)

    with _learning_rates(parts, recipe) as set_learning_rate:
        first = saver.restore(history) if saver and resume else 0
        with (
            _training(parts),
            own_randomness(device),
            _Interrupt() as stop,
            progress_bar(progress, first, recipe) as bar,
        ):
            log = Log(history, parts, bar, recipe)
            try:
                for step in range(first, recipe.steps):
                    x, y = batch(step)
                    set_learning_rate(step)
                    generator.manual_seed(derive(recipe.seed, "generator", step))
                    seed_global(device, derive(recipe.seed, "global", step))

                    log.add(step + 1, lambda: update(x, y, generator))  # noqa: B023  (called at once)

                    last = stop.asked or step + 1 == recipe.steps
                    if on_step and (last or (step + 1) % every == 0):
                        log.show(on_step)
                    if saver and not last and (step + 1) % checkpoint_every == 0:
                        log.look(thorough=True)  # a broken state never goes over a good one
                        saver.save(history, bar)
                    if stop.asked:
                        break
            except KeyboardInterrupt:  # the second one, or one that was raised by hand
                stop.asked = True
            log.look(thorough=True)
            if saver and log.whole and len(history.steps) > first:
                saver.save(history, bar)
    if stop.asked and len(history.steps) < recipe.steps:
        history.interrupted = True
        resumes = f"; '{saver.path}' holds step {saver.step}, to go on from" if saver and saver.step else ""
        print(
            f"Stopped by hand after step {len(history.steps)} of {recipe.steps}."
            f" The model keeps what it learnt{resumes}."
        )
    return history


@contextlib.contextmanager
def _training(parts: Mapping[str, Any]) -> Iterator[None]:
    """Modules in training mode inside, in eval mode afterwards, whatever happens."""
    modules = [part for part in parts.values() if isinstance(part, nn.Module)]
    try:
        to_training_mode(modules)
        yield
    finally:
        for module in modules:
            module.eval()


@contextlib.contextmanager
def _learning_rates(parts: Mapping[str, Any], recipe: Recipe) -> Iterator[Callable[[int], None]]:
    """`set(step)` puts every optimizer at its place in the schedule; afterwards they have their own rates again."""
    optimizers = [part for part in parts.values() if isinstance(part, torch.optim.Optimizer)]
    tops = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]

    def set_all(factor: float) -> None:
        for optimizer, rates in zip(optimizers, tops):
            for group, top in zip(optimizer.param_groups, rates):
                group["lr"] = top * factor

    try:
        yield lambda step: set_all(learning_rate_factor(step, recipe))
    finally:
        set_all(1.0)


class _Interrupt:
    """Makes of the first Ctrl-C or stop button a wish to stop after the step: no weight is caught half-way."""

    def __init__(self):
        self.asked, self.before = False, None

    def __enter__(self) -> _Interrupt:
        if callable(signal.getsignal(signal.SIGINT)):
            with contextlib.suppress(ValueError):  # only the main thread may set it; no other is interrupted anyway
                self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, *_) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)


def _recipe(recipe: Recipe | None, options: dict) -> Recipe:
    if recipe is not None and not isinstance(recipe, Recipe):
        raise TypeError(f"recipe: expected a Recipe, got {brief(recipe)}; options such as steps=400 have names")
    known = [f.name for f in fields(Recipe)]
    for name in options:
        if name not in known:
            raise TypeError(f"fit: unknown option {name!r}; a recipe has {', '.join(known)}")
    if recipe is None and "steps" not in options:
        raise TypeError("fit: expected steps=..., the number of training steps, or a Recipe")
    return Recipe(**options) if recipe is None else replace(recipe, **options)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    kind, weights = recipe.optimizer, [weight for weight in model.parameters() if weight.requires_grad]
    kind = Muon if kind == "muon" else kind
    named = {None: torch.optim.Adam, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    if not weights:
        raise ValueError("model: expected weights to train, got none that require a gradient")
    if isinstance(kind, torch.optim.Optimizer):
        trained = {id(weight) for group in kind.param_groups for weight in group["params"]}
        if not trained & {id(weight) for weight in weights}:
            raise ValueError("optimizer: it holds none of this model's weights; make it from model.parameters()")
        return kind
    if callable(kind):
        return kind(weights, lr=recipe.lr)
    if kind not in named:
        raise ValueError(
            f"optimizer: expected 'adam', 'adamw', 'sgd', 'muon', a callable or an Optimizer, got {kind!r}"
        )
    # One fused kernel for all weights, instead of a dozen small ones for each.
    return named[kind](weights, lr=recipe.lr, fused=weights[0].device.type in ("cpu", "cuda"))


def _lay_out(model: nn.Module, optimizer: torch.optim.Optimizer, layout: torch.memory_format) -> None:
    """Weights in this memory layout, and with them the optimizer's averages: fused kernels assume that they agree."""
    model.to(memory_format=layout)
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                state[name] = torch.empty_like(weight).copy_(value)


def _call(loss: Callable, *arguments: Any) -> Any:
    try:
        return loss(*arguments)
    except RuntimeError as error:
        if "view size is not compatible" in str(error):  # true of any tensor that isn't laid out row by row
            error.add_note("`fit` lays images out channels-last: write .flatten(1) or .reshape(...) for .view(...),")
            error.add_note("or fit(..., channels_last=False), which is slower.")
        raise


def _value_and_terms(result: Any) -> tuple[Tensor, dict[str, Any]]:
    value, terms = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    if not isinstance(value, Tensor) or not isinstance(terms, Mapping):
        raise TypeError(f'loss: expected a scalar tensor, or (scalar, {{"name": scalar}}), got {brief(result)}')
    if value.numel() != 1:
        raise TypeError(f"loss: expected one number, got shape {tuple(value.shape)}; take its mean or sum")
    if not value.requires_grad:
        raise ValueError(
            "loss: no gradient reaches the model's weights from it; was something detached, or .item() taken?"
        )
    return value.reshape(()), dict(terms)


def _device_of(parts: Mapping[str, Any]) -> torch.device:
    weights = [weight for part in parts.values() if isinstance(part, nn.Module) for weight in part.parameters()]
    if not weights:
        raise ValueError("model: expected a module with weights to train, got none")
    return weights[0].device
