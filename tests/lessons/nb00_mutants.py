"""Wrong answers to the quizzes of notebook 00 that must be rejected, and other right ones that must be accepted."""

import functools

import torch


def by_range_of_the_data(x):
    return (x - x.min()) / (x.max() - x.min())


def floor_division(x):
    return (x + 1) // 2


def upside_down(x):
    return (1 - x) / 2


def always_single_precision(x):
    return (x.float() + 1) / 2


def without_gradient(x):
    return (x.detach() + 1) / 2


def absolute_value(x):
    return x.abs()


def one_image_only(x):
    return (x[:1] + 1) / 2


def expanded(x):
    return 0.5 * x + 0.5


def interpolated(x):
    return torch.lerp(torch.zeros_like(x), torch.ones_like(x), x.add(1).div(2))


MUTANTS = {
    "start/to-unit": {
        "not shifted": lambda x: x / 2,
        "shifted the wrong way": lambda x: (x - 1) / 2,
        "sigmoid": torch.sigmoid,
        "bytes": lambda x: ((x + 1) * 127.5).to(torch.uint8),
        "rounded to grey levels": lambda x: ((x + 1) * 127.5).round() / 255,
        "in place": lambda x: x.add_(1).div_(2),
        "statistics of a data set undone": lambda x: x * 0.3081 + 0.1307,
        "an array": lambda x: (x.detach().numpy() + 1) / 2,
        "axes lost": lambda x: ((x + 1) / 2).squeeze(),
        "a list of images": lambda x: [(image + 1) / 2 for image in x],
        "stretches each batch to its own range": by_range_of_the_data,
        "floor division": floor_division,
        "black and white swapped": upside_down,
        "always single precision": always_single_precision,
        "detached": without_gradient,
        "absolute value": absolute_value,
        "first image only": one_image_only,
        "grey levels": lambda x: (x + 1) * 127.5,
        "precedence": lambda x: x + 1 / 2,
        "cut off": lambda x: x.clamp(0, 1),
    }
}

ALTERNATIVES = {
    "start/to-unit": {
        "expanded": expanded,
        "lerp": interpolated,
        "one image at a time": lambda x: torch.stack([(image + 1) / 2 for image in x]),
        "own copy in place": lambda x: x.clone().add_(1).div_(2),
        "partial": functools.partial(torch.add, torch.tensor(0.5), alpha=0.5),
        "in double precision": lambda x: ((x.double() + 1) / 2).to(x.dtype),
        "ends as defaults": lambda x, low=-1, high=1: (x - low) / (high - low),
    }
}
