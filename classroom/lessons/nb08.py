"""The quizzes of notebook 08, "GAN"."""

import copy
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import adversarial, metrics
from course_utils.models import dcgan
from course_utils.training import until_stopped

from ..quizzes.declarations import Case, Fixture, Misconception, Option, Unfit, concept, fixture, quiz
from ..quizzes.raw import Array

# ---------------------------------------------------------------------------------------------------- inputs for cases


def _net(inputs: int, outputs: int, double: bool) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(inputs, 7), nn.Tanh(), nn.Linear(7, outputs))
    return net.double() if double else net


@fixture("gan/generator")
def _generator(latent: int = 3, size: int = 2, double: bool = False, seed: int = 0) -> nn.Module:
    return _net(latent, size, double)


@fixture("gan/discriminator")
def _discriminator(size: int = 2, double: bool = False, seed: int = 0) -> nn.Module:
    return nn.Sequential(_net(size, 1, double), nn.Flatten(0))


@fixture("gan/of-images")
def _of_images(channels: int = 1, double: bool = False, seed: int = 0) -> nn.Module:
    """Logits of images of any size, no two of them equally steep."""
    conv = nn.Conv2d(channels, 4, 3, padding=1)
    return _Pooled(conv.double() if double else conv)


class _Pooled(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return 3 * self.conv(x).tanh().flatten(1).square().sum(1)


@fixture("gan/game")
def _game(kind: str = "NON_SATURATING", seed: int = 0) -> adversarial.Game:
    return getattr(adversarial, kind)


@fixture("gan/sample")
def _a_sample(b: int = 5, size: int = 2, seed: int = 0):
    """Another batch on each call, always the same row of batches."""
    rng = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(b, size, generator=rng) + 1


@fixture("gan/ring")
def _ring(k: int = 8, std: float = 0.05, seed: int = 0) -> SimpleNamespace:
    angle = torch.arange(k) * (2 * torch.pi / k)
    return SimpleNamespace(means=torch.stack([angle.cos(), angle.sin()], 1) * 1.4)


def _logits(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, dtype, scale in (
        (5, torch.float32, 2),
        (3, torch.float64, 4),
        (1, torch.float32, 1),
        (6, torch.float32, 90),
    ):
        real, fake = (scale * torch.randn(b, generator=rng, dtype=dtype) for _ in range(2))
        if scale > 50:
            real[:2], fake[:2] = torch.tensor([-200.0, 200.0]), torch.tensor([200.0, -200.0])
        cases.append(Case({"real": real, "fake": fake}, gradients=("real", "fake")))
    return cases


def _of(which: str, cases):
    """The same cases with some arguments only."""

    def drawn(rng):
        return [Case({which: case.args[which]}, gradients=(which,)) for case in cases(rng)]

    return drawn


# --------------------------------------------------------------------------------------------------------- 8.1 · losses

concept(
    "gan/value-at-the-end",
    minutes=1,
    title="When nobody can tell",
    equation="8.1",
    question="""
    The generator has won: its points are distributed exactly like the real ones, and $D$ has become as good as it can
    be against that. What does $D$ say?
    """,
    options={
        "a": Option(
            "1 everywhere, since by now each of the points could be a real one.",
            "Then it would be surely wrong about each generated point, and $\\ln(1-D)$ would be −∞. Half of "
            "what it is shown is generated.",
        ),
        "b": Option(
            "0 at generated points and 1 at real ones, as it was taught all along.",
            "It sees a point, not its origin. The two kinds lie in the same places now.",
        ),
        "c": Option(
            "½ everywhere: at each place both kinds of points are equally frequent.",
            "Right. That isn't ignorance of a bad discriminator but the best answer there is.",
            right=True,
        ),
        "d": Option(
            "Large values where data are dense, and small ones in empty regions.",
            "A density would look like that. $D$ compares two densities: their ratio is 1 in dense and in empty "
            "places.",
        ),
    },
)


def _d_loss(real, fake):
    return adversarial.discriminator_loss(real, fake)


def _d_loss_with(of_real, of_fake, join=lambda r, f: r.mean() + f.mean()):
    return lambda real, fake: join(of_real(real), of_fake(fake))


quiz(
    "gan/discriminator-loss",
    points=2,
    minutes=3,
    equation="8.2",
    title="What the discriminator minimizes",
    reference=_d_loss,
    library=(adversarial.discriminator_loss,),
    cases=_logits,
    misconceptions=[
        Misconception(
            "the labels exchanged",
            _d_loss_with(F.softplus, lambda f: F.softplus(-f)),
            "Your discriminator is rewarded for calling generated points real. D is the probability of *real*.",
        ),
        Misconception(
            "the sign of the value",
            lambda real, fake: -_d_loss(real, fake),
            "That is V, which the discriminator wants *large*; an optimizer makes things small. A loss is −V.",
        ),
        Misconception(
            "half of it",
            lambda real, fake: _d_loss(real, fake) / 2,
            "(8.2) is the sum of both means, 2 ln 2 where nothing is known. (Many programs halve it; we don't.)",
        ),
        Misconception(
            "the real half alone",
            lambda real, fake: F.softplus(-real).mean(),
            'Whoever says "real" to everything has no loss then. The generated half is missing.',
        ),
        Misconception(
            "logits taken for probabilities",
            _d_loss_with(lambda r: -r.abs().clamp(1e-6, 1).log(), lambda f: -(1 - f).clamp(1e-6, 1).log()),
            "The network returns logits, from −∞ to ∞. D is their sigmoid.",
        ),
    ],
    hints=[
        "D = sigmoid(logit). What is −ln D, written with the logit r? And −ln(1 − D)?",
        "−ln D = ln(1 + e⁻ʳ), which is called softplus(−r). `F.softplus` never overflows.",
        "For generated points 1 − D = sigmoid(−logit): the sign turns.",
        "`return F.softplus(-real).mean() + F.softplus(fake).mean()`",
    ],
    passed="A game of networks is ordinary classification for one of the two: cross-entropy, written on logits so that "
    "certainty costs no infinities.",
    explanation="""
    `F.binary_cross_entropy_with_logits` with ones and with zeros gives the same two terms. With `sigmoid` and then
    `log`, a logit of −200 becomes ln 0.
    """,
)


def _g_losses(fake):
    return adversarial.non_saturating_loss(fake), adversarial.saturating_loss(fake)


quiz(
    "gan/generator-losses",
    points=2,
    minutes=2,
    equation="8.3",
    title="Two losses for the generator",
    reference=_g_losses,
    library=(adversarial.non_saturating_loss, adversarial.saturating_loss),
    cases=_of("fake", _logits),
    misconceptions=[
        Misconception(
            "exchanged",
            lambda fake: _g_losses(fake)[::-1],
            "(8.3) first: the non-saturating loss is the one with ln D.",
        ),
        Misconception(
            "the discriminator's sign",
            lambda fake: (_g_losses(fake)[0], -_g_losses(fake)[1]),
            "Minimizing −ln(1 − D) makes generated points *less* like real ones: that is the discriminator's half. "
            "(8.4) is at most 0.",
        ),
        Misconception(
            "maximized",
            lambda fake: (-_g_losses(fake)[0], _g_losses(fake)[1]),
            "ln D is to become large, so its *negative* is minimized.",
        ),
        Misconception(
            "one for both",
            lambda fake: (_g_losses(fake)[0],) * 2,
            "They have the same fixed point but not the same values: ln(1 − D) is not −ln D.",
        ),
    ],
    hints=[
        "Two means, of ln D and of ln(1 − D), with D = sigmoid(logit), and the signs of (8.3) and (8.4).",
        "−ln D = softplus(−logit), as in the last quiz.",
        "ln(1 − D) = −softplus(logit): it is never above 0.",
        "`return F.softplus(-fake).mean(), -F.softplus(fake).mean()`",
    ],
    passed="Both want D high at generated points, and both stop at the same place. Their slopes differ, and the slope "
    "is all that a network gets to see.",
    explanation="""
    Derivatives in the logit: D − 1 for the first, −D for the second.
    """,
)

concept(
    "gan/who-starves",
    minutes=1,
    title="A beginner against a judge",
    equation="8.4",
    question="""
    Early in training $D$ is sure: at generated points its logit is near $-10$. Which gradient does the generator get,
    per logit, from the losses (8.3) and (8.4)?
    """,
    options={
        "a": Option(
            "About $-1$ from (8.3), about $-0.00005$ from (8.4).",
            "Right: $D-1$ against $-D$. (8.4) is flat just where the generator has the most to learn.",
            right=True,
        ),
        "b": Option(
            "About $-0.00005$ from (8.3), about $-1$ from (8.4).",
            "Take the derivative: $\\ln(1-D)$ has slope $-D$ in the logit, and $D$ is nearly 0 here.",
        ),
        "c": Option(
            "Nearly 0 from both of them, since $D$ has become flat.",
            "$D$ is flat in the logit, but $-\\ln D=\\ln(1+e^{10})$ isn't: the logarithm undoes it.",
        ),
        "d": Option(
            "About $-1$ from both of them, since they agree on the aim.",
            "They agree where both are zero, not in how steep the way there is.",
        ),
    },
)


def _two_densities(rng: torch.Generator) -> list[Case]:
    cases = []
    for shape, dtype, centre in (
        ((7,), torch.float32, 0.0), ((3, 5), torch.float64, -2.0), ((1,), torch.float32, 3.0),
        ((4,), torch.float32, -900.0),
    ):  # fmt: skip
        log_p, log_q = (centre + 3 * torch.randn(*shape, generator=rng, dtype=dtype) for _ in range(2))
        cases.append(Case({"log_p": log_p, "log_q": log_q}))
    return cases


quiz(
    "gan/optimal-discriminator",
    points=2,
    minutes=3,
    equation="8.5",
    title="The best discriminator there is",
    reference=adversarial.optimal_discriminator,
    cases=_two_densities,
    misconceptions=[
        Misconception(
            "of the generated", lambda p, q: torch.sigmoid(q - p), "D is the probability of *real*: p on top."
        ),
        Misconception(
            "the ratio", lambda p, q: (p - q).clamp(max=80).exp(), "p/q are the odds; the probability is p/(p + q)."
        ),
        Misconception("the logit", lambda p, q: p - q, "That is its logit. The probability is the sigmoid of it."),
        Misconception(
            "logarithms for densities",
            lambda p, q: p / (p + q),
            "(8.5) holds for densities; you were given their logarithms.",
        ),
        Misconception(
            "by exponentials",
            lambda p, q: torch.nan_to_num(p.exp() / (p.exp() + q.exp()), nan=0.5),
            "Far out e^(−900) is 0 in the computer, and 0/0 is nothing. Divide by p first: only a difference of "
            "logarithms remains.",
        ),
    ],
    hints=[
        "p/(p + q) with p = e^log_p. What remains if you divide both by p?",
        "1/(1 + q/p), and q/p = e^(log_q − log_p).",
        "1/(1 + e⁻ᵃ) has a name.",
        "`return torch.sigmoid(log_p - log_q)`",
    ],
    passed="The logit of the best discriminator is ln p − ln q: whoever trains a classifier of real against generated "
    "estimates a ratio of densities.",
    explanation="""
    sigmoid(ln p − ln q) = 1/(1 + q/p) = p/(p + q). A difference of logarithms stays finite where both densities are too
    small for a float.
    """,
)


# ------------------------------------------------------------------------------------------------------- 8.2 · the step


def _gan_step(G, D, game, x, z, d_optimizer, g_optimizer):
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


def _weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def _try_step(answer, G, D, game, x, z, d_optimizer, g_optimizer):
    """Four steps of plain gradient descent at these rates, on other data each time; the weights after each."""
    optimizers = [torch.optim.SGD(net.parameters(), rate) for net, rate in ((D, d_optimizer), (G, g_optimizer))]
    found = {}
    for k in range(4):
        losses = answer(G, D, game, x + 0.1 * k, z - 0.2 * k, *optimizers)
        if losses is None:
            return None
        n = f"after step {k + 1}"
        found |= {f"losses of step {k + 1}": losses, f"D's weights {n}": _weights(D), f"G's weights {n}": _weights(G)}
    return found


def _steps(rng: torch.Generator) -> list[Case]:
    cases = []
    for seed, (b, latent, size, dtype, kind) in enumerate(
        (
            (4, 3, 2, torch.float32, "NON_SATURATING"), (1, 2, 5, torch.float64, "SATURATING"),
            (6, 1, 3, torch.float64, "RELATIVISTIC"),
        )
    ):  # fmt: skip
        double = dtype == torch.float64
        cases.append(
            Case(
                {
                    "G": Fixture("gan/generator", latent=latent, size=size, double=double, seed=seed),
                    "D": Fixture("gan/discriminator", size=size, double=double, seed=seed + 7),
                    "game": Fixture("gan/game", kind=kind),
                    "x": torch.randn(b, size, generator=rng, dtype=dtype) + 1,
                    "z": torch.randn(b, latent, generator=rng, dtype=dtype),
                    "d_optimizer": 0.3,
                    "g_optimizer": 0.2,
                },
                label=f"four steps of a {kind.lower().replace('_', '-')} game, {b} points of {size} numbers",
            )
        )
    return cases


def _step_undetached(G, D, game, x, z, d_optimizer, g_optimizer):
    d_optimizer.zero_grad()
    g_optimizer.zero_grad()
    d_loss = game.discriminator(D, x, G(z))
    d_loss.backward()
    d_optimizer.step()
    g_loss = game.generator(D, x, G(z))
    g_loss.backward()
    g_optimizer.step()
    return d_loss.item(), g_loss.item()


def _step_clearing(of_d="before", of_g="before"):
    """When each player's gradients are cleared: "before" its own backward, "after" its move, or never."""

    def step(G, D, game, x, z, d_optimizer, g_optimizer):
        fake, losses = G(z), []
        turns = (
            (d_optimizer, of_d, lambda: game.discriminator(D, x, fake.detach())),
            (g_optimizer, of_g, lambda: game.generator(D, x, fake)),
        )
        for optimizer, when, loss_of in turns:
            loss = loss_of()
            if when == "before":
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if when == "after":
                optimizer.zero_grad()
            losses.append(loss.item())
        return tuple(losses)

    return step


def _step_at_once(G, D, game, x, z, d_optimizer, g_optimizer):
    fake = G(z)
    d_loss, g_loss = game.discriminator(D, x, fake.detach()), game.generator(D, x, fake)
    of_G = torch.autograd.grad(g_loss, list(G.parameters()))
    d_optimizer.zero_grad()
    d_loss.backward()
    d_optimizer.step()
    for p, slope in zip(G.parameters(), of_G):
        p.grad = slope
    g_optimizer.step()
    return d_loss.item(), g_loss.item()


def _step_generator_first(G, D, game, x, z, d_optimizer, g_optimizer):
    g_loss = game.generator(D, x, G(z))
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()
    d_loss = game.discriminator(D, x, G(z).detach())
    d_optimizer.zero_grad()
    d_loss.backward()
    d_optimizer.step()
    return d_loss.item(), g_loss.item()


def _step_all_detached(G, D, game, x, z, d_optimizer, g_optimizer):
    before = copy.deepcopy(G.state_dict())
    losses = _gan_step(G, D, game, x, z, d_optimizer, g_optimizer)
    G.load_state_dict(before)
    return losses


quiz(
    "gan/step",
    points=4,
    minutes=5,
    equation="8.1",
    title="One move each",
    reference=_gan_step,
    library=(adversarial.train_gan,),
    cases=_steps,
    probe=_try_step,
    any_device=False,
    misconceptions=[
        Misconception(
            "without detach",
            _step_undetached,
            "The discriminator's loss reached the generator, and its gradient was still there when the generator "
            "moved: it was taught to be *found out*. `.detach()`, and zero_grad before each backward.",
        ),
        Misconception(
            "gradients pile up",
            _step_clearing("never", "never"),
            "`.backward()` adds. The generator's backward runs through D as well and leaves a gradient there: clear "
            "each player's own before its backward.",
        ),
        Misconception(
            "the generator's gradient left in D",
            _step_clearing("never"),
            "The generator's backward runs through D too and leaves a gradient there, which D's next move takes along.",
        ),
        Misconception(
            "D cleared before the generator's backward",
            _step_clearing("after", "after"),
            "The generator's backward runs through D too and leaves a gradient there: clear it right before D's own "
            "backward.",
        ),
        Misconception(
            "both at once",
            _step_at_once,
            "The generator answers the discriminator *as it is after its move*: ask D again.",
        ),
        Misconception(
            "the generator first", _step_generator_first, "The discriminator moves first, then the generator."
        ),
        Misconception(
            "the generator never moves",
            _step_all_detached,
            "The generator's weights are as before. In its own move, the generated points must not be detached.",
        ),
    ],
    hints=[
        "Two ordinary training steps, one after the other. What may the first not touch? (If PyTorch complains of a "
        "second backward: the first half ran through G as well. `retain_graph` would only hide that.)",
        "`fake = G(z)` once. The discriminator's loss sees `fake.detach()`, the generator's sees `fake`.",
        "Each: loss, `zero_grad`, `backward`, `step`. The generator's loss is computed after the discriminator's step.",
        "`d_loss = game.discriminator(D, x, fake.detach())`, clear, backward, step; then the same with "
        "`g_loss = game.generator(D, x, fake)`; `return d_loss.item(), g_loss.item()`",
    ],
    passed="Two optimizers, two losses, and one wall between them: `detach` is what makes it a game and not one "
    "minimization.",
    explanation="""
    The generator's backward also leaves gradients in D; they are cleared before D's next backward. Without `detach`
    the first backward runs through G as well, frees its graph, and leaves the wrong gradient there.
    """,
)


def _play(G, D, game, sample, steps, latent, betas, chance, keep=100):
    d_optimizer, g_optimizer = (torch.optim.Adam(net.parameters(), lr=1e-3, betas=betas) for net in (D, G))
    losses, snapshots = [], [copy.deepcopy((G, D))]
    for k in until_stopped(range(1, steps + 1)):
        x = sample()
        z = torch.randn(len(x), latent, generator=chance)
        losses.append(_gan_step(G, D, game, x, z, d_optimizer, g_optimizer))
        if k % keep == 0:
            snapshots.append(copy.deepcopy((G, D)))
    return losses, snapshots


def _try_play(answer, G, D, game, sample, steps, latent, betas, chance, keep):
    given = answer(G, D, game, sample, steps, latent, betas, chance, keep)
    if given is None:
        return None
    losses, snapshots = given
    seen = [torch.cat([_weights(g), _weights(d)]) for g, d in snapshots]
    return {"losses": losses, "snapshots": seen, "last": torch.cat([_weights(G), _weights(D)])}


def _plays(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, latent, size, steps, keep, betas in (
        (5, 3, 2, 7, 3, (0.5, 0.999)), (2, 1, 3, 4, 4, (0.9, 0.99)), (1, 2, 4, 5, 9, (0.0, 0.9)),
    ):  # fmt: skip
        seed = int(torch.randint(1000, (), generator=rng))
        cases.append(
            Case(
                {
                    "G": Fixture("gan/generator", latent=latent, size=size, seed=seed),
                    "D": Fixture("gan/discriminator", size=size, seed=seed + 1),
                    "game": Fixture("gan/game"),
                    "sample": Fixture("gan/sample", b=b, size=size, seed=seed),
                    "steps": steps,
                    "latent": latent,
                    "betas": betas,
                    "chance": Fixture("generator", seed=seed),
                    "keep": keep,
                },
                label=f"{steps} steps, batches of {b}, a snapshot every {keep}",
            )
        )
    return cases


def _play_with(
    copied=copy.deepcopy,
    first=True,
    fresh=False,
    one_z=False,
    one_x=False,
    turned=False,
    beta=None,
    since=1,
    draw=torch.randn,
):
    def play(G, D, game, sample, steps, latent, betas, chance, keep=100):
        def optimizers():
            return [
                torch.optim.Adam(net.parameters(), lr=1e-3, betas=beta or betas)
                for net in ((G, D) if turned else (D, G))
            ]

        pair, losses, snapshots = optimizers(), [], [copied((G, D))] * first
        x = z = None
        for k in range(1, steps + 1):
            x = sample() if x is None or not one_x else x
            z = draw(len(x), latent, generator=chance) if z is None or not one_z else z
            pair = optimizers() if fresh else pair
            losses.append(_gan_step(G, D, game, x, z, *pair))
            if (k - 1 + since) % keep == 0:
                snapshots.append(copied((G, D)))
        return losses, snapshots

    return play


quiz(
    "gan/play",
    points=3,
    minutes=5,
    equation="8.1",
    title="A whole match",
    reference=_play,
    library=(adversarial.train_gan,),
    cases=_plays,
    probe=_try_play,
    any_device=False,
    misconceptions=[
        Misconception(
            "snapshots of the moving networks",
            _play_with(copied=lambda pair: pair),
            "All your snapshots show the end: a list keeps references. `copy.deepcopy` freezes a network as it is.",
        ),
        Misconception(
            "no snapshot of the start", _play_with(first=False), "The first snapshot is of the untrained pair."
        ),
        Misconception(
            "new optimizers in each step",
            _play_with(fresh=True),
            "Adam's memory was lost in each step: make both optimizers once, before the loop.",
        ),
        Misconception(
            "counted from 0",
            _play_with(since=0),
            "Your loop counts from 0, so `k % keep == 0` holds after the very first step. Count from 1, or ask k + 1.",
        ),
        Misconception(
            "the optimizers exchanged",
            _play_with(turned=True),
            "Each optimizer holds the weights of the *other* player: `gan_step` wants the discriminator's first.",
        ),
        Misconception(
            "Adam's own betas",
            _play_with(beta=(0.9, 0.999)),
            "Hand the `betas` on to both optimizers, else Adam takes its own.",
        ),
        Misconception("uniform noise", _play_with(draw=torch.rand), "z ~ N(0, 1): `torch.randn`, not `torch.rand`."),
        Misconception("one noise for all steps", _play_with(one_z=True), "Draw fresh z in every step."),
        Misconception(
            "one batch for all steps", _play_with(one_x=True), "`sample()` gives another batch on each call."
        ),
    ],
    hints=[
        "Before the loop: two optimizers, an empty list of losses, a snapshot of the start.",
        "In the loop: a batch, as many z, one `gan_step`. Draw z with the `chance` that you were given.",
        "A snapshot is `copy.deepcopy((G, D))`, after every `keep`-th step.",
        "`for k in until_stopped(range(1, steps + 1)):` … `if k % keep == 0: snapshots.append(copy.deepcopy((G, D)))`",
    ],
    passed="That is a GAN, complete, in a dozen lines. What is hard about it isn't the code.",
    explanation="""
    Both optimizers keep moving averages of gradients, so they must live as long as the match. β₁ is how long the
    memory of the direction is; section 8.4 shows that it decides a lot.
    """,
)


# ---------------------------------------------------------------------------------------- 8.2 · somebody else's curves


def _report(D, x, fake):
    with torch.no_grad():
        real, made = D(x), D(fake)
    return adversarial.discriminator_loss(real, made).item(), adversarial.non_saturating_loss(made).item()


def _two_batches(rng: torch.Generator) -> list[Case]:
    cases = []
    for seed, (b, size, dtype) in enumerate(((6, 2, torch.float32), (1, 3, torch.float64), (9, 4, torch.float64))):
        x, fake = (torch.randn(b, size, generator=rng, dtype=dtype) for _ in range(2))
        D = Fixture("gan/discriminator", size=size, double=dtype == torch.float64, seed=seed)
        cases.append(Case({"D": D, "x": x, "fake": fake}))
    return cases


def _report_shares(D, x, fake):
    with torch.no_grad():
        real, made = D(x) > 0, D(fake) > 0
    right = torch.cat([real, ~made]).double().mean()
    return right.item(), made.double().mean().item()


def _report_errors(D, x, fake):
    right, fooled = _report_shares(D, x, fake)
    return 1 - right, 1 - fooled


def _report_probabilities(D, x, fake):
    with torch.no_grad():
        real, made = D(x).sigmoid(), D(fake).sigmoid()
    return ((1 - real).mean() + made.mean()).item(), (1 - made).mean().item()


quiz(
    "gan/somebody-elses-curves",
    points=3,
    minutes=7,
    equation="8.2",
    title="Somebody else's curves",
    bug_hunt=True,
    reference=_report,
    library=(adversarial.discriminator_loss, adversarial.non_saturating_loss),
    cases=_two_batches,
    any_device=False,
    misconceptions=[
        Misconception(
            "accuracies",
            _report_shares,
            "Those are shares of right answers, as they were handed out. Count what is *minimized*: (8.2) and (8.3).",
        ),
        Misconception(
            "error rates",
            _report_errors,
            "Falling now, but still counts of points on one side of a line. A loss knows how sure D was: (8.2), (8.3).",
        ),
        Misconception(
            "probabilities without logarithm",
            _report_probabilities,
            "Near: what is minimized is the mean *logarithm* of these probabilities, with a minus.",
        ),
    ],
    hints=[
        "The axis says loss. Between which numbers do the curves lie, and how large is (8.3) where D knows nothing?",
        "A comparison, `> 0`, turns logits to True and False. What is the mean of those?",
        "Leave the logits as they are, and use what the two players minimize.",
        "`discriminator_loss(real, made).item(), generator_losses(made)[0].item()`",
    ],
    passed="A curve between 0 and 1 may be a share. Before you read a curve, read what it is a curve of.",
    explanation="""
    `(logits > 0)` counts who stands on which side. It has no gradient, and can stand still while both losses move.
    """,
)

concept(
    "gan/what-curves-hide",
    title="What her curves can't say",
    equation="8.2",
    question="""
    She plots accuracies and calls them losses. Nothing else is wrong with her run. What happens to her samples, and to
    what she concludes from the curves?
    """,
    options={
        "a": Option(
            "They get worse over time: her optimizers now follow the gradient of an accuracy.",
            "An accuracy has no gradient, and no optimizer got to see it: it was computed for the plot.",
        ),
        "b": Option(
            "They are as good as ever; but at accuracy 1 she can't tell a sure $D$ from a surer one.",
            "Right. At accuracy 1 the loss may be 0.3 or 0.0001, and her plot looks the same. Only the conclusions are "
            "harmed.",
            right=True,
        ),
        "c": Option(
            "They are as good as ever; so are her conclusions, since an accuracy is a loss turned over.",
            "One can stand still while the other moves: accuracy doesn't know how sure $D$ was.",
        ),
        "d": Option(
            "They collapse to one mode, since the two curves pull the networks in one direction.",
            "Curves pull at nothing. The losses that are differentiated are right.",
        ),
    },
)


# ------------------------------------------------------------------------------------------- 8.4 · mode collapse

concept(
    "gan/why-one-mode",
    minutes=1,
    title="One good answer",
    equation="8.3",
    question="""
    $D$ stands still for a while, and the generator minimizes (8.3) against it until nothing moves. Where do its points
    end up?
    """,
    options={
        "a": Option(
            "Spread over the modes, each in proportion to its share of the data.",
            "Nothing in (8.3) mentions shares or other points: each generated point is judged on its own.",
        ),
        "b": Option(
            "In the middle of the ring, at an equal distance from all the modes.",
            "That is what a squared error would do. Here the middle is empty, and $D$ knows it.",
        ),
        "c": Option(
            "Where the real points lie densest, since $D$ must be highest there.",
            "The best $D$ is highest where real points outnumber *generated* ones, which isn't where they are dense.",
        ),
        "d": Option(
            "All where $D$ happens to be highest, for whichever code $z$ they come from.",
            "Right. (8.3) asks each point to look real, and nothing asks two points to differ. Only $D$'s next move "
            "drives them apart.",
            right=True,
        ),
    },
)


def _modes_of(x, means, within):
    distance, nearest = torch.cdist(x, means).min(1)
    return torch.where(distance <= within, nearest, -1)


def _points_about(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, k, d, dtype, within in (
        (30, 8, 2, torch.float32, 0.6), (12, 3, 4, torch.float64, 1.5), (1, 5, 2, torch.float64, 0.9),
        (40, 6, 3, torch.float32, 0.8),
    ):  # fmt: skip
        means = 1.5 * torch.randn(k, d, generator=rng, dtype=dtype)
        x = means[torch.arange(n) % k] + 0.5 * torch.randn(n, d, generator=rng, dtype=dtype)
        cases.append(Case({"x": x, "means": means, "within": within}))
    return cases


def _modes_any(x, means, within):
    return torch.cdist(x, means).argmin(1)


def _modes_first(x, means, within):
    near = torch.cdist(x, means) <= within
    return torch.where(near.any(1), near.int().argmax(1), -1)


def _modes_zero(x, means, within):
    distance, nearest = torch.cdist(x, means).min(1)
    return torch.where(distance <= within, nearest, 0)


def _modes_squared(x, means, within):
    distance, nearest = torch.cdist(x, means).square().min(1)
    return torch.where(distance <= within, nearest, -1)


quiz(
    "gan/modes-of",
    points=2,
    minutes=3,
    title="To which mode does a point belong?",
    reference=_modes_of,
    cases=_points_about,
    misconceptions=[
        Misconception("no point is lost", _modes_any, "A point far from all modes belongs to none: −1."),
        Misconception("mode 0 for lost points", _modes_zero, "Your lost points all count for mode 0. They are −1."),
        Misconception("the first that is near", _modes_first, "Where two modes are near, the *nearest* counts."),
        Misconception("squared distances", _modes_squared, "`within` is a distance: you compare it with its square."),
    ],
    hints=[
        "All distances at once: `torch.cdist(x, means)` is (n, k).",
        "`.min(1)` gives both: how far the nearest mode is, and which it is.",
        "Where that is farther than `within`, the answer is −1: `torch.where`.",
        "`return torch.where(distance <= within, nearest, -1)`",
    ],
    passed="A judge for the ring, with nothing learned in it.",
    explanation="""
    In two dimensions 98.9 % of a round blob's own points lie within three standard deviations: 1 − e^(−9/2).
    """,
)


def _covered(labels, k, least=0.1):
    return metrics.classes_covered(labels, k, least), metrics.class_entropy(labels, k)


def _label_lists(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, k, least, last in ((100, 8, 0.1, 8), (40, 5, 0.5, 3), (30, 3, 0.1, 1), (200, 10, 0.3, 10), (6, 4, 0.1, 0)):
        labels = torch.randint(-1, last, (n,), generator=rng) if last else torch.full((n,), -1)
        labels = torch.where(torch.rand(n, generator=rng) < 0.5, labels.clamp(max=1), labels)
        cases.append(
            Case({"labels": labels, "k": k, "least": least}, label=f"{n} labels of {k} modes, up to {last - 1}")
        )
    edges = {
        "shares of 91, 4 and 5 in 100 of 4 modes": torch.tensor([0] * 91 + [1] * 4 + [2] * 5),
        "60 of 100 lost": torch.tensor([-1] * 60 + [0] * 33 + [1] * 4 + [2] * 3),
    }
    return cases + [Case({"labels": edge, "k": 4, "least": 0.2}, label=label) for label, edge in edges.items()]


def _covered_with(count=lambda c, n, k, least: (c >= least * n / k).sum(), log=torch.log, lost=False):
    def covered(labels, k, least=0.1):
        counts = torch.bincount(labels[labels >= 0], minlength=k).double()
        shares = counts / (len(labels) if lost else counts.sum().clamp(min=1))
        seen = shares[shares > 0]
        return int(count(counts, len(labels), k, least)), (0.0 - (seen * log(seen)).sum()).item()

    return covered


quiz(
    "gan/covered",
    points=3,
    minutes=4,
    equation="8.6",
    title="How many modes, and how evenly?",
    reference=_covered,
    library=(metrics.classes_covered, metrics.class_entropy),
    cases=_label_lists,
    any_device=False,
    misconceptions=[
        Misconception(
            "every mode with a point",
            _covered_with(lambda c, n, k, least: (c > 0).sum()),
            "One stray point doesn't cover a mode: it needs at least `least` of its fair share, n/k.",
        ),
        Misconception(
            "a share of all",
            _covered_with(lambda c, n, k, least: (c >= least * n).sum()),
            "A *fair* share is n/k; a tenth of that is asked for, not a tenth of all points.",
        ),
        Misconception("in bits", _covered_with(log=torch.log2), "Entropy in nats: the natural logarithm."),
        Misconception(
            "lost points in the shares",
            _covered_with(lost=True),
            "(8.6) is of the histogram over modes: its shares add up to 1, lost points aside.",
        ),
        Misconception(
            "a fair share of those that are found",
            _covered_with(lambda c, n, k, least: (c >= least * c.sum() / k).sum()),
            "A fair share is of *all* points, lost ones too: whoever misses the ring covers less.",
        ),
        Misconception(
            "the fair share strictly exceeded",
            _covered_with(lambda c, n, k, least: (c > least * n / k).sum()),
            "*At least* the share: ≥.",
        ),
    ],
    hints=[
        "Count the points of each mode, lost ones (−1) left out. `torch.bincount(..., minlength=k)`.",
        "A fair share is `len(labels) / k`, lost points counted: whoever misses the ring covers less.",
        "p ln p is 0 for p = 0: leave empty modes out, or use `torch.special.xlogy`. If no point is near, H = 0.",
        "`int((counts >= least * len(labels) / k).sum())` and `-(p * p.log()).sum().item()` over the p above 0",
    ],
    passed="Two numbers that a loss curve can't give: how many, and how evenly. The largest H is ln k.",
    explanation="""
    Eight modes visited evenly give H = ln 8 = 2.08; one mode gives 0. e^H is a number of modes "as if even".
    """,
)


# -------------------------------------------------------------------------------------------------- 8.5 · what helps


def _r1(D, x):
    return adversarial.r1_penalty(D, x)


def _r1_images(rng: torch.Generator) -> list[Case]:
    cases = []
    for seed, (b, shape, dtype) in enumerate(
        ((4, (1, 5, 7), torch.float32), (1, (3, 4, 6), torch.float64), (3, (2, 6, 3), torch.float64))
    ):
        D = Fixture("gan/of-images", channels=shape[0], double=dtype == torch.float64, seed=seed)
        cases.append(Case({"D": D, "x": torch.randn(b, *shape, generator=rng, dtype=dtype)}, gradients=("D",)))
    return cases


def _r1_with(of_slope, graph=True):
    def r1(D, x):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(D(x).sum(), x, create_graph=graph)
        return of_slope(slope)

    return r1


def _squared_length(slope):
    return slope.square().flatten(1).sum(1).mean() / 2


def _r1_of_mean(D, x):
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(D(x).mean(), x, create_graph=True)
    return _squared_length(slope)


quiz(
    "gan/r1",
    points=3,
    minutes=4,
    equation="8.7",
    title="Not steep at the data",
    reference=_r1,
    library=(adversarial.r1_penalty,),
    cases=_r1_images,
    any_device=False,
    misconceptions=[
        Misconception(
            "without create_graph",
            _r1_with(_squared_length, graph=False),
            "The number is right, but nothing can be learned from it: the gradient was computed without a graph of its "
            "own. `create_graph=True`.",
        ),
        Misconception(
            "a mean over pixels",
            _r1_with(lambda s: s.square().mean() / 2),
            "|∇|² is the *sum* over all numbers of an image; the mean is over images.",
        ),
        Misconception(
            "the length, not its square",
            _r1_with(lambda s: s.flatten(1).norm(dim=1).mean() / 2),
            "R1 squares the length of the gradient.",
        ),
        Misconception("without the half", _r1_with(lambda s: 2 * _squared_length(s)), "(8.7) begins with ½."),
        Misconception(
            "towards length 1",
            _r1_with(lambda s: (s.flatten(1).norm(dim=1) - 1).square().mean() / 2),
            "That is WGAN-GP's penalty (Gulrajani et al. 2017). R1 wants the slope to be 0.",
        ),
        Misconception(
            "the gradient of the mean",
            _r1_of_mean,
            "D(x).mean() divides each image's gradient by b. Of the *sum*, each image keeps its own.",
        ),
    ],
    hints=[
        "A gradient with respect to x: x must ask for it. `x = x.detach().requires_grad_()`",
        "Each image's logit depends on that image alone, so the gradient of the sum holds every image's own.",
        "You will differentiate this gradient once more, by the weights: `create_graph=True`.",
        "`(slope,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)`; then "
        "`slope.square().flatten(1).sum(1).mean() / 2`",
    ],
    passed="A gradient inside a loss: autograd differentiates its own work. A flat discriminator at the data is one "
    "that stops pushing where nothing is wrong.",
    explanation="""
    At the end of the game D is ½ everywhere, so flat: R1 pulls towards that end from the start.
    """,
)


def _spectral(weight, u, rounds=1):
    with torch.no_grad():
        for _ in range(rounds):
            v = F.normalize(weight.T @ u, dim=0)
            u = F.normalize(weight @ v, dim=0)
    return weight / (u @ weight @ v), u


def _matrices(rng: torch.Generator) -> list[Case]:
    cases = []
    for out, into, rounds, dtype in (
        (5, 3, 1, torch.float64), (2, 7, 3, torch.float64), (4, 4, 30, torch.float64), (1, 6, 2, torch.float32),
    ):  # fmt: skip
        weight, u = torch.randn(out, into, generator=rng, dtype=dtype), torch.randn(out, generator=rng, dtype=dtype)
        cases.append(Case({"weight": weight, "u": F.normalize(u, dim=0), "rounds": rounds}, gradients=("weight",)))
    return cases


def _spectral_frobenius(weight, u, rounds=1):
    return weight / weight.norm(), _spectral(weight, u, rounds)[1]


def _spectral_constant_scale(weight, u, rounds=1):
    scaled, new = _spectral(weight, u, rounds)
    scale = (scaled / weight).detach()
    return weight * scale, new


def _spectral_differentiated(weight, u, rounds=1):
    for _ in range(rounds):
        v = F.normalize(weight.T @ u, dim=0)
        u = F.normalize(weight @ v, dim=0)
    return weight / (u @ weight @ v), u


def _spectral_stale(weight, u, rounds=1):
    return _spectral(weight, u, rounds)[0], u


def _spectral_one_round(weight, u, rounds=1):
    return _spectral(weight, u, 1)


quiz(
    "gan/spectral",
    points=4,
    minutes=8,
    equation="8.8",
    title="A layer that stretches by 1",
    reference=_spectral,
    cases=_matrices,
    misconceptions=[
        Misconception(
            "the Frobenius norm",
            _spectral_frobenius,
            "That is the root of the sum of all squares, at least as large as σ: layers would shrink more than asked.",
        ),
        Misconception(
            "σ as a constant",
            _spectral_constant_scale,
            "The number is right; its gradient isn't. Only u and v are constants: compute u·Wv *outside* of no_grad.",
        ),
        Misconception(
            "u is not handed on",
            _spectral_stale,
            "Return the *new* u: with one round a step, the estimate becomes exact over many steps.",
        ),
        Misconception(
            "a gradient through u and v",
            _spectral_differentiated,
            "The numbers are right. But the gradient runs through u and v too, which count as constants: "
            "`torch.no_grad()` around the rounds.",
        ),
        Misconception("one round only", _spectral_one_round, "`rounds` says how often v and u are renewed."),
    ],
    hints=[
        "σ is the largest stretch |Wv| of a unit vector v. Power iteration turns v towards it, and u = Wv/|Wv|.",
        "In each round: v from Wᵀu, then u from Wv, both to length 1 (`F.normalize(..., dim=0)`), without gradient.",
        "After the rounds σ = u·W v, this time with gradient.",
        "`return weight / (u @ weight @ v), u`",
    ],
    passed="The largest singular value for two products of matrix and vector a step, and no layer can shout any more.",
    explanation="""
    Miyato et al. (2018) make one round a training step, from the u of the step before: weights move slowly, so the
    estimate keeps up. `torch.nn.utils.parametrizations.spectral_norm` does that for a layer.
    """,
)


def _relativistic(D, x, fake):
    real, made = D(x), D(fake)
    return adversarial.relativistic_loss(real, made), adversarial.relativistic_loss(made, real)


def _relativistic_with(of):
    def relativistic(D, x, fake):
        return of(D(x), D(fake))

    return relativistic


def _soft(logit):
    return F.softplus(-logit).mean()


quiz(
    "gan/relativistic",
    points=2,
    minutes=5,
    equation="8.9",
    title="More real than the other",
    reference=_relativistic,
    library=(adversarial.relativistic_loss,),
    cases=_two_batches,
    any_device=False,
    misconceptions=[
        Misconception(
            "the players exchanged",
            _relativistic_with(lambda r, f: (_soft(f - r), _soft(r - f))),
            "The discriminator wants real *above* generated; you have it the other way round.",
        ),
        Misconception(
            "difference of the means",
            _relativistic_with(lambda r, f: (_soft(r.mean() - f.mean()), _soft(f.mean() - r.mean()))),
            "Softplus of each pair's difference, then the mean: E softplus, not softplus of E.",
        ),
        Misconception(
            "all pairs",
            _relativistic_with(lambda r, f: (_soft(r[:, None] - f), _soft(f[:, None] - r))),
            "Pair number i with number i; b pairs, not b².",
        ),
        Misconception(
            "no difference",
            _relativistic_with(lambda r, f: (_soft(r) + _soft(-f), _soft(f))),
            "That is the game of (8.2) and (8.3). Here only *differences* of logits count.",
        ),
        Misconception(
            "zero-sum",
            _relativistic_with(lambda r, f: (_soft(r - f), -_soft(r - f))),
            "The generator minimizes a loss of the same form, with the two exchanged.",
        ),
    ],
    hints=[
        "Two logits for each pair: D(x_i) and D(G(z_i)).",
        "The discriminator wants D(x_i) − D(G(z_i)) large; softplus(−difference) is small then.",
        "The generator gets the same with the difference turned over.",
        "`F.softplus(-(real - made)).mean(), F.softplus(-(made - real)).mean()`",
    ],
    passed="A level that both share no longer counts: only who looks more real than its neighbour.",
    explanation="""
    Jolicoeur-Martineau (2019). With R1, and the same at generated points (R2), it is the loss of a modern
    baseline, R3GAN (Huang et al. 2024).
    """,
)


def _smoothed(real, fake, s):
    return adversarial.discriminator_loss(real, fake, s)


def _smoothed_with(extra):
    """The loss without smoothing, and something added."""
    return lambda r, f, s: F.softplus(-r).mean() + F.softplus(f).mean() + extra(r, f, s)


def _smooth_logits(rng: torch.Generator) -> list[Case]:
    return [Case(case.args | {"s": s}, gradients=case.gradients) for case, s in zip(_logits(rng), (0.1, 0.3, 0.0, 0.2))]


quiz(
    "gan/smoothing",
    points=2,
    minutes=5,
    equation="8.10",
    title="Never quite sure",
    reference=_smoothed,
    library=(adversarial.discriminator_loss,),
    cases=_smooth_logits,
    misconceptions=[
        Misconception(
            "on both sides",
            _smoothed_with(lambda r, f, s: s * (r.mean() - f.mean())),
            "The label of *generated* points stays 0: one-sided.",
        ),
        Misconception("the wrong side", _smoothed_with(lambda r, f, s: -s * f.mean()), "Smooth the *real* labels."),
        Misconception(
            "a factor only",
            lambda r, f, s: (1 - s) * F.softplus(-r).mean() + F.softplus(f).mean(),
            "(1 − s) of the label says real and s of it says generated: the second term, s ln(1 − D), is missing.",
        ),
        Misconception("not at all", _smoothed_with(lambda r, f, s: 0 * s), "Your loss doesn't depend on s."),
    ],
    hints=[
        "Cross-entropy with a label of 1 − s: −(1 − s) ln D − s ln(1 − D), at real points.",
        "Both logarithms on the logit r: softplus(−r) and softplus(r).",
        "Only the real half changes.",
        "`((1 - s) * F.softplus(-real) + s * F.softplus(real)).mean() + F.softplus(fake).mean()`",
    ],
    passed="The best logit at a purely real place is now ln((1 − s)/s), 2.2 for s = 0.1: certainty has a ceiling.",
    explanation="""
    softplus(r) − softplus(−r) = r, so the real half is softplus(−r) + s·r as well. Salimans et al. (2016).
    """,
)

# ------------------------------------------------------------------------------------------------------ 8.6 · the rules


def _trace(model: nn.Module, given: torch.Tensor) -> dict | None:
    """What goes into and comes out of each layer with weights, in the order of the calls, and the result."""
    if not isinstance(model, nn.Module):
        return None
    model.to(given.dtype)
    seen, hooks = [], []

    def note(layer, came, out):
        weight = layer.weight
        seen.append({"kind": type(layer).__name__, "weight": tuple(weight.shape), "came": came[0], "out": out})

    for layer in model.modules():
        if isinstance(getattr(layer, "weight", None), torch.Tensor):
            hooks.append(layer.register_forward_hook(note))
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                layer.weight.normal_(0, 2 / layer.weight[0].numel() ** 0.5, generator=torch.Generator().manual_seed(3))
        result = model(given)
    for hook in hooks:
        hook.remove()
    return {"layers": seen, "result": result}


def _try_generator(answer, shape, latent, widths, z):
    model = answer(tuple(shape), latent, tuple(widths))
    return None if model is None else _trace(model, z)


def _try_discriminator(answer, shape, widths, x):
    model = answer(tuple(shape), tuple(widths))
    return None if model is None else _trace(model, x)


def _what_is_done(before: np.ndarray, after: np.ndarray) -> str:
    """The function of each number that leads from one array to the other, by name."""
    if before.size != after.size:
        return "something that changes how many numbers there are"
    o, i = before.reshape(-1), after.reshape(-1)
    named = {
        "nothing": o,
        "ReLU": np.maximum(o, 0),
        "LeakyReLU of slope 0.2": np.where(o < 0, 0.2 * o, o),
        "tanh": np.tanh(o),
        "a cut at 0 and at 0.2": np.clip(o, 0, 0.2),
        "a sigmoid": 1 / (1 + np.exp(-o)),
        "LeakyReLU of another slope": np.where(o < 0, 0.01 * o, o),
    }
    for words, expected in named.items():
        if np.abs(expected - i).max() <= 1e-4 * (1 + np.abs(o).max()):
            return words
    return "something else"


def _about_network(raw, case: Case) -> dict:
    """What can be said of a network of layers in a row: which layers, how large, and what happens between them."""
    good = type(raw) is dict and set(raw) == {"layers", "result"} and isinstance(raw["result"], Array)
    if not good or not raw["layers"]:
        raise Unfit("expected a network (an nn.Module) that gives one tensor, got something else")
    layers, result = raw["layers"], raw["result"]
    if not all(isinstance(each["came"], Array) and isinstance(each["out"], Array) for each in layers):
        raise Unfit("expected layers that take a tensor and give one")
    facts = {
        "the layers with weights, in order": ", ".join(each["kind"] for each in layers),
        "the shapes of their weights": " ".join(str(each["weight"]) for each in layers),
        "the shapes of what they give": " ".join(str(each["out"].shape) for each in layers),
    }
    facts["what is done between them"] = ", ".join(
        f"{one['kind']} → {_what_is_done(one['out'].data, other['came'].data)} → {other['kind']}"
        for one, other in zip(layers, layers[1:])
    )
    facts["at the end"] = _what_is_done(layers[-1]["out"].data, result.data)
    facts["the shape of the result"] = str(result.shape)
    facts["the type of the result"] = result.dtype
    return facts


SHAPES = (  # of images, numbers in a code, widths, how many, dtype; none is square
    ((1, 8, 12), 2, (4, 6), 5, torch.float32),
    ((3, 12, 8), 100, (5, 3), 3, torch.float32),
    ((1, 4, 20), 7, (3, 8), 4, torch.float64),
)


def _codes(rng: torch.Generator) -> list[Case]:
    return [
        Case({"shape": shape, "latent": d, "widths": widths, "z": torch.randn(b, d, generator=rng, dtype=dtype)})
        for shape, d, widths, b, dtype in SHAPES
    ]


def _pictures(rng: torch.Generator) -> list[Case]:
    return [
        Case({"shape": shape, "widths": widths, "x": torch.randn(b, *shape, generator=rng, dtype=dtype).tanh()})
        for shape, _, widths, b, dtype in SHAPES
    ]


def _wrong_generator(norm=True, act=nn.ReLU, last=nn.Tanh, last_norm=False, turned=False):
    class Generator(nn.Module):
        def __init__(self, shape, latent, widths=(32, 64)):
            super().__init__()
            (c, h, w), (fine, small) = shape, widths
            h, w = (w // 4, h // 4) if turned else (h // 4, w // 4)
            self.layers = nn.Sequential(
                nn.Linear(latent, small * h * w),
                nn.Unflatten(1, (small, h, w)),
                *([nn.BatchNorm2d(small)] if norm else []),
                act(),
                nn.ConvTranspose2d(small, fine, 4, stride=2, padding=1),
                *([nn.BatchNorm2d(fine)] if norm else []),
                act(),
                nn.ConvTranspose2d(fine, c, 4, stride=2, padding=1),
                *([nn.BatchNorm2d(c)] if last_norm else []),
                last(),
            )

        def forward(self, z):
            return self.layers(z)

    return Generator


quiz(
    "gan/generator",
    points=4,
    minutes=7,
    title="A generator by the rules",
    reference=dcgan.Generator,
    cases=_codes,
    probe=_try_generator,
    measured=_about_network,
    any_device=False,
    misconceptions=[
        Misconception(
            "no BatchNorm", _wrong_generator(norm=False), "Each layer but the last needs BatchNorm after it."
        ),
        Misconception(
            "no tanh",
            _wrong_generator(last=nn.Identity),
            "Your images are any numbers. Real ones lie in [−1, 1], so a discriminator would tell by the range alone.",
        ),
        Misconception(
            "a sigmoid at the end",
            _wrong_generator(last=nn.Sigmoid),
            "A sigmoid gives [0, 1]; the course's images lie in [−1, 1], where tanh ends.",
        ),
        Misconception(
            "BatchNorm on the images",
            _wrong_generator(last_norm=True),
            "No BatchNorm before the output: it would give every batch of images the same mean and contrast.",
        ),
        Misconception(
            "LeakyReLU",
            _wrong_generator(act=lambda: nn.LeakyReLU(0.2)),
            "DCGAN has ReLU in the generator; LeakyReLU is the discriminator's.",
        ),
        Misconception(
            "height and width exchanged",
            _wrong_generator(turned=True),
            "(c, h, w): the first map has h/4 rows and w/4 columns. On square images nobody notices.",
        ),
    ],
    hints=[
        "Three layers with weights: one dense, two transposed convolutions. What stands after each of them?",
        "`nn.Sequential` holds all of it. `nn.Linear(latent, small * (h // 4) * (w // 4))` makes the numbers of the "
        "smallest map, `nn.Unflatten(1, (small, h // 4, w // 4))` gives them their places.",
        "`nn.ConvTranspose2d(small, fine, 4, stride=2, padding=1)` doubles height and width. The last one makes c "
        "channels.",
        "After the dense layer and the first transposed convolution: `nn.BatchNorm2d(channels), nn.ReLU()`; after the "
        "last one `nn.Tanh()` alone.",
    ],
    passed="Your generator is an encoder turned round. What is special is where it does not normalise: at its output, "
    "so that images may differ in brightness.",
    explanation="""
    A bias right before BatchNorm does nothing, for BatchNorm takes the mean away; `bias=False` saves it. Any kernel
    that is a multiple of the stride covers all pixels alike, so 4 and 2 don't favour a checkerboard (notebook 04);
    the filters can still learn one.
    """,
)


def _wrong_discriminator(norm=True, act=lambda: nn.LeakyReLU(0.2), first_norm=False, last=nn.Identity):
    class Discriminator(nn.Module):
        def __init__(self, shape, widths=(32, 64)):
            super().__init__()
            (c, h, w), (fine, small) = shape, widths
            self.layers = nn.Sequential(
                nn.Conv2d(c, fine, 4, stride=2, padding=1),
                *([nn.BatchNorm2d(fine)] if first_norm else []),
                act(),
                nn.Conv2d(fine, small, 4, stride=2, padding=1),
                *([nn.BatchNorm2d(small)] if norm else []),
                act(),
                nn.Flatten(),
                nn.Linear(small * (h // 4) * (w // 4), 1),
                last(),
            )

        def forward(self, x):
            return self.layers(x).squeeze(1)

    return Discriminator


DISCRIMINATOR_SLIPS = [
    Misconception(
        "no BatchNorm",
        _wrong_discriminator(norm=False),
        "The second convolution is followed by BatchNorm. (A discriminator without any is possible, and R1 wants one; "
        "DCGAN's has it.)",
    ),
    Misconception(
        "BatchNorm in the first layer",
        _wrong_discriminator(first_norm=True),
        "Not after the first convolution: the brightness of a batch is something that it should be able to see.",
    ),
    Misconception(
        "ReLU",
        _wrong_discriminator(act=nn.ReLU),
        "With ReLU a negative number passes nothing on, and the generator gets no gradient through it. The slope below "
        "0 is 0.2.",
    ),
    Misconception(
        "a slope of 0.01",
        _wrong_discriminator(act=nn.LeakyReLU),
        "`nn.LeakyReLU()` has a slope of 0.01; DCGAN's is 0.2, `nn.LeakyReLU(0.2)`.",
    ),
    Misconception(
        "a probability at the end",
        _wrong_discriminator(last=nn.Sigmoid),
        "Your network ends in a sigmoid. The losses of 8.1 are written on *logits*, and take any number.",
    ),
    Misconception(
        "cut off at 0.2",
        _wrong_discriminator(act=lambda: nn.Hardtanh(0.0, 0.2)),
        "The numbers between your layers lie between 0 and 0.2. A *slope* of 0.2 for negative numbers was meant.",
    ),
]

quiz(
    "gan/discriminator",
    points=4,
    minutes=5,
    title="A discriminator by the rules",
    reference=dcgan.Discriminator,
    cases=_pictures,
    probe=_try_discriminator,
    measured=_about_network,
    any_device=False,
    misconceptions=DISCRIMINATOR_SLIPS,
    hints=[
        "The generator's way back: two convolutions, each of which halves height and width, and a dense layer.",
        "`nn.Conv2d(c, fine, 4, stride=2, padding=1)` halves. After it `nn.LeakyReLU(0.2)`, with no BatchNorm.",
        "After the second convolution `nn.BatchNorm2d(small)`, then `nn.LeakyReLU(0.2)` again, then `nn.Flatten()`.",
        "`nn.Linear(small * (h // 4) * (w // 4), 1)` gives (b, 1); `.squeeze(1)` makes (b,) of it.",
    ],
    passed="One number for an image, and it may be any: whoever judges by logits never runs into ln 0.",
    explanation="""
    `nn.Conv2d` and `nn.BatchNorm2d` in this order; the normalisation sees numbers before they are bent.
    """,
)

quiz(
    "gan/somebody-elses-discriminator",
    points=3,
    minutes=5,
    title="Bug hunt: somebody else's discriminator",
    bug_hunt=True,
    reference=dcgan.Discriminator,
    answered_by=("gan/discriminator",),
    cases=_pictures,
    probe=_try_discriminator,
    measured=_about_network,
    any_device=False,
    misconceptions=[
        *DISCRIMINATOR_SLIPS[:-1],
        Misconception(
            "as it was handed out",
            DISCRIMINATOR_SLIPS[-1].wrong,
            "All layers with weights are right. What happens to a number *between* them, if it is −1, and if it is 1?",
        ),
    ],
    hints=[
        "What values can the numbers between two layers take? Print the smallest and the largest.",
        "All convolutions are as in yours. Is everything else?",
        "Look up what `nn.Hardtanh(low, high)` does to 0.3, to 3 and to −3.",
        "`self.leaky = nn.LeakyReLU(0.2)`",
    ],
    passed="A name, `leaky`, said what was meant, and nobody looked at what it did. Plot a function that you didn't "
    "write yourself, once.",
    explanation="""
    `Hardtanh(0, 0.2)` is 0 below 0 and 0.2 above 0.2: outside of a narrow strip its slope is 0, on both sides. In a
    well-known tutorial it stands as "ReLU with max_value=0.2", where a slope of 0.2 was meant.
    """,
)

concept(
    "gan/what-a-cap-does",
    title="What does it do to the generator?",
    question="""
    Her discriminator cuts its numbers off at 0 and 0.2. What does that change for the *generator*?
    """,
    options={
        "a": Option(
            "Nothing much, since the generator's own layers are those that DCGAN asks for.",
            "The generator's layers are fine, but all that it learns has passed backwards through *her* layers.",
        ),
        "b": Option(
            "It learns from fewer places: where a number is cut off, no gradient comes back.",
            "Right. In a cut-off unit the slope is 0, so whatever the image did there goes unheard. The judge's own "
            "filters learn less from it as well.",
            right=True,
        ),
        "c": Option(
            "It is pushed into a range of 0 to 0.2, so that its images turn out too dark.",
            "The cut is inside the judge. Images end in tanh as before, in [−1, 1].",
        ),
        "d": Option(
            "It wins quickly, since a judge that is cut off gives a probability of one half.",
            "The last layer weighs thousands of numbers up to 0.2, so its logit may still be large.",
        ),
    },
)


# ---------------------------------------------------------------------------------------------- 8.6 · the first weights


@fixture("gan/layers")
def _layers(seed: int = 0) -> nn.Module:
    return nn.Sequential(
        nn.Linear(60, 900), nn.ConvTranspose2d(60, 60, 4), nn.BatchNorm2d(3000), nn.Conv2d(60, 60, 4), nn.ReLU()
    )


def _try_first_weights(answer, network, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3)
    before = [weight.clone() for weight in network.parameters()]
    network.apply(answer)
    if all(map(torch.equal, before, network.parameters())):
        return None
    return {name: weight.detach() for name, weight in network.named_parameters()}


def _near(found: float, expected: float, slack: float) -> str:
    return f"{expected:g}" if abs(found - expected) <= slack else f"{found:.2g}"


def _about_weights(raw, case: Case) -> dict:
    if type(raw) is not dict or not raw or not all(isinstance(each, Array) for each in raw.values()):
        raise Unfit("expected a function of one layer, for network.apply(first_weights)")
    facts, kinds = {}, {0: "Linear", 1: "ConvTranspose2d", 2: "BatchNorm2d", 3: "Conv2d"}
    for name, weight in raw.items():
        place, part = name.split(".")
        words, mean = f"{kinds[int(place)]}, {part}", float(place == "2" and part == "weight")
        facts[f"{words}: mean"] = _near(weight.data.mean(), mean, 0.003)
        facts[f"{words}: standard deviation"] = _near(weight.data.std(), 0.02 * (part == "weight"), 0.0025)
        if part == "weight":
            beyond = (np.abs(weight.data - mean) > 0.045).any()
            facts[f"{words}: some beyond two standard deviations"] = bool(beyond)
    return facts


def _first(conv=0.02, norm=0.02, scale=1.0, kinds=(nn.Conv2d, nn.ConvTranspose2d, nn.Linear), biases=True):
    @torch.no_grad()
    def first_weights(module):
        if isinstance(module, tuple(kinds)):
            module.weight.normal_(0.0, conv)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.normal_(scale, norm)
        else:
            return
        if biases and module.bias is not None:
            module.bias.zero_()

    return first_weights


quiz(
    "gan/first-weights",
    points=2,
    minutes=3,
    title="The first weights",
    reference=dcgan.first_weights,
    cases=lambda rng: [
        Case({"network": Fixture("gan/layers", seed=k), "seed": int(torch.randint(1000, (), generator=rng))})
        for k in (0, 1)
    ],
    probe=_try_first_weights,
    measured=_about_weights,
    any_device=False,
    misconceptions=[
        Misconception(
            "0.02 as a variance",
            _first(conv=0.02**0.5, norm=0.02**0.5),
            "N(0, 0.02²): 0.02 is the standard deviation, which is what `normal_` is told.",
        ),
        Misconception(
            "BatchNorm around 0",
            _first(scale=0.0),
            "A BatchNorm whose scales are near 0 silences what it gets. Its scales begin near 1.",
        ),
        Misconception("biases left", _first(biases=False), "Biases begin at 0, of BatchNorm too: `bias.zero_()`."),
        Misconception(
            "convolutions only",
            _first(kinds=(nn.Conv2d,)),
            "Transposed convolutions and dense layers have filters, too. `isinstance` takes a tuple of classes.",
        ),
    ],
    hints=[
        "`network.apply(f)` calls f once for each part of the network. Which parts have weights?",
        "Two kinds: layers with filters (three classes), and BatchNorm. `isinstance(module, (nn.Conv2d, ...))`.",
        "`nn.init.normal_(module.weight, mean, std)` draws in place; `nn.init.zeros_(module.bias)` sets to 0.",
        "A bias may be missing: `if module.bias is not None:`",
    ],
    passed="Small weights make a judge that is unsure at first, D near ½ everywhere. A game between two players is "
    "best begun even.",
    explanation="`apply` walks through all modules, the network itself included, so other kinds must pass untouched.",
)


# --------------------------------------------------------------------------------------------------- 8.7 · the training

concept(
    "gan/two-losses",
    title="Two generators, two losses",
    equation="8.3",
    question="""
    Two generators were trained by the same rules, each against a discriminator of its own. At the end the loss
    $-\\mathbb E\\ln D(G(z))$ of the first is 0.8 nats, that of the second 1.7. Which one draws the better images?
    """,
    options={
        "a": Option(
            "The first, since its images are found out less often than those of the second.",
            "By *its own* judge, which may be a poor one. Whoever plays against a beginner wins, too.",
        ),
        "b": Option(
            "The second, since only a judge that is strong can bring a loss up that high.",
            "A strong judge could; poor images could as well. One number has two causes here.",
        ),
        "c": Option(
            "Neither, since both losses approach the same value once the game has ended.",
            "An ideal game ends at ln 2 ≈ 0.69. Neither of these has, and the question is how far each came.",
        ),
        "d": Option(
            "It can't be told, since each loss was measured against another opponent.",
            "Right. In two runs of 300 steps that were made for this question, the lower loss (without BatchNorm in "
            "the judge) went with the *larger* distance to the data, 89 against 81. Another pair may go the other way.",
            right=True,
        ),
    },
)


def _watched_with(own_codes=False, keep_eval=False, in_train=False, late=0, anew=True):
    def watched(generator, discriminator, game, batches, optimizers, codes, every, chance):
        losses, strips, kept = [], {}, None
        for step, x in enumerate(batches, start=1):
            if kept is None or anew or len(kept) < len(x):
                kept = torch.randn(len(x), codes.shape[1], generator=chance, device=x.device)
            losses.append(_gan_step(generator, discriminator, game, x, kept[: len(x)], *optimizers))
            if (step - late) % every == 0:
                if not in_train:
                    generator.eval()
                seen = torch.randn(codes.shape, generator=chance) if own_codes else codes
                with torch.no_grad():
                    strips[step] = generator(seen)
                if not keep_eval:
                    generator.train()
        return losses, strips

    return watched


def _watched(generator, discriminator, game, batches, optimizers, codes, every, chance):
    return _watched_with()(generator, discriminator, game, batches, optimizers, codes, every, chance)


@fixture("gan/small-generator")
def _small_generator(seed: int = 0):
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8, momentum=None), nn.ReLU(), nn.Linear(8, 2))


@fixture("gan/small-discriminator")
def _small_discriminator(seed: int = 0):
    return nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1), nn.Flatten(0))


def _try_watched(answer, generator, discriminator, game, batches, optimizers, codes, every, chance):
    """game: the name of one of the library's;  optimizers: the learning rates of both players."""
    players, game = (discriminator, generator), getattr(adversarial, game)
    steps = tuple(torch.optim.SGD(player.parameters(), lr) for player, lr in zip(players, optimizers))
    found = answer(generator, discriminator, game, iter(batches), steps, codes, every, chance)
    if found is None:
        return None
    weights = [weight.detach() for weight in generator.parameters()]
    return {"given": found, "training": generator.training, "weights": weights}


def _about_watched(raw, case: Case):
    """The pieces by name, so that a message says which one differs."""
    good = type(raw) is dict and type(raw.get("given")) is tuple and len(raw["given"]) == 2
    if not good:
        raise Unfit("expected two things, losses and strips, got something else")
    losses, strips = raw["given"]
    pairs = type(losses) is list and all(type(pair) is tuple and len(pair) == 2 for pair in losses)
    if not pairs or not all(type(value) is float for pair in losses for value in pair) or type(strips) is not dict:
        raise Unfit("expected a list of pairs of floats and a dict step -> images, got something else")
    return {
        "how many steps": len(losses),
        "the generator's mode afterwards": "training" if raw["training"] else "eval",
        "losses": [value for pair in losses for value in pair],
        "steps with a strip": list(strips),
        "strips": list(strips.values()),
        "the generator's weights": raw["weights"],
    }


def _games(rng: torch.Generator) -> list[Case]:
    cases = []
    for seed, (sizes, every) in enumerate((((6, 6, 6, 6, 6), 2), ((4, 7, 3), 1), ((5,) * 7, 3))):
        args = {
            "generator": Fixture("gan/small-generator", seed=seed),
            "discriminator": Fixture("gan/small-discriminator", seed=seed + 1),
            "game": "NON_SATURATING" if seed != 1 else "RELATIVISTIC",
            "batches": [torch.randn(b, 2, generator=rng) for b in sizes],
            "optimizers": (0.1, 0.3),
            "codes": torch.randn(4, 3, generator=rng),
            "every": every,
            "chance": Fixture("generator", seed=seed + 5),
        }
        cases.append(Case(args, label=f"{len(sizes)} batches, a strip every {every}"))
    return cases


quiz(
    "gan/watched",
    points=4,
    minutes=6,
    title="A game that is watched",
    reference=_watched,
    library=(adversarial.train_gan,),
    cases=_games,
    probe=_try_watched,
    measured=_about_watched,
    any_device=False,
    misconceptions=[
        Misconception(
            "left in eval mode",
            _watched_with(keep_eval=True),
            "After the first strip your generator trains in eval mode, where BatchNorm no longer looks at the batch. "
            "Put it back: `generator.train()`.",
        ),
        Misconception(
            "strips in training mode",
            _watched_with(in_train=True),
            "Your strips are drawn in training mode: each image depends on its neighbours, and looking changes "
            "BatchNorm's averages.",
        ),
        Misconception(
            "other codes each time",
            _watched_with(own_codes=True),
            "Draw the strips from `codes`, the same each time: then you see one image change, not other images.",
        ),
        Misconception(
            "one batch of codes for all",
            _watched_with(anew=False),
            "The generator must be asked with fresh codes at every step, or it learns these by heart.",
        ),
        Misconception(
            "one step late", _watched_with(late=1), "The first strip belongs after `every` steps, not one later."
        ),
    ],
    hints=[
        "A loop over batches, counted from 1. What happens in each step, and what only in some?",
        "`z = torch.randn(len(x), codes.shape[1], generator=chance, device=x.device)`, then your `gan_step`, whose "
        "pair goes into the list.",
        "`if step % every == 0:` comes the strip: eval mode, no gradients, `generator(codes)`, and training mode "
        "again.",
        "`for step, x in enumerate(batches, start=1):` and `strips[step] = generator(codes)`",
    ],
    passed="Same codes, eval mode, and back to training: what you watch must not change what is watched.",
    explanation="""
    In training mode BatchNorm takes mean and variance from the batch at hand, and every look moves its running
    averages. `eval()` uses those averages; `train()` afterwards is what most loops forget.
    """,
)

concept(
    "gan/without-norm",
    title="Left out",
    question="""
    A published tutorial leaves BatchNorm out of the discriminator alone. Which way would *you* find out whether that
    matters for the images?
    """,
    options={
        "a": Option(
            "Compare the discriminators' losses: the better judge has the lower one.",
            "They play against different generators. A low loss may mean a good judge, or a poor forger.",
        ),
        "b": Option(
            "Train both from several seeds, and compare a distance of samples to data.",
            "Right, with the spread over seeds beside it. A rule is worth keeping if it shows there; with R1 the norm "
            "is left out on purpose.",
            right=True,
        ),
        "c": Option(
            "Train both once from one seed, so that the norm is the only difference.",
            "One seed says what happened once. Two runs of one and the same network differ as well, and by how much "
            "you don't know yet.",
        ),
        "d": Option(
            "Count the weights: the network with the norm has a few more to learn with.",
            "128 numbers more of tens of thousands. What the norm changes is how the others learn.",
        ),
    },
)


# ----------------------------------------------------------------------------------------------- 8.8 · the latent space


def _mix(corners, u, v):
    weights = torch.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], dim=-1)
    return weights @ corners / weights.square().sum(-1, keepdim=True).sqrt()


def _mixing(weigh):
    def mix(corners, u, v):
        weights = torch.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], dim=-1)
        return weigh(weights, corners)

    return mix


