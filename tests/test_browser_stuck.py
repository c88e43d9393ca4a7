"""A student in a real JupyterLab who cannot get stuck: errors in answers, a restart, the next day, keys alone.

One server and a small notebook, cut from notebook 03: two quizzes, a prediction, a last cell that needs an answer.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell
from test_browser import browser, run_all, served  # noqa: F401  (browser is a fixture)

from classroom.authoring import render
from classroom.authoring.masters import read_master
from classroom.quizzes import declarations, memory

ROOT = Path(__file__).resolve().parent.parent
QUESTION, QUIZ = "forward/noisier", "forward/step-variances"
BELOW = {
    "predict": 'predict("forward/half-way", "Signal rate at t = 500", 0.0, 1.0)',
    "reveal": 'reveal("forward/half-way", 0.28)',
    "last": 'print("the last cell:", len(step_variances("linear", T=10)))',
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("COURSE_PROGRESS")  # here somebody works
            lab = stack.enter_context(served(tmp_path_factory.mktemp("lab")))
        yield lab


@pytest.fixture
def written(lab):
    """written(name, answers): a small notebook in the server's folder, with these answers in place of the stubs."""
    master = read_master(ROOT / "solutions" / "03_forward_diffusion.py")
    whole = render.student(master, ROOT / "solutions" / "budgets.json")

    def write(name: str, answers: dict[str, str]) -> None:
        notebook = whole.copy()
        kept = [cell for cell in whole.cells if cell.metadata.get("course", {}).get("quiz") in (QUESTION, QUIZ)]
        notebook.cells = [cell.copy() for cell in kept]
        for cell in notebook.cells:
            if cell.metadata.course.role == "answer":
                cell.source = answers.get(cell.metadata.course.quiz, cell.source)
        imports = "import torch\nfrom classroom import ask, check, predict, progress, reveal"
        notebook.cells.insert(0, new_code_cell(imports, id="set-up"))
        notebook.cells += [new_code_cell(source, id=id) for id, source in BELOW.items()]
        nbformat.write(notebook, lab.notebooks / f"{name}.ipynb")
        (lab.notebooks / memory.FILE).unlink(missing_ok=True)
        for tabs in (lab.folder / "profile" / "workspaces").glob("*"):  # JupyterLab opens again what was open last
            tabs.unlink()

    return write


