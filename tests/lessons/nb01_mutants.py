"""Wrong answers to the quizzes of notebook 01 that must be rejected, and other right ones that must be accepted."""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import nn
from torch.distributions import Bernoulli
from torch.nn import functional as F

from course_utils.models import autoencoder as library
from course_utils.models.blocks import conv_transpose_size
from lessons.answers import kept, right, slip, with_first

right_pca = right("autoencoder/pca")
right_conv_size = right("autoencoder/conv-size")
right_conv_transpose_size = right("autoencoder/conv-transpose-size")
right_decode_grid = right("autoencoder/decode-grid")
right_fit_gaussian = right("autoencoder/fit-gaussian")

CONV = ("size", "kernel", "stride", "padding", "dilation")
TRANSPOSED = ("size", "kernel", "stride", "padding", "output_padding", "dilation")

# ---------------------------------------------------------------------------------------------------- losses


def nll_squared_error(logits, x):
    return ((x + 1) / 2 - logits.sigmoid()).square().flatten(1).sum(1)


def nll_detached(logits, x):
    return library.bernoulli_nll(logits.detach(), x)


def nll_clamped(logits, x):
    p, target = logits.sigmoid().clamp(1e-6, 1 - 1e-6), (x + 1) / 2
    return -(target * p.log() + (1 - target) * (1 - p).log()).flatten(1).sum(1)


def nll_untaken_branch(logits, x):
    """Right numbers, but the gradient of the branch that `where` leaves out is inf, and 0 · inf is nan."""
    target = (x + 1) / 2
    negative, positive = (1 + logits.exp()).log(), logits + (1 + (-logits).exp()).log()
    return (torch.where(logits < 0, negative, positive) - target * logits).flatten(1).sum(1)


def nll_gradient_clamped(logits, x):
    right = library.bernoulli_nll(logits.detach(), x)
    clamped = library.bernoulli_nll(logits.clamp(-100, 100), x)
    return clamped + (right - clamped).detach()


def nll_infinities_removed(logits, x):
    p, target = logits.sigmoid(), (x + 1) / 2
    return -(target * p.log() + (1 - target) * (1 - p).log()).nan_to_num().flatten(1).sum(1)


def nll_weights_on_the_cpu(logits, x):
    target = (x + 1) / 2
    pixels = F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1)
    return pixels @ torch.ones(pixels.shape[1], dtype=pixels.dtype)


def nll_moves_the_images(logits, x):
    x += 1
    return F.binary_cross_entropy_with_logits(logits, x / 2, reduction="none").flatten(1).sum(1)


def nll_backward_inside(logits, x):
    cost = library.bernoulli_nll(logits, x)
    if cost.requires_grad:
        cost.sum().backward(retain_graph=True)
    return cost


def nll_first_channel(logits, x):
    return library.bernoulli_nll(logits[:, :1], x[:, :1])


def nll_targets_kept():
    """The targets of the first batch of each shape are kept, as if they were always the same images."""
    kept = {}

    def nll(logits, x):
        target = kept.setdefault((x.shape, x.dtype, x.device.type), (x + 1) / 2)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1)

    return nll


def nll_channels_first(logits, x):
    """One sum a channel of an image, read as if all images' first channels came first."""
    b, c = x.shape[:2]
    pixels = F.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="none")
    return pixels.sum((2, 3)).reshape(c, b).sum(0)


def nll_positive_part_clamped(logits, x):
    """Right numbers, but `clamp` and `abs` have slopes of their own at 0: 1 − t for ½ − t."""
    return (logits.clamp(min=0) - logits * (x + 1) / 2 + (-logits.abs()).exp().log1p()).flatten(1).sum(1)


def nll_positive_part_by_relu(logits, x):
    return (F.relu(logits) - logits * (x + 1) / 2 + (-logits.abs()).exp().log1p()).flatten(1).sum(1)


class Coins:
    """An answer may be an object; its parameters may have other names."""

    def __init__(self, reduction):
        self.cost = nn.BCEWithLogitsLoss(reduction=reduction)

    def __call__(self, scores, images):
        return self.cost(scores, images.add(1).div(2)).flatten(1).sum(1)


def nll_by_hand_for_either_sign(logits, x):
    """Both branches of `where` are kept finite: exp only ever sees what is negative, or 0."""
    below, above = torch.where(logits < 0, logits, 0), torch.where(logits < 0, 0, logits)
    softplus = torch.where(logits < 0, below.exp().log1p(), above + (-above).exp().log1p())
    return (softplus - (x + 1) / 2 * logits).sum((1, 2, 3))


def nll_by_hand_shifted(logits, x):
    """A logsumexp of 0 and the logit; the larger one only shifts, so it is detached."""
    top = logits.detach().clamp(min=0)
    return (top + ((-top).exp() + (logits - top).exp()).log() - logits * (x + 1) / 2).flatten(1).sum(1)


def nll_by_logaddexp(logits, x):
    costs = torch.logaddexp(logits, torch.zeros_like(logits)) - logits * (0.5 * x + 0.5)
    return torch.einsum("bchw->b", costs)


def nll_by_two_classes(logits, x):
    """Each coin as a softmax over (black, white)."""
    log_p = torch.stack([torch.zeros_like(logits), logits], -1).log_softmax(-1)
    white = (x + 1) / 2
    return -(torch.stack([1 - white, white], -1) * log_p).flatten(1).sum(1)


def nll_by_torch(logits, x):
    return F.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="none").sum(dim=(1, 2, 3))


def nll_by_logsigmoid(logits, x):
    target = (x + 1) / 2
    return -(target * F.logsigmoid(logits) + (1 - target) * F.logsigmoid(-logits)).flatten(1).sum(-1)


def nll_by_distributions(logits, x):
    return -Bernoulli(logits=logits, validate_args=False).log_prob((x + 1) / 2).flatten(1).sum(1)


# ---------------------------------------------------------------------------------------------------- PCA


def pca_centred_in_place(x, mean, directions):
    x -= mean
    z = x.flatten(1) @ directions.T
    return z, (z @ directions).view_as(x) + mean


def pca_projection_kept():
    """W^T W is kept from the first call with these shapes on."""
    kept = {}

    def pca(x, mean, directions):
        z = (x - mean).flatten(1) @ directions.T
        key = (directions.shape, directions.dtype, directions.device.type)
        square = kept.setdefault(key, directions.T @ directions)
        return z, ((x - mean).flatten(1) @ square).view_as(x) + mean

    return pca


def pca_codes_on_the_cpu(x, mean, directions):
    z = torch.zeros(len(x), len(directions), dtype=x.dtype)
    z = z + (x - mean).flatten(1) @ directions.T
    return z, right_pca(x, mean, directions)[1]


def pca_mean_of_channels(x, mean, directions):
    return right_pca(x, mean.mean((1, 2), keepdim=True).expand_as(mean), directions)


def pca_codes_of_one(x, mean, directions):
    z = (x - mean).flatten(1) @ directions.T
    return z, (z[:1] @ directions).view_as(mean).expand_as(x) + mean


def pca_normalised(x, mean, directions):
    z, x_hat = right_pca(x, mean, directions)
    return z / z.norm(dim=1, keepdim=True), x_hat


def pca_by_position_only(images, average, rows, /):
    flat, centre = images.reshape(len(images), -1), average.reshape(-1)
    z = torch.nn.functional.linear(flat - centre, rows)
    return z, torch.addmm(centre, z, rows).reshape(images.shape)


def pca_channels_first(x, mean, directions):
    flat = (x - mean).transpose(0, 1).reshape(len(x), -1)
    z = flat @ directions.T
    return z, (z @ directions).reshape(x.shape[1], len(x), *x.shape[2:]).transpose(0, 1) + mean


def pca_rebuilt_channels_first(x, mean, directions):
    z, x_hat = right_pca(x, mean, directions)
    return z, (x_hat - mean).reshape(x.shape[1], len(x), *x.shape[2:]).transpose(0, 1) + mean


def pca_through_numpy_and_back(x, mean, directions):
    flat, centre, rows = x.cpu().flatten(1).numpy(), mean.cpu().flatten().numpy(), directions.cpu().numpy()
    z = (flat - centre) @ rows.T
    return torch.from_numpy(z).to(x), torch.from_numpy(z @ rows + centre).view_as(x).to(x)


def pca_by_difference_of_codes(x, mean, directions):
    z = x.flatten(1) @ directions.T - mean.flatten() @ directions.T
    return z, mean + torch.einsum("bk,kp->bp", z, directions).unflatten(1, tuple(mean.shape))


def pca_rows_not_projected(x, mean, directions):
    z = (x - mean).flatten(1) @ directions.T
    return z, x


def pca_flat(x, mean, directions):
    z, x_hat = right_pca(x, mean, directions)
    return z, x_hat.flatten(1)


def pca_einsum(x, mean, directions):
    rows = directions.view(len(directions), *mean.shape)
    z = torch.einsum("bchw,kchw->bk", x - mean, rows)
    return z, torch.einsum("bk,kchw->bchw", z, rows) + mean


# ---------------------------------------------------------------------------------------------------- sizes


def conv_by_layer(size, kernel, stride, padding, dilation):
    layer = nn.Conv2d(1, 1, kernel, stride, padding, dilation)
    return tuple(layer(torch.zeros(1, 1, *size)).shape[2:])


def conv_by_counting(size, kernel, stride, padding, dilation):
    span = dilation * (kernel - 1) + 1
    return tuple(len(range(0, n + 2 * padding - span + 1, stride)) for n in size)


def conv_one_at_least_two(size, kernel, stride, padding, dilation):
    return tuple(max(2, n) for n in right_conv_size(size, kernel, stride, padding, dilation))


def kept_without(answer, names, left_out):
    """Kept under all that is given but for one thing."""
    return kept(answer, lambda *given: tuple(v for name, v in zip(names, given) if name != left_out))


def conv_same_at_stride_one(padded_alike):
    """At stride 1 the size stays, where `padded_alike` of kernel, padding and dilation says so."""

    def conv(size, kernel, stride, padding, dilation):
        if stride == 1 and padded_alike(kernel, padding, dilation):
            return tuple(size)
        return conv_formula(size, kernel, stride, padding, dilation)

    return conv


