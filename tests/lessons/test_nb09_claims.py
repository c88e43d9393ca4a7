"""What notebook 09 defines by hand is what the library computes, and what its text says of the measures holds."""

import math
import statistics

import masters
import numpy as np
import pytest
import torch

from course_utils import measured, metrics
from course_utils.data import GaussianMixture
from course_utils.models.autoencoder import PCA, fit_gaussian
from course_utils.models.classifier import Classifier
from course_utils.pitfalls import copies as copy_pitfalls
from course_utils.pitfalls import evaluation as pitfalls


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("09")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


# --------------------------------------------------------------------------------------------------- in whose eyes


def test_mean_and_covariance_go_through_a_linear_reader(notebook):
    x, weight, bias = normal(50, 6) @ normal(6, 6, seed=1), normal(3, 6, seed=2), normal(3, seed=3)
    mean, cov = notebook["through_linear"](x.mean(0), x.T.cov(), weight, bias)
    read = x @ weight.T + bias
    torch.testing.assert_close(mean, read.mean(0))
    torch.testing.assert_close(cov, read.T.cov())


def test_ghosts_reach_the_floor_in_linear_features_and_not_in_others():
    """Points on a circle: their ghosts fill a disc. A linear reader can't tell, one that squares them can."""
    angle = 2 * torch.pi * torch.rand(4000, generator=rng(), dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], 1) @ normal(2, 6, seed=1)
    data, others = circle[:2000], circle[2000:]
    ghosts = fit_gaussian(data).sample(2000, rng(2))
    pca = PCA.fit(data.view(-1, 1, 2, 3), 2)

    def linear(x):
        return pca.encode(x.view(-1, 1, 2, 3))

    def apart(read, x):
        return metrics.frechet_distance(read(others), read(x))

    assert apart(linear, ghosts) < 3 * apart(linear, data) + 0.01
    assert apart(torch.square, ghosts) > 20 * apart(torch.square, data)


# ----------------------------------------------------------------------------------------------- small samples lie


def test_distances_by_size_and_their_line_are_the_librarys(notebook):
    """The same subsets in the same order, so the same numbers."""
    real, fake, sizes = normal(90, 3), 1.3 * normal(70, 3, seed=1), (20, 35, 70)
    line = metrics.frechet_at_infinity(real, fake, sizes, draws=3, generator=rng(4))
    means = notebook["by_size"](metrics.frechet_distance, real, fake, sizes, 3, rng(4))
    assert means == pytest.approx(line.distances)
    assert notebook["at_infinity"](sizes, means) == pytest.approx((line.value, line.slope))


def test_the_surplus_of_equal_distributions_halves_when_the_sets_double(notebook):
    """By (9.1): d²(n) = c/n."""
    real, fake = normal(4000, 8), normal(4000, 8, seed=1)
    means = notebook["by_size"](metrics.frechet_distance, real, fake, (100, 200, 400), 20, rng())
    assert [one / next for one, next in zip(means, means[1:])] == pytest.approx([2, 2], rel=0.15)


def test_a_board_ranks_patience_until_it_is_repaired(notebook):
    """A better model with few images against a worse one with many."""
    real = normal(1000, 16)
    entries = {"better, 60": normal(60, 16, seed=1), "worse, 1000": normal(1000, 16, seed=2) + 0.3}
    assert [name for name, _ in pitfalls.board(real, entries)] == ["worse, 1000", "better, 60"]
    board = notebook["somebody_elses_board"](real, entries)
    assert dict(board)["worse, 1000"] == metrics.frechet_distance(real[:60], entries["worse, 1000"][:60])
    assert [name for name, _ in board] == ["better, 60", "worse, 1000"]
    twice = {"all": entries["worse, 1000"], "some": entries["worse, 1000"][:60]}
    assert len({distance for _, distance in notebook["somebody_elses_board"](real, twice)}) == 1
    assert len({distance for _, distance in pitfalls.board(real, twice)}) == 2


# ------------------------------------------------------------------------------------------- a distance with a bar


@pytest.mark.parametrize("n, m, d", [(40, 25, 8), (12, 30, 1)])
def test_the_kernel_distance_is_the_librarys(notebook, n, m, d):
    real, fake = normal(n, d), 0.7 * normal(m, d, seed=1) + 0.3
    assert notebook["kernel_distance"](real, fake) == pytest.approx(metrics.kernel_distance(real, fake).value)


