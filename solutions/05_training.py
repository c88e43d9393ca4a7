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
# # 05 · Training
#
# Notebook 03 turned images into noise, and notebook 04 built a network that takes a noisy image and answers with an image. Nobody has told it yet *what* to answer.
# Here you derive the loss from the bound of notebook 02, write the training loop that minimises it, and build that loop up until it survives having its plug pulled.
# From then on every model in this notebook is trained by your own code.
#
# **What you will be able to do**
# * derive the loss of diffusion models from the variational bound, line by line, and name the weight that everybody drops;
# * write Algorithm 1, the three targets ε, x₀ and v, and the conversions between them;
# * write a training loop with a moving average, warm-up and decay, accumulation and clipping, and resume it bit for bit;
# * tell a difference from an accident of the seed, and a falling loss from a model that gets better.
#
# **Before you start:** notebooks 02 (the bound, KL of Gaussians), 03 ($\bar\alpha_t$, `add_noise`, the posterior) and 04 (the U-Net).
#
# {{budget}}
#
# The text describes effort `cpu` or above, on Fashion-MNIST. At `smoke` the networks are hardly trained.

# %% tags=["setup"]
import copy
import math
import time
from functools import partial

import torch
from torch import nn
from torch.distributions import Normal

from classroom import ask, check, predict, reveal
from course_utils import plots, recipes, setup, together
from course_utils.data import GaussianMixture, load
from course_utils.data.by_grid import best_answer, grid_denoiser
from course_utils.device import autocast, has_bfloat16, seeded
from course_utils.diffusion import Denoiser, cosine_schedule, draw_steps, linear_schedule, predict_x0
from course_utils.explore import choice, explore, slider, toggle
from course_utils.sampling import clipped, ddim, last
from course_utils.pitfalls import training as pitfalls
from course_utils.training import Muon, until_stopped
from course_utils.weights import load_denoiser, shipped
from course_utils.yardsticks import Yardstick, against_first

lab = setup("05")

# %% [markdown]
# The data, and four helpers for all that follows: the next batch, a new U-Net (a quarter of the course's in size, so that there is time for several seeds), samples, and a yardstick for them. How samples are drawn is notebook 06's subject.

# %%
train_set = load(lab.data, "train", device=lab.device, fallback="digits")
test_set = load(lab.data, "test", device=lab.device, fallback="digits")
test_set = test_set.first(lab.pick(smoke=32, cpu=400, gpu=2000))
schedule = recipes.ddpm_schedule().to(lab.device)
batch_size = lab.pick(smoke=16, cpu=64, gpu=128)


def batch(generator):
    """The next training images, drawn at random."""
    return train_set.take(
        torch.randint(len(train_set), (batch_size,), generator=generator, device=lab.device)
    )


def new_model(seed=0, widths=(16, 32)):
    """The U-Net of notebook 04, with the same first weights for the same seed."""
    with seeded(seed):
        return recipes.ddpm_model(train_set.shape, widths=widths).to(lab.device)


def draw(model, n, seed=1, target="v"):
    """n samples (n, c, h, w), from noise in a few deterministic steps."""
    noise = torch.randn(n, *train_set.shape, generator=lab.generator(seed), device=lab.device)
    denoise, walk = clipped(Denoiser(model, schedule, target)), lab.pick(smoke=3, cpu=15, gpu=50)
    with autocast(lab.device):
        return last(ddim(denoise, schedule, noise, walk))


yardstick = Yardstick(train_set, test_set, lab.device)
print(
    f"{train_set.title}: {len(train_set):,} images to train on, {len(test_set):,} to measure on, each {train_set.shape}"
)

# %% [markdown]
# ## 5.1 · Which loss does the bound ask for?
#
# The chain of notebook 03 walks from an image $x_0$ to noise $x_T$. We want to walk back: draw $x_T\sim\mathcal N(0,I)$, then $x_{T-1}$, and so on, each from a Gaussian $p(x_{t-1}\mid x_t)$ whose mean a network supplies.
# That is a latent-variable model with latents $x_1,\dots,x_T$ and an encoder $q$ that only adds noise. So it has the bound (2.1):
#
# $$-\ln p(x_0)\;\le\;\mathbb E_q\Big[-\ln p(x_T)-\sum_{t=1}^{T}\ln\frac{p(x_{t-1}\mid x_t)}{q(x_t\mid x_{t-1})}\Big].$$
#
# It compares a step *back* with a step *forward*. Four lines turn this into something we can compute.
#
# **1. Turn $q$ round.** Given $x_{t-1}$, the image $x_0$ says nothing new about $x_t$, so we may add $x_0$ as a condition, and Bayes' rule says for $t\ge2$
# $$q(x_t\mid x_{t-1}) = q(x_{t-1}\mid x_t,x_0)\;\frac{q(x_t\mid x_0)}{q(x_{t-1}\mid x_0)} .$$
#
# **2. Put it in.** The logarithm of the product is a sum, and step 1 stays as it is:
# $$\mathbb E_q\Big[-\ln p(x_T)-\sum_{t\ge2}\ln\frac{p(x_{t-1}\mid x_t)}{q(x_{t-1}\mid x_t,x_0)}+\sum_{t\ge2}\big\{\ln q(x_t\mid x_0)-\ln q(x_{t-1}\mid x_0)\big\}-\ln p(x_0\mid x_1)+\ln q(x_1\mid x_0)\Big].$$
#
# **3. The braces telescope.** What one term adds the next takes away, and only the two ends remain:
# $$\sum_{t=2}^{T}\big\{\ln q(x_t\mid x_0)-\ln q(x_{t-1}\mid x_0)\big\}=\ln q(x_T\mid x_0)-\ln q(x_1\mid x_0) .$$
# The last one cancels against $+\ln q(x_1\mid x_0)$ in line 2.
#
# **4. Sort.** A mean of $\ln(q/p)$ over $q$ is a divergence, so what is left is a sum of divergences of *the same* step:
#
# $$-\ln p(x_0)\;\le\;\underbrace{\mathrm{KL}\big(q(x_T\mid x_0)\,\|\,p(x_T)\big)}_{L_T}
#   +\sum_{t=2}^{T}\underbrace{\mathbb E_q\,\mathrm{KL}\big(q(x_{t-1}\mid x_t,x_0)\,\|\,p(x_{t-1}\mid x_t)\big)}_{L_{t-1}}
#   +\underbrace{\mathbb E_q\big[-\ln p(x_0\mid x_1)\big]}_{L_0}. \tag{5.1}$$
#
# ### {{heading training/no-gradient}}
# {{question training/no-gradient}}

# %% tags=["quiz"]
### BEGIN SOLUTION
no_gradient = "c"
### END SOLUTION
### BEGIN HANDED OUT
# no_gradient = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/no-gradient", no_gradient)

# %% [markdown]
# Read (5.1) as a price list. $L_T$: how far the end of the chain is from the noise that sampling starts with. $L_{t-1}$: how badly the network undoes step $t$, compared with the posterior (3.8), which knows the answer. $L_0$: what the last step pays for the pixels.
#
# ### {{heading training/equal-variance-kl}}
# The posterior's variance $\tilde\beta_t$ depends on no image. So give $p(x_{t-1}\mid x_t)$ *that* variance, and leave only its mean to the network. What remains of (2.3) when both covariances are $\sigma^2I$? Work it out on paper, then write it.


# %% tags=["quiz"]
def kl_same_variance(mean_q, mean_p, var):
    """KL(N(mean_q, var·I) ‖ N(mean_p, var·I)) of each image, in nats.

    mean_q, mean_p: (b, c, h, w), or any (b, ...);  var: (b, 1, 1, 1), σ² of each image.  Returns (b,).
    """
    ### BEGIN SOLUTION
    return ((mean_q - mean_p).square() / (2 * var)).flatten(1).sum(1)
    ### END SOLUTION


# %% tags=["check"]
kl_same_variance = check("training/equal-variance-kl", kl_same_variance)

# %% [markdown]
# Determinants and traces cancel, and a divergence has become a squared distance:
#
# $$\mathrm{KL}\big(\mathcal N(\mu_q,\sigma^2 I)\,\|\,\mathcal N(\mu_p,\sigma^2 I)\big)=\frac{\lVert\mu_q-\mu_p\rVert^2}{2\sigma^2}. \tag{5.2}$$
#
# ### Does the bound hold? *(extra)*
# A derivation can be tested. Take numbers instead of images, $x_0\sim\mathcal N(0,\,0.5^2)$. The best denoiser is known then (notebook 03) and linear, so $-\ln p(x_0)$ of the *model* is known too.
# For every number of steps $T$ three numbers must keep their order: entropy of the data ≤ what the model charges ≤ what the bound says it charges. If (5.1) were wrong, two curves would cross.
#
# #### {{heading training/bound-terms}}
# Write the bound. The model walks back by the posterior, with its guess $\hat x_0$ in the place of $x_0$; its last step is a Gaussian around $\hat x_0$ of variance $1/\mathrm{SNR}_1$. Draw the noise of $x_t$ for $t=2,\dots,T$ in this order, then that of $x_1$.


