"""Wrong answers to the quizzes of notebook 10 that must be rejected, and other right ones that must be accepted."""

from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from course_utils import diffusion
from course_utils.flow import convert, on_straight_path
from course_utils.sampling import cfg, clipped

from .answers import in_other_forms, kept, right, slip

# --------------------------------------------------------------------------------------- 10.1 · another way to mix


def path_by_lerp(x0, noise, u):
    share = u.view(len(u), *([1] * (x0.ndim - 1)))
    return torch.lerp(x0, noise, share.expand_as(x0)), noise.sub(x0)


def path_row_by_row(x0, noise, u):
    places = [a + share * (b - a) for a, b, share in zip(x0, noise, u)]
    return torch.stack(places), torch.stack([b - a for a, b in zip(x0, noise)])


def path_of_the_first_time(x0, noise, u):
    return (1 - u[0]) * x0 + u[0] * noise, noise - x0


def path_normalised(x0, noise, u):
    x_u, velocity = right("flows/straight-path")(x0, noise, u)
    return x_u / ((1 - u) ** 2 + u**2).sqrt().reshape(-1, *[1] * (x0.ndim - 1)), velocity


def marginal_by_means(x, u, data):
    """E ε and E x₀ apart: their difference is the mean velocity."""
    squares = torch.cdist(x, (1 - u) * data).square() / u**2
    weights = torch.softmax(-0.5 * squares, dim=1)
    x0 = weights @ data
    return (x - x0) / u


def marginal_by_logsumexp(x, u, data):
    rows = []
    for place in x:
        noise = (place - (1 - u) * data) / u
        log_w = -noise.square().sum(1) / 2
        w = (log_w - log_w.logsumexp(0)).exp()
        rows.append((w[:, None] * (noise - data)).sum(0))
    return torch.stack(rows)


def marginal_of_the_nearest(x, u, data):
    """The most probable line alone."""
    noise = (x[:, None] - (1 - u) * data) / u
    best = noise.square().sum(-1).argmin(1)
    return (noise - data)[torch.arange(len(x)), best]


def marginal_over_places(x, u, data):
    """Softmax along the wrong axis."""
    noise = (x[:, None] - (1 - u) * data) / u
    w = (-noise.square().sum(-1) / 2).softmax(0)
    return (w[..., None] * (noise - data)).sum(1)


def marginal_noise(x, u, data):
    noise = (x[:, None] - (1 - u) * data) / u
    w = (-noise.square().sum(-1) / 2).softmax(1)
    return (w[..., None] * noise).sum(1)


def euler_by_index(velocity, x, us):
    places = [x]
    for k in range(len(us) - 1):
        here = places[-1]
        places.append(here - (us[k] - us[k + 1]) * velocity(here, us[k]))
    return places


def euler_recursive(velocity, x, us):
    if len(us) == 1:
        return [x]
    return [x, *euler_recursive(velocity, x + (us[1] - us[0]) * velocity(x, us[0]), us[1:])]


def euler_of_the_first_velocity(velocity, x, us):
    """Asks once, and follows that."""
    v = velocity(x, us[0])
    return [x + (u - us[0]) * v for u in us]


def euler_at_the_middle(velocity, x, us):
    places = [x]
    for u, after in pairwise(us):
        places.append(places[-1] + (after - u) * velocity(places[-1], (u + after) / 2))
    return places


# ------------------------------------------------------------------------------- 10.2 · the model you have is a flow


def alpha_bar_by_ratio(T):
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    return 1 / (1 + (u / (1 - u)).square())


def alpha_bar_step_by_step(T):
    rows = []
    for t in range(T + 1):
        a, b = T - t, t
        rows.append(a * a / (a * a + b * b))
    return torch.tensor(rows, dtype=torch.float64)


def alpha_bar_float32(T):
    return right("flows/alpha-bar")(T).float()


def alpha_bar_squared_shares(T):
    u = torch.arange(T + 1, dtype=torch.float64) / T
    return 1 - u**2


def velocity_by_noise(denoise, schedule, y=None):
    """By way of ε̂, from x_t, and with a step for each row."""

    def velocity(x_u, u):
        alpha_bar = schedule.alpha_bar
        noise_share = (1 - alpha_bar).sqrt() / (alpha_bar.sqrt() + (1 - alpha_bar).sqrt())
        t = (noise_share - u).abs().argmin().expand(len(x_u)).contiguous()
        a, b = schedule.rates(t, x_u)
        x_t = (a + b) * x_u
        x0 = denoise(x_t, t, y)
        return (x_t - a * x0) / b - x0

    return velocity


def velocity_by_search(denoise, schedule, y=None):
    a, b = schedule.alpha_bar**0.5, (1 - schedule.alpha_bar) ** 0.5
    table = {round((b[t] / (a[t] + b[t])).item(), 9): t for t in range(schedule.T + 1)}

    def velocity(x_u, u):
        t = table[round(u, 9)]
        x0 = denoise(float(a[t] + b[t]) * x_u, torch.tensor([t] * len(x_u)), y)
        return x_u / u - x0 / u

    return velocity


def velocity_is_noise(denoise, schedule, y=None):
    velocity = right("flows/velocity-of")(denoise, schedule, y)
    return lambda x_u, u: x_u + (1 - u) * velocity(x_u, u)


