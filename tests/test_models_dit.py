"""The transformer and its parts, against loops, PyTorch's own attention and layer norm, and what must hold."""

import copy
import inspect
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.models.dit import DiT, DiTBlock, SelfAttention, modulate, patchify, sincos_positions, unpatchify


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed))


def stirred(module: nn.Module) -> nn.Module:
    """No weight is 0 any more, so that every road shows."""
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng(index)))
    return module


def small(**options) -> DiT:
    torch.manual_seed(0)
    return DiT(**{"shape": (3, 8, 12), "width": 32, "depth": 2, "heads": 2, "num_classes": 3} | options)


# ------------------------------------------------------------------------------------------------- tokens


def test_a_token_is_a_square_of_pixels():
    x = randn(2, 3, 6, 8)
    tokens = patchify(x, 2)
    assert tokens.shape == (2, 12, 12)
    for row in range(3):
        for column in range(4):
            square = x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(tokens[:, 4 * row + column], square.reshape(2, 12))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 12), (4, 7, 14)])
@pytest.mark.parametrize("patch", [1, 2, 4, 7])
def test_images_come_back_from_their_tokens(shape, patch):
    x = randn(2, *shape)
    if shape[1] % patch or shape[2] % patch:
        with pytest.raises(ValueError, match=f"multiples of the patch {patch}, got {shape[1]}×{shape[2]}; resize"):
            patchify(x, patch)
    else:
        assert torch.equal(unpatchify(patchify(x, patch), shape, patch), x)


