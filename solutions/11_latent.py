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
# # 11 · Smaller and larger: latent diffusion and transformers
#
# Two things set most of today's large image models apart from the one that you built. They don't draw pixels but a *code*, a small image of numbers that a decoder turns into a picture (Rombach et al. 2022). And many of them have no U-Net any more but a *transformer* (Peebles & Xie 2023). Does either pay on a laptop? You will build both by hand, and race them against the course's own model at equal seconds.
# The whole notebook in one sentence: **choose where to draw before you choose what draws.**
#
# **What you will be able to do**
# * build and train an autoencoder whose code is a small image, and say what its KL term and its scale are for;
# * run diffusion in that code, and name what it saves and what it can never reach;
# * find what unscaled codes, blended guesses and a mixed-up grid do to pictures;
# * turn an image into tokens, and write attention, adaLN-Zero and a whole DiT around them;
# * count what a transformer costs before you train it, and read a race at equal seconds.
#
# **Before you start:** notebooks 02 (the KL term), 04 (attention), 05 (what a network predicts), 06 (DDIM), 07 (guidance); 10 helps with the last section.
#
# {{budget}}
#
# The text describes what you see at effort `cpu` or above, on Fashion-MNIST. At `smoke` nothing is trained for long enough: sentences about pictures and rankings don't hold there.

# %% tags=["setup"]
import copy
import functools
import statistics
import time
from itertools import pairwise

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_utils import plots, recipes, setup
from course_utils.device import seeded
from course_utils.diffusion import Denoiser, diffusion_loss, predict_noise
from course_utils.explore import choice, explore, slider
from course_utils.measured import shipped_table
from course_utils.metrics import frechet_distance
from course_utils.models import tracing
from course_utils.models.autoencoder import PCA
from course_utils.models.unet import group_norm, sinusoidal_embedding
from course_utils.notebook import load_known
from course_utils.pitfalls import latent as pitfalls
from course_utils.pitfalls import patches
from course_utils.pitfalls.latent import InAnotherUnit
from course_utils.sampling import cfg, clipped, ddim, last
from course_utils.training import fit, steps_within
from course_utils.weights import load_classifier, load_latent_denoiser
from classroom import ask, check, predict, reveal

lab = setup("11")

# %%
train, test = load_known(lab, "train"), load_known(lab, "test")
names, shape = train.classes, train.shape
judge, schedule = load_classifier(train.name, lab.device), recipes.ddpm_schedule().to(lab.device)
if train.note:
    print(f"This notebook needs a trained judge, so it goes on with {train.title}.")


def labels_for(n):
    """(n,) labels, every class in turn."""
    return torch.arange(n, device=lab.device) % len(names)


@torch.no_grad()
def features(images):
    return torch.cat([judge.features(part.clamp(-1, 1)).cpu() for part in images.split(250)]).double()


real = features(test.first(lab.pick(smoke=200, cpu=10_000, gpu=10_000)).x)


def distance(images):
    """Squared Fréchet distance to the test split, in the judge's features."""
    return frechet_distance(real, features(images))


def pixel_noise(n, seed):
    return torch.randn(n, *shape, generator=lab.generator(seed), device=lab.device)


def trained_for(seconds, model, loss, data, recipe):
    """Train for about so many seconds, tried on a copy first; returns the averaged network.  recipe: steps -> Recipe."""
    quietly = {"progress": False, "say": None}
    steps = steps_within(seconds, lambda n: fit(copy.deepcopy(model), loss, data, recipe(n), **quietly))
    return fit(model, loss, data, recipe(steps)).ema_model.eval()


# %% [markdown]
# ## 11.1 · Two jobs
#
# A diffusion model of pixels has two jobs. It decides *what* is in the picture: a boot, its heel, the way it points. And it draws every thread of the fabric, at every step, in a network that runs over all pixels each time. The second job is most of the numbers and little of the meaning.
#
# Rombach et al. (2022) give the two jobs to two networks. An **autoencoder** learns once how to write an image as a short code, and to draw it from there. Then a diffusion model learns to draw *codes*, and never sees a pixel. This is **latent diffusion**, and Stable Diffusion is built this way.
#
# Your code will be a small image as well, 4 channels of 7 × 7: 196 numbers for 784 pixels. A thumbnail of 14 × 14 pixels has 196 numbers, too.
#
# **Predict, then run.** Enlarge the thumbnail again, and compare squared errors. How many times smaller is that of the learned code, after a short training?

# %% tags=["predict"]
guess = predict("latent/thumbnail", "squared error of the thumbnail, divided by that of the code", 0.1, 30)

# %% [markdown]
# ## 11.2 · An autoencoder whose code is an image
#
# In notebook 02 a code was a list of numbers, and a number had no place. Here nothing is flattened, so each number stays near the pixels that it speaks of:
#
# * **encoder:** image, 28 × 28 → squares of 2 × 2 as channels, convolution → 32 channels of 14 × 14, block → convolution of stride 2 → 64 channels of 7 × 7, block → norm, SiLU, convolution → 4 means and 4 log-variances;
# * **decoder:** code, 4 numbers for each of 7 × 7 → convolution → 64 channels, block → 1 × 1 convolution, pixel shuffle → 32 channels of 14 × 14, block → norm, SiLU, convolution, pixel shuffle → image.
#
# ### {{heading latent/block}}
# The residual block of notebook 04 without the embedding: nothing here depends on a step. `group_norm(channels)` makes its norms.


# %% tags=["quiz"]
class ResidualBlock(nn.Module):
    """x plus what two 3 × 3 convolutions add to it; each comes after a group norm and a SiLU.

    Made as ResidualBlock(channels), called with (b, channels, h, w). The second convolution starts at zero, weight and bias.
    """

    ### BEGIN SOLUTION
    def __init__(self, channels):
        super().__init__()
        self.norm1, self.conv1 = group_norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = group_norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return x + h

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, channels):
    #     super().__init__()
    #     raise NotImplementedError("quiz latent/block: not answered yet")
    #
    # def forward(self, x):
    #     raise NotImplementedError("quiz latent/block: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
ResidualBlock = check("latent/block", ResidualBlock)

# %% [markdown]
# ### {{heading latent/encoder}}


# %% tags=["quiz"]
def make_encoder(shape, channels, widths):
    """Images (b, *shape) -> (b, 2 · channels, h / 2ⁿ, w / 2ⁿ), an nn.Module; n = len(widths).

    First nn.PixelUnshuffle(2) and a 3 × 3 convolution to widths[0]. Each level has one ResidualBlock; a 3 × 3
    convolution of stride 2 leads from a level to the next. At the end a norm, SiLU, and a 3 × 3 convolution.
    Convolutions of 3 × 3 have padding 1.
    """
    ### BEGIN SOLUTION
    layers = [nn.PixelUnshuffle(2), nn.Conv2d(4 * shape[0], widths[0], 3, padding=1)]
    for width, before in zip(widths, (None, *widths)):
        if before is not None:
            layers.append(nn.Conv2d(before, width, 3, stride=2, padding=1))
        layers.append(ResidualBlock(width))
    layers += [group_norm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], 2 * channels, 3, padding=1)]
    return nn.Sequential(*layers)
    ### END SOLUTION


# %% tags=["check"]
make_encoder = check("latent/encoder", make_encoder)

# %% [markdown]
# ### {{heading latent/decoder}}
# The way back. Where the encoder halved, a 1 × 1 convolution makes four times as many channels as the next level has, and `nn.PixelShuffle(2)` spreads them over squares of 2 × 2.


# %% tags=["quiz"]
def make_decoder(shape, channels, widths):
    """Codes (b, channels, i, j) -> (b, c, 2ⁿ i, 2ⁿ j), any real numbers, an nn.Module; n = len(widths), shape: (c, h, w).

    First a 3 × 3 convolution to widths[-1]. Each level, from the coarsest, has one ResidualBlock; a 1 × 1
    convolution and nn.PixelShuffle(2) lead to the next. At the end a norm, SiLU, a 3 × 3 convolution and a shuffle.
    """
    ### BEGIN SOLUTION
    coarse_first = widths[::-1]
    layers = [nn.Conv2d(channels, coarse_first[0], 3, padding=1)]
    for width, after in zip(coarse_first, (*coarse_first[1:], None)):
        layers.append(ResidualBlock(width))
        if after is not None:
            layers += [nn.Conv2d(width, 4 * after, 1), nn.PixelShuffle(2)]
    layers += [group_norm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], 4 * shape[0], 3, padding=1)]
    return nn.Sequential(*layers, nn.PixelShuffle(2))
    ### END SOLUTION


