"""The grader's way from what students handed in to their answers: nothing is lost, nothing hostile does harm."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import random
import stat
import time
import tracemalloc
import zipfile
from pathlib import Path

import grading_zoo
import nbformat
import pytest
from grading_zoo import ZOO
from thinning import one_in

from classroom.grading import reports as written
from classroom.grading.handed_in import find as finding
from classroom.grading.handed_in import places as placing
from classroom.grading.handed_in import skim as skimming
from classroom.grading.handed_in.find import twice
from classroom.grading.handed_in.handed_out import HandedOut
from classroom.grading.handed_in.letters import letter as letter_of
from classroom.grading.handed_in.people import told_apart
from classroom.grading.handed_in.python import Code
from classroom.grading.handed_in.read import Unreadable, one_line, read
from classroom.grading.handed_in.skim import Damaged, skim
from classroom.grading.handed_in.take import Taken, take
from classroom.grading.records import Report, Score, Trouble

ROOT = Path(__file__).resolve().parent.parent
PATHS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
NOTEBOOKS = {number: HandedOut.load(path) for number, path in PATHS.items()}
STEM = NOTEBOOKS["03"].stem


@pytest.fixture(scope="module")
def clean():
    return NOTEBOOKS["03"]


@pytest.fixture(scope="module")
def dicts():
    """The notebook as handed out and its solution, without outputs: small, and nothing of them counts."""
    both = grading_zoo.load(PATHS["03"]), grading_zoo.load(ROOT / "solutions" / f"{STEM}.ipynb")
    for cell in both[1]["cells"]:
        cell.pop("outputs", None)
    return both


def find(path, notebooks):
    """The submissions alone."""
    return finding.find(path, notebooks).submissions


def taken(text, clean):
    return take(text, clean)


def taken_from(submission, clean):
    """What the grader takes out of a submission when it is its turn."""
    try:
        return take(submission.load(), clean)
    except Trouble as trouble:
        return Taken((), (), str(trouble))


def reads_as(submission, data):
    """Whether a submission gives the cells and notes that are in `data`."""
    return not submission.trouble and read(submission.load()) == read(data)


def letter(source, name, quiz=""):
    return letter_of(None if source is None else Code(source), name, quiz)


def sources(notebook):
    return {grading_zoo.quiz(cell): "".join(cell["source"]) for cell in grading_zoo.answers(notebook)}


def meaning(source, name):
    """What a source gives a name: a letter, or the last definition without its comments."""
    tree = ast.parse(source)
    found = [node for node in tree.body if getattr(node, "name", None) == name]
    return ast.dump(found[-1]) if found else letter(source, name)[0]


def is_solved(answer, name, solved):
    return answer.source is not None and meaning(answer.source, name) == meaning(sources(solved)[answer.quiz], name)


# ------------------------------------------------------------------------------------------------------ the zoo


@pytest.mark.parametrize("name", one_in(3, ZOO))
def test_zoo(name, tmp_path, clean, dicts):
    handed_out, solved = dicts
    ZOO[name].put(tmp_path, STEM, handed_out, solved)
    (found,) = find(tmp_path, NOTEBOOKS)
    assert (found.student, found.notebook) == (name, "03") or (ZOO[name].expected == "unreadable")
    assert "\n" not in found.trouble
    names = clean.names
    result = taken_from(found, clean)
    if ZOO[name].expected == "unreadable":
        assert result.trouble and result.answers == () and "\n" not in result.trouble
        return
    assert not result.trouble
    assert [answer.quiz for answer in result.answers] == list(names)
    if ZOO[name].expected == "honest":  # what these are worth only running them tells: tests/test_grading_reader.py
        assert not any(answer.untouched or answer.trouble or answer.source is None for answer in result.answers)
        return
    right = {answer.quiz for answer in result.answers if is_solved(answer, names[answer.quiz], solved)}
    wanted = {"all": set(names), "none": set(), "half": set(grading_zoo.half(handed_out))}[ZOO[name].expected]
    assert right == wanted
    stubs = sources(handed_out)
    for answer in result.answers:
        if answer.quiz not in wanted:
            assert answer.source is None or not answer.source.strip() or answer.source == stubs[answer.quiz]
            assert answer.source or answer.note, "what is missing is said"


def test_the_zoo_as_one_batch(tmp_path, dicts):
    """Nobody stops the others, and every student is there."""
    for animal in ZOO.values():
        animal.put(tmp_path, STEM, *dicts)
    found = find(tmp_path, NOTEBOOKS)
    assert [each.student for each in found] == sorted(ZOO)
    assert found == find(tmp_path, NOTEBOOKS)


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_every_notebook_of_the_course(number):
    """Solved: every answer, and nothing to remark. Handed out: every stub, and nothing to remark."""
    clean = NOTEBOOKS[number]
    names = clean.names
    solved = grading_zoo.load(ROOT / "solutions" / PATHS[number].name)
    result = taken(grading_zoo.text(solved), clean)
    assert all(is_solved(answer, names[answer.quiz], solved) for answer in result.answers)
    assert len(result.answers) == len(names) and not any(answer.note for answer in result.answers)
    result = taken(PATHS[number].read_bytes(), clean)
    assert {a.quiz: a.source for a in result.answers} == sources(grading_zoo.load(PATHS[number]))
    assert not result.notes and not any(answer.note for answer in result.answers)


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_names_asked_for(number):
    from classroom.quizzes import declarations

    names = NOTEBOOKS[number].names
    assert names and all(declarations.get(id) and name.isidentifier() for id, name in names.items())


@pytest.mark.parametrize(
    ("animal", "said"),
    [
        ("first_tries_left_above", "2 cells answer it: the last one"),
        ("pasted_into_other_cells", "its own cell is as handed out"),
        ("answer_cells_deleted", "the answer cell is gone"),
        ("turned_into_markdown", "taken from a markdown cell"),
        ("helpers_in_cells_of_their_own", "taken along from other cells: MY_SCALE, my_half"),
        ("split_cells", "put together from 2 cells"),
        ("metadata_stripped", "no cell carries the marks"),
        ("reversed_cells", "another order"),
        ("checks_edited", "check cells were edited, which changes no score: forward/add-noise"),
        ("other_kernel", "its kernel speaks R"),
        ("format_3", "its format is 3"),
        ("utf_16", "saved as utf-16"),
        ("not_utf8_in_a_comment", "not UTF-8"),
        ("rests_of_a_longer_file_at_the_end", "behind the notebook's end"),
        ("a_hundred_thousand_cells", "only 5,000 were read"),
        ("conflict_markers", "conflict markers of git"),
        ("web_page", "a web page"),
        ("truncated", "breaks off"),
        ("nested_without_end", "nested without end"),
        ("a_link", "a link to another place"),
        ("a_pipe", "a pipe or a device"),
        ("empty_file", "the file is empty"),
        ("a_renamed_zip", "a zip archive"),
    ],
)
def test_what_was_odd_is_said(animal, said, tmp_path, clean, dicts):
    ZOO[animal].put(tmp_path, STEM, *dicts)
    (found,) = find(tmp_path, NOTEBOOKS)
    result = taken_from(found, clean)
    lines = [result.trouble, *result.notes, *(answer.note for answer in result.answers)]
    assert any(said in line for line in lines), lines


def test_any_bytes_are_taken_without_an_exception(clean, dicts):
    """Mutations of a real notebook: bytes flipped, cut out, doubled, and values exchanged for others."""
    draw = random.Random(7)
    notebook = grading_zoo.filled(*map(json.loads, map(json.dumps, dicts)))
    whole = grading_zoo.text(notebook)
    readable = 0
    for _ in range(60):
        text = bytearray(whole)
        for _ in range(draw.choice([1, 1, 3, 30])):
            at, size = draw.randrange(len(text)), draw.choice([1, 4, 300])
            text[at : at + size] = draw.choice(
                [b"", b"\0", b"\xff\xfe", b'"', b"}", text[at : at + size] * 2, b"\\ud800"]
            )
        result = taken(bytes(text), clean)
        assert bool(result.trouble) != bool(result.answers)
        readable += not result.trouble
    assert readable > 4, "some of them must get beyond the JSON"
    odd = [None, True, -1, 1e300, "", "x\udc80\0", [], {}, [[]], {"nbgrader": {"grade_id": []}}, ["\n", 3]]
    for _ in range(60):
        copy = json.loads(whole)
        for _ in range(draw.choice([1, 5, 50])):
            target = draw.choice([copy["metadata"], *(c for c in copy["cells"] if isinstance(c, dict) and c)])
            target[draw.choice(sorted(target))] = json.loads(json.dumps(draw.choice(odd)))
            draw.shuffle(copy["cells"])
            if draw.random() < 0.2:
                copy["cells"][draw.randrange(len(copy["cells"]))] = draw.choice(odd)
            copy["nbformat"] = draw.choice([4, *odd])
        result = taken(json.dumps(copy).encode(), clean)
        assert len(result.answers) == len(clean.names)
        for answer in result.answers:
            (answer.source or "").encode()  # no lone surrogates: it can be written down


@pytest.mark.slow  # 96 answers of the worst kind
def test_sources_that_python_cannot_take(clean, dicts):
    """Nested far too deep, far too long, or slow for a parser: an answer is still an answer, and time is bounded."""
    hostile = [
        "-" * 90_000 + "1",
        "(" * 90_000,
        "a" + ".a" * 45_000,
        "x = 1\0\n" * 9_000,
        "#" * 3_000_000,
        "{" * 90_000,
    ]
    notebook = grading_zoo.load(PATHS["03"])
    began = time.monotonic()
    for source in hostile:
        for cell in grading_zoo.answers(notebook)[:16]:  # more would together be more than a file may hold
            cell["source"] = source
        result = taken(grading_zoo.text(notebook), clean)
        assert len(result.answers) == len(clean.names) and not result.trouble
        assert all(not letter(answer.source, "noisier")[0] for answer in result.answers)
    names = " ".join(clean.names.values())
    notebook["cells"] += [grading_zoo.code_cell(f"{names}\n" * 200 + f"x = {i}") for i in range(1000)]
    notebook["cells"] += [grading_zoo.code_cell(names.replace(" ", "\n") * 300 + f"\nx = {i}") for i in range(100)]
    assert taken(grading_zoo.text(notebook), clean).answers
    assert time.monotonic() - began < 60


# ---------------------------------------------------------------------------------------------- which cell counts


def with_answer(dicts, *cells):
    """The notebook handed out with `cells` in place of the answer cell of forward/noisier; and its place."""
    notebook = json.loads(json.dumps(dicts[0]))
    place = next(i for i, c in enumerate(notebook["cells"]) if grading_zoo.role(c) == "answer")
    notebook["cells"][place : place + 1] = [notebook["cells"][place] | cell for cell in cells]
    return grading_zoo.text(notebook)


def noisier(dicts, clean, *cells):
    answer = taken(with_answer(dicts, *cells), clean).answers[0]
    return letter(answer.source, "noisier")[0]


def test_of_several_answers_the_last_counts_but_no_stub(dicts, clean):
    stub = 'noisier = ""    # type a, b, c or d between the quotes'
    one, two, none = {"source": 'noisier = "b"'}, {"source": 'noisier = "c"'}, {"source": stub}
    assert noisier(dicts, clean, one, two) == "c"
    assert noisier(dicts, clean, two, one, none) == "b"
    assert noisier(dicts, clean, one, {"source": 'noisier = ""'}) == "b"
    assert noisier(dicts, clean, {"source": 'noisier = "a"', "cell_type": "markdown"}, two) == "c"
    assert noisier(dicts, clean, none, none) == ""


def test_the_answer_typed_into_the_check_cell(dicts, clean):
    notebook = json.loads(json.dumps(dicts[0]))
    check = next(cell for cell in notebook["cells"] if grading_zoo.role(cell) == "check")
    check["source"] = 'ask("forward/noisier", answer="d")'
    answer = taken(grading_zoo.text(notebook), clean).answers[0]
    assert letter(answer.source, "noisier", "forward/noisier")[0] == "d"
    check["source"] = 'ask("forward/curve", "d")'
    first, *others = taken(grading_zoo.text(notebook), clean).answers
    assert letter(first.source, "noisier") == ("", "")
    assert letter({a.quiz: a for a in others}["forward/curve"].source, "curve")[0] == "d"


def test_an_experiment_elsewhere_does_not_replace_an_answer(dicts, clean):
    """An answer in its own cell stands against whatever other cells do with the name."""
    notebook = grading_zoo.filled(*json.loads(json.dumps(dicts)))
    notebook["cells"].append(grading_zoo.code_cell("def add_noise(*a):\n    return None"))
    notebook["cells"].append(grading_zoo.code_cell('noisier = "c"\nfor curve in "abc":\n    pass'))
    result = taken(grading_zoo.text(notebook), clean)
    names = clean.names
    assert all(is_solved(answer, names[answer.quiz], dicts[1]) for answer in result.answers)


def test_words_that_only_look_like_an_answer(dicts, clean):
    """Where nothing was answered, loops, calls and other cells' variables are no answer."""
    notebook = json.loads(json.dumps(dicts[0]))
    for source in ("curve = 'cosine'", "for curve in 'b': pass", "curve = curves[0]", "posterior = 3", "b", "'curve'"):
        notebook["cells"].append(grading_zoo.code_cell(source))
    result = taken(grading_zoo.text(notebook), clean)
    assert {a.quiz: a.source for a in result.answers} == sources(dicts[0])


