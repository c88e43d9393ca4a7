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


def on_the_cpu(x):
    return (x + torch.ones(x.shape, dtype=x.dtype)) / 2


def in_half_precision(x):
    return ((x.half() + 1) / 2).to(x.dtype)


def forgets_to_record_again(x):
    torch.set_grad_enabled(False)
    return (x + 1) / 2


def backward_inside(x):
    result = (x + 1) / 2
    if result.requires_grad:
        result.sum().backward(retain_graph=True)
    return result


def own_default_dtype(x):
    torch.set_default_dtype(torch.float64)
    return (x + 1) / 2


def cached_by_shape():
    seen = {}
    return lambda x: seen.setdefault((x.shape, x.dtype, x.device.type), (x + 1) / 2)


def whiter_than_white_kept(x):
    return torch.where(x < 1, (x + 1) / 2, x.detach())


def only_grey_pictures(x):
    return (x + 1) / 2 if x.shape[1] == 1 else x / 2 + 1


def one_for_all(x):
    return ((x + 1) / 2).mean(0, keepdim=True).expand_as(x)


def counted(function):
    """A decorator of the kind that students meet in tutorials."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        wrapper.calls += 1
        return function(*args, **kwargs)

    wrapper.calls = 0
    return wrapper


@counted
def decorated(images):
    return (images + 1) / 2


class Line:
    """y = slope · x + height, to be called."""

    def __init__(self, slope, height):
        self.slope, self.height = slope, height

    def __call__(self, pixels):
        return self.slope * pixels + self.height


def by_position_only(pixels, /):
    return pixels.add(1).mul(0.5)


def by_name_only(*, x):
    return (1 + x) / 2


def one_pixel_at_a_time(x):
    result = torch.empty_like(x)
    for i, pixel in enumerate(x.flatten()):
        result.view(-1)[i] = (pixel + 1) / 2
    return result


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
        "a tensor on the CPU": on_the_cpu,
        "in half precision": in_half_precision,
        "leaves recording off": forgets_to_record_again,
        "backward inside": backward_inside,
        "leaves another default dtype": own_default_dtype,
        "cached by shape": cached_by_shape(),
        "no gradient where it is white": whiter_than_white_kept,
        "grey pictures only": only_grey_pictures,
        "the mean of the batch": one_for_all,
        "rounded to two digits": lambda x: ((x + 1) * 50).round() / 100,
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
        "decorated": decorated,
        "an object": Line(0.5, 0.5),
        "by position only": by_position_only,
        "by name only": by_name_only,
        "one pixel at a time": one_pixel_at_a_time,
        "a tensor for the half": lambda x: torch.tensor(0.5) * (x + torch.tensor(1.0)),
    }
}
