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
    name = unicodedata.normalize("NFKC", re.sub(f"[{UNSEEN}]", "", name)).translate(_SIGNS)
    last, comma, first = name.partition(",")
    return " ".join((f"{first} {last}" if comma else name).casefold().split())


def loose(name: str) -> str:
    """The same for names that could be one person's: what accents, the order of its parts and signs make of it too.

    >>> loose("Müller-Lüdenscheidt, Jörg [12]") == loose("jorg muller ludenscheidt")
    True
    """
    name = re.sub(r"\[[^]]*\]$", "", plain(name).strip())
    bare = "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c))
    return " ".join(sorted(re.findall(r"\w+", bare.replace("_", " ")))) or name
