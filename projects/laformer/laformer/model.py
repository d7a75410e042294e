"""A restorer as mmengine trains and tests it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmeffvit.registry import MODELS


@MODELS.register_module()
class ImageRestorer(BaseModel):
    """Trains a network that makes images from images, and restores with it.

    A batch is a dict of ``inputs`` and ``targets``, (B, C, H, W) in [0, 1]; targets may be larger.

    Args:
        network: Config of a `LAformer`, `LAformerSR` or `PlainUNet`.
        eps: Of the Charbonnier loss, ``sqrt((a - b)^2 + eps^2)``; near 0 it is the absolute error.
        tile: In prediction, side in pixels of the tiles that an image is restored in, which then
            have the statistics of crops of training; None restores it as a whole.
        overlap: Pixels that tiles share, in which their mean counts.
        data_preprocessor: Of mmengine.
        init_cfg: Of mmengine.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        eps: float = 1e-3,
        tile: int | None = None,
        overlap: int = 16,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        if tile is not None and not 0 <= overlap < tile:
            raise ValueError(f"tiles of {tile} pixels cannot share {overlap}")
        self.network = MODELS.build(network)
        self.eps = eps
        self.tile = tile
        self.overlap = overlap

    def forward(
        self, inputs: Tensor, targets: Tensor | None = None, mode: str = "tensor"
    ) -> Tensor | dict[str, Tensor] | list[dict[str, Tensor]]:
        """The loss (``mode='loss'``), a dict of ``inputs``, ``restored`` in [0, 1] and ``targets``
        for each image (``'predict'``), or what the network returns (``'tensor'``)."""
        if mode == "loss":
            error = self.network(inputs) - targets
            return {"loss": (error.square() + self.eps**2).sqrt().mean()}
        if mode == "predict":
            images = {"inputs": inputs, "restored": self.restore(inputs), "targets": targets}
            images = {name: value for name, value in images.items() if value is not None}
            return [dict(zip(images, values)) for values in zip(*images.values())]
        return self.network(inputs)

    @torch.no_grad()
    def restore(self, x: Tensor) -> Tensor:
        """(B, C, H, W) images restored, in [0, 1]."""
        out = self.network(x) if self.tile is None else tiled(self.network, x, *self._tiling)
        return out.clamp(0, 1)

    @property
    def _tiling(self) -> tuple[int, int]:
        return self.tile, self.overlap


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side: the last one ends with it."""
    return [*range(0, max(side - tile, 0), tile - overlap), max(side - tile, 0)]


def tiled(network: Callable[[Tensor], Tensor], x: Tensor, tile: int, overlap: int) -> Tensor:
    """What a network makes of overlapping tiles of x, (B, C, H, W), put together.

    Args:
        network: Images to images, whose sides are any one multiple of the input's.
        x: Images.
        tile: Side of the tiles in pixels of x; a smaller image is one tile.
        overlap: Pixels of x that neighbours share at least.
    """
    total = count = None
    places = (_starts(side, tile, overlap) for side in x.shape[-2:])
    for top, left in product(*places):
        part = x[..., top : top + tile, left : left + tile]
        out = network(part)
        scale = out.shape[-1] // part.shape[-1]
        if total is None:
            size = [side * scale for side in x.shape[-2:]]
            total, count = out.new_zeros(*out.shape[:2], *size), out.new_zeros(size)
        rows, columns = (
            slice(start * scale, start * scale + side)
            for start, side in zip((top, left), out.shape[-2:])
        )
        total[..., rows, columns] += out
        count[rows, columns] += 1
    return total / count