def test_helpers_are_taken_along_and_nothing_else(dicts, clean):
    """What the answer needs, in its order; not what the course defines itself, and not what happens to stand there."""
    notebook = json.loads(json.dumps(dicts[0]))
    place = list(clean.names.values()).index("linear_alpha_bar")
    cell = grading_zoo.answers(notebook)[place]
    cell["source"] = "def linear_alpha_bar(T, low=1, high=2):\n    beta = mine(T)\n    return normal(F.relu(beta))"
    above = ["import torch.nn.functional as F", "WIDTH = 3", "def mine(T):\n    return WIDTH * T", "print(never)"]
    others = ["def normal(x):\n    return 0", "beta = 4", "def add_noise(x):\n    return other", "other = 5"]
    notebook["cells"] += [grading_zoo.code_cell(source) for source in [*above, *others]]
    answer = taken(grading_zoo.text(notebook), clean).answers[place]
    needed = ["generator, T = lab.generator(0), 1000", *above[:3]]  # the first is the course's own: its `normal` draws
    assert (answer.above, answer.source) == ("\n".join(needed), cell["source"])
    assert answer.note == "taken along from other cells: F, WIDTH, mine"


def test_an_unreadable_letter_is_not_replaced_by_a_draft(dicts, clean):
    notebook = json.loads(json.dumps(dicts[0]))
    grading_zoo.answers(notebook)[0]["source"] = 'noisier = "abcd"'
    notebook["cells"].insert(0, grading_zoo.code_cell('noisier = "a"'))
    answer = taken(grading_zoo.text(notebook), clean).answers[0]
    assert answer.source == 'noisier = "abcd"'
    assert noisier(dicts, clean, {"source": 'noisier = "b"'}, {"source": 'noisier = "abcd"'}) == ""


