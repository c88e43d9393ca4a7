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
# * derive the evidence lower bound in two ways and check every term on a model that can be solved by hand;
# * build and train a VAE, every line of it your own, and read both terms of its loss in nats;
# * solve a mystery from a widely read tutorial: a VAE with 100 latents that copies well and invents junk;
# * say what a number for "sample quality" measures, and what it doesn't.
#
# **Before you start:** notebook 01 (convolutions, Bernoulli likelihood), and what a density, a covariance and an expectation are.
#
# {{budget}}
#
# The text describes what you see at effort `cpu` or above, on Fashion-MNIST. At `smoke` the networks are hardly trained: everything runs, and what is printed is true of that run, but sentences about pictures don't hold.

# %% tags=["setup"]
import math

import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

from classroom import ask, check, predict, reveal
from course_utils import plots, setup
from course_utils.data import load
from course_utils.device import seeded
from course_utils.explore import choice, explore, slider
from course_utils.models.autoencoder import PCA, bernoulli_nll, fit_gaussian
from course_utils.models.vae import LinearGaussian, dequantise, encode_all, tutorial_loss
from course_utils.training import fit, steps_made, until_stopped
from course_utils.yardsticks import features_for

lab = setup("02")

# %%
train = load(lab.data, "train", device=lab.device, fallback="digits")
test = load(lab.data, "test", device=lab.device, fallback="digits")
test = test.first(lab.pick(smoke=100, cpu=1000, gpu=5000))
print(f"{train.title}: {len(train):,} images {train.shape} to train on, {len(test):,} to measure on, in [-1, 1]")

# %% [markdown]
# ## 2.1 · Why p(x) is out of reach
#
# Here is a story about where images come from. First a code is drawn from a distribution that we choose once and for all,
# the **prior** $p(z) = \mathcal N(0, I)$. Then a **decoder** turns it into a distribution over images, $p(x\mid z)$, and the image is drawn from that.
# Sampling is now trivial: it is the story itself. What we gave up is knowing the code of an image. To say how probable an image is,
# we must consider every code that could have made it:
#
# $$p(x) = \int p(x\mid z)\,p(z)\,dz .$$
#
# With a neural network inside $p(x\mid z)$ this integral has no closed form, and a grid with ten points per axis has $10^{100}$ points when $z$ has 100 entries.
# But an integral against a density is an average, and averages can be sampled: draw $z_1,\dots,z_K$ from the prior and take the mean of $p(x\mid z_i)$.
#
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
# To see who is right we need a model whose $p(x)$ we know. Take a *linear* decoder, $x = Wz + b + \sigma\varepsilon$ with $\varepsilon\sim\mathcal N(0, I)$.
# This **linear-Gaussian model** is our test bench: `LinearGaussian` holds `weight` $W$ (pixels, latents), `bias` $b$ and `sigma`, draws pairs with `sample(n)`, and knows $\ln p(x\mid z)$ as `log_likelihood(x, z)`. The rest you write.
#
# ### {{heading vae/evidence}}
# Which distribution does $x$ have? Work out its mean and covariance, then write $\ln p(x)$, the **evidence**. (PyTorch's `MultivariateNormal(mean, cov).log_prob(x)` is at hand.)


# %% tags=["quiz"]
def log_evidence(bench, x):
    """ln p(x) of each image under a LinearGaussian, exactly.  x: (n, pixels), float64.  Returns (n,), nats."""
    ### BEGIN SOLUTION
    noise = bench.sigma**2 * torch.eye(len(bench.bias), dtype=x.dtype)
    cov = bench.weight @ bench.weight.T + noise
    return MultivariateNormal(bench.bias, cov).log_prob(x)
    ### END SOLUTION


# %% tags=["check"]
log_evidence = check("vae/evidence", log_evidence)


# %%
def linear_model(latents, pixels=30, sigma=0.3):
    weight = torch.randn(pixels, latents, generator=lab.generator(latents, "cpu"), dtype=torch.float64)
    return LinearGaussian(weight / math.sqrt(latents), torch.zeros(pixels, dtype=torch.float64), sigma)


