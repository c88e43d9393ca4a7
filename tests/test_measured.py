"""Tables that come with the course, and what the trilemma's triangle makes of one."""

import json
import re
from pathlib import Path

import pytest

from course_utils.measured import TABLES, corners, shipped_table, wishes

CONTROLS = {
    "real images": {"distance": [0.9, 1.1], "coverage": [0.9, 1.0]},
    "pixel Gaussian": {"distance": [100.0, 100.0], "coverage": [0.1, 0.0]},
}


def test_another_name_is_answered_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"one of few_steps, latent, memorization.*, got 'dilemma'"):
        shipped_table("dilemma")


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.json")), ids=lambda path: path.stem)
def test_a_table_says_how_it_was_made_and_has_a_value_for_every_seed(path: Path):
    table = json.loads(path.read_text(encoding="utf-8"))
    rows = table.get("models") or table["images"]
    assert table["samples"] >= 1000 and len(table["seeds"]) >= 1
    of_each = {name: {len(values) for values in row.values()} for name, row in rows.items()}
    if path.stem == "latent":  # its lines say their data, and the longer trainings were not done with every seed
        sizes = {name: seeds.pop() for name, seeds in of_each.items() if len(seeds) == 1}
        assert sizes.keys() == rows.keys() and {1, len(table["seeds"])} >= {*sizes.values()}
        assert all(sizes[name] == len(table["seeds"]) for name in rows if name.endswith(", 60"))
        return
    assert table["data"] == "fashion-mnist"
    trained_once = {"rectified", "distilled"} if path.stem == "few_steps" else set()  # as notebook 10 says
    assert of_each == {name: {1 if name in trained_once else len(table["seeds"])} for name in rows}


def test_corners_by_hand():
    """100 ms is half way from 10 s to 1 ms, in powers of ten."""
    assert corners((4.0, 0.1, 0.25), (5.0, 10.0, 0.0), (3.0, 0.001, 1.0)) == pytest.approx((0.5, 0.5, 0.25))
    assert corners((9.0, 1e-9, 0.5), (5.0, 10.0, 0.0), (3.0, 0.001, 1.0)) == pytest.approx((0.0, 1.0, 0.5))
    with pytest.raises(ValueError, match="ends that differ in all three"):
        corners((4.0, 0.1, 0.5), (5.0, 1.0, 1.0), (3.0, 0.1, 1.0))


def test_wishes_of_a_table():
    """√d² = 5.5 is half way from 10 to 1; 10 ms from a second to a tenth of a millisecond; 0.5 from 0.05 to 0.95."""
    between = {"distance": [5.5**2, 1.0], "milliseconds": [10.0, 10.0], "coverage": [0.5, 0.5]}
    (found,) = wishes({"models": CONTROLS | {"GAN": between}}).items()
    name, shares = found
    assert shares == [pytest.approx((0.5, 0.5, 0.5)), pytest.approx((1.0, 0.5, 0.5))]
    assert re.fullmatch(r"GAN\ngood 0.75, fast 0.50, covered 0.50", name)
