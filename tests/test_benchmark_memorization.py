"""benchmarks/memorization.py: copies are found where they were planted, rows are kept, and the table has them all."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from course_utils.data import load

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
spec = importlib.util.spec_from_file_location("memorization", BENCHMARKS / "memorization.py")
memorization = importlib.util.module_from_spec(spec)
spec.loader.exec_module(memorization)


@pytest.fixture(scope="module")
def judge():
    return memorization.Judge(load("digits", "test"))


def test_planted_copies_are_found_by_both_rules(judge):
    known, fresh = load("digits", "train").first(100).x, load("digits", "train").x[-100:]
    nearly = known[:30] + 0.01 * torch.randn(30, *known.shape[1:], generator=torch.Generator().manual_seed(0))
    found = judge(torch.cat([nearly, fresh[:70]]), known)
    assert 0.25 <= found["copies"] <= 0.33 and 0.28 <= found["nearer"] <= 0.36
    assert found["control copies"] <= 0.03 and found["control nearer"] <= 0.05
    assert found["to training"] < judge(fresh, known)["to training"]


def test_the_middle_distance_is_measured_by_held_out_images(judge):
    known = load("digits", "train").first(100).x
    images = judge.calibration
    apart = torch.cdist(images.flatten(1).double(), known.flatten(1).double()).min(1).values
    usual, limit = judge.usual(known)
    assert usual.item() == pytest.approx(apart.median().item()) and (apart < limit).double().mean() <= 0.02
    assert judge(images, known)["ratio"] == pytest.approx(1)


def test_a_model_knows_only_the_images_that_it_was_given(monkeypatch):
    seen = []

    def fit(model, loss, known, recipe, **_):
        seen.append((len(known), recipe.steps, recipe.seed))
        return memorization.argparse.Namespace(interrupted=False, ema_model=model.eval())

    monkeypatch.setattr(memorization, "fit", fit)
    images = memorization.samples_of(load("digits", "train").first(7), steps=3, samples=5, seed=4)
    assert seen == [(7, 3, 4)] and images.shape[0] == 5 and images.abs().max() <= 1


def test_what_was_measured_is_not_measured_again(tmp_path, capsys, monkeypatch):
    path, shipped = tmp_path / "rows.jsonl", tmp_path / "memorization.json"
    options = ["--sizes", "20", "30", "--seeds", "0", "1", "--data", "digits", "--json", str(path)]
    trained = []

    def samples_of(known, steps, samples, seed):
        trained.append((len(known), seed))
        return known.x[:10].repeat(2, 1, 1, 1) if seed else torch.zeros(20, *known.shape)

    monkeypatch.setattr(memorization, "samples_of", samples_of)
    rows = memorization.main(options)
    first = capsys.readouterr().out
    assert trained == [(20, 0), (30, 0), (20, 1), (30, 1)] and [row["copies"] for row in rows] == [0, 0, 1, 1]
    assert "| 20 | 0.500 (0.000–1.000) |" in first and "| 30 | 0.500 (0.000–1.000) |" in first
    assert memorization.main(options) == rows and capsys.readouterr().out == first and len(trained) == 4
    memorization.main([*options, "--report", "--to", str(shipped)])
    content = json.loads(shipped.read_text())
    assert content["seeds"] == [0, 1] and content["steps"] == memorization.STEPS
    assert list(content["images"]) == ["20", "30"] and content["images"]["20"]["copies"] == [0, 1]
