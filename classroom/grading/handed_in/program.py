"""A handed-in notebook as its kernel saw it: one program from top to bottom, and what of it an answer needs.

What counts is what the kernel had when the answer was checked: for each name that the answer reads, the nearest
definition above, and all that was done to it from there on, whatever it needs in its turn. Where there is nothing
above, the nearest below: notebooks are run in any order. What the course defines itself is there already.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from .handed_out import Asked, HandedOut
from .names import BUILTINS, SHOWING, Effects, Reads, Statement, attributes_set, reads, statements
from .read import Cell

MOST_STATEMENTS = 10_000  # of a notebook; ours have 400
# What a kernel has without any cell, and what stands in for the rest where answers are run.
_KNOWN = BUILTINS | {"__name__", "__file__", "In", "Out", "_", "__", "___", "exit", "quit"}
_KNOWN |= {"__builtins__", "__class__", "__module__", "__qualname__", "__annotations__", "__dict__"}
_STAND_INS = {"lab", "display", "get_ipython"}
_DEEPEST = 50  # definitions below each other that need the next
_MOST_NEEDS = 20_000  # names at places
_BRINGING = re.compile(
    r"(?m)^[ \t]*(%(?:run|store|load|loadpy|load_ext|pylab|macro|rerun|recall|edit)|%%capture \w+)\b"
)
_ROUNDS = 4  # functions that change something by calling others that do


class Placed(NamedTuple):
    """A statement where it stands: in which cell, whether the course put it there, and of which quiz it gives the
    function as `check` would (in the check cell, or in an answer cell that nobody touched)."""

    statement: Statement
    place: int
    is_given: bool
    quiz: str


class Order(NamedTuple):
    """When a statement runs: with the one at `place`, or before that if it stands too far below; deeper ones first."""

    place: int
    depth: int
    own: int


@dataclass(frozen=True)
class Needed:
    """What an answer needs from elsewhere.

    text: source that binds it;  all_above: the same with all that students' own cells have above, "" where that is no
    more;  names: what students' own cells bind there;  lent: functions of other quizzes, as `check` gives them;
    missing: name -> place of the cell that reads it, for what no cell binds;  imports: what students' own cells import
    for it, by its full name -> place of the cell.
    """

    text: str
    all_above: str
    names: frozenset[str]
    lent: frozenset[str]
    missing: dict[str, int]
    imports: dict[str, int]


class Program:
    """All statements of a notebook's code cells, then those of the notebook as handed out, for what was deleted."""

    def __init__(self, cells: Sequence[Cell], notebook: HandedOut) -> None:
        self.cells, self.notebook = cells, notebook
        self.placed: list[Placed] = []
        self.ends: dict[int, int] = {}  # place of a cell -> index behind its last statement
        for cell in cells:
            if cell.kind == "code" and len(self.placed) < MOST_STATEMENTS:
                self.placed += [Placed(*each) for each in _placed(cell, notebook)]
            self.ends[cell.place] = len(self.placed)
        behind = len(cells) and cells[-1].place + 1
        self.placed += [Placed(statement, behind, True, quiz) for statement, quiz in notebook.all_statements]

    @cached_property
    def imported(self) -> set[str]:
        """Names of modules, and of what comes from them."""
        return {name for each in self.placed if each.statement.is_import for name in each.statement.binds}

    @cached_property
    def touching(self) -> dict[str, list[int]]:
        """Name -> indices of the statements that bind or change it."""
        found: dict[str, list[int]] = {}
        aliases: dict[str, str] = {}
        for index, each in enumerate(self.placed):
            names = self._touched(each.statement)
            row, table = each.statement.alias
            names |= {aliases[name] for name in names & aliases.keys() if name != row}
            aliases |= {row: table} if table else {}
            for name in names:
                found.setdefault(name, []).append(index)
        return found

    def _touched(self, statement: Statement) -> set[str]:
        found, known = statement.changes(self.imported), self._known
        names = statement.binds | found.own | (found.handed - known)
        for name, given, alone in found.calls:
            if name in self.functions:
                names |= given if self.functions[name].given else set()
            elif alone:
                names |= {name} | (given - known)
        names = names.union(
            *(self.functions[name].names - self.imported for name in found.mentioned & self.functions.keys())
        )
        if statement.is_compound:  # of a module's state only plain settings count: whole loops may train
            names -= self.imported - statement.binds_whole
        return names

    @cached_property
    def _known(self) -> set[str]:
        """Names of functions, and of what is imported."""
        return self.functions.keys() | self.imported

    @cached_property
    def settings(self) -> list[tuple[int, set[str]]]:
        """Indices of a student's lines that hang something onto a module or a class of one, and under which names:
        `torch.Tensor.half_of = …`. (What else they do to a module, such as seeding it, no answer needs.)"""
        found = {index for name in self.imported - SHOWING for index in self.touching.get(name, ())}
        own = [(index, self.placed[index].statement) for index in sorted(found) if not self.placed[index].is_given]
        hung = [(index, attributes_set(each.node)) for index, each in own if each.is_plain]
        return [(index, names) for index, names in hung if names]

    @cached_property
    def functions(self) -> dict[str, Effects]:
        """Functions and classes of the notebook, and what they change, also by calling each other."""
        found: dict[str, Effects] = {}
        for each in self.placed:
            for name, effects in each.statement.functions.items():
                found[name] = effects | found.get(name, Effects())
        for _ in range(_ROUNDS):
            changing = {name: effects for name, effects in found.items() if effects.names}
            for each in self.placed:
                for name in each.statement.functions if changing else ():
                    for called in changing.keys() & (each.statement.reads.later | each.statement.reads.now):
                        found[name] |= Effects(changing[called].names)
        return found

    @cached_property
    def anything(self) -> list[int]:
        """Indices of statements that may bind names that nobody can tell."""
        return [index for index, each in enumerate(self.placed) if each.statement.binds_anything]

    @cached_property
    def futures(self) -> list[int]:
        """Indices of `from __future__ import …`, which hold for all cells below."""
        return [index for index, each in enumerate(self.placed) if each.statement.is_future]

    def above(self, name: str, at: int, but: str) -> list[int]:
        """What made a name what it is at an index: from its nearest definition on; `but` for statements of one quiz."""
        found = self.touching.get(name, [])
        found = [index for index in found[: bisect_left(found, at)] if self.placed[index].quiz != but]
        begins = [k for k, index in enumerate(found) if self._begins(index, name)]
        return found[begins[-1] :] if begins else found

    def below(self, name: str, at: int, but: str) -> list[int]:
        """The nearest statement below that binds a name."""
        found = self.touching.get(name, [])
        found = (i for i in found[bisect_left(found, at) :] if self.placed[i].quiz != but)
        return [i for i in found if name in self.placed[i].statement.binds][:1]

    def _begins(self, index: int, name: str) -> bool:
        return bool(self.placed[index].quiz) or self.placed[index].statement.begins(name)

    def needed(self, asked: Asked, home: int | None, until: int, parts: Iterable[int] = (), line: str = "") -> Needed:
        """What the answer in the cell `home` needs; or what binds the name asked for altogether, where that is None.

        until: the last place of a cell that the kernel had run when the answer was checked;  parts: places of cells
        that belong to the answer as a whole;  line: what is to follow it.
        """
        search = _Search(self, asked, home, self._end(asked, home, until))
        search.answer(self.ends.get(until if home is None else home, 0), line)
        search.all_of(self._settings_for(home, search.end))
        search.follow()
        missing = search.missing
        search.missing = {}  # the rest of the cell runs as well, and may go wrong
        search.rest_of_the_cell()
        search.all_of(i for i, each in enumerate(self.placed) if each.place in set(parts) and not each.quiz)
        search.follow()
        found = search.found(missing)
        own = self._own_above(search.end, home)
        if own <= search.taken.keys():
            return found
        search.run_as_they_stand(own)
        everything = search.found(missing)
        return replace(found, all_above=everything.text, lent=everything.lent)

    def _own_above(self, end: int, home: int | None) -> set[int]:
        """Indices of all that a student has above, but the answers to other quizzes, whose functions are lent."""
        above = [(index, each) for index, each in enumerate(self.placed[:end]) if not each.is_given and not each.quiz]
        asked = set(self.notebook.names.values())
        return {index for index, each in above if each.place != home and not each.statement.binds & asked}

    def _settings_for(self, home: int | None, end: int) -> list[int]:
        nodes = [each.statement.node for each in self.placed if each.place == home]
        read = {leaf.attr for node in nodes for leaf in ast.walk(node) if isinstance(leaf, ast.Attribute)}
        return [index for index, names in self.settings if index < end and names & read]

    def _end(self, asked: Asked, home: int | None, until: int) -> int:
        """The index behind the last statement that the kernel had run when the answer was checked."""
        end = self.ends.get(until, 0)
        checks = [i for i in range(end) if self.placed[i].place == until and self.placed[i].quiz == asked.quiz]
        return max(checks[-1] + 1 if checks else end, 0 if home is None else self.ends[home])

    @cached_property
    def unseen(self) -> str:
        """What may bind anything without being seen: a magic that brings something along, a cell too long to be read;
        the first one in a few words, "" if there is none."""
        for cell in self.cells:
            match = _BRINGING.search(cell.source) if cell.kind == "code" else None
            if match:
                return f"`{match[1]}` in cell {cell.place + 1} is not followed"
            if cell.too_long:
                return f"cell {cell.place + 1} is too long to be read"
        return ""

    def where_else(self, name: str) -> str:
        """Where a name is defined that no cell binds: in one that Python cannot read, or that is no code."""
        look = re.compile(rf"(?m)^[ \t>.]*((def|class)[ \t]+{re.escape(name)}\b|{re.escape(name)}[ \t]*=[^=])")
        for cell in self.cells:
            is_code = cell.kind == "code"
            if name not in cell.source or cell.source.strip() in self.notebook.given or (is_code and cell.code.tree):
                continue
            if look.search(cell.source):
                return f"cell {cell.place + 1}, which {'Python cannot read' if is_code else 'is no code'}"
        return ""


