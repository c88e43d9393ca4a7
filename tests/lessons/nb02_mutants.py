"""Wrong answers to the quizzes of notebook 02 that must be rejected, and other right ones that must be accepted."""

import copy
import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from course_utils.models.vae import gaussian_kl, iwae_bound, kl_to_standard_normal, reparameterize
from lessons.answers import kept, right, with_first

right_elbo = right("vae/elbo")


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


def draw_scaled_mean(mean, log_var, noise):
    return (0.5 * log_var).exp() * (mean + noise)


def iwae_underflow(log_w):
    return log_w.exp().mean(0).log()


# ------------------------------------------------------------------------------------------------- the test bench


def evidence_by_hand(bench, x):
    w, p = bench.weight, bench.weight.shape[0]
    cov = w @ w.mT + bench.sigma**2 * torch.eye(p).to(x)
    off = x - bench.bias
    quadratic = (off * torch.linalg.solve(cov, off.T).T).sum(1)
    return -0.5 * (quadratic + torch.linalg.slogdet(cov)[1] + p * math.log(2 * math.pi))


def evidence_low_rank(bench, x):
    from torch.distributions import LowRankMultivariateNormal

    diagonal = torch.full_like(bench.bias, bench.sigma**2)
    return LowRankMultivariateNormal(bench.bias, bench.weight, diagonal).log_prob(x)


def evidence_averaged(bench, x):
    return right("vae/evidence")(bench, x).mean()


def evidence_by_draws(bench, x):
    z = torch.randn(500, bench.weight.shape[1], dtype=x.dtype)
    return torch.stack([bench.log_likelihood(row.expand(500, -1), z).logsumexp(0) - math.log(500) for row in x])


def posterior_by_solving(bench, x):
    """The mean from the images' covariance, the other formula that books have."""
    w, p = bench.weight, len(bench.bias)
    evidence = w @ w.T + bench.sigma**2 * torch.eye(p, dtype=x.dtype)
    gain = torch.linalg.solve(evidence, w).T
    return (gain @ (x - bench.bias).T).T, torch.eye(w.shape[1], dtype=x.dtype) - gain @ w


def posterior_image_by_image(bench, x):
    d = bench.weight.shape[1]
    precision = torch.eye(d).to(x) + bench.weight.T @ bench.weight / bench.sigma**2
    rows = [torch.linalg.solve(precision, bench.weight.T @ (row - bench.bias)) / bench.sigma**2 for row in x]
    return torch.stack(rows), precision.inverse()


def posterior_as_a_list(bench, x):
    return list(right("vae/posterior")(bench, x))


def posterior_of_one_image(bench, x):
    mean, cov = right("vae/posterior")(bench, x)
    return mean[:1].expand_as(mean), cov


def posterior_prior_variance(bench, x):
    d = bench.weight.shape[1]
    cov = torch.linalg.inv(bench.sigma**2 * torch.eye(d, dtype=x.dtype) + bench.weight.T @ bench.weight)
    return (x - bench.bias) @ bench.weight @ cov, cov


def bound_by_eigenvalues(bench, x, mean, cov):
    """The spread draw by draw along the axes of the proposal."""
    values, axes = torch.linalg.eigh(cov)
    moved = bench.weight @ (axes * values.sqrt())
    residual = x - bench.bias - mean @ bench.weight.T
    squares = residual.square().sum(1) + moved.square().sum()
    p = x.shape[1]
    reconstruction = squares / (2 * bench.sigma**2) + p * math.log(bench.sigma * math.sqrt(2 * math.pi))
    kl = 0.5 * (values.sum() + mean.square().sum(1) - mean.shape[1] - values.log().sum())
    return reconstruction, kl


def bound_by_einsum(bench, x, mean, cov):
    w = bench.weight
    spread = torch.einsum("pi,ij,pj->", w, cov, w) / (2 * bench.sigma**2)
    eye = torch.eye(len(cov), dtype=cov.dtype)
    pairs = [gaussian_kl(m[None], cov[None], 0 * m[None], eye[None]) for m in mean]
    return spread - bench.log_likelihood(x, mean), torch.cat(pairs)


def bound_one_number(bench, x, mean, cov):
    return sum(right("vae/exact-bound")(bench, x, mean, cov))