def test_a_broken_answer_stays_the_answer(dicts, clean):
    notebook = json.loads(json.dumps(dicts[0]))
    place = list(clean.names.values()).index("step_variances")
    cell = grading_zoo.answers(notebook)[place]
    cell["source"] = "def step_variances(kind, T:\n    return 1"
    answer = taken(grading_zoo.text(notebook), clean).answers[place]
    assert answer.source == cell["source"] and "syntax error in line 1" in answer.trouble


# ------------------------------------------------------------------------------------------------------- letters


@pytest.mark.parametrize(
    ("source", "right"),
    [
        ('noisier = "b"', "b"),
        ("noisier = 'B '  # I think", "b"),
        ('noisier = "b)"', "b"),
        ('noisier = ("b")', "b"),
        ('noisier = "(b)."', "b"),
        ('noisier = "answer: b"', "b"),
        ('noisier: str = "b"', "b"),
        ('noisier = """\nb\n"""', "b"),
        ('noisier = "b",', "b"),
        ('x = noisier = "b"', "b"),
        ('noisier = "a"\nnoisier = "b"', "b"),
        ('choice = "b"\nnoisier = choice', "b"),
        ('### BEGIN SOLUTION\nnoisier = "b"\n### END SOLUTION', "b"),
        ("noisier = b", "b"),
        ("noisier = B  # sure", "b"),
        ('noisier = "b', "b"),
        ("noisier = “b”", "b"),
        ('noisier = "b")', "b"),
        ("  noisier = 'b'", "b"),
        ('"b"', "b"),
        ("b", "b"),
        ('ask("forward/noisier", answer="b")', "b"),
        ('noisier = ""\nask("forward/noisier", "b")', "b"),
        ('noisier = "b"\nask("forward/noisier", noisier)', "b"),
        ('noisier = "ｂ"', "b"),
        ('noisier = ""', ""),
        ("noisier = None", ""),
        ("noisier = ...", ""),
        (None, ""),
        ("", ""),
        ("# nothing yet", ""),
        ('noisier = "abcd"', ""),
        ('noisier = "a or b"', ""),
        ('noisier = ["a", "b"]', ""),
        ('noisier = "a", "b"', ""),
        ('noisier = "b" + ""', "b"),
        ('noisier = "b" + step', ""),
        ('noisier, why = "b", "because"', "b"),
        ('[(noisier, why), rest] = ["b", 1], 2', "b"),
        ('[(noisier, why), rest] = ("b", 1), 2', "b"),
        ("noisier, why = both", ""),
        ('noisier = ""\nnoisier += "b"', "b"),
        ('noisier = f"b"', "b"),
        ('noisier = f"{step}"', ""),
        ('noisier = " B".strip().lower()', "b"),
        ('noisier = "b".replace("b", "c")', ""),
        ('noisier = str("b")', "b"),
        ('print(noisier := "b")', "b"),
        ('mine = "b"\nask("forward/noisier", mine)', "b"),
        ('mine = step\nask("forward/noisier", mine)', ""),
        ('import classroom\nclassroom.ask("forward/noisier", "b")', "b"),
        ('noisier = "a" "b"', ""),
        ('noisier = f"{1}b"', ""),
        ("noisier = chr(98)", ""),
        ("noisier = 2", ""),
        ("noisier = b'b'", ""),
        ('noisier = "b"\nnoisier += "c"', ""),
        ('noisier = "b"\nif True:\n    noisier = "c"', ""),
        ('noisier = "b"\nfor noisier in "abc": pass', ""),
        ('noisier = "b" if lucky else "c"', ""),
        ('noisy = "b"', ""),
        ('noisier == "b"', ""),
        ('noisier = "not b"', ""),
        ('noisier = "β"', ""),
        ("noisier = step", ""),
        ("import os; os._exit(1)", ""),
        ("-" * 99_000 + "1", ""),
        ("noisier = '" + "b" * 200_000 + "'", ""),
    ],
)
def test_letter(source, right):
    found, note = letter(source, "noisier")
    assert found == right
    assert "\n" not in note and len(note) < 200
    if found and f'noisier = "{found}"' not in source:
        plain = source.lower().replace(" ", "")
        assert note or f"'{found}'" in plain or f'"{found}"' in plain or '"""' in plain


