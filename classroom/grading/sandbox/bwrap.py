"""The walls around the warm process: bubblewrap's command line, and what of this machine is seen behind it.

Around each submission the kernel itself builds more of them (`inside.confinement`). Needs Linux on a usual processor.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ..sources import ROOT, SHOWN
from .inside import confinement

HERE = Path(__file__).resolve().parent
SHOWN_AT = "/inside"  # where the folder `inside` lies in there
ADVICE = "Grade on Linux with bubblewrap (`apt install bubblewrap`); --unsafe is for your own notebooks only."


class NoSandbox(RuntimeError):
    """There is no sandbox on this system. The message says why, and what to do."""


def environment() -> dict[str, str]:
    """Nothing of the instructor's, one thread, and the same order of sets in every run."""
    one = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(one, "1") | {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # large pages, which a fork copies in a quarter of the time
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": "/tmp",
        "PATH": "/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONMALLOC": "malloc",  # see `confinement.wipe_freed_memory`
        "TZ": "UTC",
    }


def command(part: str, unsafe: bool) -> list[str]:
    """What starts a warm process; part: its module."""
    folder = HERE if unsafe else SHOWN_AT
    script = f"import sys; sys.path.insert(0, {str(folder)!r}); from inside.{part} import main; main()"
    python = os.path.realpath(sys.executable)
    if unsafe:
        if not hasattr(os, "fork"):
            raise NoSandbox("Answers can't be run on Windows, not even your own; use Linux, or WSL.")
        return [python, "-s", "-c", script]
    if sys.platform != "linux":
        raise NoSandbox(f"The sandbox needs Linux, and this is {platform.system() or sys.platform}. {ADVICE}")
    if platform.machine() not in confinement.MACHINES:
        raise NoSandbox(f"The sandbox does not know this processor ({platform.machine()}). {ADVICE}")
    program = shutil.which("bwrap")
    if program is None:
        raise NoSandbox(f"The sandbox needs bubblewrap, which is not installed. {ADVICE}")
    return [program, *_walls(), place(python), "-s", "-c", script]


def _walls() -> list[str]:
    arguments = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if os.getuid() == 0:  # root needs no user namespace, and gives its rights up itself
        arguments += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        arguments += ["--unshare-user"]
    arguments += ["--die-with-parent", "--new-session", "--clearenv"]
    for name, value in environment().items():
        arguments += ["--setenv", name, value]
    for name in ("enabled", "hpage_pmd_size"):  # without which the C library asks for no large pages
        arguments += ["--ro-bind-try", *[f"/sys/kernel/mm/transparent_hugepage/{name}"] * 2]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"]
    arguments += [*_mounts(), "--perms", "755", "--dir", SHOWN_AT, "--perms", "755", "--dir", f"{SHOWN_AT}/inside"]
    for path in sorted((HERE / "inside").glob("*.py")):
        arguments += ["--ro-bind", str(path), f"{SHOWN_AT}/inside/{path.name}"]
    return [*arguments, "--remount-ro", "/", "--remount-ro", "/dev", "--chdir", "/tmp"]


def _mounts() -> list[str]:
    """Read-only: the system's programs and the interpreter's libraries. The course itself is hidden."""
    shown = {Path("/usr"), *_interpreter()}
    shown |= {path for path in map(Path, ("/etc/ld.so.cache", "/etc/alternatives")) if path.exists()}
    arguments = []
    for path in map(Path, ("/bin", "/lib", "/lib32", "/lib64", "/sbin")):
        if path.is_symlink():
            arguments += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            shown.add(path)
    hidden = {path for path in _course() if path.exists() and any(path.is_relative_to(each) for each in shown)}
    for folder in sorted({parent for path in shown for parent in Path(place(path)).parents} - {Path("/")}):
        arguments += ["--perms", "755", "--dir", str(folder)]  # else only root may pass through it
    for path in sorted(shown | hidden):  # what lies inside comes later
        arguments += ["--tmpfs", place(path)] if path in hidden else ["--ro-bind", str(path), place(path)]
    for path in sorted(hidden):
        arguments += ["--remount-ro", place(path)]
    for path in _telling():
        arguments += ["--ro-bind", "/dev/null", place(path)]
    return arguments


def place(path: str | Path) -> str:
    """Where something of this machine's is in there: in its own place, but out of /tmp, which is the answers' own."""
    return f"/kept{path}" if Path(path).is_relative_to("/tmp") else str(path)


def _interpreter() -> Iterator[Path]:
    for prefix in {sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)} - {"/usr"}:
        for part in ("bin", "lib", "lib64"):
            path = Path(prefix, part)
            if path.is_dir() and not path.is_symlink():
                yield path
    yield from (Path(folder) for folder in _site_folders() if Path(folder).is_dir())


def _site_folders() -> list[str]:
    return [folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")]


def import_path() -> list[str]:
    """The parts of `sys.path` that are Python's own and installed packages: no folder of the instructor's."""
    paths = sysconfig.get_paths()
    own = {os.path.realpath(paths[name]) for name in ("stdlib", "platstdlib")}
    return [
        folder
        for folder in sys.path
        if folder in _site_folders()
        or os.path.realpath(folder) in own
        or os.path.realpath(os.path.dirname(folder)) in own
        or folder.endswith(".zip")
    ]


def _telling() -> Iterator[Path]:
    """Files of installed packages that name the folder of the course: how and whence pip installed it."""
    for folder in map(Path, _site_folders()):
        for pattern in ("*.pth", "*.egg-link", "__editable__*.py", "*-info/direct_url.json"):
            for path in sorted(folder.glob(pattern)):
                if str(ROOT).encode() in path.read_bytes():
                    yield path


def _course() -> set[Path]:
    """Where the course lies on disk, with solutions and tests, in any of the folders that are shown."""
    sites = set(map(Path, _site_folders()))
    hidden = {folder / package for folder in (*sites, ROOT) for package in SHOWN}
    return hidden if ROOT in {site.resolve() for site in sites} else hidden | {ROOT}
