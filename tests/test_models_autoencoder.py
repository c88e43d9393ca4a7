"""Encoder, decoder, autoencoder, PCA and their losses, each against something that does not share its code."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as SklearnPCA
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal
from torch.nn import functional as F

from course_utils.arrays import normal_like
from course_utils.models import autoencoder as ae
from course_utils.models.blocks import Decoder, Encoder, conv_size, conv_transpose_size, small_size
from course_utils.training import fit


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return 2 * torch.rand(*shape, generator=rng(seed), dtype=dtype) - 1


# ---------------------------------------------------------------------------------------------------- losses


@pytest.mark.equation("1.1")
def test_reconstruction_error_is_torchs_mse_image_by_image():
    x, x_hat = images(4, 3, 5, 7), images(4, 3, 5, 7, seed=1)
    expected = torch.stack([F.mse_loss(a, b) for a, b in zip(x, x_hat)])
    torch.testing.assert_close(ae.reconstruction_error(x, x_hat), expected)


@pytest.mark.equation("1.1")
def test_reconstruction_error_knows_its_extremes():
    white, black = torch.ones(2, 1, 4, 6), -torch.ones(2, 1, 4, 6)
    assert ae.reconstruction_error(white, white).tolist() == [0, 0]
    assert ae.reconstruction_error(white, black).tolist() == [4, 4]


@pytest.mark.equation("1.2")
def test_bernoulli_nll_of_black_and_white_images_is_a_log_probability():
    x, logits = images(3, 1, 5, 7).sign(), 4 * torch.randn(3, 1, 5, 7, generator=rng(1))
    expected = -Bernoulli(logits=logits).log_prob((x + 1) / 2).sum(dim=(1, 2, 3))
    torch.testing.assert_close(ae.bernoulli_nll(logits, x), expected)


@pytest.mark.equation("1.2")
def test_bernoulli_nll_of_grey_images_is_cross_entropy_in_nats_per_image():
    x, logits = images(3, 3, 4, 6), 4 * torch.randn(3, 3, 4, 6, generator=rng(1))
    each = F.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="none")
    torch.testing.assert_close(ae.bernoulli_nll(logits, x), each.sum(dim=(1, 2, 3)))


@pytest.mark.equation("1.2")
def test_bernoulli_nll_stays_finite_where_probabilities_round():
    logits = torch.tensor([[[[-500.0, 500.0]]]])
    assert ae.bernoulli_nll(logits, logits.sign()).item() == 0
    assert ae.bernoulli_nll(logits, -logits.sign()).item() == 1000


@pytest.mark.equation("1.2")
def test_probabilities_of_all_black_and_white_images_add_to_one():
    logits = torch.randn(1, 1, 2, 3, generator=rng(), dtype=torch.float64)
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 6).view(64, 1, 2, 3)
    total = (-ae.bernoulli_nll(logits.expand(64, -1, -1, -1), every)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-12)


def test_losses_are_computed_in_single_precision_when_the_network_is_not():
    x = images(2, 1, 8, 8)
    assert ae.bernoulli_nll(x.bfloat16(), x).dtype == torch.float32
    assert ae.reconstruction_error(x, x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("loss", [ae.reconstruction_error, ae.bernoulli_nll, lambda a, b: ae.interpolate(a, b, 3)])
def test_shapes_that_would_broadcast_silently_are_refused(loss):
    with pytest.raises(ValueError, match="one shape"):
        loss(torch.zeros(3, 1, 4, 4), torch.zeros(3, 4, 4))


# ---------------------------------------------------------------------------------------------------- PCA


@pytest.fixture(scope="module")
def data() -> torch.Tensor:
    """300 images with correlated pixels."""
    mixing = torch.randn(30, 30, generator=rng(3), dtype=torch.float64) / 5
    return (torch.randn(300, 30, generator=rng(), dtype=torch.float64) @ mixing).view(300, 1, 5, 6)


@pytest.mark.equation("1.3")
@pytest.mark.parametrize("count", [300, 40, 20])  # many more images than pixels, a few more, and fewer
@pytest.mark.parametrize("latent", [1, 4, 15])
def test_pca_is_scikit_learns(data, count, latent):
    x = data[:count]
    ours, theirs = ae.PCA.fit(x, latent), SklearnPCA(latent, svd_solver="full").fit(x.flatten(1).numpy())
    rebuilt = theirs.inverse_transform(theirs.transform(data.flatten(1).numpy()))
    np.testing.assert_allclose(ours(data).flatten(1).numpy(), rebuilt, atol=1e-10)
    signs = np.sign((ours.directions.numpy() * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(ours.encode(data).numpy() * signs, theirs.transform(data.flatten(1).numpy()), atol=1e-10)
    np.testing.assert_allclose(ours.variances[:latent], theirs.explained_variance_ * (count - 1) / count, rtol=1e-9)


@pytest.mark.equation("1.3")
def test_pca_projects(data):
    pca = ae.PCA.fit(data, 4)
    torch.testing.assert_close(pca.directions @ pca.directions.T, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(pca(pca(data)), pca(data))
    torch.testing.assert_close(pca.encode(pca.decode(torch.ones(1, 4).double())), torch.ones(1, 4).double())


def test_what_pca_leaves_out_is_its_error(data):
    pca = ae.PCA.fit(data, 12)
    for latent in (1, 5, 12):
        error = ae.reconstruction_error(data, pca.keep(latent)(data)).mean().item()
        assert pca.keep(latent).unexplained() == pytest.approx(error)
        assert pca.unexplained(latent) == pytest.approx(error)


def test_no_linear_autoencoder_beats_pca(data):
    """Eckart and Young, tried: random subspaces and least-squares decoders, all worse."""
    best = ae.PCA.fit(data, 3).unexplained()
    flat = data.flatten(1) - data.flatten(1).mean(0)
    for seed in range(20):
        codes = flat @ torch.randn(30, 3, generator=rng(seed), dtype=torch.float64)
        rebuilt = codes @ torch.linalg.lstsq(codes, flat).solution
        assert (flat - rebuilt).square().mean().item() > best


def test_pca_refuses(data):
    with pytest.raises(ValueError, match="1 ≤ latent ≤ 30"):
        ae.PCA.fit(data, 31)
    pca = ae.PCA.fit(data, 4)
    with pytest.raises(ValueError, match="fit one with more"):
        pca.keep(5)
    with pytest.raises(ValueError, match=r"PCA expects images \(b, 1, 5, 6\)"):
        pca.encode(torch.zeros(2, 1, 6, 5).double())
    with pytest.raises(ValueError, match=r"PCA expects codes \(b, 4\)"):
        pca.decode(torch.zeros(2, 3).double())


# ---------------------------------------------------------------------------------------------------- sizes

SETTINGS = [
    (kernel, stride, padding, dilation)
    for kernel in (1, 2, 3, 5)
    for stride in (1, 2, 3)
    for padding in (0, 1, 2)
    for dilation in (1, 2)
]


@pytest.mark.equation("1.4")
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), SETTINGS)
def test_conv_size_is_what_the_layer_makes(kernel, stride, padding, dilation):
    layer = nn.Conv2d(1, 1, kernel, stride, padding, dilation)
    for size in ((9, 14), (28, 19)):
        made = tuple(layer(torch.zeros(1, 1, *size)).shape[2:])
        assert conv_size(size, kernel, stride, padding, dilation) == made


@pytest.mark.equation("1.5")
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), SETTINGS)
def test_conv_transpose_size_is_what_the_layer_makes(kernel, stride, padding, dilation):
    for output_padding in range(max(stride, dilation)):
        layer = nn.ConvTranspose2d(1, 1, kernel, stride, padding, output_padding, dilation=dilation)
        for size in ((5, 8), (9, 7)):
            made = tuple(layer(torch.zeros(1, 1, *size)).shape[2:])
            assert conv_transpose_size(size, kernel, stride, padding, output_padding, dilation) == made


@pytest.mark.equation("1.4", "1.5")
def test_sizes_take_settings_of_their_own_for_each_axis():
    convolution = nn.Conv2d(1, 1, (3, 5), (1, 2), (0, 2), (2, 1))
    transposed = nn.ConvTranspose2d(1, 1, (3, 5), (1, 2), (0, 2), (0, 1), dilation=(2, 1))
    x = torch.zeros(1, 1, 13, 20)
    assert conv_size((13, 20), (3, 5), (1, 2), (0, 2), (2, 1)) == tuple(convolution(x).shape[2:])
    assert conv_transpose_size((13, 20), (3, 5), (1, 2), (0, 2), (0, 1), (2, 1)) == tuple(transposed(x).shape[2:])
    assert conv_size(13, 3) == 11 and conv_transpose_size(11, 3) == 13


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: conv_size(3, kernel=5), "a kernel that fits"),
        (lambda: conv_size(8, kernel=3, stride=0), "stride as a whole number, 1 or more"),
        (lambda: conv_size((8, 8, 8), (3, 3)), "pairs"),
        (lambda: conv_transpose_size(1, kernel=2, padding=1), "less padding"),
        (lambda: conv_transpose_size(4, 3, stride=2, output_padding=2), "output_padding below stride"),
    ],
)
def test_impossible_sizes_are_answered_in_a_line(call, says):
    with pytest.raises(ValueError, match=says) as error:
        call()
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------------- networks

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 64, 64), (1, 28, 20), (3, 8, 12), (1, 4, 16)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("latent", [1, 7])
def test_shapes_there_and_back(shape, latent):
    model = ae.Autoencoder(shape, latent, widths=(4, 6))
    x = images(5, *shape)
    z = model.encode(x)
    assert z.shape == (5, latent)
    assert model(x).shape == x.shape
    assert model(x).abs().max() <= 1
    torch.testing.assert_close(model(x), 2 * model.logits(z).sigmoid() - 1)


@pytest.mark.parametrize("widths", [(4,), (4, 6, 8)])
def test_every_width_is_a_halving(widths):
    size = 8 * 2 ** (len(widths) - 1)
    model = ae.Autoencoder((1, size, 2 * size), 3, widths)
    assert model(images(2, 1, size, 2 * size)).shape == (2, 1, size, 2 * size)
    assert small_size((1, size, 2 * size), widths) == (size >> len(widths), size * 2 >> len(widths))


def test_decoder_keeps_height_and_width_apart():
    """A decoder whose linear layer lights one row of the smallest maps must light a band of rows, not of columns."""
    decoder = Decoder(1, (1, 8, 12), widths=(1, 1))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        for layer in decoder:
            if isinstance(layer, nn.ConvTranspose2d):
                layer.weight.fill_(1)
        decoder[0].weight.view(2, 3)[1] = 1  # the lower of two rows
        image = decoder(torch.ones(1, 1))[0, 0]
    assert image[0].abs().sum() == 0, "the upper edge should stay dark"
    assert (image[1:] > 0).all(), "what the stamps reach should be lit from left to right"


def test_each_image_is_coded_by_itself():
    model, x = ae.Autoencoder((1, 8, 12), 3, widths=(4, 4)), images(6, 1, 8, 12)
    torch.testing.assert_close(model(x)[2:3], model(x[2:3]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Encoder((1, 30, 28), 2), "multiples of 4"),
        (lambda: Encoder((2, 28, 28), 2), "c 1 .grey. or 3 .colour."),
        (lambda: Encoder((1, 28, 28), 0), "outputs ≥ 1"),
        (lambda: Decoder(0, (1, 28, 28)), "latent ≥ 1"),
        (lambda: Encoder((1, 28, 28), 2, widths=()), "channel widths"),
        (lambda: Encoder((1, 28, 28), 2)(torch.zeros(1, 1, 28, 32)), r"images \(b, 1, 28, 28\)"),
        (lambda: Decoder(3, (1, 28, 28))(torch.zeros(1, 2)), r"codes \(b, 3\)"),
    ],
)
def test_networks_refuse_in_one_line(make, says):
    with pytest.raises(ValueError, match=says) as error:
        make()
    assert "\n" not in str(error.value)


def coin_loss(model, x, y, generator):
    return ae.bernoulli_nll(model.logits(model.encode(x)), x).mean()


def denoising_loss(model, x, y, generator):
    return ae.denoising_error(model, x, normal_like(x, generator), 0.3).mean()


@pytest.mark.parametrize("loss", [ae.squared_error_loss, coin_loss, denoising_loss])
def test_short_training_learns(loss):
    x = images(8, 1, 8, 12).sign().repeat(8, 1, 1, 1)
    torch.manual_seed(0)
    model = ae.Autoencoder((1, 8, 12), 6, widths=(16, 16))
    history = fit(model, loss, x, steps=120, batch_size=32, lr=1e-2, progress=False)
    assert sum(history.loss[-10:]) < 0.5 * sum(history.loss[:10])


def test_nothing_is_learnt_about_where_codes_lie():
    """Codes ten times as large with a decoder that divides by ten: the same reconstructions."""
    model, x = ae.Autoencoder((1, 8, 12), 3, widths=(4, 4)), images(5, 1, 8, 12)
    before, z = model(x), model.encode(x)
    with torch.no_grad():
        model.encoder[-1].weight.mul_(10)
        model.encoder[-1].bias.mul_(10)
        model.decoder[0].weight.div_(10)
    torch.testing.assert_close(model.encode(x), 10 * z, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-5)


def test_in_batches_gives_the_same_numbers_without_gradients():
    model, x = ae.Autoencoder((1, 8, 8), 2, widths=(4, 4)), images(7, 1, 8, 8)
    result = ae.in_batches(model, x, size=3)
    torch.testing.assert_close(result, model(x).detach(), atol=1e-6, rtol=1e-5)
    assert not result.requires_grad
    with pytest.raises(ValueError, match="size ≥ 1"):
        ae.in_batches(model, x, size=0)


# ---------------------------------------------------------------------------------------------------- walks and codes


@pytest.mark.equation("1.6")
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 4, 5)])
def test_interpolate_is_numpys_linspace(shape):
    a, b = torch.randn(2, *shape, generator=rng(), dtype=torch.float64)
    expected = np.linspace(a.numpy(), b.numpy(), 6)
    np.testing.assert_allclose(ae.interpolate(a, b, 6).numpy(), expected, atol=1e-14)
    with pytest.raises(ValueError, match="steps ≥ 2"):
        ae.interpolate(a, b, 1)


@pytest.mark.equation("1.7")
def test_fitted_gaussian_is_the_most_likely_one():
    z = torch.randn(200, 3, generator=rng(), dtype=torch.float64) @ torch.randn(3, 3, generator=rng(1)).double() + 2
    mean, cov = ae.fit_gaussian(z)
    np.testing.assert_allclose(cov.numpy(), np.cov(z.numpy(), rowvar=False, bias=True), atol=1e-12)
    best = MultivariateNormal(mean, cov).log_prob(z).sum()
    for seed in range(10):
        nudge = 0.02 * torch.randn(3, 3, generator=rng(seed), dtype=torch.float64)
        bend = torch.eye(3, dtype=torch.float64) + nudge
        other = MultivariateNormal(mean + nudge[0], bend @ cov @ bend.T)
        assert other.log_prob(z).sum() < best


@pytest.mark.equation("1.7")
def test_draws_have_the_fitted_moments():
    z = torch.randn(500, 3, generator=rng()) @ torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]]) + 1
    gaussian = ae.fit_gaussian(z)
    draws = gaussian.sample(200_000, rng(1))
    torch.testing.assert_close(draws.mean(0), gaussian.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(draws.T), gaussian.cov, atol=0.06, rtol=0)
    assert draws[:, 2].std() < 1e-3, "a latent without spread gives draws without spread"
    assert torch.equal(gaussian.sample(5, rng(2)), gaussian.sample(5, rng(2)))


def test_gaussian_refuses():
    with pytest.raises(ValueError, match="n ≥ 2"):
        ae.fit_gaussian(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="n ≥ 1"):
        ae.fit_gaussian(torch.zeros(4, 3)).sample(0)


# ---------------------------------------------------------------------------------------------------- denoising


@pytest.mark.equation("1.8")
def test_denoising_error_of_a_linear_model_is_known():
    """D(x̃) = a x̃ has expected error (1 − a)² E x² + a² σ²."""
    a, sigma = 0.7, 0.5
    x, noise = images(40, 1, 30, 40), torch.randn(40, 1, 30, 40, generator=rng(1))
    measured = ae.denoising_error(lambda noisy: a * noisy, x, noise, sigma).mean().item()
    expected = (1 - a) ** 2 * x.square().mean().item() + a**2 * sigma**2
    assert measured == pytest.approx(expected, rel=0.02)


@pytest.mark.equation("1.8")
def test_denoising_error_compares_with_the_clean_image():
    x, noise = images(3, 1, 4, 6), torch.randn(3, 1, 4, 6, generator=rng(1))
    assert ae.denoising_error(lambda noisy: x, x, noise, 2.0).tolist() == [0, 0, 0]
    expected = torch.stack([F.mse_loss(0.5 * n, torch.zeros_like(n)) for n in noise])
    torch.testing.assert_close(ae.denoising_error(lambda noisy: noisy, x, noise, 0.5), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("sigma", [-0.1, math.inf, math.nan])
def test_impossible_noise_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma ≥ 0"):
        ae.denoising_error(lambda x: x, torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), sigma)


@pytest.mark.equation("1.9")
def test_tweedie_against_a_density_on_a_grid():
    """A lopsided density on a line, blurred numerically: its score, and the score from E[x | x̃] by Bayes' rule."""
    grid = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    density = torch.exp(-((grid - 1.2) ** 2) / 0.1) + 0.4 * torch.exp(-((grid + 1.0).abs()) / 0.4)
    sigma, noisy = 0.7, torch.linspace(-3, 3, 25, dtype=torch.float64).requires_grad_()
    joint = density * torch.exp(-((noisy[:, None] - grid) ** 2) / (2 * sigma**2))
    score = torch.autograd.grad(joint.sum(1).log().sum(), noisy)[0]
    denoised = ((joint * grid).sum(1) / joint.sum(1)).detach()
    torch.testing.assert_close(ae.score_from_denoiser(denoised, noisy.detach(), sigma), score, atol=1e-9, rtol=1e-9)
    with pytest.raises(ValueError, match="sigma > 0"):
        ae.score_from_denoiser(denoised, denoised, 0.0)


