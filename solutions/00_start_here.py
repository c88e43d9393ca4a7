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
# # 00 · Start here
#
# Somewhere among all possible pictures of 28 × 28 pixels are the ones that look like shoes. This course is about finding them without being shown the way:
# you get a heap of examples, and build a machine that draws new ones. You will build several, from the plain autoencoder to guided diffusion, each by hand, each once.
#
# This notebook plays the whole game once, in about 45 minutes, so that you know what the next ones are for. You begin at the end: the first thing that you do is draw.
#
# **What you will be able to do**
# * watch a diffusion sampler turn noise into an image, step by step, and steer it with a slider;
# * see four simpler recipes, from hopeless to blurred, and what each of them lacks;
# * tell what a network knows that a perfect memory of the training images does not;
# * place the great families of models on one map: sample quality, sampling speed, mode coverage;
# * use what every notebook here uses: quizzes, hints, explorers, predictions, effort levels.
#
# **Before you start:** some Python, and what a vector, a mean and a Gaussian are (for one formula also Bayes' rule). No GPU, and no network once the course is installed.
#
# {{budget}}
#
# Run the cells one after another with <kbd>Shift</kbd>+<kbd>Enter</kbd>. Nothing here waits for you to solve anything: every cell runs, solved or not.

# %% tags=["setup"]
import functools
import math

import torch

from course_utils import plots, setup
from course_utils.data import load
from course_utils.device import seeded
from course_utils.cli.doctor import doctor
from course_utils.explore import choice, explore, slider
from course_utils.measured import WISHES, shipped_table, wishes
from course_utils.models.vae import VAE, negative_elbo
from classroom import ask, check, hint, predict, reveal
from course_utils.training import fit
from course_utils.weights import load_classifier, load_denoiser, load_generator, shipped

lab = setup("00")

# %% [markdown]
# ## 0.1 · Draw something
#
# Run the next two cells. The first loads a network that comes with the course, trained on pictures of garments; the second asks it for two of each kind, and draws them out of noise.

# %%
everything = load(lab.data, "train", device=lab.device, fallback="digits")
if everything.name not in shipped():
    print(f"No trained model comes with the course for {everything.title}: this notebook uses digits.")
    everything = load("digits", "train", device=lab.device)
model, evaluator = load_denoiser(everything.name, lab.device), load_classifier(everything.name, lab.device)
T = 40
stride = model.schedule.T // T                                # it knows 1,000 noise levels; we stop at every 25th
alpha_bar = model.schedule.alpha_bar[::stride].float()        # T + 1 numbers from 1 to nearly 0
print(f"a U-Net with {sum(p.numel() for p in model.parameters()):,} weights, trained for {model.card['steps']} steps on {everything.title}")


def network(x_t, t, y=None):
    """The network's guess of the clean image, for images of class y, or of any class."""
    here = torch.full((len(x_t),), t * stride, device=x_t.device)
    return model(x_t, here, None if y is None else torch.full_like(here, y))


def guided(denoise, x_t, t, y, w):
    """Towards class y with strength w: 0 ignores the class, 1 obeys it, beyond 1 it exaggerates."""
    guess = denoise(x_t, t)
    return guess if y is None or w == 0 else guess + w * (denoise(x_t, t, y) - guess)


@functools.lru_cache(maxsize=64)                              # the explorer below asks for the same walks again and again
def walk(denoise, n, seed, y=None, w=1.0, by=1):
    """From noise to images: a list of (t, x_t, guess) for t = T, T - by, ..., 0."""
    x_t = torch.randn(n, *model.shape, generator=torch.Generator().manual_seed(seed)).to(lab.device)
    visited = []
    for t in range(T, 0, -by):
        guess = guided(denoise, x_t, t, y, w).clamp(-1, 1)
        visited.append((t, x_t, guess))
        implied_noise = (x_t - alpha_bar[t].sqrt() * guess) / (1 - alpha_bar[t]).sqrt()
        x_t = alpha_bar[t - by].sqrt() * guess + (1 - alpha_bar[t - by]).sqrt() * implied_noise
    return [*visited, (0, x_t, x_t)]

