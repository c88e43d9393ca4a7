"""Everything in the library flows one way: which of our modules may import which. Read from the source, not run."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "course_utils"
BASE = {"arrays", "device", "files"}

# A module (or the package that it lies in) -> what of ours it may import. Every module needs a line here.
MAY_IMPORT = {
    "arrays": set(),
    "device": set(),
    "files": set(),
    "data": BASE,
    "models": BASE,
    "diffusion": BASE,
    "training": BASE,
    "metrics": BASE,
    "plots": BASE,
    "sampling": BASE | {"diffusion"},
    "weights": BASE | {"models", "diffusion"},
    "explore": BASE | {"plots", "sampling", "diffusion"},
    "recipes": BASE | {"models", "diffusion", "training"},
    "notebook": BASE | {"data", "plots"},
    "doctor": BASE | {"data", "notebook", "__init__"},
    "quizzes": BASE | {"data", "models", "diffusion", "sampling", "training", "metrics", "weights", "plots"},
    "commands": BASE
    | {"data", "models", "diffusion", "sampling", "training", "recipes", "metrics", "weights", "plots", "notebook"}
    | {"quizzes", "grading", "releasing"},
    "authoring": {"quizzes", "files", "__init__"},
    "grading": {"quizzes", "files", "__init__"},
    "releasing": {"quizzes", "authoring", "files", "__init__"},
    "__init__": {"notebook"},
    "__main__": None,  # all
}
WIDGETS = {"explore.py", "quizzes/cards.py"}
FOR_TEACHERS = {"authoring", "grading", "releasing"}
ALONE = {"grading/inside.py"}  # runs in the sandbox as a script; its neighbours are modules without a package there


def modules() -> dict[str, Path]:
    return {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def part_of(name: str) -> str:
    """ "models/vae.py" belongs to "models", "data.py" and "data/folders.py" to "data"."""
    return name.split("/")[0].removesuffix(".py")


def imported(source: str, name: str) -> set[str]:
    """Full dotted names of all that a module imports, wherever in the file, relative ones made absolute."""
    package = ["course_utils", *name.split("/")[:-1]]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found.update(a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
    return found


def ours(source: str, name: str) -> set[str]:
    """The parts of course_utils that a module imports, its own left out."""
    parts = set()
    for full in imported(source, name):
        if full == "course_utils" or full.startswith("course_utils."):
            part = (full.split(".") + ["__init__"])[1]
            known = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()
            parts.add(part if known else "__init__")  # `from course_utils import setup`
    return parts - {part_of(name)}


@pytest.mark.parametrize("name", modules())
def test_arrows(name):
    part = part_of(name)
    assert part in MAY_IMPORT, f"{name}: say in MAY_IMPORT what it may import"
    if MAY_IMPORT[part] is not None:
        wrong = ours(modules()[name].read_text(encoding="utf-8"), name) - MAY_IMPORT[part]
        allowed = ", ".join(sorted(MAY_IMPORT[part])) or "nothing of ours"
        assert not wrong, f"{name} imports {', '.join(sorted(wrong))}; it may import {allowed}"


@pytest.mark.parametrize("name", modules())
def test_widgets_only_where_they_belong(name):
    uses = {full.split(".")[0] for full in imported(modules()[name].read_text(encoding="utf-8"), name)}
    assert "ipywidgets" not in uses or name in WIDGETS, f"{name} imports ipywidgets; only {WIDGETS} may"


@pytest.mark.parametrize("name", modules())
def test_nothing_unpickles_or_needs_what_students_lack(name):
    uses = {full.split(".")[0] for full in imported(modules()[name].read_text(encoding="utf-8"), name)}
    assert "torchvision" not in uses, f"{name} imports torchvision, whose wheels don't load beside a CPU-only PyTorch"
    if part_of(name) not in FOR_TEACHERS | {"__main__"}:
        assert not uses & {"nbgrader", "nbformat", "jupytext", "pytest"}, f"{name} needs what learning doesn't"


def declared() -> dict[str, set[str]]:
    """Distributions that pyproject.toml names, in lower case: what learning needs, and that with the "dev" extra."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {
        extra: {re.match(r"[\w.-]+", line)[0].lower() for line in lines}
        for extra, lines in {"": project["dependencies"], **project["optional-dependencies"]}.items()
    }
    return {"learning": names[""], "all": names[""] | names["dev"]}


@pytest.mark.parametrize("name", modules())
def test_whatever_is_imported_is_declared(name):
    allowed = declared()["all" if part_of(name) in FOR_TEACHERS else "learning"]
    origins = importlib.metadata.packages_distributions()
    for top in {full.split(".")[0] for full in imported(modules()[name].read_text(encoding="utf-8"), name)}:
        if top in sys.stdlib_module_names or top in ("course_utils", ""):
            continue
        if name in ALONE and modules()[name].with_name(f"{top}.py").is_file():
            continue
        provided_by = {distribution.lower() for distribution in origins.get(top, [top])}
        # IPython comes with ipykernel, by its definition: a kernel is IPython's.
        assert provided_by & allowed or top == "IPython", f"{name} imports {top}; name it in pyproject.toml"


def test_the_reader_sees_every_way_of_importing():
    source = """
import course_utils.plots
from course_utils import device, setup
from ..data import load
from .blocks import Block
from .. import training
def late():
    from ..metrics import distance
    importlib.import_module("course_utils.sampling")
"""
    found = ours(source, "models/vae.py")
    assert found >= {"plots", "device", "__init__", "data", "training", "metrics"}
    assert "blocks" not in found and "models" not in found
