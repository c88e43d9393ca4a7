"""Wrong answers to the quizzes of notebook 00 that must be rejected, and other right ones that must be accepted."""

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

ALTERNATIVES = {"start/to-unit": {"expanded": expanded, "lerp": interpolated}}
