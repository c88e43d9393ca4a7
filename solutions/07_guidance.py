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
# # 07 · Guidance: getting what you asked for
#
# Up to here our models drew whatever came to mind. Now we ask: *a sandal, please*. The network must be told what is wanted, and the sampler must take the wish seriously. The second half turns out to be a knob, and the knob has a price.
# You build both halves and train them, find out where the knob comes from (Bayes' rule, twice), and measure what it gives and what it takes.
#
# **What you will be able to do**
# * tell your own U-Net a class, train it with a label that means "any", and prove that it obeys;
# * write and train a classifier of noisy images, and let its gradient lead a model that knows no classes;
# * derive and write classifier-free guidance, clip where it belongs, and convert between two conventions before they cost you a day;
# * measure fidelity *and* diversity with error bars, draw both kinds of guidance as curves in one plane, and choose a strength by what you see.
#
# **Before you start:** notebooks 03 (the score), 04 (the U-Net), 05 (training, $\hat x_0$ and $\hat\varepsilon$) and 06 (DDIM).
#
# {{budget}}
#
# The text describes what you see at effort `cpu` or above, on Fashion-MNIST. At `smoke` networks are hardly trained and few images are drawn: sentences about pictures and rankings don't hold there.

# %% tags=["setup"]
import copy
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import plots, recipes, setup
from course_utils.data import GaussianMixture, load
from course_utils.device import autocast, seeded
from course_utils.diffusion import Denoiser, cosine_schedule, draw_steps, predict_noise, predict_x0
from course_utils.explore import choice, explore, slider
from course_utils.pitfalls import guidance as pitfalls
from course_utils.metrics import frechet_distance
from course_utils.models.unet import ResidualBlock, UNet, sinusoidal_embedding
from classroom import ask, check, predict, reveal
from course_utils.sampling import clipped, ddim, dpm_solver, last
from course_utils.training import fit, until_stopped
from course_utils.weights import load_classifier, load_denoiser, load_noisy_classifier, shipped

lab = setup("07")


# %%
def load_known(split):
    """Images that the course's trained models know: those that were asked for, else digits."""
    data = load(lab.data, split, device=lab.device, fallback="digits")
    if data.name in shipped():
        return data
    return replace(load("digits", split, device=lab.device), note=f"instead of {data.title}")


train, test = load_known("train"), load_known("test")
names, num_classes = train.classes, len(train.classes)
denoiser = load_denoiser(train.name, lab.device).to(memory_format=torch.channels_last)
schedule, any_class = denoiser.schedule, denoiser.model.null
if train.note:
    print(f"This notebook needs trained models, so it goes on with {train.title}.")
print(f"{train.title}: {len(train):,} images of {num_classes} classes: {', '.join(names)}")


# %% [markdown]
# Three helpers: a denoiser in half precision where the processor is made for it; a quick sampler for tables (`dpm_solver` of notebook 06, same seed, same noise); labels in turn.


# %%
def fast(denoise):
    def ask_quickly(x_t, t, y=None):
        with autocast(x_t.device):
            return denoise(x_t.contiguous(memory_format=torch.channels_last), t, y).float()

    return ask_quickly


quick = lab.pick(smoke=3, cpu=8, gpu=25)  # strides


def draw(denoise, y, seed=1):
    """One image for each label (b,), guesses clipped last of all."""
    noise = torch.randn(len(y), *train.shape, generator=lab.generator(seed), device=lab.device)
    return last(dpm_solver(clipped(denoise), schedule, noise, quick, y))


def one_of_each(n):
    return torch.arange(n, device=lab.device) % num_classes


network = fast(denoiser)
plots.image_rows(
    {f"noise {seed}": draw(network, one_of_each(num_classes), seed) for seed in (1, 2, 3)},
    labels=names,
    title=f"{train.title}: the course's model ({denoiser.card['steps']} steps of training), asked for each class",
)

# %% [markdown]
# That is where we are going. You build a network of the same kind, and train it for as long as we have time.
#
# ## 7.1 · Tell your U-Net the class
#
# The U-Net of notebook 04 already listens to something beside the image: the step. Its waves $\tau(t)$ pass through a small network and become an embedding that scales and shifts the channels in every block.
# The cheapest way to tell it more is to **add**: give each class $y$ a row $E_y$ of learned numbers, and add it to the step's,
#
# $$e = \mathrm{MLP}\big(\tau(t)\big) + E_y . \tag{7.1}$$
#
# The library's `UNet(shape, widths)` knows no classes. What its blocks are told is made in one method,
#
# ```python
# def embed(self, t, y=None):
#     return F.silu(self.time(sinusoidal_embedding(t)))      # (b, 4 * widths[0])
# ```
#
# ### {{heading guidance/class-unet}}
# Make a network of your own out of it. Its table has **one row more than there are classes**: the last one will mean "any class", and is used when nobody gives a label. Section 7.2 trains it.


# %% tags=["quiz"]
class ClassUNet(UNet):
    """A U-Net that is told a class, equation (7.1): called as model(x_t, t, y) or model(x_t, t).

    shape: (c, h, w);  widths: as for UNet;  y: (b,) labels 0..num_classes, the last of which means "any".
    """

    ### BEGIN SOLUTION
    def __init__(self, shape, num_classes, widths=(32, 64)):
        super().__init__(shape, widths)
        self.any_class = num_classes
        self.classes = nn.Embedding(num_classes + 1, 4 * widths[0])

    def embed(self, t, y=None):
        if y is None:
            y = torch.full_like(t, self.any_class)
        of_step = self.time(sinusoidal_embedding(t))
        return F.silu(of_step + self.classes(y))

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, shape, num_classes, widths=(32, 64)):
    #     raise NotImplementedError("quiz guidance/class-unet: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
ClassUNet = check("guidance/class-unet", ClassUNet)

# %% [markdown]
# ### The other way: a plane for each block *(extra)*
# A sum can only say what holds everywhere in the image: "this channel louder, that one softer". The other way gives each block something to *look at*: a dense layer turns the row into an image plane, which is **concatenated** to the block's input as one more channel,
#
# $$h \;\leftarrow\; \big[\,h\,;\ \mathrm{reshape}_{h\times w}(W E_y + b)\,\big] . \tag{7.2}$$
#
# #### {{heading guidance/plane}}
# The plane, with plain tensors. Test images are not square.


# %% tags=["quiz"]
def class_plane(x, e, weight, bias):
    """The class as one more channel, equation (7.2).

    x: (b, c, h, w), a block's input;  e: (b, d), the embedding of each image's class;
    weight: (h · w, d) and bias: (h · w,) of the dense layer, pixels in reading order.
    Returns (b, c + 1, h, w), the plane last.
    """
    ### BEGIN SOLUTION
    plane = F.linear(e, weight, bias).reshape(len(x), 1, *x.shape[2:])
    return torch.cat([x, plane], dim=1)
    ### END SOLUTION


# %% tags=["check"]
class_plane = check("guidance/plane", class_plane)

# %% [markdown]
# #### {{heading guidance/plane-block}}
# Now the block. In such a U-Net each block is told two things side by side: the first half of `e` is the step's embedding, the second half the class's.


# %% tags=["quiz"]
class PlaneBlock(nn.Module):
    """A `ResidualBlock(in, out, embedding)` of notebook 04 that sees the class as one more channel, equation (7.2).

    size: (h, w) of its input.  Called with x (b, in_channels, h, w) and e (b, 2 · embedding): step, then class.
    """

    ### BEGIN SOLUTION
    def __init__(self, in_channels, out_channels, embedding, size):
        super().__init__()
        self.block = ResidualBlock(in_channels + 1, out_channels, embedding)
        self.plane = nn.Linear(embedding, size[0] * size[1])

    def forward(self, x, e):
        of_step, of_class = e.chunk(2, dim=1)
        x = class_plane(x, of_class, self.plane.weight, self.plane.bias)
        return self.block(x, of_step)

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, in_channels, out_channels, embedding, size):
    #     raise NotImplementedError("quiz guidance/plane-block: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
