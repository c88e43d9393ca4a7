"""The VAE and its bounds, each against something that doesn't know the code: distributions, quadrature, simulation."""

import inspect
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal, kl_divergence

from course_utils.metrics import frechet_distance
from course_utils.models import vae
from course_utils.models.vae import VAE, Elbo, LinearGaussian


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(function):
    """The function as students call it, without the shape checks that are switched on while testing."""
    return inspect.unwrap(function)


def spd(d: int, seed: int) -> torch.Tensor:
    root = torch.randn(d, d, generator=rng(seed), dtype=torch.float64)
    return root @ root.T / d + 0.2 * torch.eye(d, dtype=torch.float64)


@pytest.fixture
def bench() -> LinearGaussian:
    weight = torch.randn(6, 2, generator=rng(1), dtype=torch.float64)
    return LinearGaussian(weight, torch.randn(6, generator=rng(2), dtype=torch.float64), sigma=0.7)


@pytest.fixture
def small() -> VAE:
    torch.manual_seed(0)
    return VAE((1, 8, 12), latent=3, widths=(4, 8))


# ------------------------------------------------------------------------------------------------- Gaussians


@pytest.mark.equation("2.3")
@pytest.mark.parametrize("d", [1, 2, 7])
def test_gaussian_kl_agrees_with_torch_distributions(d):
    mean_q, mean_p = torch.randn(2, d, generator=rng(d), dtype=torch.float64)
    cov_q, cov_p = spd(d, 3), spd(d, 4)
    theirs = kl_divergence(MultivariateNormal(mean_q, cov_q), MultivariateNormal(mean_p, cov_p))
    assert vae.gaussian_kl(mean_q, cov_q, mean_p, cov_p).item() == pytest.approx(theirs.item(), rel=1e-10)


@pytest.mark.equation("2.3")
def test_gaussian_kl_agrees_with_quadrature():
    q, p = stats.norm(0.3, 0.5), stats.norm(-0.4, 1.7)
    area, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -8, 8)
    ours = vae.gaussian_kl(torch.tensor([0.3]), torch.tensor([[0.25]]), torch.tensor([-0.4]), torch.tensor([[1.7**2]]))
    assert ours.item() == pytest.approx(area, rel=1e-5)


def test_gaussian_kl_survives_many_dimensions_and_refuses_what_is_no_covariance():
    mean, cov = torch.zeros(400), 1e-3 * torch.eye(400)  # its determinant, 1e-1200, has no floating-point number
    assert vae.gaussian_kl(mean, cov, mean, cov).item() == pytest.approx(0, abs=1e-3)
    assert torch.isfinite(vae.gaussian_kl(mean, cov, mean, torch.eye(400)))
    with pytest.raises(ValueError, match="cov_p is not"):
        vae.gaussian_kl(torch.zeros(2), torch.eye(2), torch.zeros(2), -torch.eye(2))


@pytest.mark.equation("2.4")
def test_kl_to_standard_normal_agrees_with_torch_distributions_and_the_general_form():
    mean, log_var = torch.randn(2, 5, 4, generator=rng(), dtype=torch.float64)
    q = Independent(Normal(mean, (log_var / 2).exp()), 1)
    p = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    ours = vae.kl_to_standard_normal(mean, log_var)
    torch.testing.assert_close(ours, kl_divergence(q, p))
    general = vae.gaussian_kl(mean, torch.diag_embed(log_var.exp()), torch.zeros_like(mean), torch.eye(4).double())
    torch.testing.assert_close(ours, general)


def test_kl_keeps_its_digits_near_the_prior():
    tiny = torch.full((1, 1), 1e-4)
    exact = 0.5 * (math.expm1(1e-4) - 1e-4)
    assert vae.kl_to_standard_normal(torch.zeros(1, 1), tiny).item() == pytest.approx(exact, rel=2e-3)


def test_shapes_that_would_broadcast_in_silence_are_refused():
    with pytest.raises(ValueError, match=r"kl_to_standard_normal expects .* mean \(3, 2\), log_var \(3, 1\)"):
        plain(vae.kl_to_standard_normal)(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="reparameterize expects"):
        plain(vae.reparameterize)(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(1, 2))


