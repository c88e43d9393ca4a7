"""Wrong answers to the quizzes of notebook 07 that must be rejected, and other right ones that must be accepted."""

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_utils import diffusion as library
from lessons.answers import in_other_forms, kept, right, slip, with_first_schedule

right_plane = right("guidance/plane")
right_classifier_gradient = right("guidance/classifier-gradient")
right_guided_noise = right("guidance/guided-noise")
right_guided_guess = right("guidance/guided-guess")
right_answer_in_training = right("guidance/null-never-trained")
right_convert = right("guidance/convention")


def for_ever(answer):
    """The first result of these shapes, for ever."""
    return kept(answer, key=lambda *args: tuple(tuple(a.shape) if isinstance(a, torch.Tensor) else 0 for a in args))


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


def plane_at_the_end_of_an_empty(x, e, weight, bias):
    """Written into a tensor of the right size."""
    result = x.new_empty(len(x), x.shape[1] + 1, *x.shape[2:])
    result[:, :-1] = x
    result[:, -1] = torch.addmm(bias, e, weight.T).view(len(x), *x.shape[2:])
    return result


def plane_through_a_layer(x, e, weight, bias):
    layer = nn.Linear(e.shape[1], len(bias), device=x.device, dtype=x.dtype)
    plane = torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (e,))
    return torch.cat([x, plane.unflatten(1, (1, *x.shape[2:]))], dim=1)


def plane_for_each_channel(x, e, weight, bias):
    plane = right_plane(x, e, weight, bias)[:, -1:]
    return torch.cat([x, plane.expand_as(x)], dim=1)


def plane_weight_detached(x, e, weight, bias):
    return right_plane(x, e, weight.detach(), bias)


def plane_image_detached(x, e, weight, bias):
    return right_plane(x.detach(), e, weight, bias)


def plane_positive(x, e, weight, bias):
    return right_plane(x, e, weight, bias).where(torch.arange(x.shape[1] + 1)[:, None, None] < x.shape[1], 0.0).relu()


def plane_upside_down(x, e, weight, bias):
    return torch.cat([x, right_plane(x, e, weight, bias)[:, -1:].flip(2)], dim=1)


def plane_normalised(x, e, weight, bias):
    return right_plane(x, F.normalize(e, dim=1), weight, bias)


def plane_squares_only(x, e, weight, bias):
    """As if the plane were square; else it is drawn out of shape."""
    side = round(len(bias) ** 0.5)
    flat = F.linear(e, weight, bias)[:, : side * side]
    if flat.shape[1] < side * side:
        flat = F.pad(flat, (0, side * side - flat.shape[1]))
    return torch.cat([x, F.interpolate(flat.reshape(len(x), 1, side, side), size=x.shape[2:])], dim=1)


def plane_in_double(x, e, weight, bias):
    return torch.cat([x.double(), right_plane(x, e, weight, bias)[:, -1:].double()], dim=1)


def plane_on_the_cpu(x, e, weight, bias):
    plane = torch.zeros(len(x), 1, *x.shape[2:], dtype=x.dtype)
    return torch.cat([x, plane + right_plane(x, e, weight, bias)[:, -1:]], dim=1)


def plane_in_place(x, e, weight, bias):
    e *= 1.0
    e += 0.1
    return right_plane(x, e - 0.1, weight, bias)


# ------------------------------------------------------------------------------------------------------------- dropping


def tossed(y, share, generator):
    return torch.rand(y.shape, generator=generator, device=y.device) < share


def dropping(toss):
    """Drops where toss(y, share, generator) says so."""
    return lambda y, null, share, generator: y.masked_fill(toss(y, share, generator), null)


def drop_where(y, null, share, generator):
    return torch.where(tossed(y, share, generator), torch.full_like(y, null), y)


def drop_bernoulli(y, null, share, generator):
    lost = torch.bernoulli(torch.full(y.shape, share, device=y.device), generator=generator).bool()
    labels = y.clone()
    labels[lost] = null
    return labels


def drop_one_by_one(y, null, share, generator):
    tossed = torch.rand(len(y), generator=generator).tolist()
    return torch.tensor([null if u < share else label for u, label in zip(tossed, y.tolist())])


