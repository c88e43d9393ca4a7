"""benchmarks/choices.py: every change is a change, trains, and stands in the table at its place."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from course_utils.device import generator, seeded

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
spec = importlib.util.spec_from_file_location("choices", BENCHMARKS / "choices.py")
choices = importlib.util.module_from_spec(spec)
spec.loader.exec_module(choices)


def described(entry):
    """What decides a run, as text: its network, loss and recipe."""
    with seeded(0):
        model = entry.build((1, 28, 28))
    x = torch.randn(4, 1, 28, 28, generator=generator(1))
    loss = entry.loss()(model, x, None, generator(2)).item()
    return f"{model} {entry.recipe} {loss:.6f}"


@pytest.mark.parametrize("name", [name for name in choices.CHOICES if name != "ours"])
def test_a_choice_differs_from_ours_and_learns(name):
    entry = choices.CHOICES[name]()
    assert described(entry) != described(choices.CHOICES["ours"]())
    model = entry.build((1, 28, 28))
    entry.loss()(model, torch.ones(2, 1, 28, 28), None, generator(0)).backward()
    assert model.head.weight.grad.abs().sum() > 0


def test_the_table_puts_the_worst_change_first_and_takes_means_over_seeds():
    rows = [
        {"entry": "ours", "distance": 10.0, "steps": 1000, "cpu_ms": 100},
        {"entry": "Adam, 3e-3", "distance": 15.0, "steps": 1100, "cpu_ms": 90},
        {"entry": "Adam, 3e-3", "distance": 25.0, "steps": 1300, "cpu_ms": 90},
    ]
    lines = choices.table(rows).splitlines()[2:]
    assert lines == ["| Adam, 3e-3 | 20.0 (15.0–25.0) | 2.00× | 1,200 | 90 |", "| ours | 10.0 |  | 1,000 | 100 |"]


def test_a_row_is_measured_once_and_then_read(tmp_path, monkeypatch, capsys):
    judged = []

    class Evaluator:
        name = "a stand-in"

        def __call__(self, images):
            judged.append(tuple(images.shape))
            return {"distance": 7.0}

    monkeypatch.setattr(choices.training, "make_evaluator", lambda *_: Evaluator())
    command = [
        "--only",
        "ours",
        "--budget",
        "0.5",
        "--samples",
        "4",
        "--data",
        "digits",
        "--json",
        str(tmp_path / "rows"),
    ]
    first, again = choices.main(command), choices.main(command)
    assert judged == [(4, 1, 28, 28)] and first == again
    assert "| ours | 7.0 |" in capsys.readouterr().out
