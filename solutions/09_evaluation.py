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
# TEMPORARY HEAD: the first half brings its own, with `train`, `test`, `judge`, `features`, `drawn`.
#
# {{budget}}

# %% tags=["setup"]
import math
import statistics
import time
from dataclasses import replace

import torch
from torch.nn import functional as F

from course_utils import plots, recipes, setup
from course_utils.data import load
from course_utils.device import seeded
from course_utils.diffusion import Denoiser
from course_utils.explore import RealOrGenerated, play
from course_utils.measured import shipped_table
from course_utils.models.vae import VAE, negative_elbo
from course_utils.pitfalls import copies as pitfalls
from classroom import ask, check, predict, reveal
from course_utils.sampling import clipped, ddim, dpm_solver, last
from course_utils.training import Recipe, fit
from course_utils.weights import load_denoiser, load_generator, shipped

lab = setup("09")


# %%
def load_known(split):
    data = load(lab.data, split, device=lab.device, fallback="digits")
    if data.name in shipped():
        return data
    return replace(load("digits", split, device=lab.device), note=f"instead of {data.title}")


train, test = load_known("train"), load_known("test")


def diffusion(count):
    denoiser = load_denoiser(train.name, lab.device)
    noise = torch.randn(count, *train.shape, generator=lab.generator(2), device=lab.device)
    return last(dpm_solver(clipped(denoiser), denoiser.schedule, noise, 10))


with seeded(0):
    vae = VAE(train.shape, 32).to(lab.device)
quick_steps = lab.pick(smoke=3, cpu=150, gpu=3000)
quick = Recipe(steps=quick_steps, batch_size=128, lr=4e-3, lr_schedule="cosine", warmup=10, clip=100.0, seed=0)
fit(vae, negative_elbo(1.0), train, quick)
drawn = {
    "test images": test.first(200).x,
    "VAE": vae.eval().sample(200, lab.generator(1)),
    "GAN": load_generator(train.name, lab.device).sample(200, lab.generator(1)),
    "diffusion": diffusion(lab.pick(smoke=40, cpu=100, gpu=200)),
}

# %% [markdown]
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
shown = {name: drawn[name][:3] for name in ("GAN", "diffusion", "test images")}
some = torch.cat(list(shown.values()))
distances, indices = nearest(some, known_images, 1)
from_whom = [name.split()[0] for name in shown for _ in range(3)]
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
# A rule needs to be tried where the truth is known. Train the course's diffusion model on **twelve** images, for as long as your patience lasts, and draw a hundred.

# %%
few, steps = train.first(12), lab.pick(smoke=4, cpu=400, gpu=2000)
with seeded(0):
    parrot = recipes.ddpm_model(train.shape).to(lab.device)
schedule = recipes.ddpm_schedule()
how = recipes.ddpm_recipe(steps, batch_size=32)
history = fit(parrot, recipes.ddpm_loss(schedule, parrot), few, how)
parrot = Denoiser(history.ema_model.eval(), schedule, recipes.PREDICTION_TYPE)
noise = torch.randn(100, *train.shape, generator=lab.generator(5), device=lab.device)
said = last(dpm_solver(clipped(parrot), schedule, noise, 10)).clamp(-1, 1)
is_copy, model_of = copies(said, few.x), nearest(said, few.x, 1)[1][:, 0]
plots.image_rows(
    {"sample": said[:12], "nearest of the twelve": few.x[model_of[:12]]},
    labels=["copy" if found else "" for found in is_copy[:12]],
    title=f"{train.title}, {steps} steps on twelve images: {is_copy.float().mean():.0%} copies",
)

# %%
rows = {"the parrot": (said, few.x), "test images, by the same rule": (test.first(1000).x, few.x)}
rows |= {name: (drawn[name], known_images) for name in ("GAN", "diffusion")}
for name, (images, training) in rows.items():
    print(f"{name:30s} {copies(images, training).float().mean():6.1%} copies of {len(training):,} training images")

# %% [markdown]
# The second line is the control: a rule that called *test* images copies would be worthless. The rest of the parrot's samples are unfinished or between two of the twelve.
#
# ### How many images does it take?
# `benchmarks/memorization.py` trained the same network on the first 100, 1,000 and 10,000 images of Fashion-MNIST, 1,500 steps of 64 images each: every model saw 96,000 images, but not as many *different* ones.
#
# **Predict, then run.** A thousand samples of the model that knew 100 images: how many are copies, by (9.6)?

# %% tags=["predict"]
guess = predict(
    "eval/copies-of-100", "copies among samples of a model that was trained on 100 images", 0, 100, unit="%"
)

# %%
memorized = shipped_table("memorization")
sizes = [int(size) for size in memorized["images"]]


def over_seeds(quantity):
    """Mean, lowest and highest over seeds, for each number of training images."""
    rows = [table[quantity] for table in memorized["images"].values()]
    return [statistics.fmean(row) for row in rows], [min(row) for row in rows], [max(row) for row in rows]


