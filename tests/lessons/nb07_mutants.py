"""Wrong answers to the quizzes of notebook 07 that must be rejected, and other right ones that must be accepted."""

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_utils import diffusion as library
from course_utils import sampling
from lessons.answers import right, slip

right_plane = right("guidance/plane")
right_classifier_gradient = right("guidance/classifier-gradient")
right_guided_noise = right("guidance/guided-noise")
right_guided_guess = right("guidance/guided-guess")


def plane_einsum(x, e, weight, bias):
    table = rearrange(weight, "(h w) d -> d h w", h=x.shape[2])
    plane = torch.einsum("bd,dhw->bhw", e, table) + rearrange(bias, "(h w) -> h w", h=x.shape[2])
    return torch.cat([x, plane[:, None]], dim=1)


def plane_image_by_image(x, e, weight, bias):
    planes = [(weight @ row + bias).view(1, x.shape[2], x.shape[3]) for row in e]
    return torch.stack([torch.cat([image, plane]) for image, plane in zip(x, planes)])


def plane_unflattened(x, e, weight, bias):
    return torch.cat((x, nn.Unflatten(1, (1, *x.shape[2:]))(e @ weight.T + bias)), 1)


def plane_detached(x, e, weight, bias):
    return right_plane(x, e.detach(), weight, bias)


def plane_wrong_order(x, e, weight, bias):
    """Fills the plane column by column."""
    h, w = x.shape[2:]
    plane = F.linear(e, weight, bias).reshape(len(x), 1, w, h)
    return torch.cat([x, plane.mT], dim=1)


def plane_mixes_the_batch(x, e, weight, bias):
    """Numbers of one image end in another's plane."""
    b, _, h, w = x.shape
    return torch.cat([x, F.linear(e, weight, bias).T.reshape(b, 1, h, w)], dim=1)


def plane_squashed(x, e, weight, bias):
    return torch.cat([x, right_plane(x, e, weight, bias)[:, -1:].tanh()], dim=1)


# ------------------------------------------------------------------------------------------------------------- dropping


def drop_where(y, null, share, generator):
    return torch.where(torch.rand(len(y), generator=generator) < share, torch.full_like(y, null), y)


def drop_bernoulli(y, null, share, generator):
    lost = torch.bernoulli(torch.full(y.shape, share), generator=generator).bool()
    labels = y.clone()
    labels[lost] = null
    return labels


def drop_one_by_one(y, null, share, generator):
    tossed = torch.rand(len(y), generator=generator).tolist()
    return torch.tensor([null if u < share else label for u, label in zip(tossed, y.tolist())])


def drop_upper_tail(y, null, share, generator):
    return torch.where(torch.rand(y.shape, generator=generator) >= 1 - share, null, y)


def drop_in_place(y, null, share, generator):
    y[torch.rand(y.shape, generator=generator) < share] = null
    return y


def drop_global_chance(y, null, share, generator):
    return library.drop_labels(y, null, share, None)


def drop_seeded_anew(y, null, share, generator):
    return library.drop_labels(y, null, share, torch.Generator().manual_seed(0))


def drop_removed(y, null, share, generator):
    return y[torch.rand(y.shape, generator=generator) >= share]


def drop_to_any_class(y, null, share, generator):
    lost = torch.rand(y.shape, generator=generator) < share
    return torch.where(lost, torch.randint(null, y.shape, generator=generator), y)


def drop_a_tenth(y, null, share, generator):
    return library.drop_labels(y, null, 0.1, generator)


def drop_as_floats(y, null, share, generator):
    return library.drop_labels(y, null, share, generator).float()


def drop_none(y, null, share, generator):
    return y.clone()


def drop_a_class(y, null, share, generator):
    """Tosses for each class, not for each image."""
    lost = torch.rand(null, generator=generator) < share
    return torch.where(lost[y], null, y)


# ------------------------------------------------------------------------------------------------ the label never comes


