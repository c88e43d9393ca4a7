"""What notebook 11 defines by hand is what the library computes, and what it says of codes and transformers is so."""

import itertools
import math
from statistics import fmean

import masters
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course_utils import recipes
from course_utils.data import load
from course_utils.device import seeded
from course_utils.diffusion import Denoiser, cosine_schedule, diffusion_loss
from course_utils.latent import LatentDenoiser
from course_utils.measured import shipped_table
from course_utils.models import dit
from course_utils.models.autoencoder_kl import AutoencoderKL, autoencoder_kl_loss, set_scale
from course_utils.models.vae import gaussian_nll, kl_to_standard_normal
from course_utils.pitfalls import latent as pitfalls
from course_utils.pitfalls import patches
from course_utils.sampling import ddim, last
from course_utils.training import fit

SHAPE, WIDTHS = (3, 8, 12), (8, 16)


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("11")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken(model: nn.Module) -> nn.Module:
    """Without the zeros that a block starts with."""
    torch.manual_seed(1)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model.double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def coder(notebook):
    return shaken(notebook["SpatialAutoencoder"](SHAPE, 4, WIDTHS))


def perfect(target: torch.Tensor):
    """The denoiser of a single code."""
    return lambda z_t, t, y=None: target.expand_as(z_t)


# --------------------------------------------------------------------------------------------- 11.2 · the autoencoder
def test_the_autoencoder_is_the_librarys(notebook, coder):
    theirs = AutoencoderKL(SHAPE, 4, WIDTHS).double()
    theirs.encoder.load_state_dict(coder.encoder.state_dict())  # the layers stand in the same order
    theirs.decoder.load_state_dict(coder.decoder.state_dict())
    x, z = normal(5, *SHAPE).tanh(), normal(2, 4, 2, 3)
    for mine, wanted in zip(coder.encode(x), theirs.encode(x), strict=True):
        torch.testing.assert_close(mine, wanted)
    torch.testing.assert_close(coder.decode(z), theirs.decode(z))


def test_196_numbers_for_784_pixels(notebook):
    mean, log_var = notebook["SpatialAutoencoder"]((1, 28, 28)).encode(torch.zeros(2, 1, 28, 28))
    assert mean.shape == log_var.shape == (2, 4, 7, 7) and mean[0].numel() == 196


@pytest.mark.equation("11.1")
@pytest.mark.parametrize("w", [1e-3, 0.5])
def test_the_loss_is_a_negative_elbo_but_for_a_factor_and_a_constant(notebook, coder, w):
    """2σ²/D · (reconstruction + KL) of a Gaussian decoder with σ² = w/2, less what doesn't depend on the network."""
    x, noise = normal(5, *SHAPE).tanh(), normal(5, 4, 2, 3, seed=1)
    mean, log_var = coder.encode(x)
    variance, pixels = torch.tensor(w / 2, dtype=torch.float64), x[0].numel()
    image = coder.decode(mean + (log_var / 2).exp() * noise)
    reconstruction = gaussian_nll(x, image, variance.sqrt().log())
    constant = 0.5 * pixels * (2 * torch.pi * variance).log()
    elbo = reconstruction - constant + kl_to_standard_normal(mean.flatten(1), log_var.flatten(1))
    found = notebook["autoencoder_loss"](coder, x, noise, w)
    torch.testing.assert_close(found, (2 * variance / pixels * elbo).mean())


def test_the_loss_is_the_librarys(notebook):
    model, x = shaken(AutoencoderKL(SHAPE, 4, WIDTHS)), normal(5, *SHAPE).tanh()
    wanted, _ = autoencoder_kl_loss(0.2)(model, x, None, torch.Generator().manual_seed(7))
    noise = normal(5, 4, 2, 3, seed=7)
    torch.testing.assert_close(notebook["autoencoder_loss"](model, x, noise, 0.2), wanted)


