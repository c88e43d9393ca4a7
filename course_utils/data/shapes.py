"""Shapes in colour that need no network: drawn from formulas, eight classes, each image a scene of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

SIDE = 64  # pixels
COUNT = {"train": 20_000, "test": 2_000}
PIECE = 50  # images drawn at a time: what is at work then fits into a processor's cache

# How a scene is drawn: seventeen uniform numbers in [0, 1) become its place, its colours and its pattern.
NUMBERS = 17
PLACE = 0.13  # largest distance of a shape's centre from the middle, as a share of the side
RADIUS = (0.24, 0.38)  # of a shape, as a share of the side
TURN = math.radians(25)
SHADOW = (2.5, 3.5, 4.0)  # pixels to the right, pixels down, and how softly it ends


def shapes(split: str, seed: int, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Images uint8 (n, 3, 64, 64) and labels int64 (n,), in random order; the first `limit` of them.

    train: 20,000 scenes, which the seed decides; test: 2,000 others, always the same. No scene is in both: each is made
    of numbers drawn for it alone.
    """
    rng = np.random.default_rng([seed % 2**63, 0] if split == "train" else [0, 1])
    labels = torch.from_numpy(rng.integers(len(FORMULAS), size=COUNT[split]))[:limit]
    numbers = torch.from_numpy(rng.random((COUNT[split], NUMBERS), np.float32))[:limit]
    pieces = [_draw(part, kinds) for part, kinds in zip(numbers.split(PIECE), labels.split(PIECE))]
    return torch.cat(pieces), labels


# ---------------------------------------------------------------------------------------------------------------------
# Eight formulas: how far a place is from the outline, below 0 inside. x to the right, y upwards, the shape's size is 1.
# ---------------------------------------------------------------------------------------------------------------------
def _circle(x: Tensor, y: Tensor) -> Tensor:
    return x.hypot(y) - 0.9


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (x.hypot(y) - 0.68).abs() - 0.24


def _square(x: Tensor, y: Tensor) -> Tensor:
    return _box(x, y, 0.62) - 0.16  # rounded


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    x, y = x, y + 0.15
    sides = [x * math.sin(a) - y * math.cos(a) for a in (0.0, 2 * math.pi / 3, -2 * math.pi / 3)]
    return torch.stack(sides).amax(0) - 0.52


def _star(x: Tensor, y: Tensor) -> Tensor:
    """One edge, from a tip at 1 to a notch at 0.45; the other nine are its mirror images."""
    sector = math.pi / 5
    angle = torch.atan2(x, y)
    angle = (torch.remainder(angle + sector, 2 * sector) - sector).abs()
    radius = x.hypot(y)
    along, across = radius * angle.cos(), radius * angle.sin()
    edge = (0.45 * math.cos(sector) - 1, 0.45 * math.sin(sector))
    return ((along - 1) * edge[1] - across * edge[0]) / math.hypot(*edge)


def _heart(x: Tensor, y: Tensor) -> Tensor:
    """A square on its corner, with a half disc on each of its upper sides."""
    half, y = 0.5, y + 0.12
    a, b = (x + y) / math.sqrt(2), (y - x) / math.sqrt(2)
    right, left = (a - half).hypot(b) - half, a.hypot(b - half) - half
    return torch.minimum(_box(a, b, half), torch.minimum(right, left))


def _moon(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.hypot(y) - 0.9, 0.72 - (x - 0.42).hypot(y - 0.22))


def _flower(x: Tensor, y: Tensor) -> Tensor:
    """One round petal out of five, the others are turned copies; and a disc in the middle, which joins them."""
    sector = math.pi / 5
    angle = torch.remainder(torch.atan2(x, y) + sector, 2 * sector) - sector
    radius = x.hypot(y)
    petal = (radius * angle.cos() - 0.56).hypot(radius * angle.sin()) - 0.36
    return torch.minimum(petal, radius - 0.4)


def _box(x: Tensor, y: Tensor, half: float) -> Tensor:
    beside, above = x.abs() - half, y.abs() - half
    return beside.clamp(min=0).hypot(above.clamp(min=0)) + torch.maximum(beside, above).clamp(max=0)


FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "moon": _moon,
    "flower": _flower,
}
CLASSES = tuple(FORMULAS)


