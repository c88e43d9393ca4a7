"""Own images through every notebook: of any number, kind and size, in any number of classes.

Each notebook runs from its master at effort smoke, cell after cell in one process (`cells.py`), with COURSE_DATASET
naming a folder that is made here. In `make test` every notebook gets one of the two hardest folders; the whole table of
folders and notebooks is slow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import running
import torch
from PIL import Image

from course_utils import plots

NUMBERS = [name[:2] for name in running.NOTEBOOKS]
LOAD_OWN = ["00", "01", "02", "03", "04", "05"]  # 06 and 07 need trained models and go on with digits, as 00 does later


class Folder(NamedTuple):
    """A folder to make: how many pictures, in how many classes (0: no class folders), their size and their kind."""

    count: int
    classes: int = 0
    size: tuple[int, int] = (40, 40)
    kind: str = "grey"


FOLDERS = {
    "one": Folder(1),
    "two": Folder(2, kind="colour"),
    "eight": Folder(8, kind="colour"),
    "eight in two classes": Folder(8, 2, kind="16 bits"),
    "seven and one": Folder(8, -1),
    "all the same": Folder(8, kind="same"),
    "blank": Folder(3, kind="blank"),
    "a class of damaged ones": Folder(6, 2, kind="damaged"),
    "tiny": Folder(8, size=(3, 3)),
    "large": Folder(8, 2, (2400, 1600), "colour"),
    "one each": Folder(12, 12, kind="16 bits"),
    "60": Folder(60),
    "60 in twelve classes": Folder(60, 12, kind="colour"),
    "60 in three, not square": Folder(60, 3, (37, 81), "16 bits"),
    "600": Folder(600),
    "600 of 16 bits": Folder(600, kind="16 bits"),
    "600 in twelve classes": Folder(600, 12, kind="colour"),
}
HARDEST = {"one": ["01", "02"], "eight": ["00", "03", "04", "05"]}


def blob(number: int, folder: Folder) -> Image.Image:
    """A bright spot on a dark ground; its place, its size and its colours depend on the number."""
    (w, h), rng = folder.size, np.random.default_rng(0 if folder.kind == "same" else number)
    x, y, radius = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.3)
    away = (np.arange(w) / w - x) ** 2 + (np.arange(h)[:, None] / h - y) ** 2
    light, ground = np.exp(-away / radius**2)[..., None], rng.integers(0, 60, 3)
    pixels = (ground + light * rng.integers(100, 190, 3)).astype(np.uint8)
    if folder.kind == "blank":
        return Image.new("L", (w + number, h), 200)
    if folder.kind == "colour":
        return Image.fromarray(pixels)
    return Image.fromarray(pixels[..., 0].astype(np.uint16) * 16 if folder.kind == "16 bits" else pixels[..., 0])


def make(folder: Folder, place: Path) -> Path:
    for number in range(folder.count):
        label = number % folder.classes if folder.classes > 0 else int(number == folder.count - 1)
        target = place / f"kind {label}" if folder.classes else place
        target.mkdir(parents=True, exist_ok=True)
        file = target / f"{number}.png"
        blob(number, folder).save(file)
        if folder.kind == "damaged" and label == 1:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return place


@pytest.fixture
def stopped(tmp_path) -> Callable[[str, str, list[str]], dict[str, list[str]]]:
    """stopped(folder, face, numbers): the cells of each notebook that ended in an error."""

    def run(name: str, face: str, numbers: list[str]) -> dict[str, list[str]]:
        own = make(FOLDERS[name], tmp_path / name)
        env = os.environ | running.offline() | {"COURSE_EFFORT": "smoke", "COURSE_DATASET": str(own)}
        command = [sys.executable, str(Path(__file__).with_name("cells.py")), face, *numbers]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=3600)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", HARDEST)
def test_the_hardest_folders(name, stopped):
    found = stopped(name, "untouched", HARDEST[name])
    assert found == {number: [] for number in HARDEST[name]}


def test_no_two_of_many_classes_look_alike():
    classes = [f"kind {k}" for k in range(24)]
    figure = plots.scatter_classes(torch.rand(48, 2), torch.arange(48) % 24, classes, title="Twenty-four classes")
    drawn = figure.axes[0].collections
    looks = {(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.round(3).tobytes()) for c in drawn}
    assert len(drawn) == len(looks) == 24


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FOLDERS)
def test_every_folder_through_every_notebook(name, stopped, report):
    face = ("solved", "untouched")[list(FOLDERS).index(name) % 2]
    numbers = NUMBERS if name == "600 in twelve classes" else LOAD_OWN
    found = stopped(name, face, numbers)
    report.append(f"own images, {name}, {face}: {len(numbers)} notebooks, {sum(map(len, found.values()))} errors")
    assert found == {number: [] for number in numbers}


@pytest.mark.slow
def test_what_stops_is_told(tmp_path, stopped, monkeypatch):
    """That the tests above can fail: a folder without a picture stops every cell that wants one."""
    monkeypatch.setitem(FOLDERS, "none", Folder(0))
    (tmp_path / "none").mkdir()
    cells = stopped("none", "solved", ["00"])["00"]
    assert "holds no images and is empty" in cells[0] and len(cells) > 3
