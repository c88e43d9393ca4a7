"""Who is who: of a class in the form of any platform nobody is merged, split, renamed or lost without a word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

import classes
import grading_zoo
import pytest
from classes import PEOPLE, File, made_by, zipped

from classroom.__main__ import main
from classroom.grading import sandbox
from classroom.grading.handed_in.find import Found, find
from classroom.grading.handed_in.handed_out import HandedOut
from classroom.grading.handed_in.people import alike
from classroom.grading.handed_in.read import one_line
from classroom.grading.handed_in.take import Taken, take
from classroom.grading.plan import plans
from classroom.grading.records import Rules, Submission
from classroom.grading.scoring import grade
from classroom.grading.who import Who
from classroom.grading.wording import COURSES_ORDER, OTHER_ORDER, OWN_ORDER
from classroom.quizzes import declarations
from classroom.quizzes.variants import read_variants
from classroom.releasing.folders import folders

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {path.name[:2]: HandedOut.load(path) for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}


def tiny(number: str) -> bytes:
    """Enough of a notebook to know which one it is."""
    marks = [cell.grade_id for cell in NOTEBOOKS[number].cells if cell.grade_id][:3]
    cells = [{"cell_type": "code", "metadata": {"nbgrader": {"grade_id": mark}}, "source": ""} for mark in marks]
    return json.dumps({"cells": cells, "nbformat": 4}).encode()


TINY = {number: tiny(number) for number in NOTEBOOKS}


def put(folder: Path, *names: str, number: str = "03") -> Path:
    for name in names:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(TINY[number])
    return folder


def students(path: Path) -> list[tuple[str, str]]:
    return [(each.student, each.notebook) for each in find(path, NOTEBOOKS).submissions]


# --------------------------------------------------------------------------------------------------- a class of sixty


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("platform", classes.PLATFORMS)
def test_a_class_of_sixty(platform, renamed, tmp_path):
    files = made_by(platform, TINY)
    if renamed:  # and packed once more, with a folder around it
        files = [File(f"My class/{file.path}", file.data, file.whose) for file in files]
    path = tmp_path / ("all of it.zip" if renamed else "submissions.zip")
    path.write_bytes(zipped(files))
    found = find(path, NOTEBOOKS)
    handed_in = {number for file in files for number in file.whose}
    assert len(handed_in) == 60 if "Google" not in platform else len(handed_in) > 50
    said = [(each.student, each.name) for each in (*found.submissions, *found.unread)]
    said += [(each.student, each.trouble) for each in found.submissions if not each.source]
    theirs: dict[str, set[int]] = {}
    for file in files:
        owners = {student for student, text in said if one_line(file.path, 300) in text}
        assert len(owners) == len(file.whose), f"{file.path}: split, or lost without a word: {owners}"
        for student in owners:
            theirs.setdefault(student, set()).update(file.whose)
    assert not [both for both in theirs.values() if len(both) > 1], "merged"
    assert sum(map(len, theirs.values())) == len(handed_in), "split"


@pytest.mark.parametrize("platform", ["nbgrader", "Blackboard", "GitHub Classroom"])
def test_who_has_a_login_goes_by_it(platform, tmp_path):
    (tmp_path / "x.zip").write_bytes(zipped(made_by(platform, TINY)))
    assert {student for student, _ in students(tmp_path / "x.zip")} == {person.login for person in PEOPLE}


def test_google_classrooms_files_go_by_what_stands_before_the_dash(tmp_path):
    files = made_by("Google Classroom", TINY)
    (tmp_path / "x.zip").write_bytes(zipped(files))
    names = {normalize("NFC", one_line(PEOPLE[number - 1000].name, 120)) for file in files for number in file.whose}
    assert {student.partition(" [")[0] for student, _ in students(tmp_path / "x.zip")} == names


@pytest.mark.parametrize("platform", ["Moodle", "Moodle, side by side", "Canvas", "Gradescope"])
def test_names_of_platforms_are_found_on_the_class_list(platform, tmp_path):
    """As far as somebody is the only one of that name."""
    (tmp_path / "x.zip").write_bytes(zipped(made_by(platform, TINY)))
    names = [person.name for person in PEOPLE]
    who = Who(find(tmp_path / "x.zip", NOTEBOOKS), names)
    doubtful = {name for group in alike(dict.fromkeys(names)) for name in group}
    doubtful |= {name for name in names if names.count(name) > 1 or not any(map(str.isalnum, name))}
    assert len(doubtful) < 30
    assert set(names) - doubtful <= set(who.on_list.values())


# ------------------------------------------------------------------------------------------------ files side by side

TITLE = "03_forward_diffusion"


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (["student-01", "student-02", "student-03", "student-04"], None),
        (["student_01", "student_05"], None),
        (["group 05", "group 03"], None),
        (["group 05 - 03", "group 06 - 03", "group 03 - 03"], ["group 03", "group 05", "group 06"]),
        (["Gruppe 3", "Gruppe 03", "Gruppe 3b"], None),
        (["01", "02", "03", "04"], None),
        (["team-03"], None),
        (["ada-01", "ada-03", "bob-03"], ["ada-01", "ada-03", "bob"]),
        ([f"student_01_{TITLE}", f"student_02_{TITLE}"], ["student_01", "student_02"]),
        ([f"{TITLE}-student-03", f"{TITLE}-student-04"], ["student-03", "student-04"]),
        (["alice", "alice (1)", "alice (3)", "alice-Copy1", "Copy of alice", "Kopie von alice - 03"], ["alice"] * 6),
        (["ada_3", "bob 3"], ["ada", "bob"]),
        ([TITLE, f"{TITLE} (1)", f"{TITLE} (2)"], None),
        (["Untitled", "Untitled1", "Untitled (1)"], None),
        (["group 3", "group 4", "user_1_03_forward"], ["group 3", "group 4", "user_1"]),
        (["hoppergrace_99_5_03", "lovelaceada_98_6_Untitled", "x_LATE_7_8_03-1"], ["hoppergrace", "lovelaceada", "x"]),
        ([f"alice_{TITLE}", "alice_03_forward", "alice_forward_diffusion", "alice 03"], ["alice"] * 4),
        (["alice_03_final", "alice-03-solution-v2", "03 alice (2)", "alice_hw3"], ["alice"] * 4),
        (["Homework 3 - alice", "hw3_bob", "cyd-assignment-3"], ["alice", "bob", "cyd"]),
        ([f"alice_homework_{TITLE}", f"bob_{TITLE}_submission"], ["alice", "bob"]),
        (["Anna Blatt_03", "Anna_03", "Mary Weeks_03", "Mary_03"], ["Anna", "Anna Blatt", "Mary", "Mary Weeks"]),
        (["Lee Ann (2) - 03", "Lee Ann - 03", "Lee Ann - Untitled"], ["Lee Ann", "Lee Ann", "Lee Ann (2)"]),
        (["Grace Final - 03", "Grace - 03"], ["Grace", "Grace Final"]),
        (["ada@x.edu_03", "a.lovelace-03"], ["a.lovelace", "ada@x.edu"]),
    ],
)
@pytest.mark.parametrize("folder", ["", "Assignment 3/", "all of them/"])
def test_files_side_by_side(folder, names, right, tmp_path):
    """With a folder around them too, where more than one seems to have handed in."""
    put(tmp_path, *(f"{folder}{name}.ipynb" for name in names))
    found = [student for student, number in students(tmp_path) if number == "03"]
    nobodys = names[0] in (TITLE, "Untitled")  # then the folder is somebody's
    alone = folder == "all of them/" and (len(set(right or names)) == 1 or nobodys)
    assert found == (["all of them"] * len(names) if alone else sorted(right or names))


def test_numbers_of_notebooks_are_taken_out_where_they_agree_with_what_is_inside(tmp_path):
    for number in ("01", "03"):
        put(tmp_path, f"ada-{number}.ipynb", f"ada_{number}_x.ipynb", number=number)
    assert set(students(tmp_path)) == {("ada", "01"), ("ada", "03"), ("ada x", "01"), ("ada x", "03")}


def test_of_a_damaged_file_the_number_stays_the_students_where_it_is_in_others(tmp_path):
    put(tmp_path, "student-01.ipynb", "student-02.ipynb")
    (tmp_path / "student-03.ipynb").write_bytes(b"damaged")
    assert students(tmp_path) == [("student-01", "03"), ("student-02", "03"), ("student-03", "03")]


# ----------------------------------------------------------------------------------------------------------- folders

AB = ["ada", "bob"]


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (["ada/03.ipynb", "bob/03.ipynb"], AB),
        (["Assignment 3/ada/x.ipynb", "Assignment 3/bob/x.ipynb"], AB),
        (["Assignment 3/ada.ipynb"], ["ada"]),
        ([f"{TITLE}/ada/x.ipynb", f"{TITLE}/bob/x.ipynb"], AB),
        (["submitted/ada/hw/x.ipynb", "submitted/bob/hw/x.ipynb", "docs/plan.md", "nbgrader_config.py"], AB),
        (["week 3/submissions/ada/x.ipynb", "week 3/submissions/bob/x.ipynb"], AB),
        (["My course/week-3/ada/x.ipynb", "My course/week-3/bob/x.ipynb"], AB),
        (["autumn/ada.ipynb", "autumn/bob.ipynb"], AB),
        (["autumn/ada/x.ipynb", "autumn/bob/hw/x.ipynb"], AB),
        (["hw1/ada.ipynb", "hw2/ada.ipynb", "hw2/bob.ipynb"], ["ada", "ada", "bob"]),
        (["03/ada.ipynb", "03/bob.ipynb"], AB),
        (["Assignment 3/ada.ipynb", "Assignment 3/bob.ipynb", "cyd.ipynb"], ["ada", "bob", "cyd"]),
        (["Assignment 3/ada.ipynb", "Assignment 3/bob.ipynb", "cyd/03.ipynb"], ["ada", "bob", "cyd"]),
        (["01/ada.ipynb", "03/bob.ipynb", "cyd.ipynb"], ["01", "03", "cyd"]),
        (["01/03.ipynb", "02/03.ipynb", "03/03.ipynb"], ["01", "02", "03"]),
        ([f"0{i}/{TITLE}.ipynb" for i in (1, 2, 3)], ["01", "02", "03"]),
        (["01/solution.ipynb", "02/solution.ipynb", "03/solution.ipynb"], ["01", "02", "03"]),
        (["01/ada.ipynb", "02/ada.ipynb", "03/bob.ipynb"], ["01", "02", "03"]),
        (["group 01/final.ipynb", "group 03/final.ipynb"], ["group 01", "group 03"]),
        (["ada/03.ipynb", "ada/03-final.ipynb", "ada/Untitled.ipynb"], ["ada"] * 3),
        (["ada/hw1/03.ipynb", "ada/hw2/03.ipynb"], ["ada"] * 2),
        (["ada/notebooks/03.ipynb", "ada/old/03.ipynb"], ["ada"] * 2),
        (["Weeks/03.ipynb"], ["Weeks"]),
        (["assignment-3-ada/x.ipynb", "assignment-3-bob/x.ipynb"], AB),
        (["assignment-3-ada/x.ipynb", "assignment-4-ada/x.ipynb", "assignment-4-bob/x.ipynb"], ["ada", "ada", "bob"]),
        (["diffusion-submissions/diffusion-ada/x.ipynb", "diffusion-submissions/diffusion-bob/x.ipynb"], AB),
        ([f"{TITLE}-ada/x.ipynb", f"{TITLE}-bob/x.ipynb"], AB),
        (["team-1-ada/x.ipynb", "team-1-bob/x.ipynb"], ["team-1-ada", "team-1-bob"]),
        (["ada+week-3+2026-11-20 10:11:12.131415 UTC+a1/x.ipynb", "bob+hw+2026-11-20 10:11:12 UTC/x.ipynb"], AB),
        (["12-34 - Ada L. - Nov 20, 2026 1011 AM/x.ipynb", "13-35 - B - Nov 2, 2026 911 PM/x.ipynb"], ["Ada L.", "B"]),
        (["Participant_7_assignsubmission_file/x.ipynb", "Participant_9_assignsubmission_file/x.ipynb"],
         ["Participant 7", "Participant 9"]),
        (["Group A_7_assignsubmission_file/x.ipynb", "Default group_assignsubmission_file/x.ipynb"],
         ["Default group", "Group A"]),
        (["anon_x9f2a_56789_03.ipynb", "LATE_anon_b7c1d_56790_03.ipynb"], ["anon_b7c1d", "anon_x9f2a"]),
        (["submissions/lovelaceada_12_56789_03.ipynb", "submissions/hopper_LATE_13_5679_03.ipynb", "late/03.ipynb"],
         ["hopper", "late", "lovelaceada"]),
    ],
)  # fmt: skip
def test_folders(names, right, tmp_path):
    put(tmp_path / "x", *names)
    assert [student for student, _ in students(tmp_path / "x")] == right
    (tmp_path / "any name.zip").write_bytes(zipped(File(name, TINY["03"]) for name in names))
    assert [student for student, _ in students(tmp_path / "any name.zip")] == right


def test_names_in_letters_that_are_the_same_are_one_persons_and_that_is_said(tmp_path):
    put(tmp_path, "Mu\u0308ller/03.ipynb", "M\u00fcller/04.ipynb")
    said = "one person, whose name is written in letters that are the same for Unicode: M\u00fcller"
    assert said in Who(find(tmp_path, NOTEBOOKS)).lines([])


def test_folders_taken_for_ones_around_the_class_are_said(tmp_path):
    put(tmp_path, "autumn/ada.ipynb", "autumn/bob.ipynb")
    assert Who(find(tmp_path, NOTEBOOKS)).lines([]) == ["taken for folders around the class, not for students: autumn"]


def test_groups_of_gradescope_are_graded_for_each_member(tmp_path):
    put(tmp_path, "x/submission_1/03.ipynb", "x/submission_2/03.ipynb")
    text = "submission_1:\n  :submitters:\n  - :name: Ada\n    :sid: '1'\n  - :name: \"Z\\xF6e\"\n    :sid: '2'\n"
    (tmp_path / "x" / "submission_metadata.yml").write_text(text)
    found = find(tmp_path, NOTEBOOKS).submissions
    assert [each.student for each in found] == ["Ada", "Z\u00f6e", "submission_2"]
    assert ["group" in " ".join(each.notes) for each in found] == [True, True, False]


def test_parts_of_google_drives_download(tmp_path):
    for part, names in {"001": ["Ada - 03.ipynb"], "002": ["Bob - 03.ipynb", "Ada - 04_unet.ipynb"]}.items():
        files = [File(f"Week 3/{name}", TINY["04" if "04" in name else "03"]) for name in names]
        (tmp_path / f"Week 3-20261120T101112Z-{part}.zip").write_bytes(zipped(files))
    assert students(tmp_path) == [("Ada", "03"), ("Ada", "04"), ("Bob", "03")]


def test_moodles_numbers_are_another_in_each_assignment(tmp_path):
    """So they tell people apart in one download, and not in several."""
    weeks = {
        "GEN-week 1-17.zip": {"Ada": ["31"], "Wei Zhang": ["32", "33"], "Bob": ["34"]},
        "GEN-week 3-19.zip": {"Ada": ["71"], "Wei Zhang": ["72"]},
    }
    for week, people in weeks.items():
        names = [f"{name}_{number}_assignsubmission_file/03.ipynb" for name in people for number in people[name]]
        (tmp_path / week).write_bytes(zipped(File(name, TINY["03"]) for name in names))
    found = find(tmp_path, NOTEBOOKS)
    marked = [f"Wei Zhang [{number}]" for number in (32, 33, 72)]
    assert [each.student for each in found.submissions] == ["Ada", "Ada", "Bob", *marked]
    said = Who(found).lines([])
    assert "taken for one person, by the name in several of Moodle's downloads: Ada" in said
    assert f"perhaps one person, graded as several: {' / '.join(marked)}" in said


def test_a_folder_of_zips(tmp_path):
    """Students' own, each with a folder in it or none; and those of two weeks."""
    for name in ("ada", "03_forward_diffusion_bob", "student-01", "student-02"):
        (tmp_path / "own").mkdir(exist_ok=True)
        inside = [File("project/03_forward_diffusion.ipynb", TINY["03"]), File("project/data.csv", b"1")]
        (tmp_path / "own" / f"{name}.zip").write_bytes(zipped(inside))
    (tmp_path / "own" / "cyd.zip").write_bytes(b"PK damaged")
    assert students(tmp_path / "own") == [
        ("ada", "03"), ("bob", "03"), ("cyd", ""), ("student-01", "03"), ("student-02", "03"),
    ]  # fmt: skip
    (tmp_path / "weeks").mkdir()
    for week in ("week 1", "week 2"):
        files = [File(f"{name}/03.ipynb", TINY["03"]) for name in AB]
        (tmp_path / "weeks" / f"{week}.zip").write_bytes(zipped(files))
    assert [student for student, _ in students(tmp_path / "weeks")] == ["ada", "ada", "bob", "bob"]


