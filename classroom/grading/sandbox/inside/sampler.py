"""The warm process of a challenge. Each submission is one sampler: it asks the outside for every evaluation of its
network, which is nowhere in here, and gives its images in the end.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import time
from typing import Any, NoReturn

from . import confinement, server
from .child import Child
from .preload import Notebooks
from .protocol import CASE, CRASHED, DATA, HEAD, MISSING, QUESTION, close_all_but, in_one_line, receive, send
from .question import shut_in

FILE = "sampler.py"  # so in messages


def main() -> None:
    """The warm process. Ends when the other side of its pipes has gone."""
    server.main(serve)


def serve(incoming: int, outgoing: int, notebooks: Notebooks, limits: dict, watch: Any) -> None:
    """One sampler: its source, then what it is called with, then one reply to each of its requests."""
    kind, length, _ = HEAD.unpack(receive(incoming, HEAD.size))
    if kind != QUESTION:
        return
    confined = watch is not None
    child = Child(functools.partial(_sampler, incoming, length, limits, confined), limits, watch)
    try:
        if not child.has_begun():
            raise OSError("the sampler's process could not even read its source")
        _talk(child, incoming, outgoing, limits["output"], confined)
    finally:
        child.end(alone=confined)


def _talk(child: Child, incoming: int, outgoing: int, largest: int, confined: bool) -> None:
    """Pass on what comes from the outside and what the sampler says to it, in turn. Its time is its own turns only."""
    while True:
        kind, length, seconds = HEAD.unpack(receive(incoming, HEAD.size))
        if kind != CASE:
            return
        said = receive(incoming, length)
        _let_everybody(signal.SIGCONT, confined)
        answer = child.answer(said, time.monotonic() + seconds, largest)
        _let_everybody(signal.SIGSTOP, confined)  # nothing is computed, and no memory filled, while nobody looks
        send(outgoing, *answer)


def _let_everybody(do: signal.Signals, confined: bool) -> None:
    """Number 1 of a process space signals all others in it."""
    if confined:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, do)


# ---------------------------------------------------------------------------------------------- the sampler's process


def _sampler(incoming: int, length: int, limits: dict, confined: bool, requests: int, results: int) -> NoReturn:
    """From here on everything may be a student's."""
    try:
        source = receive(incoming, length)
        close_all_but(requests, results)
        os.write(results, b".")
        shut_in(limits, confined)
        confinement.wipe_freed_memory(False)
        _sample(source, requests, results)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            send(results, CRASHED, f"{_place(error)}{in_one_line(error)}".encode())
    finally:
        os._exit(0)


def _sample(source: bytes, requests: int, results: int) -> None:
    """Run the file, call its function, send the images."""
    import torch

    from classroom.quizzes import wire
    from course_utils.diffusion import Schedule

    def heard() -> dict[str, Any]:
        _, length, _ = HEAD.unpack(receive(requests, HEAD.size))
        return wire.from_wire(receive(requests, length))

    def plain(value: Any, kind: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(value).detach().to(kind)

    def denoise(x_t: Any, t: Any, y: Any = None) -> torch.Tensor:
        asked = {"x_t": plain(x_t, torch.float32), "t": plain(t, torch.int64)}
        asked["y"] = None if y is None else plain(y, torch.int64)
        send(results, DATA, wire.to_wire(asked))
        return heard()["x0"]

    random.seed(0)
    torch.manual_seed(0)
    given = heard()
    schedule = Schedule(given["alpha_bar"], given["name"])
    namespace: dict[str, Any] = {"__name__": "sampler"}
    exec(compile(source, FILE, "exec", dont_inherit=True), namespace)
    if "sample" not in namespace:
        return send(results, MISSING, b"it defines no function called sample")
    images = namespace["sample"](denoise, schedule, given["noise"], given["y"], given["evaluations"])
    send(results, DATA, wire.to_wire({"images": plain(images, torch.float32)}))


def _place(error: BaseException) -> str:
    """Where in the student's own file it happened."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == FILE else line
        trace = trace.tb_next
    return f"line {line}: " if line else ""
