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
# # 01 · The autoencoder: squeeze an image, get it back
#
# A picture of a boot is 784 numbers. Describe it to a friend and you will need far fewer: a boot, ankle-high, dark, with a heel.
# An autoencoder is a machine that invents such descriptions by itself. One network squeezes an image into a handful of numbers, a second one rebuilds the image from them,
# and all that anybody ever tells them is how far the result is from the original.
#
# It sounds like compression. But whoever can rebuild images from a few numbers might also *invent* images, by inventing the numbers.
# You will build this machine, find out why that hope fails as it stands, and then find another road: at the end a network that you wrote draws garments out of noise.
#
# **What you will be able to do**
# * find the best *linear* autoencoder without any training, and say what "best" means;
# * write a training loop, and notice when one goes wrong although its loss falls;
# * build an encoder and a decoder from convolutions, and know the size of every array on the way, square or not;
# * read a latent space, measure its holes, and say why an autoencoder cannot simply be sampled from;
# * turn denoising into drawing: write a small U-Net, tell it the noise level, and walk from noise to images.
#
# **Before you start:** Python, PyTorch tensors, and what gradient descent does. From linear algebra: a basis, a projection, the singular value decomposition. Nothing about generative models.
#
# {{budget}}
#
# The text describes what you see at effort `cpu` or above, on Fashion-MNIST. At `smoke` the networks are hardly trained: everything runs, but sentences about pictures don't hold. On another data set, read "garment" as "thing".

# %% tags=["setup"]
import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import plots, setup
from course_utils.arrays import to_unit
from course_utils.data import load
from course_utils.device import seeded
from course_utils.explore import explore, slider
from course_utils.pitfalls import autoencoder as pitfalls
from course_utils.models.autoencoder import in_batches
from classroom import ask, check, predict, reveal
from course_utils.training import until_stopped

lab = setup("01")

# %%
train_set = load(lab.data, "train", device=lab.device, fallback="digits")
test = load(lab.data, "test", device=lab.device, fallback="digits")
test = test.first(lab.pick(smoke=200, cpu=2000, gpu=10_000))
x_train, x_test, shape = train_set.x, test.x, train_set.shape
pixels, size = math.prod(shape), min(128, len(x_train))  # numbers in an image; images in a batch
shown = test.examples(10)  # one test image of each class
print(f"{train_set.title}: {len(x_train):,} images to train on, {len(test):,} to measure on")
print(f"one image is (c, h, w) = {shape}: {pixels} numbers in [-1, 1], -1 is black and 1 is white")

# %% [markdown]
# ## 1.1 · What does "nearly the same image" mean?
#
# Not every list of 784 numbers is a picture: draw them blindly, and you wait for ever for a shoe. Real images are rare, and regular: neighbouring pixels agree, edges run straight, left resembles right.
# Regularity means that less would do. An **autoencoder** tries to find out how much less:
#
# $$x \;\xrightarrow{\;\text{encoder } E\;}\; z \in \mathbb R^d \;\xrightarrow{\;\text{decoder } D\;}\; \hat x, \qquad d \ll 784 .$$
#
# The few numbers $z$ are the **code** of the image, their space is the **latent space**, and the narrow place in the middle is the **bottleneck**. Without it, copying would be a perfect answer.
#
# To train it we need a number that says how far $\hat x$ is from $x$. The simplest is the mean squared error per pixel:
#
# $$\mathrm{MSE}(x,\hat x) = \frac1P\sum_{i=1}^{P}(x_i-\hat x_i)^2, \qquad P = c\cdot h\cdot w. \tag{1.1}$$
#
# One number for each image, in squared pixel units: 0 is perfect, and 4 is black where white should be, everywhere.
#
# **Predict, then run.** We answer each test image in three ways: with itself, moved by two pixels; with the mean of all images, a grey fog; and with another sharp image of the same class. Which answer has the smallest error? Decide before you run the cell.

# %%
def reconstruction_error(x, x_hat):
    """Mean squared error of each image over channels and pixels, equation (1.1).  Two (b, c, h, w) -> (b,)."""
    return (x - x_hat).square().flatten(1).mean(dim=1)


def another_of_its_class(i):
    """The next test image of the same class, in a circle."""
    same = (test.labels == test.labels[i]).nonzero().flatten().tolist()
    return same[(same.index(i) + 1) % len(same)]


mean_image = x_test.mean(dim=0)
guesses = {
    "moved by two pixels": F.pad(x_test, (2, 0, 0, 0), value=-1)[..., :-2],
    "the mean image": mean_image.expand_as(x_test),
    "another of its class": x_test[[another_of_its_class(i) for i in range(len(x_test))]],
}
for name, guess in guesses.items():
    print(f"{name:20s} MSE {reconstruction_error(x_test, guess).mean():.3f} per pixel")
rows = {"the image": x_test[shown]} | {name: guess[shown] for name, guess in guesses.items()}
plots.image_rows(rows, title="Three answers to the top row")

# %% [markdown]
# Your eye calls the second row the same images; the squared error charges dearly for two pixels. And it prefers a fog to another sharp boot.
# Remember it whenever such a model gives you fog: it does what it was asked to do.
#
# ### An image as a row of coins *(extra)*
# A second way to keep score comes from probability; notebook 02 stands on it. Let the decoder say, for every pixel, *how likely it is to be white*: a number $p_i\in[0,1]$, a biased coin.
# With $t_i=(x_i+1)/2$, black is 0 and white is 1. The probability of the whole image is the product of $p_i$ over the white pixels and of $1-p_i$ over the black ones. Its negative logarithm is a sum,
#
# $$-\ln p(x) = -\sum_{i=1}^{P}\big[\,t_i\ln p_i + (1-t_i)\ln(1-p_i)\,\big], \qquad p_i=\sigma(l_i), \tag{1.2}$$
#
# in **nats per image**, also known as binary cross-entropy. A network can say any number, so it says the *logit* $l_i$, and the sigmoid $\sigma(l)=1/(1+e^{-l})$ makes a probability of it.
#
# #### {{heading autoencoder/bernoulli-nll}}
# Write equation (1.2), so that it survives a decoder that is quite sure of itself: a logit of 1,000 must not give `inf` or `nan`.

# %% tags=["quiz"]
def bernoulli_nll(logits, x):
    """−ln p(x) of each image in nats, every pixel a coin, equation (1.2).

    logits: (b, c, h, w), any numbers, the l of (1.2);  x: (b, c, h, w) in [-1, 1].  Returns (b,).
    """
    ### BEGIN SOLUTION
    target = (x + 1) / 2
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(dim=1)
    ### END SOLUTION

# %% tags=["check"]
bernoulli_nll = check("autoencoder/bernoulli-nll", bernoulli_nll)

# %% [markdown]
# #### {{heading autoencoder/grey-floor}}
# {{question autoencoder/grey-floor}}

# %% tags=["quiz"]
### BEGIN SOLUTION
grey_floor = "b"
### END SOLUTION
### BEGIN HANDED OUT
# grey_floor = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("autoencoder/grey-floor", grey_floor)

# %%
said = torch.linspace(0.002, 0.998, 400)
costs = {t: bernoulli_nll(torch.logit(said)[:, None], torch.full((400, 1), 2 * t - 1)) for t in (0.0, 0.2, 0.5, 1.0)}
exactly = torch.logit(to_unit(x_test), eps=1e-6)  # the logits that say these very images
print(f"a decoder that says p = t exactly pays {bernoulli_nll(exactly, x_test).mean():.0f} nats per image")
plots.curves(
    {f"t = {t:g}": (said, cost) for t, cost in costs.items()},
    title="Lowest at p = t; for grey even the lowest cost is not 0",
    x_label="p, what the decoder says", y_label="cost of one pixel (nats)",
)

