"""Trained models in files: those that come with the course, and your own.

A model is one safetensors file: its weights, and in the header, as JSON, all that it takes to use it (how the network
is built, what it predicts, the schedule, the classes) and to judge it (data, steps, seed, command, measured quality).
The same, for people, stands beside it: `NAME.md`, its card. Reading a file runs no code from it.

>>> "nothing-like-it" in shipped()
False
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as as_safetensors
from torch import Tensor, nn

from .diffusion import Denoiser, Schedule
from .files import write_whole
from .latent import LatentDenoiser
from .models import unet
from .models.autoencoder_kl import AutoencoderKL
from .models.classifier import Classifier, NoisyClassifier
from .models.dcgan import Generator
from .models.dit import DiT

__all__ = [
    "WeightsRefused",
    "build",
    "describe",
    "load_autoencoder",
    "load_classifier",
    "load_denoiser",
    "load_generator",
    "load_latent_denoiser",
    "load_noisy_classifier",
    "read_card",
    "save",
    "shipped",
]

SHIPPED = Path(__file__).resolve().parent / "shipped"
ENDING = ".safetensors"
IN_A_FOLDER = f"model{ENDING}"  # what `train` leaves in the folder of a run
MODELS = {model.__name__: model for model in (unet.UNet, DiT, AutoencoderKL, Generator, Classifier, NoisyClassifier)}
PARTS = {part.__name__: part for part in (unet.ResidualBlock, unet.ConvNeXtBlock, unet.Attention, unet.LinearAttention)}
KINDS = {
    "denoiser": "a diffusion model",
    "latent-denoiser": "a diffusion model of codes, with their autoencoder",
    "autoencoder": "an autoencoder for latent diffusion",
    "generator": "the generator of a GAN",
    "classifier": "a classifier",
    "noisy-classifier": "a classifier of noisy images",
}
KIND_OF = {
    "UNet": "denoiser",
    "DiT": "denoiser",
    "AutoencoderKL": "autoencoder",
    "Generator": "generator",
    "Classifier": "classifier",
    "NoisyClassifier": "noisy-classifier",
}
ALPHA_BAR = "schedule.alpha_bar"  # beside the weights, so that the schedule comes back to the last bit
AUTOENCODER = "autoencoder."  # before the names of its weights, in the file of a diffusion model of its codes


class WeightsRefused(ValueError):
    """The file is missing, damaged, or holds another kind of model than the one that was asked for."""


# ---------------------------------------------------------------------------------------------------------------------
# Saving and loading
# ---------------------------------------------------------------------------------------------------------------------
def save(
    path: str | os.PathLike,
    model: Denoiser | AutoencoderKL | Generator | Classifier | NoisyClassifier,
    card: Mapping[str, Any],
    classes: Iterable[str] = (),
    schedule: Schedule | None = None,
) -> Path:
    """Write a trained model to `path` (.safetensors) and its card beside it (.md). Returns the path.

    model: a `Denoiser` around a `UNet` or a `DiT`, a `LatentDenoiser` (its autoencoder goes into the same file), an
        `AutoencoderKL`, a `Generator`, a `Classifier`, or a `NoisyClassifier` with the `schedule` of its noise;
    card: what there is to know about it, in numbers, words, lists and dictionaries, such as data, steps, seed, command,
    quality;  classes: their names, none for a model without.
    Floats are stored as float16: half the size, and harmless (measured: pixels of samples move by 0.0002 on average).
    Raises ValueError for a model that could not be built again from the file, OSError for a full disk (what was there
    stays).
    """
    network = model.model if isinstance(model, Denoiser) else model
    about = architecture(network)
    about = {"kind": KIND_OF[about["model"]], **about}
    if isinstance(model, Denoiser):
        about["prediction_type"], schedule = model.prediction_type, model.schedule
    if schedule is None and not isinstance(model, AutoencoderKL | Classifier | Generator):
        raise ValueError(
            "save expects a schedule with a NoisyClassifier, and a UNet or DiT inside a Denoiser, which has one."
        )
    if schedule is not None:
        about["schedule"] = {"name": schedule.name, "T": schedule.T}
    about["classes"] = [str(name) for name in classes]
    if len(about["classes"]) != (network.num_classes or 0):
        raise ValueError(f"save expects {network.num_classes or 0} names of classes, got {len(about['classes'])}.")
    beside = {} if schedule is None else {ALPHA_BAR: schedule.alpha_bar.cpu()}
    if isinstance(model, LatentDenoiser):
        about["kind"], about["autoencoder"] = "latent-denoiser", architecture(model.autoencoder)
        beside |= {AUTOENCODER + name: _small(tensor) for name, tensor in model.autoencoder.state_dict().items()}
    return _write(Path(path), network, {**about, **card}, beside)


def load_denoiser(name_or_path: str | os.PathLike, device: torch.device | str = "cpu") -> Denoiser:
    """A trained diffusion model, ready to sample: a denoiser (x_t, t, y=None) → x̂_0 in eval mode, without gradients.

    name_or_path: one of `shipped("denoiser")`, a .safetensors file, or a folder in which `train` left one.
    With it come `.schedule`, `.shape` (c, h, w), `.classes` (names; empty for a model without classes) and `.card`.
    A model with classes also knows the label `denoiser.model.null`, "any class"; it is taken where y is None.
    Raises WeightsRefused in one line.
    """
    network, schedule, _, about = _load(name_or_path, "denoiser", device)
    return _with_card(Denoiser(network, schedule, about["prediction_type"]).eval(), about)


def load_latent_denoiser(name_or_path: str | os.PathLike, device: torch.device | str = "cpu") -> LatentDenoiser:
    """A trained diffusion model of codes, as `load_denoiser` gives one of images; `.decode(codes)` makes images.

    name_or_path: as in `load_denoiser`; "fashion-mnist" means the shipped "fashion-mnist-latent-denoiser".
    """
    network, schedule, autoencoder, about = _load(name_or_path, "latent-denoiser", device)
    return _with_card(LatentDenoiser(network, schedule, autoencoder, about["prediction_type"]).eval(), about)


def load_autoencoder(name_or_path: str | os.PathLike, device: torch.device | str = "cpu") -> AutoencoderKL:
    """A trained autoencoder with its scale, in eval mode and without gradients; its card is in `.card`.

    name_or_path: as in `load_denoiser`; "fashion-mnist" means the shipped "fashion-mnist-autoencoder".
    """
    model, _, _, about = _load(name_or_path, "autoencoder", device)
    return _with_card(model, about)


def load_generator(name_or_path: str | os.PathLike, device: torch.device | str = "cpu") -> Generator:
    """A trained generator, in eval mode and without gradients: `.sample(n, generator)` draws images, codes (b,
    `.latent`) go in by hand; its card is in `.card`.

    name_or_path: as in `load_denoiser`; "fashion-mnist" means the shipped "fashion-mnist-generator".
    """
    model, _, _, about = _load(name_or_path, "generator", device)
    return _with_card(model, about)


def load_classifier(name_or_path: str | os.PathLike, device: torch.device | str = "cpu") -> Classifier:
    """A trained classifier, in eval mode and without gradients; the names of its classes in `.classes`, its card in
    `.card`.

    name_or_path: as in `load_denoiser`; "fashion-mnist" means the shipped "fashion-mnist-classifier".
    """
    model, _, _, about = _load(name_or_path, "classifier", device)
    return _with_card(model, about)


def load_noisy_classifier(name_or_path: str | os.PathLike, device: torch.device | str = "cpu") -> NoisyClassifier:
    """A trained classifier (x_t, t) → logits, as `load_classifier` gives one, and with it its `.schedule`.

    name_or_path: as in `load_denoiser`; "fashion-mnist" means the shipped "fashion-mnist-noisy-classifier".
    """
    model, model.schedule, _, about = _load(name_or_path, "noisy-classifier", device)
    return _with_card(model, about)


def shipped(kind: str | None = None) -> list[str]:
    """Names of the models that come with the course: all, or those of a kind.

    kind: one of `KINDS`, such as "denoiser", "generator" or "classifier".
    """
    paths = sorted(SHIPPED.glob(f"*{ENDING}"))
    return [path.stem for path in paths if kind is None or _header(path)["kind"] == kind]


def read_card(name_or_path: str | os.PathLike) -> dict[str, Any]:
    """What a file says of its model, without building the model. Raises WeightsRefused in one line."""
    return _header(_find(name_or_path))


# ---------------------------------------------------------------------------------------------------------------------
# How a network is built
# ---------------------------------------------------------------------------------------------------------------------
def architecture(model: nn.Module) -> dict[str, Any]:
    """A network as names and numbers: {"model": "UNet", "config": {"widths": [32, 64], ...}}.

    Raises ValueError for a network, or a part of one, that isn't the library's own.
    """
    name = type(model).__name__
    if MODELS.get(name) is not type(model):
        *others, last = MODELS
        raise ValueError(f"expected a model that can be built again, {', '.join(others)} or {last}, got {name}.")
    config = {}
    for key, value in model.config.items():
        if callable(value):
            part = getattr(value, "__name__", repr(value))
            if PARTS.get(part) is not value:
                raise ValueError(f"{name}: {key} is {part}, which a file can't hold; expected {', '.join(PARTS)}.")
            value = part
        config[key] = list(value) if isinstance(value, tuple) else value
    return {"model": name, "config": config}


def build(about: Mapping[str, Any]) -> nn.Module:
    """The network that `architecture` described, with new weights.

    >>> build({"model": "UNet", "config": {"shape": [1, 8, 8], "widths": [16]}}).shape
    (1, 8, 8)
    """
    config = {key: tuple(value) if isinstance(value, list) else value for key, value in about["config"].items()}
    for key in ("block", "attention"):
        if isinstance(config.get(key), str):
            config[key] = PARTS[config[key]]
    return MODELS[about["model"]](**config)


# ---------------------------------------------------------------------------------------------------------------------
# The file
# ---------------------------------------------------------------------------------------------------------------------
def _write(path: Path, model: nn.Module, about: dict[str, Any], beside: dict[str, Tensor]) -> Path:
    if path.suffix != ENDING:
        raise ValueError(f"expected a file name that ends in {ENDING}, got '{path}'.")
    tensors = {name: _small(tensor) for name, tensor in model.state_dict().items()} | beside
    build(about).load_state_dict({name: tensors[name] for name in model.state_dict()})  # what is written can be read
    about = {
        "format": 1,
        **about,
        "weights": sum(weight.numel() for weight in model.parameters()),
        "torch": torch.__version__,
        "checksum": _checksum(tensors),
    }
    content = as_safetensors(tensors, {"course_utils": json.dumps(about, ensure_ascii=False)})
    write_whole(path, content)
    write_whole(path.with_suffix(".md"), describe(path).encode())
    return path


def _small(tensor: Tensor) -> Tensor:
    """As float16, unless that would be infinite; whole numbers stay what they are. Row by row, as files want it."""
    tensor = tensor.detach().cpu().contiguous()
    half = tensor.half() if tensor.is_floating_point() else tensor
    return half if not half.is_floating_point() or bool(half.isfinite().all()) else tensor


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """Tells a flipped bit from a weight, which the format itself doesn't."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _find(name_or_path: str | os.PathLike, kind: str | None = None) -> Path:
    """The file that is meant; where there is none, those of this kind are offered."""
    if isinstance(name_or_path, str) and name_or_path in shipped():
        return SHIPPED / f"{name_or_path}{ENDING}"  # a folder of your own of that name is "./NAME"
    path = Path(name_or_path).expanduser()
    if path.is_dir() and (path / IN_A_FOLDER).exists():
        return path / IN_A_FOLDER
    if path.is_dir():
        waits = " (its checkpoint.pt is there: finish it with train --resume)" * (path / "checkpoint.pt").exists()
        raise WeightsRefused(f"the folder '{path}' holds no {IN_A_FOLDER}{waits}.")
    if path.is_file():
        return path
    known = shipped(kind)
    close = difflib.get_close_matches(str(name_or_path), known, n=1)
    raise WeightsRefused(
        f"no model called '{name_or_path}'"
        + (f"; did you mean '{close[0]}'?" if close else ".")
        + f" Expected a {ENDING} file, a folder that train wrote"
        + (f", or one of {', '.join(known)}." if known else ".")
    )


