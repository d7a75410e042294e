"""CrossFormer and CrossFormer++: attention in groups of near, then of distant tokens.

arXiv 2108.00154 and 2303.06908. The authors' dense backbones equal this network with
`out_norm=False`; their classifiers equal it with `NormClassifier` on its last map.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers import MLP, Block, CrossScaleMixer, DepthwiseConv2d, LayerNorm2d, MapContext
from mmeffvit.layers.init import draw_linear_layers
from mmeffvit.layers.strided_conv import StridedConv2d
from mmeffvit.models.backbones.pyramid import Pyramid
from mmeffvit.models.heads.classifiers import NormClassifier
from mmeffvit.models.official import KeyRule
from mmeffvit.models.published.shares import CROSSFORMER
from mmeffvit.models.weights import WeightsFile
from mmeffvit.registry import MODELS

_norm = partial(LayerNorm2d, eps=1e-5)


def _arch(dim, depths, num_heads, plus=False) -> dict[str, Any]:
    return {
        "embed_dims": (dim, 2 * dim, 4 * dim, 8 * dim),
        "depths": depths,
        "num_heads": tuple(num_heads * 2**i for i in range(4)),
        "mlp_ratios": (4, 4, 4, 4),
        "group_sizes": (4, 4, 14, 7) if plus else (7, 7, 7, 7),
        "intervals": (4, 2, 1, 1) if plus else (8, 4, 2, 1),
        "cooling": plus,
    }


class CrossScaleEmbedding(nn.Module):
    """Convolutions of several kernels at one place and stride, side by side in the channels.

    Every kernel but the last has half of the channels of the one before, the last as many as that.

    Args:
        in_dim: Channels of the input.
        dim: Channels of the output.
        kernel_sizes: Sides of the kernels, from small to large.
        stride: Of all of them; an input whose sides are multiples becomes smaller by this factor.
    """

    def __init__(self, in_dim: int, dim: int, kernel_sizes: tuple[int, ...], stride: int):
        super().__init__()
        last = len(kernel_sizes) - 1
        self.convs = nn.ModuleList(
            StridedConv2d(in_dim, dim // 2 ** min(i + 1, last), k, stride)
            for i, k in enumerate(kernel_sizes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([conv(x) for conv in self.convs], dim=1)


class CrossScaleMerge(nn.Module):
    """Norm, then kernels of 2 and 4 at a stride of 2: (B, C, H, W) to (B, C', ~H/2, ~W/2).

    A side that is odd is continued by a zero between the norm and the convolutions.
    """

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.norm = _norm(in_dim)
        self.embed = CrossScaleEmbedding(in_dim, dim, (2, 4), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(F.pad(self.norm(x), (0, x.shape[3] % 2, 0, x.shape[2] % 2)))


class CoolingLayer(nn.Module):
    """Activation cooling (arXiv 2303.06908, section 3.5): without a residual, it replaces a map."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = DepthwiseConv2d(dim)
        self.norm = _norm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class CrossFormerBlock(nn.Module):
    """A block, and what cools its output in some of them.

    Args:
        block: Of mixer and feed-forward network.
        cooling: (B, C, H, W) to (B, C, H, W).
    """

    def __init__(self, block: Block, cooling: nn.Module):
        super().__init__()
        self.block = block
        self.cooling = cooling

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        return self.cooling(self.block(x, context))


_BLOCK = r"layers\.(\d)\.blocks\.(\d+)\."
_OURS = r"backbone.stages.\1.blocks.\2."


@MODELS.register_module()
class CrossFormer(Pyramid):
    """CrossFormer T, S, B, L (arXiv 2108.00154) and CrossFormer++ S, B, L, H (arXiv 2303.06908).

    Blocks attend in turn in groups of near tokens and of distant ones. The keys of an arch dict are
    ``embed_dims``, ``depths``, ``num_heads``, ``mlp_ratios``, ``group_sizes`` and ``intervals``,
    four entries each, and ``cooling``: whether every third block of a stage, but not its last one,
    is followed by a cooling layer.

    Args:
        arch: 'tiny', 'small', 'base', 'large', 'plus-small', 'plus-base', 'plus-large',
            'plus-huge' or a dict.
        dense_groups: Take groups of 7 tokens and intervals of 8, 4, 2 and 1, whatever the arch
            says: those of all the authors' detectors and segmentors, also with ++.
        adaptive_interval: Let groups of distant tokens span the longer side of any map.
        implementation: Of `mmeffvit.ops.group_attention`; None lets it choose.
        **kwargs: Those of `BaseBackbone`. The authors' networks have no norms on their outputs.
    """

    family: ClassVar[str] = "crossformer"
    stage_keys: ClassVar[tuple[str, ...]] = (
        "embed_dims",
        "depths",
        "num_heads",
        "mlp_ratios",
        "group_sizes",
        "intervals",
    )
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": _arch(64, (1, 1, 8, 6), 2),
        "small": _arch(96, (2, 2, 6, 2), 3),
        "base": _arch(96, (2, 2, 18, 2), 3),
        "large": _arch(128, (2, 2, 18, 2), 4),
        "plus-small": _arch(64, (2, 2, 18, 2), 2, plus=True),
        "plus-base": _arch(96, (2, 2, 18, 2), 3, plus=True),
        "plus-large": _arch(128, (2, 2, 18, 2), 4, plus=True),
        "plus-huge": _arch(128, (6, 6, 18, 2), 4, plus=True),
    }
    drop_path_rates: ClassVar[dict[str, float]] = {
        "tiny": 0.1,
        "small": 0.2,
        "base": 0.3,
        "large": 0.5,
        "plus-small": 0.2,
        "plus-base": 0.3,
        "plus-large": 0.5,
        "plus-huge": 0.5,
    }
    size_divisor: ClassVar[int] = 4
    weights: ClassVar[tuple[WeightsFile, ...]] = CROSSFORMER
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        KeyRule(r"patch_embed\.projs\.(\d)\.(\w+)", r"backbone.stem.0.convs.\1.\2"),
        KeyRule(r"patch_embed\.norm\.(\w+)", r"backbone.stem.1.\1"),
        KeyRule(
            r"layers\.(\d)\.downsample\.reductions\.(\d)\.(\w+)",
            r"backbone.stages.\1.downsample.embed.convs.\2.\3",
            shift=1,
        ),
        KeyRule(
            r"layers\.(\d)\.downsample\.norm\.(\w+)",
            r"backbone.stages.\1.downsample.norm.\2",
            shift=1,
        ),
        KeyRule(rf"{_BLOCK}(norm[12])\.(\w+)", rf"{_OURS}block.\3.\4"),
        KeyRule(rf"{_BLOCK}attn\.(qkv|proj)\.weight", rf"{_OURS}block.mixer.\3.weight", ndim=4),
        KeyRule(rf"{_BLOCK}attn\.(qkv|proj)\.bias", rf"{_OURS}block.mixer.\3.bias"),
        KeyRule(rf"{_BLOCK}attn\.pos\.pos_proj\.(\w+)", rf"{_OURS}block.mixer.bias.proj.\3"),
        *(
            KeyRule(
                rf"{_BLOCK}attn\.pos\.pos{i}\.([02])\.(\w+)",
                rf"{_OURS}block.mixer.bias.layers.{i - 1}.\3.\4",
            )
            for i in (1, 2, 3)
        ),
        KeyRule(rf"{_BLOCK}mlp\.(fc\d)\.weight", rf"{_OURS}block.ffn.\3.weight", ndim=4),
        KeyRule(rf"{_BLOCK}mlp\.(fc\d)\.bias", rf"{_OURS}block.ffn.\3.bias"),
        KeyRule(rf"{_BLOCK}ex_conv\.(\w+)", rf"{_OURS}cooling.conv.\3"),
        KeyRule(rf"{_BLOCK}ex_ln\.(\w+)", rf"{_OURS}cooling.norm.\3"),
        KeyRule(
            rf"{_BLOCK}(attn\.(biases|relative_position_index)|attn_mask)",
            None,
            reason="a table that is computed from the size of a group or of the map",
        ),
        KeyRule(r"norm\.(\w+)", r"head.norm.\1"),
        KeyRule(r"head\.(\w+)", r"head.fc.\1"),
    )

    def __init__(
        self,
        arch: str | dict[str, Any] = "tiny",
        dense_groups: bool = False,
        adaptive_interval: bool = False,
        implementation: str | None = None,
        **kwargs,
    ):
        options = {
            "dense_groups": dense_groups,
            "adaptive_interval": adaptive_interval,
            "implementation": implementation,
        }
        super().__init__(arch, block_options=options, **kwargs)

    def make_stem(self, in_channels: int, dim: int) -> nn.Module:
        embed = CrossScaleEmbedding(in_channels, dim, (4, 8, 16, 32), stride=4)
        return nn.Sequential(embed, _norm(dim))

    def make_merge(self, in_dim: int, dim: int) -> nn.Module:
        return CrossScaleMerge(in_dim, dim)

    def make_block(
        self,
        stage: int,
        index: int,
        drop_path: float,
        dense_groups: bool,
        adaptive_interval: bool,
        implementation: str | None,
    ) -> nn.Module:
        arch = self.stage_arch(stage)
        dim, group, interval = arch["embed_dims"], arch["group_sizes"], arch["intervals"]
        if dense_groups:
            group, interval = 7, (8, 4, 2, 1)[stage]
        if index % 2 == 0:
            interval = None
        elif adaptive_interval:
            interval = "adaptive"
        mixer = CrossScaleMixer(dim, arch["num_heads"], group, interval, implementation)
        ffn = MLP(dim, int(arch["mlp_ratios"] * dim))
        block = Block(dim, mixer, ffn, norm=_norm, drop_path=drop_path)
        cooled = self.arch["cooling"] and index % 3 == 2 and index + 1 < arch["depths"]
        return CrossFormerBlock(block, CoolingLayer(dim) if cooled else nn.Identity())

    def make_head(self, num_classes: int) -> nn.Module:
        return NormClassifier(self.out_channels[-1], num_classes)

    def reset_parameters(self) -> None:
        draw_linear_layers(self)
