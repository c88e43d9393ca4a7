"""Our default diffusion model beside a widely copied tutorial's and two libraries': same machine, seconds and judge.

    python benchmarks/training.py --json rows.jsonl                     600 CPU seconds of training each, two seeds
    python benchmarks/training.py --only ours --budget 60 600           ours alone, at two budgets
    python benchmarks/training.py --device cuda --only ours diffusers --to-quality 3     on a GPU: time to a distance

Every entry (benchmarks/peers.py) trains for the same budget of CPU seconds (of all threads together; on a GPU of
seconds on the clock), unconditionally, on the training split, which lies in memory. Every one is then judged by the
same deterministic walk, DDIM with clipped guesses in 50 steps from the same noise, and by the squared Fréchet distance
of its samples to the whole test split, in the features of the course's small classifier.

Each finished row is appended at once to the file given by --json; the same command goes on where it was interrupted.
A seed of all entries takes about three hours of CPU time, most of it the others' sampling. On two cores: `--seeds 0`
and `--seeds 1` at the same time, with `--threads 1` and one file, and then `--report` for the table of what is there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import re
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent))
from peers import PEERS, Entry

from course_utils import recipes
from course_utils.data import load
from course_utils.data.image_set import ImageSet
from course_utils.device import autocast, generator, has_bfloat16, pick_device, pick_threads, seeded
from course_utils.diffusion import Denoiser
from course_utils.metrics import frechet_distance
from course_utils.models.autoencoder import PCA
from course_utils.sampling import clipped, ddim, last
from course_utils.training import History, fit
from course_utils.training.recipe import LR_SCHEDULES
from course_utils.weights import architecture, load_classifier

LIBRARIES = ("diffusers", "denoising-diffusion-pytorch")
STEPS = 50  # of the judge's walk
PART = 250  # images sampled at a time
FOREVER = 10**9  # steps: the budget ends a run, not this


def ours() -> Entry:
    """The course's default model and recipe, from course_utils/recipes.py."""
    schedule, recipe = recipes.ddpm_schedule(), vars(recipes.ddpm_recipe(FOREVER))
    model = recipes.ddpm_model((1, 28, 28))
    return Entry(
        name="ours",
        build=recipes.ddpm_model,
        schedule=schedule,
        prediction_type=recipes.PREDICTION_TYPE,
        recipe={name: value for name, value in recipe.items() if name not in ("steps", "seed")},
        own_loss=recipes.ddpm_loss(schedule, model),
        about={"network": json.dumps(architecture(model))},
    )


ENTRIES: dict[str, Callable[[], Entry]] = {"ours": ours, **PEERS}


# ---------------------------------------------------------------------------------------------------------------------
# Training for a budget
# ---------------------------------------------------------------------------------------------------------------------
def seconds(device: torch.device) -> float:
    """What a budget counts: this process's CPU seconds, all threads together; with a GPU, seconds on the clock."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


class Budget:
    """Seconds to spend, counted from the first look at what is used."""

    def __init__(self, size: float, device: torch.device):
        if not size > 0:
            raise ValueError(f"budget: expected seconds above 0, got {size!r}.")
        self.size, self.device, self.began = size, device, None

    @property
    def used(self) -> float:
        """Seconds so far."""
        if self.began is None:
            self.began, self.wall_began = seconds(self.device), time.perf_counter()
        return seconds(self.device) - self.began

    @property
    def wall(self) -> float:
        """The same on the clock."""
        return time.perf_counter() - self.wall_began

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """What happens inside isn't counted."""
        before, wall_before = seconds(self.device), time.perf_counter()
        try:
            yield
        finally:
            self.began += seconds(self.device) - before
            self.wall_began += time.perf_counter() - wall_before

    def factor(self, schedule: str) -> float:
        """A learning-rate schedule at this point of the budget."""
        return max(0.0, LR_SCHEDULES[schedule](min(self.used / self.size, 1.0)))


