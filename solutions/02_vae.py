# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · The variational autoencoder and its bound
#
# The autoencoder of notebook 01 rebuilt images well and could not invent any: its codes lay wherever training had left them,
# and nobody could say where to draw a new one. This notebook starts from the other end. We *decide* where codes lie,
# write down the probability of an image under that decision, and find that it is an integral nobody can do.
# The way round that integral is the bound on which the VAE is trained, and from which the loss of diffusion models will be derived.
#
# **What you will be able to do**
# * say why $p(x)$ of a latent-variable model is out of reach, and show the obvious estimate of it failing;
# * derive the evidence lower bound in two ways and check every term against a model that can be solved by hand;
# * derive and write the KL divergence of two Gaussians, the reparameterization trick, the bound itself, and a tighter one;
# * train a VAE, read both terms of its loss in nats, and tell a collapsed latent from a working one;
# * solve a published mystery: why a VAE with 100 latents made worse samples than one with 2.
#
# **Before you start:** notebook 01 (encoder, decoder, Bernoulli likelihood), and what a density, a covariance and an expectation are.
#
# {{budget}}
#
# The text describes what you see at effort `cpu` or above, on Fashion-MNIST. At `smoke` the networks are hardly trained: everything runs, and what is printed is true of that run, but sentences about pictures don't hold.

# %% tags=["setup"]
import math

import torch
from torch import nn
from torch.distributions import MultivariateNormal

from course_utils import plots, setup
from course_utils.arrays import normal_like
from course_utils.data import load
from course_utils.device import seeded
from course_utils.explore import choice, explore, log_slider, slider
from course_utils.metrics import frechet_distance
from course_utils.models.autoencoder import PCA, bernoulli_nll
from course_utils.models.blocks import Decoder, Encoder
from course_utils.models.vae import (
    VAE,
    LinearGaussian,
    active_units,
    dequantise,
    encode_all,
    gaussian_nll,
    log_weights,
    reparameterized_gradient,
    score_function_gradient,
)
from classroom import ask, check, predict, reveal
from course_utils.training import fit, steps_made, until_stopped

lab = setup("02")

# %%
train = load(lab.data, "train", device=lab.device, fallback="digits")
test = load(lab.data, "test", device=lab.device, fallback="digits")
test = test.first(lab.pick(smoke=100, cpu=1000, gpu=5000))
print(
    f"{train.title}: {len(train):,} images to train on, {len(test):,} to measure on, each {train.shape}, in [-1, 1]"
)

# %% [markdown]
# ## 2.1 · What does an image cost?
#
# Here is a story about where images come from. First a code is drawn from a distribution that we choose once and for all,
# the **prior** $p(z) = \mathcal N(0, I)$. Then a **decoder** turns it into a distribution over images, $p(x\mid z)$, and the image is drawn from that.
# Sampling is now trivial: it is the story itself. What we gave up is knowing the code of an image. To say how probable an image is,
# we must consider every code that could have made it:
#
# $$p(x) = \int p(x\mid z)\,p(z)\,dz .$$
#
# With a neural network inside $p(x\mid z)$ this integral has no closed form, and a grid with ten points an axis has $10^{100}$ points when $z$ has 100 entries.
# But an integral against a density is an average, and averages can be sampled: draw $z_1,\dots,z_K$ from the prior and take the mean of $p(x\mid z_i)$.
# That estimate is unbiased. Is it any good?
#
# We need a model whose $p(x)$ we know. If the decoder is linear, $x = Wz + b + \sigma\varepsilon$, everything is Gaussian:
# $x\sim\mathcal N(b,\,WW^\top+\sigma^2 I)$, and so is the posterior $p(z\mid x)$. This **linear-Gaussian model** is our test bench for the whole notebook.


# %%
def linear_model(latents, pixels=30, sigma=0.3):
    generator = torch.Generator().manual_seed(latents)
    weight = torch.randn(pixels, latents, generator=generator, dtype=torch.float64) / math.sqrt(latents)
    return LinearGaussian(weight, torch.zeros(pixels, dtype=torch.float64), sigma)


