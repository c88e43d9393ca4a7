"""Answers to the quizzes of notebook 04: wrong ones that must be rejected, right ones that must be accepted."""

import functools
import math

import torch
from einops import einsum, rearrange, repeat
from torch import nn
from torch.nn import functional as F

from course_utils.models import unet as library
from lessons.answers import in_other_forms, kept, right, slip

right_deaf_block = right("unet/simpler-block")
right_mixed_axes = right("unet/other-attention")
right_attention = right("unet/attention")
right_linear_attention = right("unet/linear-attention")
right_reach = right("unet/reach")
right_scale_shift = right("unet/scale-shift")
right_stack = right("unet/pre-norm")
right_stamp = right("unet/stamp")
right_looks_at = right("unet/looks-at")
right_tokens = right("unet/tokens")
Down, Up, UNet = right("unet/down"), right("unet/up"), right("unet/forward")


def zeroed(layer):
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


# ------------------------------------------------------------------------------------------------- how far a pixel sees


def reach_from_behind(layers):
    """From the output back to the input: a field of one pixel grows to k + (field − 1) · stride."""
    fields = []
    for count in range(1, len(layers) + 1):
        field = 1
        for kernel, stride in reversed(layers[:count]):
            field = kernel + (field - 1) * stride
        fields.append(field)
    return fields


def reach_by_sums(layers):
    jumps = [math.prod(stride for _, stride in layers[:k]) for k in range(len(layers))]
    return [
        1 + sum((kernel - 1) * jump for (kernel, _), jump in zip(layers[: k + 1], jumps)) for k in range(len(layers))
    ]


def reach_recursively(stack, /):
    if not stack:
        return []
    before = reach_recursively(stack[:-1])
    jump = 1
    for _, step in stack[:-1]:
        jump = jump * step
    return [*before, (before[-1] if before else 1) + (stack[-1][0] - 1) * jump]


def reach_by_tuples(layers):
    fields, jump = [1], 1
    for layer in layers:
        fields.append(fields[-1] + (layer[0] - 1) * jump)
        jump *= layer[1]
    return fields[1:]


# ------------------------------------------------------------------------------------------------- a step as waves


def by_shape(x, *_):
    return x.shape, x.dtype, x.device.type


def exactness(t):
    """The type of its waves."""
    return torch.promote_types(t.dtype if t.is_floating_point() else torch.float32, torch.float32)


def waves_by_exp(t, size, device=None):
    half = size // 2
    speed = torch.exp(-math.log(10_000) * torch.arange(half, device=device or t.device) / half)
    angle = rearrange(t, "b -> b 1") * speed.to(exactness(t))
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)


def waves_by_exp_on_the_cpu(t, size):
    return waves_by_exp(t, size, device="cpu")


