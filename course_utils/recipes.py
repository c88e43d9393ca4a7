"""The course's own diffusion model and how it is trained, in one place: chosen by measurement, not by habit.

Notebook 05, `python -m course_utils train ddpm`, the benchmark and the shipped models use these functions. What
each choice bought is measured in notebook 05, and with longer runs by `benchmarks/choices.py`.
"""

from collections.abc import Callable
from dataclasses import replace

from .diffusion import Schedule, cosine_schedule, diffusion_loss
from .models.dit import DiT
from .models.unet import UNet
from .training import Recipe

PREDICTION_TYPE = "v"  # ahead of x₀ after 3,000 steps, not told apart after 1,000: benchmarks/targets.py


def ddpm_model(
    shape: tuple[int, int, int],
    num_classes: int | None = None,
    widths: tuple[int, ...] = (32, 64),
    conditioning: str = "added",
) -> UNet:
    """The default U-Net for images of this shape (c, h, w), with untrained weights. See `UNet`.

    On a small budget more steps of a small network win over fewer of a large one.

    >>> ddpm_model((1, 28, 28), num_classes=10).shape
    (1, 28, 28)
    """
    return UNet(shape, widths=widths, num_classes=num_classes, conditioning=conditioning)


def ddpm_schedule(T: int = 1000) -> Schedule:
    """The cosine schedule of equation (3.5)."""
    return cosine_schedule(T)


def ddpm_recipe(steps: int, seed: int = 0, batch_size: int = 64, ema: float | None = 0.995) -> Recipe:
    """Muon for the filters, a rate that falls over the second half, averaged weights.

    steps: optimizer steps. Returns a `training.Recipe` for `fit`.

    >>> ddpm_recipe(1000).optimizer
    'muon'
    """
    return Recipe(
        steps=steps,
        batch_size=batch_size,
        optimizer="muon",
        lr=0.01,
        lr_schedule="linear-half",
        warmup=min(50, steps // 10),
        ema=ema,
        seed=seed,
    )


def ddpm_loss(schedule: Schedule, model: UNet) -> Callable:
    """Squared error in v at stratified steps; for a model with classes a tenth of the labels become "any"."""
    return diffusion_loss(schedule, PREDICTION_TYPE, null=model.null)


def dit_model(shape: tuple[int, int, int], num_classes: int | None = None, patch: int = 4) -> DiT:
    """The default transformer for images of this shape (c, h, w), or with patch=1 for codes: 1.2 million weights.

    >>> dit_model((3, 32, 32), num_classes=10).shape
    (3, 32, 32)
    """
    return DiT(shape, patch=patch, num_classes=num_classes)


def dit_recipe(steps: int, seed: int = 0, batch_size: int = 64, ema: float | None = 0.995) -> Recipe:
    """As `ddpm_recipe`, but with Adam: a transformer has no filters for Muon.

    After a minute on one thread (Fashion-MNIST, one seed each) the test loss was 0.277, 0.260 and 0.245 with rates of
    0.001, 0.002 and 0.004. Muon on its matrices, tried as well, was not told apart: 0.289 with 0.01, 0.237 with 0.03.

    >>> dit_recipe(1000).lr
    0.004
    """
    return replace(ddpm_recipe(steps, seed, batch_size, ema), optimizer="adam", lr=4e-3)


def latent_model(code_shape: tuple[int, int, int], num_classes: int | None = None, conditioning: str = "added") -> UNet:
    """The default U-Net for codes of this shape (c, h, w): no patches, and its wide level alone where a side is odd.

    >>> latent_model((4, 7, 7)).config["widths"], latent_model((4, 8, 8)).config["widths"]
    ((64,), (32, 64))
    """
    even = code_shape[1] % 2 == code_shape[2] % 2 == 0
    widths = (32, 64) if even else (64,)
    return UNet(code_shape, widths=widths, patch=1, num_classes=num_classes, conditioning=conditioning)


def autoencoder_recipe(steps: int, seed: int = 0, batch_size: int = 64, ema: float | None = 0.995) -> Recipe:
    """For `AutoencoderKL` and its loss, as `ddpm_recipe`: it too is made of filters."""
    return ddpm_recipe(steps, seed, batch_size, ema)


def dcgan_recipe(steps: int, seed: int = 0, batch_size: int = 64, ema: float | None = 0.995) -> Recipe:
    """For `adversarial.train_gan`: DCGAN's Adam (β₁ = 0.5), ten times its rate, which falls over the second half.

    DCGAN's own 0.0002 is made for long runs: after 800 steps the squared Fréchet distance was 89 with it and 45 with
    0.002 (one seed each, Fashion-MNIST). The generator's weights are averaged.

    >>> dcgan_recipe(1000).lr
    0.002
    """
    return Recipe(steps=steps, batch_size=batch_size, lr=2e-3, lr_schedule="linear-half", ema=ema, seed=seed)
