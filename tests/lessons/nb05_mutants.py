"""Wrong answers to the quizzes of notebook 05 that must be rejected, and other right ones that must be accepted."""

import contextlib
import copy
import functools

import torch
from einops import rearrange
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from course_utils import diffusion as library
from course_utils import variational
from course_utils.sampling import clipped, ddim, last
from lessons.answers import right, slip, with_first_schedule

right_to_x0 = right("training/to-x0")
right_to_noise = right("training/to-noise")
right_ema = right("training/ema")
right_mode = right("training/mode")
right_one_step = right("training/one-step")
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


def noise_by_v(x0, x_t, t, schedule):
    a = schedule.alpha_bar_at(t, x0)
    return x_t / (1 - a).sqrt() - x0 * (a / (1 - a)).sqrt()


def noise_as_a_score(x0, x_t, /, t, schedule):
    """ε is minus the score times its rate."""
    signal_rate, noise_rate = schedule.rates(t, x_t)
    score = (signal_rate * x0 - x_t) / noise_rate**2
    return -score * noise_rate


def noise_image_by_image(*, x0, x_t, t, schedule):
    rows = zip(x0, x_t, schedule.alpha_bar[t])
    return torch.stack([(x - a.sqrt() * clean) / (1 - a).sqrt() for clean, x, a in rows]).to(x0.dtype)


def noise_single_rates(x0, x_t, t, schedule):
    signal_rate, noise_rate = (rate.float() for rate in schedule.rates(t, x0))
    return torch.div(torch.addcmul(x_t, signal_rate, x0, value=-1), noise_rate).to(x0.dtype)


def noise_step_before(x0, x_t, t, schedule):
    return right_to_noise(x0, x_t, (t - 1).clamp(min=1), schedule)


def noise_with_epsilon(x0, x_t, t, schedule):
    signal_rate, noise_rate = schedule.rates(t, x0)
    return (x_t - signal_rate * x0) / (noise_rate + 1e-3)


def noise_safe_division(x0, x_t, t, schedule):
    signal_rate, noise_rate = schedule.rates(t, x0)
    return (x_t - signal_rate * x0) / noise_rate.clamp(min=0.1)


def noise_of_mixed_channels(x0, x_t, t, schedule):
    signal_rate, noise_rate = repeated_rates(schedule, t, x0)
    return (x_t - signal_rate * x0) / noise_rate


def noise_exchanged(x0, x_t, t, schedule):
    return right_to_noise(x_t, x0, t, schedule)


def noise_detached(x0, x_t, t, schedule):
    return right_to_noise(x0.detach(), x_t, t, schedule)


def noise_in_place(x0, x_t, t, schedule):
    signal_rate, noise_rate = schedule.rates(t, x0)
    return x_t.sub_(signal_rate * x0).div_(noise_rate)


def noise_bounded(x0, x_t, t, schedule):
    return right_to_noise(x0, x_t, t, schedule).clamp(-5, 5)


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


def ema_lerp(average, weights, updates, decay):
    d = min(decay, (1 + updates) / (10 + updates))
    return [torch.lerp(w, a, d) for a, w in zip(average, weights)]


def ema_moved(average, weights, updates, decay):
    d = min((updates + 1) / (updates + 10), decay)
    return [a + (1 - d) * (w - a) for a, w in zip(average, weights)]


def ema_tensor_of_decay(average, weights, /, n, decay):
    d = torch.tensor(min(decay, (1 + n) / (10 + n)))
    return [d * a + (1 - d) * w for a, w in zip(average, weights)]


def ema_copies(*, average, weights, updates, decay):
    d = min(decay, (1 + updates) / (10 + updates))
    kept = copy.deepcopy(average)
    for mine, theirs in zip(kept, weights):
        mine.mul_(d).add_(theirs, alpha=1 - d)
    return kept


def ema_foreach(average, weights, updates, decay):
    share = 1 - min(decay, (1 + updates) / (10 + updates))
    return list(torch._foreach_lerp(average, weights, share))


class Average:
    """A callable object."""

    def __call__(self, average, weights, updates, decay):
        d = sorted([decay, (1 + updates) / (10 + updates)])[0]
        return list(map(lambda a, w: a * d + w * (1 - d), average, weights))


def ema_generator(average, weights, updates, decay):
    d = min(decay, (1 + updates) / (10 + updates))
    return (d * a + (1 - d) * w for a, w in zip(average, weights))


