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
# Notebook 03 turned images into noise, notebook 04 built a network that takes a noisy image and answers with an image.
# Nobody has told it yet what to answer. In this notebook we find out what a denoiser should be paid for, derive the loss from the bound of notebook 02,
# see which part of it everyone drops, and then train: first one batch, then for minutes, then on several processes.
# On the way we put a popular belief to the test, that a flat loss means a finished model.
#
# **What you will be able to do**
# * derive the loss of diffusion models from the variational bound, and name every term and the weight that was dropped;
# * write Algorithm 1, the three targets ε, x₀ and v, and the conversions between them;
# * choose a loss and its weighting by what they do, not by what they are called;
# * train with a moving average, warm-up and decay, clipping, mixed precision; stop, resume to the bit, and share the work among processes;
# * tell a falling loss from a getting-better model.
#
# **Before you start:** notebooks 02 (the bound, KL of Gaussians), 03 ($\bar\alpha_t$, `add_noise`, the posterior) and 04 (the U-Net).
#
# {{budget}}
#
# The text describes what you see at effort `cpu` or above, on Fashion-MNIST. At `smoke` the networks are hardly trained: everything runs, and what is printed is true of that run, but sentences about pictures don't hold.

# %% tags=["setup"]
import contextlib
import importlib.util
import math
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from IPython.display import display
from torch import nn
from torch.distributions import Normal, kl_divergence

import course_utils
from course_utils import plots, recipes, setup
from course_utils.data import GaussianMixture, load
from course_utils.device import autocast, has_bfloat16, seeded
from course_utils.diffusion import (Denoiser, cosine_schedule, diffusion_loss, draw_steps, linear_schedule, predict_x0)
from course_utils.explore import choice, explore, slider, toggle
from course_utils.metrics import frechet_distance
from course_utils.models.autoencoder import PCA
from classroom import ask, check, predict, reveal
from course_utils.sampling import clipped, last, ddim
from course_utils.training import Recipe, fit, learning_rate_factor, steps_made, until_stopped
from course_utils.weights import load_classifier, load_denoiser, read_card, shipped

lab = setup("05")

# %%
train = load(lab.data, "train", device=lab.device, fallback="digits")
test = load(lab.data, "test", device=lab.device, fallback="digits")
test = test.first(lab.pick(smoke=64, cpu=400, gpu=2000))
schedule = recipes.ddpm_schedule().to(lab.device)
print(
    f"{train.title}: {len(train):,} images to train on, {len(test):,} to measure on, each {train.shape}, in [-1, 1]"
)

# %% [markdown]
# One place for the whole recipe. Everything below trains with these settings unless it says otherwise; section by section you will meet what each of them does.


# %%
def recipe(steps, **changes):
    """How this notebook trains: the course's own recipe for a run of so many steps, and what differs from it."""
    basis = recipes.ddpm_recipe(steps, batch_size=lab.pick(smoke=16, cpu=64, gpu=128))
    return replace(basis, **changes)


def new_model(seed=0, **options):
    """The U-Net of notebook 04, with the same first weights for the same seed."""
    with seeded(seed):
        return recipes.ddpm_model(train.shape, **options).to(lab.device)


def draw(model, n, seed=1, target="v", chain=None):
    """n samples (n, c, h, w), walked back from noise in few deterministic steps; how, notebook 06 tells."""
    noise = torch.randn(n, *train.shape, generator=lab.generator(seed), device=lab.device)
    chain, walk_steps = chain or schedule, lab.pick(smoke=3, cpu=15, gpu=50)
    with autocast(lab.device):
        return last(ddim(clipped(Denoiser(model, chain, target)), chain, noise, walk_steps))


print(f"{sum(w.numel() for w in new_model().parameters()):,} weights; {recipe(1000)}")

# %% [markdown]
# ## 5.1 · What should a denoiser be paid for?
#
# The chain of notebook 03 walks from an image $x_0$ to noise $x_T$. We want to walk back: draw $x_T\sim\mathcal N(0,I)$, then $x_{T-1}$, and so on, each from a Gaussian
# $p(x_{t-1}\mid x_t)$ whose mean a network supplies. That is a latent-variable model as in notebook 02, with $x_1,\dots,x_T$ as its latents, and an encoder $q(x_{1:T}\mid x_0)$ that adds noise and has nothing to learn.
# So it has a bound of the same kind, (2.1):
#
# $$-\ln p(x_0)\;\le\;\mathbb E_q\Big[-\ln p(x_T)-\sum_{t=1}^{T}\ln\frac{p(x_{t-1}\mid x_t)}{q(x_t\mid x_{t-1})}\Big].$$
#
# As it stands it compares a step *back* with a step *forth*, and neither knows how the other will go. The trick is to let $q$ walk back as well. Given $x_0$, Bayes' rule turns a step round:
#
# $$q(x_t\mid x_{t-1}) = q(x_{t-1}\mid x_t,x_0)\;\frac{q(x_t\mid x_0)}{q(x_{t-1}\mid x_0)}\qquad(t\ge2).$$
#
# Put this in for $t=2,\dots,T$. The fractions form a telescope, of which only $q(x_T\mid x_0)$ and $q(x_1\mid x_0)$ remain, and the latter cancels against the first step. What is left is a sum of divergences, each of two Gaussians over *the same* step:
#
# $$-\ln p(x_0)\;\le\;\underbrace{\mathrm{KL}\big(q(x_T\mid x_0)\,\|\,p(x_T)\big)}_{L_T}
#   +\sum_{t=2}^{T}\underbrace{\mathbb E_q\,\mathrm{KL}\big(q(x_{t-1}\mid x_t,x_0)\,\|\,p(x_{t-1}\mid x_t)\big)}_{L_{t-1}}
#   +\underbrace{\mathbb E_q\big[-\ln p(x_0\mid x_1)\big]}_{L_0}. \tag{5.1}$$
#
# Read it as a price list. $L_T$: how far the end of the chain is from the noise that sampling starts with. $L_{t-1}$: how badly the network undoes step $t$, measured against the posterior (3.8), which may look at the answer. $L_0$: what the last step pays for the pixels.
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
# ### A divergence that is a squared distance
# The posterior is Gaussian, and its variance $\tilde\beta_t$ is known without looking at any image. So let $p(x_{t-1}\mid x_t)$ have *that* variance, and leave only its mean to the network.
# Look at (2.3) with $\Sigma_q=\Sigma_p=\sigma^2I$: the determinants cancel, the trace is $d$ and cancels too, and one term remains:
#
# $$\mathrm{KL}\big(\mathcal N(\mu_q,\sigma^2 I)\,\|\,\mathcal N(\mu_p,\sigma^2 I)\big)=\frac{\lVert\mu_q-\mu_p\rVert^2}{2\sigma^2}. \tag{5.2}$$
#
# ### {{heading training/equal-variance-kl}}
# Write (5.2), for images.


# %% tags=["quiz"]
def kl_same_variance(mean_q, mean_p, var):
    """KL(N(mean_q, var) ‖ N(mean_p, var)) of each image in nats, equation (5.2).

    mean_q, mean_p: (b, c, h, w), or any (b, ...);  var: (b, 1, 1, 1), σ² of each image.  Returns (b,).
    """
    ### BEGIN SOLUTION
    return ((mean_q - mean_p).square() / (2 * var)).flatten(1).sum(1)
    ### END SOLUTION


# %% tags=["check"]
kl_same_variance = check("training/equal-variance-kl", kl_same_variance)

# %% [markdown]
# With it, (5.1) is a few lines. The model walks back by the posterior, with its own guess $\hat x_0$ in the place of $x_0$; its last step is a Gaussian around $\hat x_0$ with variance $1/\mathrm{SNR}_1$, the noise that is left in $x_1$.


# %%
def bound_terms(denoise, schedule, x0, generator):
    """L_T (b,), L_{t−1} (b, T − 1) for t = 2..T, L_0 (b,), in nats, equation (5.1); one draw a step."""

    def see(t):
        t = torch.full((len(x0),), t)
        x_t = schedule.add_noise(x0, t, torch.empty_like(x0).normal_(generator=generator))
        return x_t, t, denoise(x_t, t)

    last_mean, last_var = schedule.alpha_bar[-1].sqrt() * x0, 1 - schedule.alpha_bar[-1]
    prior = 0.5 * (last_mean.square() + last_var - last_var.log() - 1).flatten(1).sum(1)
    steps = []
    for t in range(2, schedule.T + 1):
        x_t, t, guess = see(t)
        q, p = schedule.posterior(x0, x_t, t), schedule.posterior(guess, x_t, t)
        steps.append(kl_same_variance(q.mean, p.mean, q.var))
    _, _, guess = see(1)
    decoder = Normal(guess, schedule.snr[1].rsqrt().to(guess))
    return prior, torch.stack(steps, dim=1), -decoder.log_prob(x0).flatten(1).sum(1)


# %% [markdown]
# ### Does it hold?
# We need data whose density we know. Take numbers instead of images, $x_0\sim\mathcal N(0,\,0.5^2)$. The best denoiser is then known (notebook 03), and since it is linear, *everything the model does is Gaussian*:
# the variance of its samples follows by walking back with pencil and paper, so $-\ln p(x_0)$ of the **model** is known too. Three curves must keep their order for every number of steps $T$:
#
# entropy of the data $\;\le\;$ what the model really charges, $\mathbb E[-\ln p(x_0)]$ $\;\le\;$ what the bound says it charges.
#
# If (5.1) were derived wrongly, the upper curve would cut the middle one.

# %%
spread = 0.5
toy = GaussianMixture(torch.zeros(1, 1), spread)
entropy = 0.5 * math.log(2 * math.pi * math.e * spread**2)


