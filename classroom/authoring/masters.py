"""Read a master (`solutions/NN_name.py`, percent format) and check that its quizzes hang together.

A master is ordinary Python that also runs as a script. What the build needs to know stands in cell tags and in four
kinds of comment lines:

    # %% tags=["quiz"]                 the student's answer cell
    ### BEGIN SOLUTION                 from here ...
    ### END SOLUTION                   ... to here: left out of the student notebook
    ### BEGIN HANDED OUT               what the student gets in its place, each line behind "# "
    ### END HANDED OUT                 (without this region: `raise NotImplementedError`)
    # %% tags=["check"]                the locked cell after it, with `check(...)` or `ask(...)`

Above them, in a markdown cell, the quiz is posed under `### {{heading some/id}}`, which the build fills in from its
declaration. Its number is counted: that of the `## 2.3 · …` it stands under, and a letter for its place in there.
"""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

KINDS = ("SOLUTION", "HANDED OUT")
MARKER = re.compile(r"^(?P<indent>\s*)### (?P<edge>BEGIN|END) (?P<kind>SOLUTION|HANDED OUT)\s*$")
ALMOST_MARKER = re.compile(r"^\s*#+\s*(BEGIN|END)\s+(SOLUTION|HANDED[ _-]?OUT)\b", re.IGNORECASE)
SECTION = re.compile(r"^## (?P<number>\d+\.\d+) ·")
HEADING = re.compile(r"^#{3,5} \{\{\s*heading\s+(?P<quiz>[^\s}]+)\s*\}\}$")
NUMBER = re.compile(r"^(\d\d)_[a-z0-9_]+$")


class MasterError(ValueError):
    """A master that cannot be built; the message is one line that names the file and the line."""


@dataclass(frozen=True)
class Region:
    """Lines `start`..`stop` (exclusive, markers included) of a cell that hold a solution or what is handed out."""

    kind: str
    start: int
    stop: int
    indent: str
    text: str


@dataclass
class Cell:
    """One cell of a master. `line` is where its `# %%` stands, for messages."""

    kind: str  # "code" or "markdown"
    source: str
    tags: tuple[str, ...]
    line: int
    regions: tuple[Region, ...] = ()
    role: str = ""  # "answer", "check", "question" or nothing
    quiz: str = ""  # the id of the quiz that this cell belongs to

    def region(self, kind: str) -> Region | None:
        """The region of this kind, or None."""
        return next((r for r in self.regions if r.kind == kind), None)


@dataclass
class Master:
    """A master that has been read and found in order."""

    path: Path
    cells: list[Cell]
    quizzes: dict[str, object] = field(default_factory=dict)  # id -> declaration, in order of appearance
    numbers: dict[str, str] = field(default_factory=dict)  # id -> number in its heading, "2.3a"

    @property
    def stem(self) -> str:
        """The notebook's name without ending: "02_vae"."""
        return self.path.stem

    @property
    def number(self) -> str:
        """The notebook's number as it is written: "02"."""
        return self.stem[:2]


def find_masters(folder: Path, numbers: list[str] | None = None) -> list[Path]:
    """The masters in `folder`, in order; only those whose number is in `numbers`, where given ("1" and "01" both do).

    Raises MasterError when a number has no master.
    """
    paths = sorted(p for p in folder.glob("*.py") if NUMBER.match(p.stem))
    if not numbers:
        return paths
    wanted = {n.zfill(2)[:2] if n.isdigit() else n[:2] for n in numbers}
    chosen = [p for p in paths if p.stem[:2] in wanted]
    missing = sorted(wanted - {p.stem[:2] for p in chosen})
    if missing:
        have = ", ".join(p.stem[:2] for p in paths) or "none"
        raise MasterError(f"no master numbered {', '.join(missing)} in {folder.name}/: expected one of {have}")
    return chosen


def read_master(path: Path, declarations: dict[str, object] | None = None) -> Master:
    """Read the master at `path` and check it against its quiz declarations.

    declarations: id -> Quiz or Concept; where None, those of the notebook's own module in `classroom.lessons`.
    Raises MasterError with file, line and what to do.
    """
    import jupytext

    text = path.read_text(encoding="utf-8")
    notebook = jupytext.reads(text, fmt="py:percent")
    lines = _cell_lines(text, len(notebook.cells))
    cells = []
    for node, line in zip(notebook.cells, lines):
        if node.cell_type not in ("code", "markdown"):
            raise MasterError(f"{_at(path, line)}: expected a code or markdown cell, got {node.cell_type}")
        tags = tuple(node.metadata.get("tags", ()))
        cell = Cell(node.cell_type, node.source, tags, line)
        cell.regions = tuple(_regions(path, cell))
        cells.append(cell)
    master = Master(path, cells)
    master.numbers = _numbers(master)
    _join_quizzes(master, declared(master.number) if declarations is None else declarations)
    return master


