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
# # 04 · The U-Net, part by part
#
# Notebook 03 ended with a wish: a function that looks at a noisy image and says, for every pixel, what is noise and what is not.
# In this notebook **you write it**: first its parts, one by one, then the network that they make. It trains for about a minute, and then it draws clothes from nothing but noise.
# At the end you take parts *away* again, to see what each was good for.
#
# **What you will be able to do**
# * work out how far a network sees, and say why a denoiser goes down and up again;
# * write the parts: a time embedding, a residual block that is told the step, attention, the ways down and up;
# * wire a U-Net of your own, trace it, train it and let it draw;
# * read an ablation: which differences count, and what their harm looks like.
#
# **Before you start:** notebook 03 (noisy images $x_t$, the step $t$), convolutions and their sizes (notebook 01), matrix products.
#
# {{budget}}
#
# Each part has its own check. If you skip one, ours takes its place, and everything below still runs. The text speaks of Fashion-MNIST at effort `cpu`; at `smoke` the network is hardly trained, and what it draws is noise.

# %% tags=["setup"]
import math

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_utils import plots, setup
from course_utils.data import load
from course_utils.device import seeded
from course_utils.diffusion import Denoiser, cosine_schedule, diffusion_loss
from course_utils.explore import choice, explore, slider
from course_utils.pitfalls import unet as pitfalls
from course_utils.models import tracing
from course_utils.models.nonlocal_means import patch_queries
from course_utils.models.unet import group_norm
from classroom import ask, check, predict, reveal
from course_utils.recipes import ddpm_recipe
from course_utils.sampling import clipped, ddim, last
from course_utils.training import fit, steps_made
from course_utils.weights import SHIPPED, load_denoiser

lab = setup("04")

# %%
train = load(lab.data, "train", device=lab.device, fallback="digits")
test = load(lab.data, "test", device=lab.device, fallback="digits")
schedule = cosine_schedule(1000).to(lab.device)
print(
    f"{train.title}: {len(train):,} images to train on, {len(test):,} to test with, each {train.shape}"
)

# %% [markdown]
# ## 4.1 · Why the shape of a U?
#
# An image goes in, an image of the same size comes out, and each output pixel says how much of *its own* input pixel is noise.
# You know a network that turns images into images: the autoencoder of notebook 01. It squeezes the image through a narrow place. Could it do this job?
#
# ### {{heading unet/why-skips}}
# {{question unet/why-skips}}

# %% tags=["quiz"]
### BEGIN SOLUTION
why_skips = "b"
### END SOLUTION
### BEGIN HANDED OUT
# why_skips = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("unet/why-skips", why_skips)

# %%
pixels = math.prod(train.shape)
clean = train.first(lab.pick(smoke=1000, cpu=5000, gpu=10000)).x.flatten(1).cpu()
noise = torch.randn(clean.shape, generator=lab.generator(0, "cpu"))


