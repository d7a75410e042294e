"""Two restorers of linear attention, after the abstract of LAformer (arXiv 2505.16157).

What the abstract leaves open is listed in the README beside this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.errors import did_you_mean
from mmeffvit.layers import Block, GatedConvFFN, LayerNorm2d, MapContext
from mmeffvit.layers.mixers import GatedConvMixer, RELAMixer
from mmeffvit.ops import map_layout
from mmeffvit.registry import MODELS

CHANNEL_MODES = ("alternate", "parallel", "serial")


class _BothMixers(nn.Module):
    """Spatial and channel attention in one block: their sum, or one after the other."""

    def __init__(self, spatial: nn.Module, channel: nn.Module, serial: bool):
        super().__init__()
        self.spatial = spatial
        self.channel = channel
        self.serial = serial

    def forward(self, x: Tensor, context: MapContext) -> Tensor:
        out = self.spatial(x, context)
        return self.channel(out, context) if self.serial else out + self.channel(x, context)


class Blocks(nn.Module):
    """Residual blocks of linear attention over places, and of attention over channels.

    Args:
        dim: Channels C.
        depth: Number of blocks.
        num_heads: Heads of the linear attention.
        mlp_ratio: Channels inside of the gated feed-forward network, as a multiple of C.
        channel_mode: ``'alternate'``: every second block has attention over channels, in the place
            of that over places; ``'parallel'``: all blocks have the sum of both; ``'serial'``: one
            after the other.
    """

    def __init__(self, dim: int, depth: int, num_heads: int, mlp_ratio: float, channel_mode: str):
        super().__init__()
        if channel_mode not in CHANNEL_MODES:
            raise ValueError(
                f"channel_mode must be one of {', '.join(CHANNEL_MODES)}, got {channel_mode!r}"
                f"{did_you_mean(channel_mode, CHANNEL_MODES)}"
            )

        def mixer(index: int) -> nn.Module:
            if channel_mode == "alternate":
                return GatedConvMixer(dim, num_heads) if index % 2 else RELAMixer(dim, num_heads)
            both = RELAMixer(dim, num_heads), GatedConvMixer(dim, num_heads)
            return _BothMixers(*both, serial=channel_mode == "serial")

        self.blocks = nn.ModuleList(
            Block(
                dim,
                mixer(index),
                GatedConvFFN(dim, int(dim * mlp_ratio)),
                norm=partial(LayerNorm2d, eps=1e-6),
            )
            for index in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        context = MapContext.of(x)
        for block in self.blocks:
            x = block(x, context)
        return x


def _arch(network: str, given: Any, zoo: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    if isinstance(given, str):
        if given not in zoo:
            raise ValueError(
                f"{network} has no variant '{given}'; it has {[*zoo]}{did_you_mean(given, zoo)}"
            )
        return zoo[given]
    keys = next(iter(zoo.values())).keys()
    if given.keys() != keys:
        raise ValueError(
            f"the arch dict of {network} needs exactly {sorted(keys)}, got {sorted(given)}"
        )
    return given


def _init_weights(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            if module.kernel_size == (1, 1):
                nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def padded(x: Tensor, multiple: int) -> Tensor:
    """(B, C, H, W) filled up on the right and below to multiples, by reflection if it can be."""
    missing = [-side % multiple for side in x.shape[-2:]]
    if not any(missing):
        return x
    reflects = all(more < side for more, side in zip(missing, x.shape[-2:]))
    mode = "reflect" if reflects else "replicate"
    return F.pad(x, (0, missing[1], 0, missing[0]), mode=mode)


@MODELS.register_module()
class LAformer(BaseModule):
    """A U of blocks that returns an image of the input's size: the input, and what it corrects.

    Args:
        arch: 'u', or a dict with ``embed_dims`` (each twice the one before), ``depths``,
            ``num_heads`` (one of each per level) and ``refinement``, blocks at the end.
        in_channels: Channels of images.
        mlp_ratio: See `Blocks`.
        channel_mode: See `Blocks`.
        init_cfg: Of mmengine.

    Raises:
        ValueError: There is no such variant, or the arch dict is not possible.
    """

    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "u": {
            "embed_dims": (48, 96, 192, 384),
            "depths": (4, 6, 6, 8),
            "num_heads": (1, 2, 4, 8),
            "refinement": 4,
        },
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "u",
        in_channels: int = 3,
        mlp_ratio: float = 2.66,
        channel_mode: str = "alternate",
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        arch = _arch("LAformer", arch, self.arch_zoo)
        dims: Sequence[int] = arch["embed_dims"]
        depths, heads = arch["depths"], arch["num_heads"]
        levels = len(dims)
        if not levels == len(depths) == len(heads) >= 2:
            raise ValueError(
                "embed_dims, depths and num_heads need one entry for each of two or more levels, "
                f"got {dims}, {depths} and {heads}"
            )
        if any(wide != 2 * narrow for narrow, wide in pairwise(dims)):
            raise ValueError(f"each of embed_dims must be twice the one before, got {dims}")

        def blocks(dim: int, depth: int, num_heads: int) -> Blocks:
            return Blocks(dim, depth, num_heads, mlp_ratio, channel_mode)

        # the finest level has no convolution after its skip, and goes on twice as wide
        out_dims = (2 * dims[0], *dims[1:-1])
        self.embed = nn.Conv2d(in_channels, dims[0], 3, padding=1)
        self.encoder = nn.ModuleList(map(blocks, dims, depths, heads))
        self.downs = nn.ModuleList(
            nn.Conv2d(dim, dim // 2, 3, padding=1, bias=False) for dim in dims[:-1]
        )
        self.ups = nn.ModuleList(
            nn.Conv2d(dim, 2 * dim, 3, padding=1, bias=False) for dim in dims[1:]
        )
        self.fuses = nn.ModuleList(
            nn.Conv2d(2 * dim, dim, 1) if level else nn.Identity()
            for level, dim in enumerate(dims[:-1])
        )
        self.decoder = nn.ModuleList(map(blocks, out_dims, depths[:-1], heads[:-1]))
        self.refinement = blocks(out_dims[0], arch["refinement"], heads[0])
        self.out = nn.Conv2d(out_dims[0], in_channels, 3, padding=1)
        _init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W), of any height and width."""
        given, (height, width) = x, x.shape[-2:]
        x = self.embed(map_layout(padded(x, 2 ** len(self.downs))))
        skips = []
        for blocks, down in zip(self.encoder, self.downs):
            skips.append(blocks(x))
            x = F.pixel_unshuffle(down(skips[-1]), 2)
        x = self.encoder[-1](x)
        for level in reversed(range(len(self.downs))):
            up = F.pixel_shuffle(self.ups[level](x), 2)
            x = self.decoder[level](self.fuses[level](torch.cat((up, skips[level]), 1)))
        return given + self.out(self.refinement(x))[..., :height, :width]


