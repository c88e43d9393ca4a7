"""The quizzes of notebook 09, "Evaluation and the trilemma"."""

import math
from statistics import NormalDist, fmean

import torch
from torch import nn

from course_utils import metrics
from course_utils.measured import corners, places, wishes
from course_utils.models.classifier import Classifier

from ..quizzes.declarations import Case, Fixture, Misconception, Option, Unfit, concept, fixture, quiz
from ..quizzes.raw import Array

# ---------------------------------------------------------------------------------------------------- inputs for cases


@fixture("eval/distance")
def _a_distance(seed: int = 0):
    """(a, b) -> float: how far the means of two sets of rows are apart."""
    return lambda a, b: (a.mean(0) - b.mean(0)).square().sum().item()


def _statistics_of_two(x, y):
    return torch.stack([(x.mean(0) - y.mean(0)).square().sum(), x.square().mean() / y.square().mean()])


STATISTICS = {
    "mean": lambda x: x.mean(0),
    "of two": _statistics_of_two,
    "of three": lambda x, y, z: torch.stack([(x.mean(0) * y.mean(0)).sum() - (x.mean(0) * z.mean(0)).sum()]),
}


@fixture("eval/statistic")
def _a_statistic(kind: str = "mean", seed: int = 0):
    """Tensors -> (q,)."""
    return STATISTICS[kind]


def _rows(n: int, d: int, rng: torch.Generator, dtype=torch.float64, scale: float = 1.0, away: float = 0.0):
    return scale * torch.randn(n, d, generator=rng, dtype=dtype) + away


# -------------------------------------------------------------------------------------------------- 9.1 · in whose eyes

concept(
    "eval/why-ghosts",
    title="What a linear reader can notice",
    equation="2.10",
    minutes=1,
    question="""
    Ghosts have the mean and the covariance of real pixels, and nothing else of them. Would more linear features, say
    300 directions in the place of 32, expose them?
    """,
    options={
        "a": Option(
            "Yes: garments have fine details, and 32 directions are too few to hold them.",
            "More directions hold more details of each image. The distance looks at means and covariances of the "
            "features only, and those the ghosts have right in every direction.",
        ),
        "b": Option(
            "Yes, if there are also more images, since 300 features have 45,000 covariances.",
            "With few images the *noise* of both rows grows, that of the floor as well. What the distance tends to is "
            "0 for both.",
        ),
        "c": Option(
            "No: mean and covariance of linear features follow from those of the pixels.",
            "Right. Mean and covariance of linear features follow from those of the pixels, and ghosts have these from "
            "real images. Only a reader that isn't linear sees what else makes a garment.",
            right=True,
        ),
        "d": Option(
            "No: the Fréchet distance takes Gaussians for granted, so it can't expose a Gaussian.",
            "It can: a classifier's features of ghosts have another mean and covariance than those of garments. The "
            "reader is at fault, not the distance.",
        ),
    },
)


def _through_linear(mean, cov, weight, bias):
    return weight @ mean + bias, weight @ cov @ weight.T


def _readers(rng: torch.Generator) -> list[Case]:
    cases = []
    for d, k, dtype in ((5, 3, torch.float64), (1, 1, torch.float64), (2, 4, torch.float32), (3, 3, torch.float64)):
        mixing = torch.randn(d, d, generator=rng, dtype=dtype)
        cases.append(
            Case(
                {
                    "mean": torch.randn(d, generator=rng, dtype=dtype),
                    "cov": mixing @ mixing.T + 0.1 * torch.eye(d, dtype=dtype),
                    "weight": torch.randn(k, d, generator=rng, dtype=dtype),
                    "bias": 1 + torch.rand(k, generator=rng, dtype=dtype),
                }
            )
        )
    return cases


quiz(
    "eval/linear",
    points=2,
    minutes=3,
    title="Mean and covariance through a linear reader",
    reference=_through_linear,
    cases=_readers,
    misconceptions=[
        Misconception(
            "the bias spreads",
            lambda mean, cov, weight, bias: (
                weight @ mean + bias,
                weight @ cov @ weight.T + bias[:, None] * bias[None, :],
            ),
            "A bias moves all features alike: it belongs to the mean, and no covariance notices it.",
        ),
        Misconception(
            "the bias forgotten",
            lambda mean, cov, weight, bias: (weight @ mean, weight @ cov @ weight.T),
            "The mean of W x + b is W m + b.",
        ),
        Misconception(
            "features that don't hang together",
            lambda mean, cov, weight, bias: (weight @ mean + bias, (weight @ cov @ weight.T).diagonal().diag()),
            "Your features have variances but no covariances. Two linear features share pixels, so they hang together.",
        ),
        Misconception(
            "pixels that don't hang together",
            lambda mean, cov, weight, bias: (weight @ mean + bias, weight @ cov.diagonal().diag() @ weight.T),
            "You took the variances of the pixels only. Neighbouring pixels vary together.",
        ),
        Misconception(
            "a standard deviation",
            lambda mean, cov, weight, bias: (weight @ mean + bias, (weight @ cov @ weight.T).diagonal().sqrt().diag()),
            "Expected the covariance, not the standard deviations.",
        ),
    ],
    hints=[
        "The mean of a sum is the sum of the means. What does that say of W x + b?",
        "The covariance is E (f − E f)(f − E f)ᵀ. What is f − E f, in terms of x − m?",
        "f − E f = W (x − m): the bias drops out. Put that in, and draw W out of the expectation on both sides.",
        "`return weight @ mean + bias, weight @ cov @ weight.T`",
    ],
    passed="Whoever fits mean and covariance of the pixels fits them in every linear feature at once. That is why "
    "ghosts belong in every table.",
    explanation="""
    E[(f − E f)(f − E f)ᵀ] = E[W (x − m)(x − m)ᵀ Wᵀ] = W Σ Wᵀ. Without a nonlinearity, a second layer would only
    change W.
    """,
)

# --------------------------------------------------------------------------------------------- 9.2 · small samples lie


def _by_size(distance, real, fake, sizes, draws, generator):
    means = []
    for n in sizes:
        values = []
        for _ in range(draws):
            some, others = (x[torch.randperm(len(x), generator=generator)[:n]] for x in (real, fake))
            values.append(distance(some, others))
        means.append(sum(values) / draws)
    return means


def _try_subsets(answer, distance, real, fake, sizes, draws, generator):
    """What the answer asks of the distance, and what it makes of that: twice from one state, and once going on."""

    def listened():
        asked = []

        def listening(a, b):
            value = distance(a, b)
            asked.append((a[:, 0], b[:, 0], value))
            return value

        means = answer(listening, real, fake, list(sizes), draws, generator)
        return None if means is None else {"means": means, "asked": asked}

    state = generator.get_state()
    found = [listened()]
    generator.set_state(state)
    return None if found[0] is None else [*found, listened(), listened()]


def _numbers(raw) -> list[float]:
    return raw.data.ravel().tolist() if isinstance(raw, Array) and raw.data is not None else []


def _is_subset(numbers: list[float], known: set[float]) -> bool:
    return len(set(numbers)) == len(numbers) and set(numbers) <= known


SUBSETS = {
    "rows of either set": "n and n",
    "how many distances of each size": True,
    "rows of a draw": "different ones of either set",
    "each draw is a new one": True,
    "both sets are shuffled": True,
    "what comes back": "the means, in the order of the sizes",
    "all of it comes from the generator": True,
}


