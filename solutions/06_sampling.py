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
# # 06 · Sampling: a thousand steps, or ten
#
# Notebook 05 trained a network that looks at a noisy image and guesses the clean one. That guess is blurred at first, an average of all that is still possible; nobody would call it a picture.
# This notebook makes pictures of such guesses. The first way takes a thousand small steps and is the noising of notebook 03 walked backwards. Then we ask what each part of it is good for, take it apart, and end with ten steps that do nearly as well, and with a few things nobody trained the network for: to redraw a scribble, to blend two images, to fill a hole.
#
# **What you will be able to do**
# * write Algorithm 2 of the DDPM paper, and recognise three bugs by what they do to the pictures;
# * derive DDIM, choose η and the timesteps, turn an image into a code and back;
# * see sampling as a differential equation, write two solvers of order 2, and *measure* their order;
# * say why a more exact solver need not make a better picture;
# * place diffusion among its relatives: Langevin dynamics before it, autoregressive models beside it.
#
# **Before you start:** notebook 03 ($\bar\alpha_t$, the posterior (3.8), the score) and 05 ($\hat x_0$ and $\hat\varepsilon$, (5.6) and (5.7)).
#
# {{budget}}
#
# No diffusion model is trained here: the course brings one. The text describes what you see at effort `cpu` or above, on Fashion-MNIST. At `smoke` everything runs with few images and few steps, and what is printed is true of that run, but sentences about pictures don't hold.

# %% tags=["setup"]
import math
from dataclasses import replace
from itertools import pairwise

import torch
from torch.nn import functional as F

from course_utils import plots, recipes, setup
from course_utils.data import GaussianMixture, load
from course_utils.device import autocast, seeded
from course_utils.diffusion import (cosine_schedule, predict_noise)
from course_utils.explore import choice, explore, slider
from course_utils.metrics import frechet_distance
from course_utils.models.unet import UNet
from classroom import ask, check, predict, reveal
from course_utils.sampling import (
    ddpm,
    annealed_langevin,
    clipped,
    dpm_solver,
    euler,
    heun,
    karras_timesteps,
    inpaint,
    langevin_dynamics,
    last,
    sdedit,
    ddim,
)
from course_utils.training import fit
from course_utils.weights import load_classifier, load_denoiser, shipped

lab = setup("06")

# %%
def load_known(split):
    """Images that a trained model of the course knows: those that were asked for, else digits."""
    data = load(lab.data, split, device=lab.device, fallback="digits")
    if data.name in shipped():
        return data
    return replace(load("digits", split, device=lab.device), note=f"instead of {data.title}")


train, test = load_known("train"), load_known("test")
if test.note:
    print(f"This notebook needs trained models, so it goes on with {test.title}.")
denoiser = load_denoiser(test.name, lab.device).to(memory_format=torch.channels_last)
evaluator = load_classifier(test.name, lab.device)
schedule, shape = denoiser.schedule, denoiser.shape
data = test.title
print(
    f"{data}: a network of {denoiser.card['weights']:,} weights that predicts {denoiser.prediction_type}, "
    f"{schedule.name} schedule, T = {schedule.T}"
)

# %% [markdown]
# Samplers need one function: a **denoiser** $(x_t, t, y)\mapsto\hat x_0$. Whatever the network predicts has been turned into that, as in notebook 05. We ask it in bfloat16 where the processor is good at it, and keep its guesses in $[-1, 1]$ (6.4 looks at what that does).
# This network also takes a class $y$. Notebook 07 is about classes; here we ask for each equally often, so that our samples are mixed as the data are.


# %%
def ask_network(x_t, t, y=None):
    """The network's guess of the clean images, as it is.  x_t: (b, c, h, w);  t: (b,);  y: (b,) classes, or None."""
    with torch.no_grad(), autocast(lab.device):
        return denoiser(x_t.contiguous(memory_format=torch.channels_last), t, y)


denoise = clipped(ask_network)


def pure_noise(n, seed=1):
    """n starts (n, c, h, w), always the same for a seed."""
    return torch.randn(n, *shape, generator=lab.generator(seed), device=lab.device)


def labels_for(n):
    """(n,) labels, every class equally often."""
    return torch.arange(n, device=lab.device) % len(denoiser.classes)


# %% [markdown]
# To compare samplers by more than taste we need a number: the squared Fréchet distance (2.10) between samples and test images, in the features of a small classifier that comes with the course. It depends on the features and on the number of images, so compare numbers only within a table, and with a few hundred images take a difference below about 1 for chance.

# %%
n_measured = lab.pick(smoke=20, cpu=200, gpu=1000)  # images for a measured distance
n_quick = lab.pick(smoke=20, cpu=120, gpu=500)  # where differences are large


@torch.no_grad()
def features(images):
    return torch.cat(
        [evaluator.features(part).cpu() for part in images.float().clamp(-1, 1).split(500)]
    )


@torch.no_grad()
def named(images):
    """The class that the classifier sees in each image, (b,)."""
    return evaluator(images.float().clamp(-1, 1)).argmax(1)