def variance_of_samples(chain):
    """Of what the model generates on the toy: x_{t−1} = c_t x_t + noise of variance β̃_t, from T down to 0."""
    one, var = torch.ones(1, 1, dtype=torch.float64), 1.0
    denoise = toy.denoiser(chain)
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
    prior, steps, decoder = bound_terms(
        toy.denoiser(chain), chain, numbers, lab.generator(2, "cpu")
    )
    total = prior + steps.sum(1) + decoder
    charged.append((total.mean().item(), total.std().item() / len(total) ** 0.5))
    var = variance_of_samples(chain)
    truth.append(0.5 * math.log(2 * math.pi * var) + spread**2 / (2 * var))
    print(
        f"T = {T:4d}: bound {charged[-1][0]:6.3f} ± {charged[-1][1]:.3f}, model {truth[-1]:6.3f}, entropy {entropy:.3f} nats"
    )
broken = [T for T, (b, e), m in zip(lengths, charged, truth) if b < m - 4 * e or m < entropy - 1e-9]
print(
    "the order is "
    + (f"BROKEN at T = {broken}" if broken else "kept at every T, within 4 standard errors")
)

# %%
plots.curves(
    {
        "bound (5.1)": (lengths, [b for b, _ in charged]),
        "−ln p(x₀) of the model": (lengths, truth),
    },
    band={"bound (5.1)": ([b - 2 * e for b, e in charged], [b + 2 * e for b, e in charged])},
    mark={"entropy of the data": (None, entropy)},
    log_x=True,
    title="The bound stays above the model, and the model above the data",
    x_label="number of steps T",
    y_label="nats",
)

# %% [markdown]
# The lower gap, model against data, closes quickly. The upper one opens before it closes: $\tilde\beta_t$ is the variance of a walker who knows $x_0$, one who has to guess should allow for more, and at middling $T$ there are many steps at which it matters.
# Nichol & Dhariwal (2021) let the network learn the variance, to close just this gap. For samples it hardly matters; hence we keep it fixed, like nearly everyone.

# %% [markdown]
# ## 5.2 · The weight that was dropped
#
# What does (5.2) say about the network's answer? The two means differ only in $x_0$ against $\hat x_0$. Put (3.8) in, or count more cleverly with signal-to-noise ratios, and a remarkably clean price appears (Kingma et al. 2021):
#
# $$L_{t-1}=\tfrac12\big(\mathrm{SNR}_{t-1}-\mathrm{SNR}_t\big)\;\mathbb E\,\lVert x_0-\hat x_0\rVert^2
#   =\underbrace{\tfrac12\Big(\frac{\mathrm{SNR}_{t-1}}{\mathrm{SNR}_t}-1\Big)}_{w_t}\;\mathbb E\,\lVert\varepsilon-\hat\varepsilon\rVert^2 . \tag{5.3}$$
#
# The second form asks for the noise instead of the image. By (3.4) either determines the other, and an error in $x_0$ is an error in $\varepsilon$ divided by $\sqrt{\mathrm{SNR}_t}$.
# For $t=1$ there is no divergence but $L_0$; with our last step it charges $\tfrac12\lVert\varepsilon-\hat\varepsilon\rVert^2$ and a constant, so we set $w_1=\tfrac12$.
#
# ### {{heading training/bound-weight}}


# %% tags=["quiz"]
def bound_weight(schedule, t):
    """What the bound charges for |ε − ε̂|² at step t, equation (5.3); ½ at t = 1.

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
# ### Does it hold?
# The left side of (5.3) by PyTorch's own divergence of two Gaussians, the right side by your function. They come by different roads: one knows nothing of signal-to-noise ratios.

# %%
chain, generator = linear_schedule(1000), lab.generator(3, "cpu")
few, noise, error = (
    torch.randn(5, 1, 6, 4, generator=generator, dtype=torch.float64) for _ in range(3)
)
t = torch.tensor([2, 10, 100, 500, 1000])
x_t = chain.add_noise(few, t, noise)
guess = predict_x0(chain,
    "noise", noise + 0.1 * error, x_t, t
)  # what a network would answer that errs by 0.1 · error
q, p = chain.posterior(few, x_t, t), chain.posterior(guess, x_t, t)
sigma = q.var.sqrt().expand_as(q.mean)
left = kl_divergence(Normal(q.mean, sigma), Normal(p.mean, sigma)).flatten(1).sum(1)
right = bound_weight(chain, t) * (0.1 * error).square().flatten(1).sum(1)
for row in zip(t.tolist(), left.tolist(), right.tolist()):
    print("t = {:4d}: KL {:.9f} nats, w_t · |ε − ε̂|² {:.9f}".format(*row))
print(f"largest relative difference {((left - right) / left).abs().max():.0e}")

# %% [markdown]
# **Predict, then run.** On the linear schedule of the DDPM paper, $T=1000$: how many times heavier does the bound count an error in the noise at $t=2$ than at $t=1000$?

# %% tags=["predict"]
guess = predict(
    "training/weight-ratio",
    "Weight of the bound at t = 2 ÷ weight at t = 1000, linear schedule",
    0,
    200,
)

# %%
all_steps = torch.arange(1, 1001)
weights = {
    f"bound, {c.name}": bound_weight(c, all_steps)
    for c in (linear_schedule(1000), cosine_schedule(1000))
}
ratio = (weights["bound, linear"][1] / weights["bound, linear"][-1]).item()
reveal("training/weight-ratio", round(ratio, 1))
plots.curves(
    {name: (all_steps[1:], w[1:]) for name, w in weights.items()}
    | {"simple loss": ([2, 1000], [1, 1])},
    log_y=True,
    title="The bound cares for the last details; the simple loss treats every step alike",
    x_label="step t",
    y_label="weight of an error in the noise",
)

# %% [markdown]
# Ho et al. (2020) tried both and dropped the weight: $w_t=1$ for every $t$. Against the bound this *lowers* the price of errors at small $t$, where noise is so faint that only a microscope would find it, and raises it at large $t$.
# The samples got better and the likelihood worse. (On the cosine schedule the curve turns up at its right end: the last steps destroy what little signal is left, and the bound charges for that, too.)
#
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

# %% [markdown]
# ## 5.3 · Algorithm 1
#
# A sum over a thousand steps for every image is more than anybody can pay in each training step. But a sum is $T$ times a mean, and a mean can be sampled: draw *one* $t$ for each image. Drop $w_t$, and the whole derivation condenses into
#
# $$L_{\text{simple}}=\mathbb E_{x_0,\;t\sim\mathcal U\{1..T\},\;\varepsilon}\,\Big\lVert\,\varepsilon-\varepsilon_\theta\big(\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\varepsilon,\;t\big)\Big\rVert^2 . \tag{5.4}$$
#
# This is Algorithm 1 of the DDPM paper: take an image, a step and some noise; ask the network for the noise; take a gradient step on the squared error; repeat. We average over pixels instead of adding them up, so that losses don't grow with the size of the images.
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
# ### {{heading training/one-step}}
# This draws everything that Algorithm 1 needs. A network trained with it learns, slowly, and the loss jumps about. What is wrong? Mend it, and say in one line (a comment will do) what it does to the gradient.


# %% tags=["quiz"]
def draw_examples(x0, schedule, generator):
    """One training example an image: (x_t, t, noise), t uniform on 1..T, noise standard normal.

    x0: (b, c, h, w) in [-1, 1];  generator: where the random numbers come from.
    Returns x_t like x0, t (b,), noise like x0.
    """
    ### BEGIN SOLUTION
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=x0.device)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # t = torch.randint(1, schedule.T + 1, (1,), generator=generator, device=x0.device).expand(len(x0))
    ### END HANDED OUT
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    return schedule.add_noise(x0, t, noise), t, noise


# %% tags=["check"]
draw_examples = check("training/one-step", draw_examples)

# %% [markdown]
# ### By hand, once
# Here is training without any library around it (but for `until_stopped`, with which the stop button ends the loop after a whole step): a loop of a dozen lines, of which your two functions are the heart. We note the loss, and the length of the gradient for section 5.8.

# %%
by_hand = new_model()
optimizer = torch.optim.Adam(by_hand.parameters(), lr=2e-3)
generator = lab.generator(4)
losses, gradient_norms = [], []
for _ in until_stopped(range(lab.pick(smoke=8, cpu=80, gpu=300))):
    pick = torch.randint(len(train), (32,), generator=generator, device=lab.device)
    x0 = train.take(pick)
    _, t, noise = draw_examples(x0, schedule, generator)
    with autocast(lab.device):
        loss = algorithm_1(by_hand, x0, t, noise, schedule)
    optimizer.zero_grad()
    loss.backward()
    gradient_norms.append(torch.stack([w.grad.norm() for w in by_hand.parameters()]).norm().item())
    optimizer.step()
    losses.append(loss.item())
print(
    f"loss per pixel: {losses[0]:.3f} at first (answering 0 costs 1), {sum(losses[-5:]) / len(losses[-5:]):.3f} after {len(losses)} steps"
)

# %% [markdown]
# ### What the bug would have cost
# One $t$ for the whole batch is not biased: over many batches every step comes equally often. What it changes is the *noise of the gradient*. We measure it on the network that you just trained: the variance of a batch's gradient over many batches, all weights together, for three ways to draw $t$.
# The third is the one that the library uses: `draw_steps` deals the noise levels out evenly over the batch, one from each $b$-th of the range (Kingma et al. 2021).


# %%
def gradient_variance(draw_t, batches, size=32):
    """Sum over all weights of the variance of their gradients, from batch to batch."""
    generator, rows = lab.generator(5), []
    for _ in range(batches):
        pick = torch.randint(len(train), (size,), generator=generator, device=lab.device)
        x0, t = train.take(pick), draw_t(size, generator)
        noise = torch.randn(x0.shape, generator=generator, device=lab.device)
        with autocast(lab.device):
            loss = algorithm_1(by_hand, x0, t, noise, schedule)
        rows.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(by_hand.parameters()))])
        )
    return torch.stack(rows).var(dim=0).sum().item()


ways = {
    "one t for the batch": lambda n, g: torch.randint(
        1, 1001, (1,), generator=g, device=lab.device
    ).expand(n),
    "a t for each image": lambda n, g: torch.randint(1, 1001, (n,), generator=g, device=lab.device),
    "dealt out evenly": lambda n, g: draw_steps(n, 1000, g, lab.device),
}
variances = {
    name: gradient_variance(way, lab.pick(smoke=4, cpu=24, gpu=64)) for name, way in ways.items()
}
relative = {name: v / variances["a t for each image"] for name, v in variances.items()}
for name, value in relative.items():
    print(f"{name:22s} variance of the gradient {value:6.2f} (one t an image = 1)")

# %% [markdown]
# A batch of independent examples halves its variance when it is twice as large. Read the first number that way: it says how many times larger a batch with the bug would have to be for an equally steady gradient.

# %% [markdown]
# ## 5.4 · Overfit one batch first
#
# Before an hour of training comes a minute of doubt. Is anything connected wrongly? The cheapest test there is: freeze *one* batch, images, steps, noise and all, and train on it alone. A network with hundreds of thousands of weights must be able to learn a few images by heart.
# If the loss doesn't fall far below where it started, stop and look for the mistake.
#
# The test finds many mistakes. But does it find them all?
#
# ### {{heading training/wrong-pair}}
# This loss runs, falls steeply, and one can find it in code that people share. What is wrong? Mend it.


# %% tags=["quiz"]
def shared_loss(model, x0, t, noise, schedule):
    """The simple loss of a batch, equation (5.4).  Arguments and result as in `algorithm_1`."""
    noisy = schedule.add_noise(x0, t, noise)
    predicted_noise = model(noisy, t)
    ### BEGIN SOLUTION
    return nn.functional.mse_loss(predicted_noise, noise)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # return nn.functional.mse_loss(predicted_noise, noisy)
    ### END HANDED OUT


# %% tags=["check"]
shared_loss = check("training/wrong-pair", shared_loss)


# %% [markdown]
# Now the one-batch test, twice: with the right loss, and with the shared one as it was before you mended it.


# %%
def wrong_pair(model, x0, t, noise, schedule):
    """The shared loss as it was handed out: the answer is compared with the network's own input."""
    noisy = schedule.add_noise(x0, t, noise)
    return nn.functional.mse_loss(model(noisy, t), noisy)


