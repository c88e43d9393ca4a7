"""The machine around the notebooks: quizzes, authoring, releasing, grading. Nobody needs to open it in order to learn.

It imports `course_utils`, never the reverse. A notebook uses six words of it:
`from classroom import ask, check, hint, predict, progress, reveal`.
"""

import sys
from typing import TYPE_CHECKING, Any

__all__ = ["ask", "check", "hint", "predict", "progress", "reveal"]

if TYPE_CHECKING:
    from .quizzes.notebook import ask, check, hint, predict, progress, reveal


def __getattr__(name: str):
    # Late, so that `python -m classroom --help` doesn't wait for PyTorch.
    if name in __all__:
        from .quizzes import kernel, notebook

        kernel.listen(check=notebook.check, ask=notebook.ask)
        return getattr(notebook, name)
    raise AttributeError(f"module 'classroom' has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """Say, below a name that is not defined, that a kernel is new and how to go on in the middle of a notebook.

    In a new kernel nothing of a notebook has run, so this is loaded by its environment: `make lab` writes it into
    etc/ipython/ipython_kernel_config.py there. Once the set-up cell has run, `quizzes.kernel` knows more.
    """
    shell.events.register("post_run_cell", _in_a_new_kernel)


def _in_a_new_kernel(result: Any) -> None:
    if type(result.error_in_exec) is NameError and "classroom.quizzes.kernel" not in sys.modules:
        print("This kernel is new and knows nothing yet: Run → Run All Above Selected Cell, then run this cell again.")
