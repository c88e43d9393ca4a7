"""Long lists of like cases: `make test` takes one in a few of them, `make test-all` all."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def one_in(n: int, values: Iterable[object]) -> list:
    """Parameters for `pytest.mark.parametrize`: the first of each n as it is, the others slow."""
    return [pytest.param(value, marks=[pytest.mark.slow] * (k % n > 0)) for k, value in enumerate(values)]
