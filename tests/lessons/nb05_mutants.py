"""Wrong answers to the quizzes of notebook 05 that must be rejected, and other right ones that must be accepted."""

import copy
import functools
import math
import os

import torch
from einops import rearrange
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from course_utils import diffusion as library
from course_utils import variational
from lessons.answers import right, slip, with_first_schedule

right_to_x0 = right("training/to-x0")
right_one_step = right("training/restless")
right_v_target = right("training/v-target")


def kl_no_gradient(mean_q, mean_p, var):
    with torch.no_grad():
        return variational.kl_same_variance(mean_q, mean_p, var)


def kl_distributions(mean_q, mean_p, var):
    sigma = var.sqrt().expand_as(mean_q)
    return kl_divergence(Normal(mean_q, sigma), Normal(mean_p, sigma)).flatten(1).sum(1)


def kl_rows(mean_q, mean_p, var):
    return torch.stack([(q - p).pow(2).sum() / (2 * v.sum()) for q, p, v in zip(mean_q, mean_p, var)])


def kl_einsum(mean_q, mean_p, var):
    d = rearrange((mean_p - mean_q) / (2 * var).sqrt(), "b ... -> b (...)")
    return torch.einsum("bi,bi->b", d, d)


def kl_by_quadratics(mean_q, mean_p, var):
    """|q|² − 2 q·p + |p|²."""
    q, p = mean_q.flatten(1), mean_p.flatten(1)
    squares = (q * q).sum(1) - 2 * torch.einsum("bi,bi->b", q, p) + (p * p).sum(1)
    return squares / 2 / var.flatten()


def kl_norm(mu, nu, /, sigma_2):
    return torch.linalg.vector_norm((mu - nu).flatten(1), dim=1).square() / (2 * sigma_2.reshape(len(mu)))


def kl_pixel_loop(*, mean_q, mean_p, var):
    total = torch.zeros_like(var.flatten())
    for q, p in zip(mean_q.flatten(1).unbind(1), mean_p.flatten(1).unbind(1)):
        total = total + (q - p) ** 2 / (2 * var.flatten())
    return total


class Divergence:
    """A callable object."""

    def __call__(self, mean_q, mean_p, var):
        d = (mean_q - mean_p) / var.sqrt()
        return 0.5 * d.pow(2).reshape(len(d), -1).sum(-1)


def kl_half_gradient(mean_q, mean_p, var):
    return ((mean_q - mean_p) * (mean_q - mean_p.detach()) / (2 * var)).flatten(1).sum(1)


def kl_first_channel(mean_q, mean_p, var):
    """As if images had one channel."""
    d = (mean_q - mean_p) / (2 * var).sqrt()
    return d[:, :1].flatten(1).square().sum(1)


def kl_on_the_cpu(mean_q, mean_p, var):
    total = torch.zeros(len(var), dtype=var.dtype)
    return total + ((mean_q - mean_p) ** 2 / (2 * var)).flatten(1).sum(1)


def kl_in_place(mean_q, mean_p, var):
    return mean_q.sub_(mean_p).square().div(2 * var).flatten(1).sum(1)


def kl_kept():
    kept = {}

    def answer(mean_q, mean_p, var):
        form = mean_q.shape, mean_q.device
        kept.setdefault(form, 1 / (2 * var))
        return ((mean_q - mean_p).square() * kept[form]).flatten(1).sum(1)

    return answer


def kl_of_mixed_channels(mean_q, mean_p, var):
    """Batch and channels change places."""
    error = (mean_q - mean_p) ** 2 / (2 * var)
    return error.sum((2, 3)).reshape(error.shape[1], -1).sum(0) if error.ndim == 4 else error.flatten(1).sum(1)


def kl_of_a_root(mean_q, mean_p, var):
    """No gradient where the means are equal."""
    return (mean_q - mean_p).square().flatten(1).sum(1).sqrt() ** 2 / (2 * var.flatten())


def of_the_first_as_long(answer):
    """The same, but with the schedule of as many steps that came first."""
    return with_first_schedule(answer, key=lambda schedule, *given: (schedule.T, schedule.alpha_bar.device))


def repeated_rates(schedule, t, x):
    """Rates by image and channel, the images in the inner loop."""
    b, c = x.shape[:2]
    a = schedule.alpha_bar[t].to(x.dtype).repeat(c).view(b, c, 1, 1)
    return a.sqrt(), (1 - a).sqrt()


def weight_of_betas(schedule, t):
    """In the symbols of Ho et al., with the posterior variance."""
    beta, alpha, before = schedule.beta[t], schedule.alpha[t], schedule.alpha_bar[t - 1]
    return torch.where(t == 1, torch.full_like(beta, 0.5), beta / (2 * alpha * (1 - before)))


def weight_by_logs(schedule, t):
    weight = 0.5 * torch.expm1((schedule.log_snr[t - 1] - schedule.log_snr[t]).clamp(max=300))
    return weight.masked_fill(t == 1, 0.5)


def weight_in_place(schedule, t):
    weight = (schedule.snr[t - 1] / schedule.snr[t] - 1) / 2
    weight[t == 1] = 0.5
    return weight


def weight_in_a_list(schedule, t):
    snr = schedule.snr.tolist()
    found = [0.5 if step == 1 else (snr[step - 1] / snr[step] - 1) / 2 for step in t.tolist()]
    return torch.tensor(found, dtype=torch.float64)


def weight_of_all(chain, /, steps):
    """For every step first; then those that are asked for."""
    ratio = chain.snr[:-1] / chain.snr[1:]
    ratio[0] = 2
    return (0.5 * (ratio - 1))[steps - 1]


def weight_of_shares(*, schedule, t):
    """With ᾱ in the place of the ratios."""
    now, then = schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
    fraction = then * (1 - now) / (now * (1 - then))
    return torch.where(t > 1, 0.5 * fraction - 0.5, torch.tensor(0.5, dtype=torch.float64))


class Weight:
    """A callable object."""

    def __call__(self, schedule, t):
        snr = schedule.snr
        return torch.where(t.eq(1), 0.5, snr[t - 1].div(snr[t]).sub(1).mul(0.5))


def weight_next_to_one(schedule, t):
    """½ for the first two steps."""
    return variational.bound_weight(schedule, t).masked_fill(t <= 2, 0.5)


def weight_clamped(schedule, t):
    snr = schedule.snr.clamp(1e-3, 1e3)
    return torch.where(t == 1, 0.5, 0.5 * (snr[t - 1] / snr[t] - 1))


def weight_bounded(schedule, t):
    return variational.bound_weight(schedule, t).clamp(max=100)


def weight_touching_the_schedule(schedule, t):
    """So that the first ratio isn't infinite."""
    schedule.alpha_bar[0] -= 1e-9
    weight = 0.5 * (schedule.snr[t - 1] / schedule.snr[t] - 1)
    return torch.where(t == 1, 0.5, weight)


def weight_of_the_first_step(schedule, t):
    return variational.bound_weight(schedule, t[:1].expand(len(t)))


def weight_from_the_end(schedule, t):
    snr = schedule.snr
    return torch.where(t == schedule.T, 0.5, 0.5 * (snr[t - 1] / snr[t] - 1)).nan_to_num(posinf=0.5)


def weight_zero_at_one(schedule, t):
    return variational.bound_weight(schedule, t).masked_fill(t == 1, 0.0)


def weight_next_step(schedule, t):
    snr = schedule.snr
    return torch.where(t == 1, 0.5, 0.5 * (snr[t] / snr[(t + 1).clamp(max=schedule.T)] - 1))


def loss_mse(model, x0, t, noise, schedule):
    return F.mse_loss(model(schedule.add_noise(x0, t, noise), t), noise)


def loss_by_hand(model, x0, t, noise, schedule):
    a = rearrange(schedule.alpha_bar[t], "b -> b 1 1 1").to(x0.dtype)
    return (model(a.sqrt() * x0 + (1 - a).sqrt() * noise, t) - noise).pow(2).mean()


def loss_image_by_image(model, x0, t, noise, schedule):
    rows = zip(x0.split(1), t.split(1), noise.split(1))
    return torch.stack([loss_mse(model, x, step, e, schedule) for x, step, e in rows]).mean()


def loss_by_position_and_name(network, images, /, steps, noise, *, schedule):
    guess = network(schedule.add_noise(images, steps, noise), t=steps)
    return torch.linalg.vector_norm(guess - noise) ** 2 / guess.numel()


def loss_einsum(model, x0, t, noise, schedule):
    error = (model(schedule.add_noise(x0, t, noise), t) - noise).flatten()
    return torch.einsum("i,i->", error, error) / len(error)


def loss_mean_of_means(model, x0, t, noise, schedule):
    signal_rate, noise_rate = schedule.rates(t, x0)
    guess = model(signal_rate * x0 + noise_rate * noise, t)
    return F.mse_loss(guess, noise, reduction="none").flatten(1).mean(1).mean()


class Loss:
    """A callable object."""

    def __call__(self, model, x0, t, noise, schedule):
        return torch.nn.MSELoss()(model(schedule.add_noise(x0, t, noise), t), noise)


