"""Pictures of the course: data in, `Figure` out, nothing shown, nothing remembered.

Every function returns a matplotlib figure made without pyplot, so that it appears exactly once: as the value of a
cell, through `display`, or in an explorer. Its label is its alternative text (`figure.set_label("...")` to replace it).
Colours are Petroff's ten, chosen to be told apart by colour-blind readers (arXiv:2107.02270).
"""

from __future__ import annotations

import base64
import functools
import html
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from PIL import Image

Number = int | float

COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
WIDTH = 8.0  # inches: what the column of a notebook holds at 96 pixels an inch
DPI = 144  # 1.5 image pixels for each pixel on the page: crisp, and still small files
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
    "savefig.dpi": DPI,
    "xtick.color": "#555555",
    "xtick.labelcolor": "#222222",
    "xtick.labelsize": 11,
    "ytick.color": "#555555",
    "ytick.labelcolor": "#222222",
    "ytick.labelsize": 11,
}


class Picture(Figure):
    """A figure whose plain-text form is its alternative text.

    It is a class of its own so that our formatter stays in force when somebody imports pyplot later, which registers
    another formatter for `Figure`.
    """

    def __repr__(self) -> str:
        return f"[picture] {alt_text(self)}"


def style() -> None:
    """Make the course's look the default for figures that you draw yourself (`setup` calls this)."""
    matplotlib.rcParams.update(STYLE)


def _styled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Draw in the course's style whatever the surrounding settings are."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return wrapper


# ---------------------------------------------------------------------------------------------- from figure to page


def alt_text(figure: Figure) -> str:
    """What a screen reader says: the figure's label, else its titles, else how many panels it has."""
    titles = [figure.get_suptitle(), *(axes.get_title(loc) for axes in figure.axes for loc in ("left", "center"))]
    text = figure.get_label() or ". ".join(title for title in titles if title)
    return " ".join(str(text).split()) or f"figure with {len(figure.axes)} panels"


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG.

    >>> png(curves({"y = x": ([0, 1], [0, 1])}, title="A line", x_label="x", y_label="y"))[:4]
    b'\\x89PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def png_with_metadata(figure: Figure) -> tuple[bytes, dict[str, Any]]:
    """PNG and the metadata that notebooks understand: alternative text, and size on the page (not in image pixels)."""
    width, height = (round(float(inches) * PAGE_DPI) for inches in figure.get_size_inches())
    return png(figure), {"alt": alt_text(figure), "width": width, "height": height}


