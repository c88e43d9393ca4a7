"""The quizzes of notebook 07, "Guidance"."""

import copy
from itertools import count, cycle
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import diffusion as library
from course_utils import metrics
from course_utils.models.classifier import NoisyClassifier
from course_utils.models.unet import ClassPlane, ResidualBlock, UNet, sinusoidal_embedding
from course_utils.sampling import cfg, classifier_gradient, classifier_guided, clipped, ddim, guidance_interval, last

from ..quizzes.declarations import Case, Fixture, Misconception, Option, Tolerance, Unfit, concept, fixture, quiz
from ..quizzes.drawing import SIGMAS, as_often, drawn, from_call_to_call, off, repeated
from ..quizzes.raw import Array

CLASSES = 3

# ---------------------------------------------------------------------------------------------------- inputs for cases


class _Labelled(nn.Module):
    """A small network of images, steps and labels, in which every label, "any" among them, has a row of its own.

    Without labels it takes them all for "any".
    """

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.label = nn.Embedding(classes + 1, channels)

    def forward(self, x, t, y=None):
        y = torch.full_like(t, self.label.num_embeddings - 1) if y is None else y
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


@fixture("guidance/sample")
def _a_sampler(size: int = 4, seed: int = 0):
    """(strength, seed) → images, another number for each pair."""
    return lambda w, seed: torch.linspace(0.1, 1, size).mul(3 * w + seed).sin() + 0.1 * seed


@fixture("guidance/score")
def _a_score(seed: int = 0):
    """Images → two floats."""
    return lambda images: (images.square().mean().item(), images.std().item())


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


# ----------------------------------------------------------------------------------------- 7.1 · a class in the network


class _ClassUNet(UNet):
    def __init__(self, shape, num_classes, widths=(32, 64)):
        super().__init__(shape, widths)
        self.any_class, self.classes = num_classes, nn.Embedding(num_classes + 1, 4 * widths[0])

    def embed(self, t, y=None):
        y = torch.full_like(t, self.any_class) if y is None else y
        return F.silu(self.joined(self.time(sinusoidal_embedding(t)), self.classes(y)))

    def joined(self, of_step, of_class):
        return of_step + of_class


def _try_unet(answer, shape, num_classes, widths, x, t, y):
    """A network of the answer's with known weights: what it says, told and not told, and what its own numbers learn."""
    model = answer(shape, num_classes, widths)
    if model is None:
        return None
    plain = {name: weight.shape for name, weight in UNet(shape, widths).named_parameters()}
    own = [weight for name, weight in model.named_parameters() if name not in plain]
    size = 4 * widths[0]
    if len(own) != 1 or own[0].numel() != (num_classes + 1) * size:
        return {"numbers": sum(weight.numel() for weight in own)}
    rng, across = torch.Generator().manual_seed(5), own[0].shape[0] != num_classes + 1
    with torch.no_grad():
        for name in sorted(plain):
            model.get_parameter(name).copy_(0.3 * torch.randn(plain[name], generator=rng))
        table = torch.randn(num_classes + 1, size, generator=rng)
        own[0].copy_((table.T if across else table).reshape(own[0].shape))
    told = model(x, t, y)
    (learns,) = torch.autograd.grad(told.square().sum(), own)
    learns = learns.reshape(size, num_classes + 1).T if across else learns.reshape(num_classes + 1, size)
    return {"told": told, "not told": model(x, t), "learns": learns.contiguous()}


def _about_unet(raw, case: Case) -> dict:
    rows, size = case.args["num_classes"] + 1, 4 * case.args["widths"][0]
    if type(raw) is not dict or set(raw) not in ({"numbers"}, {"told", "not told", "learns"}):
        raise Unfit("expected a U-Net that is called as model(x, t, y), got something else")
    if "numbers" in raw:
        raise Unfit(
            f"expected one table of its own, {rows} rows of {size} numbers for {rows - 1} classes, got "
            f"{raw['numbers']} "
            "numbers beside the plain U-Net's"
        )
    return raw


def _told_classes(rng: torch.Generator) -> list[Case]:
    cases = []
    for shape, classes, widths, b in (((1, 8, 12), 3, (4, 6), 4), ((3, 12, 8), 5, (6,), 3), ((2, 4, 8), 2, (4, 4), 3)):
        x, t = torch.randn(b, *shape, generator=rng), torch.randint(1, 1001, (b,), generator=rng)
        y = (classes + torch.arange(b)) % (classes + 1)  # "any" is among them
        cases.append(Case({"shape": shape, "num_classes": classes, "widths": widths, "x": x, "t": t, "y": y}))
    return cases


class _UNetProduct(_ClassUNet):
    def joined(self, of_step, of_class):
        return of_step * of_class


class _UNetDeaf(_ClassUNet):
    def joined(self, of_step, of_class):
        return of_class


class _UNetAfter(_ClassUNet):
    def embed(self, t, y=None):
        y = torch.full_like(t, self.any_class) if y is None else y
        return F.silu(self.time(sinusoidal_embedding(t))) + self.classes(y)


class _UNetZero(_ClassUNet):
    def embed(self, t, y=None):
        return super().embed(t, torch.zeros_like(t) if y is None else y)


class _UNetUntold(_ClassUNet):
    def embed(self, t, y=None):
        if y is None:
            return F.silu(self.time(sinusoidal_embedding(t)))
        return super().embed(t, y)


quiz(
    "guidance/class-unet",
    points=4,
    minutes=7,
    equation="7.1",
    title="A U-Net that listens",
    reference=_ClassUNet,
    library=(UNet.embed,),
    cases=_told_classes,
    probe=_try_unet,
    measured=_about_unet,
    any_device=False,
    misconceptions=[
        Misconception("a product", _UNetProduct, "(7.1) adds. A product with a row of zeros would silence the step."),
        Misconception(
            "the step lost",
            _UNetDeaf,
            "Your embedding holds the class alone: the network no longer knows how noisy its image is.",
        ),
        Misconception(
            "added after the SiLU",
            _UNetAfter,
            "(7.1) adds to what the small network gives, and the blocks get the SiLU *of the sum*.",
        ),
        Misconception(
            "class 0 when nobody says a label",
            _UNetZero,
            'Without y the class is "any": the last row, number `num_classes`. Row 0 is the first class.',
        ),
        Misconception(
            "no row when nobody says a label",
            _UNetUntold,
            'Without y your network leaves the table out. "Any" has a row like every class, and it is learned.',
        ),
    ],
    hints=[
        "Two methods: one that makes the table, beside all that a UNet has; one that uses it.",
        "`super().__init__(shape, widths)` comes first. A table of learned rows is an `nn.Embedding(rows, size)`.",
        "The size is that of what `self.time(...)` gives: `4 * widths[0]`. In `embed`, y may be None: then make "
        "labels of "
        "t's shape.",
        "What does `F.silu` go around: the step's embedding, or the sum?",
        "`return F.silu(self.time(sinusoidal_embedding(t)) + self.classes(y))`",
    ],
    passed="One table and one plus sign, and every block hears the class: conditioning is cheap where a network "
    "already "
    "listens to the step.",
    explanation="""
    `UNet.forward` calls `self.embed(t, y)` once and hands the result to every block, so overriding that method is
    enough. Labels are numbers of rows; "any" is the row behind the last class.
    """,
)


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
        "Two steps: a dense layer, and a new channel.",
        "`F.linear(e, weight, bias)` is the dense layer: (b, d) becomes (b, h · w).",
        "Reshape that to (b, 1, h, w). Height and width are the last two axes of x.",
        "`torch.cat([x, plane], dim=1)`",
    ],
    passed="A sum speaks to whole channels; a plane can say different things in different places.",
    explanation="""
    The block's convolution then sees, at every pixel, c + 1 numbers instead of c. It may read the class off the plane
    anywhere, and the plane may say different things in different places ("at the bottom, a sole").
    """,
)


class _PlaneBlock(nn.Module):
    def __init__(self, in_channels, out_channels, embedding, size):
        super().__init__()
        self.block = ResidualBlock(in_channels + 1, out_channels, embedding)
        self.dense = nn.Linear(embedding, size[0] * size[1])

    def forward(self, x, e):
        of_step, of_class = self.halves(e)
        return self.block(_plane(x, of_class, self.dense.weight, self.dense.bias), of_step)

    def halves(self, e):
        return e.chunk(2, dim=1)


def _try_block(answer, in_channels, out_channels, embedding, size, x, e):
    """A block of the answer's with known weights, and how many numbers there are beside block and layer."""
    model = answer(in_channels, out_channels, embedding, size)
    if model is None:
        return None
    blocks = [m for m in model.modules() if isinstance(m, ResidualBlock)]
    inside = {id(part) for block in blocks for part in block.modules()}
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and id(m) not in inside]
    count = sum(weight.numel() for weight in model.parameters())
    if len(blocks) != 1 or len(layers) != 1 or layers[0].weight.shape != (size[0] * size[1], embedding):
        return {"parts": (len(blocks), len(layers)), "numbers": count}
    rng = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for part in (blocks[0], layers[0]):
            for _, weight in sorted(part.named_parameters()):
                weight.copy_(0.4 * torch.randn(weight.shape, generator=rng))
    out = model(x, e)
    learns = torch.autograd.grad(out.square().sum(), [layers[0].weight], allow_unused=True)[0]
    return {"out": out, "numbers": count, "learns": torch.zeros(1) if learns is None else learns}


def _about_block(raw, case: Case) -> dict:
    if type(raw) is not dict or "numbers" not in raw:
        raise Unfit("expected a block that is called as block(x, e), got something else")
    if "parts" in raw:
        h, w = case.args["size"]
        raise Unfit(
            f"expected one ResidualBlock and one nn.Linear({case.args['embedding']}, {h * w}), got {raw['parts'][0]} "
            "and "
            f"{raw['parts'][1]}, or a layer of another size"
        )
    return raw


