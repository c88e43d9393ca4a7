"""The quizzes of notebook 05, "Training"."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import diffusion as library
from course_utils import variational
from course_utils.models.vae import gaussian_kl, gaussian_nll, kl_to_standard_normal
from course_utils.sampling import clipped, ddim, last
from course_utils.sampling.loop import Stride, sample_loop
from course_utils.training import EMA

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

    def __init__(self, channels: int, noisy_layers: bool = False):
        super().__init__()
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
def _with_dropout(channels: int = 1, training: bool = True, seed: int = 0) -> nn.Module:
    model = _Tiny(channels, noisy_layers=True)
    nn.init.normal_(model.between[0].running_mean, std=0.3)
    return model.train(training)


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
    title="A term without a gradient",
    equation="5.1",
    question="""
    Which part of the bound (5.1) can be left out of a diffusion model's training without changing a single weight?
    """,
    options={
        "a": Option(
            "$L_0$, because it is only one of $T$ terms.",
            "It is one of many, and it does depend on the network: it charges for the last step, from $x_1$ to $x_0$.",
        ),
        "b": Option(
            "The terms $L_{t-1}$ with large $t$, since those images are nearly pure noise.",
            "There is little to see at large $t$, but the network is asked there too, and its answer decides what the "
            "sample will be about. These terms have gradients.",
        ),
        "c": Option(
            "$L_T$: there is no network in it.",
            "Right. It compares $q(x_T\\mid x_0)$, which the schedule fixes, with the prior. In a VAE the same term "
            "trains the encoder; here nothing in it can be learned. It still counts when the bound is *reported*.",
            right=True,
        ),
        "d": Option(
            "None: leave out any term and it is no bound any more.",
            "As a *number* it would no longer be the bound. But what doesn't depend on the weights has no gradient, "
            "and training only sees gradients.",
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
    minutes=4,
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
        "|mean_q − mean_p|² / (2 · var), pixel by pixel; then one sum for each image, over all other axes.",
        "`.flatten(1).sum(1)` sums over everything but the batch, whatever the shape.",
    ],
    explanation="""
    With equal covariances the determinants cancel, the trace is d and cancels too, and only the quadratic term remains.
    That is why a diffusion model is trained by a squared error: its divergences are all of this kind.
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
    minutes=5,
    equation="5.3",
    title="The weight of the bound",
    reference=variational.bound_weight,
    library=(variational.variational_bound,),
    cases=_some_steps,
    misconceptions=[
        Misconception(
            "the weight of an error in x0",
            _weight_of_x0,
            "½ (SNR_{t−1} − SNR_t) is the weight of |x0 − x̂0|². An error in the noise is SNR_t times larger, so divide "
            "by SNR_t.",
        ),
        Misconception("the half forgotten", _weight_without_half, "Equation (5.3) begins with ½."),
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
            "That is the weight for σ_t² = β_t, as the DDPM paper prints it. Here p has the variance of q, which makes "
            "β_t / (2 α_t (1 − ᾱ_{t−1})): the last index is t − 1.",
        ),
    ],
    hints=[
        "`schedule.snr` is a tensor with T + 1 entries; `snr[t]` and `snr[t - 1]` take one for each entry of t.",
        "For t ≥ 2: 0.5 * (snr[t - 1] / snr[t] - 1). What happens at t = 1, where snr[0] is infinite?",
        "`torch.where(t == 1, 0.5, …)` puts ½ there.",
    ],
    explanation="""
    The ratio of two neighbouring signal-to-noise ratios, minus one, halved: how much clearer the image becomes in one
    step back. In Ho et al.'s symbols it is β_t² / (2 σ_t² α_t (1 − ᾱ_t)) with σ_t² the posterior variance.
    """,
)

