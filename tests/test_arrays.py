"""The two ranges of pixels, noise, and labels."""

import pytest
import torch
from test_sampling import bare_copy

from course_utils import arrays
from course_utils.arrays import check_labels, normal_like, to_unit


def test_ends_and_middle():
    assert to_unit(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0, 0.5, 1]


def test_dtype_stays_and_gradients_flow():
    x = torch.zeros(2, dtype=torch.bfloat16, requires_grad=True)
    y = to_unit(x)
    y.sum().backward()
    assert y.dtype == torch.bfloat16
    assert x.grad.tolist() == [0.5, 0.5]


def test_bytes_are_refused_while_testing():
    """(x + 1) / 2 of bytes would be silently wrong: 255 wraps to 0."""
    with pytest.raises(Exception, match="(?i)type"):
        to_unit(torch.zeros(3, dtype=torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_noise_is_what_randn_draws_however_the_image_lies_in_memory(dtype):
    x = torch.zeros(2, 3, 4, 5, dtype=dtype)
    first, second = (torch.Generator().manual_seed(1) for _ in range(2))
    assert torch.equal(normal_like(x, first), torch.randn(x.shape, generator=second, dtype=dtype))
    assert not torch.equal(normal_like(x, first), torch.randn(x.shape, generator=torch.Generator(), dtype=dtype))
    there = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(normal_like(there, torch.Generator()), normal_like(x, torch.Generator()))


@pytest.mark.parametrize(
    "y, message",
    [
        (torch.tensor([0, 11]), r"UNet: expected labels in 0..10, got 0..11"),
        (torch.tensor([-1, 3]), r"UNet: expected labels in 0..10, got -1..3"),
        (torch.tensor([1]), r"UNet: expected labels y, integers of shape \(2,\), one per image, got "),
        (torch.tensor([[1, 2]]), r"one per image, got torch.int64 of \(1, 2\)"),
        (torch.tensor([1.0, 2.0]), r"one per image, got torch.float32 of \(2,\)"),
        (torch.tensor([True, False]), r"one per image, got torch.bool of \(2,\)"),
        ([1, 2], r"one per image, got \[1, 2\]"),
        (3, r"one per image, got 3"),
    ],
)
def test_wrong_labels(y, message):
    """An image without its own label must not share another's, as one number broadcast over a batch would have it."""
    with pytest.raises(ValueError, match=message):
        bare_copy(arrays).check_labels("UNet", y, 2, highest=10)


def test_right_labels():
    for y in (torch.tensor([0, 10]), torch.tensor([3, 4], dtype=torch.int32)):
        check_labels("UNet", y, 2, highest=10)
    check_labels("UNet", torch.zeros(0, dtype=torch.long), 0, highest=10)
