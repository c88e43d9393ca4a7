"""Where answers are read and run: `host` hands them in, `warm` is a process that takes them, `bwrap` its walls,
`luggage` what it gets of the course, and `inside` all that lies behind the walls.
"""

from .bwrap import NoSandbox
from .host import Limits, Sandbox, why_not
from .luggage import Luggage

__all__ = ["Limits", "Luggage", "NoSandbox", "Sandbox", "why_not"]