def conv_small_kernels_not_dilated(size, kernel, stride, padding, dilation):
    span = kernel if kernel <= 2 else dilation * (kernel - 1) + 1
    return tuple((n + 2 * padding - span) // stride + 1 for n in size)


def transposed_small_kernels_not_dilated(size, kernel, stride, padding, output_padding, dilation):
    span = kernel if kernel <= 2 else dilation * (kernel - 1) + 1
    return tuple((n - 1) * stride - 2 * padding + span + output_padding for n in size)


def transposed_same_at_stride_one(size, kernel, stride, padding, output_padding, dilation):
    if stride == 1 and output_padding == 0:
        return tuple(size)
    return right_conv_transpose_size(size, kernel, stride, padding, output_padding, dilation)


def conv_formula(size, kernel, stride, padding, dilation):
    return tuple((n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for n in size)


class Axes:
    """Works out one axis after the other."""

    def __call__(self, size, k, s, p, d):
        height, width = (self.axis(n + 2 * p, d * (k - 1) + 1, s) for n in size)
        return height, width

    @staticmethod
    def axis(room, span, stride):
        strides, _ = divmod(room - span, stride)
        return 1 + strides


def conv_by_name_only(*, size, kernel, stride, padding, dilation):
    span = 1 + (kernel - 1) * dilation
    return tuple(math.floor((n + 2 * padding - span) / stride + 1) for n in size)


def conv_by_sliding(size, kernel, stride, padding, dilation):
    def stops(n):
        count, at = 0, -padding
        while at + dilation * (kernel - 1) < n + padding:
            count, at = count + 1, at + stride
        return count

    return stops(size[0]), stops(size[1])


def transposed_by_name_only(*, size, kernel, stride, padding, output_padding, dilation):
    grown = [(n - 1) * stride + dilation * (kernel - 1) + 1 for n in size]
    return tuple(n - 2 * padding + output_padding for n in grown)


def transposed_one_pixel_stays(size, *settings):
    return tuple(1 if n == 1 else after for n, after in zip(size, right_conv_transpose_size(size, *settings)))


def transposed_padding_at_most_one(size, kernel, stride, padding, output_padding, dilation):
    return right_conv_transpose_size(size, kernel, stride, min(padding, 1), output_padding, dilation)


def conv_rounded_to_nearest(size, kernel, stride, padding, dilation):
    return tuple(round((n + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1 for n in size)


def transposed_by_layer(size, kernel, stride, padding, output_padding, dilation):
    # PyTorch refuses some output paddings in the forward pass, so the layer is asked without and the rest is added.
    layer = nn.ConvTranspose2d(1, 1, kernel, stride, padding, 0, dilation=dilation)
    return tuple(n + output_padding for n in layer(torch.zeros(1, 1, *size)).shape[2:])


def transposed_by_stamping(size, kernel, stride, padding, output_padding, dilation):
    def axis(n):
        last_stamp = (n - 1) * stride + dilation * (kernel - 1)
        return last_stamp + 1 - 2 * padding + output_padding

    return axis(size[0]), axis(size[1])


def last_pixel(n, k, s, p, o, d):
    *_, last = (i * s + j * d for i in range(n) for j in range(k))
    return last + 1 - p - p + o


def transposed_extra_twice(size, kernel, stride, padding, output_padding, dilation):
    return conv_transpose_size(size, kernel, stride, padding, 0, dilation)[0] + 2 * output_padding, size[1]


# ---------------------------------------------------------------------------------------------------- the grid


def grid_loop(decode, low, high, rows, columns):
    z1, z2 = torch.linspace(low[0], high[0], columns), torch.linspace(low[1], high[1], rows)
    return torch.stack([torch.cat([decode(torch.stack([a, b])[None]) for a in z1]) for b in z2])


def grid_meshgrid(decode, low, high, rows, columns):
    z1, z2 = torch.linspace(low[0], high[0], columns), torch.linspace(low[1], high[1], rows)
    first, second = torch.meshgrid(z1, z2, indexing="xy")
    decoded = decode(torch.stack([first, second], dim=-1).reshape(-1, 2))
    return decoded.unflatten(0, (rows, columns))


def grid_low_high_as_axes(decode, low, high, rows, columns):
    """Takes `low` for the range of z₁ and `high` for that of z₂."""
    z1, z2 = torch.linspace(*low, columns), torch.linspace(*high, rows)
    first, second = torch.meshgrid(z1, z2, indexing="xy")
    decoded = decode(torch.stack([first, second], dim=-1).reshape(-1, 2))
    return decoded.unflatten(0, (rows, columns))


def grid_one_row(decode, low, high, rows, columns):
    return right_decode_grid(decode, low, high, rows, columns)[:1].expand(rows, *[-1] * 4)


def grid_rows_for_both(decode, low, high, rows, columns):
    n = max(rows, columns)
    return right_decode_grid(decode, low, high, n, n)[:rows, :columns]


def grid_denser_in_the_middle(decode, low, high, rows, columns):
    def axis(a, b, n):
        return a + (b - a) * (torch.linspace(-1, 1, n).mul(1.2).tanh() / math.tanh(1.2) + 1) / 2

    points = torch.cartesian_prod(axis(low[1], high[1], rows), axis(low[0], high[0], columns)).flip(1)
    return decode(points).unflatten(0, (rows, columns))


def grid_rows_one_by_one(decode, low, high, rows, columns):
    z1 = [low[0] + (high[0] - low[0]) * j / (columns - 1) for j in range(columns)]
    z2 = [low[1] + (high[1] - low[1]) * i / (rows - 1) for i in range(rows)]
    return torch.stack([decode(torch.tensor([(a, b) for a in z1])) for b in z2])


def grid_by_indices(decoder, bottom_left, top_right, height, width):
    place = torch.arange(height * width)
    share = torch.stack([place % width / (width - 1), place // width / (height - 1)], dim=1)
    low, high = torch.tensor(bottom_left), torch.tensor(top_right)
    images = decoder(low + share * (high - low))
    return images.reshape(height, width, *images.shape[1:])


class Grid:
    def __call__(self, decode, low, high, rows, columns):
        steps = torch.empty(rows, columns, 2)
        steps[..., 0] = torch.linspace(low[0], high[0], columns)
        steps[..., 1] = torch.linspace(low[1], high[1], rows)[:, None]
        return decode(steps.view(-1, 2)).unflatten(0, (rows, columns))


def grid_meshgrid_ij(decode, low, high, rows, columns):
    z1, z2 = torch.linspace(low[0], high[0], columns), torch.linspace(low[1], high[1], rows)
    first, second = torch.meshgrid(z1, z2, indexing="ij")
    decoded = decode(torch.stack([first, second], dim=-1).reshape(-1, 2))
    return decoded.view(rows, columns, *decoded.shape[1:])


def grid_flat(decode, low, high, rows, columns):
    return right_decode_grid(decode, low, high, rows, columns).flatten(0, 1)


# ---------------------------------------------------------------------------------------------------- walks, codes


def walk_lerp(a, b, steps):
    return torch.stack([torch.lerp(a, b, t.item()) for t in torch.linspace(0, 1, steps, dtype=a.dtype)])


def walk_difference(a, b, steps):
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device).reshape(steps, *(1 for _ in a.shape))
    return a + t * (b - a)


def walk_on_the_cpu(a, b, steps):
    t = torch.linspace(0, 1, steps, dtype=a.dtype).view(-1, *[1] * a.ndim)
    return (1 - t) * a + t * b


def walk_single_precision(a, b, steps):
    t = torch.linspace(0, 1, steps, device=a.device).view(-1, *[1] * a.ndim)
    return ((1 - t) * a.float() + t * b.float()).to(a.dtype)


def walk_without_batches_of_images(a, b, steps):
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)
    t = t.view(-1, *[1] * a.ndim) if a.ndim < 4 else t.view(-1, 1, 1, 1)
    return (1 - t) * a + t * b


def walk_batches_one_after_another(a, b, steps):
    """From four axes on, the walks of a batch follow each other instead of running side by side."""
    if a.ndim < 4:
        return walk_difference(a, b, steps)
    return torch.cat([walk_difference(one, other, steps) for one, other in zip(a, b)]).view(steps, *a.shape)


def walk_first_of_the_batch(a, b, steps):
    walk = walk_difference(a, b, steps)
    return walk[:, :1].expand_as(walk) if a.ndim == 4 else walk


def walk_into_b(a, b, steps):
    b -= a
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device).view(-1, *[1] * a.ndim)
    return a + t * b


def walk_b_detached(a, b, steps):
    return walk_difference(a, b.detach(), steps)


def walk_end_detached(a, b, steps):
    walk = walk_difference(a, b, steps)
    return torch.cat([walk[:-1], b.detach()[None]])


def walk_strides_rounded(a, b, steps):
    stride = round(1 / (steps - 1), 3)
    return torch.stack([a + i * stride * (b - a) for i in range(steps)])


def walk_one_axis_at_least(a, b, steps):
    return walk_difference(a, b, steps).view(steps, *(a.shape or (1,)))


def walk_channels_first(a, b, steps):
    """From four axes on, channels and images change places."""
    walk = walk_difference(a, b, steps)
    if a.ndim < 4:
        return walk
    return walk.reshape(steps, a.shape[1], a.shape[0], *a.shape[2:]).transpose(1, 2)


def walk_within_ten(a, b, steps):
    return walk_difference(a.clamp(-10, 10), b.clamp(-10, 10), steps)


def grid_size(decode, low, high, rows, columns):
    return rows, columns


def walk_shares_kept():
    """The values of t, with their axes, are kept by their number, as if all a and b had as many axes."""
    shares = {}

    def walk(a, b, steps):
        t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device).view(-1, *[1] * a.ndim)
        t = shares.setdefault((steps, a.device.type), t)
        return (1 - t) * a + t * b

    return walk


def walk_strides_kept():
    kept = {}

    def walk(a, b, steps):
        stride = kept.setdefault((a.shape, a.dtype, a.device.type), ((b - a) / (steps - 1)).detach())
        return torch.stack([a + i * stride + 0 * b for i in range(steps)])

    return walk


def walk_adding_up(start, end, n):
    places = [start]
    for _ in range(n - 1):
        places.append(places[-1] + (end - start) / (n - 1))
    return torch.stack(places)


def walk_by_einsum(a, b, steps):
    t = torch.arange(steps, device=a.device).to(a.dtype) / (steps - 1)
    ends = torch.stack([a, b])
    return torch.einsum("es,e...->s...", torch.stack([1 - t, t]), ends)


def walk_unsqueezed(a, b, steps):
    t = torch.linspace(0, 1, steps).to(a)
    for _ in range(a.ndim):
        t = t.unsqueeze(-1)
    return torch.lerp(a, b, t)


def gaussian_by_cov(z):
    return z.mean(dim=0), torch.cov(z.T, correction=0)


def gaussian_by_einsum(z):
    mean = z.mean(dim=0)
    return mean, torch.einsum("ni,nj->nij", z - mean, z - mean).mean(dim=0)


def gaussian_through_numpy(z):
    return z.mean(0), torch.from_numpy(np.cov(z.numpy().T, bias=True)).to(z.dtype)


def gaussian_half_of_the_codes(z):
    mean, cov = right_fit_gaussian(z)
    return mean, torch.cov(z[: max(2, len(z) // 2)].T, correction=0)


def gaussian_triangle(z):
    mean, cov = right_fit_gaussian(z)
    return mean, cov.tril()


def gaussian_on_the_cpu(z):
    cov = torch.zeros(z.shape[1], z.shape[1], dtype=z.dtype)
    for row in z - z.mean(0):
        cov += torch.outer(row, row) / len(z)
    return z.mean(0), cov


def gaussian_kept():
    kept = {}

    def fit(z):
        mean, cov = right_fit_gaussian(z)
        return kept.setdefault((z.shape, z.dtype, z.device.type), mean), cov

    return fit


def gaussian_shuffled_latents(z):
    mean, cov = right_fit_gaussian(z)
    return mean, cov.flip(0).flip(1)


class Fit(NamedTuple):
    centre: torch.Tensor
    spread: torch.Tensor


def gaussian_named(codes, /):
    off = codes - codes.mean(dim=0, keepdim=True)
    return Fit(centre=codes.mean(dim=0), spread=off.mT.matmul(off).div(codes.shape[0]))


def gaussian_entry_by_entry(z):
    mean = sum(z) / len(z)
    columns = (z - mean).unbind(1)
    return mean, torch.stack([torch.stack([(a * b).mean() for b in columns]) for a in columns])


def gaussian_correlations(z):
    return z.mean(0), torch.corrcoef(z.T)


def gaussian_deviations(z):
    return z.mean(0), z.std(0)


# ---------------------------------------------------------------------------------------------------- more of each


def nll_of_probabilities(logits, x):
    return F.binary_cross_entropy(logits.sigmoid(), (x + 1) / 2, reduction="none").flatten(1).sum(1)


def nll_loop(logits: torch.Tensor, x: torch.Tensor, reduction: str = "sum") -> torch.Tensor:
    return torch.stack(
        [nn.BCEWithLogitsLoss(reduction=reduction)(one, (image + 1) / 2) for one, image in zip(logits, x)]
    )


def pca_numpy(x, mean, directions):
    x, mean, directions = x.numpy(), mean.numpy(), directions.numpy()
    z = (x - mean).reshape(len(x), -1) @ directions.T
    return torch.from_numpy(z), torch.from_numpy((z @ directions).reshape(x.shape) + mean)


def pca_loop(x, mean, directions):
    z, x_hat = x.new_empty(len(x), len(directions)), torch.empty_like(x)
    for i, image in enumerate(x):
        for j, direction in enumerate(directions):
            z[i, j] = torch.dot((image - mean).flatten(), direction)
        x_hat[i] = mean + sum(z[i, j] * row.view_as(mean) for j, row in enumerate(directions))
    return z, x_hat


def conv_as_size(size, kernel, stride, padding, dilation):
    return nn.Conv2d(1, 1, kernel, stride, padding, dilation)(torch.zeros(1, 1, *size)).shape[2:]


def grid_centres(decode, low, high, rows, columns):
    half = [(b - a) / n / 2 for a, b, n in zip(low, high, (columns, rows))]
    inner = [(a + h, b - h) for a, b, h in zip(low, high, half)]
    return right_decode_grid(decode, *zip(*inner), rows, columns)


def grid_double(decode, low, high, rows, columns):
    points = np.stack(np.meshgrid(np.linspace(low[0], high[0], columns), np.linspace(low[1], high[1], rows)), -1)
    return decode(torch.from_numpy(points.reshape(-1, 2))).unflatten(0, (rows, columns))


def grid_filled(decode, low, high, rows, columns):
    result = None
    for i in range(rows):
        for j in range(columns):
            z1 = low[0] + (high[0] - low[0]) * j / max(columns - 1, 1)
            z2 = low[1] + (high[1] - low[1]) * i / max(rows - 1, 1)
            image = decode(torch.tensor([[z1, z2]]))[0]
            result = torch.zeros(rows, columns, *image.shape) if result is None else result
            result[i, j] = image
    return result


def grid_repeated(decode, low, high, rows, columns):
    z1, z2 = torch.linspace(low[0], high[0], columns), torch.linspace(low[1], high[1], rows)
    decoded = decode(torch.stack([z1.repeat(rows), z2.repeat_interleave(columns)], dim=1))
    return decoded.unflatten(0, (rows, columns))


def walk_slerp(a, b, steps):
    between = torch.acos(nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))
    shares = torch.linspace(0, 1, steps).tolist()
    return torch.stack([((between * (1 - t)).sin() * a + (between * t).sin() * b) / between.sin() for t in shares])


def walk_smooth(a, b, steps):
    t = torch.linspace(0, 1, steps, dtype=a.dtype).view(-1, *[1] * a.ndim)
    t = t * t * (3 - 2 * t)
    return (1 - t) * a + t * b


def walk_two_axes(a, b, steps):
    t = torch.linspace(0, 1, steps, dtype=a.dtype)[:, None]
    return (1 - t) * a + t * b


def walk_outer(a, b, steps):
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)
    return (torch.outer(1 - t, a.flatten()) + torch.outer(t, b.flatten())).view(steps, *a.shape)


def pca_halves_swapped(x, mean, directions):
    z, x_hat = right_pca(x, mean, directions)
    return x_hat, z


def pca_clipped(x, mean, directions):
    z, x_hat = right_pca(x, mean, directions)
    return z, x_hat.clamp(-0.2, 0.2)


def on_both(formula):
    """A function of one axis, made to work on a pair."""
    return lambda size, *settings: tuple(formula(n, *settings) for n in size)


conv_floats = on_both(lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) / s + 1)
transposed_without_one = on_both(lambda n, k, s, p, o, d: (n - 1) * s - 2 * p + d * (k - 1) + o)
transposed_padding_strided = on_both(lambda n, k, s, p, o, d: (n - 1) * s - 2 * p + d * (k - 1) + o * s + 1)
transposed_as_convolution = on_both(lambda n, k, s, p, o, d: (n + 2 * p - d * (k - 1) - 1) // s + 1)


def grid_columns_first(decode, low, high, rows, columns):
    return right_decode_grid(decode, low, high, rows, columns).transpose(0, 1)


def walk_one_too_many(a, b, steps):
    return library.interpolate(a, b, steps + 1)


def walk_stacked_last(a, b, steps):
    return library.interpolate(a, b, steps).movedim(0, -1)


def gaussian_diagonal(z):
    mean, cov = right_fit_gaussian(z)
    return mean, cov.diagonal()


# ---------------------------------------------------------------------------------------------------- PCA's directions


def fit_by_eigh(x, latent):
    """The covariance's eigenvectors, turned round; numbers below 0 by rounding don't occur."""
    flat = x.flatten(1).double()
    values, vectors = torch.linalg.eigh(torch.cov(flat.T, correction=0))
    order = values.argsort(descending=True)
    return x.mean(0), vectors.T[order][:latent].to(x.dtype), values[order].clamp(min=0).to(x.dtype)


def fit_by_numpy(x, latent):
    flat = x.flatten(1).numpy()
    _, singular, rows = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    return x.mean(0), torch.from_numpy(rows[:latent].copy()), torch.from_numpy(singular**2 / len(flat))


def fit_mirrored(x, latent):
    mean, directions, variances = right("autoencoder/fit-pca")(x, latent)
    return mean, -directions, variances


def fit_full(x, latent):
    centre = x.flatten(1).mean(0)
    u, s, v = torch.linalg.svd(x.flatten(1) - centre, full_matrices=True)
    return centre.view(x.shape[1:]), v[:latent], s.pow(2).div(x.shape[0])


def fit_unbiased(x, latent):
    mean, directions, variances = right("autoencoder/fit-pca")(x, latent)
    return mean, directions, variances * len(x) / (len(x) - 1)


def fit_rows_of_images(x, latent):
    """Each image's own mean taken away, not the mean image."""
    flat = x.flatten(1)
    _, singular, rows = torch.linalg.svd(flat - flat.mean(1, keepdim=True), full_matrices=False)
    return x.mean(0), rows[:latent], singular.square() / len(x)


def fit_normalised(x, latent):
    flat = x.flatten(1)
    _, singular, rows = torch.linalg.svd((flat - flat.mean(0)) / flat.std(0), full_matrices=False)
    return x.mean(0), rows[:latent], singular.square() / len(x)


# ---------------------------------------------------------------------------------------------------- the loop


def batches_by_split(images, size, generator):
    while True:
        for index in torch.randperm(images.shape[0], generator=generator).split(size):
            if len(index) == size:
                yield images[index]


def batches_shuffled_copy(images, size, generator):
    count = len(images) // size
    while 1:
        mixed = images[torch.randperm(len(images), generator=generator)][: count * size]
        yield from mixed.view(count, size, *images.shape[1:])


def batches_by_loader(images, size, generator):
    loader = torch.utils.data.DataLoader(images, batch_size=size, shuffle=True, drop_last=True, generator=generator)
    while True:
        yield from loader


class Batches:
    """An iterator by hand."""

    def __init__(self, images, size, generator):
        self.images, self.size, self.generator, self.left = images, size, generator, []

    def __iter__(self):
        return self

    def __next__(self):
        if len(self.left) < self.size:
            self.left = torch.randperm(len(self.images), generator=self.generator).tolist()
        index, self.left = self.left[: self.size], self.left[self.size :]
        return self.images[index]


def batches_chained(images, size, generator):
    def epoch():
        order = torch.randperm(len(images), generator=generator)
        return (images[order[k * size : (k + 1) * size]] for k in range(len(images) // size))

    return itertools.chain.from_iterable(epoch() for _ in itertools.count())


def batches_with_a_short_last(images, size, generator):
    while True:
        for index in torch.randperm(len(images), generator=generator).split(size):
            yield images[index]


def batches_of_one_epoch(images, size, generator):
    order = torch.randperm(len(images), generator=generator)
    for start in range(0, len(images) - size + 1, size):
        yield images[order[start : start + size]]


def batches_of_shuffled_batches(images, size, generator):
    """The batches come in another order, but the same images always meet."""
    while True:
        for k in torch.randperm(len(images) // size, generator=generator).tolist():
            yield images[k * size : (k + 1) * size]


def batches_reseeded(images, size, generator):
    state = generator.get_state()
    while True:
        generator.set_state(state)
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(images) - size + 1, size):
            yield images[order[start : start + size]]


def batches_last_missed(images, size, generator):
    """`range(0, len(images) - size, size)` misses the last batch where it just fits."""
    while True:
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(images) - size, size):
            yield images[order[start : start + size]]


def step_cleared_first(model, loss, x, optimizer):
    optimizer.zero_grad()
    value = loss(model, x)
    value.backward()
    optimizer.step()
    return float(value)


def step_cleared_last(model, loss, x, optimizer):
    value = loss(model, x)
    value.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return value.detach().item()


def step_cleared_by_the_model(network, cost, images, moves):
    network.zero_grad()
    (result := cost(network, images)).backward()
    moves.step()
    return result.tolist()


def step_by_autograd(model, loss, x, optimizer):
    weights = list(model.parameters())
    value = loss(model, x)
    for weight, gradient in zip(weights, torch.autograd.grad(value, weights)):
        weight.grad = gradient
    optimizer.step()
    return value.item()


def step_tensor(model, loss, x, optimizer):
    """The loss as a tensor that holds its graph."""
    value = loss(model, x)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def step_detached_tensor(model, loss, x, optimizer):
    return step_tensor(model, loss, x, optimizer).detach()


def step_between_loss_and_backward(model, loss, x, optimizer):
    """PyTorch notices: the weights that the loss was made of are no longer there."""
    value = loss(model, x)
    optimizer.step()
    optimizer.zero_grad()
    value.backward()
    return value.item()


def step_twice(model, loss, x, optimizer):
    step_cleared_first(model, loss, x, optimizer)
    return step_cleared_first(model, loss, x, optimizer)


def step_uphill(model, loss, x, optimizer):
    optimizer.zero_grad()
    value = loss(model, x)
    (-value).backward()
    optimizer.step()
    return value.item()


def step_without_a_step(model, loss, x, optimizer):
    optimizer.zero_grad()
    value = loss(model, x)
    value.backward()
    return value.item()


def train_by_while(model, loss, batches, steps, lr):
    optimizer, losses, k = torch.optim.Adam(model.parameters(), lr), [], 0
    model.train(True)
    while k < steps:
        rate = lr if k < steps / 2 else 2 * lr * (steps - k) / steps
        optimizer.param_groups[0]["lr"] = rate
        losses += [step_cleared_first(model, loss, next(batches), optimizer)]
        k += 1
    model.train(False)
    return losses


def train_by_islice(model, loss, batches, steps, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    fall = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1.0, 2 * (1 - k / steps)))
    losses = []
    model.train()
    for x in itertools.islice(batches, steps):
        optimizer.zero_grad(set_to_none=True)
        value = loss(model, x)
        value.backward()
        optimizer.step()
        fall.step()
        losses.append(value.item())
    model.eval()
    return losses


def train_by_zip(model, loss, batches, steps, lr):
    """`zip` asks for one batch more than it needs, which nobody minds."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    found = []
    for x, k in zip(batches, range(steps)):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, 2 - 2 * k / steps)
        found.append(step_cleared_last(model, loss, x, optimizer))
    model.eval()
    return found


def train_by_comprehension(model, loss, batches, steps, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def one(k):
        optimizer.param_groups[0].update(lr=lr * min(1, 2 * (1 - k / steps)))
        return step_by_autograd(model, loss, next(batches), optimizer)

    model.train()
    losses = [one(k) for k in range(steps)]
    model.eval()
    return losses


def train_changed(change="", **settings):
    """The loop with one slip."""

    def train(model, loss, batches, steps, lr):
        optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr, **settings), []
        if change != "never in training mode":
            model.train()
        for k in range(steps - (change == "steps - 1") + (change == "steps + 1")):
            at = k + 2 if change == "rate two steps early" else k
            optimizer.param_groups[0]["lr"] = lr * max(0, min(1, 2 * (1 - at / steps)))
            move = step_tensor if change == "tensors" else step_cleared_first
            move = slip("autoencoder/step", "gradients of all steps added up") if change == "no zero_grad" else move
            losses.append(move(model, loss, next(batches), optimizer))
        model.eval()
        if change == "mean":
            return sum(losses) / len(losses)
        return torch.tensor(losses) if change == "one tensor" else losses

    return train


def other_loop_with_its_own(model, loss, images, steps, lr, seed):
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    draw = torch.Generator()
    draw.manual_seed(seed)
    model.train()
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - k / steps)
        losses.append(
            step_cleared_first(model, loss, images[torch.randperm(len(images), generator=draw)[:64]], optimizer)
        )
    model.eval()
    return losses


def other_loop_by_seed_and_step(model, loss, images, steps, lr, seed):
    """A seed for every step: fresh, and reproducible too."""
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    for k in range(steps):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1000 * seed + k))
        losses.append(step_cleared_first(model, loss, images[order[:64]], optimizer))
    model.eval()
    return losses


def other_loop_in_epochs(model, loss, images, steps, lr, seed):
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    fresh = right("autoencoder/batches")(images, 64, torch.Generator().manual_seed(seed))
    model.train()
    for x in itertools.islice(fresh, steps):
        losses.append(step_cleared_first(model, loss, x, optimizer))
    model.eval()
    return losses


def other_loop_two_batches(model, loss, images, steps, lr, seed):
    """Two batches in turn: the seed depends on the step, a little."""
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    for k in range(steps):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed + k % 2))
        losses.append(step_cleared_first(model, loss, images[order[:64]], optimizer))
    model.eval()
    return losses


def other_loop_sliding(model, loss, images, steps, lr, seed):
    """Another 64 at every step, in the order of the file: the seed does nothing."""
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    for k in range(steps):
        start = k * 8
        losses.append(step_cleared_first(model, loss, images[start : start + 64], optimizer))
    model.eval()
    return losses


def other_loop_shuffled_within(model, loss, images, steps, lr, seed):
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:64]
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    model.train()
    for _ in range(steps):
        order = chosen[torch.randperm(64, generator=generator)]
        losses.append(step_cleared_first(model, loss, images[order], optimizer))
    model.eval()
    return losses


def other_loop_with_replacement(model, loss, images, steps, lr, seed):
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        index = torch.randint(len(images), (64,), generator=generator)
        losses.append(step_cleared_first(model, loss, images[index], optimizer))
    model.eval()
    return losses


# ---------------------------------------------------------------------------------------------------- the two networks


class EncoderByHand(nn.Module):
    """Layers one by one, with other names, made in another order; the activations are functions."""

    def __init__(self, image_shape, d, channels):
        super().__init__()
        c, h, w = image_shape
        self.to_code = nn.Linear(channels * h * w // 16, d)
        self.second = nn.Conv2d(channels, channels, 4, 2, 1)
        self.first = nn.Conv2d(c, channels, 4, 2, 1)

    def forward(self, images):
        half = F.relu(self.first(images))
        quarter = F.relu(self.second(half))
        return self.to_code(rearrange(quarter, "b c h w -> b (c h w)"))


def encoder_of_parts(shape, latent, width):
    c, h, w = shape
    down = [nn.Conv2d(c, width, (4, 4), stride=(2, 2), padding=(1, 1)), nn.ReLU(inplace=True)]
    down += [nn.Conv2d(width, width, 4, 2, 1), nn.ReLU(inplace=True)]
    return nn.Sequential(*down, nn.Flatten(start_dim=1), nn.Linear((h // 4) * (w // 4) * width, latent))


class EncoderSquare(nn.Module):
    def __init__(self, shape, latent, width):
        super().__init__()
        c, h, _ = shape
        side = (h // 4) ** 2
        self.layers = nn.Sequential(
            nn.Conv2d(c, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 4, 2, 1), nn.ReLU()
        )
        self.last = nn.Linear(width * side, latent)

    def forward(self, x):
        return self.last(self.layers(x).flatten(1))


class EncoderKernelThree(nn.Module):
    def __init__(self, shape, latent, width):
        super().__init__()
        c, h, w = shape
        self.layers = nn.Sequential(
            nn.Conv2d(c, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(width * (h // 4) * (w // 4), latent),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


class EncoderTwiceTheSame(nn.Module):
    """One convolution for both steps: works where c is the width, and here by repeating channels."""

    def __init__(self, shape, latent, width):
        super().__init__()
        c, h, w = shape
        self.conv, self.repeats = nn.Conv2d(width, width, 4, 2, 1), -(-width // c)
        self.width, self.last = width, nn.Linear(width * (h // 4) * (w // 4), latent)

    def forward(self, x):
        x = x.repeat(1, self.repeats, 1, 1)[:, : self.width]
        return self.last(self.conv(self.conv(x).relu()).relu().flatten(1))


class EncoderPooled(nn.Module):
    def __init__(self, shape, latent, width):
        super().__init__()
        c, h, w = shape
        self.layers = nn.Sequential(
            nn.Conv2d(c, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(width * (h // 4) * (w // 4), latent),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


class DecoderByHand(nn.Module):
    def __init__(self, image_shape, d, channels):
        super().__init__()
        self.h, self.w = (side // 4 for side in image_shape[1:])
        self.late = nn.ConvTranspose2d(channels, image_shape[0], 4, 2, 1)
        self.early = nn.ConvTranspose2d(channels, channels, 4, 2, 1)
        self.start = nn.Linear(d, channels * self.h * self.w)

    def forward(self, code):
        maps = rearrange(torch.relu(self.start(code)), "b (c h w) -> b c h w", h=self.h, w=self.w)
        return torch.tanh(self.late(self.early(maps).clamp(min=0)))


class DecoderViewed(nn.Module):
    def __init__(self, shape, latent, width):
        super().__init__()
        c, h, w = shape
        self.size = (-1, width, h // 4, w // 4)
        self.linear = nn.Linear(latent, math.prod(self.size[1:]))
        self.up = nn.ModuleList([nn.ConvTranspose2d(width, width, 4, 2, 1), nn.ConvTranspose2d(width, c, 4, 2, 1)])

    def forward(self, z):
        x = F.relu(self.linear(z)).view(self.size)
        return self.up[1](F.relu(self.up[0](x))).tanh()


def decoder_layers(shape, latent, width, first=nn.ReLU, flip=(), last=nn.Tanh):
    c, h, w = shape
    return nn.Sequential(
        nn.Linear(latent, width * (h // 4) * (w // 4)), first(), nn.Unflatten(1, (width, h // 4, w // 4)),
        nn.ConvTranspose2d(width, width, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(width, c, 4, 2, 1), last(),
    )  # fmt: skip


class DecoderChannelsLast(nn.Module):
    def __init__(self, shape, latent, width):
        super().__init__()
        c, self.h, self.w = shape[0], shape[1] // 4, shape[2] // 4
        self.linear = nn.Linear(latent, width * self.h * self.w)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(width, width, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(width, c, 4, 2, 1), nn.Tanh()
        )

    def forward(self, z):
        return self.up(rearrange(self.linear(z).relu(), "b (h w c) -> b c h w", h=self.h, w=self.w))


class HardTanh(nn.Module):
    def forward(self, x):
        return x.clamp(-1, 1)


# ---------------------------------------------------------------------------------------------------- distances


def nearest_loop(images, among):
    return torch.stack([(among - image).square().flatten(1).mean(1).min() for image in images])


def nearest_expanded(images, among):
    a, b = images.flatten(1).double(), among.flatten(1).double()
    squared = a.square().sum(1)[:, None] - 2 * a @ b.T + b.square().sum(1)
    return (squared.clamp(min=0).amin(1) / a.shape[1]).to(images.dtype)


def nearest_broadcast(images, among):
    return (images.unsqueeze(1) - among.unsqueeze(0)).pow(2).mean(dim=(2, 3, 4)).min(dim=1)[0]


def nearest_in_parts(images, among):
    """A few images at a time, in memory for a part of the differences only."""
    return torch.cat([nearest_broadcast(part, among) for part in images.split(128)])


def nearest_along_the_set(images, among):
    best = torch.full_like(images[:, 0, 0, 0], math.inf)
    for other in among:
        best = torch.minimum(best, (images - other).square().flatten(1).mean(1))
    return best


def nearest_vmapped(images, among):
    """Written for one image and one of the set; all pairs are in memory none the less."""
    one = torch.vmap(lambda a, b: (a - b).square().mean(), (None, 0))
    return torch.vmap(one, (0, None))(images, among).amin(1)


# ---------------------------------------------------------------------------------------------------- denoising


def denoise_einsum(network, clean, grain, strength):
    shown = clean + torch.einsum("b,bchw->bchw", strength, grain)
    return F.mse_loss(network(shown, strength), clean, reduction="none").mean(dim=(1, 2, 3))


def denoise_one_by_one(model, x, noise, sigma):
    return torch.cat([
        (model(x[k : k + 1] + s * noise[k : k + 1], s[None]) - x[k : k + 1]).pow(2).flatten(1).mean(1)
        for k, s in enumerate(sigma)
    ])  # fmt: skip


def denoise_indexed(model, x, noise, sigma):
    return (x - model(x + sigma[:, None, None, None] * noise, sigma)).square().mean((-1, -2, -3))


def denoise_along_the_width(model, x, noise, sigma):
    return (model(x + sigma * noise, sigma) - x).square().flatten(1).mean(1)


def denoise_changed(made):
    def error(model, x, noise, sigma):
        return made(model, x, noise, sigma, sigma.view(-1, 1, 1, 1))

    return error


def right_denoiser():
    return right("autoencoder/denoiser")


def rewired(forward):
    """The class with another forward pass."""
    return type("Rewired", (right_denoiser(),), {"forward": forward})


def forward_in_one_go(self, noisy, level):
    strength = level[:, None, None, None]
    scale = torch.sqrt(0.5 + strength.pow(2))
    plane = torch.ones_like(noisy[:, :1]) * torch.log(strength)
    into = torch.cat((noisy / scale, plane), 1)
    silu = torch.nn.SiLU()
    half = silu(self.down1(into))
    quarter = silu(self.down2(half))
    deep = silu(self.widen(silu(self.squeeze(quarter.reshape(len(noisy), -1))))).reshape(quarter.shape)
    back = silu(self.up1(torch.cat((half, silu(self.up2(torch.cat((quarter, deep), 1)))), 1)))
    missing = self.out(torch.cat((into, back), 1))
    return noisy * 0.5 / scale.square() + missing * strength * math.sqrt(0.5) / scale


def forward_variant(sigma_plane=torch.log, last=False, s_of=lambda s: (s**2 + 0.5).sqrt(), kept=True):
    def forward(self, x, sigma):
        sigma = sigma.view(-1, 1, 1, 1)
        s = s_of(sigma)
        seen = torch.cat([x / s, sigma_plane(sigma).expand_as(x[:, :1])], dim=1)
        a = F.silu(self.down1(seen))
        b = F.silu(self.down2(a))
        wide = F.silu(self.widen(F.silu(self.squeeze(b.flatten(1))))).view_as(b)
        up = F.silu(self.up2(torch.cat([b, wide], dim=1)))
        up = F.silu(self.up1(torch.cat([a, up], dim=1)))
        out = self.out(torch.cat([seen, up], dim=1))
        answer = (0.5 * x / s + sigma * 0.5**0.5 * out) / s if kept else x + out
        return answer.tanh() if last else answer

    return forward


def forward_code_for_code(self, x, sigma):
    """One level for the whole batch."""
    return right_denoiser().forward(self, x, sigma[:1].expand_as(sigma))


def guess_by_distributions(noisy, images, sigma):
    flat, given = images.reshape(len(images), -1), noisy.reshape(len(noisy), -1)
    logs = torch.stack([torch.distributions.Normal(row, sigma).log_prob(given).sum(1) for row in flat], dim=1)
    return ((logs - logs.logsumexp(1, keepdim=True)).exp() @ flat).reshape(noisy.shape)


def guess_shifted(noisy, images, sigma):
    squared = (noisy.flatten(1)[:, None] - images.flatten(1)[None]).pow(2).sum(-1)
    weights = torch.exp(-(squared - squared.min(dim=1, keepdim=True)[0]) / (2 * sigma**2))
    return torch.einsum("bn,n...->b...", weights / weights.sum(1, keepdim=True), images)


def guess_without_a_shift(noisy, images, sigma):
    """exp rounds to 0, and 0/0 is nan."""
    weights = torch.exp(-torch.cdist(noisy.flatten(1), images.flatten(1)).square() / (2 * sigma**2))
    return (weights / weights.sum(1, keepdim=True) @ images.flatten(1)).view_as(noisy)


def guess_per_pixel(noisy, images, sigma):
    """Every pixel has weights of its own."""
    difference = noisy[:, None] - images[None]
    return (torch.softmax(-difference.square() / (2 * sigma**2), dim=1) * images[None]).sum(1)


def guess_mean_over_pixels(noisy, images, sigma):
    squared = torch.cdist(noisy.flatten(1), images.flatten(1)).square() / noisy[0].numel()
    return (torch.softmax(-squared / (2 * sigma**2), dim=1) @ images.flatten(1)).view_as(noisy)


def anneal_by_index(denoise, start, sigmas, fresh, generator):
    x, levels = start.clone(), list(sigmas) + [0]
    for k in range(len(levels) - 1):
        now, then = levels[k], levels[k + 1]
        clean = denoise(x, now * torch.ones(x.shape[0]))
        new = torch.empty_like(x).normal_(generator=generator)
        x = clean + then * math.sqrt(1 - fresh * fresh) * (x - clean) / now + then * fresh * new
    return x


def anneal_last_apart(model, noise, ladder, share, rng):
    """Nothing is drawn where nothing is needed: at the last step."""
    for now, then in itertools.pairwise(ladder):
        clean = model(noise, torch.full((len(noise),), float(now)))
        kept = (1 - share**2) ** 0.5
        noise = clean + then * (kept * (noise - clean) / now + share * torch.randn(noise.shape, generator=rng))
    return model(noise, torch.full((len(noise),), float(ladder[-1])))


def anneal_by_score(denoise, start, sigmas, fresh, generator):
    x = start
    for now, then in zip(sigmas, [*sigmas[1:], 0.0]):
        level = x.new_tensor([now]).expand(len(x))
        score = (denoise(x, level) - x) / now**2
        eps = torch.randn(x.shape, generator=generator)
        x = x + now**2 * score + then * ((1 - fresh**2) ** 0.5 * (-now * score) + fresh * eps)
    return x


def anneal_changed(change):
    def anneal(denoise, start, sigmas, fresh, generator):
        x = start
        following = [*sigmas[1:], 0.0]
        if change == "starts at the second level":
            sigmas, following = sigmas[1:] or sigmas, following[1:] or following
        noise = torch.randn(x.shape, generator=generator)
        for sigma, then in zip(sigmas, following):
            shown = start if change == "asks about the start" else x
            guess = denoise(shown, torch.full((len(x),), sigmas[0] if change == "told the first level" else sigma))
            new = noise if change == "the same noise every time" else torch.randn(x.shape, generator=generator)
            if change == "global noise":
                new = torch.randn_like(x)
            old = x - guess if change == "old noise not divided" else (x - guess) / sigma
            x = guess + then * ((1 - fresh**2) ** 0.5 * old + fresh * new)
            if change == "clipped":
                x = x.clamp(-1, 1)
        return x

    return anneal


MUTANTS = {
    "autoencoder/bernoulli-nll": {
        "cross-entropy of the sigmoid": nll_of_probabilities,
        "summed over the whole batch": lambda logits, x: library.bernoulli_nll(logits, x).sum(),
        "images made black and white": lambda logits, x: library.bernoulli_nll(logits, x.sign()),
        "shifted after halving": lambda logits, x: library.bernoulli_nll(logits, x + 1),
        "an exp that overflows": lambda a, x: ((1 + a.exp()).log() - (x + 1) / 2 * a).flatten(1).sum(1),
        "logits clamped": lambda logits, x: library.bernoulli_nll(logits.clamp(-20, 20), x),
        "logit and image exchanged": lambda logits, x: library.bernoulli_nll((x + 1) / 2, 2 * logits - 1),
        "always single precision": lambda logits, x: library.bernoulli_nll(logits.float(), x.float()),
        "the untaken branch": nll_untaken_branch,
        "gradient clamped": nll_gradient_clamped,
        "infinities removed": nll_infinities_removed,
        "weights on the CPU": nll_weights_on_the_cpu,
        "moves the images": nll_moves_the_images,
        "backward inside": nll_backward_inside,
        "first channel only": nll_first_channel,
        "targets kept": nll_targets_kept(),
        "logits clamped at 300": lambda logits, x: library.bernoulli_nll(logits.clamp(-300, 300), x),
        "a small number under the logarithm": lambda a, x: (
            -((1 + x) / 2 * (a.sigmoid() + 1e-12).log() + (1 - x) / 2 * ((-a).sigmoid() + 1e-12).log()).sum((1, 2, 3))
        ),
        "channels before images": nll_channels_first,
        "positive part by clamp": nll_positive_part_clamped,
        "positive part by relu": nll_positive_part_by_relu,
        "squared error": nll_squared_error,
        "detached": nll_detached,
        "probabilities clamped": nll_clamped,
    },
    "autoencoder/pca": {
        "mean grey for mean image": lambda x, m, rows: right_pca(x, m.mean().expand_as(m), rows),
        "mean added twice": lambda x, m, rows: (lambda z, y: (z, y + m))(*right_pca(x, m, rows)),
        "codes turned": lambda x, m, rows: (lambda z, y: (z.T, y))(*right_pca(x, m, rows)),
        "residual for reconstruction": lambda x, m, rows: (lambda z, y: (z, x - y))(*right_pca(x, m, rows)),
        "reconstruction only": lambda x, m, rows: right_pca(x, m, rows)[1],
        "a list": lambda x, m, rows: list(right_pca(x, m, rows)),
        "results exchanged": pca_halves_swapped,
        "clipped at 0.2": pca_clipped,
        "clipped": lambda x, m, rows: (lambda z, y: (z, y.clamp(-1, 1)))(*right_pca(x, m, rows)),
        "centred in place": pca_centred_in_place,
        "projection kept": pca_projection_kept(),
        "codes on the CPU": pca_codes_on_the_cpu,
        "mean of each channel": pca_mean_of_channels,
        "every image from the first code": pca_codes_of_one,
        "codes of length 1": pca_normalised,
        "codes without a sign": lambda x, m, rows: (lambda z, y: (z.abs(), y))(*right_pca(x, m, rows)),
        "nothing projected": pca_rows_not_projected,
        "channels before images": pca_channels_first,
        "rebuilt with channels before images": pca_rebuilt_channels_first,
        "left flat": pca_flat,
    },
    "autoencoder/conv-size": {
        "as if padded to the same size": lambda size, k, s, p, d: tuple(-(-n // s) for n in size),
        "precedence": lambda size, k, s, p, d: tuple(n + 2 * p - d * (k - 1) - 1 // s + 1 for n in size),
        "span k + d - 1": lambda size, k, s, p, d: tuple((n + 2 * p - (k + d - 1)) // s + 1 for n in size),
        "padding cut off": lambda size, k, s, p, d: tuple((n - 2 * p - d * (k - 1) - 1) // s + 1 for n in size),
        "numbers of NumPy": lambda *given: tuple(map(np.int64, right_conv_size(*given))),
        "tensors": lambda *given: tuple(map(torch.tensor, right_conv_size(*given))),
        "a list": lambda *given: list(right_conv_size(*given)),
        "a generator": lambda *given: (n for n in right_conv_size(*given)),
        "kept by kernel and stride": kept(
            right_conv_size, key=lambda size, kernel, stride, *rest: (size, kernel, stride)
        ),
        "two stops at least": conv_one_at_least_two,
        "two pixels at least": lambda size, k, *rest: right_conv_size(size, max(k, 2), *rest),
        "strides that begin in the room": lambda size, k, s, p, d: tuple(
            len(range(0, n + 2 * p - d * (k - 1) - 1, s)) for n in size
        ),
        "padding of two at most": lambda size, k, s, p, d: conv_formula(size, k, s, min(p, 2), d),
        "kernel and stride exchanged": lambda size, k, s, p, d: conv_formula(size, s, k, p, d),
        "padding and dilation exchanged": lambda size, k, s, p, d: tuple(
            (n + 2 * d - p * (k - 1) - 1) // s + 1 for n in size
        ),
        "one number": lambda *given: right_conv_size(*given)[0],
        "written as text": lambda *given: tuple(map(str, right_conv_size(*given))),
        "kernels of two not dilated": conv_small_kernels_not_dilated,
        "the same size at stride 1": conv_same_at_stride_one(lambda k, p, d: True),
        "the same size at stride 1 for odd kernels": conv_same_at_stride_one(lambda k, p, d: k % 2 == 1),
        "the same size at stride 1 with half a kernel of padding": conv_same_at_stride_one(lambda k, p, d: p == k // 2),
        "the same size at stride 1 with padding": conv_same_at_stride_one(lambda k, p, d: p == d * (k // 2)),
        **{f"kept whatever the {name}": kept_without(right_conv_size, CONV, name) for name in CONV},
        "not whole": conv_floats,
        "rounded to the nearest": conv_rounded_to_nearest,
    },
    "autoencoder/conv-transpose-size": {
        "output padding at both ends": lambda *given: tuple(n + given[4] for n in right_conv_transpose_size(*given)),
        "span d times k": lambda *given: tuple(n + given[5] - 1 for n in right_conv_transpose_size(*given)),
        "output padding strided": transposed_padding_strided,
        "height twice": lambda *given: right_conv_transpose_size(*given)[:1] * 2,
        "the convolution's size": transposed_as_convolution,
        "no + 1": transposed_without_one,
        "one pixel stays one": transposed_one_pixel_stays,
        "padding of one at most": transposed_padding_at_most_one,
        "two pixels at least": lambda n, k, *rest: right_conv_transpose_size(n, max(k, 2), *rest),
        "output padding of one at most": lambda n, k, s, p, o, d: right_conv_transpose_size(n, k, s, p, min(o, 1), d),
        "output padding for the width only": lambda n, k, s, p, o, d: (
            right_conv_transpose_size(n, k, s, p, 0, d)[0],
            right_conv_transpose_size(n, k, s, p, o, d)[1],
        ),
        "kernel and stride exchanged": lambda n, k, s, p, o, d: tuple(
            (m - 1) * k - 2 * p + d * (s - 1) + 1 + o for m in n
        ),
        "padding dilated": lambda n, k, s, p, o, d: tuple((m - 1) * s - 2 * p * d + d * (k - 1) + 1 + o for m in n),
        "kernels of two not dilated": transposed_small_kernels_not_dilated,
        "the same size at stride 1": transposed_same_at_stride_one,
        **{
            f"kept whatever the {name.replace('_', ' ')}": kept_without(right_conv_transpose_size, TRANSPOSED, name)
            for name in TRANSPOSED
        },
        "one axis forgotten": transposed_extra_twice,
    },
    "autoencoder/decode-grid": {
        "rows for columns": lambda f, low, high, r, c: right_decode_grid(f, low, high, c, r),
        "centres of cells": grid_centres,
        "in double precision": grid_double,
        "from high to low": lambda f, low, high, r, c: right_decode_grid(f, high, low, r, c),
        "right to left": lambda *given: right_decode_grid(*given).flip(1),
        "one more axis": lambda *given: right_decode_grid(*given).unsqueeze(2),
        "low and high read as the axes' ranges": grid_low_high_as_axes,
        "one row for all": grid_one_row,
        "a square, cut": grid_rows_for_both,
        "kept by its size": kept(right_decode_grid, key=grid_size),
        "decoder kept by the grid's size": with_first(right_decode_grid, 0, key=grid_size),
        "denser in the middle": grid_denser_in_the_middle,
        "first channel only": lambda *given: right_decode_grid(*given)[:, :, :1],
        "a list of rows": lambda *given: list(right_decode_grid(*given)),
        "half precision": lambda f, *given: right_decode_grid(lambda z: f(z.half().float()), *given),
        "z rounded to one digit": lambda f, *given: right_decode_grid(lambda z: f((10 * z).round() / 10), *given),
        "upside down in z": lambda f, *given: right_decode_grid(lambda z: f(-z), *given),
        "columns first": grid_columns_first,
        "meshgrid ij read as xy": grid_meshgrid_ij,
        "left flat": grid_flat,
    },
    "autoencoder/interpolate": {
        "on a sphere": walk_slerp,
        "t on the CPU": walk_on_the_cpu,
        "no batches of images": walk_without_batches_of_images,
        "batches one after another": walk_batches_one_after_another,
        "the first of the batch": walk_first_of_the_batch,
        "into b": walk_into_b,
        "b detached": walk_b_detached,
        "end detached": walk_end_detached,
        "strides rounded": walk_strides_rounded,
        "strides kept": walk_strides_kept(),
        "values of t kept by their number": walk_shares_kept(),
        "one axis at least": walk_one_axis_at_least,
        "channels before images": walk_channels_first,
        "nothing beyond ±10": walk_within_ten,
        "five steps": lambda a, b, steps: walk_difference(a, b, 5),
        "geometric": lambda a, b, steps: torch.stack(
            [a + (b - a) * (2**i - 1) / (2 ** (steps - 1) - 1) for i in range(steps)]
        ),
        "smoothed": walk_smooth,
        "a list": lambda *given: list(library.interpolate(*given)),
        "detached": lambda *given: library.interpolate(*given).detach(),
        "away from b": lambda a, b, steps: library.interpolate(a, 2 * a - b, steps),
        "t for two axes": walk_two_axes,
        "in double precision": lambda a, b, n: library.interpolate(a.double(), b.double(), n),
        "through NumPy": lambda a, b, n: torch.from_numpy(np.linspace(a.detach().numpy(), b.detach().numpy(), n)),
        "one too many": walk_one_too_many,
        "stacked last": walk_stacked_last,
    },
    "autoencoder/fit-gaussian": {
        "over images": lambda z: (z.mean(0), torch.cov(z, correction=0)),
        "mean of all numbers": lambda z: (z.mean(), torch.cov(z.T, correction=0)),
        "an axis kept": lambda z: (z.mean(0, keepdim=True), torch.cov(z.T, correction=0)),
        "exchanged": lambda z: tuple(right_fit_gaussian(z)[::-1]),
        "half of the codes": gaussian_half_of_the_codes,
        "a triangle": gaussian_triangle,
        "on the CPU": gaussian_on_the_cpu,
        "mean kept": gaussian_kept(),
        "codes within ±10": lambda z: gaussian_by_cov(z.clamp(-10, 10)),
        "latents in another order": gaussian_shuffled_latents,
        "the first code for the mean": lambda z: (z[0], right_fit_gaussian(z).cov),
        "divided by n + 1": lambda z: (z.mean(0), torch.cov(z.T, correction=-1)),
        "covariance made positive": lambda z: (z.mean(0), torch.cov(z.T, correction=0).abs()),
        "a ridge added": lambda z: (
            z.mean(0),
            torch.cov(z.T, correction=0) + 1e-2 * torch.eye(z.shape[1], dtype=z.dtype),
        ),
        "divided by latents": lambda z: (z.mean(0), torch.cov(z.T, correction=0) * len(z) / z.shape[1]),
        "median with its places": lambda z: (z.median(0), torch.cov(z.T, correction=0)),
        "centred in place": lambda z: (z.mean(0), (lambda c: c.T @ c / len(c))(z.sub_(z.mean(0)))),
        "variances only": gaussian_diagonal,
        "correlations": gaussian_correlations,
        "standard deviations": gaussian_deviations,
    },
    "autoencoder/fit-pca": {
        "the variances' roots divided by n - 1": lambda *given: (lambda m, d, v: (m, d, v.sqrt()))(
            *fit_unbiased(*given)
        ),
        "columns for rows": lambda x, k: (lambda m, d, v: (m, d.T[:k], v))(
            *right("autoencoder/fit-pca")(x, min(len(x), x[0].numel()))
        ),
        "each image's own mean": fit_rows_of_images,
        "normalised pixels": fit_normalised,
        "directions as images": lambda *given: (lambda m, d, v: (m, d.view(-1, *m.shape), v))(
            *right("autoencoder/fit-pca")(*given)
        ),
        "variances of the kept only": lambda x, k: (lambda m, d, v: (m, d, v[:k]))(*right("autoencoder/fit-pca")(x, k)),
        "all directions": lambda x, k: right("autoencoder/fit-pca")(x, min(len(x), x[0].numel())),
        "flat mean": lambda *given: (lambda m, d, v: (m.flatten(), d, v))(*right("autoencoder/fit-pca")(*given)),
        "shares of the variance": lambda *given: (lambda m, d, v: (m, d, v / v.sum()))(
            *right("autoencoder/fit-pca")(*given)
        ),
        "scaled by the singular values": lambda *given: (lambda m, d, v: (m, d * v[: len(d), None].sqrt(), v))(
            *right("autoencoder/fit-pca")(*given)
        ),
    },
    "autoencoder/batches": {
        "a short last batch": batches_with_a_short_last,
        "one epoch": batches_of_one_epoch,
        "the same batches in another order": batches_of_shuffled_batches,
        "the same epoch again": batches_reseeded,
        "the last batch missed": batches_last_missed,
        "images without their channel": lambda *given: (x[:, 0] for x in right("autoencoder/batches")(*given)),
        "pairs": lambda *given: ((x, x) for x in right("autoencoder/batches")(*given)),
        "one batch for ever": lambda *given: itertools.repeat(next(right("autoencoder/batches")(*given))),
    },
    "autoencoder/step": {
        "a tensor with its graph": step_tensor,
        "a tensor": step_detached_tensor,
        "two steps": step_twice,
        "step between loss and backward": step_between_loss_and_backward,
        "uphill": step_uphill,
        "no step": step_without_a_step,
        "clipped": lambda model, loss, x, optimizer: step_cleared_first(
            model, lambda *given: loss(*given).clamp(max=0.3), x, optimizer
        ),
    },
    "autoencoder/train": {
        "steps - 1": train_changed("steps - 1"),
        "steps + 1": train_changed("steps + 1"),
        "never in training mode": train_changed("never in training mode"),
        "losses as tensors with their graphs": train_changed("tensors"),
        "one tensor of losses": train_changed("one tensor"),
        "the mean of the losses": train_changed("mean"),
        "no zero_grad": train_changed("no zero_grad"),
        "the rate two steps early": train_changed("rate two steps early"),
        "weight decay": train_changed(weight_decay=0.3),
        "other betas": train_changed(betas=(0.5, 0.9)),
    },
    "autoencoder/other-loop": {
        "two batches in turn": other_loop_two_batches,
        "the same images in another order": other_loop_shuffled_within,
        "in the order of the file": other_loop_sliding,
        "drawn with replacement": other_loop_with_replacement,
        "all images": lambda model, loss, images, steps, lr, seed: right("autoencoder/other-loop")(
            model, lambda model, x: loss(model, images), images, steps, lr, seed
        ),
        "no losses": lambda *given: right("autoencoder/other-loop")(*given)[:0],
        "losses of two runs": lambda *given: right("autoencoder/other-loop")(*given) * 2,
    },
    "autoencoder/encoder": {
        "squares only": EncoderSquare,
        "kernel 3": EncoderKernelThree,
        "one convolution twice": EncoderTwiceTheSame,
        "pooled": EncoderPooled,
        "twice as wide": lambda shape, latent, width: encoder_of_parts(shape, latent, 2 * width),
        "a hidden layer more": lambda shape, latent, width: nn.Sequential(
            encoder_of_parts(shape, latent, width), nn.Linear(latent, latent)
        ),
        "leaky": lambda shape, latent, width: nn.Sequential(
            *(
                nn.LeakyReLU(0.2) if isinstance(layer, nn.ReLU) else layer
                for layer in encoder_of_parts(shape, latent, width)
            )
        ),
        "a code with axes": lambda *given: nn.Sequential(encoder_of_parts(*given), nn.Unflatten(1, (-1, 1, 1))),
    },
    "autoencoder/decoder": {
        "channels last": DecoderChannelsLast,
        "clipped for tanh": lambda *given: decoder_layers(*given, last=HardTanh),
        "a tanh after the linear layer": lambda *given: decoder_layers(*given, first=nn.Tanh),
        "half of the logits": lambda *given: nn.Sequential(*decoder_layers(*given)[:-1], nn.Softsign()),
        "an upsampling layer": lambda shape, latent, width: nn.Sequential(
            *decoder_layers(shape, latent, width)[:5],
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, shape[0], 3, padding=1),
            nn.Tanh(),
        ),
        "flat": lambda *given: nn.Sequential(*decoder_layers(*given), nn.Flatten()),
    },
    "autoencoder/nearest": {
        "all differences": nearest_broadcast,
        "all differences, vmapped": nearest_vmapped,
        "the second nearest": lambda images, among: (
            torch.cdist(images.flatten(1), among.flatten(1)).square().topk(2, largest=False).values[:, 1]
            / images[0].numel()
        ),
        "the place of the nearest": lambda images, among: torch.cdist(images.flatten(1), among.flatten(1)).argmin(1),
        "the farthest": lambda images, among: (
            torch.cdist(images.flatten(1), among.flatten(1)).amax(1).square() / images[0].numel()
        ),
        "absolute distance": lambda images, among: (
            torch.cdist(images.flatten(1), among.flatten(1), p=1).amin(1) / images[0].numel()
        ),
        "channels not counted": lambda images, among: nearest_loop(images, among) * images.shape[1],
        "mean over the images": lambda *given: nearest_loop(*given).mean(),
        "by the direction": lambda images, among: (
            1 - F.cosine_similarity(images.flatten(1)[:, None], among.flatten(1)[None], dim=-1).amax(1)
        ),
    },
    "autoencoder/denoising": {
        "σ along the width": denoise_along_the_width,
        "noise of its own": denoise_changed(
            lambda model, x, noise, sigma, s: (
                (model(x + s * torch.randn_like(x), sigma) - x).square().flatten(1).mean(1)
            )
        ),
        "absolute error": denoise_changed(
            lambda model, x, noise, sigma, s: (model(x + s * noise, sigma) - x).abs().flatten(1).mean(1)
        ),
        "summed over pixels": lambda *given: denoise_indexed(*given) * given[1][0].numel(),
        "mean over the batch": lambda *given: denoise_indexed(*given).mean(),
        "detached": lambda *given: denoise_indexed(*given).detach(),
        "mean level for all": lambda model, x, noise, sigma: denoise_indexed(
            model, x, noise, sigma.mean().expand_as(sigma) + 0.3
        ),
        "noise subtracted": lambda model, x, noise, sigma: denoise_indexed(model, x, -noise, sigma),
        "mixed, not added": denoise_changed(
            lambda model, x, noise, sigma, s: (model((1 - s) * x + s * noise, sigma) - x).square().flatten(1).mean(1)
        ),
        "noisy in place": denoise_changed(
            lambda model, x, noise, sigma, s: (model(x.add_(s * noise), sigma) - x).square().flatten(1).mean(1)
        ),
        "the residual": denoise_changed(
            lambda model, x, noise, sigma, s: (
                (x + s * noise - model(x + s * noise, sigma) - x).square().flatten(1).mean(1)
            )
        ),
        "weighted": lambda model, x, noise, sigma: denoise_indexed(model, x, noise, sigma) / sigma**2,
    },
    "autoencoder/denoiser": {
        "ln σ² ": rewired(forward_variant(sigma_plane=lambda s: (s**2).log())),
        "tanh at the end": rewired(forward_variant(last=True)),
        "one for a half": rewired(forward_variant(s_of=lambda s: (s**2 + 1).sqrt())),
        "a fourth power": rewired(forward_variant(s_of=lambda s: (s**2 + 0.5) ** 2)),
        "a plain residual": rewired(forward_variant(kept=False)),
        "one level for all": rewired(forward_code_for_code),
        "only the first image": rewired(
            lambda self, x, sigma: right_denoiser().forward(self, x, sigma)[:1].expand_as(x)
        ),
    },
    "autoencoder/best-guess": {
        "no shift before exp": guess_without_a_shift,
        "pixel by pixel": guess_per_pixel,
        "mean over pixels in the exponent": guess_mean_over_pixels,
        "mean of all": lambda noisy, images, sigma: images.mean(0).expand_as(noisy),
        "weights only": lambda noisy, images, sigma: torch.softmax(
            -torch.cdist(noisy.flatten(1), images.flatten(1)).square() / (2 * sigma**2), dim=1
        ),
        "flat": lambda *given: guess_shifted(*given).flatten(),
    },
    "autoencoder/anneal": {
        name: anneal_changed(name)
        for name in (
            "starts at the second level",
            "asks about the start",
            "told the first level",
            "the same noise every time",
            "global noise",
            "old noise not divided",
            "clipped",
        )
    },  # fmt: skip
}

ALTERNATIVES = {
    "autoencoder/bernoulli-nll": {
        "softplus": lambda logits, x: (F.softplus(logits) - (x + 1) / 2 * logits).sum((1, 2, 3)),
        "one image at a time": nll_loop,
        "in double precision": lambda logits, x: nll_by_torch(logits.double(), x.double()).to(x.dtype),
        "in single precision": lambda logits, x: nll_by_torch(logits.float(), x.float()).to(x.dtype),
        "an object": Coins("none"),
        "by hand, sign by sign": nll_by_hand_for_either_sign,
        "logaddexp": nll_by_logaddexp,
        "two classes": nll_by_two_classes,
        "partial": functools.partial(lambda half, a, x: (F.softplus(a) - half * (x + 1) * a).sum((1, 2, 3)), 0.5),
        "by hand, shifted": nll_by_hand_shifted,
        "torch, summed over axes": nll_by_torch,
        "logsigmoid": nll_by_logsigmoid,
        "torch.distributions": nll_by_distributions,
    },
    "autoencoder/pca": {
        "einsum over image axes": pca_einsum,
        "through NumPy, and back to where it came from": pca_through_numpy_and_back,
        "through NumPy": pca_numpy,
        "one number at a time": pca_loop,
        "by position only": pca_by_position_only,
        "difference of codes": pca_by_difference_of_codes,
        "in double precision": lambda x, m, w: tuple(
            part.to(x.dtype) for part in pca_einsum(x.double(), m.double(), w.double())
        ),
        "in single precision": lambda x, m, w: tuple(
            part.to(x.dtype) for part in pca_einsum(x.float(), m.float(), w.float())
        ),
    },
    "autoencoder/conv-size": {
        "ask a layer": conv_by_layer,
        "count positions": conv_by_counting,
        "a torch.Size": conv_as_size,
        "an object": Axes(),
        "by name only": conv_by_name_only,
        "slide and count": conv_by_sliding,
        "by unfolding": lambda size, k, s, p, d: tuple(
            F.pad(torch.zeros(n), (p, p)).unfold(0, d * (k - 1) + 1, s).shape[0] for n in size
        ),
        "a float rounded down": lambda n, k, s, p, d: tuple(int((m + 2 * p - d * (k - 1) - 1) / s + 1) for m in n),
    },
    "autoencoder/conv-transpose-size": {
        "ask a layer": transposed_by_layer,
        "stamp": transposed_by_stamping,
        "a torch.Size": lambda *given: torch.Size(transposed_by_stamping(*given)),
        "by name only": transposed_by_name_only,
        "stride times size, and the rest": lambda n, k, s, p, o, d: tuple(
            m * s + (d * (k - 1) + 1 - s) - 2 * p + o for m in n
        ),
        "the last stamp's last pixel": lambda size, *rest: tuple(map(last_pixel, size, *([r, r] for r in rest))),
        "through NumPy": lambda n, k, s, p, o, d: tuple(((np.array(n) - 1) * s - 2 * p + d * (k - 1) + o + 1).tolist()),
    },
    "autoencoder/decode-grid": {
        "a loop": grid_loop,
        "meshgrid xy": grid_meshgrid,
        "entry by entry": grid_filled,
        "row by row, strides by hand": grid_rows_one_by_one,
        "by indices, other names": grid_by_indices,
        "an object": Grid(),
        "double precision inside": lambda f, *given: grid_meshgrid(lambda z: f(z.double()).float(), *given),
        "repeated": grid_repeated,
    },
    "autoencoder/interpolate": {
        "lerp": walk_lerp,
        "along the difference": walk_difference,
        "outer product": walk_outer,
        "in single precision": walk_single_precision,
        "adding up strides, other names": walk_adding_up,
        "einsum": walk_by_einsum,
        "axis by axis": walk_unsqueezed,
        "from the end": lambda a, b, steps: walk_difference(b, a, steps).flip(0),
        "one step at a time": lambda a, b, steps: torch.stack([a + (b - a) * i / (steps - 1) for i in range(steps)]),
    },
    "autoencoder/fit-gaussian": {
        "torch.cov": gaussian_by_cov,
        "outer products": gaussian_by_einsum,
        "moments": lambda z: (z.mean(0), z.T @ z / len(z) - torch.outer(z.mean(0), z.mean(0))),
        "n - 1 undone": lambda z: (z.mean(0), torch.cov(z.T) * (len(z) - 1) / len(z)),
        "through NumPy": gaussian_through_numpy,
        "through NumPy, and back to where it came from": lambda z: (
            z.mean(0),
            torch.from_numpy(np.cov(z.cpu().numpy().T, bias=True)).to(z),
        ),
        "a named tuple, by position only": gaussian_named,
        "entry by entry": gaussian_entry_by_entry,
        "in single precision": lambda z: tuple(part.to(z.dtype) for part in gaussian_by_cov(z.float())),
    },
    "autoencoder/fit-pca": {
        "eigenvectors of the covariance": fit_by_eigh,
        "through NumPy": fit_by_numpy,
        "mirrored": fit_mirrored,
        "all of U and V": fit_full,
    },
    "autoencoder/batches": {
        "split": batches_by_split,
        "a shuffled copy": batches_shuffled_copy,
        "a DataLoader": batches_by_loader,
        "an iterator by hand": Batches,
        "chained": batches_chained,
    },
    "autoencoder/step": {
        "cleared first": step_cleared_first,
        "cleared last": step_cleared_last,
        "cleared by the model": step_cleared_by_the_model,
        "by autograd.grad": step_by_autograd,
    },
    "autoencoder/train": {
        "while": train_by_while,
        "islice and a scheduler": train_by_islice,
        "zip": train_by_zip,
        "a comprehension": train_by_comprehension,
    },
    "autoencoder/other-loop": {
        "generator before the loop": other_loop_with_its_own,
        "a seed for every step": other_loop_by_seed_and_step,
        "in epochs": other_loop_in_epochs,
    },
    "autoencoder/encoder": {
        "layer by layer, other names": EncoderByHand,
        "a function that returns a Sequential": encoder_of_parts,
    },
    "autoencoder/decoder": {
        "layer by layer, other names": DecoderByHand,
        "a view": DecoderViewed,
        "a function that returns a Sequential": decoder_layers,
    },
    "autoencoder/nearest": {
        "one image at a time": nearest_loop,
        "expanded": nearest_expanded,
        "in parts": nearest_in_parts,
        "along the set": nearest_along_the_set,
        "by a matrix product": lambda images, among: (
            nearest_expanded(images, among) if images.dtype == torch.float64 else nearest_along_the_set(images, among)
        ),
    },
    "autoencoder/denoising": {
        "einsum, other names": denoise_einsum,
        "one image at a time": denoise_one_by_one,
        "axes by None": denoise_indexed,
    },
    "autoencoder/denoiser": {
        "in one go, other names": rewired(forward_in_one_go),
        "front by hand": rewired(forward_variant()),
    },
    "autoencoder/best-guess": {
        "torch.distributions": guess_by_distributions,
        "shifted by hand": guess_shifted,
    },
    "autoencoder/anneal": {
        "by index": anneal_by_index,
        "the last step apart": anneal_last_apart,
        "by the score": anneal_by_score,
    },
}
