"""Muon: what its step is, against an exact decomposition, torch's own optimizers, and a problem that it should win."""

import pytest
import torch
from torch import nn

from course_utils.device import seeded
from course_utils.training import Muon, fit
from course_utils.training.muon import orthogonalized


@pytest.mark.parametrize("shape", [(16, 16), (8, 72), (72, 8), (1, 9)])
def test_every_direction_becomes_about_equally_long_and_none_turns(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonalized(matrix) @ vt.T  # the same directions: diagonal
    reached = s / matrix.norm() > 0.02
    assert torch.allclose(inside, torch.diag(inside.diagonal()), atol=1e-8)
    assert (inside.diagonal()[reached] > 0.6).all() and (inside.diagonal() < 1.3).all()


def test_on_the_square_matrix_the_rounds_are_those_on_the_long_one():
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    long = x / x.norm()
    for _ in range(5):
        gram = long @ long.T
        long = 3.4445 * long + (-4.7750 * gram + 2.0315 * gram @ gram) @ long
    assert torch.allclose(orthogonalized(x), long, atol=1e-9)


def test_a_zero_gradient_moves_nothing():
    layer = nn.Conv2d(2, 3, 3)
    before = layer.weight.clone()
    layer.weight.grad, layer.bias.grad = torch.zeros_like(layer.weight), torch.zeros_like(layer.bias)
    Muon(layer.parameters()).step()
    assert torch.equal(layer.weight, before) and layer.weight.isfinite().all()


def test_all_that_is_no_filter_gets_adam():
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    muon = Muon(ours.parameters(), lr=0.1, adam=0.3)
    adam = torch.optim.Adam(theirs.parameters(), lr=0.03, betas=(0.9, 0.99))
    for k in range(5):
        x = torch.randn(7, 4, generator=torch.Generator().manual_seed(k))
        for model, optimizer in ((ours, muon), (theirs, adam)):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6) and torch.allclose(ours.bias, theirs.bias, atol=1e-6)


def test_the_first_step_on_a_filter_has_the_length_that_it_should():
    layer = nn.Conv2d(4, 8, 3, bias=False)
    before = layer.weight.detach().clone()
    layer(torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    Muon(layer.parameters(), lr=0.01).step()
    moved = torch.linalg.svdvals((layer.weight - before).flatten(1)) / 0.01
    assert 0.6 < moved.max() < 1.3


def test_a_run_with_muon_resumes_to_the_bit(tmp_path):
    x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def model():
        with seeded(0):
            return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 1, 3, padding=1))

    def loss(model, x, y, generator):
        return (model(x).float() - x.roll(1, -1)).square().mean()

    options = {"optimizer": "muon", "lr": 0.01, "batch_size": 16, "progress": False}
    whole, first = model(), model()
    fit(whole, loss, x, steps=12, **options)
    fit(first, loss, x, steps=5, checkpoint=tmp_path / "run.pt", **options)
    second = model()
    fit(second, loss, x, steps=12, checkpoint=tmp_path / "run.pt", **options)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), second.state_dict().values()))


def test_a_direction_with_small_gradients_is_learned_as_fast():
    """Inputs of very unequal size: gradient descent learns the large one and leaves the small one behind."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 2, 1, 1, generator=generator) * torch.tensor([1.0, 0.03]).view(1, 2, 1, 1)
    wanted = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 2, 1, 1)
    left = {}
    for name, make in {"muon": Muon, "sgd": torch.optim.SGD}.items():
        layer = nn.Conv2d(2, 2, 1, bias=False)
        nn.init.zeros_(layer.weight)
        optimizer = make(layer.parameters(), lr=0.02)
        for _ in range(80):
            optimizer.zero_grad()
            (layer(x) - nn.functional.conv2d(x, wanted)).square().mean().backward()
            optimizer.step()
        left[name] = (layer.weight - wanted)[1, 1].abs().item()
    assert left["muon"] < 0.3 and left["sgd"] > 0.9


def test_a_rate_that_is_none_is_refused():
    with pytest.raises(ValueError, match="lr > 0"):
        Muon(nn.Linear(1, 1).parameters(), lr=0)
