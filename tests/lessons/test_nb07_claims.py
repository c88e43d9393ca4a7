"""What notebook 07 defines by hand is what the library computes."""

import masters
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import diffusion as library
from course_utils import metrics, sampling
from course_utils.models.unet import ClassPlane, UNet

SCHEDULE = library.cosine_schedule(100)
NULL = 3


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("07")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


X, T, Y = normal(4, 1, 5, 7), torch.tensor([1, 30, 70, 100]), torch.tensor([0, 1, 2, 1])


def denoise(x_t, t, y=None):
    """Uses image, step and label; without a label it is told "any"."""
    y = torch.full_like(t, NULL) if y is None else y
    return (x_t + 0.3 * y.view(-1, 1, 1, 1) + t.view(-1, 1, 1, 1) / 50).sin()


def classifier(x_t, t):
    return torch.stack([(k + 1) * (x_t + t.view(-1, 1, 1, 1) / 100).cos().flatten(1).mean(1) for k in range(3)], 1) * 9


def test_the_class_is_added(notebook):
    model = UNet((1, 8, 8), widths=(8,), num_classes=3)
    t = torch.tensor([1, 40, 900, 1000])
    by_hand = notebook["add_class"](model.time(library_waves(t)), model.label.weight, Y)
    torch.testing.assert_close(F.silu(by_hand), model.embed(t, Y))


def library_waves(t):
    from course_utils.models.unet import sinusoidal_embedding

    return sinusoidal_embedding(t, 64)


def test_the_plane_is_the_librarys(notebook):
    block = ClassPlane(nn.Identity(), 6, (5, 7))
    block.block.forward = lambda x, e: x  # what a block would be given
    x, step, label = torch.randn(3, 2, 5, 7, generator=rng()), torch.zeros(3, 6), torch.randn(3, 6, generator=rng(1))
    by_hand = notebook["class_plane"](x, label, block.plane.weight, block.plane.bias)
    torch.testing.assert_close(by_hand, block(x, torch.cat([step, label], 1)))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
def test_dropping_is_the_librarys(notebook, share):
    y = torch.arange(1000) % 3
    assert torch.equal(
        notebook["drop_labels"](y, NULL, share, rng(4)), library.drop_labels(y, NULL, share, generator=rng(4))
    )


def test_what_is_asked_in_training_is_what_the_librarys_loss_asks(notebook):
    """The same labels reach the network, so the loss is the same."""
    x0, asked = torch.rand(40, 1, 4, 4, generator=rng()) * 2 - 1, {}

    def network(x_t, t, y):
        asked["labels"] = y
        return 0 * x_t

    y = torch.arange(40) % 3
    library.diffusion_loss(SCHEDULE, null=NULL)(network, x0, y, rng(2))
    lost, given = asked["labels"] == NULL, asked["labels"]
    assert lost.any() and not lost.all()
    notebook["answer_in_training"](network, x0, torch.ones(40, dtype=torch.long), y, lost, NULL)
    assert torch.equal(asked["labels"], given)


@pytest.mark.parametrize("k", [1, 5])
def test_coverage_is_the_librarys(notebook, k):
    real, generated = normal(60, 4), 0.7 * normal(50, 4, seed=1) + 0.3
    assert notebook["coverage"](real, generated, k) == pytest.approx(metrics.coverage(real, generated, k))


def test_the_loss_of_the_noisy_classifier_is_the_librarys(notebook):
    noise = torch.randn(X.shape, generator=rng(3))
    theirs, _ = library.noisy_classifier_loss(SCHEDULE, draw=lambda *_: T)(classifier, X.float(), Y, rng(3))
    ours = notebook["noisy_cross_entropy"](classifier, X.float(), Y, T, noise, SCHEDULE)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["classifier_gradient", "colleagues_gradient"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_classifier_guidance_is_the_librarys(notebook, name, scale):
    """Gradient, guided noise, and back to x̂_0: the library does it in one step."""
    with torch.no_grad():
        uphill = notebook[name](classifier, X, T, Y)
        noise = library.predict_noise(SCHEDULE, denoise(X, T), X, T)
        ours = library.predict_x0(SCHEDULE, "noise", notebook["guided_noise"](noise, uphill, T, SCHEDULE, scale), X, T)
        theirs = sampling.classifier_guided(denoise, SCHEDULE, classifier, scale)(X, T, Y)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("w", [-1.0, 0.0, 0.5, 1.0, 3.0, 7.5])
def test_the_guided_guess_is_the_librarys(notebook, w):
    ours = notebook["guided_guess"](denoise, X, T, Y, NULL, w)
    torch.testing.assert_close(ours, sampling.cfg(denoise, w, NULL)(X, T, Y))


@pytest.mark.parametrize("w", [0.0, 1.0, 2.5])
def test_a_strength_of_the_paper_is_one_less(notebook, w):
    convert = notebook["convert_strength"]
    of_any, of_y = denoise(X, T, torch.full_like(Y, NULL)), denoise(X, T, Y)
    paper = convert(w, "course", "paper")
    torch.testing.assert_close((1 + paper) * of_y - paper * of_any, sampling.cfg(denoise, w, NULL)(X, T, Y))
    assert convert(paper, "paper", "course") == w == convert(w, "course", "course") == convert(w, "paper", "paper")


def test_an_interval_is_the_librarys(notebook):
    inside, outside = sampling.cfg(denoise, 3.0, NULL), denoise
    ours, theirs = (f(inside, outside, 20, 60) for f in (notebook["guided_between"], sampling.guidance_interval))
    for step in (1, 19, 20, 40, 60, 61, 100):
        t = torch.full((4,), step)
        assert torch.equal(ours(X, t, Y), theirs(X, t, Y))