@pytest.mark.parametrize("source", ['noisier = "abcd"', "noisier = f()", "noisier = [", 'noisy = "b"', "noisier = 2"])
def test_what_is_expected_is_said(source):
    assert letter(source, "noisier")[1].startswith('expected one letter in quotes, noisier = "b" for instance')


@pytest.mark.parametrize("source", [None, "", 'noisier = ""', "# later"])
def test_nothing_typed_is_nothing_odd(source):
    assert letter(source, "noisier") == ("", "")


# ------------------------------------------------------------------------------------------------------- layouts


@pytest.fixture(scope="module")
def small(dicts):
    """Bytes of a notebook 03 that a student handed in."""
    return grading_zoo.text(dicts[0])


def put(folder, *names, text=b"{}"):
    for name in names:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text)


def who(path):
    return [(each.student, each.notebook, each.name) for each in find(path, NOTEBOOKS)]


def test_nbgraders_layout(tmp_path):
    put(tmp_path, *(f"submitted/{s}/hw1/{STEM}.ipynb" for s in ("bob", "ada")), "submitted/ada/hw1/04_unet.ipynb")
    put(tmp_path, f"source/hw1/{STEM}.ipynb", f"release/hw1/{STEM}.ipynb", "gradebook.ipynb")
    right = [
        ("ada", "03", f"ada/hw1/{STEM}.ipynb"),
        ("ada", "04", "ada/hw1/04_unet.ipynb"),
        ("bob", "03", f"bob/hw1/{STEM}.ipynb"),
    ]
    assert who(tmp_path / "submitted") == right
    assert who(tmp_path) == [(student, number, f"submitted/{name}") for student, number, name in right]


def test_the_assignments_name_helps(tmp_path):
    put(tmp_path, f"ada/{STEM}/solution.ipynb", "bob/hw-03/mine.ipynb")
    assert [each[:2] for each in who(tmp_path)] == [("ada", "03"), ("bob", "03")]


@pytest.mark.parametrize(
    "name",
    [
        f"alice_{STEM}",
        f"{STEM}_alice",
        "alice-03",
        "03 alice",
        f"{STEM} - alice (1)",
        f"alice_{STEM}-Copy1",
        f"Copy of {STEM}_alice",
        f"{STEM}_alice copy 2",
        f"{STEM} - alice - Copy (2)",
        f"alice_{STEM}.ipynb",
        "alice_03-Forward-Diffusion",
        "alice",
    ],
)
def test_flat_names(name, tmp_path, small):
    put(tmp_path, f"{name}.ipynb", text=small)
    assert [each[:2] for each in who(tmp_path)] == [("alice", "03")]


def test_a_flat_name_with_other_numbers(tmp_path, small):
    put(tmp_path, "s1203_03.ipynb", f"04_{STEM}.ipynb", f"{STEM}.ipynb", text=small)
    assert [each[:2] for each in who(tmp_path)] == [(STEM, "03"), ("04", "03"), ("s1203", "03")]


def test_a_folder_for_each_assignment(tmp_path, small):
    put(tmp_path, f"{STEM}/ada.ipynb", f"{STEM}/bob_03.ipynb", text=small)
    assert [each[:2] for each in who(tmp_path)] == [("ada", "03"), ("bob", "03")]


def test_what_is_inside_overrules_a_wrong_name(tmp_path, small):
    put(tmp_path, "ada/04_unet.ipynb", "bob/Untitled.ipynb", text=small)
    put(tmp_path, "cyd/04_unet.ipynb", text=b"broken" + small[:20])
    assert [each[:2] for each in who(tmp_path)] == [("ada", "03"), ("bob", "03"), ("cyd", "04")]


def test_nobody_can_tell(tmp_path):
    put(tmp_path, "ada/Untitled.ipynb")
    (found,) = find(tmp_path, NOTEBOOKS)
    assert found.notebook == "" and "put its number" in found.trouble
    with pytest.raises(Trouble, match="put its number"):
        found.load()


def test_notebooks_need_no_name_of_their_own(tmp_path, small):
    put(tmp_path, "ada.ipynb", "bob_03.ipynb", text=small)
    clean = HandedOut.of(grading_zoo.load(PATHS["03"]))
    assert [(s.student, s.notebook) for s in find(tmp_path, {"03": clean})] == [("ada", "03"), ("bob", "03")]


def test_two_of_the_same(tmp_path, small):
    put(tmp_path, "ada/03.ipynb", "ada/03 (1).ipynb", "bob/03.ipynb", "bob/04.ipynb", text=small)
    found = find(tmp_path, {"03": NOTEBOOKS["03"]})
    assert twice(found) == {
        ("ada", "03"): ["ada/03 (1).ipynb", "ada/03.ipynb"],
        ("bob", "03"): ["bob/03.ipynb", "bob/04.ipynb"],
    }


def test_an_empty_folder_is_somebodys_too(tmp_path):
    put(tmp_path, "submitted/ada/03.ipynb", "submitted/bob/hw/notes.txt")
    (tmp_path / "submitted" / "cyd").mkdir()
    found = {each.student: each.trouble for each in find(tmp_path, NOTEBOOKS)}
    nothing = "no notebook was handed in, but submitted/bob/hw/notes.txt"
    assert found == {"ada": "", "bob": nothing, "cyd": "there is no notebook in this folder"}


