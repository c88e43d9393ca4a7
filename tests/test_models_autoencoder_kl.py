"""The autoencoder of latent diffusion, against distributions, plain sums, and what must hold."""

import inspect
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from course_utils.models.autoencoder_kl import AutoencoderKL, PlainResidualBlock, autoencoder_kl_loss, set_scale
from course_utils.training import fit


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 40, shape: tuple[int, int, int] = (3, 8, 12)) -> torch.Tensor:
    return torch.rand(n, *shape, generator=rng()) * 2 - 1


def small(**options) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(**{"shape": (3, 8, 12), "channels": 2, "widths": (8, 16)} | options)


@pytest.mark.parametrize(
    ("shape", "channels", "widths", "code"),
    [
        ((1, 28, 28), 4, (32, 64), (4, 7, 7)),
        ((3, 32, 32), 4, (8, 16), (4, 8, 8)),
        ((3, 64, 32), 3, (8, 16), (3, 16, 8)),
        ((1, 8, 12), 1, (8,), (1, 4, 6)),
        ((3, 16, 24), 5, (4, 6, 8), (5, 2, 3)),
    ],
)
def test_codes_are_small_images(shape, channels, widths, code):
    model, x = AutoencoderKL(shape, channels, widths), images(2, shape)
    mean, log_var = model.encode(x)
    assert model.code_shape == code and mean.shape == log_var.shape == model.codes(x).shape == (2, *code)
    assert model(x).shape == model.images(mean).shape == (2, *shape)
    assert model.decode(1e3 * mean).abs().max() <= 1


def test_a_code_knows_where():
    """What changes in a corner of the image changes the code near that corner, and none far away."""
    model = AutoencoderKL((1, 64, 64), widths=(8, 16)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.GroupNorm):  # its mean hears of the whole image
            module.forward = lambda x: x
    x = images(1, (1, 64, 64))
    changed = x.clone()
    changed[..., :4, :4] *= -1
    moved = (model.encode(changed)[0] - model.encode(x)[0]).abs().amax((0, 1))
    assert moved[0, 0] > 0 and not moved[8:].any() and not moved[:, 8:].any()


def test_blocks_begin_as_the_identity():
    x = torch.randn(2, 8, 5, 7, generator=rng())
    assert torch.equal(PlainResidualBlock(8)(x), x)


# ------------------------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("kl_weight", [0.0, 1e-3, 2.0])
def test_the_loss_against_torchs_distributions(kl_weight):
    model, x = small(), images(4)
    loss, terms = autoencoder_kl_loss(kl_weight)(model, x, None, rng(1))
    mean, log_var = model.encode(x)
    q = Normal(mean, (0.5 * log_var).exp())
    kl = kl_divergence(q, Normal(torch.zeros(()), torch.ones(()))).sum((1, 2, 3)).mean()
    z = mean + q.scale * torch.randn(mean.shape, generator=rng(1))
    error = ((model.decode(z) - x) ** 2).sum() / (4 * 3 * 8 * 12)
    assert terms["kl"].item() == pytest.approx(kl.item(), rel=1e-5)
    assert terms["error"].item() == pytest.approx(error.item(), rel=1e-5)
    assert loss.item() == pytest.approx((error + kl_weight * kl / (3 * 8 * 12)).item(), rel=1e-5)


def test_the_loss_is_the_elbo_of_a_gaussian_but_for_a_factor():
    """Two codes of one image: the losses differ as the negative ELBOs do, times 2 σ² / pixels."""
    model, x, kl_weight = small(), images(4), 0.02
    sigma, pixels = math.sqrt(kl_weight / 2), 3 * 8 * 12

    def negative_elbo(seed: int) -> float:
        mean, log_var = model.encode(x)
        q = Normal(mean, (0.5 * log_var).exp())
        z = mean + q.scale * torch.randn(mean.shape, generator=rng(seed))
        likelihood = Normal(model.decode(z), sigma).log_prob(x).sum()
        kl = kl_divergence(q, Normal(torch.zeros(()), torch.ones(()))).sum()
        return ((kl - likelihood) / len(x)).item()

    losses = [autoencoder_kl_loss(kl_weight)(model, x, None, rng(seed))[0].item() for seed in (1, 2)]
    wanted = 2 * sigma**2 / pixels * (negative_elbo(1) - negative_elbo(2))
    assert losses[0] != losses[1] and losses[0] - losses[1] == pytest.approx(wanted, abs=2e-6)


def test_it_learns_and_the_kl_costs_something():
    x = torch.linspace(-1, 1, 8).view(1, 1, 8, 1) * torch.rand(64, 1, 1, 1, generator=rng()).expand(-1, 3, 8, 12)
    told = {}
    for kl_weight in (1e-3, 1.0):
        history = fit(small(), autoencoder_kl_loss(kl_weight), x, steps=60, lr=5e-3, batch_size=16, progress=False)
        told[kl_weight] = {name: values[-1] for name, values in history.terms.items()}
    assert 2 * told[1e-3]["error"] < told[1.0]["error"] < 0.1
    assert told[1e-3]["kl"] > 10 * told[1.0]["kl"]


# ------------------------------------------------------------------------------------------------- the scale


def test_scaled_codes_have_variance_1_and_lead_back():
    model, x = small().double(), images().double()
    before = model.encode(x)[0].detach()
    scale = set_scale(model, x)
    assert scale == pytest.approx(1 / before.flatten().numpy().std(), rel=1e-6) and scale != pytest.approx(1, rel=0.1)
    assert model.codes(x).std(correction=0).item() == pytest.approx(1, rel=1e-5)
    torch.testing.assert_close(model.images(model.codes(x)), model(x), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.encode(x)[0], before)  # learned codes stay what they are


def test_the_scale_travels_with_the_weights_and_is_not_trained():
    model, other = small(), small()
    set_scale(model, images())
    other.load_state_dict(model.state_dict())
    assert other.scale == model.scale != 1
    assert all(weight is not model.scale for weight in model.parameters())


def test_codes_that_are_all_the_same_have_no_scale():
    model = small()
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
    with pytest.raises(ValueError, match="all codes are the same number; train the autoencoder first"):
        set_scale(model, images())


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (3, 30, 12)}, r"multiples of 4 \(2 halvings\), got 30×12; resize the images, or use fewer widths"),
        ({"shape": (3, 0, 12)}, r"expects an image shape \(c, h, w\)"),
        ({"widths": ()}, r"positive widths, got \(3, 8, 12\) and \(\)"),
        ({"channels": 0}, r"channels ≥ 1, got 0"),
    ],
)
def test_what_cannot_be_built(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        small(**options)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_coded():
    model = small()
    with pytest.raises(ValueError, match=r"expects images \(b, 3, 8, 12\), got \(2, 1, 8, 12\)"):
        inspect.unwrap(AutoencoderKL.encode)(model, torch.zeros(2, 1, 8, 12))
    with pytest.raises(ValueError, match=r"expects codes \(b, 2, 2, 3\), got \(2, 2, 3, 2\)"):
        inspect.unwrap(AutoencoderKL.decode)(model, torch.zeros(2, 2, 3, 2))
    with pytest.raises(ValueError, match="kl_weight ≥ 0, such as 0.001, got -1"):
        autoencoder_kl_loss(-1)
