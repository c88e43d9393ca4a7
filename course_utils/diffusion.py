"""Forward diffusion: schedules, jumps to step t, the posterior, what a network may predict, and the training loss.

One convention everywhere: a `Schedule` of T steps holds ᾱ_0 = 1 (clean), ᾱ_1, ..., ᾱ_T (nearly pure noise), and
x_t = √ᾱ_t · x_0 + √(1 − ᾱ_t) · ε. A *denoiser* is any callable (x_t, t, y=None) → x̂_0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from .arrays import check_same_shape, is_whole, normal_like

Denoise = Callable[..., Tensor]  # (x_t (b, c, h, w), t (b,), y=None) -> x̂_0 (b, c, h, w)

DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    # name: what is averaged over the pixels of an image
    "l2": lambda guess, target: (guess - target).square(),
    "l1": lambda guess, target: (guess - target).abs(),
    "huber": lambda guess, target: F.huber_loss(guess, target, reduction="none"),
}


class Gaussian(NamedTuple):
    """Mean, like the images, and variance, (b, 1, 1, 1) of a Gaussian whose pixels are independent."""

    mean: Tensor
    var: Tensor


# ---------------------------------------------------------------------------------------------------------------------
# The schedule
# ---------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Schedule:
    """How much of the image is left after t of T steps.

    alpha_bar: (T + 1,), float64: ᾱ_t, the share of signal in the variance, from ᾱ_0 = 1 down to ᾱ_T ≥ 0.
    name: for titles of plots.
    Steps t are integers 0..T; where images come in a batch, t is (b,), one step per image.
    Raises ValueError unless alpha_bar starts at 1, falls at its first step, never rises, and stays above 0
    before its last entry.

    >>> schedule = Schedule(torch.tensor([1.0, 0.5, 0.1]))
    >>> schedule.T, schedule.beta
    (2, tensor([0.0000, 0.5000, 0.8000], dtype=torch.float64))
    """

    alpha_bar: Float[Tensor, " t"]
    name: str = "a schedule"

    def __post_init__(self):
        a = self.alpha_bar
        if a.ndim != 1 or len(a) < 2:
            raise ValueError(f"Schedule expects alpha_bar of shape (T + 1,) with T ≥ 1, got {tuple(a.shape)}.")
        a = a if a.device.type == "mps" else a.double()  # Apple's GPUs have no float64
        if not a.is_meta and not _falls(a):
            raise ValueError(
                "Schedule expects alpha_bar that starts at 1 (clean data), then is less, never rises and stays above 0 "
                f"before step T; got {a[0]:g}, {a[1]:g}, ..., {a[-1]:g}. Was the leading 1 forgotten?"
            )
        object.__setattr__(self, "alpha_bar", a)

    @classmethod
    def from_betas(cls, beta: Float[Tensor, " t"], name: str = "a schedule") -> "Schedule":
        """From the noise variances β_1, ..., β_T of single steps: ᾱ_t = (1 − β_1) ··· (1 − β_t), equation (3.3).

        >>> Schedule.from_betas(torch.tensor([0.5, 0.5])).alpha_bar
        tensor([1.0000, 0.5000, 0.2500], dtype=torch.float64)
        """
        if beta.ndim != 1 or (not beta.is_meta and bool(((beta < 0) | (beta > 1)).any())):
            raise ValueError(
                f"Schedule.from_betas expects variances in [0, 1], shape (T,), got {tuple(beta.shape)} from "
                f"{beta.min():g} to {beta.max():g}."
            )
        return cls(torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta.double()).cumprod(0)]), name)

    def to(self, device: torch.device | str) -> "Schedule":
        """The same schedule on another device."""
        alpha_bar = self.alpha_bar.float() if torch.device(device).type == "mps" else self.alpha_bar
        return Schedule(alpha_bar.to(device), self.name)

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.alpha_bar) - 1

    @property
    def alpha(self) -> Float[Tensor, " t"]:
        """α_t = ᾱ_t / ᾱ_{t−1}: how much of the variance one step keeps. α_0 = 1."""
        return torch.cat([self.alpha_bar[:1], self.alpha_bar[1:] / self.alpha_bar[:-1]])

    @property
    def beta(self) -> Float[Tensor, " t"]:
        """β_t = 1 − α_t: the variance of the noise that step t adds. β_0 = 0."""
        return 1 - self.alpha

    @property
    def snr(self) -> Float[Tensor, " t"]:
        """Signal-to-noise ratio ᾱ_t / (1 − ᾱ_t) of variances, equation (3.6); infinite at t = 0."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def log_snr(self) -> Float[Tensor, " t"]:
        """ln of equation (3.6): ∞ at t = 0, and −∞ where ᾱ_t = 0."""
        return self.alpha_bar.log() - torch.log1p(-self.alpha_bar)

    def alpha_bar_at(self, t: Int[Tensor, "b"], like: Tensor) -> Tensor:
        """ᾱ_t of every image, shaped to multiply a batch `like` (b, ...), in its precision (float32 at least).

        Raises ValueError for a t that isn't (b,) integers, and, on the CPU, for a step outside 0..T. (On a GPU the
        check would make every step wait.)
        """
        return _rounded(like, self._exactly(t, like))[0]

    def rates(self, t: Int[Tensor, "b"], like: Tensor) -> tuple[Tensor, Tensor]:
        """Signal rate √ᾱ_t and noise rate √(1 − ᾱ_t), shaped like `alpha_bar_at`. Rounded last: 1 − ᾱ_1 is small.

        >>> Schedule(torch.tensor([1.0, 0.64])).rates(torch.tensor([1]), torch.zeros(1, 2))
        (tensor([[0.8000]]), tensor([[0.6000]]))
        """
        alpha_bar = self._exactly(t, like)
        return _rounded(like, alpha_bar.sqrt(), (1 - alpha_bar).sqrt())

    def _exactly(self, t: Tensor, like: Tensor, first: int = 0) -> Tensor:
        """ᾱ_t in float64, shaped (b, 1, ...). Checks t as `alpha_bar_at` says; steps begin at `first`."""
        if not isinstance(t, Tensor) or t.dtype not in (torch.int64, torch.int32) or t.shape != like.shape[:1]:
            got = f"{t.dtype} of {tuple(t.shape)}" if isinstance(t, Tensor) else repr(t)
            raise ValueError(f"t: expected integers of shape ({len(like)},), one step per image, got {got}.")
        if t.device.type == "cpu" and t.numel() and (t.min() < first or t.max() > self.T):
            raise ValueError(f"t: expected steps in {first}..{self.T}, got {t.min()}..{t.max()}.")
        table = self.alpha_bar if like.device.type != "mps" else self.alpha_bar.float()
        return table.to(like.device)[t].reshape(-1, *[1] * (like.ndim - 1))

    def timesteps(self, steps: int) -> list[int]:
        """`steps` + 1 whole numbers from T down to 0, evenly spaced: the ends of `steps` strides.

        >>> cosine_schedule(1000).timesteps(4)
        [1000, 750, 500, 250, 0]
        """
        if not is_whole(steps, 1) or steps > self.T:
            raise ValueError(
                f"steps: expected a whole number in 1..{self.T} (this schedule has T = {self.T}), got {steps!r}."
            )
        return [round(self.T * (steps - k) / steps) for k in range(steps + 1)]

    # ------------------------------------------------------------------------------------------------ there, and back
    def add_noise(
        self, x0: Float[Tensor, "b ..."], t: Int[Tensor, "b"], noise: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b ..."]:
        """Jump from clean images to step t, equation (3.4): x_t = √ᾱ_t · x0 + √(1 − ᾱ_t) · noise.

        x0: (b, ...), images in [-1, 1];  t: (b,) integers in 0..T;  noise: like x0, standard normal. Returns x_t.

        >>> schedule = Schedule(torch.tensor([1.0, 0.64, 0.0]))
        >>> schedule.add_noise(torch.ones(3, 1), torch.tensor([0, 1, 2]), -torch.ones(3, 1)).flatten()
        tensor([ 1.0000,  0.2000, -1.0000])
        """
        check_same_shape("add_noise", x0=x0, noise=noise)
        signal_rate, noise_rate = self.rates(t, x0)
        return signal_rate * x0 + noise_rate * noise

    def step(
        self, x: Float[Tensor, "b ..."], t: Int[Tensor, "b"], noise: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b ..."]:
        """One step of the chain, from x_{t−1} to x_t, equation (3.1): √α_t · x + √β_t · noise. t in 1..T."""
        check_same_shape("step", x=x, noise=noise)
        alpha = self._exactly(t, x, first=1) / self._exactly(t - 1, x)
        kept, added = _rounded(x, alpha.sqrt(), (1 - alpha).sqrt())
        return kept * x + added * noise

    def posterior(
        self,
        x0: Float[Tensor, "b ..."],
        x_t: Float[Tensor, "b ..."],
        t: Int[Tensor, "b"],
        s: Int[Tensor, "b"] | None = None,
    ) -> Gaussian:
        """q(x_s | x_t, x_0), the way back if the clean image were known: equation (3.8).

        x0, x_t: (b, ...);  t: (b,) in 1..T;  s: (b,) in 0..t−1, t − 1 if not given.
        Returns Gaussian(mean like x0, var (b, 1, ...)). At s = 0 the mean is x0 and the variance 0.
        """
        check_same_shape("posterior", x0=x0, x_t=x_t)
        s = t - 1 if s is None else s
        alpha_bar_t, alpha_bar_s = self._exactly(t, x0, first=1), self._exactly(s, x0)
        if t.device.type == "cpu" and bool((s >= t).any()):
            raise ValueError(f"s: expected steps before t = {t.tolist()}, got {s.tolist()}.")
        alpha = alpha_bar_t / alpha_bar_s  # α_t where s = t − 1
        of_x0 = alpha_bar_s.sqrt() * (1 - alpha) / (1 - alpha_bar_t)
        of_x_t = alpha.sqrt() * (1 - alpha_bar_s) / (1 - alpha_bar_t)
        variance = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha)
        of_x0, of_x_t, var = _rounded(x0, of_x0, of_x_t, variance)
        return Gaussian(of_x0 * x0 + of_x_t * x_t, var)


# ---------------------------------------------------------------------------------------------------------------------
# Four schedules. Each is a curve; T only says how finely it is sampled.
# ---------------------------------------------------------------------------------------------------------------------
REFERENCE = 1000  # the number of steps that the published β belong to


def linear_schedule(T: int = REFERENCE, beta_min: float = 1e-4, beta_max: float = 0.02) -> Schedule:
    """β rises along a straight line (Ho et al. 2020), equation (3.2), first line. The curve of ᾱ is the same for all T.

    beta_min, beta_max: of a chain of 1,000 steps. `Schedule.from_betas` takes β as they are.

    >>> linear_schedule(1000).beta[[1, 1000]], linear_schedule(200).alpha_bar[200] == linear_schedule().alpha_bar[1000]
    (tensor([1.0000e-04, 2.0000e-02], dtype=torch.float64), tensor(True))
    """
    return _resampled(torch.linspace(beta_min, beta_max, REFERENCE, dtype=torch.float64), T, "linear")


def quadratic_schedule(T: int = REFERENCE, beta_min: float = 1e-4, beta_max: float = 0.02) -> Schedule:
    """√β rises along a straight line, equation (3.2), second line; scaled_linear in `diffusers`. Arguments as above."""
    root = torch.linspace(beta_min**0.5, beta_max**0.5, REFERENCE, dtype=torch.float64)
    return _resampled(root.square(), T, "quadratic")


def sigmoid_schedule(T: int = REFERENCE, beta_min: float = 1e-4, beta_max: float = 0.02) -> Schedule:
    """β rises along a sigmoid between −6 and 6, equation (3.2), third line. Arguments as above."""
    rise = torch.linspace(-6, 6, REFERENCE, dtype=torch.float64).sigmoid()
    return _resampled(beta_min + (beta_max - beta_min) * rise, T, "sigmoid")


def cosine_schedule(T: int = REFERENCE, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """ᾱ_t = cos²((t/T + s)/(1 + s) · π/2), divided by its value at 0 (Nichol and Dhariwal 2021): equation (3.5).

    max_beta: no step may add more; without it the last one would have β = 1 and leave ᾱ_T = 0.

    >>> cosine_schedule(1000).alpha_bar[500]
    tensor(0.4938, dtype=torch.float64)
    """
    whole_T(T)
    u = torch.arange(T + 1, dtype=torch.float64) / T
    curve = ((u + s) / (1 + s) * math.pi / 2).cos().square()
    return Schedule.from_betas((1 - curve[1:] / curve[:-1]).clamp(0, max_beta), "cosine")


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """The schedule with √ᾱ shifted and stretched so that ᾱ_T = 0 and ᾱ_1 stays (Lin et al. 2024): equation (3.7).

    After step T nothing is left of the image, as samplers assume. Needs T ≥ 2, and a network that predicts v or x0.

    >>> zero_terminal_snr(linear_schedule(1000)).alpha_bar[-1]
    tensor(0., dtype=torch.float64)
    """
    if schedule.T < 2:
        raise ValueError("zero_terminal_snr expects at least 2 steps: a single one can't both stay and reach 0.")
    root = schedule.alpha_bar.sqrt()
    stretched = (root[1:] - root[-1]) * root[1] / (root[1] - root[-1])
    return Schedule(torch.cat([root[:1], stretched]).square(), f"{schedule.name}, zero terminal SNR")


NOISE_SCHEDULES = {
    "linear": linear_schedule,
    "quadratic": quadratic_schedule,
    "sigmoid": sigmoid_schedule,
    "cosine": cosine_schedule,
}


def _resampled(beta: Tensor, T: int, name: str) -> Schedule:
    """ln ᾱ of the published chain, read at T + 1 evenly spaced places (straight lines between its steps)."""
    whole_T(T)
    log = Schedule.from_betas(beta, name).alpha_bar.log()
    place = torch.arange(T + 1, dtype=torch.float64) * len(beta) / T
    left = place.floor().long().clamp(max=len(beta) - 1)
    return Schedule(torch.lerp(log[left], log[left + 1], place - left).exp(), name)


# ---------------------------------------------------------------------------------------------------------------------
# What a network may predict
# ---------------------------------------------------------------------------------------------------------------------
PREDICTION_TYPES = ("noise", "x0", "v", "velocity")  # the first three: epsilon, sample, v_prediction in `diffusers`


def prediction_target(
    schedule: Schedule,
    prediction_type: str,
    x0: Float[Tensor, "b ..."],
    noise: Float[Tensor, "b ..."],
    t: Int[Tensor, "b"],
) -> Float[Tensor, "b ..."]:
    """What such a network should answer: "noise" (ε), "x0", "v", equation (5.5), or "velocity", equation (10.2).

    v = √ᾱ_t · noise − √(1−ᾱ_t) · x0;  velocity = noise − x0, whatever t is.
    """
    _check_prediction_type(prediction_type)
    if prediction_type in ("noise", "x0"):
        return noise if prediction_type == "noise" else x0
    check_same_shape("prediction_target", x0=x0, noise=noise)
    if prediction_type == "velocity":
        return noise - x0
    signal_rate, noise_rate = schedule.rates(t, x0)
    return signal_rate * noise - noise_rate * x0


def predict_x0(
    schedule: Schedule,
    prediction_type: str,
    output: Float[Tensor, "b ..."],
    x_t: Float[Tensor, "b ..."],
    t: Int[Tensor, "b"],
) -> Float[Tensor, "b ..."]:
    """The clean image that a network's `output` implies, equations (5.6) and (10.4).

    From "noise" it is (x_t − √(1−ᾱ_t) · ε̂) / √ᾱ_t, which nothing can compute where ᾱ_t = 0: zero-terminal-SNR
    schedules need "v" or "x0" (ValueError otherwise).
    """
    _check_prediction_type(prediction_type)
    check_same_shape("predict_x0", output=output, x_t=x_t)
    if prediction_type == "x0":
        return output
    signal_rate, noise_rate = schedule.rates(t, x_t)
    if prediction_type == "v":
        return signal_rate * x_t - noise_rate * output
    if prediction_type == "velocity":
        return (x_t - noise_rate * output) / (signal_rate + noise_rate)
    if x_t.device.type == "cpu" and bool((signal_rate == 0).any()):
        raise ValueError(f"predict_x0: {NO_SIGNAL}")
    return (x_t - noise_rate * output) / signal_rate


def predict_noise(
    schedule: Schedule, x0: Float[Tensor, "b ..."], x_t: Float[Tensor, "b ..."], t: Int[Tensor, "b"]
) -> Float[Tensor, "b ..."]:
    """The noise that leads from x0 to x_t, equation (5.7): (x_t − √ᾱ_t · x0) / √(1 − ᾱ_t). t in 1..T."""
    check_same_shape("predict_noise", x0=x0, x_t=x_t)
    alpha_bar_t = schedule._exactly(t, x_t, first=1)
    signal_rate, noise_rate = _rounded(x_t, alpha_bar_t.sqrt(), (1 - alpha_bar_t).sqrt())
    return (x_t - signal_rate * x0) / noise_rate


NO_SIGNAL = 'at ᾱ_t = 0 the noise says nothing about x0; train with prediction_type="v" or "x0".'


def _check_prediction_type(prediction_type: str) -> None:
    if prediction_type not in PREDICTION_TYPES:
        raise ValueError(
            f"prediction_type: expected {', '.join(map(repr, PREDICTION_TYPES))}, got {prediction_type!r}."
        )


# ---------------------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------------------
def draw_steps(
    n: int, T: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Int[Tensor, "n"]:
    """n steps, one in each n-th of 1..T, in rising order: any step is as likely as any other, but a batch has no gaps.

    A batch of independent draws has them, and the loss of a batch jumps with them (Kingma et al. 2021, appendix I).

    >>> draw_steps(4, 1000).div(250).ceil()
    tensor([1., 2., 3., 4.])
    """
    start = torch.rand((), generator=generator, device=device)
    u = (torch.arange(n, device=device) + start) / n
    return (u * T).long().clamp(0, T - 1) + 1


def drop_labels(
    y: Int[Tensor, "b"], null: int, share: float = 0.1, generator: torch.Generator | None = None
) -> Int[Tensor, "b"]:
    """Each label becomes the `null` label with probability `share` (Ho and Salimans 2022), equation (7.3).

    y: (b,) classes;  null: a number that no class has. Labels are dropped independently of each other. Returns (b,).

    >>> drop_labels(torch.tensor([0, 1, 2]), null=9, share=1.0)
    tensor([9, 9, 9])
    """
    lost = torch.rand(y.shape, generator=generator, device=y.device) < share
    return y.masked_fill(lost, null)


def min_snr(schedule: Schedule, prediction_type: str, t: Int[Tensor, "b"], gamma: float = 5.0) -> Float[Tensor, "b"]:
    """The weight min(SNR_t, γ) of the squared error in x0, for a network of this prediction type: equation (5.10).

    prediction_type: what the network predicts. A squared error in x0 is SNR_t times smaller than one in the noise,
    SNR_t + 1 times smaller than one in v (Hang et al. 2023), and (√SNR_t + 1)² times smaller than one in the velocity.
    t: (b,) in 1..T. Returns (b,).
    """
    _check_prediction_type(prediction_type)
    snr = schedule.snr.to(t.device)[t]
    per_unit = {"x0": torch.ones_like(snr), "noise": snr, "v": snr + 1, "velocity": (snr.sqrt() + 1) ** 2}
    weight = snr.clamp(max=gamma) / per_unit[prediction_type]
    return weight.nan_to_num(1.0) if prediction_type == "noise" else weight  # 0/0 at ᾱ_t = 0, where its limit is 1


def with_fresh_noise(
    x: Float[Tensor, "b ..."], y: Int[Tensor, "b"] | None, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """The usual `pair` of `diffusion_loss`: the images as they are, and noise that knows nothing of them."""
    return x, normal_like(x, generator)


def diffusion_loss(
    schedule: Schedule,
    prediction_type: str = "v",
    distance: str = "l2",
    weight: Callable[[Tensor], Tensor] | None = None,
    draw: Callable = draw_steps,
    null: int | None = None,
    pair: Callable = with_fresh_noise,
) -> Callable:
    """Algorithm 1 (Ho et al. 2020), equation (5.4), for `training.fit`: draw t and ε, ask the network, measure.

    prediction_type: what the network predicts, one of `PREDICTION_TYPES`;
    distance: "l2", "l1" or "huber", a mean over pixels;
    weight: None, or a function from t (b,) to weights (b,), such as `partial(min_snr, schedule, "v")`;
    draw: `draw(n, T, generator, device)` gives t;
    null: None for a network without labels; else labels are passed on, a tenth of them as this null label;
    pair: `pair(x, y, generator)` gives images and the noise that goes with each, both like x0: fresh noise, unless it
    says otherwise (see `flow.optimal_pairs`, `few_steps.from_pairs`).
    Returns loss(model, x, y, generator) → a scalar, what `fit` takes.

    >>> loss = diffusion_loss(cosine_schedule(100), prediction_type="noise")
    >>> x = torch.zeros(4, 1, 8, 8)
    >>> loss(lambda x_t, t: x_t * 0, x, None, torch.Generator().manual_seed(0)) > 0.5      # ε has variance 1
    tensor(True)
    """
    _check_prediction_type(prediction_type)
    if distance not in DISTANCES:
        raise ValueError(f"distance: expected {', '.join(map(repr, DISTANCES))}, got {distance!r}.")

    def loss(model: Callable, x: Tensor, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
        t = draw(len(x), schedule.T, generator, x.device)
        x0, noise = pair(x, y, generator)
        if null is not None and y is None:
            raise ValueError(f"diffusion_loss: null = {null} is for a network with labels, but the data has none.")
        labels = () if null is None else (drop_labels(y, null, generator=generator),)
        guess = model(schedule.add_noise(x0, t, noise), t, *labels).float()
        target = prediction_target(schedule, prediction_type, x0, noise, t)
        error = DISTANCES[distance](guess, target).flatten(1).mean(1)
        return (error if weight is None else weight(t).to(error) * error).mean()

    return loss


def noisy_classifier_loss(schedule: Schedule, draw: Callable = draw_steps) -> Callable:
    """A loss for `training.fit`: cross-entropy on images noised to steps 1..T, in nats per image, equation (7.6).

    The network is called as model(x_t, t) and gives logits (b, classes). Beside the loss: the share of right answers.
    """

    def loss(
        model: Callable, x: Tensor, y: Int[Tensor, "b"], generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        t = draw(len(x), schedule.T, generator, x.device)
        noise = normal_like(x, generator)
        logits = model(schedule.add_noise(x, t, noise), t).float()
        return F.cross_entropy(logits, y), {"accuracy": (logits.argmax(1) == y).float().mean()}

    return loss


class Denoiser(nn.Module):
    """A trained network as a denoiser (x_t, t, y=None) → x̂_0, whatever it predicts.

    model: called as model(x_t, t) or model(x_t, t, y), (b, c, h, w) images and (b,) steps, 1..T;
    schedule, prediction_type: those that it was trained with.
    """

    def __init__(self, model: nn.Module | Callable, schedule: Schedule, prediction_type: str = "v"):
        super().__init__()
        _check_prediction_type(prediction_type)
        if prediction_type == "noise" and schedule.alpha_bar[-1] == 0:
            raise ValueError(f"Denoiser: {NO_SIGNAL}")
        self.model, self.schedule, self.prediction_type = model, schedule, prediction_type

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of the images that the network was built for."""
        return self.model.shape

    def forward(self, x_t: Tensor, t: Int[Tensor, "b"], y: Int[Tensor, "b"] | None = None) -> Tensor:
        output = self.model(x_t, t) if y is None else self.model(x_t, t, y)
        return predict_x0(self.schedule, self.prediction_type, output.to(x_t.dtype), x_t, t)


def _rounded(like: Tensor, *numbers: Tensor) -> tuple[Tensor, ...]:
    """In the precision of `like`, but float32 at least. After the arithmetic, so that 1 − ᾱ keeps its digits."""
    return tuple(n.to(torch.float64 if like.dtype == torch.float64 else torch.float32) for n in numbers)


def _falls(alpha_bar: Tensor) -> bool:
    """From 1, at the first step at once, never rising, and above 0 before the last step."""
    first, second, last = alpha_bar[0], alpha_bar[1], alpha_bar[-1]
    starts = bool(first == 1) and bool(second < 1)
    return starts and bool((alpha_bar.diff() <= 0).all()) and bool(last >= 0) and bool((alpha_bar[:-1] > 0).all())


def whole_T(T: int) -> None:
    if not is_whole(T, 1):
        raise ValueError(f"T: expected a whole number of steps, at least 1, got {T!r}.")