def _about_subsets(raw, case: Case) -> dict:
    """What can be said of the draws, however they are made."""
    if type(raw) is not list or len(raw) != 3:
        raise Unfit("expected a list of means, got something else")
    runs = [[(_numbers(a), _numbers(b), value) for a, b, value in run["asked"]] for run in raw]
    sizes, draws, first = case.args["sizes"], case.args["draws"], runs[0]
    known = [set(case.args[name][:, 0].tolist()) for name in ("real", "fake")]
    if all(len(a) == len(known[0]) and len(b) in sizes for a, b, _ in first):
        return SUBSETS | {"rows of either set": "all and n"}
    counts = {n: [len(a) == len(b) == n for a, b, _ in first].count(True) for n in sizes}
    if len(first) != draws * len(sizes) or set(counts.values()) != {draws}:
        return SUBSETS | {"how many distances of each size": False}
    apart = all(_is_subset(a, known[0]) and _is_subset(b, known[1]) for a, b, _ in first)
    if not apart:
        mixed = any(not (set(a) <= known[0] and set(b) <= known[1]) for a, b, _ in first)
        return SUBSETS | {"rows of a draw": "of another set" if mixed else "the same row twice"}
    shuffled = [len({tuple(each[side]) for each in first if len(each[0]) == sizes[0]}) > 1 for side in (0, 1)]
    return SUBSETS | {
        "each draw is a new one": any(shuffled),
        "both sets are shuffled": all(shuffled) or not any(shuffled),
        "what comes back": _what_of(raw[0]["means"], first, sizes),
        "all of it comes from the generator": runs[0] == runs[1] and (runs[1] != runs[2] or not any(shuffled)),
    }


def _what_of(means, asked: list, sizes: list[int]) -> str:
    if type(means) not in (list, tuple) or not all(type(each) is float for each in means):
        raise Unfit("expected a list of floats, one for each size")
    sums = [sum(value for a, _, value in asked if len(a) == n) for n in sizes]
    draws = len(asked) // len(sizes)
    for words, expected in {
        "the means, in the order of the sizes": [each / draws for each in sums],
        "sums": sums,
    }.items():
        if len(means) == len(expected) and all(abs(m - e) < 1e-6 * (1 + abs(e)) for m, e in zip(means, expected)):
            return words
    return "something else"


def _pools(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, m, d, sizes, draws in ((40, 30, 3, [5, 20, 10], 6), (12, 25, 2, [12, 4], 9), (30, 31, 5, [2, 7], 4)):
        real, fake = _rows(n, d, rng), _rows(m, d, rng, away=1.0)
        real[:, 0], fake[:, 0] = torch.arange(n) / 100, 1 + torch.arange(m) / 100  # a number for each row
        args = {"distance": Fixture("eval/distance"), "real": real, "fake": fake, "sizes": sizes, "draws": draws}
        args["generator"] = Fixture("generator", seed=int(torch.randint(1000, (), generator=rng)))
        cases.append(Case(args, label=f"{draws} draws each of {', '.join(map(str, sizes))} rows out of {n} and of {m}"))
    return cases


def _by_size_with(pick, once: bool = False, join=lambda values: sum(values) / len(values)):
    """pick(rows, n, generator) -> some rows."""

    def by_size(distance, real, fake, sizes, draws, generator):
        means = []
        for n in sizes:
            if once:
                some = pick(real, n, generator), pick(fake, n, generator)
            values = [
                distance(*(some if once else (pick(real, n, generator), pick(fake, n, generator))))
                for _ in range(draws)
            ]
            means.append(join(values))
        return means

    return by_size


def _shuffled(rows, n, generator):
    return rows[torch.randperm(len(rows), generator=generator)[:n]]


def _with_replacement(rows, n, generator):
    return rows[torch.cat([torch.zeros(2), torch.randint(len(rows), (n - 2,), generator=generator)]).long()]


def _by_size_all_real(distance, real, fake, sizes, draws, generator):
    return [
        sum(distance(real, _shuffled(fake, n, generator)) for _ in range(draws)) / draws
        for n in sizes
    ]  # fmt: skip


quiz(
    "eval/subsets",
    points=3,
    minutes=4,
    title="The same distance, of fewer images",
    equation="9.1",
    reference=_by_size,
    library=(metrics.frechet_at_infinity,),
    cases=_pools,
    probe=_try_subsets,
    measured=_about_subsets,
    any_device=False,
    misconceptions=[
        Misconception(
            "the first rows",
            _by_size_with(lambda rows, n, generator: rows[:n]),
            "Your draws are all the same rows, so their mean is one distance, repeated. Shuffle the row numbers anew "
            "for each draw.",
        ),
        Misconception(
            "rows may come twice",
            _by_size_with(_with_replacement),
            "Some rows come twice in a draw: drawn with replacement, a set has fewer different images than it says.",
        ),
        Misconception(
            "all the real images",
            _by_size_all_real,
            "You shrink the generated set only. (9.1) speaks of n images in *both*; otherwise the real set's share of "
            "the bias stays.",
        ),
        Misconception(
            "sums",
            _by_size_with(_shuffled, join=sum),
            "What comes back are sums over the draws. Divide by their number.",
        ),
    ],
    hints=[
        "Two loops: over the sizes, and inside over the draws.",
        "`torch.randperm(len(real), generator=generator)` is all row numbers in random order. How do you take n of "
        "them?",
        "Index with the first n of them, `real[order[:n]]`; the fakes get an order of their own. Add up what "
        "`distance` says.",
        "After the inner loop: `means.append(total / draws)`",
    ],
    passed="You can now plot any distance against the number of images. Do it once for each measure that you mean to "
    "believe.",
    explanation="""
    Without replacement: a set drawn with replacement repeats images, as if it were smaller than it is. Both sets are
    cut down, since both bring their share of the bias.
    """,
)


def _at_infinity(sizes, distances):
    return _fit([1 / size for size in sizes], distances)


def _lines(rng: torch.Generator) -> list[Case]:
    cases = []
    for sizes in ([250, 500, 1000, 2000], [100, 300], [80, 1000, 160, 320, 640], [500, 100, 100]):
        value, slope, noise = (5 * torch.rand(3, generator=rng)).tolist()
        wobble = torch.randn(len(sizes), generator=rng) * noise / 10
        distances = [value + 400 * (1 + slope) / n + w for n, w in zip(sizes, wobble.tolist())]
        cases.append(Case({"sizes": sizes, "distances": distances}, label=f"sizes {sizes}"))
    return cases


def _fit(x, y):
    x, y = (torch.as_tensor(each, dtype=torch.float64) for each in (x, y))
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return (y.mean() - slope * x.mean()).item(), slope.item()


def _through_the_ends(sizes, distances):
    small, large = sizes.index(min(sizes)), sizes.index(max(sizes))
    slope = (distances[small] - distances[large]) / (1 / sizes[small] - 1 / sizes[large])
    return distances[large] - slope / sizes[large], slope


quiz(
    "eval/line",
    points=2,
    minutes=3,
    title="Infinitely many images",
    equation="9.1",
    reference=_at_infinity,
    library=(metrics.frechet_at_infinity,),
    cases=_lines,
    any_device=False,
    misconceptions=[
        Misconception(
            "over n",
            lambda sizes, distances: _fit(sizes, distances),
            "Your line runs over n, where the points lie on a hyperbola. (9.1) is a line over 1/n.",
        ),
        Misconception(
            "value and slope exchanged",
            lambda sizes, distances: _at_infinity(sizes, distances)[::-1],
            "The value first, then the slope.",
        ),
        Misconception(
            "through both ends",
            _through_the_ends,
            "That is the line through the smallest and the largest size. Least squares listens to all points.",
        ),
        Misconception(
            "through the origin",
            lambda sizes, distances: (
                0.0,
                sum(d / n for n, d in zip(sizes, distances)) / sum(1 / n**2 for n in sizes),
            ),
            "Your line is forced through 0. Then no two distributions could be apart.",
        ),
        Misconception(
            "over the root of n",
            lambda sizes, distances: _fit([n**-0.5 for n in sizes], distances),
            "A standard *error* shrinks with 1/√n; this bias shrinks with its square, 1/n.",
        ),
    ],
    hints=[
        "With x = 1/n it is an ordinary line, y ≈ value + slope · x.",
        "Least squares: slope = Σ (x − x̄)(y − ȳ) / Σ (x − x̄)².",
        "The line goes through the middle (x̄, ȳ). So what is its value at x = 0?",
        "`value = y.mean() - slope * x.mean()`; both as floats, by `.item()`.",
    ],
    passed="What is compared now is where the lines end, not how many images somebody could afford.",
    explanation="""
    `numpy.polyfit(1 / sizes, distances, 1)` gives the same two numbers, slope first. The value may fall a little
    below 0.
    """,
)


def _board(real, entries):
    n = min(len(real), *(len(rows) for rows in entries.values()))
    board = [(name, metrics.frechet_distance(real[:n], fake[:n])) for name, fake in entries.items()]
    return sorted(board, key=lambda row: row[1])


def _board_with(count, order=lambda row: row[1], part=lambda rows, n: rows[:n]):
    """count(real, fake, entries) -> how many rows of each."""

    def board(real, entries):
        rows = []
        for name, fake in entries.items():
            n = count(real, fake, list(entries.values()))
            rows.append((name, metrics.frechet_distance(part(real, n), part(fake, n))))
        return sorted(rows, key=order)

    return board


def _alike(real, fake, sets):
    return min(len(real), *map(len, sets))


def _entries(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, counts, d, dtype in (
        (60, (40, 25, 50), 3, torch.float64), (30, (70, 45), 2, torch.float64),
        (45, (45, 18, 80, 30), 1, torch.float32),
    ):  # fmt: skip
        entries = {
            f"model {'ABCD'[k]}": _rows(m, d, rng, dtype, scale=1 + k / 3, away=(len(counts) - k) / 2)
            for k, m in enumerate(counts)
        }
        cases.append(
            Case({"real": _rows(n, d, rng, dtype), "entries": entries}, label=f"sets of {n} and {counts} rows")
        )
    return cases


quiz(
    "eval/somebody-elses-board",
    points=4,
    minutes=4,
    bug_hunt=True,
    title="Somebody else's leaderboard",
    equation="9.1",
    reference=_board,
    cases=_entries,
    any_device=False,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _board_with(lambda real, fake, sets: min(len(real), len(fake))),
            "Within a row both sets have equally many images, but *another row* has another number, and so another "
            "bias. Which number do all entries have?",
        ),
        Misconception(
            "all that there is",
            _board_with(lambda real, fake, sets: max(map(len, [real, *sets]))),
            "Now each set is judged whole, and their sizes differ even more.",
        ),
        Misconception(
            "the entries cut, the real images not",
            lambda real, entries: sorted(
                [
                    (name, metrics.frechet_distance(real, fake[: min(map(len, entries.values()))]))
                    for name, fake in entries.items()
                ],
                key=lambda row: row[1],
            ),
            "Cut the real images to the same number as well, as the function did before.",
        ),
        Misconception(
            "the real images left out of the count",
            lambda real, entries: (
                _board_with(lambda real, fake, sets: min(map(len, sets)))(real, entries)
                if min(map(len, entries.values())) <= len(real)
                else _board_with(lambda real, fake, sets: len(real) - 1)(real, entries)
            ),
            "The smallest set decides, and that may be the real one.",
        ),
    ],
    hints=[
        "Give one model two names, and two numbers of images. Are its two rows the same?",
        "By (9.1) a row's surplus is c/n. What must be the same in all rows, so that they can be compared?",
        "The n of a row looks at this row's set only.",
        "`n = min(len(real), *(len(rows) for rows in entries.values()))`",
    ],
    passed="Equally many images in every row, or the line of (9.1) for each: otherwise a board ranks patience.",
    explanation="""
    "Equally many real as generated" makes each row fair in itself, and the board unfair: the smallest n belongs to
    whoever sampled least, and it costs most. With the library one writes `frechet_at_infinity(real, fake).value` for
    each.
    """,
)

