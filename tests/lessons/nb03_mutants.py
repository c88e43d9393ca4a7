"""Wrong answers to the quizzes of notebook 03 that must be rejected, and other right ones that must be accepted."""

import math

import numpy as np
import torch
from einops import rearrange
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from lessons.answers import right, slip

right_add_noise = right("forward/add-noise")
right_step_variances = right("forward/step-variances")
right_alpha_bar = right("forward/alpha-bar")
right_swap = right("forward/swap")
right_cosine = right("forward/cosine")
right_shifted = right("forward/shifted")
right_log_snr = right("forward/log-snr")
right_zero_terminal = right("forward/zero-terminal")
right_posterior = right("forward/posterior")
right_mixture_score = right("forward/mixture-score")


# ----------------------------------------------------------------------------------------------------------- the tables


def betas_single_precision(kind, T, beta_min, beta_max):
    return right_step_variances(kind, T, beta_min, beta_max).float()


def betas_sigmoid_end_to_end(kind, T, beta_min, beta_max):
    """A sigmoid that is stretched to hit both ends exactly."""
    beta = right_step_variances(kind, T, beta_min, beta_max)
    if kind != "sigmoid":
        return beta
    return beta_min + (beta_max - beta_min) * (beta - beta[0]) / (beta[-1] - beta[0])


def betas_as_ratios(kind, T, beta_min, beta_max):
    """What a step keeps, not what it adds."""
    return 1 - right_step_variances(kind, T, beta_min, beta_max)


def betas_in_a_loop(kind, T, beta_min, beta_max):
    rows = []
    for t in range(1, T + 1):
        u = (t - 1) / (T - 1)
        if kind == "quadratic":
            rows.append(((1 - u) * math.sqrt(beta_min) + u * math.sqrt(beta_max)) ** 2)
        else:
            rows.append(beta_min + (beta_max - beta_min) * (u if kind == "linear" else 1 / (1 + math.exp(6 - 12 * u))))
    return torch.tensor(rows, dtype=torch.float64)


def betas_between_ends(kind, T, beta_min, beta_max):
    """linspace between the ends themselves, and a hyperbolic tangent for the sigmoid."""
    if kind == "linear":
        return torch.linspace(beta_min, beta_max, T, dtype=torch.float64)
    if kind == "quadratic":
        return torch.linspace(beta_min**0.5, beta_max**0.5, T, dtype=torch.float64).square()
    return beta_min + (beta_max - beta_min) * (1 + torch.linspace(-3, 3, T, dtype=torch.float64).tanh()) / 2


def linear_single_precision(T, beta_min, beta_max):
    return right_alpha_bar(T, beta_min, beta_max).float()


def linear_steps_of_T(T, beta_min, beta_max):
    beta = beta_min + (beta_max - beta_min) * torch.arange(T, dtype=torch.float64) / T
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])


def linear_falling(T, beta_min, beta_max):
    return right_alpha_bar(T, beta_max, beta_min)


def linear_zero_in_front(T, beta_min, beta_max):
    beta = torch.linspace(beta_min, beta_max, T, dtype=torch.float64)
    return torch.cat([beta.new_zeros(1), (1 - beta).cumprod(0)])


def linear_one_at_the_end(T, beta_min, beta_max):
    beta = torch.linspace(beta_min, beta_max, T, dtype=torch.float64)
    return torch.cat([(1 - beta).cumprod(0), beta.new_ones(1)])


def linear_quadratic(T, beta_min, beta_max):
    return right_alpha_bar(T, beta_min**0.5, beta_max**0.5) ** 2


def linear_loop(T, beta_min, beta_max):
    table = [1.0]
    for t in range(T):
        table.append(table[-1] * (1 - (beta_min + (beta_max - beta_min) * t / (T - 1))))
    return torch.tensor(table, dtype=torch.float64)


def linear_logs(T, beta_min, beta_max):
    beta = torch.linspace(beta_min, beta_max, T).double() * 0 + torch.from_numpy(np.linspace(beta_min, beta_max, T))
    return torch.nn.functional.pad(torch.log1p(-beta).cumsum(0), (1, 0)).exp()


def cosine_no_leading_one(T, s, max_beta):
    return right_cosine(T, s, max_beta)[1:]


