"""benchmarks/few_steps.py: each row asks as often as it says, models are kept with their cards, and rows too."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from course_utils.weights import load_denoiser, read_card

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
spec = importlib.util.spec_from_file_location("few_steps_benchmark", BENCHMARKS / "few_steps.py")
few_steps = importlib.util.module_from_spec(spec)
spec.loader.exec_module(few_steps)
TINY = ["--data", "digits", "--samples", "12", "--scale", "0.001", "--seeds", "0"]


@pytest.fixture(scope="module")
def setting():
    return few_steps.Setting("digits", samples=20, budget=0.1, scale=0.001)


def test_a_distance_asks_so_often_and_is_of_those_images(setting):
    asked = []

    def denoise(x_t, t, y=None):
        asked.extend(t.tolist())
        return torch.stack([setting.test.x[label] for label in y.tolist()])

    found = setting.distance(denoise, setting.teacher.schedule, 4, seed=0)
    assert len(asked) == 4 * 20 and len({*asked}) == 4
    assert found == pytest.approx(setting.distance(denoise, setting.teacher.schedule, 2, seed=0), rel=1e-3)
    assert found > 2 * setting.distance(setting.teacher, setting.teacher.schedule, 8, seed=0)  # ten images, repeated


def test_students_learn_pairs_and_strides_and_the_last_one_is_kept(setting, monkeypatch, tmp_path):
    seen, real = [], few_steps.fit

    def fit(model, loss, data, recipe, **how):
        seen.append((type(data).__name__, recipe.steps))
        return real(model, loss, data, recipe, **how)

    monkeypatch.setattr(few_steps, "fit", fit)
    rows = few_steps.main([*TINY, "--only", "rectified", "distilled", "chords", "--models", str(tmp_path)])
    assert seen == [("tuple", 3)] + [("ImageSet", 2)] * 4 + [("tuple", 2)] * 4
    assert {"at 1", "at 2", "at 4", "at 8", "steps"} <= set(rows[2])
    assert set(rows[0]) >= {"at 1", "at 50", "straightness"} and set(rows[1]) >= {"at 1", "at 2", "at 4", "at 8"}
    card = read_card(tmp_path / "digits-distilled.safetensors")
    assert (
        card["strides"] == 1
        and card["steps"] == "8"
        and [*card["on the test split"]] == ["squared Fréchet distance in 1 evaluation"]
    )
    assert "strides" not in read_card(tmp_path / "digits-rectified.safetensors")
    model = load_denoiser(tmp_path / "digits-distilled.safetensors")
    assert model.classes == setting.data.classes and model.prediction_type == "v"


def test_a_chord_is_learned_from_a_path_that_was_drawn(setting):
    """A network that says what leads along the true path has no loss; the path is the teacher's own."""
    times = setting.teacher.schedule.timesteps(4)
    setting.scale = 6 / few_steps.PAIRS
    paths, labels = few_steps.draw_paths(setting, times, seed=0)
    assert paths.shape == (6, 5, 1, 28, 28) and labels.tolist() == [0, 1, 2, 3, 4, 5]
    noise = torch.randn(6, 1, 28, 28, generator=few_steps.generator(0))
    steps = few_steps.dpm_solver(few_steps.clipped(setting.teacher), setting.teacher.schedule, noise, times, labels)
    torch.testing.assert_close(paths, torch.stack([step.x for step in steps], dim=1), atol=1e-4, rtol=1e-4)
    schedule = setting.teacher.schedule

    def model(x_t, t, y):
        """Leads from wherever it is asked to the next stop of that path."""
        k = torch.tensor([times.index(step) for step in t.tolist()])
        which = [(paths[:, int(stop)] - x).flatten(1).norm(dim=1).argmin() for x, stop in zip(x_t, k)]
        x_s, s = paths[torch.stack(which), k + 1], torch.tensor(times)[k + 1]
        return few_steps.convert(schedule, "velocity", "v", few_steps.chord(schedule, x_t, t, x_s, s), x_t, t)

    loss = few_steps.chord_loss(schedule, times, null=10)
    chance = torch.Generator().manual_seed(1)
    assert loss(model, paths, labels, chance) < 1e-8
    assert loss(lambda *batch: 0.9 * model(*batch), paths, labels, chance) > 1e-3


def test_what_was_measured_is_not_measured_again(tmp_path, capsys, monkeypatch):
    path, shipped = tmp_path / "rows.jsonl", tmp_path / "few_steps.json"
    measured = []

    def solvers(setting, seed):
        measured.append(seed)
        yield "DDIM", {"at 1": 100.0 + seed, "straightness": 0.25}, {}

    monkeypatch.setitem(few_steps.CONTESTANTS, "solvers", solvers)
    options = ["--data", "digits", "--only", "solvers", "--seeds", "0", "2", "--json", str(path)]
    rows = few_steps.main(options)
    first = capsys.readouterr().out
    assert measured == [0, 2] and "| DDIM | 101.0 (100.0–102.0) |" in first
    assert few_steps.main(options) == rows and capsys.readouterr().out == first and measured == [0, 2]
    few_steps.main([*options, "--report", "--to", str(shipped)])
    content = json.loads(shipped.read_text())
    assert content["seeds"] == [0, 2] and content["models"]["DDIM"]["at 1"] == [100.0, 102.0]
