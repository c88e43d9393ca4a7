"""The quizzes of notebook 11, "Smaller and larger"."""

import functools
from itertools import pairwise

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_utils import diffusion
from course_utils.latent import LatentDenoiser, encoded
from course_utils.models import autoencoder_kl, dit
from course_utils.models.autoencoder_kl import PlainResidualBlock
from course_utils.models.unet import group_norm, sinusoidal_embedding
from course_utils.sampling import ddim, last
from course_utils.sampling.editing import inpaint

from ..quizzes.declarations import Case, Fixture, Misconception, Option, concept, fixture, quiz
from .nb04 import filled

# -------------------------------------------------------------------------------------------------- inputs for cases


@fixture("latent/schedule")
def _schedule(curve: str = "cosine", T: int = 50, seed: int = 0) -> diffusion.Schedule:
    return diffusion.NOISE_SCHEDULES[curve](T)


@fixture("latent/denoise")
def _denoise(size: float = 1.2, seed: int = 0):
    """A denoiser (z_t, t, y=None) → ẑ_0 that listens to every number, its neighbour, the step and the label."""

    def denoise(z_t, t, y=None):
        if t.shape != (len(z_t),):
            raise ValueError(f"denoise: expected t of shape ({len(z_t)},), got {tuple(t.shape)}")
        told = 0.2 if y is None else 0.3 * y.to(z_t.dtype).reshape(-1, 1, 1, 1)
        step = t.to(z_t.dtype).reshape(-1, 1, 1, 1) / 40
        return size * torch.tanh(0.8 * z_t + 0.4 * z_t.roll(1, -1) + told) + 0.3 * step.sin()

    return denoise


class _Coder(nn.Module):
    """A small autoencoder of images (b, c, h, w): codes are half as high and wide."""

    def __init__(self, c: int, k: int, spread: float):
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(c, 2 * k, 2, stride=2), nn.ConvTranspose2d(k, c, 4, stride=2, padding=1)
        self.spread = spread

    def encode(self, x):
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        return self.spread * mean + 0.2, log_var - 0.5

    def decode(self, z):
        return self.decoder((z - 0.2) / self.spread).tanh()


@fixture("latent/coder")
def _coder(c: int = 1, k: int = 4, spread: float = 3.0, double: bool = False, seed: int = 0) -> nn.Module:
    return _Coder(c, k, spread).to(torch.float64 if double else torch.float32)


PICTURES = (  # how many, of which shape, channels of their codes, dtype
    (4, (1, 6, 10), 4, torch.float32),
    (3, (3, 8, 4), 2, torch.float64),
    (1, (2, 4, 6), 3, torch.float64),
    (5, (1, 10, 8), 1, torch.float32),
)


def _gauss(rng: torch.Generator, *shape: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=rng, dtype=dtype)


def _pictures(rng: torch.Generator, b: int, shape: tuple, dtype: torch.dtype) -> torch.Tensor:
    return 2 * torch.rand(b, *shape, generator=rng, dtype=dtype) - 1


# ------------------------------------------------------------------------------------------- 11.2 · the autoencoder


class _Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm1, self.conv1 = group_norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = group_norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x):
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class _BlockFromZero(_Block):
    """No short cut: what it adds is all."""

    def forward(self, x):
        return super().forward(x) - x


class _BlockAtRandom(_Block):
    def __init__(self, channels):
        super().__init__(channels)
        self.conv2.reset_parameters()


class _BlockNormAfter(_Block):
    def forward(self, x):
        h = F.silu(self.norm1(self.conv1(x)))
        return x + F.silu(self.norm2(self.conv2(h)))


class _BlockOneActivation(_Block):
    def forward(self, x):
        return x + self.conv2(self.norm2(self.conv1(F.silu(self.norm1(x)))))


def _examine_block_of_codes(answer, channels, x):
    network = answer(channels)
    if network is None or network.to(x)(x) is None:
        return None  # a `return` was forgotten
    first = network(x)
    weights = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    found = {"number of weights": weights, "what it answers at first": first.detach()}
    return found | {"output": filled(network, x)(x)}


def _for_blocks(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, channels, h, w, dtype in (
        (3, 8, 5, 7, torch.float32),
        (1, 4, 3, 2, torch.float64),
        (2, 32, 4, 6, torch.float32),
    ):
        args = {"channels": channels, "x": _gauss(rng, b, channels, h, w, dtype=dtype)}
        cases.append(Case(args, gradients=("x",)))
    return cases


quiz(
    "latent/block",
    points=3,
    minutes=4,
    title="A block without a clock",
    reference=_Block,
    library=(autoencoder_kl.PlainResidualBlock,),
    probe=_examine_block_of_codes,
    cases=_for_blocks,
    misconceptions=[
        Misconception(
            "no short cut",
            _BlockFromZero,
            "You return what the convolutions add. The input belongs to it.",
        ),
        Misconception(
            "the second convolution starts at random",
            _BlockAtRandom,
            "At first the block should hand on its input as it is. Which layer decides on that?",
        ),
        Misconception(
            "norms after the convolutions",
            _BlockNormAfter,
            "Here a norm and SiLU come *before* each convolution.",
        ),
        Misconception(
            "the second activation forgotten",
            _BlockOneActivation,
            "Before the second convolution, too, stands a SiLU.",
        ),
    ],
    hints=[
        "In `__init__`: two norms and two convolutions of `channels` channels. `padding=1` keeps height and width.",
        "`self.norm1, self.conv1 = group_norm(channels), nn.Conv2d(channels, channels, 3, padding=1)`, and once more.",
        "Then `nn.init.zeros_(self.conv2.weight)`, and its bias.",
        "In forward, twice: norm, SiLU (`F.silu`), convolution. `h = self.conv1(F.silu(self.norm1(x)))`",
        "`return x + self.conv2(F.silu(self.norm2(h)))`",
    ],
    passed="Encoder and decoder are made of it, at each of their levels.",
    explanation="It begins as the identity: a deep stack of them lets its input through from the first step on.",
)


def _encoder(shape, channels, widths):
    layers = [nn.PixelUnshuffle(2), nn.Conv2d(4 * shape[0], widths[0], 3, padding=1)]
    for k, width in enumerate(widths):
        if k > 0:
            layers.append(nn.Conv2d(widths[k - 1], width, 3, stride=2, padding=1))
        layers.append(PlainResidualBlock(width))
    layers += [group_norm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], 2 * channels, 3, padding=1)]
    return nn.Sequential(*layers)


def _encoder_with(outputs=2, pooled=False, blocks=True, finish=True, halve_first=False):
    """make_encoder, with a place for each of the mistakes that people make."""

    def make_encoder(shape, channels, widths):
        layers = [nn.PixelUnshuffle(2), nn.Conv2d(4 * shape[0], widths[0], 3, padding=1)]
        for k, width in enumerate(widths):
            if k > 0 and pooled:
                layers += [nn.AvgPool2d(2), nn.Conv2d(widths[k - 1], width, 1)]
            elif k > 0:
                layers.append(nn.Conv2d(widths[k - 1], width, 3, stride=2, padding=1))
            elif halve_first:
                layers.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
            if blocks or k == len(widths) - 1:
                layers.append(PlainResidualBlock(width))
        if finish:
            layers += [group_norm(widths[-1]), nn.SiLU()]
        return nn.Sequential(*layers, nn.Conv2d(widths[-1], outputs * channels, 3, padding=1))

    return make_encoder


def _seen_part(network, x):
    """How many weights a part has, and what it answers with known ones."""
    if network is None:
        return None
    network = network.to(x)
    if network(x) is None:
        return None  # a `return` was forgotten
    weights = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    return {"number of weights": weights, "output": filled(network, x)(x)}


def _examine_part(answer, shape, channels, widths, x):
    return _seen_part(answer(shape, channels, widths), x)


PARTS = (  # how many, image shape, channels of the code, widths, dtype
    (2, (1, 8, 12), 4, (8, 16), torch.float32),
    (1, (3, 16, 8), 2, (4, 6, 8), torch.float64),
    (3, (2, 4, 6), 3, (6,), torch.float32),
)


