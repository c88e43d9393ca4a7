"""Real or generated? A game: one image at a time, one answer each, and afterwards how often each model deceived.

In the manner of HYPE∞ (Zhou et al. 2019, arXiv:1904.01121), which pays crowds of judges and sets them no limit of time.
`RealOrGenerated` is the game itself and needs no page; `play` puts it on one.
"""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..arrays import is_whole
from ..keys import keep_keys
from ..plots.canvas import img
from ..plots.checks import as_pixels
from .page import asleep, awake, in_notebook, name_of, view

REAL = "real images"  # the name of what no model made
ANSWERS = ("real", "generated")
SIDE = 224  # at least as high is an image on the page, in its pixels: eight times a 28 × 28 one


class Answer(NamedTuple):
    """source: where the image came from, `REAL` or the name of a model;  said: "real" or "generated"."""

    source: str
    said: str

    @property
    def wrong(self) -> bool:
        return (self.said == "real") != (self.source == REAL)


class RealOrGenerated:
    """Images to judge, half of them real, and the answers so far.

    real: (n, c, h, w) in [-1, 1];  generated: name of a model -> its images, alike;  answers: how many there are in a
    round, even, and at least one for each model: half fall on real images, the others on the models in turn.
    What is shown, and in which order, depends on `seed` and the round. `.answers` holds every `Answer`, of all rounds.
    Raises ValueError for images or numbers that don't fit.

    >>> game = RealOrGenerated(torch.ones(9, 1, 2, 2), {"GAN": -torch.ones(9, 1, 2, 2)}, answers=4)
    >>> while game.image is not None:
    ...     game.answer("real")  # whatever it is
    >>> game.errors()
    {'real images': (0, 2), 'GAN': (2, 2)}
    """

    def __init__(self, real: Tensor, generated: Mapping[str, Tensor], answers: int = 20, seed: int = 0):
        _check(real, generated, answers)
        self.per_round, self.seed = answers, seed
        self.answers: list[Answer] = []
        self._pools = {REAL: real, **generated}
        self._queue: list[tuple[str, int]] = []  # of all rounds: the source, and which of its images
        self._board: _Board | None = None  # on a page
        self.new_round()

    def __repr__(self) -> str:
        return f"RealOrGenerated({', '.join(self._pools)}): {len(self.answers)} of {len(self._queue)} answered"

    @property
    def image(self) -> Tensor | None:
        """The image (c, h, w) that waits for an answer; None at the end of a round."""
        if len(self.answers) == len(self._queue):
            return None
        source, k = self._queue[len(self.answers)]
        return self._pools[source][k]

    @property
    def place(self) -> tuple[int, int]:
        """Of the image that waits: its number in its round, from 1, and the round's."""
        return len(self.answers) % self.per_round + 1, len(self.answers) // self.per_round + 1

    def answer(self, said: str) -> None:
        """Say "real" or "generated" of the image that waits. Raises ValueError for other words, or if none waits."""
        if said not in ANSWERS:
            raise ValueError(f"answer: expected 'real' or 'generated', got {said!r}.")
        if self.image is None:
            raise ValueError("answer: the round is over; new_round() begins another.")
        self.answers.append(Answer(self._queue[len(self.answers)][0], said))

    def new_round(self) -> None:
        """Lay out as many images again. Raises ValueError in the middle of a round."""
        if self.image is not None:
            raise ValueError(f"new_round: expected all {self.per_round} answers first, got {self.place[0] - 1}.")
        chance = torch.Generator().manual_seed(1_000_003 * self.seed + len(self._queue))
        models = list(self._pools)[1:]
        half = self.per_round // 2
        sources = [REAL] * half + [models[k % len(models)] for k in range(half)]
        images = {name: torch.randperm(len(pool), generator=chance).tolist() for name, pool in self._pools.items()}
        picked = [(source, images[source][k % len(images[source])]) for k, source in enumerate(sources)]
        self._queue += [picked[k] for k in torch.randperm(len(picked), generator=chance)]

    def errors(self) -> dict[str, tuple[int, int]]:
        """Of each source: how many answers were wrong, and how many there are. A model's errors are its successes."""
        own = {name: [answer.wrong for answer in self.answers if answer.source == name] for name in self._pools}
        return {name: (sum(wrong), len(wrong)) for name, wrong in own.items()}

    def _ipython_display_(self) -> None:
        play(self)


