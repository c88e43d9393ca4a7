"""What lives under a card: buttons for options and hints, a field for a guess. All of it can be typed as well.

Widgets die with the kernel or sleep in a page that was loaded again; `asleep` is the line that says so then. It stands
in the card and is out of sight while the widget below it lives, which carries the style that hides it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from course_utils.keys import keep_keys

from .cards import in_notebook, inline


def _ipywidgets() -> Any:
    """ipywidgets, or None where it is missing or there is nobody to click."""
    if not in_notebook():
        return None
    try:
        import ipywidgets
    except Exception:  # missing or broken: typing works as well
        return None
    return ipywidgets


def asleep(id: str, what: str) -> str:
    """HTML for a card: what to do where `what`, the widget of this id below it, does not live; "" without widgets."""
    if _ipywidgets() is None:
        return ""
    name, child = _css_name(id), ".jp-OutputArea-child"
    text = inline(f"The {what} here sleeps: run this cell again (Shift+Enter) to wake it.")
    # Jupyter's own "Error displaying widget: model not found", the next output, tells nobody what to do. (Where widgets
    # were stripped, the next output is another thing.)
    dead = f"{child}:has(> .jupyter-widgets):not(:has(.awake-{name}))"
    error = f"<style>{child}:has(.asleep-{name}) + {dead} {{display: none}}</style>"
    return f'{error}<p class="asleep-{name}" style="margin:.3em 0; max-width:46em">{text}</p>'


def _css_name(id: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in id)


def _show_alive(id: str, *rows: Any) -> None:
    """Show the rows one below the other; while they live, `asleep` is out of sight, and plain keys are theirs."""
    from IPython.display import display

    widgets, name = _ipywidgets(), _css_name(id)
    alive = f"body:has(.awake-{name}:not(.jupyter-widgets-disconnected)) .asleep-{name} {{display: none}}"
    style = widgets.HTML(f"<style>{alive}</style>", layout={"display": "none"})
    box = widgets.VBox([*rows, style], layout={"align_items": "flex-start"})
    box.add_class(f"awake-{name}")
    display(keep_keys(box))


def show_hints(id: str, hints: Sequence[str], seen: int, next_hint: Callable[[], int]) -> None:
    """A button that shows one more hint with every press, and those seen so far. `next_hint()` says how many now."""
    widgets = _ipywidgets()
    if widgets is None:
        return
    button = widgets.Button(tooltip="Shows one more hint below", layout={"width": "auto"})
    shown = widgets.HTMLMath()

    def tell(seen: int) -> None:
        texts = [f'<p style="margin:.25em 0"><b>Hint {i}.</b> {inline(hints[i - 1])}</p>' for i in range(1, seen + 1)]
        shown.value = f'<div role="status" style="max-width:46em; line-height:1.5">{"".join(texts)}</div>'
        # The last press leaves the button as it is: if it were disabled, the focus would fall to the page.
        more = f"Show a hint ({seen + 1} of {len(hints)})"
        button.description = more if seen < len(hints) else "That was the last hint"

    tell(seen)
    button.on_click(lambda _: tell(next_hint()))
    _show_alive(id, button, shown)


def show_choice(id: str, title: str, letters: Sequence[str], feedback: Callable[[str], str]) -> None:
    """A button for each option; pressing one shows `feedback(letter)`, and only that is ever sent to the page."""
    widgets = _ipywidgets()
    if widgets is None:
        return
    shown = widgets.HTMLMath()
    buttons = {
        letter: widgets.Button(
            description=f"Try {letter}", tooltip=f"{title}: option {letter}", layout={"width": "auto"}
        )
        for letter in letters
    }

    def choose(chosen: str) -> None:
        for letter, button in buttons.items():
            button.button_style = "info" if letter == chosen else ""
        shown.value = feedback(chosen)

    for letter, button in buttons.items():
        button.on_click(lambda _, letter=letter: choose(letter))
    row = widgets.HBox(list(buttons.values()), layout={"flex_flow": "row wrap"})
    _show_alive(id, row, shown)


def show_guess(id: str, question: str, range: str, guess: str, take: Callable[[str], str]) -> None:
    """A field for a guess. `take(text)` is called with Enter or the button, and answers in a line of HTML."""
    widgets = _ipywidgets()
    if widgets is None:
        return
    field = widgets.Text(
        value=guess,
        placeholder=range,
        description="Your guess:",
        tooltip=question,
        continuous_update=False,
        style={"description_width": "initial"},
        layout={"width": "18em"},
    )
    button = widgets.Button(description="This is my guess", layout={"width": "auto"})
    said = widgets.HTML()

    def taken(_: Any) -> None:
        said.value = f'<div role="status">{inline(take(field.value))}</div>'

    field.observe(taken, names="value")
    button.on_click(taken)
    _show_alive(id, widgets.HBox([field, button], layout={"flex_flow": "row wrap"}), said)