def _blocks(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, c, d, e, size in ((3, 2, 4, 6, (5, 7)), (2, 3, 3, 4, (4, 2)), (1, 4, 2, 5, (3, 6))):
        args = {"in_channels": c, "out_channels": d, "embedding": e, "size": size}
        x, told = torch.randn(b, c, *size, generator=rng), torch.randn(b, 2 * e, generator=rng)
        cases.append(Case(args | {"x": x, "e": told}))
    return cases


class _BlockSwapped(_PlaneBlock):
    def halves(self, e):
        return reversed(e.chunk(2, dim=1))


class _BlockStepTwice(_PlaneBlock):
    def halves(self, e):
        return (e.chunk(2, dim=1)[0],) * 2


class _BlockInterleaved(_PlaneBlock):
    def halves(self, e):
        return e[:, ::2], e[:, 1::2]


class _BlockTurned(_PlaneBlock):
    def forward(self, x, e):
        of_step, of_class = self.halves(e)
        return self.block(_plane_turned(x, of_class, self.dense.weight, self.dense.bias), of_step)


quiz(
    "guidance/plane-block",
    points=3,
    minutes=7,
    equation="7.2",
    title="A block that looks at the class",
    reference=_PlaneBlock,
    library=(ClassPlane,),
    cases=_blocks,
    probe=_try_block,
    measured=_about_block,
    any_device=False,
    misconceptions=[
        Misconception(
            "the halves exchanged",
            _BlockSwapped,
            "The first half of `e` is the step's embedding, the second the class's.",
        ),
        Misconception(
            "the step drawn on the plane", _BlockStepTwice, "The plane is made of the *class's* half of `e`."
        ),
        Misconception(
            "every other number", _BlockInterleaved, "The halves stand side by side: first all of one, then the other."
        ),
        Misconception("height and width exchanged", _BlockTurned, "The plane has `size[0]` rows of `size[1]` pixels."),
    ],
    hints=[
        "Two parts: a `ResidualBlock`, and a dense layer that makes the plane.",
        "The block is given one channel more than the input has. How many does the dense layer put out?",
        "`e.chunk(2, dim=1)` gives both halves. `class_plane` takes a layer's `.weight` and `.bias`.",
        "`return self.block(class_plane(x, of_class, self.plane.weight, self.plane.bias), of_step)`",
    ],
    passed="The block didn't change: it only sees one channel more. That is how a mask, a depth map or a "
    "low-resolution "
    "image gets into a network, too.",
    explanation="""
    The library's U-Net makes its blocks with `PlaneBlock(in_channels, out_channels, embedding, (h, w))` where it is
    given as `conditioning`, and tells each of them both embeddings side by side.
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
    minutes=3,
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
        "Each label has a coin of its own. How do you make an event that happens with probability `share`?",
        "`torch.rand(y.shape, generator=generator, device=y.device)` is below `share` with that probability.",
        "Put `null` where the coin says so, and leave y itself as it is: `torch.where`, or `masked_fill` without the "
        "`_`.",
        "`y.masked_fill(torch.rand(y.shape, generator=generator, device=y.device) < share, null)`",
    ],
    passed="One line of training gives one network two answers for every noisy image. All of 7.7 lives on it.",
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
    Training drops a tenth of the labels. After much training of a large network: what does it answer for the null
    label?
    """,
    options={
        "a": Option(
            "The mean of the ten answers that it gives for the ten classes, each weighted alike.",
            "Nearly; but look at a noisy image of which you can already see that it is a shoe. The classes are no "
            "longer equally likely then, and the best guess weighs them by $p(y\\mid x_t)$.",
        ),
        "b": Option(
            "The best guess of somebody who sees $x_t$ but is not told which of the classes it is of.",
            "Right. Images with the null label are images of all classes, as frequent as in the data. A squared "
            "error is least at their mean, $\\mathbb E[x_0\\mid x_t]$. That is an unconditional model, for free.",
            right=True,
        ),
        "c": Option(
            "An image that belongs to none of the ten classes, for the label says that none was meant.",
            'The label says "not told", not "none". With it come ordinary images of every class, and it never sees any '
            "others.",
        ),
        "d": Option(
            "What the other labels answer, but blurred, for it gets a tenth of the training only.",
            "A tenth of the *labels*, but nearly all of the weights are shared with the other nine tenths. "
            "And the question is where it ends, not how fast.",
        ),
    },
)


# ---------------------------------------------------------------------------------------------- 7.2 · the training loss


class _Hears(nn.Module):
    """A network that remembers what it was asked, and what it said."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.heard = inner, []

    def forward(self, x, t, y=None):
        said = self.inner(x, t) if y is None else self.inner(x, t, y)
        labels = torch.full_like(t, -1) if y is None else y
        self.heard.append(tuple(each.detach().clone() for each in (x, t, labels, said)))
        return said


LOSSES = 30  # calls, and two more from one state of the generator
FROM_1_TO_T, FRESH, V = (
    "one for each image, from 1 to T",
    "standard normal, one for each image",
    "v, a mean over all pixels",
)


def _try_loss(answer, model, x0, y, generator, schedule, null, share):
    """Many losses, what the network was asked for each, and whether a gradient reaches its weights."""
    hears = _Hears(model)
    first = answer(hears, x0, y, generator, schedule, null, share)
    if first is None:
        return None
    flows = bool(isinstance(first, torch.Tensor) and first.requires_grad)
    losses, kept = [first], (x0.clone(), y.clone())
    losses += [answer(hears, *kept, generator, schedule, null, share) for _ in range(LOSSES - 1)]
    state = generator.get_state()
    for _ in range(2):
        generator.set_state(state)
        losses.append(answer(hears, *kept, generator, schedule, null, share))
    losses = [loss.detach() if isinstance(loss, torch.Tensor) else loss for loss in losses]
    return {"losses": losses, "heard": hears.heard, "flows": flows}


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array.data))


def _draws(heard: list, images: list, schedule: library.Schedule) -> tuple[str, str, list]:
    """What is true of the steps and of the noise that a network was shown, in words; and the noise itself."""
    noises, steps = [], []
    for (x_t, t, *_), x0 in zip(heard, images):
        if not all(isinstance(each, Array) for each in (x_t, t)) or t.dtype != "int64" or t.shape != (len(x0),):
            raise Unfit("expected the network to be asked with steps t, integers (b,)")
        if x_t.shape != tuple(x0.shape):
            raise Unfit("expected the network to be asked about images of the batch's shape")
        t = _tensor(t)
        if t.min() < 1 or t.max() > schedule.T:
            return "some outside of 1..T", FRESH, []
        signal_rate, noise_rate = schedule.rates(t, x0.double())
        noises.append((_tensor(x_t).double() - signal_rate * x0.double()) / noise_rate)
        steps.append(t)
    every = torch.cat(steps)
    step_words = FROM_1_TO_T
    if all(len(t) > 1 and (t == t[0]).all() for t in steps):
        step_words = "one for a whole batch"
    elif all(torch.equal(t, steps[0]) for t in steps[:-2]):
        step_words = "the same in every call"
    elif schedule.T <= 12 and len(every.unique()) < schedule.T:
        step_words = "some never come"
    elif abs(every.double().mean() - (schedule.T + 1) / 2) > 6 * schedule.T / (12 * len(every)) ** 0.5:
        step_words = "not all equally likely"
    return step_words, _noise_in_words(noises), noises


def _noise_in_words(noises: list) -> str:
    z = torch.cat([noise.flatten() for noise in noises])
    if z.abs().max() < 1e-2:
        return "none"
    if len(noises[0]) > 1 and all((noise - noise[:1]).abs().max() < 1e-2 for noise in noises):
        return "one for a whole batch"
    if (noises[0] - noises[1]).abs().max() < 1e-2 and noises[0].shape == noises[1].shape:
        return "the same in every call"
    if abs(z.mean()) > 6 / len(z) ** 0.5 or abs(z.var() - 1) > 6 * (2 / len(z)) ** 0.5:
        return "not standard normal, or not mixed in by (3.4)"
    return FRESH


def _target_in_words(losses: list, heard: list, noises: list, images: list, schedule: library.Schedule) -> str:
    """Which target, and which mean or sum, give these losses."""
    found: dict[str, list[bool]] = {}
    for loss, (_, t, _, said), noise, x0 in zip(losses[:8], heard, noises, images):
        signal_rate, noise_rate = schedule.rates(_tensor(t), x0.double())
        v = signal_rate * noise - noise_rate * x0.double()
        targets = {"v": v, "the noise": noise, "the clean image": x0.double(), "v with its sign turned": -v}
        for target, values in targets.items():
            off_by = _tensor(said).double() - values
            sums = {
                "a mean over all pixels": off_by.square().mean(),
                "a sum over all pixels": off_by.square().sum(),
                "a sum over an image's pixels": off_by.square().flatten(1).sum(1).mean(),
                "without the square": off_by.abs().mean(),
            }
            for words, value in sums.items():
                near = abs(float(loss.data) - float(value)) <= 2e-3 * float(value) + 1e-6
                found.setdefault(f"{target}, {words}", []).append(near)
    return next((words for words, fits in found.items() if all(fits)), "something else")


def _about_losses(raw, case: Case) -> dict:
    if type(raw) is not dict or set(raw) != {"losses", "heard", "flows"}:
        raise Unfit("expected a loss")
    if any(not isinstance(loss, Array) or loss.shape != () for loss in raw["losses"]):
        raise Unfit("expected a loss, a tensor with one number, got something else")
    if len(raw["heard"]) != LOSSES + 2:
        raise Unfit(f"expected the network to be asked once for a loss, got {len(raw['heard'])} times for {LOSSES + 2}")
    schedule, x0, y = case.args["schedule"].build(), case.args["x0"], case.args["y"].numpy()
    steps, noise, noises = _draws(raw["heard"], [x0] * (LOSSES + 2), schedule)
    right = {"labels": GONE, "how the labels of a batch go": ALONE, "how many labels go": SHARE, "the target": V}
    right["all chance is the generator's"] = True
    about = {"steps": steps, "noise": noise} | right | {"a gradient reaches the network": raw["flows"]}
    if (steps, noise) != (FROM_1_TO_T, FRESH):
        return about
    labels = np.stack([heard[2].data for heard in raw["heard"]])
    share, null = case.args["share"], case.args["null"]
    gone = labels != y
    about["labels"] = _becomes(labels[gone], null)
    if 0 < gone.mean() < 1 and (gone == gone[:, :1]).all():
        about["how the labels of a batch go"] = "all or none"
    if about["labels"] == GONE and 0 < share < 1:
        about["how many labels go"] = _how_many(labels[:LOSSES] == null, share)
    elif about["labels"] == GONE:
        about["how many labels go"] = (
            SHARE if gone.mean() == share else "too few" if gone.mean() < share else "too many"
        )
    about["the target"] = _target_in_words(raw["losses"], raw["heard"], noises, [x0] * (LOSSES + 2), schedule)
    one, other = raw["heard"][-2:]
    about["all chance is the generator's"] = all(np.array_equal(a.data, b.data) for a, b in zip(one, other))
    return about


def _labelled_batches(rng: torch.Generator) -> list[Case]:
    cases = []
    for seed, (b, shape, classes, curve, T, share) in enumerate(
        (
            (12, (1, 5, 7), 3, "cosine", 10, 0.35),
            (8, (3, 4, 6), 5, "linear", 1000, 1.0),
            (7, (2, 6, 3), 2, "cosine", 60, 0.0),
        )
    ):
        x0, y = 2 * torch.rand(b, *shape, generator=rng) - 1, torch.randint(classes, (b,), generator=rng)
        drawing = Fixture("generator", seed=int(torch.randint(1000, (), generator=rng)))
        noising = Fixture("guidance/schedule", curve=curve, T=T)
        args = {
            "model": _model("labelled", shape, torch.float32, classes, seed),
            "x0": x0,
            "y": y,
            "generator": drawing,
        }
        args |= {"schedule": noising, "null": classes, "share": share}
        cases.append(Case(args, label=f"many batches of {b} images {shape}, T = {T}, share {share:g}"))
    return cases


def _loss_with(
    *, asked=lambda y, dropped, null: dropped, target="v", mean=lambda error: error.mean(), steps=library.draw_steps,
    noise=lambda x0, g: torch.randn(x0.shape, generator=g, device=x0.device), rates=lambda rates: rates,
):  # fmt: skip
    """The loss by hand, with a place for each of the mistakes that people make."""

    def class_loss(model, x0, y, generator, schedule, null, share):
        t = steps(len(x0), schedule.T, generator, x0.device)
        z = noise(x0, generator)
        labels = asked(y, library.drop_labels(y, null, share, generator), null)
        signal_rate, noise_rate = rates(schedule.rates(t, x0))
        aims = {
            "v": signal_rate * z - noise_rate * x0,
            "noise": z,
            "x0": x0,
            "turned": noise_rate * x0 - signal_rate * z,
        }
        guess = model(signal_rate * x0 + noise_rate * z, t, labels)
        return mean((guess.float() - aims[target]).square())

    return class_loss


def _class_loss(model, x0, y, generator, schedule, null, share):
    t = library.draw_steps(len(x0), schedule.T, generator, x0.device)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    labels = library.drop_labels(y, null, share, generator)
    v = library.prediction_target(schedule, "v", x0, noise, t)
    return (model(schedule.add_noise(x0, t, noise), t, labels).float() - v).square().mean()


_loss_undropped = _loss_with(asked=lambda y, dropped, null: y)


def _one_step_for_all(n, T, generator, device):
    return torch.randint(1, T + 1, (1,), generator=generator, device=device).expand(n)


LOSS_SLIPS = [
    Misconception(
        "class 0 for the null label",
        _loss_with(asked=lambda y, dropped, null: dropped.where(dropped < null, 0)),
        "A dropped label must become `null`. As 0 it is the first class, which now learns all the others' images.",
    ),
    Misconception(
        "always the null label",
        _loss_with(asked=lambda y, dropped, null: torch.full_like(y, null)),
        "No label is left: your network learns nothing about classes. Only a `share` of them goes.",
    ),
    Misconception(
        "the noise for a target",
        _loss_with(target="noise"),
        "This network predicts v: compare with v, not with the noise.",
    ),
    Misconception(
        "the clean image for a target", _loss_with(target="x0"), "This network predicts v: compare with v, not with x₀."
    ),
    Misconception(
        "v with its sign turned", _loss_with(target="turned"), "v = √ᾱ_t · noise − √(1−ᾱ_t) · x₀: the noise first."
    ),
    Misconception("a sum", _loss_with(mean=lambda error: error.sum()), "A mean over batch and pixels is asked for."),
    Misconception(
        "a sum over an image's pixels",
        _loss_with(mean=lambda error: error.flatten(1).sum(1).mean()),
        "You sum over pixels and average over the batch; the mean is over both.",
    ),
    Misconception(
        "one step for the whole batch",
        _loss_with(steps=_one_step_for_all),
        "Each image needs a step of its own: (b,) of them.",
    ),
    Misconception(
        "one noise for the whole batch",
        _loss_with(noise=lambda x0, g: torch.randn(x0[:1].shape, generator=g, device=x0.device).expand_as(x0)),
        "Each image needs a noise of its own.",
    ),
    Misconception(
        "no noise",
        _loss_with(noise=lambda x0, g: 0 * torch.randn(x0.shape, generator=g)),
        "No noise is added to the images.",
    ),
]

quiz(
    "guidance/class-loss",
    points=4,
    minutes=5,
    equation="7.3",
    title="The loss that trains it",
    reference=_class_loss,
    library=(library.diffusion_loss,),
    answered_by=("guidance/somebody-elses-loss",),
    cases=_labelled_batches,
    probe=_try_loss,
    measured=_about_losses,
    any_device=False,
    misconceptions=[
        Misconception("no label dropped", _loss_undropped, "The network is asked with `y`, every label still there."),
        *LOSS_SLIPS,
    ],
    hints=[
        "Four things happen before the network is asked: steps, noise, labels, and the noisy images.",
        "`draw_steps(len(x0), schedule.T, generator, x0.device)` draws the steps, `torch.randn(x0.shape, "
        "generator=generator, device=x0.device)` the noise, your `drop_labels` the labels.",
        "The rates mix both ways: signal · x₀ + noise rate · noise is what the network sees, signal · noise − noise "
        "rate · "
        "x₀ is v, what it should say.",
        "`(model(x_t, t, labels).float() - v).square().mean()`",
    ],
    passed="Training a conditional model is the loss of notebook 05 and one line more.",
    explanation="""
    The labels are dropped inside of the loss, anew for each batch: over the epochs every image is seen with its label
    and without. (`.float()`, since in half precision the network's answer is a coarse number to take a difference of.)
    """,
)

quiz(
    "guidance/somebody-elses-loss",
    points=3,
    minutes=6,
    equation="7.3",
    title="Bug hunt: somebody else's loss",
    bug_hunt=True,
    reference=_class_loss,
    library=(library.diffusion_loss,),
    answered_by=("guidance/class-loss",),
    cases=_labelled_batches,
    probe=_try_loss,
    measured=_about_losses,
    any_device=False,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _loss_undropped,
            "The network still gets every label. Follow `labels` line by line: where does it change?",
        ),
        *LOSS_SLIPS,
    ],
    hints=[
        "The row for $w=1$ is fine, the others aren't. What do they ask for that the first one never does?",
        "$w=0$ asks with the null label alone. How often has his network been trained with it?",
        "Print `labels` before and after the line that should change it.",
        "Methods of a tensor without a `_` at the end give a new tensor and leave the old one as it is.",
        "`labels = labels.masked_fill(lost, null)`",
    ],
    passed="Nothing crashed and the loss was even a little lower. Only samples at w ≠ 1 could tell.",
    explanation="""
    `labels.masked_fill(lost, null)` makes a new tensor, which nobody keeps. The network is always told the class,
    and the row of the table that stands for "any" stays what it was at the start: random numbers.
    """,
)

concept(
    "guidance/which-samples",
    title="Whom did it hit?",
    equation="7.9",
    question="""
    His users sample at $w=1$ and at $w=3$, and judge each image by the classifier of 7.3. What do they notice?
    """,
    options={
        "a": Option(
            "Nothing at any strength, since every label was trained on images of its own class.",
            "Every *class* was. The null label was trained on nothing, and $w=3$ asks for it at every step.",
        ),
        "b": Option(
            "Worse classes at both strengths, since a network that drops no labels overfits to them.",
            "At $w=1$ his images are as good as yours: dropping labels costs the conditional model rather than helps "
            "it.",
        ),
        "c": Option(
            "Images at $w=3$ that ignore the class, since the difference of the answers is zero.",
            "It isn't zero: the answer to random numbers is *some* image, and the difference to it is large and means "
            "nothing.",
        ),
        "d": Option(
            "Nothing at $w=1$; at $w=3$ their eyes see harm, which the judge of 7.3 may well overlook.",
            "Right. $w=1$ never asks for the null label. At $w=3$ the walk moves away from an answer to a label that "
            "means nothing: specks and grain that a classifier may forgive. Look at pictures, at all the strengths "
            "that you ship.",
            right=True,
        ),
    },
)


# ------------------------------------------------------------------------------------------------ 7.3 · what to measure

concept(
    "guidance/one-perfect-bag",
    title="One perfect bag",
    equation="7.4",
    question="""
    A sampler answers each request for a class with one and the same image: the most typical training image of that
    class. Which number gives it away?
    """,
    options={
        "a": Option(
            "Class accuracy: it falls, for a judge would notice that the bags are all one bag.",
            'The judge looks at one image at a time and says "bag", each time rightly. Accuracy is 1.',
        ),
        "b": Option(
            "Both: real images are varied, and whoever lacks variety is less like them.",
            "Accuracy knows nothing of variety. A set of copies of one good image scores 1.",
        ),
        "c": Option(
            "Neither: each image is real, and no measure can tell a real image from a real one.",
            "One image can't be told. A set can: real bags differ from each other.",
        ),
        "d": Option(
            "Coverage: for most of the real images no generated one lies inside of the ball.",
            "Right. Ten images are neighbours to few. Fidelity alone can always be had by giving up diversity, so "
            "never "
            "report one without the other.",
            right=True,
        ),
    },
)


def _two_heaps(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, m, d, k in ((40, 30, 4, 5), (25, 60, 3, 1), (30, 7, 6, 3), (50, 50, 2, 8)):
        real = torch.randn(n, d, generator=rng, dtype=torch.float64)
        generated = 0.8 * torch.randn(m, d, generator=rng, dtype=torch.float64) + 0.4
        cases.append(Case({"real": real, "generated": generated, "k": k}))
    return cases


def _coverage_with(*, skip_itself=True, of=lambda near: near.any(1), reach_of="real"):
    def coverage(real, generated, k=5):
        between = torch.cdist(real, real) if reach_of == "real" else torch.cdist(real, generated)
        place = min(k if skip_itself and reach_of == "real" else k - 1, between.shape[1] - 1)
        reach = between.sort(dim=1).values[:, place : place + 1]
        return of(torch.cdist(real, generated) <= reach).double().mean().item()

    return coverage


def _coverage_precision(real, generated, k=5):
    """Generated images inside of any real one's ball."""
    reach = torch.cdist(real, real).sort(dim=1).values[:, k : k + 1]
    return (torch.cdist(real, generated) <= reach).any(0).double().mean().item()


def _coverage_recall(real, generated, k=5):
    """Balls around generated images."""
    k = min(k, len(generated) - 1)
    reach = torch.cdist(generated, generated).sort(dim=1).values[:, k]
    return (torch.cdist(real, generated) <= reach).any(1).double().mean().item()


quiz(
    "guidance/coverage",
    points=3,
    minutes=5,
    equation="7.4",
    title="Is everything there?",
    reference=metrics.coverage,
    cases=_two_heaps,
    any_device=False,
    misconceptions=[
        Misconception(
            "counts itself",
            _coverage_with(skip_itself=False),
            "The nearest real image to each real image is itself, at distance 0. The k-th nearest *other* one comes "
            "one "
            "place later.",
        ),
        Misconception(
            "the share of pairs",
            _coverage_with(of=lambda near: near),
            "You average over all pairs. A ball counts once, whether one generated image is in it or many.",
        ),
        Misconception(
            "the share of generated images",
            _coverage_precision,
            "You ask which *generated* images lie in some ball: that is precision, and one perfect bag gets a 1. Ask "
            "which "
            "balls hold one.",
        ),
        Misconception(
            "balls around generated images",
            _coverage_recall,
            "Your balls stand around generated images. (7.4) puts them around real ones, which no sampler can widen.",
        ),
    ],
    hints=[
        "Two numbers for each real image: how far its ball reaches, and how far the nearest generated image is.",
        "`torch.cdist(real, real)` gives all distances among real images. Sort each row: what stands first in it?",
        "Column k of the sorted rows is the reach, since column 0 is the image itself. The nearest generated image is "
        "a "
        "`.min(dim=1).values`.",
        "`return (nearest <= reach).double().mean().item()`",
    ],
    passed="The balls belong to the data, so no sampler can make them wider: what is missing shows.",
    explanation="""
    Precision asks whether generated images lie near real ones; coverage asks whether real ones have generated images
    nearby. Copies of one image score 1 in the first and nearly 0 in the second.
    """,
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
    minutes=6,
    equation="7.7",
    title="The gradient of a classifier",
    reference=classifier_gradient,
    library=(classifier_guided,),
    cases=_seen_by_a_classifier,
    probe=_as_a_sampler_calls,
    measured=_with_gradients_left_off,
    misconceptions=GRADIENTS,
    hints=[
        "One backward pass through the classifier, to its *input*. What must be told to record it?",
        "Inside `with torch.enable_grad():` make a copy that wants a gradient: `x = x_t.detach().requires_grad_()`.",
        "`classifier(x, t).log_softmax(1)` is ln p of every class, (b, classes). `[torch.arange(len(y)), y]` takes "
        "one of each row.",
        "autograd needs one number: the sum over the batch. `torch.autograd.grad(of_y.sum(), x)` gives a tuple of one.",
    ],
    passed="A classifier, run backwards to its input, says how an image must change to be more of a class.",
    explanation="""
    The sum is a trick, and an exact one: an image's pixels occur in one term of it only, so the gradient of the sum
    with respect to that image is the gradient of its own ln p. `torch.autograd.grad` leaves the classifier's
    weights alone, where `.backward()` would fill their `.grad`.
    """,
)

concept(
    "guidance/why-noisy",
    title="A classifier that has never seen noise",
    equation="7.5",
    question="""
    An excellent classifier of clean images is at hand. Why train another one, on noisy images, for classifier guidance?
    """,
    options={
        "a": Option(
            "At most steps $x_t$ is mostly noise, so the clean one can only guess.",
            "Right. The walk decides what the image will be while the noise is still strong, and that is where a "
            "classifier that never saw noise has nothing to say. The formula asks for $p(y\\mid x_t)$ *at that t*, "
            "which is a different function for each t.",
            right=True,
        ),
        "b": Option(
            "It is too sure of itself: a gradient needs probabilities that are soft.",
            "Soft or not isn't the point: the noisy one is very sure too, where there is little noise. It is a "
            "question of what it was trained on.",
        ),
        "c": Option(
            "It has no input for the step, and a sampler calls it with $x_t$ and with t.",
            "`lambda x, t: classifier(x)` takes care of that. It would even run. Whether it helps is another matter.",
        ),
        "d": Option(
            "It is the judge of 7.3, and any other clean classifier could guide as well.",
            "A judge must not guide, right. But the gradients of another clean classifier are as useless in deep "
            "noise.",
        ),
    },
)


# ------------------------------------------------------------------------------------ 7.5 · a classifier of one's own


def _try_classifier(answer, shape, num_classes, x, t, other):
    """What a network of the answer's says: to a batch, to each image alone, at other steps; and what learns from it.

    All its weights are moved a little, for a last layer that begins with zeros would say nothing.
    """
    model = answer(shape, num_classes)
    if model is None:
        return None
    model.eval()
    rng = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=rng))
    x = x.clone().requires_grad_()
    said = model(x, t)
    of_image, *of_weights = torch.autograd.grad(said.square().sum(), [x, *model.parameters()], allow_unused=True)
    with torch.no_grad():
        one = t[:1].expand(len(t))
        return {
            "said": said.detach(),
            "alone": [model(x[k : k + 1], t[k : k + 1]) for k in range(len(x))],
            "at one step": model(x, one),
            "alone at one step": [model(x[k : k + 1], one[:1]) for k in range(len(x))],
            "at other steps": model(x, other),
            "of other images": model(x.flip(0), t),
            "image moves": of_image if of_image is not None else torch.zeros_like(x),
            "unused": sum(each is None for each in of_weights),
            "weights": sum(weight.numel() for weight in model.parameters()),
        }


