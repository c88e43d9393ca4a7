"""The quizzes of notebook 04, "The U-Net"."""

import functools
from types import SimpleNamespace

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_utils.models import unet as library

from ..quizzes.declarations import Case, Fixture, Misconception, Option, Tolerance, concept, fixture, quiz

# ------------------------------------------------------------------------------------------------- 4.1 · why a U

concept(
    "unet/why-skips",
    title="What the skips carry",
    question="""
    A network must name the noise in a noisy image, pixel by pixel. Why not hand it the autoencoder of notebook 01,
    encoder, bottleneck, decoder, and no skips?
    """,
    options={
        "a": Option(
            "It would work as well; skips only make training faster.",
            "Count what must come out: 784 independent numbers. The picture above shows how many of them fit through "
            "a narrow place, and no training changes that.",
        ),
        "b": Option(
            "The noise has no structure that a bottleneck could keep: each pixel's own value must reach the output.",
            "Yes. Images lie near few directions, noise fills them all. A skip carries the pixel past the bottleneck, "
            "and the bottleneck is left to say what the image is about.",
            right=True,
        ),
        "c": Option(
            "A bottleneck makes gradients vanish, and skips are there for the gradient.",
            "That is what the short cuts *inside* a residual block are for. The long skips of a U-Net carry values, "
            "and what they carry can be measured.",
        ),
        "d": Option(
            "An autoencoder can't be told which step $t$ it is looking at.",
            "It could be, in just the same way: section 4.3 works in any block. The trouble is where pixels go.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 4.2 · which step


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
    minutes=5,
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
        "size/2 speeds, from 1 down to nearly 1/10,000; every t is multiplied by every speed.",
        "`speed = 10_000 ** (-torch.arange(size // 2, device=t.device) / (size // 2))`, and `t[:, None] * speed` is "
        "(b, size/2). (Without `device=` it works on the CPU only.)",
        "`torch.cat([angle.sin(), angle.cos()], dim=1)`",
    ],
    explanation="""
    Each pair (sin, cos) is a clock hand: the first turns once in 6 steps, the last once in tens of thousands. The fast
    hands tell neighbouring steps apart, the slow ones say roughly where in the chain we are. Moving from t to t + s
    turns each hand by a fixed angle, whatever t is; so a linear layer can compute "a little later".
    """,
)

concept(
    "unet/why-waves",
    title="Why not just a number",
    question="""
    The step could also enter as one number, $t/1000$. What do the waves of (4.2) give the linear layer behind them that
    a single number doesn't?
    """,
    options={
        "a": Option(
            "Nothing: a linear layer of one number can be any function of it.",
            "A linear layer of one number is a straight line in it. Whatever bends has to be learned by the layers "
            "behind.",
        ),
        "b": Option(
            "They make the embedding longer, and longer inputs have more parameters.",
            "Repeating t/1000 64 times would be just as long, and still a straight line. What counts is that the 64 "
            "numbers are different functions of t.",
        ),
        "c": Option(
            "They keep large t from making the input too large.",
            "They do stay in [−1, 1], but so does t/1000.",
        ),
        "d": Option(
            "Many different functions of t, fast and slow, to mix: a linear layer of them can bend anywhere in the "
            "range.",
            "Right. It is a Fourier basis: with it, one linear layer can tell t = 20 from t = 40 as sharply as it "
            "likes, as the similarity curve shows.",
            right=True,
        ),
    },
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
    minutes=6,
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
        "Bring what is averaged together into one axis: all channels of a group and all their pixels.",
        '`rearrange(x, "b (g c) h w -> b g (c h w)", g=groups)`; then mean and variance over the last axis, '
        "`keepdim=True`.",
        "Divide by `(var + 1e-5).sqrt()` with `var(..., correction=0)`, and rearrange back.",
    ],
    explanation="""
    One mean and one variance for each image and group. Nothing depends on the other images, so a batch of 1 (sampling a
    single image) and a batch of 64 (training) are treated alike, and there is nothing to switch at `model.eval()`.
    """,
)


@fixture("unet/block")
def _block(in_channels: int, out_channels: int, embedding: int, seed: int = 0) -> library.ResidualBlock:
    """A residual block whose weights are all away from 0, so that every road through it shows."""
    return _stirred(library.ResidualBlock(in_channels, out_channels, embedding))


