"""Models in files: what comes back, what a damaged or foreign file is told, and what is on the card."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from course_utils import weights
from course_utils.diffusion import Denoiser, cosine_schedule, linear_schedule, zero_terminal_snr
from course_utils.latent import LatentDenoiser
from course_utils.models import unet
from course_utils.models.autoencoder_kl import AutoencoderKL, set_scale
from course_utils.models.classifier import Classifier, NoisyClassifier
from course_utils.models.dcgan import Generator
from course_utils.models.dit import DiT
from course_utils.weights import (
    WeightsRefused,
    architecture,
    build,
    describe,
    load_autoencoder,
    load_classifier,
    load_denoiser,
    load_generator,
    load_latent_denoiser,
    load_noisy_classifier,
    read_card,
    save,
    shipped,
)

SHAPE = (1, 8, 12)
NAMES = ("boot", "bag", "coat")
LOAD = {
    "denoiser": load_denoiser,
    "latent-denoiser": load_latent_denoiser,
    "autoencoder": load_autoencoder,
    "generator": load_generator,
    "classifier": load_classifier,
    "noisy-classifier": load_noisy_classifier,
}


def network(**options) -> unet.UNet:
    """A small U-Net whose last layer is not zero, as it is before training."""
    torch.manual_seed(0)
    model = unet.UNet(SHAPE, **{"widths": (16, 24), "num_classes": 3} | options)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
    return model


def answers(denoiser: Denoiser) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(4, *denoiser.model.shape, generator=generator), torch.tensor([1, 300, 999, 1000])
    y = None if denoiser.model.num_classes is None else torch.tensor([0, 1, 2, 3])  # 3 is "any"
    return denoiser(x, t, y)


@pytest.fixture
def saved(tmp_path) -> Path:
    return save(tmp_path / "m.safetensors", Denoiser(network(), cosine_schedule(), "v"), {"seed": 7}, NAMES)


# --------------------------------------------------------------------------------------------------------- what returns


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_classes": None},
        {"conditioning": "plane"},
        {"block": unet.ConvNeXtBlock, "attention": unet.LinearAttention},
        {"attention": None, "blocks": 2, "patch": 1},
    ],
    ids=str,
)
def test_a_denoiser_comes_back_and_answers_the_same(tmp_path, options):
    schedule = zero_terminal_snr(linear_schedule(1000))
    before = Denoiser(network(**options).half().float().eval(), schedule, "x0")  # numbers that float16 holds exactly
    classes = () if options.get("num_classes", 3) is None else NAMES
    after = load_denoiser(save(tmp_path / "m.safetensors", before, {}, classes))
    assert torch.equal(answers(after), answers(before).detach())
    assert torch.equal(after.schedule.alpha_bar, schedule.alpha_bar) and after.schedule.name == schedule.name
    assert (after.prediction_type, after.shape, after.classes) == ("x0", SHAPE, classes)
    assert not after.training and not any(weight.requires_grad for weight in after.parameters())
    assert all(weight.dtype == torch.float32 for weight in after.parameters())


def test_what_float16_changes_is_small(tmp_path):
    before = Denoiser(network().eval(), cosine_schedule(), "v")
    after = load_denoiser(save(tmp_path / "m.safetensors", before, {}, NAMES))
    was, now = answers(before).detach(), answers(after)
    assert 0 < (now - was).abs().max() < 3e-3 * was.abs().max()


def test_a_number_too_large_for_float16_is_kept_in_float32(tmp_path):
    model = network()
    nn.init.constant_(model.stem.bias, 1e5)
    path = save(tmp_path / "m.safetensors", Denoiser(model, cosine_schedule()), {}, NAMES)
    assert load_denoiser(path).model.stem.bias[0] == 1e5
    assert load_file(path)["stem.weight"].dtype == torch.float16


def stirred(model: nn.Module) -> nn.Module:
    """Weights that float16 holds exactly, none of them 0."""
    torch.manual_seed(0)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
        weight.data = weight.data.half().float()
    return model.eval()


def test_a_transformer_comes_back_as_a_denoiser(tmp_path):
    before = Denoiser(stirred(DiT(SHAPE, width=16, depth=2, heads=2, num_classes=3)), cosine_schedule(), "noise")
    path = save(tmp_path / "m.safetensors", before, {}, NAMES)
    assert torch.equal(answers(load_denoiser(path)), answers(before).detach())
    assert "| network | DiT(width=16, depth=2, heads=2, patch=4) |" in describe(path)


def autoencoder() -> AutoencoderKL:
    model = stirred(AutoencoderKL(SHAPE, channels=2, widths=(4, 8)))
    set_scale(model, torch.randn(20, *SHAPE, generator=torch.Generator().manual_seed(2)))
    return model.half().float()


def test_an_autoencoder_comes_back_with_its_scale(tmp_path):
    before = autoencoder()
    path = save(tmp_path / "a.safetensors", before, {"seed": 3})
    after, x = load_autoencoder(path), torch.randn(5, *SHAPE)
    assert torch.equal(after.codes(x), before.codes(x)) and torch.equal(after(x), before(x)) and before.scale != 1
    assert after.card["seed"] == 3 and "\nAn autoencoder for latent diffusion.\n" in describe(path)
    assert "holds an autoencoder for latent diffusion; expected a diffusion model." in refused(path)


def test_a_latent_denoiser_comes_back_with_its_autoencoder_in_one_file(tmp_path):
    model = stirred(unet.UNet((2, 2, 3), widths=(16,), patch=1, num_classes=3))
    before = LatentDenoiser(model, cosine_schedule(), autoencoder(), "x0")
    path = save(tmp_path / "m.safetensors", before, {"seed": 3}, NAMES)
    after, codes = load_latent_denoiser(path), torch.randn(5, 2, 2, 3)
    assert torch.equal(answers(after), answers(before).detach()) and after.prediction_type == "x0"
    assert torch.equal(after.decode(codes), before.decode(codes)) and after.decode(codes).shape == (5, *SHAPE)
    assert (after.shape, after.image_shape, after.classes) == ((2, 2, 3), SHAPE, NAMES)
    assert not any(weight.requires_grad or after.training for weight in after.parameters())
    assert "| images | 1 × 8 × 12 " in describe(path)
    assert "| codes | 2 × 2 × 3, by an AutoencoderKL(channels=2, widths=(4, 8)) that lies in" in describe(path)
    assert "holds a diffusion model of codes, with their autoencoder; expected a diffusion model." in refused(path)
    with pytest.raises(ValueError, match=r"a model of codes of shape \(2, 2, 3\), .* got one of \(1, 8, 12\)"):
        LatentDenoiser(network(), cosine_schedule(), autoencoder())


def test_a_latent_denoiser_that_lost_its_autoencoder_is_refused(tmp_path):
    model = stirred(unet.UNet((2, 2, 3), widths=(16,), patch=1))
    path = save(tmp_path / "m.safetensors", LatentDenoiser(model, cosine_schedule(), autoencoder()), {})
    tensors, card = load_file(path), read_card(path)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("autoencoder.decoder")}
    save_file(kept, path, {"course_utils": json.dumps(card)})
    assert "its weights are not those that were written" in refused(path, load_latent_denoiser)
    card["checksum"] = weights._checksum(kept)
    save_file(kept, path, {"course_utils": json.dumps(card)})
    assert "does not fit the UNet" in refused(path, load_latent_denoiser)


def test_a_classifier_comes_back_with_its_running_averages(tmp_path):
    torch.manual_seed(0)
    model = Classifier(SHAPE, num_classes=3, size=8, width=4)
    model(torch.randn(16, *SHAPE))  # moves BatchNorm's averages
    model.half().float().eval()
    after = load_classifier(save(tmp_path / "c.safetensors", model, {"seed": 1}, NAMES))
    x = torch.randn(5, *SHAPE)
    assert torch.equal(after(x), model(x).detach()) and torch.equal(after.features(x), model.features(x).detach())
    assert after.classes == NAMES and after.card["seed"] == 1 and not after.training


def test_a_generator_comes_back(tmp_path):
    torch.manual_seed(0)
    model = Generator(SHAPE, latent=3, widths=(4, 8)).half().float().eval()
    after = load_generator(save(tmp_path / "g.safetensors", model, {"steps": 7}))
    z = torch.randn(5, 3)
    assert torch.equal(after(z), model(z)) and after.card["steps"] == 7 and not after.training
    assert torch.equal(
        after.sample(5, torch.Generator().manual_seed(1)),
        model(torch.randn(5, 3, generator=torch.Generator().manual_seed(1))),
    )
    assert "\nThe generator of a GAN.\n" in describe(tmp_path / "g.safetensors")
    with pytest.raises(WeightsRefused, match="holds the generator of a GAN; expected a diffusion model"):
        load_denoiser(tmp_path / "g.safetensors")


def test_a_noisy_classifier_comes_back_with_its_schedule(tmp_path):
    torch.manual_seed(0)
    model, schedule = NoisyClassifier((1, 8, 12), num_classes=3, widths=(8, 12)).half().float(), linear_schedule(50)
    path = save(tmp_path / "c.safetensors", model, {"seed": 1}, NAMES, schedule)
    after, x, t = load_noisy_classifier(path), torch.randn(3, *SHAPE), torch.tensor([1, 20, 50])
    assert torch.equal(after(x, t), model(x, t).detach()) and torch.equal(after.schedule.alpha_bar, schedule.alpha_bar)
    assert after.classes == NAMES and after.card["seed"] == 1 and not after.training
    assert "| schedule | linear, T = 50 |" in describe(path) and "classifier of noisy images" in describe(path)
    assert "holds a classifier of noisy images; expected a classifier." in refused(path, load_classifier)
    with pytest.raises(ValueError, match="save expects a schedule with a NoisyClassifier"):
        save(path, model, {}, NAMES)
    with pytest.raises(ValueError, match="save expects 3 names of classes, got 2"):
        save(path, model, {}, NAMES[:2], schedule)


def test_a_folder_stands_for_the_model_in_it(tmp_path):
    save(tmp_path / "run" / "model.safetensors", Denoiser(network(), cosine_schedule()), {}, NAMES)
    assert load_denoiser(tmp_path / "run").classes == load_denoiser(str(tmp_path / "run")).classes == NAMES


def test_an_architecture_survives_json():
    model = network(block=unet.ConvNeXtBlock)
    about = json.loads(json.dumps(architecture(model)))
    assert repr(build(about)) == repr(model)


# ------------------------------------------------------------------------------------------------------ what is refused


def refused(path, load=load_denoiser) -> str:
    with pytest.raises(WeightsRefused) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_bit_may_flip(saved):
    content = bytearray(saved.read_bytes())
    for place in (-1, -1000, len(content) // 2):
        flipped = bytearray(content)
        flipped[place] ^= 1
        saved.write_bytes(flipped)
        assert "damaged" in refused(saved)


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.999])
def test_a_file_that_ends_early_is_damaged(saved, keep):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    assert "is damaged" in refused(saved)


def test_other_files_are_told_apart(tmp_path, saved):
    (tmp_path / "notes.safetensors").write_text("hello")
    assert "not a safetensors file" in refused(tmp_path / "notes.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    assert "no card" in refused(tmp_path / "foreign.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "broken.safetensors", {"course_utils": "{"})
    assert "its card can't be read" in refused(tmp_path / "broken.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "later.safetensors", {"course_utils": '{"format": 2, "kind": "x"}'})
    assert "later version" in refused(tmp_path / "later.safetensors")
    torch.save({}, tmp_path / "checkpoint.pt")
    assert "give the folder" in refused(tmp_path / "checkpoint.pt")


def test_a_card_that_does_not_fit_its_weights(tmp_path, saved):
    tensors, card = load_file(saved), read_card(saved)
    card["config"]["widths"] = [16, 32]
    save_file(tensors, saved, {"course_utils": json.dumps(card)})
    assert "does not fit the UNet" in refused(saved)
    card["config"] |= {"widths": [16, 24], "wings": 2}
    save_file(tensors, saved, {"course_utils": json.dumps(card)})
    assert "does not fit the UNet" in refused(saved)


def test_a_model_of_another_kind(tmp_path, saved):
    assert "holds a diffusion model; expected a classifier" in refused(saved, load_classifier)
    path = save(tmp_path / "c.safetensors", Classifier(SHAPE, 3, 8, 4), {}, NAMES)
    assert "holds a classifier; expected a diffusion model" in refused(path)


def test_names_that_lead_nowhere(tmp_path, monkeypatch, saved):
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "with-the-course")
    path = tmp_path / "with-the-course" / "clothes.safetensors"
    save(path, Denoiser(network(), cosine_schedule()), {}, NAMES)
    assert shipped() == ["clothes"] and load_denoiser("clothes").classes == NAMES
    assert "did you mean 'clothes'" in refused("cloths") and "one of clothes" in refused("nothing")
    assert "holds no model.safetensors" in refused(tmp_path)
    (tmp_path / "checkpoint.pt").touch()
    assert "--resume" in refused(tmp_path)
    if os.geteuid():  # root may read everything
        path.chmod(0)
        assert "could not be read" in refused("clothes")


def test_a_shipped_classifier_goes_by_the_name_of_its_data(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    save(tmp_path / "clothes.safetensors", Denoiser(network(), cosine_schedule()), {}, NAMES)
    save(tmp_path / "clothes-classifier.safetensors", Classifier(SHAPE, 3, 8, 4), {}, NAMES)
    noisy = NoisyClassifier(SHAPE, 3, (8,))
    save(tmp_path / "clothes-noisy-classifier.safetensors", noisy, {}, NAMES, cosine_schedule())
    assert load_classifier("clothes").classes == load_classifier("clothes-classifier").classes == NAMES
    assert load_noisy_classifier("clothes").classes == NAMES
    assert load_denoiser("clothes").classes == NAMES


class OwnBlock(unet.ResidualBlock):
    pass


@pytest.mark.parametrize(
    ("model", "classes", "message"),
    [
        (network(block=OwnBlock), NAMES, "block is OwnBlock, which a file can't hold"),
        (network(), NAMES[:2], "expects 3 names of classes, got 2"),
        (network(num_classes=None), NAMES, "expects 0 names of classes, got 3"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path, model, classes, message):
    with pytest.raises(ValueError, match=message):
        save(tmp_path / "m.safetensors", Denoiser(model, cosine_schedule()), {}, classes)
    with pytest.raises(ValueError, match="ends in .safetensors"):
        save(tmp_path / "m.pt", Denoiser(network(), cosine_schedule()), {}, NAMES)
    assert os.listdir(tmp_path) == []


def test_a_model_that_is_not_the_librarys(tmp_path):
    with pytest.raises(ValueError, match="UNet, DiT, AutoencoderKL, Generator, Classifier or NoisyClassifier, got"):
        architecture(nn.Linear(2, 2))


def test_an_error_while_writing_loses_nothing(tmp_path, monkeypatch, saved):
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(saved, Denoiser(network(num_classes=None), linear_schedule()), {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_reading_runs_no_code(tmp_path, saved):
    """Names in a card are looked up among the library's own parts, and nowhere else."""
    tensors, card = load_file(saved), read_card(saved)
    card["config"]["block"] = f"__import__('os').mkdir('{tmp_path / 'sprung'}')"
    save_file(tensors, saved, {"course_utils": json.dumps(card)})
    assert "does not fit" in refused(saved) and not (tmp_path / "sprung").exists()


