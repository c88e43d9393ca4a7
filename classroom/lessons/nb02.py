"""The quizzes of notebook 02, "The variational autoencoder and its bound"."""

import math

import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from course_utils import metrics
from course_utils.models import vae as library
from course_utils.models.autoencoder import bernoulli_nll

from ..quizzes.declarations import Case, Fixture, Misconception, Option, concept, fixture, quiz

# ------------------------------------------------------------------------------------------------- 2.1 · blind draws


def _spd(rng: torch.Generator, b: int, d: int, dtype: torch.dtype) -> torch.Tensor:
    """b random symmetric positive definite matrices, well conditioned, with correlations."""
    root = torch.randn(b, d, d, generator=rng, dtype=dtype)
    return root @ root.mT / d + 0.3 * torch.eye(d, dtype=dtype)


@fixture("vae/bench")
def _bench(pixels: int = 5, latents: int = 2, sigma: float = 0.5, seed: int = 0) -> library.LinearGaussian:
    """A linear-Gaussian model whose images don't have mean zero."""
    weight = torch.randn(pixels, latents, dtype=torch.float64)
    return library.LinearGaussian(weight, torch.randn(pixels, dtype=torch.float64), sigma)


def _on_the_bench(rng: torch.Generator, proposals: bool = False) -> list[Case]:
    cases = []
    for b, pixels, latents, sigma in ((3, 5, 2, 0.5), (1, 4, 1, 1.5), (2, 3, 6, 0.2), (4, 7, 3, 1.0)):
        seed = int(torch.randint(1000, (), generator=rng))
        args = {"bench": Fixture("vae/bench", pixels=pixels, latents=latents, sigma=sigma, seed=seed)}
        args["x"] = 2 * torch.randn(b, pixels, generator=rng, dtype=torch.float64)
        if proposals:
            args["mean"] = torch.randn(b, latents, generator=rng, dtype=torch.float64)
            args["cov"] = _spd(rng, 1, latents, torch.float64)[0]
        cases.append(Case(args, label=f"{b} images of {pixels} pixels, {latents} latents, σ = {sigma}"))
    return cases


def _log_evidence(bench, x):
    cov = bench.weight @ bench.weight.T + bench.sigma**2 * torch.eye(len(bench.bias), dtype=x.dtype)
    return MultivariateNormal(bench.bias, cov).log_prob(x)


def _evidence_with_sigma(bench, x):
    cov = bench.weight @ bench.weight.T + bench.sigma * torch.eye(len(bench.bias), dtype=x.dtype)
    return MultivariateNormal(bench.bias, cov).log_prob(x)


def _evidence_without_bias(bench, x):
    return _log_evidence(bench, x + bench.bias)


def _evidence_of_one_code(bench, x):
    return bench.log_likelihood(x, x.new_zeros(len(x), bench.weight.shape[1]))


def _evidence_pixel_by_pixel(bench, x):
    variance = bench.weight.square().sum(1) + bench.sigma**2
    return Normal(bench.bias, variance.sqrt()).log_prob(x).sum(1)


quiz(
    "vae/evidence",
    points=3,
    minutes=3,
    title="An evidence that can be computed",
    reference=_log_evidence,
    library=(library.LinearGaussian.log_evidence, library.LinearGaussian.elbo, library.LinearGaussian.gap),
    cases=_on_the_bench,
    any_device=False,
    misconceptions=[
        Misconception(
            "σ for σ²", _evidence_with_sigma, "A covariance holds variances: the noise adds σ² to every pixel's, not σ."
        ),
        Misconception("the bias forgotten", _evidence_without_bias, "The mean of Wz + b + σε is b, not 0."),
        Misconception(
            "the likelihood of one code",
            _evidence_of_one_code,
            "That is ln p(x|z) at z = 0. The evidence takes every code into account; here the integral has been done: "
            "what is the distribution of Wz?",
        ),
        Misconception(
            "pixels taken for independent",
            _evidence_pixel_by_pixel,
            "The variance of each pixel is right. But pixels that share a code vary together: WWᵀ has entries off the "
            "diagonal.",
        ),
    ],
    hints=[
        "A linear map of a Gaussian, plus Gaussian noise, is Gaussian. So only a mean and a covariance are missing.",
        "E[x] = W E[z] + b + σ E[ε]. For the covariance: z and ε are independent, so that two covariances add up.",
        "The covariance of Wz is W I Wᵀ. That of σε is σ² I, with the identity as large as an image.",
        "`cov = W @ W.T + sigma**2 * torch.eye(len(bench.bias), dtype=x.dtype)`, then "
        "`MultivariateNormal(bench.bias, cov).log_prob(x)`.",
    ],
    passed="""
    An exact ln p(x), for this one family of models. From now on every estimate and every bound can be compared with it.
    """,
    explanation="""
    Mean b, covariance WWᵀ + σ²I. `MultivariateNormal` factorises the covariance (Cholesky), so that neither an inverse
    nor a determinant is formed. With a network in place of W the distribution of x has no name and no formula.
    """,
)


