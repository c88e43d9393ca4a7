"""Quizzes: declarations, the two judges, and what a student calls in a notebook (`from classroom import check`).

To declare one: `from classroom.quizzes.declarations import Case, Fixture, Misconception, Option, concept, quiz`.
"""

from .declarations import Case, Concept, Fixture, Misconception, Option, Quiz, Tolerance, concept, fixture, get, quiz
from .notebook import ask, check, hint, predict, progress, reveal

__all__ = [
    "Case",
    "Concept",
    "Fixture",
    "Misconception",
    "Option",
    "Quiz",
    "Tolerance",
    "ask",
    "check",
    "concept",
    "fixture",
    "get",
    "hint",
    "predict",
    "progress",
    "quiz",
    "reveal",
]
