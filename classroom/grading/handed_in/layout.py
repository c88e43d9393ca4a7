"""Whose is which file: from the paths of all of them, since one alone does not tell.

The student is the first folder that is called after nobody's work, or of files that lie side by side what is left of
the name when the notebook's own is taken out. Folders around a class (`submitted`, `Assignment 3`, one named like its
zip) are taken off first; forms of learning platforms (`platforms`) go before all else. A number in a name is the
notebook's only where the contents say so too: of `student-01.ipynb` … `student-04.ipynb` it is the student's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from . import platforms
from .places import NOTEBOOK
from .platforms import Student
from .titles import Known, Said, is_anybody, is_task, mentioned, plain, task_before

WRAPPERS = {"submitted", "submissions"}  # folders that stand for all students; beside them lie those of nbgrader:
NBGRADERS = {"source", "release", "autograded", "feedback", "exchange", "downloaded", "logs"}
_AROUND = re.compile(r".*[ _-](submissions|export)", re.I | re.S)
_DRIVES = re.compile(r".*-\d{8}T\d{6}Z([ _-]\d+)+(\.zip)?", re.S)  # part of what Google Drive packs
_NO_ONES = re.compile(r"untitled\d*|notebooks?|code|work|src|source|old|new|backup|data|course_utils|classroom", re.I)
# Where notebooks lie side by side, a file of another kind is somebody's too; a table or a settings file is not.
_HANDED_IN = re.compile(r".*\.(html?|pdf|py|txt|docx?|odt|rtf|pages|png|jpe?g|zip|7z|rar|t?gz|tar)", re.I | re.S)


@dataclass(frozen=True)
class File:
    """What the layout sees of a file.

    parts: its path, "" at the end of an empty folder's;  number: of the notebook, as its contents say, "" where they
    don't;  is_notebook: whether it is one;  text: gives the text of a small file;  within: folders around the class
    that were taken off its path.
    """

    parts: tuple[str, ...]
    number: str = ""
    is_notebook: bool = True
    text: Callable[[], str] = str
    within: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        return _stem(self.parts[-1])


@dataclass(frozen=True)
class Layout:
    """owners: for each file who handed it in, several for a group, () where it is no student's, and None for what a
    platform has put there;  around: folders that were taken for ones around a class, and for no student's;
    joined: names that stand for one person, though Moodle has given them several numbers."""

    owners: list[tuple[Student, ...] | None]
    around: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()


def laid_out(files: Sequence[File], known: Sequence[Known], stem: str = "") -> Layout:
    """Whose the files are. stem: of the zip or folder in which they lie.

    >>> laid_out([File(("Homework", "ada.ipynb"), "03"), File(("Homework", "bob.ipynb"), "03")], ()).owners
    [(('ada', ''),), (('bob', ''),)]
    """
    inside, around = list(files), []
    while (off := _around(inside, known, stem)).folders:
        around += sorted(off.folders)
        inside = [_within(file, off) for file in inside]
    owners = _owners(inside, known, around)
    joined = _joined(inside, owners)
    one = {student: (student[0], "") for each in owners for student in each or () if student[0] in joined}
    owners = [each and tuple(one.get(student, student) for student in each) for each in owners]
    return Layout(owners, tuple(around), tuple(sorted(joined)))


def _joined(files: Sequence[File], owners: Sequence[tuple[Student, ...] | None]) -> set[str]:
    """Names with one number in each of several of Moodle's downloads: it gives others in each assignment."""
    numbers: dict[str, dict[tuple[str, ...], set[str]]] = {}
    for file, students in zip(files, owners):
        for name, number in students or ():
            if number and platforms.MOODLES in file.parts[0]:
                numbers.setdefault(name, {}).setdefault(file.within, set()).add(number)
    return {
        name
        for name, found in numbers.items()
        if len(set().union(*found.values())) > 1 and all(len(each) == 1 for each in found.values())
    }


# --------------------------------------------------------------------------------------------------- folders around all


@dataclass(frozen=True)
class _Off:
    """Folders around a class, or each around one.  only: what lies beside them is nobody's hand-in."""

    folders: frozenset[str] = frozenset()
    only: bool = False


def _within(file: File, off: _Off) -> File:
    """The file as seen from within these folders; without a path if it is nbgrader's, beside `submitted`."""
    if file.parts[:1] and file.parts[0] in off.folders:
        return replace(file, parts=file.parts[1:], within=(*file.within, file.parts[0]))
    if not off.only or not file.parts:
        return file
    is_nbgraders = file.parts[0].lower() in NBGRADERS or file.is_notebook
    return replace(file, parts=() if is_nbgraders else ("/".join(file.parts),))