# ------------------------------------------------------------------------------------------------------------- the card


def test_the_card_says_what_the_file_says(saved):
    card = saved.with_suffix(".md").read_text()
    assert card == describe(saved) and card.startswith("# m\n")
    for part in ("| seed | 7 |", "cosine, T = 1000", "0 boot, 1 bag, 2 coat", "widths=(16, 24)", "1 × 8 × 12"):
        assert part in card
    assert read_card(saved)["seed"] == 7 and read_card(saved)["weights"] == sum(
        p.numel() for p in network().parameters()
    )


def test_the_card_says_in_which_units_it_was_measured(tmp_path):
    denoiser = Denoiser(network(num_classes=None), linear_schedule())
    for quality, units in (
        ({}, ()),
        ({"loss": 0.1}, ("loss: mean squared error per pixel",)),
        ({"loss": 0.1, "Fréchet distance": 2.0}, ("per pixel", "Fréchet distance: squared, of 1,000 samples")),
    ):
        card = describe(save(tmp_path / "m.safetensors", denoiser, {"on the test split": quality}))
        assert all(unit in card for unit in units) and ("| units |" in card) == bool(units)


# ------------------------------------------------------------------------------------------- models that come with us


@pytest.mark.parametrize("name", shipped())
def test_shipped_models_load_and_their_cards_are_up_to_date(name):
    card = read_card(name)
    model = LOAD[card["kind"]](name)
    assert all(weight.isfinite().all() for weight in model.parameters())
    assert (weights.SHIPPED / f"{name}.md").read_text() == describe(name)
    assert {"data", "steps", "seed", "command", "on the test split"} <= set(card)
    assert card["on the test split"]


