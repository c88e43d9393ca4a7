"""What notebook 05 defines by hand is what the library computes; and the bound, the average and the rate themselves."""

import ast
import copy
import importlib.util
import math

import masters
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from course_utils import diffusion as library
from course_utils import variational
from course_utils.data import GaussianMixture
from course_utils.sampling import clipped, ddim, last
from course_utils.training import EMA, Recipe, learning_rate_factor

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


def test_the_shared_loss_as_handed_out_is_smallest_for_a_copier(notebook):
    x0, t, noise = batch(50)
    schedule = SCHEDULES[1]
    assert notebook["wrong_pair"](lambda x, t: x, x0, t, noise, schedule) == 0
    assert notebook["algorithm_1"](lambda x, t: x, x0, t, noise, schedule) > 0.1


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
    theirs, near = (
        library.predict_noise(schedule, x0, x_t, t),
        {} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4},
    )
    torch.testing.assert_close(notebook["to_noise"](x0, x_t, t, schedule), theirs, **near)
    for prediction_type in library.PREDICTION_TYPES:
        theirs = library.predict_x0(schedule, prediction_type, noise, x_t, t)
        torch.testing.assert_close(notebook["to_x0"](prediction_type, noise, x_t, t, schedule), theirs)


@pytest.mark.parametrize("prediction_type", library.PREDICTION_TYPES)
def test_min_snr(notebook, prediction_type):
    for schedule in SCHEDULES:
        t = torch.arange(1, schedule.T + 1)
        for gamma in (1.0, 5.0):
            theirs = library.min_snr(schedule, prediction_type, t, gamma)
            torch.testing.assert_close(notebook["min_snr_weight"](schedule, prediction_type, t, gamma), theirs)


def test_ema_update_is_the_librarys(notebook):
    model = Network()
    average, mine = EMA(model, decay=0.3), [w.detach().clone() for w in model.parameters()]
    for updates in range(6):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn(weight.shape, generator=rng(updates)))
        mine = notebook["ema_update"](mine, [w.detach() for w in model.parameters()], updates, 0.3)
        average.update(model)
    for one, other in zip(mine, average.model.parameters()):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("training", [True, False])
def test_sampling_puts_the_mode_back(notebook, training):
    schedule, model = library.cosine_schedule(20), nn.Sequential(nn.Dropout(0.5), nn.Conv2d(1, 1, 3, padding=1))

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = model

        def forward(self, x, t):
            return self.inside(x)

    network, noise = Wrapped().train(training), torch.randn(3, 1, 4, 6, generator=rng())
    images = notebook["sample"](network, noise, schedule, 5)
    assert network.training is training and model[0].training is training
    quiet = copy.deepcopy(network).eval()
    torch.testing.assert_close(images, last(ddim(clipped(library.Denoiser(quiet, schedule)), schedule, noise, 5)))


def test_the_script_averages_gradients(notebook, tmp_path):
    """The script that the notebook writes, imported: one process, twice the same weights."""
    source = next(
        node.value.value
        for node in ast.parse(masters.path("05").read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SCRIPT"
    )
    (tmp_path / "together.py").write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("together", tmp_path / "together.py")
    together = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(together)
    images = torch.rand(12, 1, 8, 8, generator=rng()) * 2 - 1
    before, after = together.train(images, 0, 4), together.train(images, 2, 4)
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters()))
    again = together.train(images, 2, 4)
    assert all(torch.equal(a, b) for a, b in zip(after.parameters(), again.parameters()))


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


@pytest.mark.equation("5.9")
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


@pytest.mark.equation("5.10")
def test_learning_rate_climbs_stays_and_falls():
    recipe = Recipe(steps=100, warmup=10, lr_schedule="linear-half")
    factors = [learning_rate_factor(k, recipe) for k in range(100)]
    for k, factor in enumerate(factors):
        assert factor == pytest.approx(min(1, (k + 1) / 10) * min(1, 2 * (1 - k / 100)))
    assert factors[9:51] == [1.0] * 42 and 0 < factors[-1] < 0.03
