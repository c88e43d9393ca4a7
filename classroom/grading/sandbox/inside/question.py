"""The process of one question: shut in, it runs the answer cell and calls what it defines."""

from __future__ import annotations

import contextlib
import marshal
import os
import sys
import types
from collections.abc import Mapping
from typing import Any, NoReturn

from . import confinement
from .cell import run_cell
from .forbid import forbid
from .preload import Notebooks
from .protocol import CRASHED, DATA, MISSING, TIMEOUT, close_all_but, in_one_line, receive, send


def answer(
    incoming: int, length: int, outgoing: int, seconds: int | float, notebooks: Notebooks, limits: dict, confined: bool
) -> NoReturn:
    """The process of one question: from here on everything may be a student's."""
    try:
        question = marshal.loads(receive(incoming, length))
        close_all_but(outgoing)
        os.write(outgoing, b".")
        _shut_in(limits, confined)
        send(outgoing, *_answered(question, notebooks, seconds))
    except BaseException as error:
        with contextlib.suppress(BaseException):
            send(outgoing, CRASHED, in_one_line(error).encode())
    finally:
        os._exit(0)


def _shut_in(limits: dict, confined: bool) -> None:
    import resource

    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not confined:
        return
    confinement.own_temporary_files(limits["files"])
    confinement.limit(limits["memory"], limits["cpu"], limits["processes"], limits["file"])
    confinement.drop_rights()


def _answered(question: Mapping[str, Any], notebooks: Notebooks, seconds: int | float) -> tuple[bytes, bytes]:
    """Run the answer cell, call the function that it defines: kind and payload."""
    from classroom.quizzes import running

    for dotted in question["forbidden"]:
        forbid(dotted)
    # The prelude's own namespace, not a copy: the process is ours alone, and the prelude's functions see the answer's.
    module = sys.modules["__main__"] = notebooks.get(question["notebook"]) or types.ModuleType("__main__")
    namespace = vars(module)
    for name, code in question["supplied"]:
        own = dict(namespace)
        with contextlib.suppress(Exception):  # a student's own other answer may fail; this one is told by a NameError
            exec(marshal.loads(code), own)
            namespace[name] = own[name]
    name = question["name"]
    namespace.pop(name, None)  # what the course has under this name is not the student's
    trouble, late = run_cell(question["source"], f"<answer {question['id']}>", namespace, seconds / 2)
    if name not in namespace and late:
        return TIMEOUT, f"the cell itself runs for more than {seconds / 2:.3g} s".encode()
    if name not in namespace:
        return MISSING, (trouble or f"the cell does not define {name}").encode("utf-8", "replace")
    return DATA, running.answer_wire(namespace[name], question["request"])