# %% [markdown]
# ## 1.2 · The best that straight lines can do
#
# Before we train a network, let's see how far we get with linear algebra alone. A *linear* autoencoder takes the mean image $m$ away, and encodes by $d$ inner products:
#
# $$z = W\,(x-m), \qquad \hat x = W^{\!\top} z + m, \qquad W\in\mathbb R^{d\times P}\ \text{with orthonormal rows.} \tag{1.3}$$
#
# The rows of $W$ are images themselves, directions in pixel space. $z$ says how far to go along each, and $\hat x$ is the closest you can get to $x$ on that flat sheet through $m$.
# Which directions are best? Put the centred images into a matrix $X$, one image in each row, and take its singular value decomposition $X=U\,\mathrm{diag}(s_1\ge s_2\ge\dots)\,V^{\!\top}$.
#
# **Eckart and Young (1936):** among all matrices of rank $d$, the one closest to $X$ in summed squared error keeps the $d$ largest singular values and drops the rest. What it misses is $s_{d+1}^2+s_{d+2}^2+\cdots$.
#
# A linear autoencoder's reconstructions form a matrix of rank $d$ at most (a free offset in place of $m$ would not help, since the rows of $X$ sum to zero). So *no* linear autoencoder beats this choice of $W$, however it is trained. It is called **principal component analysis**, PCA.
#
# ### {{heading autoencoder/fit-pca}}
# Find $m$, the directions, and how much the images spread along each of them. Which of the three matrices holds the directions, and how does a singular value become a variance?

# %% tags=["quiz"]
def fit_pca(x, latent):
    """The best linear autoencoder of images x (n, c, h, w).

    Returns (mean, directions, variances): the mean image (c, h, w), the `latent` best directions (latent, c·h·w) with
    orthonormal rows, best first, and the variance (mean square, over the n images) along *every* direction, largest first.
    """
    ### BEGIN SOLUTION
    mean = x.mean(dim=0)
    centred = (x - mean).flatten(1)
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    return mean, directions[:latent], singular**2 / len(x)
    ### END SOLUTION

# %% tags=["check"]
fit_pca = check("autoencoder/fit-pca", fit_pca)

# %%
latents = (2, 8, 32, 128)
x_pca = x_train[: lab.pick(smoke=1500, cpu=10_000, gpu=60_000)]
mean, directions, variances = fit_pca(x_pca, max(latents))
scaled = directions[:9] / directions[:9].abs().amax(dim=1, keepdim=True)  # for the eye: within [-1, 1]
plots.image_grid(
    torch.cat([mean[None], scaled.view(-1, *shape)]), columns=10,
    labels=["mean", *(f"{share:.0%}" for share in variances[:9] / variances.sum())],
    title=f"{train_set.title}: mean, nine directions, their shares of the variance",
)

# %% [markdown]
# ### {{heading autoencoder/pca}}
# Now use it: encode a batch of images, and rebuild them from their codes.

# %% tags=["quiz"]
def project_and_rebuild(x, mean, directions):
    """Code and reconstruction of each image by PCA, equation (1.3).

    x: (b, c, h, w);  mean: (c, h, w);  directions: (k, c·h·w), orthonormal rows.
    Returns (z, x_hat): codes (b, k) and images (b, c, h, w).
    """
    ### BEGIN SOLUTION
    z = (x - mean).flatten(1) @ directions.T
    x_hat = (z @ directions).view_as(x) + mean
    return z, x_hat
    ### END SOLUTION

# %% tags=["check"]
project_and_rebuild = check("autoencoder/pca", project_and_rebuild)

# %%
pca_images = {d: project_and_rebuild(x_test, mean, directions[:d])[1] for d in latents}
pca_error = {d: reconstruction_error(x_test, pca_images[d]).mean().item() for d in latents}
plots.image_rows(
    {"original": x_test[shown]} | {f"PCA, {d} numbers": pca_images[d][shown] for d in latents},
    title="Test images rebuilt by PCA, without any training",
)

# %% [markdown]
# ### How many directions does it take? *(extra)*
# **Predict, then run.** There are 784 directions in all. How many of them does it take to keep 90 % of the variance?

# %% tags=["predict"]
predict("autoencoder/directions", "How many of the 784 directions keep 90 % of the variance?", 1, 784)

# %%
kept = variances.cumsum(0) / variances.sum()
needed = int((kept < 0.9).sum()) + 1
reveal("autoencoder/directions", needed)
plots.curves(
    {"variance kept": (torch.arange(1, len(kept) + 1), kept)}, log_x=True,
    mark={f"{needed} directions keep 90 %": (needed, kept[needed - 1])},
    title=f"{train_set.title}: most of what happens, happens in few directions",
    x_label="directions kept", y_label="share of the variance",
)

# %% [markdown]
# ## 1.3 · A training loop of your own
#
# PCA was solved. Networks have to be *trained*, and in this notebook nobody does it for you: you write the loop, in three stages, and from then on **every model here is trained by what you wrote**.
# Skip a stage, and ours takes its place.
#
# ### {{heading autoencoder/batches}}
# A gradient from all 60,000 images would be exact and slow. One from 128 of them, chosen at random, is noisy, but right on average and hundreds of times cheaper. So the loop wants batches: go through all images in a random order, then again in another one, for ever.

# %% tags=["quiz"]
def batches(images, size, generator):
    """Yield batches (size, c, h, w) of `images` without end.

    Every epoch, one pass over the images, has a fresh random order, drawn with `generator` (a CPU one); in it no image
    comes twice. Images at the end of an epoch that don't fill a batch are left out.
    """
    ### BEGIN SOLUTION
    while True:
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(images) - size + 1, size):
            yield images[order[start : start + size]]
    ### END SOLUTION

# %% tags=["check"]
batches = check("autoencoder/batches", batches)

# %% [markdown]
# ### {{heading autoencoder/step}}
# One step: how bad is the model on this batch, in which direction would it get better, and a small move there. The optimizer knows the weights, and each weight keeps its gradient in `.grad`.

# %% tags=["quiz"]
def train_step(model, loss, x, optimizer):
    """Change the model's weights by one step of the optimizer, and return the loss, a float.

    loss: `loss(model, x)` is a scalar tensor, for the weights before the step.
    """
    ### BEGIN SOLUTION
    value = loss(model, x)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.item()
    ### END SOLUTION

# %% tags=["check"]
train_step = check("autoencoder/step", train_step)

# %% [markdown]
# ### {{heading autoencoder/train}}
# And the whole. A rate that is good in the beginning is too large at the end, when the weights should come to rest: let it fall.
# Write your loop over `until_stopped(range(steps))`, a `range` that a press of the stop button ends after the current step.

# %% tags=["quiz"]
def train(model, loss, batches, steps, lr):
    """Train the model for `steps` steps, each on `next(batches)`, and return the losses, a list of floats.

    Uses torch.optim.Adam. Its rate is lr in the first half of the steps and then falls in a straight line, so that it
    would be 0 at step `steps`, counted from 0. (With 8 steps: lr at steps 0 to 4, then ¾, ½ and ¼ of it.)
    The model is in training mode meanwhile, and in eval mode afterwards.
    """
    ### BEGIN SOLUTION
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    model.train()
    for step in until_stopped(range(steps)):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, 2 * (1 - step / steps))
        losses.append(train_step(model, loss, next(batches), optimizer))
    model.eval()
    return losses
    ### END SOLUTION

# %% tags=["check"]
train = check("autoencoder/train", train)

# %% [markdown]
# ### Does it hold? *(extra)*
# Here is a claim that we can try to break. Take a linear autoencoder whose two matrices are *free*, start it at random, and let your loop train it on (1.1).
# Its error on the images that PCA was fitted to may come down to PCA's and **must never go below it**. If the solid line crossed the dashed one, the theorem, or our reading of it, would be wrong.

# %%
k = 8
centred = x_pca - mean
with seeded(0):
    linear = nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, k, bias=False),
        nn.Linear(k, pixels, bias=False), nn.Unflatten(1, shape),
    ).to(lab.device)


def squared_error(model, x):
    return reconstruction_error(x, model(x)).mean()


def error_on_all():
    return reconstruction_error(centred, in_batches(linear, centred)).mean().item()


def watching(drawn, every):
    """The same batches; every so many of them the error on all images is noted."""
    for step, x in enumerate(drawn):
        if step % every == 0:
            on_all[step] = error_on_all()
        yield x


