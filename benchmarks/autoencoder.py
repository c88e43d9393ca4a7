"""Reconstruction error of PCA and of the convolutional autoencoder, at the bottlenecks of notebook 01.

    COURSE_DATA=... python benchmarks/autoencoder.py --steps 500 1500

Every model is fitted to the training split and measured on the whole test split: mean squared error per pixel, on
images in [-1, 1]. Every training is a run of its own, with a learning rate that falls to zero at its own end.
"""

import argparse
import time

import torch

from course_utils.data import load
from course_utils.device import pick_threads, seeded
from course_utils.models.autoencoder import PCA, Autoencoder, in_batches, reconstruction_error, squared_error_loss
from course_utils.training import fit


def error(model, images) -> float:
    return reconstruction_error(images, in_batches(model, images)).mean().item()


def trained(train, latent: int, steps: int, lr: float, seed: int):
    with seeded(seed):
        model = Autoencoder(train.shape, latent)
    history = fit(
        model, squared_error_loss, train, steps=steps, lr=lr, lr_schedule="linear-half", seed=seed, progress=False
    )
    return model, history.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--latents", type=int, nargs="+", default=[2, 8, 32, 128])
    parser.add_argument("--steps", type=int, nargs="+", default=[500], help="lengths of training to compare")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(pick_threads())

    train, test = load(options.data, "train"), load(options.data, "test")
    images = test.x
    started = time.perf_counter()
    pca = PCA.fit(train.x, max(options.latents))
    seconds, mean_alone = time.perf_counter() - started, error(lambda x: pca.mean.expand_as(x), images)
    print(f"{train.title}: {len(train):,} to train on, {len(test):,} to measure on; {pick_threads()} threads")
    print(f"PCA with {pca.latent} directions fitted in {seconds:.1f} s; the mean image alone: {mean_alone:.4f}\n")
    names = [f"autoencoder, {steps} steps" for steps in options.steps]
    print(f"{'latents':>7s}  {'PCA':>7s}  " + "  ".join(f"{name:>32s}" for name in names))
    for latent in options.latents:
        cells = []
        for steps in options.steps:
            model, seconds = trained(train, latent, steps, options.lr, options.seed)
            cells.append(f"{error(model, images):.4f} ({seconds:.0f} s, {1000 * seconds / steps:.0f} ms a step)")
        row = "  ".join(f"{cell:>32s}" for cell in cells)
        print(f"{latent:7d}  {error(pca.keep(latent), images):7.4f}  {row}", flush=True)


if __name__ == "__main__":
    main()
