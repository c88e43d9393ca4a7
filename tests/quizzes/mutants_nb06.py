"""Wrong answers to the quizzes of notebook 06 that must be rejected, and other right ones that must be accepted."""

import math

import torch

from course_utils.quizzes import nb06
from course_utils.sampling import euler, heun, last


def full(x, t):
    return torch.full((len(x),), t)


# ------------------------------------------------------------------------------------------------------ ancestral steps


def ancestral_by_noise(x_t, x0, t, s, noise, schedule, spread=0.0):
    """The mean as the DDPM paper writes it: (x_t − β/√(1−ᾱ_t) ε̂) / √α."""
    now, after = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    implied = (x_t - math.sqrt(now) * x0) / math.sqrt(1 - now)
    alpha = now / after
    mean = (x_t - (1 - alpha) / math.sqrt(1 - now) * implied) / math.sqrt(alpha)
    if s == 0:
        return mean
    beta = 1 - alpha
    return mean + math.sqrt(((1 - after) / (1 - now) * beta) ** (1 - spread) * beta**spread) * noise


def ancestral_by_logarithms(x_t, x0, t, s, noise, schedule, spread=0.0):
    mean, small, beta = nb06._ancestral_parts(x_t, x0, t, s, schedule)
    if not s:
        return mean
    return mean + math.exp(0.5 * ((1 - spread) * math.log(small) + spread * math.log(beta))) * noise


def ancestral_like_ddim(x_t, x0, t, s, noise, schedule, spread=0.0):
    """Guess, old noise, fresh noise."""
    now, after = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    beta = 1 - now / after
    small = (1 - after) / (1 - now) * beta
    implied = (x_t - now**0.5 * x0) / (1 - now) ** 0.5
    sigma = (small ** (1 - spread) * beta**spread) ** 0.5 if s > 0 else 0.0
    return after**0.5 * x0 + (1 - after - small) ** 0.5 * implied + sigma * noise


def ancestral_without_noise(x_t, x0, t, s, noise, schedule, spread=0.0):
    return nb06._ancestral_parts(x_t, x0, t, s, schedule)[0]


def ancestral_swapped(x_t, x0, t, s, noise, schedule, spread=0.0):
    """x_t and the guess in each other's place."""
    return nb06._ancestral_step(x0, x_t, t, s, noise, schedule, spread)


def ancestral_step_by_one(x_t, x0, t, s, noise, schedule, spread=0.0):
    """Always one step, whatever the stride."""
    return nb06._ancestral_step(x_t, x0, t, t - 1, noise, schedule, spread)


def ancestral_no_noise_at_one(x_t, x0, t, s, noise, schedule, spread=0.0):
    """Drops the noise where the stride *starts* near the end, not where it ends."""
    return nb06._ancestral_step(x_t, x0, t, s, noise if t > 5 else 0 * noise, schedule, spread)


def ancestral_alpha_swapped(x_t, x0, t, s, noise, schedule, spread=0.0):
    """ᾱ_s where ᾱ_t belongs, and the other way round, in the mean."""
    now, after = schedule.alpha_bar[s].item(), schedule.alpha_bar[t].item()
    _, small, beta = nb06._ancestral_parts(x_t, x0, t, s, schedule)
    alpha = after / now
    mean = after**0.5 * (1 - alpha) / (1 - after) * x0 + alpha**0.5 * (1 - now) / (1 - after) * x_t
    return mean + ((small ** (1 - spread) * beta**spread) ** 0.5 if s else 0.0) * noise


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
        x = nb06._product_step(x, denoise(x, full(x, t)), t, draws[t], schedule)
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
        x = nb06._product_step(x, denoise(x, full(x, t)), t, draws[t - 1], schedule)
    return x


def walk_guess_at_the_end(denoise, schedule, x, draws):
    """Stops early and then simply gives the guess at t = 1: the same image, by another road."""
    x = nb06._walk_stops_early(denoise, schedule, x, draws)
    return denoise(x, full(x, 1))


def walk_guess_at_two(denoise, schedule, x, draws):
    """Stops early and gives the guess that x_1 is asked with another step."""
    x = nb06._walk_stops_early(denoise, schedule, x, draws)
    return denoise(x, full(x, min(2, schedule.T)))


def beta_by_where(denoise, schedule, x, draws):
    for t in reversed(range(1, schedule.T + 1)):
        mean = schedule.posterior(denoise(x, full(x, t)), x, full(x, t)).mean
        x = mean if t == 1 else mean + schedule.beta[t].item() ** 0.5 * draws[t]
    return x


