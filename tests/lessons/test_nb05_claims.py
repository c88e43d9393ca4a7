"""What notebook 05 defines by hand is what the library computes; and the bound, the average and the rate themselves."""

import copy
import functools
import math

import masters
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from course_utils import diffusion as library
from course_utils import variational
from course_utils.data import GaussianMixture
from course_utils.device import seeded
from course_utils.pitfalls import training as pitfalls
from course_utils.sampling import ddim, last
from course_utils.training import EMA, Muon, Recipe, learning_rate_factor

TYPES = ("noise", "x0", "v")  # those of notebook 05; the velocity comes in 10
SCHEDULES = [library.linear_schedule(1000), library.cosine_schedule(50), library.quadratic_schedule(200)]


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("05")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(T: int, b: int = 4, shape=(1, 5, 7), dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x0, t with both ends, noise."""
    x0, noise = 2 * torch.rand(b, *shape, generator=rng(), dtype=dtype) - 1, torch.randn(b, *shape, generator=rng(1))
    t = torch.randint(1, T + 1, (b,), generator=rng(2))
    t[0], t[-1] = 1, T
    return x0, t, noise.to(dtype)


class Network(nn.Module):
    """Answers with a mixture of its input and its step."""

    def __init__(self, channels: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, t):
        return self.conv(x) + t[:, None, None, None].to(x.dtype) / 1000


# ----------------------------------------------------------------------------------------------- hand-made = library's
def test_kl_and_weight(notebook):
    mean_q, mean_p = torch.randn(2, 4, 1, 5, 7, generator=rng())
    var = torch.rand(4, 1, 1, 1, generator=rng(1)) + 0.1
    torch.testing.assert_close(
        notebook["kl_same_variance"](mean_q, mean_p, var), variational.kl_same_variance(mean_q, mean_p, var)
    )
    for schedule in SCHEDULES:
        t = torch.arange(1, schedule.T + 1)
        torch.testing.assert_close(notebook["bound_weight"](schedule, t), variational.bound_weight(schedule, t))


def test_bound_terms(notebook):
    """Divergences of posteriors, one by one, are the library's differences of signal-to-noise ratios."""
    schedule, mixture = library.cosine_schedule(12), GaussianMixture.ring(3)
    x0 = mixture.sample(6, rng()).double()
    prior, steps, decoder = notebook["bound_terms"](mixture.denoiser(schedule), schedule, x0, rng(1))
    bound = variational.variational_bound(mixture.denoiser(schedule), schedule, x0, rng(1))
    torch.testing.assert_close(prior, bound.prior)
    torch.testing.assert_close(steps, bound.steps)
    torch.testing.assert_close(decoder, bound.decoder)


@pytest.mark.parametrize("name", ["algorithm_1", "shared_loss"])
def test_algorithm_1(notebook, name):
    schedule, model = library.cosine_schedule(50), Network()
    x0, t, _ = batch(50, dtype=torch.float32)
    noise = torch.empty_like(x0).normal_(generator=rng(7))  # as the library draws it, t being given
    theirs = library.diffusion_loss(schedule, prediction_type="noise", draw=lambda *_: t)(model, x0, None, rng(7))
    torch.testing.assert_close(notebook[name](model, x0, t, noise, schedule), theirs)


def test_draws_follow_the_chain(notebook):
    schedule, x0 = library.cosine_schedule(10), torch.rand(64, 1, 3, 5, generator=rng()) * 2 - 1
    x_t, t, noise = notebook["draw_examples"](x0, schedule, rng(3))
    torch.testing.assert_close(x_t, schedule.add_noise(x0, t, noise))
    assert set(t.tolist()) == set(range(1, 11))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_targets_and_conversions(notebook, schedule, dtype):
    x0, t, noise = batch(schedule.T, shape=(3, 4, 6), dtype=dtype)
    x_t = schedule.add_noise(x0, t, noise)
    torch.testing.assert_close(
        notebook["v_target"](x0, noise, t, schedule), library.prediction_target(schedule, "v", x0, noise, t)
    )
    for prediction_type in TYPES:
        theirs = library.predict_x0(schedule, prediction_type, noise, x_t, t)
        torch.testing.assert_close(notebook["to_x0"](prediction_type, noise, x_t, t, schedule), theirs)


@pytest.mark.parametrize("prediction_type", TYPES)
def test_min_snr(notebook, prediction_type):
    for schedule in SCHEDULES:
        t = torch.arange(1, schedule.T + 1)
        for gamma in (1.0, 5.0):
            theirs = library.min_snr(schedule, prediction_type, t, gamma)
            torch.testing.assert_close(notebook["min_snr_weight"](schedule, prediction_type, t, gamma), theirs)


def test_the_average_is_the_librarys(notebook):
    model = Network()
    theirs, mine = EMA(model, decay=0.3), notebook["Average"](model, 0.3)
    for updates in range(6):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn(weight.shape, generator=rng(updates)))
        mine.update(model)
        theirs.update(model)
    assert mine.updates == theirs.updates == 6
    for one, other in zip(mine.model.parameters(), theirs.model.parameters()):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("steps", "warmup"), [(40, 5), (100, 0), (7, 1)])
