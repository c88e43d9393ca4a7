"""Pictures: what is drawn, what it says to readers who don't see it, and what wrong input is told."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from course_utils import plots
from course_utils.plots.canvas import WIDTH

CLASSES = ("cat", "dog", "fish")


def images(n=6, c=1, h=12, w=10, seed=0):
    return torch.rand(n, c, h, w, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def points(n=30, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)), torch.arange(n) % len(CLASSES)


Z, LABELS = points()
LINE = {"a line": ([1, 2, 3], [1.0, 4.0, 9.0])}
PATHS = {
    "guided": {"w = 1": (0.9, 0.8, 0.01, 0.02), "w = 5": (0.7, 0.99, 0.03, 0.01)},
    "led": {"_s = 1": (0.6, 0.5, 0.02, 0.02)},
}
FIGURES = {
    "image_grid": lambda: plots.image_grid(images(), title="T", labels=list("abcdef")),
    "image_grid colour": lambda: plots.image_grid(images(c=3), title="T", columns=4),
    "image_rows": lambda: plots.image_rows({"one": images(), "two": images(4)}, title="T", labels=range(6)),
    "manifold": lambda: plots.manifold(images(6).reshape(2, 3, 1, 12, 10), (-1, 1, -2, 2), "T"),
    "curves": lambda: plots.curves(LINE, title="T", x_label="x", y_label="y", log_x=True, log_y=True, mark={"m": 2}),
    "scatter_classes": lambda: plots.scatter_classes(Z, LABELS, CLASSES, title="T", mark=(0, 0)),
    "bars": lambda: plots.bars({"a": 1.0, "b": -2.0}, title="T", y_label="nats", errors={"a": 0.1}),
    "bars grouped": lambda: plots.bars({"p": {"a": 1.0, "b": 2.0}, "q": {"a": 3.0}}, title="T", y_label="nats"),
    "dots": lambda: plots.dots(
        {"a": [1.0, 2.0, 3.0], "b": [0.5, 4.0]}, title="T", x_label="d²", mark={"m": 2}, log=True
    ),
    "tradeoff": lambda: plots.tradeoff(PATHS, title="T", x_label="coverage", y_label="accuracy", mark={"real": (1, 1)}),
    "histogram": lambda: plots.histogram({"z": Z, "w": 2 * Z}, title="T", x_label="value", overlay=LINE),
    "triangle": lambda: plots.triangle("abc", {"in the middle": (1, 1, 1), "one, only": (0, 2, 0)}, title="T"),
    "heatmap": lambda: plots.heatmap(Z[:4], title="T", x_label="x", y_label="y", unit="nats"),
}
EXTENT = (-2.0, 4.0, -1.0, 1.0)


@pytest.fixture(params=FIGURES, ids=str)
def figure(request):
    return FIGURES[request.param]()


def pixels(figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(plots.png(figure))).convert("RGB"))


# ------------------------------------------------------------------------------------------------------- every picture


def test_is_a_figure_that_pyplot_does_not_know(figure):
    import matplotlib.pyplot as plt

    assert isinstance(figure, Figure)
    assert plt.get_fignums() == [], "a figure made through pyplot is shown twice"


def test_has_a_title_and_alternative_text_that_says_more(figure):
    alt = plots.alt_text(figure)
    assert figure.axes[0].get_title(loc="left") == "T"
    assert alt.startswith("T. ") and len(alt) > 10
    assert alt in repr(figure)


def test_is_readable_from_the_back_of_the_room(figure):
    """No text below 11 points, and no wider than a notebook's column, at the size it is shown."""
    figure.canvas.draw()
    texts = [t for t in figure.findobj(matplotlib.text.Text) if t.get_text().strip() and t.get_visible()]
    assert min(t.get_fontsize() for t in texts) >= 11
    assert figure.get_size_inches()[0] <= WIDTH + 0.25


def test_nothing_is_cut_off(figure):
    """Text lies inside the figure, with a pixel of tolerance."""
    figure.canvas.draw()
    width, height = figure.bbox.size
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_text().strip() and text.get_visible():
            box = text.get_window_extent()
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside or text.get_clip_on() or not text.get_in_layout(), (
                f"{text.get_text()!r} at {box} of {width, height}"
            )


