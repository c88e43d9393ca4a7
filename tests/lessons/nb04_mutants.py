"""Answers to the quizzes of notebook 04: wrong ones that must be rejected, right ones that must be accepted."""

import math

import torch
from einops import einsum, rearrange, repeat
from torch.nn import functional as F

from course_utils.models import unet as library
from lessons.answers import right, slip

right_residual_block = right("unet/residual-block")
right_deaf_block = right("unet/deaf-block")
right_mixed_axes = right("unet/mixed-axes")
right_forward = right("unet/forward")
right_attention = right("unet/attention")
right_linear_attention = right("unet/linear-attention")

# ------------------------------------------------------------------------------------------------- a step as waves


def waves_by_exp(t, size):
    half = size // 2
    speed = torch.exp(-math.log(10_000) * torch.arange(half) / half)
    angle = rearrange(t, "b -> b 1") * speed.to(t.dtype if t.is_floating_point() else torch.float32)
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)


def waves_filled(t, size):
    result = torch.zeros(len(t), size, dtype=t.dtype if t.is_floating_point() else torch.float32)
    for k in range(size // 2):
        result[:, k] = torch.sin(t / 10_000 ** (2 * k / size))
        result[:, size // 2 + k] = torch.cos(t / 10_000 ** (2 * k / size))
    return result


# ------------------------------------------------------------------------------------------------- group norm


def norm_by_std(x, groups):
    parts = rearrange(x, "b (g c) h w -> b g (c h w)", g=groups)
    parts = (parts - parts.mean(-1, keepdim=True)) / (parts.std(-1, keepdim=True, correction=0) + 1e-5)
    return rearrange(parts, "b g (c h w) -> b (g c) h w", c=x.shape[1] // groups, h=x.shape[2], w=x.shape[3])


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


# ------------------------------------------------------------------------------------------------- residual block


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


def attention_sigmoid(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).sigmoid() @ v


def attention_unnormalised(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5) @ v


def attention_over_heads(q, k, v):
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(1) @ v


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


def pixels_by_view(x, patch):
    b, c, h, w = x.shape
    x = x.view(b, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 1, 3, 5, 2, 4).reshape(b, c * patch**2, h // patch, w // patch)


# ------------------------------------------------------------------------------------------------- forward


def forward_by_recursion(model, x, e):
    """Level by level, inside out."""

    def level(h, depth):
        for block in model.down[depth]:
            h = block(h, e)
        if depth + 1 == len(model.down):
            below = model.middle(model.attention(h), e)
        else:
            below = model.upsample[len(model.upsample) - 1 - depth](level(model.downsample[depth](h), depth + 1))
        below = model.join(below, h)
        for block in model.up[len(model.up) - 1 - depth]:
            below = block(below, e)
        return below

    h = level(model.stem(F.pixel_unshuffle(x, model.patch)), 0)
    return F.pixel_shuffle(model.head(F.silu(model.norm(h))), model.patch)


def forward_by_index(model, x, e):
    kept, h = {}, model.stem(F.pixel_unshuffle(x, model.patch))
    for level in range(len(model.down)):
        if level > 0:
            h = model.downsample[level - 1](h)
        for block in model.down[level]:
            h = block(h, e)
        kept[level] = h
    h = model.middle(model.attention(h), e)
    for place, level in enumerate(reversed(range(len(model.down)))):
        if place > 0:
            h = model.upsample[place - 1](h)
        h = model.join(h, kept[level])
        for block in model.up[place]:
            h = block(h, e)
    return F.pixel_shuffle(model.head(F.silu(model.norm(h))), model.patch)


def forward_first_in_first_out(model, x, e):
    return through(model, x, e, skips_of=lambda skips: skips[::-1])


def forward_coarsest_skip_everywhere(model, x, e):
    return through(model, x, e, skips_of=lambda skips: [torch.zeros_like(s) for s in skips])


def forward_embedding_unused(model, x, e):
    return right_forward(model, x, torch.zeros_like(e)) + 0 * e.sum()


def forward_skips_detached(model, x, e):
    return through(model, x, e, skips_of=lambda skips: [skip.detach() for skip in skips])


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


def through(model, x, e, *, keep="after", join=None, middle_first=False, head_norm=True, skips_of=lambda skips: skips):
    """The forward pass, with a place for each of the mistakes that people make."""
    join = join or model.join
    h, skips = model.stem(F.pixel_unshuffle(x, model.patch)), []
    for level, blocks in enumerate(model.down):
        h = model.downsample[level - 1](h) if level else h
        if keep == "before":
            skips.append(h)
        for block in blocks:
            h = block(h, e)
        if keep == "after":
            skips.append(h)
    h = model.attention(model.middle(h, e)) if middle_first else model.middle(model.attention(h), e)
    skips = skips_of(skips)
    for level, blocks in enumerate(model.up):
        h = model.upsample[level - 1](h) if level else h
        h = join(h, skips.pop())
        for block in blocks:
            h = block(h, e)
    return F.pixel_shuffle(model.head(F.silu(model.norm(h)) if head_norm else h), model.patch)


MUTANTS = {
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
    },
    "unet/group-norm": {
        "small number outside the root": norm_by_std,
        "not centred": norm_not_centred,
        "variance for deviation": norm_by_variance,
        "statistics detached": norm_statistics_detached,
        "no small number": lambda x, groups: F.group_norm(x, groups, eps=0.0),
        "a large small number": lambda x, groups: F.group_norm(x, groups, eps=1e-3),
        "groups for their size": lambda x, groups: F.group_norm(x, x.shape[1] // groups),
        "layer norm": lambda x, groups: F.layer_norm(x, x.shape[1:]),
        "batch norm": lambda x, groups: F.batch_norm(x, None, None, training=True),
        "clipped": lambda x, groups: F.group_norm(x, groups).clamp(-1, 1),
        "detached": lambda x, groups: F.group_norm(x.detach(), groups),
    },
    "unet/residual-block": {
        "post-norm": block_post_norm,
        "relu": block_relu,
        "a norm missing": block_norm_missing,
        "the residual twice": lambda block, x, e: right_residual_block(block, x, e) + block.skip(x),
        "input, not its projection": lambda block, x, e: (
            slip("unet/residual-block", "no short cut")(block, x, e) + x.mean(1, keepdim=True)
        ),
        "one condition for the batch": lambda block, x, e: right_residual_block(block, x, e[:1].expand_as(e)),
        "condition activated": lambda block, x, e: right_residual_block(block, x, F.silu(e)),
        "embedding detached": lambda block, x, e: right_residual_block(block, x, e.detach()),
        "subtracted": lambda block, x, e: 2 * block.skip(x) - right_residual_block(block, x, e),
        "halved": lambda block, x, e: right_residual_block(block, x, e) / 2**0.5,
    },
    "unet/deaf-block": {
        "first norm gone": deaf_first_norm_gone,
        "scaled, not shifted": deaf_scaled,
        "one group": deaf_one_group,
        "no step at all": lambda x, e, a, b, step: right_deaf_block(x, 0 * e, a, b, step),
        "step subtracted": lambda x, e, a, b, step: right_deaf_block(x, -e, a, b, step),
        "no short cut": lambda x, *rest: right_deaf_block(x, *rest) - x,
        "step to the input": lambda x, e, a, b, step: slip("unet/deaf-block", "as it was handed out")(
            x + F.linear(e, step)[:, :, None, None], e, a, b, step
        ),
        "shift after the last convolution": lambda x, e, a, b, step: (
            slip("unet/deaf-block", "as it was handed out")(x, e, a, b, step) + F.linear(e, step)[:, :, None, None]
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
        "√ of the number of keys": lambda q, k, v: weigh(q, k, v, k.shape[-2] ** -0.5),
        "weights detached": lambda q, k, v: right_attention(q.detach(), k.detach(), v) + 0 * (q.sum() + k.sum()),
        "linear attention": right_linear_attention,
        "in single precision": lambda q, k, v: right_attention(q.float(), k.float(), v.float()).double(),
    },
    "unet/mixed-axes": {
        "no residual": image_without_residual,
        "read as an image": image_viewed,
        "input transposed": image_transposed,
        "one head": lambda x, qkv, out, heads: right_mixed_axes(x, qkv, out, 1),
        "shares interleaved": lambda x, qkv, out, heads: image_attention(
            x, qkv, out, heads, shares="c heads three"
        ),
        "q, k, v within each head": lambda x, qkv, out, heads: image_attention(
            x, qkv, out, heads, shares="heads three c"
        ),
        "out transposed": lambda x, qkv, out, heads: right_mixed_axes(x, qkv, out.T, heads),
    },
    "unet/linear-attention": {
        "divided by √d": lambda q, k, v: right_linear_attention(q, k, v) / q.shape[-1] ** 0.5,
        "divided by the pixels": lambda q, k, v: right_linear_attention(q, k, v) / k.shape[-2],
        "elu, normalised": linear_elu,
        "keys for values": lambda q, k, v: right_linear_attention(q, k, k),
        "both softmaxes exchanged": lambda q, k, v: linear_along(q, k, v, q_dim=-2, k_dim=-1),
        "no softmax": lambda q, k, v: linear_along(q, k, v, q_dim=None, k_dim=None),
        "averaged": lambda q, k, v: right_linear_attention(q, k, v).mean(2, keepdim=True),
        "summary transposed": lambda q, k, v: q.softmax(-1) @ (k.softmax(-2).mT @ v).mT,
        "detached summary": lambda q, k, v: right_linear_attention(q, k.detach(), v.detach()),
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
    },
    "unet/forward": {
        "first in, first out": forward_first_in_first_out,
        "no skips": forward_coarsest_skip_everywhere,
        "embedding unused": forward_embedding_unused,
        "skips detached": forward_skips_detached,
        "residual to the image": lambda model, x, e: x + right_forward(model, x, e),
        "one embedding for the batch": lambda model, x, e: right_forward(model, x, e.mean(0).expand_as(e)),
        "clipped": lambda model, x, e: right_forward(model, x, e).tanh(),
        "stem without unshuffle": lambda model, x, e: model.head(F.silu(model.norm(model.stem(x)))),
    },
}

ALTERNATIVES = {
    "unet/time-embedding": {
        "by exp": waves_by_exp,
        "wave by wave": waves_filled,
        "an outer product": lambda t, size: (lambda a: torch.cat([a.sin(), a.cos()], 1))(
            torch.outer(
                t if t.is_floating_point() else t.float(),
                torch.logspace(0, -4 * (1 - 2 / size), size // 2, dtype=t.dtype if t.is_floating_point() else None),
            )
        ),
    },
    "unet/group-norm": {
        "torch": F.group_norm,
        "einops": norm_by_einops,
        "axes": norm_by_axes,
        "a loop of layer norms": norm_loop,
        "a layer": lambda x, groups: torch.nn.GroupNorm(groups, x.shape[1], affine=False)(x),
    },
    "unet/residual-block": {
        "by hand": block_by_hand,
        "sigmoid times input": block_sigmoid,
        "one image at a time": lambda block, x, e: torch.cat(
            [right_residual_block(block, a[None], b[None]) for a, b in zip(x, e)]
        ),
    },
    "unet/deaf-block": {
        "group norm and einsum": mended_by_einsum,
        "one image at a time": lambda x, e, *rest: torch.cat(
            [right_deaf_block(a[None], b[None], *rest) for a, b in zip(x, e)]
        ),
    },
    "unet/attention": {
        "torch": F.scaled_dot_product_attention,
        "einsum": attention_einsum,
        "query by query": attention_loop,
        "softmax by hand": attention_stable,
        "both sides scaled": lambda q, k, v: (
            (q * q.shape[-1] ** -0.25 @ (k * q.shape[-1] ** -0.25).transpose(2, 3)).softmax(3) @ v
        ),
    },
    "unet/mixed-axes": {
        "torch's multi-head attention": image_by_torch,
        "columns in, columns out": image_all_by_columns,
    },
    "unet/linear-attention": {
        "through the table": linear_by_table,
        "einsum": linear_by_einsum,
        "head by head": linear_by_heads,
    },
    "unet/space-to-depth": {
        "slices": pixels_by_slices,
        "unfold": pixels_by_unfold,
        "view and permute": pixels_by_view,
        "torch": F.pixel_unshuffle,
    },
    "unet/forward": {
        "inside out": forward_by_recursion,
        "by index": forward_by_index,
    },
}
