"""The controls of an explorer: sliders, choices, boxes to tick; what each offers, and the widget that it becomes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import plots

Number = int | float


@dataclass(frozen=True)
class Control:
    """What a control offers: the value at the start, and a label."""

    value: Any
    label: str

    def offers(self) -> str:
        """What can be chosen, in words."""
        raise NotImplementedError

    def widget(self, **common: Any) -> Any:
        raise NotImplementedError

    def from_widget(self, raw: Any) -> Any:
        """What `draw` gets when this is the value of the widget."""
        return raw


@dataclass(frozen=True)
class Slider(Control):
    """A number between two ends."""

    low: Number
    high: Number
    step: Number
    log: bool = False

    @property
    def whole(self) -> bool:
        return all(isinstance(v, int) for v in (self.low, self.high, self.step))

    def offers(self) -> str:
        return f"{short(self.low)} to {short(self.high)}"

    def widget(self, **common: Any) -> Any:
        import ipywidgets

        common |= {"readout_format": self._readout(), "style": common["style"] | {"handle_color": plots.COLOURS[0]}}
        if self.log:
            exponents = {"min": math.log10(self.low), "max": math.log10(self.high), "step": self.step, "base": 10.0}
            return ipywidgets.FloatLogSlider(value=self.value, **exponents, **common)
        kind = ipywidgets.IntSlider if self.whole else ipywidgets.FloatSlider
        return kind(value=self.value, min=self.low, max=self.high, step=self.step, **common)

    def _readout(self) -> str:
        """As many digits as a step can change."""
        if self.whole:
            return "d"
        if self.log:
            return ".3g"
        return f".{min(6, max(0, -math.floor(math.log10(self.step) + 1e-9)))}f"


@dataclass(frozen=True)
class Choice(Control):
    """One of several values, each with its name."""

    options: tuple[tuple[str, Any], ...]  # (what is shown, what draw gets)
    start: int  # the place of the value among the options

    def offers(self) -> str:
        return ", ".join(text for text, _ in self.options)

    def widget(self, **common: Any) -> Any:
        import ipywidgets

        shown = [(text, i) for i, (text, _) in enumerate(self.options)]  # by index: values need not be comparable
        if len(shown) <= 5 and sum(len(text) + 3 for text, _ in shown) <= 60:
            common["layout"] = {"width": "max-content", "margin": "0 0 0 8px"}
            common["description"] = ""  # radio buttons wrap below their description: the explorer puts it beside them
            common["orientation"] = "horizontal"
            return ipywidgets.RadioButtons(options=shown, value=self.start, **common)
        return ipywidgets.Dropdown(options=shown, value=self.start, **common)

    def from_widget(self, raw: int) -> Any:
        return self.options[raw][1]


@dataclass(frozen=True)
class Toggle(Control):
    """On or off."""

    def offers(self) -> str:
        return "off, on"

    def widget(self, **common: Any) -> Any:
        import ipywidgets

        return ipywidgets.Checkbox(value=self.value, indent=True, **common)


def short(value: Any) -> str:
    """A value in few digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def slider(
    low: Number, high: Number, value: Number | None = None, step: Number | None = None, label: str = ""
) -> Slider:
    """A slider from low to high; whole numbers if low, high and step are. The step is 1, or a hundredth of the way.

    >>> slider(0, 1000, value=250).offers()
    '0 to 1000'
    """
    if step is None:
        step = 1 if isinstance(low, int) and isinstance(high, int) else (high - low) / 100
    value = _start(low, high, value)
    if not 0 < step <= high - low:
        raise ValueError(f"slider: expected a step between 0 and {short(high - low)}, got {step}")
    if all(isinstance(v, int) for v in (low, high, step)):
        return Slider(int(value), label, low, high, step)
    return Slider(float(value), label, float(low), float(high), float(step))


def log_slider(low: Number, high: Number, value: Number | None = None, step: Number = 0.05, label: str = "") -> Slider:
    """A slider whose steps multiply: each by 10**step, 12 % by default. low and high are values, not logarithms.

    >>> log_slider(0.01, 100).offers()
    '0.01 to 100'
    """
    if not low > 0:
        raise ValueError(f"log_slider: expected low > 0, got {low}")
    value = _start(low, high, value)
    decades = math.log10(high / low)
    if not 0 < step <= decades:
        raise ValueError(f"log_slider: expected a step between 0 and {decades:.3g} powers of ten, got {step}")
    return Slider(float(value), label, float(low), float(high), float(step), log=True)


def _start(low: Number, high: Number, value: Number | None) -> Number:
    """The value that a slider starts with: the one given, else the lowest."""
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"slider: expected finite low < high, got {low} and {high}")
    if value is not None and not low <= value <= high:
        raise ValueError(f"slider: expected a value between {short(low)} and {short(high)}, got {value}")
    return low if value is None else value


def choice(options: Sequence[Any] | Mapping[str, Any], value: Any = None, label: str = "") -> Choice:
    """One of several options: words or numbers, or {"what is shown": what draw gets}. The first one at the start.

    >>> choice(["linear", "cosine"]).value
    'linear'
    """
    named = options.items() if isinstance(options, Mapping) else [(option, option) for option in options]
    pairs = tuple((str(text), option) for text, option in named)
    if not pairs:
        raise ValueError("choice: expected at least one option, got none")
    start = 0 if value is None else next((i for i, (_, option) in enumerate(pairs) if _same(option, value)), None)
    if start is None:
        raise ValueError(f"choice: expected a value among {[text for text, _ in pairs]}, got {value!r}")
    return Choice(pairs[start][1], label, pairs, start)


def _same(a: Any, b: Any) -> bool:
    try:
        return a is b or bool(a == b)
    except (RuntimeError, TypeError, ValueError):  # tensors and arrays compare element by element
        return False


def toggle(value: bool = False, label: str = "") -> Toggle:
    """A box to tick.

    >>> toggle(True).value
    True
    """
    return Toggle(bool(value), label)
