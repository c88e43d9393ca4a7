"""benchmarks/ablations.py: what is left out is left out, a plain network computes the same, finished rows are kept."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from course_utils import weights

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
spec = importlib.util.spec_from_file_location("benchmark_ablations", BENCHMARKS / "ablations.py")
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


@pytest.mark.parametrize("variant", benchmark.VARIANTS)
def test_a_plain_network_computes_the_same(variant):
    model = benchmark.make(variant, (1, 12, 8), seed=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    x, t = torch.randn(3, 1, 12, 8, generator=generator), torch.tensor([3, 500, 999])
    torch.testing.assert_close(benchmark.as_plain(model)(x, t), model(x, t), rtol=1e-4, atol=1e-5)
    assert torch.allclose(model(x, t), model(x, t.flip(0)), atol=1e-5) == (variant == "no time")


def test_seeds_are_alike_where_parts_are():
    one, other = (benchmark.make(variant, (1, 8, 8), seed=5) for variant in ("full", "no time"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_rows_and_networks_are_kept_and_shipped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "VARIANTS", ("full", "no time"))
    command = ["--data", "digits", "--steps", "2", "--images", "8", "--seeds", "1", "2", "--threads", "1"]
    command += ["--json", str(tmp_path / "rows.jsonl")]
    before = benchmark.main(command)
    assert [(row["seed"], row["variant"]) for row in before] == [
        (1, "full"),
        (1, "no time"),
        (2, "full"),
        (2, "no time"),
    ]
    monkeypatch.setattr(benchmark, "measure", lambda *_: pytest.fail("measured again"))
    assert benchmark.main([*command, "--ship", str(tmp_path / "ship")]) == before
    assert "| no time | " in capsys.readouterr().out
    card = weights.read_card(tmp_path / "ship" / "no-time.safetensors")
    assert list(card["on the test split"]) == ["seed 1", "seed 2"] and len(card["at t"]) == len(benchmark.LEVELS)
    assert all(0 < value < 1 for value in card["grain at t = 1000"].values())


def test_grain_is_what_a_blur_takes_away():
    class Flat:
        model = type("Model", (), {"shape": (1, 6, 6)})
        schedule = type("Schedule", (), {"T": 10})

        def __call__(self, x, t):
            return self.answer.expand_as(x)

    flat = Flat()
    stripes = (torch.arange(36).view(6, 6) % 2) * 2.0 - 1
    for flat.answer, expected in ((torch.full((6, 6), 0.5), 0.0), (stripes, 16 / 9)):
        assert benchmark.grain(flat, images=4) == pytest.approx(expected, abs=0.2 if expected else 1e-9)
