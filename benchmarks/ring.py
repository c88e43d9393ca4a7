"""What helps against mode collapse? A GAN on a ring of eight blobs that is set up to collapse; one remedy at a time.

    python benchmarks/ring.py                       all remedies, seeds 0 to 4: about five minutes on one core
    python benchmarks/ring.py --beta1 0.5           the same where nothing collapses
    python benchmarks/ring.py --only plain "R1, γ = 1" --seeds 0 1 --steps 500

The setting that collapses: Adam with β₁ = 0.98 at a rate of 0.001, two small networks (64 units, two layers), 128
points a step, 1,500 steps. (PyTorch's own β₁ = 0.9 only delays: after 1,500 steps the modes are there with one seed and
not with the next, after 3,000 they are there with each.) Prints a Markdown table: modes covered of 8 (a mode counts
where at least a tenth of a fair share of 2,500 generated points lies within three standard deviations), the entropy of
the modes' shares (at most ln 8 = 2.08 nats), and the share of points that lie near any mode; mean ± standard deviation
over seeds, and the modes of each seed.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from course_utils.adversarial import NON_SATURATING, RELATIVISTIC, SATURATING, Game, smoothed, train_gan
from course_utils.data import GaussianMixture
from course_utils.device import generator, seeded
from course_utils.metrics import class_entropy, classes_covered
from course_utils.training import Recipe

RING = GaussianMixture.ring(8, std=0.05)
LATENT, POINTS = 2, 2500


def unchanged(layer: nn.Module) -> nn.Module:
    return layer


class Remedy(NamedTuple):
    """One way to play: the game, Adam's β₁ (None: the setting's), and what is done to each layer of D."""

    game: Game = NON_SATURATING
    beta1: float | None = None
    layer: Callable[[nn.Module], nn.Module] = unchanged


REMEDIES = {
    "plain": Remedy(),
    "saturating loss": Remedy(SATURATING),
    "β₁ = 0.5": Remedy(beta1=0.5),
    "label smoothing 0.1": Remedy(smoothed(0.1)),
    "spectral norm": Remedy(layer=spectral_norm),
    "R1, γ = 0.1": Remedy(NON_SATURATING.with_r1(0.1)),
    "R1, γ = 1": Remedy(NON_SATURATING.with_r1(1.0)),
    "relativistic": Remedy(RELATIVISTIC),
    "relativistic + R1, γ = 0.1": Remedy(RELATIVISTIC.with_r1(0.1)),
}


def players(layer: Callable[[nn.Module], nn.Module], width: int = 64) -> tuple[nn.Module, nn.Module]:
    """A generator of points and a discriminator, each with two hidden layers."""
    G = nn.Sequential(
        nn.Linear(LATENT, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 2)
    )
    dense = [layer(nn.Linear(a, b)) for a, b in ((2, width), (width, width), (width, 1))]
    return G, nn.Sequential(dense[0], nn.LeakyReLU(0.2), dense[1], nn.LeakyReLU(0.2), dense[2], nn.Flatten(0))


def modes(x: Tensor) -> Tensor:
    """The mode (n,) that each point (n, 2) lies near, or −1: farther than three standard deviations from every one."""
    distance, nearest = torch.cdist(x, RING.means).min(1)
    return torch.where(distance <= 3 * RING.stds[0, 0], nearest, -1)


def measure(remedy: Remedy, seed: int, steps: int, beta1: float) -> dict[str, float]:
    """Train once, draw, count."""
    with seeded(seed):
        G, D = players(remedy.layer)
    data, recipe = RING.sample(20_000, generator(seed)), Recipe(steps=steps, batch_size=128, lr=1e-3, seed=seed)
    betas = (beta1 if remedy.beta1 is None else remedy.beta1, 0.999)
    history = train_gan(G, D, data, recipe, remedy.game, latent=LATENT, betas=betas, progress=False, say=None)
    if history.interrupted:
        raise KeyboardInterrupt
    with torch.no_grad():
        found = modes(G(torch.randn(POINTS, LATENT, generator=generator(1_000_003 + seed))))
    near = (found >= 0).double().mean().item()
    return {"modes": classes_covered(found, 8), "entropy": class_entropy(found, 8), "near": near}


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """One line for each remedy."""
    lines = ["| remedy | modes of 8 | each seed | entropy, nats | points near a mode |", "|---|---|---|---|---|"]
    for name, found in rows.items():
        cells = []
        for key in ("modes", "entropy", "near"):
            values = [row[key] for row in found]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.fmean(values):.2f} ± {spread:.2f}")
        each = ", ".join(f"{row['modes']:.0f}" for row in found)
        lines.append(f"| {name} | {cells[0]} | {each} | {cells[1]} | {cells[2]} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, list[dict[str, float]]]:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=REMEDIES, default=list(REMEDIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--beta1", type=float, default=0.98, help="Adam's, where the remedy is another")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the networks are too small for two
    rows = {
        name: [measure(REMEDIES[name], seed, options.steps, options.beta1) for seed in options.seeds]
        for name in options.only
    }
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