def _for_encoders(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, channels, widths, dtype in PARTS:
        args = {"shape": shape, "channels": channels, "widths": widths}
        cases.append(Case(args | {"x": _pictures(rng, b, shape, dtype)}, gradients=("x",)))
    return cases


def _for_decoders(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, channels, widths, dtype in PARTS:
        factor = 2 ** len(widths)
        args = {"shape": shape, "channels": channels, "widths": widths}
        args["x"] = _gauss(rng, b, channels, shape[1] // factor, shape[2] // factor, dtype=dtype)
        cases.append(
            Case(args, gradients=("x",), label=f"images {shape}, widths {widths}, codes {tuple(args['x'].shape)}")
        )
    return cases


quiz(
    "latent/encoder",
    points=4,
    minutes=7,
    title="From an image to a small image",
    reference=_encoder,
    library=(autoencoder_kl.AutoencoderKL,),
    probe=_examine_part,
    cases=_for_encoders,
    misconceptions=[
        Misconception(
            "means alone",
            _encoder_with(outputs=1),
            "The encoder says two things about each number of the code: where it is, and how surely.",
        ),
        Misconception(
            "pooled",
            _encoder_with(pooled=True),
            "You halve by averaging. Here a 3 × 3 convolution of stride 2 does it, and learns how.",
        ),
        Misconception(
            "one block in all",
            _encoder_with(blocks=False),
            "Every level has its block; yours has one at the end alone.",
        ),
        Misconception(
            "no norm at the end",
            _encoder_with(finish=False),
            "Before the last convolution stand a norm and a SiLU.",
        ),
        Misconception(
            "halved once too often",
            _encoder_with(halve_first=True),
            "The first level is halved already: the squares of 2 × 2 have become channels.",
        ),
    ],
    hints=[
        "Collect layers in a list, and return `nn.Sequential(*layers)`. How many channels come out of "
        "PixelUnshuffle(2)?",
        "Four for each channel of the image: the first convolution is `nn.Conv2d(4 * shape[0], widths[0], 3, "
        "padding=1)`.",
        "Go over the widths. For all but the first, a convolution of stride 2 leads there from the width before; then "
        "comes the block.",
        "`zip(widths, (None, *widths))` gives each width with the one before. With stride 2, `padding=1` halves "
        "exactly.",
        "At the end: `group_norm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], 2 * channels, 3, padding=1)`",
    ],
    passed="Nothing is flattened: the same weights would encode any image whose height and width are multiples of 2ⁿ.",
    explanation="""
    `PixelUnshuffle(2)` loses nothing, and gives a quarter of the places to compute on. A convolution of stride 2 lets
    the network choose what to lose.
    """,
)


def _decoder(shape, channels, widths):
    layers = [nn.Conv2d(channels, widths[-1], 3, padding=1)]
    for k in reversed(range(len(widths))):
        layers.append(PlainResidualBlock(widths[k]))
        if k > 0:
            layers += [nn.Conv2d(widths[k], 4 * widths[k - 1], 1), nn.PixelShuffle(2)]
    layers += [group_norm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], 4 * shape[0], 3, padding=1)]
    return nn.Sequential(*layers, nn.PixelShuffle(2))


def _decoder_with(copied=False, blocks=True, finish=True, squashed=False, shuffled=True):
    """make_decoder, with a place for each of the mistakes that people make."""

    def make_decoder(shape, channels, widths):
        layers = [nn.Conv2d(channels, widths[-1], 3, padding=1)]
        for k in reversed(range(len(widths))):
            if blocks or k == len(widths) - 1:
                layers.append(PlainResidualBlock(widths[k]))
            if k > 0 and copied:
                layers += [nn.Conv2d(widths[k], widths[k - 1], 1), nn.Upsample(scale_factor=2)]
            elif k > 0:
                layers += [nn.Conv2d(widths[k], 4 * widths[k - 1], 1), nn.PixelShuffle(2)]
        if finish:
            layers += [group_norm(widths[0]), nn.SiLU()]
        layers.append(nn.Conv2d(widths[0], (4 if shuffled else 1) * shape[0], 3, padding=1))
        layers += [nn.PixelShuffle(2)] if shuffled else []
        return nn.Sequential(*layers, *([nn.Tanh()] if squashed else []))

    return make_decoder


quiz(
    "latent/decoder",
    points=4,
    minutes=6,
    title="And back",
    reference=_decoder,
    library=(autoencoder_kl.AutoencoderKL,),
    probe=_examine_part,
    cases=_for_decoders,
    misconceptions=[
        Misconception(
            "enlarged by copying",
            _decoder_with(copied=True),
            "You copy each place four times. The 1 × 1 convolution makes four *different* values, which the shuffle "
            "spreads.",
        ),
        Misconception(
            "one block in all",
            _decoder_with(blocks=False),
            "Every level has its block; yours has one at the coarsest alone.",
        ),
        Misconception(
            "no norm at the end",
            _decoder_with(finish=False),
            "Before the last convolution stand a norm and a SiLU.",
        ),
        Misconception(
            "squashed here",
            _decoder_with(squashed=True),
            "The decoder gives any real numbers; tanh comes later, in `decode`.",
        ),
        Misconception(
            "half as large",
            _decoder_with(shuffled=False),
            "The encoder's first step turned squares into channels. What turns them back?",
        ),
    ],
    hints=[
        "It mirrors the encoder: the widths come in the other order, `widths[::-1]`.",
        "From `channels` to `widths[-1]` by a 3 × 3 convolution; then for each level a block, and, but for the last, "
        "the way to the next.",
        "The way to the next level: `nn.Conv2d(width, 4 * after, 1), nn.PixelShuffle(2)`.",
        "At the end four values for each channel of the image, `nn.Conv2d(widths[0], 4 * shape[0], 3, padding=1)`, and "
        "once more `nn.PixelShuffle(2)`.",
    ],
    passed="This half runs once for every image that is drawn: after the last step of the sampler, and never before.",
    explanation="The 1 × 1 convolution runs before the shuffle, on the coarse grid: four times fewer places.",
)


class _Autoencoder(nn.Module):
    def __init__(self, shape, channels=4, widths=(32, 64)):
        super().__init__()
        self.encoder, self.decoder = _encoder(shape, channels, widths), _decoder(shape, channels, widths)

    def encode(self, x):
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        return mean, log_var

    def decode(self, z):
        return torch.tanh(self.decoder(z))


class _AutoencoderExchanged(_Autoencoder):
    def encode(self, x):
        return super().encode(x)[::-1]


class _AutoencoderInTurns(_Autoencoder):
    def encode(self, x):
        both = self.encoder(x)
        return both[:, ::2], both[:, 1::2]


class _AutoencoderUnbounded(_Autoencoder):
    def decode(self, z):
        return self.decoder(z)


class _AutoencoderBySigmoid(_Autoencoder):
    def decode(self, z):
        return self.decoder(z).sigmoid()


class _Through(nn.Module):
    """Both halves of an autoencoder, one after the other."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.decode(self.model.encode(x)[0])


def _examine_autoencoder(answer, shape, channels, widths, x, z):
    model = answer(shape, channels, widths)
    if model is None or model.to(x).encode(x) is None or model.decode(z) is None:
        return None
    filled(_Through(model), x)
    weights = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return {"number of weights": weights, "encode": tuple(model.encode(x)), "decode": model.decode(z)}


def _for_autoencoders(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, channels, widths, dtype in PARTS:
        factor = 2 ** len(widths)
        args = {"shape": shape, "channels": channels, "widths": widths, "x": _pictures(rng, b, shape, dtype)}
        args["z"] = _gauss(rng, b + 1, channels, shape[1] // factor, shape[2] // factor, dtype=dtype)
        cases.append(Case(args, gradients=("x", "z")))
    return cases


quiz(
    "latent/autoencoder",
    points=2,
    minutes=4,
    title="Both in one",
    reference=_Autoencoder,
    library=(autoencoder_kl.AutoencoderKL,),
    probe=_examine_autoencoder,
    cases=_for_autoencoders,
    misconceptions=[
        Misconception(
            "mean and log-variance exchanged",
            _AutoencoderExchanged,
            "The first half of the channels is the mean.",
        ),
        Misconception(
            "channels by turns",
            _AutoencoderInTurns,
            "You take every other channel. The means are the *first half* of them.",
        ),
        Misconception(
            "images without bounds",
            _AutoencoderUnbounded,
            "Images lie in [−1, 1]; what the decoder says may be any number.",
        ),
        Misconception(
            "sigmoid",
            _AutoencoderBySigmoid,
            "Sigmoid leads to [0, 1]; images of this course lie in [−1, 1].",
        ),
    ],
    hints=[
        "`super().__init__()` first, then both parts as attributes: `make_encoder(shape, channels, widths)`, and the "
        "other.",
        "`self.encoder(x)` is (b, 2 · channels, i, j). What cuts a tensor in two along dimension 1?",
        "`mean, log_var = self.encoder(x).chunk(2, dim=1)`",
        "`return self.decoder(z).tanh()`",
    ],
    passed="Image to code, code to image: all that is known of pixels from here on stands in this class.",
    explanation="`chunk(2, dim=1)` gives the first and the second half of the channels, as views.",
)


def _autoencoder_loss(model, x, noise, kl_weight):
    mean, log_var = model.encode(x)
    error = (model.decode(mean + (log_var / 2).exp() * noise) - x).square().mean()
    kl = (mean.square() + log_var.exp() - 1 - log_var).sum() / (2 * len(x))
    return error + kl_weight * kl / x[0].numel()


def _loss_of_codes_with(
    sigma=lambda log_var: (log_var / 2).exp(),
    kl=lambda mean, log_var: (mean.square() + log_var.exp() - 1 - log_var).sum() / (2 * len(mean)),
    error=lambda difference: difference.square().mean(),
    pixels=lambda x: x[0].numel(),
):
    """(11.1), with a place for each of the mistakes that people make."""

    def autoencoder_loss(model, x, noise, kl_weight):
        mean, log_var = model.encode(x)
        z = mean + sigma(log_var) * noise
        return error(model.decode(z) - x) + kl_weight * kl(mean, log_var) / pixels(x)

    return autoencoder_loss


def _for_code_losses(rng: torch.Generator) -> list[Case]:
    cases = []
    for (b, shape, k, dtype), kl_weight in zip(PICTURES, (0.5, 1e-3, 1.0, 0.1), strict=True):
        double = dtype == torch.float64
        args = {"model": Fixture("latent/coder", c=shape[0], k=k, double=double, seed=b)}
        args |= {"x": _pictures(rng, b, shape, dtype)}
        args["noise"] = _gauss(rng, b, k, shape[1] // 2, shape[2] // 2, dtype=dtype)
        args["kl_weight"] = kl_weight
        cases.append(Case(args, gradients=("model",), label=f"x {(b, *shape)}, {k} channels, w = {kl_weight}"))
    return cases


quiz(
    "latent/loss",
    points=3,
    minutes=5,
    equation="11.1",
    title="Error, and a little KL",
    reference=_autoencoder_loss,
    library=(autoencoder_kl.autoencoder_kl_loss,),
    cases=_for_code_losses,
    misconceptions=[
        Misconception(
            "log-variance read as log σ",
            _loss_of_codes_with(sigma=lambda log_var: log_var.exp()),
            "The encoder says ln σ². Which number is σ then?",
        ),
        Misconception(
            "no draw",
            _loss_of_codes_with(sigma=lambda log_var: 0 * log_var),
            "You decode the mean. Then nothing keeps the decoder from needing endlessly exact codes.",
        ),
        Misconception(
            "the KL averaged over the code",
            _loss_of_codes_with(kl=lambda mean, log_var: (mean.square() + log_var.exp() - 1 - log_var).mean() / 2),
            "The KL of a code is the *sum* over its numbers; only over images is it averaged.",
        ),
        Misconception(
            "not per pixel",
            _loss_of_codes_with(pixels=lambda x: 1),
            "The squared error is per pixel, and so the KL must be: divide it by D.",
        ),
        Misconception(
            "errors summed",
            _loss_of_codes_with(error=lambda difference: difference.square().sum() / len(difference)),
            "The first term of (11.1) is a mean over the D pixels, not their sum.",
        ),
        Misconception(
            "the half forgotten",
            _loss_of_codes_with(
                kl=lambda mean, log_var: (mean.square() + log_var.exp() - 1 - log_var).sum() / len(mean)
            ),
            "Look at (2.4) again: your KL is twice as large.",
        ),
    ],
    hints=[
        "Four steps: encode, draw z with the noise that is given, decode, measure.",
        "z = μ + σ ε, with σ = exp(ln σ² / 2).",
        "The KL, (2.4): half of μ² + σ² − 1 − ln σ², summed over the code. For its mean over the batch divide the sum "
        "of all by `len(x)`.",
        "D is `x[0].numel()`, colours included, so `error + kl_weight * kl / x[0].numel()`.",
        "`kl = (mean.square() + log_var.exp() - 1 - log_var).sum() / 2 / len(x)`",
    ],
    passed="The loss of a VAE, with σ chosen instead of learned, and chosen small.",
    explanation="Times 2σ²/D, the reconstruction term becomes the mean squared error, and the KL gets w = 2σ².",
)

concept(
    "latent/large-kl",
    minutes=2,
    title="If the KL weighed more",
    equation="11.1",
    question="""
    We take $w=10^{-3}$. What would the same autoencoder learn with $w=1$?
    """,
    options={
        "a": Option(
            "Codes that are wider, as a larger weight on the KL lets them spread out more freely.",
            "The KL is what codes *pay* for leaving $\\mathcal N(0,I)$. A higher price narrows what they say.",
        ),
        "b": Option(
            "The same codes a little later, since the weight alters the speed, not the goal.",
            "A sum of two terms has its least value elsewhere when one of them weighs a thousand times as much.",
        ),
        "c": Option(
            "Codes of coarse shapes, since a pixel wrong by a third of the range costs half a nat.",
            "Right: $w=2\\sigma_x^2$ says that each pixel is only known to within $\\sigma_x$, here 90 of 255 levels. "
            "Detail pays for its nats only where many pixels agree on it; numbers for finer detail fall silent.",
            right=True,
        ),
        "d": Option(
            "Sharper images, since codes like $\\mathcal N(0,I)$ leave the decoder fewer gaps to fill.",
            "There would be fewer gaps, as in notebook 02, and that is bought with blur: the codes say less.",
        ),
    },
)

concept(
    "latent/floor",
    minutes=1,
    title="As good as it gets",
    question="""
    Suppose the model of codes becomes perfect: it draws codes exactly as the training images have them. To what does
    the $d^2$ of its images come down?
    """,
    options={
        "a": Option(
            "To about 0, as a perfect model of codes draws images that can't be told from real ones.",
            "Its *codes* can't be told from real codes. What does the decoder make of a real code?",
        ),
        "b": Option(
            "To about that of real images which were encoded and decoded, however small this may be.",
            "Right. That number is known before any diffusion model is trained, and is worth looking at first.",
            right=True,
        ),
        "c": Option(
            "To about that of the thumbnails, because both of them spend 196 numbers on an image.",
            "As many numbers, but they don't say the same: compare the rows of your table.",
        ),
        "d": Option(
            "To something between the two, since a diffusion model mends what an autoencoder loses.",
            "The diffusion model works before the decoder. It never sees what the decoder gets wrong.",
        ),
    },
)

# ---------------------------------------------------------------------------------------- 11.3 · diffusion in the code


def _scaled_codes(autoencoder, images, size=250):
    with torch.no_grad():
        means = torch.cat([autoencoder.encode(part)[0] for part in images.split(size)])
    s = 1 / means.std(correction=0).item()
    return s * means, s


class _Watched:
    """An autoencoder that remembers how many images it was shown at a time."""

    def __init__(self, autoencoder):
        self.autoencoder, self.shown = autoencoder, []

    def encode(self, x):
        self.shown.append(len(x))
        return self.autoencoder.encode(x)

    def __getattr__(self, name):
        return getattr(self.autoencoder, name)


def _encode_them(answer, autoencoder, images, size):
    watched = _Watched(autoencoder)
    found = answer(watched, images, size)
    if found is None:
        return None
    codes, scale = found
    return {
        "codes": codes.detach(),
        "s": scale,
        "a batch was too large": max(watched.shown, default=0) > size,
        "images encoded": sum(watched.shown),
        "codes keep a graph": codes.requires_grad,
    }


def _scaled_with(number=lambda means: 1 / means.std(correction=0).item(), which=0, whole=False, graph=False):
    """Scaled codes, with a place for each of the mistakes that people make."""

    def scaled_codes(autoencoder, images, size=250):
        with torch.set_grad_enabled(graph):
            parts = [images] if whole else images.split(size)
            means = torch.cat([autoencoder.encode(part)[which] for part in parts])
        s = number(means)
        return s * means, s

    return scaled_codes


def _for_scales(rng: torch.Generator) -> list[Case]:
    cases = []
    for (b, shape, k, dtype), size, spread in zip(PICTURES, (3, 2, 5, 2), (3.0, 0.1, 20.0, 1.0), strict=True):
        args = {"autoencoder": Fixture("latent/coder", c=shape[0], k=k, spread=spread, double=dtype == torch.float64)}
        args |= {"images": _pictures(rng, 2 * b + 1, shape, dtype), "size": size}
        cases.append(Case(args, label=f"{2 * b + 1} images {shape}, {size} at a time"))
    return cases


quiz(
    "latent/scaled-codes",
    points=3,
    minutes=5,
    equation="11.2",
    title="All codes, of variance 1",
    reference=_scaled_codes,
    library=(autoencoder_kl.set_scale, encoded),
    probe=_encode_them,
    cases=_for_scales,
    any_device=False,
    misconceptions=[
        Misconception(
            "multiplied by the spread",
            _scaled_with(number=lambda means: means.std(correction=0).item()),
            "Codes that spread by 5 must become smaller: s is one *over* the standard deviation.",
        ),
        Misconception(
            "divided by the variance",
            _scaled_with(number=lambda means: 1 / means.var(correction=0).item()),
            "Look at the exponent in (11.2): −1/2.",
        ),
        Misconception(
            "about zero",
            _scaled_with(number=lambda means: 1 / means.square().mean().sqrt().item()),
            "The sum is of squares of μ_i − μ̄: the spread about the mean of all numbers.",
        ),
        Misconception(
            "log-variances",
            _scaled_with(which=1),
            "`encode` gives two things; the code is the first.",
        ),
        Misconception(
            "all at once",
            _scaled_with(whole=True),
            "You encode all images in one batch. With 60,000 of them the memory wouldn't last: `size` at a time.",
        ),
        Misconception(
            "with a graph",
            _scaled_with(graph=True),
            "Your codes remember how they were made, and with them every layer's output. Nobody will differentiate "
            "through the encoder again.",
        ),
    ],
    hints=[
        "`images.split(size)` gives the batches; `torch.cat` joins what comes out of them.",
        "Of each batch only the mean is wanted, `autoencoder.encode(part)[0]`, under `with torch.no_grad():`.",
        "One number for all: the standard deviation over images, channels and places at once. `.std()` without a "
        "dimension is that; (11.2) divides by N, not by N − 1: `correction=0`.",
        "`s = 1 / means.std(correction=0).item()`, and return `s * means, s`",
    ],
    passed="This number belongs to the autoencoder, and has to travel with it: whoever has codes and not s has half a "
    "model.",
    explanation="""
    One number, and not one for each channel: what channels differ in is left for the denoiser to learn. A shift isn't
    taken away either; a mean of a few tenths does no harm.
    """,
)

concept(
    "latent/no-clip",
    minutes=1,
    title="To clip or not",
    question="""
    `denoise_pixels` below will be `clipped`: its guesses are kept within $[-1,1]$. `denoise_codes` isn't. Why?
    """,
    options={
        "a": Option(
            "It would be too slow, since a guess of a code has four channels to clip and not one.",
            "There are fewer numbers in a code than in an image, and clipping costs next to nothing in both.",
        ),
        "b": Option(
            "It would change nothing, since the KL has already kept all codes within $[-1,1]$.",
            "Scaled codes have variance 1: something like a third of them lie outside.",
        ),
        "c": Option(
            "It isn't needed, since a decoder that ends in tanh puts bounds on the image anyway.",
            "That bounds images. The question is about what happens to codes on the way, at every step.",
        ),
        "d": Option(
            "It would do harm, since real codes have numbers beyond these, and know no bound.",
            "Right. Clipping pixels uses something known about images. About codes no such thing is known.",
            right=True,
        ),
    },
)


def _latent_images(denoise, schedule, autoencoder, scale, noise, y, steps):
    drawn = last(ddim(denoise, schedule, noise, steps, y))
    with torch.no_grad():
        return autoencoder.decode(drawn / scale)


def _drawn_with(end=lambda z, scale: z / scale, told=True, halves=False, clip=False):
    def latent_images(denoise, schedule, autoencoder, scale, noise, y, steps):
        guess = (lambda *given: denoise(*given).clamp(-1, 1)) if clip else denoise
        z = last(ddim(guess, schedule, noise, max(1, steps - halves), y if told else None))
        with torch.no_grad():
            return autoencoder.decode(end(z, scale))

    return latent_images


def _for_drawing(rng: torch.Generator) -> list[Case]:
    cases = []
    for (b, shape, k, dtype), steps, scale, curve in zip(
        PICTURES, (4, 3, 7, 2), (0.3, 4.0, 0.18, 0.5), ("cosine", "linear", "cosine", "quadratic"), strict=True
    ):
        args = {"denoise": Fixture("latent/denoise"), "schedule": Fixture("latent/schedule", curve=curve)}
        args["autoencoder"] = Fixture("latent/coder", c=shape[0], k=k, double=dtype == torch.float64)
        args |= {"scale": scale, "noise": _gauss(rng, b, k, shape[1] // 2, shape[2] // 2, dtype=dtype)}
        args |= {"y": torch.randint(1, 5, (b,), generator=rng), "steps": steps}
        cases.append(Case(args, label=f"{b} codes of {tuple(args['noise'].shape[1:])}, {steps} steps, scale {scale}"))
    return cases


quiz(
    "latent/draw",
    points=2,
    minutes=3,
    title="Draw a code, decode it",
    reference=_latent_images,
    library=(LatentDenoiser.decode,),
    answered_by=("latent/somebody-elses-drawing",),
    cases=_for_drawing,
    any_device=False,
    misconceptions=[
        Misconception(
            "decoded as drawn",
            _drawn_with(end=lambda z, scale: z),
            "The sampler's codes have variance 1. The decoder knows codes as *it* learned them.",
        ),
        Misconception(
            "multiplied once more",
            _drawn_with(end=lambda z, scale: z * scale),
            "Codes were multiplied by the scale on the way in. What undoes that?",
        ),
        Misconception("without the label", _drawn_with(told=False), "Hand the labels y on to the sampler."),
        Misconception(
            "clipped",
            _drawn_with(clip=True),
            "You clip guesses of the code. Codes have no bounds.",
        ),
    ],
    hints=[
        "Two things happen: a sampler ends at a code, and the decoder draws it.",
        "`last(ddim(...))` gives codes in the denoiser's unit, times scale.",
        "The decoder wants them in its own: what was multiplied must be divided.",
        "`return autoencoder.decode(drawn / scale)`",
    ],
    passed="The decoder runs once an image, the denoiser once a step: what is expensive runs on the small side.",
    explanation="Nothing in the sampler knows that it draws codes: noise of another shape is all that it is told.",
)


def _variations(denoise, schedule, autoencoder, scale, images, noise, y, t, steps):
    stops = [round(t * (steps - k) / steps) for k in range(steps + 1)]
    at = torch.full((len(images),), t, device=images.device)
    with torch.no_grad():
        codes = scale * autoencoder.encode(images)[0]
        z_0 = last(ddim(denoise, schedule, schedule.add_noise(codes, at, noise), stops, y))
        return autoencoder.decode(z_0 / scale)


def _varied_with(start=lambda mean, scale: scale * mean, end=lambda z, scale: z / scale, grain=lambda e, scale: e):
    def somebody_elses_variations(denoise, schedule, autoencoder, scale, images, noise, y, t, steps):
        stops = [round(t * (steps - k) / steps) for k in range(steps + 1)]
        at = torch.full((len(images),), t, device=images.device)
        with torch.no_grad():
            mean, _ = autoencoder.encode(images)
            z_t = schedule.add_noise(start(mean, scale), at, grain(noise, scale))
            return autoencoder.decode(end(last(ddim(denoise, schedule, z_t, stops, y)), scale))

    return somebody_elses_variations


def _for_variations(rng: torch.Generator) -> list[Case]:
    cases = []
    for (b, shape, k, dtype), t, steps, scale, curve in zip(
        PICTURES,
        (30, 12, 49, 20),
        (4, 3, 7, 2),
        (0.3, 4.0, 0.18, 0.5),
        ("cosine", "linear", "cosine", "quadratic"),
        strict=True,
    ):
        args = {"denoise": Fixture("latent/denoise"), "schedule": Fixture("latent/schedule", curve=curve)}
        args["autoencoder"] = Fixture("latent/coder", c=shape[0], k=k, double=dtype == torch.float64)
        args |= {"scale": scale, "images": _pictures(rng, b, shape, dtype)}
        args["noise"] = _gauss(rng, b, k, shape[1] // 2, shape[2] // 2, dtype=dtype)
        args |= {"y": torch.randint(1, 5, (b,), generator=rng), "t": t, "steps": steps}
        cases.append(Case(args, label=f"images {(b, *shape)}, from step {t}, scale {scale}"))
    return cases


quiz(
    "latent/somebody-elses-variations",
    points=3,
    minutes=5,
    equation="11.2",
    title="Somebody else's variations",
    bug_hunt=True,
    reference=_variations,
    cases=_for_variations,
    any_device=False,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _varied_with(start=lambda mean, scale: mean),
            "Print how widely z_t spreads, and what `denoise` was trained on. In which unit does each tensor stand?",
        ),
        Misconception(
            "not divided at the end",
            _varied_with(start=lambda mean, scale: mean, end=lambda z, scale: z),
            "Now nothing is scaled at all. The decoder may be content, but the denoiser still sees codes that are too "
            "wide.",
        ),
        Misconception(
            "the noise scaled",
            _varied_with(start=lambda mean, scale: mean, grain=lambda e, scale: e / scale),
            "The ratio of signal to noise is right now, but the denoiser was trained where both have variance 1.",
        ),
        Misconception(
            "divided on the way in",
            _varied_with(start=lambda mean, scale: mean / scale),
            "The denoiser's codes are the decoder's *times* scale; you made them wider still.",
        ),
    ],
    hints=[
        "Read the docstring for units: there are codes as the autoencoder learned them, and codes times scale. Which "
        "lines turn one into the other?",
        "One line turns the denoiser's codes into the decoder's. Where does the way in do the opposite?",
        "`denoise` was trained on codes of variance 1, and the schedule is made for such. Of which variance is `mean`?",
        "Between `encode` and `add_noise` the mean must be multiplied by scale.",
        "`z_t = schedule.add_noise(scale * mean, at, noise)`",
    ],
    passed="In and out are two doors, and each has its conversion. An autoencoder whose s happens to be near 1 hides a "
    "forgotten one.",
    explanation="""
    A round trip without the denoiser would have shown it: encode, then decode as this function does. With units in
    names, `code` and `scaled_code` for example, one sees it in reading.
    """,
)

concept(
    "latent/what-the-scale-did",
    minutes=1,
    title="What a forgotten scale does",
    equation="11.2",
    question="""
    The codes were about 5.5 times as wide as the denoiser's training codes. What did the denoiser meet at step $t$?
    """,
    options={
        "a": Option(
            "Inputs larger than ever before, with some 30 times the signal over noise that $t$ implies.",
            "Right: signal-to-noise is a ratio of variances, and $5.5^2\\approx30$. It was told of a noise that was "
            "hardly there, in inputs of a size it had never met.",
            right=True,
        ),
        "b": Option(
            "Inputs of the usual size, since `add_noise` mixes signal and noise to variance 1 in any case.",
            "It does if the signal has variance 1. It multiplies by $\\sqrt{\\bar\\alpha_t}$ and measures nothing.",
        ),
        "c": Option(
            "Inputs with about 5.5 times as much noise as $t$ implies, so that too much was drawn anew.",
            "The noise was as ever. It was the signal that was too large, so too little was hidden.",
        ),
        "d": Option(
            "Inputs that were right up to a factor, which its group norms take out of them straight away.",
            "A norm takes out a factor of the *whole* input. The ratio of signal and noise stays wrong.",
        ),
    },
)


def _ending(denoise, schedule, autoencoder, scale, noise, y, steps):
    with torch.no_grad():
        for step in ddim(denoise, schedule, noise, steps, y):
            end = step.x
        return autoencoder.decode(end / scale)


def _ended_with(kept, blend):
    """kept: of the list of guesses;  blend: (decode, codes) -> images."""

    def somebody_elses_drawing(denoise, schedule, autoencoder, scale, noise, y, steps):
        with torch.no_grad():
            guesses = [step.x0 for step in ddim(denoise, schedule, noise, steps, y) if step.x0 is not None]
            return blend(autoencoder.decode, [guess / scale for guess in kept(guesses)])

    return somebody_elses_drawing


def _mean_of_images(decode, codes):
    return torch.stack([decode(code) for code in codes]).mean(0)


quiz(
    "latent/somebody-elses-drawing",
    points=3,
    minutes=4,
    title="Somebody else's pictures",
    bug_hunt=True,
    reference=_ending,
    library=(LatentDenoiser.decode,),
    cases=_for_drawing,
    any_device=False,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _ended_with(lambda guesses: guesses, _mean_of_images),
            "Look at what is returned: how many images went into each of them?",
        ),
        Misconception(
            "codes averaged in place of images",
            _ended_with(lambda guesses: guesses, lambda decode, codes: decode(torch.stack(codes).mean(0))),
            "The blend is made of codes now. It is a blend still.",
        ),
        Misconception(
            "the later half",
            _ended_with(lambda guesses: guesses[len(guesses) // 2 :], _mean_of_images),
            "The earliest guesses are gone, and others that were made before the end are still in.",
        ),
        Misconception(
            "the first guess",
            _ended_with(lambda guesses: guesses[:1], _mean_of_images),
            "One guess alone is right, but this one was made from pure noise.",
        ),
    ],
    hints=[
        "`ddim` walks; which of its places is a sample of the model?",
        "`step.x0` is what the denoiser expects on average, seeing z_t: early on, the mean of all that is possible.",
        "Decode the list's entries one by one and look at them (`plots.image_rows`): the first is a blur, the last is "
        "the image.",
        "Only where the walk ends counts. (There `step.x` and `step.x0` are the same.)",
        "`return images[-1]`; better still, decode once, after the loop.",
    ],
    passed="A guess on the way is a mean of what may still come; the end is a sample. Look at the means, but don't "
    "blend them in.",
    explanation="""
    Averaging draws lowers noise where the truth is one value. A model's draws differ because several images are
    possible, and the average of several images is none of them.
    """,
)

concept(
    "latent/what-the-blend-did",
    minutes=1,
    title="What the blend did",
    question="""
    He said: "A mean of many pictures has less noise than one of them." Why did it make the images worse?
    """,
    options={
        "a": Option(
            "Since the decoder isn't linear, so that images must be averaged as codes and not as pixels.",
            "Averaged as codes they are blends, too. Try it: that is one of the wrong fixes.",
        ),
        "b": Option(
            "Since there are too few pictures for a mean whose noise would be small enough to be unseen.",
            "With more steps the early part of the walk gets more guesses as well, and the same share of the mean.",
        ),
        "c": Option(
            "Since most of them are means of all codes that were possible then, without their details.",
            "Right: a denoiser trained with squared error answers with the mean. Blending it in takes away what only "
            "the last steps decide.",
            right=True,
        ),
        "d": Option(
            "Since the pictures still hold noise of every step, which the decoder makes into detail.",
            "He decoded the guesses $\\hat z_0$, not $z_t$. There is no noise in them; that is why they are blurred.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------ 11.4 · what a code is


@fixture("latent/decode")
def _decode(k: int = 4, c: int = 1, double: bool = False, seed: int = 0):
    """A decoder of codes (n, k, i, j), a function: images (n, c, 2 i, 2 j) in [-1, 1]."""
    weight = torch.randn(k, c, 4, 4, dtype=torch.float64 if double else torch.float32)

    def decode(z):
        return (2 * F.conv_transpose2d(z, weight.to(z), stride=2, padding=1)).sin()

    return decode


def _change_map(decode, codes, channel, row, column, amount):
    moved = codes.clone()
    moved[:, channel, row, column] = moved[:, channel, row, column] + amount
    return (decode(moved) - decode(codes)).abs().mean((0, 1))


def _map_with(move="add", change=lambda difference: difference.abs(), over=(0, 1), exchanged=False):
    def change_map(decode, codes, channel, row, column, amount):
        row, column = (column % codes.shape[2], row % codes.shape[3]) if exchanged else (row, column)
        moved = codes.clone()
        if move == "set":
            moved[:, channel, row, column] = amount
        elif move == "every channel":
            moved[:, :, row, column] += amount
        else:
            moved[:, channel, row, column] += amount
        found = change(decode(moved) - decode(codes))
        return found.mean(over) if over == (0, 1) else found.mean(0).sum(0)

    return change_map


def _for_maps(rng: torch.Generator) -> list[Case]:
    cases = []
    for (n, (c, h, w), k, dtype), amount in zip(PICTURES, (1.0, -2.0, 0.5, 3.0), strict=True):
        args = {"decode": Fixture("latent/decode", k=k, c=c, double=dtype == torch.float64)}
        args["codes"] = _gauss(rng, n, k, h // 2, w // 2, dtype=dtype)
        args |= {"channel": int(torch.randint(k, (), generator=rng)), "row": h // 2 - 1, "column": 0, "amount": amount}
        cases.append(Case(args, label=f"codes {(n, k, h // 2, w // 2)}, images of {c} channels"))
    return cases


quiz(
    "latent/change-map",
    points=2,
    minutes=3,
    title="How far one number reaches",
    reference=_change_map,
    cases=_for_maps,
    misconceptions=[
        Misconception(
            "signs that cancel",
            _map_with(change=lambda difference: difference),
            "Where one image gets lighter and another darker, yours says that nothing happened: take |change| first.",
        ),
        Misconception(
            "set instead of moved",
            _map_with(move="set"),
            "The number moves *by* amount, from where it is in each code.",
        ),
        Misconception(
            "all channels",
            _map_with(move="every channel"),
            "One number is moved, in one channel. Yours moves all channels of that place.",
        ),
        Misconception(
            "row and column exchanged",
            _map_with(exchanged=True),
            "Codes are (n, channel, row, column), in this order.",
        ),
        Misconception(
            "squared",
            _map_with(change=lambda difference: difference.square()),
            "The change is asked for, |·|, not its square.",
        ),
    ],
    hints=[
        "Two decoded batches: of the codes as they are, and of codes in which one number is different.",
        "Move it in a copy, `codes.clone()`, or the caller's codes are changed as well.",
        "`moved[:, channel, row, column] += amount`",
        "Then the absolute difference, and its mean over dimensions 0 and 1, images and colours.",
    ],
    passed="A measured receptive field, seen from the other side: not what an output sees, but whom an input reaches.",
    explanation="The absolute value stands inside the mean: otherwise changes of opposite sign cancel.",
)


def _fill_in(denoise, schedule, known, kept, noise, y, steps):
    z = torch.where(kept, schedule.add_noise(known, torch.full_like(y, schedule.T), noise), noise)
    for t, s in pairwise(schedule.timesteps(steps)):
        now, then = torch.full_like(y, t), torch.full_like(y, s)
        z_0 = denoise(z, now, y)
        z = schedule.add_noise(z_0, then, diffusion.predict_noise(schedule, z_0, z, now))
        z = torch.where(kept, schedule.add_noise(known, then, noise), z)
    return z


def _filled_in_with(start="put in", put_in=None, inverted=False, end=False, told=True):
    """fill_in, with a place for each of the mistakes that people make.

    put_in: (schedule, known, now, then, noise) -> what takes the place of the kept part after a stride.
    """

    def fill_in(denoise, schedule, known, kept, noise, y, steps):
        kept = ~kept if inverted else kept
        first = schedule.add_noise(known, torch.full_like(y, schedule.T), noise)
        z = torch.where(kept, first, noise) if start == "put in" else noise
        for t, s in pairwise(schedule.timesteps(steps)):
            now, then = torch.full_like(y, t), torch.full_like(y, s)
            z_0 = denoise(z, now, y if told else None)
            z = schedule.add_noise(z_0, then, diffusion.predict_noise(schedule, z_0, z, now))
            if put_in == "before the next stride":
                z = z if s == 0 else torch.where(kept, schedule.add_noise(known, then, noise), z)
            elif put_in is not None:
                z = torch.where(kept, put_in(schedule, known, now, then, noise), z)
            elif not end:
                z = torch.where(kept, schedule.add_noise(known, then, noise), z)
        return torch.where(kept, known, z) if end else z

    return fill_in


def _for_filling(rng: torch.Generator) -> list[Case]:
    cases = []
    for (b, (_, h, w), k, dtype), steps, curve, where in zip(
        PICTURES,
        (4, 3, 7, 2),
        ("linear", "cosine", "linear", "quadratic"),
        ("upper", "left", "scattered", "scattered"),
        strict=True,
    ):
        i, j = h // 2, w // 2
        kept = torch.rand(i, j, generator=rng) < 0.5
        kept[0, 0], kept[-1, -1] = True, False
        if where == "upper":
            kept = (torch.arange(i)[:, None] < i / 2).expand(i, j).clone()
        elif where == "left":
            kept = (torch.arange(j) < j / 2).expand(i, j).clone()
        args = {"denoise": Fixture("latent/denoise"), "schedule": Fixture("latent/schedule", curve=curve)}
        args |= {"known": 1.5 * _gauss(rng, b, k, i, j, dtype=dtype), "kept": kept}
        args |= {"noise": _gauss(rng, b, k, i, j, dtype=dtype)}
        args |= {"y": torch.randint(1, 5, (b,), generator=rng), "steps": steps}
        cases.append(Case(args, label=f"codes {(b, k, i, j)}, {where} part kept, {steps} steps"))
    return cases


quiz(
    "latent/fill-in",
    points=3,
    minutes=5,
    title="Fill in the rest",
    reference=_fill_in,
    library=(inpaint,),
    cases=_for_filling,
    misconceptions=[
        Misconception(
            "put in without noise",
            _filled_in_with(put_in=lambda schedule, known, now, then, noise: known),
            "Between its noisy neighbours the kept part stands clean in yours. The denoiser has never seen such codes: "
            "it expects noise of step s everywhere.",
        ),
        Misconception(
            "noise of the step before",
            _filled_in_with(
                put_in=lambda schedule, known, now, then, noise: schedule.add_noise(known, now, noise),
            ),
            "After a stride from t to s everything stands at step s, but the kept part has more noise in yours. Which "
            "step does it belong to?",
        ),
        Misconception(
            "fresh noise at each stop",
            _filled_in_with(
                put_in=lambda schedule, known, now, then, noise: schedule.add_noise(
                    known, then, torch.randn_like(known)
                ),
            ),
            "You draw new noise at each stop. Take the one that you were given, at all of them.",
        ),
        Misconception(
            "not put in at the end",
            _filled_in_with(put_in="before the next stride"),
            "The last stride ends at 0, and there yours leaves the denoiser's guess in the kept part.",
        ),
        Misconception(
            "put in at the end alone",
            _filled_in_with(start="noise", end=True),
            "You draw a whole new code and paste the kept part over it. On the way the denoiser never saw it, so the "
            "rest has nothing to do with it.",
        ),
        Misconception(
            "not put in at T",
            _filled_in_with(start="noise"),
            "At T, too, there is a trace of the kept part: `add_noise` knows how little. Yours is noise alone.",
        ),
        Misconception(
            "kept and drawn exchanged",
            _filled_in_with(inverted=True),
            "You keep what should be drawn. `kept` is True where the code is known.",
        ),
    ],
    hints=[
        "Begin with plain DDIM: at each stride from t to s a guess ẑ_0, the noise that leads from it to z, and both "
        "mixed again at s. Which of the setup cell's functions give the noise, and the mix?",
        "Steps come one for each code: `now, then = torch.full_like(y, t), torch.full_like(y, s)`, in a loop over "
        "`pairwise(schedule.timesteps(steps))`.",
        "DDIM's stride: `z_0 = denoise(z, now, y)`, `eps = predict_noise(schedule, z_0, z, now)`, then "
        "`schedule.add_noise(z_0, then, eps)`.",
        "The kept part at s doesn't come from the denoiser: `schedule.add_noise(known, then, noise)`. "
        "`torch.where(kept, a, b)` takes a where kept is True, for all codes and channels at once.",
        "Before the loop the same for step T: `torch.where(kept, schedule.add_noise(known, start, noise), noise)`. "
        "At s = 0 nothing more is needed, as no noise is added there.",
    ],
    passed="A model that was trained for something else fills in: nothing of it is new but what you put in on the way.",
    explanation="""
    Notebook 06 put what is known into the *guess*. With the same noise at all stops that comes to the same: the noise
    that DDIM then finds in the kept part is the noise you put there.
    """,
)


# ------------------------------------------------------------------------------------------ 11.5 · images as sentences

IMAGES = (  # how many, of which shape, patch, dtype
    (2, (1, 8, 12), 4, torch.float32),
    (1, (3, 4, 6), 2, torch.float64),
    (3, (2, 6, 3), 3, torch.float64),
    (2, (4, 5, 3), 1, torch.float32),
)


def _patchify(x, patch):
    return rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch)


def _patchify_with(pattern):
    return lambda x, patch: rearrange(x, pattern, p=patch, q=patch)


def _patchify_reshaped(x, patch):
    b, c, h, w = x.shape
    return x.reshape(b, h * w // patch**2, c * patch**2)


def _images(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, patch, dtype in IMAGES:
        cases.append(Case({"x": torch.randn(b, *shape, generator=rng, dtype=dtype), "patch": patch}))
    return cases


quiz(
    "transformer/patchify",
    points=2,
    minutes=3,
    equation="11.3",
    title="Cut an image into tokens",
    reference=_patchify,
    library=(dit.patchify,),
    cases=_images,
    misconceptions=[
        Misconception(
            "read column by column",
            _patchify_with("b c (h p) (w q) -> b (w h) (c p q)"),
            "Your second token lies *below* the first one. A page is read line by line: it is to the right.",
        ),
        Misconception(
            "colours side by side",
            _patchify_with("b c (h p) (w q) -> b (h w) (p q c)"),
            "Within a token the channel comes first in (11.3): all pixels of one channel, then those of the next.",
        ),
        Misconception(
            "patches lying on their side",
            _patchify_with("b c (h p) (w q) -> b (h w) (c q p)"),
            "Within a token, too, lines come first: b, the column within the patch, runs fastest.",
        ),
        Misconception(
            "pixels from far apart",
            _patchify_with("b c (p h) (q w) -> b (h w) (c p q)"),
            "Your tokens gather pixels that lie far apart. In (11.3) the row is P · i + a: the patch is the slow part, "
            "the place within it the fast one.",
        ),
        Misconception(
            "cut without sorting",
            _patchify_reshaped,
            "A reshape alone cuts the pixels as they lie in memory: your tokens are pieces of lines, not squares. "
            "Split height and width first, then bring what belongs together side by side.",
        ),
    ],
    hints=[
        "How many patches lie in a column, how many in a line? Height splits into (rows, patch), width into "
        "(columns, patch).",
        "A token is one (row, column); its numbers are one (channel, row within, column within).",
        'In einops the left side is `"b c (rows p) (columns q)"`. Which of the six stay together on the right?',
        '`rearrange(x, "b c (rows p) (columns q) -> b (rows columns) (c p q)", p=patch, q=patch)`',
    ],
    passed="An image is a page now: read line by line, a word being a square of pixels.",
    explanation="""
    With reshape it is three steps: (b, c, rows, P, columns, P), permute to (b, rows, columns, c, P, P), and join what
    belongs together. Nothing is computed, nothing lost.
    """,
)


def _unpatchify(tokens, shape, patch):
    c, height, width = shape
    squares = tokens.reshape(-1, height // patch, width // patch, c, patch, patch)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(-1, c, height, width)


def _unpatchify_with(order=(0, 3, 1, 4, 2, 5), turned=False, inner=False):
    """What was handed out, with another repair in the wrong place."""

    def unpatchify(tokens, shape, patch):
        c, width, height = shape
        rows, columns = height // patch, width // patch
        squares = tokens.reshape(-1, rows, columns, c, patch, patch)
        if inner:
            squares = squares.transpose(-1, -2)
        lines = squares.permute(*order)
        return lines.reshape(-1, c, height, width) if turned else lines.reshape(-1, *shape)

    return unpatchify


def _tokens(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, (c, h, w), patch, dtype in (*IMAGES, (2, (3, 4, 4), 2, torch.float32)):
        tokens = torch.randn(b, h * w // patch**2, c * patch**2, generator=rng, dtype=dtype)
        cases.append(Case({"tokens": tokens, "shape": (c, h, w), "patch": patch}))
    return cases


quiz(
    "transformer/somebody-elses-patches",
    points=3,
    minutes=3,
    title="Somebody else's patches",
    bug_hunt=True,
    equation="11.3",
    reference=_unpatchify,
    library=(dit.unpatchify,),
    cases=_tokens,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _unpatchify_with(),
            "Square images come back, others don't. Which two numbers are equal in a square image?",
        ),
        Misconception(
            "the result turned",
            _unpatchify_with(turned=True),
            "Now patches are whole, but the image has exchanged its sides. The `shape` at the end was right. What is "
            "wrong comes before.",
        ),
        Misconception(
            "the patches in another order",
            _unpatchify_with(order=(0, 3, 2, 4, 1, 5)),
            "You changed the order of the axes, and it was right: (b, c, rows, patch, columns, patch). Look at how "
            "many rows and columns there are.",
        ),
        Misconception(
            "each patch turned",
            _unpatchify_with(inner=True),
            "Within a patch the order was right. Look at how many rows and columns of patches there are.",
        ),
    ],
    hints=[
        "All pixels are still there, in strips of four side by side. So nothing is lost: what is wrong is the grid in "
        "which they are laid out.",
        "Print `rows, columns` for the narrow images. How many rows of patches do they have?",
        "Images are (c, h, w) everywhere in this course. (Image files and their libraries like to say width first.)",
        "`c, height, width = shape`",
    ],
    passed="Whatever puts rows and columns in order has to be tested on images that aren't square. Here a "
    "whole data set, right in every image, proved nothing.",
    explanation="""
    `reshape` only asks whether the number of entries fits, and h/P · w/P fits in either order. So nothing complained:
    tokens from 7 rows of 5 were laid out as 5 rows of 7.
    """,
)

concept(
    "transformer/what-the-grid-did",
    minutes=1,
    title="What it does to a network",
    question="""
    He trains a transformer on the narrow images: a right `patchify` in front, then blocks, and his `unpatchify` behind
    the last layer. The loss compares what comes out with the true target. What do its samples look like,
    trained long enough?
    """,
    options={
        "a": Option(
            "Like the pictures above: the small pieces of an image, in the wrong places.",
            "Then the loss would be large, for it looks at the image *after* his function. Training works against "
            "whatever stands before the loss.",
        ),
        "b": Option(
            "As good as with the right one: the last layer learns to exchange the places.",
            "The last layer sees one token at a time. What another token should have said, it doesn't know.",
        ),
        "c": Option(
            "Everything is in its place, but after equal training it is worse than with the right one.",
            "Right. Each token now answers for pixels that lie elsewhere, and must learn about them through attention, "
            "always by the same detour. The loss falls, only more slowly, and no piece of a sample is in a wrong "
            "place: nobody suspects a bug.",
            right=True,
        ),
        "d": Option(
            "Like noise: the answers can't fit the targets, so the loss stays where it began.",
            "An exchange of places that is always the same can be learned: attention carries anything anywhere.",
        ),
    },
)


def _examined(network, *inputs, first=None):
    """What can be seen of a network: its size, what `first` finds before training, its answer with known weights."""
    if network is None:
        return None
    kinds = [each.dtype for each in inputs if each.is_floating_point()]
    network = network.to(inputs[0].device, *kinds[:1])
    if network(*inputs) is None:
        return None  # a `return` was forgotten
    result = {"number of weights": sum(weight.numel() for weight in network.parameters() if weight.requires_grad)}
    if first is not None:
        with torch.no_grad():
            result |= first(network(*inputs))
    return result | {"output": filled(network, *inputs)(*inputs)}


def _examine_attention(answer, width, heads, z):
    return _examined(answer(width, heads), z)


class SelfAttention(nn.Module):
    """(11.4), tokens (b, n, width) in and out."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, z):
        q, k, v = rearrange(self.qkv(z), "b n (three heads d) -> three b heads n d", three=3, heads=self.heads)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
        return self.out(rearrange(weights @ v, "b heads n d -> b n (heads d)"))


class _Attention(nn.Module):
    """The layer with a place for each of the mistakes that people make."""

    def __init__(self, width, heads, one_head=False, size=None, dim=-1, back="(heads d)", added=False):
        super().__init__()
        self.heads, self.dim, self.added = 1 if one_head else heads, dim, added
        self.size, self.back = size or (lambda width, heads: width / heads), f"b heads n d -> b n {back}"
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, z):
        q, k, v = rearrange(self.qkv(z), "b n (three heads d) -> three b heads n d", three=3, heads=self.heads)
        weights = (q @ k.transpose(-1, -2) / self.size(z.shape[-1], self.heads) ** 0.5).softmax(dim=self.dim)
        gathered = self.out(rearrange(weights @ v, self.back))
        return z + gathered if self.added else gathered