def register_formatter() -> bool:
    """Tell a running IPython how to show our figures; False (and nothing done) where there is none."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    if shell is None:
        return False
    formatters = shell.display_formatter.formatters
    for kind in (Figure, Picture):
        formatters["image/png"].for_type(kind, png_with_metadata)
        formatters["text/plain"].for_type(
            kind, lambda figure, printer, cycle: printer.text(f"[picture] {alt_text(figure)}")
        )
    return True


# ------------------------------------------------------------------------------------------------------ checks on input


def _array(values: Any, name: str) -> np.ndarray:
    """Any numbers as a float64 array; one clear line if they are none, empty or not finite."""
    if isinstance(values, torch.Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected numbers, got {type(values).__name__} ({error})") from None
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one value, got none (shape {array.shape})")
    return array


def _finite(array: np.ndarray, name: str) -> np.ndarray:
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise ValueError(
            f"{name}: expected finite numbers, got {bad} NaN or infinite of {array.size}; look where they arise"
        )
    return array


def _images(images: Any, name: str = "images", dims: int = 4) -> np.ndarray:
    """Images (..., c, h, w) in [-1, 1], checked, as float (..., h, w, c) in [0, 1]; what lies beyond is clipped."""
    wanted = {4: "(n, c, h, w)", 5: "(rows, columns, c, h, w)"}[dims]
    if not isinstance(images, torch.Tensor | np.ndarray):
        raise TypeError(f"{name}: expected a tensor {wanted}, got {type(images).__name__}")
    if images.ndim != dims:
        hint = "; add the missing axis with x[None] or x.unsqueeze(1)" if images.ndim < dims else ""
        raise ValueError(f"{name}: expected {wanted}, got shape {tuple(images.shape)}{hint}")
    if images.shape[-3] not in (1, 3):
        raise ValueError(
            f"{name}: expected 1 (grey) or 3 (colour) channels, got shape {tuple(images.shape)} read as {wanted}"
        )
    if not (images.is_floating_point() if isinstance(images, torch.Tensor) else images.dtype.kind == "f"):
        raise TypeError(f"{name}: expected floats in [-1, 1], got {images.dtype}; bytes become floats by x / 127.5 - 1")
    array = _finite(_array(images, name), name)
    if np.abs(array).max() > 16:
        raise ValueError(
            f"{name}: expected values in [-1, 1], got {array.min():.3g} to {array.max():.3g}; "
            "bytes become floats by x / 127.5 - 1"
        )
    return np.moveaxis(np.clip((array + 1) / 2, 0, 1), -3, -1)


def _named(series: Any, name: str) -> dict[str, Any]:
    if not isinstance(series, Mapping) or not series:
        raise TypeError(f'{name}: expected a dictionary {{"name": values}} with at least one entry, got {series!r:.60}')
    return {str(key): value for key, value in series.items()}


# ------------------------------------------------------------------------------------------------------------- canvases


@_styled
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


def _single(width: Number, height: Number, title: str, alt: str) -> tuple[Figure, Axes]:
    """One panel with a title that is wrapped to the width, and its alternative text."""
    figure, axes = new_figure(width, height)
    if title:
        axes.set_title(_wrapped(title, width))
    figure.set_label(f"{title}. {alt}" if title else alt)
    return figure, axes


def _wrapped(title: str, width: Number) -> str:
    return "\n".join(
        textwrap.wrap(title, max(12, int(width * 8.8)))  # a bold letter of 13 points is about 0.11 inches wide
    )


# --------------------------------------------------------------------------------------------------------------- images


def _mosaic(
    images: np.ndarray, columns: int, gap_x: Number, gap_y: Number, fill: Number = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Lay (n, h, w, c) images on one canvas; returns it with the (x, y) of the top left corner of each image.

    One picture instead of n panels: sixty images draw as fast as one, which an explorer needs.
    """
    n, h, w, c = images.shape
    rows, gap_x, gap_y = -(-n // columns), round(gap_x), round(gap_y)
    canvas = np.full((rows * (h + gap_y) - gap_y, columns * (w + gap_x) - gap_x, c), fill)
    corners = np.array([((i % columns) * (w + gap_x), (i // columns) * (h + gap_y)) for i in range(n)])
    for image, (x, y) in zip(images, corners, strict=True):
        canvas[y : y + h, x : x + w] = image
    return canvas, corners


def _caption(label: Any) -> str:
    return str(label.item() if isinstance(label, torch.Tensor | np.generic) else label)


def _bare(axes: Axes) -> None:
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _show(axes: Axes, canvas: np.ndarray, **keywords: Any) -> None:
    grey = canvas.shape[-1] == 1
    axes.imshow(canvas[..., 0] if grey else canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest", **keywords)


@_styled
def draw_images(axes: Axes, images: Any, *, columns: int | None = None, title: str = "") -> None:
    """Draw images (n, c, h, w) in [-1, 1] into axes that you have, as one panel of a figure of your own."""
    array = _images(images)
    columns = columns or min(len(array), 10)
    canvas, _ = _mosaic(array, columns, *_gaps(array))
    _show(axes, canvas)
    _bare(axes)
    if title:
        axes.set_title(title)


def _gaps(array: np.ndarray) -> tuple[int, int]:
    gap = max(1, round(array.shape[2] / 14))
    return gap, gap


@_styled
def image_grid(images: Any, *, title: str = "", columns: int | None = None, labels: Any = None) -> Figure:
    """Images in a grid, each with its caption if `labels` are given.

    images: (n, c, h, w) floats in [-1, 1], grey (c = 1) or colour (c = 3); values beyond are clipped.
    columns: images in a row; chosen by their number if None. labels: n captions (numbers or words).
    Errors: ValueError for a wrong shape, range, or number of labels; TypeError for bytes.

    >>> image_grid(torch.zeros(12, 1, 28, 28), title="Twelve grey squares")
    [picture] Twelve grey squares. Grid of 12 images
    """
    array = _images(images)
    n, h, w, _ = array.shape
    if columns is not None and columns < 1:
        raise ValueError(f"columns: expected 1 or more, got {columns}")
    if labels is not None and len(labels) != n:
        raise ValueError(f"labels: expected {n}, one for each image, got {len(labels)}")
    captions = [_caption(label) for label in labels] if labels is not None else []
    gap = max(1, round(w / 14))
    cell, columns = _cell(n, columns, captions, gap / w)
    inch = w / cell  # image pixels on an inch of page
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    canvas, corners = _mosaic(array, columns, gap, gap + 0.21 * lines * inch)
    height = canvas.shape[0] / inch + 0.21 * lines
    width = canvas.shape[1] / inch
    title_lines = _wrapped(title, max(width, 5)).count("\n") + 1 if title else 0
    figure, axes = _single(
        max(width, 5) + 0.1, height + 0.1 + 0.26 * title_lines, title, f"Grid of {n} image{'s' if n > 1 else ''}"
    )
    _show(axes, canvas)
    _bare(axes)
    axes.set_anchor("W")
    for caption, (x, y) in zip(captions, corners, strict=bool(captions)):
        axes.text(x + w / 2 - 0.5, y + h + 0.04 * inch, caption, ha="center", va="top", fontsize=11)
    if captions:
        axes.set_ylim(canvas.shape[0] - 0.5 + 0.21 * lines * inch, -0.5)
    return figure


def _cell(n: int, columns: int | None, captions: list[str], gap: float) -> tuple[Number, int]:
    """Inches that one image of a grid takes, and images in a row: rows of equal length that fill the width."""
    longest = max((len(line) for caption in captions for line in caption.split("\n")), default=0)
    needed = max(0.72, 0.088 * longest + 0.06)  # wide enough for the longest caption
    if columns is None:
        columns = -(-n // -(-n // max(1, int(WIDTH / (needed * (1 + gap))))))
    columns = min(columns, n)
    widest = (WIDTH - 0.1) / (columns + (columns - 1) * gap)
    return min(widest, max(needed, 1.5 if n > 1 else 2.4)), columns


@_styled
def image_rows(rows: Mapping[str, Any], *, title: str = "", labels: Any = None) -> Figure:
    """Rows of images, each with its name on the left: originals over what became of them.

    rows: {"name": (n, c, h, w) floats in [-1, 1]}; all of one c, h, w; a shorter row ends early.
    labels: a caption above each column.

    >>> image_rows({"original": torch.zeros(5, 1, 8, 8), "rebuilt": torch.zeros(5, 1, 8, 8)}, title="Before and after")
    [picture] Before and after. Rows of images: original, rebuilt
    """
    arrays = {name: _images(images, f'row "{name}"') for name, images in _named(rows, "rows").items()}
    shapes = {array.shape[1:] for array in arrays.values()}
    if len(shapes) > 1:
        raise ValueError(f"rows: expected images of one size, got (h, w, c) of {sorted(shapes)}")
    (h, w, c) = shapes.pop()
    longest = max(len(array) for array in arrays.values())
    if labels is not None and len(labels) != longest:
        raise ValueError(f"labels: expected {longest}, one for each column, got {len(labels)}")
    padded = [np.concatenate([array, np.ones((longest - len(array), h, w, c))]) for array in arrays.values()]
    gap = max(1, round(w / 14))
    canvas, _ = _mosaic(np.concatenate(padded), longest, gap, gap)
    names = ["\n".join(textwrap.wrap(name, 18)) for name in arrays]
    margin = 0.095 * max(len(line) for name in names for line in name.split("\n")) + 0.25
    inch = w / min(1.1, (WIDTH - margin) / (longest + (longest - 1) * gap / w))
    title_lines = _wrapped(title, WIDTH).count("\n") + 1 if title else 0
    height = canvas.shape[0] / inch + 0.1 + 0.26 * title_lines + (0.25 if labels is not None else 0)
    figure, axes = _single(
        max(5.0, margin + canvas.shape[1] / inch), height, title, "Rows of images: " + ", ".join(arrays)
    )
    _show(axes, canvas)
    _bare(axes)
    axes.set_anchor("W")
    axes.set_yticks([i * (h + gap) + (h - 1) / 2 for i in range(len(names))], names)
    axes.tick_params(length=0)
    if labels is not None:
        axes.xaxis.tick_top()
        axes.set_xticks([i * (w + gap) + (w - 1) / 2 for i in range(longest)], [_caption(label) for label in labels])
    return figure


@_styled
def manifold(
    decoded: Any,
    extent: Sequence[Number],
    title: str = "",
    *,
    x_label: str = "z₁",
    y_label: str = "z₂",
    mark: Any = None,
) -> Figure:
    """A grid of decoded latent points, drawn where the points lie.

    decoded: (rows, columns, c, h, w) in [-1, 1]; decoded[i, j] belongs to the i-th value of z₂ and the j-th of z₁, both
    rising: row 0 is drawn at the bottom. extent: (z₁ low, z₁ high, z₂ low, z₂ high), the outermost points of the grid.
    mark: a point (z₁, z₂) or {"name": point} to show on it.
    """
    array = _images(decoded, "decoded", dims=5)
    if len(extent) != 4:
        raise ValueError(f"extent: expected (low, high, low, high), got {tuple(extent)}")
    left, right, bottom, top = (float(v) for v in extent)
    if not (left < right and bottom < top):
        raise ValueError(f"extent: expected (low, high, low, high) with low < high, got {tuple(extent)}")
    rows, columns, h, w, c = array.shape
    canvas = array[::-1].transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, c)
    dx, dy = (
        (right - left) / max(columns - 1, 1) / 2,
        (top - bottom) / max(rows - 1, 1) / 2,
    )  # a point is the middle of its image
    height = min(7.0, 6.2 * rows * h / (columns * w)) + 0.9
    figure, axes = _single(7.0, height, title, f"Map of {rows} by {columns} images decoded over the latent plane")
    _show(axes, canvas, extent=(left - dx, right + dx, bottom - dy, top + dy), aspect="auto")
    axes.grid(False)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    _mark_points(axes, mark)
    return figure


# --------------------------------------------------------------------------------------------------------------- curves


@_styled
def draw_curves(
    axes: Axes,
    series: Mapping[str, Any],
    *,
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
    log_y: bool = False,
    band: Mapping[str, tuple[Any, Any]] | None = None,
    mark: Any = None,
    title: str = "",
) -> None:
    """`curves` into axes that you have; the arguments are the same."""
    for name, pair in _named(series, "series").items():
        x, y = _pair(pair, name)
        marker = "o" if len(x) <= 12 else None
        (line,) = axes.plot(x, y, marker=marker, label=name if not name.startswith("_") else None)
        if band is not None and name in band:
            low, high = (_array(side, f'band "{name}"') for side in band[name])
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    if band is not None and set(band) - set(series):
        raise ValueError(f"band: expected names among {list(series)}, got {sorted(set(band) - set(series))}")
    if log_x:
        axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    _mark_lines(axes, mark)
    axes.set(xlabel=x_label, ylabel=y_label)
    if title:
        axes.set_title(title)
    if len(axes.get_legend_handles_labels()[1]) > (1 if mark is None else 0):
        axes.legend()


def _pair(pair: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        x, y = pair
    except (TypeError, ValueError):
        raise TypeError(f'"{name}": expected a pair (x values, y values), got {type(pair).__name__}') from None
    x, y = _array(x, f'x of "{name}"'), _array(y, f'y of "{name}"')
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f'"{name}": expected x and y of one length, got shapes {x.shape} and {y.shape}')
    return x, y


def _mark_lines(axes: Axes, mark: Any) -> None:
    """Marks on curves: x is an upright line, (None, y) a level line, (x, y) a point; a dictionary names them."""
    if mark is None:
        return
    marks = mark if isinstance(mark, Mapping) else {"": mark}
    for name, where in marks.items():
        keywords = {"color": "#222222", "label": str(name) or None}
        x, y = where if isinstance(where, tuple | list) else (where, None)
        if x is not None and y is not None:
            axes.plot([float(x)], [float(y)], "D", markersize=9, markeredgecolor="white", linestyle="none", **keywords)
        elif x is not None:
            axes.axvline(float(x), linestyle="--", linewidth=1.6, **keywords)
        elif y is not None:
            axes.axhline(float(y), linestyle="--", linewidth=1.6, **keywords)


@_styled
def curves(
    series: Mapping[str, Any],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    band: Mapping[str, tuple[Any, Any]] | None = None,
    mark: Any = None,
) -> Figure:
    """One or several curves over a common axis.

    series: {"name": (x, y)}, each of one length. band: {"name": (low, high)} shades an interval around that curve.
    mark: a number x (upright line), (x, y) (point), (None, y) (level line), or {"name": one of these}.

    >>> curves({"loss": ([1, 2, 3], [9, 4, 1])}, title="It falls", x_label="step", y_label="loss (nats per image)")
    [picture] It falls. Curves of loss (nats per image) against step: loss
    """
    names = ", ".join(_named(series, "series"))
    figure, axes = _single(WIDTH, 4.0, title, f"Curves of {y_label} against {x_label}: {names}")
    draw_curves(axes, series, x_label=x_label, y_label=y_label, log_x=log_x, log_y=log_y, band=band, mark=mark)
    return figure


# -------------------------------------------------------------------------------------------------------------- scatter


def _mark_points(axes: Axes, mark: Any) -> None:
    if mark is None:
        return
    marks = mark if isinstance(mark, Mapping) else {"": mark}
    for name, points in marks.items():
        points = np.atleast_2d(_finite(_array(points, f'mark "{name}"'), f'mark "{name}"'))
        if points.shape[1] != 2:
            raise ValueError(f'mark "{name}": expected a point (x, y) or points (k, 2), got shape {points.shape}')
        axes.plot(
            *points.T, "X", markersize=13, color="#222222", markeredgecolor="white", markeredgewidth=1.5, zorder=6
        )
        if name:
            axes.annotate(
                str(name), points[0], (9, 7), textcoords="offset points", fontsize=12, zorder=7, path_effects=_HALO
            )


_HALO = [withStroke(linewidth=3, foreground="white")]


@_styled
def draw_scatter(
    axes: Axes,
    z: Any,
    labels: Any,
    classes: Sequence[str],
    *,
    x_label: str = "z₁",
    y_label: str = "z₂",
    ellipses: tuple[Any, Any] | None = None,
    mark: Any = None,
    title: str = "",
    legend: bool = True,
) -> None:
    """`scatter_classes` into axes that you have; the arguments are the same."""
    points, index = _finite(_array(z, "z"), "z"), _array(labels, "labels").astype(int)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"z: expected (n, 2), got shape {points.shape}; choose two columns, for example z[:, :2]")
    if index.shape != points.shape[:1]:
        raise ValueError(f"labels: expected ({len(points)},), one for each point, got shape {index.shape}")
    if index.min() < 0 or index.max() >= len(classes):
        raise ValueError(
            f"labels: expected 0 to {len(classes) - 1} for {len(classes)} classes, got {index.min()} to {index.max()}"
        )
    size, alpha = (14, 0.75) if len(points) <= 1500 else (7, 0.55)
    for k, name in enumerate(classes):
        mine = points[index == k]
        if len(mine):
            axes.scatter(*mine.T, s=size, alpha=alpha, color=COLOURS[k % len(COLOURS)], linewidth=0, label=str(name))
    _draw_ellipses(axes, ellipses, index, len(classes))
    _mark_points(axes, mark)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xlabel=x_label, ylabel=y_label)
    if title:
        axes.set_title(title)
    if legend:
        shown = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2.2, handletextpad=0.2)
        for handle in shown.legend_handles:
            handle.set_alpha(1)


def _draw_ellipses(axes: Axes, ellipses: tuple[Any, Any] | None, index: np.ndarray, classes: int) -> None:
    """Ellipses of two standard deviations: (centres (k, 2), standard deviations (k, 2) or covariances (k, 2, 2))."""
    if ellipses is None:
        return
    centres, spread = (_finite(_array(part, "ellipses"), "ellipses") for part in ellipses)
    if centres.ndim != 2 or centres.shape[1] != 2 or spread.shape[:2] != centres.shape or spread.ndim > 3:
        raise ValueError(
            "ellipses: expected centres (k, 2) with deviations (k, 2) or covariances (k, 2, 2), "
            f"got shapes {centres.shape} and {spread.shape}"
        )
    for i, (centre, s) in enumerate(zip(centres, spread, strict=True)):
        variances, axes_of = np.linalg.eigh(s if s.ndim == 2 else np.diag(s**2))
        angle = np.degrees(np.arctan2(axes_of[1, 0], axes_of[0, 0]))
        kind = index[i] if len(centres) == len(index) else (i if len(centres) == classes else None)
        colour = "#222222" if kind is None else COLOURS[kind % len(COLOURS)]
        width, height = 4 * np.sqrt(np.maximum(variances, 0))
        axes.add_patch(
            Ellipse(centre, width, height, angle=angle, fill=False, edgecolor=colour, linewidth=1.6, zorder=4)
        )


@_styled
def scatter_classes(
    z: Any,
    labels: Any,
    classes: Sequence[str],
    *,
    title: str,
    x_label: str = "z₁",
    y_label: str = "z₂",
    ellipses: tuple[Any, Any] | None = None,
    mark: Any = None,
) -> Figure:
    """Points of the plane, coloured by class.

    z: (n, 2); labels: (n,) integers into `classes`. mark: a point, points (k, 2), or {"name": point}, as crosses.
    ellipses: (centres (k, 2), standard deviations (k, 2) or covariances (k, 2, 2)), drawn at two standard deviations;
    coloured by class where k is the number of points or of classes.

    >>> scatter_classes(torch.zeros(2, 2), torch.tensor([0, 1]), ("cat", "dog"), title="Two points")
    [picture] Two points. Scatter of 2 points in 2 classes: cat, dog
    """
    kinds = ", ".join(str(name) for name in classes)
    figure, axes = _single(WIDTH, 5.6, title, f"Scatter of {len(z)} points in {len(classes)} classes: {kinds}")
    draw_scatter(axes, z, labels, classes, x_label=x_label, y_label=y_label, ellipses=ellipses, mark=mark)
    return figure


# ----------------------------------------------------------------------------------------------- bars, histograms, heat


@_styled
def bars(
    values: Mapping[str, Any],
    *,
    title: str,
    y_label: str,
    errors: Mapping[str, Any] | None = None,
    x_label: str = "",
    form: str = ".3g",
) -> Figure:
    """Named numbers as bars, each with its value written on it.

    values: {"name": value}, or {"series": {"name": value}} for groups side by side. errors: half-lengths of error bars,
    in the same arrangement. form: how values are written (a format specification).

    >>> bars({"PCA": 0.031, "autoencoder": 0.022}, title="Lower is better", y_label="MSE per pixel")
    [picture] Lower is better. Bars of MSE per pixel: PCA 0.031, autoencoder 0.022
    """
    values = _named(values, "values")
    grouped = isinstance(next(iter(values.values())), Mapping)
    groups = values if grouped else {"": values}
    spread = (errors or {}) if grouped else {"": errors or {}}
    names = list(dict.fromkeys(str(name) for group in groups.values() for name in group))
    described = "; ".join(
        (f"{series}: " if series else "") + ", ".join(f"{name} {float(v):{form}}" for name, v in group.items())
        for series, group in groups.items()
    )
    figure, axes = _single(WIDTH, 4.0, title, f"Bars of {y_label}: {described}")
    width = 0.8 / len(groups) if grouped else 0.62
    for k, (series, group) in enumerate(groups.items()):
        group = {str(name): float(_finite(_array(v, str(name)), str(name))) for name, v in group.items()}
        at = [names.index(name) + (k - (len(groups) - 1) / 2) * width for name in group]
        error = {str(name): float(e) for name, e in spread.get(series, {}).items()}
        axes.bar(at, group.values(), width * 0.94, label=series or None, color=COLOURS[k % len(COLOURS)])
        for x, (name, value) in zip(at, group.items()):
            if name in error:
                axes.errorbar(x, value, error[name], fmt="none", ecolor="#222222", capsize=4)
            top, sign = value + np.copysign(error.get(name, 0.0), value), 1 if value >= 0 else -1
            where = {"xytext": (0, 3 * sign), "textcoords": "offset points", "va": "bottom" if sign > 0 else "top"}
            axes.annotate(f"{value:{form}}", (x, top), ha="center", fontsize=11, **where)
    axes.margins(y=0.12)
    axes.set_xticks(range(len(names)), ["\n".join(textwrap.wrap(name, max(8, int(72 / len(names))))) for name in names])
    axes.grid(False, axis="x")
    axes.set(ylabel=y_label, xlabel=x_label)
    if grouped:
        axes.legend()
    return figure


@_styled
def histogram(
    values: Any,
    *,
    title: str,
    x_label: str,
    y_label: str = "density",
    bins: int = 50,
    overlay: Mapping[str, tuple[Any, Any]] | None = None,
    mark: Any = None,
) -> Figure:
    """How often each value occurs, as a density (area 1).

    values: numbers of any shape, or {"name": numbers} for several over each other with common bins.
    overlay: {"name": (x, y)} draws densities to compare with. mark: as in `curves`.

    >>> histogram(torch.tensor([0.0, 1.0, 1.0]), title="Three numbers", x_label="value")
    [picture] Three numbers. Histogram of value
    """
    series = values if isinstance(values, Mapping) else {"": values}
    arrays = {
        str(name): _finite(_array(v, str(name) or "values"), str(name) or "values").ravel()
        for name, v in series.items()
    }
    if bins < 1:
        raise ValueError(f"bins: expected 1 or more, got {bins}")
    named = ": " + ", ".join(arrays) if "" not in arrays else ""
    figure, axes = _single(WIDTH, 4.0, title, f"Histogram of {x_label}{named}")
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), bins)
    for name, array in arrays.items():
        axes.hist(array, edges, density=True, alpha=0.55 if len(arrays) > 1 else 0.8, label=name or None)
    for k, (name, pair) in enumerate((overlay or {}).items()):
        axes.plot(*_pair(pair, name), color="#222222", linestyle=("-", "--", ":")[k % 3], label=str(name))
    _mark_lines(axes, mark)
    axes.set(xlabel=x_label, ylabel=y_label)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()
    return figure


@_styled
def heatmap(
    matrix: Any,
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    row_names: Sequence[Any] | None = None,
    column_names: Sequence[Any] | None = None,
    diverging: bool = False,
    unit: str = "",
    form: str | None = None,
) -> Figure:
    """A matrix as colours with a scale beside it.

    matrix: (rows, columns), row 0 on top. diverging: centre the colours on 0. unit: what the scale says.
    form: a format specification such as ".2f" writes each value into its cell.

    >>> heatmap(torch.eye(3), title="Identity", form=".0f")
    [picture] Identity. Heat map of 3 by 3 values
    """
    array = _finite(_array(matrix, "matrix"), "matrix")
    if array.ndim != 2:
        raise ValueError(f"matrix: expected (rows, columns), got shape {array.shape}")
    rows, columns = array.shape
    for names, wanted, what in ((row_names, rows, "row_names"), (column_names, columns, "column_names")):
        if names is not None and len(names) != wanted:
            raise ValueError(f"{what}: expected {wanted}, got {len(names)}")
    figure, axes = _single(
        WIDTH, float(np.clip(5.5 * rows / columns, 2.2, 6.5)) + 0.6, title, f"Heat map of {rows} by {columns} values"
    )
    limit = float(np.abs(array).max()) or 1.0
    limits = {"vmin": -limit, "vmax": limit} if diverging else {}
    drawn = axes.imshow(
        array, cmap=DIVERGING if diverging else SEQUENTIAL, interpolation="nearest", aspect="auto", **limits
    )
    figure.colorbar(drawn, ax=axes, label=unit or None)
    axes.grid(False)
    axes.set(xlabel=x_label, ylabel=y_label)
    for axis, names in ((axes.xaxis, column_names), (axes.yaxis, row_names)):
        if names is not None:
            axis.set_ticks(range(len(names)), [str(name) for name in names])
        else:
            axis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    if column_names is not None and max(len(str(name)) for name in column_names) * columns > 60:
        axes.tick_params(axis="x", labelrotation=40)
    if form is not None:
        for (i, j), value in np.ndenumerate(array):
            dark = _luminance(drawn.cmap(drawn.norm(value))) < 0.179  # where white and black stand out equally
            axes.text(
                j, i, f"{value:{form}}", ha="center", va="center", fontsize=11, color="white" if dark else "black"
            )
    return figure


# ------------------------------------------------------------------------------------------------------------- triangle


@_styled
def triangle(corners: Sequence[str], members: Mapping[str, Any], *, title: str) -> Figure:
    """A triangle of three wishes, and who grants which.

    corners: the three names, the first one on top, then left and right. members: {"name": three shares}, how strongly
    it is drawn to each corner; only their ratios count: (1, 1, 0) is the middle of the first edge.

    >>> triangle(["good", "fast", "cheap"], {"a friend": (1, 0, 1)}, title="Choose two")
    [picture] Choose two. Triangle of good, fast, cheap: a friend (1, 0, 1)
    """
    if len(corners) != 3:
        raise ValueError(f"corners: expected three names, got {len(corners)}")
    described = ", ".join(f"{name} {tuple(shares)}".replace("\n", ", ") for name, shares in members.items())
    figure, axes = _single(7.4, 4.9, title, f"Triangle of {', '.join(corners)}: {described}")
    at = np.array([(0.0, 1.0), (-0.95, -0.5), (0.95, -0.5)])
    axes.fill(*at.T, facecolor="#f4f4f4", edgecolor="#888888", linewidth=1.5)
    axes.plot(*at.T, "o", color="#222222", markersize=9)
    for name, (x, y) in zip(corners, at):
        above = {"xytext": (0, 12 if y > 0 else -12), "textcoords": "offset points", "va": "bottom" if y > 0 else "top"}
        axes.annotate(name, (x, y), ha="center", fontsize=14, fontweight="bold", **above)
    for k, (name, shares) in enumerate(members.items()):
        share = _finite(_array(shares, name), name)
        if share.shape != (3,) or share.min() < 0 or share.sum() == 0:
            raise ValueError(f"{name!r}: expected three shares of 0 or more, got {shares}")
        colour = COLOURS[(2, 0, 4, 8, 1, 9)[k % 6]]
        box = {"boxstyle": "round,pad=0.5", "facecolor": colour, "edgecolor": "none"}
        text = "white" if _luminance(matplotlib.colors.to_rgb(colour)) < 0.179 else "black"
        axes.annotate(name, share @ at / share.sum(), ha="center", va="center", fontsize=12, color=text, bbox=box)
    axes.set(xlim=(-1.4, 1.4), ylim=(-0.72, 1.2))
    axes.set_axis_off()
    return figure


def _luminance(rgba: Sequence[Any]) -> float:
    """Relative luminance of a colour, 0 to 1, as the web's accessibility guidelines define it."""
    channels = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3])
    return float(sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), channels)))


