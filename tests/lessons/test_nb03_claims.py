"""What notebook 03 defines by hand is what the library computes, and what it claims in passing is true."""

import math

import masters
import pytest
import torch

from course_utils.data.mixtures import GaussianMixture
from course_utils.diffusion import NOISE_SCHEDULES, Schedule, cosine_schedule, linear_schedule, zero_terminal_snr
from course_utils.pitfalls import forward as pitfalls


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("03")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(T: int, dtype=torch.float32):
    """Images, noise and a step each, both ends among them."""
    x0 = 2 * torch.rand(4, 1, 5, 7, generator=rng(), dtype=dtype) - 1
    noise = torch.randn(4, 1, 5, 7, generator=rng(1), dtype=dtype)
    return x0, torch.tensor([T, 1, T // 2, T // 3]), noise


@pytest.mark.equation("3.2")
@pytest.mark.parametrize("kind", ["linear", "quadratic", "sigmoid"])
def test_step_variances(notebook, kind):
    ours = notebook["step_variances"](kind, 1000)
    torch.testing.assert_close(ours, NOISE_SCHEDULES[kind](1000).beta[1:], rtol=1e-9, atol=1e-14)
    assert kind == "sigmoid" or ours[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])


def test_tables(notebook):
    torch.testing.assert_close(notebook["linear_alpha_bar"](1000), linear_schedule(1000).alpha_bar, rtol=1e-12, atol=0)
    for T in (10, 1000):
        torch.testing.assert_close(notebook["cosine_alpha_bar"](T), cosine_schedule(T).alpha_bar, rtol=0, atol=0)


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_functions_of_the_table(notebook, name):
    schedule = NOISE_SCHEDULES[name](50)
    torch.testing.assert_close(notebook["log_snr"](schedule.alpha_bar), schedule.log_snr)
    torch.testing.assert_close(
        notebook["rescale_to_zero"](schedule.alpha_bar), zero_terminal_snr(schedule).alpha_bar, rtol=1e-12, atol=1e-15
    )
    t = torch.tensor([1, 7, 50])
    torch.testing.assert_close(notebook["alpha_bar_at"](t, schedule.beta[1:]), schedule.alpha_bar[t])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_jump_and_its_mended_copies(notebook, dtype):
    schedule = cosine_schedule(40)
    x0, t, noise = batch(40, dtype)
    expected = schedule.add_noise(x0, t, noise)
    for name in ("add_noise", "published_noise"):
        torch.testing.assert_close(notebook[name](x0, t, noise, schedule.alpha_bar), expected)
    noisy, target = notebook["training_pair"](x0, t, noise, schedule.alpha_bar)
    torch.testing.assert_close(noisy, expected)
    assert torch.equal(target, noise)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_posterior(notebook, dtype):
    schedule = cosine_schedule(40)
    x0, t, x_t = batch(40, dtype)
    mean, var = notebook["posterior"](x0, x_t, t, schedule.alpha_bar)
    expected = schedule.posterior(x0, x_t, t)
    torch.testing.assert_close(mean, expected.mean)
    torch.testing.assert_close(var, expected.var)


def test_walking_back_with_one_image_brings_that_image(notebook):
    """The answer of forward/posterior-needs: from every start and with every noise, exactly."""
    table, image = cosine_schedule(40).alpha_bar, torch.full((8, 1, 2, 2), 0.3, dtype=torch.float64)
    x = torch.randn(image.shape, generator=rng()).double()
    for t in range(40, 0, -1):
        mean, var = notebook["posterior"](image, x, torch.full((8,), t), table)
        x = mean + var.sqrt() * torch.randn(x.shape, generator=rng(t)).double()
        assert t == 1 or (x - image).std() > 0.02, "on the way the draws do scatter"
    torch.testing.assert_close(x, image)


@pytest.mark.parametrize("alpha_bar", [1.0, 0.5, 1e-3])
def test_mixture_score(notebook, alpha_bar):
    mixture = GaussianMixture(torch.randn(4, 2, generator=rng()).double(), torch.tensor([0.3, 0.5, 0.7, 0.2]).double())
    x = 2 * torch.randn(30, 2, generator=rng(1)).double()
    ours = notebook["mixture_score"](x, alpha_bar, mixture.means, mixture.stds[:, 0], mixture.weights)
    torch.testing.assert_close(ours, mixture.diffused(alpha_bar).score(x))


def test_the_walk_takes_the_librarys_steps(notebook):
    beta = torch.tensor([0.3, 0.1, 0.6], dtype=torch.float64)
    x, noise = torch.randn(2, 1, 2, 4, generator=rng()), torch.randn(3, 2, 1, 2, 4, generator=rng(5))
    walked = notebook["walk"](x, beta, noise)
    assert torch.equal(walked[0], x)
    schedule = Schedule.from_betas(beta)
    for t in (1, 2, 3):
        torch.testing.assert_close(walked[t], schedule.step(walked[t - 1], torch.full((2,), t), noise[t - 1]))


@pytest.mark.parametrize("T", [1, 10, 137, 200, 1000])
def test_the_repaired_table_lies_on_the_curve(notebook, T):
    table = notebook["linear_curve"](T)
    assert (table - linear_schedule(T).alpha_bar).abs().max() < 0.005 and table[-1] < 1e-4


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_steps_of_a_ratio(notebook, name):
    schedule = NOISE_SCHEDULES[name](300)
    snr = torch.tensor([30.0, 1.0, 0.02], dtype=torch.float64)
    t = notebook["step_at_snr"](schedule.alpha_bar, snr)
    assert (schedule.snr[t] <= snr).all() and (schedule.snr[t - 1] > snr).all()
    assert notebook["step_at_snr"](schedule.alpha_bar, torch.tensor([1e-30]).double()).item() == 300


def test_found_code_is_wrong_as_it_is_said_to_be(notebook):
    schedule = cosine_schedule(40)
    x0, t, noise = batch(40)
    right = schedule.add_noise(x0, t, noise)
    signal, spread = schedule.rates(t, x0)
    torch.testing.assert_close(
        pitfalls.noise_images(x0, t, noise, schedule.alpha_bar), signal * x0 + spread.square() * noise
    )
    shown, asked = pitfalls.training_pair(x0, t, noise, schedule.alpha_bar)
    assert torch.equal(shown, noise)
    torch.testing.assert_close(asked, right)
    torch.testing.assert_close(pitfalls.look_up(t, schedule.beta[1:]), schedule.alpha_bar[t - 1])


def test_short_chain_leaves_a_third_of_the_amplitude():
    short = Schedule.from_betas(torch.linspace(1e-4, 0.02, 200, dtype=torch.float64))
    assert short.alpha_bar[-1] == pytest.approx(0.13, abs=0.005)
    assert short.alpha_bar[-1].sqrt() > 1 / 3
    for mended in (Schedule.from_betas(short.beta[1:] * 5), linear_schedule(200), cosine_schedule(200)):
        assert mended.alpha_bar[-1] < 1e-4


def test_what_the_text_says_of_the_linear_schedule():
    """Half-way 28 % of the amplitude is left; the published noise is worst near t = 260, with variance 3/4."""
    a = linear_schedule(1000).alpha_bar
    assert a[500].sqrt() == pytest.approx(0.28, abs=0.005)
    assert ((a.sqrt() < 0.1).sum() / 1000).item() == pytest.approx(1 / 3, abs=0.02)
    wrong = a + (1 - a) ** 2
    assert int(wrong.argmin()) == pytest.approx(260, abs=3) and wrong.min() == pytest.approx(0.75, abs=1e-3)


def step_back_on_a_grid(notebook, table, t, x_t):
    """Variance of x_{t−1} given x_t for data of two values, by the notebook's grid."""
    grid, a = torch.linspace(-9, 9, 4001, dtype=torch.float64), table[t - 1].item()
    before = sum(torch.distributions.Normal(v * a**0.5, (1 - a) ** 0.5).log_prob(grid).exp() / 2 for v in (-1, 1))
    density, _, var = notebook["bayes_on_grid"](grid, before, x_t, (table[t] / table[t - 1]).item())
    assert torch.trapezoid(density, grid).item() == pytest.approx(1)
    return var.item()


def test_two_values_are_wider_than_beta_in_the_middle_and_narrower_on_average(notebook):
    """β = 0.417, β̃ = 0.126 and 0.690 in a chain of 4 steps at x_t = 0.1."""
    table, t = cosine_schedule(4).alpha_bar, 2
    beta = (1 - table[t] / table[t - 1]).item()
    assert beta == pytest.approx(0.417, abs=1e-3)
    narrow = (1 - table[t - 1]) / (1 - table[t]) * beta
    assert narrow.item() == pytest.approx(0.126, abs=1e-3)
    here = notebook["variance_back"](torch.tensor([0.1]).double(), t, table).item()
    assert (
        here == pytest.approx(0.690, abs=1e-3) == pytest.approx(step_back_on_a_grid(notebook, table, t, 0.1), abs=1e-3)
    )
    x_t = table[t] ** 0.5 + (1 - table[t]) ** 0.5 * torch.randn(20_000, generator=rng(), dtype=torch.float64)
    assert narrow < notebook["variance_back"](x_t, t, table).mean() < beta


def off_centre():
    angles = torch.arange(5, dtype=torch.float64) * 2 * math.pi / 5
    means = torch.stack([0.9 + 1.2 * angles.cos(), 1.2 * angles.sin()], 1)
    return GaussianMixture(means, 0.15, torch.tensor([2.0, 1, 1, 1, 1]))


def test_an_exact_score_from_a_short_chain_misses_the_shares_and_nothing_else(notebook):
    blobs, share = off_centre(), {}
    given = (blobs.means, blobs.stds[:, 0], blobs.weights)

    def score(x, a):
        return notebook["mixture_score"](x.flatten(1), a, *given).view_as(x)

    for name, table in {"short": notebook["linear_alpha_bar"](200), "repaired": notebook["linear_curve"](200)}.items():
        noise = torch.randn(201, 3000, 2, 1, 1, generator=rng(), dtype=torch.float64)
        distances = torch.cdist(notebook["walk_back"](noise[200], table, score, noise[:200]).flatten(1), blobs.means)
        assert (distances.amin(1) < 0.75).all(), "five standard deviations"
        share[name] = (distances.argmin(1) == 0).double().mean().item()
    assert share["repaired"] == pytest.approx(1 / 3, abs=0.03)
    assert share["short"] < 1 / 3 - 0.05


def test_it_is_decided_over_half_of_the_walk():
    blobs, table = off_centre(), cosine_schedule(1000).alpha_bar
    x0, truth = blobs.labelled(6000, rng())
    noise, right = torch.randn(x0.shape, generator=rng(1), dtype=x0.dtype), {}
    for t in range(20, 1001, 20):
        x_t = table[t] ** 0.5 * x0 + (1 - table[t]) ** 0.5 * noise
        right[t] = (blobs.diffused(table[t])._joint(x_t)[0].argmax(1) == truth).double().mean().item()
    risen = [t for t, share in right.items() if 0.1 < (share - 1 / 3) / (2 / 3) < 0.9]
    assert risen[-1] - risen[0] > 450
