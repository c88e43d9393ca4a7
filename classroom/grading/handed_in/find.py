"""Find the notebooks that were handed in: in a folder or a zip, in nbgrader's layout or flat.

What lies there is not trusted: no link is followed, no file is opened that is no plain file, nothing is unpacked to
disk, and whatever cannot be read is reported as a submission with `trouble`, so that nobody is lost in silence.
Files are listed here, and read one at a time when it is their turn (`Submission.load`).

Layouts, found by depth: `[submitted/]STUDENT/ASSIGNMENT/x.ipynb`, `STUDENT/x.ipynb`, `ASSIGNMENT/STUDENT….ipynb` where
the folder is named like a notebook, and `x.ipynb`. In the last two the student is what is left of the file's name when
the notebook's own name or number is taken out: `alice_03_forward_diffusion.ipynb`, `03-alice.ipynb`, `alice.ipynb` are
all alice's. Where nothing is left, the whole name stands for the student.

Names that differ in nothing but blanks, or in what nobody sees, are different students all the same: see `people`.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NoReturn

from ..records import Submission, Trouble
from . import skim
from .handed_out import HandedOut
from .people import told_apart
from .read import one_line

MOST_BYTES = 2**30  # of a file, most of it outputs; what is left of it is bounded by `skim`
MOST_DAMAGED = 50 * 2**20  # of a file that is not the JSON of a notebook, and is looked at as a whole
MOST_BYTES_EACH = 2 * MOST_BYTES  # of all that one student handed in
HEAD = 2**16  # bytes at a notebook's beginning that mostly tell which one it is
_WORDS = re.compile(rb'"([\w-]{4,64})"|def (\w{1,64})\(')  # as they stand in a notebook's JSON, damaged or not
DEEPEST = 6  # folders within folders
WRAPPERS = ("submitted", "submissions")  # folders that stand for all students
NBGRADERS = {"source", "release", "autograded", "feedback", "exchange"}  # what may lie beside them: no students


@dataclass(frozen=True)
class _Place:
    """A file as found: its path below the folder or zip, its size, and a way to its bytes.

    open: gives a function that reads on;  both may raise Trouble.
    """

    parts: tuple[str, ...]
    size: int
    open: Callable[[], AbstractContextManager[skim.Read]]

    def load(self) -> bytes:
        """What counts of the notebook, and where it is damaged all of it: `read` says what it is."""
        if self.size > MOST_BYTES:
            raise Trouble(f"not read: {_megabytes(self.size)}, expected at most {_megabytes(MOST_BYTES)}")
        try:
            with self.open() as read:
                return skim.skim(_bounded(read, MOST_BYTES))
        except skim.Damaged as damage:
            if self.size > MOST_DAMAGED:
                what = "the notebook breaks off" if damage.ended else "not a notebook: its JSON is damaged"
                raise Trouble(f"{what} in line {damage.line:,}: hand in the whole file") from None
        with self.open() as read:
            return b"".join(iter(partial(_bounded(read, MOST_DAMAGED), skim.PIECE), b""))

    def head(self) -> bytes:
        with self.open() as read:
            return read(HEAD)


def find(path: Path, notebooks: Mapping[str, HandedOut]) -> list[Submission]:
    """All submissions in a folder or a .zip, sorted by student and name.

    path: of the folder or zip;  notebooks: number -> the notebook as handed out, whose name and number tell which
    notebook a file is; renamed files are known by what is in them.
    Returns one submission for every notebook, also for those that cannot be read. Two of one student for the same
    notebook are both there (see `twice`).  FileNotFoundError, ValueError (one line) if `path` is no such thing.
    """
    known = [_known(number, notebook) for number, notebook in sorted(notebooks.items())]
    places = sorted(_unwrapped(_places(Path(path)), Path(path).stem), key=lambda each: each.parts)
    found = [_who_and_what(place.parts, known) for place in places]
    people = told_apart({who for who, _ in found})
    sizes: Counter[str] = Counter()
    submissions = []
    for place, (who, number) in zip(places, found):
        student, note = people[who]
        name = one_line("/".join(place.parts), 300)
        try:
            if sizes[student] > MOST_BYTES_EACH:
                raise Trouble(f"not read: this student handed in more than {_megabytes(MOST_BYTES_EACH)}")
            sizes[student] += place.size
            number, trouble = _number_of(place, number, known)
        except Trouble as error:
            trouble = str(error)
        submissions.append(Submission(student, number, name, trouble, (note,) if note else (), place.load))
    return sorted(submissions, key=lambda each: (each.student, each.name, each.notebook))


def twice(submissions: Sequence[Submission]) -> dict[tuple[str, str], list[str]]:
    """(student, notebook) -> names of the files, for those who handed in more than one of the same."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in submissions:
        if each.notebook:
            found.setdefault((each.student, each.notebook), []).append(each.name)
    return {key: names for key, names in found.items() if len(names) > 1}


