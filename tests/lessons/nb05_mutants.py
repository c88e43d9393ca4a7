"""Wrong answers to the quizzes of notebook 05 that must be rejected, and other right ones that must be accepted."""

import copy

import torch
from einops import rearrange
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from course_utils import diffusion as library
from course_utils import variational
from course_utils.sampling import clipped, ddim, last
from lessons.answers import right, slip

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


def draw_by_floats(x0, schedule, generator):
    t = (torch.rand(len(x0), generator=generator) * schedule.T).long() + 1
    noise = torch.empty_like(x0).normal_(generator=generator)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_noise_first(x0, schedule, generator):
    noise = torch.randn(x0.shape, generator=generator)
    t = torch.randint(schedule.T, (len(x0),), generator=generator) + 1
    return schedule.add_noise(x0, t, noise), t, noise


def draw_stratified(x0, schedule, generator):
    t = library.draw_steps(len(x0), schedule.T, generator)
    noise = torch.randn(x0.shape, generator=generator)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_in_a_list(x0, schedule, generator):
    rows = [right_one_step(x0[i : i + 1], schedule, generator) for i in range(len(x0))]
    return tuple(torch.cat(parts) for parts in zip(*rows))


def draw_once_repeated(x0, schedule, generator):
    step = int(torch.randint(1, schedule.T + 1, (), generator=generator))
    t = torch.full((len(x0),), step)
    noise = torch.randn(x0.shape, generator=generator)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_in_order(x0, schedule, generator):
    """Not random: 1, 2, 3, …"""
    t = torch.arange(len(x0)).clamp(max=schedule.T - 1) + 1
    noise = torch.randn(x0.shape, generator=generator)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_fractions(x0, schedule, generator):
    t = torch.rand(len(x0), generator=generator)
    return x0, t, torch.randn(x0.shape, generator=generator)


def draw_squared(x0, schedule, generator):
    t = (torch.rand(len(x0), generator=generator) ** 4 * schedule.T).long() + 1
    noise = torch.randn(x0.shape, generator=generator)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_other_noise(x0, schedule, generator):
    x_t, t, _ = right_one_step(x0, schedule, generator)
    return x_t, t, torch.randn(x0.shape, generator=generator)


def draw_reseeded(x0, schedule, generator):
    return right_one_step(x0, schedule, generator.manual_seed(0))


def draw_counted_on(x0, schedule, generator):
    """1, 2, 3, … from a random place: every step comes equally often, but one draw decides them all."""
    start = torch.randint(schedule.T, (1,), generator=generator)
    t = (torch.arange(len(x0)) + start) % schedule.T + 1
    noise = torch.randn(x0.shape, generator=generator)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_for_half(x0, schedule, generator):
    """Two steps a batch, in turn."""
    t = torch.randint(1, schedule.T + 1, (2,), generator=generator).repeat(len(x0) // 2)
    noise = torch.randn(x0.shape, generator=generator)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_from_anywhere(x0, schedule, generator):
    """The generator isn't used: no seed brings these numbers back."""
    t, noise = torch.randint(1, schedule.T + 1, (len(x0),)), torch.randn_like(x0)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_one_number_an_image(x0, schedule, generator):
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator)
    noise = torch.randn(len(x0), 1, 1, 1, generator=generator).expand_as(x0)
    return schedule.add_noise(x0, t, noise), t, noise


def draw_grey_noise(x0, schedule, generator):
    """One noise for all channels."""
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator)
    noise = torch.randn(x0[:, :1].shape, generator=generator).expand_as(x0)
    return schedule.add_noise(x0, t, noise), t, noise


def v_angle(x0, noise, t, schedule):
    angle = torch.acos(schedule.alpha_bar_at(t, x0.double()).sqrt())
    return (angle.cos() * noise.double() - angle.sin() * x0.double()).to(x0.dtype)


def v_from_x_t(x0, noise, t, schedule):
    """v = (√ᾱ x_t − x0) / √(1 − ᾱ)."""
    x0, noise, dtype = x0.double(), noise.double(), x0.dtype
    a = schedule.alpha_bar_at(t, x0)
    return ((a.sqrt() * schedule.add_noise(x0, t, noise) - x0) / (1 - a).sqrt()).to(dtype)


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


def x0_safe_division(prediction_type, output, x_t, t, schedule):
    if prediction_type != "noise":
        return right_to_x0(prediction_type, output, x_t, t, schedule)
    a = schedule.alpha_bar_at(t, x_t)
    return (x_t - (1 - a).sqrt() * output) / a.sqrt().clamp(min=0.1)


def noise_by_v(x0, x_t, t, schedule):
    a = schedule.alpha_bar_at(t, x0)
    return x_t / (1 - a).sqrt() - x0 * (a / (1 - a)).sqrt()


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


