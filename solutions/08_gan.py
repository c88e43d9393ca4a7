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
# # 08 · GAN: two networks that play against each other
#
# So far a network learned to answer a question whose answer we knew: the noise that was added, the image that went in. Now nobody knows the answer. One network draws, another says whether it believes it, and each is the other's loss.
# You write the game, play it where everything can be seen (eight blobs on a ring), watch it break, count what was lost, and mend it.
#
# **What you will be able to do**
# * derive what the best discriminator says, and check a trained one against it;
# * write both players' losses so that certainty costs no infinities, and a training step that keeps them apart;
# * count modes and measure their entropy, provoke mode collapse on purpose, and say what helps, with the spread over seeds;
# * build a DCGAN, train it on images, walk through its latent space, and find out what it never draws.
#
# **Before you start:** notebooks 01 (latent codes), 02 (the Fréchet distance) and 05 (the training loop).
#
# {{budget}}
#
# The text describes what you see at effort `cpu` or above. At `smoke` networks are hardly trained: sentences about pictures and rankings don't hold there.

# %% tags=["setup"]
import copy
import functools
import math
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import plots, setup
from course_utils.adversarial import Game
from course_utils.data import GaussianMixture, load
from course_utils.device import seeded
from course_utils.explore import choice, explore, slider
from course_utils.metrics import frechet_distance
from course_utils.pitfalls import gan as pitfalls
from course_utils.pitfalls import ring as ring_pitfalls
from classroom import ask, check, predict, reveal
from course_utils.training import until_stopped
from course_utils.weights import load_classifier, load_generator, shipped

lab = setup("08")

# %% [markdown]
# ## 8.1 · Two players
#
# A **generator** $G$ turns noise $z\sim\mathcal N(0,1)$ into a point $G(z)$. A **discriminator** $D$ looks at a point and says with which probability it is real, $D(x)\in(0,1)$. One number measures how well $D$ tells them apart (Goodfellow et al. 2014):
#
# $$V(D,G)=\mathbb E_{x}\,\ln D(x)+\mathbb E_{z}\,\ln\big(1-D(G(z))\big). \tag{8.1}$$
#
# $D$ wants it large, $G$ wants it small.
#
# ### {{heading gan/value-at-the-end}}
# {{question gan/value-at-the-end}}

# %% tags=["quiz"]
### BEGIN SOLUTION
value_at_the_end = "c"
### END SOLUTION
### BEGIN HANDED OUT
# value_at_the_end = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("gan/value-at-the-end", value_at_the_end)

# %% [markdown]
# **Predict, then run.** At that point, how large is the discriminator's loss $-V$? (In nats: natural logarithms.)

# %% tags=["predict"]
guess = predict("gan/loss-at-the-end", "−V when nobody can tell real from generated", 0, 5, unit="nats")

# %% [markdown]
# An optimizer makes things small, so $D$ minimizes
#
# $$L_D=-\mathbb E_x\ln D(x)-\mathbb E_z\ln\big(1-D(G(z))\big), \tag{8.2}$$
#
# the cross-entropy of an ordinary classifier, summed over its two classes. Our networks return the **logit** $\ln\frac{D}{1-D}$, as classifiers do; $D$ is its sigmoid.
#
# ### {{heading gan/discriminator-loss}}
# Logits of ±200 must give finite numbers: `F.softplus(a)` is $\ln(1+e^a)$ and never overflows.


# %% tags=["quiz"]
def discriminator_loss(real, fake):
    """−E ln D(x) − E ln(1 − D(G(z))), equation (8.2), a scalar in nats.

    real, fake: (b,), logits of real and of generated points.
    """
    ### BEGIN SOLUTION
    of_real = F.softplus(-real).mean()
    of_fake = F.softplus(fake).mean()
    return of_real + of_fake
    ### END SOLUTION


# %% tags=["check"]
discriminator_loss = check("gan/discriminator-loss", discriminator_loss)

# %%
reveal("gan/loss-at-the-end", discriminator_loss(torch.zeros(8), torch.zeros(8)).item())

# %% [markdown]
# $2\ln 2\approx1.39$: remember it, for it is where the loss of $D$ would end in a perfect game. Far below, $D$ wins; a loss that *stays* near it says only that neither does.
#
# The generator can take the same game literally, or ask for the same thing differently:
#
# $$L_G^{\text{non-saturating}}=-\mathbb E_z\ln D(G(z)), \tag{8.3}$$
#
# $$L_G^{\text{saturating}}=\mathbb E_z\ln\big(1-D(G(z))\big). \tag{8.4}$$
#
# ### {{heading gan/generator-losses}}


# %% tags=["quiz"]
def generator_losses(fake):
    """The non-saturating loss (8.3) and the saturating one (8.4), two scalars in nats.

    fake: (b,), logits of generated points.
    """
    ### BEGIN SOLUTION
    non_saturating = F.softplus(-fake).mean()
    saturating = -F.softplus(fake).mean()
    return non_saturating, saturating
    ### END SOLUTION


# %% tags=["check"]
generator_losses = check("gan/generator-losses", generator_losses)

# %% [markdown]
# ### {{heading gan/who-starves}}
# {{question gan/who-starves}}

# %% tags=["quiz"]
### BEGIN SOLUTION
who_starves = "a"
### END SOLUTION
### BEGIN HANDED OUT
# who_starves = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("gan/who-starves", who_starves)

# %%
logits = torch.linspace(-10, 10, 201, requires_grad=True)
slopes = [torch.autograd.grad(len(logits) * loss, logits)[0] for loss in generator_losses(logits)]
plots.curves(
    {name: (logits.detach(), slope) for name, slope in zip(("(8.3), D − 1", "(8.4), −D"), slopes)},
    title="What the generator is told, by how real its point looks",
    x_label="logit of the generated point",
    y_label="slope of the loss",
    mark={"D = ½": 0.0},
)

# %% [markdown]
# On the left, where a point is surely found out, only (8.3) still pulls. On the right, where $D$ is fooled already, only (8.4) does.
#
# **What does the best $D$ say?** Let $p$ be the density of real points, $q$ that of generated ones. At one place $x$ the integrand of $V$ is $p\ln D+q\ln(1-D)$. Its derivative in $D$, $\;p/D-q/(1-D)$, is zero where $p(1-D)=qD$, so
#
# $$D^*(x)=\frac{p(x)}{p(x)+q(x)} . \tag{8.5}$$
#
# ### {{heading gan/optimal-discriminator}}
# From logarithms of densities, since the densities themselves are soon too small for a float.


# %% tags=["quiz"]
def optimal_discriminator(log_p, log_q):
    """D* = p / (p + q), equation (8.5), of log densities of any shape; finite however small they are."""
    ### BEGIN SOLUTION
    log_odds = log_p - log_q
    return torch.sigmoid(log_odds)
    ### END SOLUTION


# %% tags=["check"]
optimal_discriminator = check("gan/optimal-discriminator", optimal_discriminator)

# %% [markdown]
# From here to 8.5 everything happens on a ring of eight narrow blobs, with networks so small that the CPU is the place for them.

