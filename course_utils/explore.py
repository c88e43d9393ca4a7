"""Explorers: a few controls over a picture.

`explore(draw, t=slider(0, 1000))` calls `draw(t=...)`, which returns a figure, once at the start and again whenever a
control moves. The picture is an ordinary output of the cell, updated in place: it is saved with the notebook, shows on
paper, on GitHub and wherever widgets do not run. `sweep` moves every control to its ends and its middle and reports
what breaks.
"""

from __future__ import annotations

import hashlib
import html
import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from . import plots

Number = int | float

SLOW = 0.3  # seconds a drawing may take and still follow the slider while it moves; slower ones wait until it is let go

_OUT_OF_SIGHT = "position:absolute; width:1px; height:1px; overflow:hidden; clip-path:inset(50%); white-space:nowrap"

explorers: list[Explorer] = []  # every explorer of this kernel, so that a test can sweep them


# ------------------------------------------------------------------------------------------------------------- controls


@dataclass(frozen=True)
class Control:
    """What a control offers. `probes` are both ends and the middle; a choice offers all it has."""

    value: Any
    label: str

    def probes(self) -> list[Any]:
        raise NotImplementedError

    def widget(self, name: str, **common: Any) -> Any:
        raise NotImplementedError

    def row(self, widget: Any, name: str, width: str) -> Any:
        """The widget with its label beside it; most bring their own."""
        return widget

    def from_widget(self, raw: Any) -> Any:
        return raw

    def to_widget(self, value: Any) -> Any:
        return value

    def describe(self, name: str) -> str:
        return f"{self.label or name} ({_short(self.probes()[0])} to {_short(self.probes()[-1])})"


@dataclass(frozen=True)
class Slider(Control):
    low: Number
    high: Number
    step: Number
    log: bool = False

    @property
    def whole(self) -> bool:
        return all(isinstance(v, int) for v in (self.low, self.high, self.step))

    def probes(self) -> list[Any]:
        if self.log:
            middle = 10 ** self._snap(math.log10(self.low * self.high) / 2, math.log10(self.low))
        else:
            middle = self._snap((self.low + self.high) / 2, self.low)
        return [self.low, int(middle) if self.whole else middle, self.high]

    def _snap(self, value: Number, low: Number) -> Number:
        return low + round((value - low) / self.step) * self.step

    def widget(self, name: str, **common: Any) -> Any:
        import ipywidgets

        common |= {"readout_format": self._readout(), "style": common["style"] | {"handle_color": plots.COLOURS[0]}}
        if self.log:
            exponents = {"min": math.log10(self.low), "max": math.log10(self.high), "step": self.step, "base": 10.0}
            return ipywidgets.FloatLogSlider(value=self.value, **exponents, **common)
        kind = ipywidgets.IntSlider if self.whole else ipywidgets.FloatSlider
        return kind(value=self.value, min=self.low, max=self.high, step=self.step, **common)

    def _readout(self) -> str:
        if self.whole:
            return "d"
        if self.log:
            return ".3g"
        return f".{min(6, max(0, -math.floor(math.log10(self.step) + 1e-9)))}f"


@dataclass(frozen=True)
class Choice(Control):
    options: tuple[tuple[str, Any], ...]  # (what is shown, what draw gets)

    def probes(self) -> list[Any]:
        return [value for _, value in self.options]

    def widget(self, name: str, **common: Any) -> Any:
        import ipywidgets

        shown = [
            (text, index) for index, (text, _) in enumerate(self.options)
        ]  # by index: values need not be comparable
        common.pop("continuous_update")
        if len(shown) <= 5 and sum(len(text) + 3 for text, _ in shown) <= 60:
            common["layout"] = {"width": "max-content", "margin": "0 0 0 8px"}
            common["description"] = ""  # radio buttons wrap below their description: `row` puts it beside them
            common["orientation"] = "horizontal"
            return ipywidgets.RadioButtons(options=shown, value=self.to_widget(self.value), **common)
        return ipywidgets.Dropdown(options=shown, value=self.to_widget(self.value), **common)

    def row(self, widget: Any, name: str, width: str) -> Any:
        import ipywidgets

        if widget.description:
            return widget
        label = ipywidgets.Label(self.label or name, layout={"width": width, "justify_content": "flex-end"})
        return ipywidgets.HBox([label, widget], layout={"align_items": "baseline"})

    def from_widget(self, raw: int) -> Any:
        return self.options[raw][1]

    def to_widget(self, value: Any) -> int:
        return next(i for i, (_, option) in enumerate(self.options) if option is value or _same(option, value))

    def describe(self, name: str) -> str:
        return f"{self.label or name} ({', '.join(text for text, _ in self.options)})"