# ---------------------------------------------------------------------------------------------------------------------
# A scene: a ground with a gradient and a faint pattern, the shape's shadow on it, the shape in a colour that stands out
# ---------------------------------------------------------------------------------------------------------------------
def _draw(numbers: Tensor, labels: Tensor) -> Tensor:
    """Scenes as uint8 (n, 3, 64, 64), of uniform numbers (n, NUMBERS) and labels (n,)."""
    place = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
    x, y = place.expand(1, SIDE, SIDE), -place[:, None].expand(1, SIDE, SIDE)  # y upwards
    u = numbers[:, :, None, None].unbind(1)
    centre = (u[0] - 0.5) * 2 * PLACE, (u[1] - 0.5) * 2 * PLACE
    radius = RADIUS[0] + u[2] * (RADIUS[1] - RADIUS[0])
    turn = (u[3] - 0.5) * 2 * TURN

    def distance(right: float = 0.0, down: float = 0.0) -> Tensor:
        """Pixels from the outline, of the shape moved by so many pixels."""
        from_x, from_y = x - centre[0] - right / SIDE, y - centre[1] + down / SIDE
        local_x = (from_x * turn.cos() - from_y * turn.sin()) / radius
        local_y = (from_x * turn.sin() + from_y * turn.cos()) / radius
        return _outline(local_x, local_y, labels) * radius * SIDE

    inside = (0.5 - distance()).clamp(0, 1)  # the share of a pixel that the shape covers: smooth edges
    right, down, soft = SHADOW
    shadow = (0.5 - distance(right, down) / (2 * soft)).clamp(0, 1)
    scene = _ground(u, x, y) * (1 - 0.55 * shadow.square())[:, None]
    scene = torch.lerp(scene, _paint(u, x - centre[0], y - centre[1], radius), inside[:, None])
    return _to_bytes(scene)


def _outline(x: Tensor, y: Tensor, labels: Tensor) -> Tensor:
    found = torch.empty_like(x)
    for label, formula in enumerate(FORMULAS.values()):
        mine = labels == label
        found[mine] = formula(x[mine], y[mine])
    return found


def _ground(u: tuple[Tensor, ...], x: Tensor, y: Tensor) -> Tensor:
    """Light (n, 3, h, w) in [0, 1]: from one colour to a neighbour of it, with waves that can just be seen."""
    dark = _is_dark(u)
    angle = 2 * math.pi * u[8]
    along = x * angle.cos() + y * angle.sin()
    angle, waves = math.pi * u[9], 3 + 5 * u[10]
    pattern = (2 * math.pi * (waves * (x * angle.cos() + y * angle.sin()) + u[11])).sin()
    lightness = torch.where(dark, 0.24 + 0.14 * u[7], 0.80 + 0.12 * u[7]) + 0.12 * along + 0.015 * u[12] * pattern
    chroma = 0.03 + 0.06 * u[6]
    return _colour(lightness, chroma, u[4] + (u[13] - 0.5) * 0.5 * along)


def _paint(u: tuple[Tensor, ...], x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Light (n, 3, h, w) in [0, 1]: the shape's own colour, far from the ground's, lit from above on the left."""
    light = ((y - x) / (2 * radius)).clamp(-1, 1)
    lightness = torch.where(_is_dark(u), 0.68 + 0.14 * u[15], 0.52 + 0.14 * u[15]) + 0.10 * light
    return _colour(lightness, 0.12 + 0.06 * u[16], u[4] + 0.5 + (u[14] - 0.5) * 0.6 + 0.03 * light)


def _is_dark(u: tuple[Tensor, ...]) -> Tensor:
    return u[5] < 0.35


def _colour(lightness: Tensor, chroma: Tensor, hue: Tensor) -> Tensor:
    """Red, green and blue light (n, 3, h, w) of a colour in OKLCH (Ottosson 2020): lightness, chroma, hue in turns.

    In these coordinates colours of one lightness look equally light, which those of one "value" in HSV do not.
    """
    a, b = chroma * (2 * math.pi * hue).cos(), chroma * (2 * math.pi * hue).sin()
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b).pow(3)
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b).pow(3)
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b).pow(3)
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
    return torch.stack([red, green, blue], 1).clamp(0, 1)


def _to_bytes(light: Tensor) -> Tensor:
    """Light in [0, 1] as the bytes of an sRGB image, looked up in a table of 4,096 levels."""
    levels = torch.linspace(0, 1, 4096)
    srgb = torch.where(levels <= 0.0031308, 12.92 * levels, 1.055 * levels ** (1 / 2.4) - 0.055)
    return (255 * srgb).round().to(torch.uint8)[(4095 * light).round().int()]
