"""Folders called after students, on every system, whatever the students are called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_UNSAFE = re.compile(r"[^\w .@+-]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows has no folders of these names
_LONGEST = 200  # bytes


def folders(students: Iterable[str]) -> dict[str, str]:
    """Student -> the name of a folder, never the same for two, not even where capitals are small letters.

    >>> folders(["Ada", "O'Neil", "O/Neil"])["O'Neil"]
    'O_Neil'
    >>> list(folders(["Ada", "ada", "CON", "../x", "🙂"]).values())
    ['Ada', 'ada-fdee43', 'CON_', '__x', '_']
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for student in students:
        folder = _safe(student)
        while folder.casefold() in taken:
            folder += f"-{hashlib.sha256(student.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"
        taken.add(folder.casefold())
        found[student] = folder
    return found


def _safe(name: str) -> str:
    """Letters, digits, spaces and . _ - + @, none of which stands where a system would drop or hide it."""
    safe = re.sub(r"^[ .]+|[ .]+$", "_", _UNSAFE.sub("_", name)) or "_"
    safe = safe.encode()[:_LONGEST].decode(errors="ignore").rstrip(" .")
    return f"{safe}_" if _RESERVED.fullmatch(safe) else safe
