"""What an answer gave, as plain data in which nothing of a student's is left that could still answer for itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

LARGEST_OUTPUT = 5_000_000  # elements of one array that are kept; of a larger one, only shape and type
MOST_LEAVES = 10_000  # values in one nested output
DEEPEST = 20  # levels of nesting
LONGEST_TEXT = 2_000  # characters kept of a string, a message, or what was printed


@dataclass(frozen=True)
class Array:
    """A tensor as it came out: what it was, and its numbers as float64, int64, bool or complex128.

    data is None where the tensor was too large to keep.
    """

    dtype: str
    shape: tuple[int, ...]
    device: str
    data: np.ndarray | None


@dataclass(frozen=True)
class Unsupported:
    """Anything that is not a tensor, a number, text, None, or a tuple, list or dict of these: its type's name."""

    kind: str
    detail: str = ""


def to_raw(value: Any) -> Any:
    """An output as plain data: Array, numbers, text, None, tuples, lists and dicts of these, or Unsupported.

    Types are taken exactly (a subclass of a tensor or of float could answer any comparison as it likes), and no method
    of the value's own is called.

    >>> to_raw((torch.tensor([1.0, 2.0]), 3))[0].shape
    (2,)
    >>> to_raw(object())
    Unsupported(kind='object', detail='')
    """
    return _to_raw(value, [MOST_LEAVES], 0)


def _to_raw(value: Any, left: list[int], depth: int) -> Any:
    left[0] -= 1
    kind = type(value)
    if _is_tuple(kind):
        value, kind = tuple(tuple.__iter__(value)), tuple
    if left[0] < 0 or depth > DEEPEST:
        return Unsupported("too much", "more nested values than any answer needs")
    if kind is torch.Tensor:
        return _array(value)
    if kind is int and value.bit_length() > 1_000:
        return Unsupported("int", "a number of more than 300 digits")
    if kind is str:
        return value[:LONGEST_TEXT]
    if value is None or kind in (bool, int, float):
        return value
    if kind in (tuple, list, dict) and len(value) > left[0]:
        left[0] = 0
        return Unsupported("too much", "more values than any answer needs")
    if kind in (tuple, list):
        return kind(_to_raw(item, left, depth + 1) for item in value)
    if kind is dict:
        return {
            str(key)[:100] if type(key) in (str, int) else "?": _to_raw(v, left, depth + 1) for key, v in value.items()
        }
    return Unsupported("Ellipsis" if value is Ellipsis else kind.__name__[:100])


def _is_tuple(kind: type) -> bool:
    """Whether it is a tuple by nature: itself, a `torch.Size`, or a NamedTuple such as the library's own results."""
    return kind in (tuple, torch.Size) or (kind.__bases__ == (tuple,) and "_fields" in vars(kind))


def _array(tensor: torch.Tensor) -> Any:
    with torch.no_grad():
        if torch.Tensor.__getattribute__(tensor, "layout") is not torch.strided:
            return Unsupported("Tensor", "a sparse tensor")
        if tensor.is_nested or tensor.is_quantized:
            return Unsupported("Tensor", "a nested tensor" if tensor.is_nested else "a quantized tensor")
        shape = tuple(torch.Tensor.size(tensor))
        dtype = str(tensor.dtype).removeprefix("torch.")
        device = tensor.device.type
        data = None
        if math.prod(shape) <= LARGEST_OUTPUT and device != "meta":
            plain = torch.Tensor.cpu(torch.Tensor.detach(tensor)).resolve_conj().resolve_neg()
            data = np.array(torch.Tensor.to(plain, _wide(plain)).numpy())
    return Array(dtype, shape, device, data)


def _wide(tensor: torch.Tensor) -> torch.dtype:
    if torch.is_floating_point(tensor):
        return torch.float64
    if torch.is_complex(tensor):
        return torch.complex128
    return torch.bool if tensor.dtype == torch.bool else torch.int64


def all_plain(raw: Any) -> bool:
    """Whether there is nothing in it that no answer may hold, such as a list of a million entries."""
    if isinstance(raw, tuple | list):
        return all(map(all_plain, raw))
    if isinstance(raw, dict):
        return all(map(all_plain, raw.values()))
    return not isinstance(raw, Unsupported)


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in what `to_raw` takes apart, in order."""
    if type(value) is torch.Tensor:
        yield value
    elif type(value) is list or _is_tuple(type(value)):
        for item in value if type(value) is list else tuple.__iter__(value):
            yield from tensors(item)
    elif type(value) is dict:
        for item in value.values():
            yield from tensors(item)
