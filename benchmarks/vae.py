"""The VAE with 2 and with 100 latents, its KL summed (right) and averaged over latents (a published mistake).

    python benchmarks/vae.py                        # Fashion-MNIST, 1,400 steps of 128 images: about 3 epochs
    python benchmarks/vae.py --steps 200 --data digits

Prints a markdown table. Costs are nats per image on test images; "−IWAE" uses K importance draws; "active" counts
latents by equation (2.11), "> 0.1 nat" those whose own mean KL exceeds that; "distance" is the squared Fréchet distance
(2.10) of prior samples to as many test images, in the 32 main directions (PCA) of the training images.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable

import torch

from course_utils.arrays import normal_like
from course_utils.data import load
from course_utils.device import generator, pick_device, seeded
from course_utils.metrics import frechet_distance
from course_utils.models.autoencoder import PCA
from course_utils.models.vae import (
    VAE,
    active_units,
    elbo,
    encode_all,
    kl_to_standard_normal,
    log_evidence,
    negative_elbo,
)
from course_utils.training import fit

RECIPE = {"lr": 4e-3, "warmup": 100, "schedule": "cosine", "clip": 100.0, "seed": 0}
ROWS = ((2, "summed"), (2, "averaged"), (100, "summed"), (100, "averaged"))


def train_one(latent: int, kind: str, data, steps: int) -> tuple[VAE, float]:
    """A trained model and its seconds of training. Both kinds start from the same weights and see the same batches."""
    with seeded(0):
        model = VAE(data.shape, latent).to(data.device)
    beta = 1.0 if kind == "summed" else 1 / latent
    history = fit(model, negative_elbo(beta), data, steps=steps, **RECIPE, progress=False)
    return model, history.seconds


@torch.no_grad()
def measure(model: VAE, test, features: Callable, few: int, k: int) -> dict[str, float]:
    x = test.x
    mean, log_var = encode_all(model, x)
    noise = normal_like(mean[:few], generator(1, x.device))
    parts = [elbo(model, *part) for part in zip(x[:few].split(500), noise.split(500))]
    reconstruction, kl = (torch.cat(costs).mean().item() for costs in zip(*parts))
    own = kl_to_standard_normal(mean.reshape(-1, 1), log_var.reshape(-1, 1)).view_as(mean).mean(0)
    samples = torch.cat([model.sample(1000, generator(10 + i, x.device)) for i in range(len(x) // 1000)])
    return {
        "reconstruction": reconstruction,
        "KL": kl,
        "−ELBO": reconstruction + kl,
        "−IWAE": -log_evidence(model, x[:few], k, generator=generator(2, x.device)).mean().item(),
        "active": active_units(mean).sum().item(),
        "> 0.1 nat": (own > 0.1).sum().item(),
        "distance": frechet_distance(features(x.cpu()), features(samples.cpu())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="fashion-mnist", help="a data set's name or a folder")
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--images", type=int, default=1000, help="test images on which the costs are measured")
    parser.add_argument("--draws", type=int, default=64, help="importance draws K")
    options = parser.parse_args()

    device = pick_device()
    train, test = (load(options.data, split, device=device) for split in ("train", "test"))
    features = PCA.fit(train.first(10_000).x.cpu().double(), 32).encode
    alike = frechet_distance(features(test.x.cpu()), features(train.first(len(test)).x.cpu()))
    print(f"{train.title}, {options.steps} steps of 128 images, {device.type}, {torch.get_num_threads()} threads;")
    print(f"costs on {options.images} test images, K = {options.draws}; distance of real to real images {alike:.2f}\n")
    header = None
    for latent, kind in ROWS:
        start = time.perf_counter()
        model, seconds = train_one(latent, kind, train, options.steps)
        row = measure(model, test, features, options.images, options.draws)
        if header is None:
            header = ["latents", "KL is", *row, "train s", "measure s"]
            print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
        numbers = [f"{v}" if isinstance(v, int) else f"{v:.1f}" for v in row.values()]
        took = [f"{seconds:.0f}", f"{time.perf_counter() - start - seconds:.0f}"]
        print("| " + " | ".join([str(latent), kind, *numbers, *took]) + " |", flush=True)
    print(f"\n`{shlex.join(['python', *sys.argv])}`")


if __name__ == "__main__":
    main()
