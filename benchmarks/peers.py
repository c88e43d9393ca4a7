"""What benchmarks/training.py compares: networks with the recipes that their authors use.

An `Entry` is a network and everything that decides its training. `tutorial`, `diffusers` and `lucidrains` make one
each; the course's own stands in training.py. All networks are called as model(x_t, t) with t in 1..T, and trained by
the course's `fit` and `diffusion_loss`, so that a difference between two rows is one of networks and recipes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.diffusion import Schedule, cosine_schedule, diffusion_loss, draw_steps, linear_schedule

PLAIN = {"batch_size": 128, "lr": 1e-3, "optimizer": "adam", "mixed_precision": False, "channels_last": False}
FAIR_PLAY = {"mixed_precision": None, "channels_last": True, "ema": 0.995}  # None: where the processor is made for it


@dataclass(frozen=True)
class Entry:
    """A network and how it is trained.

    name: the row's;  build: from an image's shape (c, h, w) to a new network;
    schedule, prediction_type, distance, weight, draw: of the noise and the loss, as in `diffusion_loss`;
    recipe: options of `fit`, without steps; its learning-rate schedule runs over the budget;
    own_loss: a loss for `fit` in place of the one that prediction_type, distance, weight and draw describe;
    choose_weights: judge both raw and averaged weights on a quarter of the samples, and go on with the better.
    """

    name: str
    build: Callable[[tuple[int, int, int]], nn.Module]
    schedule: Schedule
    prediction_type: str
    recipe: dict[str, Any]
    distance: str = "l2"
    weight: Callable[[Tensor], Tensor] | None = None
    draw: Callable = draw_steps
    own_loss: Callable | None = None
    choose_weights: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    def loss(self) -> Callable:
        """A loss for `fit`."""
        if self.own_loss is not None:
            return self.own_loss
        return diffusion_loss(self.schedule, self.prediction_type, self.distance, self.weight, self.draw)

    def facts(self) -> dict[str, Any]:
        """What decides the numbers, in a form that JSON can hold: two runs with the same facts are the same run."""
        facts = self.about | self.recipe | {"prediction_type": self.prediction_type, "distance": self.distance}
        facts |= {"schedule of noise": self.schedule.name, "T": self.schedule.T, "weighted": self.weight is not None}
        return {
            name: value
            if isinstance(value, (str, int, float, bool, type(None)))
            else getattr(value, "__name__", str(value))
            for name, value in facts.items()
        }

    def fair_play(self) -> Entry:
        """The same with what our recipe has from the machine: bfloat16 and channels-last; and, if it helps, our EMA."""
        return replace(self, name=f"{self.name}, fair play", recipe=self.recipe | FAIR_PLAY, choose_weights=True)


def independent_steps(n: int, T: int, generator: torch.Generator | None, device: torch.device | str) -> Tensor:
    """Steps as most libraries draw them: each image's by itself, uniform in 1..T. Returns (n,)."""
    return torch.randint(1, T + 1, (n,), generator=generator, device=device)


