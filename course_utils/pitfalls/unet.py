"""Parts of networks as somebody else wrote them, for the bug hunts of notebook 04. Each has a mistake in it."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def simple_block(
    x: Float[Tensor, "b c h w"], e: Float[Tensor, "b e"], conv1: Tensor, conv2: Tensor, step: Float[Tensor, "c e"]
) -> Float[Tensor, "b c h w"]:
    """A residual block that should hear e. (What is wrong with it is the question in notebook 04.)"""

    def normalise(h: Tensor) -> Tensor:
        mean = h.mean(dim=(2, 3), keepdim=True)
        variance = h.var(dim=(2, 3), keepdim=True, correction=0)
        return (h - mean) / (variance + 1e-5).sqrt()

    h = F.conv2d(F.silu(normalise(x)), conv1, padding=1)
    shift = F.linear(e, step)[:, :, None, None]
    return x + F.conv2d(F.silu(normalise(h + shift)), conv2, padding=1)


def image_attention(
    x: Float[Tensor, "b c h w"], qkv: Float[Tensor, "c3 c"], out: Float[Tensor, "c c"], heads: int
) -> Float[Tensor, "b c h w"]:
    """x and what every pixel gathers. (What is wrong with it is the question in notebook 04.)"""
    b, c, h, w = x.shape
    q, k, v = torch.einsum("oc, bchw -> bohw", qkv, x).reshape(b, 3, heads, c // heads, h * w).mT.unbind(1)
    weights = (q @ k.mT / (c // heads) ** 0.5).softmax(dim=-1)
    gathered = (weights @ v).mT.reshape(b, c, w, h).mT
    return x + torch.einsum("oc, bchw -> bohw", out, gathered)


def to_itself(image: Float[Tensor, "1 1 h w"], sharpness: float = 300.0) -> tuple[Tensor, Tensor, Tensor]:
    """A test for `image_attention`: every pixel asks for its own place, and so should gather its own brightness.

    Returns x (1, 9, h, w), the image and behind it eight waves that say where a pixel is, and matrices qkv and out.
    """
    h, w = image.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    waves = [wave(2 * torch.pi * place / period) for place, n in ((rows, h), (columns, w)) for period in (n + 4, 6.5)
             for wave in (torch.sin, torch.cos)]  # fmt: skip
    x = torch.cat([image, torch.stack(waves)[None].to(image)], dim=1)
    where, brightness = torch.eye(9), torch.zeros(9, 9)
    where[0, 0], brightness[0, 0] = 0.0, 1.0
    return x, torch.cat([sharpness * where, where, brightness]), brightness