@dataclass(frozen=True)
class Toggle(Control):
    def probes(self) -> list[Any]:
        return [False, True]

    def widget(self, name: str, **common: Any) -> Any:
        import ipywidgets

        common.pop("continuous_update")
        return ipywidgets.Checkbox(value=self.value, indent=True, **common)

    def describe(self, name: str) -> str:
        return f"{self.label or name} (off, on)"


def _same(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except (RuntimeError, TypeError, ValueError):  # tensors and arrays compare element by element
        return False


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def slider(
    low: Number, high: Number, value: Number | None = None, step: Number | None = None, label: str = ""
) -> Slider:
    """A slider from low to high; whole numbers if low, high and step are. The step is 1, or a hundredth of the way.

    >>> slider(0, 1000, value=250).probes()
    [0, 500, 1000]
    """
    _check_range(low, high)
    if step is None:
        step = 1 if isinstance(low, int) and isinstance(high, int) else (high - low) / 100
    if not 0 < step <= high - low:
        raise ValueError(f"slider: expected a step between 0 and {_short(high - low)}, got {step}")
    whole = all(isinstance(v, int) for v in (low, high, step))
    if not whole:
        low, high, step = float(low), float(high), float(step)
    value = low if value is None else value
    return Slider(_inside(value, low, high), label, low, high, step)


def log_slider(low: Number, high: Number, value: Number | None = None, step: Number = 0.05, label: str = "") -> Slider:
    """A slider whose steps multiply: each by 10**step, 12 % by default. low and high are values, not logarithms.

    >>> [round(v, 6) for v in log_slider(0.01, 100).probes()]
    [0.01, 1.0, 100.0]
    """
    if not low > 0:
        raise ValueError(f"log_slider: expected low > 0, got {low}")
    _check_range(low, high)
    if not 0 < step <= math.log10(high / low):
        raise ValueError(
            f"log_slider: expected a step between 0 and {math.log10(high / low):.3g} powers of ten, got {step}"
        )
    value = low if value is None else value
    return Slider(_inside(value, float(low), float(high)), label, float(low), float(high), float(step), log=True)


def choice(options: Sequence[Any] | Mapping[str, Any], value: Any = None, label: str = "") -> Choice:
    """One of several options: words or numbers, or {"what is shown": what draw gets}. The first one at the start.

    >>> choice(["linear", "cosine"]).value
    'linear'
    """
    pairs = tuple(
        (str(k), v) for k, v in (options.items() if isinstance(options, Mapping) else ((o, o) for o in options))
    )
    if not pairs:
        raise ValueError("choice: expected at least one option, got none")
    control = Choice(pairs[0][1] if value is None else value, label, pairs)
    if not any(v is control.value or _same(v, control.value) for _, v in pairs):
        raise ValueError(f"choice: expected a value among {[text for text, _ in pairs]}, got {value!r}")
    return control


def toggle(value: bool = False, label: str = "") -> Toggle:
    """A box to tick.

    >>> toggle().probes()
    [False, True]
    """
    return Toggle(bool(value), label)


def _check_range(low: Number, high: Number) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"slider: expected finite low < high, got {low} and {high}")


def _inside(value: Number, low: Number, high: Number) -> Number:
    if not low <= value <= high:
        raise ValueError(f"slider: expected a value between {_short(low)} and {_short(high)}, got {value}")
    return type(low)(value)


# ------------------------------------------------------------------------------------------------------------- explorer


