"""Small classifiers: one of clean images, which judges samples, and one of noisy images, which guides them."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from .unet import ResidualBlock, group_norm, sinusoidal_embedding


class Classifier(nn.Module):
    """Convolutional classifier: images → `size` features → a score (logit) for each class.

    shape: (c, h, w) of the images, in [-1, 1], h and w at least 4;  classes: how many;
    size: features per image, what `metrics.frechet_distance` compares;  width: channels of the first layers.

    >>> model = Classifier((1, 28, 28), num_classes=10).eval()
    >>> x = torch.zeros(3, 1, 28, 28)
    >>> model(x).shape, model.features(x).shape
    (torch.Size([3, 10]), torch.Size([3, 64]))
    """

    def __init__(
        self, shape: tuple[int, int, int] = (1, 28, 28), num_classes: int = 10, size: int = 64, width: int = 32
    ):
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < 4 or num_classes < 2:
            raise ValueError(
                f"Classifier expects images (c, h, w) ≥ 4×4 and ≥ 2 classes, got {tuple(shape)} and {num_classes}."
            )
        self.shape, self.num_classes = tuple(shape), num_classes
        self.config = {"shape": tuple(shape), "num_classes": num_classes, "size": size, "width": width}
        self.body = nn.Sequential(
            *_layer(shape[0], width),
            *_layer(width, width),
            nn.MaxPool2d(2),
            *_layer(width, 2 * width),
            *_layer(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *_layer(2 * width, 4 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4 * width, size),
            nn.SiLU(),
        )
        self.head = nn.Linear(size, num_classes)

    def features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """What the last layer computes the scores from, (b, size)."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"Classifier expects images (b, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}.")
        return self.body(x)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """ln p(class | image) up to a constant for each image, (b, classes)."""
        return self.head(self.features(x))


def _layer(in_channels: int, out_channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.SiLU()]


def classifier_loss(
    model: nn.Module, x: Tensor, y: Int[Tensor, " b"], generator: torch.Generator | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss for `training.fit`: cross-entropy in nats per image, with the share of right answers beside it."""
    logits = model(x).float()
    return F.cross_entropy(logits, y), {"accuracy": (logits.argmax(1) == y).float().mean()}


class NoisyClassifier(nn.Module):
    """A classifier that is told how noisy its images are: ln p(y | x_t, t), trained by equation (7.6).

    The downward half of the U-Net of notebook 04: a stem that turns squares of pixels into channels, one residual block
    per level, each told the step by scale and shift; then a mean over the pixels and one linear layer.
    shape: (c, h, w), h and w multiples of patch · 2 ** (levels − 1);  classes: how many;
    widths: channels of each level, from the finest;  patch: pixels of a square's side.

    >>> model = NoisyClassifier((1, 28, 28), num_classes=10)
    >>> model(torch.zeros(3, 1, 28, 28), torch.tensor([1, 500, 1000])).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (1, 28, 28),
        num_classes: int = 10,
        widths: tuple[int, ...] = (32, 64),
        patch: int = 2,
    ):
        super().__init__()
        factor = patch * 2 ** (len(widths) - 1)
        if len(shape) != 3 or shape[1] % factor or shape[2] % factor or num_classes < 2:
            raise ValueError(
                f"NoisyClassifier expects images (c, h, w), h and w multiples of {factor}, and ≥ 2 classes, "
                f"got {tuple(shape)} and {num_classes}."
            )
        self.shape, self.num_classes, self.patch = tuple(shape), num_classes, patch
        self.config = {"shape": tuple(shape), "num_classes": num_classes, "widths": tuple(widths), "patch": patch}
        embedding = 2 * widths[0]
        self.time = nn.Sequential(nn.Linear(64, embedding), nn.SiLU())
        self.stem = nn.Conv2d(shape[0] * patch**2, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, embedding) for width in widths)
        self.downsample = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:]))
        self.norm, self.head = group_norm(widths[-1]), nn.Linear(widths[-1], num_classes)

    def forward(self, x: Float[Tensor, "b c h w"], t: Shaped[Tensor, " b"]) -> Float[Tensor, "b classes"]:
        """ln p(class | x_t, t) up to a constant for each image, (b, classes). t: (b,), one step per image."""
        if tuple(x.shape[1:]) != self.shape or t.shape != x.shape[:1]:
            raise ValueError(
                f"NoisyClassifier expects images (b, {', '.join(map(str, self.shape))}) and t (b,), "
                f"got {tuple(x.shape)} and {tuple(t.shape)}."
            )
        e = self.time(sinusoidal_embedding(t, 64).to(self.stem.weight.dtype))
        h = self.stem(F.pixel_unshuffle(x, self.patch))
        for level, block in enumerate(self.blocks):
            h = block(self.downsample[level - 1](h) if level else h, e)
        return self.head(F.silu(self.norm(h)).mean((2, 3)))