def kept(data):
    """Share of the variance that the best k directions of one half keep of the other, for every k."""
    half = -(-len(data) // 2)
    found, tried = (part - part.mean(0) for part in (data[:half], data[-half:]))
    directions = torch.linalg.eigh(found.T @ found).eigenvectors.flip(1)
    return (tried @ directions).square().sum(0).cumsum(0) / tried.square().sum()


shares = {"images": kept(clean), "noise": kept(noise)}
print(", ".join(f"128 numbers keep {share[127]:.0%} of {name}" for name, share in shares.items()))
plots.curves(
    {name: (torch.arange(1, pixels + 1), share) for name, share in shares.items()},
    title=f"{train.title}: images fit through a narrow place, noise doesn't",
    x_label="numbers that may pass (k)",
    y_label="share of variance kept",
    mark={"128 numbers": 128},
)

# %% [markdown]
# A linear bottleneck of $k$ numbers keeps $k/784$ of noise, and no training can change that; a nonlinear one may do better, but it, too, must carry 784 independent numbers through a narrow place.
# So either the narrow place isn't narrow, or the pixels need a road around it. Section 4.8 measures both.
#
# **A stack of convolutions at full size** has no narrow place. What it lacks is sight: a 3 × 3 convolution looks at direct neighbours only.
#
# **By hand first.** Three convolutions of 3 × 3 stand one behind the other, the *second* with a stride of 2. How wide a strip of the input can one pixel behind the third see?

# %% tags=["predict"]
predict("unet/by-hand", "Pixels in a row that one output pixel sees", 1, 15)

# %% [markdown]
# ### {{heading unet/reach}}
# Now the rule, for any list of layers. Two things travel along: how wide one pixel sees, and how far apart two *neighbours* look.


# %% tags=["quiz"]
def reach(layers):
    """How many input pixels in a row one pixel sees behind each of the layers.

    layers: a list of (kernel, stride), from the input on.  Returns a list of whole numbers, one per layer.
    """
    ### BEGIN SOLUTION
    field, jump, fields = 1, 1, []
    for kernel, stride in layers:
        field += (kernel - 1) * jump
        jump *= stride
        fields.append(field)
    return fields
    ### END SOLUTION


# %% tags=["check"]
reach = check("unet/reach", reach)

# %%
reveal("unet/by-hand", reach([(3, 1), (3, 2), (3, 1)])[-1])

# %% [markdown]
# As a formula, with $r_\ell$ for what one pixel behind layer $\ell$ sees and $j_\ell$ for the distance between neighbours:
#
# $$r_\ell = r_{\ell-1} + (k_\ell - 1)\,j_{\ell-1},\qquad j_\ell = s_\ell\,j_{\ell-1} \tag{4.1}$$
#
# To see all 28 pixels from *every* place, also from a corner to the opposite one, a pixel has to look 27 pixels to both sides: a field of 55.

# %%
wanted, deep = 2 * 28 - 1, range(1, 31)
flat, halving = [(3, 1)] * 30, [(3, 1), (3, 1), (3, 2)] * 10
fields = {"all at full size": reach(flat), "every third with stride 2": reach(halving)}
for name, field in fields.items():
    print(f"{name}: {1 + sum(r < wanted for r in field)} layers until every pixel sees all 28 × 28")
plots.curves(
    {name: (deep, [min(r, 90) for r in field]) for name, field in fields.items()},
    title="Halving the image now and then lets a network see far (cut at 90)",
    x_label="layers of 3 × 3",
    y_label="receptive field (pixels)",
    mark={"55 pixels: all of the image from everywhere": (None, wanted)},
)

# %% [markdown]
# So: go down to see far (and cheaply, for at a quarter of the height and width the same layer costs a sixteenth), come up again to full size, and at every size lead a copy straight across (a *skip*), so that no pixel *has to* pass the narrow place.
# Drawn on paper, that is a U (Ronneberger, Fischer and Brox 2015, who cut cells out of microscope images with it).
#
# ## 4.2 · How does a network know which step it is?
#
# At $t=20$ almost everything is signal, at $t=900$ almost everything is noise, and one network has to serve both. It must be told $t$.
#
# ### {{heading unet/why-waves}}
# {{question unet/why-waves}}

# %% tags=["quiz"]
### BEGIN SOLUTION
why_waves = "d"
### END SOLUTION
### BEGIN HANDED OUT
# why_waves = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("unet/why-waves", why_waves)

# %% [markdown]
# Vaswani et al. (2017) used waves to mark positions in a sentence, Ho et al. (2020) to mark the steps of diffusion. Think of $n$ clock hands, $n$ being half the size of the embedding: the first turns once in $2\pi$ steps, each later one is slower, the last one needs tens of thousands.
#
# $$e_k(t)=\sin(\omega_k t),\qquad e_{n+k}(t)=\cos(\omega_k t),\qquad \omega_k = 10000^{-k/n},\quad k=0,\dots,n-1 \tag{4.2}$$
#
# ### {{heading unet/time-embedding}}
# Write it for a whole batch of steps at once.


# %% tags=["quiz"]
def sinusoidal_embedding(t, size):
    """Each step as `size` numbers, sines first, then cosines: equation (4.2).

    t: (b,), whole numbers or floats;  size: even.  Returns (b, size): float64 for float64, else float32.
    """
    ### BEGIN SOLUTION
    t = t if t.dtype == torch.float64 else t.float()
    speed = 10_000 ** (-torch.arange(size // 2, device=t.device, dtype=t.dtype) / (size // 2))
    angle = t[:, None] * speed
    return torch.cat([angle.sin(), angle.cos()], dim=1)
    ### END SOLUTION


# %% tags=["check"]
sinusoidal_embedding = check("unet/time-embedding", sinusoidal_embedding)

# %%
every = torch.arange(0, 1001, 2)
waves = sinusoidal_embedding(every, 64)
plots.heatmap(
    waves.T,
    title="One column is one step: 32 sines above 32 cosines, fast ones on top",
    x_label="step t",
    y_label="entry of the embedding",
    centre=0,
    x=every,
)

# %%
alike = {
    f"t = {k}": (every, F.cosine_similarity(waves, sinusoidal_embedding(torch.tensor([k]), 64)))
    for k in (20, 300, 700)
}
plots.curves(
    alike,
    title="Each embedding is most similar to those of its neighbours",
    x_label="compared with step",
    y_label="cosine similarity",
)

# %% [markdown]
# ## 4.3 · A block that keeps what it is given
#
# Deep stacks of blocks train well when a block *adds* to its input instead of replacing it (He et al. 2016). You build such a block.
#
# **First, a norm that looks at one image.** Batch norm takes mean and variance over the images of a batch. A batch in which some images are nearly clean and others nearly pure noise is poor company. **Group norm** (Wu and He 2018) takes each image by itself, and a *group* $G$ of neighbouring channels at a time:
#
# $$\hat x_{c,i,j} = \frac{x_{c,i,j}-\mu_G}{\sqrt{\sigma_G^2+10^{-5}}},\qquad
#   \mu_G=\operatorname{mean}_{c\in G,\,i,\,j}\,x_{c,i,j},\quad \sigma_G^2=\operatorname{mean}_{c\in G,\,i,\,j}\,(x_{c,i,j}-\mu_G)^2 . \tag{4.3}$$
#
# ### {{heading unet/group-norm}}
# `einops.rearrange` can bring into one axis what is averaged together.


# %% tags=["quiz"]
def group_normalise(x, groups):
    """Each image and each group of neighbouring channels to mean 0 and variance 1, equation (4.3).

    x: (b, c, h, w);  groups: how many, a divisor of c.  Returns a tensor like x.
    """
    ### BEGIN SOLUTION
    parts = rearrange(x, "b (g c) h w -> b g (c h w)", g=groups)
    parts = parts - parts.mean(dim=-1, keepdim=True)
    parts = parts / (parts.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return rearrange(parts, "b g (c h w) -> b (g c) h w", h=x.shape[2], w=x.shape[3])
    ### END SOLUTION


# %% tags=["check"]
group_normalise = check("unet/group-norm", group_normalise)

# %% [markdown]
# Does company matter? One image, normalised alone, among seven clean ones, and among the same seven at $t=700$.

# %%
images = train.first(8).x
one, others = images[:1], images[1:]
t = torch.full((len(others),), 700, device=lab.device)
noisy = schedule.add_noise(others, t, torch.randn(others.shape, device=lab.device, generator=lab.generator(1)))
norms = {
    "group norm": lambda x: group_normalise(x, 1),
    "batch norm": lambda x: F.batch_norm(x, None, None, training=True),
}
for name, norm in norms.items():
    for company, batch in (("clean", [one, others]), ("noisy", [one, noisy])):
        change = (norm(torch.cat(batch))[:1] - norm(one)).abs().max()
        print(f"{name}: in {company} company, a pixel changes by up to {change:.1e}")

# %% [markdown]
# PyTorch's `nn.GroupNorm` computes the same in one go, with a weight and a bias per channel. Below, the course's `group_norm(channels)` makes one, in groups of 16 channels.
#
# **Second, a way in for the step.** Each block turns the embedding $e$ into two numbers per channel, a *scale* $s$ and a *shift* $b$ (Perez et al. 2018 call it FiLM; Dhariwal and Nichol 2021 found it to help diffusion):
#
# $$\operatorname{modulate}(h, e)_{c,i,j} = (1+s_c)\,h_{c,i,j} + b_c,\qquad (s, b) = W e + \text{bias}. \tag{4.4}$$
#
# ### {{heading unet/scale-shift}}
# `condition` is $We+\text{bias}$, one row per image.


# %% tags=["quiz"]
def scale_shift(h, condition):
    """Each channel of each image times 1 + its scale, plus its shift: equation (4.4).

    h: (b, c, h, w);  condition: (b, 2c), all scales, then all shifts.  Returns a tensor like h.
    """
    ### BEGIN SOLUTION
    scale, shift = rearrange(condition, "b (two c) -> two b c 1 1", two=2)
    return h * (1 + scale) + shift
    ### END SOLUTION


# %% tags=["check"]
scale_shift = check("unet/scale-shift", scale_shift)

# %% [markdown]
# ### Where should the norm stand? *(extra)*
# A residual layer adds $f(\cdot)$ to its input. The norm may stand *before* $f$, inside the branch: $x + f(\operatorname{norm}(x))$. Or *behind* the sum: $\operatorname{norm}(x + f(x))$.
#
# #### {{heading unet/clear-road}}
# {{question unet/clear-road}}

# %% tags=["quiz"]
### BEGIN SOLUTION
clear_road = "c"
### END SOLUTION
### BEGIN HANDED OUT
# clear_road = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("unet/clear-road", clear_road)

# %% [markdown]
# #### {{heading unet/pre-norm}}
# Write both, and the next cell shows who was right.


# %% tags=["quiz"]
def residual_stack(x, branches, norm, pre):
    """x behind residual layers, one after the other.

    branches, norm: functions from a tensor to one like it;  pre: whether the norm stands inside each branch,
    before it, or (False) behind each sum.
    """
    ### BEGIN SOLUTION
    for branch in branches:
        x = x + branch(norm(x)) if pre else norm(x + branch(x))
    return x
    ### END SOLUTION


# %% tags=["check"]
residual_stack = check("unet/pre-norm", residual_stack)

# %%
with seeded(0):
    x = torch.randn(256, 256)
    branches = [nn.Linear(256, 256, bias=False) for _ in range(20)]
for branch in branches:
    nn.init.orthogonal_(branch.weight)  # what it adds is as large as what it is given
left = {"pre-norm": [], "post-norm": []}
with torch.no_grad():
    for depth in range(21):
        for name, values in left.items():
            y = residual_stack(x, branches[:depth], lambda x: F.layer_norm(x, x.shape[-1:]), name == "pre-norm")
            values.append(round(F.cosine_similarity(x.flatten(), y.flatten(), dim=0).item(), 3) + 0.0)
print(", ".join(f"{name}: {values[-1]:.3f} of the input left" for name, values in left.items()))
plots.curves(
    {name: (range(21), values) for name, values in left.items()},
    title="A norm on the main road washes the input out",
    x_label="residual layers",
    y_label="correlation with the input",
)

# %% [markdown]
# Theory says $1/\sqrt{21}=0.22$ and $2^{-10}=0.001$; a correlation over $256^2$ random numbers is good to about 0.004.
#
# ### The block
# **Third, the order.** Both norms stand inside the branch (*pre-norm*), so that nothing on the road from $x$ to the sum changes $x$: norm, then SiLU ($h\cdot\operatorname{sigmoid}(h)$), then convolution, and all three once more (He et al. 2016b). The step comes in behind the second norm:
#
# $$\operatorname{block}(x, e) = \operatorname{skip}(x) + \operatorname{conv}_2\Big(\operatorname{silu}\big(\operatorname{modulate}(\operatorname{norm}_2(h),e)\big)\Big),
#   \qquad h=\operatorname{conv}_1\big(\operatorname{silu}(\operatorname{norm}_1(x))\big). \tag{4.5}$$
#
# `skip` is the identity, or a 1 × 1 convolution where the number of channels changes. $\operatorname{conv}_2$ starts at zero, so that at first the block adds nothing.
#
# ### {{heading unet/residual-block}}
# Make the layers and lead the tensors through them. You choose the names; every block of your U-Net will be one of these.

# %% tags=["setup"]
def start_at_zero(layer):
    """A layer whose weights and bias begin at 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


# %% tags=["quiz"]
class ResidualBlock(nn.Module):
    """x and what two convolutions (3 × 3) add to it, equation (4.5).

    in_channels, out_channels: of x and of what is returned;  embedding: the length of e.
    Norms are made by group_norm(channels), what starts at zero by start_at_zero(layer).
    Called as block(x, e): x (b, in_channels, h, w), e (b, embedding); returns (b, out_channels, h, w).
    """

    ### BEGIN SOLUTION
    def __init__(self, in_channels, out_channels, embedding):
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.conv2 = start_at_zero(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.condition = nn.Linear(embedding, 2 * out_channels)
        self.skip = nn.Identity()
        if in_channels != out_channels:
            self.skip = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x, e):
        h = self.conv1(F.silu(self.norm1(x)))
        h = scale_shift(self.norm2(h), self.condition(e))
        return self.skip(x) + self.conv2(F.silu(h))
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, in_channels, out_channels, embedding):
    #     super().__init__()
    #     raise NotImplementedError("unet/residual-block: not answered yet")
    #
    # def forward(self, x, e):
    #     raise NotImplementedError("unet/residual-block: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
ResidualBlock = check("unet/residual-block", ResidualBlock)

# %% [markdown]
# ### Can a block learn that begins as nothing? *(extra)*
#
# #### {{heading unet/zero-start}}
# {{question unet/zero-start}}

# %% tags=["quiz"]
### BEGIN SOLUTION
zero_start = "a"
### END SOLUTION
### BEGIN HANDED OUT
# zero_start = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("unet/zero-start", zero_start)

# %%
with seeded(1):
    first, second = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))
    x, wanted = torch.randn(2, 8, 16, 6, 9)
for name, zeros in (("the last one at zero", [second]), ("both at zero", [first, second])):
    for layer in zeros:
        start_at_zero(layer)
    for step in (1, 2):
        loss = F.mse_loss(x + second(F.silu(first(x))), wanted)
        weights = [first.weight, second.weight]
        gradients = torch.autograd.grad(loss, weights)
        sizes = " and ".join(f"{gradient.norm():.4f}" for gradient in gradients)
        print(f"{name}, step {step}: gradients of the two convolutions {sizes}")
        for weight, gradient in zip(weights, gradients):
            weight.data -= 0.1 * gradient

# %% [markdown]
# ### {{heading unet/simpler-block}}
# Someone found scale and shift too elaborate and adds one number per channel instead, with norms that take each channel by itself. The picture shows the symptom: what the block is *told* changes with $t$, and what it *answers* doesn't.

# %%
with seeded(2):
    x, convs, step = torch.randn(1, 8, 14, 14), 0.2 * torch.randn(2, 8, 8, 3, 3), torch.randn(8, 64)
every = torch.arange(0, 1001, 20)
embedded = sinusoidal_embedding(every, 64)


def difference(y):
    """How far each row of y is from the one at t = 500, as a root mean square."""
    return (y - y[25]).flatten(1).square().mean(1).sqrt()


answers = pitfalls.simple_block(x.expand(51, -1, -1, -1), embedded, *convs, step)
plots.curves(
    {"what it is told": (every, difference(embedded @ step.T)), "what it answers": (every, difference(answers))},
    title="A block that is told the step, and answers the same",
    x_label="step t",
    y_label="difference from t = 500",
)

# %% [markdown]
# Here is its code. Find out why, and repair it; both norms, both convolutions and the shift must stay.


# %% tags=["quiz"]
def simple_block(x, e, conv1, conv2, step):
    """A residual block that shifts every channel by a number that depends on e.

    x: (b, c, h, w);  e: (b, embedding);  conv1, conv2: (c, c, 3, 3);  step: (c, embedding).
    Returns (b, c, h, w).
    """

    def normalise(h):
        mean = h.mean(dim=(2, 3), keepdim=True)
        variance = h.var(dim=(2, 3), keepdim=True, correction=0)
        return (h - mean) / (variance + 1e-5).sqrt()

    h = F.silu(normalise(x))
    h = F.conv2d(h, conv1, padding=1)
    shift = F.linear(e, step)[:, :, None, None]
    ### BEGIN SOLUTION
    h = normalise(h) + shift  # the other way round, the norm takes the shift out again
    h = F.silu(h)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # h = normalise(h + shift)
    # h = F.silu(h)
    ### END HANDED OUT
    h = F.conv2d(h, conv2, padding=1)
    return x + h


# %% tags=["check"]
simple_block = check("unet/simpler-block", simple_block)

# %%
repaired = simple_block(x.expand(51, -1, -1, -1), embedded, *convs, step)
plots.curves(
    {"what it answered": (every, difference(answers)), "what it answers now": (every, difference(repaired))},
    title="The block before and after the repair",
    x_label="step t",
    y_label="difference from t = 500",
)

# %% [markdown]
# ### {{heading unet/blind}}
# {{question unet/blind}}

# %% tags=["quiz"]
### BEGIN SOLUTION
blind = "d"
### END SOLUTION
### BEGIN HANDED OUT
# blind = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("unet/blind", blind)

# %% [markdown]
# **A place to pause.** You have the block of which nearly all of the network is made. After the break: attention, the ways down and up, and the wiring.
#
# ## 4.4 · Asking all other pixels
#
# A convolution looks at fixed places. **Attention** (Vaswani et al. 2017) lets the content decide where to look. Each pixel asks a question, a vector $q$; each pixel offers a key $k$ and a value $v$.
# How well a question fits a key is a scalar product; a softmax makes weights of it, and the pixel takes home the weighted mean of the values:
#
# $$\operatorname{attention}(q,k,v)_i = \sum_j a_{ij}\,v_j,\qquad a_{ij} = \operatorname{softmax}_j\big(q_i\cdot k_j/\sqrt d\big) \tag{4.6}$$
#
# where $d$ is the length of $q$. (Why the root: a scalar product of $d$ independent numbers of variance 1 has variance $d$.)
#
# ### {{heading unet/attention}}
# For all images, heads and queries at once, without a loop. There may be more keys than queries.


# %% tags=["quiz"]
def attention(q, k, v):
    """What every query gathers, equation (4.6).

    q: (b, heads, n, d);  k, v: (b, heads, m, d).  Returns (b, heads, n, d).
    """
    ### BEGIN SOLUTION
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return scores.softmax(dim=-1) @ v
    ### END SOLUTION


# %% tags=["check"]
attention = check("unet/attention", attention)

# %% [markdown]
# ### What is it good for?
# Your function can denoise without any training. Let question and key of a pixel come from the 5 × 5 patch around it, so that $q_i\cdot k_j$ is large where patches look alike (`patch_queries` makes them), and let its value be the pixel itself.
# This is *non-local means* (Buades, Coll and Morel 2005), a classic of image denoising, and it is attention.
#
# #### {{heading unet/tokens}}
# Attention knows no images, only *tokens*: rows of vectors. Lay the pixels in a row, let them gather, and make an image of them again.


# %% tags=["quiz"]
def gather_pixels(images, q, k):
    """The images whose pixels are what each pixel gathers, by your `attention`, when pixels are the values.

    images: (b, c, h, w);  q, k: (b, 1, h · w, d), row by row.  Returns (b, c, h, w).
    """
    ### BEGIN SOLUTION
    tokens = rearrange(images, "b c h w -> b 1 (h w) c")
    gathered = attention(q, k, tokens)
    return rearrange(gathered, "b 1 (h w) c -> b c h w", h=images.shape[2])
    ### END SOLUTION


# %% tags=["check"]
gather_pixels = check("unet/tokens", gather_pixels)

# %%
sigma, picture = 0.25, test.take(torch.tensor([0], device=lab.device)).cpu()
h, w = picture.shape[2:]
noisy = picture + sigma * torch.randn(picture.shape, generator=lab.generator(3, "cpu"))
q, k = patch_queries(noisy, sharpness=1 / (25 * picture.shape[1] * sigma**2))
blurred = F.avg_pool2d(F.pad(noisy, (1,) * 4, mode="reflect"), 3, stride=1)
shown = {"noisy": noisy, "attention": gather_pixels(noisy, q, k), "blurred, 3 × 3": blurred}
for name, image in shown.items():
    print(f"{name}: mean squared error {(image - picture).square().mean():.4f} per pixel")

edge = picture[0, 0, 6:22, 6:22].diff(dim=1).abs().argmax()  # a pixel at the strongest edge
row, column = 6 + int(edge) // 15, 6 + int(edge) % 15
everyone = torch.eye(h * w)[None, None]  # values that tell all pixels apart: gathered are the weights
weights = attention(q, k, everyone)[0, 0, row * w + column].reshape(h, w)
maps = {name: image[0].clamp(-1, 1) for name, image in shown.items()}
plots.panels(
    maps | {"weights of the\nmarked pixel": weights**0.25},
    title=f"{test.title}: attention averages over patches that look alike, wherever they are",
    diverging=False,
    mark={"noisy": (row, column), "weights of the\nmarked pixel": (row, column)},
)

# %% [markdown]
# The marked pixel collects from places of the same kind (the fourth root of the weights is shown), so that an edge is averaged along itself. A blur takes what is near, and edges go.
#
# In a network nobody chooses patches: it learns what to ask, what to offer and what to hand over. The channels are split into several shorter $q$, $k$, $v$, the **heads**, each with weights of its own, so that a pixel can look at several places at once.
#
# ### {{heading unet/heads}}
# `group_norm`, one 1 × 1 convolution from $c$ to $3c$ channels (first all of $q$, then $k$, then $v$, each split into heads), your `attention`, a second 1 × 1 convolution that starts at zero, and the short cut.


# %% tags=["quiz"]
class Attention(nn.Module):
    """x and what every pixel gathers from all pixels of the same image.

    channels: of x and of what is returned;  heads: how many, a divisor of channels.
    Called as layer(x): x (b, channels, h, w), of any height and width.
    """

    ### BEGIN SOLUTION
    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = start_at_zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x):
        mixed, (h, w) = self.qkv(self.norm(x)), x.shape[2:]
        tokens = "b (three heads c) h w -> three b heads (h w) c"
        q, k, v = rearrange(mixed, tokens, three=3, heads=self.heads)
        gathered = attention(q, k, v)
        return x + self.out(rearrange(gathered, "b heads (h w) c -> b (heads c) h w", h=h, w=w))
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, channels, heads):
    #     super().__init__()
    #     raise NotImplementedError("unet/heads: not answered yet")
    #
    # def forward(self, x):
    #     raise NotImplementedError("unet/heads: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
Attention = check("unet/heads", Attention)

# %% [markdown]
# ## 4.5 · Down and up again
#
# Down is easy: a convolution with stride 2. Up, we take **pixel shuffle** (Shi et al. 2016): compute four times the channels and lay them out as squares of 2 × 2.
#
# ### Why not a transposed convolution? *(extra)*
# It lets every input pixel *stamp* its kernel, times the pixel's value, onto a larger sheet; neighbours stamp `stride` pixels apart, and where stamps overlap they add up.
#
# #### {{heading unet/checkerboards}}
# {{question unet/checkerboards}}

# %% tags=["quiz"]
### BEGIN SOLUTION
checkerboards = "a"
### END SOLUTION
### BEGIN HANDED OUT
# checkerboards = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("unet/checkerboards", checkerboards)

# %% [markdown]
# #### {{heading unet/stamp}}
# Stamp it yourself, for one channel.


# %% tags=["quiz"]
def stamp(x, kernel, stride):
    """A transposed convolution by hand.

    x: (h, w);  kernel: (k, m), not always square.  Returns the whole sheet, just large enough for all stamps.
    """
    ### BEGIN SOLUTION
    (h, w), (k, m) = x.shape, kernel.shape
    sheet = x.new_zeros((h - 1) * stride + k, (w - 1) * stride + m)
    for i in range(h):
        for j in range(w):
            sheet[i * stride : i * stride + k, j * stride : j * stride + m] += x[i, j] * kernel
    return sheet
    ### END SOLUTION


# %% tags=["check"]
stamp = check("unet/stamp", stamp)

# %% [markdown]
# Two other ways: **resize-convolution** copies every pixel into a 2 × 2 square and runs an ordinary convolution over it, and **pixel shuffle**. Do they treat all pixels alike? A constant image tells.

# %%
flat = torch.ones(12, 12)
ways_up = {
    "stamp of 3 × 3": lambda made: stamp(flat, made(3, 3), 2),
    "stamp of 4 × 4": lambda made: stamp(flat, made(4, 4), 2),
    "resize, then 3 × 3": lambda made: F.conv2d(torch.ones(1, 1, 24, 24), made(1, 1, 3, 3))[0, 0],
    "pixel shuffle": lambda made: F.pixel_shuffle(flat * made(4, 1, 1), 2)[0],
}
planes = {}
with seeded(5):
    for weights, made in (("equal weights", torch.ones), ("random weights", torch.randn)):
        for name, way in ways_up.items():
            plane = way(made)[5:17, 5:17]  # the middle, where no border is felt
            planes[f"{name}\n{weights}"] = ((plane - plane.mean()) / plane.abs().max()).round(decimals=4)
plots.panels(planes, columns=4, title="A constant image, enlarged: white is the mean, colours stray")

# %% [markdown]
# In the top row only the 3 × 3 stamp fails, since 3 is no multiple of 2 (Odena, Dumoulin and Olah 2016). The bottom row adds a second effect: a 4 × 4 stamp and pixel shuffle give the four places of a square *weights of their own*, which start at random. That pattern is an accident of the draw, and training can remove it.
# Resize-convolution has neither effect, but runs on four times the pixels.
#
# ### Pixels into channels
# Pixel *un*shuffle goes the other way. It lays each square of $r\times r$ pixels into the channels of a single place:
#
# $$y_{\,c r^2 + a r + b,\;i,\;j} \;=\; x_{\,c,\; r i + a,\; r j + b},\qquad 0\le a,b<r . \tag{4.7}$$
#
# It is the first layer of our network: 28 × 28 becomes 14 × 14 with four channels, and everything behind runs over a quarter of the places.
#
# ### {{heading unet/space-to-depth}}
# One `rearrange` will do.


# %% tags=["quiz"]
def space_to_depth(x, patch):
    """Squares of patch × patch pixels become channels, equation (4.7).

    x: (b, c, h, w), h and w multiples of patch.  Returns (b, c · patch², h / patch, w / patch).
    """
    ### BEGIN SOLUTION
    return rearrange(x, "b c (h p) (w r) -> b (c p r) h w", p=patch, r=patch)
    ### END SOLUTION


# %% tags=["check"]
space_to_depth = check("unet/space-to-depth", space_to_depth)

# %% [markdown]
# ## 4.6 · Wire it
#
# **On the way down**, each level halves its input and runs a block. What it returns goes two ways: further down, and as a *copy* straight across.
#
# ### {{heading unet/down}}
# The finest level has nothing above it, so it doesn't halve.


# %% tags=["quiz"]
class Down(nn.Module):
    """A level on the way down: a 3 × 3 convolution with stride 2 (unless it is the finest level), then a block.

    width: channels of this level;  embedding: the length of e;
    before: channels of the finer level that h comes from, None at the finest level, which doesn't halve.
    Called as level(h, e); returns (b, width, ...).
    """

    ### BEGIN SOLUTION
    def __init__(self, width, embedding, before=None):
        super().__init__()
        self.halve = nn.Identity()
        if before is not None:
            self.halve = nn.Conv2d(before, width, 3, stride=2, padding=1)
        self.block = ResidualBlock(width, width, embedding)

    def forward(self, h, e):
        return self.block(self.halve(h), e)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, width, embedding, before=None):
    #     super().__init__()
    #     raise NotImplementedError("unet/down: not answered yet")
    #
    # def forward(self, h, e):
    #     raise NotImplementedError("unet/down: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
Down = check("unet/down", Down)

# %% [markdown]
# **On the way up**, each level gets what comes from below, $h$, and the copy $c$ of the same size, lays them side by side along the channels, runs a block, and enlarges:
#
# $$u = \operatorname{enlarge}\big(\operatorname{block}\big(\big[\,h,\; c\,\big], e\big)\big) \tag{4.8}$$
#
# ### {{heading unet/up}}
# The finest level doesn't enlarge. (Don't call a part `double`: every `nn.Module` has a method of that name.)


# %% tags=["quiz"]
class Up(nn.Module):
    """A level on the way up, equation (4.8).

    width: channels of h and of the copy, and of what the block returns;  embedding: the length of e;
    after: channels that the finer level wants, None at the finest level, which doesn't enlarge.
    To enlarge: a 1 × 1 convolution to 4 · after channels, then nn.PixelShuffle(2).
    Called as level(h, copy, e).
    """

    ### BEGIN SOLUTION
    def __init__(self, width, embedding, after=None):
        super().__init__()
        self.block = ResidualBlock(2 * width, width, embedding)
        self.enlarge = nn.Identity()
        if after is not None:
            self.enlarge = nn.Sequential(nn.Conv2d(width, 4 * after, 1), nn.PixelShuffle(2))

    def forward(self, h, copy, e):
        return self.enlarge(self.block(torch.cat([h, copy], dim=1), e))
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, width, embedding, after=None):
    #     super().__init__()
    #     raise NotImplementedError("unet/up: not answered yet")
    #
    # def forward(self, h, copy, e):
    #     raise NotImplementedError("unet/up: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
Up = check("unet/up", Up)

# %% [markdown]
# ### {{heading unet/forward}}
# The heart of this notebook. From outside in:
#
# | what | made of |
# |---|---|
# | time | `sinusoidal_embedding(t, 64)`, then linear, SiLU, linear, SiLU; the embedding $e$ has 4 · widths[0] numbers, and so has what lies between |
# | stem | `space_to_depth`, then a 3 × 3 convolution to widths[0] channels |
# | down | one `Down` per width, finest first; keep what each returns |
# | bottom | `Attention` with heads of 32 channels (one head where there are fewer), then a `ResidualBlock` |
# | up | one `Up` per width, coarsest first; each gets the copy of its own size |
# | head | `group_norm`, SiLU, a 3 × 3 convolution that starts at zero, `F.pixel_shuffle` back to the image's size |


# %% tags=["quiz"]
class UNet(nn.Module):
    """Noisy images and their steps → one prediction for every pixel, of any kind.

    shape: (c, h, w) of the images;  widths: channels of each level, finest first;
    patch: the side of the squares that space_to_depth takes.
    Called as net(x, t): x (b, c, h, w), t (b,) steps from 1 to 1000; returns a tensor like x.
    """

    ### BEGIN SOLUTION
    def __init__(self, shape, widths=(32, 64), patch=2):
        super().__init__()
        fine, deep, pixels, e = widths[0], widths[-1], shape[0] * patch**2, 4 * widths[0]
        levels = list(zip(widths, (None, *widths)))  # each with the width of the finer one
        self.patch = patch
        self.time = nn.Sequential(nn.Linear(64, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        self.stem = nn.Conv2d(pixels, fine, 3, padding=1)
        self.down = nn.ModuleList(Down(width, e, finer) for width, finer in levels)
        self.attention = Attention(deep, max(1, deep // 32))
        self.middle = ResidualBlock(deep, deep, e)
        self.up = nn.ModuleList(Up(width, e, finer) for width, finer in reversed(levels))
        self.norm = group_norm(fine)
        self.head = start_at_zero(nn.Conv2d(fine, pixels, 3, padding=1))

    def forward(self, x, t):
        e = self.time(sinusoidal_embedding(t, 64))
        h = self.stem(space_to_depth(x, self.patch))
        copies = []
        for level in self.down:
            h = level(h, e)
            copies.append(h)
        h = self.middle(self.attention(h), e)
        for level in self.up:
            h = level(h, copies.pop(), e)  # last in, first out
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, shape, widths=(32, 64), patch=2):
    #     super().__init__()
    #     raise NotImplementedError("unet/forward: not answered yet")
    #
    # def forward(self, x, t):
    #     raise NotImplementedError("unet/forward: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
UNet = check("unet/forward", UNet)

# %% [markdown]
# Trace it: which stages does an image pass, what does each hold and cost? (`tracing.stages` lists the parts in the order in which they compute, by your names; `tracing.copies` finds which results come in again later.)

# %%
with seeded(0):
    net = UNet(train.shape).to(lab.device)
x, t = torch.randn(2, *train.shape, device=lab.device), torch.tensor([1, 1000], device=lab.device)
stages, copies = tracing.stages(net, x, t), tracing.copies(net, x, t)
print(tracing.as_table(stages))
print("\ncopies:", "; ".join(f"{start} → {end}" for start, end in copies))

# %%
planar = [stage for stage in stages if len(stage.shape) == 3]
names = [stage.name for stage in planar]
boxes = [("image", train.shape), *((stage.name, stage.shape) for stage in planar), ("answer", train.shape)]
pairs = [(1 + names.index(start), 1 + names.index(end)) for start, end in copies]
plots.network(boxes, pairs, title="Your network, to scale: red copies pass by the narrow part")

# %% [markdown]
# Most weights sit where the image is small and channels are many. The multiplications are spread more evenly, for halving height and width while doubling the channels leaves a convolution's cost as it is.
# (A stage stands there with what it returns: `up.0` runs its block at 7 × 7, where the copy of `down.1` comes in, and enlarges at its end.)
#
# How narrow is the narrow part? 7 × 7 places with 64 channels are 3,136 numbers, four times as many as the image has pixels. Remember that in 4.8.
#
# ## 4.7 · Let it draw
#
# What the network learns to name is $v=\sqrt{\bar\alpha_t}\,\varepsilon-\sqrt{1-\bar\alpha_t}\,x_0$, a mixture of noise and image; notebook 05 says why, and takes `fit` apart, which runs the training. Notebook 06 derives `ddim`, which walks from noise to images in 50 steps, asking your network in each. Here both are calls. The network is yours.

# %%
steps = lab.pick(smoke=12, cpu=1200, gpu=6000)
batch = lab.pick(smoke=32, cpu=64, gpu=128)
recipe = ddpm_recipe(steps, batch_size=batch, ema=lab.pick(smoke=0.5, cpu=0.99, gpu=0.999))
history = fit(net, diffusion_loss(schedule, prediction_type="v"), train, recipe)
net = history.ema_model  # the running average of its weights draws better: notebook 05
print(f"{steps_made(history)} of {batch} images each")

# %%
denoise = clipped(Denoiser(net, schedule, "v"))
start = torch.randn(40, *train.shape, generator=lab.generator(6), device=lab.device)
drawn = last(ddim(denoise, schedule, start, steps=lab.pick(smoke=5, cpu=50, gpu=50)))
plots.image_grid(drawn, columns=10, title=f"Drawn by the network that you wrote ({steps_made(history)}, {train.title})")

# %% [markdown]
# Each of these began as noise. Some are whole, some are not: a minute is short. Notebook 05 takes the training apart, notebook 06 the drawing.
#
# ## 4.8 · Take parts away
#
# What is each part good for? Ask by **ablation**: leave one part out, train everything else alike, and compare. One run proves little, for another seed gives another loss. So six kinds of network were trained three times each, beforehand, on Fashion-MNIST (`benchmarks/ablations.py`; 360 steps of 32 images, widths 16 and 32). The first of each kind comes with the course.
#
# Two of the six have a bottom of only 4 channels, 7 × 7 × 4 = 196 numbers for 784 pixels, once with and once without the copy that passes it.
#
# **Predict, then run.** By how many percent will the loss rise when the copies are missing, and the bottom is *wide*?

# %% tags=["predict"]
predict("unet/no-skips", "Loss without skips, in % more than with them", 0, 60, unit="%")

# %%
kinds = ("full", "no skips", "narrow", "narrow, no skips", "no time", "no attention")
files = {kind: SHIPPED / "ablations" / f"{kind.replace(', ', '-').replace(' ', '-')}.safetensors" for kind in kinds}
ablated = {kind: load_denoiser(path, device=lab.device) for kind, path in files.items()}
levels = torch.tensor(ablated["full"].card["at t"])
losses = {kind: torch.tensor(list(net.card["on the test split"].values())) for kind, net in ablated.items()}
rise = {kind: 100 * (loss.mean(1) / losses["full"].mean() - 1) for kind, loss in losses.items()}
middle = {kind: round(percent.mean().item(), 1) + 0.0 for kind, percent in rise.items()}
for kind, percent in rise.items():
    apart = percent.min() > rise["full"].max()
    verdict = "" if kind == "full" else "apart from all three full ones" if apart else "no finding: they overlap"
    print(f"{kind:18s}{middle[kind]:+6.1f} %, from {percent.min():+.1f} to {percent.max():+.1f}   {verdict}")
apart_from = {kind: percent for kind, percent in rise.items() if kind != "narrow, no skips"}
plots.bars(
    {kind: middle[kind] for kind in apart_from},
    errors={kind: percent.std() for kind, percent in apart_from.items()},
    title=f"Loss against full (narrow, no skips: {rise['narrow, no skips'].mean():+.0f} %, off the chart)",
    y_label="% more (± standard deviation)",
    form="+.1f",
)

# %%
ratio = {kind: losses[kind] / losses["full"].mean(0) for kind in ("full", "no skips", "no time", "no attention")}
plots.curves(
    {kind: (levels, each.mean(0)) for kind, each in ratio.items()},
    band={kind: (each.amin(0), each.amax(0)) for kind, each in ratio.items()},
    title="Where each missing part costs: mean of three seeds, and their range",
    x_label="step t",
    y_label="loss ÷ mean of the full networks",
)

# %%
reveal("unet/no-skips", round(rise["no skips"].mean().item(), 1))

# %% [markdown]
# A printed line says "apart" only where the best of three runs without a part is worse than the worst of three full ones.
#
# *Copies.* With a wide bottom the network loses a few percent without them, for 1,568 numbers can carry 784 pixels past the turning point. The curve says where: more than a tenth at medium $t$, while at $t=20$ all three networks without copies are *ahead* of the full ones. The bar is a mean over both. With a narrow bottom they are everything: *with* them, a bottom an eighth as wide costs a few percent; *without* them the loss more than doubles. A wide bottom and copies are two answers to the question of 4.1.
#
# *Attention.* At 7 × 7 a few convolutions see the whole image. What the line says holds for this small network and so short a training; Dhariwal and Nichol (2021) found attention to help on larger and richer images.
#
# ### What does the harm look like?
# A network can also guess the whole image in a single step. *Grain* is what a 3 × 3 blur takes out of that guess, as a mean square.

# %%
shape = ablated["full"].shape
start = torch.randn(8, *shape, generator=lab.generator(7), device=lab.device)
seen = ("full", "narrow, no skips", "no time", "no attention")
rows = {
    f"{kind}, {count} step{'s' * (count > 1)}": last(ddim(clipped(ablated[kind]), schedule, start, steps=count))
    for count in (1, 25)
    for kind in seen
}
for kind in seen:
    grain = torch.tensor(list(ablated[kind].card["grain at t = 1000"].values()))
    print(f"{kind}: grain of the one-step guesses {grain.min():.4f} to {grain.max():.4f}, three seeds")
plots.image_rows(rows, title="From the same noise, in one step and in 25")

# %%
drawer = load_denoiser("fashion-mnist", device=lab.device)  # a larger model of the course draws clean images
compared = last(ddim(clipped(drawer), drawer.schedule, start, steps=lab.pick(smoke=5, cpu=25, gpu=50))).clamp(-1, 1)
fixed_noise = torch.randn(compared.shape, generator=lab.generator(8), device=lab.device)


@torch.no_grad()
def compare(t):
    steps_of = torch.full((len(compared),), t, device=lab.device)
    x_t = schedule.add_noise(compared, steps_of, fixed_noise)
    rows = {"clean": compared, f"noisy, t = {t}": x_t.clamp(-1, 1)}
    for kind in ("full", "no skips", *seen[1:]):
        guess = ablated[kind](x_t, steps_of)
        rows[f"{kind}: {(guess - compared).square().mean():.4f}"] = guess
    return plots.image_rows(rows, title=f"Guesses of the clean image at t = {t}, with squared errors")


explore(
    compare,
    t=slider(20, 980, value=100, step=20),
    title="At which noise level could you tell which part is missing?",
    alt="Clean and noisy images, and what five networks make of the noisy ones in one step",
)

# %% [markdown]
# Where no copy passes the narrow bottom, 25 steps leave the noise where it was: to take it away it must be *named*, pixel by pixel, and 196 numbers can't do that for 784 pixels.
# Without time, the guess from pure noise keeps about twice the grain, and with every seed more than any full network. In 25 steps the eye hardly finds it any more. That was the question behind the bug hunt.
# Move the slider to small $t$, and then to large.
#
# ## 4.9 · A look inside *(extra)*
#
# What happens between stem and head? The explorer shows the ten channels of a stage that vary most, for one image at any noise level.
# Follow a stage while $t$ grows: where do you still see the grain of the noise, and where only the thing itself?

# %%
places = {stage.name: net.get_submodule(stage.name) for stage in planar}


@torch.no_grad()
def look_inside(stage, t, image):
    x0, step = test.x[[image % len(test)]], torch.tensor([t], device=lab.device)
    noise = torch.randn(x0.shape, generator=lab.generator(9), device=lab.device)
    x_t = schedule.add_noise(x0, step, noise)
    with tracing.watched(places[stage]) as seen:
        guess = denoise(x_t, step)
    maps = seen[0][0].float()
    active = maps.flatten(1).std(1).argsort(descending=True)[:10]
    shown = {"noisy": x_t[0].clamp(-1, 1), "guess": guess[0]} | {f"channel {int(c)}": maps[c] for c in active}
    return plots.panels(shown, title=f"{test.title}, {stage} at t = {t}: the most active channels", columns=6)


explore(
    look_inside,
    stage=choice(list(places), value=names[2]),
    t=slider(1, 1000, value=300),
    image=slider(0, 7, label="test image"),
    title="Down to which stage do you still see the noise?",
    alt="A noisy image, the guessed clean image, and ten feature maps of one stage of the network",
)

# %% [markdown]
# How does the step act on all this? By the scales and shifts of (4.4). Here are the scales of the first block over all $t$: a mixing desk, and $t$ moves the faders. White is 1, which changes nothing.

# %%
every = torch.linspace(1, 1000, 101, device=lab.device)
block = next(part for part in net.modules() if isinstance(part, ResidualBlock))
with torch.no_grad(), tracing.watched(next(part for part in block.modules() if isinstance(part, nn.Linear))) as seen:
    net(torch.zeros(101, *train.shape, device=lab.device), every)
scales = 1 + seen[0].chunk(2, dim=1)[0].T.float()
plots.heatmap(
    scales[scales.mean(1).argsort()],
    title=f"{train.title}, your first block: what each channel is multiplied with",
    x_label="step t",
    y_label="channel (sorted)",
    unit="1 + scale",
    centre=1,
    x=every,
)

# %% [markdown]
# And where do the two heads look? The weights of one pixel in the middle and one near the corner, at the bottom of your network, which is 7 × 7 pixels small.

# %%
layer = next(part for part in net.modules() if isinstance(part, Attention))
mixing = next(part for part in layer.modules() if isinstance(part, nn.Conv2d) and part.out_channels > part.in_channels)
x0, step = test.x[:1], torch.tensor([300], device=lab.device)
x_t = schedule.add_noise(x0, step, torch.randn(x0.shape, generator=lab.generator(9), device=lab.device))
with torch.no_grad(), tracing.watched(mixing) as seen:
    net(x_t, step)
h, w = seen[0].shape[2:]
q, k, _ = rearrange(seen[0].float(), "b (three heads c) h w -> three b heads (h w) c", three=3, heads=2)
weights = attention(q, k, torch.eye(h * w, device=lab.device).expand(1, 2, -1, -1))[0]
spots = {"middle": (h // 2, w // 2), "corner": (1, 1)}
maps = {f"head {n + 1},\n{name}": weights[n, i * w + j].reshape(h, w) for n in (0, 1) for name, (i, j) in spots.items()}
plots.panels(
    {"noisy, t = 300": x_t[0].clamp(-1, 1)} | maps,
    title=f"{test.title}: where two heads look, for the marked pixel",
    diverging=False,
    mark={f"head {n + 1},\n{name}": spot for n in (0, 1) for name, spot in spots.items()},
)

# %% [markdown]
# ### {{heading unet/looks-at}}
# By (4.1) an output pixel may see everything. What does the trained network *use*? Ask the gradient: how does the answer in the middle change with each input pixel? `torch.autograd.grad` computes it.


# %% tags=["quiz"]
def looks_at(model, x_t, t):
    """How strongly the answer in the middle depends on each input pixel: (h, w).

    model: called as model(x_t, t);  x_t: (b, c, h, w);  t: (b,).  The middle is row h // 2, column w // 2.
    Returns the absolute value of the gradient, its mean over images and channels.
    """
    ### BEGIN SOLUTION
    x_t = x_t.detach().clone().requires_grad_()
    h, w = x_t.shape[2:]
    middle = model(x_t, t)[..., h // 2, w // 2]
    (slope,) = torch.autograd.grad(middle.sum(), x_t)  # images don't mix: a sum keeps them apart
    return slope.abs().mean(dim=(0, 1))
    ### END SOLUTION


# %% tags=["check"]
looks_at = check("unet/looks-at", looks_at)

# %%
x0, planes = test.x[:64], {}
noise = torch.randn(x0.shape, generator=lab.generator(8), device=lab.device)
for t in (20, 300, 600, 950):
    steps_of = torch.full((len(x0),), t, device=lab.device)
    plane = looks_at(net, schedule.add_noise(x0, steps_of, noise), steps_of).cpu()
    h, w = plane.shape
    squares = [plane[h // 2 - r : h // 2 + r + 1, w // 2 - r : w // 2 + r + 1].sum() for r in range(min(h, w) // 2)]
    side = 2 * sum(square < 0.5 * plane.sum() for square in squares) + 1
    planes[f"t = {t}\nhalf within {side} × {side}"] = (plane / plane.max()).sqrt()
layers = [(2, 2), (3, 1)] + [(3, 1)] * 2 + [(3, 2)] + [(3, 1)] * 6  # unshuffle, stem, block, halve, three blocks
print(f"by (4.1), at least {reach(layers)[-1]} pixels in a row are within reach of the convolutions")
plots.panels(
    planes,
    title=f"{test.title}: what the answer in the middle depends on (root of the gradient)",
    diverging=False,
    shared=True,
    unit="share of the largest",
)

# %% [markdown]
# Luo et al. (2016) call this the effective receptive field. With little noise the neighbours say enough about a pixel; with much noise one has to look around. The squares that hold half of the gradient say whether your network has learned that.
#
# ## 4.10 · Attention without the table *(extra)*
#
# The table of weights $a_{ij}$ has a row and a column for every pixel. **Predict, then run.** You double height and width of an image: how many times more entries does the table have?

# %% tags=["predict"]
predict("unet/attention-table", "Entries of the table: twice the height and width ÷ before", 1, 64)

# %%
reveal("unet/attention-table", (2 * 28 * 2 * 28) ** 2 / (28 * 28) ** 2)

# %% [markdown]
# The product $(q k^\top) v$ could be bracketed as $q\,(k^\top v)$, with a small $d\times d$ matrix in the middle and no table anywhere, if only the softmax didn't stand in between. So take the softmax elsewhere: of $q$ and of $k$ by themselves
# (Shen et al. 2021; Katharopoulos et al. 2020 use other functions to the same end):
#
# $$\operatorname{linear}(q,k,v) = \operatorname{softmax}_d(q)\,\Big(\operatorname{softmax}_n(k)^\top v\Big) . \tag{4.9}$$
#
# The softmax of $k$ runs over the *pixels*: each of its $d$ channels becomes a map of where to look. The softmax of $q$ runs over *channels*: each pixel mixes what $d$ such maps have seen.
#
# ### {{heading unet/linear-attention}}
# Mind the order of the products: no table may ever exist.


# %% tags=["quiz"]
def linear_attention(q, k, v):
    """What every query gathers by way of d summaries, equation (4.9).

    q: (b, heads, n, d);  k, v: (b, heads, m, d).  Returns (b, heads, n, d).
    """
    ### BEGIN SOLUTION
    summary = k.softmax(dim=-2).transpose(-1, -2) @ v
    return q.softmax(dim=-1) @ summary
    ### END SOLUTION


# %% tags=["check"]
linear_attention = check("unet/linear-attention", linear_attention)

# %%
gathers = {"softmax attention": attention, "linear attention": linear_attention}
sides = lab.pick(smoke=(8, 16, 32), cpu=(8, 12, 16, 24, 32, 48, 64), gpu=(16, 32, 64, 96))
took = {name: [] for name in gathers}
for side in sides:
    q, k, v = torch.randn(3, 1, 1, side * side, 32, device=lab.device)
    for name, gather in gathers.items():
        with torch.no_grad():
            took[name].append(tracing.milliseconds(gather, q, k, v, repeats=3))
plots.curves(
    {name: ([side**2 for side in sides], times) for name, times in took.items()},
    title="Time on one core: the table costs more and more",
    x_label="pixels (h · w)",
    y_label="milliseconds",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# Time follows the count only roughly: small sizes are all overhead, and a table that no longer fits the processor's cache costs extra. This is why U-Nets put softmax attention only where images are small. And what is the price of the cheap one?
#
# ### {{heading unet/linear-price}}
# {{question unet/linear-price}}

# %% tags=["quiz"]
### BEGIN SOLUTION
linear_price = "c"
### END SOLUTION
### BEGIN HANDED OUT
# linear_price = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("unet/linear-price", linear_price)

# %%
q, k = torch.randn(2, 1, 1, 14 * 14, 32, generator=lab.generator(4, "cpu"), dtype=torch.float64)
everyone = torch.eye(14 * 14, dtype=torch.float64)[None, None]
for name, gather in gathers.items():
    table = gather(4 * q, 4 * k, everyone)[0, 0]
    print(
        f"{name}: rows sum to {table.sum(1).min():.3f} … {table.sum(1).max():.3f}, "
        f"rank {torch.linalg.matrix_rank(table)} of {len(table)}"
    )

# %% [markdown]
# ### {{heading unet/other-attention}}
# Somebody wrote an attention layer without einops. To test it, a shoe (or whatever your data show first) goes in with questions and keys by which every pixel finds exactly *itself*. What is gathered should be the picture.

# %%
shown = test.x[:1, :1].cpu()
x, qkv, out = pitfalls.to_itself(shown)
gathered = (pitfalls.image_attention(x, qkv, out, heads=1) - x)[:, :1]
plots.panels({"went in": shown[0], "was gathered": gathered[0]}, title="What has happened to the picture?")

# %% [markdown]
# All shapes fit, on any image, square or not. Find the slip and repair it.


# %% tags=["quiz"]
def image_attention(x, qkv, out, heads):
    """x + self-attention of its pixels, (4.6), with matrices for weights.

    x: (b, c, h, w);  qkv: (3c, c), q, k and v one after the other, each split into heads;  out: (c, c).
    Returns (b, c, h, w).
    """
    b, c, h, w = x.shape
    size = c // heads
    mixed = torch.einsum("oc, bchw -> bohw", qkv, x)
    mixed = mixed.reshape(b, 3, heads, size, h * w)
    q, k, v = mixed.mT.unbind(dim=1)
    gathered = attention(q, k, v)
    gathered = gathered.mT
    ### BEGIN SOLUTION
    gathered = gathered.reshape(b, c, h, w)  # row by row, as they went in
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # gathered = gathered.reshape(b, c, w, h).mT
    ### END HANDED OUT
    return x + torch.einsum("oc, bchw -> bohw", out, gathered)


# %% tags=["check"]
image_attention = check("unet/other-attention", image_attention)

# %%
repaired = (image_attention(x, qkv, out, heads=1) - x)[:, :1]
plots.panels(
    {"went in": shown[0], "was gathered": gathered[0], "is gathered now": repaired[0]},
    title="The picture before and after the repair",
)

# %% [markdown]
# ### {{heading unet/mirrored}}
# {{question unet/mirrored}}

# %% tags=["quiz"]
### BEGIN SOLUTION
mirrored = "b"
### END SOLUTION
### BEGIN HANDED OUT
# mirrored = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("unet/mirrored", mirrored)

# %% [markdown]
# ## 4.11 · Fewer multiplications, but faster? *(extra)*
#
# A convolution from $c$ to $d$ channels with a $k\times k$ kernel takes, for an image of $h\times w$ and with channels split into $g$ groups that don't mix,
#
# $$h\,w\,k^2\,\frac{c\,d}{g} \tag{4.10}$$
#
# multiplications. With $g=c=d$ every channel has a kernel to itself: a *depthwise* convolution, cheap even at 7 × 7. The **ConvNeXt** block (Liu et al. 2022) is built on it, and some tutorials on diffusion use it in place of the residual block.
#
# ### {{heading unet/convnext}}
# In this order: a depthwise 7 × 7 convolution, a group norm with one group, `scale_shift` (of in_channels channels), a 1 × 1 convolution to 2 · out_channels, GELU, a 1 × 1 convolution to out_channels that starts at zero; and the short cut of your residual block.


# %% tags=["quiz"]
class ConvNeXtBlock(nn.Module):
    """x and what a wide depthwise convolution and two 1 × 1 convolutions add to it.

    Arguments, call and result as in ResidualBlock.
    """

    ### BEGIN SOLUTION
    def __init__(self, in_channels, out_channels, embedding):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 7, padding=3, groups=in_channels)
        self.norm = nn.GroupNorm(1, in_channels)
        self.condition = nn.Linear(embedding, 2 * in_channels)
        self.widen = nn.Conv2d(in_channels, 2 * out_channels, 1)
        self.narrow = start_at_zero(nn.Conv2d(2 * out_channels, out_channels, 1))
        self.skip = nn.Identity()
        if in_channels != out_channels:
            self.skip = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x, e):
        h = scale_shift(self.norm(self.depthwise(x)), self.condition(e))
        return self.skip(x) + self.narrow(F.gelu(self.widen(h)))
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, in_channels, out_channels, embedding):
    #     super().__init__()
    #     raise NotImplementedError("unet/convnext: not answered yet")
    #
    # def forward(self, x, e):
    #     raise NotImplementedError("unet/convnext: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
ConvNeXtBlock = check("unet/convnext", ConvNeXtBlock)

# %% [markdown]
# Count, then look at the clock: both blocks in the middle of a network, and your U-Net with and without pixel unshuffle (`patch=1`).

# %%
def step_of(network):
    """A forward and a backward pass, as training computes them."""
    return lambda x, told: network(x, told).square().mean().backward()


x, e = torch.randn(16, 32, 14, 14, device=lab.device, requires_grad=True), torch.randn(16, 128, device=lab.device)
images, t = train.first(16).x, torch.randint(1, 1001, (len(train.first(16)),), device=lab.device)
raced = {
    "residual block": (ResidualBlock(32, 32, 128), x, e),
    "ConvNeXt block": (ConvNeXtBlock(32, 32, 128), x, e),
    "U-Net, patch 2": (UNet(train.shape), images, t),
    "U-Net, patch 1": (UNet(train.shape, patch=1), images, t),
}
for name, (network, *inputs) in raced.items():
    network = network.to(lab.device)
    million = sum(stage.multiply_adds for stage in tracing.stages(network, *inputs)) / 1e6
    took = tracing.milliseconds(step_of(network), *inputs, repeats=3)
    print(f"{name}: {million:6.2f} million multiplications per image, {took:6.1f} ms for a step of 16 images")

# %% [markdown]
# Multiplications say what a network *must* do, a clock what it does. A dense convolution uses every number that it loads in many products; a depthwise one uses it $k^2$ times and then needs the next. How large the gap is depends on the machine.
#
# And what does unshuffling cost? Four neighbouring pixels share one place, and nowhere does the network compute with single pixels. Yet at equal training time on a CPU the network with `patch=1` drew worse: its squared Fréchet distance (2.10) was 1.96 times as large (60 seconds, one seed: `benchmarks/README.md`). What counts there is how many steps fit in.
#
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
weights = sum(stage.parameters for stage in stages)
work = sum(stage.multiply_adds for stage in stages)
print(f"4.1  128 numbers keep {shares['images'][127]:.0%} of images and {shares['noise'][127]:.0%} of noise")
print(f"4.3  after 20 layers, of the input are left: {left['pre-norm'][-1]:.2f} (pre), {left['post-norm'][-1]:.3f} (post)")
print(f"4.6  your U-Net: {weights:,} weights, {work:,} multiplications per image, {len(copies)} copies")
print(f"4.7  {steps_made(history)} of {batch} images, {train.title}")
print("4.8  loss against full: " + ", ".join(f"{kind} {each.mean():+.1f} %" for kind, each in rise.items() if kind != "full"))

# %% [markdown]
# **What to take along.** A U-Net goes down to see far and comes up to answer for every pixel; its copies carry what a narrow bottom couldn't. The step enters every block as a scale and a shift, behind a norm and never before one. Attention is a weighted mean whose weights the content chooses.
# And a difference is a finding only where the spread over seeds allows it. The library's `UNet` (`course_utils/models/unet.py`) computes what yours does, with labels added.
#
# ## Go further *(ungraded)*
# 1. **Add, don't concatenate.** Let `Up` add the copy (its block then takes half the channels). What do speed and loss say, over three seeds?
# 2. **Attention everywhere.** Put linear attention at the fine level as well. Does it earn its time?
# 3. **How blind?** Train a network to guess $t$ from $x_t$ alone. How large is its error, early and late, and what does that say about "no time"?
# 4. **Three levels.** Images of 28 × 28 with `patch=1` can be halved twice. Compare `widths=(16, 32, 64)` with the network above at equal seconds per step.
#
# ## References
# * O. Ronneberger, P. Fischer, T. Brox, *U-Net: Convolutional Networks for Biomedical Image Segmentation*, MICCAI 2015. arXiv:1505.04597
# * J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, NeurIPS 2020. arXiv:2006.11239
# * P. Dhariwal, A. Nichol, *Diffusion Models Beat GANs on Image Synthesis*, NeurIPS 2021. arXiv:2105.05233
# * A. Vaswani et al., *Attention Is All You Need*, NeurIPS 2017. arXiv:1706.03762
# * K. He, X. Zhang, S. Ren, J. Sun, *Deep Residual Learning for Image Recognition*, CVPR 2016. arXiv:1512.03385; *Identity Mappings in Deep Residual Networks*, ECCV 2016 (2016b). arXiv:1603.05027
# * Y. Wu, K. He, *Group Normalization*, ECCV 2018. arXiv:1803.08494
# * E. Perez et al., *FiLM: Visual Reasoning with a General Conditioning Layer*, AAAI 2018. arXiv:1709.07871
# * Z. Liu et al., *A ConvNet for the 2020s* (ConvNeXt), CVPR 2022. arXiv:2201.03545
# * Z. Shen et al., *Efficient Attention: Attention with Linear Complexities*, WACV 2021. arXiv:1812.01243
# * A. Katharopoulos et al., *Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention*, ICML 2020. arXiv:2006.16236
# * A. Buades, B. Coll, J.-M. Morel, *A non-local algorithm for image denoising*, CVPR 2005
# * A. Odena, V. Dumoulin, C. Olah, *Deconvolution and Checkerboard Artifacts*, Distill 2016
# * W. Shi et al., *Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network*, CVPR 2016. arXiv:1609.05158
# * W. Luo et al., *Understanding the Effective Receptive Field in Deep Convolutional Neural Networks*, NeurIPS 2016. arXiv:1701.04128
# * Q. Sun et al., *Is Noise Conditioning Necessary for Denoising Generative Models?*, 2025. arXiv:2502.13129
