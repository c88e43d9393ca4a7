"""benchmarks/trilemma.py: contestants draw what they say, rows are kept and found again, and the table has them all."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from course_utils.data import load
from course_utils.metrics import coverage, frechet_distance, precision
from course_utils.weights import load_classifier

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
spec = importlib.util.spec_from_file_location("trilemma", BENCHMARKS / "trilemma.py")
trilemma = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trilemma)


@pytest.mark.parametrize("name", trilemma.CONTESTANTS)
def test_a_contestant_draws_with_as_many_evaluations_as_it_says(name):
    data = load("digits", "train")
    train, rows = trilemma.CONTESTANTS[name](data.shape, seed=0)
    history = train(data, 2)
    asked = []
    for model, (evaluations, draw) in rows(history).items():
        network = draw.__self__.decoder if name == "vae" else history.ema_model
        asked.clear()
        with network.register_forward_hook(lambda *_: asked.append(1)):
            images = draw(3, torch.Generator().manual_seed(0))
        assert images.shape == (3, *data.shape) and len(asked) == evaluations, model
        assert torch.equal(draw(3, torch.Generator().manual_seed(0)), images)


def test_what_was_measured_is_not_measured_again(tmp_path, capsys, monkeypatch):
    path, shipped = tmp_path / "rows.jsonl", tmp_path / "trilemma.json"
    options = ["--only", "vae", "--seeds", "0", "1", "--samples", "60", "--data", "digits", "--json", str(path)]
    trained = []

    def measure(name, seed, *rest):
        trained.append((name, seed))
        return iter([{"model": "VAE", "seconds": 0.002 + seed, "distance": 10.0 + seed, "evaluations": 1}])

    monkeypatch.setattr(trilemma, "measure", measure)
    monkeypatch.setattr(trilemma, "controls", lambda *_: iter([{"model": "real images", "distance": 1.0}]))
    rows = trilemma.main(options)
    first = capsys.readouterr().out
    assert [row["model"] for row in rows] == ["VAE", "real images"] * 2 and trained == [("vae", 0), ("vae", 1)]
    assert "| VAE | 10.5 (10.0–11.0) |" in first
    assert trilemma.main(options) == rows and capsys.readouterr().out == first and len(trained) == 2
    trilemma.main([*options, "--report", "--to", str(shipped)])
    content = json.loads(shipped.read_text())
    assert content["seeds"] == [0, 1] and content["models"]["real images"] == {"distance": [1.0, 1.0]}
    assert content["models"]["VAE"]["milliseconds"] == pytest.approx([2.0, 1002.0])


def test_the_judge_compares_with_the_test_images():
    test = load("digits", "test")
    judge, classifier = trilemma.Judge(test), load_classifier("digits")
    images = load("digits", "train").first(80).x
    with torch.no_grad():
        real, seen = classifier.features(test.x), classifier.features(images)
    found = judge(images)
    assert found["distance"] == pytest.approx(frechet_distance(real, seen), rel=1e-5)
    assert found["precision"] == precision(real[:80], seen) and found["coverage"] == coverage(real[:80], seen)


def test_a_budget_becomes_steps(monkeypatch):
    clock = iter([10.0, 12.0])  # forty steps in two seconds
    monkeypatch.setattr(trilemma.time, "process_time", lambda: next(clock))
    made = []

    def make(shape, seed):
        return (lambda data, steps: made.append(steps)), None

    assert trilemma.steps_in(30.0, make, load("digits", "train")) == 600 and made == [5, 40]
