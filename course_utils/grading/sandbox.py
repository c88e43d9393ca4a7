"""The sandbox's outside: starts it, hands questions in, takes bytes out, and survives whatever happens in there.

What runs inside is `inside`. The walls are bubblewrap's and, around each submission, the kernel's own (`confinement`).
Needs Linux on a usual processor. Make a Sandbox in the thread that uses it: bubblewrap ends with that thread.
"""

from __future__ import annotations

import contextlib
import functools
import marshal
import math
import os
import platform
import re
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import confinement, inside
from .records import Outcome, Question

PACKAGE = __name__.partition(".")[0]
LIBRARY = "/course"  # where modules from memory claim to lie; there is nothing there
INSIDE = "/inside"
LARGEST_SOURCE = 1_000_000  # characters of an answer
STARTING, GRACE = 180, 15  # seconds: to import everything; beyond a question's own limit, before help is called
MB = 1 << 20
ADVICE = "Grade on Linux with bubblewrap (`apt install bubblewrap`); --unsafe is for your own notebooks only."


class NoSandbox(RuntimeError):
    """There is no sandbox on this system. The message says why, and what to do."""


@dataclass(frozen=True)
class Limits:
    """How much a question may take, and a submission.

    seconds, cpu: of one question, by the clock and of computing;  submission: seconds of all its questions together;
    memory: MB of one process, on top of the imports;  total_memory: MB of all processes of a question;
    processes: with threads;  output: MB of results;  files: MB in /tmp.
    """

    seconds: int | float = 20
    cpu: int | float = 20
    submission: int | float = 300
    memory: int = 3000
    total_memory: int = 4000
    processes: int = 32
    output: int = 200
    files: int = 64


def why_not() -> str:
    """Why there can be no sandbox here, in one line; "" if it works (one is built and left again)."""
    try:
        Sandbox({}, {}).close()
    except NoSandbox as error:
        return str(error)
    return ""


class Sandbox:
    """Runs answers on inputs where they can do no harm.

    sources: name of a module -> source, of the package as answers may see it;
    preludes: number of a notebook -> source that runs, once, before any answer of this notebook.
    unsafe: no walls at all, only limits of time; for one's own notebooks.

    Raises NoSandbox if there is none here, RuntimeError if the library or a prelude does not run.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        preludes: Mapping[str, str],
        limits: Limits = Limits(),
        unsafe: bool = False,
    ) -> None:
        self.limits = limits
        self._unsafe = unsafe
        self._settings = marshal.dumps(_settings(sources, preludes, limits, unsafe))
        self._warm: _Warm | None = None
        self._begun = False
        self._start()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and everything in it."""
        if self._warm is not None:
            self._warm.end()
        self._warm, self._begun = None, False

    def run(self, questions: Sequence[Question]) -> list[Outcome]:
        """The outcomes of one submission's questions, in order. Nothing that an answer does gets out of here."""
        try:
            return self._run(questions)
        except BaseException:  # Ctrl-C: what is half said and half read cannot be continued
            self.close()
            raise

    def _run(self, questions: Sequence[Question]) -> list[Outcome]:
        deadline = time.monotonic() + self.limits.submission
        outcomes = []
        for question in questions:
            left = deadline - time.monotonic()
            if left <= 0:
                text = f"not run: the answers before it have used up the {self.limits.submission:.3g} s of a submission"
                outcomes.append(Outcome(None, "timeout", text))
            elif len(question.source) > LARGEST_SOURCE:
                outcomes.append(Outcome(None, "missing", f"the cell has more than {LARGEST_SOURCE:,} characters"))
            else:
                outcomes.append(self._outcome(question, min(left, self.limits.seconds)))
        self._finish()
        return outcomes

    def _outcome(self, question: Question, seconds: int | float) -> Outcome:
        payload = marshal.dumps(_payload(question))
        try:
            if self._warm is None:
                self._start()
            if not self._begun:
                self._warm.send(inside.BEGIN)
                self._begun = True
            self._warm.send(inside.QUESTION, payload, seconds)
            kind, data = self._warm.receive(seconds + GRACE, self.limits.output * MB)
        except _Lost as error:
            self.close()
            return Outcome(None, "crashed", f"its sandbox had to be started again: {error}")
        if kind == inside.DATA:
            return Outcome(data)
        trouble = {inside.MISSING: "missing", inside.TIMEOUT: "timeout", inside.CRASHED: "crashed"}.get(kind)
        if trouble is None:
            self.close()
            return Outcome(None, "crashed", f"its sandbox had to be started again: {_one_line(data) or 'it was gone'}")
        return Outcome(None, trouble, _one_line(data))

    def _finish(self) -> None:
        """The submission's own sandbox is gone when this returns."""
        if not self._begun:
            return
        self._begun = False
        try:
            self._warm.send(inside.END)
            kind, _ = self._warm.receive(GRACE, MB)
        except _Lost:
            kind = b""
        if kind != inside.GONE:
            self.close()

    def _start(self) -> None:
        self._warm = _Warm(_command(self._unsafe))
        try:
            self._warm.send(inside.BEGIN, self._settings)
            kind, data = self._warm.receive(STARTING, MB)
        except _Lost as error:
            reason = self._warm.complaint() or str(error)
            self.close()
            raise NoSandbox(f"The sandbox does not start: {reason}. {ADVICE}") from None
        if kind == inside.REFUSED:
            self.close()
            raise NoSandbox(f"This system does not let the sandbox shut its doors: {_one_line(data)}. {ADVICE}")
        if kind != inside.READY:
            self.close()
            raise RuntimeError(f"the course's own code does not run in the sandbox: {_one_line(data)}")


