"""One round: a sampler makes its images from what it is dealt, and every evaluation of its network is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .records import Deal, Entry, Foul
from .samplers import Samplers

CHUNK = 250  # images that the network sees at once
AGAIN = 64  # images that are made once more, to see what they depend on
SAME = 0.02  # mean difference per pixel, in [-1, 1], up to which two images are one: rounding, much amplified
OTHER = 0.05  # the least by which images must differ where the network does
DIFFERENT = 0.9  # share of images, in 256 grey levels, that are like no other

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def play(samplers: Samplers, entry: Entry, deal: Deal, seed: int, seconds: float) -> Tensor:
    """The images (b, c, h, w) of one round, in [-1, 1] and 256 grey levels.  Raises Foul.

    They must be made with at most `deal.evaluations` calls, each of them for all images at once; each must be made of
    its own noise and label and nothing else, by the network, and hardly two may be the same.
    seed: of the rows that are made once more;  seconds: for the network.
    """
    network = _in_time(entry.denoiser, seconds)
    images = _made(samplers, entry, deal, network)
    generator = torch.Generator().manual_seed(seed)
    some = torch.randperm(len(images), generator=generator)[: min(AGAIN, max(1, len(images) // 2))]
    again = _made(samplers, entry, deal.rows(some), network)
    apart = (again - images[some]).abs().flatten(1).mean(1)
    if bool((apart > SAME).any()):
        raise Foul(
            f"image {int(some[apart.argmax()])} came out otherwise when it was made among others: each must be made of "
            "its own noise and label alone"
        )
    blind = _made(samplers, entry, deal.rows(some), lambda x, t, y: torch.zeros_like(x))
    if float((blind - again).abs().mean()) < OTHER:
        raise Foul("its images are hardly other ones when the network is another: they do not come from it")
    distinct = len({image.numpy().tobytes() for image in images})
    if distinct < DIFFERENT * len(images):
        raise Foul(f"of {len(images):,} images from different noise only {distinct:,} are different")
    return images


def _made(samplers: Samplers, entry: Entry, deal: Deal, network: Network) -> Tensor:
    """The images of one run of the sampler."""
    denoiser, calls = entry.denoiser, 0

    def answer(asked: Mapping[str, Any]) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls > deal.evaluations:
            raise Foul(f"it asks for a {_th(calls)} evaluation; {deal.evaluations} may be used")
        return {"x0": network(*_request(asked, deal, denoiser.schedule.T, denoiser.model.num_classes))}

    given = {
        "alpha_bar": denoiser.schedule.alpha_bar,
        "name": denoiser.schedule.name,
        "noise": deal.noise,
        "y": None if denoiser.model.num_classes is None else deal.y,
        "evaluations": deal.evaluations,
    }
    return _images(samplers.play(entry.source, given, answer).get("images"), deal)


def _request(asked: Mapping[str, Any], deal: Deal, T: int, classes: int | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """x_t, t and y as the network takes them. For all images at once: else one evaluation could be two for some."""
    x, t, y = (asked.get(name) for name in ("x_t", "t", "y"))
    _check(x, torch.float32, deal.noise.shape[1:], "x_t", "floats, all images at once")
    if not bool(x.isfinite().all()):
        raise Foul("denoise: expected finite numbers in x_t, got NaN or infinity")
    _check(t, torch.int64, deal.y.shape, "t", "whole numbers, one step for each image")
    if bool((t < 1).any()) or bool((t > T).any()):
        raise Foul(f"denoise: expected steps t in 1..{T}, got {int(t.min())}..{int(t.max())}")
    if y is None:
        return x, t, None
    if classes is None:
        raise Foul("denoise: expected no labels, since this model has no classes")
    _check(y, torch.int64, deal.y.shape, "y", "whole numbers, one label for each image")
    if bool((y < 0).any()) or bool((y > classes).any()):
        raise Foul(f"denoise: expected labels y in 0..{classes}, got {int(y.min())}..{int(y.max())}")
    return x, t, y


def _check(value: Any, dtype: torch.dtype, shape: tuple[int, ...], name: str, expected: str) -> None:
    if type(value) is not Tensor or value.dtype != dtype or value.shape != shape:
        got = str(tuple(value.shape))[:60] if type(value) is Tensor else "something else"
        raise Foul(f"denoise: expected {name} of shape {tuple(shape)} ({expected}), got {got}")


def _images(images: Any, deal: Deal) -> Tensor:
    """Clipped to [-1, 1] and rounded to 256 grey levels, as real images are: smaller traces reach no judge."""
    expected = tuple(deal.noise.shape[1:])
    if type(images) is not Tensor or tuple(images.shape) != expected:
        got = str(tuple(images.shape))[:60] if type(images) is Tensor else "something else"
        raise Foul(f"sample: expected images of shape {expected}, got {got}")
    if not images.is_floating_point() or not bool(images.isfinite().all()):
        raise Foul("sample: expected finite images, got NaN or infinity")
    levels = ((images.float().clamp(-1, 1) + 1) * 127.5).round()
    return levels / 127.5 - 1


def _in_time(denoiser: Callable, seconds: float) -> Network:
    """The network on many images, some at a time, until its time is over."""
    left = seconds

    @torch.no_grad()
    def network(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        nonlocal left
        parts = []
        for rows in torch.arange(len(x)).split(CHUNK):
            start = time.monotonic()
            some = x[rows].contiguous(memory_format=torch.channels_last)
            parts.append(denoiser(some, t[rows], None if y is None else y[rows]).float().contiguous())
            left -= time.monotonic() - start
            if left < 0:
                raise Foul(f"its network takes more than the {seconds:.0f} s that it may have in a round")
        return torch.cat(parts)

    return network


def _th(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")
