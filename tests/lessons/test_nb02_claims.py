"""What notebook 02 defines by hand is what the library computes."""

import math

import masters
import pytest
import torch

from classroom.quizzes import declarations
from classroom.quizzes.judging import judge
from classroom.quizzes.running import run
from course_utils.models import vae as library
from course_utils.models.autoencoder import bernoulli_nll
from lessons import nb02_mutants
from lessons.answers import slip


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("02")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gaussian_kl(notebook):
    mean_q, mean_p = torch.randn(2, 4, 3, generator=rng(), dtype=torch.float64)
    roots = torch.randn(2, 4, 3, 3, generator=rng(1), dtype=torch.float64)
    cov_q, cov_p = roots @ roots.mT + 0.5 * torch.eye(3).double()
    arguments = (mean_q, cov_q, mean_p, cov_p)
    torch.testing.assert_close(notebook["gaussian_kl"](*arguments), library.gaussian_kl(*arguments))


@pytest.mark.parametrize("name", ["kl_to_standard_normal", "reparameterize"])
def test_functions_of_mean_and_log_var(notebook, name):
    parts = torch.randn(2 + (name == "reparameterize"), 5, 4, generator=rng()).unbind()
    torch.testing.assert_close(notebook[name](*parts), getattr(library, name)(*parts))


def test_elbo_and_the_class(notebook):
    theirs = library.VAE((1, 8, 12), 3, widths=(4, 8))
    ours = notebook["BernoulliVAE"]((1, 8, 12), 3, widths=(4, 8))
    ours.load_state_dict(theirs.state_dict())  # the same parts under the same names
    x, noise = 2 * torch.rand(4, 1, 8, 12, generator=rng()) - 1, torch.randn(4, 3, generator=rng(1))
    for one, other in zip(notebook["elbo"](ours, x, noise), library.elbo(theirs, x, noise)):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(ours.decode(noise), theirs.decode(noise))


def test_the_class_starts_like_the_librarys(notebook):
    torch.manual_seed(0)
    ours = notebook["BernoulliVAE"]((1, 8, 8), 2)
    torch.manual_seed(0)
    theirs = library.VAE((1, 8, 8), 2)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters()))


def test_the_training_loss_is_the_librarys(notebook):
    model = library.VAE((1, 8, 8), 2)
    x = 2 * torch.rand(4, 1, 8, 8, generator=rng()) - 1
    loss, terms = notebook["bound_loss"](0.3)(model, x, None, rng(2))
    expected, expected_terms = library.negative_elbo(0.3)(model, x, None, rng(2))
    torch.testing.assert_close(loss, expected)
    assert terms.keys() == expected_terms.keys()


def test_iwae_and_bits(notebook):
    weights = torch.randn(6, 3, generator=rng()) * 5 - 300
    torch.testing.assert_close(notebook["iwae_bound"](weights), library.iwae_bound(weights))
    nll = torch.tensor([-200.0, 500.0])
    ours = notebook["bits_per_dimension"](nll, 784, 2 / 255)
    torch.testing.assert_close(ours, library.bits_per_dimension(nll, 784))


def test_mended_loss_is_the_negative_elbo(notebook):
    x, logits = torch.rand(3, 1, 5, 7, generator=rng()) * 2 - 1, torch.randn(3, 1, 5, 7, generator=rng(1))
    mean, log_var = torch.randn(2, 3, 10, generator=rng(2))
    expected = library.Elbo(bernoulli_nll(logits, x), library.kl_to_standard_normal(mean, log_var)).loss()
    torch.testing.assert_close(notebook["published_loss"](x, logits, mean, log_var), expected)


def test_tiles_are_equal_shares_of_the_prior(notebook):
    grid = notebook["normal_grid"](4)
    shares = 0.5 * (1 + torch.erf(grid / math.sqrt(2)))
    torch.testing.assert_close(shares, torch.tensor([0.125, 0.375, 0.625, 0.875]))


def test_naive_estimate_is_right_with_one_latent_and_many_draws(notebook):
    bench = notebook["linear_model"](1)
    x, _ = bench.sample(1, rng())
    estimate, effective = notebook["naive_log_evidence"](bench, x, 300_000, rng(1))
    assert estimate == pytest.approx(bench.log_evidence(x).item(), abs=0.1)
    assert 1 <= effective <= 300_000


def test_who_reads_log_var_as_log_sigma_is_told_so_on_either_road():
    quiz = declarations.get("vae/kl")
    cases = quiz.draw_cases()
    for answer in (nb02_mutants.kl_normal_of_exp, slip("vae/kl", "log σ read as log-variance")):
        verdict = judge(quiz, cases, run(answer, cases))
        assert verdict.misconception == "log σ read as log-variance"
        assert "2 · log_var" not in verdict.details[0], "nobody wrote that: it is what becomes of the variance"
