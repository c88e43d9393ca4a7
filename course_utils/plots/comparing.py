"""Numbers that are compared: several seeds of each, and curves in panels of their own over the same axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .canvas import COLOURS, INK, WIDTH, Number, side_by_side, single, styled, typeset
from .charts import draw_curves, draw_marks
from .checks import as_numbers, as_pair, known, named

BACKDROP = "#c4c4c4"
VIVID = tuple(colour for colour in COLOURS if colour not in ("#94a4a2", "#717581"))  # none that looks like it


@styled
def dots(
    values: Mapping[str, Any], *, title: str, x_label: str, mark: Mapping[str, Number] | None = None, log: bool = False
) -> Figure:
    """A row of dots for each name, one dot for each seed, with their mean and standard deviation written beside it.

    values: {"name": two or more numbers}, from top to bottom. mark: {"name": x}, upright lines.
    log: a logarithmic axis.

    >>> dots({"ours": [1.0, 3.0], "theirs": [4.0, 4.0]}, title="Two seeds each", x_label="d²")
    [picture] Two seeds each. d² of each seed: ours 2.00 ± 1.41, theirs 4.00 ± 0.00
    """
    rows = {name: as_numbers(numbers, name, ("seeds",)) for name, numbers in named(values, "values").items()}
    few = [name for name, row in rows.items() if len(row) < 2]
    if few:
        raise ValueError(f"{few[0]}: expected two or more numbers, got {len(rows[few[0]])}: one has no spread")
    said = {name: f"{row.mean():.2f} ± {row.std(ddof=1):.2f}" for name, row in rows.items()}
    described = ", ".join(f"{name} {number}" for name, number in said.items())
    figure, axes = single(title, f"{x_label} of each seed: {described}", WIDTH, 1.3 + 0.42 * len(rows))
    for k, (name, row) in enumerate(rows.items()):
        colour = COLOURS[k % len(COLOURS)]
        axes.errorbar([row.mean()], [k], xerr=[row.std(ddof=1)], color=INK, capsize=5, linewidth=1.6, zorder=2)
        axes.plot(row, np.full(len(row), k), "o", color=colour, markersize=8, alpha=0.75, markeredgewidth=0, zorder=3)
        axes.annotate(said[name], (1.01, k), xycoords=("axes fraction", "data"), va="center", fontsize=11)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=x_label)
    axes.set_yticks(range(len(rows)), [typeset(name) for name in rows])
    axes.grid(False, axis="y")
    if log:
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
    if mark:
        draw_marks(axes, mark)
        axes.legend(fontsize=11)
    return figure


@styled
def small_multiples(
    panels: Mapping[str, Mapping[str, Any]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    columns: int | None = None,
    backdrop: bool = False,
    band: Mapping[str, Mapping[str, tuple[Any, Any]]] | None = None,
    mark: Any = None,
    log_x: bool = False,
    log_y: bool = False,
    ticks: Sequence[Number] | None = None,
) -> Figure:
    """Curves in panels side by side over the same axes: where many lines would tangle in one.

    panels: {"panel": {"name": (x, y)}}, each drawn as by `curves`; the legend stands where a panel is free, else in the
    last one.
    backdrop: the curves of all other panels in grey behind each.  band: {"panel": {"name": (low, high)}}.
    mark, log_x, log_y: as in `curves`, for every panel.  ticks: numbers along the x-axis.

    >>> lines = {"slow": {"loss": ([1, 2], [9, 8])}, "fast": {"loss": ([1, 2], [9, 2])}}
    >>> small_multiples(lines, title="Two ways", x_label="step", y_label="loss", backdrop=True)
    [picture] Two ways. Panels of loss against step: slow, fast
    """
    panels = {name: named(series, name) for name, series in named(panels, "panels").items()}
    known(band or (), panels, "band")
    columns = min(columns or 3, len(panels))
    rows = -(-len(panels) // columns)
    said = f"Panels of {y_label} against {x_label}"
    figure, grid = side_by_side(list(panels), columns, WIDTH, 0.8 + 2.5 * rows, title, said)
    used = grid.flat[: len(panels)]
    for axes in used[1:]:
        axes.sharex(used[0])
        axes.sharey(used[0])
    for k, (axes, (panel, series)) in enumerate(zip(used, panels.items())):
        if backdrop:
            _behind(axes, panels, panel)
            axes.set_prop_cycle(color=VIVID[k % len(VIVID) :] + VIVID[: k % len(VIVID)])
        options = {"band": (band or {}).get(panel), "mark": mark, "log_x": log_x, "log_y": log_y}
        first, under = k % columns == 0, k >= len(panels) - columns
        labels = {"x_label": x_label if under else "", "y_label": y_label if first else ""}
        draw_curves(axes, series, title=panel, **labels, **options)
        if axes.get_legend():
            axes.get_legend().remove()
        if log_y:
            plain_log_ticks(axes.yaxis)
        if ticks is not None:
            axes.minorticks_off()
            axes.set_xticks(list(ticks), [f"{tick:g}" for tick in ticks])
    labels = dict(zip(*used[-1].get_legend_handles_labels()[::-1]))
    labels = {name: line for name, line in labels.items() if not (backdrop and name in panels)}
    if len(labels) > (0 if mark is not None else 1):
        free = grid.flat[len(panels)] if len(panels) < grid.size else used[-1]
        free.legend(labels.values(), labels.keys(), loc="upper left" if free is not used[-1] else "best")
    return figure


def _behind(axes: Axes, panels: Mapping[str, Mapping[str, Any]], panel: str) -> None:
    """The curves of all panels but one, thin and grey, without names."""
    for other, series in panels.items():
        for name, pair in series.items() if other != panel else ():
            axes.plot(*as_pair(pair, name), color=BACKDROP, linewidth=1.2, zorder=1, label=f"_{name}")


def plain_log_ticks(axis: Any) -> None:
    """1, 2, 5, 10, … in place of powers, on a logarithmic axis that spans a decade or two."""
    low, high = axis.get_view_interval()
    if low > 0 and high / low < 1000:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
