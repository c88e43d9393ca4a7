"""The quizzes of notebook 09, "Evaluation and the trilemma"."""

import math
from statistics import NormalDist

import torch
from torch import nn

from course_utils import metrics
from course_utils.measured import corners, wishes

from ..quizzes.declarations import Case, Misconception, Option, concept, quiz

# -------------------------------------------------------------------------------------------------- 9.7 · is it a copy?

concept(
    "eval/by-heart",
    minutes=1,
    title="Learned by heart",
    question="""
    A model has no idea of clothes. It keeps all 60,000 training images in a drawer and draws one of them at random each
    time. Which of the measures up to here, all against *test* images, gives it away?
    """,
    options={
        "a": Option(
            "Recall and coverage, since a drawer of old images holds nothing new of the data.",
            "They ask whether test images have a sample *nearby*. With 60,000 training images scattered over the data, "
            "they have: the drawer is as varied as the data.",
        ),
        "b": Option(
            "The squared Fréchet distance, which is much too small for an honest model.",
            "It is as small as that of fresh real images, and that is what an honest model aims at. No value of d² is "
            "too good to be true by itself.",
        ),
        "c": Option(
            "Precision, because an exact copy lies in the middle of a ball of its own.",
            "Precision here puts balls around test images, and copies of *training* images are inside of them as often "
            "as fresh real images are: a perfect score.",
        ),
        "d": Option(
            "None of them: to each of these measures the drawer is as good as fresh real images.",
            "Right. They reward whatever looks like the data. Whether it was *made up* is another question, and it "
            "needs the training images.",
            right=True,
        ),
    },
    explanation='The control row "real images" of every table is such a drawer: nothing is better.',
)


def _nearest(points, among, count, at_once=500):
    distances, indices = metrics.nearest(points, among, count)
    return distances.to(points.dtype), indices


