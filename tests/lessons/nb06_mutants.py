"""Wrong answers to the quizzes of notebook 06 that must be rejected, and other right ones that must be accepted."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from einops import rearrange

from course_utils.diffusion import linear_schedule, predict_noise
from course_utils.sampling import euler, heun, last
from lessons.answers import in_other_forms, right, slip, with_first_schedule

right_ancestral_step = right("sampling/ancestral-step")
right_short_loop = right("sampling/sampler-a")
right_timesteps = right("sampling/timesteps")
right_ddim_step = right("sampling/ddim-step")
right_product = right("sampling/sampler-b")
right_heun_step = right("sampling/heun-step")
right_multistep = right("sampling/multistep")
right_beta_walk = right("sampling/sampler-c")
right_walk = right("sampling/walk")
right_variance = right("sampling/variance")
right_eta_walk = right("sampling/sampler-d")
right_encode = right("sampling/encode")
right_slerp = right("sampling/slerp-way")
right_slope = right("sampling/slope")
right_euler_step = right("sampling/euler-step")
right_multistep_walk = right("sampling/multistep-walk")
right_order = right("sampling/measured-order")
right_redraw = right("sampling/redraw")
right_keep_known = right("sampling/keep-known")
right_unmask = right("sampling/unmask")


def full(x, t):
    return torch.full((len(x),), t, device=x.device)


def one_thousand(answer, schedule_at):
    """As if every schedule were the linear one with a thousand steps, stretched to its own T."""

    def hard_coded(*args):
        long, own = linear_schedule(1000), args[schedule_at]

        class Stretched:
            T = own.T
            alpha_bar = long.alpha_bar[torch.linspace(0, 1000, own.T + 1).round().long()]
            posterior, rates, log_snr = own.posterior, own.rates, alpha_bar.log() - torch.log1p(-alpha_bar)

        return answer(*args[:schedule_at], Stretched, *args[schedule_at + 1 :])

    return hard_coded


def kept(answer, *places):
    """The noise's share is computed once for each pair of steps, whatever the schedule."""
    return with_first_schedule(answer, key=lambda schedule, *given: tuple(given[k] for k in places))


def kept_by_length(answer):
    """The first schedule of so many steps is kept and used again, for numbers of the same type."""

    def key(schedule, *given):
        like = next(each for each in given if isinstance(each, torch.Tensor))
        return schedule.T, like.dtype, like.device

    return with_first_schedule(answer, key)


def kept_by_all_else(answer):
    """What comes of the schedule is kept under everything else: shape, type, and all whole numbers."""

    def key(schedule, *given):
        shapes = tuple((each.shape, each.dtype, each.device) for each in given if isinstance(each, torch.Tensor))
        return shapes, tuple(each for each in given if isinstance(each, int))

    return with_first_schedule(answer, key)


def one_by_one(answer, images):
    """Image by image: arguments at these places are batches."""

    def looped(*args):
        rows = range(len(args[images[0]]))
        return torch.cat([answer(*(a[k : k + 1] if i in images else a for i, a in enumerate(args))) for k in rows])

    return looped


# ------------------------------------------------------------------------------------------------------ ancestral steps


