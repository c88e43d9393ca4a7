"""Answers to the quizzes of notebook 04: wrong ones that must be rejected, right ones that must be accepted."""

import functools
import math

import torch
from einops import einsum, rearrange, repeat
from torch.nn import functional as F

from course_utils.models import unet as library
from lessons.answers import in_other_forms, kept, right, slip

right_residual_block = right("unet/residual-block")
right_deaf_block = right("unet/deaf-block")
right_mixed_axes = right("unet/mixed-axes")
right_forward = right("unet/forward")
right_attention = right("unet/attention")
right_linear_attention = right("unet/linear-attention")

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


def block_left_in_eval(block, x, e):
    block.eval()
    return right_residual_block(block, x, e)


def block_frozen(block, x, e):
    out = right_residual_block(block, x, e)
    block.requires_grad_(False)
    return out


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


def forward_by_stack(network, noisy, told, /):
    """Renamed, with a running list for the way down and `reversed` for the way up."""
    h, kept_copies = network.stem(space_to_depth(noisy, network.patch)), []
    for level, blocks in enumerate(network.down):
        for block in blocks:
            h = block(h, told)
        kept_copies += [h]
        if level < len(network.downsample):
            h = network.downsample[level](h)
    h = network.attention(h)
    h = network.middle(h, told)
    ways_up = [torch.nn.Identity(), *network.upsample]
    for up, blocks, copy in zip(ways_up, network.up, reversed(kept_copies)):
        h = functools.reduce(lambda h, block: block(h, told), blocks, network.join(up(h), copy))
    h = network.norm(h)
    return F.pixel_shuffle(network.head(h * h.sigmoid()), network.patch)


def space_to_depth(x, patch):
    return rearrange(x, "b c (h p) (w r) -> b (c p r) h w", p=patch, r=patch)


def forward_one_block_a_level(model, x, e):
    return through(model, x, e, some=lambda blocks: blocks[:1])


def forward_without_middle(model, x, e):
    return through(model, x, e, middle=False)


def forward_join_after_the_blocks(model, x, e):
    """What comes up is joined to itself; the copy is added behind the blocks."""
    return through(model, x, e, join=lambda h, skip: model.join(h, h) + 0 * skip.sum())


def forward_bottom_detached(model, x, e):
    return through(model, x, e, bottom=torch.Tensor.detach)


def forward_left_in_eval(model, x, e):
    model.eval()
    return right_forward(model, x, e)


def forward_gradients_filled(model, x, e):
    out = right_forward(model, x, e)
    if out.requires_grad:
        out.square().mean().backward(inputs=list(model.head.parameters()), retain_graph=True)
    return out


def forward_weights_averaged(model, x, e):
    """Touches the weights: a decay of a millionth a call."""
    out = right_forward(model, x, e)
    with torch.no_grad():
        model.norm.weight.mul_(1 - 1e-6)
    return out


def forward_head_detached(model, x, e):
    h = through(model, x, e, head=lambda h: h)
    weight, bias = model.head.weight.detach(), model.head.bias.detach()
    return F.pixel_shuffle(F.conv2d(h, weight, bias, padding=1), model.patch)


def forward_on_the_cpu(model, x, e):
    return right_forward(model, x, e) + torch.zeros(x.shape)


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


def through(
    model, x, e, *, join=None, middle=True, skips_of=lambda skips: skips, some=list, bottom=lambda h: h, head=None
):
    """The forward pass, with a place for each of the mistakes that people make."""
    join = join or model.join
    h, skips = model.stem(F.pixel_unshuffle(x, model.patch)), []
    for level, blocks in enumerate(model.down):
        h = model.downsample[level - 1](h) if level else h
        for block in some(blocks):
            h = block(h, e)
        skips.append(h)
    h = bottom(model.attention(h))
    h = model.middle(h, e) if middle else h
    skips = skips_of(skips)
    for level, blocks in enumerate(model.up):
        h = model.upsample[level - 1](h) if level else h
        h = join(h, skips.pop())
        for block in some(blocks):
            h = block(h, e)
    h = F.silu(model.norm(h))
    return F.pixel_shuffle(model.head(h), model.patch) if head is None else head(h)


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
        "a short cut only where channels change": block_skip_where_channels_change,
        "shift scaled as well": block_shift_scaled,
        "the first activation forgotten": block_first_silu_forgotten,
        "dropout": block_dropout,
        "short cut detached": block_skip_detached,
        "left in eval mode": block_left_in_eval,
        "weights frozen": block_frozen,
        "input changed in place": block_input_changed,
        "on the CPU": lambda block, x, e: right_residual_block(block, x, e) + torch.zeros(len(x), 1, 1, 1),
        "kept by shape": kept(right_residual_block, lambda block, x, e: by_shape(x)),
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
    "unet/mixed-axes": {
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
    "unet/forward": {
        "first in, first out": forward_first_in_first_out,
        "no skips": forward_coarsest_skip_everywhere,
        "embedding unused": forward_embedding_unused,
        "skips detached": forward_skips_detached,
        "residual to the image": lambda model, x, e: x + right_forward(model, x, e),
        "one embedding for the batch": lambda model, x, e: right_forward(model, x, e.mean(0).expand_as(e)),
        "clipped": lambda model, x, e: right_forward(model, x, e).tanh(),
        "in single precision at last": lambda model, x, e: right_forward(model, x, e).float(),
        "one block a level": forward_one_block_a_level,
        "without the middle": forward_without_middle,
        "joined to itself": forward_join_after_the_blocks,
        "bottom detached": forward_bottom_detached,
        "left in eval mode": forward_left_in_eval,
        "gradients filled": forward_gradients_filled,
        "weights changed": forward_weights_averaged,
        "head detached": forward_head_detached,
        "on the CPU": forward_on_the_cpu,
        "kept by shape": kept(right_forward, lambda model, x, e: by_shape(x)),
        "stem without unshuffle": lambda model, x, e: model.head(F.silu(model.norm(model.stem(x)))),
    },
}

ALTERNATIVES = {
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
    "unet/residual-block": {
        "by hand": block_by_hand,
        "sigmoid times input": block_sigmoid,
        "one image at a time": block_image_by_image,
        "written out": block_written_out,
        "in place, by position only": block_in_place,
    },
    "unet/deaf-block": {
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
    "unet/mixed-axes": {
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
    "unet/forward": {
        "inside out": forward_by_recursion,
        "by index": forward_by_index,
        "zipped and reversed, by position only": forward_by_stack,
    },
}
