"""Explorers: controls reach `draw` unchanged, pictures follow, errors are seen, and a sweep finds faults."""

from __future__ import annotations

import gc
import math
import re
import subprocess
import sys
import time
import weakref

import pytest
import torch
from sweeping import probes, sweep

from course_utils import plots
from course_utils.explore import choice, explore, explorers, log_slider, slider, toggle


def line(slope, sign=1):
    return plots.curves({"y": ([0, 1], [0, slope * sign])}, title=f"slope {slope}", x_label="x", y_label="y")


@pytest.fixture
def page(monkeypatch):
    """A notebook's page without a browser: what was displayed, in order."""
    from course_utils.explore import explorer as module

    shown = []
    monkeypatch.setattr(module, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda thing, **keywords: shown.append(thing))
    yield shown
    gc.unfreeze()


def explored(page, **controls):
    return explore(controls.pop("draw", line), title=controls.pop("title", "a line"), **controls)


def on_page(explorer) -> str:
    """The alternative text of the picture under the controls."""
    return re.search(r'alt="([^"]*)"', explorer._picture.value).group(1)


# ----------------------------------------------------------------------------------------------------------- controls


def test_sliders_offer_both_ends_and_the_middle():
    assert probes(slider(0, 1000, value=3)) == [0, 500, 1000]
    assert probes(slider(0, 7, step=2)) == [0, 4, 7]
    assert probes(slider(0.0, 1.0)) == [0.0, 0.5, 1.0]
    assert probes(log_slider(0.01, 100)) == pytest.approx([0.01, 1, 100])


def test_whole_numbers_stay_whole_and_others_do_not():
    assert [type(v) for v in probes(slider(0, 10))] == [int] * 3
    assert [type(v) for v in probes(slider(0, 10, step=0.5))] == [float] * 3
    assert type(slider(0, 1.5, value=1).value) is float


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: slider(1, 0), "low < high, got 1 and 0"),
        (lambda: slider(0, math.inf), "finite low < high"),
        (lambda: slider(0, 10, value=11), "value between 0 and 10, got 11"),
        (lambda: slider(0, 10, step=20), "step between 0 and 10, got 20"),
        (lambda: slider(0, 10, step=0), "step between 0 and 10, got 0"),
        (lambda: log_slider(0, 10), "low > 0, got 0"),
        (lambda: log_slider(1, 10, step=2), "step between 0 and 1 powers of ten"),
        (lambda: choice([]), "at least one option"),
        (lambda: choice(["a", "b"], value="c"), r"among \['a', 'b'\], got 'c'"),
    ],
)
def test_wrong_controls_are_answered_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"slope": 3}, "expected a control for slope .* got int"),
        ({}, "at least one control"),
        ({"steepness": slider(0, 1)}, r"line does not take the controls \['steepness'\]"),
        ({"sign": slider(0, 1)}, "missing a required argument: 'slope'"),
    ],
)
def test_explore_refuses_what_draw_cannot_take(controls, message):
    with pytest.raises(TypeError, match=message):
        explore(line, **controls)


def test_the_first_drawing_raises_as_usual():
    with pytest.raises(ZeroDivisionError):
        explore(lambda n: line(1 / n), n=slider(0, 1))
    with pytest.raises(TypeError, match="expected it to return a Figure, got NoneType"):
        explore(lambda n: None, n=slider(0, 1))


# ---------------------------------------------------------------------------------------------------- on a page


def test_the_explorer_comes_first_and_then_what_stands_in_for_it_and_is_saved(page):
    explored(page, slope=slider(-2, 2, value=1, label="how <steep>"))
    live, asleep = page
    assert "application/vnd.jupyter.widget-view+json" in live
    assert "application/vnd.jupyter.widget-view+json" not in asleep
    assert "run this cell (Shift+Enter)" in asleep["text/html"] and "how &lt;steep&gt; (-2 to 2)" in asleep["text/html"]
    assert 'alt="slope 1. Curves of y against x: y"' in asleep["text/html"] and "slope 1." in asleep["text/plain"]


def test_two_explorers_of_a_page_do_not_hide_each_other(page):
    for _ in range(2):
        explored(page, slope=slider(0, 1))
    names = [re.search(r'<div class="asleep-([\w-]+)"', asleep["text/html"]).group(1) for asleep in page[1::2]]
    assert names[0] != names[1] and all(name in asleep["text/html"] for name, asleep in zip(names, page[1::2]))


