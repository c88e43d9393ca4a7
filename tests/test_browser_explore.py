"""Explorers in a real JupyterLab: after a reload, a restart and a night; by keyboard alone; read aloud; in the dark."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import nbformat
import pytest
from nbconvert import HTMLExporter
from running import NOTEBOOKS
from test_browser import Lab, browser, run_all, scroll_to, served  # noqa: F401  (browser is a fixture)

SOURCE = """
import torch
from IPython.display import display
from course_utils import plots
from course_utils.explore import choice, explore, log_slider, slider, toggle
from course_utils.notebook import setup

lab = setup("00")

def draw(t, share, kind, sampler, averaged):
    images = torch.full((4, 1, 8, 8), t / 10)
    return plots.image_rows({"x_t": images}, title=f"{t}, {share:.3g}, {kind}, {sampler}, {averaged}")

display(plots.image_grid(torch.zeros(3, 1, 8, 8), title="What comes before it in the cell"))
explore(
    draw, title="Everything that moves",
    t=slider(0, 10, value=5, label="step t"), share=log_slider(0.1, 10, value=1, label="share"),
    kind=choice(["one", "two", "three"], label="kind"),
    sampler=choice([f"sampler number {k}" for k in range(9)], label="sampler"),
    averaged=toggle(label="averaged"),
)
"""
CURVE = 'plots.curves({"y": ([0, 1], [0, 1])}, title="A curve", x_label="x", y_label="y")'
PICTURES = f"""display({CURVE}, plots.image_grid(torch.zeros(3, 1, 8, 8), title="Grey"))
plots.animation([torch.zeros(3, 1, 8, 8), torch.ones(3, 1, 8, 8)], title="From grey to white")"""
PICTURE = ".widget-html img.course-figure"
WIDGET = "application/vnd.jupyter.widget-view+json"
STAND_IN = ".jp-RenderedHTML [class^=asleep]"


def write(lab: Lab, name: str, *sources: str) -> str:
    """Put a notebook with these cells where this JupyterLab finds it; its name."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab.notebooks / f"{name}.ipynb")
    return name


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """One JupyterLab for all tests here; each brings a notebook of its own."""
    with served(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def page(browser, lab):  # noqa: F811
    """A page of a JupyterLab in which nothing is open and no kernel runs."""
    lab.end_kernels()
    shutil.rmtree(lab.folder / "profile" / "workspaces", ignore_errors=True)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield page
    page.close()


def shown(page) -> dict[str, list[str]]:
    """Alternative texts of the pictures in sight: of the living explorer and of its stand-in."""
    script = "images => images.filter(i => i.checkVisibility() && i.naturalWidth > 0).map(i => i.alt)"
    return {
        "alive": page.locator(PICTURE).evaluate_all(script),
        "asleep": page.locator(f"{STAND_IN} img").evaluate_all(script),
    }


def wait_until_shown(page, **wanted: str) -> None:
    """Return when one picture is in sight and no more: alive="5, " the living one, there; AssertionError if never."""
    expected = {"alive": [], "asleep": []} | {which: [start] for which, start in wanted.items()}
    for _ in range(80):
        found = shown(page)
        if all(
            len(found[which]) == len(expected[which]) and all(map(str.startswith, found[which], expected[which]))
            for which in found
        ):
            return
        page.wait_for_timeout(250)
    raise AssertionError(f"expected in sight {expected}, found {found}")


def press(page, name: str, *keys: str, role: str = "slider") -> None:
    """Put the focus on the control with this name, and press keys."""
    control = page.locator(".jp-OutputArea").get_by_role(role, name=name, exact=True).first
    control.focus()
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(100)
    assert control.evaluate("control => control === document.activeElement"), f"{name}: the focus fell away"


def restart(page, lab) -> None:
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name="Restart Kernel…").click()
    page.locator(".jp-Dialog button", has_text="Restart").click()
    lab.wait_until_idle(30)


def nameless(page) -> list[str]:
    """Controls and images in outputs that Chromium's accessibility tree gives no name; of what is on the page now."""
    cdp = page.context.new_cdp_session(page)
    page.evaluate("window.outputs = [...document.querySelectorAll('.jp-OutputArea')]")
    found = []
    for k in range(page.evaluate("outputs.length")):
        output = cdp.send("Runtime.evaluate", {"expression": f"outputs[{k}]"})["result"]["objectId"]
        for node in cdp.send("Accessibility.queryAXTree", {"objectId": output})["nodes"]:
            role, name = (node.get(key, {}).get("value", "") for key in ("role", "name"))
            if not node["ignored"] and role in NAMED and not name.strip():
                found.append(f"{role} in {page.evaluate(f'outputs[{k}].innerText')[:80]!r}")
    return found


def down(page) -> Iterator[None]:
    """Through the notebook from top to bottom, a screen at a time: JupyterLab draws only what is near the view."""
    place = page.locator(".jp-WindowedPanel-outer").first
    place.evaluate("place => { place.scrollTop = 0 }")
    at_end = False
    while not at_end:
        page.wait_for_timeout(300)
        yield
        step = "e => { e.scrollTop += e.clientHeight; return e.scrollTop + e.clientHeight >= e.scrollHeight - 2 }"
        at_end = place.evaluate(step)


