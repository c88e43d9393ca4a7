"""What notebook 10 defines by hand is what the library computes, and what it says of flows and few steps is so."""

import inspect
from itertools import pairwise, permutations

import masters
import pytest
import torch

from course_utils import diffusion as library
from course_utils import few_steps, flow
from course_utils.data import GaussianMixture
from course_utils.diffusion import cosine_schedule, diffusion_loss
from course_utils.flow import convert, flow_schedule, on_straight_path
from course_utils.measured import shipped_table
from course_utils.pitfalls import few_steps as few_steps_pitfalls
from course_utils.pitfalls import flows as pitfalls
from course_utils.sampling import cfg, clipped, ddim, last

from .answers import right

COSINE, FLOW = library.cosine_schedule(200), flow.flow_schedule(200)
RING = GaussianMixture.ring(6, radius=1.8, std=0.15)


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("10")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def evenly(strides: int) -> list[float]:
    return torch.linspace(1, 0, strides + 1).tolist()


# ----------------------------------------------------------------------------------------- 10.1 · another way to mix
@pytest.mark.equation("10.1", "10.2")
def test_the_velocity_is_the_derivative_of_the_path(notebook):
    x0, noise, u, h = normal(5, 2, 3), normal(5, 2, 3, seed=1), torch.linspace(0.1, 0.9, 5, dtype=torch.float64), 1e-6
    before, velocity = notebook["straight_path"](x0, noise, u - h)
    after, _ = notebook["straight_path"](x0, noise, u + h)
    torch.testing.assert_close((after - before) / (2 * h), velocity, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("u", [0.2, 0.7, 1.0])
def test_the_marginal_velocity_of_two_points_in_closed_form(notebook, u):
    """Of data at −1 and 1, E[x0 | x_u = x] = tanh((1 − u) x / u²)."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    wanted = (x - torch.tanh((1 - u) * x / u**2)) / u
    found = notebook["marginal_velocity"](x, u, torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("name", "gain"), [("euler", 2), ("heun", 4)])
def test_the_orders_of_both_walks(notebook, name, gain):
    """Of N(0, s²) the path from z is √((1−u)² s² + u²) z: twice the strides, half the error, or a quarter."""
    s, z = 0.5, normal(20, 1)
    velocity = GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), s).velocity
    off = [(notebook[name](velocity, z, evenly(k))[-1] - s * z).norm().item() for k in (40, 80)]
    assert off[0] / off[1] == pytest.approx(gain, rel=0.1)


def test_one_stride_from_noise_leads_to_the_mean(notebook):
    lopsided = GaussianMixture(
        torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64), 0.3, torch.tensor([3.0, 1.0])
    )
    ends = notebook["euler"](lopsided.velocity, normal(50, 2), [1.0, 0.0])[-1]
    torch.testing.assert_close(ends, torch.tensor([[1.5, 0.25]], dtype=torch.float64).expand(50, 2))


# -------------------------------------------------------------------------------- 10.2 · the model you have is a flow
def test_the_rates_of_the_flows_schedule_are_in_the_ratio_of_the_shares(notebook):
    alpha_bar = notebook["flow_alpha_bar"](50)
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    torch.testing.assert_close(b / (a + b), torch.linspace(0, 1, 51, dtype=torch.float64))
    torch.testing.assert_close(alpha_bar, flow.flow_schedule(50).alpha_bar)


@pytest.mark.parametrize("schedule", [COSINE, FLOW], ids=["cosine", "flow"])
def test_euler_on_the_velocity_is_ddim_at_every_stride(notebook, schedule):
    assert notebook["largest_gap"](RING.denoiser(schedule), schedule, normal(30, 2), 10) < 1e-9


def test_the_velocity_of_a_perfect_denoiser_is_the_mixtures(notebook):
    velocity = notebook["velocity_of"](RING.denoiser(FLOW), FLOW)
    for u in (0.05, 0.5, 1.0):
        torch.testing.assert_close(velocity(normal(20, 2), u), RING.velocity(normal(20, 2), u), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pair", [*permutations(flow.CONVERTIBLE, 2)], ids=" to ".join)
def test_the_table_converts_as_the_library_does(notebook, pair):
    value, x_t, t = normal(3, 1, 4, 5), normal(3, 1, 4, 5, seed=1), torch.tensor([1, 90, 180])
    found = notebook["convert"](COSINE, *pair, value, x_t, t)
    torch.testing.assert_close(found, flow.convert(COSINE, *pair, value, x_t, t))


# ----------------------------------------------------------------------------------------- 10.3 · a flow of your own
def test_the_loss_is_algorithm_1_for_velocities(notebook):
    x0, noise, t, y = normal(4, 1, 3, 5), normal(4, 1, 3, 5, seed=1), torch.tensor([1, 60, 120, 200]), torch.arange(4)
    model = lambda x_t, t, y=0: (x_t + t.view(-1, 1, 1, 1) / 50).sin()  # noqa: E731
    theirs = library.diffusion_loss(FLOW, "velocity", draw=lambda *_: t, pair=lambda x, *_: (x, noise))
    wanted = theirs(model, x0, None, torch.Generator())
    torch.testing.assert_close(notebook["flow_loss"](model, x0, y, noise, t, FLOW), wanted, check_dtype=False)


def test_logit_normal_steps_are_the_quantiles(notebook):
    r = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    wanted = torch.distributions.Normal(-0.4, 0.8).icdf(r).sigmoid().mul(1000).ceil().long()
    assert torch.equal(notebook["logit_normal_steps"](r, 1000, -0.4, 0.8), wanted)


def test_the_borrowed_network_is_right_and_only_the_clock_is_wrong(notebook):
    theirs, noise = pitfalls.another_house(library.Denoiser(RING.denoiser(FLOW), FLOW, "x0")), normal(40, 2)
    clock = torch.full((40,), 0.3, dtype=torch.float64)
    torch.testing.assert_close(theirs(noise, clock), -RING.velocity(noise, 0.7), rtol=1e-6, atol=1e-6)
    wanted = notebook["heun"](RING.velocity, noise, evenly(20))[-1]
    repaired = notebook["somebody_elses_clock"](theirs, noise, 20)
    torch.testing.assert_close(repaired, wanted, rtol=1e-5, atol=1e-5)
    far = [torch.cdist(x, RING.means.double()).min(1).values.mean().item() for x in (repaired, wanted)]
    astray = [
        torch.cdist(pitfalls.borrowed(theirs, noise, k), RING.means.double()).min(1).values.mean().item()
        for k in (20, 100)
    ]
    assert max(far) < 0.3 and min(astray) > 2 * max(far)  # more strides don't help
    assert astray[1] == pytest.approx(astray[0], rel=0.3)


def guesses_of(velocity, places, us) -> list[torch.Tensor]:
    return [x - u * velocity(x, u) for x, u in zip(places, us)]


def test_guesses_clipped_before_leave_the_range_and_those_clipped_after_dont(notebook):
    def denoise(x_t, t, y):
        return 1.2 * torch.tanh(2 * x_t + y.view(-1, 1).to(x_t) - 1)

    y, x = torch.tensor([0, 1, 2, 1]), 0.5 * normal(4, 6)
    us = [u for u in evenly(10) if u > 0]
    before = pitfalls.guided(denoise, FLOW, 4.0, 3, y)
    after = notebook["somebody_elses_guide"](denoise, FLOW, 4.0, 3, y)
    places = [x] * len(us)
    assert max(guess.abs().max() for guess in guesses_of(before, places, us)) > 1.5
    assert max(guess.abs().max() for guess in guesses_of(after, places, us)) <= 1 + 1e-12
    with_library = notebook["velocity_of"](clipped(cfg(denoise, 4.0, 3)), FLOW, y)
    for u in us:
        torch.testing.assert_close(after(x, u), with_library(x, u))


# ---------------------------------------------------------------------------------------------- 10.4 · how straight?
@pytest.mark.parametrize("schedule", [COSINE, FLOW], ids=["cosine", "flow"])
def test_straightness_is_the_librarys(notebook, schedule):
    steps = [*ddim(RING.denoiser(schedule), schedule, normal(30, 2), 25)]
    sizes, us = notebook["sizes_and_shares"](schedule, [step.t for step in steps])
    places = [step.x / size for step, size in zip(steps, sizes)]
    assert notebook["straightness"](places, us) == pytest.approx(flow.straightness(steps, schedule), rel=1e-6)


def test_an_end_alone_says_nothing_of_the_path(notebook):
    """With one stride S is 0, whatever the flow: only walks of one fineness may be compared."""
    walk = notebook["euler"]
    coarse, fine = (
        notebook["straightness"](walk(RING.velocity, normal(50, 2), us), us) for us in ([1.0, 0.0], evenly(50))
    )
    assert coarse == pytest.approx(0) and fine > 0.1


# ------------------------------------------------------------------------------------------ 10.5 · who goes with whom?
def test_pairs_are_the_best_of_all_orders(notebook):
    x0, noise = normal(6, 3), normal(6, 3, seed=1)
    least = min((x0 - noise[list(order)]).square().sum().item() for order in permutations(range(6)))
    assert (x0 - notebook["optimal_pairs"](x0, noise)).square().sum().item() == pytest.approx(least)


def test_lines_of_optimal_pairs_never_meet_at_the_same_time(notebook):
    """⟨x_i − x_j, ε_i − ε_j⟩ ≥ 0 for every two: their distance is never 0 on the way."""
    x0, noise = normal(40, 2), normal(40, 2, seed=1)
    dealt = notebook["optimal_pairs"](x0, noise)
    inner = ((x0[:, None] - x0) * (dealt[:, None] - dealt)).sum(-1)
    assert inner.min() > -1e-9
    assert ((x0[:, None] - x0) * (noise[:, None] - noise)).sum(-1).min() < -0.1


def test_noise_dealt_over_all_classes_says_the_class(notebook):
    """What harms a model that is told classes: the mean noise of a class isn't 0 any more. Dealt by class it is."""
    generator, means = torch.Generator().manual_seed(0), {"all": [], "by class": []}
    for _ in range(30):
        x0, y = RING.labelled(64, generator)
        noise = torch.randn(64, 2, generator=generator)
        for name, dealt in (
            ("all", notebook["optimal_pairs"](x0, noise)),
            ("by class", notebook["optimal_pairs"](x0, noise, y)),
        ):
            means[name].append(torch.stack([dealt[y == k].mean(0) for k in range(6)]))
    length = {name: torch.stack(values).nanmean(0).norm(dim=1) for name, values in means.items()}
    assert length["all"].min() > 0.8  # of about 320 noises each: by chance 0.1
    assert length["by class"].max() < 0.3


def test_places_of_a_walk_begin_with_its_start(notebook):
    x = normal(3, 2)
    for name in ("euler", "heun"):
        places = notebook[name](RING.velocity, x, evenly(4))
        assert len(places) == 5 and torch.equal(places[0], x)
        assert all(not torch.equal(a, b) for a, b in pairwise(places))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------------------------- straighten it


@pytest.mark.parametrize("schedule", [cosine_schedule(60), flow_schedule(60)], ids=["cosine", "flow"])
def test_a_stride_along_the_chord_arrives(notebook, schedule):
    x_t, x_s, t, s = (
        normal(5, 3),
        normal(5, 3, seed=1),
        torch.tensor([60, 40, 9, 2, 30]),
        torch.tensor([10, 0, 3, 1, 29]),
    )
    speed = notebook["chord"](schedule, x_t, t, x_s, s)
    (x_u, u), (x_v, v) = on_straight_path(schedule, x_t, t), on_straight_path(schedule, x_s, s)
    torch.testing.assert_close(x_u - (u - v)[:, None] * speed, x_v)


def some_sampler(noise, y):
    return (0.5 * noise + y[:, None, None, None] / 4).tanh()


def apart(pairs) -> float:
    """How far the images of pairs are from what their own noise gives."""
    (examples, labels) = pairs
    image, noise = few_steps.from_pairs(examples)
    return (image - some_sampler(noise, labels)).abs().max().item()


def test_pairs_belong_together_where_nobody_shuffled_them(notebook):
    arguments = (some_sampler, (1, 4, 6), 50, 3)
    assert apart(notebook["draw_pairs"](*arguments, rng(), 16)) < 1e-6
    assert apart(notebook["somebody_elses_pairs"](*arguments, rng(), 16)) < 1e-6
    assert apart(few_steps_pitfalls.pairs(*arguments, rng(), 16)) > 0.3


def test_shuffled_pairs_are_good_images_good_noise_and_right_labels():
    """So no picture of them shows what is wrong."""
    examples, labels = few_steps_pitfalls.pairs(some_sampler, (1, 4, 6), 400, 4, rng(), 100)
    image, noise = few_steps.from_pairs(examples)
    assert torch.bincount(labels).tolist() == [100] * 4
    assert noise.mean().abs() < 0.05 and abs(noise.std() - 1) < 0.05
    means = torch.stack([image[labels == k].mean() for k in range(4)])
    assert (means.diff() > 0.1).all()  # an image is of its label
    assert torch.corrcoef(torch.stack([image.flatten(), noise.flatten()]))[0, 1].abs() < 0.05


def test_his_handed_out_code_is_what_drew_the_picture(notebook):
    """The bug hunt's symptom comes from the code that is handed out, number for number."""
    code = masters.path("10").read_text(encoding="utf-8")
    start = code.index("def somebody_elses_pairs")
    code = code[start : code.index("\n\n\n# %%", start)]
    before, rest = code.split("    ### BEGIN SOLUTION\n")
    given = rest.split("### BEGIN HANDED OUT\n")[1].split("    ### END HANDED OUT\n")
    found = {"torch": torch}
    exec(before + given[0].replace("    # ", "    ") + given[1], found)
    arguments = (some_sampler, (1, 4, 6), 50, 3)
    for mine, theirs in zip(
        found["somebody_elses_pairs"](*arguments, rng(), 16), few_steps_pitfalls.pairs(*arguments, rng(), 16)
    ):
        torch.testing.assert_close(mine, theirs)


def test_the_loss_on_pairs_is_algorithm_1_on_pairs(notebook):
    """The same steps, and no label dropped: the library's loss."""
    schedule, examples, t = cosine_schedule(30), normal(6, 4, 3, 5).float(), torch.tensor([1, 5, 12, 20, 29, 30])
    model = lambda x, t, y=None: 0.3 * x + t[:, None, None, None] / 50  # noqa: E731
    loss = diffusion_loss(schedule, "v", pair=few_steps.from_pairs, draw=lambda *_: t)
    mine = notebook["pair_loss"](model, examples, torch.zeros(6).long(), t, schedule)
    torch.testing.assert_close(mine, loss(model, examples, None, rng()))


def test_one_line_through_each_point_straightens_and_independent_noise_does_not():
    """Least squares on a Gaussian, whose best velocity at u is linear in x_u: on its own pairs the error is 0."""
    x0, u = 0.3 * normal(4000, 1), 0.5
    own, fresh = x0 / 0.3, normal(4000, 1, seed=1)

    def left_over(noise):
        x_u, velocity = (1 - u) * x0 + u * noise, noise - x0
        return (velocity - (x_u * velocity).mean() / x_u.square().mean() * x_u).square().mean().item()

    assert left_over(own) < 1e-20 and left_over(fresh) > 0.1


# ------------------------------------------------------------------------------------------------ two strides in one

MIXTURE = GaussianMixture(torch.tensor([[-1.0, 0.5], [0.8, -0.3]]).double(), torch.tensor([0.2, 0.4]).double())


def test_whoever_says_the_target_lands_where_the_teacher_does(notebook):
    schedule, x_t, y = cosine_schedule(48), normal(7, 2), torch.zeros(7).long()
    teacher = MIXTURE.denoiser(schedule)
    unlabelled = lambda x, t, y=None: teacher(x, t)  # noqa: E731
    t, middle, s = (torch.full((7,), k) for k in (36, 24, 12))
    v = notebook["two_strides"](unlabelled, schedule, x_t, t, middle, s, y)
    landing = last(ddim(unlabelled, schedule, x_t, [36, 24, 12]))
    at_once = last(ddim(lambda *_: convert(schedule, "v", "x0", v, x_t, t), schedule, x_t, [36, 12]))
    torch.testing.assert_close(at_once, landing, rtol=1e-6, atol=1e-6)
    assert (landing - last(ddim(unlabelled, schedule, x_t, [36, 12]))).abs().max() > 0.05


def test_the_loss_of_halving_is_the_librarys_in_the_mean(notebook):
    schedule, times = cosine_schedule(40), [40, 30, 20, 10, 0]
    teacher = MIXTURE.denoiser(schedule)
    unlabelled = lambda x, t, y=None: teacher(x, t)  # noqa: E731
    student = lambda x, t, y=None: 0.5 * x  # noqa: E731
    x0 = MIXTURE.sample(4000, rng()).double()
    theirs = few_steps.halving_loss(unlabelled, schedule, "v", times)(student, x0, None, rng(1))
    mine = notebook["halving_loss"](student, unlabelled, schedule, times, x0, torch.zeros(4000).long(), rng(2))
    assert mine.item() == pytest.approx(theirs.item(), rel=0.1)


# -------------------------------------------------------------------------------------------- anywhere to anywhere


def average_of_a_gaussian(x, u, r, s=0.5):
    """Of N(0, s²) paths are x_u = g(u) z with g² = (1−u)² s² + u²."""

    def g(u):
        return ((1 - u) ** 2 * s**2 + u**2) ** 0.5

    return x * (1 - g(r) / g(u)) / (u - r)


def test_the_true_average_is_the_closed_form_and_its_error_is_of_second_order(notebook):
    gaussian = GaussianMixture(torch.zeros(1, 1).double(), torch.tensor(0.5).double())
    x, found = normal(20, 1), {}
    for steps in (20, 40):
        mine = notebook["true_average"](lambda x, u: gaussian.velocity(x, max(u, 0.0)), x, 0.9, 0.2, steps)
        found[steps] = (mine - average_of_a_gaussian(x, 0.9, 0.2)).abs().max().item()
    assert found[40] < 1e-3 and found[20] / found[40] == pytest.approx(4, rel=0.15)


def test_a_target_may_take_one_lines_velocity_for_the_mean(notebook):
    """It is linear in the velocity: the mean of the targets is the target of the mean."""
    x, u, r, velocities = (
        normal(3, 2),
        torch.full((3, 1), 0.8).double(),
        torch.full((3, 1), 0.1).double(),
        normal(9, 3, 2),
    )
    average = lambda x, u, r: (x * u + r).sin()  # noqa: E731
    targets = [notebook["mean_flow_target"](average, x, u, r, v) for v in velocities]
    mean = notebook["mean_flow_target"](average, x, u, r, velocities.mean(0))
    torch.testing.assert_close(torch.stack(targets).mean(0), mean)


def test_at_r_equal_to_u_it_is_flow_matching(notebook):
    x0, noise, u = normal(6, 2), normal(6, 2, seed=1), torch.rand(6, 1, generator=rng()).double()
    average = lambda x, u, r: (3 * x * u).sin()  # noqa: E731
    plain = (average((1 - u) * x0 + u * noise, u, u) - (noise - x0)).square().mean()
    torch.testing.assert_close(notebook["mean_flow_loss"](average, x0, noise, u, u), plain)


def test_the_exact_velocity_at_the_noise_points_at_the_mean_of_all_data():
    z = normal(50, 2)
    torch.testing.assert_close(z - MIXTURE.velocity(z, 1.0), MIXTURE.means.mean(0).expand(50, 2))


# ------------------------------------------------------------------------------------------------------------ the race


def test_a_meter_lets_through_what_was_paid_and_no_more(notebook):
    reached = []
    meter = notebook["Meter"](lambda x, t, y=None: reached.append(len(x)) or x, 10)
    x, t = torch.zeros(4, 1, 2, 2), torch.ones(4).long()
    meter(x, t)
    meter(torch.cat([x, x[:2]]), torch.ones(6).long())
    with pytest.raises(ValueError, match="10"):
        meter(x[:1], t[:1])
    assert (meter.rows, reached) == (10, [4, 6])


def test_the_entry_is_ddim_in_so_many_evaluations(notebook):
    schedule, noise, asked = cosine_schedule(60), normal(4, 3, 1, 2, 5), []

    def denoise(x, t, y):
        asked.append(len(x))
        return (x + y[:, None, None, None]).tanh()

    y = torch.tensor([0, 1, 2])
    mine = notebook["sample"](denoise, schedule, noise, y, 4)
    assert asked == [3] * 4
    torch.testing.assert_close(mine, last(ddim(denoise, schedule, noise[0], 4, y)))


def test_the_entrys_reference_stands_in_a_file_of_its_own():
    """The notebook writes the source of whatever `check` returned behind these imports."""
    code = masters.path("10").read_text(encoding="utf-8")
    head = next(line for line in code.splitlines() if line.startswith("HEAD = "))
    found: dict = {}
    exec(head, found)
    exec(found["HEAD"] + inspect.getsource(right("flows/entry")), found)
    schedule, noise = flow_schedule(20), normal(2, 3, 1, 2, 2)
    images = found["sample"](lambda x, t, y: x.tanh(), schedule, noise, torch.zeros(3).long(), 2)
    assert images.shape == noise[0].shape


# ----------------------------------------------------------------------------------------------------------- the race
def test_what_the_text_says_of_the_race():
    race = {
        who: {k: torch.tensor(v) for k, v in found.items()}
        for who, found in shipped_table("few_steps")["models"].items()
    }
    ddim_, dpm, straight, halved = (race[who] for who in ("DDIM", "DPM-Solver++", "rectified", "distilled"))
    assert all(len(ddim_[k]) == 3 for k in ddim_) and len(halved["at 1"]) == len(straight["at 1"]) == 1
    for k in ("at 4", "at 8"):
        assert (dpm[k] < ddim_[k] - 0.5).all()
    assert abs(dpm["at 8"].mean() - ddim_["at 50"].mean()) < 0.5
    for one in (straight, halved):
        assert 0.8 < one["at 1"].mean() / ddim_["at 4"].mean() < 2 and one["at 1"].mean() < 0.25 * ddim_["at 1"].mean()
    assert all((halved[k] < straight[k] - 1).all() for k in ("at 1", "at 2", "at 4", "at 8"))
    assert (straight["at 50"] > ddim_["at 50"].mean() + 1).all()