def balanced(images, n):
    """n images of a set, every class equally often, as in `classes(n)`."""
    kinds = range(len(images.classes))
    rows = [torch.nonzero(images.labels == k).flatten()[: n // len(kinds)] for k in kinds]
    return images.take(torch.cat(rows))


real = features(test.first(lab.pick(smoke=200, cpu=2000, gpu=10_000)).x)


def distance_to_data(images):
    """Squared Fréchet distance of images to test images."""
    return frechet_distance(real, features(images))


floor = {n: distance_to_data(balanced(train, n)) for n in (n_measured, n_quick)}
for n, value in floor.items():
    print(
        f"{n} training images against {len(real):,} test images: d² = {value:.2f}, the mark to aim at"
    )

# %% [markdown]
# ## 6.1 · One step back, many times
#
# How does one get from $x_t$ to $x_{t-1}$? If somebody told us the clean image, notebook 03 has the answer: draw from the posterior (3.8). Nobody does, but we have a network that guesses. So put the guess in the place of the image:
#
# $$x_{t-1}=\tilde\mu_t(x_t,\hat x_0)+\sigma_t\,z,\qquad \hat x_0=\hat x_0(x_t,t), \tag{6.1}$$
#
# with $\tilde\mu_t$ from (3.8) and fresh noise $z\sim\mathcal N(0,I)$ in every step but the last, where $z=0$. Begin with noise, repeat for $t=T,\dots,1$: that is **Algorithm 2** of the DDPM paper, *ancestral sampling*. (The paper writes the mean with $\hat\varepsilon$; put (5.6) into $\tilde\mu_t$ and you get its line.)
#
# Isn't that bold? The guess is an average over many images, so it is wrong for each of them. What saves us is that a step trusts it only a little: $\tilde\mu_t$ mixes a small share of $\hat x_0$ into $x_t$, and then the network is asked anew.
#
# **And $\sigma_t$?** Given $x_0$, the posterior's variance is $\tilde\beta_t$. But we don't know $x_0$, so there is more doubt than that. Ho et al. (2020) try two values, $\tilde\beta_t$ and $\beta_t$, and find them about equally good. We write what lies between them with a number κ from 0 to 1, for any stride from $t$ down to $s<t$ (then $\beta$ is what is added on the whole way from $s$ to $t$):
#
# $$\sigma^2=\tilde\beta^{\,1-\kappa}\,\beta^{\,\kappa},\qquad \beta=1-\frac{\bar\alpha_t}{\bar\alpha_s},\qquad \tilde\beta=\frac{1-\bar\alpha_s}{1-\bar\alpha_t}\,\beta. \tag{6.2}$$
#
# ### {{heading sampling/ancestral-step}}
# From $t$ to $s$, all images at the same step. `schedule.posterior(x0, x_t, t, s)` is (3.8) for any stride; it wants $t$ and $s$ as tensors `(b,)`, one entry an image, and gives mean and variance.


# %% tags=["quiz"]
def ancestral_step(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """One stride of Algorithm 2 from step t to step s, equations (6.1) and (6.2).

    x_t: (b, c, h, w);  x0: the guess, like x_t;  t, s: whole numbers, T ≥ t > s ≥ 0;
    noise: like x_t, standard normal;  kappa: κ in [0, 1];
    schedule: has `.alpha_bar`, (T + 1,) float64, and `.posterior`.
    Returns x_s, like x_t. At s = 0 no noise is added.
    """
    ### BEGIN SOLUTION
    at, to = (torch.full((len(x_t),), k, device=x_t.device) for k in (t, s))
    mean, small = schedule.posterior(x0, x_t, at, to)
    if s == 0:
        return mean
    beta = 1 - schedule.alpha_bar[t] / schedule.alpha_bar[s]
    return mean + (small ** (1 - kappa) * beta**kappa).sqrt() * noise
    ### END SOLUTION


# %% tags=["check"]
ancestral_step = check("sampling/ancestral-step", ancestral_step)


# %% [markdown]
# The loop around it. We keep everything, $x_t$ and the guesses, because we want to look.


# %%
def algorithm_2(denoise, schedule, x, times, y=None, kappa=0.0, generator=None):
    """Walk from noise x along the timesteps; a list of (t, x_t, the guess that led there), the start first."""
    trail = [(times[0], x, None)]
    for t, s in pairwise(times):
        x0 = denoise(x, torch.full((len(x),), t, device=x.device), y)
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        x = ancestral_step(x, x0, t, s, noise, schedule, kappa)
        trail.append((s, x, x0))
    return trail


every_step = lab.pick(smoke=25, cpu=1000, gpu=1000)
trail = algorithm_2(
    denoise,
    schedule,
    pure_noise(8),
    schedule.timesteps(every_step),
    labels_for(8),
    generator=lab.generator(2),
)
print(f"{len(trail) - 1} steps, the network asked as often, for 8 images")

# %%
looks = [trail[round(k * (len(trail) - 1) / 9)] for k in range(10)]
labels = [f"t = {t}" for t, _, _ in looks]
first_guess = trail[1][2]
rows = {}
for i in (1, 7, 5):
    name = denoiser.classes[int(labels_for(8)[i])]
    rows[f"{name}: x_t"] = torch.stack([x[i] for _, x, _ in looks])
    rows[f"{name}: guess"] = torch.stack(
        [(first_guess if x0 is None else x0)[i] for _, _, x0 in looks]
    )
plots.image_rows(rows, labels=labels, title=f"{data}: x_t on the way, and the guesses")

# %% [markdown]
# Read each pair from left to right. The upper row is noise for a long time, and an image only near the end. The lower row is the opposite: never any noise, at first a blur that fits many things, then one thing, then that thing in detail.
# The same, moving, $x_t$ above, the guesses below:

# %%
frames = [trail[round(k * (len(trail) - 2) / 40) + 1] for k in range(41)]
plots.animation(
    [torch.cat([x, x0]).clamp(-1, 1).cpu() for _, x, x0 in frames],
    columns=8,
    seconds=4,
    title=f"{data}: ancestral sampling, T = {every_step}; above x_t, below the guess x̂₀",
)

# %% [markdown]
# ## 6.2 · Three bugs
#
# The loop is short, and all the same one finds it wrong in code that people share. Each of the next three functions runs and gives images of the right shape. Mend all three; then we look at what they do.
#
# ### {{heading sampling/product}}


# %% tags=["quiz"]
def published_step(x_t, x0, t, noise, schedule):
    """x_{t−1} from x_t and the guess x0, equation (6.1), with the posterior's variance.

    x_t, x0, noise: (b, c, h, w);  t: a whole number in 1..T.  Returns a tensor like x_t.
    """
    at = torch.full((len(x_t),), t, device=x_t.device)
    mean, variance = schedule.posterior(x0, x_t, at)
    ### BEGIN SOLUTION
    return mean + variance.sqrt() * noise
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # return mean * variance.sqrt() * noise
    ### END HANDED OUT


# %% tags=["check"]
published_step = check("sampling/product", published_step)

# %% [markdown]
# ### {{heading sampling/short-loop}}


# %% tags=["quiz"]
def published_loop(denoise, schedule, x, draws):
    """From noise x to images, all T steps of (6.1), with the posterior's variance.

    denoise: called as denoise(x_t, t) with t (b,);  x: (b, c, h, w);  draws: (T + 1, b, c, h, w),
    standard normal: draws[t] is the noise of the step from t to t − 1.  Returns images like x.
    """
    ### BEGIN SOLUTION
    steps = range(schedule.T, 0, -1)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # steps = range(schedule.T, 1, -1)
    ### END HANDED OUT
    for t in steps:
        at = torch.full((len(x),), t, device=x.device)
        mean, variance = schedule.posterior(denoise(x, at), x, at)
        x = mean + variance.sqrt() * draws[t]
    return x


# %% tags=["check"]
published_loop = check("sampling/short-loop", published_loop)

# %% [markdown]
# ### {{heading sampling/noise-at-the-end}}


# %% tags=["quiz"]
def published_sampler(denoise, schedule, x, draws):
    """From noise x to images, all T steps, with σ_t² = β_t.  Arguments and result as in `published_loop`."""
    for t in range(schedule.T, 0, -1):
        at = torch.full((len(x),), t, device=x.device)
        mean, _ = schedule.posterior(denoise(x, at), x, at)
        ### BEGIN SOLUTION
        noise = draws[t] if t > 1 else torch.zeros_like(x)
        ### END SOLUTION
        ### BEGIN HANDED OUT
        # noise = draws[t] if t > 0 else torch.zeros_like(x)
        ### END HANDED OUT
        x = mean + schedule.beta[t].sqrt().to(x.dtype) * noise
    return x


# %% tags=["check"]
published_sampler = check("sampling/noise-at-the-end", published_sampler)


# %% [markdown]
# ### What they do
# Now each bug on purpose, with few long strides and with many short ones. We measure two things: the distance to the data, and the **roughness**, the typical difference between a pixel and the mean of its four neighbours. Noise is rough.
# If a bug were harmless, its numbers would be those of the first column.


# %%
def product_step(x_t, x0, t, s, noise, schedule, kappa=0.0):
    """`ancestral_step` with the first bug: a product where a sum belongs."""
    zero = torch.zeros_like(noise)
    mean = ancestral_step(x_t, x0, t, s, zero, schedule, kappa)
    return mean * (ancestral_step(x_t, x0, t, s, noise, schedule, kappa) - mean) if s else mean


def roughness(images):
    """Root mean square of a pixel minus the mean of its four neighbours, away from the border."""
    planes = images.flatten(0, 1)[:, None].float().cpu()
    kernel = torch.tensor([[0.0, -0.25, 0.0], [-0.25, 1.0, -0.25], [0.0, -0.25, 0.0]])
    return F.conv2d(planes, kernel[None, None]).square().mean().sqrt().item()


def with_each_bug(strides, n):
    """Images of the right walk, and what each of the three bugs makes of it; a dictionary."""
    times, y, generator = schedule.timesteps(strides), labels_for(n), lab.generator(3)
    trail = algorithm_2(denoise, schedule, pure_noise(n), times, y, generator=generator)
    (before, unfinished, _), (_, right, _) = trail[-2:]
    beta = 1 - schedule.alpha_bar[before].item()
    bad = pure_noise(n)
    for t, s in pairwise(times):
        guess = denoise(bad, torch.full((n,), t, device=bad.device), y)
        noise = torch.randn(bad.shape, generator=generator, device=bad.device)
        bad = product_step(bad, guess, t, s, noise, schedule)
    return {
        "right": right,
        "product for a sum": bad,
        "last step left out": unfinished,
        "noise at the last step": right + beta**0.5 * pure_noise(n, seed=30),
    }


strides_tried = lab.pick(smoke=[5, 10], cpu=[10, 30, 100], gpu=[10, 30, 100, 300])
spoilt = {strides: with_each_bug(strides, n_quick) for strides in strides_tried}
print(
    f"{n_quick} images; training images have d² {floor[n_quick]:.1f} "
    f"and roughness {roughness(train.first(n_quick).x):.3f}\n"
)
print(f"{'strides':>8s}" + "".join(f"{name:>26s}" for name in spoilt[strides_tried[0]]))
print(f"{'':8s}" + f"{'d²':>16s}{'roughness':>10s}" * 4)
for strides, rows in spoilt.items():
    cells = (f"{distance_to_data(x):16.1f}{roughness(x):10.3f}" for x in rows.values())
    print(f"{strides:8d}" + "".join(cells))
print(
    f"\nAlgorithm 2 of 6.1, {every_step} steps: roughness {roughness(trail[-1][1]):.4f}, "
    f"without its last step {roughness(trail[-2][1]):.4f}"
)

# %%
few = strides_tried[0]
plots.image_rows(
    {name: x[:10] for name, x in spoilt[few].items()},
    title=f"{data}: {few} strides, right and with each bug",
)

# %% [markdown]
# The product destroys everything, and nobody would ship it. The other two are the dangerous ones: with $T=1000$ steps the last one adds or removes a standard deviation of $\sqrt{1-\bar\alpha_1}$, which nobody sees, and so the code passes review. Then somebody samples with ten strides, whose last one is a hundred times as long, and blames the sampler.
# The cell below says how much noise is at stake.

# %%
for strides in (1000, 100, 30, 10):
    first = schedule.timesteps(strides)[-2]
    left = (1 - schedule.alpha_bar[first]).sqrt().item()
    print(
        f"{strides:5d} strides: the last begins at t = {first:3d}, with noise of standard deviation {left:.4f}, "
        f"{127.5 * left:.1f} grey levels of 255"
    )

# %% [markdown]
# ## 6.3 · Which variance?
#
# Back to κ in (6.2). There is a case that can be solved with a pencil: data $x_0\sim\mathcal N(0,\text{std}^2)$. The best guess is then a multiple of $x_t$, (3.9), so every step is linear, and the variance on the way follows without drawing a single number.
# We walk with *your* step: with $x_t=1$ and no noise it gives the factor, with $x_t=0$ and noise 1 it gives σ. Before its last stride (which adds no noise, whatever κ is) we ask: is the variance of $x$ that of noised data, $\bar\alpha_t\,\text{std}^2+1-\bar\alpha_t$?
#
# If a κ were right for all data, its curve would lie on 1 for every number of strides.


# %%
def variance_before_the_end(strides, kappa, std):
    """Variance of x where the last stride begins, divided by that of noised data there; the guesses are perfect."""
    fine, variance = cosine_schedule(1000), 1.0
    x_t, z = torch.eye(2, dtype=torch.float64).view(2, 2, 1, 1, 1)  # (1, 0) and (0, 1), as images
    for t, s in pairwise(fine.timesteps(strides)):
        a = fine.alpha_bar[t].item()
        noised = a * std**2 + 1 - a
        if s == 0:
            return variance / noised
        gain = a**0.5 * std**2 / noised  # x̂_0 = gain · x_t
        factor, sigma = ancestral_step(x_t, gain * x_t, t, s, z, fine, kappa).flatten().tolist()
        variance = factor**2 * variance + sigma**2


counts = [2, 5, 10, 20, 50, 100] + lab.pick(smoke=[], cpu=[200, 500], gpu=[200, 500, 1000])
kappas = {"κ = 0: β̃, the posterior's": 0.0, "κ = ½": 0.5, "κ = 1: β": 1.0}
figure, axes = plots.new_figure(8, 3.7, columns=2, sharey=True)
for axis, std in zip(axes, (0.05, 1.0)):
    for name, kappa in kappas.items():
        axis.plot(
            counts,
            [variance_before_the_end(k, kappa, std) for k in counts],
            "o-",
            markersize=4,
            label=name,
        )
    axis.axhline(1, color="#222222", linestyle="--", linewidth=1.4)
    axis.set(xscale="log", xlabel="strides", title=f"data of standard deviation {std:g}")
axes[0].set(ylabel="variance ÷ that of noised data")
axes[1].legend()
figure.set_label(
    "Variance before the last stride divided by that of noised data, against the number of strides, for three "
    "variances of the step: the posterior's is nearly right for data close to a point, beta exactly for data of "
    "variance 1"
)
figure

# %%
for std in (0.05, 1.0):
    found = {name: variance_before_the_end(10, kappa, std) for name, kappa in kappas.items()}
    print(f"10 strides, data of standard deviation {std:g}, variance before the last stride ÷ that of noised data:")
    print("   " + ",   ".join(f"{name} {value:.3f}" for name, value in found.items()))

# %% [markdown]
# Two extremes, each right for one kind of data: β if the data are standard normal (exactly, for any number of strides), and $\tilde\beta$ if they are a single point (then the guess *is* the image, and (3.8) holds as it stands; a standard deviation of 0.05 is nearly one). Real data lie between, and so does the right variance.
# Images are much nearer to the single point: once the noise is low, the network knows nearly which image it is. So β should do badly with few strides. Does it?

# %%
by_spread = {}
for strides in strides_tried:
    for name, kappa in kappas.items():
        images = last(
            ddpm(
                denoise,
                schedule,
                pure_noise(n_quick),
                strides,
                labels_for(n_quick),
                kappa,
                lab.generator(4),
            )
        )
        by_spread[strides, name] = images
print(f"{n_quick} images, d² to the data (training images {floor[n_quick]:.1f})\n")
print(f"{'strides':>8s}" + "".join(f"{name:>28s}" for name in kappas))
for strides in strides_tried:
    print(
        f"{strides:8d}"
        + "".join(f"{distance_to_data(by_spread[strides, name]):28.1f}" for name in kappas)
    )

# %%
plots.image_rows(
    {
        f"{strides} strides, {name.split(':')[0]}": by_spread[strides, name][:10]
        for strides in (strides_tried[0], strides_tried[-1])
        for name in kappas
    },
    title=f"{data}: the same starts, three variances",
)

# %% [markdown]
# ### {{heading sampling/which-variance}}
# {{question sampling/which-variance}}

# %% tags=["quiz"]
### BEGIN SOLUTION
which_variance = "c"
### END SOLUTION
### BEGIN HANDED OUT
# which_variance = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/which-variance", which_variance)

# %% [markdown]
# Nichol & Dhariwal (2021) let the network choose κ for every pixel. We do without: the posterior's variance from here on.
#
# ## 6.4 · Fewer steps, and a look at the guesses
#
# We have been using it already: a walk needn't stop at every $t$. $K$ strides have $K+1$ ends,
#
# $$t_k=\operatorname{round}\Big(T\,\frac{K-k}{K}\Big),\qquad k=0,1,\dots,K, \tag{6.3}$$
#
# from $t_0=T$ to $t_K=0$. (Evenly in $t$. It is not the only way: 6.9 has another.)
#
# ### {{heading sampling/timesteps}}


# %% tags=["quiz"]
def timesteps(T, steps):
    """The timesteps of a sampler that takes so many strides, equation (6.3): a list of steps + 1 whole numbers from T to 0."""
    ### BEGIN SOLUTION
    return [round(T * (steps - k) / steps) for k in range(steps + 1)]
    ### END SOLUTION


# %% tags=["check"]
timesteps = check("sampling/timesteps", timesteps)

# %% [markdown]
# Now a walk whose guesses are *not* clipped, and three questions to it. How many of their pixels leave the range of images? What is settled first, and what last: how soon does a guess look like the final image as a whole (correlation, after the mean image was taken away), and how soon has it the final image's detail (roughness)? And is the end any better for clipping?

# %%
mean_image = train.first(2000).x.mean(0)


def likeness(a, b):
    """Correlation of two batches, pixel by pixel, after taking the mean image away; mean over the batch."""
    a, b = ((x.clamp(-1, 1) - mean_image).flatten(1) for x in (a, b))
    return F.cosine_similarity(a, b).mean().item()


times = timesteps(schedule.T, lab.pick(smoke=8, cpu=50, gpu=50))
start, chance = pure_noise(n_quick), lab.generator(5)
steps = [*ddpm(ask_network, schedule, start, times, labels_for(n_quick), generator=chance)][1:]
asked_at, end = times[:-1], steps[-1].x  # a guess is made where its stride begins
outside = [100 * (step.x0.abs() > 1).float().mean().item() for step in steps]
alike = [likeness(step.x0, end) for step in steps]
detail = [roughness(step.x0.clamp(-1, 1)) / roughness(end.clamp(-1, 1)) for step in steps]
figure, axes = plots.new_figure(8, 3.7, columns=2)
axes[0].plot(asked_at, outside)
axes[0].set(xlabel="step t", ylabel="pixels beyond [−1, 1] (%)", title="Guesses out of range")
axes[1].plot(asked_at, alike, label="correlation with the end")
axes[1].plot(asked_at, detail, label="roughness ÷ that of the end")
axes[1].set(xlabel="step t", ylabel="share", title="The whole, and the detail", ylim=(0, 1.05))
axes[1].legend(loc="lower right")
for axis in axes:
    axis.invert_xaxis()
figure.set_label(
    "Left: share of the guesses' pixels beyond the range of images, by step. Right: likeness of the guesses to the "
    "final image, and their roughness as a share of its; time runs to the right, t falls"
)
figure

# %%
settled = {
    name: next(t for t, share in zip(asked_at, values) if share >= 0.8)
    for name, values in {"likeness": alike, "detail": detail}.items()
}
print(
    f"four fifths of the likeness are there from t = {settled['likeness']} on, "
    f"four fifths of the detail from t = {settled['detail']} on"
)
known, sorted_test = train.first(2000), test.x[test.labels.argsort(stable=True)]
class_means = torch.stack([known.x[known.labels == c].mean(0) for c in range(len(test.classes))])
print(
    f"for scale: likeness of test images to the mean image of their class "
    f"{likeness(test.x, class_means[test.labels]):.2f}, of two images of one class "
    f"{likeness(sorted_test[:-1], sorted_test[1:]):.2f}"
)
for strides in strides_tried[:2]:
    pair = {}
    for name, which in {"clipped": denoise, "as they are": ask_network}.items():
        start, y = pure_noise(n_quick), labels_for(n_quick)
        pair[name] = last(ddpm(which, schedule, start, strides, y, generator=lab.generator(4)))
    moved = (pair["clipped"] - pair["as they are"].clamp(-1, 1)).abs().mean().item()
    row = ", ".join(f"{name} {distance_to_data(x):.2f}" for name, x in pair.items())
    print(
        f"{strides:3d} strides: d² with guesses {row}; "
        f"pixels differ by {127.5 * moved:.1f} of 255 grey levels"
    )

# %% [markdown]
# The whole comes first, the detail last (likeness begins so high because the class is told: see the mean image of a class): the two curves of notebook 03's "what" and "how exactly", on images. (Time runs to the right in these pictures, as the walk does.)
# Many guesses are out of range, but by very little, and clipping is a seat belt: a good network on easy images hardly needs it, as the two lines show; it matters where guesses are pushed out of range, by an ε-network at large $t$, whose error is divided by a tiny $\sqrt{\bar\alpha_t}$, or by the guidance of notebook 07.

# %% [markdown]
# ## 6.5 · Reverse engineering
#
# Sampling needn't begin at $T$. Take a *real* image, noise it to level $t$ with one jump (3.4), and let the model denoise it from there. What the noise has hidden must be invented anew, what it could not hide stays.
# So this is an instrument: it shows what is left of an image at level $t$, in the eyes of the network.
#
# **Predict, then run.** We noise test images to $t=700$, where the signal rate is below a half and the eye sees noise. The model, *not told any class*, draws them anew. In how many does the classifier see the same class as in the original?

# %% tags=["predict"]
guess = predict(
    "sampling/survives",
    "Images that keep their class, noised to t = 700 and drawn anew",
    0,
    100,
    unit="%",
)

# %%
n_redrawn = lab.pick(smoke=16, cpu=128, gpu=500)
originals = test.first(n_redrawn).x
whole = lab.pick(smoke=6, cpu=30, gpu=100)  # strides of a whole walk


def redrawn(images, strength, seed=6):
    """Images taken up to step strength · T and walked back from there."""
    x, times = sdedit(schedule, images, strength, whole, lab.generator(seed))
    return x, last(ddpm(denoise, schedule, x, times, generator=lab.generator(seed + 1)))


levels = [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]
noisy, anew = {}, {}
for t in levels:
    noisy[t], anew[t] = redrawn(originals, t / 1000)
seen_in_originals = named(originals)
kept = {t: (named(x) == seen_in_originals).float().mean().item() for t, x in anew.items()}
like = {t: likeness(originals, x) for t, x in anew.items()}
reveal("sampling/survives", round(100 * kept[700]))
plots.curves(
    {
        "same class": (levels, list(kept.values())),
        "correlation with the original": (levels, list(like.values())),
        "signal rate √ᾱ": (levels, schedule.alpha_bar.sqrt().cpu()[levels]),
    },
    title=f"{data}: noised to t and drawn anew, what is left?",
    x_label="level t that the image was taken to",
    y_label="share",
)

# %%
plots.image_rows(
    {
        "original": originals[:1].expand(10, -1, -1, -1),
        "noised to t": torch.cat([noisy[t][:1] for t in levels]),
        "drawn anew": torch.cat([anew[t][:1] for t in levels]),
        "another original": originals[3:4].expand(10, -1, -1, -1),
        "noised to t ": torch.cat([noisy[t][3:4] for t in levels]),
        "drawn anew ": torch.cat([anew[t][3:4] for t in levels]),
    },
    labels=[f"{t}" for t in levels],
    title=f"{data}: two test images, taken to level t and back",
)

# %%
half = next((t for t in levels if kept[t] < 0.5), levels[-1])
print(
    f"classes kept: {kept[500]:.0%} from t = 500, {kept[700]:.0%} from t = 700, {kept[1000]:.0%} from "
    f"t = 1000 (blind guessing gives about {1 / len(denoiser.classes):.0%})"
)
print(
    f"below a half from t = {half} on, where the signal rate is {schedule.alpha_bar[half].sqrt():.2f}"
)

# %% [markdown]
# ### {{heading sampling/hard-t}}
# {{question sampling/hard-t}}

# %% tags=["quiz"]
### BEGIN SOLUTION
hard_t = "b"
### END SOLUTION
### BEGIN HANDED OUT
# hard_t = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/hard-t", hard_t)

# %% [markdown]
# ### From a scribble
# If noise hides what is fine and spares what is coarse, then it will also hide what is *wrong* with a clumsy drawing, and spare what was meant. That is SDEdit (Meng et al. 2022): draw a few rectangles, noise them to a level at which a real image would look the same, and let the model make a real image of it.
# Draw your own: `.` is black, `+` dark, `#` light, `@` white.

# %%
SCRIBBLES = {
    "fashion-mnist": {
        "trousers": "..###.. ..###.. ..#.#.. ..#.#.. ..#.#.. ..#.#.. ..#.#..",
        "a shirt": ".##.##. ####### ####### .#####. .#####. .#####. .#####.",
        "a boot": "...+##. ...###. ...###. ..####. ####### ####### .......",
        "a bag": "..###.. ..#.#.. ####### ####### ####### ####### .......",
    },
    "digits": {
        "a seven": "....... .@@@@@. .....@. ....@.. ...@... ...@... .......",
        "a zero": "..@@@.. .@...@. .@...@. .@...@. .@...@. ..@@@.. .......",
        "a four": "...@... ..@@... .@.@... .@@@@.. ...@... ...@... .......",
    },
}


def scribble(text):
    """Rows of characters as an image (1, c, h, w)."""
    rows = text.split()
    side = max(map(len, rows))
    grid = torch.tensor(
        [
            [{"#": 0.3, "+": -0.3, "@": 1.0}.get(c, -1.0) for c in row.ljust(side, ".")]
            for row in rows
        ]
    )
    return (
        F.interpolate(grid[None, None], size=shape[1:], mode="nearest")
        .expand(1, *shape)
        .to(lab.device)
    )


strengths = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
drawings = {name: scribble(text) for name, text in SCRIBBLES[test.name].items()}
made = {
    name: torch.cat([redrawn(image, s, seed=100 + 10 * k + i)[1] for k, s in enumerate(strengths)])
    for i, (name, image) in enumerate(drawings.items())
}
plots.image_rows(
    {name: torch.cat([drawings[name], images]) for name, images in made.items()},
    labels=["drawn"] + [f"{1000 * s:.0f}" for s in strengths],
    title=f"{data}: scribbles, noised to t and redrawn",
)

# %%
for name, images in made.items():
    words = [denoiser.classes[int(k)] for k in named(images)]
    faithful = [likeness(drawings[name], image[None]) for image in images]
    print(
        f"{name:9s} likeness to the scribble "
        + " ".join(f"{value:5.2f}" for value in faithful)
        + f"   seen at t = 700: {words[4]}"
    )

# %% [markdown]
# Too little noise, and the rectangles stay; too much, and the drawing is forgotten. Between lies a stretch where the model keeps the idea and supplies the cloth.

# %% [markdown]
# ## 6.6 · Keep the noise you have: DDIM
#
# A stride of (6.1) throws noise away and draws fresh noise. Must it? Look at what training demands. The network has only ever been asked about single images $x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\varepsilon$; the loss (5.4) knows nothing of how $x_t$ and $x_s$ hang together. So *any* way of making $x_s$ will do, as long as $x_s$ has the right distribution given $x_0$:
# mean $\sqrt{\bar\alpha_s}\,x_0$, variance $1-\bar\alpha_s$.
#
# Song, Meng & Ermon (2021) use that freedom. Take the noise that is in $x_t$ and keep as much of it as you like. Say that its factor is $k$, and add fresh noise $\sigma z$. The variance must come out as $k^2+\sigma^2=1-\bar\alpha_s$, and that fixes $k$. With the guess in the place of $x_0$, and (5.7) for the noise that the guess leaves over:
#
# $$x_s=\underbrace{\sqrt{\bar\alpha_s}\;\hat x_0}_{\text{the guess}}+\underbrace{\sqrt{1-\bar\alpha_s-\sigma^2}\;\;\hat\varepsilon}_{\text{the noise we had}}+\underbrace{\sigma z}_{\text{fresh noise}},\qquad \hat\varepsilon=\frac{x_t-\sqrt{\bar\alpha_t}\,\hat x_0}{\sqrt{1-\bar\alpha_t}}. \tag{6.4}$$
#
# σ is free. A number η turns it on:
#
# $$\sigma=\eta\,\sqrt{\tilde\beta}=\eta\,\sqrt{\frac{1-\bar\alpha_s}{1-\bar\alpha_t}}\,\sqrt{1-\frac{\bar\alpha_t}{\bar\alpha_s}},\qquad 0\le\eta\le1. \tag{6.5}$$
#
# With η = 1 this is ancestral sampling with the posterior's variance, written differently (we check that below). With η = 0 there is no fresh noise at all: **DDIM**. The image is then a function of the noise that one began with.
#
# ### {{heading sampling/ddim-step}}


# %% tags=["quiz"]
def ddim_step(x_t, x0, t, s, noise, schedule, eta=0.0):
    """One stride from step t to step s, equations (6.4) and (6.5).

    x_t: (b, c, h, w);  x0: the guess, like x_t;  t, s: whole numbers, T ≥ t > s ≥ 0;
    noise: like x_t, standard normal;  schedule: has `.alpha_bar`, (T + 1,) float64;  eta: η in [0, 1].
    Returns x_s, like x_t.
    """
    ### BEGIN SOLUTION
    alpha_bar_t, alpha_bar_s = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    implied = (x_t - alpha_bar_t**0.5 * x0) / (1 - alpha_bar_t) ** 0.5
    sigma = eta * ((1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)) ** 0.5
    return alpha_bar_s**0.5 * x0 + (1 - alpha_bar_s - sigma**2) ** 0.5 * implied + sigma * noise
    ### END SOLUTION


# %% tags=["check"]
ddim_step = check("sampling/ddim-step", ddim_step)

# %%
pairs = [(1000, 999), (700, 300), (40, 20), (2, 1), (20, 0)]
x_t, x0 = pure_noise(4), test.x[:4]
noise = pure_noise(4, seed=8)
eta_gap = max(
    (
        ddim_step(x_t, x0, t, s, noise, schedule, 1.0)
        - ancestral_step(x_t, x0, t, s, noise, schedule)
    )
    .abs()
    .max()
    .item()
    for t, s in pairs
)
print(
    f"η = 1 against Algorithm 2, posterior's variance, {len(pairs)} strides: they differ by {eta_gap:.1e}"
)

# %% [markdown]
# From here on we use the library's `ddim`, which is this step in a loop (a test proves them equal), with all of it in one argument: `ddim(..., eta=0)` is DDIM, `eta=1` is DDPM.
#
# ### The same noise, other strides
# If η = 0 makes the image a function of its noise, then the number of strides should hardly change *which* image it is. With η = 1 it must.

# %%
strides_shown = lab.pick(smoke=[3, 6], cpu=[10, 20, 50, 200], gpu=[10, 20, 50, 200])
n_same, rows, same = lab.pick(smoke=10, cpu=32, gpu=200), {}, {}
for eta in (0.0, 1.0):
    for strides in strides_shown:
        start, y = pure_noise(n_same, seed=9), labels_for(n_same)
        images = last(ddim(denoise, schedule, start, strides, y, eta, lab.generator(10)))
        rows[f"η = {eta:g}, {strides} strides"] = images
    finest = rows[f"η = {eta:g}, {strides_shown[-1]} strides"]
    same[eta] = [
        likeness(finest, rows[f"η = {eta:g}, {strides} strides"]) for strides in strides_shown[:-1]
    ]
    words = ", ".join(
        f"{strides} strides {value:.2f}" for strides, value in zip(strides_shown, same[eta])
    )
    print(f"η = {eta:g}: correlation with the images from {strides_shown[-1]} strides: {words}")
plots.image_rows(
    {name: x[:10] for name, x in rows.items()},
    title=f"{data}: each column, same noise and class",
)

# %% [markdown]
# With η = 0 the columns agree. With η = 1 the images of few strides and of many are about as alike as an image and the mean of its class (6.4 has the scale): other images of what was asked for.
#
# ### {{heading sampling/same-noise}}
# {{question sampling/same-noise}}

# %% tags=["quiz"]
### BEGIN SOLUTION
same_noise = "a"
### END SOLUTION
### BEGIN HANDED OUT
# same_noise = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/same-noise", same_noise)

# %% [markdown]
# ### Scrub through a walk
# Move the slider from noise to image, and compare the η. Watch the lower row: with η = 0 the guess, once made, is only sharpened. With η = 1 it keeps changing its mind, and you can find the last moment at which it does. Is there a $t$ after which nothing but detail moves?

# %%
walked = {
    eta: [
        *ddim(
            denoise,
            schedule,
            pure_noise(8, seed=11),
            lab.pick(smoke=10, cpu=50, gpu=100),
            labels_for(8),
            eta,
            lab.generator(12),
        )
    ]
    for eta in (0.0, 0.5, 1.0)
}


def scrub(strides, eta):
    steps = walked[eta]
    step = steps[strides]
    guess = step.x0 if step.x0 is not None else steps[1].x0
    told = (1 - schedule.alpha_bar[step.t]).sqrt().item()
    return plots.image_rows(
        {"x_t": step.x, "guess x̂₀": guess},
        title=f"η = {eta:g}, after {strides} strides: t = {step.t}, noise rate {told:.2f}",
    )


explore(
    scrub,
    strides=slider(
        0, len(walked[0.0]) - 1, value=(len(walked[0.0]) - 1) // 2, step=1, label="strides taken"
    ),
    eta=choice({"0 (DDIM)": 0.0, "½": 0.5, "1 (DDPM)": 1.0}, label="η"),
    title="When does the guess stop changing its mind?",
    alt="Eight images on their way from noise, above as they are, below the network's guesses",
)

# %% [markdown]
# ## 6.7 · A code for every image
#
# With η = 0 and short strides, $\hat\varepsilon$ changes little from one timestep to the next. Then the walk can be turned round: use the $\hat\varepsilon$ at the start of a stride to go *up*, from $t$ to $s>t$,
#
# $$x_s=\sqrt{\bar\alpha_s}\;\hat x_0(x_t,t)+\sqrt{1-\bar\alpha_s}\;\hat\varepsilon(x_t,t),\qquad s>t, \tag{6.6}$$
#
# until $T$. This is **DDIM inversion**, and what one arrives at is a **code**: noise that leads (nearly) back to this image. A VAE has to learn an encoder; here it is the sampler, walked backwards. "Nearly", because a stride up and the stride down use $\hat\varepsilon$ at different ends. So the way there and back should miss less with more strides; were (6.6) wrong, the misses would stay.
#
# One question is left: where to begin? At $t=0$ the implied noise would be $0/0$, so the walk begins at $t=1$. The image itself can stand in for $x_1$, the difference is invisible. Or is it? We do both, and look at the codes, which should be noise like any other: of length $\sqrt d$, for $d$ pixels.


# %%
def encode_by_hand(denoise, schedule, image, times):
    """The code of an image, equation (6.6); times rise from 1 to T."""
    x = image
    for t, s in pairwise(times):
        at, alpha_bar_s = torch.full((len(x),), t, device=x.device), schedule.alpha_bar[s].item()
        x0 = denoise(x, at)
        x = alpha_bar_s**0.5 * x0 + (1 - alpha_bar_s) ** 0.5 * predict_noise(schedule, x0, x, at)
    return x


def up(image, strides, grain=True):
    """Codes of images in [-1, 1]. The walk begins with x_1: with its own noise, or with the image as it is."""
    times = sorted({max(t, 1) for t in schedule.timesteps(strides)})
    first = torch.ones(len(image), dtype=torch.long, device=image.device)
    noise = torch.randn(image.shape, generator=lab.generator(12), device=image.device)
    return encode_by_hand(
        denoise, schedule, schedule.add_noise(image, first, noise) if grain else image, times
    )


n_coded = lab.pick(smoke=6, cpu=24, gpu=100)
to_encode, codes, back = originals[:n_coded], {}, {}
for strides in lab.pick(smoke=[5, 10], cpu=[10, 20, 50, 100, 200], gpu=[10, 20, 50, 100, 200, 500]):
    for grain in (False, True):
        codes[strides, grain] = up(to_encode, strides, grain)
        back[strides, grain] = last(ddim(denoise, schedule, codes[strides, grain], strides))
misses = {key: (x - to_encode).square().mean().sqrt().item() for key, x in back.items()}
lengths = {
    key: (code.flatten(1).norm(dim=1) / math.sqrt(code[0].numel())).mean().item()
    for key, code in codes.items()
}
print(f"{'':22s}{'begun with the image':>28s}{'begun with x_1':>28s}")
print(f"{'strides up, and down':22s}" + f"{'misses by':>16s}{'length/√d':>12s}" * 2)
for strides in sorted({strides for strides, _ in back}):
    cells = ((127.5 * misses[strides, grain], lengths[strides, grain]) for grain in (False, True))
    print(f"{strides:22d}" + "".join(f"{miss:16.1f}{length:12.2f}" for miss, length in cells))
print("(misses: root mean square over pixels, of 255 grey levels)")

# %%
fewest, most = min(strides for strides, _ in back), max(strides for strides, _ in back)
plots.image_rows(
    {
        "image": to_encode[:10],
        "code of the image": codes[most, False][:10] / 2,
        "code of x_1": codes[most, True][:10] / 2,
        f"back, {most} strides": back[most, True][:10],
        f"back, {fewest} strides": back[fewest, True][:10],
    },
    title=f"{data}: codes (half contrast), and the way back",
)

# %% [markdown]
# The misses shrink, as they should. But look at the lengths: noise in $d$ dimensions has length $\sqrt d$, and the codes of the images as they are fall short, whatever the number of strides. In the picture one sees why: where an image is *exactly* black, its code is a flat grey. The way up turns grain into noise, and a background of one value has no grain to turn.
# Training never showed the network such an $x_1$. Begin with a real one, (3.4) at $t=1$, whose noise nobody can see, and the codes have nearly the length they should. The way back is as good. But length isn't everything: in the codes of the second and of the eighth image one can still read the print and the checks, so their pixels depend on each other, and it isn't plain noise yet. (So much for "deterministic": to have a *standard* code a clean image needs a pinch of chance.)
#
# ### Between two codes
# What is half-way between a shoe and a shirt? Between two *images* it is a double exposure. Between two *codes* it may be an image. But which way from $a$ to $b$? Along the straight line, $(1-u)\,a+u\,b$, or along the arc,
#
# $$\operatorname{slerp}(a,b;u)=\frac{\sin((1-u)\,\theta)}{\sin\theta}\,a+\frac{\sin(u\,\theta)}{\sin\theta}\,b,\qquad \cos\theta=\frac{a\cdot b}{\lVert a\rVert\,\lVert b\rVert}\ ?$$
#
# We try both: on the first two test images, and then in the middle between many pairs of plain noise, where it can be measured. (No class is given there, so all three distances are larger than elsewhere; compare them with each other.)


# %%
def lerp(a, b, u):
    """Along the straight line."""
    return (1 - u) * a + u * b


def slerp(a, b, u):
    """Along the arc of a sphere, image by image. a, b: (b, ...), not parallel;  u: from 0 to 1."""
    cosine = F.cosine_similarity(a.flatten(1), b.flatten(1)).view(-1, *[1] * (a.ndim - 1))
    theta = cosine.clamp(-1, 1).acos()
    return (((1 - u) * theta).sin() * a + (u * theta).sin() * b) / theta.sin()


ends = [int(torch.nonzero(test.labels[:n_coded] == k)[0]) for k in test.labels[:2].tolist()]
a, b = codes[most, True][ends[:1]], codes[most, True][ends[1:]]
shares = [k / 8 for k in range(9)]
between = {}
for name, way in {"slerp of codes": slerp, "lerp of codes": lerp}.items():
    between[name] = last(ddim(denoise, schedule, torch.cat([way(a, b, u) for u in shares]), whole))
between["lerp of images"] = torch.cat(
    [lerp(originals[ends[:1]], originals[ends[1:]], u) for u in shares]
)
plots.image_rows(
    between, labels=[f"{u:g}" for u in shares], title=f"{data}: from one test image to another"
)

# %%
one, other = pure_noise(n_quick, seed=13), pure_noise(n_quick, seed=14)
middles = {
    "an end": one,
    "slerp, middle": slerp(one, other, 0.5),
    "lerp, middle": lerp(one, other, 0.5),
}
middle_distance = {}
for name, start in middles.items():
    images = last(ddim(denoise, schedule, start, whole))
    middle_distance[name] = distance_to_data(images)
    print(
        f"{name:14s} code: standard deviation {start.std():.2f}; "
        f"images: roughness {roughness(images):.3f}, d² {middle_distance[name]:6.1f}"
    )

# %% [markdown]
# ### {{heading sampling/slerp}}
# {{question sampling/slerp}}

# %% tags=["quiz"]
### BEGIN SOLUTION
half_way = "d"
### END SOLUTION
### BEGIN HANDED OUT
# half_way = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/slerp", half_way)

# %% [markdown]
# ## 6.8 · There is a differential equation behind it
#
# Write DDIM in other coordinates. Divide (6.4) with σ = 0 by $\sqrt{\bar\alpha_s}$, and call
#
# $$\bar x=\frac{x}{\sqrt{\bar\alpha}},\qquad \varsigma=\frac{\sqrt{1-\bar\alpha}}{\sqrt{\bar\alpha}}\quad\text{(noise for a signal of 1)}:\qquad \bar x_s=\hat x_0+\varsigma_s\,\hat\varepsilon,\quad \bar x_t=\hat x_0+\varsigma_t\,\hat\varepsilon .$$
#
# Subtract: $\bar x_s-\bar x_t=(\varsigma_s-\varsigma_t)\,\hat\varepsilon$. That is a step of length $\varsigma_s-\varsigma_t$ along the slope $\hat\varepsilon$, so DDIM is nothing else than Euler's method for
#
# $$\frac{\mathrm d\bar x}{\mathrm d\varsigma}=\hat\varepsilon(x,t), \tag{6.7}$$
#
# the **probability-flow ODE** (Song et al. 2021b). With the exact score its solutions carry $\mathcal N(0,I)$ into the data, and have at every $t$ the same distribution as the noisy walk. (Where $\bar\alpha_T=0$ these coordinates begin at $\varsigma=\infty$; (6.4) doesn't mind.)
# Whoever has an ODE may use two and a half centuries of solvers. Euler's:
#
# $$\bar x_s=\bar x_t+(\varsigma_s-\varsigma_t)\;\hat\varepsilon(x_t,t). \tag{6.8}$$
#
# Its fault: the slope changes on the way. **Heun's method** walks to the end $x_s'$ as Euler does, asks for the slope *there*, and goes again from the start with the mean of both:
#
# $$\bar x_s=\bar x_t+(\varsigma_s-\varsigma_t)\;\frac{\hat\varepsilon(x_t,t)+\hat\varepsilon(x_s',s)}2,\qquad\text{and Euler's step where}\ s=0. \tag{6.9}$$
#
# At $s=0$ there is no noise whose direction could be asked for.
#
# ### {{heading sampling/heun-step}}


# %% tags=["quiz"]
def heun_step(denoise, x_t, t, s, schedule):
    """One stride from step t to step s, equation (6.9).

    denoise: called as denoise(x_t, t) with t (b,) integers, gives the guess x̂_0;  x_t: (b, c, h, w);
    t, s: whole numbers, T ≥ t > s ≥ 0;  schedule: `.alpha_bar`, (T + 1,) float64, and
    `predict_noise(schedule, x0, x_t, t)` is (5.7), with t (b,).  Returns x_s, like x_t.
    """
    ### BEGIN SOLUTION
    alpha_bar_t, alpha_bar_s = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    stride = ((1 - alpha_bar_s) / alpha_bar_s) ** 0.5 - ((1 - alpha_bar_t) / alpha_bar_t) ** 0.5

    def slope(x, step):
        at = torch.full((len(x),), step, device=x.device)
        return predict_noise(schedule, denoise(x, at), x, at)

    def straight(along):
        return alpha_bar_s**0.5 * (x_t / alpha_bar_t**0.5 + stride * along)

    first = slope(x_t, t)
    end = straight(first)
    return end if s == 0 else straight((first + slope(end, s)) / 2)
    ### END SOLUTION


# %% tags=["check"]
heun_step = check("sampling/heun-step", heun_step)

# %% [markdown]
# Heun pays two evaluations a stride. Can one have the second order for one? We have asked the network before, at the last stop $r>t$. **DPM-Solver++(2M)** (Lu et al. 2022) draws a line through the last two guesses and reads it in the middle of the stride to come. Along the right axis, that is: with $\lambda=\ln(\sqrt{\bar\alpha}/\sqrt{1-\bar\alpha})$ a stride with a *fixed* guess is solved exactly (and is DDIM's), so all that is left to approximate is how the guess changes.
#
# $$\begin{gathered}
# \hat x=\hat x_0(x_t,t)+\frac{\lambda_s-\lambda_t}{2\,(\lambda_t-\lambda_r)}\big(\hat x_0(x_t,t)-\hat x_0(x_r,r)\big),\\[2pt]
# x_s=\text{DDIM's stride (6.4) with } \sigma=0 \text{ and with } \hat x \text{ in the place of } \hat x_0.
# \end{gathered} \tag{6.10}$$
#
# The first stride has no memory, and one that ends at 0 has $\lambda_s=\infty$: both are DDIM's.
#
# ### {{heading sampling/multistep}}


# %% tags=["quiz"]
def multistep_step(x_t, x0, x0_before, r, t, s, schedule):
    """One stride of DPM-Solver++(2M) from step t to step s, equation (6.10).

    x_t: (b, c, h, w);  x0: the guess at t, x0_before: the guess at r, both like x_t;  r > t > s ≥ 1;
    schedule: `.alpha_bar` and `.log_snr`, which is 2λ, both (T + 1,) float64.  Returns x_s, like x_t.
    """
    ### BEGIN SOLUTION
    half = (schedule.log_snr / 2).tolist()
    guess = x0 + (half[s] - half[t]) / (2 * (half[t] - half[r])) * (x0 - x0_before)
    alpha_bar_t, alpha_bar_s = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    implied = (x_t - alpha_bar_t**0.5 * guess) / (1 - alpha_bar_t) ** 0.5
    return alpha_bar_s**0.5 * guess + (1 - alpha_bar_s) ** 0.5 * implied
    ### END SOLUTION


# %% tags=["check"]
multistep_step = check("sampling/multistep", multistep_step)

# %% [markdown]
# ### Measuring the order
# "Order $p$" is a claim that can be tested: the error at the end falls like (number of strides)$^{-p}$. On log-log paper that is a straight line of slope $-p$. Twice the strides: half the error for order 1, a quarter for order 2.
#
# Networks are no place for such a test, since nobody knows the solution. The laboratory of notebook 03 is: a mixture of Gaussians in the plane, whose perfect denoiser we have in closed form. The "exact" solution is Heun with thousands of strides, in double precision. Stops are even in λ, between two noise levels, away from the ends where every method's last stride is special.
# We take the *median* error over many starts: one point that begins on the ridge between two blobs and ends at the wrong one would rule a mean.
# **What failing looks like:** beside the four methods runs a fifth, Heun with the two slopes weighed 0.4 to 0.6 instead of equally. Its pictures would look the same. If a method's slope is near 1 where 2 was promised, there is a mistake in it.


# %%
mixture = GaussianMixture(
    torch.tensor([[-1.2, 0.4], [0.9, 0.9], [0.6, -1.1]], dtype=torch.float64),
    torch.tensor([0.3, 0.2, 0.4]),
    torch.tensor([0.5, 0.2, 0.3]),
)
fine = cosine_schedule(100_000)  # so fine that rounding a stop to a whole step can't be seen
perfect = mixture.denoiser(fine)


def even_in_lambda(strides, first=90_000, end=5_000):
    """Stops of the fine schedule between two steps, evenly spaced in λ."""
    half = fine.log_snr / 2
    wanted = torch.linspace(float(half[first]), float(half[end]), strides + 1, dtype=torch.float64)
    return [int(t) for t in torch.searchsorted(-half, -wanted)]


def uneven_heun(denoise, schedule, x, times):
    """Heun's method with a mistake: the slopes are weighed 0.4 and 0.6.  x: (b, d).  Returns the end."""
    for t, s in pairwise(times):
        at, to = (torch.full((len(x),), k) for k in (t, s))
        alpha_bar_t, alpha_bar_s = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
        stride = ((1 - alpha_bar_s) / alpha_bar_s) ** 0.5 - ((1 - alpha_bar_t) / alpha_bar_t) ** 0.5
        first = predict_noise(schedule, denoise(x, at), x, at)
        end = alpha_bar_s**0.5 * (x / alpha_bar_t**0.5 + stride * first)
        second = predict_noise(schedule, denoise(end, to), end, to)
        x = alpha_bar_s**0.5 * (x / alpha_bar_t**0.5 + stride * (0.4 * first + 0.6 * second))
    return x


methods = {
    "DDIM": lambda *given: last(ddim(*given)),
    "Euler": lambda *given: last(euler(*given)),
    "Heun": lambda *given: last(heun(*given)),
    "DPM-Solver++(2M)": lambda *given: last(dpm_solver(*given)),
    "Heun, uneven (wrong)": uneven_heun,
}
asks = {name: 2 if "Heun" in name else 1 for name in methods}
points = torch.randn(200, 2, generator=lab.generator(15, "cpu"), dtype=torch.float64)
counts = lab.pick(
    smoke=[20, 40, 80], cpu=[10, 20, 40, 80, 160, 320, 640], gpu=[10, 20, 40, 80, 160, 320, 640]
)
solution = last(
    heun(perfect, fine, points, even_in_lambda(lab.pick(smoke=600, cpu=5000, gpu=5000)))
)
solver_error, orders = {}, {}
for name, method in methods.items():
    ends_at = [method(perfect, fine, points, even_in_lambda(k)) for k in counts]
    solver_error[name] = [(x - solution).norm(dim=1).median().item() for x in ends_at]
    tail = torch.tensor([counts[-3:], solver_error[name][-3:]]).log()
    centred = tail - tail.mean(1, keepdim=True)
    orders[name] = -((centred[0] * centred[1]).sum() / centred[0].square().sum()).item()
    print(
        f"{name:22s} error with {counts[-1]} strides {solver_error[name][-1]:.1e}, "
        f"order {orders[name]:.2f} (a line through the last three)"
    )

# %%
figure, axes = plots.new_figure(8, 4.6)
for name, values in solver_error.items():
    style = "--" if "wrong" in name else ":" if name == "Euler" else "-"
    axes.plot(
        [asks[name] * k for k in counts],
        values,
        "o" + style,
        markersize=5,
        label=f"{name}: order {orders[name]:.2f}",
    )
axes.set(
    xscale="log",
    yscale="log",
    xlabel="evaluations of the denoiser",
    ylabel="median distance to the exact solution",
    title="Slopes on log-log paper are orders (Euler lies on DDIM)",
)
axes.legend()
figure.set_label(
    "Error against evaluations for five methods on a Gaussian mixture, log-log: "
    + ", ".join(f"{name} of order {order:.2f}" for name, order in orders.items())
)
figure

# %% [markdown]
# ### {{heading sampling/order}}
# {{question sampling/order}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_order_buys = "b"
### END SOLUTION
### BEGIN HANDED OUT
# what_order_buys = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/order", what_order_buys)

# %% [markdown]
# ## 6.9 · Quality against evaluations
#
# On to images. What a sampler costs is the number of times that it asks the network. **Where** it stops matters too: Karras et al. (2022) let ς fall along a ρ-th power,
#
# $$\varsigma_k=\Big(\varsigma_{\max}^{1/\rho}+\tfrac{k}{K-1}\big(\varsigma_{\min}^{1/\rho}-\varsigma_{\max}^{1/\rho}\big)\Big)^{\rho},\quad k=0,\dots,K-1,\qquad \varsigma_K=0,\qquad\rho=7, \tag{6.11}$$
#
# which makes strides in ς shorter and shorter; `karras_timesteps` takes the steps whose ς are nearest. On our axis of $t$ both ends then get more timesteps than the middle: for $K=10$ they are 992, 985, 972, 942, 871, 698, 378, 118, 21, 1 and 0.
# Each sampler below gets the same starts, the same classes and the same budgets. We measure two things:
# * **left**, for the samplers without chance, how far their images are from those of one very fine solution of the *network's own* ODE;
# * **right**, how far they are from the *data*.
#
# If a better solver simply made better pictures, both panels would show the same order.


# %%
def evens(k):
    return schedule.timesteps(k)


def karras(k):
    return karras_timesteps(schedule, k)


# name: (sampler, its timesteps for so many strides, evaluations a stride)
samplers = {
    "DDIM (η = 0)": (ddim, evens, 1),
    "η = ½": (lambda *given: ddim(*given, 0.5, lab.generator(16)), evens, 1),
    "DDPM (η = 1)": (lambda *given: ddim(*given, 1.0, lab.generator(16)), evens, 1),
    "DDPM, variance β": (lambda *given: ddpm(*given, 1.0, lab.generator(16)), evens, 1),
    "Heun": (heun, karras, 2),
    "DPM-Solver++(2M)": (dpm_solver, evens, 1),
    "DPM-Solver++(2M), Karras timesteps": (dpm_solver, karras, 1),
    "SDE-DPM-Solver++(2M)": (
        lambda *given: dpm_solver(*given, 1.0, lab.generator(16)),
        karras,
        1,
    ),
}
budgets = lab.pick(smoke=[4, 8], cpu=[5, 10, 20, 40], gpu=[5, 10, 20, 40, 100])
start, y = pure_noise(n_measured, seed=17), labels_for(n_measured)
finest = last(dpm_solver(denoise, schedule, start, karras(lab.pick(smoke=20, cpu=100, gpu=200)), y))
drawn, quality, off_solution = {}, {}, {}
for name, (sampler, stops_for, asked) in samplers.items():
    for budget in budgets:
        strides = budget if asked == 1 else (budget + 1) // 2  # Heun's last stride asks once
        images = last(sampler(denoise, schedule, start, stops_for(strides), y))
        quality[name, budget] = distance_to_data(images)
        off_solution[name, budget] = (images - finest).square().mean().sqrt().item()
        drawn[name, budget] = images[:20].cpu()
print(
    f"{data}, {n_measured} images: d² to the data by evaluations of the network "
    f"(training images {floor[n_measured]:.2f})\n"
)
print(f"{'':32s}" + "".join(f"{budget:>9d}" for budget in budgets))
for name in samplers:
    print(f"{name:32s}" + "".join(f"{quality[name, budget]:9.2f}" for budget in budgets))
print(
    f"{'the fine solution itself':32s}{'':{9 * (len(budgets) - 1)}s}{distance_to_data(finest):9.2f}"
)

# %%
figure, axes = plots.new_figure(8, 4.9, columns=2)
without_chance = [name for name in samplers if name.startswith(("DDIM", "Heun", "DPM"))]
for k, name in enumerate(samplers):
    style = {"marker": "o", "markersize": 5, "color": plots.COLOURS[k]}
    if name in without_chance:
        axes[0].plot(budgets, [off_solution[name, b] for b in budgets], **style)
    axes[1].plot(budgets, [quality[name, b] for b in budgets], label=name, **style)
axes[1].axhline(
    floor[n_measured], color="#222222", linestyle="--", linewidth=1.4, label="training images"
)
axes[0].set(ylabel="rms of pixels to the fine solution", title="From the network's own ODE")
axes[1].set(ylabel="d² to the data", title="From the data")
for axis in axes:
    axis.set(xscale="log", yscale="log", xlabel="evaluations of the network")
    axis.minorticks_off()
    axis.set_xticks(budgets, [f"{b}" for b in budgets])
figure.legend(
    *axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=10
)
figure.set_label(
    "Left: distance of samplers without chance to the fine solution of the network's ODE, against evaluations. "
    f"Right: d² of all samplers to the data; {budgets[1]} evaluations reach "
    f"{min(quality[name, budgets[1]] for name in samplers):.1f}"
)
figure

# %%
best = {budget: min(samplers, key=lambda name: quality[name, budget]) for budget in budgets}
for budget in budgets:
    print(f"{budget:4d} evaluations: best {best[budget]}, d² {quality[best[budget], budget]:.2f}")
nearest = min(without_chance, key=lambda name: off_solution[name, budgets[-1]])
print(
    f"\nWith {budgets[-1]} evaluations {nearest} is nearest to the fine solution\n"
    f"(rms {off_solution[nearest, budgets[-1]]:.3f}) and has d² {quality[nearest, budgets[-1]]:.2f}; "
    f"DDPM (η = 1) is at {quality['DDPM (η = 1)', budgets[-1]]:.2f}, "
    f"DDIM with {budgets[1]} evaluations at {quality['DDIM (η = 0)', budgets[1]]:.2f}."
)

# %% [markdown]
# Read the panels together, on Fashion-MNIST. Left, order alone isn't enough: 2M at even timesteps, a method of order 2, gains hardly more than DDIM. Its last stride, from $t=T/K$ to 0, is DDIM's, and the longest in λ. At Karras timesteps, whose last stride begins at $t=1$, both methods of order 2 leave DDIM far behind. With few, Heun is the worst of all: for the same budget it takes half as many strides, and the first of them, from ς = 80, are enormous. Order says how fast an error falls once strides are short, not where it begins.
#
# Right, another order. The fine solution itself, which everything on the left approaches, is *not* the nearest to the data: DDIM with ten evaluations, a coarse solution, is nearer. But mind the size of the differences. With 200 images another seed moves a value by about half, that of a sampler with fresh noise by up to one, so that the columns for 20 and 40 evaluations name no winner. What stands, with other seeds too: the fine solution is behind the good samplers, and the last of the list has the lowest value at ten evaluations. It joins two ideas, 2M's extrapolated guess and DDPM's stride with fresh noise in place of DDIM's: SDE-DPM-Solver++(2M) (Lu et al. 2022 too). With 1,000 images it comes to 1.1 with ten evaluations, 2M to 2.3 and DDIM to 3.2 (`benchmarks/sampling.py`). Fresh noise can keep forgetting the errors that the network has made so far (Karras et al. 2022 say the same of theirs). And the variance β, right for other data, needs hundreds of steps here.
#
# Now by eye. All samplers have the same starts; whatever differs is the sampler's doing. Find three things: the smallest budget at which a sampler draws what it draws with the largest one; what too few strides look like for DDIM, and what for the variance β; and two settings whose images you can't tell apart, one at a quarter of the other's price.


# %%
def compare(sampler, budget, eta):
    name = {"ddim": {0.0: "DDIM (η = 0)", 0.5: "η = ½", 1.0: "DDPM (η = 1)"}[eta]}.get(
        sampler, sampler
    )
    return plots.image_grid(
        drawn[name, budget],
        columns=10,
        title=f"{name}, {budget} evaluations: d² to the data {quality[name, budget]:.1f}",
    )


explore(
    compare,
    sampler=choice(
        {
            "DDIM to DDPM (choose η)": "ddim",
            "DDPM with variance β": "DDPM, variance β",
            "Heun": "Heun",
            "DPM-Solver++(2M), even timesteps": "DPM-Solver++(2M)",
            "DPM-Solver++(2M), Karras timesteps": "DPM-Solver++(2M), Karras timesteps",
            "SDE-DPM-Solver++(2M), Karras timesteps": "SDE-DPM-Solver++(2M)",
        },
        label="sampler",
    ),
    budget=choice(budgets, value=budgets[1], label="evaluations"),
    eta=choice({"0": 0.0, "½": 0.5, "1": 1.0}, label="η (first sampler only)"),
    title="Same starts, other samplers: what do you pay for?",
    alt="Twenty samples from the same noise for a sampler, a number of evaluations and η",
)

# %% [markdown]
# ### {{heading sampling/better-solver}}
# {{question sampling/better-solver}}

# %% tags=["quiz"]
### BEGIN SOLUTION
better_solver = "d"
### END SOLUTION
### BEGIN HANDED OUT
# better_solver = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/better-solver", better_solver)

# %% [markdown]
# ## 6.10 · Ancestors: Langevin dynamics
#
# Before there were diffusion models there was another way to draw from a density with nothing but its score: go uphill, and shake.
#
# $$x\leftarrow x+h\,\nabla\ln p(x)+\sqrt{2h}\;z,\qquad z\sim\mathcal N(0,I). \tag{6.12}$$
#
# Repeat for ever. For small $h$ the distribution of $x$ comes to be $p$ and stays it: that is **Langevin dynamics**. Uphill alone would end on the tops. The shaking is of just the size that keeps a Gaussian hill from collapsing.
#
# ### {{heading sampling/langevin-step}}


# %% tags=["quiz"]
def langevin_step(x, score, h, noise):
    """One step of Langevin dynamics, equation (6.12).

    x: (b, ...);  score: x → ∇ ln p(x), like x;  h: a number above 0;  noise: like x, standard normal.
    Returns a tensor like x.
    """
    ### BEGIN SOLUTION
    return x + h * score(x) + (2 * h) ** 0.5 * noise
    ### END SOLUTION


# %% tags=["check"]
langevin_step = check("sampling/langevin-step", langevin_step)

# %% [markdown]
# Now two islands, far apart, the right one with a fifth of the people. We have the exact score. Plain Langevin dynamics starts from $\mathcal N(0,I)$, each point follows it for a long time. If that were enough, a fifth would end on the right.
#
# Song & Ermon (2019) had the idea that leads to diffusion: run the chain on *noised* data first, where the islands are one hill, and lower the noise level by level,
#
# $$\text{at level}\ t:\quad x\leftarrow x+h_t\,\nabla\ln q(x_t)\big|_x+\sqrt{2h_t}\;z\quad\text{a few times, with}\quad h_t=c\,(1-\bar\alpha_t), \tag{6.13}$$
#
# so that no step is too coarse for its level. The score of level $t$ is the denoiser in other words, (3.9).

# %%
islands = GaussianMixture(torch.tensor([[-1.6, 0.0], [1.6, 0.0]]), 0.25, torch.tensor([4.0, 1.0]))
n_points = lab.pick(smoke=500, cpu=4000, gpu=4000)
begin = torch.randn(n_points, 2, generator=lab.generator(18, "cpu"))
chance = lab.generator(19, "cpu")
x = begin
for _ in range(lab.pick(smoke=200, cpu=2000, gpu=2000)):
    x = langevin_step(x, islands.score, 0.01, torch.randn(x.shape, generator=chance))
course = cosine_schedule(400)
crowds = {
    "the data": islands.sample(n_points, chance),
    "Langevin, exact score": x,
    "annealed Langevin": last(
        annealed_langevin(
            islands.denoiser(course),
            course,
            begin,
            steps=lab.pick(smoke=20, cpu=100, gpu=100),
            generator=chance,
        )
    ),
}
on_the_right = {name: (x[:, 0] > 0).float().mean().item() for name, x in crowds.items()}
figure, axes = plots.new_figure(8, 3.0, columns=3, sharey=True)
for k, (axis, (name, x)) in enumerate(zip(axes, crowds.items())):
    axis.plot(*x[:1500].T, ".", markersize=3, alpha=0.5, color=plots.COLOURS[k])
    axis.set(xlim=(-3, 3), ylim=(-1.4, 1.4), xlabel="x")
    axis.set_title(f"{name}\n{on_the_right[name]:.0%} on the right", fontsize=12)
axes[0].set_ylabel("y")
figure.set_label(
    "Points on two islands: "
    + ", ".join(f"{name} {share:.0%} on the right" for name, share in on_the_right.items())
)
figure

# %% [markdown]
# Each island is right in itself; only the *shares* of plain Langevin are those of its start. That is a quiet failure: every sample looks real.
# And on images? The score of the cleanest level exists, too (it is the network's), but from pure noise, which the network has never seen at that level, it leads nowhere. Annealed, things appear; at what price, the rows below say.

# %%
n_annealed = lab.pick(smoke=4, cpu=10, gpu=10)
levels_used, few_strides = lab.pick(smoke=8, cpu=100, gpu=200), 20
low = 20  # a step with very little noise


def score_at(t):
    """The network's score at step t, by (3.9)."""

    def score(x):
        at = torch.full((len(x),), t, device=x.device)
        a = schedule.alpha_bar[t].item()
        return (a**0.5 * denoise(x, at, labels_for(len(x))) - x) / (1 - a)

    return score


plain = pure_noise(n_annealed, seed=20)
small_h = 0.1 * (1 - schedule.alpha_bar[low].item())
*_, plain = langevin_dynamics(score_at(low), plain, small_h, levels_used * 6, lab.generator(21))
annealed = last(
    annealed_langevin(
        denoise,
        schedule,
        pure_noise(n_annealed, seed=20),
        levels_used,
        labels_for(n_annealed),
        each=5,
        generator=lab.generator(21),
    )
)
plots.image_rows(
    {
        f"Langevin at t = {low}, {levels_used * 6} evaluations": plain,
        f"annealed, {levels_used * 6} evaluations": annealed,
        f"DDIM, {few_strides} evaluations": last(
            ddim(
                denoise, schedule, pure_noise(n_annealed, seed=20), few_strides, labels_for(n_annealed)
            )
        ),
    },
    title=f"{data}: with the same network",
)

# %% [markdown]
# Why so much dearer than DDIM? When DDIM goes down a level it also takes away the noise that was too much. Langevin steps have to work it off by climbing, a little in each. What is left of the idea today is the *corrector*: a Langevin step or two after each stride ("go further").
#
# ### {{heading sampling/annealing}}
# {{question sampling/annealing}}

# %% tags=["quiz"]
### BEGIN SOLUTION
why_anneal = "b"
### END SOLUTION
### BEGIN HANDED OUT
# why_anneal = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/annealing", why_anneal)

# %% [markdown]
# ## 6.11 · Masks instead of noise
#
# Gaussian noise is one way to destroy an image. Here is another: **hide pixels**. Let every pixel of a black-and-white image, at a random time, turn grey for good. At the end all are grey. That is a diffusion with an *absorbing state* (Austin et al. 2021), and everything we know has its twin:
#
# | Gaussian noise | hidden pixels |
# |---|---|
# | $x_t$: image plus noise | $x_t$: image with $t$ of its $D$ pixels hidden |
# | the network guesses $x_0$ | the network gives, for each hidden pixel, the probability that it is white |
# | loss: squared error | loss: cross-entropy on hidden pixels |
# | way back: a little less noise | way back: draw a few hidden pixels from these probabilities |
#
# Now go back by *one* pixel at a time. Then the image is drawn pixel by pixel, each given those before: an **autoregressive model**, whose order is random. Fix the order (top left to bottom right) and it is the classical kind, like the language models that write one word after another.
# So the two families meet: an autoregressive model is a diffusion whose noise hides one pixel after another. Hoogeboom et al. (2022) make it exact. By the chain rule, for any order $o$ of the pixels, and averaged over all orders (Jensen's inequality),
#
# $$-\ln p(x)\;\le\;\mathbb E_{o}\sum_{i=1}^{D}-\ln p\big(x_{o_i}\mid x_{o_1},\dots,x_{o_{i-1}}\big)
#  = D\;\mathbb E_{t\sim\mathcal U\{1..D\}}\,\mathbb E_{o}\Big[\frac1t\sum_{k\ \text{hidden}}-\ln p\big(x_k\mid\text{visible}\big)\Big],$$
#
# $t$ pixels being hidden. One draw of $t$ and of the hidden pixels, one evaluation: Algorithm 1 again, with another kind of noise.
#
# We train the U-Net of notebook 04 on it, for a short while, on small black-and-white versions of our images. White is $+1$, black $-1$, hidden 0, and we read the network's answer as log-odds of white. Nothing else is new.


# %%
SIDE = 16
PIXELS = SIDE * SIDE


def black_and_white(images):
    """Small images of −1 and 1, (b, 1, SIDE, SIDE)."""
    small = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), SIDE)
    return torch.where(small > -0.2, 1.0, -1.0)


def masked_loss(model, x, y, generator):
    """The bound above per pixel, in nats; for `fit`.  x: (b, 1, h, w) of −1 and 1."""
    n_pixels = x[0].numel()
    t = torch.randint(1, n_pixels + 1, (len(x),), generator=generator, device=x.device)
    order = torch.rand(len(x), n_pixels, generator=generator, device=x.device).argsort(1).argsort(1)
    hidden = (order < t[:, None]).view_as(x)
    logits = model(torch.where(hidden, 0.0, x), t).float()
    surprise = F.binary_cross_entropy_with_logits(logits, (x > 0).float(), reduction="none")
    return ((surprise * hidden).flatten(1).sum(1) / t).mean()


bw_train = black_and_white(train.first(20_000).x)
bw_test = black_and_white(test.first(n_quick).x)
with seeded(0):
    masker = UNet((1, SIDE, SIDE), widths=(32, 64)).to(lab.device)
history = fit(
    masker,
    masked_loss,
    bw_train,
    recipes.ddpm_recipe(
        lab.pick(smoke=10, cpu=300, gpu=5000), batch_size=lab.pick(smoke=16, cpu=64, gpu=128)
    ),
    progress=False,
)
masker = history.ema_model.to(memory_format=torch.channels_last)


@torch.no_grad()
def white_probability(x, t):
    """The masking model's probability that each pixel is white, t pixels being hidden."""
    with autocast(lab.device):
        return masker(x, torch.full((len(x),), t, device=x.device)).float().sigmoid()


with torch.no_grad():
    bound = torch.stack(
        [masked_loss(masker, bw_test, None, lab.generator(30 + k)) for k in range(8)]
    ).mean()
white = (bw_train > 0).float().mean(0).clamp(0.001, 0.999)
alone = -torch.where(bw_test > 0, white, 1 - white).log().mean()
print(f"{len(history.steps)} steps in {history.seconds:.0f} s")
print(
    f"bits per pixel on test images: at most {bound / math.log(2):.3f}; "
    f"every pixel for itself {alone / math.log(2):.3f}"
)


# %% [markdown]
# Two ways to draw from it. One pixel at a time, $D=256$ evaluations: exactly what the model says. Or several at once, *as if they didn't depend on each other*, given those already there. What is saved in evaluations must be paid somehow; if it were free, all rows below would look alike and have the same distance.


# %%
def unmask(probability, x, evaluations, order, generator):
    """Draw the pixels of x in so many rounds. x: (b, 1, h, w), all 0;  order: (b, h·w), when each has its turn."""
    turn, n_pixels = order.view_as(x), order.shape[1]
    ends = [round(n_pixels * k / evaluations) for k in range(evaluations + 1)]
    for first, end in pairwise(ends):
        p = probability(x, n_pixels - first)
        pixels = torch.where(
            torch.rand(p.shape, generator=generator, device=x.device) < p, 1.0, -1.0
        )
        x = torch.where((turn >= first) & (turn < end), pixels, x)
    return x


n_masked = lab.pick(smoke=16, cpu=100, gpu=500)
rounds = lab.pick(smoke=[1, 8], cpu=[1, 4, 16, 64, 256], gpu=[1, 4, 16, 64, 256])
order = torch.rand(n_masked, PIXELS, generator=lab.generator(22), device=lab.device)
random_order, from_left = (
    order.argsort(1).argsort(1),
    torch.arange(PIXELS, device=lab.device).expand(n_masked, -1),
)
all_hidden = torch.zeros(n_masked, 1, SIDE, SIDE, device=lab.device)


def enlarged_features(images):
    return features(F.interpolate(images, size=shape[1:]).expand(-1, *shape))


masked_real = enlarged_features(bw_test[:n_masked])
unmasked = {
    f"{PIXELS // k} at a time, random order": unmask(
        white_probability, all_hidden, k, random_order, lab.generator(23)
    )
    for k in rounds
}
unmasked["1 at a time, row by row"] = unmask(
    white_probability, all_hidden, rounds[-1], from_left, lab.generator(23)
)
masked_distance = {
    name: frechet_distance(masked_real, enlarged_features(x)) for name, x in unmasked.items()
}
like_data = frechet_distance(masked_real, enlarged_features(bw_train[:n_masked]))
print(f"{n_masked} images, d² in features of the enlarged images; training images {like_data:.1f}")
for name, value in masked_distance.items():
    print(f"{name:32s} {value:6.1f}")
plots.image_rows(
    {name: x[:10] for name, x in unmasked.items()} | {"real": bw_test[:10]},
    title=f"{data}, {SIDE} × {SIDE}: from all hidden to all drawn",
)

# %% [markdown]
# All at once gives dust: every grain is right on average, and no two know of each other. One at a time gives shapes. That is the autoregressive side of the trade-off that this notebook is about: *evaluations against quality*. Gaussian diffusion moves all pixels at once, a little each time, and is content with ten or twenty questions; here it takes dozens: quality grows up to about four pixels at a time, 64 evaluations, and one at a time isn't clearly better. And the order? A perfect model wouldn't mind. Ours does worse row by row: it was trained on random holes, and has hardly ever seen an image whose whole lower half is hidden.
#
# ### {{heading sampling/autoregressive}}
# {{question sampling/autoregressive}}

# %% tags=["quiz"]
### BEGIN SOLUTION
many_at_once = "c"
### END SOLUTION
### BEGIN HANDED OUT
# many_at_once = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/autoregressive", many_at_once)

# %% [markdown]
# ## 6.12 · Fill in what is missing
#
# Half of a photograph is torn off. No new training: in every step we *know* part of the answer, so we put it into the guess, and leave the rest to the network. With a mask $m$, 1 where the image is known,
#
# $$\hat x_0\leftarrow m\odot x_{\text{known}}+(1-m)\odot\hat x_0. \tag{6.14}$$
#
# It is a wrapper around the denoiser, three lines, and goes with every sampler: (6.4) then noises the known pixels to whatever level it is at, and ends at them exactly. (Song et al. 2021b put freshly noised known pixels into $x_t$ instead.)


# %%
def keep_known(denoise, image, known):
    """A denoiser that has its own guess where `known` is False, and the image where it is True, equation (6.14)."""

    def denoise_and_keep(x_t, t, y=None):
        return torch.where(known, image, denoise(x_t, t, y))

    return denoise_and_keep


known = torch.zeros(shape[1:], dtype=torch.bool, device=lab.device)
known[: shape[1] // 2] = True  # the upper half
torn = {"upper half known": known, "lower half known": ~known, "left half known": known.T}
rows, n_fills = {}, 5
which = [0, 1, 3]
for (name, mask), i in zip(torn.items(), which):
    image = originals[i : i + 1]
    filled = last(
        ddim(
            keep_known(denoise, image, mask),
            schedule,
            pure_noise(n_fills, seed=40 + i),
            whole,
            eta=1.0,
            generator=lab.generator(24),
        )
    )
    gone = torch.where(mask, image, torch.zeros_like(image))
    rows[name] = torch.cat([image, gone, filled])
plots.image_rows(
    rows,
    labels=["image", "torn"] + [f"fill {k + 1}" for k in range(n_fills)],
    title=f"{data}: filled in, five times each",
)

# %%
n_filled, half_known = n_redrawn, torn["upper half known"]
filled = {}
for eta in (0.0, 1.0):
    filling = inpaint(denoise, originals, half_known)  # the library's, which is the same
    filled[eta] = last(
        ddim(
            filling,
            schedule,
            pure_noise(n_filled, seed=25),
            whole,
            eta=eta,
            generator=lab.generator(26),
        )
    )
edge = shape[1] // 2


def seam(images):
    """Typical jump from the last known row to the first filled one."""
    return (images[:, :, edge] - images[:, :, edge - 1]).abs().mean().item()


same_class = {
    f"η = {eta:g}": (named(x) == seen_in_originals).float().mean().item()
    for eta, x in filled.items()
}
for eta, x in filled.items():
    off = (x - originals)[..., :edge, :].abs().max().item()
    print(
        f"η = {eta:g}: known pixels off by {off:.0e}; class as before {same_class[f'η = {eta:g}']:.0%}; "
        f"jump across the seam {seam(x):.3f} (originals {seam(originals):.3f})"
    )

# %% [markdown]
# Exact where it is known. Elsewhere sometimes a good completion, often not: look at the trousers. It is not a draw from the true conditional distribution, since on the way the network sees the known pixels only through their noise, and early choices are hard to take back. Fresh noise helps (more keep their class, and the seam jumps less), because it lets the network revise. All the same the jump at the seam is about twice that of real images: the halves don't fit as they should. "Go further" has a remedy.

# %% [markdown]
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
right, left_out = (spoilt[strides_tried[0]][name] for name in ("right", "last step left out"))
print(
    f"effort {lab.effort}, {data}, {n_measured} images for distances (training images {floor[n_measured]:.2f})\n"
)
print(
    f"6.2  {strides_tried[0]} strides: roughness {roughness(right):.3f}, without the last step {roughness(left_out):.3f}; "
    f"a product for the sum: d² {distance_to_data(spoilt[strides_tried[-1]]['product for a sum']):.0f}"
)
print(
    "6.3  d² with "
    + f"{strides_tried[0]} strides: "
    + ", ".join(
        f"{name.split(':')[0]} {distance_to_data(by_spread[strides_tried[0], name]):.1f}"
        for name in kappas
    )
)
print(
    f"6.4  four fifths of the likeness from t = {settled['likeness']} on, of the detail from t = {settled['detail']} on"
)
print(
    f"6.5  classes kept from t = 500: {kept[500]:.0%}, 700: {kept[700]:.0%}, 900: {kept[900]:.0%}"
)
print(
    f"6.6  {strides_shown[0]} against {strides_shown[-1]} strides, same noise: "
    f"correlation {same[0.0][0]:.2f} with η = 0, {same[1.0][0]:.2f} with η = 1"
)
print(
    f"6.7  there and back with {most} strides: {127.5 * misses[most, True]:.1f} grey levels, "
    f"length/√d {lengths[most, True]:.2f} (without grain {lengths[most, False]:.2f})"
)
print(
    f"     middle of two codes: d² {middle_distance['slerp, middle']:.1f} by slerp, "
    f"{middle_distance['lerp, middle']:.1f} by lerp"
)
print("6.8  order: " + ", ".join(f"{name} {order:.2f}" for name, order in orders.items()))
for budget in budgets:
    print(f"6.9  {budget:3d} evaluations: {best[budget]}, d² {quality[best[budget], budget]:.2f}")
print(
    "6.10 on the right: " + ", ".join(f"{name} {share:.0%}" for name, share in on_the_right.items())
)
print(f"6.11 masks: at most {bound / math.log(2):.3f} bits per pixel")
for name in (list(masked_distance)[0], *list(masked_distance)[-2:]):
    print(f"     {name}: d² {masked_distance[name]:.1f}")
print(
    "6.12 inpainting, class as before: "
    + ", ".join(f"{name} {share:.0%}" for name, share in same_class.items())
)

# %% [markdown]
# **What to take along.** A denoiser is enough to draw samples, and what is trained says nothing about how. Fresh noise may be added or not (η), timesteps may be many or few, an ODE solver may be of order 1 or 2. For an exact score, order is what counts, and it can be measured. For a network, its own errors soon count for more, and a little fresh noise can wash some of them away. The bugs that live long are those that show only at the last step.
#
# Notebook 07 asks for something: not any sample, but a sandal.
#
# ## Go further *(ungraded)*
# 1. **Heun where it pays.** Give Heun the even timesteps, and timesteps even in λ, at 9 and 19 evaluations. Which choice of timesteps would you publish?
# 2. **Half the chance.** `dpm_solver` takes any η between 0 and 1, and any timesteps. 6.9 shows the two ends. Try η = ½, and η = 1 at even timesteps. Does DDPM ever pass them all, by more than another seed changes?
# 3. **Resample the hole.** RePaint (Lugmayr et al. 2022) jumps back up a few strides and comes down again, several times, so that known and filled parts can agree. Build it from `sdedit` and `ddim`, and measure the seam of 6.12.
# 4. **Corrector steps.** After every stride of DDIM take one Langevin step (6.12) at the new level (Song et al. 2021b call it a corrector). Does it help at 20 evaluations in all?
# 5. **Another order.** In 6.11 draw the pixels from the middle outwards, or the most certain ones first. Does the order matter to the distance? Should it, if the model were perfect?
# 6. **Codes as addresses.** Encode ten images of one class and average their codes (mind their length). What does the mean code draw?
#
# ## References
# * J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, NeurIPS 2020. arXiv:2006.11239
# * A. Nichol, P. Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (variances between the two extremes), ICML 2021. arXiv:2102.09672
# * J. Song, C. Meng, S. Ermon, *Denoising Diffusion Implicit Models*, ICLR 2021. arXiv:2010.02502
# * Y. Song et al., *Score-Based Generative Modeling through Stochastic Differential Equations* (2021b in the text), ICLR 2021. arXiv:2011.13456
# * T. Karras, M. Aittala, T. Aila, S. Laine, *Elucidating the Design Space of Diffusion-Based Generative Models*, NeurIPS 2022. arXiv:2206.00364
# * C. Lu et al., *DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models*, 2022. arXiv:2211.01095
# * C. Meng et al., *SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations*, ICLR 2022. arXiv:2108.01073
# * Y. Song, S. Ermon, *Generative Modeling by Estimating Gradients of the Data Distribution* (annealed Langevin dynamics), NeurIPS 2019. arXiv:1907.05600
# * J. Austin et al., *Structured Denoising Diffusion Models in Discrete State-Spaces* (absorbing states), NeurIPS 2021. arXiv:2107.03006
# * E. Hoogeboom et al., *Autoregressive Diffusion Models*, ICLR 2022. arXiv:2110.02037
# * A. Lugmayr et al., *RePaint: Inpainting using Denoising Diffusion Probabilistic Models*, CVPR 2022. arXiv:2201.09865
