"""What a classifier sees in samples: how surely, which classes, and how evenly. For modes of a mixture as well."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arrays import is_whole
from .checks import in_double


def inception_score(probabilities: Float[Tensor, "n classes"]) -> float:
    """exp(E KL(p(y|x) ‖ p(y))), equation (9.3), from 1 to the number of classes.

    1 if all images look alike to the classifier, the number of classes if each is surely in one and all are equally
    frequent.

    Salimans et al. 2016 (arXiv:1606.03498). The name is Inception's only with that network; with the course's
    classifier it is an analogue, and no such numbers from elsewhere can be compared with it. It never sees real images,
    and one image per class, repeated, gets full marks. probabilities: (n, classes), p(y|x) of each image, n ≥ 1; p(y)
    is their mean. Raises ValueError unless each row adds up to 1 (softmax forgotten?).

    >>> print(f"{inception_score(torch.eye(4)):.2f}, {inception_score(torch.full((9, 4), 0.25)):.2f}")
    4.00, 1.00
    """
    if probabilities.ndim != 2 or not probabilities.numel():
        raise ValueError(f"inception_score expects probabilities (n, classes), got {tuple(probabilities.shape)}.")
    p = in_double(probabilities)
    if not (p >= 0).all() or not ((p.sum(1) - 1).abs() < 0.01).all():
        raise ValueError("inception_score expects rows ≥ 0 that add up to 1, as after logits.softmax(dim=1).")
    p = p / p.sum(1, keepdim=True)  # rows of half precision add up to 1 only nearly
    each = torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))
    return min(max(each.sum(1).mean().exp().item(), 1.0), float(p.shape[1]))


def class_counts(labels: Int[Tensor, " n"], k: int) -> Int[Tensor, " k"]:
    """How many of the labels 0..k − 1 there are of each: (k,), int64. A label of −1, "none of them", isn't counted.

    labels: (n,) in −1..k − 1, classes that a classifier sees or the nearest modes of a ring, −1 for points that are far
    from all. The counts add up to n less those. Raises ValueError for other labels, and for k < 1.

    >>> class_counts(torch.tensor([0, 2, 2, -1]), k=3)
    tensor([1, 0, 2])
    """
    if not is_whole(k, least=1):
        raise ValueError(f"k: expected the number of classes, a whole number ≥ 1, got {k!r}.")
    if labels.ndim != 1 or labels.is_floating_point() or ((labels < -1) | (labels >= k)).any():
        raise ValueError(f"labels: expected whole numbers (n,) in 0..{k - 1}, or −1 for none, got {_seen(labels)}.")
    return torch.bincount(labels.long() + 1, minlength=k + 1)[1:]


def classes_covered(labels: Int[Tensor, " n"], k: int, least: float = 0.1) -> int:
    """How many of k classes get at least `least` times a fair share, n / k, of the n samples: 0..k.

    A fair share is one of *all* samples, those without a class (−1) included, so that strays never help. labels: as for
    `class_counts`;  least: above 0. A class without any sample is never covered. Raises ValueError as that does.

    >>> classes_covered(torch.tensor([0] * 90 + [1] * 9 + [2]), k=3)        # a fair share is 33, a tenth of it 3.3
    2
    """
    if not least > 0:
        raise ValueError(f"least: expected a share of a fair share, above 0, got {least!r}.")
    return int((class_counts(labels, k) * k >= max(least * len(labels), 1e-12)).sum())


def class_entropy(labels: Int[Tensor, " n"], k: int) -> float:
    """−Σ q ln q of the shares q of k classes among the samples, in nats, equation (8.6).

    From 0 (one class only) to ln k (all equally).

    labels: as for `class_counts`. Samples without a class (−1) are left out, shares are those of the rest: the number
    says how evenly, not how many. 0 if none has a class. Of few samples it is too low, by about (k − 1) / 2n.
    Raises ValueError as `class_counts` does.

    >>> print(f"{class_entropy(torch.tensor([0, 1, 2, 3, -1]), k=4):.4f}")        # ln 4
    1.3863
    """
    counts = class_counts(labels, k).double()
    shares = counts / counts.sum().clamp(min=1)
    return max(-torch.xlogy(shares, shares).sum().item(), 0.0)


def _seen(labels: Tensor) -> str:
    if labels.is_floating_point() or labels.ndim != 1:
        return f"{labels.dtype} of {tuple(labels.shape)}"
    return f"{labels.min()}..{labels.max()}"
