"""A warm process as its outside sees it: started, written to, read from with a deadline, and ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time

from .bwrap import ADVICE, NoSandbox, command, environment
from .inside import protocol

STARTING = 180  # seconds: to import everything
MB = 1 << 20


class Lost(Exception):
    """The warm process does not answer as it should."""


class Warm:
    """A warm process and its two pipes. It is there at once and gets ready while others do something else.

    part: the module of `inside` that is run there;  settings: what it is told first.
    """

    def __init__(self, part: str, settings: bytes, unsafe: bool) -> None:
        self._ready = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `end`)
        self._process = subprocess.Popen(
            command(part, unsafe),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
        for pipe in (self._process.stdin, self._process.stdout):
            os.set_blocking(pipe.fileno(), False)
        with contextlib.suppress(Lost):  # `ready` finds out why
            self.send(protocol.BEGIN, settings)

    def ready(self) -> None:
        """Wait until it is.  NoSandbox if there can be none here, RuntimeError if the course's code does not run."""
        if self._ready:
            return
        try:
            kind, data = self.receive(STARTING, MB)
        except Lost as error:
            raise NoSandbox(f"The sandbox does not start: {self._complaint() or error}. {ADVICE}") from None
        if kind == protocol.REFUSED:
            raise NoSandbox(f"This system does not let the sandbox shut its doors: {one_line(data)}. {ADVICE}")
        if kind != protocol.READY:
            raise RuntimeError(f"the course's own code does not run in the sandbox: {one_line(data)}")
        self._ready = True

    def send(self, kind: bytes, payload: bytes = b"", seconds: int | float = 0.0) -> None:
        deadline = time.monotonic() + STARTING
        pipe = self._process.stdin.fileno()
        for rest in map(memoryview, (protocol.HEAD.pack(kind, len(payload), seconds), payload)):
            while rest:
                if not select.select([], [pipe], [], max(0, deadline - time.monotonic()))[1]:
                    raise Lost("it takes nothing in")
                try:
                    rest = rest[os.write(pipe, rest) :]
                except BlockingIOError:
                    continue
                except OSError:
                    raise Lost("it has ended") from None

    def receive(self, seconds: int | float, largest: int) -> tuple[bytes, bytes]:
        """Kind and payload of the next message."""
        deadline = time.monotonic() + seconds
        kind, length, _ = protocol.HEAD.unpack(self._exactly(protocol.HEAD.size, deadline))
        if length > largest:
            raise Lost("it says more than it may")
        return kind, self._exactly(length, deadline)

    def _exactly(self, count: int, deadline: int | float) -> bytes:
        pipe = self._process.stdout.fileno()
        got = bytearray()
        while len(got) < count:
            if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
                raise Lost("it does not answer")
            piece = os.read(pipe, min(count - len(got), 1 << 20))
            if not piece:
                raise Lost("it has ended")
            got += piece
        return bytes(got)

    def _complaint(self) -> str:
        """The last line that it wrote to stderr."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._errors.seek(0)
        lines = self._errors.read(100_000).strip().splitlines()
        return one_line(lines[-1]).rstrip(".") if lines else ""

    def end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._errors.close()


def one_line(data: bytes) -> str:
    """A line from the inside, where a student's code may have written it: printable, and not long."""
    text = data[:2000].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]
