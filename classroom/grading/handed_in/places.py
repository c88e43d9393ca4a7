"""Every file below a folder or in a zip, and the way to its bytes. Nothing is unpacked to disk, no link is followed.

A zip among the files is a folder with an odd name: what is in it stands below it, `ada/hw.zip/03.ipynb`.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NoReturn

from ..records import Trouble
from . import skim
from .read import one_line

MOST_BYTES = 2**30  # of a file, most of it outputs; what is left of it is bounded by `skim`
MOST_DAMAGED = 50 * 2**20  # of a file that is not the JSON of a notebook, and is looked at as a whole
MOST_INNER = 200 * 2**20  # of a zip within a zip: it is unpacked anew for each of its files
MOST_FILES = 20_000  # in one of those
MOST_ZIPS = 3  # within each other
HEAD = 2**16  # bytes at a notebook's beginning that mostly tell which one it is
EMPTY = "there is no notebook in this folder"
DEEPEST = 12  # folders within folders, zips among them
LONGEST = 255  # characters of a name, as on all systems
# As browsers and systems end the name of a download, and as they and Colab name a copy.
NOTEBOOK = re.compile(r"\.ipynb(\.(ipynb|txt|json|download))*\s*$", re.IGNORECASE)
_LINK = "a link to another place, which is not followed: hand in the file itself"
_HIDDEN = re.compile(r"\..*|__MACOSX|__pycache__|Thumbs\.db|desktop\.ini|Icon\r", re.IGNORECASE | re.DOTALL)

Opener = Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass(frozen=True)
class Place:
    """A file as found: its path below the folder or zip, its size, and a way to its bytes.

    parts: the last one is "" for a folder with nothing in it that is read;  open: gives a file to read;  to open it,
    and to read on, may raise Trouble;  trouble: why it is not even tried, in one line, or "".
    """

    parts: tuple[str, ...]
    size: int
    open: Opener
    trouble: str = ""

    def load(self) -> bytes:
        """What counts of the notebook, and where it is damaged all of it: `read` says what it is."""
        if self.size > MOST_BYTES:
            raise Trouble(f"not read: {megabytes(self.size)}, expected at most {megabytes(MOST_BYTES)}")
        try:
            with self.open() as file:
                return skim.skim(_bounded(file.read, MOST_BYTES))
        except skim.Damaged as damage:
            if self.size > MOST_DAMAGED:
                what = "the notebook breaks off" if damage.ended else "not a notebook: its JSON is damaged"
                raise Trouble(f"{what} in line {damage.line:,}: hand in the whole file") from None
        with self.open() as file:
            return b"".join(iter(partial(_bounded(file.read, MOST_DAMAGED), skim.PIECE), b""))

    def head(self, size: int = HEAD) -> bytes:
        with self.open() as file:
            return file.read(size)


def places(path: Path) -> list[Place]:
    """All files, sorted, but for what systems and editors hide.  FileNotFoundError, ValueError if `path` has none."""
    if not path.exists():
        raise FileNotFoundError(f"expected a folder or a zip with submissions, found nothing at {path}")
    if path.is_dir():
        found = _in_folder(path)
    elif path.is_file() and zipfile.is_zipfile(path):
        try:
            archive = zipfile.ZipFile(path)  # open for as long as somebody may read its entries
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise ValueError(f"the zip cannot be read ({one_line(str(error))}): {path}") from None
        found = _in_zip(archive)
    else:
        raise ValueError(f"expected a folder or a zip with submissions, got another file: {path}")
    return sorted(found, key=lambda each: each.parts)


def _decoded(name: bytes, *others: str) -> str:
    """A name in UTF-8, as nearly all are, or in the first of the other encodings in which it consists of letters."""
    with contextlib.suppress(UnicodeDecodeError):
        return name.decode("utf-8")
    texts = [name.decode(encoding, "replace") for encoding in others]
    return next((text for text in texts if all(map(_is_latin, text))), texts[0])


def _is_latin(character: str) -> bool:
    return character.isascii() or unicodedata.name(character, "").startswith("LATIN ")


def megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"


def _refused(parts: tuple[str, ...], why: str) -> Place:
    def refuse() -> NoReturn:
        raise Trouble(why)

    return Place(parts, 0, refuse, why)


def _empty(parts: tuple[str, ...]) -> Place:
    return _refused((*parts, ""), EMPTY)


# ------------------------------------------------------------------------------------------------------------ folders


def _in_folder(folder: Path, parts: tuple[str, ...] = ()) -> Iterator[Place]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield _refused((*(parts or (folder.name,)), ""), f"the folder cannot be read: {error.strerror}")
        return
    if len(parts) > DEEPEST:
        yield _refused((*parts, ""), f"not read: more than {DEEPEST} folders within each other")
        return
    entries = [entry for entry in entries if not _HIDDEN.fullmatch(entry.name)]
    if not parts:
        entries = _without_our_own(entries)
    for entry in entries:
        here = (*parts, _decoded(os.fsencode(entry.name), "cp1252", "cp437"))
        if entry.is_symlink():
            yield _refused((*here, "") if Path(entry.path).is_dir() else here, _LINK)
        elif entry.is_dir(follow_symlinks=False):
            if NOTEBOOK.search(entry.name):
                yield _refused(here, "a folder that is named like a notebook")
            else:
                yield from _in_folder(Path(entry.path), here)
        else:
            yield from _opened_up(Place(here, _size(entry), partial(_opened, Path(entry.path))))
    if parts and not entries:
        yield _empty(parts)


def _without_our_own(entries: list[os.DirEntry]) -> list[os.DirEntry]:
    """Without what an earlier grading has written here: its tables and pages are nobody's submission."""
    ours = [name.removesuffix(".graded.jsonl") for name in (e.name for e in entries) if name.endswith(".graded.jsonl")]
    return [e for e in entries if not any(re.fullmatch(rf"{re.escape(stem)}([-.].*)", e.name) for stem in ours)]