def test_the_rate_is_the_librarys(notebook, steps, warmup):
    recipe = Recipe(steps=steps, warmup=warmup, lr_schedule="linear-half")
    for step in range(steps):
        assert notebook["rate_factor"](step, steps, warmup) == pytest.approx(learning_rate_factor(step, recipe))


def squares(model, x, generator):
    noise = torch.randn(x.shape, generator=generator)
    return (model(x + 0.1 * noise, torch.ones(len(x), dtype=torch.long)) - x).square().mean()


def images(generator):
    return torch.rand(6, 1, 5, 4, generator=generator)


@pytest.mark.parametrize("optimizer", [Muon, torch.optim.Adam])
def test_the_loop_and_the_whole_run_make_the_same_steps(notebook, optimizer):
    """Without schedule, parts and limit the class is the loop of eight lines."""
    plain, whole = (copy.deepcopy(Network()) for _ in range(2))
    whole.load_state_dict(plain.state_dict())
    losses = notebook["train"](plain, squares, images, optimizer(plain.parameters(), lr=0.01), 5, rng(3))
    run = notebook["Run"](whole, squares, images, optimizer(whole.parameters(), lr=0.01), rng(3), lambda k: 1.0)
    run.go_on(2)
    run.go_on(5)
    assert run.losses == pytest.approx(losses) and run.step == 5
    for one, other in zip(plain.parameters(), whole.parameters()):
        torch.testing.assert_close(one, other)


def test_parts_make_the_step_of_the_whole_batch(notebook):
    def mean(model, x, generator):
        return (model(x, torch.ones(len(x), dtype=torch.long)) - x).square().mean()

    whole, parted, x = Network(), Network(), images(rng(1))
    parted.load_state_dict(whole.state_dict())
    said = []
    for model, parts in ((whole, [x]), (parted, [x[:3], x[3:5], x[5:]])):
        said.append(notebook["update"](model, mean, parts, torch.optim.SGD(model.parameters(), lr=0.3), rng(), 0.01))
    assert said[0] == pytest.approx(said[1], rel=1e-5) and said[0][1] > 0.01
    for one, other in zip(whole.parameters(), parted.parameters()):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("cut", [1, 4, 7])
def test_a_run_that_is_cut_off_ends_with_the_same_bits(notebook, tmp_path, cut):
    def new(seed):
        with seeded(seed):
            model = Network()
        rate = functools.partial(notebook["rate_factor"], steps=8, warmup=3)
        return notebook["SafeRun"](model, squares, images, Muon(model.parameters(), lr=0.01), rng(seed), rate, parts=2)

    whole, broken = new(0), new(0)
    whole.go_on(8)
    broken.go_on(cut)
    broken.save(tmp_path / "run.pt")
    resumed = new(9)
    resumed.resume(tmp_path / "run.pt")
    resumed.go_on(8)
    assert resumed.losses == whole.losses and resumed.average.updates == 8
    for one, other in ((whole.model, resumed.model), (whole.average.model, resumed.average.model)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))


