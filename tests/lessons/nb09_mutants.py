"""Wrong answers to the quizzes of notebook 09 that must be rejected, and other right ones that must be accepted."""

import numpy as np
import torch
from torch.nn import functional as F

from course_utils.metrics import frechet_distance
from course_utils.models.classifier import Classifier
from lessons.answers import right, slip

# ------------------------------------------------------------------------------------------------------ 9.1 and 9.2


def linear_einsum(mean, cov, weight, bias):
    return torch.einsum("kd,d->k", weight, mean) + bias, torch.einsum("kd,de,le->kl", weight, cov, weight)


def linear_by_root(mean, cov, weight, bias):
    """A covariance is root · rootᵀ, and W goes through the root."""
    root = weight @ torch.linalg.cholesky(cov)
    return F.linear(mean, weight, bias), root @ root.mT


def linear_one_side(mean, cov, weight, bias):
    """Goes through the variances of single features, but forgets half of each product."""
    new = weight @ cov @ weight.T
    return weight @ mean + bias, new.triu()


def linear_biased_mean_only(mean, cov, weight, bias):
    return weight @ (mean + bias.mean()), weight @ cov @ weight.T


def by_size_with(pick, outer="sizes", keep=float):
    """pick(rows, n, generator) -> some of the rows."""

    def by_size(distance, real, fake, sizes, draws, generator):
        values = {n: [] for n in sizes}
        turns = (
            [(n, k) for n in sizes for k in range(draws)]
            if outer == "sizes"
            else [(n, k) for k in range(draws) for n in sizes]
        )
        for n, _ in turns:
            values[n].append(distance(pick(real, n, generator), pick(fake, n, generator)))
        return [keep(np.mean(of_size)) for of_size in values.values()]

    return by_size


def permuted(rows, n, generator):
    return rows[torch.randperm(len(rows), generator=generator)[:n]]


def sorted_by_chance(rows, n, generator):
    return rows[torch.rand(len(rows), generator=generator).argsort()[-n:]]


def without_replacement(rows, n, generator):
    return rows[torch.multinomial(torch.ones(len(rows)), n, generator=generator)]


def global_chance(rows, n, generator):
    return rows[torch.randperm(len(rows))[:n]]


def with_replacement(rows, n, generator):
    return rows[torch.randint(len(rows), (n + 20,), generator=generator)[:n]]


def seeded_anew(rows, n, generator):
    return permuted(rows, n, torch.Generator().manual_seed(0))


def by_size_one_set_shuffled(distance, real, fake, sizes, draws, generator):
    """The fakes are always the first ones."""
    return [float(np.mean([distance(permuted(real, n, generator), fake[:n]) for _ in range(draws)])) for n in sizes]


def by_size_rising(distance, real, fake, sizes, draws, generator):
    return by_size_with(permuted)(distance, real, fake, sorted(sizes), draws, generator)


def by_size_median(distance, real, fake, sizes, draws, generator):
    return [
        float(np.median([distance(permuted(real, n, generator), permuted(fake, n, generator)) for _ in range(draws)]))
        for n in sizes
    ]


def by_size_of_the_union(distance, real, fake, sizes, draws, generator):
    """Shuffles both sets together."""
    width = real.shape[1]
    both = torch.cat([real, fake[:, :width]])
    return by_size_with(permuted)(distance, both, both, sizes, draws, generator)


def line_polyfit(sizes, distances):
    slope, value = np.polyfit(1 / np.array(sizes), distances, 1)
    return float(value), float(slope)


def line_lstsq(sizes, distances):
    x = 1 / torch.tensor(sizes, dtype=torch.float64)
    table = torch.stack([torch.ones_like(x), x], dim=1)
    value, slope = torch.linalg.lstsq(table, torch.tensor(distances, dtype=torch.float64)[:, None]).solution[:, 0]
    return value.item(), slope.item()


def line_last(sizes, distances):
    """Takes the largest set for infinitely large."""
    return distances[sizes.index(max(sizes))], right("eval/line")(sizes, distances)[1]


