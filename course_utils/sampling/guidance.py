"""Wrappers that make one denoiser of another: clipping, and two ways to ask for a class.

A wrapper takes a denoiser (x_t, t, y=None) → x̂_0 and gives one back, so they go around each other in any number.
Clipping belongs outside: guidance moves predictions out of the range of images.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arrays import check_labels
from ..diffusion import Denoise, Schedule

__all__ = ["cfg", "classifier_gradient", "classifier_guided", "clipped", "guidance_interval"]


def clipped(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """The same denoiser with its predictions kept in the range of images. Raises ValueError unless low < high.

    The noise that a clipped prediction implies isn't the network's ε̂ any more, and our samplers go on with what it
    implies; DDIM in `diffusers` keeps the network's own, unless told `use_clipped_model_output`.
    """
    if not low < high:
        raise ValueError(f"clipped: expected low < high, got {low} and {high}.")
    return lambda x_t, t, y=None: denoise(x_t, t, y).clamp(low, high)


def cfg(denoise: Denoise, w: float, null: int | None) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022), equation (7.9): x̂ = x̂_any + w · (x̂_y − x̂_any).

    w = 0 ignores the label, w = 1 is the conditional model as it is, more exaggerates what the label changes. (The
    paper counts from there: its w is ours less 1, equation (7.10).) null: the label that means "any". Asks the network
    for both predictions in one batch of twice the size; for w = 0 or 1 only for the one it needs. (Training drops
    labels in `diffusion.drop_labels`.) Raises ValueError without labels, and for a w that isn't finite.

    >>> denoise = lambda x, t, y: y.float()[:, None].expand_as(x)          # predicts its label; "any" is 9
    >>> cfg(denoise, 3.0, null=9)(torch.zeros(2, 1), torch.tensor([5, 5]), torch.tensor([9, 10])).flatten()
    tensor([ 9., 12.])
    """
    if not math.isfinite(w):
        raise ValueError(f"w: expected a finite number, 1 for the conditional model as it is, got {w!r}.")
    if not isinstance(null, int):
        raise ValueError(f"null: expected the number of the null label, got {null!r}; was the model trained with one?")

    def denoise_guided(x_t: Tensor, t: Int[Tensor, "b"], y: Int[Tensor, "b"] | None = None) -> Tensor:
        if not isinstance(y, Tensor):
            raise ValueError(f"cfg: expected labels y (b,), got {y!r}; it needs a class to lead to.")
        anything = torch.full_like(y, null)
        if w in (0, 1):
            return denoise(x_t, t, y if w == 1 else anything)
        of_any, of_y = denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([anything, y])).chunk(2)
        return of_any + w * (of_y - of_any)

    return denoise_guided


def classifier_gradient(
    classifier: Callable[..., Tensor], x_t: Float[Tensor, "b ..."], t: Int[Tensor, "b"], y: Int[Tensor, "b"]
) -> Float[Tensor, "b ..."]:
    """∇ ln p(y | x_t) with respect to x_t, for each image: the second term of equation (7.5).

    classifier: (x_t (b, ...), t (b,)) → ln p(class | x_t), (b, classes), up to a constant for each image: the logits of
    a classifier that was trained on noisy images;  y: (b,) classes. Works where gradients are switched off, as samplers
    do. Raises ValueError for labels that aren't among the classes, and if no gradient comes back.

    >>> classifier_gradient(lambda x, t: torch.cat([x, -x], 1), torch.zeros(1, 1), torch.tensor([5]), torch.tensor([0]))
    tensor([[1.]])
    """
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        of_all = classifier(x, t).log_softmax(1)
        check_labels("classifier_gradient", y, len(x), of_all.shape[1] - 1)
        if not of_all.requires_grad:
            raise ValueError("classifier_gradient: classifier(x, t) has no gradient; is there a no_grad or a detach?")
        of_y = of_all[torch.arange(len(y), device=y.device), y]
        return torch.autograd.grad(of_y.sum(), x)[0]  # a sum: each image's gradient is its own


def classifier_guided(
    denoise: Denoise, schedule: Schedule, classifier: Callable[..., Tensor], scale: float = 1.0
) -> Denoise:
    """Classifier guidance (Dhariwal and Nichol 2021): the score of p(x_t) p(y|x_t)^scale, equation (7.5), in x̂_0.

    ε̂ − √(1−ᾱ_t) · scale · ∇ ln p(y|x_t) in the noise, equation (7.7), is in the prediction, equation (7.8),
    x̂_0 + (1−ᾱ_t)/√ᾱ_t · scale · ∇ ln p(y|x_t).
    classifier: as for `classifier_gradient`. The denoiser itself is asked without a label. Raises ValueError without
    labels, and (on the CPU) where ᾱ_t = 0: x̂_0 can't be told from the noise there.
    """
    if not math.isfinite(scale):
        raise ValueError(f"scale: expected a finite number, got {scale!r}.")

    def denoise_guided(x_t: Tensor, t: Int[Tensor, "b"], y: Int[Tensor, "b"] | None = None) -> Tensor:
        if not isinstance(y, Tensor):
            raise ValueError(f"classifier_guided: expected labels y (b,), got {y!r}; it needs a class to lead to.")
        uphill = classifier_gradient(classifier, x_t, t, y)
        signal_rate, noise_rate = schedule.rates(t, x_t)
        if x_t.device.type == "cpu" and bool((signal_rate == 0).any()):
            raise ValueError("classifier_guided: at ᾱ_t = 0 a change of the noise says nothing about x0; begin lower.")
        return denoise(x_t, t) + noise_rate.square() / signal_rate * scale * uphill

    return denoise_guided


def guidance_interval(inside: Denoise, outside: Denoise, low: int, high: int) -> Denoise:
    """One denoiser for steps low ≤ t ≤ high, another for the rest, equation (7.11).

    With guidance inside and none outside: guidance in an interval (Kynkäänniemi et al. 2024). All images of a batch are
    at one step, as in every sampler of the course. Raises ValueError for a batch at several, if low > high, and for
    shares of T: whole steps are meant.

    >>> both = guidance_interval(lambda x, t, y: x + 1, lambda x, t, y: x - 1, 10, 20)
    >>> [both(torch.zeros(1), torch.tensor([t])).item() for t in (9, 10, 20, 21)]
    [-1.0, 1.0, 1.0, -1.0]
    """
    if not (isinstance(low, int) and isinstance(high, int) and low <= high):
        raise ValueError(f"guidance_interval: expected whole steps low ≤ high, got {low} and {high}.")

    def denoise(x_t: Tensor, t: Int[Tensor, "b"], y: Int[Tensor, "b"] | None = None) -> Tensor:
        steps = set(t.tolist())
        if len(steps) > 1:
            raise ValueError(f"guidance_interval: expected all images at one step, got {len(steps)} different ones.")
        return (inside if low <= steps.pop() <= high else outside)(x_t, t, y)

    return denoise
