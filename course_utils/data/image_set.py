"""A set of images in memory, ready to draw batches from."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from ..arrays import Bytes, Images, Labels, is_whole
from .sets import SETS


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images and their classes, resident on one device. Drawing a batch is one index operation; no workers, no waiting.

    images: (n, c, h, w) uint8, 0 black to 255 white.  labels: (n,) int64, indices into `classes`.  name: of the set.
    note: what a reader of a plot must know, such as "instead of Fashion-MNIST"; it is part of `title`.

    >>> images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
    >>> data = ImageSet(images, torch.tensor([0, 1]), ("black", "white"), "tiny")
    >>> data.take(torch.tensor([1, 0, 1])).flatten()
    tensor([ 1., -1.,  1.])
    >>> data
    tiny: 2 images of 1×1×1, 2 classes, on cpu
    """

    images: Bytes
    labels: Labels
    classes: tuple[str, ...]
    name: str
    note: str = ""

    def __post_init__(self):
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise TypeError(
                f"ImageSet: expected images as uint8 (n, c, h, w), got {images.dtype} {tuple(images.shape)}; "
                "bytes are ((x + 1) * 127.5).round().to(torch.uint8)"
            )
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise TypeError(
                f"ImageSet: expected labels as int64 ({len(images)},), got {labels.dtype} {tuple(labels.shape)}; "
                "give one class index for each image"
            )
        if labels.device != images.device:
            raise ValueError(f"ImageSet: images are on {images.device}, labels on {labels.device}; move them together")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            low, high = int(labels.min()), int(labels.max())
            raise ValueError(f"ImageSet: expected labels in 0..{len(self.classes) - 1}, got {low}..{high}")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        c, h, w = self.shape
        count = len(self.classes)
        classes = f"{count} class{'es' * (count != 1)}"
        return f"{self.title}: {len(self):,} images of {c}×{h}×{w}, {classes}, on {self.device}"

    @property
    def title(self) -> str:
        """The name for titles of plots: "Fashion-MNIST", or "digits (instead of Fashion-MNIST)"."""
        title = SETS[self.name].title if self.name in SETS else self.name
        return f"{title} ({self.note})" if self.note else title

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of one image."""
        return tuple(self.images.shape[1:])

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def x(self) -> Images:
        """All images as floats in [-1, 1]: four times the bytes, so for small sets. `take` gives a batch."""
        return _to_float(self.images)

    def take(self, index: Tensor | Sequence[int] | slice | int) -> Images:
        """The images at `index` as floats (b, c, h, w) in [-1, 1].

        index: integers (b,) as a tensor or list, a boolean mask (n,), a slice, or one integer (then b = 1).
        """
        if isinstance(index, Tensor):
            if index.dtype.is_floating_point or index.dtype == torch.uint8 or index.ndim > 1:  # bytes would be a mask
                raise TypeError(f"take: expected integers of shape (b,), got {index.dtype} {tuple(index.shape)}")
            index = index.reshape(1) if index.ndim == 0 else index
        elif not isinstance(index, slice):
            try:
                index = [operator.index(index)] if not isinstance(index, Sequence) else list(map(operator.index, index))
                index = torch.tensor(index, dtype=torch.long, device=self.device)
            except TypeError:
                raise TypeError(f"take: expected integers of shape (b,), got {index!r}") from None
        try:
            return _to_float(self.images[index])
        except IndexError:
            raise IndexError(f"take: expected indices below {len(self):,}, got {_brief(index)}") from None

    def first(self, n: int) -> ImageSet:
        """The first n images (all, if there are fewer)."""
        if not is_whole(n, least=1):
            raise ValueError(f"first: expected a whole number of at least 1, got {n!r}")
        return replace(self, images=self.images[:n], labels=self.labels[:n])

    def examples(self, n: int | None = None) -> list[int]:
        """Indices of one image of each class that has any, in the order of the classes; or of n different images.

        n: of more classes the first n; of fewer, the next images from the front (all there are, if fewer than n).

        >>> images = torch.zeros(4, 1, 1, 1, dtype=torch.uint8)
        >>> data = ImageSet(images, torch.tensor([1, 1, 0, 1]), ("cat", "dog"), "pets")
        >>> data.examples(), data.examples(3)
        ([2, 0], [2, 0, 1])
        """
        firsts = {label: i for i, label in reversed([*enumerate(self.labels.tolist())])}
        chosen = [firsts[label] for label in sorted(firsts)]
        others = (i for i in range(len(self)) if i not in firsts.values())
        return chosen if n is None else [*chosen, *islice(others, max(0, n - len(chosen)))][:n]

    def to(self, device: str | torch.device) -> ImageSet:
        """The same set on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


def _to_float(images: Bytes) -> Float[Tensor, "n c h w"]:
    return images.to(torch.float32).div_(127.5).sub_(1)


def _brief(index) -> str:
    if isinstance(index, Tensor) and index.dtype == torch.bool:
        return f"a mask for {len(index):,} images"
    return f"{int(index.min())} to {int(index.max())}" if isinstance(index, Tensor) and index.numel() else repr(index)