# %% tags=["quiz"]
def bound_terms(denoise, schedule, x0, generator):
    """L_T (b,), L_{t−1} (b, T − 1) for t = 2..T, L_0 (b,), in nats, equation (5.1); one draw for each step.

    denoise(x_t, t) → x̂_0;  x0: (b, ...);  draw noise with torch.randn(x0.shape, generator=generator, dtype=x0.dtype).
    `schedule.posterior(x0, x_t, t)` is (3.8), with `.mean` and `.var`; `kl_same_variance` is yours.
    """

    ### BEGIN SOLUTION
    def noised(t):
        t = torch.full((len(x0),), t)
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        return schedule.add_noise(x0, t, noise), t

    left = schedule.alpha_bar[-1]
    prior = 0.5 * (left * x0.square() + (1 - left) - (1 - left).log() - 1).flatten(1).sum(1)
    steps = []
    for t in range(2, schedule.T + 1):
        x_t, t = noised(t)
        q, p = schedule.posterior(x0, x_t, t), schedule.posterior(denoise(x_t, t), x_t, t)
        steps.append(kl_same_variance(q.mean, p.mean, q.var))
    decoder = Normal(denoise(*noised(1)), schedule.snr[1].rsqrt().to(x0))
    return prior, torch.stack(steps, 1), -decoder.log_prob(x0).flatten(1).sum(1)
    ### END SOLUTION


# %% tags=["check"]
bound_terms = check("training/bound-terms", bound_terms)

# %%
toy, entropy = GaussianMixture(torch.zeros(1, 1), 0.5), 0.5 * math.log(2 * math.pi * math.e * 0.5**2)


def variance_of_samples(chain):
    """Of what the model generates on the toy: x_{t−1} = c_t x_t + noise of variance β̃_t, from T down to 0."""
    one, var, denoise = torch.ones(1, 1, dtype=torch.float64), 1.0, toy.denoiser(chain)
    for t in range(chain.T, 1, -1):
        t = torch.tensor([t])
        back = chain.posterior(denoise(one, t), one, t)
        var = back.mean.item() ** 2 * var + back.var.item()
    return denoise(one, torch.tensor([1])).item() ** 2 * var + 1 / chain.snr[1].item()


numbers = toy.sample(lab.pick(smoke=500, cpu=4000, gpu=4000), lab.generator(1, "cpu")).double()
lengths = [2, 4, 10, 30, 100] + lab.pick(smoke=[], cpu=[300, 1000], gpu=[300, 1000])
charged, truth = [], []
for T in lengths:
    chain = linear_schedule(T)
    prior, steps, decoder = bound_terms(toy.denoiser(chain), chain, numbers, lab.generator(2, "cpu"))
    total, var = prior + steps.sum(1) + decoder, variance_of_samples(chain)
    charged.append((total.mean().item(), total.std().item() / len(total) ** 0.5))
    truth.append(0.5 * math.log(2 * math.pi * var) + 0.5**2 / (2 * var))
broken = [T for T, (b, e), m in zip(lengths, charged, truth) if b < m - 4 * e or m < entropy - 1e-9]
print(
    "the order is " + (f"BROKEN at T = {broken}" if broken else "kept at every T, within 4 standard errors")
)
plots.curves(
    {"bound (5.1)": (lengths, [b for b, _ in charged]), "−ln p(x₀) of the model": (lengths, truth)},
    band={"bound (5.1)": ([b - 2 * e for b, e in charged], [b + 2 * e for b, e in charged])},
    mark={"entropy of the data": (None, entropy)},
    log_x=True,
    title="The bound stays above the model, and the model above the data",
    x_label="number of steps T",
    y_label="nats",
)

# %% [markdown]
# The lower gap closes quickly. The upper one opens before it closes: $\tilde\beta_t$ is the variance of somebody who knows $x_0$, and whoever has to guess should allow for more. Nichol & Dhariwal (2021) let the network learn the variance to close this gap; we keep it fixed.

# %% [markdown]
# ## 5.2 · The weight that was dropped
#
# What does (5.2) say about the network's answer? Four lines again. Model and posterior use the same $x_t$, so in (3.8) only the $x_0$-term differs:
#
# $$\mu_q-\mu_p=\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,(x_0-\hat x_0).$$
#
# Square it and divide by $2\tilde\beta_t=2\,\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\beta_t$, as (5.2) asks. One $\beta_t$ and one $1-\bar\alpha_t$ cancel:
#
# $$L_{t-1}=\frac12\cdot\frac{\bar\alpha_{t-1}\,\beta_t}{(1-\bar\alpha_{t-1})(1-\bar\alpha_t)}\;\mathbb E\lVert x_0-\hat x_0\rVert^2 .$$
#
# Since $\bar\alpha_t=\bar\alpha_{t-1}(1-\beta_t)$, the numerator is $\bar\alpha_{t-1}-\bar\alpha_t=\bar\alpha_{t-1}(1-\bar\alpha_t)-\bar\alpha_t(1-\bar\alpha_{t-1})$: the fraction splits into two, and each is a signal-to-noise ratio (Kingma et al. 2021):
#
# $$L_{t-1}=\tfrac12\big(\mathrm{SNR}_{t-1}-\mathrm{SNR}_t\big)\;\mathbb E\,\lVert x_0-\hat x_0\rVert^2 = w_t\;\mathbb E\,\lVert\varepsilon-\hat\varepsilon\rVert^2 . \tag{5.3}$$
#
# The right-hand side asks for the noise instead of the image. By (3.4) the one fixes the other, so an error in $\varepsilon$ is one in $x_0$ in another unit.
#
# ### {{heading training/bound-weight}}
# Find $w_t$. For $t=1$ there is no divergence but $L_0$, which charges $\tfrac12\lVert\varepsilon-\hat\varepsilon\rVert^2$ and a constant: $w_1=\tfrac12$.


# %% tags=["quiz"]
def bound_weight(schedule, t):
    """w_t: what the bound charges for |ε − ε̂|² at step t, equation (5.3); ½ at t = 1.

    schedule: has `.snr`, (T + 1,) float64, infinite at index 0;  t: (b,) integers in 1..T.
    Returns (b,) float64.
    """
    ### BEGIN SOLUTION
    snr = schedule.snr
    return torch.where(t == 1, 0.5, 0.5 * (snr[t - 1] / snr[t] - 1))
    ### END SOLUTION


# %% tags=["check"]
bound_weight = check("training/bound-weight", bound_weight)

# %% [markdown]
# **Predict, then run.** On the linear schedule of the DDPM paper, $T=1000$: how many times heavier does the bound count an error in the noise at $t=2$ than at $t=1000$?

# %% tags=["predict"]
predict(
    "training/weight-ratio", "Weight of the bound at t = 2 ÷ weight at t = 1000, linear schedule", 0, 200
)

# %% [markdown]
# ### {{heading training/dropped-weight}}
# {{question training/dropped-weight}}

# %% tags=["quiz"]
### BEGIN SOLUTION
dropped_weight = "d"
### END SOLUTION
### BEGIN HANDED OUT
# dropped_weight = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/dropped-weight", dropped_weight)

# %%
chain, every_step = linear_schedule(1000), torch.arange(1, 1001)
weight = bound_weight(chain, every_step)
ratio = (weight[1] / weight[-1]).item()
reveal("training/weight-ratio", round(ratio, 1))
early = weight[:100].sum() / weight.sum()
print(f"share of the whole weight on t ≤ 100: bound {early:.0%}, equal weights 10%")
plots.curves(
    {
        "bound, linear schedule": (every_step, 100 * weight / weight.sum()),
        "equal weights": ([1, 1000], [0.1, 0.1]),
    },
    log_y=True,
    title="Share of the weight that goes to each step",
    x_label="step t",
    y_label="% of the weight",
)

# %% [markdown]
# Ho et al. (2020) tried both and dropped the weight: $w_t=1$ for every $t$. A common factor changes nothing, so look at the *shares*: they fall at small $t$, where the noise is too faint to see, and rise at medium and large $t$. In their paper the samples got better and the likelihood worse.

# %% [markdown]
# ## 5.3 · Algorithm 1, and a loop around it
#
# A sum over a thousand steps for every image is too expensive. But a sum is $T$ times a mean, and a mean can be sampled: draw *one* $t$ per image. Drop $w_t$, and the whole derivation condenses into
#
# $$L_{\text{simple}}=\mathbb E_{x_0,\;t\sim\mathcal U\{1..T\},\;\varepsilon}\,\Big\lVert\,\varepsilon-\varepsilon_\theta\big(\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\varepsilon,\;t\big)\Big\rVert^2 . \tag{5.4}$$
#
# We average over pixels instead of adding them up, so that losses don't grow with the size of the images.
#
# ### {{heading training/algorithm-1}}
# The random draws are handed in, so that your loss can be checked to the last digit. Its gradient is checked as well.


