"""Modules on maps of several strides at once: ``list[Tensor]``, (B, C, H_v, W_v) each.

Names of parts are those of ViT-CoMer's weights (arXiv 2403.07392), whose pyramid has the strides 8,
16 and 32 beside a plain ViT of stride 16.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.context import Context
from mmeffvit.layers.depthwise import DepthwiseConv2d
from mmeffvit.layers.drop_path import DropPath
from mmeffvit.layers.ffn import MixFFN
from mmeffvit.layers.init import draw_convolution, draw_linear_layers
from mmeffvit.layers.mixers.deformable import DeformableAttention
from mmeffvit.layers.norm import LayerNorm2d
from mmeffvit.layers.scale import LayerScale2d

Maps = list[Tensor]

_norm = partial(LayerNorm2d, eps=1e-6)


class ConvBranch(nn.Module):
    """An image to maps of C channels: of stride 4 (None if not asked for), and of 8, 16 and 32."""

    def __init__(self, in_channels: int, width: int, dim: int, has_finest: bool):
        super().__init__()

        def conv(in_dim: int, out_dim: int, stride: int) -> nn.Sequential:
            layer = nn.Conv2d(in_dim, out_dim, 3, stride=stride, padding=1, bias=False)
            return nn.Sequential(layer, nn.BatchNorm2d(out_dim), nn.ReLU())

        self.stem = conv(in_channels, width, 2) + conv(width, width, 1) + conv(width, width, 1)
        self.stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.fc1 = nn.Conv2d(width, dim, 1) if has_finest else None
        self.conv2, self.fc2 = conv(width, 2 * width, 2), nn.Conv2d(2 * width, dim, 1)
        self.conv3, self.fc3 = conv(2 * width, 4 * width, 2), nn.Conv2d(4 * width, dim, 1)
        self.conv4, self.fc4 = conv(4 * width, 4 * width, 2), nn.Conv2d(4 * width, dim, 1)
        self.level_embed = nn.Parameter(torch.randn(3, dim))

    def forward(self, image: Tensor) -> tuple[Tensor | None, Maps]:
        x = self.stem(image)
        finest = self.fc1(x) if self.fc1 is not None else None
        maps = []
        steps = ((self.conv2, self.fc2), (self.conv3, self.fc3), (self.conv4, self.fc4))
        for (conv, fc), embed in zip(steps, self.level_embed):
            x = conv(x)
            maps.append(fc(x) + embed[:, None, None])
        return finest, maps


class MRFP(nn.Module):
    """Multi-receptive-field pyramid: depth-wise 3x3 and 5x5, half of the hidden channels each."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden_dim, 1)
        self.dwconv = nn.ModuleDict(
            {str(i): DepthwiseConv2d(hidden_dim // 2, 3 if i % 2 else 5) for i in range(1, 7)}
        )
        self.bn = nn.ModuleDict({str(i): nn.BatchNorm2d(hidden_dim) for i in range(1, 4)})
        self.fc2 = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, maps: Maps) -> Maps:
        outs = []
        for i, x in enumerate(maps, 1):
            left, right = self.fc1(x).chunk(2, 1)
            x = torch.cat((self.dwconv[str(2 * i - 1)](left), self.dwconv[str(2 * i)](right)), 1)
            outs.append(self.fc2(F.gelu(F.gelu(self.bn[str(i)](x)))))  # two, as published
        return outs


class PyramidAttention(nn.Module):
    """Deformable attention among all levels, with a residual or without, then an FFN with one."""

    def __init__(self, dim: int, hidden_dim: int, drop_path: float, residual: bool, **attn: Any):
        super().__init__()
        self.query_norm, self.feat_norm, self.ffn_norm = _norm(dim), _norm(dim), _norm(dim)
        self.attn = DeformableAttention(dim, num_levels=3, **attn)
        self.ffn = MixFFN(dim, hidden_dim)
        self.drop_path = DropPath(drop_path)
        self.residual = residual

    def forward(self, queries: Maps, feats: Maps, context: Context) -> Maps:
        outs = self.attn(
            [self.query_norm(x) for x in queries], [self.feat_norm(x) for x in feats], context
        )
        if self.residual:
            outs = [x + out for x, out in zip(queries, outs)]
        return [x + self.drop_path(self.ffn(self.ffn_norm(x))) for x in outs]


def draw_levels(module: nn.Module, branch: set[nn.Module]) -> None:
    """Draw the parts of ViT-CoMer as its authors do.

    Linear layers are drawn from a normal of std 0.02, convolutions, and all of the convolutional
    branch, of std sqrt(2 / fan out).

    Args:
        module: Whose parts are drawn.
        branch: Modules of the `ConvBranch`.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            if layer.kernel_size == (1, 1) and layer not in branch:
                draw_linear_layers(layer)
            else:
                draw_convolution(layer)
    for layer in module.modules():
        if isinstance(layer, DeformableAttention):
            layer.reset_parameters()


def output_map(
    index: int, maps: Maps, finest: Tensor | None, up: nn.Module | None, feature: Tensor | None
) -> Tensor:
    """An output of ViT-CoMer, before its norm.

    Args:
        index: 0 is the map of stride 4, which is made of that of stride 8.
        maps: Of the branch, of strides 8, 16 and 32.
        finest: Of the branch, of stride 4.
        up: Doubles the size of a map.
        feature: A map of the ViT that is added, if there is one.
    """
    out = maps[index - 1] if index else up(maps[0]) + finest
    if feature is None:
        return out
    return out + F.interpolate(feature, out.shape[-2:], mode="bilinear", align_corners=False)


def _add_to_middle(maps: Maps, x: Tensor) -> Maps:
    """A map of the ViT added to that of the same stride."""
    return [maps[0], maps[1] + x, maps[2]]


class ToViT(PyramidAttention):
    """What attention over the pyramid finds, added to the map of the ViT."""

    def __init__(self, dim: int, hidden_dim: int, drop_path: float, **attn: Any):
        super().__init__(dim, hidden_dim, drop_path, residual=False, **attn)
        self.scale = LayerScale2d(dim, 0)

    def forward(self, maps: Maps, x: Tensor, context: Context) -> Tensor:
        fine, same, coarse = super().forward(maps, maps, context)
        coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear")
        return x + self.scale(F.avg_pool2d(fine, 2) + same + coarse)


class ToCNN(nn.Module):
    """The map of the ViT added to the pyramid, then an FFN and attention, where there are any."""

    def __init__(
        self, dim: int, hidden_dim: int | None, drop_path: float, attention: nn.Module | None
    ):
        super().__init__()
        self.ffn_norm = _norm(dim) if hidden_dim else None
        self.ffn = MixFFN(dim, hidden_dim) if hidden_dim else None
        self.query_norm, self.feat_norm = (_norm(dim) if attention else None for _ in range(2))
        self.cfinter = attention
        self.drop_path = DropPath(drop_path)

    def forward(self, maps: Maps, x: Tensor, context: Context) -> Maps:
        maps = _add_to_middle(maps, x)
        if self.ffn is not None:
            maps = [x + self.drop_path(self.ffn(self.ffn_norm(x))) for x in maps]
        if self.cfinter is None:
            return maps
        # the residual inside starts from the normed pyramid
        queries, feats = [self.query_norm(x) for x in maps], [self.feat_norm(x) for x in maps]
        return self.cfinter(queries, feats, context)


class Interaction(nn.Module):
    """What stands around some blocks of the ViT: CTI, the fusion of both branches (section 3.3).

    Args:
        dim: Channels C of all maps.
        hidden_dim: Of the FFNs.
        drop_path: Stochastic-depth rate.
        mrfp_dim: Hidden channels of the pyramid's convolutions before the blocks; None for no way
            from the pyramid to the ViT.
        to_cnn: Whether there is a way back after the blocks.
        num_extra: More of these, with an FFN.
        cnn_attention: Whether they attend.
        **attn: Those of `DeformableAttention`.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        drop_path: float,
        *,
        mrfp_dim: int | None,
        to_cnn: bool,
        num_extra: int,
        cnn_attention: bool,
        **attn: Any,
    ):
        super().__init__()

        def back(ffn: bool) -> ToCNN:
            attention = (
                PyramidAttention(dim, hidden_dim, drop_path, True, **attn)
                if cnn_attention
                else None
            )
            return ToCNN(dim, hidden_dim if ffn else None, drop_path, attention)

        self.mrfp = MRFP(dim, mrfp_dim) if mrfp_dim else None
        self.cti_tov = ToViT(dim, hidden_dim, drop_path, **attn) if mrfp_dim else None
        self.cti_toc = back(ffn=False) if to_cnn else None
        self.extra_CTIs = nn.ModuleList(back(ffn=True) for _ in range(num_extra))

    def before(self, maps: Maps, x: Tensor) -> Maps:
        """The pyramid as the way to the ViT reads it."""
        return _add_to_middle(self.mrfp(maps), x)

    def after(self) -> list[ToCNN]:
        """The ways back, in order."""
        return [fusion for fusion in (self.cti_toc, *self.extra_CTIs) if fusion is not None]
