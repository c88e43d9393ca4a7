"""Find what was handed in: in a folder or a zip, in the layouts of nbgrader and of learning platforms, or flat.

What lies there is not trusted: no link is followed, no file is opened that is no plain file, nothing is unpacked to
disk, and whatever cannot be read is reported with the student's name, so that nobody is lost in silence.
Files are listed here (`places`), given to students (`layout`), and read one at a time when it is their turn
(`Submission.load`).

Names that differ in nothing but blanks, or in what nobody sees, are different students all the same: see `people`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from ..records import Submission, Trouble
from .handed_out import HandedOut
from .layout import File, is_receipt, laid_out
from .people import told_apart
from .places import EMPTY, MOST_BYTES, NOTEBOOK, Place, megabytes, places
from .platforms import Student
from .read import one_line
from .titles import Known, known, mentioned

MOST_BYTES_EACH = 2 * MOST_BYTES  # of all that one student handed in
MOST_TEXT = 20 * 2**20  # of a platform's own file
MOST_NAMED = 8  # files in a note, and in the summary
SPELLED = "its files write this name in several ways, with letters that are the same by Unicode's rules"
_WORDS = re.compile(rb'"([\w-]{4,64})"|def (\w{1,64})\(')  # as they stand in a notebook's JSON, damaged or not
_RENAMED = (".json", ".txt", "")  # endings under which a notebook may come all the same
_OTHERS = {
    ".html .htm": "a web page",
    ".pdf": "a PDF",
    ".py": "a script",
    ".7z .rar .gz .tgz .tar .xz .bz2": "an archive, of which only .zip is read",
}


@dataclass(frozen=True)
class Unread:
    """A file that is no notebook. student: whose, "" for nobody's;  name: its path;  why: what it is, or ""."""

    student: str
    name: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.why})" if self.why else self.name


@dataclass(frozen=True)
class Found:
    """All that was handed in.

    submissions: every notebook, also those that cannot be read, and one for each student who handed in none, sorted by
    student and name;  unread: the other files;  around: folders that were taken for ones around the class;  joined:
    names in several of Moodle's downloads that were taken for one person.
    """

    submissions: list[Submission]
    unread: list[Unread] = field(default_factory=list)
    around: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()


def find(path: Path, notebooks: Mapping[str, HandedOut]) -> Found:
    """Everything in a folder or a .zip.

    path: of the folder or zip;  notebooks: number -> the notebook as handed out, whose name and number tell which
    notebook a file is; renamed files are known by what is in them.
    Two files of one student for the same notebook are both there (see `twice`).  FileNotFoundError, ValueError (one
    line) if `path` is no such thing.
    """
    path, titles = Path(path), known(notebooks)
    seen = [_Seen.of(place, titles) for place in places(path)]
    layout = laid_out([each.file for each in seen], titles, path.name)
    people = _people([student for owners in layout.owners for student in owners or ()])
    theirs: dict[tuple[str, tuple[str, ...]], list[_Seen]] = {}
    nobodys = []
    for each, owners in zip(seen, layout.owners):
        for student in owners or ():
            theirs.setdefault(people[student], []).append(replace(each, together=len(owners) > 1))
        nobodys += [] if owners is None or owners or each.place.trouble == EMPTY else [each.unread("")]
    found = [_of_one(*who, files) for who, files in theirs.items()]
    submissions = [one for of_one, _ in found for one in of_one]
    return Found(
        sorted(submissions, key=lambda each: (each.student, each.name, each.notebook)),
        [*nobodys, *(one for _, unread in found for one in unread)],
        tuple(one_line(folder, 120) for folder in layout.around),
        tuple(one_line(name, 120) for name in layout.joined),
    )


