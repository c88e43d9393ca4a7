"""What took hours to measure, and comes with the course as numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

TABLES = Path(__file__).parent / "shipped"
SLOW, FAST = 1.0, 1e-4  # seconds for an image: the ends of the scale of speed
WISHES = ("good samples", "fast sampling", "every mode covered")

Numbers = Sequence[float]  # of a model: its distance to real images, seconds for an image, coverage


def shipped_table(name: str) -> dict[str, Any]:
    """A table of measurements: how they were made, and every value of every seed.

    name: "trilemma" (`benchmarks/trilemma.py`: "models" -> quantity -> one value a seed) or "memorization"
    (`benchmarks/memorization.py`: "images", how many a model was trained on -> quantity -> one value a seed),
    "few_steps" (`benchmarks/few_steps.py`: "models" -> "at 1", "at 2", … evaluations -> one value a seed) or
    "latent" (`benchmarks/latent.py`: "models", by images, network and CPU seconds -> quantity -> one value a seed).
    Raises ValueError for another name.

    >>> shipped_table("memorization")["samples"]
    1000
    """
    known = sorted(path.stem for path in TABLES.glob("*.json"))
    if name not in known:
        raise ValueError(f"shipped_table: expected one of {', '.join(known)}, got {name!r}.")
    return json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))


def corners(measured: Numbers, worst: Numbers, best: Numbers) -> tuple[float, float, float]:
    """How far each of three numbers has come from the worst to the best, in [0, 1]: what the trilemma's triangle draws.

    measured, worst, best: (distance, seconds for an image, coverage). Linear in distance and coverage, and in the
    *logarithm* of the seconds; what lies beyond an end is clipped. Raises ValueError where worst and best agree.

    >>> corners((6.0, 0.01, 0.5), worst=(10.0, 1.0, 0.0), best=(2.0, 0.0001, 1.0))
    (0.5, 0.5, 0.5)
    """
    rows = [(d, math.log(seconds), cover) for d, seconds, cover in (measured, worst, best)]
    if any(low == high for low, high in zip(*rows[1:])):
        raise ValueError(f"corners: expected ends that differ in all three, got worst {worst} and best {best}.")
    return tuple(min(1.0, max(0.0, (value - low) / (high - low))) for value, low, high in zip(*rows))


def places(models: Mapping[str, Any], worst: Numbers, best: Numbers) -> dict[str, list[tuple[float, float, float]]]:
    """The `corners` of each model, one triple a seed; controls, which have no time, are left out.

    models: name -> quantity -> one value a seed: "distance", the *squared* Fréchet distance, of which the root counts,
    "milliseconds" for an image, and "coverage".  worst, best: as for `corners`.

    >>> models = {"a model": {"distance": [36.0], "milliseconds": [10.0], "coverage": [0.5]}}
    >>> places(models, worst=(10.0, 1.0, 0.0), best=(2.0, 0.0001, 1.0))
    {'a model': [(0.5, 0.5, 0.5)]}
    """
    found = {}
    for name, values in models.items():
        if "milliseconds" in values:
            seeds = zip(values["distance"], values["milliseconds"], values["coverage"])
            found[name] = [corners((d2**0.5, ms / 1000, cover), worst, best) for d2, ms, cover in seeds]
    return found


def wishes(table: Mapping[str, Any]) -> dict[str, list[tuple[float, float, float]]]:
    """For each model of the trilemma's table its `places`, ready for `plots.triangle`.

    table: `shipped_table("trilemma")`. Of distance and coverage the ends are the controls: one Gaussian fitted to the
    pixels, and real images. Of speed they are `SLOW` and `FAST`. The names carry the means of the three.
    """
    models, found = table["models"], {}
    worst, best = (_end(models[name], seconds) for name, seconds in (("pixel Gaussian", SLOW), ("real images", FAST)))
    for name, shares in places(models, worst, best).items():
        good, fast, covered = map(fmean, zip(*shares))
        found[f"{name}\ngood {good:.2f}, fast {fast:.2f}, covered {covered:.2f}"] = shares
    return found


def _end(control: Mapping[str, Numbers], seconds: float) -> Numbers:
    return fmean(control["distance"]) ** 0.5, seconds, fmean(control["coverage"])
