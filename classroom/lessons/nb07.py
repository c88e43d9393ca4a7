"""The quizzes of notebook 07, "Guidance"."""

from itertools import count, cycle
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import diffusion as library
from course_utils.models.unet import ClassPlane
from course_utils.sampling import cfg, classifier_gradient, classifier_guided

from ..quizzes.declarations import Case, Fixture, Misconception, Option, Unfit, concept, fixture, quiz
from ..quizzes.drawing import SIGMAS, as_often, drawn, from_call_to_call, off, repeated
from ..quizzes.raw import Array

CLASSES = 3

# ---------------------------------------------------------------------------------------------------- inputs for cases


class _Labelled(nn.Module):
    """A small network of images, steps and labels, in which every label, "any" among them, has a row of its own."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.label = nn.Embedding(classes + 1, channels)

    def forward(self, x, t, y):
        h = self.conv(x) + self.label(y)[:, :, None, None] + t[:, None, None, None].to(x.dtype) / 50
        return 1.5 * h.sin()


class _Scores(nn.Module):
    """A classifier of noisy images: (x_t, t) → logits (b, classes)."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.conv, self.head = nn.Conv2d(channels, 6, 3, padding=1), nn.Linear(6, classes)

    def forward(self, x, t):
        x = x.reshape(*x.shape, *[1] * (4 - x.ndim))  # points are images of one pixel
        h = (self.conv(x) * (1 + t[:, None, None, None].to(x.dtype) / 25)).tanh()
        return 20 * self.head(h.flatten(2).mean(2))  # sure of itself: some classes have a probability below 1e-4


def _in(double: bool, model: nn.Module) -> nn.Module:
    return model.to(torch.float64 if double else torch.float32)


@fixture("guidance/labelled")
def _labelled(channels: int = 1, double: bool = False, classes: int = CLASSES, seed: int = 0) -> nn.Module:
    return _in(double, _Labelled(channels, classes))


@fixture("guidance/scores")
def _scores(channels: int = 1, double: bool = False, classes: int = CLASSES, seed: int = 0) -> nn.Module:
    return _in(double, _Scores(channels, classes))


@fixture("guidance/schedule")
def _schedule(curve: str = "cosine", T: int = 50, seed: int = 0) -> library.Schedule:
    return library.NOISE_SCHEDULES[curve](T)


BATCHES = (  # how many images, their shape, dtype
    (4, (1, 5, 7), torch.float32),
    (3, (3, 4, 6), torch.float64),
    (1, (1, 6, 3), torch.float64),
    (5, (2, 3, 8), torch.float32),
)
SEVERAL_CLASSES = (CLASSES, 5, 4, 2)  # of each of these batches


def _noisy(rng: torch.Generator, b: int, shape: tuple[int, ...], dtype: torch.dtype, T: int = 50, classes=CLASSES):
    """x_t, t with both ends of 1..T, y with many classes in it, first the last but one, which no slip makes `null`."""
    x_t = torch.randn(b, *shape, generator=rng, dtype=dtype)
    t = torch.randint(1, T + 1, (b,), generator=rng)
    t[0], t[-1] = 1, T
    return x_t, t, (classes - 2 - torch.arange(b)) % classes


def _model(kind: str, shape: tuple[int, ...], dtype: torch.dtype, classes: int, seed: int) -> Fixture:
    double = dtype == torch.float64
    return Fixture(f"guidance/{kind}", channels=shape[0], double=double, classes=classes, seed=seed)


# ------------------------------------------------------------------------------------------ 7.1 · two ways into a block


def _plane(x, e, weight, bias):
    layer = SimpleNamespace(plane=lambda e: F.linear(e, weight, bias), size=x.shape[2:], block=lambda x, step: x)
    return ClassPlane.forward(layer, x, torch.cat([e, e], dim=1))


