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
# # 03 · Forward diffusion: how to destroy an image, exactly
#
# The VAE learned both ways, from image to code and back. Diffusion makes a bargain: the way *there* is not learned at all. It adds noise, a little at a time,
# until nothing is left, and since we chose every step of it, we know everything about it in closed form. All the learning goes into the way back (notebooks 04 and 05).
# This notebook trains nothing. It takes the way there apart until every number in it is yours: most bugs in diffusion code are bugs in these few formulas.
#
# **What you will be able to do**
# * write the forward process as a chain of small steps and as one jump, derive one from the other, and test the derivation so that it could fail;
# * read a noise schedule: as a curve $\bar\alpha$, as a signal-to-noise ratio, and as a number of steps, and keep the three apart;
# * recognise and mend four mistakes from published code: a variance for a standard deviation, a shifted index, exchanged results, a chain that is too short;
# * derive the posterior $q(x_{t-1}\mid x_t, x_0)$ and check it against Bayes' rule on a grid;
# * say what a score is, turn it into the best possible denoiser, and compute it exactly for a Gaussian mixture.
#
# **Before you start:** Gaussians, variances and Bayes' rule, as in notebook 02 (whose equation (2.4) comes back once).
#
# {{budget}}
#
# Nothing is trained here, so all efforts show nearly the same; smaller ones measure on fewer images.

# %% tags=["setup"]
import math

import torch

from course_utils import plots, setup
from course_utils.data import load
from course_utils.data.mixtures import GaussianMixture
from course_utils.diffusion import (
    NOISE_SCHEDULES,
    Schedule,
    cosine_schedule,
    linear_schedule,
    quadratic_schedule,
)
from course_utils.explore import choice, explore, slider
from course_utils.models.vae import kl_to_standard_normal
from classroom import ask, check, predict, reveal

lab = setup("03")

# %%
test = load(lab.data, "test", device=lab.device, fallback="digits")
test = test.first(lab.pick(smoke=300, cpu=1000, gpu=1000))
images = test.x
eight = images[:8]
print(f"{test.title}: {len(test):,} images (c, h, w) = {test.shape}, in [-1, 1]")
print(f"a pixel has mean {images.mean():.2f} and variance {images.var():.2f}")

# %% [markdown]
# ## 3.1 · One step: shrink, then shake
#
# How would you turn an image into pure noise in many small steps? The obvious way is to keep adding noise. Then variances add up: after $t$ steps of variance $\beta$ each, a pixel has its own variance plus $t\beta$.
# The values grow without end, and the image is never *gone*; it is only drowned. A network would have to cope with inputs of every size.
#
# So each step first shrinks what is there, just enough to make room for the noise that it adds:
#
# $$\begin{gathered}
# q(x_t\mid x_{t-1}) = \mathcal N\big(\sqrt{\alpha_t}\;x_{t-1},\;\beta_t I\big),\qquad \alpha_t = 1-\beta_t,\\[2pt]
# \text{that is}\qquad x_t = \sqrt{\alpha_t}\;x_{t-1} + \sqrt{\beta_t}\;\varepsilon_t,\qquad \varepsilon_t\sim\mathcal N(0,I).
# \end{gathered} \tag{3.1}$$
#
# Watch the roots. $\beta_t$ is a *variance*, so the noise is multiplied by $\sqrt{\beta_t}$. And a pixel of variance $v$ has variance $\alpha_t v+\beta_t$ after the step: if $v$ was 1, it stays 1.
# The chain is **Markov**: to draw $x_t$ one needs $x_{t-1}$ and nothing older.

# %%
generator = lab.generator(0)


def shrink_and_shake(x, beta):
    return math.sqrt(1 - beta) * x + math.sqrt(beta) * normal_like(x)


def shake_only(x, beta):
    return x + math.sqrt(beta) * normal_like(x)


def normal_like(x):
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


beta, walks = 0.01, {"shrink, then shake (3.1)": shrink_and_shake, "only add noise": shake_only}
variances, ends = {}, {}
for name, take_step in walks.items():
    x, seen = images[:200], []
    for _ in range(400):
        seen.append(x.var().item())
        x = take_step(x, beta)
    variances[name], ends[name] = (range(400), seen), x
for name, (_, seen) in variances.items():
    print(
        f"{name:26s} variance of a pixel: {seen[0]:.2f} at the start, "
        f"{seen[-1]:.2f} after {len(seen) - 1} steps of β = {beta}"
    )
plots.curves(
    variances,
    title="Shrinking makes room: the variance settles at 1 instead of growing",
    x_label="steps taken",
    y_label="variance of a pixel",
    mark={"1": (None, 1)},
)

# %% [markdown]
# Our pixels don't start at variance 1. That does no harm: by (3.1) the distance to 1 is multiplied by $\alpha_t$ in every step, so it dies out.
#
# One step, three values of $\alpha$, same images, same noise:

# %%
noise = normal_like(eight)
rows = {"x₀": eight} | {
    f"α = {a}, β = {1 - a:.2g}": a**0.5 * eight + (1 - a) ** 0.5 * noise for a in (0.99, 0.7, 0.1)
}
plots.image_rows(rows, title=f"{test.title}: one step of (3.1)")

# %% [markdown]
# ### {{heading forward/noisier}}
# {{question forward/noisier}}

# %% tags=["quiz"]
### BEGIN SOLUTION
noisier = "a"
### END SOLUTION
### BEGIN HANDED OUT
# noisier = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/noisier", noisier)

# %% [markdown]
# ## 3.2 · How much noise, and when?
#
# $\beta_1,\dots,\beta_T$ are ours to choose: they are the **schedule**. Ho et al. (2020) let $\beta$ rise along a straight line from $10^{-4}$ to $0.02$ in $T=1000$ steps:
# small steps while there is detail to lose, large ones when only noise is left to shuffle. Two relatives are in use. With $u=\frac{t-1}{T-1}$ running from 0 to 1,
#
# $$\beta_t=\begin{cases}
# \beta_{\min}+(\beta_{\max}-\beta_{\min})\,u & \text{linear}\\[2pt]
# \big(\sqrt{\beta_{\min}}+(\sqrt{\beta_{\max}}-\sqrt{\beta_{\min}})\,u\big)^2 & \text{quadratic}\\[2pt]
# \beta_{\min}+(\beta_{\max}-\beta_{\min})\;\sigma(12u-6) & \text{sigmoid},\quad \sigma(z)=1/(1+e^{-z}).
# \end{cases} \tag{3.2}$$
#
# ### {{heading forward/step-variances}}
# Write (3.2). Nothing depends on $T$ but $u$: the first step adds $\beta_{\min}$ (the sigmoid a trifle more, since $\sigma(-6)>0$), the last one $\beta_{\max}$ (the sigmoid a trifle less).


# %% tags=["quiz"]
def step_variances(kind, T, beta_min=1e-4, beta_max=0.02):
    """β_1, ..., β_T of a schedule, equation (3.2).

    kind: "linear", "quadratic" or "sigmoid";  T: number of steps, at least 2.  Returns (T,), float64.
    """
    ### BEGIN SOLUTION
    u = torch.linspace(0, 1, T, dtype=torch.float64)
    if kind == "quadratic":
        return (beta_min**0.5 + (beta_max**0.5 - beta_min**0.5) * u) ** 2
    rise = u if kind == "linear" else torch.sigmoid(12 * u - 6)
    return beta_min + (beta_max - beta_min) * rise
    ### END SOLUTION


# %% tags=["check"]
step_variances = check("forward/step-variances", step_variances)

# %%
T = 1000
plots.curves(
    {
        kind: (range(1, T + 1), step_variances(kind, T))
        for kind in ("linear", "quadratic", "sigmoid")
    },
    title="Three ways from 0.0001 to 0.02",
    x_label="step t",
    y_label="β, variance added by step t",
)

# %% [markdown]
# The formulas look alike; the curves don't. First the line: we take 1,000 single steps with the images from above.

# %%
linear = linear_schedule(T)
x, walked, times = eight, {}, range(0, T + 1, 100)
for t in range(T + 1):
    if t > 0:
        x = shrink_and_shake(x, linear.beta[t].item())
    if t in times:
        walked[t] = x
plots.image_rows(
    {test.classes[test.labels[i]]: torch.stack([walked[t][i] for t in times]) for i in range(3)},
    labels=[f"t = {t}" if t == 0 else t for t in times],
    title=f"{test.title}: a walk of 1,000 steps with the linear schedule",
)