# %% tags=["quiz"]
def algorithm_1(model, x0, t, noise, schedule):
    """The simple loss of a batch, equation (5.4): mean squared error per pixel of the guessed noise.

    model: called as model(x_t, t), gives a guess of the noise, like x_t;
    x0: (b, c, h, w) in [-1, 1];  t: (b,) integers in 1..T;  noise: like x0, standard normal.  Returns a scalar.
    `schedule.add_noise(x0, t, noise)` is (3.4), from notebook 03.
    """
    ### BEGIN SOLUTION
    x_t = schedule.add_noise(x0, t, noise)
    return (noise - model(x_t, t)).square().mean()
    ### END SOLUTION


# %% tags=["check"]
algorithm_1 = check("training/algorithm-1", algorithm_1)

# %% [markdown]
# ### {{heading training/loop}}
# What stands between this loss and a trained network? A loop: a fresh batch, its loss, its gradient, a step of the optimizer. Write it. All randomness comes from `generator`, first for the batch, then for the loss.


# %% tags=["quiz"]
def train(model, loss, batch, optimizer, steps, generator):
    """Make `steps` optimizer steps and return their losses, a list of floats.

    batch(generator) → the next images;  loss(model, x, generator) → a scalar tensor.
    `for step in until_stopped(range(steps))` is a loop that the stop button ends after a whole step.
    """
    ### BEGIN SOLUTION
    losses = []
    for _ in until_stopped(range(steps)):
        x = batch(generator)
        value = loss(model, x, generator)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses
    ### END SOLUTION


# %% tags=["check"]
train = check("training/loop", train)

# %% [markdown]
# Run it twice. Once with a $t$ for each image, as (5.4) says (ours are dealt out evenly over the batch, a refinement measured below); once with a way of drawing examples that can be met in the wild. Everything else is the same: images, first weights, optimizer.


# %%
def drawn_per_image(x0, schedule, generator):
    """x_t, t and noise for Algorithm 1, the steps dealt out evenly over the batch (Kingma et al. 2021)."""
    t = draw_steps(len(x0), schedule.T, generator, x0.device)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    return schedule.add_noise(x0, t, noise), t, noise


def noise_loss(model, x0, generator, draws=drawn_per_image):
    _, t, noise = draws(x0, schedule, generator)
    with autocast(lab.device):
        return algorithm_1(model, x0, t, noise, schedule)


def short_training(draws):
    """A new network, trained for a moment on examples drawn this way, and its losses."""
    model, steps = new_model(), lab.pick(smoke=8, cpu=80, gpu=300)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    row = train(model, partial(noise_loss, draws=draws), batch, optimizer, steps, lab.generator(4))
    return model.eval(), row


losses = {}


def show_losses(title):
    rows = {name: (range(1, len(row) + 1), row) for name, row in losses.items()}
    return plots.curves(rows, log_y=True, title=title, x_label="training step", y_label="loss per pixel")


first_network, losses["as (5.4) says"] = short_training(drawn_per_image)
_, losses["the other way"] = short_training(pitfalls.draw_examples)
show_losses("Same images, same network: what is happening here?")

# %% [markdown]
# ### {{heading training/restless}}
# Both fall at first; one never settles. Here is the function that drew its examples. Find out why, and fix it.


# %% tags=["quiz"]
def draw_examples(x0, schedule, generator):
    """One training example per image: (x_t, t, noise), t uniform on 1..T, noise standard normal.

    x0: (b, c, h, w) in [-1, 1];  generator: where the random numbers come from.
    Returns x_t like x0, t (b,), noise like x0.
    """
    count, device = len(x0), x0.device

    # a step of the chain, and what it does to the signal
    ### BEGIN SOLUTION
    t = torch.randint(1, schedule.T + 1, (count,), generator=generator, device=device)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # t = torch.randint(1, schedule.T + 1, (1,), generator=generator, device=device)
    ### END HANDED OUT
    left = schedule.alpha_bar.to(device)[t].to(x0.dtype)
    signal_rate = left.sqrt().reshape(-1, 1, 1, 1)
    noise_rate = (1 - left).sqrt().reshape(-1, 1, 1, 1)

    # the noise, and the mixture of both
    noise = torch.randn(x0.shape, generator=generator, device=device)
    x_t = signal_rate * x0 + noise_rate * noise
    return x_t, t.expand(count), noise


# %% tags=["check"]
draw_examples = check("training/restless", draw_examples)

# %%
_, losses["the other way, repaired"] = short_training(draw_examples)
show_losses("Same images, same network: before and after the repair")

# %% [markdown]
# ### {{heading training/restless-effect}}
# {{question training/restless-effect}}

# %% tags=["quiz"]
### BEGIN SOLUTION
restless_effect = "b"
### END SOLUTION
### BEGIN HANDED OUT
# restless_effect = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/restless-effect", restless_effect)

# %% [markdown]
# Measure it, on the network that you just trained: the variance of a batch's gradient from batch to batch, all weights together.


# %%
def gradient_variance(draws, size):
    """Sum over all weights of the variance of their gradients, from batch to batch."""
    generator, rows, weights = lab.generator(5), [], list(first_network.parameters())
    for _ in range(lab.pick(smoke=4, cpu=24, gpu=64)):
        x0 = train_set.take(torch.randint(len(train_set), (size,), generator=generator, device=lab.device))
        gradient = torch.autograd.grad(noise_loss(first_network, x0, generator, draws), weights)
        rows.append(torch.cat([g.flatten() for g in gradient]))
    return torch.stack(rows).var(dim=0).sum().item()


usual = gradient_variance(draw_examples, 32)
relative = {
    "one t for 32 images": gradient_variance(pitfalls.draw_examples, 32) / usual,
    "one t for 128 images": gradient_variance(pitfalls.draw_examples, 128) / usual,
    "a t per image, 32 images": 1.0,
    "dealt out evenly, 32 images": gradient_variance(drawn_per_image, 32) / usual,
}
plots.bars(
    relative,
    title="How much the gradient varies from batch to batch",
    y_label="variance (a t per image = 1)",
)

# %% [markdown]
# A batch of independent examples halves its variance when it is twice as large. With one $t$ per batch that doesn't work: the difference *between* noise levels stays, however many images share the level. Only more batches help: as many of them must be averaged as the first bar is high.
# "Dealt out evenly" takes one $t$ from each $b$-th of the range; the loop above used it, and so does the rest of this notebook.

# %% [markdown]
# ## 5.4 · Overfit one batch first
#
# Before an hour of training comes a minute of doubt: is everything connected rightly? The cheapest test freezes *one* batch, images, steps, noise and all, and trains on it alone. A network with a hundred thousand weights must be able to learn eight images by heart.
# Your `train` can do that too: hand it a `batch` that always gives the same images. Two losses take the test, yours and one that people share.

# %%
frozen = test_set.x[:8]
frozen_t = torch.linspace(150, 700, len(frozen), device=lab.device).long()
frozen_noise = torch.randn(frozen.shape, generator=lab.generator(6), device=lab.device)
one_batch, implied = {}, {"what it saw": schedule.add_noise(frozen, frozen_t, frozen_noise)}


def overfit(name, loss):
    """Train a new network on the frozen batch alone; keep its losses, and the images that its answers imply."""
    copier, many = new_model(), lab.pick(smoke=15, cpu=150, gpu=400)
    optimizer = torch.optim.Adam(copier.parameters(), lr=3e-3)

    def fixed(model, x, generator):
        return loss(model, x, frozen_t, frozen_noise, schedule)

    one_batch[name] = train(copier, fixed, lambda g: frozen, optimizer, many, lab.generator(0))
    with torch.no_grad():
        seen = implied["what it saw"]
        implied[f"{name}: its image"] = predict_x0(
            schedule, "noise", copier(seen, frozen_t), seen, frozen_t
        )
    print(f"{name}: loss per pixel {one_batch[name][0]:.3f} → {one_batch[name][-1]:.1e}")


overfit("your loss", algorithm_1)
overfit("the shared loss", pitfalls.shared_loss)
plots.image_rows(
    implied | {"the clean images": frozen},
    labels=[f"t = {t}" for t in frozen_t.tolist()],
    title="Both losses fell. What is wrong in the third row?",
)

# %% [markdown]
# ### {{heading training/easy-loss}}
# This is the shared loss. It runs, and it falls at least as far as yours. Fix it.


# %% tags=["quiz"]
def shared_loss(model, x0, t, noise, schedule):
    """The simple loss of a batch, equation (5.4).  Arguments and result as in `algorithm_1`."""
    signal_rate, noise_rate = schedule.rates(t, x0)

    # the noisy image, put together in two steps
    ### BEGIN SOLUTION
    x_t = noise_rate * noise
    x_t = x_t + signal_rate * x0
    guess = model(x_t, t)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # noise = noise_rate * noise
    # noise = noise + signal_rate * x0
    # guess = model(noise, t)
    ### END HANDED OUT

    # squared error, first of each image, then of the batch
    error = guess - noise
    per_image = error.square().flatten(1).mean(dim=1)
    return per_image.mean()


# %% tags=["check"]
shared_loss = check("training/easy-loss", shared_loss)

