"""Wrong answers to the quizzes of notebook 09 that must be rejected, and other right ones that must be accepted."""

import math
import statistics

import numpy as np
import torch
from torch.nn import functional as F

from course_utils.metrics import frechet_distance
from course_utils.models.classifier import Classifier

from .answers import in_other_forms, right, slip

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


# -------------------------------------------------------------------------------------------------- 9.7 · is it a copy?


def nearest_by_differences(points, among, count, at_once=500):
    rows = [(among - point).flatten(1).norm(dim=1).topk(count, largest=False) for point in points]
    return torch.stack([row.values for row in rows]), torch.stack([row.indices for row in rows])


def nearest_sorted(points, among, count, at_once=500):
    tables = [torch.cdist(part.flatten(1), among.flatten(1)).sort(dim=1) for part in points.split(at_once)]
    return torch.cat([t.values[:, :count] for t in tables]), torch.cat([t.indices[:, :count] for t in tables])


def nearest_merged(points, among, count, at_once=500):
    """Goes through `among` in parts, with the numbers that images have in the whole set."""
    values, indices = [], []
    for start in range(0, len(among), at_once):
        table = torch.cdist(points.flatten(1), among[start : start + at_once].flatten(1))
        values.append(table)
        indices.append((start + torch.arange(table.shape[1])).expand(len(points), -1))
    best = torch.cat(values, 1).topk(count, largest=False)
    return best.values, torch.cat(indices, 1).gather(1, best.indices)


def nearest_first_part(points, among, count, at_once=500):
    """Returns after the first part."""
    return right("eval/nearest")(points[:at_once], among, count, at_once)


def nearest_within(points, among, count, at_once=500):
    """Within a part of both sets."""
    distances, indices = right("eval/nearest")(points, among[: max(count, at_once)], count, at_once)
    return distances, indices


def nearest_cityblock(points, among, count, at_once=500):
    found = torch.cdist(points.flatten(1), among.flatten(1), p=1).topk(count, largest=False)
    return found.values, found.indices


def nearest_farthest_first(points, among, count, at_once=500):
    distances, indices = right("eval/nearest")(points, among, count, at_once)
    return distances.flip(1), indices.flip(1)


