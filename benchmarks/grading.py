"""Our grader beside `nbgrader autograde`, on the same honest submissions, in one run.

    python benchmarks/grading.py                          15 submissions each of notebooks 03 and 06
    python benchmarks/grading.py --many 300               also: so many submissions through ours alone

nbgrader executes whole notebooks: it gets effort smoke and the digits, the least that there is. Prints a table:
seconds by the clock for each submission, and the peak memory of all processes together.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent


def submissions(folder: Path, numbers: list[str], count: int) -> list[str]:
    """`count` submissions of each notebook in nbgrader's layout, the n-th with n of its answers (solutions after that
    are left out in turn); returns the assignments' names."""
    names = []
    for number in numbers:
        (clean,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        solved = {_grade_id(cell): cell["source"] for cell in _cells(ROOT / "solutions" / clean.name)}
        names.append(clean.stem)
        for i in range(count):
            notebook = json.loads(clean.read_text(encoding="utf-8"))
            answers = [cell for cell in notebook["cells"] if cell["metadata"].get("nbgrader", {}).get("solution")]
            for k, cell in enumerate(answers):
                if (k + i) % 5:  # four of five are answered
                    cell["source"] = solved[_grade_id(cell)]
            place = folder / "submitted" / f"student{i:03d}" / clean.stem
            place.mkdir(parents=True)
            (place / clean.name).write_text(json.dumps(notebook), encoding="utf-8")
    return names


def _cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def _grade_id(cell: dict) -> str:
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")


def watched(command: list[str], **options) -> tuple[float, float]:
    """Seconds on the clock, and the peak of memory in MB, of a command and all that it starts."""
    start, peak, done = time.monotonic(), [0.0], threading.Event()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)

    def look() -> None:
        while not done.wait(0.2):
            family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
            peak[0] = max(peak[0], sum(_memory(process) for process in family))

    watcher = threading.Thread(target=look)
    watcher.start()
    said, _ = child.communicate()
    done.set()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"{' '.join(command[:4])} … failed:\n{said[-2000:]}")
    return time.monotonic() - start, peak[0]


def _memory(process: psutil.Process) -> float:
    try:
        return process.memory_full_info().pss / 1e6
    except psutil.Error:
        return 0.0


def nbgrader(folder: Path, assignments: list[str]) -> tuple[float, float]:
    """Autograde every assignment; releasing them beforehand is not counted."""
    mine = {"HOME": str(folder), "JUPYTER_CONFIG_DIR": str(folder / "config"), "IPYTHONDIR": str(folder / "ipython")}
    mine |= {"COURSE_EFFORT": "smoke", "COURSE_DATASET": "digits", "PYTHONPATH": str(ROOT)}
    mine["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    options = {"cwd": folder, "env": os.environ | mine}
    (folder / "nbgrader_config.py").write_text("c = get_config()\nc.CourseDirectory.course_id = 'images'\n")
    seconds, peak = 0.0, 0.0
    for name in assignments:
        source = folder / "source" / name
        source.mkdir(parents=True)
        (source / f"{name}.ipynb").write_bytes((ROOT / "solutions" / f"{name}.ipynb").read_bytes())
        watched([sys.executable, "-m", "nbgrader", "generate_assignment", name], **options)
        took, memory = watched([sys.executable, "-m", "nbgrader", "autograde", name], **options)
        seconds, peak = seconds + took, max(peak, memory)
    return seconds, peak


def ours(folder: Path, out: Path, workers: int) -> tuple[float, float]:
    """`python -m classroom grade`, start-up included."""
    command = [sys.executable, "-m", "classroom", "grade", str(folder / "submitted"), "--out", str(out)]
    return watched([*command, "--workers", str(workers), "--seed", "0"], cwd=ROOT)


def points(out: Path) -> float:
    """All points that were given."""
    with out.open(encoding="utf-8-sig") as file:
        return sum(float(row["points"]) for row in csv.DictReader(file) if row["question"] == "total")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notebooks", nargs="+", default=["03", "06"], metavar="NN")
    parser.add_argument("--each", type=int, default=15, help="submissions of each notebook (15)")
    parser.add_argument("--many", type=int, default=0, help="also grade so many with ours alone")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    print("| grader | submissions | seconds in all | seconds each | peak memory (MB) |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assignments = submissions(folder, options.notebooks, options.each)
        count = options.each * len(assignments)
        mine = ours(folder, folder / "grades.csv", options.workers)
        say("ours", count, *mine)
        theirs = nbgrader(folder, assignments)
        say("nbgrader autograde", count, *theirs)
        print(f"\nOurs is {theirs[0] / mine[0]:.1f} times as fast; {points(folder / 'grades.csv'):g} points given.")
    if options.many:
        with tempfile.TemporaryDirectory() as name:
            submissions(Path(name), options.notebooks, options.many // len(options.notebooks))
            say("ours", options.many, *ours(Path(name), Path(name) / "grades.csv", options.workers))


def say(name: str, count: int, seconds: float, peak: float) -> None:
    """One line of the table."""
    print(f"| {name} | {count} | {seconds:.1f} | {seconds / count:.2f} | {peak:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
