"""Parts that several models share: the convolutional encoder and decoder, and the arithmetic of their sizes."""

from jaxtyping import Float
from torch import Tensor, nn

from ..arrays import is_whole

Pair = tuple[int, int]
Size = int | tuple[int, ...]  # along one axis, or a pair (h, w)


# ---------------------------------------------------------------------------------------------------------------------
# How large is what comes out?
# ---------------------------------------------------------------------------------------------------------------------
def conv_size(size: Size, kernel: Size, stride: Size = 1, padding: Size = 0, dilation: Size = 1) -> Size:
    """Size of a convolution's output along one axis, or (h, w) for a pair: equation (1.4).

    size: what comes in, a whole number or a pair (h, w).  kernel, stride, padding, dilation: whole numbers, or pairs.
    Returns an int for an int, a pair for a pair. Raises ValueError where the kernel is wider than the padded input.

    >>> conv_size(28, kernel=4, stride=2, padding=1)
    14
    >>> conv_size((28, 40), kernel=3, stride=(1, 2))
    (26, 19)
    """
    if isinstance(size, tuple):
        return _for_each_axis(conv_size, size, kernel, stride, padding, dilation)
    _whole("conv_size", 1, size=size, kernel=kernel, stride=stride, dilation=dilation)
    _whole("conv_size", 0, padding=padding)
    reach = dilation * (kernel - 1) + 1  # pixels that the kernel spans
    if size + 2 * padding < reach:
        raise ValueError(
            f"conv_size expects a kernel that fits: it spans {reach} pixels, the padded input has "
            f"{size + 2 * padding}; use a larger image or more padding."
        )
    return (size + 2 * padding - reach) // stride + 1


def conv_transpose_size(
    size: Size, kernel: Size, stride: Size = 1, padding: Size = 0, output_padding: Size = 0, dilation: Size = 1
) -> Size:
    """Size of a *transposed* convolution's output along one axis, or (h, w) for a pair: equation (1.5).

    Arguments as in `conv_size`; output_padding adds rows at one side, which tells apart the inputs that a strided
    convolution had rounded to one size. Raises ValueError where nothing would be left.

    >>> conv_transpose_size(14, kernel=4, stride=2, padding=1)
    28
    >>> conv_transpose_size((7, 10), kernel=3, stride=2, padding=1, output_padding=(1, 0))
    (14, 19)
    """
    if isinstance(size, tuple):
        return _for_each_axis(conv_transpose_size, size, kernel, stride, padding, output_padding, dilation)
    _whole("conv_transpose_size", 1, size=size, kernel=kernel, stride=stride, dilation=dilation)
    _whole("conv_transpose_size", 0, padding=padding, output_padding=output_padding)
    if output_padding >= max(stride, dilation):
        raise ValueError(
            f"conv_transpose_size expects output_padding below stride or dilation ({max(stride, dilation)}), "
            f"got {output_padding}; a larger stride or a larger kernel gives a larger output."
        )
    result = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1
    if result < 1:
        raise ValueError(
            f"conv_transpose_size: the output would have {result} pixels; use less padding than {padding}."
        )
    return result


def _for_each_axis(function, *arguments):
    pairs = [value if isinstance(value, tuple) else (value, value) for value in arguments]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{function.__name__} expects whole numbers or pairs (h, w), got {arguments}.")
    return tuple(function(*(pair[axis] for pair in pairs)) for axis in (0, 1))


def _whole(function: str, least: int, **values) -> None:
    for name, value in values.items():
        if not is_whole(value, least):
            raise ValueError(f"{function} expects {name} as a whole number, {least} or more, got {value!r}.")


# ---------------------------------------------------------------------------------------------------------------------
# Down and up again
# ---------------------------------------------------------------------------------------------------------------------
KERNEL, STRIDE, PADDING = 4, 2, 1  # halves and doubles even sizes exactly; 4 is a multiple of 2: no checkerboards