# ----------------------------------------------------------------------------------------------- what is no notebook


def test_what_can_be_read_is_read_and_the_rest_is_named(tmp_path):
    notebook = TINY["03"]
    inner = zipped([File("hw.zip", zipped([File("a/03.ipynb", notebook)]))])
    contents = {
        "ada/03.ipynb.txt": notebook, "bob/03.ipynb.json": notebook, "cyd/03.txt": notebook, "dan/hw.zip": inner,
        "eve/03.html": b"<html>", "fay/03.py": b"x = 1", "gus/03.pdf": b"%PDF", "hal/work.rar": b"Rar!",
        "ivy/hw.zip": b"PK\x03\x04", "jan/03": notebook, "kim/03.ipynb": notebook, "kim/figure.png": b"png",
        "kim/.DS_Store": b"", "liv/.DS_Store": b"",
    }  # fmt: skip
    files = [File(*each) for each in contents.items()]
    (tmp_path / "x.zip").write_bytes(zipped(files))
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        archive.extractall(tmp_path / "x")
    for path in (tmp_path / "x.zip", tmp_path / "x"):
        found = find(path, NOTEBOOKS)
        assert [each.student for each in found.submissions if each.notebook] == [
            "ada",
            "bob",
            "cyd",
            "dan",
            "jan",
            "kim",
        ]
        assert all(each.load() for each in found.submissions if each.notebook)
        troubles = {each.student: each.trouble for each in found.submissions if not each.notebook}
        assert list(troubles) == ["eve", "fay", "gus", "hal", "ivy", "liv"]
        for student, word in {"eve": "a web page", "fay": "a script", "gus": "a PDF", "hal": "an archive",
                              "ivy": "not a zip", "liv": "no notebook in this folder"}.items():  # fmt: skip
            assert word in troubles[student]
        assert [(each.student, each.name) for each in found.unread] == [("kim", "kim/figure.png")]
        (kim,) = (each for each in found.submissions if each.student == "kim")
        assert any("kim/figure.png" in note for note in kim.notes)


