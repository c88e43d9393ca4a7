"""What each part of the U-Net is good for: the same small network without skips, without t, without attention.

    python benchmarks/ablations.py --json ablations.jsonl                   three seeds each, 360 steps
    python benchmarks/ablations.py --json ablations.jsonl --ship course_utils/shipped/ablations

Two more have only four channels at the bottom, one with and one without skips: what skips are good for depends on how
much fits through there. All train with the course's recipe on the same images in the same order. Measured on the test
split is the mean squared error of v at twelve steps, with the same noise for all. Finished rows are appended to --json
and their weights kept beside it; the same command goes on where it was interrupted. --ship writes the networks of the
first seed, each with the measurements of all seeds on its card: notebook 04 shows them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))
from training import append_row, read_rows, spread

from course_utils import recipes, weights
from course_utils.data import load
from course_utils.data.image_set import ImageSet
from course_utils.device import generator, pick_threads, seeded
from course_utils.diffusion import Denoiser, prediction_target
from course_utils.models.unet import Attention, UNet, sinusoidal_embedding
from course_utils.training import fit

VARIANTS = ("full", "no skips", "narrow", "narrow, no skips", "no time", "no attention")
WIDTHS, NARROW = (16, 32), (16, 4)  # 7 × 7 × 32 numbers at the bottom, twice as many as pixels; 7 × 7 × 4, a quarter
LEVELS = (20, 60, 120, 200, 300, 400, 500, 600, 700, 800, 900, 980)  # the steps at which the loss is measured
BATCH = 32
ANY_STEP = 500  # what a network without time is always told


class WithoutSkips(UNet):
    """In place of copies that would pass by the bottom: zeros."""

    def join(self, h: Tensor, skip: Tensor) -> Tensor:
        passes_by = skip.shape[-1] > self.shape[-1] // self.patch // 2 ** (len(self.down) - 1)
        return super().join(h, torch.zeros_like(skip) if passes_by else skip)


class WithoutTime(UNet):
    """Whatever the step is, the blocks are told the same."""

    def embed(self, t: Tensor, y: Tensor | None) -> Tensor:
        return super().embed(torch.full_like(t, ANY_STEP), y)


def make(variant: str, shape: tuple[int, int, int], seed: int) -> UNet:
    """A network without the part."""
    kind = WithoutSkips if "no skips" in variant else WithoutTime if variant == "no time" else UNet
    widths = NARROW if "narrow" in variant else WIDTHS
    with seeded(seed):
        return kind(shape, widths=widths, attention=None if variant == "no attention" else Attention)


@torch.no_grad()
def as_plain(model: UNet) -> UNet:
    """The same function as a plain `UNet`: what is missing becomes weights of zero, and can be stored as any other."""
    plain = UNet(**model.config)
    plain.load_state_dict(model.state_dict())
    if isinstance(model, WithoutTime):
        waves = sinusoidal_embedding(torch.tensor([ANY_STEP]), 64)
        plain.time[-1].bias.copy_(plain.time(waves)[0])
        plain.time[-1].weight.zero_()
    if isinstance(model, WithoutSkips):
        for level in plain.up[1:]:
            width = level[0].conv2.out_channels  # behind these channels come those of the copy, in groups of their own
            level[0].norm1.weight[width:] = 0
            level[0].skip.weight[:, width:] = 0
    return plain.eval()


@torch.no_grad()
def held_out(denoiser: Denoiser, x: Tensor) -> list[float]:
    """Mean squared error of v per pixel at each of LEVELS."""
    losses = []
    for k, level in enumerate(LEVELS):
        noise = torch.randn(x.shape, generator=generator(100 + k))
        t = torch.full((len(x),), level)
        guess = denoiser.model(denoiser.schedule.add_noise(x, t, noise), t).float()
        losses.append((guess - prediction_target(denoiser.schedule, "v", x, noise, t)).square().mean().item())
    return losses


@torch.no_grad()
def grain(denoiser: Denoiser, images: int = 256) -> float:
    """Mean square of what a 3 × 3 blur takes out of the guesses of clean images from pure noise, in one step."""
    noise = torch.randn(images, *denoiser.model.shape, generator=generator(7))
    guess = denoiser(noise, torch.full((images,), denoiser.schedule.T)).clamp(-1, 1)
    blurred = F.avg_pool2d(F.pad(guess, (1,) * 4, mode="reflect"), 3, stride=1)
    return (guess - blurred).square().mean().item()


def measure(
    variant: str, seed: int, data: ImageSet, test: ImageSet, options: argparse.Namespace
) -> tuple[dict[str, Any], Denoiser]:
    """One row, and its network as a plain one."""
    model, schedule = make(variant, data.shape, seed), recipes.ddpm_schedule()
    recipe = replace(recipes.ddpm_recipe(options.steps, seed=seed, batch_size=BATCH, ema=0.98), mixed_precision=False)
    history = fit(model, recipes.ddpm_loss(schedule, model), data, recipe, progress=False)
    if history.interrupted:
        raise KeyboardInterrupt
    denoiser = Denoiser(as_plain(history.ema_model), schedule, "v").eval()
    return {"loss": held_out(denoiser, test.first(options.images).x)}, denoiser


def collect(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows that are asked for: from the file where it has them, else measured and appended to it."""
    data, test, known, rows = load(options.data, "train"), load(options.data, "test"), read_rows(options.json), []
    settings = {name: getattr(options, name) for name in ("data", "steps", "images")}
    for seed in options.seeds:
        for variant in VARIANTS:
            row = {"variant": variant, "seed": seed} | settings
            found = next((old for old in known if row.items() <= old.items()), None)
            if found is None:
                measured, denoiser = measure(variant, seed, data, test, options)
                found = row | measured
                if options.json is not None:
                    weights.save(_path(options.json.parent, variant, seed), denoiser, {"seed": seed})
                append_row(options.json, found)
                print(f"{variant}, seed {seed}: {sum(found['loss']) / len(LEVELS):.4f}", file=sys.stderr, flush=True)
            rows.append(found)
    return rows


