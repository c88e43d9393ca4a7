"""Gaussian mixtures: score, diffusion and perfect denoiser, each against something that doesn't know the formulas."""

import math
from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from course_utils.data import GaussianMixture
from course_utils.diffusion import cosine_schedule, linear_schedule, zero_terminal_snr


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def theirs(mixture: GaussianMixture) -> MixtureSameFamily:
    return MixtureSameFamily(
        Categorical(mixture.weights), Independent(Normal(mixture.means, mixture.stds), 1), validate_args=False
    )


@pytest.fixture(params=["round", "stretched", "in five dimensions", "one blob", "on a line"])
def mixture(request) -> GaussianMixture:
    """Uneven ones, in float64."""
    k, d = {"in five dimensions": (4, 5), "one blob": (1, 2), "on a line": (2, 1)}.get(request.param, (3, 2))
    stds = 0.2 + torch.rand(k, d, generator=rng(1), dtype=torch.float64)
    stds = stds if request.param == "stretched" else stds[:, 0]
    return GaussianMixture(normal(k, d, seed=2), stds, 0.1 + torch.rand(k, generator=rng(3), dtype=torch.float64))


# ------------------------------------------------------------------------------------------------- density and score


def test_log_prob_agrees_with_torch_distributions(mixture):
    x = 2 * normal(50, mixture.means.shape[1])
    torch.testing.assert_close(mixture.log_prob(x), theirs(mixture).log_prob(x), rtol=1e-10, atol=1e-10)


@pytest.mark.equation("3.9", "3.10")
@pytest.mark.parametrize("alpha_bar", [1.0, 0.9, 0.3, 1e-3, 0.0])
def test_the_score_is_the_gradient_of_the_log_density_at_every_noise_level(mixture, alpha_bar):
    x = (2 * normal(50, mixture.means.shape[1])).requires_grad_()
    (slope,) = torch.autograd.grad(theirs(mixture.diffused(alpha_bar)).log_prob(x).sum(), x)
    torch.testing.assert_close(mixture.diffused(alpha_bar).score(x.detach()), slope, rtol=1e-9, atol=1e-9)


def test_far_away_the_score_is_finite_and_points_home():
    score = GaussianMixture.ring().score(torch.tensor([[1e3, 0.0], [0.0, -1e3]]))
    assert score.isfinite().all() and score[0, 0] < 0 < score[1, 1]


def test_score_is_differentiable():
    """A notebook takes its divergence."""
    x = normal(3, 2).requires_grad_()
    GaussianMixture.ring().score(x).sum().backward()
    assert x.grad.isfinite().all()


# --------------------------------------------------------------------------------------------------------- samples


def test_samples_follow_the_weights_means_and_stds():
    """20,000 points: chi-square for the components, 4.5 standard errors for each mean and std (18 numbers)."""
    n = 20_000
    mixture = GaussianMixture(normal(3, 2), torch.tensor([0.1, 0.5, 1.0]), torch.tensor([1.0, 2.0, 5.0]))
    x, y = mixture.labelled(n, rng(5))
    assert stats.chisquare(y.bincount(minlength=3), n * mixture.weights).pvalue > 1e-4
    for c in range(3):
        own = x[y == c]
        error = mixture.stds[c] / len(own) ** 0.5
        assert ((own.mean(0) - mixture.means[c]).abs() < 4.5 * error).all()
        assert ((own.std(0) - mixture.stds[c]).abs() < 4.5 * error / 2**0.5).all()


def test_samples_come_from_the_generator_alone():
    mixture = GaussianMixture.grid()
    state = torch.get_rng_state()
    assert torch.equal(mixture.sample(10, rng(1)), mixture.sample(10, rng(1)))
    assert torch.equal(mixture.sample(10, rng(1)), mixture.labelled(10, rng(1))[0])
    assert not torch.equal(mixture.sample(10, rng(1)), mixture.sample(10, rng(2)))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("mixture", [GaussianMixture.ring(), GaussianMixture.grid(), GaussianMixture.ring(5)])
def test_the_ready_made_ones_have_about_the_variance_of_noise(mixture):
    second = mixture.stds.square() + mixture.means.square()
    torch.testing.assert_close(second.mean(0), torch.ones(2), atol=0.05, rtol=0)
    torch.testing.assert_close(mixture.means.mean(0), torch.zeros(2), atol=1e-6, rtol=0)


