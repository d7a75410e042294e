"""The encoder of SparK (arXiv 2301.03580): a pyramid that computes visible patches only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers import LayerNorm2d
from mmeffvit.layers.mixers.base import QKVProjection
from mmeffvit.models.extend import extend
from mmeffvit.models.methods.base import add_parts, build_backbone
from mmeffvit.registry import MODELS


@MODELS.register_module(name="SparseBackbone")
def sparse_backbone(
    backbone: Mapping[str, Any] | nn.Module,
    patch_size: int = 32,
    out_channels: Sequence[int] | None = None,
) -> nn.Module:
    """Build a pyramid for mmpretrain's ``SparK``, which hands it images with masked patches.

    Section 3.1 of the paper: masked cells stay empty in every layer, or else the visible ones grow
    into them layer by layer and the share of masked cells changes. Here convolutions and norms give
    zero at masked cells, batch norms take their statistics of visible cells alone, and what each
    block returns is zero there once more. What is not sparse is attention: a mixer over the whole
    map sees masked cells as zeros among its keys and values, where the paper, which is about
    convolutional networks, has none.

    Masked is what is zero: a patch whose pixels are zero in all channels, which is how ``SparK``
    hides it. An image without such patches gives what the backbone itself gives.

    It stays an object of its own class, with its own names of weights, so that a checkpoint of the
    pre-training is loaded by ``init_cfg=dict(type='Pretrained', checkpoint=FILE)`` of the backbone
    in any config. ``sync_bn`` of a runner would put ordinary norms in place of the sparse ones.

    Args:
        backbone: Its config, or the network itself: a pyramid of this package.
        patch_size: Side of the patches that are masked, in pixels (mmpretrain's
            ``downsample_raito``). The stride of the last map must divide it.
        out_channels: Channels of each output, where they must be others than the network's own:
            ``SparK`` expects them to double from map to map. 1x1 convolutions, called
            ``projections.<stage>``, make them. None keeps the network's own.

    Raises:
        ValueError: It is no pyramid of ours, or the sizes do not fit it.
    """
    network = build_backbone(backbone, "SparK", ("blocks",))
    own = network.out_channels
    wanted = own if out_channels is None else tuple(out_channels)
    if len(wanted) != len(own) or patch_size % max(network.out_strides):
        raise ValueError(
            f"{type(network).__name__} returns {len(own)} maps of strides {network.out_strides}: "
            f"out_channels must have as many entries, got {out_channels}, and the last stride must "
            f"divide patch_size={patch_size}"
        )
    cells = VisibleCells(patch_size)
    for module in list(network.modules()):
        part = next((p for p, kinds in _PARTS.items() if isinstance(module, kinds)), None)
        if part is not None:
            extend(module, part, "Sparse")
            module.cells = cells
    projections = {
        str(stage): nn.Conv2d(channels, new, 1)
        for stage, channels, new in zip(network.out_indices, own, wanted)
        if channels != new
    }
    add_parts(network, _SparsePyramid, "Sparse", projections=nn.ModuleDict(projections))
    network.cells = cells
    return network


class VisibleCells:
    """Which cells of maps are visible, for the images that a network looks at.

    It remembers them until the next images: blocks that are recomputed in the backward pass ask
    again.

    Args:
        patch_size: Side of a patch, in pixels.
    """

    def __init__(self, patch_size: int):
        self.patch_size = patch_size
        self._masks: dict[int, Tensor] = {}

    def look(self, image: Tensor) -> None:
        """Take images (B, C, H, W); masked are patches that are zero in all channels.

        Raises:
            ValueError: Their sides are no multiples of the patch size.
        """
        if any(side % self.patch_size for side in image.shape[-2:]):
            raise ValueError(
                f"images of {image.shape[-2]} x {image.shape[-1]} pixels are not made of patches "
                f"of {self.patch_size}; resize or crop them"
            )
        colour = (image != 0).any(1, keepdim=True).float()
        self._masks = {1: F.max_pool2d(colour, self.patch_size).bool()}

    def of(self, x: Tensor) -> Tensor | None:
        """(B, 1, H, W), True where a map (B, C, H, W) is visible; None if `x` is no whole map."""
        if not self._masks or x.dim() != 4:
            return None
        batch, _, height, width = self._masks[1].shape
        cells, rest = divmod(x.shape[-2], height)
        if rest or not cells or x.shape[0] != batch or x.shape[-1] != cells * width:
            return None
        if cells not in self._masks:
            mask = self._masks[1].repeat_interleave(cells, 2)
            self._masks[cells] = mask.repeat_interleave(cells, 3)
        return self._masks[cells]

    def hide(self, x: Tensor) -> Tensor:
        """A map with zeros at masked cells; anything else as it is."""
        visible = self.of(x)
        return x if visible is None else x.masked_fill(~visible, 0.0)


class _Sparse:
    """A convolution or a norm of each cell that gives zero at masked cells."""

    cells: VisibleCells

    def forward(self, x: Tensor) -> Tensor:
        return self.cells.hide(super().forward(x))


class _SparseProjection:
    """A convolution to queries, keys and values, which are zero at masked cells."""

    cells: VisibleCells

    def to_heads(self, projected: Tensor) -> tuple[Tensor, ...]:
        return super().to_heads(self.cells.hide(projected))


class _SparseBatchNorm:
    """A batch norm of visible cells, and of their statistics."""

    cells: VisibleCells

    def forward(self, x: Tensor) -> Tensor:
        visible = self.cells.of(x)
        if visible is None:
            return super().forward(x)
        visible = visible.squeeze(1)
        normed = super().forward(x.permute(0, 2, 3, 1)[visible][..., None, None])
        out = normed.new_zeros((*visible.shape, x.shape[1]))
        out[visible] = normed.flatten(1)
        return out.permute(0, 3, 1, 2)


#: what comes before the class of a layer -> of which layers; the first that fits
_PARTS: dict[type, tuple[type[nn.Module], ...]] = {
    _SparseBatchNorm: (nn.BatchNorm2d, nn.SyncBatchNorm),
    _SparseProjection: (QKVProjection,),
    _Sparse: (nn.Conv2d, LayerNorm2d),
}


class _SparsePyramid:
    """A pyramid that hides masked cells after every block; before its own class."""

    cells: VisibleCells

    @property
    def out_channels(self) -> tuple[int, ...]:
        own = zip(self.out_indices, super().out_channels)
        convs = self.projections
        return tuple(convs[str(i)].out_channels if str(i) in convs else c for i, c in own)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps of an image (B, C, H, W), in which masked patches are zero."""
        self.cells.look(image)
        maps = super().forward(image, lambda x, stage, place: self.cells.hide(x))
        named = zip(map(str, self.out_indices), maps)
        return tuple(self.projections[i](x) if i in self.projections else x for i, x in named)