def _some_near_others(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, m, shape, count, at_once, dtype in (
        (7, 9, (1, 3, 4), 2, 3, torch.float32),
        (5, 11, (2, 2, 3), 3, 5, torch.float64),
        (1, 4, (1, 5, 2), 1, 10, torch.float32),
        (40, 30, (1, 4, 3), 2, 7, torch.float64),
        (6, 3, (1, 1, 1), 3, 4, torch.float64),
    ):
        among = torch.rand(m, *shape, generator=rng, dtype=dtype) * 2 - 1
        points = torch.rand(n, *shape, generator=rng, dtype=dtype) * 2 - 1
        cases.append(Case({"points": points, "among": among, "count": count, "at_once": at_once}))
    return cases


def _nearest_of_a_part(points, among, count, at_once):
    """Goes through `among` in parts and keeps the numbers that images have in their part."""
    found, x = [], points.flatten(1)
    for part in among.flatten(1).split(max(at_once, count)):
        close = torch.cdist(x, part).topk(min(count, len(part)), largest=False)
        found.append((close.values, close.indices))
    values = torch.cat([values for values, _ in found], 1)
    best = values.topk(count, largest=False)
    return best.values, torch.cat([indices for _, indices in found], 1).gather(1, best.indices)


def _nearest_without_the_first(points, among, count, at_once):
    distances, indices = torch.cdist(points.flatten(1), among.flatten(1)).sort(1)
    kept = [min(k + 1, len(among) - 1) for k in range(count)]
    return distances[:, kept], indices[:, kept]


def _nearest_squared(points, among, count, at_once):
    distances, indices = _nearest(points, among, count, at_once)
    return distances.square(), indices


def _nearest_per_pixel(points, among, count, at_once):
    distances, indices = _nearest(points, among, count, at_once)
    return distances / math.sqrt(points[0].numel()), indices


def _farthest(points, among, count, at_once):
    found = torch.cdist(points.flatten(1), among.flatten(1)).topk(count)
    return found.values, found.indices


def _nearest_by_rows(points, among, count, at_once):
    """Compares the last axis only."""
    found = (points[:, None] - among[None]).norm(dim=-1).flatten(2).mean(2).topk(count, largest=False)
    return found.values, found.indices


quiz(
    "eval/nearest",
    points=3,
    minutes=5,
    title="The nearest training images",
    reference=_nearest,
    library=(metrics.nearest,),
    cases=_some_near_others,
    any_device=False,
    misconceptions=[
        Misconception(
            "numbers within a part",
            _nearest_of_a_part,
            "Your distances are right, but indices begin anew with each part of `among`. Split the `points` instead: "
            "then every part sees all of `among`.",
        ),
        Misconception(
            "the first one left out",
            _nearest_without_the_first,
            "You left the nearest one out. That is right within *one* set, where it is the image itself; here the sets "
            "are two.",
        ),
        Misconception("squared distances", _nearest_squared, "Those are squared distances. The root is missing."),
        Misconception("per pixel", _nearest_per_pixel, "A Euclidean distance is a sum over pixels, not a mean."),
        Misconception("the farthest", _farthest, "`topk` gives the largest unless you say `largest=False`."),
        Misconception(
            "only the last axis",
            _nearest_by_rows,
            "An image is one point: flatten all axes but the first before you take distances.",
        ),
    ],
    hints=[
        "An image is a point with as many coordinates as it has pixels. What turns (n, c, h, w) into (n, d)?",
        "`torch.cdist(a, b)` gives a table (n, m). `table.topk(count, largest=False)` gives the smallest of each row "
        "and where they stand.",
        "A table for all at once may not fit into memory. `points.split(at_once)` gives parts of them.",
        "Per part: `found = torch.cdist(part, among).topk(count, largest=False)`; keep `found.values` and "
        "`found.indices`.",
        "`return torch.cat(distances), torch.cat(indices)`",
    ],
    passed="Part by part, every training image is looked at, and memory holds a strip of the table at a time: 60,000 "
    "images are no problem.",
    explanation="""
    Splitting `points` keeps each strip whole, so nothing has to be merged. (The library takes differences where points
    are close: `cdist` goes by products when there are more than 25 rows, and loses digits near 0.)
    """,
)

concept(
    "eval/nearer-than-real",
    minutes=1,
    title="Nearer than real",
    question="""
    A model's samples lie nearer to their nearest training images than fresh *test* images do: 6.6 against 7.5, in the
    middle. Does it copy?
    """,
    options={
        "a": Option(
            "Not by this: whatever has lost its fine detail lies nearer to everything.",
            "Right. A distance adds up the detail of *both* images, and smooth ones have less of it. Ask whether one "
            "training image is much nearer than all others.",
            right=True,
        ),
        "b": Option(
            "Surely: what is made up can't lie nearer than real images that are new.",
            "It can. The mean of all shirts was copied from nobody, and is nearer to most shirts than shirts are to "
            "each other.",
        ),
        "c": Option(
            "Surely, at least those samples that lie nearer than any test image does.",
            "A limit on the distance alone takes smoothness for a copy, wherever it is set. And it depends on how many "
            "training images there are.",
        ),
        "d": Option(
            "Not by this: a distance in pixels has no meaning, and so can't find copies.",
            "It is a poor judge of *looks*. But a copy agrees pixel for pixel, and then it is as good as any.",
        ),
    },
    explanation="The cell below blurs test images a little, and measures them again.",
)


def _copies(generated, training, ratio=1 / 3):
    return metrics.copies(generated, training, ratio)


def _some_copied(rng: torch.Generator) -> list[Case]:
    """A third exact copies, a third nearly, a third not; in the last case an image that stands there twice."""
    cases = []
    for n, m, shape, ratio, dtype in (
        (9, 12, (1, 3, 4), 1 / 3, torch.float32),
        (12, 8, (2, 2, 3), 1 / 2, torch.float64),
        (6, 2, (1, 5, 2), 1 / 3, torch.float64),
        (9, 20, (1, 4, 4), 3 / 4, torch.float64),
    ):
        training = torch.rand(m, *shape, generator=rng, dtype=dtype) * 2 - 1
        generated = torch.rand(n, *shape, generator=rng, dtype=dtype) * 2 - 1
        which = torch.randint(m, (n,), generator=rng)
        generated[0::3] = training[which[0::3]]
        lies = (ratio * torch.rand(len(which[1::3]), generator=rng, dtype=dtype)).view(-1, *[1] * len(shape))
        others = training[(which[1::3] + 1) % m]
        generated[1::3] = (1 - lies) * training[which[1::3]] + lies * others
        cases.append(Case({"generated": generated, "training": training, "ratio": ratio}))
    twice = torch.cat([training, training[:3]])
    cases.append(Case({"generated": training[:6], "training": twice, "ratio": ratio}, label="some images stand twice"))
    return cases


def _two_distances(generated, training):
    return metrics.nearest(generated, training, 2).distances.T


def _copies_exact_only(generated, training, ratio):
    return _two_distances(generated, training)[0] == 0


def _copies_without_exact(generated, training, ratio):
    first, second = _two_distances(generated, training)
    return first < ratio * second


def _copies_of_squares(generated, training, ratio):
    first, second = _two_distances(generated, training)
    return (first**2 < ratio * second**2) | (first == 0)


def _copies_backwards(generated, training, ratio):
    first, second = _two_distances(generated, training)
    return second * ratio <= first


def _copies_by_a_limit(generated, training, ratio):
    return _two_distances(generated, training)[0] < ratio


quiz(
    "eval/copies",
    points=2,
    minutes=4,
    equation="9.6",
    title="Is it a copy?",
    reference=_copies,
    library=(metrics.copies,),
    cases=_some_copied,
    any_device=False,
    misconceptions=[
        Misconception(
            "exact copies only",
            _copies_exact_only,
            "Only what agrees in every pixel counts for you. A network never copies that well: (9.6) asks for *much "
            "nearer to one than to all others*.",
        ),
        Misconception(
            "0 < 0",
            _copies_without_exact,
            "An exact copy of an image that stands in the training set twice has both distances 0, and 0 < 0 is false. "
            "Let a distance of 0 count in any case.",
        ),
        Misconception(
            "squares",
            _copies_of_squares,
            "A ratio of squared distances is the square of the ratio: yours calls far too much a copy.",
        ),
        Misconception("the wrong way round", _copies_backwards, "That marks what is *no* copy."),
        Misconception(
            "a limit on the distance",
            _copies_by_a_limit,
            "`ratio` is no distance. Compare the nearest with the second nearest training image.",
        ),
    ],
    hints=[
        "Which two distances does (9.6) compare? Your `nearest` gives both at once.",
        "`nearest(generated, training, 2)[0]` is (n, 2): the first and the second column.",
        "Compare the first with `ratio` times the second.",
        "What if both are 0? `(first < ratio * second) | (first == 0)`",
    ],
    passed="A ratio needs no unit and no scale: it is the same for bright and dark images, and for sets of any size it "
    "asks the same question.",
    explanation="A new image lies between many training images, at about the same distance from the nearest ones; a "
    "copy has one that is its own.",
)


def _flat_nearest(images, training, column):
    return metrics.nearest(images, training, 2).distances[:, column]


def _report(generated, training, held_out, rare):
    limit = _flat_nearest(held_out, training, 0).quantile(rare)
    return (_flat_nearest(generated, training, 0) < limit).double().mean().item()


def _report_second(generated, training, held_out, rare):
    limit = _flat_nearest(held_out, training, 1).quantile(rare)
    return (_flat_nearest(generated, training, 1) < limit).double().mean().item()


def _report_half_mended(generated, training, held_out, rare):
    limit = _flat_nearest(held_out, training, 1).quantile(rare)
    return (_flat_nearest(generated, training, 0) < limit).double().mean().item()


def _report_other_half_mended(generated, training, held_out, rare):
    limit = _flat_nearest(held_out, training, 0).quantile(rare)
    return (_flat_nearest(generated, training, 1) < limit).double().mean().item()


def _report_of_held_out(generated, training, held_out, rare):
    limit = _flat_nearest(generated, training, 0).quantile(rare)
    return (_flat_nearest(held_out, training, 0) < limit).double().mean().item()


def _report_against_held_out(generated, training, held_out, rare):
    limit = _flat_nearest(training, held_out, 0).quantile(rare)
    return (_flat_nearest(generated, held_out, 0) < limit).double().mean().item()


def _reported(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, m, k, shape, rare, planted in (
        (30, 25, 40, (1, 3, 4), 0.1, 12),
        (24, 60, 50, (1, 2, 5), 0.2, 5),
        (40, 30, 20, (2, 3, 2), 0.05, 40),
    ):
        training = torch.randn(m, *shape, generator=rng, dtype=torch.float64)
        generated = torch.randn(n, *shape, generator=rng, dtype=torch.float64)
        held_out = torch.randn(k, *shape, generator=rng, dtype=torch.float64)
        nearly = training[torch.randint(m, (planted,), generator=rng)]
        generated[:planted] = nearly + 0.05 * torch.randn(nearly.shape, generator=rng, dtype=torch.float64)
        cases.append(Case({"generated": generated, "training": training, "held_out": held_out, "rare": rare}))
    return cases


quiz(
    "eval/somebody-elses-report",
    points=3,
    minutes=6,
    title="Somebody else's report",
    bug_hunt=True,
    reference=_report,
    cases=_reported,
    any_device=False,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _report_second,
            "As it was handed out. Plant a copy, and follow it by hand: which column of the sorted table holds its "
            "distance, and which one is read?",
        ),
        Misconception(
            "mended for the samples only",
            _report_half_mended,
            "Samples are measured to the nearest image now, but held-out ones to the second: far too many are near.",
        ),
        Misconception(
            "mended for the limit only",
            _report_other_half_mended,
            "The limit is right now, but samples are still measured to the second nearest image.",
        ),
        Misconception(
            "the sets exchanged",
            _report_of_held_out,
            "The limit comes from held-out images, and the generated ones are counted. You have it the other way.",
        ),
        Misconception(
            "against held-out images",
            _report_against_held_out,
            "Near to held-out images is what good samples are. Copies are near to *training* images.",
        ),
    ],
    hints=[
        "Exact copies were planted and none was found. What is the distance from a copy to its nearest training image?",
        "The line was written for neighbours *within* one set. What stands in the first column there?",
        "There it is the image itself, at distance 0, and must be left out. Here the first column is what we want.",
        "`nearest_of.append(table.sort(dim=1).values[:, 0])`",
    ],
    passed="Neighbours within a set skip the first column, neighbours between two sets don't. A check that was never "
    "seen to fail says nothing: plant what it is to find.",
    explanation="The second nearest training image is about as far from a copy as from any other image of that kind.",
)