# %% tags=["check"]
make_decoder = check("latent/decoder", make_decoder)

# %% [markdown]
# ### {{heading latent/autoencoder}}
# As in notebook 02 the encoder describes a Gaussian $q(z|x)$, with a mean and a log-variance for each number of the code.


# %% tags=["quiz"]
class SpatialAutoencoder(nn.Module):
    """Images (b, *shape) in [-1, 1] and codes (b, channels, i, j); made as SpatialAutoencoder(shape, channels, widths).

    .encode(x): mean and log-variance of q(z|x), the first and the second half of the channels that your encoder gives;
    .decode(z): what your decoder says of z, brought to [-1, 1] by tanh.
    """

    ### BEGIN SOLUTION
    def __init__(self, shape, channels=4, widths=(32, 64)):
        super().__init__()
        self.encoder = make_encoder(shape, channels, widths)
        self.decoder = make_decoder(shape, channels, widths)

    def encode(self, x):
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        return mean, log_var

    def decode(self, z):
        return self.decoder(z).tanh()

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, shape, channels=4, widths=(32, 64)):
    #     super().__init__()
    #     raise NotImplementedError("quiz latent/autoencoder: not answered yet")
    #
    # def encode(self, x):
    #     raise NotImplementedError("quiz latent/autoencoder: not answered yet")
    #
    # def decode(self, z):
    #     raise NotImplementedError("quiz latent/autoencoder: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
SpatialAutoencoder = check("latent/autoencoder", SpatialAutoencoder)

# %% [markdown]
# What should it learn? To give back the image, from a code to which a little noise was added. With $D$ numbers in an image (pixels times colours),
#
# $$L=\frac1D\big|x-\operatorname{decode}(z)\big|^2+\frac wD\,\mathrm{KL}\big(q(z|x)\,\big\|\,\mathcal N(0,I)\big),\qquad z=\mu+\sigma\varepsilon . \tag{11.1}$$
#
# You know this loss. The negative ELBO of a Gaussian decoder with variance $\sigma_x^2$ is $|x-\operatorname{decode}(z)|^2/2\sigma_x^2+\mathrm{KL}$ and a constant; times $2\sigma_x^2/D$ it is (11.1), with $w=2\sigma_x^2$. So choosing $w$ is choosing how exactly pixels count. (Stable Diffusion's autoencoder adds a loss in the features of a trained network, and a discriminator: what nobody sees may be lost, what looks blurred may not.)
#
# ### {{heading latent/loss}}


# %% tags=["quiz"]
def autoencoder_loss(model, x, noise, kl_weight):
    """Equation (11.1), its mean over the batch: a tensor with one number.

    model: .encode(x) gives mean and log-variance, .decode(z) images;  x: (b, c, h, w);  noise: ε, like a batch of means.
    The KL is a sum over all numbers of a code, as in notebook 02.
    """
    ### BEGIN SOLUTION
    mean, log_var = model.encode(x)
    z = mean + (log_var / 2).exp() * noise
    error = (model.decode(z) - x).square().mean()
    kl = (mean.square() + log_var.exp() - 1 - log_var).sum() / 2 / len(x)
    return error + kl_weight * kl / x[0].numel()
    ### END SOLUTION


# %% tags=["check"]
autoencoder_loss = check("latent/loss", autoencoder_loss)

# %%
for weight in (1e-3, 1.0):
    print(f"w = {weight}: the decoder's σ is {127.5 * (weight / 2) ** 0.5:.1f} of 255 grey levels")

# %% [markdown]
# ### {{heading latent/large-kl}}
# {{question latent/large-kl}}

# %% tags=["quiz"]
### BEGIN SOLUTION
large_kl = "c"
### END SOLUTION
### BEGIN HANDED OUT
# large_kl = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("latent/large-kl", large_kl)

# %% [markdown]
# ### Train it


# %%
def loss_of_images(model, x, y, generator):
    """Your loss, as `fit` wants it."""
    rows, columns = x.shape[2] // 4, x.shape[3] // 4
    noise = torch.randn(len(x), 4, rows, columns, generator=generator, device=x.device)
    return autoencoder_loss(model, x, noise, 1e-3)


known = train.first(lab.pick(smoke=300, cpu=20_000, gpu=60_000))
with seeded(0):
    autoencoder = SpatialAutoencoder(shape).to(lab.device)
seconds_for_code = lab.pick(smoke=0.3, cpu=24, gpu=120)
autoencoder = trained_for(seconds_for_code, autoencoder, loss_of_images, known, recipes.autoencoder_recipe)
autoencoder = autoencoder.requires_grad_(False)

some = test.first(lab.pick(smoke=200, cpu=2000, gpu=5000)).x
mean, log_var = (torch.cat(parts) for parts in zip(*map(autoencoder.encode, some.split(250))))
pca = PCA.fit(known.first(5000).x, min(196, len(known)))
thumbnail = F.avg_pool2d(some, 2)
back = {
    "the learned code": torch.cat([autoencoder.decode(part) for part in mean.split(250)]),
    "PCA": pca.decode(pca.encode(some)).clamp(-1, 1),
    "a thumbnail": F.interpolate(thumbnail, scale_factor=2, mode="bilinear"),
}
errors = {who: (images - some).square().mean().item() for who, images in back.items()}
for who, images in back.items():
    print(f"{who:17s} squared error {errors[who]:.4f},  d² {distance(images):6.2f}")
reveal("latent/thumbnail", round(errors["a thumbnail"] / errors["the learned code"], 1))

# %%
rows = {"image": some[:8]} | {who: images[:8] for who, images in back.items()}
rows["the code's error"] = (back["the learned code"] - some)[:8].abs() - 1  # black where there is none
figure = plots.image_rows(rows, title="196 numbers, spent in three ways")
figure.set_label("Test images above what the learned code, PCA and a thumbnail keep of them, and where the code errs.")
figure

# %% [markdown]
# A thumbnail spends its numbers evenly over the plane. PCA spends them where images differ most: for squared error on its images no *linear* code does better. The learned code needn't be linear, and may leave to the decoder's weights what all collars have in common.
#
# ## 11.3 · Diffusion in the code
#
# From here on the autoencoder is frozen.
#
# ### {{heading latent/floor}}
# {{question latent/floor}}

# %% tags=["quiz"]
### BEGIN SOLUTION
floor = "b"
### END SOLUTION
### BEGIN HANDED OUT
# floor = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("latent/floor", floor)

# %% [markdown]
# Every training image is encoded once, by the mean of its code. But how large are these numbers? Nothing in the decoder cares: with codes ten times as wide, and first weights a tenth as large, it would draw the same. The *schedule* cares. It mixes data of variance 1 with noise of variance 1. So codes are multiplied by one number for all channels and places,
#
# $$s=\Big(\tfrac1N\sum_i(\mu_i-\bar\mu)^2\Big)^{-1/2}, \tag{11.2}$$
#
# where the sum goes over all $N$ numbers of all codes, and $\bar\mu$ is their mean.
#
# ### {{heading latent/scaled-codes}}


# %% tags=["quiz"]
def scaled_codes(autoencoder, images, size=250):
    """The mean codes of all images times s of equation (11.2), (n, channels, i, j), and s, a float.

    autoencoder: .encode(x) gives mean and log-variance. It sees at most `size` images at a time, and no gradients.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        means = torch.cat([autoencoder.encode(part)[0] for part in images.split(size)])
    s = 1 / means.std(correction=0).item()
    return s * means, s
    ### END SOLUTION


# %% tags=["check"]
scaled_codes = check("latent/scaled-codes", scaled_codes)

# %%
codes, scale = scaled_codes(autoencoder, known.x)
labels = known.labels
print(f"{len(codes):,} codes of {tuple(codes.shape[1:])}: s = {scale:.3f}")
print(f"codes spread by {1 / scale:.2f}, one image's q(z|x) by {(log_var / 2).exp().mean():.3f}")

# %% [markdown]
# The two spreads say why the mean is enough: $q(z|x)$ is a small ball around it, among codes that lie far apart.
#
# ### Train a denoiser of codes
# Nothing about it is new: the loss, the recipe and a small U-Net of notebook 05, on "images" of four channels.


# %%
def trained_denoiser(network, data, seconds):
    """A denoiser of whatever `data` holds, images or codes, with the course's loss and recipe."""
    network = network.to(lab.device)
    loss = diffusion_loss(schedule, "v", null=network.null)
    return Denoiser(trained_for(seconds, network, loss, data, recipes.ddpm_recipe).requires_grad_(False), schedule, "v")


