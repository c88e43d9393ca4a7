"""`python -m classroom challenge`: what the command does with its arguments."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from course_utils import device as devices
from course_utils.cli import Refused, cli_errors
from course_utils.data import load
from course_utils.files import check_writable, write_whole

from ..grading.sandbox import NoSandbox
from ..grading.sandbox.warm import one_line
from . import board, entries
from .judge import OWN, Judge
from .records import BUDGETS, Deal, Foul, Row
from .rounds import play
from .samplers import Samplers

REFERENCES = "references.json"  # beside the judge


def run(arguments: argparse.Namespace) -> int:
    """Judge all submissions, print the board; returns 0, or 1 where none of them has a score."""
    folders = entries.folders(arguments.submissions)
    torch.set_num_threads(devices.pick_threads())
    seed = secrets.randbits(62) if arguments.seed is None else arguments.seed
    place = _judge(arguments.judge)
    with cli_errors(arguments.csv):
        if arguments.csv:
            check_writable(arguments.csv.absolute().parent)  # now, and not when all is done
        train, test = (load(arguments.data, split) for split in ("train", "test"))
    with cli_errors(), _sandbox(arguments.unsafe) as samplers:  # which gets ready while the judge looks at real images
        game = Game(samplers, Judge(place, train, test), arguments.samples, seed, arguments.seconds)
        samplers.ready()
        bar = tqdm(folders.items(), desc="challenge", unit="submission", file=sys.stderr, dynamic_ncols=True)
        rows = [game.row(name, folder) for name, folder in bar]
        title = game.title()
    with cli_errors(arguments.csv):
        kept = [row for row in rows if row.scores and arguments.reference]
        shown = [row for row in rows if row not in kept] + _to_beat(place, game, kept)
        print(board.text(shown, title), end="")
        if arguments.csv:
            write_whole(arguments.csv, board.as_csv(shown).encode("utf-8-sig"))
    return 0 if any(row.scores for row in rows) else 1


@dataclass(frozen=True)
class Game:
    """What is the same for all submissions. seconds: for the network, in each round."""

    samplers: Samplers
    judge: Judge
    samples: int
    seed: int
    seconds: float

    def row(self, name: str, folder: Path) -> Row:
        """Play all rounds of one submission. Whatever it does, it is a row."""
        shown, data = one_line(name.encode("utf-8", "replace"))[:40], self.judge.train
        try:
            entry = entries.read(shown, folder, data.shape, len(data.classes))
        except Foul as foul:
            return Row(shown, {}, dict.fromkeys(BUDGETS, str(foul)))
        scores, fouls = {}, {}
        for budget in BUDGETS:
            deal = Deal.drawn(budget, self.samples, data.shape, len(data.classes), self.seed)
            try:
                images = play(self.samplers, entry, deal, _unseen(self.seed), self.seconds)
                self.judge.look_for_copies(images, _unseen(self.seed))
                scores[budget] = self.judge.score(images)
            except Foul as foul:
                fouls[budget] = str(foul)
        return Row(shown, scores, fouls)

    def title(self) -> str:
        """What the numbers of the board are, and what real images get."""
        floor = self.judge.floor(self.samples)
        return (
            f"Squared Fréchet distance ± standard error of {self.samples:,} images to the test split of "
            f"{self.judge.train.title}, in the judge's features: lower is better.\n"
            f"As many training images get {floor.distance:.1f} ± {floor.error:.1f}. Seed {self.seed}."
        )


def _unseen(seed: int) -> int:
    """Another seed, of what a sampler must not know: PyTorch's generator takes 32 bits of `seed`, which its own noise
    would tell to whoever tries them all."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "big")


def _to_beat(place: Path, game: Game, more: list[Row]) -> list[Row]:
    """The rows beside this judge that were made as these are, and those that are to stand there from now on."""
    path = place.with_name(REFERENCES)
    about = {"judge": game.judge.checksum, "data": game.judge.train.name, "samples": game.samples}
    if more:
        board.write_references(path, about, more)
    return board.read_references(path, about)


@contextlib.contextmanager
def _sandbox(unsafe: bool) -> Iterator[Samplers]:
    try:
        with Samplers(unsafe=unsafe) as samplers:
            yield samplers
    except NoSandbox as reason:
        raise Refused(str(reason)) from reason


def _judge(given: Path | None) -> Path:
    """The file of the judge; a folder that `train` wrote holds one."""
    place = OWN if given is None else given
    return place / entries.MODEL if place.is_dir() else place
