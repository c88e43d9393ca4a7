"""What notebook 07 defines by hand is what the library computes."""

import masters
import pytest
import torch
from torch import nn

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


def like(theirs, ours):
    """Our network with the weights of theirs, in the order in which both have them."""
    with torch.no_grad():
        by_name = dict(theirs.named_parameters())
        for name, weight in ours.named_parameters():
            weight.copy_(by_name.get(name, by_name["label.weight"]) + 0.1)
        for weight in theirs.parameters():
            weight.add_(0.1)
    return ours


def test_the_class_is_added_as_in_the_library(notebook):
    theirs = UNet((1, 8, 8), widths=(8,), num_classes=3)
    ours = like(theirs, notebook["ClassUNet"]((1, 8, 8), 3, (8,)))
    x, t = torch.randn(4, 1, 8, 8, generator=rng()), torch.tensor([1, 40, 900, 1000])
    torch.testing.assert_close(ours(x, t, Y), theirs(x, t, Y))
    torch.testing.assert_close(ours(x, t), theirs(x, t))


def test_a_u_net_takes_the_block_of_the_notebook(notebook):
    torch.manual_seed(0)
    ours = UNet((1, 8, 8), widths=(8, 8), num_classes=3, conditioning=notebook["PlaneBlock"])
    torch.manual_seed(0)
    theirs = UNet((1, 8, 8), widths=(8, 8), num_classes=3, conditioning="plane")
    with torch.no_grad():
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(one.add_(0.1))
    x, t = torch.randn(4, 1, 8, 8, generator=rng()), torch.tensor([1, 40, 900, 1000])
    torch.testing.assert_close(ours(x, t, Y), theirs(x, t, Y))


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


@pytest.mark.parametrize("name", ["class_loss", "somebody_elses_loss"])
def test_the_training_loss_is_the_librarys(notebook, name):
    """The same draws in the same order, so the same number."""
    x0, y = torch.rand(40, 1, 4, 4, generator=rng()) * 2 - 1, torch.arange(40) % 3
    network = lambda x_t, t, y: denoise(x_t, t, y)  # noqa: E731
    theirs = library.diffusion_loss(SCHEDULE, null=NULL)(network, x0, y, rng(2))
    torch.testing.assert_close(notebook[name](network, x0, y, rng(2), SCHEDULE, NULL, 0.1), theirs)


@pytest.mark.parametrize("k", [1, 5])
def test_coverage_is_the_librarys(notebook, k):
    real, generated = normal(60, 4), 0.7 * normal(50, 4, seed=1) + 0.3
    assert notebook["coverage"](real, generated, k) == pytest.approx(metrics.coverage(real, generated, k))


def test_the_noisy_classifier_learns_in_its_loop(notebook):
    """Three grey levels are told apart after a while, at small t, and guessed at the end of the chain."""
    torch.manual_seed(1)
    model = notebook["NoisyClassifier"]((1, 8, 8), 3)
    y = torch.arange(48) % 3
    batches = [((y[:, None, None, None] - 1.0).expand(-1, 1, 8, 8), y)] * 80
    losses = notebook["train_classifier"](
        model, iter(batches), SCHEDULE, torch.optim.Adam(model.parameters(), lr=3e-3), rng()
    )
    assert len(losses) == 80 and sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert (model(batches[0][0], torch.full_like(y, 5)).argmax(1) == y).float().mean() > 0.95


@pytest.mark.parametrize("name", ["with_classifier", "somebody_elses_guide"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_classifier_guidance_is_the_librarys(notebook, name, scale):
    with torch.no_grad():
        ours = notebook[name](denoise, SCHEDULE, classifier, scale)(X, T, Y)
        theirs = sampling.classifier_guided(denoise, SCHEDULE, classifier, scale)(X, T, Y)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_the_gradient_of_a_classifier_is_the_librarys(notebook):
    ours = notebook["classifier_gradient"](classifier, X, T, Y)
    torch.testing.assert_close(ours, sampling.classifier_gradient(classifier, X, T, Y))


@pytest.mark.parametrize("w", [-1.0, 0.0, 0.5, 1.0, 3.0, 7.5])
def test_guidance_without_a_classifier_is_the_librarys(notebook, w):
    ours = notebook["classifier_free"](denoise, w, NULL)(X, T, Y)
    torch.testing.assert_close(ours, sampling.cfg(denoise, w, NULL)(X, T, Y))


def test_several_wishes_are_one_where_there_is_one(notebook):
    ours = notebook["all_wishes"](denoise, 3.0, NULL)(X, T, Y[:, None])
    torch.testing.assert_close(ours, sampling.cfg(denoise, 3.0, NULL)(X, T, Y))


def test_what_is_asked_for_is_clipped_at_every_step(notebook):
    guided = sampling.clipped(sampling.cfg(denoise, 6.0, NULL))
    theirs = sampling.last(sampling.ddim(guided, SCHEDULE, X, 5, Y))
    torch.testing.assert_close(notebook["ask_for"](denoise, SCHEDULE, Y, 6.0, NULL, X, 5), theirs)


def test_a_sweep_holds_means_and_standard_errors(notebook):
    found = {(1.0, 1): (0.5, 0.1), (1.0, 2): (0.7, 0.1), (2.0, 1): (0.9, 0.3), (2.0, 2): (0.9, 0.5)}
    means, errors = notebook["sweep"](lambda w, seed: (w, seed), found.get, [1.0, 2.0], (1, 2))
    torch.testing.assert_close(means, torch.tensor([[0.6, 0.1], [0.9, 0.4]]))
    torch.testing.assert_close(errors, torch.tensor([[0.1, 0.0], [0.0, 0.1]]))


def test_a_confusion_of_the_right_answers_is_the_identity(notebook):
    assert torch.equal(notebook["confusion"](Y, Y, 3), torch.eye(3))


@pytest.mark.parametrize("w", [0.0, 1.0, 2.5])
def test_a_strength_of_the_paper_is_one_less(notebook, w):
    convert = notebook["convert_strength"]
    of_any, of_y = denoise(X, T, torch.full_like(Y, NULL)), denoise(X, T, Y)
    paper = convert(w, "course", "paper")
    torch.testing.assert_close((1 + paper) * of_y - paper * of_any, sampling.cfg(denoise, w, NULL)(X, T, Y))
    assert convert(paper, "paper", "course") == w == convert(w, "course", "course") == convert(w, "paper", "paper")


def test_an_interval_is_the_librarys(notebook):
    ours = notebook["guided_between"](denoise, 3.0, NULL, 20, 60)
    theirs = sampling.guidance_interval(sampling.cfg(denoise, 3.0, NULL), denoise, 20, 60)
    for step in (1, 19, 20, 40, 60, 61, 100):
        t = torch.full((4,), step)
        assert torch.equal(ours(X, t, Y), theirs(X, t, Y))
