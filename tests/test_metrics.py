"""Precision, recall, density and coverage: against the definitions in plain loops, and where the answer is known."""

import inspect
import math

import pytest
import torch

from course_utils.metrics import coverage, density, precision, recall


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(real, generated, k) -> dict[str, float]:
    """The four definitions, point by point."""

    def radius(points, i):
        return sorted(math.dist(points[i], other) for j, other in enumerate(points) if j != i)[k - 1]

    real, generated = real.tolist(), generated.tolist()
    of_real = [radius(real, i) for i in range(len(real))]
    of_generated = [radius(generated, j) for j in range(len(generated))]
    inside = [[math.dist(r, g) <= of_real[i] for g in generated] for i, r in enumerate(real)]
    around = [any(math.dist(r, g) <= of_generated[j] for j, g in enumerate(generated)) for r in real]
    return {
        "coverage": sum(map(any, inside)) / len(real),
        "density": sum(map(sum, inside)) / (k * len(generated)),
        "precision": sum(map(any, zip(*inside))) / len(generated),
        "recall": sum(around) / len(real),
    }


@pytest.mark.equation("7.4")
@pytest.mark.parametrize("n, m, d, k", [(20, 31, 3, 1), (33, 12, 2, 3), (12, 12, 5, 5), (600, 40, 2, 4)])
def test_all_four_are_what_their_definitions_say(n, m, d, k):
    real = torch.randn(n, d, generator=rng(), dtype=torch.float64)
    generated = 0.8 * torch.randn(m, d, generator=rng(1), dtype=torch.float64) + 0.3
    ours = {f.__name__: f(real, generated, k) for f in (coverage, density, precision, recall)}
    assert ours == pytest.approx(by_hand(real, generated, k))


@pytest.mark.equation("7.4")
@pytest.mark.parametrize("k", [1, 3, 5])
def test_as_good_as_real_images(k):
    """Both from one distribution, n of each: E[coverage] = 1 − Π (n − i)/(2n − i), i = 1..k (Naeem et al. 2020,
    equation 8), and E[density] = 1. Twenty draws; their means lie within 5 standard errors."""
    n, covered, dense = 200, [], []
    for seed in range(20):
        real, generated = torch.randn(2, n, 4, generator=rng(seed))
        covered.append(coverage(real, generated, k))
        dense.append(density(real, generated, k))
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    for values, mean in ((covered, expected), (dense, 1.0)):
        values = torch.tensor(values)
        assert abs(values.mean() - mean) < 5 * values.std() / 20**0.5


def test_what_each_of_them_notices():
    """Four heaps of data. Images of one heap, images far away, and one stray among good ones."""
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
    real, good = (0.5 * torch.randn(50, 2, generator=rng(s)).repeat(4, 1) + centres.repeat_interleave(50, 0)
                  for s in (0, 1))  # fmt: skip
    one_heap = good[:50]
    assert precision(real, one_heap) > 0.9 and density(real, one_heap) > 0.8
    assert coverage(real, one_heap) <= 0.25 and recall(real, one_heap) <= 0.25
    away = good + 100
    assert precision(real, away) == density(real, away) == coverage(real, away) == recall(real, away) == 0
    strays = torch.cat([good[:20], torch.tensor([[9.0, 9.0], [0.0, 9.0], [9.0, 0.0]])])  # three, far from each other
    assert recall(real, strays, k=2) > 0.9 and coverage(real, strays, k=2) < 0.5


def test_errors():
    def plain(function):
        """As students call it, without the shape checks that are switched on while testing."""
        return inspect.unwrap(function)

    with pytest.raises(ValueError, match=r"expected features \(n, d\) and \(m, d\), got \(3, 2\) and \(3, 1\)"):
        plain(coverage)(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"k: expected a whole number in 1\.\.2 \(there are 3\), got 3"):
        density(torch.zeros(3, 2), torch.zeros(3, 2), k=3)
    with pytest.raises(ValueError, match=r"\(0, 2\)"):
        precision(torch.zeros(3, 2), torch.zeros(0, 2), k=1)
