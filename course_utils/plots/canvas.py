"""What every picture stands on: colours, style, a figure that describes itself, its size, and its way onto the page."""

from __future__ import annotations

import base64
import functools
import html
import io
import re
import textwrap
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from .checks import Number

COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
INK = "#222222"
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
WIDTH = 8.0  # inches: what the column of a notebook holds at 96 pixels an inch
PAGE_DPI = 96

STYLE = {
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.labelsize": 12,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "font.size": 12,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "image.cmap": SEQUENTIAL,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "lines.linewidth": 2.2,
    "patch.facecolor": COLOURS[0],  # the same as "C0", which matplotlib would look up for every frame and every bar
    "savefig.dpi": 144,  # 1.5 image pixels for each pixel on the page: crisp, and still small files
    "xtick.color": "#555555",
    "xtick.labelcolor": INK,
    "xtick.labelsize": 11,
    "ytick.color": "#555555",
    "ytick.labelcolor": INK,
    "ytick.labelsize": 11,
}


class Picture(Figure):
    """A figure whose plain-text form is its alternative text.

    It is a class of its own so that our formatter stays in force when somebody imports pyplot later, which registers
    another formatter for `Figure`.
    """

    def __repr__(self) -> str:
        return f"[picture] {alt_text(self)}"


def alt_text(figure: Figure) -> str:
    """What a screen reader says: the figure's label, else its titles, else how many panels it has; without LaTeX."""
    titles = [figure.get_suptitle(), *(axes.get_title(loc) for axes in figure.axes for loc in ("left", "center"))]
    text = str(figure.get_label() or ". ".join(title for title in titles if title))
    words = " ".join(_FORMULA.sub(lambda formula: _spoken(formula[1]), text).split())
    return words or f"figure with {len(figure.axes)} panels"


_FORMULA = re.compile(r"\$([^$]*)\$")
_INDEX = re.compile(r"(?<![\w\\^])([^\W\d_])_(\w)(?!\w)")  # x_t, but neither alpha_bar nor my_x


def _spoken(formula: str) -> str:
    r"""LaTeX as characters: \hat x_0 is x̂_0."""
    return re.sub(r"[\\{}]", "", re.sub(r"\\hat\s*\{?(\w)\}?", "\\1\u0302", formula))


def typeset(text: str) -> str:
    """Words in which x_t is set as it is in the text.

    >>> typeset("seen: x_t, not alpha_bar")
    'seen: $x_t$, not alpha_bar'
    """
    return text if "$" in text else _INDEX.sub(r"$\1_\2$", text)


def png(figure: Figure) -> bytes:
    """The figure as PNG.

    >>> from course_utils import plots
    >>> png(plots.curves({"y = x": ([0, 1], [0, 1])}, title="A line", x_label="x", y_label="y"))[:4]
    b'\\x89PNG'
    """
    return _encoded(_raster(figure))


def as_html(figure: Figure, quick: bool = False) -> str:
    """The figure as HTML: an image with its alternative text and its size on the page.

    It is how a figure gets onto a page, since an alternative text reaches JupyterLab, saved notebooks and their exports
    no other way. quick: twice the bytes in half the time, for a picture that is looked at for a moment.

    >>> from course_utils import plots
    >>> page = as_html(plots.curves({"y = x": ([0, 1], [0, 1])}, title="A line", x_label="x", y_label="y"))
    >>> page[page.index("alt=") :]
    'alt="A line. Curves of y against x: y = x">'
    """
    image = _raster(figure)
    if not quick and image.mode == "RGB" and not _holds_photographs(figure):
        image = image.quantize(256, dither=Image.Dither.NONE)  # lines and letters: as good to the eye, half the size
    drawn = not any(axes.images for axes in figure.axes)
    size = tuple(round(float(inches) * PAGE_DPI) for inches in figure.get_size_inches())
    return img("png", _encoded(image, 1 if quick else 9), alt_text(figure), size, drawn=drawn)


# White figures would glare in a dark theme. Drawings are turned over there, black on white to white on black, each
# colour staying what it is called; images stay what they are, on a softer white.
_DARK = ':is([data-jp-theme-light="false"],.vscode-dark)'
_LOOK = (
    "<style>.course-figure{display:block;max-width:100%;height:auto;border-radius:6px}"
    f"{_DARK} .course-figure{{filter:brightness(.8)}}"
    f"{_DARK} .course-drawing{{filter:invert(.92) hue-rotate(180deg) saturate(1.5) brightness(1.25)}}</style>"
)


