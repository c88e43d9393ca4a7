"""Numbers over a plane: matrices, feature maps and attention weights as colours, scores as arrows, codes as points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator

from .canvas import (
    COLOURS,
    DIVERGING,
    INK,
    SEQUENTIAL,
    WIDTH,
    Number,
    bare,
    new_figure,
    side_by_side,
    single,
    styled,
    title_height,
    typeset,
    wrapped,
)
from .checks import as_numbers, known, named, sides
from .images import show

MARKERS = "os^DvP*X"  # another one for each ten classes, when all colours are taken


@styled
def heatmap(
    matrix: Any,
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    unit: str = "",
    centre: Number | None = None,
    x: Sequence[Number] | None = None,
) -> Figure:
    """A matrix as colours with a scale beside it.

    matrix: (rows, columns), row 0 on top. unit: what the scale says. centre: a value that is drawn white, with two
    colours above and below it, as far from it in both directions. x: what the columns stand for, evenly spaced.

    >>> import torch
    >>> heatmap(torch.eye(3), title="Identity")
    [picture] Identity. Heat map of 3 by 3 values
    """
    array = as_numbers(matrix, "matrix", ("rows", "columns"))
    rows, columns = array.shape
    height = float(np.clip(5.5 * rows / columns, 2.2, 6.5)) + 0.6
    figure, axes = single(title, f"Heat map of {rows} by {columns} values", height=height)
    look: dict[str, Any] = {"cmap": SEQUENTIAL}
    if centre is not None:
        reach = float(np.abs(array - centre).max()) or 1.0
        look = {"cmap": DIVERGING, "vmin": centre - reach, "vmax": centre + reach}
    if x is not None:
        along = as_numbers(x, "x", (columns,))
        half = (along[-1] - along[0]) / max(columns - 1, 1) / 2
        look["extent"] = (along[0] - half, along[-1] + half, rows - 0.5, -0.5)
    drawn = axes.imshow(array, interpolation="nearest", aspect="auto", **look)
    figure.colorbar(drawn, ax=axes, label=unit or None)
    axes.grid(False)
    axes.set(xlabel=x_label, ylabel=y_label)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    return figure


@styled
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

    >>> import torch
    >>> panels({"a": torch.eye(4), "b": -torch.eye(4)}, title="Two planes")
    [picture] Two planes. Planes: a, b
    """
    arrays = {name: _plane_or_image(plane, f'"{name}"') for name, plane in named(maps, "maps").items()}
    known(mark or (), arrays, "mark")
    columns = min(len(arrays), columns or (len(arrays) if len(arrays) <= 5 else 6))
    width = max(min(WIDTH, 2.6 * columns + 0.9 * shared), 5.0)
    tallest = max(array.shape[-2] / array.shape[-1] for array in arrays.values())
    row = min(2.6, WIDTH / columns) * tallest + 0.24 * max(name.count("\n") + 1 for name in arrays)
    height = -(-len(arrays) // columns) * row + title_height(title, WIDTH) + 0.15
    figure, grid = side_by_side(list(arrays), columns, width, height, title, "Planes")
    common = max((float(np.abs(plane).max()) for plane in arrays.values() if plane.ndim == 2), default=1.0)
    drawn = None
    for axes, (name, array) in zip(grid.flat, arrays.items()):
        if array.ndim == 3:
            show(axes, np.moveaxis(np.clip((array + 1) / 2, 0, 1), 0, -1))
        else:
            limit = (common if shared else float(np.abs(array).max())) or 1.0
            scale = {"cmap": DIVERGING, "vmin": -limit} if diverging else {"cmap": SEQUENTIAL, "vmin": 0.0}
            drawn = axes.imshow(array, vmax=limit, interpolation="nearest", **scale)
        bare(axes)
        axes.set_title(name, fontsize=11, fontweight="normal", loc="center")
        if name in (mark or ()):
            row, column = mark[name]
            axes.plot(column, row, "X", markersize=10, color=INK, markeredgecolor="white")
    if shared and drawn is not None:
        figure.colorbar(drawn, ax=grid, label=unit or None, fraction=0.03)
    return figure


def _plane_or_image(plane: Any, name: str) -> np.ndarray:
    array = as_numbers(plane, name)
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[0] in (1, 3)):
        raise ValueError(f"{name}: expected a plane (h, w) or an image (c, h, w), got shape {array.shape}")
    return array