PlaneBlock = check("guidance/plane-block", PlaneBlock)

# %% [markdown]
# ## 7.2 · A label that means "any"
#
# Later we shall need two answers for one noisy image, with the class and without. Two networks? There is a cheaper way (Ho & Salimans 2022).
# Before each training step let every label become the **null label** ∅ with a small probability:
#
# $$\tilde y_i = \begin{cases}\varnothing & \text{with probability } p,\\ y_i & \text{else,}\end{cases}\qquad\text{for each image } i \text{ on its own;}\quad p\approx 0.1 . \tag{7.3}$$
#
# ### {{heading guidance/what-any-learns}}
# {{question guidance/what-any-learns}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_any_learns = "b"
### END SOLUTION
### BEGIN HANDED OUT
# what_any_learns = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("guidance/what-any-learns", what_any_learns)

# %% [markdown]
# ### {{heading guidance/drop-labels}}


# %% tags=["quiz"]
def drop_labels(y, null, share, generator):
    """Each label becomes `null` with probability `share`, on its own, equation (7.3).

    y: (b,) integers;  null: the number of the null label;  share: in [0, 1];
    generator: where chance comes from.  Returns (b,), and leaves y as it is.
    """
    ### BEGIN SOLUTION
    lost = torch.rand(y.shape, generator=generator, device=y.device) < share
    return y.masked_fill(lost, null)
    ### END SOLUTION


# %% tags=["check"]
drop_labels = check("guidance/drop-labels", drop_labels)

# %% [markdown]
# ### {{heading guidance/class-loss}}
# The whole of a training step but its gradient: draw a step and a noise for each image, drop labels, ask, compare with the target $v=\sqrt{\bar\alpha_t}\,\varepsilon-\sqrt{1-\bar\alpha_t}\,x_0$ of notebook 05. **Your network is trained with it below.**


# %% tags=["quiz"]
def class_loss(model, x0, y, generator, schedule, null, share):
    """Squared error of v, a mean over batch and pixels, some labels dropped, equation (7.3).

    model: (x_t, t, y) -> v, (b, c, h, w);  x0: (b, c, h, w);  y: (b,);  steps are drawn from 1..schedule.T.
    `schedule.rates(t, x0)` gives √ᾱ_t and √(1 − ᾱ_t), shaped to multiply a batch.
    """
    ### BEGIN SOLUTION
    t = draw_steps(len(x0), schedule.T, generator, x0.device)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    labels = drop_labels(y, null, share, generator)
    signal_rate, noise_rate = schedule.rates(t, x0)
    v = signal_rate * noise - noise_rate * x0
    guess = model(signal_rate * x0 + noise_rate * noise, t, labels)
    return (guess.float() - v).square().mean()
    ### END SOLUTION


# %% tags=["check"]
class_loss = check("guidance/class-loss", class_loss)

# %% [markdown]
# `fit` of notebook 05 runs the loop around it: optimizer, learning rate, averaged weights, stop button. A few hundred steps are a sketch, and it is *your* network, your labels, your loss.


# %%
def trained(model, loss, steps):
    """The averaged network as a denoiser."""
    how = recipes.ddpm_recipe(steps, batch_size=lab.pick(smoke=16, cpu=64, gpu=128))

    def with_schedule(model, x, y, generator):
        return loss(model, x, y, generator, schedule, num_classes, 0.1)

    history = fit(model.to(lab.device), with_schedule, train, how)
    return Denoiser(history.ema_model.eval(), schedule, recipes.PREDICTION_TYPE)


steps = lab.pick(smoke=4, cpu=400, gpu=3000)
with seeded(0):
    mine = trained(ClassUNet(train.shape, num_classes), class_loss, steps)
plots.image_rows(
    {f"noise {seed}": draw(fast(mine), one_of_each(num_classes), seed) for seed in (1, 2)},
    labels=names,
    title=f"{train.title}: your network after {steps} steps, asked for each class",
)

# %% [markdown]
# Rough, and already obedient. How obedient, section 7.3 will count.
#
# ### The other way, trained *(extra)*
# The library's U-Net takes `PlaneBlock` as its `conditioning`. The recipe is the same, with fewer steps at `cpu` (300, not 400).

# %%
with seeded(0):
    with_planes = UNet(train.shape, num_classes=num_classes, conditioning=PlaneBlock)
