"""ConDaFormer: attention in three planes and local structure (arXiv 2312.11112).

An encoder-decoder for the semantic segmentation of rooms. The published networks equal this one
with a linear classifier on top, `PointSegmentor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers.drop_path import rising_rates
from mmeffvit.layers.points import GridPool, PointBlock, PointLevel, SubMConv3d, Unpool
from mmeffvit.models.official import KeyRule
from mmeffvit.models.points.backbones.base import BasePointBackbone
from mmeffvit.models.points.backbones.condaformer_keys import CONDAFORMER_RULES
from mmeffvit.models.published.shares import CONDAFORMER
from mmeffvit.models.weights import WeightsFile
from mmeffvit.registry import MODELS

HEAD_DIM = 16


class ConDaFormerStem(nn.Module):
    """A sparse convolution and a residual block of two, at the finest voxels."""

    def __init__(self, in_channels: int, channels: int, implementation: str | None = None):
        super().__init__()
        self.conv = SubMConv3d(in_channels, channels, implementation)
        self.norm = nn.BatchNorm1d(channels)
        self.conv1 = SubMConv3d(channels, channels, implementation)
        self.norm1 = nn.BatchNorm1d(channels)
        self.conv2 = SubMConv3d(channels, channels, implementation)
        self.norm2 = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, level: PointLevel) -> Tensor:
        x = F.leaky_relu(self.norm(self.conv(x, level.neighbours)), 0.2)
        out = F.leaky_relu(self.norm1(self.conv1(x, level.neighbours)), 0.2)
        return F.leaky_relu(self.norm2(self.conv2(out, level.neighbours)) + x, 0.2)


class OutProjection(nn.Module):
    """The part of the published classifier before its last linear layer."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.linear(x)))


def _arch(embed_dims, decoder_dims, depths, window_size, in_channels, voxel_size) -> dict[str, Any]:
    return {
        "stem_dims": 48,
        "embed_dims": embed_dims,
        "depths": depths,
        "decoder_dims": decoder_dims,
        "decoder_depths": (0,) * len(depths),
        "window_size": window_size,
        "quant_size": 0.25,
        "in_channels": in_channels,
        "voxel_size": voxel_size,
    }


