"""Commands of the course: `python -m course_utils train`, `sample`, `release`, `grade`, `doctor`, `build`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from course_utils.commands import Refused
from course_utils.commands.options import Parser, add_grade, add_sample, add_train
from course_utils.commands.release import add_release

ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status.

    0 when all is well, 1 when something was found or failed, 2 for a wrong argument, 130 after Ctrl-C.
    """
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except Refused as reason:
        print(f"{arguments.command}: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped by hand.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The command line: one sub-command a task."""
    top = Parser(prog="python -m course_utils", description="A course on image generation.")
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")
    add_train(commands).set_defaults(run=_train)
    add_sample(commands).set_defaults(run=_sample)
    add_release(commands)
    add_grade(commands).set_defaults(run=_grade)

    doctor = commands.add_parser("doctor", help="what this machine has, and what to do about what it lacks")
    doctor.set_defaults(run=_doctor)

    build = commands.add_parser("build", help="make the notebooks from solutions/NN_name.py")
    build.add_argument("numbers", nargs="*", metavar="NN", help="notebook numbers; all when none is given")
    build.add_argument("--check", action="store_true", help="write nothing; exit 1 if a notebook has drifted")
    build.add_argument("--no-solutions", action="store_true", help="leave the folded solutions out (a graded class)")
    build.add_argument("--to", type=Path, metavar="FOLDER", help="student notebooks go there; nothing is executed")
    build.add_argument("--no-execute", action="store_true", help="leave solved notebooks alone whose code changed")
    build.add_argument("--fresh", action="store_true", help="execute solved notebooks even if their code is the same")
    build.add_argument("--measure", action="store_true", help="write down how long executing took, and how much memory")
    build.add_argument("--effort", choices=("smoke", "cpu", "gpu"), default="cpu", help="for executing (cpu)")
    build.add_argument("--data", default="fashion-mnist", help="data set for executing (fashion-mnist)")
    build.set_defaults(run=_build)
    return top


def _train(arguments: argparse.Namespace) -> int:
    from course_utils.commands.train import run

    return run(arguments)


def _sample(arguments: argparse.Namespace) -> int:
    from course_utils.commands.sample import run

    return run(arguments)


def _grade(arguments: argparse.Namespace) -> int:
    if not (ROOT / "solutions").is_dir():
        raise Refused(f"no folder solutions/ in {ROOT}: run it from a clone of the course")
    from course_utils.commands.grade import run

    return run(arguments)


def _doctor(arguments: argparse.Namespace) -> int:
    from course_utils.doctor import doctor

    report = doctor()
    print(report)
    return 0 if report.ok else 1


def _build(arguments: argparse.Namespace) -> int:
    if not (ROOT / "solutions").is_dir():
        print(f"build: no folder solutions/ in {ROOT}: run it from a clone of the course", file=sys.stderr)
        return 1
    if arguments.no_solutions and not arguments.to and not arguments.check:
        print("build: --no-solutions takes --to FOLDER, so that notebooks/ stays what its masters say", file=sys.stderr)
        return 1
    from course_utils.authoring.building import main as run

    return run(arguments, ROOT)


if __name__ == "__main__":
    sys.exit(main())
