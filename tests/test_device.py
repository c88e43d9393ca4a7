"""Device, effort, threads, precision, seeds, and the first cell of a notebook."""

import subprocess
import sys
from dataclasses import replace

import matplotlib
import pytest
import torch

import course_utils
from course_utils import device as devices
from course_utils.notebook import Lab, load_known, setup


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("COURSE_EFFORT", "COURSE_DEVICE", "COURSE_DATASET", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def one_line(error) -> str:
    text = str(error.value)
    assert text and "\n" not in text
    return text


# ---------------------------------------------------------------------------------------------------- device and effort


def test_device_is_a_gpu_only_where_there_is_one():
    assert devices.pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert devices.pick_device("cpu") == torch.device("cpu")
    assert devices.pick_device(torch.device("cpu")) == torch.device("cpu")


def test_device_from_the_environment(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert devices.pick_device() == torch.device("cpu")


@pytest.mark.parametrize("wanted", ["gpu", "cuda:99", "toaster", "cuda:x"])
def test_a_device_that_is_not_there(wanted):
    with pytest.raises(ValueError, match="device") as error:
        devices.pick_device(wanted)
    assert wanted in one_line(error)


def test_effort(monkeypatch):
    assert devices.pick_effort(torch.device("cpu")) == "cpu"
    assert devices.pick_effort(torch.device("cuda")) == "gpu"
    monkeypatch.setenv("COURSE_EFFORT", " Smoke ")
    assert devices.pick_effort(torch.device("cuda")) == "smoke"
    assert devices.pick_effort(torch.device("cpu"), "gpu") == "gpu"


def test_an_effort_that_does_not_exist(monkeypatch):
    monkeypatch.setenv("COURSE_EFFORT", "huge")
    with pytest.raises(ValueError, match="COURSE_EFFORT: expected smoke, cpu or gpu, got 'huge'") as error:
        setup("01")
    one_line(error)


# -------------------------------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize(("text", "share"), [("200000 100000", 2.0), ("50000 100000", 0.5), ("max 100000", None)])
def test_share_of_a_container(tmp_path, text, share):
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert devices.cpu_share(tmp_path) == share


def test_share_of_an_older_container(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("150000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert devices.cpu_share(tmp_path) == 1.5
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert devices.cpu_share(tmp_path) is None
    assert devices.cpu_share(tmp_path / "nothing") is None


def test_threads_keep_to_the_share(monkeypatch):
    monkeypatch.setattr(devices, "cpu_share", lambda: 0.5)
    assert devices.pick_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # somebody has decided
    assert devices.pick_threads() == torch.get_num_threads()


# ------------------------------------------------------------------------------------------------------------ precision


def test_autocast_on_and_off():
    a = torch.ones(4, 4)
    with devices.autocast("cpu", enabled=True):
        assert (a @ a).dtype == torch.bfloat16
    with devices.autocast("cpu", enabled=False):
        assert (a @ a).dtype == torch.float32
    with devices.autocast("cpu"):
        assert (a @ a).dtype == (torch.bfloat16 if devices.has_bfloat16("cpu") else torch.float32)


def test_bfloat16_is_only_claimed_where_the_processor_has_it():
    if devices.has_bfloat16("cpu"):
        capabilities = torch.cpu.get_capabilities()
        assert capabilities["avx512_bf16"] or capabilities["amx_bf16"]
    assert not devices.has_bfloat16("mps")
    assert not (devices.has_bfloat16("cuda") and not torch.cuda.is_available())


# ---------------------------------------------------------------------------------------------------------------- seeds


def test_generators_repeat_and_are_independent_of_the_global_state():
    draws = [torch.randn(5, generator=devices.generator(3)) for _ in range(2)]
    torch.manual_seed(99)
    draws.append(torch.randn(5, generator=devices.generator(3)))
    assert torch.equal(draws[0], draws[1]) and torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], torch.randn(5, generator=devices.generator(4)))


def test_seeded_weights_and_untouched_global_state():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    with devices.seeded(0):
        a = torch.nn.Linear(3, 3)
    with devices.seeded(0):
        b = torch.nn.Linear(3, 3)
    assert torch.equal(torch.randn(3), expected)
    assert torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias)


def test_seeded_restores_after_an_error():
    before = torch.random.get_rng_state()
    with pytest.raises(KeyError), devices.seeded(0):
        torch.randn(10)
        raise KeyError
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("seed", [1.5, "0", None, True])
def test_a_seed_that_is_no_number(seed):
    with pytest.raises(Exception, match="seed"):
        devices.generator(seed)


# ---------------------------------------------------------------------------------------------------------------- setup


def test_setup_says_one_line(capsys, monkeypatch):
    monkeypatch.setenv("COURSE_DATASET", "digits")
    lab = setup("02", effort="smoke", device="cpu")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    for word in ("notebook 02", "effort smoke", "CPU", "thread", "data digits"):
        assert word in lines[0]
    assert (lab.device, lab.effort, lab.data) == (torch.device("cpu"), "smoke", "digits")


def test_setup_dresses_pictures_and_sets_no_seed():
    before = torch.random.get_rng_state()
    with matplotlib.rc_context({"axes.grid": False}):
        setup("01", device="cpu")
        assert matplotlib.rcParams["axes.grid"]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_pick():
    lab = Lab("01", torch.device("cpu"), effort="smoke")
    assert lab.pick(smoke=1, cpu=2, gpu=3) == 1
    assert lab.pick(smoke=None) is None
    with pytest.raises(ValueError, match="no value for effort 'smoke'.*smoke=") as error:
        lab.pick(cpu=2, gpu=3)
    one_line(error)
    with pytest.raises(ValueError, match="'gpus'") as error:
        lab.pick(smoke=1, gpus=3)
    one_line(error)


def test_lab_generator():
    lab = Lab("01", torch.device("cpu"), effort="smoke")
    assert torch.equal(torch.rand(2, generator=lab.generator(1)), torch.rand(2, generator=devices.generator(1)))


def test_setup_works_in_a_plain_script(root):
    code = "from course_utils import setup; lab = setup('01', effort='smoke'); print(lab.pick(smoke='fine'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "fine" and not done.stderr


def test_importing_the_package_is_light(root):
    code = "import sys, course_utils; print(course_utils.__version__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [course_utils.__version__, "False"]
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = course_utils.nothing_like_it


def test_images_that_no_trained_model_knows_give_way_to_digits_and_say_so():
    lab = setup("11", effort="smoke", device="cpu")
    known, other = (load_known(replace(lab, data=name), "test") for name in ("digits", "two-photos"))
    assert known.name == other.name == "digits" and not known.note and other.note.startswith("instead of")