concept(
    "training/dropped-weight",
    title="What was dropped",
    equation="5.3",
    question="""
    The simple loss counts an error in $\\varepsilon$ equally at every $t$. Compared with the bound, on the linear
    schedule, where does a network with limited capacity now spend more of it?
    """,
    options={
        "a": Option(
            "Nowhere: a positive factor doesn't move a minimum.",
            "It doesn't for a network that can be perfect at every $t$ separately. One network with few weights serves "
            "all $t$ at once, and there the factors decide who is served first.",
        ),
        "b": Option(
            "At small $t$, where the noise is hard to see.",
            "The bound is what weighs small $t$ heavily (the curve above): it cares for the last bits of every grey "
            "value. The simple loss takes that weight away.",
        ),
        "c": Option(
            "At $t=T$ alone, where sampling begins.",
            "It counts more there, too; but so do hundreds of other steps. The bound's curve is low everywhere except "
            "at its left end.",
        ),
        "d": Option(
            "At medium and large $t$, where shapes are decided.",
            "Right. The bound pays for every nat, and most nats are in imperceptible detail. The simple loss pays "
            "for noise that is hard to tell from image, and that is why its samples look better while its bound is "
            "worse (Ho et al. 2020, table 1).",
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
    minutes=6,
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
        "`schedule.add_noise(x0, t, noise)` is (3.4), which you wrote in notebook 03. The network is called as "
        "`model(x_t, t)`.",
        "`(noise - model(x_t, t)).square().mean()`",
    ],
    explanation="""
    That is all of Algorithm 1 except for the draws and the optimizer step. No chain is walked, no integral is
    estimated, no second network is needed: one noised image, one answer, one squared error.
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
    "training/one-step",
    points=3,
    minutes=5,
    equation="5.4",
    title="Bug hunt: the draw",
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
        "How many random steps does one call draw? How many should it?",
        "`(1,)` is the shape of what is drawn. One step for each image has the shape `(len(x0),)`.",
        "`t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=x0.device)`",
    ],
    explanation="""
    One step for all images is not biased: over many batches every t comes equally often, and training even works after
    a fashion. But a batch of 64 then carries the information of one noise level, and the loss jumps from step to step
    with the t that was drawn. It costs steps, and nobody sees it in the code's output.
    """,
)

# ------------------------------------------------------------------------------------------------- 5.4 · the wrong pair


quiz(
    "training/wrong-pair",
    points=3,
    minutes=4,
    equation="5.4",
    title="Bug hunt: the loss",
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
            "That would train a network that predicts x0; this one is called `predicted_noise`.",
        ),
    ],
    hints=[
        "Which network would have a loss of exactly 0 here? Is it one that you would want?",
        "The two arguments of `mse_loss` must be the question's answer and the network's answer.",
        "`F.mse_loss(predicted_noise, noise)`",
    ],
    explanation="""
    Compared with its own input the network learns to copy, which can be done on images it has never seen: the loss ends
    far below the right one. Fed into a sampler, the "predicted noise" is all of x_t, and what is left is nothing.
    """,
)

concept(
    "training/low-loss",
    title="Two losses",
    question="""
    Two colleagues train the same network on the same images. One predicts ε and reports a loss of 0.05, the other
    predicts v and reports 0.11. Whose samples are better?
    """,
    options={
        "a": Option(
            "One can't tell: the two numbers measure different things.",
            "Right. They are errors of different targets, in different units at every noise level. Compare errors in "
            "one unit, or better, the samples.",
            right=True,
        ),
        "b": Option(
            "The one with 0.05: less than half the error.",
            "Half of what? An error of 0.05 in ε at large $t$ is an enormous error in the image; see (5.6).",
        ),
        "c": Option(
            "The one who predicts v: v is harder, so 0.11 is an achievement.",
            "It may be, but this number doesn't show it.",
        ),
        "d": Option(
            "The same: all three targets say the same thing, by (5.6) and (5.7).",
            "The *answers* can be converted into each other. The losses weigh the noise levels differently, and so "
            "the networks learn different things.",
        ),
    },
)

# ---------------------------------------------------------------------------------------------------- 5.5 · the targets


def _v_target(x0, noise, t, schedule):
    return library.prediction_target(schedule, "v", x0, noise, t)


def _to_x0(prediction_type, output, x_t, t, schedule):
    return library.predict_x0(schedule, prediction_type, output, x_t, t)


def _to_noise(x0, x_t, t, schedule):
    return library.predict_noise(schedule, x0, x_t, t)


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
    minutes=3,
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
        "`signal_rate, noise_rate = schedule.rates(t, x0)` are √ᾱ_t and √(1 − ᾱ_t), shaped to multiply a batch.",
        "√ᾱ_t times one of the two, minus √(1 − ᾱ_t) times the other.",
        "`signal_rate * noise - noise_rate * x0`",
    ],
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
    minutes=6,
    equation="5.6",
    title="From any answer to a clean image",
    reference=_to_x0,
    library=MIXING,
    answered_by=("training/v-target", "training/to-noise"),
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
        'For "v": multiply (3.4) by √ᾱ_t and (5.5) by √(1−ᾱ_t) and subtract. The noise cancels.',
        '`signal_rate * x_t - noise_rate * output` for "v", with `signal_rate, noise_rate = schedule.rates(t, x_t)`.',
    ],
    explanation="""
    Whatever a network predicts becomes a denoiser (x_t, t) → x̂0 this way, and no sampler needs to know which it was.
    """,
)


def _pairs(rng: torch.Generator) -> list[Case]:
    cases = []
    for x0, t, x_t, schedule in _batches(rng):
        cases.append(Case({"x0": x0, "x_t": x_t, "t": t, "schedule": schedule}, gradients=("x0",)))
    return cases


def _noise_by_variance(x0, x_t, t, schedule):
    a = schedule.alpha_bar_at(t, x0)
    return (x_t - a.sqrt() * x0) / (1 - a)


def _noise_not_divided(x0, x_t, t, schedule):
    return x_t - schedule.alpha_bar_at(t, x0).sqrt() * x0


def _noise_x0_unscaled(x0, x_t, t, schedule):
    return (x_t - x0) / (1 - schedule.alpha_bar_at(t, x0)).sqrt()


def _noise_by_signal(x0, x_t, t, schedule):
    a = schedule.alpha_bar_at(t, x0)
    return (x_t - a.sqrt() * x0) / a.sqrt()


quiz(
    "training/to-noise",
    points=2,
    minutes=3,
    equation="5.7",
    title="From a clean image to the noise",
    reference=_to_noise,
    library=MIXING,
    answered_by=("training/to-x0",),
    tolerance=1e-3,  # at step 1 a 1 − ᾱ in single precision is off by 2e-4 of its size
    cases=_pairs,
    misconceptions=[
        Misconception("divided by the variance", _noise_by_variance, "Divide by √(1−ᾱ_t): ε has variance 1."),
        Misconception("not divided", _noise_not_divided, "That is √(1−ᾱ_t) · ε; ε itself has variance 1 at every t."),
        Misconception(
            "x0 not scaled", _noise_x0_unscaled, "In x_t there is only √ᾱ_t of the image: subtract that much."
        ),
        Misconception("divided by the signal rate", _noise_by_signal, "Solve (3.4) for ε: its factor is √(1−ᾱ_t)."),
    ],
    hints=[
        "Solve (3.4) for ε.",
        "Take the image's share away from x_t, then divide by the noise's factor.",
        "`(x_t - signal_rate * x0) / noise_rate` with `signal_rate, noise_rate = schedule.rates(t, x0)`",
    ],
    explanation="Samplers need both: the guess of the image, and the noise that this guess leaves over.",
)

concept(
    "training/copying",
    title="At the noisy end",
    equation="5.6",
    question="""
    At $t = T$, with $\\bar\\alpha_T\\approx 0$, a network that predicts ε returns its input unchanged. What do you say?
    """,
    options={
        "a": Option(
            "It has learned to denoise: the loss there is almost 0.",
            "The loss is almost 0 because there $x_T\\approx\\varepsilon$. What does that answer say about the image?",
        ),
        "b": Option(
            "It is a bug: the output should be an image.",
            "It is exactly what (5.4) asks for at that end.",
        ),
        "c": Option(
            "It has nearly the smallest loss, and says nothing about the image: (5.6) divides by almost 0.",
            "Right. Here v and x0 ask for the opposite: the best guess of the image, which for a well-trained network "
            "is about the mean of the data.",
            right=True,
        ),
        "d": Option(
            "It doesn't matter, since sampling never uses $t = T$.",
            "Sampling *begins* at $T$, and an error there is carried through all later steps.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 5.6 · which distance

concept(
    "training/median",
    title="A robust loss",
    question="""
    "L1 is robust against outliers, so I train my diffusion model with it." What does its optimal network answer?
    """,
    options={
        "a": Option(
            "The conditional mean, as with L2, only less disturbed by outliers.",
            "They agree where the conditional distribution is symmetric. Between two modes of different weight, mean "
            "and median part: that is the picture above.",
        ),
        "b": Option(
            "The conditional median, pixel by pixel; and the sampler's mathematics is about the mean.",
            "Right. The score is made of the conditional *mean* (3.9). With medians the steps lean towards the heavier "
            "mode, and rare things become rarer.",
            right=True,
        ),
        "c": Option(
            "The conditional mode: the most probable clean image.",
            "That would be the answer of a loss that only counts exact hits. L1 is minimised by the median.",
        ),
        "d": Option(
            "A sharper image, which is the point of L1.",
            "A median of many images isn't an image either; it is blurred in another way.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 5.7 · the weighting


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
    equation="5.8",
    title="min-SNR",
    reference=_min_snr,
    library=(library.min_snr,),
    cases=_kinds_and_steps,
    misconceptions=[
        Misconception(
            "one weight for all kinds",
            _min_snr_of_x0,
            "min(SNR, γ) is the weight of an error in *x0*. Said for an error in ε or in v it must be divided: (5.8).",
        ),
        Misconception(
            "v treated like noise", _min_snr_v_like_noise, "An error in v is SNR_t + 1 times one in x0, squared."
        ),
        Misconception("the larger one", _min_snr_max, "The *smaller* of SNR_t and γ: clamp(max=gamma)."),
        Misconception("γ fixed", _min_snr_always_five, "γ is an argument; 5 is only its default."),
        Misconception("multiplied instead of divided", _min_snr_multiplied, "Divide by SNR_t (ε) or SNR_t + 1 (v)."),
    ],
    hints=[
        "`schedule.snr[t].clamp(max=gamma)` is the weight for x0.",
        "|ε − ε̂|² = SNR · |x0 − x̂0|² and |v − v̂|² = (SNR + 1) · |x0 − x̂0|². So which weight gives the same loss?",
        'Divide by 1 for "x0", by snr for "noise", by snr + 1 for "v".',
    ],
    explanation="""
    The three weights describe one and the same objective; whoever changes the target without changing the weight has
    changed the objective as well. (The library also settles 0/0 at ᾱ_T = 0.)
    """,
)

# ---------------------------------------------------------------------------------------------------------- 5.8 · EMA


def _ema_update(average, weights, updates, decay):
    ema = EMA(nn.ParameterList(average), decay)
    ema.updates = updates
    ema.update(nn.ParameterList(weights))
    return [weight.detach() for weight in ema.model]


def _weights_and_averages(rng: torch.Generator) -> list[Case]:
    cases = []
    for updates, decay, dtype, shapes in (
        (0, 0.999, torch.float32, ((3, 5), (4,), (2, 1, 3, 3))),
        (7, 0.5, torch.float32, ((4, 2),)),
        (1000, 0.9999, torch.float64, ((2, 3), (), (3,), (1, 4), (5, 1, 2))),
        (100_000, 0.999, torch.float64, ((3, 1), (2,))),
        (3, 0.0, torch.float32, ((2, 2), (3,), (1,))),
    ):
        average, weights = ([torch.randn(s, generator=rng, dtype=dtype) for s in shapes] for _ in range(2))
        cases.append(Case({"average": average, "weights": weights, "updates": updates, "decay": decay}))
    return cases


def _ema_exchanged(average, weights, updates, decay):
    return _ema_update(weights, average, updates, decay)


def _ema_without_start(average, weights, updates, decay):
    return [decay * a + (1 - decay) * w for a, w in zip(average, weights)]


def _ema_max(average, weights, updates, decay):
    d = max(decay, (1 + updates) / (10 + updates))
    return [d * a + (1 - d) * w for a, w in zip(average, weights)]


def _ema_plain_mean(average, weights, updates, decay):
    return [a + (w - a) / (updates + 1) for a, w in zip(average, weights)]


def _ema_from_one(average, weights, updates, decay):
    return _ema_update(average, weights, updates + 1, decay)


quiz(
    "training/ema",
    points=3,
    minutes=4,
    equation="5.9",
    title="A moving average of the weights",
    reference=_ema_update,
    library=(EMA.update,),
    cases=_weights_and_averages,
    misconceptions=[
        Misconception(
            "average and weights exchanged",
            _ema_exchanged,
            "d is the share of the *old average* that is kept: near 1. You keep that much of the new weights.",
        ),
        Misconception(
            "the start forgotten",
            _ema_without_start,
            "With a constant decay the random first weights stay in the average for hundreds of updates. Use d_n.",
        ),
        Misconception("the larger one", _ema_max, "d_n is the *smaller* of the decay and (1 + n)/(10 + n)."),
        Misconception(
            "a plain mean", _ema_plain_mean, "That is the mean of all weights so far; (5.9) forgets old ones."
        ),
        Misconception("counted from 1", _ema_from_one, "The first update has n = 0, so d_0 = 1/10."),
    ],
    hints=[
        "First the number d_n, then one line for every tensor of the list.",
        "`d = min(decay, (1 + updates) / (10 + updates))`",
        "`[d * a + (1 - d) * w for a, w in zip(average, weights)]`",
    ],
    explanation="""
    The library does the same in place, for all weights in one call (`torch._foreach_lerp_`), without gradients.
    """,
)

concept(
    "training/long-memory",
    title="How long does it remember?",
    equation="5.9",
    question="""
    A run of 1,000 steps with a *constant* decay of 0.9999, started from the random first weights. You sample from the
    average. What do you see?
    """,
    options={
        "a": Option(
            "Better samples than with 0.999: the more averaging, the better.",
            "More averaging is better once the run is much longer than the memory of $1/(1-d)$ = 10,000 steps.",
        ),
        "b": Option(
            "The same as from the last weights, since $0.9999\\approx1$.",
            "The other way round: with $d=1$ the average would never move from the *first* weights.",
        ),
        "c": Option(
            "Something sharper, because noise in the weights is averaged away.",
            "True in the long run; here the average has hardly left its start.",
        ),
        "d": Option(
            "Hardly more than noise: $0.9999^{1000}\\approx 0.90$ of the average is still the random start.",
            "Right. The memory is 1/(1 − d) steps. That is what the growing $d_n$ of (5.9) is for, and a decay that "
            "suits the length of the run.",
            right=True,
        ),
    },
)

# ----------------------------------------------------------------------------------------------- 5.11 · while training


def _sample(model, noise, schedule, steps=20):
    was_training = model.training
    model.eval()
    images = last(ddim(clipped(library.Denoiser(model, schedule, "v")), schedule, noise, steps))
    model.train(was_training)
    return images


def _models_to_sample(rng: torch.Generator) -> list[Case]:
    return [
        Case(
            {
                "model": Fixture("training/with-dropout", channels=shape[0], training=training, seed=seed),
                "noise": torch.randn(b, *shape, generator=rng),
                "schedule": Fixture("training/schedule", curve=curve, T=T),
                "steps": steps,
            },
            label=f"a network with dropout, in {'training' if training else 'eval'} mode, {b} images {shape}",
        )
        for seed, (b, shape, training, curve, T, steps) in enumerate(
            (
                (4, (1, 5, 7), True, "cosine", 10, 5),
                (2, (3, 4, 6), False, "cosine", 50, 4),
                (1, (1, 8, 3), True, "quadratic", 10, 10),
            )
        )
    ]


def _sample_as_handed_out(model, noise, schedule, steps=20):
    return last(ddim(clipped(library.Denoiser(model, schedule, "v")), schedule, noise, steps))


def _sample_left_in_eval(model, noise, schedule, steps=20):
    model.eval()
    return _sample_as_handed_out(model, noise, schedule, steps)


def _sample_always_train(model, noise, schedule, steps=20):
    images = _sample_left_in_eval(model, noise, schedule, steps)
    model.train()
    return images


def _sample_restoring_only_the_flag(model, noise, schedule, steps=20):
    was_training = model.training
    images = _sample_left_in_eval(model, noise, schedule, steps)
    model.training = was_training
    return images


quiz(
    "training/mode",
    points=2,
    minutes=4,
    title="Bug hunt: the live view",
    bug_hunt=True,
    reference=_sample,
    cases=_models_to_sample,
    any_device=False,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _sample_as_handed_out,
            "The network still samples in whatever mode it is in: in training mode dropout makes holes, and BatchNorm "
            "mixes the images of the batch (and goes on collecting statistics).",
        ),
        Misconception(
            "left in eval mode",
            _sample_left_in_eval,
            "Right images, but the network stays in eval mode: from the first look on, the *training* goes on without "
            "dropout, and with frozen BatchNorm.",
        ),
        Misconception(
            "always set to training",
            _sample_always_train,
            "A network that came in eval mode leaves in training mode. Remember `model.training` and put it back.",
        ),
        Misconception(
            "only the flag put back",
            _sample_restoring_only_the_flag,
            "`model.training = …` changes the flag of the outermost module only; dropout and BatchNorm inside stay in "
            "eval mode. `model.train(…)` reaches all of them.",
        ),
    ],
    hints=[
        "`model.training` says which mode it is in. In which should it sample, and in which should it leave?",
        "`was_training = model.training`, `model.eval()`, sample, `model.train(was_training)`.",
        "`model.train(False)` is the same as `model.eval()`, so the last line serves both cases.",
    ],
    explanation="""
    The U-Net of this course has neither dropout nor BatchNorm, so the bug would lie in wait until somebody adds one.
    `fit` does this for you: around `on_step` the model is in eval mode, and after `fit` it stays there.
    """,
)

concept(
    "training/nothing-to-see",
    title="A flat loss",
    question="""
    The loss has been flat for half of the training. Should you stop?
    """,
    options={
        "a": Option(
            "Yes: a flat loss means that nothing is learned any more.",
            "The loss is dominated by what can't be predicted at all, and noise of the batch hides small gains. "
            "Compare with the distance of samples in this run's table.",
        ),
        "b": Option(
            "Look at samples, or at their distance to data, before deciding.",
            "Right. The loss answers how well noise is told from image on average over $t$; the question was about "
            "samples.",
            right=True,
        ),
        "c": Option(
            "No: the longer, the better, always.",
            "Networks can learn the training images by heart, and a learning rate that never falls leaves weights "
            "trembling. Longer is often better, but it is a thing to measure.",
        ),
        "d": Option(
            "Raise the learning rate until the loss moves again.",
            "It would move, upwards. The opposite, letting the rate fall, is what calms the weights.",
        ),
    },
)
