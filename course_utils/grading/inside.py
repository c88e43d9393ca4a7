"""The sandbox's inside: a warm process that has imported everything, and for each submission a sandbox of its own.

`sandbox` starts it and talks to it through two pipes. Three kinds of process work here:

* the **warm** one imports the library and runs the notebooks' preludes, once; it sees no answer;
* the **first** one of a submission (number 1 in its own process space) starts a process for each question, reads what
  comes out, and kills whatever is left before the next;
* the one of a **question** reads the question itself, so that the others never hold it in memory, gives up all rights,
  runs the answer and writes down what came out.

Only the standard library and `confinement`, its neighbour: the package itself is not on the sandbox's disk. It comes
through the pipe as compiled code and is imported from memory, so that there is no source to be read anywhere.
"""

from __future__ import annotations
import __future__ as features

import ast
import contextlib
import functools
import gc
import importlib
import importlib.abc
import importlib.machinery
import inspect
import linecache
import marshal
import os
import re
import select
import signal
import struct
import sys
import time
import types
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

HEAD = struct.Struct("<cQd")  # of everything that comes in and goes out: kind, length, seconds
READY, REFUSED, BROKEN = b"W", b"N", b"B"  # from the warm process: it is, there is no sandbox, the library does not run
BEGIN, QUESTION, END = b"S", b"Q", b"E"  # to it
DATA, MISSING, TIMEOUT, CRASHED, GONE = b"D", b"M", b"T", b"C", b"G"  # what came out; GONE: the submission is over

TICK = 0.01  # seconds between two looks at what a question's processes are doing
MOST_FILES = 4096  # open ones: these processes never have so many


Notebooks = Mapping[str, types.ModuleType]

# ---------------------------------------------------------------------------------------------------------------- pipes


def send(pipe: int, kind: bytes, payload: bytes = b"", seconds: int | float = 0.0) -> None:
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