def test_links_are_not_followed(tmp_path, small):
    put(tmp_path, "outside/03.ipynb", text=small)
    put(tmp_path, "in/bob/03.ipynb", text=small)
    (tmp_path / "in" / "ada").symlink_to(tmp_path / "outside", target_is_directory=True)
    (tmp_path / "in" / "bob" / "more").symlink_to("/")
    found = finding.find(tmp_path / "in", NOTEBOOKS)
    ada, bob = found.submissions
    assert (ada.student, bob.student) == ("ada", "bob") and "a link to another place" in ada.trouble
    assert [(each.student, each.name) for each in found.unread] == [("bob", "bob/more/")]
    assert "a link" in found.unread[0].why and reads_as(bob, small)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch, small):
    put(tmp_path, "ada/03.ipynb", "bob/03.ipynb", text=small)
    opened = os.open

    def refuse(path, *arguments, **named):
        if "ada" in str(path):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refuse)
    ada, bob = find(tmp_path, NOTEBOOKS)
    assert ada.trouble == "the file cannot be read: Permission denied" and ada.notebook == "03"
    assert reads_as(bob, small)


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch, small):
    put(tmp_path, "ada/03.ipynb", "bob/03.ipynb", text=small)
    scan = os.scandir

    def refuse(path):
        if "ada" in str(path):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    ada, bob = find(tmp_path, NOTEBOOKS)
    assert "the folder cannot be read: Permission denied" in ada.trouble and reads_as(bob, small)


def test_one_student_cannot_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(finding, "MOST_BYTES_EACH", 250)
    put(tmp_path, *(f"ada/{i}_03.ipynb" for i in range(5)), "bob/03.ipynb", text=b"{" + b" " * 100)
    found = find(tmp_path, NOTEBOOKS)
    assert [bool(each.trouble) for each in found] == [False, False, False, True, True, False]


def test_odd_file_names_stay_one_line(tmp_path):
    put(tmp_path, "a\nda\x1b[31m/03.ipynb")
    os.mkdir(os.fsencode(tmp_path) + b"/b\xffb")
    (found, empty) = find(tmp_path, NOTEBOOKS)
    assert found.student == "a da [31m" and found.name == "a da [31m/03.ipynb"
    empty.student.encode()


def test_what_is_no_place_for_submissions(tmp_path):
    with pytest.raises(FileNotFoundError, match="found nothing"):
        find(tmp_path / "no", NOTEBOOKS)
    put(tmp_path, "a.txt", "b.zip")
    for name in ("a.txt", "b.zip"):
        with pytest.raises(ValueError, match="expected a folder or a zip"):
            find(tmp_path / name, NOTEBOOKS)
    assert find(tmp_path, NOTEBOOKS) == []


# ---------------------------------------------------------------------------------------------------------- zips


