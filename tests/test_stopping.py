"""Every notebook from top to bottom with a finger on the stop button: one press in each cell that trains."""

from __future__ import annotations

import jupytext
import masters
import nbclient
import nbformat
import pytest

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
TRAINING = {"00": 1, "01": 4, "02": 5, "03": 0, "04": 3, "05": 9, "06": 1, "07": 1}  # cells that train


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
    ended = [text for text in said if "Stopped by hand after step" in text]
    report.append(f"notebook {number}: one press in each of {len(ended)} cells that train, nothing raised")
    assert len(ended) == TRAINING[number] and all(text.count("Stopped by hand after step") == 1 for text in ended)
