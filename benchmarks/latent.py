"""Pixels or codes, U-Net or transformer at equal CPU seconds, grey and in colour, 28 to 64 pixels.

    python benchmarks/latent.py --json latent.jsonl                          seeds 0 to 2: many hours on one core
    python benchmarks/latent.py --json latent.jsonl --budget 60 --seeds 0    one seed of the smallest budget
    python benchmarks/latent.py --json latent.jsonl --report --to course_utils/shipped/latent.json

Three contestants, each with labels: the course's U-Net on pixels; a transformer (DiT, patches of 4) on pixels; and the
course's U-Net on codes. To those a third of the budget goes to the autoencoder that makes them, which knows nothing of
diffusion, and two thirds to the diffusion model. 2,000 samples, labels evenly dealt, DDIM in 50 steps (guesses clipped
where they are pixels), are compared with all test images: squared Fréchet distance (2.10) in the features of the
course's small classifier for images of their size. "floor" is the distance of test images that were only coded and
decoded, and "drawing" CPU seconds for 1,000 images. Finished rows are appended to --json; the same command goes on
where it stopped.
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
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
import over_seeds
import training

from course_utils import recipes
from course_utils.data import ImageSet, load
from course_utils.device import generator, seeded
from course_utils.diffusion import Denoiser, diffusion_loss
from course_utils.latent import LatentDenoiser, encoded
from course_utils.metrics import frechet_distance
from course_utils.models.autoencoder import in_batches
from course_utils.models.autoencoder_kl import AutoencoderKL, autoencoder_kl_loss, set_scale
from course_utils.sampling import clipped, ddim, last
from course_utils.training import Recipe, fit
from course_utils.weights import load_classifier

SAMPLES, STEPS, PART = 2000, 50, 250
SHARE = 1 / 3  # of the budget, for the autoencoder
PLACES = {"fashion-mnist": (28,), "shapes": (32, 64), "digits": (28,)}  # sizes that a set is measured at
QUIET = {"progress": False, "say": None}
Row = dict[str, Any]


class Judge:
    """The course's classifier of such images, and its features of the test images."""

    def __init__(self, test: ImageSet):
        self.model = load_classifier(f"shapes-{test.shape[1]}" if test.name == "shapes" else test.name)
        self.real = self.features(test.x)

    def __call__(self, images: Tensor) -> float:
        return frechet_distance(self.real, self.features(images.clamp(-1, 1)))

    def features(self, images: Tensor) -> Tensor:
        return in_batches(self.model.features, images, PART).detach()


# ---------------------------------------------------------------------------------------------------------------------
# Training for CPU seconds
# ---------------------------------------------------------------------------------------------------------------------
def trained(budget: float, model: nn.Module, loss: Callable, data: Any, recipe: Callable[[int], Recipe]):
    """Train until so many CPU seconds are spent; the rate follows them. Returns the averaged network and its steps."""
    spent, how = training.Budget(budget, torch.device("cpu")), vars(recipe(training.FOREVER))
    schedule = how["lr_schedule"]
    how |= {"lr_schedule": lambda done: spent.factor(schedule), "stop": lambda *_: spent.used >= budget}
    history = fit(model, loss, data, **how, **QUIET)
    if history.interrupted:
        raise KeyboardInterrupt
    return history.ema_model.requires_grad_(False).eval(), len(history.steps)


def denoising(network: nn.Module, recipe: Callable, data: Any, budget: float, seed: int) -> tuple[nn.Module, int]:
    loss = diffusion_loss(recipes.ddpm_schedule(), recipes.PREDICTION_TYPE, null=network.null)
    return trained(budget, network, loss, data, partial(recipe, seed=seed))


# ---------------------------------------------------------------------------------------------------------------------
# The contestants: each gives a denoiser, what makes images of its samples, and what else there is to tell
# ---------------------------------------------------------------------------------------------------------------------
def on_pixels(make: Callable, recipe: Callable, data: ImageSet, budget: float, seed: int):
    with seeded(seed):
        network = make(data.shape, len(data.classes))
    network, steps = denoising(network, recipe, data, budget, seed)
    return clipped(Denoiser(network, recipes.ddpm_schedule(), recipes.PREDICTION_TYPE)), lambda x: x, {"steps": steps}


