"""Spellings of one name."""

from __future__ import annotations

import re
import unicodedata

from .handed_in.read import UNSEEN

_SIGNS = str.maketrans("‘’ʼ`´＇‐‑‒–—−", "''''''------")


def plain(name: str) -> str:
    """The same for spellings of a name that mean the same: capitals, blanks, ways to encode it or to quote, and
    "Last, First".

    >>> plain("Lovelace,  Ada") == plain("ada lovelace"), plain("Ada M. Lovelace") == plain("Ada Lovelace")
    (True, False)
    """
    last, comma, first = _shown(name).partition(",")
    return " ".join((f"{first} {last}" if comma else last).casefold().split())


def squeezed(name: str) -> str:
    """Letters and digits alone, in their order, as Canvas names files.

    >>> squeezed("O'Neil, Bob")
    'oneilbob'
    """
    return re.sub(r"\W", "", _shown(name)).casefold()


def _shown(name: str) -> str:
    return unicodedata.normalize("NFKC", re.sub(f"[{UNSEEN}]", "", name)).translate(_SIGNS)
