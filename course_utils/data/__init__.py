"""Image sets: Fashion-MNIST, MNIST, Kuzushiji-MNIST, digits, or a folder of your own.

    train = load("fashion-mnist", "train", limit=5000)
    x = train.take(torch.tensor([0, 1, 2]))          # (3, 1, 28, 28), floats in [-1, 1]
"""

from .fetching import DataUnavailable, data_root
from .image_set import ImageSet
from .loading import load, where

__all__ = ["DataUnavailable", "ImageSet", "data_root", "load", "where"]
