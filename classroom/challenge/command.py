"""`python -m classroom challenge`: what the command does with its arguments."""

from __future__ import annotations

import argparse
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from course_utils import device as devices
from course_utils.cli import Refused, cli_errors
from course_utils.data import load
from course_utils.files import write_whole

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
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    with cli_errors(), _sandbox(arguments.unsafe) as samplers:  # which gets ready while the data are read
        train, test = (load(arguments.data, split) for split in ("train", "test"))
        place = _judge(arguments.judge)
        game = Game(samplers, Judge(place, train, test), arguments.samples, seed, arguments.seconds)
        try:
            samplers.ready()
        except NoSandbox as reason:
            raise Refused(str(reason)) from reason
        bar = tqdm(folders.items(), desc="challenge", unit="submission", file=sys.stderr, dynamic_ncols=True)
        rows = [game.row(name, folder) for name, folder in bar]
        floor = game.judge.floor(game.samples)
    about = {"judge": game.judge.checksum, "data": train.name, "samples": game.samples}
    with cli_errors(arguments.csv):
        if arguments.reference:
            board.write_references(place.with_name(REFERENCES), about, rows)
        rows += board.read_references(place.with_name(REFERENCES), about)
        title = (
            f"Squared Fréchet distance ± standard error of {game.samples:,} images to the test split of {train.title}, "
            f"in the judge's features: lower is better.\nAs many training images get {floor.distance:.1f} ± "
            f"{floor.error:.1f}. Seed {seed}."
        )
        print(board.text(rows, title), end="")
        if arguments.csv:
            write_whole(arguments.csv, board.as_csv(rows).encode("utf-8-sig"))
    return 0 if any(row.scores for row in rows if not row.reference) else 1


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
                images = play(self.samplers, entry, deal, self.seed, self.seconds)
                self.judge.look_for_copies(images, self.seed)
                scores[budget] = self.judge.score(images)
            except Foul as foul:
                fouls[budget] = str(foul)
        return Row(shown, scores, fouls)


def _sandbox(unsafe: bool) -> Samplers:
    try:
        return Samplers(unsafe=unsafe)
    except NoSandbox as reason:
        raise Refused(str(reason)) from reason


def _judge(given: Path | None) -> Path:
    """The file of the judge; a folder that `train` wrote holds one."""
    place = OWN if given is None else given
    return place / entries.MODEL if place.is_dir() else place