@styled
def draw_field(
    axes: Axes,
    arrows: Any,
    extent: Sequence[Number],
    *,
    density: Any = None,
    title: str = "",
    axis_names: tuple[str, str] = ("", ""),
) -> None:
    """`fields` with one panel, into axes that you have; the arguments are those of one panel."""
    field = as_numbers(arrows, "arrows", ("rows", "columns", 2))
    left, right, bottom, top = extent = sides(extent)
    if density is not None:
        shade = as_numbers(density, "density", ("rows", "columns"))
        most = max(float(shade.max()), 1e-12)
        levels = np.linspace(0.04, 1, 9) * most  # few levels: a picture that compresses, and contours to read
        look = {"cmap": "Blues", "vmin": 0, "vmax": 1.7 * most, "extend": "max"}
        axes.contourf(shade, levels, extent=extent, origin="lower", **look)
    rows, columns, _ = field.shape
    wide, high = (right - left) / columns, (top - bottom) / rows
    x, y = left + wide * (np.arange(columns) + 0.5), bottom + high * (np.arange(rows) + 0.5)
    length = np.hypot(*np.moveaxis(field, -1, 0))
    # Scores span orders of magnitude: the square root of the length keeps the short arrows in sight.
    stretch = 0.92 * min(wide, high) / np.sqrt(np.maximum(length, 1e-12) * max(length.max(), 1e-12))
    u, v = np.moveaxis(field * stretch[..., None], -1, 0)
    look = {"angles": "xy", "scale_units": "xy", "scale": 1, "pivot": "mid", "color": INK, "minlength": 0}
    axes.quiver(x, y, u, v, width=0.006, headwidth=4.5, headlength=4.5, headaxislength=4, **look)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", title=title)
    axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
    axes.grid(False)