def test_it_has_no_bias_where_the_frechet_distance_has_one(notebook):
    found = {"kernel_distance": [], "frechet": []}
    for seed in range(100):
        a, b = normal(2, 40, 8, seed=seed)
        found["kernel_distance"].append(notebook["kernel_distance"](a, b))
        found["frechet"].append(metrics.frechet_distance(a, b))
    kernel, frechet = (torch.tensor(values) for values in found.values())
    assert abs(kernel.mean()) < 3 * kernel.std() / 10 and 0.3 < (kernel < 0).double().mean() < 0.8
    assert frechet.min() > 0


def test_the_jackknife_of_a_mean_is_its_standard_error(notebook):
    x = normal(30, 2)
    value, error = notebook["jackknife"](lambda x: x.mean(0), [x], 30)
    torch.testing.assert_close(value, x.mean(0))
    torch.testing.assert_close(error, x.std(0) / 30**0.5)


def test_the_jackknife_foresees_how_much_the_measures_vary(notebook):
    """Sets drawn anew, 60 times. For shares by neighbours it is too wide rather than too narrow, as measured."""

    def measures(real, fake):
        pair = notebook["density_coverage"](real, fake, 5)
        return torch.tensor([metrics.frechet_distance(real, fake), notebook["kernel_distance"](real, fake), *pair])

    notebook["density_coverage"].__globals__.update(radii=notebook["radii"])
    values, errors = [], []
    for seed in range(60):
        sets = normal(200, 8, seed=seed), 0.8 * normal(200, 8, seed=1000 + seed) + 0.2
        value, error = notebook["jackknife"](measures, sets, 10)
        values.append(value)
        errors.append(error)
    ratio = torch.stack(errors).square().mean(0).sqrt() / torch.stack(values).std(0)
    assert (ratio > 0.75).all() and (ratio[:2] < 1.4).all() and (ratio < 2.2).all(), ratio


def test_a_difference_on_common_ground_has_a_narrower_bar(notebook):
    """Two models that share their noise, and the real images."""
    real, noise = normal(300, 4), normal(300, 4, seed=1)
    one, other = 1.2 * noise + 0.3, 1.25 * noise + 0.3
    kernel, jackknife = notebook["kernel_distance"], notebook["jackknife"]
    _, half, _ = notebook["told_apart"](kernel, real, other, one, 10, 2.26)
    alone = [jackknife(lambda *rows: torch.tensor([kernel(*rows)]), (real, x), 10)[1].item() for x in (one, other)]
    assert half < 2.26 * np.hypot(*alone) / 2


def test_p_is_uniform_where_there_is_no_difference_and_small_where_there_is(notebook):
    """Even with a distance that has a bias."""
    p, orders = {0.0: [], 1.0: []}, torch.stack([torch.randperm(60, generator=rng(k)) for k in range(39)])
    for away, found in p.items():
        for seed in range(100):
            real, fake = normal(30, 3, seed=seed), normal(30, 3, seed=500 + seed) + away
            found.append(notebook["permutation_p"](metrics.frechet_distance, real, fake, orders))
    same, other = (torch.tensor(found) for found in p.values())
    assert abs(same.mean() - 0.5) < 3 * 0.29 / 10 and abs((same <= 0.25).double().mean() - 0.25) < 3 * 0.043
    assert (other == 1 / 40).double().mean() > 0.9


# ------------------------------------------------------------------------------------------------- sure, good, varied


def test_the_inception_score_is_the_librarys(notebook):
    p = torch.cat([(3 * normal(50, 10)).softmax(1), torch.eye(10, dtype=torch.float64)])
    assert notebook["inception_score"](p) == pytest.approx(metrics.inception_score(p))


@pytest.mark.parametrize("k", [1, 5])
def test_the_neighbours_measures_are_the_librarys(notebook, k):
    real, fake = normal(60, 4), 0.8 * normal(50, 4, seed=1) + 0.3
    ours = *notebook["precision_recall"](real, fake, k), *notebook["density_coverage"](real, fake, k)
    theirs = [getattr(metrics, name)(real, fake, k) for name in ("precision", "recall", "density", "coverage")]
    assert ours == pytest.approx(theirs)


@pytest.fixture(scope="module")
def ring():
    """As in the notebook: real points, and a maker of generators (blobs, width, strays)."""
    mixture, at, dust = GaussianMixture.ring(std=0.12), normal(2, 400, 2, seed=6), normal(400, 2, seed=7)
    means = mixture.means.double()

    def made(modes, width=1.0, strays=0):
        points = means[torch.arange(400) % modes] + width * 0.12 * at[1]
        points[400 - strays :] = 1.5 * dust[:strays]
        return points

    return means.repeat(50, 1) + 0.12 * at[0], made


