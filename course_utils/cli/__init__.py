"""The command line, `python -m course_utils train`, `sample` and `doctor`.

Here stands what every command needs, those of `python -m classroom` too: errors in a line, and the exit status.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator

__all__ = ["Refused", "cli_errors", "run_command"]


class Refused(Exception):
    """An argument, or a file that one names, is wrong. The message is for the person who typed it."""


@contextlib.contextmanager
def cli_errors(where: object = None) -> Iterator[None]:
    """What the library and the system say about wrong values is said as it is, without a traceback.

    where: the place that is named if the system names none: a full disk is an error without a file.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        raise Refused(str(error).rstrip(".")) from error
    except OSError as error:
        place = error.filename or where
        raise Refused(f"'{place}': " * (place is not None) + str(error.strerror or error)) from error


def run_command(parser: argparse.ArgumentParser, argv: list[str] | None) -> int:
    """Parse the arguments and call the `run` of their command; returns the exit status.

    0 when all is well, 1 when something was found or failed, 2 for a wrong argument, 130 after Ctrl-C.
    """
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except Refused as reason:
        print(f"{arguments.command}: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped by hand.", file=sys.stderr)
        return 130
