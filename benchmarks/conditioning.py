"""Two ways for a class to come into the U-Net, side by side: added to the step's embedding, or as a plane of its own.

    python benchmarks/conditioning.py --json conditioning.jsonl             2,000 steps each, two seeds
    python benchmarks/conditioning.py --json conditioning.jsonl --report    the table of what is there

Both train with the course's recipe, the same number of steps, the same first noise and order of images. Then each draws
as many images of one class as of another, and they are judged by the course's small classifier of clean images, which
took no part in training: is it the class that was asked for? (No guidance.) Beside it the squared Fréchet distance to
the whole test split in that classifier's features. Finished rows are appended to --json at once; the same command goes
on where it was interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sampling import Counted
from training import PART, Evaluator, append_row, make_evaluator, read_rows, spread

from course_utils import recipes
from course_utils.data import load
from course_utils.data.image_set import ImageSet
from course_utils.device import generator, pick_threads, seeded
from course_utils.diffusion import Denoiser
from course_utils.sampling import ddim, last
from course_utils.training import fit

WAYS = {"added": "added to the step's embedding", "plane": "a plane beside each block's input"}
STRIDES = 50  # of the walk, DDIM


def measure(way: str, seed: int, data: ImageSet, evaluator: Evaluator, options: argparse.Namespace) -> dict[str, Any]:
    """One row: train, draw, judge. Milliseconds are CPU time of all threads together."""
    schedule = recipes.ddpm_schedule()
    with seeded(seed):
        model = recipes.ddpm_model(data.shape, num_classes=len(data.classes), conditioning=way)
    recipe, start = recipes.ddpm_recipe(options.steps, seed=seed), time.process_time()
    history = fit(model, recipes.ddpm_loss(schedule, model), data, recipe, progress=False)
    spent = time.process_time() - start
    if history.interrupted:
        raise KeyboardInterrupt
    denoise = Counted(Denoiser(history.ema_model, schedule, recipes.PREDICTION_TYPE))
    noise = torch.randn(options.samples, *data.shape, generator=generator(1_000_003 + seed))
    y, parts = torch.arange(options.samples) % len(data.classes), []
    for piece in torch.arange(options.samples).split(PART):
        parts.append(last(ddim(denoise, schedule, noise[piece], STRIDES, y[piece])).clamp(-1, 1))
    images = torch.cat(parts)
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "cpu_ms": 1e3 * spent / options.steps,
        "accuracy": accuracy(evaluator, images, y),
    } | evaluator(images)


@torch.no_grad()
def accuracy(evaluator: Evaluator, images: torch.Tensor, y: torch.Tensor) -> float:
    """The share of images that the judge's classifier takes for the class that was asked for."""
    seen = torch.cat([evaluator.logits(evaluator.features(part)).argmax(1) for part in images.split(500)])
    return (seen == y).double().mean().item()


def collect(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows that are asked for: from the file where it has them, else measured and appended to it."""
    data, known, rows = load(options.data, "train"), read_rows(options.json), []
    evaluator = make_evaluator("classifier", data, load(options.data, "test"))
    settings = {name: getattr(options, name) for name in ("data", "steps", "samples", "threads")}
    settings |= {"features": evaluator.name}
    for seed in options.seeds:
        for way in WAYS:
            row = {"conditioning": way, "seed": seed} | settings
            found = next((old for old in known if row.items() <= old.items()), None)
            if found is None and options.report:
                continue
            rows.append(found or row | measure(way, seed, data, evaluator, options))
            if found is None:
                append_row(options.json, rows[-1])
                shown = f"accuracy {rows[-1]['accuracy']:.3f}, distance {rows[-1]['distance']:.2f}"
                print(f"{way}, seed {seed}: {shown}", file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table, a line for each way, over its seeds."""
    head = ["the class comes in", "parameters", "CPU ms a step", "% of the class asked for", "distance", "seeds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for way, words in WAYS.items():
        some = [row for row in rows if row["conditioning"] == way]
        if some:
            cells = [words, f"{some[0]['parameters']:,}", spread([row["cpu_ms"] for row in some], 0)]
            cells += [spread([100 * row["accuracy"] for row in some]), spread([row["distance"] for row in some], 2)]
            lines.append("| " + " | ".join([*cells, str(len(some))]) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure what isn't in the file yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="of training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=pick_threads())
    parser.add_argument("--data", default="fashion-mnist", help="fashion-mnist or digits: a judge comes with those")
    parser.add_argument("--json", type=Path, help="append each row to this file, and skip those that it has")
    parser.add_argument("--report", action="store_true", help="measure nothing: the table of what --json has")
    options = parser.parse_args(arguments)
    if min(options.samples - 1, options.threads, options.steps) < 1:
        parser.error("--samples expects at least 2; --threads and --steps at least 1")
    torch.set_num_threads(options.threads)
    try:
        rows = collect(options)
    except KeyboardInterrupt:
        sys.exit("Interrupted." + f" {options.json} has the finished rows: run it again to go on." * bool(options.json))
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