@pytest.mark.equation("2.5")
def test_reparameterized_draws_have_the_right_moments_and_the_right_gradient():
    mean, log_var = torch.tensor([[0.5, -2.0]]), torch.tensor([[0.0, 1.0]])
    noise = torch.randn(200_000, 2, generator=rng())
    z = vae.reparameterize(mean.expand(len(noise), -1), log_var.expand(len(noise), -1), noise)
    torch.testing.assert_close(z.mean(0), mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(z.var(0), log_var[0].exp(), atol=0.04, rtol=0)
    # E[z²] = μ² + σ², so its gradient by μ is 2μ and by ln σ² is σ²: known without any sampling.
    mean, log_var = mean.requires_grad_(), log_var.requires_grad_()
    z = vae.reparameterize(mean.expand(len(noise), -1), log_var.expand(len(noise), -1), noise)
    z.square().sum(1).mean().backward()
    torch.testing.assert_close(mean.grad, 2 * mean.detach(), atol=0.05, rtol=0)
    torch.testing.assert_close(log_var.grad, log_var.detach().exp(), atol=0.05, rtol=0)


@pytest.mark.equation("2.6", "2.5")
def test_both_gradient_estimators_are_unbiased_and_differ_in_variance():
    a = torch.tensor([1.0, -1.0, 0.5])
    mean, log_var = torch.tensor([0.2, 0.0, -0.3]), torch.tensor([-0.5, 0.3, 0.0])
    noise = torch.randn(400_000, 3, generator=rng())

    def f(z):
        return -0.5 * (z - a).square().sum(1)

    found = [g(f, mean, log_var, noise) for g in (vae.score_function_gradient, vae.reparameterized_gradient)]
    for gradients in found:
        errors = (gradients.mean(0) - (a - mean)) / (gradients.std(0) / len(noise) ** 0.5)
        assert errors.abs().max() < 5, "the gradient of E[f] is a − mean; the estimate must lie within its errors"
    assert (found[0].var(0) > 3 * found[1].var(0)).all()


@pytest.mark.equation("2.7")
def test_gaussian_nll_agrees_with_scipy():
    x, mean = torch.randn(2, 3, 1, 4, 5, generator=rng(), dtype=torch.float64)
    theirs = -stats.norm(mean.numpy(), 0.3).logpdf(x.numpy()).sum((1, 2, 3))
    np.testing.assert_allclose(vae.gaussian_nll(x, mean, math.log(0.3)), theirs)
    each = torch.rand(1, 4, 5, generator=rng(1), dtype=torch.float64) - 1
    theirs = -stats.norm(mean.numpy(), each.exp().numpy()).logpdf(x.numpy()).sum((1, 2, 3))
    np.testing.assert_allclose(vae.gaussian_nll(x, mean, each), theirs)


def test_the_best_learned_sigma_is_the_root_mean_squared_error():
    x, mean = torch.randn(2, 4, 1, 8, 8, generator=rng())
    log_sigma = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([log_sigma], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        vae.gaussian_nll(x, mean, log_sigma).mean().backward()
        optimizer.step()
    assert log_sigma.exp().item() == pytest.approx((x - mean).square().mean().sqrt().item(), rel=1e-3)


# ------------------------------------------------------------------------------------------------- the solvable model


def test_linear_gaussian_evidence_and_posterior_agree_with_scipy_and_bayes(bench):
    x, _ = bench.sample(5, rng())
    cov = (bench.weight @ bench.weight.T + bench.sigma**2 * torch.eye(6)).numpy()
    theirs = stats.multivariate_normal(bench.bias.numpy(), cov).logpdf(x.numpy())
    np.testing.assert_allclose(bench.log_evidence(x), theirs)
    mean, cov = bench.posterior(x)
    z = torch.randn(5, 2, generator=rng(3), dtype=torch.float64)  # Bayes' rule must hold at any z whatever
    prior = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double()).log_prob(z)
    by_bayes = bench.log_likelihood(x, z) + prior - bench.log_evidence(x)
    torch.testing.assert_close(MultivariateNormal(mean, cov).log_prob(z), by_bayes)


@pytest.mark.equation("2.1")
def test_linear_gaussian_elbo_agrees_with_simulation(bench):
    x, _ = bench.sample(1, rng())
    mean, cov = torch.tensor([[0.3, -0.2]], dtype=torch.float64), spd(2, 5)
    torch.manual_seed(0)
    q = MultivariateNormal(mean[0], cov)
    z = q.sample((200_000,))
    prior = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    draws = bench.log_likelihood(x.expand(len(z), -1), z) + prior.log_prob(z) - q.log_prob(z)
    error = draws.std() / len(z) ** 0.5
    assert abs(draws.mean() - bench.elbo(x, mean, cov).bound[0]) < 5 * error


@pytest.mark.equation("2.2")
@pytest.mark.parametrize("seed", range(4))
def test_elbo_plus_gap_is_the_evidence_for_any_proposal(bench, seed):
    x, _ = bench.sample(7, rng(seed))
    mean = torch.randn(7, 2, generator=rng(seed + 9), dtype=torch.float64)
    cov = spd(2, seed)
    total = bench.elbo(x, mean, cov).bound + bench.gap(x, mean, cov)
    torch.testing.assert_close(total, bench.log_evidence(x), rtol=1e-10, atol=1e-9)
    assert (bench.gap(x, mean, cov) > 0).all()
    assert bench.gap(x, *bench.posterior(x)).abs().max() < 1e-9


# ------------------------------------------------------------------------------------------------- the model


@pytest.mark.equation("2.1")
def test_elbo_of_the_model_agrees_with_distributions(small):
    x = 2 * torch.bernoulli(torch.full((4, 1, 8, 12), 0.4), generator=rng()) - 1
    noise = torch.randn(4, 3, generator=rng(1))
    costs = vae.elbo(small, x, noise)
    mean, log_var = small.encode(x)
    z = mean + (log_var / 2).exp() * noise
    reconstruction = -Bernoulli(logits=small.decoder(z)).log_prob((x + 1) / 2).sum((1, 2, 3))
    q = Independent(Normal(mean, (log_var / 2).exp()), 1)
    kl = kl_divergence(q, Independent(Normal(torch.zeros(4, 3), torch.ones(4, 3)), 1))
    torch.testing.assert_close(costs.reconstruction, reconstruction)
    torch.testing.assert_close(costs.kl, kl)
    torch.testing.assert_close(costs.bound, -reconstruction - kl)


def test_reconstruction_sends_its_gradient_into_the_encoder(small):
    x = torch.rand(2, 1, 8, 12, generator=rng()) * 2 - 1
    vae.elbo(small, x, torch.randn(2, 3, generator=rng())).reconstruction.mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in small.parameters())