def test_with_a_large_weight_silent_codes_cost_least(notebook):
    """Of a linear model of one number per pixel the best σ of q is known, and so is when the code falls silent."""
    variance_of_data, costs = 0.25, {}
    for w in (1e-3, 1.0):
        gain = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]  # how much of x is decoded
        log_var = torch.linspace(-12, 0, 241, dtype=torch.float64)
        # code z = x/s + σ ε with s² = the data's variance, decoded as gain · s · z
        error = variance_of_data * ((1 - gain).square() + gain.square() * log_var.exp())
        kl = 0.5 * (1 + log_var.exp() - 1 - log_var)
        coded = (error + w * kl).min().item()
        costs[w] = coded < variance_of_data  # silent: everything decoded as the mean, no KL
    assert costs == {1e-3: True, 1.0: False}


# ----------------------------------------------------------------------------------------- 11.3 · diffusion in the code
@pytest.mark.equation("11.2")
def test_scaled_codes_have_variance_1_about_their_common_mean(notebook):
    data, model = load("digits", limit=60), AutoencoderKL((1, 28, 28), widths=(8, 16)).eval()
    codes, s = notebook["scaled_codes"](model, data.x, 25)
    with torch.no_grad():
        means = model.encode(data.x)[0].double()
    brute = (sum((each - means.mean()) ** 2 for each in means.flatten()) / means.numel()) ** -0.5
    assert s == pytest.approx(brute.item(), rel=1e-4) and s == pytest.approx(set_scale(model, data.x), rel=1e-4)
    torch.testing.assert_close(codes.double(), brute * means, rtol=1e-3, atol=1e-4)
    assert codes.var(correction=0).item() == pytest.approx(1, rel=1e-3)


def test_another_unit_changes_codes_and_no_image(coder):
    x, wide = normal(4, *SHAPE).tanh(), pitfalls.InAnotherUnit(coder, 5.5)
    torch.testing.assert_close(wide.decode(wide.encode(x)[0]), coder.decode(coder.encode(x)[0]))
    torch.testing.assert_close(wide.encode(x)[0], 5.5 * coder.encode(x)[0])
    draws = [m + (v / 2).exp() for m, v in (wide.encode(x), coder.encode(x))]
    torch.testing.assert_close(draws[0], 5.5 * draws[1])


def test_the_signal_to_noise_of_wide_codes_is_the_square_of_the_factor():
    schedule, t = cosine_schedule(1000), torch.full((20_000,), 500)
    code, noise = normal(20_000, 1), normal(20_000, 1, seed=1)
    a, b = schedule.rates(t, code)
    ratio = (a * 5.5 * code).var() / (b * noise).var()
    assert (ratio / schedule.snr[500]).item() == pytest.approx(5.5**2, rel=0.03)


def test_codes_are_drawn_as_the_librarys_latent_denoiser_draws(notebook):
    model, schedule = AutoencoderKL((1, 8, 12), widths=WIDTHS).eval().requires_grad_(False), cosine_schedule(50)
    model.scale.fill_(0.3)

    class Network(nn.Module):
        shape = model.code_shape

        def forward(self, z_t, t, y=None):
            return torch.tanh(z_t) + y.view(-1, 1, 1, 1) / 9

    theirs = LatentDenoiser(Network(), schedule, model, "v")
    noise, y = normal(3, *model.code_shape).float(), torch.tensor([0, 4, 2])
    wanted = theirs.decode(last(ddim(theirs, schedule, noise, 6, y)))
    denoise = Denoiser(Network(), schedule, "v")
    found = notebook["latent_images"](denoise, schedule, model, 0.3, noise, y, 6)
    torch.testing.assert_close(found, wanted)
    ended = notebook["somebody_elses_drawing"](denoise, schedule, model, 0.3, noise, y, 6)
    torch.testing.assert_close(ended, wanted)


def test_a_third_of_standard_normal_numbers_lies_outside_what_a_clip_would_keep():
    assert (normal(100_000).abs() > 1).double().mean().item() == pytest.approx(0.317, abs=0.01)


