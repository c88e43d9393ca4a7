"""Wrong answers to the quizzes of notebook 10 that must be rejected, and other right ones that must be accepted."""

from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from course_utils.sampling import cfg, clipped

from .answers import in_other_forms, right

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
}