columns = ("copies", "control copies", "nearer", "control nearer", "to training", "to test")
print("images   " + "".join(f"{column:>16s}" for column in columns))
for k, size in enumerate(sizes):
    print(f"{size:6,}   " + "".join(f"{over_seeds(column)[0][k]:16.3f}" for column in columns))
reveal("eval/copies-of-100", round(100 * over_seeds("copies")[0][0], 1))

# %%
lines = {"copies, (9.6)": "copies", "nearer than 99 % of test images": "nearer"}
lines |= {"the latter, of test images": "control nearer"}
plots.curves(
    {name: (sizes, over_seeds(column)[0]) for name, column in lines.items()},
    band={name: over_seeds(column)[1:] for name, column in lines.items()},
    log_x=True,
    title="Fashion-MNIST: learned by heart (bands: lowest to highest seed)",
    x_label="training images",
    y_label="share of samples",
)

# %% [markdown]
# Each of a hundred images was seen 960 times, each of ten thousand about ten times: learning by heart is a matter of how often. The control columns say what the rules take for a copy by mistake.
# Now the last column. By its distance to the *test* images, the model that copies is the best of the three: it had the least to learn, and the others aren't finished. Its distance to what it was trained on is smaller still, and that is a number which is rarely reported.
#
# ### Somebody else's report *(extra)*
# The second rule needs no ratio: a sample is too near if it is nearer to a training image than all but a share of held-out images are, the same training set for both. A colleague wrote it down. His report finds fewer copies among the parrot's samples than (9.6) does, so you try it where the truth is known: on a hundred copies, each with a touch of noise.

# %%
touch = torch.randn(100, *train.shape, generator=lab.generator(8), device=lab.device)
planted = few.x.repeat(9, 1, 1, 1)[:100] + 0.02 * touch
held_out = test.first(1000).x
for name, images in {"the parrot's": said, "planted copies": planted}.items():
    print(f"{name:16s} {pitfalls.report(images, few.x, held_out, 0.01):.0%} too near, says the report")

# %% [markdown]
# All hundred are copies, and it hardly sees any.
#
# #### {{heading eval/somebody-elses-report}}


# %% tags=["quiz"]
def somebody_elses_report(generated, training, held_out, rare):
    """Which share of generated images is nearer to the training images than all but a share `rare` of held-out ones.

    generated: (n, c, h, w);  training: (m, c, h, w);  held_out: (k, c, h, w);  rare: in (0, 1).  Returns a float.
    """
    places = training.flatten(1)
    nearest_of = []
    for images in (generated, held_out):
        table = torch.cdist(images.flatten(1), places)
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
    print(f"{name:16s} {somebody_elses_report(images, few.x, held_out, 0.01):.0%} too near, says the mended report")

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
# Good, fast, everything covered: notebook 00 said that each family grants two of three wishes. Speed is the one that you have not measured yet.
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
# ### {{heading eval/evaluations}}
# Seconds depend on the machine. How often a network is asked doesn't.


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

# %%
gan, unet = load_generator(train.name, lab.device), load_denoiser(train.name, lab.device)


def walk(sampler, strides):
    def draw(count):
        noise = torch.randn(count, *train.shape, generator=lab.generator(6), device=lab.device)
        return last(sampler(clipped(unet), unet.schedule, noise, strides))

    return draw


ways = {"GAN": (gan, gan.sample), "diffusion, DDIM": (unet.model, walk(ddim, 50))}
ways |= {f"diffusion, {k} strides": (unet.model, walk(dpm_solver, k)) for k in (10, 5)}
at_a_time, seconds = lab.pick(smoke=4, cpu=25, gpu=100), {}
for name, (network, draw) in ways.items():
    asked = evaluations(network, draw)
    seconds[name] = seconds_per_image(draw, at_a_time, 3, time.perf_counter)
    print(f"{name:26s} {asked:3d} evaluations   {1000 * seconds[name]:8.2f} ms an image on this machine")

# %% [markdown]
# ### Equal terms
# Your models had different trainings, so their quality can't be compared. `benchmarks/trilemma.py` gave a VAE, a DCGAN and a diffusion model the same 300 CPU seconds of training each, three seeds, and judged 2,000 samples of each alike. The controls of 9.1 stand below them.

# %%
trilemma = shipped_table("trilemma")["models"]


def mean_and_spread(values, digits):
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


shown = {"distance": 1, "precision": 2, "recall": 2, "coverage": 2, "evaluations": 0, "milliseconds": 2}
print(f"{'':26s}" + "".join(f"{column:>16s}" for column in shown))
for model, measured in trilemma.items():
    cells = [mean_and_spread(measured[c], d) if c in measured else "" for c, d in shown.items()]
    print(f"{model:26s}" + "".join(f"{cell:>16s}" for cell in cells))

