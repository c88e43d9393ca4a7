"""A transformer as a denoiser: the DiT of Peebles and Xie (2023, arXiv:2212.09748), small enough for a laptop.

An image becomes a row of tokens, one for each patch, (b, n, d); every block maps (b, n, d) to (b, n, d) and is told the
step (and the class) as an embedding, (b, d). Called as the U-Net is, and trained and sampled by the same functions.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from ..arrays import check_labels
from .unet import sinusoidal_embedding


# ---------------------------------------------------------------------------------------------------------------------
# From images to tokens and back
# ---------------------------------------------------------------------------------------------------------------------
def patchify(x: Float[Tensor, "b c h w"], patch: int) -> Float[Tensor, "b n p"]:
    """Squares of patch × patch pixels as tokens, row by row: (b, (h / patch) · (w / patch), c · patch²).

    x: (b, c, h, w), h and w multiples of patch (ValueError otherwise). A token's numbers are in the order (c, row,
    column), equation (11.3).

    >>> patchify(torch.arange(16.0).view(1, 1, 4, 4), patch=2)[0]
    tensor([[ 0.,  1.,  4.,  5.],
            [ 2.,  3.,  6.,  7.],
            [ 8.,  9., 12., 13.],
            [10., 11., 14., 15.]])
    """
    _grid("patchify", x.shape[1:], patch)
    return rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch)


def unpatchify(tokens: Float[Tensor, "b n p"], shape: tuple[int, int, int], patch: int) -> Float[Tensor, "b c h w"]:
    """Tokens as images again, (b, c, h, w): what `patchify` took apart.  shape: (c, h, w) of the images.

    >>> x = torch.randn(2, 3, 4, 8)
    >>> torch.equal(unpatchify(patchify(x, 2), (3, 4, 8), 2), x)
    True
    """
    h, w = _grid("unpatchify", shape, patch)
    if tokens.ndim != 3 or tokens.shape[1:] != (h * w, shape[0] * patch**2):
        raise ValueError(
            f"unpatchify expects tokens (b, {h * w}, {shape[0] * patch**2}) for images of {tuple(shape)} in patches of "
            f"{patch}, got {tuple(tokens.shape)}."
        )
    return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=h, p=patch, q=patch)


def sincos_positions(h: int, w: int, size: int) -> Float[Tensor, "n d"]:
    """Where each of h × w tokens lies, as waves: half of `size` for its row, half for its column, (h · w, size).

    Equation (11.5): each half is `sinusoidal_embedding` of a whole number, (4.2). Nothing in it is learned. size: a
    multiple of 4 (ValueError otherwise). Without them a transformer couldn't tell an image from its shuffled patches.

    >>> sincos_positions(2, 3, size=8).shape
    torch.Size([6, 8])
    """
    if size < 4 or size % 4:
        raise ValueError(f"sincos_positions expects a size that is a multiple of 4, got {size}.")
    row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return torch.cat([sinusoidal_embedding(axis.flatten(), size // 2) for axis in (row, column)], dim=1)


# ---------------------------------------------------------------------------------------------------------------------
# Blocks
# ---------------------------------------------------------------------------------------------------------------------
class SelfAttention(nn.Module):
    """What every token gathers from all others, softmax(q kᵀ / √d) v in several heads: equation (11.4).

    width: numbers of a token;  heads: they divide the width. Maps (b, n, width) to (b, n, width).

    >>> SelfAttention(32, heads=4)(torch.zeros(2, 49, 32)).shape
    torch.Size([2, 49, 32])
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"SelfAttention expects heads that divide the width {width}, got {heads}.")
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        split = "b n (three heads d) -> three b heads n d"
        q, k, v = rearrange(self.qkv(x), split, three=3, heads=self.heads)
        # Written out for the same reason as in `unet.Attention`; where there are hundreds of tokens,
        # F.scaled_dot_product_attention takes half the time in float32.
        weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(dim=-1)
        return self.out(rearrange(weights @ v, "b heads n d -> b n (heads d)"))


def modulate(
    x: Float[Tensor, "b n d"], shift: Float[Tensor, "b d"], scale: Float[Tensor, "b d"]
) -> Float[Tensor, "b n d"]:
    """x · (1 + scale) + shift, equation (11.6): one of each for an image and a channel, the same for all of its tokens.

    >>> modulate(torch.ones(1, 2, 1), shift=torch.tensor([[5.0]]), scale=torch.tensor([[1.0]])).flatten()
    tensor([7., 7.])
    """
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class DiTBlock(nn.Module):
    """Attention between tokens, then a small network for each token, steered by the embedding (adaLN-Zero).

    Equation (11.7): from the embedding comes, for each of the two, a shift and a scale of what goes in (after a layer
    norm without weights of its own) and a gate on what is added. All six start at 0, so that the block begins as the
    identity.
    width: numbers of a token and of the embedding;  heads: of the attention;  expand: hidden units per number.

    >>> DiTBlock(32, heads=4)(torch.zeros(2, 49, 32), torch.zeros(2, 32)).shape
    torch.Size([2, 49, 32])
    """

    def __init__(self, width: int, heads: int, expand: int = 4):
        super().__init__()
        self.norm1, self.attention = _layer_norm(width), SelfAttention(width, heads)
        self.norm2 = _layer_norm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, expand * width), nn.GELU(approximate="tanh"), nn.Linear(expand * width, width)
        )
        self.condition = nn.Linear(width, 6 * width)
        _zero(self.condition)

    def forward(self, x: Float[Tensor, "b n d"], e: Float[Tensor, "b d"]) -> Float[Tensor, "b n d"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.condition(e).chunk(6, dim=1)
        x = x + gate1[:, None] * self.attention(modulate(self.norm1(x), shift1, scale1))
        return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))


