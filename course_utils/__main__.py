"""What a student calls: `python -m course_utils train`, `sample`, `doctor`."""

from __future__ import annotations

import argparse
import importlib
import sys

from .cli import run_command
from .cli.options import Parser, add_doctor, add_sample, add_train


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status, as `run_command` says."""
    return run_command(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command line: one sub-command a task."""
    top = Parser(prog="python -m course_utils", description="A course on image generation.")
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for add in (add_train, add_sample, add_doctor):
        add(commands).set_defaults(run=_run)
    return top


def _run(arguments: argparse.Namespace) -> int:
    # Late, so that `--help` doesn't wait for PyTorch.
    return importlib.import_module(f".cli.{arguments.command}", __package__).run(arguments)


if __name__ == "__main__":
    sys.exit(main())
