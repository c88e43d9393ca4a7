"""The challenge: honest samplers are judged, whatever else is handed in is caught or gains nothing, and nothing gets
out. `challenge_zoo.txt` holds the samplers; files of weights that cheat are made here."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file
from thinning import one_in

from classroom.__main__ import main
from classroom.challenge import board, entries, judge, rounds
from classroom.challenge import command as commands
from classroom.challenge.command import Game
from classroom.challenge.judge import OWN, Judge
from classroom.challenge.records import BUDGETS, Deal, Entry, Foul, Row, Score
from classroom.challenge.samplers import Limits, Samplers
from classroom.grading import sandbox
from classroom.releasing.bundle import release
from course_utils.data import load
from course_utils.device import seeded
from course_utils.diffusion import Denoiser, cosine_schedule
from course_utils.models.unet import UNet
from course_utils.sampling import ddim, last
from course_utils.weights import SHIPPED, load_denoiser, read_card, save

SHAPE, CLASSES, N = (1, 28, 28), 10, 100
LIMITS = Limits(seconds=4, memory=600, total_memory=1000, processes=8, output=4, files=8)


def zoo(kind: str) -> dict[str, str]:
    """name -> source of the samplers of this kind in challenge_zoo.txt."""
    text = (Path(__file__).parent / "challenge_zoo.txt").read_text(encoding="utf-8")
    parts = [part.split("\n", 1) for part in text.split(f"\n=== {kind}: ")[1:]]
    return {name: source.split("\n=== ")[0] + "\n" for name, source in parts}


HONEST, CAUGHT = zoo("honest"), zoo("caught")
PLAIN = HONEST["DDIM"]


@pytest.fixture(scope="module")
def samplers():
    reason = sandbox.why_not()
    if reason and not os.environ.get("CI"):
        pytest.skip(reason)
    with Samplers(LIMITS) as made:
        made.ready()
        yield made


@pytest.fixture(scope="module")
def digits():
    return load("digits", "train"), load("digits", "test")


@pytest.fixture(scope="module")
def referee(digits) -> Judge:
    return Judge(SHIPPED / "digits-classifier.safetensors", *digits)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return load_denoiser("digits")


@pytest.fixture(scope="module")
def played(samplers, denoiser):
    """played(source, evaluations=2, n=100, network=...): the images of one round."""

    def images(source: str, evaluations: int = 2, n: int = N, network=denoiser) -> torch.Tensor:
        deal = Deal.drawn(evaluations, n, SHAPE, CLASSES, seed=3)
        return rounds.play(samplers, Entry("ada", network, source.encode()), deal, seed=3, seconds=60.0)

    return images


def seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def stand_in(answer, classes: int | None = CLASSES):
    """A network that no file could hold: answer(x_t, t, y) is its x̂_0."""

    class Network:
        schedule, shape, model = cosine_schedule(), SHAPE, SimpleNamespace(num_classes=classes)

        def __call__(self, x_t, t, y=None):
            return answer(x_t, t, y)

    return Network()


# ----------------------------------------------------------------------------------------------------------- the rounds


@pytest.mark.parametrize("name", HONEST)
def test_honest_samplers_get_their_images(played, name):
    images = played(HONEST[name])
    assert images.shape == (N, *SHAPE) and images.abs().max() <= 1
    levels = (images + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("evaluations", BUDGETS)
def test_the_sampler_gets_what_it_would_get_at_home(played, denoiser, evaluations):
    """The same images as by a call of the library's sampler, up to rounding to grey levels."""
    deal = Deal.drawn(evaluations, N, SHAPE, CLASSES, seed=3)
    own = last(ddim(denoiser, denoiser.schedule, deal.noise[0], evaluations, y=deal.y)).clamp(-1, 1)
    assert (played(PLAIN, evaluations) - own).abs().max() < 1 / 127.5


