"""benchmarks/latent.py: what each contestant trains on, how long, what is judged, and rows that are kept."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from course_utils.data import load
from course_utils.training import Recipe

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
spec = importlib.util.spec_from_file_location("latent_benchmark", BENCHMARKS / "latent.py")
latent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(latent)
pytestmark = pytest.mark.filterwarnings("ignore:.*images for .* features")


def test_each_contestant_trains_its_own_network_on_pixels_or_codes(monkeypatch):
    data, test, seen, real = load("digits", "train"), load("digits", "test").first(60), [], latent.trained

    def trained(budget, model, loss, on, recipe):
        shape = (on[0] if isinstance(on, tuple) else on.x).shape[1:]
        seen.append((type(model).__name__, tuple(shape), budget))
        return real(0.01, model, loss, on, recipe)

    monkeypatch.setattr(latent, "trained", trained)
    judge, rows = latent.Judge(test), {}
    for name in latent.CONTESTANTS:
        (rows[name],) = latent.measure(name, data, test, judge, budget=900.0, seed=0, n=20)
    assert [what[:2] for what in seen] == [
        ("UNet", (1, 28, 28)),
        ("DiT", (1, 28, 28)),
        ("AutoencoderKL", (1, 28, 28)),
        ("UNet", (4, 7, 7)),
    ]
    budgets = [budget for *_, budget in seen]
    assert budgets[:3] == [900.0, 900.0, 300.0] and 500 < budgets[3] < 600  # coding the images costs some seconds
    assert all(row["distance"] > 0 and row["drawing"] > 0 for row in rows.values())
    assert "floor" in rows["U-Net on codes"] and "floor" not in rows["U-Net"]


@pytest.mark.parametrize(("name", "size"), [("digits", 28), ("shapes", 32), ("shapes", 64)])
def test_the_judge_finds_test_images_close_and_others_far(name, size):
    test = load(name, "test", size=size).first(300)
    judge = latent.Judge(test)
    assert judge(test.x) == pytest.approx(0, abs=1e-3) and judge(0.1 * test.x) > 50


def test_a_budget_is_spent_whatever_slows_the_steps(monkeypatch):
    """By a clock of our own, on which a step takes 2 seconds, and a disturbance 40."""
    now, rates = [0.0], []

    def loss(model, x, y, generator):
        now[0] += 40.0 if len(rates) == 10 else 2.0
        rates.append(None)
        return model(x).square().mean()

    monkeypatch.setattr(latent.training, "seconds", lambda device: now[0])
    model = torch.nn.Linear(3, 3)
    before = model.weight.clone()
    average, steps = latent.trained(
        200.0, model, loss, torch.randn(8, 3), lambda steps: Recipe(steps, lr=0.1, lr_schedule="linear-half", ema=0.9)
    )
    assert 80 <= steps <= 82 and not average.training and not torch.equal(model.weight, before)


def test_what_was_measured_is_not_measured_again(tmp_path, capsys, monkeypatch):
    path, shipped, measured = tmp_path / "rows.jsonl", tmp_path / "latent.json", []

    def measure(who, data, test, judge, budget, seed, n):
        measured.append((who, data.shape[1], budget, seed))
        yield {"distance": 10.0 * budget + seed, "drawing": 1.0, "steps": 3}

    monkeypatch.setattr(latent, "measure", measure)
    options = ["--data", "digits", "--only", "U-Net", "--budget", "2", "1", "--seeds", "0", "2", "--json", str(path)]
    rows = latent.main(options)
    first = capsys.readouterr().out
    assert measured == [("U-Net", 28, b, s) for b in (2.0, 1.0) for s in (0, 2)]
    assert "| digits 28, U-Net, 1 | 11.0 (10.0–12.0) |" in first
    assert first.index("U-Net, 1 |") < first.index("U-Net, 2 |")  # by budget, not in the order of measuring
    assert latent.main(options) == rows and capsys.readouterr().out == first and len(measured) == 4
    latent.main([*options, "--report", "--to", str(shipped)])
    content = json.loads(shipped.read_text())
    assert content["seeds"] == [0, 2] and content["models"]["digits 28, U-Net, 2"]["distance"] == [20.0, 22.0]
