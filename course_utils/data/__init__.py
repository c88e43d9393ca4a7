"""Image sets (Fashion-MNIST, MNIST, Kuzushiji-MNIST, digits; shapes and two photos in colour; or a folder of your own),
and toys with exact scores.

>>> train = load("digits", "train", limit=100)      # or "fashion-mnist", or the path of a folder
>>> train.take([0, 1, 2]).shape                     # floats in [-1, 1]
torch.Size([3, 1, 28, 28])
"""

from .fetching import DataUnavailable, data_root
from .image_set import ImageSet
from .loading import load, where
from .mixtures import GaussianMixture

__all__ = ["DataUnavailable", "GaussianMixture", "ImageSet", "data_root", "load", "where"]