def _header(path: Path) -> dict[str, Any]:
    """The card in the header of a file, or WeightsRefused: can't be read, damaged, or not one of ours."""
    try:
        with safe_open(path, "pt") as file:
            card = (file.metadata() or {}).get("course_utils")
    except OSError as error:
        raise WeightsRefused(f"'{path}' could not be read ({error.strerror or error}).") from None
    except SafetensorError:
        hint = "; for sampling, give the folder that it lies in" if path.suffix == ".pt" else ""
        raise WeightsRefused(f"'{path}' is damaged, or not a safetensors file{hint}.") from None
    if card is None:
        raise WeightsRefused(f"'{path}' is a safetensors file, but not one of this course: it has no card.")
    try:
        card = json.loads(card)
        known = card["format"] == 1 and card["kind"] in KINDS and card["model"] in MODELS
    except (ValueError, LookupError, TypeError):
        raise WeightsRefused(f"'{path}' is damaged: its card can't be read.") from None
    if not known:
        raise WeightsRefused(f"'{path}' is of a later version of this course, which this one can't read.")
    return card


class Read(NamedTuple):
    """What a file holds: networks in eval mode and without gradients.

    schedule: the one it was trained with, if any;  autoencoder: of the codes that it knows, if it knows codes.
    """

    network: nn.Module
    schedule: Schedule | None
    autoencoder: AutoencoderKL | None
    about: dict[str, Any]