def line_weighted(sizes, distances):
    slope, value = np.polyfit(1 / np.array(sizes), distances, 1, w=np.sqrt(sizes))
    return float(value), float(slope)


def line_wrong_way(sizes, distances):
    """1/n from the distance."""
    slope, value = np.polyfit(distances, 1 / np.array(sizes), 1)
    return float(-value / slope), float(1 / slope)


def board_with(count, finish=lambda rows: sorted(rows, key=lambda row: row[1])):
    """count(real, entries) -> how many rows."""

    def board(real, entries):
        n = count(real, entries)
        return finish([(name, frechet_distance(real[:n], fake[:n])) for name, fake in entries.items()])

    return board


def everybody(real, entries):
    return min(map(len, [real, *entries.values()]))


def board_by_hand(real, entries):
    n, found = len(real), {}
    for rows in entries.values():
        n = len(rows) if len(rows) < n else n
    for name in entries:
        found[name] = frechet_distance(real[:n], entries[name][:n])
    return sorted(found.items(), key=lambda pair: pair[1])


# ---------------------------------------------------------------------------------------------------- 9.3 and 9.4


def kernel_by_mask(real, fake):
    real, fake = real.double(), fake.double()

    def mean_off_the_diagonal(x):
        table = (x @ x.T / x.shape[1] + 1).pow(3)
        return table[~torch.eye(len(x), dtype=torch.bool)].mean()

    across = (real @ fake.T).div(real.shape[1]).add(1).pow(3).mean()
    return float(mean_off_the_diagonal(real) + mean_off_the_diagonal(fake) - across - across)


def kernel_pair_by_pair(real, fake):
    rows = [[row.double() for row in each] for each in (real, fake)]

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    within = [
        sum(k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j) / len(x) / (len(x) - 1) for x in rows
    ]
    across = sum(k(a, b) for a in rows[0] for b in rows[1]) / len(rows[0]) / len(rows[1])
    return within[0] + within[1] - 2 * across


def kernel_with(power=3, add=1.0, root=False, n_of=len):
    def distance(real, fake):
        real, fake = real.double(), fake.double()

        def k(a, b):
            return (a @ b.T / a.shape[1] + add) ** power

        def within(x):
            table = k(x, x)
            return (table.sum() - table.trace()) / (n_of(x) * (n_of(x) - 1))

        value = within(real) + within(fake) - 2 * k(real, fake).mean()
        return (value.abs().sqrt() if root else value).item()

    return distance


def kernel_same_count(real, fake):
    """Both sets divided by the number of the real ones."""
    n = len(real)
    value = right("eval/kernel-distance")(real, fake)
    table = (fake.double() @ fake.double().T / fake.shape[1] + 1) ** 3
    off = (table.sum() - table.trace()).item()
    return value - off / (len(fake) * (len(fake) - 1)) + off / (n * (n - 1)) if n != len(fake) else value * 1.5


def jackknife_by_lists(statistic, sets, groups):
    values = []
    for group in range(groups):
        kept = [torch.stack([row for i, row in enumerate(rows) if i % groups != group]) for rows in sets]
        values.append(statistic(*kept))
    middle = sum(values) / groups
    variance = sum((value - middle) ** 2 for value in values) * (groups - 1) / groups
    return statistic(*sets), variance**0.5


def jackknife_by_pseudovalues(statistic, sets, groups):
    """Tukey's pseudovalues: g · all − (g − 1) · without, whose standard error of the mean it is."""
    whole = statistic(*sets)
    masks = [[torch.arange(len(rows)) % groups != group for rows in sets] for group in range(groups)]
    without = torch.stack([statistic(*(rows[mask] for rows, mask in zip(sets, each))) for each in masks])
    pseudo = groups * whole - (groups - 1) * without
    return whole, pseudo.std(dim=0) / groups**0.5