def test_ring_and_grid_have_as_many_blobs_as_asked_for():
    assert GaussianMixture.ring(6, radius=2.0).means.norm(dim=1).tolist() == pytest.approx([2.0] * 6)
    grid = GaussianMixture.grid(4, spacing=0.5, std=0.05)
    assert grid.means.unique(dim=0).shape == (16, 2) and grid.stds.unique().tolist() == pytest.approx([0.05])


# -------------------------------------------------------------------------------------------------------- diffusion


@pytest.mark.equation("3.10")
@pytest.mark.parametrize("alpha_bar", [0.95, 0.5, 0.05])
def test_diffused_points_follow_the_diffused_mixture(alpha_bar):
    """Kolmogorov-Smirnov on 20,000 noised points, along each axis and one oblique direction, at p > 1e-4."""
    mixture = GaussianMixture(
        torch.tensor([[-1.0, 0.5], [1.5, -0.2]]), torch.tensor([[0.2, 0.6], [0.4, 0.1]]), torch.tensor([0.3, 0.7])
    )
    x0 = mixture.sample(20_000, rng(6))
    x = alpha_bar**0.5 * x0 + (1 - alpha_bar) ** 0.5 * torch.randn(x0.shape, generator=rng(7))
    after = mixture.diffused(alpha_bar)
    for direction in torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]):
        centres, spreads = after.means @ direction, (after.stds.square() @ direction.square()).sqrt()

        def cdf(q, centres=centres, spreads=spreads):
            return stats.norm(centres, spreads).cdf(q[:, None]) @ after.weights.numpy()

        assert stats.kstest((x @ direction).numpy(), cdf).pvalue > 1e-4


@pytest.mark.equation("3.10")
def test_diffusing_twice_is_diffusing_once_with_the_product(mixture):
    once, twice = mixture.diffused(0.6 * 0.3), mixture.diffused(0.6).diffused(0.3)
    torch.testing.assert_close(once.means, twice.means)
    torch.testing.assert_close(once.stds, twice.stds)
    torch.testing.assert_close(once.weights, twice.weights)


# --------------------------------------------------------------------------------------------- the perfect denoiser

CURVE = SimpleNamespace(alpha_bar=torch.tensor([1.0, 0.99, 0.7, 0.2, 0.01, 0.0], dtype=torch.float64))


@pytest.mark.equation("3.9")
def test_the_denoiser_is_tweedies_formula(mixture):
    x = 1.5 * normal(20, mixture.means.shape[1])
    for t in range(5):
        a = CURVE.alpha_bar[t].item()
        tweedie = (x + (1 - a) * mixture.diffused(a).score(x)) / a**0.5
        ours = mixture.denoiser(CURVE)(x, torch.full((20,), t))
        torch.testing.assert_close(ours, tweedie, rtol=1e-9, atol=1e-9)


@pytest.mark.equation("3.9")
def test_the_denoiser_agrees_with_integrals_over_all_clean_points():
    """E[x0 | x_t] = ∫ x0 p(x0) q(x_t|x0) dx0 / ∫ p(x0) q(x_t|x0) dx0 by a sum over a fine grid."""
    mixture = GaussianMixture(torch.tensor([[-1.0], [0.4]], dtype=torch.float64), torch.tensor([0.3, 0.15]))
    x0 = torch.linspace(-6, 6, 40_001, dtype=torch.float64)
    prior = theirs(mixture).log_prob(x0[:, None])
    for t in range(1, 6):
        a = CURVE.alpha_bar[t].item()
        for x in (-1.7, -0.2, 0.3, 2.0):
            weight = (prior - (x - a**0.5 * x0) ** 2 / (2 * (1 - a))).softmax(0)
            guess = mixture.denoiser(CURVE)(torch.tensor([[x]], dtype=torch.float64), torch.tensor([t]))
            assert guess.item() == pytest.approx((weight * x0).sum().item(), abs=1e-8)