def _about_classifier(raw, case: Case) -> dict:
    wanted = (len(case.args["x"]), case.args["num_classes"])
    if type(raw) is not dict or "said" not in raw:
        raise Unfit("expected a network that is called as model(x_t, t), got something else")
    if not isinstance(raw["said"], Array) or raw["said"].shape != wanted:
        got = raw["said"].shape if isinstance(raw["said"], Array) else "something else"
        raise Unfit(f"expected logits {wanted}, got {got}")
    said, later, others = (raw[name].data for name in ("said", "at other steps", "of other images"))
    size = np.abs(said).max() + 1e-9

    def alike(together, alone):
        alone = np.concatenate([each.data for each in raw[alone]])
        return bool(np.allclose(alone, raw[together].data, rtol=1e-3, atol=1e-4 * size))

    def moves(one, other):
        return bool((np.abs(one - other).max(1) > 1e-5 * size).all())

    return {
        "each image is seen alone": alike("at one step", "alone at one step"),
        "each image has a step of its own": alike("said", "alone"),
        "it hears the step": moves(later, said),
        "it sees the image": moves(others, said) and bool(raw["image moves"].data.any()),
        "it gives logits, not probabilities": not np.allclose(said.sum(1), 1, atol=1e-4),
        "all its weights are used": raw["unused"] == 0,
        "it has weights to learn": raw["weights"] > 20,
    }