def _embedded(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, c, h, w, d, dtype in (
        (3, 2, 5, 7, 4, torch.float32),
        (1, 1, 3, 8, 6, torch.float64),
        (4, 3, 6, 2, 5, torch.float64),
        (2, 4, 4, 4, 16, torch.float32),
    ):
        x, e = torch.randn(b, c, h, w, generator=rng, dtype=dtype), torch.randn(b, d, generator=rng, dtype=dtype)
        weight = torch.randn(h * w, d, generator=rng, dtype=dtype)
        bias = torch.randn(h * w, generator=rng, dtype=dtype)
        args = {"x": x, "e": e, "weight": weight, "bias": bias}
        cases.append(Case(args, gradients=("x", "e", "weight", "bias")))
    return cases


def _plane_added(x, e, weight, bias):
    return x + F.linear(e, weight, bias).reshape(len(x), 1, *x.shape[2:])


def _plane_turned(x, e, weight, bias):
    b, _, h, w = x.shape
    return torch.cat([x, F.linear(e, weight, bias).reshape(b, 1, w, h).transpose(2, 3)], dim=1)


def _plane_flat(x, e, weight, bias):
    level = F.linear(e, weight, bias).mean(1)[:, None, None, None]
    return torch.cat([x, level.expand(-1, 1, *x.shape[2:])], dim=1)


def _plane_first(x, e, weight, bias):
    return _plane(x, e, weight, bias).roll(1, dims=1)


def _plane_without_bias(x, e, weight, bias):
    return _plane(x, e, weight, 0 * bias)


def _plane_of_the_first(x, e, weight, bias):
    return _plane(x, e[:1].expand_as(e), weight, bias)


quiz(
    "guidance/plane",
    points=2,
    minutes=5,
    equation="7.2",
    title="A plane for the class",
    reference=_plane,
    library=(ClassPlane.forward,),
    cases=_embedded,
    misconceptions=[
        Misconception(
            "added instead of concatenated",
            _plane_added,
            "The plane becomes one *more* channel; you added it to the channels that were there. `torch.cat(..., "
            "dim=1)`.",
        ),
        Misconception(
            "height and width exchanged",
            _plane_turned,
            "The h · w numbers are rows of w pixels: reshape to (h, w), not to (w, h). On square images nobody "
            "notices.",
        ),
        Misconception(
            "one grey value for the whole plane",
            _plane_flat,
            "Each pixel of the plane has a row of the weight, and so a number, of its own.",
        ),
        Misconception("the plane comes first", _plane_first, "The image's channels come first, the plane last."),
        Misconception("the bias forgotten", _plane_without_bias, "A dense layer is e · weightᵀ + bias: `F.linear`."),
        Misconception(
            "one class for the whole batch",
            _plane_of_the_first,
            "Each image has an embedding, and so a plane, of its own.",
        ),
    ],
    hints=[
        "`F.linear(e, weight, bias)` is the dense layer: (b, d) becomes (b, h · w).",
        "Reshape that to (b, 1, h, w). Height and width are the last two axes of x.",
        "`torch.cat([x, plane], dim=1)`",
    ],
    explanation="""
    The block's convolution then sees, at every pixel, c + 1 numbers instead of c. It may read the class off the plane
    anywhere, and the plane may say different things in different places ("at the bottom, a sole").
    """,
)


# ------------------------------------------------------------------------------------------------ 7.2 · the label "any"


def _drop_often(answer, y, null, share, generator) -> dict | None:
    """Many draws with this share, some with a share of 0 and of 1; of a large batch a long one with a small share."""
    copy = y.clone()
    found = repeated(lambda y: answer(y, null, share, generator), y, generator, CALLS)
    if found is None or "many" not in found:
        return found
    none = repeated(lambda y: answer(y, null, 0.0, generator), copy.clone(), generator, 50)
    every = repeated(lambda y: answer(y, null, 1.0, generator), copy.clone(), generator, 50)
    few = {"few": answer(copy.repeat(AS_LONG), null, FEW, generator)} if len(copy) >= LARGE else {}
    return {"share": found, "0": none, "1": every} | few


CALLS = 1000
LARGE, AS_LONG, FEW = 24, 1700, 0.0015  # of 40,800 labels 61 go: 1 in 256 would be too many, and none too few
GONE, ANY, ALONE, SHARE = "the null label", "any", "one by one", "as many as the share says"
RIGHT = {  # what is said of a right answer, the cause before what comes of it
    "what a dropped label becomes": GONE,
    "every call draws anew": True,
    "which places lose their label": ANY,
    "how the labels of a batch go": ALONE,
    "every place loses its label equally often": True,
    "how many labels go": SHARE,
    "how many labels of a long batch go with a small share": SHARE,
    "with a share of 0 all labels stay": True,
    "with a share of 1 all labels go": True,
    "all of it comes from the generator": True,
}


def _about_dropping(raw, case: Case) -> dict[str, bool | str]:
    """What can be said about many draws, however they are made."""
    y, null, share = case.args["y"].numpy(), case.args["null"], case.args["share"]
    parts = ["share", "0", "1", *["few"] * (len(y) >= LARGE)]
    several = type(raw) is dict and list(raw) == parts
    ((labels, own),) = drawn(raw["share"] if several else raw, {"the labels": (y.shape, ("int64",))}, CALLS)
    if not several:
        raise Unfit("expected labels for any share")
    becomes = _becomes(labels[labels != y], null)
    if becomes != GONE:  # then how often and where can't be seen
        return RIGHT | {"what a dropped label becomes": becomes}
    lost = labels == null
    return RIGHT | {
        "every call draws anew": not 0 < lost.mean() < 1 or from_call_to_call(lost.astype(float)),
        "which places lose their label": _places(lost),
        "how the labels of a batch go": _together(lost),
        "every place loses its label equally often": _evenly(lost),
        "how many labels go": _how_many(lost, share),
        "how many labels of a long batch go with a small share": _few(raw["few"], y, null) if "few" in raw else SHARE,
        "with a share of 0 all labels stay": _are(raw["0"], y),
        "with a share of 1 all labels go": _are(raw["1"], np.full_like(y, null)),
        "all of it comes from the generator": own,
    }


def _are(raw, labels: np.ndarray) -> bool:
    many = raw.get("many") if type(raw) is dict else None
    return isinstance(many, Array) and many.shape[1:] == labels.shape and bool((many.data == labels).all())


def _places(lost: np.ndarray) -> str:
    ever = lost.any(0)
    if ever.all() or not ever.any():
        return ANY
    return "always the first ones" if (np.diff(ever.astype(int)) <= 0).all() else "always the same ones"


def _becomes(seen: np.ndarray, null: int) -> str:
    values = set(seen.tolist())
    if values <= {null}:
        return GONE
    return "another number" if len(values) > 1 or not values <= {0, -1} else f"always {min(values)}"


def _together(lost: np.ndarray) -> str:
    """lost: (calls, b). If each label is tossed for, the number that goes has the variance b · share · (1 − share)."""
    share, b = lost.mean(), lost.shape[1]
    if b == 1 or share in (0, 1):
        return ALONE
    if (lost == lost[:, :1]).all():
        return "all or none"
    counts = (lost.mean(1) - share)[:, None] * (b / (share * (1 - share))) ** 0.5
    if off(counts**2, 1, 2) < -SIGMAS:
        return "in the same number each time" if np.ptp(lost.sum(1)) == 0 else "in nearly the same number each time"
    centred = (lost - share) / (share * (1 - share)) ** 0.5
    pairs = np.abs(centred.T @ centred / len(lost))[~np.eye(b, dtype=bool)]
    return "several together" if off(counts**2, 1, 2) > SIGMAS or pairs.max() > 0.5 else ALONE


def _evenly(lost: np.ndarray) -> bool:
    share = lost.mean()
    bound = SIGMAS * (share * (1 - share) / len(lost)) ** 0.5 + 0.01
    return bool((np.abs(lost.mean(0) - share) < bound).all())


def _how_many(lost: np.ndarray, share: float) -> str:
    normal = NormalDist().cdf(share)
    named = {SHARE: share, "as many as should stay": 1 - share, "as many as normal numbers are below it": normal}
    for words, expected in named.items():
        if as_often(lost, expected):
            return words
    return "none" if not lost.any() else "all" if lost.all() else "too many" if lost.mean() > share else "too few"


def _few(raw, y: np.ndarray, null: int) -> str:
    y = np.tile(y, AS_LONG)
    if not isinstance(raw, Array) or raw.dtype != "int64" or raw.shape != y.shape or raw.data is None:
        raise Unfit(f"a longer batch: expected int64 of shape {y.shape}, got something else")
    return _how_many((raw.data != y)[None], FEW) if set(raw.data[raw.data != y]) <= {null} else "another number"


def _some_labels(rng: torch.Generator) -> list[Case]:
    """Shares are no tenths, so that no die will do; `null` may come before the classes."""
    return [
        Case(
            {
                "y": torch.randint(classes, (b,), generator=rng) + (null == 0),
                "null": null,
                "share": share,
                "generator": Fixture("generator", seed=int(torch.randint(1000, (), generator=rng))),
            },
            label=f"many batches of {b} labels of {classes} classes, share {share}",
        )
        for b, classes, null, share in ((LARGE, 10, 10, 0.15), (7, 4, 4, 0.13), (20, 2, 0, 0.9), (1, 3, 3, 0.4))
    ]


def _drop_to_class_0(y, null, share, generator):
    return library.drop_labels(y, 0, share, generator)


def _drop_the_rest(y, null, share, generator):
    return library.drop_labels(y, null, 1 - share, generator)


def _drop_batches(y, null, share, generator):
    lost = torch.rand(1, generator=generator, device=y.device) < share
    return y.masked_fill(lost, null)


def _drop_exactly(y, null, share, generator):
    place = torch.randperm(len(y), generator=generator, device=y.device)
    return y.masked_fill(place < round(share * len(y)), null)


def _drop_the_first(y, null, share, generator):
    return y.masked_fill(torch.arange(len(y), device=y.device) < round(share * len(y)), null)


def _drop_normal(y, null, share, generator):
    return y.masked_fill(torch.randn(y.shape, generator=generator, device=y.device) < share, null)


def _drop_to_minus_one(y, null, share, generator):
    return library.drop_labels(y, -1, share, generator)


quiz(
    "guidance/drop-labels",
    points=3,
    minutes=5,
    equation="7.3",
    title="Leave labels out",
    reference=library.drop_labels,
    cases=_some_labels,
    probe=_drop_often,
    measured=_about_dropping,
    misconceptions=[
        Misconception(
            "class 0 for the null label",
            _drop_to_class_0,
            'A dropped label must become `null`, a number that no class has. As 0 it says "T-shirt", and class 0 is '
            "then trained on images of every class.",
        ),
        Misconception(
            "the share that is kept", _drop_the_rest, "`share` is the share of labels that *go*: compare with `<`."
        ),
        Misconception(
            "one toss for the whole batch",
            _drop_batches,
            "Either all labels of a batch go or none: toss for each one, `torch.rand(y.shape, ...)`.",
        ),
        Misconception(
            "a fixed number in each batch",
            _drop_exactly,
            "Exactly share · b labels go in each batch. Equation (7.3) tosses for each label alone; in a batch of 4 "
            "with a share of 0.1 yours would never drop any.",
        ),
        Misconception(
            "always the first of the batch",
            _drop_the_first,
            "Always the same places lose their labels. It happens to work where batches are shuffled, but nothing was "
            "drawn, and a small batch never loses any.",
        ),
        Misconception(
            "a normal number for a uniform one",
            _drop_normal,
            "P(z < share) is not `share` for a normal z. `torch.rand` is uniform on [0, 1), and P(u < share) = share.",
        ),
        Misconception(
            "−1 for the null label",
            _drop_to_minus_one,
            "The null label is the number that you are given, `null`. An embedding has no row −1.",
        ),
    ],
    hints=[
        "Toss a coin for each label: `torch.rand(y.shape, generator=generator, device=y.device)` is below `share` with "
        "that probability.",
        "Put `null` where the coin says so, and leave y itself as it is: `torch.where`, or `masked_fill` without the "
        "`_`.",
        "`y.masked_fill(torch.rand(y.shape, generator=generator, device=y.device) < share, null)`",
    ],
    explanation="""
    One network learns two things: on nine tenths of the batch what images of a class look like, on the rest what images
    look like. The null label is a class like any other to the network; only that all images belong to it.
    """,
)


concept(
    "guidance/what-any-learns",
    title="What the null label learns",
    equation="7.3",
    question="""
    Training drops a tenth of the labels. In the limit of much training and a large network, what does the network
    answer for the null label?
    """,
    options={
        "a": Option(
            "The mean over the ten classes of its ten answers, each weighted equally.",
            "Nearly; but look at a noisy image of which you can already see that it is a shoe. The classes are no "
            "longer equally likely then, and the best guess weighs them by $p(y\\mid x_t)$.",
        ),
        "b": Option(
            "$\\mathbb E[x_0\\mid x_t]$, the best guess of somebody who isn't told the class.",
            "Right. Images with the null label are images of all classes, as frequent as in the data. A squared "
            "error is least at their mean, given what can be seen in $x_t$. That is an unconditional model, for free.",
            right=True,
        ),
        "c": Option(
            "Images of no class at all, such as grey planes.",
            "It never sees any. With the null label come ordinary images of every class.",
        ),
        "d": Option(
            "Worse images than for the other labels: it gets a tenth of the training.",
            "A tenth of the *labels*, but nearly all of the weights are shared with the other nine tenths. "
            "And it isn't what it converges to.",
        ),
    },
)


# ---------------------------------------------------------------------------------- 7.2 · a null label that never comes


def _answer_in_training(model, x_t, t, y, lost, null):
    return model(x_t, t, torch.where(lost, null, y))


def _training_steps(rng: torch.Generator) -> list[Case]:
    """Some labels are lost, all of them (one image), none of them."""
    cases, batches = [], (*BATCHES, (3, (1, 2, 5), torch.float64))
    for seed, ((b, shape, dtype), classes) in enumerate(zip(batches, (*SEVERAL_CLASSES, 6))):
        x_t, t, y = _noisy(rng, b, shape, dtype, classes=classes)
        lost = torch.rand(b, generator=rng) < 0.5
        lost[0], lost[1:2], lost[2:3] = True, False, True
        lost &= seed < len(BATCHES)
        model = _model("labelled", shape, dtype, classes, seed)
        args = {"model": model, "x_t": x_t, "t": t, "y": y, "lost": lost, "null": classes}
        cases.append(Case(args, gradients=("model",)))
    return cases


def _null_never_used(model, x_t, t, y, lost, null):
    return model(x_t, t, y)


def _null_is_class_0(model, x_t, t, y, lost, null):
    return model(x_t, t, torch.where(lost, 0, y))


def _null_for_the_rest(model, x_t, t, y, lost, null):
    return model(x_t, t, torch.where(lost, y, null))


def _null_for_all(model, x_t, t, y, lost, null):
    return model(x_t, t, torch.full_like(y, null))


def _null_last_class(model, x_t, t, y, lost, null):
    return model(x_t, t, torch.where(lost, null - 1, y))


quiz(
    "guidance/null-never-trained",
    points=3,
    minutes=4,
    equation="7.3",
    title="Bug hunt: the label that never comes",
    bug_hunt=True,
    reference=_answer_in_training,
    cases=_training_steps,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _null_never_used,
            "The network still gets `y`. Follow the labels from the line where they are dropped to the call.",
        ),
        Misconception(
            "class 0 for the null label",
            _null_is_class_0,
            "A dropped label must become `null`. As 0 it is the first class, which now learns all the others' images.",
        ),
        Misconception(
            "the wrong ones dropped",
            _null_for_the_rest,
            "`torch.where(lost, a, b)` gives a where `lost` is true: that is where the null label belongs.",
        ),
        Misconception("all of them dropped", _null_for_all, "Only where `lost` is true; the others keep their labels."),
        Misconception(
            "the last class for the null label",
            _null_last_class,
            "Classes are 0 .. null − 1; the null label is `null` itself, one beyond the last.",
        ),
    ],
    hints=[
        "Which variable holds the labels after dropping? Who reads it?",
        "The call at the end must be given `labels`, not `y`.",
        "`return model(x_t, t, labels)`",
    ],
    explanation="""
    Nothing crashes, and the loss is even a little lower: the network is always told the class. But the row of the
    embedding that stands for "any" stays what it was at the start, random numbers. Sampling with w = 1 never asks for
    it and looks perfect; with any other w the difference of a good guess and a guess for a random label is blown up.
    """,
)