def train_masked(model, x_t, t, y, lost, null):
    return model(x_t, t, y.masked_fill(lost, null))


def train_copied(model, x_t, t, y, lost, null):
    labels = y.clone()
    labels[lost] = null
    return model(x_t, t, labels)


def train_arithmetic(model, x_t, t, y, lost, null):
    return model(x_t, t, y * ~lost + null * lost)


def train_two_calls(model, x_t, t, y, lost, null):
    told, not_told = model(x_t, t, y), model(x_t, t, torch.full_like(y, null))
    return torch.where(lost[:, None, None, None], not_told, told)


def train_in_place(model, x_t, t, y, lost, null):
    y[lost] = null
    return model(x_t, t, y)


def train_detached(model, x_t, t, y, lost, null):
    return train_masked(model, x_t, t, y, lost, null).detach()


def train_null_frozen(model, x_t, t, y, lost, null):
    """The null label is asked for, but nothing is learned from it."""
    told = model(x_t, t, y.masked_fill(lost, null))
    return torch.where(lost[:, None, None, None], told.detach(), told)


def train_images_dropped(model, x_t, t, y, lost, null):
    return model(x_t.masked_fill(lost[:, None, None, None], 0.0), t, y.masked_fill(lost, null))


def train_batch_dropped(model, x_t, t, y, lost, null):
    return model(x_t, t, torch.full_like(y, null) if lost.any() else y)


# ---------------------------------------------------------------------------------------------- a classifier's gradient


def gradient_cross_entropy(classifier, x_t, t, y):
    with torch.enable_grad():
        x = x_t.clone().requires_grad_()
        (downhill,) = torch.autograd.grad(F.cross_entropy(classifier(x, t), y, reduction="sum"), x)
    return -downhill


def gradient_image_by_image(classifier, x_t, t, y):
    rows = []
    with torch.enable_grad():
        for k in range(len(x_t)):
            x = x_t[k : k + 1].detach().requires_grad_()
            log_p = classifier(x, t[k : k + 1]).log_softmax(dim=-1)[0, y[k]]
            rows.append(torch.autograd.grad(log_p, x)[0])
    return torch.cat(rows)


@torch.enable_grad()
def gradient_backward(classifier, x_t, t, y):
    x = x_t.detach().clone().requires_grad_(True)
    logits = classifier(x, t)
    (logits.gather(1, y[:, None]).squeeze(1) - logits.logsumexp(1)).sum().backward()
    return x.grad


def gradient_seeded(classifier, x_t, t, y):
    """One backward pass with a 1 at entry y of each row."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        log_p = classifier(x, t).log_softmax(1)
        return torch.autograd.grad(log_p, x, F.one_hot(y, log_p.shape[1]).to(log_p))[0]


def gradient_mean_times_b(classifier, x_t, t, y):
    return len(y) * slip("guidance/classifier-gradient", "the mean over the batch")(classifier, x_t, t, y)


def gradient_without_enable_grad(classifier, x_t, t, y):
    x = x_t.detach().requires_grad_()
    return torch.autograd.grad(classifier(x, t).log_softmax(1)[torch.arange(len(y)), y].sum(), x)[0]


def gradient_detached(classifier, x_t, t, y):
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        log_p = classifier(x.detach(), t).log_softmax(1)[torch.arange(len(y)), y]
        return torch.autograd.grad(log_p.sum(), x)[0]


def gradient_softmax_over_the_batch(classifier, x_t, t, y):
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        return torch.autograd.grad(classifier(x, t).log_softmax(0)[torch.arange(len(y)), y].sum(), x)[0]


def gradient_all_pairs(classifier, x_t, t, y):
    """`[:, y]` takes every label's column for every image."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        return torch.autograd.grad(classifier(x, t).log_softmax(1)[:, y].sum(), x)[0]