def test_variations_show_the_denoiser_codes_of_the_size_it_knows(notebook, coder):
    """What it meets first has variance 1 and the signal that t stands for; handed out, some 30 times it."""
    schedule, x, t = cosine_schedule(50), normal(400, *SHAPE).tanh(), 25
    means = coder.encode(x)[0]
    wide = pitfalls.InAnotherUnit(coder, 1 / 0.18215 / means.std().item())
    met, a, b = [], *schedule.rates(torch.tensor([t]), x[:1])

    def denoise(z_t, t, y=None):
        met.append(z_t)
        return z_t

    given = (schedule, wide, 0.18215, x, normal(400, 4, 2, 3, seed=3), torch.zeros(400, dtype=torch.long), t, 2)
    for how, signal in ((notebook["somebody_elses_variations"], 1), (pitfalls.variations, 1 / 0.18215**2)):
        met.clear()
        how(denoise, *given)
        assert met[0].var().item() == pytest.approx((a**2 * signal + b**2).item(), rel=0.03)


def test_right_variations_of_a_code_that_the_denoiser_knows_give_it_back(notebook, coder):
    schedule, x, wide = cosine_schedule(50), normal(1, *SHAPE).tanh(), pitfalls.InAnotherUnit(coder, 5.5)
    known = 0.3 * wide.encode(x)[0]
    given = (schedule, wide, 0.3, x, normal(1, 4, 2, 3, seed=3), torch.tensor([0]), 25, 5)
    found = notebook["somebody_elses_variations"](perfect(known), *given)
    torch.testing.assert_close(found, coder.decode(coder.encode(x)[0]))


def test_a_blend_of_guesses_is_nearer_to_the_mean_of_all_codes(coder, notebook):
    """Two codes, the exact denoiser: every walk ends at one of them, and blends lie between."""
    schedule, two = cosine_schedule(200), 0.3 * normal(2, 4, 2, 3, seed=5)  # near each other: decided late

    def denoise(z_t, t, y=None):
        a, b = schedule.rates(t, z_t)
        off = -((z_t[:, None] - a[:, None] * two).square() / (2 * b[:, None].square())).flatten(2).sum(-1)
        return torch.einsum("bk,kcij->bcij", off.softmax(1), two)

    given = (denoise, schedule, coder, 1.0, normal(40, 4, 2, 3, seed=6), torch.zeros(40, dtype=torch.long), 20)
    images = coder.decode(two)
    off = {}
    for who, how in (("right", notebook["somebody_elses_drawing"]), ("blended", pitfalls.drawing)):
        off[who] = (how(*given)[:, None] - images).square().flatten(2).mean(-1).amin(1).mean().item()
    apart = (images[0] - images[1]).square().mean().item()
    assert off["right"] < 1e-6 * apart and off["blended"] > 0.02 * apart


# ------------------------------------------------------------------------------------------------ 11.4 · what a code is
def test_the_map_is_where_a_number_reaches(notebook):
    """Of a decoder without norms, one number reaches as far as its convolution does."""
    kernel = normal(3, 1, 4, 4, seed=2)

    def decode(z):
        return nn.functional.conv_transpose2d(z, kernel, stride=2, padding=1)

    found = notebook["change_map"](decode, normal(5, 3, 4, 6), 1, 2, 3, -0.5)
    wanted = torch.zeros(8, 12, dtype=torch.float64)
    wanted[3:7, 5:9] = 0.5 * kernel[1, 0].abs()
    torch.testing.assert_close(found, wanted)


def stirred(module: nn.Module) -> nn.Module:
    """In float64, and no weight is 0 any more."""
    with torch.no_grad():
        for index, weight in enumerate(module.double().parameters()):
            weight.add_(0.2 * normal(*weight.shape, seed=index))
    return module