def test_what_the_ring_shows(ring):
    """Blobs forgotten: recall and coverage fall. With strays recall comes back, coverage doesn't. Narrow blobs please
    precision and density."""
    real, made = ring

    def of(name, *order):
        return getattr(metrics, name)(real, made(*order), 5)

    assert of("precision", 3) > 0.9 and of("recall", 3) < 0.45 and of("coverage", 3) < 0.45
    assert of("recall", 3, 1.0, 20) > 0.95 and abs(of("coverage", 3, 1.0, 20) - of("coverage", 3)) < 0.05
    assert of("precision", 8, 0.05) > of("precision", 8) and of("density", 8, 0.05) > of("density", 8)
    assert of("recall", 8, 0.05) < 0.1 and of("coverage", 8, 0.05) < 0.3


@pytest.mark.parametrize("modes", [1, 2, 3, 5])
def test_one_point_fools_recall(notebook, ring, modes):
    real, made = ring
    fake = made(modes)
    fooled = notebook["fool"](real, fake)
    assert (fooled != fake).any(1).sum() == 1
    assert metrics.recall(real, fooled, 5) > 0.9 > 0.7 > metrics.recall(real, fake, 5)
    assert abs(metrics.coverage(real, fooled, 5) - metrics.coverage(real, fake, 5)) < 0.02


# ------------------------------------------------------------------------------------------------------ another judge


