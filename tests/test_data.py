"""Data sets: genuine ones, digits, folders of images, and everything that can go wrong on the way to them."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.data import (
    DataUnavailable,
    ImageSet,
    digits,
    fetching,
    load,
    loading,
    pixels,
    shapes,
    two_photos,
    where,
)
from course_utils.data.sets import SETS, Published
from course_utils.plots import image_grid

GENUINE = Path(os.environ["COURSE_DATA"]) if os.environ.get("COURSE_DATA") else None


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


RNG = np.random.default_rng(0)
PIXELS, KINDS = RNG.integers(0, 256, (40, 28, 28)), RNG.integers(0, 10, 40)
FILES = {"train-images-idx3-ubyte.gz": idx(PIXELS), "train-labels-idx1-ubyte.gz": idx(KINDS)}


class Server(http.server.ThreadingHTTPServer):
    """A mirror on this machine. `behaviour` maps a file name to bytes, a status, or a function of the handler."""

    def __init__(self):
        self.asked, self.behaviour = [], dict(FILES)
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        file = self.path.rsplit("/", 1)[-1]
        self.server.asked.append(file)
        answer = self.server.behaviour.get(file, 404)
        if callable(answer):
            answer(self)
        elif isinstance(answer, int):
            self.send_error(answer)
        else:
            self.give(answer)

    def give(self, content: bytes, claimed: int | None = None):
        self.send_response(200)
        self.send_header("Content-Length", str(claimed or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Fashion-MNIST made of 40 images, no mirrors, an empty shared folder and an empty cache of the user's own."""
    small = replace(SETS["fashion-mnist"], files=published(FILES), mirrors=())
    monkeypatch.setitem(SETS, "fashion-mnist", small)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "shared"))
    monkeypatch.setattr(fetching, "user_cache", lambda: tmp_path / "own")
    monkeypatch.delenv("COURSE_MIRROR", raising=False)
    monkeypatch.setattr(fetching, "_unreachable", {})
    fetching._say.cache_clear()
    monkeypatch.setattr(loading, "_told", set())
    return small


def published(files: dict[str, bytes]) -> dict[str, tuple[int, str]]:
    return {file: (len(content), hashlib.sha256(content).hexdigest()) for file, content in files.items()}


def put(folder: Path) -> None:
    (folder / "fashion-mnist").mkdir(parents=True)
    for file, content in FILES.items():
        (folder / "fashion-mnist" / file).write_bytes(content)


def is_right(data: ImageSet) -> bool:
    return np.array_equal(data.images[:, 0].numpy(), PIXELS) and np.array_equal(data.labels.numpy(), KINDS)


def one_line(error) -> str:
    text = str(error.value)
    assert text and "\n" not in text
    return text


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.part")]


# --------------------------------------------------------------------------------------------------------- genuine data


def needs(name: str):
    there = GENUINE and (GENUINE / name).is_dir()
    return pytest.mark.skipif(not there, reason=f"COURSE_DATA has no {name}")


@pytest.mark.parametrize(
    ("name", "split", "count", "mean"),
    [  # the mean pixel in [0, 1] of each set is well known: 0.2860 and 0.1307 are what everybody normalises with
        pytest.param("fashion-mnist", "train", 60_000, 0.2860, marks=needs("fashion-mnist")),
        pytest.param("fashion-mnist", "test", 10_000, 0.2868, marks=needs("fashion-mnist")),
        pytest.param("mnist", "train", 60_000, 0.1307, marks=needs("mnist")),
        pytest.param("mnist", "test", 10_000, 0.1325, marks=needs("mnist")),
        pytest.param("kmnist", "test", 10_000, None, marks=needs("kmnist")),
    ],
)
def test_genuine(name, split, count, mean):
    data = load(name, split)
    assert len(data) == count and data.shape == (1, 28, 28) and len(data.classes) == 10
    counts = torch.bincount(data.labels, minlength=10)
    assert counts.min() > 0.08 * count
    if mean:
        assert data.images.double().mean().item() / 255 == pytest.approx(mean, abs=5e-5)


@needs("mnist")
def test_limit_is_a_random_part_and_smaller_ones_lie_in_larger_ones():
    few, more, other = (
        load("mnist", "test", limit=50),
        load("mnist", "test", limit=80),
        load("mnist", "test", limit=50, seed=1),
    )
    assert torch.equal(more.images[:50], few.images) and torch.equal(more.labels[:50], few.labels)
    assert not torch.equal(few.images, other.images)
    assert len(load("mnist", "test", limit=20_000)) == 10_000


@needs("mnist")
def test_other_sizes_keep_the_picture():
    plain, framed, large = (load("mnist", "test", limit=20, size=size).images for size in (28, 32, 64))
    assert torch.equal(framed[:, :, 2:-2, 2:-2], plain) and framed[:, :, :2].sum() == 0
    back = torch.nn.functional.interpolate(large.float(), size=28, mode="bicubic", antialias=True)
    assert (back - plain.float()).abs().mean() < 5


def test_colour_gives_three_equal_channels():
    data = load("digits", "test", limit=4, colour=True)
    assert data.shape == (3, 28, 28)
    assert torch.equal(data.images[:, 0], data.images[:, 2])
    assert load("digits", "test", limit=4, colour=False).shape == (1, 28, 28)


def test_a_set_may_come_with_one_split_only(monkeypatch):
    monkeypatch.setitem(SETS, "kmnist", replace(SETS["kmnist"], splits={"test": SETS["kmnist"].splits["test"]}))
    with pytest.raises(ValueError, match="kmnist comes with the split 'test' only, got 'train'") as error:
        load("kmnist")
    one_line(error)


def test_every_published_set_has_both_splits():
    assert all(set(entry.splits) == {"train", "test"} for entry in SETS.values())


# ----------------------------------------------------------------------------------------------- any kind of data set


COLOURED = RNG.integers(0, 256, (30, 3, 32, 36), dtype=np.uint8)


def read_npz(split: str, content: bytes) -> tuple[torch.Tensor, torch.Tensor]:
    """One file for both splits, neither grey nor square, and in another order of axes."""
    arrays = np.load(io.BytesIO(content))
    images = torch.from_numpy(arrays[f"{split}_x"]).permute(0, 3, 1, 2)
    return images, torch.from_numpy(arrays[f"{split}_y"])


