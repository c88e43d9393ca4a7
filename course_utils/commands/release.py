"""`python -m course_utils release`: its options, and what it does with them. (`--help` waits for nothing.)"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import Refused, plainly
from .options import Parser, whole

ROOT = Path(__file__).resolve().parents[2]
RELEASE = """\
Make the folder that a class gets: student notebooks, the library, what it takes to install and start. It holds no
solutions/, tests/, benchmarks/, no grader and no history; DIR must not exist yet, or be empty.

With --seed-per-student every student gets notebooks of their own, in which the options of each question stand in
another order:
  DIR/course/                        for everybody
  DIR/students/STUDENT/notebooks/    for one student, to be put into a copy of DIR/course
  DIR/variants.json                  for the grader; keep it, and hand out nothing but the two above"""
EXAMPLES = """\
examples:
  python -m course_utils release --out handout
  python -m course_utils release --notebooks 01,03 --no-solutions --out week-3
  python -m course_utils release --no-solutions --seed-per-student roster.csv --out exam"""


def add_release(commands: argparse._SubParsersAction) -> Parser:
    """The command `release`."""
    form = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "release", help="make the folder that a class gets", description=RELEASE, epilog=EXAMPLES, formatter_class=form
    )
    add = command.add_argument
    add("--notebooks", metavar="NN,NN", help="their numbers, with commas between them (all)")
    add("--no-solutions", action="store_true", help="leave the folded solutions out (a graded class)")
    add("--seed-per-student", type=Path, metavar="ROSTER.csv", help="notebooks for each student: a table with a column "
        "'student' (or 'id'), whose names are those under which the grader will find the submissions")  # fmt: skip
    add("--seed", type=whole(0), metavar="S", help="with --seed-per-student: another seed, other orders (0)")
    add("--out", type=Path, required=True, metavar="DIR", help="the folder to make")
    command.set_defaults(run=run)
    return command


def run(arguments: argparse.Namespace, root: Path = ROOT) -> int:
    """Make the bundle; returns the exit status.  Raises Refused, in one line, with nothing written."""
    if not (root / "solutions").is_dir():
        raise Refused(f"no folder solutions/ in {root}: run it from a clone of the course")
    from ..releasing.bundle import release
    from ..releasing.roster import read_roster

    roster = arguments.seed_per_student
    if arguments.seed is not None and roster is None:
        raise Refused("--seed is for the orders of options: give --seed-per-student ROSTER.csv as well")
    with plainly(arguments.out):
        students = read_roster(roster) if roster else None
        numbers = None if arguments.notebooks is None else _numbers(arguments.notebooks)
        made = release(
            root, arguments.out, numbers, solutions=not arguments.no_solutions, students=students,
            seed=arguments.seed or 0,
        )  # fmt: skip
    print(f"release: {', '.join(made)} in {arguments.out}")
    if students:
        each = f"notebooks for {len(students)} students in {arguments.out / 'students'}"
        print(f"release: {each}; keep {arguments.out / 'variants.json'} for grading, and don't hand it out")
    return 0


def _numbers(text: str) -> list[str]:
    """The notebooks in "01,3" as two digits each.  Raises ValueError."""
    numbers = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 2 for part in numbers):
        raise ValueError(f"expected --notebooks as numbers with commas between them, like 01,03, got {text!r}")
    return [part.zfill(2) for part in numbers]
