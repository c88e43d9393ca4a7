"""Wrong answers to the quizzes of notebook 03 that must be rejected, and other right ones that must be accepted."""

import functools
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
right_swap = right("forward/swap")
right_cosine = right("forward/cosine")
right_shifted = right("forward/shifted")
right_log_snr = right("forward/log-snr")
right_zero_terminal = right("forward/zero-terminal")
right_posterior = right("forward/posterior")
right_mixture_score = right("forward/mixture-score")


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
    """One number an image, repeated for its channels; but `repeat` runs through all images before it begins anew."""
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


MUTANTS = {
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
    "forward/swap": {
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
    "forward/shifted": {
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
    "forward/swap": {
        "without forward": lambda x0, t, noise, alpha_bar: (noise_with_einops(x0, t, noise, alpha_bar), noise),
        "reversed": lambda *given: tuple(reversed(slip("forward/swap", "as it was handed out")(*given))),
        "named": lambda *given: MeanAndVariance(*right_swap(*given)),
        "rates in single precision": lambda x, t, e, table, /: (noise_single_rates(x, t, e, table), e.clone()),
    },
    "forward/cosine": {
        "a loop": cosine_loop,
        "double angle, α limited": cosine_half_angle,
        "NumPy": cosine_by_numpy,
        "angles in single precision": cosine_through_float32,
    },
    "forward/shifted": {
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
