"""What notebook 04 builds by hand is what the library computes, weight for weight."""

import masters
import matplotlib
import pytest
import torch
from torch.nn import functional as F

from course_utils import plots
from course_utils.models import unet as library
from lessons.answers import right


@pytest.fixture(scope="module")
def notebook() -> dict:
    return masters.definitions("04")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stirred(module: torch.nn.Module) -> torch.nn.Module:
    """No weight is 0 any more, so that every road shows."""
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng(index)))
    return module


def test_time_embedding(notebook):
    for t in (torch.tensor([0, 3, 1000]), torch.tensor([0.5, 999.0]), torch.tensor([7.0], dtype=torch.float64)):
        ours, theirs = notebook["sinusoidal_embedding"](t, 64), library.sinusoidal_embedding(t, 64)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        assert ours.dtype == theirs.dtype


def test_group_norm_is_the_layers(notebook):
    x = torch.randn(3, 48, 5, 7, generator=rng())
    norm = library.group_norm(48)
    torch.testing.assert_close(notebook["group_normalise"](x, norm.num_groups), norm(x), rtol=1e-4, atol=1e-5)


def test_scale_shift(notebook):
    h, condition = torch.randn(2, 6, 3, 4, generator=rng()), torch.randn(2, 12, generator=rng(1))
    torch.testing.assert_close(notebook["scale_shift"](h, condition), library.scale_shift(h, condition))


@pytest.mark.parametrize("name", ["ResidualBlock", "ConvNeXtBlock"])
@pytest.mark.parametrize("out_channels", [8, 12])
def test_blocks(notebook, name, out_channels):
    theirs = stirred(getattr(library, name)(8, out_channels, 5))
    ours = notebook[name](8, out_channels, 5)
    ours.load_state_dict(theirs.state_dict())  # the same parts under the same names
    x, e = torch.randn(2, 8, 5, 7, generator=rng()), torch.randn(2, 5, generator=rng(1))
    torch.testing.assert_close(ours(x, e), theirs(x, e))


@pytest.mark.parametrize("name", ["Attention", "LinearAttention"])
@pytest.mark.parametrize(("channels", "heads"), [(64, None), (6, 3), (16, None)])
def test_attention(notebook, name, channels, heads):
    theirs = stirred(getattr(library, name)(channels, heads))
    ours = notebook[name](channels, heads)
    ours.load_state_dict(theirs.state_dict())
    assert ours.heads == theirs.heads
    x = torch.randn(2, channels, 3, 5, generator=rng())
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_the_mended_attention_is_the_layers(notebook):
    layer = stirred(library.Attention(8, heads=2))
    layer.norm = torch.nn.Identity()
    for part in (layer.qkv, layer.out):
        torch.nn.init.zeros_(part.bias)
    x = torch.randn(2, 8, 3, 5, generator=rng())
    ours = notebook["image_attention"](x, layer.qkv.weight[:, :, 0, 0], layer.out.weight[:, :, 0, 0], 2)
    torch.testing.assert_close(ours, layer(x), rtol=1e-4, atol=1e-5)


def test_pixels_into_channels_and_back(notebook):
    x = torch.randn(2, 3, 4, 6, generator=rng())
    assert torch.equal(F.pixel_shuffle(notebook["space_to_depth"](x, 2), 2), x)


SETTINGS = [
    {},
    {"widths": (8, 12, 16), "blocks": 2, "patch": 1},
    {"attention": None},
    {"block": "ConvNeXtBlock", "attention": "LinearAttention"},
]


def made(module, shape, settings):
    """A network of this module's (a notebook's or the library's) own parts."""
    get = module.get if isinstance(module, dict) else lambda name: getattr(module, name)
    parts = {key: get(value) if isinstance(value, str) else value for key, value in settings.items()}
    return get("UNet")(shape, **parts)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_network(notebook, settings):
    settings = {"widths": (16, 32)} | settings
    theirs, ours = made(library, (1, 8, 12), settings), made(notebook, (1, 8, 12), settings)
    ours.load_state_dict(stirred(theirs).state_dict())
    x, t = torch.randn(3, 1, 8, 12, generator=rng()), torch.tensor([1, 500, 1000])
    torch.testing.assert_close(ours(x, t), theirs(x, t), rtol=1e-4, atol=1e-4)


