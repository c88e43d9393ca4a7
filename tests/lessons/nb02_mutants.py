"""Wrong answers to the quizzes of notebook 02 that must be rejected, and other right ones that must be accepted."""

import copy
import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from course_utils.models.autoencoder import bernoulli_nll
from course_utils.models.vae import gaussian_kl, iwae_bound, kl_to_standard_normal, reparameterize
from lessons.answers import kept, right, with_first

right_elbo = right("vae/elbo")
right_averaged_kl = right("vae/averaged-kl")


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


def full_kl_small_number(mean_q, cov_q, mean_p, cov_p):
    def log_det(cov):
        return (torch.linalg.det(cov) + 1e-30).log()

    exact = torch.logdet(cov_p) - torch.logdet(cov_q)
    return gaussian_kl(mean_q, cov_q, mean_p, cov_p) + 0.5 * (log_det(cov_p) - log_det(cov_q) - exact)


def full_kl_widened(mean_q, cov_q, mean_p, cov_p):
    eye = 1e-4 * torch.eye(mean_q.shape[1], dtype=mean_q.dtype, device=mean_q.device)
    return gaussian_kl(mean_q, cov_q + eye, mean_p, cov_p + eye)


def full_kl_on_the_cpu(mean_q, cov_q, mean_p, cov_p):
    inverse = torch.linalg.solve(cov_p, torch.eye(mean_q.shape[1], dtype=mean_q.dtype).expand(cov_p.shape))
    return full_kl_with(inverse, mean_q, cov_q, mean_p, cov_p)


def full_kl_with(inverse, mean_q, cov_q, mean_p, cov_p):
    difference = mean_q - mean_p
    trace = (inverse * cov_q.mT).sum((1, 2))
    quadratic = torch.einsum("bi,bij,bj->b", difference, inverse, difference)
    return 0.5 * (torch.logdet(cov_p) - torch.logdet(cov_q) + trace + quadratic - mean_q.shape[1])


def full_kl_inverse_kept():
    kept = {}

    def kl(mean_q, cov_q, mean_p, cov_p):
        inverse = kept.setdefault((cov_p.shape, cov_p.dtype, cov_p.device.type), torch.linalg.inv(cov_p))
        return full_kl_with(inverse, mean_q, cov_q, mean_p, cov_p)

    return kl


def full_kl_of_one_batch(mean_q, cov_q, mean_p, cov_p):
    """The quadratic terms of the whole batch are added up."""
    difference = mean_q - mean_p
    mixed = difference @ torch.linalg.solve(cov_p, difference[..., None])[..., 0].mT
    return gaussian_kl(mean_p, cov_q, mean_p, cov_p) + 0.5 * mixed.sum(1)


def full_kl_three_dimensions(mean_q, cov_q, mean_p, cov_p):
    return gaussian_kl(mean_q, cov_q, mean_p, cov_p) + 0.5 * (mean_q.shape[1] - 3)


def full_kl_determinant_of_the_diagonal(mean_q, cov_q, mean_p, cov_p):
    def missing(cov):
        return cov.diagonal(dim1=1, dim2=2).log().sum(1) - torch.logdet(cov)

    return gaussian_kl(mean_q, cov_q, mean_p, cov_p) + 0.5 * (missing(cov_p) - missing(cov_q))


def full_kl_means_moved(mean_q, cov_q, mean_p, cov_p):
    mean_p -= mean_q
    return gaussian_kl(torch.zeros_like(mean_q), cov_q, mean_p, cov_p)


def full_kl_pairwise(mean_q, cov_q, mean_p, cov_p):
    return torch.stack(
        [full_kl_inverse(*[part[None] for part in pair])[0] for pair in zip(mean_q, cov_q, mean_p, cov_p)]
    )


def full_kl_by_name_only(*, mean_q, cov_q, mean_p, cov_p):
    """As PyTorch has determinants of small matrices, without slogdet."""
    off = (mean_p - mean_q)[:, :, None]
    trace = torch.einsum("bii->b", torch.linalg.solve(cov_p, cov_q))
    quadratic = (off.mT @ torch.linalg.solve(cov_p, off)).flatten()
    ratio = torch.det(cov_p).log() - torch.det(cov_q).log()
    return (ratio + trace + quadratic - off.shape[1]) / 2


def full_kl_by_eigenvalues(mu, sigma, nu, tau, /):
    values, axes = torch.linalg.eigh(tau)
    turned = axes.mT @ sigma @ axes
    off = (axes.mT @ (mu - nu).unsqueeze(2)).squeeze(2)
    terms = values.log() + turned.diagonal(dim1=-2, dim2=-1) / values + off.square() / values - 1
    return (terms.sum(1) - torch.linalg.eigvalsh(sigma).log().sum(1)) / 2


def kl_clamped(mean, log_var):
    return kl_to_standard_normal(mean, log_var.clamp(-10, 10))


def kl_clamped_wide(mean, log_var):
    return kl_to_standard_normal(mean, log_var.clamp(-20, 20))


def kl_small_number(mean, log_var):
    variance = log_var.exp()
    return 0.5 * (mean**2 + variance - (variance + 1e-8).log() - 1).sum(1)


