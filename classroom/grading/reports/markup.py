"""What the pages of a report share. They are single files: no script, nothing from the network, readable in the dark,
on a phone and on paper."""

from __future__ import annotations

import html
import re
import unicodedata

from ..handed_in.read import one_line

_SIGNS = {
    "alpha": "α", "beta": "β", "sigma": "σ", "varepsilon": "ε", "nabla": "∇", "mid": " | ", "approx": " ≈ ",
    "le": " ≤ ", "ne": " ≠ ", "sim": " ∼ ", "cdot": "·", "times": "×", "ln": "ln ", ",": " ", "top": "⊤",
    "mathbb": "", "mathcal": "", "mathrm": "", "operatorname": "", "bar": "\u0304", "tilde": "\u0303", "hat": "\u0302",
}  # fmt: skip


def text(value: object, most: int = 4000) -> str:
    """Whatever it is, as text: one line, printable, and no markup.

    >>> text("<b>\\u202e1\\n2")
    '&lt;b&gt;1 2'
    """
    return html.escape(one_line(str(value), most))


def sentence(value: str) -> str:
    """A message: code between backticks, stress between stars; everything else is text, whatever may stand in it.

    >>> sentence("use `f`, *not* <f>"), sentence("a is not right"), sentence("2*x*3")
    ('Use <code>f</code>, <em>not</em> &lt;f&gt;', 'a is not right', '2*x*3')
    """
    capital = value[:2].isascii() and value[:2].isalpha()  # no letter that stands for itself, no sign of a formula
    return _marked(value[:1].upper() + value[1:] if capital else value)


def prose(value: str) -> str:
    r"""Text of a declaration, as it is: besides, formulas between dollar signs.

    >>> prose(r"*not* $\sqrt{\bar\alpha_t}$ < 1")
    '<em>not</em> <i>√(ᾱ<sub>t</sub>)</i> &lt; 1'
    """
    return re.sub(r"\$([^$]+)\$", lambda match: f"<i>{_formula(match[1])}</i>", _marked(value))


def _marked(value: str) -> str:
    shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", text(value))
    return re.sub(r"(?<![\w*])(\*{1,2})(\w[^*]*)\1(?![\w*])", r"<em>\2</em>", shown)


def _formula(tex: str) -> str:
    """The little LaTeX that options of questions have in them, as signs."""
    tex = tex.replace("{,}", ",").replace("-", "−").replace(r"\tfrac12", "½")
    tex = re.sub(r"\\sqrt\{([^{}]*)\}", r"√(\1)", tex)
    tex = re.sub(r"\\(bar|tilde|hat)\s*(\\?[a-zA-Z]+)|\\([a-zA-Z]+|,)", _sign, tex)
    for mark, tag in (("_", "sub"), (r"\^", "sup")):
        tex = re.sub(rf"{mark}(?:\{{([^{{}}]*)\}}|(\w))", rf"<{tag}>\1\2</{tag}>", tex)
    return unicodedata.normalize("NFC", " ".join(tex.split()))


def _sign(match: re.Match) -> str:
    accent, letter, name = match.groups()
    if accent:
        return _SIGNS.get(letter.lstrip("\\"), letter) + _SIGNS[accent]
    return _SIGNS.get(name, match[0])


def share(part: float) -> str:
    """A share in per cent.

    >>> share(1 / 3)
    '33 %'
    """
    return f"{100 * part:.0f} %"


def document(title: str, style: str, body: str) -> str:
    """A whole page. title: as text;  style: CSS of its own;  body: HTML that stands under the title."""
    head = f"{HEAD}<title>{text(title)}</title>\n<style>\n{STYLE}{style}</style>"
    return f"{head}\n<h1>{text(title)}</h1>\n{body}\n</html>\n"


HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
"""
STYLE = """\
:root { color-scheme: light dark;
  --page: #fff; --text: #1d1f23; --soft: #5b626d; --line: #dcdfe4; --box: #f4f5f7; --note: #fff4d6;
  --right: #1769aa; --wrong: #b85c00; --broken: #7b3f98; --stopped: #b3261e; --open: #c3c8d0 }
@media screen and (prefers-color-scheme: dark) { :root {
  --page: #17191d; --text: #e6e8eb; --soft: #a2a9b4; --line: #3a3f48; --box: #22252b; --note: #3b3216;
  --right: #62aef0; --wrong: #f0a04b; --broken: #c79be0; --stopped: #ff8a80; --open: #555c68 } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--page); overflow-wrap: anywhere }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 .5rem }
h3 { font-size: 1rem; line-height: 1.4; margin: 0 }
p { margin: .25rem 0 .75rem } ul, ol { margin: .25rem 0; padding-left: 1.25rem }
small, .soft { color: var(--soft) } small { font-size: .875rem }
code { font-size: .9em; background: var(--box); padding: 0 .25em; border-radius: 3px }
.note { background: var(--note); padding: .5rem .8rem; border-radius: 4px }
.lead { font-size: 1.1rem }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; font-weight: 600 }
@media print { :root { color-scheme: light } body { margin: 0; max-width: none; font-size: 11pt }
  article, li { break-inside: avoid } h2, h3 { break-after: avoid } * { print-color-adjust: exact }
  details::details-content { content-visibility: visible } }
"""
