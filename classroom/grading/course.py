"""What grading takes along of the course, made without PyTorch: whoever hands out the work never waits for it."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

from . import sources
from .handed_in.handed_out import HandedOut
from .sandbox import Luggage

NOTEBOOKS = sources.ROOT / "notebooks"  # the instructor's own


@functools.cache
def handed_out(folder: Path = NOTEBOOKS) -> dict[str, HandedOut]:
    """Number -> the course's student notebook, stubs in its answer cells.  ValueError if `folder` has none."""
    found = {path.stem[:2]: HandedOut.load(path) for path in _paths(folder)}
    if not found:
        raise ValueError(f"expected the course's student notebooks in {folder.name}/, found none: run it from a clone")
    return found


@functools.cache
def luggage(folder: Path = NOTEBOOKS) -> Luggage:
    """What a sandbox needs of the course, compiled once for all processes of a grading."""
    preludes = {number: sources.prelude(notebook.definitions()) for number, notebook in handed_out(folder).items()}
    texts = {path.stem: path.read_text(encoding="utf-8") for path in _paths(folder)}
    return Luggage.packed(sources.library(), preludes, sources.reader(), texts)


@functools.cache
def version(folder: Path = NOTEBOOKS) -> str:
    """Changes when a notebook, a quiz, the library or the grader does: what was graded before is then graded again."""
    digest = hashlib.sha256()
    for path in sorted([*(sources.ROOT / "course_utils").rglob("*.py"), *(sources.ROOT / "classroom").rglob("*.py")]):
        digest.update(path.read_bytes())
    for path in _paths(folder):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def titles() -> dict[str, str]:
    """Quiz id -> its title."""
    found = {}
    for path in sorted((sources.ROOT / "classroom" / "lessons").glob("*.py")):
        found |= sources.declared(path.read_text(encoding="utf-8"), "title")
    return found


@functools.cache
def headings(folder: Path = NOTEBOOKS) -> dict[str, str]:
    """Quiz id -> number and title as a student sees them over the quiz, "3.3c · Bug hunt"."""
    found = dict(titles())
    for notebook in handed_out(folder).values():
        for cell in notebook.cells:
            title = re.escape(found.get(cell.quiz, ""))
            if cell.role == "question" and (match := re.search(rf"^#{{3,5}} \w+ (\S+ · {title})", cell.source, re.M)):
                found[cell.quiz] = match[1]
    return found


@functools.cache
def notebook_titles(folder: Path = NOTEBOOKS) -> dict[str, str]:
    """Number -> the notebook's own title, "03 · Forward diffusion: how to destroy an image, exactly"."""
    first = {number: notebook.cells[0].source for number, notebook in handed_out(folder).items()}
    return {number: source.partition("\n")[0].removeprefix("# ") for number, source in first.items()}


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))