def small_size(shape: tuple[int, ...], widths: tuple[int, ...]) -> Pair:
    """Height and width of the smallest feature map: each of the `widths` halves both.

    shape: (c, h, w) of the images, c 1 (grey) or 3 (colour), h and w multiples of 2 ** len(widths).
    Raises ValueError for any other shape or for no widths.

    >>> small_size((3, 32, 64), (64, 64))
    (8, 16)
    """
    if len(shape) != 3 or not all(isinstance(n, int) for n in shape) or shape[0] not in (1, 3):
        raise ValueError(f"expected an image shape (c, h, w) with c 1 (grey) or 3 (colour), got {tuple(shape)}.")
    if not widths or min(widths) < 1:
        raise ValueError(f"expected one or more positive channel widths, such as (64, 64), got {tuple(widths)}.")
    h, w = shape[1:]
    factor = STRIDE ** len(widths)
    if h < factor or w < factor or h % factor or w % factor:
        raise ValueError(
            f"expected height and width that are multiples of {factor} ({len(widths)} halvings), got {h}×{w}; "
            f"resize the images, for instance to {_nearest(h, factor)}×{_nearest(w, factor)}."
        )
    return h // factor, w // factor


def _nearest(size: int, factor: int) -> int:
    return max(1, round(size / factor)) * factor


class Encoder(nn.Sequential):
    """Images to `outputs` numbers each: one strided convolution for every width, then a linear layer.

    shape: (c, h, w) of the images;  outputs: how many numbers an image becomes;  widths: channels of each convolution.
    Maps (b, c, h, w) to (b, outputs). Raises ValueError for sizes that can't be halved len(widths) times.

    >>> import torch
    >>> Encoder((3, 32, 64), outputs=10)(torch.zeros(5, 3, 32, 64)).shape
    torch.Size([5, 10])
    """

    def __init__(self, shape: tuple[int, int, int], outputs: int, widths: tuple[int, ...] = (64, 64)):
        h, w = small_size(shape, widths)
        if outputs < 1:
            raise ValueError(f"Encoder expects outputs ≥ 1, got {outputs}.")
        layers: list[nn.Module] = []
        for in_channels, out_channels in zip((shape[0], *widths[:-1]), widths):
            layers += [nn.Conv2d(in_channels, out_channels, KERNEL, STRIDE, PADDING), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(widths[-1] * h * w, outputs))
        self.shape = tuple(shape)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"Encoder expects images (b, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}.")
        return super().forward(x)


class Decoder(nn.Sequential):
    """Codes to images, the encoder's way back: a linear layer, then one transposed convolution for every width.

    latent: numbers in a code;  shape: (c, h, w) of the images;  widths: the *encoder's*, used in reverse.
    Maps (b, latent) to (b, c, h, w), any real numbers: what they mean (logits, pixels) is for the model to say.

    >>> import torch
    >>> Decoder(10, (3, 32, 64))(torch.zeros(5, 10)).shape
    torch.Size([5, 3, 32, 64])
    """

    def __init__(self, latent: int, shape: tuple[int, int, int], widths: tuple[int, ...] = (64, 64)):
        h, w = small_size(shape, widths)
        if latent < 1:
            raise ValueError(f"Decoder expects latent ≥ 1, got {latent}.")
        layers: list[nn.Module] = [
            nn.Linear(latent, widths[-1] * h * w),
            nn.ReLU(),
            nn.Unflatten(1, (widths[-1], h, w)),
        ]
        upwards = (*reversed(widths), shape[0])
        for in_channels, out_channels in zip(upwards, upwards[1:]):
            layers += [nn.ConvTranspose2d(in_channels, out_channels, KERNEL, STRIDE, PADDING), nn.ReLU()]
        super().__init__(*layers[:-1])  # nothing after the last layer: its output may be any number
        self.latent = latent

    def forward(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"Decoder expects codes (b, {self.latent}), got {tuple(z.shape)}.")
        return super().forward(z)