@pytest.fixture
def coloured(small, monkeypatch, server):
    """A data set in colour, in one compressed file, by one entry."""
    buffer, split = io.BytesIO(), {"train": slice(20), "test": slice(20, 30)}
    parts = {f"{name}_x": COLOURED.transpose(0, 2, 3, 1)[which] for name, which in split.items()}
    np.savez_compressed(buffer, **parts, train_y=np.arange(20) % 2, test_y=np.arange(10) % 2)
    content = server.behaviour["all.npz"] = buffer.getvalue()
    files = {"all.npz": (len(content), hashlib.sha256(content).hexdigest())}
    both = {"train": ("all.npz",), "test": ("all.npz",)}
    entry = Published("tiles", "Tiles", ("round", "square"), (server.url + "/",), files, both, read_npz)
    monkeypatch.setitem(SETS, "tiles", entry)
    return torch.from_numpy(COLOURED)


def test_a_coloured_set_in_files_of_another_kind_is_one_entry(coloured, server):
    assert where()["tiles"] == "not here yet"
    train, test = load("tiles", size=32), load("Tiles", "test", size=32)
    assert (train.shape, len(train), len(test)) == ((3, 32, 32), 20, 10) and train.title == "Tiles"
    assert torch.equal(train.images, coloured[:20, :, :, 2:34]) and test.classes == ("round", "square")
    assert server.asked == ["all.npz"] and where()["tiles"].endswith("tiles")
    grey = (coloured[:20, :, :, 2:34] * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    assert (load("tiles", size=32, colour=False).images - grey).abs().max() <= 0.501
    with pytest.raises(
        ValueError, match="expected one of fashion-mnist, mnist, kmnist, digits, shapes, two-photos, tiles"
    ):
        load("tails and heads")


def test_coloured_images_are_made_smaller_and_larger(coloured):
    small, large = load("tiles", size=28), load("tiles", size=64, limit=7)
    assert small.shape == (3, 28, 28) and large.images.shape == (7, 3, 64, 64)
    square = coloured[:20, :, :, 2:34].float()
    means = square.mean((2, 3)) - small.images.float().mean((2, 3))
    assert means.abs().max() < 3


# --------------------------------------------------------------------------------------------------------------- digits


def test_digits():
    train, test = load("digits"), load("digits", "test")
    assert train.shape == test.shape == (1, 28, 28)
    assert 11_000 < len(train) < 12_000 and 300 < len(test) < 400
    for data in (train, test):
        shares = torch.bincount(data.labels, minlength=10) / len(data)
        assert shares.min() > 0.08 and shares.max() < 0.12
        assert data.images.min() == 0 and data.images.max() == 255
    edge = torch.cat(
        [train.images[..., 0].flatten(), train.images[..., -1].flatten(), train.images[..., 0, :].flatten()]
    )
    assert edge.float().mean() < 2  # nothing is cut off: the border is black


def test_digits_are_the_same_every_time_and_the_split_never_moves():
    assert torch.equal(load("digits", limit=99).images, load("digits").images[:99])
    assert not torch.equal(load("digits", limit=99, seed=1).images, load("digits", limit=99).images)
    assert torch.equal(load("digits", "test", seed=1).images, load("digits", "test").images)


def test_no_test_digit_is_in_training():
    originals, labels = digits._originals()
    assert originals.shape == (1797, 1, 8, 8) and originals.max() == 1
    test = digits._test_split(labels)
    assert len(test.unique()) == len(test)
    drawn = digits._render(originals, torch.zeros(len(originals), 5))
    train_images = {image.numpy().tobytes() for image in load("digits").images}
    inside = torch.tensor([image.numpy().tobytes() in train_images for image in drawn])
    expected = torch.ones(len(labels), dtype=torch.bool)
    expected[test] = False
    assert torch.equal(inside, expected)  # each original is on exactly one side


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    raw, (images, labels) = load_digits(), digits._originals()
    assert np.array_equal(16 * images.flatten(1), raw.data) and np.array_equal(labels, raw.target)


def test_enlarged_digits_keep_their_shape():
    originals, labels = digits._originals()
    drawn = digits._render(originals, torch.zeros(len(originals), 5)).float()
    side = round(28 * digits.BOX)
    margin = (28 - side) // 2
    inner = drawn[..., margin : margin + side, margin : margin + side]
    small = torch.nn.functional.interpolate(inner, size=8, mode="bilinear", antialias=True)
    correlation = torch.corrcoef(torch.stack([small.flatten(), originals.flatten()]))[0, 1]
    assert correlation > 0.9


# ------------------------------------------------------------------------------------------------ shapes and two photos


@pytest.mark.parametrize(("name", "classes"), [("shapes", 8), ("two-photos", 2)])
def test_colour_that_needs_no_network(name, classes):
    few, test = load(name, size=64, limit=60), load(name, "test", size=64, limit=60)
    assert where()[name] == "with the course" and few.shape == (3, 64, 64) and len(few.classes) == classes
    assert torch.equal(load(name, size=64, limit=20).images, few.images[:20])
    assert not torch.equal(load(name, size=64, limit=60, seed=1).images, few.images)
    assert torch.equal(load(name, "test", size=64, limit=60, seed=-1).images, test.images)
    assert torch.bincount(few.labels, minlength=classes).min() > 0
    seen = {image.numpy().tobytes() for image in torch.cat([few.images, load(name, size=64, limit=60, seed=1).images])}
    assert len(seen) == 120 and not seen & {image.numpy().tobytes() for image in test.images}
    assert load(name, size=32, limit=5).shape == (3, 32, 32) and load(name, limit=5, colour=False).shape == (1, 28, 28)
    spread = few.images.float().std((0, 2, 3))
    assert spread.min() > 30  # colours differ


def area(name: str, side: int = 801) -> tuple[float, torch.Tensor]:
    """Of the inside of an outline, counted; and how fast the distance grows, close to the outline."""
    place = torch.linspace(-1.3, 1.3, side)
    x, y = place.expand(side, side), -place[:, None].expand(side, side)
    distance = shapes.FORMULAS[name](x, y)
    step = (place[1] - place[0]).item()
    down, right = torch.gradient(distance, spacing=step)
    return (distance < 0).sum().item() * step**2, down.hypot(right)[distance.abs() < 0.05]


def crescent(large: float, small: float, apart: float) -> float:
    """The area of a disc without that of its overlap with another, by the formula for a lens."""
    a, b = (math.acos((apart**2 + r**2 - s**2) / (2 * apart * r)) for r, s in ((large, small), (small, large)))
    lens = large**2 * (a - math.sin(2 * a) / 2) + small**2 * (b - math.sin(2 * b) / 2)
    return math.pi * large**2 - lens


AREAS = {
    "circle": math.pi * 0.9**2,
    "ring": math.pi * (0.92**2 - 0.44**2),
    "square": 1.24**2 + 4 * 1.24 * 0.16 + math.pi * 0.16**2,
    "triangle": 3 * math.sqrt(3) * 0.52**2,
    "star": 5 * 0.45 * math.sin(math.pi / 5),
    "heart": 1 + math.pi / 4,
    "moon": crescent(0.9, 0.72, math.hypot(0.42, 0.22)),
}


@pytest.mark.parametrize("name", shapes.FORMULAS)
def test_outlines_have_the_area_of_the_figure_and_edges_of_one_pixel(name):
    found, slope = area(name)
    if name in AREAS:
        assert found == pytest.approx(AREAS[name], rel=0.01)
    else:  # five round petals and a disc: what is in any of them, counted at random places
        places = np.random.default_rng(0).uniform(-1, 1, (400_000, 2))
        angles = 2 * np.pi * np.arange(5) / 5
        petals = np.stack([0.56 * np.sin(angles), 0.56 * np.cos(angles)], 1)
        near = (np.linalg.norm(places[:, None] - petals, axis=2) < 0.36).any(1)
        assert found == pytest.approx(4 * (near | (np.linalg.norm(places, axis=1) < 0.4)).mean(), rel=0.01)
    assert slope.median() == pytest.approx(1, abs=0.01)


def test_colours_against_published_ones():
    """OKLCH of the screen's primaries, as https://bottosson.github.io/posts/oklab and CSS Color 4 have them."""
    known = {(255, 0, 0): (0.62796, 0.25768, 29.234), (0, 255, 0): (0.86644, 0.29483, 142.495),
             (0, 0, 255): (0.45201, 0.31321, 264.052), (255, 255, 255): (1.0, 0.0, 0.0)}  # fmt: skip
    for rgb, (lightness, chroma, degrees) in known.items():
        one = torch.ones(1, 1, 1)
        colour = shapes._to_bytes(shapes._colour(lightness * one, chroma * one, degrees / 360 * one))
        assert (colour.flatten() - torch.tensor(rgb)).abs().max() <= 1


def test_a_shape_lies_on_its_ground_and_stands_out():
    numbers = torch.rand(40, shapes.NUMBERS, generator=torch.Generator().manual_seed(0))
    drawn = {
        name: shapes._draw(numbers, torch.full((40,), shapes.CLASSES.index(name))).float()
        for name in ("circle", "ring")
    }
    other = (drawn["circle"] - drawn["ring"]).abs().amax(1) > 0
    reach = torch.stack([other.any(1).sum(1), other.any(2).sum(1)]).amax(0)
    assert (reach > 0).all() and (reach <= 64 * 2 * shapes.RADIUS[1] + 20).all()  # elsewhere the ground is the same
    centre = ((numbers[:, :2] - 0.5) * 2 * shapes.PLACE * torch.tensor([64.0, -64.0]) + 32).long()
    inside, hole = (
        torch.stack([x[i, :, row, column] for i, (column, row) in enumerate(centre.tolist())]) for x in drawn.values()
    )
    assert ((inside - hole).norm(dim=1) > 40).all()


def test_no_pixel_of_a_photograph_is_in_both_splits(monkeypatch):
    from sklearn.datasets import load_sample_image

    for own, name in zip(two_photos._photographs(), two_photos.FILES):
        assert np.array_equal(np.asarray(own), load_sample_image(name))

    def marked():
        """Noise in red; green on the right of the border alone; blue tells the photographs apart."""
        for k, border in enumerate(two_photos.BORDER):
            pixels = np.zeros((427, 640, 3), np.uint8)
            pixels[..., 0] = 255 * (np.indices((427, 640)).sum(0) // 40 % 2)
            pixels[:, border:, 1], pixels[..., 2] = 255, 255 * k
            yield Image.fromarray(pixels)

    monkeypatch.setattr(two_photos, "_photographs", marked)
    for split, green in (("train", 255), ("test", 0)):
        images, labels = two_photos.two_photos(split, 3, 300)
        assert (images[:, 1] == green).all() and (images[:, 2] == 255 * labels[:, None, None]).all()


def test_pieces_of_photographs_are_not_plain():
    images = load("two-photos", size=64, limit=200).images.float()
    assert images.std((2, 3)).amax(1).min() > 0.95 * two_photos.PLAIN


# ------------------------------------------------------------------------------------------------------------- ImageSet


@pytest.fixture
def tiny():
    images = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).reshape(4, 1, 1, 1).repeat(1, 1, 2, 3)
    return ImageSet(images, torch.tensor([0, 1, 0, 2]), ("a", "b", "c"), "tiny")


def test_image_set(tiny):
    assert len(tiny) == 4 and tiny.shape == (1, 2, 3) and tiny.title == "tiny"
    assert tiny.x[:, 0, 0, 0].tolist() == pytest.approx([-1, -0.6, -0.2, 1])
    assert tiny.x.dtype == torch.float32
    assert len(tiny.first(2)) == 2 and len(tiny.first(9)) == 4
    assert tiny.to("cpu").device == torch.device("cpu")
    assert "instead of X" in replace(tiny, note="instead of X").title


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (torch.tensor([3, 0]), [1, -1]),
        ([3, 0], [1, -1]),
        (slice(2, 4), [-0.2, 1]),
        (3, [1]),
        (torch.tensor(0), [-1]),
        (torch.tensor([True, False, False, True]), [-1, 1]),
        ([], []),
    ],
)
def test_take(tiny, index, expected):
    batch = tiny.take(index)
    assert batch.shape == (len(expected), 1, 2, 3)
    assert batch[:, 0, 0, 0].tolist() == pytest.approx(expected)


