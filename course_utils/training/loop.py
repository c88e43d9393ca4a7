"""The training loop: `fit`, with one loss and one optimizer, and `train`, the same around a step of your own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..device import autocast
from .averaging import EMA
from .batches import Batches, brief, seed_step
from .checkpoints import name_of
from .history import History
from .optimizers import fastest_layout, learning_rates, make_optimizer
from .recipe import Recipe
from .stopping import BUTTON
from .watching import Watch, running


@BUTTON  # from here on: PyTorch imports much when the first optimizer is made, and an import cut off can't be repeated
def fit(model: nn.Module, loss: Callable, data: Any, recipe: Recipe | None = None, **options) -> History:
    """Train `model` in place with one loss and one optimizer, and leave it in eval mode. Returns the `History`.

    model: stays on the device where it is. Several networks go into an `nn.ModuleDict`.
    loss: `loss(model, x, y, generator)` gives a scalar tensor, or `(scalar, {"name": scalar, ...})` to have more
        recorded. x is float (b, c, h, w) in [-1, 1], y int64 (b,). Randomness comes from `generator`, or from
        PyTorch's global one. In bfloat16 a network's output is bfloat16 too: take `.float()` of it before logarithms,
        exponentials and sums.
    data: an ImageSet, a float tensor of examples (n, ...), or a pair (examples, labels). Without labels, y is zeros.
    recipe, options: a `Recipe`, its fields as keywords (`steps=400, lr=2e-3, ema=0.999`), or both; keywords win. The
        fields of `Watch` are keywords as well: `checkpoint="run.pt"`, `on_step=look`, `every=50`, `progress=False`.

    The stop button or Ctrl-C ends the run after the current step, keeps the model and saves the checkpoint. In a
    notebook, trainings that begin later in the same cell end after one step. The second press ends the run at once and
    is a KeyboardInterrupt. Raises TrainingDiverged, CheckpointRefused, and ValueError or TypeError on bad input.

    >>> x = torch.linspace(-1, 1, 64).reshape(64, 1)
    >>> model = nn.Linear(1, 1)
    >>> history = fit(model, lambda model, x, y, generator: (model(x).float() - 3 * x).square().mean(), x,
    ...               steps=200, lr=0.1, batch_size=16, progress=False)
    >>> round(model.weight.item(), 1), len(history.loss), model.training
    (3.0, 200, False)
    """
    recipe, watch = _recipe_and_watch(recipe, options)
    device = _device_of({"model": model})
    optimizer = make_optimizer(model, recipe)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    average = None if recipe.ema is None else EMA(model, recipe.ema)
    parts = {"model": model, "optimizer": optimizer} | ({} if average is None else {"ema": average})
    batch, generator = Batches(data, recipe, device), torch.Generator(device)

    with (
        fastest_layout(model, optimizer, average, recipe),
        learning_rates(parts, recipe) as set_learning_rate,
        running(parts, device, recipe, watch, {"loss": name_of(loss), "data": batch.name}) as run,
    ):
        for step in run.steps():
            # All that this step depends on, beside the weights, is (seed, step): so a resumed run is the same run.
            x, y = batch(step)
            set_learning_rate(step)
            seed_step(generator, recipe.seed, step)

            with autocast(device, recipe.mixed_precision):  # the backward pass follows the forward pass's formats
                value, terms = _evaluate(loss, model, x, y, generator)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(weights, recipe.clip)
            optimizer.step()
            if average is not None:
                average.update(model)

            run.note(step, {**terms, "loss": value})
    return run.history


@BUTTON
def train(update: Callable, data: Any, parts: Mapping[str, Any], recipe: Recipe, about: str = "", **options) -> History:
    """The loop of `fit` around a step of your own, such as the two optimizer steps of a GAN. Returns the `History`.

    update: `update(x, y, generator)` makes one step and gives {"loss": scalar, "any other name": scalar}. "loss" is
        what the bar shows and what is watched for nan.
    parts: everything that has state, by name. Modules are trained and left in eval mode (those without trainable
        weights stay in it), optimizers follow the recipe's lr_schedule, and all of it is saved and restored.
    recipe: the loop reads steps, batch_size, seed, lr_schedule, warmup and channels_last (of the images). The other
        fields are for whoever writes the update. All of them must agree when a checkpoint is resumed.
    about: what the update does, in a word; a checkpoint about something else is refused.
    options: fields of `Watch`. The rest is as in `fit`.

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
    recipe, watch = _recipe_and_watch(recipe, options)
    device = _device_of(parts)
    batch, generator = Batches(data, recipe, device), torch.Generator(device)
    with (
        learning_rates(parts, recipe) as set_learning_rate,
        running(parts, device, recipe, watch, {"loss": about, "data": batch.name}) as run,
    ):
        for step in run.steps():
            x, y = batch(step)
            set_learning_rate(step)
            seed_step(generator, recipe.seed, step)
            run.note(step, update(x, y, generator))
    return run.history


def _recipe_and_watch(recipe: Recipe | None, options: dict) -> tuple[Recipe, Watch]:
    if recipe is not None and not isinstance(recipe, Recipe):
        raise TypeError(f"recipe: expected a Recipe, got {brief(recipe)}; options such as steps=400 have names")
    of_recipe, of_watch = ([f.name for f in fields(kind)] for kind in (Recipe, Watch))
    for name in options.keys() - {*of_recipe, *of_watch}:
        raise TypeError(
            f"unknown option {name!r}; a recipe has {', '.join(of_recipe)}; beside it there are {', '.join(of_watch)}"
        )
    if recipe is None and "steps" not in options:
        raise TypeError("expected steps=..., the number of training steps, or a Recipe")
    chosen = {name: value for name, value in options.items() if name in of_recipe}
    watch = Watch(**{name: value for name, value in options.items() if name in of_watch})
    return (Recipe(**chosen) if recipe is None else replace(recipe, **chosen)), watch


def _evaluate(loss: Callable, model: nn.Module, *batch: Any) -> tuple[Tensor, dict[str, Any]]:
    """The loss of a batch as a scalar tensor with a gradient, and its further terms."""
    try:
        result = loss(model, *batch)
    except RuntimeError as error:
        if "view size is not compatible" in str(error):  # true of any tensor that isn't laid out row by row
            error.add_note("`fit` lays images out channels-last: write .flatten(1) or .reshape(...) for .view(...),")
            error.add_note("or fit(..., channels_last=False), which is slower.")
        raise
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
