"""When a loss or a weight becomes nan: back to the last weights that were good, and say what to try."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from .history import History
from .recipe import Recipe


class TrainingDiverged(ValueError):
    """The loss or a weight became nan or infinite. The model was put back to the last weights that were found good.

    step: the step, from 1, in which it showed.  history: the steps up to the weights that were kept.
    """

    def __init__(self, message: str, step: int, history: History):
        super().__init__(message)
        self.step, self.history = step, history


class LastGood:
    """A copy of the weights that goes no further than they were good, kept up to date about once a second."""

    def __init__(self, modules: list[nn.Module], history: History, recipe: Recipe):
        self.modules, self.history, self.recipe = modules, history, recipe
        self._keep()

    def check(self, now: bool = False) -> None:
        """Keep the weights if they are finite, else raise TrainingDiverged. Does nothing until it is due, or `now`."""
        if now or time.perf_counter() >= self.due:
            # Weights, and not buffers: a mask may well hold -inf.
            weights = [p.detach().isfinite().all() for module in self.modules for p in module.parameters()]
            if not torch.stack(weights).all():
                self.give_up(len(self.history.steps), "a weight became nan or infinite")
            self._keep()

    def give_up(self, step: int, what: str) -> None:
        """Put weights and history back to where they were good, and raise TrainingDiverged."""
        for tensor, kept in zip(self._tensors(), self.kept):
            tensor.copy_(kept)
        history, recipe = self.history, self.recipe
        for values in (history.steps, history.loss, *history.terms.values()):
            del values[self.kept_step :]
        advice = [f"a smaller lr (now {recipe.lr:g})"]
        advice += ["clip=1.0"] if recipe.clip is None else []
        advice += ["warmup=100"] if recipe.warmup == 0 else []
        raise TrainingDiverged(
            f"{what} in step {step} of {recipe.steps}; the model was put back to step {self.kept_step}. Try "
            f"{' or '.join(advice)}, and look for a logarithm, root or division that can meet 0 in the loss",
            step,
            history,
        )

    def _tensors(self) -> list[Tensor]:
        return [t.detach() for module in self.modules for t in (*module.parameters(), *module.buffers())]

    def _keep(self) -> None:
        started = time.perf_counter()
        self.kept, self.kept_step = [tensor.clone() for tensor in self._tensors()], len(self.history.steps)
        # Once a second, or more rarely where it takes long: copies get at most a fiftieth of the time.
        self.due = time.perf_counter() + max(1.0, 50 * (time.perf_counter() - started))
