"""DAFormer's head: all levels of a pyramid, seen together with their context; needs mmseg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import accuracy
from torch import Tensor, nn

from mmeffvit.errors import did_you_mean
from mmeffvit.registry import MODELS
from mmeffvit.segmentation.daformer_fusion import (
    ContextFusion,
    InterlacedFusion,
    LinearEmbedding,
)

#: what makes one map of the joined levels
FUSIONS = ("sepaspp", "aspp", "conv1", "isa", "bottleneck")


@MODELS.register_module()
class DAFormerHead(BaseDecodeHead):
    """Context-aware fusion of all levels of a pyramid (arXiv 2111.14887, section 3.2).

    Each level is embedded pixel by pixel and brought to the size of the finest; convolutions of
    several dilations see all of them at once. Names of weights are the authors'. What a sample has
    as `seg_weight` (pixels (1, H, W)) multiplies its losses.

    Args:
        in_channels: Channels of the maps, fine to coarse.
        embed_dims: Channels of each embedded level.
        channels: Of the fusion.
        fusion: What sees all levels (table 7 of the paper). ``'sepaspp'``, DAFormer's: depthwise
            dilated convolutions; ``'aspp'``: whole ones; ``'conv1'``: one 1x1 convolution;
            ``'isa'``: sparse attention, see `InterlacedFusion`; ``'bottleneck'``: ``'conv1'``, and
            ``'sepaspp'`` on the last level alone, which is resized to the finest stride before.
        dilations: Of the branches of ``'sepaspp'``, ``'aspp'`` and ``'bottleneck'``.
        image_pool: Another branch for these: the mean of the map.
        context: Another branch for these: config of a layer of `in_channels` and `out_channels`.
        relation_channels: Of queries and keys of ``'isa'``.
        **kwargs: Of mmseg's `BaseDecodeHead`.

    Raises:
        ValueError: The fusion is another, or has no branches where one is asked for.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        embed_dims: int = 256,
        channels: int = 256,
        fusion: str = "sepaspp",
        dilations: Sequence[int] = (1, 6, 12, 18),
        image_pool: bool = False,
        context: dict[str, Any] | None = None,
        relation_channels: int = 256,
        **kwargs: Any,
    ):
        kwargs = {
            "in_index": list(range(len(in_channels))),
            "input_transform": "multiple_select",
            "norm_cfg": {"type": "BN"},
            # mmseg's default, under a name that counts in any scope
            "loss_decode": {"type": "mmseg.CrossEntropyLoss"},
            **kwargs,
        }
        super().__init__(in_channels=list(in_channels), channels=channels, **kwargs)
        _check_fusion(fusion, image_pool or context is not None)
        self.fusion = fusion
        options = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}

        branches = {
            "dilations": dilations,
            "separable": fusion != "aspp",
            "image_pool": image_pool,
            "context": context,
            **options,
        }
        embeddings = [LinearEmbedding(dim, embed_dims) for dim in in_channels]
        if fusion == "bottleneck":
            embeddings[-1] = nn.Sequential(
                nn.Conv2d(in_channels[-1], embed_dims, 1),
                ContextFusion(embed_dims, embed_dims, **branches),
            )
        self.embed_layers = nn.ModuleDict({str(i): m for i, m in enumerate(embeddings)})
        joined = len(in_channels) * embed_dims
        if fusion in ("conv1", "bottleneck"):
            self.fuse_layer = ConvModule(joined, channels, 1, **options)
        elif fusion == "isa":
            self.fuse_layer = InterlacedFusion(joined, channels, relation_channels, **options)
        else:
            self.fuse_layer = ContextFusion(joined, channels, **branches)

    def fuse(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps of a backbone to (B, channels, H, W), of the size of the first."""
        inputs = [*inputs]
        if self.fusion == "bottleneck":
            # to the stride of the first map; its sides may still be others
            factor = 2.0 ** (len(inputs) - 1)
            inputs[-1] = F.interpolate(
                inputs[-1],
                scale_factor=factor,
                mode="bilinear",
                align_corners=self.align_corners,
            )
        maps = [layer(x) for layer, x in zip(self.embed_layers.values(), inputs, strict=True)]
        size = maps[0].shape[-2:]
        finer = (
            F.interpolate(x, size, mode="bilinear", align_corners=self.align_corners)
            for x in maps[1:]
        )
        return self.fuse_layer(torch.cat([maps[0], *finer], 1))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Class logits (B, K, H, W) of the maps of a backbone."""
        return self.cls_seg(self.fuse(self._transform_inputs(inputs)))

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: Sequence) -> dict[str, Tensor]:
        """mmseg's, and with the weights of pixels that samples have.

        Raises:
            ValueError: Some samples have weights, and others have none.
        """
        having = ["seg_weight" in sample for sample in batch_data_samples]
        if not any(having):
            return super().loss_by_feat(seg_logits, batch_data_samples)
        if not all(having):
            raise ValueError(
                f"{sum(having)} of {len(having)} samples have a seg_weight; give all or none one"
            )
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1)
        weights = torch.cat([sample.seg_weight.data for sample in batch_data_samples])
        logits = F.interpolate(
            seg_logits, labels.shape[-2:], mode="bilinear", align_corners=self.align_corners
        )
        several = isinstance(self.loss_decode, nn.ModuleList)
        found: dict[str, Tensor] = {}
        for loss in self.loss_decode if several else [self.loss_decode]:
            value = loss(logits, labels, weight=weights, ignore_index=self.ignore_index)
            found[loss.loss_name] = found.get(loss.loss_name, 0) + value
        found["acc_seg"] = accuracy(logits, labels, ignore_index=self.ignore_index)
        return found


def _check_fusion(fusion: str, has_branches: bool) -> None:
    if fusion not in FUSIONS:
        raise ValueError(
            f"fusion is {fusion!r}; it must be one of {', '.join(FUSIONS)}"
            f"{did_you_mean(fusion, FUSIONS)}"
        )
    if has_branches and fusion in ("conv1", "isa"):
        raise ValueError(
            f"image_pool and context are branches beside dilated convolutions, and fusion="
            f"{fusion!r} has none; take 'sepaspp', 'aspp' or 'bottleneck'"
        )
