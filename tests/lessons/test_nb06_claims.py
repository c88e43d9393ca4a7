"""What notebook 06 defines by hand is what the library computes; and what it says of masks, codes and arcs holds."""

from functools import partial

import masters
import pytest
import torch
from test_sampling import network, normal, rng

from course_utils.data import GaussianMixture
from course_utils.diffusion import NOISE_SCHEDULES, Schedule, cosine_schedule, linear_schedule, predict_noise
from course_utils.pitfalls import sampling as pitfalls
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
    sdedit,
    timesteps,
)

COSINE, COSINE_FINE = cosine_schedule(1000), cosine_schedule(100_000)
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


def fresh(generator):
    """A source of noise as the notebook has it."""
    return masters.definitions("06")["fresh_noise"](generator)


@pytest.mark.parametrize("y", [None, torch.tensor([1, 0])])
def test_the_walk_of_ancestral_steps_is_ddpm(notebook, y):
    x, times = normal(2, 1, 4, 4).float(), COSINE.timesteps(12)
    step = partial(notebook["ancestral_step"], kappa=0.5)
    trail = notebook["walk"](step, network, COSINE, x, times, fresh(rng(5)), y)
    theirs = [*ddpm(network, COSINE, x, 12, y, kappa=0.5, generator=rng(5))]
    assert len(trail) == len(theirs) == 13
    for (t, mine, guess), stop in zip(trail, theirs):
        assert t == stop.t
        torch.testing.assert_close(mine, stop.x, rtol=1e-4, atol=1e-4)
        assert (guess is None) == (stop.x0 is None)


def numbered_draws(x, steps: int) -> torch.Tensor:
    """draws[t] is what a library's sampler draws at step t, with the generator rng(5)."""
    draws, chance = torch.zeros(steps + 1, *x.shape, dtype=x.dtype), rng(5)
    for t in range(steps, 0, -1):
        draws[t] = torch.randn(x.shape, generator=chance, dtype=x.dtype)
    return draws


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_the_samplers_off_the_shelf_repaired(notebook, name):
    schedule, x = NOISE_SCHEDULES[name](15), normal(2, 1, 4, 4)
    draws = numbered_draws(x, 15)
    for function, kappa in (("sampler_a", 0.0), ("sampler_c", 1.0)):
        theirs = last(ddpm(network, schedule, x, 15, kappa=kappa, generator=rng(5)))
        torch.testing.assert_close(notebook[function](network, schedule, x, draws), theirs, rtol=1e-9, atol=1e-9)
    for eta in (0.0, 0.6, 1.0):
        theirs = last(ddim(network, schedule, x, 15, eta=eta, generator=rng(5)))
        mine = notebook["sampler_d"](network, schedule, x, draws, eta)
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    x0 = network(x, torch.full((2,), 7))
    one = notebook["step_b"](x, x0, 7, draws[7], schedule)
    torch.testing.assert_close(one, notebook["ancestral_step"](x, x0, 7, 6, draws[7], schedule))


def test_the_pitfalls_are_wrong_as_the_notebook_says():
    """A leaves the noise of x_1; B is grey; C adds noise of variance β_1; D is right with η = 0 alone."""
    schedule, x = Schedule(COSINE.alpha_bar[::50]), normal(500, 1, 4, 4)
    draws = numbered_draws(x, 20)
    right_end = last(ddpm(network, schedule, x, 20, generator=rng(5)))
    stopped = [*ddpm(network, schedule, x, 20, generator=rng(5))][-2]
    assert stopped.t == 1
    torch.testing.assert_close(pitfalls.sampler_a(network, schedule, x, draws), stopped.x)
    assert pitfalls.sampler_b(network, schedule, x, draws).abs().max() == 0 < right_end.abs().max()
    left = pitfalls.sampler_c(network, schedule, x, draws) - last(
        ddpm(network, schedule, x, 20, kappa=1.0, generator=rng(5))
    )
    torch.testing.assert_close(left, schedule.beta[1].sqrt() * draws[1])
    for eta, same in ((0.0, True), (0.5, False), (1.0, False)):
        theirs = last(ddim(network, schedule, x, 20, eta=eta, generator=rng(5)))
        assert torch.allclose(pitfalls.sampler_d(network, schedule, x, draws, eta), theirs) == same


