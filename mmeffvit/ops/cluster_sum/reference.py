"""The formula: a product with a matrix of zeros and ones."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops.precision import autocast_disabled, in_full


def cluster_sum_reference(logits: Tensor, values: Tensor) -> Tensor:
    """See :func:`mmeffvit.ops.cluster_sum.cluster_sum`."""
    with autocast_disabled(values.device.type):
        values = in_full(values)
        return values @ F.one_hot(logits.argmax(1), logits.shape[1]).to(values.dtype)  # (B, L, K)
