"""What notebook 01 defines by hand is what the library computes."""

import masters
import pytest
import torch
from torch import nn

from course_utils.models import autoencoder as library
from course_utils.models import blocks
from course_utils.pitfalls import autoencoder as pitfalls
from course_utils.training import fit


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("01")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(*shape, generator=rng(seed)) - 1


def test_losses(notebook):
    x, x_hat, logits = images(3, 1, 5, 7), images(3, 1, 5, 7, seed=1), torch.randn(3, 1, 5, 7, generator=rng(2))
    torch.testing.assert_close(notebook["reconstruction_error"](x, x_hat), library.reconstruction_error(x, x_hat))
    torch.testing.assert_close(notebook["bernoulli_nll"](logits, x), library.bernoulli_nll(logits, x))


@pytest.mark.parametrize("count", [120, 20])
def test_pca(notebook, count):
    x = images(count, 1, 5, 7)
    mean, directions, variances = notebook["fit_pca"](x, 4)
    pca = library.PCA.fit(x, 4)
    torch.testing.assert_close(mean, pca.mean)
    torch.testing.assert_close(variances, pca.variances, atol=1e-5, rtol=1e-4)
    z, x_hat = notebook["project_and_rebuild"](x, mean, directions)
    torch.testing.assert_close(x_hat, pca(x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(z.abs(), pca.encode(x).abs(), atol=1e-4, rtol=1e-4)  # each direction up to its sign


def test_sizes(notebook):
    for settings in ((4, 2, 1, 1), (3, 1, 0, 2), (5, 3, 2, 1)):
        assert notebook["conv_size"]((28, 19), *settings) == blocks.conv_size((28, 19), *settings)
    for settings in ((4, 2, 1, 0, 1), (3, 2, 1, 1, 1), (3, 1, 0, 1, 2)):
        expected = blocks.conv_transpose_size((7, 10), *settings)
        assert notebook["conv_transpose_size"]((7, 10), *settings) == expected


@pytest.mark.parametrize("shape", [(1, 28, 20), (3, 8, 12)])
def test_the_classes_are_the_librarys(notebook, shape):
    """Encoder and decoder by hand against the library's, with the same weights; its tanh is of half the logits."""
    torch.manual_seed(0)
    ours = notebook["Autoencoder"](shape, 3, width=6)
    torch.manual_seed(0)
    theirs = library.Autoencoder(shape, 3, widths=(6, 6))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters())), "they start alike"
    x, z = images(4, *shape), torch.randn(4, 3, generator=rng())
    torch.testing.assert_close(ours.encode(x), theirs.encode(x))
    torch.testing.assert_close(ours.decode(z), theirs.logits(z).tanh())
    torch.testing.assert_close(ours(x), ours.decode(ours.encode(x)))


def test_the_training_loss_is_the_librarys(notebook):
    model, x = library.Autoencoder((1, 8, 8), 2, widths=(4, 4)), images(4, 1, 8, 8)
    torch.testing.assert_close(notebook["squared_error"](model, x), library.squared_error_loss(model, x, None, rng()))


def test_the_loop_is_fit_with_less_comfort(notebook):
    """With the same batches, `fit` with Adam and the rate of the notebook makes the same weights."""
    x = images(40, 1, 2, 3)

    def fresh():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(6, 6), nn.Unflatten(1, (1, 2, 3)))

    seen, theirs, ours = [], fresh(), fresh()

    def loss(model, x, y, generator):
        seen.append(x.clone())
        return notebook["squared_error"](model, x)

    options = {"lr": 0.01, "batch_size": 8, "lr_schedule": "linear-half", "mixed_precision": False, "progress": False}
    made = fit(theirs, loss, x, steps=10, optimizer=torch.optim.Adam, **options)
    losses = notebook["train"](ours, notebook["squared_error"], iter(seen), 10, lr=0.01)
    assert losses == pytest.approx(made.loss, rel=1e-5)
    for a, b in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b)


def test_the_colleagues_loop_is_the_one_that_is_handed_out(notebook):
    """What the notebook shows before the code is what the code does: the same images at every step."""
    x, seen = images(200, 1, 2, 3), []

    def loss(model, x):
        seen.append(x.clone())
        return notebook["squared_error"](model, x)

    for loop in (pitfalls.training_loop, notebook["train_another"]):
        model = nn.Sequential(nn.Flatten(), nn.Linear(6, 6), nn.Unflatten(1, (1, 2, 3)))
        loop(model, loss, x, 5, 0.01, 3)
    assert all(torch.equal(seen[0], other) for other in seen[1:5])
    assert not any(torch.equal(seen[5], other) for other in seen[6:])