# %%
wanted = list(model.classes)[:10]
by = lab.pick(smoke=4, cpu=1, gpu=1)                          # 1: a stop at each of the 40 levels
first = torch.cat([walk(network, 2, seed=k, y=k, w=2.0, by=by)[-1][1] for k in range(len(wanted))])  # two for each class
plots.image_grid(first, labels=[name for name in wanted for _ in range(2)], title="Drawn from noise: two for each class")

# %% [markdown]
# **Nobody took these pictures.** Nobody has ever worn these things. How did it do this?
#
# Take an image $x_0$ and drown it in Gaussian noise $\varepsilon$ by degrees $t = 0, 1, \dots, T$:
#
# $$x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon , \qquad \bar\alpha_0 = 1 \text{ (clean)}, \quad \bar\alpha_T \approx 0 \text{ (pure noise)}.$$
#
# Now ask for the way back. Given a noisy $x_t$, what was the clean image? One cannot know; the best guess $\hat x_0$, in squared error, is the *average of all images that could have been it*.
# A neural network can learn to make that guess (you build one in 01, and a good one in 04 and 05).
#
# A sampler starts from pure noise and asks this one question again and again. Each time it believes the answer a little:
# it moves to where $x_{t-1}$ would be if the guess $\hat x_0$, and the noise that this guess implies, were right. That is all of it: the five lines of the loop in `walk`. (Notebooks 03 to 06 derive every one.)

# %% [markdown]
# ## 0.2 · Is everything here?
#
# The next cell looks at your machine: versions, processor, memory, data sets. A line that needs something from you says what to do. If all is well, go on.

# %%
doctor()

# %% [markdown]
# ## 0.3 · What is an image, to a model?
#
# A list of numbers. Ours have one grey channel of 28 × 28 pixels, so an image is a point in a space of 784 dimensions.
# All of the course works on tensors `(b, c, h, w)`, a batch of `b` images, with values in $[-1, 1]$: black is $-1$, white is $1$.

# %%
train = everything.first(lab.pick(smoke=1000, cpu=6000, gpu=20_000))
x = train.x
print(f"{train.title}: {len(train):,} images, as one tensor {tuple(x.shape)} with values from {x.min():g} to {x.max():g}")

examples = train.examples()
plots.image_grid(train.take(examples), labels=[train.classes[train.labels[i]] for i in examples], title=f"{train.title}: one image of each class")

# %% [markdown]
# ### {{heading start/to-unit}}
#
# Your first quiz, to learn how quizzes work. Now and then a pixel is read as a probability, and probabilities live in $[0, 1]$.
# Write the function that moves images from one range to the other.
#
# **How to:** replace the line `raise NotImplementedError(...)`, run the cell, then run the check below it. The check tries your function on several batches and says what it finds.
# Be wrong on purpose once: `return x + 1 / 2` is a classic, and the check knows it by name.

# %% tags=["quiz"]
def to_unit(x):
    """Move images from [-1, 1] to [0, 1].

    x: (b, c, h, w) floats in [-1, 1]. Returns the same shape and precision: -1 becomes 0, and 1 becomes 1.
    """
    ### BEGIN SOLUTION
    return (x + 1) / 2
    ### END SOLUTION

# %% tags=["check"]
to_unit = check("start/to-unit", to_unit)

# %% [markdown]
# Three things to know. **`check` gives back a function that works**: yours if it passed, the course's own if not, so you can skip any quiz and return later.
# **Hints** come one at a time: press the button on the card, or run the next cell as often as you like. **The solution** is folded away under the check; it is most useful after a try.

# %%
hint("start/to-unit")

