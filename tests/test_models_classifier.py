"""The classifier of noisy images: what it hears, that it learns, and its loss."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.diffusion import cosine_schedule, noisy_classifier_loss
from course_utils.models.classifier import NoisyClassifier
from course_utils.training import fit


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stirred(**options) -> NoisyClassifier:
    torch.manual_seed(0)
    model = NoisyClassifier(**{"shape": (1, 8, 12), "num_classes": 3, "widths": (8, 12)} | options)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model


@pytest.mark.parametrize("shape, options", [((1, 8, 12), {}), ((3, 8, 4), {"patch": 1}), ((1, 6, 4), {"widths": (8,)})])
def test_shapes(shape, options):
    model = stirred(shape=shape, **options)
    assert model(torch.randn(5, *shape, generator=rng()), torch.arange(1, 6)).shape == (5, 3)


def test_it_hears_the_step_and_looks_at_every_pixel():
    model, x = stirred(), torch.randn(2, 1, 8, 12, generator=rng()).requires_grad_()
    one, other = model(x, torch.tensor([1, 1])), model(x, torch.tensor([900, 900]))
    assert (one - other).abs().min() > 1e-3
    one.sum().backward()
    assert (x.grad != 0).all()


def test_each_image_is_seen_alone():
    model, x, t = stirred(), torch.randn(4, 1, 8, 12, generator=rng()), torch.tensor([1, 30, 500, 1000])
    alone = torch.cat([model(x[k : k + 1], t[k : k + 1]) for k in range(4)])
    torch.testing.assert_close(model(x, t), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.equation("7.6")
def test_the_loss_is_the_cross_entropy_at_noised_images():
    schedule, model = cosine_schedule(50), stirred()
    x, y = torch.randn(6, 1, 8, 12, generator=rng()), torch.tensor([0, 1, 2, 2, 1, 0])
    t = torch.tensor([1, 7, 20, 30, 49, 50])
    value, terms = noisy_classifier_loss(schedule, draw=lambda *_: t)(model, x, y, rng(1))
    logits = model(schedule.add_noise(x, t, torch.randn(x.shape, generator=rng(1))), t)
    expected = -torch.stack([logits[k].log_softmax(0)[y[k]] for k in range(6)]).mean()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(value, F.cross_entropy(logits, y))
    assert terms["accuracy"] == (logits.argmax(1) == y).float().mean()


def test_it_learns_the_odds_that_noise_leaves():
    """Images of one grey value, −1 or 1, are told apart best by the sign of their mean; the network gets close."""
    schedule = cosine_schedule(100)
    y = torch.arange(512) % 2
    x = (2.0 * y - 1)[:, None, None, None].expand(-1, 1, 8, 12).contiguous()
    torch.manual_seed(0)
    model = NoisyClassifier((1, 8, 12), num_classes=2, widths=(8,))
    fit(model, noisy_classifier_loss(schedule), (x, y), steps=150, lr=1e-2, batch_size=64, progress=False)
    t = torch.full((512,), 97)
    x_t = schedule.add_noise(x, t, torch.randn(x.shape, generator=rng(5)))
    best = (x_t.mean((1, 2, 3)) > 0).long()
    found = model(x_t, t).argmax(1)
    assert (found == best).float().mean() > 0.85
    assert (best == y).float().mean() < 0.97  # so noisy that the best answer errs


def test_errors():
    with pytest.raises(ValueError, match=r"h and w multiples of 4, and ≥ 2 classes, got \(1, 8, 10\)"):
        NoisyClassifier((1, 8, 10), num_classes=3)
    with pytest.raises(ValueError, match="≥ 2 classes"):
        NoisyClassifier((1, 8, 8), num_classes=1)
    with pytest.raises(ValueError, match=r"expects images \(b, 1, 8, 12\) and t \(b,\), got \(2, 1, 8, 8\)"):
        stirred()(torch.zeros(2, 1, 8, 8), torch.tensor([1, 2]))
