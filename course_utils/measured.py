"""What took hours to measure, and comes with the course as numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TABLES = Path(__file__).parent / "shipped"


def shipped_table(name: str) -> dict[str, Any]:
    """A table of measurements: how they were made, and every value of every seed.

    name: "trilemma" (`benchmarks/trilemma.py`: "models" -> quantity -> one value a seed) or "memorization"
    (`benchmarks/memorization.py`: "images", how many a model was trained on -> quantity -> one value a seed).
    Raises ValueError for another name.

    >>> shipped_table("memorization")["samples"]
    1000
    """
    known = sorted(path.stem for path in TABLES.glob("*.json"))
    if name not in known:
        raise ValueError(f"shipped_table: expected one of {', '.join(known)}, got {name!r}.")
    return json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))
