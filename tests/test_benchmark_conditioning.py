"""benchmarks/conditioning.py: both ways train alike and are judged alike, and finished rows are kept."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
spec = importlib.util.spec_from_file_location("benchmark_conditioning", BENCHMARKS / "conditioning.py")
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    command = ["--data", "digits", "--steps", "2", "--samples", "10", "--seeds", "3", "--json", str(file)]
    patch = pytest.MonkeyPatch()
    patch.setattr(benchmark, "STRIDES", 3)
    yield file, command, benchmark.main(command)
    patch.undo()


def test_both_ways_are_trained_and_judged(rows):
    _, _, rows = rows
    assert [row["conditioning"] for row in rows] == ["added", "plane"]
    for row in rows:
        assert 0 <= row["accuracy"] <= 1 and row["distance"] > 0 and row["cpu_ms"] > 0, row
    assert rows[1]["parameters"] > rows[0]["parameters"]  # a plane for every block


def test_finished_rows_are_not_measured_again(rows, monkeypatch, capsys):
    file, command, before = rows
    monkeypatch.setattr(benchmark, "measure", lambda *_: pytest.fail("measured again"))
    assert benchmark.main([*command, "--report"]) == before
    assert "| added to the step's embedding | 454,468 | " in capsys.readouterr().out
    assert len(file.read_text().splitlines()) == 2
    assert benchmark.main(["--steps", "7", *command[:2], *command[4:], "--report"]) == []  # other steps, other rows


def test_accuracy_is_the_share_of_the_class_that_was_asked_for():
    class Evaluator:
        features = staticmethod(lambda x: x.flatten(1))
        logits = staticmethod(lambda f: f)

    images = torch.eye(3)[[0, 1, 2, 2]].view(4, 1, 1, 3)
    assert benchmark.accuracy(Evaluator(), images, torch.tensor([0, 1, 0, 2])) == 0.75