def test_every_evaluation_is_counted_by_the_one_who_makes_it(played):
    rows = []

    def network(x_t, t, y):
        rows.append(len(x_t))
        return x_t.tanh()

    played(PLAIN, 2, network=stand_in(network))
    assert sum(rows) == 2 * N + 2 * min(rounds.AGAIN, N // 2)  # and none for the run with another network


@pytest.mark.parametrize("name", one_in(4, CAUGHT))
def test_cheats_are_caught_and_hurt_nobody(played, samplers, name):
    name, _, words = name.partition(" | ")
    start = time.monotonic()
    with pytest.raises(Foul) as foul:
        played(CAUGHT[f"{name} | {words}"])
    assert words in str(foul.value) and "\n" not in str(foul.value) and len(str(foul.value)) < 400
    assert time.monotonic() - start < 60
    said = samplers.play(b"def sample(d, s, noise, y, e):\n    return noise[0]", given(), lambda asked: {})
    assert torch.equal(said["images"], given()["noise"][0])


def given() -> dict:
    deal = Deal.drawn(1, 4, SHAPE, CLASSES, seed=0)
    schedule = cosine_schedule(10)
    return {"alpha_bar": schedule.alpha_bar, "name": "", "noise": deal.noise, "y": deal.y, "evaluations": 1}


def test_there_are_enough_cheats():
    assert len(CAUGHT) >= 10


def test_nothing_is_kept_from_round_to_round(played):
    """Neither on disk nor in memory: what four evaluations brought is not there when one may be used."""
    keeps = """
import builtins, os, torch
import course_utils.sampling as lasting
def sample(denoise, schedule, noise, y, evaluations):
    if os.path.exists("/tmp/kept.pt") or hasattr(builtins, "kept") or hasattr(lasting, "kept"):
        raise RuntimeError("something was kept")
    builtins.kept = lasting.kept = noise
    torch.save(noise, "/tmp/kept.pt")
    return denoise(noise[0], torch.full_like(y, schedule.T), y)
"""
    for evaluations in (4, 1):
        played(keeps, evaluations)


def test_it_stands_still_while_the_network_computes(played):
    """A thread that counts on: what it has when the reply comes is what it had when the request was made."""
    counts = """
import threading, time, torch
count = 0
def on():
    global count
    while True:
        count += 1
        time.sleep(0.001)
def sample(denoise, schedule, noise, y, evaluations):
    threading.Thread(target=on, daemon=True).start()
    time.sleep(0.2)
    before, start = count, time.monotonic()
    x0 = denoise(noise[0], torch.full_like(y, schedule.T), y)
    if time.monotonic() - start > 1 and count - before > 300:
        raise RuntimeError(f"{count - before} while the network computed")
    return x0
"""

    def slow(x_t, t, y):
        time.sleep(1.5)
        return x_t.tanh()

    played(counts, 1, network=stand_in(slow))


def test_a_network_that_takes_too_long_is_ended(samplers):
    def slow(x_t, t, y):
        time.sleep(0.3)
        return x_t

    deal, entry = Deal.drawn(4, N, SHAPE, CLASSES, seed=0), Entry("ada", stand_in(slow), PLAIN.encode())
    with pytest.raises(Foul, match="its network takes more than the 1 s"):
        rounds.play(samplers, entry, deal, 0, seconds=1.0)


def test_a_model_without_classes_is_asked_without_labels(played):
    source = "def sample(denoise, schedule, noise, y, evaluations):\n    assert y is None\n"
    source += "    return denoise(noise[0], [schedule.T] * noise.shape[1])\n"
    assert played(source, network=stand_in(lambda x, t, y: x.tanh(), classes=None)).shape == (N, *SHAPE)
    with pytest.raises(Foul, match="expected no labels"):
        played(source.replace("T] * noise.shape[1]", "T] * 100, [0] * 100"), network=stand_in(None, classes=None))


def test_the_deal_is_balanced_fresh_for_each_seed_and_the_same_for_all_budgets():
    one, four, other = (Deal.drawn(k, N, SHAPE, CLASSES, seed) for k, seed in ((1, 5), (4, 5), (1, 6)))
    assert torch.equal(one.noise[0], four.noise[0]) and torch.equal(one.y, four.y)
    assert not torch.equal(one.noise, other.noise) and not torch.equal(one.y, other.y)
    assert torch.bincount(one.y).tolist() == [N // CLASSES] * CLASSES


def test_whoever_finds_out_the_seed_of_the_noise_does_not_know_what_is_looked_at():
    """PyTorch takes 32 bits of a seed, few enough to try them all."""
    one, other = 5, 5 + 2**40
    assert torch.equal(*(Deal.drawn(1, 10, SHAPE, CLASSES, each).noise for each in (one, other)))
    assert commands._unseen(one) != commands._unseen(other)


@pytest.mark.slow
def test_without_walls_for_ones_own_samplers(denoiser):
    deal = Deal.drawn(1, 20, SHAPE, CLASSES, seed=0)
    with Samplers(LIMITS, unsafe=True) as made:
        assert rounds.play(made, Entry("ada", denoiser, PLAIN.encode()), deal, 0, 60.0).shape == (20, *SHAPE)
        with pytest.raises(Foul, match="no images within"):
            rounds.play(made, Entry("ada", denoiser, b"while True: pass"), deal, 0, 60.0)


# ------------------------------------------------------------------------------------------------------------ the judge


def test_real_images_come_first_then_good_ones_then_noise(referee, digits, denoiser):
    deal = Deal.drawn(1, 200, SHAPE, CLASSES, seed=0)
    noise = deal.noise[0].clamp(-1, 1)
    good = last(ddim(denoiser, denoiser.schedule, deal.noise[0], 8, y=deal.y))
    found = [referee.floor(200), referee.score(good), referee.score(noise)]
    assert [s.distance for s in found] == sorted(s.distance for s in found)
    assert found[0].distance + 3 * found[0].error < found[2].distance


def test_the_error_bar_is_as_wide_as_the_scatter_over_seeds(referee, digits):
    """Of ten sets of other real images: their scatter, and the bar that each of them gives, from one set alone."""
    train, _ = digits
    rows = torch.randperm(len(train), generator=seed(0))[:1000].split(100)
    found = [referee.score(train.take(part)) for part in rows]
    scatter = torch.tensor([s.distance for s in found]).std().item()
    assert scatter / 2.5 < sum(s.error for s in found) / len(found) < 2.5 * scatter


COPIES = {
    "as they are": lambda x: x,
    "mirrored": lambda x: x.flip(-1),
    "moved": lambda x: x.roll((2, -1), (-2, -1)),
    "mirrored, moved and noisy": lambda x: x.flip(-1).roll(-2, -1) + 0.05 * torch.randn(x.shape, generator=seed(0)),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_found_however_they_were_made(referee, digits, name):
    train, test = digits
    assert referee.copies(COPIES[name](train.take(range(20)))) > 0.9
    assert referee.copies(COPIES[name](test.take(range(20)))) < judge.MOST_COPIES


MEMORY = """
import torch
def sample(denoise, schedule, noise, y, evaluations):
    return denoise(noise[0], torch.full_like(y, schedule.T), y)
"""


@pytest.mark.parametrize("mirrored", [False, True], ids=["as they are", "mirrored"])
def test_a_network_that_has_learned_training_images_by_heart(played, referee, digits, mirrored):
    """For each noise one of them: by the rules of a round it is a network like any other."""
    train, _ = digits

    def by_heart(x_t, t, y):
        which = (x_t.flatten(1)[:, :8].sum(1) * 1e4).long() % len(train)
        return train.take(which).flip(-1) if mirrored else train.take(which)

    images = played(MEMORY, 1, 100, stand_in(by_heart))
    with pytest.raises(Foul, match="copies of training images"):
        referee.look_for_copies(images, seed=0)


def test_an_honest_models_images_are_no_copies(played, referee):
    for evaluations in (1, 4):
        referee.look_for_copies(played(PLAIN, evaluations), seed=0)


GAINS_NOTHING = {
    "other labels than those dealt": PLAIN.replace("y=y", "y=0 * y + 1"),
    "much too bright": PLAIN.replace("return last", "return 1e30 * last"),
    "noise that is none": PLAIN.replace("noise[0],", "0.3 * noise[0],"),
    "a thin layer of noise on top": PLAIN.replace("y=y))", "y=y)) + 0.3 * noise[0]"),
}


@pytest.fixture(scope="module")
def honest(played, referee) -> Score:
    return referee.score(played(PLAIN, 4, 200))


@pytest.mark.parametrize("name", GAINS_NOTHING)
def test_what_is_allowed_because_it_gains_nothing(played, referee, honest, name, report):
    other = referee.score(played(GAINS_NOTHING[name], 4, 200))
    report.append(f"challenge, {name}: d² {honest.distance:.1f} becomes {other.distance:.1f}")
    assert other.distance > honest.distance + 2 * (honest.error + other.error)


@pytest.mark.slow
def test_images_that_deceive_the_courses_classifier_do_not_deceive_the_judge(report):
    """Images of one evaluation, changed in small steps until the shipped classifier sees what it sees in real ones."""
    try:
        train, test = (load("fashion-mnist", split) for split in ("train", "test"))
    except ValueError as reason:
        pytest.skip(str(reason))
    shipped, own = (Judge(place, train, test) for place in (SHIPPED / "fashion-mnist-classifier.safetensors", OWN))
    model, n = load_denoiser("fashion-mnist"), 200
    deal = Deal.drawn(1, n, SHAPE, CLASSES, seed=0)
    with torch.no_grad():
        x = model(deal.noise[0], torch.full((n,), model.schedule.T), deal.y)
        wanted = shipped._compare(test.take(range(n)))
    before = shipped.score(x).distance, own.score(x).distance
    change = torch.zeros_like(x, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        (shipped._compare((x + change).clamp(-1, 1)) - wanted).square().sum().backward()
        optimizer.step()
    attacked = rounds._images((x + change).detach(), Deal(deal.noise, deal.y))
    after = shipped.score(attacked).distance, own.score(attacked).distance
    report.append(
        f"challenge, attack on the shipped classifier: d² there {before[0]:.0f} → {after[0]:.1f}, "
        f"in the judge {before[1]:.0f} → {after[1]:.1f}"
    )
    assert after[0] < before[0] / 10
    assert after[1] > 3 * after[0]


def test_the_judge_is_none_of_the_shipped_models_and_in_no_release(tmp_path):
    card = read_card(OWN)
    shipped = [read_card(path)["checksum"] for path in SHIPPED.glob("*.safetensors")]
    assert card["kind"] == "classifier" and card["checksum"] not in shipped
    assert card["on the test split"]["accuracy"] > 0.9
    release(ROOT, tmp_path / "out", ["00"])
    there = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(there) > 50 and not [path for path in there if "challenge" in path.as_posix()]
    assert OWN.read_bytes() not in [path.read_bytes() for path in there]


# ---------------------------------------------------------------------------------------------------------- the entries


@pytest.fixture
def place(tmp_path) -> Path:
    """A small honest submission."""
    with seeded(0):
        network = UNet(SHAPE, widths=(16,), num_classes=CLASSES)
        torch.nn.init.normal_(network.head.weight, std=0.1)
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada/sampler.py").write_text(PLAIN)
    save(tmp_path / "ada/model.safetensors", Denoiser(network, cosine_schedule()), {}, load("digits").classes)
    return tmp_path / "ada"


def rewritten(path: Path, **changes) -> None:
    """The file with another card."""
    card = json.dumps(read_card(path) | changes)
    save_file(load_file(path), path, {"course_utils": card})


def config(path: Path, **changes) -> None:
    rewritten(path, config=read_card(path)["config"] | changes)


def other_model(path: Path, shape=SHAPE, classes=CLASSES, **settings) -> None:
    network = UNet(shape, num_classes=classes, **settings)
    save(path, Denoiser(network, cosine_schedule()), {}, [str(k) for k in range(classes or 0)])


def with_tensors(path: Path, **more: torch.Tensor) -> None:
    """More tensors, and the checksum of all of them."""
    from course_utils.weights import _checksum

    card, tensors = read_card(path), load_file(path) | more
    card |= {"checksum": _checksum(tensors)}
    save_file(tensors, path, {"course_utils": json.dumps(card)})


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5000] ^= 64
    path.write_bytes(bytes(data))


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def deep(path: Path) -> None:
    """A card of nothing but brackets."""
    tensors = load_file(path)
    save_file(tensors, path, {"course_utils": "[" * 200_000})


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(SystemExit))


def false_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")


FILES = {
    "images beside the weights": (lambda m: with_tensors(m, images=torch.zeros(9, 28, 28)), "does not fit the UNet"),
    "weights that are missing": (lambda m: config(m, blocks=2), "does not fit|too small"),
    "a wrong checksum": (lambda m: rewritten(m, checksum="0" * 32), "its weights are not those that were written"),
    "a flipped bit": (flipped, "its weights are not those that were written"),
    "no finite weights": (
        lambda m: with_tensors(m, **{"head.bias": torch.full((4,), torch.nan)}),
        "some of its weights are not finite",
    ),
    "pickled": (pickled, "is damaged, or not a safetensors file"),
    "a header without an end": (false_header, "is damaged, or not a safetensors file"),
    "a card without an end": (deep, "could not be read|can't be read"),
    "a network as large as the machine": (lambda m: config(m, widths=[10**6, 10**6]), "of a size that no submission"),
    "blocks without an end": (lambda m: config(m, blocks=10**9), "of a size that no submission"),
    "levels without an end": (lambda m: config(m, widths=[1] * 10**4), "of a size that no submission"),
    "more classes than atoms": (lambda m: config(m, num_classes=10**30), "of a size that no submission"),
    "more weights than there are bytes": (lambda m: config(m, widths=[1024]), "is too small for them"),
    "words for numbers": (lambda m: config(m, widths="wide"), "could not be read"),
    "another network": (lambda m: rewritten(m, model="Generator"), "could not be read|too small"),
    "a classifier": (lambda m: shutil.copy(OWN, m), "holds a classifier; expected a diffusion model"),
    "too large": (lambda m: other_model(m, widths=(256, 256)), "expected at most 8,000,000"),
    "other images": (lambda m: other_model(m, (3, 32, 32), widths=(16,)), "its images are 3×32×32; expected 1×28×28"),
    "other classes": (lambda m: other_model(m, classes=3, widths=(16,)), "it knows 3 classes; expected 10"),
    "a link": (linked, "expected a file of its own"),
    "a pipe": (lambda m: (m.unlink(), os.mkfifo(m)), "expected a file of its own"),
    "a folder": (lambda m: (m.unlink(), m.mkdir()), "expected a file of its own"),
    "nothing": (lambda m: m.unlink(), "it has no model.safetensors"),
    "no sampler": (lambda m: m.with_name("sampler.py").unlink(), "it has no sampler.py"),
    "a sampler that is a link": (lambda m: linked(m.with_name("sampler.py")), "sampler.py: expected a file of its own"),
    "a long sampler": (
        lambda m: m.with_name("sampler.py").write_text(PLAIN + "#" * 8000), "sampler.py: 8,[0-9]* bytes; expected"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_that_cheat_or_are_damaged_are_refused(place, name):
    change, words = FILES[name]
    assert entries.read("ada", place, SHAPE, CLASSES).name == "ada"
    change(place / "model.safetensors")
    start = time.monotonic()
    with pytest.raises(Foul, match=words) as foul:
        entries.read("ada", place, SHAPE, CLASSES)
    assert "\n" not in str(foul.value) and str(place) not in str(foul.value)
    assert time.monotonic() - start < 5


def test_a_folder_that_is_a_link(place):
    (place.parent / "ben").symlink_to(place)
    with pytest.raises(Foul, match="a link to another place"):
        entries.read("ben", place.parent / "ben", SHAPE, CLASSES)


# ------------------------------------------------------------------------------------------------------------ the board


def row(name: str, *distances: float, error: float = 0.1, **more) -> Row:
    return Row(name, {b: Score(d, error * d) for b, d in zip(BUDGETS, distances)}, {}, **more)


def test_places_are_shared_where_the_bars_overlap_and_depend_on_no_order():
    rows = [row("ada", 8, 4, 2), row("ben", 8.2, 4.1, 2), row("eve", 80, 40, 20), row("old", 1, 1, 1, reference=True)]
    rows += [row("part", 1, 1)]
    assert board.places(rows) == board.places(rows[::-1]) == {"ada": 1, "ben": 1, "eve": 3}
    assert [each.name for each in board.in_order(rows)] == ["old", "ada", "ben", "eve", "part"]
    assert row("ada", 8, 4, 2).mean.distance == pytest.approx(4)
    assert row("ada", 8, 4, 2).mean.error == pytest.approx(4 * 0.1 / 3**0.5)


def test_the_board_says_everything_once():
    fouls = {1: "it did this", 2: "it did that"}
    rows = [row("ada", 8, 4, 2), Row("ben", {4: Score(3.0, 0.1)}, fouls), Row("eve", {}, dict.fromkeys(BUDGETS, "no"))]
    text = board.text(rows, "title")
    for line in ("  ben, 1 evaluation: it did this", "  ben, 2 evaluations: it did that", "  eve: no", "3.0 ± 0.1"):
        assert text.count(line) == 1, text
    cells = list(csv.DictReader(board.as_csv([*rows, row("=1+1", 1, 1, 1)]).splitlines()))
    assert {cell["name"] for cell in cells} == {"ada", "ben", "eve", "'=1+1"}
    assert [c["foul_2"] for c in cells if c["name"] == "ben"] == ["it did that"]


def test_rows_to_beat_are_shown_where_they_were_made_in_the_same_way(tmp_path):
    path, about = tmp_path / "references.json", {"judge": "x", "samples": 10}
    assert board.read_references(path, about) == []
    board.write_references(path, about, [row("ddim", 8, 4, 2), Row("bad", {}, {1: "no"})])
    board.write_references(path, about, [row("better", 4, 2, 1)])
    found = board.read_references(path, about)
    assert [(each.name, each.reference) for each in found] == [("better", True), ("ddim", True)]
    assert found[1].scores[2].distance == 4
    assert board.read_references(path, about | {"samples": 11}) == []


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def handed_in(tmp_path, samplers) -> Path:
    """A judge of one's own, and a class: Ada is honest, Ben is at one budget, Eve's file is damaged."""
    shutil.copy(SHIPPED / "digits-classifier.safetensors", tmp_path / "judge.safetensors")
    for name, source in {"ada": PLAIN, "ben": PLAIN.replace("evaluations, y", "2, y"), "eve": PLAIN}.items():
        (tmp_path / "class" / name).mkdir(parents=True)
        (tmp_path / "class" / name / "sampler.py").write_text(source)
        shutil.copy(SHIPPED / "digits.safetensors", tmp_path / "class" / name / "model.safetensors")
    flipped(tmp_path / "class/eve/model.safetensors")
    return tmp_path


def command(handed_in: Path, *words: str) -> int:
    judged = ["--judge", str(handed_in / "judge.safetensors"), "--data", "digits", "--samples", "100", "--seed", "5"]
    return main(["challenge", str(handed_in / "class"), *judged, *words])


def test_a_class_is_judged(handed_in, capsys):
    table = handed_in / "board.csv"
    assert command(handed_in, "--csv", str(table)) == 0
    said = capsys.readouterr().out
    assert "Seed 5." in said and "  1  ada  " in said
    assert "  ben, 1 evaluation: it asks for a 2nd evaluation; 1 may be used\n" in said
    assert "  eve: model.safetensors is damaged: its weights are not those that were written\n" in said
    cells = csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines())
    ada = next(cell for cell in cells if cell["name"] == "ada")
    assert ada["place"] == "1" and float(ada["d2_1"]) > float(ada["d2_2"]) > float(ada["d2_4"]) > 0


@pytest.mark.slow
def test_rows_to_beat_are_kept_beside_the_judge_that_gave_them(handed_in, capsys):
    for name in ("ben", "eve"):
        shutil.rmtree(handed_in / "class" / name)
    assert command(handed_in, "--reference") == 0
    assert json.loads((handed_in / "references.json").read_text())["rows"].keys() == {"ada"}
    assert command(handed_in) == 0
    first, second = capsys.readouterr().out.split("\nplace")[1:]
    assert "ada (to beat)" in first and "ada (to beat)" in second and "  1  ada  " in second
    assert "  1  ada  " not in first


@pytest.mark.slow
def test_a_row_depends_on_the_seed_and_on_no_other_submission(handed_in, samplers, referee):
    game, other = (Game(samplers, referee, samples=N, seed=k, seconds=60.0) for k in (5, 6))
    first, again = (game.row("ada", handed_in / "class/ada") for _ in range(2))
    assert first == again and set(first.scores) == set(BUDGETS)
    assert other.row("ada", handed_in / "class/ada").scores != first.scores


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nowhere", "challenge: expected a folder of submissions, NAME/model.safetensors and NAME/sampler.py, found"),
        (".", "challenge: expected folders NAME/ with model.safetensors and sampler.py in '.', found none"),
        ("some --judge nowhere --data digits", "challenge: no model called 'nowhere'"),
        ("some --data digits", "challenge: the judge was trained for other images or classes than those of digits"),
        ("some --data nowhere", "challenge: load: no data set and no folder called 'nowhere'"),
        ("some --samples 10", "challenge: argument --samples: expected a whole number of at least 100"),
    ],
)
def test_wrong_words_are_answered_in_a_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    if words != ".":
        (tmp_path / "some/ada").mkdir(parents=True)
    try:
        status = main(["challenge", *words.split()])
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err.strip()
    assert status == 2 and error.count("\n") == 0 and said in error, error


def test_where_there_is_no_sandbox_it_says_so(tmp_path, monkeypatch, capsys):
    (tmp_path / "ada").mkdir()
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["challenge", str(tmp_path)]) == 2
    assert "needs bubblewrap, which is not installed" in capsys.readouterr().err
