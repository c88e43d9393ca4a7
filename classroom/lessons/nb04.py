"""The quizzes of notebook 04, "The U-Net"."""

from __future__ import annotations

import collections
import functools
import zlib
from types import SimpleNamespace

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_utils.models import tracing
from course_utils.models import unet as library

from ..quizzes.declarations import Case, Fixture, Misconception, Option, Tolerance, concept, fixture, quiz

# ------------------------------------------------------------------------------------------------- classes as answers


def filled(network: nn.Module, *inputs: torch.Tensor) -> nn.Module:
    """The network with new weights, which depend on the kind of a layer and on its turn among those of its kind alone.

    Networks of the same layers in the same order then agree, whatever their parts are called.
    """
    order: list[nn.Module] = []
    holders = [module for module in network.modules() if list(module.parameters(recurse=False))]
    hooks = [module.register_forward_pre_hook(lambda module, given: order.append(module)) for module in holders]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    turns: collections.Counter = collections.Counter()
    for layer in dict.fromkeys(order):
        weights = dict(layer.named_parameters(recurse=False))
        kind = str([(name, tuple(weight.shape)) for name, weight in sorted(weights.items())])
        for name, weight in weights.items():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{kind} {turns[kind]} {name}".encode()))
            numbers = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            fan = max(1, weight[:1].numel()) ** 0.5
            with torch.no_grad():
                weight.copy_(numbers / fan if weight.ndim > 1 else 1.0 * (name == "weight") + 0.3 * numbers)
        turns[kind] += 1
    return network


def _examined(network: nn.Module | None, *inputs: torch.Tensor, zero_start: str = "") -> dict | None:
    """What can be seen of an object: its size, what it does before it has learned anything, and with known weights."""
    if network is None or network.to(inputs[0].device)(*inputs) is None:
        return None  # a `return` was forgotten
    result = {"number of weights": sum(weight.numel() for weight in network.parameters() if weight.requires_grad)}
    with torch.no_grad():
        first = network(*inputs)
        if zero_start == "the embedding":
            result["what another e changes at first"] = network(inputs[0], 1 - inputs[1]) - first
        if zero_start and first.shape == inputs[0].shape:
            result["what it adds at first"] = first - inputs[0]
        if zero_start == "everything":
            result["what it answers at first"] = result.pop("what it adds at first") + inputs[0]
    return result | {"output": filled(network, *inputs)(*inputs)}


def _examine_block(answer, in_channels, out_channels, embedding, x, e):
    return _examined(answer(in_channels, out_channels, embedding), x, e, zero_start="the embedding")


def _examine_attention(answer, channels, heads, x):
    return _examined(answer(channels, heads), x, zero_start="the input")


def _examine_down(answer, width, embedding, before, h, e):
    return _examined(answer(width, embedding, before), h, e)


def _examine_up(answer, width, embedding, after, h, copy, e):
    return _examined(answer(width, embedding, after), h, copy, e)


def _examine_unet(answer, shape, widths, patch, x, t):
    return _examined(answer(tuple(shape), tuple(widths), patch), x, t, zero_start="everything")


# ------------------------------------------------------------------------------------------------- 4.1 · why a U

concept(
    "unet/why-skips",
    minutes=1.5,
    title="What fits through a narrow place?",
    question="""
    A linear bottleneck lets 128 numbers of the 784 pixels of an image pass. The best one keeps most of what varies
    between images of clothes. Now find the best one for images of **pure noise**. How much of new noise will it keep?
    """,
    options={
        "a": Option(
            "About as much as it kept of images, for its 128 directions are now those of the noise.",
            "It has no directions: those found on one half of the noise mean nothing to the other half. The next cell "
            "tries them on noise they were not found on.",
        ),
        "b": Option(
            "About 128/784 of it: in noise no direction is better than another, so each counts the same.",
            "Yes. Images lie near few directions, and noise fills them all. Whoever must name the noise in every pixel "
            "needs a road past the narrow place.",
            right=True,
        ),
        "c": Option(
            "About √(128/784), which is 40 %, because it is standard deviations that add up here.",
            "Variances add up, one per direction. Each of the 784 directions holds 1/784 of the variance of noise.",
        ),
        "d": Option(
            "Nothing at all: noise can't be predicted, so no bottleneck can hold on to any part of it.",
            "It needn't predict, only pass on: 128 numbers hold 128 of the 784 coordinates exactly, and lose the rest.",
        ),
    },
)


def reach(layers):
    """The receptive field after each layer."""
    return [tracing.receptive_field(layers[: count + 1])[0] for count in range(len(layers))]


def _reached(layers, before=True, double=False, kernel=0):
    field, jump, fields = 1, 1, []
    for size, stride in layers:
        jump = jump if before else jump * stride
        field += (size - 1 + kernel) * jump
        jump = jump * stride if before else jump
        if double and stride > 1:
            field *= stride
        fields.append(field)
    return fields


def _layers(rng: torch.Generator) -> list[Case]:
    cases = [Case({"layers": [(3, 1), (3, 2), (5, 1), (3, 2), (3, 1)]})]
    for length in (7, 1, 12):
        kernels, strides = torch.randint(1, 4, (2, length), generator=rng).tolist()
        strides = [stride if place % 2 else 1 for place, stride in enumerate(strides)]
        cases.append(Case({"layers": [(2 * kernel - 1, stride) for kernel, stride in zip(kernels, strides)]}))
    return [*cases, Case({"layers": [(4, 2), (2, 2), (3, 1), (1, 3), (3, 1)]})]


quiz(
    "unet/reach",
    points=3,
    minutes=4,
    equation="4.1",
    title="How far does a pixel see?",
    reference=reach,
    library=(tracing.receptive_field,),
    cases=_layers,
    misconceptions=[
        Misconception(
            "strides forgotten",
            lambda layers: _reached([(kernel, 1) for kernel, _ in layers]),
            "Your fields grow as if no layer had a stride. Behind a stride of 2, neighbours in the picture look at "
            "places that are two pixels apart.",
        ),
        Misconception(
            "a stride counted in its own layer",
            functools.partial(_reached, before=False),
            "A stride says how far apart the *results* of a layer look. Its own kernel still steps over the places of "
            "the layer before.",
        ),
        Misconception(
            "the field itself multiplied",
            functools.partial(_reached, double=True),
            "A stride doesn't widen what one pixel has seen already; it widens the steps of all later kernels.",
        ),
        Misconception(
            "k pixels a layer instead of k − 1",
            functools.partial(_reached, kernel=1),
            "A kernel of k adds k − 1 places: its middle looks where the pixel looked anyway.",
        ),
    ],
    hints=[
        "Take pencil and paper: one pixel behind a 3 × 3 convolution, then behind two of them, then behind a stride.",
        "Two numbers go along with you: how wide one pixel sees, and how far apart two neighbours look. Both begin "
        "at 1.",
        "A kernel of k adds k − 1 steps, each as long as two neighbours *before* this layer are apart. Only then comes "
        "the stride.",
        "`field += (kernel - 1) * jump`, then `jump *= stride`, then append the field.",
    ],
    passed="""
    Full-size layers add a constant; a stride multiplies what every later layer adds. That is why networks that must see
    far go down.
    """,
    explanation="""
    The order of the two lines is the whole point: a stride acts on the layers behind it.
    """,
)

# ------------------------------------------------------------------------------------------------- 4.2 · which step


concept(
    "unet/why-waves",
    minutes=1.5,
    title="Why not just a number?",
    question="""
    The step could enter as one number, $t/1000$, with a linear layer behind it. What would many waves of $t$, fast and
    slow, give to the same layer?
    """,
    options={
        "a": Option(
            "Size: with more inputs it has more weights, so that it can store more about each step.",
            "Repeating t/1000 64 times would bring as many weights, and the layer would still draw straight lines.",
        ),
        "b": Option(
            "Range: waves stay within [−1, 1], and a large t can't drown what else comes in.",
            "They do stay there, but so does t/1000.",
        ),
        "c": Option(
            "Nothing new: a linear layer of one number can already be any function of this number.",
            "A linear layer of one number is a straight line in it. Whatever bends has to be learned behind it.",
        ),
        "d": Option(
            "Shapes: from fast and slow waves it can mix curves that bend wherever it likes to.",
            "Right. It is a Fourier basis: one linear layer can tell t = 20 from t = 40 sharply, as the similarity "
            "curves below show.",
            right=True,
        ),
    },
)


def _steps(rng: torch.Generator) -> list[Case]:
    cases = []
    for t, size in (
        (torch.tensor([1000, 0, 1, *torch.randint(2, 1000, (1,), generator=rng).tolist()]), 8),
        (torch.randint(1, 1001, (5,), generator=rng), 64),
        (1000 * torch.rand(3, generator=rng), 12),
        (100 * torch.rand(1, generator=rng, dtype=torch.float64), 6),
        (torch.randint(1, 1001, (2,), generator=rng).half(), 4),
    ):
        cases.append(Case({"t": t, "size": size}))
    return cases