# ------------------------------------------------------------------------------------------------ 7.3 · what to measure

concept(
    "guidance/one-perfect-bag",
    title="One perfect bag",
    equation="7.4",
    question="""
    A sampler answers each request for a class with one and the same image: the most typical training image of that
    class. Which numbers give it away?
    """,
    options={
        "a": Option(
            "Class accuracy: a judge would notice that all bags are the same bag.",
            'The judge looks at one image at a time and says "bag", each time rightly. Accuracy is 1.',
        ),
        "b": Option(
            "Fidelity: the single images aren't like data.",
            "They *are* data: each generated image lies at a real one.",
        ),
        "c": Option(
            "None: an image that is real can't be told from a real image.",
            "One image can't. A set can: real bags differ from each other.",
        ),
        "d": Option(
            "Coverage and the Fréchet distance: most real images have nothing nearby, and the spread is gone.",
            "Right. Coverage counts real images with a generated neighbour: ten images are neighbours to few. And the "
            "Fréchet distance compares covariances as well as means. Fidelity alone can always be had by giving up "
            "diversity, so never report one without the other.",
            right=True,
        ),
    },
)


# ---------------------------------------------------------------------------------------- 7.4 · a classifier's gradient


def _as_a_sampler_calls(answer, **given):
    """Samplers switch gradients off around everything they do. What came out, and whether they are on afterwards."""
    with torch.no_grad():
        result = answer(**given)
        return None if result is None else (result, torch.is_grad_enabled())


