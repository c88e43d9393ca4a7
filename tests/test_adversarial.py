"""The game of two networks: losses against their definitions, R1 in closed form, and which player each step moves."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.adversarial import (
    NON_SATURATING,
    RELATIVISTIC,
    SATURATING,
    Game,
    discriminator_loss,
    non_saturating_loss,
    optimal_discriminator,
    r1_penalty,
    relativistic_loss,
    saturating_loss,
    smoothed,
    train_gan,
)
from course_utils.data import GaussianMixture
from course_utils.training import Recipe


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


REAL, FAKE = (3 * torch.randn(7, generator=rng(seed), dtype=torch.float64) for seed in (0, 1))


@pytest.mark.equation("8.2", "8.3", "8.4", "8.9")
def test_losses_are_their_definitions():
    d_real, d_fake = REAL.sigmoid(), FAKE.sigmoid()
    torch.testing.assert_close(discriminator_loss(REAL, FAKE), -d_real.log().mean() - (1 - d_fake).log().mean())
    torch.testing.assert_close(non_saturating_loss(FAKE), -d_fake.log().mean())
    torch.testing.assert_close(saturating_loss(FAKE), (1 - d_fake).log().mean())
    pairs = torch.stack([-(r - f).sigmoid().log() for r, f in zip(REAL, FAKE)])
    torch.testing.assert_close(relativistic_loss(REAL, FAKE), pairs.mean())


@pytest.mark.equation("8.10")
@pytest.mark.parametrize("smooth", [0.0, 0.1, 0.5])
def test_smoothing_is_one_sided(smooth):
    """PyTorch's cross-entropy with the label 1 − s for real images, and 0, not s, for the others."""
    labels = torch.full_like(REAL, 1 - smooth)
    expected = F.binary_cross_entropy_with_logits(REAL, labels) + F.binary_cross_entropy_with_logits(
        FAKE, torch.zeros_like(FAKE)
    )
    torch.testing.assert_close(discriminator_loss(REAL, FAKE, smooth), expected)


def test_gradients_in_the_logit():
    """Found out for sure, D(G(z)) near 0: the one loss pushes with D − 1, the other with −D."""
    for logit in (-12.0, -2.0, 0.0, 3.0):
        fake, d = torch.tensor([logit], dtype=torch.float64, requires_grad=True), 1 / (1 + math.exp(-logit))
        (of_one,) = torch.autograd.grad(non_saturating_loss(fake), fake)
        (of_other,) = torch.autograd.grad(saturating_loss(fake), fake)
        assert of_one.item() == pytest.approx(d - 1) and of_other.item() == pytest.approx(-d)


def test_large_logits_stay_finite():
    for logit in (-1e4, 1e4):
        logits = torch.tensor([logit], requires_grad=True)
        for value in (
            discriminator_loss(logits, logits),
            non_saturating_loss(logits),
            saturating_loss(logits),
            relativistic_loss(logits, -logits),
        ):
            (slope,) = torch.autograd.grad(value, logits)
            assert value.isfinite() and slope.isfinite().all()


@pytest.mark.equation("8.1", "8.5")
def test_the_value_of_the_best_discriminator():
    """At D* = p / (p + q) the loss is 2 ln 2 − 2 JS(p ‖ q) (Goodfellow et al. 2014), by sums on a grid."""
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    p, q = (torch.distributions.Normal(mean, 1.0).log_prob(x) for mean in (0.0, 1.5))
    d, step = optimal_discriminator(p, q), (x[1] - x[0]).item()
    torch.testing.assert_close(d, p.exp() / (p.exp() + q.exp()))
    best = torch.logit(d)

    def mean(density, values):
        return (density.exp() * values).sum() * step

    loss = mean(p, F.softplus(-best)) + mean(q, F.softplus(best))
    middle = torch.logaddexp(p, q) - math.log(2)
    js = (mean(p, p - middle) + mean(q, q - middle)) / 2
    torch.testing.assert_close(loss, 2 * math.log(2) - 2 * js, rtol=1e-7, atol=1e-9)
    for other in (best + 0.3, 0.8 * best):
        assert mean(p, F.softplus(-other)) + mean(q, F.softplus(other)) > loss + 1e-3


@pytest.mark.equation("8.7")
def test_r1_of_a_quadratic():
    """logit = xᵀ A x: gradient 2 A x, so ½ |·|² = 2 |A x|². Its own gradient in A is 4 A x xᵀ."""
    a = torch.randn(3, 3, generator=rng(), dtype=torch.float64)
    a = (a + a.T).requires_grad_()
    x = torch.randn(5, 3, generator=rng(1), dtype=torch.float64)
    penalty = r1_penalty(lambda x: ((x @ a) * x).sum(1), x)
    torch.testing.assert_close(penalty, 2 * (x @ a).square().sum(1).mean())
    (slope,) = torch.autograd.grad(penalty, a)
    expected = torch.autograd.functional.jacobian(lambda a: 2 * (x @ (a + a.T) / 2).square().sum(1).mean(), a.detach())
    torch.testing.assert_close((slope + slope.T) / 2, expected)
    with torch.no_grad():  # as in a table of measured values
        torch.testing.assert_close(r1_penalty(lambda x: ((x @ a) * x).sum(1), x), penalty.detach())