def test_a_moved_control_changes_the_picture_in_place(page):
    explorer = explored(page, slope=slider(-2, 2, value=1))
    assert on_page(explorer).startswith("slope 1.")
    explorer.widgets["slope"].value = 2
    assert on_page(explorer).startswith("slope 2.") and explorer.alt == on_page(explorer)
    assert explorer.values == {"slope": 2} and len(page) == 2


def test_a_picture_that_was_shown_before_is_not_drawn_again_until_another_cell_has_run(page, monkeypatch):
    from course_utils.explore import explorer as module

    drawn = []

    def draw(n):
        drawn.append(n)
        return line(n)

    explorer = explored(page, draw=draw, n=slider(0, 3, value=0))
    for n in (1, 2, 1, 2, 1):
        explorer.widgets["n"].value = n
    assert drawn == [0, 1, 2] and on_page(explorer).startswith("slope 1.")
    monkeypatch.setattr(module, "execution", lambda: 7)
    explorer.widgets["n"].value = 2
    assert drawn == [0, 1, 2, 2]


def test_it_remembers_pictures_but_not_all_of_them(page, monkeypatch):
    from course_utils.explore import explorer as module

    monkeypatch.setattr(module, "REMEMBERED", 2)
    explorer = explored(page, slope=slider(0, 9))
    for n in (1, 2, 3, 4):
        explorer.widgets["slope"].value = n
    assert len(explorer._known) == 2


def test_what_was_there_before_is_not_searched_for_garbage_and_old_figures_are_let_go(page):
    explorer = explored(page, slope=slider(0, 9))
    assert gc.get_freeze_count() > 10_000, "every thirtieth move would be searching all that PyTorch has loaded"
    figures = []
    for n in range(1, 6):
        explorer.widgets["slope"].value = n
        figures.append(weakref.ref(explorer.figure))
    gc.collect()
    assert [figure() is None for figure in figures] == [True] * 4 + [False]


def test_an_error_is_not_remembered(page):
    faults = ["no model yet"]

    def draw(n):
        if n == 2 and faults:
            raise ValueError(faults.pop())
        return line(n)

    explorer = explored(page, draw=draw, n=slider(0, 2, value=1))
    for n, error in ((2, "No picture for n = 2: ValueError: no model yet"), (1, ""), (2, "")):
        explorer.widgets["n"].value = n
        assert explorer.error == error
    assert on_page(explorer).startswith("slope 2.")


def test_draw_gets_what_the_options_stand_for_tensors_included(page):
    tensors = {"up": torch.ones(3), "down": -torch.ones(3)}
    got = []

    def draw(which, flag, speed):
        got.append((which, flag, speed))
        return line(which[0].item())

    controls = {
        "which": choice(tensors, value=tensors["down"]),
        "flag": toggle(),
        "speed": log_slider(0.1, 10, value=1),
    }
    explorer = explored(page, draw=draw, **controls)
    explorer.widgets["which"].value = 0
    explorer.widgets["flag"].value = True
    explorer.widgets["speed"].value = 10
    assert got[0][0] is tensors["down"] and got[-1][0] is tensors["up"]
    assert got[-1][1] is True and got[-1][2] == pytest.approx(10)


def test_an_error_while_moving_stands_under_the_controls_and_goes_away(page):
    def draw(n):
        if n == 2:
            raise ValueError("no <b>two</b>\nplease")
        return line(n)

    explorer = explored(page, draw=draw, n=slider(0, 3, value=1))
    explorer.widgets["n"].value = 2
    assert explorer.error == "No picture for n = 2: ValueError: no <b>two</b> please"
    assert 'role="alert"' in explorer._line.value and "no &lt;b&gt;two" in explorer._line.value
    assert on_page(explorer).startswith("slope 1."), "the last good picture stays"
    explorer.widgets["n"].value = 3
    assert explorer.error == "" and "alert" not in explorer._line.value and on_page(explorer).startswith("slope 3.")


def test_every_slider_follows_the_hand_however_long_a_picture_takes(page):
    explorer = explored(page, slope=slider(0, 1), draw=lambda slope: time.sleep(0.4) or line(slope))
    assert explorer.widgets["slope"].continuous_update


def test_every_control_has_a_label_a_tooltip_and_room_for_both(page):
    controls = {
        "slope": slider(-2, 2, label="a rather long label, steepness"),
        "sign": choice(["1", "2", "3", "4", "5", "six: a dropdown"]),
    }
    explorer = explored(page, draw=lambda slope, sign: line(slope), **controls)
    for name, widget in explorer.widgets.items():
        assert widget.description == (controls[name].label or name) and name and widget.tooltip
        assert widget.style.description_width == f"min({len('a rather long label, steepness') + 2}ch, 50%)"


