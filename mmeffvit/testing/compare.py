"""How far two tensors are apart."""

import torch
from torch import Tensor


def relative_rms_error(actual: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference over that of the expected values, in float64.

    Raises:
        ValueError: The shapes differ.
    """
    if actual.shape != expected.shape:
        raise ValueError(f"shapes differ: {tuple(actual.shape)} and {tuple(expected.shape)}")
    actual, expected = actual.detach().double(), expected.detach().double()
    scale = expected.square().mean().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    return ((actual - expected).square().mean().sqrt() / scale).item()