NAMED = {"slider", "combobox", "checkbox", "radio", "radiogroup", "button", "textbox", "spinbutton", "link"}
NAMED |= {"listbox", "menuitem", "image", "img", "switch", "searchbox"}


@pytest.mark.slow
def test_an_explorer_lives_through_a_reload_and_after_a_restart_says_how_to_wake_it(page, lab, report):
    run_all(page, lab, write(lab, "life", SOURCE))
    wait_until_shown(page, alive="5, ")
    press(page, "step t", "ArrowRight")
    wait_until_shown(page, alive="6, ")
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1000)

    page.reload()
    page.get_by_role("slider", name="step t").wait_for(timeout=60_000)
    wait_until_shown(page, alive="6, ")
    press(page, "step t", "ArrowRight")
    wait_until_shown(page, alive="7, ")

    restart(page, lab)
    wait_until_shown(page, asleep="5, ")
    assert "run this cell (Shift+Enter)" in page.locator(STAND_IN).inner_text()
    assert page.locator("text=Error displaying widget >> visible=true").count() == 0
    page.locator(".jp-Cell").first.click(position={"x": 300, "y": 30})
    page.keyboard.press("Shift+Enter")
    wait_until_shown(page, alive="5, ")
    report.append("an explorer: moved, after a reload moved, after a restart asleep, woken by Shift+Enter")


@pytest.mark.slow
@pytest.mark.parametrize("state_saved", [False, True])
def test_the_next_day_the_picture_is_there_and_a_line_says_how_to_wake_its_controls(state_saved, page, lab, tmp_path):
    """Another server, another kernel; with and without JupyterLab's setting to save the state of widgets."""
    name = write(lab, "evening", SOURCE)
    settings = lab.folder / "profile" / "settings" / "@jupyter-widgets" / "jupyterlab-manager"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "plugin.jupyterlab-settings").write_text(json.dumps({"saveState": state_saved}))
    saved = run_all(page, lab, name)
    assert ("widgets" in saved.metadata) == state_saved
    tomorrow = Lab(tmp_path)
    try:
        nbformat.write(saved, tomorrow.notebooks / f"{name}.ipynb")
        tomorrow.wait_until_up()
        page.goto(f"{tomorrow.url}/lab/tree/{name}.ipynb?token={tomorrow.token}")
        wait_until_shown(page, asleep="5, ")
        assert "run this cell (Shift+Enter)" in page.locator(STAND_IN).inner_text()
        assert page.locator("text=Error displaying widget >> visible=true").count() == 0
        assert page.locator("img[alt^='What comes before']").is_visible()
    finally:
        tomorrow.stop()


@pytest.mark.slow  # tests/test_alt_texts.py reads the export of an executed notebook without a browser
def test_an_export_without_widgets_shows_all_pictures_and_the_stand_in(page, lab):
    """As the executed notebooks of the repository are, and GitHub's view of them."""
    saved = run_all(page, lab, write(lab, "export", SOURCE))
    (cell,) = saved.cells
    cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    html, _ = HTMLExporter().from_notebook_node(saved)
    page.set_content(html)
    alts = page.locator("img >> visible=true").evaluate_all("images => images.map(image => image.alt)")
    assert [alt[:14] for alt in alts] == ["What comes bef", "5, 1, one, sam"]
    assert page.get_by_text("run this cell (Shift+Enter)").is_visible()


def test_every_control_is_moved_by_keys_alone_has_a_name_and_keeps_keys_and_focus(page, lab, report):
    run_all(page, lab, write(lab, "keys", SOURCE, PICTURES))
    cells = page.locator(".jp-Cell").count()
    wait_until_shown(page, alive="5, 1, one, sampler number 0, False")
    letters = ("a", "b", "d", "d", "m", "0", "0")  # in the notebook they insert, delete and change cells, and restart
    press(page, "step t", "ArrowRight", "ArrowUp", "ArrowLeft", "End", "Home", "PageUp", *letters)
    wait_until_shown(page, alive="5, 1")
    press(page, "share", "ArrowRight", *letters)
    wait_until_shown(page, alive="5, 1.12")
    radio = page.locator(".jp-OutputArea").get_by_role("radiogroup", name="kind")
    press(page, "one", role="radio")
    page.keyboard.press("ArrowDown")
    wait_until_shown(page, alive="5, 1.12, two")
    page.keyboard.press("ArrowDown")
    wait_until_shown(page, alive="5, 1.12, three")
    assert radio.locator("input:focus").count() == 1, "the focus fell away"
    for letter in letters:
        page.keyboard.press(letter)
    press(page, "sampler", "ArrowDown", "ArrowDown", "m", role="combobox")
    wait_until_shown(page, alive="5, 1.12, three, sampler number 2")
    press(page, "averaged", "Space", *letters, role="checkbox")
    wait_until_shown(page, alive="5, 1.12, three, sampler number 2, True")
    assert page.locator(".jp-Cell").count() == cells, "keys went to the notebook"
    assert page.locator(".jp-Dialog").count() == 0
    assert page.get_by_role("slider", name="share").get_attribute("aria-valuetext") == "1.12", "not its exponent"
    assert nameless(page) == []
    report.append("every kind of control: moved by keys alone, named, no key reached the notebook")


