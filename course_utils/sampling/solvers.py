"""Solvers of the probability-flow ODE: at every step the same distribution as ancestral sampling, and no noise.

In the coordinates x̄ = x/√ᾱ and σ = √(1 − ᾱ)/√ᾱ the equation is dx̄/dσ = ε̂: the slope is the noise that the
prediction implies (Song et al. 2021b; Karras et al. 2022, equation 4). Where ᾱ_T = 0 these coordinates have no start:
`euler` and `heun` raise ValueError there, `dpm_solver` and `ddim` don't mind.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arrays import Generators
from ..diffusion import Denoise, Schedule
from .ancestral import check_eta
from .loop import Move, Step, Stride, sample_loop, timesteps, with_noise

__all__ = ["dpm_solver", "euler", "heun", "karras_timesteps"]


def euler(
    denoise: Denoise,
    schedule: Schedule,
    noise: Float[Tensor, "b ..."],
    steps: int | Sequence[int] = 50,
    y: Int[Tensor, "b"] | None = None,
) -> Iterator[Step]:
    """Euler's method, equation (6.8): straight on along the slope at the start of the stride. Order 1; equal to DDIM.

    Arguments as for `ddim`. One evaluation of the network a stride.
    """

    def move(stride: Stride) -> Tensor:
        return along(stride, stride.eps)

    return sample_loop(move, denoise, _bounded(schedule, "euler"), noise, timesteps(schedule, steps), y)


def heun(
    denoise: Denoise,
    schedule: Schedule,
    noise: Float[Tensor, "b ..."],
    steps: int | Sequence[int] = 25,
    y: Int[Tensor, "b"] | None = None,
) -> Iterator[Step]:
    """Heun's method, equation (6.9): Euler to the end of the stride, then again with the mean of both slopes. Order 2.

    Two evaluations a stride, and one on a stride that ends at 0, where there is no noise to find: 2 · steps − 1 in all
    (Karras et al. 2022, algorithm 1). Arguments as for `ddim`.
    """

    def move(stride: Stride) -> Tensor:
        end = along(stride, stride.eps)
        if stride.s == 0:
            return end
        there = stride._replace(x=end, x0=stride.denoise(end, stride.s), alpha_bar_t=stride.alpha_bar_s)
        return along(stride, (stride.eps + there.eps) / 2)

    return sample_loop(move, denoise, _bounded(schedule, "heun"), noise, timesteps(schedule, steps), y)


def dpm_solver(
    denoise: Denoise,
    schedule: Schedule,
    noise: Float[Tensor, "b ..."],
    steps: int | Sequence[int] = 20,
    y: Int[Tensor, "b"] | None = None,
    eta: float = 0.0,
    generator: Generators | None = None,
) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), equation (6.10): `ddim`, but the prediction x̂_0 is extrapolated
    along a line through the last two.

    The line runs in λ = ln(√ᾱ/√(1 − ᾱ)), in which a stride with a fixed prediction is solved exactly. Order 2 for one
    evaluation a stride. The first stride, and one that ends at 0 (where λ = ∞), use the last prediction alone, as in
    `diffusers` by default (`final_sigmas_type="zero"`).
    eta: as in `ddim`; 1 is their SDE-DPM-Solver++(2M). Other arguments as for `ddim`.
    """
    check_eta(eta)
    return sample_loop(_multistep(schedule, eta, generator), denoise, schedule, noise, timesteps(schedule, steps), y)


def _multistep(schedule: Schedule, eta: float, generator: Generators | None) -> Move:
    """A move with a memory: the last prediction, and how long the stride after it was."""
    half = (schedule.log_snr / 2).tolist()
    before: tuple[Tensor, float] | None = None

    def move(stride: Stride) -> Tensor:
        nonlocal before
        h, x0 = half[stride.s] - half[stride.t], stride.x0
        if before is not None and stride.s > 0:
            old, h_old = before
            x0 = stride.x0 + h / (2 * h_old) * (stride.x0 - old)
        before = stride.x0, h
        # DDIM's stride with that prediction, √ᾱ_s x̂_0 + √(1−ᾱ_s−σ²) ε̂ + σz, where ε̂ = (x_t − √ᾱ_t x̂_0) / √(1−ᾱ_t).
        sigma = eta * stride.posterior_variance**0.5
        kept = (max(1 - stride.alpha_bar_s - sigma**2, 0.0) / (1 - stride.alpha_bar_t)) ** 0.5
        of_x0 = stride.alpha_bar_s**0.5 - kept * stride.alpha_bar_t**0.5
        return with_noise(kept * stride.x + of_x0 * x0, sigma, generator)

    return move


def along(stride: Stride, slope: Tensor) -> Tensor:
    """From x_t to x_s with a fixed slope dx̄/dσ, which equation (6.7) says is ε̂."""
    sigma = [((1 - a) / a) ** 0.5 for a in (stride.alpha_bar_t, stride.alpha_bar_s)]
    return stride.alpha_bar_s**0.5 * (stride.x / stride.alpha_bar_t**0.5 + (sigma[1] - sigma[0]) * slope)


def _bounded(schedule: Schedule, name: str) -> Schedule:
    if schedule.alpha_bar[-1] == 0:
        raise ValueError(
            f"{name}: expected a schedule that keeps some signal at T, got {schedule.name!r} with ᾱ_T = 0, where "
            "σ = √(1−ᾱ)/√ᾱ is infinite; use ddim or dpm_solver."
        )
    return schedule


def karras_timesteps(schedule: Schedule, steps: int, rho: float = 7.0, sigma_max: float = 80.0) -> list[int]:
    """Timesteps for few strides, equation (6.11): σ = √(1−ᾱ)/√ᾱ falls along a ρ-th power (Karras et al. 2022), then 0.

    From the step whose σ is nearest to sigma_max (or from T, if that is less) to step 1, and 0 at the end: `steps`
    strides in all, 1..T. Where two would share a step, the later one moves on to the next. (In `diffusers` they
    fall from σ_T, 20,000 for a cosine schedule, and between steps, for which the network wasn't trained.)

    >>> from course_utils.diffusion import cosine_schedule
    >>> karras_timesteps(cosine_schedule(1000), 5)
    [992, 966, 803, 165, 1, 0]
    """
    schedule.timesteps(steps)  # raises ValueError for a number of strides that this schedule can't take
    if not (rho > 0 and sigma_max > 0):
        raise ValueError(f"karras_timesteps: expected rho and sigma_max above 0, got {rho!r} and {sigma_max!r}.")
    sigma = ((1 - schedule.alpha_bar) / schedule.alpha_bar).sqrt().cpu()
    first, end = min(sigma_max, sigma[-1].item()) ** (1 / rho), sigma[1].item() ** (1 / rho)
    wanted = torch.linspace(first, end, steps, dtype=torch.float64) ** rho
    nearest = (sigma[1:, None] - wanted).abs().argmin(0) + 1
    times, before = [], schedule.T + 1
    for k, t in enumerate(nearest.tolist()):
        before = max(min(t, before - 1), steps - k)  # falls, and leaves room for those to come
        times.append(before)
    return [*times, 0]
