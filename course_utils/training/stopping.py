"""The stop button (Ctrl-C in a terminal): one press ends what trains, a second one is a KeyboardInterrupt as elsewhere.

In a notebook a press counts for its cell. A training that begins later in the same cell ends after one step, so that
what follows finds a model and a loss. Cells that wait, after "Run All", run on until something raises: hence the second
press. Outside notebooks a press ends one training, and the program goes on.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def until_stopped(items: Iterable[Item], say: Callable[[str], Any] | None = print) -> Iterator[Item]:
    """For a training loop written by hand: the items, one after another, until somebody presses the stop button.

    The body that runs then comes to its end: no weight is caught half-way. What follows the loop finds at least one
    step done. `say` is given a line that tells how many.

    >>> for step in until_stopped(range(2)):
    ...     print(step)
    0
    1
    """
    planned, done = len(items) if hasattr(items, "__len__") else None, 0
    with BUTTON as button:
        for item in items:
            yield item
            done += 1
            if button.pressed:
                break
        if button.pressed and done != planned and say:
            say(button.report(done, planned))


class StopButton(contextlib.ContextDecorator):
    """While something trains, the first press is a wish to stop after the step.

    pressed: in this cell, or, outside notebooks, since the outermost `with` began.
    """

    def __init__(self):
        self.pressed, self.cell = False, None
        self._said = self._twice = False  # has anybody been told of the press? was there a second one?
        self._inside, self._before = 0, None  # trainings that run, one within another; the handler to put back

    def __enter__(self) -> StopButton:
        cell = running_cell()
        if self._inside == 0 and (cell is None or cell != self.cell):
            self.pressed, self.cell = False, cell
            self._said = self._twice = False
        self._inside += 1
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler) and handler != self._press:
            with contextlib.suppress(ValueError):  # only the main thread may set it; no other is interrupted anyway
                self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_) -> None:
        self._inside -= 1
        # In a notebook it stays until the cell ends (the kernel sees to that): between two trainings a press counts.
        if self._inside == 0 and self.cell is None and self._before is not None:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _press(self, *_) -> None:
        idle = self._inside == 0
        if self.pressed or running_cell() != self.cell or (idle and self.cell is None):
            self._twice = True
            raise KeyboardInterrupt
        self.pressed = True
        if idle:
            self._said = True
            print("Stop: this cell trains no more, the rest of it runs on. Press again to end it at once.", flush=True)

    def report(self, done: int, planned: int | None, kept: str = "") -> str:
        """A line that says how far a training came, and with the first one in a cell what comes next."""
        steps = f"{done:,} of {planned:,}" if planned else f"{done:,}"
        said, self._said = self._said, True
        if said and self.cell is not None:
            return f"Stopped with its cell after step {steps}: not to be compared with a model that had more."
        waiting = (
            "" if self.cell is None or self._twice else " Cells that wait run on: press stop twice to end them as well."
        )
        return f"Stopped by hand after step {steps}.{kept}{waiting}"


BUTTON = StopButton()  # there is one


def running_cell() -> str | int | None:
    """What is being run in this notebook (or IPython), another value each time; None outside."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None:
        return None
    request = getattr(shell, "get_parent", dict)()  # what the browser sent; a terminal's IPython has none
    return request.get("header", {}).get("msg_id", shell.execution_count)
