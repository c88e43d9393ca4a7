"""Quality against network evaluations: our samplers beside the schedulers of `diffusers`, driving the same network.

    python benchmarks/sampling.py --json sampling.jsonl                    all samplers, 5 to 100 evaluations, two seeds
                                                                           (half an hour on one core)
    python benchmarks/sampling.py --only "DPM-Solver++(2M)" --evaluations 10 100
    python benchmarks/sampling.py --json sampling.jsonl --report           the table of what is there

All draw the same number of each class from the same noise with a shipped model, in bfloat16 and channels-last where the
processor has them, and all see the same denoiser, whose guesses are clipped. Judged by the squared Fréchet distance to
the whole test split in the features of the course's small classifier. Finished rows are appended to --json at once;
the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
from training import PART, make_evaluator, spread

from course_utils.data import load
from course_utils.device import autocast, generator, pick_threads
from course_utils.diffusion import Denoise, Denoiser, Schedule
from course_utils.sampling import clipped, ddim, ddpm, dpm_solver, euler, heun, karras_timesteps, last
from course_utils.weights import load_denoiser

SDE = "sde-dpmsolver++"
Draw = Callable[[Denoise, Schedule, Tensor, int, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Entry:
    """A sampler: whose, how its timesteps are spaced, a function (denoise, schedule, noise, evaluations, y, generator)
    that gives images. `evaluations` is a budget: it may ask the network for fewer."""

    by: str
    sampler: str
    spacing: str
    draw: Draw

    @property
    def name(self) -> str:
        return f"{self.by}, {self.sampler}, {self.spacing}"


# ---------------------------------------------------------------------------------------------------------------------
# Ours
# ---------------------------------------------------------------------------------------------------------------------
def ours(sampler: Callable, karras: bool = False, twice: bool = False, chance: bool = False) -> Draw:
    """karras: Karras timesteps;  twice: two evaluations a stride, but for the last;  chance: takes a generator."""

    def draw(denoise, schedule, noise, evaluations, y, generator):
        strides = max(1, (evaluations + 1) // 2) if twice else evaluations
        steps = karras_timesteps(schedule, strides) if karras else strides
        return last(sampler(denoise, schedule, noise, steps, y, **({"generator": generator} if chance else {})))

    return draw


# ---------------------------------------------------------------------------------------------------------------------
# Theirs
# ---------------------------------------------------------------------------------------------------------------------
def theirs(kind: str, twice: bool = False, our_timesteps: bool = False, **settings: Any) -> Draw:
    """A scheduler of `diffusers`, with its own timesteps or our Karras ones. Their index i is our step i + 1; where
    theirs lie between two steps, the network, which knows whole ones only, is asked at the nearer."""
    import diffusers

    def draw(denoise, schedule, noise, evaluations, y, generator):
        scheduler = getattr(diffusers, kind)(
            num_train_timesteps=schedule.T,
            trained_betas=schedule.beta[1:].float().numpy(),
            prediction_type="sample",
            **settings,
        )
        strides = max(1, (evaluations + 1) // 2) if twice else evaluations
        if our_timesteps:
            scheduler.set_timesteps(timesteps=[t - 1 for t in karras_timesteps(schedule, strides)[:-1]])
        else:
            scheduler.set_timesteps(strides)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)  # else two first timesteps at one index make it skip the first
        chance = {"generator": generator} if takes(scheduler, "generator") else {}
        x = noise * scheduler.init_noise_sigma
        for i in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, i)
            t = torch.full((len(x),), round(float(i)) + 1).clamp(1, schedule.T)
            with torch.no_grad():
                x = scheduler.step(denoise(scaled.float(), t, y), i, x, **chance).prev_sample
        return x.float()

    return draw


def takes(scheduler: Any, name: str) -> bool:
    """Has this scheduler's `step` an argument of this name?"""
    return name in inspect.signature(scheduler.step).parameters


