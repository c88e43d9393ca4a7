"""What teachers and authors call: `python -m classroom build`, `release`, `grade`, `challenge`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from course_utils.cli import Refused, run_command
from course_utils.cli.options import Parser

from .options import add_build, add_challenge, add_grade, add_release

ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status, as `run_command` says."""
    return run_command(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command line: one sub-command a task."""
    top = Parser(prog="python -m classroom", description="Notebooks and classes of a course on image generation.")
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")
    add_build(commands).set_defaults(run=_build)
    add_release(commands).set_defaults(run=_release)
    add_grade(commands).set_defaults(run=_grade)
    add_challenge(commands).set_defaults(run=_challenge)
    return top


def _build(arguments: argparse.Namespace) -> int:
    _from_a_clone()
    from .authoring.building import main as run

    return run(arguments, ROOT)


def _release(arguments: argparse.Namespace) -> int:
    _from_a_clone()
    from .releasing.command import run

    return run(arguments, ROOT)


def _grade(arguments: argparse.Namespace) -> int:
    _from_a_clone()
    from .grading.command import run

    return run(arguments)


def _challenge(arguments: argparse.Namespace) -> int:
    _from_a_clone()
    from .challenge.command import run

    return run(arguments)


def _from_a_clone() -> None:
    if not (ROOT / "solutions").is_dir():
        raise Refused(f"no folder solutions/ in {ROOT}: run it from a clone of the course")


if __name__ == "__main__":
    sys.exit(main())