def _placed(cell: Cell, notebook: HandedOut) -> list[tuple[Statement, int, bool, str]]:
    known = notebook.statements.get(cell.source.strip())
    if known is not None:
        return [(statement, cell.place, not is_answer, quiz) for statement, quiz, is_answer in known]
    if cell.code.tree is None:
        return []
    found = statements(cell.code.tree, cell.code.source)
    end = next((index for index, each in enumerate(found) if isinstance(each.node, ast.Raise)), len(found))
    have = set().union(*(each.binds for each in found[:end]))  # stays as it is: nothing passes a `raise`
    found = found[:end] + [each for each in found[end:] if not each.binds & have]
    return [(each, cell.place, each.text in notebook.texts, notebook.quiz_of(each)) for each in found]


@dataclass
class _Search:
    """The search for what one answer needs: names wait until the statements that touch them have been taken."""

    program: Program
    asked: Asked
    home: int | None
    end: int
    taken: dict[int, Order] = field(default_factory=dict)
    outside: set[int] = field(default_factory=set)  # taken that run before the answer's cell
    lent: set[str] = field(default_factory=set)
    missing: dict[str, int] = field(default_factory=dict)
    waiting: list[tuple[str, int, Order, int, bool]] = field(default_factory=list)
    seen: dict[tuple[str, int], tuple[Order, bool]] = field(default_factory=dict)

    @property
    def last(self) -> Order:
        return Order(self.end, 0, self.end)

    def answer(self, end: int, line: str) -> None:
        found = reads(ast.parse(line).body[0]) if line else Reads({self.asked.name})
        for name in sorted(found.now | found.later):
            if name == self.asked.name:
                for index in self.program.above(name, end, self.asked.quiz):
                    self.take(index, self.end, self.last, False)
            else:
                self.need(name, self.end, self.last, -1, False)

    def rest_of_the_cell(self) -> None:
        """Of what else stands in the answer's cell, such as tests: what comes at no cost."""
        for index, each in enumerate(self.program.placed):
            if each.place == self.home and index not in self.taken:
                for name in sorted(each.statement.reads.now | each.statement.reads.later):
                    touching = self.program.above(name, index, self.asked.quiz)
                    if touching and all(self.program.placed[i].statement.is_cheap for i in touching):
                        self.need(name, self.end, self.last, index, False)

    def all_of(self, indices: Iterable[int]) -> None:
        for index in indices:
            self.take(index, self.end, self.last, False)

    def need(self, name: str, at: int, before: Order, reader: int, outside: bool) -> None:
        """A name is read at an index (or when the answer is called), by a statement that runs as `before` says."""
        if (name == self.asked.name and at >= self.end) or before.depth < -_DEEPEST or len(self.seen) > _MOST_NEEDS:
            return
        best, was_outside = self.seen.get((name, at), (None, False))
        if best is None or before < best or outside > was_outside:
            self.seen[name, at] = min(before, best or before), outside or was_outside
            self.waiting.append((name, at, before, reader, outside))

    def follow(self) -> None:
        while self.waiting:
            name, at, before, reader, outside = self.waiting.pop()
            touching = self.program.above(name, at, self.asked.quiz)
            if not touching and name in self.program.notebook.functions:
                self.lent.add(name)
                continue
            if not touching:
                unknown = [i for i in self.program.anything if self.program.placed[i].statement.may_bind(name)]
                for index in unknown:
                    self.take(index, index, self.last, outside)
                touching = self.program.below(name, at, self.asked.quiz)
                if unknown:  # what they bind, if they do, stands above
                    before = min(before, Order(unknown[0], 0, unknown[0]))
                elif name not in _KNOWN and (not touching or self.program.where_else(name)):
                    place = self.home if reader < 0 else self.program.placed[reader].place
                    self.missing.setdefault(name, place)
            if name in _STAND_INS and all(self._is_given(index) for index in touching):
                continue
            for index in touching:
                self.take(index, at, before, outside)

    def _is_given(self, index: int) -> bool:
        each = self.program.placed[index]
        return each.is_given or "setup" in each.statement.reads.now

    def take(self, index: int, at: int, before: Order, outside: bool) -> None:
        """A statement that is needed by one that runs as `before` says, for what a name is at index `at`."""
        each = self.program.placed[index]
        if each.quiz:
            self.lent.add(self.program.notebook.names[each.quiz])
            return
        moved = Order(before.place, before.depth - 1, index)
        order = Order(index, 0, index) if index < before.place else moved
        order = self.taken[index] = min(order, self.taken.get(index, order))
        outside = outside or each.place != self.home
        if outside:
            self.outside.add(index)
        found = each.statement.reads
        for name in sorted(found.now):
            self.need(name, index, order, index, outside)
        for name in sorted(found.later):
            self.need(name, at, before, index, outside)
            if not each.statement.functions:  # a lambda that is called at once
                self.need(name, index, order, index, outside)
        for name in sorted(found.perhaps):
            if name in self.program.touching:
                self.need(name, index, order, index, outside)

    def run_as_they_stand(self, indices: Iterable[int]) -> None:
        """... whatever they are good for, with the functions of other quizzes that they name."""
        for index in indices:
            self.taken.setdefault(index, Order(index, 0, index))
            self.outside.add(index)
            found = self.program.placed[index].statement.reads
            self.lent |= (found.now | found.later) & self.program.notebook.functions

    def found(self, missing: dict[str, int]) -> Needed:
        placed, covered = self.program.placed, self.program.notebook.covered
        futures = [index for index in self.program.futures if index < self.end and placed[index].place != self.home]
        hidden = any(index in self.taken for index in self.program.anything)
        order = sorted(self.outside - {*futures}, key=self.taken.__getitem__)
        kept = [placed[i] for i in order if hidden or not (placed[i].is_given and placed[i].statement.text in covered)]
        own = [each for each in kept if not each.is_given and each.place != self.home]
        text = "\n".join(each.statement.text for each in [*(placed[index] for index in futures), *kept])
        names = frozenset().union(*(each.statement.binds - self.program.imported for each in own))
        names |= frozenset().union(*(each.statement.binds_whole for each in own))
        chosen = [placed[index] for index in sorted(self.taken) if not placed[index].is_given]
        imports = {wanted: each.place for each in chosen for wanted in each.statement.imports}
        return Needed(text, "", names, frozenset(self.lent - {self.asked.name}), missing, imports)