def of_both(notebook, name: str, *given):
    """The notebook's own and the library's, with the same weights."""
    ours, its = notebook[name](*given), getattr(dit, name)(*given)
    mine, others = list(ours.parameters()), list(its.parameters())
    assert [weight.shape for weight in mine] == [weight.shape for weight in others]
    stirred(ours), its.double()
    for one, other in zip(mine, others):
        other.data = one.data
    return ours, its


def gaussian_denoiser(schedule, correlation: float = 0.9):
    """Exact for codes (b, 1, 1, 2) of two standard normal numbers that hang together."""
    covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)

    def denoise(z_t, t, y=None):
        a, b = (rate.flatten()[0] for rate in schedule.rates(t, z_t))
        gain = a * covariance @ torch.linalg.inv(a**2 * covariance + b**2 * torch.eye(2, dtype=torch.float64))
        return z_t @ gain.T

    return denoise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_kept_comes_back_to_the_last_digit(notebook, dtype):
    schedule, y = cosine_schedule(50), torch.tensor([0, 3, 1])
    known, noise = (normal(3, 4, 2, 5, seed=seed).to(dtype) for seed in (1, 2))
    kept = normal(2, 5, seed=3) > 0
    given = (lambda z_t, t, y: torch.tanh(z_t.roll(1, -1)) + y.view(-1, 1, 1, 1) / 9, schedule, known)
    found = notebook["fill_in"](*given, kept, noise, y, 7)
    assert found[..., kept].equal(known[..., kept]) and not torch.isclose(found, known)[..., ~kept].any()
    assert notebook["fill_in"](*given, torch.ones_like(kept), noise, y, 7).equal(known)
    plain = last(ddim(given[0], schedule, noise, 7, y))
    torch.testing.assert_close(notebook["fill_in"](*given, torch.zeros_like(kept), noise, y, 7), plain)


def test_what_is_filled_in_follows_what_is_kept(notebook):
    """Of two numbers with correlation 0.9 one is kept: the other follows it, which it doesn't if pasted over."""
    schedule, n = cosine_schedule(200), 4000
    denoise, y = gaussian_denoiser(schedule), torch.zeros(n, dtype=torch.long)
    known, noise = normal(n, 1, 1, 2, seed=4), normal(n, 1, 1, 2, seed=5)
    drawn = notebook["fill_in"](denoise, schedule, known, torch.tensor([[True, False]]), noise, y, 50)
    pasted = last(ddim(denoise, schedule, noise, 50, y))
    together = [torch.corrcoef(torch.stack([known[:, 0, 0, 0], each[:, 0, 0, 1]]))[0, 1] for each in (drawn, pasted)]
    assert together[0] > 0.5 and abs(together[1]) < 0.1


def test_noise_that_stays_the_same_is_what_ddim_finds_in_the_known_part(notebook):
    """The kept part walks DDIM's own path to `known`: at each stop the denoiser is shown add_noise(known, t, noise)."""
    schedule, shown = cosine_schedule(50), []
    known, noise, y = normal(2, 3, 4, 2, seed=6), normal(2, 3, 4, 2, seed=7), torch.tensor([1, 2])
    kept = torch.arange(4)[:, None].expand(4, 2) < 2

    def denoise(z_t, t, y):
        shown.append(z_t)
        return torch.where(kept, known, 0.5 * z_t)

    found = notebook["fill_in"](denoise, schedule, known, kept, noise, y, 6)
    stops = schedule.timesteps(6)
    path = list(ddim(denoise, schedule, shown[0].clone(), 6, y))
    for z, stop, step in zip((*shown[:6], found), stops, path, strict=True):
        wanted = schedule.add_noise(known, torch.full((2,), stop), noise)
        torch.testing.assert_close(z[..., kept], wanted[..., kept])
        torch.testing.assert_close(step.x, z)


