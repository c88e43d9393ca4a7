"""Precision, recall, density, nearest, copies, classes and shares: by hand, and by their definitions in plain loops."""

import math
import warnings

import pytest
import torch

from course_utils.metrics import (
    class_counts,
    class_entropy,
    classes_covered,
    copies,
    coverage,
    density,
    nearest,
    precision,
    recall,
    wilson_interval,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def column(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


def loops(real, generated, k):
    """(precision, recall, density, coverage), point by point."""
    real, generated = real.tolist(), generated.tolist()

    def reach(rows):
        return [sorted(math.dist(r, o) for j, o in enumerate(rows) if j != i)[k - 1] for i, r in enumerate(rows)]

    of_real, of_generated = reach(real), reach(generated)
    inside = [[math.dist(r, g) <= of_real[i] for g in generated] for i, r in enumerate(real)]
    n, m = len(real), len(generated)
    return (
        sum(any(row[j] for row in inside) for j in range(m)) / m,
        sum(any(math.dist(r, g) <= of_generated[j] for j, g in enumerate(generated)) for r in real) / n,
        sum(map(sum, inside)) / (k * m),
        sum(map(any, inside)) / n,
    )


def ours(real, generated, k):
    return tuple(function(real, generated, k) for function in (precision, recall, density, coverage))


@pytest.mark.equation("7.4")
@pytest.mark.equation("9.4")
@pytest.mark.equation("9.5")
@pytest.mark.filterwarnings("ignore:.*tell little")
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("n, m, d", [(20, 31, 3), (33, 12, 2), (9, 9, 1)])
def test_they_are_what_their_definitions_say(n, m, d, k):
    for real, generated in (
        (normal(n, d), 0.8 * normal(m, d, seed=1) + 0.3),
        (normal(n, d).round(), normal(m, d, seed=1).round()),  # many ties and duplicates
    ):
        assert ours(real, generated, k) == pytest.approx(loops(real, generated, k))


def test_by_hand():
    """Real 0, 2, 3, 9 with balls (k = 1) of radius 2, 1, 1, 6:  [−2, 2]  [1, 3]  [2, 4]  [3, 15].

    Generated 1 (in two balls), 2 (in three: edges count), 12 (in one), 20 (in none), with balls of radius 1, 1, 8, 8:
    [0, 2]  [1, 3]  [4, 20]  [12, 28]  hold 0, 2, 3 and 9, all of the real ones.
    """
    real, generated = column(0, 2, 3, 9), column(1, 2, 12, 20)
    assert ours(real, generated, 1) == (3 / 4, 1, (2 + 3 + 1) / 4, 1)
    assert ours(real, generated[2:], 1) == (1 / 2, 1 / 4, 1 / 2, 1 / 4)


def test_parts_of_the_table_change_nothing(monkeypatch):
    real, generated = normal(50, 2), normal(70, 2, seed=1)
    whole, found = ours(real, generated, 3), nearest(generated, real, 2)
    monkeypatch.setattr("course_utils.metrics.neighbours.TABLE", 200)
    assert ours(real, generated, 3) == whole
    again = nearest(generated, real, 2)
    assert torch.equal(again.indices, found.indices) and torch.allclose(again.distances, found.distances, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_smaller_numbers_are_taken(dtype):
    real, generated = normal(40, 2).to(dtype), normal(40, 2, seed=1).to(dtype)
    assert ours(real, generated, 3) == ours(real.double(), generated.double(), 3)


def test_of_one_distribution_density_is_1():
    """E[density] = 1 (Naeem et al. 2020); forty draws, within 4 standard errors."""
    values = torch.tensor([density(normal(150, 4, seed=s), normal(150, 4, seed=900 + s)) for s in range(40)])
    assert abs(values.mean() - 1) < 4 * values.std() / 40**0.5


def test_quality_and_variety_are_told_apart():
    real = torch.cat([normal(60, 2), normal(60, 2, seed=1) + 20])
    one_heap, junk = normal(60, 2, seed=2), torch.cat([real + 0.01, real + 1000])
    assert precision(real, one_heap) > 0.8 and recall(real, one_heap) < 0.55
    assert precision(real, junk) == pytest.approx(0.5) and recall(real, junk) > 0.9
    outlier = torch.cat([real, column(500, 500).T])
    assert precision(outlier, real + 200) == 1 and density(outlier, real + 200) < 0.3  # what density is for


# ------------------------------------------------------------------------------------------------- nearest, copies


def test_nearest_is_the_loop_and_exact_where_points_are_close():
    points, among = normal(31, 2, 3, seed=1), normal(40, 2, 3)
    found = nearest(points, among, 4)
    for i, point in enumerate(points):
        wanted = sorted((math.dist(point.flatten().tolist(), row.flatten().tolist()), j) for j, row in enumerate(among))
        assert found.indices[i].tolist() == [j for _, j in wanted[:4]]
        assert found.distances[i].tolist() == pytest.approx([distance for distance, _ in wanted[:4]])
    far = 1e6 + normal(20, 3)
    moved = far.clone()
    moved[:, 0] += 2**-20
    close = nearest(moved, far)
    assert close.indices[:, 0].tolist() == list(range(20))
    assert torch.equal(close.distances[:, 0], (moved - far).norm(dim=1)) and (close.distances < 1e-6).all()
    crowded = 1e6 + 0.001 * normal(60, 3)  # products, not centred, tell none of these apart
    assert nearest(crowded, crowded).indices[:, 0].tolist() == list(range(60))
    twins = normal(40, 3).repeat_interleave(2, 0) + 1e-9 * column(0, 1).repeat(40, 1)  # nor, centred, these
    assert nearest(twins, twins).distances.abs().max() == 0


@pytest.mark.equation("9.6")
def test_copies():
    training = normal(30, 1, 4, 4)
    fresh, near = normal(20, 1, 4, 4, seed=1), training[:10] + 0.01 * normal(10, 1, 4, 4, seed=2)
    assert copies(torch.cat([near, fresh]), training).tolist() == [True] * 10 + [False] * 20
    line = column(0, 4)
    assert copies(column(0.99, 1.01, -1, 0), line).tolist() == [True, False, True, True]
    assert copies(column(1.01), line, ratio=0.5).tolist() == [True]
    twice = column(0, 0, 4)
    assert copies(column(0, 0.1), twice).tolist() == [True, False]


# ------------------------------------------------------------------------------------------------- classes, shares


def test_counts_and_cover_with_strays():
    labels = torch.tensor([0] * 50 + [1] * 5 + [2] * 4 + [-1] * 91)
    assert class_counts(labels, 4).tolist() == [50, 5, 4, 0]
    assert classes_covered(labels, 3) == 2  # a fair share is 50 of 150, a tenth of it 5
    assert classes_covered(labels[:59], 3) == 3  # without strays a tenth of a fair share is 2
    assert classes_covered(labels, 4, least=1e-9) == 3
    assert classes_covered(torch.full((5,), -1), 3) == 0


@pytest.mark.equation("8.6")
def test_entropy_in_nats():
    assert class_entropy(torch.arange(800) % 8, 8) == pytest.approx(math.log(8))
    assert class_entropy(torch.tensor([3, 3, 3]), 8) == 0 == class_entropy(torch.tensor([-1, -1]), 8)
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert class_entropy(torch.tensor([0, 0, 0, 1, -1, -1]), 5) == pytest.approx(expected)


@pytest.mark.equation("9.7")
def test_wilson_by_hand():
    """3 of 10, z = 1.95996: centre (0.3 + z²/20) / (1 + z²/10), half-width z √(0.021 + z²/400) / (1 + z²/10)."""
    z = 1.959964
    centre, half = (0.3 + z**2 / 20) / (1 + z**2 / 10), z * math.sqrt(0.021 + z**2 / 400) / (1 + z**2 / 10)
    assert wilson_interval(3, 10) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert wilson_interval(0, 10) == pytest.approx((0, z**2 / (10 + z**2)), abs=1e-6)
    low, high = wilson_interval(3, 10, level=0.5)
    assert wilson_interval(3, 10).low < low < 0.3 < high < wilson_interval(3, 10).high


# ------------------------------------------------------------------------------------------------- guards, warnings


def test_balls_that_hold_much_of_a_set_are_said():
    """Of four heaps, balls over a quarter of all reach into another heap: a heap forgotten is then covered."""
    heaps = (normal(20, 1) * 0.1).repeat(4, 1) + column(0, 10, 20, 30).repeat_interleave(20, 0)
    three = heaps[:60] + 0.001
    assert coverage(heaps, three, k=5) == pytest.approx(0.75)
    with pytest.warns(UserWarning, match="coverage: balls that reach to 21 of 80 images"):
        assert coverage(heaps, three, k=21) == 1
    with pytest.warns(UserWarning, match="recall: balls that reach to 3 of 8"):
        recall(heaps, heaps[:8])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours(heaps, three, 5)
        ours(column(0, 1), column(0, 1), 1)


def test_errors():
    x = normal(5, 2)
    for function in (precision, recall, density, coverage):
        with pytest.raises(ValueError, match=rf"{function.__name__} expects"):
            function(x, x[:0], k=1)
        with pytest.raises(ValueError, match=r"k: expected a whole number in 1\.\.4"):
            function(x, x, k=5)
    with pytest.raises(ValueError, match=r"count: expected a whole number in 1\.\.5"):
        nearest(x, x, 6)
    with pytest.raises(ValueError, match="nearest expects"):
        nearest(x, normal(5, 3))
    with pytest.raises(ValueError, match="count"):
        copies(x, x[:1])
    with pytest.raises(ValueError, match="ratio"):
        copies(x, x, ratio=1.0)
    for labels in ([3], [-2]):
        with pytest.raises(ValueError, match=r"labels: expected whole numbers \(n,\) in 0\.\.2, or −1"):
            class_counts(torch.tensor(labels), 3)
    with pytest.raises(ValueError, match="least"):
        classes_covered(torch.tensor([0]), 3, least=0.0)
    for successes, n in ((5, 4), (-1, 4), (0, 0), (True, 4)):
        with pytest.raises(ValueError, match="0 ≤ successes ≤ n"):
            wilson_interval(successes, n)
