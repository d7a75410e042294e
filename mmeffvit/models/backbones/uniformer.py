"""UniFormer for images: convolutions, then attention (arXiv 2201.09450).

The authors' dense backbones equal this network; their classifiers equal it with `out_norm=False`
and `BatchNormClassifier` on its last map.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers import (
    MLP,
    Block,
    ConvDownsample,
    ConvStem,
    DepthwiseConv2d,
    LayerNorm2d,
    LocalConvMixer,
    SoftmaxMixer,
)
from mmeffvit.layers.init import draw_linear_layers
from mmeffvit.models.backbones.pyramid import Pyramid
from mmeffvit.models.heads.classifiers import BatchNormClassifier
from mmeffvit.models.official import KeyRule
from mmeffvit.models.published.uniformer import WEIGHTS
from mmeffvit.models.weights import WeightsFile
from mmeffvit.registry import MODELS

#: what the third stage attends to; all others have no choice
ATTENTION = ("hybrid", "windows", "global")


def _arch(depths, dims=(64, 128, 320, 512), head_dim=64, conv_stem=False, layer_scale=None):
    return {
        "embed_dims": dims,
        "depths": depths,
        "head_dim": head_dim,
        "mlp_ratio": 4,
        "conv_stem": conv_stem,
        "layer_scale": layer_scale,
    }


class PatchEmbedding(nn.Module):
    """Patches that do not overlap, and layer norm: (B, C, H, W) to (B, C', H / s, W / s).

    Args:
        in_channels: Channels C.
        dim: Channels C'.
        stride: Side s of a patch.

    Attributes:
        drop_rest: Where patches do not divide a side, drop what is left of it; otherwise it is
            filled up with zeros, at the bottom and on the right.
    """

    def __init__(self, in_channels: int, dim: int, stride: int):
        super().__init__()
        self.stride = stride
        self.proj = nn.Conv2d(in_channels, dim, stride, stride=stride)
        self.norm = LayerNorm2d(dim, eps=1e-5)
        self.drop_rest = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.drop_rest:
            # enough for any side: a patch that would begin in these zeros is not full
            x = F.pad(x, (0, self.stride - 1, 0, self.stride - 1))
        return self.norm(self.proj(x))


_BLOCK = r"backbone.stages.\1.blocks.\2."


@MODELS.register_module()
class UniFormer(Pyramid):
    """UniFormer, small to large (arXiv 2201.09450, variants S, S+, B, L).

    The keys of an arch dict are ``embed_dims`` and ``depths``, four entries each; ``head_dim``, of
    which a stage has as many heads as fit into its channels; ``mlp_ratio``; ``conv_stem``, for
    overlapping convolutions with batch norm in the place of patches; and ``layer_scale`` (initial
    value of the last two stages, or None). Stages 0 and 1 are convolutional. No weight depends on
    `attention`, `window_size` or ``head_dim``.

    Args:
        arch: 'small', 'small-plus', 'small-plus-dim64', 'base', 'base-ls', 'large' or a dict.
        attention: What stage 2 attends to: 'hybrid', the map in every fourth block and windows in
            the others; 'windows'; or 'global', the map, as the classifiers do. Stage 3 attends to
            the map.
        window_size: Rows and columns of a window, in tokens.
        drop_rest: Drop what is left over of a side that patches do not divide, as the authors do:
            maps are then smaller than ceil(H / stride). By default zeros fill it up.
        implementation: Of `mmeffvit.ops.map_window_attention`; None lets it choose.
        **kwargs: Those of `BaseBackbone`.

    Raises:
        ValueError: `attention` is another word, or a stage is narrower than a head.
    """

    family: ClassVar[str] = "uniformer"
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "small": _arch((3, 4, 8, 3)),
        "small-plus": _arch((3, 5, 9, 3), head_dim=32, conv_stem=True),
        "small-plus-dim64": _arch((3, 5, 9, 3), conv_stem=True),
        "base": _arch((5, 8, 20, 7)),
        "base-ls": _arch((5, 8, 20, 7), layer_scale=1e-6),
        # which of the two stems its weights have is not known
        "large": _arch((5, 10, 24, 7), (128, 192, 448, 640), layer_scale=1e-6),
    }
    # of the classifiers; for large none is stated, and it has that of base
    drop_path_rates: ClassVar[dict[str, float]] = {
        "small": 0.1,
        "small-plus": 0.1,
        "small-plus-dim64": 0.1,
        "base": 0.3,
        "base-ls": 0.3,
        "large": 0.3,
    }
    out_norm_eps: ClassVar[float] = 1e-6
    classifier_options: ClassVar[dict[str, Any]] = {
        **Pyramid.classifier_options,
        "attention": "global",
    }
    weights: ClassVar[tuple[WeightsFile, ...]] = WEIGHTS
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        KeyRule(r"patch_embed1\.(proj|norm)\.([a-z]+)", r"backbone.stem.\1.\2"),
        KeyRule(r"patch_embed1\.proj\.(\d)\.(\w+)", r"backbone.stem.\1.\2"),
        KeyRule(
            r"patch_embed(\d)\.(proj|norm)\.([a-z]+)",
            r"backbone.stages.\1.downsample.\2.\3",
            shift=-1,
        ),
        KeyRule(
            r"patch_embed(\d)\.proj\.0\.(\w+)", r"backbone.stages.\1.downsample.conv.\2", shift=-1
        ),
        KeyRule(
            r"patch_embed(\d)\.proj\.1\.(\w+)", r"backbone.stages.\1.downsample.norm.\2", shift=-1
        ),
        KeyRule(r"blocks(\d)\.(\d+)\.pos_embed\.(\w+)", rf"{_BLOCK}pos.\3", shift=-1),
        KeyRule(r"blocks(\d)\.(\d+)\.(norm\d)\.(\w+)", rf"{_BLOCK}\3.\4", shift=-1),
        # two things have the same name: a convolution in stages 1 and 2, attention in 3 and 4
        KeyRule(r"blocks([12])\.(\d+)\.conv1\.(\w+)", rf"{_BLOCK}mixer.value.\3", shift=-1),
        KeyRule(r"blocks([12])\.(\d+)\.attn\.(\w+)", rf"{_BLOCK}mixer.affinity.\3", shift=-1),
        KeyRule(r"blocks([12])\.(\d+)\.conv2\.(\w+)", rf"{_BLOCK}mixer.proj.\3", shift=-1),
        KeyRule(
            r"blocks([34])\.(\d+)\.attn\.(qkv|proj)\.weight",
            rf"{_BLOCK}mixer.\3.weight",
            ndim=4,
            shift=-1,
        ),
        KeyRule(
            r"blocks([34])\.(\d+)\.attn\.(qkv|proj)\.bias", rf"{_BLOCK}mixer.\3.bias", shift=-1
        ),
        KeyRule(
            r"blocks(\d)\.(\d+)\.mlp\.(fc\d)\.weight", rf"{_BLOCK}ffn.\3.weight", ndim=4, shift=-1
        ),
        KeyRule(r"blocks(\d)\.(\d+)\.mlp\.(fc\d)\.bias", rf"{_BLOCK}ffn.\3.bias", shift=-1),
        KeyRule(r"blocks(\d)\.(\d+)\.gamma_(\d)", rf"{_BLOCK}layer_scale\3.gamma", shift=-1),
        KeyRule(r"norm(\d)\.(\w+)", r"backbone.out_norms.\1.\2", shift=-1),
        KeyRule(r"norm\.(\w+)", r"head.norm.\1"),
        KeyRule(r"head\.(\w+)", r"head.fc.\1"),
    )

    def __init__(
        self,
        arch: str | dict[str, Any] = "small",
        attention: str = "hybrid",
        window_size: int = 14,
        drop_rest: bool = False,
        implementation: str | None = None,
        **kwargs,
    ):
        if attention not in ATTENTION:
            raise ValueError(f"attention must be one of {', '.join(ATTENTION)}, got {attention!r}")
        options = {
            "attention": attention,
            "window_size": window_size,
            "implementation": implementation,
        }
        super().__init__(arch, block_options=options, **kwargs)
        for module in self.modules():
            if isinstance(module, PatchEmbedding):
                module.drop_rest = drop_rest

    def make_stem(self, in_channels: int, dim: int) -> nn.Module:
        if self.arch["conv_stem"]:
            return ConvStem(in_channels, (dim // 2, dim), (2, 2))
        return PatchEmbedding(in_channels, dim, 4)

    def make_merge(self, in_dim: int, dim: int) -> nn.Module:
        if self.arch["conv_stem"]:
            return ConvDownsample(in_dim, dim)
        return PatchEmbedding(in_dim, dim, 2)

    def make_block(self, stage: int, index: int, drop_path: float, **options) -> nn.Module:
        arch = self.arch
        dim = arch["embed_dims"][stage]
        local = stage < 2
        return Block(
            dim,
            LocalConvMixer(dim) if local else self.make_attention(stage, index, **options),
            MLP(dim, int(arch["mlp_ratio"] * dim)),
            norm=nn.BatchNorm2d if local else partial(LayerNorm2d, eps=1e-6),
            pos=DepthwiseConv2d(dim, residual=True),
            drop_path=drop_path,
            layer_scale=None if local else arch["layer_scale"],
        )

    def make_attention(
        self, stage: int, index: int, attention: str, window_size: int, implementation: str | None
    ) -> nn.Module:
        dim, head_dim = self.arch["embed_dims"][stage], self.arch["head_dim"]
        if dim < head_dim:
            raise ValueError(f"embed_dims[{stage}]={dim} is less than head_dim={head_dim}")
        everywhere = {"global": True, "windows": False, "hybrid": index % 4 == 3}[attention]
        window = None if stage == 3 or everywhere else window_size
        return SoftmaxMixer(dim, dim // head_dim, window, implementation, project_edges=True)

    def make_head(self, num_classes: int) -> nn.Module:
        return BatchNormClassifier(self.out_channels[-1], num_classes)

    def reset_parameters(self) -> None:
        # the 1x1 convolutions of the first two stages stay as PyTorch draws them
        for stage in self.stages[2:]:
            draw_linear_layers(stage)
