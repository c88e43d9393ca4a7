"""Find the notebooks that were handed in: in a folder or a zip, in nbgrader's layout or flat.

What lies there is not trusted: no link is followed, no file is opened that is no plain file, nothing is unpacked to
disk, and whatever cannot be read is reported as a submission with `trouble`, so that nobody is lost in silence.

Layouts, found by depth: `[submitted/]STUDENT/ASSIGNMENT/x.ipynb`, `STUDENT/x.ipynb`, `ASSIGNMENT/STUDENT….ipynb` where
the folder is named like a notebook, and `x.ipynb`. In the last two the student is what is left of the file's name when
the notebook's own name or number is taken out: `alice_03_forward_diffusion.ipynb`, `03-alice.ipynb`, `alice.ipynb` are
all alice's. Where nothing is left, the whole name stands for the student.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..records import Submission
from .handed_out import HandedOut
from .read import MOST_BYTES, one_line

MOST_BYTES_EACH = 4 * MOST_BYTES  # of all that one student handed in
_WORDS = re.compile(rb'"([\w-]{4,64})"|def (\w{1,64})\(')  # as they stand in a notebook's JSON, damaged or not
DEEPEST = 6  # folders within folders
WRAPPERS = ("submitted", "submissions")  # folders that stand for all students
NBGRADERS = {"source", "release", "autograded", "feedback", "exchange"}  # what may lie beside them: no students


class _Trouble(Exception):
    """Why a file is not read, in one line."""


@dataclass(frozen=True)
class _Place:
    """A file as found: its path below the folder or zip, and a way to its bytes, which may raise _Trouble."""

    parts: tuple[str, ...]
    read: Callable[[], bytes]


def find(path: Path, notebooks: Mapping[str, HandedOut]) -> list[Submission]:
    """All submissions in a folder or a .zip, sorted by student and name.

    path: of the folder or zip;  notebooks: number -> the notebook as handed out, whose name and number tell which
    notebook a file is; renamed files are known by what is in them.
    Returns one submission for every notebook, also for those that cannot be read. Two of one student for the same
    notebook are both there (see `twice`).  FileNotFoundError, ValueError (one line) if `path` is no such thing.
    """
    return sorted(walk(path, notebooks), key=lambda each: (each.student, each.name, each.notebook))


def walk(path: Path, notebooks: Mapping[str, HandedOut]) -> Iterator[Submission]:
    """What `find` finds, one at a time and in the order of paths: for those who keep no bytes of all at once."""
    known = [_known(number, notebook) for number, notebook in sorted(notebooks.items())]
    read = Counter()
    places = sorted(_unwrapped(_places(Path(path)), Path(path).stem), key=lambda each: each.parts)
    folders = {place.parts[0] for place in places}
    namesakes = Counter(_student(folder) for folder in folders)
    for place in places:
        student, number = _who_and_what(place.parts, known)
        if namesakes[student] > 1:
            student = one_line(place.parts[0], 120)
        name = one_line("/".join(place.parts), 300)
        try:
            if read[student] > MOST_BYTES_EACH:
                raise _Trouble(f"not read: this student handed in more than {_megabytes(MOST_BYTES_EACH)}")
            text = place.read()
        except _Trouble as trouble:
            yield Submission(student, number, name, None, str(trouble))
            continue
        read[student] += len(text)
        number, trouble = _number_of(text, number, known)
        yield Submission(student, number, name, text if number else None, trouble)


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
    """The student and, where a name says so, the notebook's number."""
    stem = re.sub(r"\.ipynb$", "", parts[-1], flags=re.IGNORECASE)
    number, rest = _number_in(stem, known)
    if len(parts) == 1:
        return _student(rest or stem), number
    folder_number, folder_rest = _number_in(parts[0], known)
    if len(parts) == 2 and folder_number and not folder_rest:  # ASSIGNMENT/STUDENT.ipynb
        return _student(rest or stem), number or folder_number
    for folder in parts[1:-1]:
        number = number or _number_in(folder, known)[0]
    return _student(parts[0]), number


