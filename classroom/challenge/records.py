"""What the parts of a challenge hand to each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from course_utils.diffusion import Denoiser

BUDGETS = (1, 2, 4)  # evaluations


class Foul(Exception):
    """What was handed in breaks a rule, or cannot be used. The message says which, in one line."""


@dataclass(frozen=True)
class Entry:
    """One submission, read and found usable: its name, the network, and the source of the sampler."""

    name: str
    denoiser: Denoiser
    source: bytes


@dataclass(frozen=True)
class Deal:
    """What a sampler begins with.

    noise: (evaluations, b, c, h, w), standard normal: noise[0] to begin with, the others for samplers that add some on
    the way;  y: (b,) labels, each class as often as any other.
    """

    noise: Tensor
    y: Tensor

    @classmethod
    def drawn(cls, evaluations: int, n: int, shape: tuple[int, ...], classes: int, seed: int) -> Deal:
        """The same for every submission, and for a smaller number of evaluations the first of it."""
        generator = torch.Generator().manual_seed(seed)
        y = (torch.arange(n) % classes)[torch.randperm(n, generator=generator)]
        noise = [torch.randn(n, *shape, generator=generator) for _ in range(evaluations)]
        return cls(torch.stack(noise), y)

    def rows(self, some: Tensor) -> Deal:
        """For these images only, in this order."""
        return Deal(self.noise[:, some], self.y[some])

    @property
    def evaluations(self) -> int:
        return len(self.noise)


@dataclass(frozen=True)
class Score:
    """A squared Fréchet distance, and its standard error."""

    distance: float
    error: float


@dataclass(frozen=True)
class Row:
    """A line of the board.

    scores: evaluations -> score, of those that were played by the rules;  fouls: evaluations -> why there is none;
    reference: it is no submission, but one to beat.
    """

    name: str
    scores: Mapping[int, Score]
    fouls: Mapping[int, str]
    reference: bool = False

    @property
    def mean(self) -> Score | None:
        """The geometric mean over all budgets, so that a tenth off counts the same in each. None where one is missing.

        >>> Row("ada", {1: Score(8.0, 0.8), 2: Score(4.0, 0.0), 4: Score(2.0, 0.0)}, {}).mean.distance
        4.0
        """
        if set(self.scores) != set(BUDGETS):
            return None
        found = [self.scores[budget] for budget in BUDGETS]
        distance = math.exp(sum(math.log(max(s.distance, 1e-9)) for s in found) / len(found))
        spread = math.hypot(*(s.error / max(s.distance, 1e-9) for s in found)) / len(found)
        return Score(round(distance, 9), distance * spread)
