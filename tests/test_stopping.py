"""Every notebook from top to bottom with a finger on the stop button: one press in each cell that trains."""

from __future__ import annotations

import jupytext
import masters
import nbclient
import nbformat
import pytest
from test_browser import browser, lab, screenshots  # noqa: F401  (fixtures)

FINGER = """
import signal
from course_utils.training import stopping

_stopped, _enter = [], stopping.StopButton.__enter__

def _entered(button):
    _enter(button)
    if button.cell not in _stopped:  # the first training of its cell begins
        _stopped.append(button.cell)
        signal.raise_signal(signal.SIGINT)
    return button

stopping.StopButton.__enter__ = _entered
"""
COUNTS = (1, 7, 5, 0, 3, 8, 0, 4, 8, 2, 6, 5)
TRAINING = {f"{number:02}": count for number, count in enumerate(COUNTS)}  # cells that train


@pytest.mark.slow
@pytest.mark.parametrize("number", TRAINING)
def test_one_press_in_each_cell_that_trains(number, monkeypatch, tmp_path, report):
    """It ends there, without a traceback, and every cell that follows runs with what there is."""
    for name, value in {"EFFORT": "smoke", "DATASET": "digits", "QUIET": "1"}.items():
        monkeypatch.setenv(f"COURSE_{name}", value)
    notebook = jupytext.read(masters.path(number))
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FINGER))
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, allow_errors=True, resources=resources).execute()

    errors = [(out.ename, out.evalue, cell.source[:80]) for cell in notebook.cells for out in cell.outputs
              if out.output_type == "error"]  # fmt: skip
    assert errors == []
    said = ["".join(out.get("text", "") for out in cell.outputs) for cell in notebook.cells]
    line = "Cells that wait run on"  # ends what the first training of a stopped cell says
    ended = [text for text in said if line in text]
    report.append(f"notebook {number}: one press in each of {len(ended)} cells that train, nothing raised")
    assert len(ended) == TRAINING[number] and all(text.count(line) == 1 for text in ended)


LITTLE = {
    "prepared": """\
import time
import torch
from torch import nn
from course_utils.training import fit, until_stopped

def loss(model, x, y, generator):
    time.sleep(0.05)
    return model(x).square().mean()

def go(steps):
    return len(fit(nn.Linear(2, 2), loss, torch.ones(8, 2), steps=steps).steps)

print("made", go(1))""",
    "several": 'print("three:", [go(1000) for _ in range(3)])',
    "by hand": 'for step in until_stopped(range(1000)):\n    time.sleep(0.05)\nprint("by hand:", step + 1)',
    "last": 'print("the last one:", go(1000))',
    "never": 'print("never reached")',
}


@pytest.mark.slow
def test_the_stop_button_of_jupyterlab(browser, lab, screenshots):  # noqa: F811
    """Run All: one press ends a cell's training and the next cells run on; two end all that waits."""
    little = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in LITTLE.values()])
    little.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(little, lab.notebooks / "little.ipynb")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{lab.url}/lab/tree/little.ipynb?token={lab.token}")
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    cells.first.wait_for(timeout=60_000)
    lab.wait_until_idle(60)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    stop = page.locator("[data-jp-item-name='interrupt'] button, [data-jp-item-name='interrupt'] jp-button").first

    def trains_after(said: str) -> None:
        """Return when a cell has said this, and the next one trains."""
        page.locator(".jp-OutputArea-output").get_by_text(said).wait_for()
        page.wait_for_timeout(1500)

    trains_after("made 1")
    stop.click()
    trains_after("three:")
    stop.click()
    trains_after("by hand:")
    stop.dblclick()
    lab.wait_until_idle(30)
    page.screenshot(path=screenshots / "stop.png")
    text = [cell.locator(".jp-OutputArea").inner_text() for cell in cells.all()]
    assert "Stopped by hand" in text[1] and "1, 1]" in text[1] and "KeyboardInterrupt" not in text[1]
    assert "press stop twice" in text[1] and "Stopped by hand" in text[2] and "by hand:" in text[2]
    assert "pressed twice" in text[3] and "loss(model" not in text[3] and "never reached" not in text[4]