concept(
    "eval/what-the-report-misses",
    minutes=1,
    title="What slips through",
    question="""
    His report goes by the *second* nearest training image, for samples and for held-out images alike. Which copies does
    it still find?
    """,
    options={
        "a": Option(
            "All but the very best: a copy with a little noise is found as before.",
            "Noise doesn't matter here. The distance that would be tiny is thrown away, for good copies and for poor "
            "ones.",
        ),
        "b": Option(
            "Copies of rare images, which have no other images in their neighbourhood.",
            "Those least of all: their second nearest image is far away, so they look especially original.",
        ),
        "c": Option(
            "Copies of what stands in the training set twice, or nearly: then the second is near as well.",
            "Right. With duplicates he finds what you would have missed by the ratio in (9.6); each rule has its own "
            "blind spot.",
            right=True,
        ),
        "d": Option(
            "Copies in a small training set, in which the second nearest image is nearer.",
            "In a small set all distances are larger, the limit as well. Copies have a second nearest image like any "
            "other image.",
        ),
    },
)

# --------------------------------------------------------------------------------------------------- 9.8 · the trilemma


def _seconds_per_image(draw, n, repeats, clock):
    draw(n)
    spent = []
    for _ in range(repeats):
        began = clock()
        draw(n)
        spent.append(clock() - began)
    return sorted(spent)[repeats // 2] / n


def _try_clock(answer, each, first, hiccup, n, repeats):
    """A clock that only `draw` moves: each image takes its time, the first call more, and one call has a hiccup."""
    now, drawn = 100.0, []

    def clock():
        return now

    def draw(count):
        nonlocal now
        drawn.append(count)
        now += each * count + first * (len(drawn) == 1) + hiccup * (len(drawn) == 3)
        return torch.zeros(count, 1, 2, 2)

    seconds = answer(draw, n, repeats, clock)
    return None if seconds is None else {"seconds": seconds, "images": sum(drawn)}


def _timings(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, repeats in ((10, 3), (1, 5), (64, 3)):
        each, first, hiccup = (0.1 + torch.rand(3, generator=rng)).tolist()
        settings = {"each": 0.02 * each, "first": first, "hiccup": 3 * hiccup, "n": n, "repeats": repeats}
        cases.append(Case(settings))
    return cases


def _timed_cold(draw, n, repeats, clock):
    spent = []
    for _ in range(repeats):
        began = clock()
        draw(n)
        spent.append(clock() - began)
    return sum(spent) / repeats / n


def _timed_mean(draw, n, repeats, clock):
    draw(n)
    began = clock()
    for _ in range(repeats):
        draw(n)
    return (clock() - began) / repeats / n


def _timed_per_call(draw, n, repeats, clock):
    return _seconds_per_image(draw, n, repeats, clock) * n


def _timed_slowest(draw, n, repeats, clock):
    draw(n)
    spent = []
    for _ in range(repeats):
        began = clock()
        draw(n)
        spent.append(clock() - began)
    return max(spent) / n


def _images_a_second(draw, n, repeats, clock):
    return 1 / _seconds_per_image(draw, n, repeats, clock)


quiz(
    "eval/seconds",
    points=3,
    minutes=5,
    title="Seconds per image",
    reference=_seconds_per_image,
    cases=_timings,
    probe=_try_clock,
    any_device=False,
    misconceptions=[
        Misconception(
            "the first call counted",
            _timed_cold,
            "The first call is slower (memory is asked for, kernels are chosen) and yours counts. Call `draw(n)` once "
            "before you look at the clock.",
        ),
        Misconception(
            "the mean",
            _timed_mean,
            "One hiccup of the machine, and a mean is off. Time each repeat by itself and take the middle one.",
        ),
        Misconception("seconds per call", _timed_per_call, "That is for n images. Divide by n."),
        Misconception("the slowest", _timed_slowest, "That is the slowest repeat. Take the middle one of them."),
        Misconception("images a second", _images_a_second, "Seconds for an image, not images in a second."),
    ],
    hints=[
        "Three things stand between you and the number: a slow first call, hiccups, and n images drawn at once.",
        "Call `draw(n)` once without looking at the clock.",
        "In a loop over `range(repeats)`: `began = clock()`, draw, and append `clock() - began`.",
        "The middle one of an odd number: `sorted(spent)[repeats // 2]`.",
        "`return sorted(spent)[repeats // 2] / n`",
    ],
    passed="Warm up, repeat, take the middle: a stopwatch for programs. And always say how many images were drawn at a "
    "time, since batches are cheaper by the piece.",
    explanation="The median ignores one hiccup in three. The minimum would be an honest choice too, if you say so.",
)


class _Asked(nn.Module):
    """A network of two layers, one of which is asked twice for each answer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(self.layer(x).tanh())


def _try_counting(answer, times, seed):
    """Counts twice, and looks at whether the network is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = _Asked()

    def draw(n):
        x = torch.ones(n, 3)
        for _ in range(times):
            x = network(x)
        return x

    with torch.no_grad():
        before = network(torch.ones(2, 3))
        counts = [answer(network, draw), answer(network, draw)]
        unchanged = bool((network(torch.ones(2, 3)) == before).all())
    if counts[0] is None:
        return None
    return {"evaluations": counts, "left behind": len(network._forward_hooks), "unchanged": unchanged}


def _evaluations(network, draw):
    asked = []
    with network.register_forward_hook(lambda *_: asked.append(1)):
        draw(1)
    return len(asked)


def _draws(rng: torch.Generator) -> list[Case]:
    seed = int(torch.randint(1000, (1,), generator=rng))
    times = [1, 5, int(torch.randint(20, 60, (1,), generator=rng))]
    return [Case({"times": k, "seed": seed}, label=f"{k} evaluations") for k in times]


def _evaluations_left_behind(network, draw):
    asked = []
    network.register_forward_hook(lambda *_: asked.append(1))
    draw(1)
    return len(asked)


def _evaluations_of_layers(network, draw):
    asked = []
    hooks = [part.register_forward_hook(lambda *_: asked.append(1)) for part in network.modules()]
    draw(1)
    for hook in hooks:
        hook.remove()
    return len(asked)


def _evaluations_of_two(network, draw):
    asked = []
    with network.register_forward_hook(lambda *_: asked.append(1)):
        draw(1)
        draw(1)
    return len(asked)


quiz(
    "eval/evaluations",
    points=2,
    minutes=3,
    title="How often is the network asked?",
    reference=_evaluations,
    cases=_draws,
    probe=_try_counting,
    any_device=False,
    misconceptions=[
        Misconception(
            "a hook left behind",
            _evaluations_left_behind,
            "Right, but your hook stays on the network, and counts for ever. Use it as a context: `with "
            "network.register_forward_hook(...)`.",
        ),
        Misconception(
            "its layers counted",
            _evaluations_of_layers,
            "You count the layers inside as well. One hook, on the network itself.",
        ),
        Misconception("two draws", _evaluations_of_two, "That is for two images. Draw one."),
    ],
    hints=[
        "Something must count whenever the network runs, without knowing how `draw` goes about it.",
        "`network.register_forward_hook(f)` calls f(network, inputs, output) after each run.",
        "f may append to a list, `lambda *_: asked.append(1)`.",
        "`with network.register_forward_hook(...): draw(1)` takes the hook off again; then `len(asked)`.",
    ],
    passed="Evaluations are the same on every machine, seconds aren't: report both.",
    explanation="`list.append` returns None. A hook that returns anything else replaces the network's output.",
)


def _marks(rng: torch.Generator) -> list[Case]:
    cases = []
    for label, place in (
        ("between", (0.3, 0.6, 0.45)),
        ("beyond the ends", (1.003, -0.1, 1.05)),
        ("below", (-0.2, 1.4, 0)),
    ):
        u = torch.rand(6, generator=rng, dtype=torch.float64).tolist()
        worst, best = (80 + 80 * u[0], 1 + 4 * u[1], 0.2 * u[2]), (1 + u[3], 1e-4 * (1 + u[4]), 0.9 + 0.1 * u[5])
        at = [w + share * (b - w) for share, w, b in zip(place, worst, best)]
        at[1] = worst[1] * (best[1] / worst[1]) ** place[1]
        cases.append(Case({"measured": tuple(at), "worst": worst, "best": best}, label=label))
    return cases


def _corners_linear(measured, worst, best):
    return tuple(min(1.0, max(0.0, (m - w) / (b - w))) for m, w, b in zip(measured, worst, best))


def _corners_unclipped(measured, worst, best):
    d, _, cover = ((m - w) / (b - w) for m, w, b in zip(measured, worst, best))
    return d, math.log(measured[1] / worst[1]) / math.log(best[1] / worst[1]), cover


def _corners_backwards(measured, worst, best):
    return corners(measured, best, worst)


def _corners_all_logs(measured, worst, best):
    return tuple(
        min(1.0, max(0.0, math.log((m + 1e-9) / (w + 1e-9)) / math.log((b + 1e-9) / (w + 1e-9))))
        for m, w, b in zip(measured, worst, best)
    )


def _corners_summing_to_one(measured, worst, best):
    shares = corners(measured, worst, best)
    return tuple(share / (sum(shares) or 1.0) for share in shares)


quiz(
    "eval/corners",
    points=3,
    minutes=5,
    title="Three numbers, three corners",
    reference=corners,
    library=(wishes,),
    cases=_marks,
    any_device=False,
    misconceptions=[
        Misconception(
            "seconds as they are",
            _corners_linear,
            "Between a second and a tenth of a millisecond lie four powers of ten: linearly, a millisecond and a tenth "
            "of one are the same. Scale the *logarithm* of the seconds.",
        ),
        Misconception(
            "not clipped",
            _corners_unclipped,
            "Right in between. But what is worse than the worst gets less than 0, and a triangle has no such place: "
            "clip to [0, 1].",
        ),
        Misconception("1 for the worst", _corners_backwards, "Your shares are 0 at the best and 1 at the worst."),
        Misconception("logarithms of all", _corners_all_logs, "Only the seconds are scaled by their logarithm."),
        Misconception(
            "made to sum to one",
            _corners_summing_to_one,
            "Three shares, each by itself. Only their ratios are drawn, but that is the picture's business.",
        ),
    ],
    hints=[
        "The same formula three times: how far has it come from the worst to the best?",
        "(value − worst) / (best − worst). It works whether large or small is good. Why?",
        "For the seconds, take `math.log` of all three numbers first.",
        "Clip each: `min(1.0, max(0.0, share))`.",
        "`math.log(seconds / worst[1]) / math.log(best[1] / worst[1])`",
    ],
    passed="A map of three qualities needs two ends for each, and it is you who chooses them: other ends, another "
    "picture. That is why they belong in the caption.",
    explanation="The quotient turns over by itself where small is good: numerator and denominator are both negative.",
)


def _places(models, worst, best):
    found = {}
    for name, values in models.items():
        if "milliseconds" in values:
            seeds = zip(values["distance"], values["milliseconds"], values["coverage"])
            found[name] = [corners((d2**0.5, ms / 1000, cover), worst, best) for d2, ms, cover in seeds]
    return found


def _tables(rng: torch.Generator) -> list[Case]:
    cases = []
    for names, seeds in ((("VAE", "GAN"), 3), (("diffusion",), 1), (("a", "b", "c"), 2)):
        u = torch.rand(len(names) + 2, 3, seeds, generator=rng, dtype=torch.float64)
        models = {"real images": {"distance": (0.5 + u[0, 0]).tolist(), "coverage": (0.9 + 0.1 * u[0, 2]).tolist()}}
        for k, name in enumerate(names, 1):
            d2, ms, cover = 4 + 60 * u[k, 0], 0.2 * 2000 ** u[k, 1], 0.1 + 0.7 * u[k, 2]
            models[name] = {"distance": d2.tolist(), "milliseconds": ms.tolist(), "coverage": cover.tolist()}
        models["pixel Gaussian"] = {"distance": (90 + u[-1, 0]).tolist(), "coverage": (0.1 * u[-1, 2]).tolist()}
        args = {"models": models, "worst": (10.0, 1.0, 0.0), "best": (0.5, 1e-4, 1.0)}
        cases.append(Case(args, label=f"{len(names)} models and two controls, {seeds} seeds"))
    return cases


def _with_each(change):
    """A wrong answer that changes each model's three numbers first."""

    def places(models, worst, best):
        found = {}
        for name, values in models.items():
            if "milliseconds" in values:
                seeds = zip(values["distance"], values["milliseconds"], values["coverage"])
                found[name] = [corners(change(*row), worst, best) for row in seeds]
        return found

    return places


def _places_of_means(models, worst, best):
    means = {
        name: {quantity: [sum(row) / len(row)] for quantity, row in values.items()} for name, values in models.items()
    }
    return _places(means, worst, best)


def _places_of_the_first_seed(models, worst, best):
    return {name: rows[:1] for name, rows in _places(models, worst, best).items()}


quiz(
    "eval/places",
    points=2,
    minutes=4,
    title="Every seed, every model",
    reference=_places,
    library=(wishes,),
    cases=_tables,
    any_device=False,
    misconceptions=[
        Misconception(
            "squared distances",
            _with_each(lambda d2, ms, cover: (d2, ms / 1000, cover)),
            "The table holds d², the ends are distances: take the root.",
        ),
        Misconception(
            "milliseconds as seconds",
            _with_each(lambda d2, ms, cover: (d2**0.5, ms, cover)),
            "The table holds milliseconds, the ends are seconds: divide by 1,000.",
        ),
        Misconception(
            "the mean over seeds",
            _places_of_means,
            "One place for each model. Keep every seed: how far apart they lie is the error bar of the picture.",
        ),
        Misconception(
            "the first seed",
            _places_of_the_first_seed,
            "You return from within the loop over seeds, or take the first. Each seed has a place.",
        ),
    ],
    hints=[
        "Two loops: over the models, and over the seeds of each.",
        'Controls have no "milliseconds": `if "milliseconds" in values`.',
        '`zip(values["distance"], values["milliseconds"], values["coverage"])` gives one triple for each seed.',
        "`corners((d2**0.5, ms / 1000, cover), worst, best)` is the place of one seed.",
    ],
    passed="Seeds drawn side by side are an error bar that nobody has to explain.",
    explanation="A mean would do for a table. In a picture, the spread between seeds tells which gaps mean something.",
)

concept(
    "eval/lost-in-the-triangle",
    minutes=1,
    title="Three shares, one place",
    question="""
    The triangle draws three shares as one place: (0.9, 0.9, 0.9) and (0.1, 0.1, 0.1) both lie in its middle. What can't
    you read off it?
    """,
    options={
        "a": Option(
            "Which of its three qualities is the strongest one of a given model.",
            "That is the corner it is nearest to, by its ratios: just what the picture does show.",
        ),
        "b": Option(
            "Whether a model is better in all three qualities than another one.",
            "Right. A place has two coordinates, and three went in: how good it is on the whole is gone. Hence the "
            "numbers beside it.",
            right=True,
        ),
        "c": Option(
            "Whether two models have their three qualities in the same ratios.",
            "They do if, and only if, they are drawn at the same place.",
        ),
        "d": Option(
            "How far its seeds are apart, since each of them is drawn as one mark.",
            "Each seed has a mark of its own, so their spread (of ratios) is in the picture.",
        ),
    },
)

# --------------------------------------------------------------------------------------------- 9.9 · real or generated?

concept(
    "eval/perfect-deceiver",
    minutes=1,
    title="The best that a generator can do",
    question="""
    Half of the images that people are shown are real. A generator is perfect: its images are distributed exactly like
    real ones. What error rate do people have, over all images, if they try their best?
    """,
    options={
        "a": Option(
            "0 %, as they see that every image is real, and never mistake one for another.",
            "Half of the images *are* generated, whatever they look like, and each called real is an error.",
        ),
        "b": Option(
            "100 %, because the people fall for each of the generated images that they see.",
            "To be wrong every time they would have to know the truth and say the opposite. Half are real, besides.",
        ),
        "c": Option(
            "50 %, whatever they go by: what they see says nothing about where it is from.",
            "Right: a coin. More than 50 % would mean that images seem *more real than real* ones, and that happens "
            "(HYPE calls it hyper-realism).",
            right=True,
        ),
        "d": Option(
            "25 %, as half are generated and they will be mistaken about half of these.",
            "About the other half, the real ones, they are mistaken just as often.",
        ),
    },
)


def _wilson(wrong, n, z=1.96):
    return tuple(metrics.wilson_interval(wrong, n, level=2 * NormalDist().cdf(z) - 1))


def _guesses(rng: torch.Generator) -> list[Case]:
    z = round(1.0 + torch.rand(1, generator=rng).item(), 3)
    some = int(torch.randint(3, 18, (1,), generator=rng))
    pairs = [(some, 20, 1.96), (1, 20, 1.96), (0, 5, 1.96), (5, 5, 1.96), (1, 1, z), (300, 1000, z), (0, 40, 2.576)]
    return [Case({"wrong": wrong, "n": n, "z": z}, label=f"{wrong} of {n}, z = {z}") for wrong, n, z in pairs]


def _wald(wrong, n, z):
    p = wrong / n
    reach = z * math.sqrt(p * (1 - p) / n)
    return p - reach, p + reach


def _wald_clipped(wrong, n, z):
    low, high = _wald(wrong, n, z)
    return max(0.0, low), min(1.0, high)


def _wilson_uncentred(wrong, n, z):
    p, reach = wrong / n, z * math.sqrt(wrong / n * (1 - wrong / n) / n + z**2 / (4 * n**2))
    return p - reach / (1 + z**2 / n), p + reach / (1 + z**2 / n)


def _wilson_undivided(wrong, n, z):
    low, high = _wilson(wrong, n, z)
    return low * (1 + z**2 / n), high * (1 + z**2 / n)


def _wilson_squared(wrong, n, z):
    p = wrong / n
    reach = z * (p * (1 - p) / n + z**2 / (4 * n**2))
    return (p + z**2 / (2 * n) - reach) / (1 + z**2 / n), (p + z**2 / (2 * n) + reach) / (1 + z**2 / n)


quiz(
    "eval/wilson",
    points=3,
    minutes=5,
    equation="9.7",
    title="How sure is an error rate?",
    reference=_wilson,
    library=(metrics.wilson_interval,),
    cases=_guesses,
    any_device=False,
    misconceptions=[
        Misconception(
            "the textbook interval",
            _wald,
            "That is p̂ ± z √(p̂(1 − p̂)/n). With 0 errors of 5 it is a single point, as if you were certain.",
        ),
        Misconception(
            "the textbook interval, clipped",
            _wald_clipped,
            "Clipping hides that p̂ ± z √(p̂(1 − p̂)/n) is wrong for few answers; at 0 of 5 it still has no width.",
        ),
        Misconception(
            "around p̂",
            _wilson_uncentred,
            "The middle of (9.7) is not p̂: z²/2n pulls it towards ½, and the more so the fewer answers there are.",
        ),
        Misconception("not divided", _wilson_undivided, "Nearly: all of it is divided by 1 + z²/n."),
        Misconception("without the root", _wilson_squared, "What z multiplies is a *root*."),
    ],
    hints=[
        "Write down p̂ first, then the middle, then what goes to both sides.",
        "The middle is (p̂ + z²/2n) / (1 + z²/n).",
        "To both sides goes z √(p̂(1 − p̂)/n + z²/4n²), divided by the same 1 + z²/n.",
        "`reach = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)`, and return middle − reach, "
        "middle + reach.",
    ],
    passed="Honest with few answers: never empty, never outside [0, 1]. An error rate without it is an anecdote.",
    explanation="""
    (9.7) are the shares p that z standard errors *of p itself* can't exclude, $|\\hat p-p|\\le z\\sqrt{p(1-p)/n}$, a
    quadratic in p.
    """,
)


def _error_rates(answers, real="real images"):
    rates = {}
    for source in sorted({source for source, _ in answers}):
        wrong = [(said == "real") != (source == real) for origin, said in answers if origin == source]
        rates[source] = sum(wrong) / len(wrong), *_wilson(sum(wrong), len(wrong))
    return rates


def _played(rng: torch.Generator) -> list[Case]:
    cases = []
    for models, n in ((("GAN", "diffusion"), 20), (("VAE",), 6), (("a", "b", "c"), 60)):
        sources = ["photographs"] * (n // 2) + [models[k % len(models)] for k in range(n // 2)]
        order = torch.randperm(n, generator=rng).tolist()
        says = (torch.rand(n, generator=rng) < 0.6).tolist()
        says[order.index(0)] = False  # a real image called generated is an error, too
        answers = [(sources[k], "real" if yes else "generated") for k, yes in zip(order, says)]
        cases.append(Case({"answers": answers, "real": "photographs"}, label=f"{n} answers, {len(models)} models"))
    return cases


def _rates_of_deceived(answers, real):
    """Counts "real" as an error, whatever it was said of."""
    rates = {}
    for source in sorted({source for source, _ in answers}):
        said = [said == "real" for origin, said in answers if origin == source]
        rates[source] = sum(said) / len(said), *_wilson(sum(said), len(said))
    return rates


def _rates_right(answers, real):
    return {k: (1 - rate, 1 - high, 1 - low) for k, (rate, low, high) in _error_rates(answers, real).items()}


def _rates_of_all(answers, real):
    """Errors with one model, divided by all answers."""
    n, rates = len(answers), {}
    for source in {source for source, _ in answers}:
        wrong = sum((said == "real") != (origin == real) for origin, said in answers if origin == source)
        rates[source] = wrong / n, *_wilson(wrong, n)
    return rates


def _rates_without_real(answers, real):
    return {source: row for source, row in _error_rates(answers, real).items() if source != real}


quiz(
    "eval/error-rates",
    points=3,
    minutes=5,
    title="Who deceived you?",
    reference=_error_rates,
    cases=_played,
    misconceptions=[
        Misconception(
            "real images called real",
            _rates_of_deceived,
            "Of a generated image *real* is the error, of a real one *generated* is. You count *real* for both.",
        ),
        Misconception("right answers", _rates_right, "Those are rates of right answers."),
        Misconception(
            "divided by all",
            _rates_of_all,
            "Each source has its own n: the answers about *its* images.",
        ),
        Misconception(
            "without real images",
            _rates_without_real,
            "The real images are missing. Without their row, somebody who calls everything generated looks perfect.",
        ),
    ],
    hints=[
        "First the sources that occur; then, for each, its own answers.",
        "`{source for source, _ in answers}` are the sources.",
        'When is an answer wrong? `(said == "real") != (source == real)` is True just then.',
        "For each source: `n`, the sum of the wrong ones, and `wilson_interval(wrong, n)`.",
        "`rates[source] = (wrong / n, *wilson_interval(wrong, n))`",
    ],
    passed="An error rate has an owner, an n and an interval; without one of them it can't be compared.",
    explanation="Comparing two truth values with `!=` counts both kinds of error at once.",
)

concept(
    "eval/eight-of-twenty",
    minutes=1,
    title="Eight of twenty",
    question="""
    You were wrong about 8 of 20 images, and (9.7) gives 22 % to 61 %. What do these twenty answers support?
    """,
    options={
        "a": Option(
            "You see a difference, since 40 % of errors are fewer than the 50 % of a coin.",
            "A coin is wrong 8 times or fewer of 20 in one round of four. 50 % lies well inside the interval.",
        ),
        "b": Option(
            "You see no difference, as the interval holds the 50 % that a coin would have.",
            "It holds 30 % as well, and that would be quite an eye. *Not shown* isn't *shown not to be*.",
        ),
        "c": Option(
            "Your error rate is 40 % for this model, and more answers would confirm it.",
            "More answers may well lead elsewhere, anywhere in the interval and sometimes out of it.",
        ),
        "d": Option(
            "Neither a coin nor a good eye is excluded: that takes more answers than these.",
            "Right. To halve the width you need four times as many answers: a few hundred for one model, and several "
            "people.",
            right=True,
        ),
    },
)
