"""The quizzes of notebook 01, "The autoencoder"."""

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from course_utils.models import autoencoder as library
from course_utils.models import blocks
from course_utils.pitfalls import autoencoder as pitfalls
from course_utils.training import until_stopped

from ..quizzes.declarations import Case, Fixture, Misconception, Option, Unfit, concept, fixture, quiz
from ..quizzes.raw import Array, to_raw


def _images(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random images in [-1, 1]."""
    return 2 * torch.rand(*shape, generator=rng, dtype=dtype) - 1


# ------------------------------------------------------------------------------------------------- 1.1 · losses


def _logits_and_images(rng: torch.Generator) -> list[Case]:
    cases = []
    for shape, dtype in (((3, 1, 5, 7), torch.float32), ((1, 3, 4, 6), torch.float32), ((3, 2, 6, 4), torch.float64)):
        logits = 3 * torch.randn(*shape, generator=rng, dtype=dtype)
        cases.append(Case({"logits": logits, "x": _images(rng, *shape, dtype=dtype)}, gradients=("logits",)))
    # Right, wrong, wrong by more than any clamp would let through, and a grey pixel: sure of each, and not quite sure.
    # And not sure at all: at 0, `abs` and `clamp` have slopes of their own.
    logits = [[-250.0, 250.0], [120.0, -120.0], [-1000.0, 400.0], [120.0, -120.0], [18.0, -18.0], [0.0, 0.0]]
    pixels = [[-1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [0.0, -0.5], [-1.0, 1.0], [-0.5, 1.0]]
    sure = {"logits": torch.tensor(logits).view(6, 1, 2, 1), "x": torch.tensor(pixels).view(6, 1, 2, 1)}
    label = "logits of 0, and from ±18 to ±1000, where p rounds to 0 or 1"
    return [*cases, Case(sure, gradients=("logits",), label=label)]


def _nll_mean_over_pixels(logits, x):
    return library.bernoulli_nll(logits, x) / x[0].numel()


def _nll_images_not_moved(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)


def _nll_mean_over_images(logits, x):
    return library.bernoulli_nll(logits, x).mean()


def _nll_sigmoid_twice(logits, x):
    return library.bernoulli_nll(logits.sigmoid(), x)


def _nll_half(logits, x):
    target = (x + 1) / 2
    return -(target * F.logsigmoid(logits)).flatten(1).sum(1)


def _nll_sign(logits, x):
    return -library.bernoulli_nll(logits, x)


def _nll_log_of_sigmoid(logits, x):
    p, target = logits.sigmoid(), (x + 1) / 2
    return -(target * p.log() + (1 - target) * (1 - p).log()).flatten(1).sum(1)


def _nll_bits(logits, x):
    return library.bernoulli_nll(logits, x) / 0.6931471805599453


quiz(
    "autoencoder/bernoulli-nll",
    points=3,
    minutes=5,
    equation="1.2",
    title="An image as a row of coins",
    reference=library.bernoulli_nll,
    cases=_logits_and_images,
    misconceptions=[
        Misconception(
            "averaged over pixels",
            _nll_mean_over_pixels,
            "Independent coins multiply their probabilities, so their logarithms add: sum over the pixels of an "
            "image. A mean would be nats per pixel.",
        ),
        Misconception(
            "images left in [−1, 1]",
            _nll_images_not_moved,
            "A black pixel is −1 in our images, and no coin has a probability of −1. Move the image to [0, 1] first: "
            "(x + 1) / 2.",
        ),
        Misconception(
            "averaged over the batch",
            _nll_mean_over_images,
            "Return one number for each image; the mean over images is for the training loop to take.",
        ),
        Misconception(
            "sigmoid applied twice",
            _nll_sigmoid_twice,
            "The function that you call applies the sigmoid itself: hand it the logits, not the probabilities.",
        ),
        Misconception(
            "black pixels cost nothing",
            _nll_half,
            "Only t · ln p is there. The second half of (1.2), (1 − t) · ln(1 − p), is what a black pixel costs.",
        ),
        Misconception(
            "the sign", _nll_sign, "A logarithm of a probability is negative; a *cost* is minus that: (1.2)."
        ),
        Misconception(
            "ln of a rounded probability",
            _nll_log_of_sigmoid,
            "For a logit of −120 the sigmoid rounds to 0 and its logarithm to −∞. Stay with logits: "
            "`F.binary_cross_entropy_with_logits`, or softplus(l) − t · l.",
        ),
        Misconception("bits", _nll_bits, "That is in bits. Nats are natural logarithms: don't divide by ln 2."),
    ],
    hints=[
        "Two steps: what is the target t in [0, 1] that belongs to a pixel in [−1, 1]? Then (1.2), summed over "
        "three axes.",
        "`F.binary_cross_entropy_with_logits(logits, t, reduction='none')` gives the bracket of (1.2), with its minus, "
        "for every pixel, and is safe for any logit.",
        "Then the axes: channels, rows and columns belong together, images don't. `.flatten(1)` joins the first three.",
        "`F.binary_cross_entropy_with_logits(logits, t, reduction='none').flatten(1).sum(dim=1)`",
    ],
    passed="One number for each image, in nats, safe for any logit. Notebook 02 stands on it.",
    explanation="""
    One number for each image, in nats. The function of PyTorch works on logits because $\\ln(1-\\sigma(l)) =
    -\\mathrm{softplus}(l)$ can be computed for every $l$, while $\\sigma(l)$ rounds to exactly 0 or 1 long before $l$
    is large.
    """,
)

concept(
    "autoencoder/grey-floor",
    title="The price of grey",
    equation="1.2",
    question="""
    A decoder reproduces an image *exactly*: every pixel's probability $p$ equals the pixel's grey value $t$.
    What is its cost (1.2)?
    """,
    options={
        "a": Option(
            "Nothing at all: no pixel has lost anything, so nothing can be owed for it.",
            "That is so for the squared error (1.1). Here, a pixel of $t=0.5$ with $p=0.5$ costs $\\ln 2$: look at "
            "the lowest point of the curve for t = 0.5 below.",
        ),
        "b": Option(
            "More than 0: every grey pixel pays the entropy of a coin with that bias.",
            "Right. Black and white pixels pay nothing, grey ones up to $\\ln 2$ nats. So compare (1.2) between models "
            "on the same images, and don't wait for 0.",
            right=True,
        ),
        "c": Option(
            "More than it must: the cost would be lower at a $p$ nearer to black or white.",
            "Set the derivative of the bracket to zero: $-t/p+(1-t)/(1-p)=0$ has the one solution $p=t$. Grey stays "
            "grey; the minimum is just not 0.",
        ),
        "d": Option(
            "It has none: a coin that can't show grey has no probability of doing so.",
            "As a *likelihood* it is a stretch indeed, since a coin shows 0 or 1. But the formula takes any $t$ in "
            "$[0,1]$ and is a sound cost: it is smallest exactly at $p=t$.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 1.2 · PCA


def _fit_reference(x, latent):
    mean = x.mean(dim=0)
    _, singular, directions = torch.linalg.svd((x - mean).flatten(1), full_matrices=False)
    return mean, directions[:latent], singular.square() / len(x)


def _fit_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, shape, latent, dtype in (
        (40, (1, 3, 4), 3, torch.float64),
        (60, (2, 3, 2), 5, torch.float32),
        (9, (1, 4, 5), 2, torch.float64),  # fewer images than pixels
    ):
        pixels = shape[0] * shape[1] * shape[2]
        rank = min(n - 1, pixels)
        turn = torch.linalg.qr(torch.randn(pixels, rank, generator=rng, dtype=dtype)).Q
        along = torch.randn(n, rank, generator=rng, dtype=dtype)
        along = torch.linalg.qr(along - along.mean(0)).Q * n**0.5  # centred, and of variance 1 along each direction
        flat = along * 0.8 ** torch.arange(rank, dtype=dtype) @ turn.T  # of clearly different importance
        x = flat.view(n, *shape) + 0.7 * torch.randn(*shape, generator=rng, dtype=dtype) + 1
        cases.append(Case({"x": x, "latent": latent}, label=f"{n} images {shape}, {latent} directions"))
    return cases


def _up_to_signs(raw, case: Case):
    """The variances that can be other than 0, and each direction times itself: its sign is free."""
    x, latent = case.args["x"], case.args["latent"]
    pixels, rank = x[0].numel(), min(len(x) - 1, x[0].numel())
    if type(raw) not in (tuple, list) or len(raw) != 3 or not all(isinstance(part, Array) for part in raw):
        raise Unfit("expected three tensors: the mean image, the directions and the variances")
    mean, directions, variances = raw
    if directions.shape != (latent, pixels):
        cut = directions.shape[::-1] == (latent, pixels) or directions.shape[1:] != (pixels,)
        which = ". The third result of `torch.linalg.svd` is Vᵀ already: its *rows* are directions" if cut else ""
        raise Unfit(f"directions: expected shape {(latent, pixels)}, one a row, got {directions.shape}{which}")
    if len(variances.shape) != 1 or variances.shape[0] < rank:
        raise Unfit(f"variances: expected one number for every direction, got shape {variances.shape}")
    rows = torch.from_numpy(directions.data)
    return (
        mean,
        to_raw(rows[:, :, None] * rows[:, None, :]),
        to_raw(torch.from_numpy(variances.data[:rank])),
    )


def _fit_not_centred(x, latent):
    _, singular, directions = torch.linalg.svd(x.flatten(1), full_matrices=False)
    return x.mean(0), directions[:latent], singular.square() / len(x)


def _fit_singular_values(x, latent):
    mean, directions, variances = _fit_reference(x, latent)
    return mean, directions, variances.sqrt() * len(x) ** 0.5


def _fit_not_divided(x, latent):
    mean, directions, variances = _fit_reference(x, latent)
    return mean, directions, variances * len(x)


def _fit_unbiased(x, latent):
    mean, directions, variances = _fit_reference(x, latent)
    return mean, directions, variances * len(x) / (len(x) - 1)


def _fit_not_squared(x, latent):
    mean, directions, variances = _fit_reference(x, latent)
    return mean, directions, (variances / len(x)).sqrt()


def _fit_deviations(x, latent):
    mean, directions, variances = _fit_reference(x, latent)
    return mean, directions, variances.sqrt()


def _fit_smallest_first(x, latent):
    values, vectors = torch.linalg.eigh(torch.cov(x.flatten(1).T, correction=0))
    return x.mean(0), vectors.T[:latent], values


def _fit_columns(x, latent):
    flat = (x - x.mean(0)).flatten(1)
    _, singular, directions = torch.linalg.svd(flat, full_matrices=True)
    return x.mean(0), directions.T[:latent], singular.square() / len(x)


quiz(
    "autoencoder/fit-pca",
    points=3,
    minutes=4,
    equation="1.3",
    title="Find the best directions",
    reference=_fit_reference,
    library=(library.PCA.fit,),
    cases=_fit_cases,
    measured=_up_to_signs,
    misconceptions=[
        Misconception(
            "not centred",
            _fit_not_centred,
            "The first direction now points from black to the mean image. Subtract the mean before the SVD.",
        ),
        Misconception(
            "columns of V transposed for rows",
            _fit_columns,
            "`torch.linalg.svd` returns Vᵀ, with the directions as *rows* already: no `.T` is needed.",
        ),
        Misconception(
            "singular values for variances",
            _fit_singular_values,
            "A singular value is the length of a column of U·s. The variance is its square, divided by the number of "
            "images.",
        ),
        Misconception(
            "sum of squares, not their mean",
            _fit_not_divided,
            "That is the sum of squares over all images. A variance is their mean: divide by the number of images.",
        ),
        Misconception("standard deviations", _fit_deviations, "Those are standard deviations; square them."),
        Misconception(
            "divided by n − 1",
            _fit_unbiased,
            "That divides by n − 1, as an unbiased estimate does. The docstring asks for a mean square, over n images.",
        ),
        Misconception(
            "singular values not squared",
            _fit_not_squared,
            "You divided the singular values themselves by n. A variance is a mean of *squares*.",
        ),
        Misconception(
            "least important first",
            _fit_smallest_first,
            "`torch.linalg.eigh` sorts upwards, so these are the directions in which least happens. Turn them round.",
        ),
    ],
    hints=[
        "Three results: a mean over images, a matrix decomposition of what is left, and the spread along each "
        "direction.",
        "The SVD wants a matrix with one image per row, and the mean subtracted: `(x - mean).flatten(1)`.",
        "`torch.linalg.svd(matrix, full_matrices=False)` returns U, the singular values and Vᵀ. Which of the three "
        "has one direction a row?",
        "`_, s, directions = torch.linalg.svd(centred, full_matrices=False)`; then `s**2 / len(x)` are the variances.",
    ],
    passed="Four lines solve the linear autoencoder exactly: no steps, no learning rate, no luck. Every network below "
    "has to beat this one first.",
    explanation="""
    The rows of $V^\\top$ are the directions, most important first. Along direction $i$ the images have the
    coordinates $U_{\\cdot i}s_i$, whose mean square is $s_i^2/n$. `full_matrices=False` leaves out the rows of $U$
    and $V$ that belong to singular values of 0.
    """,
)


def _pca_reference(x, mean, directions):
    pca = library.PCA(mean, directions, torch.ones(1, dtype=x.dtype))
    return pca.encode(x), pca(x)


def _pca_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, k, dtype in (
        (4, (1, 5, 7), 3, torch.float64),
        (1, (3, 4, 6), 5, torch.float32),
        (6, (2, 6, 3), 1, torch.float32),
    ):
        pixels = shape[0] * shape[1] * shape[2]
        rows, _ = torch.linalg.qr(torch.randn(pixels, k, generator=rng, dtype=dtype))
        args = {"x": _images(rng, b, *shape, dtype=dtype), "mean": 0.4 * _images(rng, *shape, dtype=dtype) - 0.3}
        cases.append(Case(args | {"directions": rows.T.contiguous()}))
    # Black and white images, most directions kept: what is rebuilt leaves [-1, 1] in many pixels.
    rows, _ = torch.linalg.qr(torch.randn(12, 8, generator=rng))
    harsh = {"x": _images(rng, 5, 1, 3, 4).sign(), "mean": torch.zeros(1, 3, 4), "directions": rows.T.contiguous()}
    return [*cases, Case(harsh, label="black and white images, 8 of 12 directions")]


def _pca_not_centred(x, mean, directions):
    z = x.flatten(1) @ directions.T
    return z, (z @ directions).view_as(x)


def _pca_mean_not_added(x, mean, directions):
    z = (x - mean).flatten(1) @ directions.T
    return z, (z @ directions).view_as(x)


def _pca_centred_only_at_the_end(x, mean, directions):
    z = x.flatten(1) @ directions.T
    return z, (z @ directions).view_as(x) + mean


def _pca_columns_for_rows(x, mean, directions):
    c, h, w = mean.shape
    flat = (x - mean).transpose(2, 3).flatten(1)
    z = flat @ directions.T
    return z, (z @ directions).view(-1, c, w, h).transpose(2, 3) + mean


def _pca_batch_mean(x, mean, directions):
    return _pca_reference(x, x.mean(0), directions)


quiz(
    "autoencoder/pca",
    points=3,
    minutes=3,
    equation="1.3",
    title="Project and rebuild",
    reference=_pca_reference,
    library=(library.PCA.fit, library.PCA.encode, library.PCA.decode, library.PCA.__call__),
    cases=_pca_cases,
    misconceptions=[
        Misconception(
            "mean not subtracted",
            _pca_not_centred,
            "The directions lead away from the mean image, so it must be subtracted before projecting, and added at "
            "the end.",
        ),
        Misconception(
            "mean not added back",
            _pca_mean_not_added,
            "Your codes are right. The reconstruction is missing the mean image that was subtracted before.",
        ),
        Misconception(
            "mean added but never subtracted",
            _pca_centred_only_at_the_end,
            "The mean is added at the end, but it was never taken away: project x − m.",
        ),
        Misconception(
            "columns read as rows",
            _pca_columns_for_rows,
            "The pixels are in another order than in `directions`: flatten(1) runs through rows (h, then w).",
        ),
        Misconception(
            "mean of the batch",
            _pca_batch_mean,
            "Subtract the `mean` that is handed in, that of the training set: a code must not depend on which other "
            "images are in the batch.",
        ),
    ],
    hints=[
        "Rows of `directions` are images of length c·h·w that are orthonormal. What does x − m look like as rows?",
        "`(x - mean).flatten(1)` is (b, c·h·w). Times `directions.T` it becomes (b, k): the codes.",
        "Back: `z @ directions` is (b, c·h·w) again. Which shape must it get, and what was taken away at the start?",
        "`z = (x - mean).flatten(1) @ directions.T`, then `(z @ directions).view_as(x) + mean`",
    ],
    passed="One matrix, used twice: down as W, up as its transpose. A second pass would change nothing, which is what "
    "makes it a projection.",
    explanation="""
    Encoder and decoder share one matrix, once as $W$ and once as $W^\\top$. That the rows of $W$ are orthonormal is
    what makes $W^\\top W$ a projection: a second pass changes nothing, which is a good way to test the code.
    """,
)

# ------------------------------------------------------------------------------------------------- 1.3 · the loop


def _batches_reference(images, size, generator):
    while True:
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(images) - size + 1, size):
            yield images[order[start : start + size]]


EPOCHS = 3


def _draw_batches(answer, images, size, generator, count, shape, seed):
    """Three epochs of batches, twice from one seed and once from another; which images are in them shows in a pixel."""
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(count, *shape).clone()
    runs = []
    for start in (seed, seed, seed + 1):
        made = answer(images, size, torch.Generator().manual_seed(start))
        if made is None:
            return None
        runs.append(list(itertools.islice(iter(made), EPOCHS * (count // size))))
    return tuple(runs)


def _about_batches(raw, case: Case) -> dict:
    count, size, shape = (case.args[name] for name in ("count", "size", "shape"))
    each = count // size
    for run in raw:
        if len(run) < EPOCHS * each:
            raise Unfit(f"it stops after {len(run)} batches; it should go on for as long as somebody asks")
        for batch in run:
            if not isinstance(batch, Array) or batch.shape != (size, *shape):
                got = batch.shape if isinstance(batch, Array) else type(batch).__name__
                raise Unfit(f"expected batches of shape {(size, *shape)}, got {got}")
    first, again, other = (np.stack([batch.data[:, 0, 0, 0] for batch in run]) for run in raw)
    epochs = [epoch.ravel().tolist() for epoch in np.split(first, EPOCHS)]
    return {
        "within an epoch no image comes twice": all(len(set(epoch)) == each * size for epoch in epochs),
        "an epoch has an order of its own": len({tuple(epoch) for epoch in epochs}) == EPOCHS,
        "images of a batch come from anywhere": not any(epoch == sorted(epoch) for epoch in epochs),
        "batches are mixed anew": len({frozenset(batch.tolist()) for batch in first}) > each,
        "the same generator gives the same batches": bool((first == again).all()),
        "another generator gives others": bool((first != other).any()),
        "every image has a chance": count % size == 0 or len(set(first.ravel().tolist())) > each * size,
    }


def _batch_cases(rng: torch.Generator) -> list[Case]:
    seeds = torch.randint(1_000_000, (2,), generator=rng).tolist()
    names = (
        "images",
        "size",
        "generator",
        "count",
        "shape",
        "seed",
    )  # the answer's arguments first: its probe makes them
    sizes = ((6, 24, (1, 2, 3), seeds[0]), (4, 23, (3, 1, 2), seeds[1]))
    return [
        Case(dict(zip(names, (None, size, None, *rest))), label=f"{rest[0]} images in batches of {size}")
        for size, *rest in sizes
    ]


def _batches_one_order(images, size, generator):
    order = torch.randperm(len(images), generator=generator)
    while True:
        for start in range(0, len(images) - size + 1, size):
            yield images[order[start : start + size]]


def _batches_in_file_order(images, size, generator):
    while True:
        for start in range(0, len(images) - size + 1, size):
            yield images[start : start + size]


def _batches_put_back(images, size, generator):
    while True:
        yield images[torch.randint(len(images), (size,), generator=generator)]


def _batches_own_randomness(images, size, generator):
    while True:
        order = torch.randperm(len(images))
        for start in range(0, len(images) - size + 1, size):
            yield images[order[start : start + size]]


quiz(
    "autoencoder/batches",
    points=3,
    minutes=5,
    title="Stage 1: fresh batches, for ever",
    reference=_batches_reference,
    cases=_batch_cases,
    probe=_draw_batches,
    measured=_about_batches,
    any_device=False,
    misconceptions=[
        Misconception(
            "one order for all epochs",
            _batches_one_order,
            "The images are shuffled once, so the same ones always meet in a batch. Draw a new order at the start of "
            "every epoch: inside the outer loop.",
        ),
        Misconception(
            "not shuffled",
            _batches_in_file_order,
            "The batches come in the order of the file. Where a file is sorted by class, each batch would hold one "
            "class only.",
        ),
        Misconception(
            "images drawn with replacement",
            _batches_put_back,
            "Each batch is drawn from *all* images, so in one epoch some come twice and others never. Shuffle once "
            "an epoch, then deal out.",
        ),
        Misconception(
            "the generator is not used",
            _batches_own_randomness,
            "Two runs with the same seed get different batches: pass `generator=generator` to whatever draws.",
        ),
    ],
    hints=[
        "Two loops: an endless one over epochs, and inside it one over the places where a batch begins.",
        "A new order for an epoch: `torch.randperm(len(images), generator=generator)`. Where in the two loops does it "
        "belong?",
        "`yield` hands out one batch and waits until somebody asks for the next. Batches begin at 0, size, 2·size, …; "
        "the last start that leaves room for a whole batch is `len(images) - size`.",
        "Inside: `for start in range(0, len(images) - size + 1, size): yield images[order[start : start + size]]`",
    ],
    passed="Every image once an epoch, in an order that nobody has seen before, and the same again from the same seed. "
    "PyTorch's `DataLoader(shuffle=True, drop_last=True)` does this, with workers.",
    explanation="""
    A function with `yield` is a *generator*: it runs until the next `yield` and sleeps until the next batch is wanted,
    so "for ever" costs nothing. Shuffling anew matters: with one fixed order the same images always share a gradient,
    and the last few that fill no batch would never be seen.
    """,
)


@fixture("autoencoder/small")
def _small(pixels: int = 6, seed: int = 0) -> nn.Module:
    """A network with dropout, so that its mode shows."""
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 4), nn.Tanh(), nn.Dropout(0.4), nn.Linear(4, pixels))


def _rebuild(model, x):
    return (model(x) - x.flatten(1)).square().mean()


OPTIMIZERS = {
    "SGD": lambda weights: torch.optim.SGD(weights, lr=0.2, momentum=0.5),
    "Adam": lambda weights: torch.optim.Adam(weights, lr=0.05),
}


def _plain(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 6))


def _numbered(seed: int, count: int) -> torch.Tensor:
    return 2 * torch.rand(count, 5, 1, 2, 3, generator=torch.Generator().manual_seed(seed)) - 1


def _take_steps(answer, model, loss, x, optimizer, steps, seed):
    """Some steps on one model: what each returned, and the weights after the last."""
    model = _plain(seed)
    moves = OPTIMIZERS[optimizer](model.parameters())
    said = [answer(model, _rebuild, x, moves) for x in _numbered(seed, steps)]
    if any(each is None for each in said):
        return None
    return {"losses": said, "weights afterwards": [weight.detach().clone() for weight in model.parameters()]}


def _step_cases(rng: torch.Generator) -> list[Case]:
    seeds = torch.randint(1_000_000, (3,), generator=rng).tolist()
    kinds = (("SGD", 1), ("SGD", 4), ("Adam", 3))
    return [
        Case(
            {"model": None, "loss": None, "x": None, "optimizer": kind, "steps": steps, "seed": seed},
            label=f"{steps} step{'s' * (steps > 1)} of {kind}",
        )
        for (kind, steps), seed in zip(kinds, seeds)
    ]


def _step_reference(model, loss, x, optimizer):
    value = loss(model, x)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.item()


def _step_no_zero_grad(model, loss, x, optimizer):
    value = loss(model, x)
    value.backward()
    optimizer.step()
    return value.item()


def _step_before_backward(model, loss, x, optimizer):
    optimizer.step()
    value = loss(model, x)
    optimizer.zero_grad()
    value.backward()
    return value.item()


def _step_zeroed_too_late(model, loss, x, optimizer):
    value = loss(model, x)
    value.backward()
    optimizer.zero_grad()
    optimizer.step()
    return value.item()


def _step_tensor(model, loss, x, optimizer):
    value = loss(model, x)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def _step_loss_afterwards(model, loss, x, optimizer):
    _step_reference(model, loss, x, optimizer)
    return loss(model, x).item()


quiz(
    "autoencoder/step",
    points=3,
    minutes=4,
    title="Stage 2: one step",
    reference=_step_reference,
    cases=_step_cases,
    probe=_take_steps,
    any_device=False,
    misconceptions=[
        Misconception(
            "gradients of all steps added up",
            _step_no_zero_grad,
            "The first step is right, the later ones aren't: `.backward()` *adds* to the gradients that are there. "
            "Clear them once a step.",
        ),
        Misconception(
            "step before backward",
            _step_before_backward,
            "The optimizer moves along the gradients of the step before, for those of this one aren't there yet.",
        ),
        Misconception(
            "cleared between backward and step",
            _step_zeroed_too_late,
            "The gradients are computed, thrown away, and then the optimizer has nothing to go by: no weight moves.",
        ),
        Misconception(
            "loss measured after the step",
            _step_loss_afterwards,
            "Your weights are right. What you return is the loss of the *new* weights, at the price of a second pass.",
        ),
    ],
    hints=[
        "Four calls in an order that matters, then one number. Three of them have names that you know.",
        "The loss comes from `loss(model, x)`. Who fills `.grad`, who reads it, and who empties it?",
        "`.backward()` adds to what `.grad` holds already. So it must be empty when `.backward()` begins, and must "
        "not be emptied before `.step()` has read it.",
        "`optimizer.zero_grad()`, `value.backward()`, `optimizer.step()`, and `return value.item()`",
    ],
    passed="Loss, clear, backward, step. These four lines train everything in this course, and Stable Diffusion too; "
    "what differs is the loss, and what stands around them.",
    explanation="""
    `.backward()` adds into `.grad`, which is useful when several losses share a step, and is why somebody must clear.
    `.item()` turns the loss into a number. Kept as a tensor it would keep its whole graph alive: a thousand steps, a
    thousand graphs, and the memory is full.
    """,
)


def _train_reference(model, loss, batches, steps, lr):
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    model.train()
    for step in until_stopped(range(steps)):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, 2 * (1 - step / steps))
        losses.append(_step_reference(model, loss, next(batches), optimizer))
    model.eval()
    return losses


def _train_whole(answer, model, loss, batches, steps, lr, seed):
    """A whole training: the losses, the weights after it, the mode while it ran and after."""
    model = _plain(seed).eval()
    modes = []

    def loss(model, x):  # the case holds the places of these arguments only
        modes.append(model.training)
        return _rebuild(model, x)

    losses = answer(model, loss, iter(_numbered(seed, steps + 2)), steps, lr)
    if losses is None:
        return None
    weights = [weight.detach().clone() for weight in model.parameters()]
    return {
        "losses": losses,
        "weights after training": weights,
        "in training mode while it trains": all(modes),
        "in eval mode afterwards": not model.training,
    }


def _train_cases(rng: torch.Generator) -> list[Case]:
    seeds = torch.randint(1_000_000, (3,), generator=rng).tolist()
    kinds = ((8, 0.05), (7, 0.02), (1, 0.1))
    return [
        Case(
            {"model": None, "loss": None, "batches": None, "steps": steps, "lr": lr, "seed": seed},
            label=f"{steps} step{'s' * (steps > 1)} at lr {lr}",
        )
        for (steps, lr), seed in zip(kinds, seeds)
    ]


def _train_with(rate=lambda k, steps: min(1, 2 * (1 - k / steps)), same=False, ends=True, kind=torch.optim.Adam):
    """The loop with one thing changed."""

    def train(model, loss, batches, steps, lr):
        optimizer, losses = kind(model.parameters(), lr=lr), []
        first = next(batches) if same else None
        model.train()
        for k in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * rate(k, steps)
            losses.append(_step_reference(model, loss, first if same else next(batches), optimizer))
        if ends:
            model.eval()
        return losses

    return train


def _train_new_optimizer(model, loss, batches, steps, lr):
    losses = []
    model.train()
    for k in range(steps):
        optimizer = torch.optim.Adam(model.parameters(), lr=lr * min(1, 2 * (1 - k / steps)))
        losses.append(_step_reference(model, loss, next(batches), optimizer))
    model.eval()
    return losses


def _train_compounded(model, loss, batches, steps, lr):
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    model.train()
    for k in range(steps):
        for group in optimizer.param_groups:
            group["lr"] *= min(1, 2 * (1 - k / steps))
        losses.append(_step_reference(model, loss, next(batches), optimizer))
    model.eval()
    return losses


quiz(
    "autoencoder/train",
    points=4,
    minutes=6,
    title="Stage 3: a whole training",
    reference=_train_reference,
    cases=_train_cases,
    probe=_train_whole,
    any_device=False,
    misconceptions=[
        Misconception(
            "one batch for all steps",
            _train_with(same=True),
            "Every step gets the same batch. Ask for a fresh one, `next(batches)`, inside the loop.",
        ),
        Misconception(
            "left in training mode",
            _train_with(ends=False),
            "The weights are right. But the model is still in training mode, in which dropout would go on dropping: "
            "`model.eval()` at the end.",
        ),
        Misconception(
            "the learning rate never falls",
            _train_with(rate=lambda k, steps: 1),
            "The learning rate stays at lr to the end. In the second half it should fall: set `group['lr']` in "
            "`optimizer.param_groups` before each step.",
        ),
        Misconception(
            "falls from the first step on",
            _train_with(rate=lambda k, steps: 1 - k / steps),
            "The rate falls from the beginning. In the first half it should stay at lr.",
        ),
        Misconception(
            "the rate set after the step",
            _train_with(rate=lambda k, steps: min(1, 2 * (1 - max(0, k - 1) / steps))),
            "Each step is made at the rate that belongs to the step before. Set the rate first, then make the step.",
        ),
        Misconception(
            "falls one step early",
            _train_with(rate=lambda k, steps: min(1, 2 * (1 - (k + 1) / steps))),
            "The rate falls one step too early: steps are counted from 0, and at the last one it is still above 0.",
        ),
        Misconception(
            "a new optimizer for every step",
            _train_new_optimizer,
            "An optimizer that is made inside the loop forgets all that it has learned about the gradients. Make it "
            "once, before the loop.",
        ),
        Misconception(
            "the factor multiplied in again and again",
            _train_compounded,
            "Each step shrinks a rate that has been shrunk already. Compute it anew from lr.",
        ),
        Misconception(
            "plain gradient descent",
            _train_with(kind=torch.optim.SGD),
            "These are the steps of SGD. The docstring asks for `torch.optim.Adam`.",
        ),
    ],
    hints=[
        "Before the loop: an optimizer and an empty list. In it: set the rate, make a step, note the loss. After it: "
        "the mode, and the list.",
        "You have `train_step` from stage 2; give it `next(batches)`. How much of the rate is left at step k, "
        "if it is all of it up to the middle and none of it at the end?",
        "From the middle on a line that is 1 at k = steps/2 and 0 at k = steps: 2·(1 − k/steps). Before, that line "
        "is above 1: `min(1, …)`.",
        "`for group in optimizer.param_groups: group['lr'] = lr * min(1, 2 * (1 - step / steps))`, then "
        "`losses.append(train_step(model, loss, next(batches), optimizer))`",
    ],
    passed="A training loop, whole: from here on every model of this notebook is trained by it. The library's `fit`, "
    "which later notebooks call, is the same loop with a progress bar, checkpoints and averages around it.",
    explanation="""
    A constant learning rate leaves the weights jittering around a minimum by about one step; letting the rate fall at
    the end quiets them down, and costs a line. The two modes matter for layers such as dropout and batch norm, which
    behave differently while training; our networks have none, the habit is free.
    """,
)

concept(
    "autoencoder/linear",
    title="What the linear autoencoder found",
    minutes=2,
    question="""
    Your loop trained a linear autoencoder with $k$ latents until its error was (nearly) PCA's. Are the rows of its
    encoder the principal directions?
    """,
    options={
        "a": Option(
            "Yes: the smallest error has one solution only, so both of them found that.",
            "Multiply the codes by any invertible $k\\times k$ matrix and let the decoder undo it: the reconstructions "
            "don't change. There are infinitely many equally good solutions.",
        ),
        "b": Option(
            "Yes, up to their order and their signs, on which the loss has no opinion.",
            "Order and signs would be the least of it: directions may be mixed, stretched and skewed, as long as the "
            "decoder undoes it.",
        ),
        "c": Option(
            "No: it got stuck in a local minimum that happens to have nearly the same error.",
            "For a linear autoencoder every local minimum is a global one (Baldi and Hornik 1989). There are many "
            "minima, all equally deep.",
        ),
        "d": Option(
            "No: it found the same subspace of images, but some arbitrary basis within it.",
            "Right. What both share is the set of images they can draw: that is the overlap printed above. By which "
            "numbers each of these images is called, the two need not agree.",
            right=True,
        ),
    },
)


def _other_loop_reference(model, loss, images, steps, lr, seed):
    generator = torch.Generator().manual_seed(seed)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    model.train()
    for _ in range(steps):
        order = torch.randperm(len(images), generator=generator)
        losses.append(_step_reference(model, loss, images[order[:64]], optimizer))
    model.eval()
    return losses


def _watch_other_loop(answer, model, loss, images, steps, lr, seed, count):
    """Which images each step saw, in three runs: one seed twice, another once. A pixel of each image is its number."""
    images = torch.zeros(count, 1, 2, 3)
    images[:, 0, 0, 0] = torch.arange(count) / count
    found = []
    for start in (seed, seed, seed + 1):
        seen = []

        def loss(model, x, seen=seen):
            seen.append((x[:, 0, 0, 0] * count).detach().clone())
            return _rebuild(model, x)

        model = _plain(seed)
        losses = answer(model, loss, images, steps, lr, start)
        if losses is None:
            return None
        weights = torch.cat([weight.detach().flatten() for weight in model.parameters()])
        found.append((list(losses), seen, weights))
    return tuple(found)


def _about_other_loop(raw, case: Case) -> dict:
    count, steps = case.args["count"], case.args["steps"]
    seen = []
    for losses, batches, _ in raw:
        if len(losses) != steps or not all(type(value) is float for value in losses):
            raise Unfit(f"expected {steps} losses, one float for each step, got {len(losses)} values")
        if not all(isinstance(b, Array) and b.shape == (64,) for b in batches) or len(batches) < steps:
            raise Unfit("expected a batch of 64 images at every step")
        seen.append([b.data.round().astype(int) for b in batches])
    first = seen[0]
    weights = [np.asarray(run[2].data) for run in raw]
    return {
        "another batch at every step": len({tuple(sorted(batch)) for batch in first}) == len(first),
        "no image twice in a batch": all(len(set(batch)) == 64 for batch in first),
        "images from everywhere": len(set(np.concatenate(first).tolist())) > min(count, 64 * steps) * 0.5,
        "the same seed gives the same run": bool(np.allclose(weights[0], weights[1], atol=1e-6)),
        "another seed gives another run": not np.allclose(weights[0], weights[2], atol=1e-6),
        "the weights move": bool(np.abs(weights[0] - weights[0].mean()).max() > 0),
    }


def _other_loop_cases(rng: torch.Generator) -> list[Case]:
    seeds = torch.randint(1_000_000, (2,), generator=rng).tolist()
    return [
        Case(
            {"model": None, "loss": None, "images": None, "steps": steps, "lr": 0.01, "seed": seed, "count": count},
            label=f"{count} images, {steps} steps",
        )
        for (count, steps), seed in zip(((400, 6), (700, 9)), seeds)
    ]


def _other_loop_unseeded(model, loss, images, steps, lr, seed):
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    model.train()
    for _ in range(steps):
        losses.append(_step_reference(model, loss, images[torch.randperm(len(images))[:64]], optimizer))
    model.eval()
    return losses


quiz(
    "autoencoder/other-loop",
    points=3,
    minutes=6,
    title="Somebody else's loop",
    bug_hunt=True,
    reference=_other_loop_reference,
    cases=_other_loop_cases,
    probe=_watch_other_loop,
    measured=_about_other_loop,
    any_device=False,
    misconceptions=[
        Misconception(
            "still as it was handed out",
            pitfalls.training_loop,
            "Every step still sees the same images. Which line makes the choice of images, and what does it depend on?",
        ),
        Misconception(
            "the seed thrown away",
            _other_loop_unseeded,
            "The batches are fresh now, but `seed` has no effect any more: two runs with one seed should agree.",
        ),
    ],
    hints=[
        "The loss on the batches falls, that on other images doesn't. What kind of data would do that to a healthy "
        "network?",
        "Follow one step. Which images does it see? Follow the next. Which does *it* see?",
        "A generator's seed decides all that follows from it. How often is it set here, and how often should it be?",
        "The line that makes `generator` belongs before the loop, not inside it.",
    ],
    passed="A loss on training batches can look splendid while only 64 images are learned. Only images that the loop "
    "has never seen can tell: watch both curves.",
    explanation="""
    The generator is made anew, from the same seed, in every step: so every step shuffles the images in the same way
    and takes the same first 64. A cousin of it is `next(iter(loader))` inside a loop, where `loader` doesn't shuffle.
    Neither raises an error, and the curve that everybody watches, the loss on batches, has never looked better.
    """,
)

concept(
    "autoencoder/other-loop-images",
    title="And what did it do to the images?",
    minutes=2,
    question="""
    The autoencoder that this loop trained is given a test image that it never saw. What does it give back?
    """,
    options={
        "a": Option(
            "The mean of all training images, a grey fog, whatever it is shown.",
            "A network that has learned *nothing* answers with a mean. This one has learned 64 images very well.",
        ),
        "b": Option(
            "Roughly the garment, but spotted and bent: drawn with parts of others.",
            "Right. It has only practised what its 64 images need, and draws every newcomer with that. Plain garments "
            "get through, with spots; others bend. Compare the rows below.",
            right=True,
        ),
        "c": Option(
            "The same garment, only smoother, since few images have few details.",
            "Smooth is what a narrow bottleneck makes of images like those it was trained on. New ones come back "
            "rougher, not smoother: the spots below are details of other images.",
        ),
        "d": Option(
            "The test image as it is: long training on few images teaches to copy.",
            "Copying anything at all is what a *good* autoencoder would do, and this bottleneck is too narrow for "
            "that. It has learned to rebuild 64 images, not to copy.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 1.4 · networks


def _conv_cases(rng: torch.Generator) -> list[Case]:
    fixed = [((28, 28), 4, 2, 1, 1), ((28, 40), 3, 2, 1, 1), ((13, 32), 5, 6, 0, 1), ((5, 9), 5, 6, 0, 1)]  # one stop
    fixed += [((28, 28), 4, 2, 3, 1), ((28, 40), 3, 2, 1, 3)]  # other than the first two in one setting only
    fixed += [((28, 40), 3, 1, 1, 3), ((28, 40), 1, 2, 1, 3)]  # other than the last in stride, or kernel
    fixed += [((11, 14), 2, 1, 3, 3), ((10, 11), 4, 1, 2, 1), ((3, 8), 5, 2, 4, 2)]  # even at stride 1; mostly padding
    for _ in range(4):
        h, w = torch.randint(16, 60, (2,), generator=rng).tolist()
        kernel, stride, dilation = torch.randint(2, 5, (3,), generator=rng).tolist()
        fixed.append(((h, w), kernel, stride, int(torch.randint(0, 4, (1,), generator=rng)), dilation))
    names = ("size", "kernel", "stride", "padding", "dilation")
    return [Case(dict(zip(names, values)), label=_spelled(names, values)) for values in fixed]


def _spelled(names, values) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, values))


def _on_both(formula):
    """A function of one axis, made to work on a pair."""
    return lambda size, *settings: tuple(formula(n, *settings) for n in size)


_conv_padding_once = _on_both(lambda n, k, s, p, d: (n + p - d * (k - 1) - 1) // s + 1)
_conv_without_one = _on_both(lambda n, k, s, p, d: (n + 2 * p - d * (k - 1)) // s)
_conv_rounded_up = _on_both(lambda n, k, s, p, d: -(-(n + 2 * p - d * (k - 1) - 1) // s) + 1)
_conv_no_dilation = _on_both(lambda n, k, s, p, d: (n + 2 * p - k) // s + 1)
_conv_wrong_reach = _on_both(lambda n, k, s, p, d: (n + 2 * p - d * k) // s + 1)


def _conv_swapped(size, kernel, stride, padding, dilation):
    return blocks.conv_size(size[::-1], kernel, stride, padding, dilation)


def _conv_height_twice(size, kernel, stride, padding, dilation):
    return blocks.conv_size((size[0], size[0]), kernel, stride, padding, dilation)


quiz(
    "autoencoder/conv-size",
    points=2,
    minutes=4,
    equation="1.4",
    title="How large is a convolution's output?",
    reference=blocks.conv_size,
    cases=_conv_cases,
    misconceptions=[
        Misconception("padding counted once", _conv_padding_once, "Padding is added on both sides: 2p, not p."),
        Misconception(
            "first position forgotten",
            _conv_without_one,
            "You count the strides that fit; the kernel also stands at its starting place: + 1 outside the fraction.",
        ),
        Misconception(
            "rounded up",
            _conv_rounded_up,
            "A stride that would push the kernel over the edge isn't made: round down, not up.",
        ),
        Misconception(
            "dilation ignored",
            _conv_no_dilation,
            "A dilated kernel has gaps: it spans d·(k − 1) + 1 pixels, not k.",
        ),
        Misconception(
            "dilated kernel one gap too long",
            _conv_wrong_reach,
            "k pixels have k − 1 gaps between them: the kernel spans d·(k − 1) + 1 pixels, not d·k.",
        ),
        Misconception(
            "height and width exchanged", _conv_swapped, "Return (height, width), in the order they came in."
        ),
        Misconception(
            "height used for both",
            _conv_height_twice,
            "You computed the height twice. On a square image nobody would notice; here the width is another number.",
        ),
    ],
    hints=[
        "One axis at a time: how many pixels does the kernel span, and how often can it step within the padded image?",
        "k pixels with gaps of d span d·(k − 1) + 1. The padded image has n + 2p pixels. How much room is left when "
        "the kernel stands at its first place?",
        "Room to step: n + 2p − span. Steps that fit: room // s. Positions: steps + 1. Do it for both axes.",
        "`tuple((n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for n in size)`",
    ],
    passed="Count places, not pixels: where the kernel begins, and how often it can step. Kernel 4, stride 2, padding "
    "1 halves any even size, which is why everybody uses it.",
    explanation="""
    `//` rounds down, as the layer does: what is left over at the right and lower edge is never looked at. Kernel 4,
    stride 2, padding 1 leaves nothing over for even sizes and halves them exactly.
    """,
)


def _transposed_cases(rng: torch.Generator) -> list[Case]:
    fixed = [((7, 7), 4, 2, 1, 0, 1), ((7, 10), 3, 2, 1, 1, 1), ((5, 9), 5, 3, 0, 2, 1), ((4, 6), 2, 1, 1, 0, 3)]
    fixed += [((7, 7), 4, 2, 0, 0, 1), ((7, 10), 3, 2, 1, 0, 1), ((7, 10), 3, 2, 1, 1, 3)]  # as above but for one
    fixed += [((7, 10), 3, 1, 1, 1, 3), ((7, 10), 1, 2, 1, 1, 3)]  # other than the last in stride, or kernel
    fixed += [((1, 6), 4, 2, 1, 0, 1), ((5, 8), 6, 4, 3, 3, 2)]  # one stamp; large
    for _ in range(4):
        h, w = torch.randint(4, 20, (2,), generator=rng).tolist()
        kernel, stride, dilation = torch.randint(2, 5, (3,), generator=rng).tolist()
        padding, extra = torch.randint(0, 2, (2,), generator=rng).tolist()
        fixed.append(((h, w), kernel, stride, padding, extra, dilation))
    names = ("size", "kernel", "stride", "padding", "output_padding", "dilation")
    return [Case(dict(zip(names, values)), label=_spelled(names, values)) for values in fixed]


_transposed_multiplied = _on_both(lambda n, k, s, p, o, d: n * s)
_transposed_all_strides = _on_both(lambda n, k, s, p, o, d: n * s - 2 * p + d * (k - 1) + o + 1)
_transposed_padding_added = _on_both(lambda n, k, s, p, o, d: (n - 1) * s + 2 * p + d * (k - 1) + o + 1)
_transposed_padding_once = _on_both(lambda n, k, s, p, o, d: (n - 1) * s - p + d * (k - 1) + o + 1)
_transposed_no_extra = _on_both(lambda n, k, s, p, o, d: (n - 1) * s - 2 * p + d * (k - 1) + 1)
_transposed_no_dilation = _on_both(lambda n, k, s, p, o, d: (n - 1) * s - 2 * p + k + o)


def _transposed_swapped(size, *settings):
    return blocks.conv_transpose_size(size[::-1], *settings)


quiz(
    "autoencoder/conv-transpose-size",
    points=2,
    minutes=4,
    equation="1.5",
    title="How large is a transposed convolution's output?",
    reference=blocks.conv_transpose_size,
    cases=_transposed_cases,
    misconceptions=[
        Misconception(
            "stride times size",
            _transposed_multiplied,
            "That holds for kernel 4, stride 2, padding 1 and for other lucky choices. In general n pixels have n − 1 "
            "strides between them, the kernel reaches beyond the last, and padding cuts off.",
        ),
        Misconception(
            "one stride too many", _transposed_all_strides, "n pixels have n − 1 strides between them: (n − 1)·s."
        ),
        Misconception(
            "padding added",
            _transposed_padding_added,
            "Here padding cuts *off* p pixels on both sides: it undoes what the convolution's padding put on.",
        ),
        Misconception(
            "padding cut off once", _transposed_padding_once, "Padding cuts off at *both* edges, p pixels at each."
        ),
        Misconception(
            "output padding forgotten", _transposed_no_extra, "`output_padding` is added once, at one side: + o."
        ),
        Misconception(
            "dilation ignored", _transposed_no_dilation, "A dilated kernel spans d·(k − 1) + 1 pixels, not k."
        ),
        Misconception(
            "height and width exchanged", _transposed_swapped, "Return (height, width), in the order they came in."
        ),
    ],
    hints=[
        "How wide is one stamp, and how far is it from the first stamp to the last?",
        "A stamp is d·(k − 1) + 1 pixels wide; n stamps have n − 1 strides between the first and the last.",
        "Add the two, then trim p at *both* edges, then add `output_padding` once. Do it for both axes.",
        "`tuple((n - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1 for n in size)`",
    ],
    passed="The same wiring, walked backwards: where a convolution rounds sizes down, `output_padding` says which of "
    "the possible sizes to come back to.",
    explanation="""
    Every input pixel stamps the kernel onto the output, a stride further than the last; stamps that overlap are
    added. Then `padding` trims both edges. `output_padding` picks one of the sizes that a strided convolution would
    have rounded to the same number.
    """,
)


def _answers_in_batches(answer, *settings):
    model = answer(*settings)
    return model if isinstance(model, nn.Module) else None


def _filled(model: nn.Module, seed: int) -> nn.Module:
    """Weights that depend on their shapes alone, whatever they are called and in whichever order they were made."""
    with torch.no_grad():
        for weight in model.parameters():
            key = seed + sum(31**k * n for k, n in enumerate(weight.shape))
            fan = max(1, weight[0].numel() if weight.ndim > 1 else weight.numel())
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(key % 2**31))
            weight.copy_(noise * (2 / fan) ** 0.5)
    return model


def _weights_of(model: nn.Module) -> list[list[int]]:
    return sorted(list(weight.shape) for weight in model.parameters())


def _with_fitting_layers(reference):
    """What is measured of a network: layers of other sizes are named as such, before any number is looked at."""

    def measured(raw, case: Case):
        wanted = _weights_of(reference(*(case.args[name] for name in ("shape", "latent", "width"))))
        missing, left_over = list(wanted), []
        for shape in raw["weights"]:
            missing.remove(shape) if shape in missing else left_over.append(shape)
        if missing or left_over:
            words = "its layers have other sizes than the task asks for"
            parts = (("no weight of shape ", missing), ("not asked for is ", left_over))
            told = [what + " or ".join(map(str, map(tuple, shapes[:2]))) for what, shapes in parts if shapes]
            raise Unfit(f"{words}: {'; '.join(told)}")
        return {name: value for name, value in raw.items() if name != "weights"}

    return measured


def _use_encoder(answer, shape, latent, width, seed):
    """The shapes of its weights, and what it makes of images once these hold known numbers."""
    model = _answers_in_batches(answer, shape, latent, width)
    if model is None:
        return None
    x = 2 * torch.rand(3, *shape, generator=torch.Generator().manual_seed(seed)) - 1
    shapes = _weights_of(model)
    code = _filled(model, seed)(x)
    if not isinstance(code, torch.Tensor):
        return None
    gradients = torch.autograd.grad(code.square().sum(), list(model.parameters()), allow_unused=True)
    return {"weights": shapes, "code": code.detach(), "weights without a gradient": sum(g is None for g in gradients)}


def _use_decoder(answer, shape, latent, width, seed):
    model = _answers_in_batches(answer, shape, latent, width)
    if model is None:
        return None
    z = torch.randn(3, latent, generator=torch.Generator().manual_seed(seed))
    shapes = _weights_of(model)
    images = _filled(model, seed)(z)
    if not isinstance(images, torch.Tensor):
        return None
    gradients = torch.autograd.grad(images.square().sum(), list(model.parameters()), allow_unused=True)
    return {
        "weights": shapes,
        "images": images.detach(),
        "weights without a gradient": sum(g is None for g in gradients),
    }


class _Encoder(nn.Module):
    def __init__(self, shape, latent, width, first=nn.ReLU, second=nn.ReLU, last=nn.Identity):
        super().__init__()
        c, h, w = shape
        self.layers = nn.Sequential(
            nn.Conv2d(c, width, 4, 2, 1), first(), nn.Conv2d(width, width, 4, 2, 1), second(),
            nn.Flatten(), nn.Linear(width * (h // 4) * (w // 4), latent), last(),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


class _Decoder(nn.Module):
    def __init__(self, shape, latent, width, first=nn.ReLU, second=nn.ReLU, last=nn.Tanh, turned=False):
        super().__init__()
        c, h, w = shape
        rows, columns = (w // 4, h // 4) if turned else (h // 4, w // 4)
        self.layers = nn.Sequential(
            nn.Linear(latent, width * (h // 4) * (w // 4)), first(), nn.Unflatten(1, (width, rows, columns)),
            nn.ConvTranspose2d(width, width, 4, 2, 1), second(), nn.ConvTranspose2d(width, c, 4, 2, 1), last(),
        )  # fmt: skip
        self.shape = shape

    def forward(self, z):
        return self.layers(z).reshape(len(z), *self.shape)


class _EncoderReference(_Encoder):
    def __init__(self, shape, latent, width):
        super().__init__(shape, latent, width)


class _DecoderReference(_Decoder):
    def __init__(self, shape, latent, width):
        super().__init__(shape, latent, width)


def _class_cases(rng: torch.Generator) -> list[Case]:
    seeds = torch.randint(1_000_000, (3,), generator=rng).tolist()
    kinds = (((1, 8, 12), 3, 5), ((3, 12, 4), 2, 4), ((1, 8, 8), 7, 6))
    names = ("shape", "latent", "width", "seed")
    return [
        Case(dict(zip(names, (*kind, seed))), label=f"images {kind[0]}, {kind[1]} latents, width {kind[2]}")
        for kind, seed in zip(kinds, seeds)
    ]


def _encoder_with(**changes):
    return lambda shape, latent, width: _Encoder(shape, latent, width, **changes)


def _decoder_with(**changes):
    return lambda shape, latent, width: _Decoder(shape, latent, width, **changes)


quiz(
    "autoencoder/encoder",
    points=4,
    minutes=6,
    title="Build the encoder",
    reference=_EncoderReference,
    cases=_class_cases,
    probe=_use_encoder,
    measured=_with_fitting_layers(_EncoderReference),
    any_device=False,
    library=(blocks.Encoder, library.Autoencoder),
    misconceptions=[
        Misconception(
            "no activations",
            _encoder_with(first=nn.Identity, second=nn.Identity),
            "Without a ReLU between them two convolutions and a linear layer are one straight map: PCA's rival would "
            "be PCA.",
        ),
        Misconception(
            "no ReLU after the first convolution",
            _encoder_with(first=nn.Identity),
            "The two convolutions follow each other without a bend, so they are one straight map. The task asks for a "
            "ReLU after each.",
        ),
        Misconception(
            "no ReLU after the second convolution",
            _encoder_with(second=nn.Identity),
            "What the second convolution gives goes into the linear layer as it is. The task asks for a ReLU after "
            "each convolution.",
        ),
        Misconception(
            "an activation at the end",
            _encoder_with(last=nn.ReLU),
            "The codes come out without a negative number: no activation after the last layer.",
        ),
        Misconception(
            "codes squeezed into −1 to 1",
            _encoder_with(last=nn.Tanh),
            "The code may be any number: no tanh after the last layer.",
        ),
    ],
    hints=[
        "The picture above has the sizes: after one strided convolution half as high and wide, after two a quarter. "
        "What is left is a list of layers in the right order.",
        "`nn.Conv2d(channels in, channels out, kernel_size=4, stride=2, padding=1)` halves height and width. The first "
        "has c channels in, the second has `width`.",
        "Before the linear layer the maps become a row of numbers: `nn.Flatten()`. How many are there, if each of "
        "`width` maps is h/4 by w/4?",
        "`nn.Linear(width * (h // 4) * (w // 4), latent)`, at the end of an `nn.Sequential`; `forward` returns what "
        "that makes of x.",
    ],
    passed="Your encoder first widens, then narrows: from 784 numbers to 12,544, and only the last layer makes the "
    "bottleneck. It spreads out what it sees, then decides what to keep.",
    explanation="""
    Layers that are kept as attributes of an `nn.Module` (alone, or in an `nn.Sequential`) are found by
    `model.parameters()`; in a plain Python list they would not be, and nothing would train them. The check uses images
    that are not square, where h and w can't be mixed up unseen.
    """,
)

quiz(
    "autoencoder/decoder",
    points=4,
    minutes=4,
    title="Build the decoder",
    reference=_DecoderReference,
    cases=_class_cases,
    probe=_use_decoder,
    measured=_with_fitting_layers(_DecoderReference),
    any_device=False,
    library=(blocks.Decoder, library.Autoencoder),
    misconceptions=[
        Misconception(
            "height and width exchanged",
            _decoder_with(turned=True),
            "The shape may be right, the pixels are not: the numbers of the linear layer belong into maps of h/4 rows "
            "and w/4 columns. On square images nobody would have noticed.",
        ),
        Misconception(
            "no tanh at the end",
            _decoder_with(last=nn.Identity),
            "The pixels leave [−1, 1]: a tanh is missing at the end.",
        ),
        Misconception(
            "a sigmoid at the end",
            _decoder_with(last=nn.Sigmoid),
            "A sigmoid gives numbers in (0, 1). Our images have −1 for black: tanh.",
        ),
        Misconception(
            "a ReLU before the tanh",
            lambda shape, latent, width: _Decoder(
                shape, latent, width, last=lambda: nn.Sequential(nn.ReLU(), nn.Tanh())
            ),
            "With a ReLU before the tanh no pixel can be darker than middle grey.",
        ),
        Misconception(
            "no activations",
            _decoder_with(first=nn.Identity, second=nn.Identity),
            "Without a ReLU between its layers the decoder could only bend at the very end.",
        ),
        Misconception(
            "no ReLU after the linear layer",
            _decoder_with(first=nn.Identity),
            "Every layer but the last has a ReLU: what the linear layer makes of the code goes on as it is.",
        ),
        Misconception(
            "no ReLU between the transposed convolutions",
            _decoder_with(second=nn.Identity),
            "The two transposed convolutions follow each other without a bend. A ReLU stands after every layer but the "
            "last.",
        ),
    ],
    hints=[
        "The encoder read backwards. What undoes a `Flatten`, and what doubles height and width?",
        "`nn.Linear` makes width · (h/4) · (w/4) numbers of the code, and `nn.Unflatten(1, (…, …, …))` maps of them: "
        "channels first, then rows, then columns.",
        "`nn.ConvTranspose2d(…, …, kernel_size=4, stride=2, padding=1)` doubles height and width. Two of them: from "
        "`width` channels to `width`, then to c. A ReLU after all but the last.",
        "`Linear, ReLU, Unflatten(1, (width, h // 4, w // 4)), ConvTranspose2d, ReLU, ConvTranspose2d, Tanh`",
    ],
    passed="Codes to images, with weights of its own: a transposed convolution is the encoder's wiring walked "
    "backwards, not its inverse.",
    explanation="""
    `Unflatten` and `view` never complain as long as the *number* of entries fits, so rows and columns exchanged go
    unnoticed on square images: a network that is trained that way even learns to live with it, since its linear
    layer can put each number anywhere. That is why the check uses images of 8 by 12 pixels.
    """,
)

# ------------------------------------------------------------------------------------------------- 1.5 · sweep

concept(
    "autoencoder/linear-wins",
    title="When the straight line wins",
    question="""
    Somebody trains a nonlinear autoencoder with 128 latents for a minute and finds its error on test images *higher*
    than PCA's with 128, on the same images. Its training error is just as high. Which explanation fits?
    """,
    options={
        "a": Option(
            "It overfits: with so many weights it has learned its images by heart.",
            "Then its *training* error would be low. Here both are high.",
        ),
        "b": Option(
            "It must lose: by Eckart and Young no model's error is below PCA's.",
            "Nothing *linear* has. A curved sheet may pass closer to the images than any flat one.",
        ),
        "c": Option(
            "It is still on its way, while PCA is the exact answer to its problem.",
            "Right: PCA is *solved*, at any size, while the network only has as much as its steps have bought. "
            "With many latents PCA has little left to improve, so the network needs many steps to overtake it.",
            right=True,
        ),
        "d": Option(
            "It is disturbed by latents that it has no use for, beyond the first few dozen.",
            "A latent that isn't needed can be ignored by the decoder; and PCA's error still falls a great deal from "
            "32 to 128, so there is more to say.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 1.6 · the plane


def _nearest_reference(images, among):
    squared = torch.cdist(images.flatten(1), among.flatten(1)).square()
    return squared.min(dim=1).values / images[0].numel()


def _nearest_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, m, shape, dtype in ((4, 30, (1, 5, 7), torch.float64), (1, 9, (3, 4, 2), torch.float32)):
        cases.append(
            Case({"images": _images(rng, n, *shape, dtype=dtype), "among": _images(rng, m, *shape, dtype=dtype)})
        )
    among = _images(rng, 12, 1, 3, 4)
    near = among[[7, 2, 2, 0, 11]] + 0.2 * _images(rng, 5, 1, 3, 4)
    cases.append(Case({"images": near, "among": among}, label="images beside images of the set"))
    many = {"images": _images(rng, 300, 1, 3, 4), "among": _images(rng, 110, 1, 3, 4)}
    return [*cases, Case(many, label="300 images beside 110")]


class _Largest(TorchDispatchMode):
    """Notes the size of the largest piece of memory that anything made inside takes, in bytes."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else (made,):
            if isinstance(each, torch.Tensor):
                self.bytes = max(self.bytes, each.untyped_storage().nbytes())
        return made


def _watch_the_memory(answer, images, among):
    """What it gives, and the largest tensor on the way. (Two megabytes show it, and harm nobody.)"""
    with _Largest() as largest:
        error = answer(images, among)
    return None if error is None else {"errors": error, "largest": largest.bytes}


def _about_nearest(raw, case: Case) -> dict:
    """The errors; and once these are right, whether all differences of all pairs were held at once."""
    images, among = case.args["images"], case.args["among"]
    errors, right = raw["errors"], _nearest_reference(images, among)
    fits = isinstance(errors, Array) and errors.shape == tuple(right.shape) and errors.data is not None
    fits = fits and np.allclose(errors.data, right.numpy(), rtol=1e-3, atol=1e-5)
    every = len(images) * len(among) * images[0].numel() * images.element_size()
    at_once = fits and len(images) > 100 and raw["largest"] > 0.9 * every  # whoever goes in parts needs less
    return {"errors": errors, "it never holds the differences of all pairs at once": not at_once}


def _nearest_all_at_once(images, among):
    return (images[:, None] - among[None]).square().flatten(2).mean(2).amin(1)


def _nearest_not_squared(images, among):
    return torch.cdist(images.flatten(1), among.flatten(1)).amin(1) / images[0].numel()


def _nearest_length(images, among):
    return torch.cdist(images.flatten(1), among.flatten(1)).amin(1)


def _nearest_distance(images, among):
    return _nearest_reference(images, among).sqrt()


def _nearest_summed(images, among):
    return _nearest_reference(images, among) * images[0].numel()


def _nearest_other_way(images, among):
    return _nearest_reference(among, images)


def _nearest_mean(images, among):
    return torch.cdist(images.flatten(1), among.flatten(1)).square().mean(1) / images[0].numel()


def _nearest_one_pixel(images, among):
    """The nearest value for every pixel by itself."""
    return (images[:, None] - among[None]).square().amin(1).flatten(1).mean(1)


quiz(
    "autoencoder/nearest",
    points=2,
    minutes=3,
    title="How far from anything real?",
    reference=_nearest_reference,
    cases=_nearest_cases,
    probe=_watch_the_memory,
    measured=_about_nearest,
    misconceptions=[
        Misconception(
            "all differences at once",
            _nearest_all_at_once,
            "Your numbers are right. But on the way the differences of all pairs, pixel by pixel, are in memory at "
            "once: for 1,000 images and 5,000 that takes 16 GB. A loop over `images`, or `torch.cdist`, needs less.",
        ),
        Misconception(
            "not squared",
            _nearest_not_squared,
            "A distance is the root of a *sum* of squares. Square it before you divide by the number of pixels.",
        ),
        Misconception(
            "the distance as it is",
            _nearest_length,
            "`torch.cdist` gives distances. (1.1) is a squared one, and a mean over pixels.",
        ),
        Misconception("a root too many", _nearest_distance, "That is the root of it: (1.1) is a *squared* error."),
        Misconception("summed over pixels", _nearest_summed, "Mean over channels and pixels, as in (1.1)."),
        Misconception(
            "from the set to the images",
            _nearest_other_way,
            "One number for each of `images`. You looked for the nearest of `images` to each of `among`.",
        ),
        Misconception(
            "mean over the set",
            _nearest_mean,
            "That is the mean error over all of `among`. The nearest one is the smallest.",
        ),
        Misconception(
            "each pixel for itself",
            _nearest_one_pixel,
            "You let every pixel choose its own image. The nearest *image* is one for all of its pixels.",
        ),
    ],
    hints=[
        "A table first, (n, m): the error (1.1) between each of `images` and each of `among`. Then one number for "
        "each row.",
        "A difference of shape (n, m, c, h, w) would fill the memory: 1,000 times 5,000 images are 4 billion numbers. "
        "There is a function of PyTorch that gives distances without it.",
        "`torch.cdist(a, b)` gives Euclidean distances between rows: flatten the images. What has to be done to a "
        "distance to make a mean squared error of it?",
        "`torch.cdist(images.flatten(1), among.flatten(1)).square().min(dim=1).values`, divided by the number of "
        "pixels",
    ],
    passed="A first ruler for images that nobody took. Like (1.1) it has a taste of its own: compare only what comes "
    "from the same decoder, and look at the pictures.",
    explanation="""
    `torch.cdist` expands $\\lVert a-b\\rVert^2=\\lVert a\\rVert^2-2\\,a^\\top b+\\lVert b\\rVert^2$, a matrix product,
    and never makes the (n, m, pixels) differences.
    """,
)


def _grid_reference(decode, low, high, rows, columns):
    z1, z2 = torch.linspace(low[0], high[0], columns), torch.linspace(low[1], high[1], rows)
    z = torch.cartesian_prod(z2, z1).flip(1)
    decoded = decode(z)
    return decoded.view(rows, columns, *decoded.shape[1:])


@fixture("autoencoder/decode")
def _decode(shape=(1, 5, 7), seed: int = 0):
    """A decoder of two latents: any smooth function will do."""
    weight, bias = torch.randn(2, int(torch.tensor(shape).prod())), torch.randn(1)
    return lambda z: torch.tanh(z @ weight.to(z) + bias.to(z)).view(-1, *shape)


def _grid_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    # Both ends of both ranges belong to the grid, so it has two rows and two columns at least.
    for rows, columns, shape in ((3, 5, (1, 4, 6)), (6, 2, (3, 5, 3)), (2, 4, (1, 3, 4)), (4, 4, (1, 2, 5))):
        seed = int(torch.randint(1_000_000, (1,), generator=rng))
        low = torch.randn(2, generator=rng)
        high = low + 1 + torch.rand(2, generator=rng) * torch.tensor([1.0, 4.0])
        args = {
            "decode": Fixture("autoencoder/decode", shape=list(shape), seed=seed),
            "low": tuple(low.tolist()),
            "high": tuple(high.tolist()),
            "rows": rows,
            "columns": columns,
        }
        cases.append(Case(args, label=f"{rows} rows, {columns} columns"))
    return cases


def _grid_transposed(decode, low, high, rows, columns):
    z1, z2 = torch.linspace(low[0], high[0], columns), torch.linspace(low[1], high[1], rows)
    decoded = decode(torch.cartesian_prod(z1, z2))
    return decoded.view(rows, columns, *decoded.shape[1:])


def _grid_axes_swapped(decode, low, high, rows, columns):
    z1, z2 = torch.linspace(low[0], high[0], columns), torch.linspace(low[1], high[1], rows)
    decoded = decode(torch.cartesian_prod(z2, z1))
    return decoded.view(rows, columns, *decoded.shape[1:])


def _grid_first_down_the_rows(decode, low, high, rows, columns):
    z1, z2 = torch.linspace(low[0], high[0], rows), torch.linspace(low[1], high[1], columns)
    decoded = decode(torch.cartesian_prod(z1, z2))
    return decoded.view(rows, columns, *decoded.shape[1:])


def _grid_from_the_top(decode, low, high, rows, columns):
    return _grid_reference(decode, low, high, rows, columns).flip(0)


def _grid_without_the_end(decode, low, high, rows, columns):
    ends = tuple(b - (b - a) / n for a, b, n in zip(low, high, (columns, rows)))
    return _grid_reference(decode, low, ends, rows, columns)


def _grid_one_range(decode, low, high, rows, columns):
    return _grid_reference(decode, (low[0], low[0]), (high[0], high[0]), rows, columns)


quiz(
    "autoencoder/decode-grid",
    points=3,
    minutes=6,
    title="Decode a grid",
    reference=_grid_reference,
    cases=_grid_cases,
    misconceptions=[
        Misconception(
            "axes mixed up when reshaping",
            _grid_transposed,
            "The list of points runs through z₂ fastest, but the result is read as if it ran through z₁ fastest: "
            "points and places don't belong together.",
        ),
        Misconception(
            "z₁ and z₂ exchanged",
            _grid_axes_swapped,
            "Entry [i, j] has the j-th value of z₁ and the i-th of z₂; the decoder wants (z₁, z₂) in that order.",
        ),
        Misconception(
            "z₁ down the rows",
            _grid_first_down_the_rows,
            "Your z₁ changes from row to row, z₂ along a row. It is the other way round: along a row z₁ changes, as on "
            "the x-axis of a map.",
        ),
        Misconception(
            "top row first",
            _grid_from_the_top,
            "Row 0 belongs to the *lowest* z₂. Turning it for the screen is the plot's business.",
        ),
        Misconception(
            "end left out",
            _grid_without_the_end,
            "Both ends belong to the grid: torch.linspace, which includes the end (arange doesn't).",
        ),
        Misconception("one range for both", _grid_one_range, "z₂ has a range of its own: low[1] to high[1]."),
    ],
    hints=[
        "Make all points as one tensor (rows · columns, 2), decode them in one go, then give the result two axes.",
        "`torch.meshgrid(z2, z1, indexing='ij')` gives two tensors (rows, columns): first z₂, which changes from "
        "row to "
        "row, then z₁, which changes from column to column.",
        "The decoder wants points (z₁, z₂): stack the two grids in *that* order along a new last axis, then flatten to "
        "(rows · columns, 2).",
        "`torch.stack([z1_grid, z2_grid], dim=-1).view(-1, 2)` are the points; `decoded.view(rows, columns, "
        "*decoded.shape[1:])` is the answer.",
    ],
    passed="One call for 225 points. Their order and the order in which `view` reads them must agree: last axis first.",
    explanation="""
    One call of the decoder for all points: a loop over points would be right too, and many times slower. The order of
    the points must agree with the order in which `view` reads them: last axis fastest, here z₁.
    """,
)


def _walk_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    single, double = torch.float32, torch.float64
    for shape, steps, size, dtype in (
        ((3,), 5, 1, single),
        ((), 5, 1, single),
        ((1, 4, 6), 2, 1, single),
        ((2, 7), 8, 40, double),
        ((3, 2, 4, 6), 4, 1, single),
        ((1, 3, 5, 2), 3, 1, double),
        ((2, 1, 2, 3, 2), 6, 1, single),
    ):
        a, b = size * torch.randn(2, *shape, generator=rng, dtype=dtype)
        cases.append(
            Case({"a": a, "b": b, "steps": steps}, gradients=("a", "b"), label=f"{steps} steps, shape {shape}")
        )
    return cases


def _walk_reversed(a, b, steps):
    return library.interpolate(b, a, steps)


def _walk_without_the_end(a, b, steps):
    t = (torch.arange(steps, dtype=a.dtype) / steps).view(-1, *[1] * a.ndim)
    return (1 - t) * a + t * b


def _walk_without_both_ends(a, b, steps):
    t = torch.linspace(0, 1, steps + 2, dtype=a.dtype)[1:-1].view(-1, *[1] * a.ndim)
    return (1 - t) * a + t * b


def _walk_on_an_arc(a, b, steps):
    t = torch.linspace(0, 1, steps, dtype=a.dtype).view(-1, *[1] * a.ndim)
    angle = torch.acos((a * b).sum() / (a.norm() * b.norm()))
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def _walk_added(a, b, steps):
    t = torch.linspace(0, 1, steps, dtype=a.dtype).view(-1, *[1] * a.ndim)
    return a + t * b


quiz(
    "autoencoder/interpolate",
    points=2,
    minutes=4,
    equation="1.6",
    title="Walk from one to the other",
    reference=library.interpolate,
    cases=_walk_cases,
    misconceptions=[
        Misconception("from b to a", _walk_reversed, "At t = 0 you should stand at a, at t = 1 at b."),
        Misconception(
            "the end is missing",
            _walk_without_the_end,
            "The last step should be b itself: steps − 1 strides, not steps.",
        ),
        Misconception(
            "both ends are missing",
            _walk_without_both_ends,
            "Both ends belong to the walk: t runs from 0 to 1, inclusive.",
        ),
        Misconception(
            "b added, not approached",
            _walk_added,
            "a + t·b ends at a + b. Walk along the difference: a + t·(b − a), which is (1 − t)·a + t·b.",
        ),
        Misconception(
            "along an arc",
            _walk_on_an_arc,
            "That is the spherical walk: it follows an arc around the origin. (1.6) goes straight.",
        ),
    ],
    hints=[
        "`torch.linspace(0, 1, steps)` are the values of t. a may have any number of axes; where should t's axis go?",
        "t has shape (steps,) and should run along a new *first* axis: it needs one more axis of length 1 for every "
        "axis of a.",
        "A list of as many ones as a has axes: `[1] * a.ndim`. So `t.view(-1, *[1] * a.ndim)`.",
        "With that t, `(1 - t) * a + t * b` broadcasts to (steps, *a.shape).",
    ],
    passed="The same lines walk between codes, between images and between batches of either. What differs is only "
    "whether a decoder comes after.",
    explanation="""
    The same three lines walk between codes and between images; what differs is only whether the decoder comes after.
    Take `dtype` and `device` from `a`, or a walk between float64 tensors would silently lose digits.
    """,
)

# ------------------------------------------------------------------------------------------------- 1.7 · no sampling


def _gaussian_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    single, double = torch.float32, torch.float64
    for n, d, size, dtype in ((40, 3, 1, double), (7, 5, 1, single), (12, 2, 1, single), (3, 4, 40, double)):
        root = torch.randn(d, d, generator=rng, dtype=dtype)
        z = torch.randn(n, d, generator=rng, dtype=dtype) @ root + 3 * torch.randn(d, generator=rng, dtype=dtype)
        cases.append(Case({"z": size * z}))
    return cases


def _gaussian_diagonal_matrix(z):
    mean, cov = library.fit_gaussian(z)
    return mean, torch.diag(cov.diagonal())


def _gaussian_not_centred(z):
    return z.mean(0), z.T @ z / len(z)


def _gaussian_unbiased(z):
    return z.mean(0), torch.cov(z.T)


def _gaussian_over_codes(z):
    centred = z - z.mean(1, keepdim=True)
    return z.mean(0), centred.T @ centred / len(z)


def _gaussian_not_divided(z):
    mean, cov = library.fit_gaussian(z)
    return mean, cov * len(z)


def _gaussian_exchanged(z):
    mean, cov = library.fit_gaussian(z)
    return cov, mean


quiz(
    "autoencoder/fit-gaussian",
    points=2,
    minutes=3,
    equation="1.7",
    title="A Gaussian for the codes",
    reference=library.fit_gaussian,
    library=(library.PCA.fit,),
    cases=_gaussian_cases,
    misconceptions=[
        Misconception(
            "variances without correlations",
            _gaussian_diagonal_matrix,
            "Off the diagonal stands how two latents move together; you set that to zero. Codes do move together.",
        ),
        Misconception(
            "mean not subtracted", _gaussian_not_centred, "That is the mean of z zᵀ. Subtract the mean code first."
        ),
        Misconception(
            "divided by n − 1",
            _gaussian_unbiased,
            "That is the unbiased estimate, no bad thing; (1.7) is the most likely Gaussian, which divides by n "
            "(`torch.cov(z.T, correction=0)`).",
        ),
        Misconception(
            "not divided by n", _gaussian_not_divided, "A *mean* of products: divide by the number of codes."
        ),
        Misconception(
            "mean over latents",
            _gaussian_over_codes,
            "You subtracted each code's own mean over its latents. The mean goes over images: dim=0.",
        ),
        Misconception(
            "covariance first", _gaussian_exchanged, "The other way round: first the mean, then the covariance."
        ),
    ],
    hints=[
        "The mean goes over images: `z.mean(dim=0)` has d entries.",
        "With the centred codes as rows of C (n, d), the sum of outer products over images is Cᵀ C, (d, d).",
        "Is it divided by n or by n − 1? Look at (1.7). And is the mean code subtracted before the products are made?",
        "`mean = z.mean(dim=0)`, `centred = z - mean`, and `centred.T @ centred / len(z)`",
    ],
    passed="A centre and an ellipsoid: that is all that a Gaussian can know of the codes. Whether it is enough, the "
    "next pictures tell.",
    explanation="""
    With $d$ latents the Gaussian has $d + d(d+1)/2$ numbers: its centre and an ellipsoid. Whatever the codes do
    beyond that, clusters, gaps, bent sheets, it can't see.
    """,
)

concept(
    "autoencoder/why-not-sample",
    title="Why it cannot be sampled from",
    equation="1.7",
    question="""
    Somebody improves the autoencoder until its reconstructions are perfect, fits a Gaussian to the codes, decodes
    draws from it, and the draws are still odd. Why?
    """,
    options={
        "a": Option(
            "Draws land where the decoder never trained: no loss says where codes lie.",
            "Right. The loss only looks at codes of training images. Between and beyond them the decoder may do "
            "what it "
            "likes, and a Gaussian fitted afterwards covers those places too.",
            right=True,
        ),
        "b": Option(
            "The decoder is too weak for new codes; a larger one would draw them well.",
            "It draws perfectly from codes of images: its reconstructions are perfect. The trouble is *where* it is "
            "asked.",
        ),
        "c": Option(
            "The Gaussian was fitted to too few codes; with more of them it would fit.",
            "With more codes its mean and covariance become exact, and its draws land in the same gaps: the codes are "
            "just not Gaussian.",
        ),
        "d": Option(
            "Sampling needs noise in the pixels too, and this decoder never adds any.",
            "Noise in the pixels would make grain. What is wrong here are shapes, and they come from the codes.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 1.8 · denoising


@fixture("autoencoder/filter")
def _filter(channels: int, seed: int = 0) -> nn.Module:
    """A denoiser, small and steep: every pixel of its input shows in its output, and so does the level."""
    layer = nn.Conv2d(channels, channels, 3, padding=1)
    with torch.no_grad():
        layer.weight.mul_(4)
    return _Told(layer)


class _Told(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, sigma):
        return torch.tanh(self.layer(x) / (1 + sigma.view(-1, 1, 1, 1)))


def _denoising_reference(model, x, noise, sigma):
    noisy = x + sigma.view(-1, *[1] * (x.ndim - 1)) * noise
    return library.reconstruction_error(x, model(noisy, sigma))


def _denoising_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape in ((3, (1, 8, 12)), (4, (3, 4, 8)), (1, (1, 8, 4)), (4, (1, 4, 4))):
        x = _images(rng, b, *shape)
        args = {"model": Fixture("autoencoder/filter", channels=shape[0], seed=b), "x": x}
        args |= {"noise": torch.randn(x.shape, generator=rng), "sigma": 0.1 + 2 * torch.rand(b, generator=rng)}
        cases.append(Case(args, gradients=("model",), label=f"{b} images {shape}, a level for each"))
    return cases


def _denoise_with(noisy=lambda x, n, s: x + s * n, target=lambda x, n, s: x, told=lambda sigma: sigma):
    """The error with one thing changed."""

    def error(model, x, noise, sigma):
        s = sigma.view(-1, 1, 1, 1)
        return library.reconstruction_error(target(x, noise, s), model(noisy(x, noise, s), told(sigma)))

    return error


def _denoise_along_the_width(model, x, noise, sigma):
    """σ without axes of its own: it runs along the width where that fits, and along the batch where it must."""
    if len(sigma) not in (1, x.shape[-1]):
        sigma_map = sigma.mean()
        return library.reconstruction_error(x, model(x + sigma_map * noise, sigma))
    return library.reconstruction_error(x, model(x + sigma * noise, sigma))


quiz(
    "autoencoder/denoising",
    points=2,
    minutes=3,
    equation="1.8",
    title="A level for each image",
    reference=_denoising_reference,
    cases=_denoising_cases,
    misconceptions=[
        Misconception(
            "rebuilding the noisy image",
            _denoise_with(target=lambda x, n, s: x + s * n),
            "You reward the model for rebuilding what it was shown, noise included. The target is the *clean* image. "
            "(`x += …` and `x.add_(…)` would make that noisy, too.)",
        ),
        Misconception(
            "no noise added", _denoise_with(noisy=lambda x, n, s: x), "The model is to see x + σ·noise, not x."
        ),
        Misconception(
            "variance for standard deviation",
            _denoise_with(noisy=lambda x, n, s: x + s.square() * n),
            "Noise is stretched by its standard deviation σ, not by σ².",
        ),
        Misconception(
            "the noise as target",
            _denoise_with(target=lambda x, n, s: n),
            "Predicting the noise instead is what diffusion models will do (notebook 05). Here the target is the clean "
            "image.",
        ),
        Misconception(
            "one level for all",
            lambda model, x, noise, sigma: _denoising_reference(model, x, noise, sigma[:1].expand_as(sigma)),
            "Every image has a level of its own: all of `sigma`, not its first entry.",
        ),
        Misconception(
            "told another level",
            _denoise_with(told=lambda sigma: sigma.square()),
            "The noise is right. But what the model is told is not σ: pass `sigma` on as it came.",
        ),
        Misconception(
            "noisy images clipped",
            _denoise_with(noisy=lambda x, n, s: (x + s * n).clamp(-1, 1)),
            "Leave the noisy image as it is: clipped to [−1, 1], the noise would no longer be Gaussian.",
        ),
    ],
    hints=[
        "What does the model see, what is it told, and what is its answer compared with?",
        "It sees the noisy images and is told `sigma`; its answer is compared with the clean `x` by (1.1). You wrote "
        "(1.1) as a function: `reconstruction_error`.",
        "`sigma` has shape (b,), `noise` (b, c, h, w). Multiplied as they are, σ would run along the *width*. It needs "
        "three more axes.",
        "`model(x + sigma.view(-1, 1, 1, 1) * noise, sigma)`, compared with `x`",
    ],
    passed="Input and target differ, that is all, and copying is no longer a solution. The trap was the shape of σ: "
    "broadcasting never complains when b happens to be w.",
    explanation="""
    `sigma.view(-1, 1, 1, 1)` puts the levels along the batch. Without it PyTorch lines shapes up from the right: σ
    would multiply the columns of every image if b = w, and raise an error otherwise. A batch of 28 would have trained
    for hours on stripes.
    """,
)


class _DenoiserReference(nn.Module):
    def __init__(self, shape, width=32, code=256):
        super().__init__()
        c, h, w = shape
        flat = 2 * width * (h // 4) * (w // 4)
        self.down1 = nn.Conv2d(c + 1, width, 4, 2, 1)
        self.down2 = nn.Conv2d(width, 2 * width, 4, 2, 1)
        self.squeeze, self.widen = nn.Linear(flat, code), nn.Linear(code, flat)
        self.up2 = nn.ConvTranspose2d(4 * width, width, 4, 2, 1)
        self.up1 = nn.ConvTranspose2d(2 * width, width // 2, 4, 2, 1)
        self.out = nn.Conv2d(width // 2 + c + 1, c, 3, padding=1)

    def forward(self, x, sigma):
        return _wired(self, x, sigma)


def _wired(
    net, x, sigma, act=F.silu, told=torch.log, scaled=True, skips=True, keep=True, relu_last=False,
    squeezed=F.silu, widened=F.silu, size_of=lambda s: (s**2 + 0.5).sqrt(), up_front=True, out_front=True, divided=True,
):  # fmt: skip
    """The network, with one thing changed."""
    s = sigma.view(-1, 1, 1, 1)
    size = size_of(s)
    seen = torch.cat([x / size if scaled else x, told(s).expand_as(x[:, :1])], dim=1)
    a = act(net.down1(seen))
    b = act(net.down2(a))
    squeezed, widened = (act if each is F.silu else each for each in (squeezed, widened))
    code = widened(net.widen(squeezed(net.squeeze(b.flatten(1))))).view_as(b)

    def join(kept, up, front):
        return torch.cat([kept, up] if front else [up, kept], dim=1)

    up = act(net.up2(join(b if skips else torch.zeros_like(b), code, up_front)))
    up = act(net.up1(join(a if skips else torch.zeros_like(a), up, up_front)))
    answer = net.out(join(seen, up, out_front))
    answer = act(answer) if relu_last else answer
    mixed = 0.5 * x / size + s * 0.5**0.5 * answer
    return (mixed / size if divided else mixed) if keep else answer


def _with_wiring(**changes):
    """A class whose forward pass has one thing changed."""
    return type("Wired", (_DenoiserReference,), {"forward": lambda self, x, sigma: _wired(self, x, sigma, **changes)})


def _use_denoiser(answer, shape, width, code, b, seed):
    """What it makes of noisy images, once its weights hold known numbers; and whether all of them can learn."""
    model = _answers_in_batches(answer, shape, width, code)
    if model is None:
        return None
    rng = torch.Generator().manual_seed(seed)
    x, sigma = torch.randn(b, *shape, generator=rng), 0.05 + 3 * torch.rand(b, generator=rng)
    images = _filled(model, seed)(x, sigma)
    if not isinstance(images, torch.Tensor):
        return None
    gradients = torch.autograd.grad(images.square().sum(), list(model.parameters()), allow_unused=True)
    return {"images": images.detach(), "weights without a gradient": sum(g is None for g in gradients)}


def _denoiser_cases(rng: torch.Generator) -> list[Case]:
    seeds = torch.randint(1_000_000, (3,), generator=rng).tolist()
    kinds = (((1, 8, 12), 3), ((3, 12, 4), 2), ((1, 8, 8), 1))
    return [
        Case({"shape": shape, "width": 4, "code": 6, "b": b, "seed": seed}, label=f"{b} images {shape}")
        for (shape, b), seed in zip(kinds, seeds)
    ]


quiz(
    "autoencoder/denoiser",
    points=5,
    minutes=9,
    title="A network that is told",
    reference=_DenoiserReference,
    cases=_denoiser_cases,
    probe=_use_denoiser,
    any_device=False,
    misconceptions=[
        Misconception(
            "the level is not told",
            _with_wiring(told=torch.zeros_like),
            "The plane of ln σ is missing or empty: the network can't know how much noise there is.",
        ),
        Misconception(
            "the input is not scaled",
            _with_wiring(scaled=False),
            "At σ = 10 the network now sees numbers around 10, at σ = 0.05 numbers around 1. Divide by s first, "
            "as point 1 says.",
        ),
        Misconception(
            "no skips",
            _with_wiring(skips=False),
            "All that reaches the answer went through the bottleneck: the maps `a` and `b` should join on the way up.",
        ),
        Misconception(
            "the answer without what is known",
            _with_wiring(keep=False),
            "You return what the last layer says. Point 4 combines it with the noisy image.",
        ),
        Misconception(
            "ReLU for SiLU",
            _with_wiring(act=F.relu),
            "Point 3 asks for SiLU, `F.silu`, after every layer but `out`.",
        ),
        Misconception(
            "no SiLU after `squeeze`",
            _with_wiring(squeezed=nn.Identity()),
            "In the narrow place two linear layers follow each other without a bend. Point 3: a SiLU after every layer "
            "but `out`. (The encoder's code was free; this one isn't.)",
        ),
        Misconception(
            "no SiLU after `widen`",
            _with_wiring(widened=nn.Identity()),
            "What comes out of the narrow place joins as it is. Point 3: a SiLU after every layer but `out`.",
        ),
        Misconception(
            "no SiLU in the narrow place",
            _with_wiring(squeezed=nn.Identity(), widened=nn.Identity()),
            "The convolutions have their SiLU, the two linear layers don't. Point 3: after every layer but `out`.",
        ),
        Misconception(
            "joined behind",
            _with_wiring(up_front=False, out_front=False),
            "All that was kept is joined on *behind* what comes up. Point 3 puts it in front: each channel has weights "
            "of its own, so the order counts.",
        ),
        Misconception(
            "joined behind on the way up",
            _with_wiring(up_front=False),
            "`a` and `b` are joined on *behind* what comes up. Point 3 puts what was kept in front.",
        ),
        Misconception(
            "joined behind at full size",
            _with_wiring(out_front=False),
            "At full size, what the network saw is joined on *behind*. Point 3 puts what was kept in front.",
        ),
        Misconception(
            "the last division forgotten",
            _with_wiring(divided=False),
            "The network is right, the answer too large by the factor s: look at the very end of point 4.",
        ),
        Misconception(
            "s² for s",
            _with_wiring(size_of=lambda s: s**2 + 0.5),
            "You use σ² + ½, the variance, for s itself. The task gives you s².",
        ),
        Misconception(
            "told ln s",
            _with_wiring(told=lambda s: (s**2 + 0.5).sqrt().log()),
            "The plane holds ln s. It should tell the level of the *noise*: below σ = ½ s hardly changes any more.",
        ),
        Misconception(
            "told σ itself",
            _with_wiring(told=lambda s: s),
            "The plane holds σ, not its logarithm: levels that differ by a factor should be equally far apart.",
        ),
        Misconception(
            "an activation after the last layer",
            _with_wiring(relu_last=True),
            "No activation after the last layer: what is missing may be dark as well as bright.",
        ),
    ],
    hints=[
        "Go down two steps and keep what you find (a, b); through the narrow place; up two steps, and at each take "
        "along what you kept.",
        "σ needs three more axes before it can meet images. A plane of ln σ for each image: `.expand_as(x[:, :1])` "
        "stretches (b, 1, 1, 1) over the pixels without copying.",
        "The narrow place works on rows of numbers: `b.flatten(1)` on the way in, `.view_as(b)` on the way out. "
        "Joining is `torch.cat([kept, coming up], dim=1)`.",
        "`up = F.silu(self.up2(torch.cat([b, code], 1)))`, `up = F.silu(self.up1(torch.cat([a, up], 1)))`, "
        "`out = self.out(torch.cat([seen, up], 1))`",
    ],
    passed="This is a U-Net, a small one: down, up, and at each size a bridge for what the narrow place can't carry. "
    "Notebook 04 builds a large one, block by block.",
    explanation="""
    The skips carry *where* things are, the narrow code *what* they are. Scaling makes every level look alike in size,
    and the last line lets the network answer only for what is missing: at small σ the noisy image is nearly right
    already (Karras et al. 2022, whose c_in, c_skip and c_out these are for data with a variance
    of ½).
    """,
)

concept(
    "autoencoder/far-noise",
    title="A denoiser in thick fog",
    equation="1.8",
    minutes=2,
    question="""
    The noise is so strong ($\\sigma=100$) that nothing of the image can be seen. Which answer $D(\\tilde x)$ has the
    smallest expected squared error?
    """,
    options={
        "a": Option(
            "A random training image, since each of them is as likely as any other.",
            "It is a *plausible* image but a bad bet: its expected squared error is twice that of the mean image "
            "(variance of the truth plus variance of the guess).",
        ),
        "b": Option(
            "The noisy image as it is, since any change might only make it worse.",
            "Its error is $\\sigma^2=10{,}000$ per pixel. Anything in $[-1,1]$ has at most 4.",
        ),
        "c": Option(
            "The mean of all images, however blurred and unlike them that may be.",
            "Right: with nothing to go by, $\\mathbb E[x\\mid\\tilde x]=\\mathbb E[x]$. One jump from pure noise can't "
            "give a sharp image. Many small steps can.",
            right=True,
        ),
        "d": Option(
            "The training image nearest to $\\tilde x$, since it explains the data best.",
            "Under so much noise the nearest one is all but random, so this is no better than a random one. The best "
            "answer is an average over *all* images that could be behind the fog.",
        ),
    },
)


def _guess_reference(noisy, images, sigma):
    squared = torch.cdist(noisy.flatten(1), images.flatten(1)).square()
    weights = torch.softmax(-squared / (2 * sigma**2), dim=1)
    return (weights @ images.flatten(1)).view_as(noisy)


def _guess_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    double = torch.float64
    for b, n, shape, sigma in ((4, 9, (1, 3, 4), 0.8), (2, 5, (2, 2, 3), 2.5), (3, 7, (2,), 0.5)):
        images = _images(rng, n, *shape, dtype=double)
        noisy = images[:b] + sigma * torch.randn(b, *shape, generator=rng, dtype=double)
        cases.append(Case({"noisy": noisy, "images": images, "sigma": sigma}, label=f"σ = {sigma}, images {shape}"))
    images = _images(rng, 6, 1, 8, 9, dtype=double)
    noisy = images[:3] + 0.5 * torch.randn(3, 1, 8, 9, generator=rng, dtype=double)  # far more than σ explains
    cases.append(Case({"noisy": noisy, "images": images, "sigma": 0.02}, label="σ = 0.02, where exp(…) rounds to 0"))
    return cases


def _guess_with(power=lambda squared, sigma: -squared / (2 * sigma**2), dim=1):
    def guess(noisy, images, sigma):
        squared = torch.cdist(noisy.flatten(1), images.flatten(1)).square()
        return (power(squared, sigma).softmax(dim) @ images.flatten(1)).view_as(noisy)

    return guess


def _guess_nearest(noisy, images, sigma):
    return images[torch.cdist(noisy.flatten(1), images.flatten(1)).argmin(1)]


quiz(
    "autoencoder/best-guess",
    points=3,
    minutes=6,
    title="The best guess there is",
    equation="1.9",
    reference=_guess_reference,
    cases=_guess_cases,
    misconceptions=[
        Misconception(
            "distance for its square",
            _guess_with(lambda squared, sigma: -squared.sqrt() / (2 * sigma**2)),
            "The exponent of a Gaussian holds the *squared* distance.",
        ),
        Misconception(
            "σ for σ²",
            _guess_with(lambda squared, sigma: -squared / (2 * sigma)),
            "The exponent is divided by twice the *variance*, 2σ².",
        ),
        Misconception(
            "the 2 forgotten",
            _guess_with(lambda squared, sigma: -squared / sigma**2),
            "The exponent of a Gaussian is −distance²/(2σ²): a 2 is missing.",
        ),
        Misconception(
            "shared out among the noisy images",
            _guess_with(dim=0),
            "For each *noisy* image the weights of all clean ones sum to 1: softmax over dim=1, not 0.",
        ),
        Misconception(
            "the nearest image only",
            _guess_nearest,
            "That is the most likely image. The best guess in squared error is the *average* of all, weighted by how "
            "likely they are.",
        ),
        Misconception(
            "the sign",
            _guess_with(lambda squared, sigma: squared / (2 * sigma**2)),
            "The farther an image, the *less* likely it is: a minus is missing.",
        ),
    ],
    hints=[
        "How likely is each image, if the noise must explain the difference between it and the noisy one? Then a "
        "weighted average.",
        "The noise is Gaussian: an image at distance r has the weight exp(−r²/2σ²), and the weights must sum to 1.",
        "`exp` of a large negative number rounds to 0, and 0/0 is nan. `torch.softmax` takes the exponents and "
        "shares out safely. Over which axis?",
        "`torch.softmax(-torch.cdist(noisy.flatten(1), images.flatten(1)).square() / (2 * sigma**2), dim=1)`, "
        "times `images.flatten(1)`, in the shape of `noisy`",
    ],
    passed="Bayes' rule in three lines: no network can guess better, if these images are all there is. Notebook 00 "
    "walked with this very function, and arrived at copies.",
    explanation="""
    All images are equally likely beforehand, so the posterior is the likelihood, normalised: a softmax of
    $-\\lVert\\tilde x-x_i\\rVert^2/2\\sigma^2$. It is also what attention does, with images for keys and values.
    """,
)

concept(
    "autoencoder/black-walk",
    title="Why does it turn black?",
    minutes=2,
    question="""
    The upper walk begins with noise of $\\sigma=1$ around middle grey. The denoiser was trained on garments with noise
    of $\\sigma=0.5$. Which of these explains best that the upper walks end dark and alike?
    """,
    options={
        "a": Option(
            "The network is too small: a larger one would find the garments in such noise.",
            "Size won't help with inputs like none that it was trained on: what it does there was never asked of it.",
        ),
        "b": Option(
            "Eight passes are too few; the walks would brighten again if one were patient.",
            "Try 25 passes: they get blacker still, and stay so. The walk has arrived, at the wrong place.",
        ),
        "c": Option(
            "Squared error prefers dark pixels, so that each pass must lose some light.",
            "It prefers the mean, and the mean has as much light as the images have. Look at the lower walk: its "
            "bright garments do not darken, they turn white.",
        ),
        "d": Option(
            "It meets images unlike all it was trained on: nothing there ties it to garments.",
            "Right. Grey noise of σ = 1 is far from any garment with noise of 0.5, so the first answer is a poor one, "
            "and the next pass starts from that, with *less* noise than the network knows.",
            right=True,
        ),
    },
)


@fixture("autoencoder/told")
def _told(seed: int = 0, size: int = 6):
    """A denoiser (x, sigma) that pulls towards a pattern, and depends on σ and on the image."""
    pattern = torch.randn(1, 1, 2, 3)

    def denoise(x, sigma):
        share = 1 / (1 + sigma.view(-1, 1, 1, 1) ** 2)
        return torch.tanh(share * x + (1 - share) * pattern.to(x))

    return denoise


def _anneal_cases(rng: torch.Generator) -> list[Case]:
    seeds = torch.randint(1_000_000, (4,), generator=rng).tolist()
    ladders = ([4.0, 2.0, 0.7, 0.1], [3.0, 0.2], [1.5], [2.5, 1.0, 0.3])
    cases = []
    for b, ladder, fresh, seed in zip((3, 1, 4, 2), ladders, (0.0, 0.6, 0.8, 1.0), seeds):
        start = ladder[0] * torch.randn(b, 1, 2, 3, generator=rng)
        args = {"denoise": Fixture("autoencoder/told", seed=seed), "start": start, "sigmas": ladder, "fresh": fresh}
        args |= {"generator": Fixture("generator", seed=seed)}
        levels = f"{len(ladder)} level{'s' * (len(ladder) > 1)}"
        cases.append(Case(args, label=f"{levels}, {b} images, fresh = {fresh:g}"))
    return cases


def _anneal_with(
    move=lambda guess, old, new, now, then, f: guess + then * ((1 - f**2) ** 0.5 * old + f * new),
    stop=0.0,
    told=lambda now, then: now,
):
    """The walk with one thing changed."""

    def anneal(denoise, start, sigmas, fresh, generator):
        x = start
        following = [*sigmas[1:]] if stop is None else [*sigmas[1:], stop]
        for sigma, then in zip(sigmas, following):
            guess = denoise(x, torch.full((len(x),), told(sigma, then)))
            new = torch.randn(x.shape, generator=generator)
            x = move(guess, (x - guess) / sigma, new, sigma, then, fresh)
        return x

    return anneal


quiz(
    "autoencoder/anneal",
    points=4,
    minutes=6,
    title="From noise, in small steps",
    equation="1.10",
    reference=library.anneal,
    cases=_anneal_cases,
    any_device=False,
    misconceptions=[
        Misconception(
            "jumps all the way",
            _anneal_with(lambda guess, old, new, now, then, f: guess),
            "You move to the guess itself and stay there. Put back noise of the next level's strength.",
        ),
        Misconception(
            "stops before the last step",
            _anneal_with(stop=None),
            "The walk ends with noise still in the image. One more step, from the smallest level to 0, is missing.",
        ),
        Misconception(
            "strengths added, not variances",
            _anneal_with(lambda guess, old, new, now, then, f: guess + then * ((1 - f) * old + f * new)),
            "Independent noises add their *variances*: with shares f and 1 − f the sum is too weak. The squares of the "
            "two factors must add to 1.",
        ),
        Misconception(
            "the share taken for one of variances",
            _anneal_with(lambda guess, old, new, now, then, f: guess + then * ((1 - f) ** 0.5 * old + f**0.5 * new)),
            "The strengths add up well. But `fresh` is a share of the *strength*: new noise comes in times `fresh` "
            "itself, and its variance is the square of that.",
        ),
        Misconception(
            "fresh noise on top of all the old",
            _anneal_with(lambda guess, old, new, now, then, f: guess + then * (old + f * new)),
            "All of the old noise is kept and new noise comes on top: the sum is stronger than σ'. What is added anew "
            "must be taken from the old.",
        ),
        Misconception(
            "noise of the level that you leave",
            _anneal_with(lambda guess, old, new, now, then, f: guess + now * ((1 - f**2) ** 0.5 * old + f * new)),
            "You put back as much noise as there was: the walk never gets anywhere. It is the *next* level's strength.",
        ),
        Misconception(
            "told the next level",
            _anneal_with(told=lambda now, then: then or now),
            "The denoiser must be told how much noise is in the image *now*.",
        ),
    ],
    hints=[
        "One loop over pairs: the level at which you are, and the level to which you go. After the last one comes 0: "
        "`zip(sigmas, [*sigmas[1:], 0.0])`.",
        "In each step: ask for the guess, with `torch.full((len(x),), sigma, device=x.device)` for the levels. Then "
        "(x − guess)/σ is the old noise, of strength 1.",
        "Old and new noise are independent, both of strength 1. A sum a·old + b·new has strength 1 if a² + b² = 1. "
        "b is `fresh`: what is a?",
        "`x = guess + following * ((1 - fresh**2) ** 0.5 * old + fresh * new)`",
    ],
    passed="You have written a sampler. Without fresh noise it is DDIM in other variables, the one that drew the first "
    "picture of this course; notebook 06 derives it and its rivals.",
    explanation="""
    $\\tilde x-D(\\tilde x,\\sigma)$ is the noise that the denoiser sees, of strength σ; after the step it has strength
    σ', whatever the share of fresh noise. In terms of the score (1.9), a step without fresh noise is
    $\\tilde x+(\\sigma-\\sigma')\\,\\sigma\\,\\nabla\\ln p_\\sigma(\\tilde x)$: a step uphill, whose length shrinks
    with the noise.
    """,
)