def test_taking_does_not_touch_the_images(tiny):
    tiny.take(slice(None)).add_(1)
    assert tiny.images[0].sum() == 0


def test_bytes_survive_the_way_to_floats_and_back(tiny):
    every = replace(tiny, images=torch.arange(256).to(torch.uint8).reshape(-1, 1, 1, 1), labels=torch.zeros(256).long())
    assert torch.equal(((every.x + 1) * 127.5).round().to(torch.uint8), every.images)


@pytest.mark.parametrize("index", [torch.tensor([0.0]), torch.zeros(2, 2).long(), torch.tensor([1], dtype=torch.uint8)])
def test_indices_that_are_none(tiny, index):
    with pytest.raises(TypeError, match="take: expected integers of shape"):
        tiny.take(index)


def test_wrong_image_sets(tiny):
    with pytest.raises(IndexError, match="take: expected indices below 4, got 9 to 9") as error:
        tiny.take([9])
    one_line(error)
    with pytest.raises(ValueError, match="first: expected"):
        tiny.first(0)
    with pytest.raises(ValueError, match=r"labels in 0\.\.2, got 0\.\.3") as error:
        replace(tiny, labels=torch.tensor([0, 1, 2, 3]))
    one_line(error)


# ------------------------------------------------------------------------------------------------------ names and sizes


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fashon-mnist", "did you mean 'fashion-mnist'?"),
        ("minst", "did you mean 'mnist'?"),
        ("cifar10", "no data set and no folder called 'cifar10'"),
        ("./no/such/folder", "no data set and no folder called './no/such/folder'"),
        ("", "no data set and no folder called ''"),
        ("~nobody-of-that-name/pics", "no data set and no folder called '~nobody-of-that-name/pics'"),
    ],
)
def test_unknown_names(name, hint):
    with pytest.raises(ValueError) as error:
        load(name)
    assert hint in one_line(error) and "fashion-mnist, mnist, kmnist, digits" in str(error.value)


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(ValueError, match="is a file; give the folder") as error:
        load(str(tmp_path / "photo.png"))
    one_line(error)


