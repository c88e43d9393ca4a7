"""Wrong answers to the quizzes of notebook 06 that must be rejected, and other right ones that must be accepted."""

import math

import torch

from course_utils.diffusion import predict_noise
from course_utils.sampling import euler, heun, last
from lessons.answers import right, slip

right_ancestral_step = right("sampling/ancestral-step")
right_short_loop = right("sampling/short-loop")
right_timesteps = right("sampling/timesteps")
right_ddim_step = right("sampling/ddim-step")
right_product = right("sampling/product")


def full(x, t):
    return torch.full((len(x),), t)


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


def ancestral_without_noise(x_t, x0, t, s, noise, schedule, kappa=0.0):
    return ancestral_parts(x_t, x0, t, s, schedule)[0]


def ancestral_swapped(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """x_t and the guess in each other's place."""
    return right_ancestral_step(x0, x_t, t, s, noise, schedule, kappa)


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
    x = slip("sampling/short-loop", "as it was handed out")(denoise, schedule, x, draws)
    return denoise(x, full(x, 1))


def walk_guess_at_two(denoise, schedule, x, draws):
    """Stops early and gives the guess that x_1 is asked with another step."""
    x = slip("sampling/short-loop", "as it was handed out")(denoise, schedule, x, draws)
    return denoise(x, full(x, min(2, schedule.T)))


def beta_by_where(denoise, schedule, x, draws):
    for t in reversed(range(1, schedule.T + 1)):
        mean = schedule.posterior(denoise(x, full(x, t)), x, full(x, t)).mean
        x = mean if t == 1 else mean + schedule.beta[t].item() ** 0.5 * draws[t]
    return x


def beta_silenced(denoise, schedule, x, draws):
    draws = draws.clone()
    draws[1] = 0
    return slip("sampling/noise-at-the-end", "as it was handed out")(denoise, schedule, x, draws)


def beta_never(denoise, schedule, x, draws):
    return slip("sampling/noise-at-the-end", "as it was handed out")(denoise, schedule, x, torch.zeros_like(draws))


def beta_in_place(denoise, schedule, x, draws):
    draws[1] = 0
    return slip("sampling/noise-at-the-end", "as it was handed out")(denoise, schedule, x, draws)


# ----------------------------------------------------------------------------------------------------------- timesteps


def steps_linspace(T, steps):
    return torch.linspace(T, 0, steps + 1, dtype=torch.float64).round().int().tolist()


def steps_half_up(T, steps):
    return [(2 * T * k + steps) // (2 * steps) for k in reversed(range(steps + 1))]


def steps_as_tensor(T, steps):
    return torch.tensor(right_timesteps(T, steps))


def steps_as_floats(T, steps):
    return [float(t) for t in right_timesteps(T, steps)]


def steps_skip_top(T, steps):
    return [round((T - 1) * (steps - k) / steps) for k in range(steps + 1)]


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


def ddim_always_deterministic(x_t, x0, t, s, noise, schedule, eta=0.0):
    return right_ddim_step(x_t, x0, t, s, noise, schedule, 0.0)


def ddim_always_full(x_t, x0, t, s, noise, schedule, eta=0.0):
    return right_ddim_step(x_t, x0, t, s, noise, schedule, 1.0)


def ddim_single_alpha(x_t, x0, t, s, noise, schedule, eta=0.0):
    """α of one step for ᾱ, as in code that mixes the two tables up."""
    now, after = schedule.alpha[t].item(), schedule.alpha[s].item()
    implied = (x_t - now**0.5 * x0) / (1 - now) ** 0.5
    return after**0.5 * x0 + max(1 - after, 0) ** 0.5 * implied


def ddim_beta(x_t, x0, t, s, noise, schedule, eta=0.0):
    """σ² = η² β instead of η² β̃."""
    now, after = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    implied = (x_t - now**0.5 * x0) / (1 - now) ** 0.5
    variance = eta**2 * (1 - now / after)
    return after**0.5 * x0 + max(1 - after - variance, 0) ** 0.5 * implied + variance**0.5 * noise


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


def langevin_out_of_place(x, score, h, noise):
    return torch.add(x, score(x), alpha=h) + noise * math.sqrt(2 * h)


def langevin_in_place(x, score, h, noise):
    x += h * score(x) + math.sqrt(2 * h) * noise
    return x


def alpha_bars(schedule, t: int, s: int) -> tuple[float, float]:
    return schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()


def ancestral_parts(x_t, x0, t, s, schedule):
    now, after = alpha_bars(schedule, t, s)
    alpha = now / after
    mean = after**0.5 * (1 - alpha) / (1 - now) * x0 + alpha**0.5 * (1 - after) / (1 - now) * x_t
    return mean, (1 - after) / (1 - now) * (1 - alpha), 1 - alpha


def slope(denoise, x, t, schedule):
    at = torch.full((len(x),), t)
    return predict_noise(schedule, denoise(x, at), x, at)


def sigma(alpha_bar: float) -> float:
    return ((1 - alpha_bar) / alpha_bar) ** 0.5


def straight(x_t, t, s, schedule, slope):
    now, after = alpha_bars(schedule, t, s)
    return after**0.5 * (x_t / now**0.5 + (sigma(after) - sigma(now)) * slope)


def multistep_with(x_t, x0, x0_before, t, s, schedule, share):
    return right_ddim_step(x_t, x0 + share * (x0 - x0_before), t, s, torch.zeros_like(x_t), schedule)


MUTANTS = {
    "sampling/ancestral-step": {
        "no noise at all": ancestral_without_noise,
        "x_t and the guess exchanged": ancestral_swapped,
        "always to t − 1": ancestral_step_by_one,
        "no noise in the last few steps": ancestral_no_noise_at_one,
        "ᾱ_s and ᾱ_t exchanged": ancestral_alpha_swapped,
        "κ ignored": lambda x, g, t, s, z, sch, kappa=0.0: right_ancestral_step(x, g, t, s, z, sch, 0.0),
    },
    "sampling/product": {
        "bracket": product_times_noise,
        "β": product_of_beta,
    },
    "sampling/short-loop": {
        "to t = 0": walk_to_zero,
        "draws of the step before": walk_other_draws,
        "the guess at another step": walk_guess_at_two,
    },
    "sampling/noise-at-the-end": {
        "the other variance": right_short_loop,
        "never any noise": beta_never,
        "draws changed in place": beta_in_place,
    },
    "sampling/timesteps": {
        "a tensor": steps_as_tensor,
        "floats": steps_as_floats,
        "from T − 1": steps_skip_top,
    },
    "sampling/ddim-step": {
        "η ignored": ddim_always_deterministic,
        "η always 1": ddim_always_full,
        "α for ᾱ": ddim_single_alpha,
        "β for β̃": ddim_beta,
        "no roots": ddim_roots_forgotten,
    },
    "sampling/heun-step": {
        "uneven": heun_uneven,
        "the library's Euler": heun_library_euler,
        "two half strides": heun_two_strides,
        "mean of guesses": heun_average_of_ends,
    },
    "sampling/multistep": {
        "in SNR": multistep_in_snr,
        "equal strides": multistep_half,
    },
    "sampling/langevin-step": {
        "in place": langevin_in_place,
    },
}

ALTERNATIVES = {
    "sampling/ancestral-step": {
        "through the noise": ancestral_by_noise,
        "logarithms": ancestral_by_logarithms,
        "like DDIM": ancestral_like_ddim,
    },
    "sampling/product": {"torch.add": product_both_forms},
    "sampling/short-loop": {
        "reversed": walk_reversed,
        "while": walk_while,
        "the last guess": walk_guess_at_the_end,
    },
    "sampling/noise-at-the-end": {"another branch": beta_by_where, "its draw silenced": beta_silenced},
    "sampling/timesteps": {"linspace": steps_linspace, "whole numbers only": steps_half_up},
    "sampling/ddim-step": {"rates": ddim_by_rates, "a share of the rest": ddim_kept_share},
    "sampling/heun-step": {"line by line": heun_by_hand, "Euler corrected": heun_correction},
    "sampling/multistep": {"as published": multistep_as_published, "in ln SNR": multistep_in_log_snr},
    "sampling/langevin-step": {"torch.add": langevin_out_of_place},
}
