"""The skeleton that SecViT, RAVLT, SSViT and RMT share, in which only token mixers differ.

`PyramidViT` is this skeleton with mixers, and feed-forward networks, from a config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from torch import nn

from mmeffvit.layers import (
    Block,
    ConvDownsample,
    ConvFFN,
    ConvStem,
    DepthwiseConv2d,
    LayerNorm2d,
)
from mmeffvit.models.backbones.base import one_per_block
from mmeffvit.models.backbones.pyramid import Pyramid
from mmeffvit.models.heads.classifiers import ConvClassifier
from mmeffvit.registry import MODELS


class ConvPyramid(Pyramid):
    """The skeleton of SecViT, RAVLT, SSViT and RMT: convolutions around any token mixers.

    Stem and down-sampling are convolutions with batch norm. Each block adds, in this order, a
    depth-wise convolution (conditional position), a token mixer, and a feed-forward network with a
    depth-wise convolution in it. A network says in :meth:`make_mixer` what its mixers are. The keys
    of an arch dict, four entries each, are at least ``embed_dims``, ``depths``, ``num_heads``,
    ``mlp_ratios`` and ``layer_scale`` (initial values, None where a stage has none).
    """

    stage_keys: ClassVar[tuple[str, ...]] = (
        "embed_dims",
        "depths",
        "num_heads",
        "mlp_ratios",
        "layer_scale",
    )
    #: widths of the stem over embed_dims[0], and strides
    stem_widths: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5, 1)
    stem_strides: ClassVar[tuple[int, ...]] = (2, 1, 1, 2)
    out_norm_eps: ClassVar[float] = 1e-6

    def make_mixer(self, stage: int, index: int, **options: Any) -> nn.Module:
        """The token mixer of a block; arguments as in :meth:`make_block`."""
        raise NotImplementedError

    def make_ffn(
        self, stage: int, index: int, dim: int, hidden_dim: int, **options: Any
    ) -> nn.Module:
        """The feed-forward network of a block; the other arguments as in :meth:`make_block`."""
        return ConvFFN(dim, hidden_dim)

    def make_stem(self, in_channels: int, dim: int) -> nn.Module:
        if dim % 2:
            raise ValueError(f"embed_dims[0] must be even for the stem, got {dim}")
        return ConvStem(in_channels, [int(f * dim) for f in self.stem_widths], self.stem_strides)

    def make_merge(self, in_dim: int, dim: int) -> nn.Module:
        return ConvDownsample(in_dim, dim)

    def make_block(self, stage: int, index: int, drop_path: float, **options: Any) -> nn.Module:
        arch = self.stage_arch(stage)
        dim = arch["embed_dims"]
        return Block(
            dim,
            self.make_mixer(stage, index, **options),
            self.make_ffn(stage, index, dim, int(arch["mlp_ratios"] * dim), **options),
            norm=partial(LayerNorm2d, eps=1e-6),
            pos=DepthwiseConv2d(dim, residual=True),
            drop_path=drop_path,
            layer_scale=arch["layer_scale"],
        )

    def make_head(self, num_classes: int, hidden_channels: int = 1024) -> nn.Module:
        return ConvClassifier(self.out_channels[-1], num_classes, hidden_channels)

    def reset_parameters(self) -> None:
        """Draw convolutions from a normal of std 0.02, with zero bias; norms are 1 and 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


@MODELS.register_module()
class PyramidViT(ConvPyramid):
    """A four-stage convolution-attention pyramid with any token mixer in any stage or block.

    Arguments common to all backbones are those of `BaseBackbone`. The keys of an arch dict:

    - ``embed_dims``, ``depths``, ``num_heads``, ``mlp_ratios``: four numbers each.
    - ``mixers``: four entries, each a config (``dict(type='mmeffvit.SECMixer', num_clusters=8)``)
      or a list of configs, one per block. ``embed_dims`` and ``num_heads`` are filled in.
    - ``layer_scale``: four initial values, None where a stage has none.

    Args:
        arch: A dict.
        ffns: Feed-forward networks, as the mixers are given: one config for all stages, such as
            ``dict(type='mmeffvit.GatedConvFFN')``, or four entries, each a config or a list of
            configs, one per block. ``dim`` and ``hidden_dim`` are filled in. None for `ConvFFN`.
        **kwargs: Those of `BaseBackbone`.
    """

    arch_keys: ClassVar[tuple[str, ...]] = (
        "embed_dims",
        "depths",
        "num_heads",
        "mlp_ratios",
        "mixers",
        "layer_scale",
    )
    stage_keys: ClassVar[tuple[str, ...]] = arch_keys

    def __init__(
        self,
        arch: Mapping[str, Any],
        *args: Any,
        ffns: Mapping[str, Any] | Sequence[Any] | None = None,
        **kwargs: Any,
    ):
        ffns = {"type": "mmeffvit.ConvFFN"} if ffns is None else ffns
        super().__init__(arch, *args, block_options={"ffns": ffns}, **kwargs)

    def make_mixer(self, stage: int, index: int, **options: Any) -> nn.Module:
        mixers, depth = self.arch["mixers"][stage], self.arch["depths"][stage]
        if not isinstance(mixers, Mapping) and len(mixers) != depth:
            raise ValueError(
                f"arch['mixers'][{stage}] lists {len(mixers)} mixers for {depth} blocks; give one "
                "per block, or a single config for all"
            )
        return MODELS.build(
            {
                **(mixers if isinstance(mixers, Mapping) else mixers[index]),
                "embed_dims": self.arch["embed_dims"][stage],
                "num_heads": self.arch["num_heads"][stage],
            }
        )

    def make_ffn(
        self, stage: int, index: int, dim: int, hidden_dim: int, ffns: Any = None
    ) -> nn.Module:
        of_stage = one_per_block("ffns", ffns, self.num_stages, "stage")[stage]
        depth = self.arch["depths"][stage]
        config = one_per_block(f"ffns[{stage}]", of_stage, depth)[index]
        return MODELS.build({**config, "dim": dim, "hidden_dim": hidden_dim})
