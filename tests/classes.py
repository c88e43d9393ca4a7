"""A class of sixty, and what it hands in, as each of seven platforms packs it.

    made = made_by("Moodle")      # path below the zip -> bytes, and whose each file is
    PEOPLE                        # names chosen to be taken for one another, for a file's, or for a notebook's

Every person hands in notebook 03; some hand in more, twice, late, as a zip, or nothing that can be read.
"""

from __future__ import annotations

import io
import json
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Person:
    """number: the platform's, never the same for two;  login: neither."""

    number: int
    first: str
    last: str
    login: str

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"


_NAMES = (
    """
Wei Zhang/Wei Zhang/Ada Lovelace/ada lovelace/Ada  Lovelace/Ada\u00a0Lovelace/A\u200bda Lovelace/\u0410da Lovelace
Patrick O'Brien/Patrick O\u2019Brien/Patrick OBrien/J\u00f6rg M\u00fcller/J\u00fcrg M\u00fcller/Jorg Muller
Jose\u0301 Ruiz/Anna-Lena Blatt/Anna\u2010Lena Blatt/Anna Lena Weeks/Sammy Davis Jr./Student 01/Student 02/Student 03
Student 04/Group 05/Grace Final/Copy Of/Max Draft/Con Nul/Ng \u00d1o\u00f1o/\u738b \u5c0f\u660e/\u738b \u5c0f\u83ef
\u0645\u062d\u0645\u062f \u0639\u0644\u064a/Zo\u00eb 03/Ivy Forward/Theo Diffusion/Vera Vae/Una Unet/Lee Ann (2)/Lee Ann
D. E. Knuth/Ludwig van Beethoven/Juan de la Cruz/X \u00c6 A-12/Bobby 'Tables/=1+1 Formula/Emoji \U0001f642
Emoji \U0001f643/Ren\u00e9e N\u00e9e/Renee Nee
""".strip()
    .replace("\n", "/")
    .split("/")
)
_LONG = ["Maximiliana " + "Aurelia " * 14 + end for end in ("Prima", "Secunda")]
_PLAIN = [
    "Edsger Dijkstra",
    "Grace Hopper",
    "Mary Weeks",
    "Barbara Liskov",
    "Alan Kay",
    "Donald Hoare",
    "Radia Perlman",
    "Tim Lee",
    "Vint Cerf",
]
_LOGINS = ["ada_l", "ada_m", "ada-l", "ada", "ada2", "student-01", "student-02", "03", "03-04", "s1203", "hw-3", "lab"]


def _people() -> list[Person]:
    names = [*_NAMES, *_LONG, *_PLAIN]
    found = []
    for place, name in enumerate(names[:60]):
        first, _, last = name.rpartition(" ")
        login = _LOGINS[place] if place < len(_LOGINS) else f"u{place}"
        found.append(Person(1000 + place, first, last, login))
    return found


PEOPLE = _people()


@dataclass(frozen=True)
class File:
    """A file of a download. whose: numbers of people, none for the platform's own."""

    path: str
    data: bytes
    whose: tuple[int, ...] = ()


Pack = Callable[[Person, str, bytes], str]  # where a file of this name lies
PLATFORMS: dict[str, Callable[[dict[str, bytes]], Iterator[File]]] = {}


def made_by(platform: str, notebooks: dict[str, bytes]) -> list[File]:
    """The files of the class. notebooks: number -> bytes of one that somebody handed in."""
    return list(PLATFORMS[platform](notebooks))