def ancestral_by_noise(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """The mean as the DDPM paper writes it: (x_t − β/√(1−ᾱ_t) ε̂) / √α."""
    now, after = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    implied = (x_t - math.sqrt(now) * x0) / math.sqrt(1 - now)
    alpha = now / after
    mean = (x_t - (1 - alpha) / math.sqrt(1 - now) * implied) / math.sqrt(alpha)
    if s == 0:
        return mean
    beta = 1 - alpha
    return mean + math.sqrt(((1 - after) / (1 - now) * beta) ** (1 - kappa) * beta**kappa) * noise


def ancestral_by_logarithms(x_t, x0, t, s, noise, schedule, kappa=0.0):
    mean, small, beta = ancestral_parts(x_t, x0, t, s, schedule)
    if not s:
        return mean
    return mean + math.exp(0.5 * ((1 - kappa) * math.log(small) + kappa * math.log(beta))) * noise


def ancestral_like_ddim(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """Guess, old noise, fresh noise."""
    now, after = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    beta = 1 - now / after
    small = (1 - after) / (1 - now) * beta
    implied = (x_t - now**0.5 * x0) / (1 - now) ** 0.5
    sigma = (small ** (1 - kappa) * beta**kappa) ** 0.5 if s > 0 else 0.0
    return after**0.5 * x0 + (1 - after - small) ** 0.5 * implied + sigma * noise


def ancestral_step_by_one(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """Always one step, whatever the stride."""
    return right_ancestral_step(x_t, x0, t, t - 1, noise, schedule, kappa)


def ancestral_no_noise_at_one(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """Drops the noise where the stride *starts* near the end, not where it ends."""
    return right_ancestral_step(x_t, x0, t, s, noise if t > 5 else 0 * noise, schedule, kappa)


def ancestral_alpha_swapped(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """ᾱ_s where ᾱ_t belongs, and the other way round, in the mean."""
    now, after = schedule.alpha_bar[s].item(), schedule.alpha_bar[t].item()
    _, small, beta = ancestral_parts(x_t, x0, t, s, schedule)
    alpha = after / now
    mean = after**0.5 * (1 - alpha) / (1 - after) * x0 + alpha**0.5 * (1 - now) / (1 - after) * x_t
    return mean + ((small ** (1 - kappa) * beta**kappa) ** 0.5 if s else 0.0) * noise


def ancestral_in_single_precision(x_t, x0, t, s, noise, schedule, kappa=0.0):
    now, after = schedule.alpha_bar.float()[t], schedule.alpha_bar.float()[s]
    alpha = now / after
    mean = after.sqrt() * (1 - alpha) / (1 - now) * x0 + alpha.sqrt() * (1 - after) / (1 - now) * x_t
    if s == 0:
        return mean
    small, beta = (1 - after) / (1 - now) * (1 - alpha), 1 - alpha
    return mean + torch.exp(0.5 * ((1 - kappa) * torch.log(small) + kappa * torch.log(beta))) * noise


def ancestral_rates_in_single_precision(x_t, x0, t, s, noise, schedule, kappa=0.0):
    signal, spread = (r.float() for r in schedule.rates(full(x_t, t), x_t.float()))
    to_signal, to_spread = (r.float() for r in schedule.rates(full(x_t, s), x_t.float()))
    beta = 1 - (signal / to_signal) ** 2
    mean = to_signal * beta / spread**2 * x0 + signal / to_signal * (to_spread / spread) ** 2 * x_t
    sigma = ((to_spread / spread) ** 2 * beta) ** ((1 - kappa) / 2) * beta ** (kappa / 2)
    return (mean + (sigma if s else 0) * noise).to(x_t.dtype)


def ancestral_masked(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """The noise is silenced by a factor, in place on a copy."""
    mean, small, beta = ancestral_parts(x_t, x0, t, s, schedule)
    result = mean.clone()
    result += (small ** (1 - kappa) * beta**kappa) ** 0.5 * noise * float(s > 0)
    return result


def ancestral_einsum(x_t, x0, t, s, noise, schedule, kappa=0.0):
    now, after = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    beta, shares = 1 - now / after, torch.empty(3, dtype=x_t.dtype)
    shares[0] = after**0.5 * beta / (1 - now)
    shares[1] = (now / after) ** 0.5 * (1 - after) / (1 - now)
    shares[2] = ((1 - after) / (1 - now)) ** ((1 - kappa) / 2) * beta**0.5 if s else 0
    return torch.einsum("k,kbchw->bchw", shares, torch.stack([x0, x_t, noise]))


def ancestral_large_or_small(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """One of the two variances, whichever is nearer."""
    return right_ancestral_step(x_t, x0, t, s, noise, schedule, float(kappa >= 0.5))


def ancestral_deviations(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """Shares of the standard deviations."""
    mean, small, beta = ancestral_parts(x_t, x0, t, s, schedule)
    return mean + ((1 - kappa) * small**0.5 + kappa * beta**0.5 if s else 0) * noise


def ancestral_silent_at_T(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return right_ancestral_step(x_t, x0, t, s, noise * (t < schedule.T), schedule, kappa)


def near_the_end(schedule, s):
    """The last hundredth of the way."""
    return s < schedule.T / 100


def ancestral_silent_near_the_end(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return right_ancestral_step(x_t, x0, t, s, noise * (not near_the_end(schedule, s)), schedule, kappa)


def ancestral_silent_by_variance(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """No noise where there is hardly any left."""
    return right_ancestral_step(x_t, x0, t, s, noise * bool(schedule.alpha_bar[s] < 0.99), schedule, kappa)


def ancestral_silent_single_steps(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return right_ancestral_step(x_t, x0, t, s, noise * (t - s > 1), schedule, kappa)


def ancestral_grey_noise(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """All channels get the noise of the first."""
    return right_ancestral_step(x_t, x0, t, s, noise[:, :1].expand_as(noise), schedule, kappa)


def ancestral_same_noise(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return right_ancestral_step(x_t, x0, t, s, noise[:1].expand_as(noise), schedule, kappa)


def ancestral_floored(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """An epsilon under the root, against dividing by zero that never happens."""
    mean, small, beta = ancestral_parts(x_t, x0, t, s, schedule)
    return mean + ((small + 1e-3) ** (1 - kappa) * beta**kappa) ** 0.5 * noise * (s > 0)


def ancestral_image_clipped(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return right_ancestral_step(x_t, x0, t, s, noise, schedule, kappa).clamp(-1, 1)


def ancestral_in_place(x_t, x0, t, s, noise, schedule, kappa=0.0):
    x_t.copy_(right_ancestral_step(x_t, x0, t, s, noise, schedule, kappa))
    return x_t


def ancestral_single(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return right_ancestral_step(x_t.float(), x0.float(), t, s, noise.float(), schedule, kappa)


def ancestral_on_the_cpu(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return torch.zeros(x_t.shape, dtype=x_t.dtype) + right_ancestral_step(x_t, x0, t, s, noise, schedule, kappa)


def product_both_forms(x_t, x0, t, noise, schedule):
    now, before = schedule.alpha_bar[t].item(), schedule.alpha_bar[t - 1].item()
    mean = schedule.posterior(x0, x_t, full(x_t, t)).mean
    return torch.add(mean, noise, alpha=((1 - before) / (1 - now) * (1 - now / before)) ** 0.5)


def product_times_noise(x_t, x0, t, noise, schedule):
    mean, variance = schedule.posterior(x0, x_t, full(x_t, t))
    return (mean + variance.sqrt()) * noise


def product_of_beta(x_t, x0, t, noise, schedule):
    mean, _ = schedule.posterior(x0, x_t, full(x_t, t))
    return mean + schedule.beta[t].sqrt().to(x_t.dtype) * noise


def product_by_deviation(x_t, x0, t, noise, schedule):
    """In single precision, and with the posterior written out."""
    now, before = schedule.alpha_bar.float()[t], schedule.alpha_bar.float()[t - 1]
    mean, small, _ = ancestral_parts(x_t, x0, t, t - 1, schedule)
    deviation = torch.sqrt((1 - before) / (1 - now) * (1 - now / before))
    return torch.distributions.Normal(mean, 1).mean + deviation * noise


def product_silent_before_the_end(x_t, x0, t, noise, schedule):
    return right_product(x_t, x0, t, noise * (t > 2), schedule)


def product_silent_near_the_end(x_t, x0, t, noise, schedule):
    return right_product(x_t, x0, t, noise * (t > schedule.T / 50), schedule)


def product_silent_by_variance(x_t, x0, t, noise, schedule):
    return right_product(x_t, x0, t, noise * bool(schedule.alpha_bar[t - 1] < 0.99), schedule)


def product_silent_at_T(x_t, x0, t, noise, schedule):
    return right_product(x_t, x0, t, noise * (t < schedule.T), schedule)


def product_step_late(x_t, x0, t, noise, schedule):
    """The posterior of the step after this one."""
    mean, variance = schedule.posterior(x0, x_t, full(x_t, min(t + 1, schedule.T)))
    return mean + variance.sqrt() * noise


def product_same_noise(x_t, x0, t, noise, schedule):
    return right_product(x_t, x0, t, noise[:1].expand_as(noise), schedule)


def product_minus(x_t, x0, t, noise, schedule):
    return right_product(x_t, x0, t, -noise, schedule)


def product_in_place(x_t, x0, t, noise, schedule):
    mean, variance = schedule.posterior(x0, x_t, full(x_t, t))
    noise *= variance.sqrt()
    return mean + noise


# --------------------------------------------------------------------------------------------------------------- loops


def walk_reversed(denoise, schedule, x, draws):
    for t in reversed(range(1, schedule.T + 1)):
        x = right_product(x, denoise(x, full(x, t)), t, draws[t], schedule)
    return x


def walk_while(denoise, schedule, x, draws):
    t = schedule.T
    while t:
        mean, variance = schedule.posterior(denoise(x, full(x, t)), x, full(x, t))
        x, t = mean + variance.sqrt() * draws[t], t - 1
    return x


def walk_to_zero(denoise, schedule, x, draws):
    """One step too many: t = 0 has no posterior."""
    for t in range(schedule.T, -1, -1):
        mean, variance = schedule.posterior(denoise(x, full(x, t)), x, full(x, t))
        x = mean + variance.sqrt() * draws[t]
    return x


def walk_other_draws(denoise, schedule, x, draws):
    for t in range(schedule.T, 0, -1):
        x = right_product(x, denoise(x, full(x, t)), t, draws[t - 1], schedule)
    return x


def walk_guess_at_the_end(denoise, schedule, x, draws):
    """Stops early and then simply gives the guess at t = 1: the same image, by another road."""
    x = slip("sampling/sampler-a", "as it was handed out")(denoise, schedule, x, draws)
    return denoise(x, full(x, 1))


def walk_guess_at_two(denoise, schedule, x, draws):
    """Stops early and gives the guess that x_1 is asked with another step."""
    x = slip("sampling/sampler-a", "as it was handed out")(denoise, schedule, x, draws)
    return denoise(x, full(x, min(2, schedule.T)))


def walk_by_draws(denoise, schedule, x, draws):
    """Counts by what it was given, and keeps every image on the way."""
    images = [x]
    for t in range(len(draws) - 1, 0, -1):
        images.append(right_product(images[-1], denoise(images[-1], full(x, t)), t, draws[t], schedule))
    return images[-1]


def walk_recursive(denoise, schedule, x, draws, t=None):
    t = schedule.T if t is None else t
    if t == 0:
        return x
    x = right_product(x, denoise(x, full(x, t)), t, draws[t], schedule)
    return walk_recursive(denoise, schedule, x, draws, t - 1)


def walk_in_single_precision(denoise, schedule, x, draws):
    alpha_bar = schedule.alpha_bar.float()
    for t in reversed(range(1, schedule.T + 1)):
        now, before = alpha_bar[t], alpha_bar[t - 1]
        alpha = now / before
        mean = before.sqrt() * (1 - alpha) * denoise(x, full(x, t)) + alpha.sqrt() * (1 - before) * x
        x = mean / (1 - now) + torch.sqrt((1 - before) / (1 - now) * (1 - alpha)) * draws[t]
    return x


def walk_silent_before_the_end(denoise, schedule, x, draws):
    draws = draws.clone()
    draws[2:3] = 0
    return right_short_loop(denoise, schedule, x, draws)


def walk_silent_at_T(denoise, schedule, x, draws):
    draws = draws.clone()
    draws[-1] = 0
    return right_short_loop(denoise, schedule, x, draws)


def walk_draws_upwards(denoise, schedule, x, draws):
    return right_short_loop(denoise, schedule, x, torch.cat([draws[:1], draws[1:].flip(0)]))


def walk_one_draw(denoise, schedule, x, draws):
    return right_short_loop(denoise, schedule, x, draws[-1:].expand_as(draws))


def walk_asks_late(denoise, schedule, x, draws):
    """Asks the network as if it were one step further."""
    return right_short_loop(lambda x, t: denoise(x, (t - 1).clamp(min=1)), schedule, x, draws)


def walk_asks_once(denoise, schedule, x, draws):
    """The guess of the start, for all of the way."""
    guess = denoise(x, full(x, schedule.T))
    return right_short_loop(lambda x, t: guess, schedule, x, draws)


def walk_clipped(denoise, schedule, x, draws):
    return right_short_loop(lambda x, t: denoise(x, t).clamp(-1, 1), schedule, x, draws)


def walk_in_place(denoise, schedule, x, draws):
    return x.copy_(right_short_loop(denoise, schedule, x, draws))


def walk_in_twenty_strides(denoise, schedule, x, draws):
    for t in range(schedule.T, 0, -max(1, schedule.T // 20)):
        x = right_product(x, denoise(x, full(x, t)), t, draws[t], schedule)
    return x


def walk_no_longer_than_thirty(denoise, schedule, x, draws):
    for t in range(min(schedule.T, 30), 0, -1):
        x = right_product(x, denoise(x, full(x, t)), t, draws[t], schedule)
    return x


def walk_silent_in_the_last_tenth(denoise, schedule, x, draws):
    draws = draws.clone()
    draws[: schedule.T // 10 + 1] = 0
    return right_short_loop(denoise, schedule, x, draws)


def walk_every_other(denoise, schedule, x, draws):
    for t in range(schedule.T, 0, -2):
        x = right_product(x, denoise(x, full(x, t)), t, draws[t], schedule)
    return x


def beta_keeping_quiet(denoise, schedule, x, draws):
    """In single precision, with a factor for the condition."""
    beta = schedule.beta.float().tolist()
    for t in range(schedule.T, 0, -1):
        mean = schedule.posterior(denoise(x, full(x, t)), x, full(x, t)).mean
        x = mean + (t > 1) * math.sqrt(beta[t]) * draws[t]
    return x


def beta_last_step_apart(denoise, schedule, x, draws):
    for t in range(schedule.T, 1, -1):
        mean, _ = schedule.posterior(denoise(x, full(x, t)), x, full(x, t))
        x = mean + schedule.beta[t].sqrt() * draws[t]
    return schedule.posterior(denoise(x, full(x, 1)), x, full(x, 1)).mean


def beta_not_rooted(denoise, schedule, x, draws):
    for t in range(schedule.T, 0, -1):
        mean, _ = schedule.posterior(denoise(x, full(x, t)), x, full(x, t))
        x = mean + schedule.beta[t] * draws[t] * (t > 1)
    return x


def beta_asks_late(denoise, schedule, x, draws):
    return right_beta_walk(lambda x, t: denoise(x, (t - 1).clamp(min=1)), schedule, x, draws)


def beta_clipped(denoise, schedule, x, draws):
    return right_beta_walk(lambda x, t: denoise(x, t).clamp(-1, 1), schedule, x, draws)


def beta_silent_in_the_last_tenth(denoise, schedule, x, draws):
    draws = draws.clone()
    draws[: max(1, schedule.T // 10) + 1] = 0
    return right_beta_walk(denoise, schedule, x, draws)


def beta_by_where(denoise, schedule, x, draws):
    for t in reversed(range(1, schedule.T + 1)):
        mean = schedule.posterior(denoise(x, full(x, t)), x, full(x, t)).mean
        x = mean if t == 1 else mean + schedule.beta[t].item() ** 0.5 * draws[t]
    return x


def beta_silenced(denoise, schedule, x, draws):
    draws = draws.clone()
    draws[1] = 0
    return slip("sampling/sampler-c", "as it was handed out")(denoise, schedule, x, draws)


def beta_in_place(denoise, schedule, x, draws):
    draws[1] = 0
    return slip("sampling/sampler-c", "as it was handed out")(denoise, schedule, x, draws)


# ----------------------------------------------------------------------------------------------------------- timesteps


def steps_linspace(T, steps):
    return torch.linspace(T, 0, steps + 1, dtype=torch.float64).round().int().tolist()


def steps_half_up(T, steps):
    return [(2 * T * k + steps) // (2 * steps) for k in reversed(range(steps + 1))]


def steps_as_tensor(T, steps):
    return torch.tensor(right_timesteps(T, steps))


def steps_skip_top(T, steps):
    return [round((T - 1) * (steps - k) / steps) for k in range(steps + 1)]


def steps_by_adding(T, steps):
    stops, at = [], float(T)
    for _ in range(steps):
        stops.append(round(at))
        at -= T / steps
    return [*stops, 0]


def steps_rounded_up(T, steps):
    return [math.ceil(T * (steps - k) / steps) for k in range(steps + 1)]


def steps_by_rounded_strides(T, steps):
    """The length of a stride is rounded, and then multiplied."""
    return [max(T - k * round(T / steps), 0) for k in range(steps)] + [0]


def steps_of_a_thousand(T, steps):
    return right_timesteps(1000, steps)


def steps_one_more(T, steps):
    return right_timesteps(T, min(steps + 1, T))


def steps_from_the_end(T, steps):
    """Even from 1 on, and a 0 behind."""
    return [round(1 + (T - 1) * (steps - 1 - k) / max(steps - 1, 1)) for k in range(steps)] + [0]


# ---------------------------------------------------------------------------------------------------------------- DDIM


def ddim_by_rates(x_t, x0, t, s, noise, schedule, eta=0.0):
    signal, kappa = schedule.rates(full(x_t, t), x_t.double())
    to_signal, to_spread = schedule.rates(full(x_t, s), x_t.double())
    implied = (x_t.double() - signal * x0) / kappa
    sigma = eta * to_spread / kappa * (1 - (signal / to_signal) ** 2).sqrt()
    return (to_signal * x0 + (to_spread**2 - sigma**2).sqrt() * implied + sigma * noise).to(x_t.dtype)


def ddim_kept_share(x_t, x0, t, s, noise, schedule, eta=0.0):
    """√ᾱ_s x̂_0 plus a share of what x_t has beyond its image."""
    now, after = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    variance = eta**2 * (1 - after) / (1 - now) * (1 - now / after)
    kept = ((1 - after - variance) / (1 - now)) ** 0.5
    return after**0.5 * x0 + kept * (x_t - now**0.5 * x0) + variance**0.5 * noise


def ddim_in_single_precision(x_t, x0, t, s, noise, schedule, eta=0.0):
    now, after = schedule.alpha_bar.float()[t], schedule.alpha_bar.float()[s]
    implied = (x_t - now.sqrt() * x0) / (1 - now).sqrt()
    sigma = eta * ((1 - after) / (1 - now) * (1 - now / after)).sqrt()
    return after.sqrt() * x0 + (1 - after - sigma**2).clamp(min=0).sqrt() * implied + sigma * noise


def ddim_through_the_library(x_t, x0, t, s, noise, schedule, eta=0.0):
    """ε̂ from (5.7), and both noises mixed before they are added."""
    implied = predict_noise(schedule, x0, x_t, full(x_t, t))
    now, after = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    share = eta * ((1 - now / after) / (1 - now)) ** 0.5  # of the noise at s
    return schedule.add_noise(x0, full(x_t, s), (1 - share**2) ** 0.5 * implied + share * noise)


def ddim_between_the_ends(x_t, x0, t, s, noise, schedule, eta=0.0):
    """A straight line between DDIM and DDPM."""
    ends = [right_ddim_step(x_t, x0, t, s, noise, schedule, e) for e in (0.0, 1.0)]
    return torch.lerp(*ends, eta)


def ddim_silent_at_T(x_t, x0, t, s, noise, schedule, eta=0.0):
    return right_ddim_step(x_t, x0, t, s, noise * (t < schedule.T), schedule, eta)


def ddim_silent_near_the_end(x_t, x0, t, s, noise, schedule, eta=0.0):
    return right_ddim_step(x_t, x0, t, s, noise, schedule, eta * (not near_the_end(schedule, s)))


def ddim_silent_by_variance(x_t, x0, t, s, noise, schedule, eta=0.0):
    return right_ddim_step(x_t, x0, t, s, noise, schedule, eta * bool(schedule.alpha_bar[s] < 0.99))


def ddim_silent_single_steps(x_t, x0, t, s, noise, schedule, eta=0.0):
    return right_ddim_step(x_t, x0, t, s, noise, schedule, eta * (t - s > 1))


def ddim_same_noise(x_t, x0, t, s, noise, schedule, eta=0.0):
    return right_ddim_step(x_t, x0, t, s, noise[:1].expand_as(noise), schedule, eta)


def ddim_noise_clipped(x_t, x0, t, s, noise, schedule, eta=0.0):
    """The implied noise kept within ±2, as if it were always plausible."""
    now = schedule.alpha_bar[t].item()
    implied = ((x_t - now**0.5 * x0) / (1 - now) ** 0.5).clamp(-2, 2)
    return right_ddim_step(now**0.5 * x0 + (1 - now) ** 0.5 * implied, x0, t, s, noise, schedule, eta)


def ddim_floored(x_t, x0, t, s, noise, schedule, eta=0.0):
    """An epsilon below the fraction bar."""
    now, after = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    implied = (x_t - now**0.5 * x0) / ((1 - now) ** 0.5 + 1e-3)
    sigma = eta * ((1 - after) / (1 - now) * (1 - now / after)) ** 0.5
    return after**0.5 * x0 + max(1 - after - sigma**2, 0) ** 0.5 * implied + sigma * noise


def ddim_in_place(x_t, x0, t, s, noise, schedule, eta=0.0):
    result = right_ddim_step(x_t, x0, t, s, noise, schedule, eta)
    noise *= eta
    return result


def ddim_always_full(x_t, x0, t, s, noise, schedule, eta=0.0):
    return right_ddim_step(x_t, x0, t, s, noise, schedule, 1.0)


def ddim_single_alpha(x_t, x0, t, s, noise, schedule, eta=0.0):
    """α of one step for ᾱ, as in code that mixes the two tables up."""
    now, after = schedule.alpha[t].item(), schedule.alpha[s].item()
    implied = (x_t - now**0.5 * x0) / (1 - now) ** 0.5
    return after**0.5 * x0 + max(1 - after, 0) ** 0.5 * implied


def ddim_roots_forgotten(x_t, x0, t, s, noise, schedule, eta=0.0):
    now, after = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    implied = (x_t - now * x0) / (1 - now)
    return after * x0 + (1 - after) * implied


# -------------------------------------------------------------------------------------------------------------- solvers


def heun_by_hand(denoise, x_t, t, s, schedule):
    """In x̄ and σ, line by line, in double precision."""
    a, b = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    sigma, to = ((1 - a) / a) ** 0.5, ((1 - b) / b) ** 0.5
    bar = x_t.double() / a**0.5
    first = (bar - denoise(x_t, full(x_t, t)).double()) / sigma
    end = bar + (to - sigma) * first
    if s > 0:
        second = (end - denoise((b**0.5 * end).to(x_t.dtype), full(x_t, s)).double()) / to
        end = bar + (to - sigma) * 0.5 * (first + second)
    return (b**0.5 * end).to(x_t.dtype)


def heun_correction(denoise, x_t, t, s, schedule):
    """Euler's end, corrected by half of the change of slope."""
    first = slope(denoise, x_t, t, schedule)
    end = straight(x_t, t, s, schedule, first)
    if s == 0:
        return end
    return straight(x_t, t, s, schedule, first + 0.5 * (slope(denoise, end, s, schedule) - first))


def heun_uneven(denoise, x_t, t, s, schedule):
    first = slope(denoise, x_t, t, schedule)
    end = straight(x_t, t, s, schedule, first)
    if s == 0:
        return end
    return straight(x_t, t, s, schedule, 0.4 * first + 0.6 * slope(denoise, end, s, schedule))


def heun_by_halves(denoise, x_t, t, s, schedule):
    """The mean of two ends: Euler's, and the one that the second slope leads to. In single precision."""
    alpha_bar = schedule.alpha_bar.float()
    first = slope(denoise, x_t, t, schedule)
    end = straight_by(alpha_bar, x_t, t, s, first)
    return end if not s else (end + straight_by(alpha_bar, x_t, t, s, slope(denoise, end, s, schedule))) / 2


def straight_by(alpha_bar, x_t, t, s, slope):
    a, b = alpha_bar[t], alpha_bar[s]
    return b.sqrt() * (x_t / a.sqrt() + (((1 - b) / b).sqrt() - ((1 - a) / a).sqrt()) * slope)


def heun_through_ddim(denoise, x_t, t, s, schedule):
    """Euler's stride is DDIM's; so is the second, for the guess that the mean slope implies."""
    nothing, guess = torch.zeros_like(x_t), denoise(x_t, full(x_t, t))
    end = right_ddim_step(x_t, guess, t, s, nothing, schedule)
    if s == 0:
        return end
    mean = (
        predict_noise(schedule, guess, x_t, full(x_t, t))
        + predict_noise(schedule, denoise(end, full(x_t, s)), end, full(x_t, s))
    ) / 2
    signal, spread = schedule.rates(full(x_t, t), x_t)
    return right_ddim_step(x_t, (x_t - spread * mean) / signal, t, s, nothing, schedule)


def heun_euler_from_1(denoise, x_t, t, s, schedule):
    """Euler's end is the last word only where the stride begins at 1; else step 0 is asked as step 1."""
    return right_heun_step(denoise, x_t, t, s, schedule) if s or t == 1 else heun_asked_at_1(denoise, x_t, t, schedule)


def heun_asked_at_1(denoise, x_t, t, schedule):
    first = slope(denoise, x_t, t, schedule)
    end = straight(x_t, t, 0, schedule, first)
    return straight(x_t, t, 0, schedule, (first + slope(denoise, end, 1, schedule)) / 2)


def heun_euler_at_T(denoise, x_t, t, s, schedule):
    if t == schedule.T:
        return slip("sampling/heun-step", "Euler's method")(denoise, x_t, t, s, schedule)
    return right_heun_step(denoise, x_t, t, s, schedule)


def heun_euler_near_the_end(denoise, x_t, t, s, schedule):
    if near_the_end(schedule, s):
        return slip("sampling/heun-step", "Euler's method")(denoise, x_t, t, s, schedule)
    return right_heun_step(denoise, x_t, t, s, schedule)


def heun_euler_by_variance(denoise, x_t, t, s, schedule):
    if schedule.alpha_bar[s] > 0.99:
        return slip("sampling/heun-step", "Euler's method")(denoise, x_t, t, s, schedule)
    return right_heun_step(denoise, x_t, t, s, schedule)


def heun_euler_on_single_steps(denoise, x_t, t, s, schedule):
    if t - s == 1:
        return slip("sampling/heun-step", "Euler's method")(denoise, x_t, t, s, schedule)
    return right_heun_step(denoise, x_t, t, s, schedule)


def heun_old_guess(denoise, x_t, t, s, schedule):
    """The second slope with the first guess: no second question."""
    guess = denoise(x_t, full(x_t, t))
    return right_heun_step(lambda x, t: guess, x_t, t, s, schedule)


def heun_second_at_x_t(denoise, x_t, t, s, schedule):
    """The second question is about x_t, not about where Euler's stride ends."""
    first = slope(denoise, x_t, t, schedule)
    if s == 0:
        return straight(x_t, t, s, schedule, first)
    return straight(x_t, t, s, schedule, (first + slope(denoise, x_t, s, schedule)) / 2)


def heun_in_the_spread(denoise, x_t, t, s, schedule):
    """√(1 − ᾱ) in the place of √(1 − ᾱ)/√ᾱ."""
    a, b = alpha_bars(schedule, t, s)

    def along(slope):
        return b**0.5 * (x_t / a**0.5 + ((1 - b) ** 0.5 - (1 - a) ** 0.5) * slope)

    first = slope(denoise, x_t, t, schedule)
    return along(first) if s == 0 else along((first + slope(denoise, along(first), s, schedule)) / 2)


def heun_first_image(denoise, x_t, t, s, schedule):
    """The second slope of the first image, for all."""
    first = slope(denoise, x_t, t, schedule)
    end = straight(x_t, t, s, schedule, first)
    if s == 0:
        return end
    return straight(x_t, t, s, schedule, (first + slope(denoise, end, s, schedule)[:1]) / 2)


def heun_in_place(denoise, x_t, t, s, schedule):
    x_t.copy_(right_heun_step(denoise, x_t, t, s, schedule))
    return x_t


def heun_library_euler(denoise, x_t, t, s, schedule):
    return last(euler(denoise, schedule, x_t, [t, s]))


def heun_two_strides(denoise, x_t, t, s, schedule):
    """Two strides of half the length: more exact, and another answer."""
    if t - s < 2:
        return slip("sampling/heun-step", "Euler's method")(denoise, x_t, t, s, schedule)
    return last(heun(denoise, schedule, x_t, [t, (t + s) // 2, s]))


def heun_average_of_ends(denoise, x_t, t, s, schedule):
    """The mean of the guesses, not of the slopes."""
    first = denoise(x_t, full(x_t, t))
    end = straight(x_t, t, s, schedule, slope(denoise, x_t, t, schedule))
    if s == 0:
        return end
    guess = (first + denoise(end, full(x_t, s))) / 2
    return straight(x_t, t, s, schedule, predict_noise(schedule, guess, x_t, full(x_t, t)))


def multistep_as_published(x_t, x0, x0_before, r, t, s, schedule):
    """In the symbols of Lu et al.: D = (1 + 1/2ρ) x̂ − 1/2ρ x̂', x_s = σ_s/σ_t x_t − α_s (e^{−h} − 1) D."""
    half = (schedule.log_snr / 2).tolist()
    h, ratio = half[s] - half[t], (half[t] - half[r]) / (half[s] - half[t])
    d = (1 + 1 / (2 * ratio)) * x0 - 1 / (2 * ratio) * x0_before
    now, after = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    return ((1 - after) / (1 - now)) ** 0.5 * x_t - after**0.5 * math.expm1(-h) * d


def multistep_in_log_snr(x_t, x0, x0_before, r, t, s, schedule):
    """With ln SNR in the place of λ: twice as long on both sides, so the ratio is the same."""
    snr = schedule.log_snr.tolist()
    share = (snr[s] - snr[t]) / (snr[t] - snr[r]) / 2
    return multistep_with(x_t, x0, x0_before, t, s, schedule, share)


def multistep_in_snr(x_t, x0, x0_before, r, t, s, schedule):
    snr = schedule.snr.tolist()
    return multistep_with(x_t, x0, x0_before, t, s, schedule, (snr[s] - snr[t]) / (snr[t] - snr[r]) / 2)


def multistep_half(x_t, x0, x0_before, r, t, s, schedule):
    """As if all strides were of one length."""
    return multistep_with(x_t, x0, x0_before, t, s, schedule, 0.5)


def multistep_in_single_precision(x_t, x0, x0_before, r, t, s, schedule):
    half = 0.5 * schedule.log_snr.float()
    guess = torch.lerp(x0_before, x0, (1 + (half[s] - half[t]) / (2 * (half[t] - half[r]))).item())
    signal, spread = schedule.rates(full(x_t, t), x_t)
    to_signal, to_spread = schedule.rates(full(x_t, s), x_t)
    return to_signal * guess + to_spread / spread * (x_t - signal * guess)


def multistep_through_the_library(x_t, x0, x0_before, r, t, s, schedule):
    half = (schedule.log_snr / 2).tolist()
    guess = x0 + (half[s] - half[t]) / (half[t] - half[r]) * (x0 - x0_before) / 2
    return schedule.add_noise(guess, full(x_t, s), predict_noise(schedule, guess, x_t, full(x_t, t)))


def multistep_old_noise(x_t, x0, x0_before, r, t, s, schedule):
    """The new guess, but the noise that the old one leaves over."""
    half = (schedule.log_snr / 2).tolist()
    guess = x0 + (half[s] - half[t]) / (2 * (half[t] - half[r])) * (x0 - x0_before)
    return schedule.add_noise(guess, full(x_t, s), predict_noise(schedule, x0, x_t, full(x_t, t)))


def multistep_in_sigma(x_t, x0, x0_before, r, t, s, schedule):
    at = [sigma(schedule.alpha_bar[k].item()) for k in (r, t, s)]
    return multistep_with(x_t, x0, x0_before, t, s, schedule, (at[2] - at[1]) / (at[1] - at[0]) / 2)


def multistep_from_r(x_t, x0, x0_before, r, t, s, schedule):
    """The stride behind counted from s."""
    half = (schedule.log_snr / 2).tolist()
    share = (half[s] - half[t]) / (2 * (half[s] - half[r]))
    return multistep_with(x_t, x0, x0_before, t, s, schedule, share)


def multistep_exchanged(x_t, x0, x0_before, r, t, s, schedule):
    return right_multistep(x_t, x0_before, x0, r, t, s, schedule)


def multistep_no_memory_at_T(x_t, x0, x0_before, r, t, s, schedule):
    """The guess at T is thought too poor to remember."""
    return right_multistep(x_t, x0, x0 if r == schedule.T else x0_before, r, t, s, schedule)


def multistep_no_memory_near_the_end(x_t, x0, x0_before, r, t, s, schedule):
    return right_multistep(x_t, x0, x0 if near_the_end(schedule, s) else x0_before, r, t, s, schedule)


def multistep_clipped(x_t, x0, x0_before, r, t, s, schedule):
    half = (schedule.log_snr / 2).tolist()
    guess = x0 + (half[s] - half[t]) / (2 * (half[t] - half[r])) * (x0 - x0_before)
    return multistep_with(x_t, guess.clamp(-1, 1), x0_before, t, s, schedule, 0.0)


def multistep_share_bounded(x_t, x0, x0_before, r, t, s, schedule):
    """Never extrapolates by more than half."""
    half = (schedule.log_snr / 2).tolist()
    share = (half[s] - half[t]) / (2 * (half[t] - half[r]))
    return multistep_with(x_t, x0, x0_before, t, s, schedule, min(share, 0.5))


def multistep_in_place(x_t, x0, x0_before, r, t, s, schedule):
    half = (schedule.log_snr / 2).tolist()
    x0 += (half[s] - half[t]) / (2 * (half[t] - half[r])) * (x0 - x0_before)
    return multistep_with(x_t, x0, x0_before, t, s, schedule, 0.0)


def langevin_of_a_tensor(x, score, h, noise):
    """√(2h) of a tensor in single precision, a very common idiom."""
    return x + h * score(x) + torch.sqrt(torch.tensor(2 * h)) * noise


def langevin_of_a_float32(x, score, h, noise):
    h = torch.as_tensor(h, dtype=torch.float32)
    return x + h * score(x) + (2 * h).sqrt() * noise


def langevin_added_to_a_copy(x, score, h, noise):
    result = x.clone()
    result += h * score(x)
    result.add_(noise, alpha=(2 * h) ** 0.5)
    return result


def langevin_uphill_in_place(x, score, h, noise):
    uphill = score(x)
    x += h * uphill
    return x + math.sqrt(2 * h) * noise


def langevin_added_in_place(x, score, h, noise):
    uphill = score(x)
    return x.add_(uphill, alpha=h).add_(noise, alpha=(2 * h) ** 0.5)


def langevin_same_noise(x, score, h, noise):
    return langevin_out_of_place(x, score, h, noise[:1].expand_as(noise))


def langevin_own_noise(x, score, h, noise):
    return langevin_out_of_place(x, score, h, torch.randn_like(x))


def langevin_normalised(x, score, h, noise):
    """A step of fixed length uphill."""
    uphill = score(x)
    return x + h * uphill / uphill.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1)) + (2 * h) ** 0.5 * noise


def langevin_small_steps_only(x, score, h, noise):
    """h limited, "so that it doesn't explode"."""
    return langevin_out_of_place(x, score, min(h, 1.0), noise)


def langevin_squared(x, score, h, noise):
    return x + h * score(x) + 2 * h**0.5 * noise


def langevin_single(x, score, h, noise):
    return langevin_out_of_place(x, score, h, noise).float()


def langevin_clipped_score(x, score, h, noise):
    return langevin_out_of_place(x, lambda x: score(x).clamp(-1, 1), h, noise)


def langevin_out_of_place(x, score, h, noise):
    return torch.add(x, score(x), alpha=h) + noise * math.sqrt(2 * h)


def langevin_in_place(x, score, h, noise):
    x += h * score(x) + math.sqrt(2 * h) * noise
    return x


# ------------------------------------------------------------------------------------------------ the loop of one's own


def trail_by_index(step, denoise, schedule, x, times, draw, y=None):
    trail = [(times[0], x, None)]
    for k in range(len(times) - 1):
        _, x, _ = trail[-1]
        guess = denoise(x, torch.ones(len(x), dtype=torch.long, device=x.device) * times[k], y)
        trail += [(times[k + 1], step(x, guess, times[k], times[k + 1], draw(x), schedule), guess)]
    return trail


def trail_in_columns(step, denoise, schedule, x, times, draw, y=None):
    """Three lists, zipped at the end; no noise is drawn for a stride to 0."""
    images, guesses = [x], [None]
    for t, s in zip(times[:-1], times[1:]):
        guesses.append(denoise(images[-1], full(x, t), y=y))
        noise = draw(x) if s > 0 else torch.zeros_like(x)
        images.append(step(images[-1], guesses[-1], t, s, noise, schedule))
    return list(zip(times, images, guesses))


def trail_recursive(step, denoise, schedule, x, times, draw, y=None, x0=None):
    here = [(times[0], x, x0)]
    if len(times) == 1:
        return here
    t, s = times[:2]
    guess = denoise(x, full(x, t), y)
    return here + trail_recursive(
        step, denoise, schedule, step(x, guess, t, s, draw(x), schedule), times[1:], draw, y, guess
    )


def trail_while(step, denoise, schedule, x, times, draw, y=None):
    rest, trail = list(times), []
    guess, t = None, rest.pop(0)
    trail.append((t, x, guess))
    while rest:
        s = rest.pop(0)
        guess = denoise(x, torch.tensor([t] * len(x), device=x.device), y)
        x, t = step(x, guess, t, s, draw(x), schedule), s
        trail.append((t, x, guess))
    return trail


def trail_one_image_told(step, denoise, schedule, x, times, draw, y=None):
    """Always as if from T: the step that the network is told never falls."""
    return right_walk(step, lambda x, t, y: denoise(x, 0 * t + times[0], y), schedule, x, times, draw, y)


def trail_fresh_start(step, denoise, schedule, x, times, draw, y=None):
    """Each stride begins with the noise of the start."""
    trail = [(times[0], x, None)]
    for t, s in pairwise(times):
        x0 = denoise(x, full(x, t), y)
        trail.append((s, step(x, x0, t, s, draw(x), schedule), x0))
    return trail


def trail_every_step(step, denoise, schedule, x, times, draw, y=None):
    """All steps between the first stop and the last."""
    return right_walk(step, denoise, schedule, x, [*range(times[0], times[-1] - 1, -1)], draw, y)


def trail_without_last(step, denoise, schedule, x, times, draw, y=None):
    return right_walk(step, denoise, schedule, x, times[:-1], draw, y)


def trail_no_noise(step, denoise, schedule, x, times, draw, y=None):
    return right_walk(step, denoise, schedule, x, times, torch.zeros_like, y)


def trail_silent_last(step, denoise, schedule, x, times, draw, y=None):
    """No noise on the last stride, wherever it ends."""
    strides = iter(range(len(times) - 1))
    return right_walk(step, denoise, schedule, x, times, lambda x: draw(x) * (next(strides) < len(times) - 2), y)


def trail_swapped(step, denoise, schedule, x, times, draw, y=None):
    return [(t, x0, x) for t, x, x0 in right_walk(step, denoise, schedule, x, times, draw, y)]


def trail_in_place(step, denoise, schedule, x, times, draw, y=None):
    trail = right_walk(step, denoise, schedule, x, times, draw, y)
    x.copy_(trail[-1][1])
    return trail


def trail_same_tensor(step, denoise, schedule, x, times, draw, y=None):
    """All entries hold one tensor, which is changed in place: at the end all are the last image."""
    x = x.clone()
    trail = [(times[0], x, None)]
    for t, s in pairwise(times):
        x0 = denoise(x, full(x, t), y)
        x.copy_(step(x, x0, t, s, draw(x), schedule))
        trail.append((s, x, x0))
    return trail


# ------------------------------------------------------------------------------------------------ a variance walks


def variance_two_questions(step, schedule, times, std):
    one, none = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    v = 1.0
    for k in range(len(times) - 2):
        t, s = times[k], times[k + 1]
        a = float(schedule.alpha_bar[t])
        g = math.sqrt(a) * std**2 / (a * std**2 + 1 - a)
        f = step(one, g * one, t, s, none, schedule).item()
        v = v * f * f + step(none, none, t, s, one, schedule).item() ** 2
    a = float(schedule.alpha_bar[times[-2]])
    return v / (a * std**2 + (1 - a))


def variance_by_deviation(step, schedule, times, std):
    """The standard deviation is carried on, as the length of a vector."""
    deviation, (*way, last_stop, _) = 1.0, times
    x = torch.tensor([[[[1.0]]], [[[0.0]]]], dtype=torch.float64)
    for t, s in pairwise([*way, last_stop]):
        a = schedule.alpha_bar[t]
        noised = a * std**2 + 1 - a
        f, sigma = step(x, a.sqrt() * std**2 / noised * x, t, s, x.flip(0), schedule).flatten()
        deviation = math.hypot(f.item() * deviation, sigma.item())
    a = schedule.alpha_bar[last_stop].item()
    return deviation**2 / (a * std**2 + 1 - a)


def variance_of_pure_noise(step, schedule, times, std):
    a = schedule.alpha_bar[times[-2]].item()
    return right_variance(step, schedule, times, std) * (a * std**2 + 1 - a) / (1 - a)


def variance_guess_unscaled(step, schedule, times, std):
    """The guess as if the signal rate were 1."""
    return right_variance(
        lambda x, x0, t, *given: step(x, x0 / schedule.alpha_bar[t].item() ** 0.5, t, *given), schedule, times, std
    )


def variance_starts_at_zero(step, schedule, times, std):
    full_walk, half = right_variance(step, schedule, times, std), right_variance(step, schedule, times, std / 2)
    return 0.5 * (full_walk + half)


# ------------------------------------------------------------------------------------------------------------ sampler D


def eta_other_order(denoise, schedule, x, draws, eta=0.0):
    """Without a clamp, in Python's numbers, in another order."""
    bars = schedule.alpha_bar.tolist()
    for t in reversed(range(1, len(bars))):
        now, after = bars[t], bars[t - 1]
        variance = eta**2 * (1 - after) / (1 - now) * (1 - now / after)
        guess = denoise(x, full(x, t))
        noise = (x - now**0.5 * guess) / (1 - now) ** 0.5
        x = after**0.5 * guess + variance**0.5 * draws[t] + max(1 - after - variance, 0) ** 0.5 * noise
    return x


def eta_share(denoise, schedule, x, draws, eta=0.0):
    for t in range(schedule.T, 0, -1):
        now, after = alpha_bars(schedule, t, t - 1)
        guess = denoise(x, full(x, t))
        share = eta * ((1 - now / after) / (1 - now)) ** 0.5
        implied = predict_noise(schedule, guess, x, full(x, t))
        x = schedule.add_noise(guess, full(x, t - 1), (1 - share**2) ** 0.5 * implied + share * draws[t])
    return x


def eta_abs(denoise, schedule, x, draws, eta=0.0):
    """The clamp exchanged for an absolute value: the number is as impossible as before."""
    for t in range(schedule.T, 0, -1):
        now, after = schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        guess = denoise(x, full(x, t))
        implied = (x - now.sqrt() * guess) / (1 - now).sqrt()
        sigma = eta * ((1 - after) / (1 - now) * (1 - now / after)).sqrt()
        x = after.sqrt() * guess + (1 - after - sigma).abs().sqrt() * implied + sigma * draws[t]
    return x


def eta_sigma_of_variance(denoise, schedule, x, draws, eta=0.0):
    """σ made a variance throughout."""
    for t in range(schedule.T, 0, -1):
        now, after = schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        guess = denoise(x, full(x, t))
        implied = (x - now.sqrt() * guess) / (1 - now).sqrt()
        sigma = eta * (1 - after) / (1 - now) * (1 - now / after)
        x = after.sqrt() * guess + (1 - after - sigma).clamp(min=0).sqrt() * implied + sigma * draws[t]
    return x


def eta_full(denoise, schedule, x, draws, eta=0.0):
    return right_eta_walk(denoise, schedule, x, draws, float(eta > 0))


def eta_stops_early(denoise, schedule, x, draws, eta=0.0):
    for t in range(schedule.T, 1, -1):
        x = right_ddim_step(x, denoise(x, full(x, t)), t, t - 1, draws[t], schedule, eta)
    return x


# --------------------------------------------------------------------------------------------------------------- codes


def encode_by_rates(denoise, schedule, image, times):
    x = image
    for k, t in enumerate(times[:-1]):
        a, b = alpha_bars(schedule, t, times[k + 1])
        guess = denoise(x, full(x, t), None)
        x = math.sqrt(b) * guess + math.sqrt((1 - b) / (1 - a)) * (x - math.sqrt(a) * guess)
    return x


def encode_through_add_noise(denoise, schedule, image, times):
    for t, s in pairwise(times):
        guess = denoise(image, full(image, t))
        image = schedule.add_noise(guess, full(image, s), predict_noise(schedule, guess, image, full(image, t)))
    return image


def encode_in_x_bar(denoise, schedule, image, times):
    """Euler's method upwards."""
    x = image
    for t, s in pairwise(times):
        a, b = alpha_bars(schedule, t, s)
        x = b**0.5 * (x / a**0.5 + (sigma(b) - sigma(a)) * slope(denoise, x, t, schedule))
    return x


def encode_without_signal(denoise, schedule, image, times):
    x = image
    for t, s in pairwise(times):
        guess = denoise(x, full(x, t))
        _, b = alpha_bars(schedule, t, s)
        x = guess + (1 - b) ** 0.5 * predict_noise(schedule, guess, x, full(x, t))
    return x


def encode_noise_not_rooted(denoise, schedule, image, times):
    x = image
    for t, s in pairwise(times):
        guess = denoise(x, full(x, t))
        _, b = alpha_bars(schedule, t, s)
        x = b * guess + (1 - b) * predict_noise(schedule, guess, x, full(x, t))
    return x


def encode_clipped(denoise, schedule, image, times):
    return right_encode(lambda x, t: denoise(x, t).clamp(-1, 1), schedule, image, times)


def encode_in_place(denoise, schedule, image, times):
    return image.copy_(right_encode(denoise, schedule, image, times))


def slerp_with_norms(a, b, u):
    n = a.shape[0]
    dot = (a * b).reshape(n, -1).sum(1)
    lengths = a.reshape(n, -1).norm(dim=1) * b.reshape(n, -1).norm(dim=1)
    theta = torch.arccos(dot / lengths)[:, None, None, None]
    return torch.sin((1 - u) * theta) / torch.sin(theta) * a + torch.sin(u * theta) / torch.sin(theta) * b


def slerp_einops(a, b, u):
    units = [rearrange(x, "b c h w -> b (c h w)") for x in (a, b)]
    cosine = torch.nn.functional.cosine_similarity(*units, dim=1)
    theta = rearrange(cosine.acos(), "b -> b 1 1 1")
    return (torch.sin((1 - u) * theta) * a + torch.sin(u * theta) * b) / torch.sin(theta)


def slerp_one_by_one(a, b, u):
    rows = []
    for one, other in zip(a, b):
        theta = torch.arccos((one * other).sum() / one.norm() / other.norm())
        rows.append((torch.sin((1 - u) * theta) * one + torch.sin(u * theta) * other) / torch.sin(theta))
    return torch.stack(rows)


def slerp_of_units(a, b, u):
    """Both brought to length 1 first: the length of codes is lost."""
    a, b = (x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for x in (a, b))
    return right_slerp(a, b, u)


def slerp_right_angle(a, b, u):
    """As if all codes were perpendicular."""
    return math.cos(u * math.pi / 2) * a + math.sin(u * math.pi / 2) * b


def slerp_per_pixel(a, b, u):
    """An angle for each row of pixels."""
    theta = torch.nn.functional.cosine_similarity(a, b, dim=-1)[..., None].clamp(-1, 1).acos()
    return (((1 - u) * theta).sin() * a + (u * theta).sin() * b) / theta.sin()


# ------------------------------------------------------------------------------------------------------------ the slope


def slope_by_predict_noise(denoise, x_bar, t, schedule):
    x_t = schedule.alpha_bar[t].sqrt() * x_bar
    at = full(x_t, t)
    return predict_noise(schedule, denoise(x_t, at), x_t, at)


def slope_in_single_precision(denoise, x_bar, t, schedule):
    a = schedule.alpha_bar.float()[t]
    x_t = a.sqrt() * x_bar
    return (x_t - a.sqrt() * denoise(x_t, full(x_t, t))) / (1 - a).sqrt()


def slope_by_rates(denoise, x_bar, t, schedule):
    signal, spread = schedule.rates(full(x_bar, t), x_bar)
    return (x_bar - denoise(signal * x_bar, full(x_bar, t))) * signal / spread


def slope_is_the_score(denoise, x_bar, t, schedule):
    return -right_slope(denoise, x_bar, t, schedule) / (1 - schedule.alpha_bar[t]).sqrt()


def slope_asked_one_late(denoise, x_bar, t, schedule):
    return right_slope(lambda x, at: denoise(x, (at - 1).clamp(min=1)), x_bar, t, schedule)


def slope_is_the_guess(denoise, x_bar, t, schedule):
    a = schedule.alpha_bar[t]
    return denoise(a.sqrt() * x_bar, full(x_bar, t))


def slope_clipped(denoise, x_bar, t, schedule):
    return right_slope(lambda x, at: denoise(x, at).clamp(-1, 1), x_bar, t, schedule)


def euler_by_hand(denoise, x_t, t, s, schedule):
    a, b = alpha_bars(schedule, t, s)
    x_bar, guess = x_t / a**0.5, denoise(x_t, full(x_t, t))
    x_bar = x_bar + (sigma(b) / sigma(a) - 1) * (x_bar - guess)
    return b**0.5 * x_bar


def euler_through_slope(denoise, x_t, t, s, schedule):
    a, b = alpha_bars(schedule, t, s)
    return b**0.5 * (x_t / a**0.5 + (sigma(b) - sigma(a)) * slope_by_rates(denoise, x_t / a**0.5, t, schedule))


def euler_with_roots(denoise, x_t, t, s, schedule):
    """ς as the root of 1/ᾱ − 1."""
    a, b = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    first = predict_noise(schedule, denoise(x_t, full(x_t, t)), x_t, full(x_t, t))
    return math.sqrt(b / a) * x_t + math.sqrt(b) * (math.sqrt(1 / b - 1) - math.sqrt(1 / a - 1)) * first


def euler_noise_rates(denoise, x_t, t, s, schedule):
    """√(1 − ᾱ) for ς."""
    a, b = alpha_bars(schedule, t, s)
    return b**0.5 * (x_t / a**0.5 + ((1 - b) ** 0.5 - (1 - a) ** 0.5) * slope(denoise, x_t, t, schedule))


def euler_is_heun(denoise, x_t, t, s, schedule):
    return right_heun_step(denoise, x_t, t, s, schedule)


def euler_asked_at_s(denoise, x_t, t, s, schedule):
    return right_euler_step(lambda x, at: denoise(x, 0 * at + max(s, 1)), x_t, t, s, schedule)


# ---------------------------------------------------------------------------------------------------- 2M as a sampler


def memory_by_index(denoise, schedule, x, times, y=None):
    trail = [(times[0], x, None)]
    for k in range(1, len(times)):
        t, s = times[k - 1], times[k]
        guess = denoise(trail[-1][1], full(x, t), y)
        if k == 1 or s == 0:
            end = right_ddim_step(trail[-1][1], guess, t, s, 0 * x, schedule)
        else:
            end = multistep_as_published(trail[-1][1], guess, trail[-1][2], times[k - 2], t, s, schedule)
        trail.append((s, end, guess))
    return trail


def memory_of_guesses(denoise, schedule, x, times, y=None):
    """One formula for all strides, with a share that is 0 where there is no memory."""
    half, guesses, images = (schedule.log_snr / 2).tolist(), [], [x]
    for k, (t, s) in enumerate(zip(times, times[1:])):
        guesses.append(denoise(images[-1], full(x, t), y))
        share = (half[s] - half[t]) / (half[t] - half[times[k - 1]]) / 2 if k and s else 0.0
        ahead = guesses[-1] + share * (guesses[-1] - guesses[k - 1])
        images.append(right_ddim_step(images[-1], ahead, t, s, torch.zeros_like(x), schedule))
    return [*zip(times, images, [None, *guesses])]


def memory_of_images(denoise, schedule, x, times, y=None):
    """Remembers the image before in the place of its guess."""
    trail, before = [(times[0], x, None)], None
    for t, s in pairwise(times):
        x0 = denoise(x, full(x, t), y)
        if before is None or s == 0:
            end = right_ddim_step(x, x0, t, s, 0 * x, schedule)
        else:
            end = right_multistep(x, x0, before[1], before[0], t, s, schedule)
        before, x = (t, x), end
        trail.append((s, x, x0))
    return trail


def memory_at_wrong_step(denoise, schedule, x, times, y=None):
    """The step of the memory is always T."""
    trail, before = [(times[0], x, None)], None
    for t, s in pairwise(times):
        x0 = denoise(x, full(x, t), y)
        if before is None or s == 0:
            x = right_ddim_step(x, x0, t, s, 0 * x, schedule)
        else:
            x = right_multistep(x, x0, before, times[0], t, s, schedule)
        before = x0
        trail.append((s, x, x0))
    return trail


def memory_without_start(denoise, schedule, x, times, y=None):
    return right_multistep_walk(denoise, schedule, x, times, y)[1:]


def memory_ends_only(denoise, schedule, x, times, y=None):
    return right_multistep_walk(denoise, schedule, x, times, y)[-1][1]


# ------------------------------------------------------------------------------------------------------------ the order


def order_polyfit(strides, errors):
    return float(-np.polyfit(np.log(strides), np.log(errors), 1)[0])


def order_lstsq(strides, errors):
    x = torch.tensor(strides, dtype=torch.float64).log()
    design = torch.stack([x, torch.ones_like(x)], 1)
    return -torch.linalg.lstsq(design, torch.tensor(errors, dtype=torch.float64).log()[:, None]).solution[0].item()


def order_in_plain_python(strides, errors):
    x, y = [math.log10(k) for k in strides], [math.log10(e) for e in errors]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return -sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)


def order_by_covariance(strides, errors):
    c = torch.cov(torch.tensor([strides, errors], dtype=torch.float64).log())
    return -(c[0, 1] / c[0, 0]).item()


def order_mixed_logs(strides, errors):
    return order_polyfit([2 ** math.log10(k) for k in strides], errors)


def order_ends(strides, errors):
    return math.log(errors[0] / errors[-1]) / math.log(strides[-1] / strides[0])


def order_turned(strides, errors):
    return 1 / right_order(strides, errors)


def order_mean_of_slopes(strides, errors):
    pairs = list(zip(strides, errors))
    slopes = [math.log(e / f) / math.log(m / k) for (k, e), (m, f) in pairwise(pairs)]
    return sum(slopes) / len(slopes)


def order_rounded(strides, errors):
    return float(round(right_order(strides, errors)))


# ------------------------------------------------------------------------------------------------------------- counters


class CountsInAList:
    """The count as a property."""

    def __init__(self, denoiser):
        self._inner, self._log = denoiser, []

    @property
    def calls(self):
        return len(self._log)

    def __call__(self, *given, **named):
        self._log.append(1)
        return self._inner(*given, **named)


def counted_closure(denoise):
    """A function that carries its count."""

    def ask(x_t, t, y=None):
        ask.calls = ask.calls + 1
        return denoise(x_t, t, y)

    ask.calls = 0
    return ask


class CountsTogether:
    calls = 0

    def __init__(self, denoise):
        self.denoise = denoise

    def __call__(self, x_t, t, y=None):
        CountsTogether.calls += 1
        return self.denoise(x_t, t, y)


class CountsSteps(CountsInAList):
    """Only calls with another step than the last one."""

    def __call__(self, x_t, t, y=None):
        if not self._log or not torch.equal(self._log[-1], t):
            self._log.append(t)
        return self._inner(x_t, t, y)


class CountsTwice(CountsInAList):
    def __call__(self, x_t, t, y=None):
        self._log += [1, 1]
        return self._inner(x_t, t, y)


class CountsOnlyWithLabels(CountsInAList):
    def __call__(self, x_t, t, y=None):
        if y is not None:
            self._log.append(1)
        return self._inner(x_t, t, y)


# ------------------------------------------------------------------------------------------- beginning with an image


def redraw_by_hand(image, level, strides, denoise, schedule, draw):
    signal, spread = schedule.rates(full(image, level), image)
    noisy = x = signal * image + spread * draw(image)
    t = level
    for s in [s for s in right_timesteps(schedule.T, strides) if s < level]:
        x = ancestral_by_noise(x, denoise(x, full(x, t)), t, s, draw(x), schedule)
        t = s
    return noisy, x


def redraw_a_trail(image, level, strides, denoise, schedule, draw):
    noisy = schedule.add_noise(image, full(image, level), draw(image))
    stops = [level] + list(filter(lambda t: t < level, right_timesteps(schedule.T, strides)))
    trail = trail_in_columns(right_ancestral_step, denoise, schedule, noisy, stops, draw)
    return trail[0][1], trail[-1][1]


def redraw_with_ddim(image, level, strides, denoise, schedule, draw):
    noisy = schedule.add_noise(image, full(image, level), draw(image))
    stops = [level, *(t for t in right_timesteps(schedule.T, strides) if t < level)]
    return noisy, right_walk(right_ddim_step, denoise, schedule, noisy, stops, draw)[-1][1]


def redraw_one_noise(image, level, strides, denoise, schedule, draw):
    noise = draw(image)
    return right_redraw(image, level, strides, denoise, schedule, lambda x: noise)


def redraw_level_twice(image, level, strides, denoise, schedule, draw):
    """A stop at the level stays in the list, and the walk's first stride is of length 0 there: one stride is "
    "left out."""
    noisy = schedule.add_noise(image, full(image, level), draw(image))
    stops = [level, *[t for t in right_timesteps(schedule.T, strides) if t < level][1:]]
    stops = stops if len(stops) > 1 else [level, 0]
    return noisy, right_walk(right_ancestral_step, denoise, schedule, noisy, stops, draw)[-1][1]


def redraw_beta(image, level, strides, denoise, schedule, draw):
    noisy = schedule.add_noise(image, full(image, level), draw(image))
    stops = [level, *(t for t in right_timesteps(schedule.T, strides) if t < level)]
    step = partial(right_ancestral_step, kappa=1.0)
    return noisy, right_walk(step, denoise, schedule, noisy, stops, draw)[-1][1]


def keep_by_mask(denoise, image, known):
    def filling(x_t, t, y=None):
        m = known.to(x_t.dtype)
        return m * image + (1 - m) * denoise(x_t, t, y)

    return filling


def keep_by_copy(denoise, image, known):
    def filling(*given):
        guess = denoise(*given).clone()
        guess[..., known] = image[..., known]
        return guess

    return filling


class KeepAsObject:
    def __init__(self, denoise, image, known):
        self.denoise, self.image, self.known = denoise, image, known

    def __call__(self, x_t, t, y=None):
        guess = self.denoise(x_t, t, y)
        return guess.masked_fill(self.known, 0) + self.image.masked_fill(~self.known, 0)


def keep_average(denoise, image, known):
    return lambda x_t, t, y=None: torch.where(known, (image + denoise(x_t, t, y)) / 2, denoise(x_t, t, y))


def keep_all(denoise, image, known):
    return lambda x_t, t, y=None: image.expand_as(x_t).clone()


def keep_black(denoise, image, known):
    return lambda x_t, t, y=None: denoise(x_t, t, y) * ~known


# ---------------------------------------------------------------------------------------------------------------- masks


def unmask_by_chunks(probability, turn, rounds, uniforms):
    x = torch.zeros_like(turn, dtype=torch.float32)
    round_of = torch.div(turn * rounds, turn.shape[1], rounding_mode="floor")
    for k, numbers in enumerate(uniforms):
        here = round_of == k
        x = x + here * ((numbers < probability(x)).float() * 2 - 1)
    return x


def unmask_in_place(probability, turn, rounds, uniforms):
    n, d = turn.shape
    x = torch.zeros(n, d, device=turn.device)
    for k in range(rounds):
        p = probability(x)
        due = (turn * rounds // d) == k
        x[due] = torch.where(uniforms[k] < p, 1.0, -1.0)[due]
    return x


def unmask_signs(probability, turn, rounds, uniforms):
    d = turn.shape[1]
    x = torch.zeros(turn.shape, device=turn.device)
    for k in range(rounds):
        drawn = torch.ones_like(x)
        drawn = drawn.masked_fill(uniforms[k] >= probability(x), -1.0)
        x = torch.where((turn * rounds >= k * d) & (turn * rounds < (k + 1) * d), drawn, x)
    return x


def unmask_zero_and_one(probability, turn, rounds, uniforms):
    return (right_unmask(probability, turn, rounds, uniforms) > 0).float()


def unmask_first_numbers(probability, turn, rounds, uniforms):
    return right_unmask(probability, turn, rounds, uniforms[:1].expand_as(uniforms))


def unmask_row_by_row(probability, turn, rounds, uniforms):
    return right_unmask(probability, torch.arange(turn.shape[1]).expand_as(turn), rounds, uniforms)


def unmask_one_short(probability, turn, rounds, uniforms):
    x = right_unmask(probability, turn, rounds, uniforms)
    return torch.where(turn * rounds // turn.shape[1] == rounds - 1, 0.0, x)


def alpha_bars(schedule, t: int, s: int) -> tuple[float, float]:
    return schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()


def ancestral_parts(x_t, x0, t, s, schedule):
    now, after = alpha_bars(schedule, t, s)
    alpha = now / after
    mean = after**0.5 * (1 - alpha) / (1 - now) * x0 + alpha**0.5 * (1 - after) / (1 - now) * x_t
    return mean, (1 - after) / (1 - now) * (1 - alpha), 1 - alpha


def slope(denoise, x, t, schedule):
    return predict_noise(schedule, denoise(x, full(x, t)), x, full(x, t))


def sigma(alpha_bar: float) -> float:
    return ((1 - alpha_bar) / alpha_bar) ** 0.5


def straight(x_t, t, s, schedule, slope):
    now, after = alpha_bars(schedule, t, s)
    return after**0.5 * (x_t / now**0.5 + (sigma(after) - sigma(now)) * slope)


def multistep_with(x_t, x0, x0_before, t, s, schedule, share):
    return right_ddim_step(x_t, x0 + share * (x0 - x0_before), t, s, torch.zeros_like(x_t), schedule)


MUTANTS = {
    "sampling/walk": {
        "told the first step throughout": trail_one_image_told,
        "each stride from the start": trail_fresh_start,
        "every step": trail_every_step,
        "without the last stride": trail_without_last,
        "no noise": trail_no_noise,
        "no noise on the last stride": trail_silent_last,
        "image and guess exchanged": trail_swapped,
        "in place": trail_in_place,
        "one tensor for all": trail_same_tensor,
    },
    "sampling/variance": {
        "compared with pure noise": variance_of_pure_noise,
        "a guess too large": variance_guess_unscaled,
        "half of the data": variance_starts_at_zero,
    },
    "sampling/sampler-d": {
        "an absolute value": eta_abs,
        "σ a variance": eta_sigma_of_variance,
        "η 0 or 1": eta_full,
        "without the last step": eta_stops_early,
        "β-walk": lambda d, sch, x, draws, eta=0.0: right_beta_walk(d, sch, x, draws),
    },
    "sampling/encode": {
        "signal left out": encode_without_signal,
        "no roots": encode_noise_not_rooted,
        "clipped": encode_clipped,
        "in place": encode_in_place,
    },
    "sampling/slerp-way": {
        "of length 1": slerp_of_units,
        "always a right angle": slerp_right_angle,
        "an angle for each row": slerp_per_pixel,
    },
    "sampling/slope": {
        "the score": slope_is_the_score,
        "asked a step late": slope_asked_one_late,
        "the guess": slope_is_the_guess,
        "clipped": slope_clipped,
    },
    "sampling/euler-step": {
        "noise rates for ς": euler_noise_rates,
        "Heun": euler_is_heun,
        "asked at the end": euler_asked_at_s,
    },
    "sampling/multistep-walk": {
        "images remembered": memory_of_images,
        "memory at T": memory_at_wrong_step,
        "without its start": memory_without_start,
        "the end only": memory_ends_only,
    },
    "sampling/measured-order": {
        "two kinds of logarithms": order_mixed_logs,
        "the ends only": order_ends,
        "upside down": order_turned,
        "mean of slopes": order_mean_of_slopes,
        "rounded": order_rounded,
    },
    "sampling/counted": {
        "one count for all": CountsTogether,
        "calls with another step": CountsSteps,
        "two at a time": CountsTwice,
        "only with labels": CountsOnlyWithLabels,
    },
    "sampling/redraw": {
        "down by DDIM": redraw_with_ddim,
        "one noise": redraw_one_noise,
        "a stop too few": redraw_level_twice,
        "variance β": redraw_beta,
    },
    "sampling/keep-known": {"half of each": keep_average, "the image": keep_all, "black": keep_black},
    "sampling/unmask": {
        "0 and 1": unmask_zero_and_one,
        "the first numbers": unmask_first_numbers,
        "row by row": unmask_row_by_row,
        "the last round left out": unmask_one_short,
    },
    "sampling/ancestral-step": {
        "always to t − 1": ancestral_step_by_one,
        "no noise in the last few steps": ancestral_no_noise_at_one,
        "ᾱ_s and ᾱ_t exchanged": ancestral_alpha_swapped,
        "one of the two variances": ancestral_large_or_small,
        "shares of the deviations": ancestral_deviations,
        "no noise at T": ancestral_silent_at_T,
        "no noise on single steps": ancestral_silent_single_steps,
        "grey noise": ancestral_grey_noise,
        "the same noise for all": ancestral_same_noise,
        "an epsilon under the root": ancestral_floored,
        "the image clipped": ancestral_image_clipped,
        "in place": ancestral_in_place,
        "single precision": ancestral_single,
        "on the CPU": ancestral_on_the_cpu,
        "a thousand linear steps": one_thousand(ancestral_by_noise, 5),
        "no noise in the last hundredth": ancestral_silent_near_the_end,
        "no noise where little is left": ancestral_silent_by_variance,
        "kept by its steps": kept(right_ancestral_step, 2, 3),
        "kept by its schedule's length": kept_by_length(right_ancestral_step),
        "kept by all else": kept_by_all_else(right_ancestral_step),
    },
    "sampling/sampler-b": {
        "bracket": product_times_noise,
        "β": product_of_beta,
        "no noise on the way to step 1": product_silent_before_the_end,
        "no noise at T": product_silent_at_T,
        "the step after": product_step_late,
        "the same noise for all": product_same_noise,
        "minus": product_minus,
        "in place": product_in_place,
        "no noise in the last 2 %": product_silent_near_the_end,
        "no noise where little is left": product_silent_by_variance,
        "kept by its step": kept(right_product, 2),
        "kept by its schedule's length": kept_by_length(right_product),
        "kept by all else": kept_by_all_else(right_product),
    },
    "sampling/sampler-a": {
        "to t = 0": walk_to_zero,
        "draws of the step before": walk_other_draws,
        "the guess at another step": walk_guess_at_two,
        "no noise on the way to step 1": walk_silent_before_the_end,
        "no noise at T": walk_silent_at_T,
        "draws upwards": walk_draws_upwards,
        "one draw for all": walk_one_draw,
        "asks a step late": walk_asks_late,
        "asks once": walk_asks_once,
        "clipped": walk_clipped,
        "in place": walk_in_place,
        "every other step": walk_every_other,
        "in 20 strides": walk_in_twenty_strides,
        "at most 30 steps": walk_no_longer_than_thirty,
        "no noise in the last tenth": walk_silent_in_the_last_tenth,
        "kept by its schedule's length": kept_by_length(right_short_loop),
    },
    "sampling/sampler-c": {
        "the other variance": right_short_loop,
        "draws changed in place": beta_in_place,
        "β not rooted": beta_not_rooted,
        "asks a step late": beta_asks_late,
        "clipped": beta_clipped,
        "no noise in the last tenth": beta_silent_in_the_last_tenth,
        "kept by its schedule's length": kept_by_length(right_beta_walk),
    },
    "sampling/timesteps": {
        "a tensor": steps_as_tensor,
        "from T − 1": steps_skip_top,
        "rounded up": steps_rounded_up,
        "strides rounded": steps_by_rounded_strides,
        "of a thousand": steps_of_a_thousand,
        "one more": steps_one_more,
        "even from 1 on": steps_from_the_end,
        "a tuple": lambda T, steps: tuple(right_timesteps(T, steps)),
    },
    "sampling/ddim-step": {
        "η always 1": ddim_always_full,
        "α for ᾱ": ddim_single_alpha,
        "no roots": ddim_roots_forgotten,
        "between DDIM and DDPM": ddim_between_the_ends,
        "no fresh noise at T": ddim_silent_at_T,
        "no fresh noise on single steps": ddim_silent_single_steps,
        "the same noise for all": ddim_same_noise,
        "implied noise clipped": ddim_noise_clipped,
        "an epsilon below the bar": ddim_floored,
        "in place": ddim_in_place,
        "a thousand linear steps": one_thousand(ddim_kept_share, 5),
        "no fresh noise in the last hundredth": ddim_silent_near_the_end,
        "no fresh noise where little is left": ddim_silent_by_variance,
        "kept by its steps": kept(right_ddim_step, 2, 3),
        "kept by its schedule's length": kept_by_length(right_ddim_step),
        "kept by all else": kept_by_all_else(right_ddim_step),
    },
    "sampling/heun-step": {
        "uneven": heun_uneven,
        "the library's Euler": heun_library_euler,
        "two half strides": heun_two_strides,
        "mean of guesses": heun_average_of_ends,
        "Euler only from 1": heun_euler_from_1,
        "Euler at T": heun_euler_at_T,
        "Euler on single steps": heun_euler_on_single_steps,
        "the old guess": heun_old_guess,
        "the second question at x_t": heun_second_at_x_t,
        "in √(1 − ᾱ)": heun_in_the_spread,
        "the first image's slope": heun_first_image,
        "in place": heun_in_place,
        "Euler in the last hundredth": heun_euler_near_the_end,
        "Euler where little noise is left": heun_euler_by_variance,
        "kept by its steps": kept(right_heun_step, 2, 3),
        "kept by its schedule's length": kept_by_length(right_heun_step),
        "kept by all else": kept_by_all_else(right_heun_step),
    },
    "sampling/multistep": {
        "in SNR": multistep_in_snr,
        "equal strides": multistep_half,
        "the old noise": multistep_old_noise,
        "in σ": multistep_in_sigma,
        "the stride behind from s": multistep_from_r,
        "guesses exchanged": multistep_exchanged,
        "no memory of T": multistep_no_memory_at_T,
        "clipped": multistep_clipped,
        "share bounded": multistep_share_bounded,
        "in place": multistep_in_place,
        "no memory in the last hundredth": multistep_no_memory_near_the_end,
        "kept by its steps": kept(right_multistep, 3, 4, 5),
        "kept by its schedule's length": kept_by_length(right_multistep),
        "kept by all else": kept_by_all_else(right_multistep),
    },
    "sampling/langevin-step": {
        "in place": langevin_in_place,
        "uphill in place": langevin_uphill_in_place,
        "added in place": langevin_added_in_place,
        "the same noise for all": langevin_same_noise,
        "noise of its own": langevin_own_noise,
        "normalised": langevin_normalised,
        "h at most 1": langevin_small_steps_only,
        "2√h": langevin_squared,
        "single precision": langevin_single,
        "score clipped": langevin_clipped_score,
    },
}

ALTERNATIVES = {
    "sampling/walk": {
        "by index": trail_by_index,
        "three columns": trail_in_columns,
        "recursive": trail_recursive,
        "while": trail_while,
    }
    | in_other_forms(trail_while),
    "sampling/variance": {
        "two questions": variance_two_questions,
        "a standard deviation": variance_by_deviation,
    }
    | in_other_forms(variance_two_questions),
    "sampling/sampler-d": {"Python's numbers": eta_other_order, "noises mixed first": eta_share},
    "sampling/encode": {
        "by rates": encode_by_rates,
        "through add_noise": encode_through_add_noise,
        "Euler upwards": encode_in_x_bar,
    }
    | in_other_forms(encode_by_rates),
    "sampling/slerp-way": {
        "dot and norms": slerp_with_norms,
        "einops": slerp_einops,
        "pair by pair": slerp_one_by_one,
    }
    | in_other_forms(slerp_with_norms),
    "sampling/slope": {
        "the noise": slope_by_predict_noise,
        "single precision": slope_in_single_precision,
        "rates": slope_by_rates,
    }
    | in_other_forms(slope_by_rates),
    "sampling/euler-step": {
        "by hand": euler_by_hand,
        "through the slope": euler_through_slope,
        "with roots": euler_with_roots,
    }
    | in_other_forms(euler_with_roots),
    "sampling/multistep-walk": {"by index": memory_by_index, "lists of guesses": memory_of_guesses}
    | in_other_forms(memory_by_index),
    "sampling/measured-order": {
        "polyfit": order_polyfit,
        "lstsq": order_lstsq,
        "plain Python": order_in_plain_python,
        "covariance": order_by_covariance,
    },
    "sampling/counted": {"a list": CountsInAList, "a closure": counted_closure},
    "sampling/redraw": {"by hand": redraw_by_hand, "a trail": redraw_a_trail} | in_other_forms(redraw_by_hand),
    "sampling/keep-known": {"a mask": keep_by_mask, "a copy": keep_by_copy, "an object": KeepAsObject},
    "sampling/unmask": {"added": unmask_by_chunks, "in place": unmask_in_place, "signs": unmask_signs}
    | in_other_forms(unmask_in_place),
    "sampling/ancestral-step": {
        "through the noise": ancestral_by_noise,
        "logarithms": ancestral_by_logarithms,
        "like DDIM": ancestral_like_ddim,
        "single precision": ancestral_in_single_precision,
        "rates in single precision": ancestral_rates_in_single_precision,
        "silenced by a factor": ancestral_masked,
        "einsum": ancestral_einsum,
        "image by image": one_by_one(ancestral_by_noise, (0, 1, 4)),
    }
    | in_other_forms(ancestral_by_noise),
    "sampling/sampler-b": {
        "torch.add": product_both_forms,
        "written out": product_by_deviation,
        "image by image": one_by_one(product_both_forms, (0, 1, 3)),
    }
    | in_other_forms(product_both_forms),
    "sampling/sampler-a": {
        "reversed": walk_reversed,
        "while": walk_while,
        "the last guess": walk_guess_at_the_end,
        "by its draws": walk_by_draws,
        "recursive": walk_recursive,
        "single precision": walk_in_single_precision,
    }
    | in_other_forms(walk_reversed),
    "sampling/sampler-c": {
        "another branch": beta_by_where,
        "its draw silenced": beta_silenced,
        "a factor": beta_keeping_quiet,
        "the last step apart": beta_last_step_apart,
    }
    | in_other_forms(beta_by_where),
    "sampling/timesteps": {
        "linspace": steps_linspace,
        "whole numbers only": steps_half_up,
        "linspace in single precision": lambda T, steps: torch.linspace(T, 0, steps + 1).round().int().tolist(),
        "by adding": steps_by_adding,
        "rounded by hand": lambda T, steps: [int(T * k / steps + 0.5) for k in range(steps, -1, -1)],
    }
    | in_other_forms(steps_half_up),
    "sampling/ddim-step": {
        "rates": ddim_by_rates,
        "a share of the rest": ddim_kept_share,
        "single precision": ddim_in_single_precision,
        "noises mixed first": ddim_through_the_library,
        "image by image": one_by_one(ddim_kept_share, (0, 1, 4)),
    }
    | in_other_forms(ddim_kept_share),
    "sampling/heun-step": {
        "line by line": heun_by_hand,
        "Euler corrected": heun_correction,
        "the mean of two ends": heun_by_halves,
        "through DDIM": heun_through_ddim,
        "image by image": lambda d, x, t, s, sch: torch.cat([heun_by_hand(d, row[None], t, s, sch) for row in x]),
    }
    | in_other_forms(heun_by_hand),
    "sampling/multistep": {
        "as published": multistep_as_published,
        "in ln SNR": multistep_in_log_snr,
        "single precision": multistep_in_single_precision,
        "through the library": multistep_through_the_library,
        "image by image": one_by_one(multistep_as_published, (0, 1, 2)),
    }
    | in_other_forms(multistep_as_published),
    "sampling/langevin-step": {
        "torch.add": langevin_out_of_place,
        "√ of a tensor": langevin_of_a_tensor,
        "h in single precision": langevin_of_a_float32,
        "added to a copy": langevin_added_to_a_copy,
        "image by image": lambda x, f, h, z: one_by_one(lambda x, z: langevin_of_a_tensor(x, f, h, z), (0, 1))(x, z),
    }
    | in_other_forms(langevin_out_of_place),
}
