"""When does a sample become a copy? The course's diffusion model, trained on 100, 1,000 and 10,000 images alike.

    python benchmarks/memorization.py --json memorization.jsonl              seeds 0 to 2: about an hour on one core
    python benchmarks/memorization.py --json memorization.jsonl --report     the table of what is there
    python benchmarks/memorization.py --json memorization.jsonl --report --to course_utils/shipped/memorization.json

Every model sees as many images in as many steps; only how often it sees the same one differs. 1,000 samples of each
(DPM-Solver++, 20 steps) are compared with the images that it was trained on, in pixels, by two rules:

* *copies*: much nearer to one training image than to all others, by a factor of three (`metrics.copies`);
* *nearer*: nearer to a training image than 99 of 100 held-out images are. How near anything lies to the nearest of n
  images depends on n, so the limit is set anew for each set, by the first half of the test images.

Both rules judge held-out images too (the second half of the test images): what they call a copy there is a mistake of
the rule. Beside them stand squared Fréchet distances (2.10) of the samples to the training images and to all test
images, in the features of the course's small classifier. Finished rows are appended to --json; the same command goes
on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
import over_seeds

from course_utils import recipes
from course_utils.data import ImageSet, load
from course_utils.device import generator, seeded
from course_utils.diffusion import Denoiser
from course_utils.metrics import copies, frechet_distance, nearest
from course_utils.models.autoencoder import in_batches
from course_utils.sampling import clipped, dpm_solver, last
from course_utils.training import fit
from course_utils.weights import load_classifier

SIZES, STEPS, SAMPLES, PART = (100, 1000, 10_000), 1500, 1000, 250
RARE = 0.01  # the share of held-out images that may lie nearer than the limit


class Judge:
    """Compares samples of a model with the images that it was trained on, and with those that it never saw."""

    def __init__(self, test: ImageSet):
        half = len(test) // 2
        self.classifier = load_classifier(test.name)
        self.held_out = self.features(test.x)
        self.calibration, self.control = test.x[:half], test.x[half:]

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        return in_batches(self.classifier.features, images, size=500)

    def __call__(self, images: Tensor, known: Tensor) -> dict[str, float]:
        usual, limit = self.usual(known)
        distance = nearest(images, known).distances.flatten()
        seen = self.features(images)
        return {
            "copies": share(copies(images, known)),
            "control copies": share(copies(self.control, known)),
            "nearer": share(distance < limit),
            "control nearer": share(nearest(self.control, known).distances.flatten() < limit),
            "ratio": (distance.median() / usual).item(),
            "to training": frechet_distance(self.features(known), seen),
            "to test": frechet_distance(self.held_out, seen),
        }

    def usual(self, known: Tensor) -> tuple[Tensor, Tensor]:
        """How near held-out images come to the nearest known one: the middle one of them, and the limit."""
        distances = nearest(self.calibration, known).distances.flatten()
        return distances.median(), distances.quantile(RARE)


def share(found: Tensor) -> float:
    return found.double().mean().item()


def samples_of(known: ImageSet, steps: int, samples: int, seed: int) -> Tensor:
    """Images (samples, c, h, w) in [-1, 1] of a model that was trained on these."""
    with seeded(seed):
        model = recipes.ddpm_model(known.shape)
    schedule = recipes.ddpm_schedule()
    loss = recipes.ddpm_loss(schedule, model)
    history = fit(model, loss, known, recipes.ddpm_recipe(steps, seed), progress=False, say=None)
    if history.interrupted:
        raise KeyboardInterrupt
    denoise, chance = clipped(Denoiser(history.ema_model, schedule, recipes.PREDICTION_TYPE)), generator(seed)
    noises = torch.randn(samples, *known.shape, generator=chance).split(PART)
    with torch.no_grad():
        return torch.cat([last(dpm_solver(denoise, schedule, noise, steps=20)) for noise in noises]).clamp(-1, 1)


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------
COLUMNS = {
    "copies": ("copies", 3),
    "control copies": ("copies among held-out", 3),
    "nearer": ("nearer", 3),
    "control nearer": ("nearer among held-out", 3),
    "ratio": ("median distance, held-out = 1", 2),
    "to training": ("d² to the training images", 1),
    "to test": ("d² to the test images", 1),
}


TABLE = over_seeds.Table("images", "training images", COLUMNS)


def by_size(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["images"])


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure what isn't in the file yet, and print the table."""
    parser = over_seeds.parser(__doc__, SAMPLES)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="images to train on")
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args(arguments)
    settings = {"data": options.data, "steps": options.steps, "samples": options.samples}
    return over_seeds.run(options, settings, collect, TABLE, "images", by_size)


def collect(options: argparse.Namespace, key: dict[str, Any], known: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows that are known, and the others as they are measured."""
    data, judge = load(options.data, "train"), Judge(load(options.data, "test"))

    def measure(size: int, seed: int) -> Iterator[dict[str, Any]]:
        subset = data.first(size)
        yield judge(samples_of(subset, options.steps, options.samples, seed), subset.x)

    for seed in options.seeds:
        for size in options.sizes:
            mine = key | {"images": size, "seed": seed}
            yield from over_seeds.kept(options.json, known, mine, partial(measure, size, seed))


if __name__ == "__main__":
    main()