def zipped(files: Iterable[File]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in files:
            archive.writestr(file.path, file.data)
    return packed.getvalue()


def handed_in(person: Person, notebooks: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Names as students give them to their files, and what is in these."""
    three, four = notebooks["03"], notebooks["04"]
    habits = [
        [("03_forward_diffusion.ipynb", three)],
        [("03_forward_diffusion.ipynb", three), ("04_unet.ipynb", four)],
        [("03_forward_diffusion (1).ipynb", three), ("03_forward_diffusion.ipynb", three)],
        [("03.ipynb.txt", three), ("notes.pdf", b"%PDF")],
        [("hw.zip", zipped([File("work/03_forward_diffusion.ipynb", three), File("__MACOSX/._x", b"")]))],
        [("Untitled.ipynb", three)],
        [("03_forward_diffusion.html", b"<html>")],
        [("final_03.json", three)],
    ]
    return habits[person.number % len(habits)]


def platform(name: str):
    def register(make: Callable[[dict[str, bytes]], Iterator[File]]):
        PLATFORMS[name] = make
        return make

    return register


def _packed(notebooks: dict[str, bytes], where: Callable[[Person, str], str]) -> Iterator[File]:
    for person in PEOPLE:
        for name, data in handed_in(person, notebooks):
            yield File(where(person, name), data, (person.number,))


@platform("nbgrader")
def _nbgrader(notebooks):
    yield from _packed(notebooks, lambda person, name: f"submitted/{person.login}/week-3/{name}")
    for person in PEOPLE:
        yield File(f"submitted/{person.login}/week-3/timestamp.txt", b"2026-11-20 10:11:12 UTC")
    yield File("source/week-3/03_forward_diffusion.ipynb", notebooks["03"])


def _moodles(person: Person) -> str:
    """As `clean_filename` leaves it."""
    name = re.sub(r"[&<>\"`|':\\/]", "", f"{person.first} {person.last}".replace("_", " "))
    return f"{name}_{person.number}_assignsubmission"


@platform("Moodle")
def _moodle(notebooks):
    yield from _packed(notebooks, lambda person, name: f"{_moodles(person)}_file/{name}")
    for person in PEOPLE[::4]:
        yield File(f"{_moodles(person)}_onlinetext/onlinetext.html", b"<p>", (person.number,))


@platform("Moodle, side by side")
def _moodle_flat(notebooks):
    yield from _packed(notebooks, lambda person, name: f"{_moodles(person)}_file_{name}")
    for person in PEOPLE[::4]:
        yield File(f"{_moodles(person)}_onlinetext_onlinetext.html", b"<p>", (person.number,))


@platform("Canvas")
def _canvas(notebooks):
    attachments = iter(range(56_789, 60_000))

    def where(person, name):
        spelled = re.sub(r"\W", "", f"{person.last}, {person.first}".lower())
        late = "_LATE" if person.number % 5 == 0 else ""
        stem, dot, ending = name.partition(".")
        again = "-1" if person.number % 7 == 0 else ""
        return f"{spelled or 'x'}{late}_{person.number}_{next(attachments)}_{stem}{again}{dot}{ending}"

    yield from _packed(notebooks, where)


@platform("Gradescope")
def _gradescope(notebooks):
    yield from _packed(notebooks, lambda person, name: f"assignment_77_export/submission_{person.number}9/{name}")
    lines = ["---"]
    for person in PEOPLE:
        name, email = json.dumps(person.name, ensure_ascii=False), f"{person.login}@x.edu"
        lines += [f"submission_{person.number}9:", "  :submitters:", f"  - :name: {name}", f"    :email: {email}"]
        lines += ["  :created_at: 2026-11-20 10:11:12", "  :history:", "  - :name: nobody"]
    yield File("assignment_77_export/submission_metadata.yml", "\n".join(lines).encode())


@platform("Blackboard")
def _blackboard(notebooks):
    when = "attempt_2026-11-20-10-11-12"
    yield from _packed(notebooks, lambda person, name: f"Homework_3_{person.login}_{when}_{name}")
    for person in PEOPLE:
        receipt = f"Name: {person.name} ({person.login})\nAssignment: Homework_3\n".encode()
        yield File(f"Homework_3_{person.login}_{when}.txt", receipt)


@platform("GitHub Classroom")
def _github(notebooks):
    yield from _packed(notebooks, lambda person, name: f"diffusion-submissions/diffusion-{person.login}/{name}")
    for person in PEOPLE:
        yield File(f"diffusion-submissions/diffusion-{person.login}/README.md", b"#", (person.number,))


@platform("Google Classroom")
def _google(notebooks):
    """Whose name another one has too cannot be told apart here, nor whose differs in what file names do not keep."""
    seen: dict[str, int] = {}
    for file in _packed(notebooks, lambda person, name: f"Week 3/{person.number}|{person.name} - {name}"):
        folder, _, name = file.path.partition("/")
        person = PEOPLE[file.whose[0] - 1000]
        if sum(_same(person) == _same(other) for other in PEOPLE) == 1:
            seen[name] = file.whose[0]
            yield File(f"{folder}/{name.partition('|')[2].replace('/', '_')}", file.data, file.whose)


def _same(person: Person) -> str:
    return unicodedata.normalize("NFC", " ".join(person.name.split()))
