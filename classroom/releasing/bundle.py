"""Put together the folder that a class gets."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from nbformat import NotebookNode

from ..authoring.links import shelf
from ..authoring.masters import Master, find_masters, read_master
from ..quizzes.variants import write_variants
from .folders import folders
from .variants import Maker

AS_THEY_ARE = ("LICENSE", "pyproject.toml", "requirements.txt")
PACKAGES = ("course_utils", "classroom/quizzes")  # whole; of `classroom` besides, what a notebook imports: its words
ENDINGS = {".py", ".safetensors", ".md", ".json"}  # what packages are made of; nothing that happens to lie there


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
    paths = find_masters(root / "solutions", numbers)
    masters, beside = [read_master(path) for path in paths], shelf(paths)
    try:
        makers = {m.stem: Maker(m, root / "solutions" / "budgets.json", beside, solutions=solutions) for m in masters}
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
            for student, folder in folders(students).items():
                theirs = {stem: maker.notebook(student, seed) for stem, maker in makers.items()}
                _write_notebooks(beside / "students" / folder / "notebooks", theirs)
            (beside / "variants.json").write_bytes(write_variants(seed, students))
        if out.exists():
            out.rmdir()  # empty: Windows renames onto nothing
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return list(makers)


def _write_course(root: Path, to: Path, masters: list[Master]) -> None:
    """Everything but the notebooks."""
    files = _packages(root) + _lessons(root, masters) + [root / name for name in AS_THEY_ARE]
    for path in files:
        target = to / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copyfile(Path(__file__).with_name("for_students.md"), to / "README.md")
    shutil.copyfile(root / "course.mk", to / "Makefile")


def _packages(root: Path) -> list[Path]:
    """The files of the library and of the quizzes' engine."""
    found = [path for package in PACKAGES for path in sorted((root / package).rglob("*")) if path.suffix in ENDINGS]
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]


def _lessons(root: Path, masters: list[Master]) -> list[Path]:
    """The declarations of these notebooks, and what makes them importable."""
    names = ["__init__.py", "lessons/__init__.py", *(f"lessons/nb{master.number}.py" for master in masters)]
    return [path for path in (root / "classroom" / name for name in names) if path.is_file()]


def _write_notebooks(folder: Path, notebooks: dict[str, NotebookNode]) -> None:
    folder.mkdir(parents=True)
    for stem, notebook in notebooks.items():
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"  # as `build` writes them
        (folder / f"{stem}.ipynb").write_text(text, encoding="utf-8", newline="\n")
