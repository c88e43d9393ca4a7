"""Any other table: columns that say who somebody is by their titles; where points go, the teacher says."""

from __future__ import annotations

import re

from .form import Column, Form, filled_lines
from .sheet import Sheet

_WHO = r"name|user|login|mail|\bid\b|\bsid\b|student|number|identi|nom\b|pr[ée]nom|nombre|apellido|matrikel|kennung"
_FIRST = r"first|given|vorname|pr[ée]nom|nombre"
_LAST = r"last|surname|family|nachname|familienname|nom\b|apellido"


def form(sheet: Sheet) -> Form | None:
    """The form of a table with titles; None if none of them says who somebody is."""
    titles = [title.casefold() for title in sheet.titles]
    who = [place for place, title in enumerate(titles) if re.search(_WHO, title)]
    first = [place for place in who if re.match(_FIRST, titles[place])]
    last = [place for place in who if re.match(_LAST, titles[place])]
    if not who:
        return None
    apart = (first[0], last[0]) if first and last else None
    names = [place for place in who if apart is None or place not in apart]
    points = [Column(place, title, title) for place, title in enumerate(sheet.titles) if place not in who and title]
    return Form("a table", filled_lines(sheet), names, apart, points)