def _stirred(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return module


def residual_block(block, x, e):
    """x, and what two convolutions add to it. (Not `block(x, e)`: in a notebook the block's own forward calls this.)"""
    return library.ResidualBlock.forward(block, x, e)


def _seed(rng: torch.Generator) -> int:
    """Of a fixture, so that its weights are others in every draw."""
    return int(torch.randint(10_000, (1,), generator=rng))


def _block_inputs(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, in_channels, out_channels, h, w, embedding in ((3, 8, 8, 5, 7, 4), (1, 4, 6, 3, 2, 5), (2, 32, 8, 4, 6, 3)):
        block = Fixture(
            "unet/block",
            in_channels=in_channels,
            out_channels=out_channels,
            embedding=embedding,
            seed=_seed(rng),
        )
        x = torch.randn(b, in_channels, h, w, generator=rng)
        e = torch.randn(b, embedding, generator=rng)
        cases.append(Case({"block": block, "x": x, "e": e}, gradients=("block", "x", "e")))
    return cases


def _block_parts(block, x, e, before_norm=False, scale_first=True, one=1.0, act=F.silu):
    h = block.conv1(F.silu(block.norm1(x)))
    first, second = block.condition(e)[:, :, None, None].chunk(2, dim=1)
    scale, shift = (first, second) if scale_first else (second, first)
    h = block.norm2(h * (one + scale) + shift) if before_norm else block.norm2(h) * (one + scale) + shift
    return block.skip(x) + block.conv2(act(h))


def _block_no_skip(block, x, e):
    return block(x, e) - block.skip(x)


def _block_deaf(block, x, e):
    return block(x, torch.zeros_like(e)) + 0 * e.sum()


quiz(
    "unet/residual-block",
    points=4,
    minutes=8,
    equation="4.5",
    title="A residual block that hears the step",
    reference=residual_block,
    library=(library.ResidualBlock.forward,),
    cases=_block_inputs,
    misconceptions=[
        Misconception(
            "no short cut",
            _block_no_skip,
            "You return what the convolutions add, without `block.skip(x)`: there is no road around them any more.",
        ),
        Misconception(
            "scaled and shifted before the norm",
            lambda block, x, e: _block_parts(block, x, e, before_norm=True),
            "The norm comes after your scale and shift and takes most of both out again. Normalise first: "
            "scale_shift(block.norm2(h), …).",
        ),
        Misconception(
            "scale and shift exchanged",
            lambda block, x, e: _block_parts(block, x, e, scale_first=False),
            "The first half of `block.condition(e)` are the scales, the second half the shifts. Use `scale_shift`.",
        ),
        Misconception(
            "the 1 of 1 + scale forgotten",
            lambda block, x, e: _block_parts(block, x, e, one=0.0),
            "(4.4) multiplies by 1 + scale, so that a condition of 0 changes nothing.",
        ),
        Misconception(
            "the second activation forgotten",
            lambda block, x, e: _block_parts(block, x, e, act=lambda h: h),
            "Between scale-shift and the second convolution stands a SiLU, as before the first one.",
        ),
        Misconception(
            "the embedding not used",
            _block_deaf,
            "Your block gives the same for every e: the step never reaches it.",
        ),
    ],
    hints=[
        "Two times: norm, SiLU, convolution. The step comes in after the second norm. The input is added at the end.",
        "`h = block.conv1(F.silu(block.norm1(x)))`, then `h = scale_shift(block.norm2(h), block.condition(e))`.",
        "`return block.skip(x) + block.conv2(F.silu(h))`",
    ],
    explanation="""
    Norm and activation come *before* each convolution (pre-norm, He et al. 2016b): so the road through `skip` is never
    normalised or bent, and what a block adds stays added. `block.skip` is the identity where the number of channels
    stays, a 1 × 1 convolution where it changes.
    """,
)

concept(
    "unet/zero-start",
    title="A block that starts as nothing",
    question="""
    The last convolution of every residual block starts with weights 0, so the block is the identity at first. The cell
    above trains one with a loss on what comes out of it. Do its convolutions ever learn anything?
    """,
    options={
        "a": Option(
            "Yes: the last one gets a gradient at once, and after one step the layers before it get one too.",
            "Right. The gradient of a weight is (what comes in) × (what is asked for behind it), and neither is 0 for "
            "the last convolution. Only what lies *before* it waits, for one step. (In a whole U-Net, whose head "
            "starts at 0 as well, everything waits one step more: until the head has moved, nothing is asked for "
            "behind the blocks.)",
            right=True,
        ),
        "b": Option(
            "No: weights of 0 have a gradient of 0, so they stay there for ever.",
            "That is true where *two* layers in a row are 0, with no road around them. A single one sees its input and "
            "the gradient from behind, and moves at the first step. The cell above this question shows both.",
        ),
        "c": Option(
            "Only because the optimizer adds noise of its own.",
            "The cell above takes plain steps of gradient descent, without any noise, and the weights move.",
        ),
        "d": Option(
            "Yes, but all of its channels stay equal, as in a network whose weights all start the same.",
            "They would if what comes in were the same in every channel. It isn't: the first convolution starts at "
            "random, so each weight gets a gradient of its own.",
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
    "unet/deaf-block",
    points=3,
    minutes=6,
    equation="4.4",
    title="Bug hunt: a block that ignores t",
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
        "Call it with two different e and compare. Then follow e line by line: where is it lost?",
        "What is the mean of a channel after `instance_norm`, whatever was added to the channel before?",
        "Normalise h first, then add the shift: `normalise(h) + shift`.",
    ],
    explanation="""
    Each channel's mean is subtracted by the norm, and the shift is nothing but a change of that mean: it is removed, up
    to rounding. The gradient of `step` is 0 as well, so training never finds out. A network of such blocks sees
    noise levels only as far as it can guess them from the image.
    """,
)

# ------------------------------------------------------------------------------------------------- 4.5 · attention


def attention(q, k, v):
    """Softmax attention."""
    return library.Attention.gather(None, q, k, v)


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
    minutes=5,
    equation="4.7",
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
            "You divide by d; (4.7) divides by √d, the standard deviation of a score.",
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
        "`q @ k.transpose(-1, -2)` is (b, heads, n, m). Divide by the root of q.shape[-1].",
        "`(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v`",
    ],
    explanation="""
    The softmax runs over the keys, so the weights of each query sum to 1 and its result is an average of values.
    `F.scaled_dot_product_attention` computes the same, on many machines without ever holding the whole table of n × m.
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
    "unet/mixed-axes",
    points=3,
    minutes=6,
    equation="4.7",
    title="Bug hunt: an attention that mixes h and w",
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
        "Every shape fits. Feed it an image with one bright pixel, and an `out` that is the identity.",
        "Compare the order in which pixels are laid in a row with the order in which they are put back.",
        "`(h w)` on the way in, so `(h w)` on the way out.",
    ],
    explanation="""
    What was gathered for the pixel in row i and column j was added at another place: on a square image at row j and
    column i, its mirror image. The shapes fit, the loss falls (the rest of the network works round it), and a test with
    square random images that looks at shapes alone says yes.
    """,
)

# ------------------------------------------------------------------------------------------------- 4.6 · in linear time


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
    equation="4.8",
    title="Linear attention",
    reference=linear_attention,
    library=(library.LinearAttention.gather,),
    cases=_queries,
    misconceptions=[
        Misconception(
            "softmax attention again",
            attention,
            "That is (4.7), with its table of pixels by pixels. Here softmax is taken of q and of k by themselves.",
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
        "`k.softmax(dim=-2).transpose(-1, -2) @ v` is the summary, (b, heads, d, d).",
        "`q.softmax(dim=-1) @ summary`",
    ],
    explanation="""
    Matrix products may be bracketed as one likes; the softmax of the *product* in (4.7) is what forbids it there. With
    a softmax on each factor, all pixels are first summed up in d vectors, and every pixel then mixes those d.
    """,
)

concept(
    "unet/linear-price",
    title="What linear attention gives up",
    question="""
    Linear attention never forms the table of n × n weights, but one can write down what that table would be:
    $A = \\operatorname{softmax}_d(q)\\,\\operatorname{softmax}_n(k)^\\top$. What can $A$ not be?
    """,
    options={
        "a": Option(
            "It can't have rows that sum to 1.",
            "Each row is a mixture, with weights that sum to 1, of d maps that each sum to 1. It was printed above.",
        ),
        "b": Option(
            "It can't look at pixels that are far away.",
            "Each of its d maps covers the whole image. Distance plays no part, in neither kind of attention.",
        ),
        "c": Option(
            "It can't be of rank above d: all pixels share d maps of where to look.",
            "Right. With n pixels and d = 32 it can't give each pixel a place of its own to look at, as the picture of "
            "noisy patches needs. What it can do is sum the image up, and tell that sum to every pixel.",
            right=True,
        ),
        "d": Option(
            "It can't be learned by gradient descent.",
            "Both are smooth functions of q, k and v, and both learn.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 4.7 · down and up


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
    minutes=4,
    equation="4.9",
    title="Pixels into channels",
    reference=space_to_depth,
    cases=_pixels,
    misconceptions=[
        Misconception(
            "colours last",
            _unshuffled("b c (h p) (w r) -> b (p r c) h w"),
            "In (4.9) the places within the square run fastest, the channels of x slowest: `(c p r)`, not `(p r c)`.",
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
        '`rearrange(x, "b c (h p) (w r) -> b (c p r) h w", p=patch, r=patch)`',
    ],
    explanation="""
    Nothing is lost and nothing is computed: the same numbers, in another order, as `F.pixel_unshuffle` lays them.
    A convolution behind it sees patch² times fewer places, each with patch² times more channels.
    """,
)

concept(
    "unet/checkerboards",
    title="Where checkerboards come from",
    question="""
    A transposed convolution with a 3 × 3 kernel and stride 2 puts a checkerboard on its output even when its input is
    constant and its weights are all equal. Why?
    """,
    options={
        "a": Option(
            "Its weights start at random.",
            "They were all equal in the first panel above, and the pattern was there.",
        ),
        "b": Option(
            "The stamps of neighbouring inputs overlap unevenly: some output pixels are hit once, some twice, some "
            "four times.",
            "Right: 3 isn't a multiple of 2. With a kernel of 4 every pixel is hit equally often, and with a resized "
            "image an ordinary convolution treats all pixels alike.",
            right=True,
        ),
        "c": Option(
            "It upsamples by copying pixels, which makes blocks.",
            "Copying is what resize-convolution does, and its panel is flat.",
        ),
        "d": Option(
            "The padding at the border spreads inwards.",
            "The border is one pixel wide in a single layer. The pattern covers the middle too.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 4.8 · the whole


class _OwnJoin(library.UNet):
    """A U-Net with a way of joining that can be told from plain concatenation."""

    def join(self, h, skip):
        return super().join(h, -skip)


@fixture("unet/small")
def _small_unet(shape, widths, blocks: int = 1, patch: int = 1, double: bool = False, seed: int = 0) -> library.UNet:
    """A U-Net of a few thousand weights, none of them 0, on non-square images."""
    return _stirred(_OwnJoin(tuple(shape), tuple(widths), blocks, patch)).to(torch.float64 if double else torch.float32)


def unet_forward(model, x, e):
    """The way through the network, with the embedding at hand. (In a notebook the network's own forward calls this.)"""
    return _through(model, x, e)


def _through(model, x, e, *, keep="after", join=None, middle_first=False, head_norm=True, skips_of=lambda skips: skips):
    """The same by hand, with a place for each of the mistakes that people make."""
    join = join or model.join
    h, skips = model.stem(F.pixel_unshuffle(x, model.patch)), []
    for level, blocks in enumerate(model.down):
        h = model.downsample[level - 1](h) if level else h
        if keep == "before":
            skips.append(h)
        for block in blocks:
            h = block(h, e)
        if keep == "after":
            skips.append(h)
    h = model.attention(model.middle(h, e)) if middle_first else model.middle(model.attention(h), e)
    skips = skips_of(skips)
    for level, blocks in enumerate(model.up):
        h = model.upsample[level - 1](h) if level else h
        h = join(h, skips.pop())
        for block in blocks:
            h = block(h, e)
    return F.pixel_shuffle(model.head(F.silu(model.norm(h)) if head_norm else h), model.patch)


def _networks(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, widths, blocks, patch, dtype in (
        (2, (1, 8, 12), (6, 10), 1, 2, torch.float32),
        (1, (3, 12, 8), (4, 6, 8), 2, 1, torch.float32),
        (3, (2, 4, 8), (8, 8), 1, 1, torch.float32),
        (2, (1, 6, 3), (6,), 2, 3, torch.float64),
    ):
        settings = {"shape": list(shape), "widths": list(widths), "blocks": blocks, "patch": patch, "seed": _seed(rng)}
        settings["double"] = dtype == torch.float64
        x, e = (torch.randn(b, *size, generator=rng, dtype=dtype) for size in (shape, (4 * widths[0],)))
        args = {"model": Fixture("unet/small", **settings), "x": x, "e": e}
        cases.append(Case(args, gradients=("model", "x", "e")))
    return cases


quiz(
    "unet/forward",
    points=5,
    minutes=12,
    equation="4.10",
    title="Down, across and up again",
    reference=unet_forward,
    library=(library.UNet.forward,),
    cases=_networks,
    misconceptions=[
        Misconception(
            "joined by hand",
            lambda model, x, e: _through(model, x, e, join=lambda h, skip: torch.cat([h, skip], dim=1)),
            "You concatenate yourself. Call `model.join(h, skip)`: the check uses a network that joins in its own way, "
            "as the ablations below will.",
        ),
        Misconception(
            "skips exchanged with what comes up",
            lambda model, x, e: _through(model, x, e, join=lambda h, skip: model.join(skip, h)),
            "`model.join(h, skip)`: first what comes up from below, then the skip.",
        ),
        Misconception(
            "skips kept before the blocks",
            lambda model, x, e: _through(model, x, e, keep="before"),
            "You keep what goes *into* the blocks of a level. The skip is what comes out of them.",
        ),
        Misconception(
            "the middle before the attention",
            lambda model, x, e: _through(model, x, e, middle_first=True),
            "At the bottom: first `model.attention(h)`, then `model.middle(h, e)`.",
        ),
        Misconception(
            "the last norm forgotten",
            lambda model, x, e: _through(model, x, e, head_norm=False),
            "Before the head stand a norm and a SiLU: `model.head(F.silu(model.norm(h)))`.",
        ),
    ],
    hints=[
        "Keep a list. On the way down append what leaves each level; on the way up take the last one first: `pop()`.",
        "Down: `downsample` stands between levels, so there is one fewer than levels: none before level 0, "
        "`model.downsample[level - 1]` before the others. Up: the same with `upsample`.",
        "Each level on the way up: upsample (not the first), `h = model.join(h, skips.pop())`, then its blocks. At the "
        "end norm, SiLU, head, and `F.pixel_shuffle(…, model.patch)`.",
    ],
    explanation="""
    Last in, first out: the skip of the coarsest level is needed first. A wrong order mostly fails with an error about
    shapes, and where two levels have the same shape it doesn't; a stack can't get it wrong.
    """,
)

# ------------------------------------------------------------------------------------------------- 4.10 · ablations

concept(
    "unet/blind",
    title="Denoising without being told t",
    question="""
    The network without the time embedding is not told how much noise there is, and still denoises. How can it?
    """,
    options={
        "a": Option(
            "It can't: whatever it learned is the average over all noise levels.",
            "Then its answer at t = 100 and at t = 900 would be equally poor for every image. The curves say "
            "otherwise: it treats the two differently.",
        ),
        "b": Option(
            "The time still leaks in through the weights of the optimizer.",
            "The step t is a constant for this network, in training and afterwards. There is nothing to leak.",
        ),
        "c": Option(
            "Group norm tells it, since it depends on the batch.",
            "Group norm looks at one image at a time, and it takes the overall scale *out*.",
        ),
        "d": Option(
            "The noise level can be read off the image itself: 784 noisy pixels say a lot about one number.",
            "Right. The background alone, constant in clean images, shows how strong the noise is. Sun et al. (2025) "
            "find that many diffusion models lose little without t. Where it does hurt is printed above.",
            right=True,
        ),
    },
)
