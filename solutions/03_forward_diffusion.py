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
# The VAE learned both directions, from image to code and back. Diffusion makes a bargain: the *forward* direction is not learned at all. It adds noise, a little at a time,
# until nothing is left, and since we chose every step of it, we know everything about it in closed form. All the learning goes into the way back (notebooks 04 and 05).
# This notebook trains nothing. You write the forward process and everything that follows from it, because most bugs in diffusion code are bugs in these few formulas.
# At the end your functions join in one loop that turns noise into data.
#
# **What you will be able to do**
# * write the forward process as a chain of small steps and as one jump, derive one from the other, and test the derivation so that it could fail;
# * read a noise schedule as a curve $\bar\alpha$, as a signal-to-noise ratio and as a number of steps, and keep the three apart;
# * find and fix mistakes from tutorials, one in your own code;
# * derive the posterior $q(x_{t-1}\mid x_t, x_0)$ and check it against Bayes' rule on a grid;
# * say what a score is, turn it into the best possible denoiser, and compute it exactly for a Gaussian mixture.
#
# **Before you start:** Gaussians, variances and Bayes' rule, as in notebook 02; equation (1.9) of notebook 01 comes back once.
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
from course_utils.diffusion import Schedule
from course_utils.explore import choice, explore, slider
from course_utils.pitfalls import forward as pitfalls
from classroom import ask, check, predict, reveal

lab = setup("03")
generator, T = lab.generator(0), 1000

# %%
test = load(lab.data, "test", device=lab.device, fallback="digits").first(lab.pick(smoke=300, cpu=1000, gpu=1000))
images, eight = test.x, test.x[:8]


def normal(*shape):
    return torch.randn(shape, generator=generator, device=lab.device)


def on_device(table):  # where the images are; in single precision on devices that have no other
    return table.to(lab.device, torch.float32 if lab.device.type == "mps" else table.dtype)


print(f"{test.title}: {len(test):,} images {test.shape}; a pixel has mean {images.mean():.2f} and variance {images.var():.2f}")

# %% [markdown]
# ## 3.1 · One step: shrink, then shake
#
# How would you turn an image into pure noise in many small steps? The obvious way is to keep adding noise. Then the image is never *gone*; it is only drowned, and a network would have to cope with inputs of every size.
#
# So each step first shrinks what is there, just enough to make room for the noise that it adds:
#
# $$\begin{gathered}
# q(x_t\mid x_{t-1}) = \mathcal N\big(\sqrt{\alpha_t}\;x_{t-1},\;\beta_t I\big),\qquad \alpha_t = 1-\beta_t,\\[2pt]
# \text{that is}\qquad x_t = \sqrt{\alpha_t}\;x_{t-1} + \sqrt{\beta_t}\;\varepsilon_t,\qquad \varepsilon_t\sim\mathcal N(0,I).
# \end{gathered} \tag{3.1}$$
#
# Watch the roots: $\beta_t$ is a *variance*, so the noise is multiplied by $\sqrt{\beta_t}$. The chain is **Markov**: to draw $x_t$ one needs $x_{t-1}$ and nothing older.
#
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
# ### {{heading forward/walk}}
# Take all $T$ steps of (3.1), one after another, and keep every image on the way. The noise is handed in, so that the result can be checked.


# %% tags=["quiz"]
def walk(x0, beta, noise):
    """x_0, x_1, ..., x_T of the chain, equation (3.1).

    x0: (b, c, h, w);  beta: (T,), β_1 to β_T;  noise: (T, b, c, h, w), ε_1 to ε_T.
    Returns (T + 1, b, c, h, w), beginning with x0, in its dtype.
    """
    ### BEGIN SOLUTION
    states = [x0]
    for b, e in zip(beta.to(x0.dtype), noise):
        states.append((1 - b).sqrt() * states[-1] + b.sqrt() * e)
    return torch.stack(states)
    ### END SOLUTION


# %% tags=["check"]
walk = check("forward/walk", walk)

# %% [markdown]
# The lecture's sentence, put to the test: one step of your chain from the same images, with the same noise, for three values of $\alpha$.

# %%
noise = normal(1, *eight.shape)
rows = {f"α = {1 - b:g}, β = {b:g}": walk(eight, torch.tensor([b]), noise)[1] for b in (0.01, 0.3, 0.9)}
plots.image_rows({"x₀": eight} | rows, title=f"{test.title}: one step of (3.1)")

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

# %%
some, noise = images[:30], normal(400, *images[:30].shape)
walks = {"shrink, then shake (3.1)": walk(some, torch.full((400,), 0.01), noise)}
walks["only add noise"] = torch.cat([some[None], some + 0.1 * noise.cumsum(0)])
plots.curves(
    {name: (range(401), x.flatten(1).var(1)) for name, x in walks.items()},
    title="Shrinking makes room: the variance settles at 1 instead of growing",
    x_label="steps taken, β = 0.01 each", y_label="variance of a pixel", mark={"1": (None, 1)},
)

# %% [markdown]
# A pixel of variance $v$ has variance $\alpha_t v+\beta_t$ after the step. Our pixels don't start at 1, but their distance to 1 is multiplied by $\alpha_t$ in every step, so it dies out.
#
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
# One function for all three. Nothing depends on $T$ but $u$.


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

# %% [markdown]
# Your chain with your linear schedule: 1,000 single steps, every hundredth shown.

# %%
some, times = images[:3], range(0, T + 1, 100)
walked = walk(some, on_device(step_variances("linear", T)), normal(T, *some.shape))
plots.image_rows(
    {f"{i + 1}: {test.classes[test.labels[i]]}": walked[::100, i] for i in range(len(some))},
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
# The linear schedule as a table. It has $T+1$ entries, because $\bar\alpha_0=1$, the clean image, is one of them: then `alpha_bar[t]` is $\bar\alpha_t$, and no step needs special care. Your `step_variances` may help.


# %% tags=["quiz"]
def linear_alpha_bar(T, beta_min=1e-4, beta_max=0.02):
    """ᾱ_0, ..., ᾱ_T for β on a straight line from beta_min to beta_max, equations (3.2) and (3.3).

    T: number of steps, at least 2.  Returns (T + 1,), float64, beginning with 1.
    """
    ### BEGIN SOLUTION
    beta = step_variances("linear", T, beta_min, beta_max)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])
    ### END SOLUTION


# %% tags=["check"]
linear_alpha_bar = check("forward/alpha-bar", linear_alpha_bar)

# %% [markdown]
# **Predict, then run.** The linear schedule, $T=1000$. What fraction of the image's *amplitude*, $\sqrt{\bar\alpha_t}$, is left half-way, at $t=500$? Commit to a number first.

# %% tags=["predict"]
guess = predict("forward/half-way", "Signal rate √ᾱ at t = 500 of 1,000, linear schedule", 0.0, 1.0)

