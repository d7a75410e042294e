"""The pyramid that SecViT, RAVLT, SSViT and RMT share: only the token mixers differ.

Stem, then four stages; each block adds, in this order, a depth-wise convolution (conditional
position), a token mixer and a feed-forward network with a depth-wise convolution in it. Maps stay
(B, C, H, W) with channels last in memory, so that norms over channels and 1x1 convolutions need no
copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from mmeffvit.layers import (
    ConvDownsample,
    ConvFFN,
    ConvStem,
    DepthwiseConv2d,
    DropPath,
    LayerNorm2d,
    LayerScale2d,
    MapContext,
)
from mmeffvit.models.backbones.base import BaseBackbone
from mmeffvit.ops import map_layout
from mmeffvit.registry import MODELS


class PyramidBlock(nn.Module):
    """``x + P(x)``, then pre-norm residual branches for token mixer and feed-forward network.

    Args:
        dim: Channels C.
        mixer: Token mixer, (B, C, H, W) and a context to (B, C, H, W).
        mlp_ratio: Hidden width of the feed-forward network over C.
        drop_path: Stochastic-depth rate of both branches.
        layer_scale: Initial factor of both branches; None for no layer scale.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp_ratio: float,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ):
        super().__init__()
        self.pos = DepthwiseConv2d(dim, residual=True)
        self.norm1 = LayerNorm2d(dim, eps=1e-6)
        self.mixer = mixer
        self.norm2 = LayerNorm2d(dim, eps=1e-6)
        self.ffn = ConvFFN(dim, int(mlp_ratio * dim))
        self.drop_path = DropPath(drop_path)
        scaled = layer_scale is not None and layer_scale is not False
        self.layer_scale1 = LayerScale2d(dim, layer_scale) if scaled else nn.Identity()
        self.layer_scale2 = LayerScale2d(dim, layer_scale) if scaled else nn.Identity()

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        x = self.pos(x)
        x = x + self.drop_path(self.layer_scale1(self.mixer(self.norm1(x), context)))
        return x + self.drop_path(self.layer_scale2(self.ffn(self.norm2(x))))


