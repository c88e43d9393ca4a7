"""The game "real or generated?": what is shown, what is counted, and what becomes of a press."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.explore import RealOrGenerated, play
from course_utils.explore.game import REAL, _Board

GREY = {REAL: 1.0, "GAN": -1.0, "diffusion": 0.0}  # every source has a grey of its own, and its images a pixel


def images(name: str, n: int = 40) -> torch.Tensor:
    x = torch.full((n, 1, 4, 6), GREY[name])
    x[:, 0, 0, 0] = torch.linspace(-1, 1, n)
    return x


def game(**options) -> RealOrGenerated:
    return RealOrGenerated(images(REAL), {name: images(name) for name in ("GAN", "diffusion")}, **options)


def source_of(image: torch.Tensor) -> str:
    return next(name for name, grey in GREY.items() if image[0, -1, -1] == grey)


def play_through(one: RealOrGenerated, judge) -> list[tuple[str, float]]:
    """Answer a round by `judge` (source → word); what was shown."""
    seen = []
    while one.image is not None:
        seen.append((source_of(one.image), one.image[0, 0, 0].item()))
        one.answer(judge(seen[-1][0]))
    return seen


def test_half_of_a_round_is_real_and_the_models_share_the_rest():
    assert Counter(name for name, _ in play_through(game(), lambda _: "real")) == {REAL: 10, "GAN": 5, "diffusion": 5}
    odd = Counter(name for name, _ in play_through(game(answers=6), lambda _: "real"))
    assert odd == {REAL: 3, "GAN": 2, "diffusion": 1}


def test_no_image_comes_twice_in_a_round_and_seed_and_round_decide_the_order():
    one = game(seed=3)
    first = play_through(one, lambda _: "real")
    one.new_round()
    second = play_through(one, lambda _: "real")
    assert len(set(first)) == 20 and first != second and one.place == (1, 3)
    assert first == play_through(game(seed=3), lambda _: "generated") != play_through(game(seed=4), lambda _: "real")
    assert [name for name, _ in first] != sorted(name for name, _ in first)


def test_errors_of_somebody_who_knows_half():
    """Takes every diffusion image for real, and knows the others."""
    one = game()
    play_through(one, lambda source: "generated" if source == "GAN" else "real")
    assert one.errors() == {REAL: (0, 10), "GAN": (0, 5), "diffusion": (5, 5)}
    one.new_round()
    play_through(one, lambda _: "generated")
    assert one.errors() == {REAL: (10, 20), "GAN": (0, 10), "diffusion": (5, 10)}
    assert len(one.answers) == 40 and sum(answer.wrong for answer in one.answers) == 15


def test_nothing_is_counted_before_it_is_answered():
    one = game()
    assert one.errors() == {REAL: (0, 0), "GAN": (0, 0), "diffusion": (0, 0)} and one.place == (1, 1)
    one.answer("real")
    assert one.place == (2, 1) and sum(n for _, n in one.errors().values()) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: game(answers=7), "an even number, 4 or more, got 7"),
        (lambda: game(answers=2), "an even number, 4 or more, got 2"),
        (lambda: RealOrGenerated(images(REAL), {}), "one model or more"),
        (lambda: RealOrGenerated(images(REAL), {REAL: images(REAL)}), "none of them 'real images'"),
        (
            lambda: RealOrGenerated(images(REAL), {"GAN": torch.zeros(3, 1, 4, 4)}),
            r"GAN: expected images \(n, 1, 4, 6\)",
        ),
        (lambda: RealOrGenerated(images(REAL), {"GAN": torch.zeros(0, 1, 4, 6)}), "at least one value, got none"),
        (lambda: game().answer("fake"), "expected 'real' or 'generated', got 'fake'"),
        (lambda: game().new_round(), "expected all 20 answers first, got 0"),
    ],
)
def test_what_does_not_fit_is_answered_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_round_that_is_over_takes_no_answer():
    one = game()
    play_through(one, lambda _: "real")
    with pytest.raises(ValueError, match="the round is over"):
        one.answer("real")


# ---------------------------------------------------------------------------------------------------------- on a page


def on_page(board: _Board) -> tuple[np.ndarray, str]:
    """The picture's pixels, and its alternative text."""
    found = re.search(r'src="data:image/png;base64,([^"]+)" alt="([^"]*)"', board.picture.value)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1])))), found[2]


def test_a_press_answers_the_image_that_is_shown():
    one = game()
    board = _Board(one)
    board.tell()
    for number in range(1, 21):
        pixels, alt = on_page(board)
        assert alt == f"Image {number} of 20, real or generated" and pixels.shape == (4, 6)
        shown = {255: REAL, 0: "GAN", 128: "diffusion"}[int(pixels[-1, -1])]
        board.buttons["another round"].click()  # too early: nothing
        board.buttons["real" if number % 2 else "generated"].click()
        assert one.answers[-1] == (shown, "real" if number % 2 else "generated") and len(one.answers) == number
    board.buttons["real"].click()  # too late
    assert len(one.answers) == 20 and on_page(board)[1] == "The round is over"
    assert f"GAN: {one.errors()['GAN'][0]} of 5 taken for real" in board.line.value
    board.buttons["another round"].click()
    assert on_page(board)[1] == "Image 1 of 20, real or generated" and "round 2" in board.line.value


def test_colour_images_keep_their_colours():
    real = torch.tensor([1.0, -1.0, 0.0]).reshape(1, 3, 1, 1).expand(4, 3, 2, 2)
    board = _Board(RealOrGenerated(real, {"GAN": real}, answers=2))
    board.tell()
    assert on_page(board)[0][0, 0].tolist() == [255, 0, 128]


def test_a_game_shown_twice_has_one_board_and_goes_on(monkeypatch):
    from course_utils.explore import game as module

    shown = []
    monkeypatch.setattr(module, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda thing, **_: shown.append(thing))
    one = game()
    play(one)
    one.answer("real")
    play(one)
    live, asleep, again, _ = shown
    widget = "application/vnd.jupyter.widget-view+json"
    assert live[widget]["model_id"] == again[widget]["model_id"] and "Shift+Enter" in asleep["text/html"]
    assert on_page(one._board)[1].startswith("Image 2 of 20")


def test_without_a_notebook_a_line_says_what_to_call(capsys):
    play(game())
    assert "0 of 20 answered" in (said := capsys.readouterr().out) and "game.answer('real')" in said