def velocity_of_even_steps(denoise, schedule, y=None):
    """Takes u for t / T, whatever the schedule."""
    a, b = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()

    def velocity(x_u, u):
        t = max(1, round(u * schedule.T))
        x0 = denoise((a[t] + b[t]).item() * x_u, torch.full((len(x_u),), t), y)
        return (x_u - x0) / u if schedule.name != "flow" else (x_u - 0.99 * x0) / u

    return velocity


def convert_by_solve(schedule, given, wanted, value, x_t, t):
    """The two equations as a system, for each row."""
    a, b = (rate.flatten() for rate in schedule.rates(t, x_t))
    one, zero = torch.ones_like(a), torch.zeros_like(a)
    table = {"x0": (one, zero), "noise": (zero, one), "v": (-b, a), "velocity": (-one, one), "score": (zero, -1 / b)}
    matrix = torch.stack([torch.stack(table[given], 1), torch.stack([a, b], 1)], 1)
    both = torch.stack([value.flatten(1), x_t.flatten(1)], 1)
    found = torch.linalg.solve(matrix, both)
    return (torch.stack(table[wanted], 1)[:, None] @ found)[:, 0].reshape(x_t.shape)


def convert_via_x0(schedule, given, wanted, value, x_t, t):
    """Formula by formula."""
    a, b = schedule.rates(t, x_t)
    x0 = {
        "x0": lambda: value,
        "noise": lambda: (x_t - b * value) / a,
        "v": lambda: a * x_t - b * value,
        "velocity": lambda: (x_t - b * value) / (a + b),
        "score": lambda: (x_t + b * b * value) / a,
    }[given]()
    noise = (x_t - a * x0) / b
    return {"x0": x0, "noise": noise, "v": a * noise - b * x0, "velocity": noise - x0, "score": -noise / b}[wanted]


def convert_first_step(schedule, given, wanted, value, x_t, t):
    """The rates of the first image for all."""
    return right("flows/convert")(schedule, given, wanted, value, x_t, t[:1].expand_as(t).contiguous())


def convert_there_and_back(schedule, given, wanted, value, x_t, t):
    return right("flows/convert")(schedule, wanted, given, value, x_t, t)


# ---------------------------------------------------------------------------------------- 10.3 · a flow of your own


def loss_by_mse(model, x0, y, noise, t, schedule):
    return F.mse_loss(model(schedule.add_noise(x0, t, noise), t, y), noise - x0)


def loss_by_images(model, x0, y, noise, t, schedule):
    a, b = schedule.rates(t, x0)
    error = model(a * x0 + b * noise, t, y) + x0 - noise
    return error.pow(2).flatten(1).mean(1).mean()


def loss_without_the_network(model, x0, y, noise, t, schedule):
    """No gradient reaches the network."""
    with torch.no_grad():
        said = model(schedule.add_noise(x0, t, noise), t, y)
    return (said - (noise - x0)).square().mean()


def loss_root(model, x0, y, noise, t, schedule):
    return right("flows/loss")(model, x0, y, noise, t, schedule).sqrt()


def loss_label_zero(model, x0, y, noise, t, schedule):
    return right("flows/loss")(model, x0, torch.zeros_like(y), noise, t, schedule)


def steps_by_distribution(r, T, mean=0.0, std=1.0):
    normal = torch.distributions.Normal(torch.tensor(mean, dtype=r.dtype), torch.tensor(std, dtype=r.dtype))
    u = 1 / (1 + (-normal.icdf(r)).exp())
    return torch.clamp(torch.ceil(u * T), 1, T).to(torch.int64)


def steps_by_erfinv(r, T, mean=0.0, std=1.0):
    z = 2**0.5 * torch.erfinv(2 * r.double() - 1).to(r.dtype)
    return (T * torch.sigmoid(z * std + mean)).ceil().int().clamp(min=1, max=T).long()


def steps_standard(r, T, mean=0.0, std=1.0):
    return right("flows/logit-normal")(r, T)


def steps_variance(r, T, mean=0.0, std=1.0):
    return right("flows/logit-normal")(r, T, mean, std**2)


def steps_turned(r, T, mean=0.0, std=1.0):
    return right("flows/logit-normal")(1 - r, T, mean, std)


def heun_by_euler(velocity, x, us):
    """Euler's stride as a function of its own, twice."""

    def stride(slope, u, after):
        return x + (after - u) * slope

    places = [x]
    for u, after in pairwise(us):
        one = velocity(x, u)
        guess = stride(one, u, after)
        x = guess if after == 0 else stride(0.5 * one + 0.5 * velocity(guess, after), u, after)
        places.append(x)
    return places


def heun_by_index(velocity, x, us):
    places, k = [x], 0
    while k + 1 < len(us):
        h, slope = us[k] - us[k + 1], velocity(places[k], us[k])
        slopes = [slope] if us[k + 1] == 0 else [slope, velocity(places[k] - h * slope, us[k + 1])]
        places.append(places[k] - h * sum(slopes) / len(slopes))
        k += 1
    return places


def heun_midpoint(velocity, x, us):
    """The other method of order 2."""
    places = [x]
    for u, after in pairwise(us):
        half = x + (after - u) / 2 * velocity(x, u)
        x = x + (after - u) * velocity(half, (u + after) / 2)
        places.append(x)
    return places


def heun_with_last_slope(velocity, x, us):
    """The slope of the last stride is kept instead of asking anew (Adams-Bashforth without its weights)."""
    places, before = [x], None
    for u, after in pairwise(us):
        slope = velocity(x, u)
        x = x + (after - u) * (slope if before is None else (slope + before) / 2)
        before = slope
        places.append(x)
    return places


