"""Watching the numbers of a run without slowing it: history, progress bar, nan, a good state to go back to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..device import quiet
from .averaging import EMA
from .batches import brief
from .recipe import History, Recipe, TrainingDiverged


class Log:
    """Collects scalars without waiting for the device; now and then looks at them for history, bar and nan.

    Reading one number off a GPU waits for all that it still has to do. So scalars stay tensors until the next look, and
    there are about three looks a second.
    """

    def __init__(self, history: History, parts: Mapping[str, Any], bar: tqdm, recipe: Recipe):
        self.history, self.bar, self.recipe = history, bar, recipe
        self.modules = [part.model if isinstance(part, EMA) else part for part in parts.values()]
        self.modules = [module for module in self.modules if isinstance(module, nn.Module)]
        self.pending: list[tuple[int, dict[str, Tensor]]] = []
        self.whole = True  # False inside an update, when parts may be half-way between two steps
        self.clock, self.next_look = time.perf_counter(), 0.0
        self._keep()

    def add(self, step: int, update: Callable[[], dict[str, Tensor]]) -> None:
        """Make the step and note its numbers."""
        self.whole = False
        self.pending.append((step, _scalars(update())))
        self.whole = True
        self.bar.update()
        if time.perf_counter() >= self.next_look:
            self.look()

    def look(self, thorough: bool = False) -> None:
        """Bring what is pending into the history. Raises TrainingDiverged on a bad loss or, where checked, weight."""
        history, pending, self.pending = self.history, self.pending, []
        rows = _numbers([scalars for _, scalars in pending])
        now = time.perf_counter()
        history.seconds, self.clock = history.seconds + now - self.clock, now
        for (step, _), row in zip(pending, rows):
            if not math.isfinite(row["loss"]):
                self._diverged(step, f"the loss became {row['loss']}")
            history.steps.append(step)
            history.loss.append(row.pop("loss"))
            for name in row.keys() - history.terms.keys():
                history.terms[name] = [math.nan] * (len(history.steps) - 1)
            for name, values in history.terms.items():
                values.append(row.get(name, math.nan))
        if history.loss:
            self.bar.set_postfix_str(f"loss {history.loss[-1]:.4g}", refresh=False)
        if thorough or now >= self.next_keep:
            if not _all_finite(self.modules):
                self._diverged(len(history.steps), "a weight became nan or infinite")
            self._keep()
        self.next_look = time.perf_counter() + 0.3

    def show(self, on_step: Callable[[int, History], Any]) -> None:
        """Call the live view: modules in eval mode, no gradients, off the clock."""
        self.look()
        for module in self.modules:
            module.eval()
        with torch.no_grad():
            on_step(self.history.steps[-1], self.history)
        to_training_mode(self.modules)
        self.clock = time.perf_counter()

    def _tensors(self) -> list[Tensor]:
        return [t.detach() for module in self.modules for t in (*module.parameters(), *module.buffers())]

    def _keep(self) -> None:
        started = time.perf_counter()
        self.kept, self.kept_step = [tensor.clone() for tensor in self._tensors()], len(self.history.steps)
        # Once a second, or more rarely where it takes long: copies get at most a fiftieth of the time.
        self.next_keep = time.perf_counter() + max(1.0, 50 * (time.perf_counter() - started))

    def _diverged(self, step: int, what: str) -> None:
        for tensor, kept in zip(self._tensors(), self.kept):
            tensor.copy_(kept)
        history = self.history
        for values in (history.steps, history.loss, *history.terms.values()):
            del values[self.kept_step :]
        advice = [f"a smaller lr (now {self.recipe.lr:g})"]
        advice += ["clip=1.0"] if self.recipe.clip is None else []
        advice += ["warmup=100"] if self.recipe.warmup == 0 else []
        raise TrainingDiverged(
            f"{what} in step {step} of {self.recipe.steps}; the model was put back to step {self.kept_step}. Try "
            f"{' or '.join(advice)}, and look for a logarithm, root or division that can meet 0 in the loss",
            step,
            history,
        )


def _scalars(result: Any) -> dict[str, Tensor]:
    """Copies of an update's numbers. (A term may be a view of a weight, a learned σ say, that the next step alters.)"""
    if not isinstance(result, Mapping) or "loss" not in result:
        raise TypeError(f'update: expected a dict of scalars, one of them "loss", got {brief(result)}')
    scalars = {name: torch.as_tensor(value).detach() for name, value in result.items()}
    for name, value in scalars.items():
        if value.numel() != 1:
            raise TypeError(f"{name}: expected one number, got shape {tuple(value.shape)}; take its mean or sum")
    return {name: value.reshape(()).clone() for name, value in scalars.items()}


def _numbers(rows: list[dict[str, Tensor]]) -> list[dict[str, float]]:
    """Many scalar tensors as numbers, with one wait for each device that they are on."""
    cells = [(index, name, scalar) for index, row in enumerate(rows) for name, scalar in row.items()]
    result: list[dict[str, float]] = [{} for _ in rows]
    for device in {scalar.device for _, _, scalar in cells}:
        here = [cell for cell in cells if cell[2].device == device]
        dtype = torch.float32 if device.type == "mps" else torch.float64
        for (index, name, _), value in zip(here, torch.stack([scalar.to(dtype) for _, _, scalar in here]).tolist()):
            result[index][name] = value
    return result


def _all_finite(modules: list[nn.Module]) -> bool:
    # Weights, and not buffers: a mask may well hold -inf.
    return bool(torch.stack([p.detach().isfinite().all() for module in modules for p in module.parameters()]).all())


def progress_bar(progress: bool, first: int, recipe: Recipe) -> tqdm:
    """A bar with the loss; none in CI, under nbgrader (which takes points off for anything on stderr), or if told."""
    return tqdm(initial=first, total=recipe.steps, unit="step", desc="training", disable=not progress or quiet())


def to_training_mode(modules: list[nn.Module]) -> None:
    for module in modules:
        module.train(any(weight.requires_grad for weight in module.parameters()))  # an averaged copy stays in eval mode
