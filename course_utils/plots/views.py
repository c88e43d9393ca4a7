"""Several panels that answer one question together: curves side by side, images over numbers, a field and its bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .canvas import COLOURS, INK, WIDTH, Number, new_figure, side_by_side, styled, wrapped
from .charts import draw_curves
from .checks import as_numbers, known, named
from .images import draw_images
from .planes import draw_field

FAINT = "#cccccc"


@styled
def curve_panels(
    panels: Mapping[str, Mapping[str, Any]],
    *,
    title: str,
    x_label: str | Mapping[str, str],
    y_label: str,
    colours: Mapping[str, str] | None = None,
    points: Sequence[str] = (),
    dashed: Sequence[str] = (),
    share_y: bool = True,
    columns: int = 3,
) -> Figure:
    """Curves in panels side by side, with one legend below them all.

    panels: {"title of the panel": {"name": (x, y)}}.  x_label: one for all, or {"title of the panel": label}.
    colours: {"name": colour}, the same in every panel; else in order.  points, dashed: names that are drawn as dots, or
    dashed over the others.  share_y: one scale for all, else each panel has its own.

    >>> line = {"y = x": ([0, 1], [0, 1])}
    >>> curve_panels({"one": line, "two": line}, title="Two panels", x_label="x", y_label="y")
    [picture] Two panels. Curves of y against x: one, two
    """
    panels = {name: named(series, name) for name, series in named(panels, "panels").items()}
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    known(points, names, "points")
    known(dashed, names, "dashed")
    below = dict.fromkeys(panels, x_label) if isinstance(x_label, str) else dict(x_label)
    known(panels, below, "panels")
    look = dict(zip(names, COLOURS)) | dict(colours or {})
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure, grid = side_by_side(
        list(panels),
        columns,
        WIDTH,
        3.0 * rows + 0.8,
        title,
        f"Curves of {y_label} against {' or '.join(dict.fromkeys(below.values()))}",
    )
    for k, (axes, (name, series)) in enumerate(zip(grid.flat, panels.items())):
        draw_curves(axes, series, title=name, x_label=below[name], y_label="" if share_y and k % columns else y_label)
        for line, each in zip(axes.lines, series):
            dots = {"linestyle": "none", "marker": "o", "markersize": 5} if each in points else {"marker": ""}
            line.set(color=look[each], zorder=3 if each in (*points, *dashed) else 2, **dots)
            if each in dashed:
                line.set(linestyle=(0, (4, 2.5)), linewidth=2)
        if axes.get_legend():
            axes.get_legend().remove()
        axes.set_title(name, fontsize=12, fontweight="normal")
        if share_y and k:
            axes.sharey(grid.flat[0])
    handles = {each: line for axes in grid.flat for line, each in zip(axes.lines, axes.get_legend_handles_labels()[1])}
    if len(names) > 1:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(4, len(handles)))
    return figure


@styled
def images_at(
    images: Any,
    series: Mapping[str, Any],
    chosen: str,
    at: Number,
    *,
    title: str,
    x_label: str,
    y_label: str,
    overlay: Mapping[str, tuple[Any, Any]] | None = None,
) -> Figure:
    """Images, the histogram of all their pixels, and where on a curve they stand: one frame of an explorer.

    images: (n, c, h, w) in [-1, 1] and beyond; ten are shown, all are counted.  series: {"name": (x, y)} with `chosen`
    among them in colour, the others faint;  at: the x of the images.  overlay: {"name": (x, y)}, a density to compare.

    >>> import torch
    >>> curve = {"a": ([0, 1], [1, 0]), "b": ([0, 1], [2, 0])}
    >>> images_at(torch.zeros(8, 1, 4, 4), curve, "a", 0.5, title="Half-way", x_label="t", y_label="y")
    [picture] Half-way. 8 images over the histogram of their pixels, and y of a at t = 0.5
    """
    known([chosen], named(series, "series"), "chosen")
    figure, axes = new_figure(WIDTH, 4.7, 2, 2, height_ratios=(1, 1.35))
    grid = axes[0, 0].get_gridspec()
    for axis in axes[0]:
        axis.remove()
    draw_images(figure.add_subplot(grid[0, :]), images[:10], title=wrapped(title, WIDTH))
    left, right = axes[1]
    edges = np.linspace(-4, 4, 81)
    look = {"density": True, "alpha": 0.8, "histtype": "stepfilled"}  # one outline draws faster than eighty bars
    left.hist(as_numbers(images, "images").ravel(), edges, **look)
    for name, (x, y) in (overlay or {}).items():
        left.plot(as_numbers(x, name), as_numbers(y, name), color=INK, label=name)
        left.legend()
    left.set(xlabel="value of a pixel", ylabel="density", ylim=(0, 0.9), title="All pixels")
    for name, (x, y) in series.items():
        mine = name == chosen
        style = {"color": COLOURS[0] if mine else FAINT, "zorder": 3 if mine else 2}
        right.plot(as_numbers(x, name), as_numbers(y, name), label=name if mine else None, **style)
        if mine:
            height = np.interp(at, as_numbers(x, name), as_numbers(y, name))
            right.plot([at], [height], "D", color=INK, markeredgecolor="white", markersize=10, zorder=4)
    right.set(xlabel=x_label, ylabel=y_label, title="Where we are")
    right.legend()
    shown = min(len(images), 10)
    figure.set_label(
        f"{title}. {shown} images over the histogram of their pixels, and {y_label} of {chosen} at {x_label} = {at:g}"
    )
    return figure


@styled
def field_and_bars(
    arrows: Any,
    extent: Sequence[Number],
    bars: Any,
    *,
    title: str,
    density: Any = None,
    marks: Mapping[str, Any] | None = None,
    numbers: Any = None,
    bar_label: str = "probability",
) -> Figure:
    """A field of arrows with points in it, beside bars that say something of the first of them.

    arrows, extent, density: as in `fields`.  bars: (k,) in [0, 1].  marks: {"name": (x, y)}, points in the field;
    numbers: (k, 2), where the numbers 1 … k stand.

    >>> import torch
    >>> field_and_bars(torch.ones(3, 3, 2), (-1, 1, -1, 1), [0.3, 0.7], title="Wind", marks={"here": (0, 0)})
    [picture] Wind. Field of arrows with here, beside bars: 0.30, 0.70
    """
    values = as_numbers(bars, "bars", ("k",))
    figure, (plane, right) = new_figure(WIDTH, 4.6, columns=2, width_ratios=(1.5, 1))
    draw_field(plane, arrows, extent, density=density, title=title, axis_names=("x₁", "x₂"))
    for k, (x, y) in enumerate(as_numbers(numbers, "numbers", ("k", 2)) if numbers is not None else (), 1):
        plane.text(x, y, str(k), ha="center", va="center", bbox={"boxstyle": "circle", "fc": "white", "alpha": 0.9})
    for (name, place), colour, marker in zip((marks or {}).items(), (COLOURS[2], COLOURS[1], COLOURS[4]), "DXP"):
        x, y = as_numbers(place, name).ravel()
        plane.plot([x], [y], marker, color=colour, markeredgecolor=INK, markersize=12, linestyle="none", label=name)
    if marks:
        figure.legend(*plane.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    right.bar(range(1, len(values) + 1), values)
    right.set(ylim=(0, 1.05), xlabel="blob", ylabel=bar_label, title="Whose is this point?")
    right.set_xticks(range(1, len(values) + 1))
    right.grid(False, axis="x")
    described = ", ".join(f"{value:.2f}" for value in values)
    figure.set_label(f"{title}. Field of arrows with {', '.join(marks or ['no points'])}, beside bars: {described}")
    return figure
