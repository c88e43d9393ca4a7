"""Put together the folder that a class gets."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from nbformat import NotebookNode

from ..authoring.masters import Master, find_masters, read_master
from ..quizzes.variants import write_variants
from .variants import Maker

AS_THEY_ARE = ("LICENSE", "pyproject.toml", "requirements.txt")
LIBRARY = {".py", ".safetensors", ".md"}  # what the library is made of; nothing that happens to lie there
FOR_TEACHERS = {"authoring", "grading", "releasing", "commands/grade.py"}
DECLARATIONS = re.compile(r"nb(\d\d)\.py")
RULES = ("VENV :=", "help:", "lab:", "doctor:", "clean:", "$(VENV)/.student:", "$(BIN)/python:", "venv-for-%:",
         "define apt")  # fmt: skip
HEAD = """\
# make lab     everything it takes to learn: environment, pinned packages, JupyterLab on the first notebook
# make doctor  what this machine has, and what to do about what it lacks
# Both start from nothing but Python 3.11 (or newer) and make; a second run skips what is there.

.PHONY: help lab doctor clean
"""


def release(
    root: Path, out: Path, numbers: list[str] | None = None, *, solutions: bool = True,
    students: list[str] | None = None, seed: int = 0,
) -> list[str]:  # fmt: skip
    """Write the bundle to `out`; returns the notebooks' names.

    numbers: of the notebooks, all where None;  solutions: fold them into the notebooks;  students: one set of notebooks
    each, with the options of questions in an order that follows from `seed` and the name.
    Raises OSError, and ValueError in one line; `out` is then as it was.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists already: expected a new or an empty folder, and nothing there is overwritten")
    masters = [read_master(path) for path in find_masters(root / "solutions", numbers)]
    try:
        makers = {m.stem: Maker(m, root / "solutions" / "budgets.json", solutions=solutions) for m in masters}
    except ModuleNotFoundError as error:  # nbgrader, which learning does not need
        raise ValueError(str(error)) from None
    out = out.resolve()
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    beside.mkdir(parents=True)
    try:
        if students is None:
            _write_course(root, beside, masters)
            _write_notebooks(beside / "notebooks", {stem: maker.plain for stem, maker in makers.items()})
        else:
            _write_course(root, beside / "course", masters)
            for student in students:
                theirs = {stem: maker.notebook(student, seed) for stem, maker in makers.items()}
                _write_notebooks(beside / "students" / student / "notebooks", theirs)
            (beside / "variants.json").write_bytes(write_variants(seed, students))
        if out.exists():
            out.rmdir()  # empty: Windows renames onto nothing
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return list(makers)


def _write_course(root: Path, to: Path, masters: list[Master]) -> None:
    """Everything but the notebooks."""
    files = _library(root, {master.number for master in masters}) + [root / name for name in AS_THEY_ARE]
    for path in files:
        target = to / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copyfile(Path(__file__).with_name("for_students.md"), to / "README.md")
    (to / "Makefile").write_text(student_makefile((root / "Makefile").read_text(encoding="utf-8")), encoding="utf-8")


def _library(root: Path, numbers: set[str]) -> list[Path]:
    """Files of the library, with the quizzes of these notebooks only."""
    library = root / "course_utils"
    kept = []
    for path in sorted(library.rglob("*")):
        inside = path.relative_to(library)
        declares = DECLARATIONS.fullmatch(path.name) if inside.parts[0] == "quizzes" else None
        if (
            path.suffix in LIBRARY and path.is_file() and not FOR_TEACHERS & {inside.parts[0], inside.as_posix()}
            and not any(part.startswith((".", "__pycache__")) for part in inside.parts)
            and (declares is None or declares[1] in numbers)
        ):  # fmt: skip
            kept.append(path)
    return kept


def student_makefile(text: str) -> str:
    """The course's Makefile without what tests and authors need; `make lab` opens the first notebook there is.

    Raises ValueError if a rule that students need isn't found.
    """
    kept = {}
    for block in text.strip("\n").split("\n\n"):
        lines = [line for line in block.split("\n") if not line.startswith("#")]
        rule = next((rule for rule in RULES if lines and lines[0].startswith(rule)), None)
        if rule:
            kept[rule] = block
    lab = kept.get("lab:", "").replace("notebooks/00_start_here.ipynb", "$(or $(FIRST),.)")
    missing = [rule for rule in RULES if rule not in kept] + ["$(FIRST)"] * ("$(FIRST)" not in lab)
    if missing:
        raise ValueError(f"Makefile: expected a paragraph that begins with each of {', '.join(missing)}")
    kept["lab:"] = f"FIRST = $(firstword $(sort $(wildcard notebooks/*.ipynb)))\n\n{lab}"
    return "\n\n".join([HEAD.rstrip("\n"), *kept.values()]) + "\n"


def _write_notebooks(folder: Path, notebooks: dict[str, NotebookNode]) -> None:
    folder.mkdir(parents=True)
    for stem, notebook in notebooks.items():
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"  # as `build` writes them
        (folder / f"{stem}.ipynb").write_text(text, encoding="utf-8", newline="\n")
