"""Coverage: against its definition in plain loops, and where the answer is known."""

import inspect
import math

import pytest
import torch

from course_utils.metrics import coverage


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(real, generated, k) -> float:
    """The definition, point by point."""
    real, generated = real.tolist(), generated.tolist()
    reach = [sorted(math.dist(r, other) for j, other in enumerate(real) if j != i)[k - 1] for i, r in enumerate(real)]
    return sum(any(math.dist(r, g) <= reach[i] for g in generated) for i, r in enumerate(real)) / len(real)


@pytest.mark.equation("7.4")
@pytest.mark.filterwarnings("ignore:.*tell little")
@pytest.mark.parametrize("n, m, d, k", [(20, 31, 3, 1), (33, 12, 2, 3), (12, 12, 5, 5), (600, 40, 2, 4)])
def test_coverage_is_what_its_definition_says(n, m, d, k):
    real = torch.randn(n, d, generator=rng(), dtype=torch.float64)
    generated = 0.8 * torch.randn(m, d, generator=rng(1), dtype=torch.float64) + 0.3
    assert coverage(real, generated, k) == pytest.approx(by_hand(real, generated, k))


@pytest.mark.equation("7.4")
@pytest.mark.parametrize("k", [1, 3, 5])
def test_as_good_as_real_images(k):
    """Both from one distribution, n of each: E[coverage] = 1 − Π (n − i)/(2n − i), i = 1..k (Naeem et al. 2020,
    equation 8). Twenty draws; their mean lies within 5 standard errors."""
    n = 200
    covered = torch.tensor([coverage(*torch.randn(2, n, 4, generator=rng(seed)), k) for seed in range(20)])
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    assert abs(covered.mean() - expected) < 5 * covered.std() / 20**0.5


def test_what_it_notices():
    """Four heaps of data. Images of one heap, images far away, and one stray among good ones."""
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
    real, good = (0.5 * torch.randn(50, 2, generator=rng(s)).repeat(4, 1) + centres.repeat_interleave(50, 0)
                  for s in (0, 1))  # fmt: skip
    assert coverage(real, good) > 0.9
    assert coverage(real, good[:50]) <= 0.25
    assert coverage(real, good + 100) == 0
    strays = torch.cat([good[:20], torch.tensor([[9.0, 9.0], [0.0, 9.0], [9.0, 0.0]])])  # three, far from each other
    assert coverage(real, strays, k=2) < 0.5


def test_errors():
    def plain(function):
        """As students call it, without the shape checks that are switched on while testing."""
        return inspect.unwrap(function)

    with pytest.raises(ValueError, match=r"expects features \(n, d\) and \(m, d\).*got \(3, 2\) and \(3, 1\)"):
        plain(coverage)(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"k: expected a whole number in 1\.\.2 \(there are 3\), got 3"):
        coverage(torch.zeros(3, 2), torch.zeros(3, 2), k=3)
    with pytest.raises(ValueError, match=r"\(0, 2\)"):
        coverage(torch.zeros(3, 2), torch.zeros(0, 2), k=1)
