"""Latent diffusion (Rombach et al. 2022, arXiv:2112.10752): diffusion in the codes of an autoencoder.

Nothing about diffusion changes: a denoiser of codes is a denoiser, (z_t, t, y=None) → ẑ_0, and every schedule, loss,
sampler and guidance works on codes as on images. What comes on top stands at both ends: images are encoded once before
training, and what a sampler ends with is decoded.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .arrays import Images
from .diffusion import Denoiser, Schedule
from .models.autoencoder import in_batches
from .models.autoencoder_kl import AutoencoderKL


class LatentDenoiser(Denoiser):
    """A denoiser of codes, and the autoencoder that makes images of them.

    model, schedule, prediction_type: as in `Denoiser`, but of codes;  autoencoder: the one whose `codes` it learned.
    Called, and sampled, as any denoiser, from noise of `.shape`, which is the shape of a code; `decode` what comes out.
    Don't clip its predictions: codes have variance 1, and no bounds. Raises ValueError where model and autoencoder
    don't speak of codes of one shape.

    >>> from course_utils.diffusion import cosine_schedule
    >>> from course_utils.models.dit import DiT
    >>> autoencoder = AutoencoderKL((1, 28, 28))
    >>> denoiser = LatentDenoiser(DiT(autoencoder.code_shape, width=32, patch=1), cosine_schedule(10), autoencoder)
    >>> denoiser.shape, denoiser.decode(torch.zeros(3, *denoiser.shape)).shape
    ((4, 7, 7), torch.Size([3, 1, 28, 28]))
    """

    def __init__(
        self, model: nn.Module | Callable, schedule: Schedule, autoencoder: AutoencoderKL, prediction_type: str = "v"
    ):
        super().__init__(model, schedule, prediction_type)
        if tuple(model.shape) != autoencoder.code_shape:
            raise ValueError(
                f"LatentDenoiser expects a model of codes of shape {autoencoder.code_shape}, which this autoencoder "
                f"makes, got one of {tuple(model.shape)}."
            )
        self.autoencoder = autoencoder

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of the images that it draws in the end."""
        return self.autoencoder.shape

    def decode(self, codes: Float[Tensor, "b k i j"]) -> Images:
        """The images of codes, in [-1, 1]: what comes after the last step of a sampler."""
        return self.autoencoder.images(codes)


def encoded(autoencoder: AutoencoderKL, data: Any) -> tuple[Float[Tensor, "n k i j"], Tensor]:
    """The codes of a whole data set and its labels, a pair that `training.fit` takes: (n, *code_shape) and (n,).

    data: an ImageSet. Made once, not in every step: for 60,000 codes of 4 × 7 × 7 numbers that is 47 MB.
    """
    index = torch.arange(len(data.labels), device=data.labels.device)
    return in_batches(lambda part: autoencoder.codes(data.take(part)), index, 250), data.labels
