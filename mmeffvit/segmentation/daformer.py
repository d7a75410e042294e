"""DAFormer's head: all levels of a pyramid, seen together with their context; needs mmseg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.aspp_head import ASPPModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.decode_heads.sep_aspp_head import DepthwiseSeparableASPPModule
from mmseg.models.losses import accuracy
from torch import Tensor, nn

from mmeffvit.errors import did_you_mean
from mmeffvit.registry import MODELS


class LinearEmbedding(nn.Module):
    """A linear layer per pixel, no norm: (B, C, H, W) to (B, E, H, W)."""

    def __init__(self, in_channels: int, embed_dims: int):
        super().__init__()
        self.proj = nn.Linear(in_channels, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        # as a convolution, which needs no transposed copy
        return F.conv2d(x, self.proj.weight[..., None, None], self.proj.bias)


class ContextFusion(nn.Module):
    """Convolutions of several dilations side by side, and one that joins them.

    Args:
        in_channels: Of the joined levels.
        channels: Of each branch, and of the result.
        dilations: One branch each; 1 is a 1x1 convolution.
        separable: Depthwise 3x3 and 1x1 convolutions in place of 3x3 ones.
        norm_cfg: Of all.
        act_cfg: Of all.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        dilations: Sequence[int],
        separable: bool,
        norm_cfg: dict,
        act_cfg: dict,
    ):
        super().__init__()
        branches = DepthwiseSeparableASPPModule if separable else ASPPModule
        self.aspp_modules = branches(
            dilations=dilations,
            in_channels=in_channels,
            channels=channels,
            conv_cfg=None,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )
        self.bottleneck = ConvModule(
            len(dilations) * channels, channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=act_cfg
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.bottleneck(torch.cat(self.aspp_modules(x), 1))


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
        fusion: ``'sepaspp'``, depthwise dilated convolutions; ``'aspp'``, whole ones; ``'conv1'``,
            one 1x1 convolution.
        dilations: Of the branches.
        **kwargs: Of mmseg's `BaseDecodeHead`.

    Raises:
        ValueError: The fusion is another.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        embed_dims: int = 256,
        channels: int = 256,
        fusion: str = "sepaspp",
        dilations: Sequence[int] = (1, 6, 12, 18),
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
        self.embed_layers = nn.ModuleDict(
            {str(i): LinearEmbedding(dim, embed_dims) for i, dim in enumerate(in_channels)}
        )
        joined = len(in_channels) * embed_dims
        options = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}
        known = ("sepaspp", "aspp", "conv1")
        if fusion not in known:
            raise ValueError(
                f"fusion is {fusion!r}; it must be one of {', '.join(known)}"
                f"{did_you_mean(fusion, known)}"
            )
        if fusion == "conv1":
            self.fuse_layer = ConvModule(joined, channels, 1, **options)
        else:
            separable = fusion == "sepaspp"
            self.fuse_layer = ContextFusion(joined, channels, dilations, separable, **options)

    def fuse(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps of a backbone to (B, channels, H, W), of the size of the first."""
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