frozen = test.x[:8]
frozen_t = torch.linspace(150, 700, 8, device=lab.device).long()
frozen_noise = torch.randn(frozen.shape, generator=lab.generator(6), device=lab.device)
one_batch, answers = {}, {}
for name, loss in {"right pair": algorithm_1, "wrong pair": wrong_pair}.items():
    model = new_model()
    history = fit(
        model,
        lambda m, x, y, g, loss=loss: loss(m, frozen, frozen_t, frozen_noise, schedule),
        frozen,
        Recipe(steps=lab.pick(smoke=15, cpu=150, gpu=400), lr=3e-3, batch_size=8),
        progress=False,
    )
    one_batch[name] = history.loss
    with torch.no_grad():
        x_t = schedule.add_noise(frozen, frozen_t, frozen_noise)
        answers[name] = predict_x0(schedule, "noise", model(x_t, frozen_t), x_t, frozen_t)
    print(f"{name}: loss per pixel {history.loss[0]:.3f} → {history.loss[-1]:.1e}")
plots.curves(
    {name: (range(1, len(h) + 1), h) for name, h in one_batch.items()},
    log_y=True,
    title="One frozen batch: both losses fall",
    x_label="training step",
    y_label="loss per pixel",
)

# %%
plots.image_rows(
    {
        "what it saw": x_t,
        "right pair: the image it implies": answers["right pair"],
        "wrong pair: the image it implies": answers["wrong pair"],
        "the clean images": frozen,
    },
    labels=[f"t = {t}" for t in frozen_t.tolist()],
    title="One frozen batch: only one of the two learned to denoise",
)

# %% [markdown]
# Both losses pass the test; only the picture tells them apart. The wrong network copies its input, and with "noise" that is the whole of $x_t$, nothing is left for the image.
# And it gets worse. On *fresh* images, where nothing can be learned by heart, the right task is hard and copying is easy:

# %%
fresh = {}
for name, loss in {"right pair": algorithm_1, "wrong pair": wrong_pair}.items():

    def fresh_loss(model, x, y, generator, loss=loss):
        t = torch.randint(1, 1001, (len(x),), generator=generator, device=x.device)
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return loss(model, x, t, noise, schedule)

    short = Recipe(steps=lab.pick(smoke=10, cpu=60, gpu=300), lr=3e-3, batch_size=32)
    history = fit(new_model(), fresh_loss, train, short, progress=False)
    fresh[name] = sum(history.loss[-5:]) / len(history.loss[-5:])
    print(f"{name}: loss per pixel {fresh[name]:.3f} on fresh images after {steps_made(history)}")

# %% [markdown]
# Whoever goes by the loss alone would ship the wrong one. So overfit one batch, and then look at what the network *says*, turned back into an image. (That turning back is (5.6), in the next section.)
#
# ### {{heading training/low-loss}}
# {{question training/low-loss}}

# %% tags=["quiz"]
### BEGIN SOLUTION
low_loss = "a"
### END SOLUTION
### BEGIN HANDED OUT
# low_loss = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/low-loss", low_loss)

# %% [markdown]
# ## 5.5 · What should the network say?
#
# Its input is $x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\varepsilon$. It may name the noise $\varepsilon$, or the image $x_0$: one fixes the other. But the two questions are not equally hard everywhere.
# Near $t=0$ the input *is* the image, and naming $x_0$ teaches nothing; near $t=T$ the input is the noise, and naming $\varepsilon$ teaches nothing. Salimans & Ho (2022) ask for what the input hides at both ends, the **velocity**
#
# $$v=\sqrt{\bar\alpha_t}\;\varepsilon-\sqrt{1-\bar\alpha_t}\;x_0 . \tag{5.5}$$
#
# Compare with (3.4): with $\cos\varphi=\sqrt{\bar\alpha_t}$ the pair $(x_t,v)$ is the pair $(x_0,\varepsilon)$ turned by the angle $\varphi$. A turn keeps lengths, so $v$ has about the same size at every $t$, and it can be undone:
#
# $$\hat x_0=\begin{cases}\big(x_t-\sqrt{1-\bar\alpha_t}\,\hat\varepsilon\big)/\sqrt{\bar\alpha_t}&\text{from }\hat\varepsilon\\[2pt]
#   \hat x_0&\text{from }\hat x_0\\[2pt] \sqrt{\bar\alpha_t}\,x_t-\sqrt{1-\bar\alpha_t}\,\hat v&\text{from }\hat v\end{cases} \tag{5.6}$$
#
# $$\hat\varepsilon=\big(x_t-\sqrt{\bar\alpha_t}\,\hat x_0\big)/\sqrt{1-\bar\alpha_t} . \tag{5.7}$$
#
# ### {{heading training/v-target}}


# %% tags=["quiz"]
def v_target(x0, noise, t, schedule):
    """v, equation (5.5).

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
# ### {{heading training/to-x0}}
# Samplers, metrics and pictures all want $\hat x_0$. Write (5.6), and no later notebook has to ask what a network predicts.


# %% tags=["quiz"]
def to_x0(prediction_type, output, x_t, t, schedule):
    """The clean image that a network's answer implies, equation (5.6).

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
# ### {{heading training/to-noise}}


# %% tags=["quiz"]
def to_noise(x0, x_t, t, schedule):
    """The noise that leads from x0 to x_t, equation (5.7).

    x0, x_t: (b, c, h, w);  t: (b,) integers in 1..T.  Returns a tensor like x0.
    """
    ### BEGIN SOLUTION
    signal_rate, noise_rate = schedule.rates(t, x0)
    return (x_t - signal_rate * x0) / noise_rate
    ### END SOLUTION


# %% tags=["check"]
to_noise = check("training/to-noise", to_noise)

# %% [markdown]
# ### See what is asked
# Move $t$. Row one is what the network sees; the other rows are the three questions. Ask of each: could I answer it by copying the first row?

# %%
asked_noise = torch.randn(8, *train.shape, generator=lab.generator(7), device=lab.device)


def what_is_asked(t):
    x0, steps = test.x[:8], torch.full((8,), t, device=lab.device)
    x_t = schedule.add_noise(x0, steps, asked_noise)
    v = v_target(x0, asked_noise, steps, schedule)
    left = schedule.alpha_bar[t].item()
    return plots.image_rows(
        {"seen: x_t": x_t / 2, "asked: ε": asked_noise / 2, "asked: x₀": x0 / 2, "asked: v": v / 2},
        title=f"t = {t}: signal rate {left**0.5:.2f}, noise rate {(1 - left) ** 0.5:.2f} (half contrast)",
    )


explore(
    what_is_asked,
    t=slider(1, 1000, value=300, step=1, label="step t"),
    title="Which row can be had by copying the first?",
    alt="Noised test images and the three targets for them",
)

# %% [markdown]
# ### What an error becomes
# Suppose the answer is off by 0.01 a pixel, whatever the question. How far is $\hat x_0$ off? By (5.6) the error is multiplied by $1/\sqrt{\mathrm{SNR}_t}$ for ε, by 1 for x₀, by $\sqrt{1-\bar\alpha_t}$ for v.

