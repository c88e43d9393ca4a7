"""What a sandbox takes along: code only, compiled, so that no source text of the course gets into its memory at all."""

from __future__ import annotations

import functools
import marshal
from collections.abc import Mapping
from dataclasses import dataclass, field

LIBRARY = "/course"  # where modules from memory claim to lie; there is nothing there


@dataclass(frozen=True)
class Luggage:
    """Pack it with `packed`, once for all sandboxes of a grading.

    library: name of a module -> its code, of what answers may import;  preludes: number of a notebook -> code that runs
    before any answer to it;  reader: name of a module -> its code, of what reads cells;  notebooks: stem -> JSON of the
    notebook as handed out, which only the reader gets.
    """

    library: Mapping[str, bytes] = field(default_factory=dict)
    preludes: Mapping[str, bytes] = field(default_factory=dict)
    reader: Mapping[str, bytes] = field(default_factory=dict)
    notebooks: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def packed(
        cls,
        library: Mapping[str, str] = {},
        preludes: Mapping[str, str] = {},
        reader: Mapping[str, str] = {},
        notebooks: Mapping[str, str] = {},
    ) -> Luggage:
        """From sources; notebooks as they are."""
        # Under the package, so that an exception's last line is looked for in the answer, not in the course's own code.
        codes = {number: compiled(text, f"classroom/prelude/{number}.py") for number, text in preludes.items()}
        return cls(_modules(library), codes, _modules(reader), notebooks)


def _modules(sources: Mapping[str, str]) -> dict[str, bytes]:
    packages = {name.rpartition(".")[0] for name in sources}
    paths = {name: f"{name.replace('.', '/')}{'/__init__' * (name in packages)}.py" for name in sources}
    return {name: compiled(source, paths[name]) for name, source in sources.items()}


@functools.lru_cache(maxsize=1000)
def compiled(source: str, path: str) -> bytes:
    """Code of the course's own; a student's source is compiled in the sandbox only."""
    return marshal.dumps(compile(source, f"{LIBRARY}/{path}", "exec", dont_inherit=True))
