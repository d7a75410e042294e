"""How outputs and gradients of two implementations are compared."""

from collections.abc import Sequence

from torch import Tensor

from mmeffvit.testing import relative_rms_error

_ROUNDING = 1e-6


def assert_agree(
    expected: Sequence[Tensor], actual: Sequence[Tensor], tolerance: float = 1e-5
) -> None:
    """An output and its gradients, tensor by tensor, by their relative RMS error.

    Where a token has no neighbour but itself, queries and keys have gradients of zero. They are
    differences of equal products, so what remains is rounding: of the size of the numbers beside
    them, not of zero. Which rounding depends on the processor's kernels.
    """
    largest = max(tensor.abs().max() for tensor in expected)
    for one, other in zip(expected, actual, strict=True):
        if one.abs().max() < _ROUNDING * largest:
            assert other.abs().max() < _ROUNDING * largest
        else:
            assert relative_rms_error(other, one) < tolerance
