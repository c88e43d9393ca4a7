"""How quizzes look: small HTML cards that follow JupyterLab's light and dark themes.

Every card also has a text form of one line, for terminals and for viewers without HTML. Where there is no notebook, the
text is all there is, and everything can still be done by typing.
"""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Sequence
from typing import Any

# Colours of JupyterLab's theme where there is one, else (VS Code, Colab, exported pages) colours that read on both.
_TONES = {
    "passed": ("var(--jp-success-color1, #2e8540)", "✓"),
    "wrong": ("var(--jp-warn-color1, #c2620a)", "✗"),
    "waiting": ("var(--jp-brand-color1, #1f77b4)", "○"),
}
_CARD = (
    "border:1px solid var(--jp-border-color2, rgba(128,128,128,.4)); border-left:5px solid {colour}; "
    "border-radius:4px; padding:.55em .9em .65em; margin:.3em 0; max-width:46em; line-height:1.5; "
    "color:var(--jp-content-font-color1, inherit); font-size:var(--jp-content-font-size1, 14px); "
    "font-family:var(--jp-content-font-family, system-ui, sans-serif)"
)
_QUIET = "color:var(--jp-content-font-color2, inherit)"
_CODE = (
    "font-family:var(--jp-code-font-family, monospace); font-size:.93em; padding:0 .25em; border-radius:3px; "
    "background:rgba(128,128,128,.16)"
)


def card(
    tone: str,
    title: str,
    headline: str,
    paragraphs: Sequence[str] = (),
    evidence: str = "",
    note: str = "",
    printed: str = "",
    aside: str = "",
    picture: str = "",
) -> str:
    """An HTML card.

    tone: "passed", "wrong" or "waiting";  title: of the quiz;  headline: the verdict, in bold;  paragraphs: below it;
    evidence, note: quieter paragraphs;  printed: what the answer printed, folded away;  aside: points, at the right.
    All of it is text, in which `code`, **bold** and $LaTeX$ work and HTML does not; picture: an SVG of our own.
    """
    colour, sign = _TONES[tone]
    spoken = {"passed": "Passed", "wrong": "Not yet right", "waiting": "Open"}[tone]
    parts = [
        f'<div role="status" style="{_CARD.format(colour=colour)}">',
        f'<div style="display:flex; justify-content:space-between; gap:1em; {_QUIET}"><span>{inline(title)}</span>'
        f'<span style="white-space:nowrap">{inline(aside)}</span></div>',
        f'<div style="font-weight:600; margin:.1em 0 .15em"><span role="img" aria-label="{spoken}" '
        f'style="color:{colour}">{sign}</span> {inline(headline)}</div>',
    ]
    parts += [f'<p style="margin:.3em 0 0">{inline(text)}</p>' for text in paragraphs]
    if evidence:
        parts.append(f'<p style="margin:.3em 0 0; {_QUIET}; font-size:.93em">{inline(evidence)}</p>')
    parts += [picture] if picture else []
    if printed.strip():
        parts.append(
            f'<details style="margin:.35em 0 0"><summary style="cursor:pointer">What your code printed</summary>'
            f'<pre style="margin:.3em 0 0; max-height:12em; overflow:auto; color:inherit; background:none">'
            f"{html.escape(printed.rstrip())}</pre></details>"
        )
    if note:
        parts.append(f'<p style="margin:.45em 0 0; {_QUIET}">{inline(note)}</p>')
    return "\n".join([*parts, "</div>"])


def inline(text: str) -> str:
    """Text with `code`, **bold** and *stress* as HTML; $LaTeX$ is left for MathJax; everything else is escaped.

    >>> inline("if a < b, then **stop**: $a_1 < a*b*c$")
    'if a &lt; b, then <b>stop</b>: $a_1 &lt; a*b*c$'
    """
    parts = re.split(r"(`[^`]+`|\$[^$\n]+\$)", " ".join(text.split()))
    for i, part in enumerate(parts):
        escaped = html.escape(part, quote=False)
        if i % 2 and part.startswith("`"):
            parts[i] = f'<code style="{_CODE}">{escaped[1:-1]}</code>'
        elif i % 2:
            parts[i] = escaped
        else:
            escaped = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escaped)
            parts[i] = re.sub(r"(?<![\w*])\*([^*\s][^*]*?)\*(?![\w*])", r"<em>\1</em>", escaped)
    return "".join(parts)


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A small HTML table with a caption and row headers."""
    cell = "padding:.15em .8em .15em 0; text-align:left; vertical-align:top"
    head = "".join(f'<th scope="col" style="{cell}">{inline(name)}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row" style="{cell}; font-weight:normal">{inline(row[0])}</th>'
        + "".join(f'<td style="{cell}">{inline(text)}</td>' for text in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<table style="border-collapse:collapse; margin:.3em 0; color:var(--jp-content-font-color1, inherit)">'
        f'<caption style="text-align:left; font-weight:600; padding-bottom:.3em">{inline(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def number_line(low: float, high: float, guess: float, measured: float) -> str:
    """A line from low to high with a guess above it and a measurement below, as SVG that reads on light and dark."""
    places = [20 + 560 * min(1.0, max(0.0, (value - low) / (high - low))) for value in (guess, measured)]
    line = '<line x1="20" x2="580" y1="34" y2="34" stroke="currentColor" stroke-opacity=".45" stroke-width="2"/>'
    parts = [
        line,
        _svg_text(20, 56, "start", f"{low:.4g}", quiet=True),
        _svg_text(580, 56, "end", f"{high:.4g}", quiet=True),
    ]
    marks = zip(
        places,
        ("you said", "measured"),
        (15, 56),
        ("var(--jp-warn-color1, #c2620a)", "var(--jp-brand-color1, #1f77b4)"),
    )
    for x, name, y, colour in marks:
        anchor = "start" if x < 60 else "end" if x > 540 else "middle"
        parts.append(f'<circle cx="{x:.1f}" cy="34" r="7" style="fill:{colour}"/>')
        parts.append(_svg_text(x, y, anchor, name))
    spoken = f"you said {guess:.4g}, measured {measured:.4g}, on a line from {low:.4g} to {high:.4g}"
    style = "width:100%; max-width:40em; display:block; margin:.3em 0 0; font-family:inherit"
    return f'<svg viewBox="0 0 600 62" role="img" aria-label="{spoken}" style="{style}">{"".join(parts)}</svg>'


def _svg_text(x: int | float, y: int | float, anchor: str, text: str, quiet: bool = False) -> str:
    opacity = ".65" if quiet else "1"
    where = f'x="{x:.1f}" y="{y:g}" text-anchor="{anchor}"'
    return f'<text {where} font-size="14" fill="currentColor" fill-opacity="{opacity}">{html.escape(text)}</text>'


# -------------------------------------------------------------------------------------------------------------- showing


def running_ipython() -> Any:
    """The running IPython, None outside of it."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def in_notebook() -> bool:
    """Whether there is a kernel that shows HTML (JupyterLab, Notebook, VS Code, Colab), and not a terminal."""
    return getattr(running_ipython(), "kernel", None) is not None


def show(text: str, markup: str = "") -> None:
    """Show a card in a notebook (its text form there is the first line), or the whole text anywhere else."""
    if markup and in_notebook():
        from IPython.display import display

        display({"text/html": markup, "text/plain": text.partition("\n")[0]}, raw=True)
    else:
        print(text)