def test_of_files_beside_a_flat_class_hand_ins_are_students_and_tables_are_not(tmp_path):
    put(tmp_path, "ada.ipynb", "grades.graded.jsonl", "grades-totals.csv", "grades-feedback/ada.html")
    for name in ("bob.html", "ada - notes.pdf", "roster.csv", "README.md"):
        (tmp_path / name).write_bytes(b"x")
    found = find(tmp_path, NOTEBOOKS)
    assert [each.student for each in found.submissions] == ["ada", "bob"]
    assert [(each.student, each.name) for each in found.unread] == [
        ("", "README.md"), ("", "roster.csv"), ("ada", "ada - notes.pdf")
    ]  # fmt: skip


def test_zips_within_zips_have_an_end(tmp_path):
    data = TINY["03"]
    for _ in range(6):
        data = zipped([File("x.zip", data)])
    (tmp_path / "x.zip").write_bytes(zipped([File("ada/hw.zip", data), File("bob/03.ipynb", TINY["03"])]))
    ada, bob = find(tmp_path / "x.zip", NOTEBOOKS).submissions
    assert (ada.student, bob.student) == ("ada", "bob") and "zips within each other" in ada.trouble


def test_names_of_any_length_and_depth_take_no_time(tmp_path):
    """Of students' own zips they are theirs to choose."""
    for name in (" " * 30_000 + "x", "a/" * 15_000 + "x", "(1)" * 9_000):
        (tmp_path / "x.zip").write_bytes(
            zipped([File(f"ada/{name}.ipynb", TINY["03"]), File("ada/03.ipynb", TINY["03"])])
        )
        (tmp_path / "y.zip").write_bytes(zipped([File("bob/x.zip", (tmp_path / "x.zip").read_bytes())]))
        for path, student in {"x.zip": "ada", "y.zip": "bob"}.items():
            found = find(tmp_path / path, NOTEBOOKS)
            assert {each.student for each in found.submissions} == {student}
            assert sum(bool(each.trouble) for each in found.submissions) + len(found.unread) == 1


