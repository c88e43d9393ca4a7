"""What notebook 08 defines by hand is what the library computes, and what its text says of the losses."""

import masters
import pytest
import torch
from torch import nn

from course_utils import adversarial
from course_utils.data import GaussianMixture
from course_utils.models import dcgan
from course_utils.pitfalls import gan as pitfalls


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
    """Against a discriminator that rests, the generator's step is plain gradient descent on (8.3)."""
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


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def copied(theirs, ours):
    """Ours with the weights of theirs, in the order in which both have them."""
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    return ours


@pytest.mark.parametrize("training", [True, False])
def test_the_networks_are_the_librarys(notebook, training):
    pairs = (
        (dcgan.Generator((3, 8, 12), 5, (4, 6)), notebook["Generator"]((3, 8, 12), 5, (4, 6)), (7, 5)),
        (dcgan.Discriminator((3, 8, 12), (4, 6)), notebook["Discriminator"]((3, 8, 12), (4, 6)), (7, 3, 8, 12)),
    )
    for theirs, ours, shape in pairs:
        given = torch.randn(shape, generator=rng())
        copied(theirs, ours)
        torch.testing.assert_close(ours.train(training)(given), theirs.train(training)(given))


def test_the_first_weights_are_those_of_the_paper(notebook):
    network = notebook["Generator"]((1, 28, 28), 100).apply(notebook["first_weights"])
    for name, weight in network.named_parameters():
        mean, spread = ((1.0, 0.02) if weight.ndim == 1 else (0.0, 0.02)) if name.endswith("weight") else (0.0, 0.0)
        assert weight.mean().item() == pytest.approx(mean, abs=0.012)
        assert weight.std(correction=0).item() == pytest.approx(spread, abs=0.006)


def test_looking_does_not_change_the_game(notebook):
    """The weights after a game do not depend on how often somebody looked."""
    ends = []
    for every in (1, 4):
        torch.manual_seed(0)
        G, D = notebook["Generator"]((1, 8, 12), 5, (4, 6)), notebook["Discriminator"]((1, 8, 12), (4, 6))
        steps = tuple(torch.optim.SGD(player.parameters(), 0.1) for player in (D, G))
        batches = torch.randn(4, 6, 1, 8, 12, generator=rng(1))
        codes = torch.randn(3, 5, generator=rng(2))
        losses, strips = notebook["watched"](G, D, adversarial.NON_SATURATING, batches, steps, codes, every, rng(3))
        assert len(losses) == 4 and list(strips) == list(range(every, 5, every))
        ends.append(G.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_mixed_codes_are_distributed_as_codes(notebook):
    place = torch.full((1,), 0.3), torch.full((1,), 0.6)
    corners = torch.randn(4, 40_000, generator=rng())
    assert notebook["mix"](corners, *place).std().item() == pytest.approx(1, abs=0.02)
    for k, (u, v) in enumerate(((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))):
        torch.testing.assert_close(notebook["mix"](corners, torch.tensor([u]), torch.tensor([v]))[0], corners[k])


def test_the_nearest_of_a_set_that_holds_the_image_is_the_image(notebook):
    data = torch.rand(9, 1, 4, 6, generator=rng())
    distance, index = notebook["nearest"](data[[4, 2]] + 0.01, data)
    assert index.tolist() == [4, 2]
    torch.testing.assert_close(distance, torch.full((2,), 0.01), rtol=1e-3, atol=1e-6)


def test_somebody_elses_album_is_its_last_batch(notebook):
    codes = torch.randn(10, 5, generator=rng())
    generator = notebook["Generator"]((1, 8, 12), 5, (4, 6)).eval()
    whole = notebook["somebody_elses_album"](generator, codes, 4)
    assert len(whole) == 10
    assert torch.equal(pitfalls.album(generator, codes, 4), whole[-2:])


def test_a_cap_stops_the_gradient_that_a_slope_lets_through():
    capped = pitfalls.Discriminator((1, 8, 12), (4, 6)).leaky
    x = torch.tensor([-1.0, 0.1, 1.0], requires_grad=True)
    assert torch.autograd.grad(capped(x).sum(), x)[0].tolist() == [0, 1, 0]