def test_half_of_the_starting_noise_is_what_a_copier_generates():
    """In the limit of many steps, whatever the schedule; a few steps come near it."""
    schedule, noise = library.cosine_schedule(1000), 0.3 * torch.randn(4, 1, 5, 5, generator=rng())
    copier = library.Denoiser(lambda x_t, t: x_t, schedule, "noise")
    torch.testing.assert_close(last(ddim(copier, schedule, noise, 500)), noise / 2, rtol=0.02, atol=1e-3)


def test_the_symptoms_come_from_the_faults_that_are_handed_out(notebook):
    x0, t, noise = batch(50, dtype=torch.float32)
    schedule = SCHEDULES[1]
    assert pitfalls.shared_loss(lambda x, t: x, x0, t, noise, schedule) == 0
    assert notebook["shared_loss"](lambda x, t: x, x0, t, noise, schedule) > 0.1
    x_t, t, noise = pitfalls.draw_examples(x0, schedule, rng(3))
    assert len(set(t.tolist())) == 1
    torch.testing.assert_close(x_t, schedule.add_noise(x0, t, noise))


def test_singular_values_come_together(notebook):
    matrix = torch.randn(8, 20, generator=rng())
    values = torch.linalg.svdvals(notebook["orthogonalized"](matrix))
    torch.testing.assert_close(values, torch.ones(8), rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------------------------------- what the library computes
@pytest.mark.equation("5.2")
def test_kl_of_one_variance_is_torchs():
    mean_q, mean_p = torch.randn(2, 3, 1, 4, 6, generator=rng(), dtype=torch.float64)
    var = torch.rand(3, 1, 1, 1, generator=rng(1), dtype=torch.float64) + 0.05
    sigma = var.sqrt().expand_as(mean_q)
    expected = kl_divergence(Normal(mean_q, sigma), Normal(mean_p, sigma)).flatten(1).sum(1)
    torch.testing.assert_close(variational.kl_same_variance(mean_q, mean_p, var), expected)


@pytest.mark.equation("5.3")
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_weight_of_the_bound(schedule):
    """The divergence of two posteriors, by PyTorch, is the weight times the squared error in the noise."""
    x0, t, noise = batch(schedule.T, b=6)
    t[0] = 2
    x_t = schedule.add_noise(x0, t, noise)
    other = noise + torch.randn(noise.shape, generator=rng(5), dtype=noise.dtype)
    q, p = (schedule.posterior(library.predict_x0(schedule, "noise", e, x_t, t), x_t, t) for e in (noise, other))
    sigma = q.var.sqrt().expand_as(q.mean)
    left = kl_divergence(Normal(q.mean, sigma), Normal(p.mean, sigma)).flatten(1).sum(1)
    right = variational.bound_weight(schedule, t) * (noise - other).square().flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-9)


@pytest.mark.equation("5.3")
def test_weight_in_the_symbols_of_the_paper():
    """β_t² / (2 σ_t² α_t (1 − ᾱ_t)) with σ_t² the variance of the posterior; ½ at t = 1, where L_0 stands."""
    for schedule in SCHEDULES:
        t = torch.arange(2, schedule.T + 1)
        beta, alpha, alpha_bar = schedule.beta[t], schedule.alpha[t], schedule.alpha_bar[t]
        var = (1 - schedule.alpha_bar[t - 1]) / (1 - alpha_bar) * beta
        expected = beta**2 / (2 * var * alpha * (1 - alpha_bar))
        torch.testing.assert_close(variational.bound_weight(schedule, t), expected, rtol=1e-6, atol=0)
        assert variational.bound_weight(schedule, torch.tensor([1])).item() == 0.5