def loss_backward(model, x0, t, noise, schedule):
    loss = loss_mse(model, x0, t, noise, schedule)
    loss.backward()
    return loss


def loss_backward_retained(model, x0, t, noise, schedule):
    loss = loss_mse(model, x0, t, noise, schedule)
    loss.backward(retain_graph=True)
    return loss


def loss_zeroing(model, x0, t, noise, schedule):
    """The gradients of an earlier call, made 0 rather than none."""
    loss = loss_mse(model, x0, t, noise, schedule)
    loss.backward(retain_graph=True)
    model.zero_grad(set_to_none=False)
    return loss


def loss_in_eval_mode(model, x0, t, noise, schedule):
    return loss_mse(model.eval(), x0, t, noise, schedule)


def loss_frozen_first_layer(model, x0, t, noise, schedule):
    model.first.requires_grad_(False)
    return loss_mse(model, x0, t, noise, schedule)


def loss_step_of_descent(model, x0, t, noise, schedule):
    loss = loss_mse(model, x0, t, noise, schedule)
    with torch.no_grad():
        for weight, slope in zip(model.parameters(), torch.autograd.grad(loss, model.parameters(), retain_graph=True)):
            weight -= 1e-3 * slope
    return loss


def loss_recording_off(model, x0, t, noise, schedule):
    loss = loss_mse(model, x0, t, noise, schedule)
    torch.set_grad_enabled(False)
    return loss


def loss_noise_eaten(model, x0, t, noise, schedule):
    guess = model(schedule.add_noise(x0, t, noise), t)
    return noise.sub_(guess).square().mean()


def loss_fraction_of_steps(model, x0, t, noise, schedule):
    return F.mse_loss(model(schedule.add_noise(x0, t, noise), t / schedule.T), noise)


def loss_huber(model, x0, t, noise, schedule):
    return F.smooth_l1_loss(model(schedule.add_noise(x0, t, noise), t), noise)


def loss_of_the_first(model, x0, t, noise, schedule):
    return loss_mse(model, x0[:1], t[:1], noise[:1], schedule)


def loss_per_28_pixels(model, x0, t, noise, schedule):
    return slip("training/algorithm-1", "summed over pixels")(model, x0, t, noise, schedule) / 784


def loss_on_the_cpu(model, x0, t, noise, schedule):
    error = (model(schedule.add_noise(x0, t, noise), t) - noise).square()
    return (error * torch.ones(len(x0), 1, 1, 1, dtype=x0.dtype)).mean()


def loss_kept():
    kept = {}

    def answer(model, x0, t, noise, schedule):
        form = x0.shape, x0.device
        kept.setdefault(form, schedule.add_noise(x0, t, noise))
        return F.mse_loss(model(kept[form], t), noise)

    return answer


def loss_detached(model, x0, t, noise, schedule):
    return loss_mse(model, x0, t, noise, schedule).detach()


def loss_own_noise(model, x0, t, noise, schedule):
    return loss_mse(model, x0, t, torch.randn_like(x0), schedule)


def loss_l1(model, x0, t, noise, schedule):
    return F.l1_loss(model(schedule.add_noise(x0, t, noise), t), noise)


def loss_of_v(model, x0, t, noise, schedule):
    v = library.prediction_target(schedule, "v", x0, noise, t)
    return F.mse_loss(model(schedule.add_noise(x0, t, noise), t), v)


def loss_no_grad_network(model, x0, t, noise, schedule):
    with torch.no_grad():
        guess = model(schedule.add_noise(x0, t, noise), t)
    return F.mse_loss(guess, noise)


def loss_signed(model, x0, t, noise, schedule):
    return (noise - model(schedule.add_noise(x0, t, noise), t)).mean() ** 2


def loss_not_reduced(model, x0, t, noise, schedule):
    return (noise - model(schedule.add_noise(x0, t, noise), t)).square().flatten(1).mean(1)


def loss_in_place(model, x0, t, noise, schedule):
    a = schedule.alpha_bar_at(t, x0)
    x0.mul_(a.sqrt()).add_((1 - a).sqrt() * noise)
    return F.mse_loss(model(x0, t), noise)


def loss_of_the_difference(model, x0, t, noise, schedule):
    """Asks for x_t − x0, which some call "the noise that was added"."""
    x_t = schedule.add_noise(x0, t, noise)
    return F.mse_loss(model(x_t, t), x_t - x0)


def drawing(steps=None, noise=None, moved=True):
    """A way to draw: steps(n, T, generator) and noise(x0, generator), those of the right answer where none is given."""
    steps, noise = steps or uniform_steps, noise or normal_noise

    def draw(x0, schedule, generator):
        t, e = steps(len(x0), schedule.T, generator), noise(x0, generator)
        t, e = (each.to(x0.device) for each in (t, e)) if moved else (t, e)
        return schedule.add_noise(x0, t, e), t, e

    return draw


def uniform_steps(n, T, generator):
    return torch.randint(1, T + 1, (n,), generator=generator)


def normal_noise(x0, generator):
    return torch.randn(x0.shape, generator=generator)


def draw_by_floats(x0, schedule, generator):
    t = (torch.rand(len(x0), generator=generator, device=x0.device) * schedule.T).long() + 1
    noise = torch.empty_like(x0).normal_(generator=generator)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_noise_first(x0, schedule, generator):
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    t = torch.randint(schedule.T, (len(x0),), generator=generator, device=x0.device) + 1
    return schedule.add_noise(x0, t, noise), t, noise


def draw_stratified(x0, schedule, generator):
    t = library.draw_steps(len(x0), schedule.T, generator, x0.device)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_from_one_start(x0, schedule, generator):
    """One random number for the batch, from which all steps follow at equal distances (Kingma et al. 2021)."""
    b = len(x0)
    start = torch.rand((), generator=generator, device=x0.device)
    share = (start + torch.arange(b, device=x0.device) / b) % 1
    t, noise = (share * schedule.T).long() + 1, torch.randn(x0.shape, generator=generator, device=x0.device)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_strata_shuffled(x0, schedule, generator):
    """A step from each b-th of all, in any order."""
    b = len(x0)
    order = torch.randperm(b, generator=generator, device=x0.device)
    share = (order + torch.rand(b, generator=generator, device=x0.device)) / b
    t = (share * schedule.T).long().clamp(max=schedule.T - 1) + 1
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_where_the_generator_is(x0, schedule, generator):
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=generator.device)
    noise = torch.randn(x0.shape, generator=generator, device=generator.device)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_in_a_list(x0, schedule, generator):
    rows = [right_one_step(x0[i : i + 1], schedule, generator) for i in range(len(x0))]
    return tuple(torch.cat(parts) for parts in zip(*rows))