with_planes = trained(with_planes, class_loss, lab.pick(smoke=4, cpu=300, gpu=3000))
first_block, table = with_planes.model.down[0][0], with_planes.model.label.weight[:num_classes]
height, width = (side // 2 for side in train.shape[1:])
dense = next(m for m in first_block.modules() if getattr(m, "out_features", 0) == height * width)
planes = dense(table).detach().float().view(num_classes, height, width)
plots.panels(
    dict(zip(names, planes - planes.mean(0))),
    title=f"{train.title}: what your first block is shown for each class, less the mean of all",
    columns=5,
    shared=True,
)

# %% [markdown]
# The planes began as random numbers. Can you find the trousers' two legs with the gap between them, and the pullover's sleeves?
# %% [markdown]
# ## 7.3 · Did we get what we asked for?
#
# Two questions. *Is it the class that was asked for?* A classifier looks at each image; **class accuracy** is the share that it takes for the class asked for. *Is everything there?* The **coverage** of Naeem et al. (2020): around each real image $x_i$ draw a ball that reaches to its $k$-th nearest *other* real image, in feature space. What share of the balls holds a generated image $g_j$?
#
# $$\text{coverage}=\frac1n\sum_{i=1}^n \mathbb 1\Big[\min_j\lVert x_i-g_j\rVert\le r_k(x_i)\Big] \tag{7.4}$$
#
# ### {{heading guidance/one-perfect-bag}}
# {{question guidance/one-perfect-bag}}

# %% tags=["quiz"]
### BEGIN SOLUTION
one_perfect_bag = "d"
### END SOLUTION
### BEGIN HANDED OUT
# one_perfect_bag = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("guidance/one-perfect-bag", one_perfect_bag)

# %% [markdown]
# ### {{heading guidance/coverage}}
# Every table below uses it. `torch.cdist(a, b)` gives all distances, (n, m).


# %% tags=["quiz"]
def coverage(real, generated, k=5):
    """The share of real images with a generated one nearby, equation (7.4), a float.

    real: (n, d);  generated: (m, d), one row of features for each image;  k < n.
    """
    ### BEGIN SOLUTION
    between = torch.cdist(real, real)
    reach = between.sort(dim=1).values[:, k]
    nearest = torch.cdist(real, generated).min(dim=1).values
    return (nearest <= reach).double().mean().item()
    ### END SOLUTION


# %% tags=["check"]
coverage = check("guidance/coverage", coverage)

# %% [markdown]
# Perfect samples don't reach 1. Mix $n$ of them with the other real images and sort by distance from $x_i$: the ball is empty if the first $k$ are all real, with probability about $2^{-k}$. So expect about 0.97 at $k=5$. And the fewer images, the wider the balls: compare coverages of equally many images only.
#
# The judge is the course's classifier of *clean* images. It takes no part in training and never guides: a judge must not mark its own work. Its features also serve for the Fréchet distance of notebook 02. Two rows keep that number honest: real images, as the floor, and one Gaussian fitted to the *pixels*, whose ghosts a distance on poor features would praise.

# %%
judge = load_classifier(train.name, lab.device)
n, seeds = lab.pick(smoke=10, cpu=200, gpu=1000), (1, 2, 3)
wanted = one_of_each(n)


@torch.no_grad()
def features(images):
    return torch.cat([judge.features(part) for part in images.split(250)])


real, many = features(test.first(n).x), features(test.first(10 * n).x)
pixels = train.first(5000).x.flatten(1).cpu().double()
root = torch.linalg.cholesky(pixels.T.cov() + 1e-4 * torch.eye(pixels.shape[1]))
by_class = [(train.labels == k).nonzero()[:, 0] for k in range(num_classes)]


def real_images(seed):
    rows = [by_class[k][(seed * n + i) % len(by_class[k])] for i, k in enumerate(wanted.tolist())]
    return train.take(torch.stack(rows))


def ghosts(seed):
    z = torch.randn(n, len(root), generator=lab.generator(seed, "cpu"), dtype=torch.float64)
    return (pixels.mean(0) + z @ root.T).float().clamp(-1, 1).view(n, *train.shape).to(lab.device)


def score(images):
    """(class accuracy, coverage) of images asked for by `wanted`."""
    seen = features(images)
    right = judge.head(seen).argmax(1) == wanted[: len(images)]
    return right.double().mean().item(), coverage(real, seen)


# %%
def report(name, images_of):
    """One row of the table: mean and spread (standard deviation) over the seeds."""
    rows = [(*score(x), frechet_distance(features(x), many)) for x in map(images_of, seeds)]
    mean, spread = torch.tensor(rows).mean(0), torch.tensor(rows).std(0)
    cells = zip(("accuracy", "coverage", "squared distance"), mean.tolist(), spread.tolist())
    print(f"{name:24s}" + "   ".join(f"{what} {m:6.3f} ± {s:.3f}" for what, m, s in cells))


report("real images", real_images)
report("one Gaussian in pixels", ghosts)
report("your U-Net", lambda seed: draw(fast(mine), wanted, seed))
report("your U-Net, planes", lambda seed: draw(fast(with_planes), wanted, seed))
report("the course's U-Net", lambda seed: draw(network, wanted, seed))

# %% [markdown]
# The first line shows the judge's own limits: it is wrong about some real images as well. Pure chance in the first column is one in ten, and the ghosts are there. One training each, of unequal length at `cpu`, doesn't say which of *your* networks is better.
#
# ## 7.4 · The score of "an image, and a sandal"
#
# Forget for a moment that our network knows classes. Suppose there is an unconditional model, and somebody who can tell classes apart. Can the two together draw a sandal?
#
# Sampling needs a score, $\nabla\ln p(x_t\mid y)$. Bayes' rule says $p(x_t\mid y)=p(x_t)\,p(y\mid x_t)/p(y)$. Take the logarithm, then the gradient with respect to $x_t$; the denominator doesn't depend on it:
#
# $$\nabla\ln p(x_t\mid y)=\underbrace{\nabla\ln p(x_t)}_{\text{towards images}}+\underbrace{\nabla\ln p(y\mid x_t)}_{\text{towards this class}} . \tag{7.5}$$
#
# A sum of two arrows. The first is the model that we have; the second is the gradient of a *classifier*, with respect to its input.
#
# ### {{heading guidance/classifier-gradient}}
# A sampler calls this with gradients switched off, so switch them on inside.


# %% tags=["quiz"]
def classifier_gradient(classifier, x_t, t, y):
    """∇ ln p(y | x_t) with respect to x_t, for each image: the second arrow of equation (7.5).

    classifier: (x_t, t) -> logits (b, classes);  x_t: (b, ...);  t, y: (b,).
    Returns a tensor like x_t.
    """
    ### BEGIN SOLUTION
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        of_y = classifier(x, t).log_softmax(1)[torch.arange(len(y)), y]
        return torch.autograd.grad(of_y.sum(), x)[0]  # each image's pixels are in one term only
    ### END SOLUTION


# %% tags=["check"]
classifier_gradient = check("guidance/classifier-gradient", classifier_gradient)

# %% [markdown]
# ### Does it hold? *(extra)*
# In the exact-score laboratory of notebook 03 (`GaussianMixture`) all three terms are known. Three blobs, three classes, at a step where they overlap. Left: the mixture's own score. Middle: *your* function on the perfect classifier, which Bayes' rule gives. Their sum must be the score of the one blob that was asked for, which is computed without either of them. Forget a logarithm, and the gap below is as large as the arrows.

# %%
toy_schedule = cosine_schedule(1000)
blobs = GaussianMixture(torch.tensor([[-1.1, -0.6], [1.1, -0.6], [0.0, 1.1]]), 0.4)
alone = [GaussianMixture(blobs.means[k : k + 1], 0.4) for k in range(3)]


def perfect_classifier(x, t):
    """ln p(y | x_t) up to a constant, by Bayes' rule, for points at one step t: three densities."""
    return torch.stack([blob.diffused(toy_schedule.alpha_bar[t[0]]).log_prob(x) for blob in alone], dim=1)


cells, extent, target, t_toy = 15, (-2.4, 2.4, -2.0, 2.4), 1, 300
a = toy_schedule.alpha_bar[t_toy]
places = [extent[k] + (extent[k + 1] - extent[k]) * (torch.arange(cells) + 0.5) / cells for k in (0, 2)]
grid = torch.stack(torch.meshgrid(*places, indexing="xy"), -1).reshape(-1, 2)
to_images = blobs.diffused(a).score(grid)
steps_of_grid, classes_of_grid = torch.full((len(grid),), t_toy), torch.full((len(grid),), target)
to_class = classifier_gradient(perfect_classifier, grid, steps_of_grid, classes_of_grid)
conditional = alone[target].diffused(a).score(grid)
toy_gap = (to_images + to_class - conditional).abs().max().item()
print(f"longest arrow {conditional.norm(dim=1).max():.2f}; largest gap between both sides of (7.5): {toy_gap:.1e}")

# %%
shade, own = (mix.diffused(a).log_prob(grid).exp().view(cells, cells) for mix in (blobs, alone[target]))
three = {
    "towards images": to_images,
    "+ towards the class": to_class,
    "= the class's own score": to_images + to_class,
}
plots.fields(
    {name: arrows.view(cells, cells, 2) for name, arrows in three.items()},
    extent,
    density=dict(zip(three, (shade, shade, own))),
    title=f"(7.5) at t = {t_toy}: the lower right blob was asked for",
)

# %% [markdown]
# Look at the middle panel. Where the class is already certain, at the lower right, the classifier has nothing to add: its arrows vanish. It pushes hardest where the decision is open and where the wrong class is likely.
#
# ## 7.5 · A classifier that knows noise
#
# (7.5) asks for $p(y\mid x_t)$, the opinion of somebody who sees the *noisy* image. The judge of 7.3 has never seen one.
#
# ### {{heading guidance/why-noisy}}
# {{question guidance/why-noisy}}

# %% tags=["quiz"]
### BEGIN SOLUTION
why_noisy = "a"
### END SOLUTION
### BEGIN HANDED OUT
# why_noisy = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("guidance/why-noisy", why_noisy)

# %% [markdown]
# **Predict, then run.** The judge is right about more than nine tenths of clean images. At $t=300$ of 1000, where $\bar\alpha_t$ is still 0.79 and our eyes see plainly what it is, it is right about what share?

# %% tags=["predict"]
guess = predict(
    "guidance/clean-accuracy", "Accuracy of the clean classifier on images at t = 300", 0, 100, unit="%"
)

# %% [markdown]
# So you need a classifier of your own: told the step, and trained on what it will be asked about,
#
# $$L(\varphi)=\mathbb E_{x_0,y,\;t\sim\mathcal U\{1..T\},\;\varepsilon}\big[-\ln p_\varphi(y\mid x_t,t)\big],\qquad x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\varepsilon . \tag{7.6}$$
#
# ### {{heading guidance/noisy-classifier}}
# **Stage 1: the network.** Its form is up to you; two or three convolutions and a linear layer on what is left will do. It must hear $t$, for each image its own: `sinusoidal_embedding(t)` gives 64 waves. Keep it small, for it is trained in a moment.


# %% tags=["quiz"]
class NoisyClassifier(nn.Module):
    """ln p(y | x_t, t), up to a constant for each image: called as model(x_t, t), returns logits (b, num_classes).

    shape: (c, h, w) of the images, h and w multiples of 4;  x_t: (b, c, h, w);  t: (b,) steps.
    """

    ### BEGIN SOLUTION
    def __init__(self, shape, num_classes):
        super().__init__()
        self.first = nn.Conv2d(shape[0], 32, 3, stride=2, padding=1)
        self.second = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.third = nn.Conv2d(64, 64, 3, padding=1)
        self.norm = nn.GroupNorm(1, 64)
        self.time = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64))
        self.head = nn.Linear(64 * (shape[1] // 4) * (shape[2] // 4), num_classes)

    def forward(self, x, t):
        h = F.silu(self.first(x))
        h = self.norm(self.second(h))
        of_step = self.time(sinusoidal_embedding(t))
        h = F.silu(h + of_step[:, :, None, None])
        h = F.silu(self.third(h))
        return self.head(h.flatten(1))

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, shape, num_classes):
    #     raise NotImplementedError("quiz guidance/noisy-classifier: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
NoisyClassifier = check("guidance/noisy-classifier", NoisyClassifier)

# %% [markdown]
# ### {{heading guidance/train-classifier}}
# **Stage 2: the loop**, whole this time, with the loss (7.6) in it.


# %% tags=["quiz"]
def train_classifier(classifier, batches, schedule, optimizer, generator):
    """One optimizer step for each batch, on the loss (7.6).  Returns the losses, a list of floats.

    batches: an iterator of (x0 (b, c, h, w), y (b,));  steps t and noise are drawn from `generator`, anew for each image.
    `schedule.add_noise(x0, t, noise)` gives x_t;  schedule.T: the last step.
    """
    ### BEGIN SOLUTION
    losses = []
    for x0, y in batches:
        t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=x0.device)
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        logits = classifier(schedule.add_noise(x0, t, noise), t)
        loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
    ### END SOLUTION