def kl_normal_of_exp(mean, log_var):
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return kl_divergence(Normal(mean, log_var.exp()), prior).sum(1)


def kl_softplus(mean, log_var):
    variance = nn.functional.softplus(log_var)
    return 0.5 * (mean**2 + variance - variance.log() - 1).sum(1)


def kl_on_the_cpu(mean, log_var):
    ones = torch.ones(mean.shape[1], dtype=mean.dtype)
    return 0.5 * (mean**2 + log_var.exp() - log_var - 1) @ ones


def kl_in_place(mean, log_var):
    each = -0.5 * (1 + log_var - mean**2 - log_var.exp())
    log_var.exp_()
    return each.sum(1)


def kl_backward_inside(mean, log_var):
    kl = kl_by_hand(mean, log_var)
    if kl.requires_grad:
        kl.mean().backward(retain_graph=True)
    return kl


def kl_kept():
    kept = {}

    def kl(mean, log_var):
        own = kept.setdefault((log_var.shape, log_var.dtype, log_var.device.type), log_var.detach())
        return kl_by_hand(mean, own) + (0 * log_var).sum(1)

    return kl


def kl_mean_over_images(mean, log_var):
    return kl_by_hand(mean - mean.mean(0), log_var)


def kl_by_hand(mean, log_var):
    return 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum(1)


class Divergence:
    """Of one Gaussian to another, once and for all that of the prior."""

    def __init__(self, mean, variance):
        self.mean, self.variance = mean, variance

    def __call__(self, mu, ln_variance):
        ratio = ln_variance.exp() / self.variance
        each = ratio + (mu - self.mean) ** 2 / self.variance - 1 - ln_variance + math.log(self.variance)
        return each.sum(-1).div(2)


def kl_own_full(mean, log_var):
    """By one's own answer to the quiz before."""
    zeros, eye = torch.zeros_like(mean), torch.eye(mean.shape[1]).to(mean).expand(len(mean), -1, -1)
    return full_kl_distributions(mean, torch.diag_embed(log_var.exp()), zeros, eye)


def kl_latent_by_latent(mean, log_var):
    total = 0
    for m, v in zip(mean.unbind(1), log_var.unbind(1)):
        total = total + 0.5 * (m * m + torch.exp(v) - v - 1)
    return total


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


def draw_clamped(mean, log_var, noise):
    return mean + (0.5 * log_var.clamp(-20, 20)).exp() * noise


def draw_small_number(mean, log_var, noise):
    return mean + (log_var.exp() + 1e-8).sqrt() * noise


def draw_softplus(mean, log_var, noise):
    return mean + nn.functional.softplus(log_var) * noise


def draw_on_the_cpu(mean, log_var, noise):
    return mean + torch.exp(log_var * torch.full(mean.shape, 0.5, dtype=mean.dtype)) * noise


def draw_noise_kept():
    kept = {}

    def draw(mean, log_var, noise):
        own = kept.setdefault((noise.shape, noise.dtype, noise.device.type), noise)
        return mean + (0.5 * log_var).exp() * own

    return draw


def draw_log_var_in_place(mean, log_var, noise):
    log_var *= 0.5
    return mean + log_var.exp() * noise


def draw_sigma_averaged(mean, log_var, noise):
    return mean + (0.5 * log_var).exp().mean(1, keepdim=True) * noise


def draw_noise_standardised(mean, log_var, noise):
    return mean + (0.5 * log_var).exp() * (noise - noise.mean()) / noise.square().mean().sqrt()


def draw_single_image(mean, log_var, noise):
    return torch.stack([m + (0.5 * v).exp() * e for m, v, e in zip(mean, log_var, noise)])


def draw_by_name_only(*, noise, mean, log_var):
    sigma = torch.pow(torch.tensor(math.e, dtype=torch.float64).to(mean), log_var / 2)
    return torch.add(mean, sigma.mul(noise))


def halved(function):
    """A decorator that hands on ln σ in the place of ln σ²."""

    @functools.wraps(function)
    def wrapper(mean, log_var, *rest):
        return function(mean, log_var / 2, *rest)

    return wrapper


@halved
def draw_decorated(mu, log_sigma, epsilon):
    return mu + log_sigma.exp() * epsilon


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


def elbo_eval_mode(model, x, noise):
    model.eval()
    return right_elbo(model, x, noise)


def elbo_backward_inside(model, x, noise):
    costs = right_elbo(model, x, noise)
    if costs[0].requires_grad:
        sum(costs).mean().backward(retain_graph=True)
    return costs


def elbo_backward_once(model, x, noise):
    costs = right_elbo(model, x, noise)
    if costs[0].requires_grad:
        sum(costs).mean().backward()
    return costs


def elbo_images_moved(model, x, noise):
    costs = right_elbo(model, x, noise)
    x.add_(1).div_(2)
    return costs


def elbo_weights_decay(model, x, noise):
    costs = right_elbo(model, x, noise)
    for parameter in model.parameters():
        parameter.data.mul_(0.999)
    return costs