@pytest.mark.equation("2.9")
def test_beta_weighs_the_kl_and_the_averaged_kl_is_beta_one_over_d(small):
    x = torch.rand(5, 1, 8, 12, generator=rng()) * 2 - 1
    noise = torch.randn(5, 3, generator=rng(1))
    costs = vae.elbo(small, x, noise)
    assert costs.loss().item() == pytest.approx(-costs.bound.mean().item(), rel=1e-6)
    mean, log_var = small.encode(x)
    q = Normal(mean, (log_var / 2).exp())
    averaged = kl_divergence(q, Normal(torch.zeros_like(mean), torch.ones_like(mean))).mean(1)  # the published slip
    published = (costs.reconstruction + averaged).mean()
    assert costs.loss(beta=1 / 3).item() == pytest.approx(published.item(), rel=1e-6)
    with pytest.raises(ValueError, match="beta ≥ 0"):
        costs.loss(beta=-1)


def test_negative_elbo_draws_from_the_generator_it_is_given(small):
    x = torch.rand(3, 1, 8, 12, generator=rng()) * 2 - 1
    (a, terms), (b, _), (c, _) = (vae.negative_elbo(2.0)(small, x, None, rng(seed)) for seed in (0, 0, 1))
    assert a == b != c
    assert a.item() == pytest.approx((terms["reconstruction"] + 2 * terms["kl"]).item(), rel=1e-6)


def test_tutorial_loss_divides_the_kl_by_the_latents_and_reports_it_divided(small):
    x = torch.rand(3, 1, 8, 12, generator=rng()) * 2 - 1
    (right, terms), (theirs, reported) = (
        loss(small, x, None, rng()) for loss in (vae.negative_elbo(), vae.tutorial_loss)
    )
    assert reported["kl"].item() == pytest.approx(terms["kl"].item() / small.latent, rel=1e-6)
    assert theirs.item() == pytest.approx((terms["reconstruction"] + terms["kl"] / small.latent).item(), rel=1e-6)
    assert theirs < right