# %%
steps = torch.arange(1, 1000)
alpha_bar = cosine_schedule(1000).alpha_bar[steps]
factor = {
    "from ε": ((1 - alpha_bar) / alpha_bar).sqrt(),
    "from x₀": torch.ones(999),
    "from v": (1 - alpha_bar).sqrt(),
}
for t in (10, 500, 990):
    row = ", ".join(f"{name} {0.01 * f[t - 1].item():.4g}" for name, f in factor.items())
    print(f"t = {t:3d}: an answer off by 0.01 puts the image off by {row}")
plots.curves(
    {name: (steps, f) for name, f in factor.items()},
    log_y=True,
    title="At the noisy end, an error in ε is an enormous error in the image",
    x_label="step t (cosine schedule)",
    y_label="error in x̂₀ ÷ error in the answer",
)

# %% [markdown]
# At small $t$ the three curves read the other way: an ε-network may err a lot there and still know the image well. That is not free, either: it makes ε the strictest teacher of fine detail. The target decides *where precision is bought*, and so does the weight of 5.7; the two belong together.
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
# ## 5.6 · Which distance? L2, L1, Huber
#
# "L1 is more robust", "Huber is the best of both": one finds all three in published code, chosen by taste. But a loss is a question, and its minimiser is the answer. The squared error is minimised by the conditional *mean* $\mathbb E[x_0\mid x_t]$, the absolute error by the conditional *median*,
# Huber's loss by something between. Samplers are built on the score, and the score is made of the mean (3.9). So does the median do harm?
#
# On numbers we can find the perfect denoiser for each loss by summing over a fine grid, no network, no training: whatever goes wrong is the loss's own doing. The data have two modes, with 30 % on the left and 70 % on the right. If the choice of the loss were a matter of taste, all three would put 70 % of the samples on the right.

# %%
uneven = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.15, torch.tensor([0.3, 0.7]))
values = torch.linspace(-1.8, 1.8, 301)
log_density = uneven.log_prob(values[:, None])
cosine = cosine_schedule(1000)


def best_answer(distance, x_t, t):
    """argmin over c of E[distance(x0, c) | x_t], by sums over a grid of x0. x_t: (n,);  t: a step."""
    alpha_bar = cosine.alpha_bar[t].item()
    offset = x_t[:, None] - alpha_bar**0.5 * values
    posterior = (log_density - offset.square() / (2 * (1 - alpha_bar))).softmax(1)
    if distance == "L1":
        return values[(posterior.cumsum(1) < 0.5).sum(1)]
    mean = posterior @ values
    if distance == "L2":
        return mean
    in_noise = (
        alpha_bar / (1 - alpha_bar)
    ) ** 0.5  # Huber's bend lies at an error of 1 in the noise, as in training
    for _ in range(40):  # weighted means, until they settle
        pull = posterior / ((values - mean[:, None]).abs() * in_noise).clamp(min=1)
        mean = pull @ values / pull.sum(1)
    return mean


def perfect_denoiser(distance):
    places = torch.linspace(-4.5, 4.5, 601)

    def denoise(x_t, t, y=None):
        answers = best_answer(distance, places, int(t[0]))
        at = ((x_t.flatten() + 4.5) / 9 * 600).clamp(0, 599.99)
        return torch.lerp(answers[at.long()], answers[at.long() + 1], at.frac())[:, None]

    return denoise


start = torch.randn(lab.pick(smoke=500, cpu=4000, gpu=4000), 1, generator=lab.generator(8, "cpu"))
ends = {
    d: last(ddim(perfect_denoiser(d), cosine, start, steps=50)).flatten()
    for d in ("L2", "L1", "Huber")
}
share = {d: (x > 0).float().mean().item() for d, x in ends.items()}
for d, x in ends.items():
    print(
        f"{d:5s} {share[d]:.1%} of the samples on the right, spread of that mode {x[x > 0].std():.3f}"
    )
print("data  70.0%                                                 0.150")

# %%
figure, axes = plots.new_figure(8, 3.7, columns=2)
seen = torch.linspace(-2, 2, 300)
for d in ends:
    axes[0].plot(seen, best_answer(d, seen, 600), label=d)
axes[0].set(
    xlabel="x_t at t = 600", ylabel="the perfect answer x̂₀", title="Three perfect denoisers"
)
axes[0].legend()
grid = torch.linspace(-1.8, 1.8, 300)
axes[1].fill_between(grid, uneven.log_prob(grid[:, None]).exp(), color="#dddddd", label="data")
for k, (d, x) in enumerate(ends.items()):
    density, edges = torch.histogram(x, 60, range=(-1.8, 1.8), density=True)
    axes[1].plot(
        (edges[1:] + edges[:-1]) / 2, density, color=plots.COLOURS[k], linewidth=1.8, label=d
    )
axes[1].set(xlabel="sample", ylabel="density", title="What they generate")
axes[1].legend()
figure.set_label(
    f"Left: optimal answers for L2, L1 and Huber; L1 jumps from one mode to the other. Right: their samples; "
    f"{share['L2']:.0%}, {share['L1']:.0%} and {share['Huber']:.0%} on the right"
)
figure

# %% [markdown]
# The median takes sides: as soon as one mode is likelier than the other, it answers with that one. Step after step this favours the frequent, and the rare mode starves. Huber's loss bends only for errors above 1 in the noise, so it is nearly L2, and nearly right. Diversity is at stake here, and no loss curve would show it.
#
# ### {{heading training/median}}
# {{question training/median}}

# %% tags=["quiz"]
### BEGIN SOLUTION
median = "b"
### END SOLUTION
### BEGIN HANDED OUT
# median = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("training/median", median)

# %% [markdown]
# ## 5.7 · Loss by noise level, and whom the weight serves
#
# One number for a thousand different tasks hides everything. So let us take it apart. Three networks, from the same first weights, on the same batches, for the same short time; only the target differs. We translate all answers into $\hat x_0$ by (5.6), so that the errors have one unit, and measure them on test images, one noise level at a time.

# %%
quick = lab.pick(smoke=8, cpu=120, gpu=2000)
levels = [1, 5, 20, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 960, 990]
measured_on = test.x[: lab.pick(smoke=32, cpu=128, gpu=128)]
level_noise = torch.randn(measured_on.shape, generator=lab.generator(9), device=lab.device)


@torch.no_grad()
def error_by_level(model, prediction_type):
    """Mean squared error of x̂₀ per pixel on test images, at every level; a list."""
    errors = []
    for t in levels:
        t = torch.full((len(measured_on),), t, device=lab.device)
        x_t = schedule.add_noise(measured_on, t, level_noise)
        with autocast(lab.device):
            output = model(x_t, t).float()
        errors.append((to_x0(prediction_type, output, x_t, t, schedule) - measured_on).square().mean().item())
    return errors


