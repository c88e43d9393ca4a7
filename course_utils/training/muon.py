"""Muon: for convolution filters, a step of the same length in every direction that the gradient points in."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

# Five rounds of x → 3.4445 x − 4.7750 x³ + 2.0315 x⁵ bring every singular value in (0, 1] to between 0.7 and 1.2
# (Jordan et al. 2024). Nearer to 1 isn't needed; that few rounds reach also the small values is.
A, B, C, ROUNDS = 3.4445, -4.7750, 2.0315, 5


def orthogonalized(gradient: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """The matrix U Vᵀ, nearly, of a matrix U S Vᵀ: its directions, all equally long.

    The polynomial above applied to the singular values, by products of matrices alone (Newton and Schulz). The rounds
    take place on the small square matrix X Xᵀ; the long one is multiplied twice.

    >>> torch.linalg.svdvals(orthogonalized(torch.diag(torch.tensor([3.0, 0.5, 0.1])))).round(decimals=1)
    tensor([1.1000, 1.0000, 0.7000])
    """
    if len(gradient) > gradient.shape[1]:
        return orthogonalized(gradient.T).T
    x = gradient / gradient.norm().clamp(min=1e-12)
    gram, one = x @ x.T, torch.eye(len(x), dtype=x.dtype, device=x.device)
    total = one
    for _ in range(ROUNDS):
        factor = A * one + B * gram + C * gram @ gram
        total, gram = factor @ total, factor @ gram @ factor
    return total @ x


class Muon(torch.optim.Optimizer):
    """Muon for the filters of convolutions, Adam for all other weights (Jordan et al. 2024; Kingma and Ba 2015).

    Adam's step gives every number of a filter the same length; Muon's does so for every *direction* of the filter as a
    matrix (channels out) × (channels in · pixels), so that directions with small gradients are learned as fast.

    params: weights;  lr: of Muon; Adam's is `adam` · lr;  momentum: Nesterov's;  betas: Adam's.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float | int = 0.01,
        momentum: float | int = 0.95,
        adam: float | int = 0.3,
        betas: tuple[float, float] = (0.9, 0.99),
    ):
        if not lr > 0:
            raise ValueError(f"Muon: expected lr > 0, such as 0.01, got {lr!r}")
        params = list(params)
        filters, others = [p for p in params if p.ndim == 4], [p for p in params if p.ndim != 4]
        groups = [{"params": filters}, {"params": others, "lr": adam * lr, "betas": betas, "adam": True}]
        defaults = {"lr": lr, "momentum": momentum, "adam": False}
        super().__init__([group for group in groups if group["params"]], defaults)
        self._share_with_adam()

    def __setstate__(self, state: dict) -> None:
        """Called when a state was loaded or copied: groups and state are new objects then."""
        super().__setstate__(state)
        self._share_with_adam()

    def _share_with_adam(self) -> None:
        # One set of groups and one state for both, so that schedules and checkpoints see a single optimizer.
        groups = [group for group in self.param_groups if group["adam"]]
        fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
        self.adam = torch.optim.Adam(groups, fused=fused) if groups else None
        if self.adam:
            self.adam.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One step on the gradients that stand in the weights."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params and not group["adam"]:
                _muon(params, self.state, group)
        if self.adam:
            self.adam.step()
        return loss


def _muon(params: list[Tensor], state: dict, group: dict) -> None:
    for p in params:
        if not state[p]:
            state[p]["average"] = torch.zeros_like(p)
    gradients, averages = [p.grad for p in params], [state[p]["average"] for p in params]
    torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
    ahead = torch._foreach_lerp(gradients, averages, group["momentum"])  # Nesterov: a look at the next average
    for p, direction in zip(params, ahead):
        matrix = direction.flatten(1)
        tall = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5  # keeps the size of outputs where they are many
        p.add_(orthogonalized(matrix).reshape(p.shape), alpha=-group["lr"] * tall)
