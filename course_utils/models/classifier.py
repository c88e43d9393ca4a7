"""A small classifier: accuracy for guidance, and features in which sets of images are compared."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class Classifier(nn.Module):
    """Convolutional classifier: images → `size` features → a score (logit) for each class.

    shape: (c, h, w) of the images, in [-1, 1], h and w at least 4;  classes: how many;
    size: features per image, what `metrics.frechet_distance` compares;  width: channels of the first layers.

    >>> model = Classifier((1, 28, 28), classes=10).eval()
    >>> x = torch.zeros(3, 1, 28, 28)
    >>> model(x).shape, model.features(x).shape
    (torch.Size([3, 10]), torch.Size([3, 64]))
    """

    def __init__(self, shape: tuple[int, int, int] = (1, 28, 28), classes: int = 10, size: int = 64, width: int = 32):
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < 4 or classes < 2:
            raise ValueError(
                f"Classifier expects images (c, h, w) ≥ 4×4 and ≥ 2 classes, got {tuple(shape)} and {classes}."
            )
        self.shape, self.classes = tuple(shape), classes
        self.arguments = {"shape": tuple(shape), "classes": classes, "size": size, "width": width}  # to build it again
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
        self.head = nn.Linear(size, classes)

    def features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """What the last layer looks at, (b, size)."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"Classifier expects images (b, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}.")
        return self.body(x)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """ln p(class | image) up to a constant for each image, (b, classes)."""
        return self.head(self.features(x))


def _layer(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.SiLU()]


def classifier_loss(
    model: nn.Module, x: Tensor, y: Int[Tensor, " b"], generator: torch.Generator | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss for `training.fit`: cross-entropy in nats per image, with the share of right answers beside it."""
    logits = model(x).float()
    return F.cross_entropy(logits, y), {"accuracy": (logits.argmax(1) == y).float().mean()}