def elbo_frozen_decoder(model, x, noise):
    costs = right_elbo(model, x, noise)
    model.decoder.requires_grad_(False)
    return costs


def elbo_of_a_copy(model, x, noise):
    return right_elbo(copy.deepcopy(model), x, noise)


def elbo_on_the_cpu(model, x, noise):
    mean, log_var = model.encode(x)
    z = mean + (0.5 * log_var).exp() * noise
    return model.nll(x, z + torch.zeros(z.shape)), kl_by_hand(mean, log_var)


def elbo_first_image(model, x, noise):
    """Every draw is held against the first image."""
    mean, log_var = model.encode(x)
    z = reparameterize(mean, log_var, noise)
    return model.nll(x[:1].expand_as(x), z), kl_to_standard_normal(mean, log_var)


def elbo_kl_of_the_batch(model, x, noise):
    reconstruction, kl = right_elbo(model, x, noise)
    return reconstruction, kl.mean().expand(len(x))


class Costs(NamedTuple):
    pixels: torch.Tensor
    code: torch.Tensor


def elbo_named(vae, images, epsilon, /):
    mu, ln_variance = vae.encode(images)
    return Costs(code=kl_by_hand(mu, ln_variance), pixels=vae.nll(images, mu + (ln_variance / 2).exp() * epsilon))


def elbo_written_out(model, x, noise):
    mean, log_var = model.encode(x)
    return model.nll(x, reparameterize(mean, log_var, noise)), kl_to_standard_normal(mean, log_var)


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
    reconstruction, kl = right_elbo(model, x, noise)
    return kl, reconstruction


def elbo_batch_mean(model, x, noise):
    reconstruction, kl = right_elbo(model, x, noise)
    return reconstruction.mean(), kl.mean()


def elbo_by_hand(model, x, noise):
    mean, log_var = model.encode(x)
    logits = model.logits(mean + torch.exp(0.5 * log_var) * noise)
    target = (x + 1) / 2
    reconstruction = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum((1, 2, 3))
    return reconstruction, kl_distributions(mean, log_var)


def iwae_one_maximum(log_w):
    top = log_w.max()
    return top + (log_w - top).exp().mean(0).log()


def iwae_one_maximum_and_a_small_number(log_w):
    top = log_w.max()
    return top + ((log_w - top).exp().mean(0) + 1e-30).log()


def iwae_smallest(log_w):
    low = log_w.min(0).values
    return low + (log_w - low).exp().mean(0).log()


def iwae_shifted_by_the_mean(log_w):
    middle = log_w.mean(0)
    return middle + (log_w - middle).exp().mean(0).log()


def iwae_shifted_by_the_first(log_w):
    return log_w[0] + (log_w - log_w[0]).exp().mean(0).log()


def iwae_shifted_by_a_constant(log_w):
    return (log_w + 250).exp().mean(0).log() - 250


def iwae_differences_clamped(log_w):
    top = log_w.max(0).values
    return top + (log_w - top).clamp(min=-1).exp().mean(0).log()


def iwae_count_on_the_cpu(log_w):
    return log_w.logsumexp(0) - torch.full((log_w.shape[1],), float(len(log_w)), dtype=log_w.dtype).log()


def iwae_in_place(log_w):
    top = log_w.max(0).values
    log_w -= top
    return log_w.logsumexp(0) + top - math.log(len(log_w))


def iwae_kept():
    kept = {}

    def bound(log_w):
        top = kept.setdefault((log_w.shape, log_w.dtype, log_w.device.type), log_w.detach().max(0).values)
        return top + (log_w - log_w.max(0).values).exp().mean(0).log() + 0 * log_w.sum(0)

    return bound


def iwae_only_the_best_learns(log_w):
    best = log_w.max(0).values
    return iwae_bound(log_w).detach() + best - best.detach()


def iwae_top_detached(log_weights, /):
    """The largest only shifts: whether it is detached or not, the gradient is the same."""
    top = log_weights.detach().amax(dim=0)
    return torch.exp(log_weights - top).sum(dim=0).log() + top - math.log(log_weights.shape[0])


def iwae_image_by_image(log_w):
    return torch.stack([torch.logsumexp(column, 0) - torch.tensor(float(len(column))).log() for column in log_w.T])


class Bound:
    def __call__(self, log_w):
        count = torch.tensor(log_w.shape[0], dtype=log_w.dtype, device=log_w.device)
        return torch.logsumexp(log_w, dim=0).sub(count.log())


def iwae_by_softmax(log_w):
    """ln Σ w = Σ p (ln w − ln p), for p the share of each draw."""
    log_share = log_w.log_softmax(0)
    return (log_share.exp() * (log_w - log_share)).sum(0) - math.log(len(log_w))


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


def loss_784(x, logits, mean, log_var):
    return (bernoulli_nll(logits, x) / x[0].numel() * 784 + kl_by_hand(mean, log_var)).mean()


def loss_100_latents(x, logits, mean, log_var):
    return (bernoulli_nll(logits, x) + kl_by_hand(mean, log_var) / mean.shape[1] * 100).mean()


