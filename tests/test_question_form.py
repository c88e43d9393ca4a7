"""The form of a question gives nothing away: neither the length of its options, nor their hedges, nor the letter."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from classroom.quizzes import Concept, declarations

ASKED = [q for q in declarations.registered().values() if isinstance(q, Concept)]
HEDGES = re.compile(r"\b(?:may|might|can|could|some|mostly|often|roughly|about|nearly|almost|usually|up to|at most)\b")
ABSOLUTES = re.compile(r"\b(?:all|always|any|cannot|can't|every|exactly|just|must|never|no|none|nothing|only)\b")


def text(option) -> str:
    return " ".join(option.text.split())


def within_chance(hits: int, n: int, p: float) -> bool:
    """Whether so many hits of n are what chance p gives, in all but one case of four hundred."""
    return abs(hits - n * p) <= 3 * math.sqrt(n * p * (1 - p)) + 0.5


def ranks(question: Concept) -> dict[str, int]:
    """letter -> 0 for the longest option, 1 for the next, ..."""
    by_length = sorted(question.options, key=lambda letter: -len(text(question.options[letter])))
    return {letter: rank for rank, letter in enumerate(by_length)}


def features(question: Concept) -> np.ndarray:
    """What can be told of each option without reading it: length, rank, hedges, absolutes, formulas, commas, colons."""
    texts = [text(option) for option in question.options.values()]
    mean = sum(map(len, texts)) / len(texts)
    rows = [
        [
            len(each) / mean - 1,
            ranks(question)[letter] == 0,
            ranks(question)[letter] == len(texts) - 1,
            len(HEDGES.findall(each)),
            len(ABSOLUTES.findall(each)),
            each.count("$") / 2,
            each.count(","),
            each.count(":"),
        ]
        for letter, each in zip(question.options, texts)
    ]
    rows = np.array(rows, dtype=float)
    return rows - rows.mean(0)  # against the other options of the question


def guessed_by_form(questions: list[Concept], columns: slice) -> int:
    """How many questions a classifier on form answers, trained on the questions of all other notebooks."""
    hits = 0
    for module in {q.module for q in questions}:
        rest, these = ([q for q in questions if (q.module == module) is mine] for mine in (False, True))
        x = np.concatenate([features(q)[:, columns] for q in rest])
        y = np.concatenate([[letter == q.answer for letter in q.options] for q in rest])
        model = LogisticRegression(class_weight="balanced", C=0.3).fit(x, y)
        for q in these:
            best = int(np.argmax(model.decision_function(features(q)[:, columns])))
            hits += list(q.options)[best] == q.answer
    return hits


def test_there_are_enough_to_tell():
    assert len(ASKED) >= 30 and {len(q.options) for q in ASKED} == {4}


def test_the_right_option_is_the_longest_no_more_often_than_chance(report):
    found = Counter(ranks(q)[q.answer] for q in ASKED)
    report.append(f"questions: {len(ASKED)}; the right option is the longest in {found[0]}, the shortest in {found[3]}")
    assert [rank for rank in range(4) if not within_chance(found[rank], len(ASKED), 1 / 4)] == []


def test_the_right_letters_are_spread(report):
    found = Counter(q.answer for q in ASKED)
    report.append(f"right letters: {', '.join(f'{letter} {found[letter]}' for letter in 'abcd')}")
    assert [letter for letter in "abcd" if not within_chance(found[letter], len(ASKED), 1 / 4)] == []


@pytest.mark.parametrize("question", ASKED, ids=lambda q: q.id)
def test_options_are_of_like_length(question):
    lengths = [len(text(option)) for option in question.options.values()]
    assert max(lengths) <= 1.6 * min(lengths) + 10, lengths


@pytest.mark.parametrize(("what", "columns"), [("length alone", slice(0, 3)), ("length, hedges, marks", slice(0, 8))])
def test_a_classifier_on_form_is_near_chance(what, columns, report):
    hits = guessed_by_form(ASKED, columns)
    report.append(f"a classifier on {what} answers {hits} of {len(ASKED)} questions")
    assert hits <= len(ASKED) / 4 + 2 * math.sqrt(len(ASKED) * 3 / 16) + 0.5


def test_a_tell_would_be_seen():
    """That the tests above can fail: where right options are longer by a third, the classifier finds them."""
    telling = []
    for k, q in enumerate(ASKED):
        options = {
            letter: declarations.Option(f"{'x' * (60 + 20 * o.right + 3 * ((k * 7 + i * 5) % 4))}", "…", o.right)
            for i, (letter, o) in enumerate(q.options.items())
        }
        telling.append(declarations.Concept(q.id, 1, q.title, q.question, options, module=q.module))
    assert guessed_by_form(telling, slice(0, 3)) > len(telling) * 0.9