def code_network():
    with seeded(0):
        return recipes.latent_model(tuple(codes.shape[1:]), len(names))


seconds_for_denoiser = lab.pick(smoke=0.3, cpu=15, gpu=120)
denoise_codes = trained_denoiser(code_network(), (codes, labels), seconds_for_denoiser)

# %% [markdown]
# ### {{heading latent/no-clip}}
# {{question latent/no-clip}}

# %% tags=["quiz"]
### BEGIN SOLUTION
no_clip = "d"
### END SOLUTION
### BEGIN HANDED OUT
# no_clip = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("latent/no-clip", no_clip)

# %% [markdown]
# ### {{heading latent/draw}}
# Draw a code with DDIM (`last(ddim(denoise, schedule, noise, steps, y))` is where it ends), then the image.


# %% tags=["quiz"]
def latent_images(denoise, schedule, autoencoder, scale, noise, y, steps):
    """Images (b, c, h, w), drawn by DDIM in so many steps.

    denoise: of codes times scale, (z_t, t, y) -> ẑ_0;  autoencoder: .decode(z), of codes as it learned them;
    noise: (b, channels, i, j);  y: (b,) labels.
    """
    ### BEGIN SOLUTION
    drawn = last(ddim(denoise, schedule, noise, steps, y))
    with torch.no_grad():
        return autoencoder.decode(drawn / scale)
    ### END SOLUTION


# %% tags=["check"]
latent_images = check("latent/draw", latent_images)

# %% [markdown]
# ### A race at equal seconds
# The rival works on pixels, with the same loss, schedule and images. An autoencoder isn't free, so the rival may train as long as autoencoder and denoiser *together*. A third row is no model at all: noise of the right variance, decoded.

# %%
seconds_for_pixels = seconds_for_code + seconds_for_denoiser
with seeded(0):
    pixel_network = recipes.ddpm_model(shape, len(names))
pixel_denoiser = trained_denoiser(pixel_network, known, seconds_for_pixels)
denoise_pixels = clipped(pixel_denoiser)

# %%
strides, many = lab.pick(smoke=3, cpu=20, gpu=50), lab.pick(smoke=70, cpu=300, gpu=2000)


def code_noise(n, seed=1):
    return torch.randn(n, *codes.shape[1:], generator=lab.generator(seed), device=lab.device)


def draw_latent(n, seed=1):
    """n images (n, c, h, w), every class in turn."""
    return latent_images(denoise_codes, schedule, autoencoder, scale, code_noise(n, seed), labels_for(n), strides)


def draw_pixels(n):
    return last(ddim(denoise_pixels, schedule, pixel_noise(n, 1), strides, labels_for(n)))


drawn, took = {}, {}
for who, draw in (("codes", draw_latent), ("pixels", draw_pixels)):
    draw(2)  # the first call is slower
    began = time.perf_counter()
    drawn[who] = draw(many).cpu()  # waits for a GPU
    took[who] = time.perf_counter() - began
drawn["noise, decoded"] = autoencoder.decode(code_noise(many, 2) / scale).cpu()
found = {who: distance(images) for who, images in drawn.items()}
for who in found:
    seconds = f"{took[who]:5.1f} s for {many} images" if who in took else ""
    print(f"{who:15s} d² {found[who]:6.1f}   {seconds}")
print(f"the floor: d² {distance(back['the learned code'][:many]):.1f} for as many decoded test images")
first_ten = {who: images[:10] for who, images in drawn.items()}
plots.image_rows(first_ten, labels=names[:10], title="Drawn as codes, and as pixels")

# %% [markdown]
# Three things to read here. The last row: numbers drawn independently of each other decode to no garment; how they belong together is what the denoiser has learned. The seconds: where arithmetic sets the pace, as on a processor, drawing codes is cheaper at every step, and one call of the decoder comes on top. And the floor: as long as it lies far below the first row, it isn't the autoencoder that limits this model, but the time that the denoiser had. (One training each: a small difference between two $d^2$ may turn round in another run.)
#
# ### In another unit *(extra)*
# Is (11.2) worth the trouble? Your own $s$ is near 1, for the KL term holds codes near $\mathcal N(0,I)$. Stable Diffusion's KL is weighted far less, its codes are wide, and its $s$ is 0.18215. Here is your autoencoder in that unit: the same images, wider codes. First, a denoiser of codes that nobody scaled:

# %%
wide, wide_scale = InAnotherUnit(autoencoder, scale / 0.18215), 0.18215
never_scaled = trained_denoiser(code_network(), (codes / wide_scale, labels), seconds_for_denoiser)
unscaled_images = latent_images(never_scaled, schedule, wide, 1.0, code_noise(many), labels_for(many), strides)
found["trained on wide codes"] = distance(unscaled_images)
print(f"d² {found['trained on wide codes']:.1f} after training on wide codes, {found['codes']:.1f} on scaled ones")
half = schedule.T // 2
ratio = schedule.snr[half].item()
print(f"signal over noise at step {half}: {ratio:.2f}, of wide codes {ratio / wide_scale**2:.1f}")

# %% [markdown]
# Compare the two ratios: halfway up, wide codes still stand far above the noise, so these steps hide little from the denoiser.
#
# #### {{heading latent/somebody-elses-variations}}
# Back to your own denoiser, trained on scaled codes, and to your autoencoder in that other unit. Somebody draws **variations** with it: encode an image, add the noise of step $t$, and denoise from there. From 900 of 1,000 steps on, hardly more than the class and an overall brightness should survive.

# %%
chosen = test.take(test.examples(8))
told, later = test.labels[test.examples(8)], lab.pick(smoke=2, cpu=12, gpu=25)


def varied(how, t):
    return how(denoise_codes, schedule, wide, wide_scale, chosen, code_noise(len(chosen), 3), told, t, later)


original, levels = autoencoder.decode(autoencoder.encode(chosen)[0]), (600, 900)


def drawn_anew(how, name):
    """A row for each level, and how far its images are from the originals."""
    found = {f"{name}t = {t}": varied(how, t) for t in levels}
    for who, images in found.items():
        print(f"{who:18s} mean squared change {(images - original).square().mean():.3f}")
    return found


rows = {"image, decoded": original} | drawn_anew(pitfalls.variations, "")
plots.image_rows(rows, title="Variations of these images?")

# %% [markdown]
# The garments are bleached, and even from step 900 on most are still themselves. Find what is wrong, and fix it.


# %% tags=["quiz"]
def somebody_elses_variations(denoise, schedule, autoencoder, scale, images, noise, y, t, steps):
    """Images (b, c, h, w) drawn anew from step t on.

    denoise: of codes times scale;  autoencoder: .encode, .decode, of codes as it learned them;  images: (b, c, h, w);
    noise: (b, channels, i, j);  y: (b,) labels;  t: the step to begin at;  steps: strides from there to 0.
    """
    stops = [round(t * (steps - k) / steps) for k in range(steps + 1)]
    at = torch.full((len(images),), t, device=images.device)

    with torch.no_grad():
        ### BEGIN SOLUTION
        mean, _ = autoencoder.encode(images)
        z_t = schedule.add_noise(scale * mean, at, noise)
        z_0 = last(ddim(denoise, schedule, z_t, stops, y))
        ### END SOLUTION
        ### BEGIN HANDED OUT
        # mean, _ = autoencoder.encode(images)
        # z_t = schedule.add_noise(mean, at, noise)
        # z_0 = last(ddim(denoise, schedule, z_t, stops, y))
        ### END HANDED OUT
        return autoencoder.decode(z_0 / scale)


# %% tags=["check"]
somebody_elses_variations = check("latent/somebody-elses-variations", somebody_elses_variations)

# %%
rows |= drawn_anew(somebody_elses_variations, "repaired, ")
plots.image_rows(rows, title="The same images, the same noise")

