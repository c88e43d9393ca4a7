"""Alternative texts arrive: in what a notebook saves, and in the HTML that nbconvert makes of it."""

from __future__ import annotations

from html.parser import HTMLParser

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from running import NOTEBOOKS, read

SOURCE = """
from course_utils import plots
from course_utils.explore import explore, slider
from IPython.display import display
import torch

plots.style()
curve = lambda slope: plots.curves({"y": ([0, 1], [0, slope])}, title=f"At {slope}", x_label="x", y_label="y")
display(curve(1))
view = display(curve(2), display_id=True)
view.update(curve(3))
display(plots.animation([torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)], title="From grey to white"))
explore(curve, slope=slider(0, 9, value=4), title="Tilt", alt="A line")
curve(5)
"""


class Images(HTMLParser):
    """The alternative texts of all images of a page, None where there is none."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.alts: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.alts.append(dict(attributes).get("alt"))


def exported(notebook: nbformat.NotebookNode) -> str:
    page, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook)
    return page


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A little notebook with images of every kind, executed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SOURCE)])
    folder = str(tmp_path_factory.mktemp("little"))
    NotebookClient(notebook, kernel_name="python3", timeout=120, resources={"metadata": {"path": folder}}).execute()
    return notebook


def test_whatever_is_an_image_has_its_text_in_the_saved_notebook_and_in_its_export(executed):
    wanted = ["At 1. ", "At 3. ", "From grey to white. ", "A line. At slope = 4.", "At 5. "]
    outputs = [output.data for output in executed.cells[0].outputs]
    saved = [alt for data in outputs for alt in Images(data.get("text/html", "")).alts]
    for alts in (saved, Images(exported(executed)).alts):
        assert len(alts) == len(wanted) and all(map(str.startswith, alts, wanted)), alts
    assert not any(kind.startswith("image/") for data in outputs for kind in data), "an image is saved once"


def test_without_widgets_an_explorer_is_its_picture_and_a_line(executed):
    page = exported(executed)
    assert "To wake the controls, run this cell" in page and "slope (0 to 9)" in page
    assert "Explorer(controls" not in page


def test_an_image_without_a_text_would_be_found():
    page = '<img src="a.png"><img alt="" src="b.png"><img alt="a cat" src="c.png">'
    assert Images(page).alts == [None, "", "a cat"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_image_of_the_executed_notebooks_has_a_text_in_the_export(name):
    alts = Images(exported(read("solved", name))).alts
    missing = [k for k, alt in enumerate(alts) if not alt or alt.startswith("No description")]
    assert alts and missing == [], f"{len(missing)} of {len(alts)} images have no alternative text"
