"""Layer scale (CaiT, arXiv 2103.17239, section 2.1)."""

import torch
from torch import Tensor, nn


class LayerScale2d(nn.Module):
    """Multiply each channel of a (B, C, H, W) map by a learnt factor.

    Args:
        dim: Channels C.
        init_value: Initial value of all factors.
    """

    def __init__(self, dim: int, init_value: float = 1e-6):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(init_value)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma[:, None, None]
