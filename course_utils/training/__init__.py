"""One training loop for every model of the course: learning rate, averaging, progress, checkpoints, exact resume.

Two functions, one on top of the other:

* `fit(model, loss, data, steps=400, lr=2e-3)` is the common case: one loss, one optimizer.
* `train(update, data, parts, recipe)` is the loop itself, around any `update(x, y, generator) -> {"loss": scalar,
  ...}`. A GAN takes its two optimizer steps inside `update`; `fit` writes an `update` for you.

**What step k draws depends on (seed, k) and on nothing that came before**: the order of the images on (seed, epoch),
the `generator` that your loss is given and PyTorch's global generator (dropout) on (seed, k). So a run that was
killed and resumed ends in the same bits as one that wasn't, on the same machine with as many threads. (On a GPU some
kernels add in varying order, and any two runs differ in the last bits.) NumPy's and Python's own random numbers are
not covered.

**After `fit` the model is in eval mode**, however it ended: what follows is sampling and measuring, and a model left in
training mode while sampling is the field's commonest bug. Call `model.train()` if you go on with a loop of your own.
"""

from .averaging import EMA
from .batches import batch_indices
from .checkpoints import CheckpointRefused
from .loop import fit, train
from .muon import Muon
from .recipe import History, Recipe, TrainingDiverged, learning_rate_factor

__all__ = [
    "EMA",
    "CheckpointRefused",
    "History",
    "Muon",
    "Recipe",
    "TrainingDiverged",
    "batch_indices",
    "fit",
    "learning_rate_factor",
    "train",
]