# -------------------------------------------------------------------------------------------------------------- fields


@_styled
def draw_field(
    axes: Axes,
    arrows: Any,
    extent: Sequence[Number],
    *,
    density: Any = None,
    points: Any = None,
    x_label: str = "",
    y_label: str = "",
    title: str = "",
) -> None:
    """`fields` with one panel, into axes that you have; the arguments are those of one panel."""
    field = _finite(_array(arrows, "arrows"), "arrows")
    if field.ndim != 3 or field.shape[2] != 2:
        raise ValueError(f"arrows: expected (rows, columns, 2), got shape {field.shape}")
    left, right, bottom, top = (float(side) for side in extent)
    if not (left < right and bottom < top):
        raise ValueError(f"extent: expected (low, high, low, high) with low < high, got {tuple(extent)}")
    if density is not None:
        shade = _finite(_array(density, "density"), "density")
        if shade.ndim != 2:
            raise ValueError(f"density: expected (rows, columns), got shape {shade.shape}")
        top_shade = max(float(shade.max()), 1e-12)
        levels = np.linspace(0.04, 1, 9) * top_shade  # few levels: a picture that compresses, and contours to read
        rows, columns = shade.shape
        across = left + (right - left) * (np.arange(columns) + 0.5) / columns
        upward = bottom + (top - bottom) * (np.arange(rows) + 0.5) / rows
        axes.contourf(across, upward, shade, levels, cmap="Blues", vmin=0, vmax=1.7 * top_shade, extend="max")
    rows, columns, _ = field.shape
    wide, high = (right - left) / columns, (top - bottom) / rows
    x, y = np.meshgrid(left + wide * (np.arange(columns) + 0.5), bottom + high * (np.arange(rows) + 0.5))
    length = np.hypot(*np.moveaxis(field, -1, 0))
    # Scores span orders of magnitude: the square root of the length keeps the short arrows in sight.
    stretch = 0.92 * min(wide, high) / np.sqrt(np.maximum(length, 1e-12) * max(length.max(), 1e-12))
    u, v = np.moveaxis(field * stretch[..., None], -1, 0)
    style = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.006, "headwidth": 4.5, "headlength": 4.5}
    axes.quiver(x, y, u, v, pivot="mid", color="#222222", headaxislength=4, minlength=0, **style)
    if points is not None:
        dots = _finite(_array(points, "points"), "points")
        if dots.ndim != 2 or dots.shape[1] != 2:
            raise ValueError(f"points: expected (n, 2), got shape {dots.shape}")
        axes.plot(*dots.T, ".", color=COLOURS[2], markersize=4, alpha=0.6, markeredgewidth=0)
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=x_label, ylabel=y_label, aspect="equal")
    axes.grid(False)
    if title:
        axes.set_title(title)


