"""A picture under its controls, redrawn in place whenever one of them moves."""

from __future__ import annotations

import gc
import html
import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from .. import plots
from ..keys import keep_keys
from .controls import Control, short
from .page import asleep, awake, execution, in_notebook, name_of, view

REMEMBERED = 100  # pictures an explorer keeps, so that sweeping back is instant; 5 to 20 MB

_OUT_OF_SIGHT = "position:absolute; width:1px; height:1px; overflow:hidden; clip-path:inset(50%); white-space:nowrap"

explorers: dict[tuple[str, str], Explorer] = {}  # every explorer of this kernel, so that a test can sweep them


class Explorer:
    """Controls over a picture; made by `explore`.

    `.values` of the controls, `.figure` drawn last, `.alt` of the picture on the page, `.error` the line under the
    controls ("" if none).
    """

    def __init__(self, draw: Callable[..., Figure], controls: Mapping[str, Control], title: str, alt: str) -> None:
        self.draw, self.controls, self.title, self._alt = draw, dict(controls), title, alt
        self.values = {name: control.value for name, control in self.controls.items()}
        self.error = ""
        self.widgets: dict[str, Any] = {}
        self._box: Any = None  # title, controls, line and picture
        self._picture: Any = None
        self._line: Any = None
        self._shown_in: Any = None
        self._known: OrderedDict[tuple, tuple[str, str]] = OrderedDict()  # where the controls stood: (HTML, alt)
        self._known_since: Any = None
        self.figure = self.picture(**self.values)
        self.alt = plots.alt_text(self.figure)

    def __repr__(self) -> str:
        return f"Explorer {self.title!r} with {self._offers()}"

    def _offers(self) -> str:
        return "; ".join(map(self._offer, self.controls))

    def _offer(self, name: str) -> str:
        return f"{self._label(name)} ({self.controls[name].offers()})"

    def _label(self, name: str) -> str:
        return self.controls[name].label or name

    def picture(self, **values: Any) -> Figure:
        """The figure for these values, with its alternative text; nothing is shown."""
        figure = self.draw(**values)
        if not isinstance(figure, Figure):
            got = type(figure).__name__
            raise TypeError(f"draw: expected it to return a Figure, got {got}; end it with `return plots...`")
        if self._alt:
            figure.set_label(f"{_sentence(self._alt)} At {_spelled(values)}.")
        return figure

    def _moved(self, name: str, raw: Any) -> None:
        self.values[name] = self.controls[name].from_widget(raw)
        try:
            self._picture.value, self.alt = self._drawn()
            self.error = ""
        except Exception as error:  # whatever the drawing raises belongs on the page, in one line
            what = " ".join(str(error).split()) or "no message"
            self.error = f"No picture for {_spelled(self.values)}: {type(error).__name__}: {what}"
        self._say()

    def _drawn(self) -> tuple[str, str]:
        """The picture for where the controls stand, as HTML, and its alternative text.

        One that was drawn before is taken from memory, unless a cell has run since: it may have changed the model.
        """
        if self._known_since != execution():
            self._known.clear()
        if self._place() not in self._known:
            self.figure = self.picture(**self.values)
            self._remember()
        return self._known[self._place()]

    def _place(self) -> tuple:
        return tuple(widget.value for widget in self.widgets.values())

    def _remember(self) -> None:
        """Keep the figure that was just drawn, as it is shown."""
        self._known_since = execution()
        self._known[self._place()] = plots.as_html(self.figure, quick=True), plots.alt_text(self.figure)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _say(self) -> None:
        """The line under the controls: an error that everyone sees, or, for screen readers, what the picture shows."""
        if self.error:
            red = "color:var(--jp-error-color1, #bd1f01)"
            self._line.value = f'<span role="alert" style="{red}">{html.escape(self.error)}</span>'
        else:
            self._line.value = f'<span aria-live="polite" style="{_OUT_OF_SIGHT}">{html.escape(self.alt)}</span>'

    def _make_widgets(self) -> Any:
        """The column of controls, each with a label, a tooltip and room for both, over the picture."""
        import ipywidgets

        width = f"min({2 + max(len(self._label(name)) for name in self.controls)}ch, 50%)"
        rows = []
        for name, control in self.controls.items():
            widget = control.widget(
                description=self._label(name),
                tooltip=f"{self._offer(name)}: arrow keys move it",
                style={"description_width": width},
                layout={"width": "min(100%, 46em)"},
            )
            widget.observe(lambda change, name=name: self._moved(name, change["new"]), names="value")
            self.widgets[name] = widget
            if not widget.description:
                label = ipywidgets.Label(self._label(name), layout={"width": width, "justify_content": "flex-end"})
                widget = ipywidgets.HBox([label, widget], layout={"align_items": "baseline", "flex_flow": "row wrap"})
            rows.append(widget)
        self._line = ipywidgets.HTML()
        self._say()
        self._remember()
        self._picture = ipywidgets.HTML(self._drawn()[0])
        head = ipywidgets.HTML(f"<b>{html.escape(self.title)}</b>")
        box = ipywidgets.VBox([head, *rows, self._line, self._picture])
        box.add_class(name_of(box))
        head.value += awake(name_of(box))
        return keep_keys(box, {widget: self._label(name) for name, widget in self.widgets.items()})

    def _ipython_display_(self) -> None:
        """Show it again in another cell; in the cell that made it, it is on the page already."""
        if self._shown_in != execution():
            self.show()

    def show(self) -> None:
        """The explorer, and what stands in for it wherever it does not live."""
        self._shown_in = execution()
        shown = f"this is the picture at {_spelled(self.values)}"
        if not in_notebook():
            print(f"{self!r}\n  Controls need a notebook: {shown}: {self.alt}")
            return
        from IPython.display import display

        try:
            self._box = box = self._box or self._make_widgets()
        except ImportError:
            print(f"Controls need the package ipywidgets (pip install ipywidgets); {shown}")
            display(self.figure)
            return
        _settle()
        display(view(box, "Explorer(controls=...)"), raw=True)
        display({"text/html": self._asleep(name_of(box)), "text/plain": f"{self!r}\n{self.figure!r}"}, raw=True)

    def _asleep(self, name: str) -> str:
        """What is shown while the explorer does not live: the picture as it is now, and how to wake the controls."""
        how = "To wake the controls, run this cell (Shift+Enter); after a restart first those above it"
        how = f"{how} (menu Run, Run All Above Selected Cell). Controls: {self._offers()}."
        return asleep(
            name, f"<p><b>{html.escape(self.title)}</b><br>{html.escape(how)}</p>{plots.as_html(self.figure)}"
        )