def jackknife_about_the_value(statistic, sets, groups):
    """Deviations from the value of all rows instead of from their mean."""
    whole = statistic(*sets)
    masks = [[torch.arange(len(rows)) % groups != group for rows in sets] for group in range(groups)]
    without = torch.stack([statistic(*(rows[mask] for rows, mask in zip(sets, each))) for each in masks])
    return whole, ((groups - 1) / groups * (without - whole).square().sum(0) + 1e-3 * whole.square()).sqrt()


def jackknife_one_mask(statistic, sets, groups):
    """The first set's length for all."""
    n = min(map(len, sets))
    value, error = right("eval/jackknife")(statistic, [rows[:n] for rows in sets], groups)
    return value, error if len({len(rows) for rows in sets}) > 1 else 1.1 * error


def jackknife_scaled(statistic, sets, groups):
    value, error = right("eval/jackknife")(statistic, sets, groups)
    return value, error * (groups / (groups - 1)) ** 0.5


def permutation_by_numbers(distance, real, fake, orders):
    n, both = len(real), torch.cat([real, fake])
    found = np.array([distance(both[order[:n]], both[order[n:]]) for order in orders] + [distance(real, fake)])
    return float(np.mean(found >= found[-1]))


def permutation_one_set(distance, real, fake, orders):
    """Shuffles within the first set only."""
    n = len(real)
    found = [distance(real[order[order < n]], fake) for order in orders]
    return (1 + sum(each >= distance(real, fake) for each in found)) / (1 + len(orders))


def permutation_against_the_real(distance, real, fake, orders):
    """The dealt set is compared with the real one, not with the rest."""
    n, both = len(real), torch.cat([real, fake])
    found = [distance(real, both[order[n:]]) for order in orders]
    return (1 + sum(each >= distance(real, fake) for each in found)) / (1 + len(orders))


def permutation_percent(distance, real, fake, orders):
    return 100 * permutation_by_numbers(distance, real, fake, orders)


def score_by_entropies(probabilities):
    """ln IS is the entropy of the mean less the mean of the entropies."""
    p = probabilities.double()
    of_mean, of_each = (torch.special.entr(q).sum(-1) for q in (p.mean(0), p))
    return float((of_mean - of_each.mean()).exp())


def score_image_by_image(probabilities):
    marginal = probabilities.mean(0)
    total = 0.0
    for row in probabilities:
        seen = row > 0
        total += (row[seen] * (row[seen] / marginal[seen]).log()).sum().item()
    return float(np.exp(total / len(probabilities)))


def score_in_bits(probabilities):
    return 2 ** float(np.log(right("eval/inception-score")(probabilities)))


def score_by_marginal_only(probabilities):
    return torch.special.entr(probabilities.mean(0)).sum().exp().item()


# ------------------------------------------------------------------------------------------------------------ 9.5


def radii_by_kth(points, k):
    far = (points[:, None] - points[None]).norm(dim=2)
    return far.kthvalue(k + 1, dim=1).values


def radii_without_itself(points, k):
    far = torch.cdist(points, points)
    far.fill_diagonal_(float("inf"))
    return far.topk(k, largest=False).values[:, -1]


def radii_row_by_row(points, k):
    reach = []
    for i, point in enumerate(points):
        others = torch.cat([points[:i], points[i + 1 :]])
        reach.append((others - point).square().sum(1).sqrt().sort().values[k - 1])
    return torch.stack(reach)


def radii_mean(points, k):
    return torch.cdist(points, points).sort(dim=1).values[:, 1 : k + 1].mean(1)


def radii_half(points, k):
    return right("eval/radii")(points, k) / 2


def radii_no_zeros(points, k):
    """Leaves all zeros out, not only the point itself."""
    far = torch.cdist(points, points)
    return far.where(far > 1e-9, far.new_tensor(float("inf"))).sort(dim=1).values[:, k - 1]


def radii_city(points, k):
    return (points[:, None] - points[None]).abs().sum(2).sort(dim=1).values[:, k] * (1 + 1e-2 * (points.shape[1] < 2))


