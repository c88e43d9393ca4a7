"""benchmarks/training.py and peers.py: budgets, counts, rows that survive an interruption, and one quick run."""

from __future__ import annotations

import importlib.util
import json
import math
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.data.image_set import ImageSet
from course_utils.diffusion import cosine_schedule

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """benchmarks/training.py as a module, with sys.path as it was."""
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("benchmark_training", BENCHMARKS / "training.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@pytest.fixture(scope="module")
def peers(bench) -> ModuleType:
    return sys.modules["peers"]


@pytest.fixture
def data() -> ImageSet:
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (40, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(40) % 2, ("even", "odd"), "noise")


class Small(nn.Module):
    """One convolution that is told the step."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, t):
        return self.conv(x) + t.view(-1, 1, 1, 1) / 1000


@pytest.fixture
def small(peers):
    recipe = {"batch_size": 4, "lr": 1e-3, "mixed_precision": False, "channels_last": False}
    return peers.Entry("small", lambda shape: Small(), cosine_schedule(20), "v", recipe)


@pytest.fixture
def clock(bench, monkeypatch):
    """Seconds that pass only when told: `clock.now += 1`."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(bench, "seconds", lambda device: clock.now)
    return clock


def ticking(entry, clock, seconds=1.0, each=lambda model: None):
    """The entry with a loss that takes so many seconds of the clock."""
    plain = entry.loss()

    def loss(model, *rest):
        each(model)
        clock.now += seconds
        return plain(model, *rest)

    ticks = type("Ticking", (type(entry),), {"loss": lambda self: loss})
    return ticks(**vars(entry))


# ------------------------------------------------------------------------------------------------------------- networks
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 12)])
def test_tutorial_network_keeps_shapes_and_listens_to_the_step(peers, shape):
    torch.manual_seed(0)
    model = peers.TutorialUNet(shape, width=12)
    x = torch.randn(2, *shape)
    one, other = model(x, torch.tensor([1, 1])), model(x, torch.tensor([1, 150]))
    assert one.shape == x.shape
    assert torch.allclose(one[0], other[0], atol=1e-5) and not torch.allclose(one[1], other[1], atol=1e-3)


def test_tutorial_network_has_the_widths_of_the_tutorial(peers):
    model = peers.TutorialUNet()
    assert model.stem.weight.shape == (18, 1, 7, 7)
    assert [level[1].across[-1].out_channels for level in model.down] == [28, 56, 112]
    assert [level[1].across[-1].out_channels for level in model.up] == [56, 28]
    assert all(block.across[1].kernel_size == (3, 3) for level in model.down for block in level[:2])
    assert [level[2].linear for level in (*model.down, *model.up)] == [True] * 5 and not model.middle[1].linear


def test_tutorial_attention_is_attention(peers):
    torch.manual_seed(0)
    x = torch.randn(2, 8, 3, 5)
    for linear in (False, True):
        layer = peers.PreNormAttention(8, linear)
        q, k, v = layer.qkv(layer.norm(x)).chunk(3, dim=1)
        q, k, v = (z.reshape(2, 4, 32, 15).mT for z in (q, k, v))  # (b, heads, pixels, d)
        if linear:
            gathered = torch.einsum("bhnd,bhmd,bhme->bhne", q.softmax(-1) / 32**0.5, k.softmax(-2), v)
        else:
            gathered = F.scaled_dot_product_attention(q, k, v)
        expected = x + layer.out(gathered.mT.reshape(2, 128, 3, 5))
        assert torch.allclose(layer(x), expected, atol=1e-5)


def test_waves_reach_from_one_to_a_ten_thousandth(peers):
    waves = peers.Waves(28)
    assert waves.speed[0] == 1 and waves.speed[-1].item() == pytest.approx(1e-4)
    assert torch.allclose(waves(torch.tensor([3]))[0, [0, 14]], torch.tensor([math.sin(3), math.cos(3)]))


def test_steps_of_peers_are_counted_from_zero(peers):
    seen = []

    class Theirs(nn.Module):
        def forward(self, x, t):
            seen.append(t.tolist())
            return SimpleNamespace(sample=x * 2)

    wrapped = peers.CountingFromZero(Theirs())
    assert torch.equal(wrapped(torch.ones(2, 1), torch.tensor([1, 200])), torch.full((2, 1), 2.0))
    assert seen == [[0, 199]]


def test_independent_steps_reach_both_ends(peers):
    t = peers.independent_steps(500, 3, torch.Generator().manual_seed(0), CPU)
    assert t.unique().tolist() == [1, 2, 3] and t.dtype == torch.int64


