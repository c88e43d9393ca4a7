"""Wrong answers to the quizzes of notebook 07 that must be rejected, and other right ones that must be accepted."""

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_utils import diffusion as library
from course_utils.models.unet import ResidualBlock, UNet, sinusoidal_embedding
from course_utils.sampling import cfg, classifier_gradient, ddim, last
from lessons.answers import in_other_forms, kept, right, slip

right_plane = right("guidance/plane")
right_classifier_gradient = right("guidance/classifier-gradient")
right_unet = right("guidance/class-unet")
right_classifier_free = right("guidance/classifier-free")
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


# --------------------------------------------------------------------------------------------------------- without one


def guess_right(denoise, x_t, t, y, null, w):
    return right_classifier_free(denoise, w, null)(x_t, t, y)


def wrapping(guess):
    """A wrapper of a function of (denoise, x_t, t, y, null, w)."""

    def classifier_free(denoise, w, null):
        return lambda x_t, t, y: guess(denoise, x_t, t, y, null, w)

    return classifier_free


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
    return guess_right(denoise, x_t, t, y, null, max(w, 1.0))


def guess_never_negative(denoise, x_t, t, y, null, w):
    return guess_right(denoise, x_t, t, y, null, abs(w))


def guess_two_terms_swapped(denoise, x_t, t, y, null, w):
    """w for "any", 1 − w for the class."""
    return guess_right(denoise, x_t, t, y, null, 1 - w)


def guess_known_null(denoise, x_t, t, y, null, w):
    return guess_right(denoise, x_t, t, y, min(3, null), w)


def guess_null_from_the_batch(denoise, x_t, t, y, null, w):
    """One more than the largest label that happens to be there."""
    return guess_right(denoise, x_t, t, y, min(int(y.max()), null - 2) + 1, w)


def guess_first_image(denoise, x_t, t, y, null, w):
    """One guess for "any", that of the first image."""
    of_any = denoise(x_t[:1], t[:1], torch.full_like(y[:1], null))
    return of_any + w * (denoise(x_t, t, y) - of_any)


def guess_at_one_step(denoise, x_t, t, y, null, w):
    return guess_right(denoise, x_t, t[:1].expand_as(t), y, null, w)


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
    return guess_right(denoise, x_t, t, y, null, w).float()


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
    return guess_right(denoise, x_t, t, y, null, w) / max(1.0, w)


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


# -------------------------------------------------------------------------------------------------- the U-Net's class


class UNetParameter(UNet):
    """A table of one's own making, without an Embedding."""

    def __init__(self, shape, num_classes, widths=(32, 64)):
        super().__init__(shape, widths=widths)
        self.rows = nn.Parameter(torch.randn(num_classes + 1, 4 * widths[0]))

    def embed(self, t, y=None):
        row = self.rows[-1:].expand(len(t), -1) if y is None else self.rows[y]
        return F.silu(self.time(sinusoidal_embedding(t, 64)) + row)


class UNetOneHot(UNet):
    """A linear layer of ones and zeros."""

    def __init__(self, shape, num_classes, widths=(32, 64)):
        super().__init__(shape, widths)
        self.n = num_classes + 1
        self.to_embedding = nn.Linear(self.n, self.time[-1].out_features, bias=False)

    def embed(self, t, y=None):
        y = torch.full(t.shape, self.n - 1) if y is None else y
        return nn.functional.silu(self.time(sinusoidal_embedding(t)) + self.to_embedding(F.one_hot(y, self.n).float()))


class UNetForward(UNet):
    """Without a label it is made one on the way in."""

    def __init__(self, shape, num_classes, widths=(32, 64)):
        super().__init__(shape, widths)
        self.label = nn.Embedding(num_classes + 1, 4 * widths[0])

    def forward(self, x, t, y=None):
        return super().forward(x, t, torch.zeros_like(t) + self.label.num_embeddings - 1 if y is None else y)

    def embed(self, t, y):
        return F.silu(torch.add(self.label(y), self.time(sinusoidal_embedding(t))))


class UNetNoRowForAny(UNet):
    def __init__(self, shape, num_classes, widths=(32, 64)):
        super().__init__(shape, widths)
        self.classes = nn.Embedding(num_classes, 4 * widths[0])

    def embed(self, t, y=None):
        e = self.time(sinusoidal_embedding(t))
        return F.silu(e if y is None else e + self.classes(y.clamp(max=self.classes.num_embeddings - 1)))


class UNetNotLearned(UNet):
    """The table is a plain tensor: no optimizer ever sees it."""

    def __init__(self, shape, num_classes, widths=(32, 64)):
        super().__init__(shape, widths)
        self.rows = torch.randn(num_classes + 1, 4 * widths[0])

    def embed(self, t, y=None):
        y = torch.full_like(t, len(self.rows) - 1) if y is None else y
        return F.silu(self.time(sinusoidal_embedding(t)) + self.rows[y])