def _around(files: Sequence[File], known: Sequence[Known], stem: str) -> _Off:
    """The topmost folders that stand around a class."""
    tops: dict[str, list[File]] = {}
    for file in files:
        if len(file.parts) > 1:
            inside = tops.setdefault(file.parts[0], [])
            inside += [replace(file, parts=file.parts[1:])] if file.parts[1:] != ("",) else []
    full = {top: inside for top, inside in tops.items() if inside and not platforms.is_platforms(top)}
    if classes := frozenset(top for top, inside in full.items() if _is_download(top, inside)):
        return _Off(classes)
    loose = any(len(file.parts) == 1 and file.is_notebook for file in files)
    if wrapper := frozenset(top for top in full if top.lower() in WRAPPERS):
        beside = {top.lower() for top in tops.keys() - wrapper if any(file.is_notebook for file in tops[top])}
        if len(wrapper) == 1 and beside <= NBGRADERS and (beside or not loose):
            return _Off(wrapper, only=True)
    if not full or any(map(platforms.is_platforms, tops)):
        return _Off()
    if len(tops) == 1 and not loose:
        return _Off(frozenset(top for top, inside in full.items() if _is_around(top, inside, known, stem)))
    return _Off(_works(full, known))


def _works(tops: Mapping[str, Sequence[File]], known: Sequence[Known]) -> frozenset[str]:
    """Folders that are called after a piece of work; beside others, those with several people in them.

    A number is a piece of work's name where each of them is the number of what is in there.
    """
    works = {top for top, inside in tops.items() if _is_work(top, inside, known)}
    names = [top for top in tops if not is_task(top)]
    numbered = {top for top in names if any(said.bare and not said.rest for said in mentioned(top, known))}
    works -= set() if numbered <= works else numbered
    crowded = (top for top in works if len({name for _, name in _people(tops[top], known)}) > 1)
    return frozenset(works if len(works) == len(tops) else crowded)


def _is_download(top: str, inside: Sequence[File]) -> bool:
    """Whether this is what a platform lets one download, under whatever name; parts of Google Drive's zips too."""
    names = {file.parts[0] for file in inside}
    theirs = sum(map(platforms.is_platforms, names))
    return platforms.METADATA in names or 2 * theirs > len(names) or _DRIVES.fullmatch(top) is not None


def _is_around(top: str, inside: Sequence[File], known: Sequence[Known], stem: str) -> bool:
    """Whether the only folder is one around a class: by its name, or since several in it hand in the same notebook."""
    people = _people(inside, known)
    if _stem(top).lower() == _stem(stem).lower():
        return bool(people) or all(len(file.parts) > 1 for file in inside)
    if _is_work(top, inside, known) or (people and _AROUND.fullmatch(top)):
        return True
    numbers = [number for number, _ in people if number]
    return len(numbers) > len(set(numbers)) or bool(_around(inside, known, "").folders)


def _is_work(top: str, inside: Sequence[File], known: Sequence[Known]) -> bool:
    """Whether a folder is called after a piece of work, and what is in it after people, or there several times."""
    people = bool(_people(inside, known))
    if is_task(top):
        return people or sum(file.is_notebook and len(file.parts) == 1 for file in inside) > 1
    said = [said for said in mentioned(top, known) if not said.rest]
    numbers = {file.number for file in inside if file.number}
    return people and any(not one.bare or numbers <= {one.number} for one in said)


def _people(inside: Sequence[File], known: Sequence[Known]) -> set[tuple[str, str]]:
    """Notebook and name for whoever seems to have handed in something here."""
    notebooks = [file for file in inside if file.is_notebook]
    side_by_side = [file for file in notebooks if len(file.parts) == 1]
    names = _flat(side_by_side, {file.parts[0] for file in side_by_side}, known)
    said = [(file, _taken_out(file, known)) for file in side_by_side]
    numbered = sum(bool(one and one.bare and file.number not in ("", one.number)) for file, one in said) > 1
    found = {(file.number, names[file.parts[0]]) for file in side_by_side if numbered or _person(file.parts[0], known)}
    for file in notebooks:
        if len(file.parts) > 1 and (name := next(filter(None, (_person(part, known) for part in file.parts)), "")):
            found.add((file.number, name))
    return found


def _person(part: str, known: Sequence[Known]) -> str:
    """What is left of a file's or folder's name, if that may be somebody's."""
    name = _stem(part)
    said = [] if is_task(name) else mentioned(name, known)
    rest = said[0].rest if said else plain(name)
    nobodys = not rest or is_task(rest) or _NO_ONES.fullmatch(rest) or plain(f"x {rest}") == "x"
    return "" if nobodys else rest


# ---------------------------------------------------------------------------------------------------------- who it is


