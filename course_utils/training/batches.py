"""Seeds and batches: what step k draws is a function of (seed, k)."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from .recipe import Recipe


def derive(seed: int, purpose: str, index: int) -> int:
    """A well-mixed seed. (PyTorch's CPU generator reads its lower 32 bits only: sums and shifts would collide.)"""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_global(device: torch.device, seed: int) -> None:
    """Seed what dropout draws from. (torch.manual_seed also seeds, now or later, every other GPU.)"""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def seed_step(generator: torch.Generator, seed: int, step: int) -> None:
    """Seed all that a step draws from: `generator`, and PyTorch's global one on the same device."""
    generator.manual_seed(derive(seed, "generator", step))
    seed_global(generator.device, derive(seed, "global", step))


@contextlib.contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Afterwards PyTorch's global random numbers go on as if nothing had been drawn inside."""
    kind = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type)
    where = (device,) if device.type == "cuda" else ()
    cpu, there = torch.get_rng_state(), kind.get_rng_state(*where) if kind else None
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        if kind:
            kind.set_rng_state(there, *where)


@functools.lru_cache(maxsize=2)  # two, since a batch may lie across the border of two epochs
def _order(count: int, seed: int, epoch: int, device: torch.device) -> Int[Tensor, " count"]:
    generator = torch.Generator().manual_seed(derive(seed, "order", epoch))  # a CPU one: the same order on every device
    return torch.randperm(count, generator=generator).to(device)


def batch_indices(step: int, count: int, size: int, seed: int, device: torch.device) -> Int[Tensor, " size"]:
    """Which of `count` examples make batch `step`, from 0: the next `size` of an endless row of shuffled epochs.

    Every example comes once an epoch, and every batch is full, also where `size` doesn't divide `count`.

    >>> device = torch.device("cpu")
    >>> epoch = torch.cat([batch_indices(step, count=6, size=2, seed=0, device=device) for step in range(3)])
    >>> sorted(epoch.tolist())
    [0, 1, 2, 3, 4, 5]
    """
    pieces, position, missing = [], step * size, size
    while missing:
        epoch, offset = divmod(position, count)
        pieces.append(_order(count, seed, epoch, device)[offset : offset + missing])
        position, missing = position + len(pieces[-1]), missing - len(pieces[-1])
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


class Batches:
    """`batches(step) -> (x, y)` on the model's device, from an ImageSet, a tensor or a pair of tensors."""

    def __init__(self, data: Any, recipe: Recipe, device: torch.device):
        self.take, self.labels, what = _taker(data)
        if len(self.labels) == 0:
            raise ValueError("data: expected at least one example, got none")
        self.size, self.seed = min(recipe.batch_size, len(self.labels)), recipe.seed
        self.device, self.channels_last = device, recipe.channels_last
        self.name = f"{what}, {_fingerprint(self.take, self.labels)}"  # by which a checkpoint knows its data

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        index = batch_indices(step, len(self.labels), self.size, self.seed, self.labels.device)
        x = self.take(index).to(self.device, non_blocking=True)
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, self.labels[index].to(self.device, non_blocking=True)


def fingerprint(data: Any) -> str:
    """What tells examples from others, wherever they lie and whatever they are called: "40 of 1×28×28 (5f0c21d9)".

    >>> fingerprint(torch.zeros(4, 2))
    '4 of 2 (3622ea05)'
    """
    take, labels, _ = _taker(data)
    return _fingerprint(take, labels)


def _fingerprint(take: Callable, labels: Tensor) -> str:
    some = torch.linspace(0, len(labels) - 1, 8, device=labels.device).long()  # eight examples and their labels
    x, y = take(some).cpu(), labels[some].cpu()
    digest = hashlib.blake2b(x.float().contiguous().numpy().tobytes() + y.contiguous().numpy().tobytes(), digest_size=4)
    return f"{len(labels)} of {'×'.join(map(str, x.shape[1:]))} ({digest.hexdigest()})"


def _taker(data: Any) -> tuple[Callable, Tensor, str]:
    """How to take examples by index, the labels, and a name."""
    if hasattr(data, "take") and hasattr(data, "labels"):
        return data.take, data.labels, data.name
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    examples, labels = data if pair else (data, None)
    if not isinstance(examples, Tensor) or not isinstance(labels, (Tensor, type(None))) or examples.ndim == 0:
        raise TypeError(f"data: expected an ImageSet, a tensor or a pair (examples, labels), got {brief(data)}")
    if not examples.is_floating_point():
        raise TypeError(
            f"data: expected float examples, images in [-1, 1], got {examples.dtype}; use bytes / 127.5 - 1"
        )
    if labels is None:
        labels = torch.zeros(len(examples), dtype=torch.long, device=examples.device)
    if len(labels) != len(examples):
        raise ValueError(
            f"data: expected a label for each example, got {len(examples)} examples and {len(labels)} labels"
        )
    return examples.__getitem__, labels, "tensor"


def brief(value: Any) -> str:
    return (
        f"a tensor of shape {tuple(value.shape)}"
        if isinstance(value, Tensor)
        else f"{type(value).__name__} {value!r:.60}"
    )