# %%
overfit("the repaired loss", shared_loss)
plots.image_rows(
    implied | {"the clean images": frozen},
    labels=[f"t = {t}" for t in frozen_t.tolist()],
    title="The shared loss before and after the repair",
)

# %% [markdown]
# ### {{heading training/easy-loss-effect}}
# {{question training/easy-loss-effect}}

# %% tags=["quiz"]
### BEGIN SOLUTION
easy_loss_effect = "a"
### END SOLUTION
### BEGIN HANDED OUT
# easy_loss_effect = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/easy-loss-effect", easy_loss_effect)

# %%
start = torch.randn(10, *train_set.shape, generator=lab.generator(1), device=lab.device)
plots.image_rows(
    {
        "half of the noise that it began with": start / 2,
        "a perfect copier": draw(lambda x_t, t: x_t, 10, target="noise"),
        "real": train_set.first(10).x,
    },
    title="What a loss of exactly 0 generates",
)

# %% [markdown]
# A copy, $\hat\varepsilon=x_t$, implies the image $\hat x_0=\frac{1-\sqrt{1-\bar\alpha_t}}{\sqrt{\bar\alpha_t}}\,x_t$: a paler $x_t$, noise included. That is the faded boot of the third row. And a loss of 0 is the best there is: whoever goes by the loss alone would ship this network. So overfit one batch, and then *look* at what the network says, turned back into an image.

# %% [markdown]
# ## 5.5 · What should the network say?
#
# It sees $x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\varepsilon$. It may name the noise, or the image: one fixes the other. But the two questions are not equally hard everywhere.
#
# ### {{heading training/copying}}
# {{question training/copying}}

# %% tags=["quiz"]
### BEGIN SOLUTION
copying = "c"
### END SOLUTION
### BEGIN HANDED OUT
# copying = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/copying", copying)

# %% [markdown]
# ### {{heading training/v-target}}
# Salimans & Ho (2022) ask for something that can be copied at neither end. Write $\cos\varphi=\sqrt{\bar\alpha_t}$ and $\sin\varphi=\sqrt{1-\bar\alpha_t}$: as $t$ runs, $x_t=\cos\varphi\,x_0+\sin\varphi\,\varepsilon$ turns from image to noise along a circle. Their target is the *velocity* of this turn, $v=\mathrm dx_t/\mathrm d\varphi$. Differentiate, and write it.


# %% tags=["quiz"]
def v_target(x0, noise, t, schedule):
    """v, the derivative of x_t with respect to the angle φ.

    x0, noise: (b, c, h, w);  t: (b,) integers in 1..T.  Returns a tensor like x0.
    `schedule.rates(t, x0)` gives both rates, √ᾱ_t and √(1 − ᾱ_t), shaped to multiply x0.
    """
    ### BEGIN SOLUTION
    signal_rate, noise_rate = schedule.rates(t, x0)
    return signal_rate * noise - noise_rate * x0
    ### END SOLUTION


# %% tags=["check"]
v_target = check("training/v-target", v_target)

# %% [markdown]
# $$v=\sqrt{\bar\alpha_t}\;\varepsilon-\sqrt{1-\bar\alpha_t}\;x_0 . \tag{5.5}$$
#
# The pair $(x_t,v)$ is the pair $(x_0,\varepsilon)$ turned by the angle $\varphi$, and a turn can be undone.
#
# ### {{heading training/to-x0}}
# Samplers, metrics and pictures all want $\hat x_0$. Solve (3.4) for it, and (3.4) together with (5.5), and no later notebook has to ask what a network predicts.


# %% tags=["quiz"]
def to_x0(prediction_type, output, x_t, t, schedule):
    """The clean image that a network's answer implies.

    prediction_type: "noise", "x0" or "v", what the network was trained to predict;
    output, x_t: (b, c, h, w);  t: (b,) integers in 1..T.  Returns a tensor like x_t.
    """
    ### BEGIN SOLUTION
    if prediction_type == "x0":
        return output
    signal_rate, noise_rate = schedule.rates(t, x_t)
    if prediction_type == "v":
        return signal_rate * x_t - noise_rate * output
    return (x_t - noise_rate * output) / signal_rate
    ### END SOLUTION


# %% tags=["check"]
to_x0 = check("training/to-x0", to_x0)

# %% [markdown]
# $$\hat x_0=\big(x_t-\sqrt{1-\bar\alpha_t}\,\hat\varepsilon\big)/\sqrt{\bar\alpha_t}\quad\text{from }\hat\varepsilon,\qquad \hat x_0=\sqrt{\bar\alpha_t}\,x_t-\sqrt{1-\bar\alpha_t}\,\hat v\quad\text{from }\hat v, \tag{5.6}$$
# $$\hat\varepsilon=\big(x_t-\sqrt{\bar\alpha_t}\,\hat x_0\big)/\sqrt{1-\bar\alpha_t}\quad\text{the other way, for samplers}. \tag{5.7}$$
#
# Move $t$. Row one is what the network sees; the other rows are the three targets. Ask of each: could I answer by copying the first row?

# %%
asked_noise = torch.randn(8, *train_set.shape, generator=lab.generator(7), device=lab.device)


def what_is_asked(t):
    x0 = train_set.first(8).x
    noise, steps = asked_noise[: len(x0)], torch.full((len(x0),), t, device=lab.device)
    x_t, v = schedule.add_noise(x0, steps, noise), v_target(x0, noise, steps, schedule)
    left = schedule.alpha_bar[t].item()
    return plots.image_rows(
        {"seen: x_t": x_t / 2, "asked: ε": noise / 2, "asked: x₀": x0 / 2, "asked: v": v / 2},
        title=f"t = {t}: signal rate {left**0.5:.2f}, noise rate {(1 - left) ** 0.5:.2f} (half contrast)",
    )


explore(
    what_is_asked,
    t=slider(1, 1000, value=300, step=1, label="step t"),
    title="Which row can be had by copying the first?",
    alt="Noised training images and the three targets for them",
)

# %% [markdown]
# An answer that is off by 0.01 puts $\hat x_0$ off by $0.01/\sqrt{\mathrm{SNR}_t}$ if the answer is ε (on the cosine schedule 0.6 at $t=990$), by 0.01 if it is $x_0$, and by $0.01\sqrt{1-\bar\alpha_t}$ if it is $v$.
# So the three losses weigh one and the same error differently: the squared error of $x_0$ counts once for $x_0$, $\mathrm{SNR}_t$ times for ε, and $\mathrm{SNR}_t+1$ times for $v$. *Choosing a target is choosing a weight.*
#
# ### {{heading training/low-loss}}
# {{question training/low-loss}}

# %% tags=["quiz"]
### BEGIN SOLUTION
low_loss = "d"
### END SOLUTION
### BEGIN HANDED OUT
# low_loss = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/low-loss", low_loss)

# %% [markdown]
# **A good place to pause.** You have the loss and a plain loop; the second half makes the loop good.

# %% [markdown]
# ## 5.6 · Your own training loop
#
# A loop of eight lines trains. It also ends on trembling weights, can't afford large batches, falls over one bad batch, and loses everything when the power fails. Five stages repair that. Each has its own check; if you skip one, the course's takes its place.
#
# ### {{heading training/which-weights}}
# {{question training/which-weights}}

# %% tags=["quiz"]
### BEGIN SOLUTION
which_weights = "c"
### END SOLUTION
### BEGIN HANDED OUT
# which_weights = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/which-weights", which_weights)

# %% [markdown]
# ### Stage 1: the average
# Every step follows the gradient of a few dozen images, so the weights never come to rest. An **exponential moving average** of them (EMA), kept beside the model and used for sampling only, averages the trembling away:
#
# $$\bar\theta\leftarrow d_n\,\bar\theta+(1-d_n)\,\theta,\qquad d_n=\min\Big(\text{decay},\;\frac{1+n}{10+n}\Big),\quad n=0,1,2,\dots \tag{5.8}$$
#
# ### {{heading training/long-memory}}
# {{question training/long-memory}}

# %% tags=["quiz"]
### BEGIN SOLUTION
long_memory = "d"
### END SOLUTION
### BEGIN HANDED OUT
# long_memory = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/long-memory", long_memory)

# %% [markdown]
# ### {{heading training/ema}}
# Write it as a small class. What has to be a copy, and what may be shared?


# %% tags=["quiz"]
class Average:
    """A model whose weights are an exponential moving average of another's, equation (5.8).

    Average(model, decay): `.model`, a network of its own with the same weights, in eval mode and without gradients;
    `.updates`, how many updates there have been.  update(model): make one.
    Buffers, such as BatchNorm's statistics, are not averaged but copied.
    """

    ### BEGIN SOLUTION
    def __init__(self, model, decay=0.995):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, new in zip(self.model.parameters(), model.parameters()):
            mine.mul_(d).add_(new, alpha=1 - d)
        for mine, new in zip(self.model.buffers(), model.buffers()):
            mine.copy_(new)
        self.updates += 1

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, model, decay=0.995):
    #     raise NotImplementedError("not answered yet")
    # def update(self, model):
    #     raise NotImplementedError("not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
