"""Wrong answers to the quizzes of notebook 09 that people really give, and right ones that look different."""

import math
import statistics

import torch

from .answers import in_other_forms, right, slip

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


MUTANTS = {
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

ALTERNATIVES = {
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
