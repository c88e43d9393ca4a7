"""What notebook 01 defines by hand is what the library computes."""

import math

import masters
import pytest
import torch
from torch import nn

from classroom.quizzes.declarations import Fixture
from course_utils.models import autoencoder as library
from course_utils.models import blocks


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


def test_the_picture_of_the_cost_shows_the_cost(notebook):
    p, x = torch.linspace(0.05, 0.95, 9), torch.full((9, 1), -0.4)
    torch.testing.assert_close(notebook["cost"](0.3, p), library.bernoulli_nll(p.logit()[:, None], x))


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
def test_the_class_is_the_librarys(notebook, shape):
    torch.manual_seed(0)
    ours = notebook["Autoencoder"](shape, 3, width=6)
    torch.manual_seed(0)
    theirs = library.Autoencoder(shape, 3, widths=(6, 6))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters())), "they start alike"
    x, z = images(4, *shape), torch.randn(4, 3, generator=rng())
    torch.testing.assert_close(ours.encode(x), theirs.encode(x))
    torch.testing.assert_close(ours.decode(z), theirs.decode(z))
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_training_loss_is_the_librarys(notebook):
    model, x = library.Autoencoder((1, 8, 8), 2, widths=(4, 4)), images(4, 1, 8, 8)
    ours, theirs = notebook["squared_error"](model, x, None, rng()), library.squared_error_loss(model, x, None, rng())
    torch.testing.assert_close(ours, theirs)


def test_the_published_decoder_differs_on_oblong_images_only(notebook):
    for shape, same in (((1, 12, 12), True), ((1, 8, 12), False)):
        linear = Fixture("autoencoder/linear", latent=3, outputs=4 * shape[1] * shape[2] // 16).build()
        up = Fixture("autoencoder/up", maps=4, channels=1).build()
        z = torch.randn(2, 3, generator=rng())
        mended, published = (notebook[f"decode_{name}"](z, linear, up, shape) for name in ("published", "as_published"))
        assert mended.shape == published.shape == (2, *shape), "its shape gives nothing away"
        assert torch.allclose(mended, published) == same


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


def test_pairs_are_of_different_classes(notebook):
    labels = torch.randint(4, (60,), generator=rng())
    i, j = notebook["different_pairs"](labels, 40, rng(1))
    assert len(i) == len(j) == 40 and (labels[i] != labels[j]).all()


def test_nearest_error_is_the_smallest_reconstruction_error(notebook):
    x, among = images(4, 1, 5, 6), images(30, 1, 5, 6, seed=1)
    every = torch.stack([library.reconstruction_error(x, y.expand_as(x)) for y in among])
    torch.testing.assert_close(notebook["nearest_error"](x, among), every.min(dim=0).values, atol=1e-5, rtol=1e-4)


def test_denoising(notebook):
    model, x = nn.Conv2d(1, 1, 3, padding=1), images(3, 1, 5, 7)
    noise = torch.randn(x.shape, generator=rng(1))
    expected = library.denoising_error(model, x, noise, 0.4)
    torch.testing.assert_close(notebook["denoising_error"](model, x, noise, 0.4), expected)
    torch.testing.assert_close(
        notebook["score_from_denoiser"](x, noise, 0.4), library.score_from_denoiser(x, noise, 0.4)
    )


@pytest.mark.equation("1.9")
def test_the_world_of_two_pixels(notebook):
    """Its closed form of E[x | x̃] against an average over many samples; its score against automatic differentiation."""
    namespace = notebook["best_denoiser"].__globals__
    centres = torch.tensor([[0.0, 1.5], [-1.3, -0.75], [1.3, -0.75]])
    namespace |= {"centres": centres, "blob": 0.25}
    sigma, noisy = 0.5, torch.tensor([[0.2, 0.9], [-0.5, -0.3], [0.0, 0.0], [2.0, -1.0]])
    clean = centres[torch.randint(3, (400_000,), generator=rng())]
    clean = clean + 0.25 * torch.randn(clean.shape, generator=rng(1))
    weights = torch.softmax(-torch.cdist(noisy, clean).square() / (2 * sigma**2), dim=1)
    denoised = notebook["best_denoiser"](noisy, sigma)
    torch.testing.assert_close(denoised, weights @ clean, atol=0.01, rtol=0)
    noisy.requires_grad_()
    score = torch.autograd.grad(notebook["log_density"](noisy, sigma).sum(), noisy)[0]
    found = library.score_from_denoiser(denoised, noisy.detach(), sigma)
    torch.testing.assert_close(found, score, atol=1e-4, rtol=1e-4)
    density = (
        notebook["log_density"](torch.cartesian_prod(*[torch.linspace(-5, 5, 201)] * 2), sigma).exp().sum() * 0.05**2
    )
    assert density.item() == pytest.approx(3 * 2 * math.pi, rel=1e-3), "a density, up to the constant that was left out"