@MODELS.register_module()
class ConDaFormer(BasePointBackbone):
    """ConDaFormer for S3DIS, ScanNet and ScanNet200 (arXiv 2312.11112).

    The keys of an arch dict are ``stem_dims``, ``embed_dims`` and ``depths`` (one entry per stage
    of the encoder; widths are multiples of 48), ``decoder_dims`` and ``decoder_depths`` (as many,
    from the coarsest level to the finest), ``window_size`` in cells, ``quant_size`` (length of a
    relative-position bin in cells), ``in_channels`` and ``voxel_size``.

    Rooms are expected as one point per voxel, with the channels x, y, z in metres, then (ScanNet)
    the normal, then the colour.

    Args:
        arch: 's3dis', 'scannet', 'scannet200' or a dict.
        in_channels: Channels of the input with the coordinates, where not the variant's.
        voxel_size: Side of a voxel in metres, where not the variant's.
        mixer: Config of the mixer of all blocks, or one per list of blocks (encoder stages, then
            decoder stages), in place of `TriPlaneMixer`; it gets ``embed_dims``, ``num_heads`` and
            ``shifted``.
        per_sample_windows: Let windows start at the corner of each sample, not of the batch; see
            `TriPlaneMixer`.
        out_proj: End with the linear layer, batch norm and ReLU before the published classifier.
        frozen_stages: -1 freezes nothing, 0 the stem, i the stem and the first i encoder stages.
        implementation: Of `mmeffvit.ops.points`; None lets them choose.
        **kwargs: Those of `Network`: ``drop_path_rate``, ``norm_eval``, ``with_cp``, ``init_cfg``.

    Raises:
        ValueError: Stages, widths or mixers do not fit.
    """

    family: ClassVar[str] = "condaformer"
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "s3dis": _arch((96, 192, 384), (192, 96, 48), (2, 6, 2), 8, 6, 0.04),
        "scannet": _arch((96, 192, 384, 384), (384, 192, 96, 48), (2, 2, 6, 2), 10, 9, 0.02),
        "scannet200": _arch((96, 192, 384, 384), (384, 192, 96, 48), (2, 2, 6, 2), 8, 9, 0.02),
    }
    drop_path_rates: ClassVar[dict[str, float]] = {"s3dis": 0.5, "scannet": 0.3, "scannet200": 0.3}
    weights: ClassVar[tuple[WeightsFile, ...]] = CONDAFORMER
    official_rules: ClassVar[tuple[KeyRule, ...]] = CONDAFORMER_RULES

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "s3dis",
        in_channels: int | None = None,
        voxel_size: float | None = None,
        mixer: dict[str, Any] | Sequence[dict[str, Any]] | None = None,
        per_sample_windows: bool = False,
        out_proj: bool = True,
        frozen_stages: int = -1,
        implementation: str | None = None,
        **kwargs,
    ):
        resolved = self._resolve_arch(arch)
        super().__init__(arch, in_channels or resolved["in_channels"], **kwargs)
        self.voxel_size = voxel_size or self.arch["voxel_size"]
        self.frozen_stages = frozen_stages
        self._check_arguments()
        encoder, decoder = self.arch["embed_dims"], self.arch["decoder_dims"]
        tri_planes = {
            "type": "mmeffvit.TriPlaneMixer",
            "window_size": self.arch["window_size"],
            "quant_size": self.arch["quant_size"],
            "per_sample_windows": per_sample_windows,
            "implementation": implementation,
        }

        self.stem = ConDaFormerStem(self.in_channels, self.arch["stem_dims"], implementation)
        widths = (self.arch["stem_dims"], *encoder)
        self.pools = nn.ModuleList(GridPool(a, b) for a, b in zip(widths, encoder))
        coarse = (encoder[-1], *decoder)
        self.unpools = nn.ModuleList(
            Unpool(a, skip, b) for a, skip, b in zip(coarse, widths[-2::-1], decoder)
        )
        self.blocks = self._make_blocks(mixer or tri_planes)
        self.out_proj = OutProjection(decoder[-1]) if out_proj else nn.Identity()
        self.freeze()

    def _check_arguments(self) -> None:
        arch, stages = self.arch, len(self.arch["embed_dims"])
        for key in ("depths", "decoder_dims", "decoder_depths"):
            if len(arch[key]) != stages:
                raise ValueError(
                    f"arch['{key}'] needs {stages} entries, as many as embed_dims, got {arch[key]}"
                )
        for key, depths in (("embed_dims", "depths"), ("decoder_dims", "decoder_depths")):
            for width, depth in zip(arch[key], arch[depths]):
                if depth and width % (3 * HEAD_DIM):
                    raise ValueError(
                        f"arch['{key}'] has the width {width}; heads have {HEAD_DIM} channels and "
                        f"come in threes, so widths of stages with blocks are multiples of "
                        f"{3 * HEAD_DIM}"
                    )

        if not -1 <= self.frozen_stages <= stages:
            raise ValueError(
                f"frozen_stages={self.frozen_stages} is not possible: -1 freezes nothing, 0 the "
                f"stem, 1 to {stages} the stem and so many stages of the encoder"
            )

    def _make_blocks(self, mixer: dict[str, Any] | Sequence[dict[str, Any]]) -> nn.ModuleList:
        """Lists of blocks of the encoder's stages, then of the decoder's."""
        arch, lists = self.arch, 2 * len(self.arch["embed_dims"])
        mixers = [mixer] * lists if isinstance(mixer, Mapping) else mixer
        if len(mixers) != lists:
            raise ValueError(
                f"mixer is one config, or one for each of {lists} lists of blocks (encoder stages, "
                f"then decoder stages), got {len(mixers)}"
            )
        widths = (*arch["embed_dims"], *arch["decoder_dims"])
        rates = (
            *rising_rates(self.drop_path_rate, arch["depths"]),
            *rising_rates(self.drop_path_rate, arch["decoder_depths"]),
        )
        return nn.ModuleList(
            nn.ModuleList(
                PointBlock(width, width // HEAD_DIM, {**own, "shifted": bool(index % 2)}, rate)
                for index, rate in enumerate(rates_of_list)
            )
            for width, own, rates_of_list in zip(widths, mixers, rates)
        )

    @property
    def num_stages(self) -> int:
        """Stages of the encoder."""
        return len(self.pools)

    @property
    def out_channels(self) -> int:
        return self.arch["decoder_dims"][-1]

    def frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        stages = self.frozen_stages
        return [self.stem, *self.pools[:stages], *self.blocks[: self.num_stages][:stages]]

    @classmethod
    def arch_from_official(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Our arch dict from the authors' config."""
        channels, layers = config["channels"], config["layers"]
        stages = len(layers) // 2
        return {
            "stem_dims": config["base_channels"],
            "embed_dims": tuple(channels[:stages]),
            "depths": tuple(layers[:stages]),
            "decoder_dims": tuple(channels[stages:]),
            "decoder_depths": tuple(layers[stages:]),
            **{
                key: config[key]
                for key in ("window_size", "quant_size", "in_channels", "voxel_size")
            },
        }

    def forward(self, voxels: Tensor, coors: Tensor) -> Tensor:
        """Features of all voxels.

        Args:
            voxels: (N, C_in), x, y, z in metres first.
            coors: (N, 4) integers, (batch, x, y, z), each voxel once.

        Returns:
            (N, C_out), rows in the order of the input.

        Raises:
            ValueError: See `BasePointBackbone.finest_level`; or a voxel is there twice.
        """
        level = self.finest_level(voxels, coors)
        x = self.stem(voxels.to(self.stem.conv.weight.dtype), level)
        skips = []
        for pool, blocks in zip(self.pools, self.blocks):
            skips.append((x, level))
            x, level = pool(x, level)
            for block in blocks:
                x = self.run_block(block, x, level)
        for unpool, blocks in zip(self.unpools, self.blocks[self.num_stages :]):
            skip, fine = skips.pop()
            x, level = unpool(x, level, skip, fine), fine
            for block in blocks:
                x = self.run_block(block, x, level)
        return self.out_proj(x)
