"""How the warm processes begin, and how they let a part be done by another process."""

from __future__ import annotations

import marshal
import os
import signal
from typing import Any

from . import confinement
from .protocol import HEAD, close_all_but, in_one_line, receive


def begin() -> tuple[int, int, dict]:
    """The pipes to and from the outside, which are nobody else's from now on, and what there is to know."""
    import fcntl  # here, since Windows has none, and there too this can be imported

    incoming, outgoing = (fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, 10) for pipe in (0, 1))
    close_all_but(2, incoming, outgoing)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    confinement.die_with_parent()
    confinement.wipe_freed_memory(True)
    _, length, _ = HEAD.unpack(receive(incoming, HEAD.size))
    return incoming, outgoing, marshal.loads(receive(incoming, length))


def in_another_process(task: Any, *arguments: Any) -> None:
    """Fork, run it there, wait.  Raises OSError with what it wrote into its pipe, if it could not do it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            task(*arguments)
        except BaseException as error:
            os.write(writing, in_one_line(error).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        trouble = pipe.read()
    os.waitpid(child, 0)
    if trouble:
        raise OSError(trouble.decode())