def _attention_with(**slips):
    return functools.partial(_Attention, **slips)


def _sentences(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, n, width, heads, dtype in (
        (2, 6, 8, 2, torch.float32),
        (1, 5, 12, 3, torch.float64),
        (3, 4, 6, 1, torch.float64),
        (2, 7, 16, 4, torch.float32),
    ):
        args = {"width": width, "heads": heads, "z": torch.randn(b, n, width, generator=rng, dtype=dtype)}
        cases.append(Case(args, gradients=("z",)))
    return cases


quiz(
    "transformer/attention",
    points=4,
    minutes=6,
    equation="11.4",
    title="Tokens that look at each other",
    reference=SelfAttention,
    library=(dit.SelfAttention,),
    probe=_examine_attention,
    cases=_sentences,
    misconceptions=[
        Misconception(
            "one head for all",
            _attention_with(one_head=True),
            "All numbers of a token look with the same weights. Split q, k and v into `heads` parts, each of which "
            "looks for itself.",
        ),
        Misconception(
            "the width of all heads",
            _attention_with(size=lambda width, heads: width),
            "You divide by the square root of the whole width. The products are those of one head, d/H numbers long.",
        ),
        Misconception(
            "not divided",
            _attention_with(size=lambda width, heads: 1),
            "The products aren't divided by √(d/H). The longer q and k are, the larger their products, and the softmax "
            "ends up with one weight of 1.",
        ),
        Misconception(
            "weights of the keys add up to 1",
            _attention_with(dim=-2),
            "Your softmax runs over those who ask. For each token that asks, the weights of all tokens that it looks "
            "at must sum to 1.",
        ),
        Misconception(
            "heads shuffled on the way back",
            _attention_with(back="(d heads)"),
            "On the way in the numbers of a token stand as (heads d); on the way back you join them as (d heads).",
        ),
        Misconception(
            "z added",
            _attention_with(added=True),
            "What is gathered is returned alone here. The block around it will add it, behind a gate.",
        ),
    ],
    hints=[
        "Four steps: `qkv`, split into three and into heads, (11.4) for each head, heads side by side again.",
        "The 3 · width numbers of a token are three parts, each of H heads, each of d/H numbers. Which axes go to the "
        "front?",
        '`rearrange(self.qkv(z), "b n (three heads d) -> three b heads n d", three=3, heads=self.heads)` gives q, k '
        "and v, (b, heads, n, d/H) each.",
        "`q @ k.transpose(-1, -2)` are all products of all tokens, (b, heads, n, n). By what are they divided, and "
        "along which axis must the weights sum to 1?",
        "`weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)`",
        '`return self.out(rearrange(weights @ v, "b heads n d -> b n (heads d)"))`',
    ],
    passed="The same lines stand in a language model, but for a mask that hides later words: nothing in them knows "
    "what a token is.",
    explanation="""
    All heads are computed in one product, since the batch may have any number of axes in front. In a real network
    `F.scaled_dot_product_attention` does the middle part without ever storing the n × n table.
    """,
)

concept(
    "transformer/shuffled",
    minutes=1,
    title="The order of words",
    question="""
    Somebody shuffles the tokens of an image before they enter your layer, and adds nothing to them. What comes out?
    """,
    options={
        "a": Option(
            "The same as before, in the same order: a sum over all tokens has no order.",
            "The sum has none, but each token asks for itself: its answer stands where *it* stands.",
        ),
        "b": Option(
            "The same as before, in the new order: each token takes its answer along.",
            "Right: shuffling before or after makes no difference. So the layer can't tell an image from a heap of its "
            "pieces.",
            right=True,
        ),
        "c": Option(
            "Other numbers, for a token's neighbours have changed, and with them its answer.",
            "Who are the neighbours? In (11.4) all tokens are looked at alike, near or far: no index is used but to "
            "name them.",
        ),
        "d": Option(
            "Other numbers, for the layer's weights belong to the places 1 to n of the row.",
            "One matrix serves all tokens. That is why n may be of any size, after training too.",
        ),
    },
)


def _positions(h, w, size):
    row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return torch.cat([sinusoidal_embedding(place.flatten(), size // 2) for place in (row, column)], dim=1)


def _columns_first(h, w, size):
    return _positions(w, h, size).unflatten(0, (w, h)).transpose(0, 1).flatten(0, 1)


def _column_by_column(h, w, size):
    return _positions(h, w, size).unflatten(0, (h, w)).transpose(0, 1).flatten(0, 1)


def _added(h, w, size):
    row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return sinusoidal_embedding(row.flatten(), size) + sinusoidal_embedding(column.flatten(), size)


def _grids(rng: torch.Generator) -> list[Case]:
    sizes = ((3, 5, 16), (5, 3, 8), (1, 4, 4), (4, 4, 12), (7, 2, 32))
    return [Case({"h": h, "w": w, "size": size}) for h, w, size in sizes]


quiz(
    "transformer/positions",
    points=2,
    minutes=3,
    equation="11.5",
    title="Where a token lies",
    reference=_positions,
    library=(dit.sincos_positions,),
    cases=_grids,
    misconceptions=[
        Misconception(
            "the column first",
            _columns_first,
            "In (11.5) the row comes first, then the column.",
        ),
        Misconception(
            "read column by column",
            _column_by_column,
            "The second token lies to the right of the first one: same row, next column. In yours it lies below.",
        ),
        Misconception(
            "one number for a place",
            lambda h, w, size: sinusoidal_embedding(torch.arange(h * w), size),
            "You number all tokens through. Then the one below is w tokens away, although it is as near as the one to "
            "the right. Rows and columns get waves of their own.",
        ),
        Misconception(
            "added instead of side by side",
            _added,
            "The sum of both mixes them up: row 2, column 3 looks like row 3, column 2. Each gets half of the numbers.",
        ),
    ],
    hints=[
        "Which row has token number s, and which column, in the order of patchify? Write it down for 2 rows of 3.",
        "Rows: 0 0 0 1 1 1; columns: 0 1 2 0 1 2. What makes them? (`repeat_interleave`, `repeat`, or // and %.)",
        "Each of them, (h · w,), becomes waves of size // 2.",
        "`torch.cat([sinusoidal_embedding(row, size // 2), sinusoidal_embedding(column, size // 2)], dim=1)`",
    ],
    passed="Nothing in it is learned. (Other networks learn a vector for each place, or turn q and k by angles.)",
    explanation='`torch.meshgrid(…, indexing="ij")` makes both at once; `s // w` and `s % w` do too.',
)


# ----------------------------------------------------------------------------------------------------- 11.6 · a block


def _modulate(z, shift, scale):
    return z * (1 + scale[:, None]) + shift[:, None]


def _steered(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, n, d, dtype in ((3, 5, 4, torch.float32), (1, 2, 7, torch.float64), (4, 1, 3, torch.float64)):
        args = {"z": torch.randn(b, n, d, generator=rng, dtype=dtype)}
        args |= {name: torch.randn(b, d, generator=rng, dtype=dtype) for name in ("shift", "scale")}
        cases.append(Case(args, gradients=("z", "shift", "scale")))
    return cases


quiz(
    "transformer/modulate",
    points=1,
    minutes=1,
    equation="11.6",
    title="A shift and a scale",
    reference=_modulate,
    library=(dit.modulate,),
    cases=_steered,
    misconceptions=[
        Misconception(
            "the 1 forgotten",
            lambda z, shift, scale: z * scale[:, None] + shift[:, None],
            "With a scale of 0, which is how it starts, nothing would be left of z. (11.6) has 1 + c.",
        ),
        Misconception(
            "shift and scale exchanged",
            lambda z, shift, scale: z * (1 + shift[:, None]) + scale[:, None],
            "The shift is what is added, the scale what is multiplied.",
        ),
        Misconception(
            "shifted first",
            lambda z, shift, scale: (z + shift[:, None]) * (1 + scale[:, None]),
            "Your shift is scaled along. First scale, then shift.",
        ),
    ],
    hints=[
        "shift and scale are (b, d), tokens (b, n, d). Where is an axis missing?",
        "`scale[:, None]` is (b, 1, d): the same for all tokens of an image.",
        "A scale of 0 must leave z as it is.",
        "`z * (1 + scale[:, None]) + shift[:, None]`",
    ],
    passed="That is all that step and class can do in a block, besides its gates: no token gets a hint of its own.",
    explanation="The same is called FiLM, or adaptive layer norm where a layer norm stands before it.",
)


def _examine_block(answer, width, heads, z, e):
    return _examined(answer(width, heads), z, e, first=lambda output: {"what it adds at first": output - z})


class DiTBlock(nn.Module):
    """(11.7), tokens (b, n, width) and an embedding (b, width) in, tokens out."""

    def __init__(self, width, heads):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.steer = nn.Linear(width, 6 * width)
        for weight in self.steer.parameters():
            nn.init.zeros_(weight)

    def forward(self, z, e):
        s1, c1, gate1, s2, c2, gate2 = self.steer(e)[:, None].chunk(6, dim=-1)
        z = z + gate1 * self.attention(self.norm(z) * (1 + c1) + s1)
        return z + gate2 * self.mlp(self.norm(z) * (1 + c2) + s2)


class _TransformerBlock(DiTBlock):
    """The block with a place for each of the mistakes that people make."""

    def __init__(self, width, heads, **slips):
        super().__init__(width, heads)
        self.slips = slips
        if slips.get("random"):
            self.steer.reset_parameters()
        if slips.get("weights"):
            self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, z, e):
        slips = self.slips
        six = self.steer(0 * e if slips.get("deaf") else e)[:, None].chunk(6, dim=-1)
        s1, c1, gate1, s2, c2, gate2 = (six[k] for k in slips.get("order", range(6)))
        if slips.get("open"):
            gate1, gate2 = 1 + gate1, 1 + gate2
        norm = (lambda z: z) if slips.get("no_norm") else self.norm
        first = gate1 * self.attention(norm(z) * (1 + c1) + s1)
        if slips.get("no_residual"):
            return gate2 * self.mlp(norm(first) * (1 + c2) + s2)
        if slips.get("gated"):
            z = gate1 * (z + self.attention(norm(z) * (1 + c1) + s1))
            return gate2 * (z + self.mlp(norm(z) * (1 + c2) + s2))
        after = z + first
        return after + gate2 * self.mlp(norm(z if slips.get("parallel") else after) * (1 + c2) + s2)


def _block_with(**slips):
    return functools.partial(_TransformerBlock, **slips)


def _told(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, n, width, heads, dtype in (
        (2, 6, 8, 2, torch.float32),
        (1, 5, 12, 3, torch.float64),
        (3, 4, 6, 1, torch.float64),
    ):
        args = {"width": width, "heads": heads, "z": torch.randn(b, n, width, generator=rng, dtype=dtype)}
        args["e"] = torch.randn(b, width, generator=rng, dtype=dtype)
        cases.append(Case(args, gradients=("z", "e")))
    return cases


quiz(
    "transformer/block",
    points=5,
    minutes=8,
    equation="11.7",
    title="A block, steered",
    reference=DiTBlock,
    library=(dit.DiTBlock,),
    probe=_examine_block,
    cases=_told,
    misconceptions=[
        Misconception(
            "the six at random",
            _block_with(random=True),
            "A new block should hand its tokens on as they are: the layer that makes the six vectors starts at zero, "
            "weights and bias (`starts_at_zero`).",
        ),
        Misconception(
            "gates that are open",
            _block_with(open=True),
            "Your gates begin at 1. There is no 1 + in front of them in (11.7), in contrast to the scales.",
        ),
        Misconception(
            "side by side",
            _block_with(parallel=True),
            "Your small network sees the tokens as they came in. In (11.7) it sees z′, what attention has left.",
        ),
        Misconception(
            "another order of the six",
            _block_with(order=(1, 0, 2, 4, 3, 5)),
            "You take the scale before the shift. The six come as (shift, scale, gate) twice.",
        ),
        Misconception(
            "gates around all",
            _block_with(gated=True),
            "Your gates hold back the tokens themselves, so that a new block answers 0. Only what is *added* goes "
            "through a gate.",
        ),
        Misconception(
            "nothing added",
            _block_with(no_residual=True),
            "Attention and the small network return what is to be added; you let go of the tokens themselves.",
        ),
        Misconception(
            "a norm with weights",
            _block_with(weights=True),
            "Your norm has a scale and a shift of its own. Here they come from e: take `layer_norm(width)`.",
        ),
        Misconception(
            "no norm",
            _block_with(no_norm=True),
            "What is modulated has been normalised before: `modulate(self.norm(z), …)`.",
        ),
    ],
    hints=[
        "Four parts: a norm (it has no weights, so one serves twice), attention, the small network, and the layer that "
        "makes six vectors of e.",
        "`self.steer = starts_at_zero(nn.Linear(width, 6 * width))`; `self.steer(e).chunk(6, dim=1)` gives the six, "
        "(b, width) each.",
        "Twice the same: norm, modulate, attention or the small network, times the gate, added.",
        "A gate is (b, width) and what goes through it (b, n, width): `gate1[:, None] * …`",
        "`z = z + gate1[:, None] * self.attention(modulate(self.norm(z), shift1, scale1))`",
    ],
    passed="The whole network is a stack of these blocks, and so are networks a thousand times as large.",
    explanation="""
    The original has the order shift, scale, gate too. The tokens, to which every block only
    adds, are called the residual stream: each block reads from it and writes to it.
    """,
)

concept(
    "transformer/closed-gates",
    minutes=1,
    title="Nothing at first",
    equation="11.7",
    question="""
    All six vectors start at 0, so a new block adds nothing. "Then it will never learn," says a colleague, "for zero
    times anything has no slope." What happens in a training of this block?
    """,
    options={
        "a": Option(
            "He is right, and one starts the gates at a small number above zero instead.",
            "The *product* is 0. What is its derivative with respect to the gate?",
        ),
        "b": Option(
            "The attention learns at once, for its gradient goes around through the short cut.",
            "The short cut leads around the attention, so its gradient doesn't pass there. On the other road "
            "stands the gate, and multiplies by 0.",
        ),
        "c": Option(
            "Nothing moves until the optimizer's momentum carries it away from the zero.",
            "Momentum is a sum of gradients. If all were 0, so would it be.",
        ),
        "d": Option(
            "The gates learn at once, and all that stands behind them from the next step on.",
            "Right: the derivative with respect to a gate is what waits behind it, and that isn't 0. So a deep network "
            "begins as the identity, through which gradients pass unchanged, and lets its blocks in as they become "
            "useful.",
            right=True,
        ),
    },
)


def _cost(tokens, width):
    return 12 * tokens * width**2 + 2 * tokens**2 * width + 6 * width**2


def _cost_with(linear=12, pairs=2, told=lambda tokens: 6, times=1):
    return lambda tokens, width: (
        times * (linear * tokens * width**2 + pairs * tokens**2 * width + told(tokens) * width**2)
    )


def _sizes(rng: torch.Generator) -> list[Case]:
    drawn = torch.randint(2, 300, (2,), generator=rng).tolist()
    return [Case({"tokens": n, "width": d}) for n, d in ((49, 128), (1, 8), (1024, 16), drawn)]


quiz(
    "transformer/cost",
    points=2,
    minutes=3,
    equation="11.8",
    title="Count the multiplications",
    reference=_cost,
    library=(dit.block_multiply_adds,),
    cases=_sizes,
    misconceptions=[
        Misconception(
            "the last layer of attention forgotten",
            _cost_with(linear=11),
            "q, k and v are three layers of d × d. A fourth mixes what the heads bring.",
        ),
        Misconception(
            "the small network counted as one layer",
            _cost_with(linear=8),
            "The small network goes to 4 d numbers *and back*: 4 d² twice.",
        ),
        Misconception(
            "a small network of one width",
            _cost_with(linear=6),
            "The small network is four times as wide inside.",
        ),
        Misconception(
            "tokens with tokens once",
            _cost_with(pairs=1),
            "Tokens meet twice: queries with keys, and then the weights with the values.",
        ),
        Misconception(
            "e for every token",
            _cost_with(told=lambda tokens: 6 * tokens),
            "The six vectors are made once for an image, not for every token.",
        ),
        Misconception(
            "additions as well",
            _cost_with(times=2),
            "You have counted additions too (that is what FLOPs mean); here it is the multiplications.",
        ),
    ],
    hints=[
        "Go through the block. Which linear layers does a token pass, from how many numbers to how many?",
        "q, k and v: 3 d². The last layer of attention: d². The small network: d to 4d, and 4d to d.",
        "Products of tokens with tokens: q with k, an (n, d) with a (d, n) table; weights with v, an (n, n) with an "
        "(n, d) table. With H heads it is H times d/H.",
        "k₁ = 3 + 1 + 4 + 4 and k₂ = 2",
    ],
    passed="Twelve and two: with these one can tell what a transformer of any size costs, before building it.",
    explanation="""
    Heads share the width: H tables of n × n, each of products d/H long, cost as much as one with products of length d.
    """,
)

concept(
    "transformer/smaller-patches",
    minutes=1,
    title="Four times the tokens",
    equation="11.8",
    question="""
    With patches of 2 × 2 instead of 4 × 4 an image of 28 × 28 has 196 tokens instead of 49. In a block of width 128,
    what becomes of its weights, and of its multiplications for an image?
    """,
    options={
        "a": Option(
            "The weights stay as they are, the multiplications grow about fivefold.",
            "Right: (11.8) says 4.7. Most of the work is done token by token, and only the smaller term grows "
            "sixteenfold.",
            right=True,
        ),
        "b": Option(
            "The weights stay as they are, the multiplications grow sixteenfold.",
            "That is the second term of (11.8) alone. How large is it beside the first one, with n = 49 and d = 128?",
        ),
        "c": Option(
            "The weights grow fourfold, and so do the multiplications, about.",
            "All tokens go through the same layers: there are as many weights for 49 of them as for 196.",
        ),
        "d": Option(
            "The weights shrink to a quarter, the multiplications stay the same.",
            "Only the first and the last layer of the network see pixels, and shrink. A block doesn't know how large a "
            "patch was.",
        ),
    },
)

# ------------------------------------------------------------------------------------- 11.7 · the network, and a race


def _examine_embedding(answer, width, num_classes, t, y):
    inputs = (t,) if y is None else (t, y)
    return _examined(answer(width, num_classes), *inputs)


class StepAndClass(nn.Module):
    """The embedding of steps (b,) and labels (b,), (b, width)."""

    def __init__(self, width, num_classes):
        super().__init__()
        self.null = num_classes
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(num_classes + 1, width)

    def forward(self, t, y=None):
        y = torch.full_like(t, self.null) if y is None else y
        return F.silu(self.time(sinusoidal_embedding(t, 64)) + self.label(y))


class _Told(StepAndClass):
    """The embedding with a place for each of the mistakes that people make."""

    def __init__(self, width, num_classes, slip=""):
        super().__init__(width, num_classes)
        self.slip, self.null = slip, 0 if slip == "first" else self.null

    def forward(self, t, y=None):
        told = torch.full_like(t, self.null) if y is None else y
        time, label = self.time(sinusoidal_embedding(t / 1000 if self.slip == "share" else t, 64)), self.label(told)
        if y is None and self.slip == "nothing":
            label = 0 * label
        if self.slip == "product":
            return F.silu(time * label)
        if self.slip == "apart":
            return F.silu(time) + label
        return time + label if self.slip == "straight" else F.silu(time + label)


def _told_with(slip):
    return functools.partial(_Told, slip=slip)


def _steps_and_labels(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, width, num_classes, told in ((3, 8, 4, True), (2, 6, 10, False), (1, 16, 3, True), (5, 4, 2, True)):
        args = {"width": width, "num_classes": num_classes, "t": torch.randint(1, 1001, (b,), generator=rng)}
        args["y"] = torch.randint(num_classes + 1, (b,), generator=rng) if told else None
        cases.append(Case(args))
    return cases


quiz(
    "transformer/embedding",
    points=2,
    minutes=2,
    equation="7.1",
    title="Step and class",
    reference=StepAndClass,
    probe=_examine_embedding,
    cases=_steps_and_labels,
    misconceptions=[
        Misconception(
            "the first class where none is told",
            _told_with("first"),
            'Without labels yours asks for class 0. The label that means "any" is the last one, num_classes.',
        ),
        Misconception(
            "nothing where no class is told",
            _told_with("nothing"),
            'Without labels nothing is added in yours. "Any class" has a vector of its own, which is trained as well.',
        ),
        Misconception(
            "a product",
            _told_with("product"),
            "(7.1) is a sum: both are added.",
        ),
        Misconception(
            "no SiLU at the end",
            _told_with("straight"),
            "The sum still passes a SiLU.",
        ),
        Misconception(
            "a SiLU before the sum",
            _told_with("apart"),
            "The SiLU comes after the sum: the label passes it, too.",
        ),
        Misconception(
            "t divided by 1000",
            _told_with("share"),
            "The waves take t as it is, from 1 to 1000.",
        ),
    ],
    hints=[
        "Two parts: a small network for the step's waves, and a table with a row for each label.",
        "How many rows has the table? One more than there are classes.",
        "`nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))` and "
        "`nn.Embedding(num_classes + 1, width)`",
        "`F.silu(self.time(sinusoidal_embedding(t, 64)) + self.label(y))`, and without y a tensor like t, full of "
        "num_classes",
    ],
    passed="The same as in your U-Net. What is new comes in the block: the gates.",
    explanation="`torch.full_like(t, num_classes)` are as many labels as there are steps, on the same device.",
)


def _examine_dit(answer, shape, width, depth, heads, patch, num_classes, x, t, y):
    network = answer(tuple(shape), width, depth, heads, patch, num_classes)
    inputs = (x, t) if y is None else (x, t, y)
    return _examined(network, *inputs, first=lambda output: {"what it answers at first": output})


class DiT(nn.Module):
    """Noisy images and their steps → one prediction for every pixel, by a transformer over patches."""

    def __init__(self, shape, width=128, depth=4, heads=4, patch=4, num_classes=10):
        super().__init__()
        self.shape, self.patch, self.null = tuple(shape), patch, num_classes
        pixels, rows, columns = shape[0] * patch**2, shape[1] // patch, shape[2] // patch
        self.embed, self.stem = StepAndClass(width, num_classes), nn.Linear(pixels, width)
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        places = [sinusoidal_embedding(place.flatten(), width // 2) for place in (row, column)]
        self.register_buffer("positions", torch.cat(places, dim=1))
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.steer, self.head = nn.Linear(width, 2 * width), nn.Linear(width, pixels)
        for weight in (*self.steer.parameters(), *self.head.parameters()):
            nn.init.zeros_(weight)

    def forward(self, x, t, y=None):
        h, p = self.shape[1], self.patch
        e = self.embed(t, y)
        z = self.stem(rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=p)) + self.positions
        for block in self.blocks:
            z = block(z, e)
        shift, scale = self.steer(e)[:, None].chunk(2, dim=-1)
        z = self.head(self.norm(z) * (1 + scale) + shift)
        return rearrange(z, "b (h w) (c p q) -> b c (h p) (w q)", h=h // p, p=p, q=p)


class _DiT(DiT):
    """The network with a place for each of the mistakes that people make."""

    def __init__(self, *given, slip=""):
        super().__init__(*given)
        self.slip = slip
        if slip == "head":
            self.head.reset_parameters()
        if slip == "steer":
            self.steer.reset_parameters()
        if slip == "one block":
            self.blocks = nn.ModuleList([self.blocks[0]] * len(self.blocks))
        if slip == "no modulation":
            del self.steer

    def forward(self, x, t, y=None):
        h, p, slip = self.shape[1], self.patch, self.slip
        e = self.embed(t, None if slip == "no label" else y)
        z = self.stem(rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=p))
        z = z if slip == "no positions" else z + self.positions
        for block in self.blocks:
            z = block(z, e) + (self.positions if slip == "positions in every block" else 0)
        if slip == "no modulation":
            z = self.norm(z)
        else:
            shift, scale = self.steer(e)[:, None].chunk(2, dim=-1)
            shift, scale = (scale, shift) if slip == "exchanged" else (shift, scale)
            z = (z if slip == "no norm" else self.norm(z)) * (1 + scale) + shift
        return rearrange(self.head(z), "b (h w) (c p q) -> b c (h p) (w q)", h=h // p, p=p, q=p)


def _dit_with(slip):
    return functools.partial(_DiT, slip=slip)


def _networks(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, width, depth, heads, patch, num_classes, told in (
        (2, (1, 8, 12), 8, 2, 2, 4, 3, True),
        (1, (3, 4, 6), 8, 1, 1, 2, 10, False),
        (3, (2, 6, 3), 16, 3, 4, 3, 2, True),
    ):
        args = {"shape": shape, "width": width, "depth": depth, "heads": heads, "patch": patch}
        args |= {"num_classes": num_classes, "x": torch.randn(b, *shape, generator=rng)}
        args["t"] = torch.randint(1, 1001, (b,), generator=rng)
        args["y"] = torch.randint(num_classes + 1, (b,), generator=rng) if told else None
        cases.append(Case(args, gradients=("x",)))
    return cases


quiz(
    "transformer/dit",
    points=6,
    minutes=9,
    equation="11.7",
    title="The whole network",
    reference=DiT,
    library=(dit.DiT,),
    probe=_examine_dit,
    cases=_networks,
    misconceptions=[
        Misconception(
            "positions forgotten",
            _dit_with("no positions"),
            "Your tokens don't know where they lie: positions are added once, before the first block.",
        ),
        Misconception(
            "the head at random",
            _dit_with("head"),
            "The last layer starts at zero: before it has learned anything, the network answers 0 everywhere.",
        ),
        Misconception(
            "one block, again and again",
            _dit_with("one block"),
            "Your list holds the same block several times, so they share their weights. Make a new one for each place: "
            "`DiTBlock(width, heads) for _ in range(depth)`.",
        ),
        Misconception(
            "the last modulation forgotten",
            _dit_with("no modulation"),
            "At the end, too, the normalised tokens get a shift and a scale from e.",
        ),
        Misconception(
            "the class not told",
            _dit_with("no label"),
            "Your network answers the same whatever class is asked for: `self.embed(t, y)`.",
        ),
        Misconception(
            "shift and scale exchanged",
            _dit_with("exchanged"),
            "The linear layer's first half is the shift, its second half the scale, as in your block.",
        ),
        Misconception(
            "no norm at the end",
            _dit_with("no norm"),
            "Before the last modulation the tokens are normalised, as everywhere else.",
        ),
    ],
    hints=[
        "In `__init__` seven parts are missing: the embedding, a layer in, positions, blocks, a norm, a layer that "
        "makes shift and scale, a layer out. In `forward` they are used in this order.",
        "A token comes in with c · patch² numbers, has `width` of them inside, and goes out as it came. How many rows "
        "and columns of patches has the image? `sincos_positions(shape[1] // patch, shape[2] // patch, width)`.",
        "`self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))`; `self.register_buffer("
        '"positions", …)` keeps what isn\'t trained and moves it along to a GPU.',
        "`forward` begins with `e = self.embed(t, y)` and `z = self.stem(patchify(x, self.patch)) + self.positions`; "
        "then `for block in self.blocks: z = block(z, e)`.",
        "`return unpatchify(self.head(modulate(self.norm(z), shift, scale)), self.shape, self.patch)`",
    ],
    passed="A DiT, and nearly all of it is yours. On to the track.",
    explanation="""
    At the first step only the last layer gets a gradient. At the second the layer in, the gates and the last modulation
    do; from the third on, everything.
    """,
)


class _Mixer(nn.Module):
    """A small network (x, t) → like x, in which all pixels meet."""

    def __init__(self, channels: int):
        super().__init__()
        self.near, self.far = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)

    def forward(self, x, t):
        slow = torch.linspace(0.2, 1, x.shape[3], dtype=x.dtype)
        waves = (x * slow).mean((2, 3), keepdim=True) * t[:, None, None, None].to(x.dtype) / 200
        return torch.tanh(self.near(x)) + self.far(waves.sin()) * x


@fixture("transformer/mixer")
def _mixer(channels: int = 1, double: bool = False, seed: int = 0) -> nn.Module:
    return _Mixer(channels).to(torch.float64 if double else torch.float32)


def _how_far(network, x, t):
    x = x.detach().clone().requires_grad_()
    (h, w), (i, j) = x.shape[2:], (x.shape[2] // 2, x.shape[3] // 2)
    (slope,) = torch.autograd.grad(network(x, t)[:, :, i, j].sum(), x)
    weights = slope.abs().sum((0, 1))
    rows, columns = torch.arange(h)[:, None] - i, torch.arange(w) - j
    distance = (rows**2 + columns**2).sqrt()
    return ((weights * distance).sum() / weights.sum()).item()


def _how_far_with(
    weights=lambda slope: slope.abs().sum((0, 1)),
    distance=lambda rows, columns: (rows**2 + columns**2).sqrt(),
    mean=lambda weights, distance: (weights * distance).sum() / weights.sum(),
    middle=lambda h, w: (h // 2, w // 2),
):
    def how_far(network, x, t):
        x = x.detach().clone().requires_grad_()
        h, w = x.shape[2:]
        (slope,) = torch.autograd.grad(network(x, t)[:, :, h // 2, w // 2].sum(), x)
        i, j = middle(h, w)
        return mean(weights(slope), distance(torch.arange(h)[:, None] - i, torch.arange(w) - j)).item()

    return how_far


def _looks(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, (c, h, w), double in (
        (3, (1, 6, 9), False),
        (2, (3, 7, 4), True),
        (1, (2, 5, 5), True),
        (4, (1, 3, 8), False),
    ):
        network = Fixture(
            "transformer/mixer", channels=c, double=double, seed=int(torch.randint(99, (), generator=rng))
        )
        x = torch.randn(b, c, h, w, generator=rng, dtype=torch.float64 if double else torch.float32)
        t = torch.randint(1, 1001, (b,), generator=rng)
        cases.append(Case({"network": network, "x": x, "t": t}, label=f"x {tuple(x.shape)}"))
    return cases


quiz(
    "transformer/how-far",
    points=3,
    minutes=5,
    title="How far does it look?",
    reference=_how_far,
    cases=_looks,
    any_device=False,
    misconceptions=[
        Misconception(
            "signs that cancel",
            _how_far_with(weights=lambda slope: slope.sum((0, 1)).abs()),
            "You sum first and take the size then: slopes of two images cancel where their signs differ. First the "
            "size, then the sum.",
        ),
        Misconception(
            "squared distances",
            _how_far_with(distance=lambda rows, columns: rows**2 + columns**2),
            "That is the mean of squares. The distance is √(rows² + columns²).",
        ),
        Misconception(
            "a sum for a mean",
            _how_far_with(mean=lambda weights, distance: (weights * distance).sum()),
            "A weighted mean is divided by the sum of its weights; yours grows with the size of the slopes.",
        ),
        Misconception(
            "all pixels alike",
            _how_far_with(weights=lambda slope: torch.ones_like(slope[0, 0])),
            "All pixels have the same weight in yours, whatever the network does.",
        ),
        Misconception(
            "from the corner",
            _how_far_with(middle=lambda h, w: (0, 0)),
            "You measure from the corner; the answer that is asked about lies in the middle.",
        ),
    ],
    hints=[
        "Notebook 04 did the first half: `torch.autograd.grad` of the sum of all answers in the middle, with respect "
        "to x (which must require a gradient).",
        "Where two images have slopes of opposite sign, both count: take the size before you sum.",
        "The weights: `slope.abs().sum((0, 1))`, (h, w).",
        "How many rows away from row i are the rows? `torch.arange(h)[:, None] - i`, a column; the same for columns, "
        "as a row. Squares of both add up to (h, w).",
        "`((weights * distance).sum() / weights.sum()).item()`",
    ],
    passed="A number for what nobody programmed: how far a network has learned to look.",
    explanation="The sum over the batch is allowed, since images don't mix: each has its own slope.",
)

# --------------------------------------------------------------------------- 11.8 · why the large ones are all three

concept(
    "transformer/what-the-race-says",
    minutes=1,
    title="What the race says",
    question="""
    Seconds of training, images of 28 × 28, a million weights: your race has one result. What does it tell, without the
    table above, about the choice between filters and tokens for a model that is trained for months?
    """,
    options={
        "a": Option(
            "That filters suit images better, since equal seconds leave no advantage to either.",
            "Equal seconds are fair for *this* many seconds. Who is told more at the start is ahead early; that says "
            "little about who learns more in the end.",
        ),
        "b": Option(
            "Little by itself: one must see how both improve as seconds and weights are added.",
            "Right. What counts for a large model is the slope: what the next tenfold of seconds buys. For that one "
            "needs several budgets and sizes, as in the table, and more than it has.",
            right=True,
        ),
        "c": Option(
            "That tokens lose for good, as the distance to the filters grows with more training.",
            "The race has one budget; from a single point nobody can read whether a distance grows or shrinks.",
        ),
        "d": Option(
            "Nothing whatever, because small grey images share no property with large ones.",
            "They do: neighbours, edges, things at any place. "
            "What doesn't carry over is the ranking at another budget.",
        ),
    },
)
