"""nbgrader accepts our notebooks: its validation, and its own way from assignment to scores and their export.

Its commands run for real, in a folder of their own, on notebooks cut down to what is graded (setup, answers, checks):
the trainings in between have their own tests. Students' files are the notebooks that are handed out, untouched or with
answers written into them.
"""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from running import FACES, NOTEBOOKS, read

from classroom.grading.records import Report, Score
from classroom.grading.reports.nbgrader_csv import COLUMNS, nbgrader_csv

ALLOWED = {"schema_version", "grade", "solution", "locked", "task", "grade_id", "points", "cell_type", "checksum"}


def graded(nb) -> list:
    return [c for c in nb.cells if c.metadata.get("nbgrader", {}).get("grade")]


def answered(face: str, name: str):
    """The notebook that is handed out; where face is "solved", with the right answers written into its answer cells."""
    nb = read("untouched", name)
    answers = {c.metadata.nbgrader.grade_id: c.source for c in read("solved", name).cells if "nbgrader" in c.metadata}
    for cell in nb.cells:
        if face == "solved" and cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = answers[cell.metadata.nbgrader.grade_id]
    return nb


def cut_down(nb):
    """The notebook without what is not needed to grade it: setup, definitions in use, answers, checks."""
    nb.cells = [c for c in nb.cells if {"setup", "quiz", "check"} & set(c.metadata.get("tags", ()))]
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nb


