"""Many submissions: on the cores of one machine or on a Dask cluster, and on from where it was interrupted.

`grade_one` is a pure function of its arguments; each process that runs it keeps one warm sandbox. Whoever hands out the
work needs neither PyTorch nor a notebook's bytes for longer than it takes to pass them on.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from . import course
from .records import Report, Rules, Score, Submission, Trouble
from .sandbox import Limits, Luggage, NoSandbox, Sandbox
from .sandbox.inside.confinement import die_with_parent
from .sandbox.inside.preload import compile_nothing

MOST_FILES = 10  # of one student for one notebook: each may cost minutes
MOST_AHEAD = 16 * 2**20  # bytes of notebooks that are read before their turn


class VersionsDiffer(RuntimeError):
    """A worker of the cluster has another version of the course than whoever started the grading."""


class NoScheduler(RuntimeError):
    """There is no Dask scheduler at this address."""


class Died(RuntimeError):
    """The process that was grading a file has ended."""


@dataclass(frozen=True)
class Job:
    """What all submissions of one grading share. version: fingerprint of the course, which a worker compares."""

    rules: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=Limits)
    unsafe: bool = False
    version: str = ""


# ----------------------------------------------------------------------------------------------------- one submission

_sandboxes: dict[tuple[Limits, bool, int], Sandbox] = {}


def grade_one(job: Job, submission: Submission, data: bytes | None) -> Report:
    """The report on one submission. data: its bytes, None where they could not be had.

    Raises VersionsDiffer, and NoSandbox where there is none on this machine.
    """
    if job.version and job.version != course.version():
        raise VersionsDiffer("a worker has another version of the course: install the same one everywhere")
    sandbox = _sandbox(job)  # which gets ready while PyTorch is imported here
    import torch

    from . import plan, scoring

    torch.set_num_threads(1)  # the cases are tiny, and there are as many processes as cores
    if data is None:
        return scoring.unscored(submission, plan.plans().get(submission.notebook), "unreadable", submission.trouble)
    return scoring.grade(submission, data, plan.plans(), sandbox, job.rules)


def _sandbox(job: Job, luggage: Luggage | None = None) -> Sandbox:
    key = (job.limits, job.unsafe, threading.get_ident())  # a sandbox runs one submission at a time
    if key not in _sandboxes:
        _sandboxes[key] = Sandbox(luggage or course.luggage(), job.limits, job.unsafe)
        atexit.register(_sandboxes[key].close)
    return _sandboxes[key]


# --------------------------------------------------------------------------------------------------- many submissions


def run(
    job: Job,
    submissions: Sequence[Submission],
    executor: Callable[[], contextlib.AbstractContextManager[Executor]],
    ledger: Path,
    progress: Callable[[Iterable, int], Iterable] = lambda reports, total: reports,
) -> list[Report]:
    """All reports, sorted. What `ledger` has already is not graded again; what is graded stands there at once.

    progress: wraps the iterator of reports.
    """
    known, reports = read_ledger(ledger, job.version), []
    with open(ledger, "a", encoding="utf-8") as file, executor() as pool:
        with contextlib.closing(_graded(job, _not_too_many(submissions), known, pool)) as graded:
            for key, report in progress(graded, len(submissions)):
                if key not in known:
                    line = {"key": key, "course": job.version, "report": asdict(report)}
                    file.write(json.dumps(line) + "\n")
                    file.flush()
                reports.append(report)
    return sorted(reports, key=lambda report: (report.student, report.notebook, report.name))


def _not_too_many(submissions: Iterable[Submission]) -> Iterator[Submission]:
    """The same; but of a student's many files for one notebook only the first ones are graded."""
    counts: Counter[tuple[str, str]] = Counter()
    for one in submissions:
        counts[one.student, one.notebook] += not one.trouble
        if counts[one.student, one.notebook] > MOST_FILES and not one.trouble:
            one = replace(one, trouble=f"not graded: of one student's files for a notebook, {MOST_FILES} are")
        yield one


@dataclass(eq=False)
class _Turn:
    """A submission that is being graded. key: in the ledger;  size: of its bytes;  tried: how often before."""

    submission: Submission
    key: str = ""
    size: int = 0
    tried: int = 0


def _graded(
    job: Job, submissions: Iterable[Submission], known: dict[str, Report], pool: Executor
) -> Iterator[tuple[str, Report]]:
    """Key and report of each, as they come. Where a process died over one, it is tried again, and then no more."""
    coming, again = map(_Turn, submissions), []
    running: dict[Future, _Turn] = {}
    try:
        while True:
            while sum(turn.size for turn in running.values()) < MOST_AHEAD:
                turn = again.pop() if again else next(coming, None)
                if turn is None:
                    break
                data = _load(job, turn)
                if turn.key in known:
                    yield turn.key, known[turn.key]
                else:
                    running[pool.submit(grade_one, job, replace(turn.submission, source=None), data)] = turn
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                turn = running.pop(future)
                turn.tried += 1
                try:
                    yield turn.key, future.result()
                except (NoSandbox, VersionsDiffer):
                    raise
                except Died:
                    if turn.tried < 2:
                        again.append(turn)
                    else:
                        yield turn.key, _crashed(turn.submission, "The grading process died on this file, twice")
                except Exception as error:  # a fault of ours: this file waits for a person, the others go on
                    name = type(error).__name__
                    yield turn.key, _crashed(turn.submission, f"The grader failed on this file ({name})")
    finally:
        for future in running:
            future.cancel()


