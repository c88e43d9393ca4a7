"""One training loop for every model of the course: learning rate, averaging, progress, checkpoints, exact resume.

Read `loop.py`: one training step stands there from top to bottom; all else that a run needs hangs on it by one line.

* `fit(model, loss, data, steps=400, lr=2e-3)` is the common case: one loss, one optimizer.
* `train(update, data, parts, recipe)` is the same loop around a step of your own, `update(x, y, generator) -> {"loss":
  scalar, ...}`. A GAN takes its two optimizer steps in there.
* A `Recipe` holds all that decides the numbers of a run, a `Watch` how it is watched, saved and stopped. Both are
  mostly given by keywords.

**What step k draws depends on (seed, k) and on nothing that came before**: the order of the images on (seed, epoch),
the `generator` that your loss is given and PyTorch's global generator (dropout) on (seed, k). So a run that was
killed and resumed ends in the same bits as one that wasn't, on the same machine with as many threads. (On a GPU some
kernels add in varying order, and any two runs differ in the last bits.) NumPy's and Python's own random numbers are
not covered.

**After `fit` the model is in eval mode**, however it ended: what follows is sampling and measuring, and a model left in
training mode while sampling is the field's commonest bug. Call `model.train()` if you go on with a loop of your own.
"""

from .averaging import EMA
from .batches import batch_indices, fingerprint
from .checkpoints import CheckpointRefused, steps_in
from .diverging import TrainingDiverged
from .history import History, steps_made
from .loop import fit, train
from .muon import Muon
from .recipe import Recipe, learning_rate_factor, same_rates
from .stopping import until_stopped
from .timing import steps_within
from .watching import Watch

__all__ = [
    "EMA",
    "CheckpointRefused",
    "History",
    "Muon",
    "Recipe",
    "TrainingDiverged",
    "Watch",
    "batch_indices",
    "fingerprint",
    "fit",
    "learning_rate_factor",
    "same_rates",
    "steps_in",
    "steps_made",
    "steps_within",
    "train",
    "until_stopped",
]
