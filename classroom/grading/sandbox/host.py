"""The sandbox's outside: starts it, hands in what students wrote, takes bytes out, survives whatever happens in there.

Make a Sandbox in the thread that uses it: bubblewrap ends with that thread.
"""

from __future__ import annotations

import json
import marshal
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..handed_in.take import Taken
from ..records import Answer, Outcome, Question
from .bwrap import NoSandbox, import_path, place
from .inside import protocol
from .luggage import LIBRARY, Luggage, compiled
from .warm import MB, Lost, Warm, one_line

LARGEST_SOURCE = 1_000_000  # characters of an answer
LARGEST_TAKEN = 8 * MB  # of what is taken from a notebook
GRACE = 15  # seconds beyond a question's own limit, before help is called
SHARE = 1 / 4  # of the time that is left to a submission, for one question: endless ones leave something to the others


@dataclass(frozen=True)
class Limits:
    """How much a question may take, and a submission.

    seconds, cpu: of one question, by the clock and of computing;  submission: seconds of all its questions together;
    reading: seconds until a notebook is read;  memory: MB of one process, on top of the imports;  total_memory: MB of
    all processes of a question;  processes: with threads;  output: MB of results;  files: MB in /tmp.
    """

    seconds: int | float = 20
    cpu: int | float = 20
    submission: int | float = 120
    again: int | float = 30
    reading: int | float = 20
    memory: int = 3000
    total_memory: int = 4000
    processes: int = 32
    output: int = 200
    files: int = 64


def why_not() -> str:
    """Why there can be no sandbox here, in one line; "" if it works (one is built and left again)."""
    try:
        with Sandbox(Luggage()) as sandbox:
            sandbox.ready()
    except NoSandbox as error:
        return str(error)
    return ""