on_all, linear_steps = {}, lab.pick(smoke=60, cpu=1500, gpu=6000)
drawn = watching(batches(centred, size, lab.generator(0, "cpu")), max(1, linear_steps // 50))
linear_losses = train(linear, squared_error, drawn, linear_steps, lr=5e-3)
reached = on_all[len(linear_losses)] = error_on_all()
at_pca = max(variances[k:].sum().item() / pixels, 1e-12)  # what PCA leaves out: the variance along what it drops
basis = torch.linalg.qr(linear[2].weight.detach()).Q  # an orthonormal basis of what its decoder can draw
overlap = (directions[:k] @ basis).square().sum().item() / k
print(f"on the images fitted to: PCA {at_pca:.5f}, linear autoencoder {reached:.5f} ({reached / at_pca - 1:+.2%})")
print(f"overlap of the two subspaces: {overlap:.1%} (two random ones: {k / pixels:.1%})")
arrived = "comes down to" if reached < 1.1 * at_pca else "is still on its way to"
plots.curves(
    {"linear autoencoder, all images": (list(on_all), list(on_all.values()))},
    mark={f"PCA, {k} directions": (None, at_pca)},
    title=f"Your loop {arrived} PCA: {reached / at_pca - 1:+.2%} at the end", x_label="step", y_label="MSE per pixel",
)

# %% [markdown]
# The trained one can only approach from above. (The curve is that of all images that PCA was fitted to, as in the theorem; a single batch may lie below.)
#
# #### {{heading autoencoder/linear}}
# {{question autoencoder/linear}}

# %% tags=["quiz"]
### BEGIN SOLUTION
linear_found = "d"
### END SOLUTION
### BEGIN HANDED OUT
# linear_found = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("autoencoder/linear", linear_found)

# %% [markdown]
# ## 1.4 · Down by convolutions, and up again
#
# To beat straight lines we need curves, so now the networks. The encoder shrinks the image with **strided convolutions**: a kernel slides over it in strides of 2, and at each stop looks at a few pixels.
# A **transposed convolution** is the same wiring walked in the other direction: every input pixel *stamps* the kernel onto the output, one stride further than the last, and where stamps overlap they are added.

# %%
plots.wiring(4, kernel=4, stride=2, padding=1, title="Kernel 4, stride 2, padding 1 (the pale dots)")

# %% [markdown]
# ### How large is what comes out? *(extra)*
# With kernel 4, stride 2 and padding 1 every even size is halved on the way down, and doubled on the way up. The general rule is worth deriving once.
#
# #### {{heading autoencoder/conv-size}}
# Derive the rule yourself; the picture is one case to try it on. Two things that it doesn't show: the last stride may not fit and isn't made, and with *dilation* $\delta$ neighbouring pixels of the kernel stand $\delta$ apart.

# %% tags=["quiz"]
def conv_size(size, kernel, stride, padding, dilation):
    """(height, width) after a convolution.

    size: (height, width) before;  kernel, stride, padding, dilation: whole numbers, the same for both axes.
    Returns a tuple of two whole numbers.
    """
    ### BEGIN SOLUTION
    return tuple((n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for n in size)
    ### END SOLUTION

# %% tags=["check"]
conv_size = check("autoencoder/conv-size", conv_size)

# %% [markdown]
# #### {{heading autoencoder/conv-transpose-size}}
# And on the right: how far do $n$ stamps reach? Padding now *cuts off* at both edges. `output_padding` adds a few pixels at one edge, for several sizes may have shrunk to the same one, and somebody must say to which of them we return.

# %% tags=["quiz"]
def conv_transpose_size(size, kernel, stride, padding, output_padding, dilation):
    """(height, width) after a transposed convolution.

    size: (height, width) before;  the others: whole numbers, the same for both axes.  Returns a tuple of two.
    """
    ### BEGIN SOLUTION
    return tuple((n - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + output_padding for n in size)
    ### END SOLUTION

# %% tags=["check"]
conv_transpose_size = check("autoencoder/conv-transpose-size", conv_transpose_size)

# %% [markdown]
# Compare with yours. Along one axis of $n$ pixels, with kernel $k$, stride $s$, padding $p$, dilation $\delta$ and output padding $o$,
#
# $$n_\text{out} = \left\lfloor\frac{n + 2p - \delta(k-1) - 1}{s}\right\rfloor + 1 \tag{1.4}$$
#
# for the convolution, and for the transposed one
#
# $$n_\text{out} = (n-1)\,s - 2p + \delta(k-1) + 1 + o . \tag{1.5}$$
#
# The same wires, but *not* the inverse: as matrices, $C$ and $C^{\!\top}$. Going down and up with the same weights does not bring the image back; the decoder must learn weights of its own.
#
# ### {{heading autoencoder/encoder}}
# Two strided convolutions with `width` channels, kernel 4, stride 2, padding 1, then one linear layer to the code. A ReLU after each convolution. (To PyTorch, a network is a class with its layers in `__init__` and what they do in `forward`.)

# %% tags=["quiz"]
class Encoder(nn.Module):
    """Images (b, c, h, w) to codes (b, latent), any real numbers. h and w are multiples of 4, not always equal."""

    def __init__(self, shape, latent, width):
        """shape: (c, h, w) of the images."""
        super().__init__()
        ### BEGIN SOLUTION
        c, h, w = shape
        self.layers = nn.Sequential(
            nn.Conv2d(c, width, kernel_size=4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, kernel_size=4, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * (h // 4) * (w // 4), latent),
        )

    def forward(self, x):
        return self.layers(x)
        ### END SOLUTION

# %% tags=["check"]
Encoder = check("autoencoder/encoder", Encoder)

# %% [markdown]
# ### {{heading autoencoder/decoder}}
# The encoder read backwards, with weights of its own: one linear layer, then two transposed convolutions of the same kernel, stride and padding. A ReLU after each layer but the last; after the last a tanh, which moves any number into $(-1, 1)$.

# %% tags=["quiz"]
class Decoder(nn.Module):
    """Codes (b, latent) to images (b, c, h, w) in [-1, 1]. h and w are multiples of 4, not always equal."""

    def __init__(self, shape, latent, width):
        """shape: (c, h, w) of the images."""
        super().__init__()
        ### BEGIN SOLUTION
        c, h, w = shape
        self.layers = nn.Sequential(
            nn.Linear(latent, width * (h // 4) * (w // 4)), nn.ReLU(),
            nn.Unflatten(1, (width, h // 4, w // 4)),
            nn.ConvTranspose2d(width, width, kernel_size=4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(width, c, kernel_size=4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.layers(z)
        ### END SOLUTION

# %% tags=["check"]
Decoder = check("autoencoder/decoder", Decoder)

# %% [markdown]
# Together they are the autoencoder. We run it on an image that is *not* square and compare the sizes on the way with your formulas.

# %%
class Autoencoder(nn.Module):
    def __init__(self, shape, latent, width=64):
        super().__init__()
        self.encode, self.decode = Encoder(shape, latent, width), Decoder(shape, latent, width)

    def forward(self, x):
        return self.decode(self.encode(x))


oblong = torch.zeros(5, 1, 28, 20)
print("by your (1.4):", first := conv_size((28, 20), 4, 2, 1, 1), last := conv_size(first, 4, 2, 1, 1))
print("and back again:", first := conv_transpose_size(last, 4, 2, 1, 0, 1), conv_transpose_size(first, 4, 2, 1, 0, 1))
with torch.no_grad():
    print(f"{tuple(oblong.shape)} -> {tuple(Encoder((1, 28, 20), 8, 64)(oblong).shape)} -> {tuple(Autoencoder((1, 28, 20), 8)(oblong).shape)}")
print(f"{sum(weight.numel() for weight in Autoencoder(shape, 8).parameters()):,} weights, with 8 latents, for images {shape}")

# %% [markdown]
# *A good place to pause: you have a loop and a network. From here on you use them.*
#
# ## 1.5 · Curves against straight lines
#
# Four of your autoencoders, with 2, 8, 32 and 128 numbers in the bottleneck, each trained by your loop for the same number of steps and from the same seed, against PCA with the same bottleneck.
# The ruler is (1.1) on test images that neither has seen.
#
# **Predict, then run.** With 2 numbers, and with 128: who is ahead, PCA or the network?

# %%
steps = lab.pick(smoke=12, cpu=400, gpu=6000)


def train_autoencoder(latent, loss=squared_error):
    """A fresh autoencoder and its losses. Channels last in memory: the same numbers, faster convolutions."""
    with seeded(0):
        model = Autoencoder(shape, latent).to(lab.device, memory_format=torch.channels_last)
    return model, train(model, loss, batches(x_train, size, lab.generator(0, "cpu")), steps, lr=2e-3)


models, losses = {}, {}
for d in latents:
    models[d], losses[d] = train_autoencoder(d)
    print(f"{d:3d} latents: {len(losses[d]):,} steps, the last loss {losses[d][-1]:.3f}")

# %%
ae_images = {d: in_batches(models[d], x_test) for d in latents}
ae_error = {d: reconstruction_error(x_test, ae_images[d]).mean().item() for d in latents}
made = min(map(len, losses.values()))
print(f"MSE per pixel on {len(test):,} test images of {test.title}, after {made:,} steps; one seed\n")
print(f"{'latents':>7s}{'PCA':>10s}{'autoencoder':>14s}{'(its last batches)':>21s}")
for d in latents:
    last = sum(losses[d][-20:]) / len(losses[d][-20:])
    print(f"{d:7d}{pca_error[d]:10.4f}{ae_error[d]:14.4f}{last:21.4f}")
rows = {"original": x_test[shown]}
for d in latents:
    rows |= {f"PCA, {d}": pca_images[d][shown], f"autoencoder, {d}": ae_images[d][shown]}
plots.image_rows(rows, title=f"The same bottleneck, straight and curved, after {made:,} steps")

# %% [markdown]
# ### {{heading autoencoder/linear-wins}}
# {{question autoencoder/linear-wins}}

# %% tags=["quiz"]
### BEGIN SOLUTION
linear_wins = "c"
### END SOLUTION
### BEGIN HANDED OUT
# linear_wins = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("autoencoder/linear-wins", linear_wins)

# %% [markdown]
# With very few numbers a curved sheet can pass close to many more images than a flat one, and there a network has most to gain: in the rows with 2 and 8, PCA's fog becomes garments.
# Further down PCA catches up. It has a place for every direction of any importance, and its answer is *exact*, while the network has only what its steps have bought so far.
#
# ### The grain *(extra)*
# Look closely at the network's rows: a fine speckle that no garment has. A suspicion: in a transposed convolution with stride 2, pixels in even and in odd columns are made by *different* weights of the kernel (follow the wires in 1.4), and after so few steps these don't agree yet.
# If so, part of the error must be the same chequer in all images. So average the error over the test images, and ask how much of what is left alternates from pixel to pixel. White noise would have the share below, PCA knows no stride; a network whose share stands well above both has the chequer.

# %%
def alternating(error):
    """Share of the mean error's power that changes sign from each pixel to the next, along rows, columns, or both."""
    power = torch.fft.fft2(error.mean(0)).abs().square().sum(0)
    h, w = (n // 2 for n in power.shape)
    return ((power[h, 0] + power[0, w] + power[h, w]) / power.sum()).item()


for d in latents:
    print(f"{d:3d} numbers: PCA {alternating(pca_images[d] - x_test):.2%}, network {alternating(ae_images[d] - x_test):.2%}; white noise {3 / pixels:.2%}")

# %% [markdown]
# In one run (ours) it does with 32 and 128 numbers; with 2 and 8 other errors drown it.
#
# ### {{heading autoencoder/other-loop}}
# A colleague has a loop of his own, and sends two curves. His loss on batches falls and falls. His loss on test images, measured at every step, stopped falling long ago, far above it. (Yours end close together: the table in 1.5. At `smoke`, 20 steps are too few to show it.)

# %%
def watched(loop, seed=0):
    """An autoencoder with 32 latents trained by a loop, its losses, and its error on test images on the way."""
    with seeded(0):
        model = Autoencoder(shape, 32, width=16).to(lab.device)
    on_test = []

    def loss(model, x):
        on_test.append(squared_error(model, x_test[:200]).item())
        return squared_error(model, x)

    return model, loop(model, loss, x_train, lab.pick(smoke=20, cpu=200, gpu=400), 3e-3, seed), on_test


his_model, his_losses, his_test = watched(pitfalls.training_loop)
plots.curves(
    {"on his batches": (range(len(his_losses)), his_losses), "on test images": (range(len(his_test)), his_test)},
    title="Somebody else's loop: which curve would you show?", x_label="step", y_label="MSE per pixel", log_y=True,
)

# %% [markdown]
# Here is the loop. Find the line, repair it, and let the check watch what your version does. (The same seed should still give the same run.)

# %% tags=["quiz"]
def train_another(model, loss, images, steps, lr, seed):
    """Train the model for `steps` steps, each on 64 of the images, and return the losses, a list of floats.

    The same seed gives the same run, another seed another one.
    """
    ### BEGIN SOLUTION
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    model.train()
    for step in until_stopped(range(steps)):
        order = torch.randperm(len(images), generator=generator)
        x = images[order[:64]]
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        value = loss(model, x)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    model.eval()
    return losses
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    # losses = []
    # model.train()
    # for step in until_stopped(range(steps)):
    #     generator = torch.Generator().manual_seed(seed)
    #     order = torch.randperm(len(images), generator=generator)
    #     x = images[order[:64]]
    #     for group in optimizer.param_groups:
    #         group["lr"] = lr * (1 - step / steps)
    #     value = loss(model, x)
    #     optimizer.zero_grad()
    #     value.backward()
    #     optimizer.step()
    #     losses.append(value.item())
    # model.eval()
    # return losses
    ### END HANDED OUT

# %% tags=["check"]
train_another = check("autoencoder/other-loop", train_another)

# %% [markdown]
# ### {{heading autoencoder/other-loop-images}}
# {{question autoencoder/other-loop-images}}

# %% tags=["quiz"]
### BEGIN SOLUTION
other_images = "b"
### END SOLUTION
### BEGIN HANDED OUT
# other_images = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("autoencoder/other-loop-images", other_images)

# %%
repaired, repaired_losses, repaired_test = watched(train_another)
print(f"MSE on test images at the end: his loop {his_test[-1]:.3f}, repaired {repaired_test[-1]:.3f}")
plots.image_rows(
    {
        "test image": x_test[shown],
        "his loop": in_batches(his_model, x_test[shown]),
        "repaired": in_batches(repaired, x_test[shown]),
    },
    title="What each of them makes of images that it never saw",
)

# %%
plots.curves(
    {
        "his batches": (range(len(his_losses)), his_losses), "his loop, test images": (range(len(his_test)), his_test),
        "repaired, batches": (range(len(repaired_losses)), repaired_losses),
        "repaired, test images": (range(len(repaired_test)), repaired_test),
    },
    title="The two loops: batches, and images never seen", x_label="step", y_label="MSE per pixel", log_y=True,
)

# %% [markdown]
# The repaired loop's loss looks worse, and can be believed: its batches are nearly as new to it as the test images are.

# %% [markdown]
# ## 1.6 · A map of the plane
#
# With two latents the whole latent space is a sheet of paper. Here is where the encoder puts the test images, one class at a time. It has never been told the classes: whatever order you see, it found because similar images are cheap to rebuild from similar codes.

# %%
plane = models[2]
z_plane = in_batches(plane.encode, x_test)
low, high = z_plane.quantile(0.01, dim=0), z_plane.quantile(0.99, dim=0)
high = torch.maximum(high, low + 1e-3)  # they meet where all images are the same
plots.class_maps(z_plane, test.labels, test.classes, title=f"Where the encoder puts {len(test):,} test images")

# %% [markdown]
# The axes have no meaning, and some regions are empty. What does the decoder draw in a place where no image ever landed? We need a ruler for images that nobody took.
#
# ### {{heading autoencoder/nearest}}
# How far is a drawn image from the most similar real one, by (1.1)? Mind the memory: 1,000 images and 5,000 make five million pairs.

# %% tags=["quiz"]
def nearest_error(images, among):
    """The error (1.1) between each image and the most similar one of a set.

    images: (n, c, h, w);  among: (m, c, h, w), the set.  Returns (n,).
    """
    ### BEGIN SOLUTION
    squared = torch.cdist(images.flatten(1), among.flatten(1)).square()
    return squared.min(dim=1).values / images[0].numel()
    ### END SOLUTION

# %% tags=["check"]
nearest_error = check("autoencoder/nearest", nearest_error)

# %%
few = z_plane[:1000].cpu(), test.labels[:1000].cpu()
some_real = x_train[: lab.pick(smoke=500, cpu=5000, gpu=5000)]


def look_at(z1, z2):
    with torch.no_grad():
        drawn = plane.decode(torch.tensor([[z1, z2]], device=lab.device))
    figure, axes = plots.new_figure(8, 4.2, 1, 2, width_ratios=(2, 1))
    plots.draw_scatter(axes[0], *few, test.classes, mark=(z1, z2), title="the map", equal=False)
    plots.draw_images(axes[1], drawn, title="decoded")
    axes[1].set_xlabel(f"nearest real image:\nMSE {nearest_error(drawn, some_real).item():.3f}")
    return figure


margin = 0.3 * (high - low)
ends = [(round(a, 1), round(b, 1)) for a, b in zip((low - margin).tolist(), (high + margin).tolist())]
ends = [(a, b) if a < b else (a - 1, b + 1) for a, b in ends]
sliders = {
    name: slider(*end, value=round(sum(end) / 2, 1), step=(end[1] - end[0]) / 80, label=name)
    for name, end in zip(("z1", "z2"), ends)
}
explore(
    look_at, title="Two sliders move the cross: what is decoded there?", **sliders,
    alt="A latent map coloured by class with a movable cross, and the image decoded at the cross.",
)

# %% [markdown]
# Walk from one cluster into the next and watch *how* the garment changes; rest in a gap; go beyond the edge.
#
# ### The whole plane at once *(extra)*
# Let's decode a whole grid of points and lay the images out where their points lie.
#
# #### {{heading autoencoder/decode-grid}}
# Entry `[i, j]` of the result belongs to the `i`-th value of $z_2$ and the `j`-th value of $z_1$, both rising and evenly spaced, both ends included.

# %% tags=["quiz"]
def decode_grid(decode, low, high, rows, columns):
    """Images decoded on a regular grid of the latent plane.

    decode: maps codes (n, 2), each (z₁, z₂), to images (n, c, h, w);
    low, high: (z₁, z₂) of two opposite corners of the grid;  rows, columns: how many values of z₂, and of z₁.
    Returns (rows, columns, c, h, w): row i has the i-th value of z₂, column j the j-th value of z₁.
    """
    ### BEGIN SOLUTION
    z1, z2 = torch.linspace(low[0], high[0], columns), torch.linspace(low[1], high[1], rows)
    second, first = torch.meshgrid(z2, z1, indexing="ij")  # both (rows, columns)
    decoded = decode(torch.stack([first, second], dim=-1).view(-1, 2))
    return decoded.view(rows, columns, *decoded.shape[1:])
    ### END SOLUTION

# %% tags=["check"]
decode_grid = check("autoencoder/decode-grid", decode_grid)

# %%
corner, opposite = (tuple(v.tolist()) for v in (low, high))
with torch.no_grad():
    grid = decode_grid(lambda z: plane.decode(z.to(lab.device)), corner, opposite, 15, 15)
extent = (corner[0], opposite[0], corner[1], opposite[1])
plots.manifold(grid, extent, title=f"{train_set.title}: the plane as the decoder sees it")

# %% [markdown]
# Compare it with the maps, region by region. Where codes are dense, the decoder has practised; between clusters and at the edges it improvises. Do you find images that belong to no class?
#
# ### Two ways to walk from a shirt to a shoe *(extra)*
# A straight walk from $a$ to $b$ in equal strides is
#
# $$x(t) = (1-t)\,a + t\,b, \qquad t = 0,\ \tfrac1{n-1},\ \dots,\ 1. \tag{1.6}$$
#
# Between two *images* it is a cross-fade. Between two *codes*, decoded at each stride, it is a path along the sheet that the decoder has learned. Half-way, a cross-fade shows both garments at once, like a photograph taken twice. Does the decoded code do better?
#
# #### {{heading autoencoder/interpolate}}
# Write (1.6) so that it works for codes, images, and batches of either.

# %% tags=["quiz"]
def interpolate(a, b, steps):
    """A straight walk from a to b, both ends included, equation (1.6).

    a, b: tensors of one shape (any);  steps: how many points, at least 2.  Returns (steps, *shape).
    """
    ### BEGIN SOLUTION
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device).view(-1, *[1] * a.ndim)
    return (1 - t) * a + t * b
    ### END SOLUTION

# %% tags=["check"]
interpolate = check("autoencoder/interpolate", interpolate)

# %%
first, second = shown[0], shown[min(9, len(shown) - 1)]
z_test = {d: in_batches(models[d].encode, x_test) for d in latents}
with torch.no_grad():
    rows = {"pixels": interpolate(x_test[first], x_test[second], 9)} | {
        f"autoencoder, {d}": models[d].decode(interpolate(z_test[d][first], z_test[d][second], 9)) for d in (32, 2)
    }
names = " to ".join(str(test.classes[test.labels[i]]) for i in (first, second))
plots.image_rows(rows, title=f"From {names}, three ways", labels=[f"{t / 8:.2f}" for t in range(9)])

# %% [markdown]
# Measured over many pairs: how far is the half-way image from the nearest real one? For a fair comparison, the cross-fade is of the two *reconstructions*, so that both come from the same decoder. Each number with its standard error.

# %%
half = max(1, min(400, len(x_test) // 2))
order = torch.randperm(len(x_test), generator=lab.generator(5, "cpu")).to(lab.device)
left, right = order[:half], order[-half:]
ahead = {}
for d in latents:
    walked = in_batches(models[d].decode, (z_test[d][left] + z_test[d][right]) / 2)
    faded = (ae_images[d][left] + ae_images[d][right]) / 2
    gain = nearest_error(faded, some_real) - nearest_error(walked, some_real)
    ahead[f"{d} latents"] = (gain.mean().item(), gain.std().item() / math.sqrt(half))
    print(f"{d:3d} latents: cross-fade {nearest_error(faded, some_real).mean():.4f}, walk {nearest_error(walked, some_real).mean():.4f}; nearer by {ahead[f'{d} latents'][0]:+.4f} ± {ahead[f'{d} latents'][1]:.4f}")
plots.bars(
    {name: gain for name, (gain, _) in ahead.items()}, errors={name: error for name, (_, error) in ahead.items()},
    title=f"Half-way: how much nearer to a real image is the walk? ({half} pairs)", y_label="MSE per pixel", form="+.3f",
)

# %% [markdown]
# A bar that stands above zero by more than twice its error says: yes, the walk stays nearer to real images than the cross-fade does. Compare its height with the numbers printed above it: it is better, not good. Half-way there may be no garment at all.
#
# ## 1.7 · Why you cannot sample from it
#
# The decoder turns codes into images. So all we need is a new code. Where shall we take it from? The codes of the training images form a cloud. Fit the simplest distribution we have to that cloud, a Gaussian,
#
# $$\mu = \frac1n\sum_{i=1}^n z_i, \qquad \Sigma = \frac1n\sum_{i=1}^n (z_i-\mu)(z_i-\mu)^{\!\top}, \qquad z_\text{new}\sim\mathcal N(\mu,\Sigma), \tag{1.7}$$
#
# draw from it, and decode.
#
# ### {{heading autoencoder/fit-gaussian}}
# Write the first two parts of (1.7), without a loop over images.

# %% tags=["quiz"]
def fit_gaussian(z):
    """Mean and covariance of codes, equation (1.7).

    z: (n, d), one code in each row.  Returns (mean, cov), of shapes (d,) and (d, d).
    """
    ### BEGIN SOLUTION
    mean = z.mean(dim=0)
    centred = z - mean
    return mean, centred.T @ centred / len(z)
    ### END SOLUTION

# %% tags=["check"]
fit_gaussian = check("autoencoder/fit-gaussian", fit_gaussian)

# %% [markdown]
# ### {{heading autoencoder/why-not-sample}}
# Before you look at what it draws:
#
# {{question autoencoder/why-not-sample}}

# %% tags=["quiz"]
### BEGIN SOLUTION
why_not_sample = "a"
### END SOLUTION
### BEGIN HANDED OUT
# why_not_sample = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("autoencoder/why-not-sample", why_not_sample)

# %%
def draw_codes(z, n, generator):
    """n codes from the Gaussian fitted to z (n, d)."""
    mean, cov = fit_gaussian(z)
    values, vectors = torch.linalg.eigh(cov)  # Σ = V diag(λ) Vᵀ, so V diag(√λ) gives white noise its shape
    noise = torch.randn(n, z.shape[1], generator=generator, device=z.device)
    return mean + noise @ (vectors * values.clamp(min=0).sqrt()).T


def places(model, n):
    """Codes from three places of a model's latent space."""
    z_train, z = in_batches(model.encode, some_real), in_batches(model.encode, x_test[:n])
    return {
        "test images": z,
        "Gaussian draws": draw_codes(z_train, len(z), lab.generator(7)),
        "three times as far out": z_train.mean(0) + 3 * (z - z_train.mean(0)),
    }


n = lab.pick(smoke=100, cpu=1000, gpu=2000)
codes = {d: places(models[d], n) for d in (2, 32)}
decoded = {d: {name: in_batches(models[d].decode, z) for name, z in codes[d].items()} for d in codes}
rows = {f"{name}, {d}": images[:10] for d in codes for name, images in decoded[d].items()}
plots.image_rows(rows, title="Codes from three places, with 2 and with 32 latents")

# %% [markdown]
# Which rows could be in the data? Judge, then take a number: **does the encoder agree?** Encode what was decoded. For codes that the decoder knows, $E(D(z))$ should come back to $z$; we print by how much it misses, in units of the cloud's own radius, with the standard error over codes.
# (Beside it the distance to the nearest real image. Beware: squared error likes fog, so compare within one block only.)

# %%
agreement = {}
for d in codes:
    cloud = codes[d]["test images"]
    radius = (cloud - cloud.mean(0)).square().sum(1).mean().sqrt().clamp(min=1e-6)
    for name, images in decoded[d].items():
        miss = (in_batches(models[d].encode, images) - codes[d][name]).norm(dim=1) / radius
        agreement[d, name] = miss.mean().item()
        near, error = nearest_error(images, some_real).mean(), miss.std() / math.sqrt(len(miss))
        print(f"{d:3d} latents, {name:23s} misses z by {miss.mean():5.2f} ± {error:.2f} radii; nearest real image {near:.3f}")

# %% [markdown]
# Were the latent space fit for sampling, Gaussian draws would have the numbers of test images. With 2 latents they come near; with 32 they are far off, in both numbers. What stands in the way has three names:
#
# **Holes.** The cloud is no Gaussian. It has clusters, bays and empty streets, and a Gaussian pours its draws over all of them. In between, the decoder has never been corrected.
#
# **No edge.** Far from the cloud the decoder draws something all the same; it has no way of saying "I don't know".
#
# **No scale.** Multiply every code by 10 and let the decoder's first layer divide by 10: not one reconstruction changes, so the loss cannot prefer one cloud over another.
#
# To sample, somebody must decide where codes shall lie, and make the network pay for leaving that place. That is notebook 02. But there is a second road, and it begins here.

# %% [markdown]
# ## 1.8 · Rebuild what you were not shown
#
# There is another way to keep an autoencoder from just copying: spoil its input. Add Gaussian noise of standard deviation $\sigma$ to every pixel and ask for the *clean* image:
#
# $$\mathcal L(x) = \frac1P\,\big\lVert D(x+\sigma\varepsilon,\ \sigma) - x\big\rVert^2, \qquad \varepsilon\sim\mathcal N(0,I). \tag{1.8}$$
#
# Here $D$ stands for the whole network, image in, image out. With one fixed $\sigma$, which the network need not be told, this is the **denoising autoencoder** (Vincent et al. 2008).
#
# ### {{heading autoencoder/denoising}}
# We want the general case at once: every image of a batch has a noise level of its own, and the network is told which. `sigma` holds one number for each image, and that is where the trap lies.

# %% tags=["quiz"]
def denoising_error(model, x, noise, sigma):
    """Squared error of each clean image, rebuilt from a noisy one, mean over pixels, equation (1.8).

    model: `model(noisy, sigma)` gives images;  x: (b, c, h, w), clean;  noise: like x, standard normal;
    sigma: (b,), the strength of each image's noise.  Returns (b,).
    """
    ### BEGIN SOLUTION
    noisy = x + sigma.view(-1, 1, 1, 1) * noise
    return (model(noisy, sigma) - x).square().flatten(1).mean(dim=1)
    ### END SOLUTION

# %% tags=["check"]
denoising_error = check("autoencoder/denoising", denoising_error)

# %% [markdown]
# First one level only, $\sigma=0.5$, with your autoencoder of 1.4. It ignores what it is told.

# %%
noise_of_training = lab.generator(8)


def at_one_level(model, x):
    noise = torch.randn(x.shape, generator=noise_of_training, device=x.device)
    sigma = torch.full((len(x),), 0.5, device=x.device)
    return denoising_error(lambda noisy, sigma: model(noisy), x, noise, sigma).mean()


one_level, _ = train_autoencoder(128, at_one_level)

# %%
noise = torch.randn(x_test.shape, generator=lab.generator(9), device=lab.device)
sigmas = (0.0, 0.25, 0.5, 1.0)
answers = {"noisy image as it is": lambda x: x, "autoencoder, 128": models[128], "denoiser, 128": one_level}
print("MSE per pixel to the clean image, one seed\n" + " " * 22 + "".join(f"{f'σ = {s:g}':>10s}" for s in sigmas))
denoised = {}
for name, answer in answers.items():
    rebuilt = [in_batches(answer, x_test + s * noise) for s in sigmas]
    denoised[name] = [reconstruction_error(x_test, images).mean().item() for images in rebuilt]
    print(f"{name:22s}" + "".join(f"{e:10.4f}" for e in denoised[name]))

rows = {"clean": x_test[shown]}
for s in sigmas[2:]:
    noisy = x_test[shown] + s * noise[shown]
    rows |= {f"noisy, σ = {s:g}": noisy, f"denoised, σ = {s:g}": in_batches(one_level, noisy)}
plots.image_rows(rows, title="One network, trained at σ = 0.5, at two strengths of noise")

# %% [markdown]
# Look down the columns. A narrow bottleneck alone takes most of the noise away: it has no room for it. Training on noise pays at $\sigma=0.5$, its own level, and costs at 0: given a clean image, the denoiser smooths details away. At $\sigma=1$ it smudges small things, such as shoes. The right amount of distrust depends on $\sigma$.
#
# A bold question: if each pass through a denoiser makes an image more likely, could we *start from noise* and walk? We try eight passes, and beside them a start that the network knows: garments with noise of 0.5.

# %%
def passes(x, n=8):
    walk = [x]
    for _ in range(n):
        walk.append(in_batches(one_level, walk[-1]))
    return walk


from_noise = passes(torch.randn(10, *shape, generator=lab.generator(10), device=lab.device))
from_garments = passes(x_test[shown] + 0.5 * noise[shown])
print(f"mean pixel after 8 passes: from noise {from_noise[8].mean():.2f}, from noisy garments {from_garments[8].mean():.2f}; test images {x_test.mean():.2f}")
plots.image_rows(
    {"noise, σ = 1": from_noise[0]} | {f"after {n}": from_noise[n] for n in (1, 2, 8)}
    | {"garments, σ = 0.5": from_garments[0], "after 8 ": from_garments[8]},
    title="Denoised again and again by a network that knows one σ",
)

# %% [markdown]
# ### {{heading autoencoder/black-walk}}
# {{question autoencoder/black-walk}}

# %% tags=["quiz"]
### BEGIN SOLUTION
black_walk = "d"
### END SOLUTION
### BEGIN HANDED OUT
# black_walk = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("autoencoder/black-walk", black_walk)

# %% [markdown]
# The start is strange to the network: noise of $\sigma=1$ around grey is nothing like garments under $\sigma=0.5$. And so is every later pass, for after the first there is hardly any noise left. The lower walk, whose start it knows, shows what that alone does. Bright garments survive, but every pass goes the whole way to its answer: details go, what is bright turns white, and some of what is faint fades to black.
#
# So we need three things: a network that knows *many* noise levels and is told which; a start at a level so high that it is nearly pure noise; and small steps in place of jumps.
#
# ### What a denoiser knows *(extra)*
# #### {{heading autoencoder/far-noise}}
# {{question autoencoder/far-noise}}

# %% tags=["quiz"]
### BEGIN SOLUTION
far_noise = "c"
### END SOLUTION
### BEGIN HANDED OUT
# far_noise = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("autoencoder/far-noise", far_noise)

# %% [markdown]
# Which function $D$ minimises (1.8), averaged over all images and all noise? For each noisy $\tilde x$ the squared error is smallest at the mean of the clean images that could be behind it, so the best denoiser is $D^*(\tilde x)=\mathbb E[x\mid\tilde x]$.
# Now let $p_\sigma$ be the density of *noisy* images, $p_\sigma(\tilde x)=\int p(x)\,\mathcal N(\tilde x;x,\sigma^2I)\,dx$, and take its gradient. Only the Gaussian depends on $\tilde x$, and its gradient brings down a factor $(x-\tilde x)/\sigma^2$:
#
# $$\nabla p_\sigma(\tilde x) = \int p(x)\,\mathcal N(\tilde x;x,\sigma^2I)\,\frac{x-\tilde x}{\sigma^2}\,dx .$$
#
# Divide by $p_\sigma(\tilde x)$. On the left appears $\nabla\ln p_\sigma$; on the right, by Bayes' rule, the average of $(x-\tilde x)/\sigma^2$ over the clean images behind $\tilde x$:
#
# $$\nabla\ln p_\sigma(\tilde x) = \frac{\mathbb E[x\mid\tilde x]-\tilde x}{\sigma^2} = \frac{D^*(\tilde x)-\tilde x}{\sigma^2}. \tag{1.9}$$
#
# The left side is called the **score**: the direction in which noisy data become more likely, fastest. The right side is what a denoiser *does*. It has learned which way the data lie (Tweedie's formula; for denoising autoencoders, Vincent 2011).
#
# #### {{heading autoencoder/best-guess}}
# To check (1.9) we need the best denoiser itself. Let the data be a finite list of images, all equally likely. Then $\mathbb E[x\mid\tilde x]$ is a weighted mean of them. What are the weights? (For small σ your numbers must survive, too.)

# %% tags=["quiz"]
def best_guess(noisy, images, sigma):
    """E[x | noisy], when x is one of the images, all equally likely, and noisy = x + sigma·ε.

    noisy: (b, ...);  images: (n, ...);  sigma: a number above 0.  Returns a tensor like noisy.
    """
    ### BEGIN SOLUTION
    squared = torch.cdist(noisy.flatten(1), images.flatten(1)).square()
    weights = torch.softmax(-squared / (2 * sigma**2), dim=1)
    return (weights @ images.flatten(1)).view_as(noisy)
    ### END SOLUTION

# %% tags=["check"]
best_guess = check("autoencoder/best-guess", best_guess)

# %% [markdown]
# A world of two pixels, with 300 "images" in three clusters. Three roads to the same arrows: the gradient of $\ln p_\sigma$ by automatic differentiation; your best guess, put into (1.9); and in its place a small network, trained by your loop on (1.8), that only ever sees samples.
# The cell prints how far the second and the third are from the first. If (1.9) were wrong, say by a factor or a sign, these numbers would not be small.

# %%
sigma_toy = 0.5
with seeded(0):
    centres = torch.tensor([[0.0, 1.5], [-1.3, -0.75], [1.3, -0.75]])
    world = centres[torch.randint(3, (300,))] + 0.25 * torch.randn(300, 2)
    network = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))


def log_density(x):
    """ln p_σ(x) up to a constant, for x (n, 2): a Gaussian around each image of the world."""
    return torch.logsumexp(-torch.cdist(x, world).square() / (2 * sigma_toy**2), dim=1)


def toy_loss(model, x):
    noisy = x + sigma_toy * torch.randn(x.shape, generator=toy_noise)
    return (model(noisy) - x).square().mean()


toy_noise = lab.generator(11, "cpu")
train(network, toy_loss, batches(world.repeat(4, 1), 512, lab.generator(0, "cpu")), lab.pick(smoke=100, cpu=1500, gpu=3000), lr=5e-3)
ticks = torch.linspace(-2.6, 2.6, 17)
at = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1).view(-1, 2).requires_grad_()
exact = torch.autograd.grad(log_density(at).sum(), at)[0]
with torch.no_grad():
    tweedie, learned = ((guess - at) / sigma_toy**2 for guess in (best_guess(at, world, sigma_toy), network(at)))
    density = log_density(at).exp().view(17, 17)
gap_tweedie, gap_learned = ((other - exact).norm().item() / exact.norm().item() for other in (tweedie, learned))
print(f"(1.9) with the best guess, against the gradient of ln p: off by {gap_tweedie:.1e} of its size")
print(f"the same with a network that only learned to denoise:    off by {gap_learned:.1%}")
arrows = {"gradient of ln p": exact.view(17, 17, 2), "(D(x) − x)/σ², trained network": learned.view(17, 17, 2)}
plots.fields(
    arrows, (-2.75, 2.75, -2.75, 2.75), density=dict.fromkeys(arrows, density), axis_names=("pixel 1", "pixel 2"),
    title="Follow any arrow and you end up where data are",
)

# %% [markdown]
# ## 1.9 · Out of noise
#
# The network that you build now is told the level of its noise, and it has **skips**: what the narrow place can't carry goes over a bridge.
#
# ### {{heading autoencoder/denoiser}}
# `__init__` is there; you write what happens. With $s^2=\sigma^2+\tfrac12$ (our pixels have a variance of about ½, so those of a noisy image have about $s^2$):
#
# 1. Stack the noisy image, divided by $s$, and a plane filled with $\ln\sigma$: this is what the network *sees*.
# 2. Down to `a` at half size, down to `b` at a quarter; through the narrow place and back to the shape of `b`.
# 3. Up twice, each time with what was kept on the way down joined on **in front**; at full size join what the network saw, and `out`. After every layer but `out` a SiLU, `F.silu`, a ReLU without the corner: after `squeeze` and `widen`, too.
# 4. The answer is $\big(\tfrac12\,\tilde x/s + \sigma\sqrt{\tfrac12}\;\text{out}\big)/s$. At small $\sigma$ it is nearly the noisy image itself, and the network only says what is missing (Karras et al. 2022).

# %% tags=["quiz"]
class Denoiser(nn.Module):
    """Noisy images (b, c, h, w) and their levels sigma (b,) to clean images. h and w are multiples of 4."""

    def __init__(self, shape, width=32, code=256):
        super().__init__()
        c, h, w = shape
        flat = 2 * width * (h // 4) * (w // 4)
        self.down1 = nn.Conv2d(c + 1, width, 4, 2, 1)
        self.down2 = nn.Conv2d(width, 2 * width, 4, 2, 1)
        self.squeeze, self.widen = nn.Linear(flat, code), nn.Linear(code, flat)
        self.up2 = nn.ConvTranspose2d(4 * width, width, 4, 2, 1)
        self.up1 = nn.ConvTranspose2d(2 * width, width // 2, 4, 2, 1)
        self.out = nn.Conv2d(width // 2 + c + 1, c, 3, padding=1)

    def forward(self, x, sigma):
        ### BEGIN SOLUTION
        sigma = sigma.view(-1, 1, 1, 1)
        s = (sigma**2 + 0.5).sqrt()
        seen = torch.cat([x / s, sigma.log().expand_as(x[:, :1])], dim=1)
        a = F.silu(self.down1(seen))
        b = F.silu(self.down2(a))
        code = F.silu(self.squeeze(b.flatten(1)))
        wide = F.silu(self.widen(code)).view_as(b)
        up = F.silu(self.up2(torch.cat([b, wide], dim=1)))
        up = F.silu(self.up1(torch.cat([a, up], dim=1)))
        missing = self.out(torch.cat([seen, up], dim=1))
        return (0.5 * x / s + sigma * 0.5**0.5 * missing) / s
        ### END SOLUTION

# %% tags=["check"]
Denoiser = check("autoencoder/denoiser", Denoiser)

# %% [markdown]
# Eight levels, from 10 (nothing to be seen) down to 0.05 (hardly any noise), each a fixed factor below the one before. Every image of a batch draws its level. At $\sigma=0.05$ errors are small whatever one does, at 10 large, and in a plain sum only these would count. So each is divided by $(\sigma\sqrt{1/2}/s)^2$, the square of what multiplies `out` in point 4.

# %%
levels = torch.logspace(1, math.log10(0.05), 8, device=lab.device)


def at_all_levels(model, x):
    sigma = levels[torch.randint(len(levels), (len(x),), generator=noise_of_training, device=x.device)]
    noise = torch.randn(x.shape, generator=noise_of_training, device=x.device)
    weight = (sigma**2 + 0.5) / (0.5 * sigma**2)
    return (weight * denoising_error(model, x, noise, sigma)).mean()


with seeded(0):
    told = Denoiser(shape).to(lab.device, memory_format=torch.channels_last)
told_steps = lab.pick(smoke=15, cpu=1000, gpu=8000)
told_losses = train(told, at_all_levels, batches(x_train, min(64, size), lab.generator(1, "cpu")), told_steps, lr=2e-3)
print(f"{len(told_losses):,} steps; loss of the first 20 {sum(told_losses[:20]) / 20:.2f}, of the last 20 {sum(told_losses[-20:]) / 20:.2f}")

# %% [markdown]
# ### {{heading autoencoder/anneal}}
# Now walk. You stand at level σ with a noisy image. The network guesses the clean one; the difference, divided by σ, is the noise that it sees, of strength about 1. Go to the guess, and put back noise of strength σ', the *next* level.
# Part of it may be fresh: a share `fresh` of the strength from new random numbers, the rest from the old noise, mixed so that the sum has strength σ' again. (What do variances of independent noises do?) After the last level comes 0.

# %% tags=["quiz"]
def anneal(denoise, start, sigmas, fresh, generator):
    """From noise to images through falling levels.

    denoise: `denoise(x, sigma)` with sigma (n,) guesses clean images;  start: (n, c, h, w), noise of strength sigmas[0];
    sigmas: a list of levels, falling, above 0;  fresh: 0 (old noise only) to 1 (new only);
    generator: draws the new noise, one `torch.randn` in every step.  Returns images (n, c, h, w).
    """
    ### BEGIN SOLUTION
    x = start
    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0]):
        guess = denoise(x, torch.full((len(x),), sigma, device=x.device))
        old = (x - guess) / sigma
        new = torch.randn(x.shape, generator=generator, device=x.device)
        x = guess + following * ((1 - fresh**2) ** 0.5 * old + fresh * new)
    return x
    ### END SOLUTION

# %% tags=["check"]
anneal = check("autoencoder/anneal", anneal)

# %% [markdown]
# In a formula, one step from σ to σ' with the share $f$ of fresh noise $\varepsilon$:
#
# $$\tilde x' = D(\tilde x,\sigma) + \sigma'\Big(\sqrt{1-f^2}\;\frac{\tilde x-D(\tilde x,\sigma)}{\sigma} + f\,\varepsilon\Big). \tag{1.10}$$
#
# The network was trained at eight levels, but it is told a *number*: we may ask it for levels in between. We walk through 30, first with old noise only, then with a share of 0.5 fresh.

# %%
ladder = torch.logspace(1, math.log10(0.05), lab.pick(smoke=8, cpu=30, gpu=60)).tolist()


def draw(fresh, n, seed=12):
    start = ladder[0] * torch.randn(n, *shape, generator=lab.generator(seed), device=lab.device)
    with torch.no_grad():
        return anneal(told, start, ladder, fresh, lab.generator(seed + 1)).clamp(-1, 1)


n = lab.pick(smoke=20, cpu=200, gpu=1000)
drawn = {"old noise only": draw(0.0, n), "half fresh noise": draw(0.5, n)}
blind = passes(torch.randn(n, *shape, generator=lab.generator(10), device=lab.device))[8]
rows = {"one level, 8 passes": blind[:10]}
for name, images in drawn.items():
    rows |= {name: images[:10], f"{name}, more": images[10:20]}
plots.image_rows(rows, title="Out of noise: one level, and eight levels in small steps")

# %% [markdown]
# **Nobody took these pictures.** Some are smudges; many you can name. Each is the work of your loop, your loss, your network and your sampler.
# The distance to the nearest real image alone would not do for a verdict, since darkness is near to everything. So beside it *diversity*: the error (1.1) between two different images of a row.

# %%
def diversity(images):
    """For each image of a batch (n, c, h, w) the mean of its errors (1.1) to all others, (n,)."""
    squared = torch.cdist(images.flatten(1), images.flatten(1)).square() / pixels
    return squared.sum(1) / (len(images) - 1)


real = x_test[: len(blind)]
for name, images in ({"test images": real, "one level, 8 passes": blind} | drawn).items():
    near, apart = nearest_error(images, some_real), diversity(images)
    error = near.std() / math.sqrt(len(near))
    print(f"{name:23s} nearest real image {near.mean():.3f} ± {error:.3f}, diversity {apart.mean():.3f}")
plots.image_grid(drawn["half fresh noise"][:60], columns=15, title=f"{len(told_losses):,} steps of your loop, and what it draws now")

# %% [markdown]
# Read the columns together. *One level, 8 passes* is nearest of all, and all of it the same darkness. The walks through many levels differ nearly as much as test images do, and lie farther from real images: that is what a better network improves. (Fresh noise brought them nearer, by more than the errors; one network, one seed.)
#
# You have built a **diffusion model**: small, quickly trained, complete. Notebooks 03 to 06 derive why it works, build a better network, train it longer, and walk with fewer steps. (From now on the library's `fit` trains for us. It is your loop with more comfort: a progress bar, averages, checkpoints. `lr_schedule="linear-half"` is the falling rate that you wrote.)
#
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {train_set.title}, {made:,} steps for each autoencoder, one seed\n")
print(f"1.2  {needed} of {pixels} directions keep 90 % of the variance")
print(f"1.3  your loop brought the linear autoencoder to {reached / at_pca - 1:+.2%} from PCA")
for d in latents:
    print(f"1.5  {d:3d} latents: MSE {ae_error[d]:.3f}, PCA {pca_error[d]:.3f}")
print(f"1.9  {len(told_losses):,} steps of the told network; images out of noise, with diversity {diversity(drawn['half fresh noise']).mean():.2f} (test images {diversity(real).mean():.2f})")

# %% [markdown]
# **What to take along.** An autoencoder learns where images lie by having to rebuild them; PCA is its linear, solved case. It cannot be sampled from, because no part of its loss says where codes should be: notebook 02 adds that part. And a network that removes noise knows the way towards the data: told the level, and walked down in small steps, it draws.
#
# ## Go further *(extra)*
# 1. **Where do they cross?** Give the model with 128 latents more steps. After how many does it pass PCA? (`python benchmarks/autoencoder.py --latents 128 --steps 500 4000`, one seed, all 10,000 test images: 0.038 after 500 steps and 0.015 after 4,000, where PCA has 0.025.)
# 2. **No grain.** Replace the last transposed convolution by `nn.Upsample(scale_factor=2)` and a 3 × 3 convolution. What becomes of the share that alternates?
# 3. **A better cloud.** Fit one Gaussian *per class* to the codes and sample from the mixture. Which line of 1.7 gets better?
# 4. **How many levels?** Train the told network at 2, 4 and 16 levels. How few will do? What goes wrong first?
# 5. **Start lower.** Begin the ladder at σ = 3 instead of 10. What do the drawings lose, and why? (Look at the first direction of PCA.)
# 6. **How much fresh?** Draw with f = 0, 0.3, 0.6, 0.9 and 10, 30, 100 steps. When does fresh noise help?
#
# ## References
# * C. Eckart, G. Young, *The approximation of one matrix by another of lower rank*, Psychometrika 1, 1936
# * H. Bourlard, Y. Kamp, *Auto-association by multilayer perceptrons and singular value decomposition*, Biological Cybernetics 59, 1988
# * P. Baldi, K. Hornik, *Neural networks and principal component analysis: learning from examples without local minima*, Neural Networks 2, 1989
# * G. E. Hinton, R. R. Salakhutdinov, *Reducing the dimensionality of data with neural networks*, Science 313, 2006
# * P. Vincent, H. Larochelle, Y. Bengio, P.-A. Manzagol, *Extracting and composing robust features with denoising autoencoders*, ICML 2008
# * P. Vincent, *A connection between score matching and denoising autoencoders*, Neural Computation 23, 2011
# * B. Efron, *Tweedie's formula and selection bias*, Journal of the American Statistical Association 106, 2011
# * G. Alain, Y. Bengio, *What regularized auto-encoders learn from the data-generating distribution*, JMLR 15, 2014. arXiv:1211.4246
# * Y. Song, S. Ermon, *Generative modeling by estimating gradients of the data distribution*, NeurIPS 2019. arXiv:1907.05600
# * T. Karras, M. Aittala, T. Aila, S. Laine, *Elucidating the design space of diffusion-based generative models*, NeurIPS 2022. arXiv:2206.00364
# * V. Dumoulin, F. Visin, *A guide to convolution arithmetic for deep learning*, 2016. arXiv:1603.07285
# * A. Odena, V. Dumoulin, C. Olah, *Deconvolution and checkerboard artifacts*, Distill, 2016
# * H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms*, 2017. arXiv:1708.07747
# * G. Loaiza-Ganem, J. P. Cunningham, *The continuous Bernoulli: fixing a pervasive error in variational autoencoders*, NeurIPS 2019. arXiv:1907.06845