def entries() -> list[Entry]:
    """Every sampler, ours first. Theirs have our Karras timesteps, from σ = 80; one line shows what their own give,
    which begin at σ_T: 20,000 for a cosine schedule. DDPM's larger variance isn't among theirs: with strides of several
    steps they add its noise to the result, too."""
    mine, other, few, same = "ours", "diffusers", "Karras", "our Karras"
    even, sde = {"timestep_spacing": "trailing"}, partial(dpm_solver, eta=1.0)
    multistep, noisy = "DPM-Solver++(2M)", "SDE-DPM-Solver++(2M)"
    return [
        Entry(mine, "DDPM, posterior variance", "even", ours(partial(ddim, eta=1.0), chance=True)),
        Entry(mine, "DDPM, variance β", "even", ours(partial(ddpm, kappa=1.0), chance=True)),
        Entry(mine, "DDIM", "even", ours(ddim)),
        Entry(mine, "Euler", few, ours(euler, karras=True)),
        Entry(mine, "Heun", few, ours(heun, karras=True, twice=True)),
        Entry(mine, multistep, "even", ours(dpm_solver)),
        Entry(mine, multistep, few, ours(dpm_solver, karras=True)),
        Entry(mine, noisy, "even", ours(sde, chance=True)),
        Entry(mine, noisy, few, ours(sde, karras=True, chance=True)),
        Entry(other, "DDPM, posterior variance", "even", theirs("DDPMScheduler", clip_sample=False, **even)),
        Entry(other, "DDIM", "even", theirs("DDIMScheduler", clip_sample=False, **even)),
        Entry(other, "Euler", same, theirs("EulerDiscreteScheduler", our_timesteps=True)),
        Entry(other, "Heun", same, theirs("HeunDiscreteScheduler", twice=True, our_timesteps=True)),
        Entry(other, multistep, "even", theirs("DPMSolverMultistepScheduler", **even)),
        Entry(other, multistep, "their Karras", theirs("DPMSolverMultistepScheduler", use_karras_sigmas=True)),
        Entry(other, noisy, same, theirs("DPMSolverMultistepScheduler", our_timesteps=True, algorithm_type=SDE)),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------------------------------
class Counted:
    """The denoiser as it is at its fastest, clipped; counts how often it is asked."""

    def __init__(self, denoiser: Denoiser):
        self.denoiser, self.calls = denoiser.to(memory_format=torch.channels_last), 0
        self.clipped = clipped(self._ask)

    def _ask(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        with autocast(x_t.device):
            return self.denoiser(x_t.contiguous(memory_format=torch.channels_last), t, y)

    def __call__(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self.calls += 1
        return self.clipped(x_t, t, y)


def measure(
    entry: Entry, evaluations: int, seed: int, denoiser: Denoiser, evaluator: Callable, n: int
) -> dict[str, Any]:
    """One row: draw n images, in parts, and judge them. Seconds are CPU seconds of all threads, for one image."""
    counted, parts = Counted(denoiser), []
    noise = torch.randn(n, *denoiser.shape, generator=generator(2_000_003 + seed))
    y = torch.arange(n) % max(1, len(denoiser.classes))
    chance, start = generator(seed), time.process_time()
    for k in range(0, n, PART):
        piece = slice(k, k + PART)
        parts.append(entry.draw(counted, denoiser.schedule, noise[piece], evaluations, y[piece], chance).clamp(-1, 1))
    seconds = time.process_time() - start
    return {"asked": counted.calls / len(parts), "seconds": seconds / n} | evaluator(torch.cat(parts))


def collect(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows that are asked for: from the file where it has them, else measured and appended to it."""
    done = [json.loads(line) for line in options.json.open()] if options.json and options.json.exists() else []
    settings = {name: getattr(options, name) for name in ("model", "samples", "threads")}
    denoiser, rows = load_denoiser(options.model), []
    evaluator = make_evaluator("classifier", load(options.data, "train"), load(options.data, "test"))
    settings |= {"features": evaluator.name, "weights": denoiser.card["checksum"][:8]}
    if not options.report:  # the first call of a network is slow, and would be on the first sampler's bill
        n = min(PART, options.samples)
        Counted(denoiser)(torch.zeros(n, *denoiser.shape), torch.full((n,), denoiser.schedule.T))
    for seed in options.seeds:
        for entry in entries():
            for evaluations in options.evaluations if entry.sampler in options.only else ():
                row = {"entry": entry.name, "evaluations": evaluations, "seed": seed} | settings
                known = next((old for old in done if row.items() <= old.items()), None)
                if known is None and options.report:
                    continue
                rows.append(known or row | measure(entry, evaluations, seed, denoiser, evaluator, options.samples))
                if known is None:
                    print(f"{entry.name}, {evaluations}: {rows[-1]['distance']:.2f}", file=sys.stderr, flush=True)
                    if options.json:
                        with options.json.open("a") as file:
                            print(json.dumps(rows[-1]), file=file)
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------
def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table: a line for each sampler, the distance in a column for each number of evaluations, and what an
    image costs with the most of them."""
    budgets = sorted({row["evaluations"] for row in rows})
    head = ["sampler", *map(str, budgets), f"CPU ms an image, {budgets[-1]}"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in dict.fromkeys(row["entry"] for row in rows):
        cells = [name]
        for budget in budgets:
            some = [row for row in rows if (row["entry"], row["evaluations"]) == (name, budget)]
            cells.append(spread([row["distance"] for row in some], 2) if some else "")
        cells.append(spread([1000 * row["seconds"] for row in some]) if some else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict(rows: list[dict[str, Any]], few: int = 10, many: int = 100) -> str:
    """Our best sampler with few evaluations against our best with many."""
    best = {}
    for budget in (few, many):
        means: dict[str, list[float]] = {}
        for row in rows:
            if row["evaluations"] == budget and row["entry"].startswith("ours"):
                means.setdefault(row["entry"], []).append(row["distance"])
        if not means:
            return ""
        name = min(means, key=lambda name: statistics.fmean(means[name]))
        best[budget] = name, statistics.fmean(means[name])
    (name, distance), (other, against) = best[few], best[many]
    return (
        f"With {few} evaluations our best ({name.removeprefix('ours, ')}) is at {distance:.2f}, with {many} "
        f"({other.removeprefix('ours, ')}) at {against:.2f}: {distance / against:.2f} times."
    )


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure what isn't in the file yet, and print the table."""
    samplers = list(dict.fromkeys(entry.sampler for entry in entries()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=samplers, default=samplers, metavar="SAMPLER")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[5, 10, 20, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=pick_threads())
    parser.add_argument("--model", default="fashion-mnist")
    parser.add_argument("--data", help="what the model was trained on; its name, unless given")
    parser.add_argument("--json", type=Path, help="append each row to this file, and skip those that it has")
    parser.add_argument("--report", action="store_true", help="measure nothing: the table of what --json has")
    options = parser.parse_args(arguments)
    if min(options.samples - 1, options.threads, *options.evaluations) < 1:
        parser.error("--samples expects at least 2; --threads and --evaluations at least 1")
    options.data = options.data or options.model
    torch.set_num_threads(options.threads)
    rows = collect(options)
    print("\n".join([table(rows), "", verdict(rows)]))
    return rows


if __name__ == "__main__":
    main()
