"""Explorers: a few controls over a picture.

`explore(draw, t=slider(0, 1000))` calls `draw(t=...)`, which returns a figure, once at the start and again whenever a
control moves. The picture is an ordinary output of the cell, updated in place: it is saved with the notebook, shows on
paper, on GitHub and wherever widgets do not run.
"""

from .controls import choice, log_slider, slider, toggle
from .explorer import Explorer, explore, explorers

__all__ = ["Explorer", "choice", "explore", "explorers", "log_slider", "slider", "toggle"]