# %% [markdown]
# ## 3.3 · Must we take 700 steps to see step 700?
#
# Training will ask for millions of noised images, each at a step of its own. If the only way to step 700 leads through steps 1 to 699, that is 700 draws for one training example. Before we pay that, let's see what the walk adds up to.
#
# After one step, $x_1=\sqrt{\alpha_1}\,x_0+\sqrt{1-\alpha_1}\,\varepsilon_1$. Put that into the second step:
#
# $$x_2=\sqrt{\alpha_2}\,x_1+\sqrt{1-\alpha_2}\,\varepsilon_2
#      =\sqrt{\alpha_1\alpha_2}\;x_0+\underbrace{\sqrt{\alpha_2(1-\alpha_1)}\,\varepsilon_1+\sqrt{1-\alpha_2}\,\varepsilon_2}_{\text{two independent Gaussians}} .$$
#
# Independent Gaussians add up to a Gaussian, and their *variances* add (their standard deviations don't):
#
# $$\alpha_2(1-\alpha_1)+(1-\alpha_2)=1-\alpha_1\alpha_2 .$$
#
# Two draws have become one, of the same form as before, with $\alpha_1\alpha_2$ in the place of $\alpha_1$. So the argument can be repeated, step after step. What is left of the variance of the image after $t$ steps is the product
#
# $$\bar\alpha_t=\alpha_1\,\alpha_2\cdots\alpha_t,\qquad \bar\alpha_0=1, \tag{3.3}$$
#
# and the whole walk collapses into
#
# $$x_t=\sqrt{\bar\alpha_t}\;x_0+\sqrt{1-\bar\alpha_t}\;\varepsilon,\qquad\varepsilon\sim\mathcal N(0,I). \tag{3.4}$$
#
# One draw, any $t$. This line is why diffusion models can be trained at all. We call $\sqrt{\bar\alpha_t}$ the **signal rate** and $\sqrt{1-\bar\alpha_t}$ the **noise rate**.
#
# ### {{heading forward/alpha-bar}}
# Write (3.3) for the linear schedule, the first line of (3.2). The table has $T+1$ entries, because $\bar\alpha_0=1$, the clean image, is one of them: then `alpha_bar[t]` is $\bar\alpha_t$, and no step needs special care.


# %% tags=["quiz"]
def linear_alpha_bar(T, beta_min=1e-4, beta_max=0.02):
    """ᾱ_0, ..., ᾱ_T for β on a straight line from beta_min to beta_max, equations (3.2) and (3.3).

    T: number of steps, at least 2.  Returns (T + 1,), float64, beginning with 1.
    """
    ### BEGIN SOLUTION
    beta = torch.linspace(beta_min, beta_max, T, dtype=torch.float64)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])
    ### END SOLUTION


# %% tags=["check"]
linear_alpha_bar = check("forward/alpha-bar", linear_alpha_bar)

# %% [markdown]
# **Predict, then run.** The linear schedule, $T=1000$. What fraction of the image's *amplitude*, $\sqrt{\bar\alpha_t}$, is left half-way, at $t=500$? Commit to a number first. Most people say a half.

# %% tags=["predict"]
guess = predict("forward/half-way", "Signal rate √ᾱ at t = 500 of 1,000, linear schedule", 0.0, 1.0)

# %%
alpha_bar = linear_alpha_bar(1000)
half_way = alpha_bar[500].sqrt().item()
below_half = int((alpha_bar.sqrt() > 0.5).sum())
reveal("forward/half-way", round(half_way, 3))
print(
    f"the signal rate falls below a half at t = {below_half}, "
    f"and below a tenth at t = {int((alpha_bar.sqrt() > 0.1).sum())}"
)
steps = range(1001)
plots.curves(
    {
        "signal rate √ᾱ": (steps, alpha_bar.sqrt()),
        "noise rate √(1 − ᾱ)": (steps, (1 - alpha_bar).sqrt()),
    },
    mark={f"half-way: {half_way:.2f}": (500, half_way)},
    title="Most of the signal is gone before the middle",
    x_label="step t",
    y_label="factor in (3.4)",
)

# %% [markdown]
# The signal crosses a half long before the middle, and for the last third of the walk less than a tenth of it is left. Remember this when we meet the cosine schedule in 3.4.
#
# ### {{heading forward/add-noise}}
# Write equation (3.4). Every image of the batch has a `t` of its own. The noise is handed in, so that the result can be checked.


# %% tags=["quiz"]
def add_noise(x0, t, noise, alpha_bar):
    """Jump from clean images to step t, equation (3.4).

    x0: (b, c, h, w) in [-1, 1];  t: (b,) integers in 0..T;  noise: like x0, standard normal;
    alpha_bar: (T + 1,), float64.  Returns x_t, like x0, also in its dtype.
    """
    ### BEGIN SOLUTION
    a = alpha_bar[t].to(x0.dtype).view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise
    ### END SOLUTION


# %% tags=["check"]
add_noise = check("forward/add-noise", add_noise)

# %% [markdown]
# ### Does it hold?
# A derivation can be wrong and still look right, so we try to break it. Pixels of value 0.8 walk the chain one step at a time, and as many others jump with your function. Two moments say it all for a Gaussian: mean and variance.
# If (3.4) is right, the curves below lie on each other, and every gap stays within about 4 standard errors (there are forty comparisons; the largest of forty is often between 2 and 3).
# If the factors of signal or noise were wrong, the gap would be tens or hundreds of standard errors: a variance mistaken for a standard deviation, for example, makes the right-hand curve sag below the other.


# %%
def on_device(table):
    """A table where the images are; in single precision on devices that have no other."""
    return Schedule(table).to(lab.device).alpha_bar


n = lab.pick(smoke=5_000, cpu=20_000, gpu=100_000)
start = torch.full((n, 1, 1, 1), 0.8, device=lab.device)
table = on_device(alpha_bar)
x, walked_moments, jumped_moments = start, [], []
at = list(range(50, 1001, 50))
for t in range(1, 1001):
    x = shrink_and_shake(x, linear.beta[t].item())
    if t in at:
        walked_moments.append((x.mean().item(), x.var().item()))
        jumped = add_noise(start, torch.full((n,), t, device=lab.device), normal_like(start), table)
        jumped_moments.append((jumped.mean().item(), jumped.var().item()))

walked_moments, jumped_moments = torch.tensor(walked_moments), torch.tensor(jumped_moments)
# Standard errors: √(2v/n) for a difference of two means, 2v/√n for one of two variances of Gaussians.
spread = walked_moments[:, 1]
errors = torch.stack([(2 * spread / n).sqrt(), 2 * spread / math.sqrt(n)], 1)
gaps = (walked_moments - jumped_moments).abs() / errors
largest_gap = gaps.max().item()

figure, axes = plots.new_figure(8, 3.5, columns=2)
for axis, k, name in zip(axes, (0, 1), ("mean", "variance")):
    axis.plot(at, jumped_moments[:, k], label="one jump (3.4)")
    axis.plot(at, walked_moments[:, k], "o", markersize=5, label="t steps of (3.1)")
    axis.set(xlabel="step t", ylabel=f"{name} of $x_t$, from $x_0$ = 0.8", title=name.capitalize())
axes[1].legend()
figure.set_label(
    "Mean and variance of noised pixels against t: walked step by step and jumped to, on each other"
)
print(
    f"{n:,} pixels each, {2 * len(at)} comparisons: largest gap {largest_gap:.1f} standard errors"
)
figure

# %% [markdown]
# ### {{heading forward/published-noise}}
# This function runs, its pictures look noisy, and a model trained with it even learns something. In this form it stands in published notes.
# Find what is wrong and mend it. Then say to yourself what it does to an image of unit variance near $t=260$; the cell below the check draws the answer.


# %% tags=["quiz"]
def published_noise(x0, t, noise, alpha_bar):
    """x_t as published. Arguments and result as in add_noise, equation (3.4)."""
    a = alpha_bar[t].to(x0.dtype).view(-1, 1, 1, 1)
    ### BEGIN SOLUTION
    return (
        a.sqrt() * x0 + (1 - a).sqrt() * noise
    )  # (1 − ᾱ) is a variance; noise is stretched by its root
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # return a.sqrt() * x0 + (1 - a) * noise
    ### END HANDED OUT


# %% tags=["check"]
published_noise = check("forward/published-noise", published_noise)

# %%
mistaken = alpha_bar + (1 - alpha_bar) ** 2  # variance of the image's part, and of the noise's
lowest = int(mistaken.argmin())
print(
    f"an image of variance 1, as published: variance {mistaken[lowest]:.3f} at t = {lowest}, ᾱ = {alpha_bar[lowest]:.3f}"
)
plots.curves(
    {"as published, (1 − ᾱ)·ε": (steps, mistaken), "mended, √(1 − ᾱ)·ε": (steps, torch.ones(1001))},
    mark={"lowest": (lowest, mistaken[lowest])},
    title="The published line: right at both ends, too little noise between them",
    x_label="step t",
    y_label="variance of $x_t$, if $x_0$ has 1",
)

# %% [markdown]
# ### {{heading forward/variance-preserving}}
# {{question forward/variance-preserving}}