def on_codes(data: ImageSet, budget: float, seed: int):
    with seeded(seed):
        autoencoder = AutoencoderKL(data.shape)
        network = recipes.latent_model(autoencoder.code_shape, len(data.classes))
    how = partial(recipes.autoencoder_recipe, seed=seed)
    autoencoder, coded = trained(SHARE * budget, autoencoder, autoencoder_kl_loss(), data, how)
    began = time.process_time()
    set_scale(autoencoder, data.first(2000).x)
    codes = encoded(autoencoder, data)
    left = (1 - SHARE) * budget - (time.process_time() - began)  # whoever codes images has less time to learn
    network, steps = denoising(network, recipes.ddpm_recipe, codes, max(left, budget / 10), seed)
    model = LatentDenoiser(network, recipes.ddpm_schedule(), autoencoder, recipes.PREDICTION_TYPE)
    return model, model.decode, {"steps": steps, "autoencoder": coded}


CONTESTANTS: dict[str, Callable] = {
    "U-Net": partial(on_pixels, recipes.ddpm_model, recipes.ddpm_recipe),
    "transformer": partial(on_pixels, recipes.dit_model, recipes.dit_recipe),
    "U-Net on codes": on_codes,
}


@torch.no_grad()
def drawn(denoise: Callable, decode: Callable, shape: tuple, classes: int, n: int, seed: int) -> tuple[Tensor, float]:
    """n images, and CPU seconds for 1,000 of them."""
    schedule, chance = recipes.ddpm_schedule(), generator(1_000_003 + seed)
    noise, y = torch.randn(n, *shape, generator=chance), torch.arange(n) % classes
    began = time.process_time()
    parts = zip(noise.split(PART), y.split(PART), strict=True)
    images = torch.cat([decode(last(ddim(denoise, schedule, x, STEPS, labels))) for x, labels in parts])
    return images, 1000 * (time.process_time() - began) / n


def measure(name: str, data: ImageSet, test: ImageSet, judge: Judge, budget: float, seed: int, n: int) -> Iterator[Row]:
    denoise, decode, told = CONTESTANTS[name](data, budget, seed)
    shape = data.shape if name != "U-Net on codes" else denoise.shape
    images, seconds = drawn(denoise, decode, shape, len(data.classes), n, seed)
    row = told | {"distance": judge(images), "drawing": seconds}
    if name == "U-Net on codes":
        row["floor"] = judge(in_batches(denoise.autoencoder, test.x, PART).detach())
    yield row


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------
TABLE = over_seeds.Table(
    "line",
    "images, model, CPU seconds",
    {
        "distance": ("distance", 1),
        "floor": ("floor", 1),
        "drawing": ("CPU s for 1,000 images", 1),
        "steps": ("steps", 0),
    },
)


def lined(rows: list[Row]) -> list[Row]:
    """Sorted, and named for the table: images, model, budget."""
    order = [*CONTESTANTS]
    rows = sorted(rows, key=lambda row: (row["data"], row["size"], row["budget"], order.index(row["contestant"])))
    return [row | {"line": f"{row['data']} {row['size']}, {row['contestant']}, {row['budget']:g}"} for row in rows]


def main(arguments: list[str] | None = None) -> list[Row]:
    """Measure what isn't in the file yet, and print the table."""
    parser = over_seeds.parser(__doc__, SAMPLES)
    parser.set_defaults(data=None)
    parser.add_argument("--size", type=int, nargs="+", help="pixels; else all sizes of the set")
    parser.add_argument("--budget", type=float, nargs="+", default=[60.0, 600.0], help="CPU seconds of training each")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    options = parser.parse_args(arguments)
    return over_seeds.run(options, {"samples": options.samples}, collect, TABLE, "models", lined)


def collect(options: argparse.Namespace, key: Row, known: list[Row]) -> Iterator[Row]:
    """Rows that are known, and the others as they are measured."""
    for name in [options.data] if options.data else ("fashion-mnist", "shapes"):
        for size in options.size or PLACES[name]:
            data, test = (load(name, split, size=size) for split in ("train", "test"))
            judge = Judge(test)
            for budget in options.budget:
                for seed in options.seeds:
                    for who in options.only:
                        mine = key | {"data": name, "size": size, "budget": budget, "seed": seed, "contestant": who}
                        work = partial(measure, who, data, test, judge, budget, seed, options.samples)
                        yield from over_seeds.kept(options.json, known, mine, work)


if __name__ == "__main__":
    main()
