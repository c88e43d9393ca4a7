"""`python -m classroom build`: write the notebooks, or compare them with what the masters say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_utils.files import write_whole

from . import execution, measuring, render
from .masters import Master, find_masters, read_master

LARGE = 3_000_000  # bytes; a reader on a slow line waits for each of them


def build(
    root: Path, numbers: list[str] | None = None, *, to: Path | None = None, solutions: bool = True,
    run: bool = True, fresh: bool = False, measure: bool = False, effort: str = "cpu", data: str = "fashion-mnist",
    say=print,
) -> list[Path]:  # fmt: skip
    """Write notebooks/NN.ipynb and solutions/NN.ipynb for every master (or those in `numbers`); returns the files.

    to: another folder for the student notebooks; then nothing is executed.  solutions: fold them into the student
    notebook.  run: execute what changed.  fresh: execute even what didn't change.  effort, data: for executing.
    Raises MasterError and ExecutionError, each in one line.
    """
    masters = [read_master(path) for path in find_masters(root / "solutions", numbers)]  # all errors before the work
    budgets = root / "solutions" / "budgets.json"
    written = []
    for master in masters:
        if to is None:
            how = {"run": run, "fresh": fresh, "measure": measure, "effort": effort, "data": data}
            done = _solve(master, budgets, root, **how, say=say)
            written += [done] if done else []
        target = (to or root / "notebooks") / f"{master.stem}.ipynb"
        written.append(_write(render.student(master, budgets, solutions=solutions), target, say))
    return written


def check(root: Path, numbers: list[str] | None = None) -> list[str]:
    """What differs between the masters and the committed notebooks: one line a notebook, naming the first cell.

    An empty list when nothing has drifted.  Raises MasterError for a master that cannot be built.
    """
    found = []
    budgets = root / "solutions" / "budgets.json"
    masters = [read_master(path) for path in find_masters(root / "solutions", numbers)]
    for master in masters:
        name = f"{master.stem}.ipynb"
        found += _drift(root / "notebooks" / name, render.student(master, budgets), outputs=False)
        found += _drift(root / "solutions" / name, render.solved(master, budgets), outputs=True)
    if not numbers:
        stems = {master.stem for master in masters}
        for folder in ("notebooks", "solutions"):
            for path in sorted((root / folder).glob("*.ipynb")):
                if path.stem not in stems:
                    found.append(f"{folder}/{path.name}: no master solutions/{path.stem}.py; delete it or write one")
    return found


def _solve(master: Master, budgets: Path, root: Path, *, run, fresh, measure, effort, data, say) -> Path | None:
    """Write the solved notebook; executes it unless its code is what the notebook there was executed from."""
    target = root / "solutions" / f"{master.stem}.ipynb"
    notebook = render.solved(master, budgets)
    there = _read(target) if target.exists() else None
    stamp = there.metadata.get("course", {}) if there else {}
    wanted = {"executed_from": execution.fingerprint(notebook), "effort": effort, "data": data}
    same = stamp.get("executed_from") == wanted["executed_from"] and not execution.complaints(there)
    if same and not fresh and (not run or stamp == wanted):
        return _write(execution.carry_outputs(there, notebook), target, say)
    if not run:
        say(f"solutions/{target.name}: its code changed, not executed (--no-execute): left as it was")
        return None
    say(f"solutions/{target.name}: executing at effort {effort} on {data} …")
    done, cost = execution.execute(notebook, f"solutions/{target.name}", effort=effort, data=data, root=root)
    if measure:
        measuring.record(budgets, master.stem, effort, cost)
        done = execution.carry_outputs(done, render.solved(master, budgets))
    for line in execution.on_stderr(done):
        say(f"solutions/{target.name}: on stderr, {line}")
    return _write(done, target, say)


def _drift(path: Path, right: NotebookNode, *, outputs: bool) -> list[str]:
    """At most one line: how the notebook at `path` differs from `right`."""
    name = f"{path.parent.name}/{path.name}"
    fix = "run: python -m classroom build"
    if not path.exists():
        return [f"{name}: missing; {fix}"]
    try:
        there = _read(path)
    except Exception as error:  # a damaged file is one line too, whatever the reader made of it
        return [f"{name}: cannot be read ({type(error).__name__}); {fix}"]
    for i, (mine, theirs) in enumerate(zip(right.cells, there.cells), 1):
        what = _difference(mine, theirs, outputs)
        if what:
            return [f"{name}: cell {i} ({execution.first_line(theirs)}) differs from its master in {what}; {fix}"]
    if len(right.cells) != len(there.cells):
        return [f"{name}: {len(there.cells)} cells, its master makes {len(right.cells)}; {fix}"]
    stamp = dict(there.metadata)
    course = stamp.pop("course", {}) if outputs else {}
    if stamp != dict(right.metadata) or (there.nbformat, there.nbformat_minor) != (4, 5):
        return [f"{name}: the notebook's own metadata differ; {fix}"]
    if outputs:
        wrong = execution.complaints(there)
        if course.get("executed_from") != execution.fingerprint(right):
            wrong.insert(0, "its outputs come from other code")
        return [f"{name}: {wrong[0]}; {fix}"] if wrong else []
    if path.read_text(encoding="utf-8") != _text(right):
        return [f"{name}: same cells, other bytes; {fix}"]
    return []


def _difference(mine: NotebookNode, theirs: NotebookNode, outputs: bool) -> str:
    keys = ["cell_type", "source", "id", "metadata"] + ([] if outputs else ["outputs", "execution_count"])
    return next((key for key in keys if mine.get(key) != theirs.get(key)), "")


def _read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def _text(notebook: NotebookNode) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _write(notebook: NotebookNode, target: Path, say) -> Path:
    content = _text(notebook).encode()
    if len(content) > LARGE:
        megabytes = len(content) / 1e6
        say(f"{target.parent.name}/{target.name}: {megabytes:.1f} MB is a lot to load; fewer or smaller figures")
    write_whole(target, content)
    return target


def main(arguments, root: Path, say=print) -> int:
    """The command's work: `arguments` as argparse made them. Returns the exit status."""
    if arguments.no_solutions and not arguments.to and not arguments.check:
        print("build: --no-solutions takes --to FOLDER, so that notebooks/ stays what its masters say", file=sys.stderr)
        return 1
    try:
        if arguments.check:
            found = check(root, arguments.numbers)
            for line in found:
                say(line)
            if not found:
                say("build --check: every notebook is what its master says")
            return 1 if found else 0
        written = build(
            root, arguments.numbers, to=arguments.to, solutions=not arguments.no_solutions,
            run=not arguments.no_execute, fresh=arguments.fresh, measure=arguments.measure, effort=arguments.effort,
            data=arguments.data, say=say,
        )  # fmt: skip
        for path in written:
            say(f"wrote {path.parent.name}/{path.name}")
        return 0
    except (ValueError, execution.ExecutionError, ModuleNotFoundError, OSError) as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