def test_a_relative_path_begins_beside_the_notebook_or_one_folder_above(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    with pytest.raises(ValueError, match="no data set and no folder called 'pics'") as error:
        load("pics")
    assert f"looked for {tmp_path / 'notebooks' / 'pics'} and {tmp_path / 'pics'}" in one_line(error)
    for folder in (tmp_path / "pics", tmp_path / "notebooks" / "pics"):  # what lies beside it comes first
        folder.mkdir()
        picture().save(folder / "a.png")
        assert loading.resolve("pics") == folder and loading.resolve("./pics/") == folder
        assert load("pics").name == "pics"


def test_a_path_beginning_at_home(tmp_path, monkeypatch):
    (tmp_path / "pics").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert loading.resolve("~/pics") == tmp_path / "pics"


@pytest.mark.parametrize("name", ["./digits", "digits/", "~/digits", "{}/digits"])
def test_a_folder_may_be_called_like_a_set(tmp_path, monkeypatch, name):
    """Written as a path it is the folder, and nobody takes it for the set, which comes with trained models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "digits").mkdir()
    picture().save(tmp_path / "digits" / "a.png")
    own = load(name.format(tmp_path))
    assert len(own) == 1 and own.name == own.title == "digits (folder)"
    assert load("digits", limit=1).title == "digits"


@pytest.mark.parametrize("name", ["Fashion-MNIST", "fashion_mnist", "FashionMNIST"])
def test_names_as_people_write_them(name):
    assert loading.resolve(name) == "fashion-mnist"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "valid"}, "split: expected 'train' or 'test', got 'valid'"),
        ({"size": 30}, "size: expected 28, 32 or 64 pixels, got 30"),
        ({"limit": 0}, "limit: expected None or a whole number of at least 1, got 0"),
        ({"fallback": "mnist"}, "fallback: expected None or 'digits', got 'mnist'"),
        ({"device": "toaster"}, "device: expected"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match="expected") as error:
        load("digits", **wrong)
    assert message in one_line(error)


# ------------------------------------------------------------------------------------------- getting files, and failing


def test_from_disk_without_a_network(small, tmp_path, monkeypatch, server, capsys):
    put(tmp_path / "shared")
    monkeypatch.setenv("COURSE_MIRROR", server.url)
    assert is_right(load("fashion-mnist"))
    assert server.asked == [] and capsys.readouterr().out == ""
    assert where()["fashion-mnist"] == str(tmp_path / "shared" / "fashion-mnist")


def test_download_is_kept(small, tmp_path, monkeypatch, server):
    monkeypatch.setenv("COURSE_MIRROR", server.url)
    assert is_right(load("fashion-mnist")) and is_right(load("fashion-mnist"))
    assert sorted(server.asked) == sorted(FILES)
    assert left_over(tmp_path) == []
    mode = (tmp_path / "shared" / "fashion-mnist" / next(iter(FILES))).stat().st_mode
    umask = os.umask(0)
    os.umask(umask)
    assert mode & 0o777 == 0o666 & ~umask  # others may read a shared cache, if the umask says so


def test_no_network(small, monkeypatch):
    def fail(*_):
        raise OSError(-3, "Temporary failure in name resolution")

    monkeypatch.setitem(
        SETS, "fashion-mnist", replace(small, mirrors=("https://mirror.invalid/a/", "https://b.invalid/"))
    )
    monkeypatch.setattr("socket.getaddrinfo", fail)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataUnavailable) as error:
        load("fashion-mnist")
    lines = str(error.value).splitlines()
    assert lines[0].startswith("Fashion-MNIST is not available: there is no good copy of train-images-idx3-ubyte.gz")
    assert "  asked mirror.invalid: its name could not be resolved (no network?)" in lines
    assert "  asked b.invalid: its name could not be resolved (no network?)" in lines
    assert "What to do:" in lines and 'load("digits")' in str(error.value)


def test_fallback_says_so_in_full_once_and_in_every_title(small, capsys):
    data = load("fashion-mnist", fallback="digits", limit=5)
    said = capsys.readouterr().out
    assert "Fashion-MNIST is not available" in said and "What to do:" in said and "Going on with digits instead" in said
    assert data.title == "digits (instead of Fashion-MNIST)" and len(data) == 5
    load("fashion-mnist", fallback="digits")
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_half_a_set_is_none(small, tmp_path, monkeypatch, server):
    """Digits to train on and garments to test with would be nobody's wish."""
    files = {name.replace("train", "t10k"): FILES[name] for name in FILES}
    entry = replace(SETS["fashion-mnist"], files=published(FILES | files), mirrors=(server.url + "/",))
    entry = replace(entry, splits={"train": tuple(FILES), "test": tuple(files)})
    monkeypatch.setitem(SETS, "fashion-mnist", entry)
    server.behaviour = dict(files)  # the training images can't be had
    assert len(load("fashion-mnist", "test")) == 40
    splits = [load("fashion-mnist", split, fallback="digits", limit=5) for split in ("train", "test")]
    assert [data.title for data in splits] == ["digits (instead of Fashion-MNIST)"] * 2


def test_nothing_is_replaced_silently_by_default(small):
    with pytest.raises(DataUnavailable):
        load("fashion-mnist")


FIRST = "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(FILES[FIRST][:1000], "truncated: 1,000 of", id="truncated"),
        pytest.param(
            lambda h: h.give(FILES[FIRST][:1000], len(FILES[FIRST])),
            "the connection broke off before all",
            id="broken off",
        ),
        pytest.param(FILES[FIRST][:-1] + b"?", "wrong checksum: SHA-256", id="wrong checksum"),
        pytest.param(b"<!DOCTYPE html><title>Log in</title>", "does this network want you to log in?", id="login page"),
        pytest.param(404, "answered 404 Not Found", id="404"),
        pytest.param(lambda h: h.connection.close(), "asked 127.0.0.1", id="hangs up"),
    ],
)
def test_bad_mirror(small, tmp_path, monkeypatch, server, answer, reason):
    monkeypatch.setenv("COURSE_MIRROR", server.url)
    server.behaviour[FIRST] = answer
    with pytest.raises(DataUnavailable) as error:
        load("fashion-mnist")
    assert reason in str(error.value)
    assert left_over(tmp_path) == [] and not (tmp_path / "shared" / "fashion-mnist" / FIRST).exists()
    server.behaviour[FIRST] = FILES[FIRST]
    monkeypatch.setattr(fetching, "_unreachable", {})
    assert is_right(load("fashion-mnist"))  # and nothing is left in the way