def _noisy_images(rng: torch.Generator) -> list[Case]:
    cases = []
    for shape, classes, b in (((1, 8, 12), 3, 4), ((3, 12, 8), 5, 2), ((1, 28, 28), 10, 2)):
        x = torch.randn(b, *shape, generator=rng)
        t = torch.tensor([40, 400, 700, 990])[:b]
        args = {"shape": shape, "num_classes": classes, "x": x, "t": t, "other": t.flip(0) + 3}
        cases.append(Case(args))
    return cases


class _Small(nn.Module):
    """A small classifier of noisy images, with a place for each of the mistakes that people make."""

    def __init__(self, shape, num_classes):
        super().__init__()
        self.conv, self.time = nn.Conv2d(shape[0], 16, 3, stride=2, padding=1), nn.Linear(64, 16)
        self.again, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, num_classes)

    def forward(self, x, t):
        h = self.conv(x) + self.told(t)[:, :, None, None]
        return self.said(self.head(self.again(h.tanh()).tanh().mean((2, 3))))

    def told(self, t):
        return self.time(sinusoidal_embedding(t))

    def said(self, logits):
        return logits


class _SmallDeaf(_Small):
    def told(self, t):
        return 0 * super().told(t)


class _SmallFirst(_Small):
    def told(self, t):
        return super().told(t[:1]).expand(len(t), -1)


class _SmallSoft(_Small):
    def said(self, logits):
        return logits.softmax(1)


class _SmallBatch(_Small):
    def said(self, logits):
        return logits - logits.mean(0)


quiz(
    "guidance/noisy-classifier",
    points=4,
    minutes=9,
    equation="7.6",
    title="A classifier that is told t",
    reference=NoisyClassifier,
    cases=_noisy_images,
    probe=_try_classifier,
    measured=_about_classifier,
    any_device=False,
    misconceptions=[
        Misconception("t not used", _SmallDeaf, "Your network gives the same logits at every step: where does t go?"),
        Misconception(
            "one t for the whole batch",
            _SmallFirst,
            "In training each image has a step of its own: use all of t, not t[0].",
        ),
        Misconception(
            "probabilities",
            _SmallSoft,
            "Leave the softmax out: the cross-entropy takes logits, and so does `classifier_gradient`.",
        ),
        Misconception(
            "images that look at each other",
            _SmallBatch,
            "What you say of an image changes with the others of its batch. (In `eval` mode, where it is used.)",
        ),
    ],
    hints=[
        "A classifier of images: two convolutions of stride 2, which leave a quarter of height and width, then a "
        "linear layer.",
        "`sinusoidal_embedding(t)` is (b, 64). A small network makes of it one number for each channel.",
        "Add those numbers to a layer's output, before a nonlinearity: `h + of_step[:, :, None, None]`.",
        "`return self.head(h.flatten(1))`, with `self.head = nn.Linear(channels * (h // 4) * (w // 4), num_classes)`",
    ],
    passed="One network for all noise levels, since it is told which one it looks at.",
    explanation="""
    The same trick as in 7.1: what holds for the whole image is added to the channels. A network that isn't told t can
    still learn, for it sees how noisy an image is; but it spends capacity on guessing what could be said.
    """,
)


# ------------------------------------------------------------------------------------------------- 7.5 · its training


RATE = 2e-3


def _try_training(answer, classifier, batches, schedule, optimizer, generator):
    """Losses, what the classifier was asked, and its weights afterwards. `optimizer` is a rate for plain descent."""
    heard, inners, outs, state = [], [], [], generator.get_state()
    for _ in range(2):  # twice from the same state: all chance must be the generator's
        inner = copy.deepcopy(classifier)
        hears = _Hears(inner)
        generator.set_state(state)
        descent = torch.optim.SGD(inner.parameters(), lr=optimizer)
        out = answer(hears, iter([(x.clone(), y.clone()) for x, y in batches]), schedule, descent, generator)
        if out is None:
            return None
        heard.append(hears.heard)
        inners.append([weight.detach() for weight in inner.parameters()])
        outs.append(out)
    if type(outs[0]) is list and not all(type(loss) is float for loss in outs[0]):
        outs[0] = "a list of other things than floats"
    return {"losses": outs[0], "heard": heard[0], "again": heard[1], "weights": inners[0]}