# -------------------------------------------------------------------------------------------------------- the summary


def test_the_summary_counts_students_and_files_and_names_whom_to_look_at(tmp_path):
    put(tmp_path, "ada/03.ipynb", "ada/03 (1).ipynb", "Ada/03.ipynb", "grace hopper/03.ipynb", "Hopper, Grace/03.ipynb")
    (tmp_path / "ada" / "x.pdf").write_bytes(b"%PDF")
    (tmp_path / "bob").mkdir()
    who = Who(find(tmp_path, NOTEBOOKS), ["ada", "Bob", "Grace Hopper", "Zo\u00eb"])
    assert who.counts() == "5 students, 5 files"
    assert who.lines([]) == [
        "ada has 2 files for notebook 03, of which the best counts: ada/03 (1).ipynb, ada/03.ipynb",
        "not read, ada: ada/x.pdf (a PDF)",
        "perhaps one person, graded as several: Ada / ada",
        "perhaps one person, graded as several: Hopper, Grace / grace hopper",
        "written otherwise on the class list: Ada is ada, Hopper, Grace is Grace Hopper, bob is Bob, grace hopper is "
        "Grace Hopper",
        "nothing handed in by 1: Zo\u00eb",
    ]
    notes = {each.student: each.notes[-1] for each in who.submissions if each.notes}
    assert notes["Ada"] == "on the class list as ada" and notes["bob"] == "on the class list as Bob"
    assert (
        Who(find(tmp_path, NOTEBOOKS), ["ada"]).lines([])[-1]
        == "not on the class list: Hopper, Grace; bob; grace hopper"
    )


