"""What is there tomorrow: hints seen, guesses made, quizzes passed, in `.course-progress.json` beside the notebook.

Only a kernel that somebody works in reads and writes it: no script, no grader, and nothing with COURSE_PROGRESS=off. It
holds no answers and nothing is graded by it. A file that can't be read or written is done without, silently.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

from course_utils.files import write_whole

from .cards import in_notebook

FILE = ".course-progress.json"
_LARGEST = 1_000_000  # bytes; a file of ours is a thousand times smaller


class Memory(MutableMapping):
    """A dict of plain values by quiz id, one of those in the file.

    kind: its name there;  fits: whether a value read from a file that anybody may have written is one.

    >>> seen = Memory("hints", lambda value: type(value) is int)
    >>> seen["vae/kl"] = 2
    >>> dict(seen)
    {'vae/kl': 2}
    """

    def __init__(self, kind: str, fits: Callable[[Any], bool]) -> None:
        self.kind = kind
        self._path = Path.cwd() / FILE if _wanted() else None  # the notebook's folder, wherever it goes later
        self._known = {id: value for id, value in self._read().get(kind, {}).items() if fits(value)}

    def __getitem__(self, id: str) -> Any:
        return self._known[id]

    def __setitem__(self, id: str, value: Any) -> None:
        if self._known.get(id) == value:
            return
        self._known[id] = value
        if self._path is not None:
            there = self._read()  # another notebook of this folder may have written meanwhile
            there.setdefault(self.kind, {})[id] = value
            with contextlib.suppress(OSError, TypeError):  # a full disk; an id that is no text
                write_whole(self._path, (json.dumps(there, indent=1, sort_keys=True) + "\n").encode())

    def __delitem__(self, id: str) -> None:
        del self._known[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def _read(self) -> dict[str, dict[str, Any]]:
        """What the file holds, as far as it is ours."""
        try:
            if self._path is None or self._path.stat().st_size > _LARGEST:
                return {}
            there = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        kinds = there.items() if isinstance(there, dict) else ()
        return {kind: values for kind, values in kinds if isinstance(values, dict)}


def _wanted() -> bool:
    return in_notebook() and os.environ.get("COURSE_PROGRESS") != "off" and "NBGRADER_EXECUTION" not in os.environ
