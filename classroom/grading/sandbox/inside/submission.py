"""The first process of a submission: starts one for each question and hands it its cases, one at a time."""

from __future__ import annotations

import functools
import marshal
import os
import time
from typing import Any

from . import confinement, question
from .child import Child
from .preload import Notebooks
from .protocol import CASES, DATA, HEAD, QUESTION, receive, send


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
        confined = watch is not None
        task = functools.partial(question.answer, incoming, length, seconds, notebooks, limits, confined)
        child = Child(task, limits, watch)
        try:
            if not child.has_begun():  # it has not even read its question: who knows what is left in the pipe
                raise OSError("the question's process could not even read it")
            _hand_over(child, _cases(incoming), outgoing, seconds, limits["output"])
        finally:
            child.end(alone=confined)


def _cases(incoming: int) -> list[bytes]:
    """Read by this process alone, and only now that the question's has been started: it does not inherit them."""
    kind, length, _ = HEAD.unpack(receive(incoming, HEAD.size))
    if kind != CASES:
        raise OSError(f"expected the cases of a question, got {kind!r}")
    return marshal.loads(receive(incoming, length))


def _hand_over(child: Child, cases: list[bytes], outgoing: int, seconds: int | float, left: int) -> None:
    """The next case when the result of the one before is out; time and bytes are those of all cases together.

    Sends all results at the end, or what went wrong.
    """
    deadline = time.monotonic() + seconds
    results = []
    for case in cases:
        kind, payload = child.answer(case, deadline, left)
        if kind != DATA:
            return send(outgoing, kind, payload)
        results.append(payload)
        left -= len(payload)
    for payload in results:
        send(outgoing, DATA, payload)