# ------------------------------------------------------------------------------------------------- who, and which one


@dataclass(frozen=True)
class _Known:
    """What gives a notebook away: its name's pattern, and words in it: marks of its cells, functions asked for."""

    number: str
    pattern: re.Pattern
    marks: frozenset[bytes]


def _known(number: str, notebook: HandedOut) -> _Known:
    words = [re.escape(word) for word in re.split(r"[\W_]+", notebook.stem or number) if word]
    name, number_alone = r"[\W_]*".join(words), rf"(?<![0-9A-Za-z]){re.escape(number)}(?![0-9A-Za-z])"
    marks = notebook.marks | set(notebook.names.values())
    pattern = re.compile(f"{name}|{number_alone}", re.IGNORECASE)
    return _Known(number, pattern, frozenset(mark.encode() for mark in marks))


def _who_and_what(parts: Sequence[str], known: Sequence[_Known]) -> tuple[str, str]:
    """The student, exactly as written, and where a name says so the notebook's number."""
    stem = _ENDING.sub("", parts[-1])
    number, rest = _number_in(stem, known)
    if len(parts) == 1:
        return rest or stem, number
    folder_number, folder_rest = _number_in(parts[0], known)
    if len(parts) == 2 and folder_number and not folder_rest:  # ASSIGNMENT/STUDENT.ipynb
        return rest or stem, number or folder_number
    for folder in parts[1:-1]:
        number = number or _number_in(folder, known)[0]
    return parts[0], number


def _number_in(name: str, known: Sequence[_Known]) -> tuple[str, str]:
    """The one notebook that a name names, and what is left of the name; ("", name) if none or several."""
    found = [(each, match) for each in known if (match := each.pattern.search(name))]
    longest = max((len(match[0]) for _, match in found), default=0)
    found = [(each, match) for each, match in found if len(match[0]) == longest]
    if len(found) != 1:
        return "", name
    each, match = found[0]
    before, behind = (part.strip(" _-.,") for part in (name[: match.start()], name[match.end() :]))
    rest = f"{before} {behind}".strip()
    return each.number, _without_copies(rest)


# As browsers and systems end the name of a download, and as they and Colab name a copy.
_ENDING = re.compile(r"\.ipynb(\.(ipynb|txt|json|download))*\s*$", re.IGNORECASE)
_COPIES = re.compile(r"^copy of[ _]|[ _-]*(\(\d+\)|\bcopy[ _-]*\d*|-copy\d*)[ _-]*$", re.IGNORECASE)


def _without_copies(name: str) -> str:
    """A name without what programs add to that of a copy.

    >>> [_without_copies(name) for name in ("Copy of ada", "ada copy 2", "ada - Copy (2)", "ada-Copy1", "Copy")]
    ['ada', 'ada', 'ada', 'ada', 'Copy']
    """
    left = _COPIES.sub("", name).strip(" _-.,")
    return name if not left else left if left == name else _without_copies(left)


def _number_of(place: _Place, named: str, known: Sequence[_Known]) -> tuple[str, str]:
    """The notebook's number and, if nobody can tell, why not. Contents overrule a name that fits them in nothing."""
    if named and _shared(place.head(), known)[named]:
        return named, ""
    shared = _shared(place.load(), known)
    if named and (shared[named] or not any(shared.values())):
        return named, ""
    most = max(shared.values(), default=0)
    best = [number for number, count in shared.items() if count == most and most]
    if len(best) == 1:
        return best[0], ""
    if named:
        return named, ""
    listed = ", ".join(shared)
    return "", f"nobody can tell which notebook this is: put its number ({listed}) into its file name"


def _shared(text: bytes, known: Sequence[_Known]) -> dict[str, int]:
    """Number -> how many of its notebook's marks stand in the text."""
    marks = frozenset().union(*(each.marks for each in known))
    seen = {word for match in _WORDS.finditer(text) if (word := match[1] or match[2]) in marks}
    return {each.number: len(seen & each.marks) for each in known}


# ------------------------------------------------------------------------------------------------------------- places


def _places(path: Path) -> list[_Place]:
    if not path.exists():
        raise FileNotFoundError(f"expected a folder or a zip with submissions, found nothing at {path}")
    if path.is_dir():
        return list(_in_folder(path))
    if path.is_file() and zipfile.is_zipfile(path):
        return list(_in_zip(path))
    raise ValueError(f"expected a folder or a zip with submissions, got another file: {path}")


