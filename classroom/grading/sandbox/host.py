"""The sandbox's outside: starts it, hands questions in, takes bytes out, and survives whatever happens in there.

Make a Sandbox in the thread that uses it: bubblewrap ends with that thread.
"""

from __future__ import annotations

import functools
import marshal
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..records import Outcome, Question
from .bwrap import ADVICE, NoSandbox, command, import_path, place
from .inside import protocol
from .warm import STARTING, Lost, Warm, one_line

LIBRARY = "/course"  # where modules from memory claim to lie; there is nothing there
LARGEST_SOURCE = 1_000_000  # characters of an answer
GRACE = 15  # seconds beyond a question's own limit, before help is called
MB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How much a question may take, and a submission.

    seconds, cpu: of one question, by the clock and of computing;  submission: seconds of all its questions together;
    memory: MB of one process, on top of the imports;  total_memory: MB of all processes of a question;
    processes: with threads;  output: MB of results;  files: MB in /tmp.
    """

    seconds: int | float = 20
    cpu: int | float = 20
    submission: int | float = 300
    memory: int = 3000
    total_memory: int = 4000
    processes: int = 32
    output: int = 200
    files: int = 64


def why_not() -> str:
    """Why there can be no sandbox here, in one line; "" if it works (one is built and left again)."""
    try:
        Sandbox({}, {}).close()
    except NoSandbox as error:
        return str(error)
    return ""


class Sandbox:
    """Runs answers on inputs where they can do no harm.

    sources: name of a module -> source, of the package as answers may see it;
    preludes: number of a notebook -> source that runs, once, before any answer of this notebook.
    unsafe: no walls at all, only limits of time; for one's own notebooks.

    Raises NoSandbox if there is none here, RuntimeError if the library or a prelude does not run.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        preludes: Mapping[str, str],
        limits: Limits = Limits(),
        unsafe: bool = False,
    ) -> None:
        self.limits = limits
        self._unsafe = unsafe
        self._settings = marshal.dumps(_settings(sources, preludes, limits, unsafe))
        self._warm: Warm | None = None
        self._begun = False
        self._start()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and everything in it."""
        if self._warm is not None:
            self._warm.end()
        self._warm, self._begun = None, False

    def run(self, questions: Sequence[Question]) -> list[Outcome]:
        """The outcomes of one submission's questions, in order. Nothing that an answer does gets out of here."""
        try:
            return self._run(questions)
        except BaseException:  # Ctrl-C: what is half said and half read cannot be continued
            self.close()
            raise

    def _run(self, questions: Sequence[Question]) -> list[Outcome]:
        deadline = time.monotonic() + self.limits.submission
        outcomes = []
        for question in questions:
            left = deadline - time.monotonic()
            if left <= 0:
                text = f"not run: the answers before it have used up the {self.limits.submission:.3g} s of a submission"
                outcomes.append(Outcome(None, "timeout", text))
            elif len(question.source) > LARGEST_SOURCE:
                outcomes.append(Outcome(None, "missing", f"the cell has more than {LARGEST_SOURCE:,} characters"))
            else:
                outcomes.append(self._outcome(question, min(left, self.limits.seconds)))
        self._finish()
        return outcomes

    def _outcome(self, question: Question, seconds: int | float) -> Outcome:
        payload = marshal.dumps(_payload(question))
        try:
            if self._warm is None:
                self._start()
            if not self._begun:
                self._warm.send(protocol.BEGIN)
                self._begun = True
            self._warm.send(protocol.QUESTION, payload, seconds)
            kind, data = self._warm.receive(seconds + GRACE, self.limits.output * MB)
        except Lost as error:
            self.close()
            return Outcome(None, "crashed", f"its sandbox had to be started again: {error}")
        if kind == protocol.DATA:
            return Outcome(data)
        trouble = {protocol.MISSING: "missing", protocol.TIMEOUT: "timeout", protocol.CRASHED: "crashed"}.get(kind)
        if trouble is None:
            self.close()
            return Outcome(None, "crashed", f"its sandbox had to be started again: {one_line(data) or 'it was gone'}")
        return Outcome(None, trouble, one_line(data))

    def _finish(self) -> None:
        """The submission's own sandbox is gone when this returns."""
        if not self._begun:
            return
        self._begun = False
        try:
            self._warm.send(protocol.END)
            kind, _ = self._warm.receive(GRACE, MB)
        except Lost:
            kind = b""
        if kind != protocol.GONE:
            self.close()

    def _start(self) -> None:
        self._warm = Warm(command(self._unsafe))
        try:
            self._warm.send(protocol.BEGIN, self._settings)
            kind, data = self._warm.receive(STARTING, MB)
        except Lost as error:
            reason = self._warm.complaint() or str(error)
            self.close()
            raise NoSandbox(f"The sandbox does not start: {reason}. {ADVICE}") from None
        if kind == protocol.REFUSED:
            self.close()
            raise NoSandbox(f"This system does not let the sandbox shut its doors: {one_line(data)}. {ADVICE}")
        if kind != protocol.READY:
            self.close()
            raise RuntimeError(f"the course's own code does not run in the sandbox: {one_line(data)}")


def _payload(question: Question) -> dict[str, Any]:
    wanted = _mentioned(question)
    return {
        "id": question.id,
        "name": question.name,
        "source": question.source,
        "notebook": question.notebook,
        "request": question.request,
        "supplied": [(name, _compiled(question.supplied[name], f"supplied/{name}.py")) for name in wanted],
        "forbidden": list(question.forbidden),
    }


def _mentioned(question: Question) -> list[str]:
    """Names of the supplied functions that the answer mentions, or that one of these mentions, in their order."""
    wanted: set[str] = set()
    texts = [question.source]
    while texts:
        words = set(re.findall(r"\w+", texts.pop()))
        new = (words & question.supplied.keys()) - wanted
        wanted |= new
        texts += [question.supplied[name] for name in new]
    return [name for name in question.supplied if name in wanted]


def _settings(sources: Mapping[str, str], preludes: Mapping[str, str], limits: Limits, unsafe: bool) -> dict[str, Any]:
    """What the warm process is told. Code goes compiled: no source text gets into the sandbox's memory at all."""
    packages = {name.rpartition(".")[0] for name in sources}
    modules = {}
    for name, source in sources.items():
        path = name.replace(".", "/")
        modules[name] = _compiled(source, f"{path}/__init__.py" if name in packages else f"{path}.py")
    return {
        "confined": not unsafe,
        "path": import_path() if unsafe else [place(folder) for folder in import_path()],
        "library": LIBRARY,
        "modules": modules,
        # Under the package, so that an exception's last line is looked for in the answer, not in the course's own code.
        "preludes": {number: _compiled(text, f"classroom/prelude/{number}.py") for number, text in preludes.items()},
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


@functools.lru_cache(maxsize=1000)
def _compiled(source: str, name: str) -> bytes:
    return marshal.dumps(compile(source, f"{LIBRARY}/{name}", "exec", dont_inherit=True))
