"""Run a notebook from top to bottom and keep only such outputs as read the same on every machine."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from .measuring import PEAK, cost

CELL_TIMEOUT = 900  # seconds
WIDGET = "application/vnd.jupyter.widget-view+json"
PROGRESS = re.compile(r"^.*\d+%\|.*\|.*$")
EMBEDDED = re.compile(r"(;base64,[A-Za-z0-9+/=]+)")
NOISE = re.compile(rf"^[A-Z]\w*\([a-z_]+=|{PROGRESS.pattern}")  # a widget's `VBox(children=(…))`, a bar at 0 %


class ExecutionError(RuntimeError):
    """A notebook that stopped; the message names the notebook, the cell and the error in one line."""


def fingerprint(notebook: NotebookNode) -> str:
    """Hash of everything that is executed: two notebooks with the same one have the same outputs (prose may differ)."""
    digest = hashlib.sha256()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            digest.update(cell.source.encode() + b"\0")
    return digest.hexdigest()[:16]


def execute(
    notebook: NotebookNode, name: str, *, effort: str, data: str, root: Path
) -> tuple[NotebookNode, dict[str, Any]]:
    """A copy of `notebook`, executed, with tidied outputs and a note of what it was executed from; and what it cost.

    effort: "smoke", "cpu" or "gpu"; data: a data set's name; root: the repository (for taking its path out of outputs).
    The seconds include the kernel's start. Raises ExecutionError when a cell does.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = copy.deepcopy(notebook)
    notebook.cells.append(new_code_cell(PEAK))
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder:  # what a notebook writes stays out of the tree
        env = os.environ | {"COURSE_EFFORT": effort, "COURSE_DATASET": data, "COURSE_PROGRESS": "off"}
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=ERROR"],  # the kernel's own log, not what cells write
            record_timing=False,
            store_widget_state=False,
        )
        started = time.perf_counter()
        try:
            client.execute(env=env)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise ExecutionError(f"{name}: {_failure(notebook, error)}") from None
        seconds = time.perf_counter() - started
    peak = notebook.cells.pop()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in map(_tidy, _merged(cell.outputs)) if o is not None]
            hide_paths(cell.outputs, root, folder)
            cell.metadata.pop("execution", None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = NotebookNode(name="python")
    notebook.metadata["course"] = NotebookNode(executed_from=fingerprint(notebook), effort=effort, data=data)
    return notebook, cost(seconds, peak.outputs[0].text, data)


def carry_outputs(old: NotebookNode, new: NotebookNode) -> NotebookNode:
    """Outputs of `old` in a copy of `new`, whose code is the same (only prose has changed)."""
    new = copy.deepcopy(new)
    before = [c for c in old.cells if c.cell_type == "code"]
    after = [c for c in new.cells if c.cell_type == "code"]
    for a, b in zip(before, after, strict=True):
        b.outputs, b.execution_count = a.outputs, a.execution_count
    new.metadata["course"] = old.metadata["course"]
    return new


def complaints(notebook: NotebookNode) -> list[str]:
    """What is wrong with a notebook that should have been executed from top to bottom, one line a cell."""
    found, expected = [], 1
    for i, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count != expected:
            found.append(f"cell {i} ({first_line(cell)}) has number {cell.execution_count}, expected {expected}")
        expected += 1
        if any(output.output_type == "error" for output in cell.outputs):
            found.append(f"cell {i} ({first_line(cell)}) ended in an error")
    return found


def on_stderr(notebook: NotebookNode) -> list[str]:
    """First line of everything that the cells wrote to stderr: warnings that a reader would have to look at."""
    lines = []
    for i, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                lines.append(f"cell {i} ({first_line(cell)}): {output.text.strip().splitlines()[0]}")
    return lines


def first_line(cell: NotebookNode) -> str:
    """The first line of a cell that says something, shortened, for messages."""
    line = next((x.strip() for x in cell.source.splitlines() if x.strip()), "empty")
    return line if len(line) <= 60 else line[:57] + "…"


def _failure(notebook: NotebookNode, error: Exception) -> str:
    for i, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                return f"cell {i} ({first_line(cell)}) raised {output.ename}: {output.evalue}"
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Neighbouring pieces of one stream as one: how they were cut up is a matter of timing."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def _tidy(output: NotebookNode) -> NotebookNode | None:
    """The output without widgets, progress bars and overwritten lines; None if nothing is left."""
    if output.output_type == "stream":
        lines = [line.rsplit("\r", 1)[-1] for line in output.text.replace("\r\n", "\n").split("\n")]
        kept = [line for line in lines if output.name != "stderr" or not PROGRESS.match(line)]
        output.text = "\n".join(kept)
        return output if output.text.strip() else None
    if "data" in output and output.data.pop(WIDGET, None) is not None:
        text = output.data.get("text/plain", "")
        if NOISE.match(text.strip()):
            output.data.pop("text/plain")
        return output if output.data else None
    return output


def hide_paths(outputs: list[NotebookNode], root: Path, folder: str) -> None:
    """Take this machine's folders out of text outputs: a notebook lies in a folder of the repository, one below it."""
    data = os.environ.get("COURSE_DATA")
    names = [(os.path.relpath(root, folder), ".."), (folder, "."), (str(root.resolve()), ".."), (str(Path.home()), "~")]
    if data:  # the way there from the notebook first: the other one may be part of it
        names = [(os.path.relpath(data, folder), "$COURSE_DATA"), (data, "$COURSE_DATA"), *names]
    for output in outputs:
        if "text" in output:
            output.text = _replace(output.text, names)
        for kind, value in output.get("data", {}).items():
            if isinstance(value, str) and kind.startswith("text/"):
                output.data[kind] = _replace(value, names)


def _replace(text: str, names: list[tuple[str, str]]) -> str:
    """Names for paths, but not within pictures: "/root" may stand there by chance, and without it they are broken."""
    parts = EMBEDDED.split(text)  # in turn text and picture
    for path, name in names:
        if len(path) > 1:
            parts[::2] = [part.replace(path, name) for part in parts[::2]]
    return "".join(parts)
