"""The data type in which a stand-in computes."""

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Common type of ``tensors``, but at least float32.

    torchvision's kernels lack bfloat16 (and float16 on CPU), and coordinates need more than the 8
    or 11 bits of the half types; callers cast the result back.
    """
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype
