"""The training loop: what it computes, what survives, and what it says when something is wrong."""

from __future__ import annotations

import math
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.training import (
    EMA,
    CheckpointRefused,
    History,
    Recipe,
    TrainingDiverged,
    batch_indices,
    diverging,
    fit,
    learning_rate_factor,
    loop,
    steps_in,
    steps_within,
    train,
    until_stopped,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("COURSE_QUIET", "1")


@pytest.fixture(autouse=True)
def ctrl_c_counts():
    """Also where the whole test suite ignores it, as under nohup or in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def images(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Non-square images in [-1, 1] and their labels."""
    generator = torch.Generator().manual_seed(7)
    return torch.rand(count, 1, 6, 4, generator=generator) * 2 - 1, torch.arange(count) % 3


def network(dropout: float = 0.2) -> nn.Sequential:
    """A small autoencoder with all that a resumed run must bring back, dropout and BatchNorm among it."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(4, 1, 3, padding=1)
    )


def squared_error(model, x, y, generator):
    noise = torch.randn(x.shape, generator=generator)
    return (model(x + 0.1 * noise).float() - x).square().mean(), {"label": y.float().mean()}


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ----------------------------------------------------------------------------------------------------- what it computes


def test_equals_the_loop_that_one_would_write_by_hand():
    def make():
        torch.manual_seed(0)  # no BatchNorm: it makes a bias's gradient 0, and Adam blows up rounding
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 3, padding=1))

    data, model, by_hand = images(), make(), make()
    options = {"batch_size": 16, "lr": 1e-2, "mixed_precision": False}
    history = fit(model, lambda m, x, y, g: F.mse_loss(m(x), x), data, steps=7, **options)

    optimizer, losses = torch.optim.Adam(by_hand.parameters(), lr=1e-2), []
    for step in range(7):
        x = data[0][batch_indices(step, 40, 16, 0, CPU)]
        optimizer.zero_grad()
        loss = F.mse_loss(by_hand(x), x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert history.loss == pytest.approx(losses, rel=1e-4)
    for mine, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_overfits_one_batch():
    torch.manual_seed(0)
    x = torch.rand(8, 1, 6, 4) * 2 - 1
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 24), nn.Unflatten(1, (1, 6, 4)))
    options = {"lr": 1e-2, "lr_schedule": "linear-half", "mixed_precision": False}
    history = fit(model, lambda m, x, y, g: F.mse_loss(m(x), x), x, steps=150, **options)
    assert history.loss[0] > 0.2 and history.loss[-1] < 1e-3
    assert F.mse_loss(model(x), x) < 1e-3


def test_every_example_comes_once_an_epoch_and_every_batch_is_full():
    seen = torch.cat([batch_indices(step, 10, 4, 3, CPU) for step in range(5)])
    assert len(seen) == 20
    for epoch in seen.chunk(2):
        assert sorted(epoch.tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    assert not torch.equal(seen[:4], batch_indices(0, 10, 4, 4, CPU))  # another seed, another order


def test_a_batch_larger_than_the_data_is_the_data():
    sizes = []
    fit(network(), lambda m, x, y, g: (sizes.append(len(x)), m(x).mean())[1], images(5), steps=3, batch_size=128)
    assert sizes == [5, 5, 5]


def test_history_holds_every_step_and_term():
    history = fit(network(), squared_error, images(), steps=12, batch_size=40)
    assert history.steps == list(range(1, 13))
    assert len(history.loss) == 12 and all(isinstance(value, float) for value in history.loss)
    assert history.terms["label"] == pytest.approx([images()[1].float().mean().item()] * 12)
    assert history.seconds > 0 and not history.interrupted and history.ema_model is None


def test_terms_that_come_only_in_some_steps_stay_beside_their_steps():
    w, calls = nn.ParameterList([torch.ones(())]), []

    def update(x, y, generator):
        calls.append(1)
        return {"loss": w[0].detach()} | ({"rare": torch.tensor(5.0)} if len(calls) % 3 == 0 else {})

    rare = train(update, torch.zeros(4, 1), {"w": w}, Recipe(steps=6)).terms["rare"]
    assert [math.isnan(value) for value in rare] == [True, True, False, True, True, False]


def test_data_may_be_a_tensor_a_pair_or_an_image_set():
    class ImageSet:
        name, labels = "stripes", torch.arange(40) % 3

        def take(self, index):
            return images()[0][index]

    runs = [
        fit(network(), lambda m, x, y, g: (m(x) - x).square().mean(), data, steps=3).loss
        for data in (ImageSet(), images(), images()[0])
    ]
    assert runs[0] == runs[1] == runs[2]


def test_the_model_is_left_in_eval_mode_and_without_gradients():
    model, modes = network(), []
    fit(model, lambda m, x, y, g: (modes.append(m.training), m(x).mean())[1], images(), steps=2)
    assert modes == [True, True]
    assert not model.training and all(weight.grad is None for weight in model.parameters())
    assert not fit(network(), squared_error, images(), steps=2, ema=0.9).ema_model.training


def test_the_global_random_state_is_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    model = network()
    torch.manual_seed(5)
    fit(model, squared_error, images(), steps=3, on_step=lambda step, history: torch.rand(9), every=1)
    assert torch.equal(torch.rand(3), expected)


def test_the_run_does_not_depend_on_the_global_random_state_or_on_being_watched():
    results = []
    for seed, on_step in ((1, None), (2, lambda step, history: torch.randn(5))):
        model = network()
        torch.manual_seed(seed)
        fit(model, squared_error, images(), steps=6, on_step=on_step, every=2)
        results.append(model)
    assert same(*results)


def test_noise_differs_between_steps_and_between_generator_and_dropout():
    drawn = []

    def loss(model, x, y, generator):
        drawn.append((torch.rand(4, generator=generator), torch.rand(4)))
        return model(x).mean()

    fit(network(), loss, images(), steps=3)
    flat = torch.stack([row for pair in drawn for row in pair])
    assert len(flat.unique(dim=0)) == 6


def test_seeds_decide_the_noise():
    losses = [fit(network(), squared_error, images(), steps=3, seed=seed).loss for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_clipping_bounds_the_gradient():
    model = nn.Linear(1, 1)
    before = model.weight.item()
    fit(
        model,
        lambda m, x, y, g: 1e6 * m(x).mean(),
        torch.ones(4, 1),
        steps=1,
        optimizer="sgd",
        lr=1.0,
        clip=0.5,
        mixed_precision=False,
    )
    assert abs(model.weight.item() - before) < 0.5


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32_weights():
    seen = []
    for wanted in (True, False):
        model = network()
        fit(
            model,
            lambda m, x, y, g: (seen.append((out := m(x)).dtype), out.float().mean())[1],
            images(),
            steps=1,
            mixed_precision=wanted,
        )
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert seen == [torch.bfloat16, torch.float32]


def test_channels_last_changes_the_layout_and_not_the_result():
    layouts, losses = [], []
    for wanted in (True, False):

        def loss(model, x, y, generator):
            layouts.append(
                model[0].weight.is_contiguous(memory_format=torch.channels_last) and not model[4].weight.is_contiguous()
            )
            return (model(x) - x).square().mean()

        losses.append(fit(network(0.0), loss, images(), steps=4, channels_last=wanted, mixed_precision=False).loss)
    assert layouts == [True] * 4 + [False] * 4
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("fused", [True, False])
def test_an_optimizer_goes_with_its_weights_from_layout_to_layout(fused):
    """Fused Adam on the CPU mixes up the averages of weights whose layout changed, without a word."""

    def run(layouts):
        torch.manual_seed(0)
        model = nn.Conv2d(3, 5, 3)
        mine = torch.optim.Adam(model.parameters(), lr=0.05, fused=fused)
        x = torch.rand(8, 3, 6, 4, generator=torch.Generator().manual_seed(1))
        for layout in layouts:
            fit(model, lambda m, x, y, g: m(x).square().mean(), x, steps=2, optimizer=mine, channels_last=layout,
                mixed_precision=False)  # fmt: skip
            assert model.weight.is_contiguous()  # as it came
        return model.weight.detach()

    torch.testing.assert_close(run([True, False, True]), run([False, False, False]), rtol=1e-3, atol=1e-5)


def test_the_live_view_sees_eval_mode_no_gradients_and_the_history_so_far():
    model, seen = network(), []

    def look(step, history):
        seen.append((step, len(history.loss), model.training, torch.is_grad_enabled()))

    fit(model, squared_error, images(), steps=7, on_step=look, every=3)
    assert seen == [(3, 3, False, False), (6, 6, False, False), (7, 7, False, False)]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", lambda weights, lr: torch.optim.RMSprop(weights, lr=lr)])
def test_optimizers_by_name_and_by_callable(optimizer):
    history = fit(network(), squared_error, images(), steps=30, lr=1e-2, optimizer=optimizer)
    assert history.loss[-1] < history.loss[0]


def test_an_optimizer_that_was_made_outside_keeps_its_rate_and_gets_the_schedule():
    model, rates = nn.Linear(1, 1), []
    mine = torch.optim.SGD(model.parameters(), lr=0.5)

    def loss(m, x, y, g):
        rates.append(mine.param_groups[0]["lr"])
        return m(x).square().mean()

    fit(model, loss, torch.ones(4, 1), steps=4, optimizer=mine, lr_schedule="linear-half")
    assert rates == [0.5, 0.5, 0.5, 0.25] and mine.param_groups[0]["lr"] == 0.5


# ------------------------------------------------------------------------------------------------------------ schedules


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, [1, 1, 1, 1, 1, 1, 1, 1]),
        ({"lr_schedule": "cosine"}, [(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]),
        ({"lr_schedule": "linear-half"}, [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        ({"warmup": 4}, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ({"warmup": 2, "lr_schedule": "linear-half"}, [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        ({"lr_schedule": lambda done: 1 - done}, [1 - k / 8 for k in range(8)]),
        ({"restart": 4, "lr_schedule": "linear-half"}, [1, 1, 1, 1, 1, 1, 1, 0.5]),
    ],
)
def test_schedules(options, expected):
    recipe = Recipe(steps=8, **options)
    assert [learning_rate_factor(k, recipe) for k in range(8)] == pytest.approx(expected)


# ------------------------------------------------------------------------------------------------------------ averaging


def test_ema_against_its_closed_form():
    """Unrolled, the average is a sum of all weights so far with shares (1 - d_n) Π_{m>n} d_m, which add up to 1."""
    model = nn.Linear(1, 1, bias=False)
    values = [3.0, -1.0, 0.5, 2.0, 8.0, -4.0]
    model.weight.data.fill_(values[0])
    average = EMA(model, decay=0.3)
    for value in values[1:]:
        model.weight.data.fill_(value)
        average.update(model)

    decays = [min(0.3, (1 + n) / (10 + n)) for n in range(5)]
    assert decays == pytest.approx([0.1, 2 / 11, 0.25, 0.3, 0.3])  # the warm-up ends inside this test
    shares = [math.prod(decays)] + [(1 - decays[n]) * math.prod(decays[n + 1 :]) for n in range(5)]
    assert sum(shares) == pytest.approx(1)
    assert average.model.weight.item() == pytest.approx(sum(s * v for s, v in zip(shares, values, strict=True)))


def test_ema_of_a_run_is_the_average_of_its_weights():
    model, path = nn.Linear(1, 1, bias=False), []
    start = model.weight.item()
    record = {"on_step": lambda *_: path.append(model.weight.item()), "every": 1}
    loss = lambda m, x, y, g: (m(x).float() - 2).square().mean()  # noqa: E731
    history = fit(model, loss, torch.ones(4, 1), steps=20, lr=0.1, ema=0.9, **record)
    expected = start
    for n, value in enumerate(path):
        d = min(0.9, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * value
    assert history.ema_model.weight.item() == pytest.approx(expected, rel=1e-5)


def test_ema_copies_buffers_and_leaves_the_model_alone():
    model = nn.BatchNorm1d(2)
    average = EMA(model, 0.99)
    model(torch.randn(16, 2) + 3)
    average.update(model)
    assert torch.equal(average.model.running_mean, model.running_mean) and average.model.num_batches_tracked == 1
    assert model.weight.requires_grad and not average.model.weight.requires_grad


@pytest.mark.parametrize("decay", [1.0, -0.1, math.nan])
def test_ema_refuses_a_decay_that_is_none(decay):
    with pytest.raises(ValueError, match=r"decay in \[0, 1\)"):
        EMA(nn.Linear(1, 1), decay)


# ------------------------------------------------------------------------------------------------------- two optimizers


def test_a_toy_gan_runs_through_the_same_loop_and_resumes(tmp_path):
    """Two optimizers with rates of their own; a point mass at 2 is learnt; stopping half-way changes nothing."""

    def make():
        torch.manual_seed(0)
        parts = {"generator": nn.Linear(1, 1), "critic": nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))}
        parts["opt_g"] = torch.optim.Adam(parts["generator"].parameters(), lr=1e-2, betas=(0.5, 0.9))
        parts["opt_c"] = torch.optim.Adam(parts["critic"].parameters(), lr=2e-2, betas=(0.5, 0.9))
        parts["ema"] = EMA(parts["generator"], 0.95)

        def update(x, y, generator):
            z = torch.randn(len(x), 1, generator=generator)
            parts["opt_c"].zero_grad()
            critic_loss = (
                F.softplus(-parts["critic"](x)) + F.softplus(parts["critic"](parts["generator"](z).detach()))
            ).mean()
            critic_loss.backward()
            parts["opt_c"].step()
            parts["opt_g"].zero_grad()
            loss = F.softplus(-parts["critic"](parts["generator"](z))).mean()
            loss.backward()
            parts["opt_g"].step()
            parts["ema"].update(parts["generator"])
            return {"loss": loss, "critic": critic_loss}

        return update, parts

    data = 2 + 0.1 * torch.randn(256, 1, generator=torch.Generator().manual_seed(1))
    recipe = Recipe(steps=300, batch_size=64, lr_schedule="linear-half")
    update, whole = make()
    history = train(update, data, whole, recipe)
    assert abs(history.ema_model(torch.zeros(1, 1)).item() - 2) < 0.5
    assert len(history.terms["critic"]) == 300 and not whole["critic"].training
    assert [whole[name].param_groups[0]["lr"] for name in ("opt_g", "opt_c")] == [1e-2, 2e-2]

    file = tmp_path / "gan.pt"
    update, first = make()

    def stop(step, history):
        raise KeyboardInterrupt

    assert train(update, data, first, recipe, checkpoint=file, on_step=stop, every=120).interrupted
    update, second = make()
    assert train(update, data, second, recipe, checkpoint=file).loss == history.loss
    assert all(same(second[name], whole[name]) for name in ("generator", "critic"))
    assert same(second["ema"].model, whole["ema"].model)


# -------------------------------------------------------------------------------------------------- killed, and resumed

SCRIPT = """
import signal, sys, time, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test suite that runs in the background ignores Ctrl-C
sys.path[:0] = {paths!r}
torch.set_num_threads(1)
from test_training import fit, images, network, squared_error
pause = float(sys.argv[2])
def watch(step, history):
    print(step, flush=True)
    time.sleep(pause)
model = network()
history = fit(model, squared_error, images(), steps=60, batch_size=16, lr=1e-2, ema=0.99, clip=1.0,
              lr_schedule="cosine", warmup=5, checkpoint=sys.argv[1], checkpoint_every=7, on_step=watch, every=1)
torch.save([list(model.state_dict().values()), list(history.ema_model.state_dict().values()), history.loss,
            history.terms["label"], history.steps], sys.argv[3])
"""


@pytest.fixture
def script(tmp_path, root):
    file = tmp_path / "run.py"
    file.write_text(SCRIPT.format(paths=[str(root), str(root / "tests")]))
    return file


def equal(a, b) -> bool:
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_killed_run_resumes_bit_for_bit(tmp_path, script):
    """SIGKILL at random steps, twice, in a run with dropout, BatchNorm, noise, EMA, Adam, clipping and a schedule."""
    env = {**os.environ, "COURSE_QUIET": "1"}
    subprocess.run(
        [sys.executable, script, tmp_path / "whole.pt", "0", tmp_path / "whole.out"],
        check=True,
        env=env,
        stdout=subprocess.PIPE,
    )

    killed_at = []
    for low, high in ((9, 25), (30, 50)):
        kill_at = random.randint(low, high)
        process = subprocess.Popen(
            [sys.executable, script, tmp_path / "c.pt", "0.02", tmp_path / "c.out"],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in process.stdout:
            if line.strip().isdigit() and int(line) >= kill_at:
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        killed_at.append(kill_at)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "c.pt", "0", tmp_path / "c.out"],
        check=True,
        env=env,
        capture_output=True,
        text=True,
    )

    resumed_at = int(re.search(r"Resumed .* at step (\d+) of 60", done.stdout)[1])
    # A checkpoint's step, and none was lost: a step is announced before it is saved, so the save of the very step at
    # which the kill was sent may be missing, and only that one.
    assert resumed_at % 7 == 0 and resumed_at >= (killed_at[-1] - 1) // 7 * 7
    whole, resumed = (torch.load(tmp_path / f"{name}.out", weights_only=True) for name in ("whole", "c"))
    assert equal(whole, resumed), f"killed at {killed_at}"


def test_interrupting_finishes_the_step_keeps_the_model_and_saves(tmp_path, script):
    env = {**os.environ, "COURSE_QUIET": "1"}
    file = tmp_path / "c.pt"
    process = subprocess.Popen(
        [sys.executable, script, file, "0.05", tmp_path / "c.out"], env=env, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.strip() == "10":
            process.send_signal(signal.SIGINT)
            break
    rest, _ = process.communicate()
    assert process.returncode == 0
    line = [line for line in rest.splitlines() if "Stopped" in line]
    assert len(line) == 1
    steps = torch.load(tmp_path / "c.out", weights_only=True)[4]
    assert 10 <= len(steps) <= 12
    holds = f"'{file}' holds step {len(steps)}, to go on from."
    assert line[0] == f"Stopped by hand after step {len(steps)} of 60. The model keeps what it learnt; {holds}"


def test_interrupt_in_the_middle_of_a_step_keeps_the_model_and_never_saves_a_torn_state(tmp_path, capsys):
    file, model, calls = tmp_path / "c.pt", network(), []

    def loss(m, x, y, g):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return m(x).square().mean()

    handler = signal.getsignal(signal.SIGINT)
    history = fit(model, loss, images(), steps=20, checkpoint=file, checkpoint_every=4)
    assert history.interrupted and history.steps == [1, 2, 3, 4, 5] and not model.training
    assert capsys.readouterr().out.startswith("Stopped by hand after step 5 of 20.")
    assert len(torch.load(file, weights_only=True)["loss"]) == 4
    assert signal.getsignal(signal.SIGINT) is handler


def test_whoever_calls_may_end_a_run(tmp_path, capsys):
    """`stop` is asked after each step; the last one is shown and saved, once, and nobody says that a hand did it."""
    asked, shown, file = [], [], tmp_path / "c.pt"

    def stop(step, history):
        asked.append((step, len(history.steps) <= step))
        return step == 5

    options = {"stop": stop, "on_step": lambda step, history: shown.append(step), "every": 2, "checkpoint": file}
    history = fit(model := network(), squared_error, images(), steps=20, **options)
    assert asked == [(step, True) for step in range(1, 6)] and shown == [2, 4, 5]
    assert (history.ended, history.interrupted, history.steps) == ("stopped", False, [1, 2, 3, 4, 5])
    assert not model.training and len(torch.load(file, weights_only=True)["loss"]) == 5
    assert capsys.readouterr().out == ""

    again, whole = network(), network()
    assert fit(again, squared_error, images(), steps=20, checkpoint=file).ended == "finished"
    fit(whole, squared_error, images(), steps=20)
    assert same(again, whole)


def test_stop_may_go_by_what_the_live_view_measured():
    seen = []
    options = {"on_step": lambda step, history: seen.append(history.loss[-1]), "stop": lambda *_: len(seen) == 2}
    assert fit(network(), squared_error, images(), steps=20, every=3, **options).steps[-1] == 6 and len(seen) == 2


def test_what_a_run_says_goes_where_it_is_told(tmp_path, capsys):
    said = []

    def loss(m, x, y, g):
        signal.raise_signal(signal.SIGINT)
        return m(x).square().mean()

    for say in (said.append, None):
        history = fit(network(), loss, images(), steps=9, checkpoint=tmp_path / f"{say}.pt", say=say)
        assert history.ended == "interrupted" and len(history.steps) == 1
    assert len(said) == 1 and said[0].startswith("Stopped by hand after step 1 of 9.")
    assert capsys.readouterr() == ("", "")


def test_the_second_press_stops_at_once_and_is_an_interrupt_as_elsewhere(tmp_path, capsys):
    """Or a notebook's "Run All" would go on: it ends where a cell raises."""
    file, model, calls = tmp_path / "c.pt", network(), []

    def loss(m, x, y, g):
        calls.append(1)
        if len(calls) == 6:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("never reached")
        return m(x).square().mean()

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(model, loss, images(), steps=10**6, checkpoint=file, checkpoint_every=4)
    assert capsys.readouterr().out.startswith("Stopped by hand after step 5 of 1,000,000.") and not model.training
    assert len(torch.load(file, weights_only=True)["loss"]) == 4  # and nothing torn was saved
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_press_while_a_training_is_prepared_counts(monkeypatch):
    """PyTorch imports much when it makes its first optimizer; an import cut off would leave it broken."""
    make = loop.make_optimizer

    def pressed(*arguments):
        signal.raise_signal(signal.SIGINT)
        return make(*arguments)

    monkeypatch.setattr(loop, "make_optimizer", pressed)
    assert fit(network(), squared_error, images(), steps=9, say=None).steps == [1]


def test_what_an_optimizer_imports_is_there_before_anybody_trains_by_hand(root):
    """The same in a loop of one's own, which nothing guards while its optimizer is made."""
    code = """
        import sys
        from course_utils import setup
        lab = setup("05", effort="smoke", device="cpu")
        import torch
        there = set(sys.modules)
        torch.optim.Adam([torch.zeros(1, requires_grad=True)])
        print(sorted(name for name in set(sys.modules) - there if name.startswith("torch._dynamo")))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_loop_of_ones_own_ends_after_its_step(capsys):
    done = []
    for step in until_stopped(range(9)):
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        done.append(step)
    assert done == [0, 1, 2] and capsys.readouterr().out == "Stopped by hand after step 3 of 9.\n"
    assert list(until_stopped("ab")) == ["a", "b"] and list(until_stopped(iter([]))) == []
    assert capsys.readouterr().out == "" and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        for _ in until_stopped(range(3)):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    for _ in until_stopped(range(3)):
        break
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


# ------------------------------------------------------------------------------- the stop button of a notebook's kernel

PREPARE = """
import os, time
os.environ["COURSE_QUIET"] = "1"
import torch
from torch import nn
from course_utils.training import fit, until_stopped

def loss(model, x, y, generator):
    time.sleep(0.02)
    return model(x).square().mean()

def go(steps, **options):
    return len(fit(nn.Linear(2, 2), loss, torch.ones(8, 2), steps=steps, **options).steps)

go(1)
"""


@pytest.fixture(scope="module")
def kernel():
    """run(code, press=0): the code as a cell; where it prints "now" the stop button is pressed so many times. Returns
    what was printed, and the name of the error that ended the cell, if any."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel()

    def run(code: str, press: int = 0) -> tuple[str, str]:
        request, printed, error, pressed = client.execute(code), "", "", 0
        while True:
            message = client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            printed += content.get("text", "")
            error = content.get("ename", error)
            while pressed < min(press, printed.count("now")):
                time.sleep(0.1)
                manager.interrupt_kernel()
                pressed += 1
            if content.get("execution_state") == "idle":
                return printed, error

    assert run(PREPARE) == ("", "")
    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_one_press_ends_every_training_of_its_cell_and_none_of_the_next(kernel):
    printed, error = kernel("print('now', flush=True); done = [go(300) for _ in range(3)]; print(done)", press=1)
    lines = printed.splitlines()
    assert error == "" and re.fullmatch(r"\[\d+, 1, 1\]", lines[-1])
    first = int(lines[-1][1:].split(",")[0])
    assert first < 300 and lines[1].startswith(f"Stopped by hand after step {first} of 300. The model keeps")
    assert lines[1].endswith("Cells that wait run on: press stop twice to end them as well.")
    assert (
        lines[2:4] == ["Stopped with its cell after step 1 of 300: not to be compared with a model that had more."] * 2
    )
    assert kernel("print(go(5))") == ("5\n", "")


def test_one_press_ends_a_loop_by_hand_and_what_follows_runs(kernel):
    code = """
        for step in until_stopped(range(300)):
            if step == 0: print('now', flush=True)
            time.sleep(0.02)
        print('done', step + 1, go(5))
    """
    printed, error = kernel(textwrap.dedent(code), press=1)
    step = int(re.search(r"Stopped by hand after step (\d+) of 300\. Cells that wait", printed)[1])
    assert error == "" and step < 300 and printed.endswith(f"done {step} 1\n")


def test_a_press_between_two_trainings_of_a_cell_counts(kernel):
    code = "go(2); print('now', flush=True); time.sleep(0.3); print('measured'); print(go(300))"
    printed, error = kernel(code, press=1)
    assert error == "" and "Stop: this cell trains no more" in printed and printed.endswith("more.\n1\n")


@pytest.mark.parametrize("start", ["go(9, on_step=lambda *_: (print('now now', flush=True), time.sleep(30)))",
                                   "go(2); print('now now', flush=True); time.sleep(30)"])  # fmt: skip
def test_the_second_press_ends_the_cell(kernel, start):
    """And with it "Run All", as a press in a cell that trains nothing does."""
    printed, error = kernel(f"{start}; print('went on')", press=2)
    assert error == "KeyboardInterrupt" and "went on" not in printed and "Cells that wait" not in printed


def test_a_press_in_a_cell_that_trains_nothing_is_an_interrupt(kernel):
    assert kernel("go(2)")[1] == ""
    assert kernel("print('now', flush=True); time.sleep(30)", press=1)[1] == "KeyboardInterrupt"
    assert kernel("print(go(2))") == ("2\n", "")


def test_a_finished_run_is_loaded_and_not_repeated(tmp_path, capsys):
    file, first, second = tmp_path / "c.pt", network(), network()
    before = fit(first, squared_error, images(), steps=6, checkpoint=file)
    again = fit(second, squared_error, images(), steps=6, checkpoint=file)
    assert same(first, second) and again.loss == before.loss and again.seconds == pytest.approx(before.seconds, abs=0.2)
    assert capsys.readouterr().out == f"Resumed '{file}' at step 6 of 6: nothing left to do.\n"
    fresh = fit(network(), squared_error, images(), steps=6, checkpoint=file, resume=False)
    assert fresh.loss == before.loss and capsys.readouterr().out == ""


def test_a_longer_run_on_a_flat_schedule_goes_on_from_a_shorter_one(tmp_path):
    whole, twice = network(), network()
    fit(whole, squared_error, images(), steps=10)
    fit(twice, squared_error, images(), steps=4, checkpoint=tmp_path / "c.pt")
    fit(twice := network(), squared_error, images(), steps=10, checkpoint=tmp_path / "c.pt")
    assert same(whole, twice)


def test_a_longer_run_goes_on_until_the_rate_falls_and_then_with_a_warm_restart(tmp_path):
    def go(steps, file, until=None, **options):
        model = network()
        stop = {"stop": lambda step, history: step == until}
        fit(model, squared_error, images(), steps=steps, lr_schedule="linear-half", checkpoint=file, **stop, **options)
        return model

    file, other = tmp_path / "c.pt", tmp_path / "d.pt"
    go(8, file, until=4)
    assert same(go(12, file), go(12, other))  # no rate so far was another

    with pytest.raises(CheckpointRefused, match=r"steps is 12 there and 20 here; restart=12 trains on"):
        go(20, file)
    assert steps_in(file) == 12 and steps_in(tmp_path / "none.pt") == 0
    whole = go(20, file, restart=12)
    go(20, other, until=15, restart=12)
    assert same(go(20, other, restart=12), whole) and steps_in(other) == 20
    for refused in ({"restart": 14}, {"restart": 20}, {"restart": -1}):
        with pytest.raises(ValueError):
            go(20, file, **refused)


@pytest.mark.parametrize("name", ["elsewhere", "a, b"])
def test_the_same_images_under_another_name_are_the_same(tmp_path, name):
    class ImageSet:
        labels = images()[1]

        def __init__(self, name):
            self.name, self.take = name, images()[0].__getitem__

    fit(network(), squared_error, ImageSet("leaves"), steps=2, checkpoint=tmp_path / "c.pt")
    assert len(fit(network(), squared_error, ImageSet(name), steps=4, checkpoint=tmp_path / "c.pt").steps) == 4


def deeper(model):
    return nn.Sequential(*model, nn.Conv2d(1, 1, 1))


def scaled(beta):
    return lambda model, x, y, generator: beta * model(x).square().mean()


def other_loss(model, x, y, generator):
    return model(x).square().mean()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": lambda: deeper(network())}, r"model's 5.weight is missing there and 1×1×1×1 here"),
        ({"model": lambda: network(dropout=0.5)}, r"a layer is \(3\): Dropout\(p=0.2.*there and \(3\): Dropout\(p=0.5"),
        ({"lr": 1e-3}, r"lr is 0.002 there and 0.001 here"),
        ({"lr_schedule": "cosine"}, r"lr_schedule is 'flat' there and 'cosine' here"),
        ({"ema": 0.9}, r"ema's .* is missing there"),
        ({"data": images(41)}, r"data is 'tensor, 40 of 1×6×4 \(\w+\)' there and 'tensor, 41 of"),
        ({"data": (1 - images()[0], images()[1])}, r"data is"),
        ({"loss": other_loss}, r"loss is 'squared_error' there and 'other_loss' here"),
        ({"steps": 2}, r"steps is 4 there and 2 here"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_in_one_line(tmp_path, change, message):
    file = tmp_path / "c.pt"
    fit(network(), squared_error, images(), steps=4, checkpoint=file)
    before = file.read_bytes()
    model = change.pop("model", network)()
    weights = [weight.clone() for weight in model.parameters()]
    with pytest.raises(CheckpointRefused, match=message) as refusal:
        fit(
            model,
            change.pop("loss", squared_error),
            change.pop("data", images()),
            checkpoint=file,
            **({"steps": 4} | change),
        )
    assert "\n" not in str(refusal.value) and "resume=False" in str(refusal.value)
    assert file.read_bytes() == before and all(map(torch.equal, weights, model.parameters()))


def test_a_loss_of_another_beta_is_another_loss(tmp_path):
    fit(network(), scaled(1.0), images(), steps=2, checkpoint=tmp_path / "c.pt")
    fit(network(), scaled(1.0), images(), steps=2, checkpoint=tmp_path / "c.pt")
    with pytest.raises(CheckpointRefused, match=r"loss is .*beta=1.0\)' there and .*beta=4.0\)' here"):
        fit(network(), scaled(4.0), images(), steps=2, checkpoint=tmp_path / "c.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "truncated", "other"])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, content):
    file = tmp_path / "c.pt"
    fit(network(), squared_error, images(), steps=2, checkpoint=file)
    if content == "truncated":
        content = file.read_bytes()[:-200]
    if content == "other":
        torch.save({"weights": torch.ones(2)}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(CheckpointRefused, match="damaged|not written by `fit`") as refusal:
        fit(network(), squared_error, images(), steps=2, checkpoint=file)
    assert "\n" not in str(refusal.value)


def test_reading_a_checkpoint_runs_no_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"format": 1, "about": Trap()}, tmp_path / "c.pt")
    with pytest.raises(CheckpointRefused, match="damaged"):
        fit(network(), squared_error, images(), steps=2, checkpoint=tmp_path / "c.pt")
    assert not (tmp_path / "sprung").exists()


# ------------------------------------------------------------------------------------------- full disks, closed folders


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, root):
    """A limit on file sizes in a process of its own: writes fail half-way, as on a full disk."""
    code = f"""
        import os, resource, sys, torch
        sys.path[:0] = {[str(root), str(root / "tests")]!r}
        from test_training import fit, images, network, squared_error
        run = dict(checkpoint={str(tmp_path / "c.pt")!r}, checkpoint_every=2)
        fit(network(), squared_error, images(), steps=4, **run)
        before = open({str(tmp_path / "c.pt")!r}, "rb").read()
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        history = fit(network(), squared_error, images(), steps=12, **run)
        assert history.steps == list(range(1, 13)), history.steps
        assert open({str(tmp_path / "c.pt")!r}, "rb").read() == before
        assert os.listdir({str(tmp_path)!r}) == ["c.pt"], os.listdir({str(tmp_path)!r})
    """
    env = {**os.environ, "COURSE_QUIET": "1"}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and lines[0].startswith("Resumed")
    assert "could not be saved at step 6" in lines[1] and "untouched" in lines[1]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied"),
                                   OSError(30, "Read-only file system")])  # fmt: skip