# %%
ring = GaussianMixture.ring(std=0.05)
extent, cells = (-2.2, 2.2, -2.2, 2.2), 50
line = extent[0] + (extent[1] - extent[0]) * (torch.arange(cells) + 0.5) / cells
grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(-1, 2)


def network(inputs, outputs):
    """Two hidden layers of 64; a single output comes as (b,)."""
    layers = [nn.Linear(inputs, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, outputs)]
    return nn.Sequential(*layers, *[nn.Flatten(0)] * (outputs == 1))


# %% [markdown]
# ### Does a network find it? *(extra)*
# On a ring both densities are known, if the generator's points are just a Gaussian: a chance to see whether a network finds $D^*$ with your loss, having never seen a density. (The blobs are wider here.)

# %%
broad, blob = GaussianMixture.ring(std=0.2), GaussianMixture(torch.zeros(1, 2), 1.0)
with seeded(0):
    critic = network(2, 1)
optimizer, rng = torch.optim.Adam(critic.parameters(), lr=3e-3), torch.Generator().manual_seed(0)
for _ in until_stopped(range(lab.pick(smoke=50, cpu=1500, gpu=3000))):
    loss = discriminator_loss(critic(broad.sample(256, rng)), critic(blob.sample(256, rng)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
best = optimal_discriminator(broad.log_prob(grid), blob.log_prob(grid)).view(cells, cells)
with torch.no_grad():
    learned = critic(grid).sigmoid().view(cells, cells)
    x = torch.cat([broad.sample(4000, rng), blob.sample(4000, rng)])
    away = (critic(x).sigmoid() - optimal_discriminator(broad.log_prob(x), blob.log_prob(x))).abs().mean().item()
print(f"|D − D*|, a mean over real and generated points: {away:.3f}")
plots.panels(
    {"D*, from the densities": best.flip(0), "D, learned": learned.flip(0), "D* − D": (best - learned).flip(0)},
    title="A ring of eight blobs against one Gaussian: the probability of real",
    columns=3,
    shared=True,
)

# %% [markdown]
# The gap that is left is that of a small network and a finite number of steps.
#
# ### A distance in disguise
# A discriminator, trained as far as it goes, is a *ratio of densities* in disguise. (Put $D^*$ into $V$: up to constants that is the Jensen–Shannon divergence, the mean of two KL divergences, from $p$ and from $q$ to their mixture. A generator with the loss (8.4) against a perfect $D$ would minimize a divergence.) But $D$ is never perfect, and the generator doesn't wait.
#
# ## 8.2 · The step
#
# A **game** is two functions of $(D, x, G(z))$: what $D$ minimizes, and what $G$ does. The library's `Game` is no more than such a pair. One step: $D$ moves, then $G$ answers.
#
# ### {{heading gan/step}}
# The discriminator's loss depends on the generator's weights, too. What must not happen to them in the first half of the step?


# %% tags=["quiz"]
def gan_step(G, D, game, x, z, d_optimizer, g_optimizer):
    """One step of D, then one of G against the new D. Returns both losses, two floats (each before its own step).

    game.discriminator and game.generator: (D, x, fake) -> scalar;  x: (b, ...), real;  z: (b, latent).
    """
    ### BEGIN SOLUTION
    fake = G(z)
    d_loss = game.discriminator(D, x, fake.detach())
    d_optimizer.zero_grad()
    d_loss.backward()
    d_optimizer.step()

    g_loss = game.generator(D, x, fake)
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()
    return d_loss.item(), g_loss.item()
    ### END SOLUTION


# %% tags=["check"]
gan_step = check("gan/step", gan_step)

# %% [markdown]
# ### {{heading gan/play}}
# Both optimizers are Adam with learning rate 0.001 and the `betas` given. `until_stopped` around the range lets the stop button end the match.


# %% tags=["quiz"]
def play(G, D, game, sample, steps, latent, betas, chance, keep=100):
    """Play in place. Returns (losses, snapshots).

    sample: () -> (b, ...), a fresh real batch;  as many codes z (b, latent) are drawn from N(0, 1) with `chance`.
    losses: a pair of floats for each step;  snapshots: copies (G, D), before the first step and after every `keep`-th.
    """
    ### BEGIN SOLUTION
    d_optimizer = torch.optim.Adam(D.parameters(), lr=1e-3, betas=betas)
    g_optimizer = torch.optim.Adam(G.parameters(), lr=1e-3, betas=betas)
    losses, snapshots = [], [copy.deepcopy((G, D))]
    for k in until_stopped(range(1, steps + 1)):
        x = sample()
        z = torch.randn(len(x), latent, generator=chance)
        losses.append(gan_step(G, D, game, x, z, d_optimizer, g_optimizer))
        if k % keep == 0:
            snapshots.append(copy.deepcopy((G, D)))
    return losses, snapshots
    ### END SOLUTION


# %% tags=["check"]
play = check("gan/play", play)

# %% [markdown]
# The ring's blobs are narrow (standard deviation 0.05) and far from each other. For Adam's `betas` we take DCGAN's, (0.5, 0.999).

# %%
non_saturating = Game(
    lambda D, x, fake: discriminator_loss(D(x), D(fake)), lambda D, x, fake: generator_losses(D(fake))[0]
)


def match(game, seed, betas, steps, make_D=lambda: network(2, 1)):
    """A match on the ring from fresh networks; `play`'s answer."""
    rng = torch.Generator().manual_seed(seed)
    with seeded(seed):
        G, D = network(2, 2), make_D()
    return play(G, D, game, lambda: ring.sample(128, rng), steps, 2, betas, rng)


steps = lab.pick(smoke=200, cpu=1500, gpu=3000)
losses, snapshots = match(non_saturating, 0, (0.5, 0.999), steps)
every = torch.arange(1, len(losses) + 1)
d_curve, g_curve = torch.tensor(losses).T
plots.curves(
    {"discriminator": (every, d_curve), "generator": (every, g_curve)},
    title="Both losses of your match: neither falls to a floor",
    x_label="step",
    y_label="loss (nats)",
    mark={"2 ln 2 = 1.39": (None, 2 * math.log(2)), "ln 2 = 0.69": (None, math.log(2))},
)

# %% [markdown]
# Most losses of this course fall. Here each player's success is the other's failure, and neither curve falls to the end. To see how good the points are, look at the points.
#
# ### Somebody else's diary *(extra)*
# #### {{heading gan/somebody-elses-curves}}
# A student logs her own game, the very match that you played, with a function of her own. Her plot:

# %%
with torch.no_grad():
    shown = torch.Generator().manual_seed(5)
    looks = [(D, ring.sample(500, shown), G(torch.randn(500, 2, generator=shown))) for G, D in snapshots]


def diary(log):
    """Her plot: both "losses" at each snapshot."""
    d, g = torch.tensor([log(*each) for each in looks]).T
    series = {"discriminator": (torch.arange(len(d)), d), "generator": (torch.arange(len(g)), g)}
    return plots.curves(series, title="Her losses", x_label="snapshot", y_label="loss")


diary(ring_pitfalls.curves)

# %% [markdown]
# "An untrained generator has a loss of 0, the best there is, and playing makes it worse and worse, while my discriminator improves: it wins." Can an untrained generator have nothing to gain? Find what is wrong in her function and fix it.


# %% tags=["quiz"]
def somebody_elses_curves(D, x, fake):
    """The discriminator's loss (8.2) and the generator's (8.3), two floats in nats, without gradients.

    x, fake: (b, ...), real and generated;  D returns logits (b,).
    """
    with torch.no_grad():
        real, made = D(x), D(fake)
    ### BEGIN SOLUTION
    d_loss = discriminator_loss(real, made)
    g_loss, _ = generator_losses(made)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # of_real = torch.ones_like(real)
    # of_fake = torch.zeros_like(made)
    # logits = torch.cat([real, made])
    # labels = torch.cat([of_real, of_fake])
    #
    # # the discriminator: both halves against their labels
    # said = (logits > 0).to(labels)
    # d_loss = (said == labels).double().mean()
    #
    # # the generator: it wants "real" for its own
    # wanted = torch.ones_like(made)
    # said = (made > 0).to(wanted)
    # g_loss = (said == wanted).double().mean()
    ### END HANDED OUT
    return d_loss.item(), g_loss.item()


# %% tags=["check"]
somebody_elses_curves = check("gan/somebody-elses-curves", somebody_elses_curves)

# %% [markdown]
# #### {{heading gan/what-curves-hide}}
# {{question gan/what-curves-hide}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_curves_hide = "b"
### END SOLUTION
### BEGIN HANDED OUT
# what_curves_hide = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("gan/what-curves-hide", what_curves_hide)

# %%
diary(somebody_elses_curves)

# %% [markdown]
# ## 8.3 · Watch them
#
# ### {{heading gan/why-one-mode}}
# {{question gan/why-one-mode}}

# %% tags=["quiz"]
### BEGIN SOLUTION
why_one_mode = "d"
### END SOLUTION
### BEGIN HANDED OUT
# why_one_mode = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("gan/why-one-mode", why_one_mode)

# %% [markdown]
# Hold one player still. What does the other do? Start somewhere in your match and let only the **discriminator** move: its ½-line draws back from the generated points. Let only the **generator** move: where do its points run, along the arrows? Does the ring get better while one of them rests?


# %%
@functools.lru_cache(maxsize=256)
def moved(who, start, moves):
    """The pair of a snapshot after some moves of your `gan_step`, the one who rests with a learning rate of 0."""
    G, D = copy.deepcopy(snapshots[min(start, len(snapshots) - 1)])
    rng = torch.Generator().manual_seed(start)
    rates = {"discriminator": (4e-3, 0.0), "generator": (0.0, 4e-3)}[who]
    optimizers = [torch.optim.Adam(net.parameters(), lr=rate, betas=(0.5, 0.999)) for net, rate in zip((D, G), rates)]
    for _ in range(moves):
        gan_step(G, D, non_saturating, ring.sample(32, rng), torch.randn(32, 2, generator=rng), *optimizers)
    return G, D


codes, some_real = torch.randn(150, 2, generator=lab.generator(3, "cpu")), ring.sample(150, lab.generator(4, "cpu"))


def show_duel(who, start, moves):
    G, D = moved(who, start, moves)
    fake = G(codes).detach().requires_grad_()
    slope = torch.autograd.grad(D(fake).sum(), fake)[0][:25]  # uphill in the logit: where (8.3) pulls a point
    reach = 0.35 * slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-6)
    with torch.no_grad():
        probability = D(grid).sigmoid().view(cells, cells)
    title = f"Step {100 * start}, then {moves} moves of the {who}"
    return plots.duel(some_real, fake.detach(), probability, extent, arrows=(fake[:25].detach(), reach), title=title)


explore(
    show_duel,
    who=choice(["discriminator", "generator"], "generator", label="who moves"),
    start=slider(0, max(len(snapshots) - 1, 1), min(1, len(snapshots) - 1), label="from snapshot"),
    moves=slider(0, 16, 16, step=4, label="moves"),
    title="What does one of them do while the other rests?",
    alt="Real points on a ring, generated points, arrows on some of them, over the discriminator's probability of real",
)

# %% [markdown]
# The discriminator alone learns where the *present* points are, and lowers its shade there. The generator alone follows the arrows uphill, and nothing on its way holds its points apart. Each needs the other's answer. (Arrows give directions only: all are drawn equally long.)
#
# ## 8.4 · Mode collapse, measured
#
# When codes from everywhere are drawn to few places, that is **mode collapse**. An eye sees it on a ring. For images we shall need numbers, so count: which mode does a point belong to, how many modes are visited, and how evenly,
#
# $$H=-\sum_{k} p_k\ln p_k , \tag{8.6}$$
#
# where $p_k$ is the share of mode $k$ among all points that belong to one; at most $\ln 8\approx2.08$ nats here.
#
# ### {{heading gan/modes-of}}


# %% tags=["quiz"]
def modes_of(x, means, within):
    """For each point the number of its nearest mode, if that is no farther than `within`; else −1.

    x: (n, d);  means: (k, d).  Returns (n,) integers.
    """
    ### BEGIN SOLUTION
    distance, mode = torch.cdist(x, means).min(dim=1)
    return torch.where(distance <= within, mode, -1)
    ### END SOLUTION


# %% tags=["check"]
modes_of = check("gan/modes-of", modes_of)

# %% [markdown]
# ### {{heading gan/covered}}


# %% tags=["quiz"]
def covered(labels, k, least=0.1):
    """(how many of k modes are covered, the entropy (8.6) in nats): an int and a float.

    labels: (n,) integers 0..k−1, or −1 for a lost point. A mode is covered if it gets at least `least` of a fair
    share n/k. The entropy is that of the points that aren't lost, 0 if all are.
    """
    ### BEGIN SOLUTION
    counts = torch.bincount(labels[labels >= 0], minlength=k).double()
    enough = counts >= least * len(labels) / k
    seen = counts[counts > 0]
    shares = seen / seen.sum()
    entropy = (shares * (1 / shares).log()).sum()
    return int(enough.sum()), entropy.item()
    ### END SOLUTION


# %% tags=["check"]
covered = check("gan/covered", covered)


# %% [markdown]
# Now provoke it. One thing changes: `betas=(0.98, 0.999)`, under which Adam goes on in its old direction for some fifty steps. Good manners when you walk downhill; but here the hill moves. (Under PyTorch's default, 0.9, it is some ten steps. That delays the modes by about a thousand steps, but they come: `benchmarks/README.md`.)


# %%
@torch.no_grad()
def measured(snapshot):
    """(modes, entropy in nats, share of points within three standard deviations of a mode) of 4,000 points."""
    points = snapshot[0](torch.randn(4000, 2, generator=torch.Generator().manual_seed(9)))
    labels = modes_of(points, ring.means, 3 * 0.05)
    return *covered(labels, 8), (labels >= 0).double().mean().item()


_, collapsing = match(non_saturating, 0, (0.98, 0.999), steps)
on_the_ring = {"β₁ = 0.5": measured(snapshots[-1]), "β₁ = 0.98": measured(collapsing[-1])}
for name, numbers in on_the_ring.items():
    print("{}: modes covered {}, H = {:.2f} nats, {:.0%} of the points on a mode".format(name, *numbers))


def show_end(name, pair):
    with torch.no_grad():
        fake, probability = pair[0](codes), pair[1](grid).sigmoid().view(cells, cells)
    return plots.duel(some_real, fake, probability, extent, title=f"The end of a match with {name}")


show_end("β₁ = 0.5", snapshots[-1])

# %%
show_end("β₁ = 0.98", collapsing[-1])

# %% [markdown]
# In this run hardly a point is on a mode any more, and $D$ and the points chase each other across the ring: $D$ learns that a place is suspicious, the points run to another, and so round and round.
#
# Read the third number first. The entropy is that of the points *on* a mode: where there are hardly any, it says nothing about the rest.
#
# ## 8.5 · What helps
#
# Somebody always knows a remedy. Write the best known ones; then each plays in the setting that failed, alone, three times.
#
# **Not steep at the data.** At the end of the game $D$ is ½ everywhere, and flat. R1 (Mescheder et al. 2018) pulls it there from the start: to the discriminator's loss it adds $\gamma$ times
#
# $$R_1=\tfrac12\,\mathbb E_x\big|\nabla_x\,\mathrm{logit}(x)\big|^2,\qquad x\ \text{real}. \tag{8.7}$$
#
# ### {{heading gan/r1}}
# A gradient inside a loss: it must itself be differentiable by $D$'s weights.


# %% tags=["quiz"]
def r1(D, x):
    """½ E |∇ₓ logit(x)|², equation (8.7), a scalar that can be differentiated by D's weights.

    D: (b, ...) -> logits (b,), each of its own x alone;  x: (b, ...), real.
    """
    ### BEGIN SOLUTION
    x = x.detach().requires_grad_()
    total = D(x).sum()
    (slope,) = torch.autograd.grad(total, x, create_graph=True)
    squared = slope.square().flatten(1).sum(dim=1)
    return squared.mean() / 2
    ### END SOLUTION


# %% tags=["check"]
r1 = check("gan/r1", r1)

# %% [markdown]
# ### Flat everywhere *(extra)*
# R1 acts at the data. **Spectral normalisation** (Miyato et al. 2018) bounds the slope everywhere: each layer's matrix is divided by its largest stretch,
#
# $$\bar W=\frac{W}{\sigma(W)},\qquad v\leftarrow\frac{W^\top u}{|W^\top u|},\quad u\leftarrow\frac{Wv}{|Wv|},\quad \sigma(W)\approx u^\top W v . \tag{8.8}$$
#
# The two arrows are a power iteration: $u$ and $v$ turn towards the directions of the largest stretch.
#
# #### {{heading gan/spectral}}


# %% tags=["quiz"]
def spectral(weight, u, rounds=1):
    """(weight / σ, the new u) by so many rounds of power iteration, equation (8.8).

    weight: (out, in);  u: (out,), of length 1, from the step before.
    For gradients u and v count as constants; σ does not.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        for _ in range(rounds):
            v = F.normalize(weight.T @ u, dim=0)
            u = F.normalize(weight @ v, dim=0)
    stretch = u @ weight @ v
    return weight / stretch, u
    ### END SOLUTION


# %% tags=["check"]
spectral = check("gan/spectral", spectral)


# %%
class SpectralLinear(nn.Linear):
    """A linear layer whose matrix stretches by at most about 1; it keeps u from call to call."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))

    def forward(self, x):
        weight, self.u = spectral(self.weight, self.u)
        return F.linear(x, weight, self.bias)


def spectral_network():
    hidden = [SpectralLinear(2, 64), nn.LeakyReLU(0.2), SpectralLinear(64, 64), nn.LeakyReLU(0.2)]
    return nn.Sequential(*hidden, SpectralLinear(64, 1), nn.Flatten(0))


# %% [markdown]
# ### More real than the other *(extra)*
# A point is real or not, says (8.2), whatever the others look like. **Relativistic** pairing asks only who of two looks *more* real (Jolicoeur-Martineau 2019):
#
# $$L_D=\mathbb E\,\mathrm{softplus}\big(-(D_x-D_{G})\big),\qquad L_G=\mathbb E\,\mathrm{softplus}\big(-(D_{G}-D_x)\big), \tag{8.9}$$
#
# with $D_x$, $D_G$ for the logits of a pair, one real and one generated point.
#
# #### {{heading gan/relativistic}}


# %% tags=["quiz"]
def relativistic(D, x, fake):
    """The discriminator's and the generator's relativistic loss (8.9), two scalars; pair i is x[i] and fake[i]."""
    ### BEGIN SOLUTION
    ahead = D(x) - D(fake)
    d_loss = F.softplus(-ahead).mean()
    g_loss = F.softplus(ahead).mean()
    return d_loss, g_loss
    ### END SOLUTION


# %% tags=["check"]
relativistic = check("gan/relativistic", relativistic)

# %% [markdown]
# ### Never quite sure *(extra)*
# **One-sided label smoothing** (Salimans et al. 2016): the label of real points is $1-s$, that of generated ones stays 0,
#
# $$L_D=-\mathbb E_x\big[(1-s)\ln D(x)+s\ln(1-D(x))\big]-\mathbb E_z\ln\big(1-D(G(z))\big). \tag{8.10}$$
#
# #### {{heading gan/smoothing}}


# %% tags=["quiz"]
def smoothed_loss(real, fake, s):
    """Equation (8.10), a scalar in nats.  real, fake: (b,) logits;  s: in [0, ½)."""
    ### BEGIN SOLUTION
    says_real = (1 - s) * F.softplus(-real)
    says_fake = s * F.softplus(real)
    return (says_real + says_fake).mean() + F.softplus(fake).mean()
    ### END SOLUTION


# %% tags=["check"]
smoothed_loss = check("gan/smoothing", smoothed_loss)

# %% [markdown]
# ### The trial
# Each row: the setting that failed with **one** change (the last but one makes two); the last changes β₁ alone. Three seeds, fewer steps than above.

# %%
paired = Game(lambda D, x, fake: relativistic(D, x, fake)[0], lambda D, x, fake: relativistic(D, x, fake)[1])


def with_r1(game, gamma=0.1):
    return Game(lambda D, x, fake: game.discriminator(D, x, fake) + gamma * r1(D, x), game.generator)


smoothing = Game(lambda D, x, fake: smoothed_loss(D(x), D(fake), 0.1), non_saturating.generator)
long, short, plain = (0.98, 0.999), (0.5, 0.999), lambda: network(2, 1)
trial = {
    "nothing changed": (non_saturating, long, plain),
    "label smoothing": (smoothing, long, plain),
    "spectral norm": (non_saturating, long, spectral_network),
    "R1": (with_r1(non_saturating), long, plain),
    "relativistic and R1": (with_r1(paired), long, plain),
    "β₁ = 0.5": (non_saturating, short, plain),
}
fewer, seeds, remedies = lab.pick(smoke=20, cpu=1000, gpu=1500), (1, 2, 3), {}
for name, (game, betas, make_D) in trial.items():
    ends = [match(game, seed, betas, fewer, make_D)[1][-1] for seed in seeds]
    remedies[name] = torch.tensor([measured(end) for end in ends])
    spoken = [f"modes {m:.0f}, H {h:.2f}, on a mode {share:4.0%}" for m, h, share in remedies[name].tolist()]
    print(f"{name:22s}", " | ".join(spoken))

# %%
plots.dots(
    {name: rows[:, 0] for name, rows in remedies.items()},
    title="Which remedy brings the modes back?",
    x_label="modes covered, of 8",
)

# %% [markdown]
# Only β₁ = 0.5 brings the modes back, with every seed. Every other row stays at one mode or none: the fault was a memory too long for a hill that moves, and none of them shortens it.
#
# Are they bad ideas, then? For *this* fault they are no remedy. The papers behind them play with a short memory anyway, and ask what helps beyond that. With β₁ = 0.5 and five seeds (`benchmarks/README.md`) there is no mode left to bring back: R1 visits all eight more evenly, H = 2.07 ± 0.01 against 1.99 ± 0.03, and spectral normalisation puts fewer points on a mode, 33 % against 58 %. Try it: change `long` to `short` in all rows.

# %% [markdown]
# ## 8.6 · The rules of DCGAN
#
# Points on a ring were for learning the game. Images need convolutional players, and at first these were hard to train. Radford, Metz and Chintala (2016) found a set of rules by trial, and most GANs since have kept most of them:
#
# * **strided convolutions** in the place of pooling: down in $D$, and transposed, up in $G$;
# * **BatchNorm** (`nn.BatchNorm2d`, on the maps) between a layer and its activation, except in the last layer of each network and the first of $D$;
# * **ReLU** in $G$ with **tanh** at its end, **LeakyReLU** of slope 0.2 in $D$;
# * first weights from $\mathcal N(0, 0.02^2)$; Adam with $\beta_1=0.5$, as on the ring. (The paper's learning rate is 0.0002; we have minutes only, and take 0.001.)
#
# ### {{heading gan/generator}}
# Three layers with weights, which bring a code to a map of h/4 × w/4, then h/2 × w/2, then h × w. Kernel 4, stride 2, padding 1 double exactly (notebook 01).


# %% tags=["quiz"]
class Generator(nn.Module):
    """Codes z (b, latent) to images (b, c, h, w) in [−1, 1]: a dense layer, then two transposed convolutions.

    shape: (c, h, w), h and w multiples of 4;  widths: channels of the h/2 × w/2 map, and of the h/4 × w/4 map.
    """

    ### BEGIN SOLUTION
    def __init__(self, shape, latent, widths=(32, 64)):
        super().__init__()
        c, h, w = shape
        fine, small = widths
        self.layers = nn.Sequential(
            nn.Linear(latent, small * (h // 4) * (w // 4), bias=False),
            nn.Unflatten(1, (small, h // 4, w // 4)),
            nn.BatchNorm2d(small),
            nn.ReLU(),
            nn.ConvTranspose2d(small, fine, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(fine),
            nn.ReLU(),
            nn.ConvTranspose2d(fine, c, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.layers(z)

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, shape, latent, widths=(32, 64)):
    #     raise NotImplementedError("quiz gan/generator: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
Generator = check("gan/generator", Generator)

# %% [markdown]
# ### {{heading gan/discriminator}}
# Two convolutions (kernel 4, stride 2, padding 1) and a dense layer. Like every discriminator here it answers with a logit, $\ln\frac{D}{1-D}$.


# %% tags=["quiz"]
class Discriminator(nn.Module):
    """Images (b, c, h, w) to logits (b,): above 0 where "real" is likelier.

    shape: (c, h, w), h and w multiples of 4;  widths: channels after the first and after the second convolution.
    """

    ### BEGIN SOLUTION
    def __init__(self, shape, widths=(32, 64)):
        super().__init__()
        c, h, w = shape
        fine, small = widths
        self.layers = nn.Sequential(
            nn.Conv2d(c, fine, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(fine, small, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(small),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(small * (h // 4) * (w // 4), 1),
        )

    def forward(self, x):
        return self.layers(x).squeeze(1)

    ### END SOLUTION
    ### BEGIN HANDED OUT
    # def __init__(self, shape, widths=(32, 64)):
    #     raise NotImplementedError("quiz gan/discriminator: not answered yet")
    ### END HANDED OUT


# %% tags=["check"]
Discriminator = check("gan/discriminator", Discriminator)

# %% [markdown]
# ### {{heading gan/first-weights}}
# `G.apply(first_weights)` calls the function once for every part of the network.


# %% tags=["quiz"]
def first_weights(module):
    """DCGAN's first weights, set in place; parts of other kinds stay as they are.

    Conv2d, ConvTranspose2d and Linear: weights from N(0, 0.02²);  BatchNorm2d: scales (`weight`) from N(1, 0.02²);
    biases, where there are any: 0.
    """
    ### BEGIN SOLUTION
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    ### END SOLUTION


# %% tags=["check"]
first_weights = check("gan/first-weights", first_weights)

# %% [markdown]
# ## 8.7 · A minute of the game
#
# ### {{heading gan/two-losses}}
# {{question gan/two-losses}}

# %% tags=["quiz"]
### BEGIN SOLUTION
two_losses = "d"
### END SOLUTION
### BEGIN HANDED OUT
# two_losses = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("gan/two-losses", two_losses)

# %% [markdown]
# ### {{heading gan/watched}}
# Your `gan_step` in a loop over batches, and from time to time a look at what the *same* codes give. Think of BatchNorm: an image must not depend on who else is looked at.


# %% tags=["quiz"]
def watched(generator, discriminator, game, batches, optimizers, codes, every, chance):
    """Train on all batches x (b, ...), one `gan_step` each.  Returns (losses, strips).

    optimizers: (of the discriminator, of the generator);  z: as many fresh codes as images, from `chance`;
    losses: a list of what `gan_step` gives;  strips: {step: images of `codes` (n, latent), in eval mode and without gradients}, after
    `every` steps, 2 · every, …, the first step being 1.
    """
    ### BEGIN SOLUTION
    losses, strips = [], {}
    for step, x in enumerate(batches, start=1):
        z = torch.randn(len(x), codes.shape[1], generator=chance, device=x.device)
        losses.append(gan_step(generator, discriminator, game, x, z, *optimizers))
        if step % every == 0:
            generator.eval()
            with torch.no_grad():
                strips[step] = generator(codes)
            generator.train()
    return losses, strips
    ### END SOLUTION


# %% tags=["check"]
watched = check("gan/watched", watched)


# %%
def load_known(split):
    """Images that the course's classifier knows: those that were asked for, else digits."""
    data = load(lab.data, split, device=lab.device, fallback="digits")
    if f"{data.name}-classifier" in shipped("classifier"):
        return data
    return replace(load("digits", split, device=lab.device), note=f"instead of {data.title}")


train, test = load_known("train"), load_known("test")
names, num_classes = train.classes, len(train.classes)
latent = 100
fixed = torch.randn(10, latent, generator=lab.generator(3), device=lab.device)


def batches(count, seed=0):
    """So many batches of training images; the stop button ends them early."""
    chance, size = lab.generator(seed, "cpu"), lab.pick(smoke=16, cpu=64, gpu=128)
    for _ in until_stopped(range(count)):
        yield train.take(torch.randint(len(train), (size,), generator=chance).to(lab.device))


def adam(network, lr=1e-3):
    return torch.optim.Adam(network.parameters(), lr=lr, betas=(0.5, 0.999))


def players(seed, judge=None, size=100):
    """(generator, discriminator) before their first step."""
    with seeded(seed):
        both = Generator(train.shape, size), (judge or Discriminator)(train.shape)
        return tuple(player.to(lab.device).apply(first_weights) for player in both)


# %% [markdown]
# To have a distance beside the losses, we stop every hundred steps or so and compare 1,000 fresh samples with real images: Fréchet distance of notebook 02, in the features of the course's classifier.

# %%
judge = load_classifier(train.name, lab.device)
n = lab.pick(smoke=100, cpu=1000, gpu=2000)


@torch.no_grad()
def samples(generator, count, seed=7):
    """Images of `count` fresh codes, in eval mode."""
    z = torch.randn(count, latent, generator=lab.generator(seed), device=lab.device)
    generator.eval()
    return torch.cat([generator(part) for part in z.split(250)])


@torch.no_grad()
def features(images):
    return torch.cat([judge.features(part) for part in images.split(250)])


real = features(test.first(2 * n).x)
G, D = players(seed=0)
optimizers, chance = (adam(D), adam(G)), lab.generator(1)
part, losses, table = lab.pick(smoke=3, cpu=100, gpu=500), [], {}
strips = {"step 0": G.eval()(fixed).detach()}
for round_ in range(lab.pick(smoke=2, cpu=8, gpu=8)):
    G.train()
    more, seen = watched(G, D, non_saturating, batches(part, round_), optimizers, fixed, part, chance)
    losses += more
    strips |= {f"step {len(losses)}": images for images in seen.values()}
    table[len(losses)] = *torch.tensor(more).mean(0).tolist(), frechet_distance(features(samples(G, n)), real)
plots.image_rows(strips, title=f"{train.title}: ten codes, and what your generator makes of them")


# %%
def smooth(values, width=20):
    """Means of `width` values in a row."""
    return torch.tensor(values).unfold(0, min(width, len(values)), 1).mean(1)


curves = {name: smooth(values) for name, values in zip(("discriminator", "generator"), zip(*losses))}
plots.curves(
    {name: (range(1, len(values) + 1), values) for name, values in curves.items()},
    mark={"D = ½: 2 ln 2": (None, 2 * math.log(2))},
    title=f"{train.title}: both losses, means of twenty steps",
    x_label="step",
    y_label="loss (nats)",
)

# %%
for at, (d, g, distance) in table.items():
    print(f"step {at:5d}   D's loss {d:.2f}   G's loss {g:.2f}   squared Fréchet distance {distance:6.1f}")
first, *_, last = table.values()
half_way_there = list(table.values())[len(table) // 2 - 1]
gains = (end - before for end, before in zip(last, half_way_there))
print("second half: D's loss {:+.2f}, G's loss {:+.2f}, distance {:+.1f}".format(*gains))

# %% [markdown]
# The rows and the distance improve to the end. Both losses jump at first and then go sideways: in the second half of the run one player gained a little and the other lost it, and from the two curves alone nobody could say how good the images are.
#
# ### {{heading gan/somebody-elses-discriminator}}
# Two judges learn to tell real images from those of your generator, which stands still meanwhile: yours, and a colleague's. The same images, the same learning rate, two seeds each.


# %%
def judge_alone(judge, seed):
    """Losses of a new discriminator against your generator, which stands still."""
    D, chance = players(seed, judge)[1], lab.generator(seed)
    optimizer, values = adam(D), []
    for x in batches(lab.pick(smoke=3, cpu=80, gpu=80), seed):
        z = torch.randn(len(x), latent, generator=chance, device=x.device)
        fake = G.eval()(z).detach()
        loss = non_saturating.discriminator(D, x, fake)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return values


alone = {
    f"{name}, seed {seed}": judge_alone(kind, seed)
    for name, kind in {"yours": Discriminator, "hers": pitfalls.Discriminator}.items()
    for seed in (1, 2)
}
plots.curves(
    {name: (range(1, len(values) + 1), values) for name, values in alone.items()},
    mark={"knows nothing": (None, 2 * math.log(2))},
    title=f"{train.title}: two judges and a generator that stands still",
    x_label="step",
    y_label="the judge's loss (nats)",
)

# %% [markdown]
# Hers learns, but slowly. Something is wrong in the cell below. Find it and fix it.


# %% tags=["quiz"]
class SomebodyElsesDiscriminator(nn.Module):
    """Images (b, c, h, w) to logits (b,), by the rules of DCGAN.  Arguments as in `Discriminator`."""

    def __init__(self, shape, widths=(32, 64)):
        super().__init__()
        c, h, w = shape
        fine, small = widths
        self.first = nn.Conv2d(c, fine, 4, stride=2, padding=1)
        self.second = nn.Conv2d(fine, small, 4, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(small)
        ### BEGIN SOLUTION
        self.leaky = nn.LeakyReLU(0.2)
        ### END SOLUTION
        ### BEGIN HANDED OUT
        # self.leaky = nn.Hardtanh(0.0, 0.2)
        ### END HANDED OUT
        self.logit = nn.Linear(small * (h // 4) * (w // 4), 1)

    def forward(self, x):
        h = self.leaky(self.first(x))
        h = self.leaky(self.norm(self.second(h)))
        return self.logit(h.flatten(1)).squeeze(1)


# %% tags=["check"]
SomebodyElsesDiscriminator = check("gan/somebody-elses-discriminator", SomebodyElsesDiscriminator)

# %% [markdown]
# ### {{heading gan/what-a-cap-does}}
# {{question gan/what-a-cap-does}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_a_cap_does = "b"
### END SOLUTION
### BEGIN HANDED OUT
# what_a_cap_does = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("gan/what-a-cap-does", what_a_cap_does)

# %% [markdown]
# ### A rule left out *(extra)*
# #### {{heading gan/without-norm}}
# {{question gan/without-norm}}

# %% tags=["quiz"]
### BEGIN SOLUTION
without_norm = "b"
### END SOLUTION
### BEGIN HANDED OUT
# without_norm = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("gan/without-norm", without_norm)

# %% [markdown]
# **A good place to pause.** You have a generator. From here on we look at what it knows.
#
# ## 8.8 · A walk through the latent space *(extra)*
#
# A VAE has an encoder to say where an image lies. A GAN has codes only, so we look around by walking.
#
# Half-way between two codes a straight line is too short, as in notebook 06, which walked along a sphere. Between *four* codes there is a way as simple. A weighted sum of independent $z_k\sim\mathcal N(0,1)$ has the variance $\sum_k w_k^2$, so divide by its root:
#
# $$z(u,v)=\frac{\sum_k w_k z_k}{\sqrt{\sum_k w_k^2}},\qquad w=\big((1-u)(1-v),\;u(1-v),\;(1-u)v,\;uv\big).$$
#
# ### {{heading gan/mix}}


# %% tags=["quiz"]
def mix(corners, u, v):
    """Codes between four codes, distributed as codes are.

    corners: (4, d) at (u, v) = (0, 0), (1, 0), (0, 1), (1, 1);  u, v: (n,) in [0, 1].  Returns (n, d).
    """
    ### BEGIN SOLUTION
    weights = torch.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], dim=-1)
    length = weights.square().sum(dim=-1, keepdim=True).sqrt()
    return weights @ corners / length
    ### END SOLUTION


# %% tags=["check"]
mix = check("gan/mix", mix)

# %%
course_G = load_generator(train.name, lab.device)
some = torch.randn(400, latent, generator=lab.generator(5), device=lab.device)
with torch.no_grad():
    sure, of_class = judge(course_G(some)).softmax(1).max(1)
by_class = {int(of_class[i]): i for i in sure.argsort().tolist()}  # of each class the one that is surest
surest = sorted(by_class.values(), key=lambda i: -sure[i].item())
corners = some[[*surest, 0, 1, 2][:4]]
way = torch.linspace(0, 1, 9, device=lab.device)
straight = corners[0] + way[:, None] * (corners[1] - corners[0])
with torch.no_grad():
    walks = {
        "straight": course_G(straight),
        "your mix": course_G(mix(corners, way, torch.zeros_like(way))),
    }
print(f"length half-way: straight {straight[4].norm():.1f}, mixed {mix(corners, way, 0 * way)[4].norm():.1f}")
plots.image_rows(walks, title=f"{train.title}: from one code to another, two ways")

# %% [markdown]
# Half-way the straight line is too short, and its images are a little fainter than those of your mix. Is a change of clothes a change of one thing after another, or are there jumps? Walk yourself: are there places where nothing changes for long, and then everything at once?


# %%
def show_walk(u, v):
    """The place (u, v) in the middle, and what lies around it."""
    near = torch.tensor([-0.1, 0.0, 0.1], device=lab.device)
    at_u, at_v = (near + u).clamp(0, 1), (near + v).clamp(0, 1)
    rows = {}
    for beside, there in zip(("v − 0.1", "v", "v + 0.1"), at_v):
        with torch.no_grad():
            rows[beside] = course_G(mix(corners, at_u, there.expand(3)))
    with torch.no_grad():
        sure, seen = judge(rows["v"][1:2]).softmax(1).max(1)
    return plots.image_rows(
        rows,
        labels=["u − 0.1", "u", "u + 0.1"],
        title=f'u = {u:.1f}, v = {v:.1f}: in the middle the judge sees "{names[int(seen)]}" ({sure.item():.0%})',
    )


explore(
    show_walk,
    u=slider(0.0, 1.0, 0.5, step=0.1),
    v=slider(0.0, 1.0, 0.5, step=0.1),
    title="Between four codes",
    alt="Nine images around a place between four codes; those at the edges resemble the nearest corner",
)

# %% [markdown]
# ### Two numbers only *(extra)*
# With a code of two numbers the whole latent space is a picture. Equal steps in *probability* show nearly all that the generator makes, each as large as it is frequent.

# %%
flat_G, flat_D = players(seed=1, size=2)
few = lab.pick(smoke=3, cpu=800, gpu=2000)
watched(flat_G, flat_D, non_saturating, batches(few), (adam(flat_D), adam(flat_G)), fixed[:, :2], few, lab.generator(2))
flat_G.eval()
places = torch.special.ndtri(torch.linspace(0.04, 0.96, 12)).to(lab.device)
plane = torch.stack(torch.meshgrid(places, places, indexing="xy"), -1)
with torch.no_grad():
    decoded = flat_G(plane.view(-1, 2)).view(12, 12, *train.shape)
plots.manifold(
    decoded, (4, 96, 4, 96), f"{train.title}: codes of two numbers", x_label="z₁, percentile", y_label="z₂, percentile"
)

# %% [markdown]
# Neighbours resemble each other, as in the map of the VAE. Nobody asked for that: a continuous function of z can't do otherwise, and between two garments it must pass through something. It is blurred around z = 0, where a dense layer without a bias gives 0 whatever its weights.
#
# ## 8.9 · Is everything there?
#
# ### {{heading gan/which-number}}
# {{question gan/which-number}}

# %% tags=["quiz"]
### BEGIN SOLUTION
which_number = "a"
### END SOLUTION
### BEGIN HANDED OUT
# which_number = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("gan/which-number", which_number)

# %% [markdown]
# Your `covered` of 8.4 counts, with the course's classifier in the place of the nearest mode; the entropy (8.6) is at most ln 10 ≈ 2.30 nats.
#
# And a collapse on purpose, by a rule that everybody would call unfair: from your trained pair on, **the discriminator stands still** (a learning rate of 0), and only the generator moves, five times as fast.
#
# **Predict, then run.** How many of the classes does a generator cover after that?

# %% tags=["predict"]
guess = predict("gan/classes-left", "Classes covered after the generator moved alone", 0, num_classes, unit="classes")


# %%
def variety(images):
    """(classes covered, entropy in nats) of what the judge sees."""
    return covered(judge.head(features(images)).argmax(1), num_classes)


lone_G, still_D = copy.deepcopy(G).train(), copy.deepcopy(D)
moves = lab.pick(smoke=3, cpu=200, gpu=200)
lone_losses, _ = watched(
    lone_G, still_D, non_saturating, batches(moves, 9), (adam(still_D, 0.0), adam(lone_G, 5e-3)), fixed, moves, chance
)
plots.image_rows(
    {"before": samples(G, 10), f"{moves} moves alone": samples(lone_G, 10)},
    title=f"{train.title}: what a judge that stands still lets pass",
)

# %%
print(f"alone: G's loss {lone_losses[0][1]:.2f} at the first move, {lone_losses[-1][1]:.2f} at the last")
kinds = {"real images": train.first(n).x, "the course's": samples(course_G, n), "yours": samples(G, n)}
kinds |= {"yours, moved alone": samples(lone_G, n)}
found = {name: variety(images) for name, images in kinds.items()}
for name, (classes, nats) in found.items():
    distance = frechet_distance(features(kinds[name]), real)
    print(
        f"{name:20s} {classes:2d} of {num_classes} classes   entropy {nats:.2f} nats   squared distance {distance:6.1f}"
    )
reveal("gan/classes-left", found["yours, moved alone"][0])

# %% [markdown]
# The generator's loss has never been lower, and its images are farther from the data than before. Nothing in that loss asks for garments, nor for ten kinds of them: it asks for what *this* judge takes for real, and a judge that stands still has blind spots. Here one pattern of checks will do, over whatever garment; fewer classes are left, and entropy and distance both say so. In a fair game the judge would learn to refuse what it sees too often. Variety comes from an opponent who stays awake.
#
# What classes and entropy can't notice is a class drawn as a thousand copies of one shirt. Notebook 09 measures finer.
#
# ### A count that shrinks *(extra)*
# #### {{heading gan/somebody-elses-album}}
# A colleague counts classes, too. His album is of *your* generator, from one and the same thousand codes. Only the size of the batches differs, and that ought to make no difference.

# %%
thousand = torch.randn(1000, latent, generator=lab.generator(8), device=lab.device)
for size in (1000, 250, 64, 16):
    classes, nats = variety(pitfalls.album(G.eval(), thousand, size))
    print(f"batches of {size:4d}: {classes:2d} classes covered, entropy {nats:.2f} nats")

# %% [markdown]
# Something is wrong in the cell below. Find it and fix it.


# %% tags=["quiz"]
@torch.no_grad()
def somebody_elses_album(generator, codes, size):
    """Images (n, c, h, w) of all codes (n, latent), drawn `size` at a time, clipped to [−1, 1]."""
    generated = []
    start = 0
    while start < len(codes):
        part = codes[start : start + size]
        generate = generator(part)
        generate = generate.clamp(-1, 1)
        generated.append(generate)
        start += size
    ### BEGIN SOLUTION
    return torch.cat(generated)
    ### END SOLUTION
    ### BEGIN HANDED OUT
    # return generate
    ### END HANDED OUT


# %% tags=["check"]
somebody_elses_album = check("gan/somebody-elses-album", somebody_elses_album)

# %% [markdown]
# #### {{heading gan/what-an-album-hides}}
# {{question gan/what-an-album-hides}}

# %% tags=["quiz"]
### BEGIN SOLUTION
what_an_album_hides = "b"
### END SOLUTION
### BEGIN HANDED OUT
# what_an_album_hides = ""    # type a, b, c or d between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("gan/what-an-album-hides", what_an_album_hides)

# %% [markdown]
# ### Learned, or learned by heart? *(extra)*
# A generator that copies its training set passes every test so far. Look for the nearest training image.
#
# #### {{heading gan/nearest}}


# %% tags=["quiz"]
def nearest(images, data):
    """(distance, index): for each image the nearest of `data`, by the root mean square difference of pixels.

    images: (b, c, h, w);  data: (n, c, h, w).  Returns two tensors (b,).
    """
    ### BEGIN SOLUTION
    far = torch.cdist(images.flatten(1), data.flatten(1))
    distance, index = far.min(dim=1)
    return distance / images[0].numel() ** 0.5, index
    ### END SOLUTION


# %% tags=["check"]
nearest = check("gan/nearest", nearest)

# %%
among = train.first(lab.pick(smoke=200, cpu=20000, gpu=60000)).x
own, unseen = samples(course_G, 6), test.first(6).x
(d_own, i_own), (d_unseen, i_unseen) = nearest(own, among), nearest(unseen, among)
print(f"to the nearest training image: samples {d_own.mean():.3f}, unseen real images {d_unseen.mean():.3f}")
plots.image_rows(
    {"sample": own, "its nearest": among[i_own], "unseen, real": unseen, "nearest to it": among[i_unseen]},
    title=f"{train.title}: the nearest of {len(among):,} training images",
)

# %% [markdown]
# A copy would have a distance near 0. Compare with images that nobody trained on. Six are a look, no measurement; notebook 09 measures.
#
# ## Recap of this run
#
# Your points so far, in all notebooks of this folder: `from classroom import progress; progress()` in a new cell.

# %%
print(f"effort {lab.effort}, {train.title}\n")
print(f"8.1  |D − D*| = {away:.3f} for a trained network against the ratio of densities")
for name, (modes, nats, share) in on_the_ring.items():
    print(f"8.4  {name}: {modes} of 8 modes, entropy {nats:.2f} nats, {share:.0%} of the points on a mode")
for name, rows in remedies.items():
    print(f"8.5  {name:20s} modes covered: " + ", ".join(f"{modes:.0f}" for modes in rows[:, 0]))
for when, (d, g, distance) in (("first", first), ("last", last)):
    print(f"8.7  {when:5s} D's loss {d:.2f}, G's loss {g:.2f}, squared Fréchet distance {distance:.1f}")
for name, (classes, nats) in found.items():
    print(f"8.9  {name:20s} {classes:2d} classes, entropy {nats:.2f} of {math.log(num_classes):.2f} nats")

# %% [markdown]
# **What to take along.** A GAN needs no likelihood and no noise schedule: one network makes images in a single pass, another says whether they pass. The price is a loss that measures nothing but the opponent, and a game that may end in a corner. So measure beside it, fidelity *and* variety, and believe no single number.
#
# Notebook 09 puts VAE, GAN and diffusion side by side.
#
# ## Go further *(ungraded)*
# 1. **Name the class.** Tell both players the label (an embedding beside z for one, a plane for the other, as in notebook 07). Does coverage of the classes become a matter of asking?
# 2. **Two speeds.** Give the discriminator twice the generator's learning rate (Heusel et al. 2017). Three seeds each: is the difference larger than the spread?
# 3. **An averaged generator.** Average its weights with the `EMA` of notebook 05. Which is nearer to the data?
# 4. **Without BatchNorm, with R1.** Take it out of the discriminator, play with your R1 of 8.5, and do the comparison of question "Left out" yourself.
# 5. **Find a code.** Take a real image, and look for the z whose image is nearest to it, by gradient descent on z. Which garments can your generator not make?
#
# ## References
# * I. Goodfellow et al., *Generative Adversarial Nets*, NeurIPS 2014. arXiv:1406.2661
# * T. Salimans et al., *Improved Techniques for Training GANs* (label smoothing), NeurIPS 2016. arXiv:1606.03498
# * L. Mescheder, A. Geiger, S. Nowozin, *Which Training Methods for GANs do actually Converge?* (R1), ICML 2018. arXiv:1801.04406
# * T. Miyato et al., *Spectral Normalization for Generative Adversarial Networks*, ICLR 2018. arXiv:1802.05957
# * A. Jolicoeur-Martineau, *The relativistic discriminator: a key element missing from standard GAN*, ICLR 2019. arXiv:1807.00734
# * A. Radford, L. Metz, S. Chintala, *Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks*, ICLR 2016. arXiv:1511.06434
# * M. Heusel et al., *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium* (Fréchet distance), NeurIPS 2017. arXiv:1706.08500
# * T. White, *Sampling Generative Networks* (walks on the sphere), 2016. arXiv:1609.04468
# * Y. Huang et al., *The GAN is dead; long live the GAN! A Modern Baseline GAN*, NeurIPS 2024. arXiv:2501.05441