def bound_by_draws(bench, x, mean, cov):
    z = MultivariateNormal(mean, cov).sample((400,))
    costs = torch.stack([-bench.log_likelihood(x, draw) for draw in z])
    return costs.mean(0), right("vae/exact-bound")(bench, x, mean, cov)[1]


def bound_kl_of_the_batch(bench, x, mean, cov):
    reconstruction, kl = right("vae/exact-bound")(bench, x, mean, cov)
    return reconstruction, kl.mean().expand_as(kl)


def gap_by_distributions(bench, x, mean, cov):
    true_mean, true_cov = posterior_by_solving(bench, x)
    return kl_divergence(MultivariateNormal(mean, cov), MultivariateNormal(true_mean, 0.5 * (true_cov + true_cov.T)))


def gap_as_what_is_left(bench, x, mean, cov):
    """ln p(x) − ELBO, straight from (2.2)."""
    p = len(bench.bias)
    evidence = MultivariateNormal(bench.bias, bench.weight @ bench.weight.T + bench.sigma**2 * torch.eye(p).double())
    return evidence.log_prob(x) + sum(bound_by_eigenvalues(bench, x, mean, cov))


def gap_of_the_means(bench, x, mean, cov):
    true_mean, _ = right("vae/posterior")(bench, x)
    return 0.5 * (mean - true_mean).square().sum(1)


def gap_of_the_first(bench, x, mean, cov):
    return right("vae/gap")(bench, x, mean, cov)[:1].expand(len(x))


# ------------------------------------------------------------------------------------------------- two estimators


def score_by_autograd(f, mean, log_var, noise):
    """∇ ln q by differentiating the density, not by hand."""
    values = []
    for row in noise:
        mu = mean.clone().requires_grad_()
        z = (mean + (0.5 * log_var).exp() * row).detach()
        log_q = Normal(mu, (0.5 * log_var).exp()).log_prob(z).sum()
        values.append(f(z[None]) * torch.autograd.grad(log_q, mu)[0])
    return torch.stack(values)


def score_by_einsum(f, mean, log_var, noise):
    sigma = torch.exp(log_var / 2)
    return torch.einsum("n,nd->nd", f(mean + sigma * noise), noise / sigma)


def score_with_baseline(f, mean, log_var, noise):
    sigma = (0.5 * log_var).exp()
    values = f(mean + sigma * noise)
    return (values - values.mean())[:, None] * noise / sigma


def moved_by_the_mean(f, mean, log_var, noise):
    """One backward pass per draw, by μ itself."""
    rows = []
    for row in noise:
        mu = mean.detach().clone().requires_grad_(True)
        value = f((mu + (0.5 * log_var).exp() * row)[None])[0]
        value.backward()
        rows.append(mu.grad)
    return torch.stack(rows)


def moved_by_expanding(f, mean, log_var, noise):
    mu = mean.expand_as(noise).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(mu + torch.exp(0.5 * log_var) * noise).sum(), mu)
    return gradient


def moved_by_jacrev(f, mean, log_var, noise):
    z = mean + (0.5 * log_var).exp() * noise
    return torch.stack([torch.func.grad(lambda row: f(row[None])[0])(each) for each in z])


def moved_by_differences(f, mean, log_var, noise):
    z, step = mean + (0.5 * log_var).exp() * noise, 0.05
    columns = [(f(z + step * e) - f(z)) / step for e in torch.eye(len(mean), dtype=z.dtype)]
    return torch.stack(columns, dim=1)


def moved_mean_of_all(f, mean, log_var, noise):
    mu = mean.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(mu + (0.5 * log_var).exp() * noise).mean(), mu)
    return gradient.expand_as(noise)


# ------------------------------------------------------------------------------------------------- likelihoods


def nll_by_distributions(x, mean, log_sigma):
    return -Normal(mean, log_sigma.exp()).log_prob(x).flatten(1).sum(1)


def nll_term_by_term(x, mean, log_sigma):
    p = x[0].numel()
    squares = (x - mean).pow(2).reshape(len(x), -1).sum(-1)
    return squares / (2 * torch.exp(2 * log_sigma)) + p * log_sigma + p / 2 * math.log(2 * math.pi)


def nll_sigma_detached(x, mean, log_sigma):
    return right("vae/gaussian-nll")(x, mean, log_sigma.detach())


