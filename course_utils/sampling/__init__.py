"""From noise to images, with any denoiser (x_t, t, y=None) → x̂_0.

Samplers are generators of `Step`s that all begin (denoise, schedule, noise, steps, y); guidance, clipping and
inpainting are wrappers around the denoiser, so each works with every sampler.
"""

from .editing import encode, keeping, noised
from .guidance import between, classifier_guided, clipped, guided
from .langevin import annealed_langevin, langevin, score_of
from .solvers import dpm_solver, euler, heun, karras_stops
from .walking import Step, ancestral, last, stops, walk

__all__ = [
    "Step",
    "ancestral",
    "annealed_langevin",
    "between",
    "classifier_guided",
    "clipped",
    "dpm_solver",
    "encode",
    "euler",
    "guided",
    "heun",
    "karras_stops",
    "keeping",
    "langevin",
    "last",
    "noised",
    "score_of",
    "stops",
    "walk",
]
