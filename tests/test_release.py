"""`release`: the folder that a class gets, a set of notebooks for each student, and every way to ask for it wrongly."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

from classroom.__main__ import main
from classroom.authoring.masters import find_masters, read_master
from classroom.grading.handed_in.people import on_list
from classroom.quizzes import declarations, widgets
from classroom.quizzes import notebook as quizzes
from classroom.quizzes.declarations import Concept, Option
from classroom.quizzes.variants import (
    Variants,
    order_for,
    original_letter,
    read_variants,
    reordered,
    write_variants,
)  # fmt: skip
from classroom.releasing.folders import folders
from classroom.roster import read_roster

ROSTER = "Name;id\nAda Lovelace;ada\nGrace Hopper;grace\nEmmy Noether;émmy.n\n"
STUDENTS = ["ada", "grace", "émmy.n"]
CONCEPTS = {id: quiz for id, quiz in declarations.registered().items() if isinstance(quiz, Concept)}
HANDED_OUT = [
    "LICENSE", "Makefile", "README.md", "classroom", "course_utils", "notebooks", "pyproject.toml", "requirements.txt"
]  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """Everything, without solutions."""
    out = tmp_path_factory.mktemp("release") / "class"
    assert main(["release", "--no-solutions", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def variants(tmp_path_factory) -> Path:
    """Notebooks 00 and 03 for three students, with solutions."""
    folder = tmp_path_factory.mktemp("variants")
    (folder / "roster.csv").write_text(ROSTER, encoding="utf-8")
    roster, out = str(folder / "roster.csv"), folder / "exam"
    assert main(["release", "--notebooks", "00,3", "--seed-per-student", roster, "--seed", "5", "--out", str(out)]) == 0
    return out


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def notebooks(folder: Path) -> dict[str, nbformat.NotebookNode]:
    return {path.stem: nbformat.read(path, as_version=4) for path in sorted((folder / "notebooks").glob("*.ipynb"))}


def cell(notebook, role: str, quiz: str):
    found = [c for c in notebook.cells if c.metadata.get("course") == {"role": role, "quiz": quiz}]
    assert len(found) == 1
    return found[0]


def inside(bundle: Path, *command: str, **settings: str) -> subprocess.CompletedProcess:
    """Python in the bundle, with the bundle's library."""
    env = os.environ | {"PYTHONPATH": str(bundle), "PYTHONDONTWRITEBYTECODE": "1"} | settings
    return subprocess.run([sys.executable, *command], cwd=bundle, env=env, capture_output=True, text=True, timeout=300)


# ----------------------------------------------------------------------------------------------------------- the bundle


def test_it_holds_what_a_student_needs_and_nothing_of_the_teachers(bundle):
    assert sorted(path.name for path in bundle.iterdir()) == HANDED_OUT
    there = files(bundle)
    assert not [name for name in there if re.search(r"\.git|__pycache__", name)]
    machine = {name.split("/")[1] for name in there if name.startswith("classroom/")}
    assert machine == {"__init__.py", "quizzes", "lessons"}
    library = {name for name in files(ROOT) if re.match(r"course_utils/(models|shipped|data)/[^/]+$", name)}
    assert library and library <= there
    made = {path.name for path in (bundle / "notebooks").iterdir()}
    assert made == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}


def test_only_the_quizzes_of_its_notebooks_come_along(variants):
    declared = sorted(path.name for path in (variants / "course/classroom/lessons").glob("nb*.py"))
    assert declared == ["nb00.py", "nb03.py"]


def test_its_notebooks_without_solutions_hold_none(bundle):
    """Neither the folded cell nor, in the cells of a quiz, the lines that the master marks as the solution."""
    made, looked_at = notebooks(bundle), 0
    for path in find_masters(ROOT / "solutions"):
        text = "\n".join(c.source for c in made[path.stem].cells)
        assert "<details>" not in text and "BEGIN SOLUTION" not in text
        master = read_master(path)
        for answer in (c for c in master.cells if c.role == "answer"):
            solution = [" ".join(x.split()) for x in answer.region("SOLUTION").text.split("\n")]
            solution = [x for x in solution if x and not x.startswith("#")]
            cells = [c for c in made[path.stem].cells if c.metadata.get("course", {}).get("quiz") == answer.quiz]
            lines = [" ".join(x.split()) for c in cells if c.cell_type == "code" for x in c.source.split("\n")]
            assert "\n".join(["", *solution, ""]) not in "\n".join(["", *lines, ""]), answer.quiz
            looked_at += 1
    assert looked_at == len(declarations.registered())