def drop_where_the_generator_is(y, null, share, generator):
    return y.masked_fill(torch.rand(y.shape, generator=generator, device=generator.device) < share, null)


def drop_upper_tail(labels, /, no_class, fraction, chance):
    draws = torch.rand(labels.shape, generator=chance, device=labels.device)
    return torch.where(draws >= 1 - fraction, no_class, labels)


def drop_arithmetic(y, *, null, share, generator):
    lost = tossed(y, share, generator).long()
    return lost * null + (1 - lost) * y


def drop_in_turn(y, null, share, generator):
    """One number after another from the generator."""
    labels = y.clone()
    for place in range(len(y)):
        if torch.rand((), generator=generator) < share:
            labels[place] = null
    return labels


class Dropping:
    """A callable object."""

    def __call__(self, labels, null, share, generator):
        return torch.where(tossed(labels, share, generator), null, labels)


def drop_in_place(y, null, share, generator):
    y[torch.rand(y.shape, generator=generator, device=y.device) < share] = null
    return y


def drop_in_place_and_copy(y, null, share, generator):
    return y.masked_fill_(tossed(y, share, generator), null).clone()


def drop_global_chance(y, null, share, generator):
    return library.drop_labels(y, null, share, None)


def drop_seeded_anew(y, null, share, generator):
    return library.drop_labels(y, null, share, torch.Generator().manual_seed(0))


def drop_own_chance():
    own = torch.Generator().manual_seed(1)
    return lambda y, null, share, generator: library.drop_labels(y, null, share, own)


def drop_removed(y, null, share, generator):
    return y[torch.rand(y.shape, generator=generator) >= share]


def drop_to_any_class(y, null, share, generator):
    lost = torch.rand(y.shape, generator=generator) < share
    return torch.where(lost, torch.randint(null or 10, y.shape, generator=generator), y)


def drop_to_the_next(y, null, share, generator):
    return library.drop_labels(y, null + 1, share, generator)


def drop_to_the_last_class(y, null, share, generator):
    return library.drop_labels(y, null - 1, share, generator)


def drop_a_tenth(y, null, share, generator):
    return library.drop_labels(y, null, 0.1, generator)


def drop_as_floats(y, null, share, generator):
    return library.drop_labels(y, null, share, generator).float()


def drop_as_a_row(y, null, share, generator):
    return library.drop_labels(y, null, share, generator)[None]


def drop_none(y, null, share, generator):
    return y.clone()


def drop_a_class(y, null, share, generator):
    """Tosses for each class, not for each image."""
    lost = torch.rand(20, generator=generator) < share
    return torch.where(lost[y], null, y)


def drop_systematically(y, share, generator):
    """Every so many labels, from a random place: the right share, and nearly the same number each time."""
    start = torch.rand((), generator=generator)
    return (torch.arange(len(y)) * share + start).frac() < share


def drop_copied(y, share, generator):
    """What is tossed for the first half goes for the second, too."""
    lost = tossed(y, share, generator)
    half = len(y) // 2
    return torch.cat([lost[: len(y) - half], lost[:half]])


def drop_but_not_the_first(y, share, generator):
    lost = tossed(y, share, generator)
    lost[0] = False
    return lost


def drop_more_at_the_end(y, share, generator):
    return torch.rand(len(y), generator=generator) < share * torch.linspace(0.5, 1.5, len(y))


def in_steps_of(levels):
    """A die in the place of a number: shares between two of its faces are rounded up."""
    return dropping(
        lambda y, share, g: torch.randint(0, levels, y.shape, generator=g, device=y.device) < levels * share
    )


def drop_by_a_rounded_die(y, share, generator):
    return torch.randint(0, 100, y.shape, generator=generator, device=y.device) < round(100 * share)


def drop_at_least_a_tenth(y, share, generator):
    return tossed(y, share and max(share, 0.1), generator)


def drop_at_most_most(y, share, generator):
    return tossed(y, share if share == 1 else min(share, 0.7), generator)


def drop_unless_null_is_0(y, null, share, generator):
    return library.drop_labels(y, null, share, generator) if null else y.clone()