def _replayed(case: Case, heard: list, way: str) -> list[torch.Tensor]:
    """The weights after the same questions, if the optimizer is used in this way."""
    classifier, late = case.args["classifier"].build(), None
    descent = torch.optim.SGD(classifier.parameters(), lr=case.args["optimizer"])
    for (x_t, t, *_), (_, y) in zip(heard, case.args["batches"]):
        loss = F.cross_entropy(classifier(_tensor(x_t).float(), _tensor(t)), y)
        if way != "gradients of all steps added up":
            descent.zero_grad()
        if way == "each step goes by the gradient before":
            late, found = torch.autograd.grad(loss, list(classifier.parameters())), late
            for weight, gradient in zip(classifier.parameters(), found or ()):
                weight.grad = gradient
            descent.step()
            continue
        (len(y) * loss if way == "a sum over the batch" else loss).backward()
        if way != "never":
            descent.step()
    return [weight.detach() for weight in classifier.parameters()]


WAYS = (
    "by one step for each batch", "gradients of all steps added up", "each step goes by the gradient before",
    "a sum over the batch", "never",
)  # fmt: skip


def _about_training(raw, case: Case) -> dict:
    images, schedule = [x for x, _ in case.args["batches"]], case.args["schedule"].build()
    if type(raw) is not dict or type(raw.get("losses")) is not list:
        raise Unfit("expected a list of floats, one loss for each batch, got something else (a tensor needs `.item()`)")
    if len(raw["losses"]) != len(images) or len(raw["heard"]) != len(images):
        raise Unfit(
            f"expected one question and one loss for each of {len(images)} batches, got {len(raw['heard'])} and "
            f"{len(raw['losses'])}"
        )
    steps, noise, _ = _draws([*raw["heard"], *raw["heard"][-2:]], [*images, *images[-2:]], schedule)
    about = {"steps": steps, "noise": noise, "how the weights move": WAYS[0], "the losses are the batches'": True}
    about |= {"all chance is the generator's": True}
    got = [_tensor(weight) for weight in raw["weights"]]

    def same(way):
        pairs = zip(got, _replayed(case, raw["heard"], way))
        return all(torch.allclose(a.float(), b, rtol=1e-3, atol=2e-5) for a, b in pairs)

    about["how the weights move"] = next((way for way in WAYS if same(way)), "otherwise")
    if about["how the weights move"] == WAYS[0]:
        classifier = case.args["classifier"].build()
        x_t, t, *_ = (_tensor(each) for each in raw["heard"][0])
        first = F.cross_entropy(classifier(x_t.float(), t), case.args["batches"][0][1])
        about["the losses are the batches'"] = abs(raw["losses"][0] - first.item()) < 1e-3 * (1 + first.item())
    again = zip(raw["heard"], raw["again"])
    about["all chance is the generator's"] = all(np.array_equal(a[0].data, b[0].data) for a, b in again)
    return about


def _streams(rng: torch.Generator) -> list[Case]:
    cases = []
    for seed, (count_, b, shape, classes, curve, T) in enumerate(
        ((30, 7, (1, 5, 7), 3, "cosine", 10), (4, 9, (3, 8, 6), 5, "linear", 1000), (3, 30, (1, 6, 3), 2, "cosine", 60))
    ):
        batches = [
            (2 * torch.rand(b, *shape, generator=rng) - 1, torch.randint(classes, (b,), generator=rng))
            for _ in range(count_)
        ]
        args = {"classifier": _model("scores", shape, torch.float32, classes, seed), "batches": batches}
        args |= {"schedule": Fixture("guidance/schedule", curve=curve, T=T), "optimizer": RATE}
        args |= {"generator": Fixture("generator", seed=int(torch.randint(1000, (), generator=rng)))}
        cases.append(Case(args, label=f"{count_} batches of {b} images {shape}, T = {T}"))
    return cases


def _training_with(
    *, noise_of=lambda x0, g: torch.randn(x0.shape, generator=g),
    step_of=lambda b, T, g: torch.randint(1, T + 1, (b,), generator=g),
    told=lambda t: t, zero=True, late=False, reduction="mean", steps=True,
):  # fmt: skip
    """The loop by hand, with a place for each of the mistakes that people make."""

    def train_classifier(classifier, batches, schedule, optimizer, generator):
        losses = []
        for x0, y in batches:
            t, noise = step_of(len(x0), schedule.T, generator).to(x0.device), noise_of(x0, generator).to(x0.device)
            loss = F.cross_entropy(classifier(schedule.add_noise(x0, t, noise), told(t)), y, reduction=reduction)
            if late:
                gradients = torch.autograd.grad(loss, list(classifier.parameters()))
                optimizer.step()
                for weight, gradient in zip(classifier.parameters(), gradients):
                    weight.grad = gradient
            else:
                if zero:
                    optimizer.zero_grad()
                loss.backward()
                if steps:
                    optimizer.step()
            losses.append(loss.item())
        return losses

    return train_classifier