# %%
alpha_bar = linear_alpha_bar(T)
half_way, below = alpha_bar[500].sqrt().item(), [int((alpha_bar.sqrt() > share).sum()) for share in (0.5, 0.1)]
reveal("forward/half-way", round(half_way, 3))
print("the signal rate falls below a half at t = {}, and below a tenth at t = {}".format(*below))
plots.curves(
    {"signal rate √ᾱ": (range(T + 1), alpha_bar.sqrt()), "noise rate √(1 − ᾱ)": (range(T + 1), (1 - alpha_bar).sqrt())},
    title="Most of the signal is gone before the middle",
    x_label="step t", y_label="factor in (3.4)", mark={f"half-way: {half_way:.2f}": (500, half_way)},
)

# %% [markdown]
# The signal crosses a half long before the middle, and for the last third of the walk less than a tenth of it is left. Remember this when we meet the cosine schedule.
#
# ### {{heading forward/add-noise}}
# Equation (3.4) for a batch. Every image has a `t` of its own.


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
# A derivation can be wrong and still look right, so we try to break it. Pixels of value 0.8 take your walk one step at a time, and as many others jump with your `add_noise`. A Gaussian is known by its mean and its variance.
# If (3.4) is right, the dots lie on the curves but for chance (neighbouring dots err together, for they are stops of one walk), and every gap stays within about 4 standard errors (of forty comparisons the largest is often between 2 and 3). If a factor were wrong, it would be tens of standard errors.

# %%
n, at = lab.pick(smoke=2000, cpu=5000, gpu=20_000), range(50, T + 1, 50)
start, table = torch.full((n, 1, 1, 1), 0.8, device=lab.device), on_device(alpha_bar)
walked = walk(start, on_device(step_variances("linear", T)), normal(T, *start.shape))[50::50].flatten(1).double()
jumps = [add_noise(start, torch.full((n,), t, device=lab.device), normal(*start.shape), table) for t in at]
jumped = torch.stack(jumps).flatten(1).double()
spread = jumped.var(1)
gaps = [(walked.mean(1) - jumped.mean(1)) / (2 * spread / n).sqrt(), (walked.var(1) - spread) / (2 * spread / n**0.5)]
largest_gap = torch.stack(gaps).abs().max().item()
print(f"{n:,} pixels each, {2 * len(at)} comparisons: largest gap {largest_gap:.1f} standard errors")
by_mean = {"one jump (3.4)": (at, jumped.mean(1)), "t steps of (3.1)": (at, walked.mean(1))}
by_variance = {"one jump (3.4)": (at, spread), "t steps of (3.1)": (at, walked.var(1))}
plots.curve_panels(
    {"mean of a pixel": by_mean, "variance of a pixel": by_variance}, points=["t steps of (3.1)"],
    title="From x₀ = 0.8: single steps and one jump end in the same Gaussian", x_label="step t", y_label="value",
)

# %% [markdown]
# ### Somebody else's noise *(extra)*
# #### {{heading forward/published-noise}}
# The function in the next answer cell is somebody else's, with a mistake as it is found in tutorials (`course_utils.pitfalls` holds such code). It runs, its pictures look noisy, and a network trained with it even learns something. But give it pixels of variance 1:

# %%
pixels, grain = normal(2, 20_000, 1, 1, 1)


def variances(title, makers):
    steps = {t: torch.full((len(pixels),), t, device=lab.device) for t in range(0, T + 1, 25)}
    seen = {}
    for name, f in makers.items():
        seen[name] = list(steps), [f(pixels, t, grain, on_device(alpha_bar)).var() for t in steps.values()]
    return plots.curves(seen, title=title, x_label="step t, linear schedule", y_label="variance of $x_t$, if $x_0$ has 1")


variances("Right at both ends. And between them?", {"your add_noise": add_noise, "somebody else's": pitfalls.noise_images})

# %% [markdown]
# Find what makes the curve sag, and fix it.


# %% tags=["quiz"]
def published_noise(x0, t, noise, alpha_bar):
    """x_t, as somebody else wrote it. Arguments and result as in add_noise, equation (3.4)."""
    if x0.shape != noise.shape:
        raise ValueError(f"expected noise like the images, {tuple(x0.shape)}, got {tuple(noise.shape)}")
    if t.shape != x0.shape[:1]:
        raise ValueError(f"expected one step for each image, ({len(x0)},), got {tuple(t.shape)}")
    kept = alpha_bar[t]
    added = 1 - kept
    for_each_image = (len(x0),) + (1,) * (x0.ndim - 1)
    signal_rate = kept.sqrt().reshape(for_each_image)
    ### BEGIN SOLUTION
    noise_rate = added.sqrt().reshape(for_each_image)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # noise_rate = added.reshape(for_each_image)
    ### END HANDED OUT
    signal = signal_rate.to(x0.dtype) * x0
    disturbance = noise_rate.to(x0.dtype) * noise
    return signal + disturbance


# %% tags=["check"]
published_noise = check("forward/published-noise", published_noise)

# %%
variances("Before and after", {"as it was found": pitfalls.noise_images, "repaired": published_noise})

# %% [markdown]
# #### {{heading forward/noise-harm}}
# {{question forward/noise-harm}}

# %% tags=["quiz"]
### BEGIN SOLUTION
noise_harm = "d"
### END SOLUTION
### BEGIN HANDED OUT
# noise_harm = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/noise-harm", noise_harm)

# %% [markdown]
# ### Somebody else's pairs *(extra)*
# #### {{heading forward/pairs}}
# A network will be shown $x_t$ and asked for $\varepsilon$. Somebody's function prepares such pairs, for hours of training. The upper row is what the network should be shown at four steps, the lower row what it *is* shown:

# %%
boots, their_noise = images[:1].expand(4, -1, -1, -1), normal(4, *test.shape)


def diet(title, pair):
    given = boots, torch.tensor([1, 100, 300, 900], device=lab.device), their_noise, on_device(alpha_bar)
    rows = {"your add_noise": add_noise(*given), "shown to the network": pair(*given)[0]}
    return plots.image_rows(rows, labels=[f"t = {t}" for t in given[1].tolist()], title=title)


diet("A strange diet", pitfalls.training_pair)


# %% tags=["quiz"]
def training_pair(x0, t, noise, alpha_bar):
    """(noisy images, noise): what the network is shown, and what it should answer.

    Arguments as in add_noise; both results are like x0.
    """

    def rates(t):
        kept = alpha_bar[t].to(x0.dtype).view(-1, 1, 1, 1)
        return kept.sqrt(), (1 - kept).sqrt()

    def forward(x, t):
        """The noise, and the images with it."""
        signal_rate, noise_rate = rates(t)
        noisy = signal_rate * x + noise_rate * noise
        return noise, noisy

    ### BEGIN SOLUTION
    target, noisy = forward(x0, t)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # noisy, target = forward(x0, t)
    ### END HANDED OUT
    assert noisy.shape == target.shape == x0.shape
    assert noisy.dtype == target.dtype == x0.dtype
    return noisy, target


# %% tags=["check"]
training_pair = check("forward/pairs", training_pair)

# %%
diet("The diet after the repair", training_pair)

# %% [markdown]
# #### {{heading forward/pairs-harm}}
# {{question forward/pairs-harm}}

