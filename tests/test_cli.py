"""`python -m course_utils train` and `sample`: what they leave behind, what survives, and what they say."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils import device as devices
from course_utils import sampling
from course_utils.__main__ import main, parser
from course_utils.arrays import normal_like
from course_utils.cli import defaults, drawing, kinds, options, runs, samplers
from course_utils.cli import train as train_command
from course_utils.cli.sample import number_of
from course_utils.data import load
from course_utils.device import generators
from course_utils.diffusion import Denoiser
from course_utils.files import sole_user, write_whole
from course_utils.models.autoencoder_kl import AutoencoderKL, set_scale
from course_utils.models.classifier import Classifier, NoisyClassifier
from course_utils.models.dcgan import Generator
from course_utils.models.dit import DiT
from course_utils.models.unet import UNet
from course_utils.sampling import clipped, dpm_solver, last
from course_utils.training import checkpoints, watching
from course_utils.weights import (
    KINDS,
    load_autoencoder,
    load_classifier,
    load_denoiser,
    load_generator,
    load_latent_denoiser,
    load_noisy_classifier,
    read_card,
    save,
)


def tiny(
    kind: str, shape: tuple[int, int, int], classes: int | None, conditioning: str = "added", network: str = "unet"
) -> torch.nn.Module:
    """Models that train in no time."""
    if network == "dit":
        return DiT(shape, width=16, depth=1, heads=2, patch=1 if kind == "latent-ddpm" else 7, num_classes=classes)
    if kind == "latent-ddpm":
        return UNet(shape, widths=(16,), patch=1, num_classes=classes, conditioning=conditioning)
    if kind == "autoencoder":
        return AutoencoderKL(shape, channels=2, widths=(4, 8))
    if kind == "dcgan":
        return Generator(shape, latent=5, widths=(4, 8))
    if kind == "ddpm":
        return UNet(shape, widths=(16,), patch=4, num_classes=classes, attention=None, conditioning=conditioning)
    return NoisyClassifier(shape, classes, (8,)) if "noisy" in kind else Classifier(shape, classes, size=4, width=4)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Small models, one thread, the CPU, no bars; files go into the test's own folder."""
    monkeypatch.setattr(defaults, "model", tiny)
    monkeypatch.setattr(devices, "pick_threads", lambda: 1)
    monkeypatch.setenv("COURSE_QUIET", "1")
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads(), signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    torch.set_num_threads(before[0])
    signal.signal(signal.SIGINT, before[1])  # ignored, where the test suite runs in the background


@pytest.fixture(scope="module")
def leaves(tmp_path_factory) -> Path:
    """A folder with two classes of small grey images."""
    folder, chance = tmp_path_factory.mktemp("data") / "leaves", np.random.default_rng(0)
    for k in range(40):
        path = folder / ("oak" if k % 2 else "Maple") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 120 + 100 * (k % 2), (28, 28), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Two diffusion models as `train` leaves them, with classes and without, and a classifier."""
    folder = tmp_path_factory.mktemp("models")
    for name, classes in (("with", ("Maple", "oak")), ("without", ())):
        torch.manual_seed(0)
        model = tiny("ddpm", (1, 28, 28), len(classes) or None)
        for weight in model.parameters():  # a new U-Net answers 0, whatever it is asked
            torch.nn.init.normal_(weight, std=0.1)
        denoiser = Denoiser(model, defaults.schedule("cosine", 100), "v")
        save(folder / name / "model.safetensors", denoiser, {}, classes)
    save(folder / "judge.safetensors", tiny("classifier", (1, 28, 28), 2), {}, ("Maple", "oak"))
    torch.manual_seed(0)
    codes = tiny("autoencoder", (1, 28, 28), None)
    set_scale(codes, torch.rand(9, 1, 28, 28) * 2 - 1)
    save(folder / "codes.safetensors", codes, {"seed": 0})
    (folder / "broken.safetensors").write_bytes((folder / "with" / "model.safetensors").read_bytes()[:-9])
    return folder


def call(capsys, *arguments) -> tuple[int, str, str]:
    """Exit status, what went to stdout, what went to stderr."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as end:
        status = end.code
    return status, *capsys.readouterr()


def losses(folder: str) -> list[dict[str, str]]:
    with open(Path(folder, "loss.csv"), newline="") as file:
        return list(csv.DictReader(file))


def weights_of(folder: Path) -> list[torch.Tensor]:
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    found = []

    def collect(value):
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, dict):
            for each in value.values():
                collect(each)

    collect(content["parts"])
    return found


def equal_runs(a: Path, b: Path) -> bool:
    """Weights, averages and the optimizer's state, bit for bit; and the exported model."""
    same = all(torch.equal(x, y) for x, y in zip(weights_of(a), weights_of(b), strict=True))
    ours, theirs = (load_denoiser(folder).state_dict() for folder in (a, b))
    return same and all(torch.equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys())


# ---------------------------------------------------------------------------------------------------- what train leaves


def test_train_leaves_model_card_samples_losses_and_a_record(capsys, leaves, tmp_path):
    status, out, err = call(capsys, "train", "ddpm", "--data", leaves, "--labels", "--steps", 6, "--batch", 8,
                            "--seed", 3, "--out", "run")  # fmt: skip
    assert status == 0 and err == ""
    assert "1×28×28" in out and "6 steps of 8" in out
    assert re.search(r"Kept in run; loss on the test split 0.\d+ \(mean squared error per pixel", out)
    found = {path.name for path in Path("run").iterdir()}
    assert found == {"model.safetensors", "model.md", "samples.png", "loss.csv", "run.json", "checkpoint.pt"}

    denoiser = load_denoiser("run")
    assert denoiser.classes == ("Maple", "oak") and denoiser.shape == (1, 28, 28)
    average = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["parts"]["ema"]["model"]
    for name, weight in denoiser.model.state_dict().items():  # the averaged weights are what is exported
        assert torch.equal(weight, average[name].half().float())

    rows = losses("run")
    assert [int(row["step"]) for row in rows] == list(range(1, 7)) and all(float(row["loss"]) > 0 for row in rows)
    assert Image.open("run/samples.png").size[0] > 300
    record, card = json.loads(Path("run/run.json").read_text()), read_card("run")
    assert (record["seed"], record["steps"], record["batch"], record["labels"]) == (3, 6, 8, True)
    assert card["seed"] == 3 and card["steps"] == "6" and card["on the test split"]["loss"] > 0
    assert card["command"].startswith("`python -m course_utils train ddpm --data ") and "--seed 3" in card["command"]


def test_the_command_on_a_card_repeats_the_run(capsys, leaves, tmp_path):
    """Typed where the images are: the card holds of each place the last name only."""
    first = ("train", "ddpm", "--data", leaves, "--steps", 4, "--batch", 8, "--lr", 0.004, "--size", 32, "--out", "a")
    assert call(capsys, *first)[0] == 0
    Path("leaves").symlink_to(leaves)
    again = shlex.split(read_card("a")["command"].strip("`"))
    assert again[:3] == ["python", "-m", "course_utils"]
    assert call(capsys, *again[3:-1], "b")[0] == 0
    assert equal_runs(tmp_path / "a", tmp_path / "b")


def test_seeds_decide_the_weights(capsys, leaves):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        call(capsys, "train", "ddpm", "--data", leaves, "--steps", 2, "--batch", 8, "--seed", seed, "--out", name)
    a, b, c = (weights_of(Path(name)) for name in "abc")
    assert all(map(torch.equal, a, b)) and not all(map(torch.equal, a, c))


def test_train_on_digits_needs_nothing_but_the_course(capsys):
    assert call(capsys, "train", "ddpm", "--data", "digits", "--steps", 2)[0] == 0
    assert load_denoiser("checkpoints/ddpm-digits").classes == ()
    assert call(capsys, "sample", "checkpoints/ddpm-digits", "-n", 2, "--steps", 2)[0] == 0


