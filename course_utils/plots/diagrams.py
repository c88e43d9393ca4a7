"""Diagrams: a network to scale, the wires of a convolution, a triangle of wishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .canvas import COLOURS, INK, WIDTH, new_figure, single, styled
from .checks import as_numbers


@styled
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
    if any(not 0 <= start < end < len(boxes) for start, end in skips):
        raise ValueError(f"skips: expected pairs of places in 0..{len(boxes) - 1}, got {list(skips)}")
    names = [name for name, _ in boxes]
    described = ", ".join(f"{name} ({c}×{h}×{w})" for name, (c, h, w) in zip(names, shapes))
    joined = ", ".join(f"{names[a]} to {names[b]}" for a, b in skips)
    figure, axes = single(title, f"Network of {described}; skips from {joined or 'nowhere'}", height=4.2)
    left, width, floor, height, colours = _place(shapes)
    axes.bar(left, height, width, floor, align="edge", color=colours, edgecolor="white")
    centre, middle, top = left + width / 2, floor + height / 2, floor + height
    words = {"ha": "center", "va": "top", "fontsize": 8, "zorder": 4}
    words["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # an arrow passes behind them
    for x, y, name, (c, h, w) in zip(centre, floor, names, shapes):
        label = name.replace("sample", "\nsample")  # in one line "downsample.0" would reach into the next
        axes.text(x, y - 0.06, label, fontweight="bold", **words)
        axes.text(x, y - 0.29 - 0.24 * label.count("\n"), f"{c}\n{h}×{w}", color="#555555", **words)
    for k in range(1, len(boxes)):
        start, end = (left[k - 1] + width[k - 1], middle[k - 1]), (left[k], middle[k])
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "#888888"})
    for inside, (a, b) in enumerate(sorted(skips, key=lambda ends: ends[1] - ends[0])):
        between = slice(a, b + 1)
        over = top[between].max() + 0.22 * (1 + inside)  # above what stands in the way, shorter ones below longer ones
        line = {"color": "#bd1f01", "linestyle": "--", "linewidth": 1.6}
        axes.plot([centre[a], centre[a], centre[b]], [top[a], over, over], **line)
        axes.annotate("", (centre[b], top[b]), (centre[b], over + 0.03), arrowprops={"arrowstyle": "->", **line})
    axes.set(xlim=(-0.4, left[-1] + max(width[-1], 0.45) + 0.16), ylim=(floor.min() - 0.95, floor.max() + 2.3))
    axes.set_axis_off()
    return figure


def _place(shapes: Sequence[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Where each part stands, in units of the picture: left, width, floor, height, and its colour.

    Heights are those of images, widths are channels, and each size of image has a level.
    """
    channels, tall, _ = np.array(shapes).T
    sizes, level = np.unique(-tall, return_inverse=True)  # the tallest first
    width, height = 0.12 + 0.5 * channels / channels.max(), 2.0 * tall / tall.max()
    # levels lie below each other, with room for four lines of text between them
    floor = np.cumsum(2.0 * sizes / tall.max() - 1.1)[level]
    leaves_its_level = np.diff(level, append=level[-1]) != 0
    steps = np.maximum(width, 0.45) + np.where(leaves_its_level, 0.55, 0.46)
    left = np.cumsum(np.append(0.0, steps[:-1]))
    return left, width, floor, height, [COLOURS[(0, 1, 3, 7)[k % 4]] for k in level]


@styled
def triangle(corners: Sequence[str], members: Mapping[str, Any], *, title: str) -> Figure:
    """A triangle of three wishes, and who grants which.

    corners: the three names, the first one on top, then left and right. members: {"name": three shares}, how strongly
    it is drawn to each corner; only their ratios count: (1, 1, 0) is the middle of the first edge. Where shares were
    measured several times, (n, 3), each time is a mark, alike for a member, and the names stand beside the triangle.

    >>> triangle(["good", "fast", "cheap"], {"a friend": (1, 0, 1)}, title="Choose two")
    [picture] Choose two. Triangle of good, fast, cheap: a friend (1, 0, 1)
    >>> triangle(["good", "fast", "cheap"], {"a friend": [(1, 0, 1), (0.9, 0.1, 1)]}, title="Chosen twice")
    [picture] Chosen twice. Triangle of good, fast, cheap: a friend (0.95, 0.05, 1)
    """
    if len(corners) != 3:
        raise ValueError(f"corners: expected three names, got {len(corners)}")
    shares = {name: _shares(name, values) for name, values in members.items()}
    described = ", ".join(f"{name} {_in_brief(values)}".replace("\n", ", ") for name, values in shares.items())
    measured = any(len(values) > 1 for values in shares.values())
    figure, axes = single(title, f"Triangle of {', '.join(corners)}: {described}", WIDTH if measured else 7.4, 4.9)
    at = np.array([(0.0, 1.0), (-0.95, -0.5), (0.95, -0.5)])
    axes.fill(*at.T, facecolor="#f4f4f4", edgecolor="#888888", linewidth=1.5)
    axes.plot(*at.T, "o", color=INK, markersize=9)
    for name, corner, away, va in zip(corners, at, (12, -12, -12), ("bottom", "top", "top")):
        words = {"ha": "center", "va": va, "fontsize": 14, "fontweight": "bold"}
        axes.annotate(name, corner, (0, away), textcoords="offset points", **words)
    places = {name: values @ at / values.sum(1, keepdims=True) for name, values in shares.items()}
    (_dotted if measured else _labelled)(axes, places)
    axes.set(xlim=(-1.4, 1.4), ylim=(-0.72, 1.2))
    axes.set_axis_off()
    return figure