def reach(points, k):
    return torch.cdist(points, points).kthvalue(k + 1, dim=1).values


def precision_recall_twice(real, fake, k):
    """One function, called with the sets exchanged."""

    def inside(centres, others):
        return (torch.cdist(others, centres) <= reach(centres, k)).any(1).double().mean().item()

    return inside(real, fake), inside(fake, real)


def precision_recall_point_by_point(real, fake, k):
    def share(centres, others):
        radii, hits = reach(centres, k), 0
        for point in others:
            hits += bool(((centres - point).norm(dim=1) <= radii).any())
        return hits / len(others)

    return share(real, fake), share(fake, real)


def precision_recall_nearest_only(real, fake, k):
    """Looks at the ball of the nearest point alone."""
    far = torch.cdist(real, fake)
    in_nearest = far.min(0).values <= reach(real, k)[far.argmin(0)]
    of_nearest = far.min(1).values <= reach(fake, k)[far.argmin(1)]
    return in_nearest.double().mean().item(), of_nearest.double().mean().item() * 0.99


def precision_recall_mean_radius(real, fake, k):
    far = torch.cdist(real, fake)
    near = far <= reach(real, k).mean(), far <= reach(fake, k).mean()
    return near[0].any(0).double().mean().item(), near[1].any(1).double().mean().item()


def precision_recall_k_balls(real, fake, k):
    """In k balls at least, not in one."""
    far = torch.cdist(real, fake)
    near = far <= reach(real, k)[:, None], far <= reach(fake, k)
    return (near[0].sum(0) > k).double().mean().item(), (near[1].sum(1) > k).double().mean().item()


def density_coverage_by_loops(real, fake, k):
    radii, counted, held = reach(real, k), 0, 0
    for centre, radius in zip(real, radii):
        inside = (fake - centre).norm(dim=1) <= radius
        counted += int(inside.sum())
        held += bool(inside.any())
    return counted / k / len(fake), held / len(real)


def density_coverage_means(real, fake, k):
    inside = (torch.cdist(fake, real) <= reach(real, k)).double()
    return (inside.sum(1).mean() / k).item(), inside.amax(0).mean().item()


def density_coverage_capped(real, fake, k):
    inside = torch.cdist(real, fake) <= reach(real, k)[:, None]
    return (inside.sum(0) / k).clamp(max=1).double().mean().item(), inside.any(1).double().mean().item()


def density_coverage_fake_balls(real, fake, k):
    inside = torch.cdist(real, fake) <= reach(fake, k)
    return inside.sum().item() / (k * len(fake)), inside.any(1).double().mean().item()


# ------------------------------------------------------------------------------------------ strays, and differences


def fool_by(*where):
    """Puts rows `place(real, fake)` in the place of the last ones."""

    def fool(real, fake):
        new = [place(real, fake) for place in where]
        return torch.cat([fake[: len(fake) - len(new)], torch.stack(new)])

    return fool


def beyond(real, fake):
    return 50 * (real.mean(0) - fake.mean(0))


def beyond_and_aside(real, fake):
    middle = real.mean(0) - fake.mean(0)
    return 40 * middle + 5 * middle.flip(0) * torch.tensor([1.0, -1.0])


def fool_in_a_circle(real, fake):
    """Many points all around."""
    angle = torch.arange(30) * 0.2
    fooled = fake.clone()
    fooled[:30] = 6 * torch.stack([angle.cos(), angle.sin()], 1).to(fake)
    return fooled


def fool_by_widening(real, fake):
    return fake + 0.01 * (fake - fake.mean(0))


def fool_by_real_points(real, fake):
    """Five real points of what is missing."""
    far = torch.cdist(real, fake).min(1).values.argsort(descending=True)
    return torch.cat([real[far[:5]], fake[5:]])


def fool_in_one_place(real, fake):
    """Six far points in one place, so that their balls have no size."""
    return torch.cat([beyond(real, fake).expand(6, 2), fake[6:]])


