"""What notebook 06 defines by hand is what the library computes; and what it says of masks, codes and arcs holds."""

import masters
import pytest
import torch
from test_sampling import network, normal, rng

from course_utils.data import GaussianMixture
from course_utils.diffusion import NOISE_SCHEDULES, cosine_schedule, linear_schedule
from course_utils.sampling import (
    ddim,
    ddim_invert,
    ddpm,
    dpm_solver,
    euler,
    heun,
    inpaint,
    langevin_dynamics,
    last,
    score_of,
    timesteps,
)

COSINE = cosine_schedule(1000)
STRIDES = [(1000, 999), (1000, 800), (700, 300), (41, 40), (40, 0), (2, 1), (1, 0)]


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("06")


def one_draw(stride: tuple[int, int], seed: int = 5) -> torch.Tensor:
    """The only noise that a library's sampler draws on this stride."""
    return torch.randn(2, 1, 4, 4, generator=rng(seed), dtype=torch.float64)


# ----------------------------------------------------------------------------------------------- hand-made = library's
@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("stride", STRIDES)
def test_ancestral_step(notebook, stride, kappa):
    x, (t, s) = normal(2, 1, 4, 4), stride
    x0 = network(x, torch.full((2,), t))
    theirs = last(ddpm(network, COSINE, x, [t, s], kappa=kappa, generator=rng(5)))
    mine = notebook["ancestral_step"](x, x0, t, s, one_draw(stride), COSINE, kappa)
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_algorithm_2_is_ancestral(notebook):
    x, times = normal(2, 1, 4, 4).float(), COSINE.timesteps(12)
    trail = notebook["algorithm_2"](network, COSINE, x, times, kappa=0.5, generator=rng(5))
    for (t, mine, guess), step in zip(trail, ddpm(network, COSINE, x, 12, kappa=0.5, generator=rng(5))):
        assert t == step.t
        torch.testing.assert_close(mine, step.x, rtol=1e-4, atol=1e-4)
        assert (guess is None) == (step.x0 is None)


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_the_published_samplers_mended(notebook, name):
    schedule = NOISE_SCHEDULES[name](15)
    x = normal(2, 1, 4, 4)
    draws = torch.zeros(16, 2, 1, 4, 4, dtype=torch.float64)
    chance = rng(5)
    for t in range(15, 0, -1):
        draws[t] = torch.randn(x.shape, generator=chance, dtype=torch.float64)
    for function, kappa in (("published_loop", 0.0), ("published_sampler", 1.0)):
        theirs = last(ddpm(network, schedule, x, 15, kappa=kappa, generator=rng(5)))
        torch.testing.assert_close(notebook[function](network, schedule, x, draws), theirs, rtol=1e-9, atol=1e-9)
    x0 = network(x, torch.full((2,), 7))
    one = notebook["published_step"](x, x0, 7, draws[7], schedule)
    torch.testing.assert_close(one, notebook["ancestral_step"](x, x0, 7, 6, draws[7], schedule))


def test_the_product_is_no_sampler(notebook):
    """Its mean is 0 whatever the guess, except on the last stride."""
    x, x0 = normal(2, 1, 4, 4), torch.ones(2, 1, 4, 4, dtype=torch.float64)
    step = notebook["product_step"]
    zero = torch.zeros_like(x)
    assert step(x, x0, 500, 400, zero, COSINE).abs().max() == 0
    plus, minus = (step(x, x0, 500, 400, sign * torch.ones_like(x), COSINE) for sign in (1, -1))
    torch.testing.assert_close(plus, -minus)
    torch.testing.assert_close(step(x, x0, 40, 0, x, COSINE), x0)


@pytest.mark.parametrize("T, steps", [(1000, 1), (1000, 7), (50, 50), (10, 3)])
def test_timesteps(notebook, T, steps):
    assert notebook["timesteps"](T, steps) == timesteps(cosine_schedule(T), steps)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("stride", STRIDES)