def test_an_error_while_saving_is_one_line_and_training_goes_on(tmp_path, monkeypatch, capsys, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(os, "replace", refuse)
    history = fit(network(), squared_error, images(), steps=9, checkpoint=tmp_path / "c.pt", checkpoint_every=2)
    assert len(history.steps) == 9
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and error.strerror in out and "could not be saved at step 2" in out
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    history = fit(network(), squared_error, images(), steps=3, checkpoint=tmp_path / "file" / "c.pt")
    assert len(history.steps) == 3 and "could not be saved" in capsys.readouterr().out


def test_leftovers_of_a_killed_save_are_cleared_away(tmp_path):
    (tmp_path / ".c.pt.4711.part").write_bytes(b"half a checkpoint")
    (tmp_path / ".other.pt.4711.part").write_bytes(b"not ours")
    fit(network(), squared_error, images(), steps=2, checkpoint=tmp_path / "c.pt")
    assert sorted(os.listdir(tmp_path)) == [".other.pt.4711.part", "c.pt"]


# ------------------------------------------------------------------------------------------------------------ diverging


def test_nan_stops_names_the_step_and_puts_good_weights_back(tmp_path, monkeypatch):
    monkeypatch.setattr(diverging, "time", SimpleNamespace(perf_counter=lambda: 0.0))  # no second goes by, however busy
    model, calls = network(), []
    weights = [tensor.clone() for tensor in model.state_dict().values()]

    def loss(m, x, y, g):
        calls.append(1)
        return m(x).square().mean() * (math.nan if len(calls) == 5 else 1.0)

    with pytest.raises(
        TrainingDiverged, match=r"the loss became nan in step 5 of 400; .* a smaller lr \(now 0.002\)"
    ) as diverged:
        fit(model, loss, images(), steps=400, checkpoint=tmp_path / "c.pt")
    error = diverged.value
    assert error.step == 5 and "\n" not in str(error) and len(error.history.steps) == len(error.history.loss) < 5
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values()) and not model.training
    assert len(error.history.steps) == 0 and all(map(torch.equal, weights, model.state_dict().values()))
    assert not (tmp_path / "c.pt").exists()