def test_a_judge_in_training_mode_looks_at_the_neighbours(notebook):
    torch.manual_seed(0)
    trained = Classifier((1, 12, 8), 3, size=6, width=4)
    trained.train()(torch.randn(200, 1, 12, 8, generator=rng()))  # so that it remembers means and variances
    images = torch.rand(90, 1, 12, 8, generator=rng(1)) * 2 - 1
    images[:45] += 1.0
    mixed = torch.arange(90).view(2, 45).T.flatten()
    given = trained.state_dict(), trained.config

    def gap(read):
        return (read(*given, images, 30)[mixed] - read(*given, images[mixed], 30)).abs().max().item()

    assert gap(pitfalls.features) > 0.1 and gap(notebook["somebody_elses_features"]) < 1e-5
    expected = trained.eval().features(images).double().detach()
    torch.testing.assert_close(notebook["somebody_elses_features"](*given, images, 30), expected, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize("at_once", [1, 7, 500])
def test_the_nearest_are_the_librarys(notebook, at_once):
    points, among = normal(20, 1, 3, 4), normal(50, 1, 3, 4, seed=1)
    distances, indices = notebook["nearest"](points, among, 3, at_once)
    theirs = metrics.nearest(points, among, 3)
    torch.testing.assert_close(distances, theirs.distances)
    assert torch.equal(indices, theirs.indices)


def test_copies_are_the_librarys(notebook):
    training = normal(30, 1, 4, 4)
    generated = torch.cat(
        [training[:5], training[5:10] + 0.05 * normal(5, 1, 4, 4, seed=2), normal(9, 1, 4, 4, seed=3)]
    )
    found = notebook["copies"](generated, training)
    assert torch.equal(found, metrics.copies(generated, training)) and found.tolist() == [True] * 10 + [False] * 9


def test_his_report_finds_no_planted_copy_and_the_mended_one_finds_all(notebook):
    training, held_out = normal(30, 1, 4, 4), normal(200, 1, 4, 4, seed=1)
    planted = training.repeat(3, 1, 1, 1) + 0.01 * normal(90, 1, 4, 4, seed=2)
    assert copy_pitfalls.report(planted, training, held_out, 0.01) <= 0.1
    assert notebook["somebody_elses_report"](planted, training, held_out, 0.01) == 1
    assert notebook["somebody_elses_report"](held_out, training, held_out, 0.05) == pytest.approx(0.05, abs=0.01)


def test_his_report_still_finds_copies_of_what_stands_there_twice():
    """The answer to the question on it: with duplicates the second nearest is near as well."""
    once, held_out = normal(30, 1, 4, 4), normal(200, 1, 4, 4, seed=1)
    twice, planted = torch.cat([once, once + 0.01 * normal(30, 1, 4, 4, seed=3)]), once
    assert copy_pitfalls.report(planted, twice, held_out, 0.01) == 1
    assert metrics.copies(planted + 0.02 * normal(30, 1, 4, 4, seed=4), twice).double().mean() < 0.2


def test_what_the_text_says_of_memorization_holds_for_every_seed():
    """A hundred images are copied, a thousand aren't; the copier is nearest to the test images, nearer to its own."""
    of = measured.shipped_table("memorization")["images"]
    hundred, others = of["100"], [of["1000"], of["10000"]]
    assert min(hundred["copies"]) > 0.2 and max(max(other["copies"]) for other in others) < 0.01
    assert max(max(row["control copies"]) for row in of.values()) < 0.01
    assert max(hundred["to test"]) < min(min(other["to test"]) for other in others)
    assert all(own < test for own, test in zip(hundred["to training"], hundred["to test"]))


# ------------------------------------------------------------------------------------------------ the trilemma, a game


def test_corners_are_the_librarys(notebook):
    ends = (10.0, 1.0, 0.1), (2.0, 1e-4, 0.9)
    for numbers in ((5.0, 0.02, 0.4), (12.0, 3.0, 0.0), (1.0, 1e-5, 0.95)):
        assert notebook["corners"](numbers, *ends) == pytest.approx(measured.corners(numbers, *ends))


def test_places_are_the_librarys(notebook):
    models, ends = measured.shipped_table("trilemma")["models"], ((10.0, 1.0, 0.1), (2.0, 1e-4, 0.9))
    ours, theirs = notebook["places"](models, *ends), measured.places(models, *ends)
    assert list(ours) == list(theirs) and len(ours) == 5
    for name, shares in ours.items():
        assert [pytest.approx(share) for share in shares] == theirs[name]


def test_the_stopwatch_ignores_a_slow_first_call_and_a_hiccup(notebook):
    times = iter([9.0, 0.2, 0.2, 5.0, 0.2, 0.2])
    now = [0.0]

    def draw(n):
        now[0] += next(times)

    assert notebook["seconds_per_image"](draw, 10, 5, lambda: now[0]) == pytest.approx(0.02)


@pytest.mark.parametrize(("wrong", "n"), [(0, 5), (8, 20), (20, 20), (31, 100)])
def test_wilsons_interval_is_the_librarys(notebook, wrong, n):
    assert notebook["wilson_interval"](wrong, n) == pytest.approx(metrics.wilson_interval(wrong, n), abs=1e-4)


def test_eight_of_twenty(notebook):
    """What the last question says: 22 % to 61 %, and a coin is wrong 8 times or fewer in one round of four."""
    low, high = notebook["wilson_interval"](8, 20)
    assert (round(100 * low), round(100 * high)) == (22, 61)
    assert sum(math.comb(20, k) for k in range(9)) / 2**20 == pytest.approx(1 / 4, abs=0.005)


@pytest.mark.parametrize("name", ["trilemma", "memorization"])
def test_what_is_shipped_has_three_seeds(name):
    assert measured.shipped_table(name)["seeds"] == [0, 1, 2]


def test_who_comes_half_way():
    """What the text says under the triangle."""
    table = measured.shipped_table("trilemma")
    places = {name.split("\n")[0]: shares for name, shares in measured.wishes(table).items()}
    half_way = {
        name: [wish for wish, share in zip(measured.WISHES, zip(*shares)) if statistics.fmean(share) >= 0.5]
        for name, shares in places.items()
    }
    good, fast, covered = measured.WISHES
    assert half_way == {
        "VAE": [fast],
        "DCGAN": [good, fast],
        "diffusion, 50 steps": [good, covered],
        "diffusion, 10 steps": [good, covered],
        "diffusion, 5 steps": [fast],
    }
    for name, wish in (("DCGAN", covered), ("diffusion, 10 steps", fast)):
        seeds = [share[measured.WISHES.index(wish)] for share in places[name]]
        assert 0 < 0.5 - statistics.fmean(seeds) < 0.015 < max(seeds) - min(seeds)
    gan, ddim = (table["models"][name]["coverage"] for name in ("DCGAN", "diffusion, 50 steps"))
    assert max(gan) > min(ddim) and max(ddim) > min(gan)


def test_all_models_of_the_trilemma_are_there():
    families = {name.split(",")[0] for name in measured.shipped_table("trilemma")["models"]}
    assert families == {"VAE", "DCGAN", "diffusion", "real images", "pixel Gaussian"}