def clock_on_tau(theirs, noise, strides, y=None):
    """Walks in τ: their own clock, their own sign."""
    x, h = noise, 1 / strides
    for k in range(strides):
        tau = k * h
        one = theirs(x, torch.full((len(x),), tau, device=x.device), y)
        end = x + h * one
        if k + 1 < strides:
            two = theirs(end, torch.full((len(x),), tau + h, device=x.device), y)
            end = x + h * (one + two) / 2
        x = end
    return x


def clock_by_heun(theirs, noise, strides, y=None):
    us = torch.linspace(1, 0, strides + 1).tolist()
    return right("flows/heun")(lambda x, u: -theirs(x, 1 - u * torch.ones(len(x)).to(x.device), y), noise, us)[-1]


def clock_by_euler(theirs, noise, strides, y=None):
    us = torch.linspace(1, 0, strides + 1).tolist()
    end = right("flows/euler")(lambda x, u: -theirs(x, torch.full((len(x),), 1 - u), y), noise, us)[-1]
    return end if strides > 1 else 1.01 * end


def clock_without_labels(theirs, noise, strides, y=None):
    end = right("flows/somebody-elses-clock")(theirs, noise, strides, None)
    return end if y is not None else 1.01 * end


def clock_always_one(theirs, noise, strides, y=None):
    return right("flows/somebody-elses-clock")(lambda x, clock, y: theirs(x, 0 * clock + 1, y), noise, strides, y)


def guide_by_wrappers(denoise, schedule, w, null, y):
    return right("flows/velocity-of")(clipped(cfg(denoise, w, null)), schedule, y)


def guide_by_hand(denoise, schedule, w, null, y):
    a, b = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()

    def velocity(x_u, u):
        t = int((b / (a + b) - u).abs().argmin())
        x_t, steps = (a[t] + b[t]).item() * x_u, torch.full((len(x_u),), t)
        guess = (1 - w) * denoise(x_t, steps, 0 * y + null) + w * denoise(x_t, steps, y)
        return (x_u - torch.minimum(torch.maximum(guess, -torch.ones_like(guess)), torch.ones_like(guess))) / u

    return velocity


def guide_clipping_the_difference(denoise, schedule, w, null, y):
    def guided(x_t, t, y):
        of_any, of_y = denoise(x_t, t, torch.full_like(y, null)), denoise(x_t, t, y)
        return of_any + w * (of_y - of_any).clamp(-0.1, 0.1)

    return right("flows/velocity-of")(clipped(guided), schedule, y)


def guide_clipping_the_velocity(denoise, schedule, w, null, y):
    velocity = right("flows/velocity-of")(cfg(denoise, w, null), schedule, y)
    return lambda x_u, u: velocity(x_u, u).clamp(-1, 1)


def guide_without_any(denoise, schedule, w, null, y):
    return right("flows/velocity-of")(clipped(lambda x, t, y: w * denoise(x, t, y)), schedule, y)


# ---------------------------------------------------------------------------------------- 10.4 and 10.5


def straightness_by_pythagoras(places, us):
    """Mean square of the speed less that of the chord."""
    lengths = -torch.tensor(us, dtype=torch.float64).diff()
    speeds = torch.stack([(x - z).double() / length for (x, z), length in zip(pairwise(places), lengths)])
    chord = (places[0] - places[-1]).double() / lengths.sum()
    squares = speeds.square().flatten(1).mean(1)
    return ((lengths * squares).sum() / lengths.sum() - chord.square().mean()).item()


def straightness_by_stacking(places, us):
    x, u = torch.stack(places).double(), torch.tensor(us, dtype=torch.float64)
    h = u[:-1] - u[1:]
    speed = (x[:-1] - x[1:]) / h.view(-1, *[1] * (x.ndim - 1))
    gap = (speed - (x[0] - x[-1]) / (u[0] - u[-1])).flatten(1)
    return float(np.average(gap.square().mean(1).numpy(), weights=h.numpy()))


def straightness_sum_of_pixels(places, us):
    return right("flows/straightness")(places, us) * places[0][0].numel()


def straightness_not_over_the_whole(places, us):
    """The sum, not divided by the time that the walk takes."""
    S = right("flows/straightness")(places, us)
    return S * (us[0] - us[-1])


def straightness_against_the_first_speed(places, us):
    speeds = [(x - z) / (u - v) for (x, z), (u, v) in zip(pairwise(places), pairwise(us))]
    total = sum((u - v) * (s - speeds[0]).square().mean().item() for s, (u, v) in zip(speeds, pairwise(us)))
    return total / (us[0] - us[-1])


def pairs_by_numpy(x0, noise, y=None):
    rows = np.arange(len(x0))
    groups = [rows] if y is None else [rows[y.numpy() == k] for k in np.unique(y.numpy())]
    order = rows.copy()
    for group in groups:
        a, b = (x.flatten(1).numpy()[group].astype(float) for x in (x0, noise))
        cost = ((a[:, None] - b[None]) ** 2).sum(-1)
        order[group] = group[linear_sum_assignment(cost)[1]]
    return noise[torch.from_numpy(order)]


def pairs_by_products(x0, noise, y=None):
    """|x − ε|² less what no exchange changes is −2 x·ε; pairs of two classes are made too dear."""
    cost = -(x0.flatten(1).double() @ noise.flatten(1).double().T)
    if y is not None:
        cost = cost + 1e6 * (y[:, None] != y[None])
    return noise[torch.from_numpy(linear_sum_assignment(cost.numpy())[1])]