class Sandbox:
    """Reads notebooks, and runs answers on inputs, where they can do no harm.

    luggage: what it knows of the course;  unsafe: no walls at all, only limits of time; for one's own notebooks.

    It is there at once and gets ready while its maker does something else. NoSandbox if there is none here, and
    RuntimeError if the library or a prelude does not run, come from `ready`, or whatever is called first.
    """

    def __init__(self, luggage: Luggage, limits: Limits = Limits(), unsafe: bool = False) -> None:
        self.limits = limits
        self._unsafe = unsafe
        self._settings = {
            "server": {"modules": luggage.library, "preludes": luggage.preludes},
            "reader": {"modules": luggage.reader, "notebooks": luggage.notebooks},
        }
        self._warm: dict[str, Warm] = {}
        self._begun = False
        for part in self._settings:
            self._start(part)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ready(self) -> None:
        """Wait until it is, which whatever else is called does too."""
        for part in self._settings:
            self._part(part)

    def close(self) -> None:
        """End it, and everything in it."""
        for part in self._settings:
            self._end(part)

    # ------------------------------------------------------------------------------------------------------- reading

    def read(self, data: bytes, notebook: str) -> Taken:
        """What `take` finds in the bytes that were handed in for the notebook with this number."""
        seconds = self.limits.reading
        try:
            reader = self._part("reader")
            reader.send(protocol.READ, notebook.encode()[:2] + data, seconds)
            kind, payload = reader.receive(seconds + GRACE, LARGEST_TAKEN)
        except Lost as error:
            self._end("reader")
            return Taken((), (), f"it could not be read: {error}")
        except BaseException:
            self._end("reader")
            raise
        if kind == protocol.DATA:
            return _taken(json.loads(payload))
        return Taken((), (), f"it could not be read: {one_line(payload)}")

    # ------------------------------------------------------------------------------------------------------ answering

    def run(self, questions: Sequence[Question], seconds: int | float | None = None) -> list[Outcome]:
        """The outcomes of one submission's questions, in order. Nothing that an answer does gets out of here.

        seconds: for all of them together, if not as many as a submission may have.
        """
        try:
            return self._run(questions, time.monotonic() + (seconds or self.limits.submission))
        except BaseException:  # Ctrl-C: what is half said and half read cannot be continued
            self._end("server")
            raise

    def _run(self, questions: Sequence[Question], deadline: int | float) -> list[Outcome]:
        outcomes = []
        for question in questions:
            if len(question.source) + len(question.above) > LARGEST_SOURCE:
                outcomes.append(Outcome(None, "missing", f"the cell has more than {LARGEST_SOURCE:,} characters"))
            else:
                outcomes.append(self._outcome(question, (deadline - time.monotonic()) * SHARE))
        self._finish()
        return outcomes

    def _outcome(self, question: Question, left: int | float) -> Outcome:
        """left: seconds of the submission's that it may have, if they are fewer than every question may have."""
        seconds = max(min(left, self.limits.seconds), 0.1)
        try:
            server = self._part("server")
            if not self._begun:
                server.send(protocol.BEGIN)
                self._begun = True
            server.send(protocol.QUESTION, marshal.dumps(_payload(question)), seconds)
            server.send(protocol.CASES, marshal.dumps(list(question.requests)))
            kind, pieces = self._pieces(server, len(question.requests), seconds + GRACE)
        except Lost as error:
            self._end("server")
            return Outcome(None, "crashed", f"its sandbox had to be started again: {error}")
        if kind == protocol.DATA:
            return Outcome(tuple(pieces))
        trouble = {protocol.MISSING: "missing", protocol.TIMEOUT: "timeout", protocol.CRASHED: "crashed"}.get(kind)
        detail = one_line(pieces[-1])
        if trouble is None:
            self._end("server")
            return Outcome(None, "crashed", f"its sandbox had to be started again: {detail or 'it was gone'}")
        return Outcome(None, trouble, detail or self._too_late(seconds))

    def _pieces(self, server: Warm, count: int, seconds: int | float) -> tuple[bytes, list[bytes]]:
        """The result of each case; or, behind what came before, why there is none. With the kind of the last one."""
        deadline = time.monotonic() + seconds
        pieces: list[bytes] = []
        kind, left = protocol.DATA, self.limits.output * MB
        while kind == protocol.DATA and len(pieces) < count:
            kind, data = server.receive(deadline - time.monotonic(), left)
            pieces.append(data)
            left -= len(data)
        return kind, pieces

    def _too_late(self, seconds: int | float) -> str:
        """The same in every run: how much the others have left is not."""
        if seconds < self.limits.seconds:
            return "no answer within the time that the answers before it had left"
        return f"no answer within {seconds:.3g} s"

    def _finish(self) -> None:
        """The submission's own sandbox is gone when this returns."""
        if not self._begun:
            return
        self._begun = False
        try:
            self._warm["server"].send(protocol.END)
            kind, _ = self._warm["server"].receive(GRACE, MB)
        except Lost:
            kind = b""
        if kind != protocol.GONE:
            self._end("server")

    # -------------------------------------------------------------------------------------------------- its processes

    def _part(self, part: str) -> Warm:
        """The process, started again where it had ended, and ready."""
        if part not in self._warm:
            self._start(part)
        try:
            self._warm[part].ready()
        except BaseException:
            self._end(part)
            raise
        return self._warm[part]

    def _start(self, part: str) -> None:
        settings = _about(self.limits, self._unsafe) | self._settings[part]
        self._warm[part] = Warm(part, marshal.dumps(settings), self._unsafe)

    def _end(self, part: str) -> None:
        if part in self._warm:
            self._warm.pop(part).end()
        if part == "server":
            self._begun = False


def _payload(question: Question) -> dict[str, Any]:
    """What the question's process gets. The course's own goes compiled, what a student wrote is compiled in there."""
    return {
        "id": question.id,
        "name": question.name,
        "source": question.source,
        "above": question.above,
        "notebook": question.notebook,
        "supplied": [(name, compiled(text, f"supplied/{name}.py")) for name, text in question.supplied.items()],
        "forbidden": list(question.forbidden),
    }


def _taken(found: dict[str, Any]) -> Taken:
    """What came out of `take`, from JSON, which knows no tuples."""
    answers = tuple(Answer(**{name: _plain(value) for name, value in each.items()}) for each in found["answers"])
    return Taken(answers, tuple(found["notes"]), found["trouble"])


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _about(limits: Limits, unsafe: bool) -> dict[str, Any]:
    """What both processes are told."""
    return {
        "confined": not unsafe,
        "path": import_path() if unsafe else [place(folder) for folder in import_path()],
        "library": LIBRARY,
        "limits": {
            "cpu": math.ceil(limits.cpu),
            "memory": limits.memory * MB,
            "total_memory": limits.total_memory * MB,
            "processes": limits.processes + 3,  # the submission's own three
            "output": limits.output * MB,
            "file": limits.files * MB,
            "files": limits.files * MB,
        },
    }
