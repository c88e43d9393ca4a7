"""The warm process: imports everything once, then makes a sandbox of its own for each submission.

The outside (`host`) starts it and talks to it through its standard input and output.
"""

from __future__ import annotations

import gc
import marshal
import os
import signal
from typing import Any

from . import confinement, submission
from .preload import Notebooks, preload
from .protocol import BEGIN, BROKEN, GONE, HEAD, READY, REFUSED, close_all_but, in_one_line, receive, send


def main() -> None:
    """The warm process. Ends when the other side of its pipes has gone."""
    import fcntl  # here, since Windows has none, and there too this can be imported

    incoming, outgoing = (fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, 10) for pipe in (0, 1))
    close_all_but(2, incoming, outgoing)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _, length, _ = HEAD.unpack(receive(incoming, HEAD.size))
    settings = marshal.loads(receive(incoming, length))
    confined = settings["confined"]
    try:
        if confined:
            confinement.become_nobody()
            _in_another_process(_enter_and_leave)
    except OSError as error:
        send(outgoing, REFUSED, str(error).encode())
        return
    try:
        notebooks = preload(settings)
    except BaseException as error:
        send(outgoing, BROKEN, in_one_line(error).encode())
        return
    limits = settings["limits"]
    del settings
    gc.collect()
    gc.freeze()  # so that the garbage collector of a question leaves alone what it shares with the others
    if confined:
        confinement.remember_mapped()
    os.dup2(0, 2, inheritable=True)  # nobody has anything to say from here on
    send(outgoing, READY)
    while True:
        try:
            kind, _, _ = HEAD.unpack(receive(incoming, HEAD.size))
        except EOFError:
            return
        if kind != BEGIN:
            raise SystemExit(f"expected the beginning of a submission, got {kind!r}")
        trouble = ""
        try:
            _in_another_process(_submission, incoming, outgoing, notebooks, limits, confined)
        except OSError as error:
            trouble = str(error)
        send(outgoing, GONE, trouble.encode())


def _in_another_process(task: Any, *arguments: Any) -> None:
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


def _enter_and_leave() -> None:
    """Everything that a question will need, tried once."""

    def first() -> None:
        submission.enter()
        confinement.own_temporary_files(1 << 20)
        confinement.drop_rights()

    confinement.own_namespaces()
    _in_another_process(first)


def _submission(incoming: int, outgoing: int, notebooks: Notebooks, limits: dict, confined: bool) -> None:
    if not confined:
        return submission.serve(incoming, outgoing, notebooks, limits, None)
    confinement.own_namespaces()
    return _in_another_process(_first, incoming, outgoing, notebooks, limits)


def _first(incoming: int, outgoing: int, notebooks: Notebooks, limits: dict) -> None:
    submission.serve(incoming, outgoing, notebooks, limits, submission.enter())
