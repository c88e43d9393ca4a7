"""Wrong answers to the quizzes of notebook 11 that must be rejected, and other right ones that must be accepted."""

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.models.autoencoder import in_batches
from course_utils.models.autoencoder_kl import PlainResidualBlock
from course_utils.models.unet import group_norm, sinusoidal_embedding
from course_utils.models.vae import kl_to_standard_normal, reparameterize
from course_utils.sampling import ddim, ddpm, last

from .answers import in_other_forms, kept, right, slip

# --------------------------------------------------------------------------------------------- 11.2 · the autoencoder


Block = right("latent/block")


class BlockInASequence(nn.Module):
    def __init__(self, channels):
        super().__init__()
        layers = []
        for _ in range(2):
            layers += [group_norm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding="same")]
        with torch.no_grad():
            for weight in layers[-1].parameters():
                weight.zero_()
        self.change = nn.Sequential(*layers)

    def forward(self, x):
        return self.change(x) + x


class BlockOfOneNorm(Block):
    """The first norm twice."""

    def forward(self, x):
        return x + self.conv2(F.silu(self.norm1(self.conv1(F.silu(self.norm1(x))))))


class BlockWithReLU(Block):
    def forward(self, x):
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class BlockWithTheShortCutNormed(Block):
    def forward(self, x):
        x = F.silu(self.norm1(x))
        return x + self.conv2(F.silu(self.norm2(self.conv1(x))))


class BlockOfTheFirstAtZero(Block):
    """The first convolution starts at zero, the second at random."""

    def __init__(self, channels):
        super().__init__(channels)
        self.conv1, self.conv2 = self.conv2, self.conv1


class EncoderLevelByLevel(nn.Module):
    """The same layers in a class with a forward of its own."""

    def __init__(self, shape, channels, widths):
        super().__init__()
        self.first = nn.Conv2d(4 * shape[0], widths[0], 3, padding=1)
        self.halve = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(widths, widths[1:]))
        self.blocks = nn.ModuleList(PlainResidualBlock(width) for width in widths)
        self.norm, self.head = group_norm(widths[-1]), nn.Conv2d(widths[-1], 2 * channels, 3, padding=1)

    def forward(self, x):
        h = self.blocks[0](self.first(F.pixel_unshuffle(x, 2)))
        for halve, block in zip(self.halve, self.blocks[1:]):
            h = block(halve(h))
        return self.head(F.silu(self.norm(h)))


def encoder_nested(shape, channels, widths):
    """A Sequential of Sequentials, one for each level."""
    levels = [nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(shape[0] * 4, widths[0], 3, padding=1))]
    levels[0].append(PlainResidualBlock(widths[0]))
    for k in range(1, len(widths)):
        halve = nn.Conv2d(widths[k - 1], widths[k], kernel_size=3, stride=2, padding=1)
        levels.append(nn.Sequential(halve, PlainResidualBlock(widths[k])))
    head = nn.Conv2d(widths[-1], channels * 2, 3, padding="same")
    return nn.Sequential(*levels, group_norm(widths[-1]), nn.SiLU(), head)


def encoder_block_before_halving(shape, channels, widths):
    """One block more, before the first halving."""
    layers = [*right("latent/encoder")(shape, channels, widths)]
    return nn.Sequential(*layers[:3], PlainResidualBlock(widths[0]), *layers[3:])


def encoder_with_relu(shape, channels, widths):
    layers = [*right("latent/encoder")(shape, channels, widths)]
    return nn.Sequential(*layers[:-2], nn.ReLU(), layers[-1])


def encoder_without_padding_at_the_head(shape, channels, widths):
    layers = [*right("latent/encoder")(shape, channels, widths)]
    return nn.Sequential(*layers[:-1], nn.Conv2d(widths[-1], 2 * channels, 1))


def encoder_of_grey(shape, channels, widths):
    """Colours averaged to grey first."""

    class Grey(nn.Module):
        def forward(self, x):
            return x.mean(1, keepdim=True)

    return nn.Sequential(Grey(), *right("latent/encoder")((1, *shape[1:]), channels, widths))


class DecoderLevelByLevel(nn.Module):
    def __init__(self, shape, channels, widths):
        super().__init__()
        down = list(reversed(widths))
        self.first = nn.Conv2d(channels, down[0], 3, padding=1)
        self.blocks = nn.ModuleList(PlainResidualBlock(width) for width in down)
        self.more = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in zip(down, down[1:]))
        self.norm, self.head = group_norm(down[-1]), nn.Conv2d(down[-1], 4 * shape[0], 3, padding=1)

    def forward(self, z):
        h = self.blocks[0](self.first(z))
        for more, block in zip(self.more, self.blocks[1:]):
            h = block(F.pixel_shuffle(more(h), 2))
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), 2)


def decoder_from_list(shape, channels, widths):
    widths = list(widths)
    layers = [nn.Conv2d(channels, widths[-1], 3, padding=1), PlainResidualBlock(widths[-1])]
    while len(widths) > 1:
        width = widths.pop()
        layers += [nn.Conv2d(width, 4 * widths[-1], 1), nn.PixelShuffle(2), PlainResidualBlock(widths[-1])]
    layers += [group_norm(widths[0]), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[0], 4 * shape[0], 3, padding=1), nn.PixelShuffle(2))