concept(
    "vae/why-naive-fails",
    title="Before you run it",
    minutes=1.5,
    question="""
    Take a thousand codes $z_i$ from the prior and average $p(x\\mid z_i)$. That estimate of $p(x)$ is unbiased, for any
    number of latents. What do you expect of it with 20 latents, in nearly every repetition?
    """,
    options={
        "a": Option(
            "A value near $p(x)$, as often above as below it, since unbiased means centred.",
            "Centred in the *mean*, which a rare giant can carry. The typical value is another matter: see the curve, "
            "which shows the median.",
        ),
        "b": Option(
            "A value far below $p(x)$, since none of these codes decodes to anything like $x$.",
            'Yes. The mean hangs on a lucky draw that hardly ever comes: "draws that matter" falls to about 1.',
            right=True,
        ),
        "c": Option(
            "A value far above $p(x)$, since the largest weight dominates the average.",
            "A single weight does dominate it. But even the largest of a thousand is usually far too small.",
        ),
        "d": Option(
            "No value at all, since $p(x\\mid z)$ can't be computed for a given code.",
            "It can: decode $z$, read off the likelihood. Only the integral over all $z$ is out of reach.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 2.2 · the bound

concept(
    "vae/what-rises",
    title="What a higher bound means",
    minutes=1.5,
    equation="2.2",
    question="""
    After a training step the ELBO of an image has risen by 3 nats. Which conclusion does (2.2) allow?
    """,
    options={
        "a": Option(
            "The image has become more probable under the model: $\\ln p(x)$ rose by 3 nats.",
            "Only if the gap stayed the same. A better encoder raises the bound while $\\ln p(x)$ doesn't move at all.",
        ),
        "b": Option(
            "The encoder has come 3 nats closer, in KL divergence, to the true posterior.",
            "Only if the decoder stayed the same. A better decoder raises $\\ln p(x)$, and the gap may even grow.",
        ),
        "c": Option(
            "The rise of $\\ln p(x)$ and the fall of the gap, of either sign, add up to 3.",
            "Right: ELBO = ln p(x) − gap. The bound alone can't say which of the two moved.",
            right=True,
        ),
        "d": Option(
            "The reconstruction has become cheaper, by 3 nats averaged over draws of $z$.",
            "The ELBO has two terms (2.1); the KL may have fallen instead.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 2.3 · KL


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
    minutes=6,
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
        "No matrix has to be inverted: `torch.linalg.solve(A, B)` is A⁻¹B, for a whole batch. Which A and B give the "
        "trace, and which the quadratic term?",
        "tr(Σp⁻¹Σq) is the sum of the diagonal of `solve(cov_p, cov_q)`: `.diagonal(dim1=-2, dim2=-1).sum(-1)`. "
        "`torch.linalg.slogdet(cov).logabsdet` is ln det.",
        "For the quadratic term give the difference of means a last axis, `d = (mean_p - mean_q).unsqueeze(-1)`; then "
        "it is `(d * torch.linalg.solve(cov_p, d)).sum((-2, -1))`.",
    ],
    passed="""
    Your KL holds for any pair of Gaussians, and every divergence in this notebook goes through it or its special case.
    Worth remembering as a test: it is 0 for q = p, and half the squared distance of the means for two identities.
    """,
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
    points=2,
    minutes=2,
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
            "Each latent sends its own message and nats add up: sum over latents, don't average.",
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
        "Take (2.3) with Σp = I, μp = 0 and a diagonal Σq. What becomes of each of the four terms?",
        "Each latent contributes four terms. Then one sum: over which axis?",
        "σ² is `log_var.exp()`, and ln σ² is `log_var` itself: no logarithm has to be taken.",
        "0.5 * (mean**2 + … − log_var − 1), summed over `dim=1`, so that one number per image is left.",
    ],
    passed="""
    One number per image, in nats, added up over latents: 0 only for μ = 0 and σ = 1. The next cell compares it with
    your general formula and with a simulation.
    """,
    explanation="""
    One number for each image, in nats, summed over latents. It is 0 only for μ = 0 and σ = 1, and each latent adds its
    own part. (The library writes `log_var.expm1()` for `log_var.exp() - 1`: near the prior it keeps more digits.)
    """,
)

# ------------------------------------------------------------------------------------------------- 2.4 · the test bench


def _posterior(bench, x):
    precision = torch.eye(bench.weight.shape[1], dtype=x.dtype) + bench.weight.T @ bench.weight / bench.sigma**2
    cov = torch.linalg.inv(precision)
    return (x - bench.bias) @ bench.weight @ cov / bench.sigma**2, cov


def _posterior_with_sigma(bench, x):
    precision = torch.eye(bench.weight.shape[1], dtype=x.dtype) + bench.weight.T @ bench.weight / bench.sigma
    cov = torch.linalg.inv(precision)
    return (x - bench.bias) @ bench.weight @ cov / bench.sigma, cov


def _posterior_without_prior(bench, x):
    weight, eye = bench.weight, torch.eye(bench.weight.shape[1], dtype=x.dtype)
    cov = torch.linalg.inv(1e-9 * eye + weight.T @ weight / bench.sigma**2)
    return (x - bench.bias) @ weight @ cov / bench.sigma**2, cov


def _posterior_without_bias(bench, x):
    return _posterior(bench, x + bench.bias)


def _posterior_precision(bench, x):
    mean, cov = _posterior(bench, x)
    return mean, torch.linalg.inv(cov)


def _posterior_unscaled(bench, x):
    mean, cov = _posterior(bench, x)
    return mean * bench.sigma**2, cov


quiz(
    "vae/posterior",
    points=3,
    minutes=5,
    title="The exact posterior",
    reference=_posterior,
    library=(library.LinearGaussian.posterior,),
    cases=_on_the_bench,
    any_device=False,
    misconceptions=[
        Misconception(
            "σ for σ²",
            _posterior_with_sigma,
            "The quadratic form has the *variance* σ² below it; you divide by the standard deviation σ.",
        ),
        Misconception(
            "the prior forgotten",
            _posterior_without_prior,
            "That is the likelihood alone: least squares. The prior −½‖z‖² adds the identity to the precision and "
            "pulls the mean towards 0.",
        ),
        Misconception(
            "the bias forgotten",
            _posterior_without_bias,
            "The decoder says Wz + b. Take b from x before you ask which code explains the rest.",
        ),
        Misconception(
            "precision for covariance",
            _posterior_precision,
            "The mean is right. But what you return with it is the precision; the covariance is its inverse.",
        ),
        Misconception(
            "the mean not divided by σ²",
            _posterior_unscaled,
            "The covariance is right. The linear term is Wᵀ(x − b)/σ²: yours lacks the σ².",
        ),
    ],
    hints=[
        "ln p(z|x) = −½‖z‖² − ‖x − b − Wz‖²/2σ² + const. Sort it by powers of z.",
        "A Gaussian N(m, S) has the exponent −½ zᵀS⁻¹z + zᵀS⁻¹m + const. Compare the quadratic terms first: "
        "what is S⁻¹?",
        "S⁻¹ = I + WᵀW/σ². The linear terms say S⁻¹m = Wᵀ(x − b)/σ².",
        "`cov = torch.linalg.inv(torch.eye(d, dtype=x.dtype) + W.T @ W / sigma**2)`, and for a batch of rows "
        "`mean = (x - b) @ W @ cov / sigma**2`.",
    ],
    passed="""
    You inverted a generative model by completing the square. It works because everything is linear and Gaussian; put
    a network for W, and nobody can do what you just did. That is why there are encoders.
    """,
    explanation="""
    Prior and likelihood are both quadratic in z, so the posterior is Gaussian: precisions add (I from the prior,
    WᵀW/σ² from the image), and the mean solves S⁻¹m = Wᵀ(x − b)/σ². The covariance doesn't depend on x at all.
    """,
)


def _exact_bound(bench, x, mean, cov):
    at_mean = -bench.log_likelihood(x, mean)
    spread = (bench.weight @ cov @ bench.weight.T).trace() / (2 * bench.sigma**2)
    zero, eye = torch.zeros_like(mean), torch.eye(mean.shape[1], dtype=mean.dtype)
    kl = library.gaussian_kl(mean, cov.expand(len(mean), -1, -1), zero, eye)
    return at_mean + spread, kl


def _bound_without_spread(bench, x, mean, cov):
    _, kl = _exact_bound(bench, x, mean, cov)
    return -bench.log_likelihood(x, mean), kl


def _bound_signs(bench, x, mean, cov):
    reconstruction, kl = _exact_bound(bench, x, mean, cov)
    return -reconstruction, kl


def _bound_plain_trace(bench, x, mean, cov):
    _, kl = _exact_bound(bench, x, mean, cov)
    return -bench.log_likelihood(x, mean) + cov.trace() / (2 * bench.sigma**2), kl


def _bound_spread_twice(bench, x, mean, cov):
    reconstruction, kl = _exact_bound(bench, x, mean, cov)
    return 2 * reconstruction + bench.log_likelihood(x, mean), kl


def _bound_subtracted(bench, x, mean, cov):
    reconstruction, kl = _exact_bound(bench, x, mean, cov)
    return -2 * bench.log_likelihood(x, mean) - reconstruction, kl


quiz(
    "vae/exact-bound",
    points=4,
    minutes=6,
    equation="2.1",
    title="The bound without a single draw",
    reference=_exact_bound,
    library=(library.LinearGaussian.elbo, library.LinearGaussian.gap),
    cases=lambda rng: _on_the_bench(rng, proposals=True),
    any_device=False,
    misconceptions=[
        Misconception(
            "only the mean code",
            _bound_without_spread,
            "That is the cost of q's mean. The expectation over q costs more: a code that scatters by Σ makes "
            "the image "
            "scatter by WΣWᵀ.",
        ),
        Misconception(
            "the spread not passed through W",
            _bound_plain_trace,
            "The code scatters by Σ, but the error is made in the image: it scatters by WΣWᵀ, and that has the trace "
            "you need.",
        ),
        Misconception(
            "the half of the trace forgotten",
            _bound_spread_twice,
            "Half the squared error stands in the exponent: the trace is divided by 2σ².",
        ),
        Misconception(
            "spread subtracted", _bound_subtracted, "Spread of the code makes errors larger, never smaller: add it."
        ),
        Misconception(
            "sign of the reconstruction", _bound_signs, "Return costs: −ln p(x|z), averaged over q, and the KL."
        ),
    ],
    hints=[
        "The KL is a call of your `gaussian_kl`; only E_q[−ln p(x|z)] needs work. It contains E‖x − b − Wz‖².",
        "Write z = mean + δ with E δ = 0 and E δδᵀ = Σ. What becomes of the square? It is the step you saw in the "
        "derivation of (2.3).",
        "E‖x − b − Wz‖² = ‖x − b − W·mean‖² + tr(WΣWᵀ). The first part is in `-bench.log_likelihood(x, mean)` already.",
        "`reconstruction = -bench.log_likelihood(x, mean) + (W @ cov @ W.T).trace() / (2 * bench.sigma**2)`, "
        "and for the "
        "KL give `gaussian_kl` the covariance once per image: `cov.expand(len(mean), -1, -1)`.",
    ],
    passed="""
    Both terms of (2.1) in closed form. The trace is the price of being vague: a proposal that scatters pays in pixels
    for what it saves in KL. The VAE will make the same trade with one draw instead of a trace.
    """,
    explanation="""
    With z = mean + δ the mixed term averages to zero, and E‖Wδ‖² = tr(W E[δδᵀ] Wᵀ) = tr(WΣWᵀ). The covariance is one
    for all images here, so it is expanded for `gaussian_kl`, which wants one per image (or broadcasts).
    """,
)


def _gap(bench, x, mean, cov):
    weight, sigma = bench.weight, bench.sigma
    true_cov = torch.linalg.inv(torch.eye(len(cov), dtype=x.dtype) + weight.T @ weight / sigma**2)
    true_mean = (x - bench.bias) @ weight @ true_cov / sigma**2
    many = cov.expand(len(mean), -1, -1)
    return library.gaussian_kl(mean, many, true_mean, true_cov.expand_as(many))


def _gap_turned(bench, x, mean, cov):
    true_mean, true_cov = _posterior(bench, x)
    many = cov.expand(len(mean), -1, -1)
    return library.gaussian_kl(true_mean, true_cov.expand_as(many), mean, many)


def _gap_to_prior(bench, x, mean, cov):
    return _exact_bound(bench, x, mean, cov)[1]


def _gap_sign(bench, x, mean, cov):
    return -_gap(bench, x, mean, cov)


quiz(
    "vae/gap",
    points=2,
    minutes=3,
    equation="2.2",
    title="What the bound loses",
    reference=_gap,
    library=(library.LinearGaussian.elbo, library.LinearGaussian.gap, library.LinearGaussian.log_evidence),
    cases=lambda rng: _on_the_bench(rng, proposals=True),
    any_device=False,
    misconceptions=[
        Misconception(
            "the divergence the other way round",
            _gap_turned,
            "That is KL(p(z|x) ‖ q). In (2.2) the average is over q, so q comes first. (Swapped, nothing would "
            "add up.)",
        ),
        Misconception(
            "divergence from the prior",
            _gap_to_prior,
            "That is the second term of (2.1), KL(q ‖ p(z)). What the bound loses is the divergence from the "
            "*posterior*.",
        ),
        Misconception("the sign", _gap_sign, "A divergence is never negative; yours is never positive."),
    ],
    hints=[
        "Which term of (2.2) is it? You have written everything that it needs.",
        "Two calls: one tells you where the true posterior is, the other how far q is from it.",
        "Mind the order: (2.2) has KL(q ‖ p(z|x)), and `gaussian_kl` takes q first. Both covariances are "
        "single matrices.",
        "`true_mean, true_cov = posterior(bench, x)`, then `gaussian_kl(mean, cov.expand(n, -1, -1), true_mean, "
        "true_cov.expand(n, -1, -1))` with n = len(mean).",
    ],
    passed="""
    So the looseness of the bound is itself a KL, between the proposal and the posterior that only a linear model gives
    away. Now (2.2) can be tested with nothing left to believe.
    """,
    explanation="""
    The two functions before do all the work. For a network this function can't be written: its posterior is unknown,
    which is why papers quote the bound and not the evidence.
    """,
)

# ------------------------------------------------------------------------------------------------- 2.5 · reparameterize


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
    minutes=2,
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
        "You are given ln σ². How do you get from there to σ?",
        "Half of ln σ² is ln σ, and exp(ln σ) is σ. Stay inside PyTorch's operations, so that a gradient gets through.",
        "mean + (0.5 * log_var).exp() * noise",
    ],
    passed="""
    The draw is now a function of the parameters, with randomness as a third input: gradients pass straight through it.
    """,
    explanation="""
    The draw is a function of the parameters, with randomness as a third input; that is all there is to the trick.
    `torch.distributions.Normal(mean, sigma).rsample()` does the same with noise of its own (and `.sample()` detaches).
    """,
)


@fixture("vae/f")
def _function(kind: str = "bowl"):
    """A function of rows, (n, d) -> (n,): smooth, with every entry tied to the first; or one without a gradient."""
    if kind == "steps":
        return lambda z: (z > 0.3).sum(dim=1).to(z.dtype) + 1
    return lambda z: -0.5 * (z - 1).square().sum(dim=1) + (z[:, :1] * z).sin().sum(dim=1)


def _gradients_of(rng: torch.Generator, *kinds: str) -> list[Case]:
    cases = []
    for kind in kinds:
        for n, d in ((6, 3), (1, 4), (5, 1)):
            args = {"f": Fixture("vae/f", kind=kind)}
            args |= {name: torch.randn(d, generator=rng, dtype=torch.float64) for name in ("mean", "log_var")}
            args["noise"] = torch.randn(n, d, generator=rng, dtype=torch.float64)
            cases.append(Case(args, label=f"{n} draws of {d} latents, f {kind}"))
    return cases


def _score_of_variance(f, mean, log_var, noise):
    return library.score_function_gradient(f, mean, log_var, noise) * (-0.5 * log_var).exp()


def _score_without_sigma(f, mean, log_var, noise):
    return library.score_function_gradient(f, mean, log_var, noise) * (0.5 * log_var).exp()


def _score_of_noise(f, mean, log_var, noise):
    return f(noise).unsqueeze(1) * noise / (0.5 * log_var).exp()


def _score_of_z(f, mean, log_var, noise):
    z = mean + (0.5 * log_var).exp() * noise
    return f(z).unsqueeze(1) * z / (0.5 * log_var).exp()


def _score_averaged(f, mean, log_var, noise):
    return library.score_function_gradient(f, mean, log_var, noise).mean(0)


quiz(
    "vae/score-function",
    points=3,
    minutes=5,
    equation="2.6",
    title="Weigh the draw",
    reference=library.score_function_gradient,
    library=(library.reparameterized_gradient,),
    cases=lambda rng: _gradients_of(rng, "bowl", "steps"),
    misconceptions=[
        Misconception(
            "σ² for σ",
            _score_of_variance,
            "∇ ln q(z) is (z − μ)/σ², and z − μ is σε: one σ cancels. You divide by it twice.",
        ),
        Misconception(
            "not divided by σ",
            _score_without_sigma,
            "∇ ln q(z) = (z − μ)/σ² = ε/σ. A narrow q reacts more to a shift of its mean.",
        ),
        Misconception("f at the noise", _score_of_noise, "f wants the code, z = μ + σε; you hand it the noise itself."),
        Misconception(
            "the code for the noise",
            _score_of_z,
            "It is the *noise* that is divided by σ: the deviation of z from its mean, not z.",
        ),
        Misconception(
            "averaged over the draws",
            _score_averaged,
            "One estimate per draw is wanted, (n, d): we are about to measure how much they scatter.",
        ),
    ],
    hints=[
        "Three things per draw: the code, the value of f there, and ∇ ln q. Which of them needs a gradient of f?",
        "ln q(z) = −(z − μ)²/2σ² + const for each latent. Differentiate with respect to μ, then put in z = μ + σε.",
        "The value is one number per draw, (n,); the score is (n, d). Give the value a last axis to multiply them.",
        "`sigma = (0.5 * log_var).exp()`, then `f(mean + sigma * noise).unsqueeze(1) * noise / sigma`.",
    ],
    passed="""
    An unbiased gradient of a function that was only ever *evaluated*. That is its strength, and the next plot shows
    the price.
    """,
    explanation="""
    The cases include a function made of steps, whose derivative is zero everywhere: the estimator still finds the
    gradient of its *mean*, because the density it is averaged over is smooth.
    """,
)


def _moved_by_noise(f, mean, log_var, noise):
    return library.reparameterized_gradient(f, mean, log_var, noise) * (0.5 * log_var).exp()


def _moved_at_noise(f, mean, log_var, noise):
    return library.reparameterized_gradient(f, torch.zeros_like(mean), torch.zeros_like(log_var), noise)


def _moved_summed(f, mean, log_var, noise):
    return library.reparameterized_gradient(f, mean, log_var, noise).sum(0)


def _moved_averaged(f, mean, log_var, noise):
    return library.reparameterized_gradient(f, mean, log_var, noise) / len(noise)


def _moved_variance(f, mean, log_var, noise):
    return library.reparameterized_gradient(f, mean, 2 * log_var, noise)


quiz(
    "vae/reparameterized",
    points=3,
    minutes=5,
    equation="2.5",
    title="Move the draw",
    reference=library.reparameterized_gradient,
    library=(library.score_function_gradient,),
    cases=lambda rng: _gradients_of(rng, "bowl"),
    misconceptions=[
        Misconception(
            "derivative by the noise",
            _moved_by_noise,
            "You differentiated by ε: that brings a factor σ. By μ the draw moves one to one, dz/dμ = 1.",
        ),
        Misconception(
            "f at the noise", _moved_at_noise, "Differentiate f at the code z = μ + σε, not at the noise itself."
        ),
        Misconception(
            "summed over the draws",
            _moved_summed,
            "One estimate per draw is wanted, (n, d). If μ itself requires the gradient, all draws are added up in it.",
        ),
        Misconception(
            "divided by the number of draws",
            _moved_averaged,
            "A mean over draws before the gradient divides each of them by n. Take the gradient of the *sum* of f.",
        ),
        Misconception("σ² for σ", _moved_variance, "The draw is stretched by exp(log_var / 2), not by exp(log_var)."),
    ],
    hints=[
        "By the right half of (2.5) the estimate for one draw is ∇f at z. Nothing else.",
        "PyTorch differentiates scalars. Each row of z only affects its own value, so which scalar of f(z) has the "
        "gradient you want in every row?",
        "Make z a tensor of its own that requires gradients (`.detach().requires_grad_()`), and "
        "differentiate the *sum* "
        "of f(z) by it.",
        "`z = (mean + (0.5 * log_var).exp() * noise).detach().requires_grad_()` and "
        "`return torch.autograd.grad(f(z).sum(), z)[0]`",
    ],
    passed="""
    One backward pass gives the gradient of every draw: the sum of independent rows has each row's gradient in that row.
    """,
    explanation="""
    dz/dμ = 1, so the derivative by μ is the derivative by z. Summing first is a standard way to get many gradients in
    one backward pass; it is right only because row i of z affects value i alone.
    """,
)

# ------------------------------------------------------------------------------------------------- 2.6 · likelihoods

concept(
    "vae/why-blur",
    title="One code, several images",
    minutes=1.5,
    question="""
    Seven images, one shoe at seven places, share one code. The decoder may answer that code with a single image $m$,
    and you may choose each of its pixels freely. Which $m$ has the least expected cost?
    """,
    options={
        "a": Option(
            "One of the seven: with squared error any of them, as a blend matches none of them.",
            "A blend is never perfect and still cheaper: squared error punishes one large miss more than many small "
            "ones. The cell below finds the cheapest.",
        ),
        "b": Option(
            "With squared error their mean, a blur; with cross-entropy one of the seven, sharp.",
            "Cross-entropy has the mean as its best answer too: its derivative vanishes at λ = E[x].",
        ),
        "c": Option(
            "With squared error the pixelwise median; with cross-entropy the mean, a blur.",
            "The median belongs to *absolute* error. Squared error has the mean, as cross-entropy has.",
        ),
        "d": Option(
            "With either cost their mean, pixel by pixel: a blur, however long one trains.",
            'Right. Pixels are independent given $z$, so neither likelihood can say "the edge is here *or* there".',
            right=True,
        ),
    },
)


def _images_and_means(rng: torch.Generator, sigma: bool = True) -> list[Case]:
    cases = []
    for b, shape, log_sigma, off in ((4, (1, 5, 7), -0.7, 0.3), (1, (3, 4, 2), 0.4, 1.5), (3, (12,), -3.0, 0.05)):
        x = 2 * torch.rand(b, *shape, generator=rng, dtype=torch.float64) - 1
        noise = torch.randn(b, *shape, generator=rng, dtype=torch.float64)
        args = {"x": x, "mean": x + off * (noise + 0.5)}
        if sigma:
            args["log_sigma"] = torch.tensor(log_sigma, dtype=torch.float64)
        cases.append(Case(args, gradients=("mean", "log_sigma") if sigma else ()))
    return cases


def _gaussian_nll(x, mean, log_sigma):
    squares = ((x - mean) / log_sigma.exp()).square()
    return (0.5 * squares + log_sigma + 0.5 * math.log(2 * math.pi)).flatten(1).sum(dim=1)


def _nll_without_log_sigma(x, mean, log_sigma):
    return library.gaussian_nll(x, mean, log_sigma) - log_sigma * x[0].numel()


def _nll_log_sigma_once(x, mean, log_sigma):
    return library.gaussian_nll(x, mean, log_sigma) - log_sigma * (x[0].numel() - 1)


def _nll_of_variance(x, mean, log_sigma):
    return library.gaussian_nll(x, mean, 0.5 * log_sigma)


def _nll_averaged(x, mean, log_sigma):
    return library.gaussian_nll(x, mean, log_sigma) / x[0].numel()


def _nll_constant_forgotten(x, mean, log_sigma):
    return library.gaussian_nll(x, mean, log_sigma) - 0.5 * math.log(2 * math.pi) * x[0].numel()


quiz(
    "vae/gaussian-nll",
    points=2,
    minutes=3,
    equation="2.7",
    title="A Gaussian decoder's cost",
    reference=_gaussian_nll,
    library=(library.gaussian_nll,),
    cases=_images_and_means,
    misconceptions=[
        Misconception(
            "ln σ forgotten",
            _nll_without_log_sigma,
            "Without + ln σ a huge σ would make every error cheap: the term is what keeps σ honest.",
        ),
        Misconception(
            "ln σ only once",
            _nll_log_sigma_once,
            "Every pixel is a Gaussian of its own, so every pixel pays ln σ: it stands inside the sum.",
        ),
        Misconception("ln σ² read", _nll_of_variance, "`log_sigma` is ln σ, not ln σ²: σ is exp(log_sigma)."),
        Misconception(
            "averaged over pixels", _nll_averaged, "Nats per *image*: sum over its pixels, don't take their mean."
        ),
        Misconception(
            "the constant forgotten",
            _nll_constant_forgotten,
            "½ ln 2π per pixel is missing. Training wouldn't notice; every number of nats or bits would be off.",
        ),
    ],
    hints=[
        "Three terms per pixel, then one sum per image.",
        "σ is `log_sigma.exp()`; keep it a tensor, so that it can be learned.",
        "`.flatten(1).sum(1)` adds up whatever axes an image has. Which terms have to be inside that sum?",
        "0.5 * ((x - mean) / log_sigma.exp()) ** 2 + log_sigma + 0.5 * math.log(2 * math.pi), flattened and summed.",
    ],
    passed="""
    A density, in nats per image, and it may be negative. Because ln σ stands in it, σ can be learned instead of tuned.
    """,
    explanation="""
    With σ fixed this is squared error with an exchange rate, 1/2σ², and a constant. The two constants matter as soon as
    numbers of nats are compared between models.
    """,
)


def _best_log_sigma(x, mean):
    return 0.5 * (x - mean).square().mean().log()


def _sigma_squared(x, mean):
    return (x - mean).square().mean().log()


def _sigma_of_absolute_errors(x, mean):
    return (x - mean).abs().mean().log()


def _sigma_deviation(x, mean):
    return (x - mean).std(correction=0).log()


def _sigma_summed(x, mean):
    return 0.5 * (x - mean).square().flatten(1).sum(1).mean().log()


def _sigma_itself(x, mean):
    return (x - mean).square().mean().sqrt()


quiz(
    "vae/best-sigma",
    points=2,
    minutes=4,
    equation="2.7",
    title="Derive, then code: the best σ",
    reference=_best_log_sigma,
    cases=lambda rng: _images_and_means(rng, sigma=False),
    misconceptions=[
        Misconception(
            "ln σ²", _sigma_squared, "That is ln σ². The question is for ln σ, so a half stands in front of it."
        ),
        Misconception(
            "mean absolute error",
            _sigma_of_absolute_errors,
            "Set the derivative of (2.7) to zero once more: squares appear in it, so the mean *square* decides.",
        ),
        Misconception(
            "spread about the mean error",
            _sigma_deviation,
            "`std` takes the mean error away first. A decoder that is off by a constant pays for it in (2.7), so it "
            "must count.",
        ),
        Misconception(
            "summed over the pixels",
            _sigma_summed,
            "σ is the error of *one* pixel: the mean over all pixels of all images, not a sum over an image.",
        ),
        Misconception("σ, not ln σ", _sigma_itself, "The number is σ itself; its logarithm is asked for."),
    ],
    hints=[
        "Write the sum of (2.7) over all pixels of the batch as S/2σ² + N ln σ + const. What are S and N?",
        "Differentiate with respect to ln σ, not σ: d(σ⁻²)/d ln σ = −2σ⁻².",
        "The derivative is −S/σ² + N. Set it to zero, solve for σ², and take half of its logarithm.",
        "0.5 * (x - mean).square().mean().log()",
    ],
    passed="""
    The best σ² *is* the mean squared error: the model reads the exchange rate between pixels and nats off its own
    mistakes. A learned σ has to end there, which gives you a test for training.
    """,
    explanation="""
    −S/σ² + N = 0 gives σ² = S/N, the mean squared error over all pixels. At this σ the cost of an image is
    ½P + P ln σ + const: reducing the error by a factor pays in *logarithms*, so that small errors still count.
    """,
)

concept(
    "vae/grey-bernoulli",
    title="Nats of grey pixels",
    minutes=1.5,
    question="""
    Someone compares a VAE with a Bernoulli decoder and one with a Gaussian decoder, both on grey images, by their bits
    per dimension. What is your comment?
    """,
    options={
        "a": Option(
            "The comparison fails: a Bernoulli cost of grey values isn't the logarithm of a density.",
            "Right: the area under it isn't 1 (the curve above). It does serve to compare models trained and measured "
            "with the same cost on the same images.",
            right=True,
        ),
        "b": Option(
            "The comparison holds, as long as both costs are divided by the same number of pixels.",
            "The unit isn't the problem. One of the two numbers isn't a log-density at all.",
        ),
        "c": Option(
            "The comparison favours the Bernoulli decoder, as its cost can never become negative.",
            "A density can exceed 1, so minus its logarithm may well be negative, and no sign is better by itself.",
        ),
        "d": Option(
            "The comparison is idle: cross-entropy can't train a decoder of grey pixels anyway.",
            "It can: λ = E[x] still minimises it. It is a fine *cost*; it just isn't a likelihood of grey images.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 2.7 · your VAE


def _known_weights(model: nn.Module, bias: float = 0.1) -> nn.Module:
    """Weights that any wiring of the same layers shares: one pattern over what goes into an output, whichever it is."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                moved = module.weight.movedim(int(isinstance(module, nn.ConvTranspose2d)), 0)
                count = moved[0].numel()
                pattern = (0.7 * torch.arange(count, device=moved.device) + 0.4).sin() * (3 / count) ** 0.5
                moved.copy_(pattern.view(moved.shape[1:]).expand_as(moved))
                if module.bias is not None:
                    module.bias.fill_(bias)
    return model


def _count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


class _Encoder(nn.Module):
    def __init__(self, shape, latent, width=32):
        super().__init__()
        c, h, w = shape
        self.body = nn.Sequential(
            nn.Conv2d(c, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * (h // 4) * (w // 4), 2 * latent),
        )

    def forward(self, x):
        mean, log_var = self.body(x).float().chunk(2, dim=1)
        return mean, log_var


class _Decoder(nn.Module):
    def __init__(self, shape, latent, width=32):
        super().__init__()
        c, h, w = shape
        self.body = nn.Sequential(
            nn.Linear(latent, width * (h // 4) * (w // 4)),
            nn.ReLU(),
            nn.Unflatten(1, (width, h // 4, w // 4)),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, c, 4, stride=2, padding=1),
        )

    def forward(self, z):
        return self.body(z).float()


class _VAE(nn.Module):
    def __init__(self, shape, latent, width=32):
        super().__init__()
        self.latent = latent
        self.encoder = _Encoder(shape, latent, width)
        self.decoder = _Decoder(shape, latent, width)

    def encode(self, x):
        return self.encoder(x)

    def logits(self, z):
        return self.decoder(z)

    def decode(self, z):
        return 2 * torch.sigmoid(self.logits(z)) - 1

    def nll(self, x, z):
        return bernoulli_nll(self.logits(z), x)

    @torch.no_grad()
    def sample(self, n, generator=None):
        noise = torch.randn(n, self.latent, generator=generator, device=next(self.parameters()).device)
        return self.decode(noise)


def _sizes(rng: torch.Generator) -> list[tuple]:
    return [(3, (1, 8, 12), 3, 5), (1, (3, 12, 4), 2, 4), (2, (1, 28, 20), 6, 6)]


def _images_to_encode(rng: torch.Generator) -> list[Case]:
    return [
        Case(
            {"shape": shape, "latent": d, "width": width, "x": 2 * torch.rand(b, *shape, generator=rng) - 1},
            label=f"{b} images {shape} to {d} latents, width {width}",
        )
        for b, shape, d, width in _sizes(rng)
    ]


def _codes_to_decode(rng: torch.Generator) -> list[Case]:
    return [
        Case(
            {"shape": shape, "latent": d, "width": width, "z": torch.randn(b, d, generator=rng)},
            label=f"{b} codes of {d} latents to images {shape}, width {width}",
        )
        for b, shape, d, width in _sizes(rng)
    ]


def _use_encoder(answer, shape, latent, width, x):
    """Two encoders of equal weights: what comes out in float32 and in bfloat16, and how the input is felt."""
    model = answer(shape, latent, width)
    if model is None:
        return None
    model(x)
    _known_weights(model)
    x = x.clone().requires_grad_()
    mean, log_var = model(x)
    (felt,) = torch.autograd.grad((mean.square().sum() + log_var.sum()), x)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x.detach())
    below = [part.detach() for part in _known_weights(model, bias=-3.0)(x)]  # what no ReLU would let through
    return mean.detach(), log_var.detach(), felt, below, _count(model), [str(part.dtype) for part in half]


def _use_decoder(answer, shape, latent, width, z):
    model = answer(shape, latent, width)
    if model is None:
        return None
    model(z)
    _known_weights(model)
    z = z.clone().requires_grad_()
    logits = model(z)
    (felt,) = torch.autograd.grad(logits.square().sum(), z)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(z.detach())
    below = _known_weights(model, bias=-3.0)(z).detach()  # what no ReLU would let through
    return logits.detach(), felt, below, _count(model), str(half.dtype)


def _encoder_like(**changes):
    """A wrong encoder: the right one with another activation, padding, head or size."""

    class Wrong(_Encoder):
        def __init__(self, shape, latent, width=32):
            super().__init__(shape, latent, width)
            for place, layer in changes.items():
                self.body[int(place[1:])] = layer(shape, latent, width)

    return Wrong


_EncoderLastRelu = _encoder_like(
    _5=lambda s, d, w: nn.Sequential(nn.Linear(w * (s[1] // 4) * (s[2] // 4), 2 * d), nn.ReLU())
)
_EncoderWithoutRelu = _encoder_like(_1=lambda *_: nn.Identity(), _3=lambda *_: nn.Identity())


class _EncoderDeviation(_Encoder):
    def forward(self, x):
        mean, log_var = super().forward(x)
        return mean, log_var.exp()


class _EncoderShared(_Encoder):
    def forward(self, x):
        mean, _ = super().forward(x)
        return mean, mean


class _EncoderHalf(_Encoder):
    def forward(self, x):
        return tuple(self.body(x).chunk(2, dim=1))


quiz(
    "vae/encoder",
    points=3,
    minutes=4,
    title="Stage 1: the encoder",
    reference=_Encoder,
    library=(library.VAE, library.Encoder),
    cases=_images_to_encode,
    probe=_use_encoder,
    any_device=False,
    misconceptions=[
        Misconception(
            "ReLU after the last layer",
            _EncoderLastRelu,
            "The last layer's numbers pass through a ReLU, so that no mean and no log-variance can be negative: every "
            "code would lie in one corner, and no σ could be below 1.",
        ),
        Misconception(
            "no activations",
            _EncoderWithoutRelu,
            "Without a ReLU between them, three linear layers are one linear layer.",
        ),
        Misconception(
            "a variance for its logarithm",
            _EncoderDeviation,
            "The second output is ln σ², any real number: leave it as the layer gives it. The exponential comes later.",
        ),
        Misconception(
            "left in bfloat16",
            _EncoderHalf,
            "Training computes the layers in bfloat16 where the processor can. Exponentials follow, so bring the "
            "output "
            "back to float32 with `.float()`.",
        ),
    ],
    hints=[
        "Two strided convolutions with a ReLU after each, then everything flat into one linear layer. How many numbers "
        "must it say per image?",
        "Kernel 4, stride 2, padding 1 halves height and width (1.4). After two of them an image is width × h/4 × w/4.",
        "`nn.Sequential(conv, nn.ReLU(), conv, nn.ReLU(), nn.Flatten(), nn.Linear(…, 2 * latent))`. Then "
        "split in halves "
        "along the last axis: `chunk`.",
        "`nn.Linear(width * (h // 4) * (w // 4), 2 * latent)` with `c, h, w = shape`, and in `forward`: "
        "`mean, log_var = self.body(x).float().chunk(2, dim=1)`.",
    ],
    passed="""
    Twice as many outputs as latents is all that makes it variational so far: the encoder now says how sure it is.
    """,
    explanation="""
    One linear layer with 2d outputs, or two layers with d each: it is the same network. `float()` matters only where
    training runs in bfloat16, which has three digits; exp(log_var) would feel that.
    """,
)


class _DecoderTanh(_Decoder):
    def forward(self, z):
        return super().forward(z).tanh()


class _DecoderSigmoid(_Decoder):
    def forward(self, z):
        return super().forward(z).sigmoid()


class _DecoderLastRelu(_Decoder):
    def forward(self, z):
        return super().forward(z).relu()


class _DecoderHalf(_Decoder):
    def forward(self, z):
        return self.body(z)


class _DecoderWithoutRelu(_Decoder):
    def __init__(self, shape, latent, width=32):
        super().__init__(shape, latent, width)
        self.body[1] = self.body[4] = nn.Identity()


quiz(
    "vae/decoder",
    points=3,
    minutes=4,
    title="Stage 2: the decoder",
    reference=_Decoder,
    library=(library.VAE, library.Decoder),
    cases=_codes_to_decode,
    probe=_use_decoder,
    any_device=False,
    misconceptions=[
        Misconception(
            "tanh at the end",
            _DecoderTanh,
            "The output is squeezed into [−1, 1]. Logits are any real number; with a tanh no pixel could be surer than "
            "sigmoid(1) = 0.73.",
        ),
        Misconception(
            "sigmoid at the end",
            _DecoderSigmoid,
            "Return logits: `bernoulli_nll` applies the sigmoid itself, and does it in a way that can't "
            "overflow. Twice "
            "is once too often.",
        ),
        Misconception(
            "ReLU at the end",
            _DecoderLastRelu,
            "A last ReLU forbids negative logits: no pixel could be darker than grey.",
        ),
        Misconception(
            "no activations", _DecoderWithoutRelu, "Without a ReLU between the layers the decoder is a linear map: PCA."
        ),
        Misconception(
            "left in bfloat16", _DecoderHalf, "As in the encoder: bring the logits back to float32 with `.float()`."
        ),
    ],
    hints=[
        "The encoder's road backwards. What is the opposite of Flatten, and what of a convolution with stride 2?",
        "`nn.Unflatten(1, (width, h // 4, w // 4))` turns rows into maps; `nn.ConvTranspose2d(…, 4, "
        "stride=2, padding=1)` "
        "doubles height and width (1.5).",
        "ReLU after the linear layer and after the first transposed convolution; nothing after the last one, whose "
        "output may be any number.",
        "`nn.Sequential(nn.Linear(latent, n), nn.ReLU(), nn.Unflatten(…), nn.ConvTranspose2d(width, width, 4, 2, 1), "
        "nn.ReLU(), nn.ConvTranspose2d(width, c, 4, 2, 1))` with n = width · h/4 · w/4.",
    ],
    passed="""
    Logits, one per pixel: the decoder is a distribution over images, and this is its parameter.
    """,
    explanation="""
    Nothing after the last layer: what its numbers mean is for the likelihood to say. As logits of a Bernoulli they go
    into the cross-entropy without ever being turned into probabilities.
    """,
)


def _images_and_codes(rng: torch.Generator) -> list[Case]:
    return [
        Case(
            {
                "shape": shape,
                "latent": d,
                "width": width,
                "x": 2 * torch.rand(b, *shape, generator=rng) - 1,
                "z": torch.randn(b, d, generator=rng),
                "seed": int(torch.randint(1000, (), generator=rng)),
            },
            label=f"{b} images {shape}, {d} latents, width {width}",
        )
        for b, shape, d, width in _sizes(rng)
    ]


def _use_vae(answer, shape, latent, width, x, z, seed):
    model = answer(shape, latent, width)
    if model is None:
        return None
    _known_weights(model)
    pieces = {"encode(x)": tuple(part.detach() for part in model.encode(x)), "nll(x, z)": model.nll(x, z).detach()}
    pieces["decode(z)"] = model.decode(z).detach()
    samples = model.sample(5, torch.Generator().manual_seed(seed))
    pieces["sample(5, generator)"] = samples.detach()
    pieces["samples carry a gradient"] = samples.requires_grad
    pieces["numbers"] = (model.latent, _count(model))
    return pieces


class _VAEDecodesTwice(_VAE):
    def decode(self, z):
        return torch.sigmoid(self.logits(z))


class _VAEMeanNll(_VAE):
    def nll(self, x, z):
        return super().nll(x, z) / x[0].numel()


class _VAESigmoidNll(_VAE):
    def nll(self, x, z):
        return bernoulli_nll(torch.sigmoid(self.logits(z)), x)


class _VAEUniform(_VAE):
    @torch.no_grad()
    def sample(self, n, generator=None):
        return self.decode(torch.rand(n, self.latent, generator=generator))


class _VAEGlobalNoise(_VAE):
    @torch.no_grad()
    def sample(self, n, generator=None):
        return self.decode(torch.randn(n, self.latent))


quiz(
    "vae/class",
    points=4,
    minutes=4,
    title="Stage 3: the model",
    reference=_VAE,
    library=(library.VAE, library.Encoder, library.Decoder),
    cases=_images_and_codes,
    probe=_use_vae,
    any_device=False,
    misconceptions=[
        Misconception(
            "images in [0, 1]",
            _VAEDecodesTwice,
            "decode returns λ, in [0, 1]. The course's images run from −1 to 1: that is 2λ − 1.",
        ),
        Misconception("nats per pixel", _VAEMeanNll, "`nll` is nats per *image*: the sum over pixels, not their mean."),
        Misconception(
            "sigmoid twice",
            _VAESigmoidNll,
            "`bernoulli_nll` takes logits and applies the sigmoid itself. Hand it the decoder's output as it is.",
        ),
        Misconception(
            "codes from the unit cube",
            _VAEUniform,
            "`torch.rand` is uniform in [0, 1]. The prior is N(0, I): `torch.randn`.",
        ),
        Misconception(
            "the generator ignored",
            _VAEGlobalNoise,
            "`sample` must draw from the generator that it is given, or nobody can draw the same codes again.",
        ),
    ],
    hints=[
        "Four short methods around the two networks. Which of them needs logits, which the mean image, which a draw?",
        "The mean of a Bernoulli pixel is λ = sigmoid(logit), in [0, 1]. Images of the course live in [−1, 1].",
        "`sample`: codes from the prior with `torch.randn(n, self.latent, generator=generator, device=…)`, decoded. No "
        "gradient is wanted there.",
        "decode: `2 * torch.sigmoid(self.decoder(z)) - 1`;  nll: `bernoulli_nll(self.decoder(z), x)`;  the device of "
        "the weights: `next(self.parameters()).device`.",
    ],
    passed="""
    That is the whole model, and from here on it is yours that is trained: encoder, decoder, likelihood, and a way to
    sample that is just the story of 2.1.
    """,
    explanation="""
    Sampling follows the story of 2.1: a code from the prior, then the decoder. `decode` gives the *mean* of p(x|z); a
    draw from p(x|z) would come next, and you will see below why people leave it out.
    """,
)


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
    points=3,
    minutes=3,
    equation="2.1",
    title="Stage 4: the bound of a batch",
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
        "Where does the noise go? Not into the images: it turns the encoder's two outputs into one code per image.",
        "`mean, log_var = model.encode(x)`, then your `reparameterize` with the noise that was handed in.",
        "`return model.nll(x, z), kl_to_standard_normal(mean, log_var)`: nll is summed over pixels already.",
    ],
    passed="""
    The gradient reaches the encoder by both roads, through the KL and through the draw. Had it lost the second,
    the loss would still have fallen, and the model would have learned to ignore its codes.
    """,
    explanation="""
    `model.nll(x, z)` sends its gradient into the decoder and, through `z`, into the encoder. Without that second road
    the encoder hears only the KL, which asks it to forget the image. Nothing fails loudly when it is cut: the loss
    still falls, which is why the check follows the gradient and doesn't stop at the numbers.
    """,
)


def _losses(rng: torch.Generator, betas: tuple = (1.0, 0.3, 4.0)) -> list[Case]:
    cases = []
    for beta, (b, shape, latent) in zip(betas, ((3, (1, 8, 12), 3), (1, (1, 8, 12), 5), (4, (3, 4, 8), 2))):
        args = {"beta": beta, "model": Fixture("vae/small", shape=list(shape), latent=latent, seed=latent)}
        args["x"] = 2 * torch.rand(b, *shape, generator=rng) - 1
        args["generator"] = Fixture("generator", seed=int(torch.randint(1000, (), generator=rng)))
        cases.append(Case(args, gradients=("model",), label=f"{b} images {shape}, {latent} latents, β = {beta:g}"))
    return cases


def _make_and_use(answer, beta, model, x, generator):
    loss = answer(beta)
    return None if loss is None else loss(model, x, torch.zeros(len(x), dtype=torch.long), generator)


def _negative_elbo(beta=1.0):
    def loss(model, x, y, generator):
        noise = torch.randn(len(x), model.latent, generator=generator, device=x.device)
        reconstruction, kl = library.elbo(model, x, noise)
        terms = {"reconstruction": reconstruction.mean(), "kl": kl.mean()}
        return (reconstruction + beta * kl).mean(), terms

    return loss


def _loss_summed(beta):
    def loss(model, x, y, generator):
        value, terms = _negative_elbo(beta)(model, x, y, generator)
        return len(x) * value, terms

    return loss


def _loss_beta_on_pixels(beta):
    def loss(model, x, y, generator):
        value, terms = _negative_elbo(1.0)(model, x, y, generator)
        return value + (beta - 1) * terms["reconstruction"], terms

    return loss


def _loss_without_beta(beta):
    return _negative_elbo(1.0)


def _loss_global_noise(beta):
    def loss(model, x, y, generator):
        return _negative_elbo(beta)(model, x, y, None)

    return loss


def _loss_one_noise(beta):
    def loss(model, x, y, generator):
        noise = torch.randn(1, model.latent, generator=generator, device=x.device).expand(len(x), -1)
        reconstruction, kl = library.elbo(model, x, noise)
        return (reconstruction + beta * kl).mean(), {"reconstruction": reconstruction.mean(), "kl": kl.mean()}

    return loss


quiz(
    "vae/loss",
    points=3,
    minutes=3,
    title="Stage 5: what the training loop minimises",
    reference=_negative_elbo,
    library=(library.negative_elbo, library.Elbo.loss),
    cases=_losses,
    probe=_make_and_use,
    misconceptions=[
        Misconception(
            "summed over the images",
            _loss_summed,
            "Over pixels and latents: sums. Over the images of a batch: the mean, or the learning rate would depend on "
            "the batch size.",
        ),
        Misconception(
            "β on the pixels", _loss_beta_on_pixels, "β weighs the KL; you multiplied the reconstruction by it."
        ),
        Misconception("β ignored", _loss_without_beta, "The weight that is handed in must reach the KL."),
        Misconception(
            "noise from elsewhere",
            _loss_global_noise,
            "Draw the noise from the generator that the loop hands in: then a run can be repeated exactly.",
        ),
        Misconception(
            "one noise for the whole batch",
            _loss_one_noise,
            "Every image needs noise of its own: (b, latent), not one row for all of them.",
        ),
    ],
    hints=[
        "A function inside a function: the outer one knows β, the inner one is called by the loop at every step.",
        "The inner one draws fresh noise, calls your `elbo`, and returns a scalar and a dictionary of two scalars.",
        "Noise: `torch.randn(len(x), model.latent, generator=generator, device=x.device)`. Scalars: means "
        "over the batch.",
        '`return (reconstruction + beta * kl).mean(), {"reconstruction": reconstruction.mean(), "kl": kl.mean()}`',
    ],
    passed="""
    Everything that `fit` needs. Five stages, some forty lines, and each number in them is nats per image.
    """,
    explanation="""
    The mean over the batch keeps the loss in nats per image, whatever the batch size. β = 1 is the bound; what other
    values do is a story of its own, told below.
    """,
)

# ------------------------------------------------------------------------------------------------- 2.8 · IWAE


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
    points=2,
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
        "exp(−250) is 0 in float32. Which function of PyTorch takes ln Σ exp without ever forming exp?",
        "`torch.logsumexp` gives the logarithm of a *sum*. What has to be subtracted to make it that of a mean?",
        "log_w.logsumexp(dim=0) − ln K, and K is len(log_w).",
    ],
    passed="""
    With K = 1 it is the ELBO; with more draws its mean can only rise, and it never passes ln p(x).
    """,
    explanation="""
    `logsumexp` subtracts the largest entry, exponentiates, sums, and adds it back, so nothing underflows. With K = 1
    the result is the one-draw ELBO; as K grows, its mean can only rise, and never passes $\\ln p(x)$.
    """,
)


def _several_draws(rng: torch.Generator) -> list[Case]:
    cases = []
    for k, b, shape, latent in ((4, 3, (1, 8, 12), 3), (1, 2, (1, 8, 12), 5), (3, 1, (3, 4, 8), 2)):
        args = {"model": Fixture("vae/small", shape=list(shape), latent=latent, seed=latent)}
        args["x"] = 2 * torch.rand(b, *shape, generator=rng) - 1
        args["noise"] = torch.randn(k, b, latent, generator=rng)
        cases.append(Case(args, label=f"{k} draws for {b} images {shape}, {latent} latents"))
    return cases


def _weights_without_q(model, x, noise):
    mean, log_var = model.encode(x)
    z = mean + (0.5 * log_var).exp() * noise
    return library.log_weights(model, x, noise) + Normal(mean, (0.5 * log_var).exp()).log_prob(z).sum(2)


def _weights_without_prior(model, x, noise):
    mean, log_var = model.encode(x)
    z = mean + (0.5 * log_var).exp() * noise
    return library.log_weights(model, x, noise) - Normal(0.0, 1.0).log_prob(z).sum(2)


def _weights_of_the_kl(model, x, noise):
    mean, log_var = model.encode(x)
    z = mean + (0.5 * log_var).exp() * noise
    nll = torch.stack([model.nll(x, draw) for draw in z])
    return -nll - library.kl_to_standard_normal(mean, log_var)


def _weights_sign(model, x, noise):
    return -library.log_weights(model, x, noise)


def _weights_first_draw(model, x, noise):
    return library.log_weights(model, x, noise[:1].expand_as(noise))


quiz(
    "vae/log-weights",
    points=4,
    minutes=7,
    equation="2.8",
    title="The weights themselves",
    reference=library.log_weights,
    library=(library.log_evidence,),
    cases=_several_draws,
    any_device=False,
    misconceptions=[
        Misconception(
            "not divided by q",
            _weights_without_q,
            "ln q(z|x) is missing: without it codes that q proposes often are counted often.",
        ),
        Misconception("the prior forgotten", _weights_without_prior, "ln p(z) is missing from the numerator."),
        Misconception(
            "the KL for its draw",
            _weights_of_the_kl,
            "You subtract the KL, which is the *average* of ln q − ln p(z). Here each draw has its own difference: the "
            "mean of logarithms and the logarithm of a mean are not the same.",
        ),
        Misconception("the sign", _weights_sign, "ln w = ln p(x|z) + ln p(z) − ln q(z|x); yours has all signs turned."),
        Misconception(
            "one draw for all", _weights_first_draw, "Use all k rows of the noise: k different codes per image."
        ),
    ],
    hints=[
        "ln w = ln p(x|z) + ln p(z) − ln q(z|x), for k codes of each of b images. Which of the three needs "
        "the network?",
        "`mean` and `log_var` are (b, d), the noise (k, b, d): they broadcast to k codes per image.",
        "`torch.distributions.Normal(mean, sigma).log_prob(z).sum(-1)` is ln q, (k, b), and `Normal(0.0, "
        "1.0)` serves for "
        "the prior. `model.nll` takes one code per image: one draw at a time, or repeat the images.",
        "ln p(x|z): `-torch.stack([model.nll(x, draw) for draw in z])`, where `z = mean + sigma * noise`.",
    ],
    passed="""
    Averaged over draws these are the ELBO; averaged *inside* the logarithm they are a tighter bound, for the price of K
    decoded images.
    """,
    explanation="""
    The two normalising constants cancel, and (z − mean)/σ is the noise itself, so ln p(z) − ln q(z|x) is
    ½ Σ (ε² + ln σ² − z²). The library decodes all k · b codes in one call.
    """,
)

# ------------------------------------------------------------------------------------------------- 2.9 · the mystery

concept(
    "vae/suspects",
    title="Which suspect would you question first?",
    minutes=1.5,
    points=1,
    question="""
    Copies crisper, samples junk, from one decoder and one training. Four suspects: which fits *both* rows?
    """,
    options={
        "a": Option(
            "The codes of images don't lie where the prior draws, so the decoder is asked by strangers.",
            "It fits: copies go through codes the decoder was trained on, samples through others. Whether it is true "
            "can be measured: look at the codes.",
            right=True,
        ),
        "b": Option(
            "The decoder is too weak or was trained too briefly to draw anything sharper than this.",
            "It has just drawn the copies, with the same weights. A weak decoder would spoil both rows.",
        ),
        "c": Option(
            "The data have no smooth modes: between a shoe and a shirt there is nothing to be drawn.",
            "That would spoil a few samples, those in between. And with 2 latents it didn't happen.",
        ),
        "d": Option(
            "The prior is the wrong shape: in 100 dimensions its draws lie on a shell, not at its centre.",
            "They do, at radius 10, for every model with 100 latents. A decoder that was trained on such codes "
            "wouldn't mind.",
        ),
    },
)


def _loss_batches(rng: torch.Generator) -> list[Case]:
    cases = []
    for case in _losses(rng):
        args = {name: case.args[name] for name in ("model", "x", "generator")}
        args = {"model": args["model"], "x": args["x"], "y": torch.zeros(len(args["x"]), dtype=torch.long)} | args
        label = case.label.partition(", β")[0]
        cases.append(Case(args, gradients=("model",), label=label))
    return cases


def _right_loss(model, x, y, generator):
    noise = torch.randn(len(x), model.latent, generator=generator, device=x.device)
    reconstruction, kl = library.elbo(model, x, noise)
    return (reconstruction + kl).mean(), {"reconstruction": reconstruction.mean(), "kl": kl.mean()}


def _loss_as_handed_out(model, x, y, generator):
    noise = torch.randn(len(x), model.latent, generator=generator, device=x.device)
    reconstruction, kl = library.elbo(model, x, noise)
    kl = kl / model.latent
    return (reconstruction + kl).mean(), {"reconstruction": reconstruction.mean(), "kl": kl.mean()}


def _loss_both_averaged(model, x, y, generator):
    noise = torch.randn(len(x), model.latent, generator=generator, device=x.device)
    reconstruction, kl = library.elbo(model, x, noise)
    reconstruction, kl = reconstruction / x[0].numel(), kl / model.latent
    return (reconstruction + kl).mean(), {"reconstruction": reconstruction.mean(), "kl": kl.mean()}


def _loss_only_reported(model, x, y, generator):
    noise = torch.randn(len(x), model.latent, generator=generator, device=x.device)
    reconstruction, kl = library.elbo(model, x, noise)
    return (reconstruction + kl / model.latent).mean(), {"reconstruction": reconstruction.mean(), "kl": kl.mean()}


def _loss_over_images(model, x, y, generator):
    value, terms = _right_loss(model, x, y, generator)
    return value * len(x), terms


quiz(
    "vae/tutorial-loss",
    points=4,
    minutes=6,
    equation="2.1",
    title="Somebody else's loss",
    bug_hunt=True,
    reference=_right_loss,
    library=(library.negative_elbo, library.Elbo.loss, library.Elbo.bound),
    answered_by=("vae/loss",),
    cases=_loss_batches,
    misconceptions=[
        Misconception(
            "as it was handed out",
            _loss_as_handed_out,
            "Unchanged in effect. Write beside each line the shape of what it makes, and beside each reduction "
            "how many "
            "numbers go in and whether they are added or averaged.",
        ),
        Misconception(
            "both averaged",
            _loss_both_averaged,
            "Averaging both doesn't restore the balance: one is divided by the number of pixels, the other by the "
            "number of latents. (2.1) has two sums.",
        ),
        Misconception(
            "only the report repaired",
            _loss_only_reported,
            "The KL that is written down is right now, the one that is minimised isn't.",
        ),
        Misconception(
            "summed over the images too",
            _loss_over_images,
            "Over latents and pixels: sums. Over the images of the batch the mean is right.",
        ),
    ],
    hints=[
        "Compare the KL that this loss reports with the KL that your own function finds for the same model.",
        "The two differ by a factor. Which number of this model is as large as that factor?",
        "Every pixel's cost goes into the loss with weight 1. With which weight does the KL of one latent go in?",
        "(2.4) is a *sum* over latents: `kl = per_latent.sum(dim=1)`.",
    ],
    passed="""
    One word, `mean` for `sum`: the KL was divided by the number of latents, and it was reported divided too, so that
    the printed numbers looked healthy.
    """,
    explanation="""
    `per_latent.mean(dim=1)` is the KL divided by d, so with 100 latents the KL weighed 1/100. The encoder could buy
    precision almost for free, and codes went where the prior never draws. With 2 latents the weight is 1/2, and the
    harm is small. The reported KL was divided as well, which is how the mistake survives a look at the training curves.
    """,
)

concept(
    "vae/what-it-did",
    title="What it did to the samples",
    minutes=1.5,
    equation="2.9",
    question="""
    The KL had a hundredth of its weight. Which chain of events led from there to the junk?
    """,
    options={
        "a": Option(
            "Codes became vague, so that neighbours overlapped, and the decoder averaged over ever more images.",
            "That is the other side: a KL that weighs too *much* makes codes vague and everything blurred.",
        ),
        "b": Option(
            "Gradients of the KL became tiny, so that the encoder stopped learning while the decoder overfitted.",
            "The encoder learns from the reconstruction as well, and learned a lot: its codes carry hundreds of nats.",
        ),
        "c": Option(
            "Codes collapsed onto the prior, so that the decoder ignored them and drew one average image.",
            "Collapse is what a KL of too *large* a weight does. The copies show that the decoder listens closely.",
        ),
        "d": Option(
            "Codes became precise and went far out, so that most of where the prior draws was never visited.",
            "Right. Precision and distance cost next to nothing, so the encoder bought both. The decoder learned from "
            "those codes, and the prior draws others.",
            right=True,
        ),
    },
)


def _features(rng: torch.Generator) -> list[Case]:
    cases = []
    for n, m, d in ((40, 30, 3), (25, 60, 6), (50, 50, 2)):
        mixing = torch.randn(2, d, d, generator=rng, dtype=torch.float64) + torch.eye(d, dtype=torch.float64)
        a = torch.randn(n, d, generator=rng, dtype=torch.float64) @ mixing[0] + 1
        b = torch.randn(m, d, generator=rng, dtype=torch.float64) @ mixing[1] - 0.5
        cases.append(Case({"a": a, "b": b}))
    return [*cases, Case({"a": cases[0].args["a"].float(), "b": cases[0].args["b"].float()})]


def _moments(a, b):
    cov_a, cov_b = torch.cov(a.double().T), torch.cov(b.double().T)
    return (a.double().mean(0) - b.double().mean(0)).square().sum(), cov_a, cov_b


def _trace_of_root(cov):
    return torch.linalg.eigvals(cov).sqrt().real.sum()


def _frechet_elementwise(a, b):
    apart, cov_a, cov_b = _moments(a, b)
    return (apart + (cov_a + cov_b - 2 * (cov_a @ cov_b).abs().sqrt()).trace()).item()


def _frechet_only_means(a, b):
    return _moments(a, b)[0].item()


def _frechet_diagonal(a, b):
    apart, cov_a, cov_b = _moments(a, b)
    return (apart + (cov_a.diagonal().sqrt() - cov_b.diagonal().sqrt()).square().sum()).item()


def _frechet_one_root(a, b):
    apart, cov_a, cov_b = _moments(a, b)
    return (apart + cov_a.trace() + cov_b.trace() - _trace_of_root(cov_a @ cov_b)).item()


def _frechet_root_of_all(a, b):
    return metrics.frechet_distance(a, b) ** 0.5


def _frechet_mean_not_squared(a, b):
    apart, _, _ = _moments(a, b)
    return metrics.frechet_distance(a, b) - apart.item() + apart.sqrt().item()


quiz(
    "vae/frechet",
    points=4,
    minutes=5,
    equation="2.10",
    title="A number for the quality of samples",
    reference=metrics.frechet_distance,
    cases=_features,
    any_device=False,
    tolerance=1e-4,
    misconceptions=[
        Misconception(
            "a root of each entry",
            _frechet_elementwise,
            "The root of a *matrix* is not the root of its entries: it is the matrix that, times itself, gives ΣₐΣ_b.",
        ),
        Misconception(
            "means only", _frechet_only_means, "Two sets with one mean may look quite different: the covariances count."
        ),
        Misconception(
            "only the diagonals",
            _frechet_diagonal,
            "Variances alone don't tell how features vary *together*. The matrix root takes all of Σ.",
        ),
        Misconception("the 2 forgotten", _frechet_one_root, "The trace of the root is subtracted twice."),
        Misconception("d for d²", _frechet_root_of_all, "d² is what everybody quotes; you took the root of it."),
        Misconception(
            "distance of the means not squared", _frechet_mean_not_squared, "‖mₐ − m_b‖² is a *squared* distance."
        ),
    ],
    hints=[
        "Two means, two covariances, one trace. Only the matrix root needs thought, and of it only the trace.",
        "The trace of a matrix is the sum of its eigenvalues. What are the eigenvalues of the root of a matrix?",
        "`torch.linalg.eigvals(cov_a @ cov_b)` gives complex numbers whose imaginary parts are rounding errors. Their "
        "roots, added up, are the trace.",
        "`cross = torch.linalg.eigvals(cov_a @ cov_b).sqrt().real.sum()`, in double precision: `a.double()`. "
        "`torch.cov(a.T)` is the covariance, and `.item()` makes a number.",
    ],
    passed="""
    You have written FID. All that is missing to the famous number is the famous network; with other features it is
    another measure, as the next table shows.
    """,
    explanation="""
    ΣₐΣ_b isn't symmetric, but it has the eigenvalues of the symmetric Σₐ^½ Σ_b Σₐ^½, which are not negative. Features
    come in float32; in double precision small eigenvalues keep their digits.
    """,
)

concept(
    "vae/nobody-noticed",
    title="Why nobody noticed",
    minutes=1.5,
    equation="2.9",
    question="""
    The same line was wrong in the tutorial's model with 2 latents. Why did its samples look fine there?
    """,
    options={
        "a": Option(
            "With 2 latents the sum and the mean agree, so that the loss is the bound.",
            "They agree with *one* latent. With 2, the mean is half of the sum.",
        ),
        "b": Option(
            "With 2 latents the weight is ½, and a code of two can't go very far astray.",
            "Right. The mistake grows with the very number that was meant to improve the model.",
            right=True,
        ),
        "c": Option(
            "With 2 latents no KL is needed, as a plane is filled by codes of any kind.",
            "Notebook 01 had 2 latents and no KL, and its map had empty land and far-away codes.",
        ),
        "d": Option(
            "With 2 latents the prior is drawn from exactly, with 100 it is approximated.",
            "Drawing from N(0, I) is exact in any dimension. What matters is whether the decoder knows those codes.",
        ),
    },
)

concept(
    "vae/why-the-kl",
    title="Then why the KL?",
    minutes=1.5,
    question="""
    With a Gaussian fitted to its own codes, the tutorial's model draws images that lie nearer to the data than those
    that the repaired model draws from its prior. Which conclusion does the table support?
    """,
    options={
        "a": Option(
            "The KL can be left out: a Gaussian fitted afterwards does for any code what it does.",
            "The table shows a KL of weight 1/100, not 0, and one kind of code. Notebook 01 has codes without "
            "any KL, and "
            "a Gaussian fitted to them.",
        ),
        "b": Option(
            "The tutorial's loss was right: measured by its samples, it trains the better VAE.",
            "A VAE draws from its prior; that is the story that its loss is derived from. There the tutorial's "
            "model is "
            "the farther one of the two. What does well here is another model, with a prior made afterwards.",
        ),
        "c": Option(
            "A second model, of the codes, can take the place of a prior that a weak KL didn't keep.",
            "Right. It is a model in two stages: an autoencoder with fine codes, then a density of these codes. Put a "
            "diffusion model for the Gaussian, and it is called latent diffusion.",
            right=True,
        ),
        "d": Option(
            "The distance d² is blind to junk: to it, codes from the prior and fitted ones look alike.",
            "It puts the tutorial's model from the prior far behind the same model with fitted codes: it sees "
            "the junk.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 2.10 · silent latent


def _means_of_latents(rng: torch.Generator) -> list[Case]:
    scales = torch.tensor([0.0, 0.03, 0.08, 0.13, 0.3, 1.0])
    cases = []
    for n, threshold in ((200, 0.01), (60, 0.01), (150, 0.05)):
        z = torch.randn(n, 6, generator=rng)
        means = scales * (z - z.mean(0)) / z.std(0) + torch.tensor([3.0, 0.0, -2.0, 1.0, 0.0, 5.0])
        cases.append(Case({"means": means, "threshold": threshold}))
    return cases


def _active_by_deviation(means, threshold=0.01):
    return means.std(0) > threshold


def _active_by_size(means, threshold=0.01):
    return means.square().mean(0) > threshold


def _active_over_latents(means, threshold=0.01):
    return means.var(1) > threshold


def _active_counted(means, threshold=0.01):
    return (means.var(0) > threshold).sum()


quiz(
    "vae/active",
    points=2,
    minutes=3,
    equation="2.11",
    title="Who speaks?",
    reference=library.active_units,
    cases=_means_of_latents,
    misconceptions=[
        Misconception(
            "the standard deviation",
            _active_by_deviation,
            "(2.11) compares the *variance* with 0.01; you took its root.",
        ),
        Misconception(
            "size instead of variation",
            _active_by_size,
            "A latent that is always 3 says nothing about any image. Take its mean over images away: a variance.",
        ),
        Misconception(
            "variance over latents",
            _active_over_latents,
            "The variance is taken over *images*, dim 0, for each latent by itself.",
        ),
        Misconception("only the count", _active_counted, "Return one truth value per latent; counting comes later."),
    ],
    hints=[
        "For each latent by itself: does its posterior mean differ from image to image?",
        "Rows are images, columns latents. Along which axis does one look to compare images?",
        "A variance over dim 0 gives one number per latent. Compare it with the threshold.",
        "means.var(dim=0) > threshold",
    ],
    passed="""
    A latent that answers every image alike is silent. It costs no nats, and a decoder soon stops listening to it.
    """,
    explanation="""
    The threshold is a convention (Burda et al. found that the variances fall into two clear groups). The full spectrum
    of variances, or of KL per latent, says more than the count.
    """,
)

concept(
    "vae/silent-latent",
    title="A latent like the prior",
    minutes=1.5,
    equation="2.11",
    question="""
    For one latent, $q(z_j\\mid x)=\\mathcal N(0,1)$ for *every* image. What does it cost, and what does it do?
    """,
    options={
        "a": Option(
            "It costs nothing and says nothing; the decoder learns to ignore it.",
            "Right. One such latent is thrift; all of them, and the model has collapsed.",
            right=True,
        ),
        "b": Option(
            "It costs a nat or more, as its draws add noise to the decoder's input.",
            "Its KL is exactly 0 by (2.4), and a trained decoder has learned not to listen to it.",
        ),
        "c": Option(
            "It costs nothing and matches the prior: the ideal, for every latent.",
            "It matches the prior for every image alike, so it carries no information about any of them.",
        ),
        "d": Option(
            "It counts as active: the variance of its draws is 1, far above 0.",
            "What counts is how much its *mean* moves from image to image, (2.11) below. This one's is always 0.",
        ),
    },
)

# ------------------------------------------------------------------------------------------------- 2.11 · bits


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
        "The probability of one bin is about density × Δ, and a cost is minus a logarithm. What does Δ add "
        "per dimension?",
        "One nat is 1/ln 2 bits: divide by dimensions · math.log(2).",
        "… − math.log2(bin_width), which adds 6.99 bits for bins of 2/255.",
    ],
    passed="""
    Bits per dimension can be compared between papers, because the width of a bin is in them. Forget Δ, and the number
    depends on the unit of a pixel.
    """,
    explanation="""
    A sanity check that catches every slip: a uniform density over 256 bins of width 2/255 has height 1/(256 · 2/255),
    and must come out as exactly 8 bits, whatever the width of the range.
    """,
)