@pytest.mark.parametrize(
    "names",
    [
        ("Ada Lovelace", "ada lovelace"),
        ("Ada Lovelace", "Lovelace, Ada"),
        ("Ada Lovelace", "lovelaceada"),
        ("Ada Lovelace", "ada.lovelace"),
        ("Patrick O'Brien", "Patrick OBrien"),
        ("Patrick O'Brien", "Patrick O\u2019Brien"),
        ("J\u00f6rg", "J\u00c3\u00b6rg"),
        ("S\u00f8ren", "Soren"),
        ("Wei Zhang [17]", "Wei Zhang [23]"),
        ("\u0410da", "Ada"),
    ],
)
def test_names_that_could_be_one_persons(names):
    assert alike([*names, "Grace Hopper"]) == [tuple(sorted(names))]


@pytest.mark.parametrize(
    "names", [("J\u00f6rg", "J\u00fcrg"), ("student-1", "student-12"), ("Ada", "Ada Lovelace"), ("\u738b", "\u674e")]
)
def test_names_of_two_people(names):
    assert alike(names) == []


# -------------------------------------------------------------------------------------------- an order of one's own


@pytest.fixture(scope="module")
def exam(tmp_path_factory) -> Path:
    """Notebook 00 with the options in another order for each of three students."""
    folder = tmp_path_factory.mktemp("exam")
    (folder / "list.csv").write_text("First name,Last name\nAda,Lovelace\nPat,O'Neil\nEmmy,Noether\n", encoding="utf-8")
    roster, out = ["--seed-per-student", str(folder / "list.csv")], ["--out", str(folder / "exam")]
    assert main(["release", "--notebooks", "00", "--no-solutions", *roster, *out]) == 0
    return folder / "exam"


