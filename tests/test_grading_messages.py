"""What a student is told about a grading, and what a gradebook gets: no hidden numbers, the best of several files."""

from __future__ import annotations

import csv
import io

import pytest
import torch

from classroom.grading import feedback
from classroom.grading.nbgrader_csv import nbgrader_csv
from classroom.grading.records import Report, Score, best
from classroom.grading.scoring import _message
from classroom.quizzes.declarations import Case, Quiz
from classroom.quizzes.judging import judge
from classroom.quizzes.running import run


def verdict(reference, answer, *values, gradients=()):
    quiz = Quiz("demo/q", 1, "demo", reference, cases=lambda rng: [])
    cases = [Case({"x": value}, gradients) for value in values]
    return judge(quiz, cases, run(answer, cases))


TENSOR = torch.tensor([3.0, 4.0, 7.0])


@pytest.mark.parametrize(
    ("reference", "answer", "told", "shown"),
    [
        (lambda x: 12.5, lambda x: 11.0, "too small.", "too small: expected 12.5, got 11"),
        (lambda x: 12.5, lambda x: -12.5, "the sign is wrong.", "the sign is wrong: expected 12.5, got -12.5"),
        (lambda x: 12, lambda x: 13, "too large.", "too large: expected 12, got 13"),
        (lambda x: True, lambda x: False, "wrong values.", "expected True, got False"),
        (lambda x: "deep", lambda x: "flat", "wrong values.", "expected 'deep', got 'flat'"),
        (lambda x: (1, "deep"), lambda x: (1, "flat"), "output[1].", "output[1]: expected 'deep', got 'flat'"),
        (lambda x: x.sum(), lambda x: x.sum() + 1.5, "too large.", "too large: expected 14, got 15.5"),
        (lambda x: x, lambda x: x**2, "every entry is the square of what it should be.", None),
    ],
)
def test_numbers_are_for_the_notebook_only(reference, answer, told, shown):
    found = verdict(reference, answer, TENSOR)
    assert found.stage == "value" and found.headline == (shown or told[:-1])
    assert _message(found) == told
    assert "expected" not in _message(found)


def test_numbers_of_gradients_are_no_less_hidden():
    found = verdict(lambda x: 3 * x, lambda x: 3 * x.detach() + 2 * (x - x.detach()), TENSOR[0], gradients=["x"])
    assert found.stage == "gradient" and found.numbers in found.headline
    assert found.numbers.startswith("expected 3.") and ", got 2." in found.numbers
    assert _message(found) == "right values, but the gradient with respect to x is wrong: too small."


def test_advice_is_told():
    found = verdict(lambda x: 2, lambda x: 2.0, TENSOR)
    assert _message(found).startswith("expected a whole number (int), got a number (float). This is a count")


def report(student, notebook, points, name):
    scores = (Score("vae/kl", points, 5, "ok", ""),) if notebook else ()
    return Report(student, notebook, name, scores)


def test_of_several_files_the_best_counts_everywhere():
    reports = [
        report("ada", "02", 3, "ada/02.ipynb"),
        report("ada", "02", 5, "ada/02 (1).ipynb"),
        report("ada", "03", 1, "ada/03.ipynb"),
        report("bob", "", 0, "bob/unreadable.ipynb"),
        report("cyd", "02", 0, "cyd/02.ipynb"),
    ]
    assert best(reports) == {("ada", "02"): 5, ("ada", "03"): 1, ("cyd", "02"): 0}
    totals = list(csv.reader(io.StringIO(feedback.totals_csv(reports))))
    assert totals[1:] == [["ada", "5", "1", "6"], ["bob", "", "", "0"], ["cyd", "0", "", "0"]]
    exported = {
        (row["assignment"], row["student_id"]): row["score"]
        for row in csv.DictReader(io.StringIO(nbgrader_csv(reports)))
    }
    assert exported["02", "ada"] == "5.0" and exported["02", "bob"] == exported["03", "cyd"] == "0.0"
