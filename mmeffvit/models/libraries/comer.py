"""The convolutional pyramid of ViT-CoMer beside any plain transformer of another library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.layers.levels import ConvBranch, Interaction, draw_levels, output_map
from mmeffvit.models.backbones.base import pad_sides
from mmeffvit.models.libraries.backbone import LibraryBackbone
from mmeffvit.models.libraries.base import Statistics
from mmeffvit.models.libraries.exchange import Exchange
from mmeffvit.models.libraries.images import check_image
from mmeffvit.ops import map_layout
from mmeffvit.registry import MODELS

#: stride of the transformer's maps, and of all maps that come out
_STRIDE, _STRIDES = 16, (4, 8, 16, 32)


@MODELS.register_module()
class ViTCoMerAdapter(BaseModule):
    """A plain transformer of another library made a pyramid, as in ViT-CoMer (arXiv 2403.07392).

    A convolutional branch makes maps of strides 4 to 32. The blocks of the transformer are divided
    into four spans: before each, what attention over the branch finds is added to the patches
    (times a gain that begins with 0), and after it the patches are added to the branch. With frozen
    blocks the branch alone is trained; its gradients still go through them.

    Args:
        name: Of the transformer, as of `LibraryBackbone`; patches of any size, whose maps are
            brought to stride 16.
        out_indices: Of the maps of strides 4, 8, 16 and 32.
        frozen: No parameter of the transformer is trained, and it stays in evaluation mode.
        out_norm: Batch norms on the outputs, as published.
        drop_path_rate: Of the interactions; that of the blocks is an option of some transformers.
        num_interactions: Into how many spans the blocks are divided.
        num_extra: More ways back to the branch after the last one.
        conv_channels: Of the branch's stem.
        deform_heads: Heads of the deformable attention; None takes one for 64 channels.
        deform_ratio: Width of its values over C.
        mrfp_ratio, ffn_ratio: Hidden widths over C.
        pretrained, in_channels, init_cfg: As of `LibraryBackbone`, for the transformer.
        implementation: Of `mmeffvit.ops.deformable_attention`; None lets it choose.
        **options: Arguments of the library's network.

    Raises:
        ValueError: The network is no plain transformer of images of any size.

    Attributes:
        vit: The transformer, a `LibraryBackbone`.
        out_channels: Channels of each output.
        out_strides: Strides of each output.
    """

    min_size = 32
    stage_strides = _STRIDES

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        *,
        frozen: bool = False,
        out_norm: bool = True,
        drop_path_rate: float = 0.0,
        num_interactions: int = 4,
        num_extra: int = 4,
        conv_channels: int = 64,
        deform_heads: int | None = None,
        deform_ratio: float = 0.5,
        mrfp_ratio: float = 0.5,
        ffn_ratio: float = 0.25,
        pretrained: bool = False,
        in_channels: int = 3,
        init_cfg: dict | list | None = None,
        implementation: str | None = None,
        **options: Any,
    ):
        super().__init__()
        self.name = name
        self.frozen = frozen
        self.out_indices = _check_indices(out_indices)
        self.vit = _make_vit(name, num_interactions, pretrained, in_channels, init_cfg, options)
        if frozen:
            self.vit.requires_grad_(False)
        dim = self.vit.stage_channels[-1]
        self.spans = _spans(len(self.vit.stage_strides), num_interactions)
        self.spm = ConvBranch(in_channels, conv_channels, dim, 0 in self.out_indices)
        self.interactions = nn.ModuleList(
            Interaction(
                dim,
                round(dim * ffn_ratio),
                drop_path_rate,
                mrfp_dim=2 * round(dim * mrfp_ratio / 2),
                to_cnn=True,
                num_extra=num_extra if i == num_interactions - 1 else 0,
                cnn_attention=True,
                num_heads=deform_heads or _heads(dim, round(dim * deform_ratio)),
                num_points=4,
                value_ratio=deform_ratio,
                implementation=implementation,
            )
            for i in range(num_interactions)
        )
        self.up = nn.ConvTranspose2d(dim, dim, 2, stride=2) if 0 in self.out_indices else None
        self.out_norms = nn.ModuleDict(
            {str(i): nn.BatchNorm2d(dim) for i in self.out_indices if out_norm}
        )
        for part in (self.spm, self.interactions, self.up):
            if part is not None:
                draw_levels(part, set(self.spm.modules()))

    # -- contract ----------------------------------------------------------------------------------

    @property
    def stage_channels(self) -> tuple[int, ...]:
        return (self.vit.stage_channels[-1],) * len(_STRIDES)

    @property
    def out_channels(self) -> tuple[int, ...]:
        return tuple(self.stage_channels[i] for i in self.out_indices)

    @property
    def out_strides(self) -> tuple[int, ...]:
        return tuple(_STRIDES[i] for i in self.out_indices)

    def statistics(self) -> Statistics:
        """Mean and standard deviation of images that the transformer's weights expect."""
        return self.vit.statistics()

    def train(self, mode: bool = True) -> ViTCoMerAdapter:
        super().train(mode)
        if self.frozen:
            self.vit.eval()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """As `BaseBackbone.get_layer_depth`; what is not the transformer's is the last layer."""
        return self.vit.get_layer_depth(param_name, f"{prefix}vit.")

    # -- forward -----------------------------------------------------------------------------------

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps of an image (B, C, H, W): (B, C_i, ceil(H / s), ceil(W / s)) for strides s.

        Raises:
            ValueError: The network does not take such images, or has no sequence of patches.
        """
        check_image(image, self.name, self.vit.in_channels, self.min_size)
        padded = pad_sides(image, _STRIDES[-1])
        finest, maps = self.spm(map_layout(padded))
        grid = tuple(side // _STRIDE for side in padded.shape[-2:])
        exchange = Exchange(self.interactions, maps, grid, self.name)
        with exchange.around(self.vit.blocks(), self.spans):
            self.vit(padded)
        # of four spans one for each output, as published for segmentation, else the last one
        each = len(exchange.features) == len(_STRIDES)
        outs = []
        for i in self.out_indices:
            feature = exchange.features[i if each else -1]
            out = output_map(i, exchange.maps, finest, self.up, feature)
            out = self.out_norms[str(i)](out) if self.out_norms else out
            height, width = (math.ceil(side / _STRIDES[i]) for side in image.shape[-2:])
            outs.append(out[..., :height, :width])
        return tuple(outs)


def _check_indices(out_indices: Sequence[int]) -> tuple[int, ...]:
    indices = tuple(out_indices)
    if not indices or list(indices) != sorted(set(indices) & set(range(len(_STRIDES)))):
        raise ValueError(
            f"out_indices must be ascending maps out of 0..3, of strides {_STRIDES}, got "
            f"{out_indices}"
        )
    return indices


def _make_vit(
    name: str,
    num_interactions: int,
    pretrained: bool,
    in_channels: int,
    init_cfg: dict | list | None,
    options: dict[str, Any],
) -> LibraryBackbone:
    vit = LibraryBackbone(name, in_channels=in_channels, **options)
    facts = vit.facts
    if not facts.is_plain or facts.size is not None or facts.divisor != facts.strides[0]:
        raise ValueError(
            f"the adapter is for plain transformers that take images of any size, and {name} has "
            f"maps of strides {facts.strides}"
            + (f" of images of {facts.size} alone" if facts.size else "")
        )
    if not 0 < num_interactions <= len(facts.strides):
        raise ValueError(
            f"num_interactions={num_interactions} does not divide the {len(facts.strides)} blocks "
            f"of {name}; give a number from 1 to {len(facts.strides)}"
        )
    return LibraryBackbone(
        name,
        pretrained,
        out_norm=False,
        out_stride=_STRIDE,
        in_channels=in_channels,
        init_cfg=init_cfg,
        **options,
    )


def _spans(depth: int, count: int) -> tuple[tuple[int, int], ...]:
    """First and last block of each of `count` spans that are about equally long."""
    ends = [depth * (i + 1) // count for i in range(count)]
    return tuple((first, end - 1) for first, end in zip([0, *ends], ends))


def _heads(dim: int, value_dim: int) -> int:
    """About one for 64 channels, in a number that divides both widths."""
    both = math.gcd(dim, value_dim)
    return max(heads for heads in range(1, max(dim // 64, 1) + 1) if both % heads == 0)
