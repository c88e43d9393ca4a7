"""Wrong answers to the quizzes of notebook 08 that people really give, and right ones that look different."""

import copy

import torch
from torch.nn import functional as F

from .answers import in_other_forms, right

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


def play_while(G, D, game, sample, steps, latent, betas, generator, keep=100):
    step = right("gan/step")
    optimizers = [torch.optim.Adam(net.parameters(), 1e-3, betas) for net in (D, G)]
    losses, snapshots = [], [(copy.deepcopy(G), copy.deepcopy(D))]
    while len(losses) < steps:
        x = sample()
        losses.append(step(G, D, game, x, torch.randn((x.shape[0], latent), generator=generator), *optimizers))
        if not len(losses) % keep:
            snapshots.append((copy.deepcopy(G), copy.deepcopy(D)))
    return losses, snapshots


def play_one_short(G, D, game, sample, steps, *rest):
    return right("gan/play")(G, D, game, sample, steps - 1, *rest)


def play_other_betas(G, D, game, sample, steps, latent, betas, generator, keep=100):
    return right("gan/play")(G, D, game, sample, steps, latent, (0.9, 0.999), generator, keep)


def play_keeping_all(G, D, game, sample, steps, latent, betas, generator, keep=100):
    return right("gan/play")(G, D, game, sample, steps, latent, betas, generator, 1)


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
    return right("gan/smoothing")(real, fake, 0.0) + s * real.mean()


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
