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
# This notebook builds that function. It is a U-Net, the network with which image diffusion began and which many models still use, and nothing in it is magic once it has been taken apart:
# you will write each part by hand, put them together, and then take parts *away* again to see what each was good for.
#
# **What you will be able to do**
# * say why a denoiser needs skips, and measure how far each of its pixels sees;
# * write the parts: sinusoidal time embedding, group norm, a residual block that hears the step, attention in two kinds, pixel shuffling;
# * assemble a U-Net, count its weights and multiplications, and read its table of stages;
# * find out by ablation what a part contributes, with a yardstick that says which differences count;
# * make a network several times faster without touching its depth, and say what that costs.
#
# **Before you start:** notebook 03 (noisy images $x_t$, the step $t$), convolutions and their sizes (notebook 01), matrix products.
#
# {{budget}}
#
# The text describes what you see at effort `cpu` or above, on Fashion-MNIST. At `smoke` the networks are hardly trained: everything runs, and what is printed is true of that run, but sentences about trained networks don't hold.

# %% tags=["setup"]
import math
import time

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_utils import plots, setup
from course_utils.data import load
from course_utils.device import autocast, has_bfloat16, seeded
from course_utils.diffusion import (Denoiser, cosine_schedule, diffusion_loss, prediction_target)
from course_utils.explore import choice, explore, slider
from course_utils.models.tracing import conv_multiply_adds, receptive_field, stages
from course_utils.models.unet import group_norm
from classroom import ask, check, predict, reveal
from course_utils.sampling import clipped, last, ddim
from course_utils.training import fit, steps_made

lab = setup("04")

# %%
train = load(lab.data, "train", device=lab.device, fallback="digits")
test = load(lab.data, "test", device=lab.device, fallback="digits")
test = test.first(lab.pick(smoke=64, cpu=500, gpu=2000))
schedule = cosine_schedule(1000).to(lab.device)
print(
    f"{train.title}: {len(train):,} images to train on, {len(test):,} to measure on, each {train.shape}, in [-1, 1]"
)


def milliseconds(work, *arguments, repeats=5):
    """The shortest of several calls, after one to warm up. On a CPU: one core's time, whoever else computes."""
    cpu, threads = lab.device.type == "cpu", torch.get_num_threads()
    clock = time.thread_time if cpu else time.perf_counter
    best = math.inf
    try:
        torch.set_num_threads(1 if cpu else threads)
        for _ in range(repeats + 1):
            started = clock()
            work(*arguments)
            if lab.device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, 1000 * (clock() - started))
    finally:
        torch.set_num_threads(threads)
    return best


# %% [markdown]
# ## 4.1 · Why the shape of a U?
#
# The task: an image goes in, an image of the same size comes out, and each output pixel says something about *its own* input pixel (how much of it is noise).
# You know two kinds of network that turn images into images. Could we use one of them?
#
# **The autoencoder of notebook 01** squeezes the image through a bottleneck. That works for images because they are far from arbitrary: a few numbers say most of what there is to say.
# But noise is arbitrary by definition. How much of an image, and how much of noise, can pass through a narrow place? For linear bottlenecks the answer is exact: the best $k$ numbers are the $k$ leading principal directions.

# %%
pixels = math.prod(train.shape)
clean = train.first(lab.pick(smoke=1000, cpu=5000, gpu=10000)).x.flatten(1).cpu()
noise = torch.randn(clean.shape, generator=lab.generator(0, "cpu"))


def kept_by(directions, data):
    """Share of the variance that the best bottleneck of k numbers keeps, for k = 1, 2, ..., tried on `data`."""
    centred = data - data.mean(0)
    return (centred @ directions).square().sum(0).cumsum(0) / centred.square().sum()


def leading_directions(data):
    return torch.linalg.eigh((data - data.mean(0)).T.cov()).eigenvectors.flip(1)


half = len(clean) // 2  # directions are found on one half and tried on the other
kept = {
    "images": kept_by(leading_directions(clean[:half]), clean[half:]),
    "noise": kept_by(leading_directions(noise[:half]), noise[half:]),
}
for k in (32, 128):
    print(
        f"{k:4d} of {pixels} numbers keep {kept['images'][k - 1]:.0%} of images, {kept['noise'][k - 1]:.0%} of noise"
    )
plots.curves(
    {name: (torch.arange(1, pixels + 1), share) for name, share in kept.items()},
    title=f"{train.title}: images fit through a bottleneck, noise doesn't",
    x_label="numbers that may pass (k)",
    y_label="share of variance kept",
    mark={"128 numbers": 128},
)

# %% [markdown]
# Noise has no leading directions: $k$ numbers keep about $k/784$ of it, and no training can change that. So the pixels need a road *around* any bottleneck.
#
# **A stack of convolutions at full size** has no bottleneck. What it lacks is sight. A 3 × 3 convolution lets a pixel see its neighbours; behind two of them it sees two pixels in each direction, and so on.
# With $r_\ell$ the width of what one pixel behind layer $\ell$ sees, and $j_\ell$ the distance between the places that two neighbours look at (both 1 at the input),
#
# $$r_\ell = r_{\ell-1} + (k_\ell - 1)\,j_{\ell-1},\qquad j_\ell = s_\ell\,j_{\ell-1} \tag{4.1}$$
#
# for kernels of size $k_\ell$ and strides $s_\ell$. Without strides, every layer adds 2 pixels. A stride of 2 doubles what *all later* layers add.

# %%
deep = range(1, 16)
flat = [receptive_field([(3, 1)] * n)[0] for n in deep]
halving = [receptive_field([(3, 1 + (layer % 3 == 2)) for layer in range(n)])[0] for n in deep]
enough = [
    next((n for n in range(1, 99) if sees(n) >= 2 * 28 - 1), None)
    for sees in (
        lambda n: receptive_field([(3, 1)] * n)[0],
        lambda n: receptive_field([(3, 1 + (layer % 3 == 2)) for layer in range(n)])[0],
    )
]  # from one corner to the other, to both sides
print(
    f"layers until every pixel sees all 28 × 28: {enough[0]} at full size, "
    f"{enough[1]} with every third at stride 2"
)
print(
    f"multiplications of one such layer, 32 channels: {conv_multiply_adds((28, 28), 32, 32, 3):,} at 28 × 28, "
    f"{conv_multiply_adds((7, 7), 32, 32, 3):,} at 7 × 7"
)
plots.curves(
    {"all at full size": (deep, flat), "every third with stride 2": (deep, halving)},
    title="Halving the image now and then lets a network see far",
    x_label="layers of 3 × 3",
    y_label="receptive field (pixels)",
    mark={"28 pixels": (None, 28)},
)

# %% [markdown]
# So: go down to see far (and cheaply: the same layer costs a sixteenth at a quarter of the height and width), come up again to the full size, and at every size lead a copy across, so that no pixel has to pass the narrow place.
# Drawn on paper, that is a U (Ronneberger, Fischer and Brox 2015, who cut cells out of microscope images with it).
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

# %% [markdown]
# ## 4.2 · How does a network know which step it is?
#
# At $t=20$ almost everything in the image is signal, at $t=900$ almost everything is noise, and one network has to serve both. It must be told $t$.
# A single number $t/1000$ would do in principle, but a linear layer of one number is a straight line, and "a little noise" and "some more noise" differ in the third digit.
# Better to hand it many functions of $t$, fast and slow ones. Vaswani et al. (2017) marked the places of words in a sentence so, and Ho et al. (2020) the steps of diffusion:
#
# $$e_k(t)=\sin(\omega_k t),\qquad e_{n+k}(t)=\cos(\omega_k t),\qquad \omega_k = 10000^{-k/n},\quad k=0,\dots,n-1 \tag{4.2}$$
#
# with $n$ half the size of the embedding: $n$ clock hands, the first turning once in $2\pi$ steps, each later one a little slower, the last one in tens of thousands.
#
# ### {{heading unet/time-embedding}}
# Write equation (4.2).


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
steps_shown = torch.arange(0, 1001, 2)
waves = sinusoidal_embedding(steps_shown, 64)
figure, axes = plots.new_figure(8, 3.9, columns=2, width_ratios=(1.35, 1))
axes[0].imshow(
    waves.T, aspect="auto", cmap=plots.DIVERGING, vmin=-1, vmax=1, extent=(0, 1000, 63.5, -0.5)
)
axes[0].grid(False)
axes[0].set(
    xlabel="step t", ylabel="entry: 0–31 sines, 32–63 cosines", title="One column is one step"
)
for place, k in enumerate((20, 300, 700)):
    likeness = F.cosine_similarity(waves, sinusoidal_embedding(torch.tensor([k]), 64))
    axes[1].plot(steps_shown, likeness, label=f"t = {k}", color=plots.COLOURS[place])
