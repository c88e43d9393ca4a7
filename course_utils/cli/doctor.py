"""What this machine has for the course, and what to do about what it lacks.

`python -m course_utils doctor` in a terminal, `doctor()` as the last line of a notebook's cell.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import torch

from .. import __version__, device, notebook
from ..data import data_root, where
from ..data.sets import SETS

GIB = 1 << 30
OLDEST_PYTHON, OLDEST_TORCH = (3, 11), (2, 4)
LITTLE_MEMORY = 3 * GIB  # a notebook's kernel, the browser and the system
LITTLE_DISK = GIB // 4  # all data sets are 43 MB; checkpoints and notebooks come on top
MARKS = {"ok": "✓", "note": "·", "problem": "✗"}
WORDS = {"ok": "in order", "note": "note", "problem": "problem"}  # for screen readers

Found = str | tuple[str, ...]  # what a look found, or that, "note" or "problem", and advice


@dataclass(frozen=True)
class Finding:
    """One line of the report. state: "ok", "note" (works, could be better) or "problem"; advice: what to do."""

    subject: str
    found: str
    state: str = "ok"
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """All findings. Prints as text, shows as a table in a notebook; `ok` is False where something is a problem."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.state != "problem" for finding in self.findings)

    @property
    def summary(self) -> str:
        problems = sum(finding.state == "problem" for finding in self.findings)
        return "Everything is there." if self.ok else f"{problems} problem{'s' * (problems != 1)}: see what to do."

    def __str__(self) -> str:
        width = max(len(finding.subject) for finding in self.findings)
        lines = []
        for finding in self.findings:
            lines.append(f"{MARKS[finding.state]} {finding.subject:{width}}  {finding.found}")
            if finding.advice:
                lines.append(f"  {'':{width}}  → {finding.advice}")
        return "\n".join([*lines, self.summary])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(map(_row, self.findings))
        head = "<tr><th></th><th style='text-align:left'>What</th><th style='text-align:left'>Found</th></tr>"
        return (
            "<table style='font-size:100%'><caption style='text-align:left; caption-side:bottom; padding-top:.5em'>"
            f"<b>{html.escape(self.summary)}</b></caption><thead>{head}</thead><tbody>{rows}</tbody></table>"
        )


def _row(finding: Finding) -> str:
    advice = f"<br><b>What to do:</b> {html.escape(finding.advice)}" if finding.advice else ""
    cell = "<td style='text-align:left; vertical-align:top'>"
    return (
        f"<tr>{cell}<span role='img' aria-label='{WORDS[finding.state]}'>{MARKS[finding.state]}</span></td>"
        f"{cell}{html.escape(finding.subject)}</td>{cell}{html.escape(finding.found)}{advice}</td></tr>"
    )


def doctor() -> Report:
    """Look at everything that the course needs. Never raises: what can't be found out is itself a finding.

    >>> report = doctor()
    >>> [finding.subject for finding in report.findings][:3]
    ['course', 'Python', 'PyTorch']
    """
    return Report(tuple(_finding(subject, look) for subject, look in LOOKS.items()))


def _finding(subject: str, look: Callable[[], Found]) -> Finding:
    try:
        found = look()
    except Exception as error:
        return Finding(subject, f"could not be found out: {type(error).__name__}: {error}", "problem")
    return Finding(subject, *([found] if isinstance(found, str) else found))


def short(path: str | Path) -> str:
    """A path as seen from here where it is near, else from home, else in full: reports end up in notebooks."""
    path, home = str(Path(path).absolute()), str(Path.home())
    ways = [f"~{path[len(home) :]}"] if path.startswith(home + os.sep) else []
    with contextlib.suppress(ValueError):  # on Windows there is no way from one drive to another
        ways += [way for way in [os.path.relpath(path)] if way.split(os.sep).count(os.pardir) <= 2]
    return min(ways, key=len, default=path)


# ------------------------------------------------------------------------------------------------------------ the looks


def _course() -> str:
    return f"course_utils {__version__} in {short(Path(__file__).parent)}"


def _python() -> Found:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {short(sys.executable)}"
    if sys.version_info < OLDEST_PYTHON:
        return found, "problem", "install Python 3.11 or newer, then make lab"
    return found


