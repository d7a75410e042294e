"""Segmentors of mmseg: label maps (B, H, W)."""

from __future__ import annotations

import types
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.deploy.deformable import SymbolicSizes, with_plain_attention
from mmeffvit.deploy.errors import ExportError


class LabelMap(nn.Module):
    """The class of every pixel, as mmseg's ``EncoderDecoder`` with the mode ``'whole'``.

    Args:
        model: With ``backbone``, perhaps ``neck``, and ``decode_head``, which is copied: some parts
            get another form.

    Raises:
        ExportError: It predicts in windows, or its head in its own way.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        _check(model)
        self.backbone, self.head = model.backbone, with_plain_parts(model.decode_head)
        self.neck = model.neck if model.with_neck else None
        self.has_queries = _is_mask2former(self.head)

    def forward(self, x: Tensor, size: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, C, H', W'), of which `size` is no padding, to label maps."""
        shape = x.shape[2:]
        x = self.backbone(x)
        if self.neck is not None:
            x = self.neck(x)
        if self.has_queries:
            return {"logits": self._merge_queries(x, shape)}
        logits = F.interpolate(
            self.head(x), shape, mode="bilinear", align_corners=self.head.align_corners
        )
        return {"logits": logits}

    def _merge_queries(self, x: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """What the masks of all queries say of every class (arXiv:2107.06278, section 3.4)."""
        with SymbolicSizes():
            classes, masks = self.head(x, None)
        masks = F.interpolate(masks[-1], shape, mode="bilinear", align_corners=False)
        classes = classes[-1].softmax(-1)[..., :-1]
        return torch.einsum("bqc,bqhw->bchw", classes, masks.sigmoid())


def _check(model: nn.Module) -> None:
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

    mode, head = model.test_cfg.get("mode", "whole"), model.decode_head
    if mode != "whole":
        raise ExportError(
            f"test_cfg.mode={mode!r} cuts images into windows, which no graph does; export with "
            "--cfg-options model.test_cfg.mode=whole, and compare its score on your data"
        )
    if _is_mask2former(head):
        return
    if not isinstance(head, BaseDecodeHead) or any(
        getattr(type(head), method) is not getattr(BaseDecodeHead, method)
        for method in ("predict", "predict_by_feat")
    ):
        raise ExportError(
            f"the head {type(head).__name__} predicts in its own way; heads are served that do as "
            "mmseg's BaseDecodeHead, such as FPNHead and UPerHead, and Mask2FormerHead"
        )


def _is_mask2former(head: nn.Module) -> bool:
    """Whether a head predicts as mmseg's ``Mask2FormerHead``."""
    from mmseg.models.decode_heads import Mask2FormerHead

    return isinstance(head, Mask2FormerHead) and type(head).predict is Mask2FormerHead.predict


def with_plain_parts(head: nn.Module) -> nn.Module:
    """A copy without what exporters take for parts of one size.

    Adaptive pooling becomes a product of matrices, as ONNX has none for any size; mmseg's
    ``Upsample`` makes its size by way of ``int``, and thereby a number of a symbol.
    """
    head = with_plain_attention(head)
    for module in head.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d):
            module.forward = types.MethodType(_pool, module)
        elif type(module).__name__ == "Upsample" and not module.size and _is_whole(module):
            module.forward = types.MethodType(_upsample, module)
    return head


def _is_whole(upsample: nn.Module) -> bool:
    return isinstance(upsample.scale_factor, float) and upsample.scale_factor.is_integer()


def _upsample(self: nn.Module, x: Tensor) -> Tensor:
    factor = int(self.scale_factor)
    size = [side * factor for side in x.shape[2:]]
    return F.interpolate(x, size, mode=self.mode, align_corners=self.align_corners)


def _pool(self: nn.AdaptiveAvgPool2d, x: Tensor) -> Tensor:
    """Maps (B, C, H, W) to (B, C, *output_size)."""
    size = self.output_size
    rows, columns = (size, size) if isinstance(size, int) else size
    return _bins(rows, x.size(2)) @ x @ _bins(columns, x.size(3)).mT


def _bins(count: int, length: int) -> Tensor:
    """Share of every pixel of a side in every bin, (count, length).

    Bin i of n covers pixels floor(i L / n) to ceil((i + 1) L / n), as in torch's adaptive pooling.
    """
    number, pixel = torch.arange(count).unsqueeze(1), torch.arange(length)
    first, end = number * length // count, ((number + 1) * length + count - 1) // count
    return ((pixel >= first) & (pixel < end)).float() / (end - first)
