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
# # 09 · Evaluation and the trilemma
#
# Three families draw the same garments: a VAE, a GAN, diffusion models. Which is best? The answer depends on who looks, on how many images, and on what is asked; each of these can turn a ranking around. You write the measures that papers report, learn where each of them lies, and end with a table in which every number has an error bar.
#
# **What you will be able to do**
# * say what a Fréchet distance sees, and show a control that exposes worthless features;
# * take the bias of small samples out of it, give any measure an error bar, and say whether two models differ;
# * write the kernel distance, the Inception score, precision, recall, density and coverage, and say what each can't see;
# * find copies of training images, draw the trilemma from what was measured, and put an interval around your own errors.
#
# **Before you start:** notebooks 02 (Fréchet distance), 07 (coverage) and 08 (mode collapse).
#
# {{budget}}
#
# The text describes what you see at effort `cpu` or above, on Fashion-MNIST. At `smoke`, and on sets of a few hundred images, sentences about numbers and rankings don't hold.

# %% tags=["setup"]
import math
import statistics
import time
from dataclasses import replace

import torch
from torch.nn import functional as F

from course_utils import plots, recipes, setup
from course_utils.data import GaussianMixture, load
from course_utils.device import seeded
from course_utils.diffusion import Denoiser
from course_utils.explore import RealOrGenerated, explore, play, slider
from course_utils.measured import FAST, SLOW, WISHES, shipped_table
from course_utils.metrics import frechet_distance
from course_utils.models.autoencoder import PCA, fit_gaussian
from course_utils.models.classifier import Classifier
from course_utils.models.vae import VAE, negative_elbo
from course_utils.pitfalls import copies as copy_pitfalls
from course_utils.pitfalls import evaluation as pitfalls
from course_utils.sampling import clipped, ddim, dpm_solver, last
from course_utils.training import Recipe, fit
from course_utils.weights import load_classifier, load_denoiser, load_generator, shipped
from classroom import ask, check, predict, reveal

lab = setup("09")


# %%
def load_known(split):
    """Images that the course's trained models know: those that were asked for, else digits."""
    data = load(lab.data, split, device=lab.device, fallback="digits")
    if data.name in shipped():
        return data
    return replace(load("digits", split, device=lab.device), note=f"instead of {data.title}")


train, test = load_known("train"), load_known("test")
judge = load_classifier(train.name, lab.device)
if train.note:
    print(f"This notebook needs trained models, so it goes on with {train.title}.")
