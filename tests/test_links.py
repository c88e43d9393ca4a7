"""Links in notebooks and pages lead somewhere: to a file that is there, to a heading that is in it, to a paper."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

from classroom.authoring import links
from classroom.releasing.bundle import release

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
PAGES = ["README.md", "INSTRUCTORS.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md"))]


def texts(path: Path) -> list[str]:
    """What a reader reads: a page's text, or the text cells of a notebook."""
    if path.suffix != ".ipynb":
        return [path.read_text(encoding="utf-8")]
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]


def targets(text: str) -> list[str]:
    without_code = re.sub(r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$", "", text, flags=re.DOTALL)
    return [first or second for first, second in LINK.findall(without_code)]


def anchors(page: Path) -> set[str]:
    """The names that GitHub and Jupyter give to headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken(path: Path) -> list[str]:
    """The links of a page or notebook that lead nowhere on this disk."""
    found = []
    for target in [target for text in texts(path) for target in targets(text)]:
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = unquote(target).partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page):
    assert broken(ROOT / page) == []


@pytest.mark.parametrize("folder", ["notebooks", "solutions"])
def test_links_of_notebooks_lead_somewhere_and_join_all_of_them(folder):
    paths = sorted((ROOT / folder).glob("*.ipynb"))
    for path, before, after in zip(paths, [None, *paths], [*paths[1:], None]):
        assert broken(path) == []
        for cell in (texts(path)[0], texts(path)[-1]):  # one comes in at the head, and leaves at the foot
            wanted = ["../README.md", *(other.name for other in (before, after) if other)]
            assert set(wanted) <= set(targets(cell)), path.name


def test_every_paper_is_a_link():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for text in texts(path):
            named, linked = re.findall(r"arXiv:[\d.]+\d", text), re.findall(r"arxiv\.org/abs/[\d.]+\d", text)
            assert len(named) == len(linked), text


def test_a_bundle_has_no_link_to_a_notebook_that_is_not_in_it(tmp_path):
    release(ROOT, tmp_path / "out", ["01", "03"])
    for path in (tmp_path / "out" / "notebooks").glob("*.ipynb"):
        assert broken(path) == []
    first = (tmp_path / "out" / "notebooks" / "01_autoencoder.ipynb").read_text(encoding="utf-8")
    assert "](03_forward_diffusion.ipynb)" in first and "02_vae.ipynb" not in first


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("of notebook 02,", "of [notebook 02](02_b.ipynb),"),
        ("Notebooks 02 and 03", "Notebooks [02](02_b.ipynb) and 03"),
        ("notebook 01 (this one)", "notebook 01 (this one)"),
        ("`notebook 02` as code", "`notebook 02` as code"),
        ("```\nnotebook 02\n```", "```\nnotebook 02\n```"),
        ("a [notebook 02](elsewhere.md) by hand", "a [notebook 02](elsewhere.md) by hand"),
        ("notebook 0212", "notebook 0212"),
        ("https://arxiv.org/abs/2006.11239", "https://arxiv.org/abs/2006.11239"),
        ("[arXiv:2006.11239](x)", "[arXiv:2006.11239](x)"),
    ],
)
def test_what_becomes_a_link_and_what_does_not(text, right):
    assert links.linked(text, "01_a", {"01_a": "01 · A", "02_b": "02 · B"}) == right