@_styled
def fields(
    panels: Mapping[str, Any], extent: Sequence[Number], *, title: str, density: Mapping[str, Any] | None = None
) -> Figure:
    """Fields of arrows side by side, each over the density it belongs to.

    panels: {"name": arrows (rows, columns, 2)}, row 0 at the bottom, each arrow in the middle of its cell of `extent`
    (low, high, low, high). Arrows point as given; the drawn length is the square root of the true one, and the longest
    one of a panel fills its cell. density: {"name": (rows, columns)} shades a panel, over the same extent.

    >>> fields({"to the right": torch.ones(3, 3, 2)}, (-1, 1, -1, 1), title="Wind")
    [picture] Wind. Fields of arrows: to the right
    """
    panels = _named(panels, "panels")
    if density is not None and set(density) - set(panels):
        raise ValueError(f"density: expected names among {list(panels)}, got {sorted(set(density) - set(panels))}")
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    side = WIDTH / max(columns, 2)
    figure, grid = new_figure(side * columns, (side + 0.25) * rows + 0.35, rows, columns, squeeze=False)
    for axes, (name, arrows) in zip(grid.flat, panels.items()):
        draw_field(axes, arrows, extent, density=(density or {}).get(name))
        axes.set_title(name, fontsize=12, fontweight="normal")
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle(_wrapped(title, side * columns), x=0.01, ha="left")
    figure.set_label(f"{title}. Fields of arrows: {', '.join(panels)}")
    return figure


