"""A little register of quizzes to try the engine on: every kind that the notebooks use, with answers of every kind."""

from __future__ import annotations

import torch
from torch import nn

from classroom.quizzes import Case, Fixture, Misconception, Option, concept, fixture, quiz


def conv_size(size, kernel, stride, padding):
    """Length of a convolution's output along one axis."""
    return (size + 2 * padding - kernel) // stride + 1


quiz(
    "demo/conv-size",
    points=1,
    title="Size of a convolution",
    reference=conv_size,
    cases=lambda rng: [
        Case({"size": n, "kernel": k, "stride": s, "padding": p})
        for n, k, s, p in [(28, 3, 1, 1), (28, 4, 2, 1), (8, 3, 2, 0), (30, 5, 3, 2)]
    ],
    misconceptions=[
        Misconception(
            "padding on one side only",
            lambda n, k, s, p: (n + p - k) // s + 1,
            "Padding is added at *both* ends: $2p$ in all.",
        )
    ],
    hints=["How many places can the kernel's left edge stand in?"],
)


def mse(x, x_hat):
    """Squared error per image, averaged over pixels."""
    return ((x - x_hat) ** 2).flatten(1).mean(1)


def image_pairs(rng):
    """Non-square pictures in two batch sizes and two precisions."""
    cases = []
    for shape, dtype in [((3, 2, 5, 7), torch.float32), ((1, 1, 4, 6), torch.float64), ((2, 3, 6, 4), torch.float64)]:
        x, x_hat = (torch.rand(shape, generator=rng, dtype=dtype) * 2 - 1 for _ in range(2))
        cases.append(Case({"x": x, "x_hat": x_hat}, gradients=("x_hat",)))
    return cases


quiz("demo/mse", points=2, title="Squared error", reference=mse, cases=image_pairs, hints=["Look at the shapes."])


def reparameterize(mu, log_var, eps):
    """A draw from N(mu, exp(log_var)) that gradients pass through."""
    return mu + torch.exp(0.5 * log_var) * eps


def gaussians(rng):
    """Means, log variances and noise in several shapes and precisions."""
    cases = []
    for shape, dtype in [((3, 2), torch.float32), ((1, 5), torch.float64), ((4, 3), torch.float64)]:
        mu, log_var, eps = (torch.randn(shape, generator=rng, dtype=dtype) for _ in range(3))
        cases.append(Case({"mu": mu, "log_var": log_var, "eps": eps}, gradients=("mu", "log_var")))
    return cases


quiz(
    "demo/reparameterize",
    points=3,
    title="The reparameterization trick",
    equation="2.5",
    reference=reparameterize,
    cases=gaussians,
    misconceptions=[
        Misconception(
            "log variance read as log σ",
            lambda mu, log_var, eps: mu + log_var.exp() * eps,
            "$\\exp(\\log\\sigma^2)$ is a *variance*; the noise wants the standard deviation, its root.",
        ),
        Misconception(
            "a detached latent",
            lambda mu, log_var, eps: (mu + (0.5 * log_var).exp() * eps).detach(),
            "The draw is right, but the encoder will never hear about it.",
        ),
    ],
    hints=[
        "$z$ is a mean plus something times `eps`.",
        "Something is $\\sigma$.",
        "$\\sigma = \\exp(\\log\\sigma^2/2)$.",
    ],
)


@fixture("demo/decoder")
def _decoder(height, width, latent=3, dtype="float32"):
    """A decoder for one-channel pictures of any size."""
    net = nn.Sequential(nn.Linear(latent, height * width), nn.Unflatten(1, (1, height, width)))
    return net.to(getattr(torch, dtype))


def decode_grid(decoder, z):
    """Decode codes (rows, columns, d) into one picture (rows·h, columns·w)."""
    rows, columns, _ = z.shape
    images = decoder(z.flatten(0, 1))[:, 0]
    h, w = images.shape[1:]
    return images.reshape(rows, columns, h, w).permute(0, 2, 1, 3).reshape(rows * h, columns * w)


def decode_grid_swapped(decoder, z):
    """The same with height and width mistaken for each other: unnoticed on square pictures."""
    rows, columns, _ = z.shape
    images = decoder(z.flatten(0, 1))[:, 0]
    w, h = images.shape[1:]
    return images.reshape(rows, columns, h, w).permute(0, 2, 1, 3).reshape(rows * h, columns * w)


quiz(
    "demo/decode-grid",
    points=3,
    title="A grid of pictures",
    reference=decode_grid,
    cases=lambda rng: [
        Case(
            {"decoder": Fixture("demo/decoder", height=h, width=w), "z": torch.randn(r, c, 3, generator=rng)},
            ("decoder",),
        )
        for r, c, h, w in [(2, 3, 4, 5), (3, 1, 2, 6)]
    ],
    misconceptions=[
        Misconception("h and w swapped", decode_grid_swapped, "Pictures come as $(c, h, w)$: height first.")
    ],
    hints=["Which axis is which?"],
)


class Doubler(nn.Module):
    """A network with one weight a feature."""

    def __init__(self, features):
        super().__init__()
        self.weight = nn.Parameter(torch.full((features,), 2.0))

    def forward(self, x):
        return self.weight * x


def use_network(network, features, x):
    """Make an object of the student's class and call it."""
    made = network(features)
    return {"output": made(x), "parameters": sum(p.numel() for p in made.parameters())}


quiz(
    "demo/class",
    points=2,
    title="A class",
    reference=Doubler,
    cases=lambda rng: [Case({"features": n, "x": torch.randn(2, n, generator=rng)}) for n in (3, 5)],
    probe=use_network,
    any_device=False,
)

quiz(
    "demo/bug",
    points=2,
    title="A bug hunt",
    bug_hunt=True,
    reference=lambda x: x.sum(1),
    cases=lambda rng: [Case({"x": torch.randn(2, n, generator=rng)}) for n in (3, 5)],
)

quiz(
    "demo/nested",
    points=2,
    title="Several results",
    reference=lambda x: (x.mean(), {"count": x.numel(), "name": "x", "nothing": None}, [x > 0, float(x.max())]),
    cases=lambda rng: [Case({"x": torch.randn(2, 3, generator=rng)})],
    any_device=False,
)

concept(
    "demo/question",
    points=2,
    title="A question",
    question="""
    What is $\\sqrt{4}$, if $x < 5$?
    """,
    options={
        "a": Option("$4$", "FEEDBACK-A: that is before the root."),
        "b": Option("$2$", "FEEDBACK-B: yes, $2\\cdot 2 = 4$.", right=True),
        "c": Option("$16$", "FEEDBACK-C: that is the square."),
        "d": Option("nothing", "FEEDBACK-D: there is a root."),
    },
)