def loss_backward_inside(x, logits, mean, log_var):
    loss = loss_torch(x, logits, mean, log_var)
    if loss.requires_grad:
        loss.backward(retain_graph=True)
    return loss


def loss_backward_once(x, logits, mean, log_var):
    loss = loss_torch(x, logits, mean, log_var)
    if loss.requires_grad:
        loss.backward()
    return loss


def loss_summed_over_images_averaged_over_latents(x, logits, mean, log_var):
    latents = 0.5 * (mean**2 + log_var.exp() - log_var - 1)
    return bernoulli_nll(logits, x).mean() + latents.sum(0).mean()


def loss_largest_latent(x, logits, mean, log_var):
    latents = 0.5 * (mean**2 + log_var.exp() - log_var - 1)
    return (bernoulli_nll(logits, x) + latents.amax(1)).mean()


def loss_free_bits(x, logits, mean, log_var):
    latents = 0.5 * (mean**2 + log_var.exp() - log_var - 1)
    return (bernoulli_nll(logits, x) + latents.clamp(min=0.1).sum(1)).mean()


def loss_one_channel(x, logits, mean, log_var):
    return loss_torch(x[:, :1], logits[:, :1], mean, log_var)


def loss_on_the_cpu(x, logits, mean, log_var):
    weights = torch.full((len(x),), 1 / len(x))
    return (bernoulli_nll(logits, x) + kl_by_hand(mean, log_var)) @ weights


def loss_of_the_first_image(x, logits, mean, log_var):
    return (bernoulli_nll(logits, x) + kl_by_hand(mean, log_var))[0]


def loss_log_var_in_place(x, logits, mean, log_var):
    loss = loss_torch(x, logits, mean, log_var)
    log_var.exp_()
    return loss


def loss_as_mended(images, scores, mu, ln_variance):
    white = (images + 1) / 2
    pixels = nn.functional.binary_cross_entropy_with_logits(scores, white, reduction="none")
    latents = 0.5 * (mu**2 + ln_variance.exp() - ln_variance - 1)
    return (pixels.sum(dim=(1, 2, 3)) + latents.sum(dim=1)).mean()


def loss_mean_times_count(x, logits, mean, log_var):
    pixels = nn.functional.binary_cross_entropy_with_logits(logits, (x + 1) / 2)
    latents = (mean**2 + log_var.exp() - log_var - 1).mean() / 2
    return pixels * x[0].numel() + latents * mean.shape[-1]


class Loss:
    def __init__(self, beta):
        self.beta = beta

    def __call__(self, *, x, logits, mean, log_var):
        costs = torch.stack([bernoulli_nll(logits, x), self.beta * kl_by_hand(mean, log_var)])
        return torch.einsum("cb->", costs) / costs.shape[1]


def loss_torch(x, logits, mean, log_var):
    pixels = nn.functional.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="sum")
    return (pixels + 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum()) / len(x)


def loss_sign(x, logits, mean, log_var):
    return (bernoulli_nll(logits, x) - kl_to_standard_normal(mean, log_var)).mean()


def loss_grey_not_moved(x, logits, mean, log_var):
    pixels = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
    return (pixels + kl_to_standard_normal(mean, log_var)).mean()


def bits_of_28_by_28(nll, dimensions, bin_width):
    return nll / (784 * math.log(2)) - math.log2(bin_width)


def bits_of_our_bins(nll, dimensions, bin_width):
    return nll / (dimensions * math.log(2)) - math.log2(2 / 255)


def bits_never_negative(nll, dimensions, bin_width):
    return bits_log2(nll, dimensions, bin_width).clamp(min=0)


def bits_on_the_cpu(nll, dimensions, bin_width):
    return nll / (dimensions * math.log(2)) - torch.log2(torch.full(nll.shape, bin_width, dtype=nll.dtype))


def bits_through_numpy(n, d, w):
    return torch.from_numpy((n.numpy() / (d * np.log(2)) - np.log2(w)).astype(n.numpy().dtype))


def bits_through_numpy_and_back(nll, dimensions, bin_width):
    nats = nll.cpu().numpy() / dimensions
    return torch.from_numpy(nats / np.log(2) - np.log2(bin_width)).to(nll)


def bits_by_tensors(cost, count, width):
    two = torch.tensor(2.0)
    return cost / (count * two.log()) - torch.tensor(width).log2()


def bits_by_name_only(*, nll, dimensions, bin_width):
    whole = nll - dimensions * math.log(bin_width)  # nats of the bins of a whole image
    return whole / dimensions / math.log(2)


def bits_log2(nll, dimensions, bin_width):
    return (nll / dimensions - math.log(bin_width)) / math.log(2)


def bits_e(nll, dimensions, bin_width):
    return (nll * math.log2(math.e) / dimensions).add(-math.log(bin_width, 2))


def full_kl_plain_distance(mean_q, cov_q, mean_p, cov_p):
    return gaussian_kl(mean_q, cov_q, mean_q, cov_p) + 0.5 * (mean_q - mean_p).square().sum(1)


