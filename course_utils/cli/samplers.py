"""The samplers that `sample --sampler` offers. A new one in course_utils.sampling gets a line here, and that is all."""

from __future__ import annotations

import inspect
from collections.abc import Callable

SAMPLERS = {  # name -> what `--help` says of it
    "ddim": "with --eta 1 as random as DDPM",
    "ddpm": "ancestral sampling",
    "euler": "along the ODE",
    "heun": "the same, more exact, with two calls of the network a step",
    "dpm-solver": "DPM-Solver++(2M), which needs far fewer steps: try --steps 10 --eta 1",
}


def options_of(name: str) -> set[str]:
    """Which of "eta" and "generator" a sampler takes.

    >>> sorted(options_of("ddim")), sorted(options_of("heun"))
    (['eta', 'generator'], [])
    """
    return {"eta", "generator"} & inspect.signature(function_of(name)).parameters.keys()


def function_of(name: str) -> Callable:
    """The sampler of that name in course_utils.sampling: (denoise, schedule, noise, steps, y, ...) → `Step`s."""
    from .. import sampling  # late: `--help` doesn't wait for PyTorch

    return getattr(sampling, name.replace("-", "_"))
