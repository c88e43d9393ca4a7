"""The machine around the notebooks: quizzes, authoring, releasing, grading. Nobody needs to open it in order to learn.

It imports `course_utils`, never the reverse. A notebook uses five words of it:
`from classroom import ask, check, hint, predict, reveal`.
"""

from typing import TYPE_CHECKING

__all__ = ["ask", "check", "hint", "predict", "reveal"]

if TYPE_CHECKING:
    from .quizzes.notebook import ask, check, hint, predict, reveal


def __getattr__(name: str):
    # Late, so that `python -m classroom --help` doesn't wait for PyTorch.
    if name in __all__:
        from .quizzes import kernel, notebook

        kernel.listen()
        return getattr(notebook, name)
    raise AttributeError(f"module 'classroom' has no attribute {name!r}")