def test_nan_never_overwrites_a_good_checkpoint(tmp_path):
    file = tmp_path / "c.pt"

    def loss(m, x, y, g):
        return m(x).square().mean() * scale[0]

    scale = [1.0]
    fit(network(), loss, images(), steps=4, checkpoint=file)
    before, scale[0] = file.read_bytes(), math.inf
    with pytest.raises(TrainingDiverged):
        fit(network(), loss, images(), steps=40, checkpoint=file, checkpoint_every=1)
    assert file.read_bytes() == before


def test_a_weight_that_is_nan_while_the_loss_is_not_is_noticed_too():
    model = nn.ModuleDict({"used": nn.Linear(1, 1), "rare": nn.Linear(1, 1)})

    def loss(m, x, y, g):
        return (
            m["used"](x).mean() + (m["rare"](x) * 0).mean().sqrt()
        )  # the gradient of √ at 0 is infinite, times 0: nan

    with pytest.raises(TrainingDiverged, match="a weight became nan or infinite"):
        fit(model, loss, torch.ones(4, 1), steps=1)
    assert all(weight.isfinite().all() for weight in model.parameters())


# ------------------------------------------------------------------------------------------------------------ bad input


def detached(model, x, y, generator):
    return model(x).detach().mean()


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"steps": 0}, ValueError, "steps: expected a whole number of at least 1, got 0"),
        ({"steps": True}, ValueError, "steps: expected a whole number of at least 1, got True"),
        ({"batch_size": 0}, ValueError, "batch_size: expected"),
        ({"lr": -1.0}, ValueError, "lr: expected a positive number"),
        ({"lr": math.nan}, ValueError, "lr: expected a positive number"),
        ({"ema": 1.5}, ValueError, r"ema: expected None or a decay in \[0, 1\)"),
        ({"clip": 0.0}, ValueError, "clip: expected None or a positive norm"),
        (
            {"lr_schedule": "cosinus"},
            ValueError,
            "lr_schedule: expected 'flat', 'cosine', 'linear-half' or a callable, got 'cosinus'",
        ),
        ({"optimizer": "adan"}, ValueError, "optimizer: expected 'adam', .* got 'adan'"),
        ({"learning_rate": 1e-3}, TypeError, "unknown option 'learning_rate'; a recipe has steps, batch_size, lr"),
        ({"every": 0}, ValueError, "every: expected a whole number of steps, at least 1, got 0"),
        (
            {"loss": lambda m, x, y, g: m(x)},
            TypeError,
            r"loss: expected one number, got shape \(40, 1, 6, 4\); take its mean or sum",
        ),
        ({"loss": lambda m, x, y, g: m(x).mean().item()}, TypeError, "loss: expected a scalar tensor"),
        ({"loss": detached}, ValueError, "loss: no gradient reaches the model's weights"),
        ({"loss": lambda m, x, y, g: (m(x).mean(), {"kl": m(x)})}, TypeError, r"kl: expected one number, got shape"),
        ({"data": torch.zeros(0, 1, 6, 4)}, ValueError, "data: expected at least one example"),
        (
            {"data": torch.zeros(4, 1, 6, 4, dtype=torch.uint8)},
            TypeError,
            "data: expected float examples.* got torch.uint8",
        ),
        ({"data": (torch.zeros(4, 1), torch.zeros(3))}, ValueError, "4 examples and 3 labels"),
        ({"data": "fashion-mnist"}, TypeError, "data: expected an ImageSet, a tensor or a pair"),
        ({"model": nn.ReLU()}, ValueError, "model: expected a module with weights"),
        ({"model": nn.Linear(1, 1).requires_grad_(False)}, ValueError, "got none that require a gradient"),
        (
            {"optimizer": torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)},
            ValueError,
            "none of this model's weights",
        ),
    ],
)
def test_bad_input_is_answered_in_one_line(change, error, message):
    model, loss, data = (
        change.pop("model", None) or network(),
        change.pop("loss", squared_error),
        change.pop("data", None),
    )
    with pytest.raises(error, match=message) as raised:
        fit(model, loss, images() if data is None else data, **({"steps": 2} | change))
    assert "\n" not in str(raised.value)


