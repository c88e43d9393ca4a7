"""The arrays of the course and their names: what a shape means, and which range its numbers have.

Images are float tensors (b, c, h, w) in [-1, 1]: a batch of b images with c channels, h rows and w columns. Pixel
*probabilities* (of a Bernoulli likelihood) live in [0, 1]; `to_unit` leads from the one range to the other.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

__all__ = [
    "Bytes",
    "Generators",
    "Images",
    "Labels",
    "at_least_float32",
    "check_labels",
    "check_same_shape",
    "is_whole",
    "normal_like",
    "to_unit",
]

Images = Float[Tensor, "b c h w"]  # a batch of images in [-1, 1]
Bytes = UInt8[Tensor, "n c h w"]  # images as they are stored: 0 is black, 255 is white
Labels = Int[Tensor, " n"]  # one class index per image, int64
Generators = torch.Generator | Sequence[torch.Generator]  # one for all images, or one for each


def to_unit(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Pixels in [-1, 1] as numbers in [0, 1]: (x + 1) / 2. Any shape; nothing is clipped.

    >>> import torch
    >>> to_unit(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    return (x + 1) / 2


def at_least_float32(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Half precision becomes float32; float32 and float64 stay what they are.

    >>> import torch
    >>> at_least_float32(torch.ones(2, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def normal_like(x: Float[Tensor, "..."], generator: Generators | None = None) -> Float[Tensor, "..."]:
    """Standard normal noise with the shape, type and device of x, drawn from the generator that you pass.

    One seed gives the same numbers however x lies in memory (channels last, or a view). With a list of generators, one
    for each image (`device.generators`), an image's noise doesn't depend on how many others there are; it is drawn
    where they are and brought to where x is. Raises ValueError unless the list is as long as x.

    >>> import torch
    >>> normal_like(torch.zeros(2, 3), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3])
    """
    if not isinstance(generator, Sequence):
        return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    if len(generator) != len(x):
        raise ValueError(f"generator: expected one for each of {len(x)} images, got a list of {len(generator)}.")
    each = [torch.randn(x.shape[1:], generator=one, dtype=x.dtype, device=one.device) for one in generator]
    return torch.stack(each).to(x.device) if each else torch.empty_like(x)


def check_same_shape(who: str, **tensors: Tensor) -> None:
    """Raises ValueError, in the name of the function `who`, unless all tensors have one shape.

    >>> import torch
    >>> check_same_shape("add_noise", x0=torch.zeros(2, 3), noise=torch.zeros(2, 3))
    """
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{who} expects tensors of one shape, got {got}; a missing channel axis is the usual reason.")


def check_labels(who: str, y: Tensor, n: int, highest: int) -> None:
    """Raises ValueError, in the name of `who`, unless y is (n,) whole numbers (int32 or int64) in 0..highest.

    On a GPU the numbers themselves aren't looked at: every call would wait for it.

    >>> import torch
    >>> check_labels("UNet", torch.tensor([0, 10]), 2, highest=10)
    """
    if not isinstance(y, Tensor) or y.dtype not in (torch.int64, torch.int32) or y.shape != (n,):
        got = f"{y.dtype} of {tuple(y.shape)}" if isinstance(y, Tensor) else repr(y)
        raise ValueError(f"{who}: expected labels y, integers of shape ({n},), one per image, got {got}.")
    if y.device.type == "cpu" and y.numel() and (y.min() < 0 or y.max() > highest):
        raise ValueError(f"{who}: expected labels in 0..{highest}, got {y.min()}..{y.max()}.")


def is_whole(value: Any, least: int | None = None) -> bool:
    """Is this a whole number, of at least `least`? True and False are none, though Python counts them as 1 and 0.

    >>> is_whole(3, least=1), is_whole(0, least=1), is_whole(2.0), is_whole(True)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)
