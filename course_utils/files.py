"""Writing a file so that at every moment it is whole, old or new, whatever happens to the process or the disk."""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["check_writable", "clear_left_overs", "sole_user", "write_whole"]


def write_whole(path: str | os.PathLike, content: bytes | memoryview) -> None:
    """Write bytes to `path`, and make its folder where it is missing.

    A neighbour is written first, down to the disk, and then renamed. Raises OSError (a full disk, a closed folder):
    what was there before is then still there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def check_writable(folder: str | os.PathLike) -> None:
    """Make the folder where it is missing, and for a moment a file in it: permissions alone don't tell.

    Raises OSError where that can't be done.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def clear_left_overs(path: str | os.PathLike) -> None:
    """Remove the neighbours of `path` that killed processes left half-written."""
    path = Path(path)
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            left_over.unlink()


@contextlib.contextmanager
def sole_user(folder: str | os.PathLike) -> Iterator[None]:
    """Inside, no other process is inside for the same folder: BlockingIOError where one is already.

    The system keeps the lock and gives it up when the process ends, however it ends; nothing is written. Where there
    are no such locks (Windows, some network disks) everyone is let in.
    """
    with contextlib.ExitStack() as afterwards:
        if fcntl is not None:
            try:
                handle = os.open(folder, os.O_RDONLY)
                afterwards.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:
                pass
        yield
