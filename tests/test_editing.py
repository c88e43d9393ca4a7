"""Encoding an image, drawing it anew, and filling in a part of it."""

import pytest
import torch
from test_sampling import REJECT, UNEVEN, bare_copy, network, normal, p_values, rng

from course_utils.diffusion import Denoiser, cosine_schedule
from course_utils.models.unet import UNet
from course_utils.sampling import ddim, ddim_invert, ddpm, dpm_solver, editing, heun, inpaint, last, sdedit

SCHEDULE = cosine_schedule(1000)


def way_back(steps: int) -> float:
    """Mean distance between points of the mixture and what their codes lead to."""
    x, denoise = UNEVEN.sample(500, rng(1)).double(), UNEVEN.denoiser(SCHEDULE)
    code = last(ddim_invert(denoise, SCHEDULE, x, steps))
    return (last(ddim(denoise, SCHEDULE, code, steps)) - x).norm(dim=1).mean().item()


@pytest.mark.equation("6.6")
def test_there_and_back_misses_less_with_more_strides():
    misses = [way_back(steps) for steps in (25, 100, 1000)]
    assert misses[0] > 2 * misses[1] > 4 * misses[2] and misses[2] < 0.02


@pytest.mark.equation("6.6")
def test_codes_of_the_data_are_standard_normal():
    x, normal_2d = UNEVEN.sample(10_000, rng(1)), UNEVEN.diffused(0.0)
    code = last(ddim_invert(UNEVEN.denoiser(SCHEDULE), SCHEDULE, x, 500))
    assert min(p_values(code, normal_2d)) > REJECT / 4


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_encoding_climbs(steps):
    times = [step.t for step in ddim_invert(lambda x, t, y: x, SCHEDULE, torch.zeros(1, 1, 2, 2), steps)]
    assert times == sorted(set(times)) and times[0] == 1 and times[-1] == 1000


@pytest.mark.parametrize("strength, top", [(1.0, 1000), (0.5, 500), (0.123, 123), (1e-9, 1)])
def test_an_image_is_taken_up_to_its_level(strength, top):
    """Mean √ᾱ · image, variance 1 − ᾱ; the timesteps go on from there as those from T do."""
    image = normal(1, 1, 3, 5).clamp(-1, 1).expand(20_000, 1, 3, 5)
    x, times = sdedit(SCHEDULE, image, strength, 8, rng(1))
    a = SCHEDULE.alpha_bar[top].item()
    assert times[0] == top and times[1:] == [t for t in SCHEDULE.timesteps(8) if t < top]
    torch.testing.assert_close(x.mean(0), a**0.5 * image[0], rtol=0, atol=5 * ((1 - a) / 20_000) ** 0.5)
    torch.testing.assert_close(x.var(0), torch.full_like(x[0], 1 - a), rtol=0.06, atol=0)
    assert [step.t for step in ddim(network, SCHEDULE, x[:2], times)] == times


def test_a_point_drawn_anew_is_still_a_point_of_the_data():
    x = UNEVEN.sample(10_000, rng(1)).clamp(-1, 1)
    start, times = sdedit(SCHEDULE, UNEVEN.sample(10_000, rng(1)).div(3), 1.0, 400, rng(2))
    assert times[0] == 1000 and len(start) == len(x)
    assert min(p_values(last(ddim(UNEVEN.denoiser(SCHEDULE), SCHEDULE, start, times)), UNEVEN)) > REJECT / 4


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.1, float("nan")])
def test_wrong_strengths(strength):
    with pytest.raises(ValueError, match="strength: expected a number above 0, at most 1, got"):
        sdedit(SCHEDULE, torch.zeros(1, 1, 2, 2), strength)


@pytest.mark.parametrize(
    "image, message",
    [
        (torch.full((1, 1, 2, 2), 255.0), r"image: expected pixels in \[-1, 1\], got 255 to 255; divide bytes by"),
        (torch.full((1, 1, 2, 2), 1.5), r"image: expected pixels in \[-1, 1\], got 1.5 to 1.5\."),
        (torch.tensor([[[[0.0, float("nan")]]]]), r"image: expected pixels in \[-1, 1\], got nan to nan"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), r"image: expected floats in \[-1, 1\], got torch.uint8; divide"),
    ],
    ids=["bytes as floats", "too bright", "nan", "bytes"],
)
def test_wrong_images(image, message):
    bare = bare_copy(editing)
    for edit in (
        lambda: bare.sdedit(SCHEDULE, image, 0.5),
        lambda: bare.inpaint(network, image, torch.ones(1, 2).bool()),
        lambda: bare.ddim_invert(network, SCHEDULE, image),
    ):
        with pytest.raises(ValueError, match=message):
            edit()