class Explorer:
    """Controls over a picture; made by `explore`.

    `.values` of the controls, `.figure` drawn last, `.error` the line under the controls ("" if none).
    """

    def __init__(self, draw: Callable[..., Figure], controls: Mapping[str, Control], title: str, alt: str) -> None:
        self.draw, self.controls, self.title, self.alt = draw, dict(controls), title, alt
        self.values = {name: control.value for name, control in self.controls.items()}
        self.error = ""
        self.draws = 0
        self.widgets: dict[str, Any] = {}
        self._handle: Any = None
        self._line: Any = None
        self._shown_in: Any = None
        self._quiet = False
        started = time.perf_counter()
        self.figure = self.picture(**self.values)
        plots.png(self.figure)
        self.seconds = time.perf_counter() - started  # for one picture; decides whether it follows the slider

    def __repr__(self) -> str:
        controls = "; ".join(control.describe(name) for name, control in self.controls.items())
        return f"Explorer {self.title!r} with {controls}"

    def picture(self, **values: Any) -> Figure:
        """The figure for these values, with its alternative text; nothing is shown."""
        figure = self.draw(**values)
        self.draws += 1
        if not isinstance(figure, Figure):
            raise TypeError(
                f"draw: expected it to return a Figure, got {type(figure).__name__}; end it with `return plots...`"
            )
        if self.alt:
            figure.set_label(f"{_sentence(self.alt)} At {_spelled(values)}.")
        return figure

    def move(self, **values: Any) -> None:
        """Set controls from code: what a hand on the slider does."""
        unknown = set(values) - set(self.controls)
        if unknown:
            raise ValueError(f"move: expected controls among {list(self.controls)}, got {sorted(unknown)}")
        self.values |= values
        self._quiet = True
        try:
            for name, value in values.items():
                if name in self.widgets:
                    self.widgets[name].value = self.controls[name].to_widget(value)
        finally:
            self._quiet = False
        self._redraw()

    def _redraw(self) -> None:
        try:
            self.figure = self.picture(**self.values)
            self.error = ""
            if self._handle is not None:
                self._handle.update(self.figure)
        except Exception as error:  # whatever the drawing raises belongs on the page, in one line
            what = " ".join(str(error).split()) or "no message"
            self.error = f"No picture for {_spelled(self.values)}: {type(error).__name__}: {what}"
        self._say()

    def _say(self) -> None:
        """The line under the controls: an error in sight, or, for screen readers only, what the picture shows now."""
        if self._line is None:
            return
        if self.error:
            self._line.value = f'<span role="alert" style="color:#bd1f01">{html.escape(self.error)}</span>'
        else:
            shown = html.escape(plots.alt_text(self.figure))
            self._line.value = f'<span aria-live="polite" style="{_OUT_OF_SIGHT}">{shown}</span>'

    def _moved(self, name: str, raw: Any) -> None:
        self.values[name] = self.controls[name].from_widget(raw)
        if not self._quiet:
            self._redraw()

    def _make_widgets(self) -> Any:
        """The column of controls, each with a label, a tooltip and room for both."""
        import ipywidgets

        width = f"{2 + max(len(control.label or name) for name, control in self.controls.items())}ch"
        rows = []
        for name, control in self.controls.items():
            common = {
                "description": control.label or name,
                "tooltip": f"{control.describe(name)}: arrow keys move it",
                "style": {"description_width": width},
                "layout": {"width": "min(100%, 46em)"},
                "continuous_update": self.seconds <= SLOW,
            }
            widget = control.widget(name, **common)
            widget.observe(lambda change, name=name: self._moved(name, change["new"]), names="value")
            self.widgets[name] = widget
            rows.append(control.row(widget, name, width))
        self._line = ipywidgets.HTML()
        self._say()
        head = [ipywidgets.HTML(f"<b>{html.escape(self.title)}</b>")] if self.title else []
        return ipywidgets.VBox([*head, *rows, self._line])

    def _ipython_display_(self) -> None:
        """Show it again in another cell; in the cell that made it, it stands already."""
        if self._shown_in != _execution():
            self.show()

    def show(self) -> None:
        """Controls first, then the picture as an output of its own."""
        self._shown_in = _execution()
        if not _in_notebook():
            print(
                f"{self!r}\n  Controls need a notebook: this is the picture at {_spelled(self.values)}: "
                f"{plots.alt_text(self.figure)}"
            )
            return
        from IPython.display import display

        try:
            bundle = _view(self._make_widgets(), self)
        except ImportError:
            print(
                "Controls need the package ipywidgets (pip install ipywidgets); this is the picture at "
                + _spelled(self.values)
            )
        else:
            display(bundle, raw=True)
        self._handle = display(self.figure, display_id=True)


