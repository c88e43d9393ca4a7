"""Many submissions: on the cores of one machine or on a Dask cluster, and on from where it was interrupted.

`grade_one` is a pure function of its arguments; each process that runs it keeps one warm sandbox.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from . import plan as planning
from .records import Report, Score, Submission
from .sandbox import Limits, NoSandbox, Sandbox
from .scoring import Rules, grade, unscored


class VersionsDiffer(RuntimeError):
    """A worker of the cluster has another version of the course than whoever started the grading."""


class NoScheduler(RuntimeError):
    """There is no Dask scheduler at this address."""


@dataclass(frozen=True)
class Job:
    """What all submissions of one grading share. version: fingerprint of the course, which a worker compares."""

    rules: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=Limits)
    unsafe: bool = False
    version: str = ""


# ----------------------------------------------------------------------------------------------------- one submission

_sandboxes: dict[tuple[Limits, bool, int], Sandbox] = {}


def grade_one(job: Job, submission: Submission) -> Report:
    """The report on one submission.  Raises VersionsDiffer, and NoSandbox where there is none on this machine."""
    plans = planning.plans(planning.NOTEBOOKS)
    if job.version and job.version != version():
        raise VersionsDiffer("a worker has another version of the course: install the same one everywhere")
    torch.set_num_threads(1)  # the cases are tiny, and there are as many processes as cores
    return grade(submission, plans, _sandbox(job), job.rules)


@functools.cache
def version() -> str:
    """The fingerprint of this installation of the course."""
    return planning.fingerprint(list(planning.plans(planning.NOTEBOOKS).values()))


def _sandbox(job: Job) -> Sandbox:
    key = (job.limits, job.unsafe, threading.get_ident())  # a sandbox runs one submission at a time
    if key not in _sandboxes:
        plans = planning.plans(planning.NOTEBOOKS)
        preludes = {number: plan.prelude for number, plan in plans.items()}
        _sandboxes[key] = Sandbox(planning.library(), preludes, job.limits, job.unsafe)
        atexit.register(_sandboxes[key].close)
    return _sandboxes[key]


# --------------------------------------------------------------------------------------------------- many submissions


def run(
    job: Job,
    submissions: Sequence[Submission],
    executor: Callable[[], Executor],
    ledger: Path,
    progress: Callable[[Iterable, int], Iterable] = lambda reports, total: reports,
) -> list[Report]:
    """All reports, sorted. What `ledger` has already is not graded again; what is graded stands there at once.

    executor: makes a fresh one, also where a pool broke;  progress: wraps the iterator of new reports.
    """
    known = read_ledger(ledger)
    keys = {id(submission): key(job, submission) for submission in submissions}
    waiting = [submission for submission in submissions if keys[id(submission)] not in known]
    reports = [known[keys[id(submission)]] for submission in submissions if keys[id(submission)] in known]
    with open(ledger, "a", encoding="utf-8") as file:
        for submission, report in progress(_graded(job, waiting, executor), len(waiting)):
            file.write(json.dumps({"key": keys[id(submission)], "report": asdict(report)}) + "\n")
            file.flush()
            reports.append(report)
    return sorted(reports, key=lambda report: (report.student, report.notebook, report.name))


def _graded(
    job: Job, submissions: Sequence[Submission], executor: Callable[[], Executor]
) -> Iterator[tuple[Submission, Report]]:
    """Reports as they come. A process that dies takes nobody along: what was unfinished is tried again, then alone."""
    lost = list(submissions)
    for alone in (False, False, True):
        batches = [[submission] for submission in lost] if alone else [lost]
        lost = []
        for batch in batches:
            with executor() as pool:
                futures: dict[Future, Submission] = {pool.submit(grade_one, job, one): one for one in batch}
                try:
                    for future in as_completed(futures):
                        try:
                            yield futures[future], future.result()
                        except BrokenProcessPool:
                            lost.append(futures[future])
                        except (NoSandbox, VersionsDiffer):
                            raise
                        except Exception as error:  # a fault of ours: this file waits for a person, the others go on
                            note = f"The grader failed on this file ({type(error).__name__}): look at it by hand."
                            yield futures[future], _crashed(futures[future], note)
                finally:
                    for future in futures:
                        future.cancel()
    for submission in lost:
        note = "The grading process itself died on this file, again and again: look at it by hand."
        yield submission, _crashed(submission, note)


def _crashed(submission: Submission, note: str) -> Report:
    return unscored(submission, planning.plans(planning.NOTEBOOKS).get(submission.notebook), "crashed", note)


@contextmanager
def processes(count: int) -> Iterator[Executor]:
    """`count` processes, started fresh (a fork of a process with threads may hang)."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_leave_interrupts_to_the_parent) as pool:
        yield pool


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


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# --------------------------------------------------------------------------------------------------------- the ledger


def key(job: Job, submission: Submission) -> str:
    """What a report depends on: the file, the student, the rules, the limits, and the version of the course."""
    digest = hashlib.sha256(submission.text or b"")
    order = (job.rules.order or {}).get(submission.student, {})
    file = (submission.student, submission.notebook, submission.name, submission.trouble)
    digest.update(repr((file, job.rules.seed, sorted(order.items()), job.limits, job.unsafe, job.version)).encode())
    return digest.hexdigest()


def read_ledger(path: Path) -> dict[str, Report]:
    """Key -> report. A line that was cut off when the machine stopped is left out: that submission is graded again."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
            report = entry["report"]
            scores = tuple(Score(**score) for score in report.pop("scores"))
            found[entry["key"]] = Report(**report | {"scores": scores, "notes": tuple(report["notes"])})
        except (ValueError, KeyError, TypeError):
            continue
    return found
