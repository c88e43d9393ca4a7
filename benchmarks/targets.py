"""Which answer should the network give, the noise, the image, or v? The same number of steps for each, several seeds.

    python benchmarks/targets.py --json targets.jsonl                         1,000 and 10,000 steps, seeds 0 to 2
    python benchmarks/targets.py --json targets.jsonl --steps 50000 --seeds 0 1 --only v x0

A step costs the same for all three (the network is the same, only the picture it is compared with changes), so that
equal steps are equal seconds: on one core of two, 60 ms each, a thousand are a minute, fifty thousand fifty minutes.
Prints a Markdown table: the squared Fréchet distance of 1,000 samples to the test images (classifier's features, DDIM
in 50 steps, averaged weights). Finished rows are appended to --json, and the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import training

from course_utils import recipes
from course_utils.data import load
from course_utils.device import generator, has_bfloat16, pick_threads, seeded
from course_utils.diffusion import diffusion_loss
from course_utils.training import fit

TARGETS = ("noise", "x0", "v")


def measure(target: str, steps: int, seed: int, data: Any, evaluator: Any, samples: int) -> dict[str, Any]:
    """Train one model, sample, judge. Returns the row without its key."""
    entry = replace(training.ours(), prediction_type=target)
    with seeded(seed):
        model = recipes.ddpm_model(data.shape).to(data.device)
    loss = diffusion_loss(entry.schedule, target, null=model.null)
    start = time.process_time()
    history = fit(model, loss, data, **vars(recipes.ddpm_recipe(steps, seed=seed)), progress=False, say=None)
    if history.interrupted:
        raise KeyboardInterrupt
    spent = time.process_time() - start
    noise = torch.randn(samples, *data.shape, generator=generator(1_000_003 + seed))
    images = training.draw(entry, history.ema_model, noise, has_bfloat16(data.device.type), True)
    return evaluator(images) | {"cpu_ms": 1e3 * spent / steps}


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each number of steps, one column for each target: mean distance, and every seed's."""
    lines = ["| steps | " + " | ".join(f"predicts {name}" for name in TARGETS) + " |", "|---|" + "---|" * len(TARGETS)]
    for steps in sorted({row["steps"] for row in rows}):
        cells = []
        for target in TARGETS:
            found = [row["distance"] for row in rows if (row["steps"], row["target"]) == (steps, target)]
            cells.append(f"{statistics.fmean(found):.2f} ({', '.join(f'{d:.2f}' for d in found)})" if found else "")
        lines.append(f"| {steps:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure what isn't in the file yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--steps", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=pick_threads())
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--json", type=Path, help="append each row to this file, and skip those that it has")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data, test = load(options.data, "train"), load(options.data, "test")
    evaluator = training.make_evaluator("classifier", data, test)
    run = partial(measure, data=data, evaluator=evaluator, samples=options.samples)
    known, rows = training.read_rows(options.json), []
    for steps in options.steps:
        for seed in options.seeds:
            for target in options.only:
                key = {"target": target, "steps": steps, "seed": seed, "data": data.name, "samples": options.samples}
                found = [row for row in known if key.items() <= row.items()]
                rows.append(found[-1] if found else key | run(target, steps, seed))
                if not found:
                    training.append_row(options.json, rows[-1])
                    print(rows[-1], file=sys.stderr, flush=True)
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
