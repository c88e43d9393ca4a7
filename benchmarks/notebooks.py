"""Seconds and peak memory of every notebook at every effort.

    python benchmarks/notebooks.py                          all notebooks, smoke and cpu
    python benchmarks/notebooks.py 01 02 --effort gpu       two of them, on a GPU

Runs the solved notebooks from top to bottom, each in a fresh kernel, one after the other, and writes what it measured
to solutions/budgets.json, from which the build fills the table at the head of each notebook. Close all else first.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import tempfile
import time
from datetime import date
from pathlib import Path

import nbformat
import torch
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
BUDGETS = ROOT / "solutions" / "budgets.json"

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


def measure(path: Path, effort: str, data: str) -> dict:
    """Run one notebook; seconds (kernel start included), peak memory in MB, and on what. Raises what a cell raises."""
    nb = copy.deepcopy(nbformat.read(path, as_version=4))
    nb.cells.append(nbformat.v4.new_code_cell(PEAK))
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
        env = os.environ | {"COURSE_EFFORT": effort, "COURSE_DATASET": data}
        quiet = ["--log-level=ERROR"]  # the kernel's own log
        place = {"metadata": {"path": folder}}
        client = NotebookClient(nb, timeout=3600, kernel_name="python3", resources=place, extra_arguments=quiet)
        started = time.perf_counter()
        client.execute(env=env)
        seconds = time.perf_counter() - started
    peak = json.loads(nb.cells[-1].outputs[0].text)
    result = {"seconds": round(seconds, 1), "peak_mb": round(peak["peak"] / 1e6), "machine": machine(), "data": data}
    if peak["gpu"]:
        result["gpu_mb"] = round(peak["gpu"] / 1e6)
    return result | {"date": date.today().isoformat()}


def machine() -> str:
    """What the seconds depend on most: the GPU's name, or the number of processor cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores"


def main() -> None:
    """Measure, print a table, and write the budgets after each notebook (an interrupted run keeps what it has)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("numbers", nargs="*", metavar="NN", help="notebook numbers; all when none is given")
    parser.add_argument("--effort", nargs="+", choices=("smoke", "cpu", "gpu"), default=["smoke", "cpu"])
    parser.add_argument("--data", default="fashion-mnist")
    arguments = parser.parse_args()
    wanted = {n.zfill(2) for n in arguments.numbers}
    print("| notebook | effort | data | seconds | peak memory (MB) | machine |\n|---|---|---|---|---|---|")
    for path in sorted((ROOT / "solutions").glob("[0-9][0-9]_*.ipynb")):
        if wanted and path.stem[:2] not in wanted:
            continue
        for effort in arguments.effort:
            row = measure(path, effort, arguments.data)
            print(
                f"| {path.stem} | {effort} | {row['data']} | {row['seconds']} | {row['peak_mb']} | {row['machine']} |",
                flush=True,
            )
            budgets = json.loads(BUDGETS.read_text(encoding="utf-8")) if BUDGETS.exists() else {}
            budgets.setdefault(path.stem, {})[effort] = row
            BUDGETS.write_text(json.dumps(budgets, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
