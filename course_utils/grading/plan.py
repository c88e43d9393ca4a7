"""What grading needs to know, made once from the instructor's own notebooks and the declarations of the quizzes."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ..quizzes import Concept, Quiz, declarations
from ..quizzes.judging import Expected
from ..quizzes.running import request_wire
from . import sources
from .answers import asked_for

NOTEBOOKS = sources.PACKAGE.parent / "notebooks"  # the instructor's own

# Library functions that would answer a quiz by being called: out of reach while that quiz's answer runs. The quiz's own
# reference is, wherever it is the library's.
LIBRARY_ANSWERS: dict[str, tuple[str, ...]] = {
    "autoencoder/pca": (
        "models.autoencoder.PCA.fit",
        "models.autoencoder.PCA.encode",
        "models.autoencoder.PCA.decode",
        "models.autoencoder.PCA.__call__",
    ),
    "autoencoder/conv-size": ("models.blocks.conv_size",),
    "autoencoder/conv-transpose-size": ("models.blocks.conv_transpose_size",),
    "autoencoder/fit-gaussian": ("models.autoencoder.fit_gaussian",),
    "vae/elbo": ("models.vae.elbo",),
    "vae/averaged-kl": ("models.vae.negative_elbo", "models.vae.Elbo.loss"),
    "forward/step-variances": (
        "diffusion.linear_schedule",
        "diffusion.quadratic_schedule",
        "diffusion.sigmoid_schedule",
    ),
    "forward/alpha-bar": ("diffusion.linear_schedule", "diffusion.Schedule.from_betas"),
    "forward/shifted": ("diffusion.Schedule.from_betas",),
    # `_exactly` looks ᾱ_t up for all of them: `target("v", -noise, x0, t)` is `add_noise(x0, t, noise)`.
    "forward/add-noise": ("diffusion.Schedule.add_noise", "diffusion.Schedule._exactly"),
    "forward/published-noise": ("diffusion.Schedule.add_noise", "diffusion.Schedule._exactly"),
    "forward/cosine": ("diffusion.cosine_schedule",),
    "forward/log-snr": ("diffusion.Schedule.log_snr", "diffusion.Schedule.snr"),
    "forward/zero-terminal": ("diffusion.zero_terminal_snr",),
    "forward/posterior": ("diffusion.Schedule.posterior",),
    "forward/mixture-score": ("data.mixtures.GaussianMixture.score", "data.mixtures.GaussianMixture._joint"),
    "unet/residual-block": ("models.unet.ResidualBlock.forward",),
    "unet/attention": ("models.unet.Attention.gather",),
    "unet/mixed-axes": ("models.unet.Attention.forward",),
    "unet/linear-attention": ("models.unet.LinearAttention.gather",),
    "unet/forward": ("models.unet.UNet.forward",),
    "training/equal-variance-kl": ("models.vae.gaussian_kl",),
    "training/v-target": ("diffusion.Schedule.target", "diffusion.Schedule.to_x0"),
    "training/to-x0": ("diffusion.Schedule.to_x0",),
    "training/to-noise": ("diffusion.Schedule.to_noise", "sampling.walking.Stride.implied"),
    "training/min-snr": ("diffusion.min_snr",),
    "training/ema": ("training.averaging.EMA.update",),
    "sampling/ancestral-step": ("sampling.walking.ancestral", "sampling.walking.walk", "sampling.solvers.dpm_solver"),
    "sampling/product": ("sampling.walking.ancestral", "sampling.walking.walk", "sampling.solvers.dpm_solver"),
    "sampling/short-loop": ("sampling.walking.ancestral", "sampling.walking.walk"),
    "sampling/noise-at-the-end": ("sampling.walking.ancestral",),
    "sampling/timesteps": ("diffusion.Schedule.timesteps", "sampling.walking.stops"),
    "sampling/ddim-step": ("sampling.walking.walk", "sampling.solvers.dpm_solver", "sampling.solvers._multistep"),
    "sampling/heun-step": ("sampling.solvers.heun",),
    "sampling/multistep": ("sampling.solvers.dpm_solver", "sampling.solvers._multistep"),
    "sampling/langevin-step": ("sampling.langevin.langevin", "sampling.langevin._uphill"),
    "guidance/plane": ("models.unet.ClassPlane.forward",),
    "guidance/classifier-gradient": ("sampling.guidance.classifier_guided",),
    "guidance/wrong-quantity": ("sampling.guidance.classifier_guided",),
    "guidance/guided-guess": ("sampling.guidance.guided",),
}

# Functions of other quizzes that would answer a quiz by being called with other arguments: not lent to it.
NOT_LENT = {"sampling/product": ("ancestral_step", "ddim_step")}


@dataclass(frozen=True, eq=False)
class Plan:
    """One notebook as the instructor handed it out.

    number: "03";  clean: the student notebook, stubs in its answer cells;  names: quiz id -> name of the function or
    variable asked for, in the notebook's order;  stubs: quiz id -> the answer cell as handed out;  prelude: source.
    """

    number: str
    stem: str
    clean: NotebookNode
    names: Mapping[str, str]
    stubs: Mapping[str, str]
    prelude: str

    def out_of(self) -> int:
        """Points that the notebook is worth."""
        return sum(declarations.get(id).points for id in self.names)


@functools.cache
def plans(folder: Path) -> dict[str, Plan]:
    """Notebook number -> plan, from the student notebooks in `folder`.  ValueError if there are none."""
    found = {}
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        clean = nbformat.read(path, as_version=4)
        answers = [cell for cell in clean.cells if cell.metadata.get("course", {}).get("role") == "answer"]
        stubs = {cell.metadata["course"]["quiz"]: cell.source for cell in answers}
        number = path.stem[:2]
        found[number] = Plan(number, path.stem, clean, asked_for(clean), stubs, sources.prelude(clean))
    if not found:
        raise ValueError(f"expected the course's student notebooks in {folder.name}/, found none: run it from a clone")
    return found


@functools.cache
def library() -> dict[str, str]:
    """Module name -> source of what students' code may import of the course."""
    quizzes = declarations.registered().items()
    return sources.library({id: quiz.probe.__name__ for id, quiz in quizzes if isinstance(quiz, Quiz) and quiz.probe})


