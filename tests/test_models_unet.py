"""The U-Net and its parts, each against something that doesn't know the code: formulas, loops, PyTorch's own layers."""

import inspect
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course_utils.models import tracing
from course_utils.models import unet as library
from course_utils.models.unet import Attention, ConvNeXtBlock, LinearAttention, ResidualBlock, UNet


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=dtype)


def stirred(module: nn.Module) -> nn.Module:
    """No weight is 0 any more, so that every road shows."""
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng(index)))
    return module


def plain(function):
    """The function as students call it, without the shape checks that are switched on while testing."""
    return inspect.unwrap(function)


# ------------------------------------------------------------------------------------------------- the step


@pytest.mark.equation("4.2")
@pytest.mark.parametrize("size", [2, 6, 64])
def test_sinusoidal_embedding_against_the_formula(size):
    steps = [0, 1, 37, 1000]
    ours = library.sinusoidal_embedding(torch.tensor(steps, dtype=torch.float64), size)
    n = size // 2
    for row, t in zip(ours, steps):
        angles = [t / 10_000 ** (k / n) for k in range(n)]
        wanted = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        torch.testing.assert_close(row, torch.tensor(wanted, dtype=torch.float64))


def test_sinusoidal_embedding_tells_all_steps_apart():
    waves = library.sinusoidal_embedding(torch.arange(1001), 64)
    assert waves.dtype == torch.float32 and waves.abs().max() <= 1
    assert torch.pdist(waves).min() > 0.1


@pytest.mark.parametrize("size", [0, 1, 7])
def test_sinusoidal_embedding_wants_an_even_size(size):
    with pytest.raises(ValueError, match="even size"):
        library.sinusoidal_embedding(torch.tensor([1]), size)


# ------------------------------------------------------------------------------------------------- norms and blocks


@pytest.mark.parametrize("channels", [1, 4, 8, 15, 16, 20, 28, 32, 33, 48, 56, 64, 96, 128])
def test_group_norm_divides_and_is_wide(channels):
    norm = library.group_norm(channels)
    assert channels % norm.num_groups == 0 and norm.num_channels == channels
    assert channels // norm.num_groups >= min(channels, 16)