def nbgrader(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run an nbgrader command in `folder`, at effort smoke on digits, with its own configuration and home."""
    mine = {"HOME": str(folder), "JUPYTER_CONFIG_DIR": str(folder / "config"), "IPYTHONDIR": str(folder / "ipython")}
    mine |= {"COURSE_EFFORT": "smoke", "COURSE_DATASET": "digits"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # nbgrader calls alembic
    command = [sys.executable, "-m", "nbgrader", *arguments]
    return subprocess.run(
        command, cwd=folder, env=os.environ | mine | {"PATH": path}, capture_output=True, text=True, timeout=500
    )


@pytest.mark.parametrize("name", NOTEBOOKS)
@pytest.mark.parametrize("face", FACES)
def test_metadata_pass_nbgraders_validator(face, name):
    from nbgrader.nbgraderformat import MetadataValidator

    nb = read(face, name)
    MetadataValidator().validate_nb(nb)
    for cell in nb.cells:
        meta = cell.metadata.get("nbgrader")
        if meta is not None:
            assert set(meta) <= ALLOWED and meta.schema_version == 3
            assert ("points" in meta) == meta.grade


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_declared_quiz_is_graded_with_its_points(name):
    from classroom.authoring.masters import declared
    from classroom.authoring.render import grade_id

    right = {f"{grade_id(id)}-check": quiz.points for id, quiz in declared(name[:2]).items()}
    for face in FACES:
        assert {c.metadata.nbgrader.grade_id: c.metadata.nbgrader.points for c in graded(read(face, name))} == right


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_a_student_may_not_change_is_locked(name):
    from nbgrader.utils import compute_checksum

    nb = read("untouched", name)
    for cell in nb.cells:
        role = cell.metadata.get("course", {}).get("role")
        if role in ("check", "question"):
            assert cell.metadata.editable is False and cell.metadata.deletable is False
        elif role == "answer":
            assert "editable" not in cell.metadata and cell.metadata.deletable is False
        if role in ("check", "question", "answer"):
            assert cell.metadata.nbgrader.checksum == compute_checksum(cell)
        if "setup" in cell.metadata.get("tags", ()):
            assert cell.metadata.get("editable", True), "students may change effort and data set"


@pytest.mark.parametrize(
    "notebooks",
    [pytest.param(NOTEBOOKS[1:2], id="one notebook"), pytest.param(NOTEBOOKS, id="all", marks=pytest.mark.slow)],
)
def test_assignment_to_scores(notebooks, tmp_path, report):
    """Instructor's side: release the solved notebooks; a solved one earns every point, an untouched one none."""
    source = tmp_path / "source" / "course"
    source.mkdir(parents=True)
    (tmp_path / "nbgrader_config.py").write_text("c = get_config()\nc.CourseDirectory.course_id = 'images'\n")
    for name in notebooks:
        nbformat.write(cut_down(read("solved", name)), source / f"{name}.ipynb")
        for student, face in [("ada", "solved"), ("bob", "untouched")]:
            place = tmp_path / "submitted" / student / "course"
            place.mkdir(parents=True, exist_ok=True)
            nbformat.write(cut_down(answered(face, name)), place / f"{name}.ipynb")
    made = nbgrader(tmp_path, "generate_assignment", "course")
    assert made.returncode == 0, made.stderr[-3000:]
    for name in notebooks:
        released = (tmp_path / "release" / "course" / f"{name}.ipynb").read_text(encoding="utf-8")
        assert "BEGIN SOLUTION" not in released and "NotImplementedError" in released
    scored = nbgrader(tmp_path, "autograde", "course")
    assert scored.returncode == 0, scored.stderr[-3000:]

    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        total = sum(n.max_score for n in book.find_assignment("course").notebooks)
        ada = {n.name: n.score for n in book.find_submission("course", "ada").notebooks}
        bob = {n.name: n.score for n in book.find_submission("course", "bob").notebooks}
        most = {n.name: n.max_score for n in book.find_submission("course", "ada").notebooks}
    assert ada == most
    assert all(score == 0 for score in bob.values()), bob
    report.append(f"nbgrader: {total:g} points in {len(most)} notebooks; solved {sum(ada.values()):g}, untouched 0")

    exported = nbgrader(tmp_path, "export")
    assert exported.returncode == 0, exported.stderr[-3000:]
    theirs = (tmp_path / "grades.csv").read_text()
    ours = nbgrader_csv([_report("ada", "07", total, total), _report("bob", "07", 0, total)], {"07": "course"})
    assert ours.splitlines()[0] == theirs.splitlines()[0]
    assert _without_time(ours) == _without_time(theirs)


def _report(student: str, notebook: str, points: float, out_of: float) -> Report:
    scores = (Score("a/quiz", float(points), int(out_of), "ok" if points else "wrong", ""),)
    return Report(student, notebook, f"{student}/{notebook}.ipynb", scores)


def _without_time(text: str) -> list[dict]:
    return [{**row, "timestamp": ""} for row in csv.DictReader(io.StringIO(text))]


def test_csv_has_a_line_for_each_assignment_and_student():
    """Whoever handed nothing in has 0, as in nbgrader's export; of two files for one notebook the better counts."""
    reports = [
        _report("bob, jr.", "01", 2.5, 4), _report("ada", "03", 1, 7), _report("ada", "03", 6, 7),
        _report("ada", "03", 0, 7), Report("eve", "", "eve/broken.ipynb", (), ("not a notebook",)),
    ]  # fmt: skip
    rows = list(csv.reader(io.StringIO(nbgrader_csv(reports, {"03": "week 3"}))))
    assert tuple(rows[0]) == COLUMNS
    assert [(row[0], row[3], *row[7:]) for row in rows[1:]] == [
        ("01", "ada", "0.0", "0.0", "0.0", "4.0"),
        ("01", "bob, jr.", "2.5", "0.0", "2.5", "4.0"),
        ("01", "eve", "0.0", "0.0", "0.0", "4.0"),
        ("week 3", "ada", "6.0", "0.0", "6.0", "7.0"),
        ("week 3", "bob, jr.", "0.0", "0.0", "0.0", "7.0"),
        ("week 3", "eve", "0.0", "0.0", "0.0", "7.0"),
    ]
    assert nbgrader_csv([]) == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("face", "shown"),
    [
        pytest.param("solved", cut_down, id="solved"),
        pytest.param("untouched", cut_down, id="untouched"),
        pytest.param("solved", lambda nb: nb, id="solved, trainings included", marks=pytest.mark.slow),
    ],
)
def test_validate_command(face, shown, tmp_path):
    """`nbgrader validate` on what was handed out, checksums included: the button that students press."""
    name = NOTEBOOKS[0]
    nbformat.write(shown(answered(face, name)), tmp_path / f"{name}.ipynb")
    done = nbgrader(tmp_path, "validate", f"{name}.ipynb")
    said = done.stdout + done.stderr
    if face == "solved":
        assert "Success! Your notebook passes all the tests." in said, said[-3000:]
    else:
        failing = len(graded(read(face, name)))
        assert f"VALIDATION FAILED ON {failing} CELL(S)!" in said, said[-3000:]