def full_kl_cholesky(mean_q, cov_q, mean_p, cov_p):
    root, difference = torch.linalg.cholesky(cov_p), (mean_q - mean_p)[..., None]
    trace = torch.cholesky_solve(cov_q, root).diagonal(dim1=1, dim2=2).sum(1)
    quadratic = (difference * torch.cholesky_solve(difference, root)).sum((1, 2))
    log_det = 2 * root.diagonal(dim1=1, dim2=2).log().sum(1) - torch.logdet(cov_q)
    return 0.5 * (log_det + trace + quadratic - mean_q.shape[1])


def elbo_squared_error(model, x, noise):
    mean, log_var = model.encode(x)
    z = reparameterize(mean, log_var, noise)
    return (model.decode(z) - x).square().flatten(1).sum(1), kl_to_standard_normal(mean, log_var)


def elbo_exchanged(model, x, noise):
    log_var, mean = model.encode(x)
    return model.nll(x, reparameterize(mean, log_var, noise)), kl_to_standard_normal(mean, log_var)


def elbo_no_grad_encoder(model, x, noise):
    with torch.no_grad():
        mean, log_var = model.encode(x)
    return model.nll(x, reparameterize(mean, log_var, noise)), kl_to_standard_normal(mean, log_var)


def elbo_mean_detached(model, x, noise):
    mean, log_var = model.encode(x)
    return model.nll(x, reparameterize(mean.detach(), log_var, noise)), kl_to_standard_normal(mean, log_var)


