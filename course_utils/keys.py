"""What JupyterLab's widgets lack for people who work by keyboard or by ear.

JupyterLab takes arrows and letters away from sliders, radio buttons and menus: they move to another cell, or insert
one. And ipywidgets gives the handle of a slider no name. Both are attributes in the page that Python cannot reach, so
a few lines of JavaScript set them, in a widget that draws nothing: where the widgets live, so does it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

# JupyterLab looks at a key before the element that has the focus does, and leaves it alone if that element has the
# attribute. Ctrl+S and the like, and Shift+Enter, stay JupyterLab's.
# Views come and go while a page is built and rebuilt, so names are set whenever something below the box changes; and
# only where they differ, else our own change would call us again, for ever.
_SCRIPT = """
const box = this.closest('.keeps-keys'), names = NAMES, keys = KEYS;
window.keepsKeys ??= !window.addEventListener('keydown', (event) => {
  const theirs = event.ctrlKey || event.metaKey || event.altKey || (event.shiftKey && event.key === 'Enter');
  if (event.target.closest?.('.keeps-keys')) event.target.toggleAttribute('data-lm-suppress-shortcuts', !theirs);
}, true);
const put = (node, attribute, value) => node.getAttribute(attribute) === value || node.setAttribute(attribute, value);
const tend = () => {
  for (const [mark, name] of Object.entries(names)) for (const view of box.querySelectorAll('.' + mark)) {
    const readout = view.querySelector('.widget-readout'), slider = view.querySelector('[role=slider]');
    if (slider) {
      put(slider, 'aria-label', name);
      if (readout) put(slider, 'aria-valuetext', readout.textContent);
    }
    if (readout) { put(readout, 'role', 'textbox'); put(readout, 'aria-label', name + ', typed'); }
    if (view.classList.contains('widget-radio')) {
      put(view, 'role', 'radiogroup');
      put(view, 'aria-label', name);
      for (const button of view.querySelectorAll('input')) put(button, 'name', mark);  // one stop of the Tab key
    }
    for (const field of view.querySelectorAll('select, input:not([type=radio])')) put(field, 'aria-label', name);
  }
  for (const [mark, key] of Object.entries(keys)) for (const view of box.querySelectorAll('.' + mark)) {
    put(view, 'aria-keyshortcuts', key);
  }
};
const press = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches('input, select')) return;
  const [mark] = Object.entries(keys).find(([, key]) => key === event.key.toLowerCase()) ?? [];
  if (mark) box.querySelector('.' + mark)?.click();
};
if (box && !box.tended) {
  box.tended = new MutationObserver(tend);
  const attributeFilter = ['class', 'aria-valuetext'];
  box.tended.observe(box, {subtree: true, childList: true, characterData: true, attributeFilter});
  box.addEventListener('keydown', press);
  tend();
}
"""


def keep_keys(box: Any, names: Mapping[Any, str] | None = None, keys: Mapping[Any, str] | None = None) -> Any:
    """Let every key go to the widgets in `box` and none to the notebook, and give each widget in `names` its name.

    box: an ipywidgets box, which gets one more child, without a size.  names: {widget: what a screen reader calls it};
    for sliders, menus, radio buttons and boxes to tick, anywhere below the box.  keys: {button: a letter}, which
    presses the button while the focus is somewhere in the box, but not in a field.  Returns the box.

    >>> import ipywidgets
    >>> loudness = ipywidgets.IntSlider()
    >>> box = keep_keys(ipywidgets.VBox([loudness]), {loudness: "loudness"})
    >>> len(box.children)
    2
    """
    import ipywidgets

    box.add_class("keeps-keys")
    script = html.escape(_SCRIPT.replace("NAMES", _marked("named", names)).replace("KEYS", _marked("pressed", keys)))
    # a style sheet says when it has become part of the page; it need not be empty, but this one is
    keeper = ipywidgets.HTML(f'<style onload="{script}"></style>', layout={"height": "0", "margin": "0"})
    box.children = (*box.children, keeper)
    return box


def _marked(how: str, words: Mapping[Any, str] | None) -> str:
    """{class of a widget: its word} in JavaScript; every widget gets a class of its own."""
    marks = {}
    for widget, word in (words or {}).items():
        marks[f"{how}-{widget.model_id}"] = word
        widget.add_class(f"{how}-{widget.model_id}")
    return json.dumps(marks)
