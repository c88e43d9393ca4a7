"""A variational autoencoder whose code is a small image, (channels, h / 4, w / 4): what latent diffusion works in.

As in Rombach et al. (2022, arXiv:2112.10752); `diffusers` calls it AutoencoderKL too. Unlike the VAE of notebook 02 it
is not made to draw by itself: its KL is kept tiny, so that the code keeps nearly everything, and a diffusion model
learns how codes are distributed.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..arrays import at_least_float32, normal_like
from .autoencoder import in_batches, reconstruction_error
from .unet import group_norm
from .vae import kl_to_standard_normal, reparameterize

KL_WEIGHT = 1e-3


class PlainResidualBlock(nn.Module):
    """x + what two convolutions add to it. The last one starts at 0: the block begins as the identity.

    >>> PlainResidualBlock(8)(torch.zeros(2, 8, 5, 7)).shape
    torch.Size([2, 8, 5, 7])
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.conv1 = group_norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = group_norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class AutoencoderKL(nn.Module):
    """Images → codes that are small images → images.

    shape: (c, h, w) of the images, in [-1, 1], h and w multiples of 2 ** len(widths);  channels: of a code;
    widths: channels of each level, from the finest. The first level sees squares of 2 × 2 pixels as channels, so that
    the code has h / 2 ** len(widths) rows: 28 × 28 pixels become 4 × 7 × 7 numbers, a quarter as many.

    `encode` and `decode` speak of codes as they were learned. `codes` and `images` speak of codes times `scale`, a
    number that `set_scale` measures after training: their variance is 1, which the schedules of diffusion count on.

    >>> model = AutoencoderKL((3, 32, 64))
    >>> x = torch.zeros(5, 3, 32, 64)
    >>> mean, log_var = model.encode(x)
    >>> model.code_shape, mean.shape, model.decode(mean).shape
    ((4, 8, 16), torch.Size([5, 4, 8, 16]), torch.Size([5, 3, 32, 64]))
    """

    def __init__(
        self, shape: tuple[int, int, int] = (1, 28, 28), channels: int = 4, widths: tuple[int, ...] = (32, 64)
    ):
        super().__init__()
        if channels < 1:
            raise ValueError(f"AutoencoderKL expects channels ≥ 1, got {channels}.")
        self.code_shape = (channels, *_code_size(shape, widths))
        self.shape, self.num_classes = tuple(shape), None
        self.config = {"shape": tuple(shape), "channels": channels, "widths": tuple(widths)}
        down: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(4 * shape[0], widths[0], 3, padding=1)]
        up: list[nn.Module] = [nn.Conv2d(channels, widths[-1], 3, padding=1)]
        for width, following in zip(widths, (*widths[1:], None)):
            down.append(PlainResidualBlock(width))
            if following is not None:
                down.append(nn.Conv2d(width, following, 3, stride=2, padding=1))
        for width, following in zip(reversed(widths), (*reversed(widths[:-1]), None)):
            up.append(PlainResidualBlock(width))
            if following is not None:  # four values a pixel, which become a square of 2 × 2
                up += [nn.Conv2d(width, 4 * following, 1), nn.PixelShuffle(2)]
        self.encoder = nn.Sequential(*down, *_head(widths[-1], 2 * channels))
        self.decoder = nn.Sequential(*up, *_head(widths[0], 4 * shape[0]), nn.PixelShuffle(2))
        self.register_buffer("scale", torch.ones(()))

    def encode(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b k i j"], Float[Tensor, "b k i j"]]:
        """Mean and log-variance (ln σ²) of q(z|x), each (b, *code_shape), float32 or better."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"AutoencoderKL expects images (b, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}."
            )
        mean, log_var = at_least_float32(self.encoder(x)).chunk(2, dim=1)
        return mean, log_var

    def decode(self, z: Float[Tensor, "b k i j"]) -> Float[Tensor, "b c h w"]:
        """The image of each code, (b, c, h, w) in [-1, 1]."""
        if tuple(z.shape[1:]) != self.code_shape:
            raise ValueError(
                f"AutoencoderKL expects codes (b, {', '.join(map(str, self.code_shape))}), got {tuple(z.shape)}."
            )
        return at_least_float32(self.decoder(z)).tanh()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The reconstruction of each image, through the mean of its code."""
        return self.decode(self.encode(x)[0])

    def codes(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        """What a diffusion model is trained on: the mean code of each image, times `scale`."""
        return self.scale * self.encode(x)[0]

    def images(self, codes: Float[Tensor, "b k i j"]) -> Float[Tensor, "b c h w"]:
        """The images of such codes, in [-1, 1]."""
        return self.decode(codes / self.scale)


def autoencoder_kl_loss(kl_weight: float | int = KL_WEIGHT) -> Callable:
    """A loss for `training.fit`: the mean squared error of a pixel + kl_weight · KL in nats per pixel, and both terms.

    Equation (11.1). It is, but for a factor, the negative ELBO (2.1) of a Gaussian with σ² = kl_weight / 2 for every
    pixel: the default means σ = 0.022, under three of 255 grey levels, where notebook 02 lets σ be learned.
    kl_weight ≥ 0.

    >>> loss, terms = autoencoder_kl_loss()(AutoencoderKL((1, 8, 8)), torch.zeros(4, 1, 8, 8), None, torch.Generator())
    >>> sorted(terms)
    ['error', 'kl']
    """
    if not kl_weight >= 0:
        raise ValueError(f"autoencoder_kl_loss expects kl_weight ≥ 0, such as {KL_WEIGHT}, got {kl_weight}.")

    def loss(
        model: AutoencoderKL, x: Tensor, y: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        mean, log_var = model.encode(x)
        z = reparameterize(mean, log_var, normal_like(mean, generator))
        error = reconstruction_error(x, model.decode(z)).mean()
        kl = kl_to_standard_normal(mean.flatten(1), log_var.flatten(1)).mean()
        return error + kl_weight * kl / x[0].numel(), {"error": error, "kl": kl}

    return loss


def set_scale(model: AutoencoderKL, images: Float[Tensor, "n c h w"]) -> float:
    """Measure how widely codes spread, and set `model.scale` so that `model.codes` has variance 1. Returns the scale.

    images: some thousand of the training set. One number for all channels and places, 1 / their standard deviation
    about their common mean, equation (11.2), as in Rombach et al. (2022). Raises ValueError where all codes are the
    same.
    """
    means = in_batches(lambda part: model.encode(part)[0], images, 250)
    spread = means.double().std(correction=0).item()
    if not spread > 0:
        raise ValueError("set_scale: all codes are the same number; train the autoencoder first.")
    model.scale.fill_(1 / spread)
    return 1 / spread


def _code_size(shape: tuple[int, ...], widths: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 3 or min(shape) < 1 or not widths or min(widths) < 1:
        raise ValueError(
            f"AutoencoderKL expects an image shape (c, h, w) and positive widths, got {tuple(shape)} and "
            f"{tuple(widths)}."
        )
    factor = 2 ** len(widths)
    if shape[1] % factor or shape[2] % factor:
        raise ValueError(
            f"AutoencoderKL expects height and width that are multiples of {factor} ({len(widths)} halvings), got "
            f"{shape[1]}×{shape[2]}; resize the images, or use fewer widths."
        )
    return shape[1] // factor, shape[2] // factor


def _head(channels: int, outputs: int) -> list[nn.Module]:
    return [group_norm(channels), nn.SiLU(), nn.Conv2d(channels, outputs, 3, padding=1)]