def declared(number: str) -> dict[str, object]:
    """Declarations of notebook `number`, from `classroom.lessons.nbNN`: id -> Quiz or Concept. {} if it has none."""
    name = f"classroom.lessons.nb{number}"
    if importlib.util.find_spec(name) is None:
        return {}
    from classroom.quizzes import declarations

    module = importlib.import_module(name)
    return declarations.declared_in(module.__name__)


def question(master: Master, identifier: str, line: int) -> object:
    """The declaration `identifier`; MasterError, with the nearest names, when there is none."""
    import difflib

    if identifier in master.quizzes:
        return master.quizzes[identifier]
    near = difflib.get_close_matches(identifier, master.quizzes, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"declare it in classroom/lessons/nb{master.number}.py"
    raise MasterError(f"{_at(master.path, line)}: no quiz is called {identifier!r}; {hint}")


def _at(path: Path, line: int) -> str:
    return f"{path.parent.name}/{path.name}:{line}"


def _cell_lines(text: str, count: int) -> list[int]:
    """Line number of every cell's `# %%`; all 1 if they can't be told (jupytext saw other cells than we)."""
    found = [i for i, line in enumerate(text.splitlines(), 1) if re.match(r"^# ?%%(\s|$)", line)]
    return found if len(found) == count else [1] * count


def _regions(path: Path, cell: Cell):
    """Regions of a cell in order; MasterError for markers that don't pair up."""
    lines = cell.source.split("\n")
    opened: tuple[str, int, str] | None = None
    for i, line in enumerate(lines):
        where = _at(path, cell.line + i + 1)
        match = MARKER.match(line)
        if match is None:
            if ALMOST_MARKER.match(line):
                raise MasterError(
                    f"{where}: expected '### BEGIN SOLUTION', '### END SOLUTION' or the same with HANDED OUT, "
                    f"got {line.strip()!r}"
                )
            continue
        if cell.kind != "code":
            raise MasterError(f"{where}: {match['kind']} markers belong in code cells, this one is markdown")
        if match["edge"] == "BEGIN":
            if opened:
                raise MasterError(f"{where}: BEGIN {match['kind']} inside a {opened[0]} region: END that one first")
            opened = (match["kind"], i, match["indent"])
        else:
            if opened is None or opened[0] != match["kind"]:
                kind = match["kind"]
                raise MasterError(f"{where}: END {kind} without a BEGIN {kind} before it in this cell")
            body = "\n".join(lines[opened[1] + 1 : i])
            yield Region(opened[0], opened[1], i + 1, opened[2], textwrap.dedent(body))
            opened = None
    if opened:
        raise MasterError(f"{_at(path, cell.line + opened[1] + 1)}: BEGIN {opened[0]} without END {opened[0]}")


def _numbers(master: Master) -> dict[str, str]:
    """Quiz id -> number, in order: of the section in which its heading stands, and a letter for its place in there."""
    found: dict[str, str] = {}
    section, posed = "", 0
    for cell in master.cells:
        for line in cell.source.split("\n") if cell.kind == "markdown" else ():
            if match := SECTION.match(line):
                section, posed = match["number"], 0
            elif match := HEADING.match(line):
                identifier, where = match["quiz"], _at(master.path, cell.line)
                if not section:
                    raise MasterError(f"{where}: the heading of {identifier!r} stands before any section '## N.M · …'")
                if identifier in found:
                    raise MasterError(f"{where}: a second heading of {identifier!r}")
                found[identifier] = f"{section}{'abcdefghijklmnopqrstuvwxyz'[posed]}"
                posed += 1
    return found


def _join_quizzes(master: Master, declarations: dict[str, object]) -> None:
    """Give answer, check and question cells the quiz they belong to; complain about every loose end."""
    waiting: int | None = None  # index of the answer cell that has no check cell yet
    asked: dict[str, int] = {}
    master.quizzes = dict(declarations)
    for i, cell in enumerate(master.cells):
        where = _at(master.path, cell.line)
        if "quiz" in cell.tags:
            if waiting is not None:
                before = _at(master.path, master.cells[waiting].line)
                raise MasterError(f"{before}: answer cell without a check cell (tag 'check') before the next quiz")
            _look_at_answer(master, cell)
            waiting = i
        elif cell.regions:
            raise MasterError(f"{where}: a SOLUTION or HANDED OUT region in a cell without the tag 'quiz'")
        if "check" in cell.tags:
            if waiting is None:
                raise MasterError(f"{where}: check cell without an answer cell (tag 'quiz') before it")
            identifier = _checked_id(master, cell)
            question(master, identifier, cell.line)
            if identifier in asked:
                raise MasterError(f"{where}: quiz {identifier!r} is already checked at line {asked[identifier]}")
            asked[identifier] = cell.line
            cell.role, cell.quiz = "check", identifier
            master.cells[waiting].role, master.cells[waiting].quiz = "answer", identifier
            _join_heading(master, waiting, identifier)
            waiting = None
    if waiting is not None:
        raise MasterError(f"{_at(master.path, master.cells[waiting].line)}: answer cell without a check cell after it")
    for cell in master.cells:
        for identifier in _posed_in(cell):
            if identifier not in asked:
                question(master, identifier, cell.line)
                raise MasterError(f"{_at(master.path, cell.line)}: {identifier!r} has a heading and no check cell")
    never = [name for name in declarations if name not in asked]
    if never:
        raise MasterError(
            f"{master.path.parent.name}/{master.path.name}: declared but never asked: {', '.join(never)}; "
            "add a cell with the tag 'check', or take the declaration out"
        )
    master.quizzes = {name: declarations[name] for name in asked}


def _look_at_answer(master: Master, cell: Cell) -> None:
    where = _at(master.path, cell.line)
    solutions = [r for r in cell.regions if r.kind == "SOLUTION"]
    handed = [r for r in cell.regions if r.kind == "HANDED OUT"]
    if cell.kind != "code" or len(solutions) != 1:
        raise MasterError(f"{where}: expected one SOLUTION region in a code cell tagged 'quiz', got {len(solutions)}")
    if len(handed) > 1:
        raise MasterError(f"{where}: expected at most one HANDED OUT region, got {len(handed)}")
    if handed:
        gap = cell.source.split("\n")[solutions[0].stop : handed[0].start]
        if handed[0].start < solutions[0].stop or any(line.strip() for line in gap):
            raise MasterError(f"{where}: the HANDED OUT region stands right after the SOLUTION region")
        bad = next((x for x in handed[0].text.split("\n") if x.strip() and not x.startswith("#")), None)
        if bad is not None:
            raise MasterError(f"{where}: every line in a HANDED OUT region starts with '# ', got {bad.strip()!r}")
    elif not solutions[0].indent:
        raise MasterError(
            f"{where}: a solution outside a function needs a HANDED OUT region, "
            "or the untouched student notebook stops here with NotImplementedError"
        )


def _checked_id(master: Master, cell: Cell) -> str:
    """The id in the cell's one call of `check` or `ask`."""
    where = _at(master.path, cell.line)
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        raise MasterError(f"{where}: the check cell is not Python: {error.msg}") from None
    found = []
    for node in ast.walk(tree):
        name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if name in ("check", "ask"):
            first = node.args[0] if node.args else None
            if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
                raise MasterError(f"{where}: {name}(...) takes the quiz id as a literal first argument")
            found.append(first.value)
    if len(found) != 1:
        raise MasterError(f"{where}: expected one call of check(...) or ask(...) in a check cell, got {len(found)}")
    return found[0]


def _join_heading(master: Master, answer: int, identifier: str) -> None:
    """Find the markdown cell that poses the quiz: it stands between the check cell before and the answer cell."""
    for cell in reversed(master.cells[:answer]):
        if cell.role == "check":
            break
        if identifier in _posed_in(cell):
            cell.role, cell.quiz = "question", identifier
            return
    raise MasterError(
        f"{_at(master.path, master.cells[answer].line)}: no heading before the answer cell of {identifier!r}; "
        f"pose it in a markdown cell under '### {{{{heading {identifier}}}}}'"
    )


def _posed_in(cell: Cell) -> list[str]:
    """Ids of the quizzes whose headings stand in the cell."""
    lines = cell.source.split("\n") if cell.kind == "markdown" else ()
    return [match["quiz"] for line in lines if (match := HEADING.match(line))]
