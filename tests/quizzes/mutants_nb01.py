"""Wrong answers to the quizzes of notebook 01 that must be rejected, and other right ones that must be accepted."""

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


MUTANTS = {
    "autoencoder/bernoulli-nll": {
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
        "as handed out": nb01._decoder_as_handed_out,
        "w before h": nb01._decoder_swapped_result,
        "turned at the end": nb01._decoder_transposed_back,
        "maps turned": nb01._decoder_transposed_maps,
        "channels last": nb01._decoder_channels_last,
        "squares only": decoder_square,
        "detached": decoder_detached,
    },
    "autoencoder/decode-grid": {
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
        "from b to a": nb01._walk_reversed,
        "end missing": nb01._walk_without_the_end,
        "both ends missing": nb01._walk_without_both_ends,
        "one too many": nb01._walk_one_too_many,
        "stacked last": nb01._walk_stacked_last,
        "b added": nb01._walk_added,
        "in single precision": walk_single_precision,
    },
    "autoencoder/fit-gaussian": {
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
        "torch, summed over axes": nll_by_torch,
        "logsigmoid": nll_by_logsigmoid,
        "torch.distributions": nll_by_distributions,
    },
    "autoencoder/pca": {"einsum over image axes": pca_einsum},
    "autoencoder/conv-size": {"ask a layer": conv_by_layer, "count positions": conv_by_counting},
    "autoencoder/conv-transpose-size": {"ask a layer": transposed_by_layer, "stamp": transposed_by_stamping},
    "autoencoder/swapped-decoder": {"reshape": decoder_reshape, "unflatten": decoder_unflatten},
    "autoencoder/decode-grid": {"a loop": grid_loop, "meshgrid xy": grid_meshgrid},
    "autoencoder/interpolate": {"lerp": walk_lerp, "along the difference": walk_difference},
    "autoencoder/fit-gaussian": {"torch.cov": gaussian_by_cov, "outer products": gaussian_by_einsum},
    "autoencoder/denoising": {"mse_loss": denoise_by_mse, "add with alpha": denoise_by_addcmul},
}
