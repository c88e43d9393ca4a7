"""Where the numbers are computed, how precisely, and from which seed.

No seed is set globally: random numbers come from a `torch.Generator` that is passed. Weights, whose initialisers take
none, are made inside `with seeded(0):`, which leaves the global random state as it was.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch

__all__ = [
    "EFFORTS",
    "autocast",
    "generator",
    "generators",
    "has_bfloat16",
    "pick_device",
    "pick_effort",
    "pick_threads",
    "quiet",
    "seeded",
]

EFFORTS = {
    "smoke": "seconds: does everything run?",
    "cpu": "minutes on a laptop",
    "gpu": "the full run",
}


# ----------------------------------------------------------------------------------------------------------- the device


def pick_device(wanted: str | torch.device | None = None) -> torch.device:
    """The device to compute on: what was asked for, else COURSE_DEVICE, else a CUDA GPU, else the CPU.

    wanted: "cpu", "cuda", "cuda:1", "mps" (Apple's GPU, taken only when asked for: it has no float64).
    Raises ValueError where this machine hasn't got it.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    wanted = wanted or os.environ.get("COURSE_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps", "meta"):
        raise ValueError(f"device: expected 'cpu', 'cuda', 'cuda:1' or 'mps', got {str(wanted)!r}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device: {str(device)!r} was asked for, but PyTorch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA GPUs here; use 'cpu', or install PyTorch's CUDA build and a driver"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device: 'mps' was asked for, but PyTorch finds no Apple GPU here; use 'cpu'")
    return device


def pick_effort(device: torch.device | None = None, wanted: str | None = None) -> str:
    """How much to compute, "smoke", "cpu" or "gpu": what was asked for, else COURSE_EFFORT, else by the device.

    >>> pick_effort(torch.device("cpu"), wanted="smoke")
    'smoke'
    """
    source = "effort" if wanted else "COURSE_EFFORT"
    wanted = wanted or os.environ.get("COURSE_EFFORT", "").strip().lower()
    if not wanted:
        return "gpu" if (device or pick_device()).type == "cuda" else "cpu"
    if wanted not in EFFORTS:
        raise ValueError(f"{source}: expected smoke, cpu or gpu, got {wanted!r}; unset it to let the machine decide")
    return wanted


# ---------------------------------------------------------------------------------------------------------- the threads


def pick_threads() -> int:
    """How many threads to compute with: what PyTorch proposes, but no more than this process may really use.

    In a container that may use 2 of a server's 64 cores PyTorch starts 64 threads, which then wait for each other.
    Counts the cores that the process is allowed on and the container's share of time (Linux control groups). Where
    OMP_NUM_THREADS or MKL_NUM_THREADS is set, that choice stands.
    """
    proposed = torch.get_num_threads()
    if os.environ.get("OMP_NUM_THREADS") or os.environ.get("MKL_NUM_THREADS"):
        return proposed
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cpu_share()
    return max(1, min(proposed, allowed, math.ceil(share) if share else allowed))


def cpu_share(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores' worth of time that this container may use, such as 2.0; None where there is no such limit."""
    with contextlib.suppress(OSError, ValueError, IndexError, ZeroDivisionError):
        quota, period = (root / "cpu.max").read_text().split()[:2]  # version 2 of control groups
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        return None if quota <= 0 else quota / int((root / "cpu" / "cpu.cfs_period_us").read_text())
    return None


# -------------------------------------------------------------------------------------------------------- the precision


@functools.cache
def has_bfloat16(kind: str = "cpu") -> bool:
    """Whether this kind of device ("cpu" or "cuda") has bfloat16 in hardware.

    Emulated, bfloat16 is several times slower than float32, so it is worth asking.
    """
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8
    if kind != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    # x86: AVX512-BF16 or AMX, measured to help. ARM has a `bf16` too; nobody has measured it yet.
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: str | torch.device, enabled: bool | None = None) -> contextlib.AbstractContextManager:
    """A context for forward passes: products in bfloat16 where the hardware has it, else plain float32.

    enabled: None (where it helps), True (always) or False (never). Weights stay float32; so do sums and losses.

    >>> with autocast("cpu", enabled=False):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    kind = torch.device(device).type
    if enabled is None:
        enabled = has_bfloat16(kind)
    return torch.autocast(kind, dtype=torch.bfloat16) if enabled else contextlib.nullcontext()


# ------------------------------------------------------------------------------------------------------------ the seeds


def generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A random generator to pass to whatever draws numbers: same seed and device, same numbers.

    CPU and GPU give different numbers for one seed.

    >>> a, b = (torch.randn(3, generator=generator(0)) for _ in range(2))
    >>> torch.equal(a, b)
    True
    """
    _check_seed(seed)
    return torch.Generator(device=pick_device(device)).manual_seed(seed)


def generators(seed: int, n: int, first: int = 0) -> list[torch.Generator]:
    """One random generator for each of n images: what image k is made of depends on (seed, k) and on nothing else.

    Not on how many are drawn, nor on how many at a time: image 300 is the first of `generators(seed, 100, first=300)`.
    They draw on the CPU, the same numbers for every device.

    >>> few, many = generators(0, 2), generators(0, 5)
    >>> torch.equal(torch.randn(3, generator=few[1]), torch.randn(3, generator=many[1]))
    True
    """
    _check_seed(seed)
    # Well mixed, so that seeds don't overlap; then consecutive, so that no two images of a seed are the same: PyTorch's
    # CPU generator reads the lower 32 bits.
    start = int.from_bytes(hashlib.blake2b(f"images/{seed}".encode(), digest_size=4).digest(), "big")
    return [torch.Generator().manual_seed((start + k) % 2**32) for k in range(first, first + n)]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, PyTorch's global random numbers start from `seed`; afterwards they go on as if nothing had happened.

    For weights, whose initialisers draw from the global state:

    >>> with seeded(0): a = torch.nn.Linear(2, 2)
    >>> with seeded(0): b = torch.nn.Linear(2, 2)
    >>> torch.equal(a.weight, b.weight)
    True
    """
    _check_seed(seed)
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=gpus):
        # Not torch.manual_seed, which also seeds, for later, GPUs that nobody has used yet.
        torch.default_generator.manual_seed(seed)
        if gpus:
            torch.cuda.manual_seed_all(seed)
        yield


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed: expected a whole number, got {seed!r}")


def quiet() -> bool:
    """Whether to hide progress bars: in CI, under nbgrader (any stderr costs points there), or on request.

    Set CI, NBGRADER_EXECUTION or COURSE_QUIET in the environment; empty, 0, false and no count as unset.
    """
    told = [os.environ.get(name, "").lower() for name in ("CI", "COURSE_QUIET", "NBGRADER_EXECUTION")]
    return any(value not in ("", "0", "false", "no") for value in told)