def orders(exam: Path) -> dict[str, dict[str, str]]:
    return read_variants((exam / "variants.json").read_bytes()).orders()


def solved(exam: Path, folder: str = "", student: str = "") -> bytes:
    """What an honest student hands in: her own version, or else everybody's."""
    path = exam / "students" / folder / "notebooks" / "00_start_here.ipynb" if folder else PLAIN
    notebook = grading_zoo.filled(grading_zoo.load(path), grading_zoo.load(ROOT / "solutions" / PLAIN.name))
    for cell in grading_zoo.answers(notebook):
        quiz = declarations.get(grading_zoo.quiz(cell))
        if isinstance(quiz, declarations.Concept):
            order = orders(exam)[student][quiz.id] if student else "abcdef"
            cell["source"] = f'{NOTEBOOKS["00"].names[quiz.id]} = "{"abcdef"[order.index(quiz.answer)]}"'
    return grading_zoo.text(notebook)


PLAIN = ROOT / "notebooks" / "00_start_here.ipynb"


class Reader(sandbox.Sandbox):
    """In the sandbox's place, for questions, which are only read."""

    def __init__(self) -> None:
        self.limits = sandbox.Limits()

    def read(self, data: bytes, number: str) -> Taken:
        return take(data, NOTEBOOKS[number])

    def run(self, *_) -> list:
        return []


