r"""The equation ledger: no orphan in any direction.

A numbered equation stands in three places: `\tag{N.k}` in a notebook's prose, "equation (N.k)" in the docstring of the
library's function that computes it, and `@pytest.mark.equation("N.k")` on a test that checks it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import masters

ROOT = Path(__file__).resolve().parent.parent
MENTION = re.compile(r"[Ee]quations?\s+(\(\d+\.\d+\)(?:(?:\s*,\s*|\s+(?:and|or|to)\s+)\(\d+\.\d+\))*)")


def in_notebooks(folder: Path) -> dict[str, str]:
    """Equation number -> the master whose prose carries it."""
    return {number: path.stem for path in sorted(folder.glob("[0-9][0-9]_*.py")) for number in masters.tags(path)}


def in_docstrings(package: Path) -> dict[str, str]:
    """Equation number -> "module.function" of a docstring that names it. Quiz declarations don't count."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        if "quizzes" in path.relative_to(package).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                for mention in MENTION.findall(ast.get_docstring(node) or ""):
                    for number in re.findall(r"\d+\.\d+", mention):
                        found.setdefault(number, f"{path.stem}.{node.name}")
    return found


def in_tests(folder: Path) -> dict[str, str]:
    """Equation number -> "file::test" of a test function marked with it."""
    found = {}
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.equation":
                        for argument in mark.args:
                            found.setdefault(ast.literal_eval(argument), f"{path.name}::{node.name}")
    return found


def orphans(notebooks: dict, docstrings: dict, tests: dict) -> list[str]:
    """One line for every equation that is missing from one of the three places."""
    places = {"a notebook": notebooks, "a docstring": docstrings, "a test": tests}
    lines = []
    for number in sorted({*notebooks, *docstrings, *tests}, key=lambda n: [int(part) for part in n.split(".")]):
        have = [f"{place} ({where[number]})" for place, where in places.items() if number in where]
        lack = [place for place, where in places.items() if number not in where]
        if lack:
            lines.append(f"({number}) stands in {' and '.join(have)} but not in {' nor in '.join(lack)}")
    return lines


def test_no_orphans(report):
    ledger = in_notebooks(ROOT / "solutions"), in_docstrings(ROOT / "course_utils"), in_tests(ROOT / "tests")
    assert orphans(*ledger) == []
    assert ledger[0], "no numbered equation was found in any notebook: does the ledger still read them?"
    report.append(f"equation ledger: {len(ledger[0])} equations, each in a notebook, a docstring and a test")


def test_numbers_are_used_once_and_by_their_own_notebook():
    for path in masters.paths():
        numbers = masters.tags(path)
        assert len(set(numbers)) == len(numbers), f"{path.name}: an equation number is used twice: {numbers}"
        foreign = [n for n in numbers if n.split(".")[0] != str(int(path.stem[:2]))]
        assert not foreign, f"{path.name}: equations numbered for another notebook: {foreign}"


def test_quizzes_name_equations_that_exist():
    from classroom.authoring.masters import declared

    known = in_notebooks(ROOT / "solutions")
    for path in masters.paths():
        for name, declaration in declared(path.stem[:2]).items():
            equation = getattr(declaration, "equation", None)
            assert not equation or equation in known, f"quiz {name}: no notebook has an equation ({equation})"


PROSE = '# %% [markdown]\n# $$a = b \\tag{7.1}$$\n#\n# %%\nx = r"\\tag{7.9} in code is not prose"\n'
DOCSTRING = 'def f():\n    """Halve it, equation (7.1)."""\n'
MARK = 'import pytest\n\n@pytest.mark.equation("7.1")\ndef test_f():\n    pass\n'


def planted(tmp_path: Path, prose: str, docstring: str, mark: str) -> list[str]:
    """Orphans of a little course made of three files."""
    for folder, name, text in [("s", "07_x.py", prose), ("c", "lib.py", docstring), ("t", "test_x.py", mark)]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    return orphans(in_notebooks(tmp_path / "s"), in_docstrings(tmp_path / "c"), in_tests(tmp_path / "t"))


def test_ledger_accepts_a_complete_equation(tmp_path):
    assert planted(tmp_path, PROSE, DOCSTRING, MARK) == []


def test_ledger_notices_a_missing_docstring(tmp_path):
    (line,) = planted(tmp_path, PROSE, 'def f():\n    """Halve it."""\n', MARK)
    assert line == "(7.1) stands in a notebook (07_x) and a test (test_x.py::test_f) but not in a docstring"


def test_ledger_notices_a_missing_test(tmp_path):
    (line,) = planted(tmp_path, PROSE, DOCSTRING, "def test_f():\n    pass\n")
    assert "but not in a test" in line


def test_ledger_notices_a_missing_tag(tmp_path):
    (line,) = planted(tmp_path, "# %% [markdown]\n# nothing\n", DOCSTRING, MARK)
    assert "but not in a notebook" in line


def test_ledger_reads_lists_of_equations(tmp_path):
    lines = planted(tmp_path, PROSE, 'def f():\n    """Equations (7.1), (7.2) and (7.10)."""\n', MARK)
    assert [line.split()[0] for line in lines] == ["(7.2)", "(7.10)"]
