"""Links between notebooks, and to papers: what a reader would otherwise have to look for.

Authors write "notebook 04" and "arXiv:2006.11239"; the build makes them links, in text cells, where the notebook is
there to be opened. A class that gets notebooks 01 and 03 has no link to 02.
"""

from __future__ import annotations

import re
from pathlib import Path

PAPER = re.compile(r"(?<![\[/\w])arXiv:(\d{4}\.\d{4,5})")
MENTION = re.compile(r"(?<![\[\w])[Nn]otebook(?: \d\d|s \d\d(?:(?:, | and | or | to )\d\d)*)\b(?!\])")
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
TITLE = re.compile(r"^# # (\d\d · [^:?\n]+)", re.MULTILINE)

Shelf = dict[str, str]  # stem -> short title, of the notebooks that lie side by side, in order


def shelf(masters: list[Path]) -> Shelf:
    """The notebooks that these masters make, by the first words of their titles."""
    titles = {path.stem: TITLE.search(path.read_text(encoding="utf-8")) for path in masters}
    return {stem: found[1].strip() if found else stem for stem, found in titles.items()}


def linked(text: str, stem: str, beside: Shelf) -> str:
    """The text with links to the notebooks it names and to papers; code, and the notebook's own number, stay.

    >>> linked("as in notebook 02 and notebook 09", "03_c", {"02_b": "02 · B", "03_c": "03 · C"})
    'as in [notebook 02](02_b.ipynb) and notebook 09'
    >>> linked("(notebooks 02 to 04), arXiv:2006.11239", "01_a", {"02_b": "02 · B", "04_d": "04 · D"})
    '(notebooks [02](02_b.ipynb) to [04](04_d.ipynb)), [arXiv:2006.11239](https://arxiv.org/abs/2006.11239)'
    """
    files = {other[:2]: f"{other}.ipynb" for other in beside if other != stem}

    def mention(match: re.Match) -> str:
        words = match[0]
        if words[len("notebook")] == "s":
            return re.sub(r"\d\d", lambda number: _link(number[0], number[0], files), words)
        return _link(words, words[-2:], files)

    def outside_code(part: str) -> str:
        return PAPER.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", MENTION.sub(mention, part))

    return "".join(part if i % 2 else outside_code(part) for i, part in enumerate(CODE.split(text)))


def _link(words: str, number: str, files: dict[str, str]) -> str:
    return f"[{words}]({files[number]})" if number in files else words


def navigation(stem: str, beside: Shelf) -> str:
    """One line that leads to the notebook before, the overview and the notebook after.

    >>> navigation("02_b", {"01_a": "01 · A", "02_b": "02 · B", "04_d": "04 · D"})
    '[← 01 · A](01_a.ipynb) | [overview](../README.md) | [04 · D →](04_d.ipynb)'
    """
    stems = list(beside)
    place = stems.index(stem)
    before, after = stems[max(place - 1, 0) : place], stems[place + 1 : place + 2]
    parts = [f"[← {beside[other]}]({other}.ipynb)" for other in before]
    parts.append("[overview](../README.md)")
    parts += [f"[{beside[other]} →]({other}.ipynb)" for other in after]
    return " | ".join(parts)