axes[1].set(
    xlabel="compared with step", ylabel="cosine similarity", title="Likest to its neighbours"
)
axes[1].set_ylim(-0.1, 1.25)
axes[1].legend(ncols=3, loc="upper center", fontsize=9, columnspacing=1, handlelength=1)
figure.set_label(
    "Left: the 64 entries of the time embedding over t, fast waves at the top of each half and slow ones below. "
    "Right: cosine similarity of the embeddings of three steps with all others, peaked at the step itself"
)
figure

# %% [markdown]
# Two properties make this a good alphabet. Each embedding is most like those of its neighbours, with a peak so narrow that close steps can be told apart.
# And a shift is a rotation: $\sin(\omega(t+s))$ and $\cos(\omega(t+s))$ are fixed mixtures of $\sin\omega t$ and $\cos\omega t$, whatever $t$ is. Both can be checked.

# %%
t, s = torch.tensor([3.0, 250.0, 800.0], dtype=torch.float64), 17
now, later = sinusoidal_embedding(t, 64), sinusoidal_embedding(t + s, 64)
omega = 10_000 ** (-torch.arange(32, dtype=torch.float64) / 32)
turn = torch.block_diag(*[torch.eye(1, dtype=torch.float64)] * 64)
turn[:32, :32], turn[32:, 32:] = torch.diag((omega * s).cos()), torch.diag((omega * s).cos())
turn[:32, 32:], turn[32:, :32] = torch.diag((omega * s).sin()), torch.diag(-(omega * s).sin())
shifted = (now @ turn.T - later).abs().max()
print(f"one 64 × 64 matrix takes e(t) to e(t + {s}) for every t: largest difference {shifted:.0e}")

# %% [markdown]
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
# ## 4.3 · A block that keeps what it is given
#
# Networks are stacks of blocks, and deep stacks train well when a block *adds* to its input instead of replacing it (He et al. 2016). Three ingredients make such a block.
#
# **A norm that looks at one image.** Before a convolution, the channels should have a common scale. *Batch* norm takes mean and variance over the images of a batch, so that what comes out for one image depends on its company; a batch in which
# some images are nearly clean and others nearly pure noise is poor company indeed. **Group norm** (Wu and He 2018) takes each image by itself and a *group* $G$ of neighbouring channels at a time:
#
# $$\hat x_{c,i,j} = \frac{x_{c,i,j}-\mu_G}{\sqrt{\sigma_G^2+10^{-5}}},\qquad
#   \mu_G=\frac1{|G|hw}\sum_{c\in G}\sum_{i,j}x_{c,i,j},\quad \sigma_G^2=\frac1{|G|hw}\sum_{c\in G}\sum_{i,j}(x_{c,i,j}-\mu_G)^2 . \tag{4.3}$$
#
# (A weight and a bias per channel usually follow.)
#
# ### {{heading unet/group-norm}}
# Write equation (4.3). `einops.rearrange` is at hand: it reads like the formula.