def test_train_a_classifier_and_let_it_judge(capsys, leaves):
    status, out, _ = call(capsys, "train", "classifier", "--data", leaves, "--steps", 4, "--batch", 8, "--out", "judge")
    assert status == 0 and "accuracy on the test split" in out
    model = load_classifier("judge")
    assert model.classes == ("Maple", "oak") and 0 <= model.card["on the test split"]["accuracy"] <= 1
    assert {path.name for path in Path("judge").iterdir()} >= {"model.safetensors", "model.md", "loss.csv"}
    assert losses("judge")[0].keys() == {"step", "loss", "accuracy"}
    run = ("train", "ddpm", "--data", leaves, "--steps", 2, "--batch", 8, "--evaluator", "judge", "--out")
    assert call(capsys, *run, "run")[0] == 0
    assert read_card("run")["on the test split"]["Fréchet distance"] > 0
    status, _, err = call(capsys, *run, "large", "--size", 32)
    assert status == 2 and err.count("\n") == 1 and "(1, 28, 28)" in err


def test_train_a_noisy_classifier(capsys, leaves, tmp_path):
    run = ("train", "noisy-classifier", "--data", leaves, "--steps", 6, "--batch", 8, "--out")
    status, out, _ = call(capsys, *run, "a")
    assert status == 0 and "accuracy at t = 1 on the test split" in out and "accuracy at t = 750" in out
    model = load_noisy_classifier("a")
    assert model.classes == ("Maple", "oak") and model.schedule.T == 1000
    assert set(model.card["on the test split"]) == {f"accuracy at t = {t}" for t in (1, 250, 500, 750, 1000)}
    assert losses("a")[0].keys() == {"step", "loss", "accuracy"}
    Path("leaves").symlink_to(leaves)
    again = shlex.split(read_card("a")["command"].strip("`"))
    assert again[3:5] == ["train", "noisy-classifier"] and call(capsys, *again[3:-1], "b")[0] == 0
    assert all(map(torch.equal, weights_of(tmp_path / "a"), weights_of(tmp_path / "b")))


def test_train_a_dcgan_and_draw_with_it(capsys, leaves, models, tmp_path):
    judge = models / "judge.safetensors"
    run = ("train", "dcgan", "--data", leaves, "--steps", 4, "--batch", 8, "--evaluator", judge, "--out")
    assert call(capsys, *run, "a")[0] == 0 and Path("a/samples.png").exists()
    generator = load_generator("a")
    assert generator.latent == 5 and generator.card["on the test split"]["Fréchet distance"] > 0
    assert losses("a")[0].keys() == {"step", "loss", "generator"}
    assert call(capsys, *run[:-3], "--out", "b")[0] == 0
    assert all(map(torch.equal, weights_of(tmp_path / "a"), weights_of(tmp_path / "b")))  # one seed, one network

    assert call(capsys, "sample", "a", "-n", 3, "--seed", 2, "--out", "few.npz")[0] == 0
    assert call(capsys, "sample", "a", "-n", 5, "--seed", 2, "--out", "more.npz")[0] == 0
    few, more = (np.load(name)["images"] for name in ("few.npz", "more.npz"))
    assert few.shape == (3, 1, 28, 28) and abs(few).max() <= 1 and np.allclose(few, more[:3], atol=1e-6)
    codes = torch.stack([torch.randn(5, generator=one) for one in generators(2, 3)])
    assert np.allclose(few, generator(codes).numpy(), atol=1e-6)
    for wrong in (("--steps", 9), ("--label", "oak"), ("--eta", 1), ("--guidance", 2), ("--sampler", "dpm-solver")):
        status, _, err = call(capsys, "sample", "a", *wrong, "--out", "no.png")
        assert status == 2 and err.count("\n") == 1 and f"leave {wrong[0]} out" in err and not Path("no.png").exists()
    status, _, err = call(capsys, "sample", "a", "--out", "no.gif")
    assert status == 2 and "there is no way to show" in err


