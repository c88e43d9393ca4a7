"""Images in 1, 2, 4 and 8 evaluations: solvers of the shipped model, a flow, a rectified and a distilled model.

    python benchmarks/few_steps.py --json few_steps.jsonl                 seeds 0 to 2: about four hours on one core
    python benchmarks/few_steps.py --json few_steps.jsonl --report        the table of what is there
    python benchmarks/few_steps.py --json few_steps.jsonl --report --to course_utils/shipped/few_steps.json
    python benchmarks/few_steps.py --only rectified distilled --seeds 0 --models course_utils/shipped

Five ways begin with the shipped diffusion model: two solvers, which train nothing; rectification with 20,000 pairs of
its own; progressive distillation, from 16 strides down to one, with a network for each of 8, 4, 2 and 1 strides; and as
many networks that learn chords of 20,000 of its paths, drawn once. The flow is trained from nothing, for --budget CPU
seconds. 2,000 samples with labels, evenly dealt, are compared with all test images: squared Fréchet distance (2.10) in
the features of the course's small classifier. Straightness is that of equation (10.8) over 50 strides. A seed decides
the training and the samples; where nothing is trained, the samples. Finished rows are appended to --json; the same
command goes on where it stopped. --models keeps what was trained.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
import over_seeds
from trilemma import steps_in

from course_utils import recipes
from course_utils.data import load
from course_utils.device import generator, seeded
from course_utils.diffusion import Denoiser, Schedule, diffusion_loss, drop_labels
from course_utils.few_steps import chord, draw_pairs, from_pairs, halving_loss
from course_utils.flow import convert, flow_schedule, logit_normal_steps, straightness
from course_utils.metrics import frechet_distance
from course_utils.models.autoencoder import in_batches
from course_utils.sampling import clipped, ddim, dpm_solver, last
from course_utils.training import History, fit
from course_utils.weights import load_classifier, load_denoiser, save

SAMPLES, PART = 2000, 250
EVALUATIONS = (1, 2, 4, 8, 50)
PAIRS, STRIDES = 20_000, 16  # of the shipped model, and how many strides of DPM-Solver++ make one
STEPS = {"rectified": 3000, "distilled": 1500, "chords": 1500}  # of training; of the last two for each of four students
QUIET = {"progress": False, "say": None}


class Setting:
    """What all contestants share: images, the judge, and the shipped model."""

    def __init__(self, data: str, samples: int, budget: float, scale: float):
        self.data, self.test = load(data, "train"), load(data, "test")
        self.judge, self.teacher = load_classifier(data), load_denoiser(data)
        self.real = in_batches(self.judge.features, self.test.x, size=500).detach()
        self.samples, self.budget, self.scale = samples, budget, scale

    @torch.no_grad()
    def distance(
        self, denoise: Callable, schedule: Schedule, steps: int | Sequence[int], seed: int, solver: Callable = ddim
    ) -> float:
        """Of samples in so many evaluations to the test images."""
        chance = generator(1_000_003 + seed)
        noise = torch.randn(self.samples, *self.data.shape, generator=chance)
        y = torch.arange(self.samples) % len(self.data.classes)  # labels by chance would move d² by 1 from seed to seed
        pieces = zip(noise.split(PART), y.split(PART), strict=True)
        images = torch.cat([last(solver(clipped(denoise), schedule, x, steps, labels)) for x, labels in pieces])
        return frechet_distance(self.real, in_batches(self.judge.features, images.clamp(-1, 1), size=500).detach())

    @torch.no_grad()
    def straightness(self, denoise: Callable, schedule: Schedule, seed: int) -> float:
        some = min(100, self.samples)
        noise = torch.randn(some, *self.data.shape, generator=generator(seed))
        y = torch.arange(some) % len(self.data.classes)
        return straightness(ddim(denoise, schedule, noise, 50, y), schedule)

    def student(self) -> nn.Module:
        """The shipped network once more, to be trained on."""
        return copy.deepcopy(self.teacher.model).train().requires_grad_(True)


Row = dict[str, Any]
Trained = dict[str, Denoiser]  # by name, as --models keeps them


def row_of(setting: Setting, denoise: Denoiser, seed: int, evaluations: tuple[int, ...] = EVALUATIONS, **how) -> Row:
    found = {f"at {k}": setting.distance(denoise, denoise.schedule, k, seed, **how) for k in evaluations}
    return found | {"straightness": setting.straightness(denoise, denoise.schedule, seed)}


# ---------------------------------------------------------------------------------------------------------------------
# The contestants: each gives its row, and what was trained
# ---------------------------------------------------------------------------------------------------------------------
def solvers(setting: Setting, seed: int) -> Iterator[tuple[str, Row, Trained]]:
    """The shipped model, as it is."""
    yield "DDIM", row_of(setting, setting.teacher, seed), {}
    few = {f"at {k}": setting.distance(setting.teacher, setting.teacher.schedule, k, seed, dpm_solver) for k in (4, 8)}
    yield "DPM-Solver++", few, {}


def flow(setting: Setting, seed: int) -> Iterator[tuple[str, Row, Trained]]:
    """A network of the same kind that learns velocities on straight paths, from nothing."""
    schedule = flow_schedule()

    def make(shape: tuple[int, int, int], seed: int) -> tuple[Callable, None]:
        with seeded(seed):
            model = recipes.ddpm_model(shape, len(setting.data.classes))
        loss = diffusion_loss(schedule, "velocity", draw=logit_normal_steps(), null=model.null)
        return lambda data, steps: fit(model, loss, data, recipes.ddpm_recipe(steps, seed), **QUIET), None

    steps = steps_in(setting.budget, make, setting.data)
    train, _ = make(setting.data.shape, seed)
    model = Denoiser(finished(train(setting.data, steps)), schedule, "velocity").eval()
    yield "flow", row_of(setting, model, seed) | {"steps": steps}, {"flow": model}


def rectified(setting: Setting, seed: int) -> Iterator[tuple[str, Row, Trained]]:
    """The shipped model, trained on with its own noises and what it made of them."""
    teacher = setting.teacher
    draw = lambda noise, y: last(dpm_solver(clipped(teacher), teacher.schedule, noise, STRIDES, y))  # noqa: E731
    pairs = round(PAIRS * setting.scale)
    examples = draw_pairs(draw, setting.data.shape, pairs, len(setting.data.classes), generator(seed))
    model, steps = setting.student(), max(1, round(STEPS["rectified"] * setting.scale))
    loss = diffusion_loss(teacher.schedule, "v", null=model.null, pair=from_pairs)
    history = fit(model, loss, examples, recipes.ddpm_recipe(steps, seed), **QUIET)
    model = Denoiser(finished(history), teacher.schedule, "v").eval()
    yield "rectified", row_of(setting, model, seed) | {"steps": steps}, {"rectified": model}


def distilled(setting: Setting, seed: int) -> Iterator[tuple[str, Row, Trained]]:
    """Half as many strides, four times; each student teaches the next, and is measured at its own number of strides."""
    schedule, teacher, row, trained = setting.teacher.schedule, setting.teacher, {}, {}
    steps = max(1, round(STEPS["distilled"] * setting.scale))
    for strides in (8, 4, 2, 1):
        model = copy.deepcopy(teacher.model).train().requires_grad_(True)
        times = schedule.timesteps(2 * strides)
        loss = halving_loss(clipped(teacher), schedule, "v", times, null=model.null)
        history = fit(model, loss, setting.data, recipes.ddpm_recipe(steps, seed), **QUIET)
        teacher = Denoiser(finished(history), schedule, "v").eval()
        row[f"at {strides}"] = setting.distance(teacher, schedule, strides, seed)
        trained["distilled"] = teacher
    yield "distilled", row | {"steps": 4 * steps}, trained


def chords(setting: Setting, seed: int) -> Iterator[tuple[str, Row, Trained]]:
    """Four students of the same paths of the shipped model, for 8, 4, 2 and 1 strides; no student teaches another."""
    schedule, row, trained = setting.teacher.schedule, {}, {}
    steps = max(1, round(STEPS["chords"] * setting.scale))
    times = schedule.timesteps(STRIDES)
    paths, labels = draw_paths(setting, times, seed)
    for strides in (8, 4, 2, 1):
        model, every = setting.student(), STRIDES // strides
        loss = chord_loss(schedule, times[::every], model.null)
        history = fit(model, loss, (paths[:, ::every], labels), recipes.ddpm_recipe(steps, seed), **QUIET)
        trained["chords"] = Denoiser(finished(history), schedule, "v").eval()
        row[f"at {strides}"] = setting.distance(trained["chords"], schedule, times[::every], seed)
    yield "chords", row | {"steps": 4 * steps}, trained


@torch.no_grad()
def draw_paths(setting: Setting, times: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
    """Where images of the shipped model were at every stop, and their labels: (n, stops, c, h, w) and (n,)."""
    teacher, n = setting.teacher, round(PAIRS * setting.scale)
    noise = torch.randn(n, *setting.data.shape, generator=generator(seed))
    y = torch.arange(n) % len(setting.data.classes)
    parts = []
    for x, labels in zip(noise.split(PART), y.split(PART), strict=True):
        steps = dpm_solver(clipped(teacher), teacher.schedule, x, times, labels)
        parts.append(torch.stack([step.x for step in steps], dim=1))
    return torch.cat(parts), y


def chord_loss(schedule: Schedule, times: Sequence[int], null: int) -> Callable:
    """Equation (10.10) along paths that were drawn beforehand: each from one of its stops to the next."""
    stops = torch.tensor([*times])

    def loss(model: Callable, path: Tensor, y: Tensor, chance: torch.Generator) -> Tensor:
        k = torch.randint(len(stops) - 1, (len(path),), generator=chance)
        every, t, s = torch.arange(len(path)), stops[k], stops[k + 1]
        x_t, x_s = path[every, k], path[every, k + 1]
        target = convert(schedule, "velocity", "v", chord(schedule, x_t, t, x_s, s), x_t, t)
        guess = model(x_t, t, drop_labels(y, null, generator=chance)).float()
        return (guess - target).square().mean()

    return loss


CONTESTANTS = {"solvers": solvers, "flow": flow, "rectified": rectified, "distilled": distilled, "chords": chords}


ONE_STRIDE = ("distilled", "chords")  # of their four students the last is kept, which is made for one evaluation


def finished(history: History) -> nn.Module:
    """The averaged network. Raises KeyboardInterrupt where training was stopped by hand."""
    if history.interrupted:
        raise KeyboardInterrupt
    return history.ema_model.requires_grad_(False)


def kept_as(folder: Path | None, setting: Setting, seed: int, row: Row, trained: Trained) -> None:
    """Write what was trained to `folder`, with its card, under the name of its data."""
    for name, model in trained.items() if folder else ():
        card = {
            "data": f"{setting.data.name}, train split, and the shipped model of it",
            "steps": f"{row['steps']:,}",
            "batch": 64,
            "seed": seed,
            "command": f"python benchmarks/few_steps.py --only {name} --seeds {seed} --models {folder.as_posix()}",
            **({"strides": 1} if name in ONE_STRIDE else {}),  # `sample` makes as many where nobody says how many
            "on the test split": _measured(row, (1,) if name in ONE_STRIDE else EVALUATIONS),
        }
        save(folder / f"{setting.data.name}-{name}.safetensors", model, card, setting.data.classes)


def _measured(row: Row, evaluations: tuple[int, ...]) -> dict[str, float]:
    """For the card."""
    return {f"squared Fréchet distance in {k} evaluation{'s' * (k > 1)}": row[f"at {k}"] for k in evaluations}


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------
COLUMNS = {f"at {k}": (f"{k} evaluation{'s' * (k > 1)}", 1) for k in EVALUATIONS} | {
    "straightness": ("straightness", 3)
}
TABLE = over_seeds.Table("model", "model", COLUMNS)


def main(arguments: list[str] | None = None) -> list[Row]:
    """Measure what isn't in the file yet, and print the table."""
    parser = over_seeds.parser(__doc__, SAMPLES)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--budget", type=float, default=600.0, help="CPU seconds of training of the flow")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="of the numbers of pairs and of steps: less for a trial"
    )
    parser.add_argument("--models", type=Path, help="write what was trained to this folder")
    options = parser.parse_args(arguments)
    settings = {key: getattr(options, key) for key in ("data", "samples", "budget", "scale")}
    return over_seeds.run(options, settings, collect, TABLE, "models", sorted_like_the_contestants)


def sorted_like_the_contestants(rows: list[Row]) -> list[Row]:
    order = [*CONTESTANTS]
    return sorted(rows, key=lambda row: order.index(row["contestant"]))


def collect(options: argparse.Namespace, key: Row, known: list[Row]) -> Iterator[Row]:
    """Rows that are known, and the others as they are measured."""
    setting = Setting(options.data, options.samples, options.budget, options.scale)

    def measure(name: str, seed: int) -> Iterator[Row]:
        for line, row, trained in CONTESTANTS[name](setting, seed):
            kept_as(options.models, setting, seed, row, trained)
            yield {"model": line} | row

    for seed in options.seeds:
        for name in options.only:
            mine = key | {"contestant": name, "seed": seed}
            yield from over_seeds.kept(options.json, known, mine, partial(measure, name, seed))


if __name__ == "__main__":
    main()
