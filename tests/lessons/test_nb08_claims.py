"""What notebook 08 defines by hand is what the library computes, and what its text says of the losses."""

import masters
import pytest
import torch
from torch import nn

from course_utils import adversarial
from course_utils.data import GaussianMixture


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("08")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REAL, FAKE = 5 * normal(40), 5 * normal(40, seed=1)


def test_the_losses_are_the_librarys(notebook):
    torch.testing.assert_close(notebook["discriminator_loss"](REAL, FAKE), adversarial.discriminator_loss(REAL, FAKE))
    theirs = adversarial.non_saturating_loss(FAKE), adversarial.saturating_loss(FAKE)
    torch.testing.assert_close(notebook["generator_losses"](FAKE), theirs)
    smoothed = notebook["smoothed_loss"](REAL, FAKE, 0.2)
    torch.testing.assert_close(smoothed, adversarial.discriminator_loss(REAL, FAKE, 0.2))


def test_where_nobody_can_tell_the_loss_is_twice_ln_2(notebook):
    nothing = torch.zeros(5)
    assert notebook["discriminator_loss"](nothing, nothing).item() == pytest.approx(1.386294, abs=1e-5)


def test_the_best_discriminator_is_a_ratio_of_densities(notebook):
    """On points where both densities can be written down: the ring's own against one Gaussian."""
    ring, blob = GaussianMixture.ring(std=0.4), GaussianMixture(torch.zeros(1, 2), 1.0)
    x = normal(50, 2).float()
    p, q = ring.log_prob(x).exp(), blob.log_prob(x).exp()
    torch.testing.assert_close(notebook["optimal_discriminator"](p.log(), q.log()), p / (p + q))


def test_nothing_else_is_as_good_as_the_best_discriminator(notebook):
    """p ln D + q ln (1 − D), at one place and for every D of a grid."""
    D = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    for p, q in ((0.2, 0.7), (3.0, 0.1), (0.5, 0.5)):
        best = D[(p * D.log() + q * (1 - D).log()).argmax()]
        found = notebook["optimal_discriminator"](torch.tensor(p).log(), torch.tensor(q).log())
        assert found.item() == pytest.approx(best.item(), abs=1e-3)


def test_modes_of_the_ring_are_counted(notebook):
    ring = GaussianMixture.ring(std=0.05)
    x, y = ring.labelled(4000, torch.Generator().manual_seed(0))
    labels = notebook["modes_of"](x, ring.means, 0.15)
    found = labels >= 0
    assert torch.equal(labels[found], y[found])
    assert found.double().mean().item() == pytest.approx(1 - torch.tensor(-4.5).exp().item(), abs=0.006)
    count, entropy = notebook["covered"](labels, 8)
    assert count == 8 and entropy == pytest.approx(2.0794, abs=0.01)
    assert notebook["covered"](torch.zeros(30, dtype=torch.long), 8) == (1, 0.0)


def test_r1_of_a_plane_is_half_its_squared_slope(notebook):
    plane = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)).double()
    found = notebook["r1"](plane, normal(6, 3))
    torch.testing.assert_close(found, plane[0].weight.square().sum() / 2)
    found.backward()
    torch.testing.assert_close(plane[0].weight.grad, plane[0].weight.detach())


def test_power_iteration_finds_the_largest_singular_value(notebook):
    weight, u = normal(6, 4).requires_grad_(), normal(6, seed=2)
    scaled, new = notebook["spectral"](weight, u / u.norm(), 200)
    torch.testing.assert_close(scaled, weight / torch.linalg.svdvals(weight)[0])
    assert new.norm().item() == pytest.approx(1) and not new.requires_grad
    (slope,) = torch.autograd.grad(scaled.square().sum(), weight)
    theirs = weight.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad((theirs / torch.linalg.matrix_norm(theirs, 2)).square().sum(), theirs)
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-6)


def test_pairs_are_the_librarys(notebook):
    def read(x):
        return x.sum(1)

    x, fake = normal(9, 2), normal(9, 2, seed=3)
    found = notebook["relativistic"](read, x, fake)
    theirs = adversarial.RELATIVISTIC
    torch.testing.assert_close(found, (theirs.discriminator(read, x, fake), theirs.generator(read, x, fake)))


def test_a_step_teaches_the_generator_by_its_own_loss_alone(notebook):
    """Against a discriminator that rests, the generator's step is plain gradient descent on (8.4)."""
    G, D = nn.Linear(2, 2).double(), nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)).double()
    x, z = normal(7, 2), normal(7, 2, seed=4)
    (slope,) = torch.autograd.grad(adversarial.non_saturating_loss(D(G(z))), G.weight)
    expected = G.weight.detach() - 0.1 * slope
    rest, move = torch.optim.SGD(D.parameters(), 0.0), torch.optim.SGD(G.parameters(), 0.1)
    notebook["gan_step"](G, D, adversarial.NON_SATURATING, x, z, rest, move)
    torch.testing.assert_close(G.weight.detach(), expected)


def test_snapshots_are_of_their_time(notebook):
    G, D = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    rng, first = torch.Generator().manual_seed(0), G.weight.detach().clone()
    sample = lambda: torch.randn(8, 2, generator=rng) + 2  # noqa: E731
    losses, snapshots = notebook["play"](G, D, adversarial.NON_SATURATING, sample, 6, 2, (0.5, 0.999), rng, keep=3)
    assert len(losses) == 6 and len(snapshots) == 3
    assert torch.equal(snapshots[0][0].weight, first) and torch.equal(snapshots[-1][0].weight, G.weight)
    assert not torch.equal(snapshots[1][0].weight, G.weight)