def ema_lerp(average, weights, updates, decay):
    d = min(decay, (1 + updates) / (10 + updates))
    return [torch.lerp(w, a, d) for a, w in zip(average, weights)]


def ema_moved(average, weights, updates, decay):
    d = min((updates + 1) / (updates + 10), decay)
    return [a + (1 - d) * (w - a) for a, w in zip(average, weights)]


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
    },
    "training/bound-weight": {
        "zero at 1": weight_zero_at_one,
        "one step late": weight_next_step,
        "difference of logarithms": lambda s, t: torch.where(t == 1, 0.5, 0.5 * (s.log_snr[t - 1] - s.log_snr[t])),
        "in float32": lambda s, t: variational.bound_weight(s, t).float(),
    },
    "training/algorithm-1": {
        "detached": loss_detached,
        "noise of its own": loss_own_noise,
        "L1": loss_l1,
        "v": loss_of_v,
        "network under no_grad": loss_no_grad_network,
        "square of the mean": loss_signed,
        "one number an image": loss_not_reduced,
        "in place": loss_in_place,
        "a number": lambda *given: loss_mse(*given).item(),
    },
    "training/one-step": {
        "repeated": draw_once_repeated,
        "in order": draw_in_order,
        "fractions": draw_fractions,
        "mostly small steps": draw_squared,
        "noise returned is another": draw_other_noise,
        "seeded anew": draw_reseeded,
        "counted on": draw_counted_on,
        "two steps a batch": draw_for_half,
        "without the generator": draw_from_anywhere,
        "one number an image": draw_one_number_an_image,
        "one noise for all channels": draw_grey_noise,
    },
    "training/wrong-pair": {
        "both moved": loss_of_the_difference,
        "scaled noise": slip("training/algorithm-1", "scaled noise as the target"),
        "clean input": slip("training/algorithm-1", "fed with the clean image"),
        "summed": slip("training/algorithm-1", "summed over pixels"),
        "in place": loss_in_place,
    },
    "training/v-target": {
        "first step for all": v_first_step,
        "step before": v_step_before,
        "in double precision": v_float64,
    },
    "training/to-x0": {
        "division made safe": x0_safe_division,
        "step before": lambda k, o, x, t, s: right_to_x0(k, o, x, (t - 1).clamp(min=1), s),
    },
    "training/to-noise": {
        "sign": lambda *given: -right_to_noise(*given),
    },
    "training/min-snr": {
        "of ᾱ": lambda s, k, t, gamma=5.0: s.alpha_bar[t].clamp(max=gamma),
        "clipped after dividing": lambda s, k, t, gamma=5.0: (s.snr[t] / (s.snr[t] + 1)).clamp(max=gamma),
    },
    "training/ema": {
        "in place": ema_in_place,
        "one tensor": ema_one_tensor,
        "weights as they are": lambda average, weights, updates, decay: weights,
        "a tuple": lambda *given: tuple(right_ema(*given)),
        "squares": lambda a, w, n, d: [(x**2).sqrt() for x in right_ema(a, w, n, d)],
    },
    "training/mode": {
        "not clipped": sample_not_clipped,
        "another target": sample_wrong_target,
        "only dropout asleep": sample_without_mode_of_norm,
        "under no_grad alone": torch.no_grad()(slip("training/mode", "as it was handed out")),
        "one step fewer": lambda m, n, s, k=20: right_mode(m, n, s, k - 1),
    },
}

ALTERNATIVES = {
    "training/equal-variance-kl": {
        "torch.distributions": kl_distributions,
        "image by image": kl_rows,
        "einsum": kl_einsum,
    },
    "training/bound-weight": {
        "betas": weight_of_betas,
        "logarithms": weight_by_logs,
        "assigned": weight_in_place,
    },
    "training/algorithm-1": {
        "mse_loss": loss_mse,
        "by hand with einops": loss_by_hand,
        "image by image": loss_image_by_image,
    },
    "training/one-step": {
        "floats": draw_by_floats,
        "noise first": draw_noise_first,
        "stratified": draw_stratified,
        "one image at a time": draw_in_a_list,
    },
    "training/wrong-pair": {"mse_loss": loss_mse, "image by image": loss_image_by_image},
    "training/v-target": {"an angle": v_angle, "from x_t": v_from_x_t},
    "training/to-x0": {"a dictionary": x0_by_dict, "v through the noise": x0_by_noise_of_v},
    "training/to-noise": {"two fractions": noise_by_v},
    "training/min-snr": {"line by line": min_snr_lines, "with rates": min_snr_rates},
    "training/ema": {"lerp": ema_lerp, "moved a little": ema_moved},
    "training/mode": {"try and finally": sample_context, "train(False)": sample_with_mode, "a copy": sample_a_copy},
}