def _number_in(name: str, known: Sequence[_Known]) -> tuple[str, str]:
    """The one notebook that a name names, and what is left of the name; ("", name) if none or several."""
    found = [(each, match) for each in known if (match := each.pattern.search(name))]
    longest = max((len(match[0]) for _, match in found), default=0)
    found = [(each, match) for each, match in found if len(match[0]) == longest]
    if len(found) != 1:
        return "", name
    each, match = found[0]
    rest = f"{name[: match.start()]} {name[match.end() :]}"
    rest = re.sub(r"[ _-]*(\(\d+\)|-?copy\d*)[ _-]*$", "", rest.strip(" _-.,"), flags=re.IGNORECASE)
    return each.number, re.sub(r"\s+", " ", rest).strip(" _-.,")


def _student(name: str) -> str:
    """A name for tables; of Moodle's "Ada Lovelace_12345_assignsubmission_file" the part that people go by."""
    return one_line(re.sub(r"_\d+_assignsubmission_\w*$", "", name), 120) or "?"


def _number_of(text: bytes, named: str, known: Sequence[_Known]) -> tuple[str, str]:
    """The notebook's number and, if nobody can tell, why not. Contents overrule a name that fits them in nothing."""
    marks = frozenset().union(*(each.marks for each in known))
    seen = {word for match in _WORDS.finditer(text) if (word := match[1] or match[2]) in marks}
    shared = {each.number: len(seen & each.marks) for each in known}
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
        places = [_Place(place.parts[1:], place.read) for place in places if place.parts[0] == wrapper]
        places = [place for place in places if place.parts]


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _is_notebook(name: str) -> bool:
    return name.lower().endswith(".ipynb")


def _refused(parts: tuple[str, ...], why: str) -> _Place:
    def read() -> bytes:
        raise _Trouble(why)

    return _Place(parts, read)


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
            yield _Place(here, lambda path=Path(entry.path): _bytes_of(path))


def _in_subfolder(folder: Path, parts: tuple[str, ...]) -> Iterator[_Place]:
    """The same, and a word where a student's folder holds nothing."""
    inside = list(_in_folder(folder, parts))
    is_students = len(parts) == 1 or parts[-2].lower() in WRAPPERS
    if not inside and is_students and parts[-1].lower() not in WRAPPERS:
        yield _refused(parts, "there is no notebook in this folder")
    yield from inside


def _bytes_of(path: Path) -> bytes:
    """The bytes of a plain file. Opened so that neither a link nor a pipe put there meanwhile does harm."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise _Trouble("neither a file nor a folder (a pipe or a device): not read")
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _Trouble("neither a file nor a folder (a pipe or a device): not read")
            return _bounded(file.read, os.fstat(descriptor).st_size)
    except OSError as error:
        raise _Trouble(f"the file cannot be read: {error.strerror}") from None


def _bounded(read: Callable[[int], bytes], declared: int) -> bytes:
    most = MOST_BYTES
    if declared > most:
        raise _Trouble(f"not read: {_megabytes(declared)}, expected at most {_megabytes(most)}: clear all outputs")
    text = read(most + 1)
    if len(text) > most:
        raise _Trouble(f"not read: longer than it says, and than the {_megabytes(most)} allowed")
    return text


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
            yield _Place(where, lambda entry=entry: _unpacked(archive, entry))


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.flag_bits & 1:
        raise _Trouble("encrypted with a password: hand it in without")
    try:
        with archive.open(entry) as file:
            return _bounded(file.read, entry.file_size)
    except _Trouble:
        raise
    except Exception as error:  # zipfile and the decompressors raise a dozen kinds for damaged entries
        raise _Trouble(f"its entry in the zip is damaged ({one_line(str(error))})") from None