@pytest.fixture
def screenshots_of(tmp_path):
    """The file for a picture of this name."""
    folder = Path(os.environ.get("COURSE_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return lambda name: folder / f"{name}.png"


@pytest.fixture
def page(browser, lab):  # noqa: F811
    page = browser.new_page(viewport={"width": 1280, "height": 3000})  # the whole notebook at once
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    lab.end_kernels()
    assert complaints == []


def shown(page) -> str:
    return page.locator(".jp-Notebook").inner_text()


def cell(page, source: str):
    return page.locator(".jp-CodeCell", has_text=source)


def run_again(page, lab, source: str) -> None:
    cell(page, source).locator(".jp-InputPrompt").click()
    page.keyboard.press("Shift+Enter")
    lab.wait_until_idle(30)


def restart(page, lab) -> None:
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.locator(".lm-Menu-item", has_text="Restart Kernel…").click()
    page.locator(".jp-Dialog .jp-mod-warn").click()
    page.locator(".jp-Dialog").wait_for(state="detached")
    lab.wait_until_idle(30)


def reopen(page, lab) -> None:
    page.keyboard.press("Control+s")
    page.wait_for_timeout(500)
    page.reload()
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
    lab.wait_until_idle(30)


ANSWERS = {
    QUIZ: "def step_variances(kind, T, beta_min=1e-4, beta_max=0.02)\n    return torch.ones(T)",
    QUESTION: '1 / 0\nnoisier = "a"',
}


def test_run_all_reaches_the_last_cell_and_all_cards_answer_to_keys_alone(page, lab, written, screenshots_of):
    written("tried", ANSWERS)
    saved = run_all(page, lab, "tried")
    page.screenshot(path=screenshots_of("stuck"))
    assert saved.cells[-1].outputs[0].text == "the last cell: 10\n"
    for words in ("the cell with your answer stops with an error", "the cell with your answer is not Python yet"):
        assert words in shown(page)

    cells = page.locator(".jp-Cell").count()
    focus = "document.activeElement.textContent"
    cell(page, "ask(").locator(".jp-InputPrompt").click()  # from a selected cell, as after Shift+Enter above it
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate(focus) == "Try b":
            break
    page.keyboard.press("Enter")
    page.locator("text=You chose b with a click. To hand it in").wait_for()
    assert 'noisier = "b"' in cell(page, "ask(").inner_text()
    for key in ("ArrowDown", "ArrowUp", "a", "b", "x", "d", "d", "m"):
        page.keyboard.press(key)
    assert page.evaluate(focus) == "Try b" and page.locator(".jp-Cell").count() == cells
    page.locator("button", has_text="hint").focus()
    hints = len(declarations.get(QUIZ).hints)
    for left in (*(f"{k} of {hints}" for k in range(2, hints + 1)), "That was the last hint"):
        page.keyboard.press("Space")
        page.locator("button", has_text=left).wait_for()
    page.keyboard.press("Space")
    assert page.evaluate(focus) == "That was the last hint", "the focus has not fallen to the page"
    page.get_by_label("Your guess:").focus()
    page.keyboard.type("0,3")
    page.keyboard.press("Enter")
    page.locator("text=Your guess: 0.3").wait_for()
    assert page.locator(".jp-Cell").count() == cells

    page.set_viewport_size({"width": 800, "height": 3000})
    page.wait_for_timeout(500)
    page.screenshot(path=screenshots_of("narrow"))
    notebook = page.locator(".jp-Notebook").bounding_box()
    for each in page.locator(".keeps-keys button, .keeps-keys input, [role=status]").all():
        box = each.bounding_box()
        assert box["x"] >= notebook["x"] and box["x"] + box["width"] <= notebook["x"] + notebook["width"]
        assert each.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), "its text is cut off"


@pytest.mark.slow
def test_after_a_restart_and_the_next_day(page, lab, written, screenshots_of):
    """A late cell can be brought to run; what sleeps says so, wakes, and knows what was there."""
    written("next-day", {})
    run_all(page, lab, "next-day")
    asleep = page.locator("text=sleeps: run this cell again")
    assert asleep.count() == 3 and not any(each.is_visible() for each in asleep.all())
    page.get_by_label("Your guess:").fill("0.4")
    page.get_by_role("button", name="This is my guess").click()
    page.get_by_role("button", name="Show a hint (1 of 3)").click()
    page.locator("text=Your guess: 0.4").wait_for()
    page.locator("text=Hint 1.").wait_for()

    reopen(page, lab)  # with the kernel alive
    page.get_by_role("button", name="Try c").click()
    page.locator("text=You chose c with a click").wait_for()
    assert page.locator("text=Hint 1.").is_visible() and not any(each.is_visible() for each in asleep.all())

    restart(page, lab)
    assert all(each.is_visible() for each in asleep.all()), "the buttons of a kernel that is gone do nothing"
    run_again(page, lab, "the last cell")
    page.locator("text=NameError: name 'step_variances' is not defined").wait_for()
    cell(page, "the last cell").locator(".jp-InputPrompt").click()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-item", has_text="Run All Above Selected Cell").click()
    lab.wait_until_idle(60)
    run_again(page, lab, "the last cell")
    page.locator("text=the last cell: 10").wait_for()

    restart(page, lab)
    reopen(page, lab)
    page.wait_for_function("document.body.innerText.split('sleeps: run this cell again').length == 4")
    page.screenshot(path=screenshots_of("next-day"))
    assert "model not found" not in shown(page)
    run_again(page, lab, "import torch")
    for source, words in (("check(", "Hint 1."), ("ask(", "there is no noisier yet"), ("predict(", "Your guess: 0.4")):
        run_again(page, lab, source)
        page.locator(f"text={words}").first.wait_for()
    assert not any(each.is_visible() for each in asleep.all()), "awake again"