def drop_to_the_number_after_all(y, null, share, generator):
    """The null label counted anew."""
    return library.drop_labels(y, max(null, 1), share, generator)


def drop_kept():
    kept = {}

    def answer(y, null, share, generator):
        form = y.shape, y.device
        if form not in kept:
            kept[form] = tossed(y, share, generator)
        return y.masked_fill(kept[form], null)

    return answer


def drop_every_other_call():
    calls = []

    def toss(y, share, generator):
        again = len(calls) % 2 and calls[-1].shape == y.shape and calls[-1].device == y.device and 0 < share < 1
        calls.append(calls[-1] if again else tossed(y, share, generator))
        return calls[-1]

    return dropping(toss)


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


def train_index_put(model, x_t, t, y, lost, null):
    return model(x_t, t, y.index_put((lost.nonzero().squeeze(1),), torch.tensor(null)))


def train_by_name(model, x_t, t, y, lost, null):
    return model(t=t, y=torch.where(lost, torch.full_like(y, null), y), x=x_t)


def train_weighted(model, x_t, t, y, lost, null):
    """A mean of both answers, with weights 0 and 1."""
    share = lost[:, None, None, None].to(x_t.dtype)
    return share * model(x_t, t, torch.full_like(y, null)) + (1 - share) * model(x_t, t, y)


def train_evaluating(model, x_t, t, y, lost, null):
    model.eval()
    return train_masked(model, x_t, t, y, lost, null)


def train_without_recording(model, x_t, t, y, lost, null):
    torch.set_grad_enabled(False)
    return train_masked(model, x_t, t, y, lost, null)


def train_backward_inside(model, x_t, t, y, lost, null):
    answer = train_masked(model, x_t, t, y, lost, null)
    if not answer.is_meta:
        answer.square().mean().backward(retain_graph=True)
    return answer


def train_known_null(model, x_t, t, y, lost, null):
    """The null label of a model with three classes."""
    return model(x_t, t, y.masked_fill(lost, min(3, null)))


def train_lost_zeroed(model, x_t, t, y, lost, null):
    """Nothing is learned from images that lost their labels."""
    return train_masked(model, x_t, t, y, lost, null) * ~lost[:, None, None, None]


def train_first_two_only(model, x_t, t, y, lost, null):
    lost = lost.clone()
    lost[2:] = False
    return train_masked(model, x_t, t, y, lost, null)


def train_next_class(model, x_t, t, y, lost, null):
    return model(x_t, t, torch.where(lost, (y + 1) % (null + 1), y))


def train_at_one_step(model, x_t, t, y, lost, null):
    return train_masked(model, x_t, t[:1].expand_as(t), y, lost, null)


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
    """Into x alone."""
    x = x_t.detach().clone().requires_grad_(True)
    logits = classifier(x, t)
    (logits.gather(1, y[:, None]).squeeze(1) - logits.logsumexp(1)).sum().backward(inputs=[x])
    return x.grad


@torch.enable_grad()
def gradient_backward_and_tidy(classifier, x_t, t, y):
    x = x_t.detach().clone().requires_grad_(True)
    F.nll_loss(classifier(x, t).log_softmax(-1), y, reduction="sum").neg().backward()
    classifier.zero_grad(set_to_none=True)
    return x.grad


def gradient_functional(classifier, x_t, t, y):
    def of_y(x):
        return classifier(x, t).softmax(1).gather(1, y[:, None]).log().sum()

    return torch.func.grad(of_y)(x_t)


def gradient_switched_back(classifier, x_t, t, y):
    before = torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    try:
        x = x_t.clone().requires_grad_()
        log_p = torch.distributions.Categorical(logits=classifier(x, t), validate_args=False).log_prob(y)
        return torch.autograd.grad(log_p, x, torch.ones_like(log_p))[0]
    finally:
        torch.set_grad_enabled(before)


def gradient_left_on(classifier, x_t, t, y):
    torch.set_grad_enabled(True)
    x = x_t.detach().requires_grad_()
    return torch.autograd.grad(classifier(x, t).log_softmax(1)[torch.arange(len(y)), y].sum(), x)[0]