def _with_gradients_left_off(raw, case):
    """The gradient, if whoever called has gradients off afterwards as before."""
    if type(raw) is not tuple or len(raw) != 2:
        raise Unfit("expected a tensor like x_t, got something else")
    gradient, recorded = raw
    if recorded is not False:
        raise Unfit(
            "expected gradients to be off afterwards, as a sampler had them, got them switched on: "
            "`with torch.enable_grad():` switches back by itself"
        )
    return gradient


def _seen_by_a_classifier(rng: torch.Generator) -> list[Case]:
    cases = []
    batches = (*BATCHES, (3, (2,), torch.float64))  # points in the plane last
    for seed, ((b, shape, dtype), classes) in enumerate(zip(batches, (*SEVERAL_CLASSES, CLASSES))):
        x_t, t, y = _noisy(rng, b, shape, dtype, classes=classes)
        model = _model("scores", shape, dtype, classes, seed)
        cases.append(Case({"classifier": model, "x_t": x_t, "t": t, "y": y}))
    return cases


def _uphill(of):
    """The gradient of a scalar of (logits, y)."""

    def gradient(classifier, x_t, t, y):
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            return torch.autograd.grad(of(classifier(x, t), y), x)[0]

    return gradient


def _of_y(values, y):
    return values.gather(1, y[:, None])


