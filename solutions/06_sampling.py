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
# Notebook 05 trained a network that looks at a noisy image and guesses the clean one. At first that guess is blurred, an average of all that is still possible. This notebook makes pictures of such guesses.
# You write every part of it: the step, the timesteps, the loop, then DDIM, then two solvers of second order. Whatever is drawn and measured below is drawn by your functions.
#
# **What you will be able to do**
# * write Algorithm 2 of the DDPM paper, and tell some bugs by what they do to the pictures;
# * derive DDIM and its limit, the probability-flow ODE;
# * write solvers for it, and *measure* their order;
# * compare samplers with error bars, and say why a more exact solver need not make a better picture.
#
# **Before you start:** notebook 03 ($\bar\alpha_t$, the posterior (3.8), the score (3.9)) and 05 ($\hat x_0$ and $\hat\varepsilon$, (5.6) and (5.7)).
#
# {{budget}}
#
# No diffusion model is trained here: the course brings one. The text describes what you see at effort `cpu` or above, on Fashion-MNIST. At `smoke` everything runs with few images and few steps; what is printed is true of that run, but sentences about pictures don't hold.

# %% tags=["setup"]
from functools import partial
from itertools import pairwise

import torch
from torch.nn import functional as F

from classroom import ask, check, predict, reveal
from course_utils import plots, setup
from course_utils.data import GaussianMixture, load
from course_utils.device import autocast
from course_utils.diffusion import Schedule, cosine_schedule, predict_noise
from course_utils.explore import choice, explore, slider
from course_utils.metrics import frechet_distance
from course_utils.pitfalls import sampling as pitfalls
from course_utils.sampling import annealed_langevin, clipped, dpm_solver, heun, karras_timesteps, last
from course_utils.weights import load_classifier, load_denoiser, shipped

lab = setup("06")

# %%
name = load(lab.data, "test", device=lab.device, fallback="digits").name
if name not in shipped():
    print(f"This notebook needs trained models, and there are none for {name}: it goes on with digits.")
    name = "digits"
train, test = (load(name, split, device=lab.device) for split in ("train", "test"))
denoiser = load_denoiser(name, lab.device).to(memory_format=torch.channels_last)
evaluator = load_classifier(name, lab.device)
schedule, shape, data = denoiser.schedule, denoiser.shape, test.title
print(
    f"{data}: a network of {denoiser.card['weights']:,} weights that predicts {denoiser.prediction_type}, "
    f"{schedule.name} schedule, T = {schedule.T}"
)

# %% [markdown]
# A sampler needs one function: a **denoiser** $(x_t, t, y)\mapsto\hat x_0$. We ask the network in bfloat16 where the processor is good at it, and `clipped` keeps its guesses in $[-1, 1]$.
# This network also takes a class $y$. Notebook 07 is about classes; here we ask for each equally often, so that our samples are mixed as the data are.


# %%
def ask_network(x_t, t, y=None):
    """The network's guess of the clean images.  x_t: (b, c, h, w);  t: (b,);  y: (b,) classes, or None."""
    with torch.no_grad(), autocast(lab.device):
        return denoiser(x_t.contiguous(memory_format=torch.channels_last), t, y)


denoise = clipped(ask_network)


def pure_noise(n, seed=1):
    """n starts (n, c, h, w), always the same for a seed."""
    return torch.randn(n, *shape, generator=lab.generator(seed), device=lab.device)


def labels_for(n):
    """(n,) labels, every class equally often."""
    return torch.arange(n, device=lab.device) % len(denoiser.classes)


def fresh_noise(generator):
    """A source of noise: draw(x) is standard normal noise like x, new at every call."""
    return lambda x: torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


# %% [markdown]
# ## 6.1 · One step back, many times
#
# How does one get from $x_t$ to $x_{t-1}$? If somebody told us the clean image, notebook 03 has the answer: draw from the posterior (3.8). Nobody does, but we have a network that guesses. So put the guess in the place of the image:
#
# $$x_{t-1}=\tilde\mu_t(x_t,\hat x_0)+\sigma_t\,z,\qquad \hat x_0=\hat x_0(x_t,t), \tag{6.1}$$
#
# with $\tilde\mu_t$ from (3.8) and fresh noise $z\sim\mathcal N(0,I)$ in every step but the last, where $z=0$. Begin with noise, repeat for $t=T,\dots,1$: that is **Algorithm 2** of the DDPM paper, *ancestral sampling*.
#
# Isn't that bold? The guess is an average over many images, so it is wrong for each of them. What saves us is that a step trusts it only a little: $\tilde\mu_t$ mixes a small share of $\hat x_0$ into $x_t$, and then the network is asked anew.
#
# **And $\sigma_t$?** Given $x_0$, the posterior's variance is $\tilde\beta_t$. But we don't know $x_0$, so there is more doubt than that. Ho et al. (2020) try two values, $\tilde\beta_t$ and $\beta_t$, and find them about equally good. We write what lies between them with a number κ from 0 to 1, for any stride from $t$ down to $s<t$ (then $\beta$ is what is added on the whole way from $s$ to $t$):
#
# $$\sigma^2=\tilde\beta^{\,1-\kappa}\,\beta^{\,\kappa},\qquad \beta=1-\frac{\bar\alpha_t}{\bar\alpha_s},\qquad \tilde\beta=\frac{1-\bar\alpha_s}{1-\bar\alpha_t}\,\beta. \tag{6.2}$$
#
# You build the sampler in three stages. If you skip one, the course's own takes its place.
#
# ### {{heading sampling/ancestral-step}}
# From $t$ to $s$, all images at the same step. `schedule.posterior(x0, x_t, t, s)` is (3.8) for any stride; it wants $t$ and $s$ as tensors `(b,)`, one entry per image, and gives mean and variance.


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
    variance = small ** (1 - kappa) * beta**kappa
    return mean + variance.sqrt() * noise
    ### END SOLUTION


# %% tags=["check"]
ancestral_step = check("sampling/ancestral-step", ancestral_step)

# %% [markdown]
# ### {{heading sampling/timesteps}}
# A walk needn't stop at every $t$. $K$ strides have $K+1$ ends; evenly in $t$ they are
#
# $$t_k=\operatorname{round}\Big(T\,\frac{K-k}{K}\Big),\qquad k=0,1,\dots,K. \tag{6.3}$$


# %% tags=["quiz"]
def timesteps(T, steps):
    """Where a sampler of so many strides stops, equation (6.3): a list of steps + 1 whole numbers from T down to 0."""
    ### BEGIN SOLUTION
    return [round(T * (steps - k) / steps) for k in range(steps + 1)]
    ### END SOLUTION


# %% tags=["check"]
timesteps = check("sampling/timesteps", timesteps)

# %% [markdown]
# ### {{heading sampling/walk}}
# The loop around the step. Write it so that it knows nothing of the step: then every sampler of the next sections runs in it. Keep everything, $x_t$ and the guesses, because we want to look.


# %% tags=["quiz"]
def walk(step, denoise, schedule, x, times, draw, y=None):
    """From noise x along the timesteps.  Returns the trail, a list of (t, x_t, guess), one entry for each of `times`.

    step: called as step(x_t, x0, t, s, noise, schedule), gives x_s;
    denoise: called as denoise(x_t, t, y) with t a tensor (b,), gives the guess;
    x: (b, c, h, w);  times: falling whole numbers;  draw: draw(x) gives fresh noise like x;  y: (b,) labels, or None.
    The guess of an entry is the one that led there: None for the start.
    """
    ### BEGIN SOLUTION
    trail = [(times[0], x, None)]
    for t, s in pairwise(times):
        at = torch.full((len(x),), t, device=x.device)
        x0 = denoise(x, at, y)
        x = step(x, x0, t, s, draw(x), schedule)
        trail.append((s, x, x0))
    return trail
    ### END SOLUTION


# %% tags=["check"]
walk = check("sampling/walk", walk)

# %%
every_step = lab.pick(smoke=12, cpu=1000, gpu=1000)
trail = walk(
    ancestral_step, denoise, schedule, pure_noise(8), timesteps(schedule.T, every_step),
    fresh_noise(lab.generator(2)), labels_for(8),
)
looks = [trail[round(k * (len(trail) - 1) / 9)] for k in range(10)]
rows, first_guess = {}, trail[1][2]
for i in (1, 7, 5):
    kind = denoiser.classes[int(labels_for(8)[i])]
    rows[f"{kind}: x_t"] = torch.stack([x[i] for _, x, _ in looks])
    rows[f"{kind}: guess"] = torch.stack([(first_guess if x0 is None else x0)[i] for _, _, x0 in looks])
plots.image_rows(rows, labels=[f"t = {t}" for t, _, _ in looks], title=f"{data}: x_t on the way, and the guesses")

# %% [markdown]
# Read each pair from left to right. The upper row is noise for a long time, and an image only near the end. The lower row is the opposite: never any noise, at first an average of many things of the class asked for, more or less blurred, then one thing, then that thing in detail.
# The same, moving:

# %%
frames = [trail[round(k * (len(trail) - 2) / 20) + 1] for k in range(21)]
plots.animation(
    [torch.cat([x[1:7], x0[1:7]]).clamp(-1, 1).cpu() for _, x, x0 in frames],
    columns=6,
    seconds=4,
    captions=[f"t = {t:4d}, noise rate {(1 - schedule.alpha_bar[t]).sqrt():.2f}" for t, _, _ in frames],
    title=f"{data}: ancestral sampling, T = {every_step}; above x_t, below the guess x̂₀",
)

# %% [markdown]
# ## 6.2 · A ruler, and how much it shakes
#
# Samplers differ, and we shall want to say by how much. Our ruler is the squared Fréchet distance d² of (2.10) between samples and test images, in the features of a small classifier that comes with the course (`frechet_distance`). Before it measures anything, it is measured itself.
#
# ### {{heading sampling/one-seed}}
# {{question sampling/one-seed}}

# %% tags=["quiz"]
### BEGIN SOLUTION
one_seed = "c"
### END SOLUTION
### BEGIN HANDED OUT
# one_seed = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/one-seed", one_seed)


# %% [markdown]
# Two ends of the scale are needed as well. The **floor** is training images: no sampler should be expected below it. The **control** is one Gaussian fitted to the pixels of training images, which knows no shapes, only which pairs of pixels go together.


