"""What notebook 09 finds: a leaderboard that ranks patience, and a judge that looks at its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..metrics import frechet_distance
from ..models.classifier import Classifier

__all__ = ["board", "features"]


def board(real: Tensor, entries: Mapping[str, Tensor]) -> list[tuple[str, float]]:
    """Names and squared Fréchet distances, best first. (What is wrong with it is the question in notebook 09.)

    real: (n, d);  entries: name -> (m, d).

    >>> points = torch.arange(12.0).view(6, 2) ** 2
    >>> [name for name, _ in board(points, {"some": points[:3] + 1, "all": points})]
    ['all', 'some']
    """
    rows = []
    for name, fake in entries.items():
        n = min(len(real), len(fake))
        rows.append((name, frechet_distance(real[:n], fake[:n])))
    return sorted(rows, key=lambda row: row[1])


@torch.no_grad()
def features(weights: Mapping[str, Tensor], config: Mapping[str, Any], images: Tensor, size: int) -> Tensor:
    """Features (n, d) of images (n, c, h, w), `size` at a time. (What is wrong is the question in notebook 09.)

    weights, config: the state of a `Classifier`, and what it was built with.

    >>> trained = Classifier((1, 8, 8), 2, size=4, width=2)
    >>> features(trained.state_dict(), trained.config, torch.zeros(5, 1, 8, 8), size=3).shape
    torch.Size([5, 4])
    """
    judge = Classifier(**config).to(images.device)
    judge.load_state_dict(weights)
    judge.requires_grad_(False)
    return torch.cat([judge.features(part).cpu().double() for part in images.split(size)])
