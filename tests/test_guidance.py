"""Guidance: both conventions, both spaces, and the joint score where it is known exactly."""

import pytest
import torch
from test_sampling import UNEVEN, bare_copy, network, normal, rng

from course_utils.data import GaussianMixture
from course_utils.diffusion import (
    Schedule,
    cosine_schedule,
    predict_noise,
    predict_x0,
    prediction_target,
    zero_terminal_snr,
)
from course_utils.sampling import cfg, classifier_guided, clipped, ddim, guidance, guidance_interval, last, score_of

NULL = 3
SCHEDULE = cosine_schedule(100)


def labelled(x_t, t, y):
    """A network that uses its label, and t, and is not linear."""
    return (x_t + 0.2 * y.view(-1, 1, 1, 1) + t.view(-1, 1, 1, 1) / 100).sin()


X, T, Y = normal(3, 1, 4, 5), torch.tensor([5, 50, 100]), torch.tensor([0, 1, 2])
ANY = torch.full((3,), NULL)


@pytest.mark.equation("7.9")
def test_w_of_0_is_the_model_without_labels_and_1_the_conditional_one():
    assert torch.equal(cfg(labelled, 0.0, NULL)(X, T, Y), labelled(X, T, ANY))
    assert torch.equal(cfg(labelled, 1.0, NULL)(X, T, Y), labelled(X, T, Y))
    for w, expected in ((1e-9, labelled(X, T, ANY)), (1 + 1e-9, labelled(X, T, Y))):  # and nothing jumps there
        torch.testing.assert_close(cfg(labelled, w, NULL)(X, T, Y), expected, rtol=0, atol=1e-8)


@pytest.mark.equation("7.10")
@pytest.mark.parametrize("w", [-1.0, 0.5, 2.0, 7.5])
def test_the_other_convention_counts_from_the_conditional_model(w):
    """Ho and Salimans: (1 + w') · conditional − w' · unconditional, with w' = w − 1."""
    other = w - 1
    expected = (1 + other) * labelled(X, T, Y) - other * labelled(X, T, ANY)
    torch.testing.assert_close(cfg(labelled, w, NULL)(X, T, Y), expected)


@pytest.mark.parametrize("prediction_type", ["noise", "v"])
def test_guiding_in_the_guess_is_guiding_in_what_the_network_predicts(prediction_type):
    """Both are straight lines in x̂_0 with the same coefficients for both guesses, which w leaves alone."""

    def said(x0):
        return prediction_target(SCHEDULE, prediction_type, x0, predict_noise(SCHEDULE, x0, X, T), T)

    of_any, of_y = said(labelled(X, T, ANY)), said(labelled(X, T, Y))
    in_that = predict_x0(SCHEDULE, prediction_type, of_any + 4 * (of_y - of_any), X, T)
    torch.testing.assert_close(cfg(labelled, 4.0, NULL)(X, T, Y), in_that, rtol=1e-7, atol=1e-7)


def test_clipping_comes_after():
    """Guidance leaves the range of images; clipped before, it still does."""
    wide = cfg(clipped(labelled), 6.0, NULL)(X, T, Y)
    assert wide.abs().max() > 1
    right = clipped(cfg(labelled, 6.0, NULL))(X, T, Y)
    assert right.abs().max() <= 1
    of_any, of_y = labelled(X, T, ANY), labelled(X, T, Y)
    torch.testing.assert_close(right, (of_any + 6 * (of_y - of_any)).clamp(-1, 1))


@pytest.mark.parametrize("w, asked", [(0.0, [3]), (1.0, [3]), (1.5, [6])])
def test_one_call_of_the_network(w, asked):
    calls = []

    def counted(x, t, y):
        calls.append(len(x))
        return labelled(x, t, y)

    cfg(counted, w, NULL)(X, T, Y)
    assert calls == asked


# ------------------------------------------------------------------------------------------ against the exact joint