def blind(bench, x, draws, generator):
    """ln of the mean of p(x|z) over draws from the prior; and how many draws matter, (Σw)² / Σw²."""
    z = torch.randn(draws, bench.weight.shape[1], generator=generator, dtype=x.dtype)
    log_w = bench.log_likelihood(x.expand(draws, -1), z)
    return log_w.logsumexp(0) - math.log(draws), (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()


generator = lab.generator(1, "cpu")
sizes, errors = (1, 2, 3, 5, 8, 12, 20), {}
for latents in sizes:
    bench = linear_model(latents)
    images, _ = bench.sample(50, generator)  # a new image for each of 50 repetitions
    estimates, matter = torch.tensor([blind(bench, x[None], 1000, generator) for x in images]).T
    errors[latents] = (estimates - log_evidence(bench, images)).sort().values
    print(f"{latents:2d} latents: median error {errors[latents][25]:9.2f} nats; {matter.median():5.1f} of 1000 draws matter")
typical = [errors[d][25] for d in sizes]
figure = plots.curves(
    {"blind estimate − ln p(x)": (sizes, typical)},
    band={"blind estimate − ln p(x)": ([errors[d][1] for d in sizes], [errors[d][48] for d in sizes])},
    title="Blind draws serve a few latents, then miss p(x) altogether",
    x_label="number of latents",
    y_label="error (nats): median, all but 2 of 50",
    mark={"right answer": (None, 0)},
)
figure.axes[0].set_xticks(sizes)
figure

# %% [markdown]
# With one latent, several dozen of a thousand draws matter (the count is the *effective sample size*), and that is enough. From five latents on it is one:
# the average is carried by the luckiest draw, and luck of the needed size hardly ever comes.
# It is unbiased all the same: once in an astronomical number of repetitions it would be enormous.
# An estimator whose mean is right and whose variance is hopeless is of no use for training.
#
# The remedy is in the diagnosis. Don't draw codes blindly; look at the image, and draw codes that could have made it.

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
# The encoder will propose Gaussians, so the second term of the bound is a divergence of two Gaussians. It has a closed form.
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
# The VAE's encoder proposes independent latents, $\Sigma_q=\operatorname{diag}(\sigma_1^2,\dots,\sigma_d^2)$, and the prior is $\mathcal N(0,I)$. Then (2.3) becomes a **sum over latents**:
#
# $$\mathrm{KL}\big(q(z\mid x)\,\|\,\mathcal N(0,I)\big)=\frac12\sum_{j=1}^{d}\big(\mu_j^2+\sigma_j^2-\ln\sigma_j^2-1\big). \tag{2.4}$$
#
# Each latent sends its own message, and messages add up.
# The encoder will output $\mu$ and $\ln\sigma^2$ (`log_var`). Any real number is a legal $\ln\sigma^2$, so nothing has to be clipped.
#
# ### {{heading vae/kl}}
# Check the step from (2.3) to (2.4) on paper, then write it.


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
# Three more computations of one number should agree with yours: your general formula, PyTorch's, and an average of $\ln q(z)-\ln p(z)$ over draws, which knows nothing of the algebra above.

# %%
with seeded(3):
    mean, log_var = torch.randn(1, 5), torch.randn(1, 5)
    q, prior = Normal(mean, (0.5 * log_var).exp()), Normal(torch.zeros(1, 5), torch.ones(1, 5))
    z = q.sample((50_000,))
simulated = (q.log_prob(z) - prior.log_prob(z)).sum((1, 2))
full = gaussian_kl(mean, torch.diag_embed(log_var.exp()), torch.zeros(1, 5), torch.eye(5)[None])
print(f"(2.4) {kl_to_standard_normal(mean, log_var).item():.4f} nats   (2.3) {full.item():.4f}   ", end="")
print(f"torch.distributions {kl_divergence(q, prior).sum():.4f}   ", end="")
print(f"simulated {simulated.mean():.4f} ± {simulated.std() / math.sqrt(len(z)):.4f}")

sigma = torch.linspace(0.05, 2.5, 200)
log_vars = 2 * sigma.log()[:, None]
plots.curves(
    {f"μ = {m}": (sigma, kl_to_standard_normal(torch.full_like(log_vars, m), log_vars)) for m in (0, 1, 2)},
    title="One latent is free only at μ = 0, σ = 1; precision is paid for in nats",
    x_label="σ of the proposal",
    y_label="KL (nats)",
)

# %% [markdown]
# ## 2.4 · Does the identity hold?
#
# On the test bench every term of (2.2) has a closed form, so both sides can be computed without any sampling. Three short functions are missing: two of them take a few lines of algebra of the kind that you have just seen, and the third puts them to use.
#
# ### {{heading vae/posterior}}
# By Bayes, $\ln p(z\mid x) = -\tfrac12\lVert z\rVert^2 - \tfrac1{2\sigma^2}\lVert x-b-Wz\rVert^2 + \text{const}$: quadratic in $z$, hence a Gaussian. Find its mean and covariance by completing the square.


# %% tags=["quiz"]
def posterior(bench, x):
    """Mean (n, latents) and covariance (latents, latents) of p(z|x): the covariance is the same for every image.

    bench: has weight (pixels, latents), bias (pixels,) and sigma;  x: (n, pixels), float64.
    """
    ### BEGIN SOLUTION
    eye = torch.eye(bench.weight.shape[1], dtype=x.dtype)
    cov = torch.linalg.inv(eye + bench.weight.T @ bench.weight / bench.sigma**2)
    mean = (x - bench.bias) @ bench.weight @ cov / bench.sigma**2
    return mean, cov
    ### END SOLUTION


# %% tags=["check"]
posterior = check("vae/posterior", posterior)

# %% [markdown]
# ### {{heading vae/exact-bound}}
# Both costs of (2.1) for a proposal $q=\mathcal N(\text{mean},\text{cov})$. The KL is a call; $\mathbb E_q[-\ln p(x\mid z)]$ is the expectation of a quadratic function.


# %% tags=["quiz"]
def exact_bound(bench, x, mean, cov):
    """Reconstruction E_q[−ln p(x|z)] and KL(q ‖ p(z)), each (n,), in nats, for q = N(mean, cov), equation (2.1).

    x: (n, pixels);  mean: (n, latents);  cov: (latents, latents), one for all images;
    bench.log_likelihood(x, z) is ln p(x|z), (n,), for one code per image.
    """
    ### BEGIN SOLUTION
    spread = (bench.weight @ cov @ bench.weight.T).trace() / (2 * bench.sigma**2)
    reconstruction = -bench.log_likelihood(x, mean) + spread
    eye = torch.eye(len(cov), dtype=cov.dtype)
    many = (len(mean), -1, -1)
    kl = gaussian_kl(mean, cov.expand(many), torch.zeros_like(mean), eye.expand(many))
    return reconstruction, kl
    ### END SOLUTION


# %% tags=["check"]
exact_bound = check("vae/exact-bound", exact_bound)

# %% [markdown]
# ### {{heading vae/gap}}
# What the bound loses, by (2.2).


# %% tags=["quiz"]
def gap(bench, x, mean, cov):
    """ln p(x) − ELBO of each image, (n,), for q = N(mean, cov), from its meaning in (2.2). Arguments as above."""
    ### BEGIN SOLUTION
    true_mean, true_cov = posterior(bench, x)
    many = (len(mean), -1, -1)
    return gaussian_kl(mean, cov.expand(many), true_mean, true_cov.expand(many))
    ### END SOLUTION


# %% tags=["check"]
gap = check("vae/gap", gap)

# %% [markdown]
# Now the test. Four proposals, from careless to perfect: if (2.2) were wrong, the last two columns would differ. Then $q$ slides from the prior to the posterior.

# %%
bench, eye = linear_model(latents=3), torch.eye(3, dtype=torch.float64)
x, _ = bench.sample(4, generator)
true_mean, true_cov = posterior(bench, x)
proposals = {
    "the prior itself": (0 * true_mean, eye),
    "half-way to the posterior": (0.5 * true_mean, 0.5 * (eye + true_cov)),
    "right mean, too narrow": (true_mean, 0.1 * true_cov),
    "the posterior": (true_mean, true_cov),
}
evidence, worst = log_evidence(bench, x), 0.0
print(f"{'q(z|x), first image':26s}reconstr.  KL(q‖p(z))    ELBO   KL(q‖p(z|x))   ELBO + KL    ln p(x)")
for name, q in proposals.items():
    (reconstruction, kl), lost = exact_bound(bench, x, *q), gap(bench, x, *q)
    both = lost - reconstruction - kl
    worst = max(worst, (both - evidence).abs().max().item())
    row = (reconstruction, kl, -reconstruction - kl, lost.abs(), both, evidence)
    print(f"{name:25s}" + "".join(f"{v[0]:{w}.3f}" for v, w in zip(row, (10, 11, 11, 12, 13, 11))))
print(f"largest difference of the two sides, all images and proposals: {worst:.1e} nats")

at = torch.linspace(0, 1, 60, dtype=torch.float64)
costs = [exact_bound(bench, x, t * true_mean, (1 - t) * eye + t * true_cov) for t in at]
bound = torch.stack([-(reconstruction + kl)[0] for reconstruction, kl in costs])
plots.curves(
    {"ELBO (shaded: KL(q ‖ p(z|x)), what it loses)": (at, bound)},
    band={"ELBO (shaded: KL(q ‖ p(z|x)), what it loses)": (bound, evidence[0].expand(60))},
    mark={"ln p(x)": (None, evidence[0])},
    title="The bound rises to the evidence as q becomes the posterior",
    x_label="q slides from the prior (0) to the posterior (1)",
    y_label="nats",
)

# %% [markdown]
# The evidence is a property of the model and doesn't move; the bound climbs towards it, and the shaded area is the divergence of (2.2).
#
# **A place to pause.** You have the bound, its price and its gap, tested. What follows puts networks in.

# %% [markdown]
# ## 2.5 · A gradient through a random draw
#
# The bound contains $\mathbb E_{q}[f(z)]$ with $f(z)=\ln p(x\mid z)$, and the parameters of $q$ sit *inside the distribution* that is drawn from.
# How does one differentiate a mean with respect to where the draws come from?
#
# **Move the draw.** Write the draw as a fixed random number, shifted and stretched:
#
# $$z = \mu + \sigma\odot\varepsilon,\quad \varepsilon\sim\mathcal N(0,I)\qquad\Longrightarrow\qquad
#   \nabla_\mu\,\mathbb E[f(z)] = \mathbb E_\varepsilon\big[\nabla_z f(\mu+\sigma\odot\varepsilon)\big]. \tag{2.5}$$
#
# The randomness no longer depends on the parameters, so differentiation and expectation may change places, and the gradient goes into $f$. This is the **reparameterization trick**.
#
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
# ### The other estimator, and why the VAE doesn't use it *(extra)*
#
# **Weigh the draw.** Or leave the draw alone and differentiate its density, with $\nabla q = q\,\nabla\ln q$:
#
# $$\nabla_\mu\,\mathbb E_q[f(z)] = \int f(z)\,\nabla_\mu q(z)\,dz = \mathbb E_q\big[f(z)\,\nabla_\mu\ln q(z)\big]
#   = \mathbb E\Big[f(z)\,\frac{\varepsilon}{\sigma}\Big]. \tag{2.6}$$
#
# This is the **score-function estimator**, REINFORCE in reinforcement learning. It never differentiates $f$, so it also serves where $f$ has no gradient or $z$ is discrete.
# Both estimators are unbiased. What is a single draw worth?
#
# #### {{heading vae/score-function}}
# Write (2.6), one estimate per draw.


# %% tags=["quiz"]
def score_function_gradient(f, mean, log_var, noise):
    """n single-draw estimates of ∇_μ E[f(z)] that never differentiate f, equation (2.6).

    f: (n, d) → (n,), a value for each row;  mean, log_var: (d,);  noise: (n, d).  Returns (n, d).
    """
    ### BEGIN SOLUTION
    sigma = (0.5 * log_var).exp()
    values = f(mean + sigma * noise)
    return values.unsqueeze(1) * noise / sigma
    ### END SOLUTION


# %% tags=["check"]
score_function_gradient = check("vae/score-function", score_function_gradient)

# %% [markdown]
# #### {{heading vae/reparameterized}}
# Write the right half of (2.5), again one estimate per draw, with PyTorch's automatic differentiation.


# %% tags=["quiz"]
def reparameterized_gradient(f, mean, log_var, noise):
    """n single-draw estimates of ∇_μ E[f(z)] that differentiate f, equation (2.5). Arguments as above."""
    ### BEGIN SOLUTION
    z = (mean + (0.5 * log_var).exp() * noise).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(f(z).sum(), z)
    return gradient
    ### END SOLUTION


# %% tags=["check"]
reparameterized_gradient = check("vae/reparameterized", reparameterized_gradient)

# %% [markdown]
# **Predict, then run.** Take $f(z)=-\tfrac12\lVert z-a\rVert^2$, a Gaussian log-likelihood, with 20 latents, $\mu=0$, $\sigma=1$ and $a=(1,\dots,1)$.
# The true gradient is $a-\mu$. How many times larger is the variance of the score-function estimate of one of its entries?

# %% tags=["predict"]
question = "Variance of the score-function gradient ÷ variance of the reparameterized one, 20 latents"
guess = predict("vae/variance-ratio", question, 1, 1000)

# %%
def f(z):
    return -0.5 * (z - 1).square().sum(dim=1)


draws = torch.randn(20_000, 100, generator=lab.generator(4, "cpu"))
estimators = {"score function (2.6)": score_function_gradient, "reparameterized (2.5)": reparameterized_gradient}
sizes, variance = (1, 2, 5, 10, 20, 50, 100), {name: [] for name in estimators}
for name, estimator in estimators.items():
    for d in sizes:
        gradients = estimator(f, torch.zeros(d), torch.zeros(d), draws[:, :d])
        variance[name].append(gradients.var(dim=0).mean().item())
        if d == 20:
            error = gradients[:, 0].std() / math.sqrt(len(draws))
            print(f"{name:22s} first entry {gradients[:, 0].mean():.3f} ± {error:.3f} (true: 1), variance {variance[name][-1]:.1f}")
ratio = variance["score function (2.6)"][4] / variance["reparameterized (2.5)"][4]
plots.curves(
    {name: (sizes, values) for name, values in variance.items()},
    log_x=True,
    log_y=True,
    title="Both estimators are unbiased; one gets noisier with every latent",
    x_label="number of latents",
    y_label="variance of one entry's gradient",
)

# %%
reveal("vae/variance-ratio", round(ratio))

# %% [markdown]
# Both agree with the true gradient within their errors. But the score function multiplies *the whole value* of $f$, to which every latent contributes, into every entry of the gradient:
# its variance grows with the square of the number of latents. The derivative of $f$ knows which latent did what. To be as steady, the score function would need
# as many draws per image as the ratio says. The VAE uses one.

# %% [markdown]
# ## 2.6 · What the decoder's likelihood says, and why it blurs
#
# The first term of the bound needs $\ln p(x\mid z)$, so the decoder must be a distribution. **Bernoulli**: each pixel in $[0,1]$ is treated as a coin with probability $\lambda$ = the decoder's output; the cost is the binary cross-entropy of (1.2). **Gaussian**: each of the $P$ pixels is $\mathcal N(m_i,\sigma^2)$ around the decoder's output $m$:
#
# $$-\ln p(x\mid z) = \sum_{i=1}^{P}\Big[\frac{(x_i-m_i)^2}{2\sigma^2} + \ln\sigma + \tfrac12\ln 2\pi\Big]. \tag{2.7}$$
#
# With $\sigma$ fixed this is, up to a constant, the squared error divided by $2\sigma^2$.

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

# %%
one = F.pad(test.x[:1].cpu(), (3, 3, 0, 0), value=-1.0)  # room for the shoe to move
shifted = torch.cat([torch.roll(one, shift, dims=3) for shift in range(-3, 4)])


def best_single_image(cost):
    logits = torch.zeros_like(one, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in until_stopped(range(300)):
        optimizer.zero_grad()
        cost(logits.expand_as(shifted)).mean().backward()
        optimizer.step()
    return (logits.detach() / 2).tanh()


mean_image = shifted.mean(0, keepdim=True).expand_as(shifted)
best = {
    "best Bernoulli": best_single_image(lambda logits: bernoulli_nll(logits, shifted)),
    "best Gaussian": best_single_image(lambda logits: ((logits / 2).tanh() - shifted).square().flatten(1).sum(1) / 2),
}
for name, image in best.items():
    print(f"{name}: at most {(image - mean_image).abs().max():.3f} from the plain mean (pixels run from -1 to 1)")
plots.image_grid(
    torch.cat([shifted[[0, 3, 6]], *best.values(), mean_image[:1]]),
    columns=6,
    labels=["shifted by −3", "by 0", "by 3", *best, "plain mean"],
    title=f"{test.title}: asked for one image, both answer with the mean",
)

# %% [markdown]
# Nothing here was short of capacity or training. Minimising the expected squared error gives $m=\mathbb E[x\mid z]$, and so does minimising the expected cross-entropy
# $-\mathbb E[x]\ln\lambda-(1-\mathbb E[x])\ln(1-\lambda)$, whose derivative vanishes at $\lambda=\mathbb E[x]$. When several images share a code, blur is the *right answer* to the question that these likelihoods ask. Diffusion (03–07) asks a different one.

# %% [markdown]
# ### Which σ? *(extra)*
#
# #### {{heading vae/gaussian-nll}}
# One cost per image, with $\ln\sigma$ as a tensor that may be learned.


# %% tags=["quiz"]
def gaussian_nll(x, mean, log_sigma):
    """−ln N(x; mean, σ² I) of each image in nats, summed over its pixels, equation (2.7).

    x, mean: (b, ...), any number of axes;  log_sigma: ln σ, a scalar tensor.  Returns (b,).
    """
    ### BEGIN SOLUTION
    squares = ((x - mean) / log_sigma.exp()).square()
    per_pixel = 0.5 * squares + log_sigma + 0.5 * math.log(2 * math.pi)
    return per_pixel.flatten(1).sum(dim=1)
    ### END SOLUTION


# %% tags=["check"]
gaussian_nll = check("vae/gaussian-nll", gaussian_nll)

# %% [markdown]
# With $\sigma$ fixed (2.7) is the squared error divided by $2\sigma^2$: choosing $\sigma$ is choosing the exchange rate between squared error and KL. But which $\sigma$ is the best?
#
# #### {{heading vae/best-sigma}}
# Given images and their reconstructions, which single $\sigma$ makes (2.7), summed over the batch, smallest? Differentiate with respect to $\ln\sigma$.


# %% tags=["quiz"]
def best_log_sigma(x, mean):
    """The ln σ that minimises (2.7) summed over the batch.  x, mean: (b, ...).  Returns a scalar tensor."""
    ### BEGIN SOLUTION
    return 0.5 * (x - mean).square().mean().log()
    ### END SOLUTION


# %% tags=["check"]
best_log_sigma = check("vae/best-sigma", best_log_sigma)

# %%
on_grid = torch.linspace(-4, 1, 501)
cheapest = torch.stack([gaussian_nll(shifted, mean_image, s).sum() for s in on_grid]).argmin()
yours = best_log_sigma(shifted, mean_image)
print(f"best σ for the mean of the seven: {on_grid[cheapest].exp():.3f} on a grid, {yours.exp():.3f} by your formula")

# %% [markdown]
# ### A word on grey values *(extra)*
# A Bernoulli variable is 0 or 1. Our pixels are grey, and $\lambda^x(1-\lambda)^{1-x}$ read as a density of $x\in[0,1]$ doesn't integrate to one. Loaiza-Ganem & Cunningham (2019) give the missing constant:
# the integral is $(2\lambda-1)/(\ln\lambda-\ln(1-\lambda))$, which lies between 0 and ½. We keep the Bernoulli cost, as nearly everyone does, because it trains well; it is a fair cost for comparing models on the same images.

# %%
grey = torch.linspace(0, 1, 2001, dtype=torch.float64)
rate = torch.linspace(0.005, 0.995, 198, dtype=torch.float64)  # never exactly ½, where the closed form is 0/0
area = torch.trapezoid(rate[:, None] ** grey * (1 - rate[:, None]) ** (1 - grey), grey, dim=1)
closed = (2 * rate - 1) / (rate.log() - (1 - rate).log())
white = (test.x.cpu() + 1) / 2
floor = torch.special.entr(white).add(torch.special.entr(1 - white)).flatten(1).sum(1).mean()
print(f"numerical against closed form: largest difference {(area - closed).abs().max():.1e}")
print(f"{test.title}: even a perfect reconstruction costs {floor:.1f} nats per image")
plots.curves(
    {"∫ λˣ(1−λ)¹⁻ˣ dx": (rate, area)},
    mark={"a density": (None, 1.0)},
    title="Read as a density of grey values, Bernoulli falls short of 1",
    x_label="decoder's output λ",
    y_label="area under it",
)

# %% [markdown]
# #### {{heading vae/grey-bernoulli}}
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
# ## 2.7 · Your VAE
#
# Now all of it with networks, in five stages: encoder, decoder, the model around them, its bound, and the loss for the training loop. What you write here is what every later section trains. Images have the shape $(c, h, w)$, and $h$ and $w$ are multiples of 4, not always equal.
#
# ### {{heading vae/encoder}}
# Two convolutions of kernel 4, stride 2, padding 1 with `width` channels, each followed by a ReLU; then one linear layer on everything. What must it say per image, so that $q(z\mid x)=\mathcal N(\mu,\operatorname{diag}\sigma^2)$?


# %% tags=["quiz"]
class Encoder(nn.Module):
    """Images (b, c, h, w) in [-1, 1] → mean and ln σ² of q(z|x), each (b, latent), in float32."""

    def __init__(self, shape, latent, width=32):
        ### BEGIN SOLUTION
        super().__init__()
        c, h, w = shape
        self.body = nn.Sequential(
            nn.Conv2d(c, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * (h // 4) * (w // 4), 2 * latent),
        )

    def forward(self, x):
        mean, log_var = self.body(x).float().chunk(2, dim=1)
        return mean, log_var
        ### END SOLUTION


# %% tags=["check"]
Encoder = check("vae/encoder", Encoder)

# %% [markdown]
# ### {{heading vae/decoder}}
# The same road back: a linear layer to `width` maps of $h/4\times w/4$, ReLU, and two transposed convolutions of kernel 4, stride 2, padding 1 with a ReLU between them. It returns **logits**.


# %% tags=["quiz"]
class Decoder(nn.Module):
    """Codes (b, latent) → logits (b, c, h, w), any real numbers, in float32: λ = sigmoid(logit) for each pixel."""

    def __init__(self, shape, latent, width=32):
        ### BEGIN SOLUTION
        super().__init__()
        c, h, w = shape
        self.body = nn.Sequential(
            nn.Linear(latent, width * (h // 4) * (w // 4)),
            nn.ReLU(),
            nn.Unflatten(1, (width, h // 4, w // 4)),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, c, 4, stride=2, padding=1),
        )

    def forward(self, z):
        return self.body(z).float()
        ### END SOLUTION


# %% tags=["check"]
Decoder = check("vae/decoder", Decoder)

# %% [markdown]
# ### {{heading vae/class}}
# The two networks, and what a latent-variable model can do. `bernoulli_nll(logits, x)` is your cross-entropy (1.2) of notebook 01: nats per image, summed over pixels.


# %% tags=["quiz"]
class VAE(nn.Module):
    """Prior N(0, I), encoder q(z|x), Bernoulli decoder p(x|z). Attribute: latent, the number of latents.

    encode(x) → mean, ln σ²;  logits(z) → (b, c, h, w);  nll(x, z) → −ln p(x|z), (b,), nats per image;
    decode(z) → the mean image of p(x|z), in [-1, 1];  sample(n, generator) → n of them from the prior, no gradient.
    """

    def __init__(self, shape, latent, width=32):
        ### BEGIN SOLUTION
        super().__init__()
        self.latent = latent
        self.encoder, self.decoder = Encoder(shape, latent, width), Decoder(shape, latent, width)

    def encode(self, x):
        return self.encoder(x)

    def logits(self, z):
        return self.decoder(z)

    def nll(self, x, z):
        return bernoulli_nll(self.logits(z), x)

    def decode(self, z):
        return 2 * torch.sigmoid(self.logits(z)) - 1

    @torch.no_grad()
    def sample(self, n, generator=None):
        device = next(self.parameters()).device
        return self.decode(torch.randn(n, self.latent, generator=generator, device=device))
        ### END SOLUTION


# %% tags=["check"]
VAE = check("vae/class", VAE)

# %% [markdown]
# ### {{heading vae/elbo}}
# Encode, draw once with the noise that is handed in, and return both costs of (2.1).
# The gradient has to reach the encoder by *both* roads, through the KL and through the draw; the check follows it there.


# %% tags=["quiz"]
def elbo(model, x, noise):
    """Both costs of the bound for each image, equation (2.1): ELBO = −reconstruction − kl.

    model: has encode(x) and nll(x, z);  x: (b, c, h, w) in [-1, 1];  noise: (b, latent), standard normal.
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
# ### {{heading vae/loss}}
# The loop, `fit` of notebook 01, calls `loss(model, x, y, generator)` at every step with a batch (the labels `y` are not used), and wants a scalar to minimise and a dictionary of scalars to write down. Write the function that makes such a loss, with a weight β on the KL. For now β = 1.


# %% tags=["quiz"]
def negative_elbo(beta=1.0):
    """A loss for `fit`: the mean over the batch of reconstruction + beta · kl, with noise drawn from its generator.

    Returns loss(model, x, y, generator) → (scalar, {"reconstruction": mean over the batch, "kl": the same}).
    """

    ### BEGIN SOLUTION
    def loss(model, x, y, generator):
        noise = torch.randn(len(x), model.latent, generator=generator, device=x.device)
        reconstruction, kl = elbo(model, x, noise)
        terms = {"reconstruction": reconstruction.mean(), "kl": kl.mean()}
        return (reconstruction + beta * kl).mean(), terms

    return loss
    ### END SOLUTION


# %% tags=["check"]
negative_elbo = check("vae/loss", negative_elbo)

# %% [markdown]
# ### Train it
# Two latents first, because two can be drawn. (Warm-up, a falling learning rate and clipping steady the first and the last steps; notebook 05 takes them apart.)

# %%
steps, batch = lab.pick(smoke=(30, 32), cpu=(1500, 64), gpu=(6000, 128))
recipe = {"lr": 4e-3, "warmup": steps // 10, "lr_schedule": "cosine", "clip": 100.0}
histories = []


def train_vae(latent, loss, seed=0, make=None):
    with seeded(seed):
        model = (make or VAE)(train.shape, latent).to(lab.device)
    histories.append(fit(model, loss, train, steps=steps, batch_size=batch, seed=seed, **recipe))
    return model


two = train_vae(2, negative_elbo())
width = max(1, len(histories[0].loss) // 40)  # a running mean
smooth = {name: torch.tensor(term).unfold(0, width, 1).mean(1) for name, term in histories[0].terms.items()}
at = torch.arange(len(smooth["kl"]))
plots.curves(
    {"−ELBO": (at, smooth["reconstruction"] + smooth["kl"]), "reconstruction": (at, smooth["reconstruction"])},
    title=f"Two latents: the distance of the curves is the KL, {smooth['kl'][-1]:.1f} nats at the end",
    x_label="training step",
    y_label="nats per image",
)


# %%
def copies(model, x):
    with torch.no_grad():
        return model.decode(model.encode(x)[0])


shown, invented = test.x[:10], two.sample(10, lab.generator(5))
plots.image_rows(
    {
        "original": shown,
        "copy, through the mean code": copies(two, shown),
        "from the prior: mean of p(x|z)": invented,
        "the same codes: drawn from p(x|z)": 2 * torch.bernoulli((invented + 1) / 2, generator=lab.generator(6)) - 1,
    },
    title=f"{train.title}: two latents rebuild roughly, and can invent",
)

# %% [markdown]
# The third row is what notebook 01 had no rule for: codes from a prior that the training knew of. Some are garments, some are stains. The fourth is a surprise to most: *this* is a sample in the sense of 2.1, code and pixels both drawn. With independent pixels it is all grain, and so everybody shows the mean image and calls it a sample. So do we from here on, but now you know.
#
# Why does it work so far, and no farther? Look at where the encoder puts images. Each is a small Gaussian rather than a point; the ellipses are two standard deviations. The dashed circle holds 86 % of the prior. **Do the little Gaussians, taken together, fill it?** Decide before you read on; pick single classes too.

# %%
means, log_vars = (part.cpu() for part in encode_all(two, test.x))
turn, labels = torch.linspace(0, 2 * math.pi, 200), test.labels.cpu()


def posteriors_over_prior(shown, kind):
    keep = torch.arange(len(test)) if kind == "all" else (labels == test.classes.index(kind)).nonzero().flatten()
    keep = keep[:shown]
    ellipses = (means[keep], (0.5 * log_vars[keep]).exp())
    title = f"{test.title}: {len(keep)} posteriors (2σ) over the prior"
    figure = plots.scatter_classes(means[keep], labels[keep], test.classes, ellipses=ellipses, title=title)
    figure.axes[0].plot(2 * turn.cos(), 2 * turn.sin(), "--", color="#222222", linewidth=1.4)
    return figure


explore(
    posteriors_over_prior,
    shown=slider(5, 100, value=60, step=5, label="images"),
    kind=choice(["all", *(test.classes[test.labels[i]] for i in test.examples())], label="class"),
    title="Do the little Gaussians, taken together, fill the prior?",
    alt="Ellipses of the posteriors q(z|x) of test images over a dashed circle that holds 86 % of the prior",
)

# %%
with seeded(7):
    crowd = reparameterize(means, log_vars, torch.randn_like(means))
tile = (4 * torch.special.ndtr(crowd)).long().clamp(max=3)  # 4 × 4 tiles, each with 1/16 of the prior
share = torch.bincount(4 * tile[:, 0] + tile[:, 1], minlength=16) / len(crowd)
print(f"16 tiles with {1 / 16:.1%} of the prior each hold {share.min():.1%} to {share.max():.1%} of the codes")

# %% [markdown]
# No. Each posterior would love to be tiny (a precise code) and the KL charges for it (2.4), so it is only as small as the reconstruction needs. And each would love to sit far from the others,
# and the KL charges for distance from the centre. What is left is a crowd with packed quarters and empty ones (compare the two shares above): a draw from an empty one is decoded to something that no image taught the decoder. An ellipse that overlaps another class is a place where it has to blur.
#
# ### The whole latent space on one page *(extra)*
# If the prior is what codes follow, then equal *probability*, not equal distance, should get equal room on the page. The inverse normal CDF $\Phi^{-1}$ does that:
# take a regular grid $u\in(0,1)^2$ and decode $z=\Phi^{-1}(u)$. Every tile then stands for the same share of samples. Look for the ground that the ellipses left empty: it is where the stains come from.

# %%
side = lab.pick(smoke=8, cpu=15, gpu=20)
u = (torch.arange(side) + 0.5) / side  # the middles of equal shares
grid = torch.cartesian_prod(torch.special.ndtri(u), torch.special.ndtri(u)).flip(1)  # z₂ constant along a row
with torch.no_grad():
    decoded = two.decode(grid.to(lab.device)).cpu().unflatten(0, (side, side))
plots.manifold(
    decoded,
    (u[0], u[-1], u[0], u[-1]),
    title=f"{train.title}: every tile is an equal share of the prior",
    x_label="share of the prior with smaller z₁",
    y_label="share of the prior with smaller z₂",
)

# %% [markdown]
# ## 2.8 · How loose is the bound? *(extra)*
#
# The ELBO is low by $\mathrm{KL}(q\,\|\,p(z\mid x))$ (2.2), which we can't compute for a network. But we can tighten it. Jensen's inequality loses much when the quantity under the logarithm varies much,
# and a *mean of several draws* varies less. With importance weights $w_i = p(x\mid z_i)\,p(z_i)/q(z_i\mid x)$ and $z_i\sim q(z\mid x)$,
#
# $$\mathcal L_K(x)=\mathbb E\Big[\ln\frac1K\sum_{i=1}^K w_i\Big],\qquad \mathrm{ELBO}=\mathcal L_1\le\mathcal L_2\le\dots\le\ln p(x). \tag{2.8}$$
#
# *Why a bound:* $\mathbb E\big[\frac1K\sum w_i\big]=p(x)$, then Jensen. *Why it rises:* the mean of $K+1$ weights is the average of the means of all its subsets of $K$; Jensen once more. This is the **importance-weighted bound** (Burda, Grosse and Salakhutdinov; IWAE for short, after their importance-weighted autoencoder).
# On a computer $w_i$ underflows: $e^{-250}$ is zero in float32. So one keeps $\ln w_i$.
#
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
# ### {{heading vae/log-weights}}
# And the weights: $\ln w = \ln p(x\mid z)+\ln p(z)-\ln q(z\mid x)$ for K codes per image.


# %% tags=["quiz"]
def log_weights(model, x, noise):
    """ln w for k draws z ~ q(z|x) of each image: (k, b), nats, the inside of equation (2.8).

    model: has encode(x) and nll(x, z), one code per image;  x: (b, c, h, w);  noise: (k, b, latent), standard normal.
    """
    ### BEGIN SOLUTION
    mean, log_var = model.encode(x)
    q = Normal(mean, (0.5 * log_var).exp())
    z = q.mean + q.stddev * noise
    log_ratio = (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(dim=2)
    return log_ratio - torch.stack([model.nll(x, draw) for draw in z])
    ### END SOLUTION


# %% tags=["check"]
log_weights = check("vae/log-weights", log_weights)

# %% [markdown]
# First where $\ln p(x)$ is known, with a proposal that is off on purpose; then on your VAE, where it isn't. If the bound passed the dashed line by more than sampling noise, or fell as $K$ grows, (2.8) would be wrong.

# %%
bench = linear_model(latents=3)
x, _ = bench.sample(1, lab.generator(8, "cpu"))
true_mean, true_cov = posterior(bench, x)
proposal = MultivariateNormal(true_mean[0] + 0.15, 2 * true_cov)
prior = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
with seeded(6):
    z = proposal.sample((4096 * 50,))
log_w = bench.log_likelihood(x.expand(len(z), -1), z) + prior.log_prob(z) - proposal.log_prob(z)
counts = [4**i for i in range(7)]
tighter = [iwae_bound(log_w.view(k, -1)).mean().item() for k in counts]

k_max, few = lab.pick(smoke=(16, 20), cpu=(256, 100), gpu=(1024, 500))
with torch.no_grad():
    noise = torch.randn(k_max, few, 2, generator=lab.generator(7), device=lab.device)[:, : len(test)]
    log_w = log_weights(two, test.x[:few], noise)
for k in [k for k in (1, 4, 16, 64, 256, 1024) if k <= k_max]:
    bound = iwae_bound(log_w.unflatten(0, (k, -1)).flatten(1))
    print(f"VAE with 2 latents, K = {k:4d}: {bound.mean():8.2f} nats per image")
plots.curves(
    {"importance-weighted bound": (counts, tighter)},
    mark={"ln p(x), exact": (None, log_evidence(bench, x).item())},
    log_x=True,
    title="On the test bench the bound rises to the evidence",
    x_label="draws K",
    y_label="nats",
)

# %% [markdown]
# The picture shows the guarantee at work: from below, up to the known value. The printed lines have no dashed line, which is the situation in real life: all we know is that the truth, up to the noise of sampling, is not below the last of them.

# %% [markdown]
# ## 2.9 · The mystery of the hundred latents
#
# A widely read tutorial trains a VAE with 2 latents on 28×28 images and likes the samples. With 100 latents the copies get crisper and *the samples get poor*. It blames the compute budget, or "non-existent modes" of the data.
# Here is its model: your class with 100 latents, trained with the tutorial's loss as it stands. (`tutorial_loss` comes from the library; you will read its code in a moment.)

# %%
published = train_vae(100, tutorial_loss)
plots.image_rows(
    {
        "original": shown,
        "copies, 2 latents (yours)": copies(two, shown),
        "copies, 100 latents (tutorial)": copies(published, shown),
        "samples, 2 latents (yours)": invented,
        "samples, 100 latents (tutorial)": published.sample(10, lab.generator(5)),
    },
    title=f"{train.title}: it copies best and invents worst",
)

# %% [markdown]
# ### {{heading vae/suspects}}
# {{question vae/suspects}}

# %% tags=["quiz"]
### BEGIN SOLUTION
first_suspect = "a"
### END SOLUTION
### BEGIN HANDED OUT
# first_suspect = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("vae/suspects", first_suspect)

# %% [markdown]
# ### Question the codes
# Draw a code from $q(z\mid x)$ for many images and look at the covariance of the whole crowd. If codes lay where the prior draws, it would be the identity, every eigenvalue about 1.
# An eigenvalue far above 1 is a direction in which codes stick out of the prior. One far below 1 is worse: there the codes lie on a thin sheet, and a draw from the prior leaves it. (The curve of true draws from the prior shows how much chance alone scatters.)

# %%
many = train.first(5000).x


def codes_of(model, images, seed=13):
    mean, log_var = encode_all(model, images)
    noise = torch.randn(mean.shape, generator=lab.generator(seed), device=mean.device)
    return reparameterize(mean, log_var, noise).cpu().double()


def plot_eigenvalues(models):
    crowds = {name: codes_of(model, many) for name, model in models.items()}
    crowds["draws of the prior"] = torch.randn(len(many), 100, generator=lab.generator(14, "cpu")).double()
    values = {name: torch.linalg.eigvalsh(z.T.cov()).flip(0).clamp(min=1e-3) for name, z in crowds.items()}
    return plots.curves(
        {name: (torch.arange(1, 101), value) for name, value in values.items()},
        title="Do all codes together fill the prior?",
        x_label="direction, widest first",
        y_label="variance of the codes",
        log_y=True,
    )


mean, log_var = encode_all(published, test.x)
print(f"KL at the end of training, as the tutorial's loss reports it: {histories[-1].terms['kl'][-1]:6.1f} nats")
print(f"KL of the same model by your function, on test images:        {kl_to_standard_normal(mean, log_var).mean():6.1f}")
plot_eigenvalues({"codes, tutorial": published})

# %% [markdown]
# The first suspect is guilty: the codes are nowhere near the prior. But why? The KL stands in the loss for that very purpose, and the training report says that it was small. Compare the two numbers above the picture.
#
# ### {{heading vae/tutorial-loss}}
# Here is the tutorial's loss, in our notation. It runs, it trains, and it was published. Find what is wrong with it and repair it; from here on *your* version is trained.


# %% tags=["quiz"]
def their_loss(model, x, y, generator):
    """−ELBO of a batch in nats per image, averaged over its images, equation (2.1).

    model: has encode(x) and logits(z);  x: (b, c, h, w) in [-1, 1].
    Returns the loss and {"reconstruction", "kl"}, means over the batch in nats per image.
    """
    ### BEGIN SOLUTION
    mean, log_var = model.encode(x)
    sigma = torch.exp(0.5 * log_var)
    epsilon = torch.randn(mean.shape, generator=generator, device=mean.device)
    z = mean + sigma * epsilon

    target = (x + 1) / 2
    logits = model.logits(z)
    per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    reconstruction = per_pixel.sum(dim=(1, 2, 3))

    per_latent = 0.5 * (mean.square() + log_var.exp() - log_var - 1)
    kl = per_latent.sum(dim=1)

    loss = (reconstruction + kl).mean()
    return loss, {"reconstruction": reconstruction.mean(), "kl": kl.mean()}
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # mean, log_var = model.encode(x)
    # sigma = torch.exp(0.5 * log_var)
    # epsilon = torch.randn(mean.shape, generator=generator, device=mean.device)
    # z = mean + sigma * epsilon
    #
    # target = (x + 1) / 2
    # logits = model.logits(z)
    # per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    # reconstruction = per_pixel.sum(dim=(1, 2, 3))
    #
    # per_latent = 0.5 * (mean.square() + log_var.exp() - log_var - 1)
    # kl = per_latent.mean(dim=1)
    #
    # loss = (reconstruction + kl).mean()
    # return loss, {"reconstruction": reconstruction.mean(), "kl": kl.mean()}
    ### END HANDED OUT


# %% tags=["check"]
their_loss = check("vae/tutorial-loss", their_loss)

# %% [markdown]
# ### {{heading vae/what-it-did}}
# {{question vae/what-it-did}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_it_did = "d"
### END SOLUTION
### BEGIN HANDED OUT
# what_it_did = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("vae/what-it-did", what_it_did)

# %% [markdown]
# The reconstruction was *summed* over pixels, the KL *averaged* over $d$ latents. So what was minimised is not $-\mathrm{ELBO}$ but
#
# $$\text{reconstruction} + \beta\,\mathrm{KL}\qquad\text{with}\qquad\beta=\frac1d . \tag{2.9}$$
#
# For $\beta=1$ this is the bound; for other values it is known as the **β-VAE** objective (Higgins et al. argue for $\beta>1$).
#
# ### Train the repaired loss
# From the same first weights, on the same batches, for as many steps. **Predict, then run:** the pixels cost what they cost before, but a nat of KL is a hundred times as expensive as in the tutorial. What will the KL be?

# %% tags=["predict"]
guess = predict("vae/kl-of-100", "KL per image, 100 latents, trained with the repaired loss", 0, 300, unit="nats")

# %%
repaired = train_vae(100, their_loss)


def costs_of(model, seed=2):
    """Reconstruction and KL in nats per image, means over the test images."""
    with torch.no_grad():
        noise = torch.randn(len(test), model.latent, generator=lab.generator(seed), device=lab.device)
        costs = [elbo(model, *part) for part in zip(test.x.split(500), noise.split(500))]
    return [torch.cat(cost).mean().item() for cost in zip(*costs)]


for name, model in {"tutorial": published, "repaired": repaired}.items():
    reconstruction, kl = costs_of(model)
    print(f"{name}: reconstruction {reconstruction:.1f} + KL {kl:.1f} = −ELBO {reconstruction + kl:.1f} nats per image")
plot_eigenvalues({"codes, tutorial": published, "codes, repaired": repaired})

# %%
reveal("vae/kl-of-100", round(costs_of(repaired)[1], 1))

# %%
plots.image_rows(
    {
        "original": shown,
        "copies, tutorial": copies(published, shown),
        "copies, repaired": copies(repaired, shown),
        "samples, tutorial": published.sample(10, lab.generator(15)),
        "samples, repaired": repaired.sample(10, lab.generator(15)),
    },
    title=f"{train.title}, 100 latents: softer copies, better inventions",
)

# %% [markdown]
# The copies got softer, the samples turned from tangles into soft shapes, some of them garments, and the bound agrees: measured by one yardstick, the tutorial's model pays far more nats per image. More compute would only have minimised the wrong objective more exactly.
#
# ### {{heading vae/nobody-noticed}}
# {{question vae/nobody-noticed}}

# %% tags=["quiz"]
### BEGIN SOLUTION
nobody_noticed = "b"
### END SOLUTION
### BEGIN HANDED OUT
# nobody_noticed = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("vae/nobody-noticed", nobody_noticed)

# %% [markdown]
# ### Put a number on it
# Ten samples are an impression. The usual number compares *sets* of images: fit one Gaussian to the **features** of real images, one to those of generated images, and take their squared Fréchet distance,
#
# $$d^2 = \lVert m_1-m_2\rVert^2 + \operatorname{tr}\big(\Sigma_1+\Sigma_2-2(\Sigma_1\Sigma_2)^{1/2}\big). \tag{2.10}$$
#
# ### {{heading vae/frechet}}
# Write (2.10). The root of a matrix is meant, not of its entries; of it you need only the trace.


# %% tags=["quiz"]
def frechet_distance(a, b):
    """Squared Fréchet distance of the Gaussians fitted to two sets of features, equation (2.10).

    a: (n, d), b: (m, d), one row of features per image.  Returns a float.  Compute in double precision.
    """
    ### BEGIN SOLUTION
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    between = (a.mean(0) - b.mean(0)).square().sum()
    cross = torch.linalg.eigvals(cov_a @ cov_b).sqrt().real.sum()
    return (between + cov_a.trace() + cov_b.trace() - 2 * cross).item()
    ### END SOLUTION


# %% tags=["check"]
frechet_distance = check("vae/frechet", frechet_distance)

# %% [markdown]
# Which features? `features_for(train)` gives those of a small classifier that comes with the course (where it knows such images). **Before you trust a number, show it things that you know.** Our controls: as many real training images (the floor, not 0, because sets are finite), and *ghosts*, draws from one Gaussian fitted in pixel space (the third recipe of notebook 00), both as they are and clamped to $[-1,1]$.
#
# Each model is trained from three seeds, and the ± is the standard deviation over them. If our explanation is wrong, the repaired model's samples will be as far from the data as the tutorial's, within the error of the difference. And a second idea is tested: if only the *place of sampling* is wrong, codes drawn from a Gaussian fitted to the model's own codes (notebook 01) should rescue the tutorial's model.

# %%
features, what = features_for(train, lab.device)
real, n = features(test.x), len(test)
families = {"tutorial": [published], "repaired": [repaired]}
for seed in lab.pick(smoke=(1,), cpu=(1, 2), gpu=(1, 2)):
    families["tutorial"].append(train_vae(100, tutorial_loss, seed))
    families["repaired"].append(train_vae(100, their_loss, seed))


def distance(images):
    return frechet_distance(real, features(images))


def sample_fitted(model, seed):
    """Decode draws from a Gaussian fitted to the model's own codes."""
    z = fit_gaussian(codes_of(model, many)).sample(n, lab.generator(seed, "cpu"))
    with torch.no_grad():
        return model.decode(z.float().to(lab.device))


pixels = fit_gaussian(many.cpu().flatten(1).double())
ghosts = [pixels.sample(n, lab.generator(seed, "cpu")).float().view(n, *train.shape) for seed in range(3)]
draws = 2 * torch.bernoulli((repaired.sample(n, lab.generator(20)) + 1) / 2, generator=lab.generator(21)) - 1
table = {
    "real training images": [distance(train.first(n).x)],
    "ghosts": [distance(x) for x in ghosts],
    "ghosts, clamped": [distance(x.clamp(-1, 1)) for x in ghosts],
    "repaired, pixels drawn too": [distance(draws)],
}
for name, models in families.items():
    table[f"{name}, prior"] = [distance(model.sample(n, lab.generator(20 + k))) for k, model in enumerate(models)]
    table[f"{name}, own Gaussian"] = [distance(sample_fitted(model, 30 + k)) for k, model in enumerate(models)]

# %%
table = {name: torch.tensor(values) for name, values in table.items()}
again = torch.tensor([distance(repaired.sample(n, lab.generator(40 + k))) for k in range(8)])
print(f"d² (2.10) in {what}, {n} images against as many test images")
for name, values in table.items():
    spread = f" ± {values.std():.1f} over {len(values)}" if len(values) > 1 else ""
    print(f"  {name:28s}{values.mean():8.1f}{spread}")
print(f"the repaired model, eight other sets of samples: {again.mean():.1f} ± {again.std():.1f}\n")


def compare(first, second):
    a, b = table[first], table[second]
    error = (a.var() / len(a) + b.var() / len(b)).sqrt()
    print(f"{first} − {second}: {a.mean() - b.mean():+.1f} ± {2 * error:.1f} (two standard errors over seeds)")


compare("tutorial, prior", "repaired, prior")
compare("tutorial, own Gaussian", "repaired, prior")
compare("tutorial, own Gaussian", "repaired, own Gaussian")
plotted = {name: values for name, values in table.items() if values.mean() < 300}
plots.bars(
    {name: values.mean() for name, values in plotted.items()},
    errors={name: values.std() for name, values in plotted.items() if len(values) > 1},
    title=f"d² of {n} images to test images (lower is nearer); bars: ± one standard deviation over seeds",
    y_label="squared Fréchet distance",
    form=".0f",
)

# %% [markdown]
# Read the controls first. Ghosts are far from the data in these features; in *linear* features, the main directions of the pixels, the same ghosts are nearly as near as real images (printed below question 2.9f), and a d² made of those could not measure quality at all. And the repaired model's true draws from $p(x\mid z)$, grain included, are farther away than its mean images: d² judges what you show it.
#
# Then the models, by the three differences and their errors. From the prior, the repaired loss is nearer to the data, and yet still far away: blur is punished like junk. But look at the rows "own Gaussian". **The tutorial's model, with one Gaussian fitted to its codes, comes nearer still**, nearer than the repaired model from its prior.
#
# ### {{heading vae/why-the-kl}}
# {{question vae/why-the-kl}}

# %% tags=["quiz"]
### BEGIN SOLUTION
why_the_kl = "c"
### END SOLUTION
### BEGIN HANDED OUT
# why_the_kl = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("vae/why-the-kl", why_the_kl)

# %%
linear = PCA.fit(many.cpu().double(), 32).encode
seen = {"real training images": train.first(n).x, "ghosts": ghosts[0], "repaired, prior": repaired.sample(n)}
for name, x in seen.items():
    near = frechet_distance(linear(test.x.cpu().double()), linear(x.cpu().double()))
    print(f"d² in 32 linear features: {name:22s}{near:7.1f}")

few = test.x[:300]
for name, model in {"tutorial": published, "repaired": repaired}.items():
    own = fit_gaussian(codes_of(model, many))  # its own prior, by your general KL (2.3) in place of (2.4)
    mean, log_var = (part.cpu().double() for part in encode_all(model, few))
    shape = (len(few), -1, -1)
    kl = gaussian_kl(mean, torch.diag_embed(log_var.exp()), own.mean.expand_as(mean), own.cov.expand(shape)).mean()
    standard = kl_to_standard_normal(mean, log_var).mean()
    granted = sum(costs_of(model)) - (standard - kl).item()
    print(f"{name}: KL to N(0, I) {standard:5.1f} nats, to the Gaussian of its own codes {kl:5.1f}; with it −ELBO is about {granted:.0f}")

# %% [markdown]
# So why the full KL? Two yardsticks, two verdicts. In nats the repaired model wins even against a tutorial model that is granted its own Gaussian as prior (the last numbers above). Fine codes are expensive to send. For the look of samples, a good copyist and a *second* model of its codes do better than a prior that is kept by force and paid for with blur.
# That is no accident of this notebook: the autoencoders of latent diffusion models are trained with a tiny weight on the KL, on purpose, and a diffusion model then learns where the codes lie (Rombach et al.). What the tutorial got wrong is not the small β. It called the result a VAE and drew from a prior that nobody had kept.
#
# ### Shorter codes *(extra)*
# Can one draw better from the prior? Shorter codes are a popular remedy: draw $z=s\,\varepsilon$ with $s<1$. Guess for which of the two models it helps, if for any; then run the cell, and move `s` to see what the numbers mean.

# %%
for name, models in families.items():
    z = torch.randn(n, 100, generator=lab.generator(15), device=lab.device)
    with torch.no_grad():
        said = ", ".join(f"{distance(models[0].decode(s * z)):.0f} for s = {s:g}" for s in (0.5, 0.7, 0.85, 1.0))
    print(f"d² of {n} samples, {name}: {said} (one model, one draw)")
directions = torch.randn(10, 100, generator=lab.generator(16), device=lab.device)


def stretch(s):
    with torch.no_grad():
        rows = {name: models[0].decode(s * directions) for name, models in families.items()}
    return plots.image_rows(rows, title=f"Codes z = s · ε with s = {s:.2f}, the same ε for both models")


explore(
    stretch,
    s=slider(0, 2, value=1, step=0.05, label="s"),
    title="Does a shorter code make a better image?",
    alt="Samples of both models with 100 latents from the same noise, stretched by s",
)

# %% [markdown]
# ## 2.10 · Turning β, and latents that fall silent *(extra)*
#
# A latent earns its keep if a nat spent on it saves more than β nats of pixels. As β rises, latent after latent stops paying: its posterior returns to the prior for every image.
#
# ### {{heading vae/silent-latent}}
# {{question vae/silent-latent}}

# %% tags=["quiz"]
### BEGIN SOLUTION
silent_latent = "a"
### END SOLUTION
### BEGIN HANDED OUT
# silent_latent = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("vae/silent-latent", silent_latent)

# %% [markdown]
# Burda et al. count a latent as **active** if its posterior mean differs from image to image:
#
# $$A_j = \operatorname{Var}_{x}\big(\mathbb E_{q(z\mid x)}[z_j]\big), \qquad \text{active if } A_j > 0.01 . \tag{2.11}$$
#
# ### {{heading vae/active}}
# Write (2.11).


# %% tags=["quiz"]
def active_units(means, threshold=0.01):
    """Which latents are active, equation (2.11).  means: (n, d), E[z|x] of n images.  Returns (d,) of bool."""
    ### BEGIN SOLUTION
    return means.var(dim=0) > threshold
    ### END SOLUTION


# %% tags=["check"]
active_units = check("vae/active", active_units)

# %%
sweep = {0.01: published, 1.0: repaired} | {beta: train_vae(100, negative_elbo(beta)) for beta in (10.0, 100.0)}
spectrum, counted = {}, {}
print("   β   reconstr.      KL   active (2.11)   KL above 0.1 nat")
for beta, model in sweep.items():
    mean, log_var = encode_all(model, test.x)
    own = kl_to_standard_normal(mean.reshape(-1, 1), log_var.reshape(-1, 1)).view_as(mean).mean(0)  # of each latent
    spectrum[f"β = {beta:g}"] = (torch.arange(1, 101), own.sort(descending=True).values.cpu().clamp(min=1e-5))
    reconstruction, kl = costs_of(model)
    counted[beta] = active_units(mean).sum().item()
    print(f"{beta:6g}{reconstruction:9.1f}{kl:10.1f}{counted[beta]:12d}{(own > 0.1).sum():15d}")
figure = plots.curves(
    spectrum,
    log_y=True,
    title="Who still speaks? The KL of each latent",
    x_label="latent, loudest first",
    y_label="nats per image",
)
figure.axes[0].get_legend().remove()
figure.legend(loc="outside lower center", ncols=4, frameon=False)
figure

# %%
plots.image_rows(
    {"original": shown} | {f"copies, β = {beta:g}": copies(model, shown) for beta, model in sweep.items()},
    title=f"{train.title}: from copies to one answer for every code",
)

# %% [markdown]
# At the largest β no latent is left: **posterior collapse**, and the decoder answers every code with the same image. At β = 1 and 10 the two counts disagree: latents that the bound has no use for fade slowly, and a short training leaves many of them whispering, above the threshold of (2.11) and below a tenth of a nat. A threshold is a convention; the whole spectrum is a measurement.

# %% [markdown]
# ## 2.11 · Bits per dimension *(extra)*
#
# Papers quote likelihoods in **bits per dimension**: how many bits a pixel value costs, on average, if images are compressed with the model. To get there we need a true density over pixels, hence a Gaussian decoder with learned $\sigma$, and some care with units.
#
# Pixels take 256 levels; in our range $[-1,1]$ they lie $\Delta=2/255$ apart. A density could grow without limit by spiking at these levels. So each level is spread evenly over its bin: `dequantise` adds uniform noise of width $\Delta$.
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

    nll: (b,), −ln p(x) in nats per image;  dimensions: c·h·w;  bin_width: Δ, between two grey levels.  Returns (b,).
    """
    ### BEGIN SOLUTION
    return nll / (dimensions * math.log(2)) - math.log2(bin_width)
    ### END SOLUTION


# %% tags=["check"]
bits_per_dimension = check("vae/bits", bits_per_dimension)


# %%
def gaussian_vae(shape, latent):
    """Your VAE with a Gaussian decoder and one learned σ for all pixels."""
    model = VAE(shape, latent)
    model.log_sigma = nn.Parameter(torch.tensor(-1.0))
    model.nll = lambda x, z: gaussian_nll(x, model.decode(z), model.log_sigma)
    return model


def dequantised_loss(model, x, y, generator):
    return negative_elbo()(model, dequantise(x, generator), y, generator)


density = train_vae(32, dequantised_loss, make=gaussian_vae)
few, P = dequantise(test.x[:100], lab.generator(17)), math.prod(train.shape)
noise = torch.randn(lab.pick(smoke=8, cpu=32, gpu=64), len(few), 32, generator=lab.generator(18), device=lab.device)


def bits_of_model():
    with torch.no_grad():
        return bits_per_dimension(-iwae_bound(log_weights(density, few, noise)), P, 2 / 255).mean().item()


learned, before = density.log_sigma.exp().item(), bits_of_model()
with torch.no_grad():
    codes = codes_of(density, many).float().to(lab.device)
    rebuilt = torch.cat([density.decode(part) for part in codes.split(500)])
    density.log_sigma.copy_(best_log_sigma(dequantise(many, lab.generator(19)), rebuilt))
bits = bits_of_model()
average = many.mean(0, keepdim=True)  # a VAE without any active latent could do this: the mean image, one σ
wide = best_log_sigma(many, average.expand_as(many))
silent = bits_per_dimension(gaussian_nll(few, average.expand_as(few), wide), P, 2 / 255).mean().item()
black = -torch.ones_like(average)
beyond = Normal(average, wide.exp()).cdf(black) + Normal(-average, wide.exp()).cdf(black)
print(f"σ: learned {learned:.3f}, {before:.2f} bits; by your formula {density.log_sigma.exp():.3f}, {bits:.2f} bits")
print(f"every level equally likely  {math.log2(256):.2f} bits per dimension")
print(f"mean image and one σ        {silent:.2f}   (σ = {wide.exp():.2f}, {beyond.mean():.0%} outside [-1, 1])")
print(f"VAE, 32 latents, IWAE       at most {bits:.2f}")

# %% [markdown]
# The learned $\sigma$ follows the error down and lags behind it, since the learning rate falls to zero; your formula puts it where (2.7) wants it. The mean image with one wide $\sigma$ may cost more than knowing nothing at all: it spends probability beyond black and white, where no pixel is, and has no way to say that most border pixels are exactly black.
# The comparison that counts is between the last two lines: what knowing the code is worth.

# %% [markdown]
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {train.title}, {steps_made(*histories)} of {batch} images per model\n")
print(f"2.1  blind draws with 20 latents miss ln p(x) by {errors[20][25]:.0f} nats (median of 50)")
print(f"2.4  ELBO + KL(q‖p(z|x)) = ln p(x), to {worst:.0e} nats")
print(f"2.5  variance of the score-function gradient ÷ reparameterized, 20 latents: {ratio:.0f}")
for name in families:
    for source in ("prior", "own Gaussian"):
        values = table[f"{name}, {source}"]
        print(f"2.9  100 latents, {name}, {source}: d² {values.mean():.0f} ± {values.std():.0f}, {len(values)} seeds")
print("2.10 active latents: " + ", ".join(f"{k} at β = {beta:g}" for beta, k in counted.items()))

# %% [markdown]
# **What to take along.** A latent-variable model prices an image by an integral; the bound replaces the integral by an encoder's proposal and says exactly what that costs. Both terms are sums in nats, and mixing a sum with a mean silently changes the model. A number for quality is worth what its controls say.
# Diffusion (03–06) keeps this bound and makes a radical choice: the encoder is fixed, adds noise, and learns nothing.
#
# ## Go further *(ungraded)*
# 1. **A baseline.** Subtract the mean of $f$ from $f$ in (2.6). Why is the estimate still unbiased (almost), and how far does the variance fall?
# 2. **One σ per pixel.** Give the Gaussian decoder a learned $\sigma_i$ for every pixel. What happens to bits per dimension, and which pixels get the smallest σ? What must you guard against where a pixel never changes?
# 3. **Between the two losses.** Train β = 0.03, 0.1 and 0.3 and draw d², from the prior and from the fitted Gaussian, against β. Where do the curves cross?
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
# * R. Rombach et al., *High-Resolution Image Synthesis with Latent Diffusion Models*, CVPR 2022. arXiv:2112.10752
# * L. Theis, A. van den Oord, M. Bethge, *A note on the evaluation of generative models*, ICLR 2016. arXiv:1511.01844
