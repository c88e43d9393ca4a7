"""From the bytes of a notebook that somebody handed in to its cells.

The JSON is read by hand and not by nbformat: here nothing has to be valid, every format from 1 to whatever comes is
read the same way, and nothing but a cell's kind, source and marks is looked at. Whatever the bytes are, `read` either
gives cells or raises `Unreadable`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from .python import MOST_SOURCE, Code

MOST_PARTS = 2_000_000  # brackets and commas in a file: they, not its bytes, decide how much memory its JSON takes
MOST_CELLS = 5_000  # of a notebook; ours have 150
MOST_CODE = 500_000  # characters in all code cells together; ours have 50,000
DECODER = json.JSONDecoder(strict=False, parse_int=lambda digits: int(digits[:18]))
# Characters that take no room, turn the direction of others, or are blank and no blanks.
UNSEEN = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)


class Unreadable(ValueError):
    """Bytes that are no notebook; the message says in one line what they are instead."""


@dataclass(frozen=True)
class Cell:
    """What counts of a cell: where it stands, "code" or what else it is, its source, and the marks of its metadata."""

    place: int
    kind: str
    source: str
    grade_id: str = ""
    id: str = ""
    quiz: str = ""
    role: str = ""
    too_long: bool = False  # then the source is ""

    @cached_property
    def code(self) -> Code:
        """The source, which is read as Python once, when somebody asks."""
        return Code(self.source)


def read(data: bytes) -> tuple[list[Cell], list[str]]:
    """The cells of a notebook, and notes about what was odd.  Unreadable if it is none."""
    text, notes = _decoded(data)
    notebook = _parsed(text, notes)
    raw = _raw_cells(notebook)
    notes += _about_format(notebook) + _about_kernel(notebook)
    found = cells(raw[:MOST_CELLS])
    kept, size = [], 0
    for cell in found:
        size += len(cell.source) if cell.kind == "code" else 0
        if size <= MOST_CODE:
            kept.append(cell)
    if len(kept) < len(raw):
        notes.append(f"it has more than {MOST_CELLS:,} cells or too much in them: only {len(kept):,} were read")
    if any("\ufffd" in cell.source for cell in kept if cell.quiz or cell.grade_id):
        notes.append("some characters could not be read and stand as \ufffd")
    return kept, notes


def written_for(data: bytes) -> tuple[int, ...]:
    """The Python that the notebook was last run with, (3, 12, 1) for instance; () where it does not say."""
    try:
        notebook = _parsed(_decoded(data)[0], [])
    except Unreadable:
        return ()
    version = _word(_dict(_dict(notebook.get("metadata")).get("language_info")).get("version"))
    found = re.fullmatch(r"(\d{1,3})\.(\d{1,3})(\.\d{1,3})?.{0,20}", version)
    return tuple(int(part) for part in found[0].split(".")[:2] if part.isdigit()) if found else ()


def cells(raw: Iterable[object]) -> list[Cell]:
    """The cells of a notebook's list of cells (dicts or nbformat's nodes), however little of them is there."""
    return [_cell(place, each) for place, each in enumerate(raw) if isinstance(each, Mapping)]


def one_line(text: str, most: int = 80) -> str:
    """Text that somebody else wrote, fit for a message: one line, nothing unseen in it, no lone surrogates.

    >>> one_line("R\\n\\x1b[31m"), one_line("a\\u202ed\\u200ba")
    ('R [31m', 'ada')
    """
    shown = "".join(c if c.isprintable() else " " for c in re.sub(f"[{UNSEEN}]", "", _mended(text)))
    shown = " ".join(shown.split())
    return shown if len(shown) <= most else shown[: most - 1] + "…"


# ------------------------------------------------------------------------------------------------- from bytes to JSON


def _decoded(data: bytes) -> tuple[str, list[str]]:
    if not data.strip(b" \t\r\n\0"):
        raise Unreadable("the file is empty" if not data.strip() else "the file holds nothing but zero bytes")
    if data.startswith(b"PK\x03\x04"):
        raise Unreadable("expected a notebook, got a zip archive with another name: unpack it first")
    encoding = json.detect_encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding not in ("utf-8", "utf-8-sig"):
            raise Unreadable(f"the file begins like {encoding} text and isn't: export the notebook again") from error
        return _not_utf8(data)
    odd = encoding not in ("utf-8", "utf-8-sig")
    return text, [f"saved as {encoding}, not as UTF-8"] if odd else []


def _not_utf8(data: bytes) -> tuple[str, list[str]]:
    """Where no character is UTF-8 beyond ASCII, the file comes from an old editor; else single bytes were damaged."""
    text = data.decode("utf-8", "replace")
    if text.isascii() or {c for c in text if not c.isascii()} == {"\ufffd"}:
        return data.decode("cp1252", "replace"), ["not UTF-8: read as Windows-1252 (Latin-1)"]
    return text, ["not UTF-8 throughout: its damaged characters stand as \ufffd"]


def _parsed(text: str, notes: list[str]) -> dict:
    text = text.lstrip("\ufeff \t\r\n\0")
    if sum(map(text.count, "[{,")) > MOST_PARTS:
        raise Unreadable(f"it has more than {MOST_PARTS:,} parts: clear all outputs and hand it in again")
    try:
        notebook, end = DECODER.raw_decode(text)
    except RecursionError:
        raise Unreadable("not a notebook: its JSON is nested without end") from None
    except json.JSONDecodeError as error:
        raise Unreadable(_what_it_is(text, error)) from None
    if not isinstance(notebook, dict):
        kind = {list: "a list", str: "a text", type(None): "null"}.get(type(notebook), "a number")
        raise Unreadable(f"not a notebook: expected JSON with cells, got {kind}")
    if text[end:].strip(" \t\r\n\0"):
        notes.append("something stands behind the notebook's end and was ignored")
    return notebook


def _what_it_is(text: str, error: json.JSONDecodeError) -> str:
    if text.startswith("<") and not text.startswith("<<<"):
        return "expected a notebook, got a web page (HTML or XML): download the .ipynb file itself"
    if re.search(r"(?m)^(<{7}|>{7})( |$)", text):
        return "the notebook holds conflict markers of git (<<<<<<<): resolve the conflict and hand it in again"
    if not text.startswith("{"):
        return f"not a notebook: expected JSON, got {one_line(text[:60], 30)!r}"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
        return f"the notebook breaks off in line {error.lineno}: hand in the whole file"
    return f"not a notebook: its JSON is damaged in line {error.lineno}, column {error.colno}"


# ------------------------------------------------------------------------------------------------- from JSON to cells


def _raw_cells(notebook: dict) -> list:
    """The list of cells: at the top since format 4, in worksheets in 2 and 3."""
    if isinstance(notebook.get("cells"), list):
        return notebook["cells"]
    sheets = notebook.get("worksheets")
    lists = [_dict(sheet).get("cells") for sheet in sheets] if isinstance(sheets, list) else []
    lists = [each for each in lists if isinstance(each, list)]
    if not lists:
        raise Unreadable("not a notebook: its JSON has no cells")
    return [cell for each in lists for cell in each]


def _about_format(notebook: dict) -> list[str]:
    version = notebook.get("nbformat")
    if version == 4:
        return []
    return [f"its format is {version}, not 4" if isinstance(version, int) else "its format is not given"]


def _about_kernel(notebook: dict) -> list[str]:
    meta = _dict(notebook.get("metadata"))
    kernel, info = _dict(meta.get("kernelspec")), _dict(meta.get("language_info"))
    for language in (kernel.get("language"), info.get("name"), kernel.get("name")):
        if isinstance(language, str) and language:
            python = "python" in language.lower() or language is kernel.get("name")  # a kernel may have any name
            return [] if python else [f"its kernel speaks {one_line(language, 20)}; the answers are read as Python"]
    return []


def _cell(place: int, raw: Mapping) -> Cell:
    meta = _dict(raw.get("metadata"))
    course = _dict(meta.get("course"))
    source = _text(raw.get("source")) or _text(raw.get("input")) or _text(raw.get("code"))  # formats 4, 3 and 2, 1
    long = len(source) > MOST_SOURCE
    marks = (_word(_dict(meta.get("nbgrader")).get("grade_id")), _word(raw.get("id")))
    kind = _word(raw.get("cell_type")) or "code"
    return Cell(
        place, kind, "" if long else _mended(source), *marks, _word(course.get("quiz")), _word(course.get("role")), long
    )


def _dict(value: object) -> Mapping:
    return value if isinstance(value, Mapping) else {}


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _text(value: object) -> str:
    """A cell's source: one text, or a list of lines that keep their line ends."""
    if isinstance(value, list):
        value = "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""


def _mended(text: str) -> str:
    """Without what Python cannot encode or compile: lone surrogates and zero bytes; line ends as Python counts them."""
    text = re.sub("[\ud800-\udfff]", "\ufffd", text).replace("\0", "")
    return text.replace("\r\n", "\n").replace("\r", "\n")