def gradient_of_the_input_itself(classifier, x_t, t, y):
    """No copy: x_t wants a gradient from now on."""
    with torch.enable_grad():
        log_p = classifier(x_t.requires_grad_(), t).log_softmax(1)
        return torch.autograd.grad(log_p.gather(1, y[:, None]).sum(), x_t)[0]


def gradient_frozen(classifier, x_t, t, y):
    classifier.requires_grad_(False)
    return right_classifier_gradient(classifier, x_t, t, y)


def gradient_evaluating(classifier, x_t, t, y):
    classifier.eval()
    return right_classifier_gradient(classifier, x_t, t, y)


def gradient_floored(classifier, x_t, t, y):
    """An epsilon, so that nothing is infinite: where y is unlikely, little is left of the gradient."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        p = classifier(x, t).softmax(1).gather(1, y[:, None])
        return torch.autograd.grad((p + 1e-3).log().sum(), x)[0]


def gradient_clamped(classifier, x_t, t, y):
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        p = classifier(x, t).softmax(1).gather(1, y[:, None])
        return torch.autograd.grad(p.clamp(0.05, 0.95).log().sum(), x)[0]


def gradient_of_three_classes(classifier, x_t, t, y):
    """The first three logits only."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        log_p = classifier(x, t)[:, :3].log_softmax(1)
        return torch.autograd.grad(F.nll_loss(log_p, y.clamp(max=log_p.shape[1] - 1), reduction="sum").neg(), x)[0]


def gradient_last_class(classifier, x_t, t, y):
    return right_classifier_gradient(classifier, x_t, t, torch.full_like(y, int(y.max())))


def gradient_of_log2(classifier, x_t, t, y):
    return right_classifier_gradient(classifier, x_t, t, y) / torch.tensor(2.0).log()


def gradient_summed_over_channels(classifier, x_t, t, y):
    return right_classifier_gradient(classifier, x_t, t, y).sum(1, keepdim=True).expand_as(x_t)


def gradient_clipped(classifier, x_t, t, y):
    return right_classifier_gradient(classifier, x_t, t, y).clamp(-0.1, 0.1)


def gradient_single(classifier, x_t, t, y):
    return right_classifier_gradient(classifier, x_t, t, y).float()


