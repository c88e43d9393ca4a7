"""The autoencoder of notebook 01, its linear cousin PCA, and the quantities measured on both.

Losses are **one number per image**, (b,): squared errors as a mean over pixels, likelihoods as a sum in nats. For one
number for the batch, take the mean over images; then it is plain which of the two it is.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..arrays import Generators, at_least_float32, check_same_shape, normal_like
from .blocks import Decoder, Encoder


# ---------------------------------------------------------------------------------------------------------------------
# Two ways to say how far a reconstruction is from the image
# ---------------------------------------------------------------------------------------------------------------------
def reconstruction_error(x: Float[Tensor, "b ..."], x_hat: Float[Tensor, "b ..."]) -> Float[Tensor, "b"]:
    """Mean squared error of each image, averaged over channels and pixels: equation (1.1).

    x, x_hat: (b, ...) in [-1, 1]. Returns (b,), squared pixel units of the [-1, 1] scale (0 perfect, 4 the worst).

    >>> reconstruction_error(torch.zeros(2, 1, 4, 4), torch.tensor([0.5, 1.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4))
    tensor([0.2500, 1.0000])
    """
    check_same_shape("reconstruction_error", x=x, x_hat=x_hat)
    return (at_least_float32(x) - at_least_float32(x_hat)).square().flatten(1).mean(dim=1)


def bernoulli_nll(logits: Float[Tensor, "b ..."], x: Float[Tensor, "b ..."]) -> Float[Tensor, "b"]:
    """−ln p(x) of each image when every pixel is a biased coin, summed over pixels, in nats: equation (1.2).

    logits: (b, ...), any numbers, ln(p / (1 − p)) of the probability p that the pixel is white;
    x: (b, ...) in [-1, 1]: its grey values are read as (x + 1) / 2 in [0, 1]. Returns (b,), nats per image.
    Works on logits, not on p: ln p would be −∞ as soon as the sigmoid rounds to 0.

    >>> bernoulli_nll(torch.zeros(1, 1, 28, 28), torch.ones(1, 1, 28, 28)) / 784      # a fair coin: ln 2 nats a pixel
    tensor([0.6931])
    """
    check_same_shape("bernoulli_nll", logits=logits, x=x)
    logits, target = at_least_float32(logits), (at_least_float32(x) + 1) / 2
    # −[t ln σ(l) + (1 − t) ln(1 − σ(l))] with ln(1 − σ(l)) = −softplus(l) and ln σ(l) = l − softplus(l)
    return (F.softplus(logits) - target * logits).flatten(1).sum(dim=1)


# ---------------------------------------------------------------------------------------------------------------------
# The network
# ---------------------------------------------------------------------------------------------------------------------
class Autoencoder(nn.Module):
    """Convolutional autoencoder: image → `latent` numbers → image.

    shape: (c, h, w) of the images, in [-1, 1], h and w multiples of 2 ** len(widths);  latent: size of the bottleneck;
    widths: channels of the encoder's convolutions.

    >>> model = Autoencoder((1, 28, 28), latent=2)
    >>> x = torch.zeros(3, 1, 28, 28)
    >>> model.encode(x).shape, model(x).shape
    (torch.Size([3, 2]), torch.Size([3, 1, 28, 28]))
    """

    def __init__(self, shape: tuple[int, int, int] = (1, 28, 28), latent: int = 2, widths: tuple[int, ...] = (64, 64)):
        super().__init__()
        self.shape, self.latent = tuple(shape), latent
        self.encoder = Encoder(shape, latent, widths)
        self.decoder = Decoder(latent, shape, widths)

    def encode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The code of each image, (b, latent): any real numbers. Nothing bounds them, which section 1.7 is about."""
        return at_least_float32(self.encoder(x))

    def logits(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """The output of the decoder's last layer, any real number: the logit of each pixel for `bernoulli_nll`."""
        return at_least_float32(self.decoder(z))

    def decode(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """The image of each code, (b, c, h, w) in [-1, 1]."""
        return (0.5 * self.logits(z)).tanh()  # = 2 · sigmoid − 1: the mean of the coin, moved to [-1, 1]

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The reconstruction of each image."""
        return self.decode(self.encode(x))


def squared_error_loss(model: nn.Module, x: Tensor, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """A loss for `training.fit`: the mean of equation (1.1) over the batch."""
    return reconstruction_error(x, model(x)).mean()


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], x: Tensor, size: int = 1000) -> Tensor:
    """function(x), `size` rows at a time and without gradients: the same numbers, a bounded memory.

    >>> in_batches(lambda x: 2 * x, torch.arange(5), size=2)
    tensor([0, 2, 4, 6, 8])
    """
    if size < 1:
        raise ValueError(f"in_batches expects size ≥ 1, got {size}.")
    return torch.cat([function(part) for part in x.split(size)])


# ---------------------------------------------------------------------------------------------------------------------
# The best that straight lines can do
# ---------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class PCA:
    """Principal component analysis: the linear autoencoder with the smallest squared error there is.

    mean: (c, h, w), the average image;  directions: (k, c·h·w), orthonormal rows, most important first;
    variances: (r,), how much the data spread along every direction (kept or not), largest first, r = min(n, c·h·w).
    Make one with `PCA.fit`.

    >>> x = torch.randn(100, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> pca = PCA.fit(x, 3)
    >>> pca.encode(x).shape, pca.decode(pca.encode(x)).shape
    (torch.Size([100, 3]), torch.Size([100, 1, 4, 4]))
    """

    mean: Float[Tensor, "c h w"]
    directions: Float[Tensor, "k p"]
    variances: Float[Tensor, "r"]

    @classmethod
    def fit(cls, x: Float[Tensor, "n c h w"], latent: int) -> "PCA":
        """Find the `latent` main directions of images x (n, c, h, w), by singular value decomposition.

        Raises ValueError unless 1 ≤ latent ≤ min(n, c·h·w).
        """
        flat = x.flatten(1)
        if not 1 <= latent <= min(flat.shape):
            raise ValueError(f"PCA.fit expects 1 ≤ latent ≤ {min(flat.shape)} (images, pixels), got {latent}.")
        mean = flat.mean(dim=0)
        centred = flat - mean
        # With many more images than pixels the triangular factor R has the same singular values and directions as the
        # whole matrix (Q only turns it), and is small.
        small = torch.linalg.qr(centred, mode="r").R if len(x) > 2 * flat.shape[1] else centred
        _, singular, directions = torch.linalg.svd(small, full_matrices=False)
        return cls(mean.view(x.shape[1:]), directions[:latent], singular.square() / len(x))

    @property
    def latent(self) -> int:
        """How many directions are kept."""
        return len(self.directions)

    def keep(self, latent: int) -> "PCA":
        """The same fit with fewer directions: they are nested, so there is nothing to fit again."""
        if not 1 <= latent <= self.latent:
            raise ValueError(
                f"PCA.keep expects 1 ≤ latent ≤ {self.latent}, got {latent}; fit one with more directions."
            )
        return PCA(self.mean, self.directions[:latent], self.variances)

    def encode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Coordinates of each image along the main directions: the first half of equation (1.3). (b, k)."""
        if x.shape[1:] != self.mean.shape:
            raise ValueError(f"PCA expects images (b, {', '.join(map(str, self.mean.shape))}), got {tuple(x.shape)}.")
        return (x - self.mean).flatten(1) @ self.directions.T

    def decode(self, z: Float[Tensor, "b k"]) -> Float[Tensor, "b c h w"]:
        """The image of each code, the second half of equation (1.3). May leave [-1, 1]: a line knows no bounds."""
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"PCA expects codes (b, {self.latent}), got {tuple(z.shape)}.")
        return (z @ self.directions).view(-1, *self.mean.shape) + self.mean

    def __call__(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The reconstruction of each image: equation (1.3)."""
        return self.decode(self.encode(x))

    def unexplained(self, latent: int | None = None) -> float:
        """MSE per pixel on the images it was fitted to, if `latent` directions are kept: the variances left out.

        By Eckart and Young (1936) no linear autoencoder with that bottleneck has less.
        """
        latent = self.latent if latent is None else latent
        return (self.variances[latent:].sum() / self.mean.numel()).item()


# ---------------------------------------------------------------------------------------------------------------------
# Walking through the space of codes
# ---------------------------------------------------------------------------------------------------------------------
def interpolate(a: Float[Tensor, "..."], b: Float[Tensor, "..."], steps: int) -> Float[Tensor, "n ..."]:
    """A straight walk from a to b in `steps` equal strides, both ends included: equation (1.6).

    a, b: tensors of one shape: two codes, two images, two batches of either. Returns (steps, *shape).

    >>> interpolate(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0]), steps=3)
    tensor([[0.0000, 2.0000],
            [0.5000, 1.0000],
            [1.0000, 0.0000]])
    """
    check_same_shape("interpolate", a=a, b=b)
    if steps < 2:
        raise ValueError(f"interpolate expects steps ≥ 2 (both ends are included), got {steps}.")
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device).view(-1, *[1] * a.ndim)
    return (1 - t) * a + t * b


class FittedGaussian(NamedTuple):
    """A Gaussian over codes: mean (d,), covariance (d, d), equation (1.7)."""

    mean: Tensor
    cov: Tensor

    def sample(self, n: int, generator: Generators | None = None) -> Float[Tensor, "n d"]:
        """n codes drawn from it, (n, d).  generator: one, or one for each code."""
        if n < 1:
            raise ValueError(f"FittedGaussian.sample expects n ≥ 1, got {n}.")
        # eigh and not Cholesky: a direction without any spread (a dead latent) is allowed.
        values, vectors = torch.linalg.eigh(self.cov)
        root = vectors * values.clamp(min=0).sqrt()
        noise = normal_like(self.mean.new_empty(n, len(self.mean)), generator)
        return self.mean + noise @ root.T


def fit_gaussian(z: Float[Tensor, "n d"]) -> FittedGaussian:
    """The Gaussian that fits codes best (maximum likelihood): their mean and covariance, equation (1.7).

    z: (n, d) codes, n ≥ 2. Returns FittedGaussian(mean (d,), cov (d, d)); the covariance divides by n.

    >>> fit_gaussian(torch.tensor([[0.0, 1.0], [2.0, 1.0]])).cov
    tensor([[1., 0.],
            [0., 0.]])
    """
    if z.ndim != 2 or len(z) < 2:
        raise ValueError(f"fit_gaussian expects codes (n, d) with n ≥ 2, got {tuple(z.shape)}.")
    mean = z.mean(dim=0)
    return FittedGaussian(mean, (z - mean).T @ (z - mean) / len(z))


# ---------------------------------------------------------------------------------------------------------------------
# Denoising
# ---------------------------------------------------------------------------------------------------------------------
def denoising_error(
    model: Callable[[Tensor], Tensor], x: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], sigma: float
) -> Float[Tensor, "b"]:
    """Squared error of each *clean* image when the model was shown a noisy one, mean over pixels: equation (1.8).

    model: maps images to images;  x: (b, ...) clean, in [-1, 1];  noise: like x, standard normal;
    sigma ≥ 0: standard deviation of the noise that is added, in pixel units. Returns (b,).

    >>> x, noise = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    >>> denoising_error(lambda noisy: noisy, x, noise, sigma=0.5)          # a model that does nothing keeps σ²
    tensor([0.2500, 0.2500])
    """
    check_same_shape("denoising_error", x=x, noise=noise)
    if not (sigma >= 0 and math.isfinite(sigma)):
        raise ValueError(f"denoising_error expects sigma ≥ 0, a standard deviation in pixel units, got {sigma}.")
    return reconstruction_error(x, model(x + sigma * noise))


def score_from_denoiser(
    denoised: Float[Tensor, "..."], noisy: Float[Tensor, "..."], sigma: float
) -> Float[Tensor, "..."]:
    """∇ ln p_σ(noisy): the direction in which noisy data become more likely, from the best denoiser: equation (1.9).

    denoised: E[x | noisy], like noisy;  sigma > 0: the noise's standard deviation. Returns a tensor like noisy.
    Exact for the *optimal* denoiser (Tweedie's formula; Vincent 2011); a trained one gives an estimate.

    >>> score_from_denoiser(torch.tensor([0.5]), torch.tensor([1.0]), sigma=1.0)      # data N(0, 1): p_σ is N(0, 2)
    tensor([-0.5000])
    """
    check_same_shape("score_from_denoiser", denoised=denoised, noisy=noisy)
    if not sigma > 0:
        raise ValueError(f"score_from_denoiser expects sigma > 0, got {sigma}.")
    return (denoised - noisy) / sigma**2


@torch.no_grad()
def anneal(
    denoise: Callable[[Tensor, Tensor], Tensor],
    start: Float[Tensor, "n ..."],
    sigmas: Sequence[float],
    fresh: float = 0.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n ..."]:
    """From noise to images through falling noise levels: equation (1.10).

    denoise: `denoise(x, sigma)` with sigma (n,) gives E[x | noisy];  start: (n, ...), noise of strength sigmas[0];
    sigmas: the levels, falling, all above 0; a last step leads from the smallest to 0;  fresh: from 0, all noise is the
    old one, to 1, all of it is new;  generator: draws the new noise, once in every step. Returns images like start.
    With fresh = 0 it is, in the variables of notebook 06, DDIM (arXiv:2010.02502).

    >>> anneal(lambda x, sigma: torch.zeros_like(x), torch.ones(1, 1, 2, 2), [2.0, 1.0]).abs().max()
    tensor(0.)
    """
    if not len(sigmas) or any(b >= a for a, b in zip(sigmas, sigmas[1:])) or not sigmas[-1] > 0:
        raise ValueError(f"anneal expects sigmas that fall and stay above 0, got {list(sigmas)}.")
    if not 0 <= fresh <= 1:
        raise ValueError(f"anneal expects fresh from 0 to 1, got {fresh}.")
    x = start
    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0]):
        guess = denoise(x, x.new_full((len(x),), float(sigma)))
        old = (x - guess) / sigma
        x = guess + following * ((1 - fresh**2) ** 0.5 * old + fresh * normal_like(x, generator))
    return x