def seed_of(seed: int, quiz: str) -> int:
    """The seed of a quiz's inputs in a grading whose seed is `seed`: the same for all students."""
    return int.from_bytes(hashlib.sha256(f"{seed} {quiz}".encode()).digest()[:6], "big")


@functools.lru_cache(maxsize=256)
def expected(quiz: str, seed: int) -> Expected:
    """A quiz's fresh inputs, and what its reference makes of them."""
    declared = declarations.get(quiz)
    return Expected(declared, declared.draw_cases(seed_of(seed, quiz)))


@functools.lru_cache(maxsize=256)
def request(quiz: str, seed: int) -> bytes:
    """The inputs as the sandbox gets them."""
    declared = declarations.get(quiz)
    return request_wire(expected(quiz, seed).cases, declarations.probe_name(quiz) if declared.probe else None)


@functools.cache
def forbidden(quiz: str) -> tuple[str, ...]:
    """Dotted names of what would answer the quiz by being called."""
    reference = declarations.get(quiz).reference
    own = [f"{reference.__module__}.{reference.__qualname__}"] if _is_librarys(reference) else []
    return (*own, *(f"{sources.PACKAGE.name}.{name}" for name in LIBRARY_ANSWERS.get(quiz, ())))


@functools.cache
def supplied(plan: Plan, quiz: str) -> dict[str, str]:
    """name -> source that binds it, for the functions of the notebook's *other* quizzes, as `check` would give them.

    Those that are made of this quiz's own reference are left out.
    """
    own = declarations.get(quiz).reference
    found = {}
    for id, name in plan.names.items():
        declared = declarations.get(id)
        if isinstance(declared, Concept) or name == plan.names[quiz] or declared.reference is own:
            continue
        if name in NOT_LENT.get(quiz, ()):
            continue
        source = _source_that_binds(declared, name)
        if own.__name__ not in source:
            found[name] = source
    return found


def _source_that_binds(quiz: Quiz, name: str) -> str:
    reference = quiz.reference
    if _is_librarys(reference):
        return f"from {reference.__module__} import {reference.__qualname__} as {name}\n"
    module = inspect.getmodule(reference)
    return sources.binding(inspect.getsource(module), reference.__name__, name, module.__package__)


def _is_librarys(reference: object) -> bool:
    return not reference.__module__.startswith(f"{sources.PACKAGE.name}.quizzes.")


def fingerprint(chosen: Sequence[Plan]) -> str:
    """Changes when a notebook, a quiz or the library does: what was graded before is then graded again."""
    digest = hashlib.sha256()
    for path in sorted(sources.PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    for plan in chosen:
        digest.update(nbformat.writes(plan.clean).encode())
    return digest.hexdigest()[:16]