class CountingFromZero(nn.Module):
    """A network whose authors call the first noisy step 0, called as ours are, with t in 1..T."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        output = self.model(x, t - 1)
        return getattr(output, "sample", output)  # diffusers wraps its tensor


# ---------------------------------------------------------------------------------------------------------------------
# The tutorial's network, written anew
# ---------------------------------------------------------------------------------------------------------------------
class Waves(nn.Module):
    """Steps (b,) → (b, size) sines and cosines of wavelengths from 2π to 2π · 10,000, endpoints included."""

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("speed", torch.logspace(0, -4, size // 2), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None] * self.speed
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class WideConvNeXt(nn.Module):
    """The tutorial's ConvNeXt block: 7 × 7 per channel, the step added, then two *3 × 3* convolutions, `mult` wider.

    (Published ConvNeXt blocks have 1 × 1 there, a ninth of the multiplications.) embedding: its size, or None for a
    block that isn't told the step, such as the tutorial's last.
    """

    def __init__(self, in_channels: int, out_channels: int, embedding: int | None, mult: int = 2):
        super().__init__()
        self.step = None if embedding is None else nn.Sequential(nn.GELU(), nn.Linear(embedding, in_channels))
        self.depthwise = nn.Conv2d(in_channels, in_channels, 7, padding=3, groups=in_channels)
        self.across = nn.Sequential(
            nn.GroupNorm(1, in_channels), nn.Conv2d(in_channels, mult * out_channels, 3, padding=1), nn.GELU(),
            nn.GroupNorm(1, mult * out_channels), nn.Conv2d(mult * out_channels, out_channels, 3, padding=1),
        )  # fmt: skip
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, e: Tensor | None = None) -> Tensor:
        h = self.depthwise(x)
        h = h if self.step is None else h + self.step(e)[:, :, None, None]
        return self.across(h) + self.skip(x)


class PreNormAttention(nn.Module):
    """x + attention of the normalised x, 4 heads of 32 channels whatever the width; linear=True: cost in h · w."""

    def __init__(self, channels: int, linear: bool, heads: int = 4, size: int = 32):
        super().__init__()
        self.heads, self.linear, inner = heads, linear, heads * size
        self.norm = nn.GroupNorm(1, channels)
        self.qkv = nn.Conv2d(channels, 3 * inner, 1, bias=False)
        self.out = nn.Sequential(nn.Conv2d(inner, channels, 1), nn.GroupNorm(1, channels) if linear else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, -1, h * w).unbind(1)  # (b, heads, d, pixels) each
        q = q.softmax(dim=-2) * q.shape[-2] ** -0.5 if self.linear else q * q.shape[-2] ** -0.5
        if self.linear:
            gathered = (v @ k.softmax(dim=-1).mT) @ q
        else:
            gathered = v @ (q.mT @ k).softmax(dim=-1).mT
        return x + self.out(gathered.reshape(b, -1, h, w))


class TutorialUNet(nn.Module):
    """The U-Net of the tutorial that so many courses copy: two ConvNeXt blocks and linear attention at every level.

    shape: (c, h, w), h and w multiples of 2^(levels − 1);  width: times `multipliers`, the channels of each level. The
    first convolution is 7 × 7, to two thirds of the width; levels are joined by 4 × 4 convolutions of stride 2.
    """

    def __init__(
        self, shape: tuple[int, int, int] = (1, 28, 28), width: int = 28, multipliers=(1, 2, 4), mult: int = 2
    ):
        super().__init__()
        first, e = width // 3 * 2, 4 * width
        widths = [first, *(width * m for m in multipliers)]
        self.time = nn.Sequential(Waves(width), nn.Linear(width, e), nn.GELU(), nn.Linear(e, e))
        self.stem = nn.Conv2d(shape[0], first, 7, padding=3)

        def level(in_channels: int, out_channels: int) -> nn.ModuleList:
            blocks = WideConvNeXt(in_channels, out_channels, e, mult), WideConvNeXt(out_channels, out_channels, e, mult)
            return nn.ModuleList([*blocks, PreNormAttention(out_channels, linear=True)])

        self.down = nn.ModuleList(level(a, b) for a, b in zip(widths, widths[1:]))
        self.downsample = nn.ModuleList(nn.Conv2d(c, c, 4, stride=2, padding=1) for c in widths[1:-1])
        deep = widths[-1]
        self.middle = nn.ModuleList(
            [WideConvNeXt(deep, deep, e, mult), PreNormAttention(deep, linear=False), WideConvNeXt(deep, deep, e, mult)]
        )
        pairs = list(zip(widths[1:], widths[2:]))[::-1]  # the finest level has no blocks on the way up
        self.up = nn.ModuleList(level(2 * below, above) for above, below in pairs)
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(c, c, 4, stride=2, padding=1) for c, _ in pairs)
        self.end = nn.Sequential(WideConvNeXt(width, width, None, mult), nn.Conv2d(width, shape[0], 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        e, h, skips = self.time(t), self.stem(x), []
        for k, (one, two, attention) in enumerate(self.down):
            h = attention(two(one(h, e), e))
            skips.append(h)
            h = self.downsample[k](h) if k < len(self.downsample) else h
        one, attention, two = self.middle
        h = two(attention(one(h, e)), e)
        for (one, two, attention), upsample in zip(self.up, self.upsample):
            h = upsample(attention(two(one(torch.cat([h, skips.pop()], dim=1), e), e)))
        return self.end(h)


def tutorial() -> Entry:
    """Linear β from 1e-4 to 0.02 over *200* steps (a third of the image's amplitude is left at the end), ε, Huber."""
    beta = torch.linspace(1e-4, 0.02, 200, dtype=torch.float64)
    return Entry(
        name="tutorial's ConvNeXt U-Net",
        build=lambda shape: CountingFromZero(TutorialUNet(shape)),
        schedule=Schedule.from_betas(beta, "linear"),
        prediction_type="noise",
        distance="huber",
        draw=independent_steps,
        recipe=PLAIN,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Two libraries
# ---------------------------------------------------------------------------------------------------------------------
def diffusers() -> Entry:
    """`diffusers`' UNet2DModel, its defaults but for widths and the places of attention; DDPM as in its tutorials."""
    need("diffusers", "pip install -r requirements-dev.txt")
    from diffusers import UNet2DModel

    def build(shape: tuple[int, int, int]) -> nn.Module:
        down = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
        up = ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")
        channels = {"in_channels": shape[0], "out_channels": shape[0], "block_out_channels": (32, 64, 64)}
        model = UNet2DModel(sample_size=shape[1], down_block_types=down, up_block_types=up, **channels)
        return CountingFromZero(model)

    return Entry(
        name="diffusers' UNet2DModel",
        build=build,
        schedule=linear_schedule(1000),
        prediction_type="noise",
        draw=independent_steps,
        recipe=PLAIN,
        about=version("diffusers"),
    )


def lucidrains() -> Entry:
    """`denoising-diffusion-pytorch`'s Unet: cosine schedule, v, its weight ᾱ_t of the squared error in v; batch 128."""
    need("denoising_diffusion_pytorch", "pip install --no-deps -r requirements-bench.txt")
    with stand_ins():
        from denoising_diffusion_pytorch import Unet
    schedule = cosine_schedule(1000)
    return Entry(
        name="denoising-diffusion-pytorch's Unet",
        build=lambda shape: CountingFromZero(Unet(dim=32, dim_mults=(1, 2, 4), channels=shape[0])),
        schedule=schedule,
        prediction_type="v",
        weight=lambda t: schedule.alpha_bar[t.cpu()].float().to(t.device),  # SNR / (SNR + 1)
        draw=independent_steps,
        recipe=PLAIN,
        about=version("denoising-diffusion-pytorch"),
    )


def need(module: str, how: str) -> None:
    """Raises ImportError, with what to type, where a library isn't installed."""
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"{module}: not installed; {how}")


def version(package: str) -> dict[str, str]:
    from importlib.metadata import version as installed

    return {package: installed(package)}


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Empty modules where denoising-diffusion-pytorch imports what its network never uses, gone again afterwards.

    torchvision (reads and writes pictures in its trainer), accelerate and ema_pytorch (its trainer's) are imported at
    its top. torchvision must match PyTorch to the build, and the others bring more along; so each that is not installed
    is played by an empty module for as long as the import lasts.
    """
    wanted = {"torchvision": ("transforms", "utils"), "accelerate": ("Accelerator",), "ema_pytorch": ("EMA",)}
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    for name in missing:
        module = ModuleType(name)
        for attribute in wanted[name]:
            setattr(module, attribute, None)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


PEERS = {"tutorial": tutorial, "diffusers": diffusers, "ddp": lucidrains}
