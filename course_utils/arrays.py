"""The arrays of the course and their names: what a shape means, and which range its numbers have.

Images are float tensors (b, c, h, w) in [-1, 1]: a batch of b images with c channels, h rows and w columns. Pixel
*probabilities* (of a Bernoulli likelihood) live in [0, 1]; `to_unit` and `from_unit` lead from one range to the other.
"""

from jaxtyping import Float, Int, UInt8
from torch import Tensor

__all__ = ["Bytes", "Codes", "Images", "Labels", "Scalar", "Steps", "from_unit", "to_unit"]

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
