"""Reading a network: how far it sees, what passes through it, and what that costs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


class Stage(NamedTuple):
    """One part of a network: its name, the shape of what it gives (without the batch), its weights, its cost.

    multiply_adds: multiplications, each with its addition, for one example.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def receptive_field(layers: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """How many input pixels in a row one output pixel sees, and how far apart two neighbours look: equation (4.1).

    layers: (kernel, stride) of each, in order. Returns (field, jump), in input pixels.

    >>> receptive_field([(3, 1), (3, 1), (3, 2), (3, 1)])
    (11, 2)
    """
    field = jump = 1
    for kernel, stride in layers:
        if kernel < 1 or stride < 1:
            raise ValueError(
                f"receptive_field expects (kernel, stride) of whole numbers above 0, got {(kernel, stride)}"
            )
        field, jump = field + (kernel - 1) * jump, jump * stride
    return field, jump


def conv_multiply_adds(size: tuple[int, int], before: int, after: int, kernel: int, groups: int = 1) -> int:
    """Multiplications of a convolution for one image: h · w · k² · before · after / groups, equation (4.6).

    size: (h, w) of what comes out;  before, after: channels;  groups: 1, or `before` for one kernel a channel.

    >>> conv_multiply_adds((14, 14), 32, 32, kernel=3)
    1806336
    """
    if before % groups or after % groups:
        raise ValueError(f"conv_multiply_adds expects groups that divide {before} and {after} channels, got {groups}")
    return size[0] * size[1] * kernel**2 * before * after // groups


def stages(model: nn.Module, *inputs: Any) -> list[Stage]:
    """The parts of a network in the order in which they compute; lists of modules count as their members.

    inputs: what the model is called with, a batch of any size first. Only matrix products and convolutions are counted.

    >>> [stage.name for stage in stages(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), torch.zeros(1, 1, 5, 7))]
    ['0', '1']
    """
    found: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def watch(name: str, module: nn.Module) -> Any:
        return module.register_forward_hook(
            lambda module, given, output: found.append((name, module, tuple(output.shape[1:])))
        )

    hooks = [watch(name, module) for name, module in _parts(model)]
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    counts, root = counter.get_flop_counts(), type(model).__name__
    batch = next(len(x) for x in inputs if isinstance(x, Tensor))
    rows = []
    for name, module, shape in found:
        operations = sum(counts.get(f"{root}.{name}", {}).values())  # a multiplication and its addition count as two
        weights = sum(weight.numel() for weight in module.parameters())
        rows.append(Stage(name, shape, weights, operations // 2 // batch))
    return rows


def _parts(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    rows = []
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            rows += _parts(child, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, child))
    return rows