def test_points_lie_anywhere_but_not_nowhere():
    point = torch.tensor([[3.0, -2.0]])
    assert sdedit(SCHEDULE, point, 0.5)[0].shape == (1, 2)
    assert next(ddim_invert(UNEVEN.denoiser(SCHEDULE), SCHEDULE, point)).x is point
    with pytest.raises(ValueError, match="got nan to nan"):
        sdedit(SCHEDULE, point * float("nan"), 0.5)


def test_an_image_of_another_size_is_refused_by_the_model():
    model = Denoiser(UNet((1, 8, 8), (16,)), SCHEDULE)
    for shape in ((1, 1, 8, 4), (1, 3, 8, 8)):
        with pytest.raises(ValueError, match=r"UNet expects images \(b, 1, 8, 8\), got "):
            last(ddim(model, SCHEDULE, *sdedit(SCHEDULE, torch.zeros(shape), 0.5, 4)))


@pytest.mark.parametrize("steps", [0, 1001])
def test_wrong_numbers_of_strides(steps):
    for edit in (lambda: sdedit(SCHEDULE, IMAGE, 0.5, steps), lambda: ddim_invert(network, SCHEDULE, IMAGE, steps)):
        with pytest.raises(ValueError, match=r"steps: expected a whole number in 1..1000"):
            edit()


# ------------------------------------------------------------------------------------------------------- inpainting

IMAGE, KNOWN = normal(2, 1, 4, 6).clamp(-1, 1), torch.arange(6).expand(4, 6) < 3


@pytest.mark.parametrize("sampler", [ddim, heun, dpm_solver, ddpm])
def test_known_pixels_end_as_they_were_and_others_dont(sampler):
    end = last(sampler(inpaint(network, IMAGE, KNOWN), SCHEDULE, normal(2, 1, 4, 6, seed=3), 10))
    torch.testing.assert_close(end[..., :3], IMAGE[..., :3], rtol=1e-9, atol=1e-9)
    assert (end[..., 3:] - IMAGE[..., 3:]).abs().min() > 1e-4


@pytest.mark.equation("6.12")
def test_on_the_way_the_known_pixels_are_the_image_noised():
    """The replacement method: with DDIM always the noise that the walk began with."""
    start = normal(2, 1, 4, 6, seed=3)
    a = SCHEDULE.alpha_bar
    noise = (start - a[-1] ** 0.5 * IMAGE) / (1 - a[-1]) ** 0.5
    for t, x, _ in ddim(inpaint(network, IMAGE, KNOWN), SCHEDULE, start, 10):
        expected = a[t] ** 0.5 * IMAGE + (1 - a[t]) ** 0.5 * noise
        torch.testing.assert_close(x[..., :3], expected[..., :3], rtol=1e-7, atol=1e-7)


def test_the_unknown_half_is_filled_in_to_fit():
    """One coordinate of a point is known; the other one comes from the blob at (−1.2, 0.4) that it belongs to, nearly:
    replacing is an approximation, since the guess for the unknown part sees the known one only through its noise."""
    image = torch.tensor([[-1.0]]).expand(2000, 1).unsqueeze(1)  # (n, 1, 1): x known to be −1
    point = torch.cat([image, torch.zeros_like(image)], 2)[:, None]  # (n, 1, 1, 2)
    known = torch.tensor([[True, False]])
    denoise = inpaint(UNEVEN.denoiser(SCHEDULE), point, known)
    end = last(ddim(denoise, SCHEDULE, torch.randn(2000, 1, 1, 2, generator=rng(1)), 200, eta=1.0, generator=rng(2)))
    free = last(ddim(UNEVEN.denoiser(SCHEDULE), SCHEDULE, torch.randn(2000, 2, generator=rng(1)), 200))
    in_blob = ((end[..., 1] - 0.4).abs() < 0.6).float().mean()  # two of its standard deviations: 0.95 if it were exact
    assert in_blob > 0.8 > 0.7 > ((free[:, 1] - 0.4).abs() < 0.6).float().mean()


@pytest.mark.parametrize("known", [torch.ones(4, 5).bool(), torch.ones(3, 1, 4, 6).bool(), torch.ones(4, 6).int()])
def test_wrong_masks(known):
    with pytest.raises(ValueError, match=r"known: expected True and False, \(4, 6\) or a shape that broadcasts"):
        inpaint(network, IMAGE, known)


def test_images_of_another_size():
    with pytest.raises(ValueError, match=r"inpaint: expected images like \(2, 1, 4, 6\), got \(2, 1, 5, 5\)"):
        inpaint(network, IMAGE, KNOWN)(normal(2, 1, 5, 5), torch.tensor([1, 1]))