def _load(name_or_path: str | os.PathLike, kind: str, device: torch.device | str) -> Read:
    if isinstance(name_or_path, str) and f"{name_or_path}-{kind}" in shipped():
        name_or_path = f"{name_or_path}-{kind}"
    path = _find(name_or_path, kind)
    about = _header(path)
    if about["kind"] != kind:
        raise WeightsRefused(f"'{path}' holds {KINDS[about['kind']]}; expected {KINDS[kind]}.")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (a file is no dictionary)
    except (OSError, SafetensorError):
        raise WeightsRefused(f"'{path}' is damaged.") from None
    if _checksum(tensors) != about.get("checksum"):
        raise WeightsRefused(f"'{path}' is damaged: its weights are not those that were written.")
    alpha_bar = tensors.pop(ALPHA_BAR, None)
    of_autoencoder = {name: tensors.pop(name) for name in [*tensors] if name.startswith(AUTOENCODER)}
    try:
        network = _built(about, tensors, device)
        autoencoder = None
        if "autoencoder" in about:
            tensors = {name.removeprefix(AUTOENCODER): tensor for name, tensor in of_autoencoder.items()}
            autoencoder = _built(about["autoencoder"], tensors, device)
    except (RuntimeError, ValueError, TypeError, LookupError):
        raise WeightsRefused(f"'{path}' does not fit the {about['model']} of this version of the course.") from None
    schedule = None if alpha_bar is None else Schedule(alpha_bar, about["schedule"]["name"]).to(device)
    return Read(network, schedule, autoencoder, about)


