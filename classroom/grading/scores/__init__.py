"""Points for a learning platform: the file that it exported comes back filled in.

`sheet` reads such a file and gives it back byte by byte; `canvas`, `moodle`, `blackboard` and `table` say which of its
columns tell who is who and which hold points; `people` finds a student's row; `filling` does it. Gradescope imports no
points, but runs autograders: `gradescope` makes one that hands out what is graded already.
"""

from .filling import Filled, fill, opened

__all__ = ["Filled", "fill", "opened"]
