"""The warm process: imports everything once, then makes a sandbox of its own for each submission.

The outside (`host`) starts it and talks to it through its standard input and output.
"""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Callable
from typing import Any

from . import confinement, submission
from .preload import Notebooks, preload
from .protocol import BEGIN, BROKEN, GONE, HEAD, READY, REFUSED, in_one_line, receive, send
from .start import begin, in_another_process

Serve = Callable[[int, int, Notebooks, dict, Any], None]


def main(serve: Serve = submission.serve) -> None:
    """The warm process. Ends when the other side of its pipes has gone.

    serve: what the first process of a submission does;  it takes the pipes from and to the outside, the notebooks, the
    limits and, where there are walls, the watch over memory.
    """
    incoming, outgoing, settings = begin()
    confined, limits = settings["confined"], settings["limits"]
    try:
        if confined:
            confinement.become_nobody()
            in_another_process(_enter_and_leave)
    except OSError as error:
        send(outgoing, REFUSED, str(error).encode())
        return
    try:
        notebooks = preload(settings)
    except BaseException as error:
        send(outgoing, BROKEN, in_one_line(error).encode())
        return
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
            in_another_process(_submission, functools.partial(serve, incoming, outgoing, notebooks, limits), confined)
        except OSError as error:
            trouble = str(error)
        send(outgoing, GONE, trouble.encode())


def _enter_and_leave() -> None:
    """Everything that a question will need, tried once."""

    def first() -> None:
        submission.enter()
        confinement.own_temporary_files(1 << 20)
        confinement.drop_rights()

    confinement.own_namespaces()
    in_another_process(first)


def _submission(serve: Callable[[Any], None], confined: bool) -> None:
    if not confined:
        confinement.die_with_parent()
        return serve(None)
    confinement.own_namespaces()
    return in_another_process(_first, serve)


def _first(serve: Callable[[Any], None]) -> None:
    serve(submission.enter())