class UNetDetached(right_unet):
    def joined(self, of_step, of_class):
        return of_step + of_class.detach() + 0 * of_class


class UNetClassNumber(UNet):
    """The label as a number, not as a row."""

    def __init__(self, shape, num_classes, widths=(32, 64)):
        super().__init__(shape, widths)
        self.num = num_classes
        self.line = nn.Linear(1, 4 * widths[0])

    def embed(self, t, y=None):
        y = torch.full_like(t, self.num) if y is None else y
        return F.silu(self.time(sinusoidal_embedding(t)) + self.line(y[:, None].float()))


class UNetOffByOne(right_unet):
    def embed(self, t, y=None):
        return super().embed(t, y if y is None else (y + 1) % (self.any_class + 1))


class UNetNoSilu(right_unet):
    def embed(self, t, y=None):
        y = torch.full_like(t, self.any_class) if y is None else y
        return self.time(sinusoidal_embedding(t)) + self.classes(y)


class BlockWritten(nn.Module):
    """Without `class_plane`."""

    def __init__(self, in_channels, out_channels, embedding, size):
        super().__init__()
        self.size = size
        self.to_plane = nn.Linear(embedding, size[0] * size[1])
        self.inner = ResidualBlock(1 + in_channels, out_channels, embedding)

    def forward(self, x, e):
        half = e.shape[1] // 2
        plane = rearrange(self.to_plane(e[:, half:]), "b (h w) -> b 1 h w", h=self.size[0])
        return self.inner(torch.cat((x, plane), 1), e[:, :half])


class BlockSequential(BlockWritten):
    def __init__(self, in_channels, out_channels, embedding, size):
        super().__init__(in_channels, out_channels, embedding, size)
        self.to_plane = nn.Sequential(self.to_plane, nn.Unflatten(1, (1, *size)))

    def forward(self, x, e):
        step, told = torch.tensor_split(e, 2, dim=1)
        return self.inner(torch.cat([x, self.to_plane(told)], dim=1), step)


class BlockPlaneFirst(BlockWritten):
    def forward(self, x, e):
        half = e.shape[1] // 2
        plane = self.to_plane(e[:, half:]).view(len(x), 1, *self.size)
        return self.inner(torch.cat((plane, x), 1), e[:, :half])


