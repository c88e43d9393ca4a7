"""Moving every control of an explorer to its ends and its middle, to see what breaks before a student does."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from course_utils.explore import Explorer
from course_utils.explore.controls import Choice, Control, Slider, short


class Problem(NamedTuple):
    """Something a sweep found: which control, at what value, what happened."""

    control: str
    value: Any
    message: str

    def __str__(self) -> str:
        return f"{self.control} = {short(self.value)}: {self.message}" if self.control else self.message


def sweep(explorer: Explorer) -> list[Problem]:
    """Move each control to both ends and its middle, the others at their start; report what is wrong, [] if nothing.

    Wrong is: an exception; something that is not a figure; a blank picture; values in it that are not finite; the same
    values giving another picture the second time; no control that changes the picture at all.

    >>> from course_utils import plots
    >>> from course_utils.explore import explore, slider
    >>> line = lambda slope: plots.curves({"y": ([0, 1], [0, slope])}, title="A line", x_label="x", y_label="y")
    >>> e = explore(line, slope=slider(-2, 2, value=1), title="Tilt it")  # doctest: +ELLIPSIS
    Explorer 'Tilt it' with slope (-2 to 2)...
    >>> sweep(e)
    []
    """
    start = {name: control.value for name, control in explorer.controls.items()}
    first, problem = _inspect(explorer, start)
    if problem:
        return [Problem("", None, f"at the start: {problem}")]
    problems, changed = [], False
    for name, control in explorer.controls.items():
        for value in probes(control):
            picture, problem = _inspect(explorer, start | {name: value})
            changed |= picture is not None and picture != first
            if problem:
                problems.append(Problem(name, value, problem))
    if not changed and not problems:
        problems.append(Problem("", None, f"no control changes the picture: {list(start)}"))
    if _inspect(explorer, start)[0] != first:
        problems.append(
            Problem("", None, "the same values gave another picture the second time: pass a seeded generator to draw")
        )
    return problems


def probes(control: Control) -> list[Any]:
    """Both ends and the middle; all that a choice offers; each as `draw` gets it when a hand moves the widget there."""
    widget = control.widget(style={}, layout={})  # of its own: nothing moves on the page
    values = []
    for raw in _raw_probes(control):
        widget.value = raw
        values.append(control.from_widget(widget.value))
    return values


def _raw_probes(control: Control) -> list[Any]:
    if isinstance(control, Choice):
        return list(range(len(control.options)))
    if not isinstance(control, Slider):
        return [False, True]
    low, high, step = control.low, control.high, control.step
    if control.log:
        steps = round(math.log10(high / low) / 2 / step)
        return [low, low * 10 ** (steps * step), high]
    return [low, low + round((high - low) / 2 / step) * step, high]


def _inspect(explorer: Explorer, values: Mapping[str, Any]) -> tuple[str | None, str]:
    """Draw, and return (fingerprint of the picture, what is wrong with it)."""
    try:
        figure = explorer.picture(**values)
        pixels = _pixels(figure)
    except Exception as error:
        return None, f"{type(error).__name__}: {' '.join(str(error).split())}"
    problem = ""
    if not figure.axes or (pixels == pixels[0, 0]).all():
        problem = "the picture is blank"
    elif not_finite := _not_finite(figure):
        problem = f"values that are not finite in {not_finite}"
    return hashlib.sha256(pixels.tobytes()).hexdigest(), problem


def _pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def _not_finite(figure: Figure) -> str:
    """Where NaN or infinity hides in what is drawn; "" if nowhere."""
    for axes in figure.axes:
        drawn = [("a line", np.asarray(line.get_xydata(), dtype=float)) for line in axes.lines]
        drawn += [("an image", np.ma.getdata(image.get_array())) for image in axes.images]
        drawn += [("a scatter", np.ma.getdata(c.get_offsets())) for c in axes.collections]
        drawn += [("a bar", bar.get_bbox().get_points()) for bar in axes.patches if hasattr(bar, "get_bbox")]
        for what, values in drawn:
            if not np.isfinite(np.asarray(values, dtype=float)).all():  # matplotlib leaves such values out in silence
                return f"{what} of the panel {axes.get_title(loc='left') or axes.get_title()!r}"
    return ""