def _waves(t, size, per=None, longest=10_000.0, first=torch.sin, second=torch.cos):
    t = t if t.dtype == torch.float64 else t.float()
    speed = longest ** (-torch.arange(size // 2, device=t.device, dtype=t.dtype) / (per or size // 2))
    angle = t[:, None] * speed
    return torch.cat([first(angle), second(angle)], dim=1)


def _waves_interleaved(t, size):
    return rearrange(_waves(t, size), "b (two k) -> b (k two)", two=2)


quiz(
    "unet/time-embedding",
    points=3,
    minutes=4,
    equation="4.2",
    title="A step as waves",
    reference=library.sinusoidal_embedding,
    cases=_steps,
    tolerance=Tolerance(1e-3, 1e-3),  # a thousand radians in float32 leave three digits or so
    misconceptions=[
        Misconception(
            "sines and cosines in turn",
            _waves_interleaved,
            "You alternate sin, cos, sin, cos, as Vaswani et al. do. (4.2) puts all sines first, then all cosines. A "
            "network could live with either; weights trained with one can't be used with the other.",
        ),
        Misconception(
            "cosines first",
            lambda t, size: _waves(t, size, first=torch.cos, second=torch.sin),
            "The first half of (4.2) are the sines.",
        ),
        Misconception(
            "divided by size, not by size/2",
            lambda t, size: _waves(t, size, per=size),
            "k runs to size/2 and is divided by size/2, so that the lengths spread over the whole range up to 10,000. "
            "Divided by size, they reach only its square root.",
        ),
        Misconception(
            "divided by size/2 − 1",
            lambda t, size: _waves(t, size, per=size // 2 - 1),
            "That is how the code of the DDPM paper divides, and it works as well; (4.2) divides by size/2, as "
            "Vaswani et al. do.",
        ),
        Misconception(
            "the step divided by 1000 first",
            lambda t, size: _waves(t / 1000, size),
            "t goes in as it is. Divided by 1000, even the fastest wave takes the whole chain for one radian, and "
            "neighbouring steps look the same.",
        ),
    ],
    hints=[
        "size/2 speeds, from 1 down to nearly 1/10,000; every t meets every speed.",
        "A column of t times a row of speeds gives a table. `t[:, None]` is the column.",
        "`speed = 10_000 ** (-torch.arange(size // 2, device=t.device) / (size // 2))`. (Without `device=` it works on "
        "the CPU only.) Mind the type: whole numbers have to become floats first.",
        "`torch.cat([angle.sin(), angle.cos()], dim=1)` with `angle = t[:, None] * speed`.",
    ],
    passed="""
    A number has become a row of clock hands, fast and slow. Moving on in time turns each hand by a fixed angle, so a
    linear layer can compute "a little later".
    """,
    explanation="""
    Each pair (sin, cos) is a clock hand: the first turns once in 6 steps, the last once in tens of thousands. The fast
    hands tell neighbouring steps apart, the slow ones say roughly where in the chain we are. Moving from t to t + s
    turns each hand by a fixed angle, whatever t is; so a linear layer can compute "a little later".
    """,
)

# ------------------------------------------------------------------------------------------------- 4.3 · a block


def _planes_and_groups(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, c, h, w, groups, dtype in (
        (3, 6, 5, 7, 2, torch.float32),
        (1, 4, 3, 2, 4, torch.float32),
        (2, 6, 4, 9, 3, torch.float64),
        (4, 5, 2, 3, 1, torch.float64),
        (2, 3, 2, 2, 3, torch.float64),
    ):
        # From channels with nearly no variance, where the 1e-5 counts, to such with much of it.
        x = torch.randn(b, c, h, w, generator=rng, dtype=dtype) + torch.arange(b)[:, None, None, None]
        x = x * torch.linspace(0.02, 2, c, dtype=dtype)[:, None, None]
        cases.append(Case({"x": x, "groups": groups}, gradients=("x",)))
    return cases


def group_normalise(x, groups):
    """Group normalisation without weights."""
    return F.group_norm(x, groups)


def _normalise_over(x, groups, pattern, correction=0):
    """Normalise over one flat axis after a rearrangement that can be undone."""
    flat = rearrange(x, f"{pattern[0]} -> {pattern[1]}", g=groups)
    mean = flat.mean(-1, keepdim=True)
    var = flat.var(-1, keepdim=True, correction=correction)
    normal = (flat - mean) / (var + 1e-5).sqrt()
    b, c, h, w = x.shape
    return rearrange(normal, f"{pattern[1]} -> {pattern[0]}", g=groups, b=b, h=h, w=w)


def _normal_interleaved(x, groups):
    return _normalise_over(x, groups, ("b (c g) h w", "b g (c h w)"))


def _normal_batch(x, groups):
    return _normalise_over(x, groups, ("b (g c) h w", "g (b c h w)"))


def _normal_unbiased(x, groups):
    return _normalise_over(x, groups, ("b (g c) h w", "b g (c h w)"), correction=1)


def _normal_outside(x, groups):
    flat = x.reshape(len(x), groups, -1)
    std, mean = torch.std_mean(flat, dim=-1, keepdim=True, correction=0)
    return ((flat - mean) / (std + 1e-5)).reshape(x.shape)


quiz(
    "unet/group-norm",
    points=3,
    minutes=4,
    equation="4.3",
    title="Group normalisation",
    reference=group_normalise,
    cases=_planes_and_groups,
    misconceptions=[
        Misconception(
            "statistics over the batch",
            _normal_batch,
            "Mean and variance run over the images of the batch too. Then what one image becomes depends on which "
            "others it is shown with; group norm treats every image by itself.",
        ),
        Misconception(
            "the unbiased variance",
            _normal_unbiased,
            "`var` and `std` divide by m − 1 unless told otherwise: use `correction=0` (or `unbiased=False`).",
        ),
        Misconception(
            "every g-th channel in a group",
            _normal_interleaved,
            "A group is a run of neighbouring channels, `(groups c)`; yours takes every groups-th one, `(c groups)`.",
        ),
        Misconception(
            "each channel by itself",
            lambda x, groups: F.instance_norm(x),
            "That is instance normalisation: the mean must run over all channels of the group as well as over pixels.",
        ),
        Misconception(
            "all channels together",
            lambda x, groups: F.group_norm(x, 1),
            "That is a single group. Split the channels into `groups` runs first.",
        ),
        Misconception(
            "groups of `groups` channels",
            lambda x, groups: F.group_norm(x, x.shape[1] // groups),
            "`groups` says how many groups there are. You make groups of `groups` channels each.",
        ),
        Misconception(
            "10⁻⁵ outside the root",
            _normal_outside,
            "In (4.3) the 10⁻⁵ is added to the *variance*, under the root. You add it behind the root, to the standard "
            "deviation.",
        ),
    ],
    hints=[
        "Which numbers share one mean? All channels of a group and all their pixels, of one image.",
        "Bring what is averaged together into one axis; then mean and variance are one call each.",
        '`rearrange(x, "b (g c) h w -> b g (c h w)", g=groups)`; then mean and variance over the last axis, '
        "`keepdim=True`.",
        "Divide by `(var + 1e-5).sqrt()` with `var(..., correction=0)`, and rearrange back.",
    ],
    passed="""
    Each image is treated by itself, whatever company it is in: a batch of one and a batch of 64 are normalised alike.
    """,
    explanation="""
    One mean and one variance for each image and group. Nothing depends on the other images, so a batch of 1 (sampling a
    single image) and a batch of 64 (training) are treated alike, and there is nothing to switch at `model.eval()`.
    """,
)


def scale_shift(h, condition):
    """h · (1 + scale) + shift, by channel."""
    return library.scale_shift(h, condition)


def _planes_and_conditions(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, c, h, w, dtype in ((2, 3, 4, 5, torch.float32), (1, 4, 2, 3, torch.float64), (3, 2, 5, 2, torch.float64)):
        args = {"h": torch.randn(b, c, h, w, generator=rng, dtype=dtype)}
        args["condition"] = torch.randn(b, 2 * c, generator=rng, dtype=dtype)
        cases.append(Case(args, gradients=("h", "condition")))
    return cases


def _modulated(h, condition, one=1.0, exchanged=False, interleaved=False):
    pattern = "b (c two) -> two b c 1 1" if interleaved else "b (two c) -> two b c 1 1"
    scale, shift = rearrange(condition, pattern, two=2)
    scale, shift = (shift, scale) if exchanged else (scale, shift)
    return h * (one + scale) + shift


quiz(
    "unet/scale-shift",
    points=2,
    minutes=3,
    equation="4.4",
    title="A fader for every channel",
    reference=scale_shift,
    library=(library.scale_shift,),
    cases=_planes_and_conditions,
    misconceptions=[
        Misconception(
            "the 1 of 1 + scale forgotten",
            functools.partial(_modulated, one=0.0),
            "(4.4) multiplies by 1 + scale, so that a condition of 0 changes nothing. Yours makes everything 0 then.",
        ),
        Misconception(
            "scale and shift exchanged",
            functools.partial(_modulated, exchanged=True),
            "The first half of the condition are the scales, the second half the shifts.",
        ),
        Misconception(
            "scales and shifts in turn",
            functools.partial(_modulated, interleaved=True),
            "All scales come first, then all shifts: `(two c)`, not `(c two)`.",
        ),
        Misconception(
            "the shift scaled as well",
            lambda h, condition: (
                _modulated(h, condition)
                + condition.chunk(2, 1)[0][..., None, None] * condition.chunk(2, 1)[1][..., None, None]
            ),
            "You shift first and scale what comes out, shift and all. In (4.4) the shift is added last.",
        ),
    ],
    hints=[
        "`condition` has two numbers for each channel of each image. Cut it into two pieces of (b, c).",
        "A number per channel must meet all pixels of that channel: it needs two more axes of length 1.",
        "`scale, shift = condition[:, :, None, None].chunk(2, dim=1)`",
        "`return h * (1 + scale) + shift`",
    ],
    passed="""
    With a condition of 0 nothing changes, and the network begins near it: that is what the 1 is for.
    """,
    explanation="""
    At every step the same convolutions become, in effect, other convolutions. Later notebooks tell the class in the
    same way.
    """,
)


def _seed(rng: torch.Generator) -> int:
    """Of a fixture, so that its weights are others in every draw."""
    return int(torch.randint(10_000, (1,), generator=rng))


@fixture("unet/branch")
def _branch(channels: int, seed: int = 0) -> nn.Module:
    """What a layer adds: a bent mixture of channels."""
    return nn.Sequential(nn.Linear(channels, channels, bias=False), nn.Tanh())


@fixture("unet/unit")
def _unit(seed: int = 0) -> nn.Module:
    """A norm without weights, with a mark of its own so that nobody can guess it."""
    return _Unit()


class _Unit(nn.Module):
    def forward(self, x):
        return 1.5 * F.layer_norm(x, x.shape[-1:]) + 0.1


def residual_stack(x, branches, norm, pre):
    """Residual layers behind one another, with the norm on either side."""
    for branch in branches:
        x = x + branch(norm(x)) if pre else norm(x + branch(x))
    return x


def _stacked(x, branches, norm, pre, *, post=None, before=None):
    for branch in branches:
        if pre:
            x = before(x, branch, norm) if before else x + branch(norm(x))
        else:
            x = post(x, branch, norm) if post else norm(x + branch(x))
    return x


def _stacks(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, channels, depth, pre in ((3, 5, 2, True), (2, 4, 3, False), (4, 3, 1, True), (1, 6, 4, False)):
        branches = [Fixture("unet/branch", channels=channels, seed=_seed(rng)) for _ in range(depth)]
        x = torch.randn(n, channels, generator=rng)
        args = {"x": x, "branches": branches, "norm": Fixture("unet/unit"), "pre": pre}
        cases.append(Case(args, gradients=("x",)))
    return cases


quiz(
    "unet/pre-norm",
    points=2,
    minutes=4,
    title="Norm before, or norm behind",
    reference=residual_stack,
    cases=_stacks,
    misconceptions=[
        Misconception(
            "behind the branch alone",
            functools.partial(_stacked, post=lambda x, branch, norm: x + norm(branch(x))),
            "With `pre=False` the norm takes the *sum*, short cut and all. You normalise only what the branch adds.",
        ),
        Misconception(
            "pre-norm on the short cut, too",
            functools.partial(_stacked, before=lambda x, branch, norm: norm(x) + branch(norm(x))),
            "With `pre=True` the norm stands inside the branch only: what is added to is x itself, untouched.",
        ),
        Misconception(
            "the two exchanged",
            lambda x, branches, norm, pre: residual_stack(x, branches, norm, not pre),
            "You do with `pre=True` what is asked for with `pre=False`.",
        ),
        Misconception(
            "all branches of the first input",
            lambda x, branches, norm, pre: functools.reduce(
                lambda h, branch: h + branch(norm(x)) if pre else norm(h + branch(x)), branches, x
            ),
            "Every branch gets the x that came in first. Each layer works on what the layer before it made.",
        ),
    ],
    hints=[
        "One loop over the branches; x becomes what the layer gives.",
        "Pre-norm: the branch sees norm(x), and what it says is added to x itself.",
        "Post-norm: the branch sees x, and the sum is normalised.",
        "`x = x + branch(norm(x)) if pre else norm(x + branch(x))`",
    ],
    passed="""
    The norm sits in the side road, or on the main road where everything has to pass. The next cell shows what that
    means after twenty layers.
    """,
    explanation="""
    He et al. (2016b) moved the norm into the branch; most networks since, U-Nets and transformers alike, keep it there.
    """,
)

concept(
    "unet/clear-road",
    minutes=1.5,
    title="What is left of the input?",
    question="""
    Twenty such layers, one behind the other; what each adds is about as large as what it normalises. How strongly is
    the output still correlated with the input?
    """,
    options={
        "a": Option(
            "Alike in both: a norm only rescales, and a correlation doesn't notice any scale.",
            "Scales matter for what is added next: behind a norm the old part is as small as a part can be, and the "
            "new addition is as large as ever.",
        ),
        "b": Option(
            "More with post-norm: it keeps what is added from growing out of proportion.",
            "It keeps the *sum* from growing, and what it shrinks for that is everything so far, the input first of "
            "all.",
        ),
        "c": Option(
            "More with pre-norm: its short cut never shrinks what came in on the way through.",
            "Right. With additions of variance 1, pre-norm leaves 1/√21 = 0.22, and post-norm, where every layer "
            "divides the old part by √2, 2⁻¹⁰ = 0.001.",
            right=True,
        ),
        "d": Option(
            "Hardly at all in both: twenty additions of the same size drown any first part.",
            "Twenty independent additions of variance 1 make 20 against 1 in variance: a correlation of 0.22 remains, "
            "as long as nothing is divided on the way.",
        ),
    },
)


# ------------------------------------------------------------------------------------------------- the residual block


class _Block(nn.Module):
    """The block by hand, with a place for each of the mistakes that people make."""

    def __init__(self, in_channels, out_channels, embedding, zero=True, **slips):
        super().__init__()
        self.norm1, self.conv1 = library.group_norm(in_channels), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2, self.conv2 = library.group_norm(out_channels), nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.condition, self.slips = nn.Linear(embedding, 2 * out_channels), slips
        same = in_channels == out_channels and not slips.get("always_project")
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        for weight in self.conv2.parameters() if zero else ():
            nn.init.zeros_(weight)

    def forward(self, x, e):
        act, slips = self.slips.get("act", F.silu), self.slips
        h = self.conv1(F.silu(self.norm1(x)))
        if slips.get("before_norm"):
            h = self.norm2(library.scale_shift(h, self.condition(e)))
        else:
            h = library.scale_shift(self.norm2(h), self.condition(0 * e if slips.get("deaf") else e))
        return self.conv2(act(h)) + (0 if slips.get("no_skip") else self.skip(x))


def _block_with(**slips):
    return functools.partial(_Block, **slips)


def _block_inputs(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, in_channels, out_channels, h, w, embedding in ((3, 8, 8, 5, 7, 4), (1, 4, 6, 3, 2, 5), (2, 32, 8, 4, 6, 3)):
        args = {"in_channels": in_channels, "out_channels": out_channels, "embedding": embedding}
        args["x"] = torch.randn(b, in_channels, h, w, generator=rng)
        args["e"] = torch.randn(b, embedding, generator=rng)
        cases.append(Case(args, gradients=("x", "e")))
    return cases


quiz(
    "unet/residual-block",
    points=5,
    minutes=9,
    equation="4.5",
    title="A block of your own",
    reference=library.ResidualBlock,
    probe=_examine_block,
    cases=_block_inputs,
    misconceptions=[
        Misconception(
            "no short cut",
            _block_with(no_skip=True),
            "You return what the convolutions add, without the input: there is no road around them any more.",
        ),
        Misconception(
            "scaled and shifted before the norm",
            _block_with(before_norm=True),
            "The norm comes after your scale and shift and takes most of both out again. Normalise first, then "
            "scale_shift.",
        ),
        Misconception(
            "the last convolution starts at random",
            _block_with(zero=False),
            "At first the block should do nothing but hand its input on: start the second convolution at zero, weights "
            "and bias (`start_at_zero`).",
        ),
        Misconception(
            "the second activation forgotten",
            _block_with(act=lambda h: h),
            "Between scale_shift and the second convolution stands a SiLU, as before the first one.",
        ),
        Misconception(
            "the embedding not used",
            _block_with(deaf=True),
            "Your block gives the same for every e: the step never reaches it.",
        ),
        Misconception(
            "a convolution on every short cut",
            _block_with(always_project=True),
            "Where the number of channels stays the same, the short cut is the input itself (`nn.Identity()`). A 1 × 1 "
            "convolution stands there only where the number changes.",
        ),
    ],
    hints=[
        "In `__init__`: two norms, two convolutions, a linear layer for the embedding, and the short cut. In "
        "`forward`: two times norm, SiLU, convolution; the step comes in after the second norm; the input is added "
        "at the end.",
        "Which sizes? The first norm sees in_channels, the second norm out_channels; the linear layer turns the "
        "embedding into 2 · out_channels numbers, and `padding=1` keeps height and width.",
        "The short cut: `nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()`, "
        "and `self.conv2 = start_at_zero(nn.Conv2d(...))`.",
        "`h = self.conv1(F.silu(self.norm1(x)))`, then `h = scale_shift(self.norm2(h), self.condition(e))`, then "
        "`return self.skip(x) + self.conv2(F.silu(h))`.",
    ],
    passed="""
    Your block begins as the identity and adds what it learns. Every block of your U-Net, from here to the samples at
    the end, is an object of this class.
    """,
    explanation="""
    Norm and activation come *before* each convolution: so the road through the short cut is never normalised or bent,
    and what a block adds stays added.
    """,
)

concept(
    "unet/zero-start",
    minutes=1.5,
    title="Can nothing learn?",
    question="""
    The last convolution of the block starts with weights 0. It is trained by gradient descent, with a loss on what
    comes out of the block. What happens in the first two steps?
    """,
    options={
        "a": Option(
            "The last convolution moves at once, and those before it move from the second step on.",
            "Right. The gradient of a weight is (what comes in) × (what is asked for behind it), and neither is 0 for "
            "the last convolution. Only what lies *before* it waits, for one step. (In a whole U-Net, whose head "
            "starts at 0 as well, everything waits one step more.)",
            right=True,
        ),
        "b": Option(
            "Nothing moves: a weight of 0 has a gradient of 0, and so it stays what it is for ever.",
            "That is true where *two* layers in a row are 0, with no road around them. A single one sees its input and "
            "the gradient from behind. The next cell shows both.",
        ),
        "c": Option(
            "All of them move at once, for the short cut carries the gradient past the zeros.",
            "Past them, yes, to the blocks below. The first convolution of *this* block is reached only through the "
            "second one, which multiplies its gradient by 0.",
        ),
        "d": Option(
            "The last one moves, but equal weights stay equal: all its channels remain the same.",
            "They would if the same came in from every channel. It doesn't: the first convolution starts at random, so "
            "each weight gets a gradient of its own.",
        ),
    },
)


def _deaf_inputs(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, c, h, w, embedding, dtype in (
        (3, 4, 5, 7, 6, torch.float32),
        (1, 2, 6, 3, 4, torch.float64),
        (2, 3, 4, 4, 3, torch.float64),
    ):
        args = {"x": torch.randn(b, c, h, w, generator=rng, dtype=dtype)}
        args["e"] = torch.randn(b, embedding, generator=rng, dtype=dtype)
        args["conv1"], args["conv2"] = (0.3 * torch.randn(c, c, 3, 3, generator=rng, dtype=dtype) for _ in range(2))
        args["step"] = torch.randn(c, embedding, generator=rng, dtype=dtype)
        cases.append(Case(args, gradients=("x", "e", "step", "conv1", "conv2")))
    return cases


def block_with_a_step(x, e, conv1, conv2, step):
    """The corrected block: normalise, then shift by the step."""
    h = F.conv2d(F.silu(F.instance_norm(x)), conv1, padding=1)
    h = F.instance_norm(h) + F.linear(e, step)[:, :, None, None]
    return x + F.conv2d(F.silu(h), conv2, padding=1)


def _deaf_as_handed_out(x, e, conv1, conv2, step):
    h = F.conv2d(F.silu(F.instance_norm(x)), conv1, padding=1)
    h = F.instance_norm(h + F.linear(e, step)[:, :, None, None])
    return x + F.conv2d(F.silu(h), conv2, padding=1)


def _deaf_without_second_norm(x, e, conv1, conv2, step):
    h = F.conv2d(F.silu(F.instance_norm(x)), conv1, padding=1) + F.linear(e, step)[:, :, None, None]
    return x + F.conv2d(F.silu(h), conv2, padding=1)


def _deaf_shift_after_silu(x, e, conv1, conv2, step):
    h = F.conv2d(F.silu(F.instance_norm(x)), conv1, padding=1)
    h = F.silu(F.instance_norm(h)) + F.linear(e, step)[:, :, None, None]
    return x + F.conv2d(h, conv2, padding=1)


quiz(
    "unet/simpler-block",
    points=3,
    minutes=6,
    equation="4.4",
    title="Bug hunt: a simpler block",
    bug_hunt=True,
    reference=block_with_a_step,
    library=(library.ResidualBlock.forward,),
    answered_by=("unet/residual-block",),
    cases=_deaf_inputs,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _deaf_as_handed_out,
            "It still gives the same for every e. If the step is added before the norm: what does a norm that works on "
            "each channel by itself do to a number that was added to the whole channel?",
        ),
        Misconception(
            "the second norm taken out",
            _deaf_without_second_norm,
            "Now the step is heard, but the second norm is gone. Keep both norms and change the order.",
        ),
        Misconception(
            "shifted after the activation",
            _deaf_shift_after_silu,
            "The shift belongs between the norm and the SiLU, so that it decides which pixels the SiLU lets through.",
        ),
    ],
    hints=[
        "Call it with two different e and compare what comes out. Then compare what stands in each line for the two.",
        "The two runs differ in the line with `shift`. Where do they become equal again?",
        "What is the mean of a channel after `normalise`, whatever was added to all of its pixels before?",
        "Normalise h first, then add the shift: `h = normalise(h) + shift`.",
    ],
    passed="""
    A norm behind a shift takes it out again. The test takes a second: does the output change when only t does? Make
    it a habit.
    """,
    explanation="""
    Each channel's mean is subtracted by the norm, and the shift is nothing but a change of that mean: it is removed, up
    to rounding. The gradient of `step` is 0 as well, so training never finds out. A network of such blocks sees
    noise levels only as far as it can guess them from the image.
    """,
)

concept(
    "unet/blind",
    title="What would you see?",
    minutes=1.5,
    question="""
    A whole U-Net is made of the block that you have just repaired, unrepaired, and trained as always. Then it guesses
    the clean image from pure noise, at $t=1000$. What does the guess look like, beside that of a network that hears
    $t$?
    """,
    options={
        "a": Option(
            "Pure noise: not knowing how much of it there is, it can't take any away.",
            "It knows more than you think: 784 noisy pixels say a lot about one number. The measured guesses in the "
            "section on ablations are far from noise.",
        ),
        "b": Option(
            "Just the same: how noisy an image is can be read off its pixels exactly.",
            "Nearly, not exactly; and where the noise is judged too weak, some of it stays. Look at the "
            "measured guesses in the section on ablations.",
        ),
        "c": Option(
            "Half as noisy: it has learned the mean of its answers over all of the steps.",
            "Then it would treat images at t = 100 and at t = 900 alike. The two look so different that it needn't.",
        ),
        "d": Option(
            "Grainier: it judges the noise from the image, and errs a bit.",
            "Right. The noise can be judged from the image, but not exactly (Sun et al. 2025 find many models to lose "
            "little without t). The section on ablations shows and measures it.",
            right=True,
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 4.4 · attention


def attention(q, k, v):
    """Softmax attention."""
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(dim=-1) @ v


def _queries(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, heads, n, m, d, strength, dtype in (
        (2, 3, 5, 7, 4, 1, torch.float32),
        (1, 1, 12, 6, 8, 1, torch.float32),
        (3, 2, 4, 9, 16, 5, torch.float64),  # scores up to 60 or so
        (4, 4, 4, 4, 4, 1, torch.float64),  # pixels that look at one another, and no axis known by its length
    ):
        q = strength * torch.randn(b, heads, n, d, generator=rng, dtype=dtype)
        k, v = torch.randn(2, b, heads, m, d, generator=rng, dtype=dtype)
        k = strength * k
        cases.append(Case({"q": q, "k": k, "v": v}, gradients=("q", "k", "v")))
    return cases


def _weigh(q, k, v, scale, dim=-1):
    return (q @ k.mT * scale).softmax(dim) @ v


quiz(
    "unet/attention",
    points=3,
    minutes=4,
    equation="4.6",
    title="Softmax attention",
    reference=attention,
    library=(library.Attention.gather,),
    cases=_queries,
    misconceptions=[
        Misconception(
            "not divided by √d",
            lambda q, k, v: _weigh(q, k, v, 1.0),
            "The scores aren't divided by √d. A product of two random vectors of d numbers has variance d, and a "
            "softmax of such scores listens to one pixel only.",
        ),
        Misconception(
            "divided by d",
            lambda q, k, v: _weigh(q, k, v, 1 / q.shape[-1]),
            "You divide by d; (4.6) divides by √d, the standard deviation of a score.",
        ),
        Misconception(
            "softmax over the queries",
            lambda q, k, v: _weigh(q, k, v, q.shape[-1] ** -0.5, dim=-2),
            "Your softmax runs over the queries. Each query shares out its attention over the keys: the last axis of "
            "the scores.",
        ),
        Misconception(
            "√d of all heads together",
            lambda q, k, v: _weigh(q, k, v, (q.shape[1] * q.shape[-1]) ** -0.5),
            "d is the size of one head, q.shape[-1], not that of all heads together.",
        ),
    ],
    hints=[
        "Scores of every query with every key; a softmax; a weighted mean of the values. Three operations.",
        "All scores at once are one matrix product. Which axis of k has to be turned?",
        "`q @ k.transpose(-1, -2)` is (b, heads, n, m). Divide by the root of q.shape[-1]; over which axis must "
        "weights sum to 1?",
        "`(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v`",
    ],
    passed="""
    An average whose weights the content chooses: nothing more is behind the word. The pictures below need no training
    at all, only your function.
    """,
    explanation="""
    The softmax runs over the keys, so the weights of each query sum to 1 and its result is an average of values.
    `F.scaled_dot_product_attention` computes the same, on many machines without ever holding the whole table of n × m.
    """,
)


def gather_pixels(images, q, k):
    """Attention with pixels as values."""
    tokens = rearrange(images, "b c h w -> b 1 (h w) c")
    return rearrange(attention(q, k, tokens), "b 1 (h w) c -> b c h w", h=images.shape[2])


def _gather(images, q, k, into="b c h w -> b 1 (h w) c", back="b 1 (h w) c -> b c h w", added=False, grey=False):
    h, w = images.shape[2:]
    tokens = rearrange(images, into)
    gathered = rearrange(
        attention(q, k, tokens.mean(-1, keepdim=True).expand_as(tokens) if grey else tokens), back, h=h, w=w
    )
    return images + gathered if added else gathered


def _images_and_questions(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, c, h, w, d, dtype in (
        (2, 1, 3, 5, 4, torch.float32),
        (1, 3, 4, 2, 6, torch.float64),
        (3, 2, 2, 3, 2, torch.float64),
    ):
        args = {"images": torch.randn(b, c, h, w, generator=rng, dtype=dtype)}
        args |= {name: 2 * torch.randn(b, 1, h * w, d, generator=rng, dtype=dtype) for name in ("q", "k")}
        cases.append(Case(args, gradients=("images", "q", "k")))
    return cases


quiz(
    "unet/tokens",
    points=2,
    minutes=3,
    equation="4.6",
    title="Pixels as tokens",
    reference=gather_pixels,
    cases=_images_and_questions,
    misconceptions=[
        Misconception(
            "column by column",
            functools.partial(_gather, into="b c h w -> b 1 (w h) c", back="b 1 (w h) c -> b c h w"),
            "q and k are laid out row by row, `(h w)`; your tokens stand column by column, so that each pixel is "
            "handed what belongs to another one.",
        ),
        Misconception(
            "rows in, columns out",
            functools.partial(_gather, back="b 1 (w h) c -> b c h w"),
            "Pixels go in row by row and come out column by column.",
        ),
        Misconception(
            "added to the image",
            functools.partial(_gather, added=True),
            "What was gathered *is* the result here. (A layer of a network will add it.)",
        ),
        Misconception(
            "colours mixed",
            functools.partial(_gather, grey=True),
            "A pixel hands over all of its channels, each by itself.",
        ),
    ],
    hints=[
        "Three steps: image to tokens, attention, tokens to image.",
        "A token is one pixel with its c channels: (b, c, h, w) becomes (b, 1, h · w, c), with one head.",
        '`rearrange(images, "b c h w -> b 1 (h w) c")` lays them in a row; the way back must say how high the image '
        "is.",
        '`return rearrange(attention(q, k, tokens), "b 1 (h w) c -> b c h w", h=images.shape[2])`',
    ],
    passed="""
    Any image becomes a row of tokens and comes back. Transformers see images in no other way.
    """,
    explanation="""
    The order of pixels doesn't matter to attention, as long as it is the same on the way in and on the way back.
    """,
)


class _Attention(nn.Module):
    """The layer by hand, with a place for each of the mistakes that people make."""

    def __init__(self, channels, heads, zero=True, norm=True, residual=True, back="", split="", one_head=False):
        super().__init__()
        self.heads, self.residual = heads, residual
        self.norm = library.group_norm(channels) if norm else nn.Identity()
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        self.split = split or "b (three heads c) h w -> three b heads (h w) c"
        self.back = back or "b heads (h w) c -> b (heads c) h w"
        self.heads = 1 if one_head else heads
        for weight in self.out.parameters() if zero else ():
            nn.init.zeros_(weight)

    def forward(self, x):
        h, w = x.shape[2:]
        q, k, v = rearrange(self.qkv(self.norm(x)), self.split, three=3, heads=self.heads)
        gathered = self.out(rearrange(attention(q, k, v), self.back, h=h, w=w))
        return x + gathered if self.residual else gathered


def _attention_with(**slips):
    return functools.partial(_Attention, **slips)


def _images_for_heads(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, channels, heads, h, w in ((2, 8, 2, 3, 5), (1, 12, 3, 4, 2), (3, 6, 1, 2, 3), (2, 32, 4, 3, 3)):
        args = {"channels": channels, "heads": heads, "x": torch.randn(b, channels, h, w, generator=rng)}
        cases.append(Case(args, gradients=("x",)))
    return cases


quiz(
    "unet/heads",
    points=4,
    minutes=7,
    equation="4.6",
    title="An attention layer",
    reference=library.Attention,
    probe=_examine_attention,
    cases=_images_for_heads,
    misconceptions=[
        Misconception(
            "pixels come back column by column",
            _attention_with(back="b heads (w h) c -> b (heads c) h w"),
            "Pixels are laid in a row one way and put back another way: row i, column j gets what was gathered for "
            "another pixel. Here h and w differ; on square images nobody would have noticed.",
        ),
        Misconception(
            "channels of heads interleaved on the way back",
            _attention_with(back="b heads (h w) c -> b (c heads) h w"),
            "On the way in the channels stand as (heads c), and on the way back as (c heads).",
        ),
        Misconception(
            "one head for all",
            _attention_with(one_head=True),
            "All channels look with the same weights. Split q, k and v into `heads` parts, each with weights of its "
            "own.",
        ),
        Misconception(
            "no short cut",
            _attention_with(residual=False),
            "What was gathered is *added* to x; you return it alone.",
        ),
        Misconception(
            "the last convolution starts at random",
            _attention_with(zero=False),
            "At first the layer should hand x on unchanged: start the last 1 × 1 convolution at zero.",
        ),
    ],
    hints=[
        "In `__init__`: a norm, a 1 × 1 convolution from channels to 3 · channels (q, k and v at once), and a 1 × 1 "
        "convolution for what was gathered, starting at zero.",
        "In `forward`: norm, the first convolution, split into q, k, v and heads with pixels in a row, `attention`, "
        "back to an image, the second convolution, and add x.",
        '`q, k, v = rearrange(self.qkv(self.norm(x)), "b (three heads c) h w -> three b heads (h w) c", three=3, '
        "heads=self.heads)`",
        '`back = rearrange(attention(q, k, v), "b heads (h w) c -> b (heads c) h w", h=x.shape[2], w=x.shape[3])`, and '
        "`return x + self.out(back)`.",
    ],
    passed="""
    Nobody chooses patches any more: three 1 × 1 convolutions learn what to ask, what to offer and what to hand over.
    This layer stands at the bottom of your U-Net.
    """,
    explanation="""
    Several heads look at several places at once; with one head, all channels would have to share one set of weights.
    """,
)


def _images_and_weights(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, c, h, w, heads, dtype in (
        (2, 8, 3, 5, 2, torch.float32),
        (1, 6, 4, 2, 3, torch.float64),
        (3, 4, 2, 3, 1, torch.float64),
    ):
        args = {"x": torch.randn(b, c, h, w, generator=rng, dtype=dtype)}
        args["qkv"] = torch.randn(3 * c, c, generator=rng, dtype=dtype) / c**0.5
        args["out"] = torch.randn(c, c, generator=rng, dtype=dtype) / c**0.5
        cases.append(Case(args | {"heads": heads}, gradients=("x", "qkv", "out")))
    return cases


def image_attention(x, qkv, out, heads):
    """Self-attention over the pixels of an image, with matrices for weights."""
    layer = SimpleNamespace(norm=nn.Identity(), heads=heads, gather=attention)
    layer.qkv, layer.out = (functools.partial(F.conv2d, weight=matrix[:, :, None, None]) for matrix in (qkv, out))
    return library.Attention.forward(layer, x)


def _image_attention(x, qkv, out, heads, back, shares="three heads c"):
    """Written out, so that pixels and heads can be put back in a wrong order."""
    h, w = x.shape[2:]
    mixed = torch.einsum("oc, bchw -> bohw", qkv, x)
    q, k, v = rearrange(mixed, f"b ({shares}) h w -> three b heads (h w) c", three=3, heads=heads)
    gathered = rearrange(attention(q, k, v), back, h=h, w=w)
    return x + torch.einsum("oc, bchw -> bohw", out, gathered)


quiz(
    "unet/other-attention",
    points=3,
    minutes=7,
    equation="4.6",
    title="Bug hunt: somebody else's attention",
    bug_hunt=True,
    reference=image_attention,
    library=(library.Attention.forward,),
    cases=_images_and_weights,
    misconceptions=[
        Misconception(
            "as it was handed out",
            lambda x, qkv, out, heads: _image_attention(x, qkv, out, heads, "b heads (w h) c -> b (heads c) h w"),
            "Pixels go in row by row and still come out column by column. On a square image this even looks right.",
        ),
        Misconception(
            "heads and channels interleaved",
            lambda x, qkv, out, heads: _image_attention(x, qkv, out, heads, "b heads (h w) c -> b (c heads) h w"),
            "The pixels are in place now, but the channels of the heads come back interleaved: on the way in they "
            "stood as (heads c).",
        ),
    ],
    hints=[
        "Every shape fits. The picture above went in as it is and came out otherwise: how exactly?",
        "Follow one bright pixel in row 1, column 5 of an image of 28 × 28: at which place of the row of tokens does "
        "it stand?",
        "`(h · w)` numbers were laid out row by row. In the last lines they are read as if they had been laid out "
        "otherwise.",
        "`gathered.reshape(b, c, h, w)`, with nothing to turn afterwards.",
    ],
    passed="""
    Shapes can't see such a mistake, whether h = w or not. A test with known numbers does.
    """,
    explanation="""
    What was gathered for the pixel in row i and column j was added at another place: on a square image at row j and
    column i, its mirror image. All shapes fit, and a test that looks at shapes alone says yes.
    """,
)

concept(
    "unet/mirrored",
    minutes=1.5,
    title="Would anybody notice?",
    question="""
    A U-Net with this attention at the bottom is trained on square images: at the bottom, what was gathered is added at
    the mirrored place. What does whoever watches the training see?
    """,
    options={
        "a": Option(
            "The loss grows without end, as errors come back to the wrong pixels in every step.",
            "The gradient is exact for the function that is computed. It is another function, and it can be trained.",
        ),
        "b": Option(
            "Nothing odd: the loss falls, for the other layers do without the help of this one.",
            "Right. The layer starts at zero and may stay small; the ablation shows how little this network loses even "
            "without any attention. Only a test with known numbers finds the slip.",
            right=True,
        ),
        "c": Option(
            "The loss stays where it began: with places exchanged, noise can't be named at all.",
            "The short cut around the layer, and the copies around the bottom, still lead every pixel to its place.",
        ),
        "d": Option(
            "The loss falls, and all samples come out mirrored along the diagonal of the image.",
            "What is drawn is what the loss asks for, and that isn't mirrored. Only a message inside goes astray.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- in linear time


def linear_attention(q, k, v):
    """Attention by way of a d × d summary."""
    return library.LinearAttention.gather(None, q, k, v)


def _linear(q, k, v, q_dim=-1, k_dim=-2):
    q = q if q_dim is None else q.softmax(q_dim)
    k = k if k_dim is None else k.softmax(k_dim)
    return q @ (k.mT @ v)


quiz(
    "unet/linear-attention",
    points=3,
    minutes=5,
    equation="4.9",
    title="Linear attention",
    reference=linear_attention,
    library=(library.LinearAttention.gather,),
    cases=_queries,
    misconceptions=[
        Misconception(
            "softmax attention again",
            attention,
            "That is (4.6), with its table of pixels by pixels. Here softmax is taken of q and of k by themselves.",
        ),
        Misconception(
            "softmax of k over its channels",
            lambda q, k, v: _linear(q, k, v, k_dim=-1),
            "The softmax of k runs over the pixels, dim −2: each channel of k is a map of where to look.",
        ),
        Misconception(
            "softmax of q over the pixels",
            lambda q, k, v: _linear(q, k, v, q_dim=-2),
            "The softmax of q runs over its channels, dim −1: each pixel mixes the d summaries.",
        ),
        Misconception(
            "softmax of q forgotten",
            lambda q, k, v: _linear(q, k, v, q_dim=None),
            "q needs its softmax too, over its channels.",
        ),
        Misconception(
            "softmax of k forgotten",
            lambda q, k, v: _linear(q, k, v, k_dim=None),
            "k needs its softmax too, over the pixels.",
        ),
    ],
    hints=[
        "Brackets decide the cost: (q kᵀ) v makes a table of n × n, q (kᵀ v) one of d × d.",
        "Over which axis does each softmax run? For k over the pixels (dim −2), for q over its channels (dim −1).",
        "`k.softmax(dim=-2).transpose(-1, -2) @ v` is the summary, (b, heads, d, d).",
        "`return q.softmax(dim=-1) @ summary`",
    ],
    passed="""
    Twice the side costs four times as much now, not sixteen times. What was given up for it is the next question.
    """,
    explanation="""
    Matrix products may be bracketed as one likes; the softmax of the *product* in (4.6) is what forbids it there. With
    a softmax on each factor, all pixels are first summed up in d vectors, and every pixel then mixes those d.
    """,
)

concept(
    "unet/linear-price",
    minutes=1.5,
    title="What does linear attention give up?",
    question="""
    Linear attention never forms a table of n × n weights, but one can write down what that table would be:
    $A = \\operatorname{softmax}_d(q)\\,\\operatorname{softmax}_n(k)^\\top$. What can $A$ not be?
    """,
    options={
        "a": Option(
            "A table with rows that sum to 1: q and k are normalised apart, not together.",
            "Each row is a mixture, with weights that sum to 1, of d maps that each sum to 1. The next cell prints it.",
        ),
        "b": Option(
            "A table in which far pixels count: each of the d summaries is a local one.",
            "Each of its d maps covers the whole image. Distance plays no part, in neither kind of attention.",
        ),
        "c": Option(
            "A table of high rank: all n pixels share only d maps of where to look.",
            "Right. With n pixels and d = 32 it can't give each pixel a place of its own to look at, as the denoising "
            "by patches did. What it can do is sum the image up, and tell that sum to every pixel.",
            right=True,
        ),
        "d": Option(
            "A table with large weights: two softmaxes always spread them over all pixels.",
            "The softmax of k can be as peaked as it likes, and then a row of the table is, too.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- down and up


def stamp(x, kernel, stride):
    """A transposed convolution: every input stamps the kernel onto the output."""
    return F.conv_transpose2d(x[None, None], kernel[None, None], stride=stride)[0, 0]


def _stamped(x, kernel, stride, keep="sum", size=0, step=None):
    (h, w), (k, m), step = x.shape, kernel.shape, stride if step is None else step
    y = x.new_zeros((h - 1) * stride + k + size, (w - 1) * stride + m + size)
    for i in range(h):
        for j in range(w):
            part = y[i * step : i * step + k, j * step : j * step + m]
            print_ = x[i, j] * kernel[: part.shape[0], : part.shape[1]]
            part.copy_(print_ if keep == "last" else part + print_)
    return y


def _images_and_kernels(rng: torch.Generator) -> list[Case]:
    cases = []
    for h, w, k, m, stride, dtype in (
        (3, 4, 3, 3, 2, torch.float32),
        (2, 5, 4, 2, 2, torch.float64),
        (4, 2, 2, 3, 3, torch.float64),
        (1, 3, 3, 2, 1, torch.float64),
    ):
        x, kernel = torch.randn(h, w, generator=rng, dtype=dtype), torch.randn(k, m, generator=rng, dtype=dtype)
        cases.append(Case({"x": x, "kernel": kernel, "stride": stride}))
    return cases


quiz(
    "unet/stamp",
    points=3,
    minutes=6,
    title="Up by stamping",
    reference=stamp,
    cases=_images_and_kernels,
    misconceptions=[
        Misconception(
            "the last stamp wins",
            functools.partial(_stamped, keep="last"),
            "Where stamps overlap they *add up*: `+=`. You overwrite what an earlier one left.",
        ),
        Misconception(
            "the size of a plain enlargement",
            lambda x, kernel, stride: stamp(x, kernel, stride)[: x.shape[0] * stride, : x.shape[1] * stride],
            "The last stamp begins at (h − 1) · stride and is as large as the kernel: the output has to hold all of "
            "it.",
        ),
        Misconception(
            "a stride of 1",
            lambda x, kernel, stride: _stamped(x, kernel, stride, step=1),
            "Two neighbours stamp at places `stride` pixels apart. Yours stand side by side.",
        ),
        Misconception(
            "the kernel turned over",
            lambda x, kernel, stride: stamp(x, kernel.flip(0, 1), stride),
            "The stamp is set down as it is: nothing is turned over.",
        ),
    ],
    hints=[
        "How large is the sheet? The last stamp in a row begins at (w − 1) · stride.",
        "Begin with zeros and add one stamp for each input pixel; two loops are fine.",
        "Input (i, j) stamps `x[i, j] * kernel` onto the rows from i · stride and the columns from j · stride on.",
        "`y[i * stride : i * stride + k, j * stride : j * stride + m] += x[i, j] * kernel`",
    ],
    passed="""
    A transposed convolution is no inverse of anything: it stamps. Where stamps overlap unevenly, a pattern appears
    that no input asked for.
    """,
    explanation="""
    `nn.ConvTranspose2d` computes this for all channels at once, and its `padding` cuts off the border.
    """,
)

concept(
    "unet/checkerboards",
    minutes=1.5,
    title="A constant image, enlarged",
    question="""
    You stamp a **constant** image with a 3 × 3 kernel of nine **equal** weights, at a stride of 2. What comes out,
    away from the border?
    """,
    options={
        "a": Option(
            "A grid: a pixel gets one, two or four stamps, depending on where it lies.",
            "Right: 3 isn't a multiple of 2, so stamps overlap unevenly. A kernel of 4 covers every pixel equally "
            "often.",
            right=True,
        ),
        "b": Option(
            "A constant image: equal inputs and equal weights can't bring forth a pattern.",
            "Equal they are, but they don't meet equally often. Count the stamps that cover a pixel.",
        ),
        "c": Option(
            "Dots among zeros: a stride of 2 leaves every second row and column empty.",
            "So it would be with a kernel of 1. A stamp of 3 × 3 reaches into the gaps, and beyond them.",
        ),
        "d": Option(
            "A soft gradient: the border is covered less, and this spreads to the middle.",
            "The border is one pixel wide and spreads nowhere: each pixel counts its own stamps only.",
        ),
    },
)


def _pixels(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, c, h, w, patch in ((2, 1, 4, 6, 2), (1, 3, 6, 4, 2), (3, 2, 6, 9, 3), (2, 3, 2, 5, 1)):
        cases.append(Case({"x": torch.randn(b, c, h, w, generator=rng), "patch": patch}, gradients=("x",)))
    return cases


def space_to_depth(x, patch):
    """Squares of patch × patch pixels become channels."""
    return F.pixel_unshuffle(x, patch)


def _unshuffled(pattern):
    def answer(x, patch):
        return rearrange(x, pattern, p=patch, r=patch).clone()

    return answer


quiz(
    "unet/space-to-depth",
    points=2,
    minutes=3,
    equation="4.7",
    title="Pixels into channels",
    reference=space_to_depth,
    cases=_pixels,
    misconceptions=[
        Misconception(
            "colours last",
            _unshuffled("b c (h p) (w r) -> b (p r c) h w"),
            "In (4.7) the places within the square run fastest, the channels of x slowest: `(c p r)`, not `(p r c)`.",
        ),
        Misconception(
            "rows and columns of the square exchanged",
            _unshuffled("b c (h p) (w r) -> b (c r p) h w"),
            "Within the square, go row by row: the column runs fastest.",
        ),
        Misconception(
            "far pixels instead of neighbours",
            _unshuffled("b c (p h) (r w) -> b (c p r) h w"),
            "You cut the image into patch × patch large tiles and stack those. The pixels of one output place must be "
            "neighbours: `(h p)`, with p running fastest.",
        ),
    ],
    hints=[
        "Split both axes: the row of a pixel is (row of the square) · patch + (row in the square).",
        'In einops, `"b c (h p) (w r) -> …"`, with p and r both `patch`.',
        "On the right, what runs slowest stands first: the channel, then the row in the square, then the column.",
        '`rearrange(x, "b c (h p) (w r) -> b (c p r) h w", p=patch, r=patch)`',
    ],
    passed="""
    No number is lost and none computed, and every layer behind it runs over a quarter of the places. It is the first
    thing that your U-Net does.
    """,
    explanation="""
    Nothing is lost and nothing is computed: the same numbers, in another order, as `F.pixel_unshuffle` lays them.
    A convolution behind it sees patch² times fewer places, each with patch² times more channels.
    """,
)

# ------------------------------------------------------------------------------------------------- the whole


class Down(nn.Module):
    """A level on the way down."""

    def __init__(self, width, embedding, before=None, block_first=False, block=library.ResidualBlock):
        super().__init__()
        self.halve = nn.Identity() if before is None else nn.Conv2d(before, width, 3, stride=2, padding=1)
        self.block = block(width, width, embedding)

    def forward(self, h, e):
        return self.block(self.halve(h), e)


class Up(nn.Module):
    """A level on the way up."""

    def __init__(self, width, embedding, after=None):
        super().__init__()
        self.block = library.ResidualBlock(2 * width, width, embedding)
        self.enlarge = nn.Identity()
        if after is not None:
            self.enlarge = nn.Sequential(nn.Conv2d(width, 4 * after, 1), nn.PixelShuffle(2))

    def forward(self, h, copy, e):
        return self.enlarge(self.block(torch.cat([h, copy], dim=1), e))


class _DownInAnotherOrder(Down):
    """The block before the halving, where both have the same number of channels."""

    def __init__(self, width, embedding, before=None):
        super().__init__(width, embedding, before)
        self.block = library.ResidualBlock(before or width, before or width, embedding)

    def forward(self, h, e):
        return self.halve(self.block(h, e))


class _DownByPooling(Down):
    def __init__(self, width, embedding, before=None):
        super().__init__(width, embedding, before)
        if before is not None:
            self.halve = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(before, width, 1))


class _DownAlways(Down):
    def __init__(self, width, embedding, before=None):
        super().__init__(width, embedding, width if before is None else before)


class _DownDeaf(Down):
    def forward(self, h, e):
        return self.block(self.halve(h), torch.zeros_like(e) + 0 * e)


def _levels_down(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, width, embedding, before, h, w in (
        (2, 6, 5, 4, 6, 4),
        (3, 4, 3, None, 3, 5),
        (1, 8, 4, 8, 4, 6),
        (2, 3, 2, 6, 2, 4),
    ):
        args = {"width": width, "embedding": embedding, "before": before}
        args["h"] = torch.randn(b, before or width, h, w, generator=rng)
        args["e"] = torch.randn(b, embedding, generator=rng)
        cases.append(Case(args, gradients=("h", "e")))
    return cases


quiz(
    "unet/down",
    points=3,
    minutes=5,
    title="Stage 1: one level down",
    reference=Down,
    probe=_examine_down,
    cases=_levels_down,
    misconceptions=[
        Misconception(
            "the block first",
            _DownInAnotherOrder,
            "You run the block at the size of the level above and halve afterwards. A level halves first: then its "
            "block runs on a quarter of the places.",
        ),
        Misconception(
            "pooled",
            _DownByPooling,
            "You halve by averaging. Here a convolution of 3 × 3 with stride 2 (and padding 1) does it, and learns "
            "how.",
        ),
        Misconception(
            "the finest level halved, too",
            _DownAlways,
            "With `before=None` there is no level above, and nothing is halved: only the block runs.",
        ),
        Misconception(
            "the embedding not used",
            _DownDeaf,
            "The block must be told e, as it comes: `self.block(h, e)`.",
        ),
    ],
    hints=[
        "Two parts: something that halves, and your ResidualBlock from width to width.",
        "A convolution of 3 × 3 with stride=2 and padding=1 halves; it leads from `before` to `width` channels.",
        "Where `before` is None, `nn.Identity()` may stand in place of the convolution: then forward is one line.",
        "`self.halve = nn.Identity() if before is None else nn.Conv2d(before, width, 3, stride=2, padding=1)`, and "
        "`return self.block(self.halve(h), e)`.",
    ],
    passed="""
    What this level returns goes two ways: further down, and as a copy straight across to the other side of the U.
    """,
    explanation="""
    An `nn.Identity()` in place of a layer that isn't there saves an `if` in forward.
    """,
)


class _UpCopyFirst(Up):
    def forward(self, h, copy, e):
        return super().forward(copy, h, e)


class _UpAdding(Up):
    def __init__(self, width, embedding, after=None):
        super().__init__(width, embedding, after)
        self.block = library.ResidualBlock(width, width, embedding)

    def forward(self, h, copy, e):
        return self.enlarge(self.block(h + copy, e))


class _UpByCopying(Up):
    def __init__(self, width, embedding, after=None):
        super().__init__(width, embedding, after)
        if after is not None:
            self.enlarge = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(width, after, 3, padding=1))


class _UpWithoutCopy(Up):
    def forward(self, h, copy, e):
        return super().forward(h, 0 * copy, e)


def _levels_up(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, width, embedding, after, h, w in (
        (2, 6, 5, 4, 3, 2),
        (3, 4, 3, None, 3, 5),
        (1, 8, 4, 8, 2, 3),
        (2, 3, 2, 6, 1, 2),
    ):
        args = {"width": width, "embedding": embedding, "after": after}
        args |= {name: torch.randn(b, width, h, w, generator=rng) for name in ("h", "copy")}
        args["e"] = torch.randn(b, embedding, generator=rng)
        cases.append(Case(args, gradients=("h", "copy", "e")))
    return cases


quiz(
    "unet/up",
    points=3,
    minutes=5,
    equation="4.8",
    title="Stage 2: one level up",
    reference=Up,
    probe=_examine_up,
    cases=_levels_up,
    misconceptions=[
        Misconception(
            "the copy first",
            _UpCopyFirst,
            "First what comes up from below, then the copy: `[h, copy]`. A network could learn either, but weights "
            "of one "
            "don't fit the other.",
        ),
        Misconception(
            "added, not joined",
            _UpAdding,
            "You add the copy. (4.8) lays it beside h as further channels, so that the block decides what to make "
            "of it.",
        ),
        Misconception(
            "doubled by copying pixels",
            _UpByCopying,
            "You copy pixels and convolve at the large size. Here a 1 × 1 convolution makes 4 · after channels at the "
            "small size, and `nn.PixelShuffle(2)` lays them out as squares.",
        ),
        Misconception(
            "the copy not used",
            _UpWithoutCopy,
            "Your level gives the same whatever the copy is.",
        ),
    ],
    hints=[
        "Three things in this order: lay the copy beside h, run the block, and double, unless this is the finest "
        "level.",
        "How many channels does the block see, once h and the copy (width channels each) lie side by side?",
        "To double: `nn.Conv2d(width, 4 * after, 1)`, then `nn.PixelShuffle(2)`; together in an `nn.Sequential`, or "
        "`nn.Identity()` where after is None.",
        "`return self.enlarge(self.block(torch.cat([h, copy], dim=1), e))`, with "
        "`self.block = ResidualBlock(2 * width, width, embedding)`.",
    ],
    passed="""
    The block gets twice the channels and decides itself what to take from below and what from the copy.
    """,
    explanation="""
    Adding the copy would be cheaper, and forces one meaning on both: channel 5 from below and channel 5 of the copy.
    """,
)


class UNet(nn.Module):
    """Noisy images (b, c, h, w) and their steps (b,) → one prediction for every pixel."""

    def __init__(self, shape=(1, 28, 28), widths=(32, 64), patch=2):
        super().__init__()
        e, pixels, self.patch = 4 * widths[0], shape[0] * patch**2, patch
        levels = list(zip(widths, (None, *widths)))  # each with the width of the finer one
        self.time = nn.Sequential(nn.Linear(64, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Down(width, e, finer) for width, finer in levels)
        self.attention = library.Attention(widths[-1])
        self.middle = library.ResidualBlock(widths[-1], widths[-1], e)
        self.up = nn.ModuleList(Up(width, e, finer) for width, finer in reversed(levels))
        self.norm = library.group_norm(widths[0])
        self.head = nn.Conv2d(widths[0], pixels, 3, padding=1)
        for weight in self.head.parameters():
            nn.init.zeros_(weight)

    def forward(self, x, t):
        e = self.time(library.sinusoidal_embedding(t, 64))
        h, copies = self.stem(F.pixel_unshuffle(x, self.patch)), []
        for level in self.down:
            h = level(h, e)
            copies.append(h)
        h = self.middle(self.attention(h), e)
        for level in self.up:
            h = level(h, copies.pop(), e)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)


class _Wired(UNet):
    """The network with its wires in other places."""

    def __init__(self, *given, time=True, head=True, attention=True, finish=True, order="attention first", **named):
        super().__init__(*given, **named)
        self.finish, self.order = finish, order
        if not time:
            self.time = self.time[:3]
        if not head:
            nn.init.normal_(self.head.weight)
        if not attention:
            self.attention = nn.Identity()

    def forward(self, x, t):
        e = self.time(library.sinusoidal_embedding(t if self.order != "t over 1000" else t / 1000, 64))
        h, copies = self.stem(F.pixel_unshuffle(x, self.patch)), []
        for level in self.down:
            h = level(h, e)
            copies.append(h)
        h = self.attention(self.middle(h, e)) if self.order == "middle first" else self.middle(self.attention(h), e)
        for level in self.up:
            copy = copies.pop()
            h = level(h, h if self.order == "no copies" else copy, e)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h)) if self.finish else h), self.patch)


def _wired(**slips):
    return functools.partial(_Wired, **slips)


def _networks(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, widths, patch in (
        (2, (1, 8, 12), (6, 10), 2),
        (1, (3, 12, 8), (4, 6, 8), 1),
        (3, (2, 4, 8), (8, 8), 1),
        (2, (1, 6, 3), (6,), 3),
    ):
        args = {"shape": shape, "widths": widths, "patch": patch}
        args["x"], args["t"] = torch.randn(b, *shape, generator=rng), torch.randint(1, 1001, (b,), generator=rng)
        cases.append(Case(args, gradients=("x",)))
    return cases


quiz(
    "unet/forward",
    points=8,
    minutes=14,
    equation="4.8",
    title="Stage 3: wire it",
    reference=UNet,
    library=(library.UNet,),
    probe=_examine_unet,
    cases=_networks,
    misconceptions=[
        Misconception(
            "no SiLU behind the time network",
            _wired(time=False),
            "The embedding passes linear, SiLU, linear *and once more SiLU* before the blocks get it.",
        ),
        Misconception(
            "the head starts at random",
            _wired(head=False),
            "The last convolution starts at zero: before it has learned anything, the network answers 0 everywhere.",
        ),
        Misconception(
            "the middle before the attention",
            _wired(order="middle first"),
            "At the bottom: first the attention, then the block.",
        ),
        Misconception(
            "the last norm forgotten",
            _wired(finish=False),
            "Before the head stand a norm and a SiLU.",
        ),
        Misconception(
            "no attention",
            _wired(attention=False),
            "At the bottom stands an attention layer, before the block: `Attention(widths[-1], …)`.",
        ),
        Misconception(
            "the copies not used",
            _wired(order="no copies"),
            "Your levels on the way up don't get what the levels on the way down made. Keep each level's result, and "
            "hand it to the level of the same size.",
        ),
        Misconception(
            "t divided by 1000",
            _wired(order="t over 1000"),
            "The embedding takes t as it is, from 1 to 1000.",
        ),
    ],
    hints=[
        "In forward, follow the drawing: embedding, stem, the levels down (keep what each returns), attention and a "
        "block, the levels up (each gets a copy), norm, SiLU, head, pixel shuffle.",
        "Which copy first? The coarsest level was the last to be kept and is the first to be joined: `copies.pop()`.",
        "A list of levels has to be an `nn.ModuleList`, or their weights are not found. On the way down each level "
        "needs the width of the finer one, on the way up as well: `zip(widths, (None, *widths))` has both.",
        "`self.down = nn.ModuleList(Down(width, e, finer) for width, finer in levels)`, and `self.up` the same with "
        "`Up` and "
        "`reversed(levels)`.",
        "In forward: `for level in self.down: h = level(h, e); copies.append(h)`, then "
        "`h = self.middle(self.attention(h), e)`, then `for level in self.up: h = level(h, copies.pop(), e)`.",
    ],
    passed="""
    This is a U-Net, and it is yours: in a moment it learns to see clothes in noise, and then it draws them.
    """,
    explanation="""
    Last in, first out: the copy of the coarsest level is needed first. A wrong order mostly fails with an error about
    shapes, and where two levels have the same shape it doesn't; a stack can't get it wrong.
    """,
)

# ------------------------------------------------------------------------------------------------- a look inside


@fixture("unet/small")
def _small_unet(shape, widths, patch: int = 1, seed: int = 0) -> nn.Module:
    """A U-Net of a few thousand weights, none of them 0."""
    network = library.UNet(tuple(shape), widths=tuple(8 * (width // 4) for width in widths), patch=patch)
    return filled(network, torch.randn(2, *shape), torch.tensor([1, 1000])).requires_grad_(False)


def looks_at(model, x_t, t):
    """Mean size of the gradient of the answer in the middle with respect to every pixel."""
    x_t = x_t.detach().clone().requires_grad_()
    row, column = x_t.shape[2] // 2, x_t.shape[3] // 2
    (slope,) = torch.autograd.grad(model(x_t, t)[..., row, column].sum(), x_t)
    return slope.abs().mean((0, 1))


def _looks(model, x_t, t, all_of_it=False, late=False, sign=False, exchanged=False):
    x_t = x_t.detach().clone().requires_grad_()
    row, column = (x_t.shape[2 + exchanged] // 2, x_t.shape[3 - exchanged] // 2)
    row, column = min(row, x_t.shape[2] - 1), min(column, x_t.shape[3] - 1)
    answer = model(x_t, t)
    (slope,) = torch.autograd.grad(answer.sum() if all_of_it else answer[..., row, column].sum(), x_t)
    return slope.mean((0, 1)) if sign else slope.mean((0, 1)).abs() if late else slope.abs().mean((0, 1))


def _views(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, widths, patch in ((2, (1, 8, 12), (6, 10), 2), (3, (2, 6, 4), (6, 8), 1), (4, (3, 4, 8), (4, 6), 1)):
        args = {"model": Fixture("unet/small", shape=shape, widths=widths, patch=patch, seed=_seed(rng))}
        args["x_t"], args["t"] = torch.randn(b, *shape, generator=rng), torch.randint(1, 1001, (b,), generator=rng)
        cases.append(Case(args))
    return cases


quiz(
    "unet/looks-at",
    points=3,
    minutes=6,
    title="Where does the answer come from?",
    reference=looks_at,
    cases=_views,
    misconceptions=[
        Misconception(
            "the gradient of the whole answer",
            functools.partial(_looks, all_of_it=True),
            "You ask how *all* answers depend on a pixel. Ask for the answer in the middle alone.",
        ),
        Misconception(
            "averaged before the absolute value",
            functools.partial(_looks, late=True),
            "Gradients of different images have different signs and cancel. Take their size first, then the mean.",
        ),
        Misconception(
            "with signs",
            functools.partial(_looks, sign=True),
            "How *strongly* a pixel counts is the size of the gradient, whatever its sign.",
        ),
    ],
    hints=[
        "The answer in the middle is one number per image and channel. How does it change with each input pixel?",
        "A gradient needs an input that asks for one: `x_t.clone().requires_grad_()`.",
        "`answer[..., h // 2, w // 2].sum()` is what to differentiate: images don't mix, so that a sum over them "
        "keeps them "
        "apart.",
        "`(slope,) = torch.autograd.grad(answer[..., h // 2, w // 2].sum(), x_t)`, and "
        "`return slope.abs().mean(dim=(0, 1))`.",
    ],
    passed="""
    What a network can see is arithmetic; what it uses has to be measured, and a gradient is the measure.
    """,
    explanation="""
    Luo et al. (2016) call this the effective receptive field, and found it much smaller than the one that is counted.
    """,
)

# ------------------------------------------------------------------------------------------------- another block


class _ConvNeXt(nn.Module):
    """The block by hand, with a place for each of the mistakes that people make."""

    def __init__(
        self, in_channels, out_channels, embedding, groups=True, zero=True, early=False, norm=None, act=F.gelu
    ):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 7, padding=3, groups=in_channels if groups else 1)
        self.norm, self.early, self.act = nn.GroupNorm(norm or 1, in_channels), early, act
        self.condition = nn.Linear(embedding, 2 * in_channels)
        self.widen = nn.Conv2d(in_channels, 2 * out_channels, 1)
        self.narrow = nn.Conv2d(2 * out_channels, out_channels, 1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        for weight in self.narrow.parameters() if zero else ():
            nn.init.zeros_(weight)

    def forward(self, x, e):
        h = self.depthwise(x)
        if self.early:
            h = self.norm(library.scale_shift(h, self.condition(e)))
        else:
            h = library.scale_shift(self.norm(h), self.condition(e))
        return self.skip(x) + self.narrow(self.act(self.widen(h)))


quiz(
    "unet/convnext",
    points=4,
    minutes=8,
    title="Another block",
    reference=library.ConvNeXtBlock,
    probe=_examine_block,
    cases=_block_inputs,
    misconceptions=[
        Misconception(
            "a dense 7 × 7 convolution",
            functools.partial(_ConvNeXt, groups=False),
            "A *depthwise* convolution gives every channel a kernel to itself: `groups=in_channels`. Yours mixes all "
            "channels, at in_channels times the price.",
        ),
        Misconception(
            "scaled and shifted before the norm",
            functools.partial(_ConvNeXt, early=True),
            "A norm behind the shift takes it out again. First the norm, then scale_shift.",
        ),
        Misconception(
            "the last convolution starts at random",
            functools.partial(_ConvNeXt, zero=False),
            "The last 1 × 1 convolution starts at zero, so that the block begins by handing its input on.",
        ),
        Misconception(
            "a SiLU in place of the GELU",
            functools.partial(_ConvNeXt, act=F.silu),
            "Between the two 1 × 1 convolutions stands a GELU (`F.gelu`).",
        ),
    ],
    hints=[
        "The order: depthwise 7 × 7, norm, scale_shift, 1 × 1 to twice the width, GELU, 1 × 1 back; and the short cut.",
        "The norm and the linear layer for e come where there are still in_channels channels.",
        "Depthwise: `nn.Conv2d(in_channels, in_channels, 7, padding=3, groups=in_channels)`. One group for the norm: "
        "`nn.GroupNorm(1, in_channels)`.",
        "`h = scale_shift(self.norm(self.depthwise(x)), self.condition(e))`, then "
        "`return self.skip(x) + self.narrow(F.gelu(self.widen(h)))`.",
    ],
    passed="""
    Cheap kernels look far, cheap 1 × 1 convolutions mix. Whether cheap also means quick, a clock has to say.
    """,
    explanation="""
    Liu et al. (2022) took this order over from transformers: look around first, then mix channels.
    """,
)