# %% tags=["check"]
train_classifier = check("guidance/train-classifier", train_classifier)


# %%
def batches(count, size, seed=0):
    """So many batches of training images; the stop button ends them early."""
    generator = lab.generator(seed, "cpu")
    for _ in until_stopped(range(count)):
        index = torch.randint(len(train), (size,), generator=generator).to(lab.device)
        yield train.take(index), train.labels[index]


with seeded(0):
    classifier = NoisyClassifier(train.shape, num_classes).to(lab.device)
optimizer = torch.optim.Adam(classifier.parameters(), lr=3e-3)
stream = batches(lab.pick(smoke=5, cpu=600, gpu=3000), lab.pick(smoke=16, cpu=128, gpu=256))
losses = train_classifier(classifier, stream, schedule, optimizer, lab.generator(1))
classifier.eval().requires_grad_(False)
print(
    f"{len(losses)} steps: loss {losses[0]:.2f} at the first, {sum(losses[-50:]) / len(losses[-50:]):.2f} at the last (nats per image)"
)

# %%
pictures = test.first(lab.pick(smoke=100, cpu=1000, gpu=5000))
candidates = {
    "the judge": lambda x, t: judge(x),
    "yours": classifier,
    "the course's": load_noisy_classifier(train.name, lab.device),
}
levels, right = [1, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000], {name: [] for name in candidates}
for level in levels:
    t = torch.full((len(pictures),), level, device=lab.device)
    noise = torch.randn(pictures.x.shape, generator=lab.generator(level), device=lab.device)
    x_t = schedule.add_noise(pictures.x, t, noise)
    for name, candidate in candidates.items():
        with torch.no_grad():
            right[name].append((candidate(x_t, t).argmax(1) == pictures.labels).double().mean().item())
clean_at_300, yours_at_300 = (list(right.values())[k][levels.index(300)] for k in (0, 1))
reveal("guidance/clean-accuracy", round(100 * clean_at_300, 1))
plots.curves(
    {name: (levels, values) for name, values in right.items()},
    mark=(None, 1 / num_classes),
    title=f"{train.title}: noise blinds whoever never saw it (dashed: chance)",
    x_label="step t",
    y_label="share of right answers",
)

# %% [markdown]
# The judge was trained on clean images only. Yours, and one that the course trained for longer, still have an opinion where our eyes have none, and at the very end nobody has.
#
# **A good place to pause.** You have a network that is told, and a classifier that leads. From here on they work.
# %% [markdown]
# ## 7.6 · Classifier guidance
#
# Samplers speak of noise, not of scores. From notebook 03, $\nabla\ln p(x_t)=-\hat\varepsilon/\sqrt{1-\bar\alpha_t}$. Put a knob $s$ before the second arrow of (7.5) and multiply by $-\sqrt{1-\bar\alpha_t}$ (Dhariwal & Nichol 2021):
#
# $$\hat\varepsilon=\varepsilon_\theta(x_t,t)-\sqrt{1-\bar\alpha_t}\;s\;\nabla\ln p_\varphi(y\mid x_t,t) . \tag{7.7}$$
#
# ### {{heading guidance/with-classifier}}
# Put the pieces together: a wrapper that makes a guided denoiser of any denoiser and any classifier. The formula speaks of noise, our denoisers of $\hat x_0$. Find your way between the two languages (notebook 05), or work out on paper what (7.7) means for $\hat x_0$.


# %% tags=["quiz"]
def with_classifier(denoise, schedule, classifier, scale):
    """A denoiser (x_t, t, y) -> x̂_0 that a classifier leads to the class y, equation (7.7).

    denoise: asked as denoise(x_t, t), for it knows no classes;  classifier: (x_t, t) -> logits;  scale: s.
    """

    ### BEGIN SOLUTION
    def guided(x_t, t, y):
        noise = predict_noise(schedule, denoise(x_t, t), x_t, t)
        uphill = classifier_gradient(classifier, x_t, t, y)
        _, noise_rate = schedule.rates(t, x_t)
        return predict_x0(schedule, "noise", noise - noise_rate * scale * uphill, x_t, t)

    return guided
    ### END SOLUTION


# %% tags=["check"]
with_classifier = check("guidance/with-classifier", with_classifier)

# %% [markdown]
# In the language of clean guesses it is one line, since $\hat x_0=(x_t-\sqrt{1-\bar\alpha_t}\,\hat\varepsilon)/\sqrt{\bar\alpha_t}$:
#
# $$\hat x_0^{\,\text{guided}}=\hat x_0+\frac{1-\bar\alpha_t}{\sqrt{\bar\alpha_t}}\;s\;\nabla\ln p_\varphi(y\mid x_t,t) . \tag{7.8}$$
#
# Now on images. The denoiser is told nothing; only *your* classifier knows what we want. The last row is a control: the same classifier, told at every step that there is no noise ($t=1$).


# %%
def deaf(x, t):
    return classifier(x, torch.ones_like(t))


guides = {"s = 0": (classifier, 0.0), "s = 1": (classifier, 1.0), "s = 5": (classifier, 5.0)}
guides |= {"s = 20": (classifier, 20.0), "s = 20,\nnot told t": (deaf, 20.0)}
rows = {}
for name, (guide, s) in guides.items():
    rows[name] = draw(with_classifier(network, schedule, guide, s), one_of_each(num_classes))
plots.image_rows(rows, labels=names, title=f"{train.title}: told nothing, led by your classifier")

# %% [markdown]
# At $s=0$ the noise alone decides (the headings say what was asked for), and further down the images obey more and more, though never all: a classifier trained as briefly as yours leads, and doesn't command. With a perfect pair $s=1$ would be enough, as on the blobs; two networks with errors of their own need more. In the last row it takes every $x_t$ for a clean image: some images tear or stain, and some wishes are no longer met.
#
# ### One at a time, and in company *(extra)*
# #### {{heading guidance/somebody-elses-guide}}
# A colleague wrote the same wrapper. Below: the same sixty noises, the same wishes, her guide at $s=20$, with the course's classifier. Only the number of images drawn at a time differs.

