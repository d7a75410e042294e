"""Layer norm over the channels of a map."""

from torch import Tensor, nn

from mmeffvit.ops import layer_norm_2d


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channel axis of a (B, C, H, W) map, per pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm_2d(x, self.weight, self.bias, self.eps)