def gradient_normalised(classifier, x_t, t, y):
    uphill = right_classifier_gradient(classifier, x_t, t, y)
    return uphill / uphill.flatten(1).norm(dim=1)[:, None, None, None]


def gradient_at_one_step(classifier, x_t, t, y):
    return right_classifier_gradient(classifier, x_t, t[:1].expand_as(t), y)


def gradient_of_log_mean(classifier, x_t, t, y):
    """ln of the batch's mean probability."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        p = classifier(x, t).softmax(1)[torch.arange(len(y)), y]
        return torch.autograd.grad(p.mean().log(), x)[0]


def gradient_of_log_sum_exp(classifier, x_t, t, y):
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        return torch.autograd.grad(classifier(x, t).logsumexp(1).sum(), x)[0]


# ----------------------------------------------------------------------------------------------------- the guided noise


def noise_through_the_score(noise, uphill, t, schedule, scale):
    noise_rate = (1 - rearrange(schedule.alpha_bar[t], "b -> b 1 1 1")).sqrt()
    score = -noise.double() / noise_rate + scale * uphill.double()
    return (-noise_rate * score).to(noise.dtype)


def noise_addcmul(noise, uphill, t, schedule, scale):
    return torch.addcmul(noise, schedule.rates(t, noise)[1], uphill, value=-scale)


def noise_first_step(noise, uphill, t, schedule, scale):
    return right_guided_noise(noise, uphill, t[:1].expand_as(t), schedule, scale)


def noise_scale_forgotten(noise, uphill, t, schedule, scale):
    return right_guided_noise(noise, uphill, t, schedule, 1.0)


def noise_in_place(noise, uphill, t, schedule, scale):
    return noise.sub_(schedule.rates(t, noise)[1] * scale * uphill)


def noise_of_beta(noise, uphill, t, schedule, scale):
    beta = rearrange(schedule.beta[t].sqrt(), "b -> b 1 1 1").to(noise.dtype)
    return noise - beta * scale * uphill


# --------------------------------------------------------------------------------------------------------- without one


def guess_by_the_library(denoise, x_t, t, y, null, w):
    return sampling.cfg(denoise, w, null)(x_t, t, y)


def guess_doubled_batch(denoise, x_t, t, y, null, w):
    labels = torch.cat([y, torch.full_like(y, null)])
    of_y, of_any = denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), labels).chunk(2)
    return of_any + w * (of_y - of_any)


def guess_weighted_mean(denoise, x_t, t, y, null, w):
    return w * denoise(x_t, t, y) + (1 - w) * denoise(x_t, t, torch.full_like(y, null))


def guess_lerp(denoise, x_t, t, y, null, w):
    return torch.lerp(denoise(x_t, t, torch.full_like(y, null)), denoise(x_t, t, y), w)


def guess_from_the_class(denoise, x_t, t, y, null, w):
    of_any, of_y = denoise(x_t, t, torch.full_like(y, null)), denoise(x_t, t, y)
    return of_y + (w - 1) * (of_y - of_any)


def guess_unguided(denoise, x_t, t, y, null, w):
    return denoise(x_t, t, y)


def guess_chunks_exchanged(denoise, x_t, t, y, null, w):
    labels = torch.cat([y, torch.full_like(y, null)])
    of_any, of_y = denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), labels).chunk(2)
    return of_any + w * (of_y - of_any)


def guess_interleaved(denoise, x_t, t, y, null, w):
    """Repeats each image twice, but splits the answers by halves."""
    labels = torch.cat([torch.full_like(y, null), y])
    of_any, of_y = denoise(x_t.repeat_interleave(2, 0), t.repeat_interleave(2), labels).chunk(2)
    return of_any + w * (of_y - of_any)


def guess_last_class_for_any(denoise, x_t, t, y, null, w):
    return right_guided_guess(denoise, x_t, t, y, null - 1, w)


def guess_renormalised(denoise, x_t, t, y, null, w):
    return right_guided_guess(denoise, x_t, t, y, null, w) / max(1.0, w)


def convert_table(w, source, to):
    return w + {("paper", "course"): 1, ("course", "paper"): -1}.get((source, to), 0)


def convert_if(w, source, to):
    if source == to:
        return w
    return w + 1 if to == "course" else w - 1


def convert_doubled(w, source, to):
    return w if source == to else (2 * w if to == "course" else w / 2)


def convert_always_adds(w, source, to):
    return w if source == to else w + 1


MUTANTS = {
    "guidance/plane": {
        "detached": plane_detached,
        "column by column": plane_wrong_order,
        "batch mixed": plane_mixes_the_batch,
        "squashed": plane_squashed,
    },
    "guidance/drop-labels": {
        "in place": drop_in_place,
        "global chance": drop_global_chance,
        "seeded anew": drop_seeded_anew,
        "removed": drop_removed,
        "to any class": drop_to_any_class,
        "always a tenth": drop_a_tenth,
        "floats": drop_as_floats,
        "none": drop_none,
        "whole classes": drop_a_class,
    },
    "guidance/null-never-trained": {
        "in place": train_in_place,
        "detached": train_detached,
        "nothing learned from it": train_null_frozen,
        "images dropped": train_images_dropped,
        "whole batches": train_batch_dropped,
    },
    "guidance/classifier-gradient": {
        "log of the mean": gradient_of_log_mean,
        "logsumexp": gradient_of_log_sum_exp,
        "without enable_grad": gradient_without_enable_grad,
        "detached": gradient_detached,
        "softmax over the batch": gradient_softmax_over_the_batch,
        "all pairs": gradient_all_pairs,
        "normalised": gradient_normalised,
        "one step for all": gradient_at_one_step,
    },
    "guidance/wrong-quantity": {
        "log of the mean": gradient_of_log_mean,
        "without enable_grad": gradient_without_enable_grad,
    },
    "guidance/guided-noise": {
        "first step for all": noise_first_step,
        "scale forgotten": noise_scale_forgotten,
        "in place": noise_in_place,
        "of β": noise_of_beta,
    },
    "guidance/guided-guess": {
        "unguided": guess_unguided,
        "chunks exchanged": guess_chunks_exchanged,
        "interleaved": guess_interleaved,
        "last class for any": guess_last_class_for_any,
        "renormalised": guess_renormalised,
    },
    "guidance/convention": {
        "doubled": convert_doubled,
        "always adds": convert_always_adds,
    },
}

ALTERNATIVES = {
    "guidance/plane": {
        "einsum": plane_einsum,
        "image by image": plane_image_by_image,
        "unflattened": plane_unflattened,
    },
    "guidance/drop-labels": {
        "where": drop_where,
        "bernoulli": drop_bernoulli,
        "one by one": drop_one_by_one,
        "upper tail": drop_upper_tail,
    },
    "guidance/null-never-trained": {
        "masked": train_masked,
        "copied": train_copied,
        "arithmetic": train_arithmetic,
        "two calls": train_two_calls,
    },
    "guidance/classifier-gradient": {
        "cross-entropy": gradient_cross_entropy,
        "image by image": gradient_image_by_image,
        "backward": gradient_backward,
        "seeded": gradient_seeded,
        "mean times b": gradient_mean_times_b,
    },
    "guidance/wrong-quantity": {
        "cross-entropy": gradient_cross_entropy,
        "mean times b": gradient_mean_times_b,
        "image by image": gradient_image_by_image,
    },
    "guidance/guided-noise": {"through the score": noise_through_the_score, "addcmul": noise_addcmul},
    "guidance/guided-guess": {
        "the library's": guess_by_the_library,
        "one batch": guess_doubled_batch,
        "weighted mean": guess_weighted_mean,
        "lerp": guess_lerp,
        "from the class": guess_from_the_class,
    },
    "guidance/convention": {"table": convert_table, "if": convert_if},
}