def naive_log_evidence(model, x, draws, generator):
    """ln of the mean of p(x|z) over draws of z from the prior; also how many of the draws matter, (Σw)² / Σw²."""
    z = torch.randn(draws, model.weight.shape[1], generator=generator, dtype=x.dtype)
    log_w = model.log_likelihood(x.expand(draws, -1), z)
    effective = (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()
    return (log_w.logsumexp(0) - math.log(draws)).item(), effective.item()


generator = lab.generator(1, "cpu")
sizes, draws, repeats = (1, 2, 3, 5, 8, 12, 20), 1000, 50
errors = {}
print(f"{draws} draws from the prior, {repeats} repetitions, error in nats (0 would be right)")
for latents in sizes:
    bench = linear_model(latents)
    images, _ = bench.sample(repeats, generator)  # a new image for every repetition
    estimates, effective = zip(*[naive_log_evidence(bench, x[None], draws, generator) for x in images])
    errors[latents] = sorted((torch.tensor(estimates) - bench.log_evidence(images)).tolist())
    middle, share = errors[latents][repeats // 2], sorted(effective)[repeats // 2]
    print(
        f"  {latents:3d} latents: error {middle:9.2f} (median), draws that matter: {share:6.1f} of {draws}"
    )

figure = plots.curves(
    {"naive estimate − ln p(x)": (sizes, [errors[d][repeats // 2] for d in sizes])},
    band={"naive estimate − ln p(x)": ([errors[d][1] for d in sizes], [errors[d][-2] for d in sizes])},
    title="Blind draws serve a few latents, then miss p(x) altogether",
    x_label="number of latents",
    y_label="error (nats)",
    mark={"right answer": (None, 0)},
)
figure.axes[0].set_xticks(sizes)
figure

# %% [markdown]
# With one latent, several dozen of a thousand draws matter (the count is the *effective sample size*), and that is enough. With twenty, practically none does:
# the average is carried by a single lucky draw ("draws that matter" near 1), and since luck of the needed size hardly ever comes, the estimate
# sits far too low nearly always. It is unbiased all the same: once in an astronomical number of repetitions it would be enormous.
# An estimator whose mean is right and whose variance is hopeless is of no use for training.
#
# The remedy is in the diagnosis. Don't draw codes blindly; look at the image, and draw codes that could have made it.

# %% [markdown]
# ### {{heading vae/why-naive-fails}}
# {{question vae/why-naive-fails}}

# %% tags=["quiz"]
### BEGIN SOLUTION
why_naive_fails = "b"
### END SOLUTION
### BEGIN HANDED OUT
# why_naive_fails = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("vae/why-naive-fails", why_naive_fails)

# %% [markdown]
# ## 2.2 · A bound, twice
#
# Let $q(z\mid x)$ be *any* density over codes that may look at the image (and is positive wherever $p(x\mid z)\,p(z)$ is). In the VAE an **encoder** network will supply it.
#
# **First way: Jensen.** Multiply and divide by $q$ inside the integral, and it becomes an average over codes that $q$ proposes:
#
# $$\ln p(x) = \ln\int q(z\mid x)\,\frac{p(x\mid z)\,p(z)}{q(z\mid x)}\,dz
#            = \ln\,\mathbb E_{q}\!\left[\frac{p(x\mid z)\,p(z)}{q(z\mid x)}\right].$$
#
# The logarithm is concave, so the logarithm of a mean is at least the mean of the logarithm (Jensen's inequality):
#
# $$\ln p(x)\;\ge\;\mathbb E_{q}\big[\ln p(x\mid z) + \ln p(z) - \ln q(z\mid x)\big]
#   \;=\;\underbrace{\mathbb E_{q}\big[\ln p(x\mid z)\big]}_{-\text{reconstruction}}\;-\;\underbrace{\mathrm{KL}\big(q(z\mid x)\,\|\,p(z)\big)}_{\text{kl}}
#   \;=:\;\mathrm{ELBO}(x). \tag{2.1}$$
#
# The last step only collected two of the three logarithms, $\mathbb E_q[\ln q - \ln p(z)] = \mathrm{KL}(q\,\|\,p(z))$. Both terms are in nats per image.
# The first pays for what the code fails to say about the pixels, the second for what the code says at all.
#
# **Second way: an identity.** Jensen tells us that something is lost, not what. Start from Bayes' rule, $p(z\mid x) = p(x,z)/p(x)$, solved for the evidence:
# $\ln p(x) = \ln p(x,z) - \ln p(z\mid x)$. This holds at *every* $z$ (the left side does not even contain $z$), so we may average it over $q$. Add and subtract $\ln q$:
#
# $$\ln p(x) = \mathbb E_q\big[\ln p(x,z) - \ln q(z\mid x)\big] + \mathbb E_q\big[\ln q(z\mid x) - \ln p(z\mid x)\big]
#            = \mathrm{ELBO}(x) + \mathrm{KL}\big(q(z\mid x)\,\|\,p(z\mid x)\big). \tag{2.2}$$
#
# So what is lost is exactly the divergence of our proposal from the true posterior. A KL divergence is never negative, which proves the bound a second time,
# and it is zero only for $q = p(z\mid x)$: then the bound is tight.
#
# ### Does it hold?
# On the test bench every term of (2.2) has a closed form, so both sides can be computed without any sampling. We take four proposals, from careless to perfect.
# If (2.2) were wrong, the last two columns would differ. The line of draws below the table tests Jensen's expression (2.1): it should agree with the closed form within about three standard errors.

# %%
bench = linear_model(latents=3)
x, _ = bench.sample(4, generator)
post_mean, post_cov = bench.posterior(x)
eye = torch.eye(3, dtype=torch.float64)
proposals = {
    "the prior itself": (torch.zeros_like(post_mean), eye),
    "half-way to the posterior": (0.5 * post_mean, 0.5 * (eye + post_cov)),
    "right mean, too narrow": (post_mean, 0.1 * post_cov),
    "the posterior": (post_mean, post_cov),
}
columns = ("reconstr.", "KL(q‖p(z))", "ELBO", "KL(q‖p(z|x))", "ELBO + KL", "ln p(x)")
print(f"{'q(z|x), first image':25s}" + "".join(f"{name:>13s}" for name in columns))
worst = 0.0
for name, (mean, cov) in proposals.items():
    costs, gap, truth = bench.elbo(x, mean, cov), bench.gap(x, mean, cov), bench.log_evidence(x)
    worst = max(worst, (costs.bound + gap - truth).abs().max().item())
    row = (costs.reconstruction, costs.kl, costs.bound, gap.abs(), costs.bound + gap, truth)
    print(f"{name:25s}" + "".join(f"{value[0]:13.3f}" for value in row))
print(f"\nlargest difference of the two sides, all images and proposals: {worst:.1e} nats")

# the same bound by sampling, straight from Jensen's line: mean of ln p(x|z) + ln p(z) − ln q(z|x)
mean, cov = proposals["half-way to the posterior"]
q, prior = MultivariateNormal(mean[0], cov), MultivariateNormal(torch.zeros(3, dtype=torch.float64), eye)
with seeded(4):
    z = q.sample((100_000,))
terms = bench.log_likelihood(x[:1].expand(len(z), -1), z) + prior.log_prob(z) - q.log_prob(z)
print(
    f"half-way proposal by 100,000 draws: {terms.mean():.3f} ± {terms.std() / math.sqrt(len(z)):.3f}, "
    f"closed form {bench.elbo(x, mean, cov).bound[0]:.3f}"
)

# %% [markdown]
# The picture below slides $q$ from the prior (left) to the posterior (right). The evidence is a property of the model and doesn't move; the bound climbs towards it,
# and the shaded distance is the divergence of (2.2).

# %%
steps = torch.linspace(0, 1, 60, dtype=torch.float64)
bound = torch.stack([bench.elbo(x, t * post_mean, (1 - t) * eye + t * post_cov).bound[0] for t in steps])
figure, axes = plots.new_figure(8, 3.8)
level = bench.log_evidence(x)[0].item()
axes.fill_between(steps, bound, level, alpha=0.25, label="KL(q ‖ p(z|x)), what the bound loses")
axes.plot(steps, bound, label="ELBO")
axes.axhline(level, color="#222222", linestyle="--", label="ln p(x)")
axes.set(xlabel="q slides from the prior (0) to the posterior (1)", ylabel="nats")
axes.set_title("The bound rises to the evidence as q becomes the posterior")
axes.legend(loc="lower right")
figure.set_label(
    "The ELBO rises to the constant ln p(x) while the proposal slides from the prior to the posterior"
)
figure

# %% [markdown]
# ### {{heading vae/what-rises}}
# {{question vae/what-rises}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_rises = "c"
### END SOLUTION
### BEGIN HANDED OUT
# what_rises = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("vae/what-rises", what_rises)

# %% [markdown]
# ## 2.3 · The price of a code: KL between Gaussians
#
# The encoder will propose Gaussians, so the second term of the bound is a divergence of two Gaussians. It can be had exactly, in general.
# Let $q=\mathcal N(\mu_q,\Sigma_q)$ and $p=\mathcal N(\mu_p,\Sigma_p)$ in $d$ dimensions. Both logarithms have the form
#
# $$\ln\mathcal N(z;\mu,\Sigma) = -\tfrac d2\ln 2\pi - \tfrac12\ln\det\Sigma - \tfrac12 (z-\mu)^\top\Sigma^{-1}(z-\mu),$$
#
# and $\mathrm{KL}(q\,\|\,p)=\mathbb E_q[\ln q(z)-\ln p(z)]$ falls into three pieces; the $2\pi$ cancels.
#
# **Log-determinants.** They are constants: $\tfrac12\ln\det\Sigma_p-\tfrac12\ln\det\Sigma_q$.
#
# **The quadratic term of $q$.** A number is its own trace, and factors may rotate inside a trace, so
# $$\mathbb E_q\big[(z-\mu_q)^\top\Sigma_q^{-1}(z-\mu_q)\big]
#   = \operatorname{tr}\!\big(\Sigma_q^{-1}\,\mathbb E_q[(z-\mu_q)(z-\mu_q)^\top]\big) = \operatorname{tr}(\Sigma_q^{-1}\Sigma_q) = d .$$
#
# **The quadratic term of $p$.** Write $z-\mu_p=(z-\mu_q)+(\mu_q-\mu_p)$. The mixed term has mean zero, because $\mathbb E_q[z-\mu_q]=0$. What remains is
# $$\mathbb E_q\big[(z-\mu_p)^\top\Sigma_p^{-1}(z-\mu_p)\big] = \operatorname{tr}(\Sigma_p^{-1}\Sigma_q) + (\mu_q-\mu_p)^\top\Sigma_p^{-1}(\mu_q-\mu_p).$$
#
# Half of the second minus half of the first, together with the determinants:
#
# $$\mathrm{KL}(q\,\|\,p)=\frac12\Big[\ln\frac{\det\Sigma_p}{\det\Sigma_q} + \operatorname{tr}(\Sigma_p^{-1}\Sigma_q)
#   + (\mu_p-\mu_q)^\top\Sigma_p^{-1}(\mu_p-\mu_q) - d\Big]. \tag{2.3}$$

# %% [markdown]
# ### {{heading vae/gaussian-kl}}
# Write equation (2.3) for full covariance matrices, a batch at a time.


# %% tags=["quiz"]
def gaussian_kl(mean_q, cov_q, mean_p, cov_p):
    """KL(q ‖ p) of two Gaussians in nats, equation (2.3).

    mean_q, mean_p: (b, d);  cov_q, cov_p: (b, d, d), symmetric, positive definite.  Returns (b,).
    torch.linalg has `solve`, `slogdet`, `cholesky`; all of them work on batches.
    """
    ### BEGIN SOLUTION
    difference = (mean_p - mean_q).unsqueeze(-1)
    trace = torch.linalg.solve(cov_p, cov_q).diagonal(dim1=-2, dim2=-1).sum(-1)
    quadratic = (difference * torch.linalg.solve(cov_p, difference)).sum((-2, -1))
    log_det = torch.linalg.slogdet(cov_p).logabsdet - torch.linalg.slogdet(cov_q).logabsdet
    return 0.5 * (log_det + trace + quadratic - mean_q.shape[-1])
    ### END SOLUTION


# %% tags=["check"]
gaussian_kl = check("vae/gaussian-kl", gaussian_kl)

# %% [markdown]
# ### From the general to the usual
# The VAE's encoder proposes independent latents, $\Sigma_q=\operatorname{diag}(\sigma_1^2,\dots,\sigma_d^2)$, and the prior is $\mathcal N(0,I)$. Then $\ln\det\Sigma_p=0$,
# $\ln\det\Sigma_q=\sum_j\ln\sigma_j^2$, the trace is $\sum_j\sigma_j^2$, the quadratic term $\sum_j\mu_j^2$, and $d=\sum_j 1$:
#
# $$\mathrm{KL}\big(q(z\mid x)\,\|\,\mathcal N(0,I)\big)=\frac12\sum_{j=1}^{d}\big(\mu_j^2+\sigma_j^2-\ln\sigma_j^2-1\big). \tag{2.4}$$
#
# A **sum** over latents: each latent sends its own message, and messages add up. Keep an eye on that sum; it is where the mystery of 2.8 hides.
# The encoder will output $\mu$ and $\ln\sigma^2$ (`log_var`). Any real number is a legal $\ln\sigma^2$, so nothing has to be clipped.

# %% [markdown]
# ### {{heading vae/kl}}
# Write equation (2.4).


# %% tags=["quiz"]
def kl_to_standard_normal(mean, log_var):
    """KL(N(mean, diag exp(log_var)) ‖ N(0, I)) of each image in nats, equation (2.4).

    mean, log_var: (b, d), and log_var is ln σ².  Returns (b,).
    """
    ### BEGIN SOLUTION
    return 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum(dim=1)
    ### END SOLUTION


# %% tags=["check"]
kl_to_standard_normal = check("vae/kl", kl_to_standard_normal)

# %% [markdown]
# ### Does it hold?
# Three computations of one number: yours, PyTorch's, and an average of $\ln q(z)-\ln p(z)$ over draws, which knows nothing of the algebra above.

# %%
with seeded(3):
    mean, log_var = torch.randn(1, 5), torch.randn(1, 5)
    q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    z = q.sample((50_000,))
prior = torch.distributions.Normal(torch.zeros(1, 5), torch.ones(1, 5))
simulated = (q.log_prob(z) - prior.log_prob(z)).sum((1, 2))
print(f"(2.4)               {kl_to_standard_normal(mean, log_var).item():.4f} nats")
print(
    f"(2.3), full matrix  {gaussian_kl(mean, torch.diag_embed(log_var.exp()), torch.zeros(1, 5), torch.eye(5)[None]).item():.4f}"
)
print(f"torch.distributions {torch.distributions.kl_divergence(q, prior).sum().item():.4f}")
print(f"simulated           {simulated.mean():.4f} ± {simulated.std() / math.sqrt(len(z)):.4f}")

sigma = torch.linspace(0.05, 2.5, 200)
price = {
    f"μ = {m}": (sigma, kl_to_standard_normal(torch.full((200, 1), float(m)), 2 * sigma.log()[:, None]))
    for m in (0, 1, 2)
}
plots.curves(
    price,
    title="One latent is free only at μ = 0, σ = 1; precision is paid for in nats",
    x_label="σ of the proposal",
    y_label="KL (nats)",
)

# %% [markdown]
# ## 2.4 · A gradient through a random draw
#
# The bound contains $\mathbb E_{q}[f(z)]$ with $f(z)=\ln p(x\mid z)$, and the parameters of $q$ sit *inside the distribution* that is drawn from.
# How does one differentiate a mean with respect to where the draws come from? There are two answers.
#
# **Move the draw.** Write the draw as a fixed random number, shifted and stretched:
#
# $$z = \mu + \sigma\odot\varepsilon,\quad \varepsilon\sim\mathcal N(0,I)\qquad\Longrightarrow\qquad
#   \nabla_\mu\,\mathbb E[f(z)] = \mathbb E_\varepsilon\big[\nabla_z f(\mu+\sigma\odot\varepsilon)\big]. \tag{2.5}$$
#
# The randomness no longer depends on the parameters, so differentiation and expectation may change places, and the gradient goes into $f$. This is the **reparameterization trick**.
#
# **Weigh the draw.** Or leave the draw alone and differentiate its density, with $\nabla q = q\,\nabla\ln q$:
#
# $$\nabla_\mu\,\mathbb E_q[f(z)] = \int f(z)\,\nabla_\mu q(z)\,dz = \mathbb E_q\big[f(z)\,\nabla_\mu\ln q(z)\big]
#   = \mathbb E\Big[f(z)\,\frac{\varepsilon}{\sigma}\Big]. \tag{2.6}$$
#
# This is the **score-function estimator**, REINFORCE in reinforcement learning. It never differentiates $f$, so it also serves where $f$ has no gradient or $z$ is discrete.
# Both are unbiased. The question is what a single draw is worth.

# %% [markdown]
# ### {{heading vae/reparameterize}}
# Write the left half of (2.5). The noise is handed in, so that the result can be checked; in training it is drawn afresh for every image.


# %% tags=["quiz"]
def reparameterize(mean, log_var, noise):
    """z = μ + σ ⊙ ε, equation (2.5).

    mean, log_var, noise: (b, d);  log_var is ln σ²;  noise is standard normal.  Returns (b, d).
    """
    ### BEGIN SOLUTION
    return mean + (0.5 * log_var).exp() * noise
    ### END SOLUTION


# %% tags=["check"]
reparameterize = check("vae/reparameterize", reparameterize)

# %% [markdown]
# **Predict, then run.** Take $f(z)=-\tfrac12\lVert z-a\rVert^2$, a Gaussian log-likelihood, with 20 latents, $\mu=0$, $\sigma=1$ and $a=(1,\dots,1)$.
# The true gradient is $a-\mu$. How many times larger is the variance of the score-function estimate of one of its entries?

# %% tags=["predict"]
guess = predict(
    "vae/variance-ratio",
    "Variance of the score-function gradient ÷ variance of the reparameterized one, 20 latents",
    1,
    1000,
)


# %%
def f(z):
    return -0.5 * (z - 1).square().sum(dim=1)


cpu_generator = lab.generator(4, "cpu")
sizes = (1, 2, 5, 10, 20, 50, 100)
variance = {"score function (2.6)": [], "reparameterized (2.5)": []}
for d in sizes:
    mean, log_var, noise = (
        torch.zeros(d),
        torch.zeros(d),
        torch.randn(20_000, d, generator=cpu_generator),
    )
    for name, estimator in zip(variance, (score_function_gradient, reparameterized_gradient)):
        gradients = estimator(f, mean, log_var, noise)
        variance[name].append(gradients.var(dim=0).mean().item())
        if d == 20:
            standard_error = gradients[:, 0].std().item() / math.sqrt(len(noise))
            print(
                f"{name:22s} first entry {gradients[:, 0].mean():.3f} ± {standard_error:.3f} (true: 1), "
                f"variance of one draw {variance[name][-1]:.1f}"
            )
ratio = variance["score function (2.6)"][4] / variance["reparameterized (2.5)"][4]
plots.curves(
    {name: (sizes, v) for name, v in variance.items()},
    log_x=True,
    log_y=True,
    title="Both are right on average; only one is worth a draw",
    x_label="number of latents",
    y_label="variance of one entry's gradient",
)

# %%
reveal("vae/variance-ratio", round(ratio))

# %% [markdown]
# Both estimates agree with the true gradient within their errors. But the score function multiplies *the whole value* of $f$, to which every latent contributes, into every entry of the gradient:
# its variance grows with the square of the number of latents. The derivative of $f$ knows which latent did what. To get equally steady gradients, the score function would need
# as many draws per image as the ratio says. The VAE uses one.

# %% [markdown]
# ## 2.5 · What the decoder's likelihood says, and why it blurs
#
# The first term of the bound needs $\ln p(x\mid z)$, so the decoder must be a distribution. Two choices are common.
#
# **Bernoulli.** Each pixel in $[0,1]$ is treated as a coin with probability $\lambda$ = the decoder's output; the cost is the binary cross-entropy of (1.2).
#
# **Gaussian.** Each pixel is $\mathcal N(m_i,\sigma^2)$ around the decoder's output $m$:
#
# $$-\ln p(x\mid z) = \sum_{i=1}^{P}\Big[\frac{(x_i-m_i)^2}{2\sigma^2} + \ln\sigma + \tfrac12\ln 2\pi\Big]. \tag{2.7}$$
#
# With $\sigma$ fixed this is, up to a constant, the squared error divided by $2\sigma^2$: choosing $\sigma$ is choosing the exchange rate between squared error and KL. With $\sigma$ *learned*, set the derivative
# with respect to $\ln\sigma$ to zero: $P=\sum_i (x_i-m_i)^2/\sigma^2$, so the best $\sigma^2$ is the mean squared error itself. The model then sets its own exchange rate.
#
# Both have the same weakness. Suppose that several images share a code: their posteriors overlap, and the decoder cannot tell them apart. It must answer with *one* $m$.
# Minimising the expected squared error gives $m=\mathbb E[x\mid z]$, and so does minimising the expected cross-entropy
# $-\mathbb E[x]\ln\lambda-(1-\mathbb E[x])\ln(1-\lambda)$, whose derivative vanishes at $\lambda=\mathbb E[x]$. The mean of several sharp images is a blurred one.
#
# ### See it
# One image, shifted sideways by up to three pixels, all with the same code. We look for the best single answer by gradient descent under both likelihoods.

# %%
one = test.take(torch.tensor([0], device=lab.device)).cpu()
shifted = torch.cat([torch.roll(one, shift, dims=3) for shift in range(-3, 4)])


def best_single_image(cost):
    logits = torch.zeros_like(one, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in until_stopped(range(300)):
        optimizer.zero_grad()
        cost(logits.expand_as(shifted)).mean().backward()
        optimizer.step()
    return (logits.detach() / 2).tanh()


best = {
    "best Bernoulli": best_single_image(lambda logits: bernoulli_nll(logits, shifted)),
    "best Gaussian": best_single_image(lambda logits: gaussian_nll(shifted, (logits / 2).tanh(), 0.0)),
    "plain mean": shifted.mean(0, keepdim=True),
}
for name in ("best Bernoulli", "best Gaussian"):
    apart = (best[name] - best["plain mean"]).abs().max()
    print(f"{name:14s}: at most {apart:.3f} from the plain mean (pixels run from -1 to 1)")
log_sigmas = torch.linspace(-4, 1, 501)
cost = torch.stack(
    [gaussian_nll(shifted, best["plain mean"].expand_as(shifted), s.item()).mean() for s in log_sigmas]
)
rms = (shifted - best["plain mean"]).square().mean().sqrt()
print(
    f"best σ on a grid {log_sigmas[cost.argmin()].exp():.3f}, root of the mean squared error {rms:.3f}"
)
plots.image_grid(
    torch.cat([shifted[[0, 3, 6]], *best.values()]),
    columns=6,
    labels=["shifted by −3", "by 0", "by 3", *best],
    title=f"{test.title}: asked for one image, both likelihoods answer with the mean",
)

# %% [markdown]
# Nothing here was short of capacity or training. The blur is the *right answer* to the question that these likelihoods ask. Adversarial losses (08) and diffusion (03–07) ask a different one.

# %% [markdown]
# ### {{heading vae/why-blur}}
# {{question vae/why-blur}}

# %% tags=["quiz"]
### BEGIN SOLUTION
why_blur = "d"
### END SOLUTION
### BEGIN HANDED OUT
# why_blur = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("vae/why-blur", why_blur)

# %% [markdown]
# ### A word on grey values
# A Bernoulli variable is 0 or 1. Our pixels are grey, and $\lambda^x(1-\lambda)^{1-x}$ read as a density of $x\in[0,1]$ doesn't integrate to one. Loaiza-Ganem & Cunningham (2019) give the missing constant:
# the integral is $(2\lambda-1)/(\ln\lambda-\ln(1-\lambda))$, which lies between 0 and ½. We keep the Bernoulli cost, as nearly everyone does, because it trains well; it is a fair cost for comparing models on the same images.
# But the "nats" it prints are not a log-density of grey images. Two consequences are worth a computation: the constant, and the cost that even a *perfect* reconstruction pays.

# %%
grey = torch.linspace(0, 1, 2001, dtype=torch.float64)
rate = torch.linspace(
    0.005, 0.995, 199, dtype=torch.float64
)  # an even number of steps from 1/2, never exactly there
rate = rate[(rate - 0.5).abs() > 1e-6]
area = torch.trapezoid(rate[:, None] ** grey * (1 - rate[:, None]) ** (1 - grey), grey, dim=1)
closed = (2 * rate - 1) / (rate.log() - (1 - rate).log())
print(f"integral: numerical against closed form, largest difference {(area - closed).abs().max():.1e}")
x = (test.x.cpu() + 1) / 2
floor = torch.special.entr(x).add(torch.special.entr(1 - x)).flatten(1).sum(1)
print(f"{test.title}: a perfect reconstruction still costs {floor.mean():.1f} nats per image")
print(f"pixels that are exactly black or white: {((x == 0) | (x == 1)).float().mean():.0%}")
plots.curves(
    {"∫ λˣ(1−λ)¹⁻ˣ dx": (rate, area)},
    mark={"a density": (None, 1.0)},
    title="Read as a density of grey values, Bernoulli falls short of 1",
    x_label="decoder's output λ",
    y_label="area under it",
)

# %% [markdown]
# ### {{heading vae/grey-bernoulli}}
# {{question vae/grey-bernoulli}}

# %% tags=["quiz"]
### BEGIN SOLUTION
grey_bernoulli = "a"
### END SOLUTION
### BEGIN HANDED OUT
# grey_bernoulli = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("vae/grey-bernoulli", grey_bernoulli)

# %% [markdown]
# ## 2.6 · The convolutional VAE
#
# Encoder and decoder are those of notebook 01: two strided convolutions of 64 channels and a dense layer; a dense layer and transposed convolutions back.
# Two things are new: the encoder's last layer says *two* numbers a latent, $\mu$ and $\ln\sigma^2$, and a draw stands between the halves. Here is all of it.


# %%
class BernoulliVAE(nn.Module):
    """Encoder q(z|x) = N(μ, diag σ²), decoder p(x|z) Bernoulli, prior N(0, I)."""

    def __init__(self, shape, latent, widths=(64, 64)):
        super().__init__()
        self.latent = latent
        self.encoder = Encoder(shape, 2 * latent, widths)
        self.decoder = Decoder(latent, shape, widths)

    def encode(self, x):
        """x (b, c, h, w) in [-1, 1] → mean and ln σ², each (b, latent). Kept in float32: exponentials follow."""
        mean, log_var = self.encoder(x).float().chunk(2, dim=1)
        return mean, log_var

    def nll(self, x, z):
        """−ln p(x|z) of each image in nats, summed over its pixels, equation (1.2)."""
        return bernoulli_nll(self.decoder(z).float(), x)

    def decode(self, z):
        """The mean image of p(x|z), in [-1, 1]:  2 · sigmoid(logits) − 1."""
        return (self.decoder(z).float() / 2).tanh()


model = BernoulliVAE(train.shape, latent=2).to(lab.device)
mean, log_var = model.encode(test.x[:5])
print(
    f"images {tuple(test.x[:5].shape)} → mean {tuple(mean.shape)}, log_var {tuple(log_var.shape)} → image {tuple(model.decode(mean).shape)}; "
    f"{sum(p.numel() for p in model.parameters()):,} parameters"
)

# %% [markdown]
# ### {{heading vae/elbo}}
# Put the pieces together: encode, draw with the noise that is handed in, and return both costs of (2.1). One draw an image is enough.
# The gradient has to reach the encoder by *both* roads, through the KL and through the draw; the check follows it there.


# %% tags=["quiz"]
def elbo(model, x, noise):
    """Both costs of the bound for each image, equation (2.1): ELBO = −reconstruction − kl.

    model: has encode(x) → (mean, log_var) and nll(x, z) → (b,) nats, summed over pixels;
    x: (b, c, h, w) in [-1, 1];  noise: (b, latent), standard normal.
    Returns (reconstruction, kl), each (b,), nats per image.
    """
    ### BEGIN SOLUTION
    mean, log_var = model.encode(x)
    z = reparameterize(mean, log_var, noise)
    return model.nll(x, z), kl_to_standard_normal(mean, log_var)
    ### END SOLUTION


# %% tags=["check"]
elbo = check("vae/elbo", elbo)

# %% [markdown]
# ### Train it
# The library's `VAE` is the class above with a Gaussian likelihood as a second choice. We hand your `elbo` to the training loop, with a weight `beta` on the KL that stays 1 for now,
# and ask for two latents, because two can be drawn.

# %%
steps = lab.pick(smoke=30, cpu=550, gpu=6000)
batch = lab.pick(smoke=32, cpu=64, gpu=128)


def bound_loss(beta=1.0):
    def loss(model, x, y, generator):
        if (
            model.likelihood == "gaussian"
        ):  # a density over pixels needs them spread over their grey levels, see 2.10
            x = dequantise(x, generator)
        noise = torch.randn(len(x), model.latent, generator=generator, device=x.device)
        reconstruction, kl = elbo(model, x, noise)
        return (reconstruction + beta * kl).mean(), {
            "reconstruction": reconstruction.mean(),
            "kl": kl.mean(),
        }

    return loss


histories = []


def train_vae(latent, beta=1.0, likelihood="bernoulli"):
    with seeded(0):
        model = VAE(train.shape, latent, likelihood=likelihood).to(lab.device)
    history = fit(
        model,
        bound_loss(beta),
        train,
        steps=steps,
        batch_size=batch,
        lr=4e-3,
        warmup=steps // 10,
        lr_schedule="cosine",
        clip=100.0,
        seed=0,  # nats per image are large numbers: steady the first steps
    )
    histories.append(history)
    print(f"{latent} latents, β = {beta:g}: {len(history.steps)} steps in {history.seconds:.0f} s")
    return model, history


two, history = train_vae(latent=2)


# %%
def smooth(values):
    width = max(1, len(values) // 40)
    return torch.tensor(values).unfold(0, width, 1).mean(1)


reconstruction, kl = smooth(history.terms["reconstruction"]), smooth(history.terms["kl"])
at = torch.arange(len(kl))
figure, axes = plots.new_figure(8, 3.6, columns=2)
axes[0].plot(at, reconstruction, label="reconstruction")
axes[0].plot(at, reconstruction + kl, label="−ELBO")
axes[1].plot(at, kl, color=plots.COLOURS[2])
axes[0].set(xlabel="training step", ylabel="nats per image", title="What pixels cost")
axes[1].set(xlabel="training step", ylabel="nats per image", title="What codes cost (KL)")
axes[0].legend()
figure.set_label(
    f"Training curves: −ELBO ends at {reconstruction[-1] + kl[-1]:.0f} nats per image, of which KL {kl[-1]:.1f}"
)
figure

# %%
shown = test.x[:10]
plots.image_rows(
    {
        "original": shown,
        "through its mean code": two.decode(two.encode(shown)[0]).detach(),
        "from the prior": two.sample(10, lab.generator(5)),
    },
    title=f"{train.title}: two latents rebuild roughly, and can invent",
)

# %% [markdown]
# The third row is what notebook 01 could not do: codes drawn from the prior, decoded to things that resemble the data (once trained for more than a smoke test).
# To see *why* it works now, look at where the encoder puts images. Each is a small Gaussian rather than a point; the ellipses are two standard deviations. The dashed circle holds 86 % of the prior.

# %%
means, log_vars = encode_all(two, test.x)
means, spread = means.cpu(), (0.5 * log_vars.cpu()).exp()


def posteriors_over_prior(shown, kind):
    keep = (
        torch.arange(len(test))
        if kind == "all"
        else (test.labels.cpu() == test.classes.index(kind)).nonzero().flatten()
    )
    keep = keep[:shown]
    figure = plots.scatter_classes(
        means[keep],
        test.labels.cpu()[keep],
        test.classes,
        ellipses=(means[keep], spread[keep]),
        title=f"{test.title}: {len(keep)} posteriors (2σ) over the prior",
    )
    turn = torch.linspace(0, 2 * math.pi, 200)
    figure.axes[0].plot(2 * turn.cos(), 2 * turn.sin(), "--", color="#222222", linewidth=1.4)
    return figure


explore(
    posteriors_over_prior,
    shown=slider(5, 100, value=60, step=5, label="images"),
    kind=choice(["all", *(test.classes[test.labels[i]] for i in test.examples())], label="class"),
    title="Do the little Gaussians, taken together, fill the prior?",
    alt="Ellipses of the posteriors q(z|x) of test images over a dashed circle that holds 86 % of the prior",
)

# %% [markdown]
# Each posterior would love to be tiny (a precise code) and the KL charges for it (2.4), so it is only as small as the reconstruction needs. And each would love to sit far from the others,
# and the KL charges for distance from the centre. What is left is a crowd that tiles the prior with little empty ground. Pick single classes: an ellipse that overlaps another class is a place where the decoder has to blur.
#
# ### The whole latent space on one page
# If the prior is what codes follow, then equal *probability*, not equal distance, should get equal room on the page. The inverse normal CDF $\Phi^{-1}$ does that:
# take a regular grid $u\in(0,1)^2$, decode $z=\Phi^{-1}(u)$. Every tile then stands for the same share of samples.


# %%
def normal_grid(side):
    """Points z = Φ⁻¹(u) at the middles of `side` equal shares of the standard normal."""
    return torch.special.ndtri((torch.arange(side) + 0.5) / side)


side = lab.pick(smoke=8, cpu=15, gpu=20)
points = normal_grid(side)
grid = torch.stack(
    [points.repeat(side), points.repeat_interleave(side)], dim=1
)  # row by row: z₂ constant along a row
with torch.no_grad():
    decoded = two.decode(grid.to(lab.device)).cpu().unflatten(0, (side, side))
plots.manifold(
    decoded,
    (0.5 / side, 1 - 0.5 / side, 0.5 / side, 1 - 0.5 / side),
    title=f"{train.title}: every tile is an equal share of the prior",
    x_label="share of the prior with smaller z₁",
    y_label="share of the prior with smaller z₂",
)


# %%
def browse(u1, u2):
    z = torch.special.ndtri(torch.tensor([[u1, u2]]))
    with torch.no_grad():
        image = two.decode(z.to(lab.device)).cpu()
    figure, axes = plots.new_figure(8, 4.2, columns=2)
    plots.draw_scatter(
        axes[0],
        means[:500],
        test.labels.cpu()[:500],
        test.classes,
        mark=z,
        title="where you are",
        legend=False,
    )
    plots.draw_images(axes[1], image, title=f"z = ({z[0, 0]:.2f}, {z[0, 1]:.2f})")
    figure.set_label(
        f"The image decoded at z = ({z[0, 0]:.2f}, {z[0, 1]:.2f}) beside a map of the codes"
    )
    return figure


explore(
    browse,
    u1=slider(0.005, 0.995, value=0.3, step=0.005, label="share left of z₁"),
    u2=slider(0.005, 0.995, value=0.7, step=0.005, label="share below z₂"),
    title="Walk over the manifold: does anything change suddenly?",
    alt="A point on the map of codes and the image that it decodes to",
)

# %% [markdown]
# ## 2.7 · How loose is the bound?
#
# The ELBO is a lower bound; by (2.2) it is low by $\mathrm{KL}(q\,\|\,p(z\mid x))$, which we can't compute for a network. But we can tighten it. Jensen's inequality loses much when the quantity under the logarithm varies much,
# and a *mean of several draws* varies less. With importance weights $w_i = p(x\mid z_i)\,p(z_i)/q(z_i\mid x)$ and $z_i\sim q(z\mid x)$,
#
# $$\mathcal L_K(x)=\mathbb E\Big[\ln\frac1K\sum_{i=1}^K w_i\Big],\qquad \mathrm{ELBO}=\mathcal L_1\le\mathcal L_2\le\dots\le\ln p(x). \tag{2.8}$$
#
# *Why a bound:* $\mathbb E\big[\frac1K\sum w_i\big]=p(x)$, then Jensen. *Why it rises:* the mean of $K+1$ weights is the average of the means of all its subsets of $K$; Jensen once more. This is the **importance-weighted bound** (Burda, Grosse and Salakhutdinov).
#
# On a computer $w_i$ underflows: $e^{-250}$ is zero in float32. So one keeps $\ln w_i$ and uses `logsumexp`.

# %% [markdown]
# ### {{heading vae/iwae}}
# Write the inside of (2.8), given the logarithms of the weights.


# %% tags=["quiz"]
def iwae_bound(log_w):
    """ln of the mean of K importance weights, equation (2.8).

    log_w: (k, b), ln w_i for k draws of each image, typically around −250.  Returns (b,), nats per image.
    """
    ### BEGIN SOLUTION
    return log_w.logsumexp(dim=0) - math.log(len(log_w))
    ### END SOLUTION


# %% tags=["check"]
iwae_bound = check("vae/iwae", iwae_bound)

# %% [markdown]
# ### Does it rise to the evidence?
# First where $\ln p(x)$ is known, with a proposal that is off on purpose; then on the VAE, where it isn't. If the bound passed the dashed line by more than sampling noise, or fell as $K$ grows, (2.8) would be wrong.

# %%
bench = linear_model(latents=3)
x, _ = bench.sample(1, cpu_generator)
post_mean, post_cov = bench.posterior(x)
proposal = MultivariateNormal(post_mean[0] + 0.15, 2 * post_cov)
prior = MultivariateNormal(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
with seeded(6):
    z = proposal.sample((4096 * 50,))
log_w = (bench.log_likelihood(x.expand(len(z), -1), z) + prior.log_prob(z) - proposal.log_prob(z)).view(
    4096, 50
)
counts = [4**i for i in range(7)]
tighter = [iwae_bound(log_w.reshape(k, -1)).mean().item() for k in counts]
print("K        " + "".join(f"{k:9d}" for k in counts) + "    ln p(x)")
print(
    "bound    " + "".join(f"{value:9.3f}" for value in tighter) + f"{bench.log_evidence(x).item():11.3f}"
)

few = test.x[: lab.pick(smoke=20, cpu=100, gpu=1000)]
k_max = lab.pick(smoke=16, cpu=256, gpu=1024)


def draw_log_weights(model, x, k, seed=7):
    """(k, b) log importance weights, a few images at a time so that memory stays small."""
    generator = lab.generator(seed)
    with torch.no_grad():
        parts = []
        for images in x.split(max(1, 4096 // k)):
            noise = torch.randn(k, len(images), model.latent, generator=generator, device=x.device)
            parts.append(log_weights(model, images, noise))
    return torch.cat(parts, dim=1)


log_w_two = draw_log_weights(two, few, k_max)
vae_counts = [k for k in (1, 2, 4, 8, 16, 64, 256, 1024) if k <= k_max]
vae_bound = [iwae_bound(log_w_two.unflatten(0, (k, -1)).flatten(1)).mean().item() for k in vae_counts]
figure, axes = plots.new_figure(8, 3.6, columns=2)
axes[0].plot(counts, tighter, "o-", label="bound")
axes[0].axhline(bench.log_evidence(x).item(), color="#222222", linestyle="--", label="ln p(x), exact")
axes[0].set(xscale="log", xlabel="draws K", ylabel="nats", title="Linear-Gaussian")
axes[0].legend()
axes[1].plot(vae_counts, vae_bound, "o-", color=plots.COLOURS[1])
axes[1].set(xscale="log", xlabel="draws K", ylabel="nats per image", title="VAE with 2 latents")
figure.set_label(
    "Left: the importance-weighted bound rises to the exact ln p(x). Right: the same bound of the VAE rises with K"
)
print(f"VAE: ELBO (K=1) {vae_bound[0]:.1f}, K={vae_counts[-1]}: {vae_bound[-1]:.1f} nats per image")
figure

# %% [markdown]
# The first panel shows the guarantee at work: from below, up to the known value. The second has no dashed line, which is the situation in real life: all we know is that the truth, up to the noise of sampling, is not below the highest point.
#
# ## 2.8 · The mystery of the hundred latents
#
# A published tutorial trains a VAE with 2 latents on 28×28 images and likes the samples. With 100 latents the reconstructions get sharper and *the samples get poor*. It blames the compute budget, or modes of the data that don't exist.
# Both can be tested. Its loss, in our notation, is the function of the next quiz.
#
# ### {{heading vae/averaged-kl}}
# This loss runs, and its author found that the model rebuilt images better than before. It was published. Compare it with (2.1) and (2.4), find what is wrong, mend it, and say in one line (a comment will do) what it does to the samples.


# %% tags=["quiz"]
def published_loss(x, logits, mean, log_var):
    """−ELBO of a batch, (2.9) with β = 1: nats per image, averaged over the images.

    x: (b, c, h, w) in [-1, 1];  logits: like x, from the decoder;  mean, log_var: (b, d), log_var is ln σ².  Returns a scalar.
    """
    target = (x + 1) / 2
    pixels = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    latents = 0.5 * (mean**2 + log_var.exp() - log_var - 1)
    ### BEGIN SOLUTION
    return (
        pixels.sum(dim=(1, 2, 3)) + latents.sum(dim=1)
    ).mean()  # the published mean over dim=1 weighs the KL by 1/d
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # return (pixels.sum(dim=(1, 2, 3)) + latents.mean(dim=1)).mean()
    ### END HANDED OUT


# %% tags=["check"]
published_loss = check("vae/averaged-kl", published_loss)

# %% [markdown]
# The reconstruction is *summed* over 784 pixels, the KL *averaged* over $d$ latents. Averaging is summing divided by $d$, so what was minimised is not $-\mathrm{ELBO}$ but
#
# $$\text{reconstruction} + \beta\,\mathrm{KL}\qquad\text{with}\qquad\beta=\frac1d . \tag{2.9}$$
#
# For $\beta=1$ this is the bound; for other values it is known as the **β-VAE** objective (Higgins et al. argue for $\beta>1$). With 100 latents the price of a code was cut to a hundredth.
# A nat of KL that saves a hundredth of a nat of pixels is now a bargain, so the encoder buys precision without end: posteriors shrink to pinpricks, and together they need not fill the prior any more. The decoder learns from *those* codes. Samples, however, come from the prior, and most of that is now a place where the decoder has never been.
#
# That is an explanation, so far. To be one, it must survive this:
# **train both losses from the same first weights, on the same batches, for the same number of steps.** If compute or capacity were to blame, the mended loss would sample as poorly as the published one. What failing would look like: the samples of the mended model are not closer to the data, or by less than four times what drawing other samples changes (the ± below).
#
# Quality of samples needs a number. We fit Gaussians to *features* of real and of generated images and take their squared Fréchet distance,
#
# $$d^2 = \lVert m_1-m_2\rVert^2 + \operatorname{tr}\big(\Sigma_1+\Sigma_2-2(\Sigma_1\Sigma_2)^{1/2}\big). \tag{2.10}$$
#
# Our features are the 32 main directions (PCA) of the training images: simple and reproducible, with no trained network hidden inside. They see shape and brightness, and little fine texture. Notebook 09 does it with better features; numbers from different features must not be compared.
#
# And latents need a count. A latent is **active** if its posterior mean differs from image to image (Burda et al.):
#
# $$A_j = \operatorname{Var}_{x}\big(\mathbb E_{q(z\mid x)}[z_j]\big), \qquad \text{active if } A_j > 0.01 . \tag{2.11}$$

# %% [markdown]
# **Predict, then run.** We train 100 latents with the mended loss. The images cost the same pixels as before, but the code may use 100 numbers. The KL with 2 latents was what you saw in 2.6. What will it be with 100?

# %% tags=["predict"]
guess = predict(
    "vae/kl-of-100",
    "KL in nats per image of the VAE with 100 latents, trained with the right loss",
    0,
    300,
    unit="nats",
)

# %%
hundred, _ = train_vae(latent=100)
hundred_averaged, _ = train_vae(latent=100, beta=1 / 100)
two_averaged, _ = train_vae(latent=2, beta=1 / 2)

# %%
features = PCA.fit(train.first(5000).x.cpu().double(), 32).encode
n_samples = len(test)
real = features(test.x.cpu())


def sample_distance(images):
    return frechet_distance(real, features(images.cpu()))


def measure(model, k=64):
    """Everything that we want to know about a VAE, on test images: costs on the first few, the rest on all of them."""
    log_w = draw_log_weights(model, few, min(k, k_max))
    mean, log_var = encode_all(model, test.x)
    kl = kl_to_standard_normal(mean, log_var)[: len(few)].mean().item()
    minus_elbo = -log_w.mean().item()  # (2.8) with K = 1, averaged over all draws
    distances = [sample_distance(model.sample(n_samples, lab.generator(seed))) for seed in (10, 11, 12)]
    return {
        "reconstruction": minus_elbo - kl,
        "KL": kl,
        "−ELBO": minus_elbo,
        "−IWAE": -iwae_bound(log_w).mean().item(),
        "active": active_units(mean).sum().item(),
        "distance": sum(distances) / 3,
        "±": (max(distances) - min(distances)) / 2,
    }


table = {
    "2 latents, averaged KL": measure(two_averaged),
    "2 latents, summed KL": measure(two),
    "100 latents, averaged KL": measure(hundred_averaged),
    "100 latents, summed KL": measure(hundred),
}
floor = sample_distance(train.first(n_samples).x)
print(
    f"{test.title}; costs in nats per image on {len(few)} test images; −IWAE with K = {min(64, k_max)}"
)
print(
    f"d² (2.10) of {n_samples} samples to as many test images, squared pixel units; of training images: {floor:.1f}\n"
)
print(f"{'':26s}{'reconstr.':>9s}{'KL':>9s}{'−ELBO':>9s}{'−IWAE':>9s} {'active':>7s} {'d²':>9s}")
for name, row in table.items():
    costs = "".join(f"{row[cost]:9.1f}" for cost in ("reconstruction", "KL", "−ELBO", "−IWAE"))
    print(f"{name:26s}{costs} {row['active']:7d} {row['distance']:9.1f} ± {row['±']:.1f}")

# %%
reveal("vae/kl-of-100", round(table["100 latents, summed KL"]["KL"], 1))

# %%
wrong, right = table["100 latents, averaged KL"], table["100 latents, summed KL"]
difference = {
    d: table[f"{d} latents, averaged KL"]["KL"] - table[f"{d} latents, summed KL"]["KL"]
    for d in (2, 100)
}
apart = abs(wrong["distance"] - right["distance"]) > 4 * max(wrong["±"], right["±"])
if right["active"] == 0 or difference[100] < 10:
    print(f"The codes say hardly anything yet (KL {wrong['KL']:.1f} and {right['KL']:.1f} nats): this run can't tell.")
    print("Effort `cpu` can.")
elif apart and right["distance"] < wrong["distance"]:
    print(f"The mended loss samples closer to the data, {right['distance']:.1f} against {wrong['distance']:.1f}:")
    print("by more than four times what drawing other samples changes. The explanation survives.")
else:
    print(f"d² is {right['distance']:.1f} (mended) and {wrong['distance']:.1f} (published): this run refutes the explanation.")
print(
    f"Averaging changed the KL by {difference[2]:+.1f} nats with 2 latents, by {difference[100]:+.1f} nats with 100."
)

# %% [markdown]
# ### Look at the codes
# If we are right, the published model's codes must lie where the prior does not. Draw a code from $q(z\mid x)$ for every test image and look at the covariance of the whole crowd. If it filled the prior, that would be the identity: every eigenvalue 1.
# An eigenvalue far above 1 is a direction in which codes stick out of the prior. One far below 1 is worse: the codes lie on a thin sheet, and a draw from the prior leaves the sheet along that direction. (Even true draws of $\mathcal N(0,I)$ scatter around 1 when there are this few of them; the dashed line shows by how much.)
#
# And there is a cross-check. If the *decoder* is fine and only the place of sampling is wrong, then codes drawn from a Gaussian fitted to the model's own codes (as in notebook 01) must rescue the published model.


# %%
def codes_of(model, seed=13):
    mean, log_var = encode_all(model, test.x)
    return reparameterize(mean, log_var, normal_like(mean, lab.generator(seed))).cpu().double()


def sample_fitted(model, n):
    """Decode draws from a Gaussian fitted to the codes of the test images."""
    codes = codes_of(model)
    cov = codes.T.cov() + 1e-4 * torch.eye(codes.shape[1], dtype=codes.dtype)
    with seeded(14):
        z = MultivariateNormal(codes.mean(0), cov).sample((n,))
    with torch.no_grad():
        return model.decode(z.float().to(lab.device))


def eigenvalues(codes):
    return torch.linalg.eigvalsh(codes.T.cov()).flip(0).clamp(min=1e-3)


for name, model in (("summed", hundred), ("averaged", hundred_averaged)):
    codes, from_prior = codes_of(model), table[f"100 latents, {name} KL"]["distance"]
    fitted = sample_distance(sample_fitted(model, n_samples))
    print(
        f"{name} KL: variances of the codes from {eigenvalues(codes)[-1]:.2f} to {eigenvalues(codes)[0]:.1f}"
    )
    print(
        f"    d² of samples: {from_prior:.1f} from the prior, {fitted:.1f} from a Gaussian fitted to the codes"
    )

order = torch.arange(1, 101)
figure = plots.curves(
    {
        f"codes, {name} KL": (order, eigenvalues(codes_of(model)))
        for name, model in (("summed", hundred), ("averaged", hundred_averaged))
    },
    title=f"{test.title}, 100 latents: do all codes together fill the prior?",
    x_label="direction, widest first",
    y_label="variance of the codes",
    log_y=True,
)
draws_of_prior = torch.randn(len(test), 100, generator=cpu_generator, dtype=torch.float64)
figure.axes[0].plot(
    order,
    eigenvalues(draws_of_prior),
    "--",
    color="#222222",
    linewidth=1.6,
    label="as many draws of N(0, I)",
)
figure.axes[0].legend()
figure

# %%
plots.image_rows(
    {
        "test images": test.x[:10],
        "rebuilt, averaged KL": hundred_averaged.decode(
            hundred_averaged.encode(test.x[:10])[0]
        ).detach(),
        "rebuilt, summed KL": hundred.decode(hundred.encode(test.x[:10])[0]).detach(),
        "samples, averaged KL": hundred_averaged.sample(10, lab.generator(15)),
        "averaged, fitted Gaussian": sample_fitted(hundred_averaged, 10),
        "samples, summed KL": hundred.sample(10, lab.generator(15)),
    },
    title=f"{train.title}, 100 latents: copies and inventions",
)

# %% [markdown]
# Compare the two rebuilt rows, then the samples. In the full run on Fashion-MNIST the published loss is the better copyist, as its author saw, and in the samples the order turns round; drawn from the fitted Gaussian, the very same decoder recovers.
# One word, `mean` for `sum`. More compute would only have minimised the wrong objective more exactly.
#
# ### {{heading vae/nobody-noticed}}
# {{question vae/nobody-noticed}}

# %% tags=["quiz"]
### BEGIN SOLUTION
nobody_noticed = "c"
### END SOLUTION
### BEGIN HANDED OUT
# nobody_noticed = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("vae/nobody-noticed", nobody_noticed)

# %% [markdown]
# ## 2.9 · Turning β, and latents that fall silent
#
# We have met β = 1/100 by accident. Now on purpose, from there to 100. A latent earns its keep if a nat spent on it saves more than β nats of pixels. As β rises, latent after latent stops paying;
# its posterior returns to the prior for every image, and it says nothing any more. That is **posterior collapse**. At large β all of them go, and the decoder answers every code with the same image.

# %%
betas = (0.01, 0.1, 1.0, 10.0, 100.0)
sweep = {0.01: hundred_averaged, 1.0: hundred}
sweep |= {beta: train_vae(latent=100, beta=beta)[0] for beta in betas if beta not in sweep}
rows = {beta: measure(sweep[beta], k=16) for beta in betas}


def kl_per_latent(model):
    """Mean over test images of each latent's own KL, (latent,), largest first."""
    mean, log_var = encode_all(model, test.x)
    each = kl_to_standard_normal(mean.reshape(-1, 1), log_var.reshape(-1, 1)).view_as(mean)
    return each.mean(0).sort(descending=True).values.cpu()


spectrum = {beta: kl_per_latent(sweep[beta]) for beta in betas}
print(f"{test.title}, 100 latents, costs in nats per image")
print(
    f"{'β':>6s}{'reconstr.':>11s}{'KL':>8s}{'−ELBO':>8s}{'active (2.11)':>15s}{'> 0.1 nat':>11s}{'d² of samples':>21s}"
)
for beta in betas:
    costs, loud = (
        (rows[beta][name] for name in ("reconstruction", "KL", "−ELBO")),
        (spectrum[beta] > 0.1).sum().item(),
    )
    print(
        f"{beta:6g}{next(costs):11.1f}"
        + "".join(f"{cost:8.1f}" for cost in costs)
        + f"{rows[beta]['active']:15d}{loud:11d}{rows[beta]['distance']:21.1f}"
    )

# %%
figure, axes = plots.new_figure(8, 3.9, columns=2)
axes[0].plot(
    [rows[b]["KL"] for b in betas],
    [rows[b]["reconstruction"] for b in betas],
    "-",
    color="#888888",
    linewidth=1.2,
)
for i, beta in enumerate(betas):
    axes[0].plot(
        rows[beta]["KL"], rows[beta]["reconstruction"], "o", markersize=10, color=plots.COLOURS[i]
    )
    axes[0].annotate(
        f"β = {beta:g}",
        (rows[beta]["KL"], rows[beta]["reconstruction"]),
        xytext=(4, (10, -20)[i % 2]),
        textcoords="offset points",
    )
    axes[1].plot(
        range(1, 101), spectrum[beta].clamp(min=1e-5), color=plots.COLOURS[i], label=f"β = {beta:g}"
    )
axes[0].set_xscale("symlog", linthresh=1)
axes[0].set(xlabel="KL: what the code says (nats)", ylabel="reconstruction (nats)", title="The exchange")
axes[0].margins(x=0.2, y=0.15)
axes[1].set(
    yscale="log", xlabel="latent, loudest first", ylabel="its own KL (nats)", title="Who still speaks"
)
axes[1].set_ylim(5e-6, 500)
axes[1].legend(fontsize=10, ncols=2, loc="upper right")
figure.set_label(
    "Left: reconstruction cost against KL for five values of β. Right: KL of each latent, sorted, for the same models"
)
figure


# %%
def turn_beta(beta):
    beta = min(betas, key=lambda b: abs(math.log(b / beta)))
    model, row = sweep[beta], rows[beta]
    shown = test.x[:10]
    with torch.no_grad():
        rebuilt = model.decode(model.encode(shown)[0])
    return plots.image_rows(
        {"test images": shown, "rebuilt": rebuilt, "samples": model.sample(10, lab.generator(16))},
        title=f"β = {beta:g}: KL {row['KL']:.1f} nats, {(spectrum[beta] > 0.1).sum()} latents above 0.1 nat, d² of samples {row['distance']:.0f}",
    )


explore(
    turn_beta,
    beta=log_slider(0.01, 100, value=1, step=1, label="β"),
    title="Copy well or invent well: where do rows two and three both look right?",
    alt="Test images, reconstructions and samples of VAEs with 100 latents trained with five values of β",
)

# %%
with torch.no_grad():
    for beta in (1.0, 100.0):
        codes, _ = encode_all(sweep[beta], test.x[:200])
        spread_of_images = sweep[beta].decode(codes).std(dim=0).mean()
        print(
            f"β = {beta:5g}: a pixel varies by {spread_of_images:.4f} over reconstructions of 200 different images"
        )

# %% [markdown]
# A silent latent does no harm: it costs no nats and the decoder has learned to ignore it. So with the right loss, 100 latents cost nothing at the optimum: the model takes what pays. (Getting there is another matter; hence the warm-up and the clipping in `train_vae`.) Latents that the bound has no use for fade slowly, though,
# and a short training leaves many of them whispering: look at the tail of the curve for β = 1, and at the two columns "active" and "> 0.1 nat". A threshold is a convention; the whole spectrum is a measurement.
#
# ### {{heading vae/silent-latent}}
# {{question vae/silent-latent}}

# %% tags=["quiz"]
### BEGIN SOLUTION
silent_latent = "d"
### END SOLUTION
### BEGIN HANDED OUT
# silent_latent = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("vae/silent-latent", silent_latent)

# %% [markdown]
# ## 2.10 · Bits per dimension
#
# Papers quote likelihoods in **bits per dimension**: how many bits a pixel value costs, on average, if images are compressed with the model. To get there we need a true density over pixels, hence the Gaussian decoder with learned $\sigma$, and some care with units.
#
# Pixels are not continuous: they take 256 levels, in our range $[-1,1]$ they lie $\Delta=2/255$ apart. A density could grow without limit by spiking at these levels. So each level is spread evenly over its bin (**dequantisation**): add uniform noise of width $\Delta$.
# The probability of a bin is about density × $\Delta^P$ for an image of $P$ pixel values, and its cost is $-\log_2$ of that (on average an upper bound of what the pixels themselves cost: Theis, van den Oord and Bethge 2016):
#
# $$\text{bits per dimension} = \frac{-\ln p(x)}{P\,\ln 2} - \log_2\Delta ,\qquad \Delta=\frac2{255}\ \text{ for pixels in } [-1,1]. \tag{2.12}$$
#
# With (2.8) in place of $\ln p(x)$ the result is an upper bound of the true cost: still something that one may quote.
#
# ### {{heading vae/bits}}


# %% tags=["quiz"]
def bits_per_dimension(nll, dimensions, bin_width):
    """Bits per pixel value, equation (2.12).

    nll: (b,), −ln p(x) in nats per image;  dimensions: c·h·w;  bin_width: Δ, the distance of two grey levels.  Returns (b,).
    """
    ### BEGIN SOLUTION
    return nll / (dimensions * math.log(2)) - math.log2(bin_width)
    ### END SOLUTION


# %% tags=["check"]
bits_per_dimension = check("vae/bits", bits_per_dimension)

# %%
density, _ = train_vae(latent=32, likelihood="gaussian")
spread_out = dequantise(few, lab.generator(17))
nll = -iwae_bound(draw_log_weights(density, spread_out, min(64, k_max)))
with torch.no_grad():
    rebuilt_rmse = (density(spread_out, lab.generator(18)) - spread_out).square().mean().sqrt()
pixels = math.prod(train.shape)
bits = bits_per_dimension(nll, pixels, 2 / 255).mean().item()

average = train.first(5000).x.mean(0, keepdim=True)  # what a VAE without any active latent could do:
rmse = (train.first(5000).x - average).square().mean().sqrt()  # the mean image and one σ for all pixels
silent = (
    bits_per_dimension(
        gaussian_nll(spread_out, average.expand_as(spread_out), rmse.log()), pixels, 2 / 255
    )
    .mean()
    .item()
)
print(
    f"learned σ = {density.log_sigma.exp().item():.3f}; root mean squared error of a rebuilt pixel {rebuilt_rmse.item():.3f}: (2.7) wants them equal"
)
print(f"every level equally likely  {math.log2(256):.2f} bits per dimension")
print(f"mean image and one σ        {silent:.2f}")
print(f"VAE, 32 latents, IWAE       at most {bits:.2f}")
print(
    f"forgetting Δ                {bits_per_dimension(nll, pixels, 1.0).mean().item():.2f}: a number that depends on the unit of pixels"
)

# %% [markdown]
# One $\sigma$ for all pixels is a blunt tool on images whose border never changes: the model must pay there for noise that isn't in the data. "Go further" mends that.
# The comparison that counts is between the second and the third line: what knowing the code is worth.

# %% [markdown]
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {train.title}, {steps_made(*histories)} of {batch} images a model, seed 0\n")
print(
    f"2.1  blind draws with {max(errors)} latents miss ln p(x) by {errors[max(errors)][repeats // 2]:.0f} nats (median)"
)
print(f"2.2  ELBO + KL(q‖p(z|x)) = ln p(x), to {worst:.0e} nats")
print(f"2.4  variance of the score-function gradient ÷ reparameterized, 20 latents: {ratio:.0f}")
print(
    f"2.7  two latents: ELBO {vae_bound[0]:.1f}, K = {vae_counts[-1]}: {vae_bound[-1]:.1f} nats per image"
)
print(
    f"2.8  100 latents, averaged KL: KL {wrong['KL']:.0f}, −ELBO {wrong['−ELBO']:.0f}, d² of samples {wrong['distance']:.0f}"
)
print(
    f"     100 latents, summed KL:   KL {right['KL']:.0f}, −ELBO {right['−ELBO']:.0f}, d² of samples {right['distance']:.0f}"
)
print(
    f"2.9  active latents from β = {betas[0]:g} to {betas[-1]:g}: {', '.join(str(rows[b]['active']) for b in betas)}"
)
print(f"2.10 Gaussian VAE: at most {bits:.2f} bits per dimension; mean image alone {silent:.2f}")

# %% [markdown]
# **What to take along.** A latent-variable model prices an image by an integral; the bound replaces the integral by an encoder's proposal and says exactly what that costs. Both terms are sums in nats, and mixing a sum with a mean silently changes the model.
# Diffusion (03–06) keeps this bound and makes a radical choice: the encoder is fixed, adds noise, and learns nothing.
#
# ## Go further *(ungraded)*
# 1. **A baseline.** Subtract the mean of $f$ from $f$ in (2.6). Why is the estimate still unbiased (almost), and how far does the variance fall?
# 2. **One σ a pixel.** Give the Gaussian decoder a learned $\sigma_i$ for every pixel; `gaussian_nll` takes any tensor that broadcasts. What happens to bits per dimension, and which pixels get the smallest σ? What must you guard against where a pixel never changes?
# 3. **Warm up.** Let β grow from 0 to 1 over the first half of training. Are more latents active at the end? Is the bound better?
# 4. **Train on the tighter bound.** Use $-\mathcal L_8$ as the loss. Compare −IWAE and active latents with those of the ELBO at equal numbers of decoded images.
# 5. **A full covariance.** Let the encoder of a 2-latent VAE output a Cholesky factor, with your `gaussian_kl` as the price. How much of the gap in (2.2) does it close?
#
# ## References
# * D. P. Kingma, M. Welling, *Auto-Encoding Variational Bayes*, ICLR 2014. arXiv:1312.6114
# * D. J. Rezende, S. Mohamed, D. Wierstra, *Stochastic Backpropagation and Approximate Inference in Deep Generative Models*, ICML 2014. arXiv:1401.4082
# * Y. Burda, R. Grosse, R. Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016. arXiv:1509.00519
# * I. Higgins et al., *β-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework*, ICLR 2017
# * R. J. Williams, *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning*, Machine Learning 8, 1992
# * G. Loaiza-Ganem, J. P. Cunningham, *The continuous Bernoulli: fixing a pervasive error in variational autoencoders*, NeurIPS 2019. arXiv:1907.06845
# * M. Heusel et al., *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium* (the Fréchet distance on features), NeurIPS 2017. arXiv:1706.08500
# * L. Theis, A. van den Oord, M. Bethge, *A note on the evaluation of generative models*, ICLR 2016. arXiv:1511.01844