def _owners(files: Sequence[File], known: Sequence[Known], around: Sequence[str]) -> list[tuple[Student, ...] | None]:
    groups: dict[str, list[Student]] = {}
    for file in files:
        groups |= platforms.submitters(file.text()) if file.parts == (platforms.METADATA,) else {}
    receipts = {file.parts[0]: file.text() for file in files if len(file.parts) == 1 and is_receipt(file.parts)}
    tops = {file.parts[0] for file in files if file.parts} - groups.keys()
    logins = platforms.attempts(tops, receipts)
    others = {top for top in tops if not platforms.is_platforms(top)}
    folders = {file.parts[0] for file in files if len(file.parts) > 1} & others
    zips = {top for top in folders if top.lower().endswith(".zip")}
    named = _flat([*_as_one(files, zips), *(file for file in files if len(file.parts) == 1)], others, known)
    named |= _folders(sorted(folders - zips), known, around)

    def owners(file: File) -> tuple[Student, ...] | None:
        if not file.parts or file.parts == (platforms.METADATA,):
            return None
        top = file.parts[0]
        if top in groups:
            return tuple(groups[top])
        if top in logins:
            return ((logins[top], ""),)
        if student := platforms.student(_without_zip(top)):
            return (student,)
        return ((named[top], ""),) if named.get(top) else ()

    return [owners(file) for file in files]


def _as_one(files: Sequence[File], zips: Iterable[str]) -> list[File]:
    """For each of these zips a file with the number of the notebook in it, if that is one."""
    numbers = {top: {file.number for file in files if file.parts[:1] == (top,) and file.number} for top in sorted(zips)}
    return [File((top,), min(found) if len(found) == 1 else "") for top, found in numbers.items()]


def is_receipt(parts: Sequence[str]) -> bool:
    """Whether a file is one that Blackboard or nbgrader has put beside what was handed in."""
    name = parts[-1] if parts else ""
    return name == "timestamp.txt" or bool(platforms.ATTEMPT.fullmatch(name)) and name.endswith(".txt")


def _flat(files: Sequence[File], among: set[str], known: Sequence[Known]) -> dict[str, str]:
    """File's name -> student, for files side by side. Where no notebook lies there, the others are nobody's."""
    files = [file for file in files if file.parts[0] in among]
    if not any(file.is_notebook for file in files):
        return {}
    files = [file for file in files if file.is_notebook or _HANDED_IN.fullmatch(file.parts[0])]
    # A name that is nobody's stays as it is: three downloads of three people's "03.ipynb" are no copies of each other.
    whole = {file.parts[0]: plain(file.stem) if _person(file.stem, known) else file.stem for file in files}
    taken_out = {file.parts[0]: found for file in files if (found := _taken_out(file, known))}
    # A number that is not the notebook's in one name is a student's in all names that are otherwise the same.
    students = {
        said.rest.casefold()
        for file in files
        if (said := taken_out.get(file.parts[0])) and said.bare and file.number not in ("", said.number)
    }

    def name(top: str) -> str:
        said = taken_out.get(top)
        if said is None or not said.rest:
            return whole[top]
        is_students = said.bare and (said.rest.casefold() in students or is_anybody(said.rest))
        return whole[top] if is_students else said.rest

    names = {file.parts[0]: name(file.parts[0]) for file in files if file.is_notebook}
    known_names = set(names.values())
    for file in files:  # "Ada Lovelace - notes.pdf" lies beside a notebook of hers
        if not file.is_notebook:
            owner = file.stem.partition(" - ")[0]
            names[file.parts[0]] = owner if owner in known_names else name(file.parts[0])
    return names


def _taken_out(file: File, known: Sequence[Known]) -> Said | None:
    """What the file's name says of the notebook that it is, or else of any."""
    said = mentioned(file.stem, known)
    return next((one for one in said if one.number == file.number), said[0] if said else None)


def _folders(tops: Sequence[str], known: Sequence[Known], around: Sequence[str]) -> dict[str, str]:
    """Folder -> student. Of GitHub Classroom's `assignment-3-ada` what stands before every name is taken off."""
    for folder in around:  # `gh classroom clone` puts the repositories into one called after the assignment
        slug = f"{re.sub('[ _-]submissions$', '', folder, flags=re.IGNORECASE)}-".lower()
        if tops and all(top.lower().startswith(slug) and len(top) > len(slug) for top in tops):
            return {top: top[len(slug) :] for top in tops}
    if all(task_before(top) and not is_task(top) for top in tops):
        return {top: top[len(task_before(top)) :] for top in tops}
    titled = {top: said.rest for top in tops for said in mentioned(top, known)[:1] if said.rest and not said.bare}
    return titled if len(titled) == len(tops) else {top: top for top in tops}


def _stem(name: str) -> str:
    """A file's name without its ending; ".ipynb.txt" is one, and "Ada L." has none."""
    if NOTEBOOK.search(name):
        return NOTEBOOK.sub("", name)
    stem, ending = os.path.splitext(name)
    return stem if re.fullmatch(r"\.\w{1,5}", ending) else name


def _without_zip(name: str) -> str:
    return name[:-4] if name.lower().endswith(".zip") else name