def posterior_of(schedule: Schedule):
    """ln p(component | x_t) of the mixture: the perfect noisy classifier."""

    def log_p(x, t):
        return torch.cat([UNEVEN.diffused(schedule.alpha_bar[s])._joint(row[None])[0] for row, s in zip(x, t)])

    return log_p


@pytest.mark.equation("7.5")
def test_a_perfect_classifier_at_scale_1_leads_to_the_conditional_denoiser():
    """∇ ln p(x_t) + ∇ ln p(y|x_t) = ∇ ln p(x_t|y), and the mixture knows all three."""
    x, t, y = normal(6, 2, seed=2), torch.tensor([1, 20, 40, 60, 80, 95]), torch.tensor([0, 1, 2, 0, 1, 2])
    denoise = UNEVEN.denoiser(SCHEDULE)
    ours = classifier_guided(denoise, SCHEDULE, posterior_of(SCHEDULE))(x, t, y)
    torch.testing.assert_close(ours, denoise(x, t, y), rtol=1e-6, atol=1e-6)


@pytest.mark.equation("7.5")
@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_the_scale_multiplies_the_classifiers_part_of_the_score(scale):
    x, t, y = normal(4, 2, seed=2), torch.tensor([10, 20, 40, 60]), torch.tensor([0, 1, 2, 0])
    denoise = UNEVEN.denoiser(SCHEDULE)
    guided_score = score_of(classifier_guided(denoise, SCHEDULE, posterior_of(SCHEDULE), scale), SCHEDULE)(x, t, y)
    plain, conditional = score_of(denoise, SCHEDULE)(x, t), score_of(denoise, SCHEDULE)(x, t, y)
    torch.testing.assert_close(guided_score, plain + scale * (conditional - plain), rtol=1e-6, atol=1e-6)


@pytest.mark.equation("7.7")
@pytest.mark.equation("7.8")
def test_the_guided_noise_is_the_guided_guess_in_other_words():
    """A classifier with logits (0, −|x|²), whose gradient is found with pencil and paper."""

    def log_p(x, t):
        return torch.stack([torch.zeros(len(x), dtype=x.dtype), -x.flatten(1).square().sum(1)], 1)

    scale, y = 2.5, torch.tensor([1, 1, 0])
    x0 = network(X, T)
    p_other = log_p(X, T).softmax(1).gather(1, 1 - y[:, None])[:, :, None, None]
    uphill = torch.where(y == 1, -1.0, 1.0)[:, None, None, None] * 2 * X * p_other  # ln p_y' = ± p_other · logit'
    noise = predict_noise(SCHEDULE, x0, X, T) - SCHEDULE.rates(T, X)[1] * scale * uphill
    ours = classifier_guided(network, SCHEDULE, log_p, scale)(X, T, y)
    torch.testing.assert_close(ours, predict_x0(SCHEDULE, "noise", noise, X, T), rtol=1e-6, atol=1e-6)


