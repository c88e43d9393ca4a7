"""The quizzes of notebook 01, "The autoencoder"."""

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.models import autoencoder as library
from course_utils.models import blocks

from ..quizzes.declarations import Case, Fixture, Misconception, Option, concept, fixture, quiz


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
        "`….flatten(1).sum(dim=1)` leaves one number for each image.",
    ],
    explanation="""
    One number an image, in nats. The function of PyTorch works on logits because $\\ln(1-\\sigma(l)) =
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
            "0: nothing is lost, so nothing is paid.",
            "That is so for the squared error (1.1). Here, a pixel of $t=0.5$ with $p=0.5$ costs $\\ln 2$: look at "
            "the lowest point of the curve for t = 0.5 above.",
        ),
        "b": Option(
            "More than 0 wherever a pixel is grey: each pays the entropy of a coin with that probability.",
            "Right. Black and white pixels pay nothing, grey ones up to $\\ln 2$ nats. So compare (1.2) between models "
            "on the same images, and don't wait for 0.",
            right=True,
        ),
        "c": Option(
            "It is minimal at some other $p$: with grey pixels the cost pulls the decoder to black or white.",
            "Set the derivative of the bracket to zero: $-t/p+(1-t)/(1-p)=0$ has the one solution $p=t$. Grey stays "
            "grey; the minimum is just not 0.",
        ),
        "d": Option(
            "It is undefined, as a coin can't show grey.",
            "As a *likelihood* it is a stretch indeed, since a coin shows 0 or 1. But the formula takes any $t$ in "
            "$[0,1]$ and is a sound cost: it is smallest exactly at $p=t$.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 1.2 · PCA


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
    minutes=6,
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
        "Back: `z @ directions` is (b, c·h·w) again; `.view_as(x)` gives it the shape of images; then add `mean`.",
    ],
    explanation="""
    Encoder and decoder share one matrix, once as $W$ and once as $W^\\top$. That the rows of $W$ are orthonormal is
    what makes $W^\\top W$ a projection: a second pass changes nothing, which is a good way to test the code.
    """,
)

concept(
    "autoencoder/linear",
    title="What the linear autoencoder found",
    question="""
    A linear autoencoder with $k$ latents was trained until its error equals PCA's. Are the rows of its encoder the
    principal directions?
    """,
    options={
        "a": Option(
            "Yes: the best solution is unique, so both must have found the same.",
            "Multiply the codes by any invertible $k\\times k$ matrix and let the decoder undo it: the reconstructions "
            "don't change. There are infinitely many equally good solutions.",
        ),
        "b": Option(
            "Yes, but in another order.",
            "Order would be the least of it: directions may be mixed, stretched and skewed, as long as the decoder "
            "undoes it.",
        ),
        "c": Option(
            "No: gradient descent got stuck in a local minimum, which happens to have the same error.",
            "For a linear autoencoder every local minimum is a global one (Baldi and Hornik 1989). There are many "
            "minima, all equally deep.",
        ),
        "d": Option(
            "No: it found the same *subspace*, with an arbitrary basis in it.",
            "Right. What both share is the set of images they can draw. Remember this for 1.7: nothing in "
            "the loss says where codes should lie.",
            right=True,
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 1.3 · sizes


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
        "Span: d·(k − 1) + 1. Room to step: n + 2p − span. Steps: room // s. Positions: steps + 1.",
        "`tuple((n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for n in size)`",
    ],
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
        "Solve (1.4), without its rounding, for the size that goes in.",
        "The first kernel stamp is d·(k − 1) + 1 wide; each further pixel of the input adds a stride.",
        "`tuple((n - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1 for n in size)`",
    ],
    explanation="""
    Every input pixel stamps the kernel onto the output, a stride further than the last; stamps that overlap are
    added. Then `padding` trims both edges. `output_padding` picks one of the sizes that a strided convolution would
    have rounded to the same number.
    """,
)


@fixture("autoencoder/linear")
def _linear(latent: int, outputs: int, seed: int = 0) -> nn.Module:
    return nn.Linear(latent, outputs)


@fixture("autoencoder/up")
def _up(maps: int, channels: int, seed: int = 0) -> nn.Module:
    """Four times as high and wide, with two transposed convolutions."""
    return nn.Sequential(
        nn.ReLU(), nn.ConvTranspose2d(maps, 3, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(3, channels, 4, 2, 1)
    )


def _decoder_reference(z, linear, up, shape):
    channels, height, width = shape
    return up(linear(z).view(len(z), -1, height // 4, width // 4))


def _decoder_as_handed_out(z, linear, up, shape):
    channels, width, height = shape
    maps = linear(z).view(len(z), -1, height // 4, width // 4)
    return up(maps).view(len(z), channels, height, width).reshape(len(z), *shape)


def _decoder_swapped_result(z, linear, up, shape):
    channels, height, width = shape
    maps = linear(z).view(len(z), -1, width // 4, height // 4)
    return up(maps)


def _decoder_transposed_back(z, linear, up, shape):
    channels, height, width = shape
    maps = linear(z).view(len(z), -1, width // 4, height // 4)
    return up(maps).transpose(2, 3)


def _decoder_transposed_maps(z, linear, up, shape):
    channels, height, width = shape
    maps = linear(z).view(len(z), -1, width // 4, height // 4).transpose(2, 3)
    return up(maps)


def _decoder_channels_last(z, linear, up, shape):
    channels, height, width = shape
    maps = linear(z).view(len(z), height // 4, width // 4, -1).permute(0, 3, 1, 2)
    return up(maps)


def _decoder_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, latent, maps, shape in ((3, 2, 4, (1, 8, 12)), (1, 5, 2, (3, 16, 8)), (2, 3, 4, (3, 12, 12))):
        pixels = maps * (shape[1] // 4) * (shape[2] // 4)
        args = {
            "z": torch.randn(b, latent, generator=rng),
            "linear": Fixture("autoencoder/linear", latent=latent, outputs=pixels, seed=b),
            "up": Fixture("autoencoder/up", maps=maps, channels=shape[0], seed=b),
            "shape": shape,
        }
        cases.append(Case(args, gradients=("z", "linear", "up"), label=f"images of {shape[1]} × {shape[2]} pixels"))
    return cases


quiz(
    "autoencoder/swapped-decoder",
    points=3,
    minutes=6,
    title="Bug hunt",
    bug_hunt=True,
    reference=_decoder_reference,
    cases=_decoder_cases,
    misconceptions=[
        Misconception(
            "still as it was handed out",
            _decoder_as_handed_out,
            "The shape is right, the pixels are not. In which order do our shapes name their axes? Read the first line "
            "aloud.",
        ),
        Misconception(
            "fixed at the end only",
            _decoder_transposed_back,
            "Turning the finished image round gives the right shape, but the feature maps were still read with rows "
            "and columns exchanged: the numbers of one row land in several.",
        ),
        Misconception(
            "maps turned after a wrong view",
            _decoder_transposed_maps,
            "`view` has to be given the right height and width at once; turning its result puts other numbers there.",
        ),
        Misconception(
            "width before height",
            _decoder_swapped_result,
            "Your images come out w high and h wide. Every array here is (b, c, h, w): rows first.",
        ),
        Misconception(
            "channels last",
            _decoder_channels_last,
            "PyTorch keeps channels before rows and columns: view(b, maps, h/4, w/4).",
        ),
    ],
    hints=[
        "The quiz tests it on images of 8 × 12 pixels. On which images could nobody ever see the mistake?",
        "Our shapes are (c, h, w): height before width. What does the first line call them?",
        "Name them in the right order, and the last line needs no reshaping at all: `up` returns (b, c, h, w).",
    ],
    explanation="""
    `view` and `reshape` never complain as long as the *number* of entries fits, so the last line hides the mistake:
    it gives the image the shape it should have and shears its pixels. On squares h = w, and every test passes. And a
    network that is *trained* with the mistake learns to live with it: the linear layer can put its numbers anywhere,
    so the loss goes down, while the transposed convolutions mix pixels that are no neighbours. Test on images that
    are not square.
    """,
)

# ------------------------------------------------------------------------------------------------- 1.4 · sweep

concept(
    "autoencoder/linear-wins",
    title="When the straight line wins",
    question="""
    Somebody trains a nonlinear autoencoder with 128 latents for a minute and finds its error on test images *higher*
    than PCA's with 128, on the same images. Its training error is just as high. Which explanation fits?
    """,
    options={
        "a": Option(
            "It overfits: so many weights learn the training images by heart.",
            "Then its *training* error would be low. Here both are high.",
        ),
        "b": Option(
            "By Eckart and Young nothing has a smaller error than PCA.",
            "Nothing *linear* has. A curved sheet may pass closer to the images than any flat one.",
        ),
        "c": Option(
            "PCA is the exact solution of its problem; gradient descent is still on its way.",
            "Right: PCA is *solved*, at any size, while the network only has as much as its steps have bought. "
            "With many latents PCA has little left to improve, so the network needs many steps to overtake it.",
            right=True,
        ),
        "d": Option(
            "Images have no more than a few dozen nonlinear directions, and the remaining latents disturb.",
            "A latent that isn't needed can be ignored by the decoder; and PCA's error still falls a great deal from "
            "32 to 128, so there is more to say.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 1.5 · the plane


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
    minutes=7,
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
        "`torch.stack([z1_grid, z2_grid], dim=-1).view(-1, 2)` are the points; `decoded.view(rows, columns, "
        "*decoded.shape[1:])` is the answer.",
    ],
    explanation="""
    One call of the decoder for all points: a loop over points would be right too, and many times slower. The order of
    the points must agree with the order in which `view` reads them: last axis fastest, here z₁.
    """,
)

# ------------------------------------------------------------------------------------------------- 1.6 · interpolation


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
        "Give t one more axis for every axis of a: `t.view(-1, *[1] * a.ndim)`.",
        "(1 - t) * a + t * b then broadcasts to (steps, *a.shape).",
    ],
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
    minutes=4,
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
        "`centred.T @ centred / len(z)`",
    ],
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
            "Nothing in the loss says where codes lie, so draws land where the decoder was never trained.",
            "Right. The loss only looks at codes of training images. Between and beyond them the decoder may do "
            "what it "
            "likes, and a Gaussian fitted afterwards covers those places too.",
            right=True,
        ),
        "b": Option(
            "The decoder is too weak; a larger one would draw well.",
            "It draws perfectly from codes of images: its reconstructions are perfect. The trouble is *where* it is "
            "asked.",
        ),
        "c": Option(
            "The Gaussian was fitted to too few codes.",
            "With more codes its mean and covariance become exact, and its draws land in the same gaps: the codes are "
            "just not Gaussian.",
        ),
        "d": Option(
            "Sampling needs noise in the pixels, and the autoencoder has none.",
            "Noise in the pixels would make grain. What is wrong here are shapes, and they come from the codes.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 1.8 · denoising


@fixture("autoencoder/filter")
def _filter(channels: int, seed: int = 0) -> nn.Module:
    """A network, small and steep: every pixel of its input shows in its output."""
    layer = nn.Conv2d(channels, channels, 3, padding=1)
    with torch.no_grad():
        layer.weight.mul_(4)
    return nn.Sequential(layer, nn.Tanh())


def _denoising_cases(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, sigma in ((3, (1, 8, 12), 0.5), (2, (3, 4, 8), 1.5), (1, (1, 8, 4), 0.0)):
        x = _images(rng, b, *shape)
        args = {"model": Fixture("autoencoder/filter", channels=shape[0], seed=b), "x": x}
        args |= {"noise": torch.randn(x.shape, generator=rng), "sigma": sigma}
        cases.append(Case(args, gradients=("model",), label=f"σ = {sigma}, images {shape}"))
    return cases


def _denoise_noisy_target(model, x, noise, sigma):
    noisy = x + sigma * noise
    return library.reconstruction_error(noisy, model(noisy))


def _denoise_nothing(model, x, noise, sigma):
    return library.reconstruction_error(x, model(x))


def _denoise_variance(model, x, noise, sigma):
    return library.denoising_error(model, x, noise, sigma**2)


def _denoise_noise_target(model, x, noise, sigma):
    return library.reconstruction_error(noise, model(x + sigma * noise))


def _denoise_summed(model, x, noise, sigma):
    return library.denoising_error(model, x, noise, sigma) * x[0].numel()


def _denoise_mean(model, x, noise, sigma):
    return library.denoising_error(model, x, noise, sigma).mean()


def _denoise_one_noise(model, x, noise, sigma):
    return library.denoising_error(model, x, noise[:1].expand_as(x), sigma)


def _denoise_clipped(model, x, noise, sigma):
    return library.reconstruction_error(x, model((x + sigma * noise).clamp(-1, 1)))


quiz(
    "autoencoder/denoising",
    points=2,
    minutes=4,
    equation="1.8",
    title="The denoising loss",
    reference=library.denoising_error,
    cases=_denoising_cases,
    misconceptions=[
        Misconception(
            "rebuilding the noisy image",
            _denoise_noisy_target,
            "You reward the model for rebuilding what it was shown, noise included. The target is the *clean* image. "
            "(`x += …` and `x.add_(…)` would make that noisy, too.)",
        ),
        Misconception("no noise added", _denoise_nothing, "The model is to see x + σ·noise, not x."),
        Misconception(
            "variance for standard deviation",
            _denoise_variance,
            "Noise is stretched by its standard deviation σ, not by σ².",
        ),
        Misconception(
            "the noise as target",
            _denoise_noise_target,
            "Predicting the noise instead is what diffusion models will do (notebook 05). Here the target is the clean "
            "image.",
        ),
        Misconception("summed over pixels", _denoise_summed, "Mean over the pixels of each image, as in (1.1)."),
        Misconception("averaged over the batch", _denoise_mean, "Return one number for each image."),
        Misconception(
            "noisy images clipped",
            _denoise_clipped,
            "Leave the noisy image as it is: clipped to [−1, 1], the noise would no longer be Gaussian.",
        ),
        Misconception(
            "one noise for the whole batch",
            _denoise_one_noise,
            "Each image has its own row of `noise`; use all of them.",
        ),
    ],
    hints=[
        "What does the model see, and what is its answer compared with? Two different images.",
        "It sees `x + sigma * noise`; its answer is compared with `x` by (1.1).",
        "`(model(x + sigma * noise) - x).square().flatten(1).mean(dim=1)`",
    ],
    explanation="""
    Input and target differ, that is all. Because of it, copying is no longer a solution: even with a
    bottleneck wider than the image there is something to learn.
    """,
)

concept(
    "autoencoder/far-noise",
    title="A denoiser in thick fog",
    equation="1.8",
    question="""
    The noise is so strong ($\\sigma=100$) that nothing of the image can be seen. Which answer $D(\\tilde x)$ has the
    smallest expected squared error?
    """,
    options={
        "a": Option(
            "A random training image: as likely as any other.",
            "It is a *plausible* image but a bad bet: its expected squared error is twice that of the mean image "
            "(variance of the truth plus variance of the guess).",
        ),
        "b": Option(
            "The noisy image itself: changing it might make it worse.",
            "Its error is $\\sigma^2=10{,}000$ per pixel. Anything in $[-1,1]$ has at most 4.",
        ),
        "c": Option(
            "The mean of all images, blurred as it is.",
            "Right: with nothing to go by, $\\mathbb E[x\\mid\\tilde x]=\\mathbb E[x]$. One jump from pure noise "
            "can't give "
            "a sharp image; many small steps can, which is the idea of diffusion.",
            right=True,
        ),
        "d": Option(
            "The training image nearest to $\\tilde x$.",
            "Under so much noise the nearest one is all but random, so this is no better than a random one. The best "
            "answer is an "
            "average over *all* images that could be behind the fog.",
        ),
    },
)