def _built(about: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device | str) -> nn.Module:
    network = build(about)
    network.load_state_dict(tensors)  # float16 becomes what the model computes in, float32
    return network.to(device).eval().requires_grad_(False)


def _with_card(model: nn.Module, about: dict[str, Any]) -> nn.Module:
    model.classes, model.card = tuple(about["classes"]), about
    return model


# ---------------------------------------------------------------------------------------------------------------------
# The card
# ---------------------------------------------------------------------------------------------------------------------
def units(kind: str) -> dict[str, str]:
    """Of what is measured on the test split; an accuracy has none.

    >>> units("generator")["Fréchet distance"]
    'squared, of 1,000 samples, in the features of a classifier'
    """
    how = " (50 steps, η = 0)" if kind.endswith("denoiser") else ""
    return {
        "loss": f"mean squared error per {'number of a code' if kind == 'latent-denoiser' else 'pixel'} of what it "
        "predicts",
        "error": "mean squared error per pixel of what is encoded and decoded",
        "Fréchet distance": f"squared, of 1,000 samples{how}, in the features of a classifier",
    }


PREDICTED = {"noise": "the noise ε", "x0": "the clean image x₀", "v": "v", "velocity": "the velocity ε − x₀"}
HIDDEN = {"format", "kind", "model", "config", "weights", "torch", "checksum", "classes", "schedule", "prediction_type"}
HIDDEN |= {"autoencoder"}