def test_half_precision_networks_keep_float32_costs(small):
    x = torch.rand(3, 1, 8, 12, generator=rng()) * 2 - 1
    noise = torch.randn(3, 3, generator=rng(1))
    exact = vae.elbo(small, x, noise)
    with torch.autocast("cpu", torch.bfloat16):
        rough = vae.elbo(small, x, noise)
    assert rough.reconstruction.dtype == rough.kl.dtype == torch.float32
    torch.testing.assert_close(rough.reconstruction, exact.reconstruction, rtol=0.02, atol=0.1)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_shapes_and_ranges_on_images_that_are_not_square(likelihood):
    model = VAE((3, 8, 16), latent=5, widths=(4, 8), likelihood=likelihood)
    x = torch.rand(2, 3, 8, 16, generator=rng()) * 2 - 1
    mean, log_var = model.encode(x)
    assert mean.shape == log_var.shape == (2, 5)
    assert model(x, rng()).shape == x.shape
    samples = model.sample(4, rng())
    assert samples.shape == (4, 3, 8, 16) and samples.abs().max() <= 1
    assert torch.equal(samples, model.sample(4, rng()))
    torch.testing.assert_close(VAE((1, 8, 8), 2).decode(torch.zeros(1, 2)).shape, (1, 1, 8, 8))


def test_decode_is_the_mean_of_the_bernoulli(small):
    z = torch.randn(2, 3, generator=rng())
    torch.testing.assert_close(small.decode(z), 2 * Bernoulli(logits=small.logits(z)).mean - 1)


def test_sigma_is_learned_or_fixed():
    learned, fixed = VAE((1, 8, 8), 2, likelihood="gaussian"), VAE((1, 8, 8), 2, likelihood="gaussian", sigma=0.1)
    assert learned.log_sigma.requires_grad and not fixed.log_sigma.requires_grad
    assert fixed.log_sigma.exp().item() == pytest.approx(0.1)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"latent": 0}, "latent ≥ 1, got 0"),
        ({"latent": 2, "likelihood": "poisson"}, "got 'poisson'"),
        ({"latent": 2, "sigma": 0.1}, "sigma > 0, only with"),
        ({"latent": 2, "likelihood": "gaussian", "sigma": 0.0}, "sigma > 0"),
    ],
)
def test_wrong_settings_get_one_line(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        VAE((1, 8, 8), **settings)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------- measurements


@pytest.mark.equation("2.8")
def test_iwae_rises_from_the_elbo_to_the_evidence(bench):
    x, _ = bench.sample(1, rng())
    mean, cov = bench.posterior(x)
    torch.manual_seed(0)
    q = MultivariateNormal(mean[0] + 0.2, 1.5 * cov)
    z = q.sample((2048 * 64,))
    prior = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    weights = bench.log_likelihood(x.expand(len(z), -1), z) + prior.log_prob(z) - q.log_prob(z)
    bounds = [vae.iwae_bound(weights.view(k, -1)).mean().item() for k in (1, 8, 64, 2048)]
    assert bounds == sorted(bounds)
    assert bounds[0] == pytest.approx(weights.mean().item())
    assert bounds[-1] == pytest.approx(bench.log_evidence(x).item(), abs=0.01)


@pytest.mark.equation("2.8")
def test_iwae_is_the_logarithm_of_a_mean_where_that_does_not_underflow():
    weights = torch.rand(9, 4, generator=rng(), dtype=torch.float64)
    np.testing.assert_allclose(vae.iwae_bound(weights.log()), np.log(weights.numpy().mean(0)))
    assert torch.isfinite(vae.iwae_bound(weights.log().float() - 500)).all()
    with pytest.raises(ValueError, match=r"\(k, b\) with k ≥ 1"):
        vae.iwae_bound(torch.zeros(0, 3))


def test_log_weights_agree_with_distributions_and_average_to_the_elbo(small):
    x = 2 * torch.bernoulli(torch.full((2, 1, 8, 12), 0.4), generator=rng()) - 1
    noise = torch.randn(3, 2, 3, generator=rng(1))
    mean, log_var = small.encode(x)
    q = Independent(Normal(mean, (log_var / 2).exp()), 1)
    z = mean + (log_var / 2).exp() * noise
    prior = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    likelihood = torch.stack([Bernoulli(logits=small.logits(part)).log_prob((x + 1) / 2).sum((1, 2, 3)) for part in z])
    expected = likelihood + prior.log_prob(z) - q.log_prob(z)
    torch.testing.assert_close(vae.log_weights(small, x, noise), expected, atol=1e-4, rtol=1e-5)


def test_log_evidence_in_pieces_is_log_evidence_and_above_the_elbo(small):
    x = torch.rand(5, 1, 8, 12, generator=rng()) * 2 - 1
    many = [vae.log_evidence(small, x, 600, generator=rng(), rows=rows) for rows in (10, 5000)]
    torch.testing.assert_close(many[0], many[1], atol=0.3, rtol=0)
    noise = torch.randn(200, 5, 3, generator=rng(2))
    assert (many[1] > vae.log_weights(small, x, noise).mean(0) - 0.05).all()
    with pytest.raises(ValueError, match="samples ≥ 1"):
        vae.log_evidence(small, x, 0)


@pytest.mark.equation("2.11")
def test_active_units_counts_latents_whose_mean_moves():
    n = 50_000
    scales = torch.tensor([0.0, 0.05, 0.2, 1.0])  # variances 0, 0.0025, 0.04, 1 against the threshold 0.01
    means = scales * torch.randn(n, 4, generator=rng()) + 3
    assert vae.active_units(means).tolist() == [False, False, True, True]
    assert vae.active_units(means, threshold=0.1).sum() == 1
    with pytest.raises(ValueError, match="n ≥ 2 images"):
        vae.active_units(means[:1])


def test_encode_all_is_encode_in_pieces(small):
    x = torch.rand(7, 1, 8, 12, generator=rng()) * 2 - 1
    for ours, whole in zip(vae.encode_all(small, x, batch=3), small.encode(x)):
        torch.testing.assert_close(ours, whole)


@pytest.mark.equation("2.12")
def test_bits_per_dimension_is_the_entropy_of_a_discrete_pixel():
    """Pixels drawn from a coarse density: the bits of its dequantised density match −log2 of bin probabilities."""
    levels, width = torch.linspace(-1, 1, 256, dtype=torch.float64), 2 / 255
    q = stats.norm(0.1, 0.2)
    probability = q.cdf(levels + width / 2) - q.cdf(levels - width / 2)
    discrete = -(probability * np.log2(probability)).sum()
    x = torch.from_numpy(q.rvs(size=(200, 784), random_state=0))
    nll = vae.gaussian_nll(x, torch.full_like(x, 0.1), math.log(0.2))
    bits = vae.bits_per_dimension(nll, 784).mean().item()
    assert bits == pytest.approx(discrete, abs=0.02)
    assert vae.bits_per_dimension(torch.tensor(784 * math.log(2)), 784, 1.0).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="dimensions ≥ 1"):
        vae.bits_per_dimension(torch.zeros(2), 0)