# %% tags=["quiz"]
def group_normalise(x, groups):
    """Each image and each group of neighbouring channels to mean 0 and variance 1, equation (4.3).

    x: (b, c, h, w);  groups: divides c.  Returns a tensor like x.
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
# Does company matter? One image, normalised alone, among other images, and among noisy ones. Then a remark on speed, which you will seldom find in a book: how *wide* the groups are decides how well a processor can compute them.
# Channels-last tensors keep the channels of a pixel side by side in memory, and a group narrower than the processor's vectors leaves most of a vector idle.

# %%
few = train.first(8).x.cpu()
alone, company = group_normalise(few[:1], 1), group_normalise(few, 1)[:1]
batch_alone, batch_company = (
    F.batch_norm(x, None, None, training=True)[:1] for x in (few[:1], few)
)
print(f"group norm: alone or among 8, the image changes by {(alone - company).abs().max():.1e}")
print(
    f"batch norm: alone or among 8, the image changes by {(batch_alone - batch_company).abs().max():.2f}"
)

kind = torch.bfloat16 if has_bfloat16(lab.device.type) else torch.float32
planes = torch.randn(64, 32, 14, 14, device=lab.device, dtype=kind).to(
    memory_format=torch.channels_last
)
norm_times = {}
print(f"norm of {tuple(planes.shape)}, {kind}, channels last, on one core:")
for groups in (2, 8):
    norm = nn.GroupNorm(groups, 32).to(lab.device, kind)
    with torch.no_grad():
        norm_times[groups] = milliseconds(norm, planes, repeats=20)
    print(f"  {groups} groups of {32 // groups:2d} channels: {norm_times[groups]:.2f} ms")
print(f"narrow groups take {norm_times[8] / norm_times[2]:.1f} times as long on this machine")

# %% [markdown]
# The library's `group_norm(channels)` therefore makes groups of 16 channels or a little more, not the customary 8 or 32 groups. All networks below are made with it.
#
# **A way in for the step.** The embedding of $t$ passes through a small network that all blocks share, and each block turns the result into two numbers a channel, a *scale* and a *shift* (Perez et al. 2018 call it FiLM; Dhariwal and Nichol 2021 found it to help diffusion):
#
# $$\operatorname{modulate}(h, e)_{c,i,j} = (1+s_c)\,h_{c,i,j} + b_c,\qquad (s, b) = W e + \text{bias}. \tag{4.4}$$
#
# The shift decides which pixels the activation behind it lets pass, the scale how much of the channel goes on. So at every step the same convolutions become, in effect, other convolutions.
#
# **A start at zero.** Put together, in the order norm → activation → convolution (pre-norm, He et al. 2016b):
#
# $$\operatorname{block}(x, e) = \operatorname{skip}(x) + \operatorname{conv}_2\Big(\operatorname{silu}\big(\operatorname{modulate}(\operatorname{norm}_2(h),e)\big)\Big),
#   \qquad h=\operatorname{conv}_1\big(\operatorname{silu}(\operatorname{norm}_1(x))\big). \tag{4.5}$$
#
# `skip` is the identity, or a 1 × 1 convolution where the number of channels changes; $\operatorname{silu}(h)=h\cdot\operatorname{sigmoid}(h)$. The weights of $\operatorname{conv}_2$ start at zero, so at first the block does nothing.


# %% tags=["setup"]
def scale_shift(h, condition):
    """h · (1 + scale) + shift, equation (4.4).  h: (b, c, h, w);  condition: (b, 2c), scales, then shifts."""
    scale, shift = rearrange(condition, "b (two c) -> two b c 1 1", two=2)
    return h * (1 + scale) + shift


def start_at_zero(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


# %% [markdown]
# ### {{heading unet/residual-block}}
# Write equation (4.5). The layers are made; you lead the tensors through them.


# %% tags=["quiz"]
def residual_block(block, x, e):
    """x, and what two convolutions add to it, equation (4.5).

    block: has the layers norm1, conv1, norm2, conv2, skip, and condition: from e to (b, 2 · channels);
    x: (b, c, h, w);  e: (b, embedding).  Returns (b, d, h, w).
    """
    ### BEGIN SOLUTION
    h = block.conv1(F.silu(block.norm1(x)))
    h = scale_shift(block.norm2(h), block.condition(e))
    return block.skip(x) + block.conv2(F.silu(h))
    ### END SOLUTION


# %% tags=["check"]
residual_block = check("unet/residual-block", residual_block)


# %%
class ResidualBlock(nn.Module):
    """Equation (4.5): channels `before` → `after`, told the step by an embedding."""

    def __init__(self, in_channels, out_channels, embedding):
        super().__init__()
        self.norm1, self.conv1 = group_norm(in_channels), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2, self.conv2 = group_norm(out_channels), nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.condition = nn.Linear(embedding, 2 * out_channels)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        start_at_zero(self.conv2)

    def forward(self, x, e):
        return residual_block(self, x, e)


# %% [markdown]
# Can something learn that starts as nothing? Our block with its last convolution at zero, and for comparison two plain convolutions that are *both* zero, get the same task and two steps of gradient descent.

# %%
with seeded(1):
    x, e, wanted = torch.randn(8, 16, 6, 9), torch.randn(8, 32), torch.randn(8, 16, 6, 9)
    block = ResidualBlock(16, 16, 32)
    first, second = (nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(2))
for layer in (first, second):
    nn.init.zeros_(layer.weight)
print(
    f"before training, the block changes its input by {(block(x, e) - x).abs().max().item():.0f}\n"
)
pairs = {
    "block, conv2 at zero": (block.conv1, block.conv2, lambda: block(x, e)),
    "two convs, both at zero": (first, second, lambda: x + second(F.silu(first(x)))),
}
for name, (early_layer, late_layer, answer) in pairs.items():
    weights = [early_layer.weight, late_layer.weight]
    for step in (1, 2):
        gradients = torch.autograd.grad(F.mse_loss(answer(), wanted), weights)
        sizes = [gradient.norm().item() for gradient in gradients]
        print(
            f"{name:24s} step {step}: gradient of the first {sizes[0]:.4f}, of the second {sizes[1]:.4f}"
        )
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients):
                weight -= 0.1 * gradient

# %% [markdown]
# ### {{heading unet/zero-start}}
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

# %% [markdown]
# ### {{heading unet/deaf-block}}
# Someone found scale and shift too elaborate and just adds the step to every channel, one number each, with norms that take each channel by itself. The code runs, gradients flow, the loss falls. And the network is deaf to $t$.
# Keep both norms, the shift and both convolutions; put them in an order in which the step is heard (where (4.5) hears it). Say in a comment what a deaf network would do to the samples.


# %% tags=["quiz"]
def simple_block(x, e, conv1, conv2, step):
    """A residual block that shifts every channel by a number that depends on e, as (4.4) does.

    x: (b, c, h, w);  e: (b, embedding);  conv1, conv2: (c, c, 3, 3);  step: (c, embedding).
    Returns (b, c, h, w).
    """
    shift = F.linear(e, step)[:, :, None, None]
    h = F.conv2d(F.silu(F.instance_norm(x)), conv1, padding=1)
    ### BEGIN SOLUTION
    h = (
        F.instance_norm(h) + shift
    )  # normalised first: a norm behind it would take the shift out again
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # h = F.instance_norm(h + shift)
    ### END HANDED OUT
    return x + F.conv2d(F.silu(h), conv2, padding=1)


# %% tags=["check"]
simple_block = check("unet/deaf-block", simple_block)

# %% [markdown]
# How would one notice? Not from the loss curve, which only ends a little higher, and nobody knows where it should have ended. But from a test that takes a second: *does the output change when only $t$ does?* Make it a habit.

# %%
with seeded(2):
    x, convs, step = torch.randn(2, 8, 5, 7), 0.2 * torch.randn(2, 8, 8, 3, 3), torch.randn(8, 64)
early, late = (sinusoidal_embedding(torch.tensor([k, k]), 64) for k in (20, 900))
shift_early, shift_late = (F.linear(e, step)[:, :, None, None] for e in (early, late))


def as_handed_out(shift):
    h = F.conv2d(F.silu(F.instance_norm(x)), convs[0], padding=1)
    return x + F.conv2d(F.silu(F.instance_norm(h + shift)), convs[1], padding=1)


change = (as_handed_out(shift_early) - as_handed_out(shift_late)).abs().max()
print(f"as handed out: from t = 20 to t = 900 the output changes by {change:.1e}")
change = (simple_block(x, early, *convs, step) - simple_block(x, late, *convs, step)).abs().max()
print(f"mended:        from t = 20 to t = 900 the output changes by {change:.2f}")

# %% [markdown]
# ## 4.4 · Fewer multiplications, but faster?
#
# A convolution from $c$ to $d$ channels with a $k\times k$ kernel takes, for an image of $h\times w$,
#
# $$h\,w\,k^2\,\frac{c\,d}{g} \tag{4.6}$$
#
# multiplications (each with an addition) if channels are split into $g$ groups that don't mix. With $g=c=d$, every channel has a kernel to itself: a *depthwise* convolution, which is cheap even at 7 × 7.
# The **ConvNeXt** block (Liu et al. 2022) is built on this: see far with a depthwise 7 × 7, then mix channels with two 1 × 1 convolutions. Some diffusion tutorials use it in place of the residual block. Here it is, with our way of telling it the step.


# %%
class ConvNeXtBlock(nn.Module):
    """A 7 × 7 convolution for each channel by itself, then two dense ones across channels."""

    def __init__(self, in_channels, out_channels, embedding, expand=2):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 7, padding=3, groups=in_channels)
        self.norm = nn.GroupNorm(1, in_channels)
        self.condition = nn.Linear(embedding, 2 * in_channels)
        self.widen = nn.Conv2d(in_channels, expand * out_channels, 1)
        self.narrow = start_at_zero(nn.Conv2d(expand * out_channels, out_channels, 1))
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x, e):
        h = scale_shift(self.norm(self.depthwise(x)), self.condition(e))
        return self.skip(x) + self.narrow(F.gelu(self.widen(h)))


def training_step(block, x, e):
    """Forward and backward, as `fit` computes it."""
    with autocast(lab.device):
        y = block(x, e)
    y.float().square().mean().backward()


width = 32
x = torch.randn(64, width, 14, 14, device=lab.device).to(memory_format=torch.channels_last)
x.requires_grad_()  # a block in the middle of a network hands a gradient on
e = torch.randn(64, 4 * width, device=lab.device)
block_costs = {}
for name, kind_of_block in (("residual block", ResidualBlock), ("ConvNeXt block", ConvNeXtBlock)):
    block = kind_of_block(width, width, 4 * width).to(lab.device, memory_format=torch.channels_last)
    million = sum(stage.multiply_adds for stage in stages(block, x[:1], e[:1])) / 1e6
    block_costs[name] = (million, milliseconds(training_step, block, x, e))
    field = receptive_field([(3, 1), (3, 1)] if kind_of_block is ResidualBlock else [(7, 1)])[0]
    print(
        f"{name}: sees {field} pixels, {million:.2f} million multiply-adds an image, "
        f"{block_costs[name][1]:.1f} ms for a training step of 64 images"
    )
fewer, slower = (
    a / b for a, b in zip(block_costs["residual block"], block_costs["ConvNeXt block"])
)
print(
    f"ConvNeXt needs {1 / fewer:.2f} times the multiplications and takes {1 / slower:.2f} times the time"
)

# %% [markdown]
# If both numbers in the last line were equal, multiplications would tell the time. They rarely do. A dense convolution uses every number that it loads from memory in many products; a depthwise one uses it $k^2$ times and then needs the next.
# Count multiplications to know what a network *must* do; use a clock to know what it does. We stay with the residual block.
#
# ## 4.5 · Asking all other pixels
#
# A convolution looks at fixed places around a pixel. **Attention** (Vaswani et al. 2017) lets the content decide where to look. Each pixel asks a question, a vector $q$; each pixel offers a key $k$ and a value $v$.
# How well a question fits a key is a scalar product; a softmax makes weights of it, and the pixel takes home the weighted mean of the values:
#
# $$\operatorname{attention}(q,k,v)_i = \sum_j a_{ij}\,v_j,\qquad a_{ij} = \frac{\exp(q_i\cdot k_j/\sqrt d)}{\sum_{j'}\exp(q_i\cdot k_{j'}/\sqrt d)} \tag{4.7}$$
#
# where $d$ is the length of $q$. (Why the root: a scalar product of $d$ independent numbers of variance 1 has variance $d$.) *Multi-head* attention splits the channels into several shorter $q$, $k$, $v$, which look at different places.
#
# ### {{heading unet/attention}}
# Write equation (4.7) for all images, heads and queries at once. There may be more keys than queries.


# %% tags=["quiz"]
def attention(q, k, v):
    """What every query gathers, equation (4.7).

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
# Here is a task that your function can do without any training. Take a noisy image. Let question and key of a pixel be the 5 × 5 patch around it, and its value the pixel itself. Similar patches then get large weights wherever they lie, and averaging over them averages the noise away.
# This is *non-local means* (Buades, Coll and Morel 2005), a classic of image denoising, and it is attention.
# (A scalar product is not a distance. But $-\tfrac12\lVert p-p'\rVert^2 = p\cdot p' - \tfrac12\lVert p\rVert^2 - \tfrac12\lVert p'\rVert^2$ is a scalar product, of longer vectors.)