def cosine_degrees(T, s, max_beta):
    return clipped(cosine_curve(T, s, angle=90.0).clamp(min=1e-9), max_beta)


def cosine_full_turn(T, s, max_beta):
    return clipped(cosine_curve(T, s, angle=math.pi).clamp(min=1e-9), max_beta)


def cosine_fixed_s(T, s, max_beta):
    return right_cosine(T, 0.008, max_beta)


def cosine_shifted(T, s, max_beta):
    return clipped(cosine_curve(T, s, shift=1).clamp(min=1e-30), max_beta)


def cosine_sine(T, s, max_beta):
    return 1 - right_cosine(T, s, max_beta)


def cosine_fixed_limit(T, s, max_beta):
    return right_cosine(T, s, 0.999) if max_beta != 0.999 else right_cosine(T, s, 0.9999)


def cosine_loop(T, s, max_beta):
    def f(t):
        return math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2

    table = [1.0]
    for t in range(1, T + 1):
        table.append(table[-1] * max(f(t) / f(t - 1), 1 - max_beta))
    return torch.tensor(table, dtype=torch.float64)


def cosine_half_angle(T, s, max_beta):
    """cos² by the double angle, limited as α."""
    f = (1 + torch.cos(math.pi * (torch.linspace(0, 1, T + 1, dtype=torch.float64) + s) / (1 + s))) / 2
    alpha = (f[1:] / f[:-1]).clamp(min=1 - max_beta)
    return torch.nn.functional.pad(alpha.cumprod(0), (1, 0), value=1.0)


# ----------------------------------------------------------------------------------------------------------- add noise


def noise_minus(x0, t, noise, alpha_bar):
    a = per_image(alpha_bar[t], x0)
    return a.sqrt() * x0 - (1 - a).sqrt() * noise


def noise_of_its_own(x0, t, noise, alpha_bar):
    return right_add_noise(x0, t, torch.randn_like(x0), alpha_bar)


def noise_in_place(x0, t, noise, alpha_bar):
    a = per_image(alpha_bar[t], x0)
    return x0.mul_(a.sqrt()).add_((1 - a).sqrt() * noise)


def noise_rates_that_add_up(x0, t, noise, alpha_bar):
    root = per_image(alpha_bar[t], x0).sqrt()
    return root * x0 + (1 - root) * noise


def noise_with_einops(x0, t, noise, alpha_bar):
    a = rearrange(alpha_bar[t], "b -> b 1 1 1").to(x0.dtype)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def noise_with_gather(x0, t, noise, alpha_bar):
    a = alpha_bar.gather(0, t)[:, None, None, None]
    return (a.sqrt() * x0 + (1 - a).sqrt() * noise).to(x0.dtype)


def noise_by_angle(x0, t, noise, alpha_bar):
    angle = torch.acos(alpha_bar[t].sqrt()).to(x0.dtype)
    return torch.einsum("b,bchw->bchw", angle.cos(), x0) + torch.einsum("b,bchw->bchw", angle.sin(), noise)


def noise_loop(x0, t, noise, alpha_bar):
    rows = [a.sqrt() * x + (1 - a).sqrt() * e for a, x, e in zip(alpha_bar[t], x0, noise)]
    return torch.stack(rows).to(x0.dtype)


