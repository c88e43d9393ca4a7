"""A widget on a page, and what stands in for it wherever it does not live.

Of the two, which are saved with the notebook, a page shows exactly one. ipywidgets marks a widget as disconnected when
the kernel is restarted; the next day it is not there, but in its place a line that says so in words for programmers.
Names tell several widgets of a page apart.
"""

from __future__ import annotations

from typing import Any


def name_of(box: Any) -> str:
    """What the styles call this widget."""
    return f"explorer-{box.model_id}"


def awake(name: str) -> str:
    """HTML for inside the widget: hides the stand-in while the widget lives, and the widget when it does not.

    (On a narrow page ipywidgets would cut radio buttons off below their names; here they go on in another line.)
    """
    return (
        f"<style>:root:has(.{name}:not(.jupyter-widgets-disconnected)) .asleep-{name},"
        f".{name}.jupyter-widgets-disconnected{{display:none}}"
        f".{name} .widget-radio-box{{flex-wrap:wrap}}.{name} .widget-radio-box label{{flex-shrink:0}}</style>"
    )


def asleep(name: str, content: str) -> str:
    """HTML for the output after the widget: `content`, which stands in for it."""
    no_widget = f".jp-OutputArea-child:has(> .jupyter-widgets):has(+ .jp-OutputArea-child .asleep-{name})"
    return f'<style>{no_widget}{{display:none}}</style><div class="asleep-{name}">{content}</div>'


def view(box: Any, text: str) -> dict[str, Any]:
    """The widget's view; for readers without widgets `text` and not a list of Python objects."""
    bundle = box._repr_mimebundle_()
    bundle = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
    bundle["text/plain"] = text
    return bundle


def in_notebook() -> bool:
    """Whether there is a kernel, and so perhaps somebody to move something."""
    return getattr(_shell(), "kernel", None) is not None


def execution() -> Any:
    """The number of the cell that runs; None outside of a notebook."""
    return getattr(_shell(), "execution_count", None)


def _shell() -> Any:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()
