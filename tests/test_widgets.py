"""Every control of every explorer of every notebook, moved to both ends and the middle: errors that appear only when
somebody moves a slider are seen by no test that merely runs a notebook."""

from __future__ import annotations

import re

import pytest
import running
from running import AT_HAND, NOTEBOOKS, read, written

SWEPT = {("solved", AT_HAND): (), ("untouched", "no data"): pytest.mark.slow}


def written_down(face: str, name: str) -> int:
    """How many explorers a notebook makes: its cells that call `explore`."""
    cells = read(face, name).cells
    return sum(len(re.findall(r"^explore\(", cell.source, re.MULTILINE)) for cell in cells if cell.cell_type == "code")


@pytest.mark.parametrize(("face", "data"), [pytest.param(*pair, marks=marks) for pair, marks in SWEPT.items()])
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_explorer_survives_a_sweep(face, data, name, ran, report):
    """Finite pictures, no exception, and something changes."""
    run = ran(face, data, name)
    assert run.explorers is not None, f"the sweep did not finish:\n{run.log}"
    problems = [f"{e['title']}: {problem}" for e in run.explorers for problem in e["problems"]]
    assert problems == []
    assert len(run.explorers) == written_down(face, name) > 0
    controls = sum(len(e["controls"]) for e in run.explorers)
    report.append(f"{name}, {face}: {len(run.explorers)} explorers with {controls} controls swept, no problem")


BROKEN_EXPLORER = """
from course_utils import plots
from course_utils.explore import explore, slider

def draw(n):
    figure, axes = plots.new_figure(3, 2)
    axes.plot([0, 1 / (2 - n)])
    return figure

explore(draw, n=slider(0, 2), title="breaks at the end")
"""


def test_a_slider_that_breaks_only_when_moved_is_found(tmp_path):
    run = running.run(written(tmp_path, BROKEN_EXPLORER), tmp_path / "run", env={})
    assert run.failed == (), "nothing goes wrong until somebody moves the slider"
    (explorer,) = run.explorers
    assert len(explorer["problems"]) == 1 and "ZeroDivisionError" in explorer["problems"][0]
