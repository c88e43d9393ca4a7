"""`python -m classroom grade`: what the command does with its arguments."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from course_utils.cli import Refused, cli_errors
from course_utils.files import write_whole

from ..roster import read_roster
from . import batch, course, scores
from .handed_in.find import find
from .records import Rules, Submission
from .reports import write_all
from .sandbox import Limits, NoSandbox
from .who import Who


def run(arguments: argparse.Namespace) -> int:
    """Grade and write; returns 0, or 130 when stopped by hand (what was graded is kept)."""
    out: Path = arguments.out
    if arguments.column is not None and arguments.roster is None:
        raise Refused("--column is for the class list: give --roster ROSTER.csv as well")
    with cli_errors(out):
        roster = read_roster(arguments.roster, arguments.column) if arguments.roster else None
        orders = _orders(arguments.variants)
        found = find(arguments.submissions, course.handed_out())
        if not any(each.notebook or each.source for each in found.submissions):
            raise Refused(f"expected notebooks (.ipynb) in {arguments.submissions}, found none")
        who = Who(found, roster.names if roster else orders)
        submissions = who.submissions
        tables = _tables(arguments.scores, submissions)
        out.parent.mkdir(parents=True, exist_ok=True)
        rules = Rules(_seed(out, arguments.seed), None if orders is None else who.by_student(orders))
        job = batch.Job(rules, Limits(seconds=arguments.seconds), arguments.unsafe, course.version())
        if batch.is_outdated(_ledger(out), job.version):
            print(f"{_ledger(out)} is of another version of the course: everything is graded anew", file=sys.stderr)
        try:
            reports = _graded(job, submissions, arguments)
        except (NoSandbox, ModuleNotFoundError, batch.NoScheduler, batch.VersionsDiffer) as reason:
            raise Refused(str(reason)) from reason
        except KeyboardInterrupt:
            print("\nStopped by hand; what was graded is kept. The same command goes on from there.", file=sys.stderr)
            return 130
        about = {"seed": rules.seed, "course": job.version, "sandbox": not arguments.unsafe} | who.as_data()
        filled = [scores.fill(table, reports) for table in tables]
        expected = who.expected or [name for each in filled for name in each.expected]
        written = write_all(reports, out, about, expected or None, arguments.names)
        written += [_write_beside(out, each) for each in filled]
    _say(reports, who, written)
    for line in (line for each in filled for line in each.said):
        print(line)
    return 0


def _graded(job: batch.Job, submissions: list[Submission], arguments: argparse.Namespace) -> list:
    if arguments.scheduler:
        executor = partial(batch.cluster, arguments.scheduler)
    else:
        executor = partial(batch.processes, arguments.workers, job)
    bar = partial(tqdm, desc="grading", unit="file", file=sys.stderr, dynamic_ncols=True, smoothing=0.1)
    return batch.run(job, submissions, executor, _ledger(arguments.out), lambda new, total: bar(new, total=total))


def _tables(asked: Sequence[Sequence[str]], submissions: Sequence[Submission]) -> list[scores.Opened]:
    """The platforms' files that are to be filled in, looked at before anything is graded."""
    names = [Path(path).name for path, *_ in asked]
    if len(names) != len(set(names)):
        raise Refused(f"expected --scores with files of different names, got {', '.join(names)}")
    notebooks = {submission.notebook for submission in submissions if submission.notebook}
    return [scores.opened(Path(path), " ".join(column) or None, notebooks) for path, *column in asked]


def _write_beside(out: Path, filled: scores.Filled) -> Path:
    path = out.with_name(f"{out.stem}-for-{filled.name}")
    write_whole(path, filled.data)
    return path


def _orders(variants: Path | None) -> dict | None:
    if variants is None:
        return None
    from ..quizzes.variants import read_variants  # late, since it takes PyTorch

    return read_variants(variants.read_bytes()).orders()


def _ledger(out: Path) -> Path:
    return out.with_name(f"{out.stem}.graded.jsonl")


def _seed(out: Path, given: int | None) -> int:
    """The seed of the fresh inputs: as given, else that of the grading gone on with, else one that nobody can guess."""
    beside = out.with_name(f"{out.stem}.seed")
    if given is None and beside.exists():
        return json.loads(beside.read_text())
    seed = secrets.randbelow(2**31) if given is None else given
    beside.write_text(f"{seed}\n")
    return seed


def _say(reports: list, who: Who, written: list[Path]) -> None:
    counts = Counter(report.status for report in reports)
    print(f"{who.counts()}: " + ", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    for line in who.lines(reports):
        print(line)
    for report in reports:
        if not report.scores or report.status in ("unreadable", "crashed"):
            print(f"look at {report.name}: {' '.join(report.notes)}")
    print("wrote " + ", ".join(str(path) for path in written))
