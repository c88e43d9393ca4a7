"""The two ranges of pixels."""

import pytest
import torch

from course_utils.arrays import from_unit, to_unit


@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 5, 7)])
def test_there_and_back(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    assert torch.allclose(from_unit(to_unit(x)), x, atol=1e-15)


def test_ends_and_middle():
    assert to_unit(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0, 0.5, 1]
    assert from_unit(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1, 0, 1]


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
