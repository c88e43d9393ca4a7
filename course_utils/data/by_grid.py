"""The perfect denoiser of a mixture on the line for losses that have no closed form: by sums over a fine grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .mixtures import GaussianMixture

ROUNDS = 40  # of weighted means, until Huber's answer has settled


def best_answer(
    mixture: GaussianMixture, schedule: Any, x_t: Tensor, t: int, distance: str = "l2", reach: float = 1.8
) -> Tensor:
    """The c that makes the mean of distance(x_0, c) smallest, given x_t: mean ("l2"), median ("l1"), or "huber".

    mixture: on the line (d = 1);  schedule: anything with `.alpha_bar`;  x_t: (n,);  t: a step in 1..T;  reach: x_0 is
    looked for between −reach and reach. Huber's loss bends where the error in the noise is 1, as in training.

    >>> from course_utils.diffusion import cosine_schedule
    >>> lopsided = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.1, torch.tensor([0.3, 0.7]))
    >>> [round(best_answer(lopsided, cosine_schedule(), torch.zeros(1), 999, d).item(), 2) for d in ("l2", "l1")]
    [0.4, 0.95]
    """
    values = torch.linspace(-reach, reach, 301)
    left = schedule.alpha_bar[t].item()
    offset = x_t[:, None] - left**0.5 * values
    posterior = (mixture.log_prob(values[:, None]) - offset.square() / (2 * (1 - left))).softmax(1)
    if distance == "l1":
        return values[(posterior.cumsum(1) < 0.5).sum(1).clamp(max=len(values) - 1)]
    answer = posterior @ values
    if distance == "huber":
        in_noise = (left / (1 - left)) ** 0.5
        for _ in range(ROUNDS):
            pull = posterior / ((values - answer[:, None]).abs() * in_noise).clamp(min=1)
            answer = pull @ values / pull.sum(1)
    return answer


def grid_denoiser(mixture: GaussianMixture, schedule: Any, distance: str = "l2") -> Callable[..., Tensor]:
    """`best_answer` as a denoiser (x_t (n, 1), t (n,), y=None) → x̂_0 (n, 1), all images at one step."""
    places = torch.linspace(-4.5, 4.5, 601)

    def denoise(x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        answers = best_answer(mixture, schedule, places, int(t[0]), distance)
        at = ((x_t.flatten() + 4.5) / 9 * 600).clamp(0, 599.99)
        return torch.lerp(answers[at.long()], answers[at.long() + 1], at.frac())[:, None]

    return denoise
