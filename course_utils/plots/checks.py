"""What comes in, checked once: numbers, images, names, extents; one clear line for whatever is wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

Number = int | float


def as_numbers(values: Any, name: str, axes: tuple[str | int, ...] | None = None, gaps: bool = False) -> np.ndarray:
    """Any numbers as a float64 array; one clear line if there are none, or (without `gaps`) if some are not finite.

    axes: the shape that is expected, such as ("rows", "columns", 2), where words stand for any size.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected numbers, got {type(values).__name__} ({error})") from None
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one value, got none (shape {array.shape})")
    if axes is not None:
        fits = [size == axis or isinstance(axis, str) for size, axis in zip(array.shape, axes)]
        if array.ndim != len(axes) or not all(fits):
            raise ValueError(f"{name}: expected ({', '.join(map(str, axes))}), got shape {array.shape}")
    bad = int((~np.isfinite(array)).sum())
    if bad and not gaps:
        raise ValueError(
            f"{name}: expected finite numbers, got {bad} NaN or infinite of {array.size}; look where they arise"
        )
    return array


def as_pixels(images: Any, name: str = "images", axes: str = "n, c, h, w") -> np.ndarray:
    """Images (..., c, h, w) in [-1, 1], checked, as float (..., h, w, c) in [0, 1]; what lies beyond is clipped."""
    if not isinstance(images, torch.Tensor | np.ndarray):
        raise TypeError(f"{name}: expected a tensor ({axes}), got {type(images).__name__}")
    missing = axes.count(",") + 1 - images.ndim
    if missing:
        hint = "; add the missing axis with x[None] or x.unsqueeze(1)" if missing > 0 else ""
        raise ValueError(f"{name}: expected ({axes}), got shape {tuple(images.shape)}{hint}")
    if images.shape[-3] not in (1, 3):
        shape = f"shape {tuple(images.shape)} read as ({axes})"
        raise ValueError(f"{name}: expected 1 (grey) or 3 (colour) channels, got {shape}")
    if "float" not in str(images.dtype):
        raise TypeError(f"{name}: expected floats in [-1, 1], got {images.dtype}; bytes become floats by x / 127.5 - 1")
    array = as_numbers(images, name)
    if np.abs(array).max() > 16:
        found = f"{array.min():.3g} to {array.max():.3g}"
        raise ValueError(f"{name}: expected values in [-1, 1], got {found}; bytes become floats by x / 127.5 - 1")
    return np.moveaxis(np.clip((array + 1) / 2, 0, 1), -3, -1)


def as_pair(pair: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The x and y of a curve, (n,) each; gaps are allowed."""
    try:
        x, y = pair
    except (TypeError, ValueError):
        raise TypeError(f'"{name}": expected a pair (x values, y values), got {type(pair).__name__}') from None
    x, y = as_numbers(x, f'x of "{name}"', gaps=True), as_numbers(y, f'y of "{name}"', gaps=True)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f'"{name}": expected x and y of one length, got shapes {x.shape} and {y.shape}')
    return x, y


def named(series: Any, name: str) -> dict[str, Any]:
    """A dictionary with at least one entry, its keys as words."""
    if not isinstance(series, Mapping) or not series:
        raise TypeError(f'{name}: expected a dictionary {{"name": values}} with at least one entry, got {series!r:.60}')
    return {str(key): value for key, value in series.items()}


def known(names: Iterable[str], among: Collection[str], what: str) -> None:
    """Raises ValueError unless all names are among those of the picture."""
    if set(names) - set(among):
        raise ValueError(f"{what}: expected names among {list(among)}, got {sorted(set(names) - set(among))}")


def sides(extent: Sequence[Number]) -> tuple[float, ...]:
    """The extent (left, right, bottom, top) of a plane as floats."""
    if len(extent) != 4 or not (extent[0] < extent[1] and extent[2] < extent[3]):
        raise ValueError(f"extent: expected (low, high, low, high) with low < high, got {tuple(extent)}")
    return tuple(float(side) for side in extent)
