"""A process that is kept busy by what a student wrote, as the process sees it that has started it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from .protocol import CASE, CRASHED, DATA, HEAD, MISSING, TIMEOUT

TICK = 0.01  # seconds between two looks at what it is doing


class Child:
    """Starts it: `task` gets the pipe from which to read and the one to write to, and never returns.

    limits: of memory and computing, for the messages;  watch: over the memory of all processes, where there is one.
    """

    def __init__(self, task: Callable[[int, int], Any], limits: Mapping[str, Any], watch: Any = None) -> None:
        theirs, self._requests = os.pipe()
        self._results, writing = os.pipe()
        self._limits, self._watch, self._looked = limits, watch, 0.0
        self._got = bytearray()
        self._open = True  # somebody holds the other end of the results
        self._pid = os.fork()
        if self._pid == 0:
            task(theirs, writing)
            os._exit(0)
        os.close(theirs)
        os.close(writing)
        os.set_blocking(self._requests, False)

    def has_begun(self) -> bool:
        """Wait until it says so, with a single dot."""
        return os.read(self._results, 1) == b"."

    def answer(self, request: bytes, deadline: int | float, largest: int) -> tuple[bytes, bytes]:
        """The next message that comes from it, after a request, or what became of it: kind and payload.

        request: nothing if it is empty;  deadline: on the monotonic clock;  largest: bytes that it may say.
        """
        rest = self._given(memoryview(HEAD.pack(CASE, len(request), 0.0) + request)) if request else b""
        ended = None
        while True:
            message = self._message(largest)
            if message:
                return message
            if time.monotonic() > deadline:
                return TIMEOUT, b""
            if self._is_too_large():
                return CRASHED, f"it used more than {self._limits['total_memory'] >> 20:,} MB of memory".encode()
            waiting = [self._results] if self._open else []
            can_read, can_write, _ = select.select(waiting, [self._requests] * bool(rest), [], 0 if ended else TICK)
            if can_write:
                rest = self._given(rest)
            if can_read:
                piece = os.read(self._results, 1 << 20)
                self._got += piece
                self._open = bool(piece)
            elif ended:
                return _how_it_ended(ended, self._limits)
            if not (can_read or can_write):  # what it wrote before its end is read first
                ended = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def end(self, alone: bool) -> None:
        """End it and all that it has started: where we are number 1 of a process space, that is everybody but us."""
        os.close(self._results)
        os.close(self._requests)
        if alone and os.getpid() == 1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        else:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    def _given(self, rest: memoryview) -> memoryview:
        try:
            return rest[os.write(self._requests, rest) :]
        except BlockingIOError:
            return rest
        except OSError:
            return rest[:0]  # it does not want to hear any more

    def _message(self, largest: int) -> tuple[bytes, bytes] | None:
        if len(self._got) < HEAD.size:
            return None
        kind, length, _ = HEAD.unpack(self._got[: HEAD.size])
        if kind not in (DATA, MISSING, TIMEOUT, CRASHED):
            return CRASHED, b"it wrote something else than its results"
        if length > largest:
            return CRASHED, f"its results are larger than {self._limits['output'] >> 20:,} MB".encode()
        end = HEAD.size + length
        if len(self._got) < end:
            return None
        payload = bytes(self._got[HEAD.size : end])
        del self._got[:end]
        return kind, payload

    def _is_too_large(self) -> bool:
        now = time.monotonic()
        if self._watch is None or now < self._looked + TICK:
            return False
        self._looked = now
        return self._watch.memory() > self._limits["total_memory"]


def _how_it_ended(ended: Any, limits: Mapping[str, Any]) -> tuple[bytes, bytes]:
    if ended.si_code == os.CLD_EXITED:
        return CRASHED, f"its process ended (exit code {ended.si_status}) before it had given its results".encode()
    if ended.si_status == signal.SIGXCPU:
        return TIMEOUT, f"no answer within {limits['cpu']:.3g} s of computing".encode()
    known = {each.value: each.name for each in signal.Signals}
    return CRASHED, f"its process was ended by {known.get(ended.si_status, f'signal {ended.si_status}')}".encode()