def _torch() -> Found:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        return torch.__version__, "problem", "pip install -r requirements.txt"
    return torch.__version__


def _device() -> Found:
    try:
        chosen = device.pick_device()
    except ValueError as error:
        return str(error), "problem", "unset COURSE_DEVICE, or set it to cpu"
    found = notebook.describe(chosen, device.pick_threads()).split(",")[0]
    if chosen.type == "cuda":
        free, total = torch.cuda.mem_get_info(chosen)
        return f"{found}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if shutil.which("nvidia-smi"):
        advice = "PyTorch doesn't see the NVIDIA GPU: install its CUDA build (pytorch.org), then restart the kernel"
        return found, "note", advice
    return found


def _bfloat16() -> Found:
    try:
        kind = device.pick_device().type
    except ValueError:  # the device's own line says what is wrong
        kind = "cpu"
    if device.has_bfloat16(kind):
        return "yes: training uses it"
    return "no: training runs in float32, which takes longer", "note"


def _threads() -> Found:
    threads, cores = device.pick_threads(), os.cpu_count() or 1
    found = f"{threads} of {cores} cores"
    if threads == 1 and cores > 1:
        return found, "note", "unset OMP_NUM_THREADS, or ask for more cores, if you may use more"
    return found


def _effort() -> Found:
    try:
        effort = device.pick_effort()
    except ValueError as error:
        return str(error), "problem", "unset COURSE_EFFORT, or set it to smoke, cpu or gpu"
    return f"{effort}: {device.EFFORTS[effort]} (COURSE_EFFORT changes it)"


def _memory() -> Found:
    total, free = memory()
    found = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if free < LITTLE_MEMORY:
        return found, "note", "close other notebooks (Kernel, Shut Down All) or programs before you train"
    return found


def memory() -> tuple[int, int]:
    """(total, free) bytes for this process, a container's limit counted."""
    system = psutil.virtual_memory()
    total, free = system.total, system.available
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
            bound, taken = (int(Path("/sys/fs/cgroup", name).read_text()) for name in (limit, used))
            if bound < total:
                total, free = bound, min(free, max(0, bound - taken))
    return total, free


def _disk(folder: Path) -> Found:
    present = next(p for p in [folder, *folder.resolve().parents] if p.exists())
    free = shutil.disk_usage(present).free
    found = f"{free / GIB:.1f} GiB free in {short(folder)}"
    if free < LITTLE_DISK:
        return found, "problem", "free some space: checkpoints and data may not fit"
    return found


def _data_folder() -> Found:
    root, shared = data_root(), os.environ.get("COURSE_DATA", "").strip()
    found = f"{short(root)} ({'COURSE_DATA' if shared else 'your own cache; COURSE_DATA names a shared one'})"
    if shared and not root.is_dir():
        return found, "problem", "COURSE_DATA names a folder that doesn't exist: correct it, make it, or unset it"
    return found


def _data(name: str) -> Found:
    place = where()[name]
    if place == "not here yet":
        advice = "comes by itself at its first use, given a network; without one the course goes on with digits"
        return place, "note", advice if name == "fashion-mnist" else ""
    return short(place) if Path(place).is_dir() else place


def _widgets() -> Found:
    try:
        return f"ipywidgets {importlib.metadata.version('ipywidgets')}"
    except importlib.metadata.PackageNotFoundError:
        advice = (
            "pip install -r requirements.txt, then restart JupyterLab; until then pictures are shown without controls"
        )
        return "ipywidgets is not installed", "problem", advice


LOOKS: dict[str, Callable[[], Found]] = {
    "course": _course,
    "Python": _python,
    "PyTorch": _torch,
    "device": _device,
    "bfloat16": _bfloat16,
    "threads": _threads,
    "effort": _effort,
    "memory": _memory,
    "disk, working folder": lambda: _disk(Path.cwd()),
    "disk, data": lambda: _disk(data_root()),
    "data folder": _data_folder,
    **{f"data: {name}": partial(_data, name) for name in SETS},
    "widgets": _widgets,
}


def run(arguments: argparse.Namespace) -> int:
    """The command `doctor`: print the report; returns 1 if something needs to be done."""
    report = doctor()
    print(report)
    return 0 if report.ok else 1