def _payload(question: Question) -> dict[str, Any]:
    wanted = _mentioned(question)
    return {
        "id": question.id,
        "name": question.name,
        "source": question.source,
        "notebook": question.notebook,
        "request": question.request,
        "supplied": [(name, _compiled(question.supplied[name], f"supplied/{name}.py")) for name in wanted],
        "forbidden": list(question.forbidden),
    }


def _mentioned(question: Question) -> list[str]:
    """Names of the supplied functions that the answer mentions, or that one of these mentions, in their order."""
    wanted: set[str] = set()
    texts = [question.source]
    while texts:
        words = set(re.findall(r"\w+", texts.pop()))
        new = (words & question.supplied.keys()) - wanted
        wanted |= new
        texts += [question.supplied[name] for name in new]
    return [name for name in question.supplied if name in wanted]


def _settings(sources: Mapping[str, str], preludes: Mapping[str, str], limits: Limits, unsafe: bool) -> dict[str, Any]:
    """What the warm process is told. Code goes compiled: no source text gets into the sandbox's memory at all."""
    packages = {name.rpartition(".")[0] for name in sources}
    modules = {}
    for name, source in sources.items():
        if not name.endswith("__main__"):
            path = name.replace(".", "/")
            modules[name] = _compiled(source, f"{path}/__init__.py" if name in packages else f"{path}.py")
    return {
        "confined": not unsafe,
        "path": _import_path() if unsafe else [_place(folder) for folder in _import_path()],
        "library": LIBRARY,
        "modules": modules,
        # Under the package, so that an exception's last line is looked for in the answer, not in the course's own code.
        "preludes": {number: _compiled(text, f"{PACKAGE}/prelude/{number}.py") for number, text in preludes.items()},
        "limits": {
            "cpu": math.ceil(limits.cpu),
            "memory": limits.memory * MB,
            "total_memory": limits.total_memory * MB,
            "processes": limits.processes + 3,  # the submission's own three
            "output": limits.output * MB,
            "file": limits.files * MB,
            "files": limits.files * MB,
        },
    }


@functools.lru_cache(maxsize=1000)
def _compiled(source: str, name: str) -> bytes:
    return marshal.dumps(compile(source, f"{LIBRARY}/{name}", "exec", dont_inherit=True))


def _one_line(data: bytes) -> str:
    """A line from the inside, where a student's code may have written it: printable, and not long."""
    text = data[:2000].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]


# -------------------------------------------------------------------------------------------------------------- process