# %% tags=["quiz"]
### BEGIN SOLUTION
pairs_harm = "c"
### END SOLUTION
### BEGIN HANDED OUT
# pairs_harm = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/pairs-harm", pairs_harm)

# %% [markdown]
# The loss of the best answer to the exchanged pairs, without any training, beside the loss of answering "no noise at all" to the right ones. A loss that starts low and falls quickly is no proof of anything.

# %%
t, noise = torch.randint(1, T + 1, (len(images),), generator=generator, device=lab.device), normal(*images.shape)
missed = add_noise(images.mean(0, keepdim=True) - images, t, torch.zeros_like(noise), table)  # √ᾱ times (mean − image)
print(f"exchanged pairs: {missed.square().mean():.3f} per pixel; right pairs: {noise.square().mean():.3f}")

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
# From the curve $f$ to $\beta$, each limited, and from $\beta$ to the table by (3.3).


# %% tags=["quiz"]
def cosine_alpha_bar(T, s=0.008, max_beta=0.999):
    """ᾱ_0, ..., ᾱ_T of the cosine schedule, equation (3.5).

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
tables = {"cosine": cosine_alpha_bar(T), "linear": alpha_bar}
for kind in ("quadratic", "sigmoid"):
    tables[kind] = torch.cat([torch.ones(1).double(), (1 - step_variances(kind, T)).cumprod(0)])
colours = dict(zip(tables, (plots.COLOURS[k] for k in (0, 1, 2, 4))))
place = torch.arange(T + 1) / T
betas = {name: (place[1:], (1 - a[1:] / a[:-1]).where(a[1:] > 0.97 * a[:-1], torch.nan)) for name, a in tables.items()}
left = {name: (place, a) for name, a in tables.items()}
plots.curve_panels(
    {"β, up to 0.03 (the cosine's ends at 0.999)": betas, "ᾱ, share of signal in the variance": left},
    title="Four schedules: what a step adds, and what is left",
    x_label="t / T", y_label="share of the variance", colours=colours, share_y=False,
)

# %%
times = torch.arange(0, T + 1, 100, device=lab.device)
one, noise = images[:1].expand(len(times), -1, -1, -1), normal(1, *test.shape).expand(len(times), -1, -1, -1)
plots.image_rows(
    {name: add_noise(one, times, noise, on_device(a)) for name, a in tables.items()},
    labels=[f"{t / T:g}" for t in times.tolist()], title=f"{test.title}: one image, one noise, four schedules, by t/T",
)

# %% [markdown]
# The cosine's images fade the most evenly from left to right; with the linear schedule the right half of the strip is much the same.
#
# ### {{heading forward/curve}}
# {{question forward/curve}}

# %% tags=["quiz"]
### BEGIN SOLUTION
curve = "c"
### END SOLUTION
### BEGIN HANDED OUT
# curve = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/curve", curve)

# %%
for steps_taken in (10, 100, 1000, 4000):
    a = cosine_alpha_bar(steps_taken)
    values = "  ".join(f"ᾱ = {a[round(u * steps_taken)]:.4f} at t/T = {u}" for u in (0.2, 0.5, 0.8))
    print(f"T = {steps_taken:4d}   {values}   the step to the middle adds β = {1 - a[steps_taken // 2] / a[steps_taken // 2 - 1]:.4f}")

# %% [markdown]
# A curve over $t/T$ can be walked in ten strides or in ten thousand. The stops lie on the same curve, and longer strides simply have larger $\beta$. **A schedule is a curve; $T$ only says how finely it is walked.**
#
# ### Somebody else's look-up *(extra)*
# #### {{heading forward/look-up}}
# Each image of a batch has a step `t` in 1..T, and its $\bar\alpha_t$ is looked up in a table. With a chain of 20 steps, somebody's look-up makes the lower row. Compare the first columns.

# %%
short, one_noise = cosine_alpha_bar(20), normal(1, *test.shape)


def columns_of(look_up):
    t = torch.tensor([1, 2, 5, 10, 15, 19, 20])
    levels = {"as the table says": short[t], "looked up": look_up(t, 1 - short[1:] / short[:-1])}
    levels = {name: a.float().to(lab.device).view(-1, 1, 1, 1) for name, a in levels.items()}
    rows = {name: a.sqrt() * images[:1] + (1 - a).sqrt() * one_noise for name, a in levels.items()}
    return plots.image_rows(rows, labels=[f"t = {each}" for each in t.tolist()], title="Cosine schedule, 20 steps")


columns_of(pitfalls.look_up)


# %% tags=["quiz"]
def alpha_bar_at(t, beta):
    """ᾱ_t of every image, equation (3.3).

    t: (b,) integers in 1..T;  beta: (T,), β_1, ..., β_T.  Returns (b,), in the dtype of beta.
    """
    if t.ndim != 1 or beta.ndim != 1:
        raise ValueError(f"expected t (b,) and beta (T,), got {tuple(t.shape)} and {tuple(beta.shape)}")
    kept_by_a_step = 1 - beta
    clean = torch.ones_like(beta[:1])
    kept_so_far = kept_by_a_step.cumprod(0)
    table = torch.cat([clean, kept_so_far])
    table = table.to(beta.dtype)
    ### BEGIN SOLUTION
    place = t
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # place = t - 1
    ### END HANDED OUT
    found = table.index_select(0, place)
    assert found.shape == t.shape
    return found


# %% tags=["check"]
alpha_bar_at = check("forward/look-up", alpha_bar_at)

# %%
columns_of(alpha_bar_at)

# %% [markdown]
# #### {{heading forward/look-up-harm}}
# {{question forward/look-up-harm}}

# %% tags=["quiz"]
### BEGIN SOLUTION
look_up_harm = "b"
### END SOLUTION
### BEGIN HANDED OUT
# look_up_harm = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/look-up-harm", look_up_harm)

# %% [markdown]
# ## 3.5 · What makes an image noisy?
#
# Not $t$: in nearly every column of the four strips above the images differ. Not $\beta_t$ either, which is the noise of one step. What counts is how much signal stands against how much noise: the **signal-to-noise ratio** of (3.4), a ratio of variances,
#
# $$\mathrm{SNR}_t=\frac{\bar\alpha_t}{1-\bar\alpha_t},\qquad\qquad \ln\mathrm{SNR}_t=\ln\bar\alpha_t-\ln(1-\bar\alpha_t). \tag{3.6}$$
#
# (For pixels of unit variance, that is. Ours have the variance printed at the top: one constant factor, the same at every $t$.) It falls by many orders of magnitude, so its logarithm is drawn: $+\infty$ for the clean image, 0 where signal and noise are equal, $-\infty$ for pure noise.
#
# ### {{heading forward/log-snr}}
# For a whole table, both ends included.


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

# %% [markdown]
# Now by eye. **At which signal-to-noise ratio do you stop recognising the picture?** Choose a schedule, move $t$ until the images are just lost, and note $t$ and $\ln\mathrm{SNR}$. Then change the schedule and do it again. Which of the two numbers agrees?

# %%
fixed_noise, bell = normal(*images[:200].shape), torch.linspace(-4, 4, 200)
levels = {name: (range(1, T + 1), log_snr(a)[1:].clamp(-14, 11)) for name, a in tables.items()}


def noised_images(t, schedule):
    some, a = images[: len(fixed_noise)], tables[schedule]
    x_t = add_noise(some, torch.full((len(some),), t, device=lab.device), fixed_noise, on_device(a))
    return plots.images_at(
        x_t, levels, schedule, t, x_label="t", y_label="ln SNR",
        title=f"{schedule}, t = {t}: √ᾱ = {a[t].sqrt():.3f}, ln SNR = {log_snr(a)[t]:.1f}",
        overlay={"N(0, 1)": (bell, (-0.5 * bell**2).exp() / math.sqrt(2 * math.pi))},
    )


explore(
    noised_images,
    t=slider(0, T, value=250, step=10, label="t"),
    schedule=choice(list(tables), value="linear", label="schedule"),
    title="At which SNR is the picture lost? And is it the same t for every schedule?",
    alt="Noised images over the histogram of their pixels beside a standard normal, and curves of ln SNR with the present step marked.",
)

# %% [markdown]
# The histogram holds a second lesson: it comes close to $\mathcal N(0,1)$ while the picture is still there. A histogram has forgotten which pixel is where.

# %%
for name, a in tables.items():
    steps_there = [int((log_snr(a) > math.log(ratio)).sum()) for ratio in (3, 1, 0.3, 0.01)]
    print(f"{name:10s} SNR 3, 1, 0.3, 0.01 at t =", *steps_there, f"  ({1 - steps_there[-1] / T:.0%} of the steps below 0.01)")

# %% [markdown]
# The same noisiness at steps that lie hundreds apart. $x_t$ depends on $\bar\alpha_t$ alone, and so does the SNR: **two schedules differ only in when they get there.** In the limit of many steps even the variational bound depends on the schedule only through the SNR at its two *ends* (Kingma et al. 2021); between them the curve decides where a training spends its effort.
#
# *A good place to pause: about half of the core path is behind you. What comes next needs your tables and `add_noise`, nothing else.*
#
# ### The way round *(extra)*
# #### {{heading forward/step-at-snr}}
# From a ratio to its step, for any table. Which $\bar\alpha$ belongs to a given SNR? And where does a falling table pass it? Derive the first on paper, then write both. A chain may end before it is that noisy: then the answer is $T$.


# %% tags=["quiz"]
def step_at_snr(alpha_bar, snr):
    """The first step at which the signal-to-noise ratio is no larger than snr; T if it never gets there.

    alpha_bar: (T + 1,), float64, falling from 1;  snr: (n,), each above 0.  Returns (n,), whole numbers in 1..T.
    """
    ### BEGIN SOLUTION
    wanted = snr / (1 + snr)
    cleaner = alpha_bar[None, :] > wanted[:, None]
    return cleaner.sum(1).clamp(max=len(alpha_bar) - 1)
    ### END SOLUTION


# %% tags=["check"]
step_at_snr = check("forward/step-at-snr", step_at_snr)

# %% [markdown]
# ## 3.6 · Two chains that end in noise?
#
# Sampling will start from pure noise, so the forward chain had better end there. Below, two chains, A and B, each taken to its own last step with your `add_noise`. A single draw of either looks like noise to everybody.
# So we noise the same image 25 times and take the mean: noise cancels, and what is common to all draws stays.

# %%
chains = {"A": linear_alpha_bar(200), "B": cosine_alpha_bar(200)}


def means_of_ends(chains):
    rows = {"x₀": eight}
    for name, a in chains.items():
        end = torch.full((len(eight),), len(a) - 1, device=lab.device)
        rows[f"{name}: mean of 25"] = sum(add_noise(eight, end, normal(*eight.shape), on_device(a)) for _ in range(25)) / 25
    return plots.image_rows(rows, title=f"{test.title}: two chains of 200 steps, at their ends")


means_of_ends(chains)

# %% [markdown]
# Something is left in A. **Predict, then run:** can it be used, from *one* draw? A game: somebody takes one of your test images, noises it to the end of chain A and shows you the result beside all the clean originals. You name the most probable one. How often will you be right?

# %% tags=["predict"]
guess = predict("forward/picked", "Originals named correctly from one end of chain A", 0, 100, "%")


# %%
def named_correctly(a, rounds=10):
    """Per cent of images whose clean original, times √ᾱ, is the one nearest to x_T: mean and standard deviation."""
    flat, root, shares = images.flatten(1), a[-1].sqrt().item(), []
    for _ in range(rounds):
        x_T = root * flat + math.sqrt(1 - root**2) * normal(*flat.shape)
        likeness = x_T @ flat.T - root / 2 * flat.square().sum(1)  # largest where ‖x_T − √ᾱ x_0‖² is least
        shares.append(100 * (likeness.argmax(1).cpu() == torch.arange(len(flat))).double().mean())
    return torch.stack(shares).mean(), torch.stack(shares).std()


found = {name: named_correctly(a) for name, a in chains.items()}
reveal("forward/picked", round(found["A"][0].item()))
for name, (mean, spread) in found.items():
    print(f"chain {name}: √ᾱ_T = {chains[name][-1].sqrt():.4f}, named {mean:.1f} ± {spread:.1f} % (blind: {100 / len(images):.1f} %)")

# %% [markdown]
# **Which code made chain A? Yours.** Look into the cell with the picture: A is `linear_alpha_bar(200)`, the function that you wrote in 3.3, that passed its check, called as anybody would call it for a shorter chain. There is no wrong line in it.
# What is wrong is to keep $\beta$ from $10^{-4}$ to $0.02$, numbers that belong to a *thousand* steps. Two hundred of them leave more than a third of the amplitude. A widely read tutorial does exactly this, with $T=200$: the numbers look familiar, training runs, samples disappoint.
#
# ### {{heading forward/short-chain}}
# {{question forward/short-chain}}

# %% tags=["quiz"]
### BEGIN SOLUTION
short_chain = "d"
### END SOLUTION
### BEGIN HANDED OUT
# short_chain = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/short-chain", short_chain)

# %% [markdown]
# ### {{heading forward/any-length}}
# Fix it. For *every* $T$, ten as well as a thousand, the table should lie on the published curve of a thousand steps: the same $\bar\alpha$ at the same $t/T$. There are several ways, and one popular way that breaks when $T$ is small. The check looks at $T=1000$, 200, 40 and 10 and allows 0.02.


# %% tags=["quiz"]
def linear_curve(T):
    """ᾱ_0, ..., ᾱ_T on the curve of the linear schedule of 1,000 steps, for any T of at least 1.

    Returns (T + 1,), float64, beginning with 1 and falling; entry t has the ᾱ of the long chain at the same t/T.
    """
    ### BEGIN SOLUTION
    long = linear_alpha_bar(1000)
    stops = torch.linspace(0, 1000, T + 1, dtype=torch.float64)
    return long[stops.round().long()]
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # return linear_alpha_bar(T)
    ### END HANDED OUT


# %% tags=["check"]
linear_curve = check("forward/any-length", linear_curve)

# %%
for steps_taken in (10, 50, 200, 1000):
    print(f"T = {steps_taken:4d}:  ᾱ_T = {linear_alpha_bar(steps_taken)[-1]:.5f} before, {linear_curve(steps_taken)[-1]:.5f} after")

means_of_ends({"A": chains["A"], "A, repaired": linear_curve(200)})

# %% [markdown]
# ## 3.7 · Nothing left at the end *(extra)*
#
# How small must $\bar\alpha_T$ be? Stable Diffusion was trained with the quadratic schedule from 0.00085 to 0.012, on latents of 64 × 64 "pixels" (notebook 01's codes, so to say, in place of images), and Lin et al. (2024) noticed what remains at its end:

# %%
latent_model = torch.cat([torch.ones(1).double(), (1 - step_variances("quadratic", T, 0.00085, 0.012)).cumprod(0)])
left, noise = latent_model[-1].item(), normal(500, 1, 64, 64)
print(f"ᾱ_T = {left:.4f}: {left**0.5:.1%} of the amplitude")
for name, drawn in {"x_T of an all-black image": (1 - left) ** 0.5 * noise - left**0.5, "pure noise": noise}.items():
    means = drawn.mean(dim=(1, 2, 3))
    print(f"mean over 64 × 64 of {name:26s} {means.mean():+.3f}, from draw to draw ± {means.std():.3f}")

# %% [markdown]
# The average brightness is an average over thousands of numbers, in which the noise cancels and the signal does not. So $x_T$ tells the network how bright the picture will be: the two means above lie several standard deviations apart. Pure noise tells it "medium", and according to that paper the model hardly ever made a very dark or a very bright picture.
#
# Their remedy: shift and stretch the signal rate so that it ends at 0 exactly, and leave the first step where it was:
#
# $$\sqrt{\bar\alpha_t^{\,\text{new}}}=\big(\sqrt{\bar\alpha_t}-\sqrt{\bar\alpha_T}\big)\cdot\frac{\sqrt{\bar\alpha_1}}{\sqrt{\bar\alpha_1}-\sqrt{\bar\alpha_T}}\qquad\text{for } t\ge1,\qquad \bar\alpha_0^{\,\text{new}}=1. \tag{3.7}$$
#
# ### {{heading forward/zero-terminal}}
# Mind which entry stands outside the formula.


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
pairs = {"quadratic, 0.00085 to 0.012": latent_model, "chain A of 3.6": chains["A"]}
curves = {name: {"as it was": a, "rescaled (3.7)": rescale_to_zero(a)} for name, a in pairs.items()}
plots.curve_panels(
    {name: {which: (range(len(a)), a.sqrt()) for which, a in both.items()} for name, both in curves.items()},
    title="A small correction for the one, a rescue for the other", x_label="step t", y_label="signal rate √ᾱ",
)

# %% [markdown]
# It has a price. At $\mathrm{SNR}_T=0$ the image $x_T$ *is* the noise, so a network that predicts the noise can copy its input and learns nothing there; it has to predict $x_0$, or a mixture of both that is called $v$. Notebook 05 does that.
#
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
# The mean is a compromise between what the clean image says and what the noisy one says.
#
# ### {{heading forward/posterior}}
# Equation (3.8) for a batch, from the table of $\bar\alpha$ alone.


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
# ### {{heading forward/bayes-grid}}
# So much algebra wants a test that uses none. Bayes' rule needs no formula if we have a computer: take a single pixel, put $x_{t-1}$ on a fine grid, multiply the two densities, divide by the area. Whatever comes out *is* the posterior. Write it for *any* density that stood there before.


# %% tags=["quiz"]
def bayes_on_grid(grid, before, x_t, alpha):
    """Density, mean and variance of x_{t−1} once x_t has been seen, by Bayes' rule and numbers alone.

    grid: (g,), evenly spaced values of x_{t−1};  before: (g,), its density before x_t was seen;
    x_t: a number;  alpha: α_t of the step (3.1), a number in (0, 1).
    Returns (density (g,) of area 1, mean, variance), the last two as numbers or tensors of shape ().
    """
    ### BEGIN SOLUTION
    likelihood = (-0.5 * (x_t - alpha**0.5 * grid) ** 2 / (1 - alpha)).exp()
    product = likelihood * before
    density = product / torch.trapezoid(product, grid)
    mean = torch.trapezoid(density * grid, grid)
    return density, mean, torch.trapezoid(density * (grid - mean) ** 2, grid)
    ### END SOLUTION


# %% tags=["check"]
bayes_on_grid = check("forward/bayes-grid", bayes_on_grid)

# %% [markdown]
# Two of your functions against each other. If (3.8) had a wrong factor anywhere, the dashed curve would stand beside the blue one, or be wider or narrower, and the printed difference would be around 0.01 or more instead of a rounding error.


# %%
def bell_at(x, mean, var):
    return (-0.5 * (x - mean) ** 2 / var).exp() / (2 * math.pi * var) ** 0.5


def formula(x0, x_t, t, table):
    """Your (3.8) for a single pixel: two numbers."""
    x0, x_t = (torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (x0, x_t))
    return [each.item() for each in posterior(x0, x_t, torch.tensor([t]), table)]


grid = torch.linspace(-9, 9, 6001, dtype=torch.float64)
coarse, panels, largest = cosine_alpha_bar(10), {}, 0.0  # large steps, so that the curves differ
for t in range(2, 11):
    now, before = coarse[t].item(), coarse[t - 1].item()
    prior = bell_at(grid, before**0.5 * 0.7, 1 - before)
    density, mean, var = bayes_on_grid(grid, prior, -0.4, now / before)
    found_mean, found_var = formula(0.7, -0.4, t, coarse)
    largest = max(largest, abs(mean - found_mean), abs(var - found_var))
    seen = bell_at(-0.4, (now / before) ** 0.5 * grid, 1 - now / before)
    curves = {"$q(x_{t-1}|x_0)$": prior, "$q(x_t|x_{t-1})$": seen / torch.trapezoid(seen, grid)}
    curves |= {"product, on the grid": density, "your (3.8)": bell_at(grid, found_mean, found_var)}
    panels[f"t = {t} of 10"] = {name: (grid[2000:4001:10], y[2000:4001:10]) for name, y in curves.items()}
print(f"t = 2 ... 10: largest difference of mean or variance between grid and formula: {largest:.1e}")
plots.curve_panels(
    {name: panels[name] for name in ("t = 2 of 10", "t = 5 of 10", "t = 9 of 10")},
    colours={"$q(x_{t-1}|x_0)$": plots.COLOURS[4], "product, on the grid": plots.COLOURS[0], "your (3.8)": "#222222"},
    title="x₀ = 0.7, seen as −0.4 at step t: where was it one step before?",
    x_label="$x_{t-1}$", y_label="density", dashed=["your (3.8)"],
)

# %% [markdown]
# ### {{heading forward/posterior-needs}}
# {{question forward/posterior-needs}}

# %% tags=["quiz"]
### BEGIN SOLUTION
posterior_needs = "a"
### END SOLUTION
### BEGIN HANDED OUT
# posterior_needs = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/posterior-needs", posterior_needs)

# %% [markdown]
# ### And if it is not known? *(extra)*
# Then the step back is a mixture of (3.8) over all images that $x_0$ might be, which need not be a Gaussian. How wide is it? Two answers are known: $\beta_t$ if the data are $\mathcal N(0,1)$ themselves, and $\tilde\beta_t$ if they are a single point. Suppose that the data are two values, $-1$ and $+1$, equally often.
#
# #### {{heading forward/which-variance}}
# {{question forward/which-variance}}

# %% tags=["quiz"]
### BEGIN SOLUTION
which_variance = "d"
### END SOLUTION
### BEGIN HANDED OUT
# which_variance = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/which-variance", which_variance)

# %% [markdown]
# #### {{heading forward/two-values}}
# Derive, then code. You need $\mathbb E[x_0\mid x_t]$ for the two values (Bayes' rule; a hyperbolic tangent comes out), from it $\operatorname{Var}[x_0\mid x_t]$, and the rule that a variance is *the mean of the variances plus the variance of the means*. Your grid will say whether you are right.


# %% tags=["quiz"]
def variance_back(x_t, t, alpha_bar):
    """Var[x_{t−1} | x_t] where x_0 is −1 or +1, equally often.

    x_t: (n,), float64;  t: a step in 1..T;  alpha_bar: (T + 1,), float64.  Returns (n,).
    """
    ### BEGIN SOLUTION
    now, before = alpha_bar[t], alpha_bar[t - 1]
    beta = 1 - now / before
    guess = torch.tanh(now.sqrt() * x_t / (1 - now))
    weight = before.sqrt() * beta / (1 - now)
    return (1 - before) / (1 - now) * beta + weight**2 * (1 - guess**2)
    ### END SOLUTION


# %% tags=["check"]
variance_back = check("forward/two-values", variance_back)

# %%
panels = {}
for chain in (4, 100):
    a = cosine_alpha_bar(chain)
    t = step_at_snr(a, torch.tensor([1.0]).double()).item()
    now, prior = a[t], 0.5 * (bell_at(grid, a[t - 1] ** 0.5, 1 - a[t - 1]) + bell_at(grid, -(a[t - 1] ** 0.5), 1 - a[t - 1]))
    density, mean, var = bayes_on_grid(grid, prior, 0.1, (now / a[t - 1]).item())
    beta, here = 1 - now / a[t - 1], variance_back(torch.tensor([0.1]).double(), t, a).item()
    x_t = now**0.5 + (1 - now) ** 0.5 * torch.randn(20_000, generator=lab.generator(3, "cpu"), dtype=torch.float64)
    print(
        f"T = {chain:3d}, t = {t:2d}, x_t = 0.1: on the grid {var:.3f}, yours {here:.3f};  β = {beta:.3f}, "
        f"β̃ = {formula(1.0, 0.1, t, a)[1]:.3f};  yours, averaged over x_t: {variance_back(x_t, t, a).mean():.3f}"
    )
    near = (grid - mean).abs() < 4 * var**0.5
    curves = {"$q(x_{t-1}|x_t)$": density, "a Gaussian of the same variance": bell_at(grid, mean, var)}
    panels[f"T = {chain}, t = {t}"] = {name: (grid[near], y[near]) for name, y in curves.items()}
plots.curve_panels(
    panels,
    title="A long stride has to decide between two futures; a short one doesn't",
    x_label="$x_{t-1}$", y_label="density", dashed=["a Gaussian of the same variance"], share_y=False,
)

# %% [markdown]
# A Gaussian can't say "either/or". In a small step the two answers of (3.8) all but coincide, compared with the width, and the mixture is Gaussian again. This is why diffusion uses many small steps (Sohl-Dickstein et al. 2015 build on this fact): not to add the noise slowly, but to make *each step back* simple.
#
# ## 3.9 · The score: which way is the data?
#
# The **score** of a density is the gradient of its logarithm, $\nabla_x\ln q(x)$: at every point, an arrow uphill. For one known $x_0$, (3.4) is a Gaussian, and its score is, up to a factor, *minus the noise*. Whoever knows the noise knows the way uphill.
#
# And for all noised images together? You have met the answer in notebook 01. Divide (3.4) by $\sqrt{\bar\alpha_t}$: $x_t/\sqrt{\bar\alpha_t}$ is the clean image with plain noise of variance $\sigma^2=(1-\bar\alpha_t)/\bar\alpha_t$ added. That is the setting of (1.9), which says that its score is $(\mathbb E[x_0\mid x_t]-x_t/\sqrt{\bar\alpha_t})/\sigma^2$.
# A gradient with respect to $x_t$ is $1/\sqrt{\bar\alpha_t}$ times that. Solve for the mean:
#
# $$\begin{gathered}
# \nabla\ln q(x_t\mid x_0)=-\frac{x_t-\sqrt{\bar\alpha_t}\,x_0}{1-\bar\alpha_t}=-\frac{\varepsilon}{\sqrt{1-\bar\alpha_t}},\\[4pt]
# \nabla\ln q(x_t)=-\frac{\mathbb E[\varepsilon\mid x_t]}{\sqrt{1-\bar\alpha_t}}
#   \qquad\Longleftrightarrow\qquad
#   \mathbb E[x_0\mid x_t]=\frac{x_t+(1-\bar\alpha_t)\,\nabla\ln q(x_t)}{\sqrt{\bar\alpha_t}} .
# \end{gathered} \tag{3.9}$$
#
# The last formula is **Tweedie's** (Robbins 1956 credits M. C. K. Tweedie; Efron 2011 tells its story). $\mathbb E[x_0\mid x_t]$ is the guess with the least possible squared error: no denoiser beats it. And it needs only the score. Best denoiser, expected noise, score: **three names for one function.** Learn any of them and you have all.
#
# ### {{heading forward/score-far}}
# {{question forward/score-far}}

# %% tags=["quiz"]
### BEGIN SOLUTION
score_far = "c"
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
# Each blob pulls the point towards its own centre, a narrow one more strongly than a wide one, and the pulls are weighed by the **responsibilities** $r_k$: the probability that this point came from blob $k$.
# Such a laboratory is worth a lot. A sampler that fails there is wrong; no network can be blamed.
#
# ### {{heading forward/mixture-joint}}
# Stage 1. The numerator of $r_k$, as a logarithm: far from all blobs every density is 0 to the computer, and $0/0$ is no number.


# %% tags=["quiz"]
def mixture_joint(x, alpha_bar, means, stds, weights):
    """ln of w_k N(x_t; √ᾱ m_k, v_k I) for every point and every blob, equation (3.10).

    x: (n, d);  alpha_bar: a number in (0, 1], ᾱ_t;
    means: (k, d);  stds: (k,), s_k;  weights: (k,), adding up to 1.  Returns (n, k), finite everywhere.
    """
    ### BEGIN SOLUTION
    variances = alpha_bar * stds**2 + 1 - alpha_bar
    squares = (x[:, None] - alpha_bar**0.5 * means).square().sum(-1)  # (n, k)
    heights = weights.log() - x.shape[1] / 2 * (2 * math.pi * variances).log()
    return heights - squares / (2 * variances)
    ### END SOLUTION


# %% tags=["check"]
mixture_joint = check("forward/mixture-joint", mixture_joint)

# %% [markdown]
# ### {{heading forward/mixture-score}}
# Stage 2, on top of stage 1. Stay with logarithms as long as you can.


# %% tags=["quiz"]
def mixture_score(x, alpha_bar, means, stds, weights):
    """∇ ln q(x_t) at points x for data from a Gaussian mixture, equation (3.10).

    Arguments as in mixture_joint.  Returns (n, d), finite also where x is far from all blobs.
    """
    ### BEGIN SOLUTION
    responsibilities = mixture_joint(x, alpha_bar, means, stds, weights).softmax(dim=1)
    variances = alpha_bar * stds**2 + 1 - alpha_bar
    offsets = alpha_bar**0.5 * means - x[:, None]  # (n, k, d)
    return (responsibilities[..., None] * offsets / variances[:, None]).sum(dim=1)
    ### END SOLUTION


# %% tags=["check"]
mixture_score = check("forward/mixture-score", mixture_score)

# %% [markdown]
# Five blobs on a circle, one of them twice as heavy as the others. The circle lies off the centre, as images do: their mean is not 0 either. Arrows show your score (their drawn length is the square root of the true one, or only the longest could be seen), the shade is the density, from your stage 1.

# %%
angles = torch.arange(5, dtype=torch.float64) * 2 * math.pi / 5
means = torch.stack([0.9 + 1.2 * angles.cos(), 1.2 * angles.sin()], 1)
blobs = {"means": means, "stds": torch.full((5,), 0.15).double(), "weights": torch.tensor([2, 1, 1, 1, 1]).double() / 6}
extent = (-2.6, 2.6, -2.6, 2.6)


def plane(n):
    """The middles of n × n cells, (n, n, 2), row 0 at the bottom."""
    edge = -2.6 + 5.2 * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.stack(torch.meshgrid(edge, edge, indexing="xy"), -1)


def field_and_shade(a):
    arrows = mixture_score(plane(15).flatten(0, 1), a, **blobs)
    density = mixture_joint(plane(80).flatten(0, 1), a, **blobs).logsumexp(1).exp()
    return arrows.view(15, 15, 2), density.view(80, 80)


shown = {f"t = {t}, ᾱ = {tables['cosine'][t]:.3f}": tables["cosine"][t].item() for t in (20, 200, 350, 500, 700, 950)}
arrows, shades = (dict(zip(shown, each)) for each in zip(*map(field_and_shade, shown.values())))
plots.fields(
    arrows, extent, density=shades, axis_names=("x₁", "x₂"),
    title="The score, cosine schedule: each blob for itself, then one for all",
)

# %% [markdown]
# **Does it hold?** Your score against the gradient of your own density by automatic differentiation, which knows nothing of (3.10); and the guess that Tweedie's formula makes of it against the library's, which adds up what each blob would answer and never sees a score.

# %%
points = torch.randn(500, 2, generator=lab.generator(8, "cpu"), dtype=torch.float64).mul(1.5).requires_grad_()
exact = GaussianMixture(means, 0.15, blobs["weights"]).denoiser(Schedule(tables["cosine"]))
score_gap = tweedie_gap = 0.0
for t in (50, 500, 950):
    a = tables["cosine"][t].item()
    (slope,) = torch.autograd.grad(mixture_joint(points, a, **blobs).logsumexp(1).sum(), points)
    score = mixture_score(points, a, **blobs)
    guess = (points + (1 - a) * score) / a**0.5
    score_gap = max(score_gap, ((slope - score).norm(dim=1) / slope.norm(dim=1)).max().item())
    tweedie_gap = max(tweedie_gap, (guess - exact(points, torch.full((500,), t))).abs().max().item())
print(f"score against automatic differentiation: relative difference at most {score_gap:.1e}")
print(f"Tweedie (3.9) against the mean of x₀ by Bayes' rule: difference at most {tweedie_gap:.1e}")

# %% [markdown]
# Read the six panels from the last to the first, and you see what sampling will do. At first there is one big hill and every arrow points to it: a step there says next to nothing about *which* blob it will be. Further down the hill splits, and from then on the arrows on the two sides of a valley part.
#
# ### When is it decided? *(extra)*
# A static picture shows the field at a few steps; here you can follow one point. Place it, and walk $t$ down from 1,000: watch the bars, and the cross, which is the best guess (3.9). **Is there a moment at which it is decided to which blob the point belongs?**


# %%
def follow(t, x, y, schedule):
    a = min(tables[schedule][t].item(), 1 - 1e-6)
    place = torch.tensor([[x, y]], dtype=torch.float64)
    arrows, density = field_and_shade(a)
    best = (place + (1 - a) * mixture_score(place, a, **blobs)) / a**0.5
    return plots.field_and_bars(
        arrows, extent, mixture_joint(place, a, **blobs).softmax(1)[0], density=density, numbers=a**0.5 * means,
        marks={"$x_t$": place, "best guess of $x_0$": best}, title=f"t = {t}, ᾱ = {a:.3g}", bar_label="responsibility",
    )


explore(
    follow,
    t=slider(0, T, value=600, step=10, label="t"),
    x=slider(-2.4, 2.4, value=-0.4, step=0.1, label="x₁"),
    y=slider(-2.4, 2.4, value=1.6, step=0.1, label="x₂"),
    schedule=choice(list(tables), value="cosine", label="schedule"),
    title="When is it decided to which blob a point belongs?",
    alt="Score field of a diffused mixture of five blobs with a movable point and its best guess of x₀, and bars of the blobs' responsibilities.",
)

# %% [markdown]
# There is no such moment: the bars shift all along the way. The next cell measures it for points of the data: draw $x_0$, noise it, and ask how often the likeliest blob is the true one. In the left panel the four schedules disagree; over $\ln\mathrm{SNR}$ they must agree, and they do: one curve covers the others.

# %%
data, truth = GaussianMixture(means, 0.15, blobs["weights"]).labelled(lab.pick(smoke=1000, cpu=4000, gpu=4000), lab.generator(4, "cpu"))
noise, times = torch.randn(data.shape, generator=lab.generator(5, "cpu"), dtype=data.dtype), torch.arange(20, T + 1, 20)
by_step, by_ratio = {}, {}
for name, table in tables.items():
    x_t = (a**0.5 * data + (1 - a) ** 0.5 * noise for a in table[times].tolist())
    likeliest = (mixture_joint(x, a, **blobs).argmax(1) for x, a in zip(x_t, table[times].tolist()))
    share = torch.stack([(best == truth).double().mean() for best in likeliest])
    by_step[name], inside = (times, share), log_snr(table)[times] > -10
    by_ratio[name] = (log_snr(table)[times][inside], share[inside])
floor, share = (truth == 0).double().mean(), by_step["cosine"][1]
risen = [times[(share - floor) / (1 - floor) > part].max().item() for part in (0.9, 0.1)]
print(f"cosine: from 10 % to 90 % of the rise between t = {risen[1]} and t = {risen[0]}")
panels = {"by step": by_step, "by signal-to-noise ratio (noise to the left)": by_ratio}
plots.curve_panels(
    panels, colours=colours,
    title="How well x_t still tells its blob", x_label=dict(zip(panels, ("step t", "ln SNR"))), y_label="told correctly",
)

# %% [markdown]
# "Which blob?" is decided gradually, over about half of the cosine walk, and before "where in the blob?": the noise is as small as a blob is wide only at $\ln\mathrm{SNR}=3.8$, and there the right panel has reached 1. A schedule that hurries through those noise levels leaves the network few steps for the decision; one that lingers elsewhere wastes them. That is all a schedule can do, and it is a lot.
#
# ## 3.11 · All your pieces in one loop
#
# You have everything that sampling needs. Begin at $x_T$. Guess $x_0$ by Tweedie (3.9), put the guess where the posterior (3.8) wants the image, draw $x_{t-1}$, repeat. With a network in the place of the score this is the sampler of notebook 06.
#
# ### {{heading forward/walk-back}}
# Write it, from `posterior` and any score. A point of the plane counts as an image with two channels and one pixel.


# %% tags=["quiz"]
def walk_back(x_T, alpha_bar, score, noise):
    """From x_T to x_0: in every step the best guess (3.9), then a draw from the posterior (3.8).

    x_T: (b, c, h, w);  alpha_bar: (T + 1,), float64, above 0;  score: (x_t, ᾱ_t as a number) -> ∇ ln q(x_t), like x_t;
    noise: (T, b, c, h, w), of which row t − 1 is for the step from t to t − 1.  Returns x_0, like x_T.
    """
    ### BEGIN SOLUTION
    x = x_T
    for t in range(len(alpha_bar) - 1, 0, -1):
        a = alpha_bar[t].item()
        guess = (x + (1 - a) * score(x, a)) / a**0.5
        mean, var = posterior(guess, x, torch.full((len(x),), t, device=x.device), alpha_bar)
        x = mean + var.sqrt() * noise[t - 1]
    return x
    ### END SOLUTION


# %% tags=["check"]
walk_back = check("forward/walk-back", walk_back)

# %% [markdown]
# ### {{heading forward/crowd}}
# {{question forward/crowd}}

# %% tags=["quiz"]
### BEGIN SOLUTION
crowd = "b"
### END SOLUTION
### BEGIN HANDED OUT
# crowd = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("forward/crowd", crowd)


# %%
def exact_score(x, a):
    return mixture_score(x.flatten(1), a, **blobs).view_as(x)


ends = {"chain A": linear_alpha_bar(200), "linear_curve": linear_curve(200), "cosine": cosine_alpha_bar(200)}
many, heavy, first = lab.pick(smoke=500, cpu=2000, gpu=2000), {}, {}
for name, table in ends.items():
    shares = []
    for seed in range(5):
        start = torch.randn(201, many, 2, 1, 1, generator=lab.generator(seed, "cpu"), dtype=torch.float64)
        made = walk_back(start[200], table, exact_score, start[:200]).flatten(1)
        away, nearest = torch.cdist(made, means).min(1)
        shares.append((nearest == 0).double().mean().item())
        first.setdefault(name, (made, nearest))
    heavy[name] = torch.tensor(shares)
    print(f"{name:13s} share of the heavy blob {heavy[name].mean():.3f} ± {heavy[name].std():.3f} (standard deviation of 5 seeds);")
    print(f"{'':13s} in the last seed {(away > 0.6).double().mean():.2%} of the points lie more than 4 standard deviations off every blob")
names = [f"blob {k}" + ", the heavy one" * (k == 1) for k in range(1, 6)]
plots.scatter_classes(*first["chain A"], names, title="Samples from chain A, one seed", axis_names=("x₁", "x₂"))

# %%
plots.bars(
    {"in the data": 1 / 3} | {name: share.mean() for name, share in heavy.items()},
    errors={name: share.std() for name, share in heavy.items()}, y_label="share of the heavy blob",
    title="The points lie where they should; their shares are another matter",
)

# %% [markdown]
# One by one, the samples of chain A look right; the *crowd* is wrong. The score was exact, so no network can be blamed: the walk started from noise in which the mean of the data was missing, and what leads to the blob farthest from the centre is exactly that mean. With a network it gets worse, because it has never seen such an $x_T$.
# The repaired chain and the cosine agree with the data within the error bars.
#
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"{test.title}, effort {lab.effort}\n3.3  signal rate half-way: {half_way:.3f}; below 1/2 from t = {below[0]}")
print(f"     walked against jumped, {n:,} pixels: largest gap {largest_gap:.1f} standard errors")
print(f"3.6  originals named from one end: chain A {found['A'][0]:.0f} ± {found['A'][1]:.0f} %, chain B {found['B'][0]:.1f} %")
print(f"3.8  posterior against a grid: {largest:.0e};  3.10 score: {score_gap:.0e}, Tweedie: {tweedie_gap:.0e}")
for name, share in heavy.items():
    print(f"3.11 {name:13s} heavy blob {share.mean():.3f} ± {share.std():.3f}, in the data 0.333")

# %% [markdown]
# **What to take along.** The forward process is chosen, not learned, and everything about it is known: one jump to any step (3.4), the step back if $x_0$ were known (3.8), and the score as the best denoiser in other words (3.9).
# What is *not* known is $\mathbb E[x_0\mid x_t]$ for images. That one function is what the U-Net of notebook 04 is for, and notebook 05 teaches it.
#
# ## Go further *(ungraded)*
# 1. **Your own schedule.** Design a curve for which $\ln\mathrm{SNR}$ falls along a straight line from 9 to −9. What must you do at $t=0$? Put it into `tables` and run the explorer of 3.5 again.
# 2. **Larger pictures are less noisy.** Enlarge the images to 56 × 56 by repeating pixels, noise them at the same SNR, and average blocks of 2 × 2. By what factor has the SNR of the small picture grown? What does that mean for a schedule when the resolution goes up?
# 3. **Another way to destroy.** Replace the noise in (3.1) by draws that are $+1$ or $-1$. After how many steps can you no longer tell? Which step of the derivation in 3.3 breaks, and which theorem saves the result?
# 4. **Skip steps.** Derive $q(x_s\mid x_t,x_0)$ for any $s<t$. Samplers with few steps rely on it.
# 5. **A score by hand.** Take ten images of the data set as the whole world. $q(x_t)$ is then a mixture of ten Gaussians with $s_k=0$. Use your `walk_back` with its score. What does it draw, and what does that say about a network that has learned its training set by heart?
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