def questions(data: bytes, student: str, listed: dict | None):
    """The report on the questions in a notebook 00, and whether each got its points."""
    plan = plans()["00"]
    plan = replace(plan, tasks=tuple(task for task in plan.tasks if isinstance(task.quiz, declarations.Concept)))
    found = Found([Submission(student, "00", "00.ipynb")])
    rules = Rules(7, None if listed is None else Who(found).by_student(listed))
    report = grade(found.submissions[0], data, {"00": plan}, Reader(), rules)
    return report.notes, report.points == report.out_of > 0


def test_ones_own_version_is_taken_out_as_everybodys(exam):
    plain, own = (
        take(solved(exam), NOTEBOOKS["00"]),
        take(solved(exam, "Ada Lovelace", "Ada Lovelace"), NOTEBOOKS["00"]),
    )
    assert own.notes == plain.notes == ()
    for mine, theirs in zip(own.answers, plain.answers, strict=True):
        if theirs.letter:
            assert (mine.order, theirs.order) == (orders(exam)["Ada Lovelace"][mine.quiz], "")
        else:
            assert mine == theirs
    edited = solved(exam, "Ada Lovelace", "Ada Lovelace").replace(b'order=\\"', b'sort=\\"')
    assert "check cells were edited" in take(edited, NOTEBOOKS["00"]).notes[0]


@pytest.mark.parametrize(
    ("student", "spelled"),
    [("Ada Lovelace", "Ada Lovelace"), ("Ada Lovelace", "ada lovelace"), ("Pat O'Neil", "Pat ONeil")],
)
def test_letters_mean_the_options_that_the_student_saw(student, spelled, exam):
    data = solved(exam, folders([student])[student], student)
    assert questions(data, spelled, orders(exam)) == ((), True)
    assert questions(data, spelled, None) == ((OWN_ORDER,), True)
    assert questions(data, "Eve", orders(exam)) == (("not on the roster of variants", OWN_ORDER), True)
    assert questions(data, "Emmy Noether", orders(exam))[0] == (OTHER_ORDER,)


def test_letters_of_everybodys_version(exam):
    plain = solved(exam)
    assert questions(plain, "Ada Lovelace", None) == ((), True)
    assert questions(plain, "Eve", orders(exam)) == (("not on the roster of variants", COURSES_ORDER), True)
    assert questions(plain, "Ada Lovelace", orders(exam))[0] == (OTHER_ORDER,)
    spoilt = solved(exam, "Ada Lovelace", "Ada Lovelace").replace(b'order=\\"', b'order=\\"z')
    assert questions(spoilt, "Ada Lovelace", orders(exam)) == ((OTHER_ORDER,), True)


@pytest.mark.skipif(bool(sandbox.why_not()) and not os.environ.get("CI"), reason="no sandbox here")
def test_a_class_is_graded(exam, tmp_path):
    """With what a platform makes of names, a group's text, a web page, and somebody whom nobody knows."""
    files = {
        "Ada Lovelace_11_assignsubmission_file/00.ipynb": solved(exam, "Ada Lovelace", "Ada Lovelace"),
        "Pat ONeil_12_assignsubmission_file/00.ipynb": solved(exam, "Pat O_Neil", "Pat O'Neil"),
        "Pat ONeil_12_assignsubmission_onlinetext/onlinetext.html": b"<p>",
        "Hal_15_assignsubmission_file/00.html": b"<html>",
    }
    (tmp_path / "week.zip").write_bytes(zipped(File(*each) for each in files.items()))
    listed = ["--roster", str(exam.parent / "list.csv"), "--variants", str(exam / "variants.json")]
    arguments = [*listed, "--workers", "1", "--out", str(tmp_path / "g.csv")]
    command = [sys.executable, "-m", "classroom", "grade", str(tmp_path / "week.zip"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 students, 2 files: 2 ok, 1 unreadable\n")
    assert "not read, Pat ONeil: Pat ONeil_12_assignsubmission_onlinetext/onlinetext.html (a web page)" in done.stdout
    assert "not on the class list: Hal\n" in done.stdout and "nothing handed in by 1: Emmy Noether\n" in done.stdout
    data = json.loads((tmp_path / "g.json").read_text())
    assert data["absent"] == ["Emmy Noether"] and [each["student"] for each in data["unread"]] == ["Pat ONeil"]
