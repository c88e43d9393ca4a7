"""The first process of a submission: starts one for each question, reads what comes out, ends whatever is left."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import Any

from . import confinement, question
from .preload import Notebooks
from .protocol import CRASHED, DATA, HEAD, MISSING, QUESTION, TIMEOUT, receive, send

TICK = 0.01  # seconds between two looks at what a question's processes are doing


def enter() -> Any:
    """Process number 1 of a submission shuts the door behind it. Gives the watch over memory."""
    if os.getpid() != 1:
        raise OSError("a process space of its own: it is not the first process in there")
    confinement.die_with_parent()
    watch = confinement.Watch()
    confinement.hide_processes()
    confinement.hide_memory()
    return watch


def serve(incoming: int, outgoing: int, notebooks: Notebooks, limits: dict, watch: Any) -> None:
    """One question after another, until there are no more."""
    while True:
        try:
            kind, length, seconds = HEAD.unpack(receive(incoming, HEAD.size))
        except EOFError:
            return
        if kind != QUESTION:
            return
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            question.answer(incoming, length, writing, seconds, notebooks, limits, confined=watch is not None)
        os.close(writing)
        try:
            if os.read(reading, 1) != b".":  # it has not even read its question: who knows what is left in the pipe
                raise OSError("the question's process could not even read it")
            send(outgoing, *_what_comes(child, reading, seconds, limits, watch))
        finally:
            os.close(reading)
            _kill_what_is_left(child, alone=watch is not None)


def _what_comes(child: int, pipe: int, seconds: int | float, limits: dict, watch: Any) -> tuple[bytes, bytes]:
    """What a question's process writes, or what became of it: kind and payload."""
    deadline = time.monotonic() + seconds
    got = bytearray()
    waiting_for, ended = [pipe], None
    while True:
        if select.select(waiting_for, [], [], 0 if ended else TICK)[0]:
            piece = os.read(pipe, 1 << 20)
            got += piece
            if not piece:
                waiting_for = []  # nobody holds its other end any longer
        elif ended:
            return _how_it_ended(ended, limits)
        complete = _complete(got, limits["output"])
        if complete:
            return complete
        if time.monotonic() > deadline:
            return TIMEOUT, f"no answer within {seconds:.3g} s".encode()
        if watch and watch.memory() > limits["total_memory"]:
            return CRASHED, f"it used more than {limits['total_memory'] >> 20:,} MB of memory".encode()
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def _complete(got: bytearray, largest: int) -> tuple[bytes, bytes] | None:
    if len(got) < HEAD.size:
        return None
    kind, length, _ = HEAD.unpack(got[: HEAD.size])
    if kind not in (DATA, MISSING, TIMEOUT, CRASHED):
        return CRASHED, b"it wrote something else than its results"
    if length > largest:
        return CRASHED, f"its results are larger than {largest >> 20:,} MB".encode()
    if len(got) - HEAD.size < length:
        return None
    return kind, bytes(got[HEAD.size : HEAD.size + length])


def _how_it_ended(ended: Any, limits: dict) -> tuple[bytes, bytes]:
    if ended.si_code == os.CLD_EXITED:
        return CRASHED, f"its process ended (exit code {ended.si_status}) before it had given its results".encode()
    if ended.si_status == signal.SIGXCPU:
        return TIMEOUT, f"no answer within {limits['cpu']:.3g} s of computing".encode()
    known = {each.value: each.name for each in signal.Signals}
    return CRASHED, f"its process was ended by {known.get(ended.si_status, f'signal {ended.si_status}')}".encode()


def _kill_what_is_left(child: int, alone: bool) -> None:
    """End the question's process and all that it has started: in its own process space, that is everybody but us."""
    if alone and os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    else:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
