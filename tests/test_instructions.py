"""What the pages tell people to paste does what they say, word for word."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from classroom.__main__ import parser as classroom
from course_utils.__main__ import parser as course_utils

ROOT = Path(__file__).resolve().parent.parent
FIRST = re.compile(r"git clone|cd |python3 -m venv|source |pip install")  # what made the environment that tests run in


def blocks(section: str) -> list[str]:
    """The commands of one section, a block each."""
    text = (ROOT / "INSTRUCTORS.md").read_text(encoding="utf-8")
    inside = text.partition(f"\n## {section}")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", inside, re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "INSTRUCTORS.md", "classroom/releasing/for_students.md"])
def test_every_command_of_a_page_is_one_that_there_is(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    commands = re.findall(r"^python -m (course_utils|classroom) ([^#\n]+)", text, re.MULTILINE)
    commands += re.findall(r"`python -m (course_utils|classroom) ([^`]+)`", text)
    assert commands
    for package, arguments in commands:
        parser = {"course_utils": course_utils, "classroom": classroom}[package]()
        assert parser.parse_args(shlex.split(arguments)).command


@pytest.mark.skipif(not shutil.which("bwrap"), reason="no bubblewrap, which the grader needs")
def test_the_rehearsal_grades_ada_and_ben(tmp_path):
    clone = tmp_path / "image-generation"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".*", "tests", "benchmarks", "*.egg-info", "week-*"))
    commands = [line for block in blocks("Start") for line in block.splitlines() if not FIRST.match(line)]
    assert [line.split()[0] for line in commands] == ["python", "mkdir", "cp", "cp", "python", "cat"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(clone)}
    done = subprocess.run(
        ["bash", "-ec", "\n".join(commands)], cwd=clone, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with (clone / "grades-totals.csv").open(encoding="utf-8-sig") as table:
        points = {row["student"]: row["points"] for row in csv.DictReader(table)}
    assert points == {"ada": "65", "ben": "0"}
    said = (ROOT / "INSTRUCTORS.md").read_text(encoding="utf-8")
    assert f"Ada has all {points['ada']} points and Ben none" in said