def test_each_point_is_denoised_at_its_own_step(mixture):
    x, t = normal(6, mixture.means.shape[1]), torch.tensor([5, 0, 3, 1, 4, 2])
    denoise = mixture.denoiser(CURVE)
    alone = torch.cat([denoise(x[i : i + 1], t[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(denoise(x, t), alone)
    torch.testing.assert_close(denoise(x, t)[1], x[1])  # nothing to remove at step 0
    torch.testing.assert_close(denoise(x, t)[0], mixture.weights @ mixture.means)  # nothing to see at ᾱ = 0


def test_labels_choose_the_component_and_one_more_means_unknown():
    mixture = GaussianMixture(normal(3, 2), torch.tensor([0.5, 0.6, 0.7]), torch.tensor([1.0, 2.0, 3.0]))
    denoise, x, t = mixture.denoiser(CURVE), normal(4, 2, seed=8), torch.tensor([1, 2, 3, 4])
    guess = denoise(x, t, torch.tensor([0, 1, 2, 3]))
    for c in range(3):
        alone = GaussianMixture(mixture.means[c : c + 1], mixture.stds[c : c + 1]).denoiser(CURVE)
        torch.testing.assert_close(guess[c], alone(x, t)[c])
    torch.testing.assert_close(guess[3], denoise(x, t)[3])


def test_points_make_the_perfect_denoiser_of_a_data_set():
    """Blobs of no width, of any shape: near the data it answers with the nearest image, at T with the mean."""
    images = normal(5, 1, 4, 3)
    denoise = GaussianMixture(images.flatten(1), 0.0).denoiser(CURVE)
    noised = 0.99**0.5 * images + 0.01**0.5 * 0.5 * normal(5, 1, 4, 3, seed=9)
    torch.testing.assert_close(denoise(noised, torch.full((5,), 1)), images, atol=1e-6, rtol=0)
    torch.testing.assert_close(denoise(noised, torch.full((5,), 5)), images.mean(0, keepdim=True).expand(5, 1, 4, 3))


@pytest.mark.parametrize("T", [1, 10, 200, 1000, 4000])
def test_finite_at_every_step_in_single_precision(T):
    for schedule in (
        cosine_schedule(T),
        linear_schedule(T),
        *([zero_terminal_snr(linear_schedule(T))] if T > 1 else []),
    ):
        t = torch.arange(T + 1)
        x = 3 * torch.randn(T + 1, 2, generator=rng(T))
        guess = GaussianMixture.ring().denoiser(schedule)(x, t)
        assert guess.isfinite().all() and guess.dtype == torch.float32
        # Points of no width have no answer at step 0 alone.
        assert GaussianMixture.ring(std=0.0).denoiser(schedule)(x[1:], t[1:]).isfinite().all()


def test_no_other_answer_has_a_smaller_error():
    """Squared error of 20,000 guesses: a step in any direction, or the best guess from a wrong t, costs more."""
    mixture, schedule = GaussianMixture.grid(2), cosine_schedule(100)
    x0 = mixture.sample(20_000, rng(1))
    t = torch.full((20_000,), 40)
    x_t = schedule.add_noise(x0, t, torch.randn(x0.shape, generator=rng(2)))
    denoise = mixture.denoiser(schedule)

    def error(guess):
        return (guess - x0).square().mean().item()

    best = error(denoise(x_t, t))
    others = [denoise(x_t, t) * 1.1, denoise(x_t, t) + 0.1, denoise(x_t, t - 15), denoise(x_t, t + 15), x_t]
    assert all(error(other) > 1.005 * best for other in others)


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"stds": torch.ones(2)}, r"stds: expected numbers of at least 0, shaped \(\), \(3,\) or \(3, 2\), got \(2,\)"),
        ({"stds": -0.1}, r"stds: expected numbers of at least 0.* from -0.1"),
        ({"stds": math.nan}, "stds: expected"),
        ({"stds": 1.0, "weights": torch.ones(2)}, r"weights: expected 3 numbers above 0, .* got \(2,\)"),
        ({"stds": 1.0, "weights": torch.tensor([1.0, 0.0, 1.0])}, "weights: expected 3 numbers above 0.* from 0"),
    ],
)
def test_parts_that_do_not_belong_together(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(torch.zeros(3, 2), **arguments)


@pytest.mark.parametrize("alpha_bar", [-0.1, 1.1, math.nan])
def test_a_share_of_variance_lies_between_0_and_1(alpha_bar):
    with pytest.raises(ValueError, match=r"alpha_bar: expected a number in \[0, 1\], got"):
        GaussianMixture.ring().diffused(alpha_bar)
