"""Wrong answers to the quizzes of notebook 01 that must be rejected, and other right ones that must be accepted."""

import numpy as np
import torch
from torch import nn
from torch.distributions import Bernoulli
from torch.nn import functional as F

from course_utils.models import autoencoder as library
from course_utils.models.blocks import conv_transpose_size
from lessons.answers import right, slip

right_pca = right("autoencoder/pca")
right_conv_size = right("autoencoder/conv-size")
right_conv_transpose_size = right("autoencoder/conv-transpose-size")
right_swapped_decoder = right("autoencoder/swapped-decoder")
right_decode_grid = right("autoencoder/decode-grid")
right_fit_gaussian = right("autoencoder/fit-gaussian")

# ---------------------------------------------------------------------------------------------------- losses


def nll_squared_error(logits, x):
    return ((x + 1) / 2 - logits.sigmoid()).square().flatten(1).sum(1)


def nll_detached(logits, x):
    return library.bernoulli_nll(logits.detach(), x)


def nll_clamped(logits, x):
    p, target = logits.sigmoid().clamp(1e-6, 1 - 1e-6), (x + 1) / 2
    return -(target * p.log() + (1 - target) * (1 - p).log()).flatten(1).sum(1)


def nll_by_torch(logits, x):
    return F.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="none").sum(dim=(1, 2, 3))


def nll_by_logsigmoid(logits, x):
    target = (x + 1) / 2
    return -(target * F.logsigmoid(logits) + (1 - target) * F.logsigmoid(-logits)).flatten(1).sum(-1)


def nll_by_distributions(logits, x):
    return -Bernoulli(logits=logits, validate_args=False).log_prob((x + 1) / 2).flatten(1).sum(1)


# ---------------------------------------------------------------------------------------------------- PCA


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


def transposed_extra_twice(size, kernel, stride, padding, output_padding, dilation):
    return conv_transpose_size(size, kernel, stride, padding, 0, dilation)[0] + 2 * output_padding, size[1]


# ---------------------------------------------------------------------------------------------------- the decoder