def _shares(name: str, values: Any) -> np.ndarray:
    """(n, 3), one row for each time that they were measured."""
    shares = np.atleast_2d(as_numbers(values, name))
    if shares.ndim != 2 or shares.shape[1] != 3 or shares.min() < 0 or (shares.sum(1) == 0).any():
        raise ValueError(f"{name!r}: expected three shares of 0 or more, got {values}")
    return shares


def _in_brief(shares: np.ndarray) -> str:
    return f"({', '.join(f'{share:.3g}' for share in shares.mean(0))})"


def _labelled(axes: Axes, places: Mapping[str, np.ndarray]) -> None:
    """Each name in a box where it belongs."""
    for k, (name, (place,)) in enumerate(places.items()):
        # a colour, and what stands out on it
        colour, text = ((2, "white"), (0, "black"), (4, "white"), (8, "white"), (1, "black"), (9, "black"))[k % 6]
        box = {"boxstyle": "round,pad=0.5", "facecolor": COLOURS[colour], "edgecolor": "none"}
        axes.annotate(name, place, ha="center", va="center", fontsize=12, color=text, bbox=box)


def _dotted(axes: Axes, places: Mapping[str, np.ndarray]) -> None:
    """A mark for each time, and beside the triangle what each mark means."""
    for k, (name, spots) in enumerate(places.items()):
        look = {"marker": "osD^vP*X"[k % 8], "color": COLOURS[k % len(COLOURS)], "edgecolor": INK, "linewidth": 0.8}
        axes.scatter(*spots.T, s=95, label=name, zorder=3, **look)
    axes.legend(loc="center left", bbox_to_anchor=(0.9, 0.6), labelspacing=1.1)


@styled
def wiring(small: int, *, kernel: int, stride: int, padding: int, title: str) -> Figure:
    """Which pixels a convolution joins along one axis, and beside it the same wires for the transposed one.

    small: pixels on the side of the few, up to ten; the other side has (small − 1)·stride − 2·padding + kernel. Pale
    dots are padding.

    >>> wiring(4, kernel=4, stride=2, padding=1, title="Down and up")
    [picture] Down and up. Wiring of a convolution from 8 pixels to 4, and of the transposed one from 4 to 8
    """
    large = (small - 1) * stride - 2 * padding + kernel
    if not 1 <= small <= len(COLOURS) or large < 1:
        raise ValueError(f"small: expected 1 to {len(COLOURS)} pixels, and 1 or more beside them, got {small}, {large}")
    figure, both = new_figure(WIDTH, 2.7, 1, 2)
    middles = [j * stride + (kernel - 1) / 2 - padding for j in range(small)]
    for axes, (name, limits) in zip(
        both,
        {f"convolution: {large} → {small}": (-0.25, 1.25), f"transposed: {small} → {large}": (1.25, -0.25)}.items(),
    ):
        for j, middle in enumerate(middles):
            for i in range(j * stride - padding, j * stride - padding + kernel):
                inside = 0 <= i < large
                colour, line = (COLOURS[j], "-") if inside else ("#cccccc", ":")
                axes.plot([i, middle], [1, 0], line, color=colour, linewidth=1.8, zorder=1)
        outside = [*range(-padding, 0), *range(large, large + padding)]
        axes.scatter(range(large), [1] * large, s=150, color="white", edgecolor=INK, zorder=2)
        axes.scatter(middles, [0] * small, s=190, color=COLOURS[:small], zorder=2)
        axes.scatter(outside, [1] * len(outside), s=110, color="#eeeeee", edgecolor="#bbbbbb", zorder=2)
        axes.set(xlim=(-padding - 0.6, large + padding - 0.4), ylim=limits, xticks=[], yticks=[0, 1], title=name)
        axes.set_yticklabels([str(small), str(large)])
        axes.set_ylabel("pixels")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    figure.suptitle(title, x=0.01, ha="left")
    described = f"from {large} pixels to {small}, and of the transposed one from {small} to {large}"
    figure.set_label(f"{title}. Wiring of a convolution {described}")
    return figure
