"""What an executed notebook shows: a cell that ends in a value shows it, and cards say what is declared."""

from __future__ import annotations

import ast
import re

import grading_zoo
import nbformat
import pytest
from running import NOTEBOOKS, html_of, read

from classroom.quizzes import Quiz, declarations
from classroom.quizzes.cards import inline


def executed(name: str) -> list:
    return [cell for cell in read("solved", name).cells if cell.cell_type == "code"]


def shows_nothing(cell) -> bool:
    """Whether a cell ends in an expression, so that something is to be seen, and nothing is."""
    statements = ast.parse(re.sub(r"^[%!].*$", "", cell.source, flags=re.MULTILINE)).body
    return bool(statements) and isinstance(statements[-1], ast.Expr) and not cell.outputs


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_cell_that_ends_in_an_expression_shows_something(name):
    assert [cell.source[-200:] for cell in executed(name) if shows_nothing(cell)] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cards_say_what_is_declared(name):
    """Words of a quiz may be changed without executing its notebook; its card in the solution must follow."""
    seen = 0
    for cell in executed(name):
        if grading_zoo.role(cell) == "check":
            quiz = declarations.get(grading_zoo.quiz(cell))
            said = quiz.passed if isinstance(quiz, Quiz) else quiz.options[quiz.answer].feedback
            assert f"<span>{inline(quiz.title)}</span>" in html_of(cell), f"{quiz.id}: the title of its card"
            assert f">{inline(said)}</p>" in html_of(cell), f"{quiz.id}: the text of its card"
            seen += 1
    assert seen > 0


def test_a_lost_picture_is_seen():
    lost = nbformat.v4.new_code_cell("def show():\n    draw()\n\nshow()")
    shown = nbformat.v4.new_code_cell("show()", outputs=[nbformat.v4.new_output("stream", text="here")])
    assert shows_nothing(lost) and not shows_nothing(shown) and not shows_nothing(nbformat.v4.new_code_cell("x = 1"))