# %% [markdown]
# ## 0.4 · What is settled when?
#
# Above we asked for classes. Left to itself the sampler draws whatever the noise suggests, and now and then something that is no garment at all: look for a sleeve that ends nowhere, or a shoe that melts.

# %%
walks = walk(network, lab.pick(smoke=20, cpu=100, gpu=100), seed=0)
samples = walks[-1][1]
plots.image_grid(samples[:20], title=f"{everything.title}: drawn from noise, whatever comes")

# %% [markdown]
# **Predict, then run.** The walk goes from $t = 40$, pure noise, down to $t = 0$. At the start the guess is an average over everything; at the end it is one image.
# When is it settled *what* it will be: from which $t$ on does the guess belong to the class in which the walk ends? (We ask for the median over many walks. A small classifier that was trained apart decides.)

# %% tags=["predict"]
predict("start/decided-at", "The walk goes from t = 40 (noise) to t = 0. From which t on does the guess show the class in which the walk ends?", low=0, high=40)

# %%
with torch.no_grad():
    verdicts = torch.stack([evaluator(guess).argmax(dim=1) for _, _, guess in walks])            # (T + 1, n), from t = T to 0
same = (verdicts == verdicts[-1]).flip(0)                                                    # from t = 0 up to T
settled_at = (same.cumprod(0).sum(0) - 1).float().cpu()                                      # the highest t from which all agree
decided_at, nearly_all = int(settled_at.median()), int(settled_at.quantile(0.1))
reveal("start/decided-at", decided_at)
print(f"{len(samples)} walks: half have settled on their class by t = {decided_at}, nine in ten only by t = {nearly_all}")

ts = list(range(T + 1))
plots.curves(
    {"guesses of the final class": (ts, same.float().mean(dim=1).cpu())},
    title=f"Half have settled on a class by t = {decided_at}, nine in ten by t = {nearly_all}",
    x_label="t (the walk goes from right to left)", y_label="share of the walks", mark={f"half have settled: t = {decided_at}": decided_at},
)

# %%
shown = [40, 38, 36, 34, 32, 30, 26, 20, 10, 0]
ended = [model.classes[k] for k in verdicts[-1].tolist()]                                     # what each walk became
two = [name for name in ("Ankle boot", "Trouser") if name in ended] or list(dict.fromkeys(ended))[:2]
rows = {}
for name in two:
    i = max((i for i, class_ in enumerate(ended) if class_ == name), key=settled_at.__getitem__)  # the one that settled first
    rows[f"{name}: x_t"] = torch.cat([walks[T - t][1][i : i + 1] for t in shown])
    rows[f"{name}: guess"] = torch.cat([walks[T - t][2][i : i + 1] for t in shown])
plots.image_rows(rows, labels=[f"t = {t}" for t in shown], title="The guess has its shape long before the image")

# %% [markdown]
# Look at the guesses $\hat x_0$ from left to right (of two walks that settled early). First the average of everything, a ghost; then the average of *some* things; then one thing, which gains its details.
# Where the guess has found its shape, $x_t$ above it is still little more than noise to our eyes.
# That is why noise levels matter so much in what follows: about half of the large decisions (what is it?) fall in deep noise, and the small ones (which buttons?) after them. And the curve above has a long tail: some walks change their mind late.

# %% [markdown]
# ### Explore: who decides, and when?
#
# Six walks from six noises, in strides of four. **Move `t`** from 40 down and watch the guesses. Then **raise the guidance `w`** at a fixed class: 0 ignores the class, 1 obeys it, larger values exaggerate it.
# A question that no single picture answers: as `w` grows, do the six images become *more typical* of the class, or *more alike*? (Both are asked for in notebook 07, with numbers.)