Average = check("training/ema", Average)

# %% [markdown]
# ### Stage 2: the learning rate
# The first steps rest on estimates from very few gradients, so they should be small; the last ones should be small, so that the weights come to rest.
#
# ### {{heading training/rate}}
# The factor of the learning rate climbs in equal steps over the first `warmup` steps: the very first step moves already, and the `warmup`-th is the first at full rate. It stays at 1 until half of the run is done. Then it falls in a straight line that would reach 0 at step `steps`, the first one that isn't made.


# %% tags=["quiz"]
def rate_factor(step, steps, warmup=0):
    """The factor of the learning rate, a float, in step `step` of 0, 1, …, steps − 1.

    warmup: how many steps the climb takes; 0 for none.
    """
    ### BEGIN SOLUTION
    climb = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return climb * min(1.0, 2 * (1 - step / steps))
    ### END SOLUTION


# %% tags=["check"]
rate_factor = check("training/rate", rate_factor)

# %% [markdown]
# As a formula, with $k$ counted from 0, $K$ steps and $W$ of warm-up:
#
# $$\eta_k=\eta\cdot\min\Big(1,\frac{k+1}{W}\Big)\cdot\min\Big(1,\,2\Big(1-\frac kK\Big)\Big). \tag{5.9}$$
#
# ### Two ways to come to rest *(extra)*
# Your two remedies in a valley with two weights, under 1,000 steps of plain gradient descent with noisy gradients:

# %%
valley = torch.tensor([1.0, 0.5])


def descend(rate, repeats=200):
    """Distance to the bottom after each step, root mean square over repeats: of the weights, and of your average."""
    generator, place, rows = lab.generator(10, "cpu"), nn.ParameterList([torch.full((repeats, 2), 4.0)]), {}
    average = Average(place, 0.99)
    for k in range(1000):
        with torch.no_grad():
            place[0] -= 0.5 * rate(k) * (valley * place[0] + torch.randn(repeats, 2, generator=generator))
        average.update(place)
        for name, w in {"weights": place[0], "average": average.model[0]}.items():
            rows.setdefault(name, []).append(w.detach().square().sum(1).mean().sqrt().item())
    return rows


flat, falling = descend(lambda k: 1.0), descend(partial(rate_factor, steps=1000, warmup=100))
plots.curves(
    {
        "weights, constant rate": (range(1, 1001), flat["weights"]),
        "average, constant rate": (range(1, 1001), flat["average"]),
        "weights, rate of (5.9)": (range(1, 1001), falling["weights"]),
    },
    log_y=True,
    title="Two ways to come to rest",
    x_label="step",
    y_label="distance to the bottom",
)

# %% [markdown]
# At a constant rate the weights stop getting closer. Their average goes on; so do weights whose rate falls. Both remedies do the same job, but the falling rate must know when the run will end, and the average may be asked at any time.
#
# ### Stage 3: large batches in small pieces, and a limit *(extra)*
# A batch that doesn't fit into memory can be taken in parts: gradients of several backward passes add up until somebody clears them. And a gradient that is longer than `clip`, all weights together, is scaled down to that length, so that one bad batch can do little harm.
#
# #### {{heading training/accumulate}}
# The result must be that of one step on the whole batch, to rounding. Watch out: the parts need not be equally large.


# %% tags=["quiz"]
def update(model, loss, parts, optimizer, generator, clip=None):
    """One optimizer step on a batch that comes in parts. Returns (loss of the batch, length of its gradient), floats.

    parts: a list of tensors (b_1, c, h, w), (b_2, c, h, w), …;  loss(model, x, generator): a mean over the images of x.
    clip: None, or the largest length of the gradient (of all weights as one vector) that is stepped with.
    The length returned is that before clipping. Weights that get no gradient have None in `.grad`.
    """
    ### BEGIN SOLUTION
    count, total = sum(len(x) for x in parts), 0.0
    optimizer.zero_grad()
    for x in parts:
        value = loss(model, x, generator) * (len(x) / count)
        value.backward()
        total += value.item()
    gradients = [w.grad for w in model.parameters() if w.grad is not None]
    length = torch.stack([g.norm() for g in gradients]).norm()
    if clip is not None and length > clip:
        for g in gradients:
            g.mul_(clip / length)
    optimizer.step()
    return total, length.item()
    ### END SOLUTION


# %% tags=["check"]
update = check("training/accumulate", update)

# %% [markdown]
# ### Stage 4: the whole loop
# Now put the three together. The optimizer keeps its rate in `group["lr"]` for each `group` of `optimizer.param_groups`, and groups may have different rates: in step $k$ each gets *its own first rate* times the factor.
#
# ### {{heading training/run}}


# %% tags=["quiz"]
class Run:
    """A training: what it works with, how far it has come, and how it goes on.

    Run(model, loss, batch, optimizer, generator, rate, decay, clip, parts):  rate(k) → factor of the rate in step k;
    decay: of the average;  clip: as in `update`;  parts: in how many pieces a batch is taken (`x.chunk(parts)`).
    .step, from 0: how many steps were made;  .losses: their losses, a list;  .average: an `Average` of the model.
    go_on(until): make steps until `until` of them are made in all, the model in training mode.
    """

    ### BEGIN SOLUTION
    def __init__(self, model, loss, batch, optimizer, generator, rate, decay=0.995, clip=None, parts=1):
        self.model, self.loss, self.batch, self.optimizer = model, loss, batch, optimizer
        self.generator, self.rate, self.clip, self.parts = generator, rate, clip, parts
        self.average = Average(model, decay)
        self.first_rates = [group["lr"] for group in optimizer.param_groups]
        self.step, self.losses = 0, []

    def go_on(self, until):
        self.model.train()
        for k in until_stopped(range(self.step, until)):
            for group, first in zip(self.optimizer.param_groups, self.first_rates):
                group["lr"] = first * self.rate(k)
            x = self.batch(self.generator)
            value, _ = update(
                self.model, self.loss, x.chunk(self.parts), self.optimizer, self.generator, self.clip
            )
            self.average.update(self.model)
            self.losses.append(value)
            self.step = k + 1

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, model, loss, batch, optimizer, generator, rate, decay=0.995, clip=None, parts=1):
    #     raise NotImplementedError("not answered yet")
    # def go_on(self, until):
    #     raise NotImplementedError("not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
Run = check("training/run", Run)

# %% [markdown]
# ### Stage 5: pull the plug
# A long training *will* be cut off. What must be in the file so that the run, resumed, ends with *bit for bit* the weights of a run that was never stopped?
#
# ### {{heading training/forgotten}}
# {{question training/forgotten}}

# %% tags=["quiz"]
### BEGIN SOLUTION
forgotten = "b"
### END SOLUTION
### BEGIN HANDED OUT
# forgotten = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/forgotten", forgotten)

# %% [markdown]
# ### {{heading training/resume}}
# The check stops your run at steps that it doesn't tell, saves, lets the old run go on into ruin, builds a *new* model with other first weights, and resumes. Most first answers forget one thing.


# %% tags=["quiz"]
class SafeRun(Run):
    """A `Run` that can be saved to a file, and resumed in another process as if nothing had happened.

    save(path): write all that is needed.  resume(path): put it back, into a run that was made with the same arguments
    but has another model, optimizer and generator. `torch.save` and `torch.load` take dictionaries of tensors, numbers
    and lists; `state_dict` and `load_state_dict`, `get_state` and `set_state` are what the parts offer.
    """

    ### BEGIN SOLUTION
    def save(self, path):
        content = {
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "random": self.generator.get_state(),
            "step": self.step,
            "losses": self.losses,
        }
        torch.save(content, path)

    def resume(self, path):
        content = torch.load(path)
        self.model.load_state_dict(content["model"])
        self.average.model.load_state_dict(content["average"])
        self.average.updates = content["updates"]
        self.optimizer.load_state_dict(content["optimizer"])
        self.generator.set_state(content["random"])
        self.step, self.losses = content["step"], content["losses"]

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def save(self, path):
    #     raise NotImplementedError("not answered yet")
    # def resume(self, path):
    #     raise NotImplementedError("not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
SafeRun = check("training/resume", SafeRun)

# %% [markdown]
# The library's `fit` solves the random part in another way: what step $k$ draws depends on the seed and on $k$ alone, so that no random state needs saving. On a CPU either way is exact; on a GPU some kernels add numbers in varying order, and the last digits may differ.
#
# ## 5.7 · What did each stage buy?
#
# From here on **your loop trains everything**. Its optimizer is **Muon**, the course's own choice: 5.12 looks inside it, and one of the bars below has Adam instead. A network's loss is that of a target and, if you like, a weight for every $t$:


# %%
def loss_of(target="v", weight=None):
    """The loss of a network that predicts `target`, for `Run`: squared error, each image times weight(t)."""

    def loss(model, x0, generator):
        x_t, t, noise = drawn_per_image(x0, schedule, generator)
        with autocast(lab.device):
            output = model(x_t, t).float()
        wanted = {"noise": noise, "x0": x0, "v": v_target(x0, noise, t, schedule)}[target]
        error = (output - wanted).square().flatten(1).mean(1)
        return (error if weight is None else weight(t).to(error) * error).mean()

    return loss


