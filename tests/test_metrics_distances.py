"""Fréchet, kernel distance and Inception score: against torchmetrics, closed forms and what is known of their bias."""

import math
import warnings

import pytest
import torch
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import poly_mmd

from course_utils.metrics import frechet_at_infinity, frechet_distance, inception_score, kernel_distance


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(d, seed):
    mixing = normal(d, d, seed=seed)
    return mixing @ mixing.T / d + 0.1 * torch.eye(d, dtype=torch.float64)


def exactly(mean, cov, n=300, seed=0):
    """n rows whose own mean and covariance are these, by whitening."""
    x = normal(n, len(mean), seed=seed)
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.atleast_2d(x.T.cov())), x.T, upper=False)
    return mean + (torch.linalg.cholesky(cov) @ white).T


# ------------------------------------------------------------------------------------------------- Fréchet


@pytest.mark.equation("2.10")
@pytest.mark.parametrize("d", [1, 3, 16, 64])
def test_frechet_of_gaussians_whose_covariances_commute(d):
    """One set of axes, variances s² and r²: |μ|² + Σ (s − r)²."""
    axes = torch.linalg.qr(normal(d, d))[0]
    s, r, mean = normal(d, seed=1).abs() + 0.2, normal(d, seed=2).abs() + 0.2, normal(d, seed=3)
    a = exactly(torch.zeros(d, dtype=torch.float64), (axes * s**2) @ axes.T)
    b = exactly(mean, (axes * r**2) @ axes.T, n=500, seed=1)
    assert frechet_distance(a, b) == pytest.approx((mean.square().sum() + (s - r).square().sum()).item(), rel=1e-6)


@pytest.mark.equation("2.10")
def test_frechet_of_two_by_two_covariances():
    """tr M^½ = √(tr M + 2 √det M) for 2 × 2."""
    one, other = covariance(2, 1), covariance(2, 2)
    assert not torch.allclose(one @ other, other @ one)
    product = one @ other
    root = (product.trace() + 2 * product.det().sqrt()).sqrt()
    a, b = exactly(torch.zeros(2, dtype=torch.float64), one), exactly(torch.ones(2, dtype=torch.float64), other, seed=9)
    assert frechet_distance(a, b) == pytest.approx((2 + one.trace() + other.trace() - 2 * root).item(), rel=1e-6)


@pytest.mark.equation("2.10")
@pytest.mark.parametrize("d", [2, 16, 64])
def test_frechet_is_that_of_torchmetrics(d):
    a, b = normal(400, d) @ covariance(d, 1), normal(300, d, seed=1) @ covariance(d, 2) + 0.3
    assert frechet_distance(a, b) == pytest.approx(_compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()), rel=1e-6)


@pytest.mark.equation("9.1")
def test_small_samples_look_farther_apart_and_the_line_takes_it_out():
    """Truth: 8 · 0.25² = 0.5. Over forty pairs of sets d² falls as the sets grow; the mean of the lines' values is
    within 3 standard errors of the truth, that of the plain distances is not."""
    lines, plain = [], []
    for seed in range(40):
        a, b = normal(400, 8, seed=seed), normal(500, 8, seed=100 + seed) + 0.25
        lines.append(frechet_at_infinity(a, b, generator=torch.Generator().manual_seed(seed)))
        plain.append(frechet_distance(a, b))
    assert {line.sizes for line in lines} == {(100, 133, 200, 266, 400)}
    by_size = torch.tensor([line.distances for line in lines]).mean(0)
    assert (by_size.diff() < 0).all() and sum(line.slope for line in lines) > 0
    missed, too_much = torch.tensor([line.value for line in lines]) - 0.5, torch.tensor(plain) - 0.5
    assert abs(missed.mean()) < 3 * missed.std() / 40**0.5
    assert too_much.mean() > 3 * too_much.std() / 40**0.5


@pytest.mark.equation("9.1")
def test_the_line_is_the_least_squares_one_and_draws_are_seeded():
    a, b = normal(200, 2), 1.5 * normal(150, 2, seed=1)
    line, again = (frechet_at_infinity(a, b, (20, 50, 150), 3, torch.Generator().manual_seed(4)) for _ in range(2))
    assert line == again and line.sizes == (20, 50, 150)
    x, y = 1 / torch.tensor(line.sizes).double(), torch.tensor(line.distances).double()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert line.slope == pytest.approx(slope.item()) and line.value == pytest.approx(
        (y.mean() - slope * x.mean()).item()
    )


# ------------------------------------------------------------------------------------------------- kernel


def kernel_by_hand(x, y):
    def k(a, b):
        return (sum(i * j for i, j in zip(a, b)) / len(a) + 1) ** 3

    def within(z):
        return sum(k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j) / (len(z) * (len(z) - 1))

    x, y = x.tolist(), y.tolist()
    return within(x) + within(y) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))


@pytest.mark.equation("9.2")
def test_kernel_distance_is_its_definition_and_torchmetrics():
    for n, m, d in ((7, 12, 3), (12, 5, 1)):
        x, y = normal(n, d), 1.2 * normal(m, d, seed=1)
        assert kernel_distance(x, y).value == pytest.approx(kernel_by_hand(x, y), rel=1e-9)
    x, y = normal(700, 16), normal(700, 16, seed=1) + 0.2  # more than one part
    assert kernel_distance(x, y).value == pytest.approx(poly_mmd(x, y).item(), rel=1e-9)