def test_second_mirror_helps_when_the_first_is_bad(small, monkeypatch, server):
    with Server() as bad:
        threading.Thread(target=bad.serve_forever, daemon=True).start()
        bad.behaviour = {FIRST: FILES[FIRST][:500], "train-labels-idx1-ubyte.gz": 500}
        monkeypatch.setenv("COURSE_MIRROR", bad.url)
        monkeypatch.setitem(SETS, "fashion-mnist", replace(small, mirrors=(server.url + "/",)))
        assert is_right(load("fashion-mnist"))
        bad.shutdown()


def test_a_silent_server_is_given_up(small, monkeypatch, server):
    monkeypatch.setattr(fetching, "SILENCE", 0.3)
    monkeypatch.setenv("COURSE_MIRROR", server.url)
    server.behaviour[FIRST] = lambda handler: time.sleep(2)
    with pytest.raises(DataUnavailable, match="nothing came for 0.3 seconds"):
        load("fashion-mnist")


def test_an_unreachable_server_is_waited_for_once(small, monkeypatch):
    monkeypatch.setenv("COURSE_MIRROR", "http://127.0.0.1:9")
    for _ in range(2):
        with pytest.raises(DataUnavailable, match="asked 127.0.0.1:9: refused the connection"):
            load("fashion-mnist")
        monkeypatch.setattr(fetching, "_get", lambda *_: pytest.fail("asked again"))


def test_damaged_file_is_mended(small, tmp_path, monkeypatch, server, capsys):
    put(tmp_path / "shared")
    damaged = tmp_path / "shared" / "fashion-mnist" / FIRST
    damaged.write_bytes(FILES[FIRST][:100])
    monkeypatch.setenv("COURSE_MIRROR", server.url)
    assert is_right(load("fashion-mnist"))
    assert damaged.read_bytes() == FILES[FIRST] and server.asked == [FIRST]
    said = capsys.readouterr().out
    assert "is damaged (truncated: 100 of" in said and "fetching it again" in said


def test_damaged_file_that_cannot_be_replaced_stays(small, tmp_path):
    put(tmp_path / "shared")
    damaged = tmp_path / "shared" / "fashion-mnist" / FIRST
    damaged.write_bytes(FILES[FIRST][:-5] + b"12345")
    with pytest.raises(DataUnavailable, match=rf"{FIRST} is damaged \(wrong checksum"):
        load("fashion-mnist")
    assert damaged.read_bytes().endswith(b"12345")


def test_full_disk(small, tmp_path, monkeypatch, server):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setenv("COURSE_MIRROR", server.url)
    with pytest.raises(DataUnavailable, match=r"wrote to .*: no space left for [\d,]+ bytes"):
        load("fashion-mnist")
    assert left_over(tmp_path) == []


def test_a_killed_download_leaves_nothing_behind(small, tmp_path, root, server):
    half_sent, goes_on = threading.Event(), threading.Event()

    def stalls(handler):
        handler.give(FILES[FIRST][:1000], len(FILES[FIRST]))
        half_sent.set()
        goes_on.wait(60)

    server.behaviour[FIRST] = stalls
    environment = {**os.environ, "COURSE_MIRROR": server.url, "COURSE_DATA": str(tmp_path / "cut"), "COURSE_QUIET": "1"}
    process = subprocess.Popen([sys.executable, "-c", LOADER.format(files=small.files)], env=environment, cwd=root)
    assert half_sent.wait(120)
    process.kill()
    process.wait()
    goes_on.set()
    assert [path.name for path in (tmp_path / "cut" / "fashion-mnist").iterdir()] == [".lock"]


# ---------------------------------------------------------------------------------------------------- read-only folders


@pytest.fixture
def nobody():
    """Folders that permissions really protect: without root's privileges, in a place that everybody may reach."""
    place = Path(tempfile.mkdtemp(prefix="course-test-"))
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    try:
        place.chmod(0o777)
        if root:
            os.seteuid(65534)
        yield place
    finally:
        if root:
            os.seteuid(0)
        for path in place.rglob("*"):
            with contextlib.suppress(OSError):
                path.chmod(0o700)
        shutil.rmtree(place, ignore_errors=True)


def close(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.fixture
def read_only(small, nobody, monkeypatch, server):
    monkeypatch.setenv("COURSE_MIRROR", server.url)
    monkeypatch.setenv("COURSE_DATA", str(nobody / "shared"))
    monkeypatch.setattr(fetching, "user_cache", lambda: nobody / "own")
    return nobody


def test_read_only_cache_that_has_everything(read_only, server, capsys):
    put(read_only / "shared")
    close(read_only / "shared")
    assert is_right(load("fashion-mnist"))
    assert server.asked == [] and capsys.readouterr().out == "" and not (read_only / "own").exists()


def test_read_only_cache_that_lacks_the_set(read_only, server, capsys):
    (read_only / "shared").mkdir()
    close(read_only / "shared")
    assert is_right(load("fashion-mnist"))
    assert is_right(load("fashion-mnist")) and len(server.asked) == 2
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert "can't be written to and lacks Fashion-MNIST: keeping a copy of your own in" in said[0]
    assert (read_only / "own" / "fashion-mnist" / FIRST).is_file()


def test_read_only_cache_with_a_damaged_file(read_only, capsys):
    put(read_only / "shared")
    damaged = read_only / "shared" / "fashion-mnist" / FIRST
    damaged.write_bytes(b"no good")
    close(read_only / "shared")
    assert is_right(load("fashion-mnist"))
    assert (
        "is damaged (truncated: 7 of" in (said := capsys.readouterr().out) and "tell whoever keeps that folder" in said
    )
    assert damaged.read_bytes() == b"no good"
    assert is_right(load("fashion-mnist"))  # now from the user's own copy, and it is said again
    assert "tell whoever keeps that folder" in capsys.readouterr().out


def test_nowhere_to_write(read_only, server):
    for name in ("shared", "own"):
        (read_only / name).mkdir()
        close(read_only / name)
    with pytest.raises(DataUnavailable, match="downloaded nothing: none of these folders can be written to"):
        load("fashion-mnist")
    assert server.asked == []


def test_course_data_that_is_a_file(small, tmp_path, monkeypatch, server, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "file"))
    monkeypatch.setenv("COURSE_MIRROR", server.url)
    assert is_right(load("fashion-mnist"))
    assert "can't be written to" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------- several processes

