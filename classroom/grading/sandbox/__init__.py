"""Where answers are run: `host` hands them in, `warm` is the process that takes them, `bwrap` its walls, and `inside`
all that lies behind these.
"""

from .bwrap import NoSandbox
from .host import Limits, Sandbox, why_not

__all__ = ["Limits", "NoSandbox", "Sandbox", "why_not"]