def _check(real: Tensor, generated: Mapping[str, Tensor], answers: int) -> None:
    if not generated or REAL in generated:
        names = list(generated)
        raise ValueError(f"generated: expected the images of one model or more, none of them {REAL!r}, got {names}.")
    for name, images in {REAL: real, **generated}.items():
        as_pixels(images, name)
        if images.shape[1:] != real.shape[1:]:
            wanted = f"images (n, {', '.join(map(str, real.shape[1:]))}), as the real ones"
            raise ValueError(f"{name}: expected {wanted}, got {tuple(images.shape)}.")
    if not is_whole(answers, least=2 * len(generated)) or answers % 2:
        raise ValueError(f"answers: expected an even number, {2 * len(generated)} or more, got {answers!r}.")


# ---------------------------------------------------------------------------------------------------------------------
# On a page
# ---------------------------------------------------------------------------------------------------------------------
KEYS = {"real": "r", "generated": "g", "another round": "n"}


def play(game: RealOrGenerated) -> None:
    """Show a game: the image, a button and a key for each answer, and the count at the end of a round.

    It may be shown again, in the same cell or in another one, and goes on where it was; `game.answers` keeps all.
    """
    if not in_notebook():
        print(f"{game!r}\n  Buttons need a notebook; game.answer('real') and game.answer('generated') do the same.")
        return
    from IPython.display import display

    try:
        game._board = game._board or _Board(game)
    except ImportError:
        print("Buttons need the package ipywidgets (pip install ipywidgets); game.answer('real') does the same.")
        return
    game._board.tell()
    how = "The game sleeps: run this cell (Shift+Enter) to go on; after a restart run those above it first."
    stand_in = asleep(name_of(game._board.box), f"<p>{how}</p>")
    display(view(game._board.box, "Game(buttons=...)"), raw=True)
    display({"text/html": stand_in, "text/plain": repr(game)}, raw=True)


class _Board:
    """The widgets of a game. There is one of them for each game, however often it is shown, so none falls behind."""

    def __init__(self, game: RealOrGenerated):
        import ipywidgets

        self.game, self.picture, self.line = game, ipywidgets.HTML(), ipywidgets.HTML()
        self.buttons = {
            word: ipywidgets.Button(description=f"{word.capitalize()} ({key})", layout={"width": "auto"})
            for word, key in KEYS.items()
        }
        for word, button in self.buttons.items():
            button.on_click(lambda _, word=word: self.pressed(word))
        row = ipywidgets.HBox(list(self.buttons.values()), layout={"flex_flow": "row wrap"})
        self.box = ipywidgets.VBox([self.picture, row, self.line])
        style = ipywidgets.HTML(awake(name_of(self.box)), layout={"display": "none"})
        self.box.children = (*self.box.children, style)
        self.box.add_class(name_of(self.box))
        keep_keys(self.box, keys={self.buttons[word]: key for word, key in KEYS.items()})

    def pressed(self, word: str) -> None:
        """A button, or its key. What makes no sense now does nothing."""
        if word in ANSWERS and self.game.image is not None:
            self.game.answer(word)
        elif word not in ANSWERS and self.game.image is None:
            self.game.new_round()
        self.tell()

    def tell(self) -> None:
        self.picture.value, self.line.value = _picture(self.game), f'<div role="status">{_line(self.game)}</div>'


def _picture(game: RealOrGenerated) -> str:
    """The image that waits, large, every pixel a square; a grey field at the end of a round."""
    image, (number, _) = game.image, game.place
    alt = "The round is over" if image is None else f"Image {number} of {game.per_round}, real or generated"
    shown = torch.zeros_like(game._pools[REAL][0]) if image is None else image
    pixels = np.round(255 * as_pixels(shown.detach().cpu().float()[None])[0]).astype(np.uint8)
    h, w, c = pixels.shape
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if c == 1 else pixels).save(buffer, "png")
    times = -(-SIDE // h)
    return img("png", buffer.getvalue(), alt, (times * w, times * h), style="image-rendering:pixelated")


def _line(game: RealOrGenerated) -> str:
    number, of_round = game.place
    if game.image is not None:
        return html.escape(f"Image {number} of {game.per_round}, round {of_round}. Real or generated?")
    said = [f"{name}: {_count(name, *found)}" for name, found in game.errors().items()]
    return html.escape(f"{len(game.answers)} answers. {'; '.join(said)}. Another round: n.")


def _count(name: str, wrong: int, n: int) -> str:
    return f"{wrong} of {n} taken for {'generated' if name == REAL else 'real'}"
