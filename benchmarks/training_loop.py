"""Seconds per training step, side by side: number format, memory layout, batch size, and what `fit` adds.

    python benchmarks/training_loop.py --steps 15 --rounds 12

A convolutional autoencoder on Fashion-MNIST, 28×28: strided convolutions 1→64→64, 32 numbers in the middle, the mirror
image back. Every variant runs once a round, in turn, so that whatever else the machine does falls on all of them. The
table has the least disturbed round of each (other work on the machine only ever adds time) and the median, for honesty.
What `fit` adds is measured twice: as a difference between two noisy numbers, and alone, around an update that does
nothing.
"""

import argparse
import os
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.data import load
from course_utils.training import Recipe, fit, train


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


def loop_alone(data, steps: int = 400) -> tuple[float, float]:
    """Seconds a step of `train` around an update that does nothing, and of taking the images alone."""
    nothing, zero = torch.nn.Linear(1, 1), torch.zeros(())
    history = train(lambda x, y, generator: {"loss": zero}, data, {"model": nothing}, Recipe(steps=steps))
    order = torch.randperm(len(data))
    started = time.perf_counter()
    for step in range(steps):
        index = order[step * 128 : (step + 1) * 128]
        data.take(index), data.labels[index]
    return history.seconds / steps, (time.perf_counter() - started) / steps


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
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    os.environ["COURSE_QUIET"] = "1"
    data = load("fashion-mnist")
    seconds = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name, (run, changes) in VARIANTS.items():
            seconds[name].append(run(data, Recipe(**{"steps": options.steps, "batch_size": 128} | changes)))

    best = {name: min(times) for name, times in seconds.items()}
    print(
        f"{data.title}, {torch.get_num_threads()} threads, torch {torch.__version__},"
        f" {options.rounds} rounds of {options.steps} steps\n"
    )
    print("| variant | ms/step | median | µs/image | time against float32 |\n|---|---:|---:|---:|---:|")
    for name, (_, changes) in VARIANTS.items():
        batch, against = changes.get("batch_size", 128), best["fit, float32"] / 128
        each = best[name] / batch
        median = 1e3 * statistics.median(seconds[name])
        print(f"| {name} | {1e3 * best[name]:.1f} | {median:.1f} | {1e6 * each:.0f} | {each / against:.2f} |")
    for kind in ("float32", "bfloat16, channels-last"):
        more = best[f"fit, {kind}"] / best[f"by hand, {kind}"] - 1
        print(f"\nfit against the loop by hand, {kind}: {100 * more:+.1f} %")
    loop, images = (min(times) for times in zip(*(loop_alone(data) for _ in range(options.rounds))))
    share = (loop - images) / best["fit, bfloat16, channels-last"]
    print(
        f"\nthe loop alone: {1e6 * (loop - images):.0f} µs a step, {100 * share:.2f} % of the fastest step of 128 above"
    )


if __name__ == "__main__":
    main()