def block_multiply_adds(tokens: int, width: int, expand: int = 4) -> int:
    """Multiplications of a `DiTBlock` for one image, equation (11.8): (4 + 2 · expand) n d² + 2 n² d + 6 d².

    tokens: n;  width: d. Those of matrix products alone; the number of heads changes nothing.

    >>> block_multiply_adds(49, 128)
    10346752
    """
    return (4 + 2 * expand) * tokens * width**2 + 2 * tokens**2 * width + 6 * width**2


# ---------------------------------------------------------------------------------------------------------------------
# The network
# ---------------------------------------------------------------------------------------------------------------------
class DiT(nn.Module):
    """Noisy images and their steps → one prediction for every pixel, by a transformer over patches.

    shape: (c, h, w) of the images, h and w multiples of patch;  width: numbers of a token, a multiple of 4;
    depth: blocks;  heads: of each attention, they divide the width;  patch: side of a token's square of pixels;
    num_classes: None, or how many; a model with classes also knows one label more, which means "any" (`null`).

    Call it as model(x_t, t) or model(x_t, t, y): x_t (b, c, h, w), t (b,) steps, y (b,) labels; without y, "any".
    The cost of attention grows with the square of the number of tokens, h · w / patch².

    >>> model = DiT((1, 28, 28), width=64, depth=2, num_classes=10)
    >>> model(torch.zeros(3, 1, 28, 28), torch.tensor([1, 500, 1000]), torch.tensor([0, 9, model.null])).shape
    torch.Size([3, 1, 28, 28])
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (1, 28, 28),
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        patch: int = 4,
        num_classes: int | None = None,
    ):
        super().__init__()
        h, w = _grid("DiT", shape, patch)
        if depth < 1:
            raise ValueError(f"DiT expects depth ≥ 1, got {depth}.")
        self.shape, self.patch, self.num_classes = tuple(shape), patch, num_classes
        self.config = {  # to build this network again: it is stored beside the weights
            "shape": tuple(shape), "width": width, "depth": depth, "heads": heads, "patch": patch,
            "num_classes": num_classes,
        }  # fmt: skip
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.label = None if num_classes is None else nn.Embedding(num_classes + 1, width)
        self.stem = nn.Linear(shape[0] * patch**2, width)
        self.register_buffer("positions", sincos_positions(h, w, width), persistent=False)
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.norm, self.condition = _layer_norm(width), nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, shape[0] * patch**2)
        _zero(self.condition)
        _zero(self.head)

    @property
    def null(self) -> int | None:
        """The label that means "any class"; None for a model without classes."""
        return self.num_classes

    def embed(self, t: Shaped[Tensor, " b"], y: Int[Tensor, " b"] | None) -> Float[Tensor, "b d"]:
        """Step and class as numbers for the blocks: their sum, equation (7.1)."""
        e = self.time(sinusoidal_embedding(t, 64).to(self.stem.weight.dtype))
        if self.label is None:
            if y is not None:
                raise ValueError("DiT: got labels, but this model has no classes; make it with num_classes=...")
            return F.silu(e)
        y = torch.full_like(t, self.null, dtype=torch.long) if y is None else y
        check_labels("DiT", y, len(t), self.null)
        return F.silu(e + self.label(y))

    def forward(
        self, x: Float[Tensor, "b c h w"], t: Shaped[Tensor, " b"], y: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"DiT expects images (b, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}.")
        if t.shape != x.shape[:1]:
            raise ValueError(f"DiT expects t of shape ({len(x)},), one step per image, got {tuple(t.shape)}.")
        e = self.embed(t, y)
        tokens = self.stem(patchify(x, self.patch)) + self.positions
        for block in self.blocks:
            tokens = block(tokens, e)
        shift, scale = self.condition(e).chunk(2, dim=1)
        return unpatchify(self.head(modulate(self.norm(tokens), shift, scale)), self.shape, self.patch)


def _grid(who: str, shape: tuple[int, ...], patch: int) -> tuple[int, int]:
    """Rows and columns of patches. Raises ValueError, in the name of `who`, for images that aren't whole patches."""
    if len(shape) != 3 or min(shape) < 1 or patch < 1:
        raise ValueError(f"{who} expects an image shape (c, h, w) and patch ≥ 1, got {tuple(shape)} and {patch}.")
    if shape[1] % patch or shape[2] % patch:
        raise ValueError(
            f"{who} expects height and width that are multiples of the patch {patch}, got {shape[1]}×{shape[2]}; "
            "resize the images, or use another patch."
        )
    return shape[1] // patch, shape[2] // patch


def _layer_norm(width: int) -> nn.LayerNorm:
    """Mean 0 and variance 1 for each token; its scale and shift come from the embedding."""
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