def _view(box: Any, explorer: Explorer) -> dict[str, Any]:
    """The widget's view, with words instead of a list of Python objects for readers without widgets."""
    bundle = box._repr_mimebundle_()
    bundle = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
    controls = "; ".join(control.describe(name) for name, control in explorer.controls.items())
    bundle["text/plain"] = (
        f"Explorer: {_sentence(explorer.title or 'move the controls')} Controls: {controls}. "
        "Run this cell to move them."
    )
    return bundle


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!", "…")) else f"{text}."


def _spelled(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_short(value)}" for name, value in values.items()) or "no controls"


def _shell() -> Any:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def _in_notebook() -> bool:
    return getattr(_shell(), "kernel", None) is not None


def _execution() -> Any:
    return getattr(_shell(), "execution_count", None)


def explore(draw: Callable[..., Figure], *, title: str = "", alt: str = "", **controls: Any) -> Explorer:
    """Show controls over the picture that `draw` makes, and draw it anew whenever one moves.

    draw: takes the controls by name, returns a Figure, and depends on nothing that changes (the same values give the
    same picture). controls: `slider`, `log_slider`, `choice`, `toggle`. title: a line above the controls. alt: what the
    picture shows, for readers who do not see it; the values of the controls are added.
    Errors of the first drawing are raised; later ones are shown in one line under the controls.

    >>> line = lambda slope: plots.curves({"y": ([0, 1], [0, slope])}, title="A line", x_label="x", y_label="y")
    >>> e = explore(line, slope=slider(-2, 2, value=1), title="Tilt it")  # doctest: +ELLIPSIS
    Explorer 'Tilt it' with slope (-2 to 2)
      Controls need a notebook: this is the picture at slope = 1: A line...
    >>> sweep(e)
    []
    """
    for name, control in controls.items():
        if not isinstance(control, Control):
            raise TypeError(
                f"explore: expected a control for {name} (slider, log_slider, choice, toggle), "
                f"got {type(control).__name__}"
            )
    if not controls:
        raise TypeError("explore: expected at least one control, for example t=slider(0, 1000), got none")
    try:
        inspect.signature(draw).bind(**controls)
    except TypeError as error:
        name = getattr(draw, "__name__", "draw")
        raise TypeError(f"explore: {name} does not take the controls {list(controls)}: {error}") from None
    explorer = Explorer(draw, controls, title, alt)
    key = (getattr(draw, "__qualname__", repr(draw)), title)
    explorers[:] = [e for e in explorers if (getattr(e.draw, "__qualname__", repr(e.draw)), e.title) != key]
    explorers.append(explorer)  # running a cell again replaces its explorer
    explorer.show()
    return explorer


# ---------------------------------------------------------------------------------------------------------------- sweep


class Problem(NamedTuple):
    """Something a sweep found: which control, at what value, what happened."""

    control: str
    value: Any
    message: str

    def __str__(self) -> str:
        return f"{self.control} = {_short(self.value)}: {self.message}" if self.control else self.message


def sweep(explorer: Explorer) -> list[Problem]:
    """Move each control to both ends and its middle, the others at their start; report what is wrong, [] if nothing.

    Wrong is: an exception; something that is not a figure; a blank picture; values in it that are not finite; the same
    values giving another picture the second time; no control that changes the picture at all.
    """
    start = {name: control.value for name, control in explorer.controls.items()}
    first, problem = _inspect(explorer, start)
    if problem:
        return [Problem("", None, f"at the start: {problem}")]
    problems, changed = [], False
    for name, control in explorer.controls.items():
        for value in control.probes():
            picture, problem = _inspect(explorer, start | {name: _through_widget(explorer, name, value)})
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


def _through_widget(explorer: Explorer, name: str, value: Any) -> Any:
    """The value as draw gets it when a hand moves the control there: through the widget, if there is one."""
    control = explorer.controls[name]
    if name not in explorer.widgets:
        return value
    widget = explorer.widgets[name]
    before, explorer._quiet = widget.value, True
    try:
        widget.value = control.to_widget(value)
        return control.from_widget(widget.value)
    finally:
        widget.value = before
        explorer.values[name] = control.from_widget(before)
        explorer._quiet = False


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg

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
