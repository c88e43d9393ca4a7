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
# It sounds like compression, and it is. But whoever can rebuild images from a few numbers might also *invent* images, by inventing the numbers.
# This notebook builds the machine, takes it seriously, and finds out why that hope fails as it stands. Everything later in the course is an answer to that failure.
#
# **What you will be able to do**
# * measure how good a reconstruction is, in two ways, and name the unit of each;
# * find the best *linear* autoencoder without any training, and say what "best" means;
# * build an encoder and a decoder from convolutions, and know the size of every array on the way, square or not;
# * read a latent space: draw it as a map, walk through it, and measure its holes;
# * say why an autoencoder cannot simply be sampled from;
# * turn it into a denoiser, and see that a denoiser knows which way the data lie: the seed of diffusion.
#
# **Before you start:** Python, PyTorch tensors, and what gradient descent does. From linear algebra: a basis, a projection. Nothing about generative models.
#
# {{budget}}
#
# The text describes what you see at effort `cpu` or above, on Fashion-MNIST. At `smoke` the networks are hardly trained: everything runs, and what is printed is true of that run, but sentences about pictures don't hold. On another data set, read "garment" as "thing".

# %% tags=["setup"]
import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import plots, setup
from course_utils.arrays import to_unit
from course_utils.data import load
from course_utils.device import seeded
from course_utils.explore import choice, explore, slider
from course_utils.models.autoencoder import in_batches
from classroom import ask, check, predict, reveal
from course_utils.training import fit, steps_made

lab = setup("01")

# %%
train = load(lab.data, "train", device=lab.device, fallback="digits")
test = load(lab.data, "test", device=lab.device, fallback="digits")
test = test.first(lab.pick(smoke=200, cpu=2000, gpu=10_000))
x_test = test.x
pixels = math.prod(train.shape)
print(f"{train.title}: {len(train):,} images to train on, {len(test):,} to measure on")
print(f"one image is (c, h, w) = {train.shape}: {pixels} numbers in [-1, 1], -1 is black and 1 is white")

# %% [markdown]
# ## 1.1 · What does "nearly the same image" mean?
#
# Not every list of 784 numbers is a picture. Here are ten images from the data, and below them ten lists drawn blindly:

# %%
random_pixels = 2 * torch.rand(10, *train.shape, generator=lab.generator(0), device=lab.device) - 1
plots.image_rows(
    {"real": train.take(slice(0, 10)), "random pixels": random_pixels},
    title=f"{train.title}, and what most lists of numbers look like",
)

# %% [markdown]
# Wait as long as you like: random pixels won't show you a shoe. Real images are rare, and they are regular: neighbouring pixels agree, edges run straight, left resembles right.
# Regularity means that less would do. An **autoencoder** tries to find out how much less:
#
# $$x \;\xrightarrow{\;\text{encoder } E\;}\; z \in \mathbb R^d \;\xrightarrow{\;\text{decoder } D\;}\; \hat x, \qquad d \ll 784 .$$
#
# The few numbers $z$ are the **code** of the image, their space is the **latent space**, and the narrow place in the middle is the **bottleneck**. The bottleneck is the whole point: without it, copying would be a perfect answer.
#
# To train it we need a number that says how far $\hat x$ is from $x$. The simplest is the mean squared error per pixel:
#
# $$\mathrm{MSE}(x,\hat x) = \frac1P\sum_{i=1}^{P}(x_i-\hat x_i)^2, \qquad P = c\cdot h\cdot w. \tag{1.1}$$
#
# One number for each image, in squared pixel units: 0 is perfect, and 4 is black where white should be, everywhere.

# %%
def reconstruction_error(x, x_hat):
    """Mean squared error of each image over channels and pixels, equation (1.1).  Two (b, c, h, w) -> (b,)."""
    return (x - x_hat).square().flatten(1).mean(dim=1)


mean_image = x_test.mean(dim=0)
guesses = {
    "the image itself": x_test,
    "moved by one pixel": x_test.roll(1, dims=-1),
    "the mean image": mean_image.expand_as(x_test),
    "another image": x_test.roll(1, dims=0),
}
for name, guess in guesses.items():
    print(f"{name:19s} MSE {reconstruction_error(x_test, guess).mean():.3f} per pixel")
rows = {name: guess[:10] for name, guess in guesses.items()}
plots.image_rows(rows, title="Four answers to the top row")

# %% [markdown]
# Look at the second row and at its number. Your eye calls it the same image; the squared error does not. And it ranks the mean image, a grey fog, well above a sharp image that happens to be another one.
# Keep this in mind whenever a model that minimises squared error gives you fog: it is doing what it was asked to do.
#
# ### An image as a row of coins
# A second way to keep score comes from probability, and the next notebook will stand on it. Let the decoder say, for every pixel, *how likely it is to be white*: a number $p_i\in[0,1]$, a biased coin.
# With $t_i=(x_i+1)/2$, black is 0 and white is 1, and the probability of the whole image is the product of $p_i$ over the white pixels and of $1-p_i$ over the black ones. Its negative logarithm is a sum,
#
# $$-\ln p(x) = -\sum_{i=1}^{P}\big[\,t_i\ln p_i + (1-t_i)\ln(1-p_i)\,\big], \qquad p_i=\sigma(l_i), \tag{1.2}$$
#
# in **nats per image**, also known as binary cross-entropy. A network can say any number, so it says the *logit* $l_i$, and the sigmoid $\sigma(l)=1/(1+e^{-l})$ makes a probability of it.
#
# One caveat. Coins are black or white; our images are grey. Nothing stops us from putting a grey $t_i=0.5$ into (1.2), everybody does it, and training works: this picture shows why, and what gets lost.

# %%
def cost(t, p):
    """The bracket of (1.2) for one pixel, in nats."""
    return -(t * p.log() + (1 - t) * (1 - p).log())


p = torch.linspace(0.002, 0.998, 400)
lowest = {f"lowest for t = {t:g}": (t, cost(t, torch.tensor(t))) for t in (0.2, 0.5)}
plots.curves(
    {f"t = {t:g}": (p, cost(t, p)) for t in (0.0, 0.2, 0.5, 1.0)}, mark=lowest,
    title="Lowest at p = t; for grey even the lowest cost is not 0",
    x_label="p, what the decoder says", y_label="cost of one pixel (nats)",
)

# %% [markdown]
# Every curve is lowest at $p=t$, so the cost pulls each pixel to its right grey. But with grey values it is no longer minus the logarithm of a probability, and its smallest value is not 0.
#
# ### {{heading autoencoder/bernoulli-nll}}
# Write equation (1.2). Mind the unit: nats per *image*, one number for each.

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
# What would a *perfect* decoder pay, one that says $p=t$ at every pixel?

# %%
def logits_of(images):
    """The logits that say exactly these images, p = t. (Black and white would need ±∞.)"""
    return torch.logit(to_unit(images), eps=1e-6)


floor = bernoulli_nll(logits_of(x_test), x_test).mean().item()
blind = bernoulli_nll(logits_of(mean_image).expand_as(x_test), x_test).mean().item()
black_white = torch.where(x_test > 0, 1.0, -1.0)
no_grey = bernoulli_nll(logits_of(black_white), black_white).mean().item()
print(f"grey images,  p = t exactly:  {floor:7.1f} nats per image")
print(f"grey images,  the mean image: {blind:7.1f}")
print(f"pure black and white, p = t:  {no_grey:7.3f}")

