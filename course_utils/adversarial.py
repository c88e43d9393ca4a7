"""The game of two networks: what each player minimizes, what steadies the game, and the loop that plays it.

A discriminator D gives each image one logit, ln of the odds that it is real, ln (D / (1 − D)); a generator G makes
images from noise z ~ N(0, 1). Losses are written on logits: ln D = −softplus(−logit) never becomes −∞.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .arrays import at_least_float32
from .training import EMA, History, Recipe, train

Logits = Float[Tensor, "b"]
Scalar = Float[Tensor, ""]


# ---------------------------------------------------------------------------------------------------------------------
# What each player minimizes
# ---------------------------------------------------------------------------------------------------------------------
def optimal_discriminator(log_p: Float[Tensor, ...], log_q: Float[Tensor, ...]) -> Float[Tensor, ...]:
    """D* = p / (p + q), equation (8.5): the best answer where real points have the density p, generated ones q.

    log_p, log_q: ln p and ln q, of one shape, however small the densities are. Returns probabilities in [0, 1].

    >>> optimal_discriminator(torch.tensor([0.0, -2000.0]), torch.tensor([0.0, -2001.0]))
    tensor([0.5000, 0.7311])
    """
    return (log_p - log_q).sigmoid()


def discriminator_loss(real: Logits, fake: Logits, smooth: float = 0.0) -> Scalar:
    """−E ln D(x) − E ln(1 − D(G(z))), in nats: equation (8.2), which is −V of equation (8.1).

    real, fake: (b,), the logits of real and of generated images.
    smooth: how far the label of *real* images lies below 1, equation (8.10) (one-sided label smoothing, Salimans et al.
        2016); the label of generated images stays 0.

    >>> discriminator_loss(torch.zeros(4), torch.zeros(4))         # it knows nothing: 2 ln 2
    tensor(1.3863)
    """
    real, fake = at_least_float32(real), at_least_float32(fake)
    # −(1 − s) ln D − s ln(1 − D) = softplus(−r) + s r
    return (F.softplus(-real) + smooth * real).mean() + F.softplus(fake).mean()


def non_saturating_loss(fake: Logits) -> Scalar:
    """−E ln D(G(z)), what Goodfellow et al. (2014) train the generator with, in nats: equation (8.3).

    Its gradient in a logit is D − 1: largest where the image is surely found out.

    >>> non_saturating_loss(torch.zeros(4))
    tensor(0.6931)
    """
    return F.softplus(-at_least_float32(fake)).mean()


def saturating_loss(fake: Logits) -> Scalar:
    """E ln(1 − D(G(z))), the generator's side of the minimax game itself, in nats (at most 0): equation (8.4).

    Its gradient in a logit is −D: next to nothing where the image is surely found out.

    >>> saturating_loss(torch.zeros(4))
    tensor(-0.6931)
    """
    return -F.softplus(at_least_float32(fake)).mean()


def relativistic_loss(up: Logits, down: Logits) -> Scalar:
    """E softplus(−(up_i − down_i)), in nats, equation (8.9): pairs of one real and one generated image
    (Jolicoeur-Martineau 2019).

    The discriminator wants real above generated, `relativistic_loss(real, fake)`, the generator the reverse,
    `relativistic_loss(fake, real)`. With R1 (and R2) it is the loss of a modern baseline, R3GAN (Huang et al. 2024).

    >>> relativistic_loss(torch.tensor([5.0]), torch.tensor([5.0]))
    tensor(0.6931)
    """
    return F.softplus(-(at_least_float32(up) - at_least_float32(down))).mean()


def r1_penalty(discriminator: Callable, x: Float[Tensor, "b ..."]) -> Scalar:
    """½ E |∇ₓ logit(x)|² at real images x (b, ...), equation (8.7): R1 (Mescheder, Geiger and Nowozin 2018), without
    its weight γ.

    A discriminator may be right about real images, but not steep there. It must look at one image at a time: with
    BatchNorm the logit of an image depends on the others.

    >>> r1_penalty(lambda x: 3 * x.sum(1), torch.zeros(5, 2))
    tensor(9.)
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return slope.square().flatten(1).sum(1).mean() / 2


class Game(NamedTuple):
    """What each player minimizes: functions of (discriminator, real images, generated images), each a scalar."""

    discriminator: Callable[[Callable, Tensor, Tensor], Tensor]
    generator: Callable[[Callable, Tensor, Tensor], Tensor]

    def with_r1(self, gamma: float) -> Game:
        """The same game with `gamma` times the R1 penalty in the discriminator's loss."""
        return self._replace(discriminator=lambda D, x, fake: self.discriminator(D, x, fake) + gamma * r1_penalty(D, x))


def smoothed(smooth: float) -> Game:
    """The non-saturating game with one-sided label smoothing."""
    return Game(
        lambda D, x, fake: discriminator_loss(D(x), D(fake), smooth), lambda D, x, fake: non_saturating_loss(D(fake))
    )


NON_SATURATING = smoothed(0.0)
SATURATING = NON_SATURATING._replace(generator=lambda D, x, fake: saturating_loss(D(fake)))
RELATIVISTIC = Game(
    lambda D, x, fake: relativistic_loss(D(x), D(fake)), lambda D, x, fake: relativistic_loss(D(fake), D(x))
)


# ---------------------------------------------------------------------------------------------------------------------
# The loop
# ---------------------------------------------------------------------------------------------------------------------
def train_gan(
    generator: nn.Module,
    discriminator: nn.Module,
    data: Any,
    recipe: Recipe,
    game: Game = NON_SATURATING,
    latent: int | None = None,
    betas: tuple[float, float] = (0.5, 0.999),
    **options: Any,
) -> History:
    """Train both in place, one step of the discriminator and one of the generator in turn. Returns the `History`.

    generator: codes (b, latent) → examples;  discriminator: examples → logits (b,);
    data, options: as for `training.train`;  latent: numbers in a code, `generator.latent` if not given;
    recipe: its lr is both players', its `ema` averages the generator (`history.ema_model`);  betas: Adam's.
    The history's loss is the discriminator's, its term "generator" the generator's, in nats.

    >>> from .data import GaussianMixture
    >>> G, D = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    >>> history = train_gan(G, D, GaussianMixture.ring().sample(64), Recipe(steps=2), latent=2, progress=False)
    >>> len(history.loss), len(history.terms["generator"])
    (2, 2)
    """
    latent = generator.latent if latent is None else latent
    g_step, d_step = (
        torch.optim.Adam(player.parameters(), lr=recipe.lr, betas=betas) for player in (generator, discriminator)
    )
    average = None if recipe.ema is None else EMA(generator, recipe.ema)

    def update(x: Tensor, y: Tensor, chance: torch.Generator) -> dict[str, Tensor]:
        fake = generator(torch.randn(len(x), latent, generator=chance, device=x.device))
        loss = game.discriminator(discriminator, x, fake.detach())  # no gradient reaches the generator from here
        d_step.zero_grad()
        loss.backward()
        d_step.step()
        opposing = game.generator(discriminator, x, fake)
        g_step.zero_grad()
        opposing.backward()
        g_step.step()
        if average is not None:
            average.update(generator)
        return {"loss": loss, "generator": opposing}

    parts = {"generator": generator, "discriminator": discriminator, "g_step": g_step, "d_step": d_step}
    parts |= {} if average is None else {"ema": average}
    return train(update, data, parts, recipe, about="a GAN", **options)
