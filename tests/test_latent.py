"""Latent diffusion: a denoiser of codes is a denoiser, and what stands at both ends."""

import pytest
import torch

from course_utils.data import load
from course_utils.diffusion import Denoiser, cosine_schedule
from course_utils.latent import LatentDenoiser, encoded
from course_utils.models.autoencoder_kl import AutoencoderKL, set_scale
from course_utils.models.dit import DiT
from course_utils.sampling import cfg, ddim, dpm_solver, last


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL((1, 28, 28), widths=(8, 16)).eval().requires_grad_(False)


def test_a_data_set_as_codes():
    data, model = load("digits", limit=50), autoencoder()
    set_scale(model, data.x)
    codes, labels = encoded(model, data)
    assert codes.shape == (50, 4, 7, 7) and torch.equal(labels, data.labels)
    assert codes.std(correction=0).item() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(codes[7:9], model.scale * model.encode(data.x[7:9])[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.images(codes), model(data.x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", [ddim, dpm_solver])
def test_samplers_and_guidance_work_on_codes_as_on_images(sampler):
    """With the exact denoiser of one code per class, any sampler ends with that code, and so with its image."""
    data, model = load("digits", limit=50), autoencoder()
    set_scale(model, data.x)
    targets = model.codes(data.x[:3])

    class Exact(torch.nn.Module):
        shape, num_classes, null = model.code_shape, 2, 2

        def forward(self, z_t, t, y):
            return targets[y]

    denoiser = LatentDenoiser(Exact(), cosine_schedule(20), model, "x0")
    y, noise = torch.tensor([1, 0, 0]), torch.randn(3, *denoiser.shape, generator=torch.Generator().manual_seed(1))
    codes = last(sampler(cfg(denoiser, 1.0, null=2), denoiser.schedule, noise, 5, y))
    torch.testing.assert_close(denoiser.decode(codes), model(data.x[y]), rtol=1e-3, atol=1e-4)


def test_it_is_a_denoiser():
    model = DiT((4, 7, 7), width=16, depth=1, heads=2, patch=1)
    torch.nn.init.normal_(model.head.weight)
    schedule = cosine_schedule(100)
    z_t, t = torch.randn(2, 4, 7, 7), torch.tensor([3, 70])
    ours = LatentDenoiser(model, schedule, autoencoder(), "noise")
    assert torch.equal(ours(z_t, t), Denoiser(model, schedule, "noise")(z_t, t))
    assert ours.shape == (4, 7, 7) and ours.image_shape == (1, 28, 28)
