"""What notebook 02 defines by hand is what the library computes."""

import math
import re

import masters
import pytest
import torch

from classroom.quizzes import declarations
from classroom.quizzes.judging import judge
from classroom.quizzes.running import run
from course_utils.metrics import frechet_distance
from course_utils.models import vae as library
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


def test_elbo(notebook):
    model = library.VAE((1, 8, 12), 3, widths=(4, 8))
    x, noise = 2 * torch.rand(4, 1, 8, 12, generator=rng()) - 1, torch.randn(4, 3, generator=rng(1))
    for one, other in zip(notebook["elbo"](model, x, noise), library.elbo(model, x, noise)):
        torch.testing.assert_close(one, other)


def weights_of(theirs: torch.nn.Module, ours: torch.nn.Module) -> None:
    """The library's weights into the notebook's layers, which stand in the same order."""
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        one.data.copy_(other.data)


def test_the_class_is_the_librarys(notebook):
    shape = (1, 8, 12)
    ours, theirs = notebook["VAE"](shape, 3, width=4), library.VAE(shape, 3, widths=(4, 4))
    weights_of(theirs, ours)
    x, z = 2 * torch.rand(4, *shape, generator=rng()) - 1, torch.randn(4, 3, generator=rng(1))
    for one, other in zip(ours.encode(x), theirs.encode(x)):
        torch.testing.assert_close(one, other)
    for name, arguments in (("logits", (z,)), ("decode", (z,)), ("nll", (x, z)), ("sample", (5, rng(2)))):
        expected = getattr(theirs, name)(*(rng(2) if name == "sample" and k else a for k, a in enumerate(arguments)))
        torch.testing.assert_close(getattr(ours, name)(*arguments), expected)


def test_the_class_starts_like_the_librarys(notebook):
    torch.manual_seed(0)
    ours = notebook["VAE"]((1, 8, 8), 2, width=4)
    torch.manual_seed(0)
    theirs = library.VAE((1, 8, 8), 2, widths=(4, 4))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters()))


def test_the_training_loss_is_the_librarys(notebook):
    model = library.VAE((1, 8, 8), 2)
    x = 2 * torch.rand(4, 1, 8, 8, generator=rng()) - 1
    for beta in (1.0, 0.3):
        loss, terms = notebook["negative_elbo"](beta)(model, x, None, rng(2))
        expected, expected_terms = library.negative_elbo(beta)(model, x, None, rng(2))
        torch.testing.assert_close(loss, expected)
        assert terms.keys() == expected_terms.keys()


def test_the_model_that_is_shown_is_the_one_that_is_trained():
    source = masters.path("02").read_text(encoding="utf-8")
    imports = [line for line in source.splitlines() if line.startswith(("from course_utils", "import course_utils"))]
    written = "VAE elbo gaussian_nll kl_to_standard_normal reparameterize log_weights iwae_bound frechet_distance"
    for name in f"{written} active_units score_function_gradient reparameterized_gradient negative_elbo".split():
        assert not any(re.search(rf"\b{name}\b", line) for line in imports), f"{name} is imported"
    assert "(make or VAE)(train.shape, latent)" in source


def test_iwae_and_bits(notebook):
    weights = torch.randn(6, 3, generator=rng()) * 5 - 300
    torch.testing.assert_close(notebook["iwae_bound"](weights), library.iwae_bound(weights))
    nll = torch.tensor([-200.0, 500.0])
    ours = notebook["bits_per_dimension"](nll, 784, 2 / 255)
    torch.testing.assert_close(ours, library.bits_per_dimension(nll, 784))


def test_the_tutorials_loss_is_what_is_handed_out_and_repaired_it_is_the_negative_elbo(notebook):
    model, x = library.VAE((1, 8, 8), 10), 2 * torch.rand(3, 1, 8, 8, generator=rng()) - 1
    for loss, expected in (
        (notebook["their_loss"], library.negative_elbo()),
        (handed_out("their_loss"), library.tutorial_loss),
    ):
        value, terms = loss(model, x, None, rng(3))
        right, right_terms = expected(model, x, None, rng(3))
        torch.testing.assert_close(value, right)
        for name in ("reconstruction", "kl"):
            torch.testing.assert_close(terms[name], right_terms[name])


def handed_out(name: str):
    """The function as the student finds it."""
    source = masters.path("02").read_text(encoding="utf-8")
    cell = next(part for part in source.split("# %%") if f"def {name}(" in part)
    head, rest = cell.split("    ### BEGIN SOLUTION\n")
    body = re.sub(r"^    # ?", "    ", rest.split("    ### BEGIN HANDED OUT\n")[1].split("    ### END")[0], flags=re.M)
    found = masters.namespace("02")
    exec(head[head.index("def ") :] + body, found)
    return found[name]


