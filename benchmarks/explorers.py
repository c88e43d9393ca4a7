"""How long an explorer takes to answer: every explorer of every notebook, 50 moves each, median and worst.

    python benchmarks/explorers.py                 all notebooks
    python benchmarks/explorers.py 00 05           two of them
    python benchmarks/explorers.py --before FILE   ratios to what an earlier version wrote with --json FILE

Each solved notebook runs at effort smoke in a kernel of its own, and in a last cell the controls are dragged there:
from one end to the other in even steps, control by control. A move is timed from the new value of the widget to the
picture having been sent: by the clock, and in CPU time, which a busy machine changes less. Moves back to where a
picture has been drawn before are counted apart. Close all else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOVES = 50

CELL = f"""\
import sys
sys.path.append({str(Path(__file__).resolve().parent)!r})
from explorers import drag
from course_utils.explore import explorers
import json as _json, os as _os, pathlib as _pathlib
_found = [dict(title=e.title) | drag(e) for e in list(explorers.values())]
_pathlib.Path(_os.environ["MEASURED"]).write_text(_json.dumps(_found))
"""


def stops(control, moves: int) -> list:
    """Values of a control's widget as a hand drags it from one end to the other: at most `moves`."""
    from course_utils.explore.controls import Choice, Slider

    if isinstance(control, Choice):
        return list(range(len(control.options)))[:moves]
    if not isinstance(control, Slider):
        return [not control.value, control.value]
    if control.log:
        return [control.low * (control.high / control.low) ** (k / (moves - 1)) for k in range(moves)]
    steps = round((control.high - control.low) / control.step)
    return [control.low + control.step * k for k in sorted({round(steps * k / (moves - 1)) for k in range(moves)})]


def drag(explorer, moves: int = MOVES) -> dict:
    """Move every control of an explorer; (milliseconds, CPU milliseconds) of moves to new places and to known ones."""
    new, again, seen = [], [], {str(explorer.values)}
    path = [
        (name, raw)
        for name, control in explorer.controls.items()
        for raw in stops(control, -(-2 * moves // len(explorer.controls)))
    ]
    for name, raw in path * 3:
        widget = explorer.widgets[name]
        if widget.value == raw or len(new) == moves:
            continue
        started, worked = time.perf_counter(), time.process_time()
        widget.value = raw
        took = 1000 * (time.perf_counter() - started), 1000 * (time.process_time() - worked)
        known = str(explorer.values) in seen
        seen.add(str(explorer.values))
        (again if known else new).append(took)
    return {"new": new, "again": again, "error": explorer.error}


def measure(number: str, effort: str, data: str) -> list[dict]:
    """Run a notebook, as its master says, and drag what it leaves behind."""
    import nbformat
    from nbclient import NotebookClient

    from classroom.authoring.masters import find_masters, read_master
    from classroom.authoring.render import solved

    (path,) = find_masters(ROOT / "solutions", [number])
    notebook = solved(read_master(path), ROOT / "solutions" / "budgets.json")
    notebook.cells.append(nbformat.v4.new_code_cell(CELL))
    with tempfile.TemporaryDirectory() as folder:
        measured = Path(folder, "measured.json")
        env = os.environ | {"COURSE_EFFORT": effort, "COURSE_DATASET": data, "MEASURED": str(measured)}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
        client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.execute(env=env)
        return json.loads(measured.read_text())


def main() -> None:
    """Measure, and print a table row by row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("numbers", nargs="*", metavar="NN", help="notebook numbers; all when none is given")
    parser.add_argument("--effort", choices=("smoke", "cpu", "gpu"), default="smoke")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--json", type=Path, help="append what was measured to this file")
    parser.add_argument("--before", type=Path, help="such a file, of an earlier version")
    arguments = parser.parse_args()
    all_of_them = [path.stem[:2] for path in sorted((ROOT / "solutions").glob("[0-9][0-9]_*.py"))]
    before = {}
    if arguments.before:
        rows = map(json.loads, arguments.before.read_text().splitlines())
        before = {(row["notebook"], row["title"]): medians(row["new"]) for row in rows}
    print("| notebook | explorer | moves | median (ms) | worst (ms) | CPU median (ms) | known place (ms) | faster by |")
    print("|---|---|---|---|---|---|---|---|")
    for number in arguments.numbers or all_of_them:
        for row in measure(number, arguments.effort, arguments.data):
            row = {"notebook": number} | row
            if arguments.json:
                with arguments.json.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            took, cpu = medians(row["new"])
            earlier = before.get((row["notebook"], row["title"]))
            again = f"{medians(row['again'])[0]:.0f}" if row["again"] else ""
            faster = f"{earlier[0] / took:.1f} × (CPU {earlier[1] / cpu:.1f} ×)" if earlier else ""
            worst = max(wall for wall, _ in row["new"])
            cells = [row["notebook"], row["title"], len(row["new"]), f"{took:.0f}", f"{worst:.0f}", f"{cpu:.0f}"]
            print("| " + " | ".join(map(str, [*cells, again, faster])) + " |", flush=True)


def medians(moves: list) -> tuple[float, float]:
    """Of pairs (milliseconds, CPU milliseconds), each."""
    return tuple(statistics.median(kind) for kind in zip(*moves))


if __name__ == "__main__":
    main()
