"""Wrong answers to the quizzes of notebook 08 that people really give, and right ones that look different."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from .answers import in_other_forms, right, slip

# --------------------------------------------------------------------------------------------------------- 8.1 · losses


def d_loss_by_labels(real, fake):
    ones, zeros = torch.ones_like(real), torch.zeros_like(fake)
    by = F.binary_cross_entropy_with_logits
    return by(real, ones) + by(fake, zeros)


def d_loss_by_logsigmoid(real, fake):
    return -(F.logsigmoid(real).mean() + F.logsigmoid(-fake).mean())


def d_loss_with_an_epsilon(real, fake):
    return -(real.sigmoid() + 1e-8).log().mean() - (1 - fake.sigmoid() + 1e-8).log().mean()


def d_loss_summed(real, fake):
    return F.softplus(-real).sum() + F.softplus(fake).sum()


def d_loss_in_bits(real, fake):
    return right("gan/discriminator-loss")(real, fake) / 0.6931


def g_losses_by_labels(fake):
    by = F.binary_cross_entropy_with_logits
    return by(fake, torch.ones_like(fake)), -by(fake, torch.zeros_like(fake))


def g_losses_clamped(fake):
    return F.softplus(-fake.clamp(-20, 20)).mean(), -F.softplus(fake.clamp(-20, 20)).mean()


def g_losses_summed(fake):
    return F.softplus(-fake).sum(), -F.softplus(fake).sum()


def optimal_by_log(log_p, log_q):
    return (log_p - torch.logaddexp(log_p, log_q)).exp()


def optimal_certain(log_p, log_q):
    return (log_p > log_q).to(log_p)


def optimal_half(log_p, log_q):
    return torch.sigmoid((log_p - log_q) / 2)


# ------------------------------------------------------------------------------------------------------- 8.2 · the step


def step_frozen(G, D, game, x, z, d_optimizer, g_optimizer):
    with torch.no_grad():
        fake = G(z)
    d_optimizer.zero_grad()
    d_loss = game.discriminator(D, x, fake)
    d_loss.backward()
    d_optimizer.step()
    g_optimizer.zero_grad()
    g_loss = game.generator(D, x, G(z))
    g_loss.backward()
    g_optimizer.step()
    return d_loss.item(), g_loss.item()


def step_by_gradients(G, D, game, x, z, d_optimizer, g_optimizer):
    losses = []
    for player, of, optimizer in ((D, game.discriminator, d_optimizer), (G, game.generator, g_optimizer)):
        loss = of(D, x, G(z) if player is G else G(z).detach())
        for weight, slope in zip(player.parameters(), torch.autograd.grad(loss, list(player.parameters()))):
            weight.grad = slope
        optimizer.step()
        losses.append(loss.item())
    return tuple(losses)


def step_losses_after(G, D, game, x, z, d_optimizer, g_optimizer):
    right("gan/step")(G, D, game, x, z, d_optimizer, g_optimizer)
    with torch.no_grad():
        return game.discriminator(D, x, G(z)).item(), game.generator(D, x, G(z)).item()


def step_exchanged(G, D, game, x, z, d_optimizer, g_optimizer):
    return right("gan/step")(G, D, game, x, z, d_optimizer, g_optimizer)[::-1]


def step_d_twice(G, D, game, x, z, d_optimizer, g_optimizer):
    game.discriminator(D, x, G(z).detach()).backward()
    d_optimizer.step()
    return right("gan/step")(G, D, game, x, z, d_optimizer, g_optimizer)


def play_while(G, D, game, sample, steps, latent, betas, chance, keep=100):
    step = right("gan/step")
    optimizers = [torch.optim.Adam(net.parameters(), 1e-3, betas) for net in (D, G)]
    losses, snapshots = [], [(copy.deepcopy(G), copy.deepcopy(D))]
    while len(losses) < steps:
        x = sample()
        losses.append(step(G, D, game, x, torch.randn((x.shape[0], latent), generator=chance), *optimizers))
        if not len(losses) % keep:
            snapshots.append((copy.deepcopy(G), copy.deepcopy(D)))
    return losses, snapshots


def play_one_short(G, D, game, sample, steps, *rest):
    return right("gan/play")(G, D, game, sample, steps - 1, *rest)


def play_other_betas(G, D, game, sample, steps, latent, betas, chance, keep=100):
    return right("gan/play")(G, D, game, sample, steps, latent, (0.9, 0.999), chance, keep)


def play_keeping_all(G, D, game, sample, steps, latent, betas, chance, keep=100):
    return right("gan/play")(G, D, game, sample, steps, latent, betas, chance, 1)


def curves_by_labels(D, x, fake):
    with torch.no_grad():
        real, made = D(x), D(fake)
        by, ones = F.binary_cross_entropy_with_logits, torch.ones_like(made)
        return (by(real, torch.ones_like(real)) + by(made, 0 * ones)).item(), by(made, ones).item()


def curves_halved(D, x, fake):
    d_loss, g_loss = right("gan/somebody-elses-curves")(D, x, fake)
    return d_loss / 2, g_loss


def curves_saturating(D, x, fake):
    return right("gan/somebody-elses-curves")(D, x, fake)[0], right("gan/generator-losses")(D(fake))[1].item()


# ------------------------------------------------------------------------------------------------- 8.4 · modes covered


def modes_masked(x, means, within):
    distance, nearest = torch.cdist(x, means).min(1)
    nearest[distance > within] = -1
    return nearest


def modes_by_box(x, means, within):
    near = ((x[:, None] - means).abs() <= within).all(2)
    return torch.where(near.any(1), torch.cdist(x, means).argmin(1), -1)


def modes_from_one(x, means, within):
    labels = right("gan/modes-of")(x, means, within)
    return torch.where(labels < 0, labels, labels + 1)


def covered_by_loops(labels, k, least=0.1):
    counts = [sum(each == mode for each in labels.tolist()) for mode in range(k)]
    total = sum(counts)
    shares = [torch.tensor(c / total, dtype=torch.float64) for c in counts if c]
    enough = sum(c >= least * len(labels) / k for c in counts)
    return enough, float(-sum(p * p.log() for p in shares)) if shares else 0.0


def covered_of_the_found(labels, k, least=0.1):
    return right("gan/covered")(labels, k, least)[0], right("gan/covered")(labels[labels >= 0][::2], k, least)[1]


def covered_exponential(labels, k, least=0.1):
    count, entropy = right("gan/covered")(labels, k, least)
    return count, 2.718281828**entropy


def covered_always_a_tenth(labels, k, least=0.1):
    return right("gan/covered")(labels, k, 0.1)


# ------------------------------------------------------------------------------------------------- 8.5 · what helps


def r1_image_by_image(D, x):
    total = 0.0
    for each in x:
        each = each[None].clone().requires_grad_()
        total = total + torch.autograd.grad(D(each).sum(), each, create_graph=True)[0].pow(2).sum()
    return total / (2 * len(x))


def r1_cross_entropy(D, x):
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(F.softplus(-D(x)).sum(), x, create_graph=True)
    return slope.square().flatten(1).sum(1).mean() / 2


def r1_summed(D, x):
    return (len(x) + 1) * right("gan/r1")(D, x)


def spectral_by_norms(weight, u, rounds=1):
    w = weight.detach()
    for _ in range(rounds):
        v = w.T @ u
        v = v / v.norm()
        u = w @ v
        u = u / u.norm()
    return weight / (weight * torch.outer(u, v)).sum(), u


def spectral_exact(weight, u, rounds=1):
    return weight / torch.linalg.matrix_norm(weight, 2), right("gan/spectral")(weight, u, rounds)[1]


def spectral_multiplied(weight, u, rounds=1):
    scaled, new = right("gan/spectral")(weight, u, rounds)
    return weight * (weight.norm() / scaled.norm()), new


def spectral_not_normalised(weight, u, rounds=1):
    scaled, new = right("gan/spectral")(weight, u, rounds)
    return scaled, 2 * new


def relativistic_by_labels(D, x, fake):
    ahead = D(x) - D(fake)
    by = F.binary_cross_entropy_with_logits
    return by(ahead, torch.ones_like(ahead)), by(-ahead, torch.ones_like(ahead))


def relativistic_halved(D, x, fake):
    return tuple(loss / 2 for loss in right("gan/relativistic")(D, x, fake))


def relativistic_of_probabilities(D, x, fake):
    ahead = D(x).sigmoid() - D(fake).sigmoid()
    return F.softplus(-ahead).mean(), F.softplus(ahead).mean()


def smoothed_by_labels(real, fake, s):
    by = F.binary_cross_entropy_with_logits
    return by(real, torch.full_like(real, 1 - s)) + by(fake, torch.zeros_like(fake))


def smoothed_linear(real, fake, s):
    return (F.softplus(-real) + s * real).mean() + F.softplus(fake).mean()


def smoothed_a_tenth(real, fake, s):
    return right("gan/smoothing")(real, fake, 0.1)


def smoothed_downwards(real, fake, s):
    return right("gan/smoothing")(real, fake, 0.0) - s * real.mean()


MUTANTS = {
    "gan/discriminator-loss": {
        "an epsilon": d_loss_with_an_epsilon,
        "summed": d_loss_summed,
        "in bits": d_loss_in_bits,
    },
    "gan/generator-losses": {"clamped": g_losses_clamped, "summed": g_losses_summed},
    "gan/optimal-discriminator": {"certain": optimal_certain, "half": optimal_half},
    "gan/step": {
        "losses after the step": step_losses_after,
        "losses exchanged": step_exchanged,
        "discriminator twice": step_d_twice,
    },
    "gan/play": {
        "one step short": play_one_short,
        "other betas": play_other_betas,
        "all kept": play_keeping_all,
    },
    "gan/somebody-elses-curves": {"halved": curves_halved, "saturating": curves_saturating},
    "gan/modes-of": {"by a box": modes_by_box, "counted from one": modes_from_one},
    "gan/covered": {
        "half of the points": covered_of_the_found,
        "exponential": covered_exponential,
        "always a tenth": covered_always_a_tenth,
    },
    "gan/r1": {"of the loss": r1_cross_entropy, "summed": r1_summed},
    "gan/spectral": {
        "the exact norm": spectral_exact,
        "multiplied": spectral_multiplied,
        "u not of length 1": spectral_not_normalised,
    },
    "gan/relativistic": {"halved": relativistic_halved, "of probabilities": relativistic_of_probabilities},
    "gan/smoothing": {"always a tenth": smoothed_a_tenth, "the other way": smoothed_downwards},
}

ALTERNATIVES = {
    "gan/discriminator-loss": {"by labels": d_loss_by_labels, "logsigmoid": d_loss_by_logsigmoid},
    "gan/generator-losses": {"by labels": g_losses_by_labels} | in_other_forms(g_losses_by_labels),
    "gan/optimal-discriminator": {"logaddexp": optimal_by_log},
    "gan/step": {"without gradients": step_frozen, "by gradients": step_by_gradients},
    "gan/play": {"while": play_while},
    "gan/somebody-elses-curves": {"by labels": curves_by_labels},
    "gan/modes-of": {"masked": modes_masked},
    "gan/covered": {"loops": covered_by_loops},
    "gan/r1": {"image by image": r1_image_by_image},
    "gan/spectral": {"by norms": spectral_by_norms},
    "gan/relativistic": {"by labels": relativistic_by_labels},
    "gan/smoothing": {"by labels": smoothed_by_labels, "a linear term": smoothed_linear},
}

# --------------------------------------------------------------------------------------------------- 8.6 · the networks


def generator(kernel=4, capped=False, squares=False, norm_last=False):
    class Generator(nn.Module):
        def __init__(self, shape, latent, widths=(32, 64)):
            super().__init__()
            (c, h, w), (fine, small) = shape, widths
            self.size = (small, h // 4, h // 4 if squares else w // 4)
            self.capped = capped
            padding = (kernel - 2) // 2
            self.dense = nn.Linear(latent, self.size[0] * self.size[1] * self.size[2])
            self.norm1, self.norm2 = nn.BatchNorm2d(small), nn.BatchNorm2d(fine)
            self.up1 = nn.ConvTranspose2d(small, fine, kernel, 2, padding)
            self.up2 = nn.ConvTranspose2d(fine, c, kernel, 2, padding)

        def act(self, h):
            return h.clamp(0, 1) if self.capped else F.relu(h)

        def forward(self, z):
            h = self.dense(z).reshape(len(z), *self.size)
            h = self.norm1(self.act(h)) if norm_last else self.act(self.norm1(h))
            h = self.up1(h)
            h = self.norm2(self.act(h)) if norm_last else self.act(self.norm2(h))
            return torch.tanh(self.up2(h))

    return Generator


class UpsamplingGenerator(nn.Module):
    """Resizes and convolves: good images, but not the layers that were asked for."""

    def __init__(self, shape, latent, widths=(32, 64)):
        super().__init__()
        (c, h, w), (fine, small) = shape, widths
        self.layers = nn.Sequential(
            nn.Linear(latent, small * (h // 4) * (w // 4)),
            nn.Unflatten(1, (small, h // 4, w // 4)),
            nn.BatchNorm2d(small),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(small, fine, 3, padding=1),
            nn.BatchNorm2d(fine),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(fine, c, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.layers(z)


class SequentialGenerator(nn.Sequential):
    def __init__(self, shape, latent, widths=(32, 64)):
        (c, h, w), (fine, small) = shape, widths
        first = nn.Linear(latent, small * h * w // 16)
        parts = [nn.Unflatten(1, (small, h // 4, w // 4)), nn.BatchNorm2d(small), nn.ReLU()]
        parts += [nn.ConvTranspose2d(small, fine, 4, 2, 1), nn.BatchNorm2d(fine), nn.ReLU()]
        super().__init__(first, *parts, nn.ConvTranspose2d(fine, c, 4, 2, 1), nn.Tanh())


def discriminator(act=lambda h: F.leaky_relu(h, 0.2), pooled=False, column=False, norm_after=False):
    class Discriminator(nn.Module):
        def __init__(self, shape, widths=(32, 64)):
            super().__init__()
            (c, h, w), (fine, small) = shape, widths
            stride = (1, 3) if pooled else (2, 4)
            self.conv1 = nn.Conv2d(c, fine, stride[1], stride[0], 1)
            self.conv2 = nn.Conv2d(fine, small, stride[1], stride[0], 1)
            self.norm = nn.BatchNorm2d(small)
            self.dense = nn.Linear(small * (h // 4) * (w // 4), 1)

        def forward(self, x):
            h = act(self.conv1(x))
            h = F.avg_pool2d(h, 2) if pooled else h
            h = self.norm(act(self.conv2(h))) if norm_after else act(self.norm(self.conv2(h)))
            h = F.avg_pool2d(h, 2) if pooled else h
            logit = self.dense(h.flatten(1))
            return logit if column else logit[:, 0]

    return Discriminator


class SequentialDiscriminator(nn.Sequential):
    def __init__(self, shape, widths=(32, 64)):
        (c, h, w), (fine, small) = shape, widths
        parts = [nn.Conv2d(c, fine, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
        parts += [nn.Conv2d(fine, small, 4, 2, 1), nn.BatchNorm2d(small), nn.LeakyReLU(0.2), nn.Flatten()]
        super().__init__(*parts, nn.Linear(small * h * w // 16, 1), nn.Flatten(0))


# ---------------------------------------------------------------------------------------------------- the first weights


def first_by_name(module):
    name = type(module).__name__
    with torch.no_grad():
        if "Conv" in name or name == "Linear":
            module.weight.copy_(0.02 * torch.randn_like(module.weight))
            module.bias.fill_(0.0)
        elif "BatchNorm" in name:
            module.weight.copy_(1 + 0.02 * torch.randn_like(module.weight))
            module.bias.fill_(0.0)


def first_uniform(module):
    right("gan/first-weights")(module)
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.uniform_(module.weight, -0.02 * 3**0.5, 0.02 * 3**0.5)


def first_exactly_one(module):
    right("gan/first-weights")(module)
    if isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)


def first_all_from_zero(module):
    for weight in module.parameters(recurse=False):
        nn.init.normal_(weight, 0.0, 0.02)


# --------------------------------------------------------------------------------------------------- 8.7 · the training


def step(G, D, game, x, z, d_optimizer, g_optimizer, detach=True):
    fake = G(z)
    loss = game.discriminator(D, x, fake.detach() if detach else G(z))
    d_optimizer.zero_grad()
    loss.backward()
    d_optimizer.step()
    opposing = game.generator(D, x, fake)
    g_optimizer.zero_grad()
    opposing.backward()
    g_optimizer.step()
    return loss.item(), opposing.item()


def game_with(play=step, order=(0, 1), from_zero=False, keep=tuple):
    def watched(generator, discriminator, game, batches, optimizers, codes, every, chance):
        losses, strips = [], {}
        for x in batches:
            k = len(losses) + 1
            z = torch.randn(x.shape[0], codes.shape[1], generator=chance)
            pair = play(generator, discriminator, game, x, z, optimizers[order[0]], optimizers[order[1]])
            losses.append(keep(pair))
            if k % every == 0:
                strips[k - from_zero] = generator.eval()(codes).detach()
                generator.train()
        return losses, strips

    return watched


def game_without_chance(generator, discriminator, game, batches, optimizers, codes, every, chance):
    torch.manual_seed(0)
    return game_with()(generator, discriminator, game, batches, optimizers, codes, every, None)


# --------------------------------------------------------------------------------------------- 8.8 and 8.9 · what is it


def mix_bilinear(corners, u, v):
    low, high = (torch.stack([1 - s, s], 1) for s in (u, v))
    weights = (high[:, :, None] * low[:, None, :]).flatten(1)
    return F.normalize(weights, dim=1) @ corners


def mix_one_by_one(corners, u, v):
    rows = []
    for a, b in zip(u, v):
        w = [(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b]
        rows.append(sum(k * z for k, z in zip(w, corners)) / sum(k * k for k in w) ** 0.5)
    return torch.stack(rows)


def mix_by_sum(corners, u, v):
    w = torch.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], dim=-1)
    return w @ corners / w.sum(-1, keepdim=True).sqrt()


def nearest_one_by_one(images, data):
    gaps = [(data - image).square().flatten(1).mean(1) for image in images]
    index = torch.stack([gap.argmin() for gap in gaps])
    return torch.stack([gap.min() for gap in gaps]).sqrt(), index


def nearest_exchanged(images, data):
    return right("gan/nearest")(images, data)[::-1]


def nearest_by_brightness(images, data):
    gap = (images.flatten(1).mean(1)[:, None] - data.flatten(1).mean(1)).abs()
    return tuple(gap.min(1))


def album_by_index(generator, codes, size):
    with torch.no_grad():
        parts = [generator(codes[i : i + size]) for i in range(0, codes.shape[0], size)]
        return torch.concat(parts, dim=0).clip(-1, 1)


def album_at_once(generator, codes, size):
    with torch.no_grad():
        return generator(codes).clamp(min=-1, max=1)


def album_unclipped(generator, codes, size):
    with torch.no_grad():
        return 3 * torch.cat([generator(part) for part in codes.split(size)])


def album_whole_batches(generator, codes, size):
    return right("gan/somebody-elses-album")(generator, codes[: len(codes) // size * size], size)


def album_stacked(generator, codes, size):
    with torch.no_grad():
        return torch.cat([generator(part).clamp(-1, 1) for part in codes.split(size)], dim=1 if size == 1 else 0)[None]


DISCRIMINATORS = {
    "pooling": discriminator(pooled=True),
    "a column": discriminator(column=True),
    "norm after the slope": discriminator(norm_after=True),
    "ReLU at most 0.2": discriminator(act=lambda h: F.relu(h).clamp(max=0.2)),
    "a slope of 0.2 above": discriminator(act=lambda h: torch.where(h > 0, 0.2 * h, h)),
}
RIGHT_DISCRIMINATORS = {"functional": discriminator(), "in sequence": SequentialDiscriminator}

MUTANTS |= {
    "gan/generator": {
        "capped": generator(capped=True),
        "norm after ReLU": generator(norm_last=True),
        "resized": UpsamplingGenerator,
        "a kernel of 2": generator(kernel=2),
        "squares only": generator(squares=True),
    },
    "gan/discriminator": DISCRIMINATORS,
    "gan/somebody-elses-discriminator": DISCRIMINATORS,
    "gan/first-weights": {
        "uniform": first_uniform,
        "scales exactly 1": first_exactly_one,
        "everything around 0": first_all_from_zero,
    },
    "gan/watched": {
        "optimizers exchanged": game_with(order=(1, 0)),
        "counted from 0": game_with(from_zero=True),
        "lists": game_with(keep=list),
        "global chance": game_without_chance,
    },
    "gan/mix": {"divided by the sum": mix_by_sum},
    "gan/nearest": {"exchanged": nearest_exchanged, "by brightness": nearest_by_brightness},
    "gan/somebody-elses-album": {
        "not clipped": album_unclipped,
        "whole batches only": album_whole_batches,
        "stacked": album_stacked,
        "the last": slip("gan/somebody-elses-album", "as it was handed out"),
    },
}

ALTERNATIVES |= {
    "gan/generator": {"functional": generator(), "in sequence": SequentialGenerator},
    "gan/discriminator": RIGHT_DISCRIMINATORS,
    "gan/somebody-elses-discriminator": RIGHT_DISCRIMINATORS,
    "gan/first-weights": {"by name": first_by_name},
    "gan/watched": {"counted by hand": game_with()},
    "gan/mix": {"an outer product": mix_bilinear, "one by one": mix_one_by_one},
    "gan/nearest": {"one by one": nearest_one_by_one},
    "gan/somebody-elses-album": {"by index": album_by_index, "at once": album_at_once},
}