# %%
six_names = [names[k] for k in one_of_each(6).tolist()]


def in_parts(guide):
    """Sixty images of the same noises, drawn 2, 10 and 60 at a time; the first six of each."""
    noise, wishes = torch.randn(60, *train.shape, generator=lab.generator(4), device=lab.device), one_of_each(60)
    rows = {}
    for size in (2, 10, 60):
        parts = zip(noise.split(size), wishes.split(size))
        drawn = torch.cat([last(dpm_solver(clipped(guide), schedule, start, quick, y)) for start, y in parts])
        agrees = (judge(drawn).argmax(1) == wishes).double().mean()
        print(f"{size:2d} at a time: the judge agrees with {agrees:.0%} of 60")
        rows[f"{size} at a time"] = drawn[:6]
    return rows


hers = in_parts(pitfalls.with_classifier(network, schedule, candidates["the course's"], 20.0))
plots.image_rows(hers, labels=six_names, title="The same noises: why do the images differ?")

# %% [markdown]
# Something is wrong in the cell below. Find it and fix it.


# %% tags=["quiz"]
def somebody_elses_guide(denoise, schedule, classifier, scale):
    """A denoiser (x_t, t, y) -> x̂_0 led by a classifier, equation (7.7).  Arguments as in `with_classifier`."""

    def guided(x_t, t, y):
        x0 = denoise(x_t, t)
        noise = predict_noise(schedule, x0, x_t, t)
        _, noise_rate = schedule.rates(t, x_t)

        with torch.enable_grad():
            x = x_t.detach().clone().requires_grad_()
            logits = classifier(x, t)
            ### BEGIN SOLUTION
            minus_log_p = F.cross_entropy(logits, y, reduction="sum")
            ### END SOLUTION
            ### BEGIN HANDED OUT
            # minus_log_p = F.cross_entropy(logits, y)
            ### END HANDED OUT
            (downhill,) = torch.autograd.grad(minus_log_p, x)

        noise = noise + noise_rate * scale * downhill
        return predict_x0(schedule, "noise", noise, x_t, t)

    return guided


# %% tags=["check"]
somebody_elses_guide = check("guidance/somebody-elses-guide", somebody_elses_guide)

# %% [markdown]
# #### {{heading guidance/what-a-batch-does}}
# {{question guidance/what-a-batch-does}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_a_batch_does = "c"
### END SOLUTION
### BEGIN HANDED OUT
# what_a_batch_does = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("guidance/what-a-batch-does", what_a_batch_does)

# %%
repaired = in_parts(somebody_elses_guide(network, schedule, candidates["the course's"], 20.0))
plots.image_rows(repaired, labels=six_names, title="Her guide, repaired: the same noises")

# %% [markdown]
# ## 7.7 · No classifier at all
#
# A second network, trained on noise, with gradients through it in every step: can't the diffusion model do that by itself? Read (7.5) from right to left:
#
# $$\nabla\ln p(y\mid x_t)=\nabla\ln p(x_t\mid y)-\nabla\ln p(x_t).$$
#
# The right side is the difference of two scores, and one network with a null label knows both: it *contains* a classifier. Put that into $\nabla\ln p(x_t)+w\,\nabla\ln p(y\mid x_t)$. Scores, noises and clean guesses differ by factors and terms that are the same for both answers, so in $\hat x_0$ it reads the same:
#
# $$\hat x=\hat x_{\text{any}}+w\,\big(\hat x_{y}-\hat x_{\text{any}}\big) . \tag{7.9}$$
#
# That is **classifier-free guidance** (Ho & Salimans 2022). One convention for the whole course: $w=0$ ignores the class, **$w=1$ is the conditional model, unguided**, and $w>1$ exaggerates what the class changes.
#
# ### {{heading guidance/classifier-free}}
# As a wrapper again.


# %% tags=["quiz"]
def classifier_free(denoise, w, null):
    """A denoiser (x_t, t, y) -> x̂_0 with classifier-free guidance, equation (7.9), not clipped.

    denoise: (x_t, t, y) -> x̂_0;  w: a number;  null: the label that means "any".
    """

    ### BEGIN SOLUTION
    def guided(x_t, t, y):
        of_any = denoise(x_t, t, torch.full_like(y, null))
        of_y = denoise(x_t, t, y)
        return of_any + w * (of_y - of_any)

    return guided
    ### END SOLUTION


# %% tags=["check"]
classifier_free = check("guidance/classifier-free", classifier_free)

# %%
one_class = torch.full((10,), min(5, num_classes - 1), device=lab.device)
plots.image_rows(
    {f"w = {w:g}": draw(classifier_free(network, w, any_class), one_class) for w in (0.0, 1.0, 2.0, 4.0, 8.0)},
    title=f'{train.title}: "{names[one_class[0]]}", more and more strongly, same noises',
)

# %% [markdown]
# Follow a column downwards. At $w=0$ the noise decides. At 1 the class is there in most columns. Then the images become cleaner, and more alike.
#
# ### The other convention *(extra)*
# The paper that introduced this counts from the *conditional* model. With $w'$ for its number,
#
# $$\hat x=(1+w')\,\hat x_y-w'\,\hat x_{\text{any}} . \tag{7.10}$$
#
# There "unguided" is 0. Both conventions live on, in papers and in programs, under one name ("guidance scale"). Someone who takes a 1 from one and types it into the other has switched guidance off, or on.
#
# #### {{heading guidance/convention}}


# %% tags=["quiz"]
def convert_strength(w, source, to):
    """A strength of guidance from one convention to another, equation (7.10).

    w: a number in the convention `source`.
    source, to: "course" (1 is unguided) or "paper" (0 is unguided); they may be the same.
    """
    ### BEGIN SOLUTION
    ours = w + 1 if source == "paper" else w
    return ours - 1 if to == "paper" else ours
    ### END SOLUTION


# %% tags=["check"]
convert_strength = check("guidance/convention", convert_strength)

# %% [markdown]
# ### {{heading guidance/somebody-elses-loss}}
# Another colleague trains with a loss of his own. To save time, his network begins with the weights of the course's model; only the row of "any", which his file lacked, begins anew. Look at three strengths, then find his mistake in the cell below and fix it.

# %%
def three_strengths(loss):
    """Rows of images of his network, trained with this loss."""
    model = copy.deepcopy(denoiser.model).requires_grad_(True)
    with seeded(1), torch.no_grad():
        model.label.weight[any_class].normal_()
    his = fast(trained(model, loss, lab.pick(smoke=4, cpu=60, gpu=1000)))
    rows = {w: f"w = {w:g} ({convert_strength(w, 'course', 'paper'):g} in papers)" for w in (1.0, 0.0, 3.0)}
    return {row: draw(classifier_free(his, w, any_class), one_of_each(num_classes)) for w, row in rows.items()}


rows = three_strengths(pitfalls.class_loss)
plots.image_rows(rows, labels=names, title="His network: which rows are as they should be?")


# %% tags=["quiz"]
def somebody_elses_loss(model, x0, y, generator, schedule, null, share):
    """Squared error of v, a mean over batch and pixels, some labels dropped.  Arguments as in `class_loss`."""
    t = draw_steps(len(x0), schedule.T, generator, x0.device)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    signal_rate, noise_rate = schedule.rates(t, x0)
    x_t = signal_rate * x0 + noise_rate * noise

    chance = torch.rand(len(y), generator=generator, device=y.device)
    lost = chance < share
    labels = y.clone()
    ### BEGIN SOLUTION
    labels = labels.masked_fill(lost, null)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # labels.masked_fill(lost, null)
    ### END HANDED OUT

    guess = model(x_t, t, labels).float()
    v = signal_rate * noise - noise_rate * x0
    error = (guess - v).square().flatten(1).mean(1)
    return error.mean()


