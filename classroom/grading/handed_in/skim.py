"""A notebook's bytes without its outputs: what `read` looks at, and nothing else of a file of any size.

Outputs, attachments and the state of widgets are most of a notebook and count for nothing. They are passed over while
the file is read, piece by piece, so that neither their size nor their number costs memory. What is kept stays as it was
written, in the encoding in which it came.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator

from ..records import Trouble
from .python import MOST_SOURCE
from .read import DECODER, MOST_CELLS

Read = Callable[[int], bytes]  # the next bytes of a file, as many at most; b"" at its end

PIECE, AHEAD = 2**20, 2**16  # bytes read at once, and at hand wherever a key or number begins
MOST_LEFT = 20 * 2**20  # bytes; of our notebooks a tenth of a megabyte is left
MOST_PARTS = 200_000  # keys and cells that are looked at one by one, which takes a second
MOST_BRACKETS = 3_000_000  # around others three deep, in what is passed over: some seconds
DEEPEST = 5_000
LONGEST = 4 * MOST_SOURCE  # bytes of a value: a source with more has too many characters to be read
TOO_LONG = b'"%b"' % (b" " * (MOST_SOURCE + 1))

# What is kept: of an object these keys, of a list the first elements, of anything else all of it (True).
_CELL = dict.fromkeys(("cell_type", "id", "source", "input", "code"), True)
_CELL["metadata"] = {"nbgrader": True, "course": True}
_METADATA = {"kernelspec": True, "language_info": True}
_NOTEBOOK = {"nbformat": True, "metadata": _METADATA, "cells": [_CELL], "worksheets": [{"cells": [_CELL]}]}

# Nothing here is tried twice (++ and *+), so that no text takes more than a few times its length.
_INSIDE = rb'(?:[^"\\]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+'
_SCALAR = rb"true|false|null|NaN|-?Infinity|[0-9eE+.\-]++"
_FLAT = rb'[ \t\r\n,:]++|"%b"|%b' % (_INSIDE, _SCALAR)
_BEGIN = re.compile(rb"(?:\xef\xbb\xbf|[ \t\r\n\0])*+")
_BLANK = re.compile(rb"[ \t\r\n]*+")
_IN_STRING, _STRING, _ONE = re.compile(_INSIDE), re.compile(rb'"%b"' % _INSIDE), re.compile(_SCALAR)
_NESTED = _FLAT
for _ in range(3):
    _NESTED = rb"%b|\[(?:%b)*+\]|\{(?:%b)*+\}" % (_FLAT, _NESTED, _NESTED)
_RUN = re.compile(rb"(?:%b)*+" % _NESTED)
_CLOSING = {b"[": b"]", b"{": b"}"}


class Damaged(Exception):
    """This is not the JSON of a notebook. line: where it ceases to be, from 1;  ended: because it ends there."""

    def __init__(self, line: int, ended: bool):
        super().__init__(line, ended)
        self.line, self.ended = line, ended


def skim(read: Read) -> bytes:
    """The notebook that `read` gives, made small.  Damaged if it is none;  Trouble if too much is left of it."""
    first = read(PIECE)
    encoding = json.detect_encoding(first)
    waiting = [first]
    again = lambda size: waiting.pop() if waiting else read(size)  # noqa: E731
    if encoding in ("utf-8", "utf-8-sig"):
        return _Skimmer(again).notebook()
    try:
        return _Skimmer(_recoded(again, encoding)).notebook().decode().encode(encoding)
    except UnicodeError:
        raise Damaged(1, False) from None


def _recoded(read: Read, encoding: str) -> Read:
    """The same text in UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)()

    def recoded(size: int) -> bytes:
        while piece := read(size):
            if text := decoder.decode(piece):
                return text.encode()
        return decoder.decode(b"", final=True).encode()

    return recoded