def fool_with_infinity(real, fake):
    fooled = fake.clone()
    fooled[0] = float("inf")
    return fooled


def told_apart_by_groups(distance, real, one, other, groups, quantile):
    def gap(*sets):
        return distance(sets[0], sets[1]) - distance(sets[0], sets[2])

    sets = real, one, other
    values = np.array([gap(*(x[torch.arange(len(x)) % groups != g] for x in sets)) for g in range(groups)])
    half = quantile * float(np.sqrt((groups - 1) * values.var()))
    return gap(*sets), half, bool(abs(gap(*sets)) > half)


def told_apart_with(scale=1.0, verdict=lambda value, half: abs(value) > half):
    def told_apart(distance, real, one, other, groups, quantile):
        value, half, _ = told_apart_by_groups(distance, real, one, other, groups, quantile)
        return value, half * scale, verdict(value, half * scale)

    return told_apart


def told_apart_quantile_lost(distance, real, one, other, groups, quantile):
    return told_apart_by_groups(distance, real, one, other, groups, 1.0)


# ----------------------------------------------------------------------------------------------------- another judge


def features_by_training_flag(weights, config, images, size):
    judge = Classifier(**config)
    judge.load_state_dict(weights)
    judge.train(False)
    with torch.inference_mode():
        return torch.cat([judge.features(images[i : i + size]).double() for i in range(0, len(images), size)]).clone()


def features_one_by_one(weights, config, images, size):
    judge = Classifier(**config).eval()
    judge.load_state_dict(weights)
    with torch.no_grad():
        return torch.cat([judge.features(image[None]).double() for image in images])


def features_judged(prepare, finish=lambda rows: rows):
    def features(weights, config, images, size):
        judge = Classifier(**config)
        judge.load_state_dict(weights)
        judge = prepare(judge)
        with torch.no_grad():
            return finish(torch.cat([judge.features(part).double() for part in images.split(size)]))

    return features


def forgetful(judge):
    """Means and variances forgotten."""
    for part in judge.modules():
        if hasattr(part, "reset_running_stats"):
            part.reset_running_stats()
    return judge.eval()