def decoder_shuffled_first(shape, channels, widths):
    """Three by three on the fine grid, where one by one on the coarse one was asked for."""
    layers = [*right("latent/decoder")(shape, channels, widths)]
    found = []
    for layer in layers:
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            layer = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
        found.append(layer)
    return nn.Sequential(*found)


def decoder_by_transposed(shape, channels, widths):
    layers, before = [nn.Conv2d(channels, widths[-1], 3, padding=1)], widths[-1]
    for width in reversed(widths):
        if width != before or len(layers) > 1:
            layers.append(nn.ConvTranspose2d(before, width, 4, stride=2, padding=1))
        layers.append(PlainResidualBlock(width))
        before = width
    layers += [group_norm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], 4 * shape[0], 3, padding=1)]
    return nn.Sequential(*layers, nn.PixelShuffle(2))


def decoder_turned(shape, channels, widths):
    """The widths in the encoder's order."""
    return right("latent/decoder")(shape, channels, tuple(reversed(widths)))


Both = right("latent/autoencoder")


class AutoencoderByIndex(nn.Module):
    """The parts under other names, cut by index."""

    def __init__(self, shape, channels=4, widths=(32, 64)):
        nn.Module.__init__(self)
        self.channels = channels
        self.to_code = right("latent/encoder")(shape, channels, widths)
        self.to_image = nn.Sequential(right("latent/decoder")(shape, channels, widths), nn.Tanh())

    def encode(self, x):
        both = self.to_code(x)
        return both[:, : self.channels], both[:, self.channels :]

    def decode(self, z):
        return self.to_image(z)


class AutoencoderSplit(Both):
    def encode(self, x):
        return self.encoder(x).tensor_split(2, dim=1)


class AutoencoderOfDeviations(Both):
    """Standard deviations in place of log-variances."""

    def encode(self, x):
        mean, log_var = super().encode(x)
        return mean, (log_var / 2).exp()


class AutoencoderBounded(Both):
    """Codes squashed as well."""

    def encode(self, x):
        mean, log_var = super().encode(x)
        return mean.tanh(), log_var


class AutoencoderClamped(Both):
    def decode(self, z):
        return self.decoder(z).clamp(-1, 1)


def loss_from_notebook_02(model, x, noise, kl_weight):
    mean, log_var = model.encode(x)
    error = F.mse_loss(model.decode(reparameterize(mean, log_var, noise)), x)
    return error + kl_weight * kl_to_standard_normal(mean.flatten(1), log_var.flatten(1)).mean() / x[0].numel()


def loss_image_by_image(model, x, noise, kl_weight):
    total, pixels = 0, x.shape[1] * x.shape[2] * x.shape[3]
    for image, grain in zip(x.split(1), noise.split(1)):
        mean, log_var = model.encode(image)
        variance = torch.exp(log_var)
        z = mean + variance.sqrt() * grain
        kl = 0.5 * torch.sum(mean**2 + variance - log_var - 1)
        total = total + ((model.decode(z) - image) ** 2).sum() / pixels + kl_weight * kl / pixels
    return total / len(x)


def loss_with_turned_kl(model, x, noise, kl_weight):
    mean, log_var = model.encode(x)
    error = (model.decode(mean + (log_var / 2).exp() * noise) - x).square().mean()
    kl = (1 + log_var - mean.square() - log_var.exp()).sum() / 2 / len(x)
    return error + kl_weight * kl / x[0].numel()


def loss_per_code_number(model, x, noise, kl_weight):
    """The KL divided by the numbers of a code instead of the pixels."""
    mean, log_var = model.encode(x)
    error = (model.decode(mean + (log_var / 2).exp() * noise) - x).square().mean()
    kl = (mean.square() + log_var.exp() - 1 - log_var).sum() / 2 / len(x)
    return error + kl_weight * kl / mean[0].numel()


def loss_with_the_encoder_cut_off(model, x, noise, kl_weight):
    mean, log_var = model.encode(x)
    z = (mean + (log_var / 2).exp() * noise).detach()
    kl = (mean.square() + log_var.exp() - 1 - log_var).sum() / 2 / len(x)
    return (model.decode(z) - x).square().mean() + kl_weight * kl / x[0].numel()


def loss_that_ignores_the_weight(model, x, noise, kl_weight):
    return loss_from_notebook_02(model, x, noise, 1e-3)


# ----------------------------------------------------------------------------------------- 11.3 · diffusion in the code


def scaled_by_in_batches(autoencoder, images, size=250):
    means = in_batches(lambda part: autoencoder.encode(part)[0], images, size)
    s = means.var(unbiased=False).rsqrt().item()
    return means * s, s


def scaled_one_by_one(autoencoder, images, size=250):
    rows = []
    for image in images:
        mean, _ = autoencoder.encode(image[None])
        rows.append(mean.detach())
    means = torch.cat(rows)
    off = means - means.mean()
    s = float(off.square().mean() ** -0.5)
    return s * means, s


def scaled_by_channel_spread(autoencoder, images, size=250):
    """The mean of the channels' standard deviations."""
    with torch.no_grad():
        means = torch.cat([autoencoder.encode(part)[0] for part in images.split(size)])
    s = 1 / means.std((0, 2, 3), correction=0).mean().item()
    return s * means, s


def scaled_and_shifted(autoencoder, images, size=250):
    with torch.no_grad():
        means = torch.cat([autoencoder.encode(part)[0] for part in images.split(size)])
    s = 1 / means.std(correction=0).item()
    return s * (means - means.mean()), s