@pytest.mark.equation("4.3")
def test_group_norm_against_the_formula():
    x, norm = 3 * randn(2, 32, 3, 5) + 1, library.group_norm(32)
    stirred(norm)
    y = norm(x)
    for image in range(2):
        for group in range(norm.num_groups):
            channels = slice(16 * group, 16 * (group + 1))
            part = x[image, channels].double()
            normal = (part - part.mean()) / (part.var(correction=0) + 1e-5).sqrt()
            wanted = normal * norm.weight[channels, None, None] + norm.bias[channels, None, None]
            torch.testing.assert_close(y[image, channels].double(), wanted.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.equation("4.4")
def test_scale_shift_channel_by_channel():
    h, condition = randn(2, 3, 4, 5), randn(2, 6, seed=1)
    result = library.scale_shift(h, condition)
    for i in range(2):
        for c in range(3):
            torch.testing.assert_close(result[i, c], h[i, c] * (1 + condition[i, c]) + condition[i, 3 + c])


@pytest.mark.equation("4.5")
@pytest.mark.parametrize("out_channels", [8, 5])
def test_residual_block_against_functions(out_channels):
    block = stirred(ResidualBlock(8, out_channels, 3))
    x, e = randn(2, 8, 5, 7), randn(2, 3, seed=1)
    p = dict(block.named_parameters())
    h = F.group_norm(x, 1, p["norm1.weight"], p["norm1.bias"])
    h = F.conv2d(h * torch.sigmoid(h), p["conv1.weight"], p["conv1.bias"], padding=1)
    h = F.group_norm(h, 1, p["norm2.weight"], p["norm2.bias"])
    s, b = (e @ p["condition.weight"].T + p["condition.bias"]).chunk(2, dim=1)
    h = (1 + s)[:, :, None, None] * h + b[:, :, None, None]
    h = F.conv2d(h * torch.sigmoid(h), p["conv2.weight"], p["conv2.bias"], padding=1)
    skip = x if out_channels == 8 else F.conv2d(x, p["skip.weight"], p["skip.bias"])
    torch.testing.assert_close(block(x, e), skip + h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [ResidualBlock, ConvNeXtBlock])
def test_blocks_begin_as_the_identity(kind):
    x, e = randn(2, 8, 5, 7), randn(2, 3)
    assert torch.equal(kind(8, 8, 3)(x, e), x)
    block = kind(8, 6, 3)
    torch.testing.assert_close(block(x, e), block.skip(x))


@pytest.mark.parametrize("kind", [ResidualBlock, ConvNeXtBlock])
def test_blocks_hear_the_embedding(kind):
    block = stirred(kind(8, 8, 3))
    x = randn(2, 8, 5, 7)
    assert (block(x, randn(2, 3)) - block(x, randn(2, 3, seed=1))).abs().max() > 1e-3


def test_convnext_block_against_functions():
    block = stirred(ConvNeXtBlock(6, 4, 3))
    x, e = randn(2, 6, 5, 9), randn(2, 3, seed=1)
    by_channel = [F.conv2d(x[:, c : c + 1], block.depthwise.weight[c : c + 1], padding=3) for c in range(6)]
    h = torch.cat(by_channel, 1) + block.depthwise.bias[:, None, None]
    h = (h - h.mean((1, 2, 3), keepdim=True)) / (h.var((1, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    h = h * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]
    h = block.narrow(F.gelu(block.widen(library.scale_shift(h, block.condition(e)))))
    torch.testing.assert_close(block(x, e), block.skip(x) + h, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------- attention


def one_by_one(layer: Attention, x: torch.Tensor) -> torch.Tensor:
    """Softmax attention, pixel by pixel and head by head."""
    b, c, h, w = x.shape
    d, mixed, gathered = c // layer.heads, layer.qkv(layer.norm(x)), torch.zeros_like(x)
    for image in range(b):
        for head in range(layer.heads):
            q, k, v = (mixed[image, part * c + head * d : part * c + (head + 1) * d] for part in range(3))
            for i in range(h):
                for j in range(w):
                    score = torch.stack([(q[:, i, j] * k[:, m, n]).sum() for m in range(h) for n in range(w)])
                    weight = (score / d**0.5).softmax(0)
                    values = torch.stack([v[:, m, n] for m in range(h) for n in range(w)])
                    gathered[image, head * d : (head + 1) * d, i, j] = weight @ values
    return x + layer.out(gathered)


@pytest.mark.equation("4.6")
@pytest.mark.parametrize("heads", [1, 2])
def test_attention_equals_a_naive_loop(heads):
    layer = stirred(Attention(8, heads))
    x = randn(2, 8, 3, 5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), one_by_one(layer, x), rtol=1e-4, atol=1e-5)


@pytest.mark.equation("4.9")
def test_linear_attention_equals_its_definition():
    q, k, v = randn(3, 2, 2, 7, 4, dtype=torch.float64)
    ours = LinearAttention(8, 2).gather(q, k, v)
    table = torch.zeros(2, 2, 7, 7, dtype=torch.float64)
    for i in range(7):
        for j in range(7):
            share = q[..., i, :].exp() / q[..., i, :].exp().sum(-1, keepdim=True)
            where = k[..., j, :].exp() / k.exp().sum(-2)
            table[..., i, j] = (share * where).sum(-1)
    assert table.min() > 0
    torch.testing.assert_close(table.sum(-1), torch.ones_like(table[..., 0]))  # an average, as its docstring says
    torch.testing.assert_close(ours, table @ v)


@pytest.mark.parametrize("kind", [Attention, LinearAttention])
def test_attention_moves_with_its_pixels(kind):
    """Pixels in another order give the same, in that order: neither kind knows where a pixel lies."""
    layer = stirred(kind(8, 2))
    x = randn(2, 8, 3, 5)
    torch.testing.assert_close(layer(x.mT), layer(x).mT, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer(x.flip(3)), layer(x).flip(3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Attention, LinearAttention])
def test_attention_begins_as_the_identity_with_heads_of_32(kind):
    x = randn(1, 64, 3, 5)
    assert torch.equal(kind(64)(x), x)
    assert [kind(c).heads for c in (8, 32, 64, 128)] == [1, 1, 2, 4]


@pytest.mark.parametrize("heads", [0, 3, -1])
def test_heads_must_divide_the_channels(heads):
    with pytest.raises(ValueError, match="heads that divide 64 channels"):
        Attention(64, heads)


# ------------------------------------------------------------------------------------------------- the network

OPTIONS = [
    {},
    {"patch": 1},
    {"patch": 4, "widths": (16,)},
    {"widths": (8, 12, 16), "blocks": 2, "patch": 1},
    {"block": ConvNeXtBlock},
    {"attention": LinearAttention},
    {"attention": None},
    {"blocks": 3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("classes, conditioning", [(None, "added"), (10, "added"), (10, "plane")])
@pytest.mark.parametrize("shape", [(1, 8, 12), (3, 12, 4)])
def test_shapes_on_images_that_are_not_square(options, classes, conditioning, shape):
    model = UNet(shape, **{"widths": (16, 32)} | options, num_classes=classes, conditioning=conditioning)
    x, t = randn(2, *shape), torch.tensor([1, 1000])
    assert model(x, t).shape == x.shape
    if classes is not None:
        assert model(x, t, torch.tensor([0, model.null])).shape == x.shape


def test_it_begins_by_answering_zero():
    model = UNet((1, 8, 12), widths=(8, 12), num_classes=3)
    assert not model(randn(2, 1, 8, 12), torch.tensor([5, 900])).any()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_hears_the_step(options):
    model = stirred(UNet((1, 8, 12), **{"widths": (16, 32)} | options))
    x = randn(1, 1, 8, 12).expand(3, -1, -1, -1)
    answers = model(x, torch.tensor([1, 500, 1000]))
    assert (answers[0] - answers[1]).abs().max() > 1e-3 and (answers[1] - answers[2]).abs().max() > 1e-3


def test_each_image_has_a_step_of_its_own():
    model = stirred(UNet((1, 8, 12), widths=(8, 12)))
    x, t = randn(3, 1, 8, 12), torch.tensor([1, 500, 1000])
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(x, t), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("conditioning", ["added", "plane"])
def test_it_hears_the_class(conditioning):
    model = stirred(UNet((1, 8, 12), widths=(8, 12), num_classes=3, conditioning=conditioning))
    x, t = randn(1, 1, 8, 12).expand(4, -1, -1, -1), torch.full((4,), 300)
    answers = model(x, t, torch.arange(4))
    assert torch.pdist(answers.flatten(1)).min() > 1e-3


@pytest.mark.parametrize("conditioning", ["added", "plane"])
def test_no_label_means_any_class(conditioning):
    model = stirred(UNet((1, 8, 12), widths=(8, 12), num_classes=3, conditioning=conditioning))
    x, t = randn(2, 1, 8, 12), torch.tensor([1, 900])
    assert model.null == 3
    assert torch.equal(model(x, t), model(x, t, torch.tensor([3, 3])))
    assert UNet((1, 8, 12), widths=(8,)).null is None


@pytest.mark.equation("7.2")
def test_planes_are_a_channel_beside_the_others():
    model = stirred(UNet((1, 8, 12), widths=(8, 12), num_classes=3, conditioning="plane"))
    wrapped, size = model.down[0][0], (4, 6)
    assert isinstance(wrapped, library.ClassPlane) and wrapped.size == size
    x, step, label = randn(2, 8, *size), randn(2, 32, seed=1), randn(2, 32, seed=2)
    plane = (label @ wrapped.plane.weight.T + wrapped.plane.bias).reshape(2, 1, *size)
    e = torch.cat([step, label], 1)
    torch.testing.assert_close(wrapped(x, e), wrapped.block(torch.cat([x, plane], 1), step))


@pytest.mark.equation("7.1")
def test_the_class_is_added_to_the_step():
    model = stirred(UNet((1, 8, 12), widths=(8, 12), num_classes=3))
    t, y = torch.tensor([1, 500, 900]), torch.tensor([2, 0, 3])
    of_step = model.time(library.sinusoidal_embedding(t, 64))
    torch.testing.assert_close(model.embed(t, y), F.silu(of_step + model.label.weight[y]))


def test_with_planes_the_class_comes_in_nowhere_else():
    model = stirred(UNet((1, 8, 12), widths=(8, 12), num_classes=3, conditioning="plane"))
    for block in [model.middle, *(block for level in [*model.down, *model.up] for block in level)]:
        nn.init.zeros_(block.plane.weight)
    x, t = randn(2, 1, 8, 12), torch.tensor([1, 900])
    assert torch.equal(model(x, t, torch.tensor([0, 1])), model(x, t, torch.tensor([2, 3])))


@pytest.mark.equation("4.8")
def test_skips_arrive_at_their_own_level():
    """What is joined on the way up is what left the blocks of that level on the way down, coarsest first."""
    left, joined = [], []

    class Watched(UNet):
        def join(self, h, skip):
            joined.append(skip)
            both = super().join(h, skip)
            assert torch.equal(both, torch.cat([h, skip], dim=1)) and h.shape == skip.shape
            return both

    model = stirred(Watched((1, 8, 12), widths=(8, 12, 16), blocks=2, patch=1))
    for blocks in model.down:
        blocks[-1].register_forward_hook(lambda module, given, output: left.append(output))
    model(randn(2, 1, 8, 12), torch.tensor([1, 2]))
    assert [tuple(s.shape[1:]) for s in joined] == [(16, 2, 3), (12, 4, 6), (8, 8, 12)]
    assert all(a is b for a, b in zip(joined, reversed(left), strict=True))


def test_without_skips_fine_detail_is_lost():
    """With `join` overridden, the answer depends on the image only by way of the lowest level."""

    class NoSkips(UNet):
        def join(self, h, skip):
            return super().join(h, torch.zeros_like(skip))

    model = stirred(NoSkips((1, 8, 12), widths=(8, 12)))
    model.downsample[0] = nn.Sequential(model.downsample[0], nn.Threshold(1e9, 0.5))  # nothing gets down any more
    x, t = randn(2, 1, 8, 12), torch.tensor([400, 400])
    torch.testing.assert_close(*model(x, t), rtol=1e-5, atol=1e-5)
    model.__class__ = UNet
    assert (model(x, t)[0] - model(x, t)[1]).abs().max() > 1e-2


@pytest.mark.equation("4.7")
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_the_stem_lays_squares_into_channels(patch):
    model = UNet((2, 8, 12), widths=(8,), patch=patch)
    seen = []
    model.stem.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    x = randn(2, 2, 8, 12)
    model(x, torch.tensor([1, 2]))
    (y,) = seen
    assert y.shape == (2, 2 * patch**2, 8 // patch, 12 // patch)
    for c in range(2):
        for a in range(patch):
            for b in range(patch):
                assert torch.equal(y[:, c * patch**2 + a * patch + b], x[:, c, a::patch, b::patch])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("classes, conditioning", [(None, "added"), (3, "added"), (3, "plane")])
def test_every_weight_learns_within_a_few_steps(options, classes, conditioning):
    """Parts that start at 0 hide what lies before them for a step: three hidden behind each other need three steps."""
    torch.manual_seed(0)
    model = UNet((1, 8, 12), **{"widths": (16, 32)} | options, num_classes=classes, conditioning=conditioning)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, t, wanted = randn(4, 1, 8, 12), torch.tensor([1, 300, 600, 1000]), randn(4, 1, 8, 12, seed=1)
    y = () if classes is None else (torch.tensor([0, 1, 2, 3]),)
    moved = set()
    for _ in range(4):
        optimizer.zero_grad()
        F.mse_loss(model(x, t, *y), wanted).backward()
        moved |= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert {name for name, _ in model.named_parameters()} - moved == set()


@pytest.mark.parametrize("options", [{}, {"attention": LinearAttention}, {"block": ConvNeXtBlock}, {"num_classes": 3}])
def test_channels_last_gives_the_same(options):
    model = stirred(UNet((1, 8, 12), widths=(16, 32), **options))
    x, t = randn(3, 1, 8, 12), torch.tensor([1, 500, 1000])
    with torch.no_grad():
        usual = model(x, t)
        model.to(memory_format=torch.channels_last)
        last = model(x.to(memory_format=torch.channels_last), t)
    torch.testing.assert_close(last.contiguous(), usual, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"attention": LinearAttention}, {"conditioning": "plane", "num_classes": 3}])
def test_bfloat16_gives_nearly_the_same(options):
    model = stirred(UNet((1, 8, 12), widths=(16, 32), **options))
    x, t = randn(3, 1, 8, 12), torch.tensor([1, 500, 1000])
    with torch.no_grad():
        exact = model(x, t)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(x, t).float()
    assert (rough - exact).square().mean().sqrt() < 0.03 * exact.square().mean().sqrt()


def test_double_precision_and_float_steps():
    model = stirred(UNet((1, 8, 12), widths=(8,))).double()
    x = randn(2, 1, 8, 12, dtype=torch.float64)
    whole, floats = model(x, torch.tensor([3, 700])), model(x, torch.tensor([3.0, 700.0]))
    assert whole.dtype == torch.float64
    torch.testing.assert_close(whole, floats)


# ------------------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 28, 30)}, "multiples of 4"),
        ({"shape": (1, 28, 28), "widths": (8, 8, 8, 8)}, "28×28"),
        ({"shape": (28, 28)}, r"image shape \(c, h, w\)"),
        ({"shape": (0, 28, 28)}, r"image shape \(c, h, w\)"),
        ({"widths": ()}, "positive widths"),
        ({"widths": (8, 0)}, "positive widths"),
        ({"patch": 0}, "positive widths and patch"),
        ({"conditioning": "wish"}, 'expected "added" or "plane"'),
    ],
)
def test_clear_errors_when_it_is_made(options, message):
    with pytest.raises(ValueError, match=message) as error:
        plain(UNet.__init__)(UNet.__new__(UNet), **options)
    assert "\n" not in str(error.value)


def test_clear_errors_when_it_is_called():
    model = UNet((1, 8, 12), widths=(8,))
    forward = plain(UNet.forward)
    x, t = randn(2, 1, 8, 12), torch.tensor([1, 2])
    for wrong_x in (randn(2, 1, 12, 8), randn(2, 3, 8, 12)):
        with pytest.raises(ValueError, match=r"expects images \(b, 1, 8, 12\), got"):
            forward(model, wrong_x, t)
    for wrong_t in (torch.tensor(1), torch.tensor([1]), torch.tensor([[1, 2]])):
        with pytest.raises(ValueError, match=r"one step per image, got"):
            forward(model, x, wrong_t)
    with pytest.raises(ValueError, match="has no classes"):
        forward(model, x, t, torch.tensor([0, 1]))


# ------------------------------------------------------------------------------------------------- reading a network


@pytest.mark.equation("4.1")
@pytest.mark.parametrize(
    "layers", [[(3, 1)] * 4, [(3, 1), (3, 2), (3, 1)], [(2, 2), (3, 1), (5, 2), (3, 2), (3, 1)], [(1, 1)], []]
)
def test_receptive_field_against_gradients(layers):
    """The inputs that one output pixel of such convolutions depends on, counted."""
    field, jump = tracing.receptive_field(layers)
    net = nn.Sequential(*(nn.Conv1d(1, 1, kernel, stride) for kernel, stride in layers))
    for p in net.parameters():
        nn.init.ones_(p)
    x = torch.ones(1, 1, field + 2 * jump, requires_grad=True)
    seen = [torch.autograd.grad(net(x)[0, 0, place], x)[0].flatten().nonzero().flatten() for place in (0, 1)]
    assert seen[0].tolist() == list(range(field))
    assert seen[1][0] - seen[0][0] == jump
    with pytest.raises(ValueError, match="above 0"):
        tracing.receptive_field([(3, 0)])


@pytest.mark.equation("4.10")
@pytest.mark.parametrize("kernel, groups", [(1, 1), (3, 1), (7, 6), (3, 2)])
def test_multiply_adds_against_pytorchs_counter(kernel, groups):
    layer = nn.Conv2d(6, 12, kernel, padding=kernel // 2, groups=groups)
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, 6, 5, 7))
    assert tracing.conv_multiply_adds((5, 7), 6, 12, kernel, groups) == counter.get_total_flops() // 2
    with pytest.raises(ValueError, match="divide"):
        tracing.conv_multiply_adds((5, 7), 6, 12, kernel, groups=5)


def test_stages_tell_shapes_weights_and_costs():
    model = UNet((1, 8, 12), widths=(8, 12), blocks=2)
    table = tracing.stages(model, randn(3, 1, 8, 12), torch.tensor([1, 2, 3]))
    shapes = {stage.name: stage.shape for stage in table}
    assert [stage.name for stage in table][:4] == ["time", "stem", "down.0.0", "down.0.1"]
    assert shapes["down.1.0"] == (12, 2, 3) and shapes["up.1.1"] == (8, 4, 6) and shapes["head"] == (4, 4, 6)
    assert sum(stage.parameters for stage in table) == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(randn(1, 1, 8, 12), torch.tensor([1]))
    assert sum(stage.multiply_adds for stage in table) == counter.get_total_flops() // 2
    assert table == tracing.stages(model, randn(1, 1, 8, 12), torch.tensor([7]))  # per image, whatever the batch
    assert not any(module._forward_hooks for module in model.modules())  # and leaves nothing behind