@pytest.mark.equation("1.10")
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_annealing_with_the_exact_denoiser_draws_from_the_data(share):
    """Data N(0.5, s²): E[x | x̃] is known, and small steps from σ = 20 on end with the data's mean and deviation.

    share: of the fresh noise that the Markov chain of the levels has, √(1 − σ'²/σ²). More would be too much of it.
    """
    mean, s = 0.5, 0.8
    sigmas = torch.logspace(math.log10(20), -2, 150).tolist()
    fresh = share * math.sqrt(1 - (sigmas[1] / sigmas[0]) ** 2)
    start = sigmas[0] * torch.randn(20_000, 1, generator=rng())

    def denoise(x, sigma):
        return mean + s**2 / (s**2 + sigma[:, None] ** 2) * (x - mean)

    drawn = ae.anneal(denoise, start, sigmas, fresh, rng(1))
    assert drawn.mean().item() == pytest.approx(mean, abs=0.05)
    assert drawn.std().item() == pytest.approx(s, rel=0.05)


@pytest.mark.equation("1.10")
def test_a_step_keeps_the_noise_at_the_next_level():
    """A denoiser that knows the image: after a step what is left of the noise has the strength of the next level."""
    seen = []

    def knows(x, sigma):
        seen.append((x.std().item(), sigma[0].item()))
        return torch.zeros_like(x)

    for fresh in (0.0, 0.6, 1.0):
        seen.clear()
        ended = ae.anneal(knows, 3 * torch.randn(1, 50_000, generator=rng()), [3.0, 1.0, 0.2], fresh, rng(1))
        assert ended.abs().max() == 0 and [sigma for _, sigma in seen] == pytest.approx([3.0, 1.0, 0.2])
        assert [spread for spread, _ in seen] == pytest.approx([3.0, 1.0, 0.2], rel=0.02)


@pytest.mark.parametrize(("sigmas", "fresh"), [([], 0.0), ([1.0, 2.0], 0.0), ([1.0, 0.0], 0.0), ([1.0], 1.5)])
def test_impossible_walks_are_refused(sigmas, fresh):
    with pytest.raises(ValueError, match="anneal expects"):
        ae.anneal(lambda x, sigma: x, torch.zeros(1, 2), sigmas, fresh)
