"""A generator and a discriminator by the rules of DCGAN (Radford, Metz and Chintala 2016), for small images.

The rules: strided convolutions instead of pooling, no hidden dense layers, BatchNorm in both networks (but neither
before the generator's output nor after the discriminator's input), ReLU in the generator with tanh at its end,
LeakyReLU of slope 0.2 in the discriminator, and first weights from N(0, 0.02²).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..arrays import Generators, normal_like
from .blocks import KERNEL, PADDING, STRIDE, small_size


class Generator(nn.Module):
    """Noise to images: a projection to the smallest map, then transposed convolutions that double it.

    shape: (c, h, w) of the images, h and w multiples of 2 ** len(widths);  latent: numbers in a code z ~ N(0, 1);
    widths: channels from the *finest* map to the smallest. 28 × 28 goes 7 → 14 → 28.

    >>> generator = Generator((1, 28, 28), latent=100)
    >>> generator(torch.zeros(3, 100)).shape
    torch.Size([3, 1, 28, 28])
    """

    def __init__(
        self, shape: tuple[int, int, int] = (1, 28, 28), latent: int = 100, widths: tuple[int, ...] = (32, 64)
    ):
        super().__init__()
        h, w = small_size(shape, widths)
        if latent < 1:
            raise ValueError(f"Generator expects latent ≥ 1, got {latent}.")
        self.shape, self.latent, self.num_classes = tuple(shape), latent, None
        self.config = {"shape": tuple(shape), "latent": latent, "widths": tuple(widths)}
        channels = tuple(reversed(widths))
        layers: list[nn.Module] = [
            nn.Linear(latent, channels[0] * h * w, bias=False),
            nn.Unflatten(1, (channels[0], h, w)),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
        ]
        for in_channels, out_channels in zip(channels, channels[1:]):
            layers += [
                nn.ConvTranspose2d(in_channels, out_channels, KERNEL, STRIDE, PADDING, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
        layers += [nn.ConvTranspose2d(channels[-1], shape[0], KERNEL, STRIDE, PADDING), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(first_weights)

    def forward(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """Images in [-1, 1], one for each code."""
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"Generator expects codes (b, {self.latent}), got {tuple(z.shape)}.")
        return self.layers(z)

    def sample(self, n: int, generator: Generators | None = None) -> Float[Tensor, "n c h w"]:
        """n images of codes drawn from N(0, I), in one pass.  generator: one, or one for each image."""
        like = next(self.parameters())
        return self(normal_like(like.new_empty(n, self.latent), generator))


class Discriminator(nn.Module):
    """Images to one logit each: above 0 where "real" is likelier than "generated".

    shape, widths: as for `Generator`;  norm: "batch" as in DCGAN, "spectral" (Miyato et al. 2018, equation (8.8): every
    layer stretches by at most about 1, no BatchNorm), or None for neither, which an R1 penalty wants: it looks at
    one image at a time.

    >>> Discriminator((1, 28, 28))(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3])
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (1, 28, 28),
        widths: tuple[int, ...] = (32, 64),
        norm: str | None = "batch",
    ):
        super().__init__()
        h, w = small_size(shape, widths)
        if norm not in ("batch", "spectral", None):
            raise ValueError(f"Discriminator expects norm 'batch', 'spectral' or None, got {norm!r}.")
        self.shape = tuple(shape)
        layers: list[nn.Module] = [nn.Conv2d(shape[0], widths[0], KERNEL, STRIDE, PADDING), nn.LeakyReLU(0.2)]
        for in_channels, out_channels in zip(widths, widths[1:]):
            layers.append(nn.Conv2d(in_channels, out_channels, KERNEL, STRIDE, PADDING, bias=norm != "batch"))
            layers += [nn.BatchNorm2d(out_channels)] * (norm == "batch") + [nn.LeakyReLU(0.2)]
        layers += [nn.Flatten(), nn.Linear(widths[-1] * h * w, 1)]
        self.layers = nn.Sequential(*layers)
        self.apply(first_weights)
        if norm == "spectral":
            for layer in self.layers:
                if hasattr(layer, "weight"):
                    spectral_norm(layer)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
        """The logit of "real", one for each image."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"Discriminator expects images (b, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}."
            )
        return self.layers(x).squeeze(1)


@torch.no_grad()
def first_weights(module: nn.Module) -> None:
    """DCGAN's first weights, for `network.apply`: filters from N(0, 0.02²), BatchNorm's scales from N(1, 0.02²).

    >>> layer = nn.Conv2d(64, 64, 4)
    >>> first_weights(layer)
    >>> round(layer.weight.std().item(), 3), layer.bias.abs().max().item()
    (0.02, 0.0)
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        module.weight.normal_(0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        module.weight.normal_(1.0, 0.02)
    else:
        return
    if module.bias is not None:
        module.bias.zero_()