def test_its_library_runs_checks_and_asks(bundle):
    code = """
import course_utils, pathlib
from classroom.quizzes import ask, check, declarations
assert pathlib.Path(course_utils.__file__).resolve().is_relative_to(pathlib.Path.cwd().resolve())
for id, quiz in declarations.registered().items():
    if hasattr(quiz, "reference"):
        quiz.draw_cases()
check("start/to-unit", lambda x: (x + 1) / 2)
check("start/to-unit", lambda x: x + 1 / 2)
ask("start/perfect-but", "b")
"""
    done = inside(bundle, "-c", code)
    assert done.returncode == 0, done.stderr
    passed, failed, asked = [line for line in done.stdout.splitlines() if line[:1] in "✓✗"]
    assert passed.startswith("✓ start/to-unit") and asked.startswith("✓ start/perfect-but")
    assert failed.startswith("✗ start/to-unit")


def test_one_notebook_alone_has_the_fixtures_that_its_quizzes_use(tmp_path):
    """Of all quizzes only its own came along; every case can be drawn and every fixture built."""
    for number in ("01", "07"):
        out = tmp_path / number
        assert main(["release", "--notebooks", number, "--out", str(out)]) == 0
        code = """
from classroom.quizzes import declarations
quizzes = [quiz for quiz in declarations.registered().values() if hasattr(quiz, "reference")]
for quiz in quizzes:
    for case in quiz.draw_cases():
        for value in case.args.values():
            if isinstance(value, declarations.Fixture):
                value.build()
print(len(quizzes), {quiz.module for quiz in quizzes})
"""
        done = inside(out, "-c", code)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(f" {{'classroom.lessons.nb{number}'}}\n")


def test_it_offers_no_command_that_cannot_work_there(bundle):
    assert "train" in inside(bundle, "-m", "course_utils", "--help").stdout
    for command in ("train", "sample", "doctor"):
        assert inside(bundle, "-m", "course_utils", command, "--help").returncode == 0
    assert not (bundle / "classroom" / "__main__.py").exists()


