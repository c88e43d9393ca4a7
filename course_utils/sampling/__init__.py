"""From noise to images, with any denoiser (x_t, t, y=None) → x̂_0.

Samplers are generators of `Step`s that all begin (denoise, schedule, noise, steps, y); guidance, clipping and
inpainting are wrappers around the denoiser, so each works with every sampler.
"""

from .ancestral import *
from .editing import *
from .guidance import *
from .langevin import *
from .loop import *
from .solvers import *
