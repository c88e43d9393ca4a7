"""`python -m classroom release`: what the command does with its arguments."""

from __future__ import annotations

import argparse
from pathlib import Path

from course_utils.cli import Refused, cli_errors

from ..roster import read_roster
from .bundle import release
from .folders import folders


def run(arguments: argparse.Namespace, root: Path) -> int:
    """Make the bundle; returns the exit status.  Raises Refused, in one line, with nothing written."""
    roster = arguments.seed_per_student
    if arguments.seed is not None and roster is None:
        raise Refused("--seed is for the orders of options: give --seed-per-student ROSTER.csv as well")
    if arguments.column is not None and roster is None:
        raise Refused("--column is for the class list: give --seed-per-student ROSTER.csv as well")
    with cli_errors(arguments.out):
        listed = read_roster(roster, arguments.column) if roster else None
        students = list(listed.names) if listed else None
        numbers = None if arguments.notebooks is None else _numbers(arguments.notebooks)
        made = release(
            root, arguments.out, numbers, solutions=not arguments.no_solutions, students=students,
            seed=arguments.seed or 0,
        )  # fmt: skip
    print(f"release: {', '.join(made)} in {arguments.out}")
    if students:
        print(f"release: {listed.about}")
        otherwise = [f"{name} in {folder}" for name, folder in folders(students).items() if folder != name]
        if otherwise:
            print(f"release: folders cannot have every name: {', '.join(otherwise)}")
        each = f"notebooks for {len(students)} students in {arguments.out / 'students'}"
        print(f"release: {each}; keep {arguments.out / 'variants.json'} for grading, and don't hand it out")
    return 0


def _numbers(text: str) -> list[str]:
    """The notebooks in "01,3" as two digits each.  Raises ValueError."""
    numbers = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 2 for part in numbers):
        raise ValueError(f"expected --notebooks as numbers with commas between them, like 01,03, got {text!r}")
    return [part.zfill(2) for part in numbers]