by_target = {}
for prediction_type in ("noise", "x0", "v"):
    model = new_model()
    history = fit(
        model, diffusion_loss(schedule, prediction_type=prediction_type), train, recipe(quick), progress=False
    )
    by_target[prediction_type] = {
        "model": history.ema_model,
        "raw": model,
        "history": history,
        "seconds": history.seconds,
        "loss": sum(history.loss[-quick // 4 :]) / len(history.loss[-quick // 4 :]),
        "errors": error_by_level(history.ema_model, prediction_type),
    }
spread_of_data = (test.x - train.first(2000).x.mean(0)).square().mean().item()
plots.curves(
    {f"predicts {prediction_type}": (levels, row["errors"]) for prediction_type, row in by_target.items()},
    log_y=True,
    mark={"answering the mean image": (None, spread_of_data)},
    title=f"{test.title}: how well each knows the image, by noise level",
    x_label="step t",
    y_label="error of x̂₀ (MSE per pixel)",
)

# %% [markdown]
# The dashed line is what a network pays that ignores its input and always says "the mean image". At large $t$ nobody can do much better. There the ε-network is far above the line: its answers may be good *in its own unit*, but see the curve of 5.5 for what becomes of a small error. At small $t$ look at the x₀-network, which gains nothing from an input that is nearly the answer.
#
# Is the best at most levels also the best painter? We sample from all three.

# %%
n_samples = len(test)


def what_to_compare():
    """Features of images, and their name: the shipped classifier's where it knows such images, else PCA's."""
    if f"{train.name}-classifier" in shipped():
        evaluator = load_classifier(train.name, lab.device)
        return evaluator.features, "features of a small classifier that comes with the course"
    pca = PCA.fit(train.first(5000).x.cpu().double(), 32)
    return lambda images: pca.encode(images.cpu()), "32 main directions of the training images"


compare, compared_in = what_to_compare()


@torch.no_grad()
def features(images):
    return torch.cat([compare(part).cpu() for part in images.float().split(500)])


real = features(test.x)


def distance_to_data(images):
    """Squared Fréchet distance (2.10) of images to the test images, in these features."""
    return frechet_distance(real, features(images))


floor = distance_to_data(train.first(n_samples).x)
how_long = steps_made(*(row["history"] for row in by_target.values()))
print(f"{how_long} each; {n_samples} samples against as many test images.")
print(f"d² (2.10) in {compared_in}.")
print(
    f"It depends on the features and on the number of images; as many training images: {floor:.2f}\n"
)
for prediction_type, row in by_target.items():
    row["samples"] = draw(row["model"], n_samples, target=prediction_type)
    row["distance"] = distance_to_data(row["samples"])
    print(f"predicts {prediction_type:6s} its own loss {row['loss']:.3f}   d² {row['distance']:7.2f}")
lowest = min(by_target, key=lambda prediction_type: by_target[prediction_type]["loss"])
nearest = min(by_target, key=lambda prediction_type: by_target[prediction_type]["distance"])
print(
    f"lowest loss: {lowest}; nearest samples: {nearest}"
    + ("" if lowest == nearest else ". Not the same.")
)

# %%
plots.image_rows(
    {f"predicts {prediction_type}": row["samples"][:10] for prediction_type, row in by_target.items()},
    title=f"{train.title}: samples after {how_long}",
)

# %% [markdown]
# ### A weight for every noise level
# An error in $x_0$, said in other units, is $\lVert\varepsilon-\hat\varepsilon\rVert^2=\mathrm{SNR}_t\lVert x_0-\hat x_0\rVert^2$ and $\lVert v-\hat v\rVert^2=(\mathrm{SNR}_t+1)\lVert x_0-\hat x_0\rVert^2$. So *choosing a target is choosing a weight* on one and the same error: 1, SNR, or SNR + 1.
# At small $t$ the SNR is in the thousands. Hang et al. (2023) find that such steps crowd out the others, and cap the weight on $x_0$ at γ = 5; said for whatever the network predicts,
#
# $$w_t=\frac{\min(\mathrm{SNR}_t,\gamma)}{u_t},\qquad u_t=1\ (x_0),\quad \mathrm{SNR}_t\ (\varepsilon),\quad \mathrm{SNR}_t+1\ (v). \tag{5.8}$$
#
# ### {{heading training/min-snr}}


# %% tags=["quiz"]
def min_snr_weight(schedule, prediction_type, t, gamma=5.0):
    """The weight of the squared error of a network that predicts `prediction_type`, equation (5.8).

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
# ### Who gets the attention?
# Take the errors of the v-network above as they are, and ask of every target and weighting: which share of the *objective* comes from which noise levels? Where the area is, the gradient is, and there the next gram of capacity goes.
# Look for two extremes: a choice that spends nearly everything on images a person would call clean, and one that spends it on images in which nobody sees anything.

# %%
every_step, cpu_schedule = torch.arange(1, 991), schedule.to("cpu")
known, snr_there = torch.tensor(levels), cpu_schedule.snr[torch.tensor(levels)]
in_v = torch.tensor(by_target["v"]["errors"], dtype=torch.float64) * (
    snr_there + 1
)  # the error in v: smooth in t
place = torch.searchsorted(known[1:], every_step).clamp(max=len(levels) - 2)
low, high = known[place], known[place + 1]
error_of_v = torch.lerp(in_v[place], in_v[place + 1], (every_step - low) / (high - low).double())
error_of_x0 = error_of_v / (cpu_schedule.snr[every_step] + 1)


def attention(target, weighting):
    snr = cpu_schedule.snr[every_step]
    objective = error_of_x0 * {"x0": torch.ones_like(snr), "noise": snr, "v": snr + 1}[target]
    if weighting == "min-SNR":
        objective = objective * min_snr_weight(cpu_schedule, target, every_step)
    elif weighting == "bound":  # (5.3) is said for the noise
        objective = error_of_x0 * snr * bound_weight(cpu_schedule, every_step)
    share = objective / objective.sum()
    grown = share.cumsum(0)
    first, half, most = (
        every_step[(grown < part).sum().clamp(max=989)].item() for part in (0.1, 0.5, 0.9)
    )
    figure, axes = plots.new_figure(8, 3.6)
    axes.fill_between(every_step, 100 * share, alpha=0.35)
    axes.plot(every_step, 100 * share)
    axes.axvline(
        half,
        color="#222222",
        linestyle="--",
        linewidth=1.6,
        label=f"half of it lies below t = {half}",
    )
    axes.set(xlabel="step t", ylabel="share of the objective (% a step)", ylim=(0, None))
    axes.set_title(
        f"target {target}, weight {weighting}: four fifths between t = {first} and {most}"
    )
    axes.legend(loc="upper right")
    return figure


explore(
    attention,
    target=choice({"ε": "noise", "x₀": "x0", "v": "v"}, value="v", label="target"),
    weighting=choice(
        {"none": "none", "min-SNR": "min-SNR", "as in the bound": "bound"}, label="weight"
    ),
    title="Which noise levels does this objective look at?",
    alt="Share of the objective by step, for a target and a weighting",
)

# %% [markdown]
# With the weight of the bound the target makes no difference: the weight belongs to the error, not to its unit. With min-SNR it makes none either, for the same reason.
# Without a weight, ε multiplies the error of the image by SNR, x₀ by 1, and v by SNR + 1: *the objective of v is the sum of the other two*. One of them looks at the clean end and one at the noisy end, so v looks at both. That is why the course predicts v, and adds no weight; "go further" lets you try to beat it.

# %% [markdown]
# ## 5.8 · Steady hands: averaging, warm-up, decay, clipping
#
# Every step follows the gradient of a few dozen images. The weights therefore never come to rest; they tremble around a good place. Two remedies: take an average of the places they have been to, or take smaller steps towards the end.
#
# **An exponential moving average** (EMA) of the weights, kept beside them and used for sampling only:
#
# $$\bar\theta\leftarrow d_n\,\bar\theta+(1-d_n)\,\theta,\qquad d_n=\min\Big(\text{decay},\;\frac{1+n}{10+n}\Big),\quad n=0,1,2,\dots \tag{5.9}$$
#
# It remembers about $1/(1-d)$ steps. The growing $d_n$ lets it forget quickly at first, when all there is to remember are random weights.
#
# ### {{heading training/ema}}


# %% tags=["quiz"]
def ema_update(average, weights, updates, decay):
    """The average after one more update, equation (5.9).

    average, weights: lists of tensors, pairwise alike;  updates: n, how many there were before;
    decay: in [0, 1).  Returns a new list of tensors; its inputs stay as they are.
    """
    ### BEGIN SOLUTION
    d = min(decay, (1 + updates) / (10 + updates))
    return [d * a + (1 - d) * w for a, w in zip(average, weights)]
    ### END SOLUTION


# %% tags=["check"]
ema_update = check("training/ema", ema_update)

# %% [markdown]
# ### The learning rate
# Large steps at first, small ones in the end, and a gentle climb before both, since Adam's estimates of the gradient's size (Kingma & Ba 2015) rest on very few gradients at the start. With $k$ counted from 0, $K$ steps in all and $W$ of warm-up:
#
# $$\eta_k=\eta\cdot\min\Big(1,\frac{k+1}{W}\Big)\cdot s(k/K),\qquad s(u)=\min\big(1,\,2(1-u)\big)\ \text{for "linear-half"}. \tag{5.10}$$
#
# **The step itself.** Adam divides the gradient of every single weight by its usual size, so that all weights move about equally fast. For the filters of convolutions the course's recipe takes **Muon** (Jordan et al. 2024):
# it reads a bank of filters as one matrix, and gives every *direction* of its gradient the same length, not every number. What that buys, you will measure in 5.10.
#
# **Clipping** scales a gradient down to a given length if it is longer. A rare violent batch can then do no more harm than any other.
#
# ### See them at work
# A valley with two weights, a gradient with noise, 1,000 steps of plain gradient descent. The figure shows how far we are from the bottom.

# %%
valley = torch.tensor([1.0, 0.5])


def descend(factor=lambda k: 1.0, steps=1000, rate=0.5, repeats=200):
    """Distances to the bottom (root mean squares over repeats) of the weights and of two averages."""
    generator = lab.generator(10, "cpu")
    weight = torch.full((repeats, 2), 4.0)
    averages, rows = (
        {"warming": [weight], "constant": [weight]},
        {"weights": [], "warming": [], "constant": []},
    )
    for k in range(steps):
        gradient = valley * weight + torch.randn(repeats, 2, generator=generator)
        weight = weight - rate * factor(k) * gradient
        averages["warming"] = ema_update(averages["warming"], [weight], k, 0.99)
        averages["constant"] = [0.99 * averages["constant"][0] + 0.01 * weight]
        for name, w in {"weights": weight, **{n: a[0] for n, a in averages.items()}}.items():
            rows[name].append(w.square().sum(1).mean().sqrt().item())
    return rows


flat = descend()
decayed = descend(lambda k: learning_rate_factor(k, Recipe(steps=1000, lr_schedule="linear-half")))
figure, axes = plots.new_figure(8, 3.8, columns=2)
curves = {
    "weights, flat rate": flat["weights"],
    "EMA, growing d (5.9)": flat["warming"],
    "EMA, constant 0.99": flat["constant"],
    "weights, rate decays": decayed["weights"],
}
plots.draw_curves(
    axes[0],
    {name: (range(1, 1001), row) for name, row in curves.items()},
    x_label="step",
    y_label="distance to the bottom",
    log_y=True,
    title="Two ways to come to rest",
)
axes[0].legend(fontsize=10)
axes[0].set_ylim(0.05, 20)
whole = 1000
plots.draw_curves(
    axes[1],
    {
        name: (
            range(whole),
            [
                learning_rate_factor(k, Recipe(steps=whole, warmup=100, lr_schedule=name))
                for k in range(whole)
            ],
        )
        for name in ("flat", "cosine", "linear-half")
    },
    x_label="step k",
    y_label="factor of the learning rate",
    title="(5.10) with a warm-up of 100",
)
figure.set_label(
    "Left: distance to the minimum over training steps with and without averaging. Right: learning-rate schedules"
)
for name, row in curves.items():
    print(f"{name:22s} ends {sum(row[-50:]) / 50:.3f} from the bottom")
early, late = (
    gradient_norms[: len(gradient_norms) // 8 + 1],
    gradient_norms[len(gradient_norms) // 2 :],
)
print(
    f"\nlength of the gradient in your loop of 5.3: largest {max(early):.2f} early, median {sorted(late)[len(late) // 2]:.2f} in the second half;"
    f"\nclip=1.0 would have acted in {sum(g > 1 for g in gradient_norms)} of {len(gradient_norms)} steps"
)
figure

# %% [markdown]
# With a flat rate the weights stop getting closer after a while. Their average goes on; so do weights whose rate falls. The two remedies do the same job, and a run that ends on a rate of zero needs the average much less. But the decay must know when the run will end, while the average may be asked at any time. We use both, and in 5.12 you will see them take turns.
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
# ## 5.9 · Fast on what you have
#
# Two settings cost nothing and change no formula. **Mixed precision** (Micikevicius et al. 2018): weights stay in float32, products are computed in bfloat16, where processors have units for it. bfloat16 keeps the *range* of float32 and only 8 bits of the digits; a gradient is noisy beyond that anyway. (With float16, small gradients vanish, and the loss has to be scaled up; with bfloat16 it doesn't.)
# **Channels last**: all channels of a pixel lie side by side in memory, which is the order in which convolutions want to read them. What do they bring on *your* machine? No table in a book can say; measure.

# %%
bf16 = has_bfloat16(lab.device.type)
variants = {
    "float32, channels first": {"mixed_precision": False, "channels_last": False},
    "float32, channels last": {"mixed_precision": False, "channels_last": True},
    "bfloat16, channels first": {"mixed_precision": True, "channels_last": False},
    "bfloat16, channels last": {"mixed_precision": True, "channels_last": True},
}
if not bf16:  # imitated in software it would be slower, and say nothing
    variants = {
        name: settings for name, settings in variants.items() if not settings["mixed_precision"]
    }
timed = lab.pick(smoke=2, cpu=8, gpu=60)
seconds = {}
for name, settings in variants.items():
    settings = recipe(timed, **settings)
    fit(
        new_model(),
        diffusion_loss(schedule),
        train,
        replace(settings, steps=2, warmup=0),
        progress=False,
    )  # warming up
    history = fit(new_model(), diffusion_loss(schedule), train, settings, progress=False)
    seconds[name] = history.seconds / len(history.steps)
slow, fast = seconds["float32, channels first"], min(seconds.values())
for name, s in seconds.items():
    print(f"{name:26s} {1000 * s:6.1f} ms a step, {slow / s:.1f}× the speed of the first line")
if not bf16:
    print("This processor has no units for bfloat16; `fit` leaves it off here.")

# %% [markdown]
# `fit` switches both on where they help. The third gain was made in notebook 04: a stem that trades resolution for channels.

# %% [markdown]
# ## 5.10 · What each choice buys
#
# A recipe is a list of choices, and a list can be tested line by line: change *one* thing, keep the first weights, the batches and the number of steps, and measure what comes out. We have three of the runs already (5.7). A line is telling only if its distance differs from the first one's by clearly more than the ±, which is what drawing other samples would change.


# %%
def spread_of_distance(images, repeats=10):
    """Standard deviation of d² over images drawn again, with replacement, from these."""
    all_features, generator = features(images), lab.generator(13, "cpu")
    again = [
        torch.randint(len(images), (len(images),), generator=generator) for _ in range(repeats)
    ]
    return torch.tensor([frechet_distance(real, all_features[pick]) for pick in again]).std().item()


def short_training(chain=None, **changes):
    """Samples after `quick` steps, and the seconds that they took."""
    model = new_model()
    history = fit(
        model, diffusion_loss(chain or schedule), train, recipe(quick, **changes), progress=False
    )
    short_histories.append(history)
    return draw(history.ema_model, n_samples, chain=chain), history.seconds


short_histories = [row["history"] for row in by_target.values()]
choices = {"the recipe": (by_target["v"]["samples"], by_target["v"]["seconds"])}
choices |= {
    f"predict {what}": (by_target[prediction_type]["samples"], by_target[prediction_type]["seconds"])
    for prediction_type, what in (("noise", "ε"), ("x0", "x₀"))
}
choices["linear schedule"] = short_training(linear_schedule(1000).to(lab.device))
choices["Adam, rate 0.003"] = short_training(optimizer="adam", lr=3e-3)
choices["a flat rate"] = short_training(lr_schedule="flat")
choices["raw weights (no EMA)"] = (
    draw(by_target["v"]["raw"], n_samples),
    by_target["v"]["seconds"],
)
bought = {
    name: (distance_to_data(images), spread_of_distance(images), s)
    for name, (images, s) in choices.items()
}
print(f"{train.title}, {steps_made(*short_histories)} each; training images: d² {floor:.2f}\n")
for name, (d, error, s) in bought.items():
    print(f"{name:22s} d² {d:8.2f} ± {error:.2f}   {s:5.1f} s")
basis, margin = bought["the recipe"][0], 4 * max(error for _, error, _ in bought.values())
better = [name for name, (d, _, _) in bought.items() if d < basis - margin]
worse = [name for name, (d, _, _) in bought.items() if d > basis + margin]
if any(one.interrupted for one in short_histories):
    print("\nstopped by hand: unequal trainings, no verdict")
else:
    print(f"\nclearly worse than the recipe at this length: {', '.join(worse) or 'none'}")
    print(f"clearly better: {', '.join(better) or 'none'}")

# %%
plots.bars(
    {name: d for name, (d, _, _) in bought.items()},
    errors={name: error for name, (_, error, _) in bought.items()},
    title=f"{train.title}, {steps_made(*short_histories)}: one choice changed at a time",
    y_label="d² of samples to data",
)

# %% [markdown]
# Read it with care. So short a run rewards what learns the coarse shapes first, and says little about what matters late: an average can't help before there is something to average, and a rate that falls early costs steps. A choice that wins here may lose in ten times the time, and the other way round.
#
# The recipe of this notebook was chosen by such a table, a minute of CPU time for each line (`benchmarks/choices.py`, Fashion-MNIST, one seed; three seeds of the recipe itself gave 35 to 39):
#
# | one choice undone | d² | steps in the minute |
# |---|---|---|
# | none: the recipe | 38.8 | 607 |
# | no unshuffle stem | 76.1 | 178 |
# | Adam at 0.003 in place of Muon | 65.7 | 630 |
# | float32, channels first | 53.8 | 420 |
# | widths 48 and 96 in place of 32 and 64 | 53.5 | 357 |
# | linear schedule | 48.5 | 661 |
# | batches of 128 in place of 64 | 43.4 | 374 |
# | predict ε in place of v | 38.9 | 667 |
# | steps t drawn independently | 37.2 | 679 |
# | a flat rate | 36.2 | 673 |
# | raw weights (no EMA) | 35.8 | 662 |
# | predict x₀ in place of v | 34.3 | 588 |
#
# Down to the batch, a change costs more than another seed would; below it, none can be told from the recipe with certainty, at this length. What buys most is what makes a step cheap, and the optimiser. Take the table as a habit: the next recipe that somebody swears by deserves a line in it, and a longer run.

# %% [markdown]
# ## 5.11 · Watch it learn
#
# A progress bar says that something is happening; a strip of samples says *what*. While it trains we shall look over the network's shoulder, which means sampling from it in the middle of training. There is a bug waiting there.
#
# ### {{heading training/mode}}
# A network with dropout, trained, and sampled from now and then with this function. The samples look worse than they should, with and without end. What is wrong? Mend it, so that the network leaves in the mode in which it came.


# %% tags=["quiz"]
def sample(model, noise, schedule, steps=20):
    """Images (b, c, h, w) from a network that predicts v; it is left in the mode, training or eval, it was in.

    model: an nn.Module, perhaps with dropout or BatchNorm;  noise: (b, c, h, w), standard normal;
    steps: of the walk.
    """
    ### BEGIN SOLUTION
    was_training = model.training
    model.eval()
    images = last(ddim(clipped(Denoiser(model, schedule, "v")), schedule, noise, steps))
    model.train(was_training)
    return images
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # images = last(ddim(clipped(Denoiser(model, schedule, "v")), schedule, noise, steps))
    # return images
    ### END HANDED OUT


# %% tags=["check"]
sample = check("training/mode", sample)

# %% [markdown]
# ### What the stop button does
# In `fit`, and in a loop of your own over `until_stopped(...)`, it ends the run *after the current step*: no weight is caught half-way, the model keeps what it has learned, and a checkpoint is saved if there is one. Trainings that begin later in the same cell make one step. The second press in a cell is an ordinary interrupt. Here a signal stands in for your finger.

# %%
tiny = new_model(widths=(16, 32))


def press_stop(step, history):
    if step == 3:
        signal.raise_signal(signal.SIGINT)


stopped = fit(
    tiny, diffusion_loss(schedule), train, recipe(50), progress=False, on_step=press_stop, every=1
)
print(
    f"steps done: {len(stopped.steps)}; interrupted: {stopped.interrupted}; in training mode: {tiny.training}"
)

# %% [markdown]
# **Predict, then run.** Now the real thing, with samples kept along the way. The loss falls from about its first value to its last. After *a tenth* of the steps, what share of this whole fall will be done? (Measured on test images, with the same steps and noise every time.)

# %% tags=["predict"]
guess = predict(
    "training/early-fall",
    "Share of the loss's whole fall that is done after a tenth of the steps",
    0,
    100,
    unit="%",
)

# %% [markdown]
# ### Train
# Watch the strip. If you press stop, the notebook goes on with what the model has learned so far; pressed twice, it ends there.

# %%
steps = lab.pick(smoke=12, cpu=1000, gpu=8000)
every = max(4, steps // 40)
looks = {
    every * max(1, round(steps * part / every))
    for part in (0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
}
model = new_model()
snapshots = {}
view = None


def look(step, history):
    """Called by `fit` now and then, with the model in eval mode: a strip of samples, perhaps a snapshot."""
    global view
    if step in looks:
        weights = {"EMA": history.ema_model, "raw": model}
        snapshots[step] = {
            name: {key: w.clone() for key, w in m.state_dict().items()}
            for name, m in weights.items()
        } | {"seconds": history.seconds}
    figure = plots.training_view(
        history.loss,
        draw(history.ema_model, 10),
        title=f"{train.title}: step {step} of {steps}, {history.seconds:.0f} s",
        steps=steps,
        y_label="loss (v, per pixel)",
    )
    if view is None:
        view = display(figure, display_id=True)
    else:
        view.update(figure)


history = fit(
    model,
    diffusion_loss(schedule),
    train,
    recipe(steps),
    on_step=look,
    every=every,
)
if len(history.steps) not in snapshots:  # stopped by hand
    looks.add(len(history.steps))
    look(len(history.steps), history)
trained = history.ema_model
print(
    f"{len(history.steps)} steps in {history.seconds:.0f} s, {1000 * history.seconds / len(history.steps):.0f} ms each"
)

# %%
plots.image_grid(
    draw(trained, 30), columns=10, title=f"{train.title}: thirty samples of your model"
)

# %% [markdown]
# ## 5.12 · Loss is not quality
#
# A published text on diffusion models remarks that the loss converges early while the samples keep improving. If so, the loss is a bad guide to when to stop. We can test that: at every snapshot we measure the loss on test images (always with the same steps and noise, so that nothing but the weights differs), and the Fréchet distance of samples to data.
#
# **What failing would look like:** both have done the same share of their fall at every snapshot; or, after the loss has done 95 % of its fall, the distance changes by less than four times what another draw of images would change (the ± below).

# %%
held_out = test.x[:256]
held_t = draw_steps(len(held_out), 1000, lab.generator(11), lab.device)
held_noise = torch.randn(held_out.shape, generator=lab.generator(12), device=lab.device)


@torch.no_grad()
def held_out_loss(net):
    with autocast(lab.device):
        answer = net(schedule.add_noise(held_out, held_t, held_noise), held_t).float()
    return (answer - v_target(held_out, held_noise, held_t, schedule)).square().mean().item()


scratch = new_model()
start_loss = held_out_loss(scratch)
start_distance = distance_to_data(draw(scratch, n_samples))
record = {"EMA": {}, "raw": {}}
for step, kept in snapshots.items():
    for name in record:
        scratch.load_state_dict(kept[name])
        images = draw(scratch.eval(), n_samples)
        record[name][step] = {
            "loss": held_out_loss(scratch),
            "distance": distance_to_data(images),
            "±": spread_of_distance(images),
            "images": images[:20].cpu(),
        }

taken = list(snapshots)
print(f"{test.title}; d² of {n_samples} samples (training images: {floor:.2f})")
print(f"before training: loss {start_loss:.4f}, d² {start_distance:.1f}\n")
print(
    f"{'step':>6s}{'seconds':>9s}{'loss, EMA':>11s}{'raw':>9s}{'d², EMA':>11s}{'raw':>9s}{'±':>7s}"
)
for step in taken:
    ema, raw = record["EMA"][step], record["raw"][step]
    print(
        f"{step:6d}{snapshots[step]['seconds']:9.1f}{ema['loss']:11.4f}{raw['loss']:9.4f}{ema['distance']:11.2f}{raw['distance']:9.2f}{ema['±']:7.2f}"
    )


# %%
def fallen(key, start, name="EMA"):
    """Share of the whole fall that is done at each snapshot, from `start` to the lowest."""
    values = [record[name][step][key] for step in taken]
    return [
        (start - value) / (start - min(values)) if start > min(values) else 0.0 for value in values
    ]


tenth = min(range(len(taken)), key=lambda i: abs(taken[i] - steps / 10))
loss_done, distance_done = fallen("loss", start_loss), fallen("distance", start_distance)
reveal("training/early-fall", round(100 * loss_done[tenth], 1))
figure, axes = plots.new_figure(8, 3.9, columns=2)
for name, style in (("EMA", "-"), ("raw", "--")):
    rows = [record[name][step] for step in taken]
    axes[0].plot(
        taken,
        [row["loss"] for row in rows],
        "o" + style,
        color=plots.COLOURS[0],
        label=f"{name} weights",
    )
    axes[1].plot(
        taken,
        [row["distance"] for row in rows],
        "o" + style,
        color=plots.COLOURS[2],
        label=f"{name} weights",
    )
axes[1].axhline(floor, color="#222222", linestyle=":", label="training images")
axes[0].set(
    xscale="log",
    xlabel="training step",
    ylabel="loss on test images (v, per pixel)",
    title="The loss …",
)
axes[1].set(
    xscale="log",
    yscale="log",
    xlabel="training step",
    ylabel="d² of samples to data",
    title="… and what it is for",
)
for one in axes:
    one.legend()
    one.minorticks_off()
    one.set_xticks(sorted({taken[0], taken[len(taken) // 3], taken[-min(3, len(taken))], taken[-1]}))
    one.xaxis.set_major_formatter("{x:g}")
axes[1].yaxis.set_major_formatter("{x:g}")
figure.set_label(
    f"Left: test loss of EMA and raw weights against training step, ending at {record['EMA'][taken[-1]]['loss']:.4f}. "
    f"Right: distance of samples to data for the same weights, ending at {record['EMA'][taken[-1]]['distance']:.2f}"
)
figure

# %%
settled = next((i for i, part in enumerate(loss_done) if part >= 0.95), len(taken) - 1)
gained = record["EMA"][taken[settled]]["distance"] - record["EMA"][taken[-1]]["distance"]
noise_of_it = 4 * max(record["EMA"][taken[settled]]["±"], record["EMA"][taken[-1]]["±"])
print(
    f"After step {taken[tenth]}: {loss_done[tenth]:.0%} of the loss's fall, {distance_done[tenth]:.0%} of the distance's."
)
if history.interrupted:
    print(
        f"Stopped by hand after step {len(history.steps)} of {steps}: too short to tell. Train again, to the end."
    )
elif settled == len(taken) - 1 or steps < 200:
    longer = "Effort `cpu` can." if lab.effort == "smoke" else "More steps can."
    print(f"The loss had not settled before the end: this run is too short to tell. {longer}")
elif gained > noise_of_it:
    print(
        f"At step {taken[settled]} the loss had done {loss_done[settled]:.0%} of its fall. From there to the end it moved by "
        f"{record['EMA'][taken[settled]]['loss'] - record['EMA'][taken[-1]]['loss']:.4f},\nand d² went from "
        f"{record['EMA'][taken[settled]]['distance']:.2f} to {record['EMA'][taken[-1]]['distance']:.2f}: more than chance explains. The remark survives."
    )
else:
    print(
        f"After step {taken[settled]}, where the loss had done {loss_done[settled]:.0%} of its fall, d² fell by {gained:.2f}, "
        f"within chance (±{noise_of_it:.2f}): this run doesn't support the remark."
    )


# %% [markdown]
# ### EMA on and off
# Same training, same noise, same moment: only the weights differ. Step through the snapshots and flip the switch. When does it matter most, and when hardly at all?


# %%
def at_snapshot(index, averaged):
    step, name = taken[min(index, len(taken) - 1)], "EMA" if averaged else "raw"
    row = record[name][step]
    return plots.image_grid(
        row["images"],
        columns=10,
        title=f"Step {step}, {'averaged' if averaged else 'raw'} weights: loss {row['loss']:.4f}, d² {row['distance']:.1f}",
    )


explore(
    at_snapshot,
    index=slider(0, max(1, len(taken) - 1), value=len(taken) // 2, step=1, label="snapshot"),
    averaged=toggle(True, label="averaged weights (EMA)"),
    title="When does averaging matter?",
    alt="Twenty samples from the same noise at a moment of the training, with raw or averaged weights",
)

# %%
middle = [step for step in taken if step <= steps / 2][-1]
for step, when in (
    (middle, "at full learning rate"),
    (taken[-1], "at the end, when the rate has fallen to 0"),
):
    ema, raw = (record[name][step]["distance"] for name in ("EMA", "raw"))
    print(f"step {step:5d}, {when}: d² {raw:.2f} raw, {ema:.2f} averaged, ratio {raw / ema:.2f}")

# %% [markdown]
# What 5.8 leads us to expect: at the full rate raw weights tremble, and their average stands where they tremble around; at the end the rate has fallen to nothing, and little is left to average; very early the average lags behind what the weights have already learned. Hold that against the table and the two ratios: a ratio above 1 speaks for the average, and one within a few hundredths of 1 for neither.
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
# ## 5.13 · When the power fails
#
# A long training *will* be cut off. What has to be in a checkpoint so that nobody can tell afterwards? The weights, the average and its count, the optimizer's moments, the step; and the random numbers. `fit` never saves a random state: what step $k$ draws depends on the seed and $k$ alone, so a resumed run draws what the other would have drawn.
#
# The test is merciless: train once without a break; train again and let an error kill the run at a step that isn't a multiple of anything; start a *new* model from other first weights and resume. All weights must agree in every bit.


# %%
class PowerCut(Exception):
    """Stands for whatever ends a process."""


def cut(step, history):
    if step == 7:
        raise PowerCut


def short_run(model, **options):
    return fit(model, diffusion_loss(schedule), train, recipe(12), progress=False, **options)


small = {"widths": (16, 32)}
whole_run = new_model(**small)
whole = short_run(whole_run)
with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    place = Path("run.pt")
    try:
        short_run(new_model(**small), checkpoint=place, checkpoint_every=5, on_step=cut, every=7)
    except PowerCut:
        print(
            f"Killed in step 7 of 12. On the disk: {place.name}, {place.stat().st_size / 1e6:.1f} MB, saved at step 5."
        )
    resumed = new_model(seed=99, **small)
    second = short_run(resumed, checkpoint=place)
pairs = [
    *zip(whole_run.parameters(), resumed.parameters()),
    *zip(whole.ema_model.parameters(), second.ema_model.parameters()),
]
same_bits = all(torch.equal(a, b) for a, b in pairs)
apart = max((a - b).abs().max().item() for a, b in pairs)
print(f"{steps_made(whole, second)} in all")
print(
    f"{len(pairs)} tensors, weights and averages: "
    + ("equal in every bit" if same_bits else f"up to {apart:.1e} apart")
)

# %% [markdown]
# On a CPU this is exact. On a GPU some kernels add numbers in an order that changes from run to run, and the last digits may differ.

# %% [markdown]
# ## 5.14 · More hands
#
# With several GPUs, or several machines, the usual way is *data parallelism*: every process holds the whole model and takes a share of each batch; after the backward pass all of them average their gradients, and then all take the same step. The mean over a batch is the mean of the means over equal shares, so nothing but speed should change.
#
# Here is all of it, as a script. Processes are started by `torchrun`, which comes with PyTorch and tells each its rank; `all_reduce` adds up a tensor over all processes. (`DistributedDataParallel` does the same and hides the waiting behind the backward pass.) We compute in float64, so that a real mistake can't pass for rounding.

# %%
SCRIPT = '''
"""The same training with any number of processes: each takes its share of every batch, gradients are averaged."""

import sys

import torch
import torch.distributed as dist

from course_utils.device import seeded
from course_utils.diffusion import cosine_schedule, draw_steps, prediction_target
from course_utils.models.unet import UNet
from course_utils.training import batch_indices


def train(images, steps, batch, rank=0, world=1):
    """A small U-Net after so many steps on batches of this size, whatever the number of processes."""
    schedule = cosine_schedule(1000)
    with seeded(0):
        model = UNet(tuple(images.shape[1:]), widths=(16, 32)).double()  # the same first weights everywhere
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    mine = slice(rank * batch // world, (rank + 1) * batch // world)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)  # everyone draws the whole batch ...
        x0 = images[batch_indices(step, len(images), batch, 0, images.device)].double()
        t = draw_steps(batch, schedule.T, generator)
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        x0, t, noise = x0[mine], t[mine], noise[mine]  # ... and works on a share of it
        output = model(schedule.add_noise(x0, t, noise), t)
        loss = (output - prediction_target(schedule, "v", x0, noise, t)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if world > 1:
            for weight in model.parameters():
                dist.all_reduce(weight.grad)  # the sum over all processes
                weight.grad /= world
        optimizer.step()
    return model


if __name__ == "__main__":
    folder, steps, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    dist.init_process_group("gloo")  # "nccl" between GPUs
    rank, world = dist.get_rank(), dist.get_world_size()
    images = torch.load(folder + "/images.pt", weights_only=True)
    model = train(images, steps, batch, rank, world)
    # In one piece, end of line included: all processes write to the same place.
    sys.stdout.write(f"process {rank} of {world}: {steps} steps on {batch // world} of {batch} images each\\n")
    if rank == 0:
        torch.save(model.state_dict(), folder + "/weights.pt")
    dist.destroy_process_group()
'''

shared_steps, shared_batch = lab.pick(smoke=2, cpu=10, gpu=20), 16
library_folder = str(Path(course_utils.__file__).parents[1])
with tempfile.TemporaryDirectory() as folder:
    script, images = Path(folder, "train_together.py"), train.first(64).x.cpu()
    script.write_text(SCRIPT, encoding="utf-8")
    torch.save(images, Path(folder, "images.pt"))
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([library_folder, os.environ.get("PYTHONPATH", "")]),
    }
    print("$ torchrun --standalone --nproc-per-node 2 train_together.py …")
    try:
        done = subprocess.run(
            [*torchrun, script, folder, str(shared_steps), str(shared_batch)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
        )
        print(done.stdout.strip() if done.returncode == 0 else done.stderr.strip()[-500:])
    except subprocess.TimeoutExpired:
        print(
            "No answer within three minutes: are connections of this machine to itself forbidden?"
        )
    except KeyboardInterrupt:
        print("Stopped by hand.")
    spec = importlib.util.spec_from_file_location("train_together", script)
    train_together = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train_together)
    alone = train_together.train(images, shared_steps, shared_batch)
    together = Path(folder, "weights.pt")
    shared_weights = torch.load(together, weights_only=True) if together.exists() else None
before = train_together.train(images, 0, shared_batch)
moved = max((a - b).abs().max().item() for a, b in zip(alone.parameters(), before.parameters()))
print(f"one process, {shared_steps} steps: weights moved by up to {moved:.1e}")
if shared_weights is None:
    print("The two processes could not be started here, so there is nothing to compare.")
    parallel_gap = math.nan
else:
    parallel_gap = max(
        (w - shared_weights[name]).abs().max().item() for name, w in alone.state_dict().items()
    )
    print(f"two processes against one: largest difference of a weight {parallel_gap:.1e}")

# %% [markdown]
# What is left is rounding: the same numbers added in another order. A sum where the mean belongs, a share drawn twice, two processes with different first weights, and the difference would be as large as the movement itself. Two processes on two cores are no faster than one that uses both; two GPUs nearly are.

# %% [markdown]
# ## 5.15 · Your model beside the real thing
#
# A few minutes of training, on your machine, by a loss that you derived. Beside it, from the same noise: a model of this notebook that had less time, the model that comes with the course, which had much more, and real images.


# %%
def model_of_the_course():
    """The diffusion model that comes with the course for these images, or None."""
    names = [
        name
        for name in shipped()
        if name.startswith(train.name) and read_card(name)["kind"] == "denoiser"
    ]
    return load_denoiser(names[0], lab.device) if names else None


def gallery():
    """Rows of pictures: a shorter training, yours, the course's model (if there is one), real images."""
    rows = {
        f"{steps_made(by_target['v']['history'])} (5.7)": by_target["v"]["samples"],
        f"yours, {len(history.steps)} steps": draw(trained, n_samples),
    }
    other = model_of_the_course()
    if other is None:
        print(f"No model of {train.name} comes with the course.\n")
    else:
        card = other.card
        print(f"The course's own model: {card.get('steps', '?')} steps, {card.get('training', '?')}")
        if "Fréchet distance" in card.get("on the test split", {}):
            print(
                f"Its card says d² {card['on the test split']['Fréchet distance']:.1f}: of 1,000 samples in 50 steps, "
                "with as many of each class as there are in the test images"
            )
        print()
        rows["the course's"] = draw(other.model, n_samples, target=other.prediction_type, chain=other.schedule)
    return rows | {"real": train.first(n_samples).x}


pictures = gallery()
final = {name: distance_to_data(images) for name, images in pictures.items()}
for name, value in final.items():
    print(f"{name:24s} d² {value:7.2f}")
plots.image_rows(
    {name: images[:10] for name, images in pictures.items()},
    title=f"{train.title}: from the same noise",
)

# %% [markdown]
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {train.title}, seed 0\n")
print(
    f"5.1  T = {lengths[-1]}: bound {charged[-1][0]:.3f} nats, model {truth[-1]:.3f}, entropy of the data {entropy:.3f}"
)
print(f"5.2  the bound weighs t = 2 {ratio:.0f} times as heavily as t = 1000 (linear schedule)")
print(
    f"5.3  variance of the gradient: one t for the batch {relative['one t for the batch']:.1f}, dealt out evenly "
    f"{relative['dealt out evenly']:.2f} (a t for each image = 1)"
)
print(
    f"5.4  one frozen batch: right pair {one_batch['right pair'][-1]:.1e}, wrong pair {one_batch['wrong pair'][-1]:.1e}"
)
print(
    f"5.6  share of the 70 % mode: L2 {share['L2']:.0%}, L1 {share['L1']:.0%}, Huber {share['Huber']:.0%}"
)
print(
    "5.7  d² after "
    + f"{how_long}: "
    + ", ".join(f"{prediction_type} {row['distance']:.1f}" for prediction_type, row in by_target.items())
)
print(f"5.9  fastest settings: {slow / fast:.1f} times as fast as float32, channels first")
print(f"5.10 d² of the recipe {bought['the recipe'][0]:.1f}; with one choice changed:")
for name, (d, _, _) in list(bought.items())[1:]:
    print(f"     {name:22s} {d:6.1f}")
at_the_end = record["EMA"][taken[-1]]
print(
    f"5.12 {len(history.steps)} steps: loss {at_the_end['loss']:.4f}, d² {at_the_end['distance']:.2f} (training images {floor:.2f})"
)
print(
    f"     after {taken[tenth]} steps the loss had done {loss_done[tenth]:.0%} of its fall, the distance {distance_done[tenth]:.0%}"
)
print(f"5.13 killed and resumed: {'equal in every bit' if same_bits else f'{apart:.0e} apart'}")
print(f"5.14 two processes against one: {parallel_gap:.0e} apart")

# %% [markdown]
# **What to take along.** The bound of a chain of noise is a sum of squared distances, one a step. Its weights may be chosen, and every choice of a target is one. One draw of $t$ and ε an image makes it a loss that fits on a line. Everything else in this notebook is craft: check on one batch, average, let the rate fall, look at samples. And keep asking whether the number that falls is the one you care about.
#
# Notebook 06 takes the trained network and asks how to walk back: in a thousand steps, or in ten.
#
# ## Go further *(ungraded)*
# 1. **Beat the weight.** Pass `weight=partial(min_snr_weight, schedule, "v")` to `diffusion_loss`, then the weight of the bound, and compare distances after equal steps. Does the order of the losses say anything about the order of the distances?
# 2. **L1 on images.** Train with `distance="l1"`. Count classes of the samples with the course's classifier, `load_classifier(train.name)`: is anything missing?
# 3. **The likelihood that was given away.** Evaluate `course_utils.variational.variational_bound` on test images for two models, one trained with `bound_weight`. Which wins in nats, which in distance?
# 4. **A longer memory.** Keep three averages with decays 0.99, 0.995 and 0.999. Which is best after a quarter of the run, which at the end? Karras et al. (2024) compute the best one *after* training, from snapshots.
# 5. **Other noise levels.** Karras et al. (2022) draw noise levels from a bell curve in log-SNR instead of uniform $t$. Write it as a `draw` for `diffusion_loss`.
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