# %% tags=["check"]
somebody_elses_loss = check("guidance/somebody-elses-loss", somebody_elses_loss)

# %% [markdown]
# ### {{heading guidance/which-samples}}
# {{question guidance/which-samples}}

# %% tags=["quiz"]
### BEGIN SOLUTION
which_samples = "d"
### END SOLUTION
### BEGIN HANDED OUT
# which_samples = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("guidance/which-samples", which_samples)

# %%
rows = three_strengths(somebody_elses_loss)
plots.image_rows(rows, labels=names, title="The same training with the loss repaired")

# %% [markdown]
# ### What does a guided walk sample from? *(extra)*
# At $w=1$ the answer is plain: $p(x\mid y)$. At $w=3$ the score at step $t$ is that of $p(x_t)\,p(y\mid x_t)^3$, by the same algebra.
#
# #### {{heading guidance/not-a-density}}
# {{question guidance/not-a-density}}

# %% tags=["quiz"]
### BEGIN SOLUTION
not_a_density = "b"
### END SOLUTION
### BEGIN HANDED OUT
# not_a_density = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("guidance/not-a-density", not_a_density)

# %% [markdown]
# On numbers instead of images this can be checked: two overlapping Gaussians, exact denoisers, many small steps, and the tempting density from a fine grid.

# %%
line = GaussianMixture(torch.tensor([[-0.5], [0.5]], dtype=torch.float64), 0.4)
exact, n_line = line.denoiser(toy_schedule), lab.pick(smoke=2000, cpu=20_000, gpu=50_000)
starts = torch.randn(n_line, 1, generator=lab.generator(9, "cpu"), dtype=torch.float64)
towards, small_steps = torch.ones(n_line, dtype=torch.long), lab.pick(smoke=20, cpu=100, gpu=200)
ends = {
    w: last(ddim(classifier_free(exact, w, 2), toy_schedule, starts, small_steps, towards)) for w in (1.0, 3.0)
}
place = torch.linspace(-2.5, 3.5, 2001, dtype=torch.float64)[:, None]
component = GaussianMixture(torch.tensor([[0.5]], dtype=torch.float64), 0.4)
log_class = component.log_prob(place) - line.log_prob(place)  # ln p(y | x), but for a constant
mass = (line.log_prob(place) + 3 * log_class).softmax(0)
tempting_mean = (mass * place[:, 0]).sum().item()
error = ends[3.0].std().item() / n_line**0.5
away = abs(ends[3.0].mean().item() - tempting_mean) / error
print(f"w = 3: samples have mean {ends[3.0].mean():.3f} ± {error:.3f}, p(x) p(y|x)³ has {tempting_mean:.3f}")
plots.histogram(
    {f"samples, w = {w:g}": x[:, 0] for w, x in ends.items()},
    overlay={
        "p(x | y)": (place[:, 0], component.log_prob(place).exp()),
        "p(x) p(y|x)³": (place[:, 0], mass / (place[1] - place[0])),
    },
    title="Guided samples go further than the density that they seem to follow",
    x_label="x",
)

# %% [markdown]
# ## 7.8 · When to clip
#
# Programs guide in $\hat\varepsilon$, in $v$ or in $\hat x_0$, and all agree: for one $x_t$ and one $t$ each is a straight line in the other, the same line for both answers, and the weights $1-w$ and $w$ add up to 1. With one exception: **clipping** is no straight line.
#
# ### {{heading guidance/clip-after}}
# {{question guidance/clip-after}}

# %% tags=["quiz"]
### BEGIN SOLUTION
clip_after = "c"
### END SOLUTION
### BEGIN HANDED OUT
# clip_after = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("guidance/clip-after", clip_after)

# %% [markdown]
# ### {{heading guidance/ask-for}}
# Everything together: your guidance, clipped, around `ddim` of notebook 06. (`last` runs a sampler to its end.) No ready-made wrapper for clipping this time: write it where it belongs.


# %% tags=["quiz"]
def ask_for(denoise, schedule, y, w, null, noise, steps):
    """Images of the classes y (b,), by DDIM in `steps` strides from `noise` (b, c, h, w); every guess in [-1, 1].

    denoise: (x_t, t, y) -> x̂_0;  w: the strength, equation (7.9);  null: the label that means "any".
    `ddim(denoise, schedule, noise, steps, y)` walks with any denoiser.
    """
    ### BEGIN SOLUTION
    guided = classifier_free(denoise, w, null)

    def in_range(x_t, t, y):
        return guided(x_t, t, y).clamp(-1, 1)

    return last(ddim(in_range, schedule, noise, steps, y))
    ### END SOLUTION


# %% tags=["check"]
ask_for = check("guidance/ask-for", ask_for)

# %%
noise = torch.randn(n, *train.shape, generator=lab.generator(1), device=lab.device)
strides = lab.pick(smoke=4, cpu=12, gpu=50)
never = last(ddim(classifier_free(network, 6.0, any_class), schedule, noise, strides, wanted))
first = last(ddim(classifier_free(clipped(network), 6.0, any_class), schedule, noise, strides, wanted))
raw = {"clipped last": ask_for(network, schedule, wanted, 6.0, any_class, noise, strides)}
raw |= {"clipped first": first, "never clipped": never}
for name, x in raw.items():
    outside, contrast = (x.abs() > 1.01).double().mean(), x.clamp(-1, 1).std()
    print(f"{name:14s} w = 6   outside [-1, 1]: {outside:6.1%} of the pixels   contrast {contrast:.2f}")
print(f"contrast (standard deviation of all pixels) of real images: {test.first(n).x.std():.2f}")
plots.image_rows(
    {name: x[:num_classes] for name, x in raw.items()}, labels=names, title="w = 6, and three places for clipping"
)

# %% [markdown]
# A guess outside the range of images makes an $x_t$ that the network never saw in training, and the next guess starts from there: whites burn out, and shades are lost. On photographs that is what one sees first (Saharia et al. 2022, who clip more cleverly).
# %% [markdown]
# ## 7.9 · What does the knob cost?
#
# **Predict, then run.** The coverage of the conditional model, $w=1$, is set to 100 %. How much of it is left at $w=8$?

# %% tags=["predict"]
guess = predict(
    "guidance/coverage-left", "Coverage at w = 8, in percent of the coverage at w = 1", 0, 120, unit="%"
)

# %% [markdown]
# One run is one draw. A share of 200 images has a standard error of about one hundredth where it is near 0.97, and of three near 0.8. So every strength is drawn from several seeds, the *same* seeds for all.
#
# ### {{heading guidance/sweep}}


# %% tags=["quiz"]
def sweep(sample, score, strengths, seeds):
    """How the scores change with the strength: their means over the seeds, and the standard errors of these means.

    sample: (strength, seed) -> images;  score: images -> (accuracy, coverage), floats;  at least 2 seeds.
    Returns two tensors (len(strengths), 2).
    """
    ### BEGIN SOLUTION
    scores = torch.tensor([[score(sample(w, seed)) for seed in seeds] for w in strengths])
    errors = scores.std(dim=1) / len(seeds) ** 0.5
    return scores.mean(dim=1), errors
    ### END SOLUTION


# %% tags=["check"]
sweep = check("guidance/sweep", sweep)

# %% [markdown]
# And now both kinds of guidance in one plane. The denoiser is the course's in all of it; one classifier is *yours*, the other the course's, which was trained for longer.


# %%
def by_label(w, seed):
    return draw(classifier_free(network, w, any_class), wanted, seed)


def led_by(guide):
    return lambda s, seed: draw(with_classifier(network, schedule, guide, s), wanted, seed)