def _path(folder: Path, variant: str, seed: int | None = None) -> Path:
    name = variant.replace(",", "").replace(" ", "-") + ("" if seed is None else f"-{seed}")
    return folder / f"{name}.safetensors"


def ship(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The networks of the first seed into --ship, with what all seeds gave on their cards."""
    options.ship.mkdir(parents=True, exist_ok=True)
    for variant in VARIANTS:
        mine = [row for row in rows if row["variant"] == variant]
        networks = [weights.load_denoiser(_path(options.json.parent, variant, row["seed"])) for row in mine]
        losses = {f"seed {row['seed']}": [round(loss, 5) for loss in row["loss"]] for row in mine}
        card = {
            "variant": variant,
            "data": f"{options.data}, train split",
            "steps": options.steps,
            "seed": mine[0]["seed"],
            "command": "python benchmarks/ablations.py --json ablations.jsonl --ship course_utils/shipped/ablations",
            "at t": list(LEVELS),
            "on the test split": losses,
            "grain at t = 1000": {f"seed {row['seed']}": round(grain(net), 5) for row, net in zip(mine, networks)},
        }
        weights.save(_path(options.ship, variant), networks[0], card)


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table, a line for each network, over its seeds."""
    head = ["network", "loss, t ≤ 200", "middle", "t ≥ 700", "all", "seeds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    t = torch.tensor(LEVELS)
    for variant in dict.fromkeys(row["variant"] for row in rows):
        some = [row for row in rows if row["variant"] == variant]
        losses = torch.tensor([row["loss"] for row in some])
        cells = [variant]
        for part in (t <= 200, (t > 200) & (t < 700), t >= 700, t > 0):
            cells.append(spread(losses[:, part].mean(1).tolist(), 4))
        lines.append("| " + " | ".join([*cells, str(len(some))]) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure what isn't in the file yet, print the table, and write what is to be shipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=360, help="of training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=500, help="of the test split, to measure on")
    parser.add_argument("--threads", type=int, default=pick_threads())
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--json", type=Path, help="append rows, weights beside it; skip what it has")
    parser.add_argument("--ship", type=Path, help="write the networks of the first seed into this folder; needs --json")
    options = parser.parse_args(arguments)
    if min(options.images, options.threads, options.steps) < 1 or (options.ship and not options.json):
        parser.error("--images, --threads and --steps expect at least 1; --ship needs --json")
    torch.set_num_threads(options.threads)
    try:
        rows = collect(options)
    except KeyboardInterrupt:
        sys.exit("Interrupted." + f" {options.json} has the finished rows: run it again to go on." * bool(options.json))
    print(table(rows))
    if options.ship:
        ship(rows, options)
    return rows


if __name__ == "__main__":
    main()