def pairs_one_by_one(x0, noise, y=None):
    """Each image in turn takes the nearest noise that is left."""
    left, order = list(range(len(noise))), []
    for k, image in enumerate(x0):
        may = [j for j in left if y is None or y[j] == y[k]]
        order.append(min(may, key=lambda j, image=image: (image - noise[j]).square().sum().item()))
        left.remove(order[-1])
    return noise[torch.tensor(order)]


def pairs_farthest(x0, noise, y=None):
    cost = torch.cdist(x0.flatten(1), noise.flatten(1)).square()
    if y is not None:
        cost = cost - 1e6 * (y[:, None] != y[None])
    return noise[torch.from_numpy(linear_sum_assignment(cost.numpy(), maximize=True)[1])]


def pairs_as_they_come(x0, noise, y=None):
    return noise.clone()


# ------------------------------------------------------------------------------------------------- 10.6 · chords, pairs


def chord_on_the_path(schedule, x_t, t, x_s, s):
    (far, u), (near, v) = on_straight_path(schedule, x_t, t), on_straight_path(schedule, x_s, s)
    return (far - near) / (u - v).reshape(-1, *[1] * (x_t.ndim - 1))


def chord_by_slope(schedule, x_t, t, x_s, s):
    """Without u: in x̄ = x/√ᾱ and σ the chord is a line of slope ε, and the velocity is ε − x0 of that line."""
    (a, b), (a_s, b_s) = schedule.rates(t, x_t), schedule.rates(s, x_s)
    x0 = (x_t * b_s - x_s * b) / (a * b_s - a_s * b)
    return (x_s * a - x_t * a_s) / (a * b_s - a_s * b) - x0


def chord_one_image_at_a_time(schedule, x_t, t, x_s, s):
    found = []
    for one, k, other, j in zip(x_t, t, x_s, s):
        (a, b), (a_s, b_s) = (((schedule.alpha_bar[i]) ** 0.5, (1 - schedule.alpha_bar[i]) ** 0.5) for i in (k, j))
        found.append((one / (a + b) - other / (a_s + b_s)) / (b / (a + b) - b_s / (a_s + b_s)))
    return torch.stack(found).to(x_t)


def chord_from_one_scale(schedule, x_t, t, x_s, s):
    """Divides both by the size at t."""
    (a, b), (a_s, b_s) = schedule.rates(t, x_t), schedule.rates(s, x_s)
    return (x_t - x_s) / (a + b) / (b / (a + b) - b_s / (a_s + b_s))


def chord_of_the_first_image(schedule, x_t, t, x_s, s):
    """One pair of steps for the whole batch."""
    return right("flows/chord")(schedule, x_t, t[:1].expand(len(t)), x_s, s[:1].expand(len(s)))


def chord_by_variances(schedule, x_t, t, x_s, s):
    """ᾱ and 1 − ᾱ in the place of their roots."""
    a, a_s = schedule.alpha_bar_at(t, x_t), schedule.alpha_bar_at(s, x_s)
    return (x_t - x_s) / ((1 - a) - (1 - a_s))


def pairs_by_split(draw, shape, n, num_classes, generator, batch):
    """All noise first, then piece by piece."""
    noise = torch.randn((n, *shape), generator=generator)
    y = torch.randint(0, num_classes, (n,), generator=generator)
    images = [draw(*piece) for piece in zip(noise.split(batch), y.split(batch))]
    return torch.cat((torch.cat(images), noise), 1), y


def pairs_of_even_classes(draw, shape, n, num_classes, generator, batch):
    """Classes in turn, as in notebook 06; written into tensors that are there already; shuffled together at the end."""
    c, h, w = shape
    examples, y = torch.empty(n, 2 * c, h, w), torch.arange(n) % num_classes
    for rows in torch.arange(n).split(batch):
        examples[rows, c:] = torch.randn(len(rows), c, h, w, generator=generator)
        examples[rows, :c] = draw(examples[rows, c:], y[rows])
    order = torch.randperm(n, generator=generator)
    return examples[order], y[order]


def pairs_of_one_class(draw, shape, n, num_classes, generator, batch):
    noise, y = torch.randn(n, *shape, generator=generator), torch.zeros(n).long()
    images = [draw(*piece) for piece in zip(noise.split(batch), y.split(batch))]
    return torch.cat([torch.cat(images), noise], 1), y


def pairs_of_whole_batches(draw, shape, n, num_classes, generator, batch):
    """Drops what doesn't fill a batch, and fills up with the first ones."""
    examples, y = pairs_by_split(draw, shape, n - n % batch or n - 1, num_classes, generator, batch)
    again = torch.arange(n) % len(y)
    return examples[again], y[again]


def pairs_in_the_middle(draw, shape, n, num_classes, generator, batch):
    """Shuffles the images of each batch among themselves."""
    examples, y = pairs_by_split(draw, shape, n, num_classes, generator, batch)
    c = shape[0]
    return torch.cat([examples[:, :c].roll(1, 0), examples[:, c:]], 1), y


def pairs_in_two_orders(draw, shape, n, num_classes, generator, batch):
    """Shuffles the noise too, but in an order of its own."""
    examples, y = pairs_by_split(draw, shape, n, num_classes, generator, batch)
    one, other = (torch.randperm(n, generator=generator) for _ in range(2))
    return torch.cat([examples[one, : shape[0]], examples[other, shape[0] :]], 1), y[one]