def decoder_reshape(z, linear, up, shape):
    _, h, w = shape
    features = linear(z)
    return up(features.reshape(z.shape[0], features.shape[1] * 16 // (h * w), h // 4, w // 4))


def decoder_unflatten(z, linear, up, shape):
    return up(linear(z).unflatten(1, (-1, shape[1] // 4, shape[2] // 4))).reshape(-1, *shape)


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
    t = torch.linspace(0, 1, steps, dtype=a.dtype).reshape(steps, *(1 for _ in a.shape))
    return a + t * (b - a)


def walk_single_precision(a, b, steps):
    t = torch.linspace(0, 1, steps).view(-1, *[1] * a.ndim)
    return ((1 - t) * a.float() + t * b.float()).to(a.dtype)


def gaussian_by_cov(z):
    return z.mean(dim=0), torch.cov(z.T, correction=0)


def gaussian_by_einsum(z):
    mean = z.mean(dim=0)
    return mean, torch.einsum("ni,nj->nij", z - mean, z - mean).mean(dim=0)


def gaussian_correlations(z):
    return z.mean(0), torch.corrcoef(z.T)


def gaussian_deviations(z):
    return z.mean(0), z.std(0)


# ---------------------------------------------------------------------------------------------------- denoising


def denoise_by_mse(model, x, noise, sigma):
    return F.mse_loss(model(x + sigma * noise), x, reduction="none").mean(dim=(1, 2, 3))


def denoise_by_addcmul(model, x, noise, sigma):
    return (x - model(x.add(noise, alpha=sigma))).pow(2).flatten(start_dim=1).mean(-1)


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
    z, x_hat = torch.empty(len(x), len(directions), dtype=x.dtype), torch.empty_like(x)
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
    t = torch.linspace(0, 1, steps, dtype=a.dtype).view(-1, *[1] * a.ndim)
    angle = torch.acos((a * b).sum() / a.norm() / b.norm())
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def walk_smooth(a, b, steps):
    t = torch.linspace(0, 1, steps, dtype=a.dtype).view(-1, *[1] * a.ndim)
    t = t * t * (3 - 2 * t)
    return (1 - t) * a + t * b


def walk_two_axes(a, b, steps):
    t = torch.linspace(0, 1, steps, dtype=a.dtype)[:, None]
    return (1 - t) * a + t * b


def walk_outer(a, b, steps):
    t = torch.linspace(0, 1, steps, dtype=a.dtype)
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
        "clipped": pca_clipped,
        "nothing projected": pca_rows_not_projected,
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
        "columns first": grid_columns_first,
        "meshgrid ij read as xy": grid_meshgrid_ij,
        "left flat": grid_flat,
    },
    "autoencoder/interpolate": {
        "on a sphere": walk_slerp,
        "smoothed": walk_smooth,
        "a list": lambda *given: list(library.interpolate(*given)),
        "detached": lambda *given: library.interpolate(*given).detach(),
        "away from b": lambda a, b, steps: library.interpolate(a, 2 * a - b, steps),
        "t for two axes": walk_two_axes,
        "in double precision": lambda a, b, n: library.interpolate(a.double(), b.double(), n),
        "through NumPy": lambda a, b, n: torch.from_numpy(np.linspace(a.detach().numpy(), b.detach().numpy(), n)),
        "one too many": walk_one_too_many,
        "stacked last": walk_stacked_last,
        "in single precision": walk_single_precision,
    },
    "autoencoder/fit-gaussian": {
        "over images": lambda z: (z.mean(0), torch.cov(z, correction=0)),
        "mean of all numbers": lambda z: (z.mean(), torch.cov(z.T, correction=0)),
        "an axis kept": lambda z: (z.mean(0, keepdim=True), torch.cov(z.T, correction=0)),
        "exchanged": lambda z: right_fit_gaussian(z)[::-1],
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
        "weighted": lambda m, x, n, sigma: library.denoising_error(m, x, n, sigma) / max(sigma, 0.1) ** 2,
        "detached": denoise_detached,
        "root": denoise_rooted,
    },
}

ALTERNATIVES = {
    "autoencoder/bernoulli-nll": {
        "softplus": lambda logits, x: (F.softplus(logits) - (x + 1) / 2 * logits).sum((1, 2, 3)),
        "one image at a time": nll_loop,
        "in double precision": lambda logits, x: library.bernoulli_nll(logits.double(), x.double()).to(x.dtype),
        "by hand, shifted": lambda a, x: (
            (a.clamp(min=0) - a * (x + 1) / 2 + (-a.abs()).exp().log1p()).flatten(1).sum(1)
        ),
        "torch, summed over axes": nll_by_torch,
        "logsigmoid": nll_by_logsigmoid,
        "torch.distributions": nll_by_distributions,
    },
    "autoencoder/pca": {
        "einsum over image axes": pca_einsum,
        "through NumPy": pca_numpy,
        "one number at a time": pca_loop,
    },
    "autoencoder/conv-size": {
        "ask a layer": conv_by_layer,
        "count positions": conv_by_counting,
        "a torch.Size": conv_as_size,
        "a float rounded down": lambda n, k, s, p, d: tuple(int((m + 2 * p - d * (k - 1) - 1) / s + 1) for m in n),
    },
    "autoencoder/conv-transpose-size": {
        "ask a layer": transposed_by_layer,
        "stamp": transposed_by_stamping,
        "a torch.Size": lambda *given: torch.Size(right_conv_transpose_size(*given)),
        "through NumPy": lambda n, k, s, p, o, d: tuple(((np.array(n) - 1) * s - 2 * p + d * (k - 1) + o + 1).tolist()),
    },
    "autoencoder/swapped-decoder": {
        "reshape": decoder_reshape,
        "unflatten": decoder_unflatten,
        "one code at a time": lambda z, *rest: torch.cat([right_swapped_decoder(row[None], *rest) for row in z]),
        "batch last, and back": decoder_batch_last,
    },
    "autoencoder/decode-grid": {
        "a loop": grid_loop,
        "meshgrid xy": grid_meshgrid,
        "entry by entry": grid_filled,
        "repeated": grid_repeated,
    },
    "autoencoder/interpolate": {
        "lerp": walk_lerp,
        "along the difference": walk_difference,
        "outer product": walk_outer,
        "one step at a time": lambda a, b, steps: torch.stack([a + (b - a) * i / (steps - 1) for i in range(steps)]),
    },
    "autoencoder/fit-gaussian": {
        "torch.cov": gaussian_by_cov,
        "outer products": gaussian_by_einsum,
        "moments": lambda z: (z.mean(0), z.T @ z / len(z) - torch.outer(z.mean(0), z.mean(0))),
        "n - 1 undone": lambda z: (z.mean(0), torch.cov(z.T) * (len(z) - 1) / len(z)),
        "through NumPy": lambda z: (z.mean(0), torch.from_numpy(np.cov(z.numpy().T, bias=True)).to(z.dtype)),
    },
    "autoencoder/denoising": {
        "mse_loss": denoise_by_mse,
        "add with alpha": denoise_by_addcmul,
        "a norm": lambda f, x, noise, sigma: (f(x + sigma * noise) - x).flatten(1).norm(dim=1) ** 2 / x[0].numel(),
        "one image at a time": denoise_loop,
    },
}