half = min(lab.pick(smoke=160, cpu=4000, gpu=5000), len(test) // 2)
n = min(lab.pick(smoke=160, cpu=1000, gpu=2000), half)


@torch.no_grad()
def features(images):
    """What the course's classifier knows of images (n, c, h, w) before it decides: (n, 64), double, on the CPU."""
    return torch.cat([judge.features(part.to(lab.device)).cpu() for part in images.split(250)]).double()


# %% [markdown]
# The contestants, equally many images of each: a VAE, trained for a few seconds; the course's GAN; the course's diffusion model, asked 5 times and 10 times for an image. And two controls, which belong in every such table: **real images** that nobody trained on, and **ghosts**, draws from one Gaussian fitted to the *pixels*, which knows nothing of garments.


# %%
def quick_vae(steps):
    with seeded(0):
        model = VAE(train.shape, 8).to(lab.device)
    how = Recipe(steps, batch_size=64, lr=4e-3, lr_schedule="cosine", warmup=steps // 10, clip=100.0)
    fit(model, negative_elbo(1.0), train, how)
    return model.eval()


def diffusion(calls, part=250):
    """n images of the course's diffusion model, of classes drawn by lot; the same noise for any number of calls."""
    chance, denoiser = lab.generator(2, "cpu"), load_denoiser(train.name, lab.device)
    noise = torch.randn(n, *train.shape, generator=chance).to(lab.device)
    wanted = torch.randint(len(train.classes), (n,), generator=chance).to(lab.device)
    return torch.cat(
        [
            last(dpm_solver(clipped(denoiser), denoiser.schedule, start, calls, y))
            for start, y in zip(noise.split(part), wanted.split(part))
        ]
    )


many = train.first(lab.pick(smoke=1000, cpu=5000, gpu=5000)).x.cpu().double()
pixels = fit_gaussian(many.flatten(1))
raw_ghosts = pixels.sample(n, lab.generator(3, "cpu")).float().view(n, *train.shape)
vae = quick_vae(lab.pick(smoke=3, cpu=300, gpu=3000))
drawn = {
    "test images": test.x[half : half + n],
    "ghosts": raw_ghosts.clamp(-1, 1).to(lab.device),
    "VAE": vae.sample(n, lab.generator(1)),
    "GAN": load_generator(train.name, lab.device).sample(n, lab.generator(1)),
    "diffusion, 5 steps": diffusion(lab.pick(smoke=2, cpu=5, gpu=5)),
    "diffusion, 10 steps": diffusion(lab.pick(smoke=3, cpu=10, gpu=10)),
}
plots.image_rows({name: images[:10] for name, images in drawn.items()}, title=f"{train.title}: who is best?")

# %% [markdown]
# ## 9.1 · In whose eyes?
#
# Images are compared by **features**: numbers that somebody reads off each of them. The Fréchet distance (2.10) of notebook 02, from here on the library's, sees of those features their mean and their covariance, and nothing else. Two readers: the 32 main directions of the pixels (PCA, notebook 01), and the last hidden layer of the course's classifier.
#
# You met ghosts in notebook 02. **Predict, then run.** Even *real* images are some distance from the test images, because both sets are finite: the **floor**. Read by PCA, how many times the floor are the ghosts away (before they are clamped to $[-1,1]$)?

# %% tags=["predict"]
guess = predict(
    "eval/ghosts", "d² of the ghosts in 32 linear features, in multiples of the floor", 0, 100, unit="times"
)

# %% [markdown]
# ### {{heading eval/why-ghosts}}
# {{question eval/why-ghosts}}

# %% tags=["quiz"]
### BEGIN SOLUTION
why_ghosts = "c"
### END SOLUTION
### BEGIN HANDED OUT
# why_ghosts = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("eval/why-ghosts", why_ghosts)

# %%
pca = PCA.fit(many, 32)
readers = {"linear": lambda images: pca.encode(images.cpu().double()), "classifier": features}
of_test = {reader: read(test.x[:n]) for reader, read in readers.items()}
real, known = of_test["classifier"], {name: features(images) for name, images in drawn.items()}
print(
    f"squared Fréchet distance of {n:,} images to as many test images\n{'':24s}" + "".join(f"{r:>12s}" for r in readers)
)
of_linear = {}
for name, images in {"ghosts, not clamped": raw_ghosts, **drawn}.items():
    row = {reader: frechet_distance(of_test[reader], read(images)) for reader, read in readers.items()}
    print(f"{name:24s}" + "".join(f"{value:12.2f}" for value in row.values()))
    of_linear[name] = row["linear"]
reveal("eval/ghosts", round(of_linear["ghosts, not clamped"] / of_linear["test images"], 2))

# %% [markdown]
# Read by PCA, ghosts beat every model. By construction: they have the *pixels'* mean and covariance, and a linear reader $x\mapsto Wx+b$ turns these into $Wm+b$ and $W\Sigma W^\top$, whatever the images look like. (Clamping isn't linear, and already shows.) **A row of ghosts tells you whether your features are worth anything**: the classifier puts them last.
#
# ### Whatever is linear *(extra)*
# #### {{heading eval/linear}}


# %% tags=["quiz"]
def through_linear(mean, cov, weight, bias):
    """Mean (k,) and covariance (k, k) of the features W x + b, if x has this mean (d,) and this covariance (d, d).

    weight: (k, d);  bias: (k,).
    """
    ### BEGIN SOLUTION
    new_mean = weight @ mean + bias
    new_cov = weight @ cov @ weight.T
    return new_mean, new_cov
    ### END SOLUTION


# %% tags=["check"]
through_linear = check("eval/linear", through_linear)

# %%
x = many.flatten(1)
weight = torch.randn(20, x.shape[1], generator=lab.generator(4, "cpu"), dtype=torch.float64)
foretold_mean, foretold_cov = through_linear(x.mean(0), x.T.cov(), weight, torch.ones(20))
read = x @ weight.T + 1
gap = ((read.T.cov() - foretold_cov).abs().max() / foretold_cov.abs().max()).item()
print(f"covariance of 20 random linear features, foretold from the pixels': off by {gap:.0e} of its largest entry")

# %% [markdown]
# Many layers without a nonlinearity between them would be no better.
#
# ## 9.2 · Small samples lie
#
# **Predict, then run.** Take two sets of real images, and of each 100 at random. In truth they are of one distribution, so the distance is 0. What does the formula say, as a fraction of the GAN's distance at 100 images?

# %% tags=["predict"]
guess = predict("eval/two-hundred", "d² of two sets of 100 real images, in percent of the GAN's", 0, 100, unit="%")

# %% [markdown]
# ### {{heading eval/subsets}}
# How does a distance change with the number of images? Several random subsets of each size, and the mean.


# %% tags=["quiz"]
def by_size(distance, real, fake, sizes, draws, generator):
    """The mean distance of random subsets of n rows, for each n in `sizes`: a list of floats.

    distance: (a, b) -> float;  real: (n, d);  fake: (m, d).  For each of `draws` draws take n different rows of *both*
    sets, anew; `torch.randperm(count, generator=generator)` shuffles row numbers.
    """
    ### BEGIN SOLUTION
    means = []
    for n in sizes:
        total = 0.0
        for _ in range(draws):
            some = real[torch.randperm(len(real), generator=generator)[:n]]
            others = fake[torch.randperm(len(fake), generator=generator)[:n]]
            total += distance(some, others)
        means.append(total / draws)
    return means
    ### END SOLUTION


# %% tags=["check"]
by_size = check("eval/subsets", by_size)

# %%
halves = [features(test.x[:half]), features(test.x[half : 2 * half])]
gan = load_generator(train.name, lab.device)
pools = {"test images": halves[1], "GAN": features(gan.sample(half, lab.generator(1)))}
pools["diffusion, 10 steps"] = known["diffusion, 10 steps"]
sizes = {
    name: [s for s in (80, 100, 150, 250, 500, 1000, 2000, 4000) if s <= len(pool)] for name, pool in pools.items()
}
falling = {
    name: by_size(frechet_distance, halves[0], pool, sizes[name], lab.pick(smoke=2, cpu=8, gpu=20), lab.generator(5, "cpu"))
    for name, pool in pools.items()
}
at_100 = {name: values[sizes[name].index(100)] for name, values in falling.items()}
reveal("eval/two-hundred", round(100 * at_100["test images"] / at_100["GAN"]))
plots.curves(
    {name: (sizes[name], values) for name, values in falling.items()},
    title="The same models and the same data: d² falls as the sets grow",
    x_label="images in each set",
    y_label="squared Fréchet distance",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# Means and covariances that are fitted to few images wander about the true ones, and a distance counts all wandering as difference. The surplus shrinks like one over the number of images,
#
# $$\mathbb E\,d^2(n)\approx d^2_\infty+\frac cn, \tag{9.1}$$
#
# once $n$ is several times the number of features. So the value at infinitely many images is where a straight line over $1/n$ meets the axis (Chong & Forsyth 2020).
#
# ### {{heading eval/line}}


# %% tags=["quiz"]
def at_infinity(sizes, distances):
    """(value, slope) of the line d² ≈ value + slope / n, by least squares, equation (9.1): two floats.

    sizes: numbers of images, at least two different ones;  distances: as many floats.
    """
    ### BEGIN SOLUTION
    x = 1 / torch.tensor(sizes, dtype=torch.float64)
    y = torch.tensor(distances, dtype=torch.float64)
    away = x - x.mean()
    slope = (away * (y - y.mean())).sum() / away.square().sum()
    value = y.mean() - slope * x.mean()
    return value.item(), slope.item()
    ### END SOLUTION


# %% tags=["check"]
at_infinity = check("eval/line", at_infinity)

# %%
figure, axes = plots.new_figure(8, 4)
limits = {}
for (name, values), colour in zip(falling.items(), plots.COLOURS):
    large = [i for i, size in enumerate(sizes[name]) if size >= min(250, n // 2)]
    x, y = [sizes[name][i] for i in large], [values[i] for i in large]
    limits[name], slope = at_infinity(x, y)
    axes.plot([1 / size for size in x], y, "o", color=colour, label=name)
    axes.plot([0, 1 / x[0]], [limits[name], limits[name] + slope / x[0]], "--", color=colour)
    print(f"{name:20s} d² at {x[-1]:5,} images {y[-1]:6.2f}, at infinity {limits[name]:6.2f}")
axes.set(
    xlabel="1 / images in each set",
    ylabel="squared Fréchet distance",
    title="The left ends of the lines are what we want",
)
axes.legend(loc="center right")
figure.set_label(
    "d² over 1/n for real images, the GAN and diffusion: points near straight lines that rise to the right"
)
figure

# %% [markdown]
# The line of real images ends near 0, as it must. That of diffusion doesn't, though at 100 images hardly anybody could have told the two apart. (These ends have no bars yet; 9.3 makes some.)
#
# ### {{heading eval/somebody-elses-board}}
# A colleague keeps a leaderboard. Slow samplers enter with few images, "which is fair, since I compare each with equally many real ones". Her board:

# %%
few = min(150, n - 40)
entries = {name: known[name] for name in ("VAE", "GAN", "diffusion, 5 steps")}
entries |= {name: known[name][:few] for name in ("diffusion, 10 steps", "test images")}


def show_board(board):
    for place, (name, distance) in enumerate(board(real, entries), 1):
        print(f"{place}. {name:22s} {distance:7.2f}")


show_board(pitfalls.board)

# %% [markdown]
# Real images, beaten by a model that was in a hurry? Find what is wrong in the cell below and fix it.


# %% tags=["quiz"]
def somebody_elses_board(real, entries):
    """(name, squared Fréchet distance) of each entry, best first; all judged alike, so that they can be compared.

    real: (n, d), features;  entries: name -> features (m, d), m differs.  What is judged of a set are its first rows.
    """
    board = []
    for name, fake in entries.items():
        ### BEGIN SOLUTION
        n = min(len(real), *(len(rows) for rows in entries.values()))
        ### END SOLUTION
        ### BEGIN HANDED OUT
        # n = min(len(real), len(fake))
        ### END HANDED OUT
        some = real[:n]
        others = fake[:n]

        # of the same set twice it would be 0, but for rounding
        distance = frechet_distance(some, others)
        distance = max(distance, 0.0)
        board.append((name, distance))

    board.sort(key=lambda row: row[1])
    return board


# %% tags=["check"]
somebody_elses_board = check("eval/somebody-elses-board", somebody_elses_board)

# %% [markdown]
# ### {{heading eval/what-a-board-says}}
# {{question eval/what-a-board-says}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_a_board_says = "b"
### END SOLUTION
### BEGIN HANDED OUT
# what_a_board_says = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("eval/what-a-board-says", what_a_board_says)

# %%
show_board(somebody_elses_board)

# %% [markdown]
# ## 9.3 · A distance with an error bar
#
# The **kernel distance** (Bińkowski et al. 2018) compares all pairs. With $k(x,y)=(x^\top y/d+1)^3$, which is large for features that point the same way,
#
# $$\hat D=\frac{1}{n(n-1)}\sum_{i\neq j}k(x_i,x_j)+\frac{1}{m(m-1)}\sum_{i\neq j}k(g_i,g_j)-\frac{2}{nm}\sum_{i,j}k(x_i,g_j). \tag{9.2}$$
#
# Pairs within the real images, plus pairs within the generated ones, less twice the pairs across: this estimates a squared distance of the two distributions, which is zero if and only if their moments agree up to the third.
#
# ### {{heading eval/below-zero}}
# {{question eval/below-zero}}

# %% tags=["quiz"]
### BEGIN SOLUTION
below_zero = "a"
### END SOLUTION
### BEGIN HANDED OUT
# below_zero = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("eval/below-zero", below_zero)

# %% [markdown]
# ### {{heading eval/kernel-distance}}
# A product of matrices holds all pairs at once. Mind what stands on its diagonal.


# %% tags=["quiz"]
def kernel_distance(real, fake):
    """The kernel distance, equation (9.2), without bias: a float, which may be below 0.  Compute in double precision.

    real: (n, d), fake: (m, d), features, n, m ≥ 2.
    """
    ### BEGIN SOLUTION
    real, fake = real.double(), fake.double()
    (n, d), m = real.shape, len(fake)
    of_real = (real @ real.T / d + 1) ** 3
    of_fake = (fake @ fake.T / d + 1) ** 3
    across = (real @ fake.T / d + 1) ** 3
    within_real = (of_real.sum() - of_real.trace()) / (n * (n - 1))
    within_fake = (of_fake.sum() - of_fake.trace()) / (m * (m - 1))
    return (within_real + within_fake - 2 * across.mean()).item()
    ### END SOLUTION


# %% tags=["check"]
kernel_distance = check("eval/kernel-distance", kernel_distance)

# %% [markdown]
# Does it keep its promise? Your `by_size` once more, on two sets of real images, with both distances; each is divided by what the GAN gets, so that one axis will do.

# %%
few_sizes = [s for s in (80, 100, 150, 250, 500, 1000) if s <= n]
both = {"Fréchet": frechet_distance, "kernel": kernel_distance}
draws, flat = lab.pick(smoke=3, cpu=15, gpu=50), {}
for name, distance in both.items():
    of_real = by_size(distance, halves[0], halves[1], few_sizes, draws, lab.generator(6, "cpu"))
    of_gan = distance(real, known["GAN"])
    flat[name] = few_sizes, [value / of_gan for value in of_real]
plots.curves(
    flat,
    title="Two sets of real images: one of these distances knows that it is 0",
    x_label="images in each set",
    y_label="distance, GAN = 1",
    log_x=True,
    mark=(None, 0.0),
)

# %% [markdown]
# Without bias, but not without noise. How much? Leave out a tenth of the images, compute again; then another tenth, until each was left out once. If the value depends little on who is missing, it is sure. With $g$ groups and values $v_1,\dots,v_g$ this is the **jackknife**,
#
# $$s^2=\frac{g-1}{g}\sum_{k=1}^{g}(v_k-\bar v)^2 ,$$
#
# and $s$ is a standard error. (For a mean of $g$ independent values $1/(g(g-1))$ would stand before the sum. The $v_k$ share most of their images and differ $g-1$ times less, so here it is $(g-1)/g$.)
#
# ### {{heading eval/jackknife}}
# For any statistic of any number of sets. All error bars of this notebook's tables are made by it.


# %% tags=["quiz"]
def jackknife(statistic, sets, groups):
    """A statistic and its standard error, by leaving out one group after another.  Returns (value, error).

    sets: tensors whose rows are in no particular order; row i of each belongs to group i % groups;
    statistic: called with as many tensors, returns a tensor (q,) of q numbers;  value, error: (q,).
    """
    ### BEGIN SOLUTION
    without = []
    for group in range(groups):
        rest = [rows[torch.arange(len(rows)) % groups != group] for rows in sets]
        without.append(statistic(*rest))
    without = torch.stack(without)
    away = without - without.mean(dim=0)
    variance = (groups - 1) / groups * away.square().sum(dim=0)
    return statistic(*sets), variance.sqrt()
    ### END SOLUTION


# %% tags=["check"]
jackknife = check("eval/jackknife", jackknife)


# %%
T9 = 2.26  # standard errors of a 95 % interval for ten groups: Student's t with 9 degrees of freedom


def show_interval(name, statistic, *sets):
    """Value ± a 95 % interval."""
    value, error = jackknife(lambda *rows: torch.tensor([statistic(*rows)]), sets, 10)
    print(f"{name:38s} {value.item():7.3f} ± {T9 * error.item():.3f}")


for name, fake in known.items():
    show_interval(name, kernel_distance, real, fake)

# %% [markdown]
# The interval of the test images holds 0, as it should. Those of 5 and of 10 steps overlap. Are they alike, then? Both are compared with the *same* real images and drawn from the *same* noise, so what is accidental in one is so in the other, and drops out of the difference. **Compare two models by the interval of their difference**, not by whether two intervals overlap.
#
# ### Told apart? *(extra)*
# #### {{heading eval/told-apart}}
# The jackknife of a *difference*, with the same real images on both sides.


# %% tags=["quiz"]
def told_apart(distance, real, one, other, groups, quantile):
    """(difference, half-width, verdict) of distance(real, one) − distance(real, other): two floats and a bool.

    half-width: quantile × the jackknife's standard error, leaving out groups of all three sets at once;
    verdict: whether 0 lies outside of difference ± half-width.  distance: (a, b) -> float.
    """

    ### BEGIN SOLUTION
    def difference(real, one, other):
        return torch.tensor([distance(real, one) - distance(real, other)], dtype=torch.float64)

    value, error = jackknife(difference, (real, one, other), groups)
    half_width = quantile * error.item()
    verdict = abs(value.item()) > half_width
    return value.item(), half_width, verdict
    ### END SOLUTION


# %% tags=["check"]
told_apart = check("eval/told-apart", told_apart)

# %%
less, half_width, verdict = told_apart(
    kernel_distance, real, known["diffusion, 5 steps"], known["diffusion, 10 steps"], 10, T9
)
print(f"5 steps less 10 steps, same noise: {less:.3f} ± {half_width:.3f}, told apart: {verdict}")

# %% [markdown]
# ### Is there any difference? *(extra)*
# #### {{heading eval/permutation}}
# An error bar asks how large a difference is. Before that one may ask whether there is one at all. If both sets come from one distribution, it doesn't matter who belongs to which: shuffle all rows together, deal them out again, and the distance should be as large as before about as often as not (Gretton et al. 2012). With $h$ of $t$ shuffles at least as far apart, $p=(1+h)/(1+t)$.


# %% tags=["quiz"]
def permutation_p(distance, real, fake, orders):
    """The p-value of "one distribution": how often sets that are dealt out at random are at least as far apart.

    distance: (a, b) -> float;  real: (n, d);  fake: (m, d);  orders: (t, n + m), each row a shuffle of the row numbers
    0..n + m − 1 of both sets together, real first; after it the first n rows are one set, the rest is the other.
    """
    ### BEGIN SOLUTION
    observed = distance(real, fake)
    together = torch.cat([real, fake])
    hits = 0
    for order in orders:
        dealt = together[order]
        one, other = dealt[: len(real)], dealt[len(real) :]
        if distance(one, other) >= observed:
            hits += 1
    return (1 + hits) / (1 + len(orders))
    ### END SOLUTION


# %% tags=["check"]
permutation_p = check("eval/permutation", permutation_p)

# %%
times = lab.pick(smoke=19, cpu=199, gpu=999)
for m in sorted({min(100, n), min(400, n)}):
    chance = lab.generator(m, "cpu")
    orders = torch.stack([torch.randperm(2 * m, generator=chance) for _ in range(times)])
    p_values = {name: permutation_p(kernel_distance, real[:m], fake[:m], orders) for name, fake in known.items()}
    print(f"{m} images of each:  " + "   ".join(f"{name} {p:.3f}" for name, p in p_values.items()))

# %% [markdown]
# A small $p$ says that there is a difference; a large one only that so many images don't show it. A model isn't as good as reality because a small test can't tell.
#
# ## 9.4 · Sure, and of all kinds *(extra)*
#
# The oldest of these numbers (Salimans et al. 2016) needs no real images. A classifier should be sure of each image, and all classes should be frequent:
#
# $$\mathrm{IS}=\exp\;\mathbb E_x\sum_y p(y\mid x)\,\ln\frac{p(y\mid x)}{p(y)},\qquad p(y)=\mathbb E_x\,p(y\mid x). \tag{9.3}$$
#
# From 1 to the number of classes. The name, *Inception score*, belongs to one large classifier; with ours it is an analogue.
#
# ### {{heading eval/which-scores-best}}
# {{question eval/which-scores-best}}

# %% tags=["quiz"]
### BEGIN SOLUTION
which_scores_best = "d"
### END SOLUTION
### BEGIN HANDED OUT
# which_scores_best = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("eval/which-scores-best", which_scores_best)

# %% [markdown]
# ### {{heading eval/inception-score}}
# Some probabilities are exactly 0, and $0\ln0=0$: `torch.xlogy(a, b)` is $a\ln b$ that knows it.


# %% tags=["quiz"]
def inception_score(probabilities):
    """The Inception score's analogue, equation (9.3), a float.

    probabilities: (n, classes), rows that add up to 1, entries may be 0.
    """
    ### BEGIN SOLUTION
    marginal = probabilities.mean(dim=0)
    each = torch.xlogy(probabilities, probabilities) - torch.xlogy(probabilities, marginal)
    divergence = each.sum(dim=1).mean()
    return divergence.exp().item()
    ### END SOLUTION


# %% tags=["check"]
inception_score = check("eval/inception-score", inception_score)


# %%
@torch.no_grad()
def probabilities(rows):
    """p(y | x) of images whose features (n, 64) are known: (n, classes), double."""
    return judge.head(rows.float().to(lab.device)).softmax(1).cpu().double()


sure = probabilities(real)
best = real[[sure[:, k].argmax().item() for k in range(sure.shape[1])]]  # of each class the image that is surest
tricks = {**known, "one image per class, copied": best.repeat(n // len(best) + 1, 1)[:n]}
for name, rows in tricks.items():
    print(f"{name:30s} score {inception_score(probabilities(rows)):5.2f}   Fréchet {frechet_distance(real, rows):7.1f}")

# %% [markdown]
# Ten photographs, copied, score higher than a thousand different ones. The Fréchet distance, which has seen real images, isn't taken in.
#
# ## 9.5 · Good, or varied?
#
# A distance is one number for two faults: bad images, missing images. To part them, ask who lies near whom. Around each point of a set a **ball** reaches to its $k$-th nearest *other* point of that set; $B_k(S)$ is all that the balls of $S$ cover. Then (Kynkäänniemi et al. 2019)
#
# $$\text{precision}=\frac1m\sum_j\mathbb 1\big[g_j\in B_k(\text{real})\big],\qquad \text{recall}=\frac1n\sum_i\mathbb 1\big[x_i\in B_k(\text{generated})\big]. \tag{9.4}$$
#
# ### {{heading eval/radii}}


# %% tags=["quiz"]
def radii(points, k):
    """How far each point's ball reaches: the distance to its k-th nearest other point, (n,).

    points: (n, d), k < n.  `torch.cdist(a, b)` gives all distances.
    """
    ### BEGIN SOLUTION
    between = torch.cdist(points, points)
    rising = between.sort(dim=1).values
    return rising[:, k]
    ### END SOLUTION


# %% tags=["check"]
radii = check("eval/radii", radii)

# %% [markdown]
# ### {{heading eval/precision-recall}}


# %% tags=["quiz"]
def precision_recall(real, fake, k):
    """Precision and recall, equation (9.4), two floats.  What lies on the edge of a ball is inside.

    real: (n, d), fake: (m, d), k < n, m.
    """
    ### BEGIN SOLUTION
    far = torch.cdist(real, fake)
    near_real = far <= radii(real, k)[:, None]
    near_fake = far <= radii(fake, k)[None, :]
    precision = near_real.any(dim=0).double().mean()
    recall = near_fake.any(dim=1).double().mean()
    return precision.item(), recall.item()
    ### END SOLUTION


# %% tags=["check"]
precision_recall = check("eval/precision-recall", precision_recall)

# %% [markdown]
# Precision trusts the ball of one stray real point, recall that of one stray *generated* point. Naeem et al. (2020) keep to balls of real points: **coverage**, which you wrote in notebook 07 (7.4), is the share of them that hold a generated point; **density** counts in *how many* of them a generated point lies, so that one huge ball weighs $1/k$,
#
# $$\text{density}=\frac1{km}\sum_j\sum_i\mathbb 1\big[\lVert g_j-x_i\rVert\le r_k(x_i)\big], \tag{9.5}$$
#
# which is about 1 if both sets are of one distribution.
#
# ### {{heading eval/density-coverage}}


# %% tags=["quiz"]
def density_coverage(real, fake, k):
    """Density, equation (9.5), and coverage, equation (7.4), two floats.  Arguments as in `precision_recall`."""
    ### BEGIN SOLUTION
    reach = radii(real, k)[:, None]
    inside = torch.cdist(real, fake) <= reach
    density = inside.double().sum() / (k * len(fake))
    coverage = inside.any(dim=1).double().mean()
    return density.item(), coverage.item()
    ### END SOLUTION


# %% tags=["check"]
density_coverage = check("eval/density-coverage", density_coverage)

# %% [markdown]
# ### {{heading eval/collapsed}}
# {{question eval/collapsed}}

# %% tags=["quiz"]
### BEGIN SOLUTION
collapsed = "c"
### END SOLUTION
### BEGIN HANDED OUT
# collapsed = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("eval/collapsed", collapsed)

# %% [markdown]
# The ring of notebook 08 again, this time with generators that we make ourselves, to order.

# %%
ring, spread, count = GaussianMixture.ring(std=0.12), 0.12, 240
z_real, z_made, z_stray = torch.randn(3, count, 2, generator=lab.generator(6, "cpu"))
real_ring = ring.means.repeat(count // 8, 1) + spread * z_real


def made_to_order(modes, width, strays):
    """(count, 2): so many of the eight blobs, each so wide (1: as wide as the real ones), and so many points astray."""
    points = ring.means[torch.arange(count) % modes] + width * spread * z_made
    points[count - strays :] = 1.5 * z_stray[:strays]
    return points


def four(fake, k):
    """The four measures of these points, by name."""
    values = *precision_recall(real_ring, fake, k), *density_coverage(real_ring, fake, k)
    return dict(zip(("precision", "recall", "density", "coverage"), values))


def show_orders(orders, k, title):
    """A panel for each order, with its measures below."""
    made = {name: made_to_order(*order) for name, order in orders.items()}
    return plots.two_sets(
        {name: (real_ring, fake) for name, fake in made.items()},
        {name: four(fake, k) for name, fake in made.items()},
        (-2.6, 2.6, -2.6, 2.6),
        title=title,
        mark=four(made_to_order(8, 1.0, 0), k),
    )


show_orders(
    {"as it should be": (8, 1.0, 0), "3 of 8": (3, 1.0, 0), "3, 15 astray": (3, 1.0, 15), "too narrow": (8, 0.05, 0)},
    k=5,
    title="Four generators on a ring, and what is said of them",
)

# %% [markdown]
# **Which number sees what?** Take blobs away: who notices? Strew a few points about: whose value *rises*? Make the blobs narrow: who likes it? And does the answer hang on $k$?


# %%
def show_ring(modes, width, strays, k):
    name = f"{modes} of 8, width × {width:g}, {strays} astray"
    return show_orders({name: (modes, width, strays)}, k, f"Balls that reach to neighbour k = {k}")


explore(
    show_ring,
    modes=slider(1, 8, 3, label="blobs drawn"),
    width=slider(0.0, 3.0, 1.0, step=0.25, label="width"),
    strays=slider(0, 40, 15, label="points astray"),
    k=slider(1, 20, 5, label="neighbours k"),
    title="Which number sees what?",
    alt="Real and generated points on a ring of eight blobs, over their precision, recall, density and coverage",
)

# %% [markdown]
# A few points astray make balls so wide that whole blobs count as "recalled", though nothing lies there; coverage is not taken in. Narrow blobs please precision and density. So quality needs variety beside it.
#
# And it hangs on $k$: set the width to 0 and move $k$. Coverage of needle-thin blobs climbs from nearly 0 to 1, for a wide real ball is content with one point anywhere inside; recall stays near 0. So report $k$. Strays can't widen coverage, but it sees thinness only if $k$ is small.
#
# ### Beat the measure *(extra)*
# #### {{heading eval/fool-recall}}
# How few points does it take? This generator forgot whole blobs. Change **at most five** of its points, so that recall ($k=5$) rises above 0.9 while coverage stays within 0.05 of what it was. (One is enough.)


# %% tags=["quiz"]
def fool(real, fake):
    """A set like `fake` in which at most five rows are others: recall above 0.9, coverage hardly moved.

    real: (n, 2), fake: (m, 2), points;  returns (m, 2), and leaves `fake` as it is.
    """
    ### BEGIN SOLUTION
    fooled = fake.clone()
    towards_the_missing = real.mean(dim=0) - fake.mean(dim=0)
    far_beyond = real.mean(dim=0) + 1000 * towards_the_missing
    fooled[0] = far_beyond
    return fooled
    ### END SOLUTION


# %% tags=["check"]
fool = check("eval/fool-recall", fool)

# %%
poor = made_to_order(3, 1.0, 0)
for name, points in {"three blobs": poor, "after your touch": fool(real_ring, poor)}.items():
    print(f"{name:18s}" + "".join(f"   {what} {value:.2f}" for what, value in four(points, 5).items()))

# %% [markdown]
# Whoever improves a model by looking at one measure may find such points without meaning to.
#
# ## 9.6 · One table
#
# Everything that you wrote, in the classifier's features, with as many images in each row and a bar by your jackknife. (Tried on sets drawn anew, it is about right for distances, and rather too wide than too narrow for shares of neighbours. A bar is about noise, not bias: the Fréchet column still holds the surplus of (9.1), much the same in every row.)


# %%
def measures(real, fake):
    """Six numbers (6,)."""
    distances = frechet_distance(real, fake), kernel_distance(real, fake)
    return torch.tensor([*distances, *precision_recall(real, fake, 5), *density_coverage(real, fake, 5)])


table = {name: jackknife(measures, (real, fake), 10) for name, fake in known.items()}
columns = "Fréchet", "kernel", "precision", "recall", "density", "coverage"
print(f"{n:,} images in each row; ± {T9} standard errors\n{'':20s}" + "".join(f"{c:>16s}" for c in columns))
for name, (value, error) in table.items():
    print(f"{name:20s}" + "".join(f"{v:8.2f} ± {T9 * e:<5.2f}" for v, e in zip(value.tolist(), error.tolist())))

for what, of in {"recall": precision_recall, "coverage": density_coverage}.items():
    more, half_width, _ = told_apart(
        lambda a, b, of=of: of(a, b, 5)[1], real, known["diffusion, 10 steps"], known["GAN"], 10, T9
    )
    print(f"{what} of diffusion, 10 steps, less the GAN's: {more:+.2f} ± {half_width:.2f}")

# %%
x_of, y_of = columns.index("density"), columns.index("coverage")
points = {
    name: {"_": (value[x_of], value[y_of], T9 * error[x_of], T9 * error[y_of])}
    for name, (value, error) in table.items()
}
plots.tradeoff(
    points,
    title=f"{train.title}: good (right) and varied (up)",
    x_label="density",
    y_label="coverage",
)

# %% [markdown]
# Read the controls first. The first row is what perfection looks like: hardly a measure reaches its best value. Then the ghosts. Precision puts them beside the GAN, for balls of real images are wide enough to let them in; the kernel distance hardly tells them from the VAE's blur. Coverage and the Fréchet distance say what eyes say.
#
# Then the models, by the two differences under the table: recall and coverage need not agree on who is more varied, and coverage is the one that no stray sample can widen. Whether five steps are enough can't be read off overlapping bars, either. And all bars are about the images of *these* trained models. Another training makes another model, so a claim about families needs several seeds.
#
# ### Who beats whom? *(extra)*
# Your `told_apart` for neighbours in the ranking. Five verdicts at 95 %, in an order that the same images chose: a narrow one may be luck.
# %%
ranked = sorted(known, key=lambda name: kernel_distance(real, known[name]))
for better, worse in zip(ranked, ranked[1:]):
    less, half_width, verdict = told_apart(kernel_distance, real, known[worse], known[better], 10, T9)
    print(
        f"{worse:20s} less {better:20s} {less:6.2f} ± {half_width:.2f}: " + ("farther" if verdict else "not told apart")
    )

# %% [markdown]
# ### Another pair of eyes *(extra)*
# #### {{heading eval/somebody-elses-judge}}
# A colleague loads the course's classifier herself. Then she reads a thousand test images twice: in the order of the file, and sorted by class. Same images, same judge.

# %%
weights, config = judge.state_dict(), judge.config
shuffled = test.x[:n]
ordered = shuffled[test.labels[:n].argsort()]


def show_readings(read):
    """d² between one set of images in two orders, and from it to the GAN's."""
    rows, again, made = (read(weights, config, x, 100) for x in (shuffled, ordered, drawn["GAN"]))
    print(f"test images, as they come and sorted: d² {frechet_distance(rows, again):6.2f}")
    print(f"test images and the GAN's:            d² {frechet_distance(rows, made):6.2f}")


show_readings(pitfalls.features)

# %% [markdown]
# A mean and a covariance don't know in which order images come. Find what is wrong in the cell below and fix it.


# %% tags=["quiz"]
def somebody_elses_features(weights, config, images, size):
    """Features (n, d) of images (n, c, h, w), `size` at a time, in double precision on the CPU.

    weights: the `state_dict()` of a trained `Classifier`;  config: the keyword arguments that it was built with.
    """
    judge = Classifier(**config)
    judge.load_state_dict(weights)
    judge = judge.to(images.device)
    ### BEGIN SOLUTION
    judge.eval()
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # judge.requires_grad_(False)
    ### END HANDED OUT

    rows = []
    start = 0
    with torch.no_grad():
        while start < len(images):
            part = images[start : start + size]
            read = judge.features(part)
            rows.append(read.cpu().double())
            start += size
    return torch.cat(rows)


# %% tags=["check"]
somebody_elses_features = check("eval/somebody-elses-judge", somebody_elses_features)

# %% [markdown]
# #### {{heading eval/what-a-judge-does}}
# {{question eval/what-a-judge-does}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_a_judge_does = "a"
### END SOLUTION
### BEGIN HANDED OUT
# what_a_judge_does = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("eval/what-a-judge-does", what_a_judge_does)

# %%
show_readings(somebody_elses_features)

# %% [markdown]
# **A good place to pause.** You have the table and its bars. What follows asks where samples come from, what they cost, and what you see.
#
# ## 9.7 · Is it a copy?
#
# ### {{heading eval/by-heart}}
# {{question eval/by-heart}}

# %% tags=["quiz"]
### BEGIN SOLUTION
by_heart = "d"
### END SOLUTION
### BEGIN HANDED OUT
# by_heart = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("eval/by-heart", by_heart)

# %% [markdown]
# So look into the drawer: which training images are nearest to a sample?
#
# ### {{heading eval/nearest}}
# All distances between 60,000 training images and 4,000 samples fill a gigabyte. Go through the samples in parts, so that memory holds a strip of that table at a time.


# %% tags=["quiz"]
def nearest(points, among, count, at_once=500):
    """The `count` nearest images of another set, nearest first: distances and indices, (n, count) each.

    points: (n, c, h, w);  among: (m, c, h, w);  at_once: how many of `points` are looked at in one go.
    Distances are Euclidean, over all pixels.
    """
    ### BEGIN SOLUTION
    flat, distances, indices = among.flatten(1), [], []
    for part in points.flatten(1).split(at_once):
        found = torch.cdist(part, flat).topk(count, largest=False)
        distances.append(found.values)
        indices.append(found.indices)
    return torch.cat(distances), torch.cat(indices)
    ### END SOLUTION


# %% tags=["check"]
nearest = check("eval/nearest", nearest)

# %%
known_images = train.first(lab.pick(smoke=500, cpu=20_000, gpu=60_000)).x
shown = {name: drawn[name][:3] for name in ("GAN", "diffusion, 10 steps", "test images")}
some = torch.cat(list(shown.values()))
distances, indices = nearest(some, known_images, 1)
from_whom = [name.split()[0].strip(",") for name in shown for _ in range(3)]
plots.image_rows(
    {"image": some, "nearest": known_images[indices[:, 0]]},
    labels=[f"{name}\n{d:.1f}" for name, d in zip(from_whom, distances[:, 0].tolist())],
    title=f"{train.title}: the nearest training images",
)

# %% [markdown]
# Above each pair stands its distance. Does a small one betray a copy?
#
# ### {{heading eval/nearer-than-real}}
# {{question eval/nearer-than-real}}

# %% tags=["quiz"]
### BEGIN SOLUTION
nearer_than_real = "a"
### END SOLUTION
### BEGIN HANDED OUT
# nearer_than_real = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("eval/nearer-than-real", nearer_than_real)

# %%
fresh = drawn["test images"]
blurred = F.avg_pool2d(fresh, 3, stride=1, padding=1, count_include_pad=False)
for name, images in {**drawn, "test images, half blurred": (fresh + blurred) / 2}.items():
    first, second = nearest(images, known_images, 2)[0].median(dim=0).values.tolist()
    print(f"{name:26s} nearest training image at {first:5.2f}, second nearest at {second:5.2f} (medians)")

# %% [markdown]
# The last row moved nearer by losing detail, and copied from nobody. So distances are compared with distances. With $d_1\le d_2$ to the nearest and the second nearest training image, a sample is called a copy if one image is much nearer than all others (Yoon et al. 2023),
#
# $$d_1<\tfrac13\,d_2\quad\text{or}\quad d_1=0 . \tag{9.6}$$
#
# ### {{heading eval/copies}}


# %% tags=["quiz"]
def copies(generated, training, ratio=1 / 3):
    """Which generated images are copies, equation (9.6): (n,), bool.

    generated: (n, c, h, w);  training: (m, c, h, w), m ≥ 2;  ratio: in place of the third.
    """
    ### BEGIN SOLUTION
    first, second = nearest(generated, training, 2)[0].T
    return (first < ratio * second) | (first == 0)
    ### END SOLUTION


# %% tags=["check"]
copies = check("eval/copies", copies)

# %% [markdown]
# A rule needs to be tried where the truth is known. Train the course's diffusion model on **twelve** images, for a few hundred steps, and draw a hundred.

# %%
twelve, steps = train.first(12), lab.pick(smoke=4, cpu=400, gpu=2000)
with seeded(0):
    parrot = recipes.ddpm_model(train.shape).to(lab.device)
schedule = recipes.ddpm_schedule()
how = recipes.ddpm_recipe(steps, batch_size=32)
history = fit(parrot, recipes.ddpm_loss(schedule, parrot), twelve, how)
parrot = Denoiser(history.ema_model.eval(), schedule, recipes.PREDICTION_TYPE)
noise = torch.randn(100, *train.shape, generator=lab.generator(5), device=lab.device)
said = last(dpm_solver(clipped(parrot), schedule, noise, 10)).clamp(-1, 1)
is_copy, model_of = copies(said, twelve.x), nearest(said, twelve.x, 1)[1][:, 0]
plots.image_rows(
    {"sample": said[:12], "nearest of the twelve": twelve.x[model_of[:12]]},
    labels=["copy" if found else "" for found in is_copy[:12]],
    title=f"{train.title}, {steps} steps on twelve images: {is_copy.float().mean():.0%} copies",
)

# %%
rows = {"the parrot": (said, twelve.x), "test images, by the same rule": (test.first(1000).x, twelve.x)}
rows["test images, same training set"] = (fresh, known_images)
rows |= {name: (drawn[name], known_images) for name in ("GAN", "diffusion, 10 steps")}
for name, (images, training) in rows.items():
    print(f"{name:30s} {copies(images, training).float().mean():6.1%} copies of {len(training):,} training images")

# %% [markdown]
# The rows of test images are the controls: a rule that called *them* copies would be worthless. The rest of the parrot's samples look unfinished, or like a mixture of two. (The course's models saw all the training images. At effort `cpu` we look through a third of them.)
#
# ### How many images does it take?
# As Gu et al. (2023) did on a larger scale, `benchmarks/memorization.py` trained the same network on the first 100, 1,000 and 10,000 images of Fashion-MNIST, 1,500 steps of 64 images each: every model saw 96,000 images, but not as many *different* ones.
#
# Two rules: *copies*, (9.6), and *nearer*: nearer to a training image than 99 of 100 held-out test images are. "Control" is what a rule says of other test images. The last two columns are $d^2$ to the training images and to the test images.
#
# **Predict, then run.** A thousand samples of the model that knew 100 images: how many are copies, by (9.6)?

# %% tags=["predict"]
guess = predict(
    "eval/copies-of-100", "copies among samples of a model that was trained on 100 images", 0, 100, unit="%"
)

# %%
memorized = shipped_table("memorization")
set_sizes = [int(size) for size in memorized["images"]]


def over_seeds(quantity):
    """Mean, lowest and highest over seeds, for each number of training images."""
    rows = [table[quantity] for table in memorized["images"].values()]
    return [statistics.fmean(row) for row in rows], [min(row) for row in rows], [max(row) for row in rows]


quantities = ("copies", "control copies", "nearer", "control nearer", "to training", "to test")
print("means (lowest to highest of the seeds)\nimages   " + "".join(f"{column:>22s}" for column in quantities))
for k, size in enumerate(set_sizes):
    found = [[part[k] for part in over_seeds(column)] for column in quantities]
    print(f"{size:6,}   " + "".join("{:8.3f} ({:5.3f}–{:5.3f})".format(*each).rjust(22) for each in found))
reveal("eval/copies-of-100", round(100 * over_seeds("copies")[0][0], 1))

# %%
lines = {"copies, (9.6)": "copies", "nearer than 99 % of test images": "nearer"}
lines |= {"held-out images, by the same limit": "control nearer"}
plots.curves(
    {name: (set_sizes, over_seeds(column)[0]) for name, column in lines.items()},
    band={name: over_seeds(column)[1:] for name, column in lines.items()},
    log_x=True,
    title="Fashion-MNIST: learned by heart (bands: lowest to highest seed)",
    x_label="training images",
    y_label="share of samples",
)

# %% [markdown]
# Each of a hundred images was seen 960 times, each of ten thousand about ten times: learning by heart is a matter of how often. The control columns say what the rules take for a copy by mistake.
# Now the last column. By its distance to the *test* images, the model that copies is the best of the three: perhaps because it had the least to learn. Its distance to what it was trained on is smaller still (although only 100 images stand on that side, which by (9.1) lifts it), and that is a number which is rarely reported.
#
# ### Somebody else's report *(extra)*
# The second rule needs no ratio: a sample is too near if it is nearer to a training image than all but a share of held-out images are, the same training set for both. A colleague wrote it down. His report finds fewer copies among the parrot's samples than (9.6) does, so you try it where the truth is known: on a hundred copies, each with a touch of noise.

# %%
touch = torch.randn(100, *train.shape, generator=lab.generator(8), device=lab.device)
planted = twelve.x.repeat(9, 1, 1, 1)[:100] + 0.02 * touch
held_out = test.first(1000).x
for name, images in {"the parrot's": said, "planted copies": planted}.items():
    print(f"{name:16s} {copy_pitfalls.report(images, twelve.x, held_out, 0.01):.0%} too near, says the report")

# %% [markdown]
# All hundred are copies, and it hardly sees any.
#
# #### {{heading eval/somebody-elses-report}}


# %% tags=["quiz"]
def somebody_elses_report(generated, training, held_out, rare):
    """Which share of generated images is nearer to the training images than all but a share `rare` of held-out ones.

    generated: (n, c, h, w);  training: (m, c, h, w);  held_out: (k, c, h, w);  rare: in (0, 1).  Returns a float.
    """
    flat = training.flatten(1)
    nearest_of = []
    for images in (generated, held_out):
        table = torch.cdist(images.flatten(1), flat)
        ### BEGIN SOLUTION
        nearest_of.append(table.min(dim=1).values)
        ### END SOLUTION
        ### BEGIN HANDED OUT
        # nearest_of.append(table.sort(dim=1).values[:, 1])  # the first one is the image itself
        ### END HANDED OUT
    of_generated, of_held_out = nearest_of
    limit = of_held_out.quantile(rare)
    return (of_generated < limit).double().mean().item()


# %% tags=["check"]
somebody_elses_report = check("eval/somebody-elses-report", somebody_elses_report)

# %%
for name, images in {"the parrot's": said, "planted copies": planted}.items():
    print(f"{name:16s} {somebody_elses_report(images, twelve.x, held_out, 0.01):.0%} too near, says the mended report")

# %% [markdown]
# #### {{heading eval/what-the-report-misses}}
# {{question eval/what-the-report-misses}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_the_report_misses = "c"
### END SOLUTION
### BEGIN HANDED OUT
# what_the_report_misses = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("eval/what-the-report-misses", what_the_report_misses)

# %% [markdown]
# ## 9.8 · The trilemma, measured
#
# Good, fast, everything covered: notebook 00 said, after Xiao et al. (2022), that each family grants two of three wishes. Speed is the one that you have not measured yet.
#
# ### {{heading eval/seconds}}
# The clock is an argument, so that it can be tried with one that is known; here it will be `time.perf_counter`.


# %% tags=["quiz"]
def seconds_per_image(draw, n, repeats, clock):
    """Seconds that `draw(n)` takes for each image: the middle one of `repeats` calls, after one that doesn't count.

    draw: n -> images;  repeats: odd;  clock: () -> seconds.  Returns a float.
    """
    ### BEGIN SOLUTION
    draw(n)
    spent = []
    for _ in range(repeats):
        began = clock()
        draw(n)
        spent.append(clock() - began)
    return sorted(spent)[repeats // 2] / n
    ### END SOLUTION


# %% tags=["check"]
seconds_per_image = check("eval/seconds", seconds_per_image)

# %% [markdown]
# ### How often is it asked? *(extra)*
# #### {{heading eval/evaluations}}
# Seconds depend on the machine; how often a network is asked doesn't. PyTorch calls a function of yours after each run of a module: `module.register_forward_hook(f)`, which is also a context manager.


# %% tags=["quiz"]
def evaluations(network, draw):
    """How often `draw(1)` runs the network, which is afterwards as it was before.

    network: an `nn.Module`;  draw: n -> images.
    """
    ### BEGIN SOLUTION
    asked = []
    with network.register_forward_hook(lambda *_: asked.append(1)):
        draw(1)
    return len(asked)
    ### END SOLUTION


# %% tags=["check"]
evaluations = check("eval/evaluations", evaluations)

# %% [markdown]
# ### Both, on this machine

# %%
unet = load_denoiser(train.name, lab.device)


def walk(sampler, strides):
    def draw(count):
        noise = torch.randn(count, *train.shape, generator=lab.generator(6), device=lab.device)
        return last(sampler(clipped(unet), unet.schedule, noise, strides)).cpu()  # .cpu() waits for an accelerator

    return draw


ways = {"GAN": (gan, lambda count: gan.sample(count).cpu()), "diffusion, 50 steps": (unet.model, walk(ddim, 50))}
ways |= {f"diffusion, {k} steps": (unet.model, walk(dpm_solver, k)) for k in (10, 5)}
at_a_time, seconds = lab.pick(smoke=4, cpu=25, gpu=100), {}
for name, (network, draw) in ways.items():
    asked = evaluations(network, draw)
    seconds[name] = seconds_per_image(draw, at_a_time, 3, time.perf_counter)
    print(f"{name:26s} {asked:3d} evaluations   {1000 * seconds[name]:8.2f} ms an image on this machine")

# %% [markdown]
# ### Equal terms
# Your models had different trainings, so their quality can't be compared. `benchmarks/trilemma.py` gave a VAE, a DCGAN and a diffusion model (50 steps by DDIM, 10 and 5 by DPM-Solver++) the same 300 CPU seconds of training each, three seeds, and judged 2,000 samples of each alike. Below them: 2,000 real *training* images, and ghosts ("pixel Gaussian").
#
# Here ± is the standard deviation over seeds; the distance is $d^2$; precision and recall are with $k=3$ (9.6 had 5), so don't compare across the tables. Milliseconds are CPU time on one thread, 100 images at a time.

# %%
trilemma = shipped_table("trilemma")["models"]


def mean_and_spread(values, digits):
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


digits = {"distance": 1, "precision": 2, "recall": 2, "coverage": 2, "evaluations": 0, "milliseconds": 2}
print(f"{'':26s}" + "".join(f"{column:>16s}" for column in digits))
for model, measured in sorted(trilemma.items(), key=lambda row: "milliseconds" not in row[1]):
    cells = [mean_and_spread(measured[c], d) if c in measured else "" for c, d in digits.items()]
    print(f"{model:26s}" + "".join(f"{cell:>16s}" for cell in cells))

# %% [markdown]
# ### {{heading eval/corners}}
# To draw this, map three numbers to three shares, each 0 at a stated worst and 1 at a stated best: linearly in the coverage and in $d$ (the root of the table's column: $d^2$ would crowd all but the worst together), linearly in the *logarithm* of the seconds, clipped to $[0,1]$. The ends will be the controls, and a second and a tenth of a millisecond for an image.


# %% tags=["quiz"]
def corners(measured, worst, best):
    """How far each of three numbers has come from the worst to the best: three floats in [0, 1].

    measured, worst, best: (distance, seconds per image, coverage) each.
    """
    ### BEGIN SOLUTION
    shares = []
    for k, (value, low, high) in enumerate(zip(measured, worst, best)):
        if k == 1:
            value, low, high = math.log(value), math.log(low), math.log(high)
        shares.append((value - low) / (high - low))
    return tuple(min(1.0, max(0.0, share)) for share in shares)
    ### END SOLUTION


# %% tags=["check"]
corners = check("eval/corners", corners)


# %% [markdown]
# ### Every seed *(extra)*
# #### {{heading eval/places}}
# Distances are roots of the table's $d^2$, its milliseconds are thousandths of a second, and controls have none.


# %% tags=["quiz"]
def places(models, worst, best):
    """The corners of every model but the controls: {"name": [three shares for each seed]}.

    models: {"name": {"distance": [d² of each seed], "milliseconds": [...], "coverage": [...]}}, as `trilemma` is;
    worst, best: (distance, seconds per image, coverage).
    """
    ### BEGIN SOLUTION
    found = {}
    for name, values in models.items():
        if "milliseconds" in values:
            seeds = zip(values["distance"], values["milliseconds"], values["coverage"])
            found[name] = [corners((d2**0.5, ms / 1000, cover), worst, best) for d2, ms, cover in seeds]
    return found
    ### END SOLUTION


# %% tags=["check"]
places = check("eval/places", places)

# %% [markdown]
# ### The triangle
# If that is right of these models, each comes at least half way in two wishes, and not in three.


# %%
def end(model, seconds):
    d2, cover = (statistics.fmean(trilemma[model][quantity]) for quantity in ("distance", "coverage"))
    return d2**0.5, seconds, cover


members = {}
for name, shares in places(trilemma, end("pixel Gaussian", SLOW), end("real images", FAST)).items():
    means = [statistics.fmean(share) for share in zip(*shares)]
    members["{}\ngood {:.2f}, fast {:.2f}, covered {:.2f}".format(name, *means)] = shares
    granted = [wish for wish, share in zip(WISHES, means) if share >= 0.5]
    print(f"{name:26s} comes half way to the best in: {', '.join(granted) or 'nothing'}")
plots.triangle(WISHES, members, title="300 CPU seconds of training: who grants which wish?")

# %% [markdown]
# ### {{heading eval/lost-in-the-triangle}}
# {{question eval/lost-in-the-triangle}}

# %% tags=["quiz"]
### BEGIN SOLUTION
lost_in_the_triangle = "b"
### END SOLUTION
### BEGIN HANDED OUT
# lost_in_the_triangle = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("eval/lost-in-the-triangle", lost_in_the_triangle)

# %% [markdown]
# Two of three, then? Diffusion in 50 steps comes half way in quality and coverage, the VAE and five steps in speed alone. The GAN and ten steps miss their third wish by about 0.01, less than their seeds differ. So "not in three" hangs on where the line is drawn. And in coverage the GAN, of which one says that it leaves things out, can't be told from diffusion by these seeds.
#
# What depends on the ends that we chose, and what doesn't? The places do, and so does "half way". Which of two models is ahead in *one* quality doesn't, as long as neither is clipped; whether that means anything, the seeds say. And the trilemma speaks of families at their best; these are small networks after 300 seconds.
#
# ## 9.9 · Real or generated?
#
# No number so far has asked a person. HYPE (Zhou et al. 2019) made a measure of it: show people one image at a time, half of them real, and count their errors.
#
# ### {{heading eval/perfect-deceiver}}
# {{question eval/perfect-deceiver}}

# %% tags=["quiz"]
### BEGIN SOLUTION
perfect_deceiver = "c"
### END SOLUTION
### BEGIN HANDED OUT
# perfect_deceiver = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("eval/perfect-deceiver", perfect_deceiver)

# %% [markdown]
# A round of the game below shows twenty images: ten real ones, five of each of two models. That is few, so an error rate needs an interval. With $\hat p$ the share of errors among $n$ answers, and $z=1.96$ for 95 %, Wilson's (1927) is
#
# $$\frac{\hat p+\frac{z^2}{2n}\;\pm\;z\sqrt{\frac{\hat p(1-\hat p)}n+\frac{z^2}{4n^2}}}{1+\frac{z^2}n}. \tag{9.7}$$
#
# **Predict, then run.** Ten errors in twenty answers: how wide is it?

# %% tags=["predict"]
guess = predict("eval/how-wide", "width of the 95 % interval after 10 errors in 20 answers", 0, 100, unit="%")

# %% [markdown]
# ### {{heading eval/wilson}}


# %% tags=["quiz"]
def wilson_interval(wrong, n, z=1.96):
    """Both ends of Wilson's interval of an error rate, equation (9.7), two floats in [0, 1].

    wrong: errors, 0..n;  n: answers, 1 or more;  z: standard errors.
    """
    ### BEGIN SOLUTION
    p, shrink = wrong / n, 1 + z**2 / n
    middle = (p + z**2 / (2 * n)) / shrink
    reach = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / shrink
    return max(0.0, middle - reach), min(1.0, middle + reach)
    ### END SOLUTION


# %% tags=["check"]
wilson_interval = check("eval/wilson", wilson_interval)

# %%
low, high = wilson_interval(10, 20)
reveal("eval/how-wide", round(100 * (high - low), 1))
for answered in (5, 20, 80, 320):
    low, high = wilson_interval(0, answered)
    print(f"no error in {answered:3d} answers: the error rate may still be {high:.0%}")

# %% [markdown]
# ### Play
# First a player who tosses a coin, on a sheet of twenty images. Which are real? The key stands under it.

# %%
contestants = {name: drawn[name].cpu().clamp(-1, 1) for name in ("GAN", "diffusion, 10 steps")}
coin = RealOrGenerated(drawn["test images"].cpu(), contestants, answers=20, seed=1)
sheet, toss = [], lab.generator(7, "cpu")
while coin.image is not None:
    sheet.append(coin.image)
    coin.answer("real" if torch.rand(1, generator=toss) < 0.5 else "generated")
plots.image_grid(torch.stack(sheet), labels=range(1, 21), columns=10, title=f"{train.title}: ten of these are real")


# %% [markdown]
# ### The count *(extra)*
# #### {{heading eval/error-rates}}
# `game.answers` is a list of pairs: where an image came from, and what was said.


# %% tags=["quiz"]
def error_rates(answers, real="real images"):
    """Error rate and both ends of its interval (9.7) for each source: {source: (rate, low, high)}.

    answers: (source, "real" or "generated") for each image that was judged;  real: the source that no model is.
    """
    ### BEGIN SOLUTION
    rates = {}
    for source in sorted({source for source, _ in answers}):
        said = [word for origin, word in answers if origin == source]
        n, wrong = len(said), sum((word == "real") != (source == real) for word in said)
        rates[source] = (wrong / n, *wilson_interval(wrong, n))
    return rates
    ### END SOLUTION


# %% tags=["check"]
error_rates = check("eval/error-rates", error_rates)

# %% [markdown]
# ### The key


# %%
def error_table(game):
    for source, (rate, low, high) in error_rates(game.answers).items():
        print(f"{source:20s} {rate:4.0%} wrong   (95 %: {low:.0%} to {high:.0%})")


for source in ("real images", *contestants):
    mine = [str(k) for k, answer in enumerate(coin.answers, 1) if answer.source == source]
    print(f"{source:20s} {', '.join(mine)}")
print()
error_table(coin)

# %% [markdown]
# ### Your turn
# Twenty images, one at a time. Press a button; after the first press the keys do it as well: **r** for real, **g** for generated, **n** for another round. `game.answers` keeps your answers; only the next cell, which lays out a new game, forgets them.

# %%
game = RealOrGenerated(drawn["test images"].cpu(), contestants, answers=20, seed=2)

# %%
play(game)

# %% [markdown]
# Run the next cell when a round is over.

# %%
print(f"{len(game.answers)} answers so far")
error_table(game)

# %% [markdown]
# ### {{heading eval/eight-of-twenty}}
# {{question eval/eight-of-twenty}}

# %% tags=["quiz"]
### BEGIN SOLUTION
eight_of_twenty = "d"
### END SOLUTION
### BEGIN HANDED OUT
# eight_of_twenty = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("eval/eight-of-twenty", eight_of_twenty)

# %% [markdown]
# An error on a model's image is a point for the model. An error on a *real* image counts too: whoever calls everything generated is never deceived, and has learned nothing. What gave images away, blur, holes, a third sleeve? A Fréchet distance never tells you that.
#
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {train.title}\n")
for name, limit in limits.items():
    print(f"9.2  {name:26s} d² at infinitely many images {limit:6.2f}")
for name, (value, error) in table.items():
    print(f"9.6  {name:26s} coverage {value[y_of]:.2f} ± {T9 * error[y_of]:.2f}")
print(f"9.7  the parrot of twelve images: {is_copy.float().mean():.0%} of its samples are copies")
for k, size in enumerate(set_sizes):
    print(f"     {size:6,} training images: {over_seeds('copies')[0][k]:.1%} copies")
for name, spent in seconds.items():
    print(f"9.8  {name:26s} {1000 * spent:8.2f} ms an image")
for source, (rate, low, high) in error_rates(game.answers).items():
    print(f"9.9  your errors, {source:14s} {rate:4.0%}   (95 %: {low:.0%} to {high:.0%})")

# %% [markdown]
# **What to take along.** A distance is as good as its features, falls with the number of images, and means something only beside controls, with an error bar. One number can't tell bad images from missing ones, and none knows where a sample is from: look up its neighbours, and compare their distances with those of held-out images. Plant what a check is to find. Report seconds *and* evaluations, and the ends of every scale. And an error rate, your own included, has an interval.
#
# ## Go further *(ungraded)*
# 1. **Copies of features.** Run `copies` on features instead of pixels. Which shifted or mirrored copies does it find now, and what does it mistake for one?
# 2. **When does it begin?** Measure the parrot's copies every hundred steps. Does its distance to the *test* images pass a minimum?
# 3. **Other ends.** Move the ends of `corners`: ten seconds, precision in place of $d$. Which statement about the trilemma survives every choice of yours?
# 4. **A crowd.** Let three friends play, and compare their intervals. May you add up their answers?
#
# ## References
# * M. Heusel et al., *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium* (Fréchet distance), NeurIPS 2017. arXiv:1706.08500
# * M. J. Chong, D. Forsyth, *Effectively Unbiased FID and Inception Score and Where to Find Them*, CVPR 2020. arXiv:1911.07023
# * M. Bińkowski et al., *Demystifying MMD GANs* (kernel distance), ICLR 2018. arXiv:1801.01401
# * A. Gretton et al., *A Kernel Two-Sample Test*, Journal of Machine Learning Research 13, 2012
# * T. Salimans et al., *Improved Techniques for Training GANs* (Inception score), NeurIPS 2016. arXiv:1606.03498
# * T. Kynkäänniemi et al., *Improved Precision and Recall Metric for Assessing Generative Models*, NeurIPS 2019. arXiv:1904.06991
# * M. F. Naeem et al., *Reliable Fidelity and Diversity Metrics for Generative Models* (density and coverage), ICML 2020. arXiv:2002.09797
# * T. Yoon, J. Choi, S. Kwon, E. Ryu, *Diffusion Probabilistic Models Generalize when They Fail to Memorize*, ICML 2023 workshop SPIGM
# * X. Gu et al., *On Memorization in Diffusion Models*, 2023. arXiv:2310.02664
# * Z. Xiao, K. Kreis, A. Vahdat, *Tackling the Generative Learning Trilemma with Denoising Diffusion GANs*, ICLR 2022. arXiv:2112.07804
# * S. Zhou et al., *HYPE: A Benchmark for Human eYe Perceptual Evaluation of Generative Models*, NeurIPS 2019. arXiv:1904.01121
# * E. B. Wilson, *Probable inference, the law of succession, and statistical inference*, 1927