def test_the_network_starts_like_the_librarys(notebook):
    torch.manual_seed(0)
    ours = made(notebook, (1, 8, 8), {"widths": (16, 32)})
    torch.manual_seed(0)
    theirs = made(library, (1, 8, 8), {"widths": (16, 32)})
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_the_forward_pass_that_is_quizzed_is_the_librarys():
    model = stirred(library.UNet((2, 8, 12), widths=(6, 8), blocks=2))
    x, t = torch.randn(2, 2, 8, 12, generator=rng()), torch.tensor([3, 700])
    torch.testing.assert_close(right("unet/forward")(model, x, model.embed(t, None)), model(x, t))


def test_ablations_do_what_they_say(notebook):
    shape, widths = (1, 8, 12), (8, 12)
    x, t = torch.randn(2, *shape, generator=rng()), torch.tensor([1, 900])
    full = stirred(notebook["UNet"](shape, widths))
    blind, narrow = notebook["NoTime"](shape, widths), notebook["NoSkips"](shape, widths)
    for model in (blind, narrow):
        model.load_state_dict(full.state_dict())
    assert not torch.allclose(full(x, t), full(x, t.flip(0)))
    assert torch.equal(blind(x, t), blind(x, t.flip(0)))  # deaf to t ...
    assert torch.equal(blind(x, t), full(x, torch.tensor([500, 500])))  # ... and otherwise the same network
    kept = {}
    for model, name in ((full, "full"), (narrow, "narrow")):
        h = torch.randn(2, 8, 2, 3, generator=rng(1))
        a, b = (model.join(h, torch.full_like(h, value)) for value in (1.0, 2.0))
        kept[name] = not torch.equal(a, b)
    assert kept == {"full": True, "narrow": False}


def test_non_local_means_is_attention(notebook):
    """q·k/√d of `nearness` is minus sharpness times the squared distance of patches."""
    image = torch.rand(1, 1, 6, 8, generator=rng())
    q, k = notebook["nearness"](image, 0.7)
    p = notebook["patches"](image)[0, 0]
    torch.testing.assert_close((q @ k.mT / q.shape[-1] ** 0.5)[0, 0], -0.7 * torch.cdist(p, p) ** 2, rtol=0, atol=1e-4)


def test_side_of(notebook):
    plane = torch.zeros(9, 9)
    plane[4, 4] = 8.0
    plane[4, 7] = 2.0
    assert notebook["side_of"](plane, 0.8) == 1 and notebook["side_of"](plane, 0.9) == 7


# ------------------------------------------------------------------------------------------------- its pictures


def rendered(figure) -> bool:
    return plots.png(figure)[:4] == b"\x89PNG"


def test_panels():
    maps = {"image": torch.zeros(1, 4, 6), "map": torch.randn(4, 6, generator=rng()), "flat": torch.zeros(4, 6)}
    for options in ({}, {"shared": True, "unit": "weight"}, {"diverging": False, "mark": {"map": (1, 2)}}):
        figure = plots.panels(maps, title="Three", **options)
        assert rendered(figure) and "image, map, flat" in plots.alt_text(figure)
    assert len(plots.panels({str(k): torch.eye(3) for k in range(8)}, title="Eight").axes) == 12


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        ({"a": torch.zeros(2, 3, 4)}, {}, "expected a plane"),
        ({"a": torch.full((2, 2), float("nan"))}, {}, "finite"),
        ({"a": torch.zeros(2, 2)}, {"mark": {"b": (0, 0)}}, "mark"),
    ],
)
def test_panels_errors(maps, options, message):
    with pytest.raises(ValueError, match=message):
        plots.panels(maps, title="", **options)


def test_network_is_drawn_to_scale():
    boxes = [("in", (1, 8, 12)), ("deep", (16, 4, 6)), ("out", (1, 8, 12))]
    figure = plots.network(boxes, [(0, 2)], title="U")
    assert rendered(figure)
    rectangles = [p for p in figure.axes[0].patches if isinstance(p, matplotlib.patches.Rectangle)]
    heights = [r.get_height() for r in rectangles]
    assert heights[0] == heights[2] == pytest.approx(2 * heights[1])
    assert rectangles[1].get_width() > rectangles[0].get_width()
    assert rectangles[1].get_y() + heights[1] < rectangles[0].get_y()
    for wrong in ([("a", (1, 8))], [("a", (0, 8, 8))], []):
        with pytest.raises(ValueError, match="boxes"):
            plots.network(wrong, [], title="")
    with pytest.raises(ValueError, match="skips"):
        plots.network(boxes, [(0, 3)], title="")