def _load(job: Job, turn: _Turn) -> bytes | None:
    """The notebook's bytes, which are forgotten here when they have been handed on."""
    data = None
    try:
        data = turn.submission.load() if turn.submission.source else None
    except Trouble as trouble:
        turn.submission = replace(turn.submission, trouble=str(trouble))
    turn.size, turn.key = len(data or b""), key(job, turn.submission, data)
    return data


def _crashed(submission: Submission, note: str) -> Report:
    from . import plan, scoring

    notebook = plan.plans().get(submission.notebook)
    return scoring.unscored(submission, notebook, "crashed", f"{note}: look at it by hand.")


# ------------------------------------------------------------------------------------------------------ who does it


@contextmanager
def processes(count: int, job: Job) -> Iterator[Executor]:
    """`count` processes of this machine. However this ends, they and their sandboxes end with it, at once."""
    pool = _Processes(count, job)
    try:
        yield pool
    finally:
        pool.end()


class _Processes(ThreadPoolExecutor):
    """A process behind each thread: one that dies takes along what it was doing, and nothing else."""

    def __init__(self, count: int, job: Job) -> None:
        super().__init__(count)
        self._job, self._luggage = job, course.luggage()
        self._behind = threading.local()
        self._all: list[tuple[multiprocessing.process.BaseProcess, Connection]] = []
        self._ended = False

    def submit(self, task: Callable, *arguments: Any) -> Future:
        return super().submit(self._done, task, *arguments)

    def end(self) -> None:
        self._ended = True
        self.shutdown(wait=False, cancel_futures=True)
        for process, _ in self._all:
            process.kill()
        self.shutdown()
        for process, connection in self._all:
            process.join()
            connection.close()

    def _done(self, task: Callable, *arguments: Any) -> Any:
        connection = getattr(self._behind, "connection", None) or self._start()
        try:
            connection.send((task, arguments))
            went_well, result = connection.recv()
        except (EOFError, OSError):
            self._behind.connection = None
            raise Died from None
        if not went_well:
            raise result
        return result

    def _start(self) -> Connection:
        # A fork of a process with threads may hang. Ctrl-C is ours to handle, from the first moment on.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._job, self._luggage, os.getpid()), daemon=True)
        process.start()
        theirs.close()
        self._all.append((process, ours))
        if self._ended:
            process.kill()
        self._behind.connection = ours
        return ours


def _work(connection: Connection, job: Job, luggage: Luggage, parent: int) -> None:
    """A process of this machine: what it is sent it does, until nobody is there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    die_with_parent()
    if os.getppid() != parent:
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with contextlib.suppress(NoSandbox):  # `grade_one` says so
        _sandbox(job, luggage)
    compile_nothing()
    while True:
        try:
            task, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = True, task(*arguments)
        except Exception as error:
            answer = False, error
        connection.send(answer)


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """The workers of a Dask cluster.  ModuleNotFoundError with what to install, NoScheduler if nobody answers there."""
    try:
        from distributed import Client
    except ImportError:
        raise ModuleNotFoundError("--scheduler needs Dask: pip install 'course_utils[cluster]'") from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise NoScheduler(f"no Dask scheduler answers at {address}: {error}") from None
    with client:
        yield client.get_executor(pure=False)


# --------------------------------------------------------------------------------------------------------- the ledger


def key(job: Job, submission: Submission, data: bytes | None) -> str:
    """What a report depends on: the file, the student, the rules, the limits, and the version of the course."""
    digest = hashlib.sha256(data or b"")
    order = (job.rules.order or {}).get(submission.student, {})
    file = (submission.student, submission.notebook, submission.name, submission.trouble, submission.notes)
    digest.update(repr((file, job.rules.seed, sorted(order.items()), job.limits, job.unsafe, job.version)).encode())
    return digest.hexdigest()


def read_ledger(path: Path, version: str) -> dict[str, Report]:
    """Key -> report, of those that this version of the course has made.

    A line that was cut off when the machine stopped is left out: that submission is graded again.
    """
    found = {}
    for entry in _entries(path):
        try:
            if entry["course"] == version:
                report = entry["report"]
                scores = tuple(Score(**score) for score in report.pop("scores"))
                found[entry["key"]] = Report(**report | {"scores": scores, "notes": tuple(report["notes"])})
        except (ValueError, KeyError, TypeError):
            continue
    return found


def is_outdated(path: Path, version: str) -> bool:
    """Whether all lines of a ledger are of other versions of the course: nothing of them is taken over."""
    versions = {entry.get("course", "") for entry in _entries(path)}
    return bool(versions) and version not in versions


def _entries(path: Path) -> Iterator[dict]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                yield entry
