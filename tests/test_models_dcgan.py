"""DCGAN's rules, looked up in the networks' structure and seen in what they do."""

import pytest
import torch
from torch import nn

from course_utils.models.dcgan import Discriminator, Generator, first_weights


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kinds(network: nn.Module) -> list[type]:
    return [type(layer) for layer in network.layers]


@pytest.mark.parametrize("shape, widths", [((1, 28, 28), (32, 64)), ((3, 8, 20), (4, 8)), ((1, 32, 16), (4, 6, 8))])
@pytest.mark.parametrize("latent", [2, 100])
def test_shapes_and_range(shape, widths, latent):
    torch.manual_seed(0)
    x = Generator(shape, latent, widths)(50 * torch.randn(5, latent, generator=rng()))
    assert x.shape == (5, *shape) and x.abs().max() <= 1
    assert Discriminator(shape, widths)(x.detach()).shape == (5,)


def test_the_rules():
    up, down = kinds(Generator((1, 28, 28))), kinds(Discriminator((1, 28, 28)))
    assert nn.MaxPool2d not in up + down and nn.AvgPool2d not in up + down
    assert up == [nn.Linear, nn.Unflatten, nn.BatchNorm2d, nn.ReLU, nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU,
                  nn.ConvTranspose2d, nn.Tanh]  # fmt: skip
    assert down == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU, nn.Flatten, nn.Linear]
    assert all(layer.negative_slope == 0.2 for layer in Discriminator().layers if isinstance(layer, nn.LeakyReLU))
    assert nn.BatchNorm2d not in kinds(Discriminator(norm=None)) + kinds(Discriminator(norm="spectral"))


def test_first_weights_of_every_layer():
    torch.manual_seed(0)
    for network in (Generator(widths=(64, 128)), Discriminator(widths=(64, 128))):
        for layer in network.layers:
            weight = getattr(layer, "weight", None)
            if isinstance(layer, nn.BatchNorm2d):
                assert abs(weight.mean() - 1) < 0.01 and abs(weight.std() - 0.02) < 0.005
            elif weight is not None and weight.numel() > 3000:
                assert abs(weight.mean()) < 0.001 and abs(weight.std() / 0.02 - 1) < 0.05
            if getattr(layer, "bias", None) is not None:
                assert not layer.bias.any()
    untouched = nn.Embedding(3, 4)
    before = untouched.weight.clone()
    first_weights(untouched)
    assert torch.equal(untouched.weight, before)


def test_alone_and_in_company():
    """With BatchNorm a real image's logit depends on the batch; without, and with spectral norm, it doesn't."""
    x = torch.randn(6, 1, 8, 8, generator=rng())
    for norm, alone in (("batch", False), ("spectral", True), (None, True)):
        torch.manual_seed(0)
        D = Discriminator((1, 8, 8), (8, 8), norm)
        D(x)  # spectral norm improves its estimate at each pass while training
        D.eval() if norm == "spectral" else None
        same = torch.allclose(D(x)[:2], D(x[:2]), atol=1e-6)
        assert same == alone, norm


@pytest.mark.equation("8.8")
def test_spectral_norm_bounds_every_layer():
    """The largest singular value of each weight, as a matrix (out, rest), is 1 by SVD."""
    torch.manual_seed(0)
    D, x = Discriminator((1, 8, 8), (8, 8), "spectral"), torch.randn(4, 1, 8, 8, generator=rng())
    for _ in range(100):
        D(x)
    D.eval()
    for layer in D.layers:
        if hasattr(layer, "weight"):
            assert torch.linalg.svdvals(layer.weight.flatten(1))[0].item() == pytest.approx(1, abs=1e-3)


def test_samples_depend_on_the_generator_alone():
    G = Generator((1, 8, 8), 3, (4, 4)).eval()
    assert torch.equal(G.sample(4, rng(5)), G(torch.randn(4, 3, generator=rng(5))))
    assert G.sample(2).shape == (2, 1, 8, 8)


def test_errors():
    with pytest.raises(ValueError, match=r"multiples of 4"):
        Generator((1, 28, 30))
    with pytest.raises(ValueError, match=r"latent ≥ 1, got 0"):
        Generator(latent=0)
    with pytest.raises(ValueError, match=r"norm 'batch', 'spectral' or None, got 'layer'"):
        Discriminator(norm="layer")
    with pytest.raises(ValueError, match=r"expects codes \(b, 100\), got \(3, 2\)"):
        Generator()(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"expects images \(b, 1, 28, 28\), got \(2, 1, 8, 8\)"):
        Discriminator()(torch.zeros(2, 1, 8, 8))