def _close_all_but(*kept: int) -> None:
    """Close every file but these; standard input and output are nothing."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        if standard not in kept:
            os.dup2(nothing, standard, inheritable=True)
    low = 3
    for file in (*sorted(kept), MOST_FILES):
        os.closerange(low, file)
        low = max(low, file + 1)


# ----------------------------------------------------------------------------------------------------------------- warm


def main() -> None:
    """The warm process. Ends when the other side of its pipes has gone."""
    import fcntl  # here, since on Windows this module must at least be importable: it says what there is not

    incoming, outgoing = (fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, 10) for pipe in (0, 1))
    _close_all_but(2, incoming, outgoing)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _, length, _ = HEAD.unpack(receive(incoming, HEAD.size))
    settings = marshal.loads(receive(incoming, length))
    confined = settings["confined"]
    try:
        if confined:
            import confinement

            confinement.become_nobody()
            _in_another_process(_enter_and_leave)
    except OSError as error:
        send(outgoing, REFUSED, str(error).encode())
        return
    try:
        notebooks = _warm_up(settings)
    except BaseException as error:
        send(outgoing, BROKEN, _in_one_line(error).encode())
        return
    limits = settings["limits"]
    del settings
    gc.collect()
    gc.freeze()  # so that the garbage collector of a question leaves alone what it shares with the others
    if confined:
        confinement.remember_mapped()
    os.dup2(0, 2, inheritable=True)  # nobody has anything to say from here on
    send(outgoing, READY)
    while True:
        try:
            kind, _, _ = HEAD.unpack(receive(incoming, HEAD.size))
        except EOFError:
            return
        if kind != BEGIN:
            raise SystemExit(f"expected the beginning of a submission, got {kind!r}")
        trouble = ""
        try:
            _in_another_process(_submission, incoming, outgoing, notebooks, limits, confined)
        except OSError as error:
            trouble = str(error)
        send(outgoing, GONE, trouble.encode())


def _in_another_process(task: Any, *arguments: Any) -> None:
    """Fork, run it there, wait.  Raises OSError with what it wrote into its pipe, if it could not do it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            task(*arguments)
        except BaseException as error:
            os.write(writing, _in_one_line(error).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        trouble = pipe.read()
    os.waitpid(child, 0)
    if trouble:
        raise OSError(trouble.decode())


def _enter_and_leave() -> None:
    """Everything that a question will need, tried once."""
    import confinement

    def first() -> None:
        _enter()
        confinement.own_temporary_files(1 << 20)
        confinement.drop_rights()

    confinement.own_namespaces()
    _in_another_process(first)


def _warm_up(settings: Mapping[str, Any]) -> Notebooks:
    """Import the library, run the preludes. Gives a module for each of them, by number of the notebook."""
    sys.path[:] = settings["path"]
    if settings["modules"]:
        import torch

        torch.set_num_threads(1)  # before anything is computed: threads do not survive a fork
    finder = _FromMemory(settings["modules"], settings["library"])
    sys.meta_path.insert(0, finder)
    for name in list(finder.codes):
        importlib.import_module(name)
    finder.codes.clear()
    _practise()
    notebooks = {}
    for number, code in settings["preludes"].items():
        notebooks[number] = sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            exec(marshal.loads(code), vars(notebooks[number]))
        except Exception as error:
            line = error.__traceback__.tb_next.tb_lineno if error.__traceback__.tb_next else "?"
            raise RuntimeError(f"line {line} of the prelude of notebook {number}: {_in_one_line(error)}") from None
    return notebooks


def _practise() -> None:
    """Call a function as a quiz does: what happens on first use only is then done before any fork."""
    running = sys.modules.get("course_utils.quizzes.running")
    if running is not None:
        running.to_wire(running.run(lambda x: x, [running.Case({"x": running.torch.zeros(2)})]))


class _FromMemory(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules from compiled code: they have no files and give no source."""

    def __init__(self, codes: Mapping[str, bytes], library: str) -> None:
        self.codes = dict(codes)
        self.library = library
        self.packages = {name.rpartition(".")[0] for name in codes}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self.codes:
            return None
        spec = importlib.machinery.ModuleSpec(name, self, is_package=name in self.packages)
        place = f"{self.library}/{name.replace('.', '/')}"
        spec.origin = f"{place}/__init__.py" if name in self.packages else f"{place}.py"
        spec.has_location = True
        if name in self.packages:
            spec.submodule_search_locations = [place]
        return spec

    def exec_module(self, module: types.ModuleType) -> None:
        exec(marshal.loads(self.codes.pop(module.__name__)), vars(module))


# ----------------------------------------------------------------------------------------------------------- submission


def _submission(incoming: int, outgoing: int, notebooks: Notebooks, limits: dict, confined: bool) -> None:
    if not confined:
        return _serve(incoming, outgoing, notebooks, limits, None)
    import confinement

    confinement.own_namespaces()
    return _in_another_process(_first, incoming, outgoing, notebooks, limits)


def _first(incoming: int, outgoing: int, notebooks: Notebooks, limits: dict) -> None:
    _serve(incoming, outgoing, notebooks, limits, _enter())


def _enter() -> Any:
    """Process number 1 of a submission shuts the door behind it. Gives the watch over memory."""
    import confinement

    if os.getpid() != 1:
        raise OSError("a process space of its own: it is not the first process in there")
    confinement.die_with_parent()
    watch = confinement.Watch()
    confinement.hide_processes()
    confinement.hide_memory()
    return watch


def _serve(incoming: int, outgoing: int, notebooks: Notebooks, limits: dict, watch: Any) -> None:
    """One question after another, until there are no more."""
    while True:
        try:
            kind, length, seconds = HEAD.unpack(receive(incoming, HEAD.size))
        except EOFError:
            return
        if kind != QUESTION:
            return
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _question(incoming, length, writing, seconds, notebooks, limits, confined=watch is not None)
        os.close(writing)
        try:
            if os.read(reading, 1) != b".":  # it has not even read its question: who knows what is left in the pipe
                raise OSError("the question's process could not even read it")
            send(outgoing, *_what_comes(child, reading, seconds, limits, watch))
        finally:
            os.close(reading)
            _kill_what_is_left(child, alone=watch is not None)


def _what_comes(child: int, pipe: int, seconds: int | float, limits: dict, watch: Any) -> tuple[bytes, bytes]:
    """What a question's process writes, or what became of it: kind and payload."""
    deadline = time.monotonic() + seconds
    got = bytearray()
    waiting_for, ended = [pipe], None
    while True:
        if select.select(waiting_for, [], [], 0 if ended else TICK)[0]:
            piece = os.read(pipe, 1 << 20)
            got += piece
            if not piece:
                waiting_for = []  # nobody holds its other end any longer
        elif ended:
            return _how_it_ended(ended, limits)
        complete = _complete(got, limits["output"])
        if complete:
            return complete
        if time.monotonic() > deadline:
            return TIMEOUT, f"no answer within {seconds:.3g} s".encode()
        if watch and watch.memory() > limits["total_memory"]:
            return CRASHED, f"it used more than {limits['total_memory'] >> 20:,} MB of memory".encode()
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def _complete(got: bytearray, largest: int) -> tuple[bytes, bytes] | None:
    if len(got) < HEAD.size:
        return None
    kind, length, _ = HEAD.unpack(got[: HEAD.size])
    if kind not in (DATA, MISSING, TIMEOUT, CRASHED):
        return CRASHED, b"it wrote something else than its results"
    if length > largest:
        return CRASHED, f"its results are larger than {largest >> 20:,} MB".encode()
    if len(got) - HEAD.size < length:
        return None
    return kind, bytes(got[HEAD.size : HEAD.size + length])


def _how_it_ended(ended: Any, limits: dict) -> tuple[bytes, bytes]:
    if ended.si_code == os.CLD_EXITED:
        return CRASHED, f"its process ended (exit code {ended.si_status}) before it had given its results".encode()
    if ended.si_status == signal.SIGXCPU:
        return TIMEOUT, f"no answer within {limits['cpu']:.3g} s of computing".encode()
    known = {each.value: each.name for each in signal.Signals}
    return CRASHED, f"its process was ended by {known.get(ended.si_status, f'signal {ended.si_status}')}".encode()


def _kill_what_is_left(child: int, alone: bool) -> None:
    """End the question's process and all that it has started: in its own process space, that is everybody but us."""
    if alone and os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    else:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


# ------------------------------------------------------------------------------------------------------------- question


def _question(
    incoming: int, length: int, outgoing: int, seconds: int | float, notebooks: Notebooks, limits: dict, confined: bool
) -> NoReturn:
    """The process of one question: from here on everything may be a student's."""
    try:
        question = marshal.loads(receive(incoming, length))
        _close_all_but(outgoing)
        os.write(outgoing, b".")
        _shut_in(limits, confined)
        send(outgoing, *_answered(question, notebooks, seconds))
    except BaseException as error:
        with contextlib.suppress(BaseException):
            send(outgoing, CRASHED, _in_one_line(error).encode())
    finally:
        os._exit(0)


def _shut_in(limits: dict, confined: bool) -> None:
    import resource

    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not confined:
        return
    import confinement

    confinement.own_temporary_files(limits["files"])
    confinement.limit(limits["memory"], limits["cpu"], limits["processes"], limits["file"])
    confinement.drop_rights()


def _answered(question: Mapping[str, Any], notebooks: Notebooks, seconds: int | float) -> tuple[bytes, bytes]:
    """Run the answer cell, call the function that it defines: kind and payload."""
    from course_utils.quizzes import running

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


def forbid(dotted: str) -> None:
    """Make a function of the library useless, under whatever names it is known: its very code is exchanged.

    Of a class, all methods.  Raises LookupError if there is no such function.
    """
    found = list(_functions(_resolve(dotted), set()))
    if not found:
        raise LookupError(f"expected a function to forbid, found none at {dotted}")
    for function in found:
        own = function.__code__
        function.__code__ = _REFUSING.replace(
            co_freevars=own.co_freevars, co_name=own.co_name, co_qualname=own.co_qualname, co_filename=own.co_filename
        )


def _refusing(*args: Any, **kwargs: Any) -> NoReturn:
    raise RuntimeError("this is the function that the quiz asks for: write it yourself")


_REFUSING = _refusing.__code__


def _resolve(dotted: str) -> Any:
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        found = sys.modules.get(".".join(parts[:count]))
        if found is not None:
            for part in parts[count:]:
                found = inspect.getattr_static(found, part, None)
            return found
    return None


def _functions(found: Any, seen: set[int]) -> Iterator[types.FunctionType]:
    """The functions written in Python that something is made of: wrapped ones, methods, both halves of a property."""
    if found is None or id(found) in seen:
        return
    seen.add(id(found))
    if isinstance(found, types.FunctionType):
        yield found
    inner = [getattr(found, "__wrapped__", None)]
    if isinstance(found, staticmethod | classmethod | types.MethodType):
        inner.append(found.__func__)
    elif isinstance(found, property):
        inner += [found.fget, found.fset]
    elif isinstance(found, functools.partial):
        inner.append(found.func)
    elif isinstance(found, type):
        inner += [value for value in vars(found).values() if _is_code(value)]
    if hasattr(found, "cache_clear"):
        found.cache_clear()
    for each in inner:
        yield from _functions(each, seen)


def _is_code(value: Any) -> bool:
    return isinstance(value, types.FunctionType | staticmethod | classmethod | property)


# ----------------------------------------------------------------------------------------------------------------- cell


class _TooLong(BaseException):
    """A statement of the cell takes the time that is needed to call the answer."""


def run_cell(source: str, filename: str, namespace: dict, seconds: int | float) -> tuple[str, bool]:
    """Run a notebook's cell, one statement after another: one that fails does not take the others with it.

    After so many seconds, only definitions and imports are still run.
    Returns the first trouble in one line, "" if there was none, and whether the time was used up.
    """
    try:
        source, tree = parse(source)
    except SyntaxError as error:
        return f"the cell has a syntax error in line {error.lineno or '?'}: {error.msg}", False
    except (ValueError, RecursionError, MemoryError) as error:
        return f"the cell cannot be read as Python: {_in_one_line(error)}", False
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    first, late, flags = "", False, 0

    def too_long(*_: Any) -> NoReturn:
        raise _TooLong

    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    for statement in tree.body:
        if late and not isinstance(statement, _QUICK):
            continue
        flags |= _features(statement)
        try:
            code = compile(ast.Module([statement], []), filename, "exec", flags=flags, dont_inherit=True)
            exec(code, namespace)
        except BaseException as error:
            late = late or isinstance(error, _TooLong)
            first = first or f"{_in_one_line(error)} (line {statement.lineno} of the cell)"
    signal.setitimer(signal.ITIMER_REAL, 0)
    return first, late


_QUICK = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


def _features(statement: ast.stmt) -> int:
    """Compiler flags of a `from __future__ import`, which hold for the statements after it too."""
    if not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
        return 0
    known = [getattr(features, alias.name, None) for alias in statement.names]
    return functools.reduce(lambda flags, feature: flags | getattr(feature, "compiler_flag", 0), known, 0)


_MAGIC = re.compile(r"(\s*)(?:[\w, ]+=\s*)?[%!?].*|(\s*)[\w.]+\?{1,2}\s*")


def parse(source: str) -> tuple[str, ast.Module]:
    """A cell as Python: what only IPython understands (magics, shell lines, a cell that is indented) is taken out.

    Only where Python does not understand it, so that nothing in an honest string or formula is touched.
    Line numbers stay what they were.

    >>> parse("%matplotlib inline\\nx = 1")[0]
    'pass\\nx = 1'
    """
    lines = source.split("\n")
    for _ in range(len(lines) + 1):
        text = "\n".join(lines)
        try:
            return text, ast.parse(text)
        except SyntaxError as error:
            number = min(error.lineno or 0, len(lines)) - 1
            magic = _MAGIC.fullmatch(lines[number]) if number >= 0 else None
            if magic:
                lines[number] = f"{magic[1] or magic[2] or ''}pass"
            elif isinstance(error, IndentationError) and _indentation(lines):
                lines = _dedented(lines)
            else:
                raise
    raise SyntaxError("it cannot be read")


def _indentation(lines: list[str]) -> str:
    first = next((line for line in lines if line.strip()), "")
    return first[: len(first) - len(first.lstrip())]


def _dedented(lines: list[str]) -> list[str]:
    return [line.removeprefix(_indentation(lines)) for line in lines]


def _in_one_line(error: BaseException) -> str:
    try:
        message = str(error)
    except BaseException:  # an exception may be as broken as the code that raised it
        message = "(its message could not be read)"
    line = " ".join(f"{type(error).__name__}: {message}".split())[:300]
    return line.encode("utf-8", "replace").decode()