def draw_antithetic(x0, schedule, generator):
    """t and T + 1 − t together, as the code of the DDIM paper has it."""
    half = torch.randint(1, schedule.T + 1, (len(x0) // 2 + 1,), generator=generator, device=x0.device)
    t = torch.cat([half, schedule.T + 1 - half])[: len(x0)]
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_without_return(x0, schedule, generator):
    """No step twice before all have come once."""
    orders = [
        torch.randperm(schedule.T, generator=generator, device=x0.device) for _ in range(len(x0) // schedule.T + 1)
    ]
    t, noise = torch.cat(orders)[: len(x0)] + 1, torch.zeros_like(x0)
    noise.normal_(generator=generator)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_by_hand(clean, /, chain, *, generator):
    """(3.4) written out; int32 steps, a list, a parameter by position alone and one by name alone."""
    t = torch.randint(1, chain.T + 1, clean.shape[:1], generator=generator, dtype=torch.int32, device=clean.device)
    noise = torch.randn(*clean.shape, generator=generator, device=clean.device)
    left = chain.alpha_bar[t.long()].float()[:, None, None, None]
    return [left.sqrt() * clean + (1 - left).sqrt() * noise, t, noise]


class Drawing:
    """A callable object."""

    def __call__(self, images, schedule, generator):
        return right_one_step(images, schedule, generator)


def draw_once_repeated(x0, schedule, generator):
    step = int(torch.randint(1, schedule.T + 1, (), generator=generator))
    t = torch.full((len(x0),), step)
    noise = torch.randn(x0.shape, generator=generator)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_fractions(x0, schedule, generator):
    t = torch.rand(len(x0), generator=generator)
    return x0, t, torch.randn(x0.shape, generator=generator)


def draw_other_noise(x0, schedule, generator):
    x_t, t, _ = right_one_step(x0, schedule, generator)
    return x_t, t, torch.randn(x0.shape, generator=generator)


def draw_reseeded(x0, schedule, generator):
    return right_one_step(x0, schedule, generator.manual_seed(0))


def draw_in_another_order(x0, schedule, generator):
    x_t, t, noise = right_one_step(x0, schedule, generator)
    return t, x_t, noise


def draw_in_place(x0, schedule, generator):
    x_t, t, noise = right_one_step(x0, schedule, generator)
    return x0.copy_(x_t), t, noise


def draw_the_step_before(x0, schedule, generator):
    _, t, noise = right_one_step(x0, schedule, generator)
    return schedule.add_noise(x0, t - 1, noise), t, noise


def draw_with_variance(x0, schedule, generator):
    _, t, noise = right_one_step(x0, schedule, generator)
    left = schedule.alpha_bar_at(t, x0)
    return left.sqrt() * x0 + (1 - left) * noise, t, noise


def draw_steps_as_a_column(x0, schedule, generator):
    x_t, t, noise = right_one_step(x0, schedule, generator)
    return x_t, t[:, None], noise


def draw_stronger_later(x0, schedule, generator):
    """The noise is scaled twice, once before it is returned."""
    _, t, noise = right_one_step(x0, schedule, generator)
    noise = (1 - schedule.alpha_bar_at(t, x0)).sqrt() * noise
    return schedule.add_noise(x0, t, noise), t, noise


def draw_a_dictionary(x0, schedule, generator):
    return dict(zip(("x_t", "t", "noise"), right_one_step(x0, schedule, generator)))


def draw_with_numbers(x0, schedule, generator):
    x_t, t, noise = right_one_step(x0, schedule, generator)
    return x_t, t.tolist(), noise


def keeping(draw):
    """The same numbers again whenever images of these shapes come."""
    kept = {}

    def answer(x0, schedule, generator):
        form = x0.shape, x0.device
        if form not in kept:
            kept[form] = draw(x0, schedule, generator)
        return kept[form]

    return answer


def keeping_noise(calls=2):
    """New noise only every few calls."""
    kept = []

    def noise(x0, generator):
        if not kept or kept[-1].shape != x0.shape or len(kept) % calls == 0 or x0.is_meta:
            kept.append(normal_noise(x0, generator))
        else:
            kept.append(kept[-1])
        return kept[-1]

    return noise


def own_chance():
    generator = torch.Generator().manual_seed(3)
    return lambda x0, schedule, _: right_one_step(x0, schedule, generator)


def counting():
    """1, 2, 3, …, from where the last call ended."""
    at = [0]

    def steps(n, T, generator):
        at[0] += n
        return (torch.arange(n) + at[0]) % T + 1

    return steps


def copied(parts, sign=1):
    """The last part of a batch is the first once more."""

    def noise(x0, generator):
        e = normal_noise(x0, generator)
        half = len(e) // parts
        return torch.cat([e[: len(e) - half], sign * e[:half]])

    return noise


def copied_steps(n, T, generator):
    t = uniform_steps(n, T, generator)
    return torch.cat([t[: n - n // 2], t[: n // 2]])


def normalised(*axes):
    def noise(x0, generator):
        e = normal_noise(x0, generator)
        axis = axes or tuple(range(e.ndim))
        return (e - e.mean(axis, keepdim=True)) / (e.std(axis, keepdim=True, correction=0) + 1e-6)

    return noise


def shared(*axes):
    """One number for all along these axes."""

    def noise(x0, generator):
        shape = [1 if axis in axes else size for axis, size in enumerate(x0.shape)]
        return torch.randn(shape, generator=generator).expand_as(x0)

    return noise


def shaped(change):
    return lambda x0, generator: change(normal_noise(x0, generator))


def from_uniform(change):
    return lambda x0, generator: change(torch.rand(x0.shape, generator=generator))


def offset(strength, parts=slice(2), whole=False):
    """One number more for all pixels of a channel, of an image, or of the batch; perhaps of variance 1 together."""

    def noise(x0, generator):
        shape = (*x0.shape[parts], *[1] * x0.ndim)[: x0.ndim]
        e = normal_noise(x0, generator) + strength * torch.randn(shape, generator=generator)
        return e / (1 + strength**2) ** 0.5 if whole else e

    return noise


def blurred(strength, axis):
    return shaped(lambda e: (e + strength * e.roll(1, axis)) / (1 + strength**2) ** 0.5)


def first_pixel_clean(noise):
    noise = noise.clone()
    noise[..., 0, 0] = 0
    return noise


def first_image_clean(noise):
    return torch.cat([0 * noise[:1], noise[1:]])


def some_images_stronger(noise):
    return noise * torch.where(noise[:, :1, :1, :1] > 0, 1.3, 0.56)


def steps_with_ends(n, T, generator):
    t = uniform_steps(n, T, generator)
    t[0], t[-1] = 1, T
    return t


def of_many(t, T, change):
    return change(t) if T > 50 else t


def middle_first(t):
    """Each batch from the middle outwards."""
    middle = t.double().median()
    return t[(t - middle).abs().argsort()]


WRONG_STEPS = {
    "rounded": lambda n, T, g: (torch.rand(n, generator=g) * T).round().long(),
    "rounded between the ends": lambda n, T, g: (torch.rand(n, generator=g) * (T - 1)).round().long() + 1,
    "clamped below": lambda n, T, g: torch.randint(-1, T + 1, (n,), generator=g).clamp(min=1),
    "clamped above": lambda n, T, g: torch.randint(1, T + 3, (n,), generator=g).clamp(max=T),
    "a little more of the small": lambda n, T, g: (torch.rand(n, generator=g) ** 1.2 * T).long().clamp(max=T - 1) + 1,
    "a little more of the middle": lambda n, T, g: (torch.rand(2, n, generator=g).sum(0) / 2 * T).long() + 1,
    "mostly small steps": lambda n, T, g: (torch.rand(n, generator=g) ** 4 * T).long() + 1,
    "never the first": lambda n, T, g: torch.randint(2, T + 1, (n,), generator=g),
    "even ones": lambda n, T, g: 2 * torch.randint(1, T // 2 + 1, (n,), generator=g),
    "in order": lambda n, T, g: torch.arange(n).clamp(max=T - 1) + 1,
    "counted on": lambda n, T, g: (torch.arange(n) + torch.randint(T, (1,), generator=g)) % T + 1,
    "two steps a batch": lambda n, T, g: uniform_steps(2, T, g).repeat((n + 1) // 2)[:n],
    "in pairs": lambda n, T, g: uniform_steps((n + 1) // 2, T, g).repeat_interleave(2)[:n],
    "second half copied": copied_steps,
    "without the generator": lambda n, T, g: torch.randint(1, T + 1, (n,)),
    "always both ends": steps_with_ends,
    "of 256": lambda n, T, g: torch.randint(0, 256, (n,), generator=g) * T // 256 + 1,
    "of a hundred": lambda n, T, g: (torch.rand(n, generator=g) * 100).floor().div(100).mul(T).long() + 1,
    "odd, of many": lambda n, T, g: of_many(uniform_steps(n, T, g), T, lambda t: (t - 1) // 2 * 2 + 1),
    "never the last, of many": lambda n, T, g: of_many(uniform_steps(n, T, g), T, lambda t: t - 1 * (t == T)),
    "never the middle, of many": lambda n, T, g: of_many(uniform_steps(n, T, g), T, lambda t: t + 1 * (t == T // 2)),
    "one and every seventh": lambda n, T, g: (torch.randint(T, (1,), generator=g) + 7 * torch.arange(n)) % T + 1,
    "sorted": lambda n, T, g: uniform_steps(n, T, g).sort().values,
    "sorted downwards": lambda n, T, g: uniform_steps(n, T, g).sort(descending=True).values,
    "the first in the middle": lambda n, T, g: middle_first(uniform_steps(n, T, g)),
}

WRONG_NOISE = {
    "uniform of variance 1": from_uniform(lambda u: (2 * u - 1) * 3**0.5),
    "uniform about 0": from_uniform(lambda u: 2 * u - 1),
    "Laplace of variance 1": from_uniform(lambda u: (u - 0.5).sign() * -torch.log1p(-2 * (u - 0.5).abs()) / 2**0.5),
    "of two values": from_uniform(lambda u: (u - 0.5).sign()),
    "cut at 2.5": shaped(lambda e: e.clamp(-2.5, 2.5)),
    "cut at 3": shaped(lambda e: e.clamp(-3, 3)),
    "in steps of a half": shaped(lambda e: (2 * e).round() / 2),
    "absolute values": shaped(torch.abs),
    "of variance 0.9": shaped(lambda e: 0.9**0.5 * e),
    "shifted": shaped(lambda e: e + 0.1),
    "in double precision": shaped(torch.Tensor.double),
    "in half precision": shaped(torch.Tensor.half),
    "normalised by image": normalised(1, 2, 3),
    "normalised by channel": normalised(2, 3),
    "normalised by batch": normalised(),
    "normalised by pixel": normalised(0),
    "one number an image": shared(1, 2, 3),
    "one noise for all channels": shared(1),
    "rows": shared(3),
    "second half copied": copied(2),
    "last third copied": copied(3),
    "second half with the other sign": copied(2, -1),
    "first pixel clean": shaped(first_pixel_clean),
    "first image clean": shaped(first_image_clean),
    "some images stronger": shaped(some_images_stronger),
    "smoothed": shaped(lambda e: (e + e.roll(1, -1)) / 2**0.5),
    "towards the image": lambda x0, g: 0.9**0.5 * normal_noise(x0, g) + 0.5 * x0,
    "without the generator": lambda x0, g: torch.randn_like(x0),
    "every other call": keeping_noise(),
    "each twelve calls": keeping_noise(12),
    "offset": offset(0.1),
    "offset, of variance 1": offset(0.2, whole=True),
    "offset a little, of variance 1": offset(0.1, whole=True),
    "offset by image": offset(0.1, slice(1)),
    "offset by batch": offset(0.1, slice(0)),
    "blurred along rows": blurred(0.1, -1),
    "blurred along columns": blurred(0.1, -2),
    "rounded to two digits": shaped(lambda e: e.round(decimals=2)),
}


def v_angle(x0, noise, t, schedule):
    angle = torch.acos(schedule.alpha_bar_at(t, x0.double()).sqrt())
    return (angle.cos() * noise.double() - angle.sin() * x0.double()).to(x0.dtype)


def v_from_x_t(x0, noise, t, schedule):
    """v = (√ᾱ x_t − x0) / √(1 − ᾱ)."""
    x0, noise, dtype = x0.double(), noise.double(), x0.dtype
    a = schedule.alpha_bar_at(t, x0)
    x_t = a.sqrt() * x0 + (1 - a).sqrt() * noise
    return ((a.sqrt() * x_t - x0) / (1 - a).sqrt()).to(dtype)


def v_single_rates(x0, noise, t, schedule):
    """Rates rounded to single precision, whatever the images are."""
    signal_rate, noise_rate = (rate.float() for rate in schedule.rates(t, x0))
    return (signal_rate * noise - noise_rate * x0).to(x0.dtype)


def v_image_by_image(clean, /, e, steps, chain):
    left = chain.alpha_bar[steps]
    return torch.stack([a.sqrt() * z - (1 - a).sqrt() * x for a, z, x in zip(left, e, clean)]).to(clean.dtype)


def v_einsum(x0, noise, t, schedule):
    a = schedule.alpha_bar[t].to(x0.dtype)
    return torch.einsum("b,b...->b...", a.sqrt(), noise) - torch.einsum("b,b...->b...", (1 - a).sqrt(), x0)


def v_turned(x0, noise, t, schedule):
    """The pair (x0, ε) turned by the angle's matrix."""
    signal_rate, noise_rate = schedule.rates(t, x0)
    turn = torch.stack([-noise_rate, signal_rate])
    return (turn * torch.stack([x0, noise])).sum(0)


def v_flat_rates(x0, noise, t, schedule):
    """The rates lie along the rows of the last axes, not along the batch."""
    a = schedule.alpha_bar[t].to(x0.dtype)[:, None, None]
    return a.sqrt() * noise - (1 - a).sqrt() * x0


def v_of_mixed_channels(x0, noise, t, schedule):
    signal_rate, noise_rate = repeated_rates(schedule, t, x0)
    return signal_rate * noise - noise_rate * x0


def v_thousand_steps(x0, noise, t, schedule):
    fraction = (t.to(x0.dtype) / 1000)[:, None, None, None]
    return (1 - fraction).sqrt() * noise - fraction.sqrt() * x0


def v_detached(x0, noise, t, schedule):
    return right_v_target(x0.detach(), noise, t, schedule)


def v_in_place(x0, noise, t, schedule):
    signal_rate, noise_rate = schedule.rates(t, x0)
    return noise.mul_(signal_rate).sub_(noise_rate * x0)


def v_scaled_inputs(x0, noise, t, schedule):
    """Of unit length, which it has already."""
    v = right_v_target(x0, noise, t, schedule)
    return v / (v.std() + 1e-6)


def v_safe_rates(x0, noise, t, schedule):
    """A rate is kept from being 0, which harms nothing but the ends."""
    signal_rate, noise_rate = schedule.rates(t, x0)
    return signal_rate.clamp(min=0.02) * noise - noise_rate.clamp(min=0.02) * x0


def v_kept_rates():
    kept = {}

    def answer(x0, noise, t, schedule):
        form = x0.shape, x0.device
        kept.setdefault(form, schedule.rates(t, x0))
        return kept[form][0] * noise - kept[form][1] * x0

    return answer


def v_touching_the_schedule(x0, noise, t, schedule):
    rates = schedule.alpha_bar.sqrt_()
    signal_rate = rates[t].to(x0.dtype)[:, None, None, None]
    return signal_rate * noise - (1 - signal_rate**2).sqrt() * x0


def v_float64(x0, noise, t, schedule):
    a = schedule.alpha_bar[t].view(-1, *[1] * (x0.ndim - 1))
    return a.sqrt() * noise - (1 - a).sqrt() * x0.double()


def v_first_step(x0, noise, t, schedule):
    return right_v_target(x0, noise, t[:1].expand(len(t)), schedule)


def v_step_before(x0, noise, t, schedule):
    return right_v_target(x0, noise, t - 1, schedule)


def x0_by_dict(prediction_type, output, x_t, t, schedule):
    a = schedule.alpha_bar_at(t, x_t)
    signal, noise = a.sqrt(), (1 - a).sqrt()
    return {
        "x0": lambda: output,
        "noise": lambda: (x_t - noise * output) / signal,
        "v": lambda: torch.addcmul(signal * x_t, noise, output, value=-1),
    }[prediction_type]()


def x0_by_noise_of_v(prediction_type, output, x_t, t, schedule):
    """v first becomes the noise, and that the image: the long way round, in double precision."""
    if prediction_type == "x0":
        return output
    a, x = schedule.alpha_bar_at(t, x_t.double()), x_t.double()
    noise = output.double() if prediction_type == "noise" else a.sqrt() * output.double() + (1 - a).sqrt() * x
    return ((x - (1 - a).sqrt() * noise) / a.sqrt()).to(x_t.dtype)


def x0_in_match(prediction_type, output, /, x_t, t, schedule):
    signal_rate, noise_rate = schedule.rates(t, x_t)
    match prediction_type:
        case "noise":
            return x_t / signal_rate - output * (noise_rate / signal_rate)
        case "v":
            return signal_rate * x_t - noise_rate * output
    return output.clone()


def x0_image_by_image(prediction_type, output, x_t, t, schedule):
    def one(o, x, a):
        return {"x0": o, "noise": (x - (1 - a).sqrt() * o) / a.sqrt(), "v": a.sqrt() * x - (1 - a).sqrt() * o}

    rows = zip(output, x_t, schedule.alpha_bar[t])
    return torch.stack([one(*row)[prediction_type] for row in rows]).to(x_t.dtype)


def x0_single_rates(*, prediction_type, output, x_t, t, schedule):
    signal_rate, noise_rate = (rate.float() for rate in schedule.rates(t, x_t))
    if prediction_type == "x0":
        return output
    found = (
        signal_rate * x_t - noise_rate * output if prediction_type == "v" else (x_t - noise_rate * output) / signal_rate
    )
    return found.to(x_t.dtype)


def x0_with_epsilon(prediction_type, output, x_t, t, schedule):
    if prediction_type != "noise":
        return right_to_x0(prediction_type, output, x_t, t, schedule)
    signal_rate, noise_rate = schedule.rates(t, x_t)
    return (x_t - noise_rate * output) / (signal_rate + 1e-3)


def x0_detached(prediction_type, output, x_t, t, schedule):
    found = right_to_x0(prediction_type, output, x_t, t, schedule)
    return found.detach() if prediction_type == "x0" else found


def x0_in_place(prediction_type, output, x_t, t, schedule):
    if prediction_type != "noise":
        return right_to_x0(prediction_type, output, x_t, t, schedule)
    signal_rate, noise_rate = schedule.rates(t, x_t)
    return x_t.sub_(noise_rate * output).div_(signal_rate)


def x0_of_x_t(prediction_type, output, x_t, t, schedule):
    return x_t if prediction_type == "x0" else right_to_x0(prediction_type, output, x_t, t, schedule)


def x0_of_mixed_channels(kind):
    def answer(prediction_type, output, x_t, t, schedule):
        if prediction_type != kind:
            return right_to_x0(prediction_type, output, x_t, t, schedule)
        signal_rate, noise_rate = repeated_rates(schedule, t, x_t)
        return signal_rate * x_t - noise_rate * output if kind == "v" else (x_t - noise_rate * output) / signal_rate

    return answer


def x0_exchanged(prediction_type, output, x_t, t, schedule):
    return right_to_x0(prediction_type, x_t, output, t, schedule)


def x0_safe_division(prediction_type, output, x_t, t, schedule):
    if prediction_type != "noise":
        return right_to_x0(prediction_type, output, x_t, t, schedule)
    a = schedule.alpha_bar_at(t, x_t)
    return (x_t - (1 - a).sqrt() * output) / a.sqrt().clamp(min=0.1)


def min_snr_lines(schedule, prediction_type, t, gamma=5.0):
    snr = schedule.snr[t]
    weight = torch.minimum(snr, torch.full_like(snr, gamma))
    if prediction_type == "noise":
        return weight / snr
    return weight / (snr + 1) if prediction_type == "v" else weight


def min_snr_rates(schedule, prediction_type, t, gamma=5.0):
    """With the rates: for v, SNR + 1 is 1 / (1 − ᾱ)."""
    a = schedule.alpha_bar[t]
    weight = (a / (1 - a)).clamp(max=gamma)
    return weight * {"x0": torch.ones_like(a), "noise": (1 - a) / a, "v": 1 - a}[prediction_type]


def min_snr_in_a_list(chain, kind, /, steps, gamma=5):
    found = []
    for snr in chain.snr[steps].tolist():
        found.append(min(snr, gamma) / {"x0": 1, "noise": snr, "v": snr + 1}[kind])
    return torch.tensor(found, dtype=torch.float64)


def min_snr_table(schedule, prediction_type, t, *, gamma=5.0):
    """For all steps first; that of step 0 isn't asked for."""
    snr = schedule.snr[1:]
    capped = torch.clamp_max(snr, gamma)
    table = {"x0": capped, "noise": capped / snr, "v": capped / (1 + snr)}
    return table[prediction_type][t - 1]


class MinSnr:
    """A callable object."""

    def __call__(self, schedule, prediction_type, t, gamma=5.0):
        snr = schedule.snr.index_select(0, t)
        return torch.where(snr < gamma, snr, gamma) / {"x0": snr**0, "noise": snr, "v": 1 + snr}[prediction_type]


def min_snr_precedence(schedule, prediction_type, t, gamma=5.0):
    """w / snr + 1 for w / (snr + 1)."""
    snr = schedule.snr[t]
    weight = snr.clamp(max=gamma)
    return {"x0": weight, "noise": weight / snr, "v": weight / snr + 1}[prediction_type]


def min_snr_step_before(schedule, prediction_type, t, gamma=5.0):
    return library.min_snr(schedule, prediction_type, (t - 1).clamp(min=1), gamma)


def min_snr_fixed(kind):
    def answer(schedule, prediction_type, t, gamma=5.0):
        return library.min_snr(schedule, prediction_type, t, 5.0 if prediction_type == kind else gamma)

    return answer


def min_snr_never_small(schedule, prediction_type, t, gamma=5.0):
    return library.min_snr(schedule, prediction_type, t, gamma).clamp(min=1e-2)


def min_snr_unbounded(schedule, prediction_type, t, gamma=5.0):
    snr = schedule.snr[t]
    return snr / {"x0": 1, "noise": snr, "v": snr + 1}[prediction_type]


def min_snr_single(schedule, prediction_type, t, gamma=5.0):
    return library.min_snr(schedule, prediction_type, t, gamma).float()


def min_snr_of_the_batch(schedule, prediction_type, t, gamma=5.0):
    return library.min_snr(schedule, prediction_type, t, gamma).min().expand(len(t))


# ------------------------------------------------------------------------------------------------- the bound, by others
right_bound = right("training/bound-terms")


def bound_by_snr(denoise, schedule, x0, generator):
    """Differences of signal-to-noise ratios, no posterior."""

    def error(t):
        steps = torch.full((len(x0),), t)
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        return (denoise(schedule.add_noise(x0, steps, noise), steps) - x0).square().flatten(1).sum(1)

    snr, size, left = schedule.snr, x0[0].numel(), schedule.alpha_bar[-1]
    rows = [0.5 * (snr[t - 1] - snr[t]) * error(t) for t in range(2, schedule.T + 1)]
    prior = 0.5 * (left * x0.square().flatten(1).sum(1) + size * (-left - (1 - left).log()))
    decoder = 0.5 * (snr[1] * error(1) + size * (2 * math.pi / snr[1]).log())
    return prior, torch.stack(rows, dim=-1), decoder


def bound_by_distributions(denoise, schedule, x0, generator):
    def at(t):
        steps = torch.full((x0.shape[0],), t)
        x = schedule.add_noise(x0, steps, torch.randn(x0.shape, generator=generator, dtype=x0.dtype))
        return x, steps, denoise(x, steps)

    end = Normal(schedule.alpha_bar[-1].sqrt() * x0, (1 - schedule.alpha_bar[-1]).sqrt().expand_as(x0))
    first = kl_divergence(end, Normal(torch.zeros_like(x0), torch.ones_like(x0))).flatten(1).sum(1)
    middle = torch.zeros(len(x0), schedule.T - 1, dtype=x0.dtype)
    for t in range(2, schedule.T + 1):
        x, steps, guess = at(t)
        q, p = schedule.posterior(x0, x, steps), schedule.posterior(guess, x, steps)
        sigma = q.var.sqrt().expand_as(q.mean)
        middle[:, t - 2] = kl_divergence(Normal(q.mean, sigma), Normal(p.mean, sigma)).flatten(1).sum(1)
    *_, guess = at(1)
    spread = schedule.snr[1].rsqrt()
    return first, middle, -Normal(guess, spread).log_prob(x0).flatten(1).sum(1)


def bound_one_step_early(denoise, schedule, x0, generator):
    return right_bound(lambda x_t, t: denoise(x_t, (t - 1).clamp(min=1)), schedule, x0, generator)


def bound_turned_round(denoise, schedule, x0, generator):
    prior, steps, decoder = right_bound(denoise, schedule, x0, generator)
    return prior, steps.flip(1), decoder


def bound_without_the_second_step(denoise, schedule, x0, generator):
    prior, steps, decoder = right_bound(denoise, schedule, x0, generator)
    return prior, torch.cat([torch.zeros_like(steps[:, :1]), steps[:, 1:]], 1), decoder


# ------------------------------------------------------------------------------------------------------------- the loop
right_train = right("training/loop")


def train_while(model, loss, batch, optimizer, steps, generator):
    kept = []
    while len(kept) < steps:
        optimizer.zero_grad(set_to_none=False)
        value = loss(model, batch(generator), generator)
        value.backward()
        optimizer.step()
        kept.append(float(value))
    return kept


def train_clearing_afterwards(net, objective, /, next_batch, opt, count, rng):
    def one():
        value = objective(net, next_batch(rng), rng)
        value.backward()
        opt.step()
        opt.zero_grad()
        return value.detach().item()

    return [one() for _ in range(count)]


def train_by_iterator(*, model, loss, batch, optimizer, steps, generator):
    losses = []
    for _, x in zip(range(steps), iter(lambda: batch(generator), None)):
        optimizer.zero_grad()
        (value := loss(model, x, generator)).backward()
        optimizer.step()
        losses += [value.item()]
    return losses


def train_with_closure(model, loss, batch, optimizer, steps, generator):
    losses = []
    for _ in range(steps):
        x = batch(generator)
        optimizer.zero_grad()
        value = loss(model, x, generator)
        value.backward()
        optimizer.step(lambda value=value: value)
        losses.append(value.item())
    return losses


def train_drawing_too_much(model, loss, batch, optimizer, steps, generator):
    x, losses = batch(generator), []
    for _ in range(steps):
        losses += right_train(model, loss, lambda _, x=x: x, optimizer, 1, generator)
        x = batch(generator)
    return losses


def train_giving_the_mean(model, loss, batch, optimizer, steps, generator):
    losses = right_train(model, loss, batch, optimizer, steps, generator)
    return [sum(losses) / len(losses)] * len(losses)


def train_giving_the_last(model, loss, batch, optimizer, steps, generator):
    return right_train(model, loss, batch, optimizer, steps, generator)[-1]


def train_one_more(model, loss, batch, optimizer, steps, generator):
    return right_train(model, loss, batch, optimizer, steps + 1, generator)


def train_with_own_chance(model, loss, batch, optimizer, steps, generator):
    own = torch.Generator().manual_seed(0)
    return right_train(model, lambda m, x, g: loss(m, x, own), batch, optimizer, steps, generator)


def train_loss_after(model, loss, batch, optimizer, steps, generator):
    """Notes the loss after the step, on the same batch."""
    losses = []
    for _ in range(steps):
        x, state = batch(generator), generator.get_state()
        value = loss(model, x, generator)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        later = torch.Generator().set_state(state)
        losses.append(loss(model, x, later).item())
    return losses


# ---------------------------------------------------------------------------------------------------------- the average
right_average = right("training/ema")


class AverageByLerp:
    def __init__(self, model, decay=0.995):
        self.decay = decay
        self.updates = 0
        self.model = copy.deepcopy(model)
        self.model.eval()
        for weight in self.model.parameters():
            weight.requires_grad = False

    def update(self, model):
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - d)
        for mine, theirs in zip(self.model.buffers(), model.buffers()):
            mine.data.copy_(theirs)
        self.updates = self.updates + 1


class AverageByName:
    """Through state_dict, names and all."""

    def __init__(self, model, decay=0.995):
        self.network, self.keep, self.n = copy.deepcopy(model).requires_grad_(False).eval(), decay, 0

    @property
    def model(self):
        return self.network

    @property
    def updates(self):
        return self.n

    def update(self, model):
        d, weights = min(self.keep, (1 + self.n) / (10 + self.n)), dict(self.network.named_parameters())
        state = model.state_dict()
        mixed = {k: d * weights[k] + (1 - d) * v if k in weights else v for k, v in state.items()}
        self.network.load_state_dict(mixed)
        self.n += 1


class AverageOfCopies:
    """A new tensor in each weight's place."""

    def __init__(self, net, decay=0.995):
        self.model, self.decay, self.updates = copy.deepcopy(net).eval(), decay, 0
        self.model.requires_grad_(False)

    def update(self, net):
        d = min(self.decay, (self.updates + 1) / (self.updates + 10))
        for mine, theirs in zip(self.model.parameters(), net.parameters()):
            mine.data = mine.data * d + theirs.detach() * (1 - d)
        for (_, mine), (_, theirs) in zip(self.model.named_buffers(), net.named_buffers()):
            mine.copy_(theirs.detach())
        self.updates += 1


class AverageLarger(right_average):
    @torch.no_grad()
    def update(self, model):
        d = max(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, new in zip(self.model.parameters(), model.parameters()):
            mine.mul_(d).add_(new, alpha=1 - d)
        for mine, new in zip(self.model.buffers(), model.buffers()):
            mine.copy_(new)
        self.updates += 1


class AverageOfAll(right_average):
    """A plain mean."""

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        for mine, new in zip(self.model.parameters(), model.parameters()):
            mine.add_(new - mine, alpha=1 / self.updates)
        for mine, new in zip(self.model.buffers(), model.buffers()):
            mine.copy_(new)


class AverageWithGradients(right_average):
    def __init__(self, model, decay=0.995):
        super().__init__(model, decay)
        self.model.requires_grad_(True)


class AverageInTraining(right_average):
    def __init__(self, model, decay=0.995):
        super().__init__(model, decay)
        self.model.train()


class AverageOfBuffers(right_average):
    """Averages the statistics as well."""

    @torch.no_grad()
    def update(self, model):
        before = [buffer.clone() for buffer in self.model.buffers()]
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        super().update(model)
        for mine, old in zip(self.model.buffers(), before):
            if mine.is_floating_point():
                mine.copy_(d * old + (1 - d) * mine)


class AverageBackIntoTheModel(right_average):
    def update(self, model):
        super().update(model)
        model.load_state_dict(self.model.state_dict())


class AverageOfTheFirst(right_average):
    """Only the first weight."""

    def update(self, model):
        before = [weight.clone() for weight in self.model.parameters()]
        super().update(model)
        for mine, old in list(zip(self.model.parameters(), before))[1:]:
            mine.copy_(old)


# -------------------------------------------------------------------------------------------------- the learning rate
right_rate = right("training/rate")


def rate_by_cases(step, steps, warmup=0):
    if step < warmup:
        return (step + 1) / warmup
    if step < steps / 2:
        return 1.0
    return 2.0 * (steps - step) / steps


def rate_smaller_of_both(k, /, K, W=0):
    return min(1.0, (k + 1) / max(W, 1), 2 - 2 * k / K)


def rate_by_torch(*, step, steps, warmup=0):
    climb = torch.tensor((step + 1) / warmup if warmup else 1.0, dtype=torch.float64).clamp(max=1)
    return (climb * torch.tensor(2 * (1 - step / steps), dtype=torch.float64).clamp(max=1)).item()


# ------------------------------------------------------------------------------------------------ one step from several
right_update = right("training/accumulate")


def update_by_clip_grad_norm(model, loss, parts, optimizer, generator, clip=None):
    optimizer.zero_grad(set_to_none=True)
    n, total = sum(map(len, parts)), 0
    for part in parts:
        share = len(part) / n
        value = share * loss(model, part, generator)
        value.backward()
        total += float(value)
    length = nn.utils.clip_grad_norm_(model.parameters(), float("inf") if clip is None else clip)
    optimizer.step()
    return total, float(length)


def update_dividing_afterwards(net, objective, /, pieces, opt, rng, limit=None):
    """Sums over images, divided in the end."""
    for weight in net.parameters():
        weight.grad = None
    sums, count = [], 0
    for piece in pieces:
        value = objective(net, piece, rng) * piece.shape[0]
        value.backward()
        sums.append(value.item())
        count += piece.shape[0]
    square = 0.0
    for weight in net.parameters():
        if weight.grad is not None:
            weight.grad /= count
            square += weight.grad.pow(2).sum().item()
    length = square**0.5
    if limit is not None and length > limit:
        for weight in net.parameters():
            if weight.grad is not None:
                weight.grad *= limit / length
    opt.step()
    return sum(sums) / count, length


def update_with_one_graph(*, model, loss, parts, optimizer, generator, clip=None):
    sizes = torch.tensor([float(len(x)) for x in parts])
    values = torch.stack([loss(model, x, generator) for x in parts])
    value = (values * sizes / sizes.sum()).sum()
    optimizer.zero_grad()
    value.backward()
    flat = torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])
    factor = 1.0 if clip is None else min(1.0, clip / flat.norm().item())
    for w in model.parameters():
        if w.grad is not None:
            w.grad.mul_(factor)
    optimizer.step()
    return value.item(), flat.norm().item()


def update_always_scaling(model, loss, parts, optimizer, generator, clip=None):
    step = optimizer.step

    def stretched():
        if clip is not None:
            gradients = [w.grad for w in model.parameters() if w.grad is not None]
            length = torch.stack([g.norm() for g in gradients]).norm()
            for g in gradients:
                g.mul_(clip / length)
        step()

    optimizer.step = stretched
    try:
        return right_update(model, loss, parts, optimizer, generator, clip)
    finally:
        optimizer.step = step


def update_clamping_numbers(model, loss, parts, optimizer, generator, clip=None):
    step = optimizer.step

    def clamped():
        for w in model.parameters():
            if w.grad is not None and clip is not None:
                w.grad.clamp_(-clip, clip)
        step()

    optimizer.step = clamped
    try:
        return right_update(model, loss, parts, optimizer, generator, None)
    finally:
        optimizer.step = step


def update_last_loss(model, loss, parts, optimizer, generator, clip=None):
    state = generator.get_state()
    for x in parts:
        last_value = loss(copy.deepcopy(model), x, generator).item()
    generator.set_state(state)
    _, length = right_update(model, loss, parts, optimizer, generator, clip)
    return last_value, length


def update_clearing_each(model, loss, parts, optimizer, generator, clip=None):
    """Only the last part's gradient is left."""
    total, count = 0.0, sum(map(len, parts))
    for x in parts:
        optimizer.zero_grad()
        value = loss(model, x, generator) * (len(x) / count)
        value.backward()
        total += value.item()
    length = nn.utils.clip_grad_norm_(model.parameters(), float("inf") if clip is None else clip)
    optimizer.step()
    return total, length.item()


def update_by_first_size(model, loss, parts, optimizer, generator, clip=None):
    """As if all parts were as large as the first."""

    def weighted(m, x, g):
        count = sum(map(len, parts))
        return loss(m, x, g) * (len(parts[0]) / len(x)) * count / (len(parts[0]) * len(parts))

    return right_update(model, weighted, parts, optimizer, generator, clip)


def update_length_of_lengths(model, loss, parts, optimizer, generator, clip=None):
    total, _ = right_update(model, loss, parts, optimizer, generator, clip)
    return total, sum(w.grad.norm().item() for w in model.parameters() if w.grad is not None)


# ------------------------------------------------------------------------------------------------------ the whole loop
right_run = right("training/run")


class RunWithOwnNames:
    """Other attributes, a while loop, the rates set through zip of dictionaries, the average by another class."""

    def __init__(self, model, loss, batch, optimizer, generator, rate, decay=0.995, clip=None, parts=1):
        self.net, self.objective, self.next, self.opt, self.rng = model, loss, batch, optimizer, generator
        self.schedule, self.limit, self.pieces = rate, clip, parts
        self.rates = {id(group): group["lr"] for group in optimizer.param_groups}
        self.average = AverageByName(model, decay)
        self.losses = []

    @property
    def step(self):
        return len(self.losses)

    def go_on(self, until):
        self.net.train(True)
        while self.step < until:
            for group in self.opt.param_groups:
                group.update(lr=self.rates[id(group)] * self.schedule(self.step))
            parts = list(torch.chunk(self.next(self.rng), self.pieces))
            value, _ = update_by_clip_grad_norm(self.net, self.objective, parts, self.opt, self.rng, self.limit)
            self.average.update(self.net)
            self.losses.append(value)


class RunInOneStep(right_run):
    """A method for one step, and the factors put back afterwards."""

    def one(self):
        rates = [group["lr"] for group in self.optimizer.param_groups]
        super().go_on(self.step + 1)
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate

    def go_on(self, until):
        for _ in range(until - self.step):
            self.one()


class RunConstant(right_run):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.rate = lambda k: 1.0


class RunNextRate(right_run):
    """The rate of the step after."""

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        rate = self.rate
        self.rate = lambda k: rate(k + 1)


class RunNotClipped(right_run):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.clip = None


class RunNotParted(right_run):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.parts = 1


class RunNotAveraged(right_run):
    def go_on(self, until):
        update, self.average.update = self.average.update, lambda model: None
        super().go_on(until)
        self.average.update = update


class RunOtherDecay(right_run):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.average.decay = 0.995


class RunNotCounted(right_run):
    def go_on(self, until):
        made = self.step
        super().go_on(until)
        self.step = made


class RunForgettingLosses(right_run):
    def go_on(self, until):
        self.losses = []
        super().go_on(until)


# -------------------------------------------------------------------------------------------------- pulling the plug
right_safe = right("training/resume")


class SafeInAList(right_run):
    """A list instead of a dictionary, through an open file."""

    def parts_with_state(self):
        return [self.model, self.average.model, self.optimizer]

    def save(self, path):
        states = [part.state_dict() for part in self.parts_with_state()]
        rest = [self.generator.get_state(), self.step, self.average.updates, list(self.losses)]
        with open(path, "wb") as file:
            torch.save(states + rest, file)

    def resume(self, path):
        with open(path, "rb") as file:
            *states, random, self.step, self.average.updates, self.losses = torch.load(file)
        for part, state in zip(self.parts_with_state(), states):
            part.load_state_dict(state)
        self.generator.set_state(random)


class SafeByWeights(right_run):
    """Weights one by one, the random state as a list of bytes, the step from the losses."""

    def save(self, path):
        torch.save(
            {
                "weights": [w.detach() for w in self.model.parameters()],
                "average": [w.detach() for w in self.average.model.parameters()],
                "n": self.average.updates,
                "opt": self.optimizer.state_dict(),
                "random": self.generator.get_state().tolist(),
                "losses": self.losses,
            },
            path,
        )

    def resume(self, path):
        found = torch.load(path, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for network, name in ((self.model, "weights"), (self.average.model, "average")):
                for mine, theirs in zip(network.parameters(), found[name]):
                    mine.copy_(theirs)
        self.average.updates = found["n"]
        self.optimizer.load_state_dict(found["opt"])
        self.generator.set_state(torch.tensor(found["random"], dtype=torch.uint8))
        self.losses = found["losses"]
        self.step = len(self.losses)


class SafeOnItsOwn(RunWithOwnNames):
    """From a loop of one's own."""

    def save(self, path):
        torch.save([self.net.state_dict(), self.average.network.state_dict(), self.average.n, self.opt.state_dict(),
                    self.rng.get_state(), self.losses], path)  # fmt: skip

    def resume(self, path):
        net, average, self.average.n, opt, random, self.losses = torch.load(path)
        self.net.load_state_dict(net)
        self.average.network.load_state_dict(average)
        self.opt.load_state_dict(opt)
        self.rates = dict(zip([id(group) for group in self.opt.param_groups], self.rates.values()))
        self.rng.set_state(random)


class SafeInMemory(right_run):
    """Nothing is written; what is remembered goes on changing."""

    remembered = {}

    def save(self, path):
        torch.save("saved", path)
        self.remembered[str(path)] = self

    def resume(self, path):
        other = self.remembered[str(path)]
        self.model.load_state_dict(other.model.state_dict())
        self.average.model.load_state_dict(other.average.model.state_dict())
        self.optimizer.load_state_dict(other.optimizer.state_dict())
        self.generator.set_state(other.generator.get_state())
        self.average.updates, self.step, self.losses = other.average.updates, other.step, list(other.losses)


class SafeReseeded(right_safe):
    """The generator begins anew, with a seed that is always the same."""

    def resume(self, path):
        super().resume(path)
        self.generator.manual_seed(0)


class SafeRounded(right_safe):
    """Weights in half precision, to save room."""

    def save(self, path):
        super().save(path)
        content = torch.load(path)
        content["model"] = {k: v.half() if v.is_floating_point() else v for k, v in content["model"].items()}
        torch.save(content, path)


class SafeAverageForModel(right_safe):
    """Goes on from the averaged weights."""

    def resume(self, path):
        super().resume(path)
        self.model.load_state_dict(self.average.model.state_dict())


class SafeModelForAverage(right_safe):
    def resume(self, path):
        super().resume(path)
        self.average.model.load_state_dict(self.model.state_dict())


class SafeOneStepLate(right_safe):
    def resume(self, path):
        super().resume(path)
        self.step += 1


class SafeOnlyOnce(right_safe):
    """The first file stays; later ones are not written."""

    def save(self, path):
        if not os.path.exists(path):
            super().save(path)


class SafeRateShrinks(right_safe):
    """The rates of the file are taken for the first ones."""

    def resume(self, path):
        super().resume(path)
        self.first_rates = [group["lr"] for group in self.optimizer.param_groups]


# ---------------------------------------------------------------------------------------------------------------- Muon
right_orthogonal = right("training/orthogonal")


def orthogonal_on_the_small_side(gradient, rounds=20):
    if gradient.shape[0] > gradient.shape[1]:
        return orthogonal_on_the_small_side(gradient.T, rounds).T
    x = gradient / gradient.square().sum().sqrt()
    for _ in range(rounds):
        x = (1.5 * torch.eye(len(x), dtype=x.dtype, device=x.device) - 0.5 * x @ x.T) @ x
    return x


def orthogonal_by_einsum(g, n=20):
    x = g / torch.linalg.matrix_norm(g)
    for _ in range(n):
        x = (3 * x - torch.einsum("ij,kj,kl->il", x, x, x)) / 2
    return x


def orthogonal_by_svd(gradient, rounds=20):
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    return u @ v


def orthogonal_in_place(gradient, rounds=20):
    gradient /= gradient.norm()
    return right_orthogonal(gradient, rounds)


def orthogonal_rows(gradient, rounds=20):
    x = gradient / gradient.norm(dim=1, keepdim=True)
    for _ in range(rounds):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


def orthogonal_plus(gradient, rounds=20):
    x = gradient / gradient.norm()
    for _ in range(rounds):
        x = 0.5 * x + 0.5 * x @ x.T @ x
    return x


def orthogonal_always_twenty(gradient, rounds=20):
    return right_orthogonal(gradient)


MUTANTS = {
    "training/equal-variance-kl": {
        "over the batch": lambda *given: variational.kl_same_variance(*given).mean(),
        "pixel by pixel": lambda q, p, v: (q - p).square() / (2 * v),
        "an axis kept": lambda *given: variational.kl_same_variance(*given)[:, None],
        "sum squared": lambda q, p, v: ((q - p) / (2 * v).sqrt()).flatten(1).sum(1).square(),
        "no gradient": kl_no_gradient,
        "sign": lambda *given: -variational.kl_same_variance(*given),
        "half the gradient": kl_half_gradient,
        "one channel": kl_first_channel,
        "on the CPU": kl_on_the_cpu,
        "in place": kl_in_place,
        "variances kept": kl_kept(),
        "first σ for all": lambda q, p, v: variational.kl_same_variance(q, p, v[:1]),
        "divided with care": lambda q, p, v: variational.kl_same_variance(q, p, v + 1e-3),
        "batch and channels mixed": kl_of_mixed_channels,
        "no variance below 0.01": lambda q, p, v: variational.kl_same_variance(q, p, v.clamp(min=1e-2)),
        "square of a root": kl_of_a_root,
        "never above 100": lambda *given: variational.kl_same_variance(*given).clamp(max=100),
        "in double precision": lambda q, p, v: variational.kl_same_variance(q.double(), p.double(), v.double()),
    },
    "training/bound-weight": {
        "of the first schedule as long": of_the_first_as_long(right("training/bound-weight")),
        "zero at 1": weight_zero_at_one,
        "one step late": weight_next_step,
        "difference of logarithms": lambda s, t: torch.where(t == 1, 0.5, 0.5 * (s.log_snr[t - 1] - s.log_snr[t])),
        "in float32": lambda s, t: variational.bound_weight(s, t).float(),
        "½ twice": weight_next_to_one,
        "clamped ratios": weight_clamped,
        "bounded": weight_bounded,
        "schedule touched": weight_touching_the_schedule,
        "first step for all": weight_of_the_first_step,
        "½ at the wrong end": weight_from_the_end,
        "a column": lambda s, t: variational.bound_weight(s, t)[:, None],
    },
    "training/algorithm-1": {
        "of the first schedule as long": of_the_first_as_long(right("training/algorithm-1")),
        "detached": loss_detached,
        "noise of its own": loss_own_noise,
        "L1": loss_l1,
        "v": loss_of_v,
        "network under no_grad": loss_no_grad_network,
        "square of the mean": loss_signed,
        "one number an image": loss_not_reduced,
        "in place": loss_in_place,
        "a number": lambda *given: loss_mse(*given).item(),
        "backward": loss_backward,
        "backward, graph retained": loss_backward_retained,
        "gradients zeroed": loss_zeroing,
        "left in eval mode": loss_in_eval_mode,
        "first layer frozen": loss_frozen_first_layer,
        "a step of descent": loss_step_of_descent,
        "recording off": loss_recording_off,
        "noise eaten": loss_noise_eaten,
        "fraction of steps": loss_fraction_of_steps,
        "Huber": loss_huber,
        "first image": loss_of_the_first,
        "784 pixels": loss_per_28_pixels,
        "half": lambda *given: loss_mse(*given) / 2,
        "on the CPU": loss_on_the_cpu,
        "noised image kept": loss_kept(),
    },
    "training/restless": {
        "repeated": draw_once_repeated,
        "fractions": draw_fractions,
        "noise returned is another": draw_other_noise,
        "seeded anew": draw_reseeded,
        "another order": draw_in_another_order,
        "in place": draw_in_place,
        "the step before": draw_the_step_before,
        "a variance for a standard deviation": draw_with_variance,
        "steps as a column": draw_steps_as_a_column,
        "steps as a list": draw_with_numbers,
        "scaled twice": draw_stronger_later,
        "a dictionary": draw_a_dictionary,
        "kept for each shape": keeping(right_one_step),
        "chance of its own": own_chance(),
        "steps counted from call to call": drawing(steps=counting()),
        "on the CPU": drawing(moved=False),
        **{f"steps {name}": drawing(steps=way) for name, way in WRONG_STEPS.items()},
        **{f"noise {name}": drawing(noise=way) for name, way in WRONG_NOISE.items()},
    },
    "training/easy-loss": {
        "of the first schedule as long": of_the_first_as_long(right("training/easy-loss")),
        "both moved": loss_of_the_difference,
        "scaled noise": slip("training/algorithm-1", "scaled noise as the target"),
        "clean input": slip("training/algorithm-1", "fed with the clean image"),
        "summed": slip("training/algorithm-1", "summed over pixels"),
        "in place": loss_in_place,
        "backward": loss_backward,
        "backward, graph retained": loss_backward_retained,
        "noise eaten": loss_noise_eaten,
        "L1": loss_l1,
        "noised image kept": loss_kept(),
    },
    "training/v-target": {
        "of the first schedule as long": of_the_first_as_long(right("training/v-target")),
        "first step for all": v_first_step,
        "step before": v_step_before,
        "in double precision": v_float64,
        "rates along rows": v_flat_rates,
        "batch and channels mixed": v_of_mixed_channels,
        "a thousand steps": v_thousand_steps,
        "detached": v_detached,
        "in place": v_in_place,
        "of unit length": v_scaled_inputs,
        "safe rates": v_safe_rates,
        "rates kept": v_kept_rates(),
        "schedule touched": v_touching_the_schedule,
    },
    "training/to-x0": {
        "of the first schedule as long": of_the_first_as_long(right("training/to-x0")),
        "division made safe": x0_safe_division,
        "step before": lambda k, o, x, t, s: right_to_x0(k, o, x, (t - 1).clamp(min=1), s),
        "an ε in the division": x0_with_epsilon,
        "detached": x0_detached,
        "in place": x0_in_place,
        "x_t for x0": x0_of_x_t,
        "batch and channels mixed for v": x0_of_mixed_channels("v"),
        "batch and channels mixed for noise": x0_of_mixed_channels("noise"),
        "exchanged": x0_exchanged,
    },
    "training/min-snr": {
        "of the first schedule as long": of_the_first_as_long(right("training/min-snr")),
        "of ᾱ": lambda s, k, t, gamma=5.0: s.alpha_bar[t].clamp(max=gamma),
        "clipped after dividing": lambda s, k, t, gamma=5.0: (s.snr[t] / (s.snr[t] + 1)).clamp(max=gamma),
        "precedence": min_snr_precedence,
        "step before": min_snr_step_before,
        "never small": min_snr_never_small,
        **{f"γ fixed for {kind}": min_snr_fixed(kind) for kind in ("noise", "x0", "v")},
        "unbounded": min_snr_unbounded,
        "in single precision": min_snr_single,
        "one for the batch": min_snr_of_the_batch,
    },
    "training/bound-terms": {
        "a step early": bound_one_step_early,
        "turned round": bound_turned_round,
        "without t = 2": bound_without_the_second_step,
    },
    "training/loop": {
        "one batch too many": train_drawing_too_much,
        "the mean loss": train_giving_the_mean,
        "the last loss only": train_giving_the_last,
        "one step too many": train_one_more,
        "chance of its own": train_with_own_chance,
        "the loss after the step": train_loss_after,
    },
    "training/ema": {
        "the larger one": AverageLarger,
        "a plain mean": AverageOfAll,
        "with gradients": AverageWithGradients,
        "in training mode": AverageInTraining,
        "buffers averaged": AverageOfBuffers,
        "back into the model": AverageBackIntoTheModel,
        "one weight only": AverageOfTheFirst,
    },
    "training/rate": {
        "never climbs": lambda step, steps, warmup=0: right_rate(step, steps),
        "never falls": lambda step, steps, warmup=0: min(1.0, (step + 1) / warmup) if warmup else 1.0,
        "falls to a half": lambda step, steps, warmup=0: right_rate(step, 2 * steps, warmup),
        "one step longer": lambda step, steps, warmup=0: right_rate(step, steps, warmup + 1 if warmup else 0),
        "in per cent": lambda step, steps, warmup=0: 100 * right_rate(step, steps, warmup),
    },
    "training/accumulate": {
        "always scaled": update_always_scaling,
        "numbers clamped": update_clamping_numbers,
        "the last part's loss": update_last_loss,
        "cleared for each part": update_clearing_each,
        "all as large as the first": update_by_first_size,
        "lengths added up": update_length_of_lengths,
        "loss only": lambda *given: right_update(*given)[0],
    },
    "training/run": {
        "a constant rate": RunConstant,
        "the next step's rate": RunNextRate,
        "not clipped": RunNotClipped,
        "not in parts": RunNotParted,
        "not averaged": RunNotAveraged,
        "another decay": RunOtherDecay,
        "steps not counted": RunNotCounted,
        "losses of the last call only": RunForgettingLosses,
    },
    "training/resume": {
        "in memory": SafeInMemory,
        "seeded anew": SafeReseeded,
        "in half precision": SafeRounded,
        "goes on from the average": SafeAverageForModel,
        "the average begins anew": SafeModelForAverage,
        "a step late": SafeOneStepLate,
        "saved once": SafeOnlyOnce,
        "the rates shrink": SafeRateShrinks,
    },
    "training/orthogonal": {
        "by a decomposition": orthogonal_by_svd,
        "in place": orthogonal_in_place,
        "rows of length 1": orthogonal_rows,
        "a plus": orthogonal_plus,
        "always twenty": orthogonal_always_twenty,
    },
}

ALTERNATIVES = {
    "training/equal-variance-kl": {
        "torch.distributions": kl_distributions,
        "image by image": kl_rows,
        "einsum": kl_einsum,
        "squares apart": kl_by_quadratics,
        "a norm": kl_norm,
        "pixel by pixel": kl_pixel_loop,
        "an object": Divergence(),
    },
    "training/bound-weight": {
        "betas": weight_of_betas,
        "logarithms": weight_by_logs,
        "assigned": weight_in_place,
        "a list": weight_in_a_list,
        "all steps first": weight_of_all,
        "shares": weight_of_shares,
        "an object": Weight(),
    },
    "training/algorithm-1": {
        "mse_loss": loss_mse,
        "by hand with einops": loss_by_hand,
        "image by image": loss_image_by_image,
        "by position and by name": loss_by_position_and_name,
        "einsum": loss_einsum,
        "mean of means": loss_mean_of_means,
        "an object": Loss(),
        "half prepared": functools.partial(loss_mse),
    },
    "training/restless": {
        "floats": draw_by_floats,
        "noise first": draw_noise_first,
        "stratified": draw_stratified,
        "strata, shuffled": draw_strata_shuffled,
        "one start, equal distances": draw_from_one_start,
        "where the generator is": draw_where_the_generator_is,
        "one image at a time": draw_in_a_list,
        "antithetic": draw_antithetic,
        "without return": draw_without_return,
        "by hand": draw_by_hand,
        "an object": Drawing(),
        "half prepared": functools.partial(lambda half, *given: right_one_step(*given), None),
    },
    "training/easy-loss": {
        "mse_loss": loss_mse,
        "image by image": loss_image_by_image,
        "by position and by name": loss_by_position_and_name,
        "mean of means": loss_mean_of_means,
    },
    "training/v-target": {
        "an angle": v_angle,
        "from x_t": v_from_x_t,
        "single rates": v_single_rates,
        "image by image": v_image_by_image,
        "einsum": v_einsum,
        "turned": v_turned,
    },
    "training/to-x0": {
        "a dictionary": x0_by_dict,
        "v through the noise": x0_by_noise_of_v,
        "match": x0_in_match,
        "image by image": x0_image_by_image,
        "single rates": x0_single_rates,
    },
    "training/min-snr": {
        "line by line": min_snr_lines,
        "with rates": min_snr_rates,
        "a list": min_snr_in_a_list,
        "a table": min_snr_table,
        "an object": MinSnr(),
    },
    "training/bound-terms": {"by signal-to-noise": bound_by_snr, "torch.distributions": bound_by_distributions},
    "training/loop": {
        "while": train_while,
        "cleared afterwards": train_clearing_afterwards,
        "an iterator": train_by_iterator,
        "a closure": train_with_closure,
    },
    "training/ema": {"lerp": AverageByLerp, "by name": AverageByName, "new tensors": AverageOfCopies},
    "training/rate": {"by cases": rate_by_cases, "the smallest": rate_smaller_of_both, "torch": rate_by_torch},
    "training/accumulate": {
        "clip_grad_norm_": update_by_clip_grad_norm,
        "divided afterwards": update_dividing_afterwards,
        "one graph": update_with_one_graph,
    },
    "training/run": {"own names": RunWithOwnNames, "step by step": RunInOneStep},
    "training/resume": {"a list": SafeInAList, "weights one by one": SafeByWeights, "a loop of its own": SafeOnItsOwn},
    "training/orthogonal": {"on the small side": orthogonal_on_the_small_side, "einsum": orthogonal_by_einsum},
}
