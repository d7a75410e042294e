"""Suppression of boxes and pooling of regions: in torch now, in ONNX's standard operators later.

Both have results whose size follows from the sizes of their inputs, so that a graph around them has
no sizes that depend on data: boxes are marked, not removed, and every region has a result, at
whichever level of the pyramid it was pooled.

B images, N boxes, L levels, C channels, R regions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmeffvit.deploy import neighbourhoods

_EVERY = 2**63 - 1  # no limit to the boxes that stay


@torch.library.custom_op("mmeffvit::keep_after_nms", mutates_args=())
def keep_after_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, least: float) -> Tensor:
    """Mark the boxes that stay when those that overlap a better one go.

    Args:
        boxes: Corners x1, y1, x2, y2, (B, N, 4). Boxes of different classes must not overlap.
        scores: (B, N).
        iou_threshold: Intersection over union above which the lower score goes.
        least: Boxes take part whose score is above this.

    Returns:
        (B, N) bool.
    """
    from torchvision.ops import nms

    keep = torch.zeros_like(scores, dtype=torch.bool)
    # compared in the type of the boxes, as mmcv and ONNX do: float32's 0.3 is not above 0.3
    threshold = torch.tensor(iou_threshold, dtype=boxes.dtype).item()
    for image, (corners, score) in enumerate(zip(boxes, scores)):
        taking_part = (score > least).nonzero().squeeze(1)
        stay = nms(corners[taking_part], score[taking_part], threshold)
        keep[image, taking_part[stay]] = True
    return keep


@keep_after_nms.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, least: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


@torch.library.custom_op("mmeffvit::pool_regions", mutates_args=())
def pool_regions(
    maps: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """RoIAlign in a pyramid (Mask R-CNN, arXiv:1703.06870, section 3), each region at its level.

    Args:
        maps: L maps (B, C, H, W).
        rois: Image of the batch, x1, y1, x2, y2 in pixels of the images, (R, 5).
        levels: Of every region, (R,) int64.
        scales: Size of each map divided by that of the images.
        height: Bins per column.
        width: Bins per row.
        sampling_ratio: Samples per side of a bin; 0 takes about one per cell of the map.
        aligned: Shift by half a cell.

    Returns:
        (R, C, height, width).
    """
    from torchvision.ops import roi_align

    out = maps[0].new_zeros(len(rois), maps[0].size(1), height, width)
    for level, (features, scale) in enumerate(zip(maps, scales)):
        here = (levels == level).nonzero().squeeze(1)
        out[here] = roi_align(features, rois[here], (height, width), scale, sampling_ratio, aligned)
    return out


@pool_regions.register_fake
def _(maps, rois, levels, scales, height, width, sampling_ratio, aligned) -> Tensor:
    return maps[0].new_empty(rois.size(0), maps[0].size(1), height, width)


def _keep_after_nms_onnx(boxes, scores, iou_threshold: float, least: float):
    from onnxscript import opset18 as op

    picked = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        op.Constant(value_int=_EVERY),
        op.Constant(value_float=iou_threshold),
        op.Constant(value_float=least),
    )  # (boxes that stay, 3): image, class, box
    places = op.Gather(picked, op.Constant(value_ints=[0, 2]), axis=1)
    count = op.Shape(picked, end=1)
    nothing = op.Expand(op.Constant(value_float=0.0), op.Shape(scores))
    ones = op.Expand(op.Constant(value_float=1.0), count)
    return op.Greater(op.ScatterND(nothing, places, ones), op.Constant(value_float=0.5))


def _pool_regions_onnx(
    maps,
    rois,
    levels,
    scales: Sequence[float],
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
):
    from onnxscript import opset18 as op

    axis = op.Constant(value_ints=[1])
    image = op.Cast(op.Gather(rois, op.Constant(value_int=0), axis=1), to=7)  # int64
    corners = op.Slice(rois, axis, op.Constant(value_ints=[5]), axis)
    pooled, places = [], []
    for level, (features, scale) in enumerate(zip(maps, scales)):
        here = op.NonZero(op.Equal(levels, op.Constant(value_int=level)))
        here = op.Reshape(here, op.Constant(value_ints=[-1]))
        places.append(here)
        pooled.append(
            op.RoiAlign(
                features,
                op.Gather(corners, here, axis=0),
                op.Gather(image, here, axis=0),
                coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
                mode="avg",
                output_height=height,
                output_width=width,
                sampling_ratio=max(0, sampling_ratio),
                spatial_scale=scale,
            )
        )
    # row i of the pooled regions belongs to region order[i]; its inverse puts them back
    order = op.Concat(*places, axis=0)
    count = op.Squeeze(op.Shape(order))
    rows = op.Range(op.Constant(value_int=0), count, op.Constant(value_int=1))
    inverse = op.ScatterElements(order, order, rows, axis=0)
    return op.Gather(op.Concat(*pooled, axis=0), inverse, axis=0)


@functools.cache
def translations() -> dict[Callable, Callable]:
    """For the argument ``custom_translation_table`` of `torch.onnx.export`."""
    return {
        torch.ops.mmeffvit.keep_after_nms.default: _keep_after_nms_onnx,
        torch.ops.mmeffvit.pool_regions.default: _pool_regions_onnx,
        torch.ops.mmeffvit.neighbourhood_attention.default: neighbourhoods.translate,
    }