# %% [markdown]
# ### {{heading autoencoder/grey-floor}}
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

# %% [markdown]
# From here on we train and measure with the squared error (1.1), because the next section has a rival for whom that is the home game. Notebook 02 uses (1.2).

# %% [markdown]
# ## 1.2 · The best that straight lines can do
#
# Before we train a network, let's see how far we get with linear algebra alone. A *linear* autoencoder takes the mean image $m$ away, and encodes by $d$ inner products:
#
# $$z = W\,(x-m), \qquad \hat x = W^{\!\top} z + m, \qquad W\in\mathbb R^{d\times P}\ \text{with orthonormal rows.} \tag{1.3}$$
#
# The rows of $W$ are images themselves, directions in pixel space. $z$ says how far to go along each, and $\hat x$ is the closest you can get to $x$ on that flat sheet through $m$.
# Which directions are best? Put the centred images into a matrix $X$, one image a row, and take its singular value decomposition $X=U\,\mathrm{diag}(s_1\ge s_2\ge\dots)\,V^{\!\top}$.
#
# **Eckart and Young (1936):** among all matrices of rank $d$, the one closest to $X$ in summed squared error keeps the $d$ largest singular values and drops the rest. What it misses is $s_{d+1}^2+s_{d+2}^2+\cdots$.
#
# A linear autoencoder's reconstructions form a matrix of rank $d$ at most. (A free offset in place of $m$ would not help: the rows of $X$ sum to zero, so any other offset only adds its own squared distance from $m$ to the error.) So *no* linear autoencoder, however it is trained, beats the one whose $W$ holds the first $d$ rows of $V^{\!\top}$. That choice is called **principal component analysis**, PCA.

# %%
def fit_pca(x, latent):
    """Mean image (c, h, w), main directions (latent, c·h·w), and the variance along *every* direction."""
    mean = x.mean(dim=0)
    centred = (x - mean).flatten(1)
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    return mean, directions[:latent], singular**2 / len(x)


latents = (2, 8, 32, 128)
x_pca = train.first(lab.pick(smoke=1500, cpu=20_000, gpu=60_000)).x
mean, directions, variances = fit_pca(x_pca, max(latents))

scaled = directions[:9] / directions[:9].abs().amax(dim=1, keepdim=True)  # for the eye: within [-1, 1]
plots.image_grid(
    torch.cat([mean[None], scaled.view(-1, *train.shape)]), columns=10,
    labels=["mean", *(f"{share:.0%}" for share in variances[:9] / variances.sum())],
    title=f"{train.title}: mean, nine directions, their shares of the variance",
)

# %% [markdown]
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
    title=f"{train.title}: most of what happens, happens in few directions",
    x_label="directions kept", y_label="share of the variance",
)

# %% [markdown]
# ### {{heading autoencoder/pca}}
# Write both halves of equation (1.3) for a batch of images.

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
shown = test.examples(10)  # one image of each class
plots.image_rows(
    {"original": x_test[shown]} | {f"PCA, {d} numbers": pca_images[d][shown] for d in latents},
    title="Test images rebuilt by PCA, without any training",
)

# %% [markdown]
# ### Does it hold?
# Here is a claim that we can try to break. Take a linear autoencoder whose two matrices are *free*, start it at random, and train it by gradient descent on (1.1).
# Its error on the images that PCA was fitted to may come down to PCA's and **must never go below it**. If the solid line crossed the dashed one, the theorem, or our reading of it, would be wrong.

# %%
k = 8
centred = x_pca - mean
with seeded(0):
    linear = nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, k, bias=False),
        nn.Linear(k, pixels, bias=False), nn.Unflatten(1, train.shape),
    ).to(lab.device)


def linear_loss(model, x, y, generator):
    return reconstruction_error(x, model(x)).mean()


trace = []
fit(
    linear, linear_loss, centred, steps=lab.pick(smoke=60, cpu=1500, gpu=6000), lr=5e-3, batch_size=256,
    lr_schedule="linear-half", mixed_precision=False, progress=False, every=lab.pick(smoke=20, cpu=50, gpu=200),
    on_step=lambda step, history: trace.append((step, linear_loss(linear, centred, None, None).item())),
)

reached = trace[-1][1]
left_out = variances[k:].sum().item() / pixels
at_pca = reconstruction_error(x_pca, project_and_rebuild(x_pca, mean, directions[:k])[1]).mean().item()
at_pca = max(at_pca, 1e-12)  # a handful of images may have no more than k directions
basis = torch.linalg.qr(linear[2].weight.detach()).Q  # an orthonormal basis of what its decoder can draw
overlap = (directions[:k] @ basis).square().sum().item() / k
print(f"MSE per pixel with {k} latents, on the images fitted to:")
print(f"  variance that PCA leaves out {left_out:.5f}, error of PCA {at_pca:.5f}")
print(f"  linear autoencoder, trained  {reached:.5f} ({reached / at_pca - 1:+.2%})")
print(f"overlap of the two subspaces: {overlap:.1%} (two random ones: {k / pixels:.1%})")
plots.curves(
    {"linear autoencoder, trained": tuple(zip(*trace))}, mark={f"PCA, {k} directions": (None, at_pca)},
    title=f"Gradient descent comes down to PCA: {reached / at_pca - 1:+.2%} at the end",
    x_label="step", y_label="MSE per pixel", log_y=True,
)

# %% [markdown]
# The first two numbers agree because they are the same thing: what PCA misses is exactly the variance along the directions that it dropped. The trained one can only approach from above.
# PCA needs no steps, no learning rate and no luck: it is the *solved* linear autoencoder, and the rival that any network has to beat first.
#
# ### {{heading autoencoder/linear}}
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
# ## 1.3 · Down by convolutions, and up again
#
# To beat straight lines we need curves, so now the networks. The encoder shrinks the image step by step with **strided convolutions**: a kernel slides over the image in strides of 2, and at each stop looks at a few pixels.
# How many stops are there? Along one axis of $n$ pixels, with kernel $k$, stride $s$, padding $p$ on both sides and dilation $\delta$, the kernel spans $\delta(k-1)+1$ pixels, and
#
# $$n_\text{out} = \left\lfloor\frac{n + 2p - \delta(k-1) - 1}{s}\right\rfloor + 1 . \tag{1.4}$$
#
# The fraction counts the strides that fit into the room that is left; the kernel also stands at its starting place, hence the $+1$.
#
# ### {{heading autoencoder/conv-size}}
# Write equation (1.4) for both axes. Our images happen to be square; your function shouldn't count on it.