@MODELS.register_module()
class LAformerSR(BaseModule):
    """Groups of blocks at one resolution, then an image that is `scale` times as large.

    Args:
        arch: 'light', 'full', or a dict with ``embed_dims``, ``groups``, ``depth`` (blocks of a
            group), ``num_heads`` and ``tail_dims``: channels of the up-sampling, or None for the
            pixels themselves.
        scale: 2, 3 or 4.
        in_channels: Channels of images.
        mlp_ratio: See `Blocks`.
        channel_mode: See `Blocks`.
        bicubic: Add the bicubically enlarged input; training is shorter with it.
        init_cfg: Of mmengine.

    Raises:
        ValueError: There is no such variant or scale, or the arch dict has other keys.
    """

    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "light": {"embed_dims": 64, "groups": 4, "depth": 6, "num_heads": 4, "tail_dims": None},
        "full": {"embed_dims": 180, "groups": 6, "depth": 6, "num_heads": 6, "tail_dims": 64},
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "light",
        scale: int = 4,
        in_channels: int = 3,
        mlp_ratio: float = 2,
        channel_mode: str = "alternate",
        bicubic: bool = False,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        arch = _arch("LAformerSR", arch, self.arch_zoo)
        if scale not in (2, 3, 4):
            raise ValueError(f"scale must be 2, 3 or 4, got {scale}")
        self.scale = scale
        self.bicubic = bicubic
        dim = arch["embed_dims"]
        self.embed = nn.Conv2d(in_channels, dim, 3, padding=1)
        self.groups = nn.ModuleList(
            nn.Sequential(
                Blocks(dim, arch["depth"], arch["num_heads"], mlp_ratio, channel_mode),
                nn.Conv2d(dim, dim, 3, padding=1),
            )
            for _ in range(arch["groups"])
        )
        self.merge = nn.Conv2d(dim, dim, 3, padding=1)
        self.tail = _tail(dim, in_channels, scale, arch["tail_dims"])
        _init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale H, scale W)."""
        first = features = self.embed(map_layout(x))
        for group in self.groups:
            features = features + group(features)
        out = self.tail(first + self.merge(features))
        if self.bicubic:
            out = out + F.interpolate(x, scale_factor=self.scale, mode="bicubic")
        return out


def _tail(dim: int, channels: int, scale: int, width: int | None) -> nn.Sequential:
    if width is None:
        return nn.Sequential(
            nn.Conv2d(dim, channels * scale**2, 3, padding=1), nn.PixelShuffle(scale)
        )
    layers: list[nn.Module] = [nn.Conv2d(dim, width, 3, padding=1), nn.LeakyReLU(0.01)]
    for factor in (2, 2) if scale == 4 else (scale,):
        layers += [nn.Conv2d(width, width * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))