def alone() -> dict[str, str]:
    """The environment without what a `make` around the tests themselves would say to a `make` inside them."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_make_lab_opens_the_first_notebook(bundle, tmp_path):
    def opened(folder: Path) -> str:
        command = ["make", "-n", "--no-print-directory", "lab"]
        done = subprocess.run(command, cwd=folder, env=alone(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "pip install -r requirements.txt" in done.stdout  # not --quiet: these are long minutes
        assert "--ServerApp.root_dir=. " in done.stdout  # the README and the folders beside the notebooks are in reach
        return done.stdout.splitlines()[-1].split()[-1]

    assert opened(bundle) == "notebooks/00_start_here.ipynb"
    assert main(["release", "--notebooks", "03", "--out", str(tmp_path / "one")]) == 0
    assert opened(tmp_path / "one") == "notebooks/03_forward_diffusion.ipynb"
    (tmp_path / "none").mkdir()
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(bundle / name, tmp_path / "none")
    assert opened(tmp_path / "none") == "."


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_make_offers_what_works_in_a_bundle(bundle):
    def offered(folder: Path) -> set[str]:
        done = subprocess.run(["make", "--no-print-directory"], cwd=folder, env=alone(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return {line.split()[1] for line in done.stdout.splitlines()}

    assert offered(bundle) == {"lab", "doctor", "clean"}
    assert offered(ROOT) >= offered(bundle) | {"test", "test-all", "build"}


def test_with_solutions_the_notebooks_are_those_of_the_course(tmp_path):
    (tmp_path / "empty").mkdir()  # an empty folder is as good as none
    assert main(["release", "--out", str(tmp_path / "empty")]) == 0
    made = sorted(path.name for path in (tmp_path / "empty" / "notebooks").iterdir())
    assert made == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    for name in made:
        assert (tmp_path / "empty" / "notebooks" / name).read_bytes() == (ROOT / "notebooks" / name).read_bytes()


# ------------------------------------------------------------------------------------------------- an order per student


def test_orders_are_the_same_on_every_machine_and_differ_between_students():
    concept = CONCEPTS["start/perfect-but"]
    assert [order_for(name, concept) for name in STUDENTS] == ["bcda", "abdc", "cabd"]
    code = (
        "from classroom.quizzes import declarations, variants\n"
        "print(variants.order_for('émmy.n', declarations.get('start/perfect-but')))"
    )
    for seed in "12":
        assert inside(ROOT, "-c", code, PYTHONHASHSEED=seed).stdout.strip() == order_for("émmy.n", concept)
    many = [order_for(f"student {i}", concept) for i in range(600)]
    assert len(set(many)) == 24
    assert max(many.count(order) for order in set(many)) < 60  # 25 expected
    assert {order_for("ada", concept, seed) for seed in range(100)} == set(many)
    assert len({order_for("ada", other) for other in CONCEPTS.values()}) > 10


def test_every_student_gets_their_own_order_and_the_right_option_is_graded_right(variants, monkeypatch):
    """The notebook's text, its check cell, the card's buttons, the folded solution and the grader agree on letters."""
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")  # `ask` raises unless the letter is right
    orders = read_variants((variants / "variants.json").read_bytes()).orders()
    assert list(orders) == STUDENTS
    seen = 0
    for student in STUDENTS:
        for stem, notebook in notebooks(variants / "students" / student).items():
            for id, concept in CONCEPTS.items():
                if concept.module != f"classroom.lessons.nb{stem[:2]}":
                    continue
                order = orders[student][id]
                assert sorted(order) == list(concept.options)
                listed = re.findall(r"^\* \*\*(.)\*\* · (.*)$", cell(notebook, "question", id).source, re.MULTILINE)
                assert listed == [
                    (new, " ".join(concept.options[old].text.split())) for new, old in zip("abcdef", order)
                ]
                right = next(new for new in "abcd" if original_letter(new, order) == concept.answer)
                assert f"The answer is **{right}**." in cell(notebook, "solution", id).source
                passing = [letter for letter in "abcd" if _passes(cell(notebook, "check", id).source, letter)]
                assert passing == [right]
                seen += 1
    assert seen == 3 * 13


def _passes(check_cell: str, letter: str) -> bool:
    variable = re.search(r", (\w+), order=", check_cell)[1]
    try:
        exec(check_cell, {"ask": quizzes.ask, variable: letter})
    except AssertionError:
        return False
    return True


def test_all_else_is_the_same_for_all_and_nbgrader_takes_it(variants):
    from nbgrader.nbgraderformat import MetadataValidator
    from nbgrader.utils import compute_checksum

    firsts = notebooks(variants / "students" / STUDENTS[0])
    for student in STUDENTS:
        for stem, notebook in notebooks(variants / "students" / student).items():
            MetadataValidator().validate_nb(notebook)
            plain = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
            assert [c.id for c in notebook.cells] == [c.id for c in plain.cells]
            for mine, theirs, first in zip(notebook.cells, plain.cells, firsts[stem].cells):
                if "nbgrader" in mine.metadata:
                    assert mine.metadata.nbgrader.checksum == compute_checksum(mine)
                    assert {**mine.metadata.nbgrader, "checksum": ""} == {**theirs.metadata.nbgrader, "checksum": ""}
                if mine.metadata.get("course", {}).get("quiz") not in CONCEPTS:
                    assert mine == first
                    assert mine == theirs or mine.cell_type == "markdown"  # links go to notebooks that come along
            assert any(a.source != b.source for a, b in zip(notebook.cells, plain.cells))
    assert sorted(path.name for path in variants.iterdir()) == ["course", "students", "variants.json"]
    assert not (variants / "course" / "notebooks").exists()


def test_the_buttons_show_what_is_said_about_the_option_that_stands_there(monkeypatch, capsys):
    concept = CONCEPTS["start/perfect-but"]
    shown = []
    monkeypatch.setattr(widgets, "show_choice", lambda id, title, letters, feedback: shown.append(feedback))
    quizzes.ask(concept.id, "", order="bcda")
    quizzes.ask(concept.id, "a", order="bcda")
    quizzes.ask(concept.id, "b", order="bcda")
    empty, right, wrong = capsys.readouterr().out.splitlines()
    assert "no answer yet" in empty and right.startswith("✓") and wrong.startswith("✗")
    assert " ".join(concept.options["c"].feedback.split()) in wrong
    assert "a: right." in shown[0]("a") and "b: not this one." in shown[0]("b")


@pytest.mark.parametrize("order", ["abc", "aabc", "abcde", "ABCD", 7, ["a", "b", "c", "d"]])
def test_a_check_cell_with_a_spoilt_order_says_so_in_one_line(order, capsys, monkeypatch):
    quizzes.ask("start/perfect-but", "b", order=order)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "expected order= as the letters abcd" in said and "handed out" in said
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(AssertionError):
        quizzes.ask("start/perfect-but", "b", order=order)


def test_letters_go_back_to_the_declarations():
    options = {letter: Option(letter, letter, right=letter == "c") for letter in "abcde"}
    concept = Concept("demo/five", 1, "t", "q", options)
    for student in STUDENTS:
        order = order_for(student, concept)
        shown = reordered(concept, order)
        assert list(shown.options) == list("abcde")
        assert original_letter(shown.answer, order) == "c"
        assert [original_letter(letter, order) for letter in "abcde"] == list(order)
    for letter in ("f", "", "ab", "?"):
        assert original_letter(letter, "edcba") == letter


def test_no_option_speaks_of_another_by_its_letter():
    """A letter in the text would be wrong as soon as the order is another."""
    for id, concept in CONCEPTS.items():
        texts = [concept.question, concept.explanation]
        texts += [text for option in concept.options.values() for text in (option.text, option.feedback)]
        for text in texts:
            spoken = re.search(r"\b(option|answer|choice|letter)s? [*`(]*[a-f]\b", text, re.IGNORECASE)
            assert not spoken, f"{id}: {text}"


def test_variants_are_read_as_they_were_written():
    assert read_variants(write_variants(3, STUDENTS)) == Variants(3, tuple(STUDENTS))
    for content in (b"", b"[]", b"7", b'{"seed": 1}', b'{"seed": "1", "students": []}', b'{"seed": 1, "students": [2]}',
                    b'{"seed": true, "students": []}', b"\xff"):  # fmt: skip
        with pytest.raises(ValueError, match=r"expected variants\.json"):
            read_variants(content)
    assert json.loads(write_variants(3, ["é"])) == {"seed": 3, "students": ["é"]}


# ---------------------------------------------------------------------------------------------------------- wrong input

ROSTERS = {
    "": "expected a column of names in its first line: student, id, First name and Last name, Name, Username; got no",
    "who,mail\nAda,a@b\n": "got who, mail (--column says which one it is)",
    "student\n": "expected a student in each line below the titles, got none",
    "student\nada\nbob\nada\n": ":4: 'ada' is in the list twice",
    "id\nada\nADA\n": ":3: 'ADA' is in the list twice",
    "name,id\nAda,ada\nBob,\n": ":3: expected a student's name in the column id, got nothing",
    "name,id\nAda,ada\nBob\n": ":3: expected a student's name in the column id, got nothing",
    'id\n"ada\n': "expected a CSV file",
    "PK\3\4": "got a spreadsheet: save it as CSV",
}


def refused(tmp_path: Path, capsys, *arguments: str) -> str:
    """What `release` says, in one line, while it writes nothing."""
    before = files(tmp_path)
    try:
        status = main(["release", *arguments])
    except SystemExit as stopped:
        status = stopped.code
    said = capsys.readouterr()
    assert status == 2 and not said.out
    assert said.err.count("\n") == 1, said.err
    assert files(tmp_path) == before and not list(tmp_path.glob(".*"))
    return said.err


@pytest.mark.parametrize("text", ROSTERS)
def test_a_roster_that_cannot_be_used(text, tmp_path, capsys):
    (tmp_path / "roster.csv").write_text(text, encoding="utf-8")
    roster, out = str(tmp_path / "roster.csv"), str(tmp_path / "out")
    assert ROSTERS[text] in refused(tmp_path, capsys, "--notebooks", "00", "--seed-per-student", roster, "--out", out)


def test_a_roster_that_cannot_be_read(tmp_path, capsys):
    rest = ["--notebooks", "00", "--out", str(tmp_path / "out")]
    missing = str(tmp_path / "nowhere.csv")
    assert f"'{missing}': No such file" in refused(tmp_path, capsys, "--seed-per-student", missing, *rest)
    assert "Is a directory" in refused(tmp_path, capsys, "--seed-per-student", str(tmp_path), *rest)
    said = refused(tmp_path, capsys, "--column", "Id", *rest)
    assert "--column is for the class list" in said
    (tmp_path / "list.csv").write_text("id\nada\n")
    said = refused(tmp_path, capsys, "--seed-per-student", str(tmp_path / "list.csv"), "--column", "Login", *rest)
    assert "expected --column as one of its titles, id; got 'Login'" in said


# What platforms export, and the names under which they deliver what was handed in.
EXPORTED = {
    "ours": (b"\xef\xbb\xbfID,last_name\r\n ada ,Lovelace\r\n\r\nbob@uni-x.org,B\r\n", ["ada", "bob@uni-x.org"]),
    "with tabs": (b"name\tId\nx\tada\nx\tbob@uni-x.org\n", ["ada", "bob@uni-x.org"]),
    "with semicolons": (b"id;Student\n7;ada\n8;bob@uni-x.org\n", ["ada", "bob@uni-x.org"]),
    "for Excel": (b'sep=;\nstudent;x\n"ada";1,2,3\nbob', ["ada", "bob"]),
    "in old letters": ("id\nJos\u00e9\n".encode("cp1252"), ["Jos\u00e9"]),
    "in two signs for a letter": ("id\nJose\u0301\n".encode(), ["Jos\u00e9"]),
    "nbgrader": (b"id,first_name,last_name,email\nada,Ada,Lovelace,a@x\n", ["ada"]),
    "Moodle": (
        '"First name","Last name","ID number","Email address"\nAda,Lovelace,,a@x\nPat,O\'Neil,7,\n'.encode("utf-8-sig"),
        ["Ada Lovelace", "Pat O'Neil"],
    ),
    "Moodle, before 4": (b"First name;Surname;ID number;Institution\nAda;King  Lovelace;1;\n", ["Ada King Lovelace"]),
    "Moodle, in German": ("Vorname;Nachname;ID-Nummer\nJ\u00f6rg;Weiß;1\n".encode("utf-16"), ["J\u00f6rg Weiß"]),
    "Moodle's worksheet": (b"Identifier,Full name,Email address,Status\nParticipant 7,Ada L,a@x,-\n", ["Ada L"]),
    "Canvas": (
        b"Student,ID,SIS User ID,SIS Login ID,Section,Week 3 (77)\n,,,,,Manual Posting\n"
        b'    Points Possible,,,,,10\n"Lovelace, Ada",12,s1,ada,A,\n"Student, Test",13,,,A,\n',
        ["Lovelace, Ada"],
    ),
    "Gradescope": (
        b"First Name,Last Name,SID,Email,Role,Sections\nAda,Lovelace,1,a@x,Student,\nAlan,Kay,,k@x,Instructor,\n",
        ["Ada Lovelace"],
    ),
    "Gradescope, in one": (b"Name,SID,Email\nAda Lovelace,1,a@x\n", ["Ada Lovelace"]),
    "Blackboard": (
        "Last Name\tFirst Name\tUsername\tLast Access\nLovelace\tAda\tada_l\t\n".encode("utf-16"), ["ada_l"]
    ),
    "Blackboard, no mark": (
        "Last Name\tFirst Name\tUsername\tStudent ID\nLovelace\tAda\tada_l\t1\n".encode("utf-16-le"), ["ada_l"]
    ),
    "GitHub Classroom": (
        b'"identifier","github_username","github_id","name"\n"a@x","adalove","1",""\n"b@x","","",""\n',
        ["adalove", "b@x"],
    ),
    "Google Classroom": (
        b"Last Name,First Name,Email Address,W 3\nDate,,,2026\nPoints,,,10\nLovelace,Ada,a@x,9\nClass Average,,,9\n",
        ["Ada Lovelace"],
    ),
    "names that are no folders": (
        "student\n../x\n..\n/etc\nCON\na:b\n\U0001f642\ndot.\n".encode(),
        ["../x", "..", "/etc", "CON", "a:b", "\U0001f642", "dot."],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", EXPORTED)
def test_class_lists_are_read_as_they_are(kind, tmp_path):
    content, names = EXPORTED[kind]
    (tmp_path / "roster.csv").write_bytes(content)
    roster = read_roster(tmp_path / "roster.csv")
    assert list(roster.names) == names
    assert roster.about.startswith("names from the column") and "\n" not in roster.about
    assert {sorted(names)[0]} == set(on_list([sorted(names)[0]], names).values())


def test_the_column_is_chosen_and_said(tmp_path):
    (tmp_path / "roster.csv").write_text("Given,Family,Login\nAda,Lovelace,ada\nAda,Lovelace,ada2\n")
    assert read_roster(tmp_path / "roster.csv").about == "names from the column Login"
    assert read_roster(tmp_path / "roster.csv", "login").names == ("ada", "ada2")
    with pytest.raises(ValueError, match="'Ada Lovelace' is in the list twice"):
        read_roster(tmp_path / "roster.csv", "Given + Family")
    (tmp_path / "roster.csv").write_text("First name,Last name\nAda,Lovelace\nWei,Zhang\nWei,Zhang\n")
    roster = read_roster(tmp_path / "roster.csv")
    assert roster.names == ("Ada Lovelace", "Wei Zhang")
    assert roster.about.endswith("; several students share a name: Wei Zhang")


def test_every_student_gets_a_folder_of_their_own(tmp_path):
    names = [
        "O'Neil",
        "O/Neil",
        "CON",
        "con",
        "..",
        "../x",
        ".x",
        "a:b",
        "dot.",
        "\u738b" * 99,
        "\u738b" * 98,
        "\U0001f642",
    ]
    made = folders([*names, "x" * 300])
    assert len({folder.casefold() for folder in made.values()}) == len(names) + 1
    for folder in made.values():
        (tmp_path / folder).mkdir()  # and nowhere else
        assert not re.search(r"""[<>:"/\\|?*']|^[ .]|[ .]$""", folder)
        assert folder.split(".")[0].upper() not in ("CON", "NUL")
    assert len(list(tmp_path.iterdir())) == len(made)
    assert folders(["Ada Lovelace", "ada@uni-x.org", "\u00e9mmy.n"]) == {
        n: n for n in ("Ada Lovelace", "ada@uni-x.org", "\u00e9mmy.n")
    }


