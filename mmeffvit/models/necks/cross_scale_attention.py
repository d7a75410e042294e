"""Attention across the maps of a pyramid, region by region (DuoFormer, arXiv 2407.13920)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.layers import MLP, LayerNorm2d
from mmeffvit.layers.init import draw_linear_layers
from mmeffvit.models.necks.duoformer_keys import PREFIX, RULES
from mmeffvit.models.official import KeyRule
from mmeffvit.ops import region_attention
from mmeffvit.registry import MODELS

_norm = partial(LayerNorm2d, eps=1e-6)


class ScaleBlock(nn.Module):
    """A block of ViT over lists of maps: attention inside regions, the rest per pixel.

    Args:
        dim: Channels C of all maps.
        num_heads: Heads h.
        hidden_dim: Channels inside of the feed-forward network.
        implementation: Of `mmeffvit.ops.region_attention`; None lets it choose.
    """

    def __init__(
        self, dim: int, num_heads: int, hidden_dim: int, implementation: str | None = None
    ):
        super().__init__()
        self.num_heads = num_heads
        self.implementation = implementation
        self.norm1, self.norm2 = _norm(dim), _norm(dim)
        self.qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.proj = nn.Conv2d(dim, dim, 1)
        self.ffn = MLP(dim, hidden_dim)

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values of a map: (B, C, H, W) to three times (B, H, W, h, d)."""
        qkv = self.qkv(self.norm1(x)).permute(0, 2, 3, 1)
        return qkv.unflatten(3, (3, self.num_heads, -1)).unbind(3)

    def forward(
        self, maps: list[Tensor], sides: Sequence[int], valid: list[Tensor] | None
    ) -> list[Tensor]:
        """(B, C, R s_i, W s_i) maps of R x W regions, and which of their tokens are keys."""
        q, k, v = zip(*map(self.project, maps))
        outs = region_attention(q, k, v, sides, valid, implementation=self.implementation)
        maps = [x + self.proj(out.flatten(3).permute(0, 3, 1, 2)) for x, out in zip(maps, outs)]
        return [x + self.ffn(self.norm2(x)) for x in maps]


