"""What this machine has for the course, and what to do about what it lacks.

`python -m course_utils doctor` in a terminal, `doctor()` as the last line of a notebook's cell.
"""

from __future__ import annotations

import contextlib
import html
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from . import __version__, device, notebook
from .data import data_root, where

GIB = 1 << 30
OLDEST_PYTHON, OLDEST_TORCH = (3, 11), (2, 4)
LITTLE_MEMORY = 3 * GIB  # a notebook's kernel, the browser and the system
LITTLE_DISK = GIB // 4  # all data sets are 43 MB; checkpoints and notebooks come on top
MARKS = {"ok": "✓", "note": "·", "problem": "✗"}


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
    words = {"ok": "in order", "note": "note", "problem": "problem"}[finding.state]
    advice = f"<br><b>What to do:</b> {html.escape(finding.advice)}" if finding.advice else ""
    cell = "<td style='text-align:left; vertical-align:top'>"
    return (
        f"<tr>{cell}<span role='img' aria-label='{words}'>{MARKS[finding.state]}</span></td>"
        f"{cell}{html.escape(finding.subject)}</td>{cell}{html.escape(finding.found)}{advice}</td></tr>"
    )


def doctor() -> Report:
    """Look at everything that the course needs. Never raises: what can't be found out is itself a finding.

    >>> report = doctor()
    >>> [finding.subject for finding in report.findings][:3]
    ['course', 'Python', 'PyTorch']
    """
    return Report(tuple(finding for subject, look in LOOKS.items() for finding in _findings(subject, look)))


def _findings(subject: str, look: Callable) -> list[Finding]:
    try:
        found = look()
    except Exception as error:
        return [Finding(subject, f"could not be found out: {type(error).__name__}: {error}", "problem")]
    return found if isinstance(found, list) else [found]


def short(path: str | Path) -> str:
    """A path as seen from here where it is near, else from home, else in full: reports end up in notebooks."""
    path, home = str(Path(path).absolute()), str(Path.home())
    ways = [f"~{path[len(home) :]}"] if path.startswith(home + os.sep) else []
    with contextlib.suppress(ValueError):  # on Windows there is no way from one drive to another
        ways += [way for way in [os.path.relpath(path)] if way.split(os.sep).count(os.pardir) <= 2]
    return min(ways, key=len, default=path)


# ------------------------------------------------------------------------------------------------------------ the looks


def _course() -> Finding:
    return Finding("course", f"course_utils {__version__} in {short(Path(__file__).parent)}")


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {short(sys.executable)}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("Python", found, "problem", "install Python 3.11 or newer, then make lab")
    return Finding("Python", found)


def _torch() -> Finding:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        return Finding("PyTorch", torch.__version__, "problem", "pip install -r requirements.txt")
    return Finding("PyTorch", torch.__version__)