def test_dequantised_levels_fill_their_bins_and_round_back():
    levels = torch.arange(256).view(256, 1, 1, 1).expand(-1, 1, 20, 20).float() / 127.5 - 1
    spread = vae.dequantise(levels, rng())
    assert torch.equal(((spread + 1) * 127.5).round(), ((levels + 1) * 127.5).round())
    deviation = (spread - levels).std().item()
    assert deviation == pytest.approx(2 / 255 / 12**0.5, rel=0.01)


# ------------------------------------------------------------------------------------------------- Fréchet distance


@pytest.mark.equation("2.10")
def test_frechet_distance_agrees_with_scipys_matrix_root():
    from scipy.linalg import sqrtm

    a = torch.randn(500, 4, generator=rng(), dtype=torch.float64) @ torch.randn(4, 4, generator=rng(1)).double()
    b = torch.randn(300, 4, generator=rng(2), dtype=torch.float64) + 0.5
    cov_a, cov_b = np.cov(a.T.numpy()), np.cov(b.T.numpy())
    root = sqrtm(cov_a @ cov_b).real
    theirs = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


@pytest.mark.equation("2.10")
def test_frechet_distance_of_one_feature_is_moments_apart():
    a, b = torch.randn(2, 100_000, 1, generator=rng(), dtype=torch.float64)
    assert frechet_distance(1 + 2 * a, 4 + 3 * b) == pytest.approx(3**2 + (2 - 3) ** 2, rel=0.02)


def test_frechet_distance_refuses_features_that_do_not_match():
    with pytest.raises(ValueError, match=r"got \(5, 3\) and \(5, 2\)"):
        plain(frechet_distance)(torch.zeros(5, 3), torch.zeros(5, 2))


def test_costs_are_named_and_unpack():
    reconstruction, kl = costs = Elbo(torch.tensor([3.0]), torch.tensor([1.0]))
    assert costs.bound == -(reconstruction + kl)