def img(kind: str, data: bytes, alt: str, size: tuple[int, int], *, drawn: bool = False, style: str = "") -> str:
    """An image as HTML that carries it whole: on a page, in a saved notebook, in an export, on GitHub.

    kind: "png" or "gif";  size: (width, height) on the page, in its pixels, so that nothing moves when the image comes;
    drawn: whether it holds nothing but lines, letters and areas.
    """
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    looks = "course-figure course-drawing" if drawn else "course-figure"
    place = f'width="{size[0]}" height="{size[1]}"' + (f' style="{style}"' if style else "")
    return f'{_LOOK}<img class="{looks}" {place} src="{source}" alt="{html.escape(alt)}">'


def _raster(figure: Figure) -> Image.Image:
    """The figure in pixels, grey where it has no colour. It takes half the time of `savefig`, which draws twice."""
    for text in figure.findobj(Text):
        text.set_text(typeset(text.get_text()))
    before = figure.get_dpi()
    try:
        figure.set_dpi(STYLE["savefig.dpi"])
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        rgb = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    finally:
        figure.set_dpi(before)
    grey = (rgb == rgb[..., :1]).all()
    return Image.fromarray(rgb[..., 0] if grey else rgb)


def _encoded(image: Image.Image, level: int = 6) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png", compress_level=level)
    return buffer.getvalue()


def _holds_photographs(figure: Figure) -> bool:
    """Whether there is an image in colours of its own, not those of a colour map."""
    return any(np.ndim(image.get_array()) == 3 for axes in figure.axes for image in axes.images)


def style() -> None:
    """Make the course's look the default, and tell a running IPython how to show our figures (`setup` calls this)."""
    matplotlib.rcParams.update(STYLE)
    try:
        from IPython import get_ipython
    except ImportError:
        return
    if shell := get_ipython():
        formatters = shell.display_formatter.formatters
        formatters["text/html"].for_type(Picture, as_html)
        formatters["image/png"].for_type(Picture, lambda figure: None)  # not a second time, whatever pyplot arranges


def styled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Draw in the course's style whatever the surrounding settings are."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return wrapper


@styled
def new_figure(
    width: Number = WIDTH, height: Number = 4.0, rows: int = 1, columns: int = 1, **subplots: Any
) -> tuple[Figure, Any]:
    """A figure and its axes in the course's style, for a picture that no function here draws.

    width, height: inches (8 fills a notebook's column). One panel gives one `Axes`, several an array (rows, columns)
    squeezed as matplotlib does. Further keywords go to `Figure.subplots`.

    >>> figure, axes = new_figure(6, 3)
    >>> _ = axes.plot([0, 1], [1, 0])
    >>> figure.get_size_inches().tolist()
    [6.0, 3.0]
    """
    if width <= 0 or height <= 0 or rows < 1 or columns < 1:
        raise ValueError(f"expected positive sizes, got width={width}, height={height}, rows={rows}, columns={columns}")
    figure = Picture(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **subplots)


def single(title: str, alt: str, width: Number = WIDTH, height: Number = 4.0) -> tuple[Figure, Axes]:
    """One panel with a title that is wrapped to the width, and its alternative text."""
    figure, axes = new_figure(width, height)
    axes.set_title(wrapped(title, width))
    figure.set_label(f"{title}. {alt}" if title else alt)
    return figure, axes


def side_by_side(
    names: list[str], columns: int, width: Number, height: Number, title: str, alt: str
) -> tuple[Figure, np.ndarray]:
    """A panel for each name, (rows, columns) of them under one title, with names in the alternative text."""
    figure, grid = new_figure(width, height, -(-len(names) // columns), columns, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    figure.suptitle(wrapped(title, width), x=0.01, ha="left")
    figure.set_label(f"{title}. {alt}: {', '.join(' '.join(name.split()) for name in names)}")
    return figure, grid


def wrapped(title: str, width: Number) -> str:
    # a bold letter of 13 points is about 0.11 inches wide
    return "\n".join(textwrap.wrap(title, max(12, int(width * 8.8))))


def title_height(title: str, width: Number) -> float:
    """Inches that a title takes when it is wrapped to this width."""
    return 0.26 * (wrapped(title, width).count("\n") + 1) if title else 0.0


def bare(axes: Axes) -> None:
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