# ------------------------------------------------------------------------------------------------- inside a network


@_styled
def panels(
    maps: Mapping[str, Any],
    *,
    title: str,
    columns: int | None = None,
    shared: bool = False,
    diverging: bool = True,
    mark: Mapping[str, Sequence[Number]] | None = None,
    unit: str = "",
) -> Figure:
    """Planes of numbers side by side, each with its name above it: feature maps, attention weights, gradients.

    maps: {"name": (h, w)}, or (c, h, w) with one or three channels in [-1, 1] to show an image beside them.
    shared: one colour scale for all planes, with a bar that `unit` explains; else each has its own, from its largest
    absolute value. diverging: centred on 0, else from 0 up. mark: {"name": (row, column)} crosses a pixel out.

    >>> panels({"a": torch.eye(4), "b": -torch.eye(4)}, title="Two planes")
    [picture] Two planes. Planes: a, b
    """
    arrays = {}
    for name, plane in _named(maps, "maps").items():
        array = _finite(_array(plane, f'"{name}"'), f'"{name}"')
        if array.ndim != 2 and not (array.ndim == 3 and array.shape[0] in (1, 3)):
            raise ValueError(f'"{name}": expected a plane (h, w) or an image (c, h, w), got shape {array.shape}')
        arrays[name] = array
    if mark is not None and set(mark) - set(arrays):
        raise ValueError(f"mark: expected names among {list(arrays)}, got {sorted(set(mark) - set(arrays))}")
    columns = min(len(arrays), columns or (len(arrays) if len(arrays) <= 5 else 6))
    rows = -(-len(arrays) // columns)
    planes = [array for array in arrays.values() if array.ndim == 2]
    common = max((float(np.abs(plane).max()) for plane in planes), default=1.0)
    tallest = max(array.shape[-2] / array.shape[-1] for array in arrays.values())
    lines = max(name.count("\n") + 1 for name in arrays)
    height = rows * (min(2.6, WIDTH / columns) * tallest + 0.24 * lines) + 0.26 * (
        _wrapped(title, WIDTH).count("\n") + 1
    )
    width = min(WIDTH, 2.6 * columns + 0.9 * shared)
    figure, grid = new_figure(max(width, 5.0), height + 0.15, rows, columns, squeeze=False)
    drawn = None
    for axes, (name, array) in zip(grid.flat, arrays.items()):
        if array.ndim == 3:
            _show(axes, np.moveaxis(np.clip((array + 1) / 2, 0, 1), 0, -1))
        else:
            limit = (common if shared else float(np.abs(array).max())) or 1.0
            scale = {"cmap": DIVERGING, "vmin": -limit} if diverging else {"cmap": SEQUENTIAL, "vmin": 0.0}
            drawn = axes.imshow(array, vmax=limit, interpolation="nearest", **scale)
        _bare(axes)
        axes.set_title(name, fontsize=11, fontweight="normal", loc="center")
        if mark is not None and name in mark:
            row, column = mark[name]
            axes.plot([column], [row], "X", markersize=10, color="#222222", markeredgecolor="white")
    for axes in list(grid.flat)[len(arrays) :]:
        axes.set_axis_off()
    if shared and drawn is not None:
        figure.colorbar(drawn, ax=grid, label=unit or None, fraction=0.03)
    figure.suptitle(_wrapped(title, max(width, 5.0)), x=0.01, ha="left")
    names = [" ".join(name.split()) for name in arrays]
    figure.set_label(f"{title}. Planes: {', '.join(names)}")
    return figure


@_styled
def network(boxes: Sequence[tuple[str, Sequence[int]]], skips: Sequence[tuple[int, int]], *, title: str) -> Figure:
    """A convolutional network drawn to scale, left to right: heights are heights of images, widths are channels.

    boxes: (name, (channels, h, w)) of each part, in order; smaller images stand lower. skips: pairs of places in
    `boxes`, from where a copy goes to where it is joined.

    >>> network([("in", (1, 8, 8)), ("deep", (4, 4, 4)), ("out", (1, 8, 8))], [(0, 2)], title="A little U")
    [picture] A little U. Network of in (1×8×8), deep (4×4×4), out (1×8×8); skips from in to out
    """
    shapes = [tuple(int(n) for n in shape) for _, shape in boxes]
    if not boxes or any(len(shape) != 3 or min(shape) < 1 for shape in shapes):
        raise ValueError(f"boxes: expected (name, (channels, h, w)) with sizes above 0, got {list(boxes)!r:.80}")
    if any(not 0 <= place < len(boxes) for pair in skips for place in pair):
        raise ValueError(f"skips: expected pairs of places in 0..{len(boxes) - 1}, got {list(skips)}")
    described = ", ".join(f"{name} ({c}×{h}×{w})" for (name, _), (c, h, w) in zip(boxes, shapes))
    named = ", ".join(f"{boxes[a][0]} to {boxes[b][0]}" for a, b in skips)
    figure, axes = _single(WIDTH, 4.2, title, f"Network of {described}; skips from {named or 'nowhere'}")
    heights = sorted({h for _, h, _ in shapes}, reverse=True)
    tallest, widest = heights[0], max(c for c, _, _ in shapes)
    floor, at = {}, 0.0  # levels lie below each other, with room for three lines of text between them
    for h in heights:
        at -= 2.0 * h / tallest + 0.95
        floor[h] = at
    places, x = [], 0.0
    for k, ((name, _), (c, h, w)) in enumerate(zip(boxes, shapes)):
        thick, high = 0.12 + 0.5 * c / widest, 2.0 * h / tallest
        colour = COLOURS[(0, 1, 3, 7)[heights.index(h) % 4]]
        axes.add_patch(matplotlib.patches.Rectangle((x, floor[h]), thick, high, facecolor=colour, edgecolor="white"))
        words = {"ha": "center", "va": "top", "fontsize": 8, "zorder": 4}
        words["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # an arrow passes behind them
        axes.text(x + thick / 2, floor[h] - 0.06, name, fontweight="bold", **words)
        axes.text(x + thick / 2, floor[h] - 0.29, f"{c}\n{h}×{w}", color="#555555", **words)
        places.append((x, x + thick, floor[h], high))
        if k:
            (_, left, low, tall), (right, _, low_now, tall_now) = places[-2:]
            ends = (right, low_now + tall_now / 2), (left, low + tall / 2)
            axes.annotate("", *ends, arrowprops={"arrowstyle": "->", "color": "#888888"})
        leaves_its_level = k + 1 < len(boxes) and shapes[k + 1][1] != h
        x += max(thick, 0.45) + (0.55 if leaves_its_level else 0.46)
    for a, b in skips:  # over the boxes between them
        (x0, y0), (x1, y1) = (((left + right) / 2, low + tall) for left, right, low, tall in (places[a], places[b]))
        over = max(low + tall for _, _, low, tall in places[a : b + 1] if low >= places[a][2]) + 0.22
        line = {"color": "#bd1f01", "linestyle": "--", "linewidth": 1.6}
        axes.plot([x0, x0, x1], [y0, over, over], **line)
        axes.annotate("", (x1, y1), (x1, over + 0.03), arrowprops={"arrowstyle": "->", **line})
    axes.set(xlim=(-0.4, x - 0.3), ylim=(min(floor.values()) - 0.75, floor[tallest] + 2.3))
    axes.set_axis_off()
    return figure


# ------------------------------------------------------------------------------------------------- a look at a training


@_styled
def training_view(
    losses: Any, images: Any, *, title: str, steps: int | None = None, y_label: str = "loss"
) -> Figure:
    """A look over the shoulder of a training: its loss so far, and a strip of samples below.

    losses: one number a step, from step 1; drawn with their running mean.  images: (n, c, h, w) in [-1, 1].
    steps: how many there will be, so that the axis stands still while the view is drawn anew.
    y_label: what the loss is, with its unit.

    >>> training_view([1.0, 0.5, 0.3], torch.zeros(10, 1, 8, 8), title="Step 3 of 100", steps=100)
    [picture] Step 3 of 100. Loss so far, now 0.6, and 10 samples
    """
    values = _finite(_array(losses, "losses"), "losses").ravel()
    width = max(1, min(len(values), (steps or len(values)) // 30))
    padded = np.concatenate([np.full(width - 1, values[0]), values])
    smooth = np.convolve(padded, np.full(width, 1 / width), mode="valid")
    figure, (top, below) = new_figure(WIDTH, 3.9, rows=2, height_ratios=(2.4, 1))
    at = np.arange(1, len(values) + 1)
    top.plot(at, values, color=COLOURS[3], linewidth=0.8, alpha=0.7)
    top.plot(at, smooth, color=COLOURS[0])
    top.set(xlim=(0, max(steps or 0, len(values), 2)), yscale="log", xlabel="training step", ylabel=y_label)
    top.yaxis.set_major_formatter("{x:g}")
    top.yaxis.set_minor_formatter("{x:g}")
    top.set_title(_wrapped(title, WIDTH))
    draw_images(below, images, columns=len(images))
    figure.set_label(f"{title}. Loss so far, now {smooth[-1]:.3g}, and {len(images)} samples")
    return figure


# ------------------------------------------------------------------------------------------------------- moving images


class Animation:
    """A GIF that a notebook shows, with its title above it and its alternative text; made by `animation`.

    .gif: the bytes, to be written to a file.
    """

    def __init__(self, gif: bytes, title: str, alt: str, width: int):
        self.gif, self.title, self.alt, self.width = gif, title, alt, width

    def __repr__(self) -> str:
        return f"[animation] {self.alt}"

    def _repr_html_(self) -> str:
        source = f"data:image/gif;base64,{base64.b64encode(self.gif).decode()}"
        style = "image-rendering: pixelated; max-width: 100%"
        return (
            f"<div><strong>{html.escape(self.title)}</strong><br>"
            f'<img src="{source}" alt="{html.escape(self.alt)}" width="{self.width}" style="{style}"></div>'
        )


def animation(frames: Sequence[Any], *, title: str, columns: int | None = None, seconds: Number = 3.0) -> Animation:
    """Images that change: a sampler's way from noise, over and over, with a rest on its last frame.

    frames: two or more batches (n, c, h, w) in [-1, 1], all of one shape, in the order in which they are shown;
    columns: images in a row;  seconds: how long the way takes.

    >>> animation([torch.zeros(4, 1, 8, 8), torch.ones(4, 1, 8, 8)], title="From grey to white")
    [animation] From grey to white. Animation of 4 images in 2 frames
    """
    arrays = [_images(frame, f"frame {k}") for k, frame in enumerate(frames)]
    if len(arrays) < 2 or len({array.shape for array in arrays}) > 1:
        raise ValueError(f"frames: expected two or more of one shape, got (n, h, w, c) of {[a.shape for a in arrays]}")
    if not seconds > 0:
        raise ValueError(f"seconds: expected a positive number, got {seconds}")
    columns = columns or min(len(arrays[0]), 10)
    pictures = []
    for array in arrays:  # 32 levels: noise can't be compressed, so fewer grey values make the file half as large
        canvas = (_mosaic(array, columns, *_gaps(array))[0] * 31).round() / 31
        pixels = np.uint8(np.round(255 * canvas))
        pictures.append(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
    pause = max(20, round(1000 * seconds / (len(pictures) - 1), -1))  # milliseconds; a GIF counts in hundredths
    buffer = io.BytesIO()
    durations = [pause] * (len(pictures) - 1) + [1500]
    pictures[0].save(buffer, "gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    n, across = len(arrays[0]), pictures[0].width
    alt = f"{title}. Animation of {n} image{'s' * (n > 1)} in {len(arrays)} frames"
    return Animation(buffer.getvalue(), title, alt, across * max(1, min(4, round(WIDTH * PAGE_DPI) // across)))