def ema_whole_numbers(average, weights, updates, decay):
    d = min(decay, (1 + updates) // (10 + updates))
    return [d * a + (1 - d) * w for a, w in zip(average, weights)]


def ema_first_only(average, weights, updates, decay):
    return [*right_ema(average[:1], weights[:1], updates, decay), *average[1:]]


def ema_weights_in_place(average, weights, updates, decay):
    d = min(decay, (1 + updates) / (10 + updates))
    return [w.mul_(1 - d).add_(d * a) for a, w in zip(average, weights)]


def ema_list_in_place(average, weights, updates, decay):
    average[:] = right_ema(average, weights, updates, decay)
    return average


def ema_product(average, weights, updates, decay):
    d = decay * (1 + updates) / (10 + updates)
    return [d * a + (1 - d) * w for a, w in zip(average, weights)]


def ema_short_start(average, weights, updates, decay):
    d = min(decay, (1 + updates) / (10 + updates)) if updates < 100 else decay
    return [d * a + (1 - d) * w for a, w in zip(average, weights)]


def ema_never_below_half(average, weights, updates, decay):
    d = max(0.5, min(decay, (1 + updates) / (10 + updates)))
    return [d * a + (1 - d) * w for a, w in zip(average, weights)]


def ema_rows(average, weights, updates, decay):
    return [a.reshape(-1) for a in right_ema(average, weights, updates, decay)]


def ema_on_the_cpu(average, weights, updates, decay):
    d = min(decay, (1 + updates) / (10 + updates))
    return [d * a + torch.full(a.shape, 1 - d, dtype=a.dtype) * w for a, w in zip(average, weights)]


def ema_in_place(average, weights, updates, decay):
    d = min(decay, (1 + updates) / (10 + updates))
    for a, w in zip(average, weights):
        a.mul_(d).add_(w, alpha=1 - d)
    return average


def ema_one_tensor(average, weights, updates, decay):
    return right_ema(average, weights, updates, decay)[0]


def sample_context(model, noise, schedule, steps=20):
    mode = model.training
    try:
        denoise = library.Denoiser(model, schedule, "v").eval()
        return last(ddim(clipped(denoise), schedule, noise, steps))
    finally:
        model.train(mode)


def sample_with_mode(model, noise, schedule, steps=20):
    mode, _ = model.training, model.train(False)
    images = last(ddim(clipped(library.Denoiser(model, schedule)), schedule, noise, steps))
    model.train() if mode else model.eval()
    return images


def sample_flags_of_all(network, start, /, schedule, steps=20):
    """Every module's own flag is put back."""
    flags = [module.training for module in network.modules()]
    network.eval()
    images = last(ddim(clipped(library.Denoiser(network, schedule, "v")), schedule, start, steps))
    for module, flag in zip(network.modules(), flags):
        module.training = flag
    return images


@contextlib.contextmanager
def asleep(network):
    mode = network.training
    try:
        yield network.eval()
    finally:
        network.train(mode)


@torch.no_grad()
def sample_within(model, noise, schedule, steps=20):
    with asleep(model) as quiet:
        return last(ddim(clipped(library.Denoiser(quiet, schedule, "v")), schedule, noise, steps))


class Sampler:
    """A callable object."""

    def __call__(self, model, noise, schedule, steps=20):
        return sample_context(model, noise, schedule, steps)


def sample_recording_off(model, noise, schedule, steps=20):
    torch.set_grad_enabled(False)
    return right_mode(model, noise, schedule, steps)


def sample_frozen(model, noise, schedule, steps=20):
    return right_mode(model.requires_grad_(False), noise, schedule, steps)


def sample_children_only(model, noise, schedule, steps=20):
    """The layers are put back, the network's own flag isn't."""
    mode = model.training
    images = last(ddim(clipped(library.Denoiser(model.eval(), schedule, "v")), schedule, noise, steps))
    for child in model.children():
        child.train(mode)
    return images


def sample_one_level(model, noise, schedule, steps=20):
    """Dropout and BatchNorm lie a level deeper."""
    mode = model.training
    images = last(ddim(clipped(library.Denoiser(model.eval(), schedule, "v")), schedule, noise, steps))
    model.training = mode
    for child in model.children():
        child.training = mode
    return images


def sample_exchanged(model, noise, schedule, steps=20):
    mode = model.training
    images = last(ddim(clipped(library.Denoiser(model.eval(), schedule, "v")), schedule, noise, steps))
    model.train(not mode)
    return images


def sample_twenty_steps(model, noise, schedule, steps=20):
    return right_mode(model, noise, schedule, min(20, schedule.T))


def sample_in_place(model, noise, schedule, steps=20):
    return noise.copy_(right_mode(model, noise, schedule, steps))


def sample_image_by_image(model, noise, schedule, steps=20):
    """In training mode BatchNorm sees one image at a time."""
    whole = slip("training/mode", "as it was handed out")
    return torch.cat([whole(model, one, schedule, steps) for one in noise.split(1)])


def sample_not_clipped(model, noise, schedule, steps=20):
    mode = model.training
    images = last(ddim(library.Denoiser(model.eval(), schedule), schedule, noise * 3, steps))
    model.train(mode)
    return images


def sample_wrong_target(model, noise, schedule, steps=20):
    mode = model.training
    images = last(ddim(clipped(library.Denoiser(model.eval(), schedule, "x0")), schedule, noise, steps))
    model.train(mode)
    return images


def sample_without_mode_of_norm(model, noise, schedule, steps=20):
    """Only the dropout is put to sleep; BatchNorm goes on with the statistics of the batch."""
    mode = model.training
    model.between[1].eval()
    images = slip("training/mode", "as it was handed out")(model, noise, schedule, steps)
    model.train(mode)
    return images


def sample_a_copy(model, noise, schedule, steps=20):
    return slip("training/mode", "as it was handed out")(copy.deepcopy(model).eval(), noise, schedule, steps)


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
    "training/one-step": {
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
    "training/wrong-pair": {
        "of the first schedule as long": of_the_first_as_long(right("training/wrong-pair")),
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
    "training/to-noise": {
        "of the first schedule as long": of_the_first_as_long(right("training/to-noise")),
        "sign": lambda *given: -right_to_noise(*given),
        "step before": noise_step_before,
        "an ε in the division": noise_with_epsilon,
        "division made safe": noise_safe_division,
        "exchanged": noise_exchanged,
        "batch and channels mixed": noise_of_mixed_channels,
        "detached": noise_detached,
        "in place": noise_in_place,
        "bounded": noise_bounded,
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
    "training/ema": {
        "in place": ema_in_place,
        "one tensor": ema_one_tensor,
        "weights as they are": lambda average, weights, updates, decay: weights,
        "a tuple": lambda *given: tuple(right_ema(*given)),
        "squares": lambda a, w, n, d: [(x**2).sqrt() for x in right_ema(a, w, n, d)],
        "a generator": ema_generator,
        "whole numbers": ema_whole_numbers,
        "first tensor only": ema_first_only,
        "weights in place": ema_weights_in_place,
        "list in place": ema_list_in_place,
        "product": ema_product,
        "never below a half": ema_never_below_half,
        "a start of a hundred updates": ema_short_start,
        "flattened": ema_rows,
        "on the CPU": ema_on_the_cpu,
    },
    "training/mode": {
        "of the first schedule as long": of_the_first_as_long(right("training/mode")),
        "not clipped": sample_not_clipped,
        "another target": sample_wrong_target,
        "only dropout asleep": sample_without_mode_of_norm,
        "under no_grad alone": torch.no_grad()(slip("training/mode", "as it was handed out")),
        "one step fewer": lambda m, n, s, k=20: right_mode(m, n, s, k - 1),
        "recording off": sample_recording_off,
        "frozen": sample_frozen,
        "layers only put back": sample_children_only,
        "one level only": sample_one_level,
        "the other mode": sample_exchanged,
        "always 20 steps": sample_twenty_steps,
        "in place": sample_in_place,
        "image by image": sample_image_by_image,
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
    "training/one-step": {
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
    "training/wrong-pair": {
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
    "training/to-noise": {
        "two fractions": noise_by_v,
        "a score": noise_as_a_score,
        "image by image": noise_image_by_image,
        "single rates": noise_single_rates,
    },
    "training/min-snr": {
        "line by line": min_snr_lines,
        "with rates": min_snr_rates,
        "a list": min_snr_in_a_list,
        "a table": min_snr_table,
        "an object": MinSnr(),
    },
    "training/ema": {
        "lerp": ema_lerp,
        "moved a little": ema_moved,
        "a tensor for the decay": ema_tensor_of_decay,
        "copies in place": ema_copies,
        "foreach": ema_foreach,
        "an object": Average(),
    },
    "training/mode": {
        "try and finally": sample_context,
        "train(False)": sample_with_mode,
        "a copy": sample_a_copy,
        "all flags": sample_flags_of_all,
        "within": sample_within,
        "an object": Sampler(),
    },
}
