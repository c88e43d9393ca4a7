"""What a student writes is what runs: how much there is of it, that the cells below call it, and nothing else could."""

from __future__ import annotations

import re

import masters
import pytest
import running
from running import AT_HAND, NOTEBOOKS, written

from classroom.authoring.directives import spoken
from classroom.authoring.masters import read_master
from classroom.authoring.sizes import measure
from classroom.quizzes import Quiz

NUMBERS = [name[:2] for name in NOTEBOOKS]
AT_LEAST = {f"{n:02}": 60 if n < 4 else 100 for n in range(1, 12)}  # lines to write
READ_FOR_ONE = 6  # lines of others' code that are read for one that is written
WORDS, LONGEST, MINUTES = 4000, 35, 120  # in a notebook, in a cell to be read, on the core path, to five


@pytest.fixture(scope="module")
def sizes():
    return {number: measure(read_master(masters.path(number))) for number in NUMBERS}


@pytest.mark.parametrize("number", AT_LEAST)
def test_a_student_writes_enough_and_does_not_read_too_much(number, sizes, report):
    size = sizes[number]
    report.append(
        f"{number}: {size.written} lines to write, {size.read} to read, {size.words} words, longest cell "
        f"{size.longest}, {size.core:.0f} minutes and {size.extra:.0f} more"
    )
    assert size.written >= AT_LEAST[number]
    assert size.read <= READ_FOR_ONE * size.written
    assert size.words <= WORDS and size.longest <= LONGEST and 5 * round(size.core / 5) <= MINUTES


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name[:2] in AT_LEAST])
def test_the_cells_below_call_what_was_written(name, ran):
    run = ran("solved", AT_HAND, name)
    assert run.calls, f"no answer was checked:\n{run.log}"
    quizzes = read_master(masters.path(name[:2])).quizzes
    hunted = {answer for answer, id in running.checked(name).items() if quizzes[id].bug_hunt}  # may end with its fix
    assert [answer for answer, calls in run.calls.items() if not calls and answer not in hunted] == []


@pytest.mark.parametrize("number", AT_LEAST)
def test_no_cell_has_the_librarys_own_answer(number):
    """The library's own answer to a quiz is not imported into the notebook that asks for it."""
    found = masters.namespace(number)
    asked = [quiz for quiz in read_master(masters.path(number)).quizzes.values() if isinstance(quiz, Quiz)]
    answers = {id(quiz.reference): quiz.id for quiz in asked}
    assert {name: answers[id(value)] for name, value in found.items() if id(value) in answers} == {}


@pytest.mark.parametrize("number", NUMBERS)
def test_the_readme_says_how_long_it_takes(number, sizes, root):
    (row,) = re.findall(rf"^\| {number} \|.*$", (root / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    size = sizes[number]
    assert row.split("|")[4].strip() == spoken(size.core) + (f" + {spoken(size.extra)}" if size.extra else "")


def test_an_answer_that_nobody_calls_is_seen(tmp_path):
    cells = ["double = lambda x: 2 * x", 'check = lambda id, f: f\ndouble = check("demo/double", double)', "2 * 3"]
    for last, calls in (("2 * 3", 0), ("double(3)", 1)):
        run = running.run(written(tmp_path, *cells[:-1], last), tmp_path / last, env={})
        assert (run.failed, run.calls) == ((), {"double": calls}), run.log
