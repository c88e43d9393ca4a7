"""The VAE with 2 and with 100 latents, its KL summed (right) and averaged over latents (a published mistake).

    python benchmarks/vae.py                        # Fashion-MNIST, 1,400 steps of 128 images: about 3 epochs
    python benchmarks/vae.py --seeds 0 1 2 --width 32 --batch 64 --steps 1500    # the comparison of notebook 02
    python benchmarks/vae.py --steps 200 --data digits

Prints a markdown table. Costs are nats per image on test images; "−IWAE" uses K importance draws; "active" counts
latents by equation (2.11), "> 0.1 nat" those whose own mean KL exceeds that; "prior" and "own Gaussian" are squared
Fréchet distances (2.10) to as many test images, in the features of the course's classifier, of samples from the prior
and from a Gaussian fitted to the model's own codes.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from itertools import product

import torch

from course_utils.arrays import normal_like
from course_utils.data import load
from course_utils.device import generator, pick_device, seeded
from course_utils.metrics import frechet_distance
from course_utils.models.autoencoder import fit_gaussian
from course_utils.models.vae import (
    VAE,
    active_units,
    elbo,
    encode_all,
    kl_to_standard_normal,
    log_evidence,
    negative_elbo,
    reparameterize,
)
from course_utils.training import fit
from course_utils.weights import features_for

RECIPE = {"lr": 4e-3, "lr_schedule": "cosine", "clip": 100.0}


def train_one(latent: int, kind: str, data, seed: int, options: argparse.Namespace) -> tuple[VAE, float]:
    """A trained model and its seconds of training. Both kinds start from the same weights and see the same batches."""
    with seeded(seed):
        model = VAE(data.shape, latent, widths=(options.width, options.width)).to(data.device)
    beta = 1.0 if kind == "summed" else 1 / latent
    how = {"steps": options.steps, "batch_size": options.batch, "warmup": options.steps // 10, "seed": seed}
    history = fit(model, negative_elbo(beta), data, **how, **RECIPE, progress=False)
    return model, history.seconds


@torch.no_grad()
def measure(model: VAE, train, test, features: Callable, few: int, k: int) -> dict[str, float]:
    x = test.x
    mean, log_var = encode_all(model, x)
    noise = normal_like(mean[:few], generator(1, x.device))
    parts = [elbo(model, *part) for part in zip(x[:few].split(500), noise.split(500))]
    reconstruction, kl = (torch.cat(costs).mean().item() for costs in zip(*parts))
    own = kl_to_standard_normal(mean.reshape(-1, 1), log_var.reshape(-1, 1)).view_as(mean).mean(0)
    real, n = features(x), len(x)
    means, log_vars = encode_all(model, train.first(5000).x)
    codes = reparameterize(means, log_vars, normal_like(means, generator(3, x.device))).cpu().double()
    own_codes = fit_gaussian(codes).sample(n, generator(11))
    return {
        "reconstruction": reconstruction,
        "KL": kl,
        "−ELBO": reconstruction + kl,
        "−IWAE": -log_evidence(model, x[:few], k, generator=generator(2, x.device)).mean().item(),
        "active": active_units(mean).sum().item(),
        "> 0.1 nat": (own > 0.1).sum().item(),
        "prior": frechet_distance(real, features(model.sample(n, generator(10, x.device)))),
        "own Gaussian": frechet_distance(real, features(model.decode(own_codes.float().to(x.device)))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="fashion-mnist", help="a data set's name or a folder")
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=64, help="channels of every convolution")
    parser.add_argument("--latents", type=int, nargs="+", default=[2, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, default=1000, help="test images on which the costs are measured")
    parser.add_argument("--draws", type=int, default=64, help="importance draws K")
    options = parser.parse_args()

    device = pick_device()
    train, test = (load(options.data, split, device=device) for split in ("train", "test"))
    test = test.first(options.images)
    features, words = features_for(train, device)
    alike = frechet_distance(features(test.x), features(train.first(len(test)).x))
    print(
        f"{train.title}, {options.steps} steps of {options.batch} images, {device.type},"
        f" {torch.get_num_threads()} threads;"
    )
    print(f"{len(test)} test images, K = {options.draws}; {words}: real to real images {alike:.2f}\n")
    header = None
    for latent, kind, seed in product(options.latents, ("summed", "averaged"), options.seeds):
        start = time.perf_counter()
        model, seconds = train_one(latent, kind, train, seed, options)
        row = {"seed": seed} | measure(model, train, test, features, options.images, options.draws)
        if header is None:
            header = ["latents", "KL is", *row, "train s", "measure s"]
            print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
        numbers = [f"{v}" if isinstance(v, int) else f"{v:.1f}" for v in row.values()]
        took = [f"{seconds:.0f}", f"{time.perf_counter() - start - seconds:.0f}"]
        print("| " + " | ".join([str(latent), kind, *numbers, *took]) + " |", flush=True)
    print(f"\n`{shlex.join(['python', *sys.argv])}`")


if __name__ == "__main__":
    main()
