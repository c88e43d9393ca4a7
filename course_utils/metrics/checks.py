"""The guard that all comparisons of two sets of features share."""

from torch import Tensor


def two_sets(who: str, a: Tensor, b: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Both in float64, where they are (on the CPU where the device has no float64).

    Raises ValueError, in the name of the function `who`, unless they are finite, (n, d) and (m, d), n, m ≥ `least`.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < least or not a.shape[1]:
        raise ValueError(
            f"{who} expects features (n, d) and (m, d) with n, m ≥ {least}, got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError(f"{who} expects finite features, got NaN or infinity; look at the images that they come from.")
    return in_double(a), in_double(b)


def in_double(x: Tensor) -> Tensor:
    """x in float64, on the CPU where its device (mps) has no such numbers."""
    return (x.cpu() if x.device.type == "mps" else x).detach().double()
