"""What samples are judged by, its two control rows, denoisers by grid, and one training on several processes."""

from dataclasses import replace

import pytest
import torch

from course_utils import together
from course_utils.data import GaussianMixture, ImageSet, load
from course_utils.data.by_grid import best_answer, grid_denoiser
from course_utils.diffusion import cosine_schedule
from course_utils.weights import load_classifier
from course_utils.yardsticks import Yardstick, features_for, pixel_gaussian


@pytest.fixture(scope="module")
def digits():
    return load("digits", "train"), load("digits", "test").first(150)


def test_features_are_the_shipped_classifiers_or_main_directions():
    own = replace(load("digits", "train", limit=60), name="my own")
    features, words = features_for(own)
    assert "32 main directions" in words and features(own.x).shape == (60, 32)
    clothes = ImageSet(torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.zeros(3).long(), ("a",), "fashion-mnist")
    features, words = features_for(clothes)
    x = 2 * torch.rand(3, 1, 28, 28) - 1
    assert "classifier" in words and torch.equal(features(x), load_classifier("fashion-mnist").features(x).detach())
    assert not features(x).requires_grad


@pytest.mark.parametrize("known", [True, False])
def test_real_images_are_nearer_than_the_pixel_gaussian_than_noise(digits, known, monkeypatch):
    train, test = digits
    if not known:
        monkeypatch.setattr("course_utils.yardsticks.shipped", list)
    stick = Yardstick(train, test)
    assert ("classifier" in stick.name) == known
    noise = torch.randn(150, *train.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert stick.distance(test.x) < 1e-3 < stick.floor(150)
    gaussian = stick.of_a_pixel_gaussian(150)
    assert gaussian < stick.distance(noise)
    assert stick.floor(150) < gaussian or not known  # in linear features one Gaussian is as near as real images


def test_the_pixel_gaussian_has_mean_and_covariance_of_the_pixels():
    images = torch.randn(4000, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.3
    images[:, 0, 0, 1] = images[:, 0, 0, 0]
    drawn = pixel_gaussian(images, 4000, seed=1)
    assert drawn.shape == images.shape and drawn.dtype == images.dtype and drawn.abs().max() <= 1
    torch.testing.assert_close(drawn.mean(0), images.mean(0), atol=0.01, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.flatten(1).T), torch.cov(images.flatten(1).T), atol=1e-3, rtol=0)


def test_the_mean_by_grid_is_the_denoiser_of_the_mixture():
    mixture, schedule = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.2, torch.tensor([0.3, 0.7])), cosine_schedule()
    x = torch.linspace(-1.5, 1.5, 21)
    for t in (100, 500, 900):
        exact = mixture.denoiser(schedule)(x[:, None], torch.full((21,), t))[:, 0]
        torch.testing.assert_close(best_answer(mixture, schedule, x, t), exact, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(
            grid_denoiser(mixture, schedule)(x[:, None], torch.full((21,), t))[:, 0], exact, atol=5e-3, rtol=0
        )


def test_the_median_takes_sides_and_huber_lies_between():
    mixture, schedule = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.1, torch.tensor([0.3, 0.7])), cosine_schedule()
    mean, median, huber = (best_answer(mixture, schedule, torch.zeros(1), 600, d).item() for d in ("l2", "l1", "huber"))
    assert median == pytest.approx(1, abs=0.1) and mean == pytest.approx(0.4, abs=0.02)
    assert mean - 0.01 < huber < median


def test_two_processes_end_with_the_weights_of_one():
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before, alone = together.train(images, 0, 4), together.train(images, 2, 4)
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), alone.parameters()))
    said, weights = together.launch(images, 2, 4)
    assert said.count("process") == 2 and weights is not None, said
    for name, weight in alone.state_dict().items():
        torch.testing.assert_close(weights[name], weight, atol=1e-12, rtol=1e-9)


def test_processes_that_fail_say_why():
    said, weights = together.launch(torch.zeros(0, 1, 8, 8), 1, 2, seconds=60.0)
    assert weights is None and said
