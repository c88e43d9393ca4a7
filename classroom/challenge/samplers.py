"""The sandbox for samplers, from outside: source and noise go in, requests and images come out, as bytes."""

from __future__ import annotations

import marshal
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..grading.sandbox.bwrap import import_path, place
from ..grading.sandbox.inside import protocol
from ..grading.sandbox.luggage import LIBRARY, Luggage
from ..grading.sandbox.warm import MB, Lost, Warm, one_line
from ..grading.sources import module_name, shown
from ..quizzes import wire
from .records import Foul

PART = "sampler"
GRACE = 15  # seconds beyond the sampler's own, before its sandbox counts as lost


@dataclass(frozen=True)
class Limits:
    """What one sampler may take in one round, besides what its network takes out here.

    seconds: by the clock and of computing;  memory: MB of one process, on top of the imports;  total_memory: MB of all
    its processes;  processes: with threads;  output: MB of each thing that it says;  files: MB in /tmp.
    """

    seconds: int | float = 30
    memory: int = 2000
    total_memory: int = 3000
    processes: int = 8
    output: int = 32
    files: int = 16


class Samplers:
    """A warm process in which samplers run, one at a time, each in walls of its own.

    unsafe: no walls at all, only limits of time; for one's own samplers. It gets ready while its maker does something
    else. NoSandbox, where there can be none, comes from `ready` or from the first `play`.
    """

    def __init__(self, limits: Limits = Limits(), unsafe: bool = False) -> None:
        self.limits = limits
        self._unsafe = unsafe
        self._settings = marshal.dumps(_settings(limits, unsafe))
        self._warm: Warm | None = None
        self._start()

    def __enter__(self) -> Samplers:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ready(self) -> None:
        """Wait until it is."""
        if self._warm is None:
            self._start()
        try:
            self._warm.ready()
        except BaseException:
            self._end()
            raise

    def play(
        self, source: bytes, given: Mapping[str, Any], answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """Run a sampler to its end, and give what it said last: {"images": ...}, of which nothing is believed yet.

        source: of sampler.py;  given: what it is called with;  answer: gets each request and gives the reply; what it
        raises ends the sampler and comes out here. Raises Foul, in one line.
        """
        self.ready()
        try:
            return self._played(source, given, answer)
        except Lost as error:
            self._end()
            raise Foul(f"its sandbox had to be started again: {error}") from None
        except Foul:
            self._leave()
            raise
        except BaseException:  # Ctrl-C: what is half said cannot be continued
            self._end()
            raise

    def _played(self, source: bytes, given: Mapping[str, Any], answer: Callable) -> Mapping[str, Any]:
        left = float(self.limits.seconds)
        self._warm.send(protocol.BEGIN)
        self._warm.send(protocol.QUESTION, source)
        to_say = given
        while True:
            start = time.monotonic()
            self._warm.send(protocol.CASE, wire.to_wire(dict(to_say)), max(left, 0.1))
            said = self._heard(max(left, 0.1) + GRACE)
            left -= time.monotonic() - start
            if "images" in said:
                self._leave()
                return said
            to_say = answer(said)

    def _heard(self, seconds: float) -> dict[str, Any]:
        kind, payload = self._warm.receive(seconds, self.limits.output * MB)
        if kind == protocol.TIMEOUT:
            raise Foul(f"sampler.py: no images within {self.limits.seconds:.3g} s of its own")
        if kind in (protocol.CRASHED, protocol.MISSING):
            raise Foul(f"sampler.py: {one_line(payload)}")
        if kind != protocol.DATA:
            raise Lost(one_line(payload) or "it was gone")
        try:
            said = wire.from_wire(payload)
        except ValueError:
            said = None
        if type(said) is not dict:
            raise Foul("sampler.py: it wrote something else than requests and images")
        return said

    def _leave(self) -> None:
        """The sampler's own walls, and all that is in them, are gone when this returns."""
        try:
            self._warm.send(protocol.END)
            kind, _ = self._warm.receive(GRACE, MB)
        except Lost:
            kind = b""
        if kind != protocol.GONE:
            self._end()

    def _start(self) -> None:
        self._warm = Warm(PART, self._settings, self._unsafe)

    def _end(self) -> None:
        if self._warm is not None:
            self._warm.end()
        self._warm = None


def _settings(limits: Limits, unsafe: bool) -> dict[str, Any]:
    """What the warm process is told: limits, and of the course the library alone, as code, without any weights."""
    needed = {module_name(path): path.read_text(encoding="utf-8") for path in shown() if "lessons" not in path.parts}
    return {
        "confined": not unsafe,
        "path": import_path() if unsafe else [place(folder) for folder in import_path()],
        "library": LIBRARY,
        "modules": Luggage.packed(needed).library,
        "preludes": {},
        "limits": {
            "cpu": math.ceil(limits.seconds),
            "memory": limits.memory * MB,
            "total_memory": limits.total_memory * MB,
            "processes": limits.processes + 3,
            "output": limits.output * MB,
            "file": limits.files * MB,
            "files": limits.files * MB,
        },
    }
