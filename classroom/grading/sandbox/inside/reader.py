"""The process that reads what was handed in: a child for each notebook, bounded in time and memory. No answer runs.

It knows the notebooks as they were handed out, with the solutions that may be folded into them, which those processes
in which answers run must never hold.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import json
import os
import sys
import time
from typing import Any

from . import confinement
from .child import Child
from .preload import import_from_memory
from .protocol import BROKEN, CRASHED, DATA, HEAD, READ, READY, REFUSED, TIMEOUT, in_one_line, receive, send
from .start import begin


def main() -> None:
    """The warm process. Ends when the other side of its pipes has gone."""
    incoming, outgoing, settings = begin()
    try:
        if settings["confined"]:
            confinement.become_nobody()
    except OSError as error:
        send(outgoing, REFUSED, str(error).encode())
        return
    try:
        sys.path[:] = settings["path"]
        import_from_memory(settings)
        with contextlib.suppress(ImportError):
            import IPython.core.inputtransformer2  # noqa: F401 (its rules are the notebook's)
        handed_out = functools.cache(functools.partial(_handed_out, settings["notebooks"]))
    except BaseException as error:
        send(outgoing, BROKEN, in_one_line(error).encode())
        return
    gc.collect()
    gc.freeze()
    confinement.wipe_freed_memory(False)
    if settings["confined"]:
        confinement.remember_mapped()
    send(outgoing, READY)
    while True:
        try:
            kind, length, seconds = HEAD.unpack(receive(incoming, HEAD.size))
            handed_in = receive(incoming, length)
        except EOFError:
            return
        if kind != READ:
            raise SystemExit(f"expected a notebook, got {kind!r}")
        send(outgoing, *_read(handed_out(handed_in[:2].decode()), handed_in, settings, seconds))


def _handed_out(notebooks: dict[str, str], number: str) -> Any:
    """The notebook as handed out, and looked at once from all sides, before any child needs that."""
    from classroom.grading.handed_in.handed_out import HandedOut
    from classroom.grading.handed_in.program import Program
    from classroom.grading.handed_in.take import take

    stem, text = next((stem, text) for stem, text in notebooks.items() if stem.startswith(number))
    found = HandedOut.of(json.loads(text), stem)
    take(text.encode(), found)
    program = Program(found.cells, found)
    for each in program.placed:
        program.touching, each.statement.reads  # noqa: B018 (both keep what they find)
    return found


def _read(notebook: Any, handed_in: bytes, settings: dict, seconds: int | float) -> tuple[bytes, bytes]:
    limits = settings["limits"]
    child = Child(functools.partial(_take, notebook, handed_in, settings), limits)
    try:
        kind, payload = child.answer(b"", time.monotonic() + seconds, limits["output"])
    finally:
        child.end(alone=False)
    return kind, f"no end within {seconds:.3g} s".encode() if kind == TIMEOUT else payload


def _take(notebook: Any, handed_in: bytes, settings: dict, requests: int, results: int) -> None:
    """The child's part."""
    from classroom.grading.handed_in.take import take

    try:
        os.setsid()
        confinement.die_with_parent()
        if settings["confined"]:
            limits = settings["limits"]
            confinement.limit(limits["memory"], limits["cpu"], limits["processes"], limits["file"])
            confinement.drop_rights()
        taken = take(handed_in[2:], notebook)
        send(results, DATA, json.dumps(dataclasses.asdict(taken)).encode())
    except BaseException as error:
        send(results, CRASHED, in_one_line(error).encode())