def _device() -> Finding:
    try:
        chosen = device.pick_device()
    except ValueError as error:
        return Finding("device", str(error), "problem", "unset COURSE_DEVICE, or set it to cpu")
    found = notebook.describe(chosen, device.pick_threads()).split(",")[0]
    if chosen.type == "cuda":
        free, total = torch.cuda.mem_get_info(chosen)
        return Finding("device", f"{found}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
    if shutil.which("nvidia-smi"):
        return Finding(
            "device", found, "note",
            "PyTorch doesn't see the NVIDIA GPU: install its CUDA build (pytorch.org), then restart the kernel",
        )  # fmt: skip
    return Finding("device", found)


def _bfloat16() -> Finding:
    try:
        kind = device.pick_device().type
    except ValueError:  # the device's own line says what is wrong
        kind = "cpu"
    if device.has_bfloat16(kind):
        return Finding("bfloat16", "yes: training uses it")
    return Finding("bfloat16", "no: training runs in float32, which takes longer", "note")


def _threads() -> Finding:
    threads, cores = device.pick_threads(), os.cpu_count() or 1
    found = f"{threads} of {cores} cores"
    if threads == 1 and cores > 1:
        return Finding("threads", found, "note", "unset OMP_NUM_THREADS, or ask for more cores, if you may use more")
    return Finding("threads", found)


def _effort() -> Finding:
    try:
        effort = device.pick_effort()
    except ValueError as error:
        return Finding("effort", str(error), "problem", "unset COURSE_EFFORT, or set it to smoke, cpu or gpu")
    return Finding("effort", f"{effort}: {device.EFFORTS[effort]} (COURSE_EFFORT changes it)")


def _memory() -> Finding:
    total, free = memory()
    if total is None:
        return Finding("memory", "unknown on this system", "note")
    found = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if free < LITTLE_MEMORY:
        return Finding(
            "memory", found, "note", "close other notebooks (Kernel, Shut Down All) or programs before you train"
        )
    return Finding("memory", found)


def memory() -> tuple[int | None, int | None]:
    """(total, free) bytes for this process, a container's limit counted; (None, None) where the system doesn't say."""
    total, free = _system_memory()
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            bound = int(Path("/sys/fs/cgroup", limit).read_text())
            taken = int(Path("/sys/fs/cgroup", used).read_text())
        except (OSError, ValueError):  # no such group, or "max"
            continue
        if total is None or bound < total:
            total, free = bound, min(free if free is not None else bound, max(0, bound - taken))
    return total, free


def _system_memory() -> tuple[int | None, int | None]:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in meminfo.read_text().splitlines()}
        return sizes["MemTotal"], sizes.get("MemAvailable", sizes["MemFree"])
    if importlib.util.find_spec("psutil"):  # comes with JupyterLab's kernel; macOS and Windows need it
        import psutil

        return psutil.virtual_memory().total, psutil.virtual_memory().available
    return None, None


def _disk() -> list[Finding]:
    findings = []
    for subject, folder in {"disk, working folder": Path.cwd(), "disk, data": data_root()}.items():
        present = next(p for p in [folder, *folder.resolve().parents] if p.exists())
        free = shutil.disk_usage(present).free
        found = f"{free / GIB:.1f} GiB free in {short(folder)}"
        little = free < LITTLE_DISK
        advice = "free some space: checkpoints and data may not fit" if little else ""
        findings.append(Finding(subject, found, "problem" if little else "ok", advice))
    return findings


def _data() -> list[Finding]:
    findings = [_data_root()]
    for name, place in where().items():
        if place == "not here yet":
            advice = "comes by itself at its first use, given a network; without one the course goes on with digits"
            findings.append(Finding(f"data: {name}", place, "note", advice if name == "fashion-mnist" else ""))
        else:
            findings.append(Finding(f"data: {name}", place if name == "digits" else short(place)))
    return findings


def _data_root() -> Finding:
    root, shared = data_root(), os.environ.get("COURSE_DATA", "").strip()
    found = f"{short(root)} ({'COURSE_DATA' if shared else 'your own cache; COURSE_DATA names a shared one'})"
    if shared and not root.is_dir():
        state, advice = "problem", "COURSE_DATA names a folder that doesn't exist: correct it, make it, or unset it"
        return Finding("data folder", found, state, advice)
    return Finding("data folder", found)


def _widgets() -> Finding:
    try:
        return Finding("widgets", f"ipywidgets {importlib.metadata.version('ipywidgets')}")
    except importlib.metadata.PackageNotFoundError:
        advice = (
            "pip install -r requirements.txt, then restart JupyterLab; until then pictures are shown without controls"
        )
        return Finding("widgets", "ipywidgets is not installed", "problem", advice)


LOOKS: dict[str, Callable] = {
    "course": _course,
    "Python": _python,
    "PyTorch": _torch,
    "device": _device,
    "bfloat16": _bfloat16,
    "threads": _threads,
    "effort": _effort,
    "memory": _memory,
    "disk": _disk,
    "data": _data,
    "widgets": _widgets,
}
