"""Wrong answers to the quizzes of notebook 01 that must be rejected, and other right ones that must be accepted."""

import numpy as np
import torch
from torch import nn
from torch.distributions import Bernoulli
from torch.nn import functional as F

from course_utils.models import autoencoder as library
from course_utils.models.blocks import conv_transpose_size
from course_utils.quizzes import nb01

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
    z, x_hat = nb01._pca_reference(x, mean, directions)
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
    return nb01._decoder_reference(z.detach(), linear, up, shape)


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
    return nb01._grid_reference(decode, low, high, rows, columns).flatten(0, 1)


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
    return nb01._grid_reference(decode, *zip(*inner), rows, columns)


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
        "averaged over pixels": nb01._nll_mean_over_pixels,
        "images left in [-1, 1]": nb01._nll_images_not_moved,
        "averaged over the batch": nb01._nll_mean_over_images,
        "sigmoid twice": nb01._nll_sigmoid_twice,
        "black pixels free": nb01._nll_half,
        "sign": nb01._nll_sign,
        "log of a rounded probability": nb01._nll_log_of_sigmoid,
        "bits": nb01._nll_bits,
        "squared error": nll_squared_error,
        "detached": nll_detached,
        "probabilities clamped": nll_clamped,
    },
    "autoencoder/pca": {
        "mean grey for mean image": lambda x, m, rows: nb01._pca_reference(x, m.mean().expand_as(m), rows),
        "mean added twice": lambda x, m, rows: (lambda z, y: (z, y + m))(*nb01._pca_reference(x, m, rows)),
        "codes turned": lambda x, m, rows: (lambda z, y: (z.T, y))(*nb01._pca_reference(x, m, rows)),
        "residual for reconstruction": lambda x, m, rows: (lambda z, y: (z, x - y))(*nb01._pca_reference(x, m, rows)),
        "reconstruction only": lambda x, m, rows: nb01._pca_reference(x, m, rows)[1],
        "a list": lambda x, m, rows: list(nb01._pca_reference(x, m, rows)),
        "not centred": nb01._pca_not_centred,
        "mean not added": nb01._pca_mean_not_added,
        "mean only added": nb01._pca_centred_only_at_the_end,
        "columns for rows": nb01._pca_columns_for_rows,
        "mean of the batch": nb01._pca_batch_mean,
        "results exchanged": nb01._pca_halves_swapped,
        "clipped": nb01._pca_clipped,
        "nothing projected": pca_rows_not_projected,
        "left flat": pca_flat,
    },
    "autoencoder/conv-size": {
        "as if padded to the same size": lambda size, k, s, p, d: tuple(-(-n // s) for n in size),
        "precedence": lambda size, k, s, p, d: tuple(n + 2 * p - d * (k - 1) - 1 // s + 1 for n in size),
        "span k + d - 1": lambda size, k, s, p, d: tuple((n + 2 * p - (k + d - 1)) // s + 1 for n in size),
        "padding cut off": lambda size, k, s, p, d: tuple((n - 2 * p - d * (k - 1) - 1) // s + 1 for n in size),
        "numbers of NumPy": lambda *given: tuple(map(np.int64, nb01._conv_reference(*given))),
        "tensors": lambda *given: tuple(map(torch.tensor, nb01._conv_reference(*given))),
        "a list": lambda *given: list(nb01._conv_reference(*given)),
        "a generator": lambda *given: (n for n in nb01._conv_reference(*given)),
        "padding once": nb01._conv_padding_once,
        "no + 1": nb01._conv_without_one,
        "rounded up": nb01._conv_rounded_up,
        "no dilation": nb01._conv_no_dilation,
        "one gap too long": nb01._conv_wrong_reach,
        "not whole": nb01._conv_floats,
        "h and w exchanged": nb01._conv_swapped,
        "height twice": nb01._conv_height_twice,
        "rounded to the nearest": conv_rounded_to_nearest,
    },
    "autoencoder/conv-transpose-size": {
        "output padding at both ends": lambda *given: tuple(n + given[4] for n in nb01._transposed_reference(*given)),
        "padding once": lambda *given: tuple(n + given[3] for n in nb01._transposed_reference(*given)),
        "span d times k": lambda *given: tuple(n + given[5] - 1 for n in nb01._transposed_reference(*given)),
        "output padding strided": lambda n, k, s, p, o, d: nb01._transposed_reference(n, k, s, p, o * s, d),
        "height twice": lambda *given: nb01._transposed_reference(*given)[:1] * 2,
        "the convolution's size": lambda n, k, s, p, o, d: nb01._conv_reference(n, k, s, p, d),
        "size times stride": nb01._transposed_multiplied,
        "n strides": nb01._transposed_all_strides,
        "padding added": nb01._transposed_padding_added,
        "no output padding": nb01._transposed_no_extra,
        "no dilation": nb01._transposed_no_dilation,
        "no + 1": nb01._transposed_without_one,
        "h and w exchanged": nb01._transposed_swapped,
        "one axis forgotten": transposed_extra_twice,
    },
    "autoencoder/swapped-decoder": {
        "with 7 × 7 maps": lambda z, linear, up, shape: up(linear(z).view(len(z), -1, 7, 7)),
        "batch and maps mixed up": decoder_batch_mixed,
        "tanh added": lambda *given: nb01._decoder_reference(*given).tanh(),
        "stretched to fit": lambda *given: F.interpolate(nb01._decoder_swapped_result(*given), size=given[3][1:]),
        "mirrored": lambda *given: nb01._decoder_reference(*given).flip(-1),
        "under no_grad": torch.no_grad()(nb01._decoder_reference),
        "as handed out": nb01._decoder_as_handed_out,
        "w before h": nb01._decoder_swapped_result,
        "turned at the end": nb01._decoder_transposed_back,
        "maps turned": nb01._decoder_transposed_maps,
        "channels last": nb01._decoder_channels_last,
        "squares only": decoder_square,
        "detached": decoder_detached,
    },
    "autoencoder/decode-grid": {
        "rows for columns": lambda f, low, high, r, c: nb01._grid_reference(f, low, high, c, r),
        "centres of cells": grid_centres,
        "in double precision": grid_double,
        "from high to low": lambda f, low, high, r, c: nb01._grid_reference(f, high, low, r, c),
        "right to left": lambda *given: nb01._grid_reference(*given).flip(1),
        "one more axis": lambda *given: nb01._grid_reference(*given).unsqueeze(2),
        "mixed up when reshaping": nb01._grid_transposed,
        "columns first": nb01._grid_columns_first,
        "z1 and z2 exchanged": nb01._grid_axes_swapped,
        "top row first": nb01._grid_from_the_top,
        "end left out": nb01._grid_without_the_end,
        "one range": nb01._grid_one_range,
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
        "from b to a": nb01._walk_reversed,
        "end missing": nb01._walk_without_the_end,
        "both ends missing": nb01._walk_without_both_ends,
        "one too many": nb01._walk_one_too_many,
        "stacked last": nb01._walk_stacked_last,
        "b added": nb01._walk_added,
        "in single precision": walk_single_precision,
    },
    "autoencoder/fit-gaussian": {
        "over images": lambda z: (z.mean(0), torch.cov(z, correction=0)),
        "mean of all numbers": lambda z: (z.mean(), torch.cov(z.T, correction=0)),
        "an axis kept": lambda z: (z.mean(0, keepdim=True), torch.cov(z.T, correction=0)),
        "exchanged": lambda z: nb01._gaussian_reference(z)[::-1],
        "a ridge added": lambda z: (
            z.mean(0),
            torch.cov(z.T, correction=0) + 1e-2 * torch.eye(z.shape[1], dtype=z.dtype),
        ),
        "divided by latents": lambda z: (z.mean(0), torch.cov(z.T, correction=0) * len(z) / z.shape[1]),
        "median with its places": lambda z: (z.median(0), torch.cov(z.T, correction=0)),
        "centred in place": lambda z: (z.mean(0), (lambda c: c.T @ c / len(c))(z.sub_(z.mean(0)))),
        "variances only": nb01._gaussian_diagonal,
        "diagonal matrix": nb01._gaussian_diagonal_matrix,
        "not centred": nb01._gaussian_not_centred,
        "n - 1": nb01._gaussian_unbiased,
        "over latents": nb01._gaussian_over_codes,
        "not divided": nb01._gaussian_not_divided,
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
        "noisy target": nb01._denoise_noisy_target,
        "no noise": nb01._denoise_nothing,
        "variance for sigma": nb01._denoise_variance,
        "noise as target": nb01._denoise_noise_target,
        "summed": nb01._denoise_summed,
        "mean over the batch": nb01._denoise_mean,
        "one noise": nb01._denoise_one_noise,
        "clipped": nb01._denoise_clipped,
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
        "a torch.Size": lambda *given: torch.Size(nb01._transposed_reference(*given)),
        "through NumPy": lambda n, k, s, p, o, d: tuple(((np.array(n) - 1) * s - 2 * p + d * (k - 1) + o + 1).tolist()),
    },
    "autoencoder/swapped-decoder": {
        "reshape": decoder_reshape,
        "unflatten": decoder_unflatten,
        "one code at a time": lambda z, *rest: torch.cat([nb01._decoder_reference(row[None], *rest) for row in z]),
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
