"""Run a copy of a notebook under nbval, once for each data set, and remember what came out.

Every copy gets one cell more, which sweeps the explorers that the notebook left behind and tells how often the answers
were called: the same run serves the tests of notebooks, of widgets and of answers that run the rest.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(p.stem for p in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
FACES = {"solved": ROOT / "solutions", "untouched": ROOT / "notebooks"}


def has_fashion() -> bool:
    """Whether COURSE_DATA holds Fashion-MNIST, so that nothing has to be downloaded."""
    folder = os.environ.get("COURSE_DATA")
    return bool(folder) and any(Path(folder, "fashion-mnist").glob("train-images*"))


# The data on which `make test` runs the solved notebooks.
AT_HAND = "fashion-mnist" if has_fashion() else "digits"
CHECKED = re.compile(r'^(\w+) = check\("([^"]+)"', re.MULTILINE)
NO_NETWORK = Path(__file__).resolve().parent / "no_network"

COUNT = f"""
import sys
sys.path.append({str(Path(__file__).resolve().parent)!r})
import counting
counting.count("NAME", globals())"""

LAST = f"""\
import json, os, pathlib, sys
sys.path.append({str(Path(__file__).resolve().parent)!r})
from course_utils.explore import explorers
from counting import calls
from sweeping import sweep as _sweep
swept = [{{"title": e.title, "controls": list(e.controls), "problems": [str(problem) for problem in _sweep(e)]}}
         for e in explorers.values()]
pathlib.Path(os.environ["LAST_WORDS"]).write_text(json.dumps({{"explorers": swept, "calls": calls}}))"""


@dataclass(frozen=True)
class Run:
    """What came out of one run: cells by outcome, seconds (without the sweep), explorers swept, calls of each answer by
    the cells below its check, the end of the log."""

    notebook: str
    cells: int
    passed: int
    failed: tuple[str, ...]
    skipped: tuple[str, ...]
    seconds: float
    explorers: tuple[dict, ...] | None  # None when the sweep did not run to its end
    calls: dict[str, int]
    log: str


def offline() -> dict[str, str]:
    """Environment for a process (and the kernels that it starts) that reaches nothing but this machine."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(NO_NETWORK), os.environ.get("PYTHONPATH")]))}


def run(notebook: Path, folder: Path, *, env: dict[str, str]) -> Run:
    """Run a copy of `notebook` in `folder` (made here) under `nbval --nbval-lax`, at effort smoke and offline."""
    folder.mkdir(parents=True)
    nb = nbformat.read(notebook, as_version=4)
    cells = sum(cell.cell_type == "code" for cell in nb.cells)
    for cell in nb.cells:  # a student's own answer may raise; what is handed out may not
        cell.metadata["tags"] = [tag for tag in cell.metadata.get("tags", ()) if tag != "raises-exception"]
        if checked := CHECKED.search(cell.source):
            cell.source += COUNT.replace("NAME", checked[1])
    nb.cells.append(nbformat.v4.new_code_cell(LAST))
    copy = folder / notebook.name
    nbformat.write(nb, copy)
    said, junit = folder / "said.json", folder / "junit.xml"
    asked = {"COURSE_EFFORT": "smoke", "LAST_WORDS": str(said)}
    env = os.environ | offline() | asked | env
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        os.devnull,
        "--rootdir",
        str(folder),
        "-p",
        "no:cacheprovider",
        "-q",
    ]
    command += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "300", f"--junitxml={junit}", str(copy)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900)
    log = (done.stdout + done.stderr)[-6000:]
    if not junit.exists():
        raise RuntimeError(f"nbval did not get as far as a report on {notebook.name}:\n{log}")
    cases = list(xml.parse(junit).iter("testcase"))[:cells]
    failed = tuple(c.get("name") for c in cases if c.find("failure") is not None or c.find("error") is not None)
    skipped = tuple(c.get("name") for c in cases if c.find("skipped") is not None)
    last = json.loads(said.read_text()) if said.exists() else {"explorers": None, "calls": {}}
    explorers = None if last["explorers"] is None else tuple(last["explorers"])
    passed, seconds = len(cases) - len(failed) - len(skipped), sum(float(c.get("time")) for c in cases)
    return Run(notebook.stem, cells, passed, failed, skipped, seconds, explorers, last["calls"], log)


def read(face: str, name: str) -> nbformat.NotebookNode:
    """A notebook as it stands in the tree."""
    return nbformat.read(FACES[face] / f"{name}.ipynb", as_version=4)


def html_of(cell: nbformat.NotebookNode) -> str:
    """What an executed cell shows as HTML."""
    return "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)


def checked(name: str) -> dict[str, str]:
    """What a solved notebook checks: name of the answer -> id of its quiz."""
    return {match[1]: match[2] for cell in read("solved", name).cells if (match := CHECKED.search(cell.source))}


def settings(data: str, empty: Path) -> dict[str, str]:
    """Environment for one of the situations that a notebook must run in."""
    if data == "digits":
        return {"COURSE_DATASET": "digits"}
    if data == "no data":
        return {"COURSE_DATASET": "fashion-mnist", "COURSE_DATA": str(empty)}
    return {"COURSE_DATASET": "fashion-mnist"}


def written(folder: Path, *sources: str) -> Path:
    """A little notebook with these code cells."""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    path = folder / "little.ipynb"
    nbformat.write(nb, path)
    return path
