"""Explorers: a few controls over a picture.

`explore(draw, t=slider(0, 1000))` calls `draw(t=...)`, which returns a figure, once at the start and again whenever a
control moves. Beside the controls and their picture the cell has another output, hidden while they live: the picture
at the start, and how to wake the controls. It is saved with the notebook, and shows the next day, after the kernel's
restart, on paper, on GitHub and wherever widgets do not run.

`play(RealOrGenerated(real, {"GAN": images}))` is a game of twenty answers, by mouse or keyboard.
"""

from .controls import choice, log_slider, slider, toggle
from .explorer import Explorer, explore, explorers
from .game import Answer, RealOrGenerated, play

__all__ = [
    "Answer",
    "Explorer",
    "RealOrGenerated",
    "choice",
    "explore",
    "explorers",
    "log_slider",
    "play",
    "slider",
    "toggle",
]