def test_sampler_d_leaves_too_little_noise_and_a_negative_radicand_near_the_image():
    """Of a perfect walk for data of one point at 0: the noise at every level against 1 − ᾱ."""
    schedule = Schedule(COSINE.alpha_bar[::50])
    for eta in (0.5, 1.0):
        for t in range(20, 1, -1):
            now, after = schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
            sigma = eta * ((1 - after) / (1 - now) * (1 - now / after)).sqrt()
            assert 1 - after - sigma + sigma**2 < 1 - after  # σ < 1: what comes out is too little
        assert 1 - after - sigma < 0  # the last of these, from step 2 to 1: what the clamp hides


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


@pytest.mark.parametrize("stride", STRIDES)
def test_slope_and_euler_step(notebook, stride):
    x, (t, s) = normal(2, 1, 4, 4), stride
    at, root = torch.full((2,), t), COSINE.alpha_bar[t].sqrt()
    theirs = predict_noise(COSINE, network(x, at), x, at)
    torch.testing.assert_close(notebook["slope"](network, x / root, t, COSINE), theirs, rtol=1e-6, atol=1e-6)
    mine = notebook["euler_step"](network, x, t, s, COSINE)
    torch.testing.assert_close(mine, last(euler(network, COSINE, x, [t, s])), rtol=1e-6, atol=1e-6)
    guess, still = network(x, at), torch.zeros_like(x)
    torch.testing.assert_close(mine, notebook["ddim_step"](x, guess, t, s, still, COSINE), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("times", [[1000, 600, 400, 50, 0], [900, 500, 20], [1000, 0]])
def test_multistep_walk(notebook, times):
    x, y = normal(2, 1, 4, 4), torch.tensor([0, 1])
    trail = notebook["multistep_walk"](network, COSINE, x, times, y)
    for (t, mine, guess), stop in zip(trail, dpm_solver(network, COSINE, x, times, y), strict=True):
        assert t == stop.t and (guess is None) == (stop.x0 is None)
        torch.testing.assert_close(mine, stop.x, rtol=1e-9, atol=1e-9)


def test_uneven_heun_weighs_its_slopes_unevenly(notebook):
    """1.2 Heun − 0.2 Euler is Heun's method with weights 0.4 and 0.6."""
    x, t, s = normal(2, 1, 4, 4), 700, 400
    a, b = COSINE.alpha_bar[[t, s]].sqrt()
    length = ((1 - b**2).sqrt() / b) - ((1 - a**2).sqrt() / a)
    first = notebook["slope"](network, x / a, t, COSINE)
    second = notebook["slope"](network, x / a + length * first, s, COSINE)
    theirs = b * (x / a + length * (0.4 * first + 0.6 * second))
    torch.testing.assert_close(notebook["uneven_heun"](network, x, t, s, COSINE), theirs)
    ends = notebook["solve"](notebook["heun_step"], network, COSINE, x, [1000, 700, 400])
    torch.testing.assert_close(ends, last(heun(network, COSINE, x, [1000, 700, 400])), rtol=1e-6, atol=1e-6)


def test_orders_are_read_off_powers(notebook):
    counts = [10, 20, 40, 80]
    assert notebook["measured_order"](counts, [3 * k**-1.7 for k in counts]) == pytest.approx(1.7)


def test_the_solvers_of_the_notebook_have_the_orders_it_prints(notebook):
    """On a mixture, from three numbers of strides: within 0.15 of 1 and 2, and the wrong Heun at most 1.3."""
    mixture, times = GaussianMixture.ring(3), {}
    for k in (80, 160, 320):
        half = COSINE_FINE.log_snr
        wanted = torch.linspace(float(half[90_000]), float(half[5_000]), k + 1, dtype=torch.float64)
        times[k] = [int(t) for t in torch.searchsorted(-half, -wanted)]
    exact, x = mixture.denoiser(COSINE_FINE), normal(60, 2)[..., None, None]

    def denoise(x, t, y=None):
        return exact(x.flatten(1), t).view_as(x)

    fine = torch.linspace(float(half[90_000]), float(half[5_000]), 1501, dtype=torch.float64)
    truth = last(heun(denoise, COSINE_FINE, x, [int(t) for t in torch.searchsorted(-half, -fine)]))
    walk, solve = notebook["walk"], notebook["solve"]
    ways = {
        "ddim": lambda times: walk(notebook["ddim_step"], denoise, COSINE_FINE, x, times, torch.zeros_like)[-1][1],
        "heun": lambda times: solve(notebook["heun_step"], denoise, COSINE_FINE, x, times),
        "2m": lambda times: notebook["multistep_walk"](denoise, COSINE_FINE, x, times)[-1][1],
        "wrong": lambda times: solve(notebook["uneven_heun"], denoise, COSINE_FINE, x, times),
    }
    orders = {}
    for name, way in ways.items():
        errors = [(way(stops) - truth).flatten(1).norm(dim=1).median().item() for stops in times.values()]
        orders[name] = notebook["measured_order"](list(times), errors)
    assert abs(orders["ddim"] - 1) < 0.15 and orders["wrong"] < 1.3, orders
    assert abs(orders["heun"] - 2) < 0.2 and abs(orders["2m"] - 2) < 0.2, orders


def test_counting_changes_nothing(notebook):
    counter, x = notebook["Counted"](network), normal(2, 1, 4, 4)
    theirs = last(heun(network, COSINE, x, [900, 500, 100, 0]))
    mine = notebook["solve"](notebook["heun_step"], counter, COSINE, x, [900, 500, 100, 0])
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
    assert counter.calls == 5  # two a stride, and one where it ends at 0


@pytest.mark.parametrize("std", [0.05, 1.0])
def test_a_variance_walks_as_many_numbers_do(notebook, std):
    """Against 200,000 draws, and exactly 1 for β with data of variance 1."""
    times, schedule = [1000, 700, 400, 100, 0], cosine_schedule(1000)
    walked, step = notebook["variance_before_the_end"], partial(notebook["ancestral_step"], kappa=1.0)
    ratio = walked(step, schedule, times, std)
    if std == 1:
        assert ratio == pytest.approx(1)

    def best(x, t, y=None):
        a = schedule.alpha_bar[t[0]]
        return a.sqrt() * std**2 / (a * std**2 + 1 - a) * x

    x = normal(200_000, 1, 1, 1)
    *_, before, _ = notebook["walk"](step, best, schedule, x, times, fresh(rng(5)))
    noised = schedule.alpha_bar[100] * std**2 + 1 - schedule.alpha_bar[100]
    assert ratio == pytest.approx((before[1].var() / noised).item(), rel=0.02)


def test_which_variance_is_right_for_which_data(notebook):
    """β̃ exactly for one point; for std 0.05 it falls short by 50 strides, where κ = ½ is much nearer."""
    walked, schedule = notebook["variance_before_the_end"], cosine_schedule(1000)

    def ratio(kappa, std, strides):
        step = partial(notebook["ancestral_step"], kappa=kappa)
        return walked(step, schedule, schedule.timesteps(strides), std)

    assert all(ratio(0.0, 0.0, k) == pytest.approx(1) for k in (2, 10, 50, 200))
    assert all(ratio(1.0, 1.0, k) == pytest.approx(1) for k in (2, 10, 50, 200))
    assert ratio(0.0, 0.05, 2) > 0.98 and ratio(1.0, 0.05, 5) > 2
    assert all(ratio(0.0, 0.05, k) < 0.78 and abs(ratio(0.5, 0.05, k) - 1) < 0.13 for k in (50, 100))
    assert all(2.9 < ratio(1.0, 0.05, k) < 3.1 for k in (5, 10))


def test_encoding_by_hand(notebook):
    image, times = normal(2, 1, 4, 4).clamp(-1, 1), [1, 250, 500, 750, 1000]
    mine = notebook["encode"](network, COSINE, image, times)
    torch.testing.assert_close(mine, last(ddim_invert(network, COSINE, image, 4)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("level", [1, 430, 500, 1000])
def test_redrawing_is_sdedit_with_ancestral_steps(notebook, level):
    image = normal(2, 1, 4, 4).clamp(-1, 1)
    noisy, redrawn = notebook["redraw"](image, level, 10, network, COSINE, fresh(rng(5)))
    theirs = rng(5)
    x, times = sdedit(COSINE, image, level / 1000, 10, theirs)
    torch.testing.assert_close(noisy, x)
    end = last(ddpm(network, COSINE, x, times, generator=theirs))
    torch.testing.assert_close(redrawn, end, rtol=1e-9, atol=1e-9)


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
    ramp = torch.arange(8.0).expand(2, 1, 8, 8) / 10
    assert notebook["roughness"](ramp) < 1e-6
    noise = 0.1 * normal(20, 3, 16, 16)
    assert notebook["roughness"](noise) == pytest.approx(0.1 * 1.25**0.5, rel=0.05)  # 1 + 4/16


def test_one_pixel_at_a_time_is_exact_and_all_at_once_is_not(notebook):
    """A world of four alike pixels, white with probability 0.7: alike always, and white within 4 standard errors; at
    once, two of them differ in 2 · 0.7 · 0.3 of all images."""
    images = torch.tensor([[1.0] * 4] * 7 + [[-1.0] * 4] * 3)

    def probability(x):
        fits = ((x[:, None] == images) | (x[:, None] == 0)).all(2).float()
        return fits @ (images > 0).float() / fits.sum(1, keepdim=True).clamp(min=1)

    turn = torch.rand(4000, 4, generator=rng(1)).argsort(1).argsort(1)
    one, at_once = (notebook["unmask"](probability, turn, k, torch.rand(k, 4000, 4, generator=rng(2))) for k in (4, 1))
    assert (one == one[:, :1]).all() and set(one.unique().tolist()) == {-1.0, 1.0}
    assert abs((one[:, 0] > 0).float().mean().item() - 0.7) < 4 * (0.21 / 4000) ** 0.5
    different = (at_once[:, 0] != at_once[:, 1]).float().mean().item()
    assert abs(different - 0.42) < 4 * (0.42 * 0.58 / 4000) ** 0.5


@pytest.mark.parametrize("rounds", [1, 3, 16])
def test_every_pixel_has_its_turn_once(notebook, rounds):
    hidden = []

    def probability(x):
        hidden.append(int((x == 0).sum(dim=1).unique()))
        return torch.full_like(x, 0.5)

    turn = torch.rand(3, 256, generator=rng(1)).argsort(1).argsort(1)
    x = notebook["unmask"](probability, turn, rounds, torch.rand(rounds, 3, 256, generator=rng(2)))
    assert hidden == [256 - sum(k * rounds // 256 < r for k in range(256)) for r in range(rounds)]
    assert set(x.unique().tolist()) == {-1.0, 1.0}


def test_the_form_of_a_question_gives_nothing_away():
    """Options of like length; the right one is neither the longest nor the shortest more often than chance; letters."""
    from classroom.quizzes import Concept, declarations

    declarations.load()
    asked = [q for q in declarations.declared_in("classroom.lessons.nb06").values() if isinstance(q, Concept)]
    longest = shortest = 0
    for question in asked:
        lengths = {letter: len(option.text) for letter, option in question.options.items()}
        low, high, right = min(lengths.values()), max(lengths.values()), lengths[question.answer]
        assert high <= 1.4 * low, (question.id, lengths)
        longest, shortest = longest + (right == high), shortest + (right == low)
    letters = [question.answer for question in asked]
    assert longest <= len(asked) / 3 and shortest <= len(asked) / 3, (longest, shortest, len(asked))
    assert max(map(letters.count, "abcd")) - min(map(letters.count, "abcd")) <= 1, letters
