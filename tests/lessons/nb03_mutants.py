"""Wrong answers to the quizzes of notebook 03 that must be rejected, and other right ones that must be accepted."""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from lessons.answers import in_other_forms, kept, right, slip, with_first

right_add_noise = right("forward/add-noise")
right_step_variances = right("forward/step-variances")
right_alpha_bar = right("forward/alpha-bar")
right_swap = right("forward/pairs")
right_cosine = right("forward/cosine")
right_shifted = right("forward/look-up")
right_log_snr = right("forward/log-snr")
right_zero_terminal = right("forward/zero-terminal")
right_posterior = right("forward/posterior")
right_mixture_score = right("forward/mixture-score")
right_walk = right("forward/walk")
right_step_at_snr = right("forward/step-at-snr")
right_any_length = right("forward/any-length")
right_bayes = right("forward/bayes-grid")
right_two_values = right("forward/two-values")
right_joint = right("forward/mixture-joint")
right_walk_back = right("forward/walk-back")


# ----------------------------------------------------------------------------------------------------------- the tables


def betas_along(u, kind, beta_min, beta_max):
    if kind == "quadratic":
        return (beta_min**0.5 + (beta_max**0.5 - beta_min**0.5) * u) ** 2
    return beta_min + (beta_max - beta_min) * (torch.sigmoid(12 * u - 6) if kind == "sigmoid" else u)


def betas_of_a_thousand(kind, T, beta_min, beta_max):
    return betas_along(torch.arange(T, dtype=torch.float64) / 999, kind, beta_min, beta_max)


def betas_geometric(kind, T, beta_min, beta_max):
    if kind != "quadratic":
        return right_step_variances(kind, T, beta_min, beta_max)
    return beta_min * (beta_max / beta_min) ** torch.linspace(0, 1, T, dtype=torch.float64)


def betas_flatter_sigmoid(kind, T, beta_min, beta_max):
    if kind != "sigmoid":
        return right_step_variances(kind, T, beta_min, beta_max)
    return beta_min + (beta_max - beta_min) * torch.linspace(-3, 3, T, dtype=torch.float64).sigmoid()


def betas_root_without_min(kind, T, beta_min, beta_max):
    if kind != "quadratic":
        return right_step_variances(kind, T, beta_min, beta_max)
    return beta_max * torch.linspace(0, 1, T, dtype=torch.float64) ** 2


def betas_by_numpy(kind, T, beta_min, beta_max):
    u = np.linspace(0, 1, T)
    curve = {"linear": u, "sigmoid": 1 / (1 + np.exp(6 - 12 * u))}
    if kind in curve:
        return torch.from_numpy((1 - curve[kind]) * beta_min + curve[kind] * beta_max)
    return torch.from_numpy(np.linspace(np.sqrt(beta_min), np.sqrt(beta_max), T) ** 2)


def betas_through_float32(which, steps, low=1e-4, high=0.02):
    return betas_along(torch.linspace(0, 1, steps), which, low, high).double()


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


def linear_of_a_thousand(T, beta_min, beta_max):
    beta = beta_min + (beta_max - beta_min) * torch.arange(T, dtype=torch.float64) / 999
    return torch.nn.functional.pad((1 - beta).cumprod(0), (1, 0), value=1.0)


def linear_through_float32(T, beta_min, beta_max):
    alpha = 1 - torch.linspace(beta_min, beta_max, T).double()
    return torch.cumprod(torch.cat([torch.ones(1).double(), alpha]), 0)


def linear_by_numpy(T, beta_min, beta_max):
    return torch.tensor(np.concatenate([[1.0], np.cumprod(1 - np.linspace(beta_min, beta_max, T))]))


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


def cosine_alpha_limited_above(T, s, max_beta):
    curve = cosine_curve(T, s)
    alpha = (curve[1:] / curve[:-1]).clamp(max=1 - max_beta)
    return torch.cat([curve.new_ones(1), alpha.cumprod(0)])


def cosine_last_limited(T, s, max_beta):
    curve = cosine_curve(T, s)
    beta = 1 - curve[1:] / curve[:-1]
    beta[-1] = beta[-1].clamp(max=max_beta)
    return torch.cat([curve.new_ones(1), (1 - beta).cumprod(0)])


def cosine_shrunk_to_limit(T, s, max_beta):
    curve = cosine_curve(T, s)
    beta = 1 - curve[1:] / curve[:-1]
    return torch.cat([curve.new_ones(1), (1 - beta * max_beta / beta.max()).cumprod(0)])


def cosine_never_small(T, s, max_beta):
    curve = cosine_curve(T, s)
    beta = (1 - curve[1:] / curve[:-1]).clamp(min=min(0.02, max_beta), max=max_beta)
    return torch.cat([curve.new_ones(1), (1 - beta).cumprod(0)])


def cosine_of_a_thousand(T, s, max_beta):
    u = torch.arange(T + 1, dtype=torch.float64) / 1000
    return clipped(((u + s) / (1 + s) * math.pi / 2).cos() ** 2, max_beta)


def cosine_by_numpy(T, s, max_beta):
    f = np.cos((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2) ** 2
    return torch.as_tensor(np.r_[1.0, np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], max_beta))])


def cosine_through_float32(T, s, max_beta):
    """The angles in single precision, the products in double."""
    f = torch.cos((torch.arange(T + 1) / T + s) / (1 + s) * math.pi / 2).double() ** 2
    beta = torch.minimum(1 - f[1:] / f[:-1], torch.tensor(max_beta, dtype=torch.float64))
    return torch.cat([torch.ones(1).double(), torch.cumprod(1 - beta, 0)])


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


def noise_in_place(x0, t, noise, alpha_bar):
    a = per_image(alpha_bar[t], x0)
    return x0.mul_(a.sqrt()).add_((1 - a).sqrt() * noise)


def noise_never_at_the_end(x0, t, noise, alpha_bar):
    return right_add_noise(x0, t.clamp(max=len(alpha_bar) - 2), noise, alpha_bar)


def noise_never_clean(x0, t, noise, alpha_bar):
    return right_add_noise(x0, t.clamp(min=1), noise, alpha_bar)


def noise_nothing_left_at_the_end(x0, t, noise, alpha_bar):
    done = per_image(t == len(alpha_bar) - 1, x0).bool()
    return torch.where(done, noise, right_add_noise(x0, t, noise, alpha_bar))


def noise_half_precision(x0, t, noise, alpha_bar):
    a = per_image(alpha_bar[t].half(), x0)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def noise_mean_rates(x0, t, noise, alpha_bar):
    a = alpha_bar[t].mean().to(x0.dtype)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def noise_propped_up(x0, t, noise, alpha_bar):
    a = per_image(alpha_bar[t], x0)
    return a.sqrt() * x0 + (1 - a + 1e-5).sqrt() * noise


def noise_one_from_the_cpu(x0, t, noise, alpha_bar):
    a = per_image(alpha_bar[t], x0)
    return a.sqrt() * x0 + (torch.ones(len(t), 1, 1, 1, dtype=x0.dtype) - a).sqrt() * noise


