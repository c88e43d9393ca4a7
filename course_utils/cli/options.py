"""The options of `train`, `sample` and `doctor`, with their help, and what `python -m classroom` shares with them.

`--help` is quick: nothing here waits for PyTorch.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import NoReturn

from .samplers import SAMPLERS

MODELS = {  # what `train` can train (course_utils/cli/kinds.py says how) -> what `--help` says of it
    "ddpm": "a diffusion model",
    "autoencoder": "images to small codes and back",
    "latent-ddpm": "a diffusion model of such codes: it needs --autoencoder",
    "dcgan": "the generator of a GAN",
    "classifier": "it judges what others draw",
    "noisy-classifier": "of noisy images: it guides a ddpm to a class",
}
TRAIN = """\
Train a model and keep it in a folder: its weights with a card, samples, the loss of every step, and a checkpoint.
Stop it at any time (Ctrl-C, or by pulling the plug) and go on later with --resume: the result is the same (on a CPU
with as many threads: bit for bit). A finished run goes on with --resume --steps N, N in all, or --resume --minutes M,
M more: the learning rate climbs and falls once more, and the model that was there is kept beside the new one.

The folder then holds
  model.safetensors  the averaged weights, for `sample` and for load_denoiser(...), load_generator(...), ...
  model.md           its card: data, steps, seed, command, measured quality
  samples.png        what it draws, or (autoencoder) images and what comes back of them
  loss.csv           step, loss
  run.json           what this run is: --resume reads it
  checkpoint.pt      everything that --resume needs; delete it when the run needs no more training
and with a latent-ddpm autoencoder.safetensors, a copy of the one whose codes it learns."""
TRAIN_EXAMPLES = """\
examples:
  python -m course_utils train ddpm --data digits --minutes 1
  python -m course_utils train ddpm --data fashion-mnist --labels --steps 5000 --out checkpoints/clothes
  python -m course_utils train ddpm --out checkpoints/clothes --resume
  python -m course_utils train ddpm --out checkpoints/clothes --resume --minutes 20
  python -m course_utils train ddpm --data ~/pictures/leaves --size 64 --minutes 30
  python -m course_utils train ddpm --network dit --minutes 30
  python -m course_utils train autoencoder --data fashion-mnist --minutes 5 --out checkpoints/codes
  python -m course_utils train latent-ddpm --data fashion-mnist --autoencoder checkpoints/codes --labels
  python -m course_utils train dcgan --data fashion-mnist --minutes 5
  python -m course_utils train classifier --data fashion-mnist
  python -m course_utils train noisy-classifier --data fashion-mnist --steps 3000"""
SAMPLE = "Draw images with a trained diffusion model, or with the generator of a GAN (one pass: no steps, no labels)."
SAMPLE_EXAMPLES = """\
examples:
  python -m course_utils sample checkpoints/clothes -n 64
  python -m course_utils sample checkpoints/clothes -n 16 --label sandal --out sandals.png
  python -m course_utils sample checkpoints/clothes -n 16 --label 8 --guidance 3 --out bags.png
  python -m course_utils sample checkpoints/clothes -n 16 --sampler dpm-solver --steps 10 --eta 1 --out soon.png
  python -m course_utils sample checkpoints/clothes -n 16 --out trajectory.gif
  python -m course_utils sample checkpoints/clothes -n 10000 --steps 100 --seed 1 --out many.npz

in Python, an .npz file is read by
  numpy.load("many.npz")["images"]        # (n, c, h, w), float32, in [-1, 1]"""

DEVICES = "cpu, cuda, cuda:1 or mps (COURSE_DEVICE, else a CUDA GPU, else cpu)"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (--help explains the options)", file=sys.stderr)
        raise SystemExit(2)


def number(expected: str, holds: Callable[[float], bool], kind: Callable = float) -> Callable:
    """A type for argparse: a number for which `holds` is true."""

    def read(text: str) -> int | float:
        try:
            value = kind(text.replace(",", ""))
        except ValueError:
            value = math.nan
        if not holds(value):  # false for nan
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return read


def whole(least: int) -> Callable:
    """A type for argparse: a whole number of at least `least`."""
    return number(f"a whole number of at least {least}", lambda value: value >= least, int)


def device(text: str) -> str:
    """A type for argparse: PyTorch knows more devices, on which nothing can be computed."""
    if text.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda, cuda:1 or mps, got {text!r}")
    return text


def folder(text: str) -> str:
    """A type for argparse: the name of a folder. (An empty one is mostly a shell's variable that isn't set.)"""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected the name of a folder, got an empty one")
    return text


seed = number("a whole number, 0 to 2^63 - 1", lambda value: 0 <= value < 2**63, int)
positive = number("a positive number", lambda value: 0 < value < math.inf)


def command(commands: argparse._SubParsersAction, name: str, short: str, text: str, examples: str) -> Parser:
    form = argparse.RawDescriptionHelpFormatter
    return commands.add_parser(name, help=short, description=text, epilog=examples, formatter_class=form)