concept(
    "eval/what-a-board-says",
    title="After the repair",
    equation="9.1",
    minutes=1,
    question="""
    On the repaired board all entries are judged by equally many images. What may you say of its numbers?
    """,
    options={
        "a": Option(
            "They are the true distances now, for what was unequal has been made equal.",
            "Equal n makes the surplus comparable, it doesn't take it away. Two sets of real images still show a "
            "distance.",
        ),
        "b": Option(
            "All are too large on average, by unequal amounts, and near rows may be in the wrong order.",
            "Right. Each row has its surplus c/n; for sets that resemble each other c is similar. And each number has "
            "noise of its own. Large gaps can be trusted, small ones need an error bar.",
            right=True,
        ),
        "c": Option(
            "All are too small, since among 150 images rare faults of a model are seldom to be found.",
            "It isn't faults that are counted. Means and covariances of few images are off, in both sets, and that "
            "adds to the distance.",
        ),
        "d": Option(
            "Large distances are right, while small ones are lifted by what few images add to them.",
            "The surplus comes on top of every distance. Beside a large one it is merely less visible.",
        ),
    },
)

# ------------------------------------------------------------------------------------------ 9.3 · a distance with a bar

concept(
    "eval/below-zero",
    title="A squared distance of −0.3",
    equation="9.2",
    minutes=1,
    question="""
    Two sets of real images, and $\\hat D=-0.3$. Squares aren't negative. What is the matter?
    """,
    options={
        "a": Option(
            "Nothing: if the truth is 0 and the estimate has no bias, it must fall below as well as above.",
            "Right. An estimate that never fell below 0 could have the mean 0 only by always being 0. Clipping at 0 "
            "would bring a bias back.",
            right=True,
        ),
        "b": Option(
            "A rounding error: large sums are subtracted, so that the last digits of the result are lost.",
            "In double precision the sums have fifteen digits. The value changes with the *images*, by far more.",
        ),
        "c": Option(
            "The sets are nearer to each other than two sets of one distribution are, as copies would be.",
            "Copies would do that, too: their pairs across are too similar. But independent sets fall below 0 about "
            "half of the time.",
        ),
        "d": Option(
            "The diagonals should have been counted, for without them the first two terms are too small.",
            "With the diagonals both terms are too *large*: an image is most similar to itself. They make the bias.",
        ),
    },
)


def _kernel_distance(real, fake):
    return metrics.kernel_distance(real, fake).value


def _kernel_with(kernel=lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3, within=None, across=lambda k: k.mean(), times=2):
    """A kernel distance from its parts; within: a table of kernels within a set -> a number."""
    within = within or (lambda k: (k.sum() - k.trace()) / (len(k) * (len(k) - 1)))

    def distance(real, fake):
        real, fake = real.double(), fake.double()
        parts = within(kernel(real, real)) + within(kernel(fake, fake))
        return (parts - times * across(kernel(real, fake))).item()

    return distance


