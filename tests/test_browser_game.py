"""The game "real or generated?" played to its end in a real JupyterLab, by mouse and by keyboard."""

from __future__ import annotations

import json

import pytest
from test_browser import browser, run_all  # noqa: F401  (a fixture)
from test_browser_explore import lab, nameless, page, write  # noqa: F401  (lab and page are fixtures)

# Real images are white, those of the GAN black, those of the diffusion model grey: what a player can see in the page.
GAME = """
import torch
from course_utils.explore import RealOrGenerated, play
from course_utils.notebook import setup

lab = setup("00")
grey = lambda value: torch.full((12, 1, 28, 28), value)
game = RealOrGenerated(grey(1.0), {"GAN": grey(-1.0), "diffusion": grey(0.0)}, seed=5)
"""
TABLE = """
import json, pathlib
from course_utils.metrics import wilson_interval
found = {name: [*errors, *wilson_interval(*errors)] for name, errors in game.errors().items()}
pathlib.Path("found.json").write_text(json.dumps({"errors": found, "said": [answer.said for answer in game.answers]}))
"""
PICTURE = ".widget-html img.course-figure >> visible=true"


def wait_for(page, alt: str) -> None:  # noqa: F811
    page.locator(f"{PICTURE.split(' >>')[0]}[alt^='{alt}']").first.wait_for(timeout=15_000)


def brightness(page) -> int:  # noqa: F811
    """Of the picture on the page, 0 to 255, as it is decoded by the browser."""
    script = """image => {
        const canvas = document.createElement('canvas');
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        const context = canvas.getContext('2d');
        context.drawImage(image, 0, 0);
        return context.getImageData(3, 3, 1, 1).data[0];
    }"""
    return page.locator(PICTURE).first.evaluate(script)


def run_cell(page, lab, number: int) -> None:  # noqa: F811
    page.locator(".jp-Cell").nth(number).locator(".jp-InputArea-editor").click()
    page.keyboard.press("Control+Enter")
    lab.wait_until_idle(30)


def button(page, name: str):  # noqa: F811
    return page.locator(".jp-OutputArea").get_by_role("button", name=name)


@pytest.mark.slow
def test_twenty_answers_ten_by_mouse_and_ten_by_keys(page, lab, report):  # noqa: F811
    """A player who takes everything but black for real: knows the GAN, and is deceived by every grey image."""
    run_all(page, lab, write(lab, "game", GAME, "play(game)", TABLE))
    cells, sources = page.locator(".jp-Cell").count(), []
    for number in range(1, 21):
        wait_for(page, f"Image {number} of 20")
        sources.append({255: "real images", 0: "GAN", 128: "diffusion"}[brightness(page)])
        word = "Generated" if sources[-1] == "GAN" else "Real"
        if number <= 10:
            button(page, word).click()
        else:
            page.keyboard.press(word[0].lower())
        if number == 10:
            run_cell(page, lab, 1)  # shown anew: it goes on, and the first key needs the focus
            wait_for(page, "Image 11 of 20")
            button(page, "Real").focus()
    wait_for(page, "The round is over")
    assert "5 of 5 taken for real" in page.locator(".jp-OutputArea [role=status] >> visible=true").inner_text()
    page.keyboard.press("r")  # too late, and it stays in the game
    assert nameless(page) == [] and page.locator(".jp-Cell").count() == cells
    run_cell(page, lab, 2)
    found = json.loads((lab.notebooks / "found.json").read_text())
    assert {name: sources.count(name) for name in found["errors"]} == {"real images": 10, "GAN": 5, "diffusion": 5}
    assert found["said"] == ["generated" if source == "GAN" else "real" for source in sources]
    none_of_10, none_of_5 = (1.96**2 / (n + 1.96**2) for n in (10, 5))  # upper ends where nothing went wrong
    expected = {
        "real images": [0, 10, 0, none_of_10],
        "GAN": [0, 5, 0, none_of_5],
        "diffusion": [5, 5, 1 - none_of_5, 1],
    }
    for name, numbers in expected.items():
        assert found["errors"][name] == pytest.approx(numbers, abs=1e-3)
    report.append("the game: ten answers by mouse, ten by keys, shown anew in between; errors and intervals as played")


@pytest.mark.slow
def test_the_next_round_is_begun_by_its_key(page, lab):  # noqa: F811
    rest = "while game.image is not None:\n    game.answer('real')\nplay(game)"
    run_all(page, lab, write(lab, "rounds", GAME, rest))
    wait_for(page, "The round is over")
    button(page, "Another round").focus()
    page.keyboard.press("n")
    wait_for(page, "Image 1 of 20")
    assert "round 2" in page.locator(".jp-OutputArea [role=status] >> visible=true").inner_text()