def noise_used_up(x0, t, noise, alpha_bar):
    a = per_image(alpha_bar[t], x0)
    return a.sqrt() * x0 + noise.mul_((1 - a).sqrt())


def noise_recording_left_off(x0, t, noise, alpha_bar):
    torch.set_grad_enabled(False)
    return right_add_noise(x0, t, noise, alpha_bar)


def noise_standardised(x0, t, noise, alpha_bar):
    noise = (noise - noise.mean((1, 2, 3), keepdim=True)) / noise.std((1, 2, 3), keepdim=True)
    return right_add_noise(x0, t, noise, alpha_bar)


def noise_with_rates_kept():
    """Kept by shape: as long as a batch is as large as the one before, its steps are the old ones."""
    seen = {}

    def answer(x0, t, noise, alpha_bar):
        a = seen.setdefault((x0.shape, x0.device.type), per_image(alpha_bar[t], x0))
        return a.sqrt() * x0 + (1 - a).sqrt() * noise

    return answer


def mixed_per_image(values, like):
    """One number for each image, repeated for its channels; but `repeat` runs through all images before it does so."""
    b, c = like.shape[:2]
    return values.to(like.dtype).repeat(c).view(b, c, 1, 1)


def noise_repeated(x0, t, noise, alpha_bar):
    a = mixed_per_image(alpha_bar[t], x0)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def noise_channels_first(x0, t, noise, alpha_bar):
    noise = noise.reshape(x0.shape[1], len(x0), *x0.shape[2:]).transpose(0, 1)
    return right_add_noise(x0, t, noise, alpha_bar)


def by_length(*given):
    return len(given[-1]), given[-1].device.type


def by_length_and_images(*given):
    return *by_length(*given), given[0].shape, given[0].dtype


def noise_single_rates(images, steps, eps, table, /):
    a = table.float()[steps].view(-1, 1, 1, 1)
    return (a.sqrt() * images + (1 - a).sqrt() * eps).to(images.dtype)


def noise_rates_squared(x0, t, noise, alpha_bar):
    """The noise rate from the signal rate, in the images' precision."""
    signal = alpha_bar.sqrt()[t].to(x0)[:, None, None, None]
    return torch.addcmul(signal * x0, (1 - signal**2).clamp(min=0).sqrt(), noise)


def noise_number_by_number(x0, t, noise, alpha_bar):
    rows = []
    for x, step, e in zip(x0, t.tolist(), noise):
        a = torch.tensor(alpha_bar[step].item())
        rows.append(torch.sqrt(a) * x + torch.sqrt(1 - a) * e)
    return torch.stack(rows)