class BlockOfEverything(BlockWritten):
    """The plane is made of step and class together."""

    def __init__(self, in_channels, out_channels, embedding, size):
        super().__init__(in_channels, out_channels, embedding, size)
        self.to_plane = nn.Linear(2 * embedding, size[0] * size[1])

    def forward(self, x, e):
        plane = self.to_plane(e).view(len(x), 1, *self.size)
        return self.inner(torch.cat((x, plane), 1), e[:, : e.shape[1] // 2])


class BlockAdded(BlockWritten):
    def __init__(self, in_channels, out_channels, embedding, size):
        super().__init__(in_channels, out_channels, embedding, size)
        self.inner = ResidualBlock(in_channels, out_channels, embedding)

    def forward(self, x, e):
        half = e.shape[1] // 2
        return self.inner(x + self.to_plane(e[:, half:]).view(len(x), 1, *self.size), e[:, :half])


class BlockUnseen(BlockWritten):
    def forward(self, x, e):
        half = e.shape[1] // 2
        plane = self.to_plane(e[:, half:]).view(len(x), 1, *self.size)
        return self.inner(torch.cat((x, 0 * plane), 1), e[:, :half])


# ---------------------------------------------------------------------------------------------------- training losses


def loss_by_the_library(model, x0, y, generator, schedule, null, share):
    """Independent steps, `add_noise`, `mse_loss`."""
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator)
    noise = torch.randn(x0.shape, generator=generator)
    target = library.prediction_target(schedule, "v", x0, noise, t)
    labels = torch.where(torch.rand(len(y), generator=generator) < share, null, y)
    return F.mse_loss(model(schedule.add_noise(x0, t, noise), t, labels), target)


def loss_labels_first(model, x0, y, generator, schedule, null, share):
    lost = torch.bernoulli(torch.full(y.shape, float(share)), generator=generator).bool()
    y = y.clone()
    y[lost] = null
    noise = torch.empty_like(x0).normal_(generator=generator)
    t = library.draw_steps(len(x0), schedule.T, generator)
    a = schedule.alpha_bar[t].view(-1, 1, 1, 1)
    signal, rate = a.sqrt().float(), (1 - a).sqrt().float()
    error = model(signal * x0 + rate * noise, t, y) - signal * noise + rate * x0
    return error.pow(2).flatten(1).mean(1).mean()


def loss_image_by_image(model, x0, y, generator, schedule, null, share):
    """A sum over the batch, divided by it."""
    t = library.draw_steps(len(x0), schedule.T, generator)
    noise = torch.randn(x0.shape, generator=generator)
    labels = library.drop_labels(y, null, share, generator)
    target = library.prediction_target(schedule, "v", x0, noise, t)
    said = model(schedule.add_noise(x0, t, noise), t, labels)
    return sum(F.mse_loss(a, b) for a, b in zip(said, target)) / len(x0)


def loss_changing(change):
    """The right loss after a change of its arguments."""
    return lambda *args: right("guidance/class-loss")(*change(*args))


def loss_in_place(model, x0, y, generator, schedule, null, share):
    y[torch.rand(len(y), generator=generator) < share] = null
    return right("guidance/class-loss")(model, x0, y, generator, schedule, null, 0.0)


def loss_detached(*args):
    return right("guidance/class-loss")(*args).detach()


def loss_of_each(model, x0, y, generator, schedule, null, share):
    """One number for each image."""
    return right("guidance/class-loss")(model, x0, y, generator, schedule, null, share).expand(len(x0))


def loss_whole_batches(model, x0, y, generator, schedule, null, share):
    lost = torch.rand((), generator=generator) < share
    y = torch.full_like(y, null) if lost else y
    return right("guidance/class-loss")(model, x0, y, generator, schedule, null, 0.0)


def loss_rooted(*args):
    return right("guidance/class-loss")(*args).sqrt()


LOSSES = {
    "always a tenth": loss_changing(lambda m, x, y, g, s, null, share: (m, x, y, g, s, null, 0.1)),
    "the share that stays": loss_changing(lambda m, x, y, g, s, null, share: (m, x, y, g, s, null, 1 - share)),
    "another null label": loss_changing(lambda m, x, y, g, s, null, share: (m, x, y, g, s, null - 1, share)),
    "global chance": loss_changing(lambda m, x, y, g, s, null, share: (m, x, y, None, s, null, share)),
    "seeded anew": loss_changing(
        lambda m, x, y, g, s, n, share: (m, x, y, torch.Generator().manual_seed(1), s, n, share)
    ),
    "in place": loss_in_place,
    "detached": loss_detached,
    "one for each image": loss_of_each,
    "whole batches": loss_whole_batches,
    "the root": loss_rooted,
}
RIGHT_LOSSES = {
    "by the library's parts": loss_by_the_library,
    "labels first": loss_labels_first,
    "image by image": loss_image_by_image,
} | in_other_forms(loss_by_the_library)  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- coverage


def coverage_kthvalue(real, generated, k=5):
    among = (real[:, None] - real[None]).square().sum(-1)
    reach = among.kthvalue(k + 1, dim=1).values
    far = (real[:, None] - generated[None]).square().sum(-1).amin(1)
    return float((far <= reach).float().mean())


def coverage_topk(real, generated, k=5):
    among = torch.cdist(real, real)
    among.fill_diagonal_(float("inf"))
    reach = among.topk(k, largest=False).values[:, -1]
    return ((torch.cdist(generated, real) <= reach).any(dim=0).sum() / len(real)).item()


def coverage_one_by_one(real, generated, k=5):
    covered = 0
    for i, image in enumerate(real):
        others = sorted((image - other).norm().item() for j, other in enumerate(real) if j != i)
        covered += min((image - other).norm().item() for other in generated) <= others[k - 1]
    return covered / len(real)


def coverage_as_a_tensor(real, generated, k=5):
    return torch.tensor(right("guidance/coverage")(real, generated, k))


def coverage_always_5(real, generated, k=5):
    return right("guidance/coverage")(real, generated, 5)


def coverage_of_one_reach(real, generated, k=5):
    """A mean reach for all balls."""
    reach = torch.cdist(real, real).sort(1).values[:, k].mean()
    return (torch.cdist(real, generated).amin(1) <= reach).double().mean().item()


def coverage_percent(real, generated, k=5):
    return 100 * right("guidance/coverage")(real, generated, k)


# ---------------------------------------------------------------------------------------------- a classifier of noise


class PooledClassifier(nn.Module):
    """Pooling, batch norm, the step told to the features."""

    def __init__(self, shape, num_classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(shape[0], 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.step = nn.Linear(64, 16)
        self.out = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, num_classes))

    def forward(self, x, t):
        return self.out(self.body(x) + self.step(sinusoidal_embedding(t)))


class ScaledClassifier(nn.Module):
    """Residual blocks that scale and shift, ln p at the end."""

    def __init__(self, shape, classes):
        super().__init__()
        self.stem, self.block = nn.Conv2d(shape[0], 16, 4, stride=4), ResidualBlock(16, 16, 64)
        self.head = nn.Linear(16, classes)

    def forward(self, x_t, t):
        h = self.block(self.stem(x_t), F.silu(sinusoidal_embedding(t)))
        return self.head(h.mean((-1, -2))).log_softmax(-1)


class PlaneClassifier(nn.Module):
    """The step as one more channel, and a dense layer over all pixels."""

    def __init__(self, shape, num_classes):
        super().__init__()
        c, h, w = shape
        self.a, self.b = nn.Conv2d(c + 1, 12, 3, stride=2, padding=1), nn.Conv2d(12, 12, 3, stride=2, padding=1)
        self.head = nn.Linear(12 * (h // 4) * (w // 4), num_classes)

    def forward(self, x, t):
        level = (t.float() / 1000).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        return self.head(self.b(self.a(torch.cat([x, level], 1)).relu()).relu().flatten(1))


class NormedAway(PooledClassifier):
    """What the step adds to a whole channel, a norm of that channel takes away again."""

    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        self.first, self.told = nn.Conv2d(shape[0], 8, 3, padding=1), nn.Linear(64, 8)
        self.norm, self.head = nn.InstanceNorm2d(8), nn.Linear(8, num_classes)
        del self.body, self.step, self.out

    def forward(self, x, t):
        h = self.norm(self.first(x) + self.told(sinusoidal_embedding(t))[:, :, None, None])
        return self.head(h.relu().mean((2, 3)))


class FeaturesOnly(PooledClassifier):
    def forward(self, x, t):
        return self.body(x) + self.step(sinusoidal_embedding(t))


class UnusedPart(PooledClassifier):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        self.time = nn.Linear(64, 16)

    def forward(self, x, t):
        return super().forward(x, t)


class OfTheMeanStep(PooledClassifier):
    def forward(self, x, t):
        return super().forward(x, t.float().mean().expand(len(t)))


class OfTheStepAlone(PooledClassifier):
    def forward(self, x, t):
        return self.out(0 * self.body(x) + self.step(sinusoidal_embedding(t)))


class SumsAway(PooledClassifier):
    """One number for each image."""

    def forward(self, x, t):
        return super().forward(x, t).sum(1)


# ------------------------------------------------------------------------------------------------------- its training


def training_enumerated(classifier, batches, schedule, optimizer, generator):
    found = []
    for _, batch in enumerate(batches):
        images, labels = batch
        noise = torch.empty_like(images).normal_(generator=generator)
        t = library.draw_steps(len(labels), schedule.T, generator)
        signal, rate = schedule.rates(t, images)
        loss = -classifier(signal * images + rate * noise, t).log_softmax(1).gather(1, labels[:, None]).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        found.append(float(loss.detach()))
    return found


def training_while(classifier, batches, schedule, optimizer, generator):
    losses = []
    while (batch := next(batches, None)) is not None:
        losses.append(_one_step(classifier, *batch, schedule, optimizer, generator))
    return losses


def _one_step(classifier, x0, y, schedule, optimizer, generator):
    t = (torch.rand(len(x0), generator=generator) * schedule.T).long() + 1
    x_t = schedule.add_noise(x0, t, torch.randn(x0.shape, generator=generator))
    optimizer.zero_grad()
    loss = nn.CrossEntropyLoss()(classifier(x_t, t), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def training_by_comprehension(classifier, batches, schedule, optimizer, generator):
    classifier.train()
    return [_one_step(classifier, x0, y, schedule, optimizer, generator) for x0, y in batches]


def training_tensors(*args):
    return [torch.tensor(loss) for loss in training_while(*args)]


def training_last(*args):
    return training_while(*args)[-1]


def training_one_too_few(classifier, batches, schedule, optimizer, generator):
    next(batches)
    return training_while(classifier, batches, schedule, optimizer, generator)


def training_from_zero(classifier, batches, schedule, optimizer, generator):
    losses = []
    for x0, y in batches:
        t = torch.randint(0, schedule.T, (len(x0),), generator=generator)
        x_t = schedule.add_noise(x0, t, torch.randn(x0.shape, generator=generator))
        loss = F.cross_entropy(classifier(x_t, t), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def training_other_t(classifier, batches, schedule, optimizer, generator):
    """Noised to one step, told another."""
    other = lambda x, t: classifier(x, t.flip(0))  # noqa: E731
    return [_one_step(other, x0, y, schedule, optimizer, generator) for x0, y in batches]


def training_global_chance(classifier, batches, schedule, optimizer, generator):
    return training_while(classifier, batches, schedule, optimizer, None)


def training_twice_each(classifier, batches, schedule, optimizer, generator):
    return [[_one_step(classifier, x0, y, schedule, optimizer, generator) for _ in range(2)][-1] for x0, y in batches]


def training_same_noise(classifier, batches, schedule, optimizer, generator):
    state, losses = generator.get_state(), []
    for x0, y in batches:
        generator.set_state(state)
        losses.append(_one_step(classifier, x0, y, schedule, optimizer, generator))
    return losses


def training_uniform_noise(classifier, batches, schedule, optimizer, generator):
    losses = []
    for x0, y in batches:
        t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator)
        x_t = schedule.add_noise(x0, t, torch.rand(x0.shape, generator=generator))
        loss = F.cross_entropy(classifier(x_t, t), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# ---------------------------------------------------------------------------------------------------------- led by it


def led_through_the_score(denoise, schedule, classifier, scale):
    def guided(x_t, t, y):
        a = schedule.alpha_bar_at(t, x_t)
        x0 = denoise(x_t, t)
        score = (a.sqrt() * x0 - x_t) / (1 - a) + scale * classifier_gradient(classifier, x_t, t, y)
        return (x_t + (1 - a) * score) / a.sqrt()

    return guided


def led_in_one_line(denoise, schedule, classifier, scale):
    def guided(x_t, t, y=None):
        signal, noise = schedule.rates(t, x_t)
        return denoise(x_t, t) + scale * noise**2 / signal * classifier_gradient(classifier, x_t, t, y)

    return guided


class Led:
    """An object."""

    def __init__(self, denoise, schedule, classifier, scale):
        self.denoise, self.schedule, self.classifier, self.scale = denoise, schedule, classifier, scale

    def __call__(self, x_t, t, y):
        uphill = classifier_gradient(self.classifier, x_t, t, y)
        noise = library.predict_noise(self.schedule, self.denoise(x_t, t), x_t, t)
        noise = noise - self.schedule.rates(t, x_t)[1] * uphill * self.scale
        return library.predict_x0(self.schedule, "noise", noise, x_t, t)


def led_by_cross_entropy(denoise, schedule, classifier, scale):
    def guided(x_t, t, y):
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            (downhill,) = torch.autograd.grad(F.cross_entropy(classifier(x, t), y, reduction="sum"), x)
        noise = library.predict_noise(schedule, denoise(x_t, t), x_t, t)
        return library.predict_x0(schedule, "noise", noise + schedule.rates(t, x_t)[1] * scale * downhill, x_t, t)

    return guided


def led_mean_times_b(denoise, schedule, classifier, scale):
    def guided(x_t, t, y):
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            (downhill,) = torch.autograd.grad(F.cross_entropy(classifier(x, t), y) * len(y), x)
        noise = library.predict_noise(schedule, denoise(x_t, t), x_t, t)
        return library.predict_x0(schedule, "noise", noise + schedule.rates(t, x_t)[1] * scale * downhill, x_t, t)

    return guided


def led_changing(change):
    return lambda *args: led_in_one_line(*change(*args))


def led_at(change):
    """The right wrapper, asked with a change of (x_t, t, y)."""
    return lambda *args: lambda x_t, t, y: led_in_one_line(*args)(*change(x_t, t, y))


def led_clipped(*args):
    return lambda x_t, t, y: led_in_one_line(*args)(x_t, t, y).clamp(-1, 1)


def led_noise(denoise, schedule, classifier, scale):
    """Gives the noise, not the clean guess."""
    guided = led_in_one_line(denoise, schedule, classifier, scale)
    return lambda x_t, t, y: library.predict_noise(schedule, guided(x_t, t, y), x_t, t)


LED = {
    "clipped": led_clipped,
    "the noise": led_noise,
    "scale squared": led_changing(lambda d, s, c, scale: (d, s, c, scale**2)),
    "scale positive": led_changing(lambda d, s, c, scale: (d, s, c, abs(scale))),
    "scale bounded": led_changing(lambda d, s, c, scale: (d, s, c, min(scale, 5.0))),
    "another schedule": led_changing(lambda d, s, c, scale: (d, library.cosine_schedule(s.T), c, scale)),
    "first step for all": led_at(lambda x, t, y: (x, t[:1].expand_as(t), y)),
    "first class for all": led_at(lambda x, t, y: (x, t, y[:1].expand_as(y))),
    "in single precision": lambda *args: lambda x_t, t, y: led_in_one_line(*args)(x_t, t, y).float(),
}
RIGHT_LED = {
    "through the score": led_through_the_score,
    "in one line": led_in_one_line,
    "an object": Led,
    "cross-entropy": led_by_cross_entropy,
    "mean times b": led_mean_times_b,
}


# ----------------------------------------------------------------------------------------------------- ask, and sweep


def ask_nested(denoise, schedule, y, w, null, noise, steps):
    def in_range(x_t, t, labels):
        of_any = denoise(x_t, t, torch.full_like(labels, null))
        return torch.clamp(of_any + w * (denoise(x_t, t, labels) - of_any), -1.0, 1.0)

    for step in ddim(in_range, schedule, noise, steps, y):
        images = step.x
    return images


def ask_lambda(denoise, schedule, y, w, null, noise, steps):
    guided = cfg(denoise, w, null)
    return list(ddim(lambda *args: guided(*args).clip(-1, 1), schedule, noise, steps, y))[-1].x


def ask_given_labels(denoise, schedule, y, w, null, noise, steps):
    """The labels are in the wrapper, and the walk isn't told any."""
    guided = cfg(denoise, w, null)
    return last(ddim(lambda x_t, t, _: guided(x_t, t, y).clamp(min=-1).clamp(max=1), schedule, noise, steps))


def ask_changing(change):
    return lambda *args: ask_nested(*change(*args))


def ask_tanh(denoise, schedule, y, w, null, noise, steps):
    guided = cfg(denoise, w, null)
    return last(ddim(lambda *args: guided(*args).tanh(), schedule, noise, steps, y))


def ask_walk(denoise, schedule, y, w, null, noise, steps):
    """The whole walk."""
    guided = cfg(denoise, w, null)
    return torch.stack([s.x for s in ddim(lambda *args: guided(*args).clamp(-1, 1), schedule, noise, steps, y)])


def sweep_loops(sample, score, strengths, seeds):
    means, errors = [], []
    for w in strengths:
        found = torch.tensor([score(sample(w, seed)) for seed in seeds], dtype=torch.float64)
        means.append(found.mean(0))
        errors.append(found.std(0) / torch.tensor(len(seeds)).sqrt())
    return torch.stack(means), torch.stack(errors)


def sweep_numbers(sample, score, strengths, seeds):
    """By hand."""
    means, errors = torch.zeros(len(strengths), 2), torch.zeros(len(strengths), 2)
    for i, w in enumerate(strengths):
        found = [score(sample(w, seed)) for seed in seeds]
        for k in range(2):
            values = [pair[k] for pair in found]
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
            means[i, k], errors[i, k] = mean, (variance / len(values)) ** 0.5
    return means, errors


def sweep_var(sample, score, strengths, seeds):
    scores = torch.tensor([[score(sample(w, seed)) for w in strengths] for seed in seeds])
    return scores.mean(0), (scores.var(0) / len(seeds)).sqrt()


def sweep_over_strengths(sample, score, strengths, seeds):
    """The wrong axis: right shapes only where there are as many seeds as strengths."""
    scores = torch.tensor([[score(sample(w, seed)) for seed in seeds] for w in strengths])
    return scores.mean(0), scores.std(0, correction=0) / len(strengths) ** 0.5


def sweep_first_seed(sample, score, strengths, seeds):
    means, errors = sweep_var(sample, score, strengths, seeds)
    return torch.tensor([score(sample(w, seeds[0])) for w in strengths]), errors


def sweep_exchanged(*args):
    return sweep_var(*args)[::-1]


def sweep_doubled(*args):
    means, errors = sweep_var(*args)
    return means, 2 * errors


def confusion_bincount(asked, seen, classes):
    table = torch.bincount(asked * classes + seen, minlength=classes**2).view(classes, classes).float()
    return table / table.sum(1)[:, None]


def confusion_one_hot(asked, seen, classes):
    rows, columns = F.one_hot(asked, classes).float(), F.one_hot(seen, classes).float()
    return rows.T @ columns / rows.sum(0)[:, None]


def confusion_loops(asked, seen, classes):
    table = torch.zeros(classes, classes)
    for k in range(classes):
        for j in range(classes):
            table[k, j] = (seen[asked == k] == j).float().mean()
    return table


def confusion_written_over(asked, seen, classes):
    """Each pair counts once."""
    table = torch.zeros(classes, classes)
    table[asked, seen] += 1
    return table / table.sum(1, keepdim=True)


def confusion_normed_wrongly(asked, seen, classes):
    """The sums of the rows divide the columns."""
    table = torch.zeros(classes, classes).index_put_((asked, seen), torch.ones(len(asked)), accumulate=True)
    return table / table.sum(1)


def confusion_softmax(asked, seen, classes):
    table = torch.zeros(classes, classes).index_put_((asked, seen), torch.ones(len(asked)), accumulate=True)
    return table.softmax(1)


def between_inline(denoise, w, null, low, high):
    def guided(x_t, t, y):
        of_y = denoise(x_t, t, y)
        if t[0] < low or t[0] > high:
            return of_y
        of_any = denoise(x_t, t, torch.full_like(y, null))
        return torch.lerp(of_any, of_y, w)

    return guided


def between_by_strength(denoise, w, null, low, high):
    """w(t) first: the library asks for one answer where it is 1."""
    return lambda x_t, t, y: cfg(denoise, w if low <= t[0].item() <= high else 1.0, null)(x_t, t, y)


def between_conditional(denoise, w, null, low, high):
    inside = cfg(denoise, w, null)
    return lambda x_t, t, y: inside(x_t, t, y) if bool((t >= low).all() and (t <= high).all()) else denoise(x_t, t, y)


def between_masked(denoise, w, null, low, high):
    """Right numbers, every answer asked for at every step."""

    def guided(x_t, t, y):
        strong = ((low <= t) & (t <= high)).view(-1, 1, 1, 1)
        return torch.where(strong, cfg(denoise, w, null)(x_t, t, y), denoise(x_t, t, y))

    return guided


def between_shares(denoise, w, null, low, high):
    """Takes the interval for one of hundredths."""
    return between_inline(denoise, w, null, low * 2, high * 2)


def between_one_end(denoise, w, null, low, high):
    return between_inline(denoise, w, null, low, high - 1)


def between_any_outside(denoise, w, null, low, high):
    return lambda x_t, t, y: cfg(denoise, w if low <= t[0].item() <= high else 0.0, null)(x_t, t, y)


def beats_numpy(one, other):
    one, other = torch.tensor(one, dtype=torch.float64), torch.tensor(other, dtype=torch.float64)
    bar = torch.hypot(one[2:], other[2:])
    gain = one[:2] - other[:2]
    return bool((gain > bar).any() and (gain >= -bar).all())


def beats_ifs(one, other):
    cover, right, d_cover, d_right = one
    cover2, right2, d_cover2, d_right2 = other
    bar1 = (d_cover**2 + d_cover2**2) ** 0.5
    bar2 = (d_right**2 + d_right2**2) ** 0.5
    if cover2 - cover > bar1 or right2 - right > bar2:
        return False
    return cover - cover2 > bar1 or right - right2 > bar2


def beats_gains(one, other):
    gains = [(a - b) / (c * c + d * d) ** 0.5 for a, b, c, d in zip(one[:2], other[:2], one[2:], other[2:])]
    return max(gains) > 1 and min(gains) > -1


def beats_backwards(one, other):
    return beats_ifs(other, one)


def beats_by_the_sum(one, other):
    """The sum of both gains against the bars of all."""
    bars = sum(bar**2 for bar in (*one[2:], *other[2:])) ** 0.5
    return sum(one[:2]) - sum(other[:2]) > bars


def beats_by_its_own_bars(one, other):
    return beats_ifs(one, (*other[:2], 0.0, 0.0))


def wishes_in_one_batch(denoise, w, null):
    def guided(x_t, t, wishes):
        labels = torch.cat([torch.full_like(wishes[:, :1], null), wishes], 1).T
        said = denoise(x_t.repeat(len(labels), 1, 1, 1), t.repeat(len(labels)), labels.flatten())
        of_any, *of_each = said.chunk(len(labels))
        return of_any + sum(w * (each - of_any) for each in of_each)

    return guided


def wishes_weighted(denoise, w, null):
    def guided(x_t, t, wishes):
        m = wishes.shape[1]
        of_any = denoise(x_t, t, torch.full((len(t),), null, device=t.device))
        return (1 - w * m) * of_any + w * torch.stack([denoise(x_t, t, y) for y in wishes.unbind(1)]).sum(0)

    return guided


def wishes_by_guidance(denoise, w, null):
    """One guided denoiser for each wish; the guess for any is subtracted again."""
    one = cfg(denoise, w, null)

    def guided(x_t, t, wishes):
        of_any = denoise(x_t, t, torch.full_like(wishes[:, 0], null))
        total = of_any.clone()
        for k in range(wishes.shape[1]):
            total += one(x_t, t, wishes[:, k]) - of_any
        return total

    return guided


def wishes_two(denoise, w, null):
    """Never more than two."""
    return lambda x_t, t, wishes: wishes_weighted(denoise, w, null)(x_t, t, wishes[:, :2])


def wishes_clipped(denoise, w, null):
    return lambda x_t, t, wishes: wishes_weighted(denoise, w, null)(x_t, t, wishes).clamp(-1, 1)


def wishes_shared(denoise, w, null):
    """The strength is shared out."""
    return lambda x_t, t, wishes: wishes_weighted(denoise, w / wishes.shape[1], null)(x_t, t, wishes)


MUTANTS = {
    "guidance/beats": {
        "the other way round": beats_backwards,
        "the sum of both": beats_by_the_sum,
        "its own bars": beats_by_its_own_bars,
    },
    "guidance/two-wishes": {"two at most": wishes_two, "clipped": wishes_clipped, "shared out": wishes_shared},
    "guidance/class-unet": {
        "no row for any": UNetNoRowForAny,
        "a plain tensor": UNetNotLearned,
        "detached": UNetDetached,
        "a number for a class": UNetClassNumber,
        "off by one": UNetOffByOne,
        "without the SiLU": UNetNoSilu,
    },
    "guidance/plane-block": {
        "plane first": BlockPlaneFirst,
        "a plane of step and class": BlockOfEverything,
        "added": BlockAdded,
        "unseen": BlockUnseen,
    },
    "guidance/class-loss": LOSSES,
    "guidance/somebody-elses-loss": LOSSES,
    "guidance/coverage": {
        "a tensor": coverage_as_a_tensor,
        "k always 5": coverage_always_5,
        "one reach for all": coverage_of_one_reach,
        "percent": coverage_percent,
    },
    "guidance/noisy-classifier": {
        "normed away": NormedAway,
        "features only": FeaturesOnly,
        "an unused part": UnusedPart,
        "the mean step": OfTheMeanStep,
        "the step alone": OfTheStepAlone,
        "one number": SumsAway,
    },
    "guidance/train-classifier": {
        "tensors": training_tensors,
        "the last loss": training_last,
        "one batch too few": training_one_too_few,
        "from step 0": training_from_zero,
        "another t told": training_other_t,
        "global chance": training_global_chance,
        "twice each": training_twice_each,
        "the same noise every time": training_same_noise,
        "uniform noise": training_uniform_noise,
    },
    "guidance/with-classifier": LED,
    "guidance/somebody-elses-guide": LED,
    "guidance/ask-for": {
        "one step too many": ask_changing(lambda d, s, y, w, null, noise, steps: (d, s, y, w, null, noise, steps + 1)),
        "w for 1 − w": ask_changing(lambda d, s, y, w, null, noise, steps: (d, s, y, 1 - w, null, noise, steps)),
        "noise clipped": ask_changing(lambda d, s, y, w, n, z, steps: (d, s, y, w, n, z.clamp(-1, 1), steps)),
        "another null": ask_changing(lambda d, s, y, w, null, noise, steps: (d, s, y, w, null - 1, noise, steps)),
        "tanh": ask_tanh,
        "the whole walk": ask_walk,
    },
    "guidance/sweep": {
        "over the strengths": sweep_over_strengths,
        "the first seed's": sweep_first_seed,
        "exchanged": sweep_exchanged,
        "two errors": sweep_doubled,
    },
    "guidance/confusion": {
        "written over": confusion_written_over,
        "the columns divided": confusion_normed_wrongly,
        "softmax": confusion_softmax,
    },
    "guidance/guided-between": {
        "masked": between_masked,
        "shares": between_shares,
        "one end": between_one_end,
        "any outside": between_any_outside,
    },
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
    "guidance/classifier-free": {
        "chunks exchanged": wrapping(guess_chunks_exchanged),
        "interleaved": wrapping(guess_interleaved),
        "renormalised": wrapping(guess_renormalised),
        "extrapolates only": wrapping(guess_extrapolates_only),
        "never negative": wrapping(guess_never_negative),
        "1 − w": wrapping(guess_two_terms_swapped),
        "a null label it knows": wrapping(guess_known_null),
        "null read off the batch": wrapping(guess_null_from_the_batch),
        "the first image's": wrapping(guess_first_image),
        "one step for all": wrapping(guess_at_one_step),
        "labels in place": wrapping(guess_labels_in_place),
        "evaluating": wrapping(guess_evaluating),
        "normalised": wrapping(guess_normalised),
        "single precision": wrapping(guess_single),
        "kept": wrapping(for_ever(guess_right)),
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
    "guidance/beats": {"tensors": beats_numpy, "ifs": beats_ifs, "in bars": beats_gains},
    "guidance/two-wishes": {
        "one batch": wishes_in_one_batch,
        "weighted": wishes_weighted,
        "guided one by one": wishes_by_guidance,
    },
    "guidance/class-unet": {"a parameter": UNetParameter, "one-hot": UNetOneHot, "in its forward": UNetForward},
    "guidance/plane-block": {"written out": BlockWritten, "in sequence": BlockSequential},
    "guidance/class-loss": RIGHT_LOSSES,
    "guidance/somebody-elses-loss": RIGHT_LOSSES,
    "guidance/coverage": {
        "kthvalue": coverage_kthvalue,
        "topk": coverage_topk,
        "one by one": coverage_one_by_one,
    },
    "guidance/noisy-classifier": {
        "pooled": PooledClassifier,
        "scaled and shifted": ScaledClassifier,
        "the step as a plane": PlaneClassifier,
    },
    "guidance/train-classifier": {
        "enumerated": training_enumerated,
        "while": training_while,
        "comprehension": training_by_comprehension,
    },
    "guidance/with-classifier": RIGHT_LED,
    "guidance/somebody-elses-guide": RIGHT_LED,
    "guidance/ask-for": {"nested": ask_nested, "lambda": ask_lambda, "labels within": ask_given_labels},
    "guidance/sweep": {"loops": sweep_loops, "by hand": sweep_numbers, "variance": sweep_var},
    "guidance/confusion": {
        "bincount": confusion_bincount,
        "one-hot": confusion_one_hot,
        "loops": confusion_loops,
    },
    "guidance/guided-between": {
        "inline": between_inline,
        "by its strength": between_by_strength,
        "both ends": between_conditional,
    },
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
    "guidance/classifier-free": {
        "one batch": wrapping(guess_doubled_batch),
        "weighted mean": wrapping(guess_weighted_mean),
        "lerp": wrapping(guess_lerp),
        "from the class": wrapping(guess_from_the_class),
        "w as a tensor": wrapping(guess_of_a_tensor),
        "shortcut": wrapping(guess_shortcut),
        "image by image": wrapping(guess_image_by_image),
    }
    | in_other_forms(wrapping(guess_lerp)),
    "guidance/convention": {
        "table": convert_table,
        "if": convert_if,
        "match": convert_match,
        "truths": convert_truths,
        "first letters": convert_first_letters,
    }
    | in_other_forms(convert_if),
}