def _train_classifier(classifier, batches, schedule, optimizer, generator):
    losses = []
    for x0, y in batches:
        t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=x0.device)
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        loss = F.cross_entropy(classifier(schedule.add_noise(x0, t, noise), t), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


quiz(
    "guidance/train-classifier",
    points=4,
    minutes=7,
    equation="7.6",
    title="Its training",
    reference=_train_classifier,
    cases=_streams,
    probe=_try_training,
    measured=_about_training,
    any_device=False,
    misconceptions=[
        Misconception(
            "gradients added up",
            _training_with(zero=False),
            "`backward` *adds* to the gradients that are there: without `optimizer.zero_grad()` every step goes by all "
            "gradients so far.",
        ),
        Misconception(
            "step before backward",
            _training_with(late=True),
            "Each step goes by the gradient of the batch before: `loss.backward()` comes first, then "
            "`optimizer.step()`.",
        ),
        Misconception("no step", _training_with(steps=False), "The weights never move: `optimizer.step()`."),
        Misconception(
            "no noise",
            _training_with(noise_of=lambda x0, g: 0 * torch.randn(x0.shape, generator=g)),
            "It is trained on images that are darkened, but not noisy.",
        ),
        Misconception(
            "one step for the whole batch",
            _training_with(step_of=lambda b, T, g: torch.randint(1, T + 1, (1,), generator=g).expand(b)),
            "Each image needs a step of its own: `(len(x0),)` of them.",
        ),
        Misconception(
            "one noise for the whole batch",
            _training_with(noise_of=lambda x0, g: torch.randn(x0[:1].shape, generator=g).expand_as(x0)),
            "Each image needs a noise of its own.",
        ),
        Misconception(
            "a sum over the batch", _training_with(reduction="sum"), "(7.6) is a mean over the images of a batch."
        ),
    ],
    hints=[
        "For each batch: draw steps and noise, make it noisy, ask, measure, and then the three lines of every "
        "training.",
        "`torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=x0.device)` draws the steps; the "
        "noise "
        "has the shape of x0.",
        "The classifier is asked with `schedule.add_noise(x0, t, noise)` *and* with `t`. `F.cross_entropy(logits, y)` "
        "is a "
        "mean of −ln p.",
        "`optimizer.zero_grad(); loss.backward(); optimizer.step(); losses.append(loss.item())`",
    ],
    passed="Ten lines train everything from a line to a language model; what differs is the loss in the middle.",
    explanation="""
    `.item()` keeps a number. A list of tensors would keep each batch's graph alive with it.
    """,
)


# ------------------------------------------------------------------------------------------- 7.6 · led by a classifier


def _as_walked(answer, x_t, t, y, **made_of):
    """A wrapper is made, and called as a sampler does: gradients off."""
    with torch.no_grad():
        denoise = answer(**made_of)
        return None if denoise is None else denoise(x_t, t, y)


def _led(rng: torch.Generator) -> list[Case]:
    cases = []
    curves, lengths = ("cosine", "linear", "cosine", "quadratic", "linear"), (50, 1000, 10, 20, 50)
    batches, scales = (*BATCHES, BATCHES[0]), (3.5, -2.0, 0.0, 10.0, 0.5)
    for seed, ((b, shape, dtype), curve, T, scale) in enumerate(zip(batches, curves, lengths, scales, strict=True)):
        x_t, t, y = _noisy(rng, b, shape, dtype, T)
        t = t.clamp(max=max(1, 9 * T // 10))  # at the very end ᾱ is all but 0, and rounding counts
        args = {
            "denoise": _model("labelled", shape, dtype, CLASSES, seed),
            "schedule": Fixture("guidance/schedule", curve=curve, T=T),
            "classifier": _model("scores", shape, dtype, CLASSES, seed),
            "scale": scale,
        }
        cases.append(Case(args | {"x_t": x_t, "t": t, "y": y}))
    return cases


def _led_with(
    factor=lambda signal, noise: noise.square() / signal, gradient=classifier_gradient, told=False, scaled=True
):
    """(7.8), with a place for each of the mistakes that people make."""

    def with_classifier(denoise, schedule, classifier, scale):
        def guided(x_t, t, y):
            x0 = denoise(x_t, t, y) if told else denoise(x_t, t)
            return x0 + factor(*schedule.rates(t, x_t)) * (scale if scaled else 1.0) * gradient(classifier, x_t, t, y)

        return guided

    return with_classifier


LED_SLIPS = [
    Misconception(
        "away from the class",
        _led_with(lambda signal, noise: -noise.square() / signal),
        "The score is *minus* ε̂ over √(1−ᾱ_t): to raise the score, take away from the noise; what is taken from the "
        "noise is given to the image.",
    ),
    Misconception(
        "the formula for the noise, used on the guess",
        _led_with(lambda signal, noise: -noise),
        "(7.7) changes the *noise*. Your denoiser speaks of x̂₀: go to the noise first (`predict_noise`) and come back "
        "(`predict_x0`).",
    ),
    Misconception(
        "a rate left out on the way back",
        _led_with(lambda signal, noise: noise.square()),
        "From a noise back to a clean guess one divides by √ᾱ_t.",
    ),
    Misconception(
        "√(1 − ᾱ_t) once instead of twice",
        _led_with(lambda signal, noise: noise / signal),
        "One √(1−ᾱ_t) makes a noise of a score; the way from the noise to x̂₀ brings another.",
    ),
    Misconception(
        "the factors turned over",
        _led_with(lambda signal, noise: signal.square() / noise),
        "You exchanged √ᾱ_t, the rate of the image, and √(1−ᾱ_t), the rate of the noise.",
    ),
    Misconception(
        "the scale not used", _led_with(scaled=False), "That is right for s = 1 alone: `scale` multiplies the gradient."
    ),
    Misconception(
        "the denoiser told the class",
        _led_with(told=True),
        "The denoiser is asked without y: here it knows no classes, and only the classifier leads.",
    ),
    Misconception(
        "downhill, and the mean over the batch",
        _led_with(gradient=lambda c, x, t, y: -_gradient_of_the_mean(c, x, t, y)),
        "`F.cross_entropy` is the *mean* of −ln p: wrong sign, and divided by the size of the batch.",
    ),
]
_led_by_the_mean = _led_with(gradient=lambda c, x, t, y: _gradient_of_the_mean(c, x, t, y))

quiz(
    "guidance/with-classifier",
    points=4,
    minutes=6,
    equation="7.7",
    title="Led by a classifier",
    reference=classifier_guided,
    cases=_led,
    probe=_as_walked,
    tolerance=Tolerance(1e-3, 1e-4),
    misconceptions=[
        *LED_SLIPS,
        Misconception(
            "the mean over the batch",
            _led_by_the_mean,
            "Each image's arrow is divided by the number of images. Use your `classifier_gradient`.",
        ),
    ],
    hints=[
        "A function in a function: the inner one takes (x_t, t, y), asks `denoise(x_t, t)`, and is returned.",
        "By way of the noise: `predict_noise(schedule, x0, x_t, t)` turns a guess into the noise that it implies, "
        '`predict_x0(schedule, "noise", noise, x_t, t)` turns it back.',
        "Between the two comes (7.7): take `noise_rate * scale * uphill` away from the noise. `schedule.rates(t, "
        "x_t)` gives "
        "both rates.",
        '`return predict_x0(schedule, "noise", noise - noise_rate * scale * uphill, x_t, t)`',
    ],
    passed="A denoiser goes in and a denoiser comes out, so it works with every sampler you have, and will have.",
    explanation="""
    From ∇ ln p(x_t) = −ε̂/√(1−ᾱ_t): add s · ∇ ln p(y|x_t) to the score, multiply everything by −√(1−ᾱ_t). In x̂₀ the
    change is divided by −√ᾱ_t and multiplied by √(1−ᾱ_t) once more: (7.8).
    """,
)

quiz(
    "guidance/somebody-elses-guide",
    points=3,
    minutes=6,
    equation="7.7",
    title="Bug hunt: somebody else's guide",
    bug_hunt=True,
    reference=classifier_guided,
    cases=_led,
    probe=_as_walked,
    tolerance=Tolerance(1e-3, 1e-4),
    misconceptions=[
        Misconception(
            "as it was handed out",
            _led_by_the_mean,
            "It still depends on the company. Which line looks at several images at once?",
        ),
        *LED_SLIPS,
    ],
    hints=[
        "Compare the rows: where are the wishes obeyed, and where are they hardly heard?",
        "Sixty images at a time are led more weakly than two. Which line could know how many there are?",
        "What does `F.cross_entropy` do with the losses of a batch, unless it is told otherwise?",
        '`minus_log_p = F.cross_entropy(logits, y, reduction="sum")`',
    ],
    passed="For one image at a time it was right to the last digit: test with batches of several sizes.",
    explanation="""
    A loss is a mean so that the learning rate doesn't depend on the batch. Here nothing is learned: each image wants
    the gradient of its own ln p, and the mean divides it by the size of the batch.
    """,
)

concept(
    "guidance/what-a-batch-does",
    title="What it does to the samples",
    equation="7.7",
    question="""
    Someone tunes $s$ with this guide on batches of 8, finds $s=10$ best, and then draws 64 images at a time. What comes
    out?
    """,
    options={
        "a": Option(
            "The same images: a mean over the batch only averages out the noise of the gradients.",
            "Nothing is averaged out: each image's pixels occur in one term of the mean only, which is divided by 64 "
            "instead of 8.",
        ),
        "b": Option(
            "Images more alike: each of them is pulled along by the classes of all the others.",
            "An image's pixels occur in its own term of the mean alone. The others change the length of its arrow, not "
            "where it points.",
        ),
        "c": Option(
            "Images that obey less, as if $s$ were only 1.25: the class is missed more often.",
            "Right: $10\\cdot8/64$. Nothing crashes, and the images look fine, only often of another class. That is "
            "how "
            "a guidance scale comes to depend on a batch size.",
            right=True,
        ),
        "d": Option(
            "Images with too much contrast, as if $s$ were 80: the class is exaggerated.",
            "It goes the other way: the more images, the smaller each one's share of the mean.",
        ),
    },
)


# ----------------------------------------------------------------------------------------- 7.7 · without a classifier


def _free_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    strengths = (3.0, 7.5, 0.0, 1.0, 0.5, 2.0, -1.5)
    for seed, (b, shape, dtype), classes, w in zip(count(), cycle(BATCHES), cycle(SEVERAL_CLASSES), strengths):
        x_t, t, y = _noisy(rng, b, shape, dtype, classes=classes)
        denoise = _model("labelled", shape, dtype, classes, seed)
        cases.append(Case({"denoise": denoise, "w": w, "null": classes, "x_t": x_t, "t": t, "y": y}))
    return cases


def _free_with(formula, null_of=lambda null: null):
    """Two guesses combined by a formula of (of_any, of_y, w)."""

    def classifier_free(denoise, w, null):
        def guided(x_t, t, y):
            return formula(denoise(x_t, t, torch.full_like(y, null_of(null))), denoise(x_t, t, y), w)

        return guided

    return classifier_free


def _free(of_any, of_y, w):
    return of_any + w * (of_y - of_any)


quiz(
    "guidance/classifier-free",
    points=4,
    minutes=5,
    equation="7.9",
    title="Without a classifier",
    reference=cfg,
    cases=_free_cases,
    probe=_as_walked,
    misconceptions=[
        Misconception(
            "the other convention",
            _free_with(lambda of_any, of_y, w: of_y + w * (of_y - of_any)),
            "You start from the *conditional* guess, so that w = 0 is unguided: the convention of the paper. Here w "
            'counts from the guess for "any", and w = 1 is unguided.',
        ),
        Misconception(
            "the roles exchanged",
            _free_with(lambda of_any, of_y, w: of_y + w * (of_any - of_y)),
            'You go from the class to "any": w = 0 must be the guess for "any", w = 1 that for the class.',
        ),
        Misconception(
            "only the difference",
            _free_with(lambda of_any, of_y, w: w * (of_y - of_any)),
            "The difference is a direction. Where does the walk start?",
        ),
        Misconception(
            "a product instead of a sum",
            _free_with(lambda of_any, of_y, w: of_any * w * (of_y - of_any)),
            "A direction is *added*: x̂_any + w · (x̂_y − x̂_any).",
        ),
        Misconception(
            "w times the whole guess",
            _free_with(lambda of_any, of_y, w: of_any + w * of_y),
            "w multiplies the difference of the guesses; otherwise their sum of weights isn't 1, and images get "
            "brighter.",
        ),
        Misconception(
            "clipped",
            _free_with(lambda of_any, of_y, w: _free(of_any, of_y, w).clamp(-1, 1)),
            "Right, and then clipped. That comes in 7.8: don't do it here.",
        ),
        Misconception(
            "clipped too early",
            _free_with(lambda of_any, of_y, w: _free(of_any.clamp(-1, 1), of_y.clamp(-1, 1), w)),
            "The two guesses must not be clipped before they are combined: what clipping takes away is what the "
            "difference is made of.",
        ),
        Misconception(
            'class 0 for "any"',
            _free_with(_free, lambda null: 0),
            "Ask with the label `null`, not with 0, which is a class.",
        ),
        Misconception(
            'the last class for "any"',
            _free_with(_free, lambda null: null - 1),
            "Classes are 0 .. null − 1: null − 1 is the last of them. Ask with the label `null` itself.",
        ),
        Misconception(
            "w not used",
            _free_with(lambda of_any, of_y, w: of_y),
            "That is the guess for the class, which is right for w = 1 alone.",
        ),
        Misconception(
            "away from the class",
            _free_with(lambda of_any, of_y, w: of_any - w * (of_y - of_any)),
            "The sign: w > 0 must lead *to* the class.",
        ),
    ],
    hints=[
        "A function in a function, as in 7.6. The inner one asks the denoiser twice.",
        'For "any" the labels are `torch.full_like(y, null)`.',
        'w = 0 must give the guess for "any", w = 1 that for the class: a straight line through both.',
        "`return of_any + w * (of_y - of_any)`",
    ],
    passed="No second network and no gradient: the network's own two answers hold the classifier.",
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
    minutes=3,
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
        "What does each convention call the conditional model, unguided?",
        "Write the paper's formula, (1 + w′) x̂_y − w′ x̂_any, as x̂_any plus something times (x̂_y − x̂_any).",
        "That something is 1 + w′: so w = 1 + w′, and w′ = w − 1.",
        'First to ours, `w + 1 if source == "paper" else w`; then from ours to what is asked for.',
    ],
    passed='Before you copy a guidance scale from anywhere, ask which of its values means "unguided".',
    explanation="""
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
            "Yes: the score is the right one at every step, so the walk must end in the right place.",
            "It would, if $p(x_t)\\,p(y\\mid x_t)^3$ were what becomes of $p(x_0)\\,p(y\\mid x_0)^3$ under noise. It "
            "isn't: sharpening and adding noise don't commute, unless the exponent is 1.",
        ),
        "b": Option(
            "No: for $w>1$ these densities are not the noised forms of any one density.",
            "Right. At $w=1$ they are ($p(x_t\\mid y)$ for every t), and the walk ends at $p(x_0\\mid y)$. Beyond, "
            "guidance is a useful steering, not a sampler of a density that one could write down. The run below shows "
            "how far apart the means are.",
            right=True,
        ),
        "c": Option(
            "Yes, if the steps are small enough for the errors of the solver to vanish at the end.",
            "Small steps cure the error of the solver. This one stays: the field that is followed isn't the score of a "
            "diffused density.",
        ),
        "d": Option(
            "No: a score times 3 is no score, for densities can't be raised to powers at will.",
            "They can; $3\\nabla\\ln p=\\nabla\\ln p^3$. At each single t that is a score of something.",
        ),
    },
)

# ------------------------------------------------------------------------------------------- 7.8 · clipping comes after

concept(
    "guidance/clip-after",
    title="Which goes around which?",
    equation="7.9",
    question="""
    `clipped` keeps a denoiser's guesses in [−1, 1]. Which keeps *guided* guesses there:
    `clipped(classifier_free(f, 6.0, null))` or `classifier_free(clipped(f), 6.0, null)`?
    """,
    options={
        "a": Option(
            "Both: if one of two wrappers clips, nothing can leave the range.",
            'Try it on two guesses of one pixel, 0.2 for "any" and 0.9 for the class: both are in range, and '
            "$0.2+6\\cdot0.7=4.4$.",
        ),
        "b": Option(
            "The second: both guesses are in range, so what is made of them is, too.",
            "That would hold for a weighted mean, $0\\le w\\le1$. For $w>1$ the line goes on beyond both guesses: "
            "$0.2+6\\cdot0.7=4.4$.",
        ),
        "c": Option(
            "The first: beyond $w=1$ the guided guess lies outside of the two.",
            "Right: 0.2 and 0.9 make $0.2+6\\cdot0.7=4.4$. Clipped last, the guess is an image; clipped before, part "
            "of "
            "the difference is thrown away *and* the result is out of range.",
            right=True,
        ),
        "d": Option(
            "Neither: at $w=6$ guesses lie so far outside that clipping comes too late.",
            "Clipping the result is crude, but it is what keeps the walk where the network has been trained.",
        ),
    },
)


def _ask_for(denoise, schedule, y, w, null, noise, steps):
    return last(ddim(clipped(cfg(denoise, w, null)), schedule, noise, steps, y))


def _wishes(rng: torch.Generator) -> list[Case]:
    cases = []
    for seed, ((b, shape, dtype), classes, w, steps) in enumerate(
        zip(BATCHES, SEVERAL_CLASSES, (6.0, 2.0, 1.0, 4.5), (4, 7, 3, 5))
    ):
        noise, _, y = _noisy(rng, b, shape, dtype, classes=classes)
        args = {"denoise": _model("labelled", shape, dtype, classes, seed), "schedule": Fixture("guidance/schedule")}
        args |= {"y": y, "w": w, "null": classes, "noise": noise, "steps": steps}
        cases.append(Case(args))
    return cases


def _asked_with(wrapper, start=lambda noise: noise, end=lambda x: x, count_=lambda steps: steps):
    def ask_for(denoise, schedule, y, w, null, noise, steps):
        walk = ddim(wrapper(denoise, w, null), schedule, start(noise), count_(steps), y)
        return end(last(walk))

    return ask_for


quiz(
    "guidance/ask-for",
    points=3,
    minutes=4,
    equation="7.9",
    title="Images, please",
    reference=_ask_for,
    library=(clipped,),
    cases=_wishes,
    any_device=False,
    misconceptions=[
        Misconception(
            "clipped before guidance",
            _asked_with(lambda f, w, null: cfg(lambda x, t, y=None: f(x, t, y).clamp(-1, 1), w, null)),
            "You clip the two answers and then extrapolate beyond them. Clip what guidance made of them.",
        ),
        Misconception(
            "only the end clipped",
            _asked_with(cfg, end=lambda x: x.clamp(-1, 1)),
            "You clip the image at the end of the walk. By then every step has gone on from guesses out of range: "
            "clip each "
            "guess.",
        ),
        Misconception("never clipped", _asked_with(cfg), "Guesses leave [−1, 1], and nothing brings them back."),
        Misconception(
            "not guided",
            _asked_with(lambda f, w, null: lambda x, t, y=None: f(x, t, y).clamp(-1, 1)),
            "w isn't used: these are the samples of w = 1.",
        ),
        Misconception(
            "the paper's strength",
            _asked_with(lambda f, w, null: lambda x, t, y=None: cfg(f, w + 1, null)(x, t, y).clamp(-1, 1)),
            "Your w counts as the paper's does: one too much.",
        ),
    ],
    hints=[
        "Two wrappers around each other, and a walk around both.",
        "First `guided = classifier_free(denoise, w, null)`. Then a function of (x_t, t, y) that clips what `guided` "
        "says.",
        "That function is what `ddim` walks with: it asks it at every timestep.",
        "`return last(ddim(in_range, schedule, noise, steps, y))`, where `in_range` gives `guided(x_t, t, "
        "y).clamp(-1, 1)`",
    ],
    passed="Wrappers around wrappers: what goes outermost has the last word at every step.",
    explanation="""
    A denoiser is any function (x_t, t, y) → x̂₀, so a wrapper is a function that takes one and gives one back, and
    their order is the order in which you nest them.
    """,
)


# ---------------------------------------------------------------------------------------------- 7.9 · with error bars


def _sweep(sample, score, strengths, seeds):
    scores = torch.tensor([[score(sample(w, seed)) for seed in seeds] for w in strengths])
    return scores.mean(1), scores.std(1) / len(seeds) ** 0.5


def _sweeps(rng: torch.Generator) -> list[Case]:
    cases = []
    for k, (strengths, seeds) in enumerate(
        (((1.0, 2.5, 8.0), (1, 2, 3)), ((0.5,), (4, 1)), ((3.0, 0.0), (2, 7, 5, 11)))
    ):
        shift = round(torch.rand((), generator=rng).item(), 2)
        args = {"sample": Fixture("guidance/sample", size=3 + k), "score": Fixture("guidance/score")}
        cases.append(Case(args | {"strengths": [w + shift for w in strengths], "seeds": list(seeds)}))
    return cases


def _about_sweep(raw, case: Case) -> dict:
    shape = (len(case.args["strengths"]), 2)
    if type(raw) is not tuple or len(raw) != 2 or not all(isinstance(each, Array) for each in raw):
        raise Unfit("expected two tensors, the means and their standard errors")
    if any(each.shape != shape for each in raw):
        raise Unfit(f"expected two tensors of shape {shape}, got {raw[0].shape} and {raw[1].shape}")
    return {name: _tensor(each).double().tolist() for name, each in zip(("the means", "the standard errors"), raw)}


def _swept(error_of, mean_of=lambda scores: scores.mean(1), pairs=None):
    def sweep(sample, score, strengths, seeds):
        scores = torch.tensor([[score(sample(w, seed)) for seed in seeds] for w in strengths])
        return mean_of(scores), error_of(scores, len(seeds))

    return sweep


def _sweep_new_seeds(sample, score, strengths, seeds):
    """Other seeds for every strength."""
    scores = [[score(sample(w, seed + k)) for seed in seeds] for k, w in enumerate(strengths)]
    scores = torch.tensor(scores)
    return scores.mean(1), scores.std(1) / len(seeds) ** 0.5


quiz(
    "guidance/sweep",
    points=3,
    minutes=4,
    title="Turn the knob, with error bars",
    reference=_sweep,
    cases=_sweeps,
    measured=_about_sweep,
    any_device=False,
    tolerance=1e-3,
    misconceptions=[
        Misconception(
            "the spread for the error",
            _swept(lambda scores, n: scores.std(1)),
            "That is how far single seeds lie apart. Their *mean* is surer, by the root of how many there are.",
        ),
        Misconception(
            "divided by the number of seeds",
            _swept(lambda scores, n: scores.std(1) / n),
            "The error of a mean falls with the *root* of the number of seeds.",
        ),
        Misconception(
            "n where n − 1 belongs",
            _swept(lambda scores, n: scores.std(1, correction=0) / n**0.5),
            "The spread is estimated about the sample's own mean, so divide by n − 1, as `.std()` does by itself. "
            "With three "
            "seeds that is a fifth.",
        ),
        Misconception(
            "variances",
            _swept(lambda scores, n: scores.var(1) / n),
            "That is the variance of the mean: take its root.",
        ),
        Misconception(
            "other seeds for every strength",
            _sweep_new_seeds,
            "Every strength is drawn from the *same* seeds: then what differs is the strength, not the noise.",
        ),
    ],
    hints=[
        "Two loops: over strengths, and within over seeds. Each gives a pair of numbers.",
        "A tensor of all of them is (strengths, seeds, 2). Over which axis do means run?",
        "`.std(dim=1)` is the spread of single seeds. The mean of n of them is surer by √n.",
        "`return scores.mean(dim=1), scores.std(dim=1) / len(seeds) ** 0.5`",
    ],
    passed="A curve with error bars can say that two points are the same. One without can't.",
    explanation="""
    The same seeds at all strengths: noise that is bad luck at one is bad luck at all, and differences between strengths
    are surer than the bars say.
    """,
)


def _confusion(asked, seen, classes):
    table = torch.zeros(classes, classes)
    table.index_put_((asked, seen), torch.ones(len(asked)), accumulate=True)
    return table / table.sum(1, keepdim=True)


def _judged(rng: torch.Generator) -> list[Case]:
    cases = []
    for classes, n in ((3, 20), (5, 60), (2, 7)):
        asked = torch.cat([torch.arange(classes), torch.randint(classes, (n - classes,), generator=rng)])
        seen = torch.where(torch.rand(n, generator=rng) < 0.6, asked, torch.randint(classes, (n,), generator=rng))
        cases.append(Case({"asked": asked, "seen": seen.clamp(max=max(1, classes - 2)), "classes": classes}))
    return cases


def _confused_with(finish, first=lambda asked, seen: (asked, seen)):
    def confusion(asked, seen, classes):
        table = torch.zeros(classes, classes)
        table.index_put_(first(asked, seen), torch.ones(len(asked)), accumulate=True)
        return finish(table)

    return confusion


quiz(
    "guidance/confusion",
    points=2,
    minutes=5,
    title="Who is taken for whom?",
    reference=_confusion,
    cases=_judged,
    any_device=False,
    misconceptions=[
        Misconception(
            "turned over",
            _confused_with(
                lambda table: table / table.sum(1, keepdim=True).clamp(min=1), lambda asked, seen: (seen, asked)
            ),
            "Rows are what was *asked for*, columns what was seen.",
        ),
        Misconception("counts", _confused_with(lambda table: table), "Shares are asked for: each row adds up to 1."),
        Misconception(
            "shares of all",
            _confused_with(lambda table: table / table.sum()),
            "Each *row* adds up to 1: divide by the number of images of its class.",
        ),
        Misconception(
            "shares of the columns",
            _confused_with(lambda table: table / table.sum(0, keepdim=True).clamp(min=1)),
            "You divide by how often each class was *seen*; divide by how often it was asked for.",
        ),
    ],
    hints=[
        "Count the pairs (asked, seen) in a table of zeros.",
        "A loop over both lists adds 1 at row `asked`, column `seen`.",
        "Then each row is divided by its sum, kept as a column: `keepdim=True`.",
        "`return table / table.sum(dim=1, keepdim=True)`",
    ],
    passed="One number says how often a judge disagrees; this table says about whom.",
    explanation="""
    `table[asked, seen] += 1` would count every pair once only, however often it occurs: `index_put_(...,
    accumulate=True)` counts them all.
    """,
)


# --------------------------------------------------------------------------------------------- 7.10 · only in between


def _guided_between(denoise, w, null, low, high):
    return guidance_interval(cfg(denoise, w, null), denoise, low, high)


def _try_interval(answer, denoise, w, null, low, high, x_t, steps, y):
    """What the guided denoiser says at several steps, and about how many images it asked the network each time."""
    asked = []

    def counting(x, t, y=None):
        asked.append(len(x))
        return denoise(x, t, y)

    with torch.no_grad():
        guided, found = answer(counting, w, null, low, high), []
        if guided is None:
            return None
        for step in steps:
            asked.clear()
            said = guided(x_t, torch.full_like(y, step), y)
            if said is None:
                return None
            found.append((said, sum(asked)))
    return {"guesses": [said for said, _ in found], "images asked about": [count_ for _, count_ in found]}


def _intervals(rng: torch.Generator) -> list[Case]:
    cases = []
    for seed, ((b, shape, dtype), classes, w, (low, high)) in enumerate(
        zip(BATCHES, SEVERAL_CLASSES, (3.0, 7.5, -1.5, 2.0), ((10, 20), (1, 17), (30, 50), (25, 25)))
    ):
        x_t, _, y = _noisy(rng, b, shape, dtype, classes=classes)
        steps = sorted({1, max(1, low - 1), low, (low + high) // 2, high, min(50, high + 1), 50})
        args = {"denoise": _model("labelled", shape, dtype, classes, seed), "w": w, "null": classes}
        cases.append(Case(args | {"low": low, "high": high, "x_t": x_t, "steps": steps, "y": y}))
    return cases


def _between_with(is_inside=lambda t, low, high: low <= t <= high, outside=lambda f, null: f, always=False):
    def guided_between(denoise, w, null, low, high):
        inside, other = cfg(denoise, w, null), outside(denoise, null)

        def guided(x_t, t, y):
            step = int(t[0]) if not t.is_meta else low
            strong = inside(x_t, t, y) if always else None
            if is_inside(step, low, high):
                return strong if always else inside(x_t, t, y)
            return other(x_t, t, y)

        return guided

    return guided_between


quiz(
    "guidance/guided-between",
    points=3,
    minutes=5,
    equation="7.11",
    title="Only in between",
    reference=_guided_between,
    library=(guidance_interval,),
    cases=_intervals,
    probe=_try_interval,
    any_device=False,
    misconceptions=[
        Misconception(
            "the ends left out",
            _between_with(lambda t, low, high: low < t < high),
            "low and high belong to the interval: ≤.",
        ),
        Misconception(
            "guided outside",
            _between_with(lambda t, low, high: not low <= t <= high),
            "The other way round: guided *inside*.",
        ),
        Misconception(
            "no class outside",
            _between_with(outside=lambda f, null: lambda x, t, y: f(x, t, torch.full_like(y, null))),
            "Outside w is 1, the conditional model: ask with y. With the null label it would be w = 0.",
        ),
        Misconception(
            "asked for what isn't used",
            _between_with(always=True),
            "The numbers are right, but outside of the interval the network is asked for three answers where one is "
            "used.",
        ),
        Misconception(
            "the upper end forgotten",
            _between_with(lambda t, low, high: low <= t),
            "Above `high` there is no guidance.",
        ),
    ],
    hints=[
        "Make the guided denoiser once, outside; decide inside which of the two is asked.",
        "All images are at one step: `int(t[0])`.",
        "Outside of the interval w is 1. What does (7.9) say then, and how many answers does it need?",
        "`return inside(x_t, t, y) if low <= int(t[0]) <= high else denoise(x_t, t, y)`",
    ],
    passed="The best place to save is where nothing is lost: outside of the interval one evaluation does.",
    explanation="""
    Kynkäänniemi et al. (2024) choose the interval in noise levels σ = √(1−ᾱ)/√ᾱ; here it is one in timesteps.
    """,
)


def _beats(one, other):
    gains = [(a - b, (da**2 + db**2) ** 0.5) for a, b, da, db in zip(one[:2], other[:2], one[2:], other[2:])]
    return any(gain > bar for gain, bar in gains) and not any(-gain > bar for gain, bar in gains)


def _points(rng: torch.Generator) -> list[Case]:
    """Differences in units of their bar: clearly more, clearly less, or in between, where only one rule is right."""
    cases = []
    for across, upright in (
        (2.0, 0.5), (-2.0, 0.5), (0.5, 2.0), (2.0, -2.0), (2.0, -0.6), (0.7, 0.8), (-0.5, 1.3), (2.0, 3.0), (1.2, -1.2),
        (-1.2, -1.3), (1.2, 0.1), (0.1, -1.2), (0.95, 0.95), (0.9, 0.1), (0.1, 0.95), (0.95, -0.1),
    ):  # fmt: skip
        bars = 0.01 + 0.04 * torch.rand(4, generator=rng, dtype=torch.float64)
        place = 0.6 + 0.3 * torch.rand(2, generator=rng, dtype=torch.float64)
        gains = torch.tensor([across, upright]) * (bars[:2].square() + bars[2:].square()).sqrt()
        one, other = [*(place + gains).tolist(), *bars[:2].tolist()], [*place.tolist(), *bars[2:].tolist()]
        cases.append(Case({"one": one, "other": other}))
    return cases


def _beats_with(verdict, bar_of=lambda da, db: (da**2 + db**2) ** 0.5):
    def beats(one, other):
        gains = [a - b for a, b in zip(one[:2], other[:2])]
        bars = [bar_of(da, db) for da, db in zip(one[2:], other[2:])]
        return verdict([gain / bar for gain, bar in zip(gains, bars)])

    return beats


def _more_and_not_less(gains):
    return max(gains) > 1 and min(gains) >= -1


quiz(
    "guidance/beats",
    points=2,
    minutes=5,
    title="When is a point better?",
    reference=_beats,
    cases=_points,
    any_device=False,
    misconceptions=[
        Misconception(
            "better in both",
            _beats_with(lambda gains: min(gains) > 1),
            "More of one at no loss of the other is better already: the second measure may be a tie.",
        ),
        Misconception(
            "better in any",
            _beats_with(lambda gains: max(gains) > 1),
            "More of one *paid* with the other is a trade, not a gain.",
        ),
        Misconception(
            "without the bars",
            _beats_with(lambda gains: min(gains) > 0),
            "Differences that are smaller than their bar say nothing: that is what bars are for.",
        ),
        Misconception(
            "never the least bit less",
            _beats_with(lambda gains: max(gains) > 1 and min(gains) >= 0),
            "A little less in the other measure, within the bar, is a tie.",
        ),
        Misconception(
            "bars added up",
            _beats_with(_more_and_not_less, lambda da, db: da + db),
            "Errors that know nothing of each other add up as the root of the sum of their squares.",
        ),
    ],
    hints=[
        "For each measure: a difference, and a bar of that difference.",
        "The bar is `(one[k + 2] ** 2 + other[k + 2] ** 2) ** 0.5`, for k = 0 and 1.",
        "Two questions: is it better by more than the bar anywhere? Is it worse by more than the bar anywhere?",
        "`return better and not worse`",
    ],
    passed="Two numbers, two bars, and an honest verdict: most pairs of points are ties.",
    explanation="""
    The same seeds stand behind both points, so the true bar of the difference is smaller yet: this rule is on the safe
    side.
    """,
)


# ------------------------------------------------------------------------------------------------ 7.12 · several wishes


def _wishing_with(formula):
    """Of the guess for any, the guesses for the wishes in a list, and w."""

    def all_wishes(denoise, w, null):
        def guided(x_t, t, wishes):
            of_any = denoise(x_t, t, torch.full_like(wishes[:, 0], null))
            return formula(of_any, [denoise(x_t, t, wishes[:, k]) for k in range(wishes.shape[1])], w)

        return guided

    return all_wishes


def _all_wishes(denoise, w, null):
    def guided(x_t, t, wishes):
        of_any = denoise(x_t, t, torch.full_like(wishes[:, 0], null))
        return of_any + w * sum(denoise(x_t, t, wishes[:, k]) - of_any for k in range(wishes.shape[1]))

    return guided


def _as_wished(answer, denoise, w, null, x_t, t, wishes):
    with torch.no_grad():
        guided = answer(denoise, w, null)
        return None if guided is None else guided(x_t, t, wishes)


def _several_wishes(rng: torch.Generator) -> list[Case]:
    cases = []
    for seed, ((b, shape, dtype), classes, w, m) in enumerate(
        zip(BATCHES, (4, 5, 6, 3), (1.5, 3.0, -0.5, 1.0), (2, 3, 1, 2))
    ):
        x_t, t, y = _noisy(rng, b, shape, dtype, classes=classes)
        wishes = (y[:, None] + torch.arange(m)) % classes
        args = {"denoise": _model("labelled", shape, dtype, classes, seed), "w": w, "null": classes}
        cases.append(Case(args | {"x_t": x_t, "t": t, "wishes": wishes}))
    return cases


quiz(
    "guidance/two-wishes",
    points=3,
    minutes=6,
    equation="7.9",
    title="Several wishes at once",
    reference=_all_wishes,
    cases=_several_wishes,
    probe=_as_wished,
    misconceptions=[
        Misconception(
            "the first wish only",
            _wishing_with(lambda of_any, said, w: of_any + w * (said[0] - of_any)),
            "Every column of `wishes` is a wish: there may be one, two or more.",
        ),
        Misconception(
            "a mean of the wishes",
            _wishing_with(lambda of_any, said, w: of_any + w * (sum(said) / len(said) - of_any)),
            "Each wish has an arrow of its full length: a sum, not a mean.",
        ),
        Misconception(
            "any taken away once",
            _wishing_with(lambda of_any, said, w: of_any + w * (sum(said) - of_any)),
            'An arrow is the guess for a class *less the guess for "any"*: take that away from each.',
        ),
        Misconception(
            "one wish after the other",
            _wishing_with(lambda of_any, said, w: _one_by_one(of_any, said, w)),
            'All arrows start at the guess for "any". Yours start where the last one ended.',
        ),
    ],
    hints=[
        "One guess for any, and one for each column of `wishes`.",
        "`wishes.T` gives the columns in a loop: each is (b,) labels.",
        "Add up the differences to the guess for any; w times their sum comes on top of it.",
        "`return of_any + w * towards`, where `towards` is the sum of all `denoise(x_t, t, y) - of_any`",
    ],
    passed="Arrows add up: for two wishes that know nothing of each other the joint score is their sum, by Bayes' "
    "rule.",
    explanation="""
    p(x | y₁, y₂) is in proportion to p(x) p(y₁|x) p(y₂|x) if the wishes are independent given the image. Classes
    exclude each other, so no clothes satisfy both: what comes out lies between what the network knows.
    """,
)


def _one_by_one(of_any, said, w):
    for each in said:
        of_any = of_any + w * (each - of_any)
    return of_any
