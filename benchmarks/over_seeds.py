"""Benchmarks over seeds whose numbers come with the course: rows that are kept, a table, a file for the notebooks."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import training

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """by: the quantity that has a line for each of its values;  head: of that column;  columns: {quantity: (its head,
    digits)}."""

    by: str
    head: str
    columns: Mapping[str, tuple[str, int]]

    def summary(self, rows: Iterable[Row]) -> dict[str, dict[str, list[float]]]:
        """Line -> quantity -> the values of all seeds, in the order in which they were measured."""
        found: dict[str, dict[str, list[float]]] = {}
        for row in rows:
            line = found.setdefault(str(row[self.by]), {})
            for quantity in self.columns:
                if quantity in row:
                    line.setdefault(quantity, []).append(row[quantity])
        return found

    def markdown(self, rows: Iterable[Row]) -> str:
        """Mean, and lowest to highest, over seeds."""
        lines = [f"| {self.head} | " + " | ".join(head for head, _ in self.columns.values()) + " |"]
        lines.append("|---" * (len(self.columns) + 1) + "|")
        for name, values in self.summary(rows).items():
            cells = [training.spread(values[q], n) if q in values else "" for q, (_, n) in self.columns.items()]
            name = f"{int(name):,}" if name.isdecimal() else name
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def parser(about: str | None, samples: int) -> argparse.ArgumentParser:
    """The options that such benchmarks share."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--samples", type=int, default=samples)
    made.add_argument("--data", default="fashion-mnist")
    made.add_argument("--json", type=Path, help="append each row to this file, and skip those that it has")
    made.add_argument("--report", action="store_true", help="measure nothing: the table of what is in the file")
    made.add_argument("--to", type=Path, help="write all seeds to this file, for the notebooks")
    return made


def run(
    options: argparse.Namespace,
    settings: Row,
    collect: Callable[[argparse.Namespace, Row, list[Row]], Iterator[Row]],
    table: Table,
    plural: str,
    prepared: Callable[[list[Row]], list[Row]] = list,
) -> list[Row]:
    """Measure what isn't in the file yet, print the table, and write what `--to` asks for.

    settings: what a row must share to count;  collect: gives the rows, calling `kept`;  plural: what the file calls the
    lines of the table;  prepared: rows as they are measured -> as the table takes them.
    """
    torch.set_num_threads(1)
    known = [row for row in training.read_rows(options.json) if settings.items() <= row.items()]
    rows = known if options.report else list(collect(options, settings, known))
    shown = prepared(rows)
    print(table.markdown(shown))
    if options.to:
        content = settings | {"seeds": sorted({row["seed"] for row in rows}), plural: table.summary(shown)}
        options.to.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return rows


def kept(path: Path | None, known: list[Row], mine: Row, measure: Callable[[], Iterable[Row]]) -> list[Row]:
    """The rows that hold all of `mine`: those that are known, else measured, all of them or none, and appended."""
    found = [row for row in known if mine.items() <= row.items()]
    if not found:
        found = [mine | row for row in measure()]
        for row in found:
            training.append_row(path, row)
            print(row, file=sys.stderr, flush=True)
    return found