# %%
def scrub(t, wanted, w, seed):
    y = model.classes.index(wanted) if wanted in model.classes else None
    visited = walk(network, 6, seed, y, w, by=4)              # every fourth t, so that the answer follows your hand
    _, x_t, guess = visited[(T - t) // 4]
    return plots.image_rows(
        {"$x_t$": x_t, "guess $\\hat x_0$": guess, "ends at": visited[-1][1]},
        title=f"{train.title}: wanted {wanted}, guidance w = {w:g}, at t = {t}",
    )


explore(
    scrub,
    t=slider(0, T, value=28, step=4, label="t: 40 noise, 0 image"),
    wanted=choice(["any class", *model.classes], value=model.classes[3], label="wanted"),
    w=slider(0, 6, value=1, step=0.5, label="guidance w"),
    seed=slider(0, 20, value=0, label="seed of the noise"),
    title="Scrub through the walk, and steer it",
    alt="Three rows of six images: the noisy image, the best guess of the clean one, and where the walk ends.",
)

# %% [markdown]
# ## 0.5 · Is there a simpler way?
#
# A *generative model* is a recipe for drawing new points of this 784-dimensional space, so that they fall where images fall. The sampler above is one. Here are four simpler ones, each knowing more than the one before:
#
# 1. **Noise.** Every pixel is any grey level, all equally likely. It knows nothing.
# 2. **Each pixel for itself.** Look up, for every position, which grey levels occur there, and draw from those. It knows every pixel, and nothing about neighbours.
# 3. **All pairs of pixels.** Fit one Gaussian with a full covariance matrix to all images and draw from it. It knows how any two pixels go together, and nothing about three. This is the model behind PCA, the ancestor of the autoencoder.
# 4. **A variational autoencoder**, two small neural networks, trained in the cell below while you read on. It draws 8 numbers and decodes them to an image. Notebooks 01 and 02 build it.

# %%
n = 10


def noise(n, generator):
    return torch.rand(n, *train.shape, generator=generator, device=lab.device) * 2 - 1


def pixel_by_pixel(n, generator):
    """For every pixel of every new image, the same pixel of some training image: an independent draw each."""
    flat = x.flatten(1)
    donors = torch.randint(len(flat), (n, flat.shape[1]), generator=generator, device=lab.device)
    return flat.gather(0, donors).view(n, *train.shape)


def one_gaussian(n, generator):
    """mean + ε·X/√N, with ε standard normal and X the centred data, one image per row, has the covariance of the data."""
    centred = x.flatten(1) - x.flatten(1).mean(0)
    weights = torch.randn(n, len(x), generator=generator, device=lab.device) / math.sqrt(len(x))
    return (x.flatten(1).mean(0) + weights @ centred).view(n, *train.shape).clamp(-1, 1)


with seeded(0):
    vae = VAE(train.shape, latent=8).to(lab.device)
vae_steps = lab.pick(smoke=15, cpu=700, gpu=5000)
history = fit(vae, negative_elbo(), train, steps=vae_steps, lr=2e-3, lr_schedule="cosine", seed=0)

generator = lab.generator(1)
plots.image_rows(
    {
        "1 noise": noise(n, generator),
        "2 each pixel for itself": pixel_by_pixel(n, generator),
        "3 all pairs of pixels": one_gaussian(n, generator),
        "4 a small VAE": vae.sample(n, generator),
        "a GAN, see 08": load_generator(everything.name, lab.device).sample(n, generator),
        "the sampler of 0.1": samples[:n],
        "real images": x[:n],
    },
    title="Four recipes, a GAN, the sampler, and what they are after",
)

# %% [markdown]
# From row to row the draws come closer (at effort `smoke` the VAE is hardly trained, and its row is grey fog). Noise could go on until the stars go out and never hit a shoe. Knowing each pixel gives the place where things are; knowing pairs gives smoothness and ghosts of shapes;
# the network has learned what goes with what, and pays with blur. Why it blurs, and what can be done, is the story of notebook 02.
#
# Blur has one cause that is worth carrying along: asked for *one* image where many are possible, the safest answer is their average. The sampler turns exactly that weakness into a method: it asks for the average, but believes it only a little.

# %% [markdown]
# ## 0.6 · A denoiser that is too good
#
# If the best guess is an average of all images that could have been it, why train anything? Suppose that $x_0$ was one of our training images $x^{(1)},\dots,x^{(N)}$, all equally likely. Then Bayes' rule gives their weights, and the best guess is a line of code:
#
# $$\hat x_0(x_t) = \sum_i w_i\, x^{(i)}, \qquad w_i \propto \exp\!\Big(\!-\frac{\lVert x_t - \sqrt{\bar\alpha_t}\,x^{(i)}\rVert^2}{2\,(1-\bar\alpha_t)}\Big).$$
#
# If $x_0$ is one of these images, no network can beat it at guessing. Put it into the same loop.

# %%
def weights(x_t, t, images):
    """How probable is each training image, given x_t? (b, n), each row sums to 1."""
    # |x_t − √ᾱ x|² = |x_t|² − 2√ᾱ x_t·x + ᾱ|x|², and the first term is the same for all images: softmax ignores it.
    flat, a = images.flatten(1), alpha_bar[t]
    closeness = a.sqrt() * (x_t.flatten(1) @ flat.T) - a * flat.square().sum(1) / 2
    return (closeness / (1 - a)).softmax(dim=1)


def exact(x_t, t, y=None):
    """The best guess there is of the clean image, if it was a training image of class y, or of any class."""
    images = x if y is None else x[train.labels == y]
    return (weights(x_t, t, images) @ images.flatten(1)).view_as(x_t)


exact_samples = walk(exact, len(samples), seed=0)[-1][1]
plots.image_grid(exact_samples[:20], title=f"{train.title}: the exact denoiser of {len(x):,} images, same noise")

# %% [markdown]
# ### {{heading start/perfect-but}}
# {{question start/perfect-but}}
#
# **How to:** type a letter between the quotes, run the cell, then the one below it. The buttons on the card answer too, and every wrong option has something to say; what counts is the letter you typed.

# %% tags=["quiz"]
### BEGIN SOLUTION
perfect_but = "b"
### END SOLUTION
### BEGIN HANDED OUT
# perfect_but = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("start/perfect-but", perfect_but)

# %% [markdown]
# ### An experiment that could fail
#
# Flawless. Too flawless? Here is a claim: *each of these is a copy of a training image, and none of the network's is*. We look up the nearest training image of each sample, pixel by pixel, and call it a copy if no pixel is off by more than one grey level (of 256).
# The claim fails if a single exact sample is no copy, or a single sample of the network is one.

# %%
def nearest(samples):
    """The training image nearest to each sample, among all that there are, and the largest difference in grey levels."""
    found = everything.take(torch.cdist(samples.flatten(1), everything.x.flatten(1)).argmin(dim=1))
    return found, (samples - found).abs().flatten(1).max(dim=1).values * 127.5


found, off = nearest(exact_samples)
copies = int((off <= 1).sum())
found_by_network, off_by_network = nearest(samples)
network_copies = int((off_by_network <= 1).sum())
print(f"exact denoiser:  {copies} of {len(samples)} samples are copies (largest difference: {off.max():.2f} grey levels of 256)")
print(f"trained network: {network_copies} of {len(samples)} samples are copies (smallest difference: {off_by_network.min():.0f} grey levels)")
print("The claim holds." if copies == len(samples) and network_copies == 0 else "The claim fails.")
plots.image_rows(
    {
        "exact": exact_samples[:10],
        "nearest in training": found[:10],
        "network": samples[:10],
        "nearest in training ": found_by_network[:10],
    },
    title=f"{train.title}: {copies} copies by the exact denoiser, {network_copies} by the network",
)

# %% [markdown]
# ### {{heading start/who-guesses-better}}
# {{question start/who-guesses-better}}

# %% tags=["quiz"]
### BEGIN SOLUTION
who_guesses_better = "c"
### END SOLUTION
### BEGIN HANDED OUT
# who_guesses_better = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("start/who-guesses-better", who_guesses_better)

# %%
test = load(everything.name, "test", device=lab.device)
n = lab.pick(smoke=20, cpu=64, gpu=500)
stops = [1, 3, 6, 10, 15, 20, 25, 29, 33, 36, 38, 40]
rivals = {"exact": lambda x_t, t: weights(x_t, t, everything.x) @ everything.x.flatten(1), "network": network}
errors = {}
for kind, images in (("training", everything.x[:n]), ("test", test.x[:n])):
    noise_drawn = torch.randn(images.shape, generator=lab.generator(2), device=lab.device)
    for name, guesses in rivals.items():
        errors[f"{name}, {kind} images"] = torch.stack([
            (guesses(alpha_bar[t].sqrt() * images + (1 - alpha_bar[t]).sqrt() * noise_drawn, t).view_as(images).clamp(-1, 1) - images)
            .square().flatten(1).mean(1) for t in stops
        ]).cpu()                                              # (levels, images)

means = {name: error.mean(1) for name, error in errors.items()}
spread = {name: 2 * error.std(1) / math.sqrt(n) for name, error in errors.items()}
ahead = errors["exact, test images"] - errors["network, test images"]                        # image by image, same noise
for rival, gains in {"network": ahead, "exact denoiser": -ahead}.items():
    sure = [str(t) for t, gain in zip(stops, gains) if gain.mean() > 2 * gain.std() / math.sqrt(n)]
    print(f"test images: the {rival}'s error is smaller, by more than two standard errors, at t = {', '.join(sure) or 'none'}")
plots.curves(
    {name: (stops, mean) for name, mean in means.items()},
    band={name: (means[name] - spread[name], means[name] + spread[name]) for name in means},
    title="Guessing the clean image: memory against a network",
    x_label="t (0 is clean, 40 is noise)", y_label="MSE of the guess, per pixel",
)

# %% [markdown]
# Bands are two standard errors over images. On images that it has stored, the exact denoiser is perfect until the noise is deep. On *test* images it can only offer mixtures of what it has stored: with hardly any noise left it still answers with the nearest training image, and is as wrong as that one is. In deep noise, where many stored images share the weight, its average is a match for the network's guess, or a little ahead: the second printed line says where.
# The network makes nearly the same error on both: it has no table to look things up in, and had to learn what images have in common.
#
# So *what makes samples new is how a network differs from the exact answer*. How and why is studied to this day
# (Kadkhodaie et al. 2024; Kamb and Ganguli 2025), and with few images and a large network, networks copy too. You will build that network in 04, train it in 05, and look for copies in 09.

# %% [markdown]
# ## 0.7 · Three wishes, two granted
#
# What should a generative model do? Draw **good samples**. Draw them **fast**. And **cover** everything in the data, rare things too. Xiao, Kreis and Vahdat (2022) called it the *generative learning trilemma*: each of the great families grants two of the wishes.
# Here is a measurement: one model of each family, the same images, the same 300 seconds of training, and a mark for each time that it was done. Each quality counts from 0 (one Gaussian fitted to the pixels; a second for an image) to 1 (real images; a tenth of a millisecond).

# %%
plots.triangle(WISHES, wishes(shipped_table("trilemma")), title="Fashion-MNIST: each trained for 300 CPU seconds")

# %% [markdown]
# * **VAE**: one pass through a decoder makes an image, and its training objective punishes leaving out any example. Its samples are blurred, as you saw above.
# * **GAN**: one pass as well, and sharp, because a second network rejects what looks wrong. Nobody checks whether something is *missing*, and modes go missing.
# * **Diffusion**: sharp, mostly, and nothing in the data is left out on purpose; but it asks its question tens to a thousand times for one image.
#
# That is their reputation, of large models after long training; compare it with the numbers. The triangle is a map, not a law: the last years of research moved towards its middle. In notebook 09 you draw it yourself.

# %% [markdown]
# ## 0.8 · How this course works
#
# | what you meet | what it does for you |
# |---|---|
# | **code quiz** | a function to write. `check` says what is off, and knows common mistakes by name. Skip it and the notebook still runs |
# | **bug hunt** | code that runs, looks right and is wrong. Find the line, and fix it |
# | **concept question** | type a letter. Every wrong option is a real misconception and has its own answer; the buttons show it |
# | **predict, then run** | commit to a number first. The next cell shows your guess beside the measurement. Nothing is graded |
# | **hint / folded solution** | one nudge at a time; the solution is under the check, for after a try |
# | **explorer** | controls over a picture. Arrow keys work. Without widgets (on paper, on GitHub) its picture still shows |
# | **numbered equation** | (2.4) in the text is (2.4) in the docstring of the function that computes it, and in its test |
# | **quiz 3.3b** | the second quiz of section 3.3 |
#
# **Time.** The table at the top of each notebook gives measured running times. There are three levels of effort: `smoke` runs everything in seconds with hardly any training, to see that it works; `cpu` is the full lesson on a laptop; `gpu` trains longer.
# The level is chosen for you; `setup("00", effort="smoke")` in the first cell chooses another, and so does the environment variable `COURSE_EFFORT`.
#
# **Data.** The course is written for Fashion-MNIST. When it can't be had, the notebooks go on with scikit-learn's digits, which are always there, and say so in every title. `COURSE_DATASET=mnist`, `=digits` or `=` a folder of your own images choose another set.
#
# **Stopping.** The stop button ends a training after its current step and *keeps the model*; what is printed then tells how far it came. In a cell with several trainings one press ends them all: those that had not begun make a single step, so that the cell can run to its end.
# The next cells work with what you have. After **Run All Cells** they are waiting already, and run on: press stop *twice* to end them as well.
#
# **Never stuck.** An answer that isn't Python yet, a renamed function, a cell that was never run: the check says what it found, and the notebook goes on with the course's own function.
# A cell that doesn't know a name (`NameError: name 'torch' is not defined`) mostly means a new kernel, in which the cells above have not run: **Run → Run All Above Selected Cell**, then this cell again.
#
# **Tomorrow.** Save the notebook and your answers are there. So are hints you have seen, guesses you have made and points: a small file `.course-progress.json` beside the notebooks keeps them, and
# `from classroom import progress; progress()` in a new cell shows them. Buttons sleep when a kernel ends; running their cell wakes them.

# %% [markdown]
# ## 0.9 · Notation
#
# | symbol | in code | meaning |
# |---|---|---|
# | $x$, `(b, c, h, w)` | `x` | images, values in $[-1, 1]$: batch, channels, height, width |
# | $y$ | `y` | class of an image, an integer |
# | $z$ | `z` | latent code, a short list of numbers that stands for an image |
# | $p(x)$, $p(x\mid z)$ | | the model's density of images; of images given their code |
# | $q(z\mid x)$ | `mean, log_var` | the encoder's distribution over codes |
# | $\mathcal N(\mu, \Sigma)$ | | Gaussian with mean $\mu$ and covariance $\Sigma$ |
# | $t$, $T$ | `t` | noise level; 0 is clean, $T$ is (nearly) pure noise |
# | $x_0$, $x_t$ | `x0`, `x_t` | a clean image; the same image at noise level $t$ |
# | $\bar\alpha_t$ | `alpha_bar[t]` | share of signal in the variance at $t$; $\bar\alpha_0 = 1$ |
# | $\sqrt{\bar\alpha_t}$, $\sqrt{1-\bar\alpha_t}$ | | signal rate and noise rate: what multiplies $x_0$ and $\varepsilon$ |
# | $\varepsilon$ | `noise` | the standard normal noise that was added |
# | $\hat x_0$ | `guess`, `x0` | a guess of the clean image |
# | $w$ | `w` | strength of guidance; 1 is "conditional, unguided" |
# | nats | | natural-log units of information; 1 nat is 1.44 bits. Always *per image* here, unless it says "per dimension" |

# %% [markdown]
# ## 0.10 · The map
#
# | | notebook | the question it answers |
# |---|---|---|
# | **01** | Autoencoder | how few numbers can stand for an image, and why can't we just draw those numbers? |
# | **02** | VAE | how do we make a code that one *can* draw from, and what is the price in nats? |
# | **03** | Forward diffusion | how does noise drown an image, and what does the way back need to know? |
# | **04** | U-Net | which network can answer the sampler's question? |
# | **05** | Training | how does it learn to, and when is it good? |
# | **06** | Sampling | from a thousand steps to ten: which walk back? |
# | **07** | Guidance | how do we ask for what we want? |
# | **08** | GAN | what if a second network judged the first? |
# | **09** | Evaluation | good, fast, complete: how does one measure it? |
#
# Each builds on the ones before it, but imports from `course_utils` what they made, so you can enter anywhere. What is not in your folder yet will follow.

# %% [markdown]
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {train.title}, {len(train):,} images")
print(f"0.4  of {len(samples)} walks, half have settled on a class by t = {decided_at} of {T}, nine in ten by t = {nearly_all}")
print(f"0.5  four recipes for images: noise, single pixels, pairs of pixels, and a VAE trained for {len(history.steps)} steps")
print(f"0.6  copies of training images: {copies} of {len(samples)} samples of the exact denoiser, {network_copies} of the network's")
for t in (3, 25, 40):
    at = stops.index(t)
    print(f"0.6  test images at t = {t:2d}: MSE {means['exact, test images'][at]:.4f} ± {spread['exact, test images'][at]:.4f} (exact), {means['network, test images'][at]:.4f} ± {spread['network, test images'][at]:.4f} (network)")

# %% [markdown]
# ## Go further *(ungraded)*
# 1. **More steps, fewer steps.** In 0.1 set `T = 200`, then `T = 10`, and run on from there to the first picture and the curve of 0.4. Is the class settled at the same *fraction* of the walk? At the same $\bar\alpha_t$? How few steps can you see?
# 2. **Fewer images.** Keep 100 training images and let the exact denoiser walk. From which $t$ on does one image hold 99 % of the weight, earlier or later than with all of them? Why should the number of candidates matter so little? (Think of distances in 784 dimensions.)
# 3. **Soft copies.** Divide the exponent in `weights` by a temperature of 5. Are the samples new? Are they good?
# 4. **Steer with two classes.** Average the guesses for two classes at every step. What does the walk end at? Is it a new image? Would you call it a sample?
#
# ## References
# * Z. Xiao, K. Kreis, A. Vahdat, *Tackling the Generative Learning Trilemma with Denoising Diffusion GANs*, ICLR 2022. arXiv:2112.07804
# * J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, NeurIPS 2020. arXiv:2006.11239
# * J. Song, C. Meng, S. Ermon, *Denoising Diffusion Implicit Models* (the walk of 0.1), ICLR 2021. arXiv:2010.02502
# * J. Ho, T. Salimans, *Classifier-Free Diffusion Guidance*, 2022. arXiv:2207.12598
# * Z. Kadkhodaie, F. Guth, E. P. Simoncelli, S. Mallat, *Generalization in diffusion models arises from geometry-adaptive harmonic representations*, ICLR 2024. arXiv:2310.02557
# * M. Kamb, S. Ganguli, *An analytic theory of creativity in convolutional diffusion models*, ICML 2025. arXiv:2412.20292
# * H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, 2017. arXiv:1708.07747
# * E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998 (scikit-learn's digits)
