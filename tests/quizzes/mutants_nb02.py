"""Wrong answers to the quizzes of notebook 02 that must be rejected, and other right ones that must be accepted."""

import math

import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from course_utils.models.autoencoder import bernoulli_nll
from course_utils.models.vae import gaussian_kl, iwae_bound, kl_to_standard_normal, reparameterize
from course_utils.quizzes import nb02


def kl_batch_mean(mean, log_var):
    return 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum(1).mean()


def kl_keepdim(mean, log_var):
    return 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum(1, keepdim=True)


def kl_no_gradient(mean, log_var):
    with torch.no_grad():
        return kl_to_standard_normal(mean, log_var)


def kl_mean_not_squared(mean, log_var):
    return 0.5 * (mean.abs() + log_var.exp() - log_var - 1).sum(1)


def kl_distributions(mean, log_var):
    q = Normal(mean, (0.5 * log_var).exp())
    return kl_divergence(q, Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(-1)


def kl_einsum(mean, log_var):
    return -0.5 * torch.einsum("bd->b", 1 + log_var - mean.pow(2) - log_var.exp())


def full_kl_inverse(mean_q, cov_q, mean_p, cov_p):
    inverse, difference = torch.linalg.inv(cov_p), mean_q - mean_p
    trace = torch.einsum("bij,bji->b", inverse, cov_q)
    quadratic = torch.einsum("bi,bij,bj->b", difference, inverse, difference)
    return 0.5 * (torch.logdet(cov_p) - torch.logdet(cov_q) + trace + quadratic - mean_q.shape[1])


def full_kl_distributions(mean_q, cov_q, mean_p, cov_p):
    return kl_divergence(MultivariateNormal(mean_q, cov_q), MultivariateNormal(mean_p, cov_p))


def full_kl_q_inverted(mean_q, cov_q, mean_p, cov_p):
    wrong = torch.linalg.inv(cov_q)
    difference = mean_q - mean_p
    right = gaussian_kl(mean_q, cov_q, mean_p, cov_p)
    quadratic = torch.einsum("bi,bij,bj->b", difference, wrong - torch.linalg.inv(cov_p), difference)
    return right + 0.5 * quadratic


def full_kl_elementwise_trace(mean_q, cov_q, mean_p, cov_p):
    right_trace = torch.linalg.solve(cov_p, cov_q).diagonal(dim1=-2, dim2=-1).sum(-1)
    return gaussian_kl(mean_q, cov_q, mean_p, cov_p) + 0.5 * (
        (cov_q / cov_p).diagonal(dim1=-2, dim2=-1).sum(-1) - right_trace
    )


def draw_global_noise(mean, log_var, noise):
    return mean + (0.5 * log_var).exp() * torch.randn(mean.shape, dtype=mean.dtype)


def draw_without_noise(mean, log_var, noise):
    return mean


def draw_sample(mean, log_var, noise):
    with torch.no_grad():
        return mean + (0.5 * log_var).exp() * noise


def draw_mean_detached(mean, log_var, noise):
    return mean.detach() + (0.5 * log_var).exp() * noise


def draw_sqrt(mean, log_var, noise):
    return mean + log_var.exp().sqrt() * noise


def draw_addcmul(mean, log_var, noise):
    return torch.addcmul(mean, torch.exp(log_var / 2), noise)


def elbo_double_pass(model, x, noise):
    """Detached by another route: the draw is rebuilt from numbers that forgot their graph."""
    mean, log_var = model.encode(x)
    z = torch.tensor((mean + (0.5 * log_var).exp() * noise).tolist())
    return model.nll(x, z), kl_to_standard_normal(mean, log_var)


def elbo_log_var_detached(model, x, noise):
    mean, log_var = model.encode(x)
    z = reparameterize(mean, log_var.detach(), noise)
    return model.nll(x, z), kl_to_standard_normal(mean, log_var)


def elbo_swapped_outputs(model, x, noise):
    reconstruction, kl = nb02._reference_elbo(model, x, noise)
    return kl, reconstruction


def elbo_batch_mean(model, x, noise):
    reconstruction, kl = nb02._reference_elbo(model, x, noise)
    return reconstruction.mean(), kl.mean()


def elbo_by_hand(model, x, noise):
    mean, log_var = model.encode(x)
    logits = model.raw(mean + torch.exp(0.5 * log_var) * noise)
    target = (x + 1) / 2
    reconstruction = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum((1, 2, 3))
    return reconstruction, kl_distributions(mean, log_var)


def iwae_detached(log_w):
    return iwae_bound(log_w.detach())


def iwae_self_weighted(log_w):
    return (log_w.softmax(0) * log_w).sum(0)


def iwae_shifted(log_w):
    top = log_w.max(dim=0, keepdim=True).values
    return (top + (log_w - top).exp().mean(dim=0, keepdim=True).log())[0]


def iwae_logaddexp(log_w):
    total = log_w[0]
    for row in log_w[1:]:
        total = torch.logaddexp(total, row)
    return total - math.log(len(log_w))


def loss_torch(x, logits, mean, log_var):
    pixels = nn.functional.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="sum")
    return (pixels + 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum()) / len(x)


