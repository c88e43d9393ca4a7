"""The data sets of the course, one entry each in `SETS`: what it holds, where its files are, how they are read.

To add one, add an entry here, and nothing else. Images may be grey or in colour, of any size, in files of any kind: a
reader turns the contents of a split's files into pixels and labels. `read_idx` reads MNIST's format; for another one
write a function like it.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import digits, shapes, two_photos


def read_idx(split: str, images: bytes, labels: bytes) -> tuple[Tensor, Tensor]:
    """Images (n, 1, h, w) and labels (n,) from two gzipped IDX files, the format of MNIST."""
    return parse_idx(images).unsqueeze(1), parse_idx(labels).long()


def parse_idx(content: bytes) -> Tensor:
    """A gzipped IDX file of bytes as a uint8 tensor: (n, h, w) for images, (n,) for labels.

    Two zero bytes, 8 for "unsigned byte", the number of axes; the axes as big-endian 32-bit integers; the numbers.

    >>> parse_idx(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])))
    tensor([7, 8, 9], dtype=torch.uint8)
    """
    raw = gzip.decompress(content)
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"IDX file: expected it to begin with 00 00 08 (bytes), got {raw[:3].hex(' ')}")
    shape = tuple(np.frombuffer(raw, ">u4", raw[3], offset=4).tolist())
    numbers = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    return torch.from_numpy(numbers.reshape(shape).copy())


@dataclass(frozen=True)
class Published:
    """A data set that is downloaded once, and verified.

    name: for `load`, and the folder that it is kept in;  title: for people;  classes: their names, in label order;
    mirrors: addresses of folders that hold the files, best first, https only;
    files: file name -> (bytes, SHA-256);  splits: which files make a split, in the order in which `read` takes them;
    read: (split, contents of each file) -> images uint8 (n, 1 or 3, h, w), 0 black, and labels int64 (n,).
    """

    name: str
    title: str
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    files: dict[str, tuple[int, str]]
    splits: dict[str, tuple[str, ...]]
    read: Callable[..., tuple[Tensor, Tensor]] = read_idx


@dataclass(frozen=True)
class Made:
    """A data set that is made on the spot and needs no network.

    make: (split, seed, limit) -> images and labels as above, at most `limit` of them, in random order.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    make: Callable[[str, int, int | None], tuple[Tensor, Tensor]]
    splits: tuple[str, ...] = ("train", "test")


TRAIN = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
TEST = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")

FASHION_MNIST = Published(
    name="fashion-mnist",
    title="Fashion-MNIST",
    classes=("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
    ),
    files={
        TRAIN[0]: (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        TRAIN[1]: (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        TEST[0]: (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        TEST[1]: (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    },
    splits={"train": TRAIN, "test": TEST},
)
MNIST = Published(
    name="mnist",
    title="MNIST",
    classes=tuple("0123456789"),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://raw.githubusercontent.com/fgnt/mnist/master/",
    ),
    files={
        TRAIN[0]: (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        TRAIN[1]: (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        TEST[0]: (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        TEST[1]: (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    },
    splits={"train": TRAIN, "test": TEST},
)
KMNIST = Published(
    name="kmnist",
    title="Kuzushiji-MNIST",
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    mirrors=("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    files={
        TRAIN[0]: (18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
        TRAIN[1]: (29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
        TEST[0]: (3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
        TEST[1]: (5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
    },
    splits={"train": TRAIN, "test": TEST},
)
DIGITS = Made(name="digits", title="digits", classes=digits.CLASSES, make=digits.digits)
SHAPES = Made(name="shapes", title="shapes", classes=shapes.CLASSES, make=shapes.shapes)
TWO_PHOTOS = Made(name="two-photos", title="two photos", classes=two_photos.CLASSES, make=two_photos.two_photos)

SETS: dict[str, Published | Made] = {
    entry.name: entry for entry in (FASHION_MNIST, MNIST, KMNIST, DIGITS, SHAPES, TWO_PHOTOS)
}
