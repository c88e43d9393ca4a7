"""Editing: sampling that begins or ends with an image of yours. Invert it, vary it, fill in a part of it."""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arrays import Generators, normal_like
from ..diffusion import Denoise, Schedule
from .loop import Step, Stride, sample_loop, timesteps

__all__ = ["ddim_invert", "inpaint", "sdedit"]


def ddim_invert(
    denoise: Denoise,
    schedule: Schedule,
    image: Float[Tensor, "b ..."],
    steps: int | Sequence[int] = 50,
    y: Int[Tensor, "b"] | None = None,
) -> Iterator[Step]:
    """DDIM backwards, equation (6.6): the noise from which `ddim` comes (nearly) to this image; each stride reversed.

    A stride up uses the prediction at its lower end, the same stride of `ddim` the one at its upper end, so sampling
    from the code misses the image by an amount that shrinks with the number of strides. The first stride begins with
    the image in the place of x_1: at t = 0 the implied noise would be 0/0, and what step 1 adds can't be seen.
    image: (b, ...), in [-1, 1]. Yields `Step`s from t = 1 to T; the last one's x is the code, about standard normal.
    steps: as for `ddim`; timesteps are given falling all the same. Raises ValueError for others, and for an image
    outside [-1, 1].
    """
    _image("image", image)
    times = sorted({max(t, 1) for t in timesteps(schedule, steps)})

    def move(stride: Stride) -> Tensor:
        return stride.alpha_bar_s**0.5 * stride.x0 + (1 - stride.alpha_bar_s) ** 0.5 * stride.eps

    return sample_loop(move, denoise, schedule, image, times, y)


def sdedit(
    schedule: Schedule,
    image: Float[Tensor, "b ..."],
    strength: float,
    steps: int = 50,
    generator: Generators | None = None,
) -> tuple[Float[Tensor, "b ..."], list[int]]:
    """Image-to-image (SDEdit, Meng et al. 2022): an image noised to step strength · T, and the timesteps from there.

    `ddim(denoise, schedule, *sdedit(schedule, image, 0.6))` draws it anew: what noise of that level hides is invented,
    what it can't hide stays. image: (b, ...), in [-1, 1];  strength: in (0, 1];  steps: strides from T to 0, of
    which about that share is made. Raises ValueError for a strength outside, and an image outside [-1, 1].

    >>> from course_utils.diffusion import cosine_schedule
    >>> x, times = sdedit(cosine_schedule(1000), torch.zeros(2, 1, 4, 4), 0.5, steps=4)
    >>> x.shape, times
    (torch.Size([2, 1, 4, 4]), [500, 250, 0])
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength: expected a number above 0, at most 1, got {strength!r}.")
    _image("image", image)
    top = max(1, round(strength * schedule.T))
    times = [top, *(t for t in schedule.timesteps(steps) if t < top)]
    at = torch.full((len(image),), top, device=image.device)
    noise = normal_like(image, generator)
    return schedule.add_noise(image, at, noise), times


def inpaint(denoise: Denoise, image: Float[Tensor, "b c h w"], known: Tensor) -> Denoise:
    """Inpainting as a wrapper, equation (6.12): whatever the denoiser predicts, its known pixels are the image's.

    Any sampler then noises the known pixels to the level that it is at, as the replacement method does (Song et al.
    2021b, appendix I.2), and ends at them exactly. What is filled in fits them approximately: on the way the network
    sees them only through noise.
    image: (b, c, h, w) in [-1, 1], or (1, c, h, w) for all;  known: True where the image is to stay, (h, w) or anything
    that broadcasts to the image. Raises ValueError for another shape, range or kind of mask.

    >>> image, known = torch.ones(1, 1, 2, 2), torch.tensor([[True, True], [False, False]])
    >>> kept = inpaint(lambda x, t, y=None: torch.zeros_like(x), image, known)
    >>> kept(torch.randn(1, 1, 2, 2), torch.tensor([5])).flatten()
    tensor([1., 1., 0., 0.])
    """
    _image("image", image)
    if known.dtype != torch.bool or not _broadcasts(known.shape, image.shape):
        raise ValueError(
            f"known: expected True and False, {tuple(image.shape[-2:])} or a shape that broadcasts to the image's "
            f"{tuple(image.shape)}, got {known.dtype} of {tuple(known.shape)}."
        )

    def denoise_and_keep(x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if x_t.shape[1:] != image.shape[1:] or len(image) not in (1, len(x_t)):
            raise ValueError(f"inpaint: expected images like {tuple(image.shape)}, got {tuple(x_t.shape)}.")
        return torch.where(known.to(x_t.device), image.to(x_t), denoise(x_t, t, y))

    return denoise_and_keep


def _image(name: str, image: Tensor) -> None:
    """Raises ValueError for bytes, for NaN, and for images (b, c, h, w) outside [-1, 1]. Points (b, d) lie anywhere."""
    to_floats = "divide bytes by 127.5 and take away 1"
    if not image.is_floating_point():
        raise ValueError(f"{name}: expected floats in [-1, 1], got {image.dtype}; {to_floats}.")
    low, high = (image.amin().item(), image.amax().item()) if image.numel() else (math.nan, math.nan)
    within = 1.001 if image.ndim == 4 else math.inf
    if not -within <= low <= high <= within:  # false for NaN
        hint = f"; {to_floats}" if high > 2 else ""
        raise ValueError(f"{name}: expected pixels in [-1, 1], got {low:.3g} to {high:.3g}{hint}.")


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(to)))