def test_the_classifiers_gradient_is_found_without_gradients_all_around_and_each_image_has_its_own():
    weight = torch.ones((), requires_grad=True)

    def log_p(x, t):
        return torch.stack([weight * x.flatten(1).sum(1), -x.flatten(1).square().sum(1)], 1)

    y = torch.tensor([0, 1, 0])
    ours = classifier_guided(lambda x, t, y=None: 0 * x, SCHEDULE, log_p)
    with torch.no_grad():
        together = ours(X, T, y)
        alone = torch.cat([ours(X[k : k + 1], T[k : k + 1], y[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(together, alone)
    assert not together.requires_grad and weight.grad is None and together.abs().max() > 0


def test_guided_walks_come_nearer_to_the_class_as_w_grows():
    """w = 1 gives the class's own spread; more of it leaves the overlap with the others."""
    near = GaussianMixture(torch.tensor([[-0.5, 0.0], [0.5, 0.0]]), 0.4)
    denoise, y = near.denoiser(SCHEDULE), torch.ones(4000, dtype=torch.long)
    start = torch.randn(4000, 2, generator=rng(1))
    ends = {w: last(ddim(cfg(denoise, w, null=2), SCHEDULE, start, 50, y)) for w in (0.0, 1.0, 3.0)}
    share = {w: (x[:, 0] > 0).float().mean().item() for w, x in ends.items()}
    assert abs(share[0] - 0.5) < 0.03 and abs(share[1] - 0.894) < 0.03 and share[3] > 0.99  # Φ(0.5 / 0.4) = 0.894
    assert ends[3][:, 0].std() < 0.9 * ends[1][:, 0].std()


@pytest.mark.equation("7.11")
def test_an_interval_is_walked_with_guidance_only_inside():
    inside, outside = cfg(labelled, 3.0, NULL), cfg(labelled, 1.0, NULL)
    both, t = guidance_interval(inside, outside, 20, 60), lambda k: torch.full((3,), k)
    for k in (1, 19, 20, 60, 61, 100):
        assert torch.equal(both(X, t(k), Y), (inside if 20 <= k <= 60 else outside)(X, t(k), Y))


@pytest.mark.parametrize("low, high", [(3, 2), (0.2, 0.8), (float("nan"), 5)])
def test_wrong_intervals(low, high):
    with pytest.raises(ValueError, match="guidance_interval: expected whole steps low ≤ high, got"):
        bare_copy(guidance).guidance_interval(labelled, labelled, low, high)


def test_errors():
    with pytest.raises(ValueError, match=r"cfg: expected labels y \(b,\), got None"):
        cfg(labelled, 2.0, NULL)(X, T)
    with pytest.raises(ValueError, match=r"classifier_guided: expected labels y \(b,\), got None"):
        classifier_guided(network, SCHEDULE, network)(X, T)
    with pytest.raises(ValueError, match=r"cfg: expected labels y \(b,\), got \[1, 2, 3\]"):
        bare_copy(guidance).cfg(labelled, 2.0, NULL)(X, T, [1, 2, 3])
    with pytest.raises(ValueError, match=r"classifier_gradient: classifier\(x, t\) has no gradient; is there"):
        classifier_guided(network, SCHEDULE, lambda x, t: x.detach().flatten(1))(X, T, Y)
    for low, high in ((1.0, -1.0), (0.0, 0.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="clipped: expected low < high, got"):
            clipped(network, low, high)
    with pytest.raises(ValueError, match="null: expected the number of the null label, got None"):
        cfg(labelled, 2.0, None)
    with pytest.raises(ValueError, match="guidance_interval: expected all images at one step, got 3 different ones"):
        guidance_interval(labelled, labelled, 1, 60)(X, T, Y)


@pytest.mark.parametrize("w", [float("nan"), float("inf"), float("-inf")])
def test_wrong_strengths(w):
    with pytest.raises(ValueError, match="w: expected a finite number, 1 for the conditional model as it is, got"):
        cfg(labelled, w, NULL)
    with pytest.raises(ValueError, match="scale: expected a finite number, got"):
        classifier_guided(network, SCHEDULE, network, scale=w)


def test_labels_that_the_classifier_does_not_know():
    guide = classifier_guided(UNEVEN.denoiser(SCHEDULE), SCHEDULE, posterior_of(SCHEDULE))
    with pytest.raises(ValueError, match=r"classifier_gradient: expected labels in 0..2, got 0..3"):
        guide(normal(3, 2), T, torch.tensor([0, 1, 3]))


def test_a_classifier_cannot_lead_where_nothing_of_the_image_is_left():
    """x̂_0 = (x_t − √(1−ᾱ_t) ε̂) / √ᾱ_t: without a look it would be 0/0."""
    schedule = zero_terminal_snr(cosine_schedule(100))
    guide = classifier_guided(UNEVEN.denoiser(schedule), schedule, posterior_of(schedule))
    with pytest.raises(ValueError, match="classifier_guided: at ᾱ_t = 0 a change of the noise says nothing about x0"):
        guide(normal(3, 2), T, torch.tensor([0, 1, 2]))
    assert guide(normal(3, 2), T - 1, torch.tensor([0, 1, 2])).isfinite().all()