def test_a_dcgan_that_was_stopped_goes_on_to_the_same_end(capsys, leaves, tmp_path, monkeypatch):
    run = ("train", "dcgan", "--data", leaves, "--steps", 6, "--batch", 8, "--save-every", 1, "--out")
    assert call(capsys, *run, "whole")[0] == 0
    train_gan = kinds.train_gan

    def stopped_at_3(*players_and_data, **watch):
        def press(step, *_):
            if step == 3:
                signal.raise_signal(signal.SIGINT)

        return train_gan(*players_and_data, **watch, on_step=press, every=1)

    with monkeypatch.context() as patched:
        patched.setattr(kinds, "train_gan", stopped_at_3)
        assert call(capsys, *run, "parts")[0] == 130
    assert call(capsys, "train", "dcgan", "--out", "parts", "--resume")[0] == 0
    assert all(map(torch.equal, weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")))


def test_train_a_transformer_and_draw_with_it(capsys, leaves):
    run = ("train", "ddpm", "--data", leaves, "--network", "dit", "--labels", "--steps", 4, "--batch", 8, "--out", "a")
    assert call(capsys, *run)[0] == 0
    denoiser = load_denoiser("a")
    assert isinstance(denoiser.model, DiT) and denoiser.classes == ("Maple", "oak")
    assert "--labels --network dit --steps 4" in read_card("a")["command"] and "--lr" not in read_card("a")["command"]
    assert read_card("a")["recipe"]["optimizer"] == "adam"
    assert call(capsys, "sample", "a", "-n", 2, "--steps", 2, "--label", "oak", "--guidance", 2)[0] == 0


def test_a_run_of_before_there_was_a_choice_of_network_goes_on(capsys, leaves, tmp_path):
    for name in ("old", "new"):
        call(capsys, "train", "ddpm", "--data", leaves, "--steps", 2, "--batch", 8, "--out", name)
    record = json.loads(Path("old/run.json").read_text())
    record["network"] = record.pop("architecture")
    del record["autoencoder"]
    Path("old/run.json").write_text(json.dumps(record))
    for name in ("old", "new"):
        assert call(capsys, "train", "ddpm", "--out", name, "--resume", "--steps", 4)[0] == 0
    assert equal_runs(tmp_path / "old", tmp_path / "new")


def test_train_an_autoencoder(capsys, leaves):
    run = ("train", "autoencoder", "--data", leaves, "--steps", 6, "--batch", 8, "--out", "codes")
    status, out, _ = call(capsys, *run)
    assert status == 0 and "error on the test split 0." in out and "of what is encoded and decoded" in out
    model = load_autoencoder("codes")
    x = load(str(leaves), "train").x
    assert model.codes(x).std(correction=0).item() == pytest.approx(1, abs=0.02)  # its scale was measured
    error = (model(load(str(leaves), "test").x) - load(str(leaves), "test").x).square().mean().item()
    assert model.card["on the test split"]["error"] == pytest.approx(error, rel=1e-2)
    assert losses("codes")[0].keys() == {"step", "loss", "error", "kl"} and Path("codes/samples.png").exists()


@pytest.mark.parametrize("network", ["unet", "dit"])
def test_train_on_codes_and_draw_images(capsys, leaves, models, network):
    run = ("train", "latent-ddpm", "--data", leaves, "--autoencoder", models / "codes.safetensors", "--labels")
    run += ("--network", network, "--evaluator", models / "judge.safetensors", "--steps", 4, "--batch", 8, "--out", "a")
    status, out, err = call(capsys, *run)
    assert status == 0 and err == "" and "(mean squared error per number of a code of what it predicts)" in out
    denoiser = load_latent_denoiser("a")
    assert denoiser.shape == (2, 7, 7) and denoiser.image_shape == (1, 28, 28) and denoiser.classes == ("Maple", "oak")
    theirs = load_autoencoder(models / "codes.safetensors")
    x = torch.rand(3, 1, 28, 28) * 2 - 1
    assert torch.equal(denoiser.autoencoder.codes(x), theirs.codes(x))
    card = read_card("a")
    assert card["on the test split"].keys() == {"loss", "Fréchet distance"}
    assert "--autoencoder codes.safetensors" in card["command"]

    images = drawn(capsys, "a", "-n", 3, "--steps", 4, "--label", "oak")["images"]
    assert images.shape == (3, 1, 28, 28) and np.abs(images).max() <= 1
    noise = normal_like(torch.empty(3, 2, 7, 7), generators(0, 3))
    own = last(sampling.ddim(denoiser, denoiser.schedule, noise, 4, torch.full((3,), 1)))
    assert np.abs(denoiser.decode(own).numpy() - images).mean() < 0.01
    assert call(capsys, "sample", "a", "-n", 2, "--steps", 3, "--out", "way.gif")[0] == 0
    assert Image.open("way.gif").size == (4 * 58, 4 * 28)  # images, and not codes
    status, _, err = call(capsys, "sample", "a", "-n", 10**9, "--out", "x.png")
    assert status == 2 and "1,000,000,000 images take 5,8" in err  # room for the images


def test_the_size_of_the_images_is_that_of_the_autoencoder(capsys, leaves):
    run = ("--data", leaves, "--steps", 2, "--batch", 8, "--out")
    assert call(capsys, "train", "autoencoder", "--size", 32, *run, "codes")[0] == 0
    assert call(capsys, "train", "latent-ddpm", "--autoencoder", "codes", *run, "a")[0] == 0
    assert load_latent_denoiser("a").image_shape == (1, 32, 32) and "--size 32" in read_card("a")["command"]


def test_a_run_on_codes_goes_on_without_its_autoencoder(capsys, leaves, models, tmp_path, monkeypatch):
    shutil.copy(models / "codes.safetensors", "codes.safetensors")
    run = ("train", "latent-ddpm", "--data", leaves, "--steps", 8, "--batch", 8, "--save-every", 1)
    run += ("--autoencoder", "codes.safetensors", "--out")
    call(capsys, *run, "whole")
    with monkeypatch.context() as patch:
        interrupted(patch, 3)
        assert call(capsys, *run, "cut")[0] == 130
    Path("codes.safetensors").rename("elsewhere.safetensors")
    other = tiny("autoencoder", (1, 28, 28), None)
    save(tmp_path / "codes.safetensors", other, {})
    status, _, err = call(capsys, *run, "cut", "--resume")
    assert status == 2 and err.count("\n") == 1 and "was begun with another autoencoder" in err
    moved = ("train", "latent-ddpm", "--out", "cut", "--resume", "--autoencoder", "elsewhere.safetensors")
    assert call(capsys, *moved)[0] == 0
    assert all(map(torch.equal, weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")))
    assert call(capsys, "train", "latent-ddpm", "--out", "cut", "--resume", "--minutes", 0.001)[0] == 0


def test_two_ways_for_a_class_to_come_in(capsys, leaves):
    run = ("train", "ddpm", "--data", leaves, "--labels", "--steps", 2, "--batch", 8, "--out")
    assert call(capsys, *run, "added")[0] == call(capsys, *run, "plane", "--conditioning", "plane")[0] == 0
    for name in ("added", "plane"):
        assert load_denoiser(name).model.conditioning == name
        assert f"conditioning={name}" in Path(name, "model.md").read_text()
    assert "--labels --conditioning plane --steps 2" in read_card("plane")["command"]
    assert "conditioning" not in read_card("added")["command"]  # nor does it say the other defaults


def test_a_run_of_before_there_was_a_choice_of_conditioning_goes_on(capsys, leaves):
    run = ("train", "ddpm", "--data", leaves, "--labels", "--steps", 2, "--batch", 8, "--out", "run")
    call(capsys, *run)
    record = json.loads(Path("run/run.json").read_text())
    del record["conditioning"]
    Path("run/run.json").write_text(json.dumps(record))
    assert call(capsys, *run, "--resume", "--conditioning", "added")[0] == 0
    status, _, err = call(capsys, *run, "--resume", "--conditioning", "plane")
    assert status == 2 and "its --conditioning is added, not plane" in err


def test_a_folder_without_test_images_still_gives_a_model(capsys, leaves, monkeypatch):
    from course_utils.cli import artifacts

    def none(*_, **__):
        raise ValueError("no image left for the test split")

    monkeypatch.setattr(artifacts, "load", none)
    assert call(capsys, "train", "ddpm", "--data", leaves, "--steps", 2, "--batch", 8, "--out", "run")[0] == 0
    assert read_card("run")["on the test split"] == {}


# ------------------------------------------------------------------------------------------------------------ --minutes


def test_minutes_become_steps_before_the_run_begins(capsys, leaves, monkeypatch):
    status, out, _ = call(capsys, "train", "ddpm", "--data", leaves, "--minutes", 0.02, "--batch", 8, "--out", "run")
    steps = json.loads(Path("run/run.json").read_text())["steps"]
    assert status == 0 and steps > 1
    each, said = re.search(r"([\d.]+) ms a step: ([\d,]+) steps take about 0.02 minutes", out).groups()
    assert int(said.replace(",", "")) == steps == pytest.approx(1200 / float(each), rel=0.2)
    assert json.loads(Path("run/run.json").read_text())["recipe"]["steps"] == steps
    assert f"--steps {steps} " in read_card("run")["command"]  # minutes depend on the machine, steps don't


def test_stopped_while_its_speed_is_measured_a_run_has_learned_nothing_yet(capsys, leaves, monkeypatch):
    fit = kinds.fit

    def stopped(model, loss, *rest, **options):
        def pressed(*batch):
            signal.raise_signal(signal.SIGINT)
            return loss(*batch)

        return fit(model, pressed, *rest, **options)

    monkeypatch.setattr(kinds, "fit", stopped)
    status, out, err = call(capsys, "train", "ddpm", "--data", leaves, "--minutes", 1, "--out", "run")
    assert (status, out, err) == (130, "", "Stopped by hand.\n") and not list(Path("run").iterdir())


def test_minutes_that_were_not_used_up_are_said(capsys, leaves, monkeypatch):
    """The machine was busy while its speed was measured, and then it wasn't."""
    monkeypatch.setattr(train_command, "_steps_in", lambda *_: 2)
    status, out, _ = call(capsys, "train", "ddpm", "--data", leaves, "--minutes", 5, "--batch", 8, "--out", "run")
    assert status == 0 and "That took 0.0 of 5 minutes" in out
    said = shlex.split(out.splitlines()[-1].split("For the rest: ")[1])
    assert said[-3:] == ["--resume", "--minutes", "5.0"]


def test_minutes_measure_on_a_copy(capsys, leaves, tmp_path, monkeypatch):
    """The run itself is the same as one whose steps were typed."""
    run = ("train", "ddpm", "--data", leaves, "--batch", 8, "--out")
    call(capsys, *run, "a", "--minutes", 0.002)
    call(capsys, *run, "b", "--steps", json.loads(Path("a/run.json").read_text())["steps"])
    assert equal_runs(tmp_path / "a", tmp_path / "b")


# -------------------------------------------------------------------------------------------------- killed, and resumed

SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test suite that runs in the background ignores Ctrl-C
sys.path[:0] = {paths!r}
import test_cli
from course_utils.cli import defaults
from course_utils.training import watching
from course_utils.__main__ import main
defaults.model = test_cli.tiny
note = watching.Run.note
def announced(run, step, numbers):
    note(run, step, numbers)
    print("step", step + 1, flush=True)
    time.sleep({pause})
watching.Run.note = announced
sys.exit(main(sys.argv[1:]))
"""


def start(tmp_path: Path, root: Path, *arguments, pause: float = 0.0) -> subprocess.Popen:
    """`python -m course_utils` with small models, saying each step, in a process of its own."""
    code = SCRIPT.format(paths=[str(root), str(root / "tests")], pause=pause)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COURSE_QUIET": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
    )


def until(process: subprocess.Popen, step: int) -> None:
    for line in process.stdout:
        if line == f"step {step}\n":
            return
    raise AssertionError(f"ended before step {step}")


@pytest.mark.slow  # tests/test_training.py kills its loop, and the command is interrupted below
def test_a_killed_run_resumes_to_the_same_bits(capsys, tmp_path, leaves, root):
    """SIGKILL at random steps, twice; then --resume, without a word about data, labels or seed."""
    run = ("train", "ddpm", "--data", leaves, "--labels", "--steps", 40, "--batch", 8, "--seed", 5, "--save-every", 3)
    process = start(tmp_path, root, *run, "--out", "whole")
    process.communicate()
    assert process.returncode == 0
    killed_at = [random.randint(7, 18), random.randint(22, 37)]
    for k, step in enumerate(killed_at):
        again = (*run, "--out", "cut") if k == 0 else ("train", "ddpm", "--out", "cut", "--resume", "--save-every", 3)
        process = start(tmp_path, root, *again, pause=0.1)
        until(process, step)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    process = start(tmp_path, root, "train", "ddpm", "--out", "cut", "--resume")
    out, _ = process.communicate()
    resumed = int(re.search(r"Resumed .* at step (\d+) of 40", out)[1])
    assert process.returncode == 0 and resumed % 3 == 0 and killed_at[-1] - 4 <= resumed <= killed_at[-1] + 1
    assert equal_runs(tmp_path / "whole", tmp_path / "cut"), f"killed at {killed_at}"
    assert Path("whole/loss.csv").read_text() == Path("cut/loss.csv").read_text()
    assert sorted(os.listdir("cut")) == sorted(os.listdir("whole"))


def test_killed_before_the_first_checkpoint(capsys, tmp_path, leaves, root):
    run = ("train", "ddpm", "--data", leaves, "--steps", 8, "--batch", 8, "--out")
    process = start(tmp_path, root, *run, "cut", pause=0.3)
    until(process, 2)
    process.kill()
    process.communicate()
    assert not Path("cut/checkpoint.pt").exists()
    assert call(capsys, *run, "whole")[0] == 0
    assert call(capsys, "train", "ddpm", "--out", "cut", "--resume")[0] == 0
    assert equal_runs(tmp_path / "whole", tmp_path / "cut")


def test_interrupting_keeps_everything_and_says_how_to_go_on(capsys, tmp_path, leaves, root):
    """The command works as it is copied, in another folder, though there is a space in the name."""
    run = ("train", "ddpm", "--data", leaves, "--steps", 60, "--batch", 8, "--out")
    process = start(tmp_path, root, *run, "my run", pause=0.3)
    until(process, 5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 130 and "Stopped by hand after step" in out
    assert load_denoiser("my run").card["steps"].endswith(" of 60") and Path("my run/samples.png").exists()
    hint = shlex.split(re.search(r"Go on with: \S+ -m course_utils (.*)", out)[1])
    assert hint == ["train", "ddpm", "--out", str(tmp_path / "my run"), "--resume"]
    process = start(root, root, *hint)
    process.communicate()
    assert process.returncode == 0
    assert call(capsys, *run, "whole")[0] == 0
    assert equal_runs(tmp_path / "whole", tmp_path / "my run")


def test_a_finished_run_is_not_repeated(capsys, tmp_path, leaves):
    call(capsys, "train", "ddpm", "--data", leaves, "--steps", 3, "--batch", 8, "--out", "run")
    before = Path("run/model.safetensors").read_bytes()
    status, out, _ = call(capsys, "train", "ddpm", "--out", "run", "--resume")
    assert status == 0 and "nothing left to do" in out and Path("run/model.safetensors").read_bytes() == before


def test_another_number_of_threads_is_said(capsys, leaves, monkeypatch):
    call(capsys, "train", "ddpm", "--data", leaves, "--steps", 2, "--batch", 8, "--out", "run")
    monkeypatch.setattr(devices, "pick_threads", lambda: 2)
    assert "began with 1 threads" in call(capsys, "train", "ddpm", "--out", "run", "--resume")[1]


# --------------------------------------------------------------------------------------- no model lost, and trained on


def interrupted(monkeypatch, step: int, presses: int = 1):
    """Ctrl-C in that step of the next training."""
    calls = []

    def note(run, step, numbers, note=watching.Run.note):
        calls.append(1)
        for _ in range(presses if len(calls) == at else 0):
            signal.raise_signal(signal.SIGINT)
        note(run, step, numbers)

    at = step
    monkeypatch.setattr(watching.Run, "note", note)


def contents(folder: str | Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.parametrize("kind", ["ddpm", "classifier"])
def test_a_model_without_its_checkpoint_is_never_trained_anew(capsys, leaves, kind):
    call(capsys, "train", kind, "--data", leaves, "--steps", 2, "--batch", 8, "--out", "run")
    Path("run/checkpoint.pt").unlink()
    before = contents("run")
    for more in ((), ("--steps", 9), ("--minutes", 0.01)):
        status, _, err = call(capsys, "train", kind, "--out", "run", "--resume", *more)
        assert status == 2 and err.count("\n") == 1 and "no checkpoint.pt to go on from" in err
    assert contents("run") == before


def test_a_model_that_had_more_steps_stays(capsys, leaves, monkeypatch):
    """Somebody put an old checkpoint back, and pressed Ctrl-C."""
    run = ("train", "ddpm", "--data", leaves, "--steps", 6, "--batch", 8, "--save-every", 2, "--out", "run")
    with monkeypatch.context() as patch:
        interrupted(patch, 2)
        assert call(capsys, *run)[0] == 130
    old = Path("run/checkpoint.pt").read_bytes()
    assert call(capsys, "train", "ddpm", "--out", "run", "--resume")[0] == 0
    Path("run/checkpoint.pt").write_bytes(old)
    before = contents("run")
    interrupted(monkeypatch, 1)
    status, out, _ = call(capsys, "train", "ddpm", "--out", "run", "--resume")
    assert status == 130 and "model.safetensors' stays: it is this run after 6 steps" in out
    assert {**contents("run"), "checkpoint.pt": b""} == {**before, "checkpoint.pt": b""}


def test_a_second_press_still_says_how_to_go_on(capsys, leaves, monkeypatch):
    interrupted(monkeypatch, 2, presses=2)
    run = ("train", "ddpm", "--data", leaves, "--steps", 9, "--batch", 8, "--save-every", 1, "--out", "run")
    status, out, err = call(capsys, *run)
    assert status == 130 and err == "" and out.splitlines()[-1].startswith("Go on with: ")
    assert set(contents("run")) == {"run.json", "checkpoint.pt"}


def test_two_trainings_do_not_share_a_folder(capsys, leaves):
    run = ("train", "ddpm", "--data", leaves, "--steps", 2, "--batch", 8, "--out", "run")
    for more in ((), ("--resume",)):
        with sole_user(Path("run").absolute()) if more else contextlib.nullcontext():
            status, _, err = call(capsys, *run, *more)
            assert status == 2 * bool(more)
    assert err.count("\n") == 1 and "another training is at work in 'run'" in err
    assert call(capsys, *run, "--resume")[0] == 0


def test_trained_on_after_the_end_bit_for_bit(capsys, leaves, tmp_path, monkeypatch):
    """A warm restart, which may be cut off and resumed; the finished model is kept, and the card repeats it all."""
    run = ("train", "ddpm", "--data", leaves, "--batch", 8, "--save-every", 2, "--steps", 6, "--out")
    on = ("train", "ddpm", "--resume", "--save-every", 2, "--out")
    for name in ("whole", "cut"):
        call(capsys, *run, name)
    finished = Path("cut/model.safetensors").read_bytes()
    status, out, _ = call(capsys, *on, "whole", "--steps", 16)
    assert status == 0 and "Trained on from step 6 to 16: the learning rate climbs again" in out
    with monkeypatch.context() as patch:
        interrupted(patch, 3)
        status, out, _ = call(capsys, *on, "cut", "--steps", 16)
    assert status == 130 and "The model of 6 steps is kept as 'cut/model-6.safetensors'" in out
    assert Path("cut/model-6.safetensors").read_bytes() == finished and Path("cut/model-6.md").exists()
    assert read_card("cut")["steps"] == "9 of 16"
    status, out, _ = call(capsys, *on, "cut")
    assert status == 0 and "at step 9 of 16" in out and equal_runs(tmp_path / "whole", tmp_path / "cut")
    assert len(losses("cut")) == 16 and read_card("cut")["steps"] == "16"

    Path("leaves").symlink_to(leaves)
    for command in re.findall("`(.*?)`", read_card("cut")["command"]):
        typed = [{"cut": "again"}.get(word, word) for word in shlex.split(command)[3:]]
        assert call(capsys, *typed)[0] == 0
    assert equal_runs(tmp_path / "whole", tmp_path / "again")


def test_a_run_whose_rate_has_not_fallen_yet_just_becomes_longer(capsys, leaves, tmp_path, monkeypatch):
    run = ("train", "ddpm", "--data", leaves, "--batch", 8, "--save-every", 1, "--out")
    with monkeypatch.context() as patch:
        interrupted(patch, 4)
        call(capsys, *run, "cut", "--steps", 10)
    status, out, _ = call(capsys, "train", "ddpm", "--out", "cut", "--resume", "--steps", 18)
    assert status == 0 and "18 steps in all, as if it had been begun so" in out
    call(capsys, *run, "whole", "--steps", 18)
    assert equal_runs(tmp_path / "whole", tmp_path / "cut")
    assert read_card("cut")["command"] == read_card("whole")["command"].replace("--out whole", "--out cut")


def test_minutes_more(capsys, leaves):
    """After the end, whatever it was begun with; before it, the same minutes mean the run as it was planned."""
    run = ("train", "classifier", "--data", leaves, "--batch", 8, "--minutes", 0.001, "--out", "run")
    call(capsys, *run)
    before = json.loads(Path("run/run.json").read_text())["steps"]
    status, out, _ = call(capsys, *run, "--resume")
    after = json.loads(Path("run/run.json").read_text())["steps"]
    assert status == 0 and after > before and ("Trained on from" in out or "steps in all" in out)
    assert read_card("run")["steps"] == f"{after:,}" and len(losses("run")) == after


@pytest.fixture
def project(tmp_path, leaves) -> Path:
    """A folder with images of its own."""
    shutil.copytree(leaves, tmp_path / "project" / "leaves")
    return tmp_path / "project"


def test_a_run_goes_on_when_its_images_have_moved(capsys, leaves, tmp_path, project, monkeypatch):
    run = ("train", "ddpm", "--data", project / "leaves", "--steps", 8, "--batch", 8, "--save-every", 1, "--out")
    call(capsys, *run, "whole")
    with monkeypatch.context() as patch:
        interrupted(patch, 3)
        call(capsys, *run, "cut")
    (project / "leaves").rename(tmp_path / "new name")
    status, _, err = call(capsys, "train", "ddpm", "--out", "cut", "--resume")
    assert status == 2 and err.count("\n") == 1 and "no longer in" in err and "--data" in err
    assert call(capsys, "train", "ddpm", "--out", "cut", "--resume", "--data", "new name")[0] == 0
    assert equal_runs(tmp_path / "whole", tmp_path / "cut")
    assert call(capsys, "train", "ddpm", "--out", "cut", "--resume", "--steps", 10)[0] == 0  # it knows the new place


def test_a_run_goes_on_when_the_whole_project_has_moved(capsys, tmp_path, project, monkeypatch):
    run = ("train", "ddpm", "--data", project / "leaves", "--steps", 8, "--batch", 8, "--save-every", 1, "--out")
    call(capsys, *run, "whole")
    with monkeypatch.context() as patch:
        interrupted(patch, 3)
        call(capsys, *run, project / "runs" / "cut")
    project.rename(tmp_path / "elsewhere")
    assert call(capsys, "train", "ddpm", "--out", "elsewhere/runs/cut", "--resume")[0] == 0
    assert equal_runs(tmp_path / "whole", tmp_path / "elsewhere" / "runs" / "cut")


@pytest.mark.parametrize("out", ["run", "home/ada/run"])
def test_no_file_of_a_run_names_a_home(capsys, tmp_path, leaves, monkeypatch, out):
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "ada"))
    shutil.copytree(leaves, tmp_path / "home" / "ada" / "leaves")
    run = ("train", "ddpm", "--data", tmp_path / "home" / "ada" / "leaves", "--steps", 2, "--batch", 8)
    assert call(capsys, *run, "--out", tmp_path / out)[0] == 0
    for name, content in contents(out).items():
        assert b"home/ada" not in content and bytes(tmp_path) not in content, name
    assert "leaves" in read_card(out)["data"] and "--data leaves" in read_card(out)["command"]
    assert call(capsys, "train", "ddpm", "--out", tmp_path / out, "--resume", "--steps", 4)[0] == 0


def test_a_folder_that_cannot_be_written_is_said_before_the_training_goes_on(capsys, leaves, monkeypatch):
    call(capsys, "train", "ddpm", "--data", leaves, "--steps", 2, "--batch", 8, "--out", "run")

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied", "run")

    monkeypatch.setattr(tempfile, "TemporaryFile", closed)
    status, out, err = call(capsys, "train", "ddpm", "--out", "run", "--resume", "--steps", 4)
    assert status == 2 and out == "" and err.count("\n") == 1 and "Permission denied" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--seed", 1), "its --seed is 0, not 1"),
        (("--data", "digits"), "'run' was begun with other images: 36 of 1×28×28"),
        (("--labels",), "its --labels is not given, not given"),
        (("--steps", 2), "this run has made 3 steps; expected more than that in all, got 2"),
        (("--batch", 4), "its --batch is 8, not 4"),
        (("--size", 32), "its --size is 28, not 32"),
        (("--lr", 1), "its --lr is"),
    ],
    ids=lambda change: " ".join(map(str, change)) if isinstance(change, tuple) else "",
)
def test_resuming_as_something_else_is_refused(capsys, leaves, change, message):
    call(capsys, "train", "ddpm", "--data", leaves, "--steps", 3, "--batch", 8, "--out", "run")
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    status, _, err = call(capsys, "train", "ddpm", "--out", "run", "--resume", *change)
    assert status == 2 and err.count("\n") == 1 and message in err
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before


def test_a_run_is_never_overwritten(capsys, leaves):
    run = ("train", "ddpm", "--data", leaves, "--steps", 2, "--batch", 8, "--out", "run")
    call(capsys, *run)
    for gone in ("run.json", "checkpoint.pt"):  # whatever is left of it; and nobody is sent to what can't be done
        status, _, err = call(capsys, *run)
        assert status == 2 and err.count("\n") == 1 and "another --out" in err
        assert ("--resume" in err) is (call(capsys, "train", "ddpm", "--out", "run", "--resume")[0] == 0)
        Path("run", gone).unlink()
    assert call(capsys, *run)[0] == 2
    assert load_denoiser("run").card["steps"] == "2"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "run.json").unlink(), "no run in 'run'"),
        (lambda run: (run / "run.json").write_text("{"), "run.json' is damaged"),
        (lambda run: (run / "run.json").write_text("[]"), "run.json' is damaged"),
        (lambda run: (run / "run.json").write_text("{}"), "run.json' is damaged"),
        (lambda run: (run / "checkpoint.pt").write_bytes(b"PK"), "checkpoint.pt' is damaged"),
        (lambda run: shutil.rmtree(run), "no run in 'run'"),
    ],
)
def test_resuming_from_what_is_damaged(capsys, leaves, damage, message):
    call(capsys, "train", "ddpm", "--data", leaves, "--steps", 2, "--batch", 8, "--out", "run")
    damage(Path("run"))
    status, _, err = call(capsys, "train", "ddpm", "--out", "run", "--resume")
    assert status == 2 and err.count("\n") == 1 and message in err and "resume=False" not in err


# ------------------------------------------------------------------------------------------ full disks, and bad numbers


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 4 MB. Without the rights to mount one: None, and writing is made to fail instead."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True).returncode == 0
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing_that_was_there(capsys, tmp_path, leaves, full_disk, monkeypatch):
    """The disk fills up in mid-run: training goes on, the last checkpoint and model stay, and --resume finishes."""
    run = ("train", "ddpm", "--data", leaves, "--steps", 12, "--batch", 8, "--save-every", 2, "--out")
    assert call(capsys, *run, "whole")[0] == 0
    out = (full_disk or tmp_path) / "run"
    filler, save, sync, full = out / "filler", checkpoints.Saver.save, os.fsync, []

    def fill(saver, history):
        if len(history.steps) == 6:
            full.append(True)
            if full_disk:
                with pytest.raises(OSError, match="No space left"):
                    filler.write_bytes(bytes(10**7))
        return save(saver, history)

    def fsync(file):
        if full and not full_disk:
            raise OSError(28, "No space left on device")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Saver, "save", fill)
        patch.setattr(os, "fsync", fsync)
        status, said, err = call(capsys, *run, out)
    assert status == 1 and "No space left on device" in said and "could not be saved at step 6" in said
    assert err.count("\n") == 1 and "untouched" in err and "--resume" in err
    kept = torch.load(out / "checkpoint.pt", weights_only=True)
    assert len(kept["loss"]) == 4  # what was saved last, before the disk was full, and whole
    assert not [path for path in out.iterdir() if path.name.endswith(".part")]

    filler.unlink(missing_ok=True)
    status, said, _ = call(capsys, "train", "ddpm", "--out", out, "--resume")
    assert status == 0 and "at step 4 of 12" in said
    assert equal_runs(tmp_path / "whole", out)


def test_no_room_to_begin_names_the_place(capsys, leaves, models, monkeypatch):
    from course_utils.cli import sample

    def full(*_):
        raise OSError(28, "No space left on device")  # as a write says it, without a name

    monkeypatch.setattr(runs, "write_whole", full)
    monkeypatch.setattr(sample, "write_whole", full)
    status, _, err = call(capsys, "train", "ddpm", "--data", leaves, "--steps", 2, "--out", "run")
    assert (status, err) == (2, "train: 'run': No space left on device\n")
    status, _, err = call(capsys, "sample", models / "without", "-n", 1, "--steps", 1, "--out", "a.png")
    assert (status, err) == (2, "sample: 'a.png': No space left on device\n")


def test_a_full_disk_keeps_the_model_and_samples_of_before(capsys, leaves, monkeypatch):
    call(capsys, "train", "ddpm", "--data", leaves, "--steps", 2, "--batch", 8, "--out", "run")
    call(capsys, "sample", "run", "-n", 1, "--steps", 1, "--out", "run/mine.png")
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, _, err = call(capsys, "train", "ddpm", "--out", "run", "--resume")
    assert status == 1 and err.count("\n") == 1 and "No space left on device" in err
    status, _, err = call(capsys, "sample", "run", "-n", 1, "--steps", 1, "--seed", 9, "--out", "run/mine.png")
    assert status == 2 and err.count("\n") == 1 and "No space left on device" in err
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before


def test_a_loss_that_is_nan_stops_and_keeps_the_last_good_state(capsys, leaves, monkeypatch):
    whole = kinds.diffusion_loss

    def poisoned(*arguments, **options):
        loss, calls = whole(*arguments, **options), []

        def watched(model, x, y, generator):
            calls.append(1)
            return loss(model, x, y, generator) * (float("nan") if len(calls) == 9 else 1)

        return watched

    monkeypatch.setattr(kinds, "diffusion_loss", poisoned)
    run = ("train", "ddpm", "--data", leaves, "--steps", 20, "--batch", 8, "--save-every", 4, "--out", "run")
    status, _, err = call(capsys, *run)
    assert status == 1 and err.count("\n") == 1 and "the loss became nan in step 9 of 20" in err and "--lr" in err
    assert "Traceback" not in err
    assert len(torch.load("run/checkpoint.pt", weights_only=True)["loss"]) == 8
    assert all(weight.isfinite().all() for weight in weights_of(Path("run")))
    card = load_denoiser("run").card
    assert card["steps"] == "8 of 20" and np.isfinite(card["on the test split"]["loss"])


def test_a_learning_rate_that_blows_up_is_one_line(capsys, leaves):
    run = ("train", "ddpm", "--data", leaves, "--steps", 60, "--batch", 8, "--lr", 1e30, "--out", "run")
    status, _, err = call(capsys, *run)
    assert status == 1 and re.search("became (nan|inf)", err) and "smaller --lr" in err and err.count("\n") == 1


# --------------------------------------------------------------------------------------------------------------- sample


def drawn(capsys, *arguments) -> dict[str, np.ndarray]:
    status, _, err = call(capsys, "sample", *arguments, "--out", "x.npz")
    assert status == 0, err
    return dict(np.load("x.npz"))


def test_npz_holds_floats_in_the_range_of_images(capsys, models):
    content = drawn(capsys, models / "without", "-n", 5, "--steps", 4)
    images = content["images"]
    assert content.keys() == {"images"} and images.shape == (5, 1, 28, 28) and images.dtype == np.float32
    assert -1 <= images.min() < images.max() <= 1 and images.std() > 0.01
    assert len({image.tobytes() for image in images}) == 5


def test_seeds_decide_the_samples(capsys, models):
    for eta in (0, 0.5, 1):
        how = (models / "with", "-n", 3, "--steps", 5, "--eta", eta, "--seed")
        a, b, c = (drawn(capsys, *how, seed)["images"] for seed in (0, 0, 1))
        assert np.array_equal(a, b) and not np.array_equal(a, c)
    assert not np.array_equal(a, drawn(capsys, models / "with", "-n", 3, "--steps", 5, "--seed", 1)["images"])


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_image_k_of_a_seed_is_image_k_however_many_are_drawn(capsys, models, monkeypatch, name):
    eta = ("--eta", 1) if "eta" in samplers.options_of(name) else ()
    how = (models / "with", "--steps", 4, "--label", 1, "--sampler", name, *eta, "--seed", 5, "-n")
    many = drawn(capsys, *how, 7)["images"]
    monkeypatch.setattr(drawing, "PIECE", 3)
    for n in (1, 2, 5, 7):  # kernels for batches of another size round otherwise
        np.testing.assert_allclose(drawn(capsys, *how, n)["images"], many[:n], atol=0.05)
    assert np.abs(many[3:6] - many[:3]).mean() > 0.1  # and no piece repeats another


def test_sampling_in_pieces_gives_as_many_images(capsys, models, monkeypatch):
    whole = drawn(capsys, models / "with", "-n", 7, "--steps", 3, "--label", 1)
    monkeypatch.setattr(drawing, "PIECE", 3)
    pieces = drawn(capsys, models / "with", "-n", 7, "--steps", 3, "--label", 1)
    # Kernels for batches of another size round otherwise.
    np.testing.assert_allclose(pieces["images"], whole["images"], atol=0.05)
    assert pieces["labels"].tolist() == [1] * 7


def test_labels_by_name_and_number(capsys, models):
    how = (models / "with", "-n", 2, "--steps", 3)
    by_number, by_name = drawn(capsys, *how, "--label", 1), drawn(capsys, *how, "--label", "OAK")
    assert np.array_equal(by_number["images"], by_name["images"])
    assert by_number["labels"].tolist() == [1, 1] and by_number["labels"].dtype == np.int64
    others = [drawn(capsys, *how, "--label", "maple")["images"], drawn(capsys, *how)["images"]]
    assert not any(np.array_equal(by_name["images"], other) for other in others)
    assert "labels" not in drawn(capsys, *how)


def test_guidance_goes_on_from_any_image_through_the_class(capsys, models):
    """After one stride the images are the guesses: x̂_any + w · (x̂_y − x̂_any), clipped, in bfloat16 or float32."""
    how = (models / "with", "-n", 2, "--steps", 1)
    any_, one = drawn(capsys, *how)["images"], drawn(capsys, *how, "--label", 1)["images"]
    assert np.array_equal(drawn(capsys, *how, "--label", 1, "--guidance", 1)["images"], one)
    assert np.array_equal(drawn(capsys, *how, "--label", 1, "--guidance", 0)["images"], any_)
    beyond = drawn(capsys, *how, "--label", 1, "--guidance", 3)["images"]
    free = (abs(any_) < 0.99) & (abs(one) < 0.99)
    assert free.mean() > 0.1
    np.testing.assert_allclose(beyond[free], np.clip(any_ + 3 * (one - any_), -1, 1)[free], atol=0.05)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_sampler_that_is_asked_for(capsys, models, eta):
    """The command's images are the library's, from the same noise, in bfloat16 or float32; a GIF takes the same way."""
    how = (models / "with", "-n", 2, "--steps", 5, "--eta", eta, "--label", 1)
    plain, solved = drawn(capsys, *how)["images"], drawn(capsys, *how, "--sampler", "dpm-solver")["images"]
    assert np.array_equal(drawn(capsys, *how, "--sampler", "ddim")["images"], plain)
    assert np.abs(plain - solved).mean() > 0.01
    denoiser, y = load_denoiser(models / "with"), torch.tensor([1, 1])
    chance = generators(0, 2)
    noise = normal_like(torch.empty(2, 1, 28, 28), chance)
    own = last(dpm_solver(clipped(denoiser), denoiser.schedule, noise, 5, y, eta, chance))
    assert np.abs(own.numpy() - solved).mean() < 0.01
    call(capsys, "sample", *how, "--sampler", "dpm-solver", "--out", "way.gif")
    call(capsys, "sample", *how, "--sampler", "dpm-solver", "--out", "end.png")
    trajectory_frames = Image.open("way.gif")
    trajectory_frames.seek(trajectory_frames.n_frames - 1)
    assert (
        np.abs(np.asarray(trajectory_frames.convert("L"), float) - np.asarray(Image.open("end.png"), float)).max() <= 1
    )


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_every_sampler_that_is_offered(capsys, models, name):
    """Its images are the library's, from the same noise; where it has no η, one that was typed is refused."""
    how = (models / "without", "-n", 2, "--steps", 4, "--sampler", name)
    images = drawn(capsys, *how)["images"]
    denoiser, chance = load_denoiser(models / "without"), generators(0, 2)
    noise = normal_like(torch.empty(2, 1, 28, 28), chance)
    sampler = getattr(sampling, name.replace("-", "_"))
    draws = {"generator": chance} if name in ("ddim", "ddpm", "dpm-solver") else {}
    own = last(sampler(clipped(denoiser), denoiser.schedule, noise, 4, **draws))
    assert np.abs(own.clamp(-1, 1).numpy() - images).mean() < 0.01
    status, _, err = call(capsys, "sample", *how, "--eta", 0.5, "--out", "x.npz")
    if name in ("ddim", "dpm-solver"):
        assert status == 0
    else:
        assert status == 2 and err.count("\n") == 1 and f"--eta: {name} has no such choice" in err


def test_a_sampler_that_is_not_made_for_a_schedule_is_one_line(capsys, tmp_path):
    denoiser = Denoiser(tiny("ddpm", (1, 28, 28), None), defaults.schedule("linear, zero terminal SNR", 100), "v")
    save(tmp_path / "zero" / "model.safetensors", denoiser, {}, ())
    status, _, err = call(capsys, "sample", "zero", "-n", 1, "--steps", 2, "--sampler", "heun", "--out", "x.png")
    assert status == 2 and err.count("\n") == 1 and "use ddim or dpm_solver" in err and not Path("x.png").exists()


def test_a_distilled_model_is_drawn_in_the_strides_that_it_is_made_for(capsys, tmp_path):
    denoiser = Denoiser(tiny("ddpm", (1, 28, 28), None), defaults.schedule("cosine", 100), "v")
    save(tmp_path / "quick.safetensors", denoiser, {"strides": 2}, ())
    for typed, steps in (((), 2), (("--steps", 3), 3)):
        status, out, _ = call(capsys, "sample", "quick.safetensors", "-n", 1, *typed, "--out", "few.npz")
        assert status == 0 and f"{steps} steps each" in out


def test_every_sampler_is_in_the_help(capsys):
    _, out, _ = call(capsys, "sample", "--help")
    assert all(f"{name} ({text})" in " ".join(out.split()) for name, text in samplers.SAMPLERS.items())


def test_a_name_that_looks_like_a_number_is_a_name():
    assert [number_of(wanted, ("1", "0", "seven")) for wanted in ("1", "0", "2", "Seven")] == [0, 1, 2, 2]


def test_png_is_a_grid(capsys, models):
    status, out, _ = call(capsys, "sample", models / "with", "-n", 5, "--steps", 2, "--out", "new/grid.PNG")
    picture = Image.open("new/grid.PNG")
    assert status == 0 and picture.format == "PNG" and picture.mode == "L"
    assert picture.size == (4 * (3 * 30 - 2), 4 * (2 * 30 - 2)) and "5 images" in out and "grid.PNG" in out
    pixels = np.asarray(picture)
    assert (pixels[:, 4 * 28 : 4 * 30] == 255).all() and (pixels[4 * 30 :, 4 * 60 :] == 255).all()  # gap, and no sixth
    expected = drawn(capsys, models / "with", "-n", 5, "--steps", 2)["images"]
    np.testing.assert_allclose(pixels[: 4 * 28 : 4, : 4 * 28 : 4], (expected[0, 0] + 1) * 127.5, atol=0.51)


def test_gif_shows_the_way_from_noise_to_images(capsys, models):
    assert call(capsys, "sample", models / "with", "-n", 4, "--steps", 7, "--out", "way.gif")[0] == 0
    trajectory_frames = Image.open("way.gif")
    assert trajectory_frames.format == "GIF" and trajectory_frames.n_frames == 8 and trajectory_frames.info["loop"] == 0
    assert trajectory_frames.size == (4 * 58, 4 * 58)
    frames = []
    for k in range(trajectory_frames.n_frames):
        trajectory_frames.seek(k)
        frames.append((np.asarray(trajectory_frames.convert("L"), dtype=float), trajectory_frames.info["duration"]))
    assert frames[-1][1] == 1500 and frames[0][1] < 400
    call(capsys, "sample", models / "with", "-n", 4, "--steps", 7, "--out", "end.png")
    assert np.abs(frames[-1][0] - np.asarray(Image.open("end.png"), dtype=float)).max() <= 1
    assert np.abs(frames[0][0] - frames[-1][0]).mean() > 5


def test_a_long_way_has_a_hundred_frames(capsys, models):
    denoiser = load_denoiser(models / "with")
    frames = drawing.trajectory_frames(denoiser, 1, 100, most=20)
    assert len(frames) == 20 and np.array_equal(frames[0], drawing.trajectory_frames(denoiser, 1, 1)[0])
    assert len(drawing.trajectory_frames(denoiser, 1, 19, most=20)) == 20


def test_colour(tmp_path):
    x = torch.linspace(-1, 1, 6 * 3 * 5 * 7).reshape(6, 3, 5, 7)
    picture = drawing.picture(x)
    assert picture.shape == (4 * (2 * 7 - 2), 4 * (3 * 9 - 2), 3) and picture.dtype == np.uint8
    assert picture[0, 0].tolist() == ((x[0, :, 0, 0] + 1) * 127.5).round().byte().tolist()


# ------------------------------------------------------------------------------------------------------ wrong arguments

WRONG = {
    "sample": [
        ("{models}/nothing", "no model called"),
        ("{models}", "holds no model.safetensors"),
        ("{models}/broken.safetensors", "is damaged"),
        ("{models}/judge.safetensors", "holds a classifier; expected a diffusion model"),
        ("{models}/codes.safetensors", "holds an autoencoder for latent diffusion; expected a diffusion model"),
        ("{models}/with --label cat", "expected one of 0 Maple, 1 oak; got 'cat'"),
        ("{models}/with --label 2", "expected one of 0 Maple, 1 oak; got '2'"),
        ("{models}/with --label -1", "expected one of 0 Maple, 1 oak; got '-1'"),
        ("{models}/without --label 1", "trained without labels"),
        ("{models}/with --steps 101", "T = 100 steps; expected 1 to 100, got 101"),
        ("{models}/with --steps 0", "--steps: expected a whole number of at least 1, got '0'"),
        ("{models}/with --steps 2.5", "--steps: expected a whole number of at least 1, got '2.5'"),
        ("{models}/with -n 0", "-n: expected a whole number of at least 1, got '0'"),
        ("{models}/with -n many", "-n: expected a whole number"),
        ("{models}/with --sampler plms", "--sampler: invalid choice: 'plms' (choose from"),
        ("{models}/with --eta 1.1", "--eta: expected a number in [0, 1], got '1.1'"),
        ("{models}/with --eta nan", "--eta: expected a number in [0, 1], got 'nan'"),
        ("{models}/with --eta -0.1", "--eta: expected a number in [0, 1], got '-0.1'"),
        ("{models}/with --label 1 --guidance -1", "--guidance: expected a number of at least 0, got '-1'"),
        ("{models}/with --label 1 --guidance inf", "--guidance: expected a number of at least 0, got 'inf'"),
        ("{models}/with --guidance 3", "--guidance: leads to a class; say which with --label"),
        ("{models}/with --seed x", "--seed: expected a whole number, 0 to 2^63 - 1, got 'x'"),
        ("{models}/with --device meta", "--device: expected cpu, cuda, cuda:1 or mps, got 'meta'"),
        ("{models}/with -n 1000000000", "-n: 1,000,000,000 images take"),
        ("{models}/with --out a.jpg", "ends in .npz, .png or .gif, got 'a.jpg'"),
        ("{models}/with --out a", "ends in .npz, .png or .gif, got 'a'"),
        ("{models}/with --out file/a.png", "file"),
        ("{models}/with --out folder.png", "is a folder"),
        ("{models}/with -n 300 --out a.gif", "at most 256 images, got 300"),
        ("{models}/with --device abacus", "got 'abacus'"),
        ("", "required: CHECKPOINT"),
        ("{models}/with --loud", "unrecognized arguments: --loud"),
    ],
    "train": [
        ("vae", "invalid choice: 'vae'"),
        ("latent-ddpm --data {leaves}", "--autoencoder: latent-ddpm learns the codes of one; say which"),
        ("latent-ddpm --data {leaves} --autoencoder {models}/judge.safetensors", "expected an autoencoder"),
        (
            "latent-ddpm --data {leaves} --size 32 --autoencoder {models}/codes.safetensors",
            "--autoencoder: it looks at images of shape (1, 28, 28), these are (1, 32, 32)",
        ),
        ("ddpm --data {leaves} --autoencoder {models}/codes.safetensors", "--autoencoder is for latent-ddpm: it makes"),
        (
            "dcgan --data {leaves} --network dit",
            "--network is for ddpm and latent-ddpm: it says which network predicts",
        ),
        ("autoencoder --data {leaves} --labels", "an autoencoder takes no labels"),
        ("ddpm --data {leaves} --network dit --labels --conditioning plane", "leave it out with a dit"),
        ("ddpm --data {leaves} --network mlp", "invalid choice: 'mlp'"),
        ("", "required: MODEL"),
        ("ddpm --data fashin-mnist", "--data: unknown data set 'fashin-mnist'; did you mean 'fashion-mnist'?"),
        ("ddpm --data no/such/folder", "--data: no data set and no folder"),
        ("ddpm --data {empty}", "no image"),
        ("ddpm --data {leaves} --size 30", "expected 28, 32 or 64"),
        ("ddpm --data {leaves} --size big", "invalid int value: 'big'"),
        ("ddpm --data {leaves} --steps 0", "--steps: expected a whole number of at least 1"),
        ("ddpm --data {leaves} --minutes 0", "--minutes: expected a positive number, got '0'"),
        ("ddpm --data {leaves} --minutes inf", "--minutes: expected a positive number, got 'inf'"),
        ("ddpm --data {leaves} --minutes 1 --steps 3", "not allowed with argument"),
        ("ddpm --data {leaves} --batch 100000", "36 images to train on; expected at most that, got 100,000"),
        ("classifier --data {leaves} --evaluator {models}/judge.safetensors", "--evaluator is for ddpm"),
        ("ddpm --data {leaves} --batch 0", "--batch: expected a whole number of at least 1"),
        ("ddpm --data {leaves} --lr 0", "--lr: expected a positive number"),
        ("ddpm --data {leaves} --seed -1", "--seed: expected a whole number, 0 to 2^63 - 1, got '-1'"),
        ("ddpm --data {leaves} --seed 99999999999999999999", "--seed: expected a whole number, 0 to 2^63 - 1"),
        ("ddpm --data {leaves} --out=", "--out: expected the name of a folder"),
        ("ddpm --data {leaves} --device meta", "--device: expected cpu, cuda, cuda:1 or mps, got 'meta'"),
        ("ddpm --data {leaves} --out file", "file"),
        ("ddpm --data {leaves} --out file/run", "file"),
        ("ddpm --data {leaves} --device cuda:99", "'cuda:99' was asked for"),
        ("ddpm --data {leaves} --evaluator nothing", "no model called 'nothing'"),
        ("ddpm --data {leaves} --evaluator {models}/with", "expected a classifier"),
        ("ddpm --data {leaves} --resume --out nowhere", "no run in 'nowhere'"),
        ("classifier --data {leaves} --labels", "--labels is for ddpm"),
        ("noisy-classifier --data {leaves} --labels", "--labels is for ddpm"),
        ("dcgan --data {leaves} --labels", "a DCGAN takes no labels"),
        (
            "classifier --data {leaves} --evaluator {models}/judge.safetensors",
            "--evaluator is for ddpm, latent-ddpm and dcgan",
        ),
        ("ddpm --data {leaves} --conditioning plane", "--conditioning says how the classes come in"),
        ("classifier --data {leaves} --conditioning added", "--conditioning is for ddpm and latent-ddpm"),
        ("ddpm --data {leaves} --labels --conditioning beside", "invalid choice: 'beside'"),
    ],
}


@pytest.mark.parametrize(
    ("command", "arguments", "message"), [(command, *case) for command, cases in WRONG.items() for case in cases]
)
def test_a_wrong_argument_is_one_line_and_status_2(capsys, models, leaves, command, arguments, message):
    Path("file").touch()
    Path("folder.png").mkdir()
    Path("empty").mkdir()
    before = sorted(str(path) for path in Path().rglob("*"))
    typed = arguments.format(models=models, leaves=leaves, empty="empty").split()
    status, out, err = call(capsys, command, *typed)
    assert status == 2 and message in err and out == ""
    assert err.count("\n") == 1 and "Traceback" not in err
    left = [path for path in Path().rglob("*") if str(path) not in before and not path.is_dir()]
    assert left == []  # nothing half-made


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_closed_folder(capsys, models, leaves, tmp_path):
    tmp_path.chmod(0o500)
    for typed in (("sample", models / "with"), ("train", "ddpm", "--data", leaves, "--out", "run")):
        status, _, err = call(capsys, *typed)
        assert status == 2 and err.count("\n") == 1 and "Permission denied" in err
    tmp_path.chmod(0o700)


def test_a_folder_that_refuses_to_be_written(capsys, models, leaves, monkeypatch):
    """The same for root, who may write everywhere."""

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied", "run")

    monkeypatch.setattr(tempfile, "TemporaryFile", closed)
    for typed in (("sample", models / "with"), ("train", "ddpm", "--data", leaves, "--out", "run")):
        status, _, err = call(capsys, *typed)
        assert status == 2 and err.count("\n") == 1 and "Permission denied" in err


def test_a_data_set_that_cannot_be_had_is_not_replaced_in_silence(capsys, monkeypatch):
    from course_utils.data import DataUnavailable

    def unavailable(*_, **__):
        raise DataUnavailable("Fashion-MNIST can't be had.\nWhat to do:\n  ...")

    monkeypatch.setattr(train_command, "load", unavailable)
    status, _, err = call(capsys, "train", "ddpm", "--steps", 1)
    assert status == 2 and "can't be had" in err and "What to do" in err and "Traceback" not in err


# ----------------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("command", ["train", "sample"])
def test_help_has_examples_that_can_be_typed(capsys, command):
    status, out, _ = call(capsys, command, "--help")
    assert status == 0
    examples = re.findall(r"^  python -m course_utils (.*)$", out, flags=re.MULTILINE)
    assert len(examples) >= 4
    for example in examples:
        assert parser().parse_args(example.split()).command == command
    for name in re.findall(r"--[a-z-]+", getattr(options, f"{command.upper()}_EXAMPLES")):
        assert f"  {name}" in out


def test_help_gives_the_defaults_that_are_used(capsys):
    _, out, _ = call(capsys, "train", "--help")
    out = " ".join(out.split())
    assert f"training steps ({defaults.STEPS})" in out
    assert "images in a step (64, for classifiers 128)" in out
    assert "(0.01; dcgan and classifier 0.002, --network dit 0.004)" in out
    rates = {("dcgan", "unet"): 0.002, ("classifier", "unet"): 0.002}
    rates |= {("ddpm", "dit"): 0.004, ("latent-ddpm", "dit"): 0.004}
    for kind, network in [*((name, "unet") for name in kinds.KINDS), ("ddpm", "dit"), ("latent-ddpm", "dit")]:
        recipe = defaults.recipe(kind, 100, network=network)
        assert recipe.batch_size == (128 if "classifier" in kind else 64), kind
        assert recipe.lr == rates.get((kind, network), 0.01), kind
    _, out, _ = call(capsys, "sample", "--help")
    assert "(16)" in out and "(50)" in out and "(0)" in out


def test_what_can_be_typed_is_what_can_be_trained():
    assert list(options.MODELS) == list(kinds.KINDS)
    assert all(kind.makes in KINDS and kind.options <= set(kinds.OPTIONS) for kind in kinds.KINDS.values())


def test_help_does_not_wait_for_pytorch(root):
    code = "import sys; from course_utils.__main__ import parser; parser(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_as_a_program(root, models, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(root)}
    program = [sys.executable, "-m", "course_utils"]
    good = [*program, "sample", str(models / "with"), "-n", "2", "--steps", "2", "--out", str(tmp_path / "a.png")]
    done = subprocess.run(good, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and "2 images" in done.stdout
    done = subprocess.run([*good, "--steps", "101"], env=env, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    quiet = {**env, "COURSE_QUIET": "0", "CI": "", "NBGRADER_EXECUTION": ""}
    done = subprocess.run(good, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0 and "sampling: 100%" in done.stderr


# ---------------------------------------------------------------------------------------------------------------- files


def test_a_file_is_whole_old_or_new(tmp_path, monkeypatch):
    write_whole(tmp_path / "new" / "a", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_whole(tmp_path / "new" / "a", memoryview(b"new"))
    assert (tmp_path / "new" / "a").read_bytes() == b"old" and os.listdir(tmp_path / "new") == ["a"]
    write_whole(tmp_path / "new" / "a", b"new")
    assert (tmp_path / "new" / "a").read_bytes() == b"new"
