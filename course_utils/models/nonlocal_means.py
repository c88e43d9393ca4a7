"""Non-local means: denoising without training, by averaging over places whose surroundings look alike."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def patches(images: Float[Tensor, "b c h w"], size: int = 5) -> Float[Tensor, "b n p"]:
    """The size × size patch around every pixel, with mirrored borders: (b, h · w, c · size²).

    >>> patches(torch.zeros(2, 1, 6, 8)).shape
    torch.Size([2, 48, 25])
    """
    around = F.pad(images, (size // 2,) * 4, mode="reflect")
    return rearrange(F.unfold(around, size), "b p n -> b n p")


def patch_queries(
    images: Float[Tensor, "b c h w"], sharpness: float, size: int = 5
) -> tuple[Float[Tensor, "b heads n d"], Float[Tensor, "b heads n d"]]:
    """Queries and keys whose scores q·k/√d are −sharpness × the squared distance of the patches around two pixels.

    Softmax attention with them, and pixels as values, is non-local means (Buades, Coll and Morel 2005). A scalar
    product is no distance, but −|p − p'|²/2 = p·p' − |p|²/2 − |p'|²/2 is one, of longer vectors.
    Returns q and k, each (b, 1, h · w, c · size² + 2).

    >>> q, k = patch_queries(torch.zeros(1, 1, 4, 6), sharpness=1.0)
    >>> q.shape == k.shape == (1, 1, 24, 27)
    True
    """
    p = patches(images, size)[:, None]
    length, ones = p.square().sum(-1, keepdim=True) / 2, torch.ones_like(p[..., :1])
    root_d = math.sqrt(p.shape[-1] + 2)
    return 2 * sharpness * root_d * torch.cat([p, -length, -ones], -1), torch.cat([p, ones, length], -1)
