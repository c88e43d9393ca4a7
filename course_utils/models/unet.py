"""The U-Net of notebook 04 and its parts: noisy images and their steps in, one prediction per pixel out.

Every part maps (b, c, h, w) to (b, c', h, w) and works on images of any height and width; what a block needs to know
about the step (and the class) comes as an embedding, (b, e).
"""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from ..arrays import check_labels


# ---------------------------------------------------------------------------------------------------------------------
# Telling the network which step it is
# ---------------------------------------------------------------------------------------------------------------------
def sinusoidal_embedding(t: Shaped[Tensor, " b"], size: int = 64, longest: float = 10_000.0) -> Float[Tensor, "b e"]:
    """A number as `size` waves, sines then cosines of t / longest^(k / (size/2)), k = 0, 1, ...: equation (4.2).

    t: (b,), steps or any real numbers;  size: even;  longest: the last wave's length is nearly 2π · longest steps.
    Returns (b, size), float32 (float64 for float64), in [-1, 1].

    >>> sinusoidal_embedding(torch.tensor([0, 1]), size=4)
    tensor([[0.0000, 0.0000, 1.0000, 1.0000],
            [0.8415, 0.0100, 0.5403, 0.9999]])
    """
    if size < 2 or size % 2:
        raise ValueError(f"sinusoidal_embedding expects an even size of at least 2, got {size}.")
    t = t if t.dtype == torch.float64 else t.float()
    speed = longest ** (-torch.arange(size // 2, device=t.device, dtype=t.dtype) / (size // 2))
    angle = t[:, None] * speed
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# ---------------------------------------------------------------------------------------------------------------------
# Blocks
# ---------------------------------------------------------------------------------------------------------------------
def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm in groups of 16 channels or a little more, equation (4.3); one group where there are fewer.

    Not in the usual 8 or 32 groups: one of PyTorch's kernels on CPUs (bfloat16, channels last, planes of 14 × 14) takes
    some twenty times as long for groups of 4 channels as for groups of 16. In float32 it is a factor of three, and on
    planes of 32 × 32 or with channels first none. `benchmarks/choices.py` has the whole network with 8 groups.
    """
    groups = max(1, channels // 16)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


class ResidualBlock(nn.Module):
    """x + what two convolutions add to it; between them the embedding scales and shifts each channel: equation (4.5).

    channels: in → out;  embedding: its size. The last convolution starts at 0: the block begins as the identity (or a
    1 × 1 convolution, where channels change).

    >>> ResidualBlock(8, 16, embedding=4)(torch.zeros(2, 8, 5, 7), torch.zeros(2, 4)).shape
    torch.Size([2, 16, 5, 7])
    """

    def __init__(self, in_channels: int, out_channels: int, embedding: int):
        super().__init__()
        self.norm1, self.conv1 = group_norm(in_channels), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2, self.conv2 = group_norm(out_channels), nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.condition = nn.Linear(embedding, 2 * out_channels)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        _zero(self.conv2)

    def forward(self, x: Float[Tensor, "b c h w"], e: Float[Tensor, "b e"]) -> Float[Tensor, "b d h w"]:
        h = self.conv1(F.silu(self.norm1(x)))
        h = scale_shift(self.norm2(h), self.condition(e))
        return self.skip(x) + self.conv2(F.silu(h))


class ConvNeXtBlock(nn.Module):
    """The same task with a 7 × 7 convolution for each channel by itself, then two dense ones across channels.

    Liu et al. (2022), as tutorials on diffusion use it; arguments and result as in `ResidualBlock`. Few
    multiplications, and slow on a processor: a convolution per channel has nothing to reuse.
    """

    def __init__(self, in_channels: int, out_channels: int, embedding: int, expand: int = 2):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 7, padding=3, groups=in_channels)
        self.norm = nn.GroupNorm(1, in_channels)
        self.condition = nn.Linear(embedding, 2 * in_channels)
        self.widen = nn.Conv2d(in_channels, expand * out_channels, 1)
        self.narrow = nn.Conv2d(expand * out_channels, out_channels, 1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        _zero(self.narrow)

    def forward(self, x: Float[Tensor, "b c h w"], e: Float[Tensor, "b e"]) -> Float[Tensor, "b d h w"]:
        h = scale_shift(self.norm(self.depthwise(x)), self.condition(e))
        return self.skip(x) + self.narrow(F.gelu(self.widen(h)))


def scale_shift(h: Float[Tensor, "b c h w"], condition: Float[Tensor, "b c2"]) -> Float[Tensor, "b c h w"]:
    """h · (1 + scale) + shift, one scale and shift for each image and channel: equation (4.4).

    h: (b, c, h, w);  condition: (b, 2c), the scales and then the shifts.

    >>> scale_shift(torch.ones(1, 2, 1, 1), torch.tensor([[0.0, 1.0, 5.0, 6.0]])).flatten()
    tensor([6., 8.])
    """
    scale, shift = condition[:, :, None, None].chunk(2, dim=1)
    return torch.addcmul(shift, h, 1 + scale)


# ---------------------------------------------------------------------------------------------------------------------
# Attention
# ---------------------------------------------------------------------------------------------------------------------
class Attention(nn.Module):
    """x + what every pixel gathers from all others, softmax(q kᵀ / √d) v: equation (4.6).

    channels: in and out;  heads: they divide the channels; by default 32 channels each. The cost grows with (h · w)².

    >>> Attention(64)(torch.zeros(2, 64, 5, 7)).shape
    torch.Size([2, 64, 5, 7])
    """

    def __init__(self, channels: int, heads: int | None = None):
        super().__init__()
        self.heads = _heads(channels, heads)
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        _zero(self.out)

    def gather(self, q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "b heads n d"]:
        """q, k, v: each (b, heads, pixels, channels of a head). Returns one of that shape."""
        # Not F.scaled_dot_product_attention: it saves memory where images are large, but on a CPU in bfloat16 its
        # backward pass is slow. Measured at 49 pixels: 46 ms for a training step of it, 6 ms for this.
        return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(dim=-1) @ v

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        h, w = x.shape[2:]
        split = "b (three heads c) h w -> three b heads (h w) c"
        q, k, v = rearrange(self.qkv(self.norm(x)), split, three=3, heads=self.heads)
        return x + self.out(rearrange(self.gather(q, k, v), "b heads (h w) c -> b (heads c) h w", h=h, w=w))


class LinearAttention(Attention):
    """The same without the pixels-by-pixels table: softmax(q) (softmax(k)ᵀ v), equation (4.9). Costs grow with h · w.

    The softmax of q runs over the channels of a head, that of k over the pixels (Shen et al. 2021): so every pixel
    gathers an average, with weights that are positive and sum to 1.
    """

    def gather(self, q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "b heads n d"]:
        summary = k.softmax(dim=-2).transpose(-1, -2) @ v  # (b, heads, d, d): how much of each v goes with each k
        return q.softmax(dim=-1) @ summary


# ---------------------------------------------------------------------------------------------------------------------
# The network
# ---------------------------------------------------------------------------------------------------------------------
class ClassPlane(nn.Module):
    """A block that sees the class as one more channel, equation (7.2): embedding → dense → an image plane.

    block: made for one channel more than it is given;  embedding: its size;  size: (h, w) of the block's input.
    Called with both embeddings in one, (b, 2 · embedding): the step's, which the block gets, then the class's.
    """

    def __init__(self, block: nn.Module, embedding: int, size: tuple[int, int]):
        super().__init__()
        self.block, self.plane, self.size = block, nn.Linear(embedding, size[0] * size[1]), size

    def forward(self, x: Float[Tensor, "b c h w"], e: Float[Tensor, "b e"]) -> Float[Tensor, "b d h w"]:
        step, label = e.chunk(2, dim=1)
        plane = self.plane(label).view(-1, 1, *self.size).to(x.dtype)
        return self.block(torch.cat([x, plane], dim=1), step)


class UNet(nn.Module):
    """Noisy images and their steps → one prediction for every pixel (of ε, x_0 or v: the loss decides).

    shape: (c, h, w) of the images, h and w multiples of patch · 2 ** (levels − 1);
    widths: channels of each level, from the finest; each level halves height and width;
    blocks: per level, on the way down and again on the way up;
    patch: the stem turns squares of patch × patch pixels into channels, equation (4.7), before the first convolution;
    num_classes: None, or how many; a model with classes also knows one label more, which means "any" (`null`);
    block, attention: which parts to build with; attention=None leaves it out;
    conditioning: how the class comes in: "added" to the step's embedding, or as a "plane" beside each block's input; or
    a function (in_channels, out_channels, embedding, (h, w)) that makes blocks of your own, called as `ClassPlane` is.

    Call it as model(x_t, t) or model(x_t, t, y): x_t (b, c, h, w), t (b,) steps, y (b,) labels; without y, "any".

    >>> model = UNet((1, 28, 28), widths=(16, 32), num_classes=10)
    >>> model(torch.zeros(3, 1, 28, 28), torch.tensor([1, 500, 1000]), torch.tensor([0, 9, model.null])).shape
    torch.Size([3, 1, 28, 28])
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (1, 28, 28),
        widths: tuple[int, ...] = (32, 64),
        blocks: int = 1,
        patch: int = 2,
        num_classes: int | None = None,
        block: Callable[..., nn.Module] = ResidualBlock,
        attention: Callable[[int], nn.Module] | None = Attention,
        conditioning: str | Callable[..., nn.Module] = "added",
    ):
        super().__init__()
        sizes = _sizes(shape, widths, patch)
        if not callable(conditioning) and conditioning not in ("added", "plane"):
            raise ValueError(f'conditioning: expected "added" or "plane", got {conditioning!r}.')
        self.shape, self.patch, self.num_classes, self.conditioning = tuple(shape), patch, num_classes, conditioning
        self.config = {  # to build this network again: it is stored beside the weights
            "shape": tuple(shape), "widths": tuple(widths), "blocks": blocks, "patch": patch, "block": block,
            "num_classes": num_classes, "attention": attention, "conditioning": conditioning,
        }  # fmt: skip
        embedding, pixels = 4 * widths[0], shape[0] * patch**2
        self.time = nn.Sequential(nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label = None if num_classes is None else nn.Embedding(num_classes + 1, embedding)

        def make(in_channels: int, out_channels: int, level: int) -> nn.Module:
            if num_classes is None or conditioning == "added":
                return block(in_channels, out_channels, embedding)
            if callable(conditioning):
                return conditioning(in_channels, out_channels, embedding, sizes[level])
            return ClassPlane(block(in_channels + 1, out_channels, embedding), embedding, sizes[level])

        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(nn.ModuleList(make(width, width, level) for _ in range(blocks)))
            if level + 1 < len(widths):
                self.downsample.append(nn.Conv2d(width, widths[level + 1], 3, stride=2, padding=1))
        self.attention = nn.Identity() if attention is None else attention(widths[-1])
        self.middle = make(widths[-1], widths[-1], len(widths) - 1)
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            self.up.append(nn.ModuleList(make((1 + (k == 0)) * width, width, level) for k in range(blocks)))
            if level > 0:  # four values a pixel, which become a square of 2 × 2
                self.upsample.append(nn.Sequential(nn.Conv2d(width, 4 * widths[level - 1], 1), nn.PixelShuffle(2)))
        self.norm, self.head = group_norm(widths[0]), nn.Conv2d(widths[0], pixels, 3, padding=1)
        _zero(self.head)

    @property
    def null(self) -> int | None:
        """The label that means "any class"; None for a model without classes."""
        return self.num_classes

    def embed(self, t: Shaped[Tensor, " b"], y: Int[Tensor, " b"] | None) -> Float[Tensor, "b e"]:
        """Step and class as numbers for the blocks: their sum (b, e), equation (7.1), or side by side, (b, 2e)."""
        e = self.time(sinusoidal_embedding(t, 64).to(self.stem.weight.dtype))
        if self.label is None:
            if y is not None:
                raise ValueError("UNet: got labels, but this model has no classes; make it with num_classes=...")
            return F.silu(e)
        y = torch.full_like(t, self.null, dtype=torch.long) if y is None else y
        check_labels("UNet", y, len(t), self.null)
        if self.conditioning != "added":
            return torch.cat([F.silu(e), self.label(y).to(e.dtype)], dim=1)
        return F.silu(e + self.label(y))

    def join(self, h: Float[Tensor, "b c h w"], skip: Float[Tensor, "b d h w"]) -> Float[Tensor, "b cd h w"]:
        """What comes up from below, and beside it what was there on the way down: equation (4.8)."""
        return torch.cat([h, skip], dim=1)

    def forward(
        self, x: Float[Tensor, "b c h w"], t: Shaped[Tensor, " b"], y: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"UNet expects images (b, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}.")
        if t.shape != x.shape[:1]:
            raise ValueError(f"UNet expects t of shape ({len(x)},), one step per image, got {tuple(t.shape)}.")
        e = self.embed(t, y)
        h = self.stem(F.pixel_unshuffle(x, self.patch))
        skips = []
        for level, blocks in enumerate(self.down):
            h = self.downsample[level - 1](h) if level else h
            for block in blocks:
                h = block(h, e)
            skips.append(h)
        h = self.middle(self.attention(h), e)
        for level, blocks in enumerate(self.up):
            h = self.upsample[level - 1](h) if level else h
            h = self.join(h, skips.pop())  # last in, first out: the finest comes last
            for block in blocks:
                h = block(h, e)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)


def _sizes(shape: tuple[int, ...], widths: tuple[int, ...], patch: int) -> list[tuple[int, int]]:
    """Height and width of every level. Raises ValueError for images that can't be halved so often."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"UNet expects an image shape (c, h, w), got {tuple(shape)}.")
    if not widths or min(widths) < 1 or patch < 1:
        raise ValueError(f"UNet expects positive widths and patch, got widths {tuple(widths)} and patch {patch}.")
    factor = patch * 2 ** (len(widths) - 1)
    if shape[1] % factor or shape[2] % factor:
        raise ValueError(
            f"UNet expects height and width that are multiples of {factor} (patch {patch}, {len(widths)} levels), got "
            f"{shape[1]}×{shape[2]}; resize the images, or use fewer widths or a smaller patch."
        )
    return [(shape[1] // patch // 2**k, shape[2] // patch // 2**k) for k in range(len(widths))]


def _heads(channels: int, heads: int | None) -> int:
    heads = max(1, channels // 32) if heads is None else heads
    if heads < 1 or channels % heads:
        raise ValueError(f"Attention expects heads that divide {channels} channels, got {heads}.")
    return heads


def _zero(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
