"""Toy data whose score is known exactly: Gaussian mixtures, their scores and their perfect denoisers at every step.

A mixture stays a mixture while it is diffused, so what a network must learn from images stands here in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arrays import check_labels, normal_like

__all__ = ["GaussianMixture"]


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """p(x) = Σ_k w_k N(x; m_k, diag(s_k²)): k Gaussian blobs in d dimensions, along the axes.

    means: (k, d), floats;  stds: one number, (k,) for round blobs, or (k, d);  weights: (k,), made to add up to 1,
    equal if not given. A std of 0 makes a blob a point, like an image of a data set: a density comes with t ≥ 1.
    Raises ValueError where the shapes don't belong together, for a std below 0 and a weight that isn't above 0.

    >>> mixture = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), 0.5)
    >>> mixture.score(torch.tensor([[0.5, 1.0]])).round(decimals=3)     # towards the nearer one, above all
    tensor([[ 1.8560, -4.0000]])
    """

    means: Float[Tensor, "k d"]
    stds: Tensor | float
    weights: Tensor | None = None

    def __post_init__(self):
        k, _ = self.means.shape
        stds = torch.as_tensor(self.stds).to(self.means)
        if stds.shape not in ((), (k,), self.means.shape) or not bool((stds >= 0).all()):
            raise ValueError(
                f"stds: expected numbers of at least 0, shaped (), ({k},) or {tuple(self.means.shape)}, got "
                f"{tuple(stds.shape)} from {stds.min():g}."
            )
        weights = torch.ones(k).to(self.means) if self.weights is None else self.weights.to(self.means)
        if weights.shape != (k,) or not bool((weights > 0).all()):
            raise ValueError(
                f"weights: expected {k} numbers above 0, one a component, got {tuple(weights.shape)} from "
                f"{weights.min():g}."
            )
        stds = stds.reshape(-1, 1) if stds.ndim < 2 else stds
        object.__setattr__(self, "stds", stds.expand(self.means.shape))
        object.__setattr__(self, "weights", weights / weights.sum())

    @classmethod
    def ring(cls, k: int = 8, radius: float = 1.4, std: float = 0.1) -> GaussianMixture:
        """k blobs on a circle, the first to the right. The defaults have about variance 1 along each axis.

        >>> GaussianMixture.ring(4).means.shape
        torch.Size([4, 2])
        """
        angle = torch.arange(k) * (2 * math.pi / k)
        return cls(radius * torch.stack([angle.cos(), angle.sin()], 1), std)

    @classmethod
    def grid(cls, side: int = 3, spacing: float = 1.2, std: float = 0.1) -> GaussianMixture:
        """side × side blobs around 0, in reading order: left to right, from the top. About variance 1 by default.

        >>> GaussianMixture.grid(2, spacing=2.0).means.tolist()
        [[-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]
        """
        place = (torch.arange(side) - (side - 1) / 2) * spacing
        y, x = torch.meshgrid(-place, place, indexing="ij")
        return cls(torch.stack([x, y], -1).reshape(-1, 2), std)

    # ------------------------------------------------------------------------------------------------------ the density
    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n d"]:
        """n independent points."""
        return self.labelled(n, generator)[0]

    def labelled(
        self, n: int, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
        """n independent points, and for each the component that it comes from, 0..k−1."""
        y = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = normal_like(self.means[y], generator)
        return self.means[y] + self.stds[y] * noise, y

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """ln p(x) of every point, in nats."""
        return self._joint(x)[0].logsumexp(1)

    def score(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """∇ ln p(x): the way uphill, Σ_k p(k|x) (m_k − x) / s_k², equation (3.10) at t = 0."""
        joint, offset, _, var = self._joint(x)
        return -(joint.softmax(1)[..., None] * offset / var).sum(1)

    # -------------------------------------------------------------------------------------------------- under diffusion
    def diffused(self, alpha_bar: float | Tensor) -> GaussianMixture:
        """The mixture of all x_t = √ᾱ x_0 + √(1−ᾱ) ε, equation (3.10): means √ᾱ m_k, variances ᾱ s_k² + 1 − ᾱ.

        alpha_bar: ᾱ_t in [0, 1], such as `schedule.alpha_bar[t]`.

        >>> noise = GaussianMixture.ring().diffused(0.0)
        >>> noise.means.abs().max(), noise.stds.unique()
        (tensor(0.), tensor([1.]))
        """
        a = float(alpha_bar)
        if not 0 <= a <= 1:
            raise ValueError(f"alpha_bar: expected a number in [0, 1], got {a:g}.")
        return replace(self, means=a**0.5 * self.means, stds=(a * self.stds.square() + (1 - a)).sqrt())

    def velocity(self, x: Float[Tensor, "n d"], u: float) -> Float[Tensor, "n d"]:
        """E[ε − x_0 | x_u] of points x_u = (1−u) x_0 + u ε on straight paths to the noise, equation (10.5).

        u: in [0, 1], 0 the data. Following it is the flow that carries the mixture to the standard normal, or back.

        >>> point = GaussianMixture(torch.tensor([[2.0]]), 0.0)
        >>> point.velocity(torch.tensor([[1.0], [2.5]]), 0.5).round()   # ε was 0, or 3
        tensor([[-2.],
                [ 1.]])
        """
        if not 0 <= u <= 1:
            raise ValueError(f"u: expected a number in [0, 1], got {u:g}.")
        size = math.hypot(1 - u, u)  # x_u is so many times the x_t that has the same signal-to-noise ratio
        joint, offset, signal, var = self._joint(x / size, torch.tensor(((1 - u) / size) ** 2, dtype=torch.float64))
        of_x0, of_noise = self.means.to(x) + signal / var * offset, u / size / var * offset
        return (joint.softmax(1)[..., None] * (of_noise - of_x0)).sum(1)

    def denoiser(self, schedule) -> Callable[..., Tensor]:
        """The perfect denoiser E[x_0 | x_t] as (x_t, t, y=None) → x̂_0. No network can have a smaller squared error.

        Tweedie's formula, equation (3.9), makes it from the score of equation (3.10). We add up the components' own
        answers instead, m_k + √ᾱ s_k² / (ᾱ s_k² + 1 − ᾱ) · (x_t − √ᾱ m_k): the same number, and no division by ᾱ = 0.

        schedule: anything with `.alpha_bar` (T + 1,).  x_t: (n, d), or (n, ...) with d numbers each;  t: (n,) in 0..T;
        y: (n,) the component that x_0 comes from, 0..k−1, or k where that isn't known (the null label).

        >>> from types import SimpleNamespace
        >>> denoise = GaussianMixture.ring(2).denoiser(SimpleNamespace(alpha_bar=torch.tensor([1.0, 0.5, 0.0])))
        >>> x, t = torch.ones(2, 2), torch.tensor([1, 2])
        >>> denoise(x, t)[:, 0]                                # half-way it leans to the right, at T it knows nothing
        tensor([1.3462, 0.0000])
        """
        k = len(self.means)

        def denoise(x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            a = schedule.alpha_bar[t.to(schedule.alpha_bar.device)][:, None, None]
            joint, offset, signal, var = self._joint(x_t.flatten(1), a)
            if y is not None:
                check_labels("the mixture's denoiser", y, len(x_t), k)
                other = torch.arange(k, device=y.device) != y[:, None]
                joint = joint.masked_fill(other & (y[:, None] != k), -torch.inf)
            guess = self.means.to(x_t) + signal / var * offset
            return (joint.softmax(1)[..., None] * guess).sum(1).reshape(x_t.shape)

        return denoise

    def _joint(self, x: Tensor, alpha_bar: Tensor | float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Diffused to ᾱ, by component: ln p(k, x) (n, k), then x minus the mean, √ᾱ s² and the variance (n, k, d)."""
        a = torch.as_tensor(alpha_bar)
        root, rest = a.sqrt().to(x), (1 - a).to(x)  # 1 − ᾱ before it is rounded to the precision of x
        means, s2 = self.means.to(x), self.stds.to(x).square()
        var = root.square() * s2 + rest
        offset = x[:, None] - root * means
        joint = self.weights.to(x).log() - (offset.square() / var + (2 * math.pi * var).log()).sum(-1) / 2
        return joint, offset, root * s2, var