# ------------------------------------------------------------------------------------------ 11.5 · images as sentences
@pytest.mark.equation("11.3")
@pytest.mark.parametrize(("shape", "patch"), [((1, 8, 12), 4), ((3, 4, 6), 2), ((2, 6, 3), 3)])
def test_every_pixel_stands_where_the_equation_says(notebook, shape, patch):
    (c, h, w), x = shape, normal(2, *shape)
    for function in (notebook["patchify"], dit.patchify):
        z = function(x, patch)
        assert z.shape == (2, h * w // patch**2, c * patch**2)
        for i, j, k, a, b in itertools.product(*map(range, (h // patch, w // patch, c, patch, patch))):
            number = z[:, i * w // patch + j, k * patch**2 + a * patch + b]
            assert torch.equal(number, x[:, k, patch * i + a, patch * j + b])


def test_the_colleague_is_right_where_height_is_width_and_keeps_all_pixels_elsewhere(notebook):
    """So neither shapes nor sums nor histograms tell."""
    square, narrow = normal(2, 3, 8, 8), normal(2, 3, 8, 12)
    there_and_back = lambda f, x: f(notebook["patchify"](x, 4), x.shape[1:], 4)  # noqa: E731
    assert torch.equal(there_and_back(patches.unpatchify, square), square)
    broken = there_and_back(patches.unpatchify, narrow)
    assert broken.shape == narrow.shape and not torch.equal(broken, narrow)
    assert torch.equal(broken.flatten(2).sort().values, narrow.flatten(2).sort().values)
    for function in (notebook["unpatchify"], dit.unpatchify):
        assert torch.equal(there_and_back(function, narrow), narrow)


@pytest.mark.slow
def test_a_network_with_his_patches_learns_more_slowly_and_yet_learns(monkeypatch):
    """So its samples are whole but coarse, neither scrambled nor noise, and nobody is warned by the loss."""
    data, schedule = load("digits", "train"), recipes.ddpm_schedule()
    narrow = (data.first(len(data.labels)).x[..., 4:-4].contiguous(), data.labels)
    reached = {}
    for who in ("right", "his"):
        if who == "his":
            monkeypatch.setattr(dit, "unpatchify", patches.unpatchify)
        with seeded(0):
            network = dit.DiT((1, 28, 20), width=64, depth=2, num_classes=10)
        loss = diffusion_loss(schedule, "v", null=10)
        reached[who] = fit(network, loss, narrow, recipes.dit_recipe(240), progress=False, say=None).loss
    begin, right, his = (fmean(part) for part in (reached["his"][:3], reached["right"][-60:], reached["his"][-60:]))
    assert right < 0.95 * his < 0.95 * 0.9 * begin


@pytest.mark.equation("11.4")
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_pytorchs(notebook, heads):
    z = normal(3, 7, 8)
    for layer in of_both(notebook, "SelfAttention", 8, heads):
        theirs = nn.MultiheadAttention(8, heads, batch_first=True).double()
        for into, weight in zip(theirs.parameters(), layer.parameters(), strict=True):
            into.data = weight.data
        torch.testing.assert_close(layer(z), theirs(z, z, z)[0])


def test_shuffled_tokens_give_shuffled_answers_until_they_know_their_places(notebook):
    layer, places, z = (
        stirred(notebook["SelfAttention"](16, 4)),
        notebook["sincos_positions"](3, 5, 16),
        normal(2, 15, 16),
    )
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(z[:, order]), layer(z)[:, order])
    gap = layer(z[:, order] + places) - layer(z + places)[:, order]
    assert gap.abs().max() > 0.1


@pytest.mark.equation("11.5")
@pytest.mark.parametrize(("h", "w"), [(3, 5), (5, 2), (1, 4)])
def test_positions_are_waves_of_row_and_column(notebook, h, w):
    for function in (notebook["sincos_positions"], dit.sincos_positions):
        found = function(h, w, 8)
        for i, j in itertools.product(range(h), range(w)):
            waves = [[f(place * s) for f in (math.sin, math.cos) for s in (1, 1 / 100)] for place in (i, j)]
            torch.testing.assert_close(found[i * w + j], torch.tensor(waves[0] + waves[1]))


def test_near_places_look_more_alike_than_far_ones(notebook):
    places = notebook["sincos_positions"](5, 7, 32)
    alike = (places @ places[2 * 7 + 3]).view(5, 7)
    assert alike.argmax() == 2 * 7 + 3
    assert alike[2, 2] > alike[2, 1] > alike[2, 0] and alike[3, 3] > alike[4, 3]


# ----------------------------------------------------------------------------------------------------- 11.6 · a block
@pytest.mark.equation("11.6")
def test_modulation_number_by_number(notebook):
    z, shift, scale = normal(2, 3, 4), normal(2, 4, seed=1), normal(2, 4, seed=2)
    for function in (notebook["modulate"], dit.modulate):
        found = function(z, shift, scale)
        for i, n, k in itertools.product(range(2), range(3), range(4)):
            torch.testing.assert_close(found[i, n, k], (1 + scale[i, k]) * z[i, n, k] + shift[i, k])


@pytest.mark.equation("11.7")
def test_a_block_written_out(notebook):
    z, e = normal(2, 5, 8), normal(2, 8, seed=1)
    for block in of_both(notebook, "DiTBlock", 8, 2):
        *_, wide, bias1, narrow, bias2, steer, bias3 = block.parameters()  # behind those of the attention
        s1, c1, g1, s2, c2, g2 = (e @ steer.T + bias3).view(2, 6, 1, 8).unbind(1)
        norm = lambda z: (z - z.mean(-1, keepdim=True)) / (z.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()  # noqa: E731
        after = z + g1 * block.attention((1 + c1) * norm(z) + s1)
        hidden = F.gelu(((1 + c2) * norm(after) + s2) @ wide.T + bias1, approximate="tanh")
        torch.testing.assert_close(block(z, e), after + g2 * (hidden @ narrow.T + bias2))


def test_a_new_block_adds_nothing_and_only_its_gates_feel_it(notebook):
    block, z, e = notebook["DiTBlock"](16, 4), normal(2, 5, 16).float(), normal(2, 16, seed=1).float()
    assert torch.equal(block(z, e), z)
    optimizer, reached = torch.optim.SGD(block.parameters(), 0.1), []
    for _ in range(2):
        optimizer.zero_grad()
        (block(z, e) - 1).square().mean().backward()
        reached.append({name for name, weight in block.named_parameters() if weight.grad.any()})
        of_steer = block.steer.weight.grad.view(6, 16, 16).abs().amax((1, 2)) > 0
        if len(reached) == 1:
            assert of_steer.tolist() == [False, False, True] * 2  # the gates
        optimizer.step()
    assert reached == [{"steer.weight", "steer.bias"}, {name for name, _ in block.named_parameters()}]


@pytest.mark.equation("11.8")
@pytest.mark.parametrize(("n", "width", "heads"), [(49, 128, 4), (5, 8, 2), (300, 16, 1)])
def test_the_cost_is_what_pytorch_counts(notebook, n, width, heads):
    for block in (notebook["DiTBlock"](width, heads), dit.DiTBlock(width, heads)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            block(torch.zeros(3, n, width), torch.zeros(3, width))
        counted = counter.get_total_flops() // 2 // 3
        assert notebook["block_multiplications"](n, width) == dit.block_multiply_adds(n, width) == counted


def test_what_the_text_says_of_costs(notebook):
    cost = notebook["block_multiplications"]
    assert cost(196, 128) / cost(49, 128) == pytest.approx(4.7, abs=0.05)
    assert 12 * (6 * 128) * 128**2 == 2 * (6 * 128) ** 2 * 128  # at n = 6 d both large terms are equal
    share = {n: 2 * n**2 * 1152 / cost(n, 1152) for n in (256**2, 32**2)}
    assert share[256**2] > 0.85 and share[32**2] < 0.15


# ------------------------------------------------------------------------------------------------ 11.7 · the network
@pytest.mark.parametrize(("shape", "patch"), [((1, 8, 12), 4), ((4, 6, 3), 1)])
def test_the_network_is_the_librarys(notebook, shape, patch):
    ours, its = (network.float() for network in of_both(notebook, "DiT", shape, 16, 2, 2, patch, 3))
    x, t = normal(2, *shape).float(), torch.tensor([1, 700])
    for y in (None, torch.tensor([0, 3])):
        torch.testing.assert_close(ours(x, t, y), its(x, t, y), rtol=1e-4, atol=1e-4)


def test_an_untrained_network_answers_0_and_all_of_it_learns_in_the_end(notebook):
    network, x = notebook["DiT"]((1, 8, 12), 16, 2, 2, 4, 3), normal(4, 1, 8, 12).float()
    t, y = torch.tensor([1, 9, 70, 900]), torch.arange(4)
    assert not network(x, t).any()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    counts = []
    for _ in range(4):
        optimizer.zero_grad()
        (network(x, t, y) - x).square().mean().backward()
        counts.append(sum(bool(weight.grad.any()) for weight in network.parameters()))
        optimizer.step()
    assert counts[0] == 2 < counts[1] < counts[-1] == len(list(network.parameters()))


def test_how_far_a_box_looks(notebook):
    """A mean of 3 × 3 pixels looks at distances 0, 1 (four times) and √2 (four times)."""
    box = lambda x, t: F.avg_pool2d(x, 3, stride=1, padding=1)  # noqa: E731
    assert notebook["how_far"](box, normal(2, 1, 7, 9), None) == pytest.approx((4 + 4 * 2**0.5) / 9)
    away = torch.hypot((torch.arange(6.0) - 3)[:, None], torch.arange(9.0) - 4).mean().item()
    assert notebook["how_far"](lambda x, t: 0 * x + x.sum(), normal(1, 2, 6, 9), None) == pytest.approx(away)


# ------------------------------------------------------------------------------------------------------ the long races
def measured(images: str, model: str, seconds: int, what: str = "distance") -> torch.Tensor:
    return torch.tensor(shipped_table("latent")["models"][f"{images}, {model}, {seconds}"][what]).double()


def test_what_the_text_says_of_transformer_and_unet():
    short, long = ({who: measured("fashion-mnist 28", who, s) for who in ("U-Net", "transformer")} for s in (60, 600))
    assert all(len(values) == 3 for values in short.values()) and all(len(values) == 1 for values in long.values())
    assert all(short[who].mean() > 4 * long[who].mean() for who in short)
    assert all(1.8 < each["transformer"].mean() / each["U-Net"].mean() < 2.5 for each in (short, long))
    steps = [measured("fashion-mnist 28", who, 60, "steps").mean() for who in ("transformer", "U-Net")]
    assert 0.4 < steps[0] / steps[1] < 0.6


def test_what_the_text_says_of_codes_and_pixels():
    pixels, codes = (measured("fashion-mnist 28", who, 60) for who in ("U-Net", "U-Net on codes"))
    assert len(pixels) == len(codes) == 3 and codes.max() < pixels.min()
    assert measured("fashion-mnist 28", "U-Net on codes", 60, "floor").max() < 0.15 * codes.min()
    pixels, codes = (measured("shapes 32", who, 60) for who in ("U-Net", "U-Net on codes"))
    assert abs(pixels.mean() - codes.mean()) < pixels.std()  # not told apart
    assert measured("shapes 32", "U-Net on codes", 60, "floor").mean() > 0.3 * codes.mean()
    for images, seconds, least, most in (
        ("fashion-mnist 28", 60, 1.8, 2.5),
        ("shapes 32", 60, 4, 6),
        ("shapes 64", 300, 5, 8),
    ):
        slow, fast = (measured(images, who, seconds, "drawing").mean() for who in ("U-Net", "U-Net on codes"))
        assert least < slow / fast < most
    assert 1 < measured("shapes 64", "U-Net", 300).mean() / measured("shapes 64", "U-Net on codes", 300).mean() < 1.3
