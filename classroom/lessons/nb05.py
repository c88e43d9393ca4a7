"""The quizzes of notebook 05, "Training"."""

import copy
import math
import os
import tempfile
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F

from course_utils import diffusion as library
from course_utils import training, variational
from course_utils.models.vae import gaussian_kl, gaussian_nll, kl_to_standard_normal
from course_utils.sampling.loop import Stride, sample_loop
from course_utils.training import muon

from ..quizzes.declarations import Case, Fixture, Misconception, Option, concept, fixture, quiz
from ..quizzes.drawing import (
    SIGMAS,
    as_often,
    drawn,
    fits,
    from_call_to_call,
    looks_normal,
    off,
    repeated,
    standardised,
    too_few_values,
    uncorrelated,
)

# ---------------------------------------------------------------------------------------------------- inputs for cases


@fixture("training/schedule")
def _schedule(curve: str = "cosine", T: int = 50, seed: int = 0) -> library.Schedule:
    return library.NOISE_SCHEDULES[curve](T)


class _Tiny(nn.Module):
    """A network of a few hundred weights that uses the image and the step; dropout and BatchNorm if asked for."""

    def __init__(self, channels: int, noisy_layers: bool = False, spare: bool = False):
        super().__init__()
        if spare:
            self.spare = nn.Parameter(torch.ones(3))  # gets no gradient
        self.first, self.last = nn.Conv2d(channels, 6, 3, padding=1), nn.Conv2d(6, channels, 3, padding=1)
        self.time = nn.Linear(1, 6)
        self.between = nn.Sequential(nn.BatchNorm2d(6), nn.Dropout(0.3)) if noisy_layers else nn.Identity()

    def forward(self, x, t, y=None):
        h = self.first(x) + self.time(t[:, None].to(x.dtype) / 50)[:, :, None, None]
        return self.last(F.silu(self.between(h)))


@fixture("training/tiny")
def _tiny(channels: int = 1, double: bool = False, seed: int = 0) -> nn.Module:
    return _Tiny(channels).to(torch.float64 if double else torch.float32)


@fixture("training/with-dropout")
def _with_dropout(channels: int = 1, seed: int = 0) -> nn.Module:
    model = _Tiny(channels, noisy_layers=True)
    nn.init.normal_(model.between[0].running_mean, std=0.3)
    return model


@fixture("training/with-spare")
def _with_spare(channels: int = 1, seed: int = 0) -> nn.Module:
    return _Tiny(channels, spare=True)


@fixture("training/denoise")
def _denoise(seed: int = 0):
    return lambda x_t, t, y=None: (0.5 + 0.05 * t.reshape(-1, *[1] * (x_t.ndim - 1))).to(x_t.dtype) * x_t + 0.1


@fixture("training/loss")
def _noisy_copy(size: float = 1.0, seed: int = 0):
    """A loss that draws: how well the network gives back an image to which noise was added."""

    def loss(model, x, generator):
        noise = torch.randn(x.shape, generator=generator)
        t = torch.randint(1, 51, (len(x),), generator=generator)
        return size * (model(x + 0.3 * noise, t) - x).square().mean()

    return loss


@fixture("training/batch")
def _batch(b: int = 4, shape: Any = (1, 4, 6), seed: int = 0):
    return lambda generator: torch.rand(b, *shape, generator=generator) * 2 - 1


@fixture("training/rate")
def _rate(steps: int = 10, warmup: int = 2, seed: int = 0):
    return lambda k: min(1.0, (k + 1) / max(warmup, 1)) * min(1.0, 2 * (1 - k / steps))


def _optimizer(name: str, model: nn.Module) -> torch.optim.Optimizer:
    """For probes: a case can't hold an optimizer of the network that is built beside it."""
    weights = list(model.parameters())
    if name == "two groups":
        return torch.optim.SGD([{"params": weights[:2]}, {"params": weights[2:], "lr": 0.01}], lr=0.1, momentum=0.9)
    return {
        "sgd": lambda: torch.optim.SGD(weights, lr=0.2),
        "momentum": lambda: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
        "adam": lambda: torch.optim.Adam(weights, lr=0.02),
        "muon": lambda: muon.Muon(weights, lr=0.02),
    }[name]()


def _weights(model: nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in model.parameters()]


BATCHES = (  # how many images, their shape, the schedule, T, dtype; two of each T, for answers that keep one by its T
    (4, (1, 5, 7), "linear", 1000, torch.float32),
    (3, (3, 4, 6), "cosine", 50, torch.float64),
    (1, (1, 6, 3), "cosine", 1000, torch.float32),
    (5, (1, 3, 8), "quadratic", 50, torch.float64),
)


# What mixes images and noise by the two rates of a schedule, be it one of the student's own: with other arguments that
# is v, or takes the noise away again.
MIXING = (
    library.Schedule.add_noise,
    library.Schedule.step,
    library.Schedule.posterior,
    library.prediction_target,
    library.predict_x0,
    library.predict_noise,
    Stride.eps,
    sample_loop,
)


def _steps(rng: torch.Generator, b: int, T: int) -> torch.Tensor:
    """b steps in 1..T, the ends among them."""
    t = torch.randint(1, T + 1, (b,), generator=rng)
    t[0] = T if b == 1 else 1
    t[-1] = T
    return t


def _batches(rng: torch.Generator):
    """Clean images in [-1, 1], their steps, noise, and the schedule, for several sizes."""
    for b, shape, name, T, dtype in BATCHES:
        x0 = 2 * torch.rand(b, *shape, generator=rng, dtype=dtype) - 1
        noise = torch.randn(b, *shape, generator=rng, dtype=dtype)
        yield x0, _steps(rng, b, T), noise, Fixture("training/schedule", curve=name, T=T)


# --------------------------------------------------------------------------------------------------- 5.1 · the bound

concept(
    "training/no-gradient",
    minutes=1,
    title="A term without a gradient",
    equation="5.1",
    question="""
    Which part of the bound (5.1) can be left out of a diffusion model's training without changing a single weight?
    """,
    options={
        "a": Option(
            "$L_0$: it is one of a thousand terms, and its share is small.",
            "It is one of many, and it does depend on the network: it charges for the last step, from $x_1$ to $x_0$.",
        ),
        "b": Option(
            "$L_{t-1}$ at large $t$: those images are hardly more than noise.",
            "There is little to see at large $t$, but the network is asked there too, and its answer decides what "
            "the sample will be about. These terms have gradients.",
        ),
        "c": Option(
            "$L_T$: both of its distributions are fixed beforehand.",
            "Right. It compares $q(x_T\\mid x_0)$, which the schedule fixes, with the prior. In a VAE the same term"
            " trains the encoder; here nothing in it can be learned. It still counts when the bound is *reported*.",
            right=True,
        ),
        "d": Option(
            "None: with any term left out it is no bound on $-\\ln p$ any more.",
            "As a *number* it would no longer be the bound. But what doesn't depend on the weights has no gradient,"
            " and training only sees gradients.",
        ),
    },
)