def test_the_bench_by_hand_is_the_librarys(notebook):
    bench = linear_model(3)
    x, _ = bench.sample(4, rng())
    torch.testing.assert_close(notebook["log_evidence"](bench, x), bench.log_evidence(x))
    mean, cov = notebook["posterior"](bench, x)
    for one, other in zip((mean, cov), bench.posterior(x)):
        torch.testing.assert_close(one, other)
    q = 0.5 * mean, 0.5 * (cov + torch.eye(3).double())
    for one, other in zip(notebook["exact_bound"](bench, x, *q), bench.elbo(x, *q)):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(notebook["gap"](bench, x, *q), bench.gap(x, *q))
    reconstruction, kl = notebook["exact_bound"](bench, x, *q)
    both = notebook["gap"](bench, x, *q) - reconstruction - kl
    torch.testing.assert_close(both, notebook["log_evidence"](bench, x))


def linear_model(latents: int) -> library.LinearGaussian:
    weight = torch.randn(30, latents, generator=rng(1), dtype=torch.float64) / math.sqrt(latents)
    return library.LinearGaussian(weight, torch.randn(30, generator=rng(2), dtype=torch.float64), 0.3)


def test_naive_estimate_is_right_with_one_latent_and_many_draws(notebook):
    bench = linear_model(1)
    x, _ = bench.sample(1, rng())
    estimate, effective = notebook["blind"](bench, x, 300_000, rng(1))
    assert estimate == pytest.approx(bench.log_evidence(x).item(), abs=0.1)
    assert 1 <= effective <= 300_000


def test_estimators_likelihoods_and_distances(notebook):
    def f(z):
        return -(z - 1).square().sum(1)

    mean, log_var, noise = *torch.randn(2, 3, generator=rng()), torch.randn(6, 3, generator=rng(1))
    for name in ("score_function_gradient", "reparameterized_gradient"):
        expected = getattr(library, name)(f, mean, log_var, noise)
        torch.testing.assert_close(notebook[name](f, mean, log_var, noise), expected)
    x, m = torch.randn(2, 5, 1, 4, 6, generator=rng(2))
    log_sigma = torch.tensor(-0.4)
    torch.testing.assert_close(notebook["gaussian_nll"](x, m, log_sigma), library.gaussian_nll(x, m, log_sigma))
    best = notebook["best_log_sigma"](x, m)
    around = [library.gaussian_nll(x, m, best + step).sum() for step in (-0.01, 0.0, 0.01)]
    assert around[1] < around[0] and around[1] < around[2]
    a, b = torch.randn(2, 60, 5, generator=rng(3))
    assert notebook["frechet_distance"](a, 2 * b + 1) == pytest.approx(frechet_distance(a, 2 * b + 1), rel=1e-6)
    assert torch.equal(notebook["active_units"](0.1 * a), library.active_units(0.1 * a))


def test_log_weights(notebook):
    model, x = library.VAE((1, 8, 8), 3), 2 * torch.rand(2, 1, 8, 8, generator=rng()) - 1
    noise = torch.randn(4, 2, 3, generator=rng(1))
    torch.testing.assert_close(notebook["log_weights"](model, x, noise), library.log_weights(model, x, noise))


def test_the_right_option_of_a_question_is_not_told_by_its_length():
    lengths = {"longest": 0, "shortest": 0}
    questions = [q for q in declarations.declared_in("classroom.lessons.nb02").values() if hasattr(q, "options")]
    for question in questions:
        sizes = {letter: len(option.text) for letter, option in question.options.items()}
        assert max(sizes.values()) <= 1.4 * min(sizes.values()), question.id
        lengths["longest"] += sizes[question.answer] == max(sizes.values())
        lengths["shortest"] += sizes[question.answer] == min(sizes.values())
    assert all(count <= len(questions) / 3 for count in lengths.values()), lengths


def test_who_reads_log_var_as_log_sigma_is_told_so_on_either_road():
    quiz = declarations.get("vae/kl")
    cases = quiz.draw_cases()
    for answer in (nb02_mutants.kl_normal_of_exp, slip("vae/kl", "log σ read as log-variance")):
        verdict = judge(quiz, cases, run(answer, cases))
        assert verdict.misconception == "log σ read as log-variance"
        assert "2 · log_var" not in verdict.details[0], "nobody wrote that: it is what becomes of the variance"