def twice(submissions: Sequence[Submission]) -> dict[tuple[str, str], list[str]]:
    """(student, notebook) -> names of the files, for those who handed in more than one of the same."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in submissions:
        if each.notebook:
            found.setdefault((each.student, each.notebook), []).append(each.name)
    return {key: names for key, names in found.items() if len(names) > 1}


def some_of(files: Sequence[Unread | str]) -> str:
    """Some of them by name, and how many more there are."""
    names = ", ".join(map(str, files[:MOST_NAMED]))
    return f"{names} and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else names


# --------------------------------------------------------------------------------------------------------- one student


def _people(students: Sequence[Student]) -> dict[Student, tuple[str, tuple[str, ...]]]:
    """Student -> the name for tables and pages, and notes. Letters that Unicode holds for the same are the same."""
    same = {student: (unicodedata.normalize("NFC", student[0]), student[1]) for student in students}
    spellings = Counter(same.values())
    shown = told_apart(spellings)
    return {
        student: (shown[one][0], tuple(filter(None, [shown[one][1], SPELLED if spellings[one] > 1 else ""])))
        for student, one in same.items()
    }


def _of_one(student: str, notes: tuple[str, ...], files: Sequence[_Seen]) -> tuple[list[Submission], list[Unread]]:
    """A student's submissions, and the files beside them that are not read."""
    notebooks = [each for each in files if each.is_notebook]
    others = [each.unread(student) for each in files if not (each.is_notebook or each.is_nothing)]
    if not notebooks:
        first = next((each for each in files if not each.is_nothing), files[0])
        but = f", but {some_of(others)}" if others else ""
        trouble = EMPTY if first.place.trouble == EMPTY else f"no notebook was handed in{but}"
        return [Submission(student, "", first.name, trouble, notes)], []
    beside = f"not read, since only notebooks are: {some_of(others)}" if others else ""
    counts = Counter(each.number for each in notebooks if each.number)
    submissions, size = [], 0
    for each in notebooks:
        too_much = size > MOST_BYTES_EACH
        size += each.place.size
        several = f"{counts[each.number]} files are for notebook {each.number}: the best of them counts"
        more = (several if counts[each.number] > 1 else "", beside, _TOGETHER if each.together else "")
        trouble = f"not read: this student handed in more than {megabytes(MOST_BYTES_EACH)}" if too_much else ""
        own = (*notes, *filter(None, more))
        submissions.append(Submission(student, each.number, each.name, trouble or each.trouble, own, each.place.load))
    return submissions, others


_TOGETHER = "handed in for a group: each member has this file"


# ------------------------------------------------------------------------------------------------------------ one file


@dataclass(frozen=True)
class _Seen:
    """A file that was looked at.

    number: of the notebook, "" where nobody can tell;  certain: its contents say so;  together: several handed it in.
    """

    place: Place
    is_notebook: bool
    number: str = ""
    certain: bool = False
    trouble: str = ""
    together: bool = False

    @classmethod
    def of(cls, place: Place, titles: Sequence[Known]) -> _Seen:
        if not (NOTEBOOK.search(place.parts[-1]) or _is_renamed(place)):
            return cls(place, False)
        named = _named(place, titles)
        try:
            number, certain = _number_of(place, named, titles)
        except Trouble as trouble:
            return cls(place, True, named[0] if named else "", False, str(trouble))
        return cls(place, True, number, certain)

    @property
    def file(self) -> File:
        return File(self.place.parts, self.number if self.certain else "", self.is_notebook, self._text)

    @property
    def name(self) -> str:
        return one_line("/".join(self.place.parts), 300)

    @property
    def is_nothing(self) -> bool:
        return self.place.trouble == EMPTY or is_receipt(self.place.parts)

    def unread(self, student: str) -> Unread:
        ending = PurePath(self.place.parts[-1]).suffix.lower()
        kinds = (kind for endings, kind in _OTHERS.items() if ending in endings.split())
        return Unread(student, self.name, self.place.trouble or next(kinds, ""))

    def _text(self) -> str:
        try:
            return self.place.head(MOST_TEXT).decode("utf-8", "replace")
        except Trouble:
            return ""


def _is_renamed(place: Place) -> bool:
    """Whether this is a notebook whose name does not say so."""
    if place.trouble or not place.size or PurePath(place.parts[-1]).suffix.lower() not in _RENAMED:
        return False
    try:
        head = place.head()
    except Trouble:
        return False
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b'"cells"' in head and b'"cell_type"' in head


def _named(place: Place, titles: Sequence[Known]) -> list[str]:
    """Numbers of notebooks that its name may mean, and its folders' names: the likeliest first."""
    return [said.number for part in reversed(place.parts) for said in mentioned(NOTEBOOK.sub("", part), titles)]


def _number_of(place: Place, named: Sequence[str], titles: Sequence[Known]) -> tuple[str, bool]:
    """The notebook's number, and whether its contents say so: they overrule a name.  Trouble if nobody can tell."""
    shared = _shared(place.head(), titles)
    likeliest = next((number for number in named if shared[number] and shared[number] == max(shared.values())), "")
    if likeliest:
        return likeliest, True
    shared = _shared(place.load(), titles)
    best = [number for number, count in shared.items() if count and count == max(shared.values())]
    if len(best) == 1:
        return best[0], True
    if likely := [number for number in named if number in best] or list(named):
        return likely[0], False
    listed = ", ".join(shared)
    raise Trouble(f"nobody can tell which notebook this is: put its number ({listed}) into its file name")


def _shared(text: bytes, titles: Sequence[Known]) -> dict[str, int]:
    """Number -> how many of its notebook's marks stand in the text."""
    marks = frozenset().union(*(each.marks for each in titles))
    seen = {word for match in _WORDS.finditer(text) if (word := match[1] or match[2]) in marks}
    return {each.number: len(seen & each.marks) for each in titles}
