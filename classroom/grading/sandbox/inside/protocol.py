"""What the sandbox and its outside say to each other through two pipes: a head, then as many bytes as it says."""

from __future__ import annotations

import os
import struct

HEAD = struct.Struct("<cQd")  # of everything that comes in and goes out: kind, length, seconds
READY, REFUSED, BROKEN = b"W", b"N", b"B"  # from a warm process: it is, there is no sandbox, the library does not run
READ = b"R"  # to the reader: the number of a notebook in its first two bytes, then what was handed in for it
BEGIN, QUESTION, CASES, CASE, END = b"S", b"Q", b"I", b"i", b"E"  # to the other: a submission, and what is in it
DATA, MISSING, TIMEOUT, CRASHED, GONE = b"D", b"M", b"T", b"C", b"G"  # what came out; GONE: the submission is over

MOST_FILES = 4096  # open ones: these processes never have so many


def send(pipe: int, kind: bytes, payload: bytes = b"", seconds: int | float = 0.0) -> None:
    """Write it all, however long that takes."""
    rest = memoryview(HEAD.pack(kind, len(payload), seconds) + payload)
    while rest:
        rest = rest[os.write(pipe, rest) :]


def receive(pipe: int, count: int) -> bytes:
    """Exactly so many bytes.  Raises EOFError where the other side has gone."""
    pieces = []
    while count:
        piece = os.read(pipe, min(count, 1 << 20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def close_all_but(*kept: int) -> None:
    """Close every file but these; standard input and output are nothing."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        if standard not in kept:
            os.dup2(nothing, standard, inheritable=True)
    low = 3
    for file in (*sorted(kept), MOST_FILES):
        os.closerange(low, file)
        low = max(low, file + 1)


def in_one_line(error: BaseException) -> str:
    """An exception as text that can be sent."""
    try:
        message = str(error)
    except BaseException:  # an exception may be as broken as the code that raised it
        message = "(its message could not be read)"
    line = " ".join(f"{type(error).__name__}: {message}".split())[:300]
    return line.encode("utf-8", "replace").decode()
