"""Images in grids and rows, decoded over a plane, and in motion."""

from __future__ import annotations

import html
import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

from .canvas import PAGE_DPI, WIDTH, Number, bare, img, single, styled, title_height, typeset
from .checks import as_pixels, named, sides


def gap_of(w: int) -> int:
    """Pixels between images that are w wide."""
    return max(1, round(w / 14))


def mosaic(images: np.ndarray, columns: int, below: int = 0, gap: int | None = None) -> np.ndarray:
    """Lay (n, h, w, c) images on one canvas, row by row, with white between them and `below` more under each row.

    gap: pixels between images; by default as many as suit their width.

    One picture instead of n panels: sixty images draw as fast as one, which an explorer needs.
    """
    n, _, w, c = images.shape
    right = gap_of(w) if gap is None else gap
    under = right + below
    cells = np.pad(images, ((0, -n % columns), (0, under), (0, right), (0, 0)), constant_values=1.0)
    high, wide = cells.shape[1:3]
    canvas = cells.reshape(-1, columns, high, wide, c).swapaxes(1, 2).reshape(-1, columns * wide, c)
    return canvas[:-under, :-right]


def show(axes: Axes, canvas: np.ndarray, **keywords: Any) -> None:
    """Draw an image (h, w, c) in [0, 1]."""
    grey = canvas.shape[-1] == 1
    axes.imshow(canvas[..., 0] if grey else canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest", **keywords)


def _captions(labels: Any, wanted: int, each: str) -> list[str]:
    if labels is None:
        return []
    if len(labels) != wanted:
        raise ValueError(f"labels: expected {wanted}, one for each {each}, got {len(labels)}")
    return [str(label.item() if isinstance(label, torch.Tensor | np.generic) else label) for label in labels]


@styled
def draw_images(axes: Axes, images: Any, *, title: str = "") -> None:
    """Draw images (n, c, h, w) in [-1, 1], ten in a row, into axes that you have: one panel of a figure of your own."""
    array = as_pixels(images)
    show(axes, mosaic(array, min(len(array), 10)))
    bare(axes)
    axes.set_title(title)


@styled
def image_grid(images: Any, *, title: str = "", columns: int | None = None, labels: Any = None) -> Figure:
    """Images in a grid, each with its caption if `labels` are given.

    images: (n, c, h, w) floats in [-1, 1], grey (c = 1) or colour (c = 3); values beyond are clipped.
    columns: images in a row; chosen by their number if None. labels: n captions (numbers or words).
    Errors: ValueError for a wrong shape, range, or number of labels; TypeError for bytes.

    >>> image_grid(torch.zeros(12, 1, 28, 28), title="Twelve grey squares")
    [picture] Twelve grey squares. Grid of 12 images
    """
    array = as_pixels(images)
    n, h, w, _ = array.shape
    if columns is not None and columns < 1:
        raise ValueError(f"columns: expected 1 or more, got {columns}")
    captions, gap = _captions(labels, n, "image"), gap_of(w)
    lines = [caption.split("\n") for caption in captions]
    longest = max((len(line) for caption in lines for line in caption), default=0)
    cell, columns = _cell(n, columns, longest, gap / w)
    inch = w / cell  # image pixels on an inch of page
    room = 0.21 * max(map(len, lines), default=0)  # inches that the captions take below a row
    below = round(gap + room * inch) - gap
    canvas = mosaic(array, columns, below)
    width = max(canvas.shape[1] / inch, 5)
    height = canvas.shape[0] / inch + room + 0.1 + title_height(title, width)
    figure, axes = single(title, f"Grid of {n} image{'s' * (n > 1)}", width + 0.1, height)
    show(axes, canvas)
    bare(axes)
    axes.set_anchor("W")
    for k, caption in enumerate(captions):
        x, y = k % columns * (w + gap), k // columns * (h + gap + below)
        axes.text(x + w / 2 - 0.5, y + h + 0.04 * inch, caption, ha="center", va="top", fontsize=11)
    axes.set_ylim(canvas.shape[0] - 0.5 + room * inch, -0.5)
    return figure


def _cell(n: int, columns: int | None, longest: int, gap: float) -> tuple[Number, int]:
    """Inches that one image of a grid takes, and images in a row: rows of equal length that fill the width."""
    needed = max(0.72, 0.088 * longest + 0.06)  # wide enough for the longest caption
    if columns is None:
        columns = -(-n // -(-n // max(1, int(WIDTH / (needed * (1 + gap))))))
    columns = min(columns, n)
    widest = (WIDTH - 0.1) / (columns + (columns - 1) * gap)
    return min(widest, max(needed, 1.5 if n > 1 else 2.4)), columns


@styled
def image_rows(rows: Mapping[str, Any], *, title: str = "", labels: Any = None) -> Figure:
    """Rows of images, each with its name on the left: originals over what became of them.

    rows: {"name": (n, c, h, w) floats in [-1, 1]}; all of one c, h, w; a shorter row ends early.
    labels: a caption above each column.

    >>> image_rows({"original": torch.zeros(5, 1, 8, 8), "rebuilt": torch.zeros(5, 1, 8, 8)}, title="Before and after")
    [picture] Before and after. Rows of images: original, rebuilt
    """
    arrays = {name: as_pixels(images, f'row "{name}"') for name, images in named(rows, "rows").items()}
    shapes = {array.shape[1:] for array in arrays.values()}
    if len(shapes) > 1:
        raise ValueError(f"rows: expected images of one size, got (h, w, c) of {sorted(shapes)}")
    h, w, c = shapes.pop()
    longest, gap = max(len(array) for array in arrays.values()), gap_of(w)
    captions = _captions(labels, longest, "column")
    padded = [np.concatenate([array, np.ones((longest - len(array), h, w, c))]) for array in arrays.values()]
    canvas = mosaic(np.concatenate(padded), longest)
    names = ["\n".join(textwrap.wrap(typeset(name), 18)) for name in arrays]
    margin = 0.095 * max(len(line) for name in names for line in name.split("\n")) + 0.25
    inch = w / min(1.1, (WIDTH - margin) / (longest + (longest - 1) * gap / w))
    height = canvas.shape[0] / inch + 0.1 + title_height(title, WIDTH) + 0.25 * bool(captions)
    width = max(5.0, margin + canvas.shape[1] / inch)
    figure, axes = single(title, f"Rows of images: {', '.join(arrays)}", width, height)
    show(axes, canvas)
    bare(axes)
    axes.set_anchor("W")
    axes.set_yticks([i * (h + gap) + (h - 1) / 2 for i in range(len(names))], names)
    axes.set_xticks([i * (w + gap) + (w - 1) / 2 for i in range(len(captions))], captions)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    return figure


@styled
def manifold(
    decoded: Any, extent: Sequence[Number], title: str = "", *, x_label: str = "z₁", y_label: str = "z₂"
) -> Figure:
    """A grid of decoded latent points, drawn where the points lie.

    decoded: (rows, columns, c, h, w) in [-1, 1]; decoded[i, j] belongs to the i-th value of z₂ and the j-th of z₁, both
    rising: row 0 is drawn at the bottom. extent: (z₁ low, z₁ high, z₂ low, z₂ high), the outermost points of the grid.
    """
    array = as_pixels(decoded, "decoded", "rows, columns, c, h, w")
    left, right, bottom, top = sides(extent)
    rows, columns, h, w, c = array.shape
    canvas = array[::-1].transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, c)
    # a point is the middle of its image
    dx, dy = (right - left) / max(columns - 1, 1) / 2, (top - bottom) / max(rows - 1, 1) / 2
    height = min(7.0, 6.2 * rows * h / (columns * w)) + 0.9
    figure, axes = single(title, f"Map of {rows} by {columns} images decoded over the latent plane", 7.0, height)
    show(axes, canvas, extent=(left - dx, right + dx, bottom - dy, top + dy), aspect="auto")
    axes.grid(False)
    axes.set(xlabel=x_label, ylabel=y_label)
    return figure


class Animation:
    """A GIF that a notebook shows, with its title above it and its alternative text; made by `animation`.

    .gif: the bytes, to be written to a file.  .size: (width, height) on the page.
    """

    def __init__(self, gif: bytes, title: str, alt: str, size: tuple[int, int]):
        self.gif, self.title, self.alt, self.size = gif, title, alt, size

    def __repr__(self) -> str:
        return f"[animation] {self.alt}"

    def _repr_html_(self) -> str:
        picture = img("gif", self.gif, self.alt, self.size, style="image-rendering: pixelated")
        return f"<div><strong>{html.escape(self.title)}</strong><br>{picture}</div>"


def animation(
    frames: Sequence[Any],
    *,
    title: str,
    columns: int | None = None,
    seconds: Number = 3.0,
    captions: Sequence[str] | None = None,
) -> Animation:
    """Images that change: a sampler's way from noise, over and over, with a rest on its last frame.

    frames: two or more batches (n, c, h, w) in [-1, 1], all of one shape, in the order in which they are shown;
    columns: images in a row;  seconds: how long the way takes;  captions: a line of text above each frame, within the
    file, whose images are then enlarged.

    >>> animation([torch.zeros(4, 1, 8, 8), torch.ones(4, 1, 8, 8)], title="From grey to white")
    [animation] From grey to white. Animation of 4 images in 2 frames
    """
    arrays = [as_pixels(frame, f"frame {k}") for k, frame in enumerate(frames)]
    if len(arrays) < 2 or len({array.shape for array in arrays}) > 1:
        raise ValueError(f"frames: expected two or more of one shape, got (n, h, w, c) of {[a.shape for a in arrays]}")
    if not seconds > 0:
        raise ValueError(f"seconds: expected a positive number, got {seconds}")
    columns = columns or min(len(arrays[0]), 10)
    # 32 levels: noise can't be compressed, so fewer grey values make the file half as large
    canvases = [np.uint8(np.round(255 * ((mosaic(array, columns) * 31).round() / 31))) for array in arrays]
    pictures = [Image.fromarray(canvas[..., 0] if canvas.shape[-1] == 1 else canvas) for canvas in canvases]
    enlarged = max(1, min(4, round(WIDTH * PAGE_DPI) // pictures[0].width))
    if captions is not None:
        lines = _captions(captions, len(arrays), "frame")
        pictures = [_captioned(picture, enlarged, line) for picture, line in zip(pictures, lines)]
        enlarged = 1
    pause = max(20, round(1000 * seconds / (len(pictures) - 1), -1))  # milliseconds; a GIF counts in hundredths
    buffer = io.BytesIO()
    durations = [pause] * (len(pictures) - 1) + [1500]
    pictures[0].save(buffer, "gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    n = len(arrays[0])
    alt = f"{title}. Animation of {n} image{'s' * (n > 1)} in {len(arrays)} frames"
    return Animation(buffer.getvalue(), title, alt, (enlarged * pictures[0].width, enlarged * pictures[0].height))


def _captioned(picture: Image.Image, times: int, line: str) -> Image.Image:
    """A picture so many times as large, with a line of text above it."""
    room = 28
    large = picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST)
    page = Image.new(picture.mode, (large.width, large.height + room), "white")
    page.paste(large, (0, room))
    font = ImageFont.truetype(findfont("DejaVu Sans"), 17)
    ImageDraw.Draw(page).text((2, room // 2 - 2), line, fill="black", font=font, anchor="lm")
    return page