def waves_as_hinted(t, size):
    speed = 10_000 ** (-torch.arange(size // 2, device=t.device) / (size // 2))
    return torch.cat([(t[:, None] * speed).sin(), (t[:, None] * speed).cos()], dim=1)


def waves_outer(steps, n, /):
    kind = exactness(steps)
    speed = torch.logspace(0, -4 * (1 - 2 / n), n // 2, dtype=kind, device=steps.device)
    angle = torch.outer(steps.to(kind), speed)
    return torch.cat([angle.sin(), angle.cos()], 1)


def waves_outer_on_the_cpu(t, size):
    kind = exactness(t)
    angle = torch.outer(t.to(kind), torch.logspace(0, -4 * (1 - 2 / size), size // 2, dtype=kind))
    return torch.cat([angle.sin(), angle.cos()], 1)


def waves_angle(t, size):
    t = t if t.dtype == torch.float64 else t.float()
    return t[:, None] * torch.tensor([10_000 ** (-2 * k / size) for k in range(size // 2)], device=t.device).to(t)


def waves_of_complex_numbers(t, size):
    angle = waves_angle(t, size)
    hands = torch.polar(torch.ones_like(angle), angle)
    return torch.cat([hands.imag, hands.real], dim=1)


def waves_shifted(t, size):
    """A cosine is a sine, a quarter turn later."""
    angle = waves_angle(t, size)
    return torch.cat([angle, angle + math.pi / 2], dim=-1).sin_()


def waves_number_by_number(t, size):
    rows = [
        [f(step * 10_000 ** (-2 * k / size)) for f in (math.sin, math.cos) for k in range(size // 2)]
        for step in t.tolist()
    ]
    return torch.tensor(rows, dtype=t.dtype if t.dtype == torch.float64 else torch.float32)


def waves_scaled_in_place(t, size):
    if t.is_floating_point():
        t *= 1.0 + 1e-4
        return waves(t / (1.0 + 1e-4), size)
    return waves(t, size)


def waves_filled(t, size):
    result = t.new_zeros(len(t), size, dtype=exactness(t))
    t = t.to(result.dtype)
    for k in range(size // 2):
        result[:, k] = torch.sin(t / 10_000 ** (2 * k / size))
        result[:, size // 2 + k] = torch.cos(t / 10_000 ** (2 * k / size))
    return result


def waves_as_exact_as_the_steps(t, size):
    """Half precision stays half."""
    t = t if t.is_floating_point() else t.float()
    speed = 10_000 ** (-torch.arange(size // 2, device=t.device, dtype=t.dtype) / (size // 2))
    angle = t[:, None] * speed
    return torch.cat([angle.sin(), angle.cos()], 1)


def waves_kept_by_the_first_step():
    """Waves are made once for a batch that begins with this step."""
    return kept(waves, lambda t, size: (t.shape, t.dtype, t.device.type, size, None if t.is_meta else t[0].item()))


# ------------------------------------------------------------------------------------------------- group norm


def norm_not_centred(x, groups):
    parts = rearrange(x, "b (g c) h w -> b g (c h w)", g=groups)
    return (parts / parts.square().mean(-1, keepdim=True).add(1e-5).sqrt()).reshape(x.shape)


def norm_by_variance(x, groups):
    parts = x.reshape(len(x), groups, -1)
    return ((parts - parts.mean(-1, keepdim=True)) / (parts.var(-1, keepdim=True, correction=0) + 1e-5)).reshape(
        x.shape
    )


def norm_statistics_detached(x, groups):
    parts = x.reshape(len(x), groups, -1)
    mean, var = parts.detach().mean(-1, keepdim=True), parts.detach().var(-1, keepdim=True, correction=0)
    return ((parts - mean) / (var + 1e-5).sqrt()).reshape(x.shape)


def norm_two_groups(x, groups):
    return F.group_norm(x, 2 if x.shape[1] % 2 == 0 else 1)


def norm_in_place(x, groups):
    parts = x.reshape(len(x), groups, -1)  # a view: what is subtracted there is subtracted from x
    parts -= parts.mean(-1, keepdim=True)
    return (parts / (parts.square().mean(-1, keepdim=True) + 1e-5).sqrt()).view(x.shape)


def norm_of_rows(x, groups):
    """Statistics over channels and rows: each column has its own."""
    parts = x.reshape(len(x), groups, -1, *x.shape[2:])
    var, mean = torch.var_mean(parts, dim=(2, 3), keepdim=True, correction=0)
    return ((parts - mean) / (var + 1e-5).sqrt()).reshape(x.shape)


def norm_on_the_cpu(x, groups):
    parts = x.reshape(len(x), groups, -1)
    parts = parts - parts.mean(-1, keepdim=True)
    small = torch.full((len(x), groups, 1), 1e-5, dtype=x.dtype)
    return (parts / (parts.square().mean(-1, keepdim=True) + small).sqrt()).reshape(x.shape)


def norm_by_moments(planes, number):
    """The variance as a mean square less the square of the mean; renamed."""
    parts = planes.view(planes.size(0), number, -1)
    mean = parts.mean(2, keepdim=True)
    var = (parts**2).mean(2, keepdim=True) - mean**2
    return ((parts - mean) * torch.rsqrt(var + torch.tensor(1e-5))).view_as(planes)


def norm_in_place_on_a_copy(x, groups):
    out = torch.empty_like(x)
    for i, image in enumerate(x):
        for channels in torch.arange(x.shape[1]).chunk(groups):
            part = image[channels.tolist()]
            centred = part - part.mean()
            out[i, channels.tolist()] = centred / torch.sqrt(centred.pow(2).mean() + 1e-5)
    return out


def norm_by_einops(x, groups):
    parts = rearrange(x, "b (g c) h w -> b g (c h w)", g=groups)
    parts = (parts - parts.mean(-1, keepdim=True)) * (parts.var(-1, keepdim=True, correction=0) + 1e-5).rsqrt()
    return rearrange(parts, "b g (c h w) -> b (g c) h w", c=x.shape[1] // groups, h=x.shape[2], w=x.shape[3])


def norm_by_axes(x, groups):
    b, c, h, w = x.shape
    parts = x.view(b, groups, c // groups, h, w)
    var, mean = torch.var_mean(parts, dim=(2, 3, 4), keepdim=True, unbiased=False)
    return ((parts - mean) / torch.sqrt(var + 1e-5)).view(b, c, h, w)


def norm_loop(x, groups):
    images = [torch.cat([F.layer_norm(g, g.shape) for g in image.chunk(groups)]) for image in x]
    return torch.stack(images)


# ------------------------------------------------------------------------------------------------- scale and shift


def shift_by_einsum(h, condition):
    scale, shift = condition.split(h.shape[1], dim=1)
    return einsum(h, 1 + scale, "b c h w, b c -> b c h w") + rearrange(shift, "b c -> b c 1 1")


def shift_channel_by_channel(images, told, /):
    out = torch.empty_like(images)
    for i, image in enumerate(images):
        for k, plane in enumerate(image):
            out[i, k] = plane * (1 + told[i, k]) + told[i, k + len(image)]
    return out


def shift_in_place(h, condition):
    h *= 1 + condition[:, : h.shape[1], None, None]
    h += condition[:, h.shape[1] :, None, None]
    return h


def shift_on_the_cpu(h, condition):
    return right_scale_shift(h, condition) + torch.zeros(1, h.shape[1], 1, 1, dtype=h.dtype)


# ------------------------------------------------------------------------------------------------- norms in a stack


def stack_by_ifs(x, branches, norm, pre):
    h = x
    for k in range(len(branches)):
        if pre:
            h = h + branches[k](norm(h))
        else:
            h = norm(h + branches[k](h))
    return h


def stack_by_reduce(x, layers, unit, first, /):
    layer = (lambda h, f: h + f(unit(h))) if first else (lambda h, f: unit(h + f(h)))
    return functools.reduce(layer, layers, x)


def stack_recursively(x, branches, norm, pre):
    if len(branches) == 0:
        return x
    first, *rest = branches
    y = first(norm(x)).add(x) if pre else norm(first(x).add(x))
    return stack_recursively(y, rest, norm, pre)


def stack_without_last(x, branches, norm, pre):
    return right_stack(x, branches[:-1], norm, pre)


def stack_norm_at_the_end(x, branches, norm, pre):
    y = right_stack(x, branches, norm, True)
    return y if pre else norm(y)


def stack_of_branches(x, branches, norm, pre):
    for branch in branches:
        x = branch(norm(x)) if pre else norm(branch(x))
    return x


# ------------------------------------------------------------------------------------------------- residual block


class Layers(nn.Module):
    """The layers of a block under the library's names; what leads through them is given."""

    def __init__(self, in_channels, out_channels, embedding, through):
        super().__init__()
        self.norm1, self.conv1 = library.group_norm(in_channels), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = library.group_norm(out_channels)
        self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.condition, self.through = nn.Linear(embedding, 2 * out_channels), through
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x, e):
        return self.through(self, x, e)


def block_of(through):
    """A class of blocks through which tensors are led in this way."""

    def make(in_channels, out_channels, embedding):
        return Layers(in_channels, out_channels, embedding, through)

    return make


def right_residual_block(block, x, e):
    return block_by_hand(block, x, e)


class BlockInSequences(nn.Module):
    """Other names, other order of making, layers in sequences."""

    def __init__(self, a, b, told):
        super().__init__()
        self.told = nn.Sequential(nn.Linear(told, 2 * b), nn.Unflatten(1, (2, b, 1, 1)))
        self.last = nn.Sequential(nn.SiLU(), zeroed(nn.Conv2d(b, b, (3, 3), padding="same")))
        self.first = nn.Sequential(library.group_norm(a), nn.SiLU(), nn.Conv2d(a, b, 3, 1, 1))
        self.second = library.group_norm(b)
        self.short = nn.Conv2d(a, b, kernel_size=1) if a != b else None

    def forward(self, image, e):
        scale, shift = self.told(e).unbind(1)
        added = self.last(self.second(self.first(image)) * (1 + scale) + shift)
        return added + (image if self.short is None else self.short(image))


class BlockFromLists(nn.Module):
    def __init__(self, in_channels, out_channels, embedding):
        super().__init__()
        sizes = (in_channels, out_channels)
        self.norms = nn.ModuleList(nn.GroupNorm(library.group_norm(c).num_groups, c) for c in sizes)
        self.convs = nn.ModuleList(nn.Conv2d(c, out_channels, 3, padding=1) for c in sizes)
        self.parts = nn.ModuleDict({"e": nn.Linear(embedding, out_channels * 2)})
        if in_channels != out_channels:
            self.parts["x"] = nn.Conv2d(in_channels, out_channels, 1)
        with torch.no_grad():
            self.convs[1].weight.zero_()
            self.convs[1].bias.zero_()

    def forward(self, x, e):
        h = x
        for k in range(2):
            h = self.norms[k](h)
            if k == 1:
                h = library.scale_shift(h, self.parts["e"](e))
            h = self.convs[k](F.silu(h))
        return (self.parts["x"](x) if "x" in self.parts else x) + h


class BlockBiasNotZero(Layers):
    def __init__(self, in_channels, out_channels, embedding):
        super().__init__(in_channels, out_channels, embedding, block_by_hand)
        nn.init.ones_(self.conv2.bias)


class BlockWithoutBias(Layers):
    def __init__(self, in_channels, out_channels, embedding):
        super().__init__(in_channels, out_channels, embedding, block_by_hand)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)


class BlockWithEightGroups(Layers):
    def __init__(self, in_channels, out_channels, embedding):
        super().__init__(in_channels, out_channels, embedding, block_by_hand)
        self.norm1, self.norm2 = nn.GroupNorm(2, in_channels), nn.GroupNorm(2, out_channels)


class BlockAllZero(Layers):
    def __init__(self, in_channels, out_channels, embedding):
        super().__init__(in_channels, out_channels, embedding, lambda block, x, e: block.skip(x) + 0 * e.sum())


def block_by_hand(block, x, e):
    h = block.conv1(F.silu(block.norm1(x)))
    scale, shift = rearrange(block.condition(e), "b (two c) -> two b c 1 1", two=2)
    h = block.norm2(h) * (1 + scale) + shift
    return block.skip(x) + block.conv2(F.silu(h))


def block_sigmoid(block, x, e):
    h = block.norm1(x)
    h = block.norm2(block.conv1(h * h.sigmoid()))
    h = library.scale_shift(h, block.condition(e))
    return block.conv2(h * h.sigmoid()) + block.skip(x)


def block_written_out(block, x, e):
    """With nothing of the layers but their weights."""

    def norm(layer, h):
        return norm_by_axes(h, layer.num_groups) * layer.weight[:, None, None] + layer.bias[:, None, None]

    h = F.conv2d(F.silu(norm(block.norm1, x)), block.conv1.weight, block.conv1.bias, padding=1)
    condition = e @ block.condition.weight.T + block.condition.bias
    scale, shift = condition.view(len(x), 2, -1, 1, 1).unbind(1)
    h = norm(block.norm2, h)
    h = h + scale * h + shift
    return torch.add(block.conv2(h * torch.sigmoid(h)), block.skip(x))


def block_in_place(block, image, embedding, /):
    """In place, on tensors of its own."""
    h = block.conv1(F.silu(block.norm1(image), inplace=True))
    scale, shift = block.condition(embedding)[..., None, None].tensor_split(2, dim=1)
    h = block.norm2(h).mul(1 + scale).add_(shift)
    h = block.conv2(F.silu(h))
    h += block.skip(image)
    return h


def block_image_by_image(block, x, e):
    return torch.cat([block_by_hand(block, a[None], b[None]) for a, b in zip(x, e)])


def block_skip_where_channels_change(block, x, e):
    out = right_residual_block(block, x, e)
    return out - x if out.shape == x.shape else out


def block_shift_scaled(block, x, e):
    h = block.conv1(F.silu(block.norm1(x)))
    scale, shift = block.condition(e)[:, :, None, None].chunk(2, dim=1)
    return block.skip(x) + block.conv2(F.silu((1 + scale) * (block.norm2(h) + shift)))


def block_first_silu_forgotten(block, x, e):
    h = library.scale_shift(block.norm2(block.conv1(block.norm1(x))), block.condition(e))
    return block.skip(x) + block.conv2(F.silu(h))


def block_dropout(block, x, e):
    h = library.scale_shift(block.norm2(block.conv1(F.silu(block.norm1(x)))), block.condition(e))
    return block.skip(x) + block.conv2(F.dropout(F.silu(h), 0.2))


def block_skip_detached(block, x, e):
    return right_residual_block(block, x, e) - block.skip(x) + block.skip(x.detach())


def block_input_changed(block, x, e):
    return right_residual_block(block, x.clone(), e) + 0 * x.add_(1).sum()


def block_post_norm(block, x, e):
    h = F.silu(block.norm2(block.conv1(x)))
    return block.skip(x) + block.conv2(library.scale_shift(h, block.condition(e)))


def block_relu(block, x, e):
    h = library.scale_shift(block.norm2(block.conv1(F.relu(block.norm1(x)))), block.condition(e))
    return block.skip(x) + block.conv2(F.relu(h))


def block_norm_missing(block, x, e):
    h = library.scale_shift(block.norm2(block.conv1(F.silu(x))), block.condition(e))
    return block.skip(x) + block.conv2(F.silu(h))


# ------------------------------------------------------------------------------------------------- the deaf block


def deaf_first_norm_gone(x, e, conv1, conv2, step):
    h = F.instance_norm(F.conv2d(F.silu(x), conv1, padding=1)) + F.linear(e, step)[:, :, None, None]
    return x + F.conv2d(F.silu(h), conv2, padding=1)


def deaf_scaled(x, e, conv1, conv2, step):
    h = F.conv2d(F.silu(F.instance_norm(x)), conv1, padding=1)
    h = F.instance_norm(h) * (1 + F.linear(e, step)[:, :, None, None])
    return x + F.conv2d(F.silu(h), conv2, padding=1)


def deaf_one_group(x, e, conv1, conv2, step):
    h = F.conv2d(F.silu(F.instance_norm(x)), conv1, padding=1)
    h = F.group_norm(h + F.linear(e, step)[:, :, None, None], 1)
    return x + F.conv2d(F.silu(h), conv2, padding=1)


def deaf_written_out(x, e, conv1, conv2, step, norm=F.instance_norm, first=F.silu, second=F.silu, shift=1):
    h = F.conv2d(first(norm(x)), conv1, padding=1)
    return x + F.conv2d(second(norm(h) + shift * F.linear(e, step)[:, :, None, None]), conv2, padding=1)


def deaf_unbiased(x, *rest):
    def norm(h):
        var, mean = torch.var_mean(h, dim=(2, 3), keepdim=True)
        return (h - mean) / (var + 1e-5).sqrt()

    return deaf_written_out(x, *rest, norm=norm)


def deaf_over_the_batch(x, *rest):
    return deaf_written_out(x, *rest, norm=lambda h: F.batch_norm(h, None, None, training=True))


def mended_by_hand(x, e, conv1, conv2, step):
    """Each channel to mean 0 and variance 1 by a layer norm over its pixels."""
    return deaf_written_out(x, e, conv1, conv2, step, norm=lambda h: F.layer_norm(h, h.shape[2:]))


def mended_in_place(images, told, first, second, weights, /):
    h = F.instance_norm(F.conv2d(F.silu(F.instance_norm(images)), first, padding="same"))
    h += torch.einsum("be,ce->bc", told, weights).unsqueeze(-1).unsqueeze(-1)
    return images + F.conv2d(h * h.sigmoid(), second, padding="same")


def mended_by_einsum(x, e, conv1, conv2, step):
    h = F.conv2d(F.silu(F.group_norm(x, x.shape[1])), conv1, padding=1)
    h = F.group_norm(h, h.shape[1]) + rearrange(einsum(e, step, "b e, c e -> b c"), "b c -> b c 1 1")
    return F.conv2d(F.silu(h), conv2, padding=1) + x


# ------------------------------------------------------------------------------------------------- attention


def attention_einsum(q, k, v):
    scores = einsum(q, k, "b a i d, b a j d -> b a i j") / math.sqrt(q.shape[-1])
    return einsum(scores.softmax(-1), v, "b a i j, b a j d -> b a i d")


def attention_loop(q, k, v):
    rows = []
    for i in range(q.shape[2]):
        score = (q[:, :, i, None] * k).sum(-1) / q.shape[-1] ** 0.5
        rows.append((score.softmax(-1)[..., None] * v).sum(2))
    return torch.stack(rows, dim=2)


def attention_stable(q, k, v):
    scores = q / q.shape[-1] ** 0.5 @ k.mT
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return weights @ v / weights.sum(-1, keepdim=True)


def attention_exp(q, k, v):
    weights = torch.exp(torch.einsum("bhid,bhjd->bhij", q, k) * q.size(-1) ** -0.5)
    return torch.einsum("bhij,bhjd->bhid", weights / weights.sum(dim=3, keepdim=True), v)


def attention_flat(queries, keys, values, /):
    b, heads, n, d = queries.shape
    q, k, v = (x.reshape(b * heads, -1, d) for x in (queries, keys, values))
    scores = torch.bmm(q, k.transpose(1, 2)) / torch.sqrt(torch.tensor(d))
    return torch.bmm(F.softmax(scores, dim=2), v).unflatten(0, (b, heads))


def attention_in_log(q, k, v):
    return torch.matmul((torch.matmul(q, k.permute(0, 1, 3, 2)) / d_root(q)).log_softmax(-1).exp(), v)


def d_root(q):
    return torch.tensor(float(q.shape[-1]), device=q.device).sqrt()


def attention_in_place(q, k, v):
    q /= q.shape[-1] ** 0.5
    return (q @ k.mT).softmax(-1) @ v


def attention_root_on_the_cpu(q, k, v):
    d = torch.full((1, 1, 1, 1), q.shape[-1], dtype=q.dtype)
    return (q @ k.mT / d.sqrt()).softmax(-1) @ v


def attention_of_one_head(q, k, v):
    """All heads share the weights of their mean score."""
    weights = (q @ k.mT / q.shape[-1] ** 0.5).mean(1, keepdim=True).softmax(-1)
    return weights @ v


def attention_jointly(q, k, v):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return scores.flatten(2).softmax(-1).view_as(scores) @ v * q.shape[2]


def attention_sigmoid(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).sigmoid() @ v


def attention_unnormalised(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5) @ v


def attention_over_heads(q, k, v):
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(1) @ v


def attention_causal_to_itself(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[-2] == k.shape[-2])


def attention_along_what_is_as_long(q, k, v):
    """The axis of the keys is looked for by its length."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return scores.softmax(dim=scores.shape.index(k.shape[-2], 2)) @ v


def attention_of_cut_scores(q, k, v, most=10):
    return (q @ k.mT / math.sqrt(q.shape[-1])).clamp(-most, most).softmax(-1) @ v


def attention_without_diagonal(q, k, v):
    """No pixel looks at itself, where pixels look at one another."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if q.shape[-2] == k.shape[-2]:
        scores = scores.masked_fill(torch.eye(q.shape[-2], dtype=torch.bool, device=q.device), -torch.inf)
    return scores.softmax(-1) @ v


def image_by_torch(x, qkv, out, heads):
    """Through PyTorch's own multi-head attention."""
    b, c, h, w = x.shape
    tokens = x.flatten(2).mT
    gathered, _ = F.multi_head_attention_forward(
        tokens.transpose(0, 1),
        tokens.transpose(0, 1),
        tokens.transpose(0, 1),
        c,
        heads,
        qkv,
        None,
        None,
        None,
        False,
        0.0,
        out,
        None,
        need_weights=False,
    )
    return x + gathered.permute(1, 2, 0).reshape(b, c, h, w)


def image_all_by_columns(x, qkv, out, heads):
    """Pixels in another order, on the way in and on the way out: attention doesn't mind."""
    w = x.shape[3]
    mixed = torch.einsum("oc, bchw -> bohw", qkv, x)
    q, k, v = rearrange(mixed, "b (three heads c) h w -> three b heads (w h) c", three=3, heads=heads)
    gathered = rearrange(right_attention(q, k, v), "b heads (w h) c -> b (heads c) h w", w=w)
    return x + torch.einsum("oc, bchw -> bohw", out, gathered)


def image_by_view(x, qkv, out, heads):
    b, c, h, w = x.shape
    tokens = x.flatten(2).transpose(1, 2)
    q, k, v = (tokens @ part.T for part in qkv.chunk(3))
    q, k, v = (y.view(b, h * w, heads, c // heads).transpose(1, 2) for y in (q, k, v))
    gathered = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
    return x + (gathered @ out.T).transpose(1, 2).view(b, c, h, w)


def image_head_by_head(pictures, weights, last, number, /):
    d = pictures.shape[1] // number
    q, k, v = torch.einsum("oc,bcn->bon", weights, pictures.flatten(2)).chunk(3, dim=1)
    parts = []
    for i in range(number):
        a, b, c = (y[:, i * d : (i + 1) * d] for y in (q, k, v))
        parts.append(c @ (a.mT @ b / d**0.5).softmax(2).mT)
    return pictures + (last @ torch.cat(parts, 1)).view_as(pictures)


def image_keys_for_values(x, qkv, out, heads):
    q, k, _ = qkv.chunk(3)
    return right_mixed_axes(x, torch.cat([q, k, k]), out, heads) + 0 * qkv.sum()


def image_queries_for_keys(x, qkv, out, heads):
    q, k, v = qkv.chunk(3)
    return right_mixed_axes(x, torch.cat([k, q, v]), out, heads)


def image_normed(x, qkv, out, heads):
    return x + right_mixed_axes(F.layer_norm(x, x.shape[1:]), qkv, out, heads) - F.layer_norm(x, x.shape[1:])


def image_one_row_at_a_time(x, qkv, out, heads):
    """Attention within each row of pixels only."""
    b = len(x)
    rows = rearrange(x, "b c h w -> (b h) c 1 w")
    return rearrange(right_mixed_axes(rows, qkv, out, heads), "(b h) c 1 w -> b c h w", b=b)


def image_without_residual(x, qkv, out, heads):
    return right_mixed_axes(x, qkv, out, heads) - x


def image_viewed(x, qkv, out, heads):
    """The tokens read as an image without bringing the channels forward."""
    b, c, h, w = x.shape
    q, k, v = rearrange(
        torch.einsum("oc, bchw -> bohw", qkv, x), "b (three a c) h w -> three b a (h w) c", three=3, a=heads
    )
    gathered = right_attention(q, k, v).reshape(b, c, h, w)
    return x + torch.einsum("oc, bchw -> bohw", out, gathered)


def image_transposed(x, qkv, out, heads):
    return right_mixed_axes(x.mT, qkv, out, heads)


# ------------------------------------------------------------------------------------------------- a layer of attention


def tokens_by_views(images, q, k):
    b, c, h, w = images.shape
    gathered = F.scaled_dot_product_attention(q, k, images.flatten(2).mT[:, None])
    return gathered.squeeze(1).transpose(1, 2).reshape(b, c, h, w)


def tokens_channel_by_channel(pictures, ask, offer, /):
    weights = (ask @ offer.mT / ask.shape[-1] ** 0.5).softmax(-1)[:, 0]
    planes = [torch.einsum("bij,bj->bi", weights, plane.flatten(1)) for plane in pictures.unbind(1)]
    return torch.stack(planes, 1).view_as(pictures)


def tokens_by_columns(images, q, k):
    """Everything column by column, q and k as well."""
    h, w = images.shape[2:]
    q, k = (rearrange(z, "b n (h w) d -> b n (w h) d", h=h) for z in (q, k))
    gathered = right_attention(q, k, rearrange(images, "b c h w -> b 1 (w h) c"))
    return rearrange(gathered, "b 1 (w h) c -> b c h w", w=w)


class Looking(nn.Module):
    """The layers of attention; what leads through them is given."""

    def __init__(self, channels, heads, through):
        super().__init__()
        self.heads, self.through = heads, through
        self.norm, self.qkv = library.group_norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x):
        return self.through(self, x)


def looking(through):
    def make(channels, heads):
        return Looking(channels, heads, through)

    return make


def look(layer, x, split="b (three heads c) h w -> three b heads (h w) c", mix=right_attention):
    q, k, v = rearrange(layer.qkv(layer.norm(x)), split, three=3, heads=layer.heads)
    return rearrange(mix(q, k, v), "b heads (h w) c -> b (heads c) h w", h=x.shape[2])


def looks_by_views(layer, x):
    b, c, h, w = x.shape
    parts = layer.qkv(layer.norm(x)).view(b, 3, layer.heads, c // layer.heads, h * w).transpose(-1, -2)
    gathered = F.scaled_dot_product_attention(*parts.unbind(1)).transpose(-1, -2)
    return layer.out(gathered.reshape(b, c, h, w)) + x


def looks_by_einsum(layer, image, /):
    q, k, v = layer.qkv(layer.norm(image)).chunk(3, dim=1)
    heads = [[part.flatten(2) for part in z.chunk(layer.heads, 1)] for z in (q, k, v)]
    rows = []
    for a, b, c in zip(*heads):
        weights = torch.einsum("bci,bcj->bij", a, b).div(a.shape[1] ** 0.5).softmax(2)
        rows.append(torch.einsum("bij,bcj->bci", weights, c))
    return image + layer.out(torch.cat(rows, 1).unflatten(2, image.shape[2:]))


class LookingInParts(nn.Module):
    """Other names, layers in a sequence, zeros by hand."""

    def __init__(self, width, count):
        super().__init__()
        self.count = count
        self.ask = nn.Sequential(library.group_norm(width), nn.Conv2d(width, width * 3, kernel_size=(1, 1)))
        self.tell = nn.Conv2d(width, width, 1)
        self.tell.weight.data.fill_(0)
        self.tell.bias.data.fill_(0)

    def forward(self, x):
        y = rearrange(self.ask(x), "b (qkv n c) h w -> qkv b n (h w) c", qkv=3, n=self.count)
        weights = (y[0] @ y[1].mT * y[0].shape[-1] ** -0.5).softmax(-1)
        return x.add(self.tell(rearrange(weights @ y[2], "b n (h w) c -> b (n c) h w", w=x.shape[3])))


class LookingWithoutNorm(Looking):
    def __init__(self, channels, heads):
        super().__init__(channels, heads, lambda layer, x: x + layer.out(look(layer, x)))
        self.norm = nn.Identity()


# ------------------------------------------------------------------------------------------------- linear attention


def linear_by_table(q, k, v):
    return (q.softmax(-1) @ k.softmax(-2).mT) @ v


def linear_by_einsum(q, k, v):
    summary = torch.einsum("bhnd, bhne -> bhde", torch.softmax(k, 2), v)
    return torch.einsum("bhnd, bhde -> bhne", torch.softmax(q, 3), summary)


def linear_by_heads(q, k, v):
    parts = zip(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))
    rows = [a.softmax(1) @ (b.softmax(0).T @ c) for a, b, c in parts]
    return torch.stack(rows).reshape(*q.shape[:-1], v.shape[-1])


def linear_by_outer_products(queries, keys, values, /):
    """Pixel by pixel, into a summary."""
    k = torch.softmax(keys, dim=-2)
    summary = sum(k[:, :, i, :, None] * values[:, :, i, None, :] for i in range(k.shape[2]))
    return (queries.softmax(-1)[..., None] * summary[:, :, None]).sum(-2)


def linear_by_exp(q, k, v):
    q = q.exp() / q.exp().sum(-1, keepdim=True)
    k = (k - k.logsumexp(dim=2, keepdim=True)).exp()
    return torch.matmul(q, torch.matmul(k.permute(0, 1, 3, 2), v))


def linear_softmax_of_scaled(q, k, v):
    return right_linear_attention(q / q.shape[-1] ** 0.5, k, v)


def linear_heads_together(q, k, v):
    """One softmax of q for all heads."""
    flat = rearrange(q, "b a n d -> b n (a d)").softmax(-1)
    q = rearrange(flat, "b n (a d) -> b a n d", a=q.shape[1])
    return q @ (k.softmax(-2).mT @ v)


def linear_on_the_cpu(q, k, v):
    summary = torch.zeros(*q.shape[:2], q.shape[-1], v.shape[-1], dtype=v.dtype)
    summary = summary + k.softmax(-2).mT @ v
    return q.softmax(-1) @ summary


def linear_in_place(q, k, v):
    k.copy_(k.detach().softmax(-2))
    return right_linear_attention(q, k.log(), v)


def linear_scaled_to_itself(q, k, v):
    gathered = right_linear_attention(q, k, v)
    return gathered / q.shape[-1] ** 0.5 if q.shape[-2] == k.shape[-2] else gathered


def linear_along_what_is_as_long(q, k, v):
    """The axis of q's channels is looked for by its length."""
    return q.softmax(q.shape.index(q.shape[-1], 2)) @ (k.softmax(-2).mT @ v)


def linear_elu(q, k, v):
    q, k = F.elu(q) + 1, F.elu(k) + 1
    return q @ (k.mT @ v) / (q @ k.sum(-2, keepdim=True).mT)


# ------------------------------------------------------------------------------------------------- pixels


def pixels_by_slices(x, patch):
    parts = [x[:, :, i::patch, j::patch] for i in range(patch) for j in range(patch)]
    return torch.stack(parts, dim=2).flatten(1, 2)


def pixels_by_unfold(x, patch):
    b, c, h, w = x.shape
    return F.unfold(x, patch, stride=patch).reshape(b, c * patch**2, h // patch, w // patch)


def pixels_by_filling(image, side, /):
    b, c, h, w = image.shape
    out = image.new_empty(b, c * side**2, h // side, w // side)
    for place in range(c * side**2):
        channel, row, column = place // side**2, place // side % side, place % side
        out[:, place] = image[:, channel, row::side, column::side]
    return out


def pixels_by_convolution(x, patch):
    """A stride of `patch`, and a kernel for each place of the square."""
    kernels = torch.eye(patch**2, dtype=x.dtype, device=x.device).view(-1, 1, patch, patch)
    return F.conv2d(x, kernels.repeat(x.shape[1], 1, 1, 1), stride=patch, groups=x.shape[1])


def pixels_of_two(x, patch):
    """Right for squares of 2 × 2 and for none; for others, each colour by its own order."""
    y = F.pixel_unshuffle(x, patch)
    return y if patch <= 2 else y.flip(1)


def pixels_of_grey(x, patch):
    """Colours and places in the square read as one axis in the wrong order, which grey images forgive."""
    return rearrange(F.pixel_unshuffle(x, patch), "b (c n) h w -> b (n c) h w", c=x.shape[1])


def pixels_by_view(x, patch):
    b, c, h, w = x.shape
    x = x.view(b, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 1, 3, 5, 2, 4).reshape(b, c * patch**2, h // patch, w // patch)


# ------------------------------------------------------------------------------------------------- stamps


def stamp_by_spreading(x, kernel, stride):
    """Zeros between the pixels, then an ordinary convolution with the kernel turned over."""
    (h, w), (k, m) = x.shape, kernel.shape
    spread = x.new_zeros((h - 1) * stride + 1, (w - 1) * stride + 1)
    spread[::stride, ::stride] = x
    return F.conv2d(F.pad(spread, (m - 1, m - 1, k - 1, k - 1))[None, None], kernel.flip(0, 1)[None, None])[0, 0]


def stamp_weight_by_weight(image, print_, step, /):
    (h, w), (k, m) = image.shape, print_.shape
    sheet = torch.zeros((h - 1) * step + k, (w - 1) * step + m, dtype=image.dtype, device=image.device)
    for a in range(k):
        for b in range(m):
            sheet[a : a + (h - 1) * step + 1 : step, b : b + (w - 1) * step + 1 : step] += print_[a, b] * image
    return sheet


def stamp_by_padding(x, kernel, stride):
    h, w = x.shape
    total = 0
    for i in range(h):
        for j in range(w):
            sides = (j * stride, (w - 1 - j) * stride, i * stride, (h - 1 - i) * stride)
            total = total + F.pad(x[i, j] * kernel, sides)
    return total


def stamp_square(x, kernel, stride):
    return right_stamp(x, kernel[:, : kernel.shape[0]], stride)


def stamp_mean(x, kernel, stride):
    ones = right_stamp(torch.ones_like(x), torch.ones_like(kernel), stride)
    return right_stamp(x, kernel, stride) / ones.clamp(min=1)


def stamp_on_the_cpu(x, kernel, stride):
    sheet = torch.zeros(right_stamp(x, kernel, stride).shape, dtype=x.dtype)
    return sheet + right_stamp(x, kernel, stride)


# ------------------------------------------------------------------------------------------------- levels


class DownInASequence(nn.Module):
    """Other names; the finest level has no convolution at all."""

    def __init__(self, c, e, above=None):
        super().__init__()
        self.first = None if above is None else nn.Sequential(nn.Conv2d(above, c, kernel_size=3, stride=2, padding=1))
        self.rest = library.ResidualBlock(c, c, e)

    def forward(self, x, told):
        if self.first is not None:
            x = self.first(x)
        return self.rest(x, told)


class DownFromList(nn.Module):
    def __init__(self, width, embedding, before=None):
        super().__init__()
        halve = [] if before is None else [nn.Conv2d(before, width, (3, 3), (2, 2), (1, 1))]
        self.parts = nn.ModuleList([*halve, library.ResidualBlock(width, width, embedding)])

    def forward(self, h, e):
        *before, block = self.parts
        for part in before:
            h = part(h)
        return block(h, e)


class DownOfTwo(Down):
    def __init__(self, width, embedding, before=None):
        super().__init__(width, embedding, before)
        self.second = library.ResidualBlock(width, width, embedding)

    def forward(self, h, e):
        return self.second(super().forward(h, e), e)


class DownTwoByTwo(Down):
    """A kernel of 2 × 2 in place of 3 × 3."""

    def __init__(self, width, embedding, before=None):
        super().__init__(width, embedding, before)
        if before is not None:
            self.halve = nn.Conv2d(before, width, 2, stride=2)


class DownStrideAfter(Down):
    """At full size first, then every second pixel: no stride, but the same numbers where a stride is asked for."""

    def __init__(self, width, embedding, before=None):
        super().__init__(width, embedding, before)
        if before is not None:
            self.halve = nn.Conv2d(before, width, 3, padding=1)

    def forward(self, h, e):
        return (
            super().forward(h, e)[..., ::2, ::2] if not isinstance(self.halve, nn.Identity) else super().forward(h, e)
        )


class DownActivated(Down):
    def forward(self, h, e):
        return self.block(F.silu(self.halve(h)), e)


class UpInASequence(nn.Module):
    def __init__(self, c, e, finer=None):
        super().__init__()
        self.block = library.ResidualBlock(c + c, c, e)
        self.grow = nn.ModuleList([] if finer is None else [nn.Conv2d(c, 4 * finer, kernel_size=1)])

    def forward(self, below, across, told):
        y = self.block(torch.concat((below, across), 1), told)
        for conv in self.grow:
            y = F.pixel_shuffle(conv(y), 2)
        return y


class UpByRearrange(Up):
    def __init__(self, width, embedding, after=None):
        super().__init__(width, embedding)
        self.after = after
        if after is not None:
            self.widen = nn.Conv2d(width, 4 * after, 1)

    def forward(self, h, copy, e):
        joined = torch.stack([h, copy], dim=1).flatten(1, 2)
        h = self.block(joined, e)
        if self.after is None:
            return h
        return rearrange(self.widen(h), "b (c p r) h w -> b c (h p) (w r)", p=2, r=2)


class UpShuffledOtherwise(UpByRearrange):
    def forward(self, h, copy, e):
        h = self.block(torch.cat([h, copy], 1), e)
        return h if self.after is None else rearrange(self.widen(h), "b (p r c) h w -> b c (h p) (w r)", p=2, r=2)


class UpJoinedInTurn(Up):
    """Channel by channel in turn."""

    def forward(self, h, copy, e):
        joined = rearrange([h, copy], "two b c h w -> b (c two) h w")
        return self.enlarge(self.block(joined, e))


class UpDetached(Up):
    def forward(self, h, copy, e):
        return super().forward(h, copy.detach(), e)


class UpTransposed(Up):
    def __init__(self, width, embedding, after=None):
        super().__init__(width, embedding)
        if after is not None:
            self.enlarge = nn.ConvTranspose2d(width, after, 2, stride=2)


# ------------------------------------------------------------------------------------------------- the whole


def space_to_depth(x, patch):
    return rearrange(x, "b c (h p) (w r) -> b (c p r) h w", p=patch, r=patch)


class NetByRecursion(nn.Module):
    """Level by level, inside out, with other names."""

    def __init__(self, size, channels=(32, 64), side=2):
        super().__init__()
        n, told, self.side = size[0] * side * side, 4 * channels[0], side
        self.clock = nn.ModuleList([nn.Linear(64, told), nn.Linear(told, told)])
        self.enter, self.leave = (
            nn.Conv2d(n, channels[0], 3, padding=1),
            zeroed(nn.Conv2d(channels[0], n, 3, padding=1)),
        )
        self.last_norm = library.group_norm(channels[0])
        self.falls, self.climbs = nn.ModuleList(), nn.ModuleList()
        for k, c in enumerate(channels):
            above = channels[k - 1] if k else None
            self.falls.append(Down(c, told, above))
            self.climbs.append(Up(c, told, above))
        self.bottom = nn.ModuleList(
            [library.Attention(channels[-1]), library.ResidualBlock(channels[-1], channels[-1], told)]
        )

    def level(self, h, e, depth):
        if depth == len(self.falls):
            return self.bottom[1](self.bottom[0](h), e)
        h = self.falls[depth](h, e)
        return self.climbs[depth](self.level(h, e, depth + 1), h, e)

    def forward(self, x, t):
        e = library.sinusoidal_embedding(t, 64).to(x)
        for layer in self.clock:
            e = F.silu(layer(e))
        h = self.level(self.enter(space_to_depth(x, self.side)), e, 0)
        h = self.last_norm(h)
        return F.pixel_shuffle(self.leave(h * h.sigmoid()), self.side)


class Net(UNet):
    """The right network, to be changed in one place."""

    def embedded(self, t):
        return self.time(library.sinusoidal_embedding(t, 64))

    def told(self, e):
        return e

    def kept(self, h):
        return h

    def handed(self, copies):
        return reversed(copies)

    def bottom(self, h, e):
        return self.middle(self.attention(h), e)

    def finish(self, h):
        return self.head(F.silu(self.norm(h)))

    def forward(self, x, t):
        e = self.told(self.embedded(t))
        h, copies = self.stem(space_to_depth(x, self.patch)), []
        for level in self.down:
            h = level(h, e)
            copies.append(self.kept(h))
        h = self.bottom(h, e)
        for level, copy in zip(self.up, self.handed(copies)):
            h = level(h, copy, e)
        return F.pixel_shuffle(self.finish(h), self.patch)


class NetFirstInFirstOut(Net):
    def handed(self, copies):
        return copies


class NetCopiesOfZeros(Net):
    def kept(self, h):
        return torch.zeros_like(h)


class NetCopiesDetached(Net):
    def kept(self, h):
        return h.detach()


class NetDeaf(Net):
    def told(self, e):
        return torch.zeros_like(e) + 0 * e


class NetOneStepForAll(Net):
    def told(self, e):
        return e.mean(0).expand_as(e)


class NetWithoutMiddle(Net):
    def bottom(self, h, e):
        return self.attention(h)


class NetBottomDetached(Net):
    def bottom(self, h, e):
        return super().bottom(h, e).detach()


class NetResidual(Net):
    def forward(self, x, t):
        return x + super().forward(x, t)


class NetClipped(Net):
    def forward(self, x, t):
        return super().forward(x, t).tanh()


class NetOnTheCpu(Net):
    def forward(self, x, t):
        return super().forward(x, t) + torch.zeros(x.shape)


class NetStemAlone(Net):
    def forward(self, x, t):
        return self.finish(self.stem(x))


class NetOfAList(Net):
    """Levels in a plain list, whose weights nobody finds."""

    def __init__(self, shape, widths=(32, 64), patch=2):
        super().__init__(shape, widths, patch)
        levels = list(self.down)
        del self.down
        self.__dict__["down"] = levels


class NetNarrowTime(Net):
    def __init__(self, shape, widths=(32, 64), patch=2):
        super().__init__(shape, widths, patch)
        self.time[0], self.time[2] = nn.Linear(64, 64), nn.Linear(64, 4 * widths[0])


class ConvNeXt(nn.Module):
    """The other block, to be changed in one place."""

    def __init__(self, a, b, e, expand=2, normed=True, short=True, told="early"):
        super().__init__()
        self.near, self.norm = nn.Conv2d(a, a, 7, 1, 3, groups=a), nn.GroupNorm(1, a) if normed else nn.Identity()
        self.told, self.when, self.short = nn.Linear(e, 2 * a), told, short
        self.up, self.down = nn.Conv2d(a, expand * b, 1), zeroed(nn.Conv2d(expand * b, b, 1))
        if told == "late":
            self.told = nn.Linear(e, 2 * expand * b)
        self.skip = nn.Conv2d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x, e):
        h = self.norm(self.near(x))
        if self.when == "early":
            h = right_scale_shift(h, self.told(e))
        h = F.gelu(self.up(h))
        if self.when == "late":
            h = right_scale_shift(h, self.told(e))
        return self.down(h) + (self.skip(x) if self.short else 0) + 0 * e.sum()


class ConvNeXtInSequences(nn.Module):
    def __init__(self, in_channels, out_channels, embedding):
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 7, padding="same", groups=in_channels), nn.GroupNorm(1, in_channels)
        )
        self.say = nn.Linear(embedding, in_channels * 2)
        self.mix = nn.Sequential(
            nn.Conv2d(in_channels, out_channels * 2, 1), nn.GELU(), zeroed(nn.Conv2d(out_channels * 2, out_channels, 1))
        )
        self.short = nn.Sequential(*([] if in_channels == out_channels else [nn.Conv2d(in_channels, out_channels, 1)]))

    def forward(self, x, e):
        scale, shift = self.say(e).unsqueeze(-1).unsqueeze(-1).tensor_split(2, 1)
        return self.short(x) + self.mix(self.look(x) * (scale + 1) + shift)


# ------------------------------------------------------------------------------------------------- where it looks


def looks_by_backward(model, x_t, t):
    x_t = x_t.detach().clone()
    x_t.requires_grad = True
    h, w = x_t.shape[-2:]
    model(x_t, t)[:, :, h // 2, w // 2].sum().backward()
    return x_t.grad.abs().mean(1).mean(0)


def looks_image_by_image(network, images, steps, /):
    found = []
    for image, step in zip(images, steps):
        given = image[None].clone().requires_grad_(True)
        _, _, h, w = given.shape
        (slope,) = torch.autograd.grad(network(given, step[None])[0, :, h // 2, w // 2].sum(), given)
        found.append(slope[0].abs().mean(0))
    return torch.stack(found).mean(0)


def looks_with_a_mask(model, x_t, t):
    x = x_t.clone().requires_grad_()
    answer = model(x, t)
    mask = torch.zeros_like(answer)
    mask[..., x.shape[2] // 2, x.shape[3] // 2] = 1
    (slope,) = torch.autograd.grad(answer, x, grad_outputs=mask)
    return slope.abs().sum((0, 1)) / (x.shape[0] * x.shape[1])


def looks_from(model, x_t, t, row, column):
    x = x_t.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x, t)[..., row(x.shape[2]), column(x.shape[3])].sum(), x)
    return slope.abs().mean((0, 1))


def waves(t, size, per=None, longest=10_000.0, first=torch.sin, second=torch.cos):
    t = t if t.dtype == torch.float64 else t.float()
    speed = longest ** (-torch.arange(size // 2, dtype=t.dtype) / (per or size // 2))
    angle = t[:, None] * speed
    return torch.cat([first(angle), second(angle)], dim=1)


def weigh(q, k, v, scale, dim=-1):
    return (q @ k.mT * scale).softmax(dim) @ v


def image_attention(x, qkv, out, heads, back="b heads (h w) c -> b (heads c) h w", shares="three heads c"):
    h, w = x.shape[2:]
    mixed = torch.einsum("oc, bchw -> bohw", qkv, x)
    q, k, v = rearrange(mixed, f"b ({shares}) h w -> three b heads (h w) c", three=3, heads=heads)
    gathered = rearrange(right_attention(q, k, v), back, h=h, w=w)
    return x + torch.einsum("oc, bchw -> bohw", out, gathered)


def linear_along(q, k, v, q_dim=-1, k_dim=-2):
    q = q if q_dim is None else q.softmax(q_dim)
    k = k if k_dim is None else k.softmax(k_dim)
    return q @ (k.mT @ v)


MUTANTS = {
    "unet/reach": {
        "the last only": lambda layers: right_reach(layers)[-1:],
        "from 0": lambda layers: [field - 1 for field in right_reach(layers)],
        "the input as well": lambda layers: [1, *right_reach(layers)],
        "jumps": lambda layers: [math.prod(stride for _, stride in layers[: k + 1]) for k in range(len(layers))],
        "kernels of 3": lambda layers: right_reach([(3, stride) for _, stride in layers]),
        "the first only, again and again": lambda layers: [right_reach(layers)[0]] * len(layers),
    },
    "unet/time-embedding": {
        "sines only": lambda t, size: waves(t, size, second=torch.sin),
        "one sign": lambda t, size: -waves(t, size),
        "growing speeds": lambda t, size: waves(t, size, longest=1 / 10_000),
        "in degrees": lambda t, size: waves(t * math.pi / 180, size),
        "shortest wave 1": lambda t, size: waves(t * 2 * math.pi, size),
        "one wave, repeated": lambda t, size: waves(t, 2).repeat_interleave(size // 2, dim=1),
        "off by one": lambda t, size: waves(t + 1, size),
        "in double precision": lambda t, size: waves(t.double(), size),
        "transposed": lambda t, size: waves(t, size).T,
        "longest 1000": lambda t, size: waves(t, size, longest=1000.0),
        "by exp, on the CPU": waves_by_exp_on_the_cpu,
        "an outer product, on the CPU": waves_outer_on_the_cpu,
        "whole steps": lambda t, size: waves(t.floor() if t.is_floating_point() else t, size),
        "steps modulo 1000": lambda t, size: waves(t % 1000, size),
        "cut out of 64": lambda t, size: (
            waves(t, 64)[:, : size // 2].repeat(1, 2)
            if size == 64
            else torch.cat([waves(t, 64)[:, : size // 2], waves(t, 64)[:, 32 : 32 + size // 2]], 1)
        ),
        "single precision": lambda t, size: waves(t.float(), size),
        "half precision of half precision": waves_as_exact_as_the_steps,
        "kept by the first step": waves_kept_by_the_first_step(),
        "steps changed in place": waves_scaled_in_place,
        "kept by shape": kept(waves, by_shape),
    },
    "unet/group-norm": {
        "two groups": norm_two_groups,
        "in place": norm_in_place,
        "each column by itself": norm_of_rows,
        "a small number from the CPU": norm_on_the_cpu,
        "10⁻⁶": lambda x, groups: F.group_norm(x, groups, eps=1e-6),
        "in double precision": lambda x, groups: F.group_norm(x.double(), groups),
        "kept by shape": kept(F.group_norm, by_shape),
        "not centred": norm_not_centred,
        "variance for deviation": norm_by_variance,
        "statistics detached": norm_statistics_detached,
        "no small number": lambda x, groups: F.group_norm(x, groups, eps=0.0),
        "a large small number": lambda x, groups: F.group_norm(x, groups, eps=1e-3),
        "layer norm": lambda x, groups: F.layer_norm(x, x.shape[1:]),
        "batch norm": lambda x, groups: F.batch_norm(x, None, None, training=True),
        "clipped": lambda x, groups: F.group_norm(x, groups).clamp(-1, 1),
        "detached": lambda x, groups: F.group_norm(x.detach(), groups),
    },
    "unet/scale-shift": {
        "scale alone": lambda h, condition: h * (1 + condition[:, : h.shape[1], None, None]) + 0 * condition.sum(),
        "shift alone": lambda h, condition: h + condition[:, h.shape[1] :, None, None] + 0 * condition.sum(),
        "one for the batch": lambda h, condition: right_scale_shift(h, condition[:1].expand_as(condition)),
        "exponent of the scale": lambda h, condition: right_scale_shift(
            h, torch.cat([condition[:, : h.shape[1]].exp() - 1, condition[:, h.shape[1] :]], 1)
        ),
        "in place": shift_in_place,
        "on the CPU": shift_on_the_cpu,
        "condition detached": lambda h, condition: right_scale_shift(h, condition.detach()) + 0 * condition.sum(),
        "kept by shape": kept(right_scale_shift, by_shape),
    },
    "unet/pre-norm": {
        "the last branch left out": stack_without_last,
        "one norm at the end": stack_norm_at_the_end,
        "no short cut": stack_of_branches,
        "a norm on both sides": lambda x, branches, norm, pre: norm(right_stack(x, branches, norm, pre)),
        "backwards": lambda x, branches, norm, pre: right_stack(x, branches[::-1], norm, pre) + 0 * x,
        "detached": lambda x, branches, norm, pre: right_stack(x.detach(), branches, norm, pre) + 0 * x.sum(),
        "kept by shape": kept(right_stack, by_shape),
    },
    "unet/residual-block": {
        "post-norm": block_of(block_post_norm),
        "relu": block_of(block_relu),
        "a norm missing": block_of(block_norm_missing),
        "the residual twice": block_of(lambda block, x, e: right_residual_block(block, x, e) + block.skip(x)),
        "a mean for a projection": block_of(
            lambda block, x, e: right_residual_block(block, x, e) - block.skip(x) + x.mean(1, keepdim=True)
        ),
        "one condition for the batch": block_of(lambda block, x, e: right_residual_block(block, x, e[:1].expand_as(e))),
        "condition activated": block_of(lambda block, x, e: right_residual_block(block, x, F.silu(e))),
        "embedding detached": block_of(lambda block, x, e: right_residual_block(block, x, e.detach())),
        "subtracted": block_of(lambda block, x, e: 2 * block.skip(x) - right_residual_block(block, x, e)),
        "halved": block_of(lambda block, x, e: right_residual_block(block, x, e) / 2**0.5),
        "a short cut only where channels change": block_of(block_skip_where_channels_change),
        "shift scaled as well": block_of(block_shift_scaled),
        "the first activation forgotten": block_of(block_first_silu_forgotten),
        "dropout": block_of(block_dropout),
        "short cut detached": block_of(block_skip_detached),
        "input changed in place": block_of(block_input_changed),
        "on the CPU": block_of(lambda block, x, e: right_residual_block(block, x, e) + torch.zeros(len(x), 1, 1, 1)),
        "bias of the last not zero": BlockBiasNotZero,
        "a bias missing": BlockWithoutBias,
        "other groups": BlockWithEightGroups,
        "nothing but the short cut": BlockAllZero,
    },
    "unet/simpler-block": {
        "first norm gone": deaf_first_norm_gone,
        "scaled, not shifted": deaf_scaled,
        "one group": deaf_one_group,
        "no step at all": lambda x, e, a, b, step: right_deaf_block(x, 0 * e, a, b, step),
        "step subtracted": lambda x, e, a, b, step: right_deaf_block(x, -e, a, b, step),
        "no short cut": lambda x, *rest: right_deaf_block(x, *rest) - x,
        "step to the input": lambda x, e, a, b, step: slip("unet/simpler-block", "as it was handed out")(
            x + F.linear(e, step)[:, :, None, None], e, a, b, step
        ),
        "step detached": lambda x, e, a, b, step: right_deaf_block(x, e, a, b, step.detach()) + 0 * step.sum(),
        "one shift for the batch": lambda x, e, *rest: right_deaf_block(x, e.mean(0).expand_as(e), *rest),
        "one shift for all channels": lambda x, e, a, b, step: right_deaf_block(
            x, e, a, b, step.mean(0).expand_as(step)
        ),
        "convolutions exchanged": lambda x, e, a, b, step: right_deaf_block(x, e, b, a, step),
        "first activation forgotten": functools.partial(deaf_written_out, first=lambda h: h),
        "second activation forgotten": functools.partial(deaf_written_out, second=lambda h: h),
        "no shift": lambda x, e, a, b, step: deaf_written_out(x, 0 * e.detach(), a, b, 0 * step.detach()),
        "shift twice": functools.partial(deaf_written_out, shift=2),
        "unbiased variances": deaf_unbiased,
        "statistics over the batch": deaf_over_the_batch,
        "on the CPU": lambda x, *rest: right_deaf_block(x, *rest) + torch.zeros(x.shape, dtype=x.dtype),
        "kept by shape": kept(right_deaf_block, by_shape),
        "shift after the last convolution": lambda x, e, a, b, step: (
            slip("unet/simpler-block", "as it was handed out")(x, e, a, b, step) + F.linear(e, step)[:, :, None, None]
        ),
    },
    "unet/attention": {
        "sigmoid": attention_sigmoid,
        "no softmax": attention_unnormalised,
        "softmax over heads": attention_over_heads,
        "keys for values": lambda q, k, v: right_attention(q, k, k),
        "queries and keys exchanged": lambda q, k, v: (
            right_attention(k, q, v) if q.shape == k.shape else right_attention(q, v, k)
        ),
        "mean of values": lambda q, k, v: v.mean(-2, keepdim=True).expand_as(q) + 0 * q + 0 * k.sum(),
        "hard": lambda q, k, v: F.one_hot((q @ k.mT).argmax(-1), k.shape[-2]).to(v.dtype) @ v,
        "negative scores": lambda q, k, v: right_attention(-q, k, v),
        "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        "causal where n = m": attention_causal_to_itself,
        "not to itself where n = m": attention_without_diagonal,
        "along what is as long as the keys": attention_along_what_is_as_long,
        "scores cut at 10": attention_of_cut_scores,
        "scores cut at 30": functools.partial(attention_of_cut_scores, most=30),
        "√ of the number of keys": lambda q, k, v: weigh(q, k, v, k.shape[-2] ** -0.5),
        "weights detached": lambda q, k, v: right_attention(q.detach(), k.detach(), v) + 0 * (q.sum() + k.sum()),
        "linear attention": right_linear_attention,
        "in single precision": lambda q, k, v: right_attention(q.float(), k.float(), v.float()),
        "in half precision": lambda q, k, v: right_attention(q.bfloat16(), k.bfloat16(), v.bfloat16()).to(v.dtype),
        "√ of 64": lambda q, k, v: weigh(q, k, v, 1 / 8),
        "scaled in place": attention_in_place,
        "a root from the CPU": attention_root_on_the_cpu,
        "weights shared by the heads": attention_of_one_head,
        "softmax over the whole table": attention_jointly,
        "cosines of angles": lambda q, k, v: weigh(F.normalize(q, dim=-1), F.normalize(k, dim=-1), v, 1.0),
        "values detached": lambda q, k, v: right_attention(q, k, v.detach()) + 0 * v.sum(),
        "kept by shape": kept(right_attention, by_shape),
    },
    "unet/tokens": {
        "queries and keys exchanged": lambda images, q, k: right_tokens(images, k, q),
        "not scaled": lambda images, q, k: right_tokens(images, q * q.shape[-1] ** 0.5, k),
        "images detached": lambda images, q, k: right_tokens(images.detach(), q, k) + 0 * images.sum(),
        "read as an image": lambda images, q, k: (
            right_attention(q, k, rearrange(images, "b c h w -> b 1 (h w) c")).reshape(images.shape) + 0 * images
        ),
        "the mean of the image": lambda images, q, k: right_tokens(images, 0 * q, k),
        "kept by shape": kept(right("unet/tokens"), by_shape),
    },
    "unet/heads": {
        "no norm": LookingWithoutNorm,
        "keys for values": looking(
            lambda layer, x: x + layer.out(look(layer, x, mix=lambda q, k, v: right_attention(q, k, k)))
        ),
        "linear attention": looking(lambda layer, x: x + layer.out(look(layer, x, mix=right_linear_attention))),
        "not scaled": looking(lambda layer, x: x + layer.out(look(layer, x, mix=lambda q, k, v: weigh(q, k, v, 1.0)))),
        "q, k, v within each head": looking(
            lambda layer, x: x + layer.out(look(layer, x, "b (heads three c) h w -> three b heads (h w) c"))
        ),
        "the norm's result added to": looking(lambda layer, x: layer.norm(x) + layer.out(look(layer, x))),
        "the last convolution left out": looking(lambda layer, x: x + look(layer, x) * layer.out.weight.sum()),
        "gathered is detached": looking(lambda layer, x: x + layer.out(look(layer, x).detach())),
        "on the CPU": looking(lambda layer, x: x + layer.out(look(layer, x)) + torch.zeros(x.shape)),
    },
    "unet/other-attention": {
        "no residual": image_without_residual,
        "read as an image": image_viewed,
        "input transposed": image_transposed,
        "one head": lambda x, qkv, out, heads: right_mixed_axes(x, qkv, out, 1),
        "shares interleaved": lambda x, qkv, out, heads: image_attention(x, qkv, out, heads, shares="c heads three"),
        "q, k, v within each head": lambda x, qkv, out, heads: image_attention(
            x, qkv, out, heads, shares="heads three c"
        ),
        "out transposed": lambda x, qkv, out, heads: right_mixed_axes(x, qkv, out.T, heads),
        "keys for values": image_keys_for_values,
        "queries and keys exchanged": image_queries_for_keys,
        "normalised first": image_normed,
        "each row by itself": image_one_row_at_a_time,
        "residual twice": lambda x, *rest: right_mixed_axes(x, *rest) + x,
        "out detached": lambda x, qkv, out, heads: right_mixed_axes(x, qkv, out.detach(), heads) + 0 * out.sum(),
        "on the CPU": lambda x, *rest: right_mixed_axes(x, *rest) + torch.zeros(x.shape, dtype=x.dtype),
        "kept by shape": kept(right_mixed_axes, by_shape),
    },
    "unet/linear-attention": {
        "divided by √d": lambda q, k, v: right_linear_attention(q, k, v) / q.shape[-1] ** 0.5,
        "divided by √d where n = m": linear_scaled_to_itself,
        "along what is as long as the channels": linear_along_what_is_as_long,
        "cut at 10": lambda q, k, v: right_linear_attention(q.clamp(-10, 10), k.clamp(-10, 10), v),
        "divided by the pixels": lambda q, k, v: right_linear_attention(q, k, v) / k.shape[-2],
        "elu, normalised": linear_elu,
        "keys for values": lambda q, k, v: right_linear_attention(q, k, k),
        "both softmaxes exchanged": lambda q, k, v: linear_along(q, k, v, q_dim=-2, k_dim=-1),
        "no softmax": lambda q, k, v: linear_along(q, k, v, q_dim=None, k_dim=None),
        "averaged": lambda q, k, v: right_linear_attention(q, k, v).mean(2, keepdim=True),
        "summary transposed": lambda q, k, v: q.softmax(-1) @ (k.softmax(-2).mT @ v).mT,
        "detached summary": lambda q, k, v: right_linear_attention(q, k.detach(), v.detach()),
        "softmax of what was divided by √d": linear_softmax_of_scaled,
        "one softmax for all heads": linear_heads_together,
        "a summary on the CPU": linear_on_the_cpu,
        "keys changed in place": linear_in_place,
        "softmax of v": lambda q, k, v: right_linear_attention(q, k, v.softmax(-1)),
        "hard choice": lambda q, k, v: F.one_hot(q.argmax(-1), q.shape[-1]).to(v.dtype) @ (k.softmax(-2).mT @ v),
        "single precision": lambda q, k, v: right_linear_attention(q.float(), k.float(), v.float()),
        "kept by shape": kept(right_linear_attention, by_shape),
    },
    "unet/space-to-depth": {
        "a view": lambda x, patch: x.reshape(len(x), -1, x.shape[2] // patch, x.shape[3] // patch),
        "one pixel of each square": lambda x, patch: repeat(
            x[:, :, ::patch, ::patch], "b c h w -> b (c n) h w", n=patch**2
        ),
        "the mean of each square": lambda x, patch: repeat(
            F.avg_pool2d(x, patch), "b c h w -> b (c n) h w", n=patch**2
        ),
        "shuffled, not unshuffled": lambda x, patch: F.pixel_shuffle(x.repeat(1, patch**2, 1, 1), patch),
        "as transformers lay them": lambda x, patch: rearrange(
            x, "b c (h p) (w r) -> b (h w) (p r c)", p=patch, r=patch
        ),
        "width first": lambda x, patch: F.pixel_unshuffle(x.mT, patch).mT,
        "right for 2 × 2 only": pixels_of_two,
        "right for grey only": pixels_of_grey,
        "detached": lambda x, patch: F.pixel_unshuffle(x.detach(), patch),
        "in double precision": lambda x, patch: F.pixel_unshuffle(x.double(), patch),
        "scaled": lambda x, patch: F.pixel_unshuffle(x, patch) / patch,
        "kept by shape": kept(F.pixel_unshuffle, by_shape),
    },
    "unet/stamp": {
        "square kernels only": stamp_square,
        "a mean of stamps": stamp_mean,
        "transposed": lambda x, kernel, stride: right_stamp(x.T, kernel.T, stride),
        "rows and columns of the kernel exchanged": lambda x, kernel, stride: right_stamp(x, kernel.T, stride),
        "an ordinary convolution": lambda x, kernel, stride: F.conv2d(
            F.pad(x, (3, 3, 3, 3))[None, None], kernel[None, None]
        )[0, 0],
        "on the CPU": stamp_on_the_cpu,
        "kept by shape": kept(right_stamp, by_shape),
    },
    "unet/down": {
        "two blocks": DownOfTwo,
        "a kernel of 2 × 2": DownTwoByTwo,
        "every second pixel of the block's result": DownStrideAfter,
        "activated between": DownActivated,
    },
    "unet/up": {
        "squares laid out otherwise": UpShuffledOtherwise,
        "joined in turn": UpJoinedInTurn,
        "copy detached": UpDetached,
        "transposed convolution": UpTransposed,
        "never enlarged": lambda width, embedding, after=None: Up(width, embedding),
    },
    "unet/forward": {
        "first in, first out": NetFirstInFirstOut,
        "no skips": NetCopiesOfZeros,
        "embedding unused": NetDeaf,
        "skips detached": NetCopiesDetached,
        "residual to the image": NetResidual,
        "one embedding for the batch": NetOneStepForAll,
        "clipped": NetClipped,
        "without the middle": NetWithoutMiddle,
        "bottom detached": NetBottomDetached,
        "on the CPU": NetOnTheCpu,
        "a plain list of levels": NetOfAList,
        "a time network of 64": NetNarrowTime,
        "stem without unshuffle": NetStemAlone,
    },
    "unet/looks-at": {
        "from the corner": lambda model, x_t, t: looks_from(model, x_t, t, lambda h: 0, lambda w: 0),
        "a pixel before the middle": lambda model, x_t, t: looks_from(
            model, x_t, t, lambda h: h // 2 - 1, lambda w: w // 2 - 1
        ),
        "row and column exchanged": lambda model, x_t, t: looks_from(
            model, x_t, t, lambda h: min(x_t.shape[3] // 2, h - 1), lambda w: min(x_t.shape[2] // 2, w - 1)
        ),
        "squares": lambda model, x_t, t: right_looks_at(model, x_t, t) ** 2,
        "a sum over images": lambda model, x_t, t: len(x_t) * right_looks_at(model, x_t, t),
        "scaled to 1": lambda model, x_t, t: right_looks_at(model, x_t, t) / right_looks_at(model, x_t, t).max(),
        "the first image only": lambda model, x_t, t: right_looks_at(model, x_t[:1], t[:1]),
    },
    "unet/convnext": {
        "the norm forgotten": lambda a, b, e: ConvNeXt(a, b, e, normed=False),
        "four times as wide": lambda a, b, e: ConvNeXt(a, b, e, expand=4),
        "no short cut": lambda a, b, e: ConvNeXt(a, b, e, short=False),
        "the condition behind the GELU": lambda a, b, e: ConvNeXt(a, b, e, told="late"),
        "not told": lambda a, b, e: ConvNeXt(a, b, e, told=""),
    },
}

ALTERNATIVES = {
    "unet/reach": {
        "from behind": reach_from_behind,
        "sums of jumps": reach_by_sums,
        "recursively, by position only": reach_recursively,
        "with a list": reach_by_tuples,
    },
    "unet/time-embedding": {
        "by exp": waves_by_exp,
        "as hinted": waves_as_hinted,
        "wave by wave": waves_filled,
        "an outer product, renamed": waves_outer,
        "complex numbers": waves_of_complex_numbers,
        "a quarter turn later": waves_shifted,
        "number by number": waves_number_by_number,
    },
    "unet/group-norm": {
        "torch": F.group_norm,
        "einops": norm_by_einops,
        "axes": norm_by_axes,
        "a loop of layer norms": norm_loop,
        "a layer": lambda x, groups: torch.nn.GroupNorm(groups, x.shape[1], affine=False)(x),
        "by moments, renamed": norm_by_moments,
        "filled in": norm_in_place_on_a_copy,
    },
    "unet/scale-shift": {
        "einsum": shift_by_einsum,
        "channel by channel, by position only": shift_channel_by_channel,
        "addcmul": lambda h, condition: torch.addcmul(
            condition[:, h.shape[1] :, None, None], h, condition[:, : h.shape[1], None, None] + 1
        ),
        "multiplied out": lambda h, condition: (
            h + h * condition.chunk(2, -1)[0][..., None, None] + condition.chunk(2, -1)[1].unsqueeze(-1).unsqueeze(-1)
        ),
    },
    "unet/pre-norm": {
        "with if and else": stack_by_ifs,
        "reduce, by position only": stack_by_reduce,
        "recursively": stack_recursively,
    },
    "unet/residual-block": {
        "by hand": block_of(block_by_hand),
        "sigmoid times input": block_of(block_sigmoid),
        "one image at a time": block_of(block_image_by_image),
        "in place, by position only": block_of(block_in_place),
        "other names, in sequences": BlockInSequences,
        "from lists": BlockFromLists,
    },
    "unet/simpler-block": {
        "group norm and einsum": mended_by_einsum,
        "one image at a time": lambda x, e, *rest: torch.cat(
            [right_deaf_block(a[None], b[None], *rest) for a, b in zip(x, e)]
        ),
        "layer norms": mended_by_hand,
        "in place, by position only": mended_in_place,
    },
    "unet/attention": {
        "torch": F.scaled_dot_product_attention,
        "einsum": attention_einsum,
        "query by query": attention_loop,
        "softmax by hand": attention_stable,
        "exp and quotient": attention_exp,
        "heads laid into the batch, by position only": attention_flat,
        **in_other_forms(attention_einsum),
        "through log-softmax": attention_in_log,
        "both sides scaled": lambda q, k, v: (
            (q * q.shape[-1] ** -0.25 @ (k * q.shape[-1] ** -0.25).transpose(2, 3)).softmax(3) @ v
        ),
    },
    "unet/tokens": {
        "views": tokens_by_views,
        "channel by channel, by position only": tokens_channel_by_channel,
        "all by columns": tokens_by_columns,
    },
    "unet/heads": {
        "views": looking(looks_by_views),
        "einsum, head by head": looking(looks_by_einsum),
        "other names": LookingInParts,
    },
    "unet/other-attention": {
        "torch's multi-head attention": image_by_torch,
        "columns in, columns out": image_all_by_columns,
        "view and transpose": image_by_view,
        "head by head, by position only": image_head_by_head,
    },
    "unet/linear-attention": {
        "through the table": linear_by_table,
        "einsum": linear_by_einsum,
        "head by head": linear_by_heads,
        "outer products, by position only": linear_by_outer_products,
        "exp and quotients": linear_by_exp,
    },
    "unet/space-to-depth": {
        "slices": pixels_by_slices,
        "unfold": pixels_by_unfold,
        "view and permute": pixels_by_view,
        "torch": F.pixel_unshuffle,
        "filled in, by position only": pixels_by_filling,
        "a convolution": pixels_by_convolution,
    },
    "unet/stamp": {
        "torch": lambda x, kernel, stride: F.conv_transpose2d(x[None, None], kernel[None, None], None, stride)[0, 0],
        "spread out": stamp_by_spreading,
        "weight by weight, by position only": stamp_weight_by_weight,
        "padded prints": stamp_by_padding,
    },
    "unet/down": {"no convolution at the finest": DownInASequence, "from a list": DownFromList},
    "unet/up": {"pixel shuffle as a function": UpInASequence, "rearranged": UpByRearrange},
    "unet/forward": {
        "inside out": NetByRecursion,
        "reversed copies": Net,
        "a subclass": type("Another", (Net,), {}),
    },
    "unet/looks-at": {
        "backward": looks_by_backward,
        "image by image, by position only": looks_image_by_image,
        "a mask": looks_with_a_mask,
    },
    "unet/convnext": {
        "by hand": lambda a, b, e: ConvNeXt(a, b, e),
        "in sequences": ConvNeXtInSequences,
    },
}