def scaled_by_the_first_batch(autoencoder, images, size=250):
    codes, _ = right("latent/scaled-codes")(autoencoder, images, size)
    _, s = right("latent/scaled-codes")(autoencoder, images[:size], size)
    _, whole = right("latent/scaled-codes")(autoencoder, images, size)
    return codes / whole * s, s


def scaled_not_applied(autoencoder, images, size=250):
    codes, s = right("latent/scaled-codes")(autoencoder, images, size)
    return codes / s, s


def scaled_without_the_rest(autoencoder, images, size=250):
    """The last, smaller batch is left out."""
    return right("latent/scaled-codes")(autoencoder, images[: len(images) // size * size], size)


def drawn_from_the_last_step(denoise, schedule, autoencoder, scale, noise, y, steps):
    *_, end = ddim(denoise, schedule, noise, steps, y)
    with torch.no_grad():
        return autoencoder.decode(end.x * (1 / scale))


def drawn_from_the_last_guess(denoise, schedule, autoencoder, scale, noise, y, steps):
    with torch.no_grad():
        walk = list(ddim(denoise, schedule, noise, steps, y))
        return autoencoder.decode(walk[-1].x0 / scale)


def drawn_at_random(denoise, schedule, autoencoder, scale, noise, y, steps):
    """Ancestral sampling."""
    z = last(ddpm(denoise, schedule, noise, steps, y, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        return autoencoder.decode(z / scale)


def drawn_from_scaled_noise(denoise, schedule, autoencoder, scale, noise, y, steps):
    return right("latent/draw")(denoise, schedule, autoencoder, scale, noise / scale, y, steps)


def drawn_one_step_early(denoise, schedule, autoencoder, scale, noise, y, steps):
    walk = list(ddim(denoise, schedule, noise, steps, y))
    with torch.no_grad():
        return autoencoder.decode(walk[-2].x / scale)


def variations_by_hand(denoise, schedule, autoencoder, scale, images, noise, y, t, steps):
    """The denoiser's unit made at once, and mixed by the rates."""
    at = torch.full((len(images),), t, device=images.device)
    with torch.no_grad():
        code = autoencoder.encode(images)[0].mul(scale)
        a, b = schedule.rates(at, code)
        z = a * code + b * noise
        for step in ddim(denoise, schedule, z, [round(t * (steps - k) / steps) for k in range(steps + 1)], y):
            z = step.x
        return autoencoder.decode(z.div(scale))


def variations_scaled_after(denoise, schedule, autoencoder, scale, images, noise, y, t, steps):
    """Signal and noise scaled together."""
    stops = [round(t * (steps - k) / steps) for k in range(steps + 1)]
    at = torch.full((len(images),), t, device=images.device)
    with torch.no_grad():
        z_t = scale * schedule.add_noise(autoencoder.encode(images)[0], at, noise)
        return autoencoder.decode(last(ddim(denoise, schedule, z_t, stops, y)) / scale)


def variations_of_pure_noise(denoise, schedule, autoencoder, scale, images, noise, y, t, steps):
    stops = [round(t * (steps - k) / steps) for k in range(steps + 1)]
    with torch.no_grad():
        return autoencoder.decode(last(ddim(denoise, schedule, noise, stops, y)) / scale)


def variations_from_T(denoise, schedule, autoencoder, scale, images, noise, y, t, steps):
    return right("latent/somebody-elses-variations")(
        denoise, schedule, autoencoder, scale, images, noise, y, schedule.T, steps
    )


def variations_by_variance(denoise, schedule, autoencoder, scale, images, noise, y, t, steps):
    """Scale taken for the factor of a variance."""
    stops = [round(t * (steps - k) / steps) for k in range(steps + 1)]
    at = torch.full((len(images),), t, device=images.device)
    with torch.no_grad():
        z_t = schedule.add_noise(scale**0.5 * autoencoder.encode(images)[0], at, noise)
        return autoencoder.decode(last(ddim(denoise, schedule, z_t, stops, y)) / scale)


def ending_last_of_the_list(denoise, schedule, autoencoder, scale, noise, y, steps):
    images = []
    with torch.no_grad():
        for step in ddim(denoise, schedule, noise, steps, y):
            if step.x0 is not None:
                images.append(autoencoder.decode(step.x0 / scale))
    return images[-1]


def ending_by_the_middle(denoise, schedule, autoencoder, scale, noise, y, steps):
    """The median of the images."""
    images = []
    with torch.no_grad():
        for step in ddim(denoise, schedule, noise, steps, y):
            if step.x0 is not None:
                images.append(autoencoder.decode(step.x0 / scale))
    return torch.stack(images).median(0).values


def ending_blended_with_the_last(denoise, schedule, autoencoder, scale, noise, y, steps):
    """Half the end, half the mean of all."""
    end = ending_last_of_the_list(denoise, schedule, autoencoder, scale, noise, y, steps)
    with torch.no_grad():
        guesses = [step.x0 for step in ddim(denoise, schedule, noise, steps, y) if step.x0 is not None]
        return (end + torch.stack([autoencoder.decode(guess / scale) for guess in guesses]).mean(0)) / 2


def ending_of_the_places(denoise, schedule, autoencoder, scale, noise, y, steps):
    """A mean of the places of the walk instead of the guesses."""
    with torch.no_grad():
        places = [step.x for step in ddim(denoise, schedule, noise, steps, y)]
        return torch.stack([autoencoder.decode(place / scale) for place in places]).mean(0)


# ------------------------------------------------------------------------------------------------ 11.4 · what a code is


def map_by_one_hot(decode, codes, channel, row, column, amount):
    push = torch.zeros_like(codes[:1])
    push[0, channel, row, column] = amount
    both = decode(torch.cat([codes, codes + push]))
    before, after = both.chunk(2)
    return torch.mean(torch.mean((after - before).abs(), dim=1), dim=0)


def map_of_the_first(decode, codes, channel, row, column, amount):
    return right("latent/change-map")(decode, codes[:1], channel, row, column, amount)


def map_summed(decode, codes, channel, row, column, amount):
    return len(codes) * right("latent/change-map")(decode, codes, channel, row, column, amount)


def map_of_the_mean_image(decode, codes, channel, row, column, amount):
    """The absolute value taken after the mean over images."""
    moved = codes.clone()
    moved[:, channel, row, column] += amount
    return (decode(moved) - decode(codes)).mean(0).abs().mean(0)


def map_in_place(decode, codes, channel, row, column, amount):
    """Moves the caller's codes."""
    before = decode(codes)
    codes[:, channel, row, column] += amount
    return (decode(codes) - before).abs().mean((0, 1))


def map_times_amount(decode, codes, channel, row, column, amount):
    moved = codes.clone()
    moved[:, channel, row, column] *= 1 + amount
    return (decode(moved) - decode(codes)).abs().mean((0, 1))


# ------------------------------------------------------------------------------------------ 11.5 · images as sentences


def patchify_by_permute(x, patch):
    b, c, h, w = x.shape
    rows, columns = h // patch, w // patch
    squares = x.reshape(b, c, rows, patch, columns, patch).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(b, rows * columns, c * patch * patch)


def patchify_by_unfold(x, patch):
    return F.unfold(x, patch, stride=patch).transpose(1, 2)


def patchify_square_by_square(x, patch):
    h, w = x.shape[2:]
    tokens = [x[:, :, i : i + patch, j : j + patch].flatten(1) for i in range(0, h, patch) for j in range(0, w, patch)]
    return torch.stack(tokens, dim=1)


def patchify_for_squares(x, patch):
    """As many columns as rows, as far as they go."""
    b, c, h, w = x.shape
    side = max(1, int((h * w) ** 0.5) // patch)
    tokens = patchify_by_permute(x, patch)
    order = torch.arange(tokens.shape[1], device=x.device).roll(side)
    return tokens[:, order]


def patchify_grey(x, patch):
    return patchify_by_permute(x.mean(1, keepdim=True).expand_as(x), patch)


def patchify_overlapping(x, patch):
    tokens = patchify_by_permute(x, patch)
    return (tokens + tokens.roll(1, 1)) / 2


def patchify_channels_as_tokens(x, patch):
    b, c, h, w = x.shape
    squares = x.reshape(b, c, h // patch, patch, w // patch, patch).permute(0, 1, 2, 4, 3, 5)
    return squares.reshape(b, -1, patch * patch)


def unpatchify_by_fold(tokens, shape, patch):
    return F.fold(tokens.transpose(1, 2), shape[1:], patch, stride=patch)


def unpatchify_square_by_square(tokens, shape, patch):
    c, h, w = shape
    squares = iter(tokens.unflatten(2, (c, patch, patch)).unbind(1))
    lines = [torch.cat([next(squares) for _ in range(w // patch)], dim=3) for _ in range(h // patch)]
    return torch.cat(lines, dim=2)


def unpatchify_width_first(tokens, shape, patch):
    """The names of height and width exchanged throughout: right."""
    c, width, height = shape
    squares = tokens.reshape(-1, width // patch, height // patch, c, patch, patch)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(-1, *shape)


def unpatchify_square_root(tokens, shape, patch):
    side = max(d for d in range(1, int(tokens.shape[1] ** 0.5) + 1) if tokens.shape[1] % d == 0)
    squares = tokens.reshape(-1, side, tokens.shape[1] // side, shape[0], patch, patch)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(-1, *shape)


def unpatchify_channels_last(tokens, shape, patch):
    c, h, w = shape
    squares = tokens.reshape(-1, h // patch, w // patch, patch, patch, c)
    return squares.permute(0, 5, 1, 3, 2, 4).reshape(-1, *shape)


def unpatchify_without_sorting(tokens, shape, patch):
    return tokens.reshape(-1, *shape)


class AttentionByTorch(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.to_all, self.mix = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, z):
        b, n, width = z.shape
        three = [part.view(b, n, self.heads, -1).transpose(1, 2) for part in self.to_all(z).chunk(3, dim=-1)]
        return self.mix(F.scaled_dot_product_attention(*three).transpose(1, 2).reshape(b, n, width))


class AttentionHeadByHead(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.first, self.last, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, z):
        q, k, v = self.first(z).chunk(3, dim=-1)
        gathered = []
        for q1, k1, v1 in zip(*(part.chunk(self.heads, dim=-1) for part in (q, k, v))):
            products = torch.einsum("bid, bjd -> bij", q1, k1) / q1.shape[-1] ** 0.5
            weights = products.exp() / products.exp().sum(-1, keepdim=True)
            gathered.append(weights @ v1)
        return self.last(torch.cat(gathered, dim=-1))


class AttentionOfValuesAndKeys(AttentionByTorch):
    """k and v exchanged."""

    def forward(self, z):
        b, n, width = z.shape
        q, v, k = (part.view(b, n, self.heads, -1).transpose(1, 2) for part in self.to_all(z).chunk(3, dim=-1))
        return self.mix(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width))


class AttentionToThePast(AttentionByTorch):
    """As in a language model: no token sees the ones behind it."""

    def forward(self, z):
        b, n, width = z.shape
        three = [part.view(b, n, self.heads, -1).transpose(1, 2) for part in self.to_all(z).chunk(3, dim=-1)]
        seen = F.scaled_dot_product_attention(*three, is_causal=True)
        return self.mix(seen.transpose(1, 2).reshape(b, n, width))


class AttentionWithoutBias(AttentionByTorch):
    def __init__(self, width, heads):
        super().__init__(width, heads)
        self.to_all = nn.Linear(width, 3 * width, bias=False)


class AttentionNotMixed(AttentionByTorch):
    """Heads side by side, without the last layer."""

    def __init__(self, width, heads):
        super().__init__(width, heads)
        self.mix = nn.Identity()


def positions_by_division(h, w, size):
    place = torch.arange(h * w)
    row, column = place // w, place % w
    return torch.cat([sinusoidal_embedding(row, size // 2), sinusoidal_embedding(column, size // 2)], dim=1)


def positions_by_hand(h, w, size):
    speeds = [10_000 ** (-k / (size // 4)) for k in range(size // 4)]
    rows = []
    for i in range(h):
        for j in range(w):
            angles = torch.tensor([[place * speed for speed in speeds] for place in (i, j)])
            rows.append(torch.cat([angles.sin(), angles.cos()], dim=1).flatten())
    return torch.stack(rows)


def positions_of_another_grid(h, w, size):
    place = torch.arange(h * w)
    return torch.cat([sinusoidal_embedding(place // h, size // 2), sinusoidal_embedding(place % h, size // 2)], dim=1)


def positions_from_one(h, w, size):
    place = torch.arange(h * w)
    return torch.cat(
        [sinusoidal_embedding(1 + place // w, size // 2), sinusoidal_embedding(1 + place % w, size // 2)], dim=1
    )


def positions_in_shares(h, w, size):
    place = torch.arange(h * w)
    return torch.cat(
        [sinusoidal_embedding((place // w) / h, size // 2), sinusoidal_embedding((place % w) / w, size // 2)], dim=1
    )


# ----------------------------------------------------------------------------------------------------- 11.6 · a block


def modulate_by_addcmul(z, shift, scale):
    return torch.addcmul(shift.unsqueeze(1), z, 1 + scale.unsqueeze(1))


def modulate_image_by_image(z, shift, scale):
    return torch.stack([one + one * by + plus for one, plus, by in zip(z, shift, scale)])


def modulate_like_the_first(z, shift, scale):
    return z * (1 + scale[:1, None]) + shift[:1, None]


def modulate_without_shift(z, shift, scale):
    return z * (1 + scale[:, None])


def modulate_by_exponentials(z, shift, scale):
    return z * scale[:, None].exp() + shift[:, None]


def norm_of(width):
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


class BlockInParts(nn.Module):
    """Two norms, two layers in place of a Sequential, and all written out."""

    def __init__(self, width, heads):
        super().__init__()
        self.one, self.two, self.attend = norm_of(width), norm_of(width), AttentionByTorch(width, heads)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.six = nn.Linear(width, 6 * width)
        nn.init.constant_(self.six.weight, 0.0)
        nn.init.constant_(self.six.bias, 0.0)

    def forward(self, z, e):
        six = self.six(e).reshape(len(e), 6, 1, -1).unbind(1)
        h = self.attend(modulate_by_addcmul(self.one(z), six[0][:, 0], six[1][:, 0]))
        z = z + six[2] * h
        h = F.gelu(self.wide(modulate_by_addcmul(self.two(z), six[3][:, 0], six[4][:, 0])), approximate="tanh")
        return z + six[5] * self.narrow(h)


class BlockWithSilu(BlockInParts):
    """As in the paper's code, where the embedding passes a SiLU within the block."""

    def forward(self, z, e):
        return super().forward(z, F.silu(e))


class BlockSteeredAlike(BlockInParts):
    """The first three vectors serve both parts."""

    def forward(self, z, e):
        six = self.six(e).reshape(len(e), 6, 1, -1).unbind(1)
        z = z + six[2] * self.attend(self.one(z) * (1 + six[1]) + six[0])
        h = F.gelu(self.wide(self.two(z) * (1 + six[1]) + six[0]), approximate="tanh")
        return z + six[2] * self.narrow(h)


class BlockOfOneGate(BlockInParts):
    """Only one part has a gate."""

    def forward(self, z, e):
        six = self.six(e).reshape(len(e), 6, 1, -1).unbind(1)
        z = z + self.attend(self.one(z) * (1 + six[1]) + six[0])
        h = F.gelu(self.wide(self.two(z) * (1 + six[4]) + six[3]), approximate="tanh")
        return z + six[5] * self.narrow(h)


class BlockWithRelu(BlockInParts):
    def forward(self, z, e):
        six = self.six(e).reshape(len(e), 6, 1, -1).unbind(1)
        z = z + six[2] * self.attend(self.one(z) * (1 + six[1]) + six[0])
        return z + six[5] * self.narrow(F.relu(self.wide(self.two(z) * (1 + six[4]) + six[3])))


class BlockMlpFirst(BlockInParts):
    def forward(self, z, e):
        six = self.six(e).reshape(len(e), 6, 1, -1).unbind(1)
        h = F.gelu(self.wide(self.two(z) * (1 + six[4]) + six[3]), approximate="tanh")
        z = z + six[5] * self.narrow(h)
        return z + six[2] * self.attend(self.one(z) * (1 + six[1]) + six[0])


def cost_layer_by_layer(tokens, width):
    work = 6 * width * width
    for before, after in ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)):
        work += tokens * before * after
    return work + tokens * width * tokens + tokens * tokens * width


def cost_factored(tokens, width):
    return 2 * width * (tokens * (6 * width + tokens) + 3 * width)


def cost_of_tokens_alone(tokens, width):
    return 12 * tokens * width**2 + 2 * tokens**2 * width


def cost_of_width_squared(tokens, width):
    return 12 * tokens * width**2 + 2 * tokens**2 * width**2 + 6 * width**2


# ------------------------------------------------------------------------------------------------ 11.7 · the network


class EmbeddingInParts(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.wide, self.back, self.rows = (
            nn.Linear(64, width),
            nn.Linear(width, width),
            nn.Embedding(1 + num_classes, width),
        )

    def waves(self, t):
        return sinusoidal_embedding(t, 64)

    def forward(self, t, y=None):
        h = self.back(F.silu(self.wide(self.waves(t))))
        h = h + (self.rows.weight[-1] + 0 * self.rows(torch.zeros_like(t)) if y is None else self.rows(y))
        return h * torch.sigmoid(h)


class EmbeddingWithRelu(EmbeddingInParts):
    def forward(self, t, y=None):
        h = self.back(F.relu(self.wide(self.waves(t))))
        return F.silu(h + self.rows(torch.full_like(t, self.rows.num_embeddings - 1) if y is None else y))


class EmbeddingOfTheFirstStep(EmbeddingInParts):
    def waves(self, t):
        return super().waves(t[:1].expand(t.shape))


class EmbeddingOfCosines(EmbeddingInParts):
    def waves(self, t):
        return super().waves(t).flip(1)


def how_far_by_loops(network, x, t):
    x = x.clone().requires_grad_()
    h, w = x.shape[2:]
    slope = torch.autograd.grad(network(x, t)[..., h // 2, w // 2].sum(), x)[0]
    total = away = 0.0
    for i in range(h):
        for j in range(w):
            weight = slope[:, :, i, j].abs().sum().item()
            total, away = total + weight, away + weight * ((i - h // 2) ** 2 + (j - w // 2) ** 2) ** 0.5
    return away / total


def how_far_by_hypot(network, x, t):
    x = x.detach().requires_grad_()
    answer = network(x, t)[:, :, x.shape[2] // 2, x.shape[3] // 2]
    slope = torch.autograd.grad(answer, x, torch.ones_like(answer))[0].abs().mean((0, 1))
    row, column = torch.meshgrid(*(torch.arange(n, dtype=x.dtype) - n // 2 for n in x.shape[2:]), indexing="ij")
    return (slope / slope.sum() * torch.hypot(row, column)).sum().item()


def how_far_in_steps(network, x, t):
    """Rows and columns added."""
    x = x.clone().requires_grad_()
    h, w = x.shape[2:]
    (slope,) = torch.autograd.grad(network(x, t)[:, :, h // 2, w // 2].sum(), x)
    weights = slope.abs().sum((0, 1))
    away = (torch.arange(h)[:, None] - h // 2).abs() + (torch.arange(w) - w // 2).abs()
    return ((weights * away).sum() / weights.sum()).item()


def how_far_of_all(network, x, t):
    """The slope of all answers."""
    x = x.clone().requires_grad_()
    h, w = x.shape[2:]
    (slope,) = torch.autograd.grad(network(x, t).sum(), x)
    weights = slope.abs().sum((0, 1))
    away = ((torch.arange(h)[:, None] - h // 2) ** 2 + (torch.arange(w) - w // 2) ** 2).sqrt()
    return ((weights * away).sum() / weights.sum()).item()


def how_far_at_most(network, x, t):
    x = x.clone().requires_grad_()
    h, w = x.shape[2:]
    (slope,) = torch.autograd.grad(network(x, t)[:, :, h // 2, w // 2].sum(), x)
    away = ((torch.arange(h)[:, None] - h // 2) ** 2 + (torch.arange(w) - w // 2) ** 2).sqrt()
    return away[slope.abs().sum((0, 1)) > 0].max().item()


class OtherDiT(nn.Module):
    """The same network, other names, and the embedding's parts in it."""

    def __init__(self, shape, width=128, depth=4, heads=4, patch=4, num_classes=10):
        super().__init__()
        (c, h, w), self.size, self.side, self.any = shape, shape, patch, num_classes
        self.clock = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.kind, self.enter = nn.Embedding(num_classes + 1, width), nn.Linear(c * patch**2, width)
        self.register_buffer("places", positions_by_division(h // patch, w // patch, width)[None])
        self.deep = nn.Sequential(*(BlockInParts(width, heads) for _ in range(depth)))
        self.norm, self.last, self.leave = norm_of(width), nn.Linear(width, 2 * width), nn.Linear(width, c * patch**2)
        for layer in (self.last, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def told(self, t, y):
        waves = sinusoidal_embedding(t, 64).to(self.enter.weight.dtype)
        return F.silu(self.clock(waves) + self.kind(torch.full_like(t, self.any) if y is None else y))

    def tokens(self, x):
        return self.enter(patchify_by_permute(x, self.side)) + self.places

    def blocks(self, z, e):
        for block in self.deep:
            z = block(z, e)
        return z

    def out(self, z, e):
        shift, scale = self.last(e).chunk(2, dim=-1)
        return self.leave(modulate_by_addcmul(self.norm(z), shift, scale))

    def forward(self, x, t, y=None):
        e = self.told(t, y)
        return unpatchify_by_fold(self.out(self.blocks(self.tokens(x), e), e), self.size, self.side)


class DiTWithResidual(OtherDiT):
    """Adds the image itself."""

    def forward(self, x, t, y=None):
        return x + super().forward(x, t, y)


class DiTTurned(OtherDiT):
    """Patches come back in the handed-out order."""

    def forward(self, x, t, y=None):
        e = self.told(t, y)
        z = self.out(self.blocks(self.tokens(x), e), e)
        return slip("transformer/somebody-elses-patches", "as it was handed out")(z, self.size, self.side)


class DiTOfFirstBlock(OtherDiT):
    """Leaves the loop too early."""

    def blocks(self, z, e):
        for block in self.deep:
            return block(z, e)


class DiTWithLearnedPlaces(OtherDiT):
    """The positions are trained along."""

    def __init__(self, *given):
        super().__init__(*given)
        places = self.places
        del self.places
        self.places = nn.Parameter(places)


class DiTDeaf(OtherDiT):
    """The step isn't told."""

    def told(self, t, y):
        return super().told(torch.ones_like(t), y)


def filled_in_by_the_guess(denoise, schedule, known, kept, noise, y, steps):
    """As in notebook 06: what is known is put into the guess, and the sampler does the rest."""

    def guess(z_t, t, y):
        return torch.where(kept, known, denoise(z_t, t, y))

    start = schedule.add_noise(known, torch.full_like(y, schedule.T), noise)
    return last(ddim(guess, schedule, torch.where(kept, start, noise), steps, y))


def filled_in_before_each_stride(denoise, schedule, known, kept, noise, y, steps):
    """With a mask of ones and zeros, and rates."""
    mask, z, stops = kept.to(known.dtype), noise, schedule.timesteps(steps)
    for t, s in zip(stops, stops[1:]):
        (a, b), (c, d) = (schedule.rates(torch.full_like(y, step), z) for step in (t, s))
        z = mask * (a * known + b * noise) + (1 - mask) * z
        z_0 = denoise(z, torch.full_like(y, t), y)
        z = c * z_0 + d * (z - a * z_0) / b
    return mask * known + (1 - mask) * z


def filled_in_for_any_class(denoise, schedule, known, kept, noise, y, steps):
    return right("latent/fill-in")(lambda z_t, t, _: denoise(z_t, t), schedule, known, kept, noise, y, steps)


def filled_in_with_noise_written_over(denoise, schedule, known, kept, noise, y, steps):
    """The start is made in place, so that later stops find other noise."""
    noise = noise.clone()
    noise[..., kept] = schedule.add_noise(known, torch.full_like(y, schedule.T), noise)[..., kept]
    return right("latent/fill-in")(denoise, schedule, known, kept, noise, y, steps)


def filled_in_with_the_guess_noised_anew(denoise, schedule, known, kept, noise, y, steps):
    """Each stride noises its guess with the first noise, instead of the one that is in z."""
    z, stops = noise, schedule.timesteps(steps)
    for t, s in zip(stops, stops[1:]):
        z = torch.where(kept, schedule.add_noise(known, torch.full_like(y, t), noise), z)
        z = schedule.add_noise(denoise(z, torch.full_like(y, t), y), torch.full_like(y, s), noise)
    return torch.where(kept, known, z)


def filled_in_at_one_step_less(denoise, schedule, known, kept, noise, y, steps):
    return right("latent/fill-in")(denoise, schedule, known, kept, noise, y, steps - 1)


MUTANTS = {
    "latent/fill-in": {
        "for any class": filled_in_for_any_class,
        "the noise written over": filled_in_with_noise_written_over,
        "the first noise again": filled_in_with_the_guess_noised_anew,
        "a stride less": filled_in_at_one_step_less,
        "the first answer, kept": kept(
            right("latent/fill-in"), key=lambda denoise, schedule, known, *rest: known.shape
        ),
    },
    "latent/block": {
        "one norm for both": BlockOfOneNorm,
        "ReLU": BlockWithReLU,
        "a short cut that bends": BlockWithTheShortCutNormed,
        "the first at zero": BlockOfTheFirstAtZero,
    },
    "latent/encoder": {
        "a block too many": encoder_block_before_halving,
        "ReLU": encoder_with_relu,
        "a head of 1 × 1": encoder_without_padding_at_the_head,
        "grey": encoder_of_grey,
    },
    "latent/decoder": {
        "3 × 3 on the way": decoder_shuffled_first,
        "transposed convolutions": decoder_by_transposed,
        "widths in the encoder's order": decoder_turned,
    },
    "latent/autoencoder": {
        "standard deviations": AutoencoderOfDeviations,
        "codes squashed": AutoencoderBounded,
        "clamped": AutoencoderClamped,
    },
    "latent/loss": {
        "the KL's sign": loss_with_turned_kl,
        "per number of the code": loss_per_code_number,
        "no gradient to the encoder": loss_with_the_encoder_cut_off,
        "always 1e-3": loss_that_ignores_the_weight,
    },
    "latent/scaled-codes": {
        "the channels' spreads averaged": scaled_by_channel_spread,
        "shifted": scaled_and_shifted,
        "of the first batch": scaled_by_the_first_batch,
        "not applied": scaled_not_applied,
        "the rest left out": scaled_without_the_rest,
    },
    "latent/draw": {
        "ancestral": drawn_at_random,
        "noise divided": drawn_from_scaled_noise,
        "one step early": drawn_one_step_early,
        "the first answer, kept": kept(right("latent/draw"), key=lambda d, s, a, scale, noise, *rest: noise.shape),
    },
    "latent/somebody-elses-variations": {
        "scaled with the noise": variations_scaled_after,
        "from pure noise": variations_of_pure_noise,
        "from T": variations_from_T,
        "by the root": variations_by_variance,
    },
    "latent/somebody-elses-drawing": {
        "the median": ending_by_the_middle,
        "half of each": ending_blended_with_the_last,
        "the places": ending_of_the_places,
    },
    "latent/change-map": {
        "of the first image": map_of_the_first,
        "a sum": map_summed,
        "of the mean image": map_of_the_mean_image,
        "in place": map_in_place,
        "multiplied": map_times_amount,
    },
    "transformer/patchify": {
        "in another order": patchify_for_squares,
        "grey": patchify_grey,
        "smeared": patchify_overlapping,
        "a token for each channel": patchify_channels_as_tokens,
    },
    "transformer/somebody-elses-patches": {
        "a grid by its count": unpatchify_square_root,
        "channels last": unpatchify_channels_last,
        "not sorted": unpatchify_without_sorting,
    },
    "transformer/attention": {
        "keys for values": AttentionOfValuesAndKeys,
        "the past alone": AttentionToThePast,
        "no bias": AttentionWithoutBias,
        "not mixed": AttentionNotMixed,
    },
    "transformer/positions": {
        "h for w": positions_of_another_grid,
        "counted from 1": positions_from_one,
        "shares of the side": positions_in_shares,
    },
    "transformer/modulate": {
        "like the first image": modulate_like_the_first,
        "no shift": modulate_without_shift,
        "an exponential": modulate_by_exponentials,
        "the first answer, kept": kept(modulate_by_addcmul, key=lambda z, *rest: z.shape),
    },
    "transformer/block": {
        "a SiLU of its own": BlockWithSilu,
        "three of six": BlockSteeredAlike,
        "one gate": BlockOfOneGate,
        "ReLU": BlockWithRelu,
        "the small network first": BlockMlpFirst,
    },
    "transformer/cost": {"without e": cost_of_tokens_alone, "the width squared": cost_of_width_squared},
    "transformer/embedding": {
        "ReLU": EmbeddingWithRelu,
        "the first step for all": EmbeddingOfTheFirstStep,
        "waves turned round": EmbeddingOfCosines,
    },
    "transformer/how-far": {
        "rows and columns added": how_far_in_steps,
        "of all answers": how_far_of_all,
        "the farthest": how_far_at_most,
    },
    "transformer/dit": {
        "the image added": DiTWithResidual,
        "patches in his order": DiTTurned,
        "one block": DiTOfFirstBlock,
        "places learned": DiTWithLearnedPlaces,
        "the step not told": DiTDeaf,
    },
}

ALTERNATIVES = {
    "latent/fill-in": {"by the guess": filled_in_by_the_guess, "before each stride": filled_in_before_each_stride},
    "latent/block": {"a Sequential": BlockInASequence},
    "latent/encoder": {"a class": EncoderLevelByLevel, "nested": encoder_nested},
    "latent/decoder": {"a class": DecoderLevelByLevel, "from a list": decoder_from_list},
    "latent/autoencoder": {"by index": AutoencoderByIndex, "tensor_split": AutoencoderSplit},
    "latent/loss": {"of notebook 02": loss_from_notebook_02, "image by image": loss_image_by_image},
    "latent/scaled-codes": {"in_batches": scaled_by_in_batches, "one by one": scaled_one_by_one},
    "latent/draw": {"the last step": drawn_from_the_last_step, "the last guess": drawn_from_the_last_guess},
    "latent/somebody-elses-variations": {"by hand": variations_by_hand},
    "latent/somebody-elses-drawing": {
        "the last of the list": ending_last_of_the_list,
        "the last step": drawn_from_the_last_step,
    },
    "latent/change-map": {"one-hot": map_by_one_hot} | in_other_forms(map_by_one_hot),
    "transformer/patchify": {
        "permuted": patchify_by_permute,
        "unfolded": patchify_by_unfold,
        "square by square": patchify_square_by_square,
    }
    | in_other_forms(patchify_by_permute),
    "transformer/somebody-elses-patches": {
        "other names": unpatchify_width_first,
        "folded": unpatchify_by_fold,
        "square by square": unpatchify_square_by_square,
    },
    "transformer/attention": {"PyTorch's": AttentionByTorch, "head by head": AttentionHeadByHead},
    "transformer/positions": {"by division": positions_by_division, "by hand": positions_by_hand},
    "transformer/modulate": {"addcmul": modulate_by_addcmul, "image by image": modulate_image_by_image},
    "transformer/block": {"in parts": BlockInParts},
    "transformer/cost": {"layer by layer": cost_layer_by_layer, "factored": cost_factored},
    "transformer/embedding": {"in parts": EmbeddingInParts},
    "transformer/how-far": {"loops": how_far_by_loops, "hypot": how_far_by_hypot},
    "transformer/dit": {"other names": OtherDiT},
}
