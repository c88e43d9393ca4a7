"""What the doctor finds, and that every problem comes with what to do."""

import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from course_utils.__main__ import main
from course_utils.cli import doctor as module
from course_utils.cli.doctor import Finding, Report, doctor


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("COURSE_EFFORT", "COURSE_DEVICE"):
        monkeypatch.delenv(name, raising=False)


def finding(report: Report, subject: str) -> Finding:
    return next(finding for finding in report.findings if finding.subject == subject)


def test_everything_is_looked_at():
    report = doctor()
    subjects = {f.subject for f in report.findings}
    wanted = "course Python PyTorch device bfloat16 threads effort memory widgets data:digits data:fashion-mnist"
    assert subjects >= {name.replace(":", ": ") for name in wanted.split()}
    assert any(subject.startswith("disk") for subject in subjects)
    assert not any("could not be found out" in f.found for f in report.findings)


def test_every_problem_says_what_to_do(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("COURSE_EFFORT", "huge")
    monkeypatch.setenv("COURSE_DEVICE", "cuda:77")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    monkeypatch.setattr(module, "memory", lambda: (4e9, 1e9))
    report = doctor()
    assert not report.ok
    problems = {f.subject for f in report.findings if f.state == "problem"}
    assert problems >= {"data folder", "effort", "device", "disk, data"}
    assert all(f.advice for f in report.findings if f.state == "problem")
    assert finding(report, "memory").advice
    assert re.search(r"\d problems: see what to do", str(report))


def test_a_look_that_fails_is_a_finding_and_not_a_crash(monkeypatch):
    def broken():
        raise RuntimeError("no such thing")

    monkeypatch.setitem(module.LOOKS, "memory", broken)
    assert "RuntimeError: no such thing" in finding(doctor(), "memory").found


def test_missing_widgets(monkeypatch):
    def missing(_):
        raise module.importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(module.importlib.metadata, "version", missing)
    found = finding(doctor(), "widgets")
    assert found.state == "problem" and "pip install" in found.advice


def test_text_and_table():
    report = Report((Finding("a", "x < y"), Finding("longer", "z", "problem", "mend <it>")))
    assert str(report) == repr(report)
    lines = str(report).splitlines()
    assert lines[0] == "✓ a       x < y" and "→ mend <it>" in lines[2] and lines[-1].startswith("1 problem:")
    table = report._repr_html_()
    assert "x &lt; y" in table and "mend &lt;it&gt;" in table and "aria-label='problem'" in table
    assert table.count("<tr>") == 3


def test_memory_is_plausible():
    total, free = module.memory()
    assert total is None or 0 < free <= total


def test_paths_are_short(monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "elsewhere")
    assert module.short(tmp_path / "here") == "."
    assert module.short(tmp_path / "data") == str(Path("..", "data"))
    assert module.short(tmp_path / "elsewhere" / "a") == str(Path("~", "a"))


def test_command(capsys, monkeypatch):
    monkeypatch.setattr(module, "LOOKS", {"course": module._course})
    assert main(["doctor"]) == 0
    assert "course_utils" in capsys.readouterr().out
    monkeypatch.setattr(module, "LOOKS", {"effort": lambda: ("huge", "problem", "do this")})
    assert main(["doctor"]) == 1
