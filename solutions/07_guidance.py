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
# Up to here our models drew whatever came to their mind. Now we ask: *a sandal, please*. There are two halves to that. The network must be told what is wanted,
# and the sampler must take the wish seriously. The second half turns out to be a knob, and the knob has a price.
# In this notebook we build both halves by hand, find out where the knob comes from (Bayes' rule, twice), and measure what it gives and what it takes.
#
# **What you will be able to do**
# * tell a U-Net a class in two ways, and train a label that means "any";
# * write classifier guidance and classifier-free guidance, derive both from the score of a joint density, and check them where everything is known exactly;
# * convert between the two ways in which papers count the strength of guidance, before it costs you a day;
# * measure fidelity *and* diversity, with a judge that took no part, and choose a strength by what you see;
# * guide only where it matters, clip where it belongs, and ask for a class by name.
#
# **Before you start:** notebooks 03 (the score), 05 (training, $\hat x_0$ and $\hat\varepsilon$) and 06 (DDIM, DPM-Solver++).
#
# {{budget}}
#
# The text describes what you see at effort `cpu` or above, on Fashion-MNIST. At `smoke` two networks are hardly trained and few images are drawn: what is printed is true of that run, but sentences about pictures and rankings don't hold.

# %% tags=["setup"]
import copy
from dataclasses import replace

import torch
from torch.nn import functional as F

from course_utils import plots, recipes, setup
from course_utils.data import GaussianMixture, load
from course_utils.device import autocast, seeded
from course_utils.diffusion import (Denoiser, cosine_schedule, predict_noise, predict_x0, prediction_target)
from course_utils.explore import choice, explore, slider
from course_utils.metrics import frechet_distance
from classroom import ask, check, predict, reveal
from course_utils.sampling import classifier_guided, clipped, dpm_solver, cfg, last, ddim
from course_utils.training import fit, steps_made
from course_utils.weights import load_classifier, load_denoiser, load_noisy_classifier, shipped

lab = setup("07")


# %%
def load_known(split):
    """Images that a trained model of the course knows: those that were asked for, else digits."""
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
print(
    f"A diffusion model that knows them, after {denoiser.card['steps']} steps of training; "
    f'label {any_class} means "any".'
)

# %% [markdown]
# Two helpers for all that follows. A denoiser at its fastest, and a sampler: DPM-Solver++(2M) from notebook 06, from the same noise for the same seed, with guesses clipped last of all.


# %%
def fast(denoise):
    """The same denoiser in half precision where the processor is made for it, and channels last."""

    def ask_quickly(x_t, t, y=None):
        with autocast(x_t.device):
            return denoise(x_t.contiguous(memory_format=torch.channels_last), t, y)

    return ask_quickly


def draw(denoise, y, seed=1):
    """One image for each label (b,), in few evaluations of the network."""
    strides = lab.pick(smoke=5, cpu=12, gpu=25)
    noise = torch.randn(len(y), *train.shape, generator=lab.generator(seed), device=lab.device)
    return last(dpm_solver(clipped(denoise), schedule, noise, strides, y)).clamp(-1, 1)


def one_of_each(n):
    """Labels 0, 1, 2, ... over and over, (n,)."""
    return torch.arange(n, device=lab.device) % num_classes


network = fast(denoiser)
asked = one_of_each(3 * num_classes)
plots.image_rows(
    {
        'label "any"': draw(network, torch.full_like(asked[:num_classes], any_class)),
        "asked for": draw(network, asked[:num_classes]),
        "other noise": draw(network, asked[:num_classes], seed=2),
    },
    labels=names,
    title=f"{train.title}: the same network, told nothing, and told the class",
)

# %% [markdown]
# First row and second row start from the same noise. With the label "any" the network draws what the noise suggests to it; told a class, it obeys, it seems; 7.3 will count. And how does one tell a network anything?

# %% [markdown]
# ## 7.1 · How does the class get in?
#
# The U-Net of notebook 04 already listens to something beside the image: the step. Its waves $\tau(t)$ pass through a small network and become an embedding that scales and shifts the channels in every block.
# The cheapest way to tell it more is to **add**: give each class $y$ a row $E_y$ of learned numbers, and add it to the step's,
#
# $$e = \mathrm{MLP}\big(\tau(t)\big) + E_y . \tag{7.1}$$
#
# No block changes; ten rows more in a table. But a sum can only say things that hold everywhere in the image: "this channel louder, that one softer".
# The other way gives each block something to *look at*: a dense layer turns the row into an image plane, which is **concatenated** to the block's input as one more channel,
#
# $$h \;\leftarrow\; \big[\,h\,;\ \mathrm{reshape}_{h\times w}(W E_y + b)\,\big] . \tag{7.2}$$
#
# A plane can say different things in different places, and each block has its own. The price is a matrix of $h\,w$ rows a block.
#
# (7.1) is a line:


# %% tags=["setup"]
def add_class(of_step, table, y):
    """Equation (7.1).  of_step: (b, e), the step's embedding;  table: (classes + 1, e), see 7.2;  y: (b,).

    Returns (b, e).
    """
    return of_step + table[y]


# %% [markdown]
# ### {{heading guidance/plane}}
# Write (7.2) with plain tensors. Test images are not square.


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
# ## 7.2 · A label that means "any"
#
# Later we shall need two answers for one noisy image: the guess of somebody who was told the class, and of somebody who wasn't. Two networks? There is a cheaper way, and it costs one line of training (Ho & Salimans 2022).
# Add one more label, the **null label** ∅, and before each training step let every label become ∅ with a small probability:
#
# $$\tilde y_i = \begin{cases}\varnothing & \text{with probability } p,\\ y_i & \text{else,}\end{cases}\qquad\text{for each image } i \text{ on its own;}\quad p\approx 0.1 . \tag{7.3}$$
#
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
# ### {{heading guidance/null-never-trained}}
# The heart of a training step: drop labels, ask the network. It runs, the loss falls, samples with a class look fine. What is wrong? Mend it, and say in one line (a comment will do) which samples it spoils.