def zipped(path, entries, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, text in entries:
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("wrapper", one_in(2, ["Homework/submitted/", "", "submitted/", "Homework/"]))
def test_a_zip_reads_like_its_folder(wrapper, tmp_path, small):
    names = [f"ada/hw/{STEM}.ipynb", "bob/03.ipynb", "cyd/04.txt", "__MACOSX/ada/._03.ipynb", "bob/", "dan/"]
    path = zipped(tmp_path / "homework.zip", [(wrapper + name, small) for name in names])
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked" / "homework")
    for place in (path, tmp_path / "unpacked" / "homework", tmp_path / "unpacked"):
        *found, nothing = find(place, NOTEBOOKS)
        assert [(s.student, s.notebook) for s in found] == [("ada", "03"), ("bob", "03"), ("cyd", "03")]
        assert all(reads_as(each, small) for each in found)
        assert (nothing.student, nothing.trouble) == ("dan", "there is no notebook in this folder")
    flat = zipped(tmp_path / "flat.zip", [(f"ada_{STEM}.ipynb", small), (f"bob_{STEM}.ipynb", small)])
    assert [each[:2] for each in who(flat)] == [("ada", "03"), ("bob", "03")]


def test_a_zip_that_points_outside(tmp_path, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link = zipfile.ZipInfo("eve/03.ipynb")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    names = ["../up/03.ipynb", "/root/03.ipynb", "ada/03.ipynb", "bob/../../../03.ipynb", "C:\\dan\\03.ipynb"]
    path = zipped(tmp_path / "x.zip", [*((name, small) for name in names), (link, "/etc/passwd")])
    before = sorted(Path(tmp_path).rglob("*"))
    found = find(path, NOTEBOOKS)
    assert len(found) == 6 and sorted(Path(tmp_path).rglob("*")) == before
    assert [each.student for each in found if not each.trouble] == ["ada", "dan", "root"]  # nothing is written anyway
    assert sum("points outside" in each.trouble for each in found) == 2
    assert [each.student for each in found if "a link" in each.trouble] == ["eve"]


def test_zip_bombs_are_bounded(tmp_path, monkeypatch, small):
    monkeypatch.setattr(placing, "MOST_BYTES", 10_000)
    path = zipped(
        tmp_path / "x.zip",
        [("ada/03.ipynb", bytes(10_000_000)), ("bob/03.ipynb", bytes(10_000_000)), ("cyd/03.ipynb", b"{}")],
        compression=zipfile.ZIP_DEFLATED,
    )
    lied = path.read_bytes().replace((10_000_000).to_bytes(4, "little"), (5_000).to_bytes(4, "little"))
    liar = tmp_path / "liar.zip"
    liar.write_bytes(lied)
    for bomb in (path, liar):
        ada, bob, cyd = find(bomb, NOTEBOOKS)
        assert ada.trouble and bob.trouble
        assert cyd.load() == b"{}"


def test_damaged_and_encrypted_entries(tmp_path, small):
    buffer = io.BytesIO()
    zipped(buffer, [("ada/03.ipynb", small), ("bob/03.ipynb", b'{"cells": []}'), ("cyd/03.ipynb", b"{}")])
    data = bytearray(buffer.getvalue())
    data[data.index(b"ada/03.ipynb") + 500] ^= 0xFF
    place = data.rindex(b"PK\x01\x02", 0, data.rindex(b"cyd/03"))
    data[place + 8] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    ada, bob, cyd = find(tmp_path / "x.zip", NOTEBOOKS)
    assert bob.load() == b'{"cells":[]}'
    assert "encrypted" in cyd.trouble
    with pytest.raises(Trouble, match="damaged") as trouble:
        ada.load()
    assert "ada" not in str(trouble.value), "no path, which may be another's"


def test_one_line():
    assert one_line("a\nb\x00\ud800" + "c" * 200, 10) == "a b\ufffdccccc…"


@pytest.mark.parametrize("mark", ["grade_id", "id", "course"])
def test_each_mark_alone_finds_the_cell(mark, dicts, clean):
    """With a source that says nothing about which quiz it is meant for."""
    notebook = json.loads(json.dumps(dicts[0]))
    cell = grading_zoo.answers(notebook)[1]
    cell["source"] = "def ("
    meta = cell["metadata"]
    cell["metadata"] = {"grade_id": {"nbgrader": meta["nbgrader"]}, "id": {}, "course": {"course": meta["course"]}}[
        mark
    ]
    cell["id"] = cell["id"] if mark == "id" else "another"
    assert taken(grading_zoo.text(notebook), clean).answers[1].source == "def ("


def test_line_ends_within_a_json_text_are_read(dicts, clean):
    notebook = grading_zoo.filled(*json.loads(json.dumps(dicts)))
    text = grading_zoo.text(notebook).replace(b'noisier = \\"a\\"', b'noisier = \\"a\\"\n', 1)
    assert text.count(b'\\"a\\"\n') == 1
    assert letter(taken(text, clean).answers[0].source, "noisier")[0] == "a"


def test_a_file_that_grows_while_it_is_read():
    with pytest.raises(Trouble, match="longer than it says"):
        placing._bounded(io.BytesIO(bytes(100)).read, 10)(50)


# -------------------------------------------------------------------------------------------------- outputs of any size


def with_outputs(dicts, *outputs, **fields):
    """The solved notebook with these outputs below its first cells with code, and `fields` beside them."""
    notebook = grading_zoo.filled(*json.loads(json.dumps(dicts)))
    for cell in [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][:6]:
        cell |= {"outputs": list(outputs)} | fields
    return notebook


def put_outputs(folder, dicts, megabytes):
    """03.ipynb, solved, with one output of that size, written without ever being in memory."""
    begin, end = grading_zoo.text(with_outputs(dicts, "HERE")).split(b'"HERE"', 1)
    with open(folder / "03.ipynb", "wb") as file:
        file.write(begin + b'{"data": {"image/png": "')
        for _ in range(megabytes):
            file.write(b"iVBORw0K" * 2**17)
        file.write(b'"}}' + end.replace(b'"HERE"', b""))


def skimmed(data):
    return skim(io.BytesIO(data).read)


def peak_of(function):
    """What it returns, and the most memory that Python held for it, in MB."""
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


PICTURE = {"output_type": "display_data", "data": {"image/png": "iVBORw0K" * 9_000, "text/plain": ["<Figure>\n"]}}
PRINTED = {"output_type": "stream", "text": [f'epoch {i}: loss 0.{i} \\ \u2588 "ok"\n' for i in range(900)]}
PLOTTED = {"data": {"application/vnd.plotly": {"z": [[[i, -1.5e-3, None], {"x": [[[[[True]]]]]}] for i in range(900)]}}}


@pytest.mark.parametrize("piece", [2**20, 1000, 301])
@pytest.mark.parametrize(
    "make",
    [
        lambda dicts: with_outputs(dicts, PICTURE, PRINTED, PLOTTED),
        lambda dicts: with_outputs(dicts, attachments={"a.png": {"image/png": "iVBORw0K" * 9_000}}),
        lambda dicts: with_outputs(dicts) | {"metadata": {"widgets": {"s": PLOTTED}, "kernelspec": {"name": "ir"}}},
        lambda dicts: with_outputs(dicts, execution={"a": PLOTTED}) | {"papermill": PLOTTED, "signature": "x" * 9_000},
        lambda dicts: nbformat.convert(nbformat.from_dict(with_outputs(dicts)), 3) | {"more": PLOTTED},
        lambda dicts: with_outputs(dicts, {"source": "x = 1", "cells": [{"source": "x = 2"}], "cell_type": "code"}),
    ],
)
def test_a_notebook_without_its_outputs_is_the_same_notebook(make, piece, dicts, monkeypatch):
    monkeypatch.setattr(skimming, "PIECE", piece)
    monkeypatch.setattr(skimming, "AHEAD", min(piece, 2**16))
    notebook = make(dicts)
    for indent in (None, 1):
        data = json.dumps(notebook, indent=indent, ensure_ascii=indent is None).encode()
        small = skimmed(data)
        assert read(small) == read(data)
        assert len(small) < min(len(data), 130_000)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_outputs_are_left_out_in_every_encoding(encoding, dicts):
    notebook = with_outputs(dicts, PICTURE)
    notebook["cells"][0]["source"] = "na\u00efve caf\u00e9"
    data = json.dumps(notebook, ensure_ascii=False).encode(encoding, "replace")
    assert read(skimmed(data)) == read(data)
    assert len(skimmed(data)) < len(data) / 4


@pytest.mark.parametrize("packed", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_sixty_megabytes_of_outputs_take_little_memory(packed, tmp_path, dicts, clean):
    put(tmp_path, "ada/x")
    put_outputs(tmp_path / "ada", dicts, 60)
    path = tmp_path
    if packed is not None:
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w", packed) as archive:
            archive.write(tmp_path / "ada" / "03.ipynb", "ada/03.ipynb")
    (found,), listing = peak_of(lambda: find(path, NOTEBOOKS))
    data, loading = peak_of(found.load)
    assert listing < 12 and loading < 12
    solved = taken(grading_zoo.text(with_outputs(dicts)), clean)
    assert taken(data, clean) == solved


def test_files_are_read_when_it_is_their_turn(tmp_path, dicts):
    for student in ("ada", "bob", "cyd"):
        put(tmp_path, f"{student}/x")
        put_outputs(tmp_path / student, dicts, 6)
    tracemalloc.start()
    found = find(tmp_path, NOTEBOOKS)
    assert tracemalloc.get_traced_memory()[0] < 2**20
    tracemalloc.stop()
    (tmp_path / "bob" / "03.ipynb").unlink()
    assert found[0].load() == found[2].load()
    with pytest.raises(Trouble, match="the file cannot be read: No such file"):
        found[1].load()


def test_renamed_notebooks_are_known_behind_their_outputs(tmp_path, dicts):
    """The marks of the other notebook stand in an output, and count for nothing."""
    marks = " ".join(f'"{mark}"' for mark in sorted(NOTEBOOKS["04"].marks))
    notebook = with_outputs(dicts, PICTURE, {"text": marks})
    notebook["cells"] = notebook["cells"][::-1]
    put(tmp_path, "ada/Untitled.ipynb", "bob/solution.ipynb", text=grading_zoo.text(notebook))
    assert [each[1] for each in who(tmp_path)] == ["03", "03"]


def test_damaged_files_are_reported_as_if_nothing_were_left_out(dicts):
    """Where the JSON is broken, `read` gets every byte; and nothing that it takes is taken for broken.

    But a comma too many among the outputs, which are not looked at, costs nobody a point.
    """
    draw = random.Random(11)
    whole = grading_zoo.text(with_outputs(dicts, PRINTED))
    damaged = 0
    for _ in range(40):
        text = bytearray(whole)
        at, size = draw.randrange(len(text)), draw.choice([1, 4, 300, len(text)])
        text[at : at + size] = draw.choice([b"", b"\0", b"\xff", b'"', b"}", b"]", b"\n<<<<<<< HEAD\n", b"\\x", b","])
        try:
            small = skimmed(bytes(text))
        except Damaged:
            damaged += 1
            with pytest.raises(Unreadable):
                read(bytes(text))
        else:
            try:
                assert read(small)[0] == read(bytes(text))[0]
            except Unreadable:
                assert read(small)[0] == read(whole)[0]
    assert 8 < damaged < 36


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        (slice(0, -300), r"breaks off in line \d,\d+: hand in the whole file"),
        (slice(0, 20 * 2**20), r"breaks off in line [,\d]+"),
        (slice(-20 * 2**20, None), r"not a notebook: its JSON is damaged in line 1:"),
    ],
)
def test_damaged_files_that_are_larger_than_any_that_is_looked_at(cut, said, tmp_path, dicts, monkeypatch):
    put(tmp_path, "ada/x")
    put_outputs(tmp_path / "ada", dicts, 60)
    path = tmp_path / "ada" / "03.ipynb"
    data = path.read_bytes()[cut]
    path.write_bytes(data)
    monkeypatch.setattr(placing, "MOST_DAMAGED", len(data) - 1)
    (found,) = find(tmp_path, NOTEBOOKS)
    assert found.student == "ada" and found.notebook == "03"
    with pytest.raises(Trouble, match=said):
        found.load()


def a_cell(value):
    return b'{"cells": [{"source": "x = 1", "outputs": %b}]}' % value


LONG = b'{"source": "' + b"a" * 300_000 + b'"}, '


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (a_cell(b"[" + b"[[[[[[1]]]]]], " * 50_000 + b"1]"), "20,000 parts"),
        (a_cell(b"[" + b'{"a": [[[[1]]]]}, ' * 60_000 + b"1]"), "20,000 parts"),
        (b'{"cells": [], ' + b'"": 0, ' * 50_000 + b'"a": 0}', "6,000 parts"),
        (b'{"cells": [' + (b"{" + b'"id": 0, "x": 0, ' * 4 + b'"x": 0}, ') * 5_000 + b"0]}", "6,000 parts"),
        (b'{"cells": [' + LONG * 90 + b"{}]}", "more than 20 MB"),
        (b'{"cells": [' + LONG * 50 + b"{}]}", ""),
        (b'{"cells": [' + b"{}," * 6_000_000 + b"{}]}", ""),
        (b'{"cells": [{"source": [' + b'"",' * 6_000_000 + b'""]}]}', ""),
        (a_cell(b"[" + b'"",' * 6_000_000 + b'""]'), ""),
        (a_cell(b"[" + b"[]," * 6_000_000 + b"[]]"), ""),
        (a_cell(b"[" * 9_000_000), "damaged"),
        (a_cell(b"[" * 4_000 + b'"' + b"A" * 20_000_000 + b'"' + b"]" * 4_000), ""),
        (b" " * 30_000_000, "damaged"),
    ],
)
def test_forged_files_take_time_in_proportion_to_their_size(data, said, monkeypatch):
    """And what is left of them is not much, whatever they hold."""
    monkeypatch.setattr(skimming, "MOST_BRACKETS", 20_000)
    monkeypatch.setattr(skimming, "MOST_PARTS", 6_000)
    began = time.monotonic()
    try:
        left = skimmed(data)
        assert not said and read(left) and len(left) < skimming.MOST_LEFT
    except Trouble as trouble:
        assert said and said in str(trouble)
    except Damaged:
        assert said == "damaged"
    assert time.monotonic() - began < 20


