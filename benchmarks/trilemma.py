"""Quality, speed, coverage: a VAE, a DCGAN and a diffusion model, trained for equal CPU seconds, then measured alike.

    python benchmarks/trilemma.py --json trilemma.jsonl                 300 CPU seconds each, seeds 0 to 2: two hours
    python benchmarks/trilemma.py --json trilemma.jsonl --report        the table of what is there
    python benchmarks/trilemma.py --json trilemma.jsonl --report --to course_utils/shipped/trilemma.json

One diffusion model stands in several rows: DDIM in 50 steps, and a few-step sampler (DPM-Solver++) at 10 and 5
evaluations. 2,000 samples are compared with test images in the features of the course's small classifier: squared
Fréchet distance (2.10) to all test images, precision (k = 3), recall (k = 3), density and coverage (k = 5) against the
first 2,000, classes covered and the entropy of the classes that the classifier sees. Seconds are CPU seconds per image
on one thread, in batches of 100. Two control rows need no training: real training images, and draws from one Gaussian
fitted to the pixels. Finished rows are appended to --json; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
import over_seeds

from course_utils import recipes
from course_utils.adversarial import train_gan
from course_utils.data import ImageSet, load
from course_utils.device import generator, seeded
from course_utils.diffusion import Denoiser
from course_utils.metrics import class_entropy, classes_covered, coverage, density, frechet_distance, precision, recall
from course_utils.models.autoencoder import in_batches
from course_utils.models.dcgan import Discriminator, Generator
from course_utils.models.vae import VAE, negative_elbo
from course_utils.sampling import clipped, ddim, dpm_solver, last
from course_utils.training import Recipe, fit
from course_utils.weights import load_classifier
from course_utils.yardsticks import pixel_gaussian

SAMPLES, PART, LATENT = 2000, 100, 32
Draw = Callable[[int, torch.Generator], Tensor]  # (n, chance) -> images (n, c, h, w)


# ---------------------------------------------------------------------------------------------------------------------
# The contestants: each makes a training and, from what was trained, the rows that it stands in
# ---------------------------------------------------------------------------------------------------------------------
def vae(shape: tuple[int, int, int], seed: int) -> tuple[Callable, Callable]:
    """Decoded codes from the prior, as the mean of each pixel."""
    with seeded(seed):
        model = VAE(shape, LATENT)

    def train(data: ImageSet, steps: int):
        how = Recipe(
            steps=steps, batch_size=128, lr=4e-3, lr_schedule="cosine", warmup=steps // 10, clip=100.0, seed=seed
        )
        return fit(model, negative_elbo(1.0), data, how, progress=False, say=None)

    return train, lambda history: {"VAE": (1, model.sample)}


def dcgan(shape: tuple[int, int, int], seed: int) -> tuple[Callable, Callable]:
    """One pass of the averaged generator."""
    with seeded(seed):
        G, D = Generator(shape), Discriminator(shape)

    def train(data: ImageSet, steps: int):
        return train_gan(G, D, data, recipes.dcgan_recipe(steps, seed), progress=False, say=None)

    return train, lambda history: {"DCGAN": (1, history.ema_model.sample)}


def ddpm(shape: tuple[int, int, int], seed: int) -> tuple[Callable, Callable]:
    """The same averaged network, asked 50, 10 and 5 times."""
    with seeded(seed):
        model = recipes.ddpm_model(shape)
    schedule = recipes.ddpm_schedule()

    def train(data: ImageSet, steps: int):
        loss = recipes.ddpm_loss(schedule, model)
        return fit(model, loss, data, recipes.ddpm_recipe(steps, seed), progress=False, say=None)

    def rows(history):
        denoise = clipped(Denoiser(history.ema_model, schedule, recipes.PREDICTION_TYPE))
        walks = {
            "diffusion, 50 steps": (50, partial(ddim, steps=50)),
            "diffusion, 10 steps": (10, partial(dpm_solver, steps=10)),
            "diffusion, 5 steps": (5, partial(dpm_solver, steps=5)),
        }

        def draw(walk: Callable, n: int, chance: torch.Generator) -> Tensor:
            return last(walk(denoise, schedule, torch.randn(n, *shape, generator=chance)))

        return {name: (evaluations, partial(draw, walk)) for name, (evaluations, walk) in walks.items()}

    return train, rows


CONTESTANTS = {"vae": vae, "dcgan": dcgan, "ddpm": ddpm}


# ---------------------------------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------------------------------
class Judge:
    """Compares images with the test split of a data set, in the features of its classifier."""

    def __init__(self, test: ImageSet):
        self.classifier = load_classifier(test.name)
        self.real = in_batches(self.classifier.features, test.x, size=500)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, float]:
        seen = in_batches(self.classifier.features, images, size=500)
        near, labels, k = self.real[: len(seen)], self.classifier.head(seen).argmax(1), self.classifier.num_classes
        return {
            "distance": frechet_distance(self.real, seen),
            "precision": precision(near, seen),
            "recall": recall(near, seen),
            "density": density(near, seen),
            "coverage": coverage(near, seen),
            "classes": classes_covered(labels, k),
            "entropy": class_entropy(labels, k),
        }


def steps_in(budget: float, make: Callable, data: ImageSet) -> int:
    """CPU seconds as steps, tried on another model: the learning rate must know the end of the run beforehand."""
    train, _ = make(data.shape, seed=1_000_003)
    train(data, 5)  # the first steps are slower
    began = time.process_time()
    train(data, 40)
    return max(1, round(budget * 40 / (time.process_time() - began)))


@torch.no_grad()
def drawn(draw: Draw, n: int, seed: int) -> tuple[Tensor, float]:
    """n images, and CPU seconds for each."""
    chance = generator(1_000_003 + seed)
    draw(min(n, PART), generator(0))  # the first call is slower
    began = time.process_time()
    images = torch.cat([draw(min(PART, n - k), chance) for k in range(0, n, PART)])
    return images.clamp(-1, 1), (time.process_time() - began) / n


def measure(
    name: str, seed: int, budget: float, data: ImageSet, judge: Judge, samples: int
) -> Iterator[dict[str, Any]]:
    """Train one contestant; a row for each way to sample it."""
    make = CONTESTANTS[name]
    steps = steps_in(budget, make, data)
    train, rows = make(data.shape, seed)
    began = time.process_time()
    history = train(data, steps)
    if history.interrupted:
        raise KeyboardInterrupt
    spent = time.process_time() - began
    for model, (evaluations, draw) in rows(history).items():
        images, seconds = drawn(draw, samples, seed)
        trained = {"model": model, "steps": steps, "training": spent}
        yield trained | {"evaluations": evaluations, "seconds": seconds} | judge(images)


def controls(data: ImageSet, judge: Judge, samples: int, seed: int) -> Iterator[dict[str, Any]]:
    """What no model can be asked to beat, and what one without any understanding gets."""
    order = torch.randperm(len(data), generator=generator(seed))[:samples]
    yield {"model": "real images"} | judge(data.take(order))
    yield {"model": "pixel Gaussian"} | judge(pixel_gaussian(data.first(5000).x, samples, seed))


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------
COLUMNS = {
    "distance": ("distance", 1),
    "precision": ("precision", 2),
    "recall": ("recall", 2),
    "density": ("density", 2),
    "coverage": ("coverage", 2),
    "classes": ("classes", 1),
    "entropy": ("entropy", 2),
    "evaluations": ("evaluations", 0),
    "milliseconds": ("CPU ms an image", 2),
}


TABLE = over_seeds.Table("model", "model", COLUMNS)


def in_milliseconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | ({"milliseconds": 1000 * row["seconds"]} if "seconds" in row else {}) for row in rows]


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure what isn't in the file yet, and print the table."""
    parser = over_seeds.parser(__doc__, SAMPLES)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--budget", type=float, default=300.0, help="CPU seconds of training each")
    options = parser.parse_args(arguments)
    settings = {"data": options.data, "budget": options.budget, "samples": options.samples}
    return over_seeds.run(options, settings, collect, TABLE, "models", in_milliseconds)


def collect(options: argparse.Namespace, key: dict[str, Any], known: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows that are known, and the others as they are measured."""
    data, test = load(options.data, "train"), load(options.data, "test")
    judge = Judge(test)
    for seed in options.seeds:
        work = {
            name: partial(measure, name, seed, options.budget, data, judge, options.samples) for name in options.only
        }
        work["controls"] = partial(controls, data, judge, options.samples, seed)
        for name, rows_of in work.items():
            mine = key | {"contestant": name, "seed": seed}
            yield from over_seeds.kept(options.json, known, mine, rows_of)


if __name__ == "__main__":
    main()