def test_names_that_cannot_be_folders_stop_nothing(tmp_path, capsys):
    (tmp_path / "roster.csv").write_text("First name;Last name\nPat;O'Neil\nAda;Lovelace\n")
    out = tmp_path / "exam"
    roster = ["--seed-per-student", str(tmp_path / "roster.csv")]
    assert main(["release", "--notebooks", "00", "--no-solutions", *roster, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "names from the columns First name + Last name" in said and "Pat O'Neil in Pat O_Neil" in said
    assert sorted(path.name for path in (out / "students").iterdir()) == ["Ada Lovelace", "Pat O_Neil"]
    assert read_variants((out / "variants.json").read_bytes()).students == ("Pat O'Neil", "Ada Lovelace")


@pytest.mark.parametrize(
    ("numbers", "right"),
    [
        ("00,99", "no master numbered 99 in solutions/: expected one of 00"),
        ("", "expected --notebooks as numbers with commas between them, like 01,03, got ''"),
        ("01,", "got '01,'"),
        ("vae", "got 'vae'"),
        ("003", "got '003'"),
        ("01 03", "got '01 03'"),
    ],
)
def test_notebooks_that_do_not_exist(numbers, right, tmp_path, capsys):
    assert right in refused(tmp_path, capsys, "--notebooks", numbers, "--out", str(tmp_path / "out"))


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        said = refused(tmp_path, capsys, "--notebooks", "00", "--out", str(tmp_path / name))
        assert "exists already: expected a new or an empty folder" in said
    assert (tmp_path / "full" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    said = refused(tmp_path, capsys, "--notebooks", "00", "--out", str(tmp_path / "file" / "below"))
    assert "Not a directory" in said or "File exists" in said


def test_options_that_do_not_go_together(tmp_path, capsys):
    out = str(tmp_path / "out")
    assert "give --seed-per-student" in refused(tmp_path, capsys, "--seed", "3", "--out", out)
    assert "expected a whole number" in refused(tmp_path, capsys, "--seed", "-3", "--out", out)
    assert "--out" in refused(tmp_path, capsys)


def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path, capsys, monkeypatch):
    from classroom.releasing import bundle

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bundle, "_write_notebooks", full)
    (tmp_path / "out").mkdir()
    said = refused(tmp_path, capsys, "--notebooks", "00", "--out", str(tmp_path / "out"))
    assert f"'{tmp_path / 'out'}': No space left on device" in said
    assert list((tmp_path / "out").iterdir()) == []


def test_without_what_authors_need_it_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbgrader.preprocessors", None)
    assert "pip install -r requirements-dev.txt" in refused(
        tmp_path, capsys, "--notebooks", "00", "--out", str(tmp_path / "out")
    )