# %%
@torch.no_grad()
def features(images):
    parts = images.float().clamp(-1, 1).split(500)
    return torch.cat([evaluator.features(part).cpu() for part in parts])


real = features(test.first(lab.pick(smoke=200, cpu=2000, gpu=10_000)).x)


def distance(images):
    """Squared Fréchet distance of images to test images."""
    return frechet_distance(real, features(images))


def one_gaussian(n, seed):
    """n draws from the Gaussian with mean and covariance of training images: random mixtures of what they deviate by."""
    x = train.first(5000).x
    shares = torch.randn(n, len(x), generator=lab.generator(seed), device=lab.device) / len(x) ** 0.5
    return x.mean(0) + (shares @ (x - x.mean(0)).flatten(1)).view(n, *shape)


def some_of_each(n, seed):
    """n training images, every class equally often, as in our samples."""
    order = torch.randperm(len(train.x), generator=lab.generator(seed, "cpu")).to(lab.device)
    kinds = train.labels[order]
    return train.x[torch.cat([order[kinds == k][: n // len(train.classes)] for k in range(len(train.classes))])]


def draw_set(sampler, n, seed):
    """n images of a sampler (noise, labels) → images, every class equally often, in batches of 100."""
    batches = zip(pure_noise(n, seed).split(100), labels_for(n).split(100))
    return torch.cat([sampler(x, y) for x, y in batches])


def evenly(step, strides, seed=0):
    """Your loop as a sampler (noise, labels) → images, at evenly spaced timesteps."""
    times, draw = timesteps(schedule.T, strides), fresh_noise(lab.generator(10_000 + seed))
    return lambda x, y: walk(step, denoise, schedule, x, times, draw, y)[-1][1]


# %% [markdown]
# **Predict, then run.** Your sampler draws 100 images in ten strides, eight times, with another seed each time. How far apart are the largest and the smallest of the eight d²?

# %% tags=["predict"]
guess = predict("sampling/spread", "Largest minus smallest d² of eight seeds, 100 images each", 0, 20)

# %%
n_few, n_many = lab.pick(smoke=(12, 24), cpu=(100, 500), gpu=(100, 1000))
seeds = range(8)
sets = [draw_set(evenly(ancestral_step, 10, seed), n_many, seed) for seed in seeds]
shake = {}
for n in (n_few, n_many):
    shake[f"ten strides, {n} images"] = [distance(x[:n]) for x in sets]
    shake[f"training images, {n}"] = [distance(some_of_each(n, k)) for k in seeds]
    shake[f"one Gaussian, {n} images"] = [distance(one_gaussian(n, k)) for k in seeds]
scatter = {name: torch.tensor(values) for name, values in shake.items()}
spread = {n: scatter[f"ten strides, {n} images"].std().item() for n in (n_few, n_many)}
floor = {n: scatter[f"training images, {n}"].mean().item() for n in (n_few, n_many)}
control = {n: scatter[f"one Gaussian, {n} images"].mean().item() for n in (n_few, n_many)}
scale = f"spread of {n_few} images ±{spread[n_few]:.1f}, floor {floor[n_few]:.1f}, control {control[n_few]:.0f}"
few = scatter[f"ten strides, {n_few} images"]
reveal("sampling/spread", round((few.max() - few.min()).item(), 1))
for name, values in scatter.items():
    print(f"{name:26s} d² {values.mean():7.2f} ± {values.std():.2f}, from {values.min():.2f} to {values.max():.2f}")
chance = [f"{2 * 2**0.5 * value:.1f} with {n} images each" for n, value in spread.items()]
print("two sets, one seed each: differences below about " + ", ".join(chance) + " may be chance (2√2 spreads)")
plots.dots(
    {name: values for name, values in shake.items() if "Gaussian" not in name},
    title=f"{data}: the same sampler, eight seeds",
    x_label="d² to test images",
)

# %% [markdown]
# Three things to take along. The control is far away, so shapes count on this ruler. d² grows when images are few, for training images too: compare only sets of one size. And one seed of 100 images can't rank anything that is close. From here on a difference is called a difference only where the spread supports it, and the floor and the control stand in every table.

# %% [markdown]
# ## 6.3 · Three samplers off the shelf *(extra)*
#
# Three samplers, each like some that people share, walk along every fiftieth step of our schedule: 20 steps instead of 1,000. `pitfalls` keeps them for us. Look at the rows before you look at the code.


# %%
def every_nth(n):
    """A schedule of every n-th step, and the denoiser that goes with it."""
    coarse = Schedule(schedule.alpha_bar[::n], f"every {n}th step")
    return coarse, lambda x, t, y=None: denoise(x, t * n, labels_for(len(x)))


def roughness(images):
    """Rms difference between a pixel and the mean of its four neighbours: noise is rough, and prints are as well."""
    planes = images.clamp(-1, 1).flatten(0, 1)[:, None].float().cpu()
    kernel = torch.tensor([[0.0, -0.25, 0.0], [-0.25, 1.0, -0.25], [0.0, -0.25, 0.0]])
    return F.conv2d(planes, kernel[None, None]).square().mean().sqrt().item()


coarse, ask_coarse = every_nth(50)
start, draw = pure_noise(n_few, seed=3), fresh_noise(lab.generator(3))
draws = torch.stack([draw(start) for _ in range(coarse.T + 1)])
shelf = {"yours": walk(ancestral_step, ask_coarse, coarse, start, timesteps(coarse.T, coarse.T), draw)[-1][1]}
for kind, sampler in {"A": pitfalls.sampler_a, "B": pitfalls.sampler_b, "C": pitfalls.sampler_c}.items():
    shelf[f"sampler {kind}"] = sampler(ask_coarse, coarse, start, draws)
for kind, images in shelf.items():
    print(f"{kind:10s} roughness {roughness(images):.3f}, d² {distance(images):6.1f}")
print(f"floor      roughness {roughness(train.first(n_few).x):.3f}, d² {floor[n_few]:6.1f}")
plots.image_rows({kind: x[:10] for kind, x in shelf.items()}, title=f"{data}: what is wrong with A, B and C?")

# %% [markdown]
# ### {{heading sampling/sampler-a}}
# Put its row beside yours: what is left in it, plainest on the black? (Compare its roughness with *yours*, too, not with the floor's: the prints of real images are rough.) Something is wrong in the function below, and it reads well. Repair it; the check runs your version.


# %% tags=["quiz"]
def sampler_a(denoise, schedule, x, draws):
    """From noise x to images, all T steps of (6.1), with the posterior's variance.

    denoise: called as denoise(x_t, t) with t (b,);  x: (b, c, h, w);  draws: (T + 1, b, c, h, w),
    standard normal: draws[t] is the noise of the step from t to t − 1.  Returns images like x.
    """
    alpha_bar = schedule.alpha_bar
    ### BEGIN SOLUTION
    for t in range(schedule.T, 0, -1):
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # for t in range(schedule.T, 1, -1):
    ### END HANDED OUT
        now, after = alpha_bar[t], alpha_bar[t - 1]
        beta = 1 - now / after
        guess = denoise(x, torch.full((len(x),), t, device=x.device))
        of_guess = after.sqrt() * beta / (1 - now)
        of_x = (now / after).sqrt() * (1 - after) / (1 - now)
        sigma = ((1 - after) / (1 - now) * beta).sqrt()
        x = of_guess * guess + of_x * x + sigma * draws[t]
    return x


# %% tags=["check"]
sampler_a = check("sampling/sampler-a", sampler_a)

# %% [markdown]
# ### {{heading sampling/sampler-a-samples}}
# {{question sampling/sampler-a-samples}}

# %% tags=["quiz"]
### BEGIN SOLUTION
when_it_is_seen = "a"
### END SOLUTION
### BEGIN HANDED OUT
# when_it_is_seen = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/sampler-a-samples", when_it_is_seen)

# %% [markdown]
# ### {{heading sampling/sampler-b}}
# Grey, all of it. The loop is in order; here is its step. Repair it.


# %% tags=["quiz"]
def step_b(x_t, x0, t, noise, schedule):
    """x_{t−1} from x_t and the guess x0, equation (6.1), with the posterior's variance.

    x_t, x0, noise: (b, c, h, w);  t: a whole number in 1..T.  Returns a tensor like x_t.
    """
    now, after = schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
    beta = 1 - now / after
    of_x0 = after.sqrt() * beta / (1 - now)
    of_x_t = (now / after).sqrt() * (1 - after) / (1 - now)
    mean = of_x0 * x0 + of_x_t * x_t
    sigma = ((1 - after) / (1 - now) * beta).sqrt()
    ### BEGIN SOLUTION
    return mean + sigma * noise
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # return mean * sigma * noise
    ### END HANDED OUT


# %% tags=["check"]
step_b = check("sampling/sampler-b", step_b)

# %% [markdown]
# ### {{heading sampling/sampler-b-samples}}
# {{question sampling/sampler-b-samples}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_changes = "d"
### END SOLUTION
### BEGIN HANDED OUT
# what_changes = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/sampler-b-samples", what_changes)

# %% [markdown]
# ### {{heading sampling/sampler-c}}
# What A left is there again, and more of it, though all T steps are taken. Repair it.


# %% tags=["quiz"]
def sampler_c(denoise, schedule, x, draws):
    """From noise x to images, all T steps, with σ_t² = β_t.  Arguments and result as in `sampler_a`."""
    alpha_bar = schedule.alpha_bar
    for t in range(schedule.T, 0, -1):
        now, after = alpha_bar[t], alpha_bar[t - 1]
        beta = 1 - now / after
        guess = denoise(x, torch.full((len(x),), t, device=x.device))
        of_guess = after.sqrt() * beta / (1 - now)
        of_x = (now / after).sqrt() * (1 - after) / (1 - now)
        ### BEGIN SOLUTION
        noise = draws[t] if t > 1 else torch.zeros_like(x)
        ### END SOLUTION
        ### BEGIN HANDED OUT
        # noise = draws[t] if t > 0 else torch.zeros_like(x)
        ### END HANDED OUT
        x = of_guess * guess + of_x * x + beta.sqrt() * noise
    return x


# %% tags=["check"]
sampler_c = check("sampling/sampler-c", sampler_c)

# %% [markdown]
# ### {{heading sampling/sampler-c-samples}}
# {{question sampling/sampler-c-samples}}

# %% tags=["quiz"]
### BEGIN SOLUTION
other_variance = "b"
### END SOLUTION
### BEGIN HANDED OUT
# other_variance = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/sampler-c-samples", other_variance)

# %% [markdown]
# Here are your three repairs, walking from the noise that A, B and C began with:

# %%
repaired, in_turn = {"A, repaired": sampler_a(ask_coarse, coarse, start, draws)}, iter(draws.flip(0))
trail = walk(
    lambda x_t, x0, t, s, noise, schedule: step_b(x_t, x0, t, noise, schedule),
    ask_coarse, coarse, start, timesteps(coarse.T, coarse.T), lambda x: next(in_turn),
)
repaired |= {"B, repaired": trail[-1][1], "C, repaired": sampler_c(ask_coarse, coarse, start, draws)}
print("\n".join(f"{kind} roughness {roughness(x):.3f}, d² {distance(x):6.1f}" for kind, x in repaired.items()))
plots.image_rows({kind: x[:10] for kind, x in repaired.items()}, title=f"{data}: the same noise, after the repairs")

# %% [markdown]
# A and B are now one and the same sampler. C has lost the grain on the black, and is still blotched: that is no bug but its variance β, which for strides as long as these is too large (section 6.4).
#
# B destroyed everything, and nobody would ship it. A and C are the dangerous bugs. How much noise is at stake depends on where the last stride begins:

# %%
for strides in (1000, 100, 20):
    first = timesteps(schedule.T, strides)[-2]
    left = (1 - schedule.alpha_bar[first]).sqrt().item()
    print(f"{strides:5d} strides: the last begins at t = {first:2d}, with noise of {127.5 * left:4.1f} grey levels of 255")

# %% [markdown]
# With a thousand steps nobody sees it, and the code passes review. Then somebody samples with twenty strides and blames the sampler.
#
# ## 6.4 · Which variance? *(extra)*
#
# Back to κ in (6.2). There is a case that can be solved with a pencil: data $x_0\sim\mathcal N(0,\text{std}^2)$. The best guess is then a multiple of $x_t$, $\hat x_0=g\,x_t$ with $g=\sqrt{\bar\alpha_t}\,\text{std}^2/(\bar\alpha_t\,\text{std}^2+1-\bar\alpha_t)$, so every stride is linear: $x_s=f\,x_t+\sigma z$.
# Then one can walk a *variance* instead of an image. If a κ were right for all data, the variance before the last stride would be that of noised data, $\bar\alpha_t\,\text{std}^2+1-\bar\alpha_t$, for any number of strides.
#
# ### {{heading sampling/variance}}
# The step itself tells you $f$ and $\sigma$: ask it about $x_t=1$ without noise, and about $x_t=0$ with noise 1. It wants images, so give it tensors `(b, 1, 1, 1)`, in double precision.


# %% tags=["quiz"]
def variance_before_the_end(step, schedule, times, std):
    """Variance of x where the last stride begins, divided by that of noised data there.

    step: as in `walk`;  schedule: has `.alpha_bar`;  times: falling, to 0;  std: of the data.  The walk begins with
    variance 1, and its guesses are the best ones.  Returns a number.
    """
    ### BEGIN SOLUTION
    variance = 1.0
    x_t = torch.tensor([1.0, 0.0], dtype=torch.float64).view(2, 1, 1, 1)
    for t, s in pairwise(times[:-1]):
        a = schedule.alpha_bar[t].item()
        gain = a**0.5 * std**2 / (a * std**2 + 1 - a)
        factor, sigma = step(x_t, gain * x_t, t, s, 1 - x_t, schedule).flatten().tolist()
        variance = factor**2 * variance + sigma**2
    a = schedule.alpha_bar[times[-2]].item()
    return variance / (a * std**2 + 1 - a)
    ### END SOLUTION


# %% tags=["check"]
variance_before_the_end = check("sampling/variance", variance_before_the_end)

# %%
counts, fine = [2, 5, 10, 20, 50, 100, *lab.pick(smoke=[], cpu=[200, 500], gpu=[200, 500])], cosine_schedule(1000)
kappas = {"κ = 0: β̃": 0.0, "κ = ½": 0.5, "κ = 1: β": 1.0}
ratios = {}
for std in (0.0, 0.05, 1.0):
    for name, kappa in kappas.items():
        step = partial(ancestral_step, kappa=kappa)
        ratios[name, std] = [variance_before_the_end(step, fine, timesteps(1000, k), std) for k in counts]
    said = [f"{name} {min(ratios[name, std]):.2f} to {max(ratios[name, std]):.2f}" for name in kappas]
    print(f"std {std:4g}: " + ",   ".join(said))
plots.small_multiples(
    {f"data of std {std:g}": {name: (counts, ratios[name, std]) for name in kappas} for std in (0.0, 0.05, 1.0)},
    title="Variance before the last stride ÷ that of noised data: 1 is right",
    x_label="strides",
    y_label="ratio",
    log_x=True,
    log_y=True,
    mark=(None, 1),
)

# %% [markdown]
# Two extremes, each exact for one kind of data at any number of strides: β if the data are standard normal, and $\tilde\beta$ if they are a single point, std 0 (then the guess *is* the image, and (3.8) holds as it stands). Between them neither is. With std 0.05 $\tilde\beta$ is right for few strides and falls short by almost a quarter for 50 or 100, where κ = ½ is much nearer; β is three times too large for five or ten.
#
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
# Images lie much nearer to the single point: once the noise is low, the network knows nearly which image it is. So β should do badly with few strides. Does it?

# %%
strides_tried, by_kappa = lab.pick(smoke=[5], cpu=[10, 50], gpu=[10, 50, 200]), {}
for strides in strides_tried:
    for name, kappa in kappas.items():
        images = draw_set(evenly(partial(ancestral_step, kappa=kappa), strides), n_few, seed=4)
        by_kappa[f"{strides} strides,\n{name}"] = images
        print(f"{strides:3d} strides, {name:10s} d² {distance(images):6.1f}")
print(f"one seed each; {scale}")
plots.image_rows({name: x[:10] for name, x in by_kappa.items()}, title=f"{data}: the same starts, three variances")

# %% [markdown]
# With ten strides the variance β leaves grain in everything, far outside of any spread. Nichol & Dhariwal (2021) let the network choose κ for every pixel. We do without: the posterior's variance from here on.

# %% [markdown]
# ## 6.5 · Keep the noise you have: DDIM
#
# A stride of (6.1) throws noise away and draws fresh noise. Must it? Look at what training demands. The network has only ever been asked about single images $x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\varepsilon$; the loss (5.4) knows nothing of how $x_t$ and $x_s$ hang together. So *any* way of making $x_s$ will do, as long as $x_s$ has the right distribution given $x_0$: mean $\sqrt{\bar\alpha_s}\,x_0$, variance $1-\bar\alpha_s$.
#
# Song, Meng & Ermon (2021) use that freedom. Take the noise that is in $x_t$ and keep as much of it as you like, and fill up with fresh noise $\sigma z$. With the guess in the place of $x_0$, and (5.7) for the noise that the guess leaves over:
#
# $$x_s=\underbrace{\sqrt{\bar\alpha_s}\;\hat x_0}_{\text{the guess}}+\underbrace{k\;\hat\varepsilon}_{\text{the noise we had}}+\underbrace{\sigma z}_{\text{fresh noise}},\qquad k^2+\sigma^2=1-\bar\alpha_s,\qquad \hat\varepsilon=\frac{x_t-\sqrt{\bar\alpha_t}\,\hat x_0}{\sqrt{1-\bar\alpha_t}}. \tag{6.4}$$
#
# σ is free, and fixes $k$. A number η turns it on:
#
# $$\sigma=\eta\,\sqrt{\tilde\beta},\qquad 0\le\eta\le1,\qquad\text{with}\ \tilde\beta\ \text{of (6.2).} \tag{6.5}$$
#
# With η = 1 this is ancestral sampling with the posterior's variance, written differently. With η = 0 there is no fresh noise at all: **DDIM**. The image is then a function of the noise that one began with.
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
    posterior = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
    sigma = eta * posterior**0.5
    kept = (1 - alpha_bar_s - sigma**2) ** 0.5
    return alpha_bar_s**0.5 * x0 + kept * implied + sigma * noise
    ### END SOLUTION


# %% tags=["check"]
ddim_step = check("sampling/ddim-step", ddim_step)

# %%
x_t, x0, noise = pure_noise(4), test.x[:4], pure_noise(4, seed=8)
for t, s in ((1000, 999), (700, 300), (40, 20), (20, 0)):
    gap = ddim_step(x_t, x0, t, s, noise, schedule, 1.0) - ancestral_step(x_t, x0, t, s, noise, schedule)
    print(f"from {t:4d} to {s:3d}: your η = 1 and your Algorithm 2 differ by {gap.abs().max():.0e}")

# %% [markdown]
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

# %%
mean_image = train.first(2000).x.mean(0)


def likeness(a, b):
    """Correlation of two batches, pixel by pixel, after taking the mean image away; mean over the batch."""
    a, b = ((x.clamp(-1, 1) - mean_image).flatten(1) for x in (a, b))
    return F.cosine_similarity(a, b).mean().item()


strides_shown, rows = lab.pick(smoke=[3, 6], cpu=[10, 20, 100], gpu=[10, 20, 100]), {}
for eta in (0.0, 1.0):
    for strides in strides_shown:
        sampler = evenly(partial(ddim_step, eta=eta), strides)
        rows[f"η = {eta:g}, {strides} strides"] = sampler(pure_noise(40, seed=9), labels_for(40))
fewest, most, alike = strides_shown[0], strides_shown[-1], {}
for eta in (0.0, 1.0):
    alike[eta] = likeness(rows[f"η = {eta:g}, {fewest} strides"], rows[f"η = {eta:g}, {most} strides"])
    print(f"η = {eta:g}: images of {fewest} and of {most} strides, correlation {alike[eta]:.2f}")
plots.image_rows({name: x[:10] for name, x in rows.items()}, title=f"{data}: each column, same noise and class")

# %% [markdown]
# ### Scrub through a walk
# Move the slider from noise to image, and compare the η. Watch the lower row: with η = 0 the guess, once made, is only sharpened. With η = 1 it keeps changing its mind, and you can find the last moment at which it does. Is there a $t$ after which nothing but detail moves?

# %%
stops = timesteps(schedule.T, lab.pick(smoke=10, cpu=50, gpu=100))
walked = {
    eta: walk(
        partial(ddim_step, eta=eta), denoise, schedule, pure_noise(8, seed=11), stops,
        fresh_noise(lab.generator(12)), labels_for(8),
    )
    for eta in (0.0, 0.5, 1.0)
}


def scrub(strides, eta):
    t, x, guess = walked[eta][strides]
    guess = walked[eta][1][2] if guess is None else guess
    title = f"η = {eta:g}, after {strides} strides: t = {t}, noise rate {(1 - schedule.alpha_bar[t]).sqrt():.2f}"
    return plots.image_rows({"x_t": x, "guess x̂₀": guess}, title=title)


explore(
    scrub,
    strides=slider(0, len(stops) - 1, value=len(stops) // 2, step=1, label="strides taken"),
    eta=choice({"0 (DDIM)": 0.0, "½": 0.5, "1 (DDPM)": 1.0}, label="η"),
    title="When does the guess stop changing its mind?",
    alt="Eight images on their way from noise, above as they are, below the network's guesses",
)

# %% [markdown]
# ### {{heading sampling/sampler-d}}
# A fourth sampler off the shelf: DDIM with η, in twenty steps. It was tested with η = 0 against a library, to six digits, and passed review. Look at the rows first, then repair the function under them.

# %%
coarse = Schedule(schedule.alpha_bar[::50], "every 50th step")
start, draw = pure_noise(n_few, seed=3), fresh_noise(lab.generator(3))
draws = torch.stack([draw(start) for _ in range(coarse.T + 1)])
rows = {}


def every_50th(x, t):
    return denoise(x, 50 * t, labels_for(len(x)))


for eta in (0.0, 0.5, 1.0):
    rows[f"yours, η = {eta:g}"] = evenly(partial(ddim_step, eta=eta), 20)(start, labels_for(n_few))
    rows[f"sampler D, η = {eta:g}"] = pitfalls.sampler_d(every_50th, coarse, start, draws, eta)
for name, images in rows.items():
    print(f"{name:20s} d² {distance(images):6.1f}  (one seed; in 6.2, another sampler's spread: {spread[n_few]:.1f})")
plots.image_rows({name: x[:10] for name, x in rows.items()}, title=f"{data}: what does sampler D lose?")


# %% tags=["quiz"]
def sampler_d(denoise, schedule, x, draws, eta=0.0):
    """From noise x to images, all T steps of (6.4) and (6.5).

    denoise: called as denoise(x_t, t) with t (b,);  x: (b, c, h, w);  draws: (T + 1, b, c, h, w),
    standard normal: draws[t] is the noise of the step from t to t − 1;  eta: η in [0, 1].  Returns images like x.
    """
    alpha_bar = schedule.alpha_bar
    for t in range(schedule.T, 0, -1):
        now, after = alpha_bar[t], alpha_bar[t - 1]
        guess = denoise(x, torch.full((len(x),), t, device=x.device))
        implied = (x - now.sqrt() * guess) / (1 - now).sqrt()
        posterior = (1 - after) / (1 - now) * (1 - now / after)
        sigma = eta * posterior.sqrt()
        ### BEGIN SOLUTION
        kept = (1 - after - sigma**2).clamp(min=0).sqrt()
        ### END SOLUTION
        ### BEGIN HANDED OUT
        # kept = (1 - after - sigma).clamp(min=0).sqrt()
        ### END HANDED OUT
        x = after.sqrt() * guess + kept * implied + sigma * draws[t]
    return x


# %% tags=["check"]
sampler_d = check("sampling/sampler-d", sampler_d)

# %% [markdown]
# ### {{heading sampling/sampler-d-samples}}
# {{question sampling/sampler-d-samples}}

# %% tags=["quiz"]
### BEGIN SOLUTION
where_prints_went = "b"
### END SOLUTION
### BEGIN HANDED OUT
# where_prints_went = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/sampler-d-samples", where_prints_went)

# %%
repaired = {f"η = {eta:g}": sampler_d(every_50th, coarse, start, draws, eta) for eta in (0.5, 1.0)}
print("\n".join(f"{name:7s} d² {distance(x):6.1f}" for name, x in repaired.items()))
plots.image_rows({name: x[:10] for name, x in repaired.items()}, title=f"{data}: sampler D repaired, folds and prints are back")

# %% [markdown]
# Why was D even worse with η = ½ than with η = 1? Near the image the clamp leaves only fresh noise, σ²: with η = ½ a tenth to a fifth of what the level asks for, with η = 1 over a quarter.
#
# **A place to pause.** You have two samplers that run. What follows looks at the second from another side; 6.6 is extra.

# %% [markdown]
# ## 6.6 · A code for each image *(extra)*
#
# With η = 0 and short strides, $\hat\varepsilon$ changes little from one timestep to the next. Then the walk can be turned round: use the $\hat\varepsilon$ at the start of a stride to go *up*,
#
# $$x_s=\sqrt{\bar\alpha_s}\;\hat x_0(x_t,t)+\sqrt{1-\bar\alpha_s}\;\hat\varepsilon(x_t,t),\qquad s>t, \tag{6.6}$$
#
# until $T$. (`ddim_step` won't do: going up, its $\tilde\beta$ is negative.) This is **DDIM inversion**, and what one arrives at is a **code**: noise that leads (nearly) back to this image. A VAE has to learn an encoder; here it is the sampler, walked backwards.
#
# ### {{heading sampling/encode}}


# %% tags=["quiz"]
def encode(denoise, schedule, image, times):
    """The code of images, equation (6.6).

    denoise: called as denoise(x_t, t) with t (b,);  schedule: has `.alpha_bar`, (T + 1,) float64;
    image: (b, c, h, w), stands for x at times[0];  times: rising from 1 or more to T (at 0 ε̂ is 0/0).  Returns x_T.
    """
    ### BEGIN SOLUTION
    x = image
    for t, s in pairwise(times):
        at = torch.full((len(x),), t, device=x.device)
        x0, alpha_bar_s = denoise(x, at), schedule.alpha_bar[s].item()
        implied = predict_noise(schedule, x0, x, at)
        x = alpha_bar_s**0.5 * x0 + (1 - alpha_bar_s) ** 0.5 * implied
    return x
    ### END SOLUTION


# %% tags=["check"]
encode = check("sampling/encode", encode)

# %% [markdown]
# A stride up and the stride down use $\hat\varepsilon$ at different ends, so the way there and back should miss less with more strides; were (6.6) wrong, the misses would stay.
# And where to begin? At $t=1$. The image itself can stand in for $x_1$, the difference is invisible. Or is it? We do both, and look at the codes, which should be noise like any other: of length $\sqrt d$, for $d$ pixels.

# %%
originals = test.first(lab.pick(smoke=6, cpu=20, gpu=100)).x
one = torch.ones(len(originals), dtype=torch.long, device=lab.device)
grain = schedule.add_noise(originals, one, fresh_noise(lab.generator(12))(originals))
codes, back = {}, {}
for strides in lab.pick(smoke=[5, 10], cpu=[10, 30, 100], gpu=[10, 30, 100, 500]):
    stops = timesteps(schedule.T, strides)
    for name, begun_with in {"image": originals, "x_1": grain}.items():
        codes[strides, name] = encode(denoise, schedule, begun_with, sorted({max(t, 1) for t in stops}))
        back[strides, name] = walk(ddim_step, denoise, schedule, codes[strides, name], stops, torch.zeros_like)[-1][1]
        miss = 127.5 * (back[strides, name] - originals).square().mean().sqrt()
        length = codes[strides, name].flatten(1).norm(dim=1).mean() / originals[0].numel() ** 0.5
        print(f"{strides:3d} strides from {name:5s}: misses by {miss:4.1f} of 255 grey levels, length/√d {length:.2f}")
fewest, most = min(codes)[0], max(codes)[0]
plots.image_rows(
    {
        "image": originals[:10],
        "code of the image": codes[most, "image"][:10] / 2,
        "code of x_1": codes[most, "x_1"][:10] / 2,
        f"back, {most} strides": back[most, "x_1"][:10],
        f"back, {fewest} strides": back[fewest, "x_1"][:10],
    },
    title=f"{data}: codes (half contrast), and the way back",
)

# %% [markdown]
# The misses shrink, as they should. But look at the lengths: the codes of the images as they are fall short, even with the most strides. Where an image is *exactly* black, its code is a flat grey. The way up turns grain into noise, and a background of one value has no grain to turn. Training never showed the network such an $x_1$.
# Begin with a real one, (3.4) at $t=1$, whose noise nobody can see, and the codes have nearly the right length. Still, in the codes of the second and of the eighth image one can read the print and the checks: their pixels depend on each other, and it isn't plain noise yet.
#
# ### {{heading sampling/slerp}}
# What is half-way between a shoe and a shirt? Between two *images* it is a double exposure. Between two *codes* it may be an image.
#
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
# ### {{heading sampling/slerp-way}}
# So go round, along the arc (*slerp*, spherical interpolation):
#
# $$\operatorname{slerp}(a,b;u)=\frac{\sin((1-u)\,\theta)}{\sin\theta}\,a+\frac{\sin(u\,\theta)}{\sin\theta}\,b,\qquad \cos\theta=\frac{a\cdot b}{\lVert a\rVert\,\lVert b\rVert}.$$


# %% tags=["quiz"]
def slerp(a, b, u):
    """Along the arc from a to b, for each pair of a batch.  a, b: (b, c, h, w);  u: from 0 (a) to 1 (b).  Like a."""
    ### BEGIN SOLUTION
    cosine = F.cosine_similarity(a.flatten(1), b.flatten(1))
    theta = cosine.clamp(-1, 1).acos().view(-1, 1, 1, 1)
    return (((1 - u) * theta).sin() * a + (u * theta).sin() * b) / theta.sin()
    ### END SOLUTION


# %% tags=["check"]
slerp = check("sampling/slerp-way", slerp)

# %%
whole = timesteps(schedule.T, lab.pick(smoke=6, cpu=30, gpu=100))


def decode(codes):
    return walk(ddim_step, denoise, schedule, codes, whole, torch.zeros_like)[-1][1]


def lerp(a, b, u):
    return (1 - u) * a + u * b


a, b = codes[most, "x_1"][:1], codes[most, "x_1"][1:2]
shares = [k / 8 for k in range(9)]
ways = {"slerp": slerp, "lerp": lerp}
between = {name: decode(torch.cat([way(a, b, u) for u in shares])) for name, way in ways.items()}
jumps = (between["slerp"][1:] - between["slerp"][:-1]).square().mean((1, 2, 3)).sqrt()
jump = int(jumps.argmax())
closer = [shares[jump] + k / 64 for k in range(9)]
zoomed = decode(torch.cat([slerp(a, b, u) for u in closer]))
steps = (zoomed[1:] - zoomed[:-1]).square().mean((1, 2, 3)).sqrt()
others = (jumps.sum() - jumps.max()) / (len(jumps) - 1)
print(f"slerp row: largest change rms {jumps.max():.2f}, from {shares[jump]:g} on; the others on average {others:.2f}")
print(f"eight times as closely: largest change rms {steps.max():.2f}, from {closer[int(steps.argmax())]:.3f} on")
plots.image_rows(
    {
        "slerp of codes": between["slerp"],
        "lerp of codes": between["lerp"],
        "lerp of images": torch.cat([lerp(originals[:1], originals[1:2], u) for u in shares]),
        f"slerp, {closer[0]:g} to {closer[-1]:g}": zoomed,
    },
    labels=[f"{u:g}" for u in shares],
    title=f"{data}: from one test image to another",
)

# %% [markdown]
# The first row doesn't melt one thing into the other. It keeps one kind of thing for a while, and then it is another kind, within one column. The last row looks into that column, eight times as closely: the change is concentrated there as well. The map from code to image is continuous, but it is steep where the walk decides what it will be.
#
# Is the middle of two codes as good a start as any? For plain noise it can be measured, on a few pairs. (No class is given here, so d² is larger than elsewhere.)

# %%
middles = {"an end": lambda a, b: a, "slerp, middle": partial(slerp, u=0.5), "lerp, middle": partial(lerp, u=0.5)}
pairs = [(pure_noise(n_few, 100 + k), pure_noise(n_few, 200 + k)) for k in range(lab.pick(smoke=3, cpu=4, gpu=8))]
for name, way in middles.items():
    found = torch.tensor([distance(decode(way(one, other))) for one, other in pairs])
    print(f"{name:14s} code: deviation {way(*pairs[0]).std():.2f}; d² {found.mean():5.1f} ± {found.std():.1f}")

# %% [markdown]
# By slerp it is. By lerp the start has too little noise in it, and d² doubles.
#
# ## 6.7 · There is a differential equation behind it
#
# What does DDIM become when strides get shorter and shorter? Divide (6.4), with σ = 0, by $\sqrt{\bar\alpha_s}$, and $x_t=\sqrt{\bar\alpha_t}\,\hat x_0+\sqrt{1-\bar\alpha_t}\,\hat\varepsilon$ by $\sqrt{\bar\alpha_t}$. In the coordinates
#
# $$\bar x=\frac{x}{\sqrt{\bar\alpha}},\qquad \varsigma=\frac{\sqrt{1-\bar\alpha}}{\sqrt{\bar\alpha}}\ \text{(the noise for a signal of 1)}$$
#
# these two lines are $\bar x_s=\hat x_0+\varsigma_s\,\hat\varepsilon$ and $\bar x_t=\hat x_0+\varsigma_t\,\hat\varepsilon$, with the *same* guess and the same noise, those at $t$. Subtract them: the guess drops out. Divide by $\varsigma_s-\varsigma_t$ and let $s$ go to $t$: the left side becomes a derivative.
#
# $$\frac{\bar x_s-\bar x_t}{\varsigma_s-\varsigma_t}=\hat\varepsilon(x_t,t)\qquad\longrightarrow\qquad \frac{\mathrm d\bar x}{\mathrm d\varsigma}=\hat\varepsilon(x_t,t). \tag{6.7}$$
#
# The left equation is exact for each stride of DDIM. The right one is its limit, an ordinary differential equation, the **probability-flow ODE** (Song et al. 2021b): DDIM follows it in straight pieces.
#
# Why does it lead to images? By (3.9) $\hat\varepsilon=-\sqrt{1-\bar\alpha_t}\;\nabla\ln q(x_t)$, or $\hat\varepsilon=-\varsigma\,\nabla\ln q_\varsigma(\bar x)$ in the new coordinates, where $\bar x=x_0+\varsigma\varepsilon$ is data with plain noise added. Adding noise spreads the density by the heat equation, $\partial q_\varsigma/\partial\varsigma=\varsigma\,\Delta q_\varsigma$. A crowd that moves with velocity $v$ changes its density by $-\nabla\!\cdot(q_\varsigma v)$. Put in $v=-\varsigma\,\nabla\ln q_\varsigma$: this is $\nabla\!\cdot(\varsigma\,\nabla q_\varsigma)$, the same. So with the exact score a crowd that follows (6.7) has *at every* ς the distribution of noised data, and no noise was needed to keep it.
#
# Whoever has an ODE may use two and a half centuries of solvers. You write three steps and one sampler.
#
# ### {{heading sampling/slope}}
# A solver lives in $\bar x$. The network does not.


# %% tags=["quiz"]
def slope(denoise, x_bar, t, schedule):
    """The right-hand side of (6.7) at the place x_bar and step t.

    denoise: called as denoise(x_t, t) with t (b,), gives the guess x̂_0;  x_bar: (b, c, h, w), is x_t / √ᾱ_t;
    t: a whole number in 1..T;  schedule: has `.alpha_bar`, (T + 1,) float64.  Returns ε̂, like x_bar.
    """
    ### BEGIN SOLUTION
    alpha_bar = schedule.alpha_bar[t].item()
    at = torch.full((len(x_bar),), t, device=x_bar.device)
    x0 = denoise(alpha_bar**0.5 * x_bar, at)
    return (x_bar - x0) / ((1 - alpha_bar) / alpha_bar) ** 0.5
    ### END SOLUTION


# %% tags=["check"]
slope = check("sampling/slope", slope)

# %% [markdown]
# ### {{heading sampling/euler-step}}
# The simplest solver goes straight on, along the slope at the start of the stride:
#
# $$\bar x_s=\bar x_t+(\varsigma_s-\varsigma_t)\;\hat\varepsilon(x_t,t). \tag{6.8}$$


# %% tags=["quiz"]
def euler_step(denoise, x_t, t, s, schedule):
    """One stride of Euler's method from step t to step s, equation (6.8): from x_t to x_s.

    denoise, schedule: as in `slope`;  x_t: (b, c, h, w);  t, s: whole numbers, T ≥ t > s ≥ 0.  Returns x_s.
    """
    ### BEGIN SOLUTION
    alpha_bar_t, alpha_bar_s = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    length = ((1 - alpha_bar_s) / alpha_bar_s) ** 0.5 - ((1 - alpha_bar_t) / alpha_bar_t) ** 0.5
    start = x_t / alpha_bar_t**0.5
    return alpha_bar_s**0.5 * (start + length * slope(denoise, start, t, schedule))
    ### END SOLUTION


# %% tags=["check"]
euler_step = check("sampling/euler-step", euler_step)

# %%
x, zero = pure_noise(4, seed=5), torch.zeros(4, *shape, device=lab.device)
for t, s in ((900, 700), (700, 300), (40, 20), (20, 0)):
    guess = denoise(x, torch.full((4,), t, device=lab.device))
    gap = euler_step(denoise, x, t, s, schedule) - ddim_step(x, guess, t, s, zero, schedule)
    print(f"from {t:4d} to {s:3d}: your Euler and your DDIM differ by {gap.abs().max():.0e}")

# %% [markdown]
# ### {{heading sampling/heun-step}}
# Euler's fault: the slope changes on the way. **Heun's method** walks to Euler's end $x_s'$, asks for the slope *there*, and goes again from the start with the mean of both:
#
# $$\bar x_s=\bar x_t+(\varsigma_s-\varsigma_t)\;\frac{\hat\varepsilon(x_t,t)+\hat\varepsilon(x_s',s)}2,\qquad\text{and Euler's step where}\ s=0. \tag{6.9}$$


# %% tags=["quiz"]
def heun_step(denoise, x_t, t, s, schedule):
    """One stride of (6.9), as `euler_step` is one of (6.8).  Asks the network twice, once where s = 0."""
    ### BEGIN SOLUTION
    alpha_bar_t, alpha_bar_s = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    length = ((1 - alpha_bar_s) / alpha_bar_s) ** 0.5 - ((1 - alpha_bar_t) / alpha_bar_t) ** 0.5
    start = x_t / alpha_bar_t**0.5
    first = slope(denoise, start, t, schedule)
    end = start + length * first
    if s > 0:
        second = slope(denoise, end, s, schedule)
        end = start + length * (first + second) / 2
    return alpha_bar_s**0.5 * end
    ### END SOLUTION


# %% tags=["check"]
heun_step = check("sampling/heun-step", heun_step)

# %% [markdown]
# ### {{heading sampling/multistep}}
# Heun pays two evaluations a stride. Can one have the second order for one? We have asked the network before, at the last stop $r>t$. **DPM-Solver++(2M)** (Lu et al. 2022) draws a line through the last two guesses and reads it in the middle of the stride to come. Along the right axis: with $\lambda=\ln(\sqrt{\bar\alpha}/\sqrt{1-\bar\alpha})$ a stride with a *fixed* guess is solved exactly, and is DDIM's, so all that is left to approximate is how the guess changes.
#
# $$\begin{gathered}
# \hat x=\hat x_0(x_t,t)+\frac{\lambda_s-\lambda_t}{2\,(\lambda_t-\lambda_r)}\big(\hat x_0(x_t,t)-\hat x_0(x_r,r)\big),\\[2pt]
# x_s=\text{DDIM's stride (6.4) with } \sigma=0 \text{ and with } \hat x \text{ in the place of } \hat x_0.
# \end{gathered} \tag{6.10}$$


# %% tags=["quiz"]
def multistep_step(x_t, x0, x0_before, r, t, s, schedule):
    """One stride of DPM-Solver++(2M) from step t to step s, equation (6.10).

    x_t: (b, c, h, w);  x0: the guess at t, x0_before: the guess at r, both like x_t;  r > t > s ≥ 1;
    schedule: `.alpha_bar` and `.log_snr`, which is 2λ (the 2 cancels), both (T + 1,) float64.  Returns x_s, like x_t.
    """
    ### BEGIN SOLUTION
    at_r, at_t, at_s = (schedule.log_snr[k].item() / 2 for k in (r, t, s))
    ahead, behind = at_s - at_t, at_t - at_r
    guess = x0 + ahead / (2 * behind) * (x0 - x0_before)
    return ddim_step(x_t, guess, t, s, torch.zeros_like(x_t), schedule)
    ### END SOLUTION


# %% tags=["check"]
multistep_step = check("sampling/multistep", multistep_step)

# %% [markdown]
# ### {{heading sampling/multistep-walk}}
# This step has a memory, so it doesn't fit into `walk`. The first stride has nothing to remember, and one that ends at 0 has $\lambda_s=\infty$: both are DDIM's.


# %% tags=["quiz"]
def multistep_walk(denoise, schedule, x, times, y=None):
    """From noise x along the timesteps by (6.10).  Returns the trail, as `walk` does: a list of (t, x_t, guess).

    denoise: called as denoise(x_t, t, y) with t (b,);  times: falling whole numbers;  y: (b,) labels, or None.
    The guess of an entry is what the network, asked once a stride, said on the way there: None for the start.
    """
    ### BEGIN SOLUTION
    trail, before = [(times[0], x, None)], None
    for t, s in pairwise(times):
        at = torch.full((len(x),), t, device=x.device)
        x0 = denoise(x, at, y)
        if before is None or s == 0:
            x = ddim_step(x, x0, t, s, torch.zeros_like(x), schedule)
        else:
            r, x0_before = before
            x = multistep_step(x, x0, x0_before, r, t, s, schedule)
        before = (t, x0)
        trail.append((s, x, x0))
    return trail
    ### END SOLUTION


# %% tags=["check"]
multistep_walk = check("sampling/multistep-walk", multistep_walk)

# %% [markdown]
# ## 6.8 · Orders, measured
#
# "Order $p$" is a claim that can be tested: the error at the end falls like (number of strides)$^{-p}$, a straight line of slope $-p$ on log-log paper. Twice the strides: half the error for order 1, a quarter for order 2.
#
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
# ### {{heading sampling/measured-order}}
# From some numbers of strides and the errors that they leave: the $p$ of the straight line that fits best (least squares) on log-log paper.


# %% tags=["quiz"]
def measured_order(strides, errors):
    """The order of convergence, a number.  strides, errors: lists of positive numbers, of one length."""
    ### BEGIN SOLUTION
    x, y = torch.tensor([strides, errors], dtype=torch.float64).log()
    x, y = x - x.mean(), y - y.mean()
    return -((x * y).sum() / (x * x).sum()).item()
    ### END SOLUTION


# %% tags=["check"]
measured_order = check("sampling/measured-order", measured_order)

# %% [markdown]
# ### {{heading sampling/counted}}
# What a sampler costs is the number of times that it asks the network.


# %% tags=["quiz"]
class Counted:
    """A denoiser that counts how often it was asked.  Called as the one it wraps: (x_t, t, y=None) → x̂_0.

    .calls: how many calls there were, 0 at first.
    """

    ### BEGIN SOLUTION
    def __init__(self, denoise):
        self.denoise, self.calls = denoise, 0

    def __call__(self, x_t, t, y=None):
        self.calls += 1
        return self.denoise(x_t, t, y)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, denoise):
    #     raise NotImplementedError("quiz sampling/counted: not answered yet")
    #
    # def __call__(self, x_t, t, y=None):
    #     raise NotImplementedError("quiz sampling/counted: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
Counted = check("sampling/counted", Counted)

# %% [markdown]
# Networks are no place for such a test, since nobody knows the solution. The laboratory of notebook 03 is: a mixture of Gaussians in the plane, whose perfect denoiser is known in closed form. The "exact" solution is the library's Heun with thousands of strides, in double precision. Stops are even in λ, between two noise levels, away from the ends where every method's last stride is special. We take the *median* error over many starts: a single point that ends at the wrong blob would dominate a mean.
#
# **What failing looks like:** beside your methods runs another one, Heun with the two slopes weighed 0.4 to 0.6. (It is 1.2 times Heun's end minus 0.2 times Euler's, and pays for both.) If a method's slope is near 1 where 2 was promised, there is a mistake in it.

# %%
blobs = torch.tensor([[-1.2, 0.4], [0.9, 0.9], [0.6, -1.1]], dtype=torch.float64)
mixture = GaussianMixture(blobs, torch.tensor([0.3, 0.2, 0.4]), torch.tensor([0.5, 0.2, 0.3]))
fine = cosine_schedule(100_000)  # so fine that rounding a stop to a whole step can't be seen
exact = mixture.denoiser(fine)


def perfect(x, t, y=None):
    """The perfect denoiser, of points as images (b, 2, 1, 1)."""
    return exact(x.flatten(1), t).view_as(x)


def even_in_lambda(strides, first=90_000, end=5_000):
    """Stops of the fine schedule between two steps, evenly spaced in λ."""
    snr = fine.log_snr
    wanted = torch.linspace(float(snr[first]), float(snr[end]), strides + 1, dtype=torch.float64)
    return [int(t) for t in torch.searchsorted(-snr, -wanted)]


def solve(step, denoise, schedule, x, times, y=None):
    """From noise to images with the step of a solver (denoise, x_t, t, s, schedule)."""
    for t, s in pairwise(times):
        x = step(lambda x, t: denoise(x, t, y), x, t, s, schedule)
    return x


def uneven_heun(*given):
    return 1.2 * heun_step(*given) - 0.2 * euler_step(*given)


methods = {  # how to get from noise to the end
    "DDIM": lambda *given: walk(ddim_step, *given, torch.zeros_like)[-1][1],
    "Euler": partial(solve, euler_step),
    "Heun": partial(solve, heun_step),
    "DPM-Solver++(2M)": lambda *given: multistep_walk(*given)[-1][1],
    "Heun, uneven (wrong)": partial(solve, uneven_heun),
}

# %%
counts = lab.pick(smoke=[20, 40, 80], cpu=[10, 20, 40, 80, 160, 320], gpu=[10, 20, 40, 80, 160, 320, 640])
points = torch.randn(200, 2, 1, 1, generator=lab.generator(15, "cpu"), dtype=torch.float64)
solution = last(heun(perfect, fine, points, even_in_lambda(lab.pick(smoke=300, cpu=3000, gpu=5000))))
lines, orders = {}, {}
for name, method in methods.items():
    counters = [Counted(perfect) for _ in counts]
    ends = [method(counter, fine, points, even_in_lambda(k)) for counter, k in zip(counters, counts)]
    errors = [(x - solution).flatten(1).norm(dim=1).median().item() for x in ends]
    orders[name] = measured_order(counts[-3:], errors[-3:])
    lines[f"{name}: order {orders[name]:.2f}"] = ([counter.calls for counter in counters], errors)
plots.curves(
    lines,
    title="Slopes are orders (Euler lies on DDIM)",
    x_label="evaluations of the denoiser, counted",
    y_label="median distance to the solution",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# DDIM and Euler: order 1, on one line. Heun and 2M: order 2, for two evaluations a stride and for one. The wrong Heun begins half-way between the orders, and then bends into order 1: with few strides, and no right one beside it, little gives it away.
#
# ## 6.9 · Quality against evaluations
#
# On to images. **Where** a sampler stops matters too: Karras et al. (2022) let ς fall along a ρ-th power,
#
# $$\varsigma_k=\Big(\varsigma_{\max}^{1/\rho}+\tfrac{k}{K-1}\big(\varsigma_{\min}^{1/\rho}-\varsigma_{\max}^{1/\rho}\big)\Big)^{\rho},\quad k=0,\dots,K-1,\qquad \varsigma_K=0,\qquad\rho=7, \tag{6.11}$$
#
# which makes strides in ς shorter and shorter; `karras_timesteps` takes the steps whose ς are nearest, from ς = 80 down to $t=1$, and 0. For $K=10$ they are 992, 985, 972, 942, 871, 698, 378, 118, 21, 1 and 0.
#
# Four of your samplers, and one of the library's that joins two of your ideas, 2M's extrapolated guess and the fresh noise of η = 1 (SDE-DPM-Solver++(2M), Lu et al. 2022 too). All get the same starts and classes, three seeds.

# %%
def at_karras(strides):
    return karras_timesteps(schedule, strides)


# name: (noise x, labels y, budget k, generator g, denoiser to ask) → images
samplers = {
    "DDIM (η = 0)": lambda x, y, k, g, ask: walk(
        ddim_step, ask, schedule, x, timesteps(schedule.T, k), fresh_noise(g), y)[-1][1],
    "DDPM (η = 1)": lambda x, y, k, g, ask: walk(
        partial(ddim_step, eta=1.0), ask, schedule, x, timesteps(schedule.T, k), fresh_noise(g), y)[-1][1],
    "Heun": lambda x, y, k, g, ask: solve(heun_step, ask, schedule, x, at_karras((k + 1) // 2), y),
    "2M": lambda x, y, k, g, ask: multistep_walk(ask, schedule, x, at_karras(k), y)[-1][1],
    "SDE-2M": lambda x, y, k, g, ask: last(dpm_solver(ask, schedule, x, at_karras(k), y, 1.0, g)),
}
budgets, three = lab.pick(smoke=[3, 6], cpu=[5, 10, 20], gpu=[5, 10, 20, 40]), range(3)
drawn, paid, quality = {}, {}, {(name, k): [] for name in samplers for k in budgets}
for (name, k), distances in quality.items():
    counter = Counted(denoise)
    for seed in three:
        chance = lab.generator(20_000 + seed)
        images = draw_set(partial(samplers[name], k=k, g=chance, ask=counter), n_many, seed)
        distances.append(distance(images))
        drawn.setdefault((name, k), images[:n_few])
    paid[name, k] = counter.calls / len(three) / -(-n_many // 100)

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

# %%
score = {}
for key, distances in quality.items():
    values = torch.tensor(distances)
    score[key] = values.mean().item(), values.std().item()
print(f"d² to the data, {n_many} images, mean ± standard deviation of {len(three)} seeds; in brackets what was counted\n")
print(f"{'':14s}" + "".join(f"{k:>16d} asked" for k in budgets))
for name in samplers:
    cells = (f"{score[name, k][0]:8.2f} ± {score[name, k][1]:.2f} ({paid[name, k]:4.1f})" for k in budgets)
    print(f"{name:14s}" + "  ".join(cells))
print(f"floor: training images {floor[n_many]:.2f}; control: one Gaussian {control[n_many]:.1f}")
means = {name: [score[name, k][0] for k in budgets] for name in samplers}
sides = {
    name: [[score[name, k][0] + sign * score[name, k][1] for k in budgets] for sign in (-1, 1)] for name in samplers
}
plots.small_multiples(
    {name: {name: ([paid[name, k] for k in budgets], means[name])} for name in samplers},
    title=f"{data}: three seeds, bands of ± one standard deviation",
    x_label="evaluations",
    y_label="d² to the data",
    backdrop=True,
    band={name: {name: sides[name]} for name in samplers},
    mark={"training images": (None, floor[n_many])},
    log_x=True,
    log_y=True,
    ticks=budgets,
)

# %% [markdown]
# Which differences do three seeds support? Two means are called different if they lie more than two standard errors apart. Three seeds can agree by luck, so no spread is taken to be smaller than that of the eight seeds in 6.2.

# %%
def told_apart(a, b):
    """Whether the means of two (sampler, budget) differ by more than two standard errors."""
    errors = [max(score[key][1], spread[n_many]) / len(three) ** 0.5 for key in (a, b)]
    return abs(score[a][0] - score[b][0]) > 2 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5


for k in budgets:
    first, *others = sorted(samplers, key=lambda name: score[name, k][0])
    tied = [name for name in others if not told_apart((first, k), (name, k))]
    verdict = f"not told apart from {', '.join(tied)}" if tied else "told apart from all others"
    print(f"{k:3d} evaluations: lowest mean {first}, {verdict}")
pairs = [(("2M", budgets[-1]), ("2M", budgets[-2])), (("2M", budgets[-1]), ("DDIM (η = 0)", budgets[-1]))]
for a, b in pairs:
    verdict = "told apart" if told_apart(a, b) else "not told apart"
    print(f"{a[0]} with {a[1]}: {score[a][0]:.2f}; {b[0]} with {b[1]}: {score[b][0]:.2f}: {verdict}")

start, kinds = pure_noise(n_many, 0)[:n_few], labels_for(n_few)  # the starts of the first seed
finest = multistep_walk(denoise, schedule, start, at_karras(lab.pick(smoke=10, cpu=100, gpu=200)), kinds)[-1][1]
off = {
    name: [(drawn[name, k] - finest).square().mean().sqrt().item() for k in budgets]
    for name in ("DDIM (η = 0)", "Heun", "2M")
}
plots.curves(
    {name: ([paid[name, k] for k in budgets], values) for name, values in off.items()},
    title=f"{data}: how far from the network's own ODE?",
    x_label="evaluations of the network",
    y_label="rms of pixels to a fine solution",
    log_y=True,
)

# %% [markdown]
# Read the two figures together, on Fashion-MNIST. In the second, the ODE is solved better and better with more evaluations, and order alone isn't enough: with few, Heun is the worst of all, since for the same budget it takes half as many strides, and the first of them, from ς = 80, are enormous. Order says how fast an error falls once strides are short, not where it begins.
#
# In the first figure the order is another one. From 10 to 20 evaluations 2M comes closer to the network's ODE, and *not* closer to the data, rather the reverse (the two lines printed last say how sure that is): what is left is the network's own error, and a cruder solver may miss by less. With 10 evaluations fresh noise together with 2M's guess is ahead of all others, with 5 and 20 it shares the lead (the lines above say with whom). Noise can make a walk forget the errors made so far (Karras et al. 2022).
#
# Now by eye. All samplers have the same starts; whatever differs is the sampler's doing. Which samplers draw nearly the same images with the smallest budget as with the largest, and which never do? Can you find two settings whose images you can't tell apart, one at a quarter of the other's price?


# %%
def compare(sampler, budget):
    mean, deviation = score[sampler, budget]
    title = f"{sampler}, {paid[sampler, budget]:.0f} evaluations: d² {mean:.1f} ± {deviation:.1f}"
    return plots.image_grid(drawn[sampler, budget][:20], columns=10, title=title)


explore(
    compare,
    sampler=choice(list(samplers), label="sampler"),
    budget=choice(budgets, value=budgets[1], label="evaluations, at most"),
    title="Same starts, other samplers: what do you pay for?",
    alt="Twenty samples from the same noise for a sampler and a number of evaluations",
)

# %% [markdown]
# ## 6.10 · Begin with an image *(extra)*
#
# Sampling needn't begin at $T$. Take a *real* image, noise it to level $t$ with one jump (3.4), and let the model denoise it from there. What the noise has hidden must be invented anew, what it could not hide stays: it shows what is left of an image at level $t$, in the eyes of the network.
#
# ### {{heading sampling/redraw}}


# %% tags=["quiz"]
def redraw(image, level, strides, denoise, schedule, draw):
    """Images taken up to step `level` by one jump (3.4), and walked back from there by ancestral steps (κ = 0).

    image: (b, c, h, w);  level: in 1..T;  strides: those of a whole walk, (6.3); only its stops below `level` are used;
    draw: draw(x) gives fresh noise like x: once for the jump, `schedule.add_noise(image, t, noise)`, then for `walk`.
    Returns (the noised images, the redrawn ones).
    """
    ### BEGIN SOLUTION
    at = torch.full((len(image),), level, device=image.device)
    noisy = schedule.add_noise(image, at, draw(image))
    times = [level, *(t for t in timesteps(schedule.T, strides) if t < level)]
    trail = walk(ancestral_step, denoise, schedule, noisy, times, draw)
    return noisy, trail[-1][1]
    ### END SOLUTION


# %% tags=["check"]
redraw = check("sampling/redraw", redraw)

# %% [markdown]
# **Predict, then run.** We noise test images to $t=700$, where the signal rate is below a half and the eye sees noise. The model, *not told any class*, draws them anew. In how many does the classifier see the same class as in the original?

# %% tags=["predict"]
guess = predict("sampling/survives", "Images that keep their class, noised to t = 700 and drawn anew", 0, 100, unit="%")


# %%
@torch.no_grad()
def named(images):
    """The class that the classifier sees in each image, (b,)."""
    return evaluator(images.float().clamp(-1, 1)).argmax(1)


originals = test.first(lab.pick(smoke=16, cpu=100, gpu=500)).x
strides_whole, levels = lab.pick(smoke=6, cpu=30, gpu=100), [100 * k for k in range(1, 11)]
redrawn = {t: redraw(originals, t, strides_whole, denoise, schedule, fresh_noise(lab.generator(6))) for t in levels}
kept = {t: (named(x) == named(originals)).float().mean().item() for t, (_, x) in redrawn.items()}
reveal("sampling/survives", round(100 * kept[700]))
plots.curves(
    {
        "same class": (levels, list(kept.values())),
        "correlation with the original": (levels, [likeness(originals, x) for _, x in redrawn.values()]),
        "signal rate √ᾱ": (levels, schedule.alpha_bar.sqrt().cpu()[levels]),
    },
    title=f"{data}: noised to t and drawn anew, what is left?",
    x_label="level t that the image was taken to",
    y_label="share",
)

# %%
rows = {}
for name, i in {"": 0, " ": 3}.items():
    rows[f"original{name}"] = originals[i : i + 1].expand(10, -1, -1, -1)
    rows[f"noised to t{name}"] = torch.stack([noisy[i] for noisy, _ in redrawn.values()])
    rows[f"drawn anew{name}"] = torch.stack([x[i] for _, x in redrawn.values()])
plots.image_rows(rows, labels=levels, title=f"{data}: two test images, taken to level t and back")

# %% [markdown]
# ### {{heading sampling/hard-t}}
# {{question sampling/hard-t}}

# %% tags=["quiz"]
### BEGIN SOLUTION
hard_t = "a"
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
    grey = {".": -1.0, "+": -0.3, "#": 0.3, "@": 1.0}
    grid = torch.tensor([[grey[c] for c in row] for row in text.split()], device=lab.device)
    return F.interpolate(grid[None, None], size=shape[1:], mode="nearest").expand(1, *shape)


levels_drawn, rows = [300, 400, 500, 600, 700, 800, 900], {}
for name, text in SCRIBBLES[test.name].items():
    drawing, draw = scribble(text), fresh_noise(lab.generator(7))
    made = [redraw(drawing, t, strides_whole, denoise, schedule, draw)[1] for t in levels_drawn]
    rows[name] = torch.cat([drawing, *made])
plots.image_rows(rows, labels=["drawn", *levels_drawn], title=f"{data}: scribbles, noised to t and redrawn")

# %% [markdown]
# Too little noise, and the rectangles stay; too much, and the drawing is forgotten. Between lies a stretch where the model keeps the idea and supplies the cloth.
#
# ## 6.11 · Fill in what is missing *(extra)*
#
# Half of a photograph is torn off. No new training: in every step we *know* part of the answer, so we put it into the guess, and leave the rest to the network. With a mask $m$, 1 where the image is known,
#
# $$\hat x_0\leftarrow m\odot x_{\text{known}}+(1-m)\odot\hat x_0. \tag{6.12}$$
#
# (6.4) then noises the known pixels to whatever level it is at, and ends at them exactly.
#
# ### {{heading sampling/keep-known}}


# %% tags=["quiz"]
def keep_known(denoise, image, known):
    """A denoiser (x_t, t, y=None) that has the image where `known` is True, and its own guess elsewhere, (6.12).

    denoise: the one to ask;  image: (b, c, h, w), or (1, c, h, w) for all;  known: (h, w) of True and False.
    """
    ### BEGIN SOLUTION
    def denoise_and_keep(x_t, t, y=None):
        guess = denoise(x_t, t, y)
        return torch.where(known, image, guess)

    return denoise_and_keep
    ### END SOLUTION


# %% tags=["check"]
keep_known = check("sampling/keep-known", keep_known)

# %%
known = torch.zeros(shape[1:], dtype=torch.bool, device=lab.device)
known[: shape[1] // 2] = True  # the upper half
stops, rows = timesteps(schedule.T, lab.pick(smoke=6, cpu=30, gpu=100)), {}


def filled(image, mask, n, eta, seed):
    filling, draw = keep_known(denoise, image, mask), fresh_noise(lab.generator(seed))
    return walk(partial(ddim_step, eta=eta), filling, schedule, pure_noise(n, seed), stops, draw)[-1][1]


for (name, mask), i in zip({"upper half": known, "lower half": ~known, "left half": known.T}.items(), (0, 1, 3)):
    image = test.x[i : i + 1]
    rows[f"{name} known"] = torch.cat([image, torch.where(mask, image, 0 * image), filled(image, mask, 5, 1.0, 40 + i)])
labels = ["image", "torn", *(f"fill {k + 1}" for k in range(5))]
plots.image_rows(rows, labels=labels, title=f"{data}: filled in, five times each")

# %%
images, edge = test.first(40).x, shape[1] // 2


def jump(x):
    return (x[:, :, edge] - x[:, :, edge - 1]).abs().mean().item()


for eta in (0.0, 1.0):
    seams = torch.tensor([jump(filled(images, known, len(images), eta, seed)) for seed in range(3)])
    print(f"η = {eta:g}: jump across the seam {seams.mean():.3f} ± {seams.std():.3f} (three seeds)")
print(f"in the images themselves {jump(images):.3f}")

# %% [markdown]
# Exact where it is known. Elsewhere sometimes a good completion, often not. It is not a draw from the true conditional distribution: on the way the network sees the known pixels only through their noise, and early choices are hard to take back. Fresh noise lets it revise some of them, and the seam jumps less; it still jumps more than in real images. "Go further" has a remedy.

# %% [markdown]
# ## 6.12 · Ancestors: Langevin dynamics *(extra)*
#
# Before there were diffusion models there was another way to draw from a density with nothing but its score: go uphill, and shake.
#
# $$x\leftarrow x+h\,\nabla\ln p(x)+\sqrt{2h}\;z,\qquad z\sim\mathcal N(0,I). \tag{6.13}$$
#
# For small $h$ the distribution of $x$ comes to be $p$ and stays it: that is **Langevin dynamics**.
#
# ### {{heading sampling/langevin-step}}


# %% tags=["quiz"]
def langevin_step(x, score, h, noise):
    """One step of Langevin dynamics, equation (6.13).

    x: (b, ...);  score: x → ∇ ln p(x), like x;  h: a number above 0;  noise: like x, standard normal.
    Returns a tensor like x.
    """
    ### BEGIN SOLUTION
    return x + h * score(x) + (2 * h) ** 0.5 * noise
    ### END SOLUTION


# %% tags=["check"]
langevin_step = check("sampling/langevin-step", langevin_step)

# %% [markdown]
# Two islands, far apart, the right one with a fifth of the people, and the exact score. Song & Ermon (2019) had the idea that leads to diffusion: run the chain on *noised* data first, and lower the noise level by level (`annealed_langevin`),
#
# $$\text{at level}\ t:\quad x\leftarrow x+h_t\,\nabla\ln q(x_t)\big|_x+\sqrt{2h_t}\;z\quad\text{a few times, with}\quad h_t=c\,(1-\bar\alpha_t). \tag{6.14}$$
#
# ### {{heading sampling/annealing}}
# {{question sampling/annealing}}

# %% tags=["quiz"]
### BEGIN SOLUTION
why_anneal = "c"
### END SOLUTION
### BEGIN HANDED OUT
# why_anneal = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("sampling/annealing", why_anneal)

# %%
islands = GaussianMixture(torch.tensor([[-1.6, 0.0], [1.6, 0.0]]), 0.25, torch.tensor([4.0, 1.0]))
n_points, course = lab.pick(smoke=500, cpu=4000, gpu=4000), cosine_schedule(400)
x = begin = torch.randn(n_points, 2, generator=lab.generator(18, "cpu"))
chance = lab.generator(19, "cpu")
for _ in range(lab.pick(smoke=200, cpu=2000, gpu=2000)):
    x = langevin_step(x, islands.score, 0.01, torch.randn(x.shape, generator=chance))
levels = lab.pick(smoke=20, cpu=100, gpu=100)
cooled = last(annealed_langevin(islands.denoiser(course), course, begin, levels, generator=chance))
crowds = {"the data": islands.sample(n_points, chance), "Langevin": x, "annealed": cooled}
error = (0.2 * 0.8 / n_points) ** 0.5
for name, crowd in crowds.items():
    print(f"{name:10s} {(crowd[:, 0] > 0).float().mean():.1%} on the right island (standard error {error:.1%})")
few = torch.stack([crowd[:500] for crowd in crowds.values()])
few = (few + torch.tensor([[0.0, 0.0], [0.0, -2.0], [0.0, -4.0]])[:, None]).flatten(0, 1)
which = torch.arange(3).repeat_interleave(500)
plots.scatter_classes(few, which, list(crowds), title="The two islands, drawn one below the other", axis_names=("x₁", "x₂"))

# %% [markdown]
# Each island is right in itself; only the *shares* of plain Langevin are those of its start. That is a quiet failure: every sample looks real. What is left of the idea today is the *corrector*: a Langevin step or two after each stride (Song et al. 2021b).
#
# ## 6.13 · Masks instead of noise *(extra)*
#
# Gaussian noise is one way to destroy an image. Another is to **hide pixels**: let each pixel turn grey for good, at a random time. That is a diffusion with an *absorbing state* (Austin et al. 2021). The network gives, for each hidden pixel, the probability that it is white; its loss is the cross-entropy on hidden pixels; the way back draws a few of them at a time.
# Go back by *one* pixel at a time, and the image is drawn pixel by pixel, each given those before: an **autoregressive model** with a random order (Hoogeboom et al. 2022). Language models that mask words, and write many of them in parallel, stand in this corner too.
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
# ### {{heading sampling/unmask}}
# No network is needed to see it. In a world of ten black-and-white images probabilities are counted, exactly: of the images that fit what is visible, how many are white here? (Where none fits any more, those that fit best are asked.) The way back is yours.


# %% tags=["quiz"]
def unmask(probability, turn, rounds, uniforms):
    """Draw images of −1 and 1, pixel by pixel or several at once.

    probability: x (n, d), with 0 where a pixel is hidden → (n, d), how probable it is that each is white;
    turn: (n, d), when a pixel has its turn, each of 0 … d − 1 once a row;  rounds: how many; the pixel of turn k is
    drawn in round ⌊k · rounds / d⌋, counted from 0, and then stays;
    uniforms: (rounds, n, d) in [0, 1): in its round a pixel gets 1 if its number is below its probability, else −1.
    """
    ### BEGIN SOLUTION
    n, d = turn.shape
    x = torch.zeros(n, d, device=turn.device)
    for k in range(rounds):
        white = uniforms[k] < probability(x)
        pixels = torch.where(white, 1.0, -1.0)
        due = turn * rounds // d == k
        x = torch.where(due, pixels, x)
    return x
    ### END SOLUTION


# %% tags=["check"]
unmask = check("sampling/unmask", unmask)

# %%
firsts = torch.stack([test.x[test.labels == k][0] for k in test.labels.unique()]).cpu().mean(1, keepdim=True)
world = torch.where(F.adaptive_avg_pool2d(firsts, 14) > -0.2, 1.0, -1.0).flatten(1)


def counted(x):
    """Probability of white for each pixel of x (n, d): the share among the images of the world that fit best."""
    agree = (x[:, None] == world).sum(2)  # in how many of the visible pixels
    fits = (agree == agree.max(1, keepdim=True).values).float()
    return fits @ (world > 0).float() / fits.sum(1, keepdim=True)


rows, chance = {"the world": world}, lab.generator(22, "cpu")
turn = torch.rand(10, world.shape[1], generator=chance).argsort(1).argsort(1)
for rounds in (1, 4, world.shape[1]):
    x = unmask(counted, turn, rounds, torch.rand(rounds, *turn.shape, generator=chance))
    found = (x[:, None] == world).all(2).any(1).sum()
    print(f"drawn in {rounds:3d}: {found} of 10 are images of this world")
    rows[f"{rounds} round{'s' * (rounds > 1)}"] = x
plots.image_rows({name: x.view(-1, 1, 14, 14) for name, x in rows.items()}, title="From all hidden to all drawn")

# %% [markdown]
# In one round every pixel is right by itself, and no image comes of it. Of four rounds the first already contradicts every image there is, and the rest finish the nearest one. Pixel by pixel all ten are images of this world.
#
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {data}\n")
print(f"6.2  d² of {n_few} images moves by ±{spread[n_few]:.2f} from seed to seed, of {n_many} by ±{spread[n_many]:.2f}")
print(f"     floor {floor[n_few]:.2f} and {floor[n_many]:.2f}; control, one Gaussian in pixel space, {control[n_many]:.0f}")
print(f"6.5  same noise, few strides and many: correlation {alike[0.0]:.2f} with η = 0, {alike[1.0]:.2f} with η = 1")
print("6.8  order: " + ", ".join(f"{name} {order:.2f}" for name, order in orders.items()))
for name in samplers:
    said = [f"{score[name, k][0]:.2f} ± {score[name, k][1]:.2f} ({paid[name, k]:.0f})" for k in budgets]
    print(f"6.9  {name:12s} d² (evaluations): " + ", ".join(said))

# %% [markdown]
# **What to take along.** A denoiser is enough to draw samples; training does not dictate how to sample. Fresh noise may be added or not (η), timesteps may be many or few, an ODE solver may be of order 1 or 2. For an exact score, order is what counts, and it can be measured. For a network, its own errors soon count for more. The bugs that live long are those that show only at the last step, or only at the η that nobody tested. And a number without a spread ranks nothing.
#
# Notebook 07 asks for something: not any sample, but a sandal.
#
# ## Go further *(ungraded)*
# 1. **Your own SDE-2M.** Its step is `ddim_step` with η = 1 and with 2M's guess. Write it, and check it against `dpm_solver(..., eta=1.0)`.
# 2. **Clip or not.** Draw with `ask_network` in the place of `denoise`. How many pixels of the guesses leave [−1, 1], at which $t$, and does d² notice, by more than its spread?
# 3. **Resample the hole.** RePaint (Lugmayr et al. 2022) jumps back up a few strides and comes down again, several times, so that known and filled parts can agree. Build it from `walk` and `keep_known`, and measure the seam.
# 4. **Corrector steps.** After each stride of DDIM take one Langevin step at the new level (Song et al. 2021b). Does it help at 20 evaluations in all?
# 5. **Codes as addresses.** Encode ten images of one class and average their codes (mind their length). What does the mean code draw?
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
