"""Everything in the library flows one way: which of our modules may import which. Read from the source, not run."""

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("course_utils", "classroom")
BASE = {"arrays", "device", "files"}
LIBRARY = BASE | {"data", "models", "diffusion", "sampling", "training", "recipes", "metrics", "weights", "plots"}
LIBRARY |= {"adversarial", "explore", "keys", "notebook", "pitfalls", "together", "variational", "yardsticks"}
LIBRARY |= {"few_steps", "flow", "latent", "measured"}

# A module (or the package that it lies in) -> what of ours it may import, by the same short names. Every module needs
# a line here. The library never imports the machine: no line of the first table holds anything of the second.
COURSE_UTILS = {
    "arrays": set(),
    "device": set(),
    "files": set(),
    "measured": set(),
    "pitfalls": BASE | {"diffusion", "metrics", "models", "sampling", "training"},
    "keys": set(),
    "data": BASE,
    "models": BASE,
    "diffusion": BASE,
    "variational": BASE | {"diffusion"},
    "training": BASE,
    "adversarial": BASE | {"training"},
    "metrics": BASE,
    "plots": BASE,
    "sampling": BASE | {"diffusion"},
    "flow": BASE | {"diffusion", "sampling"},
    "few_steps": BASE | {"diffusion", "flow", "sampling"},
    "latent": BASE | {"models", "diffusion"},
    "weights": BASE | {"models", "diffusion", "latent"},
    "explore": BASE | {"plots", "sampling", "diffusion", "keys"},
    "recipes": BASE | {"models", "diffusion", "training"},
    "notebook": BASE | {"data", "plots", "weights"},
    "yardsticks": BASE | {"data", "metrics", "models", "weights"},
    "together": BASE | {"models", "diffusion", "training"},
    "cli": LIBRARY | {"course_utils"},
    "course_utils": {"notebook"},  # its __init__
    "course_utils.__main__": {"cli"},
}
CLASSROOM = {
    "quizzes": {"files", "keys"},  # the engine: knows nothing of images
    "lessons": LIBRARY | {"quizzes"},
    "authoring": {"quizzes", "lessons", "files", "device", "course_utils"},  # device: what seconds were measured on
    "roster": set(),
    "releasing": {"quizzes", "authoring", "roster", "files", "cli"},
    "grading": {"quizzes", "lessons", "roster", "files", "cli", "course_utils", "diffusion"},  # a sampler's schedule
    "challenge": {"grading", "quizzes", "data", "device", "diffusion", "files", "metrics", "models", "weights", "cli"},
    "options": {"cli"},
    "classroom": {"quizzes"},
    "classroom.__main__": {"options", "authoring", "releasing", "grading", "challenge", "cli"},
}
MAY_IMPORT = {"course_utils": COURSE_UTILS, "classroom": CLASSROOM}
WIDGETS = {
    "course_utils/explore/controls.py",
    "course_utils/explore/explorer.py",
    "course_utils/explore/game.py",
    "course_utils/keys.py",
    "classroom/quizzes/widgets.py",
}
FOR_TEACHERS = {"authoring", "grading", "releasing"}


def modules() -> dict[str, Path]:
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return {path.relative_to(ROOT).as_posix(): path for path in paths}


def part_of(name: str) -> str:
    """ "course_utils/models/vae.py" belongs to "models", "course_utils/__init__.py" to "course_utils"."""
    package, *rest = name.removesuffix(".py").split("/")
    return _part(package, ".".join(rest))


def _part(package: str, inside: str) -> str:
    first = inside.split(".")[0]
    if first == "__main__":
        return f"{package}.__main__"
    known = (ROOT / package / first).is_dir() or (ROOT / package / f"{first}.py").is_file()
    return first if first and first != "__init__" and known else package


def imported(source: str, name: str) -> set[str]:
    """Full dotted names of all that a module imports, wherever in the file, relative ones made absolute."""
    package = name.split("/")[:-1]
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
    """The parts of the course that a module imports, its own left out."""
    parts = set()
    for full in imported(source, name):
        package, _, inside = full.partition(".")
        if package in PACKAGES:
            parts.add(_part(package, inside))  # `from course_utils import setup` is the package's own __init__
    return parts - {part_of(name)}


@pytest.mark.parametrize("name", modules())
def test_arrows(name):
    part, table = part_of(name), MAY_IMPORT[name.split("/")[0]]
    assert part in table, f"{name}: say in this file what it may import"
    wrong = ours(modules()[name].read_text(encoding="utf-8"), name) - table[part]
    allowed = ", ".join(sorted(table[part])) or "nothing of ours"
    assert not wrong, f"{name} imports {', '.join(sorted(wrong))}; it may import {allowed}"


def test_the_library_never_imports_the_machine():
    assert not set().union(*COURSE_UTILS.values()) & CLASSROOM.keys()
    assert not COURSE_UTILS.keys() & CLASSROOM.keys(), "a short name means one part"


@pytest.mark.parametrize("name", modules())
def test_widgets_only_where_they_belong(name):
    uses = {full.split(".")[0] for full in imported(modules()[name].read_text(encoding="utf-8"), name)}
    assert "ipywidgets" not in uses or name in WIDGETS, f"{name} imports ipywidgets; only {WIDGETS} may"


@pytest.mark.parametrize("name", modules())
def test_nothing_unpickles_or_needs_what_students_lack(name):
    uses = {full.split(".")[0] for full in imported(modules()[name].read_text(encoding="utf-8"), name)}
    assert "torchvision" not in uses, f"{name} imports torchvision, whose wheels don't load beside a CPU-only PyTorch"
    if part_of(name) not in FOR_TEACHERS:
        assert not uses & {"nbgrader", "nbformat", "jupytext", "pytest"}, f"{name} needs what learning doesn't"


@functools.cache
def declared() -> dict[str, set[str]]:
    """Distributions that pyproject.toml names, in lower case: what learning needs, and that with the "dev" extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {
        extra: {re.match(r"[\w.-]+", line)[0].lower() for line in lines}
        for extra, lines in {"": project["dependencies"], **project["optional-dependencies"]}.items()
    }
    return {"learning": names[""], "all": names[""] | names["dev"]}


@functools.cache
def origins() -> dict[str, list[str]]:
    """Top-level module -> the distributions that it may come from."""
    return dict(importlib.metadata.packages_distributions())


@pytest.mark.parametrize("name", modules())
def test_whatever_is_imported_is_declared(name):
    allowed = declared()["all" if part_of(name) in FOR_TEACHERS else "learning"]
    for top in {full.split(".")[0] for full in imported(modules()[name].read_text(encoding="utf-8"), name)}:
        if top in sys.stdlib_module_names or top in (*PACKAGES, ""):
            continue
        provided_by = {distribution.lower() for distribution in origins().get(top, [top])}
        # IPython comes with ipykernel, by its definition: a kernel is IPython's.
        assert provided_by & allowed or top == "IPython", f"{name} imports {top}; name it in pyproject.toml"


def test_the_reader_sees_every_way_of_importing():
    source = """
import course_utils.plots
from course_utils import device, setup
from classroom import check
from ..data import load
from .blocks import Block
from .. import training
def late():
    from ..metrics import distance
    importlib.import_module("course_utils.sampling")
"""
    found = ours(source, "course_utils/models/vae.py")
    assert found == {"plots", "device", "course_utils", "classroom", "data", "training", "metrics", "sampling"}