def _size(entry: os.DirEntry) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0  # it will be seen when it is opened


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A plain file. Opened so that neither a link nor a pipe put there meanwhile does harm."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise Trouble("neither a file nor a folder (a pipe or a device): not read")
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Trouble("neither a file nor a folder (a pipe or a device): not read")
            yield file
    except OSError as error:
        raise Trouble(f"the file cannot be read: {error.strerror}") from None


def _bounded(read: skim.Read, most: int) -> skim.Read:
    """The same, as long as there is not more than it said."""
    done = 0

    def bounded(size: int) -> bytes:
        nonlocal done
        piece = read(size)
        done += len(piece)
        if done > most:
            raise Trouble(f"not read: longer than it says, and than the {megabytes(most)} allowed")
        return piece

    return bounded


# --------------------------------------------------------------------------------------------------------------- zips


def _opened_up(place: Place) -> Iterator[Place]:
    """The file itself, or of a zip what is in it: those come as the student packed them, and nobody has to unpack."""
    if not place.parts[-1].lower().endswith(".zip"):
        yield place
        return
    try:
        if sum(part.lower().endswith(".zip") for part in place.parts) > MOST_ZIPS:
            raise Trouble(f"not read: more than {MOST_ZIPS} zips within each other")
        with _archive(place) as archive:
            if len(archive.infolist()) > MOST_FILES:
                raise Trouble(f"not read: more than {MOST_FILES:,} files in a zip")
            inside = list(_in_zip(archive, place))
    except Trouble as trouble:
        yield _refused(place.parts, str(trouble))
    else:
        yield from inside or [_empty(place.parts)]


@contextmanager
def _archive(place: Place) -> Iterator[zipfile.ZipFile]:
    if place.size > MOST_INNER:
        raise Trouble(f"not read: a zip of {megabytes(place.size)}, expected at most {megabytes(MOST_INNER)}")
    with place.open() as file:
        try:
            archive = zipfile.ZipFile(file)
        except Exception:  # as below
            raise Trouble("not a zip that can be read, though it is named like one: pack it again") from None
        with archive:
            yield archive


def _in_zip(archive: zipfile.ZipFile, within: Place | None = None) -> Iterator[Place]:
    """What is in an archive. within: the file that it is, where it lies among others and is opened when needed."""
    above = within.parts if within else ()
    filled, folders = set(), set()
    for entry in archive.infolist():
        parts = _parts(_name(entry))
        if len(above) + len(parts) > DEEPEST or any(len(part) > LONGEST for part in parts):
            short = tuple(part[:LONGEST] for part in (*above, *parts)[:DEEPEST])
            yield _refused(
                short, f"not read: names of more than {LONGEST} characters, or {DEEPEST} folders in each other"
            )
            continue
        hidden = next((place for place, part in enumerate(parts) if _HIDDEN.fullmatch(part)), None)
        folders |= {parts[:end] for end in range(1, len(parts) + entry.is_dir()) if hidden is None or end <= hidden}
        if hidden is None and parts and not (entry.is_dir() and not NOTEBOOK.search(parts[-1])):
            filled |= {parts[:end] for end in range(1, len(parts) + 1)}
            yield from _one_of(entry, (*above, *parts), _opener(archive, entry, within))
    empty = folders - filled
    yield from (_empty((*above, *parts)) for parts in empty if not any(other[:-1] == parts for other in empty))


def _one_of(entry: zipfile.ZipInfo, where: tuple[str, ...], opener: Opener) -> Iterator[Place]:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if ".." in re.split(r"[\\/]", _name(entry)):
        yield _refused(where, "its name in the zip points outside of it: not read")
    elif kind == stat.S_IFLNK:
        yield _refused(where, _LINK)
    elif entry.is_dir() or kind not in (0, stat.S_IFREG):
        yield _refused(where, "not a plain file, though named like a notebook")
    else:
        yield from _opened_up(Place(where, entry.file_size, opener))


def _name(entry: zipfile.ZipInfo) -> str:
    """As whoever packed it wrote it. Where an entry does not say that this is UTF-8, zipfile takes it for cp437."""
    return entry.filename if entry.flag_bits & 0x800 else _decoded(entry.filename.encode("cp437"), "cp437", "cp1252")


def _parts(name: str) -> tuple[str, ...]:
    """Of "/root/03.ipynb" and "C:\\root\\03.ipynb" what stands below: nothing is written, so nothing gets there."""
    below = re.sub(r"^[A-Za-z]:(?=[\\/])", "", name)
    return tuple(part for part in re.split(r"[\\/]", below) if part not in ("", ".", ".."))


def _opener(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, within: Place | None) -> Opener:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with ExitStack() as stack:
            holding = stack.enter_context(_archive(within)) if within else archive
            yield stack.enter_context(_unpacked(holding, entry))

    return opened


@contextmanager
def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    if entry.flag_bits & 1:
        raise Trouble("encrypted with a password: hand it in without")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # of the others 4 kB may hold 4 GB
        raise Trouble("packed by an unusual method: make an ordinary zip of it")
    try:
        with archive.open(entry) as file:
            yield file
    except (Trouble, skim.Damaged):
        raise
    except Exception:  # zipfile and the decompressors raise a dozen kinds, and some of them name other entries
        raise Trouble("its entry in the zip is damaged: pack it again") from None