class PyramidStage(nn.Module):
    """Down-sampling, except in the first stage, and the blocks."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module]):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)


@MODELS.register_module()
class PyramidViT(BaseBackbone):
    """A four-stage convolution-attention pyramid with any token mixer in any stage or block.

    Arguments common to all backbones are those of `BaseBackbone`. The keys of an arch dict:

    - ``embed_dims``, ``depths``, ``num_heads``, ``mlp_ratios``: four numbers each.
    - ``mixers``: four entries, each a config (``dict(type='mmeffvit.SECMixer', num_clusters=8)``)
      or a list of configs, one per block. ``embed_dims`` and ``num_heads`` are filled in.
    - ``layer_scale``: four initial values, None where a stage has none.
    """

    arch_keys: ClassVar[tuple[str, ...]] = (
        "embed_dims",
        "depths",
        "num_heads",
        "mlp_ratios",
        "mixers",
        "layer_scale",
    )
    #: widths of the stem over embed_dims[0], and strides
    stem_widths: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5, 1)
    stem_strides: ClassVar[tuple[int, ...]] = (2, 1, 1, 2)
    #: eps of the norms on the outputs
    out_norm_eps: ClassVar[float] = 1e-6

    def __init__(self, arch: str | dict[str, Any], **kwargs):
        super().__init__(arch, **kwargs)
        arch = self.arch
        self._check_lengths()
        dims, depths = arch["embed_dims"], arch["depths"]
        if dims[0] % 2:
            raise ValueError(f"embed_dims[0] must be even for the stem, got {dims[0]}")
        widths = [int(factor * dims[0]) for factor in self.stem_widths]
        self.stem = ConvStem(self.in_channels, widths, self.stem_strides)
        last_block = max(sum(depths) - 1, 1)
        self.stages = nn.ModuleList()
        for i in range(self.num_built_stages):
            blocks = [
                PyramidBlock(
                    dims[i],
                    self._build_mixer(mixer, i),
                    arch["mlp_ratios"][i],
                    self.drop_path_rate * (sum(depths[:i]) + j) / last_block,
                    arch["layer_scale"][i],
                )
                for j, mixer in enumerate(self._mixers_of_stage(i))
            ]
            downsample = ConvDownsample(dims[i - 1], dims[i]) if i else nn.Identity()
            self.stages.append(PyramidStage(downsample, blocks))
        self.out_norms = nn.ModuleDict(
            {
                str(i): LayerNorm2d(dims[i], eps=self.out_norm_eps)
                for i in self.out_indices
                if self.out_norm
            }
        )
        self.reset_parameters()
        self._finish()

    def _check_lengths(self) -> None:
        for key, value in self.arch.items():
            if len(value) != self.num_stages:
                raise ValueError(
                    f"arch['{key}'] of {type(self).__name__} needs one entry for each of the "
                    f"{self.num_stages} stages, got {value}"
                )

    def _mixers_of_stage(self, stage: int) -> list[dict[str, Any]]:
        """Configs of the mixers of a stage, one per block."""
        mixers, depth = self.arch["mixers"][stage], self.arch["depths"][stage]
        if isinstance(mixers, dict):
            return [mixers] * depth
        if len(mixers) != depth:
            raise ValueError(
                f"arch['mixers'][{stage}] lists {len(mixers)} mixers for {depth} blocks; give one "
                "per block, or a single config for all"
            )
        return list(mixers)

    def _per_block(self, key: str, stage: int) -> list[Any]:
        """An arch entry: a number or name for all blocks of a stage, or a list of one per block."""
        entry, depth = self.arch[key][stage], self.arch["depths"][stage]
        values = [entry] * depth if isinstance(entry, (int, str)) else list(entry)
        if len(values) != depth:
            raise ValueError(
                f"arch['{key}'][{stage}] has {len(values)} entries for {depth} blocks; "
                "give one per block, or a single one for all"
            )
        return values

    @staticmethod
    def _shared_from_official(constructor: dict[str, Any]) -> dict[str, Any]:
        """The entries of an arch dict that the authors' constructors of the family share."""
        scaled, initial = constructor["layerscales"], constructor["layer_init_values"]
        if not isinstance(initial, Sequence):
            initial = [initial] * len(scaled)
        return {
            **{
                key: constructor[key] for key in ("embed_dims", "depths", "num_heads", "mlp_ratios")
            },
            "layer_scale": [value if on else None for value, on in zip(initial, scaled)],
        }

    def _build_mixer(self, config: dict[str, Any], stage: int) -> nn.Module:
        return MODELS.build(
            {
                **config,
                "embed_dims": self.arch["embed_dims"][stage],
                "num_heads": self.arch["num_heads"][stage],
            }
        )

    def reset_parameters(self) -> None:
        """Draw convolutions from a normal of std 0.02, with zero bias; norms are 1 and 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """See `BaseBackbone`. Each block is a layer; down-sampling belongs to the block after it.

        The number of layers is that of the blocks that are built, and two: stem and what follows.
        """
        depths = self.arch["depths"][: self.num_built_stages]
        last = sum(depths) + 1
        layer = last
        name = param_name.removeprefix(prefix)
        if param_name.startswith(prefix + "stem."):
            layer = 0
        elif param_name.startswith(prefix + "stages."):
            _, stage, part, *rest = name.split(".")
            layer = sum(depths[: int(stage)]) + 1
            layer += int(rest[0]) if part == "blocks" else 0
        return layer, last + 1

    def frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        frozen: list[nn.Module] = [self.stem, *self.stages[: self.frozen_stages]]
        return frozen + [n for i, n in self.out_norms.items() if int(i) < self.frozen_stages]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self._check_input(x)
        x = self.stem(map_layout(x))
        outs = []
        for i, stage in enumerate(self.stages):
            x = stage.downsample(x)
            context = MapContext.of(x)
            for block in stage.blocks:
                x = self.run_block(block, x, context)
            if i in self.out_indices:
                outs.append(self.out_norms[str(i)](x) if self.out_norm else x)
        return tuple(outs)