def test_tutorial_recipe(peers):
    entry = peers.tutorial()
    assert entry.schedule.T == 200 and entry.schedule.beta[[1, 200]].tolist() == pytest.approx([1e-4, 0.02])
    assert (entry.prediction_type, entry.distance, entry.recipe["batch_size"], entry.recipe["lr"]) == (
        "noise",
        "huber",
        128,
        1e-3,
    )
    fair = entry.fair_play()
    assert fair.name != entry.name and fair.recipe["channels_last"] and fair.choose_weights
    assert {k: v for k, v in fair.recipe.items() if k not in peers.FAIR_PLAY} == {
        k: v for k, v in entry.recipe.items() if k not in peers.FAIR_PLAY
    }


def test_diffusers_network(peers):
    entry = peers.diffusers()
    torch.manual_seed(0)
    model = entry.build((1, 28, 28))
    assert model.model.config.block_out_channels == (32, 64, 64)
    with torch.no_grad():
        assert model(torch.zeros(2, 1, 28, 28), torch.tensor([1, 1000])).shape == (2, 1, 28, 28)
    assert entry.schedule.alpha_bar[-1].item() == pytest.approx(4.04e-5, rel=1e-2) and "diffusers" in entry.facts()


def test_stand_ins_are_there_for_an_import_and_gone_afterwards(peers):
    names = ("torchvision", "accelerate", "ema_pytorch")
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    with peers.stand_ins():
        from accelerate import Accelerator  # noqa: F401
        from ema_pytorch import EMA  # noqa: F401
        from torchvision import transforms, utils  # noqa: F401
    assert not set(absent) & set(sys.modules)


def test_an_absent_library_is_named_and_left_out(bench, peers, monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "denoising_diffusion_pytorch" else real(name)
    )
    entries = bench.chosen(bench.parse(["--only", "ours", "ddp", "tutorial"]))
    assert [entry.name for entry in entries] == [
        "ours",
        "tutorial's ConvNeXt U-Net",
        "tutorial's ConvNeXt U-Net, fair play",
    ]
    assert "requirements-bench.txt" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- budgets
def test_the_budget_ends_the_run_between_two_steps(bench, small, clock, data):
    rates = []
    entry = replace(small, recipe=small.recipe | {"lr_schedule": "linear-half", "ema": 0.9, "optimizer": "sgd"})
    before = bench.train(ticking(entry, clock), data, bench.Budget(8, CPU), seed=3)
    assert (before.steps, before.seconds) == (8, 8.0) and before.average is not None and not before.model.training

    def make(weights, lr):
        optimizer = torch.optim.SGD(weights, lr=lr)
        optimizer.register_step_post_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"] / lr))
        return optimizer

    entry = replace(entry, recipe=entry.recipe | {"optimizer": make})
    again = bench.train(ticking(entry, clock), data, bench.Budget(8, CPU), seed=3)
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.75, 0.5, 0.25])  # by seconds, not by steps
    assert all(torch.equal(a, b) for a, b in zip(before.model.parameters(), again.model.parameters()))


def test_a_budget_of_cpu_seconds(bench, small, data):
    trained = bench.train(small, data, bench.Budget(0.2, CPU), seed=0)
    assert trained.seconds >= 0.2 and trained.steps >= 1 and math.isfinite(trained.loss)


def test_what_is_off_the_budget_is_not_counted(bench, clock):
    budget = bench.Budget(10, CPU)
    assert budget.used == 0
    clock.now += 3
    with pytest.raises(KeyError), budget.off():
        clock.now += 50
        raise KeyError
    clock.now += 1
    assert budget.used == 4 and budget.factor("linear-half") == 1
    clock.now += 96
    assert budget.factor("linear-half") == 0
    with pytest.raises(ValueError, match="above 0"):
        bench.Budget(0, CPU)


def test_ctrl_c_ends_everything(bench, small, clock, data):
    entry = ticking(small, clock, each=lambda model: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where tests run in the background
    with pytest.raises(KeyboardInterrupt):
        bench.train(entry, data, bench.Budget(8, CPU), seed=0)
    signal.signal(signal.SIGINT, before)


# -------------------------------------------------------------------------------------------------------------- counts
def test_operations_of_convolutions(bench, small):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 1, 5, padding=2)

        def forward(self, x, t):
            return self.two(self.one(x))

    one, two = 2 * 8 * 10 * 1 * 6 * 9, 2 * 8 * 10 * 6 * 1 * 25  # forward, an image
    expected = 4 * (2 * one + 3 * two)  # backward: as much for weights, and again for inputs, but not for images
    assert bench.flops_per_step(replace(small, build=lambda shape: Two()), (1, 8, 10)) == expected