def test_pictures_pasted_into_texts_are_no_trouble(dicts, clean):
    """Forty megabytes of them, of one megabyte each: too long to be an answer, so nothing of them is kept."""
    notebook = with_outputs(dicts)
    picture = f"![](data:image/png;base64,{'A' * 10**6})\n"
    texts = [{"cell_type": "markdown", "metadata": {}, "source": [picture, "so"]} for _ in range(40)]
    data = grading_zoo.text(notebook | {"cells": [*texts, *notebook["cells"]]})
    assert len(skimmed(data)) < 5 * 2**20
    assert read(skimmed(data)) == read(data)


def test_a_bomb_of_any_method_takes_little_memory(tmp_path):
    """Zeros are packed a thousand to one, and a million to one by methods that are not for students."""
    for method, said in (
        (zipfile.ZIP_DEFLATED, "breaks off"),
        (zipfile.ZIP_BZIP2, "an unusual method"),
        (zipfile.ZIP_LZMA, "an unusual method"),
    ):
        path = tmp_path / f"{method}.zip"
        with zipfile.ZipFile(path, "w", method) as archive, archive.open("ada/03.ipynb", "w") as file:
            for _ in range(120):
                file.write(bytes(2**20))
        (found,), peak = peak_of(lambda path=path: find(path, NOTEBOOKS))
        assert said in found.trouble and peak < 12


# ------------------------------------------------------------------------------------------------------ who is who