ways = {
    "classifier-free, w": (by_label, [1.0, 2.0, 3.0, 5.0, 8.0]),
    "your classifier, s": (led_by(classifier), [1.0, 5.0, 25.0]),
    "the course's classifier, s": (led_by(candidates["the course's"]), [1.0, 5.0, 25.0]),
}
curves = {}
for name, (sample, knob) in ways.items():
    means, errors = sweep(sample, score, knob, seeds)
    curves[name] = {
        f"{name[-1]} = {w:g}": (cover, right, 2 * e_cover, 2 * e_right)
        for w, (right, cover), (e_right, e_cover) in zip(knob, means.tolist(), errors.tolist())
    }
least, *_, most = curves["classifier-free, w"].values()
coverage_left = 100 * most[0] / least[0]
reveal("guidance/coverage-left", round(coverage_left, 1))

# %%
right_of_real, cover_of_real = score(real_images(1))
plots.tradeoff(
    curves,
    title=f"{train.title}: two ways to guide, and what each pays",
    x_label="coverage (right: more varied)",
    y_label="class accuracy (up: more faithful)",
    mark={"as many real images": (cover_of_real, right_of_real)},
)

# %% [markdown]
# Bars are two standard errors over three seeds (an estimate from three numbers, so rough itself). Turn $s$ up, and images obey more and more. Turn $w$ up, and accuracy costs next to nothing at first; soon there is none left to gain, and coverage falls. Between yours and the course's classifier lies the classifier's share of the gap. What is left up to the line of $w$ may be the denoiser's, which must draw well *without being told* what.
# No number can tell you which $w$ to use, because it depends on what for: one convincing picture (large $w$), or a set that stands for the data (a little above 1).
#
# ### Better than real? *(extra)*
# Guided accuracy lies above that of real images. Do guided samples avoid what is hard to classify?
#
# #### {{heading guidance/confusion}}


# %% tags=["quiz"]
def confusion(asked, seen, classes):
    """Row k: of the images of class k, which share the judge takes for class 0, 1, …: (classes, classes).

    asked, seen: (b,) labels;  every class occurs in `asked`.
    """
    ### BEGIN SOLUTION
    table = torch.zeros(classes, classes)
    for k, j in zip(asked.tolist(), seen.tolist()):
        table[k, j] += 1
    return table / table.sum(dim=1, keepdim=True)
    ### END SOLUTION


# %% tags=["check"]
confusion = check("guidance/confusion", confusion)

# %%
every = one_of_each(n).repeat(len(seeds))
looked_at = {
    "real images": real_images,
    "w = 1": lambda seed: by_label(1.0, seed),
    "w = 3": lambda seed: by_label(3.0, seed),
}
tables = {}
for name, images_of in looked_at.items():
    seen = judge.head(features(torch.cat([images_of(seed) for seed in seeds]))).argmax(1)
    tables[name] = confusion(every, seen, num_classes) * (1 - torch.eye(num_classes))
    k, j = divmod(tables[name].argmax().item(), num_classes)
    print(f"{name:12s} {tables[name].sum() / num_classes:5.1%} are mistaken", end="")
    print(f", most often {names[k]} for {names[j]}: {tables[name].max():.0%}" if tables[name].any() else "")
title = "Mistakes only. Row: asked for (first class on top); column: seen by the judge"
plots.panels(tables, title=title, shared=True, diverging=False, unit="share of the row")

# %% [markdown]
# Real clothes are mistaken for each other in a few pairs of classes. At $w=3$ hardly any mistake is left: guided images keep away from where two classes meet. A judge is easily pleased by caricatures.
#
# ## 7.10 · Only where it matters *(extra)*
#
# Must guidance act at every step? In deep noise nothing particular is to be seen yet, and the difference of the two answers points to the class's *average*. At the end the shape has long been decided. Kynkäänniemi et al. (2024) guide in an interval of noise levels only:
#
# $$w(t)=\begin{cases}w & t_{\text{low}}\le t\le t_{\text{high}},\\ 1 & \text{else.}\end{cases} \tag{7.11}$$
#
# ### {{heading guidance/guided-between}}
# Outside, one answer is enough. Write it so that the network isn't asked for what isn't used.


# %% tags=["quiz"]
def guided_between(denoise, w, null, low, high):
    """A denoiser (x_t, t, y) -> x̂_0, guided with strength w for low ≤ t ≤ high, conditional elsewhere, (7.11).

    All images of a batch are at one step. Outside of the interval `denoise` is asked once, with y.
    """
    ### BEGIN SOLUTION
    inside = classifier_free(denoise, w, null)

    def guided(x_t, t, y):
        if low <= int(t[0]) <= high:
            return inside(x_t, t, y)
        return denoise(x_t, t, y)

    return guided
    ### END SOLUTION


# %% tags=["check"]
guided_between = check("guidance/guided-between", guided_between)