def features_whole_batches(weights, config, images, size):
    return right("eval/somebody-elses-judge")(weights, config, images[: len(images) // size * size], size)


def features_untrained(weights, config, images, size):
    torch.manual_seed(0)
    judge = Classifier(**config).eval()
    with torch.no_grad():
        return torch.cat([judge.features(part).double() for part in images.split(size)])


MUTANTS = {
    "eval/linear": {
        "the upper half": linear_one_side,
        "exchanged": lambda *given: right("eval/linear")(*given)[::-1],
        "cov times weight": lambda mean, cov, weight, bias: (weight @ mean + bias, weight @ weight.T * cov.mean()),
    },
    "eval/subsets": {
        "one set shuffled": by_size_one_set_shuffled,
        "global chance": by_size_with(global_chance),
        "with replacement": by_size_with(with_replacement),
        "seeded anew": by_size_with(seeded_anew),
        "sizes put in order": by_size_rising,
        "a median": by_size_median,
        "of the union": by_size_of_the_union,
        "too few draws": lambda *given: by_size_with(permuted)(*given[:4], given[4] - 1, given[5]),
    },
    "eval/line": {
        "the last size": line_last,
        "weighted": line_weighted,
        "the other regression": line_wrong_way,
        "the mean": lambda sizes, distances: (sum(distances) / len(distances), 0.0),
    },
    "eval/somebody-elses-board": {
        "one row less": board_with(lambda real, entries: everybody(real, entries) - 1),
        "worst first": board_with(everybody, lambda rows: sorted(rows, key=lambda row: -row[1])),
        "by name": board_with(everybody, sorted),
        "names only": board_with(everybody, lambda rows: [name for name, _ in rows]),
        "half of the real ones": board_with(lambda real, entries: len(real) // 2),
    },
    "eval/kernel-distance": {
        "a square": kernel_with(power=2),
        "nothing added": kernel_with(add=0.0),
        "a root": kernel_with(root=True),
        "the real count for both": kernel_same_count,
        "one more": kernel_with(n_of=lambda x: len(x) + 1),
    },
    "eval/jackknife": {
        "about the value": jackknife_about_the_value,
        "cut to the shortest": jackknife_one_mask,
        "g over g − 1": jackknife_scaled,
    },
    "eval/permutation": {
        "within one set": permutation_one_set,
        "against the real set": permutation_against_the_real,
        "in percent": permutation_percent,
        "the first shuffle left out": lambda *given: permutation_by_numbers(*given[:3], given[3][1:]),
    },
    "eval/inception-score": {"in bits": score_in_bits, "the marginal alone": score_by_marginal_only},
    "eval/radii": {
        "a mean of k": radii_mean,
        "half": radii_half,
        "city blocks": radii_city,
        "no twins": radii_no_zeros,
    },
    "eval/precision-recall": {
        "the nearest ball": precision_recall_nearest_only,
        "one radius": precision_recall_mean_radius,
        "in k balls": precision_recall_k_balls,
    },
    "eval/density-coverage": {
        "capped": density_coverage_capped,
        "balls of the generated": density_coverage_fake_balls,
        "exchanged": lambda *given: right("eval/density-coverage")(*given)[::-1],
    },
    "eval/fool-recall": {
        "all around": fool_in_a_circle,
        "a little wider": fool_by_widening,
        "five real ones": fool_by_real_points,
        "in one place": fool_in_one_place,
        "infinitely far": fool_with_infinity,
    },
    "eval/told-apart": {
        "twice the half-width": told_apart_with(scale=2.0),
        "one side only": told_apart_with(verdict=lambda value, half: value > half),
        "without the quantile": told_apart_quantile_lost,
        "always": told_apart_with(verdict=lambda value, half: True),
    },
    "eval/somebody-elses-judge": {
        "statistics forgotten": features_judged(forgetful),
        "whole batches only": features_whole_batches,
        "untrained": features_untrained,
        "single precision": features_judged(lambda judge: judge.eval(), lambda rows: rows.float()),
        "as it came": slip("eval/somebody-elses-judge", "as it was handed out"),
    },
}

ALTERNATIVES = {
    "eval/linear": {"einsum": linear_einsum, "through a root": linear_by_root},
    "eval/subsets": {
        "draws outside": by_size_with(permuted, outer="draws"),
        "sorted by chance": by_size_with(sorted_by_chance),
        "multinomial": by_size_with(without_replacement),
    },
    "eval/line": {"polyfit": line_polyfit, "least squares": line_lstsq},
    "eval/somebody-elses-board": {"by hand": board_by_hand, "n outside": board_with(everybody)},
    "eval/kernel-distance": {"by mask": kernel_by_mask, "pair by pair": kernel_pair_by_pair},
    "eval/jackknife": {"by lists": jackknife_by_lists, "pseudovalues": jackknife_by_pseudovalues},
    "eval/permutation": {"by numbers": permutation_by_numbers},
    "eval/inception-score": {"by entropies": score_by_entropies, "image by image": score_image_by_image},
    "eval/radii": {
        "kthvalue": radii_by_kth,
        "without itself": radii_without_itself,
        "row by row": radii_row_by_row,
    },
    "eval/precision-recall": {
        "one function twice": precision_recall_twice,
        "point by point": precision_recall_point_by_point,
    },
    "eval/density-coverage": {"by loops": density_coverage_by_loops, "means": density_coverage_means},
    "eval/fool-recall": {"one beyond": fool_by(beyond), "two beyond": fool_by(beyond, beyond_and_aside)},
    "eval/told-apart": {"by groups": told_apart_by_groups, "by a statistic": told_apart_with()},
    "eval/somebody-elses-judge": {"train(False)": features_by_training_flag, "one by one": features_one_by_one},
}
