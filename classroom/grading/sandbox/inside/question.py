"""The process of one question: shut in, it runs the answer cell and calls what it defines."""

from __future__ import annotations

import contextlib
import marshal
import os
import random
import sys
import time
import types
from collections.abc import Mapping
from typing import Any, NoReturn

from . import confinement
from .cell import run_cell
from .preload import Notebooks
from .protocol import CRASHED, DATA, HEAD, MISSING, TIMEOUT, close_all_but, in_one_line, receive, send

RECURSION = 3_000  # as deep as a notebook's kernel lets functions call each other


def answer(
    incoming: int,
    length: int,
    seconds: int | float,
    notebooks: Notebooks,
    limits: dict,
    confined: bool,
    requests: int,
    results: int,
) -> NoReturn:
    """The process of one question: from here on everything may be a student's."""
    try:
        question = marshal.loads(receive(incoming, length))
        close_all_but(requests, results)
        os.write(results, b".")
        shut_in(limits, confined)
        _answer(question, notebooks, seconds, requests, results)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            send(results, CRASHED, in_one_line(error).encode())
    finally:
        os._exit(0)


def shut_in(limits: dict, confined: bool) -> None:
    """From here on this process can do no harm, and has no way back."""
    import resource

    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not confined:
        confinement.die_with_parent()
        return
    confinement.own_temporary_files(limits["files"])
    confinement.limit(limits["memory"], limits["cpu"], limits["processes"], limits["file"])
    confinement.drop_rights()


def _answer(
    question: Mapping[str, Any], notebooks: Notebooks, seconds: int | float, requests: int, results: int
) -> None:
    """Run the answer cell, then call the function that it defines on one case after another, as they come."""
    from classroom.quizzes import forbidding, wire

    for dotted in question["forbidden"]:
        forbidding.forbid(dotted)
    confinement.wipe_freed_memory(False)  # that was the last; it takes time
    namespace = _namespace(question, notebooks)
    name = question["name"]
    trouble, late = _run(question, namespace, seconds / 2)
    if name not in namespace:
        if late:
            return send(results, TIMEOUT, b"the cell itself takes more than half of the time for an answer")
        return send(results, MISSING, (trouble or f"the cell does not define {name}").encode("utf-8", "replace"))
    found = namespace[name]
    while True:
        _, length, _ = HEAD.unpack(receive(requests, HEAD.size))
        send(results, DATA, wire.answer_wire(found, receive(requests, length)))


def _namespace(question: Mapping[str, Any], notebooks: Notebooks) -> dict[str, Any]:
    """What the answer finds: the prelude's own namespace, not a copy, so that its functions see the answer's names."""
    module = sys.modules["__main__"] = notebooks.get(question["notebook"]) or types.ModuleType("__main__")
    namespace = vars(module)
    for name, code in question["supplied"]:
        own = dict(namespace)
        exec(marshal.loads(code), own)
        namespace[name] = own[name]
    namespace.pop(question["name"], None)  # what the course has under this name is not the student's
    return namespace


def _run(question: Mapping[str, Any], namespace: dict[str, Any], seconds: int | float) -> tuple[str, bool]:
    """What the answer needs from other cells, then its own, whose lines keep their numbers: first trouble, and if late.

    The seed is the same in every run, as for each case.
    """
    import numpy

    random.seed(0)
    numpy.random.seed(0)
    sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION))
    deadline = time.monotonic() + seconds
    other, late = run_cell(question["above"], f"<above {question['id']}>", namespace, seconds, "what stands above it")
    left = max(deadline - time.monotonic(), 0.01)
    source, name = question["source"], question["name"]
    trouble, late_too = run_cell(source, f"<answer {question['id']}>", namespace, left, name=name)
    return trouble or other, late or late_too