def _corners(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, d, dtype in ((5, 100, torch.float32), (1, 2, torch.float64), (7, 9, torch.float32)):
        u, v = torch.rand(2, n, generator=rng, dtype=dtype)
        if n > 1:
            u[0], v[0], u[1], v[1] = 0, 1, 0.5, 0.5
        cases.append(Case({"corners": torch.randn(4, d, generator=rng, dtype=dtype), "u": u, "v": v}))
    return cases


quiz(
    "gan/mix",
    points=2,
    minutes=4,
    title="Between four codes",
    reference=_mix,
    cases=_corners,
    misconceptions=[
        Misconception(
            "a plain mean",
            _mixing(lambda weights, corners: weights @ corners),
            "Your weights add up to 1, so the codes in the middle are too short. Divide by the root of the sum of "
            "their squares.",
        ),
        Misconception(
            "always of one length",
            _mixing(lambda weights, corners: F.normalize(weights @ corners, dim=-1) * corners.shape[1] ** 0.5),
            "You set every code to the length √d. Real codes differ a little in length, and a corner must be the "
            "corner.",
        ),
        Misconception("u and v exchanged", lambda corners, u, v: _mix(corners, v, u), "u leads from corner 0 to 1."),
        Misconception(
            "without the root",
            _mixing(lambda weights, corners: weights @ corners / weights.square().sum(-1, keepdim=True)),
            "Variances add up to Σ w². What has that variance must be divided by its *root*.",
        ),
    ],
    hints=[
        "Four weights that add up to 1: at a corner one of them is 1 and the others are 0.",
        "(1 − u)(1 − v), u(1 − v), (1 − u)v and u v. `torch.stack([...], dim=-1)` makes (n, 4) of them.",
        "A sum Σ w_k z_k of independent N(0, 1) has the variance Σ w_k². Divide by its root.",
        "`weights @ corners / weights.square().sum(-1, keepdim=True).sqrt()`",
    ],
    passed="Every mix of your four codes is again distributed like a code. You can walk anywhere and stay where the "
    "generator was trained.",
    explanation="At a corner one weight is 1, Σ w² = 1, and the corner itself comes out. In the middle Σ w² = 1/4.",
)


# ------------------------------------------------------------------------------------------ 8.9 · is everything there?

concept(
    "gan/which-number",
    title="What gives it away?",
    equation="8.6",
    question="""
    A generator has collapsed to a few garments, each of which looks real. Which of these is the surest to tell?
    """,
    options={
        "a": Option(
            "The entropy of the classes that a judge sees in a thousand samples.",
            "Right. If all ten were equally frequent it would be ln 10 ≈ 2.30 nats; one class alone gives 0.",
            right=True,
        ),
        "b": Option(
            "The discriminator's loss, which grows as soon as images are repeated.",
            "A discriminator that sees one image at a time can't see that it is repeated.",
        ),
        "c": Option(
            "The generator's loss, which can't be low while much of the data is missing.",
            "It asks whether *its* images are found out. What it never draws does not enter.",
        ),
        "d": Option(
            "How sure a judge is of each sample, on average over the thousand of them.",
            "A few perfect garments make a judge very sure. That is fidelity, not variety.",
        ),
    },
)


def _nearest(images, data):
    found = metrics.nearest(images, data)
    return found.distances[:, 0].to(images.dtype) / images[0].numel() ** 0.5, found.indices[:, 0]


def _neighbours(of):
    def nearest(images, data):
        gaps = images[:, None] - data[None]
        return of(gaps.flatten(2)).min(dim=1)

    return lambda images, data: tuple(nearest(images, data))


def _heaps(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, n, shape, dtype in (
        (3, 20, (1, 4, 6), torch.float32),
        (1, 7, (3, 2, 5), torch.float64),
        (5, 4, (1, 3, 8), torch.float64),
    ):
        images = torch.rand(b, *shape, generator=rng, dtype=dtype) * 2 - 1
        cases.append(Case({"images": images, "data": torch.rand(n, *shape, generator=rng, dtype=dtype) * 2 - 1}))
    return cases


quiz(
    "gan/nearest",
    points=2,
    minutes=4,
    title="The nearest training image",
    reference=_nearest,
    library=(metrics.nearest,),
    cases=_heaps,
    misconceptions=[
        Misconception(
            "not for each pixel",
            lambda images, data: tuple(torch.cdist(images.flatten(1), data.flatten(1)).min(dim=1)),
            "Your distance is that of whole images. Root *mean* square: divide by the root of the number of pixels.",
        ),
        Misconception(
            "squared", _neighbours(lambda gaps: gaps.square().mean(-1)), "The root is missing: you give its square."
        ),
        Misconception(
            "absolute differences",
            _neighbours(lambda gaps: gaps.abs().mean(-1)),
            "You take the mean of absolute differences; asked for is the root of the mean square.",
        ),
        Misconception(
            "the farthest",
            lambda images, data: (lambda found: (found[0] / images[0].numel() ** 0.5, found[1]))(
                torch.cdist(images.flatten(1), data.flatten(1)).max(dim=1)
            ),
            "The *nearest* one has the smallest distance: `.min(dim=1)`.",
        ),
    ],
    hints=[
        "All distances between two sets of vectors are one call. What makes vectors of images?",
        "`torch.cdist(images.flatten(1), data.flatten(1))` is (b, n), each the root of a *sum* of squares.",
        "`.min(dim=1)` gives smallest values and where they are. From a sum to a mean: divide by the number of pixels, "
        "under the root.",
        "`distance / images[0].numel() ** 0.5, index`",
    ],
    passed="A generator that copies would be caught by a look. One that copies and shifts by a pixel would not: "
    "notebook 09 measures with features.",
    explanation="`min(dim=1)` returns values and indices; the indices pick the images to look at.",
)


def _album(generator, codes, size):
    return _album_of(generator, codes, size, lambda parts: torch.cat(parts))


def _album_of(generator, codes, size, join):
    with torch.no_grad():
        return join([generator(part).clamp(-1, 1) for part in codes.split(size)])


def _albums(rng: torch.Generator) -> list[Case]:
    return [
        Case(
            {
                "generator": Fixture("gan/drawing", channels=c, seed=seed),
                "codes": torch.randn(n, 3, generator=rng),
                "size": size,
            }
        )
        for seed, (n, size, c) in enumerate(((7, 3, 1), (4, 4, 3), (5, 1, 1), (6, 4, 2)))
    ]


@fixture("gan/drawing")
def _drawing(channels: int = 1, seed: int = 0) -> nn.Module:
    return nn.Sequential(nn.Linear(3, channels * 10), nn.Unflatten(1, (channels, 2, 5)))


quiz(
    "gan/somebody-elses-album",
    points=2,
    minutes=4,
    title="Bug hunt: somebody else's album",
    bug_hunt=True,
    reference=_album,
    cases=_albums,
    misconceptions=[
        Misconception(
            "as it was handed out",
            lambda generator, codes, size: _album_of(generator, codes, size, lambda parts: parts[-1]),
            "How many images come back, and how many codes went in? Follow the name in the last line.",
        ),
        Misconception(
            "the first batch",
            lambda generator, codes, size: _album_of(generator, codes, size, lambda parts: parts[0]),
            "You return the first batch only.",
        ),
        Misconception(
            "a list",
            lambda generator, codes, size: _album_of(generator, codes, size, lambda parts: parts),
            "You return a list of batches; one tensor (n, c, h, w) is asked for: `torch.cat`.",
        ),
    ],
    hints=[
        "Which classes are missing changes with the size of a batch. What else changes? Print `.shape`.",
        "Two names look alike. What does each of them hold after the loop?",
        "The list holds all batches. `torch.cat` makes one tensor of it.",
        "`return torch.cat(generated)`",
    ],
    passed="One letter, and no error: the other name existed as well. A number that depends on the batch size is a bug "
    "until proven otherwise.",
    explanation="""
    `generate` is the last batch. In a published tutorial the same slip returned a *function* of that name from further
    up in the notebook.
    """,
)

concept(
    "gan/what-an-album-hides",
    title="Which verdict was safe?",
    equation="8.6",
    question="""
    Four verdicts of his rest on albums of a thousand codes, made before the fix. Which one may stand?
    """,
    options={
        "a": Option(
            "The entropy at batches of 16, as a mean over fifty albums with other seeds.",
            "Each of the fifty is the entropy of eight images, at most ln 8. A mean of numbers that are all too low is "
            "too low.",
        ),
        "b": Option(
            "The number of classes covered at batches of 1,000, counted only once.",
            "Right. One batch holds them all, so the last batch is the album. A bug can sleep for as long as nobody "
            "changes a setting.",
            right=True,
        ),
        "c": Option(
            "Which of two generators covers more classes, both at batches of 16.",
            "The fault is the same for both, and it drowns the difference: of eight images nobody shows more than "
            "eight classes.",
        ),
        "d": Option(
            "The Fréchet distance at batches of 16, since that needs no counting.",
            "It needs a covariance of 64 features, here estimated from eight images.",
        ),
    },
)
