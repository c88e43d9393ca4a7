"""The variational autoencoder of notebook 02, and the quantities measured on it.

Everything is counted in **nats per image**: sums over pixels and over latents, never a silent mean. Networks may run
in half precision; what they return is brought back to float32 before any exponential, logarithm or sum is taken.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..arrays import Generators, at_least_float32, check_same_shape, normal_like
from .autoencoder import bernoulli_nll, in_batches
from .blocks import Decoder, Encoder

LOG_TWO_PI = math.log(2 * math.pi)


# ---------------------------------------------------------------------------------------------------------------------
# Gaussians
# ---------------------------------------------------------------------------------------------------------------------
def gaussian_kl(
    mean_q: Float[Tensor, "... d"],
    cov_q: Float[Tensor, "... d d"],
    mean_p: Float[Tensor, "... d"],
    cov_p: Float[Tensor, "... d d"],
) -> Float[Tensor, "..."]:
    """KL(q ‖ p) between two Gaussians with full covariance matrices, in nats: equation (2.3).

    mean_q, mean_p: (..., d);  cov_q, cov_p: (..., d, d), symmetric and positive definite. Returns (...).
    Leading axes broadcast. Computed with Cholesky factors: no matrix is inverted and no determinant can overflow.
    Raises ValueError where a matrix isn't positive definite.

    >>> mean, cov = torch.zeros(2), torch.eye(2)
    >>> print(f"{gaussian_kl(mean, cov, mean + 1, cov).item():.3f}")   # equal covariances: half the squared distance
    1.000
    """
    factors = []
    for name, cov in (("cov_q", cov_q), ("cov_p", cov_p)):
        factor, failed = torch.linalg.cholesky_ex(cov)
        if not failed.is_meta and failed.any():
            raise ValueError(f"gaussian_kl expects positive definite covariances; {name} is not (all eigenvalues > 0).")
        factors.append(factor)
    root_q, root_p = factors
    # Σp = Lp Lpᵀ, so tr(Σp⁻¹ Σq) is the squared size of Lp⁻¹ Lq, and the quadratic term that of Lp⁻¹ (μp − μq).
    trace = _solve(root_p, root_q).square().sum((-2, -1))
    quadratic = _solve(root_p, (mean_p - mean_q).unsqueeze(-1)).square().sum((-2, -1))
    log_det = 2 * (_log_diagonal(root_p) - _log_diagonal(root_q))
    return 0.5 * (log_det + trace + quadratic - mean_q.shape[-1])


def _solve(lower: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(lower, right, upper=False)


def _log_diagonal(lower: Tensor) -> Tensor:
    return lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def kl_to_standard_normal(mean: Float[Tensor, "b d"], log_var: Float[Tensor, "b d"]) -> Float[Tensor, "b"]:
    """KL(N(mean, diag exp(log_var)) ‖ N(0, I)) of each image, summed over its latents, in nats: equation (2.4).

    mean, log_var: (b, d); log_var is ln σ², not ln σ. Returns (b,). Half precision is raised to float32 first.

    >>> kl_to_standard_normal(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
    tensor([2.])
    """
    check_same_shape("kl_to_standard_normal", mean=mean, log_var=log_var)
    mean, log_var = at_least_float32(mean), at_least_float32(log_var)
    # expm1 keeps the digits that exp(log_var) - 1 would lose near the prior, where collapsed latents live.
    return 0.5 * (mean.square() + log_var.expm1() - log_var).sum(dim=1)


def reparameterize(
    mean: Float[Tensor, "b *d"], log_var: Float[Tensor, "b *d"], noise: Float[Tensor, "b *d"]
) -> Float[Tensor, "b *d"]:
    """z = mean + σ · noise with σ = exp(log_var / 2): a draw from q(z|x) that gradients flow through, equation (2.5).

    mean, log_var: (b, d);  noise: (b, d), standard normal, fresh for every image and every latent. Returns z, (b, d).
    A code may be a small image instead of d numbers: then all four are (b, c, h, w).

    >>> reparameterize(torch.ones(1, 1), torch.full((1, 1), 4.0).log(), torch.tensor([[0.5]]))
    tensor([[2.]])
    """
    check_same_shape("reparameterize", mean=mean, log_var=log_var, noise=noise)
    return at_least_float32(mean) + (0.5 * at_least_float32(log_var)).exp() * noise


def gaussian_nll(
    x: Float[Tensor, "b *rest"], mean: Float[Tensor, "b *rest"], log_sigma: Float[Tensor, "*sigma"] | float | int
) -> Float[Tensor, "b"]:
    """−ln N(x; mean, σ² I) of each image, summed over pixels, in nats: equation (2.7).

    x, mean: (b, ...);  log_sigma: ln σ, a number or a tensor that broadcasts to x (one σ for all pixels, or one each;
    it may be a parameter that is learned). Returns (b,). This is a density: it may be negative.

    >>> gaussian_nll(torch.zeros(1, 4), torch.zeros(1, 4), 0.0)     # 4 · ½ ln 2π
    tensor([3.6758])
    """
    check_same_shape("gaussian_nll", x=x, mean=mean)
    x, mean = at_least_float32(x), at_least_float32(mean)
    log_sigma = torch.as_tensor(log_sigma, dtype=x.dtype, device=x.device)
    per_pixel = 0.5 * ((x - mean) * (-log_sigma).exp()).square() + log_sigma + 0.5 * LOG_TWO_PI
    return per_pixel.flatten(1).sum(dim=1)


# ---------------------------------------------------------------------------------------------------------------------
# The bound
# ---------------------------------------------------------------------------------------------------------------------
class Elbo(NamedTuple):
    """The two costs of the bound, each (b,), nats per image: ELBO = −reconstruction − kl, equation (2.1)."""

    reconstruction: Tensor
    kl: Tensor

    @property
    def bound(self) -> Tensor:
        """The ELBO of each image, (b,), in nats: a lower bound of ln p(x), equation (2.1)."""
        return -self.reconstruction - self.kl

    def loss(self, beta: float | int = 1.0) -> Tensor:
        """What is minimised: the mean over images of reconstruction + β · KL, equation (2.9). β = 1 is −ELBO.

        >>> Elbo(torch.tensor([90.0, 110.0]), torch.tensor([10.0, 20.0])).loss(beta=2)
        tensor(130.)
        """
        if beta < 0:
            raise ValueError(f"β-ELBO expects beta ≥ 0, got {beta}; 1 gives the ELBO, larger values press the KL down.")
        return (self.reconstruction + beta * self.kl).mean()


class VAE(nn.Module):
    """Convolutional variational autoencoder: encoder q(z|x), decoder p(x|z), prior N(0, I).

    shape: (c, h, w) of the images, in [-1, 1];  latent: how many latents;  widths: channels of each convolution.
    likelihood: "bernoulli" (grey values read as probabilities, (x+1)/2) or "gaussian" (density of x in [-1, 1]).
    sigma: for "gaussian" the fixed standard deviation of a pixel; None learns one σ for all pixels.

    >>> vae = VAE((1, 28, 28), latent=2)
    >>> x = torch.zeros(3, 1, 28, 28)
    >>> mean, log_var = vae.encode(x)
    >>> mean.shape, vae.decode(mean).shape
    (torch.Size([3, 2]), torch.Size([3, 1, 28, 28]))
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent: int,
        widths: tuple[int, ...] = (64, 64),
        likelihood: str = "bernoulli",
        sigma: float | int | None = None,
    ):
        super().__init__()
        if latent < 1:
            raise ValueError(f"VAE expects latent ≥ 1, got {latent}; use 2 for pictures of the latent space.")
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f'VAE expects likelihood "bernoulli" or "gaussian", got {likelihood!r}.')
        if sigma is not None and (likelihood == "bernoulli" or sigma <= 0):
            raise ValueError(f'VAE expects sigma > 0, only with likelihood "gaussian"; got {sigma}, {likelihood!r}.')
        self.shape, self.latent, self.likelihood = tuple(shape), latent, likelihood
        self.encoder = Encoder(shape, 2 * latent, widths)
        self.decoder = Decoder(latent, shape, widths)
        if likelihood == "gaussian":
            self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma or 0.5)), requires_grad=sigma is None)

    def encode(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Mean and log-variance (ln σ²) of q(z|x), each (b, latent), float32 or better."""
        mean, log_var = at_least_float32(self.encoder(x)).chunk(2, dim=1)
        return mean, log_var

    def logits(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """The output of the decoder's last layer, any real number: for "bernoulli" the logit of each pixel."""
        return at_least_float32(self.decoder(z))

    def decode(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """The mean image of p(x|z), (b, c, h, w) in [-1, 1]."""
        return (0.5 * self.logits(z)).tanh()  # for logits this is 2 · sigmoid − 1: the Bernoulli mean moved to [-1, 1]

    def nll(self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b d"]) -> Float[Tensor, "b"]:
        """−ln p(x|z) of each image, summed over pixels, in nats: (1.2) for "bernoulli", (2.7) for "gaussian"."""
        if self.likelihood == "bernoulli":
            return bernoulli_nll(self.logits(z), x)
        return gaussian_nll(x, self.decode(z), self.log_sigma)

    def forward(self, x: Float[Tensor, "b c h w"], generator: Generators | None = None) -> Tensor:
        """One reconstruction of each image through a random z ~ q(z|x), (b, c, h, w) in [-1, 1]."""
        mean, log_var = self.encode(x)
        return self.decode(reparameterize(mean, log_var, normal_like(mean, generator)))

    @torch.no_grad()
    def sample(self, n: int, generator: Generators | None = None) -> Float[Tensor, "n c h w"]:
        """n mean images decoded from draws of the prior N(0, I), in [-1, 1].  generator: one, or one for each image."""
        if n < 1:
            raise ValueError(f"VAE.sample expects n ≥ 1, got {n}.")
        like = next(self.parameters())
        return self.decode(normal_like(like.new_empty(n, self.latent), generator))


def elbo(model: VAE, x: Float[Tensor, "b c h w"], noise: Float[Tensor, "b d"]) -> Elbo:
    """One-draw estimate of the ELBO of each image: equation (2.1). The KL term is exact, the other uses one z.

    x: (b, c, h, w) in [-1, 1];  noise: (b, latent), standard normal. Returns Elbo(reconstruction, kl), each (b,), nats.

    >>> costs = elbo(VAE((1, 8, 8), 2), torch.zeros(5, 1, 8, 8), torch.zeros(5, 2))
    >>> costs.reconstruction.shape, costs.kl.shape
    (torch.Size([5]), torch.Size([5]))
    """
    mean, log_var = model.encode(x)
    z = reparameterize(mean, log_var, noise)
    return Elbo(model.nll(x, z), kl_to_standard_normal(mean, log_var))


def negative_elbo(beta: float | int = 1.0) -> Callable:
    """A loss for `training.fit`: −(β-ELBO) in nats per image, equation (2.9), with both terms recorded.

    >>> loss, terms = negative_elbo()(VAE((1, 8, 8), 2), torch.zeros(4, 1, 8, 8), None, torch.Generator())
    >>> sorted(terms)
    ['kl', 'reconstruction']
    """

    def loss(model: VAE, x: Tensor, y: Tensor | None, generator: torch.Generator | None):
        noise = torch.randn(len(x), model.latent, generator=generator, device=x.device)
        costs = elbo(model, x, noise)
        return costs.loss(beta), {"reconstruction": costs.reconstruction.mean(), "kl": costs.kl.mean()}

    return loss


def tutorial_loss(
    model: VAE, x: Tensor, y: Tensor | None, generator: torch.Generator | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a VAE as a widely read tutorial has it, for `training.fit`: a mystery that notebook 02 solves.

    model: has encode(x), nll(x, z) and latent;  x: (b, c, h, w) in [-1, 1].  Returns the loss and both terms, as they
    stand in the tutorial. Not for use: `negative_elbo` is what you want.

    >>> loss, terms = tutorial_loss(VAE((1, 8, 8), 4), torch.zeros(4, 1, 8, 8), None, torch.Generator())
    >>> sorted(terms)
    ['kl', 'reconstruction']
    """
    noise = torch.randn(len(x), model.latent, generator=generator, device=x.device)
    costs = elbo(model, x, noise)
    terms = {"reconstruction": costs.reconstruction.mean(), "kl": costs.kl.mean() / model.latent}
    return costs.loss(beta=1 / model.latent), terms


# ---------------------------------------------------------------------------------------------------------------------
# Tighter bounds and other measurements
# ---------------------------------------------------------------------------------------------------------------------
def iwae_bound(log_w: Float[Tensor, "k b"]) -> Float[Tensor, "b"]:
    """ln of the mean of k importance weights, given their logarithms: equation (2.8). Nats per image.

    log_w: (k, b), ln p(x, z_i) − ln q(z_i|x) for k draws z_i ~ q(z|x). Returns (b,). The mean is taken of the
    weights, not of their logarithms (that would be the ELBO again); logsumexp keeps exp(−300) from becoming zero.

    >>> iwae_bound(torch.tensor([[-300.0], [-300.0]]))
    tensor([-300.])
    """
    if log_w.ndim != 2 or len(log_w) == 0:
        raise ValueError(f"iwae_bound expects log_w (k, b) with k ≥ 1, got shape {tuple(log_w.shape)}.")
    return torch.logsumexp(log_w, dim=0) - math.log(len(log_w))


def log_weights(model: VAE, x: Float[Tensor, "b c h w"], noise: Float[Tensor, "k b d"]) -> Float[Tensor, "k b"]:
    """ln p(x|z) + ln p(z) − ln q(z|x) for k draws of z per image, in nats.

    x: (b, c, h, w);  noise: (k, b, latent), standard normal. Returns (k, b). Its mean over k estimates the ELBO.
    """
    mean, log_var = model.encode(x)
    z = mean + (0.5 * log_var).exp() * noise
    # The two log-densities share −d/2 ln 2π, and (z − mean)/σ is the noise itself.
    log_ratio = 0.5 * (noise.square() + log_var - z.square()).sum(dim=2)
    many = x.expand(len(noise), *x.shape).flatten(0, 1)
    return log_ratio - model.nll(many, z.flatten(0, 1)).view(len(noise), len(x))


@torch.no_grad()
def log_evidence(
    model: VAE,
    x: Float[Tensor, "b c h w"],
    samples: int = 64,
    *,
    generator: torch.Generator | None = None,
    rows: int = 4096,
) -> Float[Tensor, "b"]:
    """Estimate ln p(x) of each image from below with `samples` importance draws, equation (2.8), nats per image.

    x: (b, c, h, w). Memory is bounded: at most about `rows` decoded images are held at once, whatever b and `samples`.
    """
    if samples < 1 or rows < 1:
        raise ValueError(f"log_evidence expects samples ≥ 1 and rows ≥ 1, got samples={samples}, rows={rows}.")
    result = []
    for images in x.split(max(1, rows // samples)):
        draws = []
        for start in range(0, samples, rows):
            k = min(rows, samples - start)
            shape = (k, len(images), model.latent)
            draws.append(log_weights(model, images, torch.randn(shape, generator=generator, device=x.device)))
        result.append(iwae_bound(torch.cat(draws)))
    return torch.cat(result)


def encode_all(model: VAE, x: Float[Tensor, "n c h w"], batch: int = 1024) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of q(z|x) for many images, (n, latent) each, a batch at a time and without gradients."""
    mean, log_var = in_batches(lambda part: torch.cat(model.encode(part), 1), x, batch).chunk(2, dim=1)
    return mean, log_var


def active_units(means: Float[Tensor, "n d"], threshold: float | int = 0.01) -> Bool[Tensor, "d"]:
    """Which latents are active: variance over images of their posterior mean above the threshold, equation (2.11).

    means: (n, d), E[z|x] of n ≥ 2 different images. Returns (d,) of bool; `.sum()` counts the active units.

    >>> active_units(torch.tensor([[0.0, -1.0], [0.0, 1.0]]))
    tensor([False,  True])
    """
    if means.ndim != 2 or len(means) < 2:
        raise ValueError(f"active_units expects means (n, d) of n ≥ 2 images, got shape {tuple(means.shape)}.")
    return means.var(dim=0) > threshold


def dequantise(x: Float[Tensor, "b c h w"], generator: torch.Generator | None = None) -> Float[Tensor, "b c h w"]:
    """Spread each of the 256 grey levels evenly over its bin, so that a density over pixels makes sense.

    x: in [-1, 1], levels 2/255 apart. Returns x + u, u uniform in ±1/255: it may leave [-1, 1] by that much.

    >>> (dequantise(torch.zeros(1, 1, 2, 2)).abs() <= 1 / 255).all().item()
    True
    """
    return x + (torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device) - 0.5) * (2 / 255)


def bits_per_dimension(
    nll: Float[Tensor, "*b"], dimensions: int, bin_width: float | int = 2 / 255
) -> Float[Tensor, "*b"]:
    """Bits that one pixel value costs, from −ln p(x) in nats per image of a *density*: equation (2.12).

    nll: nats per image, any shape;  dimensions: c·h·w;  bin_width: distance of neighbouring levels, in the units that
    the density is over (2/255 for images in [-1, 1]; 1 for something that already is a probability, as binary pixels).

    >>> uniform = math.log(2 + 2 / 255) * torch.tensor(784.0)       # a uniform density over 256 bins of 2/255
    >>> print(f"{bits_per_dimension(uniform, 784).item():.4f}")
    8.0000
    """
    if dimensions < 1 or bin_width <= 0:
        raise ValueError(f"bits_per_dimension expects dimensions ≥ 1, bin_width > 0; got {dimensions}, {bin_width}.")
    return nll / (dimensions * math.log(2)) - math.log2(bin_width)


# ---------------------------------------------------------------------------------------------------------------------
# Two estimators of one gradient
# ---------------------------------------------------------------------------------------------------------------------
def score_function_gradient(
    f: Callable[[Tensor], Tensor], mean: Float[Tensor, "d"], log_var: Float[Tensor, "d"], noise: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    """n single-draw estimates of ∇_mean E[f(z)], z ~ N(mean, σ² I), f not differentiated: equation (2.6).

    f: maps (n, d) to (n,);  mean, log_var: (d,);  noise: (n, d), standard normal.
    Returns f(z) · ∇_mean ln q(z) = f(z) · noise / σ for every draw, (n, d).
    """
    sigma = (0.5 * log_var).exp()
    values = f(mean + sigma * noise)
    return values.unsqueeze(1) * noise / sigma


def reparameterized_gradient(
    f: Callable[[Tensor], Tensor], mean: Float[Tensor, "d"], log_var: Float[Tensor, "d"], noise: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    """n single-draw estimates of the same ∇_mean E[f(z)], differentiating f at z = mean + σ · noise: equation (2.5).

    Arguments and result as in `score_function_gradient`; f must be differentiable and act on every row by itself.
    """
    with torch.enable_grad():
        z = (mean + (0.5 * log_var).exp() * noise).detach().requires_grad_()
        return torch.autograd.grad(f(z).sum(), z)[0]  # dz/dmean = 1


# ---------------------------------------------------------------------------------------------------------------------
# The model on which nothing is intractable
# ---------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class LinearGaussian:
    """z ~ N(0, I), x | z ~ N(W z + b, σ² I): ln p(x), the posterior and the ELBO all have closed forms.

    weight: W, (pixels, latents);  bias: b, (pixels,);  sigma: σ > 0. Use float64: the tests of notebook 02 need it.

    >>> model = LinearGaussian(torch.tensor([[1.0]]), torch.zeros(1), sigma=1.0)
    >>> mean, cov = model.posterior(torch.tensor([[2.0]]))
    >>> mean, cov
    (tensor([[1.]]), tensor([[0.5000]]))
    """

    weight: Float[Tensor, "p d"]
    bias: Float[Tensor, "p"]
    sigma: float | int

    def __post_init__(self):
        if self.sigma <= 0:
            raise ValueError(f"LinearGaussian expects sigma > 0, got {self.sigma}.")

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n pairs (x, z): (n, pixels) and (n, latents)."""
        z = torch.randn(n, self.weight.shape[1], generator=generator, dtype=self.weight.dtype)
        clean = z @ self.weight.T + self.bias
        return clean + self.sigma * normal_like(clean, generator), z

    def log_likelihood(self, x: Float[Tensor, "n p"], z: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """ln p(x|z), nats."""
        return -gaussian_nll(x, z @ self.weight.T + self.bias, math.log(self.sigma))

    def log_evidence(self, x: Float[Tensor, "n p"]) -> Float[Tensor, "n"]:
        """ln p(x) exactly: x ~ N(b, W Wᵀ + σ² I)."""
        eye = torch.eye(len(self.bias), dtype=x.dtype)
        root = torch.linalg.cholesky(self.weight @ self.weight.T + self.sigma**2 * eye)
        white = _solve(root, (x - self.bias).T)
        return -0.5 * white.square().sum(0) - _log_diagonal(root) - 0.5 * len(self.bias) * LOG_TWO_PI

    def posterior(self, x: Float[Tensor, "n p"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "d d"]]:
        """Mean (n, d) and covariance (d, d) of p(z|x); the covariance is the same for every x."""
        eye = torch.eye(self.weight.shape[1], dtype=x.dtype)
        cov = torch.linalg.inv(eye + self.weight.T @ self.weight / self.sigma**2)
        return (x - self.bias) @ self.weight @ cov / self.sigma**2, cov

    def elbo(self, x: Float[Tensor, "n p"], mean: Float[Tensor, "n d"], cov: Float[Tensor, "d d"]) -> Elbo:
        """Both terms of the bound for q(z|x) = N(mean, cov), exactly and without sampling: equation (2.1)."""
        # E‖x − Wz − b‖² splits into the error at the mean and tr(W cov Wᵀ), the error that q's spread adds.
        at_mean = gaussian_nll(x, mean @ self.weight.T + self.bias, math.log(self.sigma))
        spread = torch.trace(self.weight @ cov @ self.weight.T) / (2 * self.sigma**2)
        eye = torch.eye(len(cov), dtype=x.dtype)
        return Elbo(at_mean + spread, gaussian_kl(mean, cov.expand(len(mean), -1, -1), torch.zeros_like(mean), eye))

    def gap(self, x: Float[Tensor, "n p"], mean: Float[Tensor, "n d"], cov: Float[Tensor, "d d"]) -> Float[Tensor, "n"]:
        """KL(q(z|x) ‖ p(z|x)), which is ln p(x) − ELBO: equation (2.2). Zero where q is the posterior."""
        true_mean, true_cov = self.posterior(x)
        return gaussian_kl(mean, cov.expand(len(mean), -1, -1), true_mean, true_cov)