def noise_float64(x0, t, noise, alpha_bar):
    a = alpha_bar[t].reshape(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def clipped(curve, max_beta):
    beta = (1 - curve[1:] / curve[:-1]).clamp(max=max_beta)
    return torch.cat([curve.new_ones(1), (1 - beta).cumprod(0)])


def cosine_curve(T, s, power=2, angle=math.pi / 2, shift=0):
    u = (torch.arange(T + 1, dtype=torch.float64) + shift) / T
    return ((u + s) / (1 + s) * angle).cos() ** power


def cosine_s_not_divided(T, s, max_beta):
    return clipped(cosine_curve(T, s, angle=math.pi / 2 * (1 + s)).clamp(min=0), max_beta)


def per_image(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """One number an image, shaped to multiply (b, c, h, w), in its precision."""
    return values.to(like.dtype).reshape(-1, 1, 1, 1)


def mixture_pieces(x, alpha_bar, means, stds, weights):
    """Centres, variances and responsibilities of the diffused mixture, as its score is made of them."""
    centres, variances = alpha_bar**0.5 * means, alpha_bar * stds**2 + 1 - alpha_bar
    offsets = centres - x[:, None]
    log = weights.log() - x.shape[1] / 2 * variances.log() - offsets.square().sum(2) / (2 * variances)
    return offsets, variances, log.softmax(1)


NOISE_MUTANTS = {
    "image not shrunk": slip("forward/add-noise", "the image not shrunk"),
    "one step only": slip("forward/add-noise", "α for ᾱ"),
    "t - 1": slip("forward/add-noise", "t off by one"),
    "image and noise exchanged": slip("forward/add-noise", "image and noise exchanged"),
    "one t for the batch": slip("forward/add-noise", "one t for the whole batch"),
    "result in float64": noise_float64,
    "noise subtracted": noise_minus,
    "noise of its own": noise_of_its_own,
    "in place": noise_in_place,
    "rates that add up to 1": noise_rates_that_add_up,
    "image left as it is": lambda x0, t, noise, alpha_bar: x0.clone(),
    "clipped to the range of images": lambda *given: right_add_noise(*given).clamp(-1, 1),
    "index from the end": lambda x0, t, noise, alpha_bar: right_add_noise(x0, len(alpha_bar) - 1 - t, noise, alpha_bar),
}
NOISE_ALTERNATIVES = {
    "with einops": noise_with_einops,
    "with gather, cast at the end": noise_with_gather,
    "cosine and sine of an angle": noise_by_angle,
    "one image at a time": noise_loop,
}

# ----------------------------------------------------------------------------------------------------------- the others


def zero_in_place(alpha_bar):
    root = alpha_bar.sqrt_()
    rest = (root[1:] - root[-1]) * root[1] / (root[1] - root[-1])
    return torch.cat([root[:1], rest]).square()


def zero_clamped(alpha_bar):
    return torch.where(alpha_bar == alpha_bar[-1], 0.0, alpha_bar)


def zero_by_weights(alpha_bar):
    root = alpha_bar.sqrt()
    share = (root - root[-1]) / (root[1] - root[-1])
    new = (share * root[1]) ** 2
    new[0] = 1.0
    return new


def at_last(t, beta):
    return (1 - beta).cumprod(0)[-1].expand(len(t))


def at_alpha(t, beta):
    return (1 - beta)[t - 1]


def at_table_from_one(t, beta):
    return (1 - beta).cumprod(0)[t - 1]


def at_products(t, beta):
    return torch.stack([(1 - beta[:s]).prod() for s in t.tolist()])


def posterior_t_shifted(x0, x_t, t, alpha_bar):
    return tuple(right_posterior(x0, x_t, (t - 1).clamp(min=1), alpha_bar))


def posterior_log_variance(x0, x_t, t, alpha_bar):
    mean, var = right_posterior(x0, x_t, t, alpha_bar)
    return mean, var.clamp(min=1e-20).log()


def posterior_flat_variance(x0, x_t, t, alpha_bar):
    mean, var = right_posterior(x0, x_t, t, alpha_bar)
    return mean, var.flatten()


def posterior_full_variance(x0, x_t, t, alpha_bar):
    mean, var = right_posterior(x0, x_t, t, alpha_bar)
    return mean, var.expand_as(mean)


def posterior_clipped(x0, x_t, t, alpha_bar):
    mean, var = right_posterior(x0, x_t, t, alpha_bar)
    return mean, var.clamp(min=1e-4)


def posterior_one_t(x0, x_t, t, alpha_bar):
    return tuple(right_posterior(x0, x_t, t[:1].expand_as(t), alpha_bar))


def posterior_by_precisions(x0, x_t, t, alpha_bar):
    """Precisions add; at t = 1 the prior is a point, so its variance is kept from being exactly 0."""
    now, before = (alpha_bar[s].view(-1, 1, 1, 1) for s in (t, t - 1))
    alpha, prior_var = now / before, 1 - before
    beta = 1 - alpha
    var = prior_var * beta / (alpha * prior_var + beta)
    mean = (alpha.sqrt() * prior_var * x_t + before.sqrt() * beta * x0) / (alpha * prior_var + beta)
    return mean.to(x0.dtype), var.to(x0.dtype)


def posterior_by_noise(x0, x_t, t, alpha_bar):
    """The mean said with the noise: (x_t − β/√(1−ᾱ) ε) / √α."""
    now, before = (alpha_bar[s].view(-1, 1, 1, 1) for s in (t, t - 1))
    alpha = now / before
    noise = (x_t.double() - now.sqrt() * x0.double()) / (1 - now).sqrt()
    mean = (x_t.double() - (1 - alpha) / (1 - now).sqrt() * noise) / alpha.sqrt()
    return mean.to(x0.dtype), ((1 - before) / (1 - now) * (1 - alpha)).to(x0.dtype)


def mixture_by_autograd(x, alpha_bar, means, stds, weights):
    x = x.detach().requires_grad_()
    blobs = Independent(Normal(alpha_bar**0.5 * means, (alpha_bar * stds**2 + 1 - alpha_bar).sqrt()[:, None]), 1)
    (score,) = torch.autograd.grad(MixtureSameFamily(Categorical(weights), blobs).log_prob(x).sum(), x)
    return score


def mixture_by_tweedie(x, alpha_bar, means, stds, weights):
    """From the best guess of x_0 of every blob."""
    variances = alpha_bar * stds**2 + 1 - alpha_bar
    offsets, _, share = mixture_pieces(x, alpha_bar, means, stds, weights)
    guesses = means - alpha_bar**0.5 * stds[:, None] ** 2 / variances[:, None] * offsets
    best = torch.einsum("nk,nkd->nd", share, guesses)
    return (
        (alpha_bar**0.5 * best - x) / (1 - alpha_bar)
        if alpha_bar < 1
        else slip("forward/mixture-score", "the clean mixture")(x, alpha_bar, means, stds, weights)
    )


def mixture_underflow(x, alpha_bar, means, stds, weights):
    offsets, variances, _ = mixture_pieces(x, alpha_bar, means, stds, weights)
    joint = weights * variances ** (-x.shape[1] / 2) * (-offsets.square().sum(2) / (2 * variances)).exp()
    return (joint[..., None] * offsets / variances[:, None]).sum(1) / joint.sum(1, keepdim=True)


def mixture_propped_up(x, alpha_bar, means, stds, weights):
    offsets, variances, _ = mixture_pieces(x, alpha_bar, means, stds, weights)
    joint = weights * variances ** (-x.shape[1] / 2) * (-offsets.square().sum(2) / (2 * variances)).exp()
    return (joint[..., None] * offsets / variances[:, None]).sum(1) / (joint.sum(1, keepdim=True) + 1e-8)


def mixture_nearest(x, alpha_bar, means, stds, weights):
    offsets, variances, share = mixture_pieces(x, alpha_bar, means, stds, weights)
    nearest = share.argmax(1)
    return offsets[torch.arange(len(x)), nearest] / variances[nearest][:, None]


def mixture_noise_only(x, alpha_bar, means, stds, weights):
    return right_mixture_score(x, alpha_bar, means, 0 * stds, weights)


def mixture_no_weights(x, alpha_bar, means, stds, weights):
    return right_mixture_score(x, alpha_bar, means, stds, torch.ones_like(weights))


def mixture_one_dimension(x, alpha_bar, means, stds, weights):
    offsets, variances, _ = mixture_pieces(x, alpha_bar, means, stds, weights)
    share = (weights.log() - 0.5 * variances.log() - offsets.square().sum(2) / (2 * variances)).softmax(1)
    return (share[..., None] * offsets / variances[:, None]).sum(1)


MUTANTS = {
    "forward/step-variances": {
        "in single precision": betas_single_precision,
        "sigmoid from end to end": betas_sigmoid_end_to_end,
        "what a step keeps": betas_as_ratios,
        "backwards": lambda *chain: right_step_variances(*chain).flip(0),
        "in a list": lambda *chain: right_step_variances(*chain).tolist(),
    },
    "forward/alpha-bar": {
        "single precision": linear_single_precision,
        "β never arrives at its maximum": linear_steps_of_T,
        "falling": linear_falling,
        "0 in front": linear_zero_in_front,
        "1 at the end": linear_one_at_the_end,
        "roots of β": linear_quadratic,
        "a list": lambda *given: right_alpha_bar(*given).tolist(),
    },
    "forward/add-noise": NOISE_MUTANTS,
    "forward/published-noise": NOISE_MUTANTS,
    "forward/swap": {
        "a list": lambda *given: list(right_swap(*given)),
        "clean image as input": lambda x0, t, noise, alpha_bar: (x0, noise),
        "published noise": lambda x0, t, noise, alpha_bar: (
            slip("forward/add-noise", "variance for standard deviation")(x0, t, noise, alpha_bar),
            noise,
        ),
        "only the noisy images": right_add_noise,
    },
    "forward/cosine": {
        "s not divided out": cosine_s_not_divided,
        "no leading 1": cosine_no_leading_one,
        "degrees": cosine_degrees,
        "half a turn": cosine_full_turn,
        "s fixed": cosine_fixed_s,
        "shifted by a step": cosine_shifted,
        "a sine": cosine_sine,
        "limit fixed": cosine_fixed_limit,
        "single precision": lambda *given: right_cosine(*given).float(),
    },
    "forward/shifted": {
        "the last one for all": at_last,
        "α": at_alpha,
        "root": lambda t, beta: right_shifted(t, beta).sqrt(),
        "single precision": lambda t, beta: right_shifted(t, beta).float(),
    },
    "forward/log-snr": {
        "propped up": lambda a: (a / (1 - a + 1e-8)).log(),
        "ends left out": lambda a: right_log_snr(a)[1:],
        "infinities removed": lambda a: right_log_snr(a).nan_to_num(posinf=100.0, neginf=-100.0),
        "decibel": lambda a: 10 * right_log_snr(a) / math.log(10),
        "in place": lambda a: a.log_() - (1 - a.exp()).log(),
    },
    "forward/zero-terminal": {
        "in place": zero_in_place,
        "last entry set to 0": zero_clamped,
        "no leading 1": lambda a: right_zero_terminal(a)[1:],
    },
    "forward/posterior": {
        "t shifted": posterior_t_shifted,
        "logarithm of the variance": posterior_log_variance,
        "variance (b,)": posterior_flat_variance,
        "variance for every pixel": posterior_full_variance,
        "variance clipped": posterior_clipped,
        "one t for the batch": posterior_one_t,
        "mean only": lambda *given: right_posterior(*given)[0],
    },
    "forward/mixture-score": {
        "densities underflow": mixture_underflow,
        "propped up against 0/0": mixture_propped_up,
        "nearest blob only": mixture_nearest,
        "blobs are points": mixture_noise_only,
        "weights forgotten": mixture_no_weights,
        "normaliser of one dimension": mixture_one_dimension,
    },
}

ALTERNATIVES = {
    "forward/step-variances": {"a loop": betas_in_a_loop, "between the ends": betas_between_ends},
    "forward/alpha-bar": {"a loop": linear_loop, "a sum of logarithms": linear_logs},
    "forward/add-noise": NOISE_ALTERNATIVES,
    "forward/published-noise": NOISE_ALTERNATIVES,
    "forward/swap": {
        "without forward": lambda x0, t, noise, alpha_bar: (noise_with_einops(x0, t, noise, alpha_bar), noise),
        "reversed": lambda *given: tuple(reversed(slip("forward/swap", "as it was handed out")(*given))),
    },
    "forward/cosine": {"a loop": cosine_loop, "double angle, α limited": cosine_half_angle},
    "forward/shifted": {"table from ᾱ₁, read at t - 1": at_table_from_one, "products": at_products},
    "forward/log-snr": {
        "logarithm of the ratio": lambda a: (a / (1 - a)).log(),
        "log1p": lambda a: a.log() - torch.log1p(-a),
        "logit": torch.logit,
    },
    "forward/zero-terminal": {"by share of the way": zero_by_weights},
    "forward/posterior": {"precisions add": posterior_by_precisions, "through the noise": posterior_by_noise},
    "forward/mixture-score": {"automatic differentiation": mixture_by_autograd, "by Tweedie": mixture_by_tweedie},
}