@dataclass
class Trained:
    """What a run leaves: raw weights, averaged ones or None, steps, seconds by the budget and by the clock, loss."""

    model: nn.Module
    average: nn.Module | None
    steps: int
    seconds: float
    wall: float
    loss: float


class Compiled:
    """An entry's loss with the network compiled. The weights stay those of the network that `fit` knows."""

    def __init__(self, loss: Callable):
        self.loss, self.compiled = loss, None

    def __call__(self, model: nn.Module, *rest) -> Tensor:
        if self.compiled is None:
            self.compiled = torch.compile(model)
        return self.loss(self.compiled, *rest)


def train(
    entry: Entry,
    data: ImageSet,
    budget: Budget,
    seed: int,
    look: Callable[[int, History], bool] | None = None,
    every: int = 50,
    compiled: bool = False,
) -> Trained:
    """Train a new network until the budget is spent. The weights' averages and the loop's comforts count as training.

    look: called every `every` steps, off the budget; the run ends when it says True;  compiled: with torch.compile.
    Raises KeyboardInterrupt when somebody pressed Ctrl-C.
    """
    with seeded(seed):
        model = entry.build(data.shape).to(data.device)
    loss, reached = Compiled(entry.loss()) if compiled else entry.loss(), []

    def on_step(step: int, history: History) -> None:
        with budget.off():
            if look(step, history):
                reached.append(step)

    def stop(step: int, history: History) -> bool:
        return bool(reached) or budget.used >= budget.size

    name = entry.recipe.get("lr_schedule", "flat")
    recipe = entry.recipe | {"lr_schedule": lambda done: budget.factor(name), "seed": seed}
    watch = {"progress": False, "say": None, "stop": stop, "on_step": on_step if look else None, "every": every}
    history = fit(model, loss, data, steps=FOREVER, **recipe, **watch)
    if history.interrupted:
        raise KeyboardInterrupt
    recent = history.loss[-max(1, len(history.loss) // 10) :]
    return Trained(
        model, history.ema_model, len(history.steps), budget.used, budget.wall, statistics.fmean(recent or [math.nan])
    )


# ---------------------------------------------------------------------------------------------------------------------
# Judging
# ---------------------------------------------------------------------------------------------------------------------
def draw(entry: Entry, model: nn.Module, noise: Tensor, half: bool, channels_last: bool) -> Tensor:
    """Images (n, c, h, w) on the CPU from noise, by the judge's walk: DDIM, clipped guesses, 50 steps (or all T)."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    device = next(model.parameters()).device
    schedule = entry.schedule.to(device)
    denoise = clipped(Denoiser(model.to(memory_format=layout), schedule, entry.prediction_type))
    images = []
    with autocast(device, half):
        for part in noise.split(PART):
            part = part.to(device).contiguous(memory_format=layout)
            images.append(last(ddim(denoise, schedule, part, steps=min(STEPS, schedule.T))).cpu())
    model.to(memory_format=torch.contiguous_format)
    return torch.cat(images).contiguous()


def timed(device: torch.device, work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` gives, and the seconds (as a budget counts them) that it took."""
    start = seconds(device)
    result = work()
    return result, seconds(device) - start


class Evaluator:
    """Distances of images to a test split, in features that are the same for all.

    features: (n, c, h, w) → (n, d);  test: real images;  logits: from features to class scores, or None.
    """

    def __init__(
        self, features: Callable[[Tensor], Tensor], test: Tensor, logits: Callable | None = None, name: str = ""
    ):
        self.features, self.logits, self.name = features, logits, name
        self.real = self._see(test)

    @torch.no_grad()
    def _see(self, images: Tensor) -> Tensor:
        return torch.cat([self.features(part) for part in images.split(500)])

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, float]:
        """The squared Fréchet distance; with a classifier also how sure it is and how many classes it sees."""
        seen = self._see(images)
        result = {"distance": frechet_distance(seen, self.real)}
        if self.logits is not None:
            p = self.logits(seen).softmax(1)
            mean = p.mean(0)
            result["sure"] = p.max(1).values.mean().item()
            result["classes"] = math.exp(-(mean * mean.clamp(min=1e-12).log()).sum().item())
        return result


def make_evaluator(features: str, train: ImageSet, test: ImageSet) -> Evaluator:
    """features: "classifier" (the one shipped for this data), "pca", or a file with a classifier of the course."""
    if features == "pca":
        return Evaluator(PCA.fit(train.first(10_000).x.double(), 32).encode, test.x, name="32 main directions (PCA)")
    model = load_classifier(train.name if features == "classifier" else features)
    size, mark = model.head.in_features, model.card["checksum"][:8]
    return Evaluator(model.features, test.x, model.head, name=f"{size} features of the classifier {mark}")


# ---------------------------------------------------------------------------------------------------------------------
# The machine's own speed
# ---------------------------------------------------------------------------------------------------------------------
def flops_per_step(entry: Entry, shape: tuple[int, int, int]) -> int:
    """Floating-point operations of one training step, forward and backward: products in convolutions and matrices."""
    with seeded(0):
        model = entry.build(shape)
    x = torch.zeros(2, *shape)
    # Attention as plain products: the counter doesn't know the CPU's fused kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        entry.loss()(model, x, None, generator(0)).backward()
    return counter.get_total_flops() * entry.recipe["batch_size"] // 2


def matmul_speed(device: torch.device, dtype: torch.dtype, size: int | None = None) -> float:
    """Floating-point operations per second, CPU seconds on a CPU, of a large product of matrices: the best of five."""
    size = size or (8192 if device.type == "cuda" else 2048)
    a, b = (torch.randn(size, size, generator=generator(k)).to(device, dtype) for k in range(2))
    a @ b
    return 2 * size**3 / min(timed(device, lambda: a @ b)[1] for _ in range(5))


# ---------------------------------------------------------------------------------------------------------------------
# One row
# ---------------------------------------------------------------------------------------------------------------------
def in_half(entry: Entry, device: torch.device) -> bool:
    """Does this entry train in bfloat16 here?"""
    wanted = entry.recipe.get("mixed_precision")
    return has_bfloat16(device.type) if wanted is None else wanted


def settings(evaluator: Evaluator, options: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a table have in common."""
    names = ("samples", "threads", "data", "judge_as_trained")
    return {name: getattr(options, name) for name in names} | {
        "device": options.device.type,
        "features": evaluator.name,
    }


def key(entry: Entry, seed: int, budget: float, evaluator: Evaluator, options: argparse.Namespace) -> dict[str, Any]:
    """What tells a row from others: two rows with one key are the same measurement."""
    row = {"entry": entry.name, "seed": seed, "budget": budget, "recipe": entry.facts()}
    return row | settings(evaluator, options)


def measure(
    entry: Entry, seed: int, budget: float, data: ImageSet, evaluator: Evaluator, options: argparse.Namespace
) -> tuple[dict[str, Any], Tensor]:
    """Train, sample and judge one entry. Returns the row's numbers and the samples."""
    device = data.device
    trained = train(entry, data, Budget(budget, device), seed)
    half, last_channels = in_half(entry, device), entry.recipe["channels_last"]
    speed = matmul_speed(device, torch.bfloat16 if half else torch.float32)
    flops = flops_per_step(entry, data.shape)
    row = {
        "steps": trained.steps,
        "cpu_ms": 1e3 * trained.seconds / max(trained.steps, 1),
        "wall_ms": 1e3 * trained.wall / max(trained.steps, 1),
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "loss": trained.loss,
        "gflop": flops / 1e9,
        "matmul_gflops": speed / 1e9,
        "share": flops * trained.steps / trained.seconds / speed,
    }
    # Judged in one number format, that of the recipe at its fastest, unless asked otherwise; timed in the entry's own.
    own = (half, last_channels)
    judged = own if options.judge_as_trained else (has_bfloat16(device.type), True)
    noise = torch.randn(options.samples, *data.shape, generator=generator(1_000_003 + seed))
    images, spent, row["weights"] = sample(entry, trained, noise, evaluator, judged)
    row |= evaluator(images)
    if judged != own:
        few = noise[: options.time_sampling]
        model = trained.average if row["weights"] == "averaged" else trained.model
        spent = timed(device, lambda: draw(entry, model, few, *own))[1] * len(noise) / len(few)
    row |= {"sampling": spent * 1000 / len(noise), "sampling_timed_on": len(few) if judged != own else len(noise)}
    return row, images


def sample(entry: Entry, trained: Trained, noise: Tensor, evaluator: Evaluator, how: tuple[bool, bool]):
    """Samples, the seconds that they took, and which weights gave them, "raw" or "averaged"."""
    device = next(trained.model.parameters()).device
    candidates = {"averaged": trained.average, "raw": trained.model}
    if trained.average is None or not entry.choose_weights:
        which = "raw" if trained.average is None else "averaged"
        return *timed(device, lambda: draw(entry, candidates[which], noise, *how)), which
    quarter = max(2, len(noise) // 4)
    firsts = {
        which: timed(device, lambda model=model: draw(entry, model, noise[:quarter], *how))
        for which, model in candidates.items()
    }
    which = min(firsts, key=lambda which: evaluator(firsts[which][0])["distance"])
    first, spent = firsts[which]
    rest, more = timed(device, lambda: draw(entry, candidates[which], noise[quarter:], *how))
    return torch.cat([first, rest]), spent + more, which


# ---------------------------------------------------------------------------------------------------------------------
# Rows in a file
# ---------------------------------------------------------------------------------------------------------------------
def read_rows(path: Path | None) -> list[dict[str, Any]]:
    """The rows that a file holds, none if there is no file. A last line that was cut off is left out."""
    if path is None or not path.exists():
        return []
    rows, lines = [], path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}: expected a row in JSON, got {line[:60]!r}.") from None
    return rows


def append_row(path: Path | None, row: dict[str, Any]) -> None:
    """Add one line. What an interrupted write left of a last line goes first."""
    if path is None:
        return
    before = path.read_bytes() if path.exists() else b""
    if before and not before.endswith(b"\n"):
        path.write_bytes(before[: before.rfind(b"\n") + 1])
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def collect(
    entries: Iterable[Entry], data: ImageSet, evaluator: Evaluator, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Every entry at every seed and budget: from the file where it is there, else measured and appended."""
    entries, rows = list(entries), []
    known = read_rows(options.json)
    for seed in options.seeds:  # seed by seed: a run that is cut short has all entries once, not one entry often
        for budget in options.budget:
            for entry in entries:
                wanted = key(entry, seed, budget, evaluator, options)
                found = [row for row in known if wanted.items() <= row.items()]
                if found:
                    rows.append(found[-1])
                    continue
                numbers, images = measure(entry, seed, budget, data, evaluator, options)
                rows.append(wanted | numbers)
                append_row(options.json, rows[-1])
                if options.pictures:
                    name = re.sub(r"[^\w.]+", "-", f"{entry.name} {budget:g} s seed {seed}.png")
                    save_grid(images, options.pictures / name)
                print(say(rows[-1]), file=sys.stderr, flush=True)
    return rows


def report(entries: Iterable[Entry], evaluator: Evaluator, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a file that were measured as these options say, with the recipes of today, at any seed and budget."""
    common, rows = settings(evaluator, options), read_rows(options.json)
    wanted = [common | {"entry": entry.name, "recipe": entry.facts()} for entry in entries]
    return [row for some in wanted for row in rows if some.items() <= row.items()]


def say(row: dict[str, Any]) -> str:
    """One row as a line to watch."""
    which = f"{row['entry']}, {row['budget']:g} s, seed {row['seed']}"
    return f"{which}: {row['steps']} steps, distance {row['distance']:.2f}, {row['sampling']:.0f} s to sample 1,000"


def save_grid(images: Tensor, path: Path, side: int = 10) -> None:
    """The first 100 images as a PNG, each pixel three wide."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, (c, h, w) = side * side, images.shape[1:]
    grid = torch.full((count, c, h, w), -1.0)
    grid[: len(images)] = images[:count].clamp(-1, 1)
    grid = grid.view(side, side, c, h, w).permute(0, 3, 1, 4, 2).reshape(side * h, side * w, c)
    pixels = ((grid + 1) * 127.5).round().byte().numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if c == 1 else pixels))
    picture.resize((3 * side * w, 3 * side * h), Image.Resampling.NEAREST).save(path)


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------
def spread(values: list[float], digits: int = 1) -> str:
    """Mean, and where values differ by as much as is shown the lowest and highest: "9.3 (9.1–9.5)".

    >>> spread([9.0, 10.0]), spread([3.0, 3.2], 0)
    ('9.5 (9.0–10.0)', '3')
    """
    mean, low, high = (f"{value:,.{digits}f}" for value in (statistics.fmean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low}–{high})"


def grouped(rows: list[dict[str, Any]]) -> dict[tuple[float, str], list[dict[str, Any]]]:
    """Rows by budget and entry, in the order in which they come."""
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["budget"], row["entry"]), []).append(row)
    return dict(sorted(groups.items(), key=lambda item: item[0][0]))


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table, one line for each entry and budget, over its seeds."""
    columns: dict[str, Callable[[list[dict[str, Any]]], str]] = {
        "model": lambda g: g[0]["entry"],
        "budget (s)": lambda g: f"{g[0]['budget']:g}",
        "steps": lambda g: spread([r["steps"] for r in g], 0),
        "ms a step, CPU": lambda g: spread([r["cpu_ms"] for r in g], 0),
        "ms a step, clock": lambda g: spread([r["wall_ms"] for r in g], 0),
        "batch": lambda g: f"{g[0]['recipe']['batch_size']}",
        "parameters": lambda g: f"{g[0]['parameters']:,}",
        "distance": lambda g: "**" + spread([r["distance"] for r in g]) + "**",
        "s to sample 1,000": lambda g: spread([r["sampling"] for r in g], 0),
        "GFLOP a step": lambda g: f"{g[0]['gflop']:.1f}",
        "% of matmul speed": lambda g: spread([100 * r["share"] for r in g], 0),
        "weights": lambda g: ", ".join(dict.fromkeys(r["weights"] for r in g)),
        "classes seen": lambda g: spread([r["classes"] for r in g]) if "classes" in g[0] else "",
    }
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(group) for cell in columns.values()) + " |" for group in grouped(rows).values()]
    return "\n".join(lines)


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Ours against the best of the others, budget by budget: the two sentences that the table is made for."""
    groups, lines = grouped(rows), []
    for budget in dict.fromkeys(budget for budget, _ in groups):
        means = {
            name: {what: statistics.fmean(r[what] for r in group) for what in ("distance", "sampling")}
            for (at, name), group in groups.items()
            if at == budget
        }
        mine = means.pop("ours", None)
        if mine and means:
            near, fast = (min(means, key=lambda name: means[name][what]) for what in ("distance", "sampling"))
            share, times = mine["distance"] / means[near]["distance"], means[fast]["sampling"] / mine["sampling"]
            lines.append(
                f"At {budget:g} s our distance is {share:.3f} of the best other's ({near}), and our sampling takes"
                f" 1/{times:.1f} of the fastest other's time ({fast})."
            )
    return lines


def conditions(
    rows: list[dict[str, Any]], evaluator: Evaluator, data: ImageSet, floor: float, options: argparse.Namespace
) -> list[str]:
    """What a reader needs to repeat and to read the table."""
    unit = "seconds on the clock" if options.device.type == "cuda" else "CPU seconds of all threads"
    format_ = "each in its own number format" if options.judge_as_trained else (
        "sampled for the distance in " + ("bfloat16" if has_bfloat16(options.device.type) else "float32")
        + ", channels-last, all alike"
    )  # fmt: skip
    seeds = ", ".join(map(str, sorted({row["seed"] for row in rows})))
    libraries = {name: row["recipe"][name] for row in rows for name in LIBRARIES if name in row["recipe"]}
    return [
        f"`{shlex.join(['python', *sys.argv])}`",
        f"{data.title}, {len(data):,} images to train on; distance of {options.samples:,} samples to the test split"
        f" ({evaluator.name}); of as many real training images: **{floor:.2f}**.",
        f"Seconds are {unit}; {options.threads} thread{'s' * (options.threads != 1)}; seeds {seeds},"
        f" mean (lowest–highest). {STEPS} steps of DDIM, clipped, {format_};"
        f" seconds to sample are those of the entry's own format, measured on at least {options.time_sampling} images.",
        "Fair play: bfloat16 and channels-last switched on, and the weights' average (0.995) kept too; the better of"
        " raw and averaged, by a quarter of the samples, is shown.",
        f"{cpu_name()}; Python {platform.python_version()}, PyTorch {torch.__version__}"
        + "".join(f", {name} {version}" for name, version in libraries.items())
        + ".",
    ]


def cpu_name() -> str:
    """The processor's name, where Linux says it; else its kind."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


# ---------------------------------------------------------------------------------------------------------------------
# Where a GPU is at hand
# ---------------------------------------------------------------------------------------------------------------------
def to_quality(
    entry: Entry, compiled: bool, goal: float, data: ImageSet, evaluator: Evaluator, options: argparse.Namespace
) -> dict[str, Any]:
    """Train at a constant rate until 1,000 samples of the averaged weights are within `goal`, or the budget is spent.

    Looks every `--every` steps, off the clock. Tried on a CPU only so far.
    """
    device, seed = data.device, options.seeds[0]
    recipe = entry.recipe | {"ema": entry.recipe.get("ema") or 0.995, "lr_schedule": "flat"}
    entry = replace(entry, recipe=recipe | {"mixed_precision": None, "channels_last": True})
    noise = torch.randn(options.samples, *data.shape, generator=generator(1_000_003 + seed))
    half, distances, first = has_bfloat16(device.type), [], []

    def look(step: int, history: History) -> bool:
        average = history.ema_model
        first.append((step, budget.used))
        distances.append(evaluator(draw(entry, average, noise, half, True))["distance"])
        print(f"{entry.name}, {step} steps, {first[-1][1]:.0f} s: {distances[-1]:.2f}", file=sys.stderr, flush=True)
        return distances[-1] <= goal

    budget = Budget(options.budget[0], device)
    trained = train(entry, data, budget, seed, look, options.every, compiled)
    (a, start), (b, end) = first[0], first[-1]
    sampler = torch.compile(trained.average) if compiled else trained.average
    draw(entry, sampler, noise, half, True)  # compiles, and chooses kernels
    took = timed(device, lambda: draw(entry, sampler, noise, half, True))[1]
    return {
        "entry": f"{entry.name}{', compiled' * compiled}",
        "reached": trained.seconds if distances and distances[-1] <= goal else None,
        "distance": distances[-1] if distances else math.nan,
        "steps": trained.steps,
        # from the first look on: compiling is over by then
        "training": entry.recipe["batch_size"] * (b - a) / (end - start) if b > a else math.nan,
        "sampling": len(noise) / took,
    }


def quality_table(rows: list[dict[str, Any]], goal: float) -> str:
    """A Markdown table of `to_quality`'s rows."""
    head = ["model", f"s to distance {goal:g}", "steps", "distance", "images a second, training", "sampled"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        reached = "not reached" if row["reached"] is None else f"{row['reached']:.0f}"
        numbers = f"{row['steps']:,} | {row['distance']:.2f} | {row['training']:,.0f} | {row['sampling']:,.0f}"
        lines.append(f"| {row['entry']} | {reached} | {numbers} |")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------
def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(ENTRIES), default=list(ENTRIES), help="entries to run")
    parser.add_argument("--budget", nargs="+", type=float, default=[600.0], help="seconds of training")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--samples", type=int, default=1000, help="images to judge")
    parser.add_argument("--time-sampling", type=int, default=100, metavar="N", help="time float32 sampling on N images")
    parser.add_argument("--judge-as-trained", action="store_true", help="judge float32 recipes in float32 (slow)")
    parser.add_argument("--no-fair-play", action="store_true", help="leave out the others with bfloat16, channels-last")
    parser.add_argument("--no-plain", action="store_true", help="leave out the others as their authors train them")
    parser.add_argument("--threads", type=int, default=pick_threads())
    parser.add_argument("--device", default="cpu", type=pick_device)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--features", default="classifier", help='"classifier", "pca", or a classifier\'s file')
    parser.add_argument("--json", type=Path, help="append each row to this file, and skip those that it has")
    parser.add_argument("--report", action="store_true", help="measure nothing: the table of what --json has")
    parser.add_argument("--pictures", type=Path, help="a folder for a hundred samples of each row")
    parser.add_argument("--to-quality", type=float, metavar="D", help="instead: time until the distance is D")
    parser.add_argument("--every", type=int, default=500, help="steps between looks, with --to-quality")
    options = parser.parse_args(arguments)
    if min(options.samples, options.time_sampling, options.threads, options.every) < 1 or options.samples < 2:
        parser.error("--samples expects at least 2; --time-sampling, --threads and --every at least 1")
    if options.report and not (options.json and options.json.exists()):
        parser.error(f"--report expects --json with a file of rows, got {options.json}")
    if min(options.budget) <= 0:
        parser.error(f"--budget expects seconds above 0, got {min(options.budget):g}")
    return options


def chosen(options: argparse.Namespace) -> list[Entry]:
    """Ours, then each of the others as published and with fair play. An absent library is named, and left out."""
    entries = []
    for name in dict.fromkeys(options.only):
        try:
            entry = ENTRIES[name]()
        except ImportError as error:
            print(f"Left out: {error}", file=sys.stderr)
            continue
        if name == "ours":
            entries.append(entry)
        else:
            entries += [entry] * (not options.no_plain) + [entry.fair_play()] * (not options.no_fair_play)
    return entries


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    train_set, test_set = load(options.data, "train"), load(options.data, "test")
    evaluator = make_evaluator(options.features, train_set, test_set)
    floor = evaluator(train_set.first(options.samples).x)["distance"]
    data = train_set.to(options.device)
    if options.to_quality is not None:
        entries = [ENTRIES[name]() for name in options.only]
        pairs = [(entry, compiled) for entry in entries for compiled in (False, True)]
        rows = [to_quality(entry, compiled, options.to_quality, data, evaluator, options) for entry, compiled in pairs]
        print(quality_table(rows, options.to_quality))
        return rows
    try:
        entries = chosen(options)
        rows = report(entries, evaluator, options) if options.report else collect(entries, data, evaluator, options)
    except KeyboardInterrupt:
        sys.exit(
            "Interrupted."
            + (f" {options.json} has the finished rows: run the same command to go on." * bool(options.json))
        )
    notes = [*verdicts(rows), *conditions(rows, evaluator, data, floor, options)]
    print("\n".join([table(rows), "", *(f"* {note}" for note in notes)]))
    return rows


if __name__ == "__main__":
    main()