def test_its_jackknife_is_that_of_leaving_rows_out():
    x, y = normal(9, 2), normal(7, 2, seed=1) + 0.4
    variance = 0.0
    for which, rows in ((0, x), (1, y)):
        rest = [torch.cat([rows[:i], rows[i + 1 :]]) for i in range(len(rows))]
        values = torch.tensor([kernel_by_hand(*((r, y) if which == 0 else (x, r))) for r in rest]).double()
        variance += ((len(rows) - 1) / len(rows) * (values - values.mean()).square().sum()).item()
    value, low, high = kernel_distance(x, y)
    assert high - value == pytest.approx(
        2.4469 * variance**0.5, rel=1e-4
    )  # 97.5 % of Student's t, 6 degrees of freedom
    assert value - low == pytest.approx(high - value)


def test_kernel_distance_is_unbiased_and_falls_below_0():
    values = torch.tensor(
        [kernel_distance(normal(40, 4, seed=s), normal(30, 4, seed=500 + s)).value for s in range(300)]
    )
    assert abs(values.mean()) < 4 * values.std() / 300**0.5
    assert 0.3 < (values < 0).double().mean() < 0.8


def moments(mean, deviation, d):
    """First three moments (tensors) of N(mean, deviation²) in each of d directions."""
    m, var = torch.full((d,), mean, dtype=torch.float64), deviation**2 * torch.eye(d, dtype=torch.float64)
    mixed = torch.einsum("i,jk->ijk", m, var)
    third = torch.einsum("i,j,k->ijk", m, m, m) + mixed + mixed.permute(1, 0, 2) + mixed.permute(1, 2, 0)
    return m, torch.outer(m, m) + var, third


def expected_kernel(p, q):
    """E (x·y / d + 1)³ for independent x and y with these moments."""
    d = len(p[0])
    return sum(count * (a * b).sum() / d**power for count, power, a, b in zip((3, 3, 1), (1, 2, 3), p, q)) + 1


@pytest.mark.parametrize("shift, scale", [(0.0, 1.0), (0.5, 1.0), (0.0, 1.4)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(shift, scale):
    """n = m = 150, 8 features, truth in closed form, 300 draws: 95 % within 4 standard errors (1.3 % each) below, and
    no wider than the scatter of the values asks for, but where the distributions are equal."""
    p, q = moments(0.0, 1.0, 8), moments(shift, scale, 8)
    truth = (expected_kernel(p, p) + expected_kernel(q, q) - 2 * expected_kernel(p, q)).item()
    pairs = ((normal(150, 8, seed=s), shift + scale * normal(150, 8, seed=5000 + s)) for s in range(300))
    value, low, high = torch.tensor([kernel_distance(x, y) for x, y in pairs], dtype=torch.float64).T
    assert ((low <= truth) & (truth <= high)).double().mean() > 0.95 - 4 * 0.013
    wider = ((high - low) / 2).mean() / (1.96 * value.std())
    assert 0.85 < wider < (1.2 if shift else 1.8), wider


# ------------------------------------------------------------------------------------------------- Inception score


def test_inception_score_is_that_of_torchmetrics():
    logits = 3 * normal(200, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = InceptionScore(feature=torch.nn.Identity(), splits=1)
        metric.inception.forward = lambda images: images
        metric.features.append(logits)
        theirs = metric.compute()[0].item()
    assert inception_score(logits.softmax(1)) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.equation("9.3")
def test_inception_score_by_hand():
    """p(y|x) = (1, 0) and (½, ½): p(y) = (¾, ¼), KL ln 4/3 and ½ ln 4/3."""
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert inception_score(p) == pytest.approx(math.exp(0.75 * math.log(4 / 3)))
    assert inception_score(p.half()) == pytest.approx(inception_score(p))
    assert inception_score(torch.tensor([[0.0, 1.0, 0.0]]).repeat(5, 1)) == 1


# ------------------------------------------------------------------------------------------------- guards, warnings


def test_too_few_images_for_the_features_are_said():
    with pytest.warns(UserWarning, match="8 images for 8 features"):
        frechet_distance(normal(20, 8), normal(8, 8))
    with pytest.warns(UserWarning, match="7 images for 8 features"):
        frechet_at_infinity(normal(28, 8), normal(28, 8, seed=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(normal(9, 8), normal(20, 8))
        frechet_at_infinity(normal(36, 8), normal(36, 8, seed=1))


def test_errors():
    x = normal(10, 2)
    for function in (frechet_distance, frechet_at_infinity, kernel_distance):
        with pytest.raises(ValueError, match="finite features"):
            function(x, x / 0)
        with pytest.raises(ValueError, match=rf"{function.__name__} expects .* and \(1, 2\)"):
            function(x, x[:1])
    for sizes in ((5,), (5, 11), (1, 5), (5, 5)):
        with pytest.raises(ValueError, match=r"sizes: expected two or more different whole numbers in 2\.\.10"):
            frechet_at_infinity(x, x, sizes)
    with pytest.raises(ValueError, match="draws"):
        frechet_at_infinity(x, x, draws=0)
    with pytest.raises(ValueError, match="level"):
        kernel_distance(x, x, level=95.0)
    for wrong in (x, torch.full((3, 2), 0.4), torch.zeros(0, 2)):
        with pytest.raises(ValueError, match="inception_score expects"):
            inception_score(wrong)
