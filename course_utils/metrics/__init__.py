"""What samples are judged by: distances between sets, quality and variety apart, classes, copies, and how sure it is.

The features that images are compared in are passed in, never hidden inside. Every number depends on them and on how
many images there are: compare only numbers that share both.
"""

from .classes import class_counts, class_entropy, classes_covered, inception_score
from .frechet import Extrapolation, frechet_at_infinity, frechet_distance
from .intervals import Interval, wilson_interval
from .kernel import KernelDistance, kernel_distance
from .neighbours import Nearest, copies, coverage, density, nearest, precision, recall

__all__ = [
    "Extrapolation",
    "Interval",
    "KernelDistance",
    "Nearest",
    "class_counts",
    "class_entropy",
    "classes_covered",
    "copies",
    "coverage",
    "density",
    "frechet_at_infinity",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "nearest",
    "precision",
    "recall",
    "wilson_interval",
]
