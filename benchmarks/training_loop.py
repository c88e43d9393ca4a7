"""Seconds per training step, side by side: number format, memory layout, batch size, and what `fit` adds.

    COURSE_DATA=... python benchmarks/training_loop.py --steps 30 --rounds 5

A convolutional autoencoder on Fashion-MNIST, 28×28: strided convolutions 1→64→64, 32 numbers in the middle, the mirror
image back. Every variant runs once a round, in turn, so that whatever else the machine does falls on all of them. The
table has medians over rounds; ratios are medians of the ratios within each round.
"""

import argparse
import os
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.data import load
from course_utils.training import Recipe, fit


def autoencoder() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 64, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 32),
        nn.Linear(32, 64 * 7 * 7), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)),
        nn.ConvTranspose2d(64, 64, 4, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 4, stride=2, padding=1),
    )  # fmt: skip


class TimedLoss:
    """Mean squared error per pixel, noting when it is called; the first calls, which choose kernels, don't count."""

    warm_up = 3

    def __init__(self):
        self.clock = []

    def __call__(self, model, x, y, generator):
        self.clock.append(time.perf_counter())
        return F.mse_loss(model(x).float(), x)

    def seconds_per_step(self) -> float:
        clock = self.clock[self.warm_up :]
        return (clock[-1] - clock[0]) / (len(clock) - 1)


def with_fit(data, recipe: Recipe) -> float:
    loss = TimedLoss()
    fit(autoencoder(), loss, data, recipe)
    return loss.seconds_per_step()


def by_hand(data, recipe: Recipe) -> float:
    """The same arithmetic in the shortest loop that does it: what `fit`'s comforts are measured against."""
    model, loss = autoencoder().train(), TimedLoss()
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, fused=True)
    order = torch.randperm(len(data))
    for step in range(recipe.steps):
        index = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        x, y = data.take(index), data.labels[index]
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(recipe.mixed_precision)):
            value = loss(model, x, y, None)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
    return loss.seconds_per_step()


VARIANTS = {
    # name: (how, recipe's changes)
    "by hand, float32": (by_hand, {"mixed_precision": False, "channels_last": False}),
    "by hand, bfloat16, channels-last": (by_hand, {"mixed_precision": True, "channels_last": True}),
    "fit, float32": (with_fit, {"mixed_precision": False, "channels_last": False}),
    "fit, float32, channels-last": (with_fit, {"mixed_precision": False, "channels_last": True}),
    "fit, bfloat16": (with_fit, {"mixed_precision": True, "channels_last": False}),
    "fit, bfloat16, channels-last": (with_fit, {"mixed_precision": True, "channels_last": True}),
    "  the same with EMA": (with_fit, {"mixed_precision": True, "channels_last": True, "ema": 0.999}),
    "  the same, batch 256": (with_fit, {"mixed_precision": True, "channels_last": True, "batch_size": 256}),
    "  the same, batch 512": (with_fit, {"mixed_precision": True, "channels_last": True, "batch_size": 512}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ["COURSE_QUIET"] = "1"
    data = load("fashion-mnist")
    seconds = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name, (run, changes) in VARIANTS.items():
            seconds[name].append(run(data, Recipe(**{"steps": options.steps, "batch_size": 128} | changes)))

    def ratio(a, b):
        return statistics.median(x / y for x, y in zip(seconds[a], seconds[b]))

    print(
        f"{data.title}, {torch.get_num_threads()} threads, torch {torch.__version__},"
        f" {options.rounds} rounds of {options.steps} steps\n"
    )
    print("| variant | ms/step | µs/image | time against float32 |\n|---|---:|---:|---:|")
    for name, (_, changes) in VARIANTS.items():
        ms, batch = 1e3 * statistics.median(seconds[name]), changes.get("batch_size", 128)
        print(f"| {name} | {ms:.1f} | {1e3 * ms / batch:.0f} | {ratio(name, 'fit, float32') * 128 / batch:.2f} |")
    for kind in ("float32", "bfloat16, channels-last"):
        print(f"\nfit against the loop by hand, {kind}: {100 * (ratio(f'fit, {kind}', f'by hand, {kind}') - 1):+.1f} %")


if __name__ == "__main__":
    main()
