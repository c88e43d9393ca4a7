"""What tests need to know about the masters: their code, their definitions, their equation numbers."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SOLUTIONS = Path(__file__).resolve().parent.parent / "solutions"


def paths() -> list[Path]:
    """All masters, in order."""
    return sorted(SOLUTIONS.glob("[0-9][0-9]_*.py"))


def path(number: str) -> Path:
    """The master of notebook `number`; FileNotFoundError when there is none."""
    found = [p for p in paths() if p.stem.startswith(f"{number}_")]
    if not found:
        raise FileNotFoundError(f"no master solutions/{number}_*.py")
    return found[0]


def definitions(number: str) -> dict[str, object]:
    """Functions and classes that a notebook defines, by name, without running the rest of it."""
    found = namespace(number)
    return {node.name: found[node.name] for node in _kept(number) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def namespace(number: str) -> dict[str, object]:
    """What a notebook's definitions see.

    Executed are the master's imports, its definitions and its constants (plain literals bound to a name), in order;
    where a name is defined twice the last one counts. Setup calls, trainings and plots are not run.
    """
    found: dict[str, object] = {"__name__": f"notebook_{number}"}
    exec(compile(ast.Module(body=_kept(number), type_ignores=[]), str(path(number)), "exec", dont_inherit=True), found)
    return found


def prose(master: Path) -> str:
    """The master's markdown, without the comment signs."""
    lines, markdown = [], False
    for line in master.read_text(encoding="utf-8").splitlines():
        if line.startswith("# %%"):
            markdown = line.startswith("# %% [markdown]")
        elif markdown and line.startswith("#"):
            lines.append(line[2:] if line.startswith("# ") else line[1:])
    return "\n".join(lines)


def tags(master: Path) -> list[str]:
    r"""Equation numbers in order of appearance: every \tag{N.k} in the master's prose."""
    return re.findall(r"\\tag\{(\d+\.\d+)\}", prose(master))


def _kept(number: str) -> list[ast.stmt]:
    return [node for node in ast.parse(path(number).read_text(encoding="utf-8")).body if _is_definition(node)]


def _is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
        return True
    if isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
        try:
            ast.literal_eval(node.value)
        except ValueError:
            return False
        return True
    return False