class Shown(HTMLParser):
    """What a page shows of a figure: the attributes of its image, and the image."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.feed(page)
        kind, self.data = self.attributes["src"].split(";base64,")
        self.kind = kind.removeprefix("data:image/")

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            assert not hasattr(self, "attributes"), "one image, no more"
            self.attributes = dict(attributes)

    @property
    def image(self):
        return Image.open(io.BytesIO(base64.b64decode(self.data)))


def test_on_a_page_a_figure_is_crisp_has_its_size_in_inches_and_its_alternative_text(figure):
    shown = Shown(plots.as_html(figure))
    width, height = shown.image.size
    assert width / int(shown.attributes["width"]) == pytest.approx(1.5, abs=0.01)
    assert height / width == pytest.approx(np.divide(*figure.get_size_inches()[::-1]), abs=0.01)
    assert int(shown.attributes["width"]) <= 800
    assert shown.attributes["alt"] == plots.alt_text(figure)


def test_alternative_text_can_hold_anything():
    figure = plots.image_grid(images(2), title='"<b>Less</b>" & more')
    assert Shown(plots.as_html(figure)).attributes["alt"] == '"<b>Less</b>" & more. Grid of 2 images'


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)
def test_what_a_page_shows_is_what_was_drawn(make):
    """Quickly, or in fewer colours, of which none is far from what was drawn."""
    drawn = pixels(make()).astype(int)
    for quick, near in ((True, 0.0), (False, 0.1)):
        shown = np.asarray(Shown(plots.as_html(make(), quick)).image.convert("RGB")).astype(int)
        assert shown.shape == drawn.shape and np.abs(shown - drawn).mean() <= near


def test_photographs_keep_their_colours():
    """Sixty colours of noise would not fit into a palette of 256."""
    figure = plots.image_grid(torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)))
    shown = np.asarray(Shown(plots.as_html(figure)).image.convert("RGB"))
    assert np.array_equal(shown, pixels(figure))


@pytest.mark.parametrize(
    ("plain", "set_as"),
    [
        ("seen: x_t", "seen: $x_t$"),
        ("x_1 and ε_t", "$x_1$ and $ε_t$"),
        ("guess $\\hat x_0$", "guess $\\hat x_0$"),
        ("alpha_bar, my_x, x_test, d_model", "alpha_bar, my_x, x_test, d_model"),
    ],
)
def test_indices_are_set_as_such_wherever_they_are_written(plain, set_as):
    rows = plots.image_rows({plain: images()}, title=plain)
    figure, axes = plots.new_figure()
    axes.plot([0, 1], label=plain)
    axes.set(xlabel=plain)
    axes.legend()
    plots.png(rows), plots.png(figure)
    assert rows.axes[0].get_title(loc="left") == set_as == axes.get_xlabel()
    assert axes.get_legend().get_texts()[0].get_text() == set_as
    assert " ".join(rows.axes[0].get_yticklabels()[0].get_text().split()) == set_as


def test_alternative_text_is_free_of_latex():
    figure = plots.image_rows({"$x_t$": images(), "guess $\\hat x_0$, $x_{t-1}$": images()}, title="Rows")
    assert plots.alt_text(figure) == "Rows. Rows of images: x_t, guess x\u0302_0, x_t-1"


def test_a_grey_figure_has_one_channel():
    assert Shown(plots.as_html(plots.image_grid(images(2), title="Grey"))).image.mode == "L"


def test_only_what_is_drawn_is_turned_over_in_the_dark():
    """An image in negative would be another image."""
    looks = {name: Shown(plots.as_html(make())).attributes["class"] for name, make in FIGURES.items()}
    assert {name for name, look in looks.items() if "course-drawing" in look} >= {"curves", "bars", "histogram"}
    assert not any("course-drawing" in looks[name] for name in looks if "image" in name or "manifold" in name)
    assert all("course-figure" in look for look in looks.values())


def test_same_input_same_picture():
    for make in FIGURES.values():
        assert np.array_equal(pixels(make()), pixels(make()))


def test_settings_of_the_reader_do_not_change_our_pictures_and_ours_not_theirs():
    before = pixels(FIGURES["curves"]())
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "axes.titlelocation": "center"}):
        assert np.array_equal(pixels(FIGURES["curves"]()), before)
        assert matplotlib.rcParams["font.size"] == 30


# ------------------------------------------------------------------------------------------------------ what is drawn


def shown(figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def test_a_grid_holds_each_image_at_its_place_with_black_at_minus_one_and_white_at_one():
    x = torch.stack([torch.full((1, 12, 10), v) for v in (-1.0, 0.0, 1.0, 5.0)])
    canvas = shown(plots.image_grid(x, columns=2))
    assert canvas[0, 0] == 0 and canvas[0, -1] == 0.5 and canvas[-1, 0] == 1
    assert canvas[-1, -1] == 1, "values beyond the range are clipped, not wrapped"
    assert figure_limits(plots.image_grid(x)) == (0, 1)


def figure_limits(figure):
    return figure.axes[0].images[0].get_clim()


def test_a_non_square_image_is_neither_turned_nor_mirrored():
    x = images(1)
    assert np.allclose(shown(plots.image_grid(x)), (x[0, 0] + 1) / 2)


def test_colour_channels_keep_their_order():
    x = torch.full((1, 3, 4, 4), -1.0)
    x[:, 0] = 1
    assert np.allclose(shown(plots.image_grid(x)), [1, 0, 0])


def test_captions_are_drawn_in_order():
    texts = [t.get_text() for t in plots.image_grid(images(), labels=[f"n{i}" for i in range(6)]).axes[0].texts]
    assert texts == [f"n{i}" for i in range(6)]


@pytest.mark.parametrize("n", [1, 2, 7, 10, 11, 60, 100])
def test_a_grid_of_any_number_fits_the_page(n):
    assert plots.image_grid(images(n, h=8, w=8)).get_size_inches()[0] <= WIDTH + 0.01


def test_rows_keep_their_names_and_a_short_row_ends_early():
    figure = plots.image_rows({"first": images(3), "second": -torch.ones(1, 1, 12, 10)})
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["first", "second"]
    canvas = shown(figure)
    assert canvas[-1, 0] == 0 and canvas[-1, -1] == 1


def test_manifold_draws_the_first_row_at_the_bottom_and_points_at_image_centres():
    decoded = -torch.ones(2, 3, 1, 4, 4)
    decoded[0, 0] = 1  # lowest z₂, lowest z₁
    figure = plots.manifold(decoded, (0, 2, 0, 1), "T")
    canvas = shown(figure)
    assert canvas[-1, 0] == 1 and canvas[0, 0] == 0
    left, right, bottom, top = figure.axes[0].images[0].get_extent()
    assert (left, right, bottom, top) == (-0.5, 2.5, -0.5, 1.5), (
        "three images between -0.5 and 2.5 are centred on 0, 1, 2"
    )


def test_curves_draw_what_they_are_given_band_and_marks_included():
    series = {"a": ([0, 1, 2], [3, 4, 5]), "b": (torch.arange(3), torch.ones(3))}
    figure = plots.curves(
        series,
        title="T",
        x_label="x",
        y_label="y",
        band={"a": ([2, 3, 4], [4, 5, 6])},
        mark={"p": (1, 2), "level": (None, 4)},
    )
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[0, 3], [1, 4], [2, 5]]
    assert axes.lines[2].get_xydata().tolist() == [[1, 2]] and axes.lines[3].get_ydata() == [4.0, 4.0]
    low, high = axes.collections[0].get_datalim(axes.transData).intervaly
    assert (low, high) == (2, 6)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a", "b", "p", "level"]


def test_scatter_colours_by_class_and_lists_every_class():
    figure = plots.scatter_classes(Z, LABELS, CLASSES, title="T")
    (axes,) = figure.axes
    for k, dots in enumerate(axes.collections):
        assert np.allclose(dots.get_offsets(), Z[k == LABELS])
        assert matplotlib.colors.to_hex(dots.get_facecolor()[0]) == plots.COLOURS[k]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == list(CLASSES)


def test_each_class_has_a_map_of_its_own_over_all_points():
    figure = plots.class_maps(Z, LABELS, CLASSES, title="T")
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == list(CLASSES)
    for k, axes in enumerate(shown):
        everybody, own = axes.collections
        assert np.allclose(everybody.get_offsets(), Z) and np.allclose(own.get_offsets(), Z[k == LABELS])
        assert axes.get_xlim() == shown[0].get_xlim() and axes.get_ylim() == shown[0].get_ylim()


def test_a_far_point_does_not_leave_the_others_a_corner():
    far = torch.cat([torch.randn(500, 2), torch.tensor([[1000.0, 0.0]])])
    axes = plots.class_maps(far, torch.zeros(501).long(), ("all",), title="T").axes[0]
    assert axes.get_xlim()[1] < 10


def test_wires_join_what_a_convolution_joins():
    down, up = plots.wiring(4, kernel=4, stride=2, padding=1, title="T").axes
    assert (down.get_title(loc="left"), up.get_title(loc="left")) == ("convolution: 8 → 4", "transposed: 4 → 8")
    layer = torch.nn.Conv1d(1, 1, 4, 2, 1, bias=False)
    torch.nn.init.ones_(layer.weight)
    joined = layer(torch.eye(8)[:, None])[:, 0].T  # (4, 8): which of the eight each of the four sees
    middles = down.collections[1].get_offsets()[:, 0].tolist()
    for axes in (down, up):
        wires = [line.get_xdata().tolist() for line in axes.lines if line.get_linestyle() == "-"]
        assert sorted((middles.index(b), int(a)) for a, b in wires) == [tuple(p) for p in joined.nonzero().tolist()]
    with pytest.raises(ValueError, match="small"):
        plots.wiring(0, kernel=4, stride=2, padding=1, title="T")


def test_a_map_may_have_two_scales():
    figure, axes = plots.new_figure(4, 4)
    plots.draw_scatter(axes, Z, LABELS, CLASSES, equal=False)
    assert axes.get_aspect() == "auto"


def test_ellipses_are_two_standard_deviations_of_each_point_in_its_colour():
    ellipses = (Z, torch.tensor([[1.0, 0.5]] * len(Z)))
    (axes,) = plots.scatter_classes(Z, LABELS, CLASSES, title="T", ellipses=ellipses).axes
    extents = [ellipse.get_extents().transformed(axes.transData.inverted()) for ellipse in axes.patches]
    assert [(round(e.width, 3), round(e.height, 3)) for e in extents] == [(4, 2)] * len(Z)
    assert np.allclose([ellipse.get_center() for ellipse in axes.patches], Z)
    colours = [matplotlib.colors.to_hex(ellipse.get_edgecolor()) for ellipse in axes.patches]
    assert colours == [plots.COLOURS[k] for k in LABELS]


def test_bars_have_their_heights_and_say_their_values():
    figure = plots.bars({"a": 1.0, "b": -2.5}, title="T", y_label="nats")
    assert [bar.get_height() for bar in figure.axes[0].patches] == [1.0, -2.5]
    assert [t.get_text() for t in figure.axes[0].texts] == ["1", "-2.5"]
    assert "a 1, b -2.5" in plots.alt_text(figure)


def test_histogram_has_area_one():
    figure = plots.histogram({"z": Z}, title="T", x_label="value")
    assert sum(bar.get_height() * bar.get_width() for bar in figure.axes[0].patches) == pytest.approx(1)


def test_a_heatmap_is_white_at_its_centre_and_counts_its_columns():
    (axes, _) = plots.heatmap([[0.5, 1.0, 3.0]], title="T", centre=1, x=[10, 20, 30]).axes
    (drawn,) = axes.images
    assert drawn.get_clim() == (-1, 3) and drawn.get_cmap().name == plots.DIVERGING
    assert drawn.get_extent()[:2] == [5, 35]
    assert all(channel > 0.95 for channel in drawn.cmap(drawn.norm(1.0))[:3])


def test_heatmap_draws_the_first_row_on_top():
    (axes, _) = plots.heatmap([[1.0, -3.0]], title="T").axes
    assert axes.images[0].get_array().tolist() == [[1.0, -3.0]] and axes.images[0].get_clim() == (-3, 1)
    assert axes.get_ylim() == (0.5, -0.5)


def test_words_in_a_triangle_stand_out():
    """Contrast of at least 4.5 (WCAG AA) against the box they stand in."""

    def luminance(colour):
        channels = [
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(colour)
        ]
        return float(np.dot(channels, [0.2126, 0.7152, 0.0722]))

    members = {f"member {k}": (1, k, 1) for k in range(6)}
    (axes,) = plots.triangle("abc", members, title="T").axes
    for text in axes.texts[3:]:
        a, b = sorted([luminance(text.get_color()), luminance(text.get_bbox_patch().get_facecolor())])
        assert (b + 0.05) / (a + 0.05) >= 4.5, f"{text.get_color()} in the box of {text.get_text()}"


def test_a_triangle_of_what_was_measured_shows_every_time():
    members = {"twice\n8 ms": [(1, 1, 0), (0, 3, 0)], "once": (0, 0, 2)}
    figure = plots.triangle("abc", members, title="T")
    (axes,) = figure.axes
    twice, once = (marks.get_offsets() for marks in axes.collections)
    assert np.allclose(twice, [(-0.475, 0.25), (-0.95, -0.5)]) and np.allclose(once, [(0.95, -0.5)])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(members)
    assert "twice, 8 ms (0.5, 2, 0), once (0, 0, 2)" in plots.alt_text(figure)
    figure.draw_without_rendering()
    legend = axes.get_legend().get_window_extent()
    assert legend.x1 <= figure.bbox.x1 and legend.x0 > axes.transData.transform((0.5, 0.25))[0]  # nothing is covered


def test_triangle_puts_a_member_where_its_shares_pull_it():
    figure = plots.triangle("abc", {"middle": (1, 1, 1), "edge": (2, 2, 0), "corner": (0, 0, 5)}, title="T")
    at = {text.get_text(): text.xy for text in figure.axes[0].texts}
    a, b, c = (np.array(at[name]) for name in "abc")
    assert np.allclose(at["middle"], (a + b + c) / 3)
    assert np.allclose(at["edge"], (a + b) / 2)
    assert np.allclose(at["corner"], c)


def test_a_field_points_where_it_is_told_and_each_arrow_stands_in_its_cell():
    arrows = torch.zeros(2, 3, 2)
    arrows[0, 2] = torch.tensor([0.0, -4.0])  # bottom row, last column: downwards
    arrows[1, 0] = torch.tensor([1.0, 0.0])
    figure = plots.fields({"one": arrows, "two": 2 * arrows}, EXTENT, title="T", density={"one": torch.rand(4, 6)})
    assert figure.get_suptitle() == "T" and "one, two" in plots.alt_text(figure)
    (quiver,) = (c for c in figure.axes[0].collections if hasattr(c, "U"))
    np.testing.assert_allclose(quiver.get_offsets()[2], [3.0, -0.5])
    u, v = quiver.U, quiver.V
    assert u[2] == 0 and v[2] == pytest.approx(-0.92)  # the longest arrow fills its cell, 2 wide and 1 high
    assert u[3] == pytest.approx(0.46) and v[3] == 0  # a quarter of the length is drawn half as long


def test_a_duel_shows_who_is_real_and_where_the_other_is_undecided():
    real, fake = torch.tensor([[1.0, 0.5], [0.0, 1.0]]), torch.tensor([[-1.0, -0.5]])
    said = torch.linspace(0, 1, 5).repeat(3, 1)  # rises to the right, ½ in the middle column
    figure = plots.duel(real, fake, said, (-2, 2, -2, 2), arrows=(fake, torch.tensor([[0.5, 0.0]])), title="T")
    axes, scale = figure.axes
    assert [np.allclose(line.get_xydata(), points) for line, points in zip(axes.lines, (real, fake))] == [True, True]
    assert axes.lines[0].get_marker() != axes.lines[1].get_marker()  # told apart without colour
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["real", "generated"]
    (shade,) = axes.images
    assert shade.get_clim() == (0, 1) and shade.origin == "lower" and "D" in scale.get_ylabel()
    (quiver,) = (c for c in axes.collections if hasattr(c, "U"))
    assert (quiver.U.item(), quiver.V.item()) == (0.5, 0)
    half = next(c for c in axes.collections if not hasattr(c, "U"))
    assert np.allclose(half.get_paths()[0].vertices[:, 0], 0)


def test_two_sets_stand_over_their_measures():
    real, near, far = torch.zeros(3, 2), torch.full((2, 2), 0.5), torch.tensor([[1.5, -1.0]])
    measures = {"near": {"precision": 1.0, "recall": 0.25}, "far": {"precision": 0.0, "recall": 0.75}}
    ideal = {"precision": 0.9, "recall": 0.8}
    figure = plots.two_sets({"near": (real, near), "far": (real, far)}, measures, (-2, 2, -1, 1), title="T", mark=ideal)
    planes, bars = figure.axes[:2], figure.axes[2:]
    for axes, generated in zip(planes, (near, far)):
        assert [line.get_marker() for line in axes.lines] == ["o", "x"]  # told apart without colour
        assert np.allclose(axes.lines[0].get_xydata(), real) and np.allclose(axes.lines[1].get_xydata(), generated)
        assert axes.get_xlim() == (-2, 2) and axes.get_ylim() == (-1, 1)
    for axes, of in zip(bars, measures.values()):
        assert [bar.get_width() for bar in axes.patches] == list(of.values())
        assert [text.get_text() for text in axes.texts] == [f"{value:.2f}" for value in of.values()]
        assert list(axes.lines[0].get_xdata()) == list(ideal.values())
        assert axes.yaxis_inverted()  # the first measure on top
    assert [label.get_text() for label in bars[0].get_yticklabels()] == ["precision", "recall"]
    plane, beside = plots.two_sets({"far": (real, far)}, {"far": ideal}, (-2, 2, -1, 1), title="T").axes
    assert plane.get_subplotspec().rowspan == beside.get_subplotspec().rowspan


def test_a_look_at_a_training_keeps_its_axis_and_says_its_unit():
    """The thick line is a running mean over a thirtieth of the run, of those steps that there are."""
    losses = [1.0, 0.5, 0.25, 0.125]
    figure = plots.training_view(losses, images(10), title="Step 4 of 60", steps=60, y_label="loss (per pixel)")
    axes, strip = figure.axes
    raw, mean = (line.get_ydata() for line in axes.get_lines())
    assert axes.get_xlim() == (0, 60) and axes.get_ylabel() == "loss (per pixel)" and strip.get_images()
    np.testing.assert_allclose(raw, losses)
    np.testing.assert_allclose(mean, [1.0, 0.75, 0.375, 0.1875])
    assert plots.alt_text(figure) == "Step 4 of 60. Loss so far, now 0.188, and 10 samples"


def test_palette_can_be_told_apart_with_every_colour_vision():
    """CIE Lab distance between any two of the first six, seen with red, green or blue blindness (Machado 2009)."""
    simulate = {
        "none": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    rgb = np.array([matplotlib.colors.to_rgb(c) for c in plots.COLOURS[:6]])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for vision, matrix in simulate.items():
        xyz = np.clip(linear @ np.transpose(matrix), 0, 1) @ np.array(
            [[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]]
        )
        f = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 1e-6))
        lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
        distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1e3 * np.eye(len(lab))
        assert distance.min() > 10, f"{vision}: {distance.min():.1f}"


# ---------------------------------------------------------------------------------------------------------- bad input

BAD = {
    "three axes": (
        lambda: plots.image_grid(torch.zeros(3, 28, 28)),
        r"expected \(n, c, h, w\), got shape \(3, 28, 28\)",
    ),
    "channels last": (
        lambda: plots.image_grid(torch.zeros(2, 28, 28, 3)),
        r"expected 1 \(grey\) or 3 \(colour\) channels",
    ),
    "bytes": (lambda: plots.image_grid(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)), r"x / 127.5 - 1"),
    "0 to 255": (
        lambda: plots.image_grid(torch.full((2, 1, 8, 8), 255.0)),
        r"expected values in \[-1, 1\], got 255 to 255",
    ),
    "nan": (lambda: plots.image_grid(torch.full((2, 1, 8, 8), torch.nan)), r"got 128 NaN or infinite of 128"),
    "no image": (lambda: plots.image_grid(torch.zeros(0, 1, 8, 8)), r"at least one value, got none"),
    "a list": (lambda: plots.image_grid([1, 2]), r"expected a tensor \(n, c, h, w\), got list"),
    "captions": (lambda: plots.image_grid(images(3), labels=["a"]), r"expected 3, one for each image, got 1"),
    "columns": (lambda: plots.image_grid(images(3), columns=0), r"columns: expected 1 or more, got 0"),
    "no rows": (lambda: plots.image_rows({}), r'expected a dictionary {"name": values}'),
    "row sizes": (lambda: plots.image_rows({"a": images(), "b": images(h=9)}), r"expected images of one size"),
    "extent": (lambda: plots.manifold(images(1)[None], (1, 0, 0, 1)), r"extent: expected \(low, high, low, high\)"),
    "lengths": (
        lambda: plots.curves({"a": ([1, 2], [1])}, title="", x_label="", y_label=""),
        r"one length, got shapes",
    ),
    "not a pair": (lambda: plots.curves({"a": 3}, title="", x_label="", y_label=""), r'"a": expected a pair'),
    "words": (
        lambda: plots.curves({"a": (["x"], [1])}, title="", x_label="", y_label=""),
        r"expected numbers, got list",
    ),
    "band": (
        lambda: plots.curves(LINE, title="", x_label="", y_label="", band={"z": ([], [])}),
        r"expected names among",
    ),
    "z of 3": (
        lambda: plots.scatter_classes(torch.zeros(5, 3), torch.zeros(5), CLASSES, title=""),
        r"choose two columns",
    ),
    "labels": (lambda: plots.scatter_classes(Z, LABELS[:5], CLASSES, title=""), r"labels: expected \(30,\)"),
    "class 7": (
        lambda: plots.scatter_classes(Z, LABELS + 5, CLASSES, title=""),
        r"expected 0 to 2 for 3 classes, got 5 to 7",
    ),
    "ellipses": (
        lambda: plots.scatter_classes(Z, LABELS, CLASSES, title="", ellipses=(Z, Z[0])),
        r"ellipses: expected",
    ),
    "infinite bar": (lambda: plots.bars({"a": float("inf")}, title="", y_label=""), r"a: expected finite numbers"),
    "no values": (lambda: plots.histogram({}, title="", x_label=""), r'values: expected a dictionary {"name": values}'),
    "vector": (lambda: plots.heatmap([1, 2], title=""), r"matrix: expected \(rows, columns\), got shape \(2,\)"),
    "two corners": (lambda: plots.triangle("ab", {}, title=""), r"corners: expected three names, got 2"),
    "shares": (lambda: plots.triangle("abc", {"m": (0, 0, 0)}, title=""), r"'m': expected three shares of 0 or more"),
    "size": (lambda: plots.new_figure(0, 3), r"expected positive sizes, got width=0"),
    "arrows": (lambda: plots.fields({"a": Z}, EXTENT, title=""), r"arrows: expected \(rows, columns, 2\), got shape"),
    "stray density": (
        lambda: plots.fields({"a": torch.ones(2, 3, 2)}, EXTENT, title="", density={"b": Z}),
        r"density: expected names among \['a'\], got \['b'\]",
    ),
    "one frame": (lambda: plots.animation([images()], title=""), r"frames: expected two or more of one shape, got"),
    "frames": (lambda: plots.animation([images(), images(3)], title=""), r"frames: expected two or more of one shape"),
    "no time": (lambda: plots.animation([images()] * 2, title="", seconds=0), r"seconds: expected a positive number"),
    "field's extent": (
        lambda: plots.fields({"a": torch.ones(2, 3, 2)}, (1, 0, 0, 1), title=""),
        r"extent: expected \(low, high, low, high\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered_in_one_line(name):
    wrong, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------------- motion


@pytest.mark.parametrize("c", [1, 3])
def test_an_animation_shows_every_frame_and_rests_on_the_last(c):
    ends = torch.full((3, c, 12, 10), -1.0), torch.ones(3, c, 12, 10)
    trajectory_frames = plots.animation([ends[0], images(3, c), ends[1]], title="Up & <down>", columns=3, seconds=1)
    gif = Image.open(io.BytesIO(trajectory_frames.gif))
    assert gif.n_frames == 3 and gif.size == (32, 12)
    shown, durations = [], []
    for k in range(3):
        gif.seek(k)
        shown.append(np.asarray(gif.convert("RGB"))[:, :10])
        durations.append(gif.info["duration"])
    assert (shown[0] == 0).all() and (shown[2] == 255).all() and shown[1].std() > 20
    assert durations == [500, 500, 1500] and gif.info["loop"] == 0
    page = trajectory_frames._repr_html_()
    assert "Up &amp; &lt;down&gt;" in page and 'alt="Up &amp; &lt;down&gt;. Animation of 3 images in 3 frames"' in page
    assert 'width="128"' in page and repr(trajectory_frames).startswith("[animation] Up & <down>.")


def test_captions_stand_above_enlarged_images():
    frames = [images(4, h=10, w=10), images(4, h=10, w=10, seed=1)]
    plain, told = (plots.animation(frames, title="T", columns=4, captions=c) for c in (None, ["t = 5", "t = 0"]))
    gif = Image.open(io.BytesIO(told.gif))
    assert gif.size == told.size == (plain.size[0], plain.size[1] + 28) and gif.n_frames == 2
    shown = []
    for k in range(2):
        gif.seek(k)
        shown.append(np.asarray(gif.convert("L")).astype(int))
    band = [frame[:28] for frame in shown]
    assert all((line < 100).any() for line in band) and (band[0] != band[1]).any()  # text, and not the same
    tile = shown[0][28 : 28 + 40, :40].reshape(10, 4, 10, 4)
    assert (tile == tile[:, :1, :, :1]).all(), "each pixel is four by four"
    with pytest.raises(ValueError, match="labels: expected 2, one for each frame"):
        plots.animation(frames, title="T", captions=["only one"])


# --------------------------------------------------------------------------------------------------------- comparing


def test_dots_show_every_seed_their_mean_and_spread():
    figure = plots.dots({"a": [1.0, 2.0, 3.0], "b": [5.0, 5.0]}, title="T", x_label="d²", mark={"floor": 0.5})
    (axes,) = figure.axes
    seeds = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert seeds == [[[1, 0], [2, 0], [3, 0]], [[5, 1], [5, 1]]]
    (bar,) = axes.collections[0].get_segments()
    assert bar[:, 0].tolist() == [1, 3] and (bar[:, 1] == 0).all()  # 2 ± 1
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"] and axes.yaxis_inverted()
    assert "a 2.00 ± 1.00, b 5.00 ± 0.00" in plots.alt_text(figure)
    with pytest.raises(ValueError, match="a: expected two or more numbers, got 1"):
        plots.dots({"a": [1.0]}, title="T", x_label="x")


def test_small_multiples_share_their_axes_and_show_the_others_behind():
    panels = {"p": {"a": ([1, 2, 4], [5, 3, 2])}, "q": {"b": ([1, 2, 4], [8, 9, 1])}}
    band = {"q": {"b": ([7, 8, 1], [9, 10, 2])}}
    marks = {"floor": (None, 1)}
    figure = plots.small_multiples(
        panels, title="T", x_label="x", y_label="y", backdrop=True, band=band, mark=marks, log_y=True, ticks=[1, 2, 4]
    )
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    for axes, mine, other in ((first, "a", "b"), (second, "b", "a")):
        ys = {line.get_label(): line.get_ydata() for line in axes.lines}
        assert list(ys[mine]) == panels["p" if mine == "a" else "q"][mine][1]
        assert list(ys[f"_{other}"]) == panels["p" if other == "a" else "q"][other][1]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4"]
    colours = [next(line.get_color() for line in axes.lines if line.get_label() in "ab") for axes in (first, second)]
    assert colours == list(plots.COLOURS[:2])
    assert first.get_legend() is None
    assert [text.get_text() for text in second.get_legend().get_texts()] == ["b", "floor"]
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("p", "q")
    assert len(second.collections) == 1 and not first.collections
    three = {name: {name: ([1, 2], [1, 2])} for name in "uvw"}
    free = plots.small_multiples(three, title="T", x_label="x", y_label="y", columns=2, backdrop=True, mark=marks).axes[
        3
    ]
    assert [text.get_text() for text in free.get_legend().get_texts()] == ["floor"], "where a panel is free"
    with pytest.raises(ValueError, match="band"):
        plots.small_multiples(panels, title="T", x_label="x", y_label="y", band={"z": {}})


# --------------------------------------------------------------------------------------------------------- formatting


def test_formatter_shows_figures_with_alternative_text_even_after_pyplot():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        with matplotlib.rc_context():
            plots.style()
        figure = FIGURES["curves"]()
        for _ in range(2):
            data, metadata = shell.display_formatter.format(figure)
            assert set(data) == {"text/html", "text/plain"}, "once, not twice"
            assert Shown(data["text/html"]).attributes["alt"] == plots.alt_text(figure)
            assert data["text/plain"] == repr(figure)
            from IPython.core.pylabtools import select_figure_formats
            from matplotlib_inline.config import InlineBackend  # what a notebook does when somebody imports pyplot

            select_figure_formats(shell, {"png"}, **InlineBackend.instance(parent=shell).print_figure_kwargs)
    finally:
        InteractiveShell.clear_instance()


def test_style_is_for_figures_of_ones_own_too_and_needs_no_notebook():
    with matplotlib.rc_context({"font.size": 30}):
        plots.style()
        assert matplotlib.rcParams["font.size"] == 12


def test_without_a_label_the_titles_are_the_alternative_text():
    figure, axes = plots.new_figure(4, 3, columns=2)
    assert plots.alt_text(figure) == "figure with 2 panels"
    axes[0].set_title("Before")
    axes[1].set_title("After")
    assert plots.alt_text(figure) == "Before. After"


# ------------------------------------------------------------------------------------------------------ several panels


def test_curves_side_by_side_keep_their_colours_and_share_a_legend():
    series = {"a": ([0, 1, 2], [0, 1, 4]), "b": ([0, 1, 2], [3, 3, 3])}
    figure = plots.curve_panels(
        {"left": series, "right": {"b": series["b"]}},
        title="T",
        x_label={"left": "t", "right": "ln SNR"},
        y_label="y",
        colours={"b": plots.COLOURS[4]},
        points=["a"],
        dashed=["b"],
    )
    left, right = figure.axes
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == ["left", "right"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["t", "ln SNR"]
    assert (left.get_ylabel(), right.get_ylabel()) == ("y", "")
    assert [line.get_color() for line in left.lines] == [plots.COLOURS[0], plots.COLOURS[4]]
    assert right.lines[0].get_color() == plots.COLOURS[4]
    dots, dashes = left.lines
    assert dots.get_marker() == "o" and dots.get_linestyle() == "None"
    assert dashes.is_dashed() and dashes.get_zorder() > 2
    assert left.get_ylim() == right.get_ylim() and left.get_legend() is None
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert plots.alt_text(figure) == "T. Curves of y against t or ln SNR: left, right"


def test_curves_side_by_side_may_have_scales_of_their_own():
    panels = {"small": {"a": ([0, 1], [0, 1])}, "large": {"a": ([0, 1], [0, 1000])}}
    small, large = plots.curve_panels(panels, title="T", x_label="x", y_label="y", share_y=False).axes
    assert small.get_ylim()[1] < 2 and large.get_ylim()[1] > 900
    with pytest.raises(ValueError, match="points"):
        plots.curve_panels(panels, title="T", x_label="x", y_label="y", points=["b"])


def test_images_stand_over_their_histogram_and_their_place_on_the_chosen_curve():
    series = {"a": ([0, 1, 2], [4, 2, 0]), "b": ([0, 1, 2], [1, 1, 1])}
    bell = {"N(0, 1)": ([-1, 0, 1], [0.2, 0.4, 0.2])}
    figure = plots.images_at(images(12), series, "a", 0.5, title="T", x_label="t", y_label="y", overlay=bell)
    strip, histogram, curve = sorted(figure.axes, key=lambda axes: (-axes.get_position().y0, axes.get_position().x0))
    assert len(strip.images) == 1 and strip.get_title(loc="left") == "T"
    assert [line.get_label() for line in histogram.lines] == ["N(0, 1)"]
    chosen, place, other = curve.lines
    assert chosen.get_color() == plots.COLOURS[0] and other.get_color() not in plots.COLOURS
    assert place.get_xydata().tolist() == [[0.5, 3.0]]
    assert plots.alt_text(figure) == "T. 10 images over the histogram of their pixels, and y of a at t = 0.5"
    with pytest.raises(ValueError, match="chosen"):
        plots.images_at(images(), series, "c", 0.5, title="T", x_label="t", y_label="y")


def test_a_field_stands_beside_its_bars():
    arrows, places = np.ones((3, 4, 2)), torch.tensor([[0.0, 0.0], [2.0, 0.5]])
    marks = {"x": (1.0, 0.5), "guess": torch.tensor([[0.0, -0.5]])}
    figure = plots.field_and_bars(arrows, EXTENT, [0.25, 0.75], title="T", marks=marks, numbers=places)
    plane, bars = figure.axes
    assert (plane.get_xlabel(), plane.get_ylabel()) == ("x₁", "x₂")
    assert [line.get_xydata()[0].tolist() for line in plane.lines] == [[1.0, 0.5], [0.0, -0.5]]
    assert [(text.get_text(), text.get_position()) for text in plane.texts] == [("1", (0.0, 0.0)), ("2", (2.0, 0.5))]
    assert [bar.get_height() for bar in bars.patches] == [0.25, 0.75]
    assert plots.alt_text(figure) == "T. Field of arrows with x, guess, beside bars: 0.25, 0.75"


def test_the_axes_of_a_plane_are_named_where_they_end():
    four = {name: np.ones((2, 2, 2)) for name in "abcd"}
    figure = plots.fields(four, EXTENT, title="T", axis_names=("x₁", "x₂"))
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_xlabel() for axes in shown] == ["", "x₁", "x₁", "x₁"]
    assert [axes.get_ylabel() for axes in shown] == ["x₂", "", "", "x₂"]
    (axes,) = plots.scatter_classes(Z, LABELS, CLASSES, title="T", axis_names=("x₁", "x₂")).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x₁", "x₂")


def test_a_tradeoff_draws_points_in_order_with_their_bars_and_names():
    axes = plots.tradeoff(PATHS, title="T", x_label="coverage", y_label="accuracy").axes[0]
    first, second = axes.containers
    assert first[0].get_xydata().tolist() == [[0.9, 0.8], [0.7, 0.99]] and second[0].get_xydata().tolist() == [
        [0.6, 0.5]
    ]
    across, upright = (bars.get_segments() for bars in first[2])
    np.testing.assert_allclose(np.ptp(across[1], axis=0), (0.06, 0))
    np.testing.assert_allclose(np.ptp(upright[0], axis=0), (0, 0.04))
    assert first[0].get_color() != second[0].get_color()
    assert [text.get_text() for text in axes.texts] == ["w = 1", "w = 5"]
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["guided", "led"]
    with pytest.raises(ValueError, match="expected"):
        plots.tradeoff({"a": {"b": (1, 2, 3)}}, title="T", x_label="x", y_label="y")
