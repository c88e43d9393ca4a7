"""What a notebook costs: seconds and peak memory, kept in solutions/budgets.json, which fills the table at its head."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import torch

from course_utils.device import has_bfloat16
from course_utils.files import write_whole

# Runs in the notebook's own kernel after its last cell: the kernel knows best how much it held at most.
PEAK = """\
import json as _json, sys as _sys, torch as _torch
try:
    import resource as _resource
    _unit = 1 if _sys.platform == "darwin" else 1024
    _peak = _resource.getrusage(_resource.RUSAGE_SELF).ru_maxrss * _unit
except ImportError:  # Windows
    import psutil as _psutil
    _peak = _psutil.Process().memory_info().peak_wset
_gpu = _torch.cuda.max_memory_allocated() if _torch.cuda.is_available() else 0
print(_json.dumps({"peak": _peak, "gpu": _gpu}))"""


def cost(seconds: float, said: str, data: str) -> dict[str, Any]:
    """One entry of the budgets: seconds on the clock, what the cell PEAK printed, and on which data and machine."""
    peak = json.loads(said)
    result = {"seconds": round(seconds, 1), "peak_mb": round(peak["peak"] / 1e6), "machine": machine(), "data": data}
    if peak["gpu"]:
        result["gpu_mb"] = round(peak["gpu"] / 1e6)
    return result | {"date": date.today().isoformat()}


def machine() -> str:
    """What the seconds depend on most: the GPU's name, or the number of cores and whether they compute in bfloat16."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores" if has_bfloat16("cpu") else f"{cores} cores, no bfloat16"


def record(budgets: Path, stem: str, effort: str, entry: dict[str, Any]) -> None:
    """Put one entry into the file; all others stay as they are."""
    table = json.loads(budgets.read_text(encoding="utf-8")) if budgets.exists() else {}
    table.setdefault(stem, {})[effort] = entry
    write_whole(budgets, (json.dumps(table, indent=1, sort_keys=True) + "\n").encode())