# %% tags=["quiz"]
def conv_size(size, kernel, stride, padding, dilation):
    """(height, width) after a convolution, equation (1.4).

    size: (height, width) before;  kernel, stride, padding, dilation: whole numbers, the same for both axes.
    Returns a tuple of two whole numbers.
    """
    ### BEGIN SOLUTION
    return tuple((n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for n in size)
    ### END SOLUTION

# %% tags=["check"]
conv_size = check("autoencoder/conv-size", conv_size)

# %% [markdown]
# And back up? A **transposed convolution** is the same wiring walked in the other direction: every input pixel *stamps* the kernel onto the output, one stride further than the last, and where stamps overlap they are added.

# %%
def draw_wiring(axes, small, kernel=4, stride=2, padding=1, upwards=False):
    large = (small - 1) * stride - 2 * padding + kernel
    middles = [j * stride + (kernel - 1) / 2 - padding for j in range(small)]
    for j in range(small):
        for i in range(j * stride - padding, j * stride - padding + kernel):
            inside = 0 <= i < large
            colour, line = (plots.COLOURS[j], "-") if inside else ("#cccccc", ":")
            axes.plot([i, middles[j]], [1, 0], line, color=colour, linewidth=1.8, zorder=1)
    axes.scatter(range(large), [1] * large, s=150, color="white", edgecolor="#222222", zorder=2)
    axes.scatter(middles, [0] * small, s=190, color=plots.COLOURS[:small], zorder=2)
    axes.scatter([-1, large], [1, 1], s=110, color="#eeeeee", edgecolor="#bbbbbb", zorder=2)
    limits = (1.25, -0.25) if upwards else (-0.25, 1.25)
    axes.set(xlim=(-1.6, large + 0.6), ylim=limits, yticks=[0, 1], xticks=[])
    axes.set_yticklabels([f"{small}", f"{large}"])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(f"transposed: {small} → {large}" if upwards else f"convolution: {large} → {small}")


figure, axes = plots.new_figure(8, 2.7, 1, 2)
draw_wiring(axes[0], 4)
draw_wiring(axes[1], 4, upwards=True)
axes[0].set_ylabel("pixels, top to bottom")
figure.set_label(
    "Wiring of a convolution with kernel 4, stride 2, padding 1, from 8 pixels to 4; the same wires upside down"
)
figure

# %% [markdown]
# Kernel 4, stride 2, padding 1; the pale dots are the padding. On the right, the same wires upside down. Count along the right picture: $n$ pixels have $n-1$ strides between the first stamp and the last,
# a stamp is $\delta(k-1)+1$ wide, and padding now *cuts off* at both edges. `output_padding` $o$ adds a few pixels at one edge, since (1.4) rounds, and several sizes may have shrunk to the same one:
#
# $$n_\text{out} = (n-1)\,s - 2p + \delta(k-1) + 1 + o . \tag{1.5}$$
#
# ### {{heading autoencoder/conv-transpose-size}}
# Write equation (1.5) for both axes.

# %% tags=["quiz"]
def conv_transpose_size(size, kernel, stride, padding, output_padding, dilation):
    """(height, width) after a transposed convolution, equation (1.5).

    size: (height, width) before;  the others: whole numbers, the same for both axes.  Returns a tuple of two.
    """
    ### BEGIN SOLUTION
    return tuple((n - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + output_padding for n in size)
    ### END SOLUTION

# %% tags=["check"]
conv_transpose_size = check("autoencoder/conv-transpose-size", conv_transpose_size)

# %% [markdown]
# "The same wiring, backwards" is a statement about matrices, so it can be checked. A convolution is a big sparse matrix $C$. If the transposed one is $C^{\!\top}$, then $\langle Cx, y\rangle = \langle x, C^{\!\top}y\rangle$ for every $x$ and $y$.
# Note what it is *not*: the inverse. Going down and up with the same weights does not bring the image back; the decoder must learn weights of its own.

# %%
with seeded(0):
    kernel, picture, small = torch.randn(5, 1, 4, 4), torch.randn(1, 1, 28, 20), torch.randn(1, 5, 14, 10)
down = F.conv2d(picture, kernel, stride=2, padding=1)
up = F.conv_transpose2d(small, kernel, stride=2, padding=1)
there_and_back = F.conv_transpose2d(down, kernel, stride=2, padding=1)
print(f"⟨Cx, y⟩ = {(down * small).sum():.3f}      ⟨x, Cᵀy⟩ = {(picture * up).sum():.3f}")
print(f"sizes: {tuple(picture.shape[2:])} → {tuple(down.shape[2:])};  (1.4): {conv_size((28, 20), 4, 2, 1, 1)}")
back = conv_transpose_size((14, 10), 4, 2, 1, 0, 1)
print(f"       {tuple(small.shape[2:])} → {tuple(up.shape[2:])};  (1.5): {back}")
alike = torch.corrcoef(torch.stack([picture, there_and_back]).flatten(1))[0, 1]
print(f"correlation of x with CᵀCx: {alike:.2f}  (with an inverse in place of Cᵀ it would be 1)")

# %% [markdown]
# ### The two networks
# The encoder: two strided convolutions with 64 channels, each halving height and width, then a linear layer to the code. The decoder is the way back. Its last layer has no activation; what it says are the logits of (1.2),
# and $2\,\sigma(l)-1=\tanh(l/2)$ moves them to pixel values in $[-1,1]$.

# %%
class Autoencoder(nn.Module):
    """Images (b, c, h, w) in [-1, 1] to codes (b, latent) and back. Height and width must be multiples of 4."""

    def __init__(self, shape, latent, width=64):
        super().__init__()
        c, h, w = shape
        self.encoder = nn.Sequential(
            nn.Conv2d(c, width, kernel_size=4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, kernel_size=4, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(width * (h // 4) * (w // 4), latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, width * (h // 4) * (w // 4)), nn.ReLU(),
            nn.Unflatten(1, (width, h // 4, w // 4)),
            nn.ConvTranspose2d(width, width, kernel_size=4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(width, c, kernel_size=4, stride=2, padding=1),
        )

    def encode(self, x):
        return self.encoder(x).float()  # the network may run in half precision, codes shouldn't

    def decode(self, z):
        return (self.decoder(z).float() / 2).tanh()

    def forward(self, x):
        return self.decode(self.encode(x))

# %% [markdown]
# Follow one batch through it. We use an image that is *not* square, so that h and w can be told apart, and hold every convolution against your two formulas.

# %%
def trace_shapes(model, x):
    """Print the shape after every layer; check the sizes of convolutions against (1.4) and (1.5)."""
    print(f"{'':40s}{'shape':20s}{'numbers an image':>17s}")
    for part in (model.encoder, model.decoder):
        for layer in part:
            before, x = tuple(x.shape), layer(x)
            name, size = type(layer).__name__, tuple(x.shape[2:])
            if name == "Conv2d":
                assert size == conv_size(before[2:], 4, 2, 1, 1), "(1.4) and the layer disagree"
            if name == "ConvTranspose2d":
                assert size == conv_transpose_size(before[2:], 4, 2, 1, 0, 1), "(1.5) and the layer disagree"
            if "Conv" in name:
                name += f", {before[1]} to {x.shape[1]} channels"
            if name != "ReLU":
                print(f"{name:40s}{str(tuple(x.shape)):20s}{x[0].numel():17,d}")
        print("  ── the code ──" if part is model.encoder else "", flush=True)


with torch.no_grad():
    trace_shapes(Autoencoder((1, 28, 20), latent=8), torch.zeros(5, 1, 28, 20))
for name, part in Autoencoder(train.shape, latent=8).named_children():
    weights = sum(parameter.numel() for parameter in part.parameters())
    print(f"{name} for {train.shape} images and 8 latents: {weights:,} weights")

# %% [markdown]
# Widening before narrowing: the first convolution turns 560 numbers into almost nine thousand, and only the linear layer at the end makes the bottleneck. The network first spreads out what it sees, then decides what to keep.

# %% [markdown]
# ### {{heading autoencoder/swapped-decoder}}
# A decoder with this mistake was published, with tests that passed. `linear` turns codes into numbers, `up` makes images from feature maps four times smaller. All images there were square.
# Find what is wrong, mend it, and say in a comment why nobody noticed.

# %% tags=["quiz"]
def decode_published(z, linear, up, shape):
    """Images of codes.

    z: (b, d);  linear: (b, d) -> (b, maps · h/4 · w/4);  up: (b, maps, h/4, w/4) -> (b, c, h, w);
    shape: (c, h, w), h and w multiples of 4.  Returns (b, c, h, w).
    """
    ### BEGIN SOLUTION
    channels, height, width = shape  # rows first; on squares h = w, so nobody could see the exchange
    maps = linear(z).view(len(z), -1, height // 4, width // 4)
    return up(maps)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # channels, width, height = shape
    # maps = linear(z).view(len(z), -1, height // 4, width // 4)
    # return up(maps).view(len(z), channels, width, height)
    ### END HANDED OUT

# %% tags=["check"]
decode_published = check("autoencoder/swapped-decoder", decode_published)

# %% [markdown]
# To see it, let's take a decoder that has learnt nothing and only enlarges: its code is the image itself, four times smaller. We cut images to 28 × 20, and let the decoder as it was published draw beside a mended one.

# %%
def decode_as_published(z, linear, up, shape):
    channels, width, height = shape
    maps = linear(z).view(len(z), -1, height // 4, width // 4)
    return up(maps).view(len(z), channels, width, height)


tall = x_test[shown][:, :, :, 4:24]
tiny = F.avg_pool2d(tall, 4).flatten(1)
enlarge = nn.Upsample(scale_factor=4)
plots.image_rows(
    {
        "image, 28 × 20": tall,
        "mended": decode_published(tiny, nn.Identity(), enlarge, tuple(tall.shape[1:])),
        "as published": decode_as_published(tiny, nn.Identity(), enlarge, tuple(tall.shape[1:])),
    },
    title="The right shape, the wrong pixels",
)

# %% [markdown]
# On square images the last two rows would be the same. And worse: a network that is *trained* with the mistake learns to live with it, since its linear layer can put every number anywhere. The loss goes down, and nobody looks.

# %% [markdown]
# ## 1.4 · Curves against straight lines
#
# Time to train. Four autoencoders, with 2, 8, 32 and 128 numbers in the bottleneck, each for the same number of steps and from the same seed, against PCA with the same bottleneck.
# The ruler is (1.1) on test images that neither has seen.

# %%
def squared_error(model, x, y, generator):
    return reconstruction_error(x, model(x)).mean()


def train_autoencoder(latent, steps, loss=squared_error):
    """A fresh autoencoder, trained on batches of 128; the learning rate falls to 0 over the second half."""
    with seeded(0):
        model = Autoencoder(train.shape, latent).to(lab.device)
    history = fit(model, loss, train, steps=steps, lr=2e-3, lr_schedule="linear-half", seed=0)
    return model, history


steps = lab.pick(smoke=12, cpu=500, gpu=6000)
models, histories = {}, {}
for d in latents:
    models[d], histories[d] = train_autoencoder(d, steps)

# %%
ae_images = {d: in_batches(models[d], x_test) for d in latents}
ae_error = {d: reconstruction_error(x_test, ae_images[d]).mean().item() for d in latents}
last = {d: histories[d].loss[-20:] for d in latents}
print(f"MSE per pixel on {len(test):,} test images of {test.title}; trained for {steps_made(*histories.values())}\n")
print(f"{'latents':>7s}{'PCA':>10s}{'autoencoder':>14s}{'(last batches)':>17s}{'seconds':>10s}")
for d in latents:
    better, worse = sorted((pca_error[d], ae_error[d]))
    ahead = "autoencoder" if ae_error[d] < pca_error[d] else "PCA"
    batches = sum(last[d]) / len(last[d])
    row = f"{d:7d}{pca_error[d]:10.4f}{ae_error[d]:14.4f}{batches:17.4f}{histories[d].seconds:10.0f}"
    print(f"{row}   {ahead} ahead by {1 - better / worse:.0%}")
figure = plots.curves(
    {
        "PCA": (latents, [pca_error[d] for d in latents]),
        "convolutional autoencoder": (latents, [ae_error[d] for d in latents]),
    },
    log_x=True, log_y=True, title=f"{test.title}: what a bottleneck costs, after {steps_made(*histories.values())}",
    x_label="numbers in the bottleneck", y_label="MSE per pixel",
)
figure.axes[0].set_xticks(latents, latents)
figure.axes[0].minorticks_off()
figure

# %%
rows = {"original": x_test[shown]}
for d in latents:
    rows |= {f"PCA, {d}": pca_images[d][shown], f"autoencoder, {d}": ae_images[d][shown]}
plots.image_rows(rows, title="The same bottleneck, straight and curved")

# %% [markdown]
# Read the table from the top. With very few numbers a curved sheet can pass close to many more images than a flat one, and there a network has most to gain: compare the rows with 2 and 8, where PCA's fog becomes garments.
# Going down, PCA catches up. It has a place for every direction of any importance, and its answer is *exact*, while the network has only what its steps have bought so far. Where the table says that PCA is ahead, compare the column of the last training batches:
# if the error is just as high there, the network isn't overfitting; it hasn't arrived. (The curves below flatten towards the end in any case, because the learning rate falls to 0 there. Only a longer training can tell.)
#
# For comparison, Fashion-MNIST at level `cpu` on all 10,000 test images, measured by `python benchmarks/autoencoder.py --steps 500` (autoencoder / PCA): 0.138 / 0.184 with 2 latents, 0.070 / 0.106 with 8, 0.046 / 0.061 with 32, 0.038 / 0.025 with 128. So PCA wins there, after 500 steps. After 4,000 (`--latents 128 --steps 4000`) it was 0.015 against PCA's 0.025: nothing was wrong with the network but its patience.

# %%
def smooth(values, window):
    """(steps, values): means over stretches of `window` steps."""
    window = min(window, len(values))
    means = F.avg_pool1d(torch.tensor(values)[None], window)[0]
    return torch.arange(len(means)) * window + window / 2, means


plots.curves(
    {f"{d} latents": smooth(histories[d].loss, max(1, steps // 40)) for d in latents}, log_y=True,
    mark={f"PCA, {max(latents)}, on test images": (None, pca_error[max(latents)])},
    title="The error on training batches, by size of the bottleneck", x_label="step", y_label="MSE per pixel",
)

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
# ## 1.5 · A map of the plane
#
# With two latents the whole latent space is a sheet of paper. Here is where the encoder puts the test images, coloured by class. It has never been told the classes: whatever order you see, it found because similar images are cheap to rebuild from similar codes.

# %%
plane = models[2]
z_plane = in_batches(plane.encode, x_test)
low, high = z_plane.quantile(0.01, dim=0), z_plane.quantile(0.99, dim=0)
high = torch.maximum(high, low + 1e-3)  # they meet where all images are the same
for name, values in zip(("z₁", "z₂"), z_plane.T):
    print(f"{name} runs from {values.min():.1f} to {values.max():.1f}")
plots.scatter_classes(
    z_plane, test.labels, test.classes, title=f"{test.title}: where the encoder puts {len(test):,} test images"
)

# %% [markdown]
# The axes have no meaning, the scale is whatever training left behind, and some regions are empty. What does the decoder draw in a place where no image ever landed? Put your finger there:

# %%
few = z_plane[:1000].cpu(), test.labels[:1000].cpu()
some_real = train.first(lab.pick(smoke=500, cpu=5000, gpu=5000)).x


def nearest_error(images, among):
    """(1.1) from each image to the most similar one in `among`: (n,)."""
    distance = torch.cdist(images.flatten(1), among.flatten(1))
    return distance.min(dim=1).values.square() / images[0].numel()


def look_at(z1, z2):
    with torch.no_grad():
        drawn = plane.decode(torch.tensor([[z1, z2]], device=lab.device))
    figure, axes = plots.new_figure(8, 4.2, 1, 2, width_ratios=(2, 1))
    plots.draw_scatter(axes[0], *few, test.classes, mark=(z1, z2), title="the map")
    plots.draw_images(axes[1], drawn, title="decoded")
    axes[1].set_xlabel(f"nearest real image:\nMSE {nearest_error(drawn, some_real).item():.3f}")
    return figure


margin = 0.3 * (high - low)
ends = [(round(a, 1), round(b, 1)) for a, b in zip((low - margin).tolist(), (high + margin).tolist())]
ends = [(a, b) if a < b else (a - 1, b + 1) for a, b in ends]
explore(
    look_at, title="Drag a point over the map: what is decoded there?",
    alt="A latent map coloured by class with a movable cross, and the image decoded at the cross.",
    z1=slider(*ends[0], value=round(sum(ends[0]) / 2, 1), step=(ends[0][1] - ends[0][0]) / 80, label="z₁"),
    z2=slider(*ends[1], value=round(sum(ends[1]) / 2, 1), step=(ends[1][1] - ends[1][0]) / 80, label="z₂"),
)

# %% [markdown]
# Three things to try: walk from one cluster into a neighbouring one and watch *how* the garment changes; rest in a gap; go beyond the edge.
#
# One point at a time is slow. Let's decode a whole grid of points and lay the images out where their points lie.
#
# ### {{heading autoencoder/decode-grid}}
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
plots.manifold(grid, extent, title=f"{train.title}: the plane as the decoder sees it")

# %% [markdown]
# Compare it with the scatter plot, region by region. Where codes are dense, the decoder has practised; between clusters and at the edges it improvises. Can you find an image here that is in no class?

# %% [markdown]
# ## 1.6 · Two ways to walk from a shirt to a shoe
#
# A straight walk from $a$ to $b$ in equal strides is
#
# $$x(t) = (1-t)\,a + t\,b, \qquad t = 0,\ \tfrac1{n-1},\ \dots,\ 1. \tag{1.6}$$
#
# Between two *images* it is a cross-fade: one picture fades out, the other fades in. Between two *codes*, decoded at each stride, it is a path along the sheet that the decoder has learnt. Is there a difference?
#
# ### {{heading autoencoder/interpolate}}
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
walker = models[32]
z_test = in_batches(walker.encode, x_test)
first, second = shown[0], shown[min(9, len(shown) - 1)]
from_to = " to ".join(str(test.classes[test.labels[i]]) for i in (first, second))
faded = interpolate(x_test[first], x_test[second], 9)
with torch.no_grad():
    rows = {
        "pixels": faded,
        "PCA, 32": project_and_rebuild(faded, mean, directions[:32])[1],
        "autoencoder, 32": walker.decode(interpolate(z_test[first], z_test[second], 9)),
        "autoencoder, 2": plane.decode(interpolate(z_plane[first], z_plane[second], 9)),
    }
times = [f"{t:.2f}" for t in torch.linspace(0, 1, 9)]
plots.image_rows(rows, title=f"From {from_to}, four ways", labels=times)

# %% [markdown]
# For PCA there is *no* difference: encoder and decoder are straight, so decoding the middle of two codes is the same as taking the middle of the two reconstructions. A curved decoder may leave that line. By how much, we can measure:
# the error (1.1) between $D\big(\tfrac{z_a+z_b}2\big)$ and $\tfrac12\big(D(z_a)+D(z_b)\big)$. For straight maps it must be 0.

# %%
half = min(1000, len(x_test)) // 2
order = torch.randperm(len(x_test), generator=lab.generator(5, "cpu")).to(lab.device)
left, right = order[:half], order[half : 2 * half]


def bend(decode, z):
    """From the middle of a latent walk to the middle of the cross-fade: MSE per pixel, mean over pairs."""
    with torch.no_grad():
        middle, faded = decode((z[left] + z[right]) / 2), (decode(z[left]) + decode(z[right])) / 2
    return reconstruction_error(middle, faded).mean().item()


def decode_pca(z):
    return (z @ directions[:32]).view(-1, *train.shape) + mean


bends = {"PCA, 32": bend(decode_pca, project_and_rebuild(x_test, mean, directions[:32])[0])}
for d in latents:
    bends[f"network, {d}"] = bend(models[d].decode, in_batches(models[d].encode, x_test))
plots.bars(bends, title="Half-way: how far latent walks leave the cross-fade", y_label="MSE per pixel", form=".2g")

# %% [markdown]
# Now walk yourself. Half-way, a cross-fade shows both garments at once, like a photograph taken twice. Does the decoded code do better? Try pairs that are near each other on the map, and pairs that are far apart.

# %%
names = [test.classes[test.labels[i]] for i in shown]
names = [name if names.count(name) == 1 else f"{name} {k}" for k, name in enumerate(names, 1)]
pairs = {}
for i, j in ((0, 1), (0, 2), (2, 4), (1, 3), (5, 7), (7, 9), (9, 8), (0, 9)):
    if max(i, j) < len(shown):
        pairs[f"{names[i]} → {names[j]}"] = (shown[i], shown[j])


def walk(t, pair, latents):
    model = models[latents]
    with torch.no_grad():
        ends = x_test[list(pair)]
        code = model.encode(ends)
        halfway = model.decode((1 - t) * code[:1] + t * code[1:])
    faded = (1 - t) * ends[:1] + t * ends[1:]
    return plots.image_grid(
        torch.cat([ends[:1], faded, halfway, ends[1:]]), columns=4, title=f"t = {t:.2f}",
        labels=["from", "cross-fade of pixels", f"decoded, {latents} latents", "to"],
    )


explore(
    walk, title="Cross-fade, or walk through the latent space?",
    alt="Two images, their cross-fade, and the decoded point between their codes.",
    t=slider(0.0, 1.0, value=0.5, step=0.02, label="t"), pair=choice(pairs, label="pair"),
    latents=choice([2, 8, 32, 128], value=32, label="latents"),
)

# %% [markdown]
# ## 1.7 · Why you cannot sample from it
#
# The decoder turns codes into images. So all we need is a code that no image had before! Where shall we take it from? The codes of the training images form a cloud. Fit the simplest distribution we have to that cloud, a Gaussian,
#
# $$\mu = \frac1n\sum_{i=1}^n z_i, \qquad \Sigma = \frac1n\sum_{i=1}^n (z_i-\mu)(z_i-\mu)^{\!\top}, \qquad z_\text{new}\sim\mathcal N(\mu,\Sigma), \tag{1.7}$$
#
# draw from it, and decode.
#
# ### {{heading autoencoder/fit-gaussian}}
# Write the first two parts of (1.7).

# %% tags=["quiz"]
def fit_gaussian(z):
    """Mean and covariance of codes, equation (1.7).

    z: (n, d), one code a row.  Returns (mean, cov), of shapes (d,) and (d, d).
    """
    ### BEGIN SOLUTION
    mean = z.mean(dim=0)
    centred = z - mean
    return mean, centred.T @ centred / len(z)
    ### END SOLUTION

# %% tags=["check"]
fit_gaussian = check("autoencoder/fit-gaussian", fit_gaussian)

# %%
def draw_codes(z, n, generator):
    """n codes from the Gaussian fitted to z (n, d)."""
    mean, cov = fit_gaussian(z)
    values, vectors = torch.linalg.eigh(cov)  # Σ = V diag(λ) Vᵀ, so V diag(√λ) gives white noise its shape
    noise = torch.randn(n, z.shape[1], generator=generator, device=z.device)
    return mean + noise @ (vectors * values.clamp(min=0).sqrt()).T


def different_pairs(labels, n, generator):
    """Indices (i, j) of n random pairs of images from different classes, or of any where there is one class."""
    i, j = torch.randint(len(labels), (2, 4 * n), generator=generator, device=labels.device)
    keep = (labels[i] != labels[j]) | (labels == labels[0]).all()
    return i[keep][:n], j[keep][:n]


n_draws = lab.pick(smoke=100, cpu=1000, gpu=2000)


def places(model):
    """Codes from four places of a model's latent space."""
    generator = lab.generator(7)
    z_train, z = in_batches(model.encode, some_real), in_batches(model.encode, x_test[:n_draws])
    labels = test.labels[: len(z)]
    i, j = different_pairs(labels, len(z), generator)
    return {
        "test images": z,
        "Gaussian draws": draw_codes(z_train, len(z), generator),
        "between classes" if (labels != labels[0]).any() else "between images": (z[i] + z[j]) / 2,
        "three times as far out": z_train.mean(0) + 3 * (z - z_train.mean(0)),
    }


codes = {d: places(models[d]) for d in (2, 32)}
decoded = {d: {name: in_batches(models[d].decode, z) for name, z in codes[d].items()} for d in codes}


def show_places(latents):
    rows = {name: images[:10] for name, images in decoded[latents].items()}
    return plots.image_rows(rows, title=f"{train.title}: codes from four places, {latents} latents")


show_places(2)

# %%
show_places(32)

# %% [markdown]
# Judge for yourself: cover the labels on the left and sort the rows into "could be in the data" and "could not". Then let two rulers put numbers on it.
#
# * **Distance to the nearest real image**, (1.1) to the most similar of many training images. Beware: squared error likes fog, and a foggy average is near to everything. So compare rows of one block, which come from the same decoder, and not with the real test images.
# * **Does the encoder agree?** Encode what was decoded: for codes that the decoder knows, $E(D(z))$ should come back to $z$. We print $\lVert E(D(z))-z\rVert$ in units of the cloud's own radius.

# %%
def report(model, images_of, codes_of, among):
    """place -> (distance to the nearest real image, re-encoding gap in radii of the cloud)."""
    z = codes_of["test images"]
    radius = (z - z.mean(0)).square().sum(1).mean().sqrt().clamp(min=1e-6)
    table = {}
    for name, images in images_of.items():
        gap = (in_batches(model.encode, images) - codes_of[name]).norm(dim=1) / radius
        table[name] = nearest_error(images, among).mean().item(), gap.mean().item()
    return table


unseen = nearest_error(x_test[:n_draws], some_real).mean().item()
print(f"real test images themselves: nearest of {len(some_real):,} training images at MSE {unseen:.3f}\n")
print(f"{'':32s}{'nearest real image':>20s}{'E(D(z)) misses z by':>22s}")
tables = {}
for d in decoded:
    tables[d] = report(models[d], decoded[d], codes[d], some_real)
    for name, (near, gap) in tables[d].items():
        print(f"{d:3d} latents, {name:24s} {near:15.3f} {gap:18.2f} radii")
for d in tables:
    near, gap = (drawn / real for drawn, real in zip(tables[d]["Gaussian draws"], tables[d]["test images"]))
    print(f"\n{d} latents, Gaussian draws against test images: {near:.1f} times as far from the nearest real image,")
    print(f"and encoder and decoder disagree {gap:.1f} times as much")
plots.bars(
    {f"{d} latents": {name: gap for name, (_, gap) in tables[d].items()} for d in tables},
    title="Do encoder and decoder agree about a code?",
    y_label="‖E(D(z)) − z‖ in radii of the cloud", form=".2f",
)

# %% [markdown]
# Were the latent space fit for sampling, Gaussian draws would have the numbers of test images: both factors 1, the first two pairs of bars level. That is what finding no trouble would look like.
# Compare the two blocks, too. With 2 latents the plane is crowded, and the middle between two classes often lies in a third; the price is fog everywhere. With 32 there is far more empty room to fall into.
#
# What stands in the way has three names:
#
# **Holes.** The cloud is no Gaussian. It has clusters, bays and empty streets, and a Gaussian pours its draws over all of them. In between, the decoder has never been corrected.
#
# **No edge.** Far from the cloud the decoder draws something all the same; it has no way of saying "I don't know".
#
# **No scale.** And there is nothing special about *this* cloud. Multiply every code by 10 and let the decoder's first layer divide by 10: not one reconstruction changes, so the loss cannot prefer one over the other.

# %%
scaled_model = copy.deepcopy(models[32])
with torch.no_grad():
    for parameter in (scaled_model.encoder[-1].weight, scaled_model.encoder[-1].bias):
        parameter.mul_(10)
    scaled_model.decoder[0].weight.div_(10)


def spread(model):
    """Standard deviation of a latent over the test images, averaged over latents."""
    return in_batches(model.encode, x_test).std(dim=0).mean().item()


same = reconstruction_error(in_batches(scaled_model, x_test), ae_images[32]).mean().item()
print(f"spread of the codes: {spread(models[32]):.2f} before, {spread(scaled_model):.2f} after")
print(f"reconstructions before and after differ by MSE {same:.1e}")
for d in latents:
    print(f"  what training chose with {d:3d} latents: {spread(models[d]):.2f}")

# %% [markdown]
# The loss asks for good reconstructions *at the codes of training images* and is silent about everything else. To sample, somebody must decide where codes shall lie, and make the network pay for leaving that place. That is notebook 02.
#
# ### {{heading autoencoder/why-not-sample}}
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

# %% [markdown]
# ## 1.8 · Rebuild what you were not shown
#
# There is a second way to keep an autoencoder from just copying: spoil its input. Add Gaussian noise of standard deviation $\sigma$ to every pixel and ask for the *clean* image:
#
# $$\mathcal L(x) = \frac1P\,\big\lVert D(x+\sigma\varepsilon) - x\big\rVert^2, \qquad \varepsilon\sim\mathcal N(0,I). \tag{1.8}$$
#
# Here $D$ stands for the whole network, image in, image out. This is the **denoising autoencoder** (Vincent et al. 2008).
#
# ### {{heading autoencoder/denoising}}
# Write equation (1.8), one number for each image.

# %% tags=["quiz"]
def denoising_error(model, x, noise, sigma):
    """Squared error of each clean image, rebuilt from a noisy one, mean over pixels, equation (1.8).

    model: images to images;  x: (b, c, h, w), clean;  noise: like x, standard normal;  sigma: its strength.
    Returns (b,).
    """
    ### BEGIN SOLUTION
    return (model(x + sigma * noise) - x).square().flatten(1).mean(dim=1)
    ### END SOLUTION

# %% tags=["check"]
denoising_error = check("autoencoder/denoising", denoising_error)

# %%
sigma_image = 0.5


def denoising(model, x, y, generator):
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    return denoising_error(model, x, noise, sigma_image).mean()


denoiser, denoiser_history = train_autoencoder(128, steps, denoising)

# %%
noise = torch.randn(x_test.shape, generator=lab.generator(8), device=lab.device)
sigmas = (0.0, 0.25, 0.5, 1.0)
answers = {
    "noisy image as it is": lambda x: x,
    "PCA, 128": lambda x: project_and_rebuild(x, mean, directions)[1],
    "autoencoder, 128": models[128],
    "denoiser, 128": denoiser,
}
print(f"MSE per pixel to the clean image; the denoiser was trained at σ = {sigma_image}\n")
print(f"{'':22s}" + "".join(f"{f'σ = {s:g}':>10s}" for s in sigmas))
denoised_error = {}
for name, answer in answers.items():
    rebuilt = [in_batches(answer, x_test + s * noise) for s in sigmas]
    denoised_error[name] = [reconstruction_error(x_test, images).mean().item() for images in rebuilt]
    print(f"{name:22s}" + "".join(f"{e:10.4f}" for e in denoised_error[name]))
for i, s in enumerate(sigmas[1:], 1):
    print(f"smallest error at σ = {s:g}: {min(denoised_error, key=lambda name: denoised_error[name][i])}")

rows = {"clean": x_test[shown]}
for s in sigmas[1:]:
    noisy = x_test[shown] + s * noise[shown]
    rows |= {f"noisy, σ = {s:g}": noisy, f"denoised, σ = {s:g}": in_batches(denoiser, noisy)}
plots.image_rows(rows, title=f"One network, trained at σ = {sigma_image:g}, at three strengths of noise")

# %% [markdown]
# Look down each column of the table. Any bottleneck denoises a little, since it has no room to note down every speck. Being *trained* on noise should pay at the noise level it was trained for: the lines under the table say who won in your run. And compare the two lower rows at $\sigma=0$. Given a clean image, the denoiser should have an easy task. But it has learnt to distrust every fine detail, since at $\sigma=0.5$ a detail may well be noise, and smooths away some that were real; and at $\sigma=1$ it is out of its depth. The right amount of distrust depends on σ.
# A network that is to serve all noise levels must be told which one it is looking at. Remember that.
#
# ### What a denoiser knows
# Here is why this section is more than a trick. Which function $D$ minimises (1.8), averaged over all images and all noise? For each noisy $\tilde x$ the squared error is smallest at the mean of the clean images that could be behind it, so the best denoiser is $D^*(\tilde x)=\mathbb E[x\mid\tilde x]$.
# Now let $p_\sigma$ be the density of *noisy* images, $p_\sigma(\tilde x)=\int p(x)\,\mathcal N(\tilde x;x,\sigma^2I)\,dx$, and take its gradient. Only the Gaussian depends on $\tilde x$, and its gradient brings down a factor $(x-\tilde x)/\sigma^2$:
#
# $$\nabla p_\sigma(\tilde x) = \int p(x)\,\mathcal N(\tilde x;x,\sigma^2I)\,\frac{x-\tilde x}{\sigma^2}\,dx .$$
#
# Divide by $p_\sigma(\tilde x)$. On the left appears $\nabla\ln p_\sigma$; on the right, by Bayes' rule, the average of $(x-\tilde x)/\sigma^2$ over the clean images behind $\tilde x$:
#
# $$\nabla\ln p_\sigma(\tilde x) = \frac{\mathbb E[x\mid\tilde x]-\tilde x}{\sigma^2} = \frac{D^*(\tilde x)-\tilde x}{\sigma^2}. \tag{1.9}$$
#
# The left side is called the **score**: the direction in which noisy data become more likely, fastest. The right side is what a denoiser *does*. So a network that merely learns to remove noise has learnt, without being told, which way the data lie (Tweedie's formula; for denoising autoencoders, Vincent 2011).
#
# ### Does it hold?
# Images are too large to check it, so we take a world of two pixels, where "images" come from three blobs, and everything can be computed. Three roads to the same arrows:
# the gradient of $\ln p_\sigma$ by automatic differentiation; $(D^*-\tilde x)/\sigma^2$ with the exact $\mathbb E[x\mid\tilde x]$; and a small network trained on (1.8) that is only ever shown samples. If (1.9) were wrong, say by a factor or a sign, the two printed numbers would not be small, and the right picture below would not resemble the left.

# %%
centres = torch.tensor([[0.0, 1.5], [-1.3, -0.75], [1.3, -0.75]])
blob, sigma_toy = 0.25, 0.5  # standard deviations: of each blob, and of the noise


def log_density(x, sigma):
    """ln p_σ(x) up to a constant, for x (n, 2): noise only widens each blob."""
    variance = blob**2 + sigma**2
    return torch.logsumexp(-torch.cdist(x, centres).square() / (2 * variance), dim=1) - math.log(variance)


def best_denoiser(noisy, sigma):
    """E[x | noisy], exactly: which blob was it, and where in the blob."""
    variance = blob**2 + sigma**2
    which = torch.softmax(-torch.cdist(noisy, centres).square() / (2 * variance), dim=1)
    where = centres + (blob**2 / variance) * (noisy[:, None] - centres)
    return (which[..., None] * where).sum(dim=1)


def score_from_denoiser(denoised, noisy, sigma):
    """The right side of (1.9)."""
    return (denoised - noisy) / sigma**2


with seeded(0):
    samples = centres[torch.randint(3, (20_000,))] + blob * torch.randn(20_000, 2)
    network = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))


def toy_loss(model, x, y, generator):
    return denoising_error(model, x, torch.randn(x.shape, generator=generator), sigma_toy).mean()


fit(
    network, toy_loss, samples, steps=lab.pick(smoke=150, cpu=2500, gpu=5000), lr=3e-3, batch_size=512,
    lr_schedule="cosine", mixed_precision=False, progress=False,
)

noisy = samples[:4000] + sigma_toy * torch.randn(4000, 2, generator=lab.generator(9, "cpu"))
noisy.requires_grad_()
exact = torch.autograd.grad(log_density(noisy, sigma_toy).sum(), noisy)[0]
with torch.no_grad():
    tweedie = score_from_denoiser(best_denoiser(noisy, sigma_toy), noisy, sigma_toy)
    learned = score_from_denoiser(network(noisy), noisy, sigma_toy)
gap_tweedie, gap_learned = ((other - exact).norm().item() / exact.norm().item() for other in (tweedie, learned))
print(f"(1.9) with the exact denoiser against the gradient of ln p: off by {gap_tweedie:.1e} of its size")
print(f"the same with a network that only learnt to denoise:        off by {gap_learned:.1%}")

# %%
ticks = torch.linspace(-2.6, 2.6, 17)
field = torch.cartesian_prod(ticks, ticks)
fine = torch.linspace(-2.8, 2.8, 120)
density = log_density(torch.cartesian_prod(fine, fine), sigma_toy).exp().view(120, 120).T
at = field.clone().requires_grad_()
arrows = {
    "∇ ln p of the noisy data": torch.autograd.grad(log_density(at, sigma_toy).sum(), at)[0],
    "(D(x) − x)/σ² of the trained network": score_from_denoiser(network(field).detach(), field, sigma_toy),
}
figure, axes = plots.new_figure(8, 4.3, 1, 2, sharey=True)
for panel, (name, arrow) in zip(axes, arrows.items()):
    panel.contourf(fine, fine, density, levels=12, cmap="Blues", alpha=0.8)
    panel.quiver(*field.T, *arrow.T, color="#222222", scale=130, width=0.004)
    panel.plot(*centres.T, "X", color=plots.COLOURS[1], markeredgecolor="white", markersize=12)
    panel.set(xlabel="pixel 1", aspect="equal", title=name)
    panel.grid(False)
axes[0].set_ylabel("pixel 2")
figure.set_label("Arrows of the exact score and of the trained denoiser over the density of three blobs")
figure

# %% [markdown]
# Follow any arrow and you end up where data are. Which raises a bold question: if every small step along the arrows makes an image more likely, could we *start from noise* and walk?

# %%
x = torch.randn(10, *train.shape, generator=lab.generator(10), device=lab.device)
rows, moved = {"noise": x}, []
for step in range(1, 9):
    before, x = x, in_batches(denoiser, x)
    moved.append(reconstruction_error(before, x).mean().item())
    if step in (1, 2, 4, 8):
        rows[f"after {step}"] = x
print("MSE per pixel between one pass and the next: " + ", ".join(f"{m:.4f}" for m in moved))
print(f"nearest real image: {nearest_error(x, some_real).mean():.3f} after 8 passes; test images {unseen:.3f}")
plots.image_rows(rows, title="Noise, denoised again and again by a network that knows one σ")

# %% [markdown]
# Something begins to condense, and then it fades: after a few passes the ten walks have run to the same few places, foggy or simply dark, and hardly anything moves any more. Now count what was missing. The network knows a single noise level, and meets images with less noise after the first pass than it was trained for. Every pass jumps all the way to a mean, and means are foggy.
# And jumping to the mean wipes out what told the ten walks apart. (The distance to the nearest real image may even look small. That is the ruler's love of fog and darkness again: believe the pictures.)
#
# Mend these with a network that is told the noise level, and with small steps instead of jumps (with a little fresh noise after each or, as in the walk of notebook 00, without), and you have a **diffusion model**. You will build it in notebooks 03 to 06.
#
# ### {{heading autoencoder/far-noise}}
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
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {train.title}, {steps_made(*histories.values())} of 128 images a model, seed 0\n")
print(f"1.1  a perfect reconstruction costs 0 by (1.1), but {floor:.0f} nats per image by (1.2)")
print(f"1.2  {needed} of {pixels} directions keep 90 % of the variance")
print(f"     the linear autoencoder ended {reached / at_pca - 1:+.2%} from PCA")
for d in latents:
    print(f"1.4  {d:3d} latents: MSE {ae_error[d]:.3f}, PCA {pca_error[d]:.3f}")
print(f"1.6  half-way off the cross-fade: MSE {bends['network, 32']:.3f} (network, 32), {bends['PCA, 32']:.0e} (PCA, 32)")
for d in tables:
    real, drawn = (tables[d][name][1] for name in ("test images", "Gaussian draws"))
    print(f"1.7  {d:3d} latents: E(D(z)) misses z by {real:.2f} radii (test images), {drawn:.2f} (Gaussian draws)")
at = sigmas.index(sigma_image)
before, after = denoised_error["noisy image as it is"][at], denoised_error["denoiser, 128"][at]
print(f"1.8  noise of σ = {sigma_image:g}: MSE {before:.3f} before, {after:.3f} after denoising")
print(f"     (1.9) holds to {gap_tweedie:.0e}; a trained network's arrows are {gap_learned:.0%} off")

# %% [markdown]
# **What to take along.** An autoencoder learns where images lie by having to rebuild them. PCA is its linear, solved case. With few latents a curved sheet passes closer to the images than any flat one; with many, straight lines are hard to beat in a minute.
# It cannot be sampled from, because no part of its loss says where codes should be: notebook 02 adds that part. And a network that removes noise knows the way towards the data: notebook 03 begins there.
#
# ## Go further *(ungraded)*
# 1. **Where do they cross?** Give the model with 128 latents more and more steps. After how many does it pass PCA? Does the gap between training and test images grow? `python benchmarks/autoencoder.py --latents 128 --steps 1000 2000` does half of the work.
# 2. **Checkerboards.** Change the decoder's kernels from 4 to 3 (with `output_padding=1`). Which output pixels get more stamps than their neighbours? Count them by decoding with all weights set to one, then look for the pattern in a decoded grid.
# 3. **Another ruler.** Train on (1.2) instead of (1.1) and compare both errors of both models. Which pixels change?
# 4. **A better cloud.** Fit one Gaussian *per class* to the codes and sample from the mixture. Which row of the table in 1.7 gets better, and what has become of "no labels needed"?
# 5. **Tie the weights.** Let the linear autoencoder's decoder be the transpose of its encoder. Does it now find orthonormal rows? The principal directions themselves?
# 6. **Langevin.** In the world of two pixels, walk $x \leftarrow x + \tfrac{\eta}{2}\,s(x) + \sqrt{\eta}\,\varepsilon$ with the learnt score $s$ from random starts. Plot where the walkers are after 500 steps. What does $\eta$ do, and what does $\sigma$?
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
# * V. Dumoulin, F. Visin, *A guide to convolution arithmetic for deep learning*, 2016. arXiv:1603.07285
# * A. Odena, V. Dumoulin, C. Olah, *Deconvolution and checkerboard artifacts*, Distill, 2016
# * H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms*, 2017. arXiv:1708.07747
# * G. Loaiza-Ganem, J. P. Cunningham, *The continuous Bernoulli: fixing a pervasive error in variational autoencoders*, NeurIPS 2019. arXiv:1907.06845