def test_steps_must_be_said():
    with pytest.raises(TypeError, match="expected steps="):
        fit(network(), squared_error, images())


def test_a_folder_as_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a file, got the folder"):
        fit(network(), squared_error, images(), steps=2, checkpoint=tmp_path)


def test_an_update_must_name_its_loss():
    with pytest.raises(TypeError, match='one of them "loss"'):
        train(lambda x, y, g: {"value": torch.ones(())}, torch.zeros(4, 1), {"m": nn.Linear(1, 1)}, Recipe(steps=2))


def test_a_recipe_and_keywords_together():
    history = fit(network(), squared_error, images(), Recipe(steps=9, lr=1e-3), steps=3)
    assert isinstance(history, History) and len(history.steps) == 3


def test_the_bar_is_quiet_where_it_should_be(capfd, monkeypatch):
    fit(network(), squared_error, images(), steps=2)
    assert capfd.readouterr() == ("", "")
    for name in ("CI", "COURSE_QUIET", "NBGRADER_EXECUTION"):
        monkeypatch.setenv(name, "0" if name == "CI" else "")
    fit(network(), squared_error, images(), steps=2)
    assert "loss" in capfd.readouterr().err


def test_view_on_channels_last_images_is_explained():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(32, 1))

    def loss(m, x, y, g):
        return m[0](x).view(len(x), -1).mean()

    with pytest.raises(RuntimeError) as raised:
        fit(model, loss, images(), steps=1)
    assert any("channels-last" in note and ".reshape" in note for note in raised.value.__notes__)
    assert len(fit(model, loss, images(), steps=1, channels_last=False).loss) == 1


# ------------------------------------------------------------------------------------------- so many seconds, in steps
def test_steps_within_leaves_the_slow_first_ones_out_and_tries_little():
    tried = []

    def train(steps):
        tried.append(steps)
        return History(steps=[*range(steps)], seconds=30.0 if len(tried) == 1 else 0.25 * steps)

    assert steps_within(100, train) == 400 and sum(tried[1:]) * 0.25 < 10
    tried.clear()
    assert steps_within(0.1, train) == 2 and tried == [3, 1]


def test_steps_within_tells_of_seconds_that_are_none_and_heeds_a_stop():
    for seconds in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="seconds above 0"):
            steps_within(seconds, lambda steps: History())
    stopped = History(steps=[1, 2], seconds=1.0, ended="interrupted")
    assert steps_within(10, lambda steps: stopped) == 20
    later = iter([History(seconds=0.1), History(seconds=0.1), stopped])
    assert steps_within(10, lambda steps: next(later)) == 20
