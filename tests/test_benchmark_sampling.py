"""benchmarks/sampling.py: every sampler runs, is asked no more often than allowed, and twins give the same images."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
spec = importlib.util.spec_from_file_location("benchmark_sampling", BENCHMARKS / "sampling.py")
benchmark = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = benchmark  # where dataclasses look for a class's module
spec.loader.exec_module(benchmark)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    command = ["--model", "digits", "--samples", "10", "--evaluations", "4", "9", "--seeds", "0", "--json", str(file)]
    return file, command, benchmark.main(command)


def test_every_sampler_draws_and_keeps_to_its_evaluations(rows):
    _, _, rows = rows
    assert [(row["entry"], row["evaluations"]) for row in rows] == [
        (entry.name, n) for entry in benchmark.entries() for n in (4, 9)
    ]
    for row in rows:
        assert row["asked"] <= row["evaluations"] and row["distance"] > 0, row


def test_samplers_of_one_definition_agree_with_those_of_diffusers(rows):
    """In bfloat16 or float32, ten images: the same distance to a few percent."""
    distance = {(row["entry"], row["evaluations"]): row["distance"] for row in rows[2]}
    for ours, theirs in [
        ("ours, DDPM, posterior variance, even", "diffusers, DDPM, posterior variance, even"),
        ("ours, DDIM, even", "diffusers, DDIM, even"),
        ("ours, DPM-Solver++(2M), even", "diffusers, DPM-Solver++(2M), even"),
        ("ours, Euler, Karras", "diffusers, Euler, our Karras"),
        ("ours, Heun, Karras", "diffusers, Heun, our Karras"),
        ("ours, SDE-DPM-Solver++(2M), Karras", "diffusers, SDE-DPM-Solver++(2M), our Karras"),
    ]:
        assert distance[ours, 4] == pytest.approx(distance[theirs, 4], rel=0.05), ours
    own = "diffusers, DPM-Solver++(2M), their Karras"
    assert distance[own, 4] != pytest.approx(distance["ours, DPM-Solver++(2M), Karras", 4], rel=0.05)


def test_the_table_has_distances_and_the_price_of_an_image():
    rows = [
        {"entry": "ours, A", "evaluations": n, "distance": d, "seconds": n / 1000}
        for n, d in ((10, 3.0), (10, 3.5), (100, 2.0))
    ]
    head, _, line = benchmark.table(rows).splitlines()
    assert head == "| sampler | 10 | 100 | CPU ms an image, 100 |"
    assert line == "| ours, A | 3.25 (3.00–3.50) | 2.00 | 100.0 |"


def test_seconds_are_those_of_one_image(rows):
    """Nine evaluations cost more than four, and one image of 28 × 28 no second."""
    few, many = (sum(row["seconds"] for row in rows[2] if row["evaluations"] == n) for n in (4, 9))
    assert 0 < few < many < len(benchmark.entries())


def test_finished_rows_are_not_measured_again(rows, monkeypatch, capsys):
    file, command, before = rows
    monkeypatch.setattr(benchmark, "measure", lambda *_: pytest.fail("measured again"))
    assert benchmark.main([*command, "--report"]) == before
    shown = capsys.readouterr().out
    assert "| ours, DDIM, even | " in shown and "| sampler | 4 | 9 |" in shown
    assert len(file.read_text().splitlines()) == len(before)


def test_the_verdict_compares_our_best_with_few_and_with_many():
    rows = [
        {"entry": "ours, A", "evaluations": 10, "distance": 3.0},
        {"entry": "ours, B", "evaluations": 10, "distance": 4.0},
        {"entry": "ours, B", "evaluations": 100, "distance": 2.0},
        {"entry": "diffusers, B", "evaluations": 100, "distance": 1.0},
    ]
    assert benchmark.verdict(rows) == "With 10 evaluations our best (A) is at 3.00, with 100 (B) at 2.00: 1.50 times."
    assert benchmark.verdict(rows[:2]) == ""
