"""The convolution as PyTorch has it."""

import torch.nn.functional as F
from torch import Tensor


def strided_conv2d_reference(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int
) -> Tensor:
    """See :func:`mmeffvit.ops.strided_conv2d`."""
    return F.conv2d(x, weight, bias, stride=stride, padding=padding)
