"""The quizzes of notebook 02, "The variational autoencoder and its bound"."""

import math

import torch
from torch.distributions import Normal, kl_divergence

from course_utils.models import vae as library
from course_utils.models.autoencoder import bernoulli_nll

from ..quizzes.declarations import Case, Fixture, Misconception, Option, concept, fixture, quiz

# ------------------------------------------------------------------------------------------------- 2.1 · blind draws

concept(
    "vae/why-naive-fails",
    title="Why blind draws fail",
    question="""
    The mean of $p(x\\mid z_i)$ over draws $z_i\\sim p(z)$ is an unbiased estimate of $p(x)$. Why is it useless with
    20 latents?
    """,
    options={
        "a": Option(
            "It is biased after all, so more draws don't help.",
            "Its mean is exactly $p(x)$ for any number of draws. What looks like a bias in the plot is the median: "
            "nearly "
            "every repetition is far too low, and one in an astronomical number is far too high. (The *logarithm* "
            "of the "
            "estimate is biased, downwards, which is Jensen's inequality again.)",
        ),
        "b": Option(
            "Nearly all codes from the prior decode to something unlike $x$; the mean hangs on a few lucky draws.",
            'Yes. The variance of the weights explodes with the number of latents: "draws that matter" falls to '
            "about 1.",
            right=True,
        ),
        "c": Option(
            "$p(x\\mid z)$ itself cannot be evaluated.",
            "It can: decode $z$, read off the likelihood. Only the integral over all $z$ is out of reach.",
        ),
        "d": Option(
            "The prior is wrong; a better prior would have a closed form.",
            "On the test bench the prior is the true one, by construction, and the estimate fails all the same.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 2.2 · the bound

concept(
    "vae/what-rises",
    title="What a higher bound means",
    equation="2.2",
    question="""
    After a training step the ELBO of an image has risen by 3 nats. What do you know, by equation (2.2)?
    """,
    options={
        "a": Option(
            "$\\ln p(x)$ has risen by 3 nats.",
            "Only if the gap stayed the same. A better encoder raises the bound while $\\ln p(x)$ doesn't move at all: "
            "that is the picture above this question.",
        ),
        "b": Option(
            "The encoder came 3 nats closer to the true posterior.",
            "Only if the decoder stayed the same. A better decoder raises $\\ln p(x)$, and the gap may even grow.",
        ),
        "c": Option(
            "$\\ln p(x)$ has risen, or the gap has shrunk, or both; together they make 3 nats.",
            "Right: ELBO = ln p(x) − gap. The bound alone can't say which.",
            right=True,
        ),
        "d": Option(
            "The reconstruction cost has fallen by 3 nats.",
            "The ELBO has two terms (2.1); the KL may have fallen instead.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 2.3 · KL


def _spd(rng: torch.Generator, b: int, d: int, dtype: torch.dtype) -> torch.Tensor:
    """b random symmetric positive definite matrices, well conditioned, with correlations."""
    root = torch.randn(b, d, d, generator=rng, dtype=dtype)
    return root @ root.mT / d + 0.3 * torch.eye(d, dtype=dtype)


def _pair_of_gaussians(rng: torch.Generator) -> list[Case]:
    cases = []
    single, double = torch.float32, torch.float64
    # One pair lies far from 0, and from each other. The last ones are narrow, with determinants far below any small
    # number that is added for safety's sake.
    for b, d, far, width, dtype in (
        (4, 3, 0, 1, double),
        (3, 5, 0, 1, single),
        (1, 1, 0, 1, double),
        (1, 2, 0, 1, single),
        (2, 2, 30, 1, double),
        (2, 12, 0, 0.03, double),
    ):
        mean_q, mean_p = (side * far + width * torch.randn(b, d, generator=rng, dtype=dtype) for side in (1, -1))
        cov_q, cov_p = (width**2 * _spd(rng, b, d, dtype) for _ in range(2))
        args = {"mean_q": mean_q, "cov_q": cov_q, "mean_p": mean_p, "cov_p": cov_p}
        cases.append(Case(args, gradients=("mean_q", "mean_p")))
    return cases


def _kl_swapped(mean_q, cov_q, mean_p, cov_p):
    return library.gaussian_kl(mean_p, cov_p, mean_q, cov_q)


def _kl_log_det_upside_down(mean_q, cov_q, mean_p, cov_p):
    return library.gaussian_kl(mean_q, cov_q, mean_p, cov_p) + torch.logdet(cov_q) - torch.logdet(cov_p)


def _kl_without_dimension(mean_q, cov_q, mean_p, cov_p):
    return library.gaussian_kl(mean_q, cov_q, mean_p, cov_p) + 0.5 * mean_q.shape[-1]


def _kl_only_diagonals(mean_q, cov_q, mean_p, cov_p):
    cov_q, cov_p = (torch.diag_embed(cov.diagonal(dim1=-2, dim2=-1)) for cov in (cov_q, cov_p))
    return library.gaussian_kl(mean_q, cov_q, mean_p, cov_p)


def _kl_without_half(mean_q, cov_q, mean_p, cov_p):
    return 2 * library.gaussian_kl(mean_q, cov_q, mean_p, cov_p)


quiz(
    "vae/gaussian-kl",
    points=4,
    minutes=8,
    equation="2.3",
    title="KL of two Gaussians",
    reference=library.gaussian_kl,
    cases=_pair_of_gaussians,
    misconceptions=[
        Misconception(
            "q and p exchanged",
            _kl_swapped,
            "That is KL(p ‖ q). The divergence isn't symmetric: the matrix that is inverted is p's, because it is ln p "
            "that is averaged.",
        ),
        Misconception(
            "determinants upside down",
            _kl_log_det_upside_down,
            "ln det Σq − ln det Σp has the wrong sign: −½ ln det Σq comes from +ln q, +½ ln det Σp from −ln p.",
        ),
        Misconception(
            "the dimension forgotten", _kl_without_dimension, "Check q = p: the trace is d, so d must be subtracted."
        ),
        Misconception(
            "only the diagonals used",
            _kl_only_diagonals,
            "Off-diagonal entries count: elementwise division is not Σp⁻¹Σq. Use torch.linalg.solve(cov_p, cov_q).",
        ),
        Misconception(
            "the half forgotten", _kl_without_half, "Everything in (2.3) stands in a bracket with ½ before it."
        ),
    ],
    hints=[
        "Three pieces and a −d, all halved. Whose covariance is inverted, q's or p's?",
        "tr(Σp⁻¹Σq): `torch.linalg.solve(cov_p, cov_q)` is Σp⁻¹Σq for the whole batch; sum its diagonal with "
        "`.diagonal(dim1=-2, dim2=-1).sum(-1)`.",
        "`torch.linalg.slogdet(cov).logabsdet` is ln det. For the quadratic term give the difference of means a last "
        "axis, solve, multiply by the difference and sum.",
    ],
    explanation="""
    `solve` avoids an explicit inverse, `slogdet` a determinant that under- or overflows when there are many latents.
    A good habit is to test such a function where the answer is known: it must be 0 for q = p, and half the squared
    distance of the means when both covariances are the identity.
    """,
)


def _mean_and_log_var(rng: torch.Generator, *extra: str) -> list[Case]:
    def normal(b: int, d: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(b, d, generator=rng, dtype=dtype)

    cases = []
    single, double = torch.float32, torch.float64
    for b, d, far, dtype in ((5, 3, 0, single), (1, 7, 0, single), (4, 1, 0, single), (2, 6, 30, double)):
        side = (-1) ** torch.arange(b)[:, None]  # the first image's means lie far above 0, the second one's below
        args = {"mean": far * side + 2 * normal(b, d, dtype), "log_var": 1.5 * normal(b, d, dtype) - 0.5}
        args |= {name: normal(b, d, dtype) for name in extra}
        cases.append(Case(args, gradients=("mean", "log_var")))
    # Any number is a log-variance: very narrow posteriors, and very wide ones, each where the other can't hide it.
    for label, log_var in (
        ("log-variances of −12 to −25", [[-12.0, -25.0], [-14.0, -17.0]]),
        ("log-variances of 9 to 25", [[9.0, 12.0], [25.0, 23.0]]),
    ):
        args = {"mean": torch.zeros(2, 2), "log_var": torch.tensor(log_var)}
        args |= {name: torch.tensor([[0.5, -4.5], [3.5, -1.5]]) for name in extra}
        cases.append(Case(args, gradients=("mean", "log_var"), label=label))
    return cases


def _kl_log_sigma(mean, log_var):
    return 0.5 * (mean**2 + (2 * log_var).exp() - 2 * log_var - 1).sum(1)


def _kl_averaged(mean, log_var):
    return library.kl_to_standard_normal(mean, log_var) / mean.shape[1]


def _kl_sign(mean, log_var):
    return -library.kl_to_standard_normal(mean, log_var)


def _kl_doubled(mean, log_var):
    return 2 * library.kl_to_standard_normal(mean, log_var)


def _kl_sigma_for_variance(mean, log_var):
    return 0.5 * (mean**2 + (0.5 * log_var).exp() - log_var - 1).sum(1)


def _kl_reversed(mean, log_var):
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return kl_divergence(prior, Normal(mean, (0.5 * log_var).exp())).sum(1)


quiz(
    "vae/kl",
    points=3,
    minutes=4,
    equation="2.4",
    title="KL to the standard normal",
    reference=library.kl_to_standard_normal,
    library=(library.gaussian_kl,),
    cases=_mean_and_log_var,
    misconceptions=[
        Misconception(
            "log σ read as log-variance",
            _kl_log_sigma,
            "`log_var` is ln σ², and you read it as ln σ: the standard deviation is exp(log_var / 2), not "
            "exp(log_var).",
        ),
        Misconception(
            "KL averaged over latents",
            _kl_averaged,
            "Each latent sends its own message and nats add up: sum over latents, don't average. This very slip "
            "makes the "
            "mystery of section 2.8.",
        ),
        Misconception("KL with the wrong sign", _kl_sign, "A divergence is never negative; yours is never positive."),
        Misconception("the half forgotten", _kl_doubled, "Equation (2.4) begins with ½."),
        Misconception(
            "σ where σ² belongs", _kl_sigma_for_variance, "The trace term is the variance exp(log_var), not its root."
        ),
        Misconception(
            "the divergence the other way round",
            _kl_reversed,
            "That is KL(N(0, I) ‖ q). The average in the ELBO is over q, so q comes first.",
        ),
    ],
    hints=[
        "Four terms a latent; then one sum. Over which axis?",
        "σ² is `log_var.exp()`, and ln σ² is `log_var` itself: no logarithm has to be taken.",
        "0.5 * (mean**2 + … − log_var − 1), summed over `dim=1`, so that one number an image is left.",
    ],
    explanation="""
    One number for each image, in nats, summed over latents. It is 0 only for μ = 0 and σ = 1, and each latent adds its
    own part. (The library writes `log_var.expm1()` for `log_var.exp() - 1`: near the prior it keeps more digits.)
    """,
)

# ------------------------------------------------------------------------------------------------- 2.4 · reparameterize


def _draw_with_variance(mean, log_var, noise):
    return mean + log_var.exp() * noise


def _draw_with_log_sigma(mean, log_var, noise):
    return mean + 0.5 * log_var * noise


def _draw_one_noise(mean, log_var, noise):
    return mean + (0.5 * log_var).exp() * noise[:1]


def _draw_detached(mean, log_var, noise):
    return library.reparameterize(mean, log_var, noise).detach()


quiz(
    "vae/reparameterize",
    points=2,
    minutes=3,
    equation="2.5",
    title="Reparameterize",
    reference=library.reparameterize,
    cases=lambda rng: _mean_and_log_var(rng, "noise"),
    misconceptions=[
        Misconception(
            "σ² for σ",
            _draw_with_variance,
            "You stretch the noise by the variance exp(log_var). A draw is stretched by the standard deviation, "
            "exp(log_var / 2).",
        ),
        Misconception(
            "logarithm not undone", _draw_with_log_sigma, "½ log_var is ln σ. Take the exponential to get σ itself."
        ),
        Misconception(
            "one noise for the whole batch",
            _draw_one_noise,
            "Every image needs noise of its own; you used the first row for all of them.",
        ),
        Misconception(
            "a detached latent",
            _draw_detached,
            "The numbers are right, but no gradient reaches mean and log_var (`detach`, `.data`, `no_grad` or "
            "`.sample()`): "
            "the encoder would learn nothing from the reconstruction.",
        ),
    ],
    hints=[
        "Shift and stretch: z = μ + σ ε. All three have the shape (b, d).",
        "You have ln σ². Half of it is ln σ, and exp(ln σ) is σ.",
        "mean + (0.5 * log_var).exp() * noise",
    ],
    explanation="""
    The draw is a function of the parameters, with randomness as a third input; that is all there is to the trick.
    `torch.distributions.Normal(mean, sigma).rsample()` does the same with noise of its own (and `.sample()` detaches).
    """,
)

# ------------------------------------------------------------------------------------------------- 2.5 · likelihoods

concept(
    "vae/why-blur",
    title="Where the blur comes from",
    question="""
    A well-trained VAE's samples look blurred. Which of these is the reason that no amount of training removes?
    """,
    options={
        "a": Option(
            "The noise in $z$ is passed on to the pixels.",
            "Another $z$ is another image, moved as a whole, not the same one with noise; and noise on pixels would "
            "look like grain, not like blur.",
        ),
        "b": Option(
            "Squared error blurs; the Bernoulli likelihood doesn't.",
            "Both have the mean as their best answer: derived above, and the rows of the figure look the same.",
        ),
        "c": Option(
            "Transposed convolutions smooth the image.",
            "In the toy above there was no network at all, each pixel was free, and the answer was blurred.",
        ),
        "d": Option(
            "Images that share a code are answered with their mean, pixel by pixel, and a mean of sharp images is "
            "blurred.",
            'Right. Pixels are independent given $z$, so the likelihood cannot say "this edge here *or* there".',
            right=True,
        ),
    },
)

concept(
    "vae/grey-bernoulli",
    title="Nats of grey pixels",
    question="""
    Someone reports bits per dimension of a VAE with a Bernoulli decoder on grey Fashion-MNIST images and compares
    with a
    Gaussian model. What do you say?
    """,
    options={
        "a": Option(
            "Not comparable: the Bernoulli cost of grey values is not minus the logarithm of a density.",
            "Right: the area under it isn't 1 (the curve above). It does serve to compare models trained and "
            "measured with "
            "the same cost on the same images.",
            right=True,
        ),
        "b": Option(
            "Fine, as long as both are divided by the number of pixels.",
            "The unit isn't the problem. One of the two numbers isn't a log-density at all.",
        ),
        "c": Option(
            "The Bernoulli model wins, as its costs can't be negative.",
            "A density can exceed 1, so minus its logarithm may well be negative, and no sign is better by itself.",
        ),
        "d": Option(
            "The decoder must be wrong: grey pixels cannot be trained with cross-entropy.",
            "They can: λ = E[x] still minimises it. It is a fine *cost*; it just isn't a likelihood of grey images.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 2.6 · the ELBO


@fixture("vae/small")
def _small_vae(shape=(1, 8, 12), latent: int = 3, seed: int = 0) -> library.VAE:
    """A VAE with a few hundred weights, on non-square images; its biases are not zero, so that every road is used."""
    model = library.VAE(tuple(shape), latent, widths=(4, 6))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
        for parameter in (*model.encoder[-1].parameters(), *model.decoder[0].parameters()):
            parameter.mul_(4)  # codes of some nats, to which the decoder listens
    return model


def _small_batches(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, latent in ((3, (1, 8, 12), 3), (1, (1, 8, 12), 5), (4, (3, 4, 8), 2)):
        x = 2 * torch.rand(b, *shape, generator=rng) - 1
        model = Fixture("vae/small", shape=list(shape), latent=latent, seed=latent)
        noise = torch.randn(b, latent, generator=rng)
        cases.append(Case({"model": model, "x": x, "noise": noise}, gradients=("model",)))
    return cases


def _elbo_detached(model, x, noise):
    mean, log_var = model.encode(x)
    z = library.reparameterize(mean, log_var, noise).detach()
    return model.nll(x, z), library.kl_to_standard_normal(mean, log_var)


def _elbo_mean_code(model, x, noise):
    mean, log_var = model.encode(x)
    return model.nll(x, mean), library.kl_to_standard_normal(mean, log_var)


def _elbo_per_pixel(model, x, noise):
    reconstruction, kl = library.elbo(model, x, noise)
    return reconstruction / x[0].numel(), kl


def _elbo_averaged_kl(model, x, noise):
    reconstruction, kl = library.elbo(model, x, noise)
    return reconstruction, kl / noise.shape[1]


def _elbo_one_noise(model, x, noise):
    return library.elbo(model, x, noise[:1].expand_as(noise))


def _elbo_signs(model, x, noise):
    reconstruction, kl = library.elbo(model, x, noise)
    return -reconstruction, -kl


def _elbo_exchanged(model, x, noise):
    reconstruction, kl = library.elbo(model, x, noise)
    return kl, reconstruction


def _elbo_variance(model, x, noise):
    mean, log_var = model.encode(x)
    return model.nll(x, mean + log_var.exp() * noise), library.kl_to_standard_normal(mean, log_var)


def _elbo_log_sigma(model, x, noise):
    mean, log_sigma = model.encode(x)
    return model.nll(x, mean + log_sigma.exp() * noise), _kl_log_sigma(mean, log_sigma)


quiz(
    "vae/elbo",
    points=4,
    minutes=6,
    equation="2.1",
    title="The bound of a batch",
    reference=library.elbo,
    cases=_small_batches,
    misconceptions=[
        Misconception(
            "a detached latent",
            _elbo_detached,
            "Both numbers are right, but the reconstruction sends no gradient to the encoder: the latent is detached "
            "(`detach`, `.data`, `no_grad`). The encoder would only ever see the KL and collapse onto the prior.",
        ),
        Misconception(
            "the mean code instead of a draw",
            _elbo_mean_code,
            "The reconstruction belongs to a draw z = μ + σ ε. With z = μ, σ costs KL and earns nothing.",
        ),
        Misconception(
            "reconstruction averaged over pixels",
            _elbo_per_pixel,
            "−ln p(x|z) of an image is a sum over its pixels; the KL is a sum too. A mean here weighs the KL "
            "hundreds of "
            "times too heavily, and the latents collapse.",
        ),
        Misconception(
            "KL averaged over latents", _elbo_averaged_kl, "Sum the KL over latents; a mean divides its weight by d."
        ),
        Misconception(
            "one noise for the whole batch",
            _elbo_one_noise,
            "Use row i of the noise for image i: fresh noise per image.",
        ),
        Misconception("signs", _elbo_signs, "Return costs, both positive as a rule: −ln p(x|z) and KL."),
        Misconception("KL first", _elbo_exchanged, "The other way round: first the reconstruction, then the KL."),
        Misconception(
            "log σ read as log-variance",
            _elbo_log_sigma,
            "The model's second output is ln σ². You treat it as ln σ, in the draw and in the KL.",
        ),
        Misconception("σ² for σ", _elbo_variance, "The draw is stretched by exp(log_var / 2), not by exp(log_var)."),
    ],
    hints=[
        "Three lines: encode; draw; return the two costs. You have written everything they need.",
        "`mean, log_var = model.encode(x)`, then your `reparameterize` with the noise that was handed in.",
        "`return model.nll(x, z), kl_to_standard_normal(mean, log_var)`: nll is summed over pixels already.",
    ],
    explanation="""
    `model.nll(x, z)` sends its gradient into the decoder and, through `z`, into the encoder. Without that second road
    the
    encoder hears only the KL, which asks it to forget the image. Nothing fails loudly when it is cut: the loss still
    falls, which is why the check follows the gradient and doesn't stop at the numbers.
    """,
)

# ------------------------------------------------------------------------------------------------- 2.7 · IWAE


def _log_weights(rng: torch.Generator) -> list[Case]:
    cases = []
    for k, b, level, dtype in (
        (5, 3, -250.0, torch.float32),
        (1, 4, -250.0, torch.float32),
        (64, 2, -5000.0, torch.float64),
        (7, 1, 3.0, torch.float64),
    ):
        log_w = level + 4 * torch.randn(k, b, generator=rng, dtype=dtype)
        cases.append(Case({"log_w": log_w}, gradients=("log_w",), label=f"{k} draws of {b} images around {level:g}"))
    # What one number for the whole table, for an image, or for its first draw would not save from overflowing.
    log_w = 2 * torch.randn(4, 3, generator=rng)
    apart = log_w + torch.tensor([-400.0, -250.0, 150.0])
    label = "4 draws of 3 images, the images 150 to 400 nats apart"
    cases.append(Case({"log_w": apart}, gradients=("log_w",), label=label))
    spread = log_w + torch.tensor([0.0, 150.0, 300.0, 298.0])[:, None] - 200
    label = "4 draws of 3 images, the draws 150 nats apart"
    return [*cases, Case({"log_w": spread}, gradients=("log_w",), label=label)]


def _iwae_mean_of_logs(log_w):
    return log_w.mean(0)


def _iwae_without_log_k(log_w):
    return log_w.logsumexp(0)


def _iwae_over_images(log_w):
    return log_w.logsumexp(1) - math.log(log_w.shape[1])


def _iwae_best(log_w):
    return log_w.max(0).values


def _iwae_wrong_count(log_w):
    return log_w.logsumexp(0) - math.log(log_w.numel())


quiz(
    "vae/iwae",
    points=3,
    minutes=4,
    equation="2.8",
    title="The importance-weighted bound",
    reference=library.iwae_bound,
    cases=_log_weights,
    misconceptions=[
        Misconception(
            "mean of the logarithms",
            _iwae_mean_of_logs,
            "The mean of ln w is the ELBO again, however many draws. The mean must be taken of w, inside the "
            "logarithm.",
        ),
        Misconception(
            "sum instead of mean", _iwae_without_log_k, "logsumexp gives ln Σ w. Subtract ln K to have the mean."
        ),
        Misconception(
            "mean over images", _iwae_over_images, "Draws run along dim 0, images along dim 1: reduce dim 0."
        ),
        Misconception(
            "the best draw only", _iwae_best, "You return the largest ln w. Every weight counts, divided by K."
        ),
        Misconception(
            "divided by K times b", _iwae_wrong_count, "K is the number of draws, log_w.shape[0], not numel()."
        ),
    ],
    hints=[
        "A mean of weights under one logarithm; you hold the logarithms of the weights.",
        "exp(−250) is 0 in float32. `torch.logsumexp` takes ln Σ exp without ever forming exp.",
        "log_w.logsumexp(dim=0) − ln K, and K is len(log_w).",
    ],
    explanation="""
    `logsumexp` subtracts the largest entry, exponentiates, sums, and adds it back, so nothing underflows. With K = 1
    the
    result is the one-draw ELBO; as K grows, its mean can only rise, and never passes $\\ln p(x)$.
    """,
)

# ------------------------------------------------------------------------------------------------- 2.8 · the mystery


def _right_loss(x, logits, mean, log_var):
    return library.Elbo(bernoulli_nll(logits, x), library.kl_to_standard_normal(mean, log_var)).loss()


def _pieces_of_a_loss(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, shape, d in ((3, (1, 5, 7), 4), (1, (3, 4, 2), 10), (6, (1, 28, 28), 100)):
        args = {"x": 2 * torch.rand(b, *shape, generator=rng) - 1, "logits": torch.randn(b, *shape, generator=rng)}
        args |= {"mean": torch.randn(b, d, generator=rng), "log_var": torch.randn(b, d, generator=rng) - 1}
        cases.append(Case(args, gradients=("logits", "mean", "log_var")))
    return cases


def _loss_as_handed_out(x, logits, mean, log_var):
    kl = library.kl_to_standard_normal(mean, log_var) / mean.shape[1]
    return (bernoulli_nll(logits, x) + kl).mean()


def _loss_both_averaged(x, logits, mean, log_var):
    kl = library.kl_to_standard_normal(mean, log_var) / mean.shape[1]
    return (bernoulli_nll(logits, x) / x[0].numel() + kl).mean()


def _loss_pixels_averaged(x, logits, mean, log_var):
    return (bernoulli_nll(logits, x) / x[0].numel() + library.kl_to_standard_normal(mean, log_var)).mean()


def _loss_summed_over_images(x, logits, mean, log_var):
    return _right_loss(x, logits, mean, log_var) * len(x)


quiz(
    "vae/averaged-kl",
    points=3,
    minutes=6,
    equation="2.9",
    title="Bug hunt",
    bug_hunt=True,
    reference=_right_loss,
    library=(library.negative_elbo, library.Elbo.loss, library.Elbo.bound),
    cases=_pieces_of_a_loss,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _loss_as_handed_out,
            "One of the two costs is still averaged where (2.1) has a sum. Which axis does each line reduce, and how?",
        ),
        Misconception(
            "both averaged",
            _loss_both_averaged,
            "Averaging both doesn't restore the balance: one is divided by the number of pixels, the other by the "
            "number of "
            "latents. Sum both.",
        ),
        Misconception(
            "the pixels averaged instead",
            _loss_pixels_averaged,
            "Now the KL weighs hundreds of times too much, and latents collapse. Both terms are sums.",
        ),
        Misconception(
            "summed over the images too",
            _loss_summed_over_images,
            "Over latents and pixels: sums. Over the images of the batch: the mean, or the learning rate would "
            "depend on "
            "the batch size.",
        ),
    ],
    hints=[
        "Write beside each reduction how many numbers go in and whether they are summed or averaged.",
        "784 pixel costs are summed. What happens to the d latent costs?",
        "Equation (2.4) is a sum over latents: `latents.sum(dim=1)`.",
    ],
    explanation="""
    `latents.mean(dim=1)` is the KL divided by d, so with 100 latents the KL weighed 1/100. The encoder could buy
    precision
    almost for free, codes went where the prior never draws, and samples from the prior decoded to junk, while
    reconstructions looked better than ever. With 2 latents the weight is 1/2, and the harm is small.
    """,
)

concept(
    "vae/nobody-noticed",
    title="Why nobody noticed",
    equation="2.9",
    question="""
    The published loss is wrong with 2 latents as well. Why did its samples look fine there?
    """,
    options={
        "a": Option(
            "With 2 latents the mean and the sum are the same.",
            "They are the same with *one* latent. With 2, the mean is half of the sum.",
        ),
        "b": Option(
            "With 2 latents the KL term isn't needed.",
            "Without it there is no reason for codes to lie where the prior draws: that was notebook 01.",
        ),
        "c": Option(
            "The KL's weight is 1/2 instead of 1/100, and two latents can't hold many nats anyway: codes still fill "
            "the prior.",
            "Right. The mistake grows with the very number that was meant to improve the model.",
            right=True,
        ),
        "d": Option(
            "Two-dimensional normals are easier to sample from exactly.",
            "Drawing from N(0, I) is exact in any dimension. What matters is whether the decoder knows the codes "
            "drawn.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 2.9 · silent latents

concept(
    "vae/silent-latent",
    title="A silent latent",
    equation="2.11",
    question="""
    For one latent, $q(z_j\\mid x)=\\mathcal N(0,1)$ for *every* image. What does it cost, and what does it do?
    """,
    options={
        "a": Option(
            "It costs a nat or more, since it adds noise to the decoder's input.",
            "Its KL is exactly 0 by (2.4), and a trained decoder has learned not to listen to it.",
        ),
        "b": Option(
            "It is perfect: it matches the prior, so its information is used best.",
            "It matches the prior for every image alike, so it carries no information about any of them.",
        ),
        "c": Option(
            "It must be active: its variance is 1, far above 0.01.",
            "(2.11) asks for the variance *over images of the posterior mean*. That mean is always 0 here.",
        ),
        "d": Option(
            "It costs nothing and says nothing: collapsed.",
            "Right. One such latent is thrift; all of them, with a decoder that ignores its input, is a failed "
            "training.",
            right=True,
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 2.10 · bits


def _some_nlls(rng: torch.Generator) -> list[Case]:
    cases = []
    for b, d, width, dtype in (
        (4, 784, 2 / 255, torch.float32),
        (1, 3072, 1 / 255, torch.float64),
        (3, 12, 2.0, torch.float64),  # black and white
        (2, 36, 2 / 255, torch.float32),
        (2, 784, 2 / 15, torch.float32),
    ):
        nll = 300 * torch.randn(b, generator=rng, dtype=dtype)
        nll[0] = -nll[0].abs() - 400  # a density may be large, and bits of it negative
        cases.append(Case({"nll": nll, "dimensions": d, "bin_width": width}))
    return cases


def _bits_in_nats(nll, dimensions, bin_width):
    return nll / dimensions - math.log(bin_width)


def _bits_without_width(nll, dimensions, bin_width):
    return nll / (dimensions * math.log(2))


def _bits_sign(nll, dimensions, bin_width):
    return nll / (dimensions * math.log(2)) + math.log2(bin_width)


def _bits_width_once(nll, dimensions, bin_width):
    return (nll - math.log(bin_width)) / (dimensions * math.log(2))


def _bits_times_ln2(nll, dimensions, bin_width):
    return nll / dimensions * math.log(2) - math.log2(bin_width)


quiz(
    "vae/bits",
    points=2,
    minutes=3,
    equation="2.12",
    title="Bits",
    reference=library.bits_per_dimension,
    cases=_some_nlls,
    misconceptions=[
        Misconception("nats, not bits", _bits_in_nats, "Divide by ln 2 and use log2: one bit is ln 2 = 0.693 nats."),
        Misconception(
            "the bin width forgotten",
            _bits_without_width,
            "A density in units of [-1, 1] becomes a probability only when multiplied by the bin width.",
        ),
        Misconception("the bin width's sign", _bits_sign, "Cost = −log₂(density · Δ), so log₂ Δ is subtracted."),
        Misconception(
            "one bin for the whole image",
            _bits_width_once,
            "Every pixel has a bin: the volume is Δ to the power D, so −log₂ Δ stays whole after dividing by D.",
        ),
        Misconception("multiplied by ln 2", _bits_times_ln2, "A nat is *more* than a bit: 1 nat = 1/ln 2 = 1.44 bits."),
    ],
    hints=[
        "Two parts: nats of the density per dimension turned into bits, and the width of a bin.",
        "One nat is 1/ln 2 bits: divide by dimensions · math.log(2).",
        "… − math.log2(bin_width), which adds 6.99 bits for bins of 2/255.",
    ],
    explanation="""
    A sanity check that catches every slip: a uniform density over 256 bins of width 2/255 has height 1/(256 · 2/255),
    and must come out as exactly 8 bits, whatever the width of the range.
    """,
)