# %% [markdown]
# #### {{heading latent/what-the-scale-did}}
# {{question latent/what-the-scale-did}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_the_scale_did = "a"
### END SOLUTION
### BEGIN HANDED OUT
# what_the_scale_did = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("latent/what-the-scale-did", what_the_scale_did)

# %% [markdown]
# ### From the same noise *(extra)*
# #### {{heading latent/somebody-elses-drawing}}
# Somebody else draws with your denoiser and your autoencoder, from the same noise. The objects are the right ones; the pictures look hazy, as through a misted window.

# %%
pictures = {"yours": drawn["codes"]}


def drawn_by(how):
    images = how(denoise_codes, schedule, autoencoder, scale, code_noise(many), labels_for(many), strides)
    contrast = (images[..., 1:] - images[..., :-1]).abs().mean().item()
    print(f"d² {distance(images):5.1f};  mean step from pixel to pixel {contrast:.3f}")
    return images


pictures["somebody else's"] = drawn_by(pitfalls.drawing)
plots.image_rows({who: images[:10] for who, images in pictures.items()}, labels=names[:10], title="From the same noise")

# %% [markdown]
# Find what is wrong, and fix it.


# %% tags=["quiz"]
def somebody_elses_drawing(denoise, schedule, autoencoder, scale, noise, y, steps):
    """Images (b, c, h, w), drawn by DDIM in so many steps.  Arguments as for `latent_images`."""
    with torch.no_grad():
        ### BEGIN SOLUTION
        for step in ddim(denoise, schedule, noise, steps, y):
            drawn = step.x
        return autoencoder.decode(drawn / scale)
        ### END SOLUTION
        ### BEGIN HANDED OUT
        # images = []
        # for step in ddim(denoise, schedule, noise, steps, y):
        #     if step.x0 is not None:  # the guess of the stride that ended here; none before the first
        #         images.append(autoencoder.decode(step.x0 / scale))
        # return torch.stack(images).mean(0)
        ### END HANDED OUT


# %% tags=["check"]
somebody_elses_drawing = check("latent/somebody-elses-drawing", somebody_elses_drawing)

# %%
pictures["repaired"] = drawn_by(somebody_elses_drawing)
plots.image_rows({who: images[:10] for who, images in pictures.items()}, labels=names[:10], title="From the same noise")

# %% [markdown]
# #### {{heading latent/what-the-blend-did}}
# {{question latent/what-the-blend-did}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_the_blend_did = "c"
### END SOLUTION
### BEGIN HANDED OUT
# what_the_blend_did = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("latent/what-the-blend-did", what_the_blend_did)

# %% [markdown]
# ## 11.4 · What a code is
#
# ### A walk, channel by channel *(extra)*
#
# Four numbers for each place of a 7 × 7 grid. What do they say? Push one channel, everywhere or in the middle alone, and watch the image.

# %%
walked = test.examples(lab.pick(smoke=2, cpu=6, gpu=6))
walked_images = test.take(walked)
walked_codes = scale * autoencoder.encode(walked_images)[0]


