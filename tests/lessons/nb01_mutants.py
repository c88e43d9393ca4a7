"""Wrong answers to the quizzes of notebook 01 that must be rejected, and other right ones that must be accepted."""

import copy
import functools
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
right_swapped_decoder = right("autoencoder/swapped-decoder")
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


# ---------------------------------------------------------------------------------------------------- the decoder


def decoder_reshape(z, linear, up, shape):
    _, h, w = shape
    features = linear(z)
    return up(features.reshape(z.shape[0], features.shape[1] * 16 // (h * w), h // 4, w // 4))


def decoder_unflatten(z, linear, up, shape):
    return up(linear(z).unflatten(1, (-1, shape[1] // 4, shape[2] // 4))).reshape(-1, *shape)


def decoder_left_in_eval(z, linear, up, shape):
    up.eval()
    return right_swapped_decoder(z, linear, up, shape)


def decoder_frozen(z, linear, up, shape):
    images = right_swapped_decoder(z, linear, up, shape)
    for parameter in linear.parameters():
        parameter.requires_grad_(False)
    return images


def decoder_backward_inside(z, linear, up, shape):
    images = right_swapped_decoder(z, linear, up, shape)
    if z.requires_grad:
        images.square().mean().backward(retain_graph=True)
    return images


def decoder_tall_images_only(z, linear, up, shape):
    channels, *sides = shape
    height, width = sorted(sides, reverse=True)
    maps = linear(z).view(len(z), -1, height // 4, width // 4)
    return up(maps).reshape(len(z), *shape)


def decoder_first_for_all(z, linear, up, shape):
    return right_swapped_decoder(z[:1].expand_as(z), linear, up, shape)


def decoder_only_a_copy_learns(z, linear, up, shape):
    return right_swapped_decoder(z, linear, copy.deepcopy(up), shape)


def decoder_made_on_the_cpu(z, linear, up, shape):
    maps = torch.zeros(len(z), linear(z).shape[1] * 16 // (shape[1] * shape[2]), shape[1] // 4, shape[2] // 4)
    return up(maps + linear(z).view_as(maps))


def decoder_own_shape(z, linear, up, shape):
    return up(linear(z).view(len(z), -1, *(side // 4 for side in shape[1:])))


def decoder_channels_first(z, linear, up, shape):
    channels, height, width = shape
    images = up(linear(z).view(len(z), -1, height // 4, width // 4))
    return images.reshape(channels, len(z), height, width).transpose(0, 1)


def decoder_einops(codes, to_maps, enlarge, size):
    return enlarge(rearrange(to_maps(codes), "b (m h w) -> b m h w", h=size[1] // 4, w=size[2] // 4))


def decoder_square(z, linear, up, shape):
    features = linear(z)
    side = shape[1] // 4
    return up(features.view(len(z), -1, side, side))


def decoder_detached(z, linear, up, shape):
    return right_swapped_decoder(z.detach(), linear, up, shape)


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


# ---------------------------------------------------------------------------------------------------- denoising


def denoise_by_mse(model, x, noise, sigma):
    return F.mse_loss(model(x + sigma * noise), x, reduction="none").mean(dim=(1, 2, 3))


def denoise_by_addcmul(model, x, noise, sigma):
    return (x - model(x.add(noise, alpha=sigma))).pow(2).flatten(start_dim=1).mean(-1)


def denoise_left_in_eval(model, x, noise, sigma):
    model.eval()
    return denoise_by_mse(model, x, noise, sigma)


def denoise_backward_inside(model, x, noise, sigma):
    cost = denoise_by_mse(model, x, noise, sigma)
    if cost.requires_grad:
        cost.mean().backward(retain_graph=True)
    return cost


def denoise_backward_once(model, x, noise, sigma):
    cost = denoise_by_mse(model, x, noise, sigma)
    if cost.requires_grad:
        cost.mean().backward()
    return cost


def denoise_frozen(model, x, noise, sigma):
    cost = denoise_by_mse(model, x, noise, sigma)
    model.requires_grad_(False)
    return cost


def denoise_strength_on_the_cpu(model, x, noise, sigma):
    strength = torch.full((len(x), 1, 1, 1), sigma)
    return denoise_by_mse(model, x, strength * noise, 1.0)


def denoise_mixed(model, x, noise, sigma):
    return (model((1 - sigma) * x + sigma * noise) - x).square().flatten(1).mean(1)


def denoise_channels_first(model, x, noise, sigma):
    b, c = x.shape[:2]
    return (model(x + sigma * noise) - x).square().mean((2, 3)).reshape(c, b).mean(0)


def denoise_noise_channels_first(model, x, noise, sigma):
    grain = noise.reshape(x.shape[1], len(x), *x.shape[2:]).transpose(0, 1)
    return denoise_by_mse(model, x, grain, sigma)


class Denoising:
    def __init__(self, cost):
        self.cost = cost

    def __call__(self, network, clean, grain, strength):
        shown = torch.add(clean, grain, alpha=strength)
        return self.cost(network(shown), clean).mean((1, 2, 3))


def denoise_by_name_only(*, model, x, noise, sigma):
    return torch.linalg.vector_norm(x - model(noise * sigma + x), dim=(1, 2, 3)).square() / x[0].numel()


def denoise_own_copy_in_place(model, x, noise, sigma):
    noisy = x.clone()
    noisy += noise * torch.tensor(sigma)
    return torch.einsum("bchw,bchw->b", *[model(noisy) - x] * 2) / x[0].numel()


def denoise_detached(model, x, noise, sigma):
    return library.reconstruction_error(x, model(x + sigma * noise).detach())


def denoise_rooted(model, x, noise, sigma):
    return library.denoising_error(model, x, noise, sigma).sqrt()


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


def decoder_batch_mixed(z, linear, up, shape):
    return up(linear(z).view(-1, len(z), shape[1] // 4, shape[2] // 4).transpose(0, 1))


def decoder_batch_last(z, linear, up, shape):
    return up(linear(z).T.reshape(-1, shape[1] // 4, shape[2] // 4, len(z)).permute(3, 0, 1, 2))


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


def denoise_self(model, x, noise, sigma):
    return (model(x + sigma * noise) - model(x)).square().flatten(1).mean(1)


def denoise_loop(model, x, noise, sigma):
    noisy = [model((image + sigma * grain)[None])[0] for image, grain in zip(x, noise)]
    return torch.stack([F.mse_loss(one, image) for one, image in zip(noisy, x)])


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
        "padding once": lambda *given: tuple(n + given[3] for n in right_conv_transpose_size(*given)),
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
    "autoencoder/swapped-decoder": {
        "with 7 × 7 maps": lambda z, linear, up, shape: up(linear(z).view(len(z), -1, 7, 7)),
        "batch and maps mixed up": decoder_batch_mixed,
        "tanh added": lambda *given: right_swapped_decoder(*given).tanh(),
        "stretched to fit": lambda *given: F.interpolate(
            slip("autoencoder/swapped-decoder", "width before height")(*given), size=given[3][1:]
        ),
        "mirrored": lambda *given: right_swapped_decoder(*given).flip(-1),
        "under no_grad": torch.no_grad()(right_swapped_decoder),
        "left in eval mode": decoder_left_in_eval,
        "frozen": decoder_frozen,
        "backward inside": decoder_backward_inside,
        "right for tall images": decoder_tall_images_only,
        "the first image for all": decoder_first_for_all,
        "a copy of the network": decoder_only_a_copy_learns,
        "maps on the CPU": decoder_made_on_the_cpu,
        "rows upside down": lambda *given: right_swapped_decoder(*given).flip(-2),
        "channels before images": decoder_channels_first,
        "squares only": decoder_square,
        "detached": decoder_detached,
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
    "autoencoder/denoising": {
        "strength forgotten": lambda model, x, noise, sigma: library.denoising_error(model, x, noise, 1.0),
        "noise of its own": lambda model, x, noise, sigma: library.denoising_error(
            model, x, torch.randn_like(x), sigma
        ),
        "absolute error": lambda model, x, noise, sigma: (model(x + sigma * noise) - x).abs().flatten(1).mean(1),
        "half": lambda *given: library.denoising_error(*given) / 2,
        "against the model of the clean image": denoise_self,
        "noisy in place": lambda model, x, noise, sigma: (model(x.add_(sigma * noise)) - x).square().flatten(1).mean(1),
        "model under no_grad": lambda model, *given: library.denoising_error(torch.no_grad()(model), *given),
        "left in eval mode": denoise_left_in_eval,
        "backward inside, graph kept": denoise_backward_inside,
        "backward inside": denoise_backward_once,
        "frozen": denoise_frozen,
        "strength on the CPU": denoise_strength_on_the_cpu,
        "noise kept": with_first(denoise_by_mse, 2, key=lambda model, x, *rest: (x.shape, x.device.type)),
        "mixed, not added": denoise_mixed,
        "noise subtracted": lambda model, x, noise, sigma: denoise_by_mse(model, x, noise, -sigma),
        "strength of one at most": lambda model, x, noise, sigma: denoise_by_mse(model, x, noise, min(sigma, 1.0)),
        "residual network": lambda model, x, noise, sigma: (
            (x + sigma * noise - model(x + sigma * noise) - x).square().flatten(1).mean(1)
        ),
        "model's answer clipped": lambda model, *given: denoise_by_mse(lambda y: model(y).clamp(-0.5, 0.5), *given),
        "mean over the batch for each": lambda *given: denoise_by_mse(*given).mean().expand(len(given[1])),
        "weighted": lambda m, x, n, sigma: library.denoising_error(m, x, n, sigma) / max(sigma, 0.1) ** 2,
        "channels before images": denoise_channels_first,
        "noise with channels before images": denoise_noise_channels_first,
        "detached": denoise_detached,
        "root": denoise_rooted,
    },
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
    "autoencoder/swapped-decoder": {
        "reshape": decoder_reshape,
        "unflatten": decoder_unflatten,
        "one code at a time": lambda z, *rest: torch.cat([right_swapped_decoder(row[None], *rest) for row in z]),
        "sides from the shape": decoder_own_shape,
        "einops, other names": decoder_einops,
        "a module": lambda z, linear, up, shape: nn.Sequential(
            linear, nn.Unflatten(1, (-1, shape[1] // 4, shape[2] // 4)), up
        )(z),
        "batch last, and back": decoder_batch_last,
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
    "autoencoder/denoising": {
        "mse_loss": denoise_by_mse,
        "add with alpha": denoise_by_addcmul,
        "an object": Denoising(nn.MSELoss(reduction="none")),
        "by name only": denoise_by_name_only,
        "own copy in place": denoise_own_copy_in_place,
        "a norm": lambda f, x, noise, sigma: (f(x + sigma * noise) - x).flatten(1).norm(dim=1) ** 2 / x[0].numel(),
        "one image at a time": denoise_loop,
    },
}