def test_readouts_show_the_digits_that_a_step_can_change(page):
    formats = {}
    for step in (1, 0.5, 0.05, 0.001):
        explorer = explored(page, slope=slider(0, 2, step=step))
        formats[step] = explorer.widgets["slope"].readout_format
    assert formats == {1: "d", 0.5: ".1f", 0.05: ".2f", 0.001: ".3f"}


def test_alternative_text_names_the_values_and_reaches_screen_readers(page):
    explorer = explored(page, slope=slider(0, 2, value=1))
    assert plots.alt_text(explorer.figure).startswith("slope 1")
    explorer = explore(line, title="t", alt="A straight line.", slope=slider(0, 2, value=1))
    explorer.widgets["slope"].value = 2
    assert plots.alt_text(explorer.figure) == "A straight line. At slope = 2."
    assert "A straight line. At slope = 2." in explorer._line.value


@pytest.mark.parametrize("alt, said", [("A line", "A line. At"), ("A line.", "A line. At"), ("Steep?", "Steep? At")])
def test_words_of_authors_end_as_sentences(page, alt, said):
    explorer = explore(line, title="Which slope is steeper?", alt=alt, slope=slider(0, 2, value=1))
    assert plots.alt_text(explorer.figure) == f"{said} slope = 1."
    assert "<b>Which slope is steeper?</b>" in page[1]["text/html"]


def test_running_a_cell_again_replaces_its_explorer(page):
    explorers.clear()
    for _ in range(3):
        explored(page, slope=slider(0, 1))
    explored(page, slope=slider(0, 1), title="another")
    assert [e.title for e in explorers.values()] == ["a line", "another"]


def test_without_ipywidgets_the_picture_is_shown_and_a_line_says_why(page, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    explorer = explored(page, slope=slider(0, 1))
    assert "pip install ipywidgets" in capsys.readouterr().out
    assert page == [explorer.figure]


def test_in_a_terminal_it_says_so():
    code = """
from course_utils import plots
from course_utils.explore import explore, slider
line = lambda n: plots.curves({"y": ([0, 1], [0, n])}, title="A line", x_label="x", y_label="y")
explore(line, n=slider(0, 2), title="Tilt")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "Controls need a notebook: this is the picture at n = 0: A line" in done.stdout and done.stderr == ""


# ------------------------------------------------------------------------------------------------------------- sweep


def problems(draw, **controls):
    return [str(problem) for problem in sweep(explore(draw, **controls))]


def test_a_sound_explorer_has_no_problem():
    assert problems(line, slope=slider(-2, 2, value=1), sign=choice([-1, 1])) == []


def test_an_end_that_raises_is_found_and_the_other_controls_are_still_moved():
    def draw(a, b):
        return line(1 / (10 - a) + 1 / (5 - b))

    found = problems(draw, a=slider(0, 10), b=slider(0, 10))
    assert [text.split(":")[0] for text in found] == ["a = 10", "b = 5"]
    assert "ZeroDivisionError" in found[0]


def test_nan_a_blank_picture_a_dead_control_and_chance_are_found():
    def blank(n):
        return line(n) if n < 2 else plots.new_figure(2, 2, subplot_kw={"visible": False})[0]

    def random(n):
        return line(torch.rand(()).item() + n)

    assert "not finite in a line" in problems(lambda n: line(math.nan if n == 2 else n), n=slider(0, 2))[0]
    assert problems(blank, n=slider(0, 2)) == ["n = 2: the picture is blank"]
    assert problems(lambda n: line(1), n=slider(0, 2)) == ["no control changes the picture: ['n']"]
    assert "passed a seeded generator" in problems(random, n=slider(0, 2))[0].replace("pass a", "passed a")


def test_an_image_that_is_not_finite_is_found():
    def draw(n):
        figure, axes = plots.new_figure(3, 3)
        axes.imshow([[0.0, math.inf if n == 2 else 1.0 + n]])
        return figure

    assert problems(draw, n=slider(0, 2)) == ["n = 2: values that are not finite in an image of the panel ''"]


def test_a_sweep_goes_through_the_widgets_and_leaves_them_as_they_were(page):
    explorer = explored(page, slope=slider(-2, 2, value=1), sign=choice([1, -1]))
    explorer.widgets["slope"].value = 0
    shown = explorer._picture.value
    assert sweep(explorer) == []
    assert explorer.values == {"slope": 0, "sign": 1} and explorer.widgets["slope"].value == 0
    assert explorer._picture.value == shown, "a sweep draws, but does not flicker over the page"