# %%
T, knob = schedule.T, [2.0, 5.0, 8.0]
intervals = {"deep noise only": (2 * T // 3 + 1, T), "middle third": (T // 3 + 1, 2 * T // 3)}
intervals |= {"all but deep noise": (1, 2 * T // 3)}
paths = {"everywhere, w = 1 to 8": curves["classifier-free, w"]}
for name, (low, high) in intervals.items():

    def by_interval(w, seed, low=low, high=high):
        return draw(guided_between(network, w, any_class, low, high), wanted, seed)

    means, errors = sweep(by_interval, score, knob, seeds)
    paths[name] = {
        f"_w = {w:g}": (cover, right, 2 * e_cover, 2 * e_right)
        for w, (right, cover), (e_right, e_cover) in zip(knob, means.tolist(), errors.tolist())
    }
plots.tradeoff(
    paths,
    title=f"{train.title}: the same strengths, in parts of the walk only",
    x_label="coverage (right: more varied)",
    y_label="class accuracy (up: more faithful)",
)

# %% [markdown]
# ### {{heading guidance/beats}}
# Two points with bars: when may you say that one is better? The bar of a *difference* is the root of the sum of both bars' squares.


# %% tags=["quiz"]
def beats(one, other):
    """Whether `one` is better by more than the bar in one measure, and in the other not worse by more than the bar.

    one, other: (coverage, accuracy, bar of the coverage, bar of the accuracy), four floats.  Returns True or False.
    """
    ### BEGIN SOLUTION
    better = worse = False
    for k in (0, 1):
        bar = (one[k + 2] ** 2 + other[k + 2] ** 2) ** 0.5
        better |= one[k] - other[k] > bar
        worse |= other[k] - one[k] > bar
    return better and not worse
    ### END SOLUTION


# %% tags=["check"]
beats = check("guidance/beats", beats)

# %%
everywhere = curves["classifier-free, w"]
led = [point for name in list(curves)[1:] for point in curves[name].values()]
beaten = sum(any(beats(other, point) for other in everywhere.values()) for point in led)
print(f"{beaten} of {len(led)} points that a classifier led are beaten by one without a classifier")
for name in intervals:
    won = [w for w, point in everywhere.items() if any(beats(own, point) for own in paths[name].values())]
    lost = [
        w.strip("_")
        for w, point in paths[name].items()
        if any(beats(other, point) for other in everywhere.values())
    ]
    print(
        f"{name:18s} beats everywhere's {', '.join(won) or 'none'};   is beaten at {', '.join(lost) or 'none'}"
    )

# %% [markdown]
# On the three lines without numbers the strengths 2, 5 and 8 follow each other upwards. Strong guidance in deep noise alone already costs variety. In the middle third it obeys nearly as well, and what it costs can't be told from nothing, with one evaluation instead of two for the rest of the walk. Where bars overlap, nothing is claimed.
#
# ## 7.11 · Explore: class, strength, noise
#
# A question that no single picture answers: from *one* noise, does a stronger wish change **what** the image shows, or only **how clearly**? Choose a class and hold the noise, then raise $w$; then hold $w$ and change the class. Does the noise keep anything of its own (a tilt, a size, a darkness) through all classes?

# %%
noises, offered, album = lab.pick(smoke=9, cpu=12, gpu=16), [0.0, 1.0, 2.0, 3.0, 5.0, 8.0], {}
labels = torch.arange(num_classes, device=lab.device).repeat_interleave(noises)
same_noise = torch.randn(noises, *train.shape, generator=lab.generator(11), device=lab.device).repeat(
    num_classes, 1, 1, 1
)
for w in offered:
    images = ask_for(network, schedule, labels, w, any_class, same_noise, strides)
    hits = judge(images).argmax(1) == labels
    album[w] = images.view(num_classes, noises, *train.shape).cpu(), hits.view(num_classes, noises).cpu()


def show_wish(wanted_class, w, first):
    k, part = names.index(wanted_class), slice(first, first + 8)
    hits = int(album[w][1][k, part].sum())
    return plots.image_rows(
        {f"w = {s:g}": album[s][0][k, part] for s in dict.fromkeys((1.0, w))},
        labels=[f"noise {first + i}" for i in range(8)],
        title=f'{train.title}: "{wanted_class}", w = {w:g}; the judge agrees with {hits} of 8',
    )


explore(
    show_wish,
    wanted_class=choice(list(names), names[min(5, num_classes - 1)], label="class"),
    w=choice({f"{w:g}": w for w in offered}, 3.0, label="strength w"),
    first=slider(0, noises - 8, 0, label="first noise"),
    title="What changes with the wish, and what stays with the noise?",
    alt="Eight images of a class from eight noises, at strength 1 and at the chosen strength",
)

# %% [markdown]
# ## 7.12 · One wish, please *(extra)*
#
# Name a class, and watch it come out of the noise, step by step. Change the name and run the two cells again.

# %%
wish, small_steps = names[min(8, num_classes - 1)], lab.pick(smoke=8, cpu=40, gpu=60)
y = torch.full((8,), names.index(wish), device=lab.device)
noise = torch.randn(8, *train.shape, generator=lab.generator(12), device=lab.device)
way = list(ddim(clipped(classifier_free(network, 2.0, any_class)), schedule, noise, small_steps, y))
plots.animation(
    [step.x.cpu().clamp(-1, 1) for step in way],
    title=f"{wish}, please (w = 2)",
    seconds=4,
    captions=[f"t = {step.t}" for step in way],
)

# %% [markdown]
# On paper, the same trajectory at a few of its timesteps, and the guess $\hat x_0$ that led there:

# %%
times = [round(k * (len(way) - 1) / 7) for k in range(1, 8)]
plots.image_rows(
    {
        "$x_t$": torch.stack([way[k].x[0] for k in times]),
        "guess $\\hat x_0$": torch.stack([way[k].x0[0] for k in times]),
    },
    labels=[f"t = {way[k].t}" for k in times],
    title=f'{train.title}: "{wish}" comes out of the noise, w = 2',
)

# %% [markdown]
# ### {{heading guidance/two-wishes}}
# A sneaker that is a bag? Add one arrow for *each* wish (Liu et al. 2022), $\hat x_{\text{any}}+w\sum_k(\hat x_{y_k}-\hat x_{\text{any}})$.


# %% tags=["quiz"]
def all_wishes(denoise, w, null):
    """A denoiser (x_t, t, wishes) -> x̂_0 that is led to several classes at once, not clipped.

    wishes: (b, m) labels, m for each image;  denoise, w, null: as in `classifier_free`.
    """

    ### BEGIN SOLUTION
    def guided(x_t, t, wishes):
        of_any = denoise(x_t, t, torch.full_like(wishes[:, 0], null))
        towards = torch.zeros_like(of_any)
        for y in wishes.T:
            towards = towards + (denoise(x_t, t, y) - of_any)
        return of_any + w * towards

    return guided
    ### END SOLUTION


# %% tags=["check"]
all_wishes = check("guidance/two-wishes", all_wishes)

# %%
pairs = [(7, 8), (0, 1), (2, 8), (9, 5)] if num_classes == 10 else [(0, 1)]
rows = {f"{names[a]} + {names[b]}": torch.tensor([[a, b]] * 8, device=lab.device) for a, b in pairs}
plots.image_rows(
    {name: draw(all_wishes(network, 1.5, any_class), wishes) for name, wishes in rows.items()},
    title=f"{train.title}: two wishes at once, w = 1.5 each",
)

# %% [markdown]
# An ankle boot and a sandal are near each other, and what comes out has something of both. Nothing in the data is a sneaker and a bag at once, and the arrows find no better than a compromise.
#
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {train.title}\n")
print(f"7.4  both sides of (7.5) on three blobs: {toy_gap:.0e} apart")
print(f"7.5  at t = 300 the judge is right about {clean_at_300:.0%}, your classifier about {yours_at_300:.0%}")
print(f"7.7  guided samples miss p(x) p(y|x)³ by {away:.0f} standard errors")
for name, path in curves.items():
    for knob, (cover, right, e_cover, e_right) in path.items():
        print(
            f"7.9  {name[:-3]:24s} {knob:7s} accuracy {right:.3f} ± {e_right:.3f}   coverage {cover:.3f} ± {e_cover:.3f}"
        )
print(f"     coverage left at w = 8: {coverage_left:.0f} % of that at w = 1")

# %% [markdown]
# **What to take along.** A wish is one more term in a score, by Bayes' rule. A classifier can supply it, if it knows noise; a network with a null label supplies it by itself, as the difference of its two answers. The strength of the wish is a knob that trades variety for certainty, so report both. Count $w$ from where you say you count it, clip last, and test the samples that nobody looks at.
#
# Notebook 08 leaves noise aside and lets two networks play against each other.
#
# ## Go further *(ungraded)*
# 1. **No training at all.** A clean classifier is good at clean images, and $\hat x_0$ nearly is one. Guide by the gradient of $\ln p(y\mid\hat x_0(x_t))$ with respect to $x_t$, through the denoiser (Bansal et al. 2023). What does a step cost now?
# 2. **Not that.** What does a *negative* strength for one of two wishes draw? A sneaker, but as little of an ankle boot as can be?
# 3. **A bad version of yourself.** Karras et al. (2024) use a *worse-trained* model in the place of $\hat x_{\text{any}}$, conditional as well. You have one: `mine`. Measure accuracy and coverage.
# 4. **Your own curve.** Sweep $w$ for `mine`, and put its points into the picture of 7.9, too. What does guidance do for a network that was hardly trained?
# 5. **Rescale.** Guided guesses have too large a spread. Lin et al. (2024) scale $\hat x$ back to the standard deviation of $\hat x_y$. Write it as a wrapper, and compare it with clipping at $w=6$.
#
# ## References
# * P. Dhariwal, A. Nichol, *Diffusion Models Beat GANs on Image Synthesis* (classifier guidance), NeurIPS 2021. arXiv:2105.05233
# * J. Ho, T. Salimans, *Classifier-Free Diffusion Guidance*, 2022. arXiv:2207.12598
# * T. Kynkäänniemi et al., *Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models*, NeurIPS 2024. arXiv:2404.07724
# * M. F. Naeem et al., *Reliable Fidelity and Diversity Metrics for Generative Models* (density and coverage), ICML 2020. arXiv:2002.09797
# * Y. Song et al., *Score-Based Generative Modeling through Stochastic Differential Equations* (conditional scores), ICLR 2021. arXiv:2011.13456
# * C. Saharia et al., *Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding* (clipping under strong guidance), NeurIPS 2022. arXiv:2205.11487
# * T. Karras et al., *Guiding a Diffusion Model with a Bad Version of Itself*, NeurIPS 2024. arXiv:2406.02507
# * A. Bansal et al., *Universal Guidance for Diffusion Models*, 2023. arXiv:2302.07121
# * N. Liu et al., *Compositional Visual Generation with Composable Diffusion Models*, ECCV 2022. arXiv:2206.01714
# * S. Lin et al., *Common Diffusion Noise Schedules and Sample Steps are Flawed* (rescaled guidance), WACV 2024. arXiv:2305.08891
