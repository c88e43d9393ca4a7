"""What notebook 04 builds by hand is what the library computes, weight for weight."""

import masters
import matplotlib
import pytest
import torch
from torch.nn import functional as F

from classroom.lessons.nb04 import filled
from course_utils import plots, weights
from course_utils.models import nonlocal_means, tracing
from course_utils.models import unet as library
from course_utils.pitfalls import unet as pitfalls
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


def agree(ours: torch.nn.Module, theirs: torch.nn.Module, *inputs: torch.Tensor) -> None:
    """Both compute the same, with the same weights in the layers of each kind, in the order in which they are used."""
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    ours, theirs = filled(ours, *inputs), filled(theirs, *inputs)
    torch.testing.assert_close(ours(*inputs), theirs(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ResidualBlock", "ConvNeXtBlock"])
@pytest.mark.parametrize("out_channels", [8, 12])
def test_blocks(notebook, name, out_channels):
    x, e = torch.randn(2, 8, 5, 7, generator=rng()), torch.randn(2, 5, generator=rng(1))
    agree(notebook[name](8, out_channels, 5), getattr(library, name)(8, out_channels, 5), x, e)


@pytest.mark.parametrize(("channels", "heads"), [(64, 2), (6, 3), (16, 1)])
def test_attention(notebook, channels, heads):
    x = torch.randn(2, channels, 3, 5, generator=rng())
    agree(notebook["Attention"](channels, heads), library.Attention(channels, heads), x)


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


@pytest.mark.parametrize(("widths", "patch"), [((32, 64), 2), ((8, 12, 16), 1), ((16,), 2)])
def test_the_network_is_the_librarys(notebook, widths, patch):
    x, t = torch.randn(3, 1, 8, 12, generator=rng()), torch.tensor([1, 500, 1000])
    theirs = library.UNet((1, 8, 12), widths=widths, patch=patch)
    agree(notebook["UNet"]((1, 8, 12), widths, patch), theirs, x, t)
    agree(right("unet/forward")((1, 8, 12), widths, patch), theirs, x, t)


def test_a_result_that_comes_in_again_is_found(notebook):
    x, t = torch.randn(2, 1, 8, 12, generator=rng()), torch.tensor([3, 700])
    for network in (notebook["UNet"]((1, 8, 12), (6, 8)), right("unet/forward")((1, 8, 12), (6, 8))):
        assert tracing.copies(network, x, t) == [("down.1", "up.0"), ("down.0", "up.1")]


def test_non_local_means_is_attention():
    """q·k/√d of `patch_queries` is minus sharpness times the squared distance of patches."""
    image = torch.rand(1, 1, 6, 8, generator=rng())
    q, k = nonlocal_means.patch_queries(image, 0.7)
    p = nonlocal_means.patches(image)[0]
    torch.testing.assert_close((q @ k.mT / q.shape[-1] ** 0.5)[0, 0], -0.7 * torch.cdist(p, p) ** 2, rtol=0, atol=1e-4)


def test_the_faulty_parts_show_their_symptom(notebook):
    image = torch.randn(1, 1, 12, 12, generator=rng())
    x, qkv, out = pitfalls.to_itself(image)
    for attend, seen in ((notebook["image_attention"], image), (pitfalls.image_attention, image.mT)):
        gathered = (attend(x, qkv, out, 1) - x)[:, :1]
        torch.testing.assert_close(gathered, seen, rtol=0, atol=1e-4)
    x, convs = torch.randn(2, 4, 5, 7, generator=rng()), torch.randn(2, 4, 4, 3, 3, generator=rng(1))
    e, step = torch.randn(2, 6, generator=rng(2)), torch.randn(4, 6, generator=rng(3))
    for block, hears in ((notebook["simple_block"], True), (pitfalls.simple_block, False)):
        assert torch.allclose(block(x, e, *convs, step), block(x, -e, *convs, step), atol=1e-4) != hears


def test_what_is_left_of_the_input(notebook):
    """1/√21 behind twenty pre-norm layers, 2⁻¹⁰ behind twenty post-norm layers."""
    x = torch.randn(128, 256, generator=rng())
    matrices = [torch.linalg.qr(torch.randn(256, 256, generator=rng(100 + k)))[0] for k in range(20)]
    for pre, expected in ((True, 21**-0.5), (False, 2**-10)):
        y = notebook["residual_stack"](
            x, [lambda h, m=m: h @ m for m in matrices], lambda h: F.layer_norm(h, h.shape[-1:]), pre
        )
        assert F.cosine_similarity(x.flatten(), y.flatten(), dim=0).item() == pytest.approx(expected, abs=0.03)


# ------------------------------------------------------------------------------------------------- the ablations

ABLATIONS = sorted((weights.SHIPPED / "ablations").glob("*.safetensors"))


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_an_ablated_network_is_what_its_name_says(path):
    denoiser = weights.load_denoiser(path)
    net, card = denoiser.model, denoiser.card
    assert path.with_suffix(".md").read_text() == weights.describe(path)
    losses = torch.tensor(list(card["on the test split"].values()))
    assert losses.shape == (3, len(card["at t"])) and bool((losses > 0).all())
    x, t = torch.randn(2, *net.shape, generator=rng()), torch.tensor([20, 900])
    assert torch.equal(net(x, t), net(x, t.flip(0))) == ("no-time" in path.stem)
    finest = net.up[-1][0]
    h = torch.randn(1, 2 * finest.conv2.out_channels, 4, 4, generator=rng(1))
    other = h.clone()
    other[:, finest.conv2.out_channels :] += 1 + torch.randn(other[:, finest.conv2.out_channels :].shape)
    e = torch.zeros(1, finest.condition.in_features)
    assert torch.equal(finest(h, e), finest(other, e)) == ("no-skips" in path.stem)
    assert isinstance(net.attention, torch.nn.Identity) == ("no-attention" in path.stem)
    bottom = net.middle.conv2.out_channels * 7 * 7
    assert bottom == (196 if "narrow" in path.stem else 1568)


def test_what_the_text_says_of_the_ablations():
    cards = {path.stem: weights.read_card(path) for path in ABLATIONS}
    loss = {name: torch.tensor(list(card["on the test split"].values())).mean(1) for name, card in cards.items()}
    rise = {name: values / loss["full"].mean() - 1 for name, values in loss.items()}
    for name in ("no-skips", "narrow", "no-time", "narrow-no-skips"):  # apart from all full ones
        assert rise[name].min() > rise["full"].max()
    assert rise["no-attention"].min() < rise["full"].max()  # no finding
    assert rise["no-skips"].mean() < 0.1 and rise["narrow"].mean() < 0.1 and rise["narrow-no-skips"].min() > 1.0
    grain = {name: torch.tensor(list(card["grain at t = 1000"].values())) for name, card in cards.items()}
    twice = grain["no-time"] / grain["full"]  # seed by seed
    assert twice.min() > 1.9 and twice.max() < 2.5 and grain["no-time"].min() > grain["full"].max()


def test_ablations_are_small():
    assert len(ABLATIONS) == 6 and sum(path.stat().st_size for path in ABLATIONS) < 1.2e6


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
