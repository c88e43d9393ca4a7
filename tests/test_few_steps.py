"""Average velocities: chords, pairs of one's own model, two strides in one, and mean flow, where the truth is known."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from course_utils.data import GaussianMixture
from course_utils.diffusion import cosine_schedule, diffusion_loss, linear_schedule, predict_x0, zero_terminal_snr
from course_utils.few_steps import chord, draw_pairs, from_pairs, halving_loss, mean_flow_target, stride
from course_utils.flow import convert, flow_schedule, on_straight_path
from course_utils.sampling import ddim, last

SCHEDULES = {
    "cosine": cosine_schedule(200),
    "linear, zero terminal SNR": zero_terminal_snr(linear_schedule(64)),
    "flow": flow_schedule(64),
}
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0, 0.5], [0.8, -0.3]], dtype=torch.float64), torch.tensor([0.2, 0.4], dtype=torch.float64)
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.equation("10.9")
@pytest.mark.parametrize("name", SCHEDULES)
def test_one_stride_along_a_chord_arrives(name):
    """DDIM with the prediction that the chord implies comes to x_s, wherever that is."""
    schedule, x_t, x_s = SCHEDULES[name], normal(20, 3), normal(20, 3, seed=1)
    t = torch.arange(20) + schedule.T - 19
    s = t - torch.arange(20) - 3
    x0 = convert(schedule, "velocity", "x0", chord(schedule, x_t, t, x_s, s), x_t, t)
    torch.testing.assert_close(stride(lambda *_: x0, schedule, x_t, t, s), x_s, rtol=1e-9, atol=1e-9)


@pytest.mark.equation("10.9")
def test_a_chord_is_the_mean_of_the_velocities_below_it():
    schedule, z = flow_schedule(4000), normal(30, 2)
    steps = [*ddim(MIXTURE.denoiser(schedule), schedule, z, range(4000, -1, -1))]
    ends = (torch.full((30,), 4000), torch.full((30,), 0))
    speeds = [
        MIXTURE.velocity(on_straight_path(schedule, step.x, torch.full((30,), step.t))[0], step.t / 4000)
        for step in steps[:-1]
    ]
    whole = chord(schedule, steps[0].x, ends[0], steps[-1].x, ends[1])
    torch.testing.assert_close(whole, torch.stack(speeds).mean(0), rtol=1e-6, atol=1e-6)


def test_chord_of_strides_as_samplers_make_them():
    schedule, z = cosine_schedule(100), normal(5, 2)
    steps = [*ddim(MIXTURE.denoiser(schedule), schedule, z, 8)]
    for before, after in pairwise(steps):
        t, s = (torch.full((5,), step.t) for step in (before, after))
        torch.testing.assert_close(stride(MIXTURE.denoiser(schedule), schedule, before.x, t, s), after.x)


# --------------------------------------------------------------------------------------------------------------- pairs
def test_pairs_belong_together_and_come_apart_again():
    schedule, seen = cosine_schedule(50), []

    def denoise(x, t, y=None):
        seen.append(y)
        return x.clamp(-1, 1) * (1 + y[:, None, None, None])

    draw = lambda noise, y: last(ddim(denoise, schedule, noise, 3, y))  # noqa: E731
    examples, labels = draw_pairs(draw, (2, 3, 5), 11, 4, torch.Generator().manual_seed(0), batch=4)
    image, noise = from_pairs(examples)
    assert image.shape == noise.shape == (11, 2, 3, 5) and labels.min() >= 0 and labels.max() < 4
    torch.testing.assert_close(image, draw(noise, labels))
    assert noise.std() == pytest.approx(1, abs=0.1) and not torch.equal(image, noise)


def test_pairs_without_classes_ask_without_labels():
    asked = []
    _, labels = draw_pairs(lambda noise, y: (asked.append(y), noise)[1], (1, 2, 2), 5, batch=2)
    assert asked == [None] * 3 and labels.tolist() == [0] * 5


def test_pairs_of_an_odd_number_of_channels_are_refused():
    with pytest.raises(ValueError, match=r"from_pairs: expected examples \(b, 2c, h, w\) of draw_pairs, got \(3, 1,"):
        from_pairs(torch.zeros(3, 1, 4, 4))


def test_algorithm_1_on_pairs_learns_the_chord_of_the_pair():
    """With one pair there is one chord: a bias that is free learns ε − x0 of that pair, and of no other noise."""
    pair = normal(1, 2, 2, 2).float()

    class Bias(nn.Module):
        def __init__(self):
            super().__init__()
            self.b = nn.Parameter(torch.zeros(1, 1, 2, 2))

        def forward(self, x, t):
            return self.b.expand_as(x)

    model, loss = Bias(), diffusion_loss(flow_schedule(10), "velocity", pair=from_pairs)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(60):
        optimizer.zero_grad()
        loss(model, pair, torch.zeros(1), torch.Generator().manual_seed(0)).backward()
        optimizer.step()
    torch.testing.assert_close(model.b.detach(), pair[:, 1:] - pair[:, :1], rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------- halving
class Perfect:
    """A student that errs nowhere: the line through both ends of two strides of the mixture's denoiser, in x̄ = x/√ᾱ
    over σ = √(1−ᾱ)/√ᾱ, meets σ = 0 at the x̂_0 it answers."""

    def __init__(self, schedule, times):
        self.schedule, self.times, self.denoise = schedule, times, MIXTURE.denoiser(schedule)

    def __call__(self, x_t, t, y=None):
        x0 = torch.empty_like(x_t)
        for j in range(0, len(self.times) - 1, 2):
            here = t == self.times[j]
            three = self.times[j : j + 3]
            if not here.any():
                continue
            x_s = last(ddim(self.denoise, self.schedule, x_t[here], three))
            a, b = (self.schedule.alpha_bar[k].item() for k in (three[0], three[2]))
            sigma, rho = math.sqrt((1 - a) / a), math.sqrt((1 - b) / b)
            far, near = x_t[here] / math.sqrt(a), x_s / math.sqrt(b)
            x0[here] = near + (near - far) * rho / (sigma - rho)
        return x0


@pytest.mark.equation("10.10")
@pytest.mark.parametrize("prediction_type", ["v", "x0", "velocity"])
def test_the_student_that_costs_nothing_makes_two_strides_in_one(prediction_type):
    schedule = linear_schedule(64)
    times = schedule.timesteps(8)
    perfect = Perfect(schedule, times)
    loss = halving_loss(MIXTURE.denoiser(schedule), schedule, prediction_type, times)
    asked = []

    def student(x_t, t):
        asked.extend(t.tolist())
        return convert(schedule, "x0", prediction_type, perfect(x_t, t), x_t, t)

    x = MIXTURE.sample(16, torch.Generator().manual_seed(0)).double()
    assert loss(student, x, None, torch.Generator().manual_seed(1)).item() < 1e-8
    assert {*asked} == {*times[:-1:2]}
    worse = lambda x_t, t: student(x_t, t) + 0.1  # noqa: E731
    assert loss(worse, x, None, torch.Generator().manual_seed(1)).item() == pytest.approx(0.01, rel=1e-3)
    z = normal(9, 2, seed=3)
    wanted = last(ddim(MIXTURE.denoiser(schedule), schedule, z, times))
    torch.testing.assert_close(last(ddim(perfect, schedule, z, times[::2])), wanted, rtol=1e-6, atol=1e-6)


def test_labels_reach_teacher_and_student_alike():
    schedule, seen = cosine_schedule(16), []
    y = torch.arange(40) % 3

    def teacher(x_t, t, labels):
        seen.append(labels)
        return x_t

    def student(x_t, t, labels):
        seen.append(labels)
        return x_t

    halving_loss(teacher, schedule, "v", schedule.timesteps(4), null=3)(
        student, torch.zeros(40, 1), y, torch.Generator().manual_seed(0)
    )
    assert len(seen) == 3 and all(torch.equal(seen[0], other) for other in seen)
    assert set(seen[0][seen[0] != y].tolist()) == {3}


def test_an_odd_number_of_strides_is_refused():
    with pytest.raises(ValueError, match=r"times: expected an even number of strides, got 3: \[9, 6, 3, 0\]"):
        halving_loss(lambda *_: None, cosine_schedule(9), "v", [9, 6, 3, 0])


# ----------------------------------------------------------------------------------------------------------- mean flow
def average_of_a_gaussian(s: float):
    """Of N(0, s²) paths are x_u = g(u) z with g² = (1−u)² s² + u²: the average velocity is in closed form."""
    g = lambda u: ((1 - u) ** 2 * s**2 + u**2).sqrt()  # noqa: E731

    def average(x, u, r):
        return x * (1 - g(r) / g(u)) / (u - r)

    return average


@pytest.mark.equation("10.11")
def test_the_true_average_velocity_is_its_own_target():
    s, x = 0.5, normal(30, 1)
    u = torch.linspace(0.2, 1, 30, dtype=torch.float64)[:, None]
    r = u * torch.linspace(0.0, 0.9, 30, dtype=torch.float64)[:, None]
    mixture, average = GaussianMixture(torch.zeros(1, 1).double(), torch.tensor(s).double()), average_of_a_gaussian(s)
    velocity = torch.cat([mixture.velocity(x[k : k + 1], u[k].item()) for k in range(30)])
    torch.testing.assert_close(mean_flow_target(average, x, u, r, velocity), average(x, u, r), rtol=1e-8, atol=1e-8)
    wrong = lambda x, u, r: average(x, u, r) * (1 + 0.1 * (u - r))  # noqa: E731
    assert (mean_flow_target(wrong, x, u, r, velocity) - wrong(x, u, r)).abs().max() > 1e-3


def test_targets_carry_no_gradient():
    weight = torch.ones(1, requires_grad=True)
    target = mean_flow_target(
        lambda x, u, r: weight * x * u,
        normal(3, 2),
        torch.ones(3, 1).double(),
        torch.zeros(3, 1).double(),
        normal(3, 2),
    )
    assert not target.requires_grad


def test_predictions_of_chords_agree_with_the_librarys_own_conversion():
    schedule, x_t, x_s = cosine_schedule(40), normal(4, 2), normal(4, 2, seed=5)
    t, s = torch.tensor([40, 30, 20, 10]), torch.tensor([20, 0, 19, 1])
    speed = chord(schedule, x_t, t, x_s, s)
    torch.testing.assert_close(
        predict_x0(schedule, "velocity", speed, x_t, t), convert(schedule, "velocity", "x0", speed, x_t, t)
    )
