"""What notebook 00 defines: a walk back from noise, an exact denoiser, and three simple recipes for images."""

from __future__ import annotations

import math

import masters
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from course_utils.arrays import to_unit

T = 40


class Train:
    shape = (1, 2, 3)
    labels = torch.arange(30) % 3


class Model:
    shape = Train.shape


class Lab:
    device = torch.device("cpu")


@pytest.fixture
def notebook():
    """Its definitions, with 30 training images of 2 × 3 pixels, in double precision, in the place of its data."""
    defined = masters.definitions("00")
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(30, *Train.shape, generator=generator, dtype=torch.float64) * 2 - 1
    alpha_bar = torch.cos(torch.arange(T + 1, dtype=torch.float64) / T * math.pi / 2).square()
    alpha_bar[T] = 0
    for function in defined.values():
        getattr(function, "__wrapped__", function).__globals__.update(
            x=x, alpha_bar=alpha_bar, T=T, train=Train, model=Model, lab=Lab
        )
    return {**defined, "x": x, "alpha_bar": alpha_bar}


def noised(notebook, t, seed=1):
    a = notebook["alpha_bar"][t]
    x0 = notebook["x"][:12]
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed), dtype=x0.dtype)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def density(notebook, t, images):
    """p(x_t): one Gaussian around each shrunken training image, by torch.distributions."""
    a = notebook["alpha_bar"][t]
    parts = Independent(Normal(a.sqrt() * images.flatten(1), (1 - a).sqrt()), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(images), dtype=images.dtype)), parts)


def test_its_to_unit_is_the_librarys(notebook):
    x = torch.rand(3, 1, 4, 5) * 2 - 1
    assert torch.equal(notebook["to_unit"](x), to_unit(x))


@pytest.mark.parametrize("t", [1, 7, 20, 39, 40])
def test_weights_are_bayes_rule(notebook, t):
    x_t = noised(notebook, t)
    mixture = density(notebook, t, notebook["x"])
    joint = mixture.component_distribution.log_prob(x_t.flatten(1)[:, None]) - math.log(30)
    posterior = (joint - mixture.log_prob(x_t.flatten(1))[:, None]).exp()
    assert torch.allclose(notebook["weights"](x_t, t, notebook["x"]), posterior, atol=1e-12)


@pytest.mark.parametrize("t", [1, 7, 20, 39])
@pytest.mark.parametrize("y", [None, 2])
def test_guess_is_what_tweedies_formula_gives(notebook, t, y):
    """x̂₀ = (x_t + (1 − ᾱ) ∇ log p(x_t)) / √ᾱ, with the gradient by autograd: a road that knows nothing of weights."""
    x_t, a = noised(notebook, t).requires_grad_(), notebook["alpha_bar"][t]
    images = notebook["x"] if y is None else notebook["x"][Train.labels == y]
    (score,) = torch.autograd.grad(density(notebook, t, images).log_prob(x_t.flatten(1)).sum(), x_t)
    assert torch.allclose(notebook["exact"](x_t, t, y), (x_t + (1 - a) * score) / a.sqrt(), atol=1e-9)


def test_pure_noise_gives_the_average_of_all_images(notebook):
    x_t = noised(notebook, T)
    assert torch.allclose(notebook["exact"](x_t, T), notebook["x"].mean(0).expand_as(x_t))


def test_guidance_goes_from_any_class_through_the_class_and_beyond(notebook):
    x_t, guided, exact = noised(notebook, 30), notebook["guided"], notebook["exact"]
    free, asked = notebook["exact"](x_t, 30), notebook["exact"](x_t, 30, 1)
    assert torch.equal(guided(exact, x_t, 30, 1, 0), free) and torch.equal(guided(exact, x_t, 30, None, 5.0), free)
    assert torch.allclose(guided(exact, x_t, 30, 1, 1), asked)
    assert torch.allclose(guided(exact, x_t, 30, 1, 3) - asked, 2 * (asked - free))


def test_the_walk_asks_the_network_at_every_25th_of_its_levels_and_for_the_class(notebook):
    asked = []

    def model(x_t, t, y):
        asked.append((t.tolist(), None if y is None else y.tolist()))
        return x_t

    notebook["network"].__globals__.update(model=model, stride=25)
    notebook["network"](noised(notebook, 7), 7)
    notebook["network"](noised(notebook, 40)[:2], 40, 3)
    assert asked == [([175] * 12, None), ([1000] * 2, [3, 3])]


def test_the_walk_ends_at_training_images_and_at_the_class_that_was_asked_for(notebook):
    single = {"x": notebook["x"].float(), "alpha_bar": notebook["alpha_bar"].float()}
    notebook["walk"].__wrapped__.__globals__.update(single)
    x = notebook["x"].flatten(1)
    for y in (None, 1):
        visited = notebook["walk"](notebook["exact"], 16, 0, y)
        assert [t for t, _, _ in visited] == list(range(T, -1, -1))
        distance, which = torch.cdist(visited[-1][1].flatten(1).double(), x).min(1)
        assert distance.max() < 1e-3
        assert y is None or (Train.labels[which] == y).all()
    ends = notebook["walk"](notebook["exact"], 500, 1)[-1][1].flatten(1).double()
    assert len(torch.cdist(ends, x).argmin(1).unique()) > 25, "nearly all of the 30 images are reached"


def test_recipe_two_keeps_every_pixels_values_and_breaks_up_images(notebook):
    x = notebook["x"].flatten(1)
    drawn = notebook["pixel_by_pixel"](4000, torch.Generator().manual_seed(0)).flatten(1)
    for column, values in zip(drawn.T, x.T):
        assert set(column.tolist()) <= set(values.tolist())
    error = drawn.std(0) / 4000**0.5
    assert ((drawn.mean(0) - x.mean(0)).abs() < 5 * error).all()
    correlation = torch.corrcoef(drawn.T) - torch.eye(6)
    assert correlation.abs().max() < 5 / 4000**0.5


def test_recipe_three_has_the_mean_and_covariance_of_the_data(notebook, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "clamp", lambda self, low, high: self)  # the range's ends bend the tails
    notebook["one_gaussian"].__globals__["x"] = notebook["x"].float()
    x = notebook["x"].float().flatten(1)
    drawn = notebook["one_gaussian"](200_000, torch.Generator().manual_seed(0)).flatten(1)
    assert torch.allclose(drawn.mean(0), x.mean(0), atol=0.01)
    assert torch.allclose(torch.cov(drawn.T), torch.cov(x.T, correction=0), atol=0.01)
