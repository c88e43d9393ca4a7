"""A table as somebody's program exported it: whatever is not written into it comes back as the same bytes."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from functools import cached_property

_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_DELIMITERS = ",;\t"


class NoTable(ValueError):
    """The bytes are no table."""


@dataclass
class Sheet:
    """Lines of fields as they stand in the file, quotes and all, and what each line ends with."""

    mark: bytes
    encoding: str
    delimiter: str
    lines: list[list[str]] = field(repr=False)
    ends: list[str] = field(repr=False)

    @classmethod
    def read(cls, data: bytes) -> Sheet:
        """Comma, semicolon or tab; UTF-8, UTF-16 with a mark, or else Latin-1.  NoTable where there is none.

        >>> sheet = Sheet.read(b'name;points\\r\\n"Ada; L.";\\r\\n')
        >>> sheet[1, 0], len(sheet)
        ('Ada; L.', 2)
        """
        mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
        text, encoding = _decoded(data[len(mark) :], _MARKS.get(mark))
        if "\0" in text or not text.strip():
            raise NoTable("expected a table as CSV, got " + ("nothing" if not text.strip() else "another kind of file"))
        first = re.sub(r'"[^"]*"', "", text.lstrip().partition("\n")[0])
        delimiter = max(_DELIMITERS, key=first.count)
        return cls(mark, encoding, delimiter, *_split(text, delimiter))

    def __bytes__(self) -> bytes:
        text = "".join(self.delimiter.join(line) + end for line, end in zip(self.lines, self.ends))
        return self.mark + text.encode(self.encoding)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, place: tuple[int, int]) -> str:
        """What stands in a line and a column, without quotes; "" where the line is too short."""
        line, column = place
        raw = self.lines[line][column] if column < len(self.lines[line]) else ""
        return raw[1:-1].replace('""', '"') if raw[:1] == '"' and raw[-1:] == '"' and len(raw) > 1 else raw

    def __setitem__(self, place: tuple[int, int], value: str) -> None:
        """Quoted where the old value was, and where it must be."""
        line, column = place
        fields = self.lines[line]
        fields += [""] * (column + 1 - len(fields))
        quoted = fields[column][:1] == '"' or any(sign in value for sign in (self.delimiter, '"', "\n", "\r"))
        fields[column] = '"' + value.replace('"', '""') + '"' if quoted else value

    @cached_property
    def titles(self) -> list[str]:
        """The first line, without blanks at its ends."""
        return [self[0, column].strip() for column in range(len(self.lines[0]))]

    def column(self, *names: str) -> int | None:
        """The first column of one of these titles, in capitals or not; None if there is none."""
        titles = [title.casefold() for title in self.titles]
        return next((titles.index(name.casefold()) for name in names if name.casefold() in titles), None)


def _decoded(data: bytes, encoding: str | None) -> tuple[str, str]:
    for each in [encoding] if encoding else ["utf-8", "latin-1"]:
        try:
            return data.decode(each), each
        except UnicodeDecodeError:
            continue
    raise NoTable(f"expected text in {encoding}, as its first bytes say, got something else")


def _split(text: str, delimiter: str) -> tuple[list[list[str]], list[str]]:
    lines, ends, place = [[]], [], 0
    one = re.compile(rf'("(?:[^"]|"")*"(?=[{delimiter}\r\n]|\Z)|[^{delimiter}\r\n]*)({delimiter}|\r\n|\r|\n|\Z)')
    while place < len(text):
        match = one.match(text, place)
        lines[-1].append(match[1])
        place = match.end()
        if match[2] != delimiter:
            ends.append(match[2])
            lines.append([])
        elif place == len(text):  # the last field is empty, and no line end follows
            lines[-1].append("")
            ends.append("")
    return lines[: len(ends)], ends