def _two_means(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, smallest, dtype in (
        (4, (1, 5, 7), 0.05, torch.float32),
        (3, (2, 4, 5), 1e-4, torch.float64),  # as small as variances of the posterior are
        (3, (6,), 1e-4, torch.float64),
        (1, (1, 2, 9), 0.05, torch.float32),
    ):
        mean_q, error = (torch.randn(b, *shape, generator=rng, dtype=dtype) for _ in range(2))
        var = smallest + 2 * torch.rand(b, *[1] * len(shape), generator=rng, dtype=dtype)
        var[-1] = smallest
        mean_p = mean_q + var.sqrt() * error
        if b == 3:
            mean_p[1] = mean_q[1]
        mean_q[0] += 10 * var[0].sqrt()  # far apart
        cases.append(Case({"mean_q": mean_q, "mean_p": mean_p, "var": var}, gradients=("mean_p",)))
    return cases


def _kl_squared_variance(mean_q, mean_p, var):
    return variational.kl_same_variance(mean_q, mean_p, var.square())


def _kl_standard_deviation(mean_q, mean_p, var):
    return variational.kl_same_variance(mean_q, mean_p, var.sqrt())


def _kl_without_half(mean_q, mean_p, var):
    return 2 * variational.kl_same_variance(mean_q, mean_p, var)


def _kl_averaged(mean_q, mean_p, var):
    return variational.kl_same_variance(mean_q, mean_p, var) / mean_q[0].numel()


def _kl_not_squared(mean_q, mean_p, var):
    return ((mean_q - mean_p).abs() / (2 * var)).flatten(1).sum(1)


quiz(
    "training/equal-variance-kl",
    points=2,
    minutes=3,
    equation="5.2",
    title="KL of two Gaussians of one variance",
    reference=variational.kl_same_variance,
    library=(gaussian_kl, gaussian_nll, kl_to_standard_normal, variational.variational_bound),
    cases=_two_means,
    misconceptions=[
        Misconception(
            "averaged over pixels",
            _kl_averaged,
            "Pixels are independent, so their divergences add up: a sum over everything but the batch. Nats of an "
            "image, not of a pixel.",
        ),
        Misconception("the half forgotten", _kl_without_half, "The exponent of a Gaussian is −|x − μ|² / (2 σ²)."),
        Misconception(
            "a standard deviation for the variance",
            _kl_standard_deviation,
            "`var` is σ² already: divide by it, not by its root.",
        ),
        Misconception(
            "the variance squared",
            _kl_squared_variance,
            "`var` is σ² already: it need not be squared again.",
        ),
        Misconception("a distance that isn't squared", _kl_not_squared, "It is the *squared* distance of the means."),
    ],
    hints=[
        "In (2.3) both covariances are var · I. What is left of the determinants, and of the trace minus d?",
        "Only the quadratic term is left: the distance of the means, squared, in units of the variance, halved.",
        "Pixels are independent, so divergences add up over all axes but the first; `.flatten(1)` makes one axis of"
        " them.",
        "`((mean_q - mean_p).square() / (2 * var)).flatten(1).sum(1)`",
    ],
    passed="Between Gaussians of one variance a divergence *is* a squared distance. That is why diffusion models are "
    "trained by a squared error.",
    explanation="""
    With equal covariances the determinants cancel, the trace is d and cancels too, and only the quadratic term
    remains.
    That is why a diffusion model is trained by a squared error: its divergences are all of this kind.
    """,
)


def _bound_terms(denoise, schedule, x0, generator):
    def noised(t):
        t = torch.full((len(x0),), t)
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        return schedule.add_noise(x0, t, noise), t

    left = schedule.alpha_bar[-1]
    prior = 0.5 * (left * x0.square() + (1 - left) - (1 - left).log() - 1).flatten(1).sum(1)
    steps = []
    for t in range(2, schedule.T + 1):
        x_t, t = noised(t)
        q, p = schedule.posterior(x0, x_t, t), schedule.posterior(denoise(x_t, t), x_t, t)
        steps.append(((q.mean - p.mean).square() / (2 * q.var)).flatten(1).sum(1))
    decoder = Normal(denoise(*noised(1)), schedule.snr[1].rsqrt().to(x0))
    return prior, torch.stack(steps, 1), -decoder.log_prob(x0).flatten(1).sum(1)


def _some_chains(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, curve, T in ((3, (1, 3, 4), "cosine", 6), (2, (5,), "linear", 9), (4, (2, 2, 3), "quadratic", 4)):
        x0 = 2 * torch.rand(b, *shape, generator=rng, dtype=torch.float64) - 1
        seed = int(torch.randint(1000, (), generator=rng))
        schedule = Fixture("training/schedule", curve=curve, T=T)
        given = {"denoise": Fixture("training/denoise"), "schedule": schedule, "x0": x0}
        cases.append(Case(given | {"generator": Fixture("generator", seed=seed)}))
    return cases


def _bound_averaged(denoise, schedule, x0, generator):
    return tuple(term / x0[0].numel() for term in _bound_terms(denoise, schedule, x0, generator))


def _bound_of_a_likelihood(denoise, schedule, x0, generator):
    prior, steps, decoder = _bound_terms(denoise, schedule, x0, generator)
    return prior, steps, -decoder


def _bound_half_a_prior(denoise, schedule, x0, generator):
    _, steps, decoder = _bound_terms(denoise, schedule, x0, generator)
    return 0.5 * schedule.alpha_bar[-1] * x0.square().flatten(1).sum(1), steps, decoder


def _bound_wide_decoder(denoise, schedule, x0, generator):
    prior, steps, _ = _bound_terms(denoise, schedule, x0, copy.deepcopy(generator))
    for _ in range(schedule.T - 1):
        torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    t = torch.ones(len(x0), dtype=torch.long)
    x_1 = schedule.add_noise(x0, t, torch.randn(x0.shape, generator=generator, dtype=x0.dtype))
    decoder = Normal(denoise(x_1, t), (1 / schedule.snr[1]).to(x0))
    return prior, steps, -decoder.log_prob(x0).flatten(1).sum(1)


quiz(
    "training/bound-terms",
    points=4,
    minutes=12,
    equation="5.1",
    title="Every term of the bound",
    reference=_bound_terms,
    library=(variational.variational_bound,),
    cases=_some_chains,
    any_device=False,
    misconceptions=[
        Misconception("per pixel", _bound_averaged, "Pixels are independent: their terms are added up, not averaged."),
        Misconception(
            "a likelihood for its negative",
            _bound_of_a_likelihood,
            "$L_0$ is what the model *charges*: minus the logarithm of its density.",
        ),
        Misconception(
            "a prior of variance 1 on both sides",
            _bound_half_a_prior,
            "q(x_T | x_0) has the mean √ᾱ_T x_0 *and* the variance 1 − ᾱ_T: its divergence from N(0, I) has a term "
            "for each of them, as in (2.4).",
        ),
        Misconception(
            "variance for standard deviation",
            _bound_wide_decoder,
            "`Normal` takes a standard deviation: the root of 1 / SNR_1.",
        ),
    ],
    hints=[
        "Three parts. Which of them need the network, and which draw noise?",
        "L_T: mean √ᾱ_T x_0 and variance 1 − ᾱ_T against N(0, I), by (2.4), summed over pixels.",
        "L_{t−1}: `schedule.posterior(x0, x_t, t)` is q; the same with the guess in the place of x0 is p. Your "
        "`kl_same_variance` compares their means.",
        "L_0: `-Normal(guess, schedule.snr[1].rsqrt().to(x0)).log_prob(x0)`, summed over pixels.",
        "In the loop: `q, p = schedule.posterior(x0, x_t, t), schedule.posterior(denoise(x_t, t), x_t, t)`, then "
        "`steps.append(kl_same_variance(q.mean, p.mean, q.var))`, and at the end `torch.stack(steps, 1)`.",
    ],
    passed="You have just computed a bound on the likelihood of a diffusion model. In nats per image it is what such "
    "models are compared by where likelihood is the question.",
    explanation="""
    Only `denoise` is learned; all else is arithmetic on the schedule. The library's `variational_bound` does the same
    with differences of signal-to-noise ratios, equation (5.3), and without ever building a posterior.
    """,
)

# ----------------------------------------------------------------------------------- 5.2 · the weight that was dropped


def _some_steps(rng: torch.Generator) -> list[Case]:
    cases = []
    for name, T, b in (("linear", 1000, 6), ("cosine", 50, 4), ("quadratic", 200, 1), ("sigmoid", 50, 5)):
        t = torch.randint(2, T + 1, (b,), generator=rng)
        if b > 2:
            t[0], t[1] = 1, 2
        t[-1] = T
        cases.append(Case({"schedule": Fixture("training/schedule", curve=name, T=T), "t": t}))
    return cases


def _weight_of_x0(schedule, t):
    snr = schedule.snr
    return torch.where(t == 1, 0.5, 0.5 * (snr[t - 1] - snr[t]))


def _weight_without_half(schedule, t):
    return 2 * variational.bound_weight(schedule, t)


def _weight_upside_down(schedule, t):
    snr = schedule.snr
    return torch.where(t == 1, 0.5, 0.5 * (1 - snr[t] / snr[t - 1]))


def _weight_without_one(schedule, t):
    snr = schedule.snr
    return torch.where(t == 1, 0.5, 0.5 * snr[t - 1] / snr[t])


def _weight_infinite_at_one(schedule, t):
    snr = schedule.snr
    return 0.5 * (snr[t - 1] / snr[t] - 1)


def _weight_of_beta(schedule, t):
    """Ho et al.'s other choice of the variance, σ_t² = β_t."""
    beta, alpha, alpha_bar = schedule.beta[t], schedule.alpha[t], schedule.alpha_bar[t]
    return torch.where(t == 1, 0.5, beta / (2 * alpha * (1 - alpha_bar)))


quiz(
    "training/bound-weight",
    points=3,
    minutes=4,
    equation="5.3",
    title="The weight of the bound",
    reference=variational.bound_weight,
    library=(variational.variational_bound,),
    cases=_some_steps,
    misconceptions=[
        Misconception(
            "the weight of an error in x0",
            _weight_of_x0,
            "½ (SNR_{t−1} − SNR_t) is the weight of |x0 − x̂0|². An error in the noise is SNR_t times larger, so "
            "divide "
            "by SNR_t.",
        ),
        Misconception("the half forgotten", _weight_without_half, "The ½ of the divergence stays."),
        Misconception(
            "the ratio upside down",
            _weight_upside_down,
            "SNR falls with t, so SNR_{t−1}/SNR_t is above 1. You divided by SNR_{t−1}.",
        ),
        Misconception("the 1 forgotten", _weight_without_one, "It is the *difference* of two SNRs, divided by one."),
        Misconception(
            "infinite at t = 1",
            _weight_infinite_at_one,
            "SNR_0 is infinite, but step 1 is L_0, which is no divergence: its weight is ½. `torch.where` helps.",
        ),
        Misconception(
            "the other variance",
            _weight_of_beta,
            "That is the weight for σ_t² = β_t, as the DDPM paper prints it. Here p has the variance of q, which "
            "makes "
            "β_t / (2 α_t (1 − ᾱ_{t−1})): the last index is t − 1.",
        ),
    ],
    hints=[
        "How large is an error in x0 if the error in the noise is 1? Solve (3.4) for x0, once with ε and once with ε̂.",
        "|ε − ε̂|² = SNR_t · |x0 − x̂0|². So w_t is the weight in front of |x0 − x̂0|², divided by SNR_t.",
        "`schedule.snr[t]` and `schedule.snr[t - 1]` take one entry for each step of t. What happens at t = 1?",
        "`torch.where(t == 1, 0.5, 0.5 * (snr[t - 1] / snr[t] - 1))`",
    ],
    passed="The ratio of two neighbouring signal-to-noise ratios, minus one, halved: how much clearer the image "
    "becomes in one step back.",
    explanation="""
    The ratio of two neighbouring signal-to-noise ratios, minus one, halved: how much clearer the image becomes in one
    step back. In Ho et al.'s symbols it is β_t² / (2 σ_t² α_t (1 − ᾱ_t)) with σ_t² the posterior variance.
    """,
)

concept(
    "training/dropped-weight",
    minutes=1,
    title="What was dropped",
    equation="5.3",
    question=r"""
    The simple loss counts an error in $\varepsilon$ equally at every $t$. Compared with the bound, on the linear
    schedule, where does a network of limited capacity now spend more of it?
    """,
    options={
        "a": Option(
            "Nowhere: a positive factor in front of a term doesn't move its minimum.",
            "It doesn't for a network that can be perfect at every $t$ separately. One network with few weights "
            "serves all $t$ at once, and there the factors decide who is served first.",
        ),
        "b": Option(
            "At small $t$, where the noise is hard to tell from details of the image.",
            "The bound is what weighs small $t$ heavily: it cares for the last bits of every grey value. The simple"
            " loss takes that weight away.",
        ),
        "c": Option(
            "At $t=T$ alone, since that is where every one of the samples begins.",
            "It counts more there, too; but so do hundreds of other steps. The bound's weight is low everywhere "
            "except at its left end.",
        ),
        "d": Option(
            "At medium and large $t$, where it is decided what the image shows.",
            "Right. The bound pays for every nat, and most nats are in imperceptible detail. Shares of the weight "
            "move from there to the steps that decide about shapes; that is why samples of the simple loss look "
            "better while its bound is worse (Ho et al. 2020, table 1).",
            right=True,
        ),
    },
)

# --------------------------------------------------------------------------------------------------- 5.3 · Algorithm 1


def _algorithm_1(model, x0, t, noise, schedule):
    return library.DISTANCES["l2"](model(schedule.add_noise(x0, t, noise), t), noise).mean()


def _training_batches(rng: torch.Generator) -> list[Case]:
    cases = []
    for seed, (x0, t, noise, schedule) in enumerate(_batches(rng)):
        double = x0.dtype == torch.float64
        model = Fixture("training/tiny", channels=x0.shape[1], double=double, seed=seed)
        args = {"model": model, "x0": x0, "t": t, "noise": noise, "schedule": schedule}
        cases.append(Case(args, gradients=("model",)))
    return cases


def _loss_against_x0(model, x0, t, noise, schedule):
    return (x0 - model(schedule.add_noise(x0, t, noise), t)).square().mean()


def _loss_against_x_t(model, x0, t, noise, schedule):
    x_t = schedule.add_noise(x0, t, noise)
    return (x_t - model(x_t, t)).square().mean()


def _loss_clean_input(model, x0, t, noise, schedule):
    return (noise - model(x0, t)).square().mean()


def _loss_summed(model, x0, t, noise, schedule):
    return (noise - model(schedule.add_noise(x0, t, noise), t)).square().flatten(1).sum(1).mean()


def _loss_root(model, x0, t, noise, schedule):
    return _algorithm_1(model, x0, t, noise, schedule).sqrt()


def _loss_variance_for_sigma(model, x0, t, noise, schedule):
    alpha_bar = schedule.alpha_bar_at(t, x0)
    return (noise - model(alpha_bar.sqrt() * x0 + (1 - alpha_bar) * noise, t)).square().mean()


def _loss_previous_step(model, x0, t, noise, schedule):
    return (noise - model(schedule.add_noise(x0, t, noise), t - 1)).square().mean()


def _loss_one_step_for_all(model, x0, t, noise, schedule):
    t = t[:1].expand(len(t))
    return _algorithm_1(model, x0, t, noise, schedule)


def _loss_target_noised(model, x0, t, noise, schedule):
    """The loss asks for the noise as it was scaled, √(1−ᾱ) ε, not for ε."""
    alpha_bar = schedule.alpha_bar_at(t, x0)
    return ((1 - alpha_bar).sqrt() * noise - model(schedule.add_noise(x0, t, noise), t)).square().mean()


quiz(
    "training/algorithm-1",
    points=4,
    minutes=3,
    equation="5.4",
    title="Algorithm 1",
    reference=_algorithm_1,
    library=(library.diffusion_loss,),
    cases=_training_batches,
    misconceptions=[
        Misconception(
            "compared with the clean image",
            _loss_against_x0,
            "The network is asked for the noise here; you compared its answer with x0.",
        ),
        Misconception(
            "compared with its own input",
            _loss_against_x_t,
            "You compare the answer with x_t. A network learns to copy in no time, the loss falls beautifully, and "
            "nothing has been learned.",
        ),
        Misconception("fed with the clean image", _loss_clean_input, "The network must see x_t, not x0."),
        Misconception(
            "summed over pixels",
            _loss_summed,
            "(5.4) as we use it is a mean over pixels, so that the learning rate doesn't depend on the image size.",
        ),
        Misconception("a root", _loss_root, "The mean of the squares, without a root."),
        Misconception(
            "variance for standard deviation",
            _loss_variance_for_sigma,
            "The noise in x_t is scaled by √(1 − ᾱ_t), a standard deviation. `schedule.add_noise` does it right.",
        ),
        Misconception(
            "the step before", _loss_previous_step, "The network gets the same t that the image was made with."
        ),
        Misconception(
            "one step for all images", _loss_one_step_for_all, "Every image has its own t; you used the first for all."
        ),
        Misconception(
            "scaled noise as the target",
            _loss_target_noised,
            "ε itself, of variance 1 at every t, is the target, not √(1 − ᾱ_t) ε.",
        ),
    ],
    hints=[
        "Three lines: make x_t, ask the network, compare. What is it compared with?",
        "The network sees the noisy image and its step, nothing else; the clean image is used only to make x_t.",
        "`schedule.add_noise(x0, t, noise)` is (3.4), which you wrote in notebook 03. The network is called as "
        "`model(x_t, t)`.",
        "`(noise - model(x_t, t)).square().mean()`",
    ],
    passed="One noised image, one answer, one squared error: no chain is walked, no integral estimated. What is "
    "missing is a loop around it.",
    explanation="""
    That is all of Algorithm 1 except for the draws and the optimizer step. No chain is walked, no integral is
    estimated, no second network is needed: one noised image, one answer, one squared error.
    """,
)

# -------------------------------------------------------------------------------------------------- 5.3 · the loop


def _train(model, loss, batch, optimizer, steps, generator):
    losses = []
    for _ in training.until_stopped(range(steps)):
        x = batch(generator)
        value = loss(model, x, generator)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def _trainings(rng: torch.Generator) -> list[Case]:
    cases = []
    for name, steps, b, shape in (("sgd", 5, 3, (1, 4, 6)), ("momentum", 7, 5, (2, 3, 4)), ("adam", 4, 1, (1, 5, 3))):
        seed = int(torch.randint(1000, (), generator=rng))
        cases.append(
            Case(
                {
                    "model": Fixture("training/tiny", channels=shape[0], seed=seed),
                    "loss": Fixture("training/loss"),
                    "batch": Fixture("training/batch", b=b, shape=shape),
                    "optimizer": name,
                    "steps": steps,
                    "generator": Fixture("generator", seed=seed),
                },
                label=f"{steps} steps of {name} on batches of {b} images {shape}",
            )
        )
    return cases


def _after_training(answer, model, loss, batch, optimizer, steps, generator):
    losses = answer(model, loss, batch, _optimizer(optimizer, model), steps, generator)
    if losses is None:
        return None
    # The next number tells how many were drawn.
    return {"losses": losses, "weights": _weights(model), "next draw": torch.rand(2, generator=generator)}


def _train_adding_up(model, loss, batch, optimizer, steps, generator):
    losses = []
    for _ in range(steps):
        value = loss(model, batch(generator), generator)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def _train_on_one_batch(model, loss, batch, optimizer, steps, generator):
    x = batch(generator)
    return _train(model, loss, lambda generator: x, optimizer, steps, generator)


def _train_step_too_few(model, loss, batch, optimizer, steps, generator):
    return _train(model, loss, batch, optimizer, steps - 1, generator)


def _train_step_first(model, loss, batch, optimizer, steps, generator):
    losses = []
    for _ in range(steps):
        x = batch(generator)
        optimizer.step()
        optimizer.zero_grad()
        value = loss(model, x, generator)
        value.backward()
        losses.append(value.item())
    return losses


def _train_keeping_graphs(model, loss, batch, optimizer, steps, generator):
    losses = []
    for _ in range(steps):
        value = loss(model, batch(generator), generator)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value)
    return losses


quiz(
    "training/loop",
    points=3,
    minutes=6,
    equation="5.4",
    title="A loop that trains anything",
    reference=_train,
    library=(training.fit, training.train),
    cases=_trainings,
    probe=_after_training,
    misconceptions=[
        Misconception(
            "gradients of all steps added up",
            _train_adding_up,
            "`.backward()` *adds* to the gradients that are there. Without `optimizer.zero_grad()` every step "
            "follows "
            "the sum of all gradients so far.",
        ),
        Misconception(
            "one batch for all steps",
            _train_on_one_batch,
            "`batch(generator)` gives one batch. Call it in every step, or the network learns these few images by "
            "heart.",
        ),
        Misconception("one step too few", _train_step_too_few, "Count the steps: `steps` of them are made."),
        Misconception(
            "the step before the gradient",
            _train_step_first,
            "`optimizer.step()` uses the gradients that stand in the weights. Compute them first.",
        ),
        Misconception(
            "losses as tensors",
            _train_keeping_graphs,
            "Return numbers: `value.item()`. A loss kept as a tensor keeps its whole graph alive, and memory runs "
            "full.",
        ),
    ],
    hints=[
        "Five things happen in a step: a batch, its loss, cleared gradients, new gradients, a step. Then the loss "
        "is noted.",
        "What does `.backward()` do with gradients that are there already?",
        "The order that counts: `zero_grad` before `backward`, `backward` before `step`.",
        "`x = batch(generator)`, `value = loss(model, x, generator)`, `optimizer.zero_grad()`, `value.backward()`, "
        "`optimizer.step()`, `losses.append(value.item())`",
    ],
    passed="These lines train everything from a straight line to Stable Diffusion. What differs is the loss, and what "
    "stands around them.",
    explanation="""
    `zero_grad` may stand anywhere between two backward passes. `until_stopped` lets the stop button end the loop
    after a
    whole step, so that no weight is caught half-way.
    """,
)


def _draw_examples(x0, schedule, generator):
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=x0.device)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    return schedule.add_noise(x0, t, noise), t, noise