class _Skimmer:
    """A window that moves over the file. `at`: what lies before it is done with, and is kept or gone."""

    def __init__(self, read: Read):
        self.read = read
        self.window, self.at, self.more = b"", 0, True
        self.lines = 1
        self.kept: list[bytes] = []
        self.left = self.parts = self.brackets = 0
        self.value: list[bytes] | None = None  # of one that is kept: its pieces, unless it gets too long

    def notebook(self) -> bytes:
        self.through(_BEGIN)
        if self.next() != b"{":
            raise self.damaged()
        self.object(_NOTEBOOK)
        rest, behind = self.window[self.at :], b""
        while rest:  # to the end: only there a zip tells whether it is damaged
            behind = behind or rest.strip(b" \t\r\n\0")
            rest = self.read(PIECE)
        self.keep(b"\n..." if behind else b"")
        return b"".join(self.kept)

    # ------------------------------------------------------------------------------------------- objects and lists

    def object(self, wanted: dict) -> None:
        self.keep(b"{")
        between = b""
        for _ in self.items(b"}"):
            key = self.key()
            self.over(b":")
            if key in wanted:
                self.keep(b'%b"%b":' % (between, key.encode()))
                between = b","
            self.any(wanted.get(key))
        self.keep(b"}")

    def list(self, wanted: dict) -> None:
        self.keep(b"[")
        for place, _ in enumerate(self.items(b"]")):
            if place > MOST_CELLS:
                self.container([b"]"])
                break
            self.keep(b"," if place else b"")
            self.any(wanted)
        self.keep(b"]")

    def items(self, closing: bytes) -> Iterator[None]:
        """Stops at the beginning of each item of what begins here."""
        self.to(self.at + 1)
        if self.next() != closing:
            yield
            while self.next() == b",":
                self.to(self.at + 1)
                yield
        self.over(closing)

    def key(self) -> str:
        """The key that begins here; "" for one that is much longer than any of ours."""
        if self.next() != b'"':
            raise self.damaged()
        found = _STRING.match(self.window, self.at, self.at + AHEAD)
        self.string()
        return DECODER.decode(found[0].decode("latin-1")) if found else ""

    def any(self, wanted: dict | list | bool | None) -> None:
        """The value that begins here, kept as far as it is wanted."""
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise Trouble(f"not read: it has more than {MOST_PARTS:,} parts")
        begin = self.next()
        if isinstance(wanted, dict) and begin == b"{":
            self.object(wanted)
        elif isinstance(wanted, list) and begin == b"[":
            self.list(wanted[0])
        elif wanted:
            self.whole()
        else:
            self.pass_over()

    def whole(self) -> None:
        """A value that is kept, as `read` will take it."""
        self.value, self.size = [], 0
        self.pass_over()
        text = TOO_LONG if self.value is None else b"".join(self.value)
        self.value = None
        try:
            DECODER.decode(text.decode("latin-1"))
        except (ValueError, RecursionError):
            raise self.damaged() from None
        self.keep(text)

    # ------------------------------------------------------------------------------------------------------- tokens

    def pass_over(self) -> None:
        """The value that begins here."""
        begin = self.next()
        if begin == b'"':
            self.string()
        elif begin in _CLOSING:
            self.to(self.at + 1)
            self.container([_CLOSING[begin]])
        elif number := _ONE.match(self.window, self.at):
            self.to(number.end())
        else:
            raise self.damaged()

    def container(self, open: list[bytes]) -> None:
        """What is left of a list or an object, up to its end. open: the brackets to come, the outermost first."""
        while open:
            self.through(_RUN)
            found = self.window[self.at : self.at + 1]
            if found == b'"':
                self.string()
            elif found == open[-1]:
                self.to(self.at + 1)
                open.pop()
            elif found in _CLOSING and len(open) < DEEPEST:
                self.to(self.at + 1)
                open.append(_CLOSING[found])
                self.brackets += 1
                if self.brackets > MOST_BRACKETS:
                    raise Trouble(f"not read: it has more than {MOST_BRACKETS:,} parts: clear all outputs")
            else:
                raise self.damaged()

    def string(self) -> None:
        """The text that begins here, however long it is."""
        self.to(self.at + 1)
        self.through(_IN_STRING)
        self.over(b'"')

    def next(self) -> bytes:
        """The byte behind the blanks, which are gone; b"" at the end."""
        self.through(_BLANK)
        return self.window[self.at : self.at + 1]

    def over(self, mark: bytes) -> None:
        if self.next() != mark:
            raise self.damaged()
        self.to(self.at + 1)

    # ------------------------------------------------------------------------------------------------------- window

    def through(self, pattern: re.Pattern) -> None:
        """As far as a pattern goes that matches any number of pieces, whole ones."""
        self.fill()
        while True:
            self.to(pattern.match(self.window, self.at).end())
            if len(self.window) - self.at >= AHEAD or not self.fill():
                return

    def to(self, end: int) -> None:
        if self.value is not None:
            self.value.append(self.window[self.at : end])
            self.size += end - self.at
            if self.size > LONGEST:
                self.value = None
        self.at = end

    def fill(self) -> bool:
        """Has enough at hand for whatever begins here; whether there is anything new."""
        if not self.more or len(self.window) - self.at >= AHEAD:
            return False
        self.lines += self.window.count(b"\n", 0, self.at)
        pieces, size = [self.window[self.at :]], 0
        while self.more and size < PIECE:
            pieces.append(self.read(PIECE))
            size += len(pieces[-1])
            self.more = bool(pieces[-1])
        self.window, self.at = b"".join(pieces), 0
        return size > 0

    def keep(self, text: bytes) -> None:
        self.kept.append(text)
        self.left += len(text)
        if self.left > MOST_LEFT:
            raise Trouble(
                f"not read: without its outputs it still has more than {MOST_LEFT >> 20} MB: pictures in texts?"
            )

    def damaged(self) -> Damaged:
        line = self.lines + self.window.count(b"\n", 0, self.at)
        return Damaged(line, not self.more and not self.window[self.at :].strip(b" \t\r\n\0"))