_gradient_of_the_mean = _uphill(lambda logits, y: -F.cross_entropy(logits, y))
_gradient_of_the_loss = _uphill(lambda logits, y: F.cross_entropy(logits, y, reduction="sum"))
_gradient_of_the_mean_loss = _uphill(lambda logits, y: F.cross_entropy(logits, y))
_gradient_of_the_logit = _uphill(lambda logits, y: _of_y(logits, y).sum())
_gradient_of_p = _uphill(lambda logits, y: _of_y(logits.softmax(1), y).sum())
_gradient_of_all_classes = _uphill(lambda logits, y: logits.log_softmax(1).sum())
_gradient_of_the_log_of_a_sum = _uphill(lambda logits, y: _of_y(logits.softmax(1), y).sum().log())


def _gradient_by_backward(classifier, x_t, t, y):
    with torch.enable_grad():
        x = x_t.detach().clone().requires_grad_()
        _of_y(classifier(x, t).log_softmax(1), y).sum().backward()
        return x.grad


_gradient_of_the_likeliest = _uphill(lambda logits, y: logits.log_softmax(1).max(1).values.sum())

GRADIENTS = [
    Misconception(
        "the mean over the batch",
        _gradient_of_the_mean,
        "You take the gradient of the *mean* of ln p over the batch, so each image's gradient is divided by the number "
        "of images: guidance that gets weaker the more images are drawn at once. Take the sum: an image's pixels are "
        "in one of its terms only.",
    ),
    Misconception(
        "downhill",
        _gradient_of_the_loss,
        "That is the gradient of the *loss* −ln p: it leads away from the class.",
    ),
    Misconception(
        "downhill, and the mean over the batch",
        _gradient_of_the_mean_loss,
        "`F.cross_entropy` is the *mean* of −ln p: wrong sign, and divided by the size of the batch.",
    ),
    Misconception(
        "the logit instead of ln p",
        _gradient_of_the_logit,
        "A logit can rise while those of all other classes rise more. ln p is logit minus logsumexp: `log_softmax`.",
    ),
    Misconception(
        "p instead of ln p",
        _gradient_of_p,
        "The score is the gradient of ln p. That of p is p times as long: it vanishes where the class is unlikely, "
        "which is where guidance is needed most.",
    ),
    Misconception(
        "all classes at once",
        _gradient_of_all_classes,
        "You added up ln p of *all* classes. Take the one that was asked for: row by row, entry y.",
    ),
    Misconception(
        "the logarithm of a sum over the batch",
        _gradient_of_the_log_of_a_sum,
        "The logarithm comes first, image by image, then the sum. Yours mixes the images: each one's gradient "
        "depends on how likely the others are.",
    ),
    Misconception(
        "the likeliest class",
        _gradient_of_the_likeliest,
        "You lead every image to the class that it already looks like. Take entry y.",
    ),
    Misconception(
        "backward",
        _gradient_by_backward,
        "The gradient is right, but `.backward()` also fills the `.grad` of all the classifier's weights, where the "
        "next training step finds them. `torch.autograd.grad(of_y.sum(), x)` computes the one that is wanted alone.",
    ),
]

quiz(
    "guidance/classifier-gradient",
    points=4,
    minutes=8,
    equation="7.7",
    title="The gradient of a classifier",
    reference=classifier_gradient,
    library=(classifier_guided,),
    answered_by=("guidance/wrong-quantity",),
    cases=_seen_by_a_classifier,
    probe=_as_a_sampler_calls,
    measured=_with_gradients_left_off,
    misconceptions=GRADIENTS,
    hints=[
        "Inside `with torch.enable_grad():` make a copy that wants a gradient: `x = x_t.detach().requires_grad_()`.",
        "`classifier(x, t).log_softmax(1)` is ln p of every class, (b, classes). `[torch.arange(len(y)), y]` takes "
        "one of each row.",
        "autograd needs one number: the sum over the batch. `torch.autograd.grad(of_y.sum(), x)` gives a tuple of one.",
    ],
    explanation="""
    The sum is a trick, and an exact one: an image's pixels occur in one term of it only, so the gradient of the sum
    with respect to that image is the gradient of its own ln p. `torch.autograd.grad` leaves the classifier's
    weights alone, where `.backward()` would fill their `.grad`.
    """,
)

