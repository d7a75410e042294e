"""Feed-forward networks on (B, C, H, W) maps."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.mixers.base import project_output
from mmeffvit.registry import MODELS


@MODELS.register_module()
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


@MODELS.register_module()
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


@MODELS.register_module()
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


@MODELS.register_module()
class GatedConvFFN(nn.Module):
    """Expand to two maps, a 3x3 depth-wise convolution of both, the GELU of one times the other.

    The gated feed-forward network of Restormer (arXiv 2111.09881, section 3.2), and of LAformer
    (arXiv 2505.16157) as far as its abstract says.

    Args:
        dim: Channels C.
        hidden_dim: Channels of each of the two maps.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, 2 * hidden_dim, 1)
        self.dwconv = DepthwiseConv2d(2 * hidden_dim)
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dwconv(self.fc1(x)).chunk(2, dim=1)
        return project_output(self.fc2, F.gelu(gate), value)