@MODELS.register_module()
class CrossScaleAttention(BaseModule):
    """Tokens of all maps of a pyramid that lie in one region attend to one another.

    A region is a pixel of the coarsest map, and what lies under it in the others: of strides 8, 16
    and 32 it has 16, 4 and 1 tokens. A learnt token per region is a key of the others and is
    dropped at the end. Weights are shared by all regions, of which there may be any number. The
    scale attention of DuoFormer (arXiv 2407.13920, section 2), whose classifier is left out; as a
    neck it is ours.

    Args:
        in_channels: Channels of the maps, finest first, each of twice the stride of the one before.
        channels: Channels of the maps that leave.
        num_heads: Heads h.
        depth: Number of blocks.
        mlp_ratio: Channels inside of feed-forward networks, over `channels`.
        start_level: First map that takes part; finer ones leave as they came. A region has four
            times as many tokens with each map more.
        implementation: Of `mmeffvit.ops.region_attention`; None lets it choose.
        init_cfg: Of mmengine.

    Raises:
        ValueError: Fewer than two maps take part, or heads do not divide channels.
    """

    #: name of the authors' files in `mmeffvit.checkpoint.convert_official`
    family: ClassVar[str] = "duoformer"
    #: where the neck sits in a model whose second neck is an FPN; their ResNet is its backbone
    prefix: ClassVar[str] = PREFIX
    official_rules: ClassVar[tuple[KeyRule, ...]] = RULES

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        num_heads: int = 8,
        depth: int = 1,
        mlp_ratio: float = 4,
        start_level: int = 0,
        implementation: str | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        mixed = list(in_channels)[max(start_level, 0) :]
        if len(mixed) < 2 or start_level < 0 or channels % num_heads:
            raise ValueError(
                "CrossScaleAttention needs two maps or more from start_level on, and channels that "
                f"num_heads divides; got in_channels={tuple(in_channels)}, "
                f"start_level={start_level}, channels={channels}, num_heads={num_heads}"
            )
        self.start_level = start_level
        # tokens on a side of a region
        self.sides = [2**i for i in reversed(range(len(mixed)))]
        self.projections = nn.ModuleList(nn.Conv2d(dim, channels, 1) for dim in mixed)
        tokens = 1 + sum(side * side for side in self.sides)
        # as published: the region's own token first, then maps from the coarsest on, rows first
        self.table = nn.Parameter(torch.empty(tokens, channels))
        self.scale_token = nn.Parameter(torch.empty(1, channels))
        hidden = int(mlp_ratio * channels)
        self.blocks = nn.ModuleList(
            ScaleBlock(channels, num_heads, hidden, implementation) for _ in range(depth)
        )
        for parameter in (self.table, self.scale_token):
            nn.init.trunc_normal_(parameter, std=0.036)
        draw_linear_layers(self.blocks)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Mix.

        Args:
            maps: (B, C_i, H_i, W_i), finest first; each side is twice that of the next map, or
                differs by less than a region, as where strides do not divide the image.

        Returns:
            (B, channels, H_i, W_i), after maps before `start_level` as they came.
        """
        if len(maps) != self.start_level + len(self.projections):
            raise ValueError(
                f"CrossScaleAttention was made for {self.start_level + len(self.projections)} maps "
                f"and got {len(maps)}"
            )
        passed, maps = tuple(maps[: self.start_level]), maps[self.start_level :]
        grid = self._grid(maps)
        x, valid = [], []
        for map_, projection, side in zip(maps, self.projections, self.sides):
            bottom, right = (n * side - m for n, m in zip(grid, map_.shape[-2:]))
            frame = (0, right, 0, bottom)
            x.append(F.pad(projection(map_), frame))
            valid.append(F.pad(map_.new_ones(map_.shape[-2:], dtype=torch.bool), frame))
        token = self.scale_token.T[None, :, None].expand(maps[0].shape[0], -1, *grid)
        padded = any(a.shape[-2:] != b.shape[-2:] for a, b in zip(x, maps))
        # a region's own token is always a key
        valid = [valid[-1].new_ones(grid), *reversed(valid)] if padded else None
        x = self.mix([token.to(x[0].dtype), *reversed(x)], [1, *reversed(self.sides)], valid)
        sizes = [map_.shape[-2:] for map_ in maps]
        return passed + tuple(out[..., :h, :w] for out, (h, w) in zip(reversed(x[1:]), sizes))

    def _grid(self, maps: Sequence[Tensor]) -> tuple[int, int]:
        """Rows and columns of regions: as many as the map that needs most."""
        needed = [[-(-n // side) for n in map_.shape[-2:]] for map_, side in zip(maps, self.sides)]
        if any(max(counts) - min(counts) > 1 for counts in zip(*needed)):
            raise ValueError(
                "each map of CrossScaleAttention must have twice the sides of the next, as maps of "
                f"strides 8, 16 and 32 have; got {[tuple(m.shape[-2:]) for m in maps]}"
            )
        rows, columns = (max(counts) for counts in zip(*needed))
        return rows, columns

    def mix(
        self, maps: list[Tensor], sides: Sequence[int], valid: list[Tensor] | None
    ) -> list[Tensor]:
        """Positions and all blocks, on the map of regions' tokens and maps, coarsest first."""
        slices = self.table.split([side * side for side in sides])
        maps = [
            x + part.T.unflatten(1, (side, side)).repeat(1, *(n // side for n in x.shape[-2:]))
            for x, part, side in zip(maps, slices, sides)
        ]
        for block in self.blocks:
            maps = block(maps, sides, valid)
        return maps

    @classmethod
    def arranged(cls, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Converted weights with the projections of finer maps, which have fewer channels, first.

        Which of their projections is of which map the authors' names do not say.
        """
        name = re.compile(rf"{re.escape(PREFIX)}projections\.(\d+)\.(\w+)")
        widths = {
            int(found[1]): value.shape[1]
            for key, value in weights.items()
            if (found := name.fullmatch(key)) and found[2] == "weight"
        }
        places = {old: new for new, old in enumerate(sorted(widths, key=widths.__getitem__))}
        return {
            f"{PREFIX}projections.{places[int(found[1])]}.{found[2]}"
            if (found := name.fullmatch(key))
            else key: value
            for key, value in weights.items()
        }

    @classmethod
    def of_weights(cls, weights: Mapping[str, Tensor], num_heads: int) -> CrossScaleAttention:
        """A neck with converted weights.

        Args:
            weights: Under our keys, which start with `prefix`.
            num_heads: Heads h, which shapes do not tell.

        Raises:
            ValueError: They are not those of a neck.
        """
        own = {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}
        count = sum(re.fullmatch(r"projections\.\d+\.weight", key) is not None for key in own)
        depth = sum(re.fullmatch(r"blocks\.\d+\.qkv\.weight", key) is not None for key in own)
        try:
            hidden, channels = own["blocks.0.ffn.fc1.weight"].shape[:2]
            widths = [own[f"projections.{i}.weight"].shape[1] for i in range(count)]
            neck = cls(widths, channels, num_heads, depth, hidden / channels)
            neck.load_state_dict(own)
        except (KeyError, RuntimeError) as error:
            raise ValueError(
                "these are no weights of a whole CrossScaleAttention, with a learnt token per "
                f"region: {error}"
            ) from error
        return neck
