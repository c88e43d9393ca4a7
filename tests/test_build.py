"""The build: what a master becomes, what it refuses, and that the committed notebooks are what their masters say."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
DEMO = Path(__file__).parent / "demo" / "90_demo.py"


def demo_declarations() -> dict:
    """What classroom/lessons/nb90.py would declare, were there a notebook 90."""
    from classroom.quizzes.declarations import Case, Concept, Option, Quiz

    common = {"reference": lambda x: 2 * x, "cases": lambda rng: [Case({"x": 3})], "module": "nb90"}
    wrong, right = Option("It does not.", "Try $x = 1$."), Option("Because $2x = x + x$.", "Yes.", right=True)
    declared = [
        Quiz("demo/double", 3, "Twice", explanation="Twice is $x + x$.", **common),
        Quiz("demo/mend", 2, "Bug hunt", explanation="A square is not a double.", bug_hunt=True, minutes=1, **common),
        Concept("demo/why", 1, "Why?", "Why does $2x$ double?", {"a": wrong, "b": right}),
    ]
    return {quiz.id: quiz for quiz in declared}


BUDGETS = {"90_demo": {"cpu": {"seconds": 95.4, "peak_mb": 812, "machine": "2 cores"}}}


def write_course(folder: Path) -> None:
    """One master and measured budgets."""
    (folder / "solutions").mkdir()
    shutil.copy(DEMO, folder / "solutions" / DEMO.name)
    (folder / "solutions" / "budgets.json").write_text(json.dumps(BUDGETS))


@pytest.fixture
def declared(monkeypatch):
    """Whoever builds the little course finds its declarations."""
    from classroom.authoring import masters

    monkeypatch.setattr(masters, "declared", lambda number: demo_declarations())


@pytest.fixture
def course(tmp_path, declared):
    """A little course in a folder of its own: one master, its declarations, measured budgets."""
    write_course(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def built_once(tmp_path_factory):
    """The little course with both notebooks built and executed: to be copied, not touched."""
    from classroom.authoring import masters
    from classroom.authoring.building import build

    folder = tmp_path_factory.mktemp("built")
    write_course(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masters, "declared", lambda number: demo_declarations())
        build(folder, effort="smoke", data="digits", say=lambda line: None)
    return folder


@pytest.fixture
def built(built_once, tmp_path, declared):
    """A copy of the little course with both notebooks built and executed."""
    shutil.copytree(built_once, tmp_path, dirs_exist_ok=True)
    return tmp_path


def master_of(course: Path) -> Path:
    return course / "solutions" / DEMO.name


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def notebook(course: Path, folder: str):
    return nbformat.read(course / folder / "90_demo.ipynb", as_version=4)


def by_role(nb, role: str) -> list:
    return [c for c in nb.cells if c.metadata.get("course", {}).get("role") == role]


# --- the two notebooks ------------------------------------------------------------------------------------------------


def test_student_notebook_holds_stubs_and_no_outputs(built):
    nb = notebook(built, "notebooks")
    double, mend, why = (c.source for c in by_role(nb, "answer"))
    assert double.endswith('    raise NotImplementedError("quiz demo/double: not answered yet")')
    assert "        y = x * x\n        if y < 0:\n            y = 0\n    return y" in mend
    assert why == 'why = ""    # type a or b between the quotes'
    assert not any(c.get("outputs") or c.get("execution_count") for c in nb.cells)
    plain = "\n".join(c.source for c in nb.cells if c.metadata.get("course", {}).get("role") != "solution")
    assert "SOLUTION" not in plain and "HANDED OUT" not in plain and "twice = 2 * x" not in plain


def test_only_a_students_own_cells_may_stop_without_stopping_those_below(built):
    for folder, roles in (("notebooks", ["answer"] * 3), ("solutions", [])):
        going_on = [c for c in notebook(built, folder).cells if "raises-exception" in c.metadata.get("tags", ())]
        assert [c.metadata.get("course", {}).get("role") for c in going_on] == roles


def test_solutions_are_folded_after_their_check(built):
    nb = notebook(built, "notebooks")
    for i, cell in enumerate(nb.cells):
        if cell.metadata.get("course", {}).get("role") == "check":
            after = nb.cells[i + 1]
            assert after.metadata.course == {"role": "solution", "quiz": cell.metadata.course.quiz}
            assert after.source.startswith("<details>") and after.source.endswith("</details>")
    code, _, concept = (c.source for c in by_role(nb, "solution"))
    assert "```python\ntwice = 2 * x\nreturn twice\n```" in code and "Twice is $x + x$." in code
    assert "The answer is **b**.\n\n* **a** · Try $x = 1$.\n* **b** · Yes." in concept


def test_solutions_can_be_left_out(course, tmp_path):
    from classroom.authoring.building import build

    (path,) = build(course, to=tmp_path / "class", solutions=False, say=lambda line: None)
    text = path.read_text(encoding="utf-8")
    assert "<details>" not in text and "twice = 2" not in text and "Try $x = 1$" not in text
    assert not (course / "notebooks").exists()


def test_question_and_budget_are_filled_in(built):
    for folder in ("notebooks", "solutions"):
        nb = notebook(built, folder)
        text = "\n".join(c.source for c in nb.cells)
        assert "{{" not in text
        assert "Why does $2x$ double?\n\n* **a** · It does not.\n* **b** · Because $2x = x + x$." in text
        assert "| 1 min 35 s (2 cores) | 0.8 GB |" in text and "not measured yet" in text


def test_headings_are_filled_in_from_the_declarations_and_counted(built):
    for folder in ("notebooks", "solutions"):
        headings = [cell.source.split("\n") for cell in by_role(notebook(built, folder), "question")]
        assert [line for lines in headings for line in lines if line.startswith("###")] == [
            "### Quiz 90.1a · Twice   *(code, 3 points, about 5 minutes)*",
            "### Quiz 90.1b · Bug hunt   *(bug hunt, 2 points, about 1 minute)*",
            "### Question 90.2a · Why?   *(concept, 1 point, about 2 minutes)*",
        ]


def test_solved_notebook_is_executed_in_order(built):
    nb = notebook(built, "solutions")
    code = [c for c in nb.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert "HANDED OUT" not in "\n".join(c.source for c in code)
    assert [c.outputs[0].text for c in by_role(nb, "check")][0] == "demo/double passed\n"
    assert nb.metadata.course.effort == "smoke" and nb.metadata.course.data == "digits"
    assert "working in . effort smoke data digits" in code[-1].outputs[0].text, "this machine's folder is kept"


def test_the_same_cell_has_the_same_id_in_both(built):
    student, solved = notebook(built, "notebooks"), notebook(built, "solutions")
    assert [c.id for c in solved.cells] == [
        c.id for c in student.cells if c.metadata.get("course", {}).get("role") != "solution"
    ]


def test_building_twice_gives_the_same_bytes(built):
    from classroom.authoring.building import build

    before = {p: p.read_bytes() for p in built.rglob("*.ipynb")}
    said: list[str] = []
    build(built, effort="smoke", data="digits", say=said.append)
    assert {p: p.read_bytes() for p in built.rglob("*.ipynb")} == before
    assert said == [], "nothing changed, so nothing is executed"


def test_changed_prose_keeps_outputs_and_changed_code_does_not(built):
    from classroom.authoring.building import build, check

    edit(master_of(built), "# Double it,", "# Please double it,")
    said: list[str] = []
    build(built, effort="smoke", data="digits", say=said.append)
    assert said == [] and check(built) == []
    edit(master_of(built), "print(double(21))", "print(double(22))")
    build(built, run=False, say=said.append)
    assert said == ["solutions/90_demo.ipynb: its code changed, not executed (--no-execute): left as it was"]
    build(built, effort="smoke", data="digits", say=said.append)
    assert "executing at effort smoke on digits" in said[1] and check(built) == []


def test_a_cell_that_raises_is_one_line(course):
    from classroom.authoring.building import build
    from classroom.authoring.execution import ExecutionError

    edit(master_of(course), "print(double(21))", 'double("x" / 2)')
    with pytest.raises(ExecutionError) as error:
        build(course, effort="smoke", data="digits", say=lambda line: None)
    assert re.fullmatch(
        r"solutions/90_demo.ipynb: cell 6 \(double\(\"x\" / 2\)\) raised TypeError: .*", str(error.value)
    )
    assert not (course / "solutions" / "90_demo.ipynb").exists()


def test_widgets_progress_and_overwritten_lines_are_tidied():
    from nbformat.v4 import new_output

    from classroom.authoring.execution import WIDGET, _tidy

    widget = new_output("display_data", {WIDGET: {"model_id": "1"}, "text/plain": "VBox(children=(Text(value=''…"})
    assert _tidy(widget) is None
    bar = new_output(
        "display_data", {WIDGET: {"model_id": "1"}, "text/plain": "training:   0%|          | 0/30 [00:00]"}
    )
    assert _tidy(bar) is None
    card = new_output("display_data", {WIDGET: {"model_id": "1"}, "text/plain": "quiz demo/why: no answer yet"})
    assert _tidy(card).data == {"text/plain": "quiz demo/why: no answer yet"}
    assert _tidy(new_output("stream", name="stderr", text="\r 10%|# | 1/9\r100%|##| 9/9 [00:00]\n")) is None
    assert _tidy(new_output("stream", name="stdout", text="step 1\rstep 2\n")).text == "step 2\n"
    assert _tidy(new_output("stream", name="stderr", text="UserWarning: look\n")).text == "UserWarning: look\n"


# --- what a master may not do -----------------------------------------------------------------------------------------

REFUSED = {
    "no quiz of that id": (
        'check("demo/double"',
        'check("demo/duoble"',
        r":48: no quiz is called 'demo/duoble'; did you mean demo/double",
    ),
    "no check cell": ('# %% tags=["check"]\ndouble', "# %%\ndouble", r":40: answer cell without a check cell"),
    "check before answer": ('# %% tags=["setup"]', '# %% tags=["check"]', r":19: check cell without an answer cell"),
    "no END": (
        "    return twice\n    ### END SOLUTION",
        "    return twice",
        r":43: BEGIN SOLUTION without END SOLUTION",
    ),
    "no BEGIN": ("    ### BEGIN SOLUTION\n    twice", "    twice", r":45: END SOLUTION without a BEGIN SOLUTION"),
    "marker misspelt": (
        "### BEGIN HANDED OUT\n        #",
        "## BEGIN HANDED_OUT\n        #",
        r":64: expected '### BEGIN",
    ),
    "region elsewhere": ("print(double(21))", "### BEGIN SOLUTION\n### END SOLUTION", r"without the tag 'quiz'"),
    "no heading": ("### {{heading demo/double}}", "Twice", r":40: no heading before the answer cell of 'demo/double'"),
    "heading elsewhere": ("{{heading demo/double}}", "{{heading demo/why}}", r"a second heading of 'demo/why'"),
    "heading in a line": ("### {{heading demo/mend}}", "{{heading demo/mend}}", r"no heading before the answer cell"),
    "heading of nothing": (
        "## 90.2 · Why?",
        "### {{heading demo/whence}}",
        r"no quiz is called 'demo/whence'; did you mean demo/why",
    ),
    "no section": ("## 90.1 · Doubling", "Doubling", r":36: the heading of 'demo/double' stands before any section"),
    "asked twice": ('check("demo/mend"', 'check("demo/double"', r"'demo/double' is already checked at line 48"),
    "never asked": ('ask("demo/why", why)', 'ask("demo/mend", why)', r"'demo/mend' is already checked"),
    "would stop": (
        '### BEGIN HANDED OUT\n# why = ""    # type a or b between the quotes\n### END HANDED OUT',
        "",
        r"a solution outside a function needs a HANDED OUT region",
    ),
    "handed out live": (
        "        # y = x * x",
        "        y = x * x",
        r"every line in a HANDED OUT region starts with '# '",
    ),
    "unknown directive": ("{{budget}}", "{{budgets}}", r":13: expected {{budget}}, {{question some/id}} or a"),
    "unknown question": (
        "{{question demo/why}}",
        "{{question demo/who}}",
        r"no quiz is called 'demo/who'; did you mean demo/why",
    ),
}


@pytest.mark.parametrize("old, new, message", REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(course, old, new, message):
    from classroom.authoring.building import check
    from classroom.authoring.masters import MasterError

    edit(master_of(course), old, new)
    with pytest.raises(MasterError, match=re.escape(message)) as error:
        check(course)
    assert "\n" not in str(error.value) and "solutions/90_demo.py:" in str(error.value)


def test_a_declared_quiz_must_be_asked(course, monkeypatch):
    from classroom.authoring import masters

    monkeypatch.setattr(
        masters, "declared", lambda number: {**demo_declarations(), "demo/idle": SimpleNamespace(points=1)}
    )
    with pytest.raises(masters.MasterError, match="declared but never asked: demo/idle"):
        masters.read_master(master_of(course))


def test_unknown_number(course):
    from classroom.authoring.masters import MasterError, find_masters

    assert find_masters(course / "solutions", ["90"]) == [master_of(course)]
    with pytest.raises(MasterError, match="no master numbered 41 in solutions/: expected one of 90"):
        find_masters(course / "solutions", ["41"])


def test_nbgrader_is_asked_for_in_one_line(course, monkeypatch):
    import sys

    from classroom.authoring.building import check

    monkeypatch.setitem(sys.modules, "nbgrader.preprocessors", None)
    monkeypatch.setitem(sys.modules, "nbgrader", None)
    with pytest.raises(ModuleNotFoundError, match="pip install -r requirements-dev.txt"):
        check(course)


# --- drift ------------------------------------------------------------------------------------------------------------


def test_check_is_clean_after_a_build(built):
    from classroom.authoring.building import check

    assert check(built) == []


DRIFT = {
    "student prose": ("notebooks", "Double it", "Triple it", r"cell 3 .* differs from its master in source"),
    "student metadata": ("notebooks", '"points": 3', '"points": 30', r"cell 5 .* differs from its master in metadata"),
    "student layout": ("notebooks", '\n "nbformat": 4', '\n  "nbformat": 4', r"same cells, other bytes"),
    "solved code": ("solutions", "twice = 2 * x", "twice = 3 * x", r"cell 4 .* differs from its master in source"),
    "solved order": ("solutions", '"execution_count": 3', '"execution_count": 30', r"has number 30, expected 3"),
    "solved hash": ("solutions", '"executed_from": "', '"executed_from": "0', r"its outputs come from other code"),
    "damaged": ("solutions", '"cells"', "cells", r"cannot be read"),
}


@pytest.mark.parametrize("folder, old, new, message", DRIFT.values(), ids=DRIFT)
def test_a_deliberate_edit_of_a_notebook_is_found(built, folder, old, new, message):
    from classroom.authoring.building import check

    edit(built / folder / "90_demo.ipynb", old, new)
    (line,) = check(built)
    assert re.search(message, line) and line.startswith(f"{folder}/90_demo.ipynb: ")
    assert line.endswith("run: python -m classroom build")


def test_a_deliberate_edit_of_the_master_is_found_in_both(built):
    from classroom.authoring.building import check

    edit(master_of(built), "print(double(21))", "print(double(12))")
    assert [line.split(":")[0] for line in check(built)] == ["notebooks/90_demo.ipynb", "solutions/90_demo.ipynb"]


def test_missing_and_orphaned_notebooks_are_found(built):
    from classroom.authoring.building import check

    (built / "notebooks" / "90_demo.ipynb").rename(built / "notebooks" / "91_old.ipynb")
    first, second = check(built)
    assert first.startswith("notebooks/90_demo.ipynb: missing")
    assert second.startswith("notebooks/91_old.ipynb: no master solutions/91_old.py")


def test_the_command_says_what_drifted_and_fails(built, capsys, monkeypatch):
    from classroom import __main__ as command

    monkeypatch.setattr(command, "ROOT", built)
    assert command.main(["build", "--check"]) == 0
    edit(built / "notebooks" / "90_demo.ipynb", "Double it", "Triple it")
    assert command.main(["build", "--check"]) == 1
    assert "notebooks/90_demo.ipynb: cell 3 (### Quiz 90.1a" in capsys.readouterr().out
    assert command.main(["build", "41"]) == 1
    assert capsys.readouterr().err == "build: no master numbered 41 in solutions/: expected one of 90\n"
    assert command.main(["build", "--no-solutions"]) == 1


# --- the course itself ------------------------------------------------------------------------------------------------


def test_nothing_has_drifted():
    from classroom.authoring.building import check

    assert check(ROOT) == []


def test_masters_are_read_as_definitions():
    import masters

    for path in masters.paths():
        assert all(callable(value) for value in masters.definitions(path.stem[:2]).values())


@pytest.mark.parametrize("folder", ["solutions", "notebooks"])
def test_notebooks_name_no_folder_of_the_machine_that_built_them(folder):
    absolute = re.compile(r"(?<![\w.~$])/(?:home|root|tmp|work|Users|mnt|opt|var)/[\w.-]+|[A-Z]:\\\\Users")
    for path in sorted((ROOT / folder).glob("*.ipynb")):
        for i, cell in enumerate(nbformat.read(path, as_version=4).cells, 1):
            texts = [o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in cell.get("outputs", ())]
            texts += [o.get("data", {}).get("text/html", "") for o in cell.get("outputs", ())]
            said = re.sub(r';base64,[^"]*', "", "\n".join(texts))
            assert absolute.findall(said) == [] and "..$" not in said, f"{folder}/{path.name}, cell {i}"


def test_a_picture_that_spells_a_path_by_chance_stays_whole(monkeypatch, tmp_path):
    from classroom.authoring.execution import hide_paths

    monkeypatch.setattr(Path, "home", lambda: Path("/root"))
    picture = '<img src="data:image/png;base64,iVBO/root+Z/root==">'
    data = {"text/html": f"in /root/course: {picture}", "text/plain": "/root/a"}
    output = nbformat.v4.new_output("display_data", data)
    hide_paths([output], tmp_path, str(tmp_path / "solutions"))
    assert output.data == {"text/html": f"in ~/course: {picture}", "text/plain": "~/a"}


def test_the_folder_of_the_data_gets_its_name_by_whatever_way_it_is_told(monkeypatch, tmp_path):
    from classroom.authoring.execution import hide_paths

    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    output = nbformat.v4.new_output("stream", text=f"../data/digits and {tmp_path}/data and {tmp_path}/x")
    hide_paths([output], tmp_path, str(tmp_path / "solutions"))
    assert output.text == "$COURSE_DATA/digits and $COURSE_DATA and ../x"


@pytest.mark.parametrize("folder", ["solutions", "notebooks"])
def test_pictures_in_notebooks_are_whole(folder):
    for path in sorted((ROOT / folder).glob("*.ipynb")):
        for i, cell in enumerate(nbformat.read(path, as_version=4).cells, 1):
            for output in cell.get("outputs", ()):
                for data in re.findall(r';base64,([^"]*)"', output.get("data", {}).get("text/html", "")):
                    assert re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", data), f"{folder}/{path.name}, cell {i}"


def test_what_executing_costs_goes_into_both_notebooks(course):
    """And into nothing else: the other efforts keep what was measured before."""
    from classroom.authoring.building import build, check

    build(course, effort="smoke", data="digits", measure=True, say=lambda line: None)
    budgets = json.loads((course / "solutions" / "budgets.json").read_text())
    assert budgets["90_demo"]["cpu"] == BUDGETS["90_demo"]["cpu"]
    smoke = budgets["90_demo"]["smoke"]
    assert 0 < smoke["seconds"] < 300 and 50 < smoke["peak_mb"] < 10_000 and smoke["data"] == "digits"
    for folder in ("notebooks", "solutions"):
        text = "\n".join(c.source for c in notebook(course, folder).cells)
        assert re.search(r"`smoke` \| .* \| \d+ s \(", text) and "1 min 35 s" in text
        assert "getrusage" not in text, "the cell that measures isn't part of the notebook"
    assert check(course) == []
