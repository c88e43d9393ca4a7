"""What each choice of our default diffusion model bought: one change at a time, the same CPU seconds, the same judge.

    python benchmarks/choices.py --json choices.jsonl                       150 CPU seconds of training each
    python benchmarks/choices.py --only ours "Adam" --seeds 0 1 --budget 600

Prints a Markdown table, worst change first: the distance after the change, and by which factor it is worse (above 1) or
better (below 1) than our default, with the steps that fitted into the budget. Judge and bookkeeping are those of
benchmarks/training.py: finished rows are appended to --json, and the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))
import training
from peers import Entry, independent_steps

from course_utils import recipes
from course_utils.data import load
from course_utils.device import pick_threads
from course_utils.diffusion import diffusion_loss, linear_schedule, min_snr
from course_utils.models import unet


class FusedAttention(unet.Attention):
    """Attention by PyTorch's fused kernel."""

    def gather(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


def with_narrow_groups(shape: tuple[int, int, int]) -> nn.Module:
    """Our network with the customary 8 groups in every norm."""
    model = unet.UNet(shape)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.GroupNorm(8, child.num_channels))
    return model


def ours(**recipe: Any) -> Entry:
    """Our default, with some options of its recipe changed."""
    entry = training.ours()
    return replace(entry, recipe=entry.recipe | recipe)


def network(**options: Any) -> Entry:
    """Our default with another network."""
    return replace(training.ours(), build=partial(unet.UNet, **options))


def objective(**options: Any) -> Entry:
    """Our default with another loss."""
    schedule = options.pop("schedule", recipes.ddpm_schedule())
    prediction_type = options.pop("prediction_type", recipes.PREDICTION_TYPE)
    entry = training.ours()
    loss = diffusion_loss(schedule, prediction_type, **options)
    return replace(entry, schedule=schedule, prediction_type=prediction_type, own_loss=loss)


CHOICES: dict[str, Callable[[], Entry]] = {
    "ours": training.ours,
    "plain float32, channels first": lambda: ours(mixed_precision=False, channels_last=False),
    "no unshuffle stem (patch 1)": lambda: network(patch=1),
    "patch 4, one level of 128": lambda: network(patch=4, widths=(128,), blocks=2),
    "widths 16, 32": lambda: network(widths=(16, 32)),
    "widths 48, 96": lambda: network(widths=(48, 96)),
    "widths 64, 128": lambda: network(widths=(64, 128)),
    "two blocks a level": lambda: network(blocks=2),
    "ConvNeXt blocks": lambda: network(block=unet.ConvNeXtBlock),
    "norms in 8 groups": lambda: replace(training.ours(), build=with_narrow_groups),
    "fused attention": lambda: network(attention=FusedAttention),
    "no attention": lambda: network(attention=None),
    "Adam, 3e-3": lambda: ours(optimizer="adam", lr=3e-3),
    "Adam, 1e-3": lambda: ours(optimizer="adam", lr=1e-3),
    "half the learning rate": lambda: ours(lr=0.005),
    "twice the learning rate": lambda: ours(lr=0.02),
    "rate never falls": lambda: ours(lr_schedule="flat"),
    "rate falls along a cosine": lambda: ours(lr_schedule="cosine"),
    "no averaging": lambda: ours(ema=None),
    "batch 32": lambda: ours(batch_size=32),
    "batch 128": lambda: ours(batch_size=128),
    "predicts the noise": lambda: objective(prediction_type="noise"),
    "predicts x0": lambda: objective(prediction_type="x0"),
    "linear schedule": lambda: objective(schedule=linear_schedule(1000)),
    "min-SNR weights": lambda: objective(weight=partial(min_snr, recipes.ddpm_schedule(), recipes.PREDICTION_TYPE)),
    "Huber loss": lambda: objective(distance="huber"),
    "independent t": lambda: objective(draw=independent_steps),
}


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each choice, the worst first, ours beside it."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["entry"], []).append(row)
    mean = {name: statistics.fmean(row["distance"] for row in some) for name, some in by_name.items()}
    lines = [
        "| instead of our choice | distance | ours is better by | steps | CPU ms a step |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(by_name, key=mean.get, reverse=True):
        some = by_name[name]
        low, high = (pick(row["distance"] for row in some) for pick in (min, max))
        distance = f"{mean[name]:.1f}" + (f" ({low:.1f}–{high:.1f})" if len(some) > 1 else "")
        steps, milliseconds = (statistics.fmean(row[key] for row in some) for key in ("steps", "cpu_ms"))
        factor = f"{mean[name] / mean['ours']:.2f}×" if "ours" in mean and name != "ours" else ""
        lines.append(f"| {name} | {distance} | {factor} | {steps:,.0f} | {milliseconds:.0f} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure what isn't in the file yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CHOICES, default=list(CHOICES), metavar="CHOICE")
    parser.add_argument("--budget", type=float, nargs="+", default=[150.0], help="CPU seconds of training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=pick_threads())
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--json", type=Path, help="append each row to this file, and skip those that it has")
    options = parser.parse_args(arguments, argparse.Namespace(judge_as_trained=True, pictures=None, time_sampling=100))
    options.device = torch.device("cpu")
    torch.set_num_threads(options.threads)
    data, test = load(options.data, "train"), load(options.data, "test")
    entries = [replace(CHOICES[name](), name=name) for name in options.only]
    entries = [replace(entry, about=entry.about | {"choice": entry.name}) for entry in entries]
    rows = training.collect(entries, data, training.make_evaluator("classifier", data, test), options)
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