quiz(
    "guidance/wrong-quantity",
    points=3,
    minutes=4,
    equation="7.7",
    title="Bug hunt: stronger alone",
    bug_hunt=True,
    reference=classifier_gradient,
    library=(classifier_guided,),
    answered_by=("guidance/classifier-gradient",),
    cases=_seen_by_a_classifier,
    probe=_as_a_sampler_calls,
    measured=_with_gradients_left_off,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _gradient_of_the_mean,
            "It is still the gradient of a mean. What does `F.cross_entropy` do with a batch, unless it is told "
            "otherwise?",
        ),
        *GRADIENTS[1:],
    ],
    hints=[
        "Call it with one image, and with the same image among others. Does that image's gradient change?",
        "`F.cross_entropy` is a mean over the batch.",
        '`F.cross_entropy(classifier(x, t), y, reduction="sum")`',
    ],
    explanation="""
    A loss is a mean so that the learning rate doesn't depend on the batch. Here nothing is learned: each image
    wants the gradient of its own ln p, and the mean divides it by the size of the batch. With 64 images at once a
    scale of 10 is a scale of 0.16; people then tune the scale, for one batch size, and wonder.
    """,
)


def _guided_noise(noise, uphill, t, schedule, scale):
    _, noise_rate = schedule.rates(t, noise)
    return noise - noise_rate * scale * uphill


def _noise_and_gradient(rng: torch.Generator) -> list[Case]:
    cases = []
    curves, lengths = ("cosine", "linear", "cosine", "quadratic", "linear"), (50, 1000, 10, 20, 50)
    batches, scales = (*BATCHES, BATCHES[0]), (3.5, -2.0, 0.0, 10.0, 0.5)  # the last as the first, on another schedule
    for (b, shape, dtype), curve, T, scale in zip(batches, curves, lengths, scales, strict=True):
        noise, t, _ = _noisy(rng, b, shape, dtype, T)
        uphill = torch.randn(b, *shape, generator=rng, dtype=dtype)
        schedule = Fixture("guidance/schedule", curve=curve, T=T)
        cases.append(Case({"noise": noise, "uphill": uphill, "t": t, "schedule": schedule, "scale": scale}))
    return cases


def _noise_plus(noise, uphill, t, schedule, scale):
    return noise + schedule.rates(t, noise)[1] * scale * uphill


def _noise_without_root(noise, uphill, t, schedule, scale):
    return noise - schedule.rates(t, noise)[1].square() * scale * uphill


def _noise_unscaled(noise, uphill, t, schedule, scale):
    return noise - scale * uphill


def _noise_by_signal(noise, uphill, t, schedule, scale):
    return noise - schedule.rates(t, noise)[0] * scale * uphill


def _noise_times(noise, uphill, t, schedule, scale):
    return noise * (1 - schedule.rates(t, noise)[1] * scale * uphill)


def _noise_without_scale(noise, uphill, t, schedule, scale):
    return _guided_noise(noise, uphill, t, schedule, 1.0)


def _noise_divided(noise, uphill, t, schedule, scale):
    return noise - scale * uphill / schedule.rates(t, noise)[1]


quiz(
    "guidance/guided-noise",
    points=2,
    minutes=3,
    equation="7.7",
    title="The guided noise",
    reference=_guided_noise,
    library=(
        classifier_guided,
        library.predict_x0,
        library.prediction_target,
        library.Schedule.add_noise,
    ),
    cases=_noise_and_gradient,
    misconceptions=[
        Misconception(
            "away from the class",
            _noise_plus,
            "The score is *minus* ε̂ over √(1−ᾱ_t): to raise the score, take away from the noise.",
        ),
        Misconception(
            "a variance for a standard deviation", _noise_without_root, "The factor is √(1 − ᾱ_t), with its root."
        ),
        Misconception(
            "√(1 − ᾱ_t) forgotten",
            _noise_unscaled,
            "A score times √(1−ᾱ_t) is a noise; without the factor you subtract a score from a noise, and guide far "
            "too strongly where there is little noise.",
        ),
        Misconception(
            "the signal rate",
            _noise_by_signal,
            "You used √ᾱ_t, the rate of the image. The rate of the noise is √(1 − ᾱ_t).",
        ),
        Misconception(
            "a product instead of a sum",
            _noise_times,
            "Scores add up, because logarithms of a product do. You multiplied the noise.",
        ),
        Misconception(
            "the scale not used",
            _noise_without_scale,
            "That is right for s = 1 alone: `scale` multiplies the gradient.",
        ),
        Misconception(
            "divided by the noise rate",
            _noise_divided,
            "ε̂ = −√(1−ᾱ_t) · score: the rate multiplies. (Dividing leads the other way, from a noise to a score.)",
        ),
    ],
    hints=[
        "`signal_rate, noise_rate = schedule.rates(t, noise)` are √ᾱ_t and √(1 − ᾱ_t), shaped to multiply a batch.",
        "(7.7) is a difference: the noise minus √(1 − ᾱ_t) · scale · uphill.",
        "`noise - noise_rate * scale * uphill`",
    ],
    explanation="""
    From ∇ ln p(x_t) = −ε̂/√(1−ᾱ_t): add s · ∇ ln p(y|x_t) to the score, multiply everything by −√(1−ᾱ_t).
    """,
)

