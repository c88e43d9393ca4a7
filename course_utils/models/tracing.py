"""Reading a network: how far it sees, what passes through it, and what that costs."""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
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
    """Multiplications of a convolution for one image: h · w · k² · before · after / groups, equation (4.10).

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


def as_table(rows: Sequence[Stage]) -> str:
    """Stages as lines of text, each with its share of all multiplications, and their sums.

    >>> print(as_table([Stage("stem", (2, 4, 4), 20, 288), Stage("head", (1, 4, 4), 19, 96)]))
    stage            channels × h × w    weights    multiply-adds   share
    stem                    2 × 4 × 4         20              288     75%
    head                    1 × 4 × 4         19               96     25%
    all                                       39              384    100%
    """
    weights, work = sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)
    lines = [f"{'stage':16s}{'channels × h × w':>17s}{'weights':>11s}{'multiply-adds':>17s}{'share':>8s}"]
    for row in (*rows, Stage("all", (), weights, work)):
        shape = " × ".join(map(str, row.shape))
        share = f"{row.multiply_adds / max(work, 1):8.0%}"
        lines.append(f"{row.name:16s}{shape:>17s}{row.parameters:11,d}{row.multiply_adds:17,d}{share}")
    return "\n".join(lines)


def copies(model: nn.Module, *inputs: Any) -> list[tuple[str, str]]:
    """Which stage's result comes in again at a later one, past those in between: the skips, as pairs of names.

    inputs: as in `stages`. Found by the numbers: what comes in is compared with all that came out before, in a copy of
    the model whose weights are stirred (before training many parts hand on what they are given, and look alike).

    >>> from course_utils.models.unet import UNet
    >>> copies(UNet((1, 8, 8), widths=(4, 6)), torch.randn(1, 1, 8, 8), torch.tensor([5]))
    [('down.1.0', 'up.0.0'), ('down.0.0', 'up.1.0')]
    """
    model, found = copy.deepcopy(model), []
    generator = torch.Generator().manual_seed(0)
    made: list[tuple[str, Tensor]] = []

    def look(name: str) -> Callable:
        def hook(module: nn.Module, given: tuple, output: Tensor) -> None:
            for earlier, there in made[:-1]:
                if any(_holds(x, there) for x in given):
                    found.append((earlier, name))
            made.append((name, output))

        return hook

    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=generator).to(weight)
        weight.data += 0.1 * noise
    for name, module in _parts(model):
        module.register_forward_hook(look(name))
    with torch.no_grad():
        model(*inputs)
    return found


def _holds(x: Any, part: Tensor) -> bool:
    """Whether x is this earlier result, alone or as some of its channels."""
    if not isinstance(x, Tensor) or x.ndim != 4 or part.ndim != 4:
        return False
    if x.shape[-2:] != part.shape[-2:] or x.shape[1] < part.shape[1]:
        return False
    return torch.equal(x[:, -part.shape[1] :], part) or torch.equal(x[:, : part.shape[1]], part)


@contextlib.contextmanager
def watched(module: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, whatever the module gives is also appended to a list.

    >>> layer = nn.Linear(2, 3)
    >>> with watched(layer) as seen:
    ...     y = nn.Sequential(layer, nn.ReLU())(torch.ones(4, 2))
    >>> seen[0].shape
    torch.Size([4, 3])
    """
    seen: list[Tensor] = []
    hook = module.register_forward_hook(lambda module, given, output: seen.append(output))
    try:
        yield seen
    finally:
        hook.remove()


def milliseconds(work: Callable, *inputs: Any, repeats: int = 5) -> float:
    """The shortest of several calls of `work(*inputs)`, after one to warm up.

    On a CPU: the time of one core, whoever else computes; on a GPU: until it is done.

    >>> milliseconds(lambda x: x @ x, torch.ones(8, 8)) < 1000
    True
    """
    gpu = any(isinstance(x, Tensor) and x.is_cuda for x in inputs)
    clock, threads, best = time.perf_counter if gpu else time.thread_time, torch.get_num_threads(), math.inf
    try:
        torch.set_num_threads(threads if gpu else 1)
        for _ in range(repeats + 1):
            started = clock()
            work(*inputs)
            if gpu:
                torch.cuda.synchronize()
            best = min(best, 1000 * (clock() - started))
    finally:
        torch.set_num_threads(threads)
    return best


def _parts(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    rows = []
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            rows += _parts(child, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, child))
    return rows