def elbo_sampled_kl(model, x, noise):
    mean, log_var = model.encode(x)
    z = reparameterize(mean, log_var, noise)
    kl = Normal(mean, (log_var / 2).exp()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    return model.nll(x, z), kl.sum(1)


def elbo_loop(model, x, noise):
    costs = [elbo_written_out(model, x[i : i + 1], noise[i : i + 1]) for i in range(len(x))]
    return tuple(map(torch.cat, zip(*costs)))


def iwae_doubly(log_w):
    weights = log_w.softmax(0).detach()
    return iwae_bound(log_w).detach() + (weights**2 * (log_w - log_w.detach())).sum(0)


def loss_loop(x, logits, mean, log_var):
    rows = zip(x[:, None], logits[:, None], mean[:, None], log_var[:, None])
    return sum(loss_torch(*row) for row in rows) / len(x)


def draw_scaled_mean(mean, log_var, noise):
    return (0.5 * log_var).exp() * (mean + noise)


def iwae_underflow(log_w):
    return log_w.exp().mean(0).log()


MUTANTS = {
    "vae/gaussian-kl": {
        "averaged over the batch": lambda *given: gaussian_kl(*given).mean(),
        "plain distance": full_kl_plain_distance,
        "both ways averaged": lambda a, A, b, B: (gaussian_kl(a, A, b, B) + gaussian_kl(b, B, a, A)) / 2,
        "covariances read as roots": lambda a, A, b, B: gaussian_kl(a, A @ A, b, B @ B),
        "sign": lambda *given: -gaussian_kl(*given),
        "bits": lambda *given: gaussian_kl(*given) / math.log(2),
        "mean detached": lambda a, *rest: gaussian_kl(a.detach(), *rest),
        "batch for dimension": lambda a, *rest: gaussian_kl(a, *rest) + (a.shape[1] - a.shape[0]) / 2,
        "a small number under the logarithm": full_kl_small_number,
        "covariances widened": full_kl_widened,
        "the identity on the CPU": full_kl_on_the_cpu,
        "inverse kept": full_kl_inverse_kept(),
        "quadratic terms of the batch together": full_kl_of_one_batch,
        "three dimensions": full_kl_three_dimensions,
        "determinant of the diagonal": full_kl_determinant_of_the_diagonal,
        "means moved": full_kl_means_moved,
        "means within ±10": lambda a, A, b, B: gaussian_kl(a.clamp(-10, 10), A, b.clamp(-10, 10), B),
        "never above 5": lambda *given: gaussian_kl(*given).clamp(max=5),
        "means exchanged with covariances kept": lambda a, A, b, B: gaussian_kl(a, B, b, A),
        "quadratic term with q's matrix": full_kl_q_inverted,
        "trace of an elementwise quotient": full_kl_elementwise_trace,
    },
    "vae/kl": {
        "averaged over everything": lambda mean, log_var: -0.5 * torch.mean(1 + log_var - mean**2 - log_var.exp()),
        "summed over everything": lambda mean, log_var: kl_to_standard_normal(mean, log_var).sum(),
        "the 1 forgotten": lambda mean, log_var: kl_to_standard_normal(mean, log_var) + mean.shape[1] / 2,
        "free bits": lambda m, v: (0.5 * (m**2 + v.exp() - v - 1)).clamp(min=0.5).sum(1),
        "half of the second part only": lambda m, v: (m**2 + 0.5 * (v.exp() - v - 1)).sum(1),
        "not summed": lambda m, v: 0.5 * (m**2 + v.exp() - v - 1),
        "bits": lambda mean, log_var: kl_to_standard_normal(mean, log_var) / math.log(2),
        "log-variance detached": lambda mean, log_var: kl_to_standard_normal(mean, log_var.detach()),
        "gradient of nothing": lambda m, v: kl_to_standard_normal(m.detach(), v.detach()) + 0 * (m + v).sum(),
        "clamped": kl_clamped,
        "clamped, but wide": kl_clamped_wide,
        "a small number under the logarithm": kl_small_number,
        "Normal with exp(log_var)": kl_normal_of_exp,
        "means within ±10": lambda mean, log_var: kl_to_standard_normal(mean.clamp(-10, 10), log_var),
        "means not above 10": lambda mean, log_var: kl_to_standard_normal(mean.clamp(max=10), log_var),
        "means not below −10": lambda mean, log_var: kl_to_standard_normal(mean.clamp(min=-10), log_var),
        "softplus": kl_softplus,
        "on the CPU": kl_on_the_cpu,
        "log-variance in place": kl_in_place,
        "backward inside": kl_backward_inside,
        "log-variance kept": kl_kept(),
        "means moved to the batch's": kl_mean_over_images,
        "first latent only": lambda mean, log_var: kl_by_hand(mean[:, :1], log_var[:, :1]),
        "half precision": lambda mean, log_var: kl_by_hand(mean.bfloat16(), log_var.bfloat16()).to(mean.dtype),
        "averaged over the batch": kl_batch_mean,
        "an axis kept": kl_keepdim,
        "no gradient": kl_no_gradient,
        "mean not squared": kl_mean_not_squared,
    },
    "vae/reparameterize": {
        "as in the tutorial, noise drawn inside": lambda mean, log_var, noise: Normal(
            mean, (log_var / 2).exp()
        ).rsample(),
        "sample": lambda mean, log_var, noise: Normal(mean, (log_var / 2).exp()).sample(),
        "subtracted": lambda mean, log_var, noise: mean - (log_var / 2).exp() * noise,
        "added, not stretched": lambda mean, log_var, noise: mean + (log_var / 2).exp() + noise,
        "doubled, not halved": lambda mean, log_var, noise: mean + (2 * log_var).exp() * noise,
        "log-variance detached": lambda mean, log_var, noise: reparameterize(mean, log_var.detach(), noise),
        "gradient as if σ were fixed at 0": lambda m, v, e: reparameterize(m, v, e).detach() + m - m.detach(),
        "noise in place": lambda mean, log_var, noise: noise.mul_((log_var / 2).exp()).add_(mean),
        "one column of noise": lambda mean, log_var, noise: reparameterize(mean, log_var, noise[:, :1].expand_as(mean)),
        "clamped": draw_clamped,
        "a small number under the root": draw_small_number,
        "softplus": draw_softplus,
        "on the CPU": draw_on_the_cpu,
        "noise kept": draw_noise_kept(),
        "log-variance in place": draw_log_var_in_place,
        "σ averaged over latents": draw_sigma_averaged,
        "noise standardised": draw_noise_standardised,
        "means within ±10": lambda mean, log_var, noise: reparameterize(mean.clamp(-10, 10), log_var, noise),
        "means not above 10": lambda mean, log_var, noise: reparameterize(mean.clamp(max=10), log_var, noise),
        "means not below −10": lambda mean, log_var, noise: reparameterize(mean.clamp(min=-10), log_var, noise),
        "noise clamped": lambda m, v, e: m + (v / 2).exp() * e.clamp(-3, 3),
        "half precision": lambda m, v, e: (m.half() + (v / 2).exp().half() * e.half()).to(m.dtype),
        "one σ for the batch": lambda m, v, e: m + (v[:1] / 2).exp() * e,
        "mean stretched too": draw_scaled_mean,
        "noise of its own": draw_global_noise,
        "no noise": draw_without_noise,
        "under no_grad": draw_sample,
        "mean detached": draw_mean_detached,
    },
    "vae/elbo": {
        "one sum": lambda *given: sum(right_elbo(*given)),
        "noise of its own": lambda model, x, noise: right_elbo(model, x, torch.randn_like(noise)),
        "decoded from the prior": lambda model, x, noise: (
            model.nll(x, noise),
            right_elbo(model, x, noise)[1],
        ),
        "KL detached": lambda *given: (right_elbo(*given)[0], right_elbo(*given)[1].detach()),
        "reconstruction detached": lambda *given: tuple(
            c.detach() if i == 0 else c for i, c in enumerate(right_elbo(*given))
        ),
        "squared error": elbo_squared_error,
        "mean and log-variance exchanged": elbo_exchanged,
        "encoder under no_grad": elbo_no_grad_encoder,
        "mean detached in the draw": elbo_mean_detached,
        "KL of the draw": elbo_sampled_kl,
        "β of 4": lambda *given: (right_elbo(*given)[0], 4 * right_elbo(*given)[1]),
        "a list": lambda *given: list(right_elbo(*given)),
        "left in eval mode": elbo_eval_mode,
        "backward inside, graph kept": elbo_backward_inside,
        "backward inside": elbo_backward_once,
        "images moved": elbo_images_moved,
        "weights decay": elbo_weights_decay,
        "frozen decoder": elbo_frozen_decoder,
        "of a copy": elbo_of_a_copy,
        "noise kept": with_first(right_elbo, 2, key=lambda model, x, noise: (noise.shape, noise.device.type)),
        "on the CPU": elbo_on_the_cpu,
        "held against the first image": elbo_first_image,
        "one KL for the batch": elbo_kl_of_the_batch,
        "noise clamped": lambda model, x, noise: right_elbo(model, x, noise.clamp(-0.5, 0.5)),
        "a dict": lambda *given: dict(zip(("reconstruction", "kl"), right_elbo(*given))),
        "detached latent, through a list": elbo_double_pass,
        "detached log-variance": elbo_log_var_detached,
        "costs swapped": elbo_swapped_outputs,
        "averaged over the batch": elbo_batch_mean,
    },
    "vae/iwae": {
        "ln K added": lambda log_w: iwae_bound(log_w) + 2 * math.log(len(log_w)),
        "divided by K": lambda log_w: log_w.logsumexp(0) / len(log_w),
        "bits of K": lambda log_w: log_w.logsumexp(0) - math.log2(len(log_w)),
        "K - 1": lambda log_w: log_w.logsumexp(0) - math.log(max(len(log_w) - 1, 1)),
        "a small number under the logarithm": lambda log_w: (log_w.exp().mean(0) + 1e-8).log(),
        "largest not added back": lambda log_w: (log_w - log_w.max(0).values).exp().mean(0).log(),
        "largest with its place": lambda log_w: log_w.max(0),
        "averaged over images": lambda log_w: iwae_bound(log_w).mean(),
        "sign": lambda log_w: -iwae_bound(log_w),
        "squared weights in the gradient": iwae_doubly,
        "one maximum for the table": iwae_one_maximum,
        "one maximum, and a small number": iwae_one_maximum_and_a_small_number,
        "shifted by the smallest": iwae_smallest,
        "shifted by the mean": iwae_shifted_by_the_mean,
        "shifted by the first": iwae_shifted_by_the_first,
        "shifted by a constant": iwae_shifted_by_a_constant,
        "differences clamped": iwae_differences_clamped,
        "count on the CPU": iwae_count_on_the_cpu,
        "in place": iwae_in_place,
        "maximum kept": iwae_kept(),
        "only the best learns": iwae_only_the_best_learns,
        "infinities removed": lambda log_w: log_w.exp().mean(0).log().nan_to_num(neginf=-250.0, posinf=250.0),
        "last draw left out": lambda log_w: iwae_bound(log_w[:-1] if len(log_w) > 1 else log_w),
        "underflow": iwae_underflow,
        "detached": iwae_detached,
        "self-weighted mean of logs": iwae_self_weighted,
    },
    "vae/averaged-kl": {
        "everything averaged": lambda x, logits, m, v: (
            bernoulli_nll(logits, x).mean() / x[0].numel() + kl_to_standard_normal(m, v).mean() / m.shape[1]
        ),
        "KL by pixels": lambda x, logits, m, v: (
            bernoulli_nll(logits, x) + kl_to_standard_normal(m, v) / x[0].numel()
        ).mean(),
        "KL summed over images": lambda x, logits, m, v: (
            bernoulli_nll(logits, x).mean() + kl_to_standard_normal(m, v).sum()
        ),
        "KL doubled": lambda x, logits, m, v: (bernoulli_nll(logits, x) + 2 * kl_to_standard_normal(m, v)).mean(),
        "no KL": lambda x, logits, m, v: bernoulli_nll(logits, x).mean(),
        "a number": lambda *given: right_averaged_kl(*given).item(),
        "one number an image": lambda x, logits, m, v: bernoulli_nll(logits, x) + kl_to_standard_normal(m, v),
        "KL detached": lambda x, logits, m, v: (bernoulli_nll(logits, x) + kl_to_standard_normal(m, v).detach()).mean(),
        "784 pixels": loss_784,
        "100 latents": loss_100_latents,
        "backward inside, graph kept": loss_backward_inside,
        "backward inside": loss_backward_once,
        "latents averaged, images summed": loss_summed_over_images_averaged_over_latents,
        "largest latent only": loss_largest_latent,
        "free bits": loss_free_bits,
        "one channel": loss_one_channel,
        "on the CPU": loss_on_the_cpu,
        "first image only": loss_of_the_first_image,
        "log-variance in place": loss_log_var_in_place,
        "pictures kept": with_first(loss_torch, 0, key=lambda x, *rest: (x.shape, x.device.type)),
        "an axis kept": lambda *given: right_averaged_kl(*given)[None],
        "KL sign": loss_sign,
        "grey values not moved to [0, 1]": loss_grey_not_moved,
    },
    "vae/bits": {
        "8 bits for every bin": lambda nll, d, width: nll / (d * math.log(2)) + 8,
        "bits of a bin never negative": lambda nll, d, width: nll / (d * math.log(2)) + abs(math.log2(width)),
        "bins of 1 at most": lambda nll, d, width: bits_log2(nll, d, min(width, 1.0)),
        "width in nats": lambda nll, d, width: nll / (d * math.log(2)) - math.log(width),
        "not divided by dimensions": lambda nll, d, width: nll / math.log(2) - math.log2(width),
        "logarithm of the nats": lambda nll, d, width: nll.abs().log2() / d - math.log2(width),
        "a bin for every dimension": lambda nll, d, width: nll / (d * math.log(2)) - d * math.log2(width),
        "28 × 28": bits_of_28_by_28,
        "bins of 2/255": bits_of_our_bins,
        "never negative": bits_never_negative,
        "on the CPU": bits_on_the_cpu,
        "kept": kept(bits_log2, key=lambda nll, *settings: (nll.shape, *settings, nll.device.type)),
        "whole nats": lambda nll, d, width: bits_log2(nll.trunc(), d, width),
        "two digits": lambda *given: bits_log2(*given).round(decimals=2),
        "dimensions and bin width exchanged": lambda nll, d, width: nll / (width * math.log(2)) - math.log2(d),
        "half precision": lambda nll, d, width: bits_log2(nll.half(), d, width).to(nll.dtype),
        "averaged": lambda *given: bits_log2(*given).mean(),
        "in double precision": lambda nll, d, width: bits_log2(nll.double(), d, width),
        "in place": lambda nll, d, width: nll.div_(d * math.log(2)).sub_(math.log2(width)),
    },
}

ALTERNATIVES = {
    "vae/gaussian-kl": {
        "explicit inverse": full_kl_inverse,
        "torch.distributions": full_kl_distributions,
        "one pair at a time": full_kl_pairwise,
        "cholesky_solve": full_kl_cholesky,
        "in double precision": lambda *given: full_kl_inverse(*(g.double() for g in given)).to(given[0].dtype),
        "in single precision": lambda *given: full_kl_cholesky(*(g.float() for g in given)).to(given[0].dtype),
        "by name only, with det": full_kl_by_name_only,
        "by eigenvalues, by position only": full_kl_by_eigenvalues,
    },
    "vae/kl": {
        "torch.distributions": kl_distributions,
        "einsum, signs turned": kl_einsum,
        "by σ": lambda m, v: (lambda s: (0.5 * (s**2 + m**2 - 1) - s.log()).sum(1))((v / 2).exp()),
        "mean times count": lambda m, v: -0.5 * (1 + v - m**2 - v.exp()).mean(1) * m.shape[1],
        "in double precision": lambda m, v: kl_by_hand(m.double(), v.double()).to(m.dtype),
        "in single precision": lambda m, v: kl_by_hand(m.float(), v.float()).to(m.dtype),
        "an object": Divergence(0.0, 1.0),
        "a divergence of full matrices": kl_own_full,
        "latent by latent": kl_latent_by_latent,
        "partial": functools.partial(lambda half, m, v: half * (m * m + v.expm1() - v).sum(dim=-1), 0.5),
    },
    "vae/reparameterize": {
        "root of the variance": draw_sqrt,
        "addcmul": draw_addcmul,
        "a diagonal matrix": lambda m, v, e: m + (torch.diag_embed((v / 2).exp()) @ e[..., None])[..., 0],
        "own numbers in place": lambda m, v, e: (v / 2).exp().mul(e).add_(m),
        "one image at a time": draw_single_image,
        "by name only": draw_by_name_only,
        "decorated": draw_decorated,
        "in single precision": lambda m, v, e: (m.float() + torch.exp(v.float() / 2) * e.float()).to(m.dtype),
        "lerp": lambda m, v, e: torch.lerp(m, m + e, (v / 2).exp()),
    },
    "vae/elbo": {
        "everything by hand": elbo_by_hand,
        "a named tuple, by position only": elbo_named,
        "written out": elbo_written_out,
        "one image at a time": elbo_loop,
    },
    "vae/iwae": {
        "shifted by the largest": iwae_shifted,
        "one draw at a time": iwae_logaddexp,
        "ln K inside": lambda log_w: (log_w - math.log(len(log_w))).logsumexp(0),
        "largest detached": iwae_top_detached,
        "image by image": iwae_image_by_image,
        "an object": Bound(),
        "by the share of each draw": iwae_by_softmax,
        "by log_softmax": lambda log_w: log_w[0] - log_w.log_softmax(0)[0] - math.log(len(log_w)),
        "in double precision": lambda log_w: iwae_shifted(log_w.double()).to(log_w.dtype),
    },
    "vae/averaged-kl": {
        "sums, divided by the batch": loss_torch,
        "two means": lambda x, logits, m, v: bernoulli_nll(logits, x).mean() + kl_to_standard_normal(m, v).mean(),
        "as the notebook mends it": loss_as_mended,
        "means times counts": loss_mean_times_count,
        "an object, by name only": Loss(1.0),
        "one image at a time": loss_loop,
    },
    "vae/bits": {
        "together": bits_log2,
        "log2 e": bits_e,
        "through NumPy, and back to where it came from": bits_through_numpy_and_back,
        "through NumPy": bits_through_numpy,
        "tensors for numbers": bits_by_tensors,
        "by name only": bits_by_name_only,
        "one image at a time": lambda n, d, w: torch.stack([bits_log2(one, d, w) for one in n]),
    },
}