LOADER = """
import hashlib, sys
from dataclasses import replace
from course_utils.data import load
from course_utils.data.sets import SETS
files = {files!r}
SETS["fashion-mnist"] = replace(SETS["fashion-mnist"], files=files, mirrors=())
print(hashlib.sha256(load("fashion-mnist").images.numpy().tobytes()).hexdigest())
"""


def test_two_processes_at_once(small, tmp_path, root, server):
    def slowly(handler):
        time.sleep(1.5)  # so that both want it at the same time
        handler.give(FILES[FIRST])

    server.behaviour[FIRST] = slowly
    environment = {
        **os.environ,
        "COURSE_MIRROR": server.url,
        "COURSE_DATA": str(tmp_path / "both"),
        "COURSE_QUIET": "1",
    }
    start = functools.partial(subprocess.Popen, env=environment, cwd=root, stdout=subprocess.PIPE, text=True)
    both = [start([sys.executable, "-c", LOADER.format(files=small.files)]) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].splitlines() for process in both]
    right = hashlib.sha256(PIXELS.astype(np.uint8).tobytes()).hexdigest()
    assert [process.returncode for process in both] == [0, 0] and [lines[-1] for lines in said] == [right, right]
    assert sorted(server.asked) == sorted(FILES)  # each file came once
    assert "Another process is downloading Fashion-MNIST: waiting for it." in said[0] + said[1]
    assert left_over(tmp_path) == []


def test_a_lock_whose_holder_hangs_is_not_waited_for_for_ever(small, tmp_path, monkeypatch, server):
    from filelock import FileLock

    monkeypatch.setattr(fetching, "PATIENCE", 0.2)
    monkeypatch.setenv("COURSE_MIRROR", server.url)
    (tmp_path / "shared" / "fashion-mnist").mkdir(parents=True)
    with FileLock(tmp_path / "shared" / "fashion-mnist" / ".lock"):
        assert is_right(load("fashion-mnist"))


# ---------------------------------------------------------------------------------------------------- folders of images


def picture(width=40, height=30, mode="RGB", seed=0) -> Image.Image:
    """A smooth picture, red on the left and blue at the bottom; different for each seed."""
    x, y = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    red, blue = 255 * (1 - x) + 0 * y, 255 * y + 0 * x
    array = np.stack([red, np.full_like(red, 20 + 5 * seed), blue], -1).astype(np.uint8)
    return Image.fromarray(array).convert(mode)


