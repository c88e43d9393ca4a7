"""benchmarks/ring.py: every remedy is played as it is called, modes are counted, and the table says what was found."""

import importlib.util
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
spec = importlib.util.spec_from_file_location("ring", BENCHMARKS / "ring.py")
ring = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ring)


def test_points_belong_to_the_mode_within_three_standard_deviations():
    means, std = ring.RING.means, ring.RING.stds[0, 0]
    away = means / means.norm(dim=1, keepdim=True)
    assert ring.modes(means + 2.9 * std * away).tolist() == list(range(8))
    assert ring.modes(means + 3.1 * std * away).tolist() == [-1] * 8


def test_remedies_differ_and_train():
    """After a few steps from the same first weights no two remedies have come to the same place."""
    found = {}
    for name, remedy in ring.REMEDIES.items():
        torch.manual_seed(0)
        G, D = ring.players(remedy.layer)
        data = ring.RING.sample(64, torch.Generator().manual_seed(0))
        recipe = ring.Recipe(steps=3, batch_size=32, lr=1e-3)
        betas = (remedy.beta1 or 0.98, 0.999)
        ring.train_gan(G, D, data, recipe, remedy.game, latent=2, betas=betas, progress=False)
        found[name] = G(torch.ones(1, 2)).detach()
    names = list(found)
    for k, name in enumerate(names):
        for other in names[:k]:
            assert not torch.allclose(found[name], found[other], rtol=0, atol=1e-7), (name, other)


def test_the_whole(capsys):
    rows = ring.main(["--only", "plain", "R1, γ = 1", "--seeds", "3", "4", "--steps", "2"])
    assert [len(found) for found in rows.values()] == [2, 2]
    assert all(row["modes"] in range(9) and 0 <= row["near"] <= 1 for found in rows.values() for row in found)
    assert "| plain |" in capsys.readouterr().out


def test_the_table():
    rows = {"plain": [{"modes": 1, "entropy": 0.0, "near": 0.5}, {"modes": 3, "entropy": 1.0, "near": 0.7}]}
    assert ring.table(rows).splitlines()[-1] == "| plain | 2.00 ± 1.41 | 1, 3 | 0.50 ± 0.71 | 0.60 ± 0.14 |"


@pytest.mark.slow
def test_plain_collapses_and_dcgans_beta_does_not():
    plain, gentle = (
        [ring.measure(ring.REMEDIES[name], seed, 1500, beta1=0.98)["modes"] for seed in (0, 1, 2)]
        for name in ("plain", "β₁ = 0.5")
    )
    assert min(gentle) == 8 and max(plain) <= 2
