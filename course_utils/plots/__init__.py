"""Pictures of the course: data in, `Figure` out, nothing shown, nothing remembered.

Every function returns a matplotlib figure made without pyplot, so that it appears exactly once: as the value of a
cell, through `display`, or in an explorer. Its label is its alternative text (`figure.set_label("...")` to replace it).
The functions named `draw_...` draw into axes that you have, for a picture of several panels (`new_figure`).

| images | `image_grid`, `image_rows`, `manifold`, `animation`, `images_at` |
| numbers | `curves`, `bars`, `dots`, `histogram`, `heatmap`, `tradeoff`, `training_view` |
| several panels | `curve_panels`, `small_multiples`, `panels` |
| planes | `scatter_classes`, `class_maps`, `fields`, `field_and_bars`, `duel`, `two_sets` |
| diagrams | `network`, `wiring`, `triangle` |

Colours are Petroff's ten, chosen to be told apart by colour-blind readers (arXiv:2107.02270).

>>> import torch
>>> image_grid(torch.zeros(12, 1, 28, 28), title="Twelve grey squares")
[picture] Twelve grey squares. Grid of 12 images
"""

from .canvas import COLOURS, DIVERGING, Figure, alt_text, as_html, new_figure, png, style
from .charts import bars, curves, draw_curves, histogram, tradeoff, training_view
from .comparing import dots, small_multiples
from .diagrams import network, triangle, wiring
from .images import animation, draw_images, image_grid, image_rows, manifold
from .planes import class_maps, draw_field, draw_scatter, duel, fields, heatmap, panels, scatter_classes, two_sets
from .views import curve_panels, field_and_bars, images_at

__all__ = [
    "COLOURS",
    "DIVERGING",
    "Figure",
    "alt_text",
    "animation",
    "as_html",
    "bars",
    "class_maps",
    "curve_panels",
    "curves",
    "dots",
    "draw_curves",
    "draw_field",
    "draw_images",
    "draw_scatter",
    "duel",
    "field_and_bars",
    "fields",
    "heatmap",
    "histogram",
    "image_grid",
    "image_rows",
    "images_at",
    "manifold",
    "network",
    "new_figure",
    "panels",
    "png",
    "scatter_classes",
    "small_multiples",
    "style",
    "tradeoff",
    "training_view",
    "triangle",
    "two_sets",
    "wiring",
]
