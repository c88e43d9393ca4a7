"""DDPM and DDIM: each stride draws from the posterior of the predicted image, with all of its noise or less."""

from collections.abc import Iterator, Sequence

from jaxtyping import Float, Int
from torch import Tensor

from ..arrays import Generators
from ..diffusion import Denoise, Schedule
from .loop import Step, Stride, sample_loop, timesteps, with_noise

__all__ = ["ddim", "ddpm"]


def ddim(
    denoise: Denoise,
    schedule: Schedule,
    noise: Float[Tensor, "b ..."],
    steps: int | Sequence[int] = 50,
    y: Int[Tensor, "b"] | None = None,
    eta: float = 0.0,
    generator: Generators | None = None,
) -> Iterator[Step]:
    """From noise at T to images at 0, equations (6.4) and (6.5). η = 0 is deterministic (DDIM, Song et al. 2021, their
    12 and 16), η = 1 is ancestral sampling (DDPM) with the posterior's variance.

    With η = 0 a stride is one of Euler's along straight paths, equation (10.6): x_u' = x_u + (u' − u) · velocity, where
    x_u = x_t / (√ᾱ_t + √(1−ᾱ_t)), and `flow.convert` makes the velocity of x̂_0.

    noise: (b, ...), mostly images (b, c, h, w), standard normal;  steps: strides, 1..T, or the timesteps themselves;
    y: (b,) labels, or None;  eta: in [0, 1];  generator: of the noise on the way, or a list of b, one for each image.

    >>> import torch
    >>> from course_utils.diffusion import cosine_schedule
    >>> to_zero = ddim(lambda x, t, y: 0 * x, cosine_schedule(100), torch.randn(2, 1, 4, 4), steps=4)
    >>> [step.t for step in to_zero]
    [100, 75, 50, 25, 0]
    """
    check_eta(eta)

    def move(stride: Stride) -> Tensor:
        sigma = eta * stride.posterior_variance**0.5
        x = stride.alpha_bar_s**0.5 * stride.x0 + max(1 - stride.alpha_bar_s - sigma**2, 0.0) ** 0.5 * stride.eps
        return with_noise(x, sigma, generator)

    return sample_loop(move, denoise, schedule, noise, timesteps(schedule, steps), y)


def ddpm(
    denoise: Denoise,
    schedule: Schedule,
    noise: Float[Tensor, "b ..."],
    steps: int | Sequence[int] = 50,
    y: Int[Tensor, "b"] | None = None,
    kappa: float = 0.0,
    generator: Generators | None = None,
) -> Iterator[Step]:
    """Ancestral sampling, Algorithm 2 of DDPM (Ho et al. 2020): the posterior's mean, and noise of a variance between
    two extremes. Equations (6.1) and (6.2).

    kappa: κ; 0 takes the posterior's variance, right if the data are one point, 1 takes β = 1 − ᾱ_t/ᾱ_s, right if they
    are standard normal; between them the logarithm of the variance is interpolated (Nichol and Dhariwal 2021, equation
    15). No noise is added on the stride that ends at 0. (`diffusers` leaves it out only where that stride begins at
    step 1, so that after longer ones its images hold noise of variance β.) Other arguments as for `ddim`.
    """
    if not 0 <= kappa <= 1:
        raise ValueError(
            f"kappa: expected a number in [0, 1], 0 for the posterior's variance and 1 for β, got {kappa!r}."
        )

    def move(stride: Stride) -> Tensor:
        small, beta = stride.posterior_variance, 1 - stride.alpha_bar_t / stride.alpha_bar_s
        x = stride.alpha_bar_s**0.5 * stride.x0 + max(1 - stride.alpha_bar_s - small, 0.0) ** 0.5 * stride.eps
        return with_noise(x, (small ** (1 - kappa) * beta**kappa) ** 0.5 if stride.s else 0.0, generator)

    return sample_loop(move, denoise, schedule, noise, timesteps(schedule, steps), y)


def check_eta(eta: float) -> None:
    """Raises ValueError unless η is between that of DDIM and that of DDPM."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: expected a number in [0, 1], 0 for DDIM and 1 for DDPM, got {eta!r}.")