@torch.no_grad()
def noise_on_copies(x0, t, noise, alpha_bar):
    x, e = x0.clone(), noise.clone()
    a = torch.index_select(alpha_bar, 0, t).type_as(x0).reshape(len(x0), 1, 1, 1)
    x *= a**0.5
    e *= (1 - a) ** 0.5
    x += e
    return x


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
    """One number for each image, shaped to multiply (b, c, h, w), in its precision."""
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
    "in place": noise_in_place,
    "image left as it is": lambda x0, t, noise, alpha_bar: x0.clone(),
    "clipped to the range of images": lambda *given: right_add_noise(*given).clamp(-1, 1),
    "never at the end": noise_never_at_the_end,
    "never clean": noise_never_clean,
    "nothing left at the end": noise_nothing_left_at_the_end,
    "in half precision": noise_half_precision,
    "the mean of the rates": noise_mean_rates,
    "propped up": noise_propped_up,
    "a one from the CPU": noise_one_from_the_cpu,
    "noise changed in place": noise_used_up,
    "recording left off": noise_recording_left_off,
    "noise standardised": noise_standardised,
    "rates kept by shape": noise_with_rates_kept(),
    "repeated in the wrong order": noise_repeated,
    "noise with channels before images": noise_channels_first,
    "table kept by its length": with_first(right_add_noise, -1, by_length),
    "table kept by its length and the images": with_first(right_add_noise, -1, by_length_and_images),
    "colours mixed": lambda x0, *rest: right_add_noise(x0.mean(1, keepdim=True).expand_as(x0), *rest),
    "index from the end": lambda x0, t, noise, alpha_bar: right_add_noise(x0, len(alpha_bar) - 1 - t, noise, alpha_bar),
}
NOISE_ALTERNATIVES = {
    "with einops": noise_with_einops,
    "with gather, cast at the end": noise_with_gather,
    "cosine and sine of an angle": noise_by_angle,
    "one image at a time": noise_loop,
    "rates in single precision, by position only": noise_single_rates,
    "the noise rate from the signal rate": noise_rates_squared,
    "number by number": noise_number_by_number,
    "in place on copies": noise_on_copies,
    **in_other_forms(noise_with_einops),
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


def zero_as_in_diffusers(alpha_bar):
    new = right_zero_terminal(alpha_bar).clone()
    new[-1] = 2.0**-24
    return new


def zero_floor(alpha_bar):
    return right_zero_terminal(alpha_bar).clamp(min=1e-5)


def zero_first_put_back(alpha_bar):
    """Stretched to ᾱ₀; afterwards ᾱ₁ is put back where it was."""
    new = slip("forward/zero-terminal", "stretched to ᾱ₀")(alpha_bar)
    new[1] = alpha_bar[1]
    return new


def zero_by_steps(alpha_bar):
    """The share of the last root that is taken away grows along a line of steps."""
    root = alpha_bar.sqrt()
    root[1:] -= root[-1] * torch.linspace(0, 1, len(root) - 1, dtype=root.dtype)
    return root.square()


def zero_factor_on_variances(alpha_bar):
    root = alpha_bar.sqrt()
    rest = (root[1:] - root[-1]).square() * alpha_bar[1] / (alpha_bar[1] - alpha_bar[-1])
    return torch.cat([root[:1], rest])


def zero_loop(alpha_bar):
    first, *_, end = roots = [math.sqrt(a) for a in alpha_bar[1:].tolist()]
    new = [1.0] + [((root - end) * first / (first - end)) ** 2 for root in roots]
    return torch.tensor(new, dtype=torch.float64)


def at_never_the_end(t, beta):
    return right_shifted(t.clamp(max=len(beta) - 1), beta)


def at_from_the_start_again(t, beta):
    return right_shifted(t % len(beta), beta)


def at_in_place(t, beta):
    table = torch.cat([torch.ones_like(beta[:1]), beta.neg_().add_(1).cumprod(0)])
    return table[t]


def at_on_the_cpu(t, beta):
    return torch.cat([torch.ones(1, dtype=beta.dtype), (1 - beta).cumprod(0)])[t]


def at_sum_of_logs(steps, variances):
    return torch.nn.functional.pad((1 - variances).log().cumsum(0), (1, 0)).exp().gather(0, steps)


def at_masked(t, beta):
    """Only the factors up to t, by a mask of (b, T)."""
    up_to = torch.arange(1, len(beta) + 1, device=t.device) <= t[:, None]
    return torch.where(up_to, 1 - beta, 1.0).prod(1)


def log_snr_from_odds(a):
    return -(1 / a - 1).log()


def log_snr_on_a_copy(a):
    noise = a.clone().neg_().add_(1).log_()
    return a.log().sub_(noise)


def posterior_never_at_the_end(x0, x_t, t, alpha_bar):
    return tuple(right_posterior(x0, x_t, t.clamp(max=len(alpha_bar) - 2), alpha_bar))


def posterior_noise_at_the_end(x0, x_t, t, alpha_bar):
    """β where the variance is 0."""
    mean, var = right_posterior(x0, x_t, t, alpha_bar)
    return mean, torch.where(var == 0, 1 - per_image(alpha_bar[1:2], x0), var)


def posterior_clipped_image(x0, x_t, t, alpha_bar):
    return tuple(right_posterior(x0.clamp(-1, 1), x_t, t, alpha_bar))


def posterior_double(x0, x_t, t, alpha_bar):
    mean, var = right_posterior(x0.double(), x_t.double(), t, alpha_bar)
    return mean.to(x0.dtype), var


def posterior_in_place(x0, x_t, t, alpha_bar):
    mean, var = right_posterior(x0, x_t, t, alpha_bar)
    return x0.copy_(mean), var


def posterior_propped_up(x0, x_t, t, alpha_bar):
    return posterior_weighed(x0, x_t, *(per_image(alpha_bar[s], x0) for s in (t, t - 1)), small=1e-3)


def posterior_one_from_the_cpu(x0, x_t, t, alpha_bar):
    one = torch.ones(len(t), 1, 1, 1, dtype=torch.float64)
    now, before = (alpha_bar[s].view(-1, 1, 1, 1) for s in (t, t - 1))
    mean, _ = right_posterior(x0, x_t, t, alpha_bar)
    return mean, ((one - before) / (one - now) * (one - now / before)).to(x0.dtype)


def posterior_weighed(x0, x_t, now, before, small=0.0):
    alpha = now / before
    weights = before.sqrt() * (1 - alpha), alpha.sqrt() * (1 - before)
    mean = (weights[0] * x0 + weights[1] * x_t) / (1 - now + small)
    return mean.to(x0.dtype), ((1 - before) * (1 - alpha) / (1 - now + small)).to(x0.dtype)


def posterior_single_weights(image, noisy, step, table):
    """ᾱ in single precision, whatever the images are in."""
    return posterior_weighed(image, noisy, *(table.float()[s][:, None, None, None] for s in (step, step - 1)))


def posterior_images_precision(x0, x_t, t, alpha_bar):
    return posterior_weighed(x0, x_t, *(per_image(alpha_bar[s], x0) for s in (t, t - 1)))


def posterior_repeated(x0, x_t, t, alpha_bar):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    beta = 1 - now / before
    weight_0 = mixed_per_image(before.sqrt() * beta / (1 - now), x0)
    weight_t = mixed_per_image((now / before).sqrt() * (1 - before) / (1 - now), x0)
    return weight_0 * x0 + weight_t * x_t, per_image((1 - before) / (1 - now) * beta, x0)


class MeanAndVariance(NamedTuple):
    mean: torch.Tensor
    var: torch.Tensor


def posterior_image_by_image(x0, x_t, t, alpha_bar):
    pairs = []
    for x, noisy, step in zip(x0, x_t, t):
        pairs.append(posterior_weighed(x, noisy, alpha_bar[step], alpha_bar[step - 1]))
    return MeanAndVariance(
        *(torch.stack(parts).view(len(x0), *shape) for parts, shape in zip(zip(*pairs), (x0.shape[1:], (1, 1, 1))))
    )


def posterior_from_betas(x0, x_t, t, alpha_bar):
    """With the table of β, and the weight of x_t as what the rest leaves."""
    beta = 1 - alpha_bar / torch.cat([alpha_bar[:1], alpha_bar[:-1]])
    tilde = (1 - alpha_bar.roll(1)) / (1 - alpha_bar) * beta
    weight = (alpha_bar.roll(1).sqrt() * beta / (1 - alpha_bar))[t].reshape(-1, 1, 1, 1)
    rest = (1 - beta[t]).sqrt() * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
    mean = torch.einsum("bchw,b->bchw", x_t, rest.to(x_t.dtype)) + weight.to(x0.dtype) * x0
    return mean, tilde[t].reshape(-1, 1, 1, 1).to(x0.dtype)


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


def mixture_weighed(x, alpha_bar, means, stds, weights, d=None, clip=None, dim=1, power=1, s=2):
    """The score with a place for each of the mistakes that people make."""
    variances = alpha_bar * stds**s + (1 - alpha_bar) ** power
    offsets = alpha_bar**0.5 * means - x[:, None]
    log = weights.log() - (d or x.shape[1]) / 2 * variances.log() - offsets.square().sum(2) / (2 * variances)
    log = log if clip is None else log.clamp(min=clip)
    return (log.softmax(dim)[..., None] * offsets / variances[:, None]).sum(1)


def mixture_one_maximum(x, alpha_bar, means, stds, weights):
    """The largest logarithm of the whole table is taken away, not that of each point."""
    offsets, variances, share = mixture_pieces(x, alpha_bar, means, stds, weights)
    log = weights.log() - x.shape[1] / 2 * variances.log() - offsets.square().sum(2) / (2 * variances)
    joint = (log - log.max()).exp()
    return (joint[..., None] * offsets / variances[:, None]).sum(1) / joint.sum(1, keepdim=True)


def mixture_summed_on_the_cpu(x, alpha_bar, means, stds, weights):
    offsets, variances, share = mixture_pieces(x, alpha_bar, means, stds, weights)
    total = torch.zeros(x.shape, dtype=x.dtype)
    for k in range(len(means)):
        total = total + share[:, k, None] * offsets[:, k] / variances[k]
    return total


def mixture_weights_used_up(x, alpha_bar, means, stds, weights):
    offsets, variances, _ = mixture_pieces(x, alpha_bar, means, stds, weights)
    log = weights.log_() - x.shape[1] / 2 * variances.log() - offsets.square().sum(2) / (2 * variances)
    return (log.softmax(1)[..., None] * offsets / variances[:, None]).sum(1)


def mixture_blob_by_blob(x, alpha_bar, means, stds, weights):
    logs, pulls = [], []
    for m, std, w in zip(means, stds, weights):
        var = alpha_bar * std**2 + 1 - alpha_bar
        pull = (math.sqrt(alpha_bar) * m - x) / var
        logs.append(torch.log(w) - x.shape[1] / 2 * torch.log(2 * math.pi * var) - var * (pull**2).sum(1) / 2)
        pulls.append(pull)
    logs = torch.stack(logs)
    share = (logs - logs.logsumexp(0)).exp()
    return sum(r[:, None] * pull for r, pull in zip(share, pulls))


def mixture_single_rates(points, a, centres, widths, shares, /):
    """ᾱ once through a tensor, that is through single precision."""
    a = torch.tensor(a)
    signal, noise = torch.sqrt(a), 1 - a
    var = (a * widths.square() + noise)[None]
    difference = rearrange(signal * centres, "k d -> 1 k d") - rearrange(points, "n d -> n 1 d")
    log = (
        shares.log()
        - points.shape[-1] * var.sqrt().log()
        - torch.einsum("nkd,nkd->nk", difference, difference) / var / 2
    )
    return torch.einsum("nk,nkd->nd", torch.softmax(log, -1) / var, difference)


def mixture_stable_by_hand(x, alpha_bar, means, stds, weights):
    """The largest of each point's own logarithms is taken away before exp."""
    offsets, variances, _ = mixture_pieces(x, alpha_bar, means, stds, weights)
    log = weights.log() - x.shape[1] / 2 * variances.log() - offsets.square().sum(2) / (2 * variances)
    joint = (log - log.amax(1, keepdim=True)).exp()
    return (joint[..., None] * offsets / variances[:, None]).sum(1) / joint.sum(1, keepdim=True)


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


# ---------------------------------------------------------------------------------------------- the chain, step by step


def walk_last_beta_first(x0, beta, noise):
    return right_walk(x0, beta.flip(0), noise)


def walk_one_step_late(x0, beta, noise):
    return torch.cat([x0[None], right_walk(x0, beta, noise)[:-1]])


def walk_images_first(x0, beta, noise):
    return right_walk(x0, beta, noise).transpose(0, 1)


def walk_float64(x0, beta, noise):
    return right_walk(x0.double(), beta, noise.double())


def walk_in_place(x0, beta, noise):
    states = [x0.clone()]
    for b, e in zip(beta.to(x0.dtype), noise):
        states.append(x0.mul_((1 - b).sqrt()).add_(b.sqrt() * e).clone())
    return torch.stack(states)


def walk_all_the_same(x0, beta, noise):
    """Appends one tensor again and again, and changes it."""
    x, states = x0.clone(), []
    for b, e in zip(beta.to(x0.dtype), noise):
        states.append(x)
        x.mul_((1 - b).sqrt()).add_(b.sqrt() * e)
    return torch.stack([*states, x])


def walk_one_noise(x0, beta, noise):
    return right_walk(x0, beta, noise[:1].expand_as(noise))


def walk_with_accumulate(x0, beta, noise):
    steps = zip(beta.tolist(), noise)
    chain = itertools.accumulate(steps, lambda x, step: (1 - step[0]) ** 0.5 * x + step[0] ** 0.5 * step[1], initial=x0)
    return torch.stack(list(chain))


def walk_into_a_table(images, variances, shakes, /):
    out = images.new_empty(len(variances) + 1, *images.shape)
    out[0] = images
    for t in range(1, len(variances) + 1):
        alpha = 1 - variances[t - 1]
        out[t] = torch.sqrt(alpha) * out[t - 1] + torch.sqrt(1 - alpha) * shakes[t - 1]
    return out


def walk_recursively(x0, beta, noise):
    if len(beta) == 0:
        return x0[None]
    before = walk_recursively(x0, beta[:-1], noise[:-1])
    b = beta[-1]
    return torch.cat([before, ((1 - b) ** 0.5 * before[-1] + b**0.5 * noise[-1])[None]])


def walk_by_a_while(x0, beta, noise):
    x, t, kept = x0.clone(), 0, [x0.clone()]
    roots = torch.stack([(1 - beta).sqrt(), beta.sqrt()]).to(x0)
    while t < noise.shape[0]:
        x = torch.addcmul(roots[0, t] * x, roots[1, t], noise[t])
        kept += [x]
        t += 1
    return torch.stack(kept, dim=0)


# --------------------------------------------------------------------------------------------------- from SNR to a step


def step_at_as_share(alpha_bar, snr):
    """Where what is left falls to the ratio itself, as a share."""
    return (alpha_bar[None, :] > snr.clamp(max=1 - 1e-9)[:, None]).sum(1).clamp(max=len(alpha_bar) - 1)


def step_at_over_T(alpha_bar, snr):
    return right_step_at_snr(alpha_bar, snr) / (len(alpha_bar) - 1)


def step_at_one_for_all(alpha_bar, snr):
    return right_step_at_snr(alpha_bar, snr[:1]).expand(len(snr))


def step_at_sorted(alpha_bar, snr):
    return right_step_at_snr(alpha_bar, snr).sort().values


def step_at_by_searching(alpha_bar, snr):
    place = torch.searchsorted(-alpha_bar, -(snr / (1 + snr)))
    return place.clamp(max=len(alpha_bar) - 1)


def step_at_by_logarithms(table, ratio, /):
    level = table.log() - (1 - table).log()
    return (level.unsqueeze(0) > ratio.log().unsqueeze(1)).long().sum(dim=1).clamp_max(table.numel() - 1)


def step_at_by_ratios(alpha_bar, snr):
    cleaner = alpha_bar / (1 - alpha_bar) > snr[:, None]
    return torch.minimum(cleaner.sum(1), torch.tensor(len(alpha_bar) - 1, device=cleaner.device))


def step_at_by_argmax(alpha_bar, snr):
    noisier = alpha_bar <= (1 / (1 + 1 / snr))[:, None]
    first = noisier.to(torch.int).argmax(1)
    return torch.where(noisier.any(1), first, len(alpha_bar) - 1)


# ---------------------------------------------------------------------------------------------- one curve at any length


def any_length_floor(T):
    """Rounded down everywhere: a stride short at the places between."""
    long = right_alpha_bar(1000)
    return long[torch.arange(T + 1) * (1000 // T)]


def any_length_from_one(T):
    return right_alpha_bar(1000)[torch.linspace(1, 1000, T + 1).round().long()]


def any_length_cut_short(T):
    return right_alpha_bar(1000)[: T + 1]


def any_length_cosine(T):
    return right_cosine(T)


def any_length_fixed(T):
    return right_any_length(200)


def any_length_ends_mended(T):
    """The short table with its last entry pushed down."""
    table = right_alpha_bar(T)
    table[-1] = right_alpha_bar(1000)[-1]
    return table


def any_length_clamped(T):
    beta = (torch.linspace(1e-4, 0.02, T, dtype=torch.float64) * 1000 / T).clamp(max=0.999)
    return torch.cat([beta.new_ones(1), (1 - beta).cumprod(0)])


def any_length_continuous(T):
    """Song et al. (2021): the limit of many steps."""
    u = torch.arange(T + 1, dtype=torch.float64) / T
    return torch.exp(-(0.1 * u + 9.95 * u**2))


def any_length_interpolated(steps):
    long = right_alpha_bar(1000).log().numpy()
    return torch.from_numpy(np.exp(np.interp(np.linspace(0, 1000, steps + 1), np.arange(1001), long)))


def any_length_read_in_a_loop(T):
    long = right_alpha_bar(1000)
    return torch.tensor([long[min(1000, round(t * 1000 / T))].item() for t in range(T + 1)])


def any_length_by_products(T):
    """Strides between the stops: β of each from the product of the small steps in it."""
    ends = (torch.arange(T + 1) * 1000 / T).round().long()
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    table = [torch.ones((), dtype=torch.float64)]
    for start, end in zip(ends[:-1], ends[1:]):
        table.append(table[-1] * (1 - beta[start:end]).prod())
    return torch.stack(table)


# ----------------------------------------------------------------------------------------------------- Bayes by numbers


def bayes_mean_at_the_peak(grid, before, x_t, alpha):
    density, _, var = right_bayes(grid, before, x_t, alpha)
    return density, grid[density.argmax()], var


def bayes_density_only(*given):
    return right_bayes(*given)[0]


def bayes_in_another_order(*given):
    density, mean, var = right_bayes(*given)
    return mean, var, density


def bayes_area_by_sum(grid, before, x_t, alpha):
    """The area without the distance of the points: all three are off by it."""
    product = (-0.5 * (x_t - alpha**0.5 * grid) ** 2 / (1 - alpha)).exp() * before
    density = product / product.sum()
    mean = torch.trapezoid(density * grid, grid)
    return density, mean, torch.trapezoid(density * (grid - mean) ** 2, grid)


def bayes_alpha_and_beta_exchanged(grid, before, x_t, alpha):
    return right_bayes(grid, before, x_t, 1 - alpha)


def bayes_by_sums(grid, before, x_t, alpha):
    width = grid[1] - grid[0]
    density = before * torch.exp(-((x_t - math.sqrt(alpha) * grid) ** 2) / (2 - 2 * alpha))
    density = density / (density.sum() * width)
    mean = (density * grid).sum() * width
    return density, mean.item(), ((density * grid**2).sum() * width - mean**2).item()


def bayes_with_logarithms(values, prior, seen, kept, /):
    log = torch.distributions.Normal(kept**0.5 * values, (1 - kept) ** 0.5).log_prob(torch.tensor(seen).double())
    share = (log + prior.log()).softmax(0)
    mean = share @ values
    return share / (values[1] - values[0]), mean, share @ (values - mean).square()


def bayes_by_numpy(grid, before, x_t, alpha):
    g, p = grid.numpy(), before.numpy()
    p = p * np.exp(-0.5 * (x_t - np.sqrt(alpha) * g) ** 2 / (1 - alpha))
    p = p / np.trapezoid(p, g)
    mean = np.trapezoid(p * g, g)
    return torch.from_numpy(p), float(mean), float(np.trapezoid(p * (g - mean) ** 2, g))


# -------------------------------------------------------------------------------------------- the step back, two values


def two_values_at_the_mean(x_t, t, alpha_bar):
    return right_two_values(torch.zeros_like(x_t), t, alpha_bar)


def two_values_std(*given):
    return right_two_values(*given).sqrt()


def two_values_of_step_before(x_t, t, alpha_bar):
    return right_two_values(x_t, max(t - 1, 1), alpha_bar)


def two_values_between(x_t, t, alpha_bar):
    """Never wider than β."""
    return right_two_values(x_t, t, alpha_bar).clamp(max=(1 - alpha_bar[t] / alpha_bar[t - 1]).item())


def two_values_weight_without_root(x_t, t, alpha_bar):
    now, before = alpha_bar[t], alpha_bar[t - 1]
    beta = 1 - now / before
    weight = before * beta / (1 - now)
    guess = torch.tanh(now.sqrt() * x_t / (1 - now))
    return (1 - before) / (1 - now) * beta + weight**2 * (1 - guess**2)


def two_values_by_mixture(x_t, t, alpha_bar):
    """Both answers of (3.8) and their probabilities, then mean and variance of the mixture."""
    now, before = alpha_bar[t].item(), alpha_bar[t - 1].item()
    beta = 1 - now / before
    p = torch.sigmoid(2 * now**0.5 * x_t / (1 - now))
    rest = (now / before) ** 0.5 * (1 - before) / (1 - now) * x_t
    weight = before**0.5 * beta / (1 - now)
    up, down = rest + weight, rest - weight
    mean = p * up + (1 - p) * down
    return (1 - before) / (1 - now) * beta + p * (up - mean) ** 2 + (1 - p) * (down - mean) ** 2


def two_values_by_cosh(seen, step, table, /):
    now, before = table[step], table[step - 1]
    narrow = (1 - before) * (1 - now / before) / (1 - now)
    spread = torch.sqrt(before) * (1 - now / before) / (1 - now)
    return narrow + (spread / torch.cosh(torch.sqrt(now) * seen / (1 - now))) ** 2


def two_values_one_by_one(x_t, t, alpha_bar):
    a, b = alpha_bar[t].item(), alpha_bar[t - 1].item()
    rows = []
    for x in x_t.tolist():
        plus, minus = (math.exp(-((x - v * math.sqrt(a)) ** 2) / (2 * (1 - a))) for v in (1, -1))
        m = (plus - minus) / (plus + minus)
        rows.append((1 - b) / (1 - a) * (1 - a / b) + b * ((1 - a / b) / (1 - a)) ** 2 * (1 - m * m))
    return torch.tensor(rows, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------ blobs, diffused


def joint_blobs_first(*given):
    return right_joint(*given).T


def joint_density(*given):
    return right_joint(*given).logsumexp(1)


def joint_s_for_variance(x, alpha_bar, means, stds, weights):
    return right_joint(x, alpha_bar, means, stds.sqrt(), weights)


def joint_clipped(*given):
    return right_joint(*given).clamp(min=-500)


def joint_weights_not_logged(x, alpha_bar, means, stds, weights):
    return right_joint(x, alpha_bar, means, stds, weights) - weights.log() + weights


def joint_by_distributions(x, alpha_bar, means, stds, weights):
    spread = (alpha_bar * stds**2 + 1 - alpha_bar).sqrt()[:, None].expand_as(means)
    blobs = Independent(Normal(math.sqrt(alpha_bar) * means, spread), 1)
    return weights.log() + blobs.log_prob(x[:, None, :])


def joint_blob_by_blob(points, a, centres, widths, shares, /):
    columns = []
    for k in range(len(centres)):
        v = a * widths[k] ** 2 + (1 - a)
        distance = ((points - a**0.5 * centres[k]) ** 2).sum(1)
        columns.append(torch.log(shares[k]) - 0.5 * (points.shape[1] * torch.log(2 * torch.pi * v) + distance / v))
    return torch.stack(columns, dim=1)


def joint_with_einops(x, alpha_bar, means, stds, weights):
    v = rearrange(alpha_bar * stds**2 + 1 - alpha_bar, "k -> 1 k")
    offset = rearrange(x, "n d -> n 1 d") - alpha_bar**0.5 * rearrange(means, "k d -> 1 k d")
    return torch.log(weights) - (x.shape[1] * torch.log(2 * math.pi * v) + (offset**2).sum(2) / v) / 2


# ----------------------------------------------------------------------------------------------------- all the way back


def back_one_step_only(x_T, alpha_bar, score, noise):
    a = alpha_bar[-1].item()
    return (x_T + (1 - a) * score(x_T, a)) / a**0.5


def back_forwards(x_T, alpha_bar, score, noise):
    """From t = 1 up."""
    x = x_T
    for t in range(1, len(alpha_bar)):
        x = back_step(x, t, alpha_bar, score, noise)
    return x


def back_clipped(x_T, alpha_bar, score, noise):
    return right_walk_back(x_T, alpha_bar, score, noise).clamp(-1, 1)


def back_noise_left(x_T, alpha_bar, score, noise):
    """Noise at the last step as well."""
    return right_walk_back(x_T, alpha_bar, score, noise) + (1 - alpha_bar[1]).sqrt().item() * noise[0]


def back_score_of_the_start(x_T, alpha_bar, score, noise):
    """The score is asked once, at x_T."""
    return right_walk_back(x_T, alpha_bar, lambda x, a: score(x_T, a), noise)


def back_guess_of_the_noise(x_T, alpha_bar, score, noise):
    x = x_T
    for t in range(len(alpha_bar) - 1, 0, -1):
        a = alpha_bar[t].item()
        x = back_step(x, t, alpha_bar, lambda x, a: -score(x, a) * (1 - a) ** 0.5, noise)
        del a
    return x


def back_step(x, t, alpha_bar, score, noise):
    now, before = alpha_bar[t].item(), alpha_bar[t - 1].item()
    beta = 1 - now / before
    guess = (x + (1 - now) * score(x, now)) / now**0.5
    mean = (before**0.5 * beta * guess + (now / before) ** 0.5 * (1 - before) * x) / (1 - now)
    return mean + ((1 - before) / (1 - now) * beta) ** 0.5 * noise[t - 1]


def back_through_the_posterior(x_T, alpha_bar, score, noise):
    x, t = x_T.clone(), len(alpha_bar) - 1
    while t:
        steps = torch.full((x.shape[0],), t, dtype=torch.long)
        left = alpha_bar[t]
        denoised = (x + (1 - left.item()) * score(x, left.item())) / left.sqrt().item()
        mean, var = right_posterior(denoised, x, steps, alpha_bar)
        x = torch.addcmul(mean, var.sqrt(), noise[t - 1])
        t -= 1
    return x


def back_by_the_noise(start, table, slope, shakes, /):
    """DDPM's own form: the mean said with the predicted noise."""
    x = start
    for t in reversed(range(1, len(table))):
        a, b = float(table[t]), float(table[t - 1])
        predicted = -((1 - a) ** 0.5) * slope(x, a)
        mean = (x - (1 - a / b) / (1 - a) ** 0.5 * predicted) / (a / b) ** 0.5
        x = mean if t == 1 else mean + math.sqrt((1 - b) / (1 - a) * (1 - a / b)) * shakes[t - 1]
    return x


def back_with_tensors_for_rates(x_T, alpha_bar, score, noise):
    x = x_T
    for a, b, e in zip(alpha_bar.flip(0)[:-1], alpha_bar.flip(0)[1:], noise.flip(0)):
        guess = (x + (1 - a) * score(x, a)) / a.sqrt()
        alpha = a / b
        mean = b.sqrt() * (1 - alpha) / (1 - a) * guess + alpha.sqrt() * (1 - b) / (1 - a) * x
        x = mean + ((1 - b) / (1 - a) * (1 - alpha)).sqrt() * e
    return x


MUTANTS = {
    "forward/walk": {
        "the last β first": walk_last_beta_first,
        "one step late": walk_one_step_late,
        "images before steps": walk_images_first,
        "in double precision": walk_float64,
        "in place": walk_in_place,
        "one tensor again and again": walk_all_the_same,
        "one noise for all steps": walk_one_noise,
        "a list": lambda *given: list(right_walk(*given)),
        "as one long batch": lambda *given: right_walk(*given).flatten(0, 1),
        "clipped": lambda *given: right_walk(*given).clamp(-1, 1),
        "noise of one's own": lambda x0, beta, noise: right_walk(x0, beta, torch.randn_like(noise)),
    },
    "forward/step-at-snr": {
        "the ratio as a share": step_at_as_share,
        "over T": step_at_over_T,
        "one for all": step_at_one_for_all,
        "in order": step_at_sorted,
        "a column": lambda *given: right_step_at_snr(*given)[:, None],
        "a list": lambda *given: right_step_at_snr(*given).tolist(),
        "as floats": lambda *given: right_step_at_snr(*given).double(),
        "from the end": lambda a, snr: len(a) - 1 - right_step_at_snr(a, snr),
        "a step late": lambda a, snr: (right_step_at_snr(a, snr) + 1).clamp(max=len(a) - 1),
    },
    "forward/any-length": {
        "whole strides only": any_length_floor,
        "the first T steps of the long chain": any_length_cut_short,
        "from place 1": any_length_from_one,
        "the cosine": any_length_cosine,
        "always 200 steps": any_length_fixed,
        "the end pushed down": any_length_ends_mended,
        "β × 1000/T, limited": any_length_clamped,
        "ᾱ₀ left out": lambda T: right_any_length(T)[1:],
        "backwards": lambda T: right_any_length(T).flip(0),
        "roots": lambda T: right_any_length(T).sqrt(),
        "a list": lambda T: right_any_length(T).tolist(),
    },
    "forward/bayes-grid": {
        "the peak for the mean": bayes_mean_at_the_peak,
        "the density only": bayes_density_only,
        "in another order": bayes_in_another_order,
        "the area by a plain sum": bayes_area_by_sum,
        "α and β exchanged": bayes_alpha_and_beta_exchanged,
    },
    "forward/two-values": {
        "in the middle": two_values_at_the_mean,
        "the root": two_values_std,
        "of the step before": two_values_of_step_before,
        "never wider than β": two_values_between,
        "no root in the weight": two_values_weight_without_root,
        "averaged": lambda *given: (
            right_two_values(*given).mean().expand(len(given[0])) if len(given[0]) > 1 else given[0]
        ),
    },
    "forward/mixture-joint": {
        "blobs before points": joint_blobs_first,
        "the density": joint_density,
        "s for s²": joint_s_for_variance,
        "clipped": joint_clipped,
        "w for ln w": joint_weights_not_logged,
        "binary logarithms": lambda *given: right_joint(*given) / math.log(2),
        "kept by shape": kept(right_joint, lambda x, *rest: (x.shape, x.device.type)),
    },
    "forward/walk-back": {
        "one leap": back_one_step_only,
        "from t = 1 up": back_forwards,
        "clipped": back_clipped,
        "noise at the last step": back_noise_left,
        "the score of x_T": back_score_of_the_start,
        "the noise in place of the score": back_guess_of_the_noise,
    },
    "forward/step-variances": {
        "in single precision": betas_single_precision,
        "sigmoid from end to end": betas_sigmoid_end_to_end,
        "what a step keeps": betas_as_ratios,
        "a millionth more": lambda *chain: right_step_variances(*chain) + 1e-6,
        "six decimal places": lambda *chain: right_step_variances(*chain).round(decimals=6),
        "backwards": lambda *chain: right_step_variances(*chain).flip(0),
        "in a list": lambda *chain: right_step_variances(*chain).tolist(),
        "a column": lambda *chain: right_step_variances(*chain)[:, None],
        "as if of 1,000 steps": betas_of_a_thousand,
        "geometric": betas_geometric,
        "a flatter sigmoid": betas_flatter_sigmoid,
        "the root without β_min": betas_root_without_min,
        "the usual ends, whatever is asked": lambda kind, T, *ends: right_step_variances(kind, T),
        "half precision on the way": lambda *chain: right_step_variances(*chain).half().double(),
        "kept by kind and T": kept(right_step_variances, lambda kind, T, *ends: (kind, T)),
    },
    "forward/alpha-bar": {
        "single precision": linear_single_precision,
        "an unlimited number of steps": lambda T, low, high: (-0.5 * (low + high) * torch.arange(T + 1).double()).exp(),
        "falling": linear_falling,
        "0 in front": linear_zero_in_front,
        "1 at the end": linear_one_at_the_end,
        "roots of β": linear_quadratic,
        "a list": lambda *given: right_alpha_bar(*given).tolist(),
        "as if of 1,000 steps": linear_of_a_thousand,
        "a floor": lambda *given: right_alpha_bar(*given).clamp(min=1e-4),
        "four decimal places": lambda *given: right_alpha_bar(*given).round(decimals=4),
        "six decimal places": lambda *given: right_alpha_bar(*given).round(decimals=6),
        "seven decimal places": lambda *given: right_alpha_bar(*given).round(decimals=7),
        "never 1": lambda *given: right_alpha_bar(*given).clamp(max=1 - 1e-7),
        "never 1, in single precision": lambda *given: right_alpha_bar(*given).clamp(max=1 - 2**-24),
        "a row": lambda *given: right_alpha_bar(*given)[None],
        "the usual ends, whatever is asked": lambda T, *ends: right_alpha_bar(T),
        "kept by T": kept(right_alpha_bar, lambda T, *ends: T),
    },
    "forward/add-noise": NOISE_MUTANTS,
    "forward/published-noise": NOISE_MUTANTS,
    "forward/pairs": {
        "a list": lambda *given: list(right_swap(*given)),
        "clean image as input": lambda x0, t, noise, alpha_bar: (x0, noise),
        "published noise": lambda x0, t, noise, alpha_bar: (
            slip("forward/add-noise", "variance for standard deviation")(x0, t, noise, alpha_bar),
            noise,
        ),
        "only the noisy images": right_add_noise,
        "what has changed as target": lambda x0, *rest: (right_add_noise(x0, *rest), right_add_noise(x0, *rest) - x0),
        "the noise as strong as it is in there": lambda x0, t, noise, alpha_bar: (
            right_add_noise(x0, t, noise, alpha_bar),
            right_add_noise(0 * x0, t, noise, alpha_bar),
        ),
        "another noise as target": lambda x0, t, noise, alpha_bar: (
            right_add_noise(x0, t, noise, alpha_bar),
            torch.randn_like(noise),
        ),
        "a dictionary": lambda *given: dict(zip(("noisy", "noise"), right_swap(*given))),
        "repeated in the wrong order": lambda x0, t, noise, table: (noise_repeated(x0, t, noise, table), noise),
        "table kept by its length": with_first(right_swap, -1, by_length),
        "table kept by its length and the images": with_first(right_swap, -1, by_length_and_images),
        "kept by shape": kept(right_swap, lambda x0, *rest: (x0.shape, x0.device.type)),
    },
    "forward/cosine": {
        "s not divided out": cosine_s_not_divided,
        "no leading 1": cosine_no_leading_one,
        "degrees": cosine_degrees,
        "half a turn": cosine_full_turn,
        "s fixed": cosine_fixed_s,
        "s of 0 not believed": lambda T, s, max_beta: right_cosine(T, s or 0.008, max_beta),
        "a floor of a millionth": lambda *given: right_cosine(*given).clamp(min=1e-6),
        "a small floor": lambda *given: right_cosine(*given).clamp(min=2**-24),
        "never 1": lambda *given: right_cosine(*given).clamp(max=1 - 1e-7),
        "shifted by a step": cosine_shifted,
        "a sine": cosine_sine,
        "limit fixed": cosine_fixed_limit,
        "α limited from above": cosine_alpha_limited_above,
        "the last step alone limited": cosine_last_limited,
        "all β shrunk to the limit": cosine_shrunk_to_limit,
        "β limited from below as well": cosine_never_small,
        "as if of 1,000 steps": cosine_of_a_thousand,
        "a floor": lambda *given: right_cosine(*given).clamp(min=1e-3),
        "kept by T": kept(right_cosine, lambda T, *rest: T),
        "single precision": lambda *given: right_cosine(*given).float(),
    },
    "forward/look-up": {
        "the last one for all": at_last,
        "α": at_alpha,
        "root": lambda t, beta: right_shifted(t, beta).sqrt(),
        "single precision": lambda t, beta: right_shifted(t, beta).float(),
        "double precision": lambda t, beta: right_shifted(t, beta).double(),
        "never at the end": at_never_the_end,
        "from the start again": at_from_the_start_again,
        "in place": at_in_place,
        "on the CPU": at_on_the_cpu,
        "a column": lambda t, beta: right_shifted(t, beta)[:, None],
        "the first for all": lambda t, beta: right_shifted(t[:1].expand_as(t), beta),
        "kept by T": kept(right_shifted, lambda t, beta: (len(t), len(beta), t.device.type)),
    },
    "forward/log-snr": {
        "propped up": lambda a: (a / (1 - a + 1e-8)).log(),
        "ends left out": lambda a: right_log_snr(a)[1:],
        "infinities removed": lambda a: right_log_snr(a).nan_to_num(posinf=100.0, neginf=-100.0),
        "decibel": lambda a: 10 * right_log_snr(a) / math.log(10),
        "in place": lambda a: a.log_() - (1 - a.exp()).log(),
        "propped up at both ends": lambda a: (a + 1e-12).log() - (1 - a + 1e-12).log(),
        "logit with a margin": lambda a: torch.logit(a, eps=1e-6),
        "binary logarithm": lambda a: right_log_snr(a) / math.log(2),
        "without its sign": lambda a: right_log_snr(a).abs(),
        "within ±20": lambda a: right_log_snr(a).clamp(-20, 20),
        "half precision on the way": lambda a: torch.logit(a.half().double()),
        "single precision": lambda a: right_log_snr(a).float(),
        "kept by length": kept(right_log_snr, lambda a: (len(a), a.device.type)),
    },
    "forward/zero-terminal": {
        "in place": zero_in_place,
        "last entry set to 0": zero_clamped,
        "no leading 1": lambda a: right_zero_terminal(a)[1:],
        "a floor": zero_floor,
        "a floor of nearly a millionth": lambda a: right_zero_terminal(a).clamp(min=9e-7),
        "a tiny floor": lambda a: right_zero_terminal(a).clamp(min=1e-8),
        "within margins": lambda a: right_zero_terminal(a).clamp(1e-7, 1 - 1e-7),
        "never 1": lambda a: right_zero_terminal(a).clamp(max=1 - 1e-7),
        "2⁻²⁴ at the end": zero_as_in_diffusers,
        "ᾱ₁ put back": zero_first_put_back,
        "along a line of steps": zero_by_steps,
        "the factor on variances": zero_factor_on_variances,
        "left as it is": lambda a: a.clone(),
        "single precision": lambda a: right_zero_terminal(a).float(),
        "kept by length": kept(right_zero_terminal, lambda a: (len(a), a.device.type)),
    },
    "forward/posterior": {
        "t shifted": posterior_t_shifted,
        "logarithm of the variance": posterior_log_variance,
        "variance (b,)": posterior_flat_variance,
        "variance for every pixel": posterior_full_variance,
        "variance clipped": posterior_clipped,
        "one t for the batch": posterior_one_t,
        "mean only": lambda *given: right_posterior(*given)[0],
        "never from the end": posterior_never_at_the_end,
        "β at the last step": posterior_noise_at_the_end,
        "image clipped": posterior_clipped_image,
        "variance in double precision": posterior_double,
        "in place": posterior_in_place,
        "propped up": posterior_propped_up,
        "a one from the CPU": posterior_one_from_the_cpu,
        "a list": lambda *given: list(right_posterior(*given)),
        "repeated in the wrong order": posterior_repeated,
        "table kept by its length": with_first(lambda *given: tuple(right_posterior(*given)), -1, by_length),
        "table kept by its length and the images": with_first(
            lambda *given: tuple(right_posterior(*given)), -1, by_length_and_images
        ),
        "kept by shape": kept(lambda *given: tuple(right_posterior(*given)), lambda x, *_: (x.shape, x.device.type)),
    },
    "forward/mixture-score": {
        "propped up against 0/0": mixture_propped_up,
        "nearest blob only": mixture_nearest,
        "blobs are points": mixture_noise_only,
        "weights forgotten": mixture_no_weights,
        "an axis of one point lost": lambda *given: right_mixture_score(*given).squeeze(0),
        "an axis of one dimension lost": lambda *given: right_mixture_score(*given).squeeze(1),
        "normaliser of k dimensions": lambda x, a, means, *rest: mixture_weighed(x, a, means, *rest, d=len(means)),
        "one maximum for all points": mixture_one_maximum,
        "logarithms clipped": functools.partial(mixture_weighed, clip=-600.0),
        "responsibilities over the points": functools.partial(mixture_weighed, dim=0),
        "the noise's variance squared": functools.partial(mixture_weighed, power=2),
        "s for s²": functools.partial(mixture_weighed, s=1),
        "summed up on the CPU": mixture_summed_on_the_cpu,
        "weights changed in place": mixture_weights_used_up,
        "in single precision": lambda x, *rest: right_mixture_score(x, *rest).float(),
        "kept by shape": kept(right_mixture_score, lambda x, *rest: (x.shape, x.device.type)),
    },
}

ALTERNATIVES = {
    "forward/walk": {
        "accumulated": walk_with_accumulate,
        "into a table, renamed": walk_into_a_table,
        "recursively": walk_recursively,
        "a while loop": walk_by_a_while,
    },
    "forward/step-at-snr": {
        "by bisection": step_at_by_searching,
        "by logarithms, renamed": step_at_by_logarithms,
        "by ratios": step_at_by_ratios,
        "the first that is noisier": step_at_by_argmax,
    },
    "forward/any-length": {
        "the limit of many steps": any_length_continuous,
        "interpolated, renamed": any_length_interpolated,
        "read in a loop, in single precision": any_length_read_in_a_loop,
        "products over strides": any_length_by_products,
    },
    "forward/bayes-grid": {
        "sums": bayes_by_sums,
        "logarithms, renamed": bayes_with_logarithms,
        "NumPy": bayes_by_numpy,
    },
    "forward/two-values": {
        "as a mixture": two_values_by_mixture,
        "with cosh, renamed": two_values_by_cosh,
        "one by one": two_values_one_by_one,
    },
    "forward/mixture-joint": {
        "torch.distributions": joint_by_distributions,
        "blob by blob, renamed": joint_blob_by_blob,
        "einops": joint_with_einops,
    },
    "forward/walk-back": {
        "through the posterior": back_through_the_posterior,
        "with the noise, renamed": back_by_the_noise,
        "tensors for rates": back_with_tensors_for_rates,
    },
    "forward/step-variances": {
        "a loop": betas_in_a_loop,
        "between the ends": betas_between_ends,
        "NumPy": betas_by_numpy,
        "through single precision, renamed": betas_through_float32,
    },
    "forward/alpha-bar": {
        "a loop": linear_loop,
        "a sum of logarithms": linear_logs,
        "through single precision": linear_through_float32,
        "NumPy": linear_by_numpy,
    },
    "forward/add-noise": NOISE_ALTERNATIVES,
    "forward/published-noise": NOISE_ALTERNATIVES,
    "forward/pairs": {
        "without forward": lambda x0, t, noise, alpha_bar: (noise_with_einops(x0, t, noise, alpha_bar), noise),
        "reversed": lambda *given: tuple(reversed(slip("forward/pairs", "as it was handed out")(*given))),
        "named": lambda *given: MeanAndVariance(*right_swap(*given)),
        "rates in single precision": lambda x, t, e, table, /: (noise_single_rates(x, t, e, table), e.clone()),
    },
    "forward/cosine": {
        "a loop": cosine_loop,
        "double angle, α limited": cosine_half_angle,
        "NumPy": cosine_by_numpy,
        "angles in single precision": cosine_through_float32,
    },
    "forward/look-up": {
        "table from ᾱ₁, read at t - 1": at_table_from_one,
        "products": at_products,
        "a sum of logarithms, renamed": at_sum_of_logs,
        "a mask": at_masked,
    },
    "forward/log-snr": {
        "logarithm of the ratio": lambda a: (a / (1 - a)).log(),
        "log1p": lambda a: a.log() - torch.log1p(-a),
        "logit": torch.logit,
        "from the odds": log_snr_from_odds,
        "hyperbolic": lambda a: 2 * torch.atanh(2 * a - 1),
        "in place on a copy": log_snr_on_a_copy,
    },
    "forward/zero-terminal": {
        "by share of the way": zero_by_weights,
        "a loop": zero_loop,
    },
    "forward/posterior": {
        "precisions add": posterior_by_precisions,
        "through the noise": posterior_by_noise,
        "weights in single precision, renamed": posterior_single_weights,
        "weights in the images' precision": posterior_images_precision,
        "image by image, named": posterior_image_by_image,
        "from a table of β": posterior_from_betas,
    },
    "forward/mixture-score": {
        "automatic differentiation": mixture_by_autograd,
        "by Tweedie": mixture_by_tweedie,
        "blob by blob": mixture_blob_by_blob,
        "ᾱ in single precision, by position only": mixture_single_rates,
        "exp and quotient, kept from underflow": mixture_stable_by_hand,
    },
}
