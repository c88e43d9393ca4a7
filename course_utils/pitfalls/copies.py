"""Code of notebook 09 that runs and is wrong: a report on copies, shown before it is mended."""

from __future__ import annotations

import torch
from torch import Tensor


def report(generated: Tensor, training: Tensor, held_out: Tensor, rare: float) -> float:
    """The share of generated images (n, ...) nearer to the training images than all but `rare` of the held-out ones.

    Wrong on purpose: goes by the *second* nearest training image, as if the nearest were the image itself.

    >>> points = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> report(points, points, points + 0.5, 0.1)  # exact copies, and none is found
    0.0
    """
    of_generated, of_held_out = (
        torch.cdist(images.flatten(1), training.flatten(1)).sort(dim=1).values[:, 1] for images in (generated, held_out)
    )
    return (of_generated < of_held_out.quantile(rare)).double().mean().item()
