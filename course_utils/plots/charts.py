"""Numbers against an axis: curves, bars, histograms, and the loss of a training while it runs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from .canvas import COLOURS, INK, WIDTH, new_figure, single, styled, typeset, wrapped
from .checks import as_numbers, as_pair, known, named
from .images import draw_images


@styled
def draw_curves(
    axes: Axes,
    series: Mapping[str, Any],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
    log_y: bool = False,
    band: Mapping[str, tuple[Any, Any]] | None = None,
    mark: Any = None,
) -> None:
    """`curves` into axes that you have; the arguments are the same."""
    known(band or (), named(series, "series"), "band")
    for name, pair in named(series, "series").items():
        x, y = as_pair(pair, name)
        marker = "o" if len(x) <= 12 else None
        (line,) = axes.plot(x, y, marker=marker, label=name if not name.startswith("_") else None)
        if band is not None and name in band:
            low, high = (as_numbers(side, f'band "{name}"', gaps=True) for side in band[name])
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    draw_marks(axes, mark)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    if log_x:
        axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    if len(axes.get_legend_handles_labels()[1]) > (1 if mark is None else 0):
        axes.legend()


def draw_marks(axes: Axes, mark: Any) -> None:
    """x is an upright line, (None, y) a level line, (x, y) a point; a dictionary names them."""
    for name, where in (mark if isinstance(mark, Mapping) else {"": mark}).items():
        x, y = where if isinstance(where, tuple | list) else (where, None)
        look = {"color": INK, "label": str(name) or None}
        if x is not None and y is not None:
            axes.plot([float(x)], [float(y)], "D", markersize=9, markeredgecolor="white", **look)
        elif x is not None:
            axes.axvline(float(x), linestyle="--", linewidth=1.6, **look)
        elif y is not None:
            axes.axhline(float(y), linestyle="--", linewidth=1.6, **look)


@styled
def curves(series: Mapping[str, Any], *, title: str, x_label: str, y_label: str, **options: Any) -> Figure:
    """One or several curves over a common axis.

    series: {"name": (x, y)}, each of one length. The options:
    log_x, log_y: True for a logarithmic axis. band: {"name": (low, high)} shades an interval around that curve.
    mark: a number x (upright line), (x, y) (point), (None, y) (level line), or {"name": one of these}.

    >>> curves({"loss": ([1, 2, 3], [9, 4, 1])}, title="It falls", x_label="step", y_label="loss (nats per image)")
    [picture] It falls. Curves of loss (nats per image) against step: loss
    """
    figure, axes = single(title, f"Curves of {y_label} against {x_label}: {', '.join(named(series, 'series'))}")
    draw_curves(axes, series, title=wrapped(title, WIDTH), x_label=x_label, y_label=y_label, **options)
    return figure


@styled
def tradeoff(
    series: Mapping[str, Mapping[str, Any]], *, title: str, x_label: str, y_label: str, mark: Any = None
) -> Figure:
    """Two measures against each other while a knob is turned: a line for each series, with crosses of error.

    series: {"name": {"what is written at the point": (x, y, half-length across, half-length upright)}}, joined in
    order; a text that begins with _ is not written.  mark: as for `curves`.

    >>> points = {"w = 1": (0.9, 0.8, 0.01, 0.02), "w = 5": (0.7, 0.99, 0.02, 0.01)}
    >>> tradeoff({"guided": points}, title="More of one", x_label="coverage", y_label="accuracy")
    [picture] More of one. Paths over coverage and accuracy: guided w = 1 (0.9, 0.8), w = 5 (0.7, 0.99)
    """
    paths = {
        name: [(text, as_numbers(where, f'"{name}", {text}', (4,))) for text, where in named(points, name).items()]
        for name, points in named(series, "series").items()
    }
    told = (
        f"{name} " + ", ".join(f"{t.strip('_')} ({w[0]:.3g}, {w[1]:.3g})" for t, w in path)
        for name, path in paths.items()
    )
    figure, axes = single(title, f"Paths over {x_label} and {y_label}: {'; '.join(told)}", height=5.2)
    for k, (name, path) in enumerate(paths.items()):
        x, y, dx, dy = np.array([where for _, where in path]).T
        look = {"color": COLOURS[k % len(COLOURS)], "marker": "osD^v"[k % 5], "capsize": 3, "elinewidth": 1.4}
        axes.errorbar(x, y, yerr=dy, xerr=dx, label=name, **look)
        for j, ((text, _), at_x, at_y) in enumerate(zip(path, x, y)):
            if not text.startswith("_"):  # below and above in turn, since points may lie close together
                where = {"xytext": (6, 6 if j % 2 else -15), "textcoords": "offset points", "zorder": 5}
                halo = [withStroke(linewidth=2.5, foreground="white")]
                axes.annotate(typeset(text), (at_x, at_y), fontsize=11, path_effects=halo, **where)
    draw_marks(axes, mark)
    axes.margins(x=0.08, y=0.1)
    axes.set(xlabel=x_label, ylabel=y_label)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def bars(
    values: Mapping[str, Any],
    *,
    title: str,
    y_label: str,
    errors: Mapping[str, Any] | None = None,
    form: str = ".3g",
) -> Figure:
    """Named numbers as bars, each with its value written on it.

    values: {"name": value}, or {"series": {"name": value}} for groups side by side. errors: {"name": half-length} of
    error bars, where there are no groups. form: how values are written (a format specification).

    >>> bars({"PCA": 0.031, "autoencoder": 0.022}, title="Lower is better", y_label="MSE per pixel")
    [picture] Lower is better. Bars of MSE per pixel: PCA 0.031, autoencoder 0.022
    """
    values = named(values, "values")
    grouped = isinstance(next(iter(values.values())), Mapping)
    groups = {
        series: {str(name): float(as_numbers(value, str(name))) for name, value in group.items()}
        for series, group in (values if grouped else {"": values}).items()
    }
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    described = "; ".join(
        (f"{series}: " if series else "") + ", ".join(f"{name} {value:{form}}" for name, value in group.items())
        for series, group in groups.items()
    )
    figure, axes = single(title, f"Bars of {y_label}: {described}")
    width = 0.8 / len(groups) if grouped else 0.62
    errors = named(errors, "errors") if errors else {}
    known(errors, [] if grouped else names, "errors")
    for k, (series, group) in enumerate(groups.items()):
        at = [names.index(name) + (k - (len(groups) - 1) / 2) * width for name in group]
        look = {"label": series or None, "color": COLOURS[k % len(COLOURS)], "ecolor": INK, "capsize": 4}
        reach = [float(errors.get(name, np.nan)) for name in group] if errors else None
        drawn = axes.bar(at, group.values(), width * 0.94, yerr=reach, **look)
        axes.bar_label(drawn, fmt=f"{{:{form}}}", padding=3, fontsize=11)
    axes.margins(y=0.12)
    axes.set_xticks(
        range(len(names)), ["\n".join(textwrap.wrap(typeset(name), max(8, int(72 / len(names))))) for name in names]
    )
    axes.grid(False, axis="x")
    axes.set_ylabel(y_label)
    if grouped:
        axes.legend()
    return figure


@styled
def histogram(
    values: Mapping[str, Any], *, title: str, x_label: str, overlay: Mapping[str, tuple[Any, Any]] | None = None
) -> Figure:
    """How often each value occurs, as a density (area 1).

    values: {"name": numbers of any shape}, several over each other with common bins.
    overlay: {"name": (x, y)} draws densities to compare with.

    >>> import torch
    >>> histogram({"z": torch.tensor([0.0, 1.0, 1.0])}, title="Three numbers", x_label="value")
    [picture] Three numbers. Histogram of value: z
    """
    arrays = {name: as_numbers(v, name).ravel() for name, v in named(values, "values").items()}
    figure, axes = single(title, f"Histogram of {x_label}: {', '.join(arrays)}")
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), 50)
    for name, array in arrays.items():
        axes.hist(array, edges, density=True, alpha=0.55 if len(arrays) > 1 else 0.8, label=name)
    for k, (name, pair) in enumerate((overlay or {}).items()):
        axes.plot(*as_pair(pair, name), color=INK, linestyle=("-", "--", ":")[k % 3], label=str(name))
    axes.set(xlabel=x_label, ylabel="density")
    axes.legend()
    return figure


@styled
def training_view(losses: Any, images: Any, *, title: str, steps: int | None = None, y_label: str = "loss") -> Figure:
    """A look over the shoulder of a training: its loss so far, and a strip of samples below.

    losses: one number a step, from step 1; drawn with their running mean.  images: (n, c, h, w) in [-1, 1].
    steps: how many there will be, so that the axis stands still while the view is drawn anew.
    y_label: what the loss is, with its unit.

    >>> import torch
    >>> training_view([1.0, 0.5, 0.3], torch.zeros(10, 1, 8, 8), title="Step 3 of 100", steps=100)
    [picture] Step 3 of 100. Loss so far, now 0.6, and 10 samples
    """
    values = as_numbers(losses, "losses").ravel()
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
    top.set_title(wrapped(title, WIDTH))
    draw_images(below, images)
    figure.set_label(f"{title}. Loss so far, now {smooth[-1]:.3g}, and {len(images)} samples")
    return figure