def pushed(image, channel, where, amount):
    code = walked_codes[image - 1 : image].clone()
    middle = slice(code.shape[2] // 2, code.shape[2] // 2 + 1) if where == "in the middle" else slice(None)
    code[:, channel - 1, middle, middle] += amount
    figure, axes = plots.new_figure(8, 2.6, 1, 3, width_ratios=(3, 1, 1))
    plots.draw_images(axes[0], code[0, :, None] / 4, title=f"The code; channel {channel}: {amount:+.1f} {where}")
    plots.draw_images(axes[1], walked_images[image - 1 : image], title="Image")
    plots.draw_images(axes[2], autoencoder.decode(code / scale), title="Decoded")
    return figure


explore(
    pushed,
    image=slider(1, len(walked), value=1, step=1, label="image"),
    channel=slider(1, codes.shape[1], value=1, step=1, label="channel"),
    where=choice(["in the middle", "everywhere"], label="where"),
    amount=slider(-3.0, 3.0, value=2.0, step=0.5, label="amount"),
    title="A walk through the code, channel by channel",
    alt="Four small grey planes of a code, one of them changed, beside the image and what is decoded from the code.",
)

# %% [markdown]
# Look for the garment in the planes of the code: it is an image still, coarse, in four colours of its own. How local is it?
#
# **Predict, then run.** Move one number of the code, in the middle. Count pixels from the most changed one down: what share of them holds 90 % of the change?

# %% tags=["predict"]
guess = predict("latent/reach", "pixels that hold 90 % of the change", 0, 100, unit="%")

# %% [markdown]
# #### {{heading latent/change-map}}


# %% tags=["quiz"]
def change_map(decode, codes, channel, row, column, amount):
    """(h, w): how far each pixel moves, |change| averaged over images and their colours.

    decode: codes (n, k, i, j) -> images (n, c, h, w);  in every code the number at (channel, row, column) is moved by
    amount. `codes` themselves stay as they are.
    """
    ### BEGIN SOLUTION
    moved = codes.clone()
    moved[:, channel, row, column] += amount
    return (decode(moved) - decode(codes)).abs().mean((0, 1))
    ### END SOLUTION


# %% tags=["check"]
change_map = check("latent/change-map", change_map)

# %%
middle, several = codes.shape[2] // 2, codes[: lab.pick(smoke=20, cpu=200, gpu=1000)]
maps = [
    change_map(lambda z: autoencoder.decode(z / scale), several, k, middle, middle, 1.0) for k in range(codes.shape[1])
]
falling = sum(maps).flatten().sort(descending=True).values
enough = (falling.cumsum(0) < 0.9 * falling.sum()).sum().item() + 1
reveal("latent/reach", round(100 * enough / len(falling)))
figure, axes = plots.new_figure(8, 2.6, 1, len(maps))
figure.suptitle("How far pixels move when one number of the code moves by 1")
for k, (axis, found_map) in enumerate(zip(axes, maps)):
    axis.imshow(found_map.cpu() / max(each.max().item() for each in maps), cmap="magma", vmin=0, vmax=1)
    axis.set(title=f"channel {k + 1}", xticks=[], yticks=[])
figure.set_label("For each channel a map of how far pixels move: a bright spot in the middle, dark elsewhere.")
figure

# %% [markdown]
# One number has its place, a square of 4 × 4 pixels, and moves a patch around it, for the decoder's convolutions overlap; a little of its change goes everywhere, through the norms. So the code is a small image, and what works on images works on it: convolutions, patches, guidance, filling in.

# %% [markdown]
# ### Filling in *(extra)*
# #### {{heading latent/fill-in}}
# Keep a part of an image's code, and let the denoiser draw the rest. At every step, from $T$ down to 0, the kept part is put in with as much noise as belongs to that step, and always the same noise.


# %% tags=["quiz"]
def fill_in(denoise, schedule, known, kept, noise, y, steps):
    """Codes (b, k, i, j) that agree with `known` where `kept` is True, and are drawn by DDIM elsewhere.

    denoise: (z_t, t, y) -> ẑ_0;  known: codes times scale;  kept: (i, j), bool;  noise: like known;  y: (b,) labels.
    z begins at T as `noise`. From there to 0, at every stop, what is kept is `known` with `noise` of that very step.
    """
    ### BEGIN SOLUTION
    start = torch.full_like(y, schedule.T)
    z = torch.where(kept, schedule.add_noise(known, start, noise), noise)
    for t, s in pairwise(schedule.timesteps(steps)):
        now, then = torch.full_like(y, t), torch.full_like(y, s)
        z_0 = denoise(z, now, y)
        eps = predict_noise(schedule, z_0, z, now)
        invented = schedule.add_noise(z_0, then, eps)
        put_back = schedule.add_noise(known, then, noise)
        z = torch.where(kept, put_back, invented)
    return z
    ### END SOLUTION


# %% tags=["check"]
fill_in = check("latent/fill-in", fill_in)

# %%
chosen_codes = scale * autoencoder.encode(chosen)[0]
upper = torch.zeros(codes.shape[2:], device=lab.device).bool()
upper[: upper.shape[0] // 2] = True
above = upper.repeat_interleave(4, 0).repeat_interleave(4, 1)  # the pixels that a kept number stands for
rows = {"image, decoded": original}
for who, asked_for in {"same class": told, "another class": (told + 1) % len(names)}.items():
    z = fill_in(denoise_codes, schedule, chosen_codes, upper, code_noise(len(chosen), 4), asked_for, later)
    rows[who] = autoencoder.decode(z / scale)
    moved = (rows[who] - original).square()
    print(f"{who:13s} mean squared change: above {moved[..., above].mean():.4f}, below {moved[..., ~above].mean():.4f}")
figure = plots.image_rows(rows, title="The upper part of the code is kept, the rest is drawn")
figure.set_label("Eight images; the same with their lower part drawn anew for their class, and for another class.")
figure

# %% [markdown]
# Look for the seam. Pixels near it are made of kept *and* of drawn numbers, for the decoder's convolutions overlap. That, and its norms, is why pixels above change a little, though their part of the code is the same to the last digit. Does the drawn part fit? On its way the denoiser saw the kept one through noise alone.
#
# ### When does it pay?

# %%
measured = shipped_table("latent")["models"]


def of(images, model, seconds, what="distance"):
    """What a long benchmark found, in words: mean and spread over seeds, one number, or nothing."""
    values = measured.get(f"{images}, {model}, {seconds}", {}).get(what, [])
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}" if values else ""


print(f"{'':18s}{'CPU s':>6s}{'d² pixels':>14s}{'d² codes':>14s}{'floor':>12s}   seconds to draw 1,000: pixels, codes")
for images in ("fashion-mnist 28", "shapes 32", "shapes 64"):
    for seconds in (60, 300, 600):
        where = images, "U-Net", seconds
        coded = images, "U-Net on codes", seconds
        if of(*coded):
            cells = f"{of(*where):>14s}{of(*coded):>14s}{of(*coded, 'floor'):>12s}"
            print(f"{images:18s}{seconds:6d}{cells}   {of(*where, 'drawing')}, {of(*coded, 'drawing')}")

# %% [markdown]
# By `benchmarks/latent.py`; ± is the standard deviation of three trainings, lines without it were trained once. A third of the seconds of codes goes to their autoencoder. On grey images of 28 pixels codes are ahead after a minute, all included: their autoencoder needs twenty seconds, and its floor is low. On colour images of 32 pixels a minute can't tell the two apart. The floor says why: twenty seconds are too few for an autoencoder of colours, and what it can't draw, nothing after it can. At 64 pixels, after five minutes, codes are a little ahead, in one training each. And the larger the image, the more is saved whenever one is drawn: compare the last two numbers of each line.

# %% [markdown]
# ## 11.5 · Images as sentences
#
# A U-Net knows before it has seen any image which pixels are neighbours, and begins with them. A **transformer** (Vaswani et al. 2017) was made for sentences. It takes a row of vectors, the **tokens**, and every token may look at every other, near or far. Can it denoise as well?
#
# Cut an image into squares of $P\times P$ pixels, the **patches**, and read them line by line, as a page is read. With $w/P$ patches in a line, patch $i$ from the top and $j$ from the left becomes token number $i\,w/P+j$, and its pixels become the token's numbers:
#
# $$z_{\,i\,w/P+j,\;\;c P^2+aP+b}\;=\;x_{\,c,\;\,Pi+a,\;\,Pj+b},\qquad 0\le a,b<P . \tag{11.3}$$
#
# ### {{heading transformer/patchify}}
# With `rearrange`, or `reshape` and `permute`.


# %% tags=["quiz"]
def patchify(x, patch):
    """Squares of patch × patch pixels as tokens, equation (11.3): (b, (h / patch) · (w / patch), c · patch²).

    x: (b, c, h, w), h and w multiples of patch.
    """
    ### BEGIN SOLUTION
    squares = "b c (rows p) (columns q) -> b (rows columns) (c p q)"
    return rearrange(x, squares, p=patch, q=patch)
    ### END SOLUTION


# %% tags=["check"]
patchify = check("transformer/patchify", patchify)

# %% [markdown]
# ### {{heading transformer/somebody-elses-patches}}
# A colleague has written the way back. "Tested on all of Fashion-MNIST," he says, "every image comes back." Then somebody handed him narrower images.

# %%
whole = test.first(10).x
narrow = whole[..., 4:-4]
gap = (patches.unpatchify(patchify(whole, 4), whole.shape[1:], 4) - whole).abs().max()
print(
    f"images of {whole.shape[2]} × {whole.shape[3]} pixels, cut and put together by him: largest difference {gap:.0f}"
)
there_and_back = {
    "as they are": narrow,
    "put together by him": patches.unpatchify(patchify(narrow, 4), narrow.shape[1:], 4),
}
plots.image_rows(
    there_and_back, title=f"Images of {narrow.shape[2]} × {narrow.shape[3]} pixels: what has happened here?"
)

# %% [markdown]
# Find what is wrong in his function and fix it: it will be the last layer of your network.


# %% tags=["quiz"]
def unpatchify(tokens, shape, patch):
    """Tokens (b, n, c · patch²) as images again, (b, c, h, w): takes back what patchify did.

    shape: (c, h, w) of the images.
    """
    ### BEGIN SOLUTION
    c, height, width = shape
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # c, width, height = shape
    ### END HANDED OUT
    rows, columns = height // patch, width // patch
    squares = tokens.reshape(-1, rows, columns, c, patch, patch)
    lines = squares.permute(0, 3, 1, 4, 2, 5)  # b, c, rows, patch, columns, patch
    return lines.reshape(-1, *shape)


# %% tags=["check"]
unpatchify = check("transformer/somebody-elses-patches", unpatchify)

# %%
there_and_back["repaired"] = unpatchify(patchify(narrow, 4), narrow.shape[1:], 4)
print(f"largest difference after there and back: {(there_and_back['repaired'] - narrow).abs().max():g}")
plots.image_rows(there_and_back, title=f"Images of {narrow.shape[2]} × {narrow.shape[3]} pixels, there and back")

# %% [markdown]
# ### {{heading transformer/what-the-grid-did}}
# {{question transformer/what-the-grid-did}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_the_grid_did = "c"
### END SOLUTION
### BEGIN HANDED OUT
# what_the_grid_did = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("transformer/what-the-grid-did", what_the_grid_did)

# %% [markdown]
# ### Who looks at whom
# Attention is (4.6), with tokens in the place of pixels. From each token come $H$ queries, keys and values, one for each **head**, of $d/H$ numbers each. Every head gathers for itself, and a last linear layer mixes what they bring:
#
# $$\operatorname{attention}(z)=\big[\,g_1,\dots,g_H\,\big]\,W^\top+\beta,\qquad g_h=\operatorname{softmax}\!\Big(\frac{q_h\,k_h^\top}{\sqrt{d/H}}\Big)\,v_h . \tag{11.4}$$
#
# ### {{heading transformer/attention}}
# Two linear layers with bias: one from `width` to `3 * width` (first all of $q$, then $k$, then $v$, each split into heads), and the last one.


# %% tags=["quiz"]
class SelfAttention(nn.Module):
    """What every token gathers from all tokens of its image, equation (11.4).

    width: numbers of a token;  heads: how many, a divisor of width.
    Called as layer(z): z (b, n, width), n of any size; returns the same shape, without z added.
    """

    ### BEGIN SOLUTION
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, z):
        split = "b n (three heads d) -> three b heads n d"
        q, k, v = rearrange(self.qkv(z), split, three=3, heads=self.heads)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
        return self.out(rearrange(weights @ v, "b heads n d -> b n (heads d)"))

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, width, heads):
    #     super().__init__()
    #     raise NotImplementedError("transformer/attention: not answered yet")
    #
    # def forward(self, z):
    #     raise NotImplementedError("transformer/attention: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
SelfAttention = check("transformer/attention", SelfAttention)

# %% [markdown]
# ### {{heading transformer/shuffled}}
# {{question transformer/shuffled}}

# %% tags=["quiz"]
### BEGIN SOLUTION
shuffled = "b"
### END SOLUTION
### BEGIN HANDED OUT
# shuffled = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("transformer/shuffled", shuffled)

# %% [markdown]
# So write into each token where it lies. Row and column become waves, as the step $t$ did in (4.2), each in half of the token's numbers:
#
# $$\operatorname{position}(i,j)=\big[\,\operatorname{waves}_{d/2}(i),\;\operatorname{waves}_{d/2}(j)\,\big] . \tag{11.5}$$
#
# ### {{heading transformer/positions}}
# `sinusoidal_embedding(numbers, size)` from notebook 04 makes waves, (n, size), of numbers (n,).