def _settle() -> None:
    """Let the garbage collector search only what comes from here on.

    Figures are rings of references that it has to find. Among all that a notebook has loaded by then this takes half a
    second, once in thirty moves or so; among themselves, nothing that one would notice.
    """
    gc.unfreeze()  # what an earlier explorer set aside may have become garbage since
    gc.collect()
    gc.freeze()


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!", "…")) else f"{text}."


def _spelled(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {short(value)}" for name, value in values.items())


def explore(draw: Callable[..., Figure], *, title: str = "", alt: str = "", **controls: Any) -> Explorer:
    """Show controls over the picture that `draw` makes, and draw it anew whenever one moves.

    draw: takes the controls by name, returns a Figure, and depends on nothing that changes (the same values give the
    same picture). controls: `slider`, `log_slider`, `choice`, `toggle`. title: a line above the controls. alt: what the
    picture shows, for readers who do not see it; the values of the controls are added.
    Errors of the first drawing are raised; later ones are shown in one line under the controls.

    >>> from course_utils.explore import slider
    >>> line = lambda slope: plots.curves({"y": ([0, 1], [0, slope])}, title="A line", x_label="x", y_label="y")
    >>> e = explore(line, slope=slider(-2, 2, value=1), title="Tilt it")  # doctest: +ELLIPSIS
    Explorer 'Tilt it' with slope (-2 to 2)
      Controls need a notebook: this is the picture at slope = 1: A line...
    """
    for name, control in controls.items():
        if not isinstance(control, Control):
            wanted = f"a control for {name} (slider, log_slider, choice, toggle)"
            raise TypeError(f"explore: expected {wanted}, got {type(control).__name__}")
    if not controls:
        raise TypeError("explore: expected at least one control, for example t=slider(0, 1000), got none")
    name = getattr(draw, "__qualname__", repr(draw))
    try:
        inspect.signature(draw).bind(**controls)
    except TypeError as error:
        raise TypeError(f"explore: {name} does not take the controls {list(controls)}: {error}") from None
    explorer = Explorer(draw, controls, title, alt)
    explorers[name, title] = explorer  # running a cell again replaces its explorer
    explorer.show()
    return explorer