@styled
def fields(
    panels: Mapping[str, Any],
    extent: Sequence[Number],
    *,
    title: str,
    density: Mapping[str, Any] | None = None,
    axis_names: tuple[str, str] = ("", ""),
) -> Figure:
    """Fields of arrows side by side, each over the density it belongs to.

    panels: {"name": arrows (rows, columns, 2)}, row 0 at the bottom, each arrow in the middle of its cell of `extent`
    (low, high, low, high). Arrows point as given; the drawn length is the square root of the true one, and the longest
    one of a panel fills its cell. density: {"name": (rows, columns)} shades a panel, over the same extent.
    axis_names: what the plane's axes are called; they stand along the left and the lower edge of the whole picture.

    >>> import torch
    >>> fields({"to the right": torch.ones(3, 3, 2)}, (-1, 1, -1, 1), title="Wind")
    [picture] Wind. Fields of arrows: to the right
    """
    panels = named(panels, "panels")
    known(density or (), panels, "density")
    columns = min(len(panels), 3)
    side = WIDTH / max(columns, 2)
    height = (side + 0.25) * -(-len(panels) // columns) + 0.35 + 0.25 * bool(axis_names[0])
    figure, grid = side_by_side(list(panels), columns, side * columns, height, title, "Fields of arrows")
    for k, (axes, (name, arrows)) in enumerate(zip(grid.flat, panels.items())):
        lowest, leftmost = k + columns >= len(panels), k % columns == 0
        names = (axis_names[0] if lowest else "", axis_names[1] if leftmost else "")
        draw_field(axes, arrows, extent, density=(density or {}).get(name), axis_names=names)
        axes.set_title(name, fontsize=12, fontweight="normal")
    return figure


@styled
def draw_scatter(
    axes: Axes,
    z: Any,
    labels: Any,
    classes: Sequence[str],
    *,
    ellipses: tuple[Any, Any] | None = None,
    mark: Any = None,
    title: str = "",
    legend: bool = True,
    equal: bool = True,
    axis_names: tuple[str, str] = ("z₁", "z₂"),
) -> None:
    """`scatter_classes` into axes that you have; the arguments are the same."""
    points, index = _as_points(z, "z"), as_numbers(labels, "labels").astype(int)
    if index.shape != points.shape[:1]:
        raise ValueError(f"labels: expected ({len(points)},), one for each point, got shape {index.shape}")
    if index.min() < 0 or index.max() >= len(classes):
        found = f"{index.min()} to {index.max()}"
        raise ValueError(f"labels: expected 0 to {len(classes) - 1} for {len(classes)} classes, got {found}")
    size, alpha = (14, 0.75) if len(points) <= 1500 else (7, 0.55)
    for k, name in enumerate(classes):
        if (index == k).any():
            marker = MARKERS[k // len(COLOURS) % len(MARKERS)]
            look = {"s": size, "alpha": alpha, "color": COLOURS[k % len(COLOURS)], "marker": marker, "linewidth": 0}
            axes.scatter(*points[index == k].T, label=str(name), **look)
    if ellipses is not None:
        centres, deviations = (as_numbers(part, "ellipses", points.shape) for part in ellipses)
        for k, centre, deviation in zip(index, centres, deviations):
            look = {"fill": False, "edgecolor": COLOURS[k % len(COLOURS)], "linewidth": 1.6, "zorder": 4}
            axes.add_artist(Ellipse(centre, *(4 * deviation), **look))  # `add_patch` would measure each, slowly
        axes.update_datalim(np.concatenate([centres - 2 * deviations, centres + 2 * deviations]))
        axes.autoscale_view()
    if mark is not None:
        look = {"markersize": 13, "color": INK, "markeredgecolor": "white", "markeredgewidth": 1.5, "zorder": 6}
        axes.plot(*_as_points(mark, "mark").T, "X", **look)
    if equal:
        axes.set_aspect("equal", adjustable="datalim")
    axes.set(xlabel=axis_names[0], ylabel=axis_names[1], title=title)
    if legend:
        shown = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2.2, handletextpad=0.2)
        for handle in shown.legend_handles:
            handle.set_alpha(1)


def _as_points(values: Any, name: str) -> np.ndarray:
    """Points (n, 2), or one of them (2,), as (n, 2)."""
    points = np.atleast_2d(as_numbers(values, name))
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{name}: expected (n, 2), got shape {points.shape}; choose two columns, for example z[:, :2]")
    return points


@styled
def scatter_classes(z: Any, labels: Any, classes: Sequence[str], *, title: str, **options: Any) -> Figure:
    """Points of the plane, coloured by class.

    z: (n, 2); labels: (n,) integers into `classes`. The options:
    mark: a point or points (k, 2), as crosses.
    ellipses: (centres (n, 2), standard deviations (n, 2)), one for each point, drawn at two standard deviations.
    axis_names: what the plane's axes are called.

    >>> import torch
    >>> scatter_classes(torch.zeros(2, 2), torch.tensor([0, 1]), ("cat", "dog"), title="Two points")
    [picture] Two points. Scatter of 2 points in 2 classes: cat, dog
    """
    kinds = ", ".join(str(name) for name in classes)
    figure, axes = single(title, f"Scatter of {len(z)} points in {len(classes)} classes: {kinds}", height=5.6)
    draw_scatter(axes, z, labels, classes, title=axes.get_title(loc="left"), **options)
    return figure


@styled
def class_maps(z: Any, labels: Any, classes: Sequence[str], *, title: str) -> Figure:
    """The same points once for every class, its own in colour over all others in grey: who lies where, and on whom.

    z: (n, 2);  labels: (n,) integers;  classes: their names. The axes reach from the lowest to the highest hundredth
    of the points and a little further, so that a few far ones don't leave the rest a corner; they have no common scale.

    >>> import torch
    >>> class_maps(torch.randn(20, 2), torch.arange(20) % 2, ("cat", "dog"), title="Two clouds")
    [picture] Two clouds. Maps of 20 points, one for each class: cat, dog
    """
    points, index = _as_points(z, "z"), as_numbers(labels, "labels").astype(int)
    if index.shape != points.shape[:1]:
        raise ValueError(f"labels: expected ({len(points)},), one for each point, got shape {index.shape}")
    columns = min(len(classes), 5)
    rows = -(-len(classes) // columns)
    names = [str(name) for name in classes]
    figure, grid = side_by_side(names, columns, WIDTH, 1.75 * rows + title_height(title, WIDTH) + 0.2, title, "Maps")
    low, high = np.quantile(points, 0.01, axis=0), np.quantile(points, 0.99, axis=0)
    margin = 0.12 * np.maximum(high - low, 1e-6)
    for k, (axes, name) in enumerate(zip(grid.flat, names)):
        axes.scatter(*points.T, s=2, color="#d5d5d5", linewidth=0)
        axes.scatter(*points[index == k].T, s=6, alpha=0.85, color=COLOURS[2], linewidth=0)
        axes.set_title(name, fontsize=11, fontweight="normal", loc="center")
        (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
        axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set_visible(True)
    figure.set_label(f"{title}. Maps of {len(points)} points, one for each class: {', '.join(names)}")
    return figure


@styled
def duel(
    real: Any,
    fake: Any,
    probability: Any,
    extent: Sequence[Number],
    *,
    title: str,
    arrows: tuple[Any, Any] | None = None,
) -> Figure:
    """Real and generated points over what a discriminator says of the plane: the shade, and a line where it is ½.

    real, fake: (n, 2) and (m, 2) points; circles are real, crosses generated. probability: (rows, columns) in [0, 1],
    row 0 at the bottom, over `extent` (low, high, low, high). arrows: where they begin and how far they reach, (k, 2)
    each, in the units of the plane.

    >>> import torch
    >>> duel(torch.ones(3, 2), torch.zeros(4, 2), torch.full((5, 5), 0.5), (-2, 2, -2, 2), title="Nobody can tell")
    [picture] Nobody can tell. 3 real and 4 generated points over the discriminator's probability of real
    """
    real, fake = _as_points(real, "real"), _as_points(fake, "fake")
    shade, extent = as_numbers(probability, "probability", ("rows", "columns")), sides(extent)
    said = f"{len(real)} real and {len(fake)} generated points over the discriminator's probability of real"
    figure, axes = single(title, said, WIDTH, 5.2)
    drawn = axes.imshow(shade, extent=extent, origin="lower", cmap=DIVERGING, vmin=0, vmax=1, alpha=0.55)
    figure.colorbar(drawn, ax=axes, label="D, probability of real")
    if shade.min() < 0.5 < shade.max():
        axes.contour(shade, [0.5], extent=extent, origin="lower", colors=INK, linewidths=1.2)
    axes.plot(*real.T, "o", color="white", markeredgecolor=INK, markersize=5, markeredgewidth=0.8, label="real")
    axes.plot(*fake.T, "x", color=INK, markersize=5, markeredgewidth=1.4, label="generated")
    if arrows is not None:
        start, reach = (_as_points(part, "arrows") for part in arrows)
        look = {"angles": "xy", "scale_units": "xy", "scale": 1, "color": INK, "width": 0.004, "zorder": 5}
        axes.quiver(*start.T, *reach.T, **look)
    axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
    axes.grid(False)
    axes.legend(loc="upper right", fontsize=11)
    return figure


@styled
def two_sets(
    pairs: Mapping[str, tuple[Any, Any]],
    measures: Mapping[str, Mapping[str, Any]],
    extent: Sequence[Number],
    *,
    title: str,
    mark: Mapping[str, Any] | None = None,
) -> Figure:
    """Real and generated points in panels side by side, and their measures as bars below, or beside a single panel.

    pairs: {"name": (real (n, 2), generated (m, 2))}, circles and crosses in the plane `extent` (low, high, low, high);
    measures: {"name": {"measure": value ≥ 0}}, the same names and the same measures for each, written on the bars.
    mark: {"measure": value}, diamonds to compare the bars with.

    >>> import torch
    >>> pair, of = (torch.zeros(3, 2), torch.ones(4, 2)), {"precision": 0.5, "recall": 0.0}
    >>> two_sets({"far": pair}, {"far": of}, (-2, 2, -2, 2), title="Two heaps")
    [picture] Two heaps. Real and generated points, measured: far: precision 0.50, recall 0.00
    """
    known(measures, named(pairs, "pairs"), "measures")
    values = {name: {what: float(as_numbers(v, what)) for what, v in measures[name].items()} for name in pairs}
    said = "; ".join(f"{name}: " + ", ".join(f"{w} {v:.2f}" for w, v in of.items()) for name, of in values.items())
    if len(pairs) > 1:
        figure, axes = new_figure(WIDTH, 4.6, 2, len(pairs), height_ratios=(1.7, 1))
        planes, below = axes
    else:
        figure, axes = new_figure(WIDTH, 3.6, 1, 2)
        planes, below = axes[:1], axes[1:]
    figure.suptitle(wrapped(title, WIDTH), x=0.01, ha="left")
    figure.set_label(f"{title}. Real and generated points, measured: {said}")
    for (name, (real, generated)), plane, bars in zip(pairs.items(), planes, below):
        bare(plane)
        plane.plot(*_as_points(real, "real").T, "o", color=COLOURS[2], markersize=3, alpha=0.6, label="real")
        plane.plot(*_as_points(generated, "generated").T, "x", color=COLOURS[0], markersize=4, label="generated")
        plane.set(xlim=sides(extent)[:2], ylim=sides(extent)[2:], aspect="equal")
        plane.set_title(typeset(name), fontsize=12)
        _measure_bars(bars, values[name], mark, names=bars is below[0])
    figure.legend(*planes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2, markerscale=1.8)
    if mark:
        figure.legend(*below[0].get_legend_handles_labels(), loc="outside lower right")
    return figure


def _measure_bars(axes: Axes, values: Mapping[str, float], mark: Mapping[str, Any] | None, names: bool) -> None:
    """Bars from left to right with their numbers at the right edge, the first on top."""
    axes.barh(range(len(values)), list(values.values()), color=COLOURS[0])
    for row, value in enumerate(values.values()):
        axes.text(1.75, row, f"{value:.2f}", va="center", ha="right", fontsize=11)
    if mark:
        look = {"color": INK, "markeredgecolor": "white", "markersize": 8, "clip_on": False}
        axes.plot([float(mark[what]) for what in values], range(len(values)), "D", label="as it should be", **look)
    axes.set(xlim=(0, 1.75), xticks=(0, 0.5, 1))
    axes.set_yticks(range(len(values)), list(values) if names else [""] * len(values))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