def _unwrapped(places: list[_Place], stem: str) -> list[_Place]:
    """Without folders around everything: `submitted`, beside nothing but nbgrader's other folders, or one named like
    the zip."""
    while True:
        tops = {place.parts[0] for place in places if len(place.parts) > 1}
        wrapper = next((top for top in sorted(tops) if top.lower() in WRAPPERS), None)
        beside, loose = {top.lower() for top in tops - {wrapper}}, any(len(place.parts) == 1 for place in places)
        if not beside <= NBGRADERS or (loose and not beside):
            wrapper = None  # somebody's name is like that
        if wrapper is None and len(tops) == 1 and all(len(place.parts) > 1 for place in places):
            wrapper = next((top for top in tops if top.lower() == stem.lower()), None)
        if wrapper is None:
            return places
        places = [replace(place, parts=place.parts[1:]) for place in places if place.parts[0] == wrapper]
        places = [place for place in places if place.parts]


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _is_notebook(name: str) -> bool:
    return _ENDING.search(name) is not None


def _refused(parts: tuple[str, ...], why: str) -> _Place:
    def refuse() -> NoReturn:
        raise Trouble(why)

    return _Place(parts, 0, refuse)


def _in_folder(folder: Path, parts: tuple[str, ...] = ()) -> Iterator[_Place]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield _refused(parts or (folder.name,), f"the folder cannot be read: {error.strerror}")
        return
    if len(parts) > DEEPEST:
        yield _refused(parts, f"not read: more than {DEEPEST} folders within each other")
        return
    for entry in entries:
        here = (*parts, entry.name)
        if not _wanted(entry.name):
            continue
        if entry.is_symlink():
            if _is_notebook(entry.name) or len(here) == 1 or Path(entry.path).is_dir():
                yield _refused(here, "a link to another place, which is not followed: hand in the file itself")
        elif entry.is_dir(follow_symlinks=False):
            if _is_notebook(entry.name):
                yield _refused(here, "a folder that is named like a notebook")
            else:
                yield from _in_subfolder(Path(entry.path), here)
        elif _is_notebook(entry.name):
            yield _Place(here, _size(entry), partial(_opened, Path(entry.path)))


def _in_subfolder(folder: Path, parts: tuple[str, ...]) -> Iterator[_Place]:
    """The same, and a word where a student's folder holds nothing."""
    inside = list(_in_folder(folder, parts))
    is_students = len(parts) == 1 or parts[-2].lower() in WRAPPERS
    if not inside and is_students and parts[-1].lower() not in WRAPPERS:
        yield _refused(parts, "there is no notebook in this folder")
    yield from inside


def _size(entry: os.DirEntry) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0  # it will be seen when it is opened


@contextmanager
def _opened(path: Path) -> Iterator[skim.Read]:
    """A plain file. Opened so that neither a link nor a pipe put there meanwhile does harm."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise Trouble("neither a file nor a folder (a pipe or a device): not read")
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Trouble("neither a file nor a folder (a pipe or a device): not read")
            yield file.read
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
            raise Trouble(f"not read: longer than it says, and than the {_megabytes(most)} allowed")
        return piece

    return bounded


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"


def _in_zip(path: Path) -> Iterator[_Place]:
    try:
        archive = zipfile.ZipFile(path)  # open for as long as somebody may read its entries
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"the zip cannot be read ({one_line(str(error))}): {path}") from None
    for entry in archive.infolist():
        parts = tuple(part for part in PurePosixPath(entry.filename.replace("\\", "/")).parts if part != ".")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not parts or not all(part == ".." or _wanted(part) for part in parts):
            continue
        link = kind == stat.S_IFLNK
        if entry.is_dir() and not _is_notebook(parts[-1]) or not (link or _is_notebook(parts[-1])):
            continue
        where = tuple(part.replace("/", "") for part in parts if part.strip("/") not in ("", ".."))
        where = where or (entry.filename,)
        if where != parts or re.match(r"[A-Za-z]:", parts[0]):
            yield _refused(where, "its name in the zip points outside of it: not read")
        elif link:
            yield _refused(where, "a link to another place, which is not followed: hand in the file itself")
        elif entry.is_dir() or kind not in (0, stat.S_IFREG):
            yield _refused(where, "not a plain file, though named like a notebook")
        else:
            yield _Place(where, entry.file_size, partial(_unpacked, archive, entry))


@contextmanager
def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[skim.Read]:
    if entry.flag_bits & 1:
        raise Trouble("encrypted with a password: hand it in without")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # of the others 4 kB may hold 4 GB
        raise Trouble("packed by an unusual method: make an ordinary zip of it")
    try:
        with archive.open(entry) as file:
            yield file.read
    except (Trouble, skim.Damaged):
        raise
    except Exception:  # zipfile and the decompressors raise a dozen kinds, and some of them name other entries
        raise Trouble("its entry in the zip is damaged: pack it again") from None
