"""No formula has lost a backslash: in a string that is not raw, \\varepsilon becomes a control character and more."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from running import FACES, NOTEBOOKS, read

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    path for folder in ("classroom", "course_utils", "solutions") for path in sorted((ROOT / folder).rglob("*.py"))
]
# What \alpha, \bar, \varepsilon, \frac, \theta, \rho, \nabla and their like begin with where the backslash was eaten.
LOST = re.compile(r"[\a\b\v\f]|\t(?:heta|au|ext|imes|ilde|op?\b)|\r(?:ho|ight|m\b)|\n(?:abla|eq\b)")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_string_of_a_source_has_lost_a_backslash(path):
    constants = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)
    ]
    assert [(c.lineno, c.value[:60]) for c in constants if isinstance(c.value, str) and LOST.search(c.value)] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
@pytest.mark.parametrize("face", FACES)
def test_no_text_of_a_notebook_has_lost_a_backslash(face, name):
    cells = read(face, name).cells
    assert [cell.source[:60] for cell in cells if cell.cell_type == "markdown" and LOST.search(cell.source)] == []


def test_lost_ones_are_seen_and_others_are_not():
    eaten = [
        "\varepsilon",
        "\bar x",
        "\frac12",
        "\theta",
        "2\times 3",
        "\rho",
        "\nabla f",
        "\alpha",
    ]
    assert all(LOST.search(text) for text in eaten)
    kept = [r"\varepsilon \bar x \theta \nabla", "two\nlines", "a\tb"]
    assert not any(LOST.search(text) for text in kept)