def test_the_check_for_names_sees_what_has_none(page):
    page.set_content('<div class="jp-OutputArea"><img src="data:,"><input><button></button><img alt="a cat"></div>')
    assert sorted(found.split()[0] for found in nameless(page)) == ["button", "image", "textbox"]


@pytest.mark.slow
def test_keys_that_are_not_the_controls_still_reach_the_notebook(page, lab):
    name = write(lab, "saving", SOURCE)
    run_all(page, lab, name)
    before = (lab.notebooks / f"{name}.ipynb").stat().st_mtime_ns
    press(page, "step t", "ArrowRight")
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1500)
    assert (lab.notebooks / f"{name}.ipynb").stat().st_mtime_ns > before


SLOW = """
import time

def slowly(t):
    time.sleep(0.4)
    drawn.append(t)
    return plots.image_rows({"grey": torch.full((4, 1, 8, 8), t / 100)}, title=f"t = {t}")

drawn = []
explore(slowly, title="Slow", t=slider(0, 100, label="step t"))
"""


@pytest.mark.slow
def test_a_slow_picture_follows_the_hand_and_leaves_out_what_it_has_passed(page, lab):
    head = SOURCE.split("def draw")[0]
    run_all(page, lab, write(lab, "slow", head + SLOW, "# the second cell"))
    box = page.locator(".noUi-handle").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for k in range(80):  # two seconds
        page.mouse.move(x + 4 * k, y)
        page.wait_for_timeout(25)
    followed = shown(page)["alive"]
    page.mouse.up()
    assert followed and not followed[0].startswith("t = 0."), "nothing was drawn before the hand let go"
    wait_until_shown(page, alive=f"t = {page.locator('.widget-readout').first.inner_text()}.")
    page.locator(".jp-Cell").nth(1).click(position={"x": 300, "y": 15})
    page.keyboard.press("Control+a")
    page.keyboard.type("len(drawn), len(set(drawn))")
    page.keyboard.press("Shift+Enter")
    lab.wait_until_idle(30)
    told = page.locator(".jp-Cell").nth(1).locator(".jp-OutputArea-output").inner_text()
    pictures, places = map(int, told.strip("() \n").split(","))
    assert 2 < pictures == places < 20, "every move was drawn, one after the other"


@pytest.mark.slow
def test_pictures_do_not_glare_in_the_dark_and_fit_a_narrow_page(page, lab):
    """Drawings are turned over, images are not; neither is wider than its cell."""
    run_all(page, lab, write(lab, "dark", SOURCE, PICTURES))
    page.set_viewport_size({"width": 640, "height": 900})
    page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    scroll_to(page, ".jp-RenderedHTML img.course-drawing")
    for look, wanted in (
        (".course-drawing", "invert(0.92)"),
        (".course-figure:not(.course-drawing)", "brightness(0.8)"),
    ):
        pictures = page.locator(f"img{look} >> visible=true")
        assert pictures.count() and all(
            pictures.nth(k).evaluate("picture => getComputedStyle(picture).filter").startswith(wanted)
            for k in range(pictures.count())
        )
    wider = "images => images.filter(i => i.getBoundingClientRect().width > i.parentElement.clientWidth + 1).length"
    assert page.locator("img.course-figure >> visible=true").evaluate_all(wider) == 0


# of each role: what tells that it moved, and keys that move it unless it stands at that end
KEYED = {
    "slider": ("control.ariaValueText", ("ArrowRight", "ArrowLeft")),
    "combobox": ("control.value", ("ArrowDown", "ArrowUp")),
    "checkbox": ("control.checked", ("Space",)),
}


def moves(page, control, key: str, state: str) -> bool:
    """Whether this key, pressed where the focus is, changes the state of the control within three seconds."""
    before = control.evaluate(f"control => {state}")
    page.keyboard.press(key)
    for _ in range(20):
        page.wait_for_timeout(150)
        if control.evaluate(f"control => {state}") != before:
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_in_every_notebook_every_control_answers_keys_and_whatever_a_student_meets_has_a_name(name, page, lab, report):
    run_all(page, lab, name)
    cells = page.locator(".jp-Cell").count()
    scroll_to(page, ".keeps-keys")
    moved = 0
    for role, (state, keys) in KEYED.items():
        controls = page.locator(".keeps-keys").get_by_role(role)
        for k in range(controls.count()):
            control = controls.nth(k)
            control.focus()
            assert any(moves(page, control, key, state) for key in keys), f"{role} {k} did not move"
            assert control.evaluate("control => control === document.activeElement"), f"{role} {k} lost the focus"
            moved += 1
    lab.wait_until_idle(120)
    assert page.locator(".jp-Cell").count() == cells and page.locator("[role=alert]").count() == 0
    assert {found for _ in down(page) for found in nameless(page)} == set()
    report.append(f"{name}: {moved} controls moved by keys, everything named")
