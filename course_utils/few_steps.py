"""Images in few evaluations: networks that learn where a path leads, rather than which way it sets out.

All three ways here ask for the same thing, the *average* velocity of a piece of a path: over the whole of it
(rectification), over two strides of a teacher (progressive distillation), over any piece (mean flow).
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .arrays import check_same_shape, normal_like
from .diffusion import Denoise, Schedule, draw_steps, drop_labels, predict_noise
from .flow import convert, on_straight_path
from .sampling.loop import timesteps


def chord(
    schedule: Schedule,
    x_t: Float[Tensor, "b ..."],
    t: Int[Tensor, "b"],
    x_s: Float[Tensor, "b ..."],
    s: Int[Tensor, "b"],
) -> Float[Tensor, "b ..."]:
    """The velocity that leads from x_t to x_s in one stride, straight: (x_u − x_u') / (u − u'), equation (10.9).

    t, s: (b,), s < t, of any schedule. It is the average velocity between them; `flow.convert` turns it into ε, x0, v.

    >>> from course_utils.flow import flow_schedule
    >>> four, two = torch.tensor([4]), torch.tensor([2])                      # u = 1, where x is ε, and u = 1/2
    >>> chord(flow_schedule(4), torch.tensor([[3.0]]), four, torch.tensor([[0.0]]), two)
    tensor([[6.]])
    """
    check_same_shape("chord", x_t=x_t, x_s=x_s)
    (x_u, u), (x_v, v) = on_straight_path(schedule, x_t, t), on_straight_path(schedule, x_s, s)
    return (x_u - x_v) / (u - v).reshape(-1, *[1] * (x_t.ndim - 1))


# ---------------------------------------------------------------------------------------------------------------------
# Rectification: the whole path
# ---------------------------------------------------------------------------------------------------------------------
@torch.no_grad()
def draw_pairs(
    draw: Callable[[Tensor, Tensor | None], Tensor],
    shape: Sequence[int],
    n: int,
    num_classes: int | None = None,
    generator: torch.Generator | None = None,
    batch: int = 250,
) -> tuple[Float[Tensor, "n c2 h w"], Int[Tensor, " n"]]:
    """What a model makes of n draws of noise: examples for `training.fit`, images and their noise in one tensor.

    draw: (noise (b, c, h, w), labels (b,) or None) → images, by a sampler that draws no noise on its way, or else noise
        and image don't belong together;  shape: (c, h, w);  num_classes: labels are drawn evenly, all 0 where None.
    Returns examples (n, 2c, h, w), first the image, then its noise, and labels (n,). `from_pairs` takes them apart.

    >>> examples, labels = draw_pairs(lambda noise, y: noise / 2, (1, 4, 4), n=6, num_classes=3)
    >>> examples.shape, labels.shape, bool((examples[:, 1] == 2 * examples[:, 0]).all())
    (torch.Size([6, 2, 4, 4]), torch.Size([6]), True)
    """
    device = "cpu" if generator is None else generator.device
    noise = torch.randn(n, *shape, generator=generator, device=device)
    labels = torch.randint(num_classes or 1, (n,), generator=generator, device=device)
    asked = labels.split(batch) if num_classes else [None] * -(-n // batch)
    images = torch.cat([draw(piece, y) for piece, y in zip(noise.split(batch), asked, strict=True)])
    check_same_shape("draw_pairs", images=images, noise=noise)
    return torch.cat([images, noise], dim=1), labels


def from_pairs(
    x: Float[Tensor, "b c2 h w"], y: Tensor | None = None, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """A `pair` for `diffusion_loss`: images and their own noise out of examples of `draw_pairs`.

    With it, Algorithm 1 is rectification (Liu et al. 2023): the target ε − x0 is the chord of a path of the old model.

    >>> image, noise = from_pairs(torch.arange(2.0).reshape(1, 2, 1, 1))
    >>> image.item(), noise.item()
    (0.0, 1.0)
    """
    if x.ndim != 4 or x.shape[1] % 2:
        raise ValueError(f"from_pairs: expected examples (b, 2c, h, w) of draw_pairs, got {tuple(x.shape)}.")
    image, noise = x.chunk(2, dim=1)
    return image, noise


# ---------------------------------------------------------------------------------------------------------------------
# Progressive distillation: two strides at a time
# ---------------------------------------------------------------------------------------------------------------------
def halving_loss(
    teacher: Denoise,
    schedule: Schedule,
    prediction_type: str,
    times: Sequence[int],
    null: int | None = None,
) -> Callable:
    """Learn to make in one stride what the teacher makes in two (Salimans and Ho 2022), equation (10.10). For `fit`.

    teacher: a denoiser (x_t, t, y=None) → x̂_0;  schedule, prediction_type: of the student, a network;
    times: the teacher's timesteps, an even number of strides down to 0; the student's are every second of them;
    null: as in `diffusion_loss`. Raises ValueError for an odd number of strides, or times that don't fall.
    The loss is the squared error, a mean over pixels, in what the student predicts.
    """
    times = timesteps(schedule, times)
    if len(times) % 2 == 0:
        raise ValueError(f"times: expected an even number of strides, got {len(times) - 1}: {times}.")
    stops = torch.tensor(times)

    def loss(model: Callable, x: Tensor, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
        k = 2 * (draw_steps(len(x), len(times) // 2, generator, x.device) - 1)
        t, middle, s = (stops.to(x.device)[k + j] for j in range(3))
        labels = None if null is None else drop_labels(y, null, generator=generator)
        x_t = schedule.add_noise(x, t, normal_like(x, generator))
        with torch.no_grad():
            x_s = stride(teacher, schedule, stride(teacher, schedule, x_t, t, middle, labels), middle, s, labels)
            target = convert(schedule, "velocity", prediction_type, chord(schedule, x_t, t, x_s, s), x_t, t)
        guess = model(x_t, t).float() if labels is None else model(x_t, t, labels).float()
        return (guess - target).square().mean()

    return loss


def stride(
    denoise: Denoise, schedule: Schedule, x_t: Tensor, t: Int[Tensor, "b"], s: Int[Tensor, "b"], y: Tensor | None = None
) -> Tensor:
    """One stride of DDIM without noise, equation (6.4), from a step of its own for each image to another."""
    x0 = denoise(x_t, t, y)
    return schedule.add_noise(x0, s, predict_noise(schedule, x0, x_t, t))


# ---------------------------------------------------------------------------------------------------------------------
# Mean flow: any piece
# ---------------------------------------------------------------------------------------------------------------------
def mean_flow_target(
    average: Callable[[Tensor, Tensor, Tensor], Tensor],
    x_u: Float[Tensor, "b d"],
    u: Float[Tensor, "b 1"],
    r: Float[Tensor, "b 1"],
    velocity: Float[Tensor, "b d"],
) -> Float[Tensor, "b d"]:
    """What an average velocity over r..u has to be, if it is right nearby (Geng et al. 2025), equation (10.11).

    velocity − (u − r) · d/du average(x_u, u, r), along the path: x_u moves with `velocity`, r stays.
    average: (x_u, u, r) → velocities, like x_u, differentiable;  u, r: (b, 1), 0 ≤ r ≤ u ≤ 1;
    velocity: at x_u; in training ε − x0, whose mean it is. Returned without a gradient. One forward-mode pass.

    >>> place, zero, one = torch.zeros(1, 2), torch.zeros(1, 1), torch.ones(1, 1)
    >>> mean_flow_target(lambda x, u, r: u * one.expand(1, 2), place, one, zero, torch.full((1, 2), 5.0))
    tensor([[4., 4.]])
    """
    tangents = (velocity, torch.ones_like(u), torch.zeros_like(r))
    _, change = torch.func.jvp(average, (x_u, u, r), tangents)
    return (velocity - (u - r) * change).detach()
