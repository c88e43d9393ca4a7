"""The variational bound that the simple loss came from: its terms, and the weight that the loss drops.

−ln p(x_0) ≤ L_T + Σ L_{t−1} + L_0, a sum of divergences between Gaussians of one variance (Ho et al. 2020).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .arrays import normal_like
from .diffusion import Denoise, Schedule


class Bound(NamedTuple):
    """The terms of −ln p(x_0) ≤ L_T + Σ L_{t−1} + L_0, nats per example: (b,), (b, T − 1) for t = 2..T, and (b,)."""

    prior: Tensor
    steps: Tensor
    decoder: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum, (b,): what the model charges for an example, at most."""
        return self.prior + self.steps.sum(1) + self.decoder


def kl_same_variance(
    mean_q: Float[Tensor, "b ..."], mean_p: Float[Tensor, "b ..."], var: Tensor | float
) -> Float[Tensor, "b"]:
    """KL(N(mean_q, var) ‖ N(mean_p, var)) in nats, equation (5.2): |mean_q − mean_p|² / (2 · var), summed over pixels.

    mean_q, mean_p: (b, ...);  var: one number, or anything that broadcasts against them. Returns (b,).

    >>> kl_same_variance(torch.zeros(2, 3), torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 2.0]]), 0.5)
    tensor([0., 6.])
    """
    return ((mean_q - mean_p).square() / (2 * var)).flatten(1).sum(1)


def bound_weight(schedule: Schedule, t: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
    """What the bound charges for |ε − ε̂|² at step t, equation (5.3): ½ (SNR_{t−1} / SNR_t − 1), and ½ at t = 1.

    t: (b,) in 1..T. Returns (b,), float64; infinite where ᾱ_t = 0.

    >>> bound_weight(Schedule(torch.tensor([1.0, 0.8, 0.5])), torch.tensor([1, 2]))
    tensor([0.5000, 1.5000], dtype=torch.float64)
    """
    snr = schedule.snr
    return torch.where(t == 1, 0.5, 0.5 * (snr[t - 1] / snr[t] - 1))


@torch.no_grad()
def variational_bound(
    denoise: Denoise, schedule: Schedule, x0: Float[Tensor, "b ..."], generator: torch.Generator | None = None
) -> Bound:
    """Every term of the bound on −ln p(x0), equation (5.1), in nats per example; one draw of noise for each step.

    The model goes back by the posterior with its guess in the place of x0, so q and p have the same variances; its
    last step is N(x̂_0, 1 / SNR_1). x0: (b, ...), continuous.
    """

    def error(t: int) -> Tensor:
        steps = torch.full((len(x0),), t, device=x0.device)
        noise = normal_like(x0, generator)
        guess = denoise(schedule.add_noise(x0, steps, noise), steps)
        return (guess - x0).square().flatten(1).sum(1)

    size, snr, left = x0[0].numel(), schedule.snr.tolist(), schedule.alpha_bar[-1].item()
    prior = 0.5 * (left * x0.square().flatten(1).sum(1) - size * (left + math.log1p(-left)))
    steps = [0.5 * (snr[t - 1] - snr[t]) * error(t) for t in range(2, schedule.T + 1)]
    decoder = 0.5 * (snr[1] * error(1) + size * math.log(2 * math.pi / snr[1]))
    return Bound(prior, torch.stack(steps, 1) if steps else x0.new_zeros(len(x0), 0), decoder)