def test_ddim_step(notebook, stride, eta):
    x, (t, s) = normal(2, 1, 4, 4), stride
    x0 = network(x, torch.full((2,), t))
    theirs = last(ddim(network, COSINE, x, [t, s], eta=eta, generator=rng(5)))
    mine = notebook["ddim_step"](x, x0, t, s, one_draw(stride), COSINE, eta)
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("schedule", [COSINE, linear_schedule(1000)], ids=lambda s: s.name)
def test_heun_step(notebook, stride, schedule):
    x, (t, s) = normal(2, 1, 4, 4), stride
    theirs = last(heun(network, schedule, x, [t, s]))
    torch.testing.assert_close(notebook["heun_step"](network, x, t, s, schedule), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("times", [(1000, 700, 300), (900, 899, 20), (60, 20, 1)])
def test_multistep_step(notebook, times):
    r, t, s = times
    first, middle, end = dpm_solver(network, COSINE, normal(2, 1, 4, 4), times)
    mine = notebook["multistep_step"](middle.x, end.x0, middle.x0, r, t, s, COSINE)
    torch.testing.assert_close(mine, end.x, rtol=1e-9, atol=1e-9)


def test_uneven_heun_is_heun_but_for_its_weights(notebook):
    """For a slope that doesn't change the weights don't matter."""
    image = normal(1, 2, seed=3)
    x, times = normal(5, 2), [900, 500, 100]

    def denoise(x_t, t, y=None):
        return image.expand_as(x_t)

    mine = notebook["uneven_heun"](denoise, COSINE, x, times)
    torch.testing.assert_close(mine, last(heun(denoise, COSINE, x, times)), rtol=1e-6, atol=1e-6)
    mixture = GaussianMixture.ring(3)
    wrong = notebook["uneven_heun"](mixture.denoiser(COSINE), COSINE, x, times)
    assert (wrong - last(heun(mixture.denoiser(COSINE), COSINE, x, times))).abs().max() > 1e-3
    assert (wrong - last(euler(mixture.denoiser(COSINE), COSINE, x, times))).abs().max() > 1e-3


def test_encoding_by_hand(notebook):
    image, times = normal(2, 1, 4, 4).clamp(-1, 1), [1, 250, 500, 750, 1000]
    mine = notebook["encode_by_hand"](network, COSINE, image, times)
    torch.testing.assert_close(mine, last(ddim_invert(network, COSINE, image, 4)), rtol=1e-6, atol=1e-6)


def test_langevin_step(notebook):
    score, x = GaussianMixture.ring(3).score, normal(4, 2)
    *_, theirs = langevin_dynamics(score, x, 0.05, 1, rng(5))
    noise = torch.randn(4, 2, generator=rng(5), dtype=torch.float64)
    torch.testing.assert_close(notebook["langevin_step"](x, score, 0.05, noise), theirs)


def test_inpainting_keeps_what_is_known(notebook):
    image, known = normal(2, 1, 4, 4).clamp(-1, 1), torch.arange(4).expand(4, 4) < 2
    x, t = normal(2, 1, 4, 4, seed=2), torch.tensor([300, 300])
    mine = notebook["keep_known"](network, image, known)(x, t)
    assert torch.equal(mine, inpaint(network, image, known)(x, t))


# ---------------------------------------------------------------------------------------------- what the notebook says
def test_with_no_noise_the_score_is_where_langevin_and_denoisers_meet():
    """The notebook writes the score of a step from the guess; the library's is the same."""
    x, t = normal(2, 1, 4, 4), torch.tensor([20, 20])
    a = COSINE.alpha_bar[20].item()
    mine = (a**0.5 * network(x, t) - x) / (1 - a)
    torch.testing.assert_close(score_of(network, COSINE)(x, t), mine, rtol=1e-6, atol=1e-6)


def test_the_arc_keeps_the_length_and_the_line_does_not(notebook):
    a, b = normal(50, 1, 28, 28), normal(50, 1, 28, 28, seed=1)
    slerp, lerp = notebook["slerp"], notebook["lerp"]
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    assert abs(slerp(a, b, 0.5).std().item() - 1) < 0.01
    assert abs(lerp(a, b, 0.5).std().item() - 0.5**0.5) < 0.01


def test_roughness_is_zero_where_nothing_is_rough(notebook):
    ramp = torch.arange(8.0).expand(2, 1, 8, 8)
    assert notebook["roughness"](ramp) < 1e-6
    noise = normal(20, 3, 16, 16)
    assert notebook["roughness"](noise) == pytest.approx(1.25**0.5, rel=0.05)  # 1 + 4/16


def pairs_of_pixels() -> tuple[torch.Tensor, torch.Tensor]:
    """A world of two pixels that are always alike: white twice with probability 0.7."""
    images = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    return images, torch.tensor([0.7, 0.3])


def exact(images: torch.Tensor, weights: torch.Tensor):
    """White probabilities of every pixel given the visible ones, by counting."""

    def probability(x, t):
        seen = x.flatten(1)[:, None]  # (n, 1, pixels)
        fits = ((seen == images) | (seen == 0)).all(2) * weights  # (n, k)
        return ((fits @ (images > 0).float()) / fits.sum(1, keepdim=True)).view_as(x)

    return probability


def test_one_pixel_at_a_time_is_exact_and_all_at_once_is_not(notebook):
    """4,000 draws: alike always, and white within 4 standard errors; at once, different in 2 · 0.7 · 0.3 of all."""
    images, weights = pairs_of_pixels()
    images = images.repeat(1, 2)  # four pixels, all alike
    start, order = torch.zeros(4000, 1, 2, 2), torch.rand(4000, 4, generator=rng(1)).argsort(1)
    one, all_ = (
        notebook["unmask"](exact(images, weights), start, rounds, order, rng(2)).flatten(1) for rounds in (4, 1)
    )
    assert (one == one[:, :1]).all() and set(one.unique().tolist()) == {-1.0, 1.0}
    assert abs((one[:, 0] > 0).float().mean().item() - 0.7) < 4 * (0.21 / 4000) ** 0.5
    different = (all_[:, 0] != all_[:, 1]).float().mean().item()
    assert abs(different - 0.42) < 4 * (0.42 * 0.58 / 4000) ** 0.5


@pytest.mark.parametrize("rounds", [1, 3, 16])
def test_every_pixel_has_its_turn_once(notebook, rounds):
    seen = []

    def probability(x, t):
        seen.append((t, int((x == 0).sum(dim=(1, 2, 3)).unique())))
        return torch.full_like(x, 0.5)

    order = torch.rand(3, 256, generator=rng(1)).argsort(1).argsort(1)
    x = notebook["unmask"](probability, torch.zeros(3, 1, 16, 16), rounds, order, rng(2))
    assert len(seen) == rounds and all(t == hidden for t, hidden in seen)
    assert set(x.unique().tolist()) == {-1.0, 1.0}


def test_the_masked_loss_is_the_bound(notebook):
    """Four alike pixels, exact probabilities: on average the loss is the entropy, 0.61 nats, shared by four pixels."""
    images, weights = pairs_of_pixels()
    images = images.repeat(1, 2)
    x = images[torch.multinomial(weights, 4000, replacement=True, generator=rng(1))].view(-1, 1, 2, 2)
    known = exact(images, weights)

    def model(x_t, t):
        return known(x_t, t).logit(eps=1e-6)

    entropy = -(weights * weights.log()).sum().item()
    losses = torch.stack([notebook["masked_loss"](model, x, None, rng(k)) for k in range(10)])
    assert losses.mean().item() == pytest.approx(entropy / 4, rel=0.03)