def copies_by_quotient(generated, training, ratio=1 / 3):
    table = torch.cdist(
        generated.flatten(1).double(), training.flatten(1).double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    first, second = table.topk(2, largest=False).values.T
    return torch.where(first > 0, first / second < ratio, True)


def copies_one_by_one(generated, training, ratio=1 / 3):
    found = []
    for image in generated:
        first, second, *_ = sorted((image - other).norm().item() for other in training)
        found.append(first == 0 or first < ratio * second)
    return torch.tensor(found)


def copies_always_a_third(generated, training, ratio=1 / 3):
    return right("eval/copies")(generated, training, 1 / 3)


def copies_as_numbers(generated, training, ratio=1 / 3):
    return right("eval/copies")(generated, training, ratio).double().mean().item()


def copies_to_the_mean(generated, training, ratio=1 / 3):
    """Compares with the mean distance to all training images."""
    table = torch.cdist(generated.flatten(1), training.flatten(1))
    return (table.min(1).values < ratio * table.mean(1)) | (table.min(1).values == 0)


def copies_to_the_farthest(generated, training, ratio=1 / 3):
    table = torch.cdist(generated.flatten(1), training.flatten(1))
    return table.min(1).values < ratio * table.max(1).values


def copies_of_unequal(generated, training, ratio=1 / 3):
    """Counts what equals a training image in most pixels."""
    equal = (generated[:, None] == training[None]).flatten(2).double().mean(2)
    return equal.max(1).values > 1 - ratio


def report_by_topk(generated, training, held_out, rare):
    near = [
        torch.cdist(images.flatten(1), training.flatten(1)).topk(1, largest=False).values.squeeze(1)
        for images in (generated, held_out)
    ]
    return (near[0] < torch.quantile(near[1], rare)).float().mean().item()


def report_sorted(generated, training, held_out, rare):
    near = [torch.cdist(x.flatten(1), training.flatten(1)).sort(dim=1).values[:, 0] for x in (generated, held_out)]
    return float((near[0] < near[1].quantile(rare)).sum()) / len(generated)


def report_of_the_farthest(generated, training, held_out, rare):
    near = [torch.cdist(x.flatten(1), training.flatten(1)).max(dim=1).values for x in (generated, held_out)]
    return (near[0] < near[1].quantile(rare)).double().mean().item()


def report_other_tail(generated, training, held_out, rare):
    near = [torch.cdist(x.flatten(1), training.flatten(1)).min(dim=1).values for x in (generated, held_out)]
    return (near[0] < near[1].quantile(1 - rare)).double().mean().item()


def report_in_percent(generated, training, held_out, rare):
    return 100 * right("eval/somebody-elses-report")(generated, training, held_out, rare)


def report_by_the_least(generated, training, held_out, rare):
    near = [torch.cdist(x.flatten(1), training.flatten(1)).min(dim=1).values for x in (generated, held_out)]
    return (near[0] < rare * near[1].mean()).double().mean().item()


# --------------------------------------------------------------------------------------------------- 9.8 · the trilemma


def seconds_by_median(draw, n, repeats, clock):
    draw(n)
    spent = []
    for _ in range(repeats):
        began = clock()
        draw(n)
        spent.append((clock() - began) / n)
    return statistics.median(spent)


def seconds_by_stops(draw, n, repeats, clock):
    draw(n)
    stops = [clock()]
    for _ in range(repeats):
        draw(n)
        stops.append(clock())
    return sorted(after - before for before, after in zip(stops, stops[1:]))[repeats // 2] / n


def seconds_of_the_first(draw, n, repeats, clock):
    began = clock()
    draw(n)
    return (clock() - began) / n


def seconds_since_zero(draw, n, repeats, clock):
    draw(n)
    spent = []
    for _ in range(repeats):
        draw(n)
        spent.append(clock())
    return sorted(spent)[repeats // 2] / n


def seconds_warm_and_middle_of_all(draw, n, repeats, clock):
    """The call that warms up counts as one of the repeats."""
    spent = []
    for _ in range(repeats):
        began = clock()
        draw(n)
        spent.append(clock() - began)
    return statistics.fmean(sorted(spent)[1:]) / n if repeats > 1 else spent[0] / n


def seconds_of_one_image(draw, n, repeats, clock):
    """Draws one image at a time: another batch size, another number."""
    return right("eval/seconds")(lambda _: draw(1), n, repeats, clock)


def corners_by_tensors(measured, worst, best):
    m, w, b = (torch.tensor(row, dtype=torch.float64) for row in (measured, worst, best))
    for row in (m, w, b):
        row[1] = row[1].log10()
    return tuple(((m - w) / (b - w)).clamp(0, 1).tolist())


def corners_by_name(measured, worst, best):
    def share(value, low, high):
        return max(min((value - low) / (high - low), 1.0), 0.0)

    good = share(measured[0], worst[0], best[0])
    fast = share(math.log2(measured[1]), math.log2(worst[1]), math.log2(best[1]))
    return good, fast, share(measured[2], worst[2], best[2])


def corners_clipped_below(measured, worst, best):
    d, _, cover = ((m - w) / (b - w) for m, w, b in zip(measured, worst, best))
    fast = math.log(measured[1] / worst[1]) / math.log(best[1] / worst[1])
    return tuple(max(0.0, share) for share in (d, fast, cover))


def corners_by_the_best(measured, worst, best):
    """Quotients with the best."""
    d, s, c = measured
    return min(1.0, best[0] / d), min(1.0, best[1] / s), min(1.0, c / best[2])


def corners_order(measured, worst, best):
    good, fast, covered = right("eval/corners")(measured, worst, best)
    return good, covered, fast


def corners_log_after(measured, worst, best):
    """The logarithm of the share, not of the seconds."""
    good, fast, covered = slip("eval/corners", "seconds as they are")(measured, worst, best)
    return good, min(1.0, max(0.0, 1 + math.log10(max(fast, 1e-4)) / 4)), covered


def evaluations_by_removing(network, draw):
    count = 0

    def more(*_):
        nonlocal count
        count += 1

    hook = network.register_forward_hook(more)
    draw(1)
    hook.remove()
    return count


def evaluations_before(network, draw):
    asked = []
    with network.register_forward_pre_hook(lambda module, inputs: asked.append(inputs)):
        draw(1)
    return len(asked)


def evaluations_by_patching(network, draw):
    calls, original = [], network.forward
    network.forward = lambda *inputs: calls.append(1) or original(*inputs)
    draw(1)
    del network.forward
    return len(calls)


def evaluations_of_the_layers_alone(network, draw):
    asked, hooks = [], []
    for part in network.children():
        hooks.append(part.register_forward_hook(lambda *_: asked.append(1)))
    draw(1)
    for hook in hooks:
        hook.remove()
    return len(asked)


def evaluations_of_one_run(network, draw):
    asked = []
    hook = network.register_forward_hook(lambda *_: (asked.append(1), hook.remove())[0])
    draw(1)
    return len(asked)


def evaluations_from_one(network, draw):
    return right("eval/evaluations")(network, draw) + 1


def places_by_keys(models, worst, best):
    keys = ("distance", "milliseconds", "coverage")
    return {
        name: [
            right("eval/corners")((math.sqrt(d2), 1e-3 * ms, cover), worst, best)
            for d2, ms, cover in zip(*(values[key] for key in keys))
        ]
        for name, values in models.items()
        if set(keys) <= set(values)
    }


def places_by_index(models, worst, best):
    found = {}
    for name in models:
        if name not in ("real images", "pixel Gaussian"):
            row = models[name]
            found[name] = []
            for k in range(len(row["distance"])):
                numbers = row["distance"][k] ** 0.5, row["milliseconds"][k] / 1000, row["coverage"][k]
                found[name].append(right("eval/corners")(numbers, worst, best))
    return found


def places_turned(models, worst, best):
    """Three lists of seeds for each model, not seeds of three shares."""
    return {name: [list(row) for row in zip(*rows)] for name, rows in right("eval/places")(models, worst, best).items()}


def places_ends_exchanged(models, worst, best):
    return right("eval/places")(models, best, worst)


def places_of_the_last_model(models, worst, best):
    """The dictionary is made anew for each model."""
    return dict([list(right("eval/places")(models, worst, best).items())[-1]]) if len(models) > 3 else {}


# --------------------------------------------------------------------------------------------- 9.9 · real or generated?


def wilson_by_roots(wrong, n, z=1.96):
    """The two ends solve (p̂ − p)² = z² p (1 − p) / n."""
    p = wrong / n
    a, b, c = 1 + z**2 / n, -(2 * p + z**2 / n), p**2
    root = math.sqrt(max(0.0, b**2 - 4 * a * c))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def wilson_by_counts(wrong, n, z=1.96):
    middle = (wrong + z * z / 2) / (n + z * z)
    reach = z / (n + z * z) * math.sqrt(wrong * (n - wrong) / n + z * z / 4)
    return middle - reach, middle + reach


def wilson_agresti(wrong, n, z=1.96):
    """Agresti and Coull's: near, and another one."""
    m = n + z * z
    p = (wrong + z * z / 2) / m
    reach = z * math.sqrt(p * (1 - p) / m)
    return p - reach, p + reach


def wilson_always_95(wrong, n, z=1.96):
    return right("eval/wilson")(wrong, n, 1.96)


def wilson_of_z_over_n(wrong, n, z=1.96):
    p, shrink = wrong / n, 1 + z**2 / n
    middle = (p + z / (2 * n)) / shrink
    reach = z * math.sqrt(p * (1 - p) / n + z / (4 * n**2)) / shrink
    return middle - reach, middle + reach


def wilson_backwards(wrong, n, z=1.96):
    low, high = right("eval/wilson")(wrong, n, z)
    return high, low


def rates_by_counts(answers, real="real images"):
    n, wrong = {}, {}
    for source, said in answers:
        n[source] = n.get(source, 0) + 1
        wrong[source] = wrong.get(source, 0) + (said == ("generated" if source == real else "real"))
    return {source: (wrong[source] / n[source], *right("eval/wilson")(wrong[source], n[source])) for source in n}


def rates_by_ifs(answers, real="real images"):
    rates = {}
    for source, _ in answers:
        mine = [said for origin, said in answers if origin == source]
        errors = mine.count("generated") if source == real else mine.count("real")
        low, high = wilson_by_roots(errors, len(mine))
        rates[source] = errors / len(mine), low, high
    return rates


def rates_textbook(answers, real="real images"):
    """The textbook interval in place of (9.7)."""
    found = {}
    for source, (rate, *_) in right("eval/error-rates")(answers, real).items():
        n = sum(origin == source for origin, _ in answers)
        found[source] = rate, *slip("eval/wilson", "the textbook interval")(round(rate * n), n, 1.96)
    return found


def rates_of_the_first_half(answers, real="real images"):
    return right("eval/error-rates")(answers[: len(answers) // 2], real)


def rates_without_intervals(answers, real="real images"):
    return {source: row[0] for source, row in right("eval/error-rates")(answers, real).items()}


def rates_of_one_name(answers, real="real images"):
    """Takes "real images" for the name of the real ones, whatever was said."""
    return right("eval/error-rates")(answers, "real images")


MUTANTS |= {
    "eval/nearest": {
        "the first part": nearest_first_part,
        "within a part": nearest_within,
        "city blocks": nearest_cityblock,
        "farthest first": nearest_farthest_first,
    },
    "eval/copies": {
        "always a third": copies_always_a_third,
        "their share": copies_as_numbers,
        "against the mean": copies_to_the_mean,
        "against the farthest": copies_to_the_farthest,
        "equal pixels": copies_of_unequal,
    },
    "eval/somebody-elses-report": {
        "the farthest": report_of_the_farthest,
        "the other tail": report_other_tail,
        "percent": report_in_percent,
        "a share of the mean": report_by_the_least,
    },
    "eval/seconds": {
        "the first call alone": seconds_of_the_first,
        "the time of day": seconds_since_zero,
        "the first call among them": seconds_warm_and_middle_of_all,
        "one image at a time": seconds_of_one_image,
    },
    "eval/corners": {
        "clipped below only": corners_clipped_below,
        "quotients": corners_by_the_best,
        "another order": corners_order,
        "the logarithm of the share": corners_log_after,
    },
    "eval/evaluations": {
        "its layers alone": evaluations_of_the_layers_alone,
        "the first run": evaluations_of_one_run,
        "one too many": evaluations_from_one,
    },
    "eval/places": {
        "turned": places_turned,
        "ends exchanged": places_ends_exchanged,
        "the last model": places_of_the_last_model,
    },
    "eval/error-rates": {
        "the textbook interval": rates_textbook,
        "half of the answers": rates_of_the_first_half,
        "no interval": rates_without_intervals,
        "a fixed name": rates_of_one_name,
    },
    "eval/wilson": {
        "Agresti and Coull": wilson_agresti,
        "always 95 %": wilson_always_95,
        "z for z²": wilson_of_z_over_n,
        "high first": wilson_backwards,
    },
}

ALTERNATIVES |= {
    "eval/nearest": {"differences": nearest_by_differences, "sorted": nearest_sorted, "merged": nearest_merged}
    | in_other_forms(nearest_sorted),
    "eval/copies": {"a quotient": copies_by_quotient, "one by one": copies_one_by_one},
    "eval/somebody-elses-report": {"topk": report_by_topk, "sorted": report_sorted},
    "eval/seconds": {"median": seconds_by_median, "stops": seconds_by_stops},
    "eval/corners": {"tensors": corners_by_tensors, "by name": corners_by_name},
    "eval/evaluations": {
        "removed by hand": evaluations_by_removing,
        "before each run": evaluations_before,
        "forward replaced": evaluations_by_patching,
    },
    "eval/places": {"by keys": places_by_keys, "by index": places_by_index},
    "eval/error-rates": {"counts": rates_by_counts, "ifs": rates_by_ifs},
    "eval/wilson": {"roots": wilson_by_roots, "counts": wilson_by_counts},
}