def add_train(commands: argparse._SubParsersAction) -> Parser:
    """The command `train`. Options that weren't given are None: with --resume they come from the run's own record."""
    short = "train a diffusion model, an autoencoder, a GAN or a classifier"
    parser = command(commands, "train", short, TRAIN, TRAIN_EXAMPLES)
    add = parser.add_argument
    add("kind", metavar="MODEL", choices=MODELS, help=", ".join(f"{name} ({text})" for name, text in MODELS.items()))
    add("--data", metavar="SET", help="fashion-mnist, mnist, digits (needs no network, nor do shapes and two-photos, "
        "in colour), or a folder of images, one subfolder for each class (fashion-mnist)")  # fmt: skip
    add("--size", type=int, metavar="PIXELS", help="side of the images: 28, 32 or 64 (28, or that of --autoencoder)")
    add("--labels", action="store_true", default=None,
        help="ddpm, latent-ddpm: learn the classes too, so that you can ask for one; a tenth of the labels is left "
        "out while training, so that the model can also draw without")  # fmt: skip
    add("--conditioning", choices=("added", "plane"), help="with --labels, how the class comes in: added to the "
        "embedding of the step, or as a plane beside the input of each block (added)")  # fmt: skip
    add("--network", choices=("unet", "dit"), help="ddpm, latent-ddpm: a U-Net, or a transformer over patches (unet)")
    add("--autoencoder", metavar="MODEL", help="latent-ddpm: the autoencoder whose codes it learns (a folder, a file, "
        "or a model of the course)")  # fmt: skip
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=whole(1), metavar="N", help="training steps (2000)")
    length.add_argument("--minutes", type=positive, metavar="M",
                        help="train for about M minutes: the speed is measured first, and gives N")  # fmt: skip
    add("--batch", type=whole(1), metavar="B", help="images in a step (64, for classifiers 128)")
    add("--lr", type=positive, metavar="RATE", help="learning rate; it falls over the second half of the run "
        "(0.01; dcgan and classifier 0.002, --network dit 0.004)")  # fmt: skip
    add("--seed", type=seed, metavar="S", help="of first weights, order of images and noise (0)")
    add("--out", type=folder, metavar="DIR", help="the folder (checkpoints/MODEL-SET)")
    add("--resume", action="store_true", help="go on with the run in DIR, to its end; with --steps or --minutes also "
        "beyond it; with --data where its images have moved")  # fmt: skip
    add("--evaluator", metavar="CLASSIFIER", help="ddpm, latent-ddpm, dcgan: also draw 1,000 images and put their "
        "Fréchet distance to the test split on the card, in the features of this classifier (a folder, a file, or a "
        "model of the course)")  # fmt: skip
    add("--save-every", type=whole(1), default=100, metavar="N", help="steps between checkpoints (100)")
    add("--device", type=device, metavar="DEVICE", help=DEVICES)
    return parser


def add_sample(commands: argparse._SubParsersAction) -> Parser:
    """The command `sample`."""
    parser = command(commands, "sample", "draw images with a trained model", SAMPLE, SAMPLE_EXAMPLES)
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="the folder of a run, a .safetensors file, or the name of a model "
        "that comes with the course")  # fmt: skip
    add("-n", type=whole(1), default=16, metavar="N", help="how many images (16)")
    add(
        "--steps",
        type=whole(1),
        metavar="K",
        help="steps from noise to image, 1 to T, or what a model is distilled for (50)",
    )
    each = ", ".join(f"{name} ({text})" for name, text in SAMPLERS.items())
    add("--sampler", choices=SAMPLERS, default="ddim", metavar="NAME", help=f"{each}; ddim if none is named")
    add("--eta", type=number("a number in [0, 1]", lambda eta: 0 <= eta <= 1), default=0.0, metavar="E",
        help="with ddim and dpm-solver: fresh noise in every step, from 0 (none) to 1 (as much as DDPM adds) "
        "(0)")  # fmt: skip
    add(
        "--seed",
        type=seed,
        default=0,
        metavar="S",
        help="same seed, same images, however many: image k of a seed is always image k (0)",
    )
    add("--label", metavar="C", help="a class, by name or number, for a model that was trained with --labels (any)")
    add("--guidance", type=number("a number of at least 0", lambda w: 0 <= w < math.inf), default=1.0, metavar="W",
        help="with --label: how far to go from any image towards the class; 0 ignores it, 1 is the model as it is, "
        "more exaggerates (1)")  # fmt: skip
    add("--out", default="samples.png", metavar="FILE", help="by its ending: .png a grid, .gif how the images come "
        "out of the noise, .npz numbers: float32 (n, c, h, w) in [-1, 1] (samples.png)")  # fmt: skip
    add("--device", type=device, metavar="DEVICE", help=DEVICES)
    return parser


def add_doctor(commands: argparse._SubParsersAction) -> Parser:
    """The command `doctor`."""
    return commands.add_parser("doctor", help="what this machine has, and what to do about what it lacks")