def describe(name_or_path: str | os.PathLike) -> str:
    """The card of a model in Markdown, all of it from the file itself."""
    path = _find(name_or_path)
    card = _header(path)
    rows = {"network": _signature(card), "size": f"{card['weights']:,} weights, {path.stat().st_size / 1e6:.2f} MB"}
    rows |= _shapes(card) | {
        "classes": ", ".join(numbered(card["classes"])) or "none: it takes no labels",
    }
    if "prediction_type" in card:
        rows["predicts"] = PREDICTED[card["prediction_type"]]
    if "schedule" in card:
        rows["schedule"] = f"{card['schedule']['name']}, T = {card['schedule']['T']}"
    rows |= {key: _words(value) for key, value in card.items() if key not in HIDDEN}
    unit = units(card["kind"])
    said = [f"{key}: {unit[key]}" for key in card.get("on the test split", ()) if key in unit]
    rows |= {"units": "; ".join(said)} if said else {}
    rows["PyTorch"] = card["torch"]
    table = "\n".join(f"| {key} | {value} |".replace("\n", " ") for key, value in rows.items())
    title = path.stem if path.name != IN_A_FOLDER else path.parent.name or "model"
    kind = KINDS[card["kind"]]
    return f"# {title}\n\n{kind[0].upper()}{kind[1:]}.\n\n| | |\n|---|---|\n{table}\n"


def _signature(about: Mapping[str, Any]) -> str:
    """How a network is built: "UNet(widths=(32, 64), ...)"."""
    shown = {key: _words(value) for key, value in about["config"].items() if key not in ("shape", "num_classes")}
    return f"{about['model']}({', '.join(f'{key}={value}' for key, value in shown.items())})"


def _shapes(card: Mapping[str, Any]) -> dict[str, str]:
    """Rows on the images, and on their codes where a model works on those."""
    codes = {}
    if "autoencoder" in card:
        size = " × ".join(map(str, card["config"]["shape"]))
        codes = {"codes": f"{size}, by an {_signature(card['autoencoder'])} that lies in the same file"}
    c, h, w = card.get("autoencoder", card)["config"]["shape"]
    return {"images": f"{c} × {h} × {w} (channels, height, width), in [−1, 1]"} | codes


def numbered(classes: Iterable[str]) -> list[str]:
    """Names of classes with their numbers, where those aren't the names.

    >>> numbered(["bag", "1"])
    ['0 bag', '1']
    """
    return [name if name == str(i) else f"{i} {name}" for i, name in enumerate(classes)]


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_words, value))})"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)