def test_another_of_its_class(notebook):
    labels = torch.tensor([2, 0, 2, 1, 0, 2])
    notebook["another_of_its_class"].__globals__["test"] = type("Test", (), {"labels": labels})
    assert [notebook["another_of_its_class"](i) for i in range(6)] == [2, 4, 5, 3, 1, 0]


def test_grain_is_what_alternates(notebook):
    rows = torch.tensor([1.0, -1.0]).repeat(4)[:, None].expand(8, 6)
    assert notebook["alternating"](rows[None, None]) == pytest.approx(1)
    assert notebook["alternating"](rows.roll(1, 0)[None, None] + 3) < 0.2
    noise = torch.randn(400, 1, 1, 8, 6, generator=rng())
    assert sum(map(notebook["alternating"], noise)) / 400 == pytest.approx(3 / 48, rel=0.1)


def test_decode_grid(notebook):
    decoded = notebook["decode_grid"](lambda z: z.view(-1, 1, 1, 2), (-1.0, 5.0), (1.0, 8.0), 4, 3)
    assert decoded.shape == (4, 3, 1, 1, 2)
    assert decoded[0, 0].flatten().tolist() == [-1, 5] and decoded[3, 2].flatten().tolist() == [1, 8]
    assert decoded[1, 2].flatten().tolist() == [1, 6], "row 1: second z₂; column 2: third z₁"


def test_interpolate_and_gaussian(notebook):
    a, b = images(2, 1, 3, 4), images(2, 1, 3, 4, seed=1)
    torch.testing.assert_close(notebook["interpolate"](a, b, 5), library.interpolate(a, b, 5))
    z = torch.randn(50, 3, generator=rng()) @ torch.randn(3, 3, generator=rng(1))
    for ours, theirs in zip(notebook["fit_gaussian"](z), library.fit_gaussian(z)):
        torch.testing.assert_close(ours, theirs)
    drawn = notebook["draw_codes"](z, 7, rng(2))
    torch.testing.assert_close(drawn, library.fit_gaussian(z).sample(7, rng(2)))


def test_nearest_error_is_the_smallest_reconstruction_error(notebook):
    x, among = images(4, 1, 5, 6), images(30, 1, 5, 6, seed=1)
    every = torch.stack([library.reconstruction_error(x, y.expand_as(x)) for y in among])
    torch.testing.assert_close(notebook["nearest_error"](x, among), every.min(dim=0).values, atol=1e-5, rtol=1e-4)


def test_denoising(notebook):
    """With one level for all it is the library's; the told network and the walk are as the equations have them."""
    model, x = nn.Conv2d(1, 1, 3, padding=1), images(3, 1, 5, 7)
    noise = torch.randn(x.shape, generator=rng(1))
    ours = notebook["denoising_error"](lambda noisy, sigma: model(noisy), x, noise, torch.full((3,), 0.4))
    torch.testing.assert_close(ours, library.denoising_error(model, x, noise, 0.4))
    told = notebook["Denoiser"]((1, 8, 12), width=4, code=6)
    start, levels = 5 * torch.randn(3, 1, 8, 12, generator=rng(2)), [5.0, 1.0, 0.2]
    with torch.no_grad():
        ours = notebook["anneal"](told, start, levels, 0.6, rng(3))
    torch.testing.assert_close(ours, library.anneal(told, start, levels, 0.6, rng(3)))


def test_without_noise_the_told_network_returns_what_it_sees(notebook):
    x = images(2, 1, 8, 12)
    with torch.no_grad():
        rebuilt = notebook["Denoiser"]((1, 8, 12))(x, torch.full((2,), 1e-4))
    torch.testing.assert_close(rebuilt, x, atol=1e-3, rtol=0)


def test_diversity_is_the_mean_error_between_two(notebook):
    x = images(5, 1, 4, 6)
    notebook["diversity"].__globals__["pixels"] = 24
    pairs = [library.reconstruction_error(x[i : i + 1], x[j : j + 1]) for i in range(5) for j in range(5) if i != j]
    torch.testing.assert_close(notebook["diversity"](x).mean(), torch.stack(pairs).mean())


@pytest.mark.equation("1.9")
def test_the_world_of_two_pixels(notebook):
    """The best guess among a list, turned into a score, against the gradient of the notebook's density."""
    world = 2 * torch.randn(30, 2, generator=rng(), dtype=torch.float64)
    notebook["log_density"].__globals__.update(world=world, sigma_toy=0.5)
    noisy = torch.randn(40, 2, generator=rng(1), dtype=torch.float64).requires_grad_()
    score = torch.autograd.grad(notebook["log_density"](noisy).sum(), noisy)[0]
    guess = notebook["best_guess"](noisy.detach(), world, 0.5)
    torch.testing.assert_close(library.score_from_denoiser(guess, noisy.detach(), 0.5), score, atol=1e-9, rtol=1e-7)