def trained(seed, optimizer=Muon, lr=0.01, rate=None, loss=None, feed=batch, clip=None):
    """A `SafeRun` after a short training, from the first weights and the random numbers of this seed."""
    model, steps = new_model(seed), lab.pick(smoke=6, cpu=100, gpu=1000)
    rate = rate or partial(rate_factor, steps=steps, warmup=steps // 10)
    optimizer = optimizer(model.parameters(), lr=lr)
    run = SafeRun(model, loss or loss_of("v"), feed, optimizer, lab.generator(seed), rate, clip=clip)
    run.go_on(steps)
    return run


def d2(model, seed=1, target="v"):
    """Distance of as many samples of a model as there are test images."""
    return yardstick.distance(draw(model, len(test_set), seed, target))


# %%


n_samples, seeds = len(test_set), range(lab.pick(smoke=2, cpu=3, gpu=5))
whole = [trained(seed) for seed in seeds]
flat_rate = [trained(seed, rate=lambda k: 1.0) for seed in seeds]
bought = {
    "the whole loop": [d2(run.average.model) for run in whole],
    "without average": [d2(run.model) for run in whole],
    "constant rate": [d2(run.average.model) for run in flat_rate],
    "constant rate, no average": [d2(run.model) for run in flat_rate],
    "Adam for Muon": [d2(trained(seed, torch.optim.Adam, 3e-3).average.model) for seed in seeds],
}
eight = [d2(whole[0].average.model, seed) for seed in range(8)]
spread = torch.tensor(eight).std().item()
print(f"d² (2.10) of {n_samples} samples to as many test images, in {yardstick.name}")
print(f"one model, sampled eight times: {sum(eight) / 8:.1f} ± {spread:.1f} (standard deviation)")
print(f"one Gaussian fitted to the pixels: {yardstick.of_a_pixel_gaussian(n_samples):.1f}")
print(f"real images: {yardstick.floor(n_samples):.1f}\n")
print(against_first(bought))
plots.bars(
    {name: sum(row) / len(row) for name, row in bought.items()},
    errors={name: torch.tensor(row).std().item() for name, row in bought.items()},
    title=f"What each stage bought: {len(seeds)} seeds, {whole[0].step} steps",
    y_label="d² to real images, ± standard deviation",
)

# %% [markdown]
# Where the table says "not told apart", this run supports no ranking, whatever the bars look like. Then look at the *error bars*: at a constant rate without an average the result depends on which step happens to be the last. Averaging, or letting the rate fall, makes it dependable.
# Neither is free. In a run as short as this one a falling rate spends half of the steps on small moves, and may well end behind a constant one; and an average lags behind weights that still improve with every step. So *no* bar here says what the two do for a long run. Muon has nothing to do with noise. And compare all of them with the Gaussian that was fitted to the pixels: 100 steps with $v$ are not yet worth as much. The minutes are split among many models here; 5.8 trains one.
#
# ### One bad batch *(extra)*
# And clipping? The gradients of clean data are short here, and a limit of 1 hardly ever acts. So provoke it: one batch in mid-run comes as bytes from 0 to 255, because somebody forgot to normalise. What does it cost with a limit, and without one?


# %%
class BadBatch:
    """`batch`, but one of them comes as bytes."""

    def __init__(self, at):
        self.count, self.at = 0, at

    def __call__(self, generator):
        self.count += 1
        x = batch(generator)
        return 127.5 * (x + 1) if self.count == self.at else x


bad = {}
for name, clip in {"no limit": None, "clip = 1": 1.0}.items():
    bad[name] = trained(0, torch.optim.Adam, 3e-3, feed=BadBatch(at=whole[0].step * 4 // 10), clip=clip)
plots.curves(
    {name: (range(1, run.step + 1), [min(x, 2) for x in run.losses]) for name, run in bad.items()},
    log_y=True,
    title="One bad batch, with and without a limit (one seed; cut off at 2)",
    x_label="training step",
    y_label="loss per pixel",
)

# %% [markdown]
# Adam remembers the squares of gradients for about a thousand steps. The loss of that batch is some ten thousand times the usual one and its gradient thousands of times as long, so every later step is divided by far too large a number: the curve after the peak shows it. With a limit the bad batch does little harm.
#
# ### Which target?
# The same loop with the three targets. All three ask the same network for the same knowledge; what differs is the weight, as 5.5 found.

# %%
targets = {"v": bought["the whole loop"]}
strips = {"predicts v": draw(whole[0].average.model, 10)}
for target in ("x0", "noise"):
    runs = [trained(seed, loss=loss_of(target)) for seed in seeds]
    targets[target] = [d2(run.average.model, target=target) for run in runs]
    strips[f"predicts {target}"] = draw(runs[0].average.model, 10, target=target)
print(against_first(targets))
plots.image_rows(
    strips, title=f"{train_set.title}: three targets after {whole[0].step} steps, from the same noise"
)

# %% [markdown]
# Why so far apart? These networks have hardly begun, and an answer near 0 implies, by (5.6), a grey image where $x_0$ is asked for, the noisy $\sqrt{\bar\alpha_t}\,x_t$ for $v$, and the even larger $x_t/\sqrt{\bar\alpha_t}$ for ε. What holds for a short training of a small network need not hold for a longer one of a larger network. `python benchmarks/targets.py` asks the same of the course's own: after 1,000 steps $x_0$ and $v$ are not told apart (d² 27.3 ± 1.9 and 27.0 ± 2.0, three seeds), after 3,000 $v$ is well ahead (15.1 ± 2.1 against 20.3 ± 0.4, three seeds). The lead of $x_0$ was a good start, no more.
#
# The choice of a target is a choice of weight. The course's shipped models predict $v$, and that measurement is the reason to keep it. It says nothing about other networks and data; with your loop you can ask there, too.

# %% [markdown]
# ## 5.8 · When is it done?
#
# "The loss has been flat for an hour; it's done." Is it? Your loop now trains the course's own network, four times as large, and stops a few times on the way. At each stop we measure two things of the averaged model: its loss on test images, always with the same steps and noise, and the distance of its samples.
#
# ### {{heading training/nothing-to-see}}
# {{question training/nothing-to-see}}

# %% tags=["quiz"]
### BEGIN SOLUTION
nothing_to_see = "b"
### END SOLUTION
### BEGIN HANDED OUT
# nothing_to_see = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/nothing-to-see", nothing_to_see)

# %% [markdown]
# **Predict, then run.** By the stop at which the loss has done 90 % of its fall: how many percent of *its* fall has the distance done?

# %% tags=["predict"]
predict(
    "training/shares",
    "Share of its fall that the distance has done when the loss has done 90 % of its own",
    0,
    100,
    "%",
)


# %%
@torch.no_grad()
def test_loss(model):
    """Loss in v per pixel on test images, the same steps and noise for every model."""
    x, generator = test_set.x[:200], lab.generator(11)
    x_t, t, noise = drawn_per_image(x, schedule, generator)
    with autocast(lab.device):
        output = model(x_t, t).float()
    return (output - v_target(x, noise, t, schedule)).square().mean().item()


long_steps = lab.pick(smoke=12, cpu=320, gpu=6000)
stops = sorted({1, *(max(2, long_steps * k // 32) for k in (1, 2, 4, 8, 16, 24, 32))})
model, rate = new_model(widths=(32, 64)), partial(rate_factor, steps=long_steps, warmup=long_steps // 10)
run = SafeRun(model, loss_of("v"), batch, Muon(model.parameters(), lr=0.01), lab.generator(0), rate)
record, taken = {"average": [], "last weights": []}, []
for stop in stops:
    run.go_on(stop)
    taken.append(run.step)
    for name, model in {"average": run.average.model, "last weights": run.model}.items():
        images = draw(model, n_samples)
        record[name].append(
            {"loss": test_loss(model), "distance": yardstick.distance(images), "images": images[:10].cpu()}
        )
    now, raw = record["average"][-1], record["last weights"][-1]
    print(f"after {run.step:5d} steps: loss {now['loss']:.4f}, d² {now['distance']:7.1f}", end="")
    print(f";  of the last weights d² {raw['distance']:7.1f}")

# %% [markdown]
# To compare two falls, put them on one axis: how much of the way from the first stop to the *floor* is done? The floor of the distance is what real images get. The loss has one too, well above 0: nobody can tell all of the noise from the image. We don't know it, but the course's own model, trained far longer, bounds it from above.

# %%
names = [name for name in shipped("denoiser") if name.startswith(train_set.name)]
course = load_denoiser(names[0], lab.device) if names else None
comparable = course is not None and course.prediction_type == "v"
floors = {
    "loss": test_loss(course.model) if comparable else record["average"][-1]["loss"],
    "distance": yardstick.floor(n_samples),
}
done, start = {}, record["average"][0]
for what, floor in floors.items():
    done[what] = [100 * (start[what] - row[what]) / (start[what] - floor) for row in record["average"]]
first = next((k for k, share in enumerate(done["loss"]) if share >= 90), len(taken) - 1)
reveal("training/shares", round(done["distance"][first]))
whose = "the course's model" if comparable else "the end of this run"
print(
    f"floor of the loss: at most {floors['loss']:.4f} ({whose}); of d²: {floors['distance']:.1f} (real images)"
)
plots.curves(
    {"loss on test images": (taken, done["loss"]), "d² of samples": (taken, done["distance"])},
    log_x=True,
    title="How much of its fall has each of them done? (one run, the average)",
    x_label="training step",
    y_label="% of the way to the floor",
)

# %% [markdown]
# Both curves are shares of the same run, so they may be compared directly: where they part, one number says "nearly finished" and the other doesn't. This is one run, of one seed.
#
# What does the average do *on the way*? Move through the training, and switch the average off. (Expect it to lag while the weights improve fast, and to gain nothing once the rate has fallen. In between?)


# %%
def on_the_way(stop, average):
    row = record["average" if average else "last weights"][taken.index(stop)]
    whose = "Average" if average else "Last weights"
    title = f"{whose}: loss {row['loss']:.3f}, d² {row['distance']:.0f}"
    return plots.image_rows({f"step {stop}": row["images"]}, title=title)


explore(
    on_the_way,
    stop=choice(taken, value=taken[len(taken) // 2], label="after step"),
    average=toggle(True, label="average"),
    title="When does the average help most?",
    alt="Samples during the training, of the averaged and of the last weights",
)

# %% [markdown]
# ## 5.9 · Your model beside the course's own
#
# About a minute of training by a loss that you derived and a loop that you wrote. Beside it, from the same noise: the model that comes with the course, trained far longer (the line below says how long); one Gaussian fitted to the pixels; and real images.

# %%
gallery = {f"yours, {run.step} steps": draw(run.average.model, n_samples)}
if course is not None:
    print(
        f"The course's own model: {course.card.get('steps', '?')} steps, {course.card.get('training', '?')}\n"
    )
    noise = torch.randn(n_samples, *train_set.shape, generator=lab.generator(1), device=lab.device)
    gallery["the course's"] = last(
        ddim(clipped(course), course.schedule, noise, lab.pick(smoke=3, cpu=15, gpu=50))
    )
final = {name: yardstick.distance(images) for name, images in gallery.items()}
final |= {"pixel Gaussian": yardstick.of_a_pixel_gaussian(n_samples), "real": yardstick.floor(n_samples)}
for name, value in final.items():
    print(f"{name:18s} d² {value:7.1f}")
print(f"(sampling again, from other noise, changed d² by about {spread:.1f} in 5.7)")
plots.image_rows(
    {name: images[:10] for name, images in gallery.items()} | {"real": train_set.first(10).x},
    title=f"{train_set.title}: from the same noise",
)

# %% [markdown]
# ## 5.10 · Whom the weight serves *(extra)*
#
# An error in $x_0$, said in other units, is $\lVert\varepsilon-\hat\varepsilon\rVert^2=\mathrm{SNR}_t\lVert x_0-\hat x_0\rVert^2$ and $\lVert v-\hat v\rVert^2=(\mathrm{SNR}_t+1)\lVert x_0-\hat x_0\rVert^2$. At small $t$ the SNR is in the thousands. Hang et al. (2023) find that such steps crowd out the others, and cap the weight on $x_0$ at γ = 5.
#
# ### {{heading training/min-snr}}
# Write the weight of the squared error of a network that predicts ε, $x_0$ or $v$, so that all three minimise *the same* objective, $\min(\mathrm{SNR}_t,\gamma)\,\lVert x_0-\hat x_0\rVert^2$.


# %% tags=["quiz"]
def min_snr_weight(schedule, prediction_type, t, gamma=5.0):
    """The weight of the squared error of a network that predicts `prediction_type`.

    schedule: has `.snr`, (T + 1,) float64;  prediction_type: "noise", "x0" or "v";  t: (b,) in 1..T.
    Returns (b,) float64.
    """
    ### BEGIN SOLUTION
    snr = schedule.snr[t]
    unit = {"x0": 1, "noise": snr, "v": snr + 1}[prediction_type]
    return snr.clamp(max=gamma) / unit
    ### END SOLUTION


# %% tags=["check"]
min_snr_weight = check("training/min-snr", min_snr_weight)

# %% [markdown]
# $$w_t=\frac{\min(\mathrm{SNR}_t,\gamma)}{u_t},\qquad u_t=1\ (x_0),\quad \mathrm{SNR}_t\ (\varepsilon),\quad \mathrm{SNR}_t+1\ (v). \tag{5.10}$$
#
# Which noise levels does an objective look at? Take the errors of your long run as they are, at fifteen levels. Where the area is, the gradient is, and that is where capacity is spent.

# %%
levels = torch.tensor([1, 5, 20, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 960, 990])
errors, on_cpu = [], schedule.to("cpu")
for level in levels:
    x0, t = test_set.x[:64], torch.full((min(64, n_samples),), int(level), device=lab.device)
    x_t = schedule.add_noise(x0, t, torch.randn(x0.shape, generator=lab.generator(9), device=lab.device))
    with torch.no_grad(), autocast(lab.device):
        output = run.average.model(x_t, t).float()
    errors.append((to_x0("v", output, x_t, t, schedule) - x0).square().mean().item())


def attention(target, weighting):
    snr = on_cpu.snr[levels]
    objective = (
        torch.tensor(errors, dtype=torch.float64) * {"x0": snr**0, "noise": snr, "v": snr + 1}[target]
    )
    if weighting == "min-SNR":
        objective = objective * min_snr_weight(on_cpu, target, levels)
    elif weighting == "bound":  # (5.3) is stated for the noise
        objective = torch.tensor(errors) * snr * bound_weight(on_cpu, levels)
    return plots.curves(
        {"objective": (levels, objective / objective.max())},
        title=f"target {target}, weight {weighting}: what one step contributes",
        x_label="step t",
        y_label="relative to the largest",
    )


explore(
    attention,
    target=choice({"ε": "noise", "x₀": "x0", "v": "v"}, value="v", label="target"),
    weighting=choice({"none": "none", "min-SNR": "min-SNR", "as in the bound": "bound"}, label="weight"),
    title="Which noise levels does this objective look at?",
    alt="Contribution to the objective by step, for a target and a weighting",
)

# %% [markdown]
# With the weight of the bound, or min-SNR, the target makes no difference: the weight belongs to the error, not to its unit. Without a weight *the objective of v is the sum of the other two*. Does min-SNR help here?

# %%
capped = loss_of("v", partial(min_snr_weight, schedule, "v"))
weights = {
    "v": targets["v"],
    "v, min-SNR": [d2(trained(seed, loss=capped).average.model) for seed in seeds],
}
print(against_first(weights))

# %% [markdown]
# Hang et al. trained larger networks far longer. Whichever way your table goes, it speaks of short runs.
#
# ## 5.11 · Which distance? L2, L1, Huber *(extra)*
#
# A loss is a question, and its minimiser is the answer.
#
# ### {{heading training/median}}
# {{question training/median}}

# %% tags=["quiz"]
### BEGIN SOLUTION
median = "a"
### END SOLUTION
### BEGIN HANDED OUT
# median = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/median", median)

# %% [markdown]
# On numbers the perfect denoiser of each loss can be found by summing over a fine grid: no network, no training, so whatever goes wrong is the loss's own doing. The data have two modes, 30 % on the left and 70 % on the right.

# %%
uneven, cosine = (
    GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.15, torch.tensor([0.3, 0.7])),
    cosine_schedule(1000),
)
start = torch.randn(lab.pick(smoke=500, cpu=4000, gpu=4000), 1, generator=lab.generator(8, "cpu"))
distances = ("l2", "l1", "huber")
ends = {
    d: last(ddim(grid_denoiser(uneven, cosine, d), cosine, start, steps=50)).flatten() for d in distances
}
share = {d: (x > 0).float().mean().item() for d, x in ends.items()}
print("on the right: data 70%, " + ", ".join(f"{d} {s:.0%}" for d, s in share.items()))
figure, axes = plots.new_figure(8, 3.7, columns=2)
seen, grid = torch.linspace(-2, 2, 300), torch.linspace(-1.8, 1.8, 61)
answers = {d: (seen, best_answer(uneven, cosine, seen, 600, d)) for d in distances}
plots.draw_curves(
    axes[0],
    answers,
    x_label="x_t at t = 600",
    y_label="the perfect answer x̂₀",
    title="Three perfect denoisers",
)
made = {d: ((grid[1:] + grid[:-1]) / 2, torch.histogram(x, grid, density=True)[0]) for d, x in ends.items()}
axes[1].fill_between(grid, uneven.log_prob(grid[:, None]).exp(), color="#dddddd", label="data")
plots.draw_curves(axes[1], made, x_label="sample", y_label="density", title="What they generate")
figure.set_label(
    "Left: optimal answers for L2, L1 and Huber; L1 jumps from one mode to the other. Right: their samples"
)
figure

# %% [markdown]
# The median takes sides: as soon as one mode is likelier than the other, it answers with that one, and step after step the rare mode starves. Huber's loss bends only for errors above 1 in the noise, so it is nearly L2, and nearly right. No loss curve would show it.
#
# ## 5.12 · Muon *(extra)*
#
# Adam divides the gradient of every single *number* by its usual size. Muon (Jordan et al. 2024) reads the filters of a convolution as one matrix, $G=USV^\top$, and steps along $UV^\top$: the same *directions*, all equally long. Directions that get small gradients are then learned as fast as the rest.
#
# ### {{heading training/orthogonal}}
# A singular value decomposition in every step would be slow. Products of matrices do it too: since $XX^\top X=US^3V^\top$, the matrix $\tfrac32X-\tfrac12XX^\top X$ has the same $U$ and $V$, and each singular value $s$ has become $\tfrac32s-\tfrac12s^3$. What does that do to an $s$ between 0 and 1, again and again? (Newton and Schulz; Muon uses a polynomial of degree five that needs fewer rounds.)


# %% tags=["quiz"]
def orthogonalized(gradient, rounds=20):
    """U Vᵀ, nearly, of a matrix U S Vᵀ (m, n), by so many rounds of X ← 3/2 X − 1/2 X Xᵀ X. Returns (m, n).

    All singular values must lie between 0 and 1 when the rounds begin, whatever the size of the gradient: the Frobenius
    norm of a matrix is never less than its largest singular value.
    """
    ### BEGIN SOLUTION
    x = gradient / gradient.norm()
    for _ in range(rounds):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x
    ### END SOLUTION


# %% tags=["check"]
orthogonalized = check("training/orthogonal", orthogonalized)

# %%
run.optimizer.zero_grad()
loss_of("v")(run.model, batch(lab.generator(12)), lab.generator(12)).backward()
filters = max((w for w in run.model.parameters() if w.ndim == 4), key=lambda w: min(w.flatten(1).shape))
matrix = filters.grad.flatten(1).float().cpu()
sizes = {
    f"{rounds} rounds": torch.linalg.svdvals(orthogonalized(matrix, rounds)) for rounds in (0, 5, 10, 20)
}
plots.curves(
    {name: (range(1, len(s) + 1), s.clamp(min=1e-6)) for name, s in sizes.items()},
    log_y=True,
    title=f"A gradient of your network as a matrix {tuple(matrix.shape)}: its singular values",
    x_label="number of the singular value",
    y_label="singular value",
)

# %% [markdown]
# A few directions hold most of the gradient's length. After the rounds nearly all of them count alike. How much that is worth here stands in the table of 5.7.
#
# ## 5.13 · Faster on what you have *(extra)*
#
# Two settings change no formula. **Mixed precision** (Micikevicius et al. 2018): weights stay in float32, products are computed in bfloat16, where processors have units for it. **Channels last**: all channels of a pixel lie side by side in memory, the order in which convolutions read them. What do they bring on *your* machine?

# %%
seconds, timed = {}, lab.pick(smoke=2, cpu=8, gpu=60)
for half in (False, True) if has_bfloat16(lab.device.type) else (False,):
    for layout in (torch.contiguous_format, torch.channels_last):
        model, x = new_model(), batch(lab.generator(0)).contiguous(memory_format=layout)
        model.to(memory_format=layout)
        t, optimizer = (
            torch.full((len(x),), 500, device=lab.device),
            torch.optim.Adam(model.parameters(), lr=1e-4),
        )

        def loss(model, x, generator, half=half, t=t):
            with autocast(lab.device, half):
                return model(x, t).float().square().mean()

        train(model, loss, lambda g, x=x: x, optimizer, 2, lab.generator(0))  # warming up
        start = time.perf_counter()
        train(model, loss, lambda g, x=x: x, optimizer, timed, lab.generator(0))
        name = f"{'bfloat16' if half else 'float32'}, channels {'last' if layout == torch.channels_last else 'first'}"
        seconds[name] = (time.perf_counter() - start) / timed
for name, s in seconds.items():
    print(f"{name:25s} {1000 * s:6.1f} ms a step")
if not has_bfloat16(lab.device.type):
    print("This processor has no units for bfloat16, so it isn't tried.")

# %% [markdown]
# ## 5.14 · More hands *(extra)*
#
# With several GPUs the usual way is *data parallelism*: every process holds the whole model and takes a share of each batch; after the backward pass all average their gradients, and then all take the same step. The mean over a batch is the mean of the means over equal shares, so nothing but speed should change.
# `train` in `course_utils/together.py` is such a training, and five of its lines are all that a single process would not need; `torchrun`, which comes with PyTorch, starts the processes. We compute in float64, so that a real mistake can't pass for rounding.

# %%
shared_steps, some = lab.pick(smoke=2, cpu=10, gpu=20), train_set.first(64).x.cpu()
said, together_weights = together.launch(some, shared_steps, batch=16)
print(f"$ torchrun --standalone --nproc-per-node 2 -m course_utils.together …\n{said}")
alone, before = together.train(some, shared_steps, 16), together.train(some, 0, 16)
moved = max((a - b).abs().max().item() for a, b in zip(alone.parameters(), before.parameters()))
print(f"one process: weights moved by up to {moved:.1e}")
if together_weights is not None:
    gap = max((w - together_weights[name]).abs().max().item() for name, w in alone.state_dict().items())
    print(f"two processes against one: largest difference of a weight {gap:.1e}")

# %% [markdown]
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {train_set.title}\n")
print(f"5.2  the bound weighs t = 2 {ratio:.0f} times as heavily as t = 1000 (linear schedule)")
print(
    "5.3  variance of the gradient: " + ", ".join(f"{name} {value:.2f}" for name, value in relative.items())
)
print(
    f"5.4  one frozen batch: your loss {one_batch['your loss'][-1]:.1e}, the shared one {one_batch['the shared loss'][-1]:.1e}"
)
print(f"5.7  d² after {whole[0].step} steps, {len(seeds)} seeds\n{against_first(bought)}")
print(
    f"5.8  when the loss had done {done['loss'][first]:.0f} % of its fall, the distance had done {done['distance'][first]:.0f} %"
)
print("5.9  " + ", ".join(f"{name} {value:.1f}" for name, value in final.items()))

# %% [markdown]
# **What to take along.** The bound of a chain of noise is a sum of squared distances, one per step. Its weights may be chosen, and every choice of a target is one. One draw of $t$ and ε per image makes it a loss that fits on a line.
# Everything else is craft: check on one batch, average, let the rate fall, save what the run depends on, measure with several seeds, look at samples. And keep asking whether the number that falls is the one you care about.
#
# Notebook 06 takes the trained network and asks how to walk back: in a thousand steps, or in ten.
#
# ## Go further *(ungraded)*
# 1. **The likelihood that was given away.** Evaluate your `bound_terms` on test images for two models, one trained with `weight=partial(bound_weight, …)`. Which wins in nats, which in distance?
# 2. **A longer memory.** Keep three averages with decays 0.99, 0.995 and 0.999. Which is best after a quarter of the run, which at the end? Karras et al. (2024) compute the best one *after* training, from snapshots.
# 3. **Other noise levels.** Karras et al. (2022) draw noise levels from a bell curve in log-SNR instead of uniform $t$. Write it as a `drawn_per_image`.
# 4. **A live view.** Make a `Run` that shows samples every 50 steps. In which mode must the network be while it draws, and in which afterwards?
#
# ## References
# * J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, NeurIPS 2020. arXiv:2006.11239
# * D. P. Kingma, T. Salimans, B. Poole, J. Ho, *Variational Diffusion Models* (the bound in signal-to-noise ratios; evenly dealt steps), NeurIPS 2021. arXiv:2107.00630
# * A. Nichol, P. Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (learned variances, cosine schedule), ICML 2021. arXiv:2102.09672
# * T. Salimans, J. Ho, *Progressive Distillation for Fast Sampling of Diffusion Models* (v), ICLR 2022. arXiv:2202.00512
# * T. Hang et al., *Efficient Diffusion Training via Min-SNR Weighting Strategy*, ICCV 2023. arXiv:2303.09556
# * T. Karras, M. Aittala, T. Aila, S. Laine, *Elucidating the Design Space of Diffusion-Based Generative Models*, NeurIPS 2022. arXiv:2206.00364
# * T. Karras et al., *Analyzing and Improving the Training Dynamics of Diffusion Models* (averages after the fact), CVPR 2024. arXiv:2312.02696
# * D. P. Kingma, J. Ba, *Adam: A Method for Stochastic Optimization*, ICLR 2015. arXiv:1412.6980
# * K. Jordan et al., *Muon: An optimizer for hidden layers in neural networks*, 2024. kellerjordan.github.io/posts/muon
# * P. Micikevicius et al., *Mixed Precision Training*, ICLR 2018. arXiv:1710.03740