concept(
    "guidance/why-noisy",
    title="A classifier that has never seen noise",
    equation="7.6",
    question="""
    An excellent classifier of clean images is at hand. Why train another one, on noisy images, for classifier guidance?
    """,
    options={
        "a": Option(
            "At most steps of the walk $x_t$ is mostly noise. The clean classifier's answer there is a guess, and its "
            "gradient points anywhere.",
            "Right. The walk decides what the image will be while the noise is still strong, and that is where a "
            "classifier that never saw noise has nothing to say. The formula asks for $p(y\\mid x_t)$ *at that t*, "
            "which is a different function for each t.",
            right=True,
        ),
        "b": Option(
            "The clean one is too accurate: guidance needs soft probabilities.",
            "Soft or not isn't the point: the noisy one is very sure too, where there is little noise. It is a "
            "question of what it was trained on.",
        ),
        "c": Option(
            "Because it has no input for t, the clean classifier can't be called.",
            "It can: `lambda x, t: classifier(x)`. It would even run. Whether it helps is another matter.",
        ),
        "d": Option(
            "Only because ours is the judge of 7.3; any *other* classifier of clean images could guide well.",
            "A judge must not guide, right. But the gradients of another clean classifier are as useless in deep "
            "noise.",
        ),
    },
)


# ----------------------------------------------------------------------------------------- 7.5 · without a classifier


def _guided_guess(denoise, x_t, t, y, null, w):
    return cfg(denoise, w, null)(x_t, t, y)


def _asked_with_w(rng: torch.Generator) -> list[Case]:
    cases = []
    strengths = (3.0, 7.5, 0.0, 1.0, 0.5, 2.0, -1.5)
    for seed, (b, shape, dtype), classes, w in zip(count(), cycle(BATCHES), cycle(SEVERAL_CLASSES), strengths):
        x_t, t, y = _noisy(rng, b, shape, dtype, classes=classes)
        denoise = _model("labelled", shape, dtype, classes, seed)
        cases.append(Case({"denoise": denoise, "x_t": x_t, "t": t, "y": y, "null": classes, "w": w}))
    return cases


def _with_guesses(formula):
    def guess(denoise, x_t, t, y, null, w):
        return formula(denoise(x_t, t, torch.full_like(y, null)), denoise(x_t, t, y), w)

    return guess


_guess_other_convention = _with_guesses(lambda of_any, of_y, w: of_y + w * (of_y - of_any))
_guess_exchanged = _with_guesses(lambda of_any, of_y, w: of_y + w * (of_any - of_y))
_guess_only_difference = _with_guesses(lambda of_any, of_y, w: w * (of_y - of_any))
_guess_product = _with_guesses(lambda of_any, of_y, w: of_any * w * (of_y - of_any))
_guess_weighted = _with_guesses(lambda of_any, of_y, w: of_any + w * of_y)
_guess_clipped = _with_guesses(lambda of_any, of_y, w: (of_any + w * (of_y - of_any)).clamp(-1, 1))
_guess_clipped_before = _with_guesses(
    lambda of_any, of_y, w: of_any.clamp(-1, 1) + w * (of_y.clamp(-1, 1) - of_any.clamp(-1, 1))
)
_guess_without_w = _with_guesses(lambda of_any, of_y, w: of_y)
_guess_away = _with_guesses(lambda of_any, of_y, w: of_any - w * (of_y - of_any))


def _guess_any_is_0(denoise, x_t, t, y, null, w):
    return _guided_guess(denoise, x_t, t, y, 0, w)


def _guess_any_is_last(denoise, x_t, t, y, null, w):
    return _guided_guess(denoise, x_t, t, y, null - 1, w)


quiz(
    "guidance/guided-guess",
    points=3,
    minutes=5,
    equation="7.9",
    title="The guided prediction",
    reference=_guided_guess,
    library=(cfg,),
    cases=_asked_with_w,
    misconceptions=[
        Misconception(
            "the other convention",
            _guess_other_convention,
            "You start from the *conditional* guess, so that w = 0 is unguided: the convention of the paper. Here w "
            'counts from the guess for "any", and w = 1 is unguided.',
        ),
        Misconception(
            "the roles exchanged",
            _guess_exchanged,
            'You go from the class to "any": w = 0 must be the guess for "any", w = 1 that for the class.',
        ),
        Misconception(
            "only the difference", _guess_only_difference, "The difference is a direction. Where does the walk start?"
        ),
        Misconception(
            "a product instead of a sum", _guess_product, "A direction is *added*: x̂_any + w · (x̂_y − x̂_any)."
        ),
        Misconception(
            "w times the whole guess",
            _guess_weighted,
            "w multiplies the difference of the guesses; otherwise their sum of weights isn't 1, and images get "
            "brighter.",
        ),
        Misconception(
            "clipped",
            _guess_clipped,
            "Right, and then clipped. That is another wrapper's job (section 7.8 shows why it must come last): "
            "don't do it here.",
        ),
        Misconception(
            "clipped too early",
            _guess_clipped_before,
            "The two guesses must not be clipped before they are combined: what clipping takes away is what the "
            "difference is made of.",
        ),
        Misconception('class 0 for "any"', _guess_any_is_0, "Ask with the label `null`, not with 0, which is a class."),
        Misconception(
            'the last class for "any"',
            _guess_any_is_last,
            "Classes are 0 .. null − 1: null − 1 is the last of them. Ask with the label `null` itself.",
        ),
        Misconception(
            "w not used", _guess_without_w, "That is the guess for the class, which is right for w = 1 alone."
        ),
        Misconception("away from the class", _guess_away, "The sign: w > 0 must lead *to* the class."),
    ],
    hints=[
        "Ask the denoiser twice: once with y, once with `torch.full_like(y, null)`.",
        'w = 0 must give the guess for "any", w = 1 that for the class: a straight line through both.',
        "`of_any + w * (of_y - of_any)`",
    ],
    explanation="""
    The library asks once with a batch of twice the size, which is faster. And for w = 0 and w = 1 it asks for the one
    guess that counts.
    """,
)


