"""Feed-forward network with a depth-wise convolution inside."""

import torch.nn.functional as F
from torch import Tensor, nn


class ConvFFN(nn.Module):
    """Expand, GELU, add a 3x3 depth-wise convolution, project back, on (B, C, H, W) maps.

    Args:
        dim: Channels C.
        hidden_dim: Channels between the two 1x1 convolutions.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.dwconv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.fc1(x))
        x = x + self.dwconv(x)
        return self.fc2(x)