@pytest.mark.equation("5.1")
@pytest.mark.parametrize("T", [1, 2, 5, 40])
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_the_bound_lies_above_the_models_own_density(T, spread):
    """Gaussian data: the best denoiser is linear, so the density of what the model generates is known exactly."""
    schedule, toy = library.linear_schedule(T), GaussianMixture(torch.zeros(1, 1), spread)
    x0 = toy.sample(4000, rng()).double()
    bound = variational.variational_bound(toy.denoiser(schedule), schedule, x0, rng(1))
    assert bound.steps.shape == (4000, T - 1) and bound.prior.shape == bound.decoder.shape == (4000,)
    var, one = 1.0, torch.ones(1, 1, dtype=torch.float64)
    for step in range(T, 1, -1):
        t = torch.tensor([step])
        back = schedule.posterior(toy.denoiser(schedule)(one, t), one, t)
        var = back.mean.item() ** 2 * var + back.var.item()
    var = toy.denoiser(schedule)(one, torch.tensor([1])).item() ** 2 * var + 1 / schedule.snr[1].item()
    charged = 0.5 * math.log(2 * math.pi * var) + spread**2 / (2 * var)
    error = bound.total.std().item() / math.sqrt(len(x0))
    entropy = 0.5 * math.log(2 * math.pi * math.e * spread**2)
    assert bound.total.mean().item() > charged - 4 * error
    assert charged >= entropy - 1e-9


@pytest.mark.equation("5.1")
def test_every_term_of_the_bound():
    """A perfect guess pays nothing for the steps; the first term is a divergence, the last a density."""
    schedule, x0 = library.cosine_schedule(6), torch.randn(5, 1, 2, 3, generator=rng(), dtype=torch.float64)
    bound = variational.variational_bound(lambda x_t, t: x0, schedule, x0, rng(1))
    torch.testing.assert_close(bound.steps, torch.zeros(5, 5, dtype=torch.float64))
    left = schedule.alpha_bar[-1]
    end = Normal(left.sqrt() * x0, (1 - left).sqrt())
    prior = kl_divergence(end, Normal(torch.zeros_like(x0), torch.ones_like(x0))).flatten(1).sum(1)
    torch.testing.assert_close(bound.prior, prior)
    density = Normal(x0, schedule.snr[1].rsqrt()).log_prob(x0).flatten(1).sum(1)
    torch.testing.assert_close(bound.decoder, -density)


@pytest.mark.equation("5.8")
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_average_by_the_sum_it_stands_for(decay):
    """The average is a weighted sum of all weights so far; the factors are products of d_n, and add up to 1."""
    model = nn.Linear(3, 2).double()
    average, seen = EMA(model, decay), [copy.deepcopy(model.state_dict())]
    for n in range(30):
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(torch.randn(weight.shape, generator=rng(n), dtype=weight.dtype))
        average.update(model)
        seen.append(copy.deepcopy(model.state_dict()))
    d = [min(decay, (1 + n) / (10 + n)) for n in range(30)]
    factors = [math.prod(d), *((1 - d[n]) * math.prod(d[n + 1 :]) for n in range(30))]
    assert math.fsum(factors) == pytest.approx(1)
    for name, weight in average.model.state_dict().items():
        torch.testing.assert_close(weight, sum(f * state[name] for f, state in zip(factors, seen)))


@pytest.mark.equation("5.9")
def test_learning_rate_climbs_stays_and_falls():
    recipe = Recipe(steps=100, warmup=10, lr_schedule="linear-half")
    factors = [learning_rate_factor(k, recipe) for k in range(100)]
    for k, factor in enumerate(factors):
        assert factor == pytest.approx(min(1, (k + 1) / 10) * min(1, 2 * (1 - k / 100)))
    assert factors[9:51] == [1.0] * 42 and 0 < factors[-1] < 0.03
