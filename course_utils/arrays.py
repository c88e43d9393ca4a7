"""The arrays of the course and their names: what a shape means, and which range its numbers have.

Images are float tensors (b, c, h, w) in [-1, 1]: a batch of b images with c channels, h rows and w columns. Pixel
*probabilities* (of a Bernoulli likelihood) live in [0, 1]; `to_unit` and `from_unit` lead from one range to the other.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

__all__ = [
    "Bytes",
    "Codes",
    "Images",
    "Labels",
    "Scalar",
    "Steps",
    "from_unit",
    "known_labels",
    "same_shape",
    "to_unit",
]

Images = Float[Tensor, "b c h w"]  # a batch of images in [-1, 1]
Bytes = UInt8[Tensor, "n c h w"]  # images as they are stored: 0 is black, 255 is white
Labels = Int[Tensor, " n"]  # one class index an image, int64
Codes = Float[Tensor, "b d"]  # one latent code of d numbers an image
Steps = Int[Tensor, " b"]  # one diffusion step t an image
Scalar = Float[Tensor, ""]  # one number: a loss


def to_unit(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Pixels in [-1, 1] as numbers in [0, 1]: (x + 1) / 2. Any shape; nothing is clipped.

    >>> import torch
    >>> to_unit(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    return (x + 1) / 2


def from_unit(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Numbers in [0, 1] as pixels in [-1, 1]: 2 x - 1, the inverse of `to_unit`. Any shape; nothing is clipped.

    >>> import torch
    >>> from_unit(torch.tensor([0.0, 0.5, 1.0]))
    tensor([-1.,  0.,  1.])
    """
    return 2 * x - 1


def same_shape(who: str, **tensors: Tensor) -> None:
    """Raises ValueError, in the name of the function `who`, unless all tensors have one shape.

    >>> import torch
    >>> same_shape("add_noise", x0=torch.zeros(2, 3), noise=torch.zeros(2, 3))
    """
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{who} expects tensors of one shape, got {got}; a missing channel axis is the usual reason.")


def known_labels(who: str, y: Tensor, n: int, highest: int) -> None:
    """Raises ValueError, in the name of `who`, unless y is (n,) whole numbers (int32 or int64) in 0..highest.

    On a GPU the numbers themselves aren't looked at: every call would wait for it.

    >>> import torch
    >>> known_labels("UNet", torch.tensor([0, 10]), 2, highest=10)
    """
    if not isinstance(y, Tensor) or y.dtype not in (torch.int64, torch.int32) or y.shape != (n,):
        got = f"{y.dtype} of {tuple(y.shape)}" if isinstance(y, Tensor) else repr(y)
        raise ValueError(f"{who}: expected labels y, integers of shape ({n},), one an image, got {got}.")
    if y.device.type == "cpu" and y.numel() and (y.min() < 0 or y.max() > highest):
        raise ValueError(f"{who}: expected labels in 0..{highest}, got {y.min()}..{y.max()}.")