def _convert(w, source, to):
    from_any = {"course": w, "paper": 1 + w}[source]
    return {"course": from_any, "paper": from_any - 1}[to]


def _strengths(rng: torch.Generator) -> list[Case]:
    draws = [7.5, *(10 * torch.rand(3, generator=rng, dtype=torch.float64)).tolist(), 1.0, 0.0, -0.5]
    pairs = [("paper", "course"), ("course", "paper"), ("course", "course"), ("paper", "paper")]
    return [Case({"w": w, "source": a, "to": b}) for w in draws for a, b in pairs]


def _convert_backwards(w, source, to):
    return _convert(w, to, source)


def _convert_not(w, source, to):
    return w


def _convert_one_way(w, source, to):
    return _convert(w, "paper", "course")


def _convert_always_less(w, source, to):
    return w if source == to else w - 1


def _convert_one_minus(w, source, to):
    return w if source == to else 1 - w


quiz(
    "guidance/convention",
    points=2,
    minutes=4,
    equation="7.10",
    title="One strength, two numbers",
    reference=_convert,
    cases=_strengths,
    misconceptions=[
        Misconception(
            "the wrong way round",
            _convert_backwards,
            "Unguided is 1 in the course and 0 in the paper: from the paper's number to ours 1 is *added*.",
        ),
        Misconception("no conversion", _convert_not, "The two numbers differ by 1: see what w = 0 means in each."),
        Misconception(
            "always the same way",
            _convert_one_way,
            "You add 1 whatever is asked for. Look at `source` and `to`; nothing changes where they are the same.",
        ),
        Misconception(
            "always one less",
            _convert_always_less,
            "From the course to the paper 1 is taken away; on the way back it is added.",
        ),
        Misconception(
            "1 − w",
            _convert_one_minus,
            "Both numbers grow with the strength of guidance: they differ by 1, no sign changes.",
        ),
    ],
    hints=[
        "Write the paper's formula, (1 + w′) x̂_y − w′ x̂_any, as x̂_any plus something times (x̂_y − x̂_any).",
        "That something is 1 + w′: so w = 1 + w′, and w′ = w − 1.",
        'First to ours, `w + 1 if source == "paper" else w`; then from ours to what is asked for.',
    ],
    explanation="""
    Before you copy a guidance scale from a paper or a program, find out which of its values means "unguided".
    diffusers' `guidance_scale` counts as we do; the paper that introduced it doesn't.
    """,
)

concept(
    "guidance/not-a-density",
    title="What guidance samples from",
    equation="7.9",
    question="""
    At $w=3$ the guided score is that of $p(x_t)\\,p(y\\mid x_t)^3$ at every $t$. Do the samples then follow
    $p(x_0)\\,p(y\\mid x_0)^3$, made to add up to 1?
    """,
    options={
        "a": Option(
            "Yes: the score at each step is the right one, so the walk ends in the right place.",
            "It would, if $p(x_t)\\,p(y\\mid x_t)^3$ were what becomes of $p(x_0)\\,p(y\\mid x_0)^3$ under noise. It "
            "isn't: sharpening and adding noise don't commute, unless the exponent is 1.",
        ),
        "b": Option(
            "No: for $w\\ne1$ these densities are not the noised forms of one density, so the walk ends somewhere "
            "else.",
            "Right. At $w=1$ they are ($p(x_t\\mid y)$ for every t), and the walk ends at $p(x_0\\mid y)$. Otherwise "
            "guidance is a useful steering, not a sampler of a density that one could write down. The two means above "
            "are many standard errors apart.",
            right=True,
        ),
        "c": Option(
            "Yes, if the steps are small enough.",
            "Small steps cure the error of the solver. This one stays: the field that is followed isn't the score of a "
            "diffused density.",
        ),
        "d": Option(
            "No: scores can't be multiplied by 3.",
            "They can; $3\\nabla\\ln p=\\nabla\\ln p^3$. At each single t that is a score of something.",
        ),
    },
)

# ------------------------------------------------------------------------------------------- 7.6 · clipping comes after

concept(
    "guidance/clip-after",
    title="Which goes around which?",
    equation="7.9",
    question="""
    `clipped(cfg(f, 6.0, null))` or `cfg(clipped(f), 6.0, null)`: which keeps the guesses in [−1, 1], and why?
    """,
    options={
        "a": Option(
            "Both: clipping is clipping.",
            'Try it on two guesses of one pixel, 0.2 for "any" and 0.9 for the class: both are in range, and '
            "$0.2+6\\cdot0.7=4.4$.",
        ),
        "b": Option(
            "The second: what goes in is in range, so what comes out is.",
            "That would hold for a weighted mean, $0\\le w\\le1$. For $w>1$ the line goes on beyond both guesses.",
        ),
        "c": Option(
            "The first: with $w>1$ guidance leaves the range, so clipping must be the outermost wrapper.",
            "Right. An extrapolation of two numbers in [−1, 1] may lie anywhere. Clipped last, the guess is an image; "
            "clipped before, part of the difference is thrown away *and* the result is out of range.",
            right=True,
        ),
        "d": Option(
            "Neither: at $w=6$ the guesses are beyond repair.",
            "Clipping the result is crude, but it is what keeps the walk where the network has been trained.",
        ),
    },
)