# %% [markdown]
# ### {{heading eval/corners}}
# To draw this, map three numbers to three shares, each 0 at a stated worst and 1 at a stated best: linearly in $d$ and in the coverage, linearly in the *logarithm* of the seconds, clipped to $[0,1]$. The ends will be the controls, and a second and a tenth of a millisecond for an image.


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


# %%
def end(model, seconds):
    d2, cover = (statistics.fmean(trilemma[model][quantity]) for quantity in ("distance", "coverage"))
    return d2**0.5, seconds, cover


wanted = ("good samples", "fast sampling", "every mode covered")
members = {}
for name, shares in places(trilemma, end("pixel Gaussian", 1.0), end("real images", 1e-4)).items():
    means = [statistics.fmean(share) for share in zip(*shares)]
    members["{}\ngood {:.2f}, fast {:.2f}, covered {:.2f}".format(name, *means)] = shares
    granted = [wish for wish, share in zip(wanted, means) if share >= 0.5]
    print(f"{name:26s} comes half way to the best in: {', '.join(granted) or 'nothing'}")
plots.triangle(wanted, members, title="Fashion-MNIST, 300 CPU seconds of training: who grants which wish?")

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
# What depends on the ends that we chose, and what doesn't? The places do, and so does "half way". An order of two models in *one* quality doesn't, if it is larger than what seeds do. And the trilemma speaks of families at their best; these are small networks after 300 seconds.
#
# ## 9.9 · Real or generated?
#
# Every number so far came from a network that judges features. The judge that counts is you. HYPE (Zhou et al. 2019) made a measure of it: show people one image at a time, half of them real, and count their errors.
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
# Five images of a model are few, so an error rate needs an interval. With $\hat p$ the share of errors among $n$ answers, and $z=1.96$ for 95 %, Wilson's (1927) is
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
    return middle - reach, middle + reach
    ### END SOLUTION


# %% tags=["check"]
wilson_interval = check("eval/wilson", wilson_interval)

# %%
low, high = wilson_interval(10, 20)
reveal("eval/how-wide", round(100 * (high - low), 1))
for count in (5, 20, 80, 320):
    low, high = wilson_interval(0, count)
    print(f"no error in {count:3d} answers: the error rate may still be {high:.0%}")

# %% [markdown]
# ### Play
# First a player who tosses a coin, on a sheet of twenty images. Which are real? The key stands under it.

# %%
contestants = {name: drawn[name].cpu().clamp(-1, 1) for name in ("GAN", "diffusion")}
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
        print(f"{source:14s} {rate:4.0%} wrong   (95 %: {low:.0%} to {high:.0%})")


print("Key: " + ", ".join(f"{k} {answer.source}" for k, answer in enumerate(coin.answers, 1)) + "\n")
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
print(f"9.7  the parrot of twelve images: {is_copy.float().mean():.0%} of its samples are copies")
for k, size in enumerate(sizes):
    print(f"     {size:6,} training images: {over_seeds('copies')[0][k]:.1%} copies")
for name, spent in seconds.items():
    print(f"9.8  {name:26s} {1000 * spent:8.2f} ms an image")
for source, (rate, low, high) in error_rates(game.answers).items():
    print(f"9.9  your errors, {source:14s} {rate:4.0%}   (95 %: {low:.0%} to {high:.0%})")

# %% [markdown]
# **What to take along.** No measure of quality knows where a sample is from: look up its neighbours, and compare their distances with each other, or with those of held-out images. Plant what a check is to find. Report seconds *and* evaluations, and the ends of every scale. And an error rate, your own included, has an interval.
#
# ## Go further *(ungraded)*
# 1. **Copies of features.** Run `copies` on features instead of pixels. Which shifted or mirrored copies does it find now, and what does it mistake for one?
# 2. **When does it begin?** Measure the parrot's copies every hundred steps. Does its distance to the *test* images pass a minimum?
# 3. **Other ends.** Move the ends of `corners`: ten seconds, precision in place of $d$. Which statement about the trilemma survives every choice of yours?
# 4. **A crowd.** Let three friends play, and compare their intervals. May you add up their answers?
#
# ## References
# * T. Yoon, J. Choi, S. Kwon, E. Ryu, *Diffusion Probabilistic Models Generalize when They Fail to Memorize*, ICML 2023 workshop SPIGM
# * X. Gu et al., *On Memorization in Diffusion Models*, 2023. arXiv:2310.02664
# * Z. Xiao, K. Kreis, A. Vahdat, *Tackling the Generative Learning Trilemma with Denoising Diffusion GANs*, ICLR 2022. arXiv:2112.07804
# * S. Zhou et al., *HYPE: A Benchmark for Human eYe Perceptual Evaluation of Generative Models*, NeurIPS 2019. arXiv:1904.01121
# * E. B. Wilson, *Probable inference, the law of succession, and statistical inference*, 1927
