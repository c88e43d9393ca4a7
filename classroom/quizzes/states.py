"""What can be seen of an argument from outside, so that it shows whether a call has changed it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from .raw import LONGEST_TEXT


def state(value: Any) -> dict:
    """... in a few plain words: two that are equal have not been changed.

    >>> x = torch.ones(2)
    >>> state(x) == state(x.clone()), state(x) == state(2 * x)
    (True, False)
    """
    found: dict[str, Any] = {"values": _digest(value), "has gradients": False, "wants gradients": [], "training": []}
    for tensor in value.parameters() if isinstance(value, torch.nn.Module) else [value]:
        if type(tensor) in (torch.Tensor, torch.nn.Parameter):
            found["wants gradients"].append(tensor.requires_grad)
            found["has gradients"] |= tensor.is_leaf and tensor.grad is not None
    if isinstance(value, torch.nn.Module):
        found["training"] = [module.training for module in value.modules()]
    return found


def _digest(value: Any) -> str:
    """Changes with every number in it: of a network its weights and buffers, of an object the tensors that it holds."""
    digest = hashlib.sha256()
    for leaf in _leaves(_parts(value)):
        digest.update(_bytes_of(leaf) if isinstance(leaf, torch.Tensor) else repr(leaf)[:LONGEST_TEXT].encode())
    return digest.hexdigest()[:16]


def _parts(value: Any) -> Any:
    if isinstance(value, torch.nn.Module):
        return dict(value.state_dict())
    if isinstance(value, torch.Tensor) or not hasattr(value, "__dict__"):
        return value
    return None if callable(value) else vars(value)


def _bytes_of(tensor: torch.Tensor) -> bytes:
    about = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    if tensor.is_meta or tensor.layout is not torch.strided or not tensor.numel():
        return about
    return about + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _leaves(value: Any) -> Iterator[Any]:
    if type(value) in (tuple, list, dict):
        yield len(value)
        for item in value.values() if type(value) is dict else value:
            yield from _leaves(item)
    elif isinstance(value, torch.Tensor) or type(value) in (bool, int, float, str):
        yield value
