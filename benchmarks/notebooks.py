"""Seconds and peak memory of every notebook at every effort.

    python benchmarks/notebooks.py                          all notebooks, smoke and cpu
    python benchmarks/notebooks.py 01 02 --effort gpu       two of them, on a GPU

Runs the solved notebooks from top to bottom, each in a fresh kernel, one after the other, and writes what it measured
to solutions/budgets.json, from which the build fills the table at the head of each notebook. Close all else first.
(`python -m classroom build --fresh --measure` does it for one effort while it executes what it builds.)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nbformat

from classroom.authoring.execution import execute
from classroom.authoring.measuring import record

ROOT = Path(__file__).resolve().parent.parent
BUDGETS = ROOT / "solutions" / "budgets.json"


def main() -> None:
    """Measure, print a table, and write the budgets after each notebook (an interrupted run keeps what it has)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("numbers", nargs="*", metavar="NN", help="notebook numbers; all when none is given")
    parser.add_argument("--effort", nargs="+", choices=("smoke", "cpu", "gpu"), default=["smoke", "cpu"])
    parser.add_argument("--data", default="fashion-mnist")
    arguments = parser.parse_args()
    wanted = {n.zfill(2) for n in arguments.numbers}
    print("| notebook | effort | data | seconds | peak memory (MB) | machine |\n|---|---|---|---|---|---|")
    for path in sorted((ROOT / "solutions").glob("[0-9][0-9]_*.ipynb")):
        if wanted and path.stem[:2] not in wanted:
            continue
        for effort in arguments.effort:
            notebook = nbformat.read(path, as_version=4)
            _, row = execute(notebook, path.name, effort=effort, data=arguments.data, root=ROOT)
            print(
                f"| {path.stem} | {effort} | {row['data']} | {row['seconds']} | {row['peak_mb']} | {row['machine']} |",
                flush=True,
            )
            record(BUDGETS, path.stem, effort, row)


if __name__ == "__main__":
    main()