def test_operations_of_attention(bench, small):
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x, t):
            z = x.flatten(2) * self.scale  # (b, 1, n·d)
            z = z.reshape(len(x), 1, 16, 5)
            return F.scaled_dot_product_attention(z, z, z).reshape(x.shape)

    expected = 4 * 3 * 2 * (2 * 16 * 16 * 5)  # q kᵀ and · v; forward and twice as much backward
    assert bench.flops_per_step(replace(small, build=lambda shape: Attend()), (1, 8, 10)) == expected


def test_speed_of_products_is_counted_by_the_clock(bench, monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(bench, "seconds", lambda device: next(ticks))
    assert bench.matmul_speed(CPU, torch.float32, size=64) == 2 * 64**3


# --------------------------------------------------------------------------------------------------------------- judge
def test_the_walk_uses_the_entrys_schedule_and_clips(bench, small):
    class Says(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = nn.Parameter(torch.tensor(value))

        def forward(self, x, t):
            return torch.zeros_like(x) + self.value

    noise = torch.randn(3, 1, 8, 8)
    entry = replace(small, prediction_type="x0")
    for value, expected in ((0.25, 0.25), (3.0, 1.0)):
        images = bench.draw(entry, Says(value), noise, half=False, channels_last=True)
        assert images.shape == noise.shape and torch.allclose(images, torch.full_like(images, expected), atol=1e-6)


def test_judge(bench, data):
    evaluator = bench.Evaluator(
        lambda x: x.flatten(1)[:, :3], data.x, logits=lambda f: f * 0 + torch.tensor([0.0, 0.0, -99.0])
    )
    same, other = evaluator(data.x), evaluator(data.x * 0.5)
    assert same["distance"] == pytest.approx(0, abs=1e-6) and other["distance"] > 0.01
    assert (same["sure"], same["classes"]) == pytest.approx((0.5, 2.0))


def test_fair_play_takes_the_better_weights(bench, small, data):
    torch.manual_seed(0)
    good, bad = Small(), Small()
    nn.init.constant_(bad.conv.bias, 50.0)
    noise = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = bench.draw(small, good, noise, False, False)
    evaluator = bench.Evaluator(lambda x: x.flatten(1)[:, :2], expected)
    entry = replace(small, choose_weights=True)
    for model, average, which in ((good, bad, "raw"), (bad, good, "averaged")):
        trained = bench.Trained(model, average, 1, 1.0, 1.0, 0.0)
        images, spent, chosen = bench.sample(entry, trained, noise, evaluator, (False, False))
        assert chosen == which and spent > 0 and torch.allclose(images, expected, atol=1e-5)
    assert (
        bench.sample(small, bench.Trained(good, bad, 1, 1.0, 1.0, 0.0), noise, evaluator, (False, False))[2]
        == "averaged"
    )
    assert bench.sample(entry, bench.Trained(bad, None, 1, 1.0, 1.0, 0.0), noise, evaluator, (False, False))[2] == "raw"


# ---------------------------------------------------------------------------------------------------------------- rows
def test_rows_survive_a_line_cut_short(bench, tmp_path):
    path = tmp_path / "rows.jsonl"
    assert bench.read_rows(path) == []
    bench.append_row(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b"')
    assert bench.read_rows(path) == [{"a": 1}]
    bench.append_row(path, {"a": 3})
    assert bench.read_rows(path) == [{"a": 1}, {"a": 3}]
    path.write_text('{"a"\n{"a": 1}\n')
    with pytest.raises(ValueError, match="line 1: expected a row"):
        bench.read_rows(path)


def test_an_interrupted_table_goes_on_where_it_stopped(bench, small, data, tmp_path, monkeypatch):
    done = []

    def measure(entry, seed, budget, *_):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append((entry.name, seed))
        return {"steps": 1, "distance": 2.0, "sampling": 3.0}, torch.zeros(1, 1, 8, 8)

    monkeypatch.setattr(bench, "measure", measure)
    options = bench.parse(["--json", str(tmp_path / "rows.jsonl"), "--seeds", "0", "1", "--threads", "1"])
    entries, evaluator = [small, replace(small, name="other")], SimpleNamespace(name="some features")
    with pytest.raises(KeyboardInterrupt):
        bench.collect(entries, data, evaluator, options)
    assert done == [("small", 0), ("other", 0), ("small", 1)]
    done.clear()
    rows = bench.collect(entries, data, evaluator, options)
    assert done == [("other", 1)] and len(rows) == 4
    done.clear()
    faster = replace(small, recipe=small.recipe | {"lr": 9e-3})  # another recipe is another measurement
    bench.collect(
        [faster], data, evaluator, bench.parse(["--json", str(options.json), "--seeds", "0", "--threads", "1"])
    )
    assert done == [("small", 0)]
    assert [row["seed"] for row in bench.report([small], evaluator, options)] == [0, 1]  # not the one of another recipe
    done.clear()
    bench.collect([small], data, SimpleNamespace(name="other features"), options)
    assert done == [("small", 0), ("small", 1)]  # and so is another judge's


def test_tables(bench):
    row = {"entry": "ours", "budget": 60.0, "steps": 10, "cpu_ms": 5.0, "wall_ms": 6.0, "parameters": 12345}
    row |= {"gflop": 1.0, "share": 0.5, "weights": "raw", "recipe": {"batch_size": 64}}
    rows = [row | {"distance": 4.0, "sampling": 10.0}, row | {"distance": 6.0, "sampling": 10.0}]
    rows += [row | {"entry": "slow but near", "distance": 50.0, "sampling": 400.0}]
    rows += [row | {"entry": "fast but far", "distance": 500.0, "sampling": 200.0}]
    lines = bench.table(rows).splitlines()
    assert len(lines) == 5 and all(f"| {cell} |" in lines[2] for cell in ("**5.0 (4.0–6.0)**", "12,345", "50", "10"))
    assert len({line.count("|") for line in lines}) == 1
    (verdict,) = bench.verdicts(rows)
    assert "0.100 of the best other's (slow but near)" in verdict and "1/20.0 of the fastest" in verdict
    assert bench.verdicts(rows[:2]) == []


@pytest.mark.parametrize(
    "wrong", [["--samples", "1"], ["--budget", "0"], ["--only", "nobody"], ["--threads", "0"], ["--report"]]
)
def test_wrong_arguments(bench, wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.parse(wrong)
    assert stop.value.code == 2 and wrong[0] in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------- whole runs
@pytest.mark.slow  # its parts are tested above
def test_quick_run(bench, peers, monkeypatch, tmp_path, capsys):
    """Ours, the tutorial's and diffusers', small batches, one CPU second each; again: nothing is left to do."""
    monkeypatch.setattr(bench, "STEPS", 2)
    monkeypatch.setattr(bench, "matmul_speed", lambda device, dtype: 1e12)

    def light(make):
        entry = make()
        return lambda: replace(entry, recipe=entry.recipe | {"batch_size": 4})

    for name, make in (("ours", bench.ours), ("tutorial", peers.tutorial), ("diffusers", peers.diffusers)):
        monkeypatch.setitem(bench.ENTRIES, name, light(make))
    command = ["--only", "ours", "tutorial", "diffusers", "--budget", "1", "--seeds", "0", "--samples", "6"]
    command += ["--data", "digits", "--features", "pca", "--time-sampling", "2", "--json", str(tmp_path / "rows.jsonl")]
    rows = bench.main([*command, "--pictures", str(tmp_path / "pictures")])
    printed = capsys.readouterr().out
    assert [row["entry"] for row in rows] == [line.split(" | ")[0][2:] for line in printed.splitlines()[2:7]]
    for row in rows:
        assert row["steps"] >= 1 and row["parameters"] > 10_000 and row["gflop"] > 0 and 0 < row["share"] < 1
        assert math.isfinite(row["distance"]) and row["sampling"] > 0
    assert {row["sampling_timed_on"] for row in rows} <= {2, 6}
    assert "PyTorch" in printed and "real training images" in printed and "our distance is" in printed
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 5
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == rows
    monkeypatch.setattr(bench, "measure", lambda *_: pytest.fail("measured again"))
    assert bench.main(command) == rows == bench.main([*command, "--report"])


def test_time_to_a_distance(bench, small, clock, data, monkeypatch, capsys):
    """With a clock of ours, and a compiled network whose truth, like that of PyTorch's, can't be asked."""
    compiled = []

    class Fast(nn.Sequential):
        def __len__(self):
            raise TypeError

        def forward(self, x, t):
            return self._modules["0"](x, t)

    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(type(model)) or Fast(model))
    options = bench.parse(["--samples", "4", "--every", "3", "--budget", "20", "--to-quality", "1"])
    distances = iter([9.0, 4.0, 0.5] * 2)
    evaluator = lambda images: {"distance": next(distances)}  # noqa: E731
    for whether in (False, True):
        ticks = iter(range(10**6))
        monkeypatch.setattr(bench, "seconds", lambda device, ticks=ticks: next(ticks) * 0.01)
        row = bench.to_quality(small, whether, 1.0, data, evaluator, options)
        assert row["steps"] == 9 and row["distance"] == 0.5 and 0 < row["reached"] < 20
        assert row["training"] > 0 and row["sampling"] > 0
    assert compiled == [Small, Small]
    assert "not reached" in bench.quality_table([row | {"reached": None}], 1.0)