def _calls(x0: torch.Tensor) -> int:
    """How often the answer is called: some 3,000 images, fewer if they are large, which take a moment."""
    return min(300, 3000 // len(x0), 120_000 // x0.numel())


def _draw_often(answer, x0, schedule, generator) -> dict | None:
    return repeated(lambda x0: answer(x0, schedule, generator), x0, generator, _calls(x0))


def _about_draws(raw, case: Case) -> dict[str, bool | str]:
    """What can be said about many draws, however they are made: each step its own coin, or dealt out evenly."""
    x0, schedule = case.args["x0"], case.args["schedule"].build()
    images, steps = (tuple(x0.shape), ("float32",)), ((len(x0),), ("int64", "int32"))
    form = {"x_t": images, "t": steps, "noise": images}
    (x_t, _), (t, own_steps), (noise, own_noise) = drawn(raw, form, _calls(x0))
    left = schedule.alpha_bar.numpy()[t.clip(0, schedule.T)][..., None, None, None]
    made = left**0.5 * x0.numpy() + (1 - left) ** 0.5 * noise
    return {
        "every call draws new steps": from_call_to_call(t.astype(float)),
        "every call draws new noise": from_call_to_call(noise.reshape(len(noise), -1)),
        **_about_steps(t, schedule.T),
        **_about_noise(noise, t),
        "x_t is what (3.4) makes of x0 with this t and this noise": bool(np.abs(made - x_t).max() < 1e-3),
        "the steps come from the generator": own_steps,
        "the noise comes from the generator": own_noise,
    }


EACH, SOME, ALL = "for each image", "for several images together", "for all images of a batch together"
LATER = "for several calls"
MANY = 36  # pixels of an image that are compared with one another, each with each


def _about_steps(t: np.ndarray, T: int) -> dict[str, bool | str]:
    """t: (calls, b). What is dealt out evenly is nowhere further off than what is drawn."""
    said = {"no step is below 1": bool(t.min() >= 1), "no step is above T": bool(t.max() <= T)}
    if t.shape[1] > 1:
        pairs = t.shape[1] * (t.shape[1] - 1) / 2
        equal = sum((t[:, i:] == t[:, :-i]).sum() for i in range(1, t.shape[1])) / len(t) / pairs
        by_chance = ((np.unique(t, return_counts=True)[1] / t.size) ** 2).sum()
        most = 1.5 * by_chance + SIGMAS * (by_chance / pairs / len(t)) ** 0.5
        said["for whom a step is drawn"] = ALL if equal == 1 else EACH if equal < most else SOME
        said["the steps of a batch lie far apart"] = bool(t.var(1, ddof=1).mean() > 0.6 * t.var())
        said["every image of a batch may get any step"] = _alike_in_turn(t) or _dealt_out(t, T)
    return said | {"how often the steps come": _how_often(t, T)}


def _alike_in_turn(t: np.ndarray) -> bool:
    """Whether the first, the second … image of a batch get steps of the same mean and variance."""
    z = standardised(t.astype(float))
    least = SIGMAS / len(t) ** 0.5
    return bool(np.abs(z.mean(0)).max() < least and np.abs((z**2).mean(0) - 1).max() < least)


def _dealt_out(t: np.ndarray, T: int) -> bool:
    """Whether every batch has one step in each b-th of 1..T, in order: so the library draws them for its training."""
    return bool(np.abs((t - 1) / T - np.arange(t.shape[1]) / t.shape[1]).max() <= 1 / t.shape[1] + 1 / T)


def _how_often(t: np.ndarray, T: int) -> str:
    for low, high, words in ((1, T, "1 to T"), (0, T - 1, "0 to T - 1"), (1, T - 1, "1 to T - 1")):
        bins = min(high - low + 1, 10)
        place = (t - low) * bins // (high - low + 1)
        size = np.bincount(np.arange(high - low + 1) * bins // (high - low + 1)) / (high - low + 1)
        within = t.min() >= low and t.max() <= high and not too_few_values(t, high - low + 1)
        if within and all(as_often(place == k, size[k]) for k in range(bins)):
            return f"{words}, all equally often"
    return "some more often than others"


def _about_noise(noise: np.ndarray, t: np.ndarray) -> dict[str, bool | str]:
    """noise: (calls, b, c, h, w). It is standardised first: a wrong mean or variance is one mistake, not many."""
    calls, b = noise.shape[:2]
    z = standardised(noise)
    images, places, squares = z.reshape(calls, b, -1), z.reshape(calls, -1), standardised(z**2)
    strength = squares.reshape(calls, b, -1).mean(2)
    step = standardised(t.astype(float))
    whom, excess = _for_whom(images), [*map(_excess, [*_groups(z), *_groups(squares)])]
    offset = whom == EACH and max(excess) > SIGMAS  # what images share is another matter
    return {
        "the noise is alike at every place": _alike(places),
        "for whom noise is drawn": whom,
        "the noise is taken as it is drawn, not normalised": min(excess) > -SIGMAS,
        "each pixel has noise of its own": uncorrelated(_some_pixels(images)) and _apart(z) and not offset,
        "the noise has nothing to do with the step": fits(step * images.mean(2), 0, 0) and fits(step * strength, 0, 0),
        "the noise of every image is equally strong": off(strength**2 * images.shape[2], 1, 4) < SIGMAS,
        "how the noise is distributed": _distribution(noise, z),
    }


def _groups(z: np.ndarray) -> list[np.ndarray]:
    """z: (calls, b, c, h, w), as (calls, groups, numbers): by image, by channel of an image, by pixel, by batch."""
    calls, b, c = z.shape[:3]
    images = z.reshape(calls, b, -1)
    groups = [images, z.reshape(calls, b * c, -1), images.swapaxes(1, 2), images.reshape(calls, 1, -1)]
    return [group for group in groups if group.shape[2] > 1]


def _excess(group: np.ndarray) -> float:
    """By how many standard errors the means of groups differ more than those of independent numbers do."""
    return off(group.mean(2) ** 2 * group.shape[2], 1, 4)


def _some_pixels(images: np.ndarray) -> np.ndarray:
    """images: (calls, b, n), as (calls, pixels, b)."""
    return images[..., :: max(1, images.shape[2] // MANY)].swapaxes(1, 2)


def _apart(z: np.ndarray) -> bool:
    """Whether neighbours in a row, and in a column, have nothing to do with each other. z: (calls, b, c, h, w)."""
    return fits(z[..., 1:] * z[..., :-1], 0, 1) and fits(z[..., 1:, :] * z[..., :-1, :], 0, 1)


def _for_whom(images: np.ndarray) -> str:
    """images: (calls, b, n)."""
    if images.shape[1] > 1 and (images == images[:, :1]).all():
        return ALL
    found = [{image.tobytes() for image in batch} for batch in images]
    if len(np.unique(images[:30])) > 100:  # of few numbers there are copies by chance
        if min(map(len, found)) < images.shape[1]:
            return SOME
        if len(set().union(*found)) < sum(map(len, found)):
            return LATER
    return EACH if uncorrelated(images) else SOME


def _alike(places: np.ndarray) -> bool:
    """places: (calls, n). The bounds for a variance are wide: a few hundred calls leave it uncertain."""
    means, variances = np.abs(places.mean(0)), places.var(0)
    return bool(means.max() < SIGMAS / len(places) ** 0.5 and variances.min() > 0.1 and variances.max() < 2.2)


def _distribution(noise: np.ndarray, z: np.ndarray) -> str:
    if noise.min() >= 0 and noise.max() <= 1 and all(as_often((10 * noise).astype(int) == k, 0.1) for k in range(10)):
        return "uniform from 0 to 1"
    if not fits(noise, 0, 1):
        return "with another mean than 0"
    if not fits(noise**2, 1, 2):
        return "with another variance than 1"
    return "standard normal" if looks_normal(z) and _fine(noise) else "with mean 0 and variance 1, but not normal"


def _fine(noise: np.ndarray) -> bool:
    """Whether the numbers are not rounded, to thousandths or more coarsely."""
    return bool(np.diff(np.unique(noise.reshape(-1)[:10_000])).min(initial=1) < 5e-4)


def _some_images(rng: torch.Generator) -> list[Case]:
    return [
        Case(
            {
                "x0": 2 * torch.rand(b, *shape, generator=rng) - 1,
                "schedule": Fixture("training/schedule", curve=name, T=T),
                "generator": Fixture("generator", seed=int(torch.randint(1000, (), generator=rng))),
            },
            label=f"many batches of {b} images {shape} with T = {T}",
        )
        for b, shape, name, T in (
            (24, (1, 3, 5), "cosine", 10),
            (15, (3, 4, 2), "linear", 1000),
            (6, (2, 3, 6), "cosine", 60),  # so few that each of them is seen
            (1, (1, 2, 4), "quadratic", 4),
            (6, (1, 12, 16), "linear", 20),  # so many pixels that what a little of them have in common is seen
        )
    ]


def _draw_once(x0, schedule, generator):
    t = torch.randint(1, schedule.T + 1, (1,), generator=generator, device=x0.device).expand(len(x0))
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    return schedule.add_noise(x0, t, noise), t, noise


def _draw_from_zero(x0, schedule, generator):
    t = torch.randint(0, schedule.T, (len(x0),), generator=generator, device=x0.device)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    return schedule.add_noise(x0, t, noise), t, noise


def _draw_without_last(x0, schedule, generator):
    t = torch.randint(1, schedule.T, (len(x0),), generator=generator, device=x0.device)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    return schedule.add_noise(x0, t, noise), t, noise


def _draw_uniform_noise(x0, schedule, generator):
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=x0.device)
    noise = torch.rand(x0.shape, generator=generator, device=x0.device)
    return schedule.add_noise(x0, t, noise), t, noise


def _draw_shared_noise(x0, schedule, generator):
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=x0.device)
    noise = torch.randn(x0[:1].shape, generator=generator, device=x0.device).expand_as(x0)
    return schedule.add_noise(x0, t, noise), t, noise


quiz(
    "training/restless",
    points=3,
    minutes=4,
    equation="5.4",
    title="Bug hunt: the restless loss",
    bug_hunt=True,
    reference=_draw_examples,
    cases=_some_images,
    probe=_draw_often,
    measured=_about_draws,
    library=(library.diffusion_loss,),
    misconceptions=[
        Misconception(
            "one step for the whole batch",
            _draw_once,
            "t is still drawn once and then repeated: all images of a batch sit at one noise level, and the gradient "
            "of a step says nothing about the others.",
        ),
        Misconception(
            "steps from 0 to T − 1",
            _draw_from_zero,
            "At t = 0 there is no noise to find, and T, where sampling begins, never comes. Steps run from 1 to T; "
            "`torch.randint` leaves out its upper end.",
        ),
        Misconception(
            "step T left out", _draw_without_last, "`torch.randint(low, high)` stops *before* high: T never comes."
        ),
        Misconception(
            "uniform noise", _draw_uniform_noise, "`torch.rand` is uniform in [0, 1]; noise is `torch.randn`."
        ),
        Misconception(
            "one noise for the whole batch",
            _draw_shared_noise,
            "Each image needs noise of its own, as it needs its own t.",
        ),
    ],
    hints=[
        "The loss of one step depends on the noise levels that it saw. When would it jump from step to step?",
        "Follow the shapes: what has one entry per image, and what hasn't?",
        "Broadcasting hides it: something of shape (1, 1, 1, 1) multiplies a batch without a complaint.",
        "`(1,)` is the shape of what is drawn. One step per image has the shape `(count,)`.",
    ],
    passed="Nothing crashed, because broadcasting made one number fit a whole batch. Read shapes, not only names.",
    explanation="""
    One step for all images is not biased: over many batches every t comes equally often, and training even works
    after a fashion. But a batch of 64 then carries the information of one noise level, and the loss jumps from step to
    step with the t that was drawn. It costs steps, and nobody sees it in the code's output.
    """,
)

concept(
    "training/restless-effect",
    minutes=1,
    title="What does it cost?",
    equation="5.4",
    question="""
    A colleague has trained with the code as it was, for as many steps as you. What has it done to her network?
    """,
    options={
        "a": Option(
            "It is biased: noise levels that come up early are learned better than the rest.",
            "Every $t$ comes equally often over many batches, so the *mean* gradient is the right one. No level is "
            "preferred.",
        ),
        "b": Option(
            "It is unbiased but noisy: each step hears about one level, so it learns more slowly.",
            "Right. On average the gradient is the same, but a step follows that of one noise level alone. A larger"
            " batch hardly helps, since all of its images share the level; only averaging over more batches does.",
            right=True,
        ),
        "c": Option(
            "It knows one noise level only, the one that was drawn first, and guesses at others.",
            "t is drawn anew in each call. Within a *batch* there is one level, over the training all of them.",
        ),
        "d": Option(
            "It is the same: a mean over many batches doesn't depend on how each one is drawn.",
            "The mean doesn't, but a step follows one batch, and its variance is many times larger. You will see "
            "how many.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 5.4 · the wrong pair


quiz(
    "training/easy-loss",
    points=3,
    minutes=4,
    equation="5.4",
    title="Bug hunt: the easy loss",
    bug_hunt=True,
    reference=_algorithm_1,
    library=(library.diffusion_loss,),
    cases=_training_batches,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _loss_against_x_t,
            "It still compares the network's answer with what the network was given. Which tensor was it asked for?",
        ),
        Misconception(
            "compared with the clean image",
            _loss_against_x0,
            "That would train a network that predicts x0; this one is asked for the noise.",
        ),
    ],
    hints=[
        "Which network would have a loss of exactly 0 here? Is it one that you would want?",
        "The guess must be compared with the noise that was *added*. Follow that tensor from the first line to the "
        "last.",
        "A name that is used for two things: what does `noise` hold in the line that compares?",
        "Give the noisy image a name of its own: `x_t = signal_rate * x0 + noise_rate * noise`, then `model(x_t, t)`.",
    ],
    passed="A loss can be low because the task is easy. Before you trust one, ask which network would bring it to 0.",
    explanation="""
    Compared with its own input the network learns to copy, which can be done on images it has never seen: the loss
    ends far below the right one. In a sampler, the "predicted noise" is all of x_t, and what is left for the image is
    a paler x_t.
    """,
)

concept(
    "training/easy-loss-effect",
    minutes=1,
    title="What would it generate?",
    equation="5.6",
    question="""
    Suppose that a network has brought the shared loss to exactly 0, and a sampler starts from pure noise. Which
    picture comes out?
    """,
    options={
        "a": Option(
            "The noise that it started from, only paler.",
            "Right. The guess of the noise is all of $x_t$, so next to nothing is left for the image: $\\hat x_0$ "
            "is a paler $x_t$. In the limit of many small steps exactly half of the starting noise comes out.",
            right=True,
        ),
        "b": Option(
            "Sharp images, but always the same few.",
            "That would be a network that learned the training images by heart. This one has learned nothing about "
            "images: it copies what it is given.",
        ),
        "c": Option(
            "The mean image of all training data.",
            "That is what a network says that ignores its input. This one repeats its input.",
        ),
        "d": Option(
            "Inverted images: bright becomes dark.",
            "The sign of a copy is right. There is no image in it to be inverted.",
        ),
    },
)

concept(
    "training/copying",
    minutes=1,
    title="At the noisy end",
    question=r"""
    At $t = T$, with $\bar\alpha_T\approx 0$, a network that is asked for ε returns its input unchanged. What do you
    say?
    """,
    options={
        "a": Option(
            "It has learned to denoise there, since its loss at $T$ is almost 0.",
            "The loss is almost 0 because there $x_T\\approx\\varepsilon$. What does that answer say about the image?",
        ),
        "b": Option(
            "It is faulty, since the answer of a denoiser ought to be an image.",
            "It is exactly what (5.4) asks for at that end.",
        ),
        "c": Option(
            "It has almost the best loss there is, and knows nothing of the image.",
            "Right. Turned into an image its answer is divided by $\\sqrt{\\bar\\alpha_T}\\approx0$. A network "
            "asked for $x_0$ has the hardest task there, and the best it can say is about the mean of the data.",
            right=True,
        ),
        "d": Option(
            "It is of no importance, since a sampler never uses the last step.",
            "Sampling *begins* at $T$, and an error there is carried through all later steps.",
        ),
    },
)

# ---------------------------------------------------------------------------------------------------- 5.5 · the targets


def _v_target(x0, noise, t, schedule):
    return library.prediction_target(schedule, "v", x0, noise, t)


def _to_x0(prediction_type, output, x_t, t, schedule):
    return library.predict_x0(schedule, prediction_type, output, x_t, t)


def _clean_and_noise(rng: torch.Generator) -> list[Case]:
    return [
        Case({"x0": x0, "noise": noise, "t": t, "schedule": schedule}, gradients=("x0",))
        for x0, t, noise, schedule in _batches(rng)
    ]


def _v_sign(x0, noise, t, schedule):
    return -_v_target(x0, noise, t, schedule)


def _v_exchanged(x0, noise, t, schedule):
    a = schedule.alpha_bar_at(t, x0)
    return a.sqrt() * x0 - (1 - a).sqrt() * noise


def _v_is_x_t(x0, noise, t, schedule):
    return schedule.add_noise(x0, t, noise)


def _v_without_roots(x0, noise, t, schedule):
    a = schedule.alpha_bar_at(t, x0)
    return a * noise - (1 - a) * x0


def _v_rates_exchanged(x0, noise, t, schedule):
    a = schedule.alpha_bar_at(t, x0)
    return (1 - a).sqrt() * noise - a.sqrt() * x0


quiz(
    "training/v-target",
    points=2,
    minutes=2,
    equation="5.5",
    title="The target v",
    reference=_v_target,
    library=MIXING,
    answered_by=("training/to-x0",),
    cases=_clean_and_noise,
    misconceptions=[
        Misconception("the other sign", _v_sign, "√ᾱ_t · ε comes with a plus, √(1−ᾱ_t) · x0 with a minus."),
        Misconception(
            "image and noise exchanged",
            _v_exchanged,
            "At t near 0 (ᾱ near 1) v must be the noise, which x_t hides there; yours is the image.",
        ),
        Misconception("x_t itself", _v_is_x_t, "A plus makes x_t; v is the other combination, at a right angle to it."),
        Misconception("roots forgotten", _v_without_roots, "The rates are √ᾱ_t and √(1 − ᾱ_t), as in (3.4)."),
        Misconception(
            "rates exchanged",
            _v_rates_exchanged,
            "In v the *signal* rate √ᾱ_t goes with the noise, and the noise rate with the image.",
        ),
    ],
    hints=[
        "The derivative of the cosine is minus the sine, that of the sine is the cosine.",
        "`signal_rate, noise_rate = schedule.rates(t, x0)` are cos φ and sin φ, shaped to multiply a batch.",
        "At t = 0 the velocity points towards the noise, at T away from the image.",
        "`signal_rate * noise - noise_rate * x0`",
    ],
    passed="At t = 0 v is the noise, at T it is −x0: at both ends the network is asked for what it can't read off its "
    "input.",
    explanation="""
    (x_t, v) is (x0, ε) turned by an angle whose cosine is √ᾱ_t. At t = 0 v is the noise, at T it is −x0: at both ends
    the network is asked for what it cannot read off its input.
    """,
)


def _answers(rng: torch.Generator) -> list[Case]:
    cases = []
    for (x_t, t, output, schedule), kinds in zip(
        _batches(rng), (("v", "noise"), ("noise", "v"), ("v", "x0"), ("noise", "x0"))
    ):
        for prediction_type in kinds:
            args = {"prediction_type": prediction_type, "output": output, "x_t": x_t, "t": t, "schedule": schedule}
            cases.append(Case(args, gradients=("output",)))
    return cases


def _x0_only_from_v(prediction_type, output, x_t, t, schedule):
    a = schedule.alpha_bar_at(t, x_t)
    return a.sqrt() * x_t - (1 - a).sqrt() * output


def _x0_not_divided(prediction_type, output, x_t, t, schedule):
    a = schedule.alpha_bar_at(t, x_t)
    if prediction_type == "noise":
        return x_t - (1 - a).sqrt() * output
    return _to_x0(prediction_type, output, x_t, t, schedule)


def _x0_only_from_noise(prediction_type, output, x_t, t, schedule):
    if prediction_type == "x0":
        return output
    return library.predict_x0(schedule, "noise", output, x_t, t)


def _x0_v_plus(prediction_type, output, x_t, t, schedule):
    a = schedule.alpha_bar_at(t, x_t)
    if prediction_type == "v":
        return a.sqrt() * x_t + (1 - a).sqrt() * output
    return _to_x0(prediction_type, output, x_t, t, schedule)


def _x0_noise_unscaled(prediction_type, output, x_t, t, schedule):
    a = schedule.alpha_bar_at(t, x_t)
    if prediction_type == "noise":
        return (x_t - (1 - a) * output) / a.sqrt()
    return _to_x0(prediction_type, output, x_t, t, schedule)


def _x0_clipped(prediction_type, output, x_t, t, schedule):
    return _to_x0(prediction_type, output, x_t, t, schedule).clamp(-1, 1)


quiz(
    "training/to-x0",
    points=3,
    minutes=4,
    equation="5.6",
    title="From any answer to a clean image",
    reference=_to_x0,
    library=MIXING,
    answered_by=("training/v-target",),
    cases=_answers,
    misconceptions=[
        Misconception(
            "every answer taken for v",
            _x0_only_from_v,
            "Look at `prediction_type`: the three answers need three formulas.",
        ),
        Misconception(
            "v taken for noise",
            _x0_only_from_noise,
            'For "v" nothing is divided: √ᾱ_t · x_t − √(1−ᾱ_t) · v. You used the formula of ε.',
        ),
        Misconception(
            "not divided by √ᾱ_t",
            _x0_not_divided,
            "What is left after taking the noise away is √ᾱ_t · x0, not yet x0.",
        ),
        Misconception(
            "v with a plus", _x0_v_plus, "√ᾱ_t · x_t *minus* √(1−ᾱ_t) · v; put (3.4) and (5.5) in to see it."
        ),
        Misconception(
            "1 − ᾱ_t without its root", _x0_noise_unscaled, "The noise in x_t has the standard deviation √(1−ᾱ_t)."
        ),
        Misconception(
            "clipped",
            _x0_clipped,
            "Clipping to [-1, 1] is the sampler's business (notebook 06); a conversion is exact.",
        ),
    ],
    hints=[
        'For "x0" there is nothing to do. For "noise", solve (3.4) for x0.',
        "A turn is undone by turning back: x0 is a combination of x_t and v with the same two rates.",
        'For "v": multiply (3.4) by √ᾱ_t and (5.5) by √(1−ᾱ_t) and subtract. The noise cancels.',
        '`signal_rate * x_t - noise_rate * output` for "v", with `signal_rate, noise_rate = schedule.rates(t, x_t)`.',
    ],
    passed="From here on nobody has to ask what a network predicts: every answer becomes a denoiser.",
    explanation="""
    Whatever a network predicts becomes a denoiser (x_t, t) → x̂0 this way, and no sampler needs to know which it was.
    """,
)

concept(
    "training/low-loss",
    minutes=1,
    title="Two losses",
    question="""
    Two colleagues train the same network on the same images. One predicts ε and reports a loss of 0.05, the other
    predicts v and reports 0.11. Whose samples are better?
    """,
    options={
        "a": Option(
            "The first one's: 0.05 is less than half of 0.11.",
            "Half of what? An error of 0.05 in ε at large $t$ is an enormous error in the image.",
        ),
        "b": Option(
            "The second one's: v is the harder task of the two.",
            "It may be, but this number doesn't show it.",
        ),
        "c": Option(
            "Neither's: the targets say the same, by (5.6).",
            "The *answers* can be converted into each other. The losses weigh the noise levels differently, and so "
            "the networks learn different things.",
        ),
        "d": Option(
            "Can't be told: the two have different units.",
            "Right. They are errors of different targets, in different units at every noise level. Compare errors "
            "in one unit, or better, the samples.",
            right=True,
        ),
    },
)

concept(
    "training/which-weights",
    minutes=1,
    title="Which weights would you sample with?",
    question="""
    After 1,000 steps at a *constant* learning rate you may keep one set of weights. Which would you expect to draw
    the better images?
    """,
    options={
        "a": Option(
            "The weights after the last step, since they have seen the most images.",
            "They have seen one more batch than those before, and carry the whole of its accident.",
        ),
        "b": Option(
            "The weights of the step with the lowest loss, as that is what was trained for.",
            "The loss of a single batch is low mostly because that batch was easy: other images, other noise levels.",
        ),
        "c": Option(
            "A running average of the weights, since it damps the last steps' wandering.",
            "Right, at a constant rate. Each step follows the accident of its batch; an average keeps what the "
            "steps have in common. If the rate falls to nothing at the end, there is little left to damp: you will "
            "measure both.",
            right=True,
        ),
        "d": Option(
            "Any of the last hundred: at a constant rate the weights have come to rest.",
            "They have not: at a constant rate each step moves them as far as the one before, in another direction.",
        ),
    },
)

concept(
    "training/long-memory",
    minutes=1,
    title="How long does it remember?",
    equation="5.8",
    question="""
    A run of 1,000 steps with a *constant* $d=0.9999$, started from the random first weights. You sample from the
    average. What do you see?
    """,
    options={
        "a": Option(
            "Better samples than with 0.999, since more steps are averaged.",
            "More averaging is better once the run is much longer than the memory of $1/(1-d)$ = 10,000 steps.",
        ),
        "b": Option(
            "The same as from the last weights, since $0.9999$ is nearly 1.",
            "The other way round: with $d=1$ the average would never move from the *first* weights.",
        ),
        "c": Option(
            "Sharper samples than with 0.999, but fewer kinds of them.",
            "The average has hardly left its start; sharpness and variety are no question yet.",
        ),
        "d": Option(
            "Hardly more than noise: 90 % of the average is still the start.",
            "Right: $0.9999^{1000}\\approx0.90$. The memory is $1/(1-d)$ steps. That is what the growing $d_n$ is "
            "for, and a decay that suits the length of the run.",
            right=True,
        ),
    },
)

# ------------------------------------------------------------------------------------------- 5.6 · the loop in stages


class _Average:
    def __init__(self, model, decay=0.995):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, new in zip(self.model.parameters(), model.parameters()):
            mine.mul_(d).add_(new, alpha=1 - d)
        for mine, new in zip(self.model.buffers(), model.buffers()):
            mine.copy_(new)
        self.updates += 1


def _models_that_move(rng: torch.Generator) -> list[Case]:
    return [
        Case(
            {
                "model": Fixture(
                    "training/with-dropout", channels=channels, seed=int(torch.randint(1000, (), generator=rng))
                ),
                "decay": decay,
                "updates": updates,
            },
            label=f"decay {decay}, {updates} updates",
        )
        for channels, decay, updates in ((1, 0.3, 4), (2, 0.995, 6), (1, 0.0, 1), (1, 0.5, 12))
    ]


def _averaged_over(answer, model, decay, updates):
    average = answer(model, decay)
    if average is None:
        return None
    rng, seen = torch.Generator().manual_seed(updates), []
    at_first = average.updates
    for _ in range(updates):
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.add_(torch.randn(tensor.shape, generator=rng) if tensor.is_floating_point() else 1)
        average.update(model)
        seen.append(_weights(average.model))
    return {
        "averaged weights, after the first update": seen[0],
        "averaged weights, after the last update": seen[-1],
        "buffers of the average": [buffer.clone() for buffer in average.model.buffers()],
        "weights of the model that is trained": _weights(model),
        "updates at first": at_first,
        "updates in the end": average.updates,
        "the average wants gradients": any(weight.requires_grad for weight in average.model.parameters()),
        "the average is in eval mode": not any(module.training for module in average.model.modules()),
    }


class _AverageConstant(_Average):
    def update(self, model):
        self.updates, count = 10**9, self.updates
        super().update(model)
        self.updates = count + 1


class _AverageFromOne(_Average):
    def update(self, model):
        self.updates += 1
        super().update(model)
        self.updates -= 1


class _AverageExchanged(_Average):
    @torch.no_grad()
    def update(self, model):
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, new in zip(self.model.parameters(), model.parameters()):
            mine.mul_(1 - d).add_(new, alpha=d)
        for mine, new in zip(self.model.buffers(), model.buffers()):
            mine.copy_(new)
        self.updates += 1


class _AverageShared(_Average):
    def __init__(self, model, decay=0.995):
        self.model = copy.copy(model)
        self.decay, self.updates = decay, 0


class _AverageForgetsBuffers(_Average):
    def update(self, model):
        kept = [buffer.clone() for buffer in self.model.buffers()]
        super().update(model)
        for mine, old in zip(self.model.buffers(), kept):
            mine.copy_(old)


class _AverageWithoutCount(_Average):
    def update(self, model):
        super().update(model)
        self.updates = 0


quiz(
    "training/ema",
    points=4,
    minutes=7,
    equation="5.8",
    title="A moving average of the weights",
    reference=_Average,
    library=(training.EMA,),
    cases=_models_that_move,
    probe=_averaged_over,
    misconceptions=[
        Misconception(
            "a copy that shares its weights",
            _AverageShared,
            "The average and the model hold *the same* tensors: what trains the one moves the other. `copy.deepcopy` "
            "copies the weights as well.",
        ),
        Misconception(
            "average and weights exchanged",
            _AverageExchanged,
            "d is the share of the *old average* that is kept: near 1. You keep that much of the new weights.",
        ),
        Misconception(
            "a constant decay",
            _AverageConstant,
            "With a constant decay the random first weights stay in the average for hundreds of updates. Use d_n.",
        ),
        Misconception("counted from 1", _AverageFromOne, "The first update has n = 0, so d_0 = 1/10."),
        Misconception("never counted", _AverageWithoutCount, "`updates` must grow by one with each update."),
        Misconception(
            "buffers forgotten",
            _AverageForgetsBuffers,
            "A network may hold more than weights: BatchNorm's statistics are *buffers*. Copy them in each update.",
        ),
    ],
    hints=[
        "In `__init__`: a copy of the network, set to eval mode, its weights without gradients; and a count of 0.",
        "In `update`: first the number d_n, then weight by weight. No gradients are wanted: `@torch.no_grad()`.",
        "An averaged weight must be changed *in place*, so that the network sees it: `mul_`, `add_`, `lerp_` or "
        "`copy_`.",
        "Walk through `zip(self.model.parameters(), model.parameters())`, then through the `buffers()` of both.",
        "`mine.mul_(d).add_(new, alpha=1 - d)`",
    ],
    passed="Everybody who ships a diffusion model ships such an average. It costs one more copy of the weights, and no "
    "step.",
    explanation="""
    The library's `EMA` does the same for all weights in one call (`torch._foreach_lerp_`).
    """,
)


def _rate_factor(step, steps, warmup=0):
    climb = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return climb * min(1.0, 2 * (1 - step / steps))


def _moments_of_a_run(rng: torch.Generator) -> list[Case]:
    cases = []
    for steps, warmup in ((100, 10), (40, 0), (1000, 50), (10, 1), (7, 3)):
        more = torch.randint(0, steps, (2,), generator=rng).tolist()
        for step in dict.fromkeys((0, warmup, max(warmup - 1, 0), steps // 2, steps - 1, *more)):
            cases.append(Case({"step": step, "steps": steps, "warmup": warmup}))
    return cases


def _rate_from_zero(step, steps, warmup=0):
    climb = min(1.0, step / warmup) if warmup else 1.0
    return climb * min(1.0, 2 * (1 - step / steps))


def _rate_zero_too_early(step, steps, warmup=0):
    climb = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return climb * min(1.0, 2 * (1 - (step + 1) / steps))


def _rate_falls_at_once(step, steps, warmup=0):
    climb = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return climb * (1 - step / steps)


def _rate_cosine(step, steps, warmup=0):
    climb = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return climb * 0.5 * (1 + math.cos(math.pi * step / steps))


quiz(
    "training/rate",
    points=2,
    minutes=3,
    equation="5.9",
    title="Climb, stay, fall",
    reference=_rate_factor,
    library=(training.learning_rate_factor,),
    cases=_moments_of_a_run,
    misconceptions=[
        Misconception(
            "a first step of length 0",
            _rate_from_zero,
            "Step 0 has already the factor 1 / warmup: a step that doesn't move is a step wasted.",
        ),
        Misconception(
            "a last step of length 0",
            _rate_zero_too_early,
            "The line reaches 0 at `steps`, which is never made; the last step, `steps` − 1, still moves a little.",
        ),
        Misconception(
            "falling from the start", _rate_falls_at_once, "Over the first half of the run the factor stays 1."
        ),
        Misconception("a cosine", _rate_cosine, "A cosine is a fine schedule, but here a straight line is asked for."),
    ],
    hints=[
        "Two factors: one for the climb, one for the fall. Each is a straight line with a limit of 1.",
        "The climb: 1/W in step 0, 2/W in step 1, …, 1 in step W − 1. What if W is 0?",
        "The fall: a line that is 2 at step 0 and 0 at step `steps` is 1 half-way. Cut it off at 1.",
        "`min(1.0, (step + 1) / warmup)` and `min(1.0, 2 * (1 - step / steps))`, multiplied.",
    ],
    passed="Off by one at either end, and a step is wasted or the run ends with its rate still high. Ends are worth a "
    "check.",
    explanation="""
    The minimum of both is as good as their product, as long as the climb is over before the fall begins.
    """,
)


def _update(model, loss, parts, optimizer, generator, clip=None):
    count, total = sum(len(x) for x in parts), 0.0
    optimizer.zero_grad()
    for x in parts:
        value = loss(model, x, generator) * (len(x) / count)
        value.backward()
        total += value.item()
    gradients = [w.grad for w in model.parameters() if w.grad is not None]
    length = torch.stack([g.norm() for g in gradients]).norm()
    if clip is not None and length > clip:
        for g in gradients:
            g.mul_(clip / length)
    optimizer.step()
    return total, length.item()


def _batches_in_parts(rng: torch.Generator) -> list[Case]:
    cases = []
    for name, sizes, shape, clip, size in (
        ("sgd", (4,), (1, 4, 6), None, 1.0),
        ("momentum", (3, 3, 2), (2, 3, 4), None, 1.0),
        ("sgd", (4, 1), (1, 5, 3), 0.2, 50.0),
        ("momentum", (2, 5, 1), (1, 3, 4), 0.5, 50.0),
        ("adam", (2, 2), (1, 3, 4), 100.0, 1.0),
    ):
        seed = int(torch.randint(1000, (), generator=rng))
        cases.append(
            Case(
                {
                    "model": Fixture("training/with-spare", channels=shape[0], seed=seed),
                    "loss": Fixture("training/loss", size=size),
                    "parts": [2 * torch.rand(b, *shape, generator=rng) - 1 for b in sizes],
                    "optimizer": name,
                    "generator": Fixture("generator", seed=seed),
                    "clip": clip,
                },
                label=f"parts of {' + '.join(map(str, sizes))} images, clip = {clip}, {name}",
            )
        )
    return cases


def _updated_twice(answer, model, loss, parts, optimizer, generator, clip):
    steps = _optimizer(optimizer, model)
    for weight in model.parameters():
        if weight.shape != (3,):  # left over from whatever was before; the spare weight never gets any
            weight.grad = torch.ones_like(weight)
    said = [answer(model, loss, parts, steps, generator, clip) for _ in range(2)]
    return None if said[0] is None else {"loss and length, twice": said, "weights": _weights(model)}


def _update_by(
    weigh=None, clear=True, clip_late=False, clip_parts=False, each_weight=False, after=False, each_step=False
):
    """`_update` with one thing changed."""

    def update(model, loss, parts, optimizer, generator, clip=None):
        count, total = sum(len(x) for x in parts), 0.0
        if clear:
            optimizer.zero_grad()
        for x in parts:
            value = loss(model, x, generator) * (weigh(len(x), count, len(parts)) if weigh else len(x) / count)
            value.backward()
            total += value.item()
            if clip_parts and clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            if each_step:
                optimizer.step()
                optimizer.zero_grad()
        gradients = [w.grad for w in model.parameters() if w.grad is not None]
        length = torch.stack([g.norm() for g in gradients]).norm() if gradients else torch.zeros(())
        if clip_late:
            optimizer.step()
        if clip is not None and each_weight:
            for g in gradients:
                g.mul_(min(1.0, clip / g.norm().item()))
        elif clip is not None and not clip_parts:
            for g in gradients:
                g.mul_(min(1.0, clip / length.item()))
        if after:
            length = torch.stack([g.norm() for g in gradients]).norm()
        if not clip_late and not each_step:
            optimizer.step()
        return total, length.item()

    return update


_update_summed = _update_by(weigh=lambda part, count, parts: 1.0)
_update_mean_of_means = _update_by(weigh=lambda part, count, parts: 1 / parts)
_update_uncleared = _update_by(clear=False)
_update_clipped_late = _update_by(clip_late=True)
_update_clipped_by_weight = _update_by(each_weight=True)
_update_length_after = _update_by(after=True)
_update_step_by_step = _update_by(each_step=True)

quiz(
    "training/accumulate",
    points=4,
    minutes=8,
    title="One step from several parts",
    reference=_update,
    library=(training.fit, training.train),
    cases=_batches_in_parts,
    probe=_updated_twice,
    any_device=False,
    misconceptions=[
        Misconception(
            "losses of the parts added up",
            _update_summed,
            "Each part's loss is a mean over its own images. Their sum is as many times too large as there are "
            "parts: "
            "the step isn't that of the whole batch.",
        ),
        Misconception(
            "a mean of the parts' means",
            _update_mean_of_means,
            "Right for equal parts only. A part of one image must not count as much as one of five: weigh each with"
            " its "
            "share of the images.",
        ),
        Misconception(
            "gradients not cleared",
            _update_uncleared,
            "Gradients of the parts shall add up, but not on top of those of the step before.",
        ),
        Misconception(
            "clipped after the step",
            _update_clipped_late,
            "The optimizer has stepped already when you clip. First scale the gradient, then step.",
        ),
        Misconception(
            "every weight clipped by itself",
            _update_clipped_by_weight,
            "The limit is for the gradient of all weights as *one* vector. Clipped one by one its direction changes.",
        ),
        Misconception(
            "the length after clipping",
            _update_length_after,
            "Return the length *before* clipping: it is what tells you how often the limit acts.",
        ),
        Misconception(
            "a step for each part",
            _update_step_by_step,
            "One step for the whole batch: clear once, go backward for each part, step once.",
        ),
    ],
    hints=[
        "Clear the gradients once, go backward once for each part, step once.",
        "The mean over a batch is a *weighted* mean of the parts' means. What is the weight of a part?",
        "The length of the gradient of all weights: the norm of the vector of the norms of each.",
        "`nn.utils.clip_grad_norm_(model.parameters(), limit)` clips in place and returns the length from before; "
        "with "
        "an infinite limit it only measures.",
        "`value = loss(model, x, generator) * (len(x) / count)`, `value.backward()`, `total += value.item()`",
    ],
    passed="With this a small card trains with the batches of a large one, and one bad batch can't ruin a week.",
    explanation="""
    `backward` frees each part's graph, so that memory is needed for one part at a time. With layers that look at the
    whole batch, such as BatchNorm, the parts are not quite the whole.
    """,
)


class _Run:
    def __init__(self, model, loss, batch, optimizer, generator, rate, decay=0.995, clip=None, parts=1):
        self.model, self.loss, self.batch, self.optimizer = model, loss, batch, optimizer
        self.generator, self.rate, self.clip, self.parts = generator, rate, clip, parts
        self.average = _Average(model, decay)
        self.first_rates = [group["lr"] for group in optimizer.param_groups]
        self.step, self.losses = 0, []

    def go_on(self, until):
        self.model.train()
        for k in training.until_stopped(range(self.step, until)):
            for group, first in zip(self.optimizer.param_groups, self.first_rates):
                group["lr"] = first * self.rate(k)
            x = self.batch(self.generator)
            value, _ = _update(self.model, self.loss, x.chunk(self.parts), self.optimizer, self.generator, self.clip)
            self.average.update(self.model)
            self.losses.append(value)
            self.step = k + 1


def _a_run(
    rng: torch.Generator, optimizer: str, b: int, shape: tuple, steps: int, clip, parts: int, dropout: bool
) -> dict:
    seed = int(torch.randint(1000, (), generator=rng))
    kind = "training/with-dropout" if dropout else "training/tiny"
    return {
        "model": Fixture(kind, channels=shape[0], seed=seed),
        "loss": Fixture("training/loss"),
        "batch": Fixture("training/batch", b=b, shape=shape),
        "optimizer": optimizer,
        "generator": Fixture("generator", seed=seed),
        "rate": Fixture("training/rate", steps=steps, warmup=3),
        "decay": 0.3,
        "clip": clip,
        "parts": parts,
    }


def _runs(rng: torch.Generator) -> list[Case]:
    return [
        Case(_a_run(rng, *given) | {"stops": stops}, label=f"{given[0]}, steps up to {', '.join(map(str, stops))}")
        for given, stops in (
            (("two groups", 4, (1, 4, 6), 12, None, 1, False), [5, 9]),
            (("muon", 5, (2, 3, 4), 8, 0.05, 2, False), [8]),
            (("adam", 3, (1, 3, 5), 10, None, 1, True), [2, 6, 6]),
            (("momentum", 5, (1, 4, 4), 9, 0.1, 3, False), [9]),
        )
    ]


def _gone_on(answer, model, loss, batch, optimizer, generator, rate, decay, clip, parts, stops):
    run = answer(model, loss, batch, _optimizer(optimizer, model), generator, rate, decay, clip, parts)
    if run is None:
        return None
    model.eval()  # as after a look at samples
    for stop in stops:
        run.go_on(stop)
    return {
        "steps made": run.step,
        "losses": list(run.losses),
        "weights": _weights(model),
        "averaged weights": _weights(run.average.model),
        "updates of the average": run.average.updates,
        "next draw": torch.rand(2, generator=generator),
    }


class _RunShrinking(_Run):
    """Multiplies the rate that stands there, step after step."""

    def go_on(self, until):
        rate, factor = self.rate, [1.0]

        def product(k):
            factor[0] *= rate(k)
            return factor[0]

        self.rate = product
        super().go_on(until)
        self.rate = rate


class _RunOneRate(_Run):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.first_rates = [self.first_rates[0]] * len(self.first_rates)


class _RunFromZero(_Run):
    def go_on(self, until):
        made = self.step
        self.step = 0
        super().go_on(until - made)
        self.step = until


class _RunInEval(_Run):
    def go_on(self, until):
        train, self.model.train = self.model.train, lambda mode=True: self.model
        super().go_on(until)
        self.model.train = train


class _RunAveragedBefore(_Run):
    def go_on(self, until):
        for stop in range(self.step, until):
            before, update = copy.deepcopy(self.model), self.average.update
            self.average.update = lambda model, before=before, update=update: update(before)
            super().go_on(stop + 1)
            self.average.update = update


class _RunSoManyMore(_Run):
    def go_on(self, until):
        super().go_on(self.step + until)


quiz(
    "training/run",
    points=5,
    minutes=9,
    title="The whole loop",
    reference=_Run,
    library=(training.fit, training.train),
    cases=_runs,
    probe=_gone_on,
    misconceptions=[
        Misconception(
            "one rate for all groups",
            _RunOneRate,
            "Groups may have different rates; each gets its *own* first rate times the factor.",
        ),
        Misconception(
            "the factor applied again and again",
            _RunShrinking,
            "`group['lr']` holds the rate of the step before. Remember the first rates in `__init__`, and multiply "
            "those.",
        ),
        Misconception(
            "the schedule begins anew",
            _RunFromZero,
            "A second `go_on` continues: its first step is number `self.step`, not number 0.",
        ),
        Misconception(
            "left in eval mode",
            _RunInEval,
            "Somebody has looked at samples, and the network is in eval mode. Call `self.model.train()` before you "
            "go on.",
        ),
        Misconception(
            "averaged before the step",
            _RunAveragedBefore,
            "The average is updated *after* the optimizer's step: it takes the new weights in.",
        ),
        Misconception(
            "so many more steps",
            _RunSoManyMore,
            "`until` is the number of steps made in all, not how many more to make.",
        ),
    ],
    hints=[
        "`__init__` stores what it is given, makes the `Average`, and remembers the rate of each group before "
        "anything "
        "changes it.",
        "The loop runs over the numbers of the steps: `range(self.step, until)`.",
        "In a step: set the rates, draw a batch, `update` with its parts, update the average, note the loss, count.",
        'A step sets `group["lr"] = first * self.rate(k)` for each group and its first rate.',
        "`value, _ = update(self.model, self.loss, x.chunk(self.parts), self.optimizer, self.generator, "
        "self.clip)`, then "
        "`self.average.update(self.model)`, `self.losses.append(value)`, `self.step = k + 1`",
    ],
    passed="This loop trains every model in the rest of the notebook.",
    explanation="""
    An object rather than a function, because a run that may be cut off has to know where it stands.
    """,
)


def _save(run, path, *forgotten):
    content = {
        "model": run.model.state_dict(),
        "average": run.average.model.state_dict(),
        "updates": run.average.updates,
        "optimizer": run.optimizer.state_dict(),
        "random": run.generator.get_state(),
        "step": run.step,
        "losses": run.losses,
    }
    torch.save({name: value for name, value in content.items() if name not in forgotten}, path)


def _resume(run, path):
    content = torch.load(path)
    if "model" in content:
        run.model.load_state_dict(content["model"])
    if "average" in content:
        run.average.model.load_state_dict(content["average"])
    if "updates" in content:
        run.average.updates = content["updates"]
    if "optimizer" in content:
        run.optimizer.load_state_dict(content["optimizer"])
    if "random" in content:
        run.generator.set_state(content["random"])
    run.step = content.get("step", 0)
    run.losses = content.get("losses", [])


class _SafeRun(_Run):
    def save(self, path):
        _save(self, path)

    def resume(self, path):
        _resume(self, path)


def _forgetting(*names):
    class Forgetful(_Run):
        def save(self, path):
            _save(self, path, *names)

        def resume(self, path):
            _resume(self, path)

    return Forgetful


_without_moments, _without_average = _forgetting("optimizer"), _forgetting("average", "updates")
_without_count, _without_random = _forgetting("updates"), _forgetting("random")
_without_step, _without_losses = _forgetting("step"), _forgetting("losses")


def _runs_to_cut(rng: torch.Generator) -> list[Case]:
    cases = []
    for given, steps in (
        (("adam", 4, (1, 4, 6), 12, None, 1, False), 12),
        (("muon", 3, (2, 3, 4), 9, 0.05, 2, False), 9),
    ):
        first = 1 + int(torch.randint(steps // 2 - 1, (), generator=rng))
        second = first + 1 + int(torch.randint(steps - first - 2, (), generator=rng))
        named = _a_run(rng, *given) | {"cuts": [first, second], "steps": steps}
        cases.append(Case(named, label=f"{given[0]}, {steps} steps, cut off twice"))
    return cases


def _cut_and_resumed(answer, model, loss, batch, optimizer, generator, rate, decay, clip, parts, cuts, steps):
    start = generator.get_state()

    def new(other: int = 0):
        """A run as it is made in a new process: where `other` is not 0, from other weights and random numbers."""
        own, draws = copy.deepcopy(model), torch.Generator().manual_seed(other)
        if other:
            with torch.no_grad():
                for weight in own.parameters():
                    weight.add_(torch.randn(weight.shape, generator=draws))
        else:
            draws.set_state(start)
        return answer(own, loss, batch, _optimizer(optimizer, own), draws, rate, decay, clip, parts), own, draws

    def told(run, own, draws):
        return {
            "weights": _weights(own),
            "averaged weights": _weights(run.average.model),
            "updates": run.average.updates,
            "steps": run.step,
            "losses": list(run.losses),
            "next draw": torch.rand(2, generator=draws),
        }

    whole = new()
    if whole[0] is None:
        return None
    whole[0].go_on(steps)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.pt")
        going, written, resumed_at = new(), True, []
        for number, cut in enumerate(cuts, 1):
            going[0].go_on(cut)
            going[0].save(path)
            going[0].go_on(cut + 2)  # what comes after the file is lost
            with torch.no_grad():
                for weight in going[1].parameters():
                    weight.zero_()
            written = written and os.path.exists(path) and os.path.getsize(path) > 0
            going = new(number)
            going[0].resume(path)
            resumed_at.append(going[0].step)
        going[0].go_on(steps)
        ends = {"resumed": told(*going), "whole": told(*whole)}
        return ends | {"resumed at step": resumed_at, "a file was written": written}


def _same_bits(raw, case: Case) -> dict:
    """What the resumed run ends with, and whether that is what the other one ends with, in every bit."""

    def arrays(end, name):
        return [np.asarray(each if isinstance(each, float) else each.data) for each in end[name]]

    resumed, whole = raw["resumed"], raw["whole"]
    alike = {
        f"{name}: equal in every bit to those of the run that wasn't cut off": len(resumed[name]) == len(whole[name])
        and all(np.array_equal(a, b) for a, b in zip(arrays(resumed, name), arrays(whole, name)))
        for name in ("weights", "averaged weights", "losses")
    }
    rest = {name: raw[name] for name in ("resumed at step", "a file was written")}
    return {"the resumed run": resumed, **alike, **rest}


quiz(
    "training/resume",
    points=5,
    minutes=9,
    title="Save and resume, bit for bit",
    reference=_SafeRun,
    library=(training.fit, training.train),
    cases=_runs_to_cut,
    probe=_cut_and_resumed,
    measured=_same_bits,
    misconceptions=[
        Misconception(
            "the optimizer's memory forgotten",
            _without_moments,
            "The optimizer remembers, too: momentum, and the usual size of each gradient. `optimizer.state_dict()`.",
        ),
        Misconception(
            "the average forgotten",
            _without_average,
            "The average is a network of its own. Without it in the file the resumed run averages anew.",
        ),
        Misconception(
            "the average's count forgotten",
            _without_count,
            "The weights of the average are there, but not how many updates it has had: d_n begins again at 1/10, "
            "and "
            "the first update throws nine tenths of the average away.",
        ),
        Misconception(
            "the random state forgotten",
            _without_random,
            "The resumed run draws other batches and other noise. `generator.get_state()` is where it stands.",
        ),
        Misconception(
            "the step forgotten",
            _without_step,
            "The resumed run begins at step 0: it makes too many steps, at the wrong rates.",
        ),
        Misconception(
            "the losses forgotten",
            _without_losses,
            "All weights are right, but the record of the losses begins anew.",
        ),
    ],
    hints=[
        "Go through `__init__` line by line: what of it is different after ten steps?",
        "Weights, the optimizer's memory, the average, its count, the step, the losses, the random state.",
        "`torch.save` writes at once: what the run does afterwards can't change the file.",
        "`state_dict()` and `load_state_dict(...)` for both networks and the optimizer; `get_state()` and "
        "`set_state(...)` for the generator; numbers and lists as they are.",
        '`torch.save({"model": self.model.state_dict(), "average": self.average.model.state_dict(), "updates": '
        "self.average.updates, …}, path)`, and in `resume` the same names the other way round.",
    ],
    passed="A run that is cut off costs no more than the steps since its last file. Save in every long training.",
    explanation="""
    The rates of the groups are in the optimizer's state, but the *first* rates were taken when the run was made, from
    a fresh optimizer: that is why they are right. The schedule needs no memory, since it depends on the step alone.
    """,
)

concept(
    "training/forgotten",
    minutes=1,
    title="What was forgotten?",
    question="""
    A run with Adam is resumed from a file that holds the weights of the model, the random state and the step, but not
    the *optimizer*. What would you see?
    """,
    options={
        "a": Option(
            "An error in the first step, since the moments have no values.",
            "There is none: a fresh Adam begins with zeros and makes what it can of them. That is why the mistake "
            "is so common.",
        ),
        "b": Option(
            "A jump in the loss that heals, and other weights in the end.",
            "Right. The first steps after the break rest on the gradient of one batch each, as at the very "
            "beginning, only at the full rate. It trains on, and nobody can compare it with the run that it should "
            "have been.",
            right=True,
        ),
        "c": Option(
            "No difference at all, as the moments follow from the weights.",
            "They follow from the *gradients* of the last hundreds of batches, and those are gone.",
        ),
        "d": Option(
            "A loss that grows without end, since the rate is far too high.",
            "The moments build up again within some dozens of steps; then all is as usual, but elsewhere.",
        ),
    },
)

concept(
    "training/nothing-to-see",
    minutes=1,
    title="A flat loss",
    question="""
    The loss has been flat for half of the training. Should you stop?
    """,
    options={
        "a": Option(
            "Yes: a loss that doesn't fall shows that nothing is being learned.",
            "Most of the loss is what nobody can predict, and the noise of the batches hides small gains. Samples "
            "may still improve.",
        ),
        "b": Option(
            "It depends on the samples: look at them, or measure them, first.",
            "Right. The loss says how well noise is told from image, on average over $t$; the question was about "
            "samples.",
            right=True,
        ),
        "c": Option(
            "No: as long as the loss doesn't rise, more steps mean more quality.",
            "Networks can learn the training images by heart, and weights tremble at a rate that never falls. "
            "Longer is often better, but it is a thing to measure.",
        ),
        "d": Option(
            "Not yet: raise the learning rate first, until the loss moves again.",
            "It would move, upwards. The opposite, letting the rate fall, is what calms the weights.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 5.10 · the weighting


def _min_snr(schedule, prediction_type, t, gamma=5.0):
    return library.min_snr(schedule, prediction_type, t, gamma)


def _kinds_and_steps(rng: torch.Generator) -> list[Case]:
    cases = []
    for name, T, b, prediction_type, gamma in (
        ("linear", 1000, 6, "noise", 5.0),
        ("cosine", 50, 4, "x0", 2.0),
        ("quadratic", 200, 1, "v", 20.0),
        ("cosine", 1000, 5, "noise", 1.0),
        ("sigmoid", 200, 3, "v", 20.0),
    ):
        args = {
            "schedule": Fixture("training/schedule", curve=name, T=T),
            "prediction_type": prediction_type,
            "t": _steps(rng, b, T),
        }
        cases.append(Case(args | {"gamma": gamma}))
    return cases


def _min_snr_of_x0(schedule, prediction_type, t, gamma=5.0):
    return schedule.snr[t].clamp(max=gamma)


def _min_snr_max(schedule, prediction_type, t, gamma=5.0):
    return (
        library.min_snr(schedule, prediction_type, t, gamma)
        * schedule.snr[t].clamp(min=gamma)
        / schedule.snr[t].clamp(max=gamma)
    )


def _min_snr_v_like_noise(schedule, prediction_type, t, gamma=5.0):
    return library.min_snr(schedule, "noise" if prediction_type == "v" else prediction_type, t, gamma)


def _min_snr_always_five(schedule, prediction_type, t, gamma=5.0):
    return library.min_snr(schedule, prediction_type, t, 5.0)


def _min_snr_multiplied(schedule, prediction_type, t, gamma=5.0):
    return schedule.snr[t].clamp(max=gamma) ** 2 / library.min_snr(schedule, prediction_type, t, gamma)


quiz(
    "training/min-snr",
    points=3,
    minutes=5,
    equation="5.10",
    title="min-SNR",
    reference=_min_snr,
    library=(library.min_snr,),
    cases=_kinds_and_steps,
    misconceptions=[
        Misconception(
            "one weight for all kinds",
            _min_snr_of_x0,
            "min(SNR, γ) is the weight of an error in *x0*. Said for an error in ε or in v it must be divided: (5.10).",
        ),
        Misconception(
            "v treated like noise", _min_snr_v_like_noise, "An error in v is SNR_t + 1 times one in x0, squared."
        ),
        Misconception("the larger one", _min_snr_max, "The *smaller* of SNR_t and γ: clamp(max=gamma)."),
        Misconception("γ fixed", _min_snr_always_five, "γ is an argument; 5 is only its default."),
        Misconception("multiplied instead of divided", _min_snr_multiplied, "Divide by SNR_t (ε) or SNR_t + 1 (v)."),
    ],
    hints=[
        "For x0 there is nothing to convert: the smaller of SNR_t and γ. `clamp` takes a `max`.",
        "The same objective, said in another unit: if an error is measured u times larger, its weight must be u "
        "times smaller.",
        "|ε − ε̂|² = SNR · |x0 − x̂0|² and |v − v̂|² = (SNR + 1) · |x0 − x̂0|². So which weight gives the same loss?",
        'Divide by 1 for "x0", by snr for "noise", by snr + 1 for "v".',
    ],
    passed="A weight belongs to the error, not to its unit: whoever changes the target without changing the weight "
    "has changed the objective.",
    explanation="""
    The three weights describe one and the same objective; whoever changes the target without changing the weight has
    changed the objective as well. (The library also settles 0/0 at ᾱ_T = 0.)
    """,
)

concept(
    "training/median",
    minutes=1,
    title="A robust loss",
    question="""
    "L1 is robust against outliers, so I train my diffusion model with it." What does its optimal network answer?
    """,
    options={
        "a": Option(
            "The conditional median, pixel by pixel.",
            "Right. Samplers are built on the score, and the score is made of the conditional *mean* (3.9). What "
            "medians do to samples you will see below.",
            right=True,
        ),
        "b": Option(
            "The conditional mean, less disturbed.",
            "They agree where the conditional distribution is symmetric. Between two modes of different weight mean"
            " and median part.",
        ),
        "c": Option(
            "The most probable of all clean images.",
            "That would be the answer of a loss that only counts exact hits.",
        ),
        "d": Option(
            "A sharper image than that of L2 training.",
            "A median of many images isn't an image either; it is blurred in another way.",
        ),
    },
)

# --------------------------------------------------------------------------------------------------------- 5.12 · Muon


def _orthogonalized(gradient, rounds=20):
    x = gradient / gradient.norm()
    for _ in range(rounds):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


def _gradients(rng: torch.Generator) -> list[Case]:
    return [
        Case({"gradient": size * torch.randn(shape, generator=rng), "rounds": rounds})
        for shape, size, rounds in (((4, 7), 30.0, 20), ((6, 3), 1e-3, 3), ((5, 5), 1.0, 1), ((2, 9), 5.0, 8))
    ]


def _orthogonal_unscaled(gradient, rounds=20):
    x = gradient / gradient.abs().max() / 10
    for _ in range(rounds):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


def _orthogonal_by_number(gradient, rounds=20):
    x = gradient / gradient.norm()
    for _ in range(rounds):
        x = 1.5 * x - 0.5 * x**3
    return x


def _orthogonal_one_round_less(gradient, rounds=20):
    return _orthogonalized(gradient, rounds - 1)


def _orthogonal_as_long(gradient, rounds=20):
    return _orthogonalized(gradient, rounds) * gradient.norm()


quiz(
    "training/orthogonal",
    points=3,
    minutes=7,
    title="All directions equally long",
    reference=_orthogonalized,
    library=(muon.orthogonalized,),
    cases=_gradients,
    misconceptions=[
        Misconception(
            "numbers for singular values",
            _orthogonal_by_number,
            "`x ** 3` cubes every number. The matrix whose *singular values* are cubed is X Xᵀ X, a product of "
            "matrices.",
        ),
        Misconception(
            "another size at first", _orthogonal_unscaled, "Divide by the Frobenius norm, `gradient.norm()`."
        ),
        Misconception("one round too few", _orthogonal_one_round_less, "Make `rounds` rounds."),
        Misconception(
            "as long as before",
            _orthogonal_as_long,
            "The result has singular values near 1, whatever the gradient's size.",
        ),
    ],
    hints=[
        "First the size, then a loop.",
        "`gradient.norm()` of a matrix is its Frobenius norm: the root of the sum of all squared singular values.",
        "X Xᵀ X is `x @ x.T @ x`.",
        "`x = 1.5 * x - 0.5 * x @ x.T @ x`, so many times",
    ],
    passed="No decomposition, only products of matrices, which is what graphics cards are made for.",
    explanation="""
    1 is where ³⁄₂ s − ½ s³ = s and its derivative is 0: near 1 the error is squared in each round; far below 1 each
    round
    makes s half as large again. Muon's polynomial of degree five rises faster at 0 and is content with 0.7 to 1.2.
    """,
)
