"""What stands behind the commands `train` and `sample` of `python -m course_utils`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["Refused", "plainly"]


class Refused(Exception):
    """An argument, or a file that one names, is wrong. The message is for the person who typed it."""


@contextlib.contextmanager
def plainly(where: object = None) -> Iterator[None]:
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