@pytest.mark.parametrize("h, w", [(3, 5), (5, 3), (1, 4)])
def test_positions_against_the_formula(h, w):
    ours, size = sincos_positions(h, w, 16), 16
    for row in range(h):
        for column in range(w):
            wanted = []
            for place in (row, column):
                angles = [place / 10_000 ** (k / (size // 4)) for k in range(size // 4)]
                wanted += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            torch.testing.assert_close(ours[row * w + column], torch.tensor(wanted))
    assert torch.pdist(ours).min() > 0.1  # all places told apart


# ------------------------------------------------------------------------------------------------- blocks


def torchs_own(ours: SelfAttention, width: int) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(width, ours.heads, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = ours.out.weight.data, ours.out.bias.data
    return theirs


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_is_pytorchs(heads):
    ours, x = SelfAttention(32, heads), randn(2, 7, 32)
    stirred(ours)
    theirs, _ = torchs_own(ours, 32)(x, x, x)
    torch.testing.assert_close(ours(x), theirs, rtol=1e-4, atol=1e-5)


def test_a_block_written_with_pytorchs_parts():
    """Of the six vectors the first three steer the attention and the others the small network: shift, scale, gate."""
    block, x, e = stirred(DiTBlock(32, heads=4)), randn(2, 7, 32), randn(2, 32, seed=1)
    attention = torchs_own(block.attention, 32)
    steer = (e @ block.condition.weight.T + block.condition.bias).view(2, 6, 1, 32)
    h = F.layer_norm(x, (32,), eps=1e-6) * (1 + steer[:, 1]) + steer[:, 0]
    wanted = x + steer[:, 2] * attention(h, h, h)[0]
    h = F.layer_norm(wanted, (32,), eps=1e-6) * (1 + steer[:, 4]) + steer[:, 3]
    hidden = h @ block.mlp[0].weight.T + block.mlp[0].bias
    hidden = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
    wanted = wanted + steer[:, 5] * (hidden @ block.mlp[2].weight.T + block.mlp[2].bias)
    torch.testing.assert_close(block(x, e), wanted, rtol=1e-4, atol=1e-5)


def test_modulation_channel_by_channel():
    x, shift, scale = randn(2, 5, 3), randn(2, 3, seed=1), randn(2, 3, seed=2)
    result = modulate(x, shift, scale)
    for i in range(2):
        for c in range(3):
            torch.testing.assert_close(result[i, :, c], x[i, :, c] * (1 + scale[i, c]) + shift[i, c])


def test_blocks_begin_as_the_identity_and_the_network_with_0():
    x, e = randn(2, 7, 32), randn(2, 32, seed=1)
    assert torch.equal(DiTBlock(32, heads=4)(x, e), x)
    model = small()
    assert not model(randn(2, 3, 8, 12), torch.tensor([1, 500]), torch.tensor([0, 3])).any()


def test_yet_everything_learns_from_the_second_step_on():
    model, x, t, y = small(), randn(4, 3, 8, 12), torch.tensor([1, 300, 600, 1000]), torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (model(x, t, y) - x).square().mean().backward()
        optimizer.step()
    still = [name for name, weight in model.named_parameters() if not weight.grad.any()]
    assert still == []


# ------------------------------------------------------------------------------------------------- the network


def test_tokens_that_change_places_with_their_positions_change_nothing_else():
    model, x, t, y = stirred(small()), randn(2, 3, 8, 12), torch.tensor([7, 900]), torch.tensor([1, 3])
    order = torch.randperm(6, generator=rng(1))
    moved = copy.deepcopy(model)
    moved.positions = model.positions[order]
    shuffled = unpatchify(patchify(x, 4)[:, order], (3, 8, 12), 4)
    wanted = unpatchify(patchify(model(x, t, y), 4)[:, order], (3, 8, 12), 4)
    torch.testing.assert_close(moved(shuffled, t, y), wanted, rtol=1e-4, atol=1e-5)
    assert (model(shuffled, t, y) - wanted).abs().max() > 1e-2  # without their positions it does


def test_every_pixel_hears_of_every_patch():
    model, x, t = stirred(small(num_classes=None)), randn(1, 3, 8, 12), torch.tensor([500])
    changed = x.clone()
    changed[0, 0, 7, 11] += 1.0
    assert ((model(changed, t) - model(x, t)).abs().amax(1) > 0).all()


def test_steps_and_labels_are_heard_and_none_means_any():
    model, x, t = stirred(small()), randn(2, 3, 8, 12), torch.tensor([7, 900])
    assert model.null == 3 and small(num_classes=None).null is None
    any_class = torch.tensor([3, 3])
    assert torch.equal(model(x, t), model(x, t, any_class))
    assert (model(x, t) - model(x, t, torch.tensor([0, 1]))).abs().amax((1, 2, 3)).min() > 1e-3
    assert (model(x, t) - model(x, t + 50)).abs().amax((1, 2, 3)).min() > 1e-3


def test_an_image_does_not_depend_on_its_company():
    model, x, t, y = (
        stirred(small()),
        randn(5, 3, 8, 12),
        torch.tensor([1, 2, 30, 400, 1000]),
        torch.tensor([0, 1, 2, 3, 0]),
    )
    torch.testing.assert_close(model(x, t, y)[2:3], model(x[2:3], t[2:3], y[2:3]), rtol=1e-4, atol=1e-5)


def test_about_a_million_weights():
    assert 1.0e6 < sum(weight.numel() for weight in DiT().parameters()) < 1.5e6
    assert "positions" not in DiT().state_dict()  # nothing of them was learned


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 28, 30)}, r"DiT expects height and width that are multiples of the patch 4, got 28×30; resize"),
        ({"shape": (0, 28, 28)}, r"DiT expects an image shape \(c, h, w\) and patch ≥ 1, got \(0, 28, 28\) and 4"),
        ({"patch": 0}, r"got \(3, 8, 12\) and 0"),
        ({"depth": 0}, r"depth ≥ 1, got 0"),
        ({"width": 34}, r"multiple of 4, got 34"),
        ({"heads": 3}, r"heads that divide the width 32, got 3"),
    ],
)
def test_what_cannot_be_built(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        small(**options)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_answered():
    model, x, t = small(), randn(2, 3, 8, 12), torch.tensor([1, 2])
    for wrong, message in (
        ((x[:, :1], t), r"DiT expects images \(b, 3, 8, 12\), got \(2, 1, 8, 12\)"),
        ((x, t[:1]), r"t of shape \(2,\), one step per image, got \(1,\)"),
        ((x, t, torch.tensor([0, 4])), r"labels in 0..3, got 0..4"),
    ):
        with pytest.raises(ValueError, match=message):
            inspect.unwrap(DiT.forward)(model, *wrong)  # as students call it, without the shape checks of tests
    with pytest.raises(ValueError, match="this model has no classes"):
        small(num_classes=None)(x, t, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"expects tokens \(b, 6, 48\)"):
        unpatchify(randn(2, 6, 47), (3, 8, 12), 4)