# %% tags=["quiz"]
### BEGIN SOLUTION
variance_preserving = "b"
### END SOLUTION
### BEGIN HANDED OUT
# variance_preserving = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/variance-preserving", variance_preserving)


# %% [markdown]
# ### {{heading forward/swap}}
# A network will be shown $x_t$ and asked for $\varepsilon$. Many codebases have a `forward` that returns both, and this one returns the noise first.
# The function after it prepares one training example. It was published like this, and trained for hours. Mend it.


# %% tags=["setup"]
def forward(x0, t, noise, alpha_bar):
    """Returns (noise, noisy): the noise, and the images with it."""
    return noise, add_noise(x0, t, noise, alpha_bar)


# %% tags=["quiz"]
def training_pair(x0, t, noise, alpha_bar):
    """(noisy images, noise): what the network is shown, and what it should answer.

    Arguments as in add_noise; both results are like x0.
    """
    ### BEGIN SOLUTION
    noise, noisy = forward(x0, t, noise, alpha_bar)
    return noisy, noise
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # noisy, target = forward(x0, t, noise, alpha_bar)
    # return noisy, target
    ### END HANDED OUT


# %% tags=["check"]
training_pair = check("forward/swap", training_pair)

# %% [markdown]
# Nothing in Python could have noticed: both results are tensors of one shape. What would the exchanged pair have done to training? Given $\varepsilon$, the best answer for $x_t$ in squared error is $\sqrt{\bar\alpha_t}\;\mathbb E[x_0]+\sqrt{1-\bar\alpha_t}\;\varepsilon$:
# the mean image plus what it was shown. Here is the loss of that answer, without any training, against the loss of answering "no noise at all" in the right task.

# %%
t = torch.randint(1, 1001, (len(images),), generator=generator, device=lab.device)
noise = normal_like(images)
noisy, target = training_pair(images, t, noise, table)
trivial = add_noise(
    images.mean(0, keepdim=True).expand_as(images), t, noise, table
)  # knows the mean image and the noise
print(
    f"exchanged pair: mean image plus copied noise   MSE {(trivial - noisy).square().mean():.3f} per pixel"
)
print(f"right pair: answering 0 for the noise          MSE {target.square().mean():.3f} per pixel")

# %% [markdown]
# A loss that starts low and falls quickly is no proof of anything. The exchanged network ends near the first line, looks well trained, and has learned one image.

# %% [markdown]
# ## 3.4 · A schedule is a curve
#
# In (3.4) the steps have disappeared: $x_t$ depends on the schedule only through the number $\bar\alpha_t$. So let's choose *that* curve directly, and derive the $\beta$ from it.
# Nichol and Dhariwal (2021) saw what you saw in 3.3: with the linear schedule many late steps are spent on images in which nothing is left. They let the signal rate fall along a quarter of a cosine instead:
#
# $$\begin{gathered}
# \bar\alpha_t=\frac{f(t)}{f(0)},\qquad f(t)=\cos^2\!\Big(\frac{t/T+s}{1+s}\cdot\frac\pi2\Big),\qquad s=0.008,\\[2pt]
# \beta_t=\min\Big(1-\frac{f(t)}{f(t-1)},\;0.999\Big).
# \end{gathered} \tag{3.5}$$
#
# The small $s$ keeps the first steps from being too tiny to matter; the limit on $\beta$ keeps the last one, where $f(T)=0$, from destroying everything at once.
#
# ### {{heading forward/cosine}}


# %% tags=["quiz"]
def cosine_alpha_bar(T, s=0.008, max_beta=0.999):
    """ᾱ_0, ..., ᾱ_T of the cosine schedule, equation (3.5).

    From the curve f to β, each limited to max_beta, and from β to the table by (3.3).

    T: number of steps;  s: small, at least 0.  Returns (T + 1,), float64, beginning with 1.
    """
    ### BEGIN SOLUTION
    u = torch.arange(T + 1, dtype=torch.float64) / T
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=max_beta)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])
    ### END SOLUTION


# %% tags=["check"]
cosine_alpha_bar = check("forward/cosine", cosine_alpha_bar)

# %%
figure, axes = plots.new_figure(8, 3.7, columns=2)
place = torch.arange(T + 1) / T
tables = {name: make(T).alpha_bar for name, make in NOISE_SCHEDULES.items()} | {
    "cosine": cosine_alpha_bar(T)
}
for name, each in tables.items():
    axes[0].plot(place, each, label=name)
    axes[1].plot(place, each.sqrt(), label=name)
axes[0].set(xlabel="t / T", ylabel="ᾱ", title="Share of signal in the variance")
axes[1].set(xlabel="t / T", ylabel="√ᾱ", title="Signal rate")
axes[0].legend()
figure.set_label(
    "ᾱ and √ᾱ against t/T for the linear, quadratic, sigmoid and cosine schedules: linear falls first, cosine last"
)
figure

# %%
one = images[:1]
times = torch.arange(0, T + 1, 100, device=lab.device)
same_noise = normal_like(one).expand(len(times), -1, -1, -1)
strips = {
    name: add_noise(one.expand_as(same_noise), times, same_noise, on_device(each))
    for name, each in tables.items()
}
plots.image_rows(
    strips,
    labels=[f"{t / T:g}" for t in times.tolist()],
    title=f"{test.title}: same image, same noise, four schedules, by t/T",
)

# %% [markdown]
# The cosine's images fade evenly from left to right; with the linear schedule the right half of the strip is much the same.
#
# And $T$? A curve over $t/T$ can be walked in ten strides or in ten thousand. The stops lie on the same curve, and longer strides simply have larger $\beta$. The library's schedules all work this way: `linear_schedule(50)` and `linear_schedule(1000)` are the same curve,
# read at different places. **A schedule is a curve; $T$ only says how finely it is walked.**

# %%
print("ᾱ at the same place of the curve, by number of steps:")
print(
    f"{'':10s}{'T':>6s}"
    + "".join(f"{f't/T = {u}':>12s}" for u in (0.2, 0.5, 0.8))
    + f"{'largest β':>12s}"
)
for name in ("linear", "cosine"):
    for steps_taken in (10, 100, 1000):
        schedule = NOISE_SCHEDULES[name](steps_taken)
        values = [schedule.alpha_bar[round(u * steps_taken)].item() for u in (0.2, 0.5, 0.8)]
        print(
            f"{name:10s}{steps_taken:6d}"
            + "".join(f"{v:12.4f}" for v in values)
            + f"{schedule.beta.max():12.4f}"
        )

# %% [markdown]
# ### {{heading forward/shifted}}
# One more from the wild. Each image has a step `t` in 1..T, and its $\bar\alpha_t$ is looked up. Somebody was careful about Python counting from 0. Too careful?


# %% tags=["quiz"]
def alpha_bar_at(t, beta):
    """ᾱ_t of every image, equation (3.3).

    t: (b,) integers in 1..T;  beta: (T,), β_1, ..., β_T.  Returns (b,), in the dtype of beta.
    """
    alpha_bar = torch.cat([torch.ones_like(beta[:1]), (1 - beta).cumprod(0)])
    ### BEGIN SOLUTION
    return alpha_bar[t]  # the table has ᾱ_0 in front: ᾱ_t stands at place t
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # return alpha_bar[t - 1]  # Python counts from 0
    ### END HANDED OUT


# %% tags=["check"]
alpha_bar_at = check("forward/shifted", alpha_bar_at)