# %% tags=["quiz"]
def sincos_positions(h, w, size):
    """Equation (11.5) for h rows of w patches, in the order of patchify: (h · w, size), half for the row, half for the column.

    size: a multiple of 4.
    """
    ### BEGIN SOLUTION
    row = torch.arange(h).repeat_interleave(w)
    column = torch.arange(w).repeat(h)
    return torch.cat([sinusoidal_embedding(place, size // 2) for place in (row, column)], dim=1)
    ### END SOLUTION


# %% tags=["check"]
sincos_positions = check("transformer/positions", sincos_positions)

# %%
with seeded(1):
    layer, sentence = SelfAttention(32, heads=4), torch.randn(1, 35, 32)
order = torch.randperm(35, generator=lab.generator(2, "cpu"))
places = sincos_positions(5, 7, 32)
with torch.no_grad():
    for what, there in {"without positions": 0.0, "with positions": places}.items():
        gap = (layer(sentence[:, order] + there) - layer(sentence + there)[:, order]).abs().max()
        print(f"{what:17s}: shuffled before against shuffled after, largest difference {gap:.0e}")
alike = places @ places[2 * 7 + 3]  # with the place in row 2, column 3
plots.panels(
    {"row 2, column 3": alike.view(5, 7), "row 4, column 0": (places @ places[4 * 7]).view(5, 7)},
    title="How alike a place is to all others of 5 × 7: the product of their positions",
    diverging=False,
    mark={"row 2, column 3": (2, 3), "row 4, column 0": (4, 0)},
)

# %% [markdown]
# Without positions a layer can't tell a shoe from its shuffled pieces. With them it can, and places near each other look alike: that is all that a transformer is told about the plane.
#
# ## 11.6 · A block
#
# After attention, where tokens talk to each other, comes a small network that every token passes alone. Both are added to what was there, as in any residual block. Step and class come in as they did in (4.4). A layer norm gives the numbers of each token mean 0 and variance 1. A **modulation** then scales and shifts each of the $d$ numbers; scales $c$ and shifts $s$ depend on $t$ and class, and are the same for all tokens of an image. (The shift comes first here, as in the original; in (4.4) it was the scale.)
#
# $$\operatorname{modulate}(z,s,c)_{nk}=(1+c_k)\,z_{nk}+s_k . \tag{11.6}$$
#
# ### {{heading transformer/modulate}}


# %% tags=["quiz"]
def modulate(z, shift, scale):
    """Equation (11.6), with one shift s and one scale c for each image: like z.

    z: (b, n, d);  shift, scale: (b, d).
    """
    ### BEGIN SOLUTION
    return z * (1 + scale[:, None]) + shift[:, None]
    ### END SOLUTION


# %% tags=["check"]
modulate = check("transformer/modulate", modulate)

# %% [markdown]
# From $e$, the embedding of step and class, one linear layer makes six vectors: a shift, a scale and a **gate** $\gamma$ for each of the two parts (Peebles & Xie 2023):
#
# $$z'=z+\gamma_1\odot\operatorname{attention}\big(\operatorname{modulate}(\operatorname{norm}z,\,s_1,c_1)\big),\qquad z''=z'+\gamma_2\odot\operatorname{mlp}\big(\operatorname{modulate}(\operatorname{norm}z',\,s_2,c_2)\big), \tag{11.7}$$
# $$(s_1,c_1,\gamma_1,s_2,c_2,\gamma_2)=W_e\,e+\beta_e,\qquad W_e=0,\;\beta_e=0\ \text{at first}.$$
#
# A layer norm whose shift and scale come from $e$ is an *adaptive* layer norm, adaLN; with gates and this zero start it is **adaLN-Zero**. Two helpers:


# %%
def layer_norm(width):
    """Mean 0 and variance 1 for every token, and no weights."""
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


def starts_at_zero(layer):
    """The same layer, whose weights are now 0."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


# %% [markdown]
# ### {{heading transformer/block}}
# The small network is linear to `4 * width`, `nn.GELU(approximate="tanh")`, linear back to `width`.


# %% tags=["quiz"]
class DiTBlock(nn.Module):
    """Attention, then a small network for each token, both steered by the embedding: equation (11.7).

    width: numbers of a token, and of the embedding;  heads: of the attention.
    Called as block(z, e): z (b, n, width), e (b, width); returns a tensor like z.
    """

    ### BEGIN SOLUTION
    def __init__(self, width, heads):
        super().__init__()
        self.norm, self.attention = layer_norm(width), SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.steer = starts_at_zero(nn.Linear(width, 6 * width))

    def forward(self, z, e):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.steer(e).chunk(6, dim=1)
        z = z + gate1[:, None] * self.attention(modulate(self.norm(z), shift1, scale1))
        return z + gate2[:, None] * self.mlp(modulate(self.norm(z), shift2, scale2))

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, width, heads):
    #     super().__init__()
    #     raise NotImplementedError("transformer/block: not answered yet")
    #
    # def forward(self, z, e):
    #     raise NotImplementedError("transformer/block: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
DiTBlock = check("transformer/block", DiTBlock)

# %% [markdown]
# ### Behind closed gates *(extra)*
# #### {{heading transformer/closed-gates}}
# {{question transformer/closed-gates}}

# %% tags=["quiz"]
### BEGIN SOLUTION
closed_gates = "d"
### END SOLUTION
### BEGIN HANDED OUT
# closed_gates = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("transformer/closed-gates", closed_gates)

# %%
with seeded(3):
    block, told = DiTBlock(32, heads=4), torch.randn(8, 32)
    tokens, wanted = torch.randn(2, 8, 20, 32)
optimizer = torch.optim.SGD(block.parameters(), 0.1)
print(f"a new block adds {(block(tokens, told) - tokens).abs().max():g}")
for step in (1, 2):
    optimizer.zero_grad()
    (block(tokens, told) - wanted).square().mean().backward()
    reached = [name for name, weight in block.named_parameters() if weight.grad.any()]
    print(f"step {step}: a gradient reaches {len(reached)} of the block's parameters: {', '.join(reached)}")
    optimizer.step()

# %% [markdown]
# ### What it costs *(extra)*
# A linear layer from $d$ to $d'$ costs $d\,d'$ multiplications a token; a product of an $(n,m)$ with an $(m,l)$ table costs $n\,m\,l$. How many has a block, for one image of $n$ tokens?
#
# $$\underbrace{k_1\,n\,d^2}_{\text{linear layers}}+\underbrace{k_2\,n^2d}_{\text{tokens with tokens}}+\underbrace{6\,d^2}_{\text{from }e} \tag{11.8}$$
#
# #### {{heading transformer/cost}}
# Count: what are $k_1$ and $k_2$? The number of heads doesn't matter (why?).


# %% tags=["quiz"]
def block_multiplications(tokens, width):
    """Multiplications of one block for one image, equation (11.8), a whole number: those of matrix products alone.

    tokens: n;  width: d.
    """
    ### BEGIN SOLUTION
    linear = (3 + 1 + 4 + 4) * tokens * width**2  # q, k, v; the last layer of attention; there and back
    pairs = 2 * tokens**2 * width  # queries with keys, weights with values
    return linear + pairs + 6 * width**2
    ### END SOLUTION


# %% tags=["check"]
block_multiplications = check("transformer/cost", block_multiplications)

# %% [markdown]
# #### {{heading transformer/smaller-patches}}
# {{question transformer/smaller-patches}}

# %% tags=["quiz"]
### BEGIN SOLUTION
smaller_patches = "a"
### END SOLUTION
### BEGIN HANDED OUT
# smaller_patches = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("transformer/smaller-patches", smaller_patches)

# %%
width, batch = 128, lab.pick(smoke=2, cpu=32, gpu=64)
with seeded(4):
    block = DiTBlock(width, heads=4).to(lab.device)
weights = sum(weight.numel() for weight in block.parameters())
print(
    f"patch  tokens  multiplications  counted  of which tokens with tokens  ms for {batch} images, forward and backward"
)
for patch in (7, 4, 2):
    n = (28 // patch) ** 2
    z, e = torch.randn(batch, n, width, device=lab.device), torch.randn(batch, width, device=lab.device)
    work, counted = block_multiplications(n, width), sum(part.multiply_adds for part in tracing.stages(block, z, e))
    spent = tracing.milliseconds(
        lambda z, e: block(z, e).sum().backward(), z, e, repeats=lab.pick(smoke=1, cpu=3, gpu=9)
    )
    print(f"{patch:5d}{n:8d}{work / 1e6:14.1f} M{counted / 1e6:7.1f} M{2 * n**2 * width / work:23.0%}{spent:25.1f}")
print(f"a block has {weights:,} weights, whatever the patch")

# %% [markdown]
# Your count is PyTorch's. Weights don't grow with the number of tokens, the work does: a transformer's **patch size** sets how much it computes for an image. As long as $n$ is far below $6d$ (there the two large terms are equal), the linear layers cost most.
#
# ## 11.7 · The network, and a race
#
# ### {{heading transformer/embedding}}
# The embedding $e$ is that of (7.1): a small network of the step's waves (linear, SiLU, linear), plus a row for the class. The sum passes a SiLU.


# %% tags=["quiz"]
class StepAndClass(nn.Module):
    """Steps and labels as one vector for each image, equation (7.1).

    width: its length;  num_classes: how many classes; the label num_classes means "any", and is taken without y.
    Called as embed(t) or embed(t, y): t, y (b,); returns (b, width). There are 64 waves.
    """

    ### BEGIN SOLUTION
    def __init__(self, width, num_classes):
        super().__init__()
        self.any_class = num_classes
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(num_classes + 1, width)

    def forward(self, t, y=None):
        y = torch.full_like(t, self.any_class) if y is None else y
        return F.silu(self.time(sinusoidal_embedding(t, 64)) + self.label(y))

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, width, num_classes):
    #     super().__init__()
    #     raise NotImplementedError("transformer/embedding: not answered yet")
    #
    # def forward(self, t, y=None):
    #     raise NotImplementedError("transformer/embedding: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
StepAndClass = check("transformer/embedding", StepAndClass)

# %% [markdown]
# ### {{heading transformer/dit}}
# From outside in:
#
# | what | made of |
# |---|---|
# | told | `StepAndClass` |
# | in | `patchify`, a linear layer to `width`, and positions added (a *buffer*: `self.register_buffer("positions", …)`) |
# | blocks | `depth` of them in an `nn.ModuleList`, each told $e$ |
# | out | `layer_norm`, `modulate` by a shift and a scale from $e$, a linear layer back to pixels, `unpatchify` |
#
# Two linear layers start at zero: the one that makes shift and scale of $e$, and the last.


# %% tags=["quiz"]
class DiT(nn.Module):
    """A transformer as a denoiser: noisy images and their steps → one prediction for every pixel.

    shape: (c, h, w) of the images;  width: numbers of a token;  num_classes: how many; one label more means "any".
    Called as net(x, t) or net(x, t, y): x (b, c, h, w), t (b,) steps, y (b,) labels; returns a tensor like x.
    """

    ### BEGIN SOLUTION
    def __init__(self, shape, width=128, depth=4, heads=4, patch=4, num_classes=10):
        super().__init__()
        self.shape, self.patch, self.null = tuple(shape), patch, num_classes
        pixels, places = shape[0] * patch**2, (shape[1] // patch, shape[2] // patch)
        self.embed, self.stem = StepAndClass(width, num_classes), nn.Linear(pixels, width)
        self.register_buffer("positions", sincos_positions(*places, width))
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.norm, self.steer = layer_norm(width), starts_at_zero(nn.Linear(width, 2 * width))
        self.head = starts_at_zero(nn.Linear(width, pixels))

    def forward(self, x, t, y=None):
        e = self.embed(t, y)
        z = self.stem(patchify(x, self.patch)) + self.positions
        for block in self.blocks:
            z = block(z, e)
        shift, scale = self.steer(e).chunk(2, dim=1)
        return unpatchify(self.head(modulate(self.norm(z), shift, scale)), self.shape, self.patch)

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, shape, width=128, depth=4, heads=4, patch=4, num_classes=10):
    #     super().__init__()
    #     self.shape, self.patch, self.null = tuple(shape), patch, num_classes
    #     raise NotImplementedError("transformer/dit: not answered yet")
    #
    # def forward(self, x, t, y=None):
    #     raise NotImplementedError("transformer/dit: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
DiT = check("transformer/dit", DiT)

# %%
with seeded(0):
    transformer = DiT(shape, num_classes=len(names)).to(lab.device)
for who, network in {"your transformer": transformer, "the course's U-Net": pixel_network}.items():
    x, t = torch.zeros(2, *shape, device=lab.device), torch.tensor([1, 1000], device=lab.device)
    weights = sum(weight.numel() for weight in network.parameters())
    work = sum(part.multiply_adds for part in tracing.stages(network, x, t))
    print(f"{who:20s} {weights:10,} weights, {work / 1e6:5.1f} million multiplications for an image")

# %% [markdown]
# ### The race
# The U-Net is the one of 11.3, which learned from pixels. The transformer gets the same seconds, images, loss and schedule; only the optimizer is its own: Adam, since the course's Muon is made for filters. (On a transformer's matrices Muon works too; tried for a minute, it made no clear difference.) Then $d^2$ of images from the same noise. (The U-Net's will differ a little from that in 11.3: other noise.)
#
# **Predict, then run.** By what factor is the transformer's $d^2$ larger than the U-Net's? (Below 1: it wins.)

# %% tags=["predict"]
guess = predict("transformer/race", "d² of the transformer ÷ d² of the U-Net", 0.1, 10)

# %%
scored = lab.pick(smoke=70, cpu=300, gpu=5000)
loss = diffusion_loss(schedule, "v", null=len(names))
transformer = trained_for(seconds_for_pixels, transformer, loss, known, recipes.dit_recipe)
trained = {"your transformer": transformer, "the course's U-Net": pixel_denoiser.model}


def draw_with(network, n, seed):
    """n images (n, c, h, w) by DDIM, every class in turn: the same noise for every network."""
    denoise = clipped(Denoiser(network, schedule, "v"))
    parts = zip(pixel_noise(n, seed).split(250), labels_for(n).split(250))
    return torch.cat([last(ddim(denoise, schedule, part, strides, y)) for part, y in parts])


race = {who: [distance(draw_with(network, scored, seed)) for seed in (81, 82)] for who, network in trained.items()}
for who, values in race.items():
    print(
        f"{who:20s} d² after {seconds_for_pixels} s: "
        + " and ".join(f"{value:.1f}" for value in values)
        + " (two sets of noise)"
    )
reveal("transformer/race", round(sum(race["your transformer"]) / sum(race["the course's U-Net"]), 2))
plots.image_rows(
    {who: draw_with(network, 10, 83) for who, network in trained.items()},
    labels=names[:10],
    title=f"{seconds_for_pixels} seconds of training each, the same noise",
)

# %% [markdown]
# After so short a time expect the U-Net ahead, and look at the pictures for the reason: the transformer's squares of 4 × 4 pixels don't meet at their edges. The U-Net was told from the start which pixels are neighbours. The transformer has to find that out, within a patch and from patch to patch. (One training each: don't read small differences from it. With a GPU your table may say something else.)
#
# ### How far do they look? *(extra)*
# #### {{heading transformer/how-far}}
# As in notebook 04, take the gradient of the answer in the middle (row $\lfloor h/2\rfloor$, column $\lfloor w/2\rfloor$, the sum of its channels) with respect to every pixel. Its size, summed over images and channels, is the weight of a pixel. What is the weighted mean of the distance from the middle?


# %% tags=["quiz"]
def how_far(network, x, t):
    """The mean distance, in pixels, of what the answer in the middle depends on, weighted by |gradient|: a float.

    network: (x, t) -> like x;  x: (b, c, h, w), without gradients yet;  t: (b,).
    """
    ### BEGIN SOLUTION
    x = x.clone().requires_grad_()
    (h, w), i, j = x.shape[2:], x.shape[2] // 2, x.shape[3] // 2
    (slope,) = torch.autograd.grad(network(x, t)[:, :, i, j].sum(), x)
    weights = slope.abs().sum((0, 1))
    rows, columns = torch.arange(h, device=x.device)[:, None] - i, torch.arange(w, device=x.device) - j
    distance = (rows**2 + columns**2).sqrt()
    return ((weights * distance).sum() / weights.sum()).item()
    ### END SOLUTION


# %% tags=["check"]
how_far = check("transformer/how-far", how_far)

# %%
some, steps_seen = test.first(lab.pick(smoke=4, cpu=100, gpu=200)).x, (50, 300, 700)
noise = torch.randn(some.shape, generator=lab.generator(84), device=lab.device)
for who, network in trained.items():
    at = [torch.full((len(some),), t, device=lab.device) for t in steps_seen]
    looks = [how_far(network, schedule.add_noise(some, t, noise), t) for t in at]
    print(f"{who:20s} " + ", ".join(f"t = {t}: {pixels:.1f} pixels" for t, pixels in zip(steps_seen, looks)))
even = torch.ones(1, 1, *shape[1:], device=lab.device)
print(f"all pixels weighted equally: {how_far(lambda x, t: 0 * x + x.sum(), even, None):.1f} pixels")

# %% [markdown]
# Compare along the rows: does more noise make a network look farther? A patch leads straight to its own answer, past all attention, so near pixels count from the start. What lies beyond the patch, the transformer must find by attention, and knows of it only the positions. Which of the two looks farther?
#
# ### Does it catch up?
# The same race for longer, on one core:

# %%
print(f"{'d² on Fashion-MNIST':24s}" + "".join(f"{f'{seconds} CPU s':>16s}" for seconds in (60, 600)))
for model in ("U-Net", "transformer"):
    print(f"{model:24s}" + "".join(f"{of('fashion-mnist 28', model, seconds):>16s}" for seconds in (60, 600)))

# %% [markdown]
# Not within ten minutes: ten times the seconds make both distances more than four times smaller, and the transformer's stays about twice the U-Net's. (Three trainings each at 60 seconds, one at 600.) It isn't behind because it has stopped learning. It was told less, and it computes more for every image (compare the multiplications above), so that it has seen half as many when time is up.
#
# ## 11.8 · Why the large ones are all three
#
# ### {{heading transformer/what-the-race-says}}
# {{question transformer/what-the-race-says}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_the_race_says = "b"
### END SOLUTION
### BEGIN HANDED OUT
# what_the_race_says = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("transformer/what-the-race-says", what_the_race_says)

# %% [markdown]
# What does a block cost where images are large? Your count says it, for the width of the largest network of Peebles & Xie (2023):

# %%
for what, side in {"512 × 512 pixels, patch 2": 256, "their codes of 64 × 64, patch 2": 32}.items():
    n, d = side**2, 1152
    work = block_multiplications(n, d)
    print(
        f"{what:32s} {n:7,} tokens, {work / 1e9:9.1f} billion multiplications, {2 * n**2 * d / work:.0%} of them tokens with tokens"
    )

# %% [markdown]
# * **Latent**, because of this table: in pixels nearly all work would go into comparing tokens with tokens. In codes, eight times smaller on each side (Rombach et al. 2022), the same block is affordable.
# * **Transformers**, because what they gain can be foreseen: Peebles & Xie (2023) trained twelve, from small to large and with patches 8, 4 and 2, and the Fréchet distance fell steadily with the multiplications spent on an image, *however* they were spent, on more weights or on more tokens. And what isn't an image, a caption for instance, is just more tokens.
# * **Flows**, because their training is simple and their paths need few steps (notebook 10). Esser et al. (2024) compared some sixty ways to train a transformer in codes before they trained a large one; straight paths with times that prefer the middle came out ahead, the rule (10.7).
#
# Our seconds can neither confirm nor refute any of this.
#
# ### Guidance × steps, in colour *(extra)*
# This model came with the course: its codes become 64 × 64 pixels in colour. Six images, always from the same noise. Which guidance makes the class clear? What becomes of colour and variety when it is large? Are few steps then enough?

# %%
painter = load_latent_denoiser("shapes-64", lab.device)
guidances, offered = (0, 1, 2, 4, 8), lab.pick(smoke=(2, 4), cpu=(2, 4, 8, 16, 32), gpu=(2, 4, 8, 16, 32))
canvas = torch.randn(6, *painter.shape, generator=lab.generator(91), device=lab.device)


@functools.lru_cache(maxsize=256)
@torch.no_grad()
def painted(guidance, steps, kind):
    """Six images of a class from the same noise. Codes have no bounds, so nothing is clipped."""
    y = torch.full((len(canvas),), painter.classes.index(kind), device=lab.device)
    guided = cfg(painter, float(guidance), painter.model.null)
    return painter.decode(last(ddim(guided, painter.schedule, canvas, steps, y))).cpu()


def in_colour(guidance, steps, kind):
    return plots.image_grid(
        painted(guidance, steps, kind), columns=3, title=f"{kind}: guidance {guidance}, {steps} steps"
    )


explore(
    in_colour,
    guidance=choice(guidances, value=2, label="guidance"),
    steps=choice(offered, value=offered[-2], label="steps"),
    kind=choice(painter.classes, value="star", label="class"),
    title="What do guidance and steps do, in codes?",
    alt="Six images in colour of one class, drawn in codes from the same noise with the chosen guidance and number of steps.",
)

# %%
critic, kinds = load_classifier("shapes-64", lab.device), painter.classes[: lab.pick(smoke=2, cpu=4, gpu=8)]
print(f"{offered[-2]} steps; guidance 0 asks for no class, 1 is the model as it is")
print("guidance  seen as the class asked for  how much six images differ (standard deviation of a pixel)")
for guidance in guidances:
    seen, spread = [], []
    for kind in kinds:
        images = painted(guidance, offered[-2], kind)
        seen.append((critic(images.to(lab.device)).argmax(1) == painter.classes.index(kind)).float().mean().item())
        spread.append(images.std(dim=0).mean().item())
    print(f"{guidance:8d}{sum(seen) / len(kinds):29.0%}{sum(spread) / len(kinds):8.2f}")


# %% [markdown]
# Guidance makes the class clear, in codes as in pixels (notebook 07; Ho & Salimans 2022). Compare the last column with what it took from variety there: here much of the variety lies in colours and places, which the class doesn't decide. What else does it cost? Set it to the largest value in the explorer.
#
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {train.title}\n")
for who, value in errors.items():
    print(f"11.2  {who:22s} squared error {value:.4f}")
for who, value in found.items():
    print(f"11.3  {who:22s} d² {value:.1f}")
print(
    f"11.6  multiplications of a block, 196 tokens over 49: {block_multiplications(196, 128) / block_multiplications(49, 128):.1f} times"
)
for who, values in race.items():
    print(f"11.7  {who:20s} d² after {seconds_for_pixels} s: " + " and ".join(f"{value:.1f}" for value in values))

# %% [markdown]
# **What to take along.** Two choices have little to do with each other: *where* one draws, in pixels or in codes, and *what* denoises, filters or tokens. Codes make images smaller before anything expensive begins. A transformer is told almost nothing about images: patches, positions, and then attention; what step and class have to say comes in as a shift, a scale and a gate that starts closed. It is behind where seconds are few; large ones go on improving where they aren't (Peebles & Xie 2023).
#
# ## Go further *(ungraded)*
# 1. **Tokens of codes.** `DiT(codes.shape[1:], patch=1)` has as many tokens in 7 × 7 codes as it had in pixels with patch 4. Race it against 11.3's denoiser, at equal seconds.
# 2. **Patch 2.** Four times the tokens, with nearly as many weights. How many steps do the same seconds buy, and are they worth it?
# 3. **Without positions.** Leave them out, and train again. What do the images look like, and why isn't everything lost?
# 4. **Filters in the stem.** Put a 3 × 3 convolution before `patchify`, which knows about neighbours. How much of the U-Net's lead is gone?
#
# ## References
# * R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer, *High-Resolution Image Synthesis with Latent Diffusion Models*, CVPR 2022. arXiv:2112.10752
# * A. Vaswani et al., *Attention Is All You Need*, NeurIPS 2017. arXiv:1706.03762
# * W. Peebles, S. Xie, *Scalable Diffusion Models with Transformers*, ICCV 2023. arXiv:2212.09748
# * P. Esser et al., *Scaling Rectified Flow Transformers for High-Resolution Image Synthesis*, ICML 2024. arXiv:2403.03206
# * J. Ho, T. Salimans, *Classifier-Free Diffusion Guidance*, 2022. arXiv:2207.12598