def _two_sets(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, m, d, dtype, away in (
        (20, 13, 4, torch.float64, 0.5), (7, 30, 1, torch.float64, 0.3), (9, 9, 8, torch.float32, 1.5),
        (3, 5, 2, torch.float64, 0.0),
    ):  # fmt: skip
        args = {"real": _rows(n, d, rng, dtype), "fake": _rows(m, d, rng, dtype, scale=1.3, away=away)}
        cases.append(Case(args))
    return cases


quiz(
    "eval/kernel-distance",
    points=3,
    minutes=4,
    title="The kernel distance",
    equation="9.2",
    reference=_kernel_distance,
    library=(metrics.kernel_distance,),
    cases=_two_sets,
    any_device=False,
    misconceptions=[
        Misconception(
            "diagonals counted",
            _kernel_with(within=lambda k: k.mean()),
            "Your pairs within a set include each image with itself, and nothing is as similar to an image. That is "
            "the bias that this distance was made to avoid: leave the diagonals out.",
        ),
        Misconception(
            "diagonals out, still divided by n²",
            _kernel_with(within=lambda k: (k.sum() - k.trace()) / len(k) ** 2),
            "Without the diagonal there are n (n − 1) pairs, not n².",
        ),
        Misconception(
            "the pairs across once",
            _kernel_with(times=1),
            "E k(x, x′) + E k(y, y′) − *2* E k(x, y): for equal distributions that has to be 0.",
        ),
        Misconception(
            "not divided by d",
            _kernel_with(kernel=lambda a, b: (a @ b.T + 1) ** 3),
            "The scalar product is divided by the number of features, so that its size doesn't hang on them.",
        ),
        Misconception(
            "the diagonal left out across, too",
            _kernel_with(across=lambda k: (k.sum() - k.diagonal().sum()) / (k.numel() - min(k.shape))),
            "Row i of one set and row i of the other are two different images: pairs across all count.",
        ),
        Misconception(
            "never below zero",
            lambda real, fake: max(_kernel_distance(real, fake), 0.0) + 1e-3 * (_kernel_distance(real, fake) < 0),
            "Clipped at 0 it is too large on average. Let it fall below.",
        ),
    ],
    hints=[
        "Three tables of kernels: real with real, fake with fake, real with fake.",
        "`real @ real.T` holds all scalar products of rows; divide by d, add 1, take the third power.",
        "Which pairs i ≠ j are meant? Subtract the `.trace()` from the sum, and divide by how many pairs are left.",
        "`within_real + within_fake - 2 * across.mean()`",
    ],
    passed="No Gaussian was assumed, and no bias is left: a value at 100 images and one at 10,000 estimate the same.",
    explanation="""
    Without the diagonals each term is a mean over pairs of independent images, so its expectation is what it
    estimates, for any n. The price is noise: pairs are many, but images are few.
    """,
)


def _jackknife(statistic, sets, groups):
    without = torch.stack(
        [statistic(*(rows[torch.arange(len(rows)) % groups != g] for rows in sets)) for g in range(groups)]
    )
    return statistic(*sets), ((groups - 1) * without.var(dim=0, correction=0)).sqrt()


def _jackknife_with(keep=lambda i, groups, g: i % groups != g, error=None, value=lambda of_all, v: of_all):
    """keep(row numbers, groups, group) -> which stay;  error(values without, groups) -> the standard error;
    value(the statistic, values without) -> what is returned for the statistic."""
    error = error or (lambda v, groups: ((groups - 1) * v.var(dim=0, correction=0)).sqrt())

    def jackknife(statistic, sets, groups):
        rest = [[rows[keep(torch.arange(len(rows)), groups, g)] for rows in sets] for g in range(groups)]
        without = torch.stack([statistic(*rows) for rows in rest])
        return value(statistic(*sets), without), error(without, groups)

    return jackknife


def _jackknife_the_first(statistic, sets, groups):
    first, *others = sets
    return _jackknife(lambda rows: statistic(rows, *others), [first], groups)


def _statistics(rng: torch.Generator) -> list[Case]:
    cases = []
    for kind, counts, d, groups in (
        ("of two", (23, 31), 3, 5), ("mean", (12,), 2, 12), ("of three", (20, 20, 17), 1, 4), ("mean", (9,), 1, 2),
    ):  # fmt: skip
        sets = [_rows(n, d, rng, away=k) for k, n in enumerate(counts)]
        args = {"statistic": Fixture("eval/statistic", kind=kind), "sets": sets, "groups": groups}
        cases.append(Case(args, label=f"a statistic of sets of {' and '.join(map(str, counts))} rows, {groups} groups"))
    return cases


quiz(
    "eval/jackknife",
    points=4,
    minutes=5,
    title="A bar for any number",
    reference=_jackknife,
    cases=_statistics,
    any_device=False,
    misconceptions=[
        Misconception(
            "one group kept",
            _jackknife_with(keep=lambda i, groups, g: i % groups == g),
            "You keep one group and leave out all the others. It is the other way round: only one is missing at a "
            "time.",
        ),
        Misconception(
            "the plain spread",
            _jackknife_with(error=lambda v, groups: v.std(dim=0)),
            "That is the standard deviation of the values. They share most of their rows, so they differ too little: "
            "the factor (g − 1)/g stands before the *sum*.",
        ),
        Misconception(
            "the standard error of the mean",
            _jackknife_with(error=lambda v, groups: v.std(dim=0) / groups**0.5),
            "Dividing by √g would be right for independent values. These share most of their rows.",
        ),
        Misconception(
            "the variance",
            _jackknife_with(error=lambda v, groups: (groups - 1) * v.var(dim=0, correction=0)),
            "That is s². The standard error is its root.",
        ),
        Misconception(
            "rows in blocks",
            _jackknife_with(keep=lambda i, groups, g: i * groups // len(i) != g),
            "Row i belongs to group i % groups: the groups take turns.",
        ),
        Misconception(
            "only the first set",
            _jackknife_the_first,
            "You leave rows out of the first set only. The others have noise of their own.",
        ),
        Misconception(
            "the mean of the values",
            _jackknife_with(value=lambda of_all, v: v.mean(0)),
            "The value is the statistic of *all* rows; the values with a group missing are for its error only.",
        ),
    ],
    hints=[
        "For each group: build the sets without it, and call the statistic on them.",
        "`torch.arange(len(rows)) % groups != group` is a mask of the rows that stay. Each set needs its own, for "
        "their lengths differ.",
        "`torch.stack` the values to (groups, q). Their mean over dim 0 is v̄.",
        "`variance = (groups - 1) / groups * (without - without.mean(0)).square().sum(0)`",
    ],
    passed="One function, and every number of this notebook has an error bar, even one for which nobody knows a "
    "formula.",
    explanation="""
    For a mean and groups of one it gives exactly std/√n. Leaving a group out moves a mean g − 1 times less than the
    group's own mean is off, hence the factor.
    """,
)


def _permutation_p(distance, real, fake, orders):
    together, observed = torch.cat([real, fake]), distance(real, fake)
    hits = sum(distance(*together[order].tensor_split([len(real)])) >= observed for order in orders)
    return (1 + hits) / (1 + len(orders))


def _permutation_with(share=lambda hits, t: (1 + hits) / (1 + t), at_least=lambda d, o: d >= o, deal=None):
    """deal(together, real, order) -> two sets."""
    deal = deal or (lambda together, real, order: together[order].tensor_split([len(real)]))

    def permutation_p(distance, real, fake, orders):
        together, observed = torch.cat([real, fake]), distance(real, fake)
        return share(sum(at_least(distance(*deal(together, real, order)), observed) for order in orders), len(orders))

    return permutation_p


def _shuffles(rng: torch.Generator) -> list[Case]:
    """Near, whole numbers with exact ties (means of 4, 8 or 16 of them are exact), and farther than any shuffle."""
    cases = []
    for n, m, d, away, times in ((20, 14, 2, 0.4, 40), (8, 16, 1, 0.0, 60), (16, 4, 1, 0.0, 60), (15, 15, 3, 3.0, 19)):
        orders = torch.stack([torch.randperm(n + m, generator=rng) for _ in range(times)])
        real, fake = _rows(n, d, rng), _rows(m, d, rng, away=away)
        if away == 0:
            real, fake = real.round(), fake.round()
        args = {"distance": Fixture("eval/distance"), "real": real, "fake": fake}
        cases.append(Case(args | {"orders": orders}, label=f"sets of {n} and {m} rows, {times} shuffles"))
    return cases


quiz(
    "eval/permutation",
    points=4,
    minutes=6,
    title="Deal the cards again",
    reference=_permutation_p,
    cases=_shuffles,
    any_device=False,
    misconceptions=[
        Misconception(
            "the plain share",
            _permutation_with(share=lambda hits, t: hits / t),
            "The sets as they are count as one of the shuffles: (1 + h)/(1 + t). A p-value of exactly 0 can't be had "
            "by a finite number of shuffles.",
        ),
        Misconception(
            "nearer instead of farther",
            _permutation_with(at_least=lambda d, o: d <= o),
            "You count shuffles that are *nearer*. Evidence against one distribution is that hardly a shuffle is as "
            "far apart as the sets themselves.",
        ),
        Misconception(
            "ties left out",
            _permutation_with(at_least=lambda d, o: d > o),
            "At least as far: a shuffle that is just as far apart counts.",
        ),
        Misconception(
            "one minus it",
            _permutation_with(share=lambda hits, t: 1 - (1 + hits) / (1 + t)),
            "That is the share of shuffles that are nearer. A *small* p speaks against one distribution.",
        ),
        Misconception(
            "cut in the middle",
            _permutation_with(deal=lambda together, real, order: together[order].tensor_split([len(order) // 2])),
            "The dealt sets have as many rows as the sets had: the first n, and the m behind them.",
        ),
    ],
    hints=[
        "One distance of the sets as they are; then one for each shuffle, to compare with it.",
        "Put both sets on one pile: `torch.cat([real, fake])`. A row of `orders` shuffles it.",
        "`dealt[: len(real)]` is one set, `dealt[len(real) :]` the other. Count those at least as far apart.",
        "`return (1 + hits) / (1 + len(orders))`",
    ],
    passed="A test that needs no Gaussian, no formula for an error, and works with any distance, even one with a "
    "bias, since the shuffles share it.",
    explanation="""
    If both sets come from one distribution, all ways of dealing them out are equally likely, so the rank of the
    observed distance among them is uniform. That holds for any distance and any n; what differs is how soon a
    difference is seen.
    """,
)

# ----------------------------------------------------------------------------------------- 9.4 · sure, and of all kinds

concept(
    "eval/which-scores-best",
    title="Which set scores best?",
    equation="9.3",
    minutes=1,
    question="""
    Four sets of a thousand images, of garments in ten classes. Which of them has the highest score (9.3)?
    """,
    options={
        "a": Option(
            "A thousand real images, all different, a hundred of each of the classes.",
            "Some of them look like two classes at once. The judge hesitates, and hesitation costs.",
        ),
        "b": Option(
            "A thousand real trousers, of which the judge is always completely sure.",
            "Then $p(y)$ is sure as well, so that $p(y\\mid x)$ brings no news: the score is 1.",
        ),
        "c": Option(
            "A thousand images between all classes, on which the judge never decides.",
            "Each row is the mean of all rows: the score is 1, the lowest there is.",
        ),
        "d": Option(
            "A thousand images that are ten, one clear one of each class, copied a hundred times.",
            "Right. Sure of each, all classes equally often: nearly 10. It compares with no real image and can't see "
            "copies.",
            right=True,
        ),
    },
)


def _score_with(of, marginal=lambda p: p.mean(0), finish=lambda kl: kl.mean().exp()):
    """of(p, marginal) -> (n,)"""
    return lambda probabilities: finish(of(probabilities, marginal(probabilities))).item()


def _kl(p, q):
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(1)


def _opinions(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, k, dtype in ((12, 4, torch.float64), (1, 3, torch.float64), (30, 10, torch.float32), (5, 2, torch.float64)):
        p = (3 * torch.randn(n, k, generator=rng, dtype=dtype)).softmax(1)
        if n > 10:
            p[:k] = torch.eye(k, dtype=dtype)  # sure beyond doubt
        cases.append(Case({"probabilities": p}))
    return cases


quiz(
    "eval/inception-score",
    points=2,
    minutes=3,
    title="The Inception score's analogue",
    equation="9.3",
    reference=metrics.inception_score,
    cases=_opinions,
    any_device=False,
    misconceptions=[
        Misconception(
            "without the exponential",
            _score_with(_kl, finish=lambda kl: kl.mean()),
            "That is the mean divergence, in nats. (9.3) takes e to that power.",
        ),
        Misconception(
            "a mean over the classes",
            _score_with(lambda p, q: _kl(p, q) / p.shape[1]),
            "The sum runs over the classes; only over the images is it a mean.",
        ),
        Misconception(
            "against equal classes",
            _score_with(_kl, marginal=lambda p: torch.full_like(p[0], 1 / p.shape[1])),
            "p(y) is the mean of the rows, not 1 over the number of classes: a model that draws trousers only would be "
            "praised for being sure.",
        ),
        Misconception(
            "the other way round",
            _score_with(lambda p, q: (q * (q / p.clamp(min=1e-12)).log()).sum(1)),
            "KL(p(y|x) ‖ p(y)): the image's own probabilities stand before the logarithm and on top of the fraction.",
        ),
        Misconception(
            "the exponential first",
            _score_with(_kl, finish=lambda kl: kl.exp().mean()),
            "First the mean over the images, then the exponential.",
        ),
        Misconception(
            "sureness alone",
            _score_with(lambda p, q: torch.xlogy(p, p).sum(1)),
            "That asks how sure the judge is of each image. Whether all classes occur is the other half, ln p(y).",
        ),
    ],
    hints=[
        "p(y) first: the mean of all rows.",
        "For each image Σ p(y|x) (ln p(y|x) − ln p(y)), where a probability of 0 adds nothing.",
        "`torch.xlogy(p, p) - torch.xlogy(p, marginal)`, summed over dim 1. Then what, over the images?",
        "`return divergence.exp().item()`, where the divergence is the mean of these sums.",
    ],
    passed="It asks for images that are clear, and for all classes. That they be varied within a class, or new, or "
    "even good for anyone but the judge, it never asks.",
    explanation="""
    It is e to the mutual information of image and class, hence between 1 and the number of classes.
    """,
)

# --------------------------------------------------------------------------------------------- 9.5 · good, or varied


def _radii(points, k):
    return metrics.nearest(points, points, count=k + 1).distances[:, k].to(points)


def _radii_with(place=0, of=lambda far: far):
    return lambda points, k: of(torch.cdist(points, points)).sort(dim=1).values[:, k + place]


def _radii_among_all(points, k):
    return torch.cdist(points, points).flatten().sort().values[k * len(points)].expand(len(points)).clone()


def _clouds(rng: torch.Generator) -> list[Case]:
    shapes = ((12, 3, 2, torch.float64), (6, 1, 1, torch.float64), (20, 5, 5, torch.float32), (4, 2, 3, torch.float64))
    cases = [Case({"points": _rows(n, d, rng, dtype), "k": k}) for n, d, k, dtype in shapes]
    twice = _rows(5, 2, rng)
    return [
        *cases,
        Case({"points": torch.cat([twice, twice]), "k": 1}, label="points of which each stands there twice"),
    ]


quiz(
    "eval/radii",
    points=2,
    minutes=2,
    title="How far a ball reaches",
    equation="9.4",
    reference=_radii,
    library=(metrics.nearest,),
    cases=_clouds,
    any_device=False,
    misconceptions=[
        Misconception(
            "counts itself",
            _radii_with(place=-1),
            "The nearest point to each point is itself, at distance 0: it stands in column 0. The k-th nearest *other* "
            "one stands in column k.",
        ),
        Misconception(
            "one place too far",
            lambda points, k: torch.cdist(points, points).topk(min(k + 2, len(points)), largest=False).values[:, -1],
            "That is the neighbour behind the k-th: columns are counted from 0, and column 0 is the point itself.",
        ),
        Misconception(
            "squared",
            _radii_with(of=torch.square),
            "Your radii are squared. They are compared with distances below.",
        ),
        Misconception(
            "the farthest",
            lambda points, k: torch.cdist(points, points).sort(dim=1, descending=True).values[:, k],
            "Sorted downwards you get the farthest points. The nearest are wanted.",
        ),
        Misconception(
            "one radius for all",
            _radii_among_all,
            "Each point has a radius of its own: where points are sparse, balls are large.",
        ),
    ],
    hints=[
        "All distances among the points are one table. Which of its entries does a point's ball reach to?",
        "Sort each row. What stands in column 0 of every row?",
        "Column 0 is the point itself, so its k-th nearest other one is in column k.",
        "`return torch.cdist(points, points).sort(dim=1).values[:, k]`",
    ],
    passed="Balls are small in a crowd and large where points are sparse, so they follow the data without any "
    "bandwidth to choose. The price: one stray point has a huge ball.",
    explanation="""
    `.kthvalue(k + 1, dim=1)` finds it without sorting everything. Of two equal points each is the other's nearest, at
    distance 0.
    """,
)


def _precision_recall(real, fake, k):
    return metrics.precision(real, fake, k), metrics.recall(real, fake, k)


def _heaps(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, m, d, k, dtype in (
        (40, 30, 4, 5, torch.float64), (25, 60, 3, 1, torch.float64), (30, 14, 6, 3, torch.float32),
        (33, 40, 1, 4, torch.float64),
    ):  # fmt: skip
        real, fake = _rows(n, d, rng, dtype), _rows(m, d, rng, dtype, scale=0.8, away=0.6)
        cases.append(Case({"real": real, "fake": fake, "k": k}))
    return cases


_balls = _radii_with()


def _shares(real, fake, near_real, near_fake):
    """near_real, near_fake: (n, m), whether row and column are near; the shares of fakes and of real ones."""
    return near_real.any(0).double().mean().item(), near_fake.any(1).double().mean().item()


def _pr_pairs(real, fake, k):
    far = torch.cdist(real, fake)
    near = far <= _balls(real, k)[:, None], far <= _balls(fake, k)
    return tuple(each.double().mean().item() for each in near)


def _pr_same_balls(real, fake, k):
    """Both with the balls of the real ones: recall becomes coverage."""
    near = torch.cdist(real, fake) <= _balls(real, k)[:, None]
    return _shares(real, fake, near, near)


def _pr_balls_around_each(real, fake, k):
    far = torch.cdist(real, fake)
    return _shares(real, fake, far <= _balls(fake, k), far <= _balls(real, k)[:, None])


def _pr_itself(real, fake, k):
    far = torch.cdist(real, fake)
    return _shares(real, fake, far <= _balls(real, k - 1)[:, None], far <= _balls(fake, k - 1))


def _pr_among_the_other(real, fake, k):
    """Radii to the k-th nearest of the other set."""
    far = torch.cdist(real, fake)
    near = far.sort(dim=1).values[:, min(k, far.shape[1]) - 1 :][:, :1]
    others = far.T.sort(dim=1).values[:, min(k, len(far)) - 1 :][:, :1]
    return _shares(real, fake, far <= near, far <= others.T)


quiz(
    "eval/precision-recall",
    points=3,
    minutes=3,
    title="Precision and recall",
    equation="9.4",
    reference=_precision_recall,
    library=(metrics.precision, metrics.recall),
    cases=_heaps,
    any_device=False,
    misconceptions=[
        Misconception(
            "exchanged",
            lambda real, fake, k: _precision_recall(real, fake, k)[::-1],
            "Precision is the share of *generated* points, recall that of *real* ones, and precision comes first.",
        ),
        Misconception(
            "the share of pairs",
            _pr_pairs,
            "You average over all pairs. A point counts once, whether it lies in one ball or in many.",
        ),
        Misconception(
            "real balls for both",
            _pr_same_balls,
            "Your second number is coverage (7.4): balls of the real points. For recall the balls stand around the "
            "generated ones.",
        ),
        Misconception(
            "balls around those that are asked about",
            _pr_balls_around_each,
            "Precision asks whether a generated point lies in a *real* ball; yours stand around the generated points, "
            "and for recall the other way round.",
        ),
        Misconception(
            "counts itself", _pr_itself, "Your balls are one neighbour too small: column 0 is the point itself."
        ),
        Misconception(
            "neighbours in the other set",
            _pr_among_the_other,
            "Your radii are measured to the other set, so every ball has points of it inside. They belong to one set's "
            "own geometry: `radii(real, k)`.",
        ),
    ],
    hints=[
        "One table of distances between the sets, (n, m), serves both.",
        "A pair is near, for precision, if its distance is at most the radius of its *real* point: `radii(real, "
        "k)[:, None]`.",
        "A generated point lies in some ball if any row of its column is near: `.any(dim=0)`. For recall the radii are "
        "those of the columns, `radii(fake, k)[None, :]`. Which dimension is asked then?",
        "`near_real.any(dim=0).double().mean().item(), near_fake.any(dim=1).double().mean().item()`",
    ],
    passed="Two numbers for two faults, from one table of distances: asked by column, and by row.",
    explanation="""
    Both are one function with the sets exchanged. What lies on the edge is inside, so that a set has precision and
    recall 1 against itself.
    """,
)


def _density_coverage(real, fake, k):
    return metrics.density(real, fake, k), metrics.coverage(real, fake, k)


def _dc_with(density, coverage=lambda inside: inside.any(1).double().mean(), balls=_balls):
    def density_coverage(real, fake, k):
        inside = torch.cdist(real, fake) <= balls(real, k)[:, None]
        return float(density(inside, k)), float(coverage(inside))

    return density_coverage


def _per_fake(inside, k):
    return inside.double().sum() / (k * inside.shape[1])


quiz(
    "eval/density-coverage",
    points=3,
    minutes=2,
    title="Density and coverage",
    equation="9.5",
    reference=_density_coverage,
    library=(metrics.density, metrics.coverage),
    cases=_heaps,
    any_device=False,
    misconceptions=[
        Misconception(
            "not divided by k",
            _dc_with(lambda inside, k: k * _per_fake(inside, k)),
            "Divided by k as well: a point among real ones lies in about k balls, and that should count as 1.",
        ),
        Misconception(
            "precision for density",
            _dc_with(lambda inside, k: inside.any(0).double().mean()),
            "That is precision: in some ball, or not. Density counts in *how many*, so that one huge ball counts once.",
        ),
        Misconception(
            "divided by the real ones",
            _dc_with(lambda inside, k: inside.double().sum() / (k * len(inside))),
            "A mean over the generated points: divide by m, not by n.",
        ),
        Misconception(
            "precision for coverage",
            _dc_with(_per_fake, coverage=lambda inside: inside.any(0).double().mean()),
            "Coverage is the share of the *real* points whose ball holds a generated one.",
        ),
        Misconception(
            "counts itself",
            _dc_with(_per_fake, balls=lambda real, k: _balls(real, k - 1)),
            "Your balls are one neighbour too small: column 0 is the point itself.",
        ),
    ],
    hints=[
        "Only the balls of the real points are used: one table (n, m) of who lies in whose ball.",
        "Density counts all its entries that are true. How many would there be if every generated point lay in k "
        "balls?",
        "k · m. Coverage asks each *row*: is any entry true?",
        "`inside.double().sum() / (k * len(fake))` and `inside.any(dim=1).double().mean()`",
    ],
    passed="A generator can't make a real point's ball wider. So strays can't talk these two round. But density can be "
    "had by crowding.",
    explanation="""
    Density may exceed 1, where generated points crowd in the middle of the data. Coverage of perfect samples is about
    1 − 2⁻ᵏ if the sets are equally large.
    """,
)

concept(
    "eval/collapsed",
    title="One blob of eight",
    equation="9.4",
    minutes=1,
    question="""
    Real points lie in eight blobs. A generator draws one of the blobs only, but that one perfectly. What do you
    expect of precision, recall and coverage?
    """,
    options={
        "a": Option(
            "All three near ⅛, for of eight parts it has got one right.",
            "Precision asks about what *was* drawn, and all of that is good.",
        ),
        "b": Option(
            "Precision near ⅛, and the other two near 1 by their wide balls.",
            "Exchanged: what it draws is real enough, and seven blobs have nothing near.",
        ),
        "c": Option(
            "Precision near 1, recall and coverage near ⅛ or lower still.",
            "Right. All that it draws is good; of the real points only one blob is near anything. (Precision is in "
            "fact a little below 1, as for real points.)",
            right=True,
        ),
        "d": Option(
            "Precision near 1, recall near ⅛, and a coverage of nearly 1.",
            "Coverage counts balls of *real* points, and those of seven blobs are empty.",
        ),
    },
)


def _fool(real, fake):
    fooled = fake.clone()
    fooled[0] = real.mean(0) + 1000 * (real.mean(0) - fake.mean(0))
    return fooled


FOOLED = {
    "rows that are others": "one to five",
    "recall": "above 0.9",
    "coverage": "hardly moved",
}


def _about_fooling(raw, case: Case) -> dict:
    """What the changed set does, however it was changed."""
    real, fake = case.args["real"], case.args["fake"]
    if not isinstance(raw, Array) or raw.shape != tuple(fake.shape) or raw.data is None:
        raise Unfit(f"expected points of shape {tuple(fake.shape)}, got something else")
    fooled = torch.from_numpy(raw.data).to(fake)
    if not fooled.isfinite().all():
        raise Unfit("expected finite points: far away is far enough")
    changed = int((fooled != fake).any(1).sum())
    before, after = metrics.coverage(real, fake, 5), metrics.coverage(real, fooled, 5)
    return {
        "rows that are others": "none" if not changed else "one to five" if changed <= 5 else "more than five",
        "recall": "above 0.9" if metrics.recall(real, fooled, 5) > 0.9 else "not above 0.9",
        "coverage": "hardly moved" if abs(after - before) <= 0.05 else "moved",
    }


def _forgetful_generators(rng: torch.Generator) -> list[Case]:
    """A ring of blobs, of which a generator draws some that lie side by side."""
    cases = []
    for n, m, blobs, kept in ((160, 120, 8, 3), (120, 160, 6, 2), (100, 100, 10, 4)):
        turn = 2 * torch.pi * torch.rand((), generator=rng)
        angle = turn + 2 * torch.pi * torch.arange(blobs) / blobs
        means = 1.4 * torch.stack([angle.cos(), angle.sin()], 1).double()
        real = means[torch.arange(n) % blobs] + _rows(n, 2, rng, scale=0.12)
        fake = means[torch.arange(m) % kept] + _rows(m, 2, rng, scale=0.12)
        cases.append(Case({"real": real, "fake": fake}, label=f"{kept} of {blobs} blobs, {n} and {m} points"))
    return cases


def _fool_with(points):
    """points(real, fake) -> rows that stand in the place of the first ones."""

    def fool(real, fake):
        fooled, others = fake.clone(), points(real, fake)
        fooled[: len(others)] = others
        return fooled

    return fool


def _fool_by_copies(real, fake):
    """Real points in the place of generated ones, many."""
    return real[:: max(1, len(real) // 40)][: len(fake)]


quiz(
    "eval/fool-recall",
    points=3,
    minutes=5,
    title="One point is enough",
    equation="9.4",
    reference=_fool,
    cases=_forgetful_generators,
    measured=_about_fooling,
    any_device=False,
    misconceptions=[
        Misconception(
            "nothing changed",
            lambda real, fake: fake.clone(),
            "Nothing has changed. Which ball would have to be large, and what makes a ball large?",
        ),
        Misconception(
            "real points put in",
            _fool_with(_fool_by_copies),
            "You draw what was missing: that is honest work, but more than five points, and coverage rises with it. "
            "Recall can be had without.",
        ),
        Misconception(
            "on the far side of its own",
            _fool_with(lambda real, fake: (fake.mean(0) + 1000 * (fake.mean(0) - real.mean(0)))[None]),
            "Far away it is, but on the wrong side: its ball ends at the nearest of the generated points, and the "
            "missing blobs lie behind those.",
        ),
    ],
    hints=[
        "Recall asks whether a real point lies in *some* ball of a generated one. How large can a single ball be?",
        "A ball reaches to its centre's fifth nearest other point. What if its centre lies far from all of them?",
        "Then it reaches just to the nearest of your blobs. From which side must it come, so that everything missing "
        "lies on its way?",
        "From behind the missing blobs: `real.mean(0) + 1000 * (real.mean(0) - fake.mean(0))`",
    ],
    passed="One outlier, placed where no data are, and recall is perfect. Coverage keeps to the balls of real "
    "points, which you couldn't touch.",
    explanation="""
    Seen from far away the ball is a half-plane that ends at your nearest blob. All that is missing lies in it. The same
    happens by accident: one failed sample among ten thousand is an outlier, too.
    """,
)

# ------------------------------------------------------------------------------------------------------ 9.6 · one table


def _told_apart(distance, real, one, other, groups, quantile):
    def difference(real, one, other):
        return torch.tensor([distance(real, one) - distance(real, other)], dtype=torch.float64)

    value, error = _jackknife(difference, (real, one, other), groups)
    half_width = quantile * error.item()
    return value.item(), half_width, abs(value.item()) > half_width


def _told_apart_with(half_width):
    """half_width(distance, real, one, other, groups) -> the half-width over the quantile."""

    def told_apart(distance, real, one, other, groups, quantile):
        value = distance(real, one) - distance(real, other)
        half = quantile * half_width(distance, real, one, other, groups)
        return value, half, abs(value) > half

    return told_apart


def _error_of(distance, sets, groups):
    return _jackknife(lambda *rows: torch.tensor([distance(*rows)], dtype=torch.float64), sets, groups)[1].item()


def _apart(distance):
    return lambda real, one, other: distance(real, one) - distance(real, other)


def _errors_added(distance, real, one, other, groups):
    return sum(_error_of(distance, (real, x), groups) for x in (one, other))


def _errors_squared(distance, real, one, other, groups):
    return sum(_error_of(distance, (real, x), groups) ** 2 for x in (one, other)) ** 0.5


def _error_of_the_fakes(distance, real, one, other, groups):
    return _error_of(lambda one, other: _apart(distance)(real, one, other), (one, other), groups)


def _comparisons(rng: torch.Generator) -> list[Case]:
    """Both ways round, and one in which nothing can be told: the same rows in another order, moved a little."""
    cases = []
    for n, m, k, d, groups, away in ((30, 24, 24, 3, 6, None), (40, 25, 33, 2, 10, -1.0), (24, 24, 36, 1, 6, -6.0)):
        real, one = _rows(n, d, rng), _rows(m, d, rng, away=2.5)
        other = one.flip(0) + 0.01 if away is None else _rows(k, d, rng, away=away)
        args = {"distance": Fixture("eval/distance"), "real": real, "one": one, "other": other}
        args |= {"groups": groups, "quantile": 2 + d / 10}
        cases.append(Case(args, label=f"sets of {n}, {m} and {k} rows, {groups} groups"))
    return cases


quiz(
    "eval/told-apart",
    points=3,
    minutes=5,
    title="Can they be told apart?",
    reference=_told_apart,
    cases=_comparisons,
    any_device=False,
    answered_by=("eval/jackknife",),
    misconceptions=[
        Misconception(
            "both bars added",
            _told_apart_with(_errors_added),
            "Adding the bars of both is far too careful: what both owe to the same real images drops out of the "
            "difference.",
        ),
        Misconception(
            "as if independent",
            _told_apart_with(_errors_squared),
            "The root of the sum of squares holds for independent numbers. Both distances are to the same real images.",
        ),
        Misconception(
            "the real images hold still",
            _told_apart_with(_error_of_the_fakes),
            "Leave out groups of the real images as well: another set of them would change the difference, too.",
        ),
        Misconception(
            "exchanged",
            lambda distance, real, one, other, groups, quantile: _told_apart(
                distance, real, other, one, groups, quantile
            ),
            "That is the other minus the one.",
        ),
        Misconception(
            "the verdict turned round",
            lambda *given, **named: (*_told_apart(*given, **named)[:2], not _told_apart(*given, **named)[2]),
            "They are told apart if 0 lies *outside* of the interval.",
        ),
    ],
    hints=[
        "Your jackknife takes any statistic of any number of sets. Here it is a statistic of three.",
        "Define `difference(real, one, other)`, which returns a tensor with one number.",
        "`value, error = jackknife(difference, (real, one, other), groups)`; the half-width is `quantile` times the "
        "error.",
        "`return value.item(), half_width, abs(value.item()) > half_width`",
    ],
    passed="A ranking is a statement about differences. Give each difference its own bar.",
    explanation="""
    All three sets lose the same group at once, so that what is common to both distances (the real images, and the noise
    if it was shared) moves both alike and cancels.
    """,
)

# ------------------------------------------------------------------------------------------------ 9.6 · another judge


@torch.no_grad()
def _features(weights, config, images, size):
    judge = Classifier(**config)
    judge.load_state_dict(weights)
    judge.to(images.device).eval()
    return torch.cat([judge.features(part).cpu().double() for part in images.split(size)])


def _features_with(judged, parts=lambda images, size: images.split(size)):
    """judged(judge) -> the same, somehow prepared."""

    def features(weights, config, images, size):
        judge = Classifier(**config)
        judge.load_state_dict(weights)
        judge = judged(judge)
        with torch.no_grad():
            return torch.cat([judge.features(part).double() for part in parts(images, size)])

    return features


def _saved_classifiers(rng: torch.Generator) -> list[Case]:
    cases = []
    for shape, size, width, n, at_once in (((1, 8, 12), 3, 2, 7, 3), ((2, 12, 8), 5, 3, 8, 8), ((1, 8, 8), 2, 2, 5, 2)):
        config = {"shape": shape, "num_classes": 3, "size": size, "width": width}
        weights = {}
        for name, value in Classifier(**config).state_dict().items():
            fresh = torch.randn(value.shape, generator=rng) * 0.5
            weights[name] = fresh.abs() + 0.5 if "running_var" in name else fresh
            if not value.is_floating_point():
                weights[name] = torch.full_like(value, 100)
        images = torch.rand(n, *shape, generator=rng) * 2 - 1
        label = f"{n} images of shape {shape}, {at_once} at a time"
        cases.append(Case({"weights": weights, "config": config, "images": images, "size": at_once}, label=label))
    return cases


quiz(
    "eval/somebody-elses-judge",
    points=4,
    minutes=6,
    bug_hunt=True,
    title="Somebody else's judge",
    reference=_features,
    cases=_saved_classifiers,
    any_device=False,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _features_with(lambda judge: judge.requires_grad_(False)),
            "Without gradients, and yet an image's features depend on the others of its batch. Which layer looks at a "
            "whole batch, and when?",
        ),
        Misconception(
            "one image at a time",
            _features_with(lambda judge: judge, parts=lambda images, size: images.split(1)),
            "Now each image is a batch of its own, and is normalised by its own pixels. That isn't what the classifier "
            "was trained to use either.",
        ),
        Misconception(
            "all at once",
            _features_with(lambda judge: judge, parts=lambda images, size: [images]),
            "In one batch the order doesn't matter, but the features still depend on which other images are there.",
        ),
    ],
    hints=[
        "What of an image's features may depend on the images beside it?",
        "Nothing. Which layer of the classifier computes means over the batch?",
        "`BatchNorm2d` does, in training mode; in the other mode it uses what it remembered. In which mode is a "
        "network that was just made?",
        "`judge.eval()`",
    ],
    passed="A fresh network is in training mode. `requires_grad_` and `no_grad` say nothing about that; `eval()` does.",
    explanation="""
    In training mode `BatchNorm2d` normalises by the batch's own mean and variance. `load_classifier` of the
    library calls `eval()` for you.
    """,
)

concept(
    "eval/what-a-judge-does",
    title="Who gains by it?",
    minutes=1,
    question="""
    With her judge, before the repair, the GAN's distance to the test images was about half of what it is. Why does
    such a judge flatter a model?
    """,
    options={
        "a": Option(
            "Each batch is normalised to one mean and spread, so what all its images share is taken away.",
            "Right. What a whole set has in common (too dark, too smooth) is subtracted in every layer before anyone "
            "can measure it. What is left are differences within a batch.",
            right=True,
        ),
        "b": Option(
            "In training mode the judge goes on learning, and so it gets used to the images of the generator.",
            "Nothing is learned without an optimizer. The running means do move, but in this mode they aren't used.",
        ),
        "c": Option(
            "Features become noisier by it, and distances of noisy features are on average smaller than others.",
            "Noise lifts a distance of few images rather than lowering it, as in 9.2. Both sets lost something here.",
        ),
        "d": Option(
            "It sees fewer images at a time, and by (9.1) the distance depends on how many images there are.",
            "The distance is computed from all rows in the end. The size of the batch matters in another way.",
        ),
    },
)


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
    explanation="Draws from it would fill a row like that of the test images in 9.6, and nothing is better.",
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
    A model's samples lie nearer to their nearest training images than fresh *test* images do: medians of 6.6
    and 7.5. Does it copy?
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


def _report(generated, training, held_out, rare):
    return _report_of_columns(0, 0)(generated, training, held_out, rare)


def _report_of_columns(of_generated, of_held_out):
    """Goes by the nearest training image (0) or the second nearest (1)."""

    def report(generated, training, held_out, rare):
        near, limits = (metrics.nearest(images, training, 2).distances for images in (generated, held_out))
        return (near[:, of_generated] < limits[:, of_held_out].quantile(rare)).double().mean().item()

    return report


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
            _report_of_columns(1, 1),
            "As it was handed out. Plant a copy, and follow it by hand: which column of the sorted table holds its "
            "distance, and which one is read?",
        ),
        Misconception(
            "mended for the samples only",
            _report_of_columns(0, 1),
            "Samples are measured to the nearest image now, but held-out ones to the second: far too many are near.",
        ),
        Misconception(
            "mended for the limit only",
            _report_of_columns(1, 0),
            "The limit is right now, but samples are still measured to the second nearest image.",
        ),
        Misconception(
            "the sets exchanged",
            lambda generated, training, held_out, rare: _report(held_out, training, generated, rare),
            "The limit comes from held-out images, and the generated ones are counted. You have it the other way.",
        ),
        Misconception(
            "against held-out images",
            lambda generated, training, held_out, rare: _report(generated, held_out, training, rare),
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
            "Copies of what stands in the training set twice, exactly or very nearly.",
            "Right. Then the second is near as well. He finds what you would have missed by the ratio in (9.6); each "
            "rule has its own blind spot.",
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
    return _timed_with(lambda spent: sorted(spent)[repeats // 2])(draw, n, repeats, clock)


def _timed_with(summary, warm=True):
    """summary(seconds of all repeats) -> seconds of a call;  warm: whether a call that doesn't count goes before."""

    def seconds_per_image(draw, n, repeats, clock):
        spent = []
        if warm:
            draw(n)
        for _ in range(repeats):
            began = clock()
            draw(n)
            spent.append(clock() - began)
        return summary(spent) / n

    return seconds_per_image


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


def _timed_per_call(draw, n, repeats, clock):
    return _seconds_per_image(draw, n, repeats, clock) * n


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
            _timed_with(fmean, warm=False),
            "The first call is slower (memory is asked for, kernels are chosen) and yours counts. Call `draw(n)` once "
            "before you look at the clock.",
        ),
        Misconception(
            "the mean",
            _timed_with(fmean),
            "One hiccup of the machine, and a mean is off. Time each repeat by itself and take the middle one.",
        ),
        Misconception("seconds per call", _timed_per_call, "That is for n images. Divide by n."),
        Misconception("the slowest", _timed_with(max), "That is the slowest repeat. Take the middle one of them."),
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
    library=(places, wishes),
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
    return places(means, worst, best)


def _places_of_the_first_seed(models, worst, best):
    return {name: rows[:1] for name, rows in places(models, worst, best).items()}


quiz(
    "eval/places",
    points=2,
    minutes=4,
    title="Every seed, every model",
    reference=places,
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
            "Your error rate is 40 % for such images, and more answers would confirm it.",
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