def beta_silenced(denoise, schedule, x, draws):
    draws = draws.clone()
    draws[1] = 0
    return nb06._beta_walk_as_handed_out(denoise, schedule, x, draws)


def beta_never(denoise, schedule, x, draws):
    return nb06._beta_walk_as_handed_out(denoise, schedule, x, torch.zeros_like(draws))


def beta_in_place(denoise, schedule, x, draws):
    draws[1] = 0
    return nb06._beta_walk_as_handed_out(denoise, schedule, x, draws)


# --------------------------------------------------------------------------------------------------------------- stops


def steps_linspace(T, steps):
    return torch.linspace(T, 0, steps + 1, dtype=torch.float64).round().int().tolist()


def steps_half_up(T, steps):
    return [(2 * T * k + steps) // (2 * steps) for k in reversed(range(steps + 1))]


def steps_as_tensor(T, steps):
    return torch.tensor(nb06._timesteps(T, steps))


def steps_as_floats(T, steps):
    return [float(t) for t in nb06._timesteps(T, steps)]


def steps_skip_top(T, steps):
    return nb06._timesteps(T - 1, steps)


# ---------------------------------------------------------------------------------------------------------------- DDIM


def ddim_by_rates(x_t, x0, t, s, noise, schedule, eta=0.0):
    signal, spread = schedule.rates(full(x_t, t), x_t.double())
    to_signal, to_spread = schedule.rates(full(x_t, s), x_t.double())
    implied = (x_t.double() - signal * x0) / spread
    sigma = eta * to_spread / spread * (1 - (signal / to_signal) ** 2).sqrt()
    return (to_signal * x0 + (to_spread**2 - sigma**2).sqrt() * implied + sigma * noise).to(x_t.dtype)


def ddim_kept_share(x_t, x0, t, s, noise, schedule, eta=0.0):
    """√ᾱ_s x̂_0 plus a share of what x_t has beyond its image."""
    now, after = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    variance = eta**2 * (1 - after) / (1 - now) * (1 - now / after)
    kept = ((1 - after - variance) / (1 - now)) ** 0.5
    return after**0.5 * x0 + kept * (x_t - now**0.5 * x0) + variance**0.5 * noise


def ddim_always_deterministic(x_t, x0, t, s, noise, schedule, eta=0.0):
    return nb06._ddim_step(x_t, x0, t, s, noise, schedule, 0.0)


def ddim_always_full(x_t, x0, t, s, noise, schedule, eta=0.0):
    return nb06._ddim_step(x_t, x0, t, s, noise, schedule, 1.0)


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
    first = nb06._slope(denoise, x_t, t, schedule)
    end = nb06._straight(x_t, t, s, schedule, first)
    if s == 0:
        return end
    return nb06._straight(x_t, t, s, schedule, first + 0.5 * (nb06._slope(denoise, end, s, schedule) - first))


def heun_uneven(denoise, x_t, t, s, schedule):
    first = nb06._slope(denoise, x_t, t, schedule)
    end = nb06._straight(x_t, t, s, schedule, first)
    if s == 0:
        return end
    return nb06._straight(x_t, t, s, schedule, 0.4 * first + 0.6 * nb06._slope(denoise, end, s, schedule))


def heun_library_euler(denoise, x_t, t, s, schedule):
    return last(euler(denoise, schedule, x_t, [t, s]))


def heun_two_strides(denoise, x_t, t, s, schedule):
    """Two strides of half the length: more exact, and another answer."""
    if t - s < 2:
        return nb06._heun_euler(denoise, x_t, t, s, schedule)
    return last(heun(denoise, schedule, x_t, [t, (t + s) // 2, s]))


def heun_average_of_ends(denoise, x_t, t, s, schedule):
    """The mean of the guesses, not of the slopes."""
    first = denoise(x_t, full(x_t, t))
    end = nb06._straight(x_t, t, s, schedule, nb06._slope(denoise, x_t, t, schedule))
    if s == 0:
        return end
    guess = (first + denoise(end, full(x_t, s))) / 2
    return nb06._straight(x_t, t, s, schedule, schedule.to_noise(guess, x_t, full(x_t, t)))


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
    return nb06._multistep_with(x_t, x0, x0_before, t, s, schedule, share)


def multistep_in_snr(x_t, x0, x0_before, r, t, s, schedule):
    snr = schedule.snr.tolist()
    return nb06._multistep_with(x_t, x0, x0_before, t, s, schedule, (snr[s] - snr[t]) / (snr[t] - snr[r]) / 2)


def multistep_half(x_t, x0, x0_before, r, t, s, schedule):
    """As if all strides were of one length."""
    return nb06._multistep_with(x_t, x0, x0_before, t, s, schedule, 0.5)


def langevin_out_of_place(x, score, h, noise):
    return torch.add(x, score(x), alpha=h) + noise * math.sqrt(2 * h)


def langevin_in_place(x, score, h, noise):
    x += h * score(x) + math.sqrt(2 * h) * noise
    return x


MUTANTS = {
    "sampling/ancestral-step": {
        "variance for standard deviation": nb06._ancestral_variance,
        "product": nb06._ancestral_product,
        "noise at the last step": nb06._ancestral_noise_at_end,
        "arithmetic mean of variances": nb06._ancestral_arithmetic,
        "κ turned round": nb06._ancestral_turned_round,
        "β of one step": nb06._ancestral_one_beta,
        "noised afresh": nb06._ancestral_afresh,
        "no noise at all": ancestral_without_noise,
        "x_t and the guess exchanged": ancestral_swapped,
        "always to t − 1": ancestral_step_by_one,
        "no noise in the last few steps": ancestral_no_noise_at_one,
        "ᾱ_s and ᾱ_t exchanged": ancestral_alpha_swapped,
        "κ ignored": lambda x, g, t, s, z, sch, spread=0.0: nb06._ancestral_step(x, g, t, s, z, sch, 0.0),
    },
    "sampling/product": {
        "as handed out": nb06._product_as_handed_out,
        "variance": nb06._product_variance,
        "added": nb06._product_added,
        "bracket": product_times_noise,
        "β": product_of_beta,
    },
    "sampling/short-loop": {
        "as handed out": nb06._walk_stops_early,
        "starts late": nb06._walk_starts_late,
        "upwards": nb06._walk_upwards,
        "to t = 0": walk_to_zero,
        "draws of the step before": walk_other_draws,
        "the guess at another step": walk_guess_at_two,
    },
    "sampling/noise-at-the-end": {
        "as handed out": nb06._beta_walk_as_handed_out,
        "one early": nb06._beta_walk_one_early,
        "cut": nb06._beta_walk_cut,
        "the other variance": nb06._full_walk,
        "never any noise": beta_never,
        "draws changed in place": beta_in_place,
    },
    "sampling/timesteps": {
        "truncated": nb06._timesteps_truncated,
        "no zero": nb06._timesteps_without_zero,
        "leading": nb06._timesteps_leading,
        "rising": nb06._timesteps_rising,
        "one short": nb06._timesteps_one_short,
        "to one": nb06._timesteps_to_one,
        "whole strides": nb06._timesteps_by_whole_strides,
        "a tensor": steps_as_tensor,
        "floats": steps_as_floats,
        "from T − 1": steps_skip_top,
    },
    "sampling/ddim-step": {
        "direction not shortened": nb06._ddim_direction_not_shortened,
        "variance for standard deviation": nb06._ddim_variance_for_sigma,
        "σ not squared": nb06._ddim_sigma_not_squared,
        "ᾱ_s and ᾱ_t exchanged": nb06._ddim_swapped,
        "afresh": nb06._ddim_afresh,
        "η on the variance": nb06._ddim_eta_on_variance,
        "x_t for its noise": nb06._ddim_keeps_x_t,
        "η ignored": ddim_always_deterministic,
        "η always 1": ddim_always_full,
        "α for ᾱ": ddim_single_alpha,
        "β for β̃": ddim_beta,
        "no roots": ddim_roots_forgotten,
    },
    "sampling/heun-step": {
        "Euler": nb06._heun_euler,
        "second slope": nb06._heun_second_slope,
        "sum": nb06._heun_sum,
        "asked at t": nb06._heun_asked_at_t,
        "from the end": nb06._heun_twice,
        "not scaled": nb06._heun_without_scaling,
        "uneven": heun_uneven,
        "the library's Euler": heun_library_euler,
        "two half strides": heun_two_strides,
        "mean of guesses": heun_average_of_ends,
    },
    "sampling/multistep": {
        "no memory": nb06._multistep_last_guess,
        "in t": nb06._multistep_in_t,
        "whole": nb06._multistep_whole,
        "upside down": nb06._multistep_upside_down,
        "backwards": nb06._multistep_backwards,
        "in SNR": multistep_in_snr,
        "equal strides": multistep_half,
    },
    "sampling/langevin-step": {
        "√h": nb06._langevin_root_of_h,
        "2h": nb06._langevin_two_h,
        "downhill": nb06._langevin_downhill,
        "no noise": nb06._langevin_ascent,
        "noise first": nb06._langevin_noise_first,
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