def loss_sign(x, logits, mean, log_var):
    return (bernoulli_nll(logits, x) - kl_to_standard_normal(mean, log_var)).mean()


def loss_grey_not_moved(x, logits, mean, log_var):
    pixels = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
    return (pixels + kl_to_standard_normal(mean, log_var)).mean()


def bits_log2(nll, dimensions, bin_width):
    return (nll / dimensions - math.log(bin_width)) / math.log(2)


def bits_e(nll, dimensions, bin_width):
    return (nll * math.log2(math.e) / dimensions).add(-math.log(bin_width, 2))


MUTANTS = {
    "vae/gaussian-kl": {
        "q and p exchanged": nb02._kl_swapped,
        "log-determinants upside down": nb02._kl_log_det_upside_down,
        "dimension forgotten": nb02._kl_without_dimension,
        "only the diagonals used": nb02._kl_only_diagonals,
        "half forgotten": nb02._kl_without_half,
        "quadratic term with q's matrix": full_kl_q_inverted,
        "trace of an elementwise quotient": full_kl_elementwise_trace,
    },
    "vae/kl": {
        "log-sigma read as log-variance": nb02._kl_log_sigma,
        "averaged over latents": nb02._kl_averaged,
        "wrong sign": nb02._kl_sign,
        "half forgotten": nb02._kl_doubled,
        "sigma for variance": nb02._kl_sigma_for_variance,
        "other way round": nb02._kl_reversed,
        "averaged over the batch": kl_batch_mean,
        "an axis kept": kl_keepdim,
        "no gradient": kl_no_gradient,
        "mean not squared": kl_mean_not_squared,
    },
    "vae/reparameterize": {
        "variance for sigma": nb02._draw_with_variance,
        "logarithm not undone": nb02._draw_with_log_sigma,
        "noise not fresh per image": nb02._draw_one_noise,
        "detached": nb02._draw_detached,
        "mean stretched too": nb02._draw_scaled_mean,
        "noise of its own": draw_global_noise,
        "no noise": draw_without_noise,
        "under no_grad": draw_sample,
        "mean detached": draw_mean_detached,
    },
    "vae/elbo": {
        "detached latent": nb02._elbo_detached,
        "detached latent, through a list": elbo_double_pass,
        "detached log-variance": elbo_log_var_detached,
        "mean code instead of a draw": nb02._elbo_mean_code,
        "mean over pixels": nb02._elbo_per_pixel,
        "KL averaged over latents": nb02._elbo_averaged_kl,
        "noise not fresh per image": nb02._elbo_one_noise,
        "signs": nb02._elbo_signs,
        "variance for sigma": nb02._elbo_variance,
        "log-sigma read as log-variance": nb02._elbo_log_sigma,
        "costs swapped": elbo_swapped_outputs,
        "averaged over the batch": elbo_batch_mean,
    },
    "vae/iwae": {
        "mean of logs": nb02._iwae_mean_of_logs,
        "sum for mean": nb02._iwae_without_log_k,
        "mean over images": nb02._iwae_over_images,
        "underflow": nb02._iwae_underflow,
        "best draw only": nb02._iwae_best,
        "wrong count": nb02._iwae_wrong_count,
        "detached": iwae_detached,
        "self-weighted mean of logs": iwae_self_weighted,
    },
    "vae/averaged-kl": {
        "as handed out": nb02._loss_as_handed_out,
        "both averaged": nb02._loss_both_averaged,
        "pixels averaged": nb02._loss_pixels_averaged,
        "summed over images": nb02._loss_summed_over_images,
        "KL sign": loss_sign,
        "grey values not moved to [0, 1]": loss_grey_not_moved,
    },
    "vae/bits": {
        "nats": nb02._bits_in_nats,
        "no bin width": nb02._bits_without_width,
        "sign of the bin width": nb02._bits_sign,
        "one bin an image": nb02._bits_width_once,
        "multiplied by ln 2": nb02._bits_times_ln2,
    },
}

ALTERNATIVES = {
    "vae/gaussian-kl": {"explicit inverse": full_kl_inverse, "torch.distributions": full_kl_distributions},
    "vae/kl": {"torch.distributions": kl_distributions, "einsum, signs turned": kl_einsum},
    "vae/reparameterize": {"root of the variance": draw_sqrt, "addcmul": draw_addcmul},
    "vae/elbo": {"everything by hand": elbo_by_hand},
    "vae/iwae": {"shifted by the largest": iwae_shifted, "one draw at a time": iwae_logaddexp},
    "vae/averaged-kl": {"sums, divided by the batch": loss_torch},
    "vae/bits": {"together": bits_log2, "log2 e": bits_e},
}