ALIKE = [
    ("Grace  Hopper", "Grace Hopper"),
    ("Grace\u00a0Hopper", "Grace Hopper"),
    (" Grace Hopper", "Grace Hopper "),
    ("Grace\tHopper", "Grace\nHopper"),
    ("a\u200bda", "ada"),
    ("ada\u2060", "ada\u200d"),
    ("a\u034fda", "ada\ufe0f"),
    ("\u202eada", "ada"),
    ("\u2800", "\u3164"),
    ("\uff21da", "Ada"),
    ("\u0410da", "Ada"),
    ("O\u2019Neil", "O'Neil"),
    ("Anna\u2010Lena", "Anna-Lena"),
    ("'=1+1", "=1+1"),
    ("x" * 120 + "a", "x" * 120 + "b"),
    ("x " * 60 + "a", "x " * 60 + "b"),
    ("Ada_17_assignsubmission_file", "Ada_23_assignsubmission_file"),
    ("Ada_17_assignsubmission_file", "Ada\u200b_17_assignsubmission_file"),
]


def reports_on(students):
    """Of 1, 2, … points."""
    scores = [(Score("vae/kl", points, 9, "ok", f"the answer of {points}"),) for points in range(1, 1 + len(students))]
    return [Report(who, "02", f"{place}.ipynb", found) for place, (who, found) in enumerate(zip(students, scores))]


@pytest.mark.parametrize("names", ALIKE)
@pytest.mark.parametrize("layout", ["{}/03.ipynb", "{}.ipynb", "submitted/{}/hw/03.ipynb"])
def test_students_whose_names_look_the_same_are_never_one(layout, names, tmp_path, small):
    put(tmp_path / "in", *(layout.format(name) for name in names), text=small)
    found = find(tmp_path / "in", NOTEBOOKS)
    students = [each.student for each in found]
    assert len(set(students)) == len(found) == 2 and all(who.isprintable() for who in students)
    assert any(who.endswith("]") for who in students), "it is seen"
    assert all("looks like" in each.notes[0] for each in found)
    written.write_all(reports_on(students), tmp_path / "grades.csv", {})
    pages = {page.name.lower(): page.read_text() for page in (tmp_path / "grades-feedback").iterdir()}
    assert sorted(page.count("answer of 1") - page.count("answer of 2") for page in pages.values()) == [-1, 1]
    for table, column in {"grades": "student", "grades-totals": "student", "grades-nbgrader": "student_id"}.items():
        rows = csv.DictReader((tmp_path / f"{table}.csv").open(encoding="utf-8-sig"))
        assert len({row[column] for row in rows}) == 2


def test_names_alike_in_a_zip(tmp_path, small):
    names = ["Grace Hopper", "Grace  Hopper", "J\u00f6rg", "Ada", "a\u200bda", "ada"]
    found = find(zipped(tmp_path / "x.zip", [(f"{name}/03.ipynb", small) for name in names]), NOTEBOOKS)
    assert len({each.student for each in found}) == len(names)
    assert sorted(each.student for each in found if not each.notes) == ["Ada", "J\u00f6rg"]


def test_letters_that_are_the_same_by_unicodes_rules_are_one_student_and_that_is_said(tmp_path, small):
    put(tmp_path, "Mu\u0308ller/03.ipynb", "M\u00fcller/04_unet.ipynb", "Miller/03.ipynb", text=small)
    miller, *both = find(tmp_path, NOTEBOOKS)
    assert [each.student for each in both] == ["M\u00fcller"] * 2 and not miller.notes
    assert all("the same by Unicode's rules" in each.notes[0] for each in both)


def test_names_in_old_encodings(tmp_path, small):
    for name in (b"J\xf6rg", b"J\xfcrg", b"Ren\xe9e"):
        os.mkdir(os.fsencode(tmp_path) + b"/" + name)
        (tmp_path / os.fsdecode(name) / "03.ipynb").write_bytes(small)
    right = ["J\u00f6rg", "J\u00fcrg", "Ren\u00e9e"]
    assert [each.student for each in find(tmp_path, NOTEBOOKS)] == right
    assert all(reads_as(each, small) for each in find(tmp_path, NOTEBOOKS))
    for encoding in ("utf-8", "cp437", "cp1252"):
        assert [each.student for each in find(without_flags(tmp_path, right, small, encoding), NOTEBOOKS)] == right


def without_flags(folder, names, text, encoding):
    """A zip as old programs write it: no word of its encoding."""
    spelled = {f"{'x' * (5 + place)}": name.encode(encoding) for place, name in enumerate(names)}
    marks = {mark.ljust(20, "_"): name.ljust(20, b"/") for mark, name in spelled.items()}
    path = zipped(folder / f"{encoding}.zip", [(f"{mark}03.ipynb", text) for mark in marks])
    data = path.read_bytes()
    for mark, name in marks.items():
        data = data.replace(mark.encode(), name)
    path.write_bytes(data)
    return path


def test_who_is_written_in_the_plain_way_keeps_the_name_that_class_lists_have():
    people = told_apart([(name, "") for name in ("Grace  Hopper", "Grace Hopper", "\u0410da", "Ada")])
    assert {name for (name, _), (shown, _) in people.items() if name == shown} == {"Grace Hopper", "Ada"}


def test_marks_cannot_be_taken_from_others():
    """Neither by a name that ends like one, nor by a name made until its mark is another's."""
    twins = [("Ada Byron", ""), ("Ada  Byron", "")]
    mark = told_apart(twins)[twins[1]][0]
    for name in (mark, f"{mark} ", f"\u200b{mark}"):
        people = told_apart([*twins, (name, "")])
        assert len({shown for shown, _ in people.values()}) == 3 and people[twins[1]][0] == mark
    many = told_apart([(f"Ada{' ' * i}Byron", "") for i in range(2, 9000)])
    assert len({shown for shown, _ in many.values()}) == 8998


def test_two_files_of_one_student_stay_that_students(tmp_path, small):
    moodles = [f"Grace  Hopper_17_assignsubmission_{kind}" for kind in ("file", "onlinetext")]
    put(tmp_path, *(f"{folder}/{place}.ipynb" for place, folder in enumerate(moodles)), text=small)
    assert {each.student for each in find(tmp_path, NOTEBOOKS)} == {"Grace Hopper"}
    put(
        tmp_path / "flat", "Grace  Hopper_03.ipynb", "03-Grace  Hopper.ipynb", "Grace  Hopper_04_unet.ipynb", text=small
    )
    (note,) = {each.notes for each in find(tmp_path / "flat", NOTEBOOKS)}
    assert {each.student for each in find(tmp_path / "flat", NOTEBOOKS)} == {"Grace Hopper"}
    assert note == ("3 files are for notebook 03: the best of them counts",)
