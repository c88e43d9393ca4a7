"""Quizzes: declarations, the two judges, and what a student calls in a notebook.

In a notebook: `from course_utils.quizzes import ask, check, hint, predict, progress, reveal`.
To declare one: `from course_utils.quizzes.declarations import Case, Fixture, Misconception, Option, concept, quiz`.
"""

from .declarations import Case, Concept, Fixture, Misconception, Option, Quiz, Tolerance, concept, fixture, get, quiz
from .notebook import ask, check, guess, hint, predict, progress, reveal

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
    "guess",
    "hint",
    "predict",
    "progress",
    "quiz",
    "reveal",
]