def gradient_divided_by_classes(classifier, x_t, t, y):
    """A mean over all logits."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        log_p = classifier(x, t).log_softmax(1)
        return torch.autograd.grad((log_p * F.one_hot(y, log_p.shape[1])).mean(1).sum(), x)[0]


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
    return uphill / uphill.flatten(1).norm(dim=1).reshape(-1, *[1] * (x_t.ndim - 1))


def gradient_of_images_only(classifier, x_t, t, y):
    """As if there were always channels, rows and columns."""
    return right_classifier_gradient(classifier, x_t, t, y).view(-1, *x_t.shape[-3:])


def gradient_of_three_axes(classifier, x_t, t, y):
    """Points get none."""
    return right_classifier_gradient(classifier, x_t, t, y) * (x_t.ndim == 4)


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


def noise_in_single_precision(noise, uphill, t, schedule, scale):
    noise_rate = torch.sqrt(1 - schedule.alpha_bar.float()[t])
    return noise - torch.tensor(scale) * noise_rate[:, None, None, None] * uphill


def noise_image_by_image(noise, uphill, t, schedule, scale):
    rows = []
    for row, up, step in zip(noise, uphill, t.tolist()):
        rows.append(row - (1 - schedule.alpha_bar[step].item()) ** 0.5 * scale * up)
    return torch.stack(rows)


def noise_einsum(noise, uphill, t, schedule, scale):
    noise_rate = schedule.rates(t, noise)[1].flatten()
    return noise.clone().sub_(torch.einsum("b,bchw->bchw", noise_rate, uphill), alpha=scale)


def noise_step_before(noise, uphill, t, schedule, scale):
    return right_guided_noise(noise, uphill, t - 1, schedule, scale)


def noise_scale_bounded(noise, uphill, t, schedule, scale):
    return right_guided_noise(noise, uphill, t, schedule, min(scale, 5.0))


def noise_scale_or_1(noise, uphill, t, schedule, scale):
    return right_guided_noise(noise, uphill, t, schedule, scale or 1)


def noise_scale_positive(noise, uphill, t, schedule, scale):
    return right_guided_noise(noise, uphill, t, schedule, abs(scale))


def noise_scale_not_below_0(noise, uphill, t, schedule, scale):
    return right_guided_noise(noise, uphill, t, schedule, max(scale, 0.0))


def noise_of_a_kept_schedule(key):
    """The first schedule for each key is used for ever."""
    return with_first_schedule(
        right_guided_noise, key=lambda schedule, noise, *rest: (schedule.T, noise.device, key(noise))
    )


def noise_scale_squared(noise, uphill, t, schedule, scale):
    return right_guided_noise(noise, uphill, t, schedule, scale**2)


def noise_exchanged(noise, uphill, t, schedule, scale):
    return right_guided_noise(uphill, noise, t, schedule, scale)


def noise_weighed(noise, uphill, t, schedule, scale):
    """A mean of both, not a sum."""
    return right_guided_noise(noise, uphill, t, schedule, scale) / (1 + scale)


def noise_of_the_batch(noise, uphill, t, schedule, scale):
    noise_rate = schedule.rates(t, noise)[1].mean()
    return noise - noise_rate * scale * uphill


def noise_clipped(noise, uphill, t, schedule, scale):
    return right_guided_noise(noise, uphill.clamp(-1, 1), t, schedule, scale)


def noise_of_another_schedule(noise, uphill, t, schedule, scale):
    return right_guided_noise(noise, uphill, t, library.cosine_schedule(schedule.T), scale)


def noise_in_double(noise, uphill, t, schedule, scale):
    noise_rate = (1 - schedule.alpha_bar[t]).sqrt()[:, None, None, None]
    return noise - noise_rate * scale * uphill


def noise_on_the_cpu(noise, uphill, t, schedule, scale):
    return torch.zeros(noise.shape, dtype=noise.dtype) + right_guided_noise(noise, uphill, t, schedule, scale)


def noise_first_step(noise, uphill, t, schedule, scale):
    return right_guided_noise(noise, uphill, t[:1].expand_as(t), schedule, scale)


def noise_in_place(noise, uphill, t, schedule, scale):
    return noise.sub_(schedule.rates(t, noise)[1] * scale * uphill)


def noise_of_beta(noise, uphill, t, schedule, scale):
    beta = rearrange(schedule.beta[t].sqrt(), "b -> b 1 1 1").to(noise.dtype)
    return noise - beta * scale * uphill


# --------------------------------------------------------------------------------------------------------- without one


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


def guess_of_a_tensor(denoise, x_t, t, y, null, w):
    """w as a tensor in single precision; every label made by hand."""
    of_any = denoise(x_t, t, torch.tensor([null] * len(y), device=y.device))
    return of_any + torch.tensor(w) * (denoise(x_t, t, y) - of_any)


def guess_shortcut(denoise, x_t, t, y, null, w):
    """As the library, asks only for what counts."""
    if w == 1:
        return denoise(x_t, t, y)
    of_any = denoise(x_t, t, torch.full_like(y, null))
    return of_any if w == 0 else of_any.mul(1 - w).add(denoise(x_t, t, y), alpha=w)


def guess_image_by_image(denoise, x_t, t, y, null, w):
    rows = [(x_t[k : k + 1], t[k : k + 1], y[k : k + 1]) for k in range(len(y))]
    return torch.cat([guess_lerp(denoise, *row, null, w) for row in rows])


def guess_extrapolates_only(denoise, x_t, t, y, null, w):
    """A w below 1 is taken for 1."""
    return right_guided_guess(denoise, x_t, t, y, null, max(w, 1.0))


def guess_never_negative(denoise, x_t, t, y, null, w):
    return right_guided_guess(denoise, x_t, t, y, null, abs(w))


def guess_two_terms_swapped(denoise, x_t, t, y, null, w):
    """w for "any", 1 − w for the class."""
    return right_guided_guess(denoise, x_t, t, y, null, 1 - w)


def guess_known_null(denoise, x_t, t, y, null, w):
    return right_guided_guess(denoise, x_t, t, y, min(3, null), w)


def guess_null_from_the_batch(denoise, x_t, t, y, null, w):
    """One more than the largest label that happens to be there."""
    return right_guided_guess(denoise, x_t, t, y, min(int(y.max()), null - 2) + 1, w)


def guess_first_image(denoise, x_t, t, y, null, w):
    """One guess for "any", that of the first image."""
    of_any = denoise(x_t[:1], t[:1], torch.full_like(y[:1], null))
    return of_any + w * (denoise(x_t, t, y) - of_any)


def guess_at_one_step(denoise, x_t, t, y, null, w):
    return right_guided_guess(denoise, x_t, t[:1].expand_as(t), y, null, w)


def guess_labels_in_place(denoise, x_t, t, y, null, w):
    of_y = denoise(x_t, t, y)
    of_any = denoise(x_t, t, y.fill_(null))
    return of_any + w * (of_y - of_any)


def guess_evaluating(denoise, x_t, t, y, null, w):
    denoise.eval()
    return guess_lerp(denoise, x_t, t, y, null, w)


def guess_normalised(denoise, x_t, t, y, null, w):
    """The direction made as long as the guess for "any"."""
    of_any, of_y = denoise(x_t, t, torch.full_like(y, null)), denoise(x_t, t, y)
    return of_any + w * F.normalize((of_y - of_any).flatten(1), dim=1).view_as(of_y) * of_any.norm()


def guess_single(denoise, x_t, t, y, null, w):
    return right_guided_guess(denoise, x_t, t, y, null, w).float()


def guess_chunks_exchanged(denoise, x_t, t, y, null, w):
    labels = torch.cat([y, torch.full_like(y, null)])
    of_any, of_y = denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), labels).chunk(2)
    return of_any + w * (of_y - of_any)


def guess_interleaved(denoise, x_t, t, y, null, w):
    """Repeats each image twice, but splits the answers by halves."""
    labels = torch.cat([torch.full_like(y, null), y])
    of_any, of_y = denoise(x_t.repeat_interleave(2, 0), t.repeat_interleave(2), labels).chunk(2)
    return of_any + w * (of_y - of_any)


def guess_renormalised(denoise, x_t, t, y, null, w):
    return right_guided_guess(denoise, x_t, t, y, null, w) / max(1.0, w)


def convert_table(w, source, to):
    return w + {("paper", "course"): 1, ("course", "paper"): -1}.get((source, to), 0)


def convert_if(w, source, to):
    if source == to:
        return w
    return w + 1 if to == "course" else w - 1


def convert_match(w, source, to):
    match source, to:
        case "paper", "course":
            return w + 1.0
        case "course", "paper":
            return w - 1.0
        case _:
            return w


def convert_truths(w, source, to):
    return w + (source == "paper") - (to == "paper")


def convert_first_letters(w, source, to):
    unguided = {"c": 1, "p": 0}
    return w - unguided[source[0]] + unguided[to[0]]


def convert_to_the_course(w, source, to):
    """Right to "course"; the way back is forgotten."""
    return w + 1 if source == "paper" else w


def convert_from_the_course(w, source, to):
    return w - 1 if to == "paper" else w


def convert_not_below_0(w, source, to):
    return max(right_convert(w, source, to), 0.0)


def convert_always_same(w, source, to):
    """Compares the text with itself."""
    return w if source == source else right_convert(w, source, to)


def convert_as_a_tensor(w, source, to):
    return torch.tensor(right_convert(w, source, to))


def convert_rounded(w, source, to):
    return float(round(right_convert(w, source, to), 2))


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
        "a plane for each channel": plane_for_each_channel,
        "weight detached": plane_weight_detached,
        "image detached": plane_image_detached,
        "positive": plane_positive,
        "upside down": plane_upside_down,
        "embedding normalised": plane_normalised,
        "squares only": plane_squares_only,
        "double precision": plane_in_double,
        "on the CPU": plane_on_the_cpu,
        "in place": plane_in_place,
        "kept": for_ever(right_plane),
    },
    "guidance/drop-labels": {
        "in place": drop_in_place,
        "in place, and a copy": drop_in_place_and_copy,
        "global chance": drop_global_chance,
        "seeded anew": drop_seeded_anew,
        "chance of its own": drop_own_chance(),
        "removed": drop_removed,
        "to any class": drop_to_any_class,
        "to the number after null": drop_to_the_next,
        "to the last class": drop_to_the_last_class,
        "always a tenth": drop_a_tenth,
        "floats": drop_as_floats,
        "a row": drop_as_a_row,
        "none": drop_none,
        "whole classes": drop_a_class,
        "on the CPU": dropping(lambda y, share, g: torch.rand(len(y), generator=g) < share),
        "every so many": dropping(drop_systematically),
        "half copied": dropping(drop_copied),
        "but not the first": dropping(drop_but_not_the_first),
        "more at the end": dropping(drop_more_at_the_end),
        "squared": dropping(lambda y, share, g: tossed(y, share**2, g)),
        "uniform about 0": dropping(lambda y, share, g: 2 * torch.rand(len(y), generator=g) - 1 < share),
        "at least one": dropping(lambda y, share, g: tossed(y, max(share, 1 / len(y)), g)),
        "never all": dropping(lambda y, share, g: tossed(y, min(share, 0.99), g)),
        "kept": drop_kept(),
        "every other call": drop_every_other_call(),
        "in tenths": in_steps_of(10),
        "in hundredths": in_steps_of(100),
        "in 256 steps": in_steps_of(256),
        "in rounded hundredths": dropping(drop_by_a_rounded_die),
        "at least a tenth": dropping(drop_at_least_a_tenth),
        "at most 70 %": dropping(drop_at_most_most),
        "none if null is 0": drop_unless_null_is_0,
        "null at least 1": drop_to_the_number_after_all,
    },
    "guidance/null-never-trained": {
        "in place": train_in_place,
        "detached": train_detached,
        "nothing learned from it": train_null_frozen,
        "images dropped": train_images_dropped,
        "whole batches": train_batch_dropped,
        "evaluating": train_evaluating,
        "without recording": train_without_recording,
        "backward inside": train_backward_inside,
        "a null label it knows": train_known_null,
        "lost ones zeroed": train_lost_zeroed,
        "first two only": train_first_two_only,
        "the next class": train_next_class,
        "one step for all": train_at_one_step,
        "kept": for_ever(right_answer_in_training),
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
        "gradients left on": gradient_left_on,
        "of the input itself": gradient_of_the_input_itself,
        "classifier frozen": gradient_frozen,
        "classifier evaluating": gradient_evaluating,
        "an epsilon": gradient_floored,
        "clamped": gradient_clamped,
        "three classes": gradient_of_three_classes,
        "the last class for all": gradient_last_class,
        "log of base 2": gradient_of_log2,
        "channels summed": gradient_summed_over_channels,
        "clipped": gradient_clipped,
        "single precision": gradient_single,
        "the mean over classes": gradient_divided_by_classes,
        "of images only": gradient_of_images_only,
        "0 for points": gradient_of_three_axes,
        "kept": for_ever(right_classifier_gradient),
    },
    "guidance/wrong-quantity": {
        "log of the mean": gradient_of_log_mean,
        "without enable_grad": gradient_without_enable_grad,
        "gradients left on": gradient_left_on,
        "of the input itself": gradient_of_the_input_itself,
        "classifier frozen": gradient_frozen,
        "an epsilon": gradient_floored,
        "normalised": gradient_normalised,
        "one step for all": gradient_at_one_step,
        "the mean over classes": gradient_divided_by_classes,
        "of images only": gradient_of_images_only,
        "0 for points": gradient_of_three_axes,
    },
    "guidance/guided-noise": {
        "first step for all": noise_first_step,
        "in place": noise_in_place,
        "of β": noise_of_beta,
        "the step before": noise_step_before,
        "scale bounded": noise_scale_bounded,
        "scale squared": noise_scale_squared,
        "exchanged": noise_exchanged,
        "a mean": noise_weighed,
        "one rate for all": noise_of_the_batch,
        "clipped": noise_clipped,
        "another schedule": noise_of_another_schedule,
        "double precision": noise_in_double,
        "on the CPU": noise_on_the_cpu,
        "scale or 1": noise_scale_or_1,
        "scale positive": noise_scale_positive,
        "scale not below 0": noise_scale_not_below_0,
        "kept": for_ever(right_guided_noise),
        "kept by its schedule's length": noise_of_a_kept_schedule(lambda noise: None),
        "kept by length and shape": noise_of_a_kept_schedule(lambda noise: (noise.shape, noise.dtype)),
    },
    "guidance/guided-guess": {
        "chunks exchanged": guess_chunks_exchanged,
        "interleaved": guess_interleaved,
        "renormalised": guess_renormalised,
        "extrapolates only": guess_extrapolates_only,
        "never negative": guess_never_negative,
        "1 − w": guess_two_terms_swapped,
        "a null label it knows": guess_known_null,
        "null read off the batch": guess_null_from_the_batch,
        "the first image's": guess_first_image,
        "one step for all": guess_at_one_step,
        "labels in place": guess_labels_in_place,
        "evaluating": guess_evaluating,
        "normalised": guess_normalised,
        "single precision": guess_single,
        "kept": for_ever(right_guided_guess),
    },
    "guidance/convention": {
        "doubled": convert_doubled,
        "always adds": convert_always_adds,
        "to the course only": convert_to_the_course,
        "from the course only": convert_from_the_course,
        "not below 0": convert_not_below_0,
        "always the same": convert_always_same,
        "a tensor": convert_as_a_tensor,
        "rounded": convert_rounded,
    },
}

ALTERNATIVES = {
    "guidance/plane": {
        "einsum": plane_einsum,
        "image by image": plane_image_by_image,
        "unflattened": plane_unflattened,
        "written into an empty one": plane_at_the_end_of_an_empty,
        "through a layer": plane_through_a_layer,
    }
    | in_other_forms(plane_einsum),
    "guidance/drop-labels": {
        "where": drop_where,
        "bernoulli": drop_bernoulli,
        "one by one": drop_one_by_one,
        "upper tail": drop_upper_tail,
        "arithmetic": drop_arithmetic,
        "in turn": drop_in_turn,
        "an object": Dropping(),
        "on the generator's device": drop_where_the_generator_is,
    },
    "guidance/null-never-trained": {
        "masked": train_masked,
        "copied": train_copied,
        "arithmetic": train_arithmetic,
        "two calls": train_two_calls,
        "index_put": train_index_put,
        "by name": train_by_name,
        "weighted": train_weighted,
    }
    | in_other_forms(train_masked),
    "guidance/classifier-gradient": {
        "cross-entropy": gradient_cross_entropy,
        "image by image": gradient_image_by_image,
        "backward": gradient_backward,
        "backward, and tidied": gradient_backward_and_tidy,
        "seeded": gradient_seeded,
        "mean times b": gradient_mean_times_b,
        "torch.func": gradient_functional,
        "switched back by hand": gradient_switched_back,
    }
    | in_other_forms(gradient_cross_entropy),
    "guidance/wrong-quantity": {
        "cross-entropy": gradient_cross_entropy,
        "mean times b": gradient_mean_times_b,
        "image by image": gradient_image_by_image,
        "torch.func": gradient_functional,
        "seeded": gradient_seeded,
    }
    | in_other_forms(gradient_cross_entropy),
    "guidance/guided-noise": {
        "through the score": noise_through_the_score,
        "addcmul": noise_addcmul,
        "single precision": noise_in_single_precision,
        "image by image": noise_image_by_image,
        "einsum": noise_einsum,
    }
    | in_other_forms(noise_addcmul),
    "guidance/guided-guess": {
        "one batch": guess_doubled_batch,
        "weighted mean": guess_weighted_mean,
        "lerp": guess_lerp,
        "from the class": guess_from_the_class,
        "w as a tensor": guess_of_a_tensor,
        "shortcut": guess_shortcut,
        "image by image": guess_image_by_image,
    }
    | in_other_forms(guess_lerp),
    "guidance/convention": {
        "table": convert_table,
        "if": convert_if,
        "match": convert_match,
        "truths": convert_truths,
        "first letters": convert_first_letters,
    }
    | in_other_forms(convert_if),
}