def test_all_shipped_models_together_are_small(report):
    sizes = {name: (weights.SHIPPED / f"{name}.safetensors").stat().st_size for name in shipped()}
    report.append("shipped models: " + ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items()))
    assert sum(sizes.values()) < 12e6


def test_shipped_models_are_installed_with_the_library(tmp_path, root):
    """A normal install, of a copy, into a folder of its own: no link to the sources."""
    source, target = tmp_path / "source", tmp_path / "prediction_type"
    (source / "course_utils" / "shipped").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "course_utils/__init__.py"):
        (source / name).write_bytes((root / name).read_bytes())
    for name in ("some.safetensors", "some.md"):
        (source / "course_utils" / "shipped" / name).write_text("here")
    build = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, target], cwd=source, check=True, capture_output=True)
    names = zipfile.ZipFile(next(target.glob("*.whl"))).namelist()
    assert {"course_utils/shipped/some.safetensors", "course_utils/shipped/some.md"} <= set(names)


@pytest.mark.parametrize(("kind", "load"), [(kind, load) for kind, load in LOAD.items() if shipped(kind)])
def test_what_is_offered_can_be_loaded(kind, load):
    """Nobody is sent from a wrong name to a model of another kind."""
    with pytest.raises(WeightsRefused, match="no model called 'nothing'") as refusal:
        load("nothing")
    offered = re.search(r"or one of (.*)\.$", str(refusal.value))[1].split(", ")
    assert offered == shipped(kind) and set(offered) < set(shipped())
    for name in offered:
        assert read_card(name)["kind"] == kind and load(name).card["kind"] == kind