# %%
def patches(image, size=5):
    """The patch around each pixel.  image: (1, 1, h, w) → (1, 1, h·w, size²)."""
    around = F.pad(image, (size // 2,) * 4, mode="reflect")
    return rearrange(F.unfold(around, size), "b p n -> b 1 n p")


def nearness(image, sharpness):
    """q and k whose q·k/√d is −sharpness · (squared distance of patches)."""
    p = patches(image)
    length, ones = p.square().sum(-1, keepdim=True) / 2, torch.ones_like(p[..., :1])
    root_d = math.sqrt(p.shape[-1] + 2)
    return 2 * sharpness * root_d * torch.cat([p, -length, -ones], -1), torch.cat(
        [p, ones, length], -1
    )


sigma = 0.25
picture = test.take(torch.tensor([0], device=lab.device)).cpu()
noisy = picture + sigma * torch.randn(picture.shape, generator=lab.generator(3, "cpu"))
q, k = nearness(noisy, sharpness=1 / (25 * sigma**2))
h, w = picture.shape[2:]
tokens = rearrange(noisy, "b c h w -> b 1 (h w) c")
gathered = rearrange(attention(q, k, tokens), "b 1 (h w) c -> b c h w", h=h)
blurred = F.avg_pool2d(F.pad(noisy, (1,) * 4, mode="reflect"), 3, stride=1)
errors = {"noisy": noisy, "blurred, 3 × 3": blurred, "attention": gathered}
errors = {name: (image - picture).square().mean().item() for name, image in errors.items()}
print(
    "mean squared error per pixel: "
    + ", ".join(f"{name} {error:.4f}" for name, error in errors.items())
)

brightness = picture[0, 0]
spot = divmod(int(brightness[6:22, 6:22].diff(dim=1).abs().argmax()), 15)
row, column = spot[0] + 6, spot[1] + 6  # a pixel at the strongest edge
identity = torch.eye(h * w)[
    None, None
]  # values that tell the pixels apart: what is gathered are the weights
weights = rearrange(attention(q, k, identity)[0, 0, row * w + column], "(h w) -> h w", h=h)
plots.panels(
    {
        "noisy": noisy[0],
        "weights of the\nmarked pixel": weights**0.25,
        "attention": gathered[0].clamp(-1, 1),
        "blurred, 3 × 3": blurred[0].clamp(-1, 1),
    },
    title=f"{test.title}: attention averages over patches that look alike, wherever they are",
    diverging=False,
    mark={"noisy": (row, column), "weights of the\nmarked pixel": (row, column)},
)

# %% [markdown]
# The marked pixel collects from places of the same kind (brighter: larger weight; the fourth root is shown, so that small weights can be seen), so that an edge is averaged along itself. A blur takes what is near, and edges go.
# In a network, nobody chooses the patches: three 1 × 1 convolutions learn what to ask, what to offer and what to hand over. Pixels become *tokens*, a row of $n=hw$ vectors, and come back as an image.
#
# ### {{heading unet/mixed-axes}}
# All shapes fit, on any image, square or not. Still the result is wrong. Find the slip, mend it, and say in a comment on which images a test would overlook it.


# %% tags=["quiz"]
def image_attention(x, qkv, out, heads):
    """x + self-attention of its pixels, (4.7), with matrices for weights.

    x: (b, c, h, w);  qkv: (3c, c), q, k and v one after the other, each split into heads;  out: (c, c).
    Returns (b, c, h, w).
    """
    h, w = x.shape[2:]
    mixed = torch.einsum("oc, bchw -> bohw", qkv, x)
    q, k, v = rearrange(
        mixed, "b (three heads c) h w -> three b heads (h w) c", three=3, heads=heads
    )
    gathered = attention(q, k, v)
    ### BEGIN SOLUTION
    gathered = rearrange(
        gathered, "b heads (h w) c -> b (heads c) h w", h=h, w=w
    )  # row by row, as they went in
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # gathered = rearrange(gathered, "b heads (w h) c -> b (heads c) h w", h=h, w=w)
    ### END HANDED OUT
    return x + torch.einsum("oc, bchw -> bohw", out, gathered)


# %% tags=["check"]
image_attention = check("unet/mixed-axes", image_attention)


# %%
class Attention(nn.Module):
    """x + what every pixel gathers from all others; by default heads of 32 channels."""

    def __init__(self, channels, heads=None):
        super().__init__()
        self.heads = heads or max(1, channels // 32)
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = start_at_zero(nn.Conv2d(channels, channels, 1))

    def gather(self, q, k, v):
        return attention(q, k, v)

    def forward(self, x):
        h, w = x.shape[2:]
        split = "b (three heads c) h w -> three b heads (h w) c"
        q, k, v = rearrange(self.qkv(self.norm(x)), split, three=3, heads=self.heads)
        return x + self.out(
            rearrange(self.gather(q, k, v), "b heads (h w) c -> b (heads c) h w", h=h, w=w)
        )


# %% [markdown]
# ## 4.6 · Attention without the table
#
# The table of weights $a_{ij}$ has a row and a column for every pixel: $n^2$ entries for $n=hw$ pixels.
#
# **Predict, then run.** You double height and width of an image. How many times longer will attention take?

# %% tags=["predict"]
guess_cost = predict(
    "unet/attention-cost", "Time of attention: twice the height and width ÷ before", 1, 64
)

# %% [markdown]
# The product $(q k^\top) v$ could be bracketed as $q\,(k^\top v)$, a small $d\times d$ matrix in the middle and no table anywhere, if only the softmax didn't stand in between. So take the softmax elsewhere: of $q$ and of $k$ by themselves
# (Shen et al. 2021; Katharopoulos et al. 2020 use other functions to the same end):
#
# $$\operatorname{linear}(q,k,v) = \operatorname{softmax}_d(q)\,\Big(\operatorname{softmax}_n(k)^\top v\Big) . \tag{4.8}$$
#
# The softmax of $k$ runs over the *pixels*: each of its $d$ channels becomes a map of where to look, and $\operatorname{softmax}_n(k)^\top v$ holds what was seen there, $d$ summaries of the image. The softmax of $q$ runs over *channels*: each pixel mixes the summaries.
#
# ### {{heading unet/linear-attention}}
# Write equation (4.8), in the order that avoids the table.


# %% tags=["quiz"]
def linear_attention(q, k, v):
    """What every query gathers by way of d summaries, equation (4.8).

    q: (b, heads, n, d);  k, v: (b, heads, m, d).  Returns (b, heads, n, d).
    """
    ### BEGIN SOLUTION
    summary = k.softmax(dim=-2).transpose(-1, -2) @ v
    return q.softmax(dim=-1) @ summary
    ### END SOLUTION


# %% tags=["check"]
linear_attention = check("unet/linear-attention", linear_attention)


# %%
class LinearAttention(Attention):
    """The same, without the table."""

    def gather(self, q, k, v):
        return linear_attention(q, k, v)


sides = lab.pick(smoke=(8, 16, 32), cpu=(8, 12, 16, 24, 32, 48, 64), gpu=(16, 32, 64, 96))
attention_times = {"softmax attention": [], "linear attention": []}
for side in sides:
    q, k, v = torch.randn(3, 1, 1, side * side, 32, device=lab.device)
    for name, gather in (("softmax attention", attention), ("linear attention", linear_attention)):
        with torch.no_grad():
            attention_times[name].append(milliseconds(gather, q, k, v, repeats=3))
doubled = {
    name: times[-1] / times[sides.index(sides[-1] // 2)] for name, times in attention_times.items()
}
print(f"from {sides[-1] // 2} × {sides[-1] // 2} to {sides[-1]} × {sides[-1]} pixels:")
for name, ratio in doubled.items():
    print(
        f"  {name}: {ratio:.1f} times as long, {attention_times[name][-1]:.1f} ms for one image, one head of 32"
    )
counts = [side**2 for side in sides]
plots.curves(
    {name: (counts, times) for name, times in attention_times.items()},
    title="The table costs more and more",
    x_label="pixels (h · w)",
    y_label="milliseconds",
    log_x=True,
    log_y=True,
)

# %%
reveal("unet/attention-cost", round(doubled["softmax attention"], 1))

# %% [markdown]
# In theory the answer is 16, and 4 for linear attention: twice the side is four times the pixels, and sixteen times the table. What the clock adds to that (or takes away) is memory: a table that no longer fits the processor's cache and has to be asked from the system anew each time, costs extra, and small sizes are all overhead.
# This is why U-Nets put softmax attention only where images are small. What is the price of the cheap one?

# %%
q, k = torch.randn(2, 1, 1, 14 * 14, 32, generator=lab.generator(4, "cpu"), dtype=torch.float64)
everyone = torch.eye(14 * 14, dtype=torch.float64)[
    None, None
]  # gathered from one-hot values: the table itself
for name, gather in (("softmax", attention), ("linear", linear_attention)):
    table = gather(4 * q, 4 * k, everyone)[0, 0]
    print(
        f"{name:8s}: rows sum to {table.sum(1).min():.6f} … {table.sum(1).max():.6f}; "
        f"rank {torch.linalg.matrix_rank(table):3d} of {len(table)}; the largest weight of a row is {table.amax(1).median():.2f} (median)"
    )

# %% [markdown]
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

# %% [markdown]
# ## 4.7 · Down and up again
#
# Down is easy: a convolution with stride 2. Up can be done in three ways. A **transposed convolution** lets every pixel stamp its kernel onto a twice larger image. **Resize-convolution** copies every pixel into a 2 × 2 square and runs an ordinary convolution over it.
# **Pixel shuffle** (Shi et al. 2016) computes four times the channels and lays them out as squares. All three give the right shape. Do they treat all pixels alike?
#
# The test is the simplest of all: a constant image. First with all weights equal, then with random weights.


# %%
def transposed(kernel):
    return nn.ConvTranspose2d(1, 1, kernel, stride=2, padding=(kernel - 1) // 2, bias=False)


ways_up = {
    "transposed, 3 × 3": lambda: transposed(3),
    "transposed, 4 × 4": lambda: transposed(4),
    "resize-convolution": lambda: nn.Sequential(
        nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 3, bias=False)
    ),
    "pixel shuffle": lambda: nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.PixelShuffle(2)),
}
constant, middle = torch.ones(1, 1, 12, 12), slice(4, 16)  # the middle, where no border is felt
equal, drawn, uneven = {}, {}, {}
with seeded(5), torch.no_grad():
    for name, make in ways_up.items():
        layer = make()
        for weight in layer.parameters():
            nn.init.ones_(weight)
        plane = layer(constant)[0, 0, middle, middle]
        equal[f"{name}\nequal weights"] = (plane / plane.mean() - 1).round(decimals=4)
        plane = make()(constant)[0, 0, middle, middle]
        drawn[f"{name}\nrandom weights"] = ((plane - plane.mean()) / plane.abs().max()).round(
            decimals=4
        )
        power = (
            torch.stack([make()(constant)[0, 0, 8:10, 8:10] for _ in range(400)]).square().mean(0)
        )
        uneven[name] = (power.max() / power.min()).item()
print("mean square at the 4 places of a square, 400 random layers: largest ÷ smallest")
for name, ratio in uneven.items():
    print(f"  {name:20s} {ratio:.2f}")
plots.panels(
    equal | drawn,
    columns=4,
    title="A constant image, enlarged: white is the mean, colours stray",
)

# %% [markdown]
# In the top row only the 3 × 3 stamp fails: its copies overlap in one, two or four places, since 3 is no multiple of 2 (Odena, Dumoulin and Olah 2016). A kernel of 4 covers all places equally often.
# The bottom row adds a second effect. A 4 × 4 stamp and pixel shuffle give the four places of a square *weights of their own*, which start at random; the pattern is an accident of the draw, favours no place on average (the printed ratios near 1), and training can remove it.
# Resize-convolution has neither effect, but runs its convolution on four times the pixels. We take pixel shuffle: the convolution runs at the small size, and a network that is trained to give noise back pixel by pixel must learn to tell the four places apart anyway.
#
# ### {{heading unet/checkerboards}}
# {{question unet/checkerboards}}

# %% tags=["quiz"]
### BEGIN SOLUTION
checkerboards = "b"
### END SOLUTION
### BEGIN HANDED OUT
# checkerboards = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("unet/checkerboards", checkerboards)

# %% [markdown]
# ### The other way round: pixels into channels
# Pixel *un*shuffle lays each square of $r\times r$ pixels into the channels of a single place. No number is lost, none is computed:
#
# $$y_{\,c r^2 + a r + b,\;i,\;j} \;=\; x_{\,c,\; r i + a,\; r j + b},\qquad 0\le a,b<r . \tag{4.9}$$
#
# As the first layer of a network it is the cheapest trick of this notebook: 28 × 28 becomes 14 × 14 with four channels, and every convolution behind it runs over a quarter of the places. Section 4.11 measures what that is worth.
#
# ### {{heading unet/space-to-depth}}
# Write equation (4.9). One line of `rearrange` does it.


# %% tags=["quiz"]
def space_to_depth(x, patch):
    """Squares of patch × patch pixels become channels, equation (4.9).

    x: (b, c, h, w), h and w multiples of patch.  Returns (b, c · patch², h / patch, w / patch).
    """
    ### BEGIN SOLUTION
    return rearrange(x, "b c (h p) (w r) -> b (c p r) h w", p=patch, r=patch)
    ### END SOLUTION


# %% tags=["check"]
space_to_depth = check("unet/space-to-depth", space_to_depth)

# %% [markdown]
# ## 4.8 · Assemble
#
# All parts are there. The way through the network: stem; at each level some blocks, keep a copy, halve; at the bottom attention and one more block; at each level upwards double, **join** the copy as further channels, some blocks; head. With $s_\ell$ the copy kept at level $\ell$,
#
# $$u_\ell = \operatorname{blocks}_\ell\big(\big[\,\operatorname{upsample}(u_{\ell+1}),\; s_\ell\,\big]\big) . \tag{4.10}$$
#
# Brackets mean concatenation along the channels. Adding would be cheaper; concatenation lets the network decide what to make of the copy.
#
# ### {{heading unet/forward}}
# The heart of this notebook. Lead $x$ through the parts listed below, with the skips in the right order.


# %% tags=["quiz"]
def unet_forward(model, x, e):
    """The way through a U-Net, equation (4.10).

    x: (b, c, h, w);  e: (b, embedding), what the blocks are told.  Returns a tensor like x.
    The parts of `model`:
        patch             how large the squares are that pixel unshuffle takes
        stem, head        convolutions at the beginning and the end; before the head come `norm` and a SiLU
        down[level]       the blocks of a level on the way down, finest first; called as block(h, e)
        downsample[k]     from level k to level k + 1
        attention, middle at the bottom, in this order: attention(h), middle(h, e)
        up[k]             the blocks on the way up, coarsest level first
        upsample[k]       before up[k + 1]
        join(h, skip)     puts a copy beside what comes up, before the blocks of that level;
                          the bottom level joins, too
    """
    ### BEGIN SOLUTION
    h = model.stem(F.pixel_unshuffle(x, model.patch))
    skips = []
    for level, blocks in enumerate(model.down):
        h = model.downsample[level - 1](h) if level else h
        for block in blocks:
            h = block(h, e)
        skips.append(h)
    h = model.middle(model.attention(h), e)
    for level, blocks in enumerate(model.up):
        h = model.upsample[level - 1](h) if level else h
        h = model.join(h, skips.pop())  # last in, first out
        for block in blocks:
            h = block(h, e)
    return F.pixel_shuffle(model.head(F.silu(model.norm(h))), model.patch)
    ### END SOLUTION


# %% tags=["check"]
unet_forward = check("unet/forward", unet_forward)


# %%
class UNet(nn.Module):
    """Noisy images (b, c, h, w) and their steps (b,) → one prediction for every pixel."""

    def __init__(
        self,
        shape=(1, 28, 28),
        widths=(32, 64),
        blocks=1,
        patch=2,
        block=ResidualBlock,
        attention=Attention,
    ):
        super().__init__()
        self.patch, embedding, pixels = patch, 4 * widths[0], shape[0] * patch**2
        self.time = nn.Sequential(
            nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(nn.ModuleList(block(width, width, embedding) for _ in range(blocks)))
            if level + 1 < len(widths):
                self.downsample.append(nn.Conv2d(width, widths[level + 1], 3, stride=2, padding=1))
        self.attention = nn.Identity() if attention is None else attention(widths[-1])
        self.middle = block(widths[-1], widths[-1], embedding)
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            inputs = [2 * width] + [width] * (
                blocks - 1
            )  # the first block of a level gets the copy as well
            self.up.append(nn.ModuleList(block(in_channels, width, embedding) for in_channels in inputs))
            if level > 0:
                self.upsample.append(
                    nn.Sequential(nn.Conv2d(width, 4 * widths[level - 1], 1), nn.PixelShuffle(2))
                )
        self.norm = group_norm(widths[0])
        self.head = start_at_zero(nn.Conv2d(widths[0], pixels, 3, padding=1))

    def embed(self, t):
        """What all blocks are told: the step, through a small network.  (b,) → (b, embedding)."""
        return F.silu(self.time(sinusoidal_embedding(t, 64).to(self.stem.weight.dtype)))

    def join(self, h, skip):
        """What comes up, and beside it the copy from the way down."""
        return torch.cat([h, skip], dim=1)

    def forward(self, x, t):
        return unet_forward(self, x, self.embed(t))


with seeded(0):
    model = UNet(train.shape).to(lab.device)
x, t = test.x[:2], torch.tensor([1, 1000], device=lab.device)
table = stages(model, x, t)
print(f"{'stage':12s}{'channels × h × w':>18s}{'weights':>10s}{'multiply-adds':>15s}{'share':>7s}")
whole = sum(stage.multiply_adds for stage in table)
for stage in table:
    shape = " × ".join(map(str, stage.shape))
    print(
        f"{stage.name:12s}{shape:>18s}{stage.parameters:10,d}"
        f"{stage.multiply_adds:15,d}{stage.multiply_adds / whole:7.1%}"
    )
weights = sum(p.numel() for p in model.parameters())
print(f"{'all':12s}{'':18s}{weights:10,d}{whole:15,d}")
print(
    f"\nuntrained, it answers {model(x, t).abs().max().item():.0f} everywhere: the head starts at zero, too"
)

# %%
shaped = [stage for stage in table if len(stage.shape) == 3]
names = [stage.name for stage in shaped]
pairs = [
    (
        names.index(f"down.{level}.{len(model.down[level]) - 1}") + 1,
        names.index(f"up.{len(model.down) - 1 - level}.0") + 1,
    )
    for level in range(len(model.down))
]
plots.network(
    [
        ("image", train.shape),
        *((stage.name, stage.shape) for stage in shaped),
        ("answer", train.shape),
    ],
    pairs,
    title="The network of the table, to scale: red copies pass by the narrow part",
)

# %% [markdown]
# Read the table with (4.1) and (4.6) in mind. Most weights sit where the image is small and channels are many; the multiplications are spread more evenly, because halving height and width while doubling the channels leaves a convolution's cost as it is.
# The way up costs more than the way down: its first block at each level gets twice the channels.
#
# How narrow is the narrow part? That, too, stands in the table, and it is worth a second look before we take the skips away.

# %%
bottom = next(stage.shape for stage in table if stage.name == "middle")
passing = 2 * bottom[1] * bottom[2]  # if only two channels were left there
print(
    f"the bottom holds {math.prod(bottom):,} numbers, the image {pixels:,}; "
    f"two channels of the bottom would be {passing}"
)

# %% [markdown]
# ## 4.9 · Take parts away
#
# What is each part good for? Ask by **ablation**: take one part out, train everything else in the same way for the same number of steps, and compare. Three candidates, each changed in a single place, and a fourth that takes section 4.1 at its word: no skips, *and* a bottom so narrow that only two of its channels pass.


# %%
class NoSkips(UNet):
    """The copies are replaced by zeros: whatever reaches the output has passed the narrow part."""

    def join(self, h, skip):
        return super().join(h, torch.zeros_like(skip))


class NoTime(UNet):
    """Whatever the step is, the blocks are told 500."""

    def embed(self, t):
        return super().embed(torch.full_like(t, 500))


def two_channels(width):
    """In place of the attention at the bottom: only 2 channels may pass."""
    return nn.Sequential(nn.Conv2d(width, 2, 1), nn.Conv2d(2, width, 1))


variants = {
    "full": lambda: UNet(train.shape),
    "full, another seed": lambda: UNet(train.shape),
    "no skips": lambda: NoSkips(train.shape),
    "no skips, narrow": lambda: NoSkips(train.shape, attention=two_channels),
    "no time": lambda: NoTime(train.shape),
    "no attention": lambda: UNet(train.shape, attention=None),
}

# %% [markdown]
# The second line is our yardstick. It differs from the first in nothing but the seed (first weights, order of images, noise). A difference no larger than the one between these two is no finding. *That* is what failure looks like here: an ablation whose loss lies within the yardstick has told us nothing.
#
# The loss is the mean squared error of the prediction of $v$ (notebook 05 derives it: $v=\sqrt{\bar\alpha_t}\,\varepsilon-\sqrt{1-\bar\alpha_t}\,x_0$), per pixel, measured on test images that no network has seen, with the same noise for all.
# A network that always answers 0 scores about 1 where $v$ is nearly all noise.
#
# **Predict, then run.** By what factor will the held-out loss rise without the skips?

# %% tags=["predict"]
guess_skips = predict(
    "unet/no-skips", "Held-out loss without skips ÷ loss of the full network", 1, 5
)

# %%
steps = lab.pick(smoke=12, cpu=300, gpu=6000)
batch = lab.pick(smoke=32, cpu=64, gpu=128)
levels = torch.tensor([20, 60, 120, 200, 300, 400, 500, 600, 700, 800, 900, 980], device=lab.device)


def train_network(make, steps, seed=0):
    with seeded(seed):
        model = make().to(lab.device)
    history = fit(
        model, diffusion_loss(schedule, prediction_type="v"), train, steps=steps, batch_size=batch, lr=2e-3,
        lr_schedule="linear-half", warmup=min(20, steps // 4), seed=seed,
    )  # fmt: skip
    return model, history


@torch.no_grad()
def held_out(model):
    """Mean squared error of v per pixel on test images, at each of `levels`: (12,)."""
    x, losses = test.x, []
    for k, level in enumerate(levels):
        noise = torch.empty_like(x).normal_(generator=lab.generator(100 + k))
        t = level.expand(len(x))
        with autocast(lab.device):
            guess = model(schedule.add_noise(x, t, noise), t)
        losses.append((guess.float() - prediction_target(schedule, "v", x, noise, t)).square().mean())
    return torch.stack(losses).cpu()


networks, histories, losses = {}, {}, {}
for name, make in variants.items():
    networks[name], histories[name] = train_network(
        make, steps, seed=1 if name == "full, another seed" else 0
    )
    losses[name] = held_out(networks[name])

# %%
reference, yardstick = (
    losses["full"],
    (losses["full, another seed"].mean() / losses["full"].mean() - 1).abs().item(),
)
print(
    f"{test.title}, {steps_made(*histories.values())} of {batch} images each; "
    f"mean squared error of v per pixel on {len(test)} test images"
)
print(
    f"{'':20s}{'weights':>9s}{'seconds':>9s}{'t ≤ 200':>9s}{'middle':>9s}{'t ≥ 700':>9s}{'all':>9s}{'÷ full':>8s}"
)
early, late = levels.cpu() <= 200, levels.cpu() >= 700
for name, loss in losses.items():
    parts = (loss[early], loss[~early & ~late], loss[late], loss)
    print(
        f"{name:20s}{sum(p.numel() for p in networks[name].parameters()):9,d}{histories[name].seconds:9.1f}"
        + "".join(f"{part.mean():9.4f}" for part in parts)
        + f"{(loss.mean() / reference.mean()).item():8.2f}"
    )
print(f"\nyardstick: another seed changes the loss by {yardstick:.1%}")
excess = {
    name: (losses[name].mean() / reference.mean() - 1).item()
    for name in variants
    if "full" not in name
}
for name, rise in sorted(excess.items(), key=lambda item: -item[1]):
    verdict = (
        "stopped by hand, no verdict"
        if any(histories[one].interrupted for one in ("full", "full, another seed", name))
        else "more than twice the yardstick"
        if abs(rise) > 2 * yardstick
        else "no finding: within twice the yardstick"
    )
    print(f"{name:17s} {rise:+.1%}: {verdict}")
first = {name: losses[name][0].item() for name in ("full", "no skips", "no skips, narrow")}
print(
    f"\nat t = {levels[0]}, where v is nearly all noise: "
    + ", ".join(f"{name} {loss:.2f}" for name, loss in first.items())
)
print(
    f"a linear bottleneck of {passing} numbers would leave {1 - passing / pixels:.2f} of the noise's variance"
)
figure, axes = plots.new_figure(8, 4.2, columns=2)
plots.draw_curves(
    axes[0],
    {name: (levels.cpu(), losses[name]) for name in ("full", "no skips, narrow")},
    title="Full, and narrow without skips",
    x_label="step t",
    y_label="held-out loss (MSE of v per pixel)",
)
others = [name for name in losses if name not in ("full", "no skips, narrow")]
plots.draw_curves(
    axes[1],
    {name: (levels.cpu(), losses[name] / reference) for name in others},
    title="The others, against full",
    x_label="step t",
    y_label="held-out loss ÷ that of the full network",
    mark=(None, 1.0),
)
for panel in axes:
    panel.legend(fontsize=9)
figure.suptitle(f"{test.title}: what each missing part costs", x=0.01, ha="left")
figure.set_label(
    "Left: held-out loss over t of the full and the narrow network. "
    "Right: the losses of the other networks divided by that of the full one"
)
figure

# %%
reveal("unet/no-skips", round((losses["no skips"].mean() / reference.mean()).item(), 2))

# %% [markdown]
# Look at the *shape* of the curves, not just at the averages.
#
# *Skips.* If you expected more harm from "no skips": the table of stages says why there isn't. The bottom of our network is small, but it has many channels, and holds more numbers than the image has pixels. Nothing *must* get lost there; the skips merely save the network the trouble of carrying pixels down and up, and with time it can learn to.
# Through two channels it can't. Compare the two lines of numbers under the table: at small $t$ the narrow network runs into the limit of 4.1.
#
# *Time.* Without $t$ the network has to find out how noisy its input is, and largely it can: it is worse everywhere, and nowhere lost.
#
# *Attention.* At 7 × 7, a handful of convolutions see across the whole image already, and single objects have few distant parts that must agree; whether attention earned its keep in so short a training is what the table says. Dhariwal and Nichol (2021) found it to help, at several sizes, on larger and richer images.
#
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
# ### What does the harm look like?
# Samples of the networks, from the same noise, in 25 steps. Then the comparer: at which $t$ could *you* tell which part is missing?

# %%
start = torch.randn(8, *train.shape, generator=lab.generator(6), device=lab.device)
shown = ("full", "no skips", "no skips, narrow", "no time", "no attention")
denoisers = {name: clipped(Denoiser(networks[name], schedule, "v")) for name in shown}
plots.image_rows(
    {name: last(ddim(denoise, schedule, start, steps=25)) for name, denoise in denoisers.items()},
    title=f"{train.title}: samples after {steps_made(*histories.values())} of training",
)

# %%
compared = test.x[:8]
fixed_noise = torch.randn(compared.shape, generator=lab.generator(7), device=lab.device)


@torch.no_grad()
def compare(t):
    steps_of = torch.full((len(compared),), t, device=lab.device)
    x_t = schedule.add_noise(compared, steps_of, fixed_noise)
    rows = {"clean": compared, f"noisy, t = {t}": x_t.clamp(-1, 1)}
    for name, denoise in denoisers.items():
        guess = denoise(x_t, steps_of)
        rows[f"{name}: {(guess - compared).square().mean():.4f}"] = guess
    return plots.image_rows(rows, title=f"{test.title}: guesses at t = {t}, with squared errors")


explore(
    compare,
    t=slider(20, 980, value=300, step=20),
    title="At which noise level does each missing part show?",
    alt="Clean and noisy test images, and what five networks make of the noisy ones in one step",
)

# %% [markdown]
# ## 4.10 · A look inside
#
# What happens between stem and head? The explorer below shows the channels of a stage that vary most, for one image at any noise level.
# Follow a stage while $t$ grows: where do you still see the grain of the noise, and where only the thing itself? Then follow one $t$ through the stages.

# %%
full = networks["full"]
where = {stage.name: full.get_submodule(stage.name) for stage in table if len(stage.shape) == 3}


@torch.no_grad()
def look_inside(stage, t, image):
    caught = []
    hook = where[stage].register_forward_hook(lambda module, given, output: caught.append(output))
    try:
        x0, step = test.x[image : image + 1], torch.tensor([t], device=lab.device)
        x_t = schedule.add_noise(x0, step, fixed_noise[:1])
        guess = denoisers["full"](x_t, step)
    finally:
        hook.remove()
    maps = caught[0][0].float()
    liveliest = maps.flatten(1).std(1).argsort(descending=True)[:10]
    shown = {"noisy": x_t[0].clamp(-1, 1), "guess": guess[0]} | {
        f"channel {int(c)}": maps[c] for c in liveliest
    }
    shape = " × ".join(map(str, maps.shape))
    return plots.panels(
        shown,
        title=f"{test.title}, {stage} ({shape}) at t = {t}: the liveliest channels",
        columns=6,
    )


explore(
    look_inside,
    stage=choice(list(where), value="down.0.0"),
    t=slider(1, 1000, value=300),
    image=slider(0, 7, label="test image"),
    title="Down to which stage do you still see the noise?",
    alt="A noisy image, the guessed clean image, and ten feature maps of one stage of the network",
)

# %% [markdown]
# How does the step act on all this? By the scales and shifts of (4.4). Here are the scales of the first block, channel by channel, over all $t$: it is a mixing desk, and $t$ moves the faders. And how far does an output pixel look? We take the gradient of the middle pixel's answer with respect to every input pixel, averaged over images.

# %%
every = torch.linspace(1, 1000, 101, device=lab.device)
with torch.no_grad():
    scales, shifts = full.down[0][0].condition(full.embed(every)).T.chunk(2)
figure = plots.heatmap(
    1 + scales[scales.std(1).argsort()],
    title=f"{train.title}, first block: what each channel is multiplied with",
    x_label="step t",
    y_label="channel (sorted)",
    unit="1 + scale",
)
figure.axes[0].set_xticks([0, 25, 50, 75, 100], [1, 250, 500, 750, 1000])
figure


# %%
def looks_at(model, t, images=64):
    """Mean size of ∂ answer in the middle / ∂ input, over test images: (h, w), largest 1."""
    x0 = test.x[:images]
    noise = torch.randn(x0.shape, generator=lab.generator(8), device=lab.device)
    steps_of = torch.full((len(x0),), t, device=lab.device)
    x_t = schedule.add_noise(x0, steps_of, noise).requires_grad_()
    answer = model(x_t, steps_of)[..., x0.shape[2] // 2, x0.shape[3] // 2].sum()
    (slope,) = torch.autograd.grad(answer, x_t)
    return slope.abs().mean((0, 1)).cpu()


def side_of(plane, share=0.9):
    """Side of the smallest square around the middle that holds this share of the plane's sum."""
    h, w = plane.shape
    for r in range(max(h, w)):
        square = plane[max(0, h // 2 - r) : h // 2 + r + 1, max(0, w // 2 - r) : w // 2 + r + 1]
        if square.sum() >= share * plane.sum():
            return 2 * r + 1
    return max(h, w)


times = (20, 300, 600, 950)
planes = {t: looks_at(full, t) for t in times}
reach = {t: side_of(plane) for t, plane in planes.items()}
deepest = (
    [(2, 2), (3, 1)] + [(3, 1)] * 2 + [(3, 2)] + [(3, 1)] * 6
)  # unshuffle, stem, block, down, three blocks
print(
    f"by (4.1), {receptive_field(deepest)[0]} pixels are within reach; "
    f"to see all of 28 from everywhere takes {2 * 28 - 1}"
)
for t in times:
    print(
        f"t = {t:3d}: 90 % of the middle pixel's gradient lies in a square of {reach[t]} × {reach[t]} pixels"
    )
plots.panels(
    {
        f"t = {t}\n90 % within {reach[t]} × {reach[t]}": (plane / plane.max()).sqrt()
        for t, plane in planes.items()
    },
    title=f"{test.title}: where the answer in the middle comes from (root of the gradient)",
    diverging=False,
    shared=True,
    unit="share of the largest",
)

# %% [markdown]
# So by (4.1) every pixel can see everything, at every $t$. What the trained network *uses* is another matter (Luo et al. 2016 call it the effective receptive field), and it may change with $t$: with little noise, the neighbours say enough about a pixel; with much noise, one has to look around. The printed sides say whether your network has learned that.
#
# ## 4.11 · What is the unshuffle stem worth?
#
# Our network never computes at 28 × 28: pixel unshuffle (4.9) turns the image into 14 × 14 with four channels at once. What if it did? The same widths and blocks with `patch=1`; first the cost of a step, then a race: both train *equally long*, as many steps each as the same time buys at that cost.


# %%
def seconds_per_step(patch):
    """A training step at this patch, on networks that are thrown away afterwards: the faster of two short runs."""
    model, repeats = UNet(train.shape, patch=patch).to(lab.device), lab.pick(smoke=2, cpu=6, gpu=50)
    options = {"batch_size": batch, "progress": False}
    fit(model, diffusion_loss(schedule), train, steps=2, **options)  # to warm up
    runs = [
        fit(model, diffusion_loss(schedule), train, steps=repeats, **options) for _ in range(2)
    ]
    return min(run.seconds / len(run.steps) for run in runs)


cost = {patch: seconds_per_step(patch) for patch in (2, 1)}
work = {
    patch: sum(
        s.multiply_adds
        for s in stages(UNet(train.shape, patch=patch), torch.zeros(1, *train.shape), torch.ones(1))
    )
    for patch in (2, 1)
}
faster = cost[1] / cost[2]
for patch in (2, 1):
    print(
        f"patch {patch}: {work[patch] / 1e6:6.1f} million multiply-adds an image, "
        f"{1000 * cost[patch]:6.1f} ms a training step of {batch}"
    )
print(
    f"the stem makes the same widths and blocks {faster:.1f} times faster here, "
    f"with {work[1] / work[2]:.1f} times fewer multiplications"
)

# %%
fine, fine_history = train_network(
    lambda: UNet(train.shape, patch=1), max(2, round(steps / faster))
)
losses["patch 1, same time"] = held_out(fine)
for patch, name, history in (
    (2, "full", histories["full"]),
    (1, "patch 1, same time", fine_history),
):
    done = len(history.steps)
    print(
        f"patch {patch}: {done:5d} steps of {1000 * cost[patch]:.0f} ms, {done * cost[patch]:.1f} s in all, "
        f"held-out loss {losses[name].mean():.4f}"
    )
advantage = (losses["patch 1, same time"].mean() / losses["full"].mean()).item()
ahead = (
    "stopped by hand, no verdict"
    if fine_history.interrupted or histories["full"].interrupted
    else "patch 2 is ahead"
    if advantage > 1 + 2 * yardstick
    else "patch 1 is ahead"
    if advantage < 1 - 2 * yardstick
    else "no clear winner"
)
print(f"after the same time: {ahead} (ratio {advantage:.2f}, yardstick {yardstick:.1%})")
plots.curves(
    {
        "patch 2": (levels.cpu(), losses["full"]),
        "patch 1, the same time": (levels.cpu(), losses["patch 1, same time"]),
    },
    title=f"{test.title}: the same seconds, with and without the stem",
    x_label="step t",
    y_label="held-out loss (MSE of v per pixel)",
)

# %% [markdown]
# The trick costs something. Four neighbouring pixels share one place in the network, and its last layer has to take them apart again; nowhere does it compute with single pixels.
# With enough time one may expect the finer network to win, and at small $t$ first, where the answer hangs on single pixels: look where the two curves lie closest, or cross. With two cores and little time, what counts is how many steps fit in.

# %% [markdown]
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(
    f"effort {lab.effort}, {train.title}, {steps_made(*histories.values())} of {batch} images a network, widths 32 and 64\n"
)
print(
    f"4.1  128 numbers keep {kept['images'][127]:.0%} of images and {kept['noise'][127]:.0%} of noise"
)
print(f"4.3  narrow norm groups: {norm_times[8] / norm_times[2]:.1f} times as slow")
print(
    f"4.4  ConvNeXt against residual block: {1 / fewer:.2f} times the multiplications, {1 / slower:.2f} times the time"
)
print(
    f"4.6  twice the side: softmax attention {doubled['softmax attention']:.1f} times, "
    f"linear {doubled['linear attention']:.1f} times as long"
)
print(
    f"4.7  places of a square, largest ÷ smallest power: "
    f"transposed 3 × 3 {uneven['transposed, 3 × 3']:.1f}, pixel shuffle {uneven['pixel shuffle']:.1f}"
)
print(f"4.8  {weights:,} weights, {whole:,} multiply-adds an image")
print(
    "4.9  held-out loss: "
    + ", ".join(f"{name} {rise:+.0%}" for name, rise in excess.items())
    + f" (another seed {yardstick:.0%})"
)
print(
    "4.10 the middle pixel looks at "
    + ", ".join(f"{reach[t]} × {reach[t]} pixels at t = {t}" for t in (times[0], times[-1]))
)
print(f"4.11 the unshuffle stem: {faster:.1f} times faster a step; after the same time, {ahead}")

# %% [markdown]
# **What to take along.** A U-Net goes down to see far and comes up to answer for every pixel, and its skips carry what no bottleneck could. The step enters every block as a scale and a shift, behind a norm and never before one. Attention is a weighted mean whose weights the content chooses.
# Multiplications are not time, and a difference is a finding only when it exceeds what another seed does. The library's `UNet` (`course_utils/models/unet.py`) is the class above with labels added; notebook 05 trains it properly.
#
# ## Go further *(ungraded)*
# 1. **Add, don't concatenate.** Override `join` so that it adds the copy (the blocks on the way up then take half the channels). What do speed and loss say, beside the yardstick?
# 2. **Attention everywhere.** Put `LinearAttention` at the fine level as well. Does it earn its time?
# 3. **How blind?** Train a network to guess $t$ from $x_t$ alone. How large is its error in $t$, early and late, and what does that say about "no time"?
# 4. **Three levels.** Images of 28 × 28 with `patch=1` can be halved twice. Compare `widths=(16, 32, 64)` with the network above at equal seconds per step.
# 5. **A flat start.** Initialise the convolution before a pixel shuffle so that the four places of a square start equal. Does the first minute of training look different?
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