def nll_mean_over_batch(x, mean, log_sigma):
    return right("vae/gaussian-nll")(x, mean, log_sigma).mean()


def nll_not_halved(x, mean, log_sigma):
    return ((x - mean).square() / log_sigma.exp() ** 2 + log_sigma + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


def sigma_by_norm(x, mean):
    return torch.log(torch.linalg.vector_norm(x - mean) / math.sqrt(x.numel()))


def sigma_by_loss(x, mean):
    return nn.functional.mse_loss(mean, x).sqrt().log()


def sigma_by_images(x, mean):
    return 0.5 * (x - mean).square().flatten(1).mean(1).log().mean()


def sigma_each_image(x, mean):
    return 0.5 * (x - mean).square().flatten(1).mean(1).log()


def sigma_max(x, mean):
    return (x - mean).abs().max().log()


# ------------------------------------------------------------------------------------------------- the model in stages


class EncoderTwoHeads(nn.Module):
    """Two linear layers, one for the means and one for the log-variances; layers by name."""

    def __init__(self, shape, latent, width=32):
        super().__init__()
        self.down1 = nn.Conv2d(shape[0], width, kernel_size=4, stride=2, padding=1)
        self.down2 = nn.Conv2d(width, width, kernel_size=4, stride=2, padding=1)
        size = width * (shape[1] // 2 // 2) * (shape[2] // 2 // 2)
        self.to_mean, self.to_log_var = nn.Linear(size, latent), nn.Linear(size, latent)

    def forward(self, images):
        h = torch.relu(self.down1(images))
        h = nn.functional.relu(self.down2(h), inplace=True).flatten(start_dim=1)
        return self.to_mean(h).float(), self.to_log_var(h).float()


class EncoderLazy(nn.Module):
    """PyTorch finds the sizes."""

    def __init__(self, shape, latent, width=32):
        super().__init__()
        self.latent = latent
        self.convolutions = nn.ModuleList([nn.LazyConv2d(width, 4, 2, 1), nn.LazyConv2d(width, 4, 2, 1)])
        self.head = nn.LazyLinear(2 * latent)

    def forward(self, x):
        for convolution in self.convolutions:
            x = convolution(x).relu()
        out = self.head(x.reshape(len(x), -1)).to(torch.float32)
        return out[:, : self.latent], out[:, self.latent :]


class EncoderAsSequential(nn.Sequential):
    def __init__(self, shape, latent, width=32):
        with torch.no_grad():
            layers = []
            for channels in (shape[0], width):
                layers += [nn.Conv2d(channels, width, 4, 2, 1), nn.ReLU()]
            body = nn.Sequential(*layers, nn.Flatten())
            super().__init__(body, nn.Linear(body(torch.zeros(1, *shape)).shape[1], 2 * latent))

    def forward(self, x):
        return torch.split(super().forward(x).float(), self[1].out_features // 2, dim=1)


class EncoderKernel3(nn.Module):
    def __init__(self, shape, latent, width=32):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(shape[0], width, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(2 * latent),
        )

    def forward(self, x):
        return self.body(x).float().chunk(2, dim=1)


class EncoderDetached(EncoderTwoHeads):
    def forward(self, images):
        h = torch.relu(self.down2(torch.relu(self.down1(images)))).flatten(1)
        return self.to_mean(h).float(), self.to_log_var(h.detach()).float()


class EncoderOneTensor(EncoderTwoHeads):
    def forward(self, images):
        return torch.cat(super().forward(images), 1), torch.cat(super().forward(images), 1)


class EncoderReluTwice(EncoderTwoHeads):
    def forward(self, images):
        mean, log_var = super().forward(images)
        return mean, log_var.relu()


class EncoderShuffled(nn.Module):
    """Pixels before channels when everything is laid flat: a network as good, but another one."""

    def __init__(self, shape, latent, width=32):
        super().__init__()
        self.inner = EncoderTwoHeads(shape, latent, width)

    def forward(self, images):
        inner = self.inner
        h = torch.relu(inner.down2(torch.relu(inner.down1(images)))).sigmoid().flatten(1)
        return inner.to_mean(h).float(), inner.to_log_var(h).float()


class DecoderByName(nn.Module):
    def __init__(self, shape, latent, width=32):
        super().__init__()
        self.size = (width, shape[1] // 4, shape[2] // 4)
        self.dense = nn.Linear(latent, math.prod(self.size))
        self.up1 = nn.ConvTranspose2d(width, width, kernel_size=4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(width, shape[0], kernel_size=4, stride=2, padding=1)

    def forward(self, code):
        h = self.dense(code).relu().view(-1, *self.size)
        return self.up2(torch.relu_(self.up1(h))).float()


class DecoderLists(nn.Module):
    def __init__(self, shape, latent, width=32):
        super().__init__()
        c, h, w = shape
        ups = [nn.ConvTranspose2d(a, b, (4, 4), (2, 2), (1, 1)) for a, b in ((width, width), (width, c))]
        self.first, self.ups = nn.LazyLinear(width * h * w // 16), nn.ModuleList(ups)
        self.small = (h // 4, w // 4)

    def forward(self, z):
        x = nn.functional.relu(self.first(z)).unflatten(1, (-1, *self.small))
        for k, up in enumerate(self.ups):
            x = up(x)
            x = x if k else x.clamp(min=0)
        return x.to(torch.float32)


class DecoderUpsampled(nn.Module):
    def __init__(self, shape, latent, width=32):
        super().__init__()
        c, h, w = shape
        self.body = nn.Sequential(
            nn.Linear(latent, width * (h // 4) * (w // 4)),
            nn.ReLU(),
            nn.Unflatten(1, (width, h // 4, w // 4)),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, c, 3, padding=1),
        )

    def forward(self, z):
        return self.body(z).float()


class DecoderTurned(DecoderByName):
    """h and w exchanged: squares would hide it."""

    def __init__(self, shape, latent, width=32):
        super().__init__(shape, latent, width)
        self.size = (width, shape[2] // 4, shape[1] // 4)

    def forward(self, code):
        return super().forward(code).mT


class DecoderOneRelu(DecoderByName):
    def forward(self, code):
        return self.up2(self.up1(self.dense(code).relu().view(-1, *self.size))).float()


class VAEWritten(nn.Module):
    """All in one class, other names inside, the mean image by tanh."""

    def __init__(self, shape, latent, width=32):
        super().__init__()
        self.latent = latent
        self.q, self.p = EncoderTwoHeads(shape, latent, width), DecoderByName(shape, latent, width)

    def encode(self, x):
        return self.q(x)

    def logits(self, z):
        return self.p(z)

    def decode(self, z):
        return torch.tanh(0.5 * self.p(z))

    def nll(self, x, z):
        white = (x + 1) / 2
        costs = nn.functional.binary_cross_entropy_with_logits(self.p(z), white, reduction="none")
        return costs.sum(dim=(1, 2, 3))

    def sample(self, n, generator=None):
        z = torch.empty(n, self.latent, device=self.p.dense.weight.device).normal_(generator=generator)
        with torch.no_grad():
            return self.decode(z)


class VAEBySubclass(right("vae/class")):
    def sample(self, n, generator=None):
        like = next(iter(self.parameters()))
        z = torch.randn((n, self.latent), generator=generator, device=like.device, dtype=torch.float32)
        return self.decode(z).detach()


class VAEWithGradient(right("vae/class")):
    def sample(self, n, generator=None):
        return self.decode(torch.randn(n, self.latent, generator=generator))


class VAESquaredError(right("vae/class")):
    def nll(self, x, z):
        return (self.decode(z) - x).square().flatten(1).sum(1)


class VAELogits(right("vae/class")):
    def decode(self, z):
        return self.logits(z)


class VAEDraws(right("vae/class")):
    def decode(self, z):
        return 2 * torch.bernoulli(torch.sigmoid(self.logits(z))) - 1


def loss_in_steps(weight=1.0):
    def step(model, images, labels, rng):
        mean, log_var = model.encode(images)
        epsilon = torch.empty_like(mean).normal_(generator=rng)
        pixels = model.nll(images, mean + (log_var / 2).exp() * epsilon).mean()
        nats = kl_by_hand(mean, log_var).mean()
        return pixels + weight * nats, {"kl": nats, "reconstruction": pixels}

    return step


class LossObject:
    def __init__(self, beta=1.0):
        self.beta = beta

    def __call__(self, model, x, y, generator):
        noise = torch.randn((len(x), model.latent), generator=generator, device=x.device)
        costs = torch.stack(elbo_written_out(model, x, noise))
        r, k = costs.mean(1)
        return r + self.beta * k, {"reconstruction": r, "kl": k}


def loss_terms_detached_total(beta):
    def loss(model, x, y, generator):
        value, terms = right("vae/loss")(beta)(model, x, y, generator)
        return value.detach(), terms

    return loss


def loss_terms_weighed(beta):
    def loss(model, x, y, generator):
        value, terms = right("vae/loss")(beta)(model, x, y, generator)
        return value, terms | {"kl": beta * terms["kl"]}

    return loss


def loss_of_the_elbo(beta):
    def loss(model, x, y, generator):
        value, terms = right("vae/loss")(beta)(model, x, y, generator)
        return -value, terms

    return loss


def loss_per_image(beta):
    def loss(model, x, y, generator):
        noise = torch.randn(len(x), model.latent, generator=generator, device=x.device)
        reconstruction, kl = elbo_written_out(model, x, noise)
        return reconstruction + beta * kl, {"reconstruction": reconstruction.mean(), "kl": kl.mean()}

    return loss


# ------------------------------------------------------------------------------------------------- somebody else's loss


def hunted(weight=1.0, reported=1.0, pixels=lambda costs: costs.flatten(1).sum(1)):
    """The function that is handed out, with what a student may put into it."""

    def loss(model, x, y, generator):
        mean, log_var = model.encode(x)
        epsilon = torch.randn(mean.shape, generator=generator, device=mean.device)
        z = mean + torch.exp(0.5 * log_var) * epsilon
        costs = nn.functional.binary_cross_entropy_with_logits(model.logits(z), (x + 1) / 2, reduction="none")
        reconstruction = pixels(costs)
        kl = kl_by_hand(mean, log_var)
        total = (reconstruction + weight * kl).mean()
        return total, {"reconstruction": reconstruction.mean(), "kl": reported * kl.mean()}

    return loss


def hunted_by_latents(model, x, y, generator):
    """The mean, times the number of latents."""
    mean, log_var = model.encode(x)
    epsilon = torch.randn(mean.shape, generator=generator, device=mean.device)
    reconstruction = model.nll(x, mean + torch.exp(0.5 * log_var) * epsilon)
    kl = -0.5 * (1 + log_var - mean.square() - log_var.exp()).mean(dim=1) * mean.shape[1]
    return reconstruction.mean() + kl.mean(), {"kl": kl.mean(), "reconstruction": reconstruction.mean()}


# ------------------------------------------------------------------------------------------------- weights, distances


def weights_by_distributions(model, x, noise):
    mean, log_var = model.encode(x)
    q = Normal(mean, (0.5 * log_var).exp())
    rows = []
    for epsilon in noise:
        z = q.loc + q.scale * epsilon
        rows.append(Normal(0.0, 1.0).log_prob(z).sum(1) - q.log_prob(z).sum(1) - model.nll(x, z))
    return torch.stack(rows)


def weights_in_one_call(model, x, noise):
    k, b, d = noise.shape
    mean, log_var = model.encode(x)
    z = mean + (log_var / 2).exp() * noise
    nll = model.nll(x.repeat(k, 1, 1, 1), z.reshape(k * b, d)).reshape(k, b)
    return (0.5 * (noise**2 + log_var - z**2)).sum(-1) - nll


def weights_averaged(model, x, noise):
    return weights_in_one_call(model, x, noise).mean(0)


def weights_prior_of_noise(model, x, noise):
    mean, log_var = model.encode(x)
    z = mean + (log_var / 2).exp() * noise
    nll = torch.stack([model.nll(x, draw) for draw in z])
    return 0.5 * log_var.sum(1) - nll


def weights_turned(model, x, noise):
    return weights_in_one_call(model, x, noise).T


def frechet_by_scipy(a, b):
    from scipy.linalg import sqrtm

    a, b = a.double().numpy(), b.double().numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(cov_a @ cov_b))
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a + cov_b - 2 * root))


def frechet_by_symmetric_roots(a, b):
    def moments(features):
        features = features.to(torch.float64)
        mean = features.mean(0)
        return mean, (features - mean).T @ (features - mean) / (len(features) - 1)

    (m, s), (n, t) = moments(a), moments(b)
    values, axes = torch.linalg.eigh(s)
    root = axes @ torch.diag(values.clamp(min=0).sqrt()) @ axes.T
    cross = torch.linalg.eigvalsh(root @ t @ root).clamp(min=0).sqrt().sum()
    return float(((m - n) ** 2).sum() + s.trace() + t.trace() - 2 * cross)


def frechet_by_singular_values(a, b):
    """Without any covariance: the nuclear norm of the product of the centred features."""
    a, b = a.double(), b.double()
    x, y = ((f - f.mean(0)) / math.sqrt(len(f) - 1) for f in (a, b))
    cross = torch.linalg.matrix_norm(x @ y.T, "nuc")
    return ((a.mean(0) - b.mean(0)).square().sum() + x.square().sum() + y.square().sum() - 2 * cross).item()


def frechet_divided_by_n(a, b):
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T, correction=0), torch.cov(b.T, correction=0)
    cross = torch.linalg.eigvals(cov_a @ cov_b).sqrt().real.sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross).item()


def frechet_not_centred(a, b):
    """Second moments for covariances: the means count twice."""
    a, b = a.double(), b.double()
    of_a, of_b = a.T @ a / (len(a) - 1), b.T @ b / (len(b) - 1)
    cross = torch.linalg.eigvals(of_a @ of_b).sqrt().real.sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + of_a.trace() + of_b.trace() - 2 * cross).item()


def frechet_added(a, b):
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    cross = torch.linalg.eigvals(cov_a @ cov_b).sqrt().real.sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() + 2 * cross).item()


def active_by_hand(means, threshold=0.01):
    centred = means - means.mean(dim=0, keepdim=True)
    return torch.gt((centred**2).sum(0) / (len(means) - 1), threshold)


def active_latent_by_latent(means, threshold=0.01):
    return torch.stack([column.var() > threshold for column in means.unbind(1)])


MUTANTS = {
    "vae/evidence": {
        "averaged": evidence_averaged,
        "by blind draws": evidence_by_draws,
        "the density itself": lambda bench, x: right("vae/evidence")(bench, x).exp(),
    },
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
    "vae/posterior": {
        "a list": posterior_as_a_list,
        "one image for all": posterior_of_one_image,
        "σ² I in place of I": posterior_prior_variance,
        "the variances only": lambda bench, x: (
            right("vae/posterior")(bench, x)[0],
            right("vae/posterior")(bench, x)[1].diagonal(),
        ),
    },
    "vae/exact-bound": {
        "one number": bound_one_number,
        "by draws": bound_by_draws,
        "one KL for the batch": bound_kl_of_the_batch,
        "exchanged": lambda *given: right("vae/exact-bound")(*given)[::-1],
    },
    "vae/gap": {
        "distance of the means": gap_of_the_means,
        "the first image's": gap_of_the_first,
        "in bits": lambda *given: right("vae/gap")(*given) / math.log(2),
    },
    "vae/score-function": {
        "a baseline": score_with_baseline,
        "the noise alone": lambda f, m, v, e: e / (0.5 * v).exp() + 0 * f(m + e)[:, None],
        "sign": lambda f, m, v, e: -right("vae/score-function")(f, m, v, e),
        "divided by n": lambda f, m, v, e: right("vae/score-function")(f, m, v, e) / (len(e) + 1),
    },
    "vae/reparameterized": {
        "wide differences": moved_by_differences,
        "one gradient for all": moved_mean_of_all,
        "sign": lambda f, m, v, e: -right("vae/reparameterized")(f, m, v, e),
    },
    "vae/gaussian-nll": {
        "σ detached": nll_sigma_detached,
        "averaged over the batch": nll_mean_over_batch,
        "not halved": nll_not_halved,
        "sign": lambda *given: -right("vae/gaussian-nll")(*given),
    },
    "vae/best-sigma": {
        "averaged over images after the logarithm": sigma_by_images,
        "one per image": sigma_each_image,
        "the largest error": sigma_max,
        "minus": lambda x, mean: -right("vae/best-sigma")(x, mean),
    },
    "vae/encoder": {
        "kernel 3": EncoderKernel3,
        "half detached": EncoderDetached,
        "all outputs twice": EncoderOneTensor,
        "no variance below 1": EncoderReluTwice,
        "sigmoid before the head": EncoderShuffled,
    },
    "vae/decoder": {
        "upsampling": DecoderUpsampled,
        "h and w exchanged": DecoderTurned,
        "one ReLU forgotten": DecoderOneRelu,
    },
    "vae/class": {
        "samples with a gradient": VAEWithGradient,
        "squared error": VAESquaredError,
        "decode gives logits": VAELogits,
        "decode draws": VAEDraws,
    },
    "vae/loss": {
        "detached": loss_terms_detached_total,
        "weighed KL reported": loss_terms_weighed,
        "the bound, not minus it": loss_of_the_elbo,
        "one loss per image": loss_per_image,
    },
    "vae/log-weights": {
        "averaged over draws": weights_averaged,
        "prior of the noise": weights_prior_of_noise,
        "images first": weights_turned,
    },
    "vae/tutorial-loss": {
        "the KL doubled": hunted(weight=2.0, reported=2.0),
        "the KL left out": hunted(weight=0.0),
        "a hundred times": hunted(weight=100.0, reported=100.0),
        "pixels averaged instead": hunted(pixels=lambda costs: costs.flatten(1).mean(1)),
        "only the largest pixel": hunted(pixels=lambda costs: costs.flatten(1).amax(1)),
    },
    "vae/frechet": {
        "covariances divided by n": frechet_divided_by_n,
        "covariances without centring": frechet_not_centred,
        "added": frechet_added,
        "a tensor": lambda a, b: torch.tensor([right("vae/frechet")(a, b)]),
        "twice": lambda a, b: 2 * right("vae/frechet")(a, b),
    },
    "vae/active": {
        "at least half": lambda means, threshold=0.01: means.var(0) > threshold / 2,
        "largest mean": lambda means, threshold=0.01: means.abs().amax(0) > threshold,
        "always 0.01": lambda means, threshold=0.01: means.var(0) > 0.01,
        "the silent ones": lambda means, threshold=0.01: means.var(0) <= threshold,
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
    "vae/evidence": {
        "by hand": evidence_by_hand,
        "low rank": evidence_low_rank,
    },
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
    "vae/posterior": {
        "through the images' covariance": posterior_by_solving,
        "image by image": posterior_image_by_image,
    },
    "vae/exact-bound": {
        "along the axes of q": bound_by_eigenvalues,
        "einsum": bound_by_einsum,
    },
    "vae/gap": {
        "torch.distributions": gap_by_distributions,
        "what is left of the evidence": gap_as_what_is_left,
    },
    "vae/score-function": {
        "autograd of ln q": score_by_autograd,
        "einsum": score_by_einsum,
    },
    "vae/reparameterized": {
        "draw by draw": moved_by_the_mean,
        "a mean for each draw": moved_by_expanding,
        "torch.func.grad": moved_by_jacrev,
    },
    "vae/gaussian-nll": {
        "torch.distributions": nll_by_distributions,
        "term by term": nll_term_by_term,
    },
    "vae/best-sigma": {
        "a norm": sigma_by_norm,
        "mse_loss": sigma_by_loss,
    },
    "vae/encoder": {
        "two heads": EncoderTwoHeads,
        "lazy sizes": EncoderLazy,
        "a Sequential that measures itself": EncoderAsSequential,
    },
    "vae/decoder": {
        "layers by name": DecoderByName,
        "a list of layers": DecoderLists,
    },
    "vae/class": {
        "all written out, other names": VAEWritten,
        "detached samples": VAEBySubclass,
    },
    "vae/loss": {
        "means first": loss_in_steps,
        "a class": LossObject,
    },
    "vae/log-weights": {
        "torch.distributions": weights_by_distributions,
        "in one call": weights_in_one_call,
    },
    "vae/tutorial-loss": {
        "repaired": hunted(),
        "mean times count": hunted_by_latents,
    },
    "vae/frechet": {
        "scipy": frechet_by_scipy,
        "symmetric roots": frechet_by_symmetric_roots,
        "singular values": frechet_by_singular_values,
    },
    "vae/active": {
        "by hand": active_by_hand,
        "latent by latent": active_latent_by_latent,
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
