"""kMaX-DeepLab: a head that finds segments as clusters of pixels (arXiv 2207.04044).

Written from the paper and checked against numbers of the authors' PyTorch code. It needs torch
alone; `mmeffvit.segmentation` joins it with mmdet's and mmseg's interfaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from mmeffvit.errors import did_you_mean
from mmeffvit.models.heads.kmax.decoder import KMeansDecoder, Prediction
from mmeffvit.models.heads.kmax.pixel_decoder import PixelDecoder, resize
from mmeffvit.models.heads.kmax.semantic import SEMANTIC_HEADS


@dataclass
class KMaXOutput:
    """What comes out of the head.

    Attributes:
        final: The prediction of the last queries on the finest map.
        layers: Those of the layers, brought to its size; empty unless asked for.
        semantic: (B, K + 1 or K, h, w), class logits per pixel, while training.
    """

    final: Prediction
    layers: list[Prediction]
    semantic: Tensor | None = None


class KMaX(BaseModule):
    """Pixel decoder, k-means decoder, and an auxiliary semantic head for training.

    Args:
        in_channels: Channels of the maps of the backbone, fine to coarse.
        strides: Of the maps, in the same order; they are put in order by these, and of equal ones
            the first is coarser.
        num_classes: K, things and stuff.
        num_queries: N, most segments in an image.
        pixel_decoder: Arguments of `PixelDecoder` but the channels; its lists go coarse to fine.
        decoder: Arguments of `KMeansDecoder`, such as ``depths`` or ``drop_path_rate``.
        semantic: ``'decoder'``, with K + 1 outputs, ``'light'``, with K, or None for no such head.
        semantic_options: Its arguments.
        init_cfg: Of mmengine.

    Raises:
        ValueError: The levels do not fit each other, or a name is not known.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int] = (4, 8, 16, 32),
        num_classes: int = 133,
        num_queries: int = 128,
        pixel_decoder: Mapping[str, Any] | None = None,
        decoder: Mapping[str, Any] | None = None,
        semantic: str | None = "decoder",
        semantic_options: Mapping[str, Any] | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if len(in_channels) != len(strides):
            raise ValueError(
                f"in_channels={tuple(in_channels)} and strides={tuple(strides)} must have one "
                "entry for each map of the backbone"
            )
        if min(num_classes, num_queries) < 1:
            raise ValueError(
                f"num_classes={num_classes} and num_queries={num_queries} must be at least 1"
            )
        # a stable sort: of maps of one stride the first stays first, as in the authors' code
        self.order = sorted(range(len(strides)), key=lambda i: -strides[i])
        self.stride = min(strides)
        self.num_classes, self.num_queries = num_classes, num_queries
        channels = [in_channels[i] for i in self.order]
        self.pixel_decoder = PixelDecoder(channels, **(pixel_decoder or {}))
        widths = self.pixel_decoder.out_channels
        self.decoder = KMeansDecoder(widths, num_queries, num_classes, **(decoder or {}))
        self.semantic = None
        if semantic is not None:
            self.semantic = self._make_semantic(semantic, channels, semantic_options or {})

    def _make_semantic(self, name: str, channels: Sequence[int], options: Mapping[str, Any]):
        if name not in SEMANTIC_HEADS:
            raise ValueError(
                f"semantic is {name!r}; it must be one of {', '.join(SEMANTIC_HEADS)}, or None"
                f"{did_you_mean(name, SEMANTIC_HEADS)}"
            )
        if name == "decoder" and len(channels) < 4:
            raise ValueError("semantic='decoder' reads four maps; take 'light' for three")
        return SEMANTIC_HEADS[name](self._of_semantic(channels), self.num_classes, **options)

    @staticmethod
    def _of_semantic(items: Sequence) -> list:
        """The coarsest, the third and the fourth coarsest, as far as there is one."""
        return [items[0], *items[2:4]]

    def forward(self, feats: Sequence[Tensor], with_layers: bool | None = None) -> KMaXOutput:
        """Predict from maps.

        Args:
            feats: (B, C_i, H_i, W_i), in the order of `in_channels`.
            with_layers: Whether what the layers and the semantic head say is wanted; while
                training by default.

        Raises:
            ValueError: There are not as many maps as `in_channels`.
        """
        if len(feats) != len(self.order):
            raise ValueError(
                f"the head was made for {len(self.order)} maps, got {len(feats)}; set in_channels "
                "and strides to those of the backbone"
            )
        with_layers = self.training if with_layers is None else with_layers
        feats = [feats[i] for i in self.order]
        final, layers = self.decoder(self.pixel_decoder(feats))
        if not with_layers:
            return KMaXOutput(final, [])
        size = final.mask_logits.shape[-2:]
        align_corners = size[0] % 2 == 1
        layers = [
            Prediction(
                layer.class_logits,
                resize(layer.mask_logits, size, align_corners),
                resize(layer.embeddings, size, align_corners),
            )
            for layer in layers
        ]
        semantic = None if self.semantic is None else self.semantic(self._of_semantic(feats))
        return KMaXOutput(final, layers, semantic)