@pytest.fixture
def photos(tmp_path):
    for number in range(12):
        name = ("cat", "dog", "10 emus", "9 emus")[number % 4]
        (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
        picture(30 + 3 * number, 40, seed=number).save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def test_classes_and_split(photos):
    train, test = load(photos), load(str(photos), "test")
    assert train.classes == test.classes == ("9 emus", "10 emus", "cat", "dog")
    assert len(train) == 8 and len(test) == 4 and sorted(test.labels.tolist()) == [0, 1, 2, 3]
    assert train.title == "pets" and train.shape == (3, 28, 28)
    seen = {image.numpy().tobytes() for image in train.images}
    assert not seen & {image.numpy().tobytes() for image in test.images}
    assert torch.equal(load(photos, seed=5).images, train.images)
    assert torch.equal(load(photos, limit=3).images, train.images[:3])


def test_copies_of_a_file_stay_on_one_side(tmp_path):
    for number in range(6):
        for copy in range(4):
            picture(seed=number).save(tmp_path / f"{number}-{copy}.png")
    train, test = ({image.numpy().tobytes() for image in load(tmp_path, split).images} for split in ("train", "test"))
    assert len(train) == 5 and len(test) == 1 and not train & test


def test_a_text_file_and_a_large_photo(photos, capsys):
    (photos / "cat" / "notes.txt").write_text("not a picture")
    whole = (photos / "dog" / "1.png").read_bytes()
    (photos / "dog" / "half.png").write_bytes(whole[: len(whole) // 2])
    (photos / "dog" / ".DS_Store").write_bytes(b"\0")
    picture(3000, 2000, seed=13).save(photos / "dog" / "large.jpg", quality=90)
    sets = [load(photos), load(photos, "test")]
    assert sum(map(len, sets)) == 13
    lines = capsys.readouterr().out.splitlines()
    assert all("skipped" in line and "cat/notes.txt (not an image)" in line.replace("\\", "/") for line in lines)
    assert len(lines) == 2 and any("dog/half.png (damaged" in line.replace("\\", "/") for line in lines)
    assert not any("DS_Store" in line for line in lines)


def test_large_photo_is_cropped_and_shrunk(tmp_path):
    picture(3000, 2000).save(tmp_path / "a.jpg", quality=95)
    got = pixels.read_image(tmp_path / "a.jpg", 28)
    expected = picture(3000, 2000).crop((500, 0, 2500, 2000)).resize((28, 28), Image.Resampling.BOX)
    assert np.abs(got.astype(int) - np.asarray(expected).astype(int)).max() <= 6


def test_shrinking_does_not_alias(tmp_path):
    """Stripes of one pixel are grey from afar; without antialiasing they turn into broad bands."""
    stripes = np.zeros((700, 700), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    assert np.abs(pixels.read_image(tmp_path / "stripes.png", 28).astype(int) - 127).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "YCbCr"])
def test_modes(tmp_path, mode):
    base = picture(64, 64)
    luma = np.asarray(base.convert("L")).astype(float)
    if mode == "I;16":
        image = Image.fromarray((luma * 257).astype(np.uint16))
    elif mode == "F":
        image = Image.fromarray((luma / 255).astype(np.float32))
    else:
        image = base.convert(mode)
    suffix = "tif" if mode in ("CMYK", "F") else "jpg" if mode == "YCbCr" else "png"
    image.save(tmp_path / f"a.{suffix}")
    got = pixels.read_image(tmp_path / f"a.{suffix}", 28).astype(float)
    if mode == "1":
        assert abs(got.mean() - luma.mean()) < 6 and got.std() > 20  # dithered: right on average
    elif mode in ("RGB", "RGBA", "CMYK", "P", "YCbCr"):
        expected = np.asarray(base.resize((28, 28), Image.Resampling.BOX)).astype(float)
        assert np.abs(got - expected).mean() < (16 if mode == "P" else 4)
    else:
        expected = np.asarray(base.convert("L").resize((28, 28), Image.Resampling.BOX)).astype(float)
        assert np.abs(got - expected[..., None]).mean() < 3


RAMP = np.tile(np.linspace(0, 255, 56), (56, 1))  # grey from black to white
NUMBERS = {  # how files count from black to white, and what such a file is called
    "1 bit": (lambda ramp: (ramp > 127).astype(np.uint16), "png"),
    "8 bits": (lambda ramp: ramp.astype(np.uint8), "png"),
    "10 bits": (lambda ramp: (ramp * (1023 / 255)).astype(np.uint16), "png"),
    "12 bits": (lambda ramp: (ramp * (4095 / 255)).astype(np.uint16), "tif"),
    "14 bits": (lambda ramp: (ramp * (16383 / 255)).astype(np.uint16), "png"),
    "16 bits": (lambda ramp: (ramp * 257).astype(np.uint16), "png"),
    "16 bits, the other way round": (lambda ramp: (ramp * 257).astype(">u2"), "tif"),
    "whole numbers to 255": (lambda ramp: ramp.astype(np.int32), "tif"),
    "whole numbers to 4095": (lambda ramp: (ramp * (4095 / 255)).astype(np.int32), "tif"),
    "whole numbers to a million": (lambda ramp: (ramp * (1e6 / 255)).astype(np.int32), "tif"),
    "with a sign": (lambda ramp: (ramp * 16 - 1000).astype(np.int32), "tif"),
    "floats to 1": (lambda ramp: (ramp / 255).astype(np.float32), "tif"),
    "floats, sharpened": (lambda ramp: (ramp / 255 * 1.08 - 0.04).astype(np.float32), "tif"),
    "floats to 255": (lambda ramp: ramp.astype(np.float32), "tif"),
    "floats from -1 to 1": (lambda ramp: (ramp / 127.5 - 1).astype(np.float32), "tif"),
    "floats to 3.5": (lambda ramp: (ramp * (3.5 / 255)).astype(np.float32), "tif"),
}


@pytest.mark.parametrize("count", NUMBERS)
def test_numbers_of_any_depth(tmp_path, count, capsys):
    """From black to white; and a dark picture beside a bright one stays dark: they have one scale."""
    write, suffix = NUMBERS[count]
    for name, ramp in {"bright": RAMP, "dark": RAMP / 5}.items():
        (tmp_path / name).mkdir()
        Image.fromarray(write(RAMP if count == "1 bit" else ramp)).save(tmp_path / name / f"a.{suffix}")
    data = load(tmp_path)
    bright, dark = data.images[data.labels.argsort(), 0].numpy().astype(int)
    expected = np.asarray(Image.fromarray(RAMP.astype(np.uint8)).resize((28, 28), Image.Resampling.BICUBIC))
    off = 11 if count == "floats, sharpened" else 3
    if count == "1 bit":
        assert set(bright.ravel()) >= {0, 255} and bright.mean() == pytest.approx(127.5, abs=1)
    else:
        assert np.abs(bright - expected).max() <= off and np.abs(dark - expected / 5).max() <= off
    assert "nearly black" not in capsys.readouterr().out


def test_each_way_to_count_has_a_scale_of_its_own(tmp_path):
    for name, count in (("a", "16 bits"), ("b", "whole numbers to 255"), ("c", "floats to 1")):
        (tmp_path / name).mkdir()
        write, _ = NUMBERS[count]
        Image.fromarray(write(RAMP)).save(tmp_path / name / "a.tif")
    assert [image.max().item() > 250 and image.float().mean().item() for image in load(tmp_path).images] == (
        pytest.approx([127] * 3, abs=2)
    )


def test_numbers_that_are_none_spoil_no_other_file(tmp_path, capsys):
    values = (RAMP / 255).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    Image.fromarray(np.where(values > 0.9, np.nan, values)).save(tmp_path / "b.tif")
    data = load(tmp_path, fallback="digits")
    assert data.note == "1 image, repeated" and data.images.max() > 250
    assert "b.tif (holds nan or infinity)" in capsys.readouterr().out


def test_nearly_black_pictures_are_named(tmp_path, capsys):
    for number in range(3):  # such as 12 bits in a colour file of 16, whose lower half Pillow doesn't read
        Image.fromarray((np.asarray(picture(seed=number)) // 16).astype(np.uint8)).save(tmp_path / f"{number}.png")
    load(tmp_path)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and f"{tmp_path}: all pictures are nearly black (nothing is brighter than 1" in said


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_several_pictures_in_a_file_the_first_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    red, green, blue = load(tmp_path).images[0].float().mean(dim=(1, 2)).tolist()
    assert red > 240 and green < 15 and blue < 15


def test_a_few_images_show_every_class(tmp_path):
    """One cat among two hundred dogs is in front all the same; the rest is in no order."""
    for name, count in (("dog", 200), ("cat", 1), ("bird", 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (3, 3), (number, len(name), ord(name[0]))).save(tmp_path / name / f"{number}.png")
    train = load(tmp_path)
    assert sorted(train.first(3).labels.tolist()) == [0, 1, 2]
    assert train.examples(4) == [*sorted(range(3), key=train.labels.tolist().__getitem__), 3]
    assert torch.equal(load(tmp_path, limit=2).images, train.images[:2])


# --------------------------------------------------------------------------------------------- few, for who must go on


@pytest.fixture
def few(tmp_path):
    def folder(count: int, different: bool = True) -> Path:
        (tmp_path / "few").mkdir()
        for number in range(count):
            picture(seed=number * different).save(tmp_path / "few" / f"{number}.png")
        return tmp_path / "few"

    return folder


def test_few_images_are_repeated_in_turn_and_titles_say_so(few, capsys):
    folder = few(8)
    plain, train = load(folder), load(folder, fallback="digits")
    assert len(plain) == 7 and plain.title == "few" and len(train) == loading.FEWEST["train"] > 100
    assert torch.equal(train.images[:7], plain.images) and torch.equal(train.images[7:14], plain.images)
    assert train.title == "few (7 images, repeated)"
    assert (
        capsys.readouterr().out
        == f"{folder}: 7 images to train with; 128 are needed, so they are repeated, as titles of plots say.\n"
    )
    test = load(folder, "test", fallback="digits")
    assert len(test) == loading.FEWEST["test"] and test.title == "few (1 image, repeated)"
    assert len(load(folder, limit=3, fallback="digits")) == 3 and len(load(folder, limit=20, fallback="digits")) == 20


@pytest.mark.parametrize("different", [True, False], ids=["one image", "copies"])
def test_what_cannot_be_split_is_trained_and_tested_on(few, capsys, different):
    folder = few(1 if different else 8, different)
    train, test = (load(folder, split, fallback="digits") for split in ("train", "test"))
    assert torch.equal(train.images.unique(dim=0), test.images.unique(dim=0))
    assert capsys.readouterr().out.count("too few different images for training and testing; both use the same.") == 1
    with pytest.raises(ValueError, match="too few for a test split"):  # who doesn't have to go on wants to know
        load(folder, "test")


def test_many_images_are_what_they_are(tmp_path, capsys):
    for number in range(320):
        Image.new("L", (2, 3), number % 256).resize((2 + number // 256, 3)).save(tmp_path / f"{number}.png")
    sets = [load(tmp_path, split, fallback="digits") for split in ("train", "test")]
    assert sum(map(len, sets)) == 320 and {data.note for data in sets} == {""}
    assert capsys.readouterr().out == ""


def test_names_of_folders_can_be_printed_and_drawn(tmp_path, capsys):
    """Dollars, line breaks, and bytes that are no UTF-8, as old archives leave them."""
    for name in (b"5 $_$ 6", b"a\nb", b"H\xe4user"):
        folder = os.fsencode(tmp_path) + b"/$names/" + name
        try:
            os.makedirs(folder)
        except OSError:  # some file systems have no such names
            continue
        picture(seed=len(name)).save(os.fsdecode(folder + b"/a.png"))
    (tmp_path / "$names" / "no\npicture").write_text("")
    data = load(tmp_path / "$names")
    assert data.classes[0] == r"5 \$_\$ 6" and data.name == r"\$names" and set(data.classes) <= {
        data.classes[0], "a b", "H\ufffduser"
    }  # fmt: skip
    assert "no picture (not an image)" in capsys.readouterr().out
    figure = image_grid(data.take(slice(0, 3)), labels=data.classes, title=" ".join([data.title, *data.classes]))
    figure.canvas.draw()
    str(data).encode()


def test_transparency_lies_on_white(tmp_path):
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[:, 10:] = (255, 0, 0, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    got = pixels.read_image(tmp_path / "a.png", 28)
    assert got[:, :10].min() == 255 and got[:, 20:, 0].min() == 255 and got[:, 20:, 1].max() == 0
    indexed = Image.new("P", (20, 20), 0)
    indexed.putpalette([0, 0, 0, 255, 0, 0])
    indexed.save(tmp_path / "b.png", transparency=0)
    assert pixels.read_image(tmp_path / "b.png", 28).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(tmp_path, orientation):
    upright = picture(60, 60)
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(turns[orientation]) if orientation in turns else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright.save(tmp_path / "b.png")
    got, expected = (pixels.read_image(tmp_path / name, 28).astype(int) for name in ("a.jpg", "b.png"))
    assert np.abs(got - expected).mean() < 3


def test_grey_or_colour(tmp_path):
    for number in range(6):
        picture(mode="L", seed=number).convert("RGB").save(tmp_path / f"{number}.jpg")
    assert load(tmp_path).shape == load(tmp_path, "test").shape == (1, 28, 28)
    assert load(tmp_path, colour=True).shape == (3, 28, 28)
    picture(seed=9).save(tmp_path / "colour.png")
    assert load(tmp_path).shape == load(tmp_path, "test").shape == (3, 28, 28)  # both splits look at all images
    assert load(tmp_path, colour=False, size=64).shape == (1, 64, 64)


def test_images_beside_class_folders_are_named(photos, capsys):
    picture(seed=20).save(photos / "stray.png")
    assert len(load(photos)) == 8
    assert "stray.png (lies beside the class folders)" in capsys.readouterr().out


def test_bombs_are_refused(tmp_path, capsys):
    for number in range(3):
        picture(seed=number).save(tmp_path / f"{number}.png")
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    start = b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + zlib.crc32(header).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(start + b"\0\0\1\0IDAT" + b"\0" * 60)
    Image.new("1", (11_000, 11_000)).save(tmp_path / "big.png")
    assert len(load(tmp_path)) == 2
    said = capsys.readouterr().out
    assert "bomb.png (too large" in said and "big.png (too large: 11000 × 11000 pixels)" in said


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="Windows lets only administrators make links")
def test_circles_of_links_do_not_hold_us(photos, capsys):
    os.symlink(photos, photos / "cat" / "again")
    os.symlink(photos / "nowhere.png", photos / "cat" / "broken.png")
    os.mkfifo(photos / "cat" / "pipe.png")  # reading it would wait for ever
    assert len(load(photos)) == 8
    said = capsys.readouterr().out
    assert "broken.png (not a file)" in said and "pipe.png (not a file)" in said


def test_empty_folders(tmp_path):
    with pytest.raises(ValueError, match="holds no images and is empty; put PNG") as error:
        load(tmp_path)
    one_line(error)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"holds no images; 1 files? of other kinds .*\(notes.txt\)") as error:
        load(tmp_path)
    one_line(error)


def test_one_image_is_too_few_for_a_test(tmp_path):
    picture().save(tmp_path / "a.png")
    assert len(load(tmp_path)) == 1
    with pytest.raises(ValueError, match="has 1 image, too few for a test split") as error:
        load(tmp_path, "test")
    one_line(error)


def test_folder_of_nothing_but_damaged_images(tmp_path, capsys):
    for number in range(3):
        picture(seed=number).save(tmp_path / "whole.png")
        content = (tmp_path / "whole.png").read_bytes()
        (tmp_path / f"{number}.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "whole.png").unlink()
    with pytest.raises(ValueError, match="can't be read") as error:
        load(tmp_path)
    one_line(error)
