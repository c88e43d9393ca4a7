"""What hangs on the training loop: progress bar, live view, checkpoints, stop button. None of it alters a number."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from ..arrays import is_whole
from ..device import quiet
from .averaging import EMA
from .batches import own_randomness
from .checkpoints import Saver, plain
from .diverging import LastGood
from .history import History, Recorder
from .recipe import Recipe
from .stopping import BUTTON, StopButton


@dataclass(frozen=True)
class Watch:
    """How a run is watched, saved and stopped.

    progress: show a bar. (Never in CI, under nbgrader, or where COURSE_QUIET is set.)
    on_step: `on_step(step, history)` is called every `every` steps and at the end: a live view. The model is in eval
        mode then, gradients are off, and random numbers drawn there don't disturb the training.
    stop: `stop(step, history)` is asked after every step; the run ends when it says True. To look at a number it would
        have to wait for the device, so the history is brought up to date only for `on_step` and three times a second.
    say: is given a line when a run was resumed, stopped by hand or couldn't be saved; None for silence.
    checkpoint: a file to save to, every `checkpoint_every` steps and at the end. If it exists, the run goes on where
        that one stopped, bit for bit; `resume=False` starts anew and overwrites it. A run may become longer as long as
        its learning rate hasn't begun to fall; after that with `restart`, the step from which the rate begins anew.
    """

    progress: bool = True
    on_step: Callable[[int, History], Any] | None = None
    every: int = 50
    stop: Callable[[int, History], bool] | None = None
    say: Callable[[str], Any] | None = print
    checkpoint: str | os.PathLike | None = None
    checkpoint_every: int = 500
    resume: bool = True

    def __post_init__(self):
        for name in ("every", "checkpoint_every"):
            if not is_whole(value := getattr(self, name), 1):
                raise ValueError(f"{name}: expected a whole number of steps, at least 1, got {value!r}")


@contextlib.contextmanager
def running(
    parts: Mapping[str, Any], device: torch.device, recipe: Recipe, watch: Watch, about: dict[str, str]
) -> Iterator[Run]:
    """A `Run` to loop over: resumed before, and afterwards looked through and saved. Modules end in eval mode.

    about: what the run is beside its recipe, in words; a checkpoint about something else is refused.
    """
    history = History(ema_model=next((part.model for part in parts.values() if isinstance(part, EMA)), None))
    saver = Saver(watch.checkpoint, parts, about | plain(recipe)) if watch.checkpoint else None
    first = saver.restore(history) if saver and watch.resume else 0
    with (
        _training_mode([part for part in parts.values() if isinstance(part, nn.Module)]),
        own_randomness(device),
        BUTTON as button,
        _progress_bar(watch.progress, first, recipe) as bar,
    ):
        run = Run(parts, recipe, watch, history, saver, button, bar)
        if first:
            nothing_left = ": nothing left to do" * (first == recipe.steps)
            run.say(f"Resumed '{saver.path}' at step {first} of {recipe.steps}{nothing_left}.")
        at_once = False
        try:
            yield run
        except KeyboardInterrupt:  # the second press, or the first one, where it was raised by hand
            at_once, button.pressed = button.pressed, True
        run.finish(first)
    if history.interrupted and watch.say:  # where nobody is told, the next training of the cell tells
        resumes = f"; '{saver.path}' holds step {saver.step}, to go on from" if saver and saver.step else ""
        kept = f" The model keeps what it learnt{resumes}."
        run.say(button.report(len(history.steps), recipe.steps, kept))
    if at_once:
        raise KeyboardInterrupt("pressed twice") from None


class Run:
    """The steps of a run, and what happens after each: look, show, save, or end."""

    def __init__(
        self,
        parts: Mapping[str, Any],
        recipe: Recipe,
        watch: Watch,
        history: History,
        saver: Saver | None,
        button: StopButton,
        bar: tqdm,
    ):
        self.recipe, self.watch, self.history, self.saver = recipe, watch, history, saver
        self.button, self.bar, self.next_look = button, bar, 0.0
        self.modules = [part.model if isinstance(part, EMA) else part for part in parts.values()]
        self.modules = [module for module in self.modules if isinstance(module, nn.Module)]
        self.recorder, self.last_good = Recorder(history), LastGood(self.modules, history, recipe)
        self.torn = self.over = False  # torn: in the middle of a step, parts may not fit together

    def steps(self) -> Iterator[int]:
        """The numbers of the steps to make, from 0 or from where the checkpoint stands."""
        for step in range(len(self.history.steps), self.recipe.steps):
            self.torn = True
            yield step
            if self.over:
                return

    def note(self, step: int, numbers: Mapping[str, Any]) -> None:
        """The step was made, and these are its numbers. Does what is due after it."""
        self.recorder.add(step + 1, numbers)
        self.torn = False
        self.bar.update()
        if time.perf_counter() >= self.next_look:
            self.look()
        done = step + 1
        if shown := done % self.watch.every == 0:
            self.show()
        self.over = self.button.pressed or done == self.recipe.steps or self._told_to_stop(done)
        if self.over and not shown:
            self.show()
        if self.saver and not self.over and done % self.watch.checkpoint_every == 0:
            self.look(thorough=True)  # a broken state never goes over a good one
            self.save()

    def look(self, thorough: bool = False) -> None:
        """Bring the numbers of the last steps into history and bar. Raises TrainingDiverged on a bad loss or weight."""
        bad = self.recorder.collect()
        if bad:
            self.last_good.give_up(bad[0], f"the loss became {bad[1]}")
        if self.history.loss:
            self.bar.set_postfix_str(f"loss {self.history.loss[-1]:.4g}", refresh=False)
        self.last_good.check(now=thorough)
        self.next_look = time.perf_counter() + 0.3

    def show(self) -> None:
        """Call the live view: modules in eval mode, no gradients, off the clock."""
        if self.watch.on_step is None:
            return
        self.look()
        for module in self.modules:
            module.eval()
        with torch.no_grad():
            self.watch.on_step(self.history.steps[-1], self.history)
        _train(self.modules)
        self.recorder.leave_out()

    def save(self) -> None:
        """Save parts and history, or say (once) why that isn't possible."""
        complaint = self.saver.save(self.history)
        if complaint:
            self.say(complaint)

    def say(self, line: str) -> None:
        """A line for the person who waits, above the bar."""
        if self.watch.say:
            with self.bar.external_write_mode():
                self.watch.say(line)

    def finish(self, first: int) -> None:
        """After the last step: look, save what isn't saved yet, and note why it ended."""
        self.look(thorough=True)
        done = len(self.history.steps)
        if self.saver and not self.torn and done > first:
            self.save()
        if done < self.recipe.steps:
            self.history.ended = "interrupted" if self.button.pressed else "stopped"

    def _told_to_stop(self, done: int) -> bool:
        return self.watch.stop is not None and bool(self.watch.stop(done, self.history))


@contextlib.contextmanager
def _training_mode(modules: list[nn.Module]) -> Iterator[None]:
    """Training mode inside, eval mode afterwards, whatever happens."""
    try:
        _train(modules)
        yield
    finally:
        for module in modules:
            module.eval()


def _train(modules: list[nn.Module]) -> None:
    for module in modules:
        module.train(any(weight.requires_grad for weight in module.parameters()))  # an averaged copy stays in eval mode


def _progress_bar(progress: bool, first: int, recipe: Recipe) -> tqdm:
    """A bar with the loss; none in CI, under nbgrader (which takes points off for anything on stderr), or if told."""
    return tqdm(initial=first, total=recipe.steps, unit="step", desc="training", disable=not progress or quiet())
