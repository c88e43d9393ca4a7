"""The quizzes of notebook 08, "GAN"."""

import copy
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import adversarial
from course_utils.training import until_stopped

from ..quizzes.declarations import Case, Fixture, Misconception, Option, concept, fixture, quiz

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
            "Then it would be surely wrong about each generated point, and $\\ln(1-D)$ would be $-\\infty$. Half of "
            "what it is shown is generated.",
        ),
        "b": Option(
            "0 at generated points and 1 at real ones, as it was taught all along.",
            "It sees a point, not its origin. The two kinds lie in the same places now.",
        ),
        "c": Option(
            "½ everywhere: at each place both kinds of points are equally frequent.",
            "Right. That isn't ignorance of a bad discriminator but the best answer there is, and $V=2\\ln\\tfrac12$.",
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
    equation="8.3",
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
            "(8.3) is the sum of both means, 2 ln 2 where nothing is known. (Many programs halve it; we don't.)",
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
    equation="8.4",
    title="Two losses for the generator",
    reference=_g_losses,
    library=(adversarial.non_saturating_loss, adversarial.saturating_loss),
    cases=_of("fake", _logits),
    misconceptions=[
        Misconception(
            "exchanged",
            lambda fake: _g_losses(fake)[::-1],
            "(8.4) first: the non-saturating loss is the one with ln D.",
        ),
        Misconception(
            "the discriminator's sign",
            lambda fake: (_g_losses(fake)[0], -_g_losses(fake)[1]),
            "Minimizing −ln(1 − D) makes generated points *less* like real ones: that is the discriminator's half. "
            "(8.5) is at most 0.",
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
        "Two means, of ln D and of ln(1 − D), with D = sigmoid(logit), and the signs of (8.4) and (8.5).",
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
    equation="8.5",
    question="""
    Early in training $D$ is sure: at generated points its logit is near $-10$. Which gradient does the generator get,
    per logit, from the losses (8.4) and (8.5)?
    """,
    options={
        "a": Option(
            "About $-1$ from (8.4), about $-0.00005$ from (8.5).",
            "Right: $D-1$ against $-D$. (8.5) is flat just where the generator has the most to learn.",
            right=True,
        ),
        "b": Option(
            "About $-0.00005$ from (8.4), about $-1$ from (8.5).",
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


def _optimal(log_p, log_q):
    return torch.sigmoid(log_p - log_q)


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
    equation="8.2",
    title="The best discriminator there is",
    reference=_optimal,
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
            "(8.2) holds for densities; you were given their logarithms.",
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
    found = []
    for k in range(4):
        losses = answer(G, D, game, x + 0.1 * k, z - 0.2 * k, *optimizers)
        if losses is None:
            return None
        found.append({"losses": losses, "of D": _weights(D), "of G": _weights(G)})
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


def _step_accumulating(G, D, game, x, z, d_optimizer, g_optimizer):
    d_loss = game.discriminator(D, x, G(z).detach())
    d_loss.backward()
    d_optimizer.step()
    g_loss = game.generator(D, x, G(z))
    g_loss.backward()
    g_optimizer.step()
    return d_loss.item(), g_loss.item()


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
            _step_accumulating,
            "`.backward()` adds. The generator's backward runs through D as well and leaves a gradient there: clear "
            "each player's own before its backward.",
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
        "Two ordinary training steps, one after the other. What may the first not touch?",
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


def _play(G, D, game, sample, steps, latent, betas, generator, keep=100):
    d_optimizer, g_optimizer = (torch.optim.Adam(net.parameters(), lr=1e-3, betas=betas) for net in (D, G))
    losses, snapshots = [], [copy.deepcopy((G, D))]
    for k in until_stopped(range(1, steps + 1)):
        x = sample()
        z = torch.randn(len(x), latent, generator=generator)
        losses.append(_gan_step(G, D, game, x, z, d_optimizer, g_optimizer))
        if k % keep == 0:
            snapshots.append(copy.deepcopy((G, D)))
    return losses, snapshots


def _try_play(answer, G, D, game, sample, steps, latent, betas, generator, keep):
    given = answer(G, D, game, sample, steps, latent, betas, generator, keep)
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
                    "generator": Fixture("generator", seed=seed),
                    "keep": keep,
                },
                label=f"{steps} steps, batches of {b}, a snapshot every {keep}",
            )
        )
    return cases


def _play_with(copied=copy.deepcopy, first=True, fresh=False, one_z=False, one_x=False):
    def play(G, D, game, sample, steps, latent, betas, generator, keep=100):
        def optimizers():
            return [torch.optim.Adam(net.parameters(), lr=1e-3, betas=betas) for net in (D, G)]

        pair, losses, snapshots = optimizers(), [], [copied((G, D))] * first
        x = z = None
        for k in range(1, steps + 1):
            x = sample() if x is None or not one_x else x
            z = torch.randn(len(x), latent, generator=generator) if z is None or not one_z else z
            pair = optimizers() if fresh else pair
            losses.append(_gan_step(G, D, game, x, z, *pair))
            if k % keep == 0:
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
        Misconception("one noise for all steps", _play_with(one_z=True), "Draw fresh z in every step."),
        Misconception(
            "one batch for all steps", _play_with(one_x=True), "`sample()` gives another batch on each call."
        ),
    ],
    hints=[
        "Before the loop: two optimizers, an empty list of losses, a snapshot of the start.",
        "In the loop: a batch, as many z, one `gan_step`. Draw z with the generator that you were given.",
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
    equation="8.3",
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
            "Those are shares of right answers, as they were handed out. Count what is *minimized*: (8.3) and (8.4).",
        ),
        Misconception(
            "error rates",
            _report_errors,
            "Falling now, but still counts of points on one side of a line. A loss knows how sure D was: (8.3), (8.4).",
        ),
        Misconception(
            "probabilities without logarithm",
            _report_probabilities,
            "Near: what is minimized is the mean *logarithm* of these probabilities, with a minus.",
        ),
    ],
    hints=[
        "The axis says loss. Between which numbers do the curves lie, and how large is (8.4) where D knows nothing?",
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
    title="What his curves can't say",
    equation="8.3",
    question="""
    He plots accuracies and calls them losses. Nothing else is wrong with his run. What happens to his samples, and to
    what he concludes from the curves?
    """,
    options={
        "a": Option(
            "They get worse over time: his optimizers now follow the gradient of an accuracy.",
            "An accuracy has no gradient, and no optimizer got to see it: it was computed for the plot.",
        ),
        "b": Option(
            "They are as good as ever; but at accuracy 1 he can't tell a sure $D$ from a surer one.",
            "Right. At accuracy 1 the loss may be 0.3 or 0.0001: in one case the generator still learns. Only the "
            "conclusions are harmed.",
            right=True,
        ),
        "c": Option(
            "They are as good as ever; so are his conclusions, since an accuracy is a loss turned over.",
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
    equation="8.4",
    question="""
    $D$ stands still for a while, and the generator minimizes (8.4) against it until nothing moves. Where do its points
    end up?
    """,
    options={
        "a": Option(
            "Spread over the modes, each in proportion to its share of the data.",
            "Nothing in (8.4) mentions shares or other points: each generated point is judged on its own.",
        ),
        "b": Option(
            "In the middle of the ring, at an equal distance from all the modes.",
            "That is what a squared error would do. Here the middle is empty, and $D$ knows it.",
        ),
        "c": Option(
            "Where the real points lie densest, since $D$ must be highest there.",
            "$D^*=p/(p+q)$ is highest where real points outnumber *generated* ones, which isn't where they are dense.",
        ),
        "d": Option(
            "All where $D$ happens to be highest, for whichever code $z$ they come from.",
            "Right. (8.4) asks each point to look real, and nothing asks two points to differ. Only $D$'s next move "
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
    counts = torch.bincount(labels[labels >= 0], minlength=k).double()
    shares = counts / counts.sum().clamp(min=1)
    entropy = -torch.special.xlogy(shares, shares).sum()
    return int((counts >= least * len(labels) / k).sum()), entropy.item()


def _label_lists(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, k, least, last in ((100, 8, 0.1, 8), (40, 5, 0.5, 3), (30, 3, 0.1, 1), (200, 10, 0.3, 10), (6, 4, 0.1, 0)):
        labels = torch.randint(-1, last, (n,), generator=rng) if last else torch.full((n,), -1)
        labels = torch.where(torch.rand(n, generator=rng) < 0.5, labels.clamp(max=1), labels)
        cases.append(
            Case({"labels": labels, "k": k, "least": least}, label=f"{n} labels of {k} modes, up to {last - 1}")
        )
    edge = torch.tensor([0] * 91 + [1] * 4 + [2] * 5)
    return [*cases, Case({"labels": edge, "k": 4, "least": 0.2}, label="shares of 91, 4 and 5 in 100 of 4 modes")]


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
        return of_slope(slope) + 0 * D(x.detach()).sum()

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
    equation="8.8",
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
        Misconception("without the half", _r1_with(lambda s: 2 * _squared_length(s)), "(8.8) begins with ½."),
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
    passed="A gradient inside of a loss: autograd differentiates its own work. A flat discriminator at the data is one "
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


def _spectral_stale(weight, u, rounds=1):
    return _spectral(weight, u, rounds)[0], u


def _spectral_one_round(weight, u, rounds=1):
    return _spectral(weight, u, 1)


quiz(
    "gan/spectral",
    points=4,
    minutes=8,
    equation="8.9",
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
    equation="8.10",
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
            "That is the game of (8.3) and (8.4). Here only *differences* of logits count.",
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
    Jolicoeur-Martineau (2019). With R1 it is the loss of a modern baseline, R3GAN (Huang et al. 2024).
    """,
)


def _smoothed(real, fake, s):
    return adversarial.discriminator_loss(real, fake, s)


def _smooth_logits(rng: torch.Generator) -> list[Case]:
    return [Case(case.args | {"s": s}, gradients=case.gradients) for case, s in zip(_logits(rng), (0.1, 0.3, 0.0, 0.2))]


quiz(
    "gan/smoothing",
    points=2,
    minutes=5,
    equation="8.7",
    title="Never quite sure",
    reference=_smoothed,
    library=(adversarial.discriminator_loss,),
    cases=_smooth_logits,
    misconceptions=[
        Misconception(
            "on both sides",
            lambda r, f, s: _smoothed(r, f, s) + s * -f.mean(),
            "The label of *generated* points stays 0: one-sided.",
        ),
        Misconception("the wrong side", lambda r, f, s: _smoothed(r, f, 0) - s * f.mean(), "Smooth the *real* labels."),
        Misconception(
            "a factor only",
            lambda r, f, s: (1 - s) * F.softplus(-r).mean() + F.softplus(f).mean(),
            "(1 − s) of the label says real and s of it says generated: the second term, s ln(1 − D), is missing.",
        ),
        Misconception("not at all", lambda r, f, s: _smoothed(r, f, 0), "Your loss doesn't depend on s."),
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