def test_games_ask_the_discriminator_for_what_they_need():
    def D(x):
        return 2 * x.flatten()

    for game, of_d, of_g in [
        (NON_SATURATING, discriminator_loss(2 * REAL, 2 * FAKE), non_saturating_loss(2 * FAKE)),
        (smoothed(0.1), discriminator_loss(2 * REAL, 2 * FAKE, 0.1), non_saturating_loss(2 * FAKE)),
        (SATURATING, discriminator_loss(2 * REAL, 2 * FAKE), saturating_loss(2 * FAKE)),
        (RELATIVISTIC, relativistic_loss(2 * REAL, 2 * FAKE), relativistic_loss(2 * FAKE, 2 * REAL)),
    ]:
        assert game.discriminator(D, REAL[:, None], FAKE[:, None]) == of_d
        assert game.generator(D, REAL[:, None], FAKE[:, None]) == of_g
        with_r1 = game.with_r1(0.5)  # the slope is 2: ½ · 2² = 2 for each
        torch.testing.assert_close(with_r1.discriminator(D, REAL[:, None], FAKE[:, None]), of_d + 0.5 * 2)
        assert with_r1.generator(D, REAL[:, None], FAKE[:, None]) == of_g


# ---------------------------------------------------------------------------------------------------------------------
# The loop
# ---------------------------------------------------------------------------------------------------------------------
def players(width: int = 32) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    G = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2))
    D = nn.Sequential(nn.Linear(2, width), nn.LeakyReLU(0.2), nn.Linear(width, 1), nn.Flatten(0))
    return G, D


def test_one_step_by_hand():
    """One step of each, written out: the generator answers the discriminator that has just moved."""
    data = GaussianMixture.ring().sample(8, rng())
    G, D = players()
    g, d = copy.deepcopy(G), copy.deepcopy(D)
    recipe = Recipe(steps=1, batch_size=8, lr=0.01)
    seen = {}

    def spy(player):
        def loss(D, x, fake):
            seen[player] = (x.clone(), fake.clone(), fake.requires_grad)
            return getattr(NON_SATURATING, player)(D, x, fake)

        return loss

    history = train_gan(G, D, data, recipe, Game(spy("discriminator"), spy("generator")), latent=2, progress=False)
    (x, fake, with_graph), (_, same, needs_graph) = seen["discriminator"], seen["generator"]
    assert not with_graph and needs_graph and torch.equal(fake, same)

    optimizer = torch.optim.Adam(d.parameters(), lr=0.01, betas=(0.5, 0.999))
    loss = F.softplus(-d(x)).mean() + F.softplus(d(fake)).mean()
    loss.backward()
    optimizer.step()
    torch.testing.assert_close(history.loss[0], loss.item(), rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(D.parameters(), d.parameters()):
        torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(history.terms["generator"][0], F.softplus(-d(fake)).mean().item(), rtol=1e-5, atol=1e-6)
    assert not any(torch.equal(mine, theirs) for mine, theirs in zip(G.parameters(), g.parameters()))


def test_each_step_moves_its_own_player_only():
    data = GaussianMixture.ring().sample(64, rng())

    def nothing(D, x, fake):
        return 0.0 * (D(x).sum() + D(fake).sum())

    for still, game in (
        ("G", NON_SATURATING._replace(generator=nothing)),
        ("D", NON_SATURATING._replace(discriminator=nothing)),
    ):
        G, D = players()
        before = {"G": copy.deepcopy(G.state_dict()), "D": copy.deepcopy(D.state_dict())}
        train_gan(G, D, data, Recipe(steps=3, batch_size=16), game, latent=2, progress=False)
        for name, net in (("G", G), ("D", D)):
            same = all(torch.equal(value, before[name][key]) for key, value in net.state_dict().items())
            assert same == (name == still), (still, name)


def test_a_blob_is_learned_and_the_average_is_kept():
    """The generated mean and spread come near the data's."""
    data = GaussianMixture(torch.tensor([[2.0, -1.0]]), 0.3).sample(2000, rng())
    G, D = players()
    history = train_gan(G, D, data, Recipe(steps=600, batch_size=64, lr=5e-3, ema=0.99), latent=2, progress=False)
    x = history.ema_model(torch.randn(2000, 2, generator=rng(3))).detach()
    assert (x.mean(0) - data.mean(0)).abs().max() < 0.25 and (x.std(0) / 0.3).log().abs().max() < 1.0
    assert not G.training and not D.training