# %% tags=["quiz"]
def answer_in_training(model, x_t, t, y, lost, null):
    """What the network says to noisy images, some of their labels dropped, equation (7.3).

    x_t: (b, c, h, w);  t, y: (b,);  lost: (b,) booleans, true where the label is to be dropped;
    null: the null label.
    """
    labels = torch.where(lost, null, y)
    ### BEGIN SOLUTION
    return model(x_t, t, labels)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # return model(x_t, t, y)
    ### END HANDED OUT


# %% tags=["check"]
answer_in_training = check("guidance/null-never-trained", answer_in_training)

# %% [markdown]
# ### Both ways, trained alike
# Two networks, the same images in the same order, the same steps $t$, the same noise, the same labels dropped. Only the class comes in differently. `diffusion_loss` of notebook 05 drops a tenth of the labels by itself.
# (A few hundred steps are a sketch. `benchmarks/conditioning.py` trains longer and over several seeds.)

# %%
steps = lab.pick(smoke=4, cpu=400, gpu=3000)
two_ways, training = {}, {}
for way in ("added", "plane"):
    with seeded(0):
        model = recipes.ddpm_model(train.shape, num_classes=num_classes, conditioning=way).to(lab.device)
    how = recipes.ddpm_recipe(steps, batch_size=lab.pick(smoke=16, cpu=64, gpu=128))
    history = fit(model, recipes.ddpm_loss(schedule, model), train, how)
    two_ways[way], training[way] = history.ema_model.eval(), history
    weights = sum(w.numel() for w in model.parameters())
    tail = history.loss[-max(1, steps // 6) :]
    print(
        f"{way:6s} {weights:,} weights, {1000 * history.seconds / len(history.steps):.0f} ms a step, "
        f"loss {sum(tail) / len(tail):.4f} (squared error of v, a pixel)"
    )

# %% [markdown]
# ## 7.3 · Did we get what we asked for?
#
# Three questions, three numbers.
#
# * *Is it the class that was asked for?* A classifier looks at each image. It must not have taken part in training or in guidance, or it would judge its own work. Ours comes with the course and was trained on clean images. **Class accuracy** is the share of images that it takes for the class asked for.
# * *Are the images, all together, like data?* The Fréchet distance of notebook 02, in that classifier's features.
# * *Is everything there?* The **coverage** of Naeem et al. (2020): around each real image $x_i$ draw a ball that reaches to its $k$-th nearest real neighbour, in feature space. What share of the balls holds a generated image $g_j$?
#
# $$\text{coverage}=\frac1n\sum_{i=1}^n \mathbb 1\Big[\min_j\lVert x_i-g_j\rVert\le r_k(x_i)\Big], \tag{7.4}$$
#
# where $r_k(x_i)$ is the distance to the $k$-th nearest other real image.
#
# Perfect samples don't reach 1: mix $n$ generated images that are as good as $n$ real ones with the other real ones, and sort all by their distance from $x_i$. Each place is then taken by either kind with equal chance, and the ball is empty if the first $k$ are all real: probability about $2^{-k}$. So the best to hope for is $1-2^{-k}$, which is 0.97 at $k=5$. And the fewer images, the wider the balls: compare coverages only of as many images, that is, within one of the tables below.


# %%
def coverage(real, generated, k=5):
    """The share of real images with a generated one nearby, (7.4).  real: (n, d);  generated: (m, d)."""
    reach = torch.cdist(real, real).sort(dim=1).values[:, k]  # column 0 is the image itself
    nearest = torch.cdist(real, generated).min(dim=1).values
    return (nearest <= reach).double().mean().item()


evaluator = load_classifier(train.name, lab.device)
n_judged = lab.pick(smoke=30, cpu=500, gpu=2000)
wanted = one_of_each(n_judged)


@torch.no_grad()
def features(images):
    """(n, 64): what the judge sees, before it decides."""
    return torch.cat([evaluator.features(part) for part in images.split(250)])


few, many = test.first(n_judged), test.first(lab.pick(smoke=200, cpu=2000, gpu=10_000))
real_few, real_many = features(few.x), features(many.x)


def measure(images, y):
    """Class accuracy, squared Fréchet distance to test images, coverage of as many as were drawn."""
    seen = features(images)
    return {
        "accuracy": (evaluator.head(seen).argmax(1) == y).double().mean().item(),
        "distance": frechet_distance(seen, real_many),
        "coverage": coverage(real_few[: len(images)], seen),
    }


def say(name, m):
    print(
        f"{name:34s} accuracy {m['accuracy']:.3f}   distance {m['distance']:6.2f}   "
        f"coverage {m['coverage']:.3f}"
    )


best = measure(train.first(n_judged).x, train.labels[:n_judged])
say("as many real training images", best)
results = {}
for way, model in two_ways.items():
    images = draw(fast(Denoiser(model, schedule, recipes.PREDICTION_TYPE)), wanted)
    results[way] = measure(images, wanted)
    say(f"class {way}, {steps_made(training[way])}", results[way])
results["course"] = measure(draw(network, wanted), wanted)
say("the course's model, class added", results["course"])

# %% [markdown]
# Read the first line as the judge's own limits: it is wrong about some real images as well. Which of the two ways wins after so few steps may change with the seed; that both learn to obey, and that one costs more weights, doesn't.
#
# What did the second network write on its planes? Here is the plane of each class in its first block, less the mean over all classes. It began as random numbers. Can you find the trousers' two legs with the gap between them, and the pullover's two sides?

# %%
first_block, table = two_ways["plane"].down[0][0], two_ways["plane"].label.weight[:num_classes]
planes = first_block.plane(table).detach().float().view(num_classes, *first_block.size)
plots.panels(
    dict(zip(names, planes - planes.mean(0))),
    title=f"{train.title}: the plane of each class in the first block, after {steps_made(*training.values())}",
    columns=5,
    shared=True,
)

# %% [markdown]
# ### What the bug costs
# In the bug hunt the null label was never trained. We can have that without another training: put fresh random numbers, as an embedding starts with, into the null row of the course's model. Nothing else changes. Then ask with $w=1$, which never uses that row, and with the other strengths that section 7.7 is about: $w=0$, which uses nothing else, and $w=3$, which uses both.

# %%
untrained = copy.deepcopy(denoiser)
row = untrained.model.label.weight[any_class]
row.copy_(torch.randn(row.shape, generator=lab.generator(5), device=lab.device))
rows, n_bug = {}, lab.pick(smoke=20, cpu=200, gpu=1000)
for name, model in {"as trained": denoiser, "null row untrained": untrained}.items():
    for w in (0.0, 1.0, 3.0):
        images = draw(cfg(fast(model), w, any_class), wanted[:n_bug])
        rows[f"{name}, w = {w:g}"] = images[:num_classes]
        say(f"{name}, w = {w:g}", measure(images, wanted[:n_bug]))
plots.image_rows(rows, labels=names, title=f"{train.title}: a bug that w = 1 doesn't show")

# %% [markdown]
# With $w=1$ the two agree to the last digit: whoever looks only at unguided samples will never find this bug. With $w=0$ it is glaring. With $w=3$ the judge's numbers hardly complain, but your eye does: the last row is strewn with grains, since guidance now walks away from the answer to a label that means nothing. Judges overlook things. Look at pictures too, and at *all* the modes of a sampler that you ship.
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
# ## 7.4 · The score of "an image, and a sandal"
#
# Forget for a moment that our network knows classes. Suppose there is an unconditional model, and somebody who can tell classes apart. Can the two together draw a sandal?
#
# Sampling needs a score, $\nabla\ln p(x_t\mid y)$. That is also the score of the *joint* density "an image, and a sandal": $p(x_t,y)=p(y)\,p(x_t\mid y)$, and as a function of $x_t$ the factor $p(y)$ is a constant. Bayes' rule says $p(x_t\mid y)=p(x_t)\,p(y\mid x_t)/p(y)$. Take the logarithm, then the gradient with respect to $x_t$; the denominator doesn't depend on it:
#
# $$\nabla\ln p(x_t\mid y)=\underbrace{\nabla\ln p(x_t)}_{\text{towards images}}+\underbrace{\nabla\ln p(y\mid x_t)}_{\text{towards this class}} . \tag{7.5}$$
#
# A sum of two arrows. The first is the model that we have; the second is the gradient of a *classifier*, with respect to its input.
# And a sum invites a knob: $s$ times the second arrow.
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
# ### Does it hold?
# In the exact-score laboratory of notebook 03 all three terms of (7.5) are known. Three blobs, three classes, at a step where they overlap. Left arrow: the mixture's own score. Middle arrow: *your* function on the perfect classifier, which Bayes' rule gives. Their sum must be the score of the one blob that was asked for, which is computed without either of them. A forgotten logarithm, a mean for a sum, and the gap below is as large as the arrows.

# %%
toy_schedule = cosine_schedule(1000)
blobs = GaussianMixture(torch.tensor([[-1.1, -0.6], [1.1, -0.6], [0.0, 1.1]]), 0.4)
alone = [GaussianMixture(blobs.means[k : k + 1], 0.4) for k in range(3)]


def perfect_classifier(x, t):
    """ln p(y | x_t) up to a constant, by Bayes' rule, for points at one step t: three densities."""
    a = toy_schedule.alpha_bar[t[0]]
    return torch.stack([blob.diffused(a).log_prob(x) for blob in alone], dim=1)


cells, extent, target = 15, (-2.4, 2.4, -2.0, 2.4), 1
places = [
    extent[k] + (extent[k + 1] - extent[k]) * (torch.arange(cells) + 0.5) / cells for k in (0, 2)
]
grid = torch.stack(torch.meshgrid(*places, indexing="xy"), -1).reshape(-1, 2)
t_toy = 300
a = toy_schedule.alpha_bar[t_toy]
t = torch.full((len(grid),), t_toy)
to_images = blobs.diffused(a).score(grid)
to_class = classifier_gradient(perfect_classifier, grid, t, torch.full_like(t, target))
conditional = alone[target].diffused(a).score(grid)
toy_gap = (to_images + to_class - conditional).abs().max().item()
print(
    f"longest arrow {conditional.norm(dim=1).max():.2f}; "
    f"largest gap between both sides of (7.5): {toy_gap:.1e}"
)

# %%
shade = blobs.diffused(a).log_prob(grid).exp().view(cells, cells)
own = alone[target].diffused(a).log_prob(grid).exp().view(cells, cells)
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

# %% [markdown]
# ## 7.5 · The classifier must know noise
#
# (7.5) asks for $p(y\mid x_t)$, the opinion of somebody who sees the *noisy* image. The judge of section 7.3 has never seen one. How well does it do?
#
# **Predict, then run.** The judge is right about more than nine tenths of clean images. At $t=300$ of 1000, where $\bar\alpha_t$ is still 0.79 and our eyes see plainly what it is, it is right about what share?

# %% tags=["predict"]
guess = predict(
    "guidance/clean-accuracy",
    "Accuracy of the clean classifier on images at t = 300",
    0,
    100,
    unit="%",
)

# %% [markdown]
# The remedy is training on what it will be asked about: the loss is a classifier's usual one, at random steps, and the network is told the step,
#
# $$L(\varphi)=\mathbb E_{x_0,y,\;t\sim\mathcal U\{1..T\},\;\varepsilon}\big[-\ln p_\varphi(y\mid x_t,t)\big],\qquad x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\varepsilon . \tag{7.6}$$


# %%
def noisy_cross_entropy(classifier, x0, y, t, noise, schedule):
    """Equation (7.6) for one batch, in nats per image."""
    return F.cross_entropy(classifier(schedule.add_noise(x0, t, noise), t), y)


noisy_classifier = load_noisy_classifier(train.name, lab.device).to(
    memory_format=torch.channels_last
)
print(
    f"The course's own, trained with this loss by\n  {noisy_classifier.card['command'].strip('`')}\n"
)
pictures = test.first(lab.pick(smoke=100, cpu=500, gpu=5000))
generator, levels = lab.generator(6), [1, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]
right = {"trained on clean images": [], "trained on noisy images": []}
with torch.no_grad():
    for level in levels:
        t = torch.full((len(pictures),), level, device=lab.device)
        noise = torch.randn(pictures.x.shape, generator=generator, device=lab.device)
        x_t = schedule.add_noise(pictures.x, t, noise)
        for name, logits in zip(right, (evaluator(x_t), noisy_classifier(x_t, t))):
            right[name].append((logits.argmax(1) == pictures.labels).double().mean().item())
clean_at_300 = right["trained on clean images"][levels.index(300)]
reveal("guidance/clean-accuracy", round(100 * clean_at_300, 1))
plots.curves(
    {name: (levels, values) for name, values in right.items()},
    mark={"pure chance": (None, 1 / num_classes)},
    title=f"{train.title}: noise blinds whoever has never seen it",
    x_label="step t",
    y_label="share of right answers",
)

# %% [markdown]
# The noisy one is a little worse on clean images, since it is a smaller network with more to do. But it still has an opinion where our eyes have none, and at the very end nobody has.
# Its *gradient* is what guidance uses. Red: "more white here would make it more of this class"; blue: "more black here". Each panel has its own scale.

# %%
shown = int((test.labels == num_classes - 1).nonzero()[0])
picture, wish = test.take([shown]), torch.tensor([num_classes - 1], device=lab.device)
maps = {}
for level in (100, 500):
    t = torch.tensor([level], device=lab.device)
    noise = torch.randn(picture.shape, generator=lab.generator(7), device=lab.device)
    x_t = schedule.add_noise(picture, t, noise)
    maps[f"$x_t$,\nt = {level}"] = x_t[0].clamp(-1, 1).cpu()
    for name, classifier in {"clean": lambda x, t: evaluator(x), "noisy": noisy_classifier}.items():
        uphill = classifier_gradient(classifier, x_t, t, wish)
        maps[f"{name} one's\narrow, t = {level}"] = uphill[0].mean(0).cpu()
plots.panels(
    maps, columns=6, title=f'{train.title}: the way to "{names[num_classes - 1]}", by two classifiers'
)

# %% [markdown]
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
# ## 7.6 · Classifier guidance
#
# Samplers speak of noise, not of scores. From notebook 03, $\nabla\ln p(x_t)=-\hat\varepsilon/\sqrt{1-\bar\alpha_t}$. Multiply (7.5), with the knob $s$ in it, by $-\sqrt{1-\bar\alpha_t}$ (Dhariwal & Nichol 2021):
#
# $$\hat\varepsilon=\varepsilon_\theta(x_t,t)-\sqrt{1-\bar\alpha_t}\;s\;\nabla\ln p_\varphi(y\mid x_t,t) . \tag{7.7}$$
#
# ### {{heading guidance/guided-noise}}


# %% tags=["quiz"]
def guided_noise(noise, uphill, t, schedule, scale):
    """The noise that a guided model predicts, equation (7.7).

    noise: (b, c, h, w), the model's own prediction;  uphill: like it, ∇ ln p(y | x_t);  t: (b,);
    scale: s.  `schedule.rates(t, noise)` gives √ᾱ_t and √(1 − ᾱ_t), shaped to multiply a batch.
    Returns a tensor like noise.
    """
    ### BEGIN SOLUTION
    _, noise_rate = schedule.rates(t, noise)
    return noise - noise_rate * scale * uphill
    ### END SOLUTION


# %% tags=["check"]
guided_noise = check("guidance/guided-noise", guided_noise)

# %% [markdown]
# ### {{heading guidance/wrong-quantity}}
# A colleague's version of `classifier_gradient`. It leads the right way, and on one image at a time it agrees with yours to the last digit. What is wrong? Mend it.


# %% tags=["quiz"]
def colleagues_gradient(classifier, x_t, t, y):
    """∇ ln p(y | x_t).  Arguments and result as in `classifier_gradient`."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        ### BEGIN SOLUTION
        minus_log_p = F.cross_entropy(classifier(x, t), y, reduction="sum")
        ### END SOLUTION
        ### BEGIN HANDED OUT
        # minus_log_p = F.cross_entropy(classifier(x, t), y)
        ### END HANDED OUT
        return -torch.autograd.grad(minus_log_p, x)[0]


# %% tags=["check"]
colleagues_gradient = check("guidance/wrong-quantity", colleagues_gradient)

# %% [markdown]
# Put your functions together: a wrapper that makes a guided denoiser of any denoiser and any classifier. It says everything in $\hat x_0$, as all our denoisers do; (7.7) in that language, by (5.6), is
#
# $$\hat x_0^{\,\text{guided}}=\hat x_0+\frac{1-\bar\alpha_t}{\sqrt{\bar\alpha_t}}\;s\;\nabla\ln p_\varphi(y\mid x_t,t) . \tag{7.8}$$


# %%
def with_classifier(denoise, classifier, scale):
    """A denoiser that is led to the class y by a classifier: equation (7.7), and back to x̂_0."""

    def denoise_guided(x_t, t, y):
        noise = predict_noise(schedule, denoise(x_t, t), x_t, t)
        uphill = classifier_gradient(classifier, x_t, t, y)
        return predict_x0(schedule, "noise", guided_noise(noise, uphill, t, schedule, scale), x_t, t)

    return denoise_guided


x_t = torch.randn(8, *train.shape, generator=lab.generator(8), device=lab.device)
t = torch.linspace(20, 900, 8, device=lab.device).long()
ours = with_classifier(denoiser, noisy_classifier, 5.0)(x_t, t, one_of_each(8))
library = classifier_guided(denoiser, schedule, noisy_classifier, 5.0)(x_t, t, one_of_each(8))
gap_of_forms = ((ours - library).abs().max() / library.abs().max()).item()
print(
    f"(7.7) in the noise against (7.8) in the image: largest relative difference {gap_of_forms:.0e}"
)

# %% [markdown]
# Now on images. The denoiser is asked for "any"; only the classifier knows what we want. As a control, the clean classifier at $s=5$: if noise didn't matter it would do as well as the noisy one.


# %%
def noisy_logits(x, t):
    with autocast(x.device):
        return noisy_classifier(x.contiguous(memory_format=torch.channels_last), t).float()


n_guided = lab.pick(smoke=20, cpu=200, gpu=1000)
by_scale, rows = {}, {}
for name, classifier, scale in (
    ("s = 0", noisy_logits, 0.0),
    ("s = 1", noisy_logits, 1.0),
    ("s = 5", noisy_logits, 5.0),
    ("s = 20", noisy_logits, 20.0),
    ("clean classifier, s = 5", lambda x, t: evaluator(x), 5.0),
):
    images = draw(classifier_guided(network, schedule, classifier, scale), wanted[:n_guided])
    by_scale[name], rows[name] = measure(images, wanted[:n_guided]), images[:num_classes]
    say(name, by_scale[name])
plots.image_rows(
    rows, labels=names, title=f"{train.title}: an unconditional model, led by a classifier"
)

# %% [markdown]
# It works: a model that is told nothing draws what was asked for, because somebody beside it says in each step which way that lies. And it falls short of the conditional model of section 7.3: at $s=1$ a *perfect* pair would equal it (that was the test on the blobs), but here two networks with errors of their own are added up. A larger $s$ makes up for a timid classifier.
# The control shows why section 7.5 was needed.

# %% [markdown]
# ## 7.7 · No classifier at all
#
# A second network, trained on noise, with gradients through it in every step: can't the diffusion model do that by itself? Read (7.5) from right to left:
#
# $$\nabla\ln p(y\mid x_t)=\nabla\ln p(x_t\mid y)-\nabla\ln p(x_t).$$
#
# The right side is the difference of two scores, and one network with a null label knows both. It *contains* a classifier, whose arrow is the difference of its two answers. Put that into $\nabla\ln p(x_t)+w\,\nabla\ln p(y\mid x_t)$. Scores, noises and clean guesses differ by factors and terms that are the same for both answers, so in $\hat x_0$ it reads the same:
#
# $$\hat x=\hat x_{\text{any}}+w\,\big(\hat x_{y}-\hat x_{\text{any}}\big) . \tag{7.9}$$
#
# That is **classifier-free guidance** (Ho & Salimans 2022). One convention for the whole course: $w=0$ ignores the class, **$w=1$ is the conditional model, unguided**, and $w>1$ exaggerates what the class changes.
#
# ### {{heading guidance/guided-guess}}


# %% tags=["quiz"]
def guided_guess(denoise, x_t, t, y, null, w):
    """Classifier-free guidance, equation (7.9).

    denoise: (x_t, t, y) -> x̂_0;  x_t: (b, c, h, w);  t, y: (b,);
    null: the label that means "any";  w: a number.  Returns a tensor like x_t, not clipped.
    """
    ### BEGIN SOLUTION
    of_any = denoise(x_t, t, torch.full_like(y, null))
    of_y = denoise(x_t, t, y)
    return of_any + w * (of_y - of_any)
    ### END SOLUTION


# %% tags=["check"]
guided_guess = check("guidance/guided-guess", guided_guess)

# %%
one_class = torch.full((10,), min(5, num_classes - 1), device=lab.device)
rows = {}
for w in (0.0, 1.0, 2.0, 4.0, 8.0):
    rows[f"w = {w:g}"] = draw(
        lambda x, t, y, w=w: guided_guess(network, x, t, y, any_class, w), one_class
    )
plots.image_rows(
    rows,
    title=f'{train.title}: "{names[one_class[0]]}", more and more strongly, same noises',
)

# %% [markdown]
# Follow a column downwards. At $w=0$ the noise decides. At 1 the class is there in most columns. Then the images become cleaner, and more alike.
#
# ### The other convention
# The paper that introduced this counts from the *conditional* model. With $w'$ for its number,
#
# $$\hat x=(1+w')\,\hat x_y-w'\,\hat x_{\text{any}},\qquad\text{so}\qquad w=1+w',\quad w'=w-1 . \tag{7.10}$$
#
# There "unguided" is 0. Both conventions live on, in papers and in programs, under one name ("guidance scale"). Someone who takes a 1 from one and types it into the other has switched guidance off, or on.
#
# ### {{heading guidance/convention}}


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

# %%
for w in (0.0, 1.0, 2.0, 7.5):
    print(f"the course's w = {w:3g}   is the paper's {convert_strength(w, 'course', 'paper'):4g}")

# %% [markdown]
# ### What does a guided walk sample from?
# At $w=1$ the answer is plain: $p(x\mid y)$. At $w=3$ the score at step $t$ is that of $p(x_t)\,p(y\mid x_t)^3$, by the same algebra. It is tempting to say that the samples then follow $p(x_0)\,p(y\mid x_0)^3$. On numbers instead of images this can be checked: two overlapping Gaussians, exact denoisers, many small steps, and the tempting density from a fine grid.

# %%
line = GaussianMixture(torch.tensor([[-0.5], [0.5]], dtype=torch.float64), 0.4)
exact, n_line = line.denoiser(toy_schedule), lab.pick(smoke=2000, cpu=20_000, gpu=50_000)
starts = torch.randn(n_line, 1, generator=lab.generator(9, "cpu"), dtype=torch.float64)
towards = torch.ones(n_line, dtype=torch.long)
small_steps, ends = lab.pick(smoke=20, cpu=100, gpu=200), {}
for w in (1.0, 3.0):
    way = ddim(cfg(exact, w, null=2), toy_schedule, starts, small_steps, towards)
    ends[w] = last(way)
place = torch.linspace(-2.5, 3.5, 2001, dtype=torch.float64)[:, None]
component = GaussianMixture(torch.tensor([[0.5]], dtype=torch.float64), 0.4)
log_class = component.log_prob(place) - line.log_prob(place)  # ln p(y | x), but for a constant
tempting = (line.log_prob(place) + 3 * log_class).softmax(0) / (place[1] - place[0])
cell = (place[1] - place[0]).item()
tempting_mean = (tempting * place[:, 0]).sum().item() * cell
tempting_std = ((tempting * (place[:, 0] - tempting_mean).square()).sum() * cell).sqrt().item()
for w, x in ends.items():
    print(
        f"w = {w:g}: samples have mean {x.mean():.3f} ± {x.std() / n_line**0.5:.3f}, "
        f"standard deviation {x.std():.3f}"
    )
print(f"p(x) p(y|x)³ has mean {tempting_mean:.3f}, standard deviation {tempting_std:.3f}")
away = abs(ends[3.0].mean().item() - tempting_mean) / (ends[3.0].std().item() / n_line**0.5)
print(f"the means at w = 3 are {away:.0f} standard errors apart")
plots.histogram(
    {f"samples, w = {w:g}": x[:, 0] for w, x in ends.items()},
    overlay={
        "p(x | y)": (place[:, 0], component.log_prob(place).exp()),
        "p(x) p(y|x)³": (place[:, 0], tempting),
    },
    title="Guided samples go further than the density that they seem to follow",
    x_label="x",
)

# %% [markdown]
# ### {{heading guidance/not-a-density}}
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
# ## 7.8 · In which language, and when to clip
#
# Programs guide in $\hat\varepsilon$, in $v$ or in $\hat x_0$. Must they agree? For one $x_t$ and one $t$ each of the three is a straight line in each other, (5.6), and the line is the same for both answers. An affine map doesn't care about combinations whose weights add up to 1, and $(1-w)+w=1$. So yes, to the last digit but for rounding. We try it in float64 with the course's model.

# %%
exactly = copy.deepcopy(denoiser).double()
x_t = torch.randn(8, *train.shape, generator=lab.generator(10, "cpu"), dtype=torch.float64).to(
    lab.device
)
t, y = torch.linspace(1, 1000, 8, device=lab.device).long(), one_of_each(8)
of_any, of_y = exactly(x_t, t, torch.full_like(y, any_class)), exactly(x_t, t, y)
in_x0 = of_any + 4 * (of_y - of_any)
language_gaps = {}
for prediction_type in ("noise", "v"):
    said = [prediction_target(schedule, prediction_type, x0, predict_noise(schedule, x0, x_t, t), t) for x0 in (of_any, of_y)]
    back = predict_x0(schedule, prediction_type, said[0] + 4 * (said[1] - said[0]), x_t, t)
    language_gaps[prediction_type] = ((back - in_x0).abs().max() / in_x0.abs().max()).item()
    print(
        f"guided in the {prediction_type:5s} against guided in the clean guess: "
        f"largest relative difference {language_gaps[prediction_type]:.0e}"
    )

# %% [markdown]
# With one exception: **clipping** is no straight line. And guidance needs it, because (7.9) with $w>1$ is an *extrapolation*: two guesses within $[-1,1]$, say 0.2 for "any" and 0.9 for the class, make $0.2+6\cdot0.7=4.4$ at $w=6$. So the order of the wrappers matters:
# `clipped(cfg(...))` repairs what guidance did; `cfg(clipped(...))` clips what was in order and leaves the rest.

# %%
n_clip, rows, clip_order = lab.pick(smoke=20, cpu=200, gpu=1000), {}, {}
noise = torch.randn(n_clip, *train.shape, generator=lab.generator(1), device=lab.device)
strides = lab.pick(smoke=5, cpu=12, gpu=25)
for name, denoise in {
    "clipped last": clipped(cfg(network, 6.0, any_class)),
    "clipped first": cfg(clipped(network), 6.0, any_class),
    "never clipped": cfg(network, 6.0, any_class),
}.items():
    raw = last(dpm_solver(denoise, schedule, noise, strides, wanted[:n_clip]))
    shown_as = raw.clamp(-1, 1)
    clip_order[name] = measure(shown_as, wanted[:n_clip]) | {
        "beyond": (raw.abs() > 1.01).double().mean().item(),
        "contrast": shown_as.std().item(),
    }
    rows[name] = shown_as[:num_classes]
    say(f"{name}, w = 6", clip_order[name])
    print(
        "{:34s} outside [-1, 1]: {beyond:.1%} of the pixels, contrast {contrast:.2f}".format(
            "", **clip_order[name]
        )
    )
contrast = few.x.std().item()
print(f"contrast (standard deviation of all pixels) of real images: {contrast:.2f}")
plots.image_rows(rows, labels=names, title=f"{train.title}: w = 6, and three places for clipping")

# %% [markdown]
# The judge's three numbers hardly tell the three apart: on pictures that are mostly black and white already, it is a blemish. The contrast does. Guidance raises it above that of real images in any case; clipped last, by the least. A guess outside the range of images makes an $x_t$ that the network never saw in training, and the next guess starts from there: whites burn out, and shades are lost.
# On photographs that is what one sees first (Saharia et al. 2022, who clip more cleverly).
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
# ## 7.9 · What does the knob cost?
#
# **Predict, then run.** The coverage of the conditional model, $w=1$, is set to 100 %. How much of it is left at $w=8$?

# %% tags=["predict"]
guess = predict(
    "guidance/coverage-left",
    "Coverage at w = 8, in percent of the coverage at w = 1",
    0,
    120,
    unit="%",
)

# %%
strengths = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0]
sweep = {}
for w in strengths:
    sweep[w] = measure(draw(cfg(network, w, any_class), wanted), wanted)
    say(f"w = {w:g}", sweep[w])
coverage_left = 100 * sweep[8.0]["coverage"] / sweep[1.0]["coverage"]
reveal("guidance/coverage-left", round(coverage_left, 1))

# %%
plots.curves(
    {what: (strengths, [sweep[w][what] for w in strengths]) for what in ("accuracy", "coverage")},
    mark={"w = 1, unguided": 1.0},
    title=f"{train.title}: fidelity and variety as w grows",
    x_label="strength of guidance w",
    y_label="share",
)

# %%
nearest = min(strengths, key=lambda w: sweep[w]["distance"])
print(
    f"Of these strengths, w = {nearest:g} comes nearest to the data "
    f"(squared Fréchet distance {sweep[nearest]['distance']:.2f})."
)
plots.curves(
    {"samples": (strengths, [sweep[w]["distance"] for w in strengths])},
    mark={"as many real images": (None, best["distance"])},
    title=f"{train.title}: nearest to the data at w = {nearest:g}",
    x_label="strength of guidance w",
    y_label="squared Fréchet distance",
)

# %% [markdown]
# Three numbers, three stories, and none of them is wrong. Accuracy says: the more the better. Coverage says: a little guidance helps, since it mends images that were near nothing real, and then every bit more makes them alike and leaves real ones alone. The distance weighs both, and has its minimum a little above 1. (Left of 1 all three get worse: the class is ignored more and more, and to draw well without being told what is the harder task.)
# No number can tell you which $w$ to use, because it depends on what for: one convincing picture (large $w$), or a set that stands for the data (a little above 1).
#
# Why does the accuracy rise *above* that of real images? Because guided samples avoid what is hard to classify: shirts that might be coats. A judge is easily pleased by caricatures.

# %% [markdown]
# ## 7.10 · Only where it matters
#
# Must guidance act at every step? In deep noise nothing particular is to be seen yet, and the difference of the two answers points to the class's *average*: whoever pulls all walks there, early, makes them alike. At the end the shape has long been decided, and all that guidance can do is correct. Is that worth two evaluations? Kynkäänniemi et al. (2024) say no, and guide in an interval of noise levels only; the table below shows whether that holds here:
#
# $$w(t)=\begin{cases}w & t_{\text{low}}\le t\le t_{\text{high}},\\ 1 & \text{else.}\end{cases} \tag{7.11}$$
#
# Outside, one evaluation is enough, so it is cheaper too. In our library that is one more wrapper around two denoisers.


# %%
def guided_between(inside, outside, low, high):
    """One denoiser for steps low ≤ t ≤ high, another for the rest, (7.11).  All are at one step."""
    return lambda x_t, t, y=None: (inside if low <= int(t[0]) <= high else outside)(x_t, t, y)


strong, T = 5.0, schedule.T
intervals = {
    "everywhere": (1, T),
    "deep noise, last third": (2 * T // 3 + 1, T),
    "middle third": (T // 3 + 1, 2 * T // 3),
    "little noise, first third": (1, T // 3),
    "first two thirds": (1, 2 * T // 3),
}
in_interval, calls = {"nowhere (w = 1)": sweep[1.0]}, {"nowhere": strides}
say("nowhere (w = 1)", sweep[1.0])
for name, (low, high) in intervals.items():
    calls[name] = sum(1 + (low <= t <= high) for t in schedule.timesteps(strides)[:-1])
    denoise = guided_between(cfg(network, strong, any_class), network, low, high)
    in_interval[name] = (
        sweep[strong] if name == "everywhere" else measure(draw(denoise, wanted), wanted)
    )
    say(f"w = {strong:g}, {name}", in_interval[name])
best_interval = min(in_interval, key=lambda name: in_interval[name]["distance"])
print(f"nearest to the data: {best_interval}")
print(
    "the network is asked, for each image: "
    + "; ".join(f"{n} times {name}" for name, n in calls.items())
)

# %%
plots.curves(
    {
        "everywhere, w = 1 to 8": (
            [sweep[s]["coverage"] for s in strengths[2:]],
            [sweep[s]["accuracy"] for s in strengths[2:]],
        )
    }
    | {
        f"w = {strong:g}, {name}": ([m["coverage"]], [m["accuracy"]])
        for name, m in in_interval.items()
        if name not in ("everywhere", "nowhere (w = 1)")
    },
    title=f"{train.title}: up is more faithful, right is more varied",
    x_label="coverage",
    y_label="class accuracy",
)

# %% [markdown]
# Points above the curve, or to its right, have more of one without less of the other. (With 500 images a hundredth either way is chance.) Compare the last third, the deep noise, with the middle one: the same strength, a third of the range each, and another price. Of the three thirds deep noise is the dearest: it costs variety, the middle one costs none and obeys nearly as well. But the cost isn't in deep noise alone. Guide in the first two thirds, and a good part of it is back, though each of them alone was cheap: what strong guidance does in one stretch, it exaggerates again in the next. Only the middle third is as good as the best strength everywhere, and asks the network less often. (Little noise isn't useless either: accuracy rises there too.)

# %% [markdown]
# ## 7.11 · Explore: class, strength, noise
#
# A question that no single picture answers: from *one* noise, does a stronger wish change **what** the image shows, or only **how clearly**? Choose a class and hold the noise, then raise $w$; then hold $w$ and change the class. Does the noise keep anything of its own (a tilt, a size, a darkness) through all classes?

# %%
noises, offered = lab.pick(smoke=9, cpu=16, gpu=16), [0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0]
labels = torch.arange(num_classes, device=lab.device).repeat_interleave(noises)
same_noise = torch.randn(noises, *train.shape, generator=lab.generator(11), device=lab.device)
album = {}
for w in offered:
    denoise = clipped(cfg(network, w, any_class))
    images = last(
        dpm_solver(denoise, schedule, same_noise.repeat(num_classes, 1, 1, 1), strides, labels)
    ).clamp(-1, 1)
    found = evaluator(images).argmax(1)
    album[w] = (
        images.view(num_classes, noises, *train.shape).cpu(),
        (found == labels).view(num_classes, noises).cpu(),
    )


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
# ## 7.12 · One wish, please
#
# All of it together: name a class, and watch it come out of the noise. Change the name and run the two cells again.

# %%
wish = names[min(8, num_classes - 1)]
y = torch.full((8,), names.index(wish), device=lab.device)
noise = torch.randn(8, *train.shape, generator=lab.generator(12), device=lab.device)
denoise, small_steps = clipped(cfg(network, 2.0, any_class)), lab.pick(smoke=8, cpu=40, gpu=60)
way = list(ddim(denoise, schedule, noise, small_steps, y))
plots.animation(
    [step.x.cpu().clamp(-1, 1) for step in way], title=f"{wish}, please (w = 2)", seconds=4
)

# %% [markdown]
# On paper, the same trajectory at a few of its timesteps, and the guess $\hat x_0$ at each of them:

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
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {train.title}\n")
for way_in, m in results.items():
    trained_how = f"class {way_in}, {steps_made(training[way_in])}" if way_in != "course" else "the course's model"
    say(f"7.3  {trained_how}", m)
print(f"7.4  both sides of (7.5) on three blobs: {toy_gap:.0e} apart")
print(
    f"7.5  at t = 300 the clean classifier is right about {clean_at_300:.0%}, "
    f"the noisy one about {right['trained on noisy images'][levels.index(300)]:.0%}"
)
for name in ("s = 1", "s = 20", "clean classifier, s = 5"):
    say(f"7.6  {name}", by_scale[name])
print(f"7.7  guided samples miss p(x) p(y|x)³ by {away:.0f} standard errors")
print(
    f"7.8  guided in the noise or in the guess: {language_gaps['noise']:.0e} apart; "
    f"pixels out of range when clipped first: {clip_order['clipped first']['beyond']:.1%}"
)
for w in (1.0, nearest, 8.0) if nearest not in (1.0, 8.0) else (1.0, 8.0):
    say(f"7.9  w = {w:g}", sweep[w])
print(f"     coverage left at w = 8: {coverage_left:.0f} % of that at w = 1")
say(f"7.10 w = {strong:g}, {best_interval}", in_interval[best_interval])

# %% [markdown]
# **What to take along.** A wish is one more term in a score, by Bayes' rule. A classifier can supply it, if it knows noise; a network with a null label supplies it by itself, as the difference of its two answers. The strength of the wish is a knob that trades variety for certainty, so report both. Count $w$ from where you say you count it, clip last, and test the samples that nobody looks at.
#
# Notebook 08 leaves noise aside and lets two networks play against each other.
#
# ## Go further *(ungraded)*
# 1. **No training at all.** A clean classifier is good at clean images, and $\hat x_0$ nearly is one. Guide by the gradient of $\ln p(y\mid\hat x_0(x_t))$ with respect to $x_t$, through the denoiser (Bansal et al. 2023). What does a step cost now?
# 2. **Two wishes.** Add two differences, $\hat x_{\text{any}}+w(\hat x_{y_1}-\hat x_{\text{any}})+w(\hat x_{y_2}-\hat x_{\text{any}})$ (Liu et al. 2022). What is half a sneaker and half a bag? And what does a *negative* $w$ draw?
# 3. **A bad version of yourself.** Karras et al. (2024) use a *worse-trained* model in the place of $\hat x_{\text{any}}$, conditional as well. You have one: `two_ways["added"]`. Measure accuracy and coverage.
# 4. **Another share.** Train with 2 %, 10 % and 50 % of the labels dropped, for equal steps. Which of $w=0$, 1, 3 suffers from which?
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
