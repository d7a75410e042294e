"""Feed-forward networks on (B, C, H, W) maps."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.depthwise import DepthwiseConv2d


class MLP(nn.Module):
    """Expand, GELU, project back, per pixel.

    Args:
        dim: Channels C.
        hidden_dim: Channels between the two 1x1 convolutions.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class ConvFFN(nn.Module):
    """Expand, GELU, add a 3x3 depth-wise convolution, project back.

    Args:
        dim: Channels C.
        hidden_dim: Channels between the two 1x1 convolutions.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.dwconv = DepthwiseConv2d(hidden_dim, residual=True)
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.dwconv(F.gelu(self.fc1(x))))


class MixFFN(nn.Module):
    """Expand, a 3x3 depth-wise convolution, GELU, project back (SegFormer, arXiv 2105.15203).

    Args:
        dim: Channels C.
        hidden_dim: Channels between the two 1x1 convolutions.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.dwconv = DepthwiseConv2d(hidden_dim)
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.dwconv(self.fc1(x))))
