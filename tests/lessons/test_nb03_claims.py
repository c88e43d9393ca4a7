"""What notebook 03 defines by hand is what the library computes, and what it claims in passing is true."""

import math

import masters
import pytest
import torch

from course_utils.data.mixtures import GaussianMixture
from course_utils.diffusion import NOISE_SCHEDULES, Schedule, cosine_schedule, linear_schedule, zero_terminal_snr


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


@pytest.mark.parametrize("alpha_bar", [1.0, 0.5, 1e-3])
def test_mixture_score(notebook, alpha_bar):
    mixture = GaussianMixture(torch.randn(4, 2, generator=rng()).double(), torch.tensor([0.3, 0.5, 0.7, 0.2]).double())
    x = 2 * torch.randn(30, 2, generator=rng(1)).double()
    ours = notebook["mixture_score"](x, alpha_bar, mixture.means, mixture.stds[:, 0], mixture.weights)
    torch.testing.assert_close(ours, mixture.diffused(alpha_bar).score(x))


def test_the_step_by_hand_is_the_librarys(notebook):
    x = torch.randn(3, 1, 2, 4, generator=rng())
    notebook["shrink_and_shake"].__globals__["generator"] = rng(5)
    ours = notebook["shrink_and_shake"](x, 0.3)
    schedule = Schedule.from_betas(torch.tensor([0.3]))
    theirs = schedule.step(x, torch.ones(3, dtype=torch.long), torch.randn(x.shape, generator=rng(5)))
    torch.testing.assert_close(ours, theirs)


def test_short_chain_leaves_a_third_of_the_amplitude():
    short = Schedule.from_betas(torch.linspace(1e-4, 0.02, 200, dtype=torch.float64))
    assert short.alpha_bar[-1] == pytest.approx(0.13, abs=0.005)
    assert short.alpha_bar[-1].sqrt() > 1 / 3
    for mended in (Schedule.from_betas(short.beta[1:] * 5), linear_schedule(200), cosine_schedule(200)):
        assert mended.alpha_bar[-1] < 1e-4


def test_what_the_text_says_of_step_300():
    share = {kind: NOISE_SCHEDULES[kind](1000).alpha_bar[300].item() for kind in ("sigmoid", "linear")}
    assert share == pytest.approx({"sigmoid": 0.84, "linear": 0.40}, abs=0.005)


def test_what_the_text_says_of_the_snr():
    falls = [(s.snr[1] / s.snr[-1]).item() for s in (make(1000) for make in NOISE_SCHEDULES.values())]
    assert min(falls) == pytest.approx(1.4e7, rel=0.05) and max(falls) == pytest.approx(1e13, rel=0.05)


def test_what_the_text_says_of_the_shifted_index():
    signal = cosine_schedule(1000).alpha_bar.sqrt()
    assert max(signal.diff().abs().max(), (1 - signal**2).sqrt().diff().abs().max()) < 0.01


def test_what_the_text_says_of_the_linear_schedule():
    """Half-way 28 % of the amplitude is left; the published noise is worst near t = 260, with variance 3/4."""
    a = linear_schedule(1000).alpha_bar
    assert a[500].sqrt() == pytest.approx(0.28, abs=0.005)
    assert ((a.sqrt() < 0.1).sum() / 1000).item() == pytest.approx(1 / 3, abs=0.02)
    wrong = a + (1 - a) ** 2
    assert int(wrong.argmin()) == pytest.approx(260, abs=3) and wrong.min() == pytest.approx(0.75, abs=1e-3)


def test_two_values_are_told_apart_by_long_steps_only(notebook):
    notebook["step_back"].__globals__["grid"] = torch.linspace(-9, 9, 2001, dtype=torch.float64)
    apart = {T: notebook["step_back"](T, 0.1)[2] for T in (4, 100)}
    assert apart[4] > 3 and apart[100] < 1
    _, density, _ = notebook["step_back"](4, 0.1)
    assert torch.trapezoid(density, dx=18 / 2000).item() == pytest.approx(1, abs=1e-6)
    assert math.isfinite(density.max())