# %%
print(
    "what the shifted look-up does with the cosine schedule: what the network is told, and what it gets"
)
print(f"{'':10s}{'noise rate at t = 1':>24s}{'noise rate at T/2':>24s}{'signal rate at T':>24s}")
for steps_taken in (1000, 100, 20):
    signal = cosine_schedule(steps_taken).alpha_bar.sqrt()
    noise_rate = (1 - signal**2).sqrt()
    told = (noise_rate[1], noise_rate[steps_taken // 2], signal[-1])
    gets = (noise_rate[0], noise_rate[steps_taken // 2 - 1], signal[-2])
    row = (f"{a:.4f} → {b:.4f}" for a, b in zip(told, gets))
    print(f"T = {steps_taken:4d}  " + "".join(f"{pair:>24s}" for pair in row))

# %% [markdown]
# With a thousand steps no rate is off by as much as 0.01, which is why the slip lives so long. With 20 steps it is plain.
#
# ### {{heading forward/curve}}
# {{question forward/curve}}

# %% tags=["quiz"]
### BEGIN SOLUTION
curve = "d"
### END SOLUTION
### BEGIN HANDED OUT
# curve = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/curve", curve)

# %% [markdown]
# ## 3.5 · What makes an image noisy?
#
# Not $t$: at step 300 of 1,000 the share of signal in the variance is 84 % in the sigmoid schedule and 40 % in the linear one. Not $\beta_t$ either, which is the noise of one step. What counts is how much signal stands against how much noise: the **signal-to-noise ratio** of (3.4), a ratio of variances,
#
# $$\mathrm{SNR}_t=\frac{\bar\alpha_t}{1-\bar\alpha_t},\qquad\qquad \ln\mathrm{SNR}_t=\ln\bar\alpha_t-\ln(1-\bar\alpha_t). \tag{3.6}$$
#
# (For pixels of unit variance, that is. Ours have the variance printed at the top: one constant factor, the same at every $t$.) From the first step to the last the SNR falls by a factor of ten million to ten trillion, depending on the schedule, so its logarithm is drawn: $+\infty$ for the clean image, 0 where signal and noise are equal, $-\infty$ for pure noise.
#
# ### {{heading forward/log-snr}}


# %% tags=["quiz"]
def log_snr(alpha_bar):
    """ln SNR_t for every entry of a table, equation (3.6): inf where ᾱ = 1, −inf where ᾱ = 0.

    alpha_bar: (T + 1,) in [0, 1].  Returns (T + 1,), natural logarithms.
    """
    ### BEGIN SOLUTION
    return alpha_bar.log() - (1 - alpha_bar).log()
    ### END SOLUTION


# %% tags=["check"]
log_snr = check("forward/log-snr", log_snr)

# %%
figure, axes = plots.new_figure(8, 3.7, columns=2)
for name, each in tables.items():
    axes[0].plot(place[1:], log_snr(each)[1:], label=name)
    axes[1].plot(place[1:], (log_snr(each).exp())[1:], label=name)
axes[0].axhline(0, color="#222222", linestyle="--", linewidth=1.4)
axes[0].set(xlabel="t / T", ylabel="ln SNR", title="Logarithm", ylim=(-14, 11))
axes[1].set(xlabel="t / T", ylabel="SNR", title="The ratio itself (below 2)", ylim=(0, 2))
axes[0].legend()
figure.set_label(
    "Signal-to-noise ratio of four schedules against t/T, as a logarithm and as a ratio"
)
print(
    "share of the walk spent where ln SNR is below −4.6, that is, less than 1 % signal in the ratio:"
)
for name, each in tables.items():
    print(f"  {name:10s}{(log_snr(each)[1:] < math.log(0.01)).double().mean():6.0%}")
figure

# %% [markdown]
# Kingma et al. (2021) draw the full consequence: in the limit of many steps the variational bound depends on the schedule only through the SNR at its two *ends*. Between them the curve decides where a training spends its effort, not what is being learned.
#
# Now by eye. **At which signal-to-noise ratio do you stop recognising the picture?** Choose a schedule, move $t$ until the images are just lost, and note $t$ and $\ln\mathrm{SNR}$. Then change the schedule and do it again. Which of the two numbers agrees?

# %%
fixed_noise = torch.randn(images.shape, generator=lab.generator(5), device=lab.device)
bell = torch.linspace(-4, 4, 200)


def noised_images(t, schedule):
    each = on_device(tables[schedule])
    some = min(200, len(images))
    x_t = add_noise(
        images[:some], torch.full((some,), t, device=lab.device), fixed_noise[:some], each
    )
    figure, axes = plots.new_figure(8, 4.6, 2, 2, height_ratios=(1, 1.35))
    grid = axes[0, 0].get_gridspec()
    for axis in axes[0]:
        axis.remove()
    top = figure.add_subplot(grid[0, :])
    level = log_snr(tables[schedule])
    value = f"{level[t]:.1f}" if t else "∞"
    plots.draw_images(
        top, x_t[:8], title=f"{schedule}, t = {t}: √ᾱ = {each[t].sqrt():.3f}, ln SNR = {value}"
    )
    axes[1, 0].hist(
        x_t.flatten().cpu().numpy(), bins=torch.linspace(-4, 4, 81).numpy(), density=True, alpha=0.8,
        histtype="stepfilled",  # one outline draws faster than eighty bars
    )
    axes[1, 0].plot(
        bell, (-0.5 * bell**2).exp() / math.sqrt(2 * math.pi), color="#222222", label="N(0, 1)"
    )
    axes[1, 0].set(xlabel="pixel of $x_t$", ylabel="density", ylim=(0, 0.9), title="All pixels")
    axes[1, 0].legend()
    for name, other in tables.items():
        chosen = name == schedule
        axes[1, 1].plot(
            range(1, T + 1),
            log_snr(other)[1:],
            color=plots.COLOURS[0] if chosen else "#bbbbbb",
            zorder=3 if chosen else 2,
        )
    axes[1, 1].plot(t, level[t].clamp(-14, 11), "D", color="#222222", markersize=9, zorder=4)
    axes[1, 1].set(xlabel="t", ylabel="ln SNR", ylim=(-14.5, 11.5), title="Where we are")
    return figure


explore(
    noised_images,
    t=slider(0, T, value=250, step=10, label="t"),
    schedule=choice(list(tables), value="linear", label="schedule"),
    title="At which SNR is the picture lost? And is it the same t for every schedule?",
    alt="Eight noised images over the histogram of their pixels beside a standard normal, and a curve of ln SNR with the present step marked.",
)

# %% [markdown]
# What you should find: the steps at which the picture is lost differ by hundreds, and $\ln\mathrm{SNR}$ is about the same. It must be so: $x_t$ depends on $\bar\alpha_t$ alone, and so does the SNR. Below, four schedules at *their* steps of the same three ratios, with the same noise.
# (The histogram holds a second lesson: long before it matches $\mathcal N(0,1)$ to the eye, the picture may still be there. A histogram has forgotten which pixel is where.)

# %%
rows, levels, which = {}, (3.0, 1.0, 0.3), [0, 0, 0, 1, 1, 1]
for name, each in tables.items():
    found = [int((log_snr(each) - math.log(level)).abs().argmin()) for level in levels]
    print(
        f"{name:10s}" + ",  ".join(f"SNR {level:g} at t = {t}" for level, t in zip(levels, found))
    )
    t = torch.tensor(found * 2, device=lab.device)
    rows[name] = add_noise(images[which], t, fixed_noise[which], on_device(each))
stacked = torch.stack(list(rows.values()))
apart = (stacked.amax(0) - stacked.amin(0)).max()
print(f"largest difference of a pixel between two of the rows below: {apart:.3f}")
plots.image_rows(
    rows,
    labels=[f"SNR {level:g}" for level in levels] * 2,
    title=f"{test.title}: same ratio, same image, whatever the schedule",
)

# %% [markdown]
# ## 3.6 · The chain that was too short
#
# Here is a mistake that has been copied many times. A tutorial has no time for 1,000 steps, sets $T=200$, and keeps $\beta$ from $10^{-4}$ to $0.02$. The numbers look familiar, training runs, samples are disappointing.
# Those $\beta$ belong to a thousand steps. Two hundred of them multiply to much less, and at the end there is something left.
#
# **Predict, then run.** How much can be left after these 200 steps? We test it with a game. Somebody takes one of your test images, noises it to $t=T$ and shows you the result beside all the clean originals. You name the one that lies nearest to it (after shrinking by $\sqrt{\bar\alpha_T}$), which is the most probable one.
# How often will you be right?

# %% tags=["predict"]
guess = predict(
    "forward/picked",
    "Originals named correctly from x_T, for T = 200 with β from 0.0001 to 0.02",
    0,
    100,
    "%",
)


# %%
def named_correctly(schedule, t):
    """Share of images whose clean original, times √ᾱ_t, is the nearest one to x_t; mean of ten rounds."""
    generator, flat, right = lab.generator(6), images.flatten(1), 0.0
    root = schedule.alpha_bar[t].sqrt().item()
    for _ in range(10):
        x_t = root * flat + math.sqrt(1 - root**2) * torch.randn(
            flat.shape, generator=generator, device=lab.device
        )
        # ‖x_t − √ᾱ x_0‖² is least where this is largest; the differences of distances would drown in rounding
        likeness = x_t @ flat.T - root / 2 * flat.square().sum(1)
        right += (
            likeness.argmax(1) == torch.arange(len(flat), device=lab.device)
        ).double().mean().item() / 10
    return right


beta_of_1000 = torch.linspace(
    1e-4, 0.02, 200, dtype=torch.float64
)  # T = 200, and β as published for T = 1000
chains = {
    "T = 1,000, linear": Schedule.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)),
    "T = 200, same β": Schedule.from_betas(beta_of_1000),
    "T = 200, β × 5": Schedule.from_betas(beta_of_1000 * 1000 / 200),
    "T = 200, cosine": cosine_schedule(200),
}
found = {name: named_correctly(chain, chain.T) for name, chain in chains.items()}
short = chains["T = 200, same β"]
reveal("forward/picked", round(100 * found["T = 200, same β"]))


# %%
def nats_left(schedule):
    """KL(q(x_T|x_0) ‖ N(0, I)) in nats per image, by (2.4): what sampling from pure noise overlooks."""
    a = schedule.alpha_bar[-1]
    mean = a.sqrt() * images.flatten(1).double().cpu()
    return kl_to_standard_normal(mean, torch.log1p(-a).expand_as(mean)).mean().item()


print(f"{'':20s}{'ᾱ_T':>9s}{'√ᾱ_T':>8s}{'named correctly':>18s}{'KL to N(0, I)':>18s}")
for name, chain in chains.items():
    a = chain.alpha_bar[-1].item()
    print(f"{name:20s}{a:9.5f}{a**0.5:8.3f}{found[name]:17.1%} {nats_left(chain):12.3f} nats")
print(f"blind guessing: {1 / len(images):.1%}")

# %%
noise = torch.randn(eight.shape, generator=lab.generator(7), device=lab.device)
rows = {"x₀": eight}
for name, chain in chains.items():
    end = torch.full((8,), chain.T, device=lab.device)
    rows[name] = chain.to(lab.device).add_noise(eight, end, noise)
    if chain is short:  # the same x₀, noised 25 times: what the noise hides comes out
        ends = [chain.to(lab.device).add_noise(eight, end, normal_like(eight)) for _ in range(25)]
        rows[f"{name}, mean of 25 draws"] = torch.stack(ends).mean(0)
plots.image_rows(rows | {"pure noise": noise}, title=f"{test.title}: x_T, the end of four chains")

# %% [markdown]
# After 200 steps with the $\beta$ of a thousand, $\bar\alpha_T\approx0.13$ and $\sqrt{\bar\alpha_T}\approx0.36$: *more than a third of the amplitude is still there.* The eye is nearly fooled by a single draw; the mean of several draws from the same $x_0$ shows what is in there, and the game shows that it can be used.
# A network trained on such images learns that $x_T$ has an outline in it. Sampling then starts from pure noise, where there is none: a kind of image that it has never seen, and every later step inherits the damage. In nats: the KL column is the term $L_T$ of the variational bound (notebook 05), which everybody drops because it is "practically zero".
#
# **Two ways to mend it**, both in the table. Multiply $\beta$ by $1000/T$, so that fewer steps add as much each as more (it fails for $T<20$, where the last $\beta$ would pass 1). Or give the schedule as a curve and let $T$ be what it is, a number of stops; that is what the library does, for the linear schedule too:

# %%
for T_short in (10, 50, 200, 1000):
    as_published = Schedule.from_betas(torch.linspace(1e-4, 0.02, T_short, dtype=torch.float64))
    print(
        f"T = {T_short:5d}:  β as they are: ᾱ_T = {as_published.alpha_bar[-1]:.5f}    "
        f"linear_schedule({T_short}): ᾱ_T = {linear_schedule(T_short).alpha_bar[-1]:.5f}"
    )

# %% [markdown]
# ### {{heading forward/short-chain}}
# {{question forward/short-chain}}

# %% tags=["quiz"]
### BEGIN SOLUTION
short_chain = "c"
### END SOLUTION
### BEGIN HANDED OUT
# short_chain = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/short-chain", short_chain)

# %% [markdown]
# ## 3.7 · Nothing left at the end
#
# How small must $\bar\alpha_T$ be? In the game above, $4\cdot10^{-5}$ was as good as nothing. But the question is serious: a well-known text-to-image model was trained with the quadratic schedule from 0.00085 to 0.012, and Lin et al. (2024) noticed what remains at its end:

# %%
latent_model = quadratic_schedule(1000, 0.00085, 0.012)
left = latent_model.alpha_bar[-1].item()
print(f"ᾱ_T = {left:.4f}: {left**0.5:.1%} of the amplitude, SNR {left / (1 - left):.4f}")
black = torch.full((500, 1, 64, 64), -1.0)
noise = torch.randn(black.shape, generator=lab.generator(9, "cpu"))
brightness = {
    "x_T of an all-black image": latent_model.add_noise(black, torch.full((500,), 1000), noise),
    "pure noise": noise,
}
for name, drawn in brightness.items():
    means = drawn.mean(dim=(1, 2, 3))
    print(
        f"mean over 64 × 64 pixels of {name:26s} {means.mean():+.3f}, from draw to draw ± {means.std():.3f}"
    )

# %% [markdown]
# The average brightness of an image is an average over thousands of pixels, in which the noise cancels and the signal does not. So $x_T$ tells the network how bright the picture will be, several standard deviations beyond doubt. Pure noise tells it "medium", and according to that paper the model hardly ever made a very dark or a very bright picture.
#
# Their remedy: shift and stretch the signal rate so that it ends at 0 exactly, and leave the first step where it was:
#
# $$\sqrt{\bar\alpha_t^{\,\text{new}}}=\big(\sqrt{\bar\alpha_t}-\sqrt{\bar\alpha_T}\big)\cdot\frac{\sqrt{\bar\alpha_1}}{\sqrt{\bar\alpha_1}-\sqrt{\bar\alpha_T}}\qquad\text{for } t\ge1,\qquad \bar\alpha_0^{\,\text{new}}=1. \tag{3.7}$$
#
# ### {{heading forward/zero-terminal}}


# %% tags=["quiz"]
def rescale_to_zero(alpha_bar):
    """The table with √ᾱ shifted and stretched so that ᾱ_T = 0 while ᾱ_1 stays, equation (3.7).

    alpha_bar: (T + 1,), float64, beginning with 1, T at least 2.  Returns (T + 1,).
    """
    ### BEGIN SOLUTION
    root = alpha_bar.sqrt()
    rest = (root[1:] - root[-1]) * root[1] / (root[1] - root[-1])
    return torch.cat([root[:1], rest]) ** 2
    ### END SOLUTION


# %% tags=["check"]
rescale_to_zero = check("forward/zero-terminal", rescale_to_zero)

# %%
pairs = {"quadratic, 0.00085 to 0.012": latent_model.alpha_bar, "T = 200, same β": short.alpha_bar}
figure, axes = plots.new_figure(8, 3.6, columns=2, sharey=True)
for axis, (name, each) in zip(axes, pairs.items()):
    axis.plot(each.sqrt(), label="as it was")
    axis.plot(rescale_to_zero(each).sqrt(), label="rescaled (3.7)")
    axis.set(xlabel="step t", title=name)
axes[0].set_ylabel("signal rate √ᾱ")
axes[0].legend()
figure.set_label(
    "Signal rates of two schedules before and after rescaling: the rescaled ones end at 0"
)
figure

# %% [markdown]
# A small correction for the one, a rescue for the other: (3.7) is a third way to mend the short chain. It has a price. At $\mathrm{SNR}_T=0$ the image $x_T$ *is* the noise, so a network that predicts the noise can copy its input and learns nothing there; it has to predict $x_0$, or a mixture of both that is called $v$. Notebook 05 does that.

# %% [markdown]
# ## 3.8 · The way back, if the image were known
#
# Sampling will go from $x_t$ to $x_{t-1}$, against the direction in which the chain was defined. Bayes' rule turns it round. If the clean image $x_0$ were known,
#
# $$q(x_{t-1}\mid x_t,x_0)\;\propto\;\underbrace{q(x_t\mid x_{t-1})}_{\text{one step, (3.1)}}\;\underbrace{q(x_{t-1}\mid x_0)}_{\text{a jump, (3.4)}} ,$$
#
# (the first factor needs no $x_0$, because the chain is Markov). Both are Gaussians, and as functions of $x_{t-1}$ both exponents are quadratic. Add them and sort by powers of $x_{t-1}$:
#
# $$-\tfrac12\Big[\underbrace{\Big(\frac{\alpha_t}{\beta_t}+\frac1{1-\bar\alpha_{t-1}}\Big)}_{1/\tilde\beta_t}x_{t-1}^2
#    -2\Big(\frac{\sqrt{\alpha_t}}{\beta_t}x_t+\frac{\sqrt{\bar\alpha_{t-1}}}{1-\bar\alpha_{t-1}}x_0\Big)x_{t-1}+\dots\Big].$$
#
# Precisions (inverse variances) add. A quadratic exponent is a Gaussian: its variance is $\tilde\beta_t$, its mean is $\tilde\beta_t$ times the second bracket. On a common denominator the first bracket is
# $\frac{\alpha_t(1-\bar\alpha_{t-1})+\beta_t}{\beta_t(1-\bar\alpha_{t-1})}=\frac{1-\bar\alpha_t}{\beta_t(1-\bar\alpha_{t-1})}$, because $\alpha_t\bar\alpha_{t-1}=\bar\alpha_t$ and $\alpha_t+\beta_t=1$. Hence
#
# $$\begin{gathered}
# q(x_{t-1}\mid x_t,x_0)=\mathcal N\big(\tilde\mu_t,\tilde\beta_t I\big),\\[2pt]
# \tilde\mu_t=\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0+\frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t,\qquad
# \tilde\beta_t=\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t.
# \end{gathered} \tag{3.8}$$
#
# The mean is a compromise between what the clean image says and what the noisy one says. At $t=1$ it is $x_0$, with variance 0: step 0 *is* the clean image.
#
# ### {{heading forward/posterior}}
# Write (3.8) for a batch. $\alpha_t$ and $\beta_t$ are in the table, too: $\alpha_t=\bar\alpha_t/\bar\alpha_{t-1}$.


# %% tags=["quiz"]
def posterior(x0, x_t, t, alpha_bar):
    """Mean and variance of q(x_{t−1} | x_t, x_0), equation (3.8).

    x0, x_t: (b, c, h, w);  t: (b,) integers in 1..T;  alpha_bar: (T + 1,), float64.
    Returns (mean, var): mean like x0, var (b, 1, 1, 1), both in the dtype of x0.
    """
    ### BEGIN SOLUTION
    now, before = alpha_bar[t].view(-1, 1, 1, 1), alpha_bar[t - 1].view(-1, 1, 1, 1)
    alpha = now / before
    beta = 1 - alpha
    weight_0 = (before.sqrt() * beta / (1 - now)).to(x0.dtype)
    weight_t = (alpha.sqrt() * (1 - before) / (1 - now)).to(x0.dtype)
    var = ((1 - before) / (1 - now) * beta).to(x0.dtype)
    return weight_0 * x0 + weight_t * x_t, var
    ### END SOLUTION


# %% tags=["check"]
posterior = check("forward/posterior", posterior)

# %% [markdown]
# ### Does it hold?
# Bayes' rule needs no algebra if we have a computer: take a single pixel, put $x_{t-1}$ on a fine grid, multiply the two densities, divide by the sum. Whatever comes out *is* the posterior. If (3.8) had a wrong factor anywhere, the formula's curve would stand beside the grid's, or be wider or narrower;
# the printed differences would be around 0.01 or more, instead of rounding errors.


# %%
def normal(x, mean, var):
    return (-0.5 * (x - mean) ** 2 / var).exp() / math.sqrt(2 * math.pi * var)


grid = torch.linspace(-9, 9, 18_001, dtype=torch.float64)
pixel = {"x0": 0.7, "x_t": -0.4}
coarse = cosine_alpha_bar(10)  # large steps, so that the three curves differ
figure, axes = plots.new_figure(8, 3.6, columns=3, sharey=True)
largest = 0.0
for t in range(2, 11):
    now, before = coarse[t].item(), coarse[t - 1].item()
    alpha = now / before
    likelihood, prior = (
        normal(pixel["x_t"], alpha**0.5 * grid, 1 - alpha),
        normal(grid, before**0.5 * pixel["x0"], 1 - before),
    )
    density = likelihood * prior
    density = density / torch.trapezoid(density, grid)
    mean = torch.trapezoid(density * grid, grid)
    var = torch.trapezoid(density * (grid - mean) ** 2, grid)
    four = {
        name: torch.full((1, 1, 1, 1), value, dtype=torch.float64) for name, value in pixel.items()
    }
    formula_mean, formula_var = posterior(**four, t=torch.tensor([t]), alpha_bar=coarse)
    largest = max(largest, (mean - formula_mean).abs().item(), (var - formula_var).abs().item())
    if t in (2, 5, 9):
        axis = axes[(2, 5, 9).index(t)]
        axis.plot(grid, prior, color=plots.COLOURS[3], label="$q(x_{t-1}|x_0)$")
        axis.plot(
            grid,
            likelihood / torch.trapezoid(likelihood, grid),
            color=plots.COLOURS[1],
            label="$q(x_t|x_{t-1})$",
        )
        axis.plot(
            grid,
            density,
            color=plots.COLOURS[0],
            linewidth=4,
            alpha=0.6,
            label="product, on the grid",
        )
        axis.plot(
            grid,
            normal(grid, formula_mean.item(), formula_var.item()),
            "--",
            color="#222222",
            label="(3.8)",
        )
        axis.set(xlabel="$x_{t-1}$", title=f"t = {t} of 10", xlim=(-3, 3))
axes[0].set_ylabel("density")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
figure.set_label(
    "Posterior of one pixel at three steps: the product of the two densities on a grid, and the formula on top of it"
)
print(
    f"t = 2 ... 10: largest difference of mean or variance between grid and formula: {largest:.1e}"
)
figure

# %% [markdown]
# How much does it help to know $x_0$? Without it, $\beta_t$ would be all that one could say about the step; (3.8) multiplies it by $\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}<1$. Here is that factor.

# %%
ratio = {}
for name in ("linear", "cosine"):
    a = tables[name]
    ratio[name] = (range(1, T + 1), (1 - a[:-1]) / (1 - a[1:]))
plots.curves(
    ratio,
    log_x=True,
    mark={"1": (None, 1)},
    title="Knowing x₀ narrows the step back, but only close to the image",
    x_label="step t (logarithmic)",
    y_label="posterior variance ÷ $\\beta_t$",
)

# %% [markdown]
# ### And if it is not known?
# Then the step back is a mixture of (3.8) over all images that $x_0$ might be, and that is *not* a Gaussian. Is a diffusion model, which will use a Gaussian there, lost? Suppose that the data were just two values, $-1$ and $+1$, equally often. We are at $x_t=0.1$, where signal and noise are equal, and ask for $x_{t-1}$, once in a chain of 4 steps and once in a chain of 100.


# %%
def step_back(T, x_t, values=(-1.0, 1.0)):
    """Density of q(x_{t−1} | x_t) on the grid, for data of two values, where ᾱ is nearest to 1/2."""
    a = cosine_alpha_bar(T)
    t = int((a - 0.5).abs().argmin())
    now = a[t].item()
    share = torch.tensor([normal(torch.tensor(x_t), now**0.5 * v, 1 - now) for v in values])
    density, means = torch.zeros_like(grid), []
    for v, weight in zip(values, share / share.sum()):
        four = (torch.full((1, 1, 1, 1), each, dtype=torch.float64) for each in (v, x_t))
        mean, var = posterior(*four, torch.tensor([t]), a)
        density += weight * normal(grid, mean.item(), var.item())
        means.append(mean.item())
    return t, density, abs(means[1] - means[0]) / var.sqrt().item()


figure, axes = plots.new_figure(8, 3.5, columns=2)
for axis, chain in zip(axes, (4, 100)):
    t, density, apart = step_back(chain, 0.1)
    mean = torch.trapezoid(density * grid, grid)
    var = torch.trapezoid(density * (grid - mean) ** 2, grid).item()
    print(f"T = {chain:3d}: the two answers of (3.8) lie {apart:.1f} standard deviations apart")
    axis.plot(grid, density, label="$q(x_{t-1}|x_t)$")
    axis.plot(grid, normal(grid, mean, var), "--", color="#222222", label="a Gaussian")
    width = 5 * math.sqrt(var)
    axis.set(
        xlabel="$x_{t-1}$",
        ylabel="density",
        title=f"T = {chain}, t = {t}",
        xlim=(mean - width, mean + width),
        ylim=(0, 1.35 * density.max()),
    )
    axis.legend(loc="upper right", ncols=2, fontsize=11, columnspacing=1)
figure.set_label(
    "Density of the step back when x₀ is unknown, with a Gaussian of the same mean and variance: unlike for T = 4, alike for T = 100"
)
figure

# %% [markdown]
# The long stride has to decide between two futures, and a Gaussian can't say "either". In a small step the two answers of (3.8) all but coincide, compared with the width, and the mixture is Gaussian again. This is why diffusion uses many small steps
# (Sohl-Dickstein et al. 2015 build on this fact): not to add the noise slowly, but to make *each step back* simple. All that is missing for it is a guess of the mean, and by (3.8) that means a guess of $x_0$.
#
# ### {{heading forward/posterior-needs}}
# {{question forward/posterior-needs}}

# %% tags=["quiz"]
### BEGIN SOLUTION
posterior_needs = "b"
### END SOLUTION
### BEGIN HANDED OUT
# posterior_needs = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/posterior-needs", posterior_needs)

# %% [markdown]
# ## 3.9 · The score: which way is the data?
#
# There is a second road to the way back. The **score** of a density is the gradient of its logarithm, $\nabla_x\ln q(x)$: at every point, an arrow uphill. For one known $x_0$, (3.4) is a Gaussian, and its score is
#
# $$\nabla_{x_t}\ln q(x_t\mid x_0)=-\frac{x_t-\sqrt{\bar\alpha_t}\,x_0}{1-\bar\alpha_t}=-\frac{\varepsilon}{\sqrt{1-\bar\alpha_t}} .$$
#
# Up to a factor it is *minus the noise*. Whoever knows the noise knows the way uphill. For the density of all noised images together, $q(x_t)=\int q(x_t\mid x_0)\,q(x_0)\,dx_0$, differentiate under the integral and use $\nabla q=q\,\nabla\ln q$:
#
# $$\nabla\ln q(x_t)=\frac1{q(x_t)}\int q(x_t\mid x_0)\,q(x_0)\,\nabla\ln q(x_t\mid x_0)\,dx_0=\mathbb E\big[\nabla\ln q(x_t\mid x_0)\,\big|\,x_t\big].$$
#
# The score of the mixture is the *average* score, over all $x_0$ that could have led here. Put the Gaussian's score in, and solve for the average of $x_0$:
#
# $$\nabla\ln q(x_t)=-\frac{\mathbb E[\varepsilon\mid x_t]}{\sqrt{1-\bar\alpha_t}}
#   \qquad\Longleftrightarrow\qquad
#   \mathbb E[x_0\mid x_t]=\frac{x_t+(1-\bar\alpha_t)\,\nabla\ln q(x_t)}{\sqrt{\bar\alpha_t}} . \tag{3.9}$$
#
# The right half is **Tweedie's formula** (Robbins 1956 credits M. C. K. Tweedie; Efron 2011 tells its story). $\mathbb E[x_0\mid x_t]$ is the guess with the least possible squared error: no denoiser beats it. And it needs only the score. Best denoiser, expected noise, score: **three names for one function.** Learn any of them and you have all.
#
# ### Does it hold?
# The data are 300 numbers from a bumpy distribution, $q(x_t)$ is then a mixture of 300 Gaussians. Its score is taken by automatic differentiation, which knows nothing of (3.9); the mean of $x_0$ is taken by weighing the 300 numbers with Bayes' rule, which knows nothing of gradients. If Tweedie were wrong, the dashed curve would leave the other.

# %%
cpu_generator = lab.generator(8, "cpu")
numbers = torch.cat(
    [
        0.25 * torch.randn(200, generator=cpu_generator) - 0.9,
        0.12 * torch.randn(100, generator=cpu_generator) + 0.8,
    ]
).double()
figure, axes = plots.new_figure(8, 3.6, columns=3, sharey=True)
tweedie_gap = 0.0
for axis, a in zip(axes, (0.95, 0.6, 0.1)):
    x_t = torch.linspace(-2.5, 2.5, 400, dtype=torch.float64, requires_grad=True)
    log_each = (
        -0.5 * (x_t[:, None] - a**0.5 * numbers) ** 2 / (1 - a)
    )  # ln q(x_t | x_0), up to a constant
    (score,) = torch.autograd.grad(log_each.logsumexp(1).sum(), x_t)
    by_tweedie = (x_t + (1 - a) * score) / a**0.5
    by_bayes = log_each.softmax(1) @ numbers
    tweedie_gap = max(tweedie_gap, (by_tweedie - by_bayes).abs().max().item())
    axis.plot(
        x_t.detach(), by_bayes.detach(), linewidth=4, alpha=0.6, label="mean of x₀, by Bayes' rule"
    )
    axis.plot(
        x_t.detach(),
        by_tweedie.detach(),
        "--",
        color="#222222",
        label="Tweedie (3.9), from the score",
    )
    axis.set(xlabel="$x_t$", title=f"ᾱ = {a}")
axes[0].set_ylabel("best guess of $x_0$")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
figure.set_label(
    "Best guess of x₀ against x_t at three noise levels: by Bayes' rule and by Tweedie's formula, on each other"
)
print(f"largest difference: {tweedie_gap:.1e}")
figure

# %% [markdown]
# With little noise the guess is nearly $x_t$ itself, straightened towards the two bumps. With much noise it hardly listens to $x_t$ any more and answers with something near the mean of all data. A blurred answer, for the same reason as in the VAE: it is the mean of everything that is still possible.

# %% [markdown]
# ### {{heading forward/score-far}}
# {{question forward/score-far}}

# %% tags=["quiz"]
### BEGIN SOLUTION
score_far = "a"
### END SOLUTION
### BEGIN HANDED OUT
# score_far = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/score-far", score_far)

# %% [markdown]
# ## 3.10 · A laboratory with exact scores
#
# For images nobody knows the score; that is what networks are for. But there is a family of data for which it is known exactly, at every $t$: mixtures of Gaussians. Shrinking and shaking a Gaussian gives a Gaussian, so a mixture stays a mixture:
#
# $$q(x_0)=\sum_k w_k\,\mathcal N\big(m_k,s_k^2 I\big)\quad\Longrightarrow\quad q(x_t)=\sum_k w_k\,\mathcal N\big(\sqrt{\bar\alpha_t}\,m_k,\;v_k I\big),\quad v_k=\bar\alpha_t s_k^2+1-\bar\alpha_t,$$
# $$\nabla\ln q(x_t)=\sum_k r_k(x_t)\,\frac{\sqrt{\bar\alpha_t}\,m_k-x_t}{v_k},\qquad r_k(x)=\frac{w_k\,\mathcal N(x;\sqrt{\bar\alpha_t}\,m_k,v_k I)}{\sum_j w_j\,\mathcal N(x;\sqrt{\bar\alpha_t}\,m_j,v_j I)} . \tag{3.10}$$
#
# Each blob pulls the point towards its own centre, the tighter the stronger, and the pulls are weighed by the **responsibilities** $r_k$: the probability that this point came from blob $k$.
# Such a laboratory is worth a lot. A sampler that fails there is wrong; a network can't be blamed. We come back to it in notebook 06.
#
# ### {{heading forward/mixture-score}}
# Write the score in (3.10). Careful with points far from all blobs: there every density is 0 to the computer, and $0/0$ is no number. Stay with logarithms as long as you can.


# %% tags=["quiz"]
def mixture_score(x, alpha_bar, means, stds, weights):
    """∇ ln q(x_t) at points x for data from a Gaussian mixture, equation (3.10).

    x: (n, d);  alpha_bar: a number in (0, 1], ᾱ_t;
    means: (k, d);  stds: (k,), s_k;  weights: (k,), adding up to 1.
    Returns (n, d), finite also where x is far from all blobs.
    """
    ### BEGIN SOLUTION
    centres = alpha_bar**0.5 * means
    variances = alpha_bar * stds**2 + 1 - alpha_bar
    offsets = centres - x[:, None]  # (n, k, d)
    log_joint = (
        weights.log()
        - x.shape[1] / 2 * variances.log()
        - offsets.square().sum(-1) / (2 * variances)
    )
    responsibilities = log_joint.softmax(dim=1)  # (n, k)
    return (responsibilities[..., None] * offsets / variances[:, None]).sum(dim=1)
    ### END SOLUTION


# %% tags=["check"]
mixture_score = check("forward/mixture-score", mixture_score)

# %% [markdown]
# ### See it
# Five blobs on a circle, one of them twice as heavy as the others. Arrows show the score (their drawn length is the square root of the true one, or only the longest could be seen), the shade is the density $q(x_t)$.

# %%
ring = GaussianMixture.ring(5, radius=1.4, std=0.15)
blobs = GaussianMixture(ring.means.double(), 0.15, torch.tensor([2.0, 1, 1, 1, 1]))
extent, fine, rough = (-2.6, 2.6, -2.6, 2.6), 80, 15


def centres_of_cells(n):
    edge = -2.6 + 5.2 * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.stack(
        torch.meshgrid(edge, edge, indexing="xy"), -1
    )  # (n, n, 2), row 0 at the bottom


def score_of_blobs(x, a):
    return mixture_score(x, a, blobs.means, blobs.stds[:, 0], blobs.weights)


def score_and_density(a):
    arrows = score_of_blobs(centres_of_cells(rough).view(-1, 2), a)
    density = blobs.diffused(a).log_prob(centres_of_cells(fine).view(-1, 2)).exp()
    return arrows.view(rough, rough, 2), density.view(fine, fine)


panels, shades = {}, {}
for t in (20, 200, 350, 500, 700, 950):
    a = cosine_schedule(T).alpha_bar[t].item()
    arrows, density = score_and_density(a)
    name = f"t = {t}, ᾱ = {a:.3f}"
    print(f"{name}: longest arrow {arrows.norm(dim=-1).max():.1f}")
    panels[name], shades[name] = arrows, density
plots.fields(
    panels,
    extent,
    density=shades,
    title="The score, cosine schedule: each blob for itself, then one for all",
)

# %%
points = torch.randn(500, 2, generator=cpu_generator, dtype=torch.float64).mul(1.5).requires_grad_()
score_gap = 0.0
for a in (0.999, 0.5, 0.01):
    (slope,) = torch.autograd.grad(blobs.diffused(a).log_prob(points).sum(), points)
    exact = score_of_blobs(points, a)
    score_gap = max(score_gap, ((slope - exact).norm(dim=1) / slope.norm(dim=1)).max().item())
print(
    f"(3.10) against automatic differentiation, 500 points at three noise levels: "
    f"relative difference at most {score_gap:.1e}"
)

# %% [markdown]
# Read the panels backwards, from right to left, and you see what sampling will do. At first there is one big hill and every arrow points to the middle: a step there says nothing about *which* blob it will be. Further down the hill splits, and from then on the arrows on the two sides of a ridge disagree.
# So there must be a time before which nothing is decided, and a time after which everything is. **When is it decided to which blob a point belongs?** A static picture shows the field at a few steps; here you can follow one point. Place it, and walk $t$ down from 1,000: watch the bars, and the cross, which is the best guess (3.9).


# %%
def responsibilities(x, a):
    """r_k(x) of (3.10) for points x (n, 2): (n, 5)."""
    diffused = blobs.diffused(a)
    variances = diffused.stds[:, 0] ** 2
    distances = (x[:, None] - diffused.means).square().sum(-1)
    return (diffused.weights.log() - variances.log() - distances / (2 * variances)).softmax(1)


def follow(t, x, y, schedule):
    a = min(tables[schedule][t].item(), 1 - 1e-6)
    place = torch.tensor([[x, y]], dtype=torch.float64)
    arrows, density = score_and_density(a)
    best = (place + (1 - a) * score_of_blobs(place, a)) / a**0.5
    figure, axes = plots.new_figure(8, 4.5, columns=2, width_ratios=(1.5, 1))
    plots.draw_field(axes[0], arrows, extent, density=density, title=f"t = {t}, ᾱ = {a:.3g}")
    for k, centre in enumerate((a**0.5 * blobs.means).tolist()):
        axes[0].text(
            *centre,
            k + 1,
            ha="center",
            va="center",
            bbox={"boxstyle": "circle", "fc": "white", "alpha": 0.9},
        )
    axes[0].plot(
        x, y, "D", color=plots.COLOURS[2], markeredgecolor="white", markersize=11, label="$x_t$"
    )
    best_look = {
        "color": plots.COLOURS[1],
        "markeredgecolor": "#222222",
        "markersize": 14,
        "linestyle": "none",
    }
    axes[0].plot(*best[0].tolist(), marker="X", label="best guess of $x_0$", **best_look)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    axes[1].bar(range(1, 6), responsibilities(place, a)[0])
    axes[1].set(
        ylim=(0, 1.05), xlabel="blob", ylabel="responsibility", title="Whose is this point?"
    )
    axes[1].grid(False, axis="x")
    return figure


explore(
    follow,
    t=slider(0, T, value=600, step=10, label="t"),
    x=slider(-2.4, 2.4, value=-0.4, step=0.1, label="x"),
    y=slider(-2.4, 2.4, value=1.6, step=0.1, label="y"),
    schedule=choice(list(tables), value="cosine", label="schedule"),
    title="When is it decided to which blob a point belongs?",
    alt="Score field of a diffused mixture of five blobs with a movable point and its best guess of x₀, and bars of the blobs' responsibilities.",
)

# %% [markdown]
# The bars wake up late: for the largest $t$ they simply repeat the weights of the blobs, wherever the point lies, and the cross rests near the mean of all data. Then, within a rather short stretch of $t$, one bar takes all. With the linear schedule that stretch lies at much smaller $t$, at the same SNR.
# The next cell measures it for points of the data: draw $x_0$, noise it, and ask how well $x_t$ still tells the blob. The curves belong to four schedules; drawn over $\ln\mathrm{SNR}$ they fall on each other.

# %%
many, truth = blobs.labelled(lab.pick(smoke=1000, cpu=4000, gpu=4000), cpu_generator)
noise = torch.randn(many.shape, generator=cpu_generator, dtype=many.dtype)
told = {}
for name, each in tables.items():
    told[name] = []
    for t in range(20, T + 1, 20):
        a = each[t].item()
        x_t = a**0.5 * many + (1 - a) ** 0.5 * noise
        told[name].append((responsibilities(x_t, a).argmax(1) == truth).double().mean().item())
figure, axes = plots.new_figure(8, 3.6, columns=2, sharey=True)
times = torch.arange(20, T + 1, 20)
for name, share in told.items():
    axes[0].plot(times, share, label=name)
    inside = log_snr(tables[name])[times] > -10
    axes[1].plot(log_snr(tables[name])[times][inside], torch.tensor(share)[inside])
for axis in axes:
    axis.axhline((truth == 0).double().mean(), color="#222222", linestyle="--", linewidth=1.4)
axes[0].set(xlabel="step t", ylabel="blob told correctly", title="By step")
axes[1].set(xlabel="ln SNR (noise to the left)", title="By signal-to-noise ratio")
axes[0].legend()
figure.set_label(
    "Share of points whose blob is told correctly from x_t: four different curves against t, one curve against ln SNR; dashed: always naming the heaviest blob"
)
figure

# %% [markdown]
# "What is it?" is decided in a narrow window of noise levels, and "what exactly does it look like?" after it. A schedule that hurries through that window leaves the network few steps for the decision; one that lingers elsewhere wastes them. That is all a schedule can do, and it is a lot.

# %% [markdown]
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {test.title}, {len(test):,} images\n")
print(
    f"3.3  signal rate half-way through the linear schedule: {half_way:.3f}; below 1/2 from t = {below_half}"
)
print(f"     walked against jumped, {n:,} pixels: largest gap {largest_gap:.1f} standard errors")
print(f"     noise scaled by 1 − ᾱ: variance {mistaken[lowest]:.2f} instead of 1 at t = {lowest}")
for name, each in tables.items():
    print(
        f"3.5  {name:10s} ᾱ_T = {each[-1]:.1e}, SNR below 0.01 for {(log_snr(each)[1:] < math.log(0.01)).double().mean():.0%} of the steps"
    )
for name, chain in chains.items():
    print(
        f"3.6  {name:18s} ᾱ_T = {chain.alpha_bar[-1]:.5f}, originals named correctly {found[name]:.1%}"
    )
print(
    f"3.7  quadratic 0.00085 to 0.012: {left**0.5:.1%} of the amplitude left; rescaled: {rescale_to_zero(latent_model.alpha_bar)[-1]:.0%}"
)
print(f"3.8  posterior, formula against Bayes' rule on a grid: {largest:.0e}")
print(f"3.9  Tweedie against Bayes' rule: {tweedie_gap:.0e}")
print(f"3.10 mixture score against automatic differentiation: {score_gap:.0e}")

# %% [markdown]
# **What to take along.** The way there is chosen, not learned, and everything about it is known: one jump to any step (3.4), the step back if $x_0$ were known (3.8), and the score as the best denoiser in other words (3.9).
# What is *not* known is $\mathbb E[x_0\mid x_t]$ for images. That one function is what the U-Net of notebook 04 is for, and notebook 05 teaches it.
#
# ## Go further *(ungraded)*
# 1. **Your own schedule.** Design a curve for which $\ln\mathrm{SNR}$ falls along a straight line from 9 to −9. Wrap it in `Schedule(alpha_bar)`; what must you do at $t=0$? Put it into the explorer of 3.5.
# 2. **Larger pictures are less noisy.** Enlarge the images to 56 × 56 by repeating pixels, noise them at the same SNR, and average blocks of 2 × 2. By what factor has the SNR of the small picture grown? What does that mean for a schedule when the resolution goes up?
# 3. **Another way to destroy.** Replace the noise in (3.1) by draws that are $+1$ or $-1$. After how many steps can you no longer tell? Which step of the derivation in 3.3 breaks, and which theorem saves the result?
# 4. **Skip steps.** Derive $q(x_s\mid x_t,x_0)$ for any $s<t$, and check your formula with `Schedule.posterior(x0, x_t, t, s)`. Samplers with few steps live from it.
# 5. **A score by hand.** Take ten images of the data set as the whole world. $q(x_t)$ is then a mixture of ten Gaussians with $s_k=0$. Use (3.9) as a denoiser on a noised image of an eleventh. What does it answer, and what does that say about a network that has learned its training set by heart?
#
# ## References
# * J. Sohl-Dickstein, E. A. Weiss, N. Maheswaranathan, S. Ganguli, *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, ICML 2015. arXiv:1503.03585
# * J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, NeurIPS 2020. arXiv:2006.11239
# * A. Nichol, P. Dhariwal, *Improved Denoising Diffusion Probabilistic Models*, ICML 2021. arXiv:2102.09672
# * D. P. Kingma, T. Salimans, B. Poole, J. Ho, *Variational Diffusion Models*, NeurIPS 2021. arXiv:2107.00630
# * Y. Song et al., *Score-Based Generative Modeling through Stochastic Differential Equations*, ICLR 2021. arXiv:2011.13456
# * S. Lin, B. Liu, J. Li, X. Yang, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, WACV 2024. arXiv:2305.08891
# * H. Robbins, *An Empirical Bayes Approach to Statistics*, Third Berkeley Symposium, 1956
# * B. Efron, *Tweedie's Formula and Selection Bias*, Journal of the American Statistical Association 106, 2011