class _Lost(Exception):
    """The warm process does not answer as it should."""


class _Warm:
    """The warm process and its two pipes."""

    def __init__(self, command: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `end`)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
        for pipe in (self._process.stdin, self._process.stdout):
            os.set_blocking(pipe.fileno(), False)

    def send(self, kind: bytes, payload: bytes = b"", seconds: int | float = 0.0) -> None:
        deadline = time.monotonic() + STARTING
        rest = memoryview(inside.HEAD.pack(kind, len(payload), seconds) + payload)
        pipe = self._process.stdin.fileno()
        while rest:
            if not select.select([], [pipe], [], max(0, deadline - time.monotonic()))[1]:
                raise _Lost("it takes nothing in")
            try:
                rest = rest[os.write(pipe, rest) :]
            except BlockingIOError:
                continue
            except OSError:
                raise _Lost("it has ended") from None

    def receive(self, seconds: int | float, largest: int) -> tuple[bytes, bytes]:
        """Kind and payload of the next message."""
        deadline = time.monotonic() + seconds
        kind, length, _ = inside.HEAD.unpack(self._exactly(inside.HEAD.size, deadline))
        if length > largest:
            raise _Lost("it says more than it may")
        return kind, self._exactly(length, deadline)

    def _exactly(self, count: int, deadline: int | float) -> bytes:
        pipe = self._process.stdout.fileno()
        got = bytearray()
        while len(got) < count:
            if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
                raise _Lost("it does not answer")
            piece = os.read(pipe, min(count - len(got), MB))
            if not piece:
                raise _Lost("it has ended")
            got += piece
        return bytes(got)

    def complaint(self) -> str:
        """The last line that it wrote to stderr."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._errors.seek(0)
        lines = self._errors.read(100_000).strip().splitlines()
        return _one_line(lines[-1]).rstrip(".") if lines else ""

    def end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._errors.close()


def _environment() -> dict[str, str]:
    """Nothing of the instructor's, one thread, and the same order of sets in every run."""
    one = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(one, "1") | {
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": "/tmp",
        "PATH": "/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "TZ": "UTC",
    }


# ----------------------------------------------------------------------------------------------------------- bubblewrap


def _command(unsafe: bool) -> list[str]:
    """What starts the warm process."""
    folder = Path(inside.__file__).parent if unsafe else INSIDE
    script = f"import sys; sys.path.insert(0, {str(folder)!r}); import inside; inside.main()"
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
    return [program, *_walls(), _place(python), "-s", "-c", script]


def _walls() -> list[str]:
    arguments = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if os.getuid() == 0:  # root needs no user namespace, and gives its rights up itself
        arguments += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        arguments += ["--unshare-user"]
    arguments += ["--die-with-parent", "--new-session", "--clearenv"]
    for name, value in _environment().items():
        arguments += ["--setenv", name, value]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"]
    arguments += [*_mounts(), "--perms", "755", "--dir", INSIDE]
    for part in ("inside", "confinement"):
        arguments += ["--ro-bind", str(Path(inside.__file__).with_name(f"{part}.py")), f"{INSIDE}/{part}.py"]
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
    for folder in sorted({parent for path in shown for parent in Path(_place(path)).parents} - {Path("/")}):
        arguments += ["--perms", "755", "--dir", str(folder)]  # else only root may pass through it
    for path in sorted(shown | hidden):  # what lies inside comes later
        arguments += ["--tmpfs", _place(path)] if path in hidden else ["--ro-bind", str(path), _place(path)]
    for path in sorted(hidden):
        arguments += ["--remount-ro", _place(path)]
    return arguments


def _place(path: str | Path) -> str:
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


def _import_path() -> list[str]:
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


def _course() -> set[Path]:
    """Where this package lies on disk, with solutions and tests, in any of the folders that are shown."""
    package = Path(__file__).resolve().parents[1]
    sites = set(map(Path, _site_folders()))
    hidden = {site / PACKAGE for site in sites} | {package}
    return hidden if package.parent in {site.resolve() for site in sites} else hidden | {package.parent}