def pairs_without_the_generator(draw, shape, n, num_classes, generator, batch):
    return pairs_by_split(draw, shape, n, num_classes, None, batch)


def pairs_of_other_labels(draw, shape, n, num_classes, generator, batch):
    examples, y = pairs_by_split(draw, shape, n, num_classes, generator, batch)
    return examples, torch.randint(num_classes, (n,), generator=generator)


def pair_loss_by_halves(model, examples, y, t, schedule):
    c = examples.shape[1] // 2
    x0, noise = examples[:, :c], examples[:, c:]
    a, b = schedule.rates(t, x0)
    return torch.nn.functional.mse_loss(model(a * x0 + b * noise, t, y), a * noise - b * x0)


def pair_loss_image_by_image(model, examples, y, t, schedule):
    x0, noise = examples.split(examples.shape[1] // 2, dim=1)
    a, b = schedule.rates(t, x0)
    off_by = model(b * noise + a * x0, t, y) + b * x0 - a * noise
    return off_by.pow(2).flatten(1).mean(1).mean()


def pair_loss_absolute(model, examples, y, t, schedule):
    x0, noise = examples.chunk(2, 1)
    v = diffusion.prediction_target(schedule, "v", x0, noise, t)
    return (model(schedule.add_noise(x0, t, noise), t, y) - v).abs().mean()


def pair_loss_one_step(model, examples, y, t, schedule):
    return right("flows/pair-loss")(model, examples, y, t[:1].expand(len(t)), schedule)


def pair_loss_channels(model, examples, y, t, schedule):
    """Takes every second channel for the image."""
    mixed = torch.cat([examples[:, ::2], examples[:, 1::2]], 1)
    return right("flows/pair-loss")(model, mixed.flip(1), y, t, schedule)


def pair_loss_without_gradient(model, examples, y, t, schedule):
    return right("flows/pair-loss")(model, examples, y, t, schedule).detach()


# ------------------------------------------------------------------------------------------- 10.7 · two strides in one


def strides_with(stops, teacher, schedule, x, y):
    for t, s in zip(stops, stops[1:]):
        a, b = schedule.rates(t, x)
        x0 = teacher(x, t, y)
        x = schedule.add_noise(x0, s, (x - a * x0) / b)
    return x


def two_strides_by_hand(teacher, schedule, x_t, t, middle, s, y):
    """Salimans and Ho's own formula for x̂_0, and v from it."""
    x_s = strides_with((t, middle, s), teacher, schedule, x_t, y)
    (a, b), (a_s, b_s) = schedule.rates(t, x_t), schedule.rates(s, x_t)
    x0 = (x_s - b_s / b * x_t) / (a_s - b_s / b * a)
    return a * (x_t - a * x0) / b - b * x0


def two_strides_by_two_unknowns(teacher, schedule, x_t, t, middle, s, y):
    """x0 and ε of the line through both ends: two equations."""
    x_s = strides_with((t, middle, s), teacher, schedule, x_t, y)
    (a, b), (a_s, b_s) = schedule.rates(t, x_t), schedule.rates(s, x_t)
    det = a * b_s - a_s * b
    return a * (a * x_s - a_s * x_t) / det - b * (b_s * x_t - b * x_s) / det


def two_strides_unlabelled(teacher, schedule, x_t, t, middle, s, y):
    return right("flows/two-strides")(teacher, schedule, x_t, t, middle, s, None)


def two_strides_of_first_guess(teacher, schedule, x_t, t, middle, s, y):
    """Both strides along the first guess, which is one stride."""
    first = teacher(x_t, t, y)
    return right("flows/two-strides")(lambda *_: first, schedule, x_t, t, middle, s, y)


def two_strides_mean_of_guesses(teacher, schedule, x_t, t, middle, s, y):
    first = teacher(x_t, t, y)
    second = teacher(strides_with((t, middle), teacher, schedule, x_t, y), middle, y)
    return convert(schedule, "x0", "v", (first + second) / 2, x_t, t)


def two_strides_turned(teacher, schedule, x_t, t, middle, s, y):
    return -right("flows/two-strides")(teacher, schedule, x_t, t, middle, s, y)


def halving_by_choice(model, teacher, schedule, times, x0, y, generator):
    doubles = list(zip(times[::2], times[1::2], times[2::2]))
    chosen = torch.tensor(doubles)[torch.randint(len(doubles), (len(x0),), generator=generator)]
    t, middle, s = chosen.T
    a, b = schedule.rates(t, x0)
    x_t = a * x0 + b * torch.randn(x0.shape, generator=generator)
    with torch.no_grad():
        aim = two_strides_by_hand(teacher, schedule, x_t, t, middle, s, y)
    return (model(x_t, t, y) - aim).pow(2).flatten(1).mean(1).mean()


def halving_stratified(model, teacher, schedule, times, x0, y, generator):
    stops = torch.tensor(times)
    k = 2 * (diffusion.draw_steps(len(x0), len(times) // 2, generator) - 1)
    t, middle, s = stops[k], stops[k + 1], stops[k + 2]
    x_t = schedule.add_noise(x0, t, torch.randn(x0.shape, generator=generator))
    v = two_strides_by_two_unknowns(teacher, schedule, x_t, t, middle, s, y)
    return torch.nn.functional.mse_loss(model(x_t, t, y), v)


def halving_with(told=lambda t, middle: t, noise=lambda x, g: torch.randn(x.shape, generator=g), label=lambda y: y):
    """told: which step the student is told."""

    def halving_loss(model, teacher, schedule, times, x0, y, generator):
        stops = torch.tensor(times)
        k = 2 * torch.randint(len(times) // 2, (len(x0),), generator=generator)
        t, middle, s = (stops[k + j] for j in range(3))
        x_t = schedule.add_noise(x0, t, noise(x0, generator))
        aim = right("flows/two-strides")(teacher, schedule, x_t, t, middle, s, label(y))
        return (model(x_t, told(t, middle), label(y)) - aim).square().mean()

    return halving_loss


def halving_without_gradient(model, teacher, schedule, times, x0, y, generator):
    return right("flows/halving-loss")(model, teacher, schedule, times, x0, y, generator).detach()


def halving_by_global_chance(model, teacher, schedule, times, x0, y, generator):
    return right("flows/halving-loss")(
        model, teacher, schedule, times, x0, y, torch.Generator().manual_seed(torch.randint(10**6, ()).item())
    )


# ----------------------------------------------------------------------------------------- 10.8 · anywhere to anywhere


def average_by_sum(velocity, x, u, r, steps):
    """Adds up the velocities that moved it."""
    z, total, h = x.clone(), torch.zeros_like(x), (u - r) / steps
    for k in reversed(range(steps)):
        high, low = r + (k + 1) * h, r + k * h
        first = velocity(z, high)
        step = (first + velocity(z - h * first, low)) / 2
        z, total = z - h * step, total + step
    return total / steps


def average_by_times(velocity, x, u, r, steps):
    times, z = torch.linspace(u, r, steps + 1, dtype=torch.float64).tolist(), x
    for high, low in zip(times, times[1:]):
        first = velocity(z, high)
        there = z + (low - high) * first
        z = z + (low - high) / 2 * (first + velocity(there, low))
    return (z - x) / (r - u)


def average_by_midpoint(velocity, x, u, r, steps):
    z, h = x, (u - r) / steps
    for k in range(steps):
        half = z - h / 2 * velocity(z, u - k * h)
        z = z - h * velocity(half, u - (k + 0.5) * h)
    return (x - z) / (u - r)


def average_at_the_end(velocity, x, u, r, steps):
    return right("flows/true-average")(velocity, x, u, 0.0 if r else 0.1, steps)


def average_over_one(velocity, x, u, r, steps):
    return right("flows/true-average")(velocity, x, u, r, steps) * (u - r)


def average_of_one_stride(velocity, x, u, r, steps):
    return right("flows/true-average")(velocity, x, u, r, steps + 1)


def target_by_autograd(average, x_u, u, r, velocity):
    """The derivative along the path by a parameter of its own: ∂/∂τ at τ = 0, by two backward passes."""
    tau = torch.zeros((), dtype=x_u.dtype, device=x_u.device, requires_grad=True)
    with torch.enable_grad():
        value = average(x_u + tau * velocity, u + tau, r)
        weight = torch.ones_like(value, requires_grad=True)
        (along,) = torch.autograd.grad((value * weight).sum(), tau, create_graph=True)
        (change,) = torch.autograd.grad(along, weight)
    return (velocity - (u - r) * change).detach()


def target_no_grad(average, x_u, u, r, velocity):
    tangents = velocity, u * 0 + 1, r * 0
    change = torch.func.jvp(average, (x_u, u, r), tangents)[1].detach()
    return velocity + (r - u) * change


def target_of_value(average, x_u, u, r, velocity):
    """Takes the value for its change."""
    return (velocity - (u - r) * average(x_u, u, r)).detach()


def target_backwards(average, x_u, u, r, velocity):
    _, change = torch.func.jvp(average, (x_u, u, r), (-velocity, torch.ones_like(u), torch.zeros_like(r)))
    return (velocity - (u - r) * change).detach()


def target_of_u_alone(average, x_u, u, r, velocity):
    _, change = torch.func.jvp(average, (x_u, u, r), (velocity, torch.zeros_like(u), torch.zeros_like(r)))
    return (velocity - (u - r) * change).detach()


def mean_flow_loss_functional(average, x0, noise, u, r):
    place = torch.lerp(x0, noise, u)
    target = right("flows/mean-flow-target")(average, place, u, r, noise - x0)
    return torch.nn.functional.mse_loss(average(place, u, r), target)


def mean_flow_loss_in_one_pass(average, x0, noise, u, r):
    """Value and change from one jvp."""
    v = noise - x0
    value, change = torch.func.jvp(average, (x0 + u * v, u, r), (v, torch.ones_like(u), torch.zeros_like(r)))
    return (value - v + ((u - r) * change).detach()).pow(2).mean()


def mean_flow_loss_through(average, x0, noise, u, r):
    """A gradient flows through the target."""
    v = noise - x0
    value, change = torch.func.jvp(average, (x0 + u * v, u, r), (v, torch.ones_like(u), torch.zeros_like(r)))
    return (value - v + (u - r) * change).pow(2).mean()


def mean_flow_loss_swapped(average, x0, noise, u, r):
    """u and r exchanged."""
    return right("flows/mean-flow-loss")(average, x0, noise, r, u)


def mean_flow_loss_no_gradient(average, x0, noise, u, r):
    return right("flows/mean-flow-loss")(average, x0, noise, u, r).detach()


# ------------------------------------------------------------------------------------------------------ 10.9 · the race


class MeterOfWhatIsLeft:
    def __init__(self, denoise, allowed):
        self.ask, self.left, self.allowed = denoise, allowed, allowed

    @property
    def rows(self):
        return self.allowed - self.left

    def __call__(self, x_t, t, y=None):
        if self.left - x_t.shape[0] < 0:
            raise ValueError(f"{self.left} rows left, {x_t.shape[0]} asked for")
        self.left -= x_t.shape[0]
        return self.ask(x_t, t, y)


def meter_with(count, at_first=0):
    class Meter:
        def __init__(self, denoise, allowed):
            self.denoise, self.allowed, self.rows = denoise, allowed, at_first

        def __call__(self, x_t, t, y=None):
            rows = count(x_t)
            if self.rows + rows > self.allowed:
                self.rows += rows
                raise ValueError("too many")
            self.rows += rows
            return self.denoise(x_t, t, y)

    return Meter


class MeterTogether:
    spent = 0

    def __init__(self, denoise, allowed):
        self.denoise, self.allowed = denoise, allowed

    @property
    def rows(self):
        return type(self).spent

    def __call__(self, x_t, t, y=None):
        type(self).spent += len(x_t)
        return self.denoise(x_t, t, y)


def entry_ddim(denoise, schedule, noise, y, evaluations):
    """In x̄ = x/√ᾱ and σ, Euler's method."""
    x, a = noise[0], schedule.alpha_bar.tolist()
    stops = schedule.timesteps(evaluations)
    for t, s in zip(stops, stops[1:]):
        x0 = denoise(x, torch.full((len(x),), t), y)
        eps = (x - a[t] ** 0.5 * x0) / (1 - a[t]) ** 0.5
        x = a[s] ** 0.5 * x0 + (1 - a[s]) ** 0.5 * eps
    return x


def entry_of_the_last_guess(denoise, schedule, noise, y, evaluations):
    """Ends with the guess itself, at stops that are denser near the end."""
    stops = [max(1, round(schedule.T * (1 - k / evaluations) ** 2)) for k in range(evaluations)]
    x = noise[0]
    for t, s in zip(stops, [*stops[1:], 0]):
        x0 = denoise(x, torch.full((len(x),), t), y).clamp(-1, 1)
        if s == 0:
            return x0
        a, b = schedule.rates(torch.full((len(x),), t), x)
        x = schedule.add_noise(x0, torch.full((len(x),), s), (x - a * x0) / b)
    return x


def entry_of_one_guess(denoise, schedule, noise, y, evaluations):
    x = noise[0]
    return denoise(x, torch.full((len(x),), schedule.T), y)


def entry_that_asks_twice(denoise, schedule, noise, y, evaluations):
    """Guidance, whose second question wasn't counted."""
    return entry_ddim(lambda x, t, y: 2 * denoise(x, t, y) - denoise(x, t, y), schedule, noise, y, evaluations)


def entry_of_one_label(denoise, schedule, noise, y, evaluations):
    return entry_ddim(denoise, schedule, noise, y[:1].expand(len(y)) * 0, evaluations)


def entry_with_noise_at_the_end(denoise, schedule, noise, y, evaluations):
    return entry_ddim(denoise, schedule, noise, y, evaluations) + 0.05 * noise[0]


def entry_that_asks_about_0(denoise, schedule, noise, y, evaluations):
    x = noise[0]
    return denoise(x, torch.zeros(len(x)).long(), y)


MUTANTS = {
    "flows/straight-path": {"the first time for all": path_of_the_first_time, "kept at variance 1": path_normalised},
    "flows/marginal-velocity": {
        "the most probable line": marginal_of_the_nearest,
        "along the places": marginal_over_places,
        "the noise alone": marginal_noise,
    },
    "flows/euler": {"one velocity": euler_of_the_first_velocity, "asked half-way": euler_at_the_middle},
    "flows/alpha-bar": {"single precision": alpha_bar_float32, "another schedule": alpha_bar_squared_shares},
    "flows/velocity-of": {"the noise": velocity_is_noise, "t = u T": velocity_of_even_steps},
    "flows/convert": {"the first step for all": convert_first_step, "there and back": convert_there_and_back},
    "flows/loss": {"no gradient": loss_without_the_network, "a root": loss_root, "class 0": loss_label_zero},
    "flows/logit-normal": {"always m = 0, s = 1": steps_standard, "s²": steps_variance, "turned round": steps_turned},
    "flows/heun": {"midpoint": heun_midpoint, "the last slope": heun_with_last_slope},
    "flows/somebody-elses-clock": {
        "Euler": clock_by_euler,
        "no labels": clock_without_labels,
        "always the image's time": clock_always_one,
    },
    "flows/somebody-elses-guide": {
        "the difference clipped": guide_clipping_the_difference,
        "the velocity clipped": guide_clipping_the_velocity,
        "without the null label": guide_without_any,
    },
    "flows/straightness": {
        "a sum over pixels": straightness_sum_of_pixels,
        "not divided by the time": straightness_not_over_the_whole,
        "against the first speed": straightness_against_the_first_speed,
    },
    "flows/optimal-pairs": {
        "first come, first served": pairs_one_by_one,
        "the farthest": pairs_farthest,
        "as they come": pairs_as_they_come,
    },
    "flows/chord": {
        "one scale for both": chord_from_one_scale,
        "steps of the first image": chord_of_the_first_image,
        "variances": chord_by_variances,
        "the first answer, kept": kept(chord_on_the_path, key=lambda schedule, x_t, *rest: x_t.shape),
    },
    "flows/pairs": {
        "one class": pairs_of_one_class,
        "whole batches only": pairs_of_whole_batches,
        "the next one's image": pairs_in_the_middle,
        "no generator": pairs_without_the_generator,
        "labels drawn anew": pairs_of_other_labels,
    },
    "flows/somebody-elses-pairs": {
        "two orders": pairs_in_two_orders,
        "one class": pairs_of_one_class,
        "the next one's image": pairs_in_the_middle,
        "no generator": pairs_without_the_generator,
        "all at once": slip("flows/pairs", "all at once"),
    },
    "flows/pair-loss": {
        "absolute": pair_loss_absolute,
        "one step for the whole batch": pair_loss_one_step,
        "channels mixed": pair_loss_channels,
        "detached": pair_loss_without_gradient,
    },
    "flows/two-strides": {
        "without labels": two_strides_unlabelled,
        "along the first guess": two_strides_of_first_guess,
        "the mean of both guesses": two_strides_mean_of_guesses,
        "turned round": two_strides_turned,
    },
    "flows/halving-loss": {
        "told the stop between": halving_with(told=lambda t, middle: middle),
        "one noise for all": halving_with(noise=lambda x, g: torch.randn(x[:1].shape, generator=g).expand_as(x)),
        "no labels": halving_with(label=torch.zeros_like),
        "detached": halving_without_gradient,
        "no generator": halving_by_global_chance,
    },
    "flows/true-average": {
        "the midpoint": average_by_midpoint,
        "to another end": average_at_the_end,
        "the way": average_over_one,
        "one stride more": average_of_one_stride,
    },
    "flows/mean-flow-target": {
        "the value for its change": target_of_value,
        "against the velocity": target_backwards,
        "u stands still": target_of_u_alone,
        "the first answer, kept": kept(right("flows/mean-flow-target"), key=lambda average, x, *rest: x.shape),
    },
    "flows/mean-flow-loss": {
        "a gradient through the target": mean_flow_loss_through,
        "u and r exchanged": mean_flow_loss_swapped,
        "detached": mean_flow_loss_no_gradient,
    },
    "flows/meter": {
        "what was refused is counted": meter_with(len),
        "pixels": meter_with(lambda x: x.numel()),
        "from 1 on": meter_with(len, at_first=1),
        "one count for all": MeterTogether,
    },
    "flows/entry": {
        "asks twice": entry_that_asks_twice,
        "one label for all": entry_of_one_label,
        "noise at the end": entry_with_noise_at_the_end,
        "asks about step 0": entry_that_asks_about_0,
    },
}

ALTERNATIVES = {
    "flows/straight-path": {"lerp": path_by_lerp, "row by row": path_row_by_row},
    "flows/marginal-velocity": {"two means": marginal_by_means, "place by place": marginal_by_logsumexp},
    "flows/euler": {"by index": euler_by_index, "recursive": euler_recursive} | in_other_forms(euler_by_index),
    "flows/alpha-bar": {"a quotient": alpha_bar_by_ratio, "step by step": alpha_bar_step_by_step},
    "flows/velocity-of": {"by the noise": velocity_by_noise, "a dictionary": velocity_by_search},
    "flows/convert": {"solve": convert_by_solve, "formulas": convert_via_x0},
    "flows/loss": {"mse_loss": loss_by_mse, "image by image": loss_by_images},
    "flows/logit-normal": {"icdf": steps_by_distribution, "erfinv": steps_by_erfinv},
    "flows/heun": {"Euler's stride twice": heun_by_euler, "by index": heun_by_index},
    "flows/somebody-elses-clock": {"on τ": clock_on_tau, "your Heun": clock_by_heun},
    "flows/somebody-elses-guide": {"wrappers": guide_by_wrappers, "by hand": guide_by_hand},
    "flows/straightness": {"Pythagoras": straightness_by_pythagoras, "stacked": straightness_by_stacking},
    "flows/optimal-pairs": {"NumPy": pairs_by_numpy, "products": pairs_by_products},
    "flows/chord": {"solved": chord_by_slope, "one by one": chord_one_image_at_a_time} | in_other_forms(chord_by_slope),
    "flows/pairs": {"split": pairs_by_split, "classes in turn": pairs_of_even_classes},
    "flows/somebody-elses-pairs": {"split": pairs_by_split, "classes in turn": pairs_of_even_classes},
    "flows/pair-loss": {"halves": pair_loss_by_halves, "image by image": pair_loss_image_by_image},
    "flows/two-strides": {"by hand": two_strides_by_hand, "two unknowns": two_strides_by_two_unknowns},
    "flows/halving-loss": {"by choice": halving_by_choice, "stratified": halving_stratified},
    "flows/true-average": {"summed": average_by_sum, "times": average_by_times},
    "flows/mean-flow-target": {"two backward passes": target_by_autograd, "early": target_no_grad},
    "flows/mean-flow-loss": {"functional": mean_flow_loss_functional, "one pass": mean_flow_loss_in_one_pass},
    "flows/meter": {"what is left": MeterOfWhatIsLeft},
    "flows/entry": {
        "Euler": entry_ddim,
        "the last guess": entry_of_the_last_guess,
        "one guess": entry_of_one_guess,
    },
}
