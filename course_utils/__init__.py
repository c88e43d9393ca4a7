"""The library beside the notebooks of a course on image generation, from autoencoders to guided diffusion.

Everything flows one way: `arrays` and `device` know nothing of the rest; `data`, `models`, `training` and `plots` stand
on them, `sampling`, `weights`, `recipes` and `explore` on those, and the command line on all. A notebook
begins with `from course_utils import setup`.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["setup"]

if TYPE_CHECKING:
    from .notebook import setup


def __getattr__(name: str):
    # Late, so that `python -m course_utils --help` and the authoring tools don't wait for PyTorch.
    if name == "setup":
        from .notebook import setup

        return setup
    raise AttributeError(f"module 'course_utils' has no attribute {name!r}")
